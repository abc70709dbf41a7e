"""Tables of devices: every way of writing one thing gives it, and a mistake is named."""

from __future__ import annotations

import csv
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import constants

from oectflow.errors import ConfigError
from oectflow.pipeline.inputs.sample_keys import understand
from oectflow.pipeline.inputs.samples import Samples, read_samples, unit_of

RIGHT = {
    "W": 100 / 1e6,
    "L": 10 / 1e6,
    "d": 50 / 1e9,
    "u_d": 5 / 1e9,
    "temperature": 25 + constants.zero_Celsius,
    "electrolyte": "NaCl",
}
HEADINGS = ["chip_id", "device_id", "W (µm)", "L [µm]", "d_nm", "u_d (%)", "T (°C)", "Electrolyte"]
CELLS = ["#7", "01", "100", "10", "50", "10", "25", "NaCl"]


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def table(*rows: str) -> str:
    return "\n".join(rows) + "\n"


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_text_in_any_encoding_and_delimiter(tmp_path: Path, delimiter: str, encoding: str) -> None:
    lines = ["Devices of the lab", "", delimiter.join(HEADINGS), delimiter.join(CELLS)]
    path = write(tmp_path / "devices.csv", "\r\n".join(lines), encoding)
    assert read_samples(path).of("#7", "01") == pytest.approx(RIGHT)


def test_chinese_text_of_an_old_computer(tmp_path: Path) -> None:
    text = table("chip_id,device_id,W (um),半导体,semiconductor", "芯片,1,100,聚合物,聚合物")
    found = read_samples(write(tmp_path / "d.csv", text, "gb18030")).of("芯片", 1)
    assert found == {"W": 100 / 1e6, "半导体": "聚合物", "semiconductor": "聚合物"}


@pytest.mark.parametrize(
    ("heading", "key", "factor"),
    [
        ("W (µm)", "W", constants.micro),
        ("W (\u03bcm)", "W", constants.micro),
        ("width [mm]", "W", constants.milli),
        ("Channel length / um", "L", constants.micro),
        ("L_um", "L", constants.micro),
        ("L/µm", "L", constants.micro),
        ("film thickness nm", "d", constants.nano),
        ("t (nm)", "d", constants.nano),
        ("d (Å)", "d", constants.angstrom),
        ("u(W) (µm)", "u_W", constants.micro),
        ("ΔL [nm]", "u_L", constants.nano),
        ("W_err (um)", "u_W", constants.micro),
        ("gate_area (mm²)", "gate_area", constants.milli**2),
        ("Gate area [cm2]", "gate_area", constants.centi**2),
        ("concentration (M)", "concentration", 1 / constants.liter),
        ("concentration (mM)", "concentration", constants.milli / constants.liter),
        ("conc (mol/L)", "concentration", 1 / constants.liter),
        ("V_DS (mV)", "Vd", constants.milli),
        ("T (K)", "temperature", 1.0),
    ],
)
def test_headings(tmp_path: Path, heading: str, key: str, factor: float) -> None:
    path = write(tmp_path / "d.csv", table(f"Chip No.;Device #;{heading}", "A;1;2,5"))
    assert read_samples(path).of("A", 1) == {key: pytest.approx(2.5 * factor, rel=1e-12)}


@pytest.mark.parametrize("heading", ["W/L", "mobility (cm2/Vs)", "wafer", "D_2", "temperament"])
def test_columns_that_only_the_user_knows_keep_name_and_unit(tmp_path: Path, heading: str) -> None:
    path = write(tmp_path / "d.csv", table(f"chip_id,device_id,{heading}", "A,1,2.5", "A,2,007"))
    found = read_samples(path).of("A", 1)
    name = understand(heading).name
    assert name.isidentifier()
    assert found.pop(name) == 2.5
    assert found == ({"units": {"mobility": "cm2/Vs"}} if "(" in heading else {})
    # 007 names something.
    assert read_samples(path).of("A", 2)[name] == "007"
    assert unit_of(name, read_samples(path).of("A", 1)) == ("cm2/Vs" if "(" in heading else "")


def test_a_row_of_units(tmp_path: Path) -> None:
    path = write(
        tmp_path / "d.csv", table("chip_id,device_id,W,L,note", ",,µm,mm,", "A,1,100,1,good")
    )
    assert read_samples(path).of("A", 1) == {"W": 100 / 1e6, "L": 1e-3, "note": "good"}


