"""Delimited text: what is written in any layout is read back, or refused with a reason."""

from __future__ import annotations

import json
import os
import socket

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from oectflow.errors import ConfigError, IngestError
from oectflow.pipeline.inputs.readers.delimited import read_delimited
from oectflow.pipeline.inputs.readers.registry import find_reader
from oectflow.pipeline.inputs.readers.schema import ColumnSchema, Schema
from oectflow.pipeline.inputs.readers.text import READER, TextReader, guess_schema

VG = np.round(np.linspace(0.2, -0.8, 41), 3)
ID = -1e-4 * (0.2 - VG) ** 2


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def table(delimiter=",", decimal=".", headings=("Vg", "Id"), columns=(VG, ID)):
    rows = [headings, *(tuple(map(repr, map(float, row))) for row in zip(*columns, strict=True))]
    lines = [delimiter.join(row) for row in rows]
    return "\n".join([lines[0], *(line.replace(".", decimal) for line in lines[1:])]) + "\n"


def read(path, schema=None):
    (measurement,) = TextReader(schema).read(path).measurements
    return measurement.steps, measurement.warnings


def metadata_of(path):
    (measurement,) = READER.read(path).measurements
    return json.loads(measurement.documents.get("metadata", "{}"))


def refused(path, schema=None):
    with pytest.raises(IngestError) as error:
        read(path, schema)
    return str(error.value)


def assert_sweep(steps, scale=1.0):
    assert [step.kind for step in steps] == ["transfer"]
    np.testing.assert_allclose(steps[0].arrays["Vg"], VG, rtol=1e-12)
    np.testing.assert_allclose(steps[0].arrays["Id"], ID * scale, rtol=1e-12)


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "gbk"]
)
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "  ", "|"])
def test_encodings_and_delimiters(tmp_path, encoding, delimiter):
    path = write(tmp_path / "a.csv", table(delimiter), encoding)
    steps, warnings = read(path)
    assert_sweep(steps)
    assert warnings == ()
    assert find_reader(path).reader is READER


@pytest.mark.parametrize(("encoding", "unit"), [("gbk", "栅压 (V)"), ("cp1252", "Vg (V) für µ")])
def test_headings_beyond_ascii(tmp_path, encoding, unit):
    text = table(headings=("栅压 (V)" if encoding == "gbk" else "Vg (V)", "Id (A)"))
    if encoding == "cp1252":
        text = "Messgröße: Übertragung, 20 °C\n" + text.replace("Id (A)", "Id (µA)")
    steps, _ = read(write(tmp_path / "a.csv", text, encoding))
    assert_sweep(steps, 1.0 if encoding == "gbk" else 1e-6)


@pytest.mark.parametrize("delimiter", [";", "\t", " "])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_decimal_commas(tmp_path, delimiter, encoding):
    steps, warnings = read(write(tmp_path / "a.txt", table(delimiter, ","), encoding))
    assert_sweep(steps)
    assert warnings == ()


def test_quoted_cells_with_decimal_commas(tmp_path):
    lines = [
        f'"{vg:.4f}","{current:.9e}"'.replace(".", ",") for vg, current in zip(VG, ID, strict=True)
    ]
    steps, _ = read(write(tmp_path / "a.csv", '"Vg","Id"\n' + "\n".join(lines)))
    np.testing.assert_allclose(steps[0].arrays["Vg"], VG, atol=1e-9)
    np.testing.assert_allclose(steps[0].arrays["Id"], ID, rtol=1e-9)


def test_decimal_commas_between_commas(tmp_path, shared_data):
    path = shared_data / "field_cases" / "x02_decimal_comma" / "1.csv"
    steps, warnings = read(path)
    numbers = [line.split(",") for line in path.read_text().split()[1:]]
    expected = [(float(f"{a}.{b}"), float(f"{c}.{d}")) for a, b, c, d in numbers]
    found = np.array([steps[0].arrays["Vg"], steps[0].arrays["Id"]]).T
    np.testing.assert_array_equal(found, expected)
    assert warnings == ("numbers are divided by their decimal commas and put together again",)
    example = write(tmp_path / "a.csv", "Time,Id\n0,001,1,50e-6\n0,002,1,40e-6\n0,003,1,30e-6\n")
    steps, _ = read(example)
    np.testing.assert_array_equal(steps[0].arrays["Id"], [1.5e-6, 1.4e-6, 1.3e-6])
    np.testing.assert_array_equal(steps[0].arrays["time"], [0.001, 0.002, 0.003])


