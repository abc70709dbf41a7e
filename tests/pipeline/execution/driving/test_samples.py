"""Samples in a run: extractors see them, results have them, and a change costs what it must."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import h5py
import numpy as np
import pytest

from oectflow.errors import ConfigError
from oectflow.extractors.base import BaseExtractor, register
from oectflow.pipeline.execution.driving.run import extract, plan
from oectflow.pipeline.outputs.results import open_results, results_frame
from oectflow.pipeline.outputs.sink import read_metadata


@pytest.fixture(autouse=True)
def extractors() -> None:
    """Classes of a function travel to the workers as they are, as those of a notebook do."""

    @register("transfer.largest_per_width")
    class LargestPerWidth(BaseExtractor):
        """Largest drain current by channel width."""

        source = "transfer"
        unit = "A/m"
        sample_keys: ClassVar[tuple[str, ...]] = ("W",)

        def extract_single_step(self, step_data, params):
            assert set(step_data["sample"]) <= {"W"}
            return np.nanmax(np.abs(step_data["Id"])) / step_data["sample"].get("W", np.nan)

    @register("transfer.largest")
    class Largest(BaseExtractor):
        """Largest drain current."""

        source = "transfer"
        unit = "A"

        def extract_single_step(self, step_data, params):
            assert step_data["sample"] == {}
            return np.nanmax(np.abs(step_data["Id"]))


FEATURES = {
    "per_width": {"extractor": "transfer.largest_per_width", "input": "transfer"},
    "largest": {"extractor": "transfer.largest", "input": "transfer"},
    "largest_half": {"func": "lambda largest: largest / 2", "input": "largest"},
    "twice": {"func": "lambda per_width: 2 * per_width", "input": "per_width"},
}


def run(raw, out, samples=None, **options):
    return extract(raw, FEATURES, out, progress=False, samples=samples, **options)


def device_csv(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(["chip_id,device_id,W (µm),semiconductor", *rows]), encoding="utf-8")
    return path


def computed(report) -> list[set[str]]:
    return [set(record.computed) for record in report.experiments]


@pytest.mark.parametrize("on_cluster", [False, True])
def test_features_use_the_sample_and_results_have_it(lab, tmp_path, request, on_cluster):
    client = request.getfixturevalue("client") if on_cluster else None
    table = device_csv(tmp_path / "d.csv", "*,1,100,p(g2T-TT)", "*,2,200,PEDOT:PSS")
    report = run(lab, tmp_path / "out", table, client=client, granularity=2)
    results = open_results(tmp_path / "out")
    widths = [100 / 1e6, 200 / 1e6, np.nan]
    np.testing.assert_array_equal(results.sample_W, widths)
    assert results.sample_W.attrs["units"] == "m"
    assert results.sample_semiconductor.values.tolist() == ["p(g2T-TT)", "PEDOT:PSS", ""]
    expected = results.largest.values / np.array(widths)[:, None]
    np.testing.assert_allclose(results.per_width.values, expected, rtol=1e-15)
    np.testing.assert_array_equal(results.twice.values, 2 * results.per_width.values)
    frame = results_frame(tmp_path / "out").compute()
    first = frame[frame.experiment_id == "test_0"]
    assert set(first.sample_W) == {100 / 1e6}
    assert set(first.sample_semiconductor) == {"p(g2T-TT)"}
    np.testing.assert_allclose(first.per_width, first.largest / 1e-4)
    assert [record.warnings for record in report.experiments[:2]] == [(), ()]
    assert report.experiments[2].warnings == (
        f"the table of samples says nothing of chip {chip_of(lab)!r}, device '3'",
    )
    assert "warning: test_2: the table of samples says nothing of" in str(report)


def chip_of(lab: Path) -> str:
    with h5py.File(lab / "device2.h5") as file:
        return str(file.attrs["chip_id"])


def test_a_change_of_the_sample_computes_what_uses_it_and_nothing_else(lab, tmp_path):
    out = tmp_path / "out"
    run(lab, out, {"W": 1e-4})
    assert computed(run(lab, out, {"W": 1e-4})) == [set()] * 3
    table = [{"device_id": 1, "W": 2e-4}, {"device_id": "*", "W": 1e-4}]
    again = run(lab, out, table)
    assert computed(again) == [{"per_width", "twice"}, set(), set()]
    assert [r.outcome for r in again.experiments] == ["done", "unchanged", "unchanged"]
    results = open_results(out)
    scale = np.array([2e-4, 1e-4, 1e-4])[:, None]
    np.testing.assert_allclose(results.per_width.values, results.largest.values / scale)
    # What no feature uses is written, and costs no computing.
    noted = run(lab, out, [{"device_id": 1, "W": 2e-4}, {"W": 1e-4, "electrolyte": "KCl"}])
    assert computed(noted) == [set()] * 3
    assert {record.outcome for record in noted.experiments} == {"done"}
    assert set(open_results(out).sample_electrolyte.values) == {"KCl"}
    # Without the table, nobody knows W.
    assert computed(run(lab, out)) == [{"per_width", "twice"}] * 3
    assert np.isnan(open_results(out).per_width).all()
    assert "sample_W" not in open_results(out).coords


def test_what_the_file_says_counts_and_the_contradiction_is_said(lab, tmp_path):
    with h5py.File(lab / "device0.h5", "a") as file:
        sample = file.create_group("sample")
        sample.attrs.update({"W": 3e-4, "ink": "blue", "L": 50.0, "d": [1, 2]})
    table = device_csv(tmp_path / "d.csv", "*,*,100,")
    report = run(lab, tmp_path / "out", table)
    metadata = read_metadata(tmp_path / "out" / "test_0.parquet")
    assert metadata["identity"]["sample"] == {"W": 3e-4, "ink": "blue"}
    assert metadata["features"]["per_width"]["sample"] == {"W": 3e-4}
    assert "sample" not in metadata["features"]["largest"]
    warnings = report.experiments[0].warnings
    assert list(warnings) == metadata["warnings"]
    assert [w.split(";")[0] for w in sorted(warnings)] == [
        "/sample: L=50 m is impossible",
        "/sample: d is a list of 2, expected a number",
        f"W: the file says 0.0003 m, {table}, line 2 says 0.0001 m",
    ]
    assert run(lab, tmp_path / "out", table).experiments[0].warnings == warnings


def test_a_contradictory_table_costs_the_device_that_it_concerns(lab, tmp_path):
    chip = chip_of(lab)
    table = device_csv(tmp_path / "d.csv", f"{chip},*,100,", "*,1,200,")
    report = run(lab, tmp_path / "out", table)
    outcomes = {record.experiment_id: record for record in report.experiments}
    assert len(report.failed) == 1
    assert "line 2 says 0.0001 m" in report.failed[0].reason
    assert outcomes["test_1"].outcome == "done"


def test_a_wrong_table_stops_before_anything_is_done(lab, tmp_path):
    table = device_csv(tmp_path / "d.csv", "*,*,0,")
    for call in (extract, plan):
        with pytest.raises(ConfigError, match="line 2: W=0 µm is impossible"):
            call(lab, FEATURES, tmp_path / "out", samples=table)
    assert not list(tmp_path.glob("out/*.parquet"))