def test_units_in_cells(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", table("chip_id,device_id,W,u_L,L", "A,1,0.1 mm,3 %,20±1 µm"))
    with pytest.raises(ConfigError, match="line 2: u_L stands there twice"):
        read_samples(path)
    path = write(tmp_path / "d.csv", table("chip_id,device_id,W,L", "A,1,0.1 mm,20 ± 1 µm"))
    assert read_samples(path).of("A", 1) == {"W": 1e-4, "L": 20 / 1e6, "u_L": 1 / 1e6}


def test_what_people_and_programs_write_for_nothing(tmp_path: Path) -> None:
    rows = [
        "chip_id,device_id,W (µm),u_W (µm),age,made",
        "A,1,n/a,±5,1e999,-",
        "A,2,?,,,2025-08-15",
    ]
    samples = read_samples(write(tmp_path / "d.csv", table(*rows)))
    assert samples.of("A", 1) == {"u_W": 5 / 1e6, "age": "1e999"}
    assert samples.of("A", 2) == {"made": "2025-08-15"}
    frame = pd.DataFrame({"chip_id": ["A", "B"], "device_id": [1, 2]})
    frame["made"] = [pd.Timestamp("2025-08-15"), pd.NaT]
    frame["W (µm)"] = pd.array([100, None], dtype="Int64")
    frame["gain"] = [np.inf, np.nan]
    frame["good"] = [True, False]
    samples = read_samples(frame)
    made = {"W": 100 / 1e6, "gain": "inf", "good": "True", "made": "2025-08-15 00:00:00"}
    assert samples.of("A", 1) == made
    assert samples.of("B", 2) == {"good": "False"}


def test_travels_between_processes(tmp_path: Path) -> None:
    rows = ["chip_id,device_id,W (µm),u_W,age (d)", "A,*,100,5 %,3", "*,1,,,4"]
    samples = read_samples(write(tmp_path / "d.csv", table(*rows)))
    for other in (pickle.loads(pickle.dumps(samples)), Samples.from_json(samples.to_json())):
        assert other.of("A", 2) == samples.of("A", 2) != {}
        assert other.of("B", 1) == samples.of("B", 1) != {}
        with pytest.raises(ConfigError, match=r"d\.csv, line 2 says 3, .*line 3 says 4"):
            other.of("A", 1)


def test_yaml_keeps_ids_as_they_are_written(tmp_path: Path) -> None:
    text = table(
        "devices:",
        "  - {chip_id: 010, device_id: 01, W: 100 µm, L (µm): 10, d: 50 nm, u_d: 10 %,",
        "     temperature: 25 °C, electrolyte: NaCl}",
        "  - {chip_id: 1e3, device_id: '*', W (mm): 2}",
    )
    samples = read_samples(write(tmp_path / "devices.yaml", text))
    assert samples.of("010", "01") == pytest.approx(RIGHT)
    assert samples.of(8, 1) == {}
    assert samples.of("1e3", 5) == {"W": 2e-3}


def test_excel(tmp_path: Path) -> None:
    xlsxwriter = pytest.importorskip("xlsxwriter")
    pytest.importorskip("python_calamine")
    path = tmp_path / "devices.xlsx"
    with xlsxwriter.Workbook(path) as book:
        book.add_worksheet("notes").write(0, 0, "nothing here")
        sheet = book.add_worksheet("devices")
        sheet.write_row(2, 1, HEADINGS)
        sheet.write_row(3, 1, ["#7", "01", 100, 10, 50, 10, 25, "NaCl"])
        sheet.write_row(5, 1, [20250815001, 2, 200])
    samples = read_samples(path)
    assert samples.of("#7", "01") == pytest.approx(RIGHT)
    # A number of Excel is an id without decimals.
    assert samples.of("20250815001", "2") == {"W": 200 / 1e6}


def test_data_frame_and_mappings() -> None:
    frame = pd.DataFrame({"chip_id": ["A", "A"], "device_id": [1.0, np.nan], "W (µm)": [100, 200]})
    with pytest.raises(ConfigError, match="the DataFrame, row 2: device_id is empty"):
        read_samples(frame)
    frame["device_id"] = [1.0, 2.0]
    assert read_samples(frame).of("A", "2") == {"W": 200 / 1e6}
    indexed = read_samples(frame.set_index(["chip_id", "device_id"]))
    assert indexed.of("A", 1) == {"W": 100 / 1e6}
    assert read_samples({"W": 1e-4, "L (µm)": 10}).of("any", "any") == {"W": 1e-4, "L": 10 / 1e6}
    # What a table says is a mapping that says the same.
    said = read_samples({"W": 1e-4, "mobility (cm2/Vs)": 2}).of(1, 1)
    assert read_samples(said).of(1, 1) == said
    assert isinstance(read_samples(indexed), Samples)


def test_the_most_specific_row_that_says_something_counts(tmp_path: Path) -> None:
    rows = [
        "chip_id,device_id,W (µm),d (nm),u_W (%),electrolyte",
        "*,*,1,,5,NaCl",
        "A,*,2,20,,",
        "*,3,2,,,KCl",
        "A,1,4,,,",
    ]
    samples = read_samples(write(tmp_path / "d.csv", table(*rows)))
    assert samples.of("A", 1) == {"W": 4 / 1e6, "d": 20 / 1e9, "electrolyte": "NaCl"}
    assert samples.of("A", 3) == {"W": 2 / 1e6, "d": 20 / 1e9, "electrolyte": "KCl"}
    # The uncertainty of the W of any device is that of no other W.
    assert samples.of("B", 9) == {"W": 1e-6, "u_W": pytest.approx(5e-8), "electrolyte": "NaCl"}


def test_a_share_without_a_value_of_its_own_is_one_of_every_value(tmp_path: Path) -> None:
    rows = ["chip_id,device_id,W (µm),u_W (%)", "*,*,,5", "A,1,100,"]
    samples = read_samples(write(tmp_path / "d.csv", table(*rows)))
    assert samples.of("A", 1) == {"W": 100 / 1e6, "u_W": pytest.approx(5e-6)}
    assert samples.of("B", 1) == {}
    assert samples.complete("B", 1, {"W": 1e-4})[0]["u_W"] == pytest.approx(5e-6)


def test_ids_are_text() -> None:
    samples = read_samples(
        [
            {"chip_id": "A", "device_id": "01", "W": 1e-6},
            {"chip_id": "A", "device_id": 1, "W": 2e-6},
        ]
    )
    assert samples.of("A", "01")["W"] == 1e-6
    assert samples.of("A", "1")["W"] == samples.of("A", 1)["W"] == samples.of("A", 1.0)["W"] == 2e-6


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["chip_id,device_id,W", "A,1,100"], r"line 2: 'W' has no unit; write .*'W \(µm\)'"),
        (["chip_id,device_id,W (µm),u_W", "A,1,100,5"], r"'u_W' has no unit; .*'u_W \(µm\)' or in"),
        (["chip_id,device_id,Vd", "A,1,-600"], r"'Vd' has no unit"),
        (["chip_id,device_id,W (µV)", "A,1,100"], "'µV' is no unit of W"),
        (["chip_id,device_id,W (µm)", "A,1,0"], "line 2: W=0 µm is impossible"),
        (["chip_id,device_id,W (µm)", "A,1,-5"], "W=-5 µm is impossible"),
        (["chip_id,device_id,L (m)", "A,1,10"], "L=10 m is impossible; expected"),
        (["chip_id,device_id,T (°C)", "A,1,-300"], "temperature=-300 °C is impossible"),
        (["chip_id,device_id,W (µm),d (µm)", "A,1,1,50"], "line 2: d=5e-05 m is more than ten tim"),
        (["chip_id,device_id,d (nm),u_d (µm)", "A,1,50,5"], "line 2: u_d=5e-06 m is more than d="),
        (["chip_id,device_id,W (µm),u_W (µm)", "A,1,50,-5"], "u_W=-5 µm: an uncertainty is 0 or"),
        (["chip_id,device_id,W (µm),u_W (%)", "A,1,50,500"], "u_W=500 %: more than the value"),
        (["chip_id,device_id,W (µm)", "A,1,wide"], "line 2: 'W .µm.' is 'wide', expected a number"),
        (["chip_id,device_id,W (µm)", "A,1,5 mm"], "two units"),
        (["chip_id,device_id,W (µm)", 'A,1,"1,000"'], "'1,000' may be one number or a thousand"),
        (["chip_id,device_id,W (µm),L (µm)", "A,1,0,5,10"], "line 2: 5 cells under 4 headings"),
        (
            ["chip_id;device_id;W (µm)", "A;1;0,5", "A;2;0.5"],
            "line 3 has a decimal point, .*line 2",
        ),
        (["chip_id,device_id,W (µm)", "A,,5"], "line 2: device_id is empty; . stands for any"),
        (["chip_id,device_id,W (µm),", "A,1,5,6"], "line 2: '6' in column 4 has no heading"),
        (["chip_id,device_id,W (µm),width (mm)", "A,1,5,6"], "'W .µm.' and 'width .mm.' both mean"),
        (["chip_id,device_id,unit_x", "A,1,m"], "would be the unit of another"),
        (["chip_id,W (µm)", "A,5"], "no line with the headings chip_id and device_id"),
        ([""], "no line with the headings"),
        (
            ["chip_id,device_id,W (µm)", "A,1,5", "", "A,1,6"],
            r"W of chip 'A', device '1': .*line 2 says 5e-06 m, .*line 4 says 6e-06 m; correct one",
        ),
    ],
)
def test_mistakes_are_named(tmp_path: Path, rows: list[str], message: str) -> None:
    path = write(tmp_path / "devices.csv", table(*rows))
    with pytest.raises(ConfigError, match=message) as caught:
        read_samples(path)
    assert "devices.csv" in str(caught.value)