def test_field_cases(shared_data):
    folder = shared_data / "field_cases"
    (step,), (warning,) = read(folder / "x01_overflow_9.91E37" / "1.csv")
    assert np.flatnonzero(np.isnan(step.arrays["Id"])).tolist() == [10]
    assert warning.startswith("line 12: Id is 9.91e+37")
    steps, warnings = read(folder / "x03_three_Vd_curves_one_file" / "1.csv")
    assert [(step.values["curve"], len(step)) for step in steps] == [(1, 33), (2, 33), (3, 33)]
    assert warnings == ()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("0,1,5e-6\n0,001,2,5e-6\n0,002,3,5e-6\n", "line 2: 3 cells under 2 headings"),
        ("0.1,1e-6,3\n0.2,1e-6,3\n0.3,1e-6,3\n", "line 2: 3 cells under 2 headings"),
        ("1,2,3,4\n2,3,4,5\n3,4,5,6\n", "line 2: 4 cells under 2 headings"),
        ("0.1,1e-6\n0.2,1e-6\n0.3,1e-6,7\n", "line 4: 3 cells under 2 headings"),
        ("0.1,1e-6\n0.2,1e-6\n0.3,1e-6,x\n0.4,1e-6\n", "line 4: 3 cells under 2 headings"),
    ],
)
def test_more_cells_than_headings_are_an_error(tmp_path, rows, message):
    assert message in refused(write(tmp_path / "a.csv", "Vg,Id\n" + rows))


def test_more_cells_far_behind_the_beginning(tmp_path):
    rows = [f"{i * 1e-3:.3f},{-1e-6:.6e}\n" for i in range(40_000)]
    rows[35_000] = "35,000,-1,5e-6\n"
    path = write(tmp_path / "a.csv", "Time,Id\n" + "".join(rows))
    assert "line 35002: 4 cells under 2 headings" in refused(path)


def test_commas_that_may_divide_thousands_are_refused(tmp_path):
    text = "Vg (mV);Id (nA)\n" + "".join(f"{i};{i},500\n" for i in range(1, 9))
    assert "divide thousands" in refused(write(tmp_path / "a.csv", text))
    steps, _ = read(tmp_path / "a.csv", Schema(decimal=","))
    np.testing.assert_allclose(steps[0].arrays["Id"], (np.arange(1, 9) + 0.5) * 1e-9)


PREAMBLES = {
    "none": "",
    "keys": "Device: A3\nDate;2026-01-12\nVd = -0.6 V\n\n",
    "comments": "# made by hand\n% Vd: -0.6 V\n// 3\n",
    "numbers": "Points,41\nRange,0.2,-0.8,step\n\n\n",
    "long": "".join(f"setting {i}: value {i}\n" for i in range(700)),
}


@pytest.mark.parametrize("preamble", PREAMBLES)
def test_what_stands_above_the_headings(tmp_path, preamble):
    text = PREAMBLES[preamble] + table(headings=("Vg (V)", "Id (A)"))
    steps, warnings = read(write(tmp_path / "a.csv", text))
    assert_sweep(steps)
    assert warnings == ()
    metadata = metadata_of(tmp_path / "a.csv")
    if preamble in ("keys", "comments"):
        assert steps[0].values == {"Vd": -0.6}
        assert metadata["Vd"] == "-0.6 V"
    if preamble == "keys":
        assert (metadata["Device"], metadata["Date"]) == ("A3", "2026-01-12")
    if preamble == "long":
        assert len(metadata) == 700


def test_headings_as_numpy_writes_them(tmp_path):
    path = tmp_path / "a.txt"
    np.savetxt(path, np.array([VG, ID]).T, fmt="%.12g", header="Vg (V) Id (A)")
    assert_sweep(read(path)[0])
    np.savetxt(path, np.array([VG, ID]).T, fmt="%.12g", delimiter=",", header="Vg,Id")
    assert_sweep(read(path)[0])


def test_a_row_of_units_and_one_of_comments(tmp_path):
    text = table("\t", headings=("Gate", "Drain"))
    first, _, rest = text.partition("\n")
    steps, warnings = read(write(tmp_path / "a.txt", f"{first}\nV\tmA\n\tchip 3\n{rest}"))
    assert_sweep(steps, 1e-3)
    assert warnings == ()


