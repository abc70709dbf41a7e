"""Windows of time constants that people choose by hand, for the next run to use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from oectflow.errors import OutputError
from oectflow.extractors.chosen_windows import CHOSEN_WINDOWS
from oectflow.extractors.tau import TauOnOff
from oectflow.pipeline.marks.mark import Window, new_mark, new_window
from oectflow.pipeline.marks.store import write
from oectflow.pipeline.outputs.marked import read_marks
from oectflow.pipeline.outputs.marking import described_by, need_there, results_folder

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = (
    "id", "experiment_id", "step", "cycle", "phase", "begin", "end", "reason", "who", "when",
    "used",
)  # fmt: skip


def set_window(
    out: str | os.PathLike[str],
    experiment: str,
    *,
    step: int,
    cycle: int,
    phase: Literal["on", "off"],
    begin: float,
    end: float,
    reason: str = "",
    who: str | None = None,
) -> str:
    """Choose the window for the fit of the time constant of one phase of a cycle.

    The results do not change until you run :func:`oectflow.extract` again; it then computes the
    time constants of this experiment again.  The fit in the window is judged like any other fit: a
    chosen window does not by itself give the status ``ok``.  The metadata of a result name the
    windows that were used.  The last choice for a phase counts; :func:`oectflow.unmark` undoes a
    choice.

    Parameters
    ----------
    out
        Folder that :func:`oectflow.extract` has written.
    experiment
        Id of the experiment.
    step, cycle, phase
        The phase; numbers as in the results, from 0.
    begin, end
        Begin and end of the window, in s after the first sample of the step, as in
        ``window_start``. A sample at ``end`` is not part of the window.
    reason, who
        The reason, and who chose the window; by default the name of the account.

    Returns
    -------
    The id of this choice.

    Raises
    ------
    OutputError
        There are no such results, or they have no such step or cycle, or no feature that fits in
        windows.
    ParameterError
        The window has no length, or a number is not valid.
    StorageError
        The choice cannot be written.
    """
    folder = results_folder(out)
    chosen = new_window(
        experiment_id=experiment, step=step, cycle=cycle, phase=phase, begin=begin, end=end,
        reason=reason, who=who,
    )  # fmt: skip
    # What there is of a step and its cycles is found as for a mark.
    place = new_mark("bad", experiment_id=experiment, step=step, cycle=cycle, kind="transient")
    described = described_by(folder, place)
    if not any(map(_fitting, described)):
        raise OutputError(
            f"{folder}: {experiment}: no feature of these results fits in windows; extract "
            "transient.tau_on_off first"
        )
    need_there(folder, place, described)
    write(folder, [chosen])
    return chosen.id


def windows(out: str | os.PathLike[str]) -> pd.DataFrame:
    """Return the windows that were chosen for results, one row each.

    Parameters
    ----------
    out
        Folder that :func:`oectflow.extract` has written.

    Returns
    -------
    ``id``, ``experiment_id``, ``step``, ``cycle``, ``phase``, ``begin`` and ``end`` (s after the
    first sample of the step), ``reason``, ``who``, ``when`` (UTC), and whether the results were
    computed with the window (``used``).  A warning names lines that cannot be read.

    Raises
    ------
    OutputError
        There is no such folder.
    """
    import pandas as pd

    folder = results_folder(out)
    rows = [one.model_dump() | {"used": _is_used(folder, one)} for one in read_marks(folder).chosen]
    return pd.DataFrame(rows, columns=list(_COLUMNS)).astype({"used": bool})


def windows_of_experiments(folder: Path) -> dict[str, list[list[Any]]]:
    """Return the chosen windows of each experiment, in the form that extractors take.

    Each window has step, cycle, ``"on"`` or ``"off"``, and begin and end in s.  The order is fixed.
    """
    found: dict[str, list[list[Any]]] = {}
    for one in read_marks(folder).chosen:
        found.setdefault(one.experiment_id, []).append(_as_taken(one))
    return {name: sorted(several) for name, several in found.items()}


def _as_taken(chosen: Window) -> list[Any]:
    return [chosen.step, chosen.cycle, chosen.phase, chosen.begin, chosen.end]


def _fitting(metadata: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what a result says of its features that fit in windows."""
    return [
        feature
        for feature in metadata["features"].values()
        if feature["extractor"] == TauOnOff.name
    ]


def _is_used(folder: Path, chosen: Window) -> bool:
    try:
        described = described_by(folder, new_mark("bad", experiment_id=chosen.experiment_id))
    except OutputError:
        return False
    features = [feature for metadata in described for feature in _fitting(metadata)]
    return bool(features) and all(
        _as_taken(chosen) in feature.get("sample", {}).get(CHOSEN_WINDOWS, [])
        for feature in features
    )
