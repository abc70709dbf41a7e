"""Mark results as bad, to be checked, or in your own words; undo marks; and list them."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oectflow.errors import InputError, OutputError, ParameterError, did_you_mean
from oectflow.local_path import local_path
from oectflow.pipeline.marks.mark import BAD, Mark, new_mark, new_undo
from oectflow.pipeline.marks.reach import CYCLE, reach_of
from oectflow.pipeline.marks.store import write
from oectflow.pipeline.outputs.marked import origin_of, read_marks
from oectflow.pipeline.outputs.places import result_files, result_path
from oectflow.pipeline.outputs.sink import read_metadata, read_variables
from oectflow.result_metadata import PARTITIONS

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = (
    "id", "label", "experiment_id", "chip_id", "device_id", "kind", "step", "cycle", "feature",
    "reason", "who", "when", "applies",
)  # fmt: skip
_UNDONE = ("undone_by", "undone_when", "undone_reason")


def mark(
    out: str | os.PathLike[str],
    label: str = BAD,
    *,
    experiment: str | None = None,
    chip_id: str | None = None,
    device_id: str | None = None,
    step: int | Iterable[int] | None = None,
    cycle: int | Iterable[int] | None = None,
    feature: str | None = None,
    kind: str | None = None,
    reason: str = "",
    who: str | None = None,
) -> list[str]:
    """Mark an experiment, a device or a chip, or some of its steps and cycles.

    The results are not changed.  Marks are kept in a folder ``_marks`` beside the results, and take
    effect when the results are opened.  Marks name experiments by id and steps by number, so they
    stay valid when features are extracted again.

    Parameters
    ----------
    out
        Folder that :func:`oectflow.extract` has written.
    label
        ``"bad"``: :func:`oectflow.open_results`, reports and statistics leave the result out.  Any
        other word, such as ``"check"``, is only shown; up to 40 characters without a comma.
    experiment
        Id of the experiment.
    chip_id, device_id
        The device, or the chip alone, instead of an experiment.  Later measurements of it are
        marked, too.
    step, cycle
        One or several numbers as in the results, from 0; by default all.
    feature
        Mark only this feature and its companions; by default all features.
    kind
        Mark only this kind of measurement, because a transfer curve and a transient may have the
        same step number.  By default all kinds; if you name cycles, the kind that has cycles.
    reason
        The reason.
    who
        Who marks it; by default the name of the account.

    Returns
    -------
    The id of each new mark; there is one mark for each combination of step and cycle.

    Raises
    ------
    OutputError
        There are no such results, or they have no such step, cycle, feature or kind.
    ParameterError
        The label is not valid, a number is not whole, or both or neither of experiment and chip are
        named.
    StorageError
        The marks cannot be written.
    """
    folder = results_folder(out)
    steps, cycles = _numbers("step", step), _numbers("cycle", cycle)
    about: dict[str, Any] = {
        "experiment_id": experiment, "chip_id": chip_id, "device_id": device_id,
        "feature": feature, "kind": kind, "reason": reason, "who": who,
    }  # fmt: skip
    # What is no mark at all is said before results are read.
    probe = new_mark(label, **about)
    described = described_by(folder, probe)
    if kind is None and feature is None and cycle is not None:
        about["kind"] = _kind_with_cycles(described)
    marks = [new_mark(label, **about, step=s, cycle=c) for s in steps for c in cycles]
    for one in marks:
        need_there(folder, one, described)
    write(folder, marks)
    return [one.id for one in marks]


def unmark(
    out: str | os.PathLike[str],
    ids: str | Iterable[str],
    *,
    reason: str = "",
    who: str | None = None,
) -> None:
    """Undo marks and choices of windows; they stay in the history.

    Parameters
    ----------
    out
        Folder that :func:`oectflow.extract` has written.
    ids
        Ids of marks, from :func:`oectflow.mark` or :func:`oectflow.marks`, or of windows, from
        :func:`oectflow.windows`.  The first digits are enough.
    reason, who
        As for a mark.

    Raises
    ------
    OutputError
        No mark has such an id, or several ids begin with it; no mark is undone then.
    StorageError
        The folder cannot be written.
    """
    folder = results_folder(out)
    book = read_marks(folder)
    ever = [mark.id for mark in book.marks] + [window.id for window in book.windows]
    holding = [one for one in ever if one not in book.undone]
    chosen: dict[str, None] = {}
    for begin in [ids] if isinstance(ids, str) else ids:
        found = [known for known in holding if begin and known.startswith(begin)]
        if len(found) != 1:
            seen = "no mark or window" if not found else f"{len(found)} of them"
            raise OutputError(
                f"{folder}: {seen} with the id {begin!r} to undo, expected one; of.marks(…) and "
                "of.windows(…), or 'oectflow marks list', list them"
            )
        chosen[found[0]] = None
    write(folder, [new_undo(one, reason=reason, who=who) for one in chosen])


def marks(out: str | os.PathLike[str], *, history: bool = False) -> pd.DataFrame:
    """Return all marks of results as a table, one row each.

    Parameters
    ----------
    out
        Folder that :func:`oectflow.extract` has written.
    history
        Include marks that were undone, with ``undone_by``, ``undone_when`` and ``undone_reason``.

    Returns
    -------
    ``id``, ``label``, the target (``experiment_id``, or ``chip_id`` and ``device_id``; ``kind``,
    ``step``, ``cycle``, ``feature``; missing: all), ``reason``, ``who``, ``when`` (UTC), and
    whether the mark ``applies`` to anything in these results.  A warning names lines that are not
    valid marks.

    Raises
    ------
    OutputError
        There is no such folder.
    """
    import pandas as pd

    folder = results_folder(out)
    book = read_marks(folder)
    results = _Results(folder)
    rows = []
    for one in book.marks if history else book.holding:
        own = results.of(one)
        end = book.undone.get(one.id)
        rows.append(
            one.model_dump()
            | {"applies": any(_missing(one, metadata) is None for metadata in own)}
            | dict(zip(_UNDONE, (end.who, end.when, end.reason) if end else ("",) * 3, strict=True))
        )
    frame = pd.DataFrame(rows, columns=[*_COLUMNS, *(_UNDONE if history else ())])
    return frame.astype({"step": "Int64", "cycle": "Int64", "applies": bool})


def results_folder(out: str | os.PathLike[str]) -> Path:
    """Return a folder of results.

    Raises
    ------
    OutputError
        There is none.
    """
    folder = local_path(out, OutputError)
    if not folder.is_dir():
        raise OutputError(f"{folder}: there is no such folder of results")
    return folder


def _numbers(name: str, given: int | Iterable[int] | None) -> list[int | None]:
    if given is None:
        return [None]
    several = given if isinstance(given, Iterable) else [given]
    try:
        # NumPy's whole numbers, too, and no 3.7.
        numbers: list[int | None] = [operator.index(n) for n in several]
    except TypeError:
        raise ParameterError(f"{name}={given!r}: expected whole numbers") from None
    if not numbers:
        raise OutputError(f"{name}: expected a number, or several, and not none at all")
    return numbers


class _Results:
    """The metadata of the results of a folder, read no more often than is needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: list[dict[str, Any]] | None = None
        self._named: dict[str, list[dict[str, Any]]] = {}

    def all(self) -> list[dict[str, Any]]:
        """Return those of every result that can be read; opening the results names others."""
        if self._known is None:
            found = map(_readable, result_files(self._folder))
            self._known = [one for one in found if one is not None]
        return self._known

    def of(self, mark: Mark) -> list[dict[str, Any]]:
        """Return those of the results that a mark is about."""
        if mark.experiment_id is None:
            return [one for one in self.all() if mark.is_of(one["identity"])]
        if mark.experiment_id not in self._named:
            self._named[mark.experiment_id] = self._look(mark.experiment_id)
        return [one for one in self._named[mark.experiment_id] if mark.is_of(one["identity"])]

    def _look(self, experiment_id: str) -> list[dict[str, Any]]:
        """Read what is named like the result of an experiment, and not 10,000 others."""
        try:
            name = result_path(self._folder, experiment_id).name
        except InputError:
            # No file has such a name.
            return []
        parts = [place for key in PARTITIONS for place in self._folder.glob(f"{key}=*")]
        paths = [folder / name for folder in (self._folder, *parts)]
        found = [_readable(path) for path in paths if path.exists()]
        return [one for one in found if one is not None]


