from __future__ import annotations

import datetime
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oectflow.errors import IngestError
from oectflow.measurement import Measurement

xlsxwriter = pytest.importorskip("xlsxwriter")
xlwt = pytest.importorskip("xlwt")
pytest.importorskip("python_calamine")

from oectflow.pipeline.inputs.readers import workbook  # noqa: E402
from oectflow.pipeline.inputs.readers.excel import READER  # noqa: E402
from oectflow.pipeline.inputs.readers.sense import sensible  # noqa: E402

VG = np.linspace(0.2, -0.8, 11)
LOOP = np.concatenate([VG, VG[::-1]])
TIME = np.arange(40) * 0.05

Rows = Sequence[Sequence[Any]]


def current(vg: Any, vd: float = -0.1) -> Any:
    return vd * 1e-3 * (1 - np.asarray(vg))


def columns(headings: Sequence[str], *arrays: Any) -> list[list[Any]]:
    longest = max(map(len, arrays))
    cells = [[*map(float, array), *[None] * (longest - len(array))] for array in arrays]
    return [list(headings), *map(list, zip(*cells, strict=True))]


def write_xlsx(path: Path, sheets: Mapping[str, Rows]) -> Path:
    with xlsxwriter.Workbook(str(path), {"default_date_format": "hh:mm:ss"}) as book:
        for name, rows in sheets.items():
            sheet = book.add_worksheet(name)
            for r, row in enumerate(rows):
                for c, cell in enumerate(row):
                    is_text = isinstance(cell, str)  # "====" is no formula
                    (sheet.write_string if is_text else sheet.write)(r, c, cell)
    return path


def write_xls(path: Path, sheets: Mapping[str, Rows]) -> Path:
    book = xlwt.Workbook()
    for name, rows in sheets.items():
        sheet = book.add_sheet(name)
        for r, row in enumerate(rows):
            for c, cell in enumerate(row):
                sheet.write(r, c, cell)
    book.save(str(path))
    return path


WRITERS = [(write_xlsx, "a.xlsx"), (write_xls, "a.xls"), (write_xls, "no ending")]


def read(path: Path) -> Measurement:
    assert READER.recognises(path).confidence > 0.8
    (measurement,) = READER.read(path).measurements
    return measurement


@pytest.mark.parametrize(("write", "name"), WRITERS)
@pytest.mark.parametrize("above", [0, 2, 7])
def test_headings_stand_anywhere(tmp_path: Path, write: Any, name: str, above: int) -> None:
    notes: Rows = [["Device", "A1"], [], ["Vd (V)", -0.1], ["W (µm)", 100], [], ["remark"], []]
    rows = [*notes[7 - above :], *columns(["Vg (V)", "Id (A)"], LOOP, current(LOOP))]
    found = read(write(tmp_path / name, {"transfer": rows}))
    (step,) = found.steps
    assert step.kind == "transfer"
    np.testing.assert_allclose(step.arrays["Vg"], LOOP)
    np.testing.assert_allclose(step.arrays["Id"], current(LOOP))
    assert step.values["file_step"] == 0
    if above == 7:
        assert step.values["Vd"] == -0.1
        assert found.sample == {"W": 1e-4}
        assert step.info["parameters"]["Device"] == "A1"


