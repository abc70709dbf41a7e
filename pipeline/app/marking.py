"""The marks of a folder, kept in memory, so that a mark is made and seen at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from oectflow.pipeline.app.summary import Summary
from oectflow.pipeline.marks.mark import Mark, Window, new_mark, new_undo
from oectflow.pipeline.marks.store import FOLDER, read, write
from oectflow.pipeline.outputs.marking import mark
from oectflow.pipeline.outputs.window_choice import set_window


class Marks:
    """The marks of a folder of results.

    Parameters
    ----------
    folder
        Of the results.

    Attributes
    ----------
    holding
        Those that were not undone, in the order of their times.
    windows
        Those that were chosen by hand, the last for each phase, by experiment, step and cycle.
    unreadable
        Why lines of their files are no marks.
    """

    def __init__(self, folder: Path) -> None:
        self.holding: tuple[Mark, ...] = ()
        self.windows: dict[tuple[str, int, int], list[Window]] = {}
        self.unreadable: tuple[str, ...] = ()
        self._stamps: dict[str, tuple[int, int]] = {}
        self._by: dict[tuple[str, ...], list[Mark]] = {}
        self.refresh(folder)

    def refresh(self, folder: Path) -> bool:
        """Read the marks again where their files have changed; say whether they have."""
        stamps = _stamps(folder)
        if stamps == self._stamps:
            return False
        book = read(folder)
        self._stamps, self.holding, self.unreadable = stamps, book.holding, book.unreadable
        self._by, self.windows = {}, {}
        for one in self.holding:
            self._by.setdefault(_key(one), []).append(one)
        for chosen in book.chosen:
            key = chosen.experiment_id, chosen.step, chosen.cycle
            self.windows.setdefault(key, []).append(chosen)
        return True

    def of(self, summary: Summary) -> list[Mark]:
        """Return the marks that are about an experiment, or about some of it."""
        keys = (
            ("experiment", summary.experiment_id),
            ("chip", summary.chip_id),
            ("device", summary.chip_id, summary.device_id),
        )
        return [one for key in keys for one in self._by.get(key, ())]

    def add(
        self,
        folder: Path,
        label: str,
        about: Mapping[str, Any],
        *,
        reason: str = "",
        who: str | None = None,
    ) -> list[str]:
        """Make marks, as :func:`oectflow.mark` does; return their ids."""
        if "experiment" in about:
            made = mark(folder, label, **about, reason=reason, who=who)
        else:
            # The chip is one of the index: nobody has to look into 10,000 results whether it is.
            one = new_mark(label, **about, reason=reason, who=who)
            write(folder, [one])
            made = [one.id]
        self.refresh(folder)
        return made

    def choose(self, folder: Path, experiment: str, **window: Any) -> str:
        """Choose a window, as :func:`oectflow.set_window` does; return its id."""
        made = set_window(folder, experiment, **window)
        self.refresh(folder)
        return made

    def undo(
        self, folder: Path, ids: Sequence[str], *, reason: str = "", who: str | None = None
    ) -> None:
        """Undo marks and windows, those of them that hold."""
        holding = {one.id for one in self.holding}
        holding |= {one.id for several in self.windows.values() for one in several}
        write(folder, [new_undo(one, reason=reason, who=who) for one in ids if one in holding])
        self.refresh(folder)


def _key(mark: Mark) -> tuple[str, ...]:
    if mark.experiment_id is not None:
        return ("experiment", mark.experiment_id)
    if mark.device_id is not None:
        return ("device", str(mark.chip_id), mark.device_id)
    return ("chip", str(mark.chip_id))


def _stamps(folder: Path) -> dict[str, tuple[int, int]]:
    found = {}
    for path in (folder / FOLDER).glob("*.jsonl"):
        try:
            about = path.stat()
        except FileNotFoundError:
            continue
        found[path.name] = (about.st_mtime_ns, about.st_size)
    return found
