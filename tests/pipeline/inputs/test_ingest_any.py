"""Ingest of any folder: running tests, strangers' files, links, and what is made to do harm."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oectflow.pipeline.inputs.experiment import Experiment
from oectflow.pipeline.inputs.ingest import ingest
from oectflow.pipeline.inputs.ingest_report import IngestRecord

SWEEP = "Vg,Id\n0,1e-6\n0.1,2e-6\n0.2,3e-6\n0.3,4e-6\n"


def make(folder: Path, steps: list[Any], files: dict[str, str], **info: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    name = "test_info_temp.json" if info.get("status") == "in_progress" else "test_info.json"
    known = {"test_id": "test_1", "chip_id": "c", "device_number": "1", "description": "d"}
    (folder / name).write_text(json.dumps({**known, **info, "steps": steps}), "utf-8")
    for file, text in files.items():
        (folder / file).write_text(text)
    return folder


def experiment(record: IngestRecord) -> Experiment:
    assert record.path is not None, record.reason
    return Experiment(record.path)


def test_ingest__folders_of_the_instrument_of_today(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "instrument_v2"
    if not source.is_dir():
        pytest.skip(f"{source} is not there")
    report = ingest(source, tmp_path)
    done, running, stopped = report.records
    assert [dict(record.n_steps) for record in report.records] == [
        {"transfer": 1, "transient": 1, "output": 4},
        {"transfer": 1, "transient": 1},
        {"transfer": 1, "output": 4},
    ]
    found = experiment(done)
    assert found.attributes["status"] == "completed"
    gates = [-0.4, -0.2, 0, 0.2]
    folder = source / "20260112-095958_completed"
    table = np.genfromtxt(folder / "3_output.csv", delimiter=",", skip_header=1)
    assert table.shape == (31, 5)
    for i, gate in enumerate(gates):
        step = found.step("output", i)
        assert float(np.unique(step["Vg"])[0]) == gate
        np.testing.assert_array_equal(step["Vd"], table[:, 0])
        np.testing.assert_array_equal(step["Id"], table[:, i + 1])
    trace = np.genfromtxt(folder / "2_transient.csv", delimiter=",", skip_header=1)
    step = found.step("transient", 0)
    np.testing.assert_array_equal(step["original_time"], trace[:, 0])
    np.testing.assert_array_equal(step["drain_current"], trace[:, 1])
    np.testing.assert_array_equal(step["Vg"], trace[:, 2])

    found = experiment(running)
    assert found.attributes["status"] == "in_progress"
    assert found.attributes["total_steps"] == 3
    assert len(found.step("transient", 0)["original_time"]) == 729
    assert "not whole yet" in "".join(running.warnings)

    found = experiment(stopped)
    assert found.attributes["status"] == "stopped"
    assert found.attributes["description"] == "稳定性测试"
    assert [len(found.step("output", i)["Id"]) for i in range(4)] == [31, 31, 31, 12]
    assert found.step_table("output")["reason"].tolist() == ["stopped"] * 4


def test_ingest__a_running_test_is_read_again_when_there_is_more(tmp_path: Path) -> None:
    described = [{"type": "transfer", "data_file": "1_transfer.csv", "parameters": {}}]
    trace = "Time,Id,Vg\n0,1e-6,0.1\n0.001,2e-6,0.1\n0.00"
    source = make(
        tmp_path / "in" / "test",
        described,
        {"1_transfer.csv": SWEEP, "2_transient.csv": trace},
        status="in_progress",
        completed_steps=1,
    )

    def run() -> IngestRecord:
        (record,) = ingest(tmp_path / "in", tmp_path / "out").records
        return record

    assert run().status == "written"
    again = run()
    assert (again.status, again.reason[-11:]) == ("skipped", "nothing new")
    with (source / "2_transient.csv").open("a") as file:
        file.write("2,3e-6,0.4\n")
    grown = run()
    assert grown.status == "updated"
    step = experiment(grown).step("transient", 0)
    np.testing.assert_array_equal(step["original_time"], [0, 0.001, 0.002])
    np.testing.assert_array_equal(step["Vg"], [0.1, 0.1, 0.4])
    # The test has ended: its description takes the place of the one before.
    transient = {"type": "transient", "data_file": "2_transient.csv", "parameters": {"timeStep": 1}}
    make(source, [*described, transient], {}, status="completed")
    ended = run()
    assert ended.status == "updated"
    assert "test_info_temp.json is passed over" in "".join(ended.warnings)
    (source / "test_info_temp.json").unlink()
    assert experiment(ended).attributes["status"] == "completed"
    assert "source_hash" not in experiment(ended).attributes
    assert run().status == "skipped"
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_ingest__a_test_that_has_just_begun(tmp_path: Path) -> None:
    source = make(tmp_path / "in", [], {"1_output.csv": "Vd,Id(Vg=0mV)\n"}, status="in_progress")
    (record,) = ingest(source, tmp_path / "out").records
    assert record.status == "failed"
    assert "1_output.csv has no rows yet" in record.reason
    (source / "1_output.csv").write_text("Vd,Id(Vg=0mV),Id(Vg=200mV)\n0,1e-6,\n0.1,2e-6,\n0.2")
    (record,) = ingest(source, tmp_path / "out").records
    assert record.n_steps == {"output": 1}
    np.testing.assert_array_equal(experiment(record).step("output", 0)["Id"], [1e-6, 2e-6])
    assert "the curve at Vg = 0.2 V has no points" in "".join(record.warnings)


def test_ingest__files_of_all_kinds_beside_a_folder_of_the_instrument(tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    make(lab / "chip_7" / "test", [{"type": "transfer"}], {"1.csv": SWEEP})
    (lab / "chip_7" / "test" / "notes.txt").write_text("a good day")
    for folder in ("chip_7/device 2", "chip_8"):
        (lab / folder).mkdir(parents=True, exist_ok=True)
        (lab / folder / "curve.csv").write_text(SWEEP)
    (lab / "photo.PNG").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    (lab / "empty.csv").touch()
    (lab / ".hidden").mkdir()
    (lab / ".hidden" / "curve.csv").write_text(SWEEP)
    report = ingest(lab, lab / "raw")
    assert not report.failed, str(report)
    by_source = {str(record.source.relative_to(lab)): record for record in report.records}
    assert set(by_source) == {"chip_7/test", "chip_7/device 2/curve.csv", "chip_8/curve.csv"}
    one = experiment(by_source["chip_7/device 2/curve.csv"])
    two = experiment(by_source["chip_8/curve.csv"])
    assert one.experiment_id != two.experiment_id
    assert one.experiment_id.startswith("test_curve_")
    assert (one.chip_id, one.device_id, two.chip_id, two.device_id) == ("7", "2", "8", "")
    assert one.attributes["source_file_path"] == str(lab / "chip_7" / "device 2" / "curve.csv")
    np.testing.assert_array_equal(one.step("transfer", 0)["Vg"], [0, 0.1, 0.2, 0.3])
    assert by_source["chip_8/curve.csv"].reader == "text"
    assert by_source["chip_8/curve.csv"].recognition
    unread = {str(one.path.relative_to(lab)): one.reason for one in report.unread}
    assert set(unread) == {"chip_7/test/notes.txt", "photo.PNG", "empty.csv"}
    assert unread["empty.csv"] == "the file is empty"
    text = str(report)
    assert text.splitlines()[0] == "3 written, 0 skipped, 0 failed, 3 not read"
    assert "read by instrument: 1, text: 2" in text
    assert text.splitlines()[-1] == "not read: 1 *.png"
    assert ".hidden is hidden" in text
    # What is there is kept, and what was made is not taken for a measurement.
    again = ingest(lab, lab / "raw")
    assert [record.status for record in again.records] == ["skipped"] * 3
    (lab / "chip_8" / "curve.csv").write_text(SWEEP + "0.4,5e-6\n")
    changed = ingest(lab / "chip_8", lab / "raw").records[0]
    assert changed.status == "skipped"
    assert "its source has changed since" in changed.reason
    (replaced,) = ingest(lab / "chip_8", lab / "raw", on_conflict="overwrite").records
    assert len(experiment(replaced).step("transfer", 0)["Vg"]) == 5


def test_ingest__one_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(SWEEP)
    (record,) = ingest(tmp_path / "a.csv", tmp_path / "raw").records
    assert record.n_steps == {"transfer": 1}


def test_ingest__links_are_followed_once(tmp_path: Path) -> None:
    make(tmp_path / "far" / "test", [{"type": "transfer"}], {"1.csv": SWEEP})
    lab = tmp_path / "lab"
    make(lab / "near", [{"type": "transfer"}], {"1.csv": SWEEP}, test_id="test_2")
    try:
        (lab / "linked").symlink_to(tmp_path / "far")
        (lab / "again").symlink_to(tmp_path / "far" / "test")
        (lab / "near" / "circle").symlink_to(lab)
        (lab / "self").symlink_to(lab / "self")
        (lab / "gone.csv").symlink_to(tmp_path / "nowhere.csv")
    except OSError as error:
        pytest.skip(f"no links here: {error}")
    report = ingest(lab, tmp_path / "raw")
    assert len(report.written) == 2
    assert sum("is a link to" in note for note in report.notes) == 3
    assert {one.path.name: one.reason.split(": ")[1] for one in report.unread}.keys() == {
        "gone.csv",
        "self",
    }


def _pipe(folder: Path, name: str) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes here")
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)


def _text(text: str) -> Any:
    def write(folder: Path) -> None:
        (folder / "test_info.json").write_text(text)

    return write


def _info(**change: Any) -> Any:
    info = {"test_id": "test_bad", "steps": [{"type": "transfer", "data_file": "1.csv"}]} | change
    return _text(json.dumps(info))


def _nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


HOSTILE = {
    "100,000 keys": (_info(**{f"key {i}": i for i in range(100_000)}), "100,002 keys"),
    "100,000 parameters": (
        _info(steps=[{"type": "transfer", "parameters": {f"p{i}_{k}": 1 for k in range(500)}}
                     for i in range(200)]),
        "different parameters",
    ),
    "5,000 digits": (_text('{"steps": [{"type": "transfer"}], "n": ' + "9" * 5000 + "}"), "digits"),
    "400 digits": (
        _text('{"steps": [{"type": "transfer", "parameters": {"n": ' + "9" * 400 + "}}]}"),
        "digits",
    ),
    "deep JSON": (_text("[" * 100_000 + "]" * 100_000), "nested too deeply"),
    "less deep JSON": (_info(metadata=_nested(300)), "nested more than"),
    "a megabyte of chip": (_info(chip_id="x" * 2**20), "1,048,576 characters"),
    "a long list": (
        _info(steps=[{"type": "transfer", "parameters": {"list": list(range(50_000))}}]),
        "is a list of",
    ),
    "a long key": (_info(**{"k" * 20_000: 1}), "a key has"),
    "a pipe for a description": (lambda folder: _pipe(folder, "test_info.json"), "is a pipe"),
    "a pipe for a step": (lambda folder: _pipe(folder, "1.csv"), "is a pipe"),
    "a device for a step": (
        lambda folder: ((folder / "1.csv").unlink(), (folder / "1.csv").symlink_to("/dev/zero")),
        "is a device",
    ),
    "a folder for a description": (
        lambda folder: ((folder / "test_info.json").unlink(), (folder / "test_info.json").mkdir()),
        "is a folder",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_ingest__harm_is_refused_and_stops_nobody(tmp_path: Path, name: str) -> None:
    spoil, words = HOSTILE[name]
    bad = make(
        tmp_path / "in" / "bad",
        [{"type": "transfer", "data_file": "1.csv"}],
        {"1.csv": SWEEP},
        test_id="test_bad",
    )
    spoil(bad)
    make(tmp_path / "in" / "good", [{"type": "transfer"}], {"1.csv": SWEEP})
    refused, good = ingest(tmp_path / "in", tmp_path / "out").records
    assert good.status == "written"
    assert refused.status == "failed"
    assert words in refused.reason
    assert len(refused.reason) < 1000


def test_ingest__pipes_and_devices_are_offered_to_nobody(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    _pipe(tmp_path / "in", "curve.csv")
    (tmp_path / "in" / "zero.txt").symlink_to("/dev/zero")
    report = ingest(tmp_path / "in", tmp_path / "out")
    assert [one.reason.split(": ")[1] for one in report.unread] == [
        "is a pipe, expected a file",
        "is a device, expected a file",
    ]
