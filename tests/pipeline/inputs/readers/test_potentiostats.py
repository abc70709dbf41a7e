from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oectflow.errors import IngestError
from oectflow.measurement import Measurement
from oectflow.pipeline.inputs.readers import biologic, gamry, palmsens
from oectflow.pipeline.inputs.readers.reader import Reader

TIME = np.array([0.0, 0.1, 0.2, 0.3])
CURRENT = np.array([1.5e-6, 2.5e-6, -3.25e-6, 4e-6])
POTENTIAL = np.array([0.1, 0.2, 0.3, 0.4])
FREQUENCY = np.array([1e5, 1e3, 10.0])
# A resistor of 100 Ω in series with 1 µF.
IMPEDANCE = 100 + 1 / (2j * np.pi * FREQUENCY * 1e-6)


def read(reader: Reader, path: Path) -> Measurement:
    assert reader.recognises(path).confidence > 0.9
    (measurement,) = reader.read(path).measurements
    return measurement


def same(array: np.ndarray, expected: Any) -> None:
    np.testing.assert_allclose(array, expected, rtol=1e-12)


# PalmSens


def session(measurements: list[Any], *, capital: bool) -> dict[str, Any]:
    def keys(value: Any) -> Any:
        if isinstance(value, dict):
            return {(k[0].upper() + k[1:] if capital else k.lower()): keys(value[k]) for k in value}
        return [keys(entry) for entry in value] if isinstance(value, list) else value

    root = {"type": "PalmSens.DataFiles.SessionFile", "coreVersion": "5.12.1031.0"}
    return keys(root | {"measurements": measurements})


def array(number: int, name: str, unit: str, values: Any, *, symbol: str = "", **more: Any) -> Any:
    readings = [
        {"v": float(v), "s": s} for v, s in zip(values, more.get("s", [0] * 99), strict=False)
    ]
    return {
        "type": "PalmSens.Data.DataArray",
        "arrayType": number,
        "description": name,
        "unit": {"type": f"PalmSens.Units.{unit}", "s": symbol, "q": more.get("q", name)},
        "dataValues": readings,
    }


def measurement(title: str, arrays: list[Any]) -> dict[str, Any]:
    return {
        "title": title,
        "timeStamp": 636513723655837428,
        "dataSet": {"type": "PalmSens.Data.DataSetCommon", "values": arrays},
        "method": "#PSTrace\r\nMETHOD_ID=ad\r\nT_INTERVAL=1.000E-001\r\n",
        "curves": [],
    }


def write_session(
    path: Path, content: Any, encoding: str = "utf-16-le", end: str = "\ufeff"
) -> Path:
    path.write_bytes(("\ufeff" + json.dumps(content) + end).encode(encoding))
    return path


TRACE_ARRAYS = [
    array(0, "time", "Time", TIME, symbol="s"),
    array(1, "potential", "Volt", POTENTIAL, symbol="V"),
    array(2, "current", "MicroAmpere", CURRENT * 1e6, symbol="A"),
]


@pytest.mark.parametrize(
    ("capital", "encoding"), [(False, "utf-16-le"), (True, "utf-16-be"), (True, "utf-8")]
)
def test_palmsens_trace_is_in_microamperes_whatever_the_symbol_says(
    tmp_path: Path, capital: bool, encoding: str
) -> None:
    content = session([measurement("Chronoamperometry", TRACE_ARRAYS)], capital=capital)
    found = read(palmsens.READER, write_session(tmp_path / "a.pssession", content, encoding))
    (step,) = found.steps
    assert step.kind == "transient"
    same(step.arrays["time"], TIME)
    same(step.arrays["Id"], CURRENT)
    same(step.extra["potential"].values, POTENTIAL)
    assert step.extra["potential"].unit == "V"
    assert step.values["sampling_interval"] == pytest.approx(0.1)
    assert step.info["parameters"]["T_INTERVAL"] == "1.000E-001"
    assert step.info["start_time"] == "2018-01-12T16:46:05.583742"
    assert any("which electrode" in warning for warning in found.warnings)


