"""Repacked files hold the same bits, read faster, and appear whole or not at all."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest

import oectflow as of
from oectflow.errors import InputError, UnreadableFile
from oectflow.pipeline.inputs import chunks, repack
from oectflow.pipeline.inputs.experiment import Experiment
from oectflow.pipeline.inputs.simulate import simulate_device

pytest.importorskip("hdf5plugin")

BLOSC, FLETCHER32 = 32001, 3
PEER_FILES = Path(__file__).parents[4] / "shared" / "data" / "oect_infra"


@pytest.fixture
def raw(tmp_path):
    """One experiment with everything that HDF5 has and nobody expects."""
    folder = tmp_path / "raw" / "chip"
    folder.mkdir(parents=True)
    path = folder / "device.h5"
    simulate_device(3, n_transfer=5, n_transient=7, n_points=31, n_cycles=6, period=0.05).write(
        path
    )
    with h5py.File(path, "r+") as file:
        data = file["transient/measurement_data"]
        # A signalling NaN with a payload, and a negative zero.
        data[2, 10] = np.array([0x7FF4DEADBEEF0001], np.uint64).view(np.float64)[0]
        data[2, 11] = -0.0
        file.attrs["vlen"] = "variable, 长"
        file.attrs["fixed"] = np.bytes_("fixed")
        file.attrs["empty"] = h5py.Empty("f4")
        file.attrs["array"] = np.arange(6, dtype=">i2").reshape(2, 3)
        file.attrs["words"] = np.array(["a", "ß"], h5py.string_dtype())
        file["notes"] = np.array([b"x" * 5, b"y"])
        file["soft"] = h5py.SoftLink("/transient/measurement_data")
        file["gone"] = h5py.SoftLink("/nowhere")
        file["again"] = file["transient/measurement_data"]
        group = file.create_group("extra/inner")
        group.attrs["answer"] = 42
        group.create_dataset("ragged", data=np.arange(10), chunks=(3,), maxshape=(None,))
        group["parent"] = file["extra"]
    return path


def stored(path):
    """Everything in a file, by name: read with h5py alone, not with what is tested."""
    found = {}
    with h5py.File(path) as file:

        def visit(name, item):
            attributes = {
                key: (item.attrs.get_id(key).dtype, np.asarray(item.attrs[key]).tolist())
                for key in item.attrs
                if not isinstance(item.attrs[key], h5py.Empty)
            }
            empty = sorted(k for k in item.attrs if isinstance(item.attrs[k], h5py.Empty))
            value = None
            if isinstance(item, h5py.Dataset):
                array = item[()]
                bits = array.tobytes() if item.dtype.kind in "fiuSV" else np.asarray(array).tolist()
                value = (item.dtype, item.shape, item.maxshape, item.fillvalue, bits)
            found[name] = (type(item), attributes, empty, value)

        visit("/", file)
        file.visititems(visit)
        file.visit_links(
            lambda name: found.setdefault(f"link {name}", repr(vars(file.get(name, getlink=True))))
        )
    return found


def same(left, right):
    assert left.keys() == right.keys()
    for name, (kind, attributes, empty, value) in (
        (n, v) for n, v in left.items() if not n.startswith("link ")
    ):
        other = right[name]
        assert (kind, attributes, empty) == other[:3], name
        np.testing.assert_equal(value, other[3])
    for name in left:
        if name.startswith("link "):
            assert left[name] == right[name]


def test_every_bit_attribute_type_and_link_stays(raw, tmp_path):
    report = of.repack(raw.parents[1], tmp_path / "fast", workers=1)
    new = tmp_path / "fast" / "chip" / "device.h5"
    assert [record.status for record in report.records] == ["written"]
    assert report.records[0].path == new
    assert report.records[0].bytes_before == raw.stat().st_size
    same(stored(raw), stored(new))
    with h5py.File(new) as file:
        assert file["again"] == file["transient/measurement_data"]
        assert file["extra/inner/parent"] == file["extra"]
        for source, expected in (("transfer", (5, 2, 31)), ("transient", (1, 1200))):
            dataset = file[source]["measurement_data"]
            pipeline = dataset.id.get_create_plist()
            codes = [pipeline.get_filter(i)[0] for i in range(pipeline.get_nfilters())]
            assert codes == [BLOSC, FLETCHER32]
            assert dataset.chunks == expected


@pytest.mark.skipif(not PEER_FILES.exists(), reason="no reference files beside the checkout")
def test_files_of_other_writers(tmp_path):
    for path in sorted(PEER_FILES.glob("#*.h5")):
        record = repack.repack_file(path, tmp_path / path.name)
        assert record.status == "written", record.reason
        same(stored(path), stored(record.path))


@pytest.mark.parametrize(
    "storage",
    [{}, {"dtype": "f4"}, {"dtype": ">f8"}, {"chunks": (3, 64), "compression": "lzf"},
     {"chunks": (1, 64), "maxshape": (3, None), "fillvalue": 7.0}],
    ids=str,
)  # fmt: skip
def test_samples_of_any_layout(raw, tmp_path, storage):
    with h5py.File(raw, "r+") as file:
        data = file["transient/measurement_data"][()]
        for name in ("again", "transient/measurement_data"):
            del file[name]
        # A signalling NaN does not fit into float32.
        with np.errstate(invalid="ignore"):
            data = data.astype(storage.get("dtype", "f8"))
        file["transient"].create_dataset("measurement_data", data=data, **storage)
    record = repack.repack_file(raw, tmp_path / "new.h5")
    assert record.status == "written", record.reason
    same(stored(raw), stored(record.path))


def test_the_same_features(raw, tmp_path):
    of.repack(raw, tmp_path / "fast", workers=1)
    features = {
        name.partition(".")[2]: {"extractor": name, "input": name.partition(".")[0]}
        for name in ("transient.tau_on_off", "transient.peak_current", "transfer.gm_max")
    }
    frames = []
    for source in (raw, tmp_path / "fast" / "device.h5"):
        out = tmp_path / f"features-{source.parent.name}"
        assert of.extract(source, features, out, progress=False).ok
        frames.append(pq.read_table(next(out.glob("*.parquet"))).to_pylist())
    np.testing.assert_equal(frames[0], frames[1])


def test_a_file_that_is_there_is_kept_or_replaced(raw, tmp_path):
    target = tmp_path / "fast"
    of.repack(raw, target, workers=1)
    before = (target / "device.h5").stat()
    report = of.repack(raw, target, workers=1)
    assert report.records[0].status == "skipped"
    assert (target / "device.h5").stat() == before
    report = of.repack(raw, target, workers=1, on_conflict="overwrite")
    assert report.records[0].status == "written"
    assert (target / "device.h5").stat().st_ino != before.st_ino


def test_several_files_in_processes_with_progress(raw, tmp_path):
    for i in range(3):
        shutil.copy(raw, raw.with_name(f"{i}.h5"))
    (raw.parent / "no.h5").write_bytes(b"nothing")
    seen = []
    report = of.repack(
        raw.parents[1], tmp_path / "fast", workers=2, progress=lambda *done: seen.append(done)
    )
    assert seen == [(i, 5) for i in range(1, 6)]
    assert [record.source.name for record in report.failed] == ["no.h5"]
    assert "no HDF5 file" in report.failed[0].reason
    assert "4 written, 0 skipped, 1 failed" in str(report)
    assert sorted(p.name for p in (tmp_path / "fast" / "chip").iterdir()) == [
        "0.h5", "1.h5", "2.h5", "device.h5",
    ]  # fmt: skip


def test_a_damaged_file_is_named_and_leaves_nothing(raw, tmp_path):
    with h5py.File(raw, "r+") as file:
        dataset = file["transient/measurement_data"]
        mask, chunk = dataset.id.read_direct_chunk((2, 0))
        damaged = bytearray(chunk)
        damaged[30] ^= 1
        dataset.id.write_direct_chunk((2, 0), bytes(damaged), mask)
    report = of.repack(raw, tmp_path / "fast", workers=1)
    assert [record.status for record in report.records] == ["failed"]
    assert str(raw) in report.failed[0].reason
    assert "checksum does not match" in report.failed[0].reason
    assert not list((tmp_path / "fast").iterdir())


def test_what_was_written_wrongly_is_never_kept(raw, tmp_path, monkeypatch):
    calls = []
    original = repack._read

    def wrong_once(dataset, where):
        value = np.array(original(dataset, where))
        calls.append(where)
        if len(calls) == 3:
            value.view(np.uint8).reshape(-1)[5] ^= 1
        return value

    monkeypatch.setattr(repack, "_read", wrong_once)
    record = repack.repack_file(raw, tmp_path / "fast" / "device.h5")
    assert record.status == "failed"
    assert "differs in" in record.reason
    assert not list((tmp_path / "fast").iterdir())


def test_a_full_disk_leaves_nothing(raw, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(h5py.Dataset, "__setitem__", full)
    record = repack.repack_file(raw, tmp_path / "fast" / "device.h5")
    assert record.status == "failed"
    assert "cannot be written" in record.reason
    assert "No space left" in record.reason
    assert not list((tmp_path / "fast").iterdir())


def test_never_in_place(raw, tmp_path):
    with pytest.raises(InputError, match="folder of the files themselves"):
        of.repack(raw, raw.parent)
    with pytest.raises(InputError, match="no HDF5 file"):
        of.repack(tmp_path / "nowhere", tmp_path / "fast")
    # New files below the old ones are not repacked once more.
    inside = raw.parents[1] / "fast"
    assert len(of.repack(raw.parents[1], inside, workers=1).records) == 1
    assert len(of.repack(raw.parents[1], inside, workers=1).records) == 1


@pytest.mark.parametrize(
    ("wrong", "message"), [({"on_conflict": "skipp"}, "skip"), ({"workers": 0}, "workers=0")]
)
def test_wrong_arguments(raw, tmp_path, wrong, message):
    with pytest.raises(InputError, match=message):
        of.repack(raw, tmp_path, **wrong)


def test_without_the_plugin_the_remedy_is_named(raw, tmp_path, monkeypatch):
    of.repack(raw, tmp_path / "fast", workers=1)
    monkeypatch.setattr(chunks.h5py.h5z, "filter_avail", lambda code: code != BLOSC)
    monkeypatch.setitem(__import__("sys").modules, "hdf5plugin", None)
    with pytest.raises(UnreadableFile, match=r"filter 32001.*pip install 'oectflow\[repack\]'"):
        Experiment(tmp_path / "fast" / "device.h5").step("transient", 0)
    with pytest.raises(InputError, match="hdf5plugin"):
        of.repack(raw, tmp_path / "other")
