"""Data, tables and workflow of an experiment, against what stands in the file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

import oectflow as of


@pytest.fixture
def ragged(shared_data: Path, tmp_path: Path) -> of.UnifiedExperiment:
    """The real file with sweeps of different lengths, in a catalog."""
    (source,) = (shared_data / "oect_infra").glob("*deadbeef.h5")
    (tmp_path / "raw").mkdir()
    shutil.copy(source, tmp_path / "raw")
    with of.UnifiedExperimentManager(tmp_path) as manager:
        manager.catalog.scan()
        (found,) = manager.search()
    return found


def test_transfer__as_in_the_file(ragged):
    with h5py.File(ragged.file_path) as file:
        raw = file["transfer/measurement_data"][()]
    both = ragged.get_transfer_data()
    np.testing.assert_array_equal(both["measurement_data"], raw)
    assert both["data_info"]["shape"] == raw.shape
    assert both["data_info"]["units"] == ["V", "A"]
    for index in range(len(raw)):
        step = ragged.get_transfer_data(index)
        there = ~np.isnan(raw[index, 0])
        np.testing.assert_array_equal(step["Vg"], raw[index, 0, there])
        np.testing.assert_array_equal(step["Id"], raw[index, 1, there])
    assert ragged.get_transfer_summary()["measurement_data_shape"] == raw.shape


def test_transient__as_in_the_file(ragged):
    with h5py.File(ragged.file_path) as file:
        raw = file["transient/measurement_data"][()]
        table = file["transient/step_info_table"][()]
    whole = ragged.get_transient_data()
    assert list(whole) == ["continuous_time", "original_time", "drain_current"]
    np.testing.assert_array_equal(np.array(list(whole.values())), raw)
    start, stop = table["start_data_index"][1], table["end_data_index"][1]
    step = ragged.get_transient_data(1)
    np.testing.assert_array_equal(np.array(list(step.values())), raw[:, start:stop])
    assert ragged.get_transient_summary()["total_data_points"] == raw.shape[1]


def test_tables_and_summaries(ragged):
    assert len(ragged.get_transfer_step_info_table()) == ragged.transfer_steps == 3
    assert len(ragged.get_transient_step_info_table()) == ragged.transient_steps == 2
    summary = ragged.get_data_summary()
    assert summary["transfer_data"]["step_count"] == 3
    assert summary["file_path"] == ragged.file_path
    about = ragged.get_experiment_summary()
    assert about["progress_info"]["completion_percentage"] == 83.3
    assert about["device_info"]["device_number"] == ragged.device_id
    assert about["has_workflow"] is ragged.has_workflow() is False
    assert ragged.get_workflow() is None
    assert ragged.get_workflow_summary() == {"has_workflow": False}
    assert ragged.get_workflow_metadata() == {}
    assert not ragged.export_workflow("workflow.json")
    info = ragged.get_info()
    assert info["status_info"]["is_completed"] is False
    assert ragged.created_at.startswith("2025-08-15T")


def test_nothing_of_a_kind_is_none(manager, make_device, lab):
    device = make_device(9, n_transient=0)
    device.write(lab / "data" / "raw" / device.file_name)
    manager.catalog.scan()
    found = manager.get_experiment(test_id="test_9")
    assert found.get_transient_data() is None
    assert found.get_transient_summary() is None
    assert found.get_transient_step_info_table() is None
    assert "transient_data" not in found.get_data_summary()


def test_a_file_that_changed_is_opened_again(experiment):
    before = experiment.get_transfer_data(0)["Id"]
    with h5py.File(experiment.file_path, "r+") as file:
        data = file["transfer/measurement_data"]
        data[0, 1] = 2 * data[0, 1]
    np.testing.assert_array_equal(experiment.get_transfer_data(0)["Id"], 2 * before)


def test_workflow__printed_and_exported(experiment, lab, capsys):
    experiment.print_workflow(indent=1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "  1. loop 3 times"
    assert lines[2].startswith("    1.2. transient timeStep=1 drainVoltage=100 bottomTime=30")
    assert "sourceVoltage" not in lines[2]
    experiment.print_workflow(show_all_params=True)
    assert "sourceVoltage=0" in capsys.readouterr().out
    assert experiment.export_workflow(lab / "workflow.json")
    with h5py.File(experiment.file_path) as file:
        assert json.loads((lab / "workflow.json").read_text()) == json.loads(
            file["raw/workflow"][()]
        )
    assert experiment.duration == 420.0  # seven steps of a minute each