@pytest.mark.parametrize(("write", "name"), WRITERS[:2])
def test_sheets_that_alternate_are_steps_in_their_order(
    tmp_path: Path, write: Any, name: str
) -> None:
    sheets: dict[str, Rows] = {}
    for i in range(3):
        sheets[f"transfer {i}"] = columns(["Vg", "Id"], VG, current(VG) * (i + 1))
        times = [TIME[: 40 - k] for k in range(4)]
        pairs = [part for k, t in enumerate(times) for part in (t, np.exp(-t) * (k + 1))]
        sheets[f"transient {i}"] = [
            ["cycle"],
            [],
            *columns(["Time (s)", "Id (µA)"] * 4, *pairs),
        ]
    found = read(write(tmp_path / name, sheets))
    kinds = ["transfer", *["transient"] * 4] * 3
    assert [step.kind for step in found.steps] == kinds
    assert [step.values["curve"] for step in found.steps] == list(range(1, 16))
    places = [step.values["file_step"] for step in found.steps]
    assert places == [0, *[1] * 4, 2, *[3] * 4, 4, *[5] * 4]
    for k, step in enumerate(found.steps[6:10]):
        np.testing.assert_allclose(step.arrays["time"], TIME[: 40 - k])
        np.testing.assert_allclose(step.arrays["Id"], np.exp(-TIME[: 40 - k]) * (k + 1) * 1e-6)
    assert found.steps[6].info["data_file"] == f"{name}[transient 1]"


def test_row_of_units_and_text_that_is_a_number(tmp_path: Path) -> None:
    rows = [
        ["Vg", "Id"],
        ["mV", "(nA)"],
        *([f"{vg * 1e3:.1f}", f"{current(vg) * 1e9:.6f}".replace(".", ",")] for vg in VG),
    ]
    (step,) = read(write_xlsx(tmp_path / "a.xlsx", {"s": rows})).steps
    np.testing.assert_allclose(step.arrays["Vg"], VG, atol=1e-12)
    np.testing.assert_allclose(step.arrays["Id"], current(VG), rtol=1e-6)


def test_voltage_above_pairs_of_columns(tmp_path: Path) -> None:
    rows = [["Vd = -0.1 V", None, "Vd = -0.5 V", None]]
    rows += columns(["Vg", "Id", "Vg", "Id"], VG, current(VG), VG, current(VG, -0.5))
    steps = read(write_xlsx(tmp_path / "a.xlsx", {"s": rows})).steps
    assert [step.values["Vd"] for step in steps] == [-0.1, -0.5]
    np.testing.assert_allclose(steps[1].arrays["Id"], current(VG, -0.5))


def test_sheets_of_different_devices_are_experiments_of_their_own(tmp_path: Path) -> None:
    curve = columns(["Vg", "Id"], VG, current(VG))
    sheets: dict[str, Rows] = {
        "a": [["Chip", "C1"], ["Device", "3"], ["W (µm)", 100], [], *curve],
        "W=200um L=10um": curve,
        "b": [["Chip", "C1"], ["Device", "3"], ["W (µm)", 100], [], *curve],
        "unknown": curve,
    }
    found = READER.read(write_xlsx(tmp_path / "a.xlsx", sheets)).measurements
    assert [len(one.steps) for one in found] == [2, 1, 1]
    assert [one.sample for one in found] == [{"W": 1e-4}, {"W": 2e-4, "L": 1e-5}, {}]
    assert found[0].attributes["chip_id"] == "C1"
    assert found[0].attributes["device_number"] == "3"
    assert [step.values["file_step"] for step in found[0].steps] == [0, 2]


def test_two_tables_below_each_other(tmp_path: Path) -> None:
    rows = [
        *columns(["Vg", "Id"], VG, current(VG)),
        [],
        ["second", "of them"],
        *columns(["Time", "Id"], TIME, np.exp(-TIME) * 1e-6),
        ["L (µm)", 10],
    ]
    found = read(write_xlsx(tmp_path / "a.xlsx", {"s": rows}))
    assert [step.kind for step in found.steps] == ["transfer", "transient"]
    assert found.sample == {"L": 1e-5}


def test_clock_times_are_seconds(tmp_path: Path) -> None:
    clock = [datetime.time(10, 0, s) for s in range(20)]
    rows = [["Time", "Id"], *([t, float(i) * 1e-6] for i, t in enumerate(clock))]
    (step,) = read(write_xlsx(tmp_path / "a.xlsx", {"s": rows})).steps
    np.testing.assert_allclose(np.diff(step.arrays["time"]), 1.0, atol=1e-6)


