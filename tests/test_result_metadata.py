"""What a result says about itself is written in few bytes, and decoded once for many files."""

from __future__ import annotations

import base64
import json

import pyarrow as pa
import pytest
import xxhash

from oectflow import result_metadata
from oectflow.result_metadata import DefinitionsLost, pack, unpack, without_definitions

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


def expanded(text):
    length, _, packed = text.partition(" ")
    raw = pa.input_stream(pa.py_buffer(base64.b64decode(packed)), compression="zstd").read()
    assert len(raw) == int(length)
    return raw


def test_pack__what_other_programs_need_to_read_it():
    packed = json.loads(pack(METADATA))
    raw = expanded(packed["definitions"])
    assert json.loads(raw)["variables"] == {"tau": {"unit": "s"}, "gm": {"unit": "S"}}
    assert json.loads(expanded(packed["sizes"])) == [[2, 3], []]
    own = json.loads(expanded(packed["features"]))
    assert own["tau"] == {"seconds": 0.5, "counts": {"ok": 4}}


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


def test_pack__definitions_beside_it(tmp_path, monkeypatch):
    raw = pack(METADATA, tmp_path)
    (path,) = tmp_path.iterdir()
    digest = xxhash.xxh3_128_hexdigest(path.read_bytes())
    assert path.name == f"_definitions-{digest}.json"
    assert json.loads(raw)["definitions"] == digest
    assert json.loads(path.read_bytes())["features"]["tau"] == {
        "fingerprint": "ab",
        "params": {"a": 1},
    }
    assert len(raw) < len(pack(METADATA))
    for result in (tmp_path / "a.parquet", tmp_path / "chip_id=7" / "a.parquet"):
        monkeypatch.setattr(result_metadata, "_known", {})
        assert unpack(raw, result) == METADATA
    written = path.stat()
    assert pack(METADATA | {"n_rows": 5}, tmp_path) != raw
    assert path.stat().st_mtime_ns == written.st_mtime_ns


@pytest.mark.parametrize("damage", ["lost", "cut", "no folder"])
def test_unpack__definitions_that_are_not_there(tmp_path, monkeypatch, damage):
    raw = pack(METADATA, tmp_path)
    monkeypatch.setattr(result_metadata, "_known", {})
    monkeypatch.setattr(result_metadata, "_seen", set())
    (path,) = tmp_path.iterdir()
    if damage == "lost":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DefinitionsLost, match=path.name):
        unpack(raw, None if damage == "no folder" else tmp_path / "a.parquet")
    alone = without_definitions(json.loads(raw))
    assert alone["definitions_lost"] == path.name
    assert (alone["n_rows"], alone["identity"]) == (METADATA["n_rows"], METADATA["identity"])
    # The next result writes them again.
    assert pack(METADATA, tmp_path) == raw
    assert unpack(raw, tmp_path / "a.parquet") == METADATA


def test_unpack__as_versions_of_before_wrote_it():
    """Format 2: features of a file as they are, sizes among the definitions."""
    now = json.loads(pack(METADATA))
    features = json.loads(expanded(now["features"]))
    text = json.dumps(
        {
            "features": {
                name: {k: v for k, v in entry.items() if k not in features[name]}
                for name, entry in METADATA["features"].items()
            },
            "variables": METADATA["variables"],
        }
    )
    packed = base64.b64encode(pa.Codec("zstd").compress(text.encode(), asbytes=True)).decode()
    before = {k: v for k, v in METADATA.items() if k != "variables"} | {
        "features": features,
        "definitions": f"{len(text)} {packed}",
    }
    assert unpack(json.dumps(before).encode()) == METADATA
