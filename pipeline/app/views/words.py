"""What the page says in words: headings, the features of a step, what a fit found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from html import escape

import numpy as np

from oectflow.pipeline.app.desk import Desk, Place
from oectflow.pipeline.app.index import Index
from oectflow.pipeline.app.one_result import OneResult
from oectflow.pipeline.app.summary import Summary
from oectflow.pipeline.marks.mark import Window
from oectflow.pipeline.marks.reach import CYCLE
from oectflow.pipeline.outputs.plots.axes import with_unit
from oectflow.pipeline.outputs.plots.transient import Fit
from oectflow.pipeline.outputs.trouble import GOOD
from oectflow.pipeline.watching.status import WatchStatus

#: A word and a sign for each state, so that nothing depends on colour.
STATES = {"done": "✓ done", "flagged": "⚑ flagged", "failed": "✗ failed"}
_MOST_NOTES = 3
#: Experiments of a watcher that are shown.
_MOST_WATCHED = 12
#: Columns of the sample in the table of experiments.
_MOST_SAMPLE = 2


def heading(desk: Desk) -> str:
    """Return what stands on top of the page, and what cannot be shown below."""
    index = desk.index
    counts = Counter(entry.summary.state for entry in index.entries)
    words = ", ".join(
        f"{counts[state]:,} {said}" for state, said in STATES.items() if counts[state]
    )
    left_out = {name for entry in index.entries for name in entry.summary.left_out}
    notes = [
        f"{name}: too many values in a step for a trend of each; they are in the results"
        for name in sorted(left_out)
    ]
    if desk.marks.unreadable:
        n = len(desk.marks.unreadable)
        notes.append(f"lines of marks that cannot be read, and are not respected: {n}")
        notes += desk.marks.unreadable[:_MOST_NOTES]
    return (
        f"<h1>{escape(index.folder.resolve().name)}</h1>"
        f"<p>{len(index):,} experiments, {index.n_rows:,} steps: {words}</p>"
        + "".join(f'<p class="wrong">{escape(note)}</p>' for note in notes)
    )


def watcher(status: WatchStatus | None) -> str:
    """Return what ``oectflow watch`` does in this folder, running experiments first."""
    if status is None:
        return ""
    counts = Counter(one.state for one in status.experiments)
    said = ", ".join(f"{n:,} {state}" for state, n in counts.items())
    shown = [one for one in status.experiments if one.state != "done"][:_MOST_WATCHED]
    rows = "".join(
        f"<tr><th>{escape(one.id)}<td>{one.steps_done:,} of {one.steps_seen:,} steps"
        f"<td>{escape(one.state)}<td>{escape(one.message)}</tr>"
        for one in shown
    )
    more = len(status.experiments) - counts["done"] - len(shown)
    rest = f"<p>and {more:,} more</p>" if more > 0 else ""
    return (
        f"<p>watch on {escape(status.host)}: <b>{escape(status.state)}</b>, {said or 'nothing yet'}"
        f" ({_when(status.updated)})</p><table class=watched>{rows}</table>{rest}"
    )


def _when(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        # What stands in a file of others need not be a time.
        return "at no time"


def sample_columns(index: Index) -> list[str]:
    """Return what of the samples is shown in the table: what differs between experiments."""
    seen: dict[str, set[str]] = {}
    for entry in index.entries:
        for name, value in entry.summary.sample.items():
            seen.setdefault(str(name), set()).add(str(value))
    return [name for name, values in seen.items() if len(values) > 1][:_MOST_SAMPLE]


def experiment_row(desk: Desk, number: int, sample: Sequence[str]) -> list[str]:
    """Return the row of an experiment."""
    summary = desk.index.entries[number].summary
    return [
        summary.experiment_id,
        summary.chip_id,
        summary.device_id,
        *(str(summary.sample.get(name, "")) for name in sample),
        f"{summary.n_rows:,}",
        STATES.get(summary.state, summary.state),
        f"{summary.n_flagged:,}",
        ", ".join(desk.labels_of(number)),
    ]


def place_row(desk: Desk, rank: int, place: Place) -> list[str]:
    """Return the row of a place that is looked through."""
    summary = desk.index.entries[place.experiment].summary
    known = np.isfinite(place.r_squared)
    return [
        str(rank + 1),
        summary.experiment_id,
        str(place.step),
        f"{place.cycle} {place.entry}" if known else "",
        f"{place.r_squared:.5f}" if known else "",
        place.status,
        ", ".join(desk.marked(place)),
    ]


def step_title(summary: Summary, place: Place, marked: Sequence[str]) -> str:
    """Return the heading of a step."""
    device = " · ".join(
        f"{name} {escape(value)}"
        for name, value in (("chip", summary.chip_id), ("device", summary.device_id))
        if value
    )
    marks = "".join(f" <mark>{escape(label)}</mark>" for label in marked)
    return (
        f"<h2>{escape(summary.experiment_id)}</h2>"
        f"<p>{device} · step <b>{place.step}</b> of {summary.n_rows} · cycle <b>{place.cycle}</b>"
        f"{marks}</p>"
    )


def fit_line(fit: Fit) -> str:
    """Return in one line what a fit found."""
    end = fit.start + fit.duration
    window = f"window {with_unit(fit.start, 's', 4)} … {with_unit(end, 's', 4)}"
    if not np.isfinite(fit.tau):
        return f"{fit.phase}: <b>{escape(fit.status)}</b>, {window}"
    error = f" ± {with_unit(fit.stderr, 's', 2)}" if np.isfinite(fit.stderr) else ""
    word = fit.status if fit.status in GOOD else f"<b>{escape(fit.status)}</b>"
    found = f"τ = {with_unit(fit.tau, 's')}{error}, R² {fit.r_squared:.5f}"
    return f"{fit.phase}: {found}, {word}, {window}"


def window_line(chosen: Window) -> str:
    """Return in one line which window was chosen, by whom and why."""
    window = f"{with_unit(chosen.begin, 's', 4)} … {with_unit(chosen.end, 's', 4)}"
    why = f": {escape(chosen.reason)}" if chosen.reason else ""
    return f"{chosen.phase}: <b>chosen</b> by {escape(chosen.who)} for the next run, {window}{why}"


def features_table(result: OneResult, step: int, cycle: int) -> str:
    """Return the features of a step, those per cycle of one cycle, as an HTML table."""
    rows = "".join(
        f"<tr><th>{escape(name)}<td>{escape(value)}<td>{status}</tr>"
        for name, value, status in _features(result, step, cycle)
    )
    return (
        "<details open><summary>features of this step and cycle</summary>"
        "<table class=features><thead><tr><th>feature<th>value<th>status</tr></thead>"
        f"<tbody>{rows}</tbody></table></details>"
    )


def _features(result: OneResult, step: int, cycle: int) -> Iterator[tuple[str, str, str]]:
    names = [name for name in result.metadata["features"] if name in result.variables]
    loaded = result.load([one for name in names for one in (name, f"{name}_status")])
    for name in names:
        variable, array = result.variables[name], loaded[name]
        if array.shape[0] <= step:
            continue
        words = loaded.get(f"{name}_status")
        status_dims = result.variables[f"{name}_status"].dims if words is not None else ()
        units = variable.unit.split(", ")
        for place in np.ndindex(array.shape[1:]):
            at = dict(zip(variable.dims, place, strict=True))
            if CYCLE in at and at[CYCLE] != min(cycle, array.shape[1] - 1):
                continue
            word = (
                str(words[(step, *(at.get(dim, 0) for dim in status_dims))])
                if words is not None
                else ""
            )
            if word == "absent":
                continue
            labels = [
                variable.labels[dim][k] if dim in variable.labels else f"{dim} {k}"
                for dim, k in at.items()
                if dim != CYCLE
            ]
            unit = units[place[-1]] if len(units) > 1 else variable.unit
            value = with_unit(float(array[(step, *place)]), unit)
            shown = escape(word) if word in GOOD else f"<b>{escape(word)}</b>"
            yield " ".join([name, *labels]), value, shown