@pytest.mark.parametrize("row", ["Vg=-0.2 V,Vg=0 V", "-0.2 V,0 V", "-200 mV,0 mV"])
def test_values_of_the_curves_in_a_row_of_their_own(tmp_path, row):
    numbers = "".join(f"{-0.1 * i:.1f},{i}e-6,{2 * i}e-6\n" for i in range(9))
    steps, _ = read(write(tmp_path / "a.csv", f"Vd,Id,Id\n,{row}\n{numbers}"))
    assert [(step.kind, step.values["Vg"]) for step in steps] == [("output", -0.2), ("output", 0.0)]


@pytest.mark.parametrize("headings", [True, False])
@pytest.mark.parametrize("mark", ["Vd = {} V", "# Vd = {} V", "Vd (V),{}"])
def test_blocks_that_a_voltage_divides(tmp_path, headings, mark):
    first, _, rest = table().partition("\n")
    texts = [f"{mark.format(-0.1)}\n{first}\n{rest}"]
    texts += [f"{mark.format(vd)}\n{(first + chr(10)) * headings}{rest}" for vd in (-0.3, -0.6)]
    steps, warnings = read(write(tmp_path / "a.csv", "".join(texts)))
    assert [step.values["Vd"] for step in steps] == [-0.1, -0.3, -0.6]
    assert [len(step) for step in steps] == [41, 41, 41]
    assert warnings == ()


def test_another_table_below_is_refused(tmp_path):
    text = table() + "\n" + table(headings=("Time", "Id"))
    message = refused(write(tmp_path / "a.csv", text))
    assert "line 44: another table begins here, with the headings Time, Id" in message


def test_numbers_of_typesetters_and_of_fortran(tmp_path):
    minus = table(";").replace("-", "\N{MINUS SIGN}")
    assert_sweep(read(write(tmp_path / "a.csv", minus))[0])
    rows = [f"{vg:.3f} {i:.12e}".replace("e", "D") for vg, i in zip(VG, ID, strict=True)]
    assert_sweep(read(write(tmp_path / "a.dat", "\n".join(["Vg Id", *rows])))[0])


def test_no_headings_are_refused_unless_a_schema_says_them(tmp_path):
    path = write(tmp_path / "a.csv", table().partition("\n")[2])
    assert "no headings" in refused(path)
    assert "columns: {1: {quantity: Vg, unit: V}" in refused(path)
    columns = {1: ColumnSchema("Vg"), 2: ColumnSchema("Id", "mA")}
    steps, _ = read(path, Schema(columns=columns, values={"Vd": -0.1}))
    assert_sweep(steps, 1e-3)
    assert steps[0].values == {"Vd": -0.1}


def test_blocks_below_each_other(tmp_path):
    steps, warnings = read(write(tmp_path / "a.csv", table() + "\n" + table()))
    assert [len(step) for step in steps] == [41, 41]
    assert [step.values["curve"] for step in steps] == [1, 2]
    assert warnings == ()


def test_cells_that_are_no_numbers_are_named(tmp_path):
    rows = table().split("\n")
    rows[3] = rows[3].split(",")[0] + ",OVLD"
    rows[9] = rows[9].split(",")[0] + ",oops"
    rows[12] = ",".join([rows[12].split(",")[0], ""])
    rows[20] = "# paused"
    rows[30] = "restarted"
    steps, warnings = read(write(tmp_path / "a.csv", "\n".join(rows)))
    assert len(steps[0]) == 39
    assert np.flatnonzero(np.isnan(steps[0].arrays["Id"])).tolist() == [2, 8, 11]
    assert warnings == (
        "line 4: Id is 'OVLD', no number, taken as NaN (and 1 more such cells)",
        "text between the numbers, 'paused', is not used (and 1 more such lines)",
    )


def test_the_line_of_a_mark_of_overflow(tmp_path):
    rows = table().split("\n")
    rows.insert(5, "")
    rows[10] = rows[10].split(",")[0] + ",9.91E+37"
    _, warnings = read(write(tmp_path / "a.csv", "\n".join(rows)))
    assert len(warnings) == 1
    assert warnings[0].startswith("line 11: Id is 9.91e+37")