def test_rows_that_cross_contradict_only_where_they_meet(tmp_path: Path) -> None:
    rows = ["chip_id,device_id,W (µm)", "A,*,5", "*,1,6"]
    samples = read_samples(write(tmp_path / "d.csv", table(*rows)))
    assert samples.of("A", 2) == {"W": 5 / 1e6}
    with pytest.raises(ConfigError, match=r"line 2 says 5e-06 m, .*line 3 says 6e-06 m"):
        samples.of("A", 1)
    more = read_samples(write(tmp_path / "d.csv", table(*rows, "A,1,7")))
    assert more.of("A", 1) == {"W": 7 / 1e6}


def test_the_file_counts_and_a_contradiction_is_said(tmp_path: Path) -> None:
    rows = ["chip_id,device_id,W (mm),u_W (mm),L (µm),ink", "A,1,0.1,0.01,10,blue"]
    samples = read_samples(write(tmp_path / "d.csv", table(*rows)))
    same, nothing = samples.complete("A", 1, {"W": 1e-4})
    assert same == {"W": 1e-4, "u_W": pytest.approx(1e-5), "L": 1e-5, "ink": "blue"}
    assert nothing == []
    own = {"W": 2e-4, "ink": "red", "age": 3.0, "units": {"age": "d"}}
    both, said = samples.complete("A", 1, own)
    assert both == {**own, "L": 1e-5}
    assert [s.split(";")[0] for s in said] == [
        f"W: the file says 0.0002 m, {tmp_path / 'd.csv'}, line 2 says 0.0001 m",
        f"ink: the file says 'red', {tmp_path / 'd.csv'}, line 2 says 'blue'",
    ]


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo.csv"
    os.mkfifo(fifo)
    for path, message in (
        (fifo, "is a pipe"),
        (fifo.with_suffix(".yaml"), "is a pipe"),
        (tmp_path / "nothing.csv", "there is no such file"),
        (Path(os.devnull), "is a device"),
        (tmp_path, "is a folder"),
        (write(tmp_path / "binary.csv", "\x01\x02\x03chip_id"), "is no text"),
        (write(tmp_path / "damaged.xlsx", "PK"), "damaged.xlsx"),
    ):
        if message == "is a pipe" and not path.exists():
            os.mkfifo(path)
        with pytest.raises(ConfigError, match=message):
            read_samples(path)
    large = tmp_path / "large.csv"
    with large.open("wb") as file:
        file.truncate(17 * 1024 * 1024)
    with pytest.raises(ConfigError, match="expected at most"):
        read_samples(large)
    with pytest.raises(ConfigError, match="device 1: is 'A'"):
        read_samples(write(tmp_path / "d.yaml", "- A\n"))
    with pytest.raises(ConfigError, match="expected a list of devices"):
        read_samples(write(tmp_path / "d.yaml", "A\n"))


