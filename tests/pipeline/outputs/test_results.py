"""Opening a folder of results: lazily, padded, with units."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from oectflow.errors import OutputError
from oectflow.extractors.base import COMMON_STATUSES, Variable
from oectflow.pipeline.outputs.results import open_results, problems_frame, results_frame
from oectflow.pipeline.outputs.sink import Problem, Results, write_results

PHASES = {"phase": ("on", "off")}
GM = Variable("S", "maximum transconductance")
GM_STATUS = Variable("", "", dtype="int8", statuses={**COMMON_STATUSES, "edge": "at the edge"})
TAU = Variable("s", "time constant", ("n_cycles", 2), ("cycle", "phase"), PHASES)
PEAKS = Variable("A", "peaks", ("n_cycles",), ("cycle",))


def write(folder: Path, name: str, n_steps: int, n_cycles: int, **extra: Variable) -> Results:
    variables = {"gm": GM, "gm_status": GM_STATUS, "tau": TAU} | extra
    columns = {}
    for key, variable in variables.items():
        sizes = [n_cycles if size == "n_cycles" else size for size in variable.shape]
        count = n_steps * int(np.prod(sizes))
        values = np.arange(count) % 4 if variable.statuses else np.arange(float(count))
        columns[key] = values.reshape(n_steps, *sizes).astype(variable.dtype)
    results = Results(
        {
            "experiment_id": name,
            "chip_id": "#1",
            "device_id": name[-1],
            "step_index": np.arange(n_steps),
        },
        columns,
        variables,
        {key: key.partition("_")[0] for key in variables},
        [Problem(1, "transfer", "gm", "error", "ValueError", "no")],
        {
            "identity": {"experiment_id": name, "chip_id": "#1", "device_id": name[-1]},
            "n_rows": n_steps,
            "config": "mine",
            "created": "2026-01-02T03:04:05+00:00",
            "features": {},
            "source": {
                "path": f"{name}.h5",
                "size": 1,
                "mtime_ns": 1,
                "content_hash": "ab",
                "n_steps": {"transfer": n_steps},
            },
        },
    )
    write_results(folder / f"{name}.parquet", results)
    return results


def test_open_results__one_dataset_of_unequal_experiments(tmp_path):
    a, b = write(tmp_path, "a1", 3, 2), write(tmp_path, "b2", 2, 4, peaks=PEAKS)
    ds = open_results(tmp_path)
    assert ds.sizes == {"experiment": 2, "step": 3, "cycle": 4, "phase": 2}
    assert ds["experiment"].values.tolist() == ["a1", "b2"]
    assert ds["device_id"].values.tolist() == ["1", "2"]
    assert ds["phase"].values.tolist() == ["on", "off"]
    assert ds["tau"].attrs == {"units": "s", "description": "time constant", "feature": "tau"}
    np.testing.assert_array_equal(ds["tau"].sel(experiment="a1")[:, :2], a.columns["tau"])
    np.testing.assert_array_equal(ds["tau"].sel(experiment="b2")[:2], b.columns["tau"])
    assert np.isnan(ds["tau"].sel(experiment="a1")[:, 2:]).all()
    assert np.isnan(ds["gm"].sel(experiment="b2")[2])
    assert np.isnan(ds["peaks"].sel(experiment="a1")).all()
    assert ds["gm_status"].sel(experiment="a1").values.tolist() == ["ok", "absent", "error"]
    assert ds["gm_status"].sel(experiment="b2").values.tolist() == ["ok", "absent", "absent"]
    assert "edge: at the edge" in ds["gm_status"].attrs["words"]


def test_open_results__one_file(tmp_path):
    write(tmp_path, "a1", 3, 2)
    write(tmp_path, "b2", 2, 4)
    assert open_results(tmp_path / "a1.parquet").sizes["experiment"] == 1


def test_open_results__reads_only_what_is_asked_for(tmp_path):
    write(tmp_path, "a1", 3, 2)
    write(tmp_path, "b2", 3, 2)
    ds = open_results(tmp_path)
    (tmp_path / "b2.parquet").unlink()
    assert ds["gm"].sel(experiment="a1").values.tolist() == [0.0, 1.0, 2.0]
    with pytest.raises(OutputError, match="disappeared"):
        ds["gm"].sel(experiment="b2").load()


def test_open_results__a_relative_folder_stays_the_one_that_was_opened(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    write(tmp_path / "out", "a1", 3, 2)
    expected = open_results(tmp_path / "out").load()
    monkeypatch.chdir(tmp_path)
    lazy, frame = open_results("out"), results_frame("out")
    (tmp_path / "elsewhere").mkdir()
    # As workers of a cluster stand, which was started before a notebook changed its folder.
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert lazy.load().equals(expected)
    assert len(frame) > 0


def test_open_results__files_that_disagree(tmp_path):
    write(tmp_path, "a1", 3, 2)
    write(tmp_path, "b2", 3, 2, gm=Variable("mS", "in another unit"))
    with pytest.raises(OutputError, match=r"'gm' is in 'S' .*a1\.parquet, but in 'mS'"):
        open_results(tmp_path)


def test_open_results__nothing_there(tmp_path):
    with pytest.raises(OutputError, match="no results"):
        open_results(tmp_path)
    with pytest.raises(OutputError, match="no such file or folder"):
        open_results(tmp_path / "missing")


def test_results_frame__one_table_with_all_columns(tmp_path):
    write(tmp_path, "a1", 3, 2)
    write(tmp_path, "b2", 2, 4, peaks=PEAKS)
    frame = results_frame(tmp_path)
    assert frame.npartitions == 2
    table = frame.compute()
    assert len(table) == 5
    assert table["experiment_id"].tolist() == ["a1"] * 3 + ["b2"] * 2
    assert table["gm"].tolist() == [0.0, 1.0, 2.0, 0.0, 1.0]
    assert table["gm_status"].tolist() == ["ok", "absent", "error", "ok", "absent"]
    assert list(table["tau_on"].iloc[0]) == [0.0, 2.0]
    assert table["peaks"].isna().tolist() == [True, True, True, False, False]
    assert frame["gm"].mean().compute() == pytest.approx(0.8, rel=1e-15)


def test_problems_frame(tmp_path):
    write(tmp_path, "a1", 3, 2)
    write(tmp_path, "b2", 2, 2)
    table = problems_frame(tmp_path)
    assert table["experiment_id"].tolist() == ["a1", "b2"]
    assert table["step"].tolist() == [1, 1]
    assert table["message"].tolist() == ["no", "no"]
