from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oectflow.errors import IngestError
from oectflow.measurement import Measurement
from oectflow.pipeline.inputs.readers.easyexpert import READER
from oectflow.pipeline.inputs.readers.sense import sensible

VG = np.linspace(0.2, -0.8, 11)
DOUBLE = np.concatenate([VG, VG[::-1]])


def current(vg: Any, vd: float) -> Any:
    return 1e-3 * vd * np.exp(-vg) - 1e-9


def record(
    title: str,
    names: Sequence[str],
    curves: Sequence[Sequence[Any]],
    *,
    parameters: Sequence[str] = (),
    units: Sequence[str] = (),
) -> list[str]:
    """Write a record by row; each curve holds its columns, a shorter one is a scalar."""
    points = [len(column) for column in curves[0]]
    lines = [f"SetupTitle, {title}", "PrimitiveTest, I/V Sweep"]
    lines += [f"TestParameter, {line}" for line in parameters]
    lines += ["MetaData, TestRecord.RecordTime, 02/03/2026 16:26:08"]
    lines += ["AnalysisSetup, Analysis.Setup.Title, " + title]
    lines += ["Dimension1, " + ", ".join(map(str, points))]
    lines += ["Dimension2, " + ", ".join([str(len(curves))] * len(names))]
    lines += ["DataName, " + ", ".join(names)]
    lines += ["DataUnit, " + ", ".join(units)] if units else []
    for columns in curves:
        for i in range(max(points)):
            cells = [repr(float(c[i])) if i < len(c) else "" for c in columns]
            lines.append("DataValue, " + ", ".join(cells))
    return lines


TRANSFER = (
    "Channel.VName, Vg, Vd, Vs",
    "Channel.Func, VAR1, VAR2, CONST",
    "Measurement.Primary.Locus, Double",
    "Measurement.Secondary.Start, -0.1",
    "Measurement.Secondary.Step, -0.2",
    "Measurement.Secondary.Count, 3",
)


def transfer(vds: Sequence[float], vg: Any = DOUBLE, **more: Any) -> list[str]:
    curves = [[vg, current(vg, vd), np.full(len(vg), 1e-9)] for vd in vds]
    return record("Id-Vg", ["Vg", "Id", "Ig"], curves, parameters=TRANSFER, **more)


def read(path: Path, lines: Sequence[str], end: str = "\n", encoding: str = "utf-8") -> Measurement:
    path.write_bytes((end.join(lines) + end).encode(encoding))
    assert READER.recognises(path).confidence > 0.9
    (measurement,) = READER.read(path).measurements
    return measurement


@pytest.mark.parametrize(("end", "encoding"), [("\n", "utf-8"), ("\r\n", "utf-8-sig")])
def test_curves_of_a_record_have_the_voltage_that_only_the_setup_says(
    tmp_path: Path, end: str, encoding: str
) -> None:
    found = read(tmp_path / "a.csv", transfer([-0.1, -0.3, -0.5]), end, encoding)
    assert [step.kind for step in found.steps] == ["transfer"] * 3
    for number, (step, vd) in enumerate(zip(found.steps, (-0.1, -0.3, -0.5), strict=True)):
        np.testing.assert_array_equal(step.arrays["Vg"], DOUBLE)
        np.testing.assert_array_equal(step.arrays["Id"], current(DOUBLE, vd))
        np.testing.assert_array_equal(step.arrays["Ig"], 1e-9)
        assert step.values["Vd"] == pytest.approx(vd)
        assert step.values["curve"] == number + 1
        assert step.values["file_position"] == number * len(DOUBLE)
        assert step.info["parameters"]["Measurement.Secondary.Count"] == "3"
    assert found.attributes["description"] == "Id-Vg"
    assert not found.warnings


def test_records_of_one_file_are_steps_in_their_order(tmp_path: Path) -> None:
    vd = np.linspace(0, -0.6, 7)
    output = record(
        "Id-Vd",
        ["Vd", "Id", "Vg"],
        [[vd, current(vg, 1) * vd, np.full(7, vg)] for vg in (0.0, -0.4)],
        parameters=["Channel.VName, Vd, Vg", "Channel.Func, VAR1, VAR2"],
    )
    time = np.arange(20) * 0.05
    sampling = record(
        "I-t",
        ["@TIME", "Id"],
        [[time, np.exp(-time) * 1e-6]],
        parameters=["Channel.VName, Vd", "Channel.Func, CONST", "Measurement.Bias.Source, -0.25"],
    )
    found = read(tmp_path / "a.csv", [*transfer([-0.1]), "", *output, *sampling])
    kinds = ["transfer", "output", "output", "transient"]
    assert [step.kind for step in found.steps] == kinds
    assert [step.values["file_step"] for step in found.steps] == [0, 1, 1, 2]
    assert [step.values["Vg"] for step in found.steps[1:3]] == [0.0, -0.4]
    np.testing.assert_array_equal(found.steps[3].arrays["time"], time)
    assert found.steps[3].values["Vd"] == -0.25


def test_records_of_different_devices_are_experiments_of_their_own(tmp_path: Path) -> None:
    def of_device(name: str) -> list[str]:
        lines = transfer([-0.1])
        return [*lines[:2], f"MetaData, TestRecord.TestTarget, {name}", *lines[2:]]

    path = tmp_path / "a.csv"
    path.write_text("\n".join([*of_device("A1"), *of_device("B2"), *of_device("A1")]))
    found = READER.read(path).measurements
    assert [one.attributes["device_number"] for one in found] == ["A1", "B2"]
    assert [len(one.steps) for one in found] == [2, 1]
    assert [step.values["file_step"] for step in found[0].steps] == [0, 2]


