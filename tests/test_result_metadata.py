"""What a result says about itself is written in few bytes, and decoded once for many files."""

from __future__ import annotations

import base64
import json

import pyarrow as pa
import pytest

from oectflow.result_metadata import pack, unpack

METADATA = {
    "format": 2,
    "n_rows": 4,
    "identity": {"experiment_id": "µ 1"},
    "features": {
        "tau": {"fingerprint": "ab", "params": {"a": 1}, "seconds": 0.5, "counts": {"ok": 4}},
        "gm": {
            "fingerprint": "cd",
            "params": {},
            "seconds": 0.25,
            "counts": {},
            "sample": {"W": 1},
        },
    },
    "variables": {"tau": {"unit": "s", "sizes": [2, 3]}, "gm": {"unit": "S", "sizes": []}},
}


def test_pack__comes_back():
    assert unpack(pack(METADATA)) == METADATA
    assert unpack(pack(METADATA | {"features": {}, "variables": {}}))["variables"] == {}


def test_unpack__what_was_never_packed():
    assert unpack(json.dumps(METADATA).encode()) == METADATA


def test_pack__what_other_programs_need_to_read_it():
    packed = json.loads(pack(METADATA))
    length, _, text = packed["definitions"].partition(" ")
    raw = pa.input_stream(pa.py_buffer(base64.b64decode(text)), compression="zstd").read()
    assert len(raw) == int(length)
    assert json.loads(raw)["variables"] == METADATA["variables"]
    assert packed["features"]["tau"] == {"seconds": 0.5, "counts": {"ok": 4}}


def test_unpack__files_that_say_the_same_share_it():
    other = METADATA | {"n_rows": 5, "identity": {"experiment_id": "2"}}
    one, two = unpack(pack(METADATA)), unpack(pack(other))
    assert one["variables"] is two["variables"]
    assert one["features"]["tau"]["params"] is two["features"]["tau"]["params"]


def test_pack__no_nan():
    with pytest.raises(ValueError, match="JSON"):
        pack(METADATA | {"n_rows": float("nan")})


@pytest.mark.parametrize(
    "definitions",
    ["", "12", "x AA==", "-1 AA==", "99999999999 AA==", "4 !!!!", "4 AAAA", "1 KLUv/SABCAAA"],
)
def test_unpack__damaged(definitions):
    packed = json.loads(pack(METADATA)) | {"definitions": definitions}
    with pytest.raises(ValueError):  # noqa: PT011 - of JSON, base64, zstd and int
        unpack(json.dumps(packed).encode())
