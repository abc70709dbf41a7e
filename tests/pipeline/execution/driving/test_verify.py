"""Files that were changed without a trace: found by their content, where that is asked for."""

import os

import h5py
import pytest

import oectflow as of
from oectflow.errors import CatalogError, ConfigError
from oectflow.pipeline.inputs.catalog import Catalog
from oectflow.pipeline.inputs.hdf5 import FileIdentity
from oectflow.pipeline.inputs.simulate import simulate_device
from oectflow.pipeline.outputs.sink import read_metadata

PEAK = {"peak": {"extractor": "transient.peak_current", "input": "transient"}}


@pytest.fixture
def lab(tmp_path):
    (tmp_path / "raw").mkdir()
    for i in range(2):
        simulate_device(
            i, n_transfer=1, n_transient=2, n_points=21, n_cycles=3, test_id=f"test_{i}"
        ).write(tmp_path / "raw" / f"a-test_{i}.h5")
    of.extract(tmp_path / "raw", PEAK, tmp_path / "out", progress=False)
    return tmp_path


def changed_without_a_trace(path):
    """Write other text of the same length, and put size and time back."""
    before = path.stat()
    with h5py.File(path, "r+") as file:
        file.attrs.modify("description", file.attrs["description"][::-1])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    return path


def test_extract(lab):
    changed_without_a_trace(lab / "raw" / "a-test_1.h5")
    assert of.extract(lab / "raw", PEAK, lab / "out", progress=False).counts == {"unchanged": 2}
    found = of.extract(lab / "raw", PEAK, lab / "out", verify="content", progress=False)
    assert [r.outcome for r in found.experiments] == ["unchanged", "done"]
    again = of.extract(lab / "raw", PEAK, lab / "out", verify="content", progress=False)
    assert again.counts == {"unchanged": 2}


def test_extract__results(lab):
    path = lab / "out" / "test_0.parquet"
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    assert of.extract(lab / "raw", PEAK, lab / "out", progress=False).counts == {"unchanged": 2}
    found = of.extract(lab / "raw", PEAK, lab / "out", verify="content", progress=False)
    assert [r.outcome for r in found.experiments] == ["done", "unchanged"]
    assert "damaged, and replaced: " in found.summary()


def test_scan(lab):
    with Catalog(lab / "c.db") as catalog:
        catalog.scan(lab / "raw")
        changed_without_a_trace(lab / "raw" / "a-test_1.h5")
        path = lab / "raw" / "a-test_0.h5"
        # Times of a moment ago are looked at in any case.
        for one in (path, lab / "raw" / "a-test_1.h5"):
            os.utime(one, ns=(10**18, 10**18))
        catalog.scan(lab / "raw")
        changed_without_a_trace(path)
        assert catalog.scan(lab / "raw").counts["unchanged"] == 2
        assert catalog.scan(lab / "raw", verify="content").counts["changed"] == 1
        assert catalog.scan(lab / "raw", verify="content").counts["unchanged"] == 2


def test_a_file_that_is_swapped_before_it_is_hashed_is_never_taken_for_unchanged(lab, monkeypatch):
    path = lab / "raw" / "a-test_1.h5"
    hashed = FileIdentity.content_hash

    def swapped(self, name):
        os.utime(name, ns=(5, 5))
        return hashed(self, name)

    monkeypatch.setattr(FileIdentity, "content_hash", swapped)
    of.extract(path, PEAK, lab / "new", progress=False)
    assert read_metadata(lab / "new" / "test_1.parquet")["source"]["content_hash"] == ""
    assert of.extract(path, PEAK, lab / "new", progress=False).counts == {"done": 1}


def test_other_words(lab):
    with pytest.raises(ConfigError, match=r"verify='contents'.*content"):
        of.extract(lab / "raw", PEAK, lab / "out", verify="contents", progress=False)
    with Catalog(lab / "c.db") as catalog, pytest.raises(CatalogError, match="verify="):
        catalog.scan(lab / "raw", verify="all")