def test_a_second_gate_is_a_parameter_of_each_curve(tmp_path: Path) -> None:
    vd = np.linspace(0, -0.6, 7)
    lines = record(
        "Id-Vd",
        ["Vds", "Id"],
        [[vd, vd * 1e-5] for _ in range(3)],
        parameters=[
            "Channel.VName, Vbgs, Vds",
            "Channel.Func, VAR2, VAR1",
            "Measurement.Secondary.Step, 0.5",
            "Measurement.Bias.Source, -5, 0",
        ],
    )
    steps = read(tmp_path / "a.csv", lines).steps
    assert [step.kind for step in steps] == ["output"] * 3
    assert [step.info["parameters"]["Vbgs"] for step in steps] == [-5, -4.5, -4]


def test_a_sweep_of_something_unknown_is_no_curve_of_another_kind(tmp_path: Path) -> None:
    lines = record(
        "R",
        ["Vtgs", "Vds", "Id"],
        [[VG, np.full(11, 0.02), current(VG, 1)]],
        parameters=["Channel.VName, Vtgs, Vds", "Channel.Func, VAR1, CONST"],
    )
    with pytest.raises(IngestError, match="it sweeps 'Vtgs', which is no known name"):
        read(tmp_path / "a.csv", lines)


def test_a_number_worked_out_for_a_curve_is_no_column(tmp_path: Path) -> None:
    lines = record(
        "Id-Vg", ["Vg", "Id", "Vth"], [[VG, current(VG, 1), [0.123]]], parameters=TRANSFER
    )
    (step,) = read(tmp_path / "a.csv", lines).steps
    assert sorted(step.arrays) == ["Id", "Vg"]
    assert not step.extra
    assert step.info["parameters"]["Vth"] == 0.123


@pytest.mark.parametrize("with_units", [True, False])
def test_data_by_column(tmp_path: Path, with_units: bool) -> None:
    micro = current(VG, 1) * 1e6
    tags = ["Dimension1", "Dimension2", "Data Name", *(["Data Unit"] if with_units else [])]
    columns = [
        ("Vg", "V", VG),
        ("Id", "uA", micro if with_units else micro / 1e6),
        ("Vth", "V", [0.1]),
    ]
    lines = ["SetupTitle, x", ", ".join([*tags, *["Data Value"] * len(VG)])]
    for name, unit, values in columns:
        cells = [str(len(values)), "1", name, *([unit] if with_units else [])]
        lines.append(", ".join([*cells, *(repr(float(value)) for value in values)]))
    (step,) = read(tmp_path / "a.csv", lines).steps
    np.testing.assert_allclose(step.arrays["Vg"], VG)
    np.testing.assert_allclose(step.arrays["Id"], current(VG, 1), rtol=1e-12)
    assert step.info["parameters"]["Vth"] == 0.1


def test_units_row_is_obeyed_and_overflow_is_no_number(tmp_path: Path) -> None:
    values = current(VG, 1) * 1e3
    values[3] = 199.999e99
    lines = record("t", ["Vg", "Id"], [[VG, values]], units=["V", "mA"])
    found = read(tmp_path / "a.csv", lines)
    expected = current(VG, 1)
    expected[3] = np.nan
    np.testing.assert_allclose(found.steps[0].arrays["Id"], expected, rtol=1e-12)
    assert any("out of range" in warning for warning in found.warnings)


def test_a_stopped_record_is_read_and_named(tmp_path: Path) -> None:
    found = read(tmp_path / "a.csv", transfer([-0.1, -0.3])[:-5])
    assert [len(step) for step in found.steps] == [22, 17]
    assert any("44 are there" in w or "39 are there" in w for w in found.warnings)


def test_current_in_the_wrong_unit_is_named(tmp_path: Path) -> None:
    lines = record("t", ["Vg", "Id"], [[VG, np.linspace(1, 900, 11)]])
    found = sensible(read(tmp_path / "a.csv", lines))
    assert any("unit right" in warning for warning in found.warnings)


def test_a_record_of_nothing_known_is_left_out_by_name(tmp_path: Path) -> None:
    unknown = record("C-V", ["Freq", "C"], [[VG, VG]])
    found = read(tmp_path / "a.csv", [*transfer([-0.1]), *unknown])
    assert len(found.steps) == 1
    assert any("record 2 (C-V" in w and "left out" in w for w in found.warnings)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([*transfer([-0.1]), "DataValue, 1, 2, 3, 4"], "has 4 values under 3 names"),
        (record("C-V", ["C1", "C2"], [[VG, VG]]), "C1"),
        (["SetupTitle, x", "TestParameter, a, 1"], "it holds no data"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, lines: list[str], says: str) -> None:
    with pytest.raises(IngestError, match=says):
        read(tmp_path / "a.csv", lines)


@pytest.mark.parametrize("text", ["", "Vg,Id\n0,1\n", "Setup Title of mine\nDataNames,1\n", "\0\0"])
def test_strangers_are_not_recognised(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    assert READER.recognises(tmp_path / "a.csv").confidence == 0
