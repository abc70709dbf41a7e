"""Extracting what is in memory gives what extracting its file gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from oectflow.errors import InputError
from oectflow.pipeline.execution.driving.run import extract, plan
from oectflow.pipeline.inputs.experiment import Experiment
from oectflow.pipeline.outputs.results import open_results

FEATURES = {
    "gm": {"extractor": "transfer.gm_max", "input": "transfer"},
    "peak": {"extractor": "transient.peak_current", "input": "transient"},
}


def run(data, out, **options):
    return extract(data, FEATURES, out, progress=False, **options)


@pytest.mark.parametrize("on_cluster", [False, True])
def test_trees_and_experiments_and_paths_together(lab, tmp_path, request, on_cluster):
    client = request.getfixturevalue("client") if on_cluster else None
    paths = sorted(lab.glob("*.h5"))
    run(lab, tmp_path / "files")
    mixed = [Experiment(paths[0]).to_xarray(), Experiment(paths[1]), str(paths[2])]
    report = run(mixed, tmp_path / "memory", client=client, granularity=2)
    assert report.ok
    left, right = (open_results(tmp_path / name).load() for name in ("files", "memory"))
    xr.testing.assert_identical(left.drop_attrs(deep=False), right.drop_attrs(deep=False))
    # Nothing but results stays.
    assert {p.suffix for p in (tmp_path / "memory").rglob("*.h5")} == set()
    assert not list((tmp_path / "memory").glob(".oectflow-memory*"))
    # The same data are known again.
    assert {r.outcome for r in run(mixed, tmp_path / "memory").experiments} == {"unchanged"}


def test_a_mapping_of_frames(tmp_path):
    Vg = np.linspace(-0.5, 0.5, 101)
    frame = pd.DataFrame({"V_GS (V)": Vg, "Id (mA)": np.clip(Vg, 0, None) ** 2})
    data = {"transfer": frame, "test_id": "mine", "chip_id": "A", "sample": {"W": 1e-4}}
    assert plan(data, FEATURES, tmp_path / "out").n_todo == 1
    report = run(data, tmp_path / "out")
    assert [record.experiment_id for record in report.experiments] == ["mine"]
    results = open_results(tmp_path / "out")
    # The slope of the chord of Id = Vg² mA between the last two points.
    assert float(results.gm.values.item()) == pytest.approx(1e-3, rel=0.02)
    assert results.sample_W.values.item() == 1e-4


@pytest.mark.parametrize("call", [extract, plan])
def test_what_is_no_measurement_is_said_in_one_line(tmp_path, call):
    frame = pd.DataFrame({"Vg": [0.0], "Id": [1.0]})
    for data in (frame, xr.Dataset({"Vg": ("x", [0.0])}), np.zeros(3), [frame]):
        with pytest.raises(InputError, match=r"does not say what was measured; .*'transfer': "):
            call(data, FEATURES, tmp_path / "out")
    with pytest.raises(InputError, match="expected a folder, a glob, a file or an Experiment"):
        call([1], FEATURES, tmp_path / "out")


def test_a_csv_says_what_to_do(tmp_path: Path):
    path = tmp_path / "curve.csv"
    path.write_text("Vg,Id\n0,1\n")
    report = run(path, tmp_path / "out")
    assert f"convert it again: oectflow ingest {path}" in report.failed[0].reason
