"""Results of each chip in a folder of its own are one dataset, for everybody and for ours."""

import os
import shutil

import duckdb
import h5py
import numpy as np
import pandas as pd
import polars
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

import oectflow as of
from oectflow.errors import ConfigError, InputError
from oectflow.pipeline.execution.driving import file_book
from oectflow.pipeline.inputs.simulate import simulate_device
from oectflow.pipeline.outputs.places import partition_of, result_path

FEATURES = {
    "peak": {"extractor": "transient.peak_current", "input": "transient"},
    "gm": {"extractor": "transfer.gm_max", "input": "transfer"},
}
#: Names that a path cannot have, a number with zeros before it, and none.
CHIPS = ["#7/µ ä", "007", "", "007"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Raw files of three chips, with their results side by side and by chip."""
    top = tmp_path_factory.mktemp("made")
    (top / "raw").mkdir()
    for i, chip in enumerate(CHIPS):
        path = top / "raw" / f"{i}.h5"
        simulate_device(
            i, n_transfer=2, n_transient=2, n_points=21, n_cycles=3, test_id=f"test_{i}"
        ).write(path)
        with h5py.File(path, "r+") as file:
            file.attrs["chip_id"] = chip
        os.utime(path, ns=(10**18, 10**18))
    of.extract(top / "raw", FEATURES, top / "flat", progress=False)
    of.extract(top / "raw", FEATURES, top / "out", progress=False, partition_by="chip_id")
    return top


@pytest.fixture
def lab(made, tmp_path):
    shutil.copytree(made / "raw", tmp_path / "raw")
    return tmp_path


def run(lab, **options):
    return of.extract(lab / "raw", FEATURES, lab / "out", progress=False, **options)


def test_where_they_stand(made):
    found = {str(path.relative_to(made / "out")) for path in made.glob("out/*/*")}
    assert found == {
        "chip_id=%237%2F%C2%B5%20%C3%A4/test_0.parquet",
        "chip_id=007/test_1.parquet",
        "chip_id=__HIVE_DEFAULT_PARTITION__/test_2.parquet",
        "chip_id=007/test_3.parquet",
    }
    assert not list(made.glob("out/*.parquet"))
    assert list(made.glob("out/_definitions-*.json"))
    assert "chip_id" not in pq.read_schema(made / "out" / "chip_id=007" / "test_1.parquet").names


def test_ours_read_it_as_before(made):
    flat, parts = of.open_results(made / "flat").load(), of.open_results(made / "out").load()
    # In the order of files.
    parts = parts.sortby("experiment")
    parts.attrs = flat.attrs
    assert parts.identical(flat)
    frames = [
        of.results_frame(made / name).compute().sort_values(["experiment_id", "step_index"])
        for name in ("flat", "out")
    ]
    assert set(frames[0]) == set(frames[1])
    np.testing.assert_array_equal(frames[1]["chip_id"], frames[0]["chip_id"])
    np.testing.assert_array_equal(frames[1]["peak"], frames[0]["peak"])
    assert of.problems_frame(made / "out").equals(of.problems_frame(made / "flat"))
    page = of.report(made / "out", made / "report.html", progress=False).read_text()
    assert all(f"test_{i}" in page for i in range(4))
    (one,) = made.glob("out/*/test_1.parquet")
    assert of.open_results(one)["chip_id"].values.tolist() == ["007"]


def test_everybody_reads_it_as_one_dataset(made):
    out = made / "out"
    partitioning = pyarrow.dataset.partitioning(
        pyarrow.schema([("chip_id", pyarrow.string())]), flavor="hive"
    )
    pattern = f"{out}/*/*.parquet"
    tables = {
        "pyarrow": pyarrow.dataset.dataset(out, partitioning=partitioning).to_table().to_pandas(),
        "pandas": pd.read_parquet(out, partitioning=partitioning),
        "polars": polars.read_parquet(
            pattern, hive_partitioning=True, hive_schema={"chip_id": polars.String}
        ).to_pandas(),
        "duckdb": duckdb.sql(
            f"select * from read_parquet('{pattern}', hive_types={{'chip_id': varchar}})"
        ).df(),
    }
    wanted = of.results_frame(made / "flat").compute()
    wanted = wanted.sort_values(["experiment_id", "step_index"])
    chips = wanted["chip_id"].tolist()
    for name, table in tables.items():
        table = table.sort_values(["experiment_id", "step_index"])
        np.testing.assert_array_equal(table["peak"], wanted["peak"], err_msg=name)
        assert table["chip_id"].fillna("").tolist() == chips, name


def test_a_second_run_has_nothing_to_do_and_the_folder_stays_as_it_is(lab, monkeypatch):
    monkeypatch.setattr(file_book, "_RECENT_NS", 0)
    assert run(lab, partition_by="chip_id").ok
    (lab / "out" / ".oectflow-unchanged.json").unlink()
    for options in ({}, {"partition_by": "chip_id"}, {}):
        assert run(lab, **options).counts == {"unchanged": 4}
    assert of.plan(lab / "raw", FEATURES, lab / "out").n_unchanged == 4
    (gone,) = lab.glob("out/*/test_3.parquet")
    gone.unlink()
    assert [r.outcome for r in run(lab).experiments] == ["unchanged"] * 3 + ["done"]
    assert gone.exists()


def test_other_layouts_are_refused(made, lab):
    for folder, by in (("flat", "chip_id"), ("out", "device_id")):
        before = sorted((made / folder).rglob("*"))
        with pytest.raises(ConfigError, match="choose another output folder"):
            of.extract(made / "raw", FEATURES, made / folder, partition_by=by, progress=False)
        assert sorted((made / folder).rglob("*")) == before
    with pytest.raises(ConfigError, match=r"'chip'.*chip_id or device_id"):
        run(lab, partition_by="chip")
    with pytest.raises(ConfigError, match="part of a dataset"):
        of.extract(lab / "raw", FEATURES, lab / "chip_id=7", progress=False)
    assert not (lab / "chip_id=7").exists()


def test_one_id_on_two_chips(lab):
    with h5py.File(lab / "raw" / "1.h5", "r+") as file:
        file.attrs["test_id"] = "test_0"
    assert run(lab, partition_by="chip_id").ok
    assert of.open_results(lab / "out").sizes["experiment"] == 4


def test_a_chip_that_was_corrected_does_not_leave_its_result_behind(lab):
    run(lab, partition_by="chip_id")
    with h5py.File(lab / "raw" / "1.h5", "r+") as file:
        file.attrs["chip_id"] = "008"
    report = run(lab)
    (failed,) = report.failed
    assert "chip_id=007/test_1.parquet" in failed.reason
    assert "delete that one" in failed.reason
    (old,) = lab.glob("out/*/test_1.parquet")
    old.unlink()
    assert run(lab).ok
    assert partition_of(lab / "out") == "chip_id"
    assert (lab / "out" / "chip_id=008" / "test_1.parquet").exists()


def test_a_chip_with_a_long_name(tmp_path):
    identity = {"chip_id": "µ" * 40, "device_id": "1"}
    with pytest.raises(InputError, match=r"chip_id='%C2.*240 bytes"):
        result_path(tmp_path, "a", identity, "chip_id")
    assert result_path(tmp_path, "a", identity, "device_id").parent.name == "device_id=1"
