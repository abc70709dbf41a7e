"""One result file, of which columns are read when they are shown, and kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oectflow.errors import OutputError
from oectflow.extractors.base import Variable
from oectflow.pipeline.app.summary import Column, medians
from oectflow.pipeline.marks.mark import Mark
from oectflow.pipeline.marks.reach import CYCLE, marked_cells
from oectflow.pipeline.outputs.marked import origin_of, without_bad
from oectflow.pipeline.outputs.sink import read_columns, read_metadata, read_variables


class OneResult:
    """The results of one experiment.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    OutputError
        It cannot be read.
    """

    def __init__(self, path: Path) -> None:
        metadata = read_metadata(path)
        if metadata is None:
            raise OutputError(f"{path}: disappeared since the results were listed")
        self.path, self.metadata = path, metadata
        self.variables: Mapping[str, Variable] = read_variables(metadata)
        self._loaded: dict[str, NDArray[Any]] = {}

    @property
    def has_cycles(self) -> bool:
        """Whether anything was computed per gate cycle."""
        return any(CYCLE in variable.dims for variable in self.variables.values())

    def load(self, names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Return variables, the step first, status words as words; what is not there is left out.

        All cycles and phases, as they were computed, with marks ignored.
        """
        wanted = [name for name in names if name in self.variables]
        missing = [name for name in wanted if name not in self._loaded]
        if missing:
            for name, array in read_columns(self.path, missing, self.metadata).items():
                words = np.array(list(self.variables[name].statuses))
                self._loaded[name] = words[array] if len(words) else array
        return {name: self._loaded[name] for name in wanted}

    def at(self, name: str, step: int) -> dict[str, NDArray[Any]]:
        """Return a feature and all its companions at one step."""
        owned = [
            one
            for one, entry in self.metadata["variables"].items()
            if entry["feature"] == name or one == name
        ]
        return {one: array[step] for one, array in self.load(owned).items()}

    def fits(self, feature: str, step: int) -> list[tuple[int, str, float, str]]:
        """Return cycle, entry, R² and status word of every fit of a step; those without R² not."""
        quality, status = f"{feature}_r_squared", f"{feature}_status"
        if quality not in self.variables:
            return []
        arrays = self.load([quality, status])
        variable = self.variables[quality]
        values = arrays[quality][step]
        words = np.broadcast_to(_aligned(arrays[status][step], values), values.shape)
        found = []
        for place in np.ndindex(values.shape):
            if np.isfinite(values[place]):
                at = dict(zip(variable.dims, place, strict=True))
                entry = " ".join(
                    variable.labels[dim][k] for dim, k in at.items() if dim in variable.labels
                )
                found.append((at.get(CYCLE, 0), entry, float(values[place]), str(words[place])))
        return found

    def without_bad(
        self, column: Column, marks: Sequence[Mark]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return a column of the index without what is marked as bad, and what any mark is about.

        Returns
        -------
        The values of every step, and whether a mark is about it or about a part of it.
        """
        name = column.feature
        variable = self.variables[name]
        array = self.load([name])[name]
        cells = marked_cells(marks, origin_of(name, self.metadata), variable.dims, array.shape)
        kept = np.asarray(without_bad(array, name, self.metadata, marks), np.float64)
        marked = cells.whole | cells.part
        place = self._entry(column)
        return medians(kept[place].reshape(len(array), -1)), marked[place].reshape(
            len(array), -1
        ).any(axis=1)

    def _entry(self, column: Column) -> tuple[Any, ...]:
        """Return where the values of a column stand in the array of its feature."""
        others = iter(column.place)
        dims = self.variables[column.feature].dims
        return (slice(None), *(slice(None) if dim == CYCLE else next(others) for dim in dims))


def _aligned(words: NDArray[Any], values: NDArray[Any]) -> NDArray[Any]:
    """Return words with as many axes as the values; one word may stand for all cycles."""
    return words.reshape(words.shape + (1,) * (values.ndim - words.ndim))
