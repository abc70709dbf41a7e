"""Docstrings in numpydoc style, read by napoleon with the two habits of this house.

"Returns" is prose without names and types, and the one line of an attribute is a sentence, which
may have a colon in it; napoleon by itself takes what stands before as a type.
"""

from __future__ import annotations

import re
from collections import namedtuple
from typing import Any

from sphinx import addnodes
from sphinx.ext.napoleon import Config, NumpyDocstring

_TUPLE_FIELD = type(namedtuple("_Pair", "first").first)  # type: ignore[attr-defined]
_CONFIG = Config(napoleon_custom_sections=["Returns"], napoleon_attr_annotations=False)


def _without_substitutions(line: str) -> str:
    """Escape bars, which for us stand around a magnitude and not around a substitution of reST."""
    if line.lstrip().startswith((">>>", "...")):
        return line
    parts = line.split("``")
    return "``".join(
        part if i % 2 else re.sub(r"(?<!\\)\|(?=\S[^|]*\|)", r"\\|", part)
        for i, part in enumerate(parts)
    )


def _process(_app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = [_without_substitutions(line) for line in lines]
    what = "object" if what in ("attribute", "data", "property") else what
    lines[:] = NumpyDocstring(lines, _CONFIG, None, what, name, obj, options).lines()


def _fields(_app: Any, _what: str, _name: str, obj: Any, _skip: bool, _options: Any) -> bool | None:
    # "Alias for field number 0": what a field of a NamedTuple is stands in "Attributes".
    return True if isinstance(obj, _TUPLE_FIELD) else None


def _signature(
    _app: Any, _what: str, _name: str, _obj: Any, _options: Any, arguments: str | None, result: Any
) -> tuple[str | None, Any]:
    # Python shows the default of a dataclass field with a factory as something that is no Python.
    return arguments and arguments.replace("<factory>", "..."), result


def _short_name(app: Any, env: Any, node: Any, text: Any) -> Any:
    """Find what a docstring calls by its last name, wherever its page stands.

    The types in a signature are linked where that is possible; only a reference that somebody has
    written has to lead somewhere.
    """
    if node.get("refdomain") != "py" or node.get("refspecific"):
        return None
    node["refspecific"] = True
    found = env.domains["py"].resolve_xref(
        env, node["refdoc"], app.builder, node["reftype"], node["reftarget"], node, text
    )
    del node["refspecific"]
    # A module is named for those who read the code; it has no page.
    if found is None and (node["reftype"] == "mod" or _in_signature(node)):
        return text
    return found


def _in_signature(node: Any) -> bool:
    while node is not None:
        if isinstance(node, addnodes.desc_signature):
            return True
        node = node.parent
    return False


def setup(app: Any) -> dict[str, bool]:
    """Let it see every docstring."""
    app.connect("autodoc-process-docstring", _process)
    app.connect("autodoc-process-signature", _signature)
    app.connect("autodoc-skip-member", _fields)
    app.connect("missing-reference", _short_name)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
