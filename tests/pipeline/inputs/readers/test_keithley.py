from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from oectflow.errors import IngestError
from oectflow.measurement import Measurement
from oectflow.pipeline.inputs.readers.keithley import READER

VG = np.linspace(0.0, -0.9, 19)
LOOP = np.concatenate([VG, VG[-2::-1]])
ID = -4e-3 * np.clip(-0.2 - LOOP, 0, None) - 1e-8
U_ID = np.abs(ID) / 1000
IG = np.full(len(LOOP), -3e-6)
TAIL = ["", "V_DS =\t-0.600", "Number of Averages =\t5", "Width/um =\t4000", "Length/um =\t20"]
CONFIG = (
    "[Dimensions]\nWidth (um) {0} 4000\nLength (um) {0} 20\nThickness (nm) {0} 50\n"
    "[Output]\nVgs : 2\n"
)


def rows(columns: Sequence[np.ndarray], separator: str = "\t", form: str = "%.9E") -> list[str]:
    return [separator.join(form % value for value in row) for row in zip(*columns, strict=True)]


def read(path: Path, lines: Sequence[str], end: str = "\n") -> Measurement:
    path.parent.mkdir(exist_ok=True)
    path.write_text(end.join([*lines, ""]), newline="")
    assert READER.recognises(path).confidence > 0.85
    (measurement,) = READER.read(path).measurements
    return measurement


def labview(tail: Sequence[str] = TAIL) -> list[str]:
    return ["V_G\tI_DS (A)\tI_DS Error (A)\tI_G (A)", *rows([LOOP, ID, U_ID, IG]), *tail]


def savetxt(tail: Sequence[str] = TAIL) -> list[str]:
    head = "V_G\tI_G (A)\tI_DS (A)\tI_DS Error (A)"
    return [head, *rows([LOOP, IG, ID, U_ID]), *(line.replace(" =", "=") for line in tail[1:])]


def commented(tail: Sequence[str] = TAIL) -> list[str]:
    lines = savetxt(tail)
    n = len(LOOP)
    data = [row.replace("\t", " ") for row in lines[1 : n + 1]]
    return ["# " + lines[0], *data, *("# " + line for line in lines[n + 1 :])]


@pytest.mark.parametrize("write", [labview, savetxt, commented])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_transfer_with_errors_and_geometry(tmp_path: Path, write: object, end: str) -> None:
    (tmp_path / "config.cfg").write_text(CONFIG.format(":"))
    found = read(tmp_path / "t_0.txt", write(), end)  # type: ignore[operator]
    (step,) = found.steps
    assert step.kind == "transfer"
    for name, expected in {"Vg": LOOP, "Id": ID, "u_Id": U_ID, "Ig": IG}.items():
        np.testing.assert_allclose(step.arrays[name], expected, rtol=1e-9)
    assert step.values["Vd"] == -0.6
    assert found.sample == pytest.approx({"W": 4e-3, "L": 2e-5, "d": 5e-8})
    assert step.info["parameters"]["Number of Averages"] == "5"
    assert not found.warnings


def test_settings_at_the_head(tmp_path: Path) -> None:
    lines = labview()
    found = read(tmp_path / "t.txt", ["Operator\tA. B.", *TAIL[1:], *lines[: -len(TAIL)]])
    assert found.steps[0].values["Vd"] == -0.6
    assert found.sample["W"] == 4e-3
    assert found.steps[0].info["parameters"]["Operator"] == "A. B."


def test_output_curve(tmp_path: Path) -> None:
    vd = np.linspace(0, -0.7, 8)
    lines = ["V_DS\tI_DS (A)\tI_DS Error (A)\tI_G (A)\tI_G Error (A)"]
    lines += rows([vd, vd * 1e-5, vd * 0 + 1e-8, vd * 0 - 1e-6, vd * 0 + 1e-9])
    (step,) = read(tmp_path / "o.txt", [*lines, "\t\t", "V_G =\t-0.500", "Width/um =\t400"]).steps
    assert step.kind == "output"
    assert step.values["Vg"] == -0.5
    assert {"u_Id", "u_Ig"} <= step.arrays.keys()


