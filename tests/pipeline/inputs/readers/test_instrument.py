from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oectflow.measurement import Measurement
from oectflow.pipeline.inputs.readers.instrument import READER
from oectflow.pipeline.inputs.readers.test_info import read_test_info, tidy_test_info


def read(folder: Path, steps: list[Any], files: dict[str, str | bytes], **info: Any) -> Measurement:
    name = "test_info_temp.json" if info.get("status") == "in_progress" else "test_info.json"
    (folder / name).write_text(json.dumps({**info, "steps": steps}), "utf-8")
    for file, content in files.items():
        (folder / file).write_bytes(content.encode() if isinstance(content, str) else content)
    (measurement,) = READER.read(folder).measurements
    return measurement


def read_transfer(
    folder: Path, files: dict[str, bytes], entry: dict[str, Any] | None = None
) -> Measurement:
    return read(folder, [{"type": "transfer", **(entry or {})}], dict(files))


@pytest.mark.parametrize(
    ("entry", "files", "chosen"),
    [
        ({"data_file": r"C:\lab\data.csv"}, ["data.csv", "1.csv"], "data.csv"),
        ({"x": [{"y": "/lab/deep.CSV"}]}, ["deep.CSV", "1.csv"], "deep.CSV"),
        ({"data_file": "gone.csv", "other": "here.csv"}, ["here.csv"], "here.csv"),
        ({"data_file": "gone.csv"}, ["1_any.csv", "1.csv", "11_any.csv"], "1_any.csv"),
        ({}, ["step1_any.csv", "1.csv", "step11_any.csv"], "step1_any.csv"),
        ({}, ["1.csv", "01.csv", "0.csv"], "1.csv"),
        ({}, ["1_output.csv", "1_transfer.csv"], "1_transfer.csv"),
    ],
)
def test_read_folder__finds_the_csv_of_a_step(
    tmp_path: Path, entry: dict[str, Any], files: list[str], chosen: str
) -> None:
    sweeps = {name: f"Vg,Id\n0,{i}\n".encode() for i, name in enumerate(files)}
    found = read_transfer(tmp_path, sweeps, entry)
    (step,) = found.steps
    assert step.arrays["Id"][0] == files.index(chosen)
    # The others are named.
    others = {name for name in files if name != chosen}
    assert {w.split(" belongs to no step")[0] for w in found.warnings} == others


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gbk"])
@pytest.mark.parametrize(
    "text",
    [
        "Time,备注,Vg,Id\n9,中,1,2\n",
        '"Time","备注","gate_voltage","drain_current"\r\n9,"a,b",1,2\r\n',
        "\n 备注 , id , vg \n中, 2 , 1 \n\n",
        "vg,备注,gate_voltage,Vg,Id\n7,,8,1,2",
    ],
)
def test_read_folder__encodings_and_headings(tmp_path: Path, encoding: str, text: str) -> None:
    found = read_transfer(tmp_path, {"1.csv": text.encode(encoding)})
    np.testing.assert_array_equal(found.steps[0].arrays["Vg"], [1])
    np.testing.assert_array_equal(found.steps[0].arrays["Id"], [2])
    # What is no array of a sweep is kept where it is a number, and named.
    kept = {"vg": [7.0], "gate_voltage": [8.0]} if text.startswith("vg") else {}
    extra = found.steps[0].extra.values()
    assert {one.heading: one.values.tolist() for one in extra} == kept
    assert len(found.warnings) == 1 + len(kept)
    for heading in ("备注", *kept):
        assert any(repr(heading) in warning for warning in found.warnings)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gbk"])
def test_read_test_info__encodings(tmp_path: Path, encoding: str) -> None:
    test_info = {"description": "稳定性", "steps": [{"type": "transfer"}]}
    text = json.dumps(test_info, ensure_ascii=False)
    (tmp_path / "test_info.json").write_bytes(text.encode(encoding))
    assert read_test_info(tmp_path).original == test_info


@pytest.mark.parametrize("flaw", ["", "0.4,abc\n"])
def test_read_folder__numbers_are_read_exactly(tmp_path: Path, flaw: str) -> None:
    rng = np.random.default_rng(5)
    cells = [f"{x:.17g}" for x in 10.0 ** rng.uniform(-12, 2, 400) * rng.choice([-1, 1], 400)]
    cells += ["1e-320", "-0.0", "inf", "NaN", "1E-3", "5"]
    text = "Vg,Id\n" + "".join(f"0.5,{cell}\n" for cell in cells) + flaw
    (step,) = read_transfer(tmp_path, {"1.csv": text.encode()}).steps
    np.testing.assert_array_equal(step.arrays["Id"][: len(cells)], [float(cell) for cell in cells])


def test_read_folder__cells_that_are_no_numbers(tmp_path: Path) -> None:
    text = "\r\nVg,Id\r\n0,1\r\n\r\n0.1,1_000\r\n0.2,\r\n0.3,4\r\nx,6\r\n0.4\r\n0.5"
    found = read_transfer(tmp_path, {"1.csv": text.encode()})
    (step,) = found.steps
    np.testing.assert_array_equal(step.arrays["Vg"], [0, 0.1, 0.2, 0.3, np.nan, 0.4])
    np.testing.assert_array_equal(step.arrays["Id"], [1, np.nan, np.nan, 4, 6, np.nan])
    cut, warning = found.warnings
    assert "the last line, '0.5', is cut and is left out" in cut
    assert "step 1 (transfer): 1.csv, line 5: Id is '1_000'" in warning
    assert "3 more" in warning


def test_tidy_test_info() -> None:
    raw = {
        "test_type": "workflow",
        "device_id": "unit",
        "status": "completed",
        "metadata": {"chip_id": "c", "status": "not this", "raw_params": {"a": 1}},
        "summary": {"completed_steps": 2, "completion_percentage": 50.0, "total_steps": 9},
        "steps": [{"type": "transfer", "workflow_info": {"path": [1], "step_index": 1}}, "odd"],
    }
    before = json.dumps(raw)
    tidy = tidy_test_info(raw)
    assert tidy == {
        "test_unit_id": "unit",
        "status": "completed",
        "chip_id": "c",
        "completed_steps": 2,
        "completion_percentage": 50.0,
        "steps": [{"type": "transfer", "workflow_info": {"step_index": 1}}, "odd"],
    }
    assert json.dumps(raw) == before
    assert tidy_test_info(tidy) == tidy