def test_palmsens_spectrum_has_the_sign_of_a_capacitor(tmp_path: Path) -> None:
    arrays = [
        array(5, "Frequency", "Hertz", FREQUENCY, symbol="Hz"),
        array(7, "ZRe", "ZRe", IMPEDANCE.real, symbol="Ω", q="Z'"),
        array(8, "ZIm", "ZIm", -IMPEDANCE.imag, symbol="Ω", q="-Z''"),
        array(1, "potential", "Volt", [0.2] * 3, symbol="V"),
        array(16386, "debugtext", "FixedUnit", [0.0] * 3),
    ]
    content = session([measurement("EIS", arrays)], capital=False)
    (step,) = read(palmsens.READER, write_session(tmp_path / "a.pssession", content)).steps
    assert step.kind == "impedance"
    same(step.arrays["Z_real"] + 1j * step.arrays["Z_imag"], IMPEDANCE)
    same(step.arrays["Vdc"], [0.2] * 3)
    assert step.values["Vdc"] == 0.2
    assert not step.extra


def test_palmsens_scans_share_a_time_that_is_cut_among_them(tmp_path: Path) -> None:
    arrays = [array(0, "time", "Time", np.arange(7.0), symbol="s")]
    for scan, n in enumerate((4, 3)):
        arrays.append(array(1, f"scan{scan}", "Volt", POTENTIAL[:n], symbol="V"))
        arrays.append(array(2, f"scan{scan}", "MicroAmpere", np.full(n, scan + 1.0), symbol="A"))
    content = session([measurement("CV", arrays)], capital=True)
    steps = read(palmsens.READER, write_session(tmp_path / "a.pssession", content)).steps
    assert [len(step) for step in steps] == [4, 3]
    same(steps[1].arrays["time"], [4, 5, 6])
    same(steps[1].arrays["Id"], [2e-6] * 3)
    assert [step.values["curve"] for step in steps] == [1, 2]


