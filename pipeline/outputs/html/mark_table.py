"""The marks on the results of a report, and the number of values that they apply to."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from oectflow.pipeline.marks.mark import Mark, Window
from oectflow.pipeline.marks.reach import marked_cells
from oectflow.pipeline.outputs.html.summary import File
from oectflow.pipeline.outputs.marked import MarksWarning, origin_of, read_marks
from oectflow.pipeline.outputs.sink import read_variables
from oectflow.place import place

if TYPE_CHECKING:
    import xarray as xr


@dataclass
class Row:
    """One mark, or window that was chosen by hand, of one experiment.

    Attributes
    ----------
    label, place, reason, who, when
        As in the mark.
    n
        Number of values that it applies to, and of their features; None for a window.
    """

    label: str
    place: str
    reason: str
    who: str
    when: str
    n: tuple[int, int] | None

    @property
    def values(self) -> str:
        """The target of the mark, in words."""
        if self.n is None:
            return ""
        said = f"{self.n[0]:,} of {self.n[1]} feature{'' if self.n[1] == 1 else 's'}"
        return said if self.n[0] else "none"


class MarkTable:
    """The marks of every experiment that has any, as they apply to the results.

    Parameters
    ----------
    results
        The results in the report.
    found
        Their files.
    """

    def __init__(self, results: xr.Dataset, found: Sequence[File]) -> None:
        self.rows: dict[str, list[Row]] = {}
        self._marked: list[tuple[File, Mark, Row]] = []
        source = place(str(results.attrs.get("source", "")))
        with warnings.catch_warnings():
            # Opening the results has named what cannot be read.
            warnings.simplefilter("ignore", MarksWarning)
            book = read_marks(source, "flag" if "marks" in results.attrs else "ignore")
        for file in found:
            own = [mark for mark in book.holding if mark.is_of(file.metadata["identity"])]
            for mark in own:
                row = Row(mark.label, mark.place, mark.reason, mark.who, mark.when, (0, 0))
                self._add(file, row)
                self._marked.append((file, mark, row))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MarksWarning)
            chosen = read_marks(source).chosen if source.exists() else ()
        by_experiment = {file.experiment_id: file for file in found}
        for window in chosen:
            if window.experiment_id in by_experiment:
                self._add(by_experiment[window.experiment_id], _of_window(window))

    def _add(self, file: File, row: Row) -> None:
        self.rows.setdefault(file.experiment_id, []).append(row)

    def count(self, loaded: xr.Dataset, feature: str) -> None:
        """Count the values of a feature that marks apply to.

        Parameters
        ----------
        loaded
            Results with the status of this feature in memory.
        feature
            Its name.
        """
        for file, mark, row in self._marked:
            if feature not in file.metadata["features"] or f"{feature}_status" not in loaded:
                continue
            dims = read_variables(file.metadata)[f"{feature}_status"].dims
            one = loaded[f"{feature}_status"].sel(experiment=file.experiment_id)
            words = one.transpose("step", *dims).values
            cells = marked_cells([mark], origin_of(feature, file.metadata), dims, words.shape)
            n = int((cells.whole & (words != "absent")).sum())
            if n and row.n is not None:
                row.n = row.n[0] + n, row.n[1] + 1


def _of_window(window: Window) -> Row:
    place = f"{window.place}, {window.begin:g} to {window.end:g} s"
    return Row("window", place, window.reason, window.who, window.when, None)