def test_what_is_no_measurement_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    with xlsxwriter.Workbook(str(path)) as book:
        sheet = book.add_worksheet("good")
        for r, row in enumerate(columns(["Vg", "Id", "note"], VG, current(VG), [])):
            sheet.write_row(r, 0, row)
        sheet.write(4, 2, "bubble")
        chart = book.add_chart({"type": "line"})
        chart.add_series({"values": "=good!$B$2:$B$5"})
        book.add_chartsheet("picture").set_chart(chart)
        book.add_worksheet("nothing")
        book.add_worksheet("bare").write_row(0, 0, [1, 2, 3])
        book.add_worksheet("prose").write(0, 0, "only words")
        hidden = book.add_worksheet("hidden")
        hidden.hide()
        for r, row in enumerate(columns(["Vg", "Id"], VG, current(VG))):
            hidden.write_row(r, 0, row)
    found = read(path)
    assert len(found.steps) == 2
    words = "\n".join(found.warnings)
    for name in (
        "'picture' left out: it is a chart",
        "'nothing' left out: it is empty",
        "'bare': row 1: numbers without headings",
        "'prose'",
        "'hidden' is hidden",
        "'bubble' in row 5",
    ):
        assert name in words, name


@pytest.mark.parametrize(("factor", "named"), [(1e6, True), (1, False)])
def test_a_current_beyond_reason_is_named(tmp_path: Path, factor: float, named: bool) -> None:
    rows = columns(["Vg (V)", "Id (A)"], VG, current(VG) * factor)
    words = sensible(read(write_xlsx(tmp_path / "a.xlsx", {"s": rows}))).warnings
    assert any("unit right" in word for word in words) == named


def write_ods(path: Path, rows: Rows, repeated: int = 1) -> Path:
    def cell(value: Any) -> str:
        if value is None:
            return "<table:table-cell/>"
        if isinstance(value, str):
            return (
                '<table:table-cell office:value-type="string">'
                f"<text:p>{value}</text:p></table:table-cell>"
            )
        return f'<table:table-cell office:value-type="float" office:value="{value!r}"/>'

    names = ["office", "table", "text"]
    spaces = " ".join(f'xmlns:{n}="urn:oasis:names:tc:opendocument:xmlns:{n}:1.0"' for n in names)
    body = "".join(
        f'<table:table-row table:number-rows-repeated="{repeated}">'
        f"{''.join(map(cell, row))}</table:table-row>"
        for row in rows
    )
    # As LibreOffice does: the rest of the sheet is one row of one empty cell, repeated.
    rest = (
        '<table:table-row table:number-rows-repeated="1048000">'
        '<table:table-cell table:number-columns-repeated="16384"/></table:table-row>'
    )
    content = (
        f'<office:document-content {spaces} office:version="1.2"><office:body>'
        f'<office:spreadsheet><table:table table:name="s">{body}{rest}</table:table>'
        "</office:spreadsheet></office:body></office:document-content>"
    )
    mimetype = "application/vnd.oasis.opendocument.spreadsheet"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", mimetype, zipfile.ZIP_STORED)
        archive.writestr("content.xml", content)
        archive.writestr(
            "META-INF/manifest.xml",
            "<manifest:manifest "
            'xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0">'
            f'<manifest:file-entry manifest:full-path="/" manifest:media-type="{mimetype}"/>'
            "</manifest:manifest>",
        )
    return path


def test_open_document(tmp_path: Path) -> None:
    rows = [["Vd (V)", -0.1], [], *columns(["Vg (V)", "Id (A)"], VG, current(VG))]
    (step,) = read(write_ods(tmp_path / "a.ods", rows)).steps
    np.testing.assert_allclose(step.arrays["Id"], current(VG))
    assert step.values["Vd"] == -0.1


def test_open_document_that_repeats_rows_beyond_reason_is_refused(tmp_path: Path) -> None:
    rows = columns(["Vg (V)", "Id (A)"], VG, current(VG))
    with pytest.raises(IngestError, match="far below or right"):
        READER.read(write_ods(tmp_path / "a.ods", rows, repeated=20_000_000))