def test_palmsens_overload_is_no_number(tmp_path: Path) -> None:
    arrays = [*TRACE_ARRAYS[:2], array(2, "current", "MicroAmpere", CURRENT, s=[0, 1, 2, 3])]
    content = session([measurement("CA", arrays)], capital=True)
    found = read(palmsens.READER, write_session(tmp_path / "a.pssession", content))
    assert np.isnan(found.steps[0].arrays["Id"]).tolist() == [False, True, False, False]
    assert any("1 overloaded readings of current" in warning for warning in found.warnings)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\xff\xfe" + '{"Type": "PalmSens.DataFiles.Ses'.encode("utf-16-le"), "not a whole"),
        (('{"a": ' * 100_000 + '"PalmSens."').encode(), "not a whole"),
        (b'{"Type": "PalmSens.DataFiles.SessionFile", "Measurements": []}', "no measurements"),
        (b'{"Type": "PalmSens.X", "Measurements": [3, {"DataSet": 4}]}', "measurement 0 left out"),
    ],
)
def test_palmsens_what_cannot_be_read_is_said(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "a.pssession"
    path.write_bytes(content)
    with pytest.raises(IngestError, match=says):
        palmsens.READER.read(path)


# Gamry

GAMRY_HEADER = (
    "EXPLAIN\nTAG\t{tag}\nTITLE\tLABEL\tA title\tTest &Identifier\n"
    "NOTES\tNOTES\t1\t&Notes...\n\tTABLE of contents\n"
    "VDC\tPOTEN\t1{c}30000E+000\tF\tDC\nVAC\tQUANT\t1{c}00000E+001\tAC &Voltage (mV rms)\n"
)


def gamry_trace(name: str = "CURVE", c: str = ".", over: str = "...........") -> str:
    numbers = zip(TIME, POTENTIAL, CURRENT, strict=True)
    rows = ["\t".join(f"{number:.5E}" for number in row).replace(".", c) for row in numbers]
    lines = [f"\t{i}\t{row}\t{over}" for i, row in enumerate(rows)]
    heads = ["\tPt\tT\tVf\tIm\tOver", "\t#\ts\tV vs. Ref.\tA\tbits"]
    return "\n".join([f"{name}\tTABLE\t4", *heads, *lines, ""])


def gamry_spectrum() -> str:
    rows = enumerate(zip(FREQUENCY, IMPEDANCE, strict=False))
    lines = [f"\t{i}\t{i}\t{f:.15E}\t{z.real:.15E}\t{z.imag:.15E}\t0.1" for i, (f, z) in rows]
    units = "\t#\ts\tHz\tohm\tohm\tV"
    return "\n".join(["ZCURVE\tTABLE", "\tPt\tTime\tFreq\tZreal\tZimag\tVdc", units, *lines, ""])


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(("c", "line_end"), [(".", "\n"), (",", "\r\n")])
def test_gamry_tables_are_steps(tmp_path: Path, c: str, line_end: str) -> None:
    text = GAMRY_HEADER.format(tag="CV", c=c) + gamry_trace("CURVE1", c) + gamry_trace("CURVE2", c)
    path = write(tmp_path / "a.DTA", text.replace("\n", line_end), "cp1252")
    found = read(gamry.READER, path)
    assert [step.kind for step in found.steps] == ["transient", "transient"]
    for step in found.steps:
        same(step.arrays["time"], TIME)
        same(step.arrays["Id"], CURRENT)
        same(step.extra["Vf"].values, POTENTIAL)
    assert found.attributes["description"] == "A title"
    assert len(found.warnings) == 1


def test_gamry_reads_what_gamry_parser_reads(tmp_path: Path) -> None:
    parser = pytest.importorskip("gamry_parser")
    text = GAMRY_HEADER.format(tag="CHRONOA", c=".") + gamry_trace()
    path = write(tmp_path / "a.DTA", text)
    if hasattr(parser, "read"):
        (curve,) = parser.read(path).curves
    else:  # before 1.0
        theirs = parser.GamryParser(filename=str(path))
        theirs.load()
        (curve,) = theirs.get_curves()
    (step,) = read(gamry.READER, path).steps
    same(step.arrays["time"], curve["T"])
    same(step.arrays["Id"], curve["Im"])
    same(step.extra["Vf"].values, curve["Vf"])


def test_gamry_spectrum(tmp_path: Path) -> None:
    text = GAMRY_HEADER.format(tag="EISPOT", c=".") + gamry_spectrum()
    (step,) = read(gamry.READER, write(tmp_path / "a.DTA", text)).steps
    same(step.arrays["Z_real"] + 1j * step.arrays["Z_imag"], IMPEDANCE)
    same(step.arrays["frequency"], FREQUENCY)
    assert step.values["Vdc"] == 1.3
    assert step.values["amplitude"] == pytest.approx(10e-3 * np.sqrt(2))


def test_gamry_marks_and_cut_rows_are_named(tmp_path: Path) -> None:
    text = GAMRY_HEADER.format(tag="CV", c=".") + gamry_trace(over="....i......")
    text = text.rstrip("\n")[:-30] + "\nEXPERIMENTABORTED\tTOGGLE\tT\tExperiment Aborted\n"
    found = read(gamry.READER, write(tmp_path / "a.DTA", text))
    assert len(found.steps[0]) == 3
    same(found.steps[0].extra["Over"].values, [1, 1, 1])
    words = "\n".join(found.warnings)
    assert "1 rows left out" in words
    assert "3 readings have an overload mark" in words
    assert "aborted" in words


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (GAMRY_HEADER.format(tag="CV", c="."), "it has no table"),
        (GAMRY_HEADER.format(tag="CV", c=".") + gamry_trace() + "\t1\t2\t3\t4\t5\t6\n", "6 cells"),
        ("EXPLAIN\nTAG\tCORPOT\nCURVE\tTABLE\n\tPt\tT\tVf\n\t#\ts\tV\n\t0\t1\t2\n", "neither time"),
    ],
)
def test_gamry_what_cannot_be_read_is_said(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(IngestError, match=says):
        gamry.READER.read(write(tmp_path / "a.DTA", text))


# BioLogic


def mpt(headings: list[str], columns: list[Any], *, c: str = ".", technique: str = "CA") -> str:
    settings = [technique, "", "User : ", "Electrode surface area : 0.001 cm²", ""]
    settings += [f"{'Ei (V)':20}{'0.300':20}", f"{'vs.':20}{'Ref':20}", ""]
    rows = [
        "\t".join(f"{value:.15E}" for value in row).replace(".", c)
        for row in zip(*columns, strict=False)
    ]
    first = ["EC-Lab ASCII FILE", f"Nb header lines : {len(settings) + 4}   ", ""]
    return "\n".join([*first, *settings, "\t".join(headings) + "\t", *rows, ""])


TRACE_HEADINGS = ["mode", "time/s", "control/V", "Ewe/V", "I/mA", "Cs/µF"]
TRACE_COLUMNS = [np.ones(4), TIME, POTENTIAL, POTENTIAL, CURRENT * 1e3, np.zeros(4)]


@pytest.mark.parametrize(
    ("c", "line_end", "encoding"),
    [(".", "\r\n", "cp1252"), (",", "\n", "cp1252"), (".", "\n", "utf-8")],
)
def test_biologic_trace(tmp_path: Path, c: str, line_end: str, encoding: str) -> None:
    text = mpt(TRACE_HEADINGS, TRACE_COLUMNS, c=c, technique="Chronoamperometry")
    path = write(tmp_path / "a.mpt", text.replace("\n", line_end), encoding)
    found = read(biologic.READER, path)
    (step,) = found.steps
    same(step.arrays["time"], TIME)
    same(step.arrays["Id"], CURRENT)
    same(step.extra["Ewe"].values, POTENTIAL)
    assert step.extra["Cs"].unit == "µF"
    assert step.info["type"] == "Chronoamperometry"
    assert step.info["parameters"]["Ei (V)"] == "0.300"
    assert step.info["parameters"]["Ei (V) vs."] == "Ref"


def test_biologic_reads_what_galvani_reads(tmp_path: Path) -> None:
    galvani = pytest.importorskip("galvani.BioLogic")
    text = mpt(TRACE_HEADINGS[:-1], TRACE_COLUMNS[:-1]).replace("cm²", "cm2")
    path = write(tmp_path / "a.mpt", text.replace("\n", "\r\n"))
    theirs, _ = galvani.MPTfile(io.BytesIO(path.read_bytes()))
    (step,) = read(biologic.READER, path).steps
    same(step.arrays["time"], theirs["time/s"])
    same(step.arrays["Id"], theirs["I/mA"] / 1e3)


@pytest.mark.parametrize("numbered", [True, False])
def test_biologic_cycles_of_a_spectrum_are_steps(tmp_path: Path, numbered: bool) -> None:
    twice = np.concatenate([FREQUENCY, FREQUENCY])
    z = np.concatenate([IMPEDANCE, 2 * IMPEDANCE])
    waiting = [0.0]
    headings = ["freq/Hz", "Re(Z)/Ohm", "-Im(Z)/Ohm", "time/s", "<Ewe>/V", "<I>/mA"]
    columns = [
        np.concatenate([waiting, part])
        for part in (twice, z.real, -z.imag, np.arange(6.0), np.full(6, 0.25), np.ones(6))
    ]
    if numbered:
        headings.append("z cycle")
        columns.append(np.array([0, 0, 0, 0, 1, 1, 1.0]))
    found = read(biologic.READER, write(tmp_path / "a.mpt", mpt(headings, columns), "cp1252"))
    assert [step.kind for step in found.steps] == ["impedance", "impedance", "transient"]
    for factor, step in zip((1, 2), found.steps, strict=False):
        same(step.arrays["Z_real"] + 1j * step.arrays["Z_imag"], factor * IMPEDANCE)
        same(step.arrays["Vdc"], [0.25] * 3)
        assert step.values["curve"] == factor
        assert step.values["file_position"] == 1 + 3 * (factor - 1)
    assert len(found.steps[2]) == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: text.replace("Nb header lines", "Nb lines"), "line 2 does not say"),
        (lambda text: text + "1\t" * 7 + "1\n", "line 17 has 8 cells under 6 headings"),
        (lambda text: text.replace("time/s", "time/h"), "neither time with current"),
        (lambda text: text.replace("E", "x"), "time elapsed"),
        (lambda text: "\n".join(text.splitlines()[:12]), "no rows"),
        (lambda text: text[: text.index("mode")], "header"),
    ],
)
def test_biologic_what_cannot_be_read_is_said(tmp_path: Path, change: Any, says: str) -> None:
    text = change(mpt(TRACE_HEADINGS, TRACE_COLUMNS).replace("EC-Lab", "BT-Lab"))
    with pytest.raises(IngestError, match=says):
        biologic.READER.read(write(tmp_path / "a.mpt", text, "cp1252"))


