"""A feature set as a graph: what is computed from what."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from oectflow.errors import ConfigError
from oectflow.measurement import kinds
from oectflow.pipeline.features.feature import Feature


class FeatureGraph:
    """Which feature is computed from what; a picture in a notebook, text elsewhere.

    The picture needs Graphviz: its program ``dot``, and the Python package ``graphviz``.

    Parameters
    ----------
    name
        Of the feature set.
    features
        By name, in their order.

    Attributes
    ----------
    nodes
        The features by name.
    """

    def __init__(self, name: str, features: Mapping[str, Feature]) -> None:
        self.name = name
        self.nodes: Mapping[str, Feature] = MappingProxyType(dict(features))

    @property
    def dot(self) -> str:
        """The graph in the language of Graphviz."""
        used = {name for feature in self.nodes.values() for name in feature.inputs}
        lines = [f"digraph {_quoted(self.name)} {{", "  rankdir=LR;", "  node [shape=box];"]
        lines += [f"  {_quoted(name)} [shape=cylinder];" for name in kinds() if name in used]
        for feature in self.nodes.values():
            label = f"{feature.name}\n{feature.definition}"
            lines.append(f"  {_quoted(feature.name)} [label={_quoted(label)}];")
        for feature in self.nodes.values():
            lines += [
                f"  {_quoted(name)} -> {_quoted(feature.name)};" for name in self._origins(feature)
            ]
        return "\n".join([*lines, "}"])

    def render(self, path: str | os.PathLike[str]) -> Path:
        """Draw the graph into a file.

        Parameters
        ----------
        path
            Ends in ``.svg``, ``.png`` or ``.pdf``.

        Returns
        -------
        The path.

        Raises
        ------
        ConfigError
            Graphviz is not installed, or knows no such kind of picture.
        """
        target = Path(path)
        picture = self._draw(target.suffix.removeprefix(".").lower())
        if picture is None:
            raise ConfigError(
                f"{target}: a picture needs Graphviz; install it (apt install graphviz) and "
                "pip install 'oectflow[graph]'"
            )
        target.write_bytes(picture)
        return target

    def _draw(self, kind: str) -> bytes | None:
        try:
            import graphviz
        except ModuleNotFoundError:
            return None
        try:
            picture: bytes = graphviz.Source(self.dot).pipe(format=kind)
        except graphviz.ExecutableNotFound:
            return None
        except ValueError as error:
            raise ConfigError(f"{kind!r} is no kind of picture that Graphviz draws") from error
        return picture

    def _origins(self, feature: Feature) -> Iterator[str]:
        yield from dict.fromkeys(feature.upstream or feature.inputs)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        picture = self._draw("svg")
        drawn = {} if picture is None else {"image/svg+xml": picture.decode()}
        return {"text/plain": str(self)} | drawn

    def __contains__(self, name: object) -> bool:
        return name in self.nodes

    def __len__(self) -> int:
        return len(self.nodes)

    def __str__(self) -> str:
        lines = [
            f"  {feature.name} ← {', '.join(feature.inputs)}: {feature.definition}"
            for feature in self.nodes.values()
        ]
        return "\n".join([f"FeatureSet {self.name!r}", *lines])

    def __repr__(self) -> str:
        return f"<FeatureGraph {self.name!r}: {len(self)} features>"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
