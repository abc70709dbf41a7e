"""``show``: show everything that is known about one experiment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import isnan
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.tree import Tree

from oectflow.errors import CatalogError, InputError
from oectflow.pipeline.cli.output import AsJson, emit_json, note, say, table
from oectflow.pipeline.cli.output import show as show_it
from oectflow.pipeline.cli.place import CatalogOption, find_catalog, need_catalog
from oectflow.place import place as located

if TYPE_CHECKING:
    from oectflow.pipeline.inputs.catalog import CatalogEntry, FeatureRecord
    from oectflow.pipeline.inputs.experiment import Experiment

_STEPS = 20
_DEEPEST = 50


def show(
    what: Annotated[
        str, typer.Argument(metavar="ID_OR_FILE", help="A test id, a catalog number, or a file.")
    ],
    catalog: CatalogOption = None,
    as_json: AsJson = False,
) -> None:
    """Show one experiment: its attributes, workflow, steps, and known features.

    You can show a raw file without a catalog.  Its features are shown if the catalog has the file.
    """
    experiment, entry, records = _find(what, catalog)
    if as_json:
        emit_json(_document(experiment, entry, records))
        return
    if experiment is not None:
        say(repr(experiment))
        _show_attributes(experiment)
        _show_workflow(experiment)
        _show_steps(experiment)
    elif entry is not None:
        values = vars(entry) | {"workflow": None, "legacy": None}
        show_it(table(("known", "value"), ((k, v) for k, v in values.items() if v is not None)))
        show_it(table(("workflow", "value"), entry.workflow.items()))
    if entry is not None:
        _show_features(records)


def _find(
    what: str, catalog: str | None
) -> tuple[Experiment | None, CatalogEntry | None, list[FeatureRecord]]:
    from oectflow.pipeline.inputs.experiment import Experiment

    path = located(what, InputError)
    place = find_catalog(catalog)
    if path.exists() or path.suffix in (".h5", ".hdf5") or len(path.parts) > 1:
        experiment = Experiment(path)
        if place is None or not place.exists:
            return experiment, None, []
        with place.open() as opened:
            found = list(opened.search(test_id=experiment.experiment_id))
            records = opened.features(found[0].id) if found else []
        return experiment, found[0] if found else None, records
    with need_catalog(catalog).open() as opened:
        try:
            entry = opened.get(what)
        except CatalogError:
            if not what.isdecimal():
                raise
            entry = opened.get(int(what))
        records = opened.features(entry.id)
    try:
        return entry.open(), entry, records
    except (InputError, CatalogError) as error:
        note(f"{error}\nwhat the catalog knows:")
        return None, entry, records


def _show_attributes(experiment: Experiment) -> None:
    show_it(table(("attribute", "value"), sorted(experiment.attributes.items())))
    if experiment.sample:
        show_it(table(("sample", "value"), sorted(experiment.sample.items())))


def _show_workflow(experiment: Experiment) -> None:
    if experiment.workflow is None:
        return
    tree = Tree("workflow (times in ms, voltages in mV)")
    _grow(tree, experiment.workflow, 0)
    show_it(tree)


def _grow(tree: Tree, steps: Any, depth: int) -> None:
    steps = [steps] if isinstance(steps, dict) else steps
    if not isinstance(steps, list) or depth > _DEEPEST:
        return
    for number, step in enumerate(steps, 1):
        if not isinstance(step, dict):
            tree.add(escape(f"{number}: {step}"))
            continue
        words = [f"{number}: {step.get('type', '?')}"]
        words += [f"{step['iterations']} times"] if "iterations" in step else []
        params = step.get("params")
        items = params.items() if isinstance(params, dict) else ()
        words += [f"{key}={value}" for key, value in items]
        _grow(tree.add(escape("  ".join(words))), step.get("steps"), depth + 1)


def _show_steps(experiment: Experiment) -> None:
    from oectflow.measurement import get_kind

    for source in experiment.sources:
        rows = _steps(experiment, source)
        known = [v.name for v in get_kind(source).values if any(v.name in row for row in rows)]
        titles = ("step", "samples", *known, "start_time", "end_time", "reason", "parameters")
        grid = table(titles, ([_cell(row, title) for title in titles] for row in rows[:_STEPS]))
        grid.title, grid.title_justify = f"{source} steps", "left"
        show_it(grid)
        if len(rows) > _STEPS:
            say(f"… and {len(rows) - _STEPS:,} more {source} steps (all with --json)")


def _cell(row: Mapping[str, Any], title: str) -> Any:
    if title != "parameters":
        return row.get(title)
    given = (key for key in row if key.startswith("param_"))
    return " ".join(f"{key.removeprefix('param_')}={row[key]}" for key in given)


def _steps(experiment: Experiment, source: str) -> list[dict[str, Any]]:
    """Return a row per step: the samples it has, then what the file says about it."""
    from oectflow.pipeline.inputs.step_table import VALUE_PREFIX

    lengths = experiment.layout(source).lengths
    said = json.loads(experiment.step_table(source).to_json(orient="records", date_format="iso"))
    hidden = ("start_data_index", "end_data_index", "step_index")
    numbers = experiment.declared_values(source)
    return [
        {"step": i, "samples": int(n)}
        | {name: float(values[i]) for name, values in numbers.items() if not isnan(values[i])}
        | {
            key: value
            for key, value in row.items()
            if key not in hidden and not key.startswith(VALUE_PREFIX) and value is not None
        }
        for i, (n, row) in enumerate(zip(lengths, said, strict=True))
    ]


def _show_features(records: list[FeatureRecord]) -> None:
    if not records:
        say("features: the catalog knows of none")
        return
    rows = (
        (r.name, ", ".join(f"{n} {word}" for word, n in r.counts.items()), r.is_current, r.path)
        for r in records
    )
    show_it(table(("feature", "values", "of this raw file", "in"), rows))


def _document(
    experiment: Experiment | None, entry: CatalogEntry | None, records: list[FeatureRecord]
) -> dict[str, Any]:
    document: dict[str, Any] = {"catalog": entry, "features": records}
    if experiment is not None:
        document |= {
            "experiment_id": experiment.experiment_id,
            "path": experiment.path,
            "attributes": experiment.attributes,
            "sample": experiment.sample,
            "workflow": experiment.workflow,
            "steps": {source: _steps(experiment, source) for source in experiment.sources},
        }
    return document
