"""``status``: which results are there, good, up to date, or missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from oectflow.errors import InputError, OectflowError
from oectflow.pipeline.cli.extract import Out, default_out
from oectflow.pipeline.cli.output import (
    AsJson,
    Quiet,
    emit_json,
    note,
    progress_bar,
    say,
    show,
    table,
)
from oectflow.pipeline.cli.place import CatalogOption, find_catalog

if TYPE_CHECKING:
    from oectflow.pipeline.features.feature_set import FeatureSet

_SHOWN = 50
Result = Literal["done", "flagged", "failed", "missing"]


@dataclass(frozen=True)
class State:
    """How one experiment stands.

    Attributes
    ----------
    experiment_id, raw, result
        Which one, its raw file and its result file; ``""`` where unknown.
    state
        ``"done"``: every value is good.  ``"flagged"``: some have a status word.  ``"failed"``: a
        step raised, or the raw file or the result cannot be read.  ``"missing"``: no result.
    unchanged
        Whether a run would have nothing to do.
    reason
        Why it failed, or what has changed.
    """

    experiment_id: str
    state: Result
    unchanged: bool
    raw: str = ""
    result: str = ""
    reason: str = ""


def status(
    experiments: Annotated[
        list[str] | None,
        typer.Argument(help="Folders, globs or HDF5 files; by default what the catalog has."),
    ] = None,
    out: Out = None,
    features: Annotated[
        str | None,
        typer.Option(
            "--features", "-f", help="Compare with these features, too; by default any will do."
        ),
    ] = None,
    catalog: CatalogOption = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Show which results of a folder are done, flagged, failed or missing, and which unchanged.

    Without experiments and without a catalog, only the results that are there.  The exit status is
    0 if a run would have nothing to do and nothing failed, else 1.
    """
    from oectflow.pipeline.features.feature_set import FeatureSet
    from oectflow.pipeline.inputs.find import find_experiments

    folder = out or default_out(catalog)
    wanted = FeatureSet.load(features) if features else None
    states: list[State] = []
    if experiments:
        paths = find_experiments(experiments)
    else:
        paths, states = _of_catalog(catalog)
    with progress_bar("status", "experiments", quiet=quiet) as progress:
        for done, path in enumerate(paths, 1):
            states.append(look_at(path, folder, wanted))
            progress(done, len(paths))
    if not experiments:
        states += results_without(folder, states)
    if not states and not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; name the results with --out")
    counts = Counter[str](state.state for state in states)
    n_unchanged = sum(state.unchanged for state in states)
    ok = n_unchanged == len(states) and not counts["failed"]
    if as_json:
        emit_json(
            {"out": folder, "counts": counts, "unchanged": n_unchanged, "experiments": states}
        )
    else:
        _print(folder, states, counts, n_unchanged)
    raise typer.Exit(0 if ok else 1)


def look_at(path: Path, out: Path, wanted: FeatureSet | None) -> State:
    """Compare a raw file with its result.

    Parameters
    ----------
    path
        The raw file; only its metadata is read, and its bytes where just its time has changed.
    out
        Folder of the results.
    wanted
        Features that the result should have; None where any will do.
    """
    from oectflow.pipeline.execution.driving.find_work import Job, about, find_work, same_source
    from oectflow.pipeline.inputs.experiment import Experiment
    from oectflow.pipeline.outputs.sink import read_earlier, result_path

    try:
        experiment = Experiment(path)
        name = experiment.experiment_id
        result = result_path(out, name)
        metadata = read_earlier(result, about(experiment))
        if metadata is None and result.exists():
            reason = f"{result}: was cut or changed; a run replaces it"
            return State(name, "failed", False, str(path), str(result), reason)
        if metadata is None:
            return State(name, "missing", False, str(path), "", "never extracted into this folder")
        state = judge(metadata)
        if not same_source(metadata, experiment):
            reason = "the raw file has changed since"
            return State(name, state, False, str(path), str(result), reason)
        if wanted is not None:
            # Layout (lists or columns) is no reason: it is chosen anew in each run.
            expand = metadata["expand_multidim"]
            (item,) = find_work(
                [path], wanted, out, force=False, expand_multidim=expand, topic="status"
            )
            if isinstance(item, Job):
                stale = [f for f in wanted.features if f not in item.task.reused]
                reason = f"to compute: {', '.join(stale) or 'units or descriptions'}"
                return State(name, state, False, str(path), str(result), reason)
        reason = "a step raised; a run tries it again" if state == "failed" else ""
        return State(name, state, state != "failed", str(path), str(result), reason)
    except OectflowError as error:
        return State(path.stem, "failed", False, str(path), "", str(error))


def results_without(out: Path, known: Sequence[State]) -> list[State]:
    """Return the results of a folder that belong to none of the experiments known so far."""
    from oectflow.pipeline.outputs.sink import read_metadata

    seen = {state.result for state in known}
    states = []
    for result in sorted(out.glob("*.parquet")):
        if str(result) in seen or result.name.startswith("."):
            continue
        try:
            metadata = read_metadata(result)
        except OectflowError as error:
            states.append(State(result.stem, "failed", False, "", str(result), str(error)))
            continue
        if metadata is None:
            continue
        raw = Path(metadata["source"]["path"])
        if raw.exists():
            states.append(look_at(raw, out, None))
            continue
        name = metadata["identity"]["experiment_id"]
        reason = f"its raw file has vanished: {raw}"
        # Nothing could be computed anew, so the result stands.
        states.append(State(name, judge(metadata), True, "", str(result), reason))
    return states


def judge(metadata: Mapping[str, Any]) -> Result:
    """Return what the status words of a result amount to."""
    words = {
        word for entry in metadata["features"].values() for word, n in entry["counts"].items() if n
    }
    if "error" in words:
        return "failed"
    return "flagged" if words - {"ok", "absent"} else "done"


def _of_catalog(catalog: str | None) -> tuple[list[Path], list[State]]:
    """Return the raw files of the catalog, and those that cannot be read."""
    place = find_catalog(catalog)
    if place is None or not place.exists:
        return [], []
    with place.open() as opened:
        paths = opened.search(order_by="test_id", order_desc=False).paths
        bad = [
            State(e.test_id, "failed", False, str(e.path or ""), "", e.problem)
            for e in opened.search(file_state="unreadable")
        ]
        n_other = opened.stats().other_files.get("unreadable", 0)
    if n_other:
        note(f"{n_other:,} files are no experiments yet: 'oectflow catalog validate' names them")
    return paths, bad


def _print(folder: Path, states: list[State], counts: Mapping[str, int], n_unchanged: int) -> None:
    # What needs attention comes first.
    order = ("failed", "missing", "flagged", "done")
    ranked = sorted(states, key=lambda s: (s.unchanged, order.index(s.state), s.experiment_id))
    rows = (
        (s.experiment_id, s.state, "unchanged" if s.unchanged else "to do", s.reason)
        for s in ranked[:_SHOWN]
    )
    if states:
        show(table(("experiment", "result", "since then", "reason"), rows))
    if len(states) > _SHOWN:
        say(f"… and {len(states) - _SHOWN:,} more (all with --json)")
    words = ", ".join(f"{counts[word]:,} {word}" for word in order[::-1] if counts[word])
    say(f"{folder}: {len(states):,} experiments: {words or 'none'}; {n_unchanged:,} unchanged")
    if n_unchanged < len(states):
        say("'oectflow extract' computes what is missing or has changed")