cell = st.text("abcXYZ09 _-#*µÅ,;.", min_size=1, max_size=8).map(str.strip).filter(bool)
number = st.floats(1e-2, 1e4).map(lambda x: float(f"{x:.6g}"))


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    ids=st.lists(st.tuples(cell, cell), min_size=1, max_size=6, unique=True),
    data=st.data(),
    delimiter=st.sampled_from([",", ";", "\t"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    with_comma=st.booleans(),
    unit=st.sampled_from(
        [("µm", constants.micro), ("nm", constants.nano), ("mm", constants.milli)]
    ),
)
def test_what_was_written_comes_back(
    tmp_path: Path,
    ids: list[tuple[str, str]],
    data: Any,
    delimiter: str,
    encoding: str,
    with_comma: bool,
    unit: tuple[str, float],
) -> None:
    ids = [one for one in ids if "*" not in one and "-" not in one]
    # Of 1,000 in a file with commas, nobody can say what it is: refused, see above.
    with_comma = with_comma and delimiter != ","
    path = tmp_path / "devices.csv"
    wrote = {}
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(["chip_id", "device_id", f"L ({unit[0]})", "ink"])
        for one in ids:
            value, ink = data.draw(number), data.draw(cell)
            shown = f"{value:f}".replace(".", ",") if with_comma else f"{value:f}"
            wrote[one] = (float(f"{value:f}") * unit[1], ink)
            if wrote[one][0] > 1:
                continue
            writer.writerow([*one, shown, ink])
    samples = read_samples(path)
    for (chip, device), (value, ink) in wrote.items():
        found = samples.of(chip, device)
        if value > 1:
            assert found == {}
            continue
        assert found["L"] == pytest.approx(value, rel=1e-12)
        if not isinstance(found.get("ink", ""), float) and ink.casefold() not in ("-", "na"):
            assert found["ink"] == ink
