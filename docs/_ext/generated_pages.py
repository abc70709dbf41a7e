"""Pages that are made from the code at build time: features, front door, commands, notebooks.

They lie among the written pages, are ignored by git, and are made anew in every build.
"""

from __future__ import annotations

import importlib
import inspect
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import typer
from feature_pages import write_pages
from merit_page import draw_merit, merit_page
from ok_page import ok_page
from statistics_picture import draw_statistics
from typer.cli import get_docs_for_click

import oectflow as of
import oectflow.errors as oectflow_errors
from oectflow.measurement import kinds
from oectflow.pipeline.cli.app import build_app

#: Headings of the front door's page by where a name is defined; the first that fits counts.
GROUPS = {
    "oectflow.cluster": "Workers",
    "oectflow.pipeline.execution": "Runs",
    "oectflow.pipeline.watching": "Runs",
    "oectflow.pipeline.manager.feature_set": "Which features",
    "oectflow.pipeline.manager": "Experiments and their catalog",
    "oectflow.pipeline.inputs.catalog": "Experiments and their catalog",
    "oectflow.pipeline.inputs": "Raw data",
    "oectflow.pipeline.demo": "Raw data",
    "oectflow.pipeline.features": "Which features",
    "oectflow.pipeline.outputs.results": "Results",
    "oectflow.pipeline.outputs.marking": "Results",
    "oectflow.pipeline.outputs.window_choice": "Results",
    "oectflow.pipeline.outputs.export": "Results",
    "oectflow.pipeline.publishing": "Results",
    "oectflow.pipeline.app": "Results",
    "oectflow.pipeline.outputs.comparison_table": "Across devices, steps and pulses",
    "oectflow.pipeline.outputs": "Pictures",
    "oectflow.pipeline.statistics": "Across devices, steps and pulses",
    "oectflow.extractors": "Extractors",
    "oectflow.measurement": "Extractors",
    "oectflow.errors": "Errors",
    "": "More",
}
#: Documented beside the front door: what is imported from its module, and what results consist of.
MODULES: dict[str, tuple[str, ...]] = {
    "oectflow.extractors.autotau": (),
    "oectflow.extractors.autotau.records": ("CycleResults",),
    "oectflow.extractors.cache": ("ContentCache", "CacheStats"),
    "oectflow.extractors.dwt": ("wavelet_features", "WaveletFeatures", "OUTCOMES", "wavedec"),
    "oectflow.extractors.prompts": ("FEATURES",),
    "oectflow.pipeline.inputs.catalog": (),
    "oectflow.pipeline.inputs.catalog.config": (),
    "oectflow.pipeline.inputs.simulate": (),
    "oectflow.measurement": (
        "Array",
        "Extra",
        "Kind",
        "Measurement",
        "Step",
        "Value",
        "get_kind",
        "kinds",
        "register_kind",
    ),
    "oectflow.pipeline.inputs.step_layout": ("Layout",),
    "oectflow.pipeline.inputs.ingest_report": ("IngestReport", "IngestRecord", "Unread"),
    "oectflow.pipeline.features.feature": ("Feature",),
    "oectflow.pipeline.features.derive": ("Derived", "Failure"),
    "oectflow.pipeline.features.expressions": ("Expression",),
    "oectflow.pipeline.execution.planning.run_plan": ("FeaturePlan",),
    "oectflow.pipeline.publishing.differences": ("Difference",),
    "oectflow.pipeline.app.notebook": ("RunningApp",),
    "oectflow.pipeline.outputs.sink": ("Problem",),
    "oectflow.pipeline.watching.status": ("WatchStatus", "WatchedExperiment", "read_status"),
    "oectflow.errors": (),
}


def front_door() -> str:
    """Return the reST page that lists every public name, grouped by what it is for."""
    groups: dict[str, list[str]] = dict.fromkeys(GROUPS.values(), ())  # type: ignore[arg-type]
    for name in of.__all__:
        home = getattr(getattr(of, name), "__module__", None) or ""
        title = next(title for start, title in GROUPS.items() if home.startswith(start))
        groups[title] = [*groups[title], name]
    parts = [_title("Python", "="), "``import oectflow as of`` offers:"]
    for title, names in groups.items():
        if names:
            parts += [_title(title, "-"), _autosummary("oectflow", names)]
    parts += [_title("Imported from where they are", "-")]
    listed = {id(getattr(of, name)) for name in of.__all__}
    for module, chosen in MODULES.items():
        names = chosen or public_names(module)
        found = vars(importlib.import_module(module))
        names = [name for name in names if id(found[name]) not in listed]
        listed |= {id(found[name]) for name in names}
        parts += [_title(module, "~"), _autosummary(module, names)]
    return "\n\n".join(parts) + "\n"


