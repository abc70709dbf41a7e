"""What a result file says about itself, in few bytes.

In the footer stands JSON under ``oectflow``.  What files of one run have in common, which are the
definitions of features and variables, is nearly all of it: these stand under ``definitions``, as
JSON that is compressed (zstd) and encoded (base64), and are decoded once for all files that say the
same.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import pyarrow as pa

KEY = b"oectflow"
#: What is said of a feature for one experiment; all else is part of its definition.
_OWN = ("seconds", "counts", "sample")
_LEVEL = 9
#: More than any set of features: a damaged file must not take all memory.
_MOST_BYTES = 2**26
#: Sets of definitions that are kept decoded.
_MOST = 64


def pack(metadata: Mapping[str, Any]) -> bytes:
    """Return metadata as they are written.

    Parameters
    ----------
    metadata
        JSON-serialisable, with ``features`` and ``variables``.

    Raises
    ------
    ValueError
        There is a NaN in it.
    """
    features = metadata["features"]
    own = {
        name: {key: value for key, value in entry.items() if key in _OWN}
        for name, entry in features.items()
    }
    common = {
        "features": {
            name: {key: value for key, value in entry.items() if key not in _OWN}
            for name, entry in features.items()
        },
        "variables": metadata["variables"],
    }
    rest = {key: value for key, value in metadata.items() if key != "variables"}
    packed = rest | {"features": own, "definitions": _compressed(_json(common))}
    return _json(packed).encode()


def unpack(raw: bytes) -> dict[str, Any]:
    """Return metadata as they were before they were packed.

    Parameters
    ----------
    raw
        What stands in the footer; or JSON that was never packed.

    Returns
    -------
    Definitions that several files have in common are the same objects: do not change them.

    Raises
    ------
    ValueError, KeyError, TypeError, AttributeError
        That are no such metadata.
    """
    metadata: dict[str, Any] = json.loads(raw)
    if "definitions" not in metadata:
        return metadata
    common = _definitions(metadata.pop("definitions"))
    features = metadata["features"]
    metadata["features"] = {
        name: common["features"][name] | entry for name, entry in features.items()
    }
    return metadata | {"variables": common["variables"]}


def _json(value: Any) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def _compressed(text: str) -> str:
    codec = pa.Codec("zstd", compression_level=_LEVEL)
    data = text.encode()
    packed = base64.b64encode(codec.compress(data, asbytes=True)).decode()
    return f"{len(data)} {packed}"


@lru_cache(_MOST)
def _definitions(text: str) -> dict[str, Any]:
    length, _, packed = text.partition(" ")
    if not 0 <= int(length) <= _MOST_BYTES:
        raise ValueError(f"definitions of {length} bytes")
    try:
        data = pa.Codec("zstd").decompress(
            base64.b64decode(packed, validate=True), decompressed_size=int(length), asbytes=True
        )
    except OSError as error:
        raise ValueError(f"definitions: {error}") from error
    common: dict[str, Any] = json.loads(data)
    return common