@pytest.mark.parametrize("end", ["-0.805", "-0.805,", "-0.805,-1e", "-0.805,-1.2e-"])
def test_a_last_line_that_is_cut_is_left_out(tmp_path, end):
    steps, warnings = read(write(tmp_path / "a.csv", table() + end))
    if end.endswith(","):
        assert len(steps[0]) == 41
        return
    assert_sweep(steps)
    assert warnings == (f"line 43: the last line, {end!r}, is cut; left out",)


def test_columns_side_by_side_that_end_early(tmp_path):
    rows = [
        "Vg,Id,Vg,Id",
        *(f"{0.1 * i},1e-6,{0.1 * i},2e-6" for i in range(4)),
        "0.4,1e-6",
        "0.5,1e-6",
    ]
    steps, _ = read(write(tmp_path / "a.csv", "\n".join(rows)))
    assert [len(step) for step in steps] == [6, 4]


damage = st.tuples(
    st.sampled_from([(",", "."), (";", ","), ("\t", "."), (" ", ".")]),
    st.floats(0, 1, exclude_max=True),
    st.sampled_from(["delete", "insert", "replace"]),
    st.sampled_from(list('0123456789.,;-e\n\t xA"')),
)


@given(damage)
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_one_wrong_character_costs_one_row_and_is_named(tmp_path, case):
    (delimiter, decimal), place, how, character = case
    rows = [f"{vg:.3f}{delimiter}{current:.5e}" for vg, current in zip(VG, ID, strict=True)]
    truth = {tuple(map(float, row.split(delimiter))) for row in rows}
    text = f"Vg (V){delimiter}Id (A)\n" + "\n".join(rows).replace(".", decimal) + "\n"
    at = int(place * len(text))
    # "-Id (A)" is how people write that the signs are turned.
    assume(character != "-" or at > text.index("\n"))
    inserted = "" if how == "delete" else character
    path = write(tmp_path / "a.csv", text[:at] + inserted + text[at + (how != "insert") :])
    try:
        steps, warnings = read(path)
    except IngestError:
        return
    found = [point for s in steps for point in zip(s.arrays["Vg"], s.arrays["Id"], strict=True)]
    # A wrong digit cannot be known; a new line may make two rows of one.
    assert len(set(found) - truth) <= 2
    assert len(found) >= len(rows) or warnings


def test_a_column_of_text_is_named(tmp_path):
    rows = [f"{i * 0.1:.1f},{i}e-6,ok" for i in range(20)]
    steps, warnings = read(write(tmp_path / "a.csv", "\n".join(["Time,Id,Status", *rows])))
    assert steps[0].kind == "transient"
    assert warnings[0] == "column 'Status' holds text such as 'ok'; left out"


def test_a_column_of_text_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("oectflow.pipeline.inputs.readers.delimited._BLOCK", 500)
    rows = [f"{i * 0.1:.1f},{i}e-6,{'' if i < 90 else 'ok'}" for i in range(300)]
    rows[250] = "25.0,250e-6,7.5"
    found = read_delimited(write(tmp_path / "a.csv", "\n".join(["Time,Id,Status", *rows])))
    np.testing.assert_allclose(found.columns[0], np.arange(300) * 0.1)
    np.testing.assert_allclose(found.columns[1], np.arange(300) * 1e-6)
    assert np.flatnonzero(~np.isnan(found.columns[2])).tolist() == [250]
    assert found.flaws == (
        "line 92: Status is 'ok', no number, taken as NaN (and 208 more such cells)",
    )


def test_lines_after_the_table_are_kept(tmp_path):
    steps, warnings = read(write(tmp_path / "a.csv", table() + "End of test\n"))
    assert_sweep(steps)
    assert warnings == ()
    assert metadata_of(tmp_path / "a.csv") == {"line 43": "End of test"}


@pytest.mark.parametrize("plus", [True, False])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_ends_of_lines_and_signs(tmp_path, newline, plus):
    text = table()
    if plus:
        text = "Vg,Id\n" + "".join(f"{vg:+.3f},{i:+.12E}\n" for vg, i in zip(VG, ID, strict=True))
    steps, _ = read(write(tmp_path / "a.csv", text.replace("\n", newline)))
    assert_sweep(steps)


numbers = st.sampled_from(["%g", "%.4f", "%.6e", "%.9g", "%+.5E"])