@pytest.mark.parametrize("unit", ["ms", "s"])
def test_transient_of_the_same_program(tmp_path: Path, unit: str) -> None:
    time = np.arange(100) * 0.01
    gate = np.where(time % 0.5 < 0.25, 0.0, -0.5)
    factor = {"ms": 1e3, "s": 1}[unit]
    lines = [f"Time ({unit})\tV_G (V)\tI_DS(A)\tI_DS error (A)"]
    lines += rows([time * factor, gate, gate * 1e-3, np.abs(gate) * 1e-6], form="%.10f")
    (step,) = read(tmp_path / "x.txt", [*lines, "V_DS =\t-0.6"]).steps
    assert step.kind == "transient"
    np.testing.assert_allclose(step.arrays["time"], time, atol=1e-12)
    np.testing.assert_allclose(step.arrays["Vg"], gate)
    assert "u_Id" in step.arrays
    assert step.values["Vd"] == -0.6


@pytest.mark.parametrize("repeat_headings", [True, False])
def test_loops_are_steps(tmp_path: Path, repeat_headings: bool) -> None:
    once = labview(())
    found = read(tmp_path / "t.txt", [*once, *once[not repeat_headings :], *once[1:], *TAIL])
    assert len(found.steps) == 3
    for step in found.steps:
        np.testing.assert_allclose(step.arrays["Vg"], LOOP, atol=1e-9)
        assert step.values["Vd"] == -0.6
    assert [step.values["curve"] for step in found.steps] == [1, 2, 3]


def test_file_and_config_that_contradict_each_other(tmp_path: Path) -> None:
    (tmp_path / "a.cfg").write_text(CONFIG.format("=").replace("4000", "400"))
    found = read(tmp_path / "t.txt", labview())
    assert found.sample["W"] == 4e-3
    assert any("0.004 m in the file and 0.0004 m in a.cfg" in w for w in found.warnings)


def test_which_config_is_its_own(tmp_path: Path) -> None:
    for name, width in (("dev1_config.cfg", 100), ("dev2_config.cfg", 200)):
        (tmp_path / name).write_text(f"[Dimensions]\nWidth (um) : {width}\n")
    lines = labview(TAIL[:3])
    assert read(tmp_path / "dev2_transfer_0.txt", lines).sample["W"] == 2e-4
    other = read(tmp_path / "another.txt", lines)
    assert "W" not in other.sample
    assert any("several .cfg" in warning for warning in other.warnings)


def test_a_config_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.cfg").write_bytes(b"\0\xff no section")
    found = read(tmp_path / "t.txt", labview())
    assert any("a.cfg cannot be read" in warning for warning in found.warnings)
    assert len(found.steps) == 1


def test_overflow_and_rows_that_are_cut(tmp_path: Path) -> None:
    lines = labview(())
    lines[5] = "-0.2\t9.91E+37\t1e-9\tOVLD"
    lines[-1] = lines[-1][:10]
    found = read(tmp_path / "t.txt", ["V_DS = -0.6", *lines])
    assert np.isnan(found.steps[0].arrays["Id"][4])
    assert np.isnan(found.steps[0].arrays["Ig"][4])
    assert len(found.steps[0]) == len(LOOP) - 1
    words = "\n".join(found.warnings)
    assert "out of range" in words
    assert "the file is cut there" in words


def test_more_cells_than_headings_is_an_error(tmp_path: Path) -> None:
    lines = labview()
    lines[3] += "\t1"
    with pytest.raises(IngestError, match="line 4 has 5 cells under 4 headings"):
        read(tmp_path / "t.txt", lines)


def test_no_row_of_numbers(tmp_path: Path) -> None:
    with pytest.raises(IngestError, match="no row of numbers"):
        read(tmp_path / "t.txt", [labview()[0], *TAIL])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Vg\tId\n0\t1\n",
        "V_DS = -0.6\n",
        "V_G,I_DS (A)\n0,1\nV_DS = 1\n",
        "\0" * 100,
        "Time\tTemperature\n0\t1\nWidth/um = 3\n",
    ],
)
def test_strangers_are_not_recognised(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    assert READER.recognises(tmp_path / "a.txt").confidence == 0
