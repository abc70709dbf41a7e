"""benchmarks/fuzz.py, small: damaged files kill and hang nobody, and samples have checksums."""

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def fuzz():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import fuzz

        yield fuzz
    finally:
        sys.path.remove(str(BENCHMARKS))


def test_damage_at_random(fuzz, tmp_path):
    found = fuzz.fuzz(64, 3, tmp_path)
    assert not found["killed or hanging"]
    assert sum(found["counts"].values()) == 64
    assert any(key.endswith("refused") for key in found["counts"])
    # What else changes without a word has no checksum in HDF5.
    protected = [part for part in found["silent"] if part.startswith("fletcher32:")]
    assert not [part for part in protected if part.endswith("samples")]
    assert any(part == "plain: transient samples" for part in found["silent"])