@st.composite
def written(draw):
    """Return a text, its encoding, its numbers in SI units, and whether they have commas."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(5, 40))
    names = ["Vg", "Id", *draw(st.lists(st.sampled_from(["Ig", "Vd", "Time"]), unique=True))]
    units = {
        "V": [("V", 1), ("mV", 1e-3)],
        "A": [("A", 1), ("mA", 1e-3), ("uA", 1e-6), ("nA", 1e-9)],
    }
    unit_style = draw(st.sampled_from(["none", "(%s)", "[%s]", "/ %s", "row"]))
    delimiter = draw(st.sampled_from([",", ";", "\t", "|", ", "]))
    decimal = draw(st.sampled_from([".", ","]))
    headings, unit_row, cells, truth = [], [], [], {}
    for name in names:
        si = {"V": "V", "I": "A", "T": "s"}[name[0]]
        unit, scale = draw(st.sampled_from(units.get(si, [("s", 1), ("ms", 1e-3)])))
        scale = 1.0 if unit_style == "none" else scale
        values = {
            "Vg": np.linspace(0.3, -0.8, n),
            "Vd": np.full(n, -0.6),
            "Time": np.arange(n) * 0.5,
        }.get(name, rng.normal(0, 1, n) * 10.0 ** rng.integers(-9, -3))
        text = draw(numbers)
        column = [text % (value / scale) for value in values]
        truth[name] = np.array([float(cell) for cell in column]) * scale
        cells.append([cell.replace(".", decimal) for cell in column])
        headings.append(name if unit_style in ("none", "row") else f"{name} {unit_style % unit}")
        unit_row.append(unit)
    lines = [delimiter.join(headings)]
    lines += [delimiter.join(unit_row)] if unit_style == "row" else []
    lines += [delimiter.join(row) for row in zip(*cells, strict=True)]
    preamble = draw(st.lists(st.sampled_from(["chip: 3", "# note", "", "Date, 2026-01-12", "a=b"])))
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    text = newline.join([*preamble, *lines]) + draw(st.sampled_from(["", newline, newline * 2]))
    return (
        text,
        draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "gbk"])),
        truth,
        decimal == ",",
    )


@given(written())
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_what_was_written_is_read_or_refused(tmp_path, case):
    text, encoding, truth, commas = case
    path = write(tmp_path / "a.csv", text, encoding)
    if not commas:
        steps, _ = read(path)
    else:
        # Only where commas stand in numbers can there be a doubt.
        try:
            steps, _ = read(path)
        except IngestError:
            return
    assert [step.kind for step in steps] == ["transfer"]
    found = {"Time" if name == "time" else name: v for name, v in steps[0].arrays.items()}
    assert found.keys() == truth.keys()
    for name, values in truth.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-12, atol=0)


def test_no_text_and_no_files_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    assert "a pipe" in refused(tmp_path / "pipe.csv")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s.csv"))
        assert "a socket" in refused(tmp_path / "s.csv")
    with pytest.raises(IngestError, match="a device"):
        READER.read(type(tmp_path)("/dev/zero"))
    (tmp_path / "b.csv").write_bytes(os.urandom(5000) + b"\0\0\1")
    assert "no text" in refused(tmp_path / "b.csv")
    for text in ("", "\n\n", "just words\nand more, of them\n", "{\n  'a': 1\n}\n"):
        assert "no table of numbers" in refused(write(tmp_path / "w.txt", text))
        assert READER.recognises(tmp_path / "w.txt").confidence == 0
    assert "no such file" in refused(tmp_path / "none.csv")


def test_a_table_of_something_else_is_not_recognised(tmp_path):
    path = write(
        tmp_path / "devices.csv", "chip_id,device_id,W (µm),L (µm)\n3,1,100,10\n3,2,100,20\n"
    )
    recognition = READER.recognises(path)
    assert recognition.confidence == 0
    assert "none of its headings is known: 'chip_id'" in recognition.reason


def test_a_schema_is_saved_corrected_and_used(tmp_path):
    path = write(tmp_path / "a.csv", table(";", ",", ("Spannung", "Id (a.u.)")))
    assert "schema" in refused(path)
    (tmp_path / "schema.yaml").write_text(
        "delimiter: semicolon\ndecimal: ','\ncolumns:\n  Spannung: Vg\n"
        "  Id (a.u.): {quantity: Id, unit: uA, sign: -1}\nvalues: {Vd: -600 mV}\n"
    )
    steps, _ = read(path)
    assert_sweep(steps, -1e-6)
    assert steps[0].values == {"Vd": pytest.approx(-0.6)}
    assert "as schema.yaml says" in READER.recognises(path).reason
    found = guess_schema(path)
    found.save(tmp_path / "saved.yaml")
    assert Schema.read(tmp_path / "saved.yaml") == found
    assert_sweep(read(path, found)[0], -1e-6)


@pytest.mark.parametrize("headings", [("U1", "I2"), ()])
def test_a_guess_for_columns_that_nobody_knows_is_there_to_be_corrected(tmp_path, headings):
    text = table(headings=headings)
    path = write(tmp_path / "a.csv", text if headings else text.lstrip("\n"))
    guess = guess_schema(path).to_mapping()
    first, second = headings or (1, 2)
    assert guess["columns"].keys() == {first, second}
    assert guess["delimiter"] == "comma"
    guess["columns"][first]["quantity"], guess["columns"][second]["quantity"] = "Vg", "Id"
    assert_sweep(read(path, Schema.from_mapping(guess))[0])


def test_a_schema_is_for_the_files_that_it_names(tmp_path):
    (tmp_path / "schema.yaml").write_text("files: 'b*.csv'\ncolumns: {x: Vg, y: Id}\n")
    assert_sweep(read(write(tmp_path / "a.csv", table()))[0])
    assert_sweep(read(write(tmp_path / "b1.csv", table(headings=("x", "y"))))[0])
    assert "the schema names a column 'x'" in refused(write(tmp_path / "b2.csv", table()))


def test_a_guess_for_several_curves_is_a_schema(tmp_path):
    text = "Vd,Id(Vg=-200mV),Id(Vg=0mV)\n" + "".join(
        f"{-0.1 * i:.1f},{i}e-6,{2 * i}e-6\n" for i in range(9)
    )
    path = write(tmp_path / "a.csv", text)
    first, _ = read(path)
    again, _ = read(path, guess_schema(path))
    for one, other in zip(first, again, strict=True):
        assert one.values == other.values
        np.testing.assert_array_equal(one.arrays["Id"], other.arrays["Id"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("decimals: ','", "unknown key 'decimals'; did you mean 'decimal'"),
        ("decimal: 3", "decimal is 3, expected text"),
        ("delimiter: x", "expected one of comma"),
        ("kind: transfr", "unknown kind 'transfr'; did you mean 'transfer'"),
        ("encoding: utf-99", "unknown encoding"),
        ("columns: {a: {quantity: Id, unit: V}}", "'V' is no unit of Id"),
        ("columns: {a: Xd}", "no quantity 'Xd'"),
        ("columns: {a: 3}", "expected quantity, unit and sign"),
        ("columns: {a: {quantity: Id, sign: 2}}", "sign is 2"),
        ("values: {Vd: low}", "expected e.g. '-0.6 V'"),
        ("heading_line: -1", "expected a number, 0 for none"),
        ("- a", "expected a mapping"),
    ],
)
def test_a_wrong_schema_is_refused_by_name(tmp_path, text, message):
    (tmp_path / "schema.yaml").write_text(text)
    with pytest.raises(ConfigError) as error:
        Schema.read(tmp_path / "schema.yaml")
    assert message in str(error.value)
    path = write(tmp_path / "a.csv", table())
    assert message in refused(path)


def test_blocks_of_a_large_file(tmp_path, monkeypatch):
    monkeypatch.setattr("oectflow.pipeline.inputs.readers.delimited._BLOCK", 1000)
    time = np.round(np.arange(5000) * 1e-3, 6)
    text = table(headings=("Time (s)", "Id (A)"), columns=(time, np.sin(time)))
    lines = text.split("\n")
    lines[777] = lines[777].split(",")[0] + ",bad"
    found = read_delimited(write(tmp_path / "a.csv", "\n".join(lines)))
    np.testing.assert_array_equal(found.columns[0], time)
    expected = np.sin(time)
    expected[776] = np.nan
    np.testing.assert_array_equal(found.columns[1], expected)
    assert found.flaws == ("line 778: Id (A) is 'bad', no number, taken as NaN",)


def test_an_encoding_that_shows_only_at_the_end(tmp_path):
    time = np.arange(30_000) * 1e-3
    text = table(headings=("Time", "Id"), columns=(time, time)) + "Ende der Prüfung\n"
    steps, _ = read(write(tmp_path / "a.csv", text, "cp1252"))
    assert len(steps[0]) == 30_000
    assert "Ende der Prüfung" in metadata_of(tmp_path / "a.csv").values()