def public_names(module: str) -> Sequence[str]:
    """Return ``__all__``, or the classes and functions that a module defines."""
    found = importlib.import_module(module)
    if hasattr(found, "__all__"):
        # Modules among them have their own names, which stand here already.
        return [name for name in found.__all__ if not inspect.ismodule(getattr(found, name))]
    return [
        name
        for name, value in vars(found).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module
    ]


def commands() -> str:
    """Return the Markdown page of the command line."""
    group = typer.main.get_command(build_app())
    with click.Context(group, info_name="oectflow") as context:
        text = get_docs_for_click(obj=group, ctx=context, name="oectflow", title="Command line")
    return str(text)


def kinds_page() -> str:
    """Return the Markdown page of the kinds of measurement, from their declarations."""
    parts = ["# Kinds of measurement", ""]
    parts += [
        "What every step has, what it may have, and the numbers that belong to it. An extractor of "
        "a kind gets all of it in `step_data`; aliases stand for the same array. Where a number "
        "and a recorded array have one name, the number has it, and the array its alias. "
        "[A kind of your own](../howto/kinds.md) is declared in the same way.",
        "",
    ]
    for kind in kinds().values():
        parts += [f"## `{kind.name}`: {kind.title}", "", "| array | unit | | in the raw file |"]
        parts += ["|---|---|---|---|"]
        for array in kind.arrays:
            names = ", ".join(f"`{name}`" for name in (array.name, *array.aliases))
            where = f"`/{kind.name}/{array.dataset or 'measurement_data'}`"
            must = "" if array.dataset else " (every step)"
            parts += [f"| {names} | {array.unit} | {array.description}{must} | {where} |"]
        parts += ["", "| number | unit | | column in results |", "|---|---|---|---|"]
        for value in kind.values:
            column = kind.column(value)
            unit = value.unit or "1"
            parts += [f"| `{value.name}` | {unit} | {value.description} | `{column}` |"]
        parts += [""]
    return "\n".join(parts)


def errors() -> str:
    """Return the Markdown page of the tree of errors, as its module draws it."""
    text = inspect.getdoc(oectflow_errors) or ""
    tree = text.partition("::\n\n")[2].partition("\n\n")[0]
    return f"# Errors\n\n```text\n{inspect.cleandoc(tree)}\n```\n"


def _title(text: str, line: str) -> str:
    return f"{text}\n{line * len(text)}"


def _autosummary(module: str, names: Sequence[str]) -> str:
    return "\n".join(
        [
            f".. currentmodule:: {module}",
            "",
            ".. autosummary::",
            "   :toctree: generated",
            "   :nosignatures:",
            "",
            *(f"   {name}" for name in names),
        ]
    )


def generate(app: Any, _config: Any) -> None:
    """Write the generated pages before Sphinx looks for pages."""
    docs = Path(app.srcdir)
    (docs / "reference").mkdir(exist_ok=True)
    write_pages(docs)
    (docs / "reference" / "api.rst").write_text(front_door(), encoding="utf-8")
    (docs / "reference" / "errors.md").write_text(errors(), encoding="utf-8")
    (docs / "reference" / "ok.md").write_text(ok_page() + "\n", encoding="utf-8")
    (docs / "reference" / "kinds.md").write_text(kinds_page(), encoding="utf-8")
    draw_statistics(docs / "reference" / "statistics.png")
    draw_merit(docs / "reference" / "figures-of-merit.png")
    (docs / "reference" / "figures-of-merit.md").write_text(
        merit_page("figures-of-merit.png") + "\n", encoding="utf-8"
    )
    (docs / "reference" / "cli.md").write_text(commands(), encoding="utf-8")
    notebooks = docs / "notebooks"
    shutil.rmtree(notebooks, ignore_errors=True)
    notebooks.mkdir()
    for notebook in sorted((docs.parent / "notebooks").glob("*.ipynb")):
        shutil.copy(notebook, notebooks)


def setup(app: Any) -> dict[str, bool]:
    """Connect the generation to the begin of a build."""
    app.connect("config-inited", generate)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
