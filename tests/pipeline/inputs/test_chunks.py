"""Rows of a dataset, compared with what h5py reads, over the layouts that HDF5 has."""

import h5py
import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from oectflow.errors import UnreadableFile
from oectflow.pipeline.inputs import chunks
from oectflow.pipeline.inputs.chunks import read_rows
from oectflow.pipeline.inputs.codec import fletcher32, unshuffle
from oectflow.pipeline.inputs.experiment import Experiment
from oectflow.pipeline.inputs.simulate import simulate_device

USERS = {"compression": "gzip", "compression_opts": 4, "shuffle": True, "fletcher32": True}
N = 1000

DECODED = {
    "as laboratories have it": {"chunks": (1, 130), **USERS},
    "rows share chunks": {"chunks": (2, 130), **USERS},
    "one chunk": {"chunks": (3, N), **USERS},
    "chunks wider than the data": {"chunks": (1, 2 * N), "maxshape": (3, None), **USERS},
    "unlimited": {"chunks": (1, 64), "maxshape": (None, None), **USERS},
    "gzip only": {"chunks": (1, 100), "compression": "gzip"},
    "shuffle and gzip": {"chunks": (1, 99), "compression": "gzip", "shuffle": True},
    "gzip and fletcher32": {"chunks": (1, 101), "compression": "gzip", "fletcher32": True},
    "gzip 9": {"chunks": (1, 77), **USERS, "compression_opts": 9},
    "gzip 0": {"chunks": (1, 77), **USERS, "compression_opts": 0},
    "samples one by one": {"chunks": (1, 1), **USERS},
}
LEFT_TO_H5PY = {
    "contiguous": {},
    "chunks without filters": {"chunks": (1, 130)},
    "shuffle only": {"chunks": (1, 130), "shuffle": True},
    "fletcher32 only": {"chunks": (1, 130), "fletcher32": True},
    "lzf": {"chunks": (1, 130), "compression": "lzf", "shuffle": True},
    "scale-offset": {"chunks": (2, 130), "scaleoffset": 12},
    "big-endian": {"chunks": (1, 130), **USERS, "dtype": ">f8"},
    "float32": {"chunks": (1, 130), **USERS, "dtype": "f4"},
    "integers": {"chunks": (2, 130), **USERS, "dtype": "i8"},
}


def noisy(n=N):
    """Three rows: times that compress well, others, and a current; NaN, infinity and -0 in it."""
    rng = np.random.default_rng(3)
    time = 1e-3 * np.arange(n)
    data = np.stack([time, time % 0.1, np.rint(rng.normal(size=n) * 1e3) / 1e9])
    data[2, [5, 700]] = np.nan, np.inf
    data[2, 6] = -0.0
    return data


@pytest.fixture
def make(tmp_path):
    files = []

    def make(data=None, **storage):
        path = tmp_path / f"{len(files)}.h5"
        data = noisy() if data is None else data
        if np.dtype(storage.get("dtype", "f8")).kind == "i":
            data = np.nan_to_num(data * 1e6, posinf=0)
        if "scaleoffset" in storage:
            data = np.nan_to_num(data, posinf=0)
        dtype = storage.pop("dtype", "f8")
        # While a file is written, chunks in memory are what was given, not what is stored.
        with h5py.File(path, "w") as file:
            file.create_dataset("x", data=data.astype(dtype), **storage)
        files.append(h5py.File(path, "r"))
        return files[-1]["x"]

    yield make
    for file in files:
        file.close()


@pytest.fixture
def decoded(monkeypatch):
    """Count the chunks that are decoded by us."""
    seen = []
    original = chunks._inflated
    monkeypatch.setattr(
        chunks, "_inflated", lambda *args: (seen.append(args[1]), original(*args))[1]
    )
    return seen


def same_as_h5py(dataset, rows, start, stop):
    got = read_rows(dataset, rows, start, stop)
    for row, array in zip(rows, got, strict=True):
        expected = np.asarray(dataset[row, start:stop], np.float64)
        assert array.dtype == np.float64
        assert array.flags.c_contiguous
        assert array.flags.writeable
        # Bytes, so that every NaN and the sign of zero count.
        assert array.tobytes() == expected.tobytes()


@pytest.mark.parametrize("storage", [*DECODED.values(), *LEFT_TO_H5PY.values()])
def test_every_layout_gives_the_bytes_that_h5py_gives(make, storage):
    dataset = make(**storage)
    for start, stop in [(0, N), (0, 1), (129, 131), (130, 260), (257, 900), (N - 1, N), (40, 40)]:
        for rows in ([0, 1, 2], [2], [1, 2], [2, 0]):
            same_as_h5py(dataset, rows, start, stop)


