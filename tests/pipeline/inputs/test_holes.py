"""What was never stored, or what HDF5 does not find in a file: refused, never read as 0.0."""

import shutil

import h5py
import hdf5plugin
import numpy as np
import pytest

import oectflow as of
from oectflow.errors import OutputError, UnreadableFile
from oectflow.pipeline.inputs.experiment import Experiment
from oectflow.pipeline.inputs.repack import repack
from oectflow.pipeline.inputs.simulate import simulate_device

USERS = {"compression": "gzip", "shuffle": True, "fletcher32": True}
STORAGE = {
    "as laboratories have it": USERS,
    "no filters": {},
    "float32": {"dtype": "f4"},
    "repacked": dict(hdf5plugin.Blosc(cname="lz4")),
    "growing": {**USERS, "maxshape": (3, None)},
    "fill value NaN": {**USERS, "fillvalue": np.nan},
    "fill value NaN, no filters": {"fillvalue": np.nan},
}
PEAK = {"peak": {"extractor": "transient.peak_current", "input": "transient"}}


@pytest.fixture
def device(tmp_path):
    path = tmp_path / "device.h5"
    simulate_device(2, n_transfer=3, n_transient=4, n_points=21, n_cycles=5, period=0.02).write(
        path
    )
    return path


def remade(path, name, *, write, **storage):
    """Make a dataset anew and fill only the parts that ``write`` names."""
    with h5py.File(path, "r+") as file:
        data = file[name][()]
        del file[name]
        storage = {"dtype": data.dtype} | storage
        dataset = file.create_dataset(name, data.shape, **storage)
        for where in write:
            dataset[where] = data[where]
    return data


@pytest.mark.parametrize("storage", STORAGE.values(), ids=STORAGE.keys())
def test_steps_in_chunks_that_were_never_stored_fail_and_the_others_are_read(device, storage):
    data = remade(
        device, "transient/measurement_data", chunks=(1, 100), **storage,
        write=[np.s_[:2], np.s_[2, :100], np.s_[2, 200:]],
    )  # fmt: skip
    experiment = Experiment(device)
    with pytest.raises(UnreadableFile, match=r"chunk at \(2, 100\) is not stored \(11 of 12"):
        experiment.batch("transient", 0, 4)
    with pytest.raises(UnreadableFile, match="not stored"):
        experiment.step("transient", 1)
    for step in (0, 2, 3):
        got = experiment.step("transient", step)["drain_current"]
        expected = data[2, 100 * step : 100 * step + 100]
        np.testing.assert_array_equal(got, expected.astype(storage.get("dtype", "f8")))
    report = of.extract(device, PEAK, device.parent / "out", progress=False)
    (record,) = report.failed
    assert record.n_failed == 1
    assert "not stored" in record.reason
    results = of.open_results(device.parent / "out")
    assert results["peak_status"].values[0].tolist() == ["ok", "error", "ok", "ok"]
    assert np.isnan(results["peak"].values[0, 1])


@pytest.mark.parametrize("where", [np.s_[:, :], np.s_[1:, :]])
def test_rows_that_share_chunks(device, where):
    data = remade(
        device, "transient/measurement_data", chunks=(3, 100), write=[np.s_[:, 100:]], dtype="f4"
    )
    experiment = Experiment(device)
    with pytest.raises(UnreadableFile, match=r"chunk at \(0, 0\) is not stored"):
        experiment.step("transient", 0)
    np.testing.assert_array_equal(
        experiment.step("transient", 1)["drain_current"], data[2, 100:200].astype("f4")
    )


def test_sweeps(device):
    data = remade(device, "transfer/measurement_data", chunks=(1, 2, 21), write=[np.s_[:2]])
    experiment = Experiment(device)
    np.testing.assert_array_equal(experiment.step("transfer", 1)["Id"], data[1, 1])
    with pytest.raises(UnreadableFile, match=r"chunk at \(2, 0, 0\) is not stored"):
        experiment.step("transfer", 2)


@pytest.mark.parametrize("name", ["transient", "transfer"])
def test_a_dataset_that_was_made_but_never_written(device, name):
    remade(device, f"{name}/measurement_data", write=[])
    with pytest.raises(UnreadableFile, match="none was ever stored"):
        Experiment(device).step(name, 0)


@pytest.mark.parametrize("storage", [{}, {"chunks": (2,)}])
def test_a_step_table_with_holes(device, storage):
    remade(device, "transient/step_info_table", write=[], **storage)
    # HDF5 1.14.2, the lowest, says it in other words.
    old = storage and h5py.version.hdf5_version_tuple <= (1, 14, 2)
    with pytest.raises(UnreadableFile, match="unprocessed chunk" if old else "stored"):
        Experiment(device)


def test_zeros_that_were_measured_are_read(device):
    with h5py.File(device, "r+") as file:
        shape = file["transient/measurement_data"].shape
        del file["transient/measurement_data"]
        file.create_dataset("transient/measurement_data", data=np.zeros(shape), chunks=(1, 100))
    assert not Experiment(device).batch("transient", 0, 4).arrays["drain_current"].any()


@pytest.mark.parametrize(("name", "n_failed"), [("hole", 5), ("half", 3)])
def test_files_that_read_as_zero_before(shared_data, tmp_path, name, n_failed):
    path = tmp_path / f"{name}.h5"
    shutil.copy(shared_data / "faults" / "01-stored-holes" / path.name, path)
    report = of.extract(path, PEAK, tmp_path / "out", progress=False)
    (record,) = report.failed
    assert record.n_failed == n_failed
    assert "is not stored" in record.reason
    results = of.open_results(tmp_path / "out")
    fine = results["peak_status"].values[0] == "ok"
    assert fine.sum() == len(fine) - n_failed
    assert (results["peak"].values[0][fine] != 0).all()


def test_features_of_the_software_in_use(shared_data, tmp_path):
    path = tmp_path / "features.h5"
    shutil.copy(shared_data / "oect_infra" / "regular_serial.v1_features.h5", path)
    with h5py.File(path, "r+") as file:
        bucket = next(iter(file["transfer/columns/buckets"].values()))
        name, dataset = next(iter(bucket.items()))
        kind, shape = dataset.dtype, dataset.shape
        del bucket[name]
        bucket.create_dataset(name, shape, kind, chunks=(2,))
    with pytest.raises(OutputError, match="is not stored"):
        of.open_legacy_features(path)


def test_repack_does_not_turn_holes_into_zeros(device, tmp_path):
    remade(device, "transfer/measurement_data", chunks=(1, 2, 21), write=[np.s_[:2]])
    report = repack(device, tmp_path / "new", workers=1)
    assert "is not stored" in report.failed[0].reason
    assert not list((tmp_path / "new").glob("*.h5"))
