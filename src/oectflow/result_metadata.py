"""What a result file says about itself, in few bytes.

In the footer stands JSON under ``oectflow``.  What files of one run have in common, which are the
definitions of features and variables, is nearly all of it.  Of a file with few rows these stand in
a file beside it, ``_definitions-<digest>.json``, which ``definitions`` names by the XXH3-128 of its
bytes; else they stand there as JSON that is compressed (zstd) and encoded (base64).  Either way
they are decoded once for all files that say the same.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import xxhash

from oectflow.atomic_write import atomic_write

KEY = b"oectflow"
#: What is said of a feature for one experiment; all else is part of its definition.
_OWN = ("seconds", "counts", "sample")
#: What is said of a file and is the same in all of a run, beside features and variables.
_COMMON = ("config", "expand_multidim", "versions")
#: By what results may be divided into folders.
PARTITIONS = ("chip_id", "device_id")
_CODEC = pa.Codec("zstd", compression_level=9)
#: More than any set of features: a damaged file must not take all memory.
_MOST_BYTES = 2**26
#: Sets of definitions that are kept decoded, and of sizes that variables have.
_MOST = 64
_DIGEST = re.compile("[0-9a-f]{32}")


class DefinitionsLost(ValueError):
    """The file that has the definitions is not beside the result, or is another one."""


def pack(metadata: Mapping[str, Any], folder: Path | None = None) -> bytes:
    """Return metadata as they are written.

    Parameters
    ----------
    metadata
        JSON-serialisable, with ``features`` and ``variables``.  Times are kept to three digits.
    folder
        Where a file with the definitions is written, unless it is there; by default they are part
        of what is returned.

    Raises
    ------
    ValueError
        There is a NaN in it.
    OSError
        The folder cannot be written.
    """
    features, variables = metadata["features"], metadata["variables"]
    own = {
        name: {key: _short(value) for key, value in entry.items() if key in _OWN}
        for name, entry in features.items()
    }
    common = {key: metadata[key] for key in _COMMON if key in metadata} | {
        "features": {
            name: {key: value for key, value in entry.items() if key not in _OWN}
            for name, entry in features.items()
        },
        "variables": {
            name: {key: value for key, value in entry.items() if key != "sizes"}
            for name, entry in variables.items()
        },
    }
    sizes = [entry["sizes"] for entry in variables.values()]
    text = _json(common)
    rest = {k: v for k, v in metadata.items() if k not in (*_COMMON, "features", "variables")}
    packed = rest | {
        "features": _compressed(_json(own)),
        "sizes": _compressed(_json(sizes)),
        "definitions": _compressed(text) if folder is None else _stored(folder, text.encode()),
    }
    return _json(packed).encode()


def unpack(raw: bytes | Mapping[str, Any], result: Path | None = None) -> dict[str, Any]:
    """Return metadata as they were before they were packed.

    Parameters
    ----------
    raw
        What stands in the footer, or the object that it is in JSON; or what was never packed.
    result
        The file that says so; its definitions may stand beside it.

    Returns
    -------
    Definitions that several files have in common are the same objects: do not change them.

    Raises
    ------
    DefinitionsLost
        The file with the definitions is not there.
    ValueError, KeyError, TypeError, AttributeError
        That are no such metadata.
    """
    metadata: dict[str, Any] = dict(raw) if isinstance(raw, Mapping) else json.loads(raw)
    if "definitions" not in metadata:
        return metadata
    definitions = metadata.pop("definitions")
    if _DIGEST.fullmatch(definitions):
        common = _loaded(definitions, result)
    else:
        common = _definitions(definitions)
    own = metadata["features"]
    if isinstance(own, str):
        own = json.loads(_expanded(own))
        variables = _sized(_Same(common["variables"]), metadata.pop("sizes"))
    else:
        # As format 2 has it.
        variables = common["variables"]
    features = {name: common["features"][name] | entry for name, entry in own.items()}
    shared = {key: common[key] for key in _COMMON if key in common}
    return metadata | shared | {"features": features, "variables": variables}


def without_definitions(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a file says alone: all but what its features and variables are."""
    metadata = dict(raw)
    name = definitions_name(metadata.pop("definitions"))
    del metadata["sizes"]
    lost = {"config": "", "expand_multidim": False, "features": {}, "variables": {}}
    return metadata | lost | {"definitions_lost": name}


def definitions_folder(result: Path) -> Path:
    """Return the folder in which the definitions of a result stand: that of the run."""
    return result.parent.parent if partition_key(result) else result.parent


def partition_key(result: Path) -> str | None:
    """Return what the folder of a result stands for, None where it holds all of a run."""
    key, equals, _ = result.parent.name.partition("=")
    return key if equals and key in PARTITIONS else None


def definitions_name(digest: str) -> str:
    """Return the name of the file with the definitions that have this digest."""
    return f"_definitions-{digest}.json"


class _Same:
    """Stands for an object, which files that say the same have in common."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.value is self.value


@lru_cache(_MOST)
def _sized(variables: _Same, sizes: str) -> dict[str, Any]:
    known = json.loads(_expanded(sizes))
    return {
        name: entry | {"sizes": size}
        for (name, entry), size in zip(variables.value.items(), known, strict=True)
    }


def _short(value: Any) -> Any:
    return float(f"{value:.3g}") if isinstance(value, float) else value


def _json(value: Any) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def _compressed(text: str) -> str:
    data = text.encode()
    packed = base64.b64encode(_CODEC.compress(data, asbytes=True)).decode()
    return f"{len(data)} {packed}"


def _expanded(text: str) -> bytes:
    length, _, packed = text.partition(" ")
    if not 0 <= int(length) <= _MOST_BYTES:
        raise ValueError(f"definitions of {length} bytes")
    try:
        return bytes(
            _CODEC.decompress(
                base64.b64decode(packed, validate=True), decompressed_size=int(length), asbytes=True
            )
        )
    except OSError as error:
        raise ValueError(f"definitions: {error}") from error


@lru_cache(_MOST)
def _definitions(text: str) -> dict[str, Any]:
    common: dict[str, Any] = json.loads(_expanded(text))
    return common


def _stored(folder: Path, data: bytes) -> str:
    """Write definitions, unless they are there, and return their digest."""
    digest = xxhash.xxh3_128_hexdigest(data)
    path = folder / definitions_name(digest)
    # Read once in a process; whether it is there costs little.
    if path not in _seen or not path.exists():
        if not path.exists() or path.read_bytes() != data:
            with atomic_write(path) as temporary:
                temporary.write_bytes(data)
        _seen.add(path)
    return digest


#: Files with definitions that this process has looked at.
_seen: set[Path] = set()
_known: dict[str, dict[str, Any]] = {}


def _loaded(digest: str, result: Path | None) -> dict[str, Any]:
    """Return the definitions that stand in a file; what has this digest is always the same."""
    if digest in _known:
        return _known[digest]
    path = Path(definitions_name(digest))
    if result is None:
        raise DefinitionsLost(f"the definitions stand in {path}; name the result beside it")
    path = definitions_folder(result) / path
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES)
    except OSError as error:
        raise DefinitionsLost(f"{path}: {error.strerror or error}") from error
    if xxhash.xxh3_128_hexdigest(data) != digest:
        raise DefinitionsLost(f"{path}: was cut or changed")
    if len(_known) >= _MOST:
        _known.clear()
    common: dict[str, Any] = json.loads(data)
    _known[digest] = common
    return common