def test_biologic_headings_that_have_no_column_are_named(tmp_path: Path) -> None:
    text = mpt(TRACE_HEADINGS, TRACE_COLUMNS).replace("Cs/µF\t", "Cs/µF\t\tEwe-Ece/V")
    found = read(biologic.READER, write(tmp_path / "a.mpt", text, "cp1252"))
    same(found.steps[0].arrays["Id"], CURRENT)
    assert "headings without a column: Ewe-Ece/V" in found.warnings


def test_biologic_last_row_cut_is_named(tmp_path: Path) -> None:
    text = mpt(TRACE_HEADINGS, TRACE_COLUMNS)
    found = read(biologic.READER, write(tmp_path / "a.mpt", text[:-60], "cp1252"))
    assert len(found.steps[0]) == 3
    assert any("1 rows left out" in warning for warning in found.warnings)


def test_biologic_modular_file_that_is_none_is_said(tmp_path: Path) -> None:
    pytest.importorskip("galvani")
    path = tmp_path / "a.mpr"
    path.write_bytes(b"BIO-LOGIC MODULAR FILE\x1a" + b"\0" * 100)
    assert biologic.READER.recognises(path).confidence == 1
    with pytest.raises(IngestError, match=r"export it as \.mpt"):
        biologic.READER.read(path)


def test_biologic_modular_file_without_galvani_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.mpr"
    path.write_bytes(b"BIO-LOGIC MODULAR FILE\x1a" + b"\0" * 100)
    monkeypatch.setitem(sys.modules, "galvani.BioLogic", None)
    with pytest.raises(IngestError, match=r"pip install 'oectflow\[biologic\]'"):
        biologic.READER.read(path)


# All


@pytest.mark.parametrize("reader", [palmsens.READER, gamry.READER, biologic.READER])
def test_strangers_are_not_recognised_and_pipes_not_waited_for(
    tmp_path: Path, reader: Reader
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "csv").write_text("Vg,Id\n0,1\n")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "bytes").write_bytes(bytes(range(256)) * 8)
    (tmp_path / "json").write_text('{"Type": "something else"}')
    for name in ("pipe", "csv", "empty", "bytes", "json", "missing", "."):
        assert reader.recognises(tmp_path / name).confidence == 0, name
    with pytest.raises(IngestError, match="is a pipe"):
        reader.read(tmp_path / "pipe")
