"""Ingest with a table of devices: raw files know their geometry."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from oectflow.errors import ConfigError
from oectflow.measurement import Measurement, Step
from oectflow.pipeline.inputs.experiment import Experiment
from oectflow.pipeline.inputs.ingest import ingest
from oectflow.pipeline.inputs.samples import read_samples, with_sample


def make_folder(folder: Path, device: object) -> Path:
    folder.mkdir(parents=True)
    test_info = {
        "chip_id": "#7",
        "device_number": device,
        "description": "d",
        "test_id": f"test_{folder.name}",
        "steps": [{"type": "transfer", "data_file": "1.csv"}],
    }
    (folder / "test_info.json").write_text(json.dumps(test_info), "utf-8")
    (folder / "1.csv").write_text("Vg,Id\n0,1e-6\n0.1,2e-6\n0.2,3e-6\n", "utf-8")
    return folder


@pytest.mark.parametrize("workers", [1, 2])
def test_the_table_is_written_into_the_files(tmp_path: Path, workers: int) -> None:
    raw = tmp_path / "instrument"
    for name, device in {"a": 1, "b": "01", "c": "3"}.items():
        make_folder(raw / name, device)
    table = raw / "devices.csv"
    table.write_text(
        "chip_id,device_id,W (µm),ink,age (d)\n#7,1,100,blue,3\n#7,01,200,,\n", "utf-8"
    )
    report = ingest(raw, tmp_path / "out", samples=table, workers=workers)
    assert len(report.written) == 3
    # The table itself is no measurement.
    assert report.unread == ()
    samples = [Experiment(record.path).sample for record in report.records if record.path]
    assert samples == [
        {"W": 100 / 1e6, "ink": "blue", "age": 3.0, "units": {"age": "d"}},
        {"W": 200 / 1e6},
        {},
    ]
    assert [record.warnings for record in report.records[:2]] == [(), ()]
    assert report.records[2].warnings == (
        "the table of samples says nothing of chip '#7', device '3'",
    )


def test_a_contradictory_row_costs_its_device_only(tmp_path: Path) -> None:
    for device in (1, 2):
        make_folder(tmp_path / "raw" / str(device), device)
    table = [{"chip_id": "#7", "W": 1e-4}, {"device_id": 1, "W": 2e-4}]
    report = ingest(tmp_path / "raw", tmp_path / "out", samples=table)
    assert [record.status for record in report.records] == ["failed", "written"]
    assert "W of chip '#7', device '1'" in report.records[0].reason


def test_a_wrong_table_stops_before_anything_is_written(tmp_path: Path) -> None:
    make_folder(tmp_path / "raw" / "a", 1)
    with pytest.raises(ConfigError, match="W=100 m is impossible"):
        ingest(tmp_path / "raw", tmp_path / "out", samples={"W": 100})
    assert not (tmp_path / "out").exists()


def test_what_the_measurement_says_itself_counts() -> None:
    measurement = Measurement({}, [Step("transfer", {})], {"W": 1e-4}, warnings=("one",))
    table = read_samples({"W": 2e-4, "L": 1e-5})
    found = with_sample(measurement, {"chip_id": "A"}, table)
    assert found.sample == {"W": 1e-4, "L": 1e-5}
    assert found.warnings == (
        "one",
        "W: the file says 0.0001 m, samples, device 1 says 0.0002 m; the file counts",
    )
    assert with_sample(measurement, {}, None) is measurement
