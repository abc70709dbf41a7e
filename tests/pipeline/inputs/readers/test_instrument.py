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
    cells += ["1e-320", "-0.0", "8e37", "NaN", "1E-3", "5"]
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


def test_read_folder__headings_with_other_units(tmp_path: Path) -> None:
    text = "Vgs [mV],I_D (µA),IG / nA\n-400,1.5,2\n-380,1.25,3\n"
    (step,) = read_transfer(tmp_path, {"1.csv": text.encode()}).steps
    np.testing.assert_allclose(step.arrays["Vg"], [-0.4, -0.38], rtol=1e-15)
    np.testing.assert_allclose(step.arrays["Id"], [1.5e-6, 1.25e-6])
    np.testing.assert_allclose(step.arrays["Ig"], [2e-9, 3e-9])


def test_read_folder__curves_contradict_the_parameters(tmp_path: Path) -> None:
    entry = {"type": "output", "parameters": {"gateVoltageList": [-400, 200]}}
    text = "Vd,Id(Vg=-400mV),Id(Vg=300mV)\n0,1e-9,2e-9\n-0.1,1e-6,\n"
    found = read(tmp_path, [entry], {"1_output.csv": text})
    assert [step.values["Vg"] for step in found.steps] == [-0.4, 0.3]
    assert [len(step) for step in found.steps] == [2, 1]
    assert [step.values["curve"] for step in found.steps] == [1, 2]
    (warning,) = found.warnings
    assert "Vg = -400, 300 mV, the parameters -400, 200 mV; the headings count" in warning


def test_read_folder__the_same_gate_voltage_twice_is_two_curves(tmp_path: Path) -> None:
    text = "Vd,Id(Vg=0mV),Ig(Vg=0mV),Id(Vg=0mV),Ig(Vg=0mV)\n0,1e-9,2e-9,3e-9,4e-9\n"
    found = read(tmp_path, [{"type": "output"}], {"1_output.csv": text})
    assert [step.arrays["Id"].tolist() for step in found.steps] == [[1e-9], [3e-9]]
    assert [step.arrays["Ig"].tolist() for step in found.steps] == [[2e-9], [4e-9]]
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("0,001,1,50e-6\n0,002,1,60e-6\n", None),
        ("0,1,2,3\n0,2,3,4\n", "4 cells under 2 headings"),
        ("0,001,1e-6\n0,002,2e-6\n", "line 2: 3 cells under 2 headings"),
        ("0.1,1e-6\n0.2,2e-6,7\n0.3,3e-6\n", "line 3: 3 cells under 2 headings"),
        ("0.1,1e-6,\n0.2,2e-6,\n", "line 2: 3 cells under 2 headings"),
    ],
)
def test_read_folder__more_cells_than_headings(
    tmp_path: Path, rows: str, words: str | None
) -> None:
    steps = [{"type": "transient"}, {"type": "transfer"}]
    files = {"1.csv": "Time,Id\n" + rows, "2.csv": "Vg,Id\n0,1e-6\n0.1,2e-6\n"}
    found = read(tmp_path, steps, dict(files))
    kinds = [step.kind for step in found.steps]
    if words is None:
        assert kinds == ["transient", "transfer"]
        np.testing.assert_array_equal(found.steps[0].arrays["original_time"], [0.001, 0.002])
        np.testing.assert_array_equal(found.steps[0].arrays["drain_current"], [1.5e-6, 1.6e-6])
        assert "decimal commas" in found.warnings[0]
    else:
        assert kinds == ["transfer"]
        assert words in found.warnings[0]


def test_read_folder__a_mark_of_overflow_is_no_turn_of_the_sweep(tmp_path: Path) -> None:
    rows = [f"{-0.02 * i:.2f},{1e-6 * i:g}" for i in range(12)]
    rows[5] = "9.91E37,5e-6"
    text = "\n".join(["Vd,Id(Vg=0mV)", *rows, ""])
    (step,) = read(tmp_path, [{"type": "output"}], {"1_output.csv": text}).steps
    assert len(step) == 12
    assert np.flatnonzero(np.isnan(step.arrays["Vd"])).tolist() == [5]


def test_read_folder__unknown_types_are_named(tmp_path: Path) -> None:
    steps = [{"type": "cv"}, {"type": "noise"}, {"type": "loop"}, {}]
    files: dict[str, str | bytes] = {
        "1.csv": "Vg,Id\n0,1e-6\n",
        "2.csv": "f,S\n1,2\n",
        "4.csv": "Time,Id,Vg\n0,1e-6,0.5\n",
    }
    found = read(tmp_path, steps, files)
    assert [step.kind for step in found.steps] == ["transfer", "transient"]
    named = [warning.partition(":")[0] for warning in found.warnings]
    assert named[:3] == ["step 1 (cv)", "step 2 (noise) left out", "step 3 (loop) left out"]
