"""Configuration files that people write and send each other: YAML or JSON, read within limits.

A file may be damaged, or made to do harm: nothing in it is executed, and it is refused before it
can take much time or memory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml

from oectflow.errors import OectflowError

#: Real ones have a few KB.
MAX_BYTES = 256 * 1024
#: Values, with every alias written out.
MAX_NODES = 50_000


def read_config_file(
    path: Path | Traversable, raises: type[OectflowError], *, as_text: bool = False
) -> Any:
    """Return what a YAML file contains, or a JSON file, if its name ends in ``.json``.

    Parameters
    ----------
    path
        The file.
    raises
        The error to raise.
    as_text
        Leave everything in YAML the text that it is: a chip called 007 is no number.

    Raises
    ------
    FileNotFoundError
        There is none: the caller knows what to do then.
    OectflowError
        Of the kind asked for: it cannot be read, is too large, or is neither YAML nor JSON.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise raises(f"{path}: cannot be read ({error})") from None
    if len(raw) > MAX_BYTES:
        raise raises(f"{path}: larger than {MAX_BYTES // 1024} KiB; is it a configuration?")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise raises(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    try:
        return (
            _parse_json(text) if path.name.lower().endswith(".json") else _parse_yaml(text, as_text)
        )
    except RecursionError:
        raise raises(f"{path}: nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:
        reason = re.sub(r"\s+", " ", str(error))[:300]
        raise raises(f"{path}: not valid: {reason}") from None


def shorten(value: Any) -> str:
    """Return a value for a message; a hostile file can hold some whose full text is enormous."""
    if isinstance(value, str):
        return repr(value if len(value) <= 80 else f"{value[:79]}…")
    if isinstance(value, (int, float, bool)) or value is None:
        return repr(value) if not isinstance(value, int) or value.bit_length() < 256 else "a number"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    if isinstance(value, Mapping):
        keys = ", ".join(str(key)[:40] for key in list(value)[:5])
        return f"a mapping with the keys {keys}" if value else "an empty mapping"
    return f"a {type(value).__name__}"


def _parse_json(text: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            raise ValueError(
                f"key {next(k for k in keys if keys.count(k) > 1)[:80]!r} stands twice"
            )
        return found

    return json.loads(text, object_pairs_hook=unique)


def _parse_yaml(text: str, as_text: bool) -> Any:
    # The parser in Python: the one in C lets a deeply nested file crash the process.
    root = yaml.compose(text, yaml.SafeLoader)
    if root is None:
        return None
    _count_nodes(root, {}, set())
    return yaml.load(text, yaml.BaseLoader) if as_text else yaml.safe_load(text)


def _count_nodes(node: yaml.Node, counted: dict[int, int], open_nodes: set[int]) -> int:
    """Return the number of nodes with every alias written out, so that none can explode."""
    key = id(node)
    if key in counted:
        return counted[key]
    if key in open_nodes:
        raise ValueError(f"line {node.start_mark.line + 1}: an alias contains itself")
    open_nodes.add(key)
    total = 1
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for name, value in node.value:
            if isinstance(name, yaml.ScalarNode) and name.tag != "tag:yaml.org,2002:merge":
                if name.value in seen:
                    line = name.start_mark.line + 1
                    raise ValueError(f"line {line}: key {name.value[:80]!r} stands twice")
                seen.add(name.value)
            total += _count_nodes(name, counted, open_nodes)
            total += _count_nodes(value, counted, open_nodes)
    elif isinstance(node, yaml.SequenceNode):
        total += sum(_count_nodes(item, counted, open_nodes) for item in node.value)
    if total > MAX_NODES:
        raise ValueError(f"more than {MAX_NODES} values once all aliases are written out")
    open_nodes.discard(key)
    counted[key] = total
    return total
