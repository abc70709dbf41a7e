"""Feature files of the software in use until now, read from files that it has written."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

import oectflow as of
from oectflow.pipeline.outputs.legacy import group_columns


@pytest.fixture
def samples(shared_data: Path) -> Path:
    return shared_data / "oect_infra"


def test_v1__every_column_with_its_unit(samples):
    path = samples / "regular_serial.v1_features.h5"
    old = of.open_legacy_features(path)
    with h5py.File(path) as file:
        names = [name.decode() for name in file["transfer/versions/v1/feature_names"][()]]
        matrix = file["transfer/versions/v1/matrix"][()]
    assert set(old) == set(names)
    np.testing.assert_array_equal(np.stack([old[name] for name in names], axis=1), matrix)
    assert old.Von_reverse.dims == ("step",)
    assert old.absgm_max_forward.attrs["units"] == "S"
    assert old.attrs["test_id"] == "test_20250815000000_00abc000"
    # The file says S of this voltage.
    assert old.absgm_max_forward_Vg.attrs["units"] == "V"
    assert old.absgm_max_forward_Vg.attrs["units_in_file"] == "S"


def test_v1__time_constants_have_no_step(samples, tmp_path):
    path = tmp_path / "old-feat_1.h5"
    shutil.copy(samples / "regular_serial.v1_features.h5", path)
    with h5py.File(path, "r+") as file:
        for bucket, name in (("bk_00", "tau_on"), ("bk_01", "tau_off")):
            bucket = file.require_group(f"transient/columns/buckets/{bucket}")
            bucket.create_dataset(name, data=np.arange(7, dtype=np.float32))
    old = of.open_legacy_features(path)
    assert old.tau_on.dims == old.tau_off.dims == ("transient_entry",)
    assert dict(old.sizes) == {"step": 6, "transient_entry": 7}
    assert old.tau_on.attrs["units"] == "unknown"


@pytest.mark.parametrize(
    "name", ["v2_ml_ready", "v2_quick_analysis", "v2_transfer_basic", "transient_bench"]
)
def test_v2__every_column_without_unit(samples, name):
    path = samples / f"regular_serial.{name}.parquet"
    old = of.open_legacy_features(path)
    frame = pd.read_parquet(path)
    flat = {
        column: old[feature][:, k] if old[feature].ndim > 1 else old[feature]
        for feature in old
        for k, column in enumerate(group_columns(frame.columns)[str(feature)])
    }
    assert [*flat] == [column for column in frame.columns if column != "step_index"]
    for column, values in flat.items():
        np.testing.assert_array_equal(values, frame[column])
    assert {old[feature].attrs["units"] for feature in old} == {"unknown"}
    assert old.attrs["test_id"] == "unknown"


def test_v2__tells_what_its_name_tells(samples, tmp_path):
    name = "#20250804008-3-my-config-feat_20250815-134211_0123abcd.parquet"
    shutil.copy(samples / "regular_serial.transient_bench.parquet", tmp_path / name)
    old = of.open_legacy_features(tmp_path / name)
    assert (old.attrs["chip_id"], old.attrs["device_id"]) == ("#20250804008", "3")
    assert old.attrs["config_name"] == "my-config"
    assert old.cycles.dims == ("step", "cycles_entry")


def test_v2__tells_what_stands_in_it(samples):
    old = of.open_legacy_features(samples / "regular_serial.featureset_with_attrs.parquet")
    assert (old.attrs["chip_id"], old.attrs["config_name"]) == ("#20250804000", "demo")


def test_can_be_kept_as_netcdf_attributes(samples):
    for path in samples.glob("*.parquet"):
        for value in of.open_legacy_features(path).attrs.values():
            assert isinstance(value, str | int | float)


def test_group_columns():
    columns = ["a", "b_0", "b_1", "c_1", "c_2", "d_0", "e", "e_0", "e_1", "f_00", "f_01"]
    groups = group_columns(columns)
    assert groups.pop("b") == ["b_0", "b_1"]
    assert all(group == [name] for name, group in groups.items())
    assert set(groups) == {*columns} - {"b_0", "b_1"}


def _other_lengths(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["transfer/columns/buckets/bk_00"].create_dataset("short", data=np.zeros(2))


def _half(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


@pytest.mark.parametrize(
    ("source", "damage", "message"),
    [
        ("regular_serial.v1_features.h5", _half, "truncated"),
        ("regular_serial.v1_features.h5", _other_lengths, "differ in length along step: .*short"),
        ("regular_serial.v2_ml_ready.parquet", _half, "cannot be read as Parquet"),
        ("#20250804000-1-stability-test_20250815000000_00abc000.h5", None, "is no feature file"),
        ("expected.json", None, "cannot be read as Parquet"),
        ("nowhere.parquet", None, "there is no such file"),
    ],
)
def test_not_what_it_should_be(samples, tmp_path, source, damage, message):
    path = tmp_path / source
    if (samples / source).exists():
        shutil.copyfile(samples / source, path)
    if damage:
        damage(path)
    with pytest.raises(of.OutputError, match=rf"{re.escape(str(path))}: .*{message}"):
        of.open_legacy_features(path)


def test_other_tables(tmp_path):
    pd.DataFrame({"x": [1]}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(of.OutputError, match="has no column step_index, but x"):
        of.open_legacy_features(tmp_path / "x.parquet")


def test_our_own_results_have_their_own_opener(tmp_path):
    from oectflow.pipeline.inputs.simulate import simulate_device

    raw = simulate_device(n_transfer=1, n_transient=0, n_points=5).write(tmp_path / "x.h5")
    report = of.extract(raw, "v2_quick_analysis", tmp_path / "out", progress=False)
    with pytest.raises(of.OutputError, match="open it with open_results"):
        of.open_legacy_features(report.experiments[0].out_path)