# Keithley 4200

SEPARATOR = ["=" * 34]


def settings(test: str, gate: str, drain: str, levels: Sequence[Any], **more: Any) -> Rows:
    clarius = more.get("clarius", False)
    return [
        ["Test Name", test],
        ["Mode", "Sweeping"],
        ["Last Executed", "03/14/2024 15:34:54"],
        ["Device Terminal", "Source", "Gate", "Drain"],
        ["Instrument", "GNDU", "SMU1", "SMU2"],
        ["Operation Mode" if clarius else "Forcing Function", "Common", gate, drain],
        ["Start/Bias" if clarius else "Start/Level", "N/A", *levels],
        ["Step", "N/A", more.get("step", -0.1), "N/A"],
        ["Number of Points", "N/A", more.get("n", 22), 7],
    ]


@pytest.mark.parametrize(("write", "name"), WRITERS[:2])
def test_keithley_4200_transfer_runs_have_their_own_settings(
    tmp_path: Path, write: Any, name: str
) -> None:
    def data(vd: float) -> Rows:
        return columns(["GateI", "GateV", "DrainI"], LOOP * 0 + 1e-9, LOOP, current(LOOP, vd))

    parts = [
        SEPARATOR, ["Append 1", "Latest Run"], SEPARATOR,
        *settings("p_transfer#1@3", "Voltage Sweep", "Voltage Bias", [0.2, -0.6]),
        SEPARATOR, ["Initial Run"], SEPARATOR,
        *settings("p_transfer#1@3", "Voltage Sweep", "Voltage Bias", [0.2, -0.1]),
    ]  # fmt: skip
    sheets = {"Data": data(-0.1), "Calc": [[0.0]], "Settings": parts, "Append1": data(-0.6)}
    found = read(write(tmp_path / name, sheets))
    assert [step.kind for step in found.steps] == ["transfer"] * 2
    assert [step.values["Vd"] for step in found.steps] == [-0.1, -0.6]
    np.testing.assert_allclose(found.steps[1].arrays["Id"], current(LOOP, -0.6))
    assert found.steps[0].info["parameters"]["Test Name"] == "p_transfer#1@3"
    assert found.attributes["instrument"] == "Keithley 4200"
    assert any("'Calc' left out" in word for word in found.warnings)


def test_clarius_names_runs_as_their_sheets(tmp_path: Path) -> None:
    parts: list[Any] = []
    sheets: dict[str, Rows] = {}
    for name, vd in (("Run19", 1.5), ("W=0.25um L=3um", 0.5)):
        how = ("Voltage Linear Sweep", "Voltage Bias", [0, vd])
        parts += [SEPARATOR, [name], SEPARATOR, *settings("vtlin#1@1", *how, clarius=True), []]
        sheets[name] = columns(["DrainI", "GateV", "VT"], current(LOOP, vd), LOOP, [])
    found = read(write_xls(tmp_path / "a.xls", {**sheets, "Settings": parts}))
    assert [step.values["Vd"] for step in found.steps] == [1.5, 0.5]
    assert found.steps[1].info["parameters"]["Operation Mode"].endswith("Voltage Bias")
    assert found.attributes["description"] == "vtlin#1@1"
    assert found.sample == {"W": 0.25e-6, "L": 3e-6}


@pytest.mark.parametrize("with_gate", [True, False])
def test_keithley_4200_family_of_output_curves(tmp_path: Path, with_gate: bool) -> None:
    vd = np.linspace(0, -0.6, 7)
    headings, arrays = [], []
    for k in range(3):
        vg = -0.1 * k
        headings += [f"DrainI({k + 1})", f"DrainV({k + 1})"] + [f"GateV({k + 1})"] * with_gate
        arrays += [vd * (1 - vg) * 1e-4, vd] + [np.full(7, vg)] * with_gate
    sheets = {
        "Data": columns(headings, *arrays),
        "Settings": settings("out", "Voltage Step", "Voltage Sweep", [0.0, 0.0], n=3),
    }
    steps = read(write_xls(tmp_path / "a.xls", sheets)).steps
    assert [step.kind for step in steps] == ["output"] * 3
    assert [step.values["Vg"] for step in steps] == pytest.approx([0, -0.1, -0.2])
    for k, step in enumerate(steps):
        np.testing.assert_allclose(step.arrays["Id"], vd * (1 + 0.1 * k) * 1e-4)