@pytest.mark.parametrize("storage", DECODED.values())
def test_known_layouts_are_decoded_here_each_chunk_once(make, decoded, storage):
    dataset = make(**storage)
    read_rows(dataset, [1, 2], 50, 650)
    high, wide = dataset.chunks
    expected = {
        (row // high * high, left) for row in (1, 2) for left in range(50 // wide * wide, 650, wide)
    }
    assert sorted(decoded) == sorted(expected)


@pytest.mark.parametrize("storage", LEFT_TO_H5PY.values())
def test_other_layouts_are_left_to_h5py(make, decoded, storage):
    read_rows(make(**storage), [1, 2], 50, 650)
    assert not decoded


def test_compact_and_empty_datasets(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple((3, 20))
        made = h5py.h5d.create(file.id, b"x", h5py.h5t.IEEE_F64LE, space, plist)
        dataset = h5py.Dataset(made)
        dataset[...] = noisy()[:, :20]
        same_as_h5py(dataset, [2, 1], 3, 17)
        same_as_h5py(file.create_dataset("empty", (3, 0), "f8"), [2], 0, 0)


def test_rows_added_after_the_file_was_made(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset(
            "x", data=noisy(), maxshape=(3, None), chunks=(1, 64), **USERS
        )
        dataset.resize((3, N + 333))
        dataset[:, N:] = noisy(N)[:, :333]
        same_as_h5py(dataset, [0, 1, 2], 900, N + 333)


@pytest.mark.parametrize("skipped", range(8))
def test_filters_that_a_chunk_skipped(tmp_path, skipped):
    """The mask says which filters were not applied; the bytes are made by hand."""
    import zlib

    row = noisy()[2, :100]
    raw = row.tobytes()
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("x", (3, 200), "f8", chunks=(1, 100), **USERS)
        if not skipped & 1:
            raw = np.frombuffer(raw, np.uint8).reshape(-1, 8).T.tobytes()
        if not skipped & 2:
            raw = zlib.compress(raw)
        if not skipped & 4:
            raw += fletcher32(np.frombuffer(raw, np.uint8)).to_bytes(4, "little")
        dataset.id.write_direct_chunk((2, 100), raw, skipped)
    # HDF5 reads the mask when it opens the file.
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["x"][2, 100:].tobytes() == row.tobytes()
        same_as_h5py(file["x"], [2], 100, 200)


def test_checksums_are_those_of_hdf5_at_every_length(tmp_path):
    """h5py stores 1-byte elements uncompressed, so the protected bytes can have any length."""
    rng = np.random.default_rng(8)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for n in (*range(1, 40), 717, 718, 719, 720, 721, 722, 1439, 1440, 1441, 65535, 200_001):
            # Random, all zero, all 255 (which is zero modulo 65535), and a single bit.
            for kind, data in enumerate(
                [rng.integers(0, 256, n), np.zeros(n), np.full(n, 255), np.arange(n) == n - 1]
            ):
                data = data.astype(np.uint8)
                dataset = file.create_dataset(
                    f"{n}-{kind}", data=data, chunks=(n,), fletcher32=True
                )
                _, stored = dataset.id.read_direct_chunk((0,))
                assert fletcher32(data) == int.from_bytes(stored[-4:], "little"), (n, kind)


def test_unshuffled_elements():
    data = np.random.default_rng(4).integers(0, 256, (50, 8), np.uint8)
    shuffled = np.ascontiguousarray(data.T).ravel()
    expected = data.copy().view(np.uint64)[:, 0]
    for window in (1, 7, 50):
        for first, part in enumerate(sliding_window_view(expected, window)):
            out = np.empty(window, np.uint64)
            unshuffle(shuffled, first, out)
            np.testing.assert_array_equal(out, part)


def broken(tmp_path, change, **storage):
    """An experiment in which the chunk of the current at sample 100 was changed on disk."""
    path = tmp_path / "device.h5"
    device = simulate_device(2, n_transfer=0, n_transient=4, n_cycles=5, period=0.02)
    device.write(path)
    with h5py.File(path, "r+") as file:
        data = file["transient/measurement_data"][()]
        del file["transient/measurement_data"]
        dataset = file["transient"].create_dataset(
            "measurement_data", data=data, chunks=(1, 100), **(USERS | storage)
        )
        mask, stored = dataset.id.read_direct_chunk((2, 100))
        dataset.id.write_direct_chunk((2, 100), change(bytearray(stored)), mask)
    return path


def flipped(stored):
    stored[len(stored) // 2] ^= 4
    return bytes(stored)


def test_a_wrong_checksum_names_file_dataset_and_chunk(tmp_path):
    path = broken(tmp_path, flipped)
    # HDF5 1.14.2, the lowest, says it in other words.
    old = h5py.version.hdf5_version_tuple <= (1, 14, 2)
    words = "Fletcher32" if old else "filter returned failure"
    with h5py.File(path) as file, pytest.raises(OSError, match=words):
        file["transient/measurement_data"][2, 100:200]
    with pytest.raises(UnreadableFile) as found:
        Experiment(path).step("transient", 1)
    message = str(found.value)
    assert str(path) in message
    assert "/transient/measurement_data, step 1," in message
    assert "checksum does not match" in message
    assert "(2, 100)" in message
    assert "copy or convert the file again" in message


@pytest.mark.parametrize("change", [flipped, lambda stored: bytes(stored[: len(stored) // 2])])
def test_other_steps_and_arrays_of_a_damaged_file_can_be_read(tmp_path, change):
    path = broken(tmp_path, change)
    experiment = Experiment(path)
    with pytest.raises(UnreadableFile):
        experiment.batch("transient", 0, 4)
    with h5py.File(path) as file:
        for step in (0, 2, 3):
            got = experiment.step("transient", step)["drain_current"]
            expected = file["transient/measurement_data"][2, 100 * step : 100 * step + 100]
            np.testing.assert_array_equal(got, expected)
    times = experiment.batch("transient", 0, 4, ["original_time"])
    assert list(times.arrays) == ["original_time"]


def test_damage_without_a_checksum_shows_where_the_stream_breaks(tmp_path):
    path = broken(tmp_path, lambda stored: bytes(stored[: len(stored) // 2]), fletcher32=False)
    with pytest.raises(UnreadableFile, match=r"chunk at \(2, 100\) cannot be inflated"):
        Experiment(path).step("transient", 1)
