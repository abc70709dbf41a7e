"""What somebody looks at: which experiments are chosen, which step is next, what a mark does.

Nothing here knows of a browser: a page calls these functions, and draws what they return.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from oectflow.errors import InputError, OutputError, did_you_mean
from oectflow.pipeline.app.index import Index
from oectflow.pipeline.app.marking import Marks
from oectflow.pipeline.app.one_result import OneResult
from oectflow.pipeline.app.summary import Column, Summary
from oectflow.pipeline.marks.mark import Window

#: What is looked through: fits from the worst on, values with a status word, or all steps.
Order = Literal["worst fits", "flagged", "all steps"]
ORDERS: tuple[Order, ...] = ("worst fits", "flagged", "all steps")
#: What a mark is about.
Scope = Literal["cycle", "step", "experiment", "device", "chip"]
SCOPES: tuple[Scope, ...] = ("cycle", "step", "experiment", "device", "chip")
#: Places that are looked through in one go, and results that are kept open.
MOST_PLACES = 500
_MOST_OPEN = 64
#: Steps of which the cycles are read at once.
_AT_ONCE = 16
#: Worst fits that are looked through before they are looked for again.
_MOST_WORST = 50


@dataclass(frozen=True)
class Filter:
    """Which experiments are chosen.

    Attributes
    ----------
    text
        Words that all must stand in the id, the chip, the device or the sample of an experiment;
        ``name=value`` compares one of them, as ``chip=C7`` or ``batch=B``.
    state
        ``"done"``, ``"flagged"``, ``"failed"``, or ``""`` for any.
    mark
        A label, ``"-"`` for those without a mark, or ``""`` for any.
    """

    text: str = ""
    state: str = ""
    mark: str = ""


@dataclass(frozen=True)
class Place:
    """A step, and a cycle in it.

    Attributes
    ----------
    experiment
        Its number in the index.
    step, cycle
        From 0.
    entry
        ``"on"`` or ``"off"``; ``""`` where the step or cycle is meant.
    r_squared
        Of the fit; NaN where there is none.
    status
        Of the value; ``""`` where it is not known.
    """

    experiment: int
    step: int
    cycle: int = 0
    entry: str = ""
    r_squared: float = float("nan")
    status: str = ""


@dataclass(frozen=True)
class Trend:
    """A feature over the steps of one experiment.

    Attributes
    ----------
    experiment
        Its number.
    steps, values
        Shape (n,), in the unit of the column; NaN where there is no value or it is marked as bad.
    flagged
        Whether a value, or one of those that it is the median of, has a status word or a mark.
    """

    experiment: int
    steps: NDArray[np.int64]
    values: NDArray[np.float64]
    flagged: NDArray[np.bool_]


class Desk:
    """The state of one visitor over a folder of results.

    Parameters
    ----------
    index
        Of the results.
    marks
        Those of the folder.
    opened
        Results that are open; several visitors may have them in common.
    """

    def __init__(
        self, index: Index, marks: Marks, opened: dict[str, OneResult] | None = None
    ) -> None:
        self.index, self.marks = index, marks
        self.filter = Filter()
        self.order: Order = "worst fits" if index.fitted() else "all steps"
        self.feature = next(iter(index.fitted()), index.columns[0].feature if index.columns else "")
        self.hide_marked = False
        self.queue: list[Place] = []
        #: How many places there are, or steps with fits, of which the queue has the first.
        self.n_places = 0
        self.position = 0
        self.undoable: list[str] = []
        self._results = {} if opened is None else opened
        self._prepare()

    def _prepare(self) -> None:
        self._owners = self.index.owners()
        self._words = [_words(entry.summary) for entry in self.index.entries]
        self._names = list(dict.fromkeys(name for _, columns in self._words for name in columns))
        self.chosen = np.arange(len(self.index))
        self.choose(self.filter)

    # -- which experiments

    def choose(self, wanted: Filter) -> None:
        """Choose experiments; the queue begins anew.

        Raises
        ------
        InputError
            ``name=value`` names something that no sample has.
        """
        words = wanted.text.lower().split()
        for word in words:
            name, equals, _ = word.partition("=")
            if equals and name not in self._names:
                hint = did_you_mean(name, self._names)
                raise InputError(f"{word!r}: no column {name!r}{hint}")
        keep = [
            number
            for number, entry in enumerate(self.index.entries)
            if (not wanted.state or entry.summary.state == wanted.state)
            and all(_has(word, *self._words[number]) for word in words)
            and self._has_mark(number, wanted.mark)
        ]
        self.filter = wanted
        self.chosen = np.array(keep, np.int64)
        self.look_through()

    def labels(self) -> list[str]:
        """Return every label that some mark has."""
        return sorted({mark.label for mark in self.marks.holding})

    def _has_mark(self, number: int, wanted: str) -> bool:
        if not wanted:
            return True
        labels = self.labels_of(number)
        return not labels if wanted == "-" else wanted in labels

    def labels_of(self, number: int) -> list[str]:
        """Return the labels that an experiment, or some part of it, has."""
        found = self.marks.of(self.index.entries[number].summary)
        return sorted({mark.label for mark in found})

    # -- what is looked through

    def look_through(
        self,
        order: Order | None = None,
        feature: str | None = None,
        hide_marked: bool | None = None,
    ) -> None:
        """Line up the places that are looked through, from the first.

        Parameters
        ----------
        order
            By default as before.
        feature
            Whose fits or values; by default as before.
        hide_marked
            Whether places with a mark are passed over.
        """
        self.order = order or self.order
        self.feature = feature or self.feature
        self.hide_marked = self.hide_marked if hide_marked is None else hide_marked
        rows, quality = self._rows_in_order()
        if self.order == "worst fits":
            self.queue = self._worst(rows, quality)
            self.n_places = int(np.isfinite(quality[self._kept()]).sum())
        else:
            # Of a million steps, no more become places than are lined up.
            places = map(self._place, map(int, rows))
            kept = (p for p in places if not self.hide_marked or not self.marked(p))
            self.queue = list(itertools.islice(kept, MOST_PLACES))
            self.n_places = len(rows)
        self.position = 0

    def _rows_in_order(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the rows of the chosen experiments that are looked through, and their R²."""
        keep = self._kept()
        columns = [c for c in self.index.columns if c.feature == self.feature]
        quality = np.full(self.index.n_rows, np.nan)
        if self.order == "worst fits":
            for column in columns:
                if column.is_fit:
                    quality = np.fmin(quality, self.index.fits(column))
            rows = np.flatnonzero(keep & np.isfinite(quality))
            # Of a million fits, no more are put in order than anybody looks at.
            most = 2 * MOST_PLACES + len(self.marks.holding)
            if len(rows) > most:
                rows = rows[np.argpartition(quality[rows], most)[:most]]
            return rows[np.argsort(quality[rows], kind="stable")], quality
        if self.order == "flagged":
            flags = np.zeros(self.index.n_rows, bool)
            for column in columns:
                flags |= self.index.flagged(column) > 0
            keep &= flags
        return np.flatnonzero(keep), quality

    def _kept(self) -> NDArray[np.bool_]:
        """Return which rows are of chosen experiments."""
        chosen = np.zeros(len(self.index), bool)
        chosen[self.chosen] = True
        return chosen[self._owners]

    def _worst(self, rows: NDArray[np.int64], quality: NDArray[np.float64]) -> list[Place]:
        """Return the worst fits, exactly: no cycle that is left out is worse than one that is in.

        A step whose best known is its worst fit is read when its turn comes.
        """
        found: list[Place] = []
        for begin in range(0, len(rows), _AT_ONCE):
            batch = rows[begin : begin + _AT_ONCE]
            for row in batch.tolist():
                place = self._place(row)
                fits = self.result(place.experiment).fits(self.feature, place.step)
                for cycle, entry, r_squared, status in fits:
                    one = replace(
                        place, cycle=cycle, entry=entry, r_squared=r_squared, status=status
                    )
                    if not self.hide_marked or not self.marked(one):
                        found.append(one)
            found.sort(key=lambda place: place.r_squared)
            rest = begin + _AT_ONCE
            limit = quality[rows[rest]] if rest < len(rows) else np.inf
            if len(found) >= _MOST_WORST and found[_MOST_WORST - 1].r_squared <= limit:
                break
        return found[:_MOST_WORST]

    def _place(self, row: int) -> Place:
        number = int(self._owners[row])
        return Place(number, row - int(self.index.starts[number]))

    @property
    def here(self) -> Place | None:
        """The place that is shown; None where the queue is empty."""
        return self.queue[self.position] if self.queue else None

    def go(self, by: int) -> Place | None:
        """Go on by so many places, or back; the ends are ends."""
        self.position = min(max(self.position + by, 0), max(len(self.queue) - 1, 0))
        return self.here

    def result(self, number: int) -> OneResult:
        """Return the results of an experiment; the last ones are kept."""
        entry = self.index.entries[number]
        key = f"{entry.path} {entry.stamp}"
        found = self._results.pop(key, None)
        if found is None:
            found = OneResult(self.index.folder / entry.path)
        self._results[key] = found
        while len(self._results) > _MOST_OPEN:
            del self._results[next(iter(self._results))]
        return found

    # -- marks

    def marked(self, place: Place) -> list[str]:
        """Return the labels that a place has, of itself or of what it is part of."""
        summary = self.index.entries[place.experiment].summary
        found = {
            mark.label
            for mark in self.marks.of(summary)
            if mark.step in (None, place.step)
            and mark.cycle in (None, place.cycle)
            and mark.feature in (None, self.feature)
        }
        return sorted(found)

    def mark(
        self,
        label: str,
        places: Sequence[Place],
        scope: Scope = "cycle",
        *,
        reason: str = "",
        who: str | None = None,
    ) -> list[str]:
        """Mark places, or the experiments, devices or chips that they are of.

        Parameters
        ----------
        label
            ``"bad"``, ``"check"`` or another word.
        places
            Which ones.
        scope
            How much is meant; ``"cycle"`` is the step where results have no cycles.
        reason, who
            Why, and by whom.

        Returns
        -------
        The ids of the marks.

        Raises
        ------
        OutputError
            There is nothing to mark, or a device has no name.
        OectflowError
            As of :func:`oectflow.mark`.
        """
        if not places:
            raise OutputError("nothing is chosen to be marked; choose a step first")
        about: dict[tuple[Any, ...], dict[str, Any]] = {}
        for place in places:
            one = self._about(place, scope)
            about[tuple(one.items())] = one
        made = []
        for one in about.values():
            made += self.marks.add(self.index.folder, label, one, reason=reason, who=who)
        self.undoable.append(" ".join(made))
        return made

    def _about(self, place: Place, scope: Scope) -> dict[str, Any]:
        summary = self.index.entries[place.experiment].summary
        if scope == "chip" or scope == "device":
            named: dict[str, Any] = {"chip_id": summary.chip_id}
            if scope == "device":
                named["device_id"] = summary.device_id
            missing = [name for name, value in named.items() if not value]
            if missing:
                raise OutputError(
                    f"{summary.experiment_id}: its {missing[0]} is not known; mark the experiment"
                )
            return named
        one: dict[str, Any] = {"experiment": summary.experiment_id}
        if scope in ("step", "cycle"):
            one["step"] = place.step
        # Without any cycles, the step is what is seen.
        if scope == "cycle" and self.result(place.experiment).has_cycles:
            one["cycle"] = place.cycle
        return one

    def keep_window(
        self,
        place: Place,
        phase: str,
        begin: float,
        end: float,
        *,
        reason: str = "",
        who: str | None = None,
    ) -> str:
        """Choose the window in which the next run fits one phase of a cycle; return its id.

        Parameters
        ----------
        place
            Experiment, step and cycle.
        phase
            ``"on"`` or ``"off"``.
        begin, end
            In s from the step's first sample.
        reason, who
            Why, and by whom.

        Raises
        ------
        OectflowError
            As of :func:`oectflow.set_window`.
        """
        made = self.marks.choose(
            self.index.folder,
            self.index.entries[place.experiment].summary.experiment_id,
            step=place.step,
            cycle=place.cycle,
            phase=phase,
            begin=begin,
            end=end,
            reason=reason,
            who=who,
        )
        self.undoable.append(made)
        return made

    def windows(self, place: Place) -> list[Window]:
        """Return the windows that were chosen for a cycle."""
        name = self.index.entries[place.experiment].summary.experiment_id
        return self.marks.windows.get((name, place.step, place.cycle), [])

    def undo(self, *, reason: str = "", who: str | None = None) -> list[str]:
        """Undo the marks or the window that were made here last; return the ids, if any."""
        if not self.undoable:
            return []
        ids = self.undoable.pop().split()
        self.marks.undo(self.index.folder, ids, reason=reason, who=who)
        return ids

    # -- trends

    def trends(self, column: Column, most: int) -> list[Trend]:
        """Return a column over the steps of the first chosen experiments.

        Parameters
        ----------
        column
            Of the index.
        most
            How many experiments at most.
        """
        values, flagged = self.index.values(column), self.index.flagged(column)
        found = []
        for number in self.chosen[:most].tolist():
            rows = self.index.rows(number)
            trend = Trend(
                number,
                np.arange(rows.stop - rows.start),
                values[rows],
                flagged[rows] > 0,
            )
            found.append(self._with_marks(trend, column))
        return found

    def _with_marks(self, trend: Trend, column: Column) -> Trend:
        """Leave out what is marked as bad, as results do when they are opened."""
        own = self.marks.of(self.index.entries[trend.experiment].summary)
        if not own:
            return trend
        values, marked = self.result(trend.experiment).without_bad(column, own)
        return replace(trend, values=values, flagged=trend.flagged | marked)

    def bands(self, column: Column) -> NDArray[np.float64]:
        """Return the 10th, 50th and 90th percentile of all chosen experiments at each step.

        Returns
        -------
        Shape (3, n_steps).  Marks are not left out here.
        """
        from oectflow.pipeline.outputs.plots.choose import spread

        values = self.index.values(column)
        longest = int(np.diff(self.index.starts)[self.chosen].max(initial=0))
        table = np.full((longest, len(self.chosen)), np.nan)
        for i, number in enumerate(self.chosen.tolist()):
            rows = self.index.rows(number)
            table[: rows.stop - rows.start, i] = values[rows]
        return spread(table)

    # -- news

    def refresh(self, index: Index) -> bool:
        """Take over a newer index, and marks that others have made; say whether there is any.

        Parameters
        ----------
        index
            Of the same folder.
        """
        changed = index is not self.index
        marks_changed = self.marks.refresh(self.index.folder)
        if changed:
            self.index = index
            here = self.position
            self._prepare()
            self.position = min(here, max(len(self.queue) - 1, 0))
        return changed or marks_changed


def _words(summary: Summary) -> tuple[str, dict[str, str]]:
    """Return what a search looks at: all in one line, and by name."""
    columns = {
        "id": summary.experiment_id,
        "chip": summary.chip_id,
        "device": summary.device_id,
        **{str(name).lower(): str(value) for name, value in summary.sample.items()},
    }
    lower = {name: value.lower() for name, value in columns.items()}
    return " ".join(lower.values()), lower


def _has(word: str, text: str, columns: dict[str, str]) -> bool:
    name, equals, value = word.partition("=")
    return columns.get(name) == value if equals else word in text