# Bounds


def test_a_workbook_that_unpacks_to_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workbook, "_MAX_UNPACKED", 2**20)
    path = write_xlsx(tmp_path / "a.xlsx", {"s": columns(["Vg", "Id"], VG, VG)})
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/media/big.bin", bytes(2**21))
    assert path.stat().st_size < 2**20
    with pytest.raises(IngestError, match="unpack to"):
        READER.read(path)


@pytest.mark.parametrize(("write", "name", "row", "column"), [
    (write_xlsx, "a.xlsx", 1048575, 16383), (write_xlsx, "a.xlsx", 1048575, 20),
    (write_xls, "a.xls", 65535, 255),
])  # fmt: skip
def test_a_cell_far_out_is_refused(
    tmp_path: Path, write: Any, name: str, row: int, column: int
) -> None:
    path = tmp_path / name
    if write is write_xlsx:
        with xlsxwriter.Workbook(str(path)) as book:
            sheet = book.add_worksheet()
            sheet.write(0, 0, "Vg")
            sheet.write(row, column, 1.0)
    else:
        book = xlwt.Workbook()
        sheet = book.add_sheet("s")
        sheet.write(0, 0, "Vg")
        sheet.write(row, column, 1.0)
        book.save(str(path))
    with pytest.raises(IngestError, match="far below or right"):
        READER.read(path)


def test_a_damaged_cell_cannot_take_all_memory(tmp_path: Path) -> None:
    path = write_xls(tmp_path / "a.xls", {"s": columns(["Vg", "Id"], VG, current(VG))})
    raw = bytearray(path.read_bytes())
    record = raw.index(b"\x03\x02\x0e\x00")  # NUMBER: row and column follow
    raw[record + 4 : record + 8] = b"\xff\xff\x00\xf0"
    path.write_bytes(raw)
    with pytest.raises(IngestError, match=r"cannot be read \(.*memory"):
        READER.read(path)


@pytest.mark.parametrize("write", [write_xlsx, write_xls])
def test_a_damaged_workbook_is_named(tmp_path: Path, write: Any) -> None:
    path = write(tmp_path / "a", {"s": columns(["Vg", "Id"], LOOP, current(LOOP))})
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) * 2 // 3])
    with pytest.raises(IngestError, match=r"damaged|cannot be read|nothing to read"):
        READER.read(path)


@pytest.mark.parametrize(
    "content", [b"", b"Vg,Id\n0,1\n", b"PK\x03\x04 not", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" * 100]
)
def test_strangers_are_not_recognised(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.xlsx").write_bytes(content)
    assert READER.recognises(tmp_path / "a.xlsx").confidence == 0


def test_without_calamine_a_workbook_is_recognised_and_the_remedy_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_xlsx(tmp_path / "a.xlsx", {"s": columns(["Vg", "Id"], VG, current(VG))})
    monkeypatch.setattr(workbook, "find_spec", lambda name: None)
    assert READER.recognises(path).confidence > 0.8
    with pytest.raises(IngestError, match=r"pip install 'oectflow\[excel\]'"):
        READER.read(path)


def test_no_sheet_with_a_measurement(tmp_path: Path) -> None:
    path = write_xlsx(tmp_path / "a.xlsx", {"s": columns(["x", "y"], VG, VG)})
    with pytest.raises(IngestError, match="nothing to read in this workbook: sheet 's'"):
        READER.read(path)
