"""One page per extractor, written from what the extractor says of itself."""

from __future__ import annotations

import re
import types
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from feature_pictures import draw
from sphinx.pycode import ModuleAnalyzer

import oectflow as of
from oectflow.extractors.base import COMMON_STATUSES, BaseExtractor, Variable
from oectflow.measurement import kinds
from oectflow.pipeline.features.config import list_bundled
from oectflow.pipeline.features.feature import STATUSES, column_name

_COMPARISONS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}


def built_in() -> list[BaseExtractor]:
    """Return every extractor that comes with oectflow, with its default parameters."""
    extractors = [of.get_extractor(name) for name in of.extractor_names()]
    return [one for one in extractors if type(one).__module__.startswith("oectflow.")]


def write_pages(docs: Path) -> None:
    """Write the pages, their pictures, and the tables that lead to them.

    Parameters
    ----------
    docs
        Root of the documentation.
    """
    folder = docs / "features"
    folder.mkdir(exist_ok=True)
    extractors = built_in()
    for extractor in extractors:
        picture = f"{extractor.name}.png"
        draw(extractor, folder / picture)
        _write(folder / f"{extractor.name}.md", page(extractor, picture))
    _write(folder / "index.md", index(extractors))
    _write(docs / "reference" / "status.md", status_words(extractors))


def index(extractors: Iterable[BaseExtractor]) -> str:
    """Return the page with the table of all extractors, by the data they need."""
    parts = ["# Features", ""]
    for source, kind in kinds().items():
        ours = [one for one in extractors if one.source == source]
        if not ours:
            continue
        rows = [
            (f"[`{one.name}`]({one.name}.md)", unit(one.unit), escape(one.description))
            for one in ours
        ]
        parts += [f"## {kind.title}", "", *table(("extractor", "unit", "what it is"), rows), ""]
    pages = [one.name for one in extractors]
    return "\n".join([*parts, "```{toctree}", ":hidden:", "", *pages, "```"])


def page(extractor: BaseExtractor, picture: str) -> str:
    """Return the page of an extractor.

    Parameters
    ----------
    extractor
        With its default parameters.
    picture
        Path of its picture, seen from the page.
    """
    short = extractor.name.rpartition(".")[2]
    parts = [
        f"# `{extractor.name}`",
        f"{escape(extractor.description)}, in {unit(extractor.unit)}.",
        f"![{extractor.name} on simulated data]({picture})",
        "## Definition",
        prose(extractor.definition.rstrip(".") + "."),
        "```{math}\n" + extractor.formula + "\n```",
        "*Reference:* " + link_doi(extractor.reference),
        "```python\n"
        f'of.extract("raw/", {{"{short}": {{"extractor": "{extractor.name}", '
        f'"input": "{extractor.source}"}}}}, "features/")\n```',
        "## Parameters",
    ]
    parameters = list(parameter_rows(extractor))
    if parameters:
        heads = ("parameter", "values", "default", "meaning")
        parts.append("\n".join(table(heads, parameters)))
    else:
        parts.append("None.")
    parts += [
        "## What it yields",
        f"For a feature called `{short}`, with the default parameters:",
        "\n".join(table(("variable", "unit", "per step", "what it is"), variable_rows(extractor))),
        "## Status words",
    ]
    words = extractor.variables["status"].statuses
    rows = [(f"`{word}`", escape(meaning)) for word, meaning in words.items()]
    parts.append("\n".join(table(("word", "meaning"), rows)))
    uses = list(bundled_uses(extractor.name))
    if uses:
        parts += ["## In bundled sets", "\n".join(f"- {use}" for use in uses)]
    return "\n\n".join(parts)


def status_words(extractors: Iterable[BaseExtractor]) -> str:
    """Return the page of all status words: meaning, and the features that use them."""
    users: dict[tuple[str, str], list[str]] = {}
    for extractor in extractors:
        for word, meaning in extractor.variables["status"].statuses.items():
            users.setdefault((word, meaning), []).append(extractor.name)
    everywhere = {**COMMON_STATUSES, "undefined": STATUSES["undefined"]}
    common = [(f"`{word}`", escape(meaning)) for word, meaning in everywhere.items()]
    rows = [
        (f"`{word}`", escape(meaning), ", ".join(f"[{n}](../features/{n}.md)" for n in names))
        for (word, meaning), names in sorted(users.items())
        if word not in COMMON_STATUSES
    ]
    return "\n".join(
        [
            "# Status words",
            "",
            "Every feature `f` has a variable `f_status`. These words can stand in any of them,",
            "`undefined` where a feature is derived from others:",
            "",
            *table(("word", "meaning"), common),
            "",
            "## By word",
            "",
            *table(("word", "meaning", "features"), rows),
        ]
    )