def _readable(path: Path) -> dict[str, Any] | None:
    try:
        return read_metadata(path)
    except OutputError:
        # Opening the results names it.
        return None


def described_by(folder: Path, mark: Mark) -> list[dict[str, Any]]:
    """Return the metadata of the results that a mark applies to.

    Raises
    ------
    OutputError
        There are no such results; the message names the nearest ones.
    """
    results = _Results(folder)
    found = results.of(mark)
    if not found:
        key = "chip_id" if mark.experiment_id is None else "experiment_id"
        known = {one["identity"][key] for one in results.all()}
        near = did_you_mean(str(getattr(mark, key)), known)
        raise OutputError(f"{folder}: no results of {mark.place}{near}")
    return found


def _kind_with_cycles(described: Iterable[Mapping[str, Any]]) -> str | None:
    """Return the kind of measurement whose features have cycles, None where there are several."""
    kinds: set[str] = set()
    for metadata in described:
        for name, variable in read_variables(metadata).items():
            owner = metadata["variables"][name]["feature"]
            if CYCLE in variable.dims and owner in metadata["features"]:
                kinds |= origin_of(owner, metadata).kinds
    return kinds.pop() if len(kinds) == 1 else None


def need_there(folder: Path, mark: Mark, described: Iterable[Mapping[str, Any]]) -> None:
    """Raise :class:`OutputError` if no result has the target of a mark."""
    reasons = [_missing(mark, metadata) for metadata in described]
    if all(reasons):
        raise OutputError(f"{folder}: {mark.place}: {reasons[0]}")


def _missing(mark: Mark, metadata: Mapping[str, Any]) -> str | None:
    """Say what of a mark a result does not have; None where it has all."""
    features, steps = metadata["features"], metadata["source"]["n_steps"]
    if mark.kind is not None and not steps.get(mark.kind):
        there = [kind for kind, n in steps.items() if n]
        return f"no measurements of this kind{did_you_mean(mark.kind, there)}"
    if mark.feature is not None and mark.feature not in features:
        return f"no such feature{did_you_mean(mark.feature, features)}"
    n_steps = metadata["n_rows"] if mark.kind is None else steps[mark.kind]
    if mark.step is not None and mark.step >= n_steps:
        return f"there are {n_steps} steps, from 0 on"
    if mark.cycle is None:
        return None
    variables = read_variables(metadata)
    n_cycles = max(
        (
            entry["sizes"][variables[name].dims.index(CYCLE)]
            for name, entry in metadata["variables"].items()
            if CYCLE in variables[name].dims
            and entry["feature"] in features
            and reach_of(mark, origin_of(entry["feature"], metadata), variables[name].dims)
        ),
        default=0,
    )
    return f"there are {n_cycles} cycles, from 0 on" if mark.cycle >= n_cycles else None
