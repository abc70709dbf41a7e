"""``features``: list and show features, and check a feature file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from oectflow.pipeline.cli.output import AsJson, emit_json, say, show, table

Which = Annotated[
    str, typer.Argument(metavar="FEATURES", help="A bundled set, or a YAML or JSON file.")
]


def list_features(as_json: AsJson = False) -> None:
    """List the bundled feature sets and all extractors."""
    from oectflow.extractors import extractor_names, get_extractor
    from oectflow.pipeline.features.config import list_bundled
    from oectflow.pipeline.features.feature_list import FeatureList

    sets = {name: list(FeatureList.load(name).features) for name in list_bundled()}
    extractors = [get_extractor(name) for name in extractor_names()]
    if as_json:
        about = {
            e.name: {"unit": e.unit, "source": e.source, "description": e.description}
            for e in extractors
        }
        emit_json({"feature_sets": sets, "extractors": about})
        return
    show(table(("feature set", "features"), ((k, ", ".join(v)) for k, v in sets.items())))
    rows = ((e.name, e.unit or "1", e.description) for e in extractors)
    show(table(("extractor", "unit", "what it is"), rows))


def show_features(features: Which, as_json: AsJson = False) -> None:
    """Show the features of a set, the data that they are computed from, and their units."""
    from oectflow.pipeline.features.feature_list import FeatureList

    found = FeatureList.load(features)
    if as_json:
        about = {name: feature.describe() for name, feature in found.features.items()}
        emit_json({"name": found.name, "features": about})
    else:
        say(found)


def validate_features(
    file: Annotated[Path, typer.Argument(help="A YAML or JSON file.")], as_json: AsJson = False
) -> None:
    """Check a feature file: show every mistake, its line, its place and how to correct it.

    The exit status is 0 if the file is right, 2 if not.
    """
    from oectflow.pipeline.features.check import check_config

    mistakes = check_config(file)
    if as_json:
        emit_json({"file": file, "ok": not mistakes, "mistakes": mistakes})
    elif not mistakes:
        say(f"{file}: is right")
    for mistake in () if as_json else mistakes:
        say(f"{file}{f':{mistake.line}' if mistake.line else ''}: {mistake.text}")
    raise typer.Exit(2 if mistakes else 0)