def parameter_rows(extractor: BaseExtractor) -> Iterator[tuple[str, str, str, str]]:
    """Yield name, values, default and meaning of each parameter."""
    if extractor.Params is None:
        return
    meanings = parameter_meanings(extractor.Params)
    for name, field in extractor.Params.model_fields.items():
        limits = [
            f"{sign} {limit:g}"
            for constraint in field.metadata
            for key, sign in _COMPARISONS.items()
            if (limit := getattr(constraint, key, None)) is not None
        ]
        values = ", ".join([kind(field.annotation), *limits])
        yield f"`{name}`", values, f"`{_default(field.default)}`", prose(meanings.get(name, ""))


def _default(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else repr(value)


def parameter_meanings(params: type[of.Params]) -> dict[str, str]:
    """Return what the comments ``#:`` above the fields of a parameter class say."""
    meanings: dict[str, str] = {}
    for cls in reversed(params.__mro__):
        if issubclass(cls, of.Params) and cls is not of.Params:
            found = ModuleAnalyzer.for_module(cls.__module__).find_attr_docs()
            meanings |= {
                name: " ".join(lines).strip()
                for (owner, name), lines in found.items()
                if owner == cls.__qualname__
            }
    return meanings


def variable_rows(extractor: BaseExtractor) -> Iterator[tuple[str, str, str, str]]:
    """Yield name in the results, unit, shape and meaning of each variable."""
    short = extractor.name.rpartition(".")[2]
    for name, variable in extractor.variables.items():
        measure = "word" if variable.statuses else unit(variable.unit)
        yield (
            f"`{column_name(short, name)}`",
            measure,
            shape(variable),
            escape(variable.description),
        )


def shape(variable: Variable) -> str:
    """Return the axes of a variable in words."""
    if not variable.dims:
        return "one number" if not variable.statuses else "one"
    axes = []
    for dim, size in zip(variable.dims, variable.shape, strict=True):
        labels = variable.labels.get(dim)
        axes.append(f"{dim} ({', '.join(labels)})" if labels else f"{dim} ({size})")
    return escape(" × ".join(axes))


def bundled_uses(name: str) -> Iterator[str]:
    """Yield a line for each bundled feature set that uses an extractor."""
    for bundled in list_bundled():
        features = [
            f"`{feature.name}`" + _given(feature.to_config().get("params"))
            for feature in of.FeatureSet.load(bundled).extracted
            if feature.extractor is not None and feature.extractor.name == name
        ]
        if features:
            yield f"`{bundled}`: {', '.join(features)}"


def _given(params: Mapping[str, Any] | None) -> str:
    words = ", ".join(f"{name}={value!r}" for name, value in (params or {}).items())
    return f" ({escape(words)})" if words else ""


def kind(annotation: Any) -> str:
    """Return a type as a reader wants it: the words that are possible, or what sort of number."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{word}`" for word in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(kind(one) for one in inner)
    if origin is Annotated:
        return kind(inner[0])
    if origin is dict:
        return f"{kind(inner[0])}: {kind(inner[1])}"
    if origin is tuple and inner[-1] is Ellipsis:
        return f"any of {kind(inner[0])}"
    if origin is tuple:
        return f"({', '.join(kind(one) for one in inner)})"
    return "None" if annotation is types.NoneType else str(annotation.__name__)


def unit(symbol: str) -> str:
    """Return a unit for people; 1 for a pure number."""
    powers = re.sub(r"\^(-?\d+)", lambda match: f"<sup>{match[1]}</sup>", escape(symbol, keep="^"))
    return powers or "1"


def link_doi(text: str) -> str:
    """Return a reference whose DOI is a link."""
    return re.sub(r"doi:(\S+?)(?=[\s,;]|$)", lambda match: f"<https://doi.org/{match[1]}>", text)


def prose(text: str) -> str:
    """Return text with ``code`` between double backticks as Markdown."""
    parts = text.split("``")
    return "".join(f"`{part}`" if i % 2 else escape(part) for i, part in enumerate(parts))


def escape(text: str, keep: str = "") -> str:
    """Return plain text as Markdown that shows it."""
    special = set("\\`*_{}[]<>#|$~^") - set(keep)
    return "".join(f"\\{letter}" if letter in special else letter for letter in text)


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _write(path: Path, text: str) -> None:
    # An unchanged page keeps its time, so that Sphinx need not read it again.
    if not path.exists() or path.read_text(encoding="utf-8") != text + "\n":
        path.write_text(text + "\n", encoding="utf-8")
