"""All mistakes of a feature file at once, each with its line."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import yaml

from oectflow.errors import (
    ConfigError,
    ExpressionError,
    ParameterError,
    UnknownExtractor,
)
from oectflow.pipeline.features.build import build_feature
from oectflow.pipeline.features.config import load_config
from oectflow.pipeline.features.feature_list import FeatureList

#: The key that an error is about.
_KEYS: tuple[tuple[type[ConfigError], str], ...] = (
    (UnknownExtractor, "extractor"),
    (ParameterError, "params"),
    (ExpressionError, "func"),
)
Place = tuple[str | int, ...]


@dataclass(frozen=True)
class Mistake:
    """One mistake.

    Attributes
    ----------
    line
        Line of the file, from 1 on; None where it has none.
    place
        Keys and positions that lead there, a feature by its name; empty for the whole file.
    text
        What is wrong, and what to do.
    """

    line: int | None
    place: Place
    text: str


def check_config(path: str | os.PathLike[str]) -> list[Mistake]:
    """Return all mistakes of a feature file, in the order of its lines; none where it is right.

    Parameters
    ----------
    path
        A YAML or JSON file.
    """
    file = Path(path).expanduser()
    found: list[tuple[Place, str]] = []
    try:
        for spec in load_config(file).features:
            try:
                build_feature(spec)
            except ConfigError as error:
                keys = [key for kind, key in _KEYS if isinstance(error, kind)][:1]
                found.append((("features", spec.name, *keys), f"feature {spec.name!r}: {error}"))
        if not found:
            # Only then does it matter how the features depend on each other.
            FeatureList.load(file)
    except ConfigError as error:
        found += error.mistakes or [((), str(error).removeprefix(f"{file}: "))]
    root = _nodes(file) if any(place for place, _ in found) else None
    mistakes = [Mistake(_line(root, place), place, text) for place, text in found]
    return sorted(mistakes, key=lambda mistake: mistake.line or 0)


def _nodes(file: Path) -> yaml.Node | None:
    """Return the nodes of a file that has been read already, so it is small and no bomb."""
    try:
        root: yaml.Node | None = yaml.compose(file.read_text("utf-8-sig"), yaml.SafeLoader)
    except yaml.YAMLError:
        # JSON is YAML but for its tabs.
        return None
    return root


def _line(root: yaml.Node | None, place: Place) -> int | None:
    """Return the line of the last part of a place that the file has."""
    if root is None or not place:
        return None
    node, line = root, root.start_mark.line
    for part in place:
        below = _below(node, part)
        if below is not None:
            node, line = below
    return line + 1


def _below(node: yaml.Node, part: str | int) -> tuple[yaml.Node, int] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return value, key.start_mark.line
    if isinstance(node, yaml.SequenceNode):
        # Of two features of one name, the second is one too many.
        for index, item in reversed(list(enumerate(node.value))):
            name = _below(item, "name") if isinstance(item, yaml.MappingNode) else None
            if part == index or (name is not None and name[0].value == part):
                return item, item.start_mark.line
    return None
