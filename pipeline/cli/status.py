"""``status``: show which results are there, good, up to date, or missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oectflow.errors import InputError, OutputError
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
    tell,
)
from oectflow.pipeline.cli.place import CatalogOption, find_catalog
from oectflow.place import place, snapshot

if TYPE_CHECKING:
    from oectflow.pipeline.features.feature_list import FeatureList
    from oectflow.pipeline.outputs.states import RawFiles, State
    from oectflow.pipeline.outputs.trouble import Trouble

_SHOWN = 50


def status(
    experiments: Annotated[
        list[str] | None,
        typer.Argument(help="Folders, globs or HDF5 files; by default those in the catalog."),
    ] = None,
    out: Out = None,
    features: Annotated[
        str | None,
        typer.Option(
            "--features", "-f", help="Check for these features, too; by default, any will do."
        ),
    ] = None,
    catalog: CatalogOption = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Show which results in a folder are done, flagged, failed, missing or unchanged.

    Without experiments and without a catalog, only the existing results are shown.  The exit status
    is 0 if a run would have nothing to do and nothing failed, else 1.
    """
    from oectflow.pipeline.features.feature_list import FeatureList
    from oectflow.pipeline.inputs.find import find_experiments
    from oectflow.pipeline.outputs.states import RawFiles, results_without

    folder = snapshot(place(out or default_out(catalog), OutputError))
    wanted = FeatureList.load(features) if features else None
    states: list[State] = []
    if experiments:
        paths = find_experiments(experiments)
    else:
        paths, states = _of_catalog(catalog)
    raw = RawFiles(folder)
    raw.look_ahead(paths)
    with progress_bar("status", "experiments", quiet=quiet) as progress:
        for done, path in enumerate(paths, 1):
            states.append(look_at(path, raw, folder, wanted))
            progress(done, len(paths))
    if not experiments:
        states += results_without(folder, raw, {state.result for state in states})
    if not states and not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; name the results with --out")
    found = troubles(states)
    counts = Counter[str](state.state for state in states)
    n_unchanged = sum(state.unchanged for state in states)
    ok = n_unchanged == len(states) and not counts["failed"]
    if as_json:
        emit_json(
            {
                "out": folder,
                "counts": counts,
                "unchanged": n_unchanged,
                "experiments": states,
                "trouble": found,
            }
        )
    else:
        _print(folder, states, counts, n_unchanged, found)
    raise typer.Exit(0 if ok else 1)


def look_at(path: Path, raw: RawFiles, out: Path, wanted: FeatureList | None) -> State:
    """Compare a raw file with its result.

    Parameters
    ----------
    path
        The raw file.  Only its metadata is read; its bytes are read if only its time has changed.
    raw
        Looks at raw files; it has looked at the earlier files already.
    out
        Folder of the results.
    wanted
        Features that the result should have; None if any will do.
    """
    state = raw.state(path)
    if wanted is None or not state.unchanged:
        return state
    from oectflow.pipeline.execution.driving.find_work import find_work
    from oectflow.pipeline.execution.planning.work import Job
    from oectflow.pipeline.outputs.sink import read_metadata

    metadata = read_metadata(place(state.result))
    assert metadata is not None, "it was read just now"
    # Layout (lists or columns) is no reason: it is chosen anew in each run.
    expand = metadata["expand_multidim"]
    (item,) = find_work([path], wanted, out, force=False, expand_multidim=expand, topic="status")
    if not isinstance(item, Job):
        return state
    stale = [f for f in wanted.features if f not in item.task.reused]
    todo = f"to compute: {', '.join(stale) or 'units or descriptions'}"
    reason = "; ".join(part for part in (todo, state.reason) if part)
    return replace(state, unchanged=False, reason=reason)


def troubles(states: Sequence[State]) -> list[Trouble]:
    """Return the problems with values of these experiments, by feature and status word."""
    from oectflow.pipeline.outputs.sink import read_metadata
    from oectflow.pipeline.outputs.trouble import flags_of_result, sum_up

    found = []
    for state in states:
        # Of results that cannot be read, the reason is in the state.
        if state.result and state.state in ("flagged", "failed"):
            try:
                metadata = read_metadata(place(state.result))
            except OutputError:
                continue
            if metadata is not None:
                found.append((state.experiment_id, flags_of_result(metadata)))
    return sum_up(found)


def _of_catalog(catalog: str | None) -> tuple[list[Path], list[State]]:
    """Return the raw files of the catalog, and those that cannot be read."""
    from oectflow.pipeline.outputs.states import State

    place = find_catalog(catalog)
    if place is None or not place.exists:
        return [], []
    with place.open() as opened:
        paths = opened.search(order_by="test_id", order_desc=False).paths
        bad = [
            State(e.test_id, "failed", False, str(e.path or ""), "", e.problem, can_run=False)
            for e in opened.search(file_state="unreadable")
        ]
        n_other = opened.stats().other_files.get("unreadable", 0)
    if n_other:
        note(f"{n_other:,} files are no experiments yet: 'oectflow catalog validate' names them")
    return paths, bad


def _print(
    folder: Path,
    states: list[State],
    counts: Mapping[str, int],
    n_unchanged: int,
    found: Sequence[Trouble],
) -> None:
    from oectflow.pipeline.outputs.trouble import lines

    # What needs attention comes first.
    order = ("failed", "missing", "flagged", "done")
    ranked = sorted(states, key=lambda s: (s.unchanged, order.index(s.state), s.experiment_id))
    rows = ((s.experiment_id, s.state, _since(s), s.reason) for s in ranked[:_SHOWN])
    if states:
        show(table(("experiment", "result", "since then", "reason"), rows))
    if len(states) > _SHOWN:
        say(f"… and {len(states) - _SHOWN:,} more (all with --json)")
    words = ", ".join(f"{counts[word]:,} {word}" for word in order[::-1] if counts[word])
    tell(f"{folder}: {len(states):,} experiments: {words or 'none'}; {n_unchanged:,} unchanged")
    for line in lines(found):
        tell(line)
    todo = sum(not state.unchanged for state in states)
    to_mend = sum(not state.unchanged and not state.can_run for state in states)
    if todo > to_mend:
        say("'oectflow extract' computes what is missing or has changed")
    if to_mend:
        say(f"{to_mend:,} cannot be computed as they are: the reason says what to mend")


def _since(state: State) -> str:
    if state.unchanged:
        return "unchanged"
    return "to do" if state.can_run else "to mend"
