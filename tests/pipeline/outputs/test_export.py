"""Files for other programs, opened again by those or their libraries."""

from __future__ import annotations

import csv
import math
import sys

import numpy as np
import openpyxl
import pandas as pd
import pytest
import xarray as xr
from scipy.io import loadmat

import oectflow as of
from oectflow.errors import OectflowError, OutputError, ParameterError, StorageError, UnknownFeature
from oectflow.pipeline.inputs.simulate import simulate_device
from oectflow.pipeline.outputs.export import excel

FEATURES = {
    "gm": {"extractor": "transfer.gm_max", "input": "transfer"},
    "point": {"extractor": "transfer.gm_max_coords", "input": "transfer"},
    "cycles": {
        "extractor": "transient.cycles",
        "input": "transient",
        "params": {"n_cycles": 4},
    },
    "tau": {"extractor": "transient.tau_on_off", "input": "transient"},
}


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    (folder / "raw").mkdir()
    for k in range(3):
        simulate_device(
            k, n_transfer=3 - (k == 1), n_transient=2, n_points=21, n_cycles=4 - (k == 2),
            test_id=f"t{k}", chip_id="=1+1" if k else "C6", device_number=str(k),
        ).write(folder / "raw" / f"{k}.h5")  # fmt: skip
    devices = folder / "devices.csv"
    devices.write_text("chip_id,device_id,W (µm),material\n*,*,100,PEDOT\n")
    assert of.extract(folder / "raw", FEATURES, folder / "out", samples=devices, progress=False).ok
    of.mark(folder / "out", experiment="t0", step=1, feature="gm")
    return folder / "out"


@pytest.fixture(scope="module")
def results(out):
    return of.open_results(out).load()


def rows_of(path, **options):
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file, **options))


def test_steps_as_csv(out, results, tmp_path):
    rows = rows_of(of.export(out, tmp_path / "a.csv"))
    assert [(row["experiment_id"], row["step"]) for row in rows] == [
        ("t0", "0"), ("t0", "1"), ("t0", "2"), ("t1", "0"), ("t1", "1"),
        ("t2", "0"), ("t2", "1"), ("t2", "2"),
    ]  # fmt: skip
    for row in rows:
        one = results.sel(experiment=row["experiment_id"]).isel(step=int(row["step"]))
        for name, entry, heading in (
            ("gm", {}, "gm (S)"),
            ("point", {"coordinate": "Vg"}, "point_Vg (V)"),
            ("point", {"coordinate": "Id"}, "point_Id (A)"),
        ):
            (dims,) = [one[name].dims]
            value = float(one[name].sel(dict(zip(dims, entry.values(), strict=True))))
            # To the last bit.
            assert (float(row[heading]) if row[heading] else math.nan) == pytest.approx(
                value, rel=0, abs=0, nan_ok=True
            )
        assert row["gm_status"] == one["gm_status"].item()
    assert [row["gm_status"] for row in rows][:3] == ["ok", "marked", "ok"]
    assert rows[1]["gm (S)"] == ""
    assert rows[1]["gm_mark"] == "bad"
    assert rows[3]["chip_id"] == "'=1+1"
    assert not {"cycles (A)", "cycle", "tau_on (s)"} & set(rows[0])


def test_a_decimal_comma(out, results, tmp_path):
    rows = rows_of(of.export(out, tmp_path / "a.csv", decimal=","), delimiter=";")
    assert float(rows[0]["gm (S)"].replace(",", ".")) == results["gm"].values[0, 0]
    assert "," in rows[0]["gm (S)"]
    # As pandas reads what Excel of most of Europe writes.
    frame = pd.read_csv(tmp_path / "a.csv", sep=";", decimal=",", encoding="utf-8-sig")
    # pandas 2.2, the lowest, keeps fourteen digits where there is a comma.
    off = 1e-13 if pd.__version__.startswith("2.") else 0
    assert frame["gm (S)"][0] == pytest.approx(results["gm"].values[0, 0], rel=off, abs=0)


def test_cycles_and_experiments_as_csv(out, results, tmp_path):
    rows = rows_of(of.export(out, tmp_path / "a.csv", level="cycles", features=["tau", "cycles"]))
    # Four cycles of two steps, of the last device three.
    assert len(rows) == 4 * 2 + 4 * 2 + 3 * 2
    for row in rows:
        one = results.sel(experiment=row["experiment_id"])
        one = one.isel(step=int(row["step"]), cycle=int(row["cycle"]))
        for phase in ("on", "off"):
            value = float(one["tau"].sel(phase=phase))
            assert float(row[f"tau_{phase} (s)"] or "nan") == pytest.approx(
                value, nan_ok=True, rel=0
            )
            assert row[f"tau_status_{phase}"] == one["tau_status"].sel(phase=phase).item()
    rows = rows_of(of.export(out, tmp_path / "a.csv", level="experiments"))
    assert [row["experiment_id"] for row in rows] == ["t0", "t1", "t2"]
    assert [row["n_gm"] for row in rows] == ["2", "2", "3"]
    assert float(rows[0]["gm (S)"]) == np.nanmedian(results["gm"].values[0])
    assert float(rows[0]["sample_W (m)"]) == 1e-4
    good = results["tau"].where(results["tau_status"] == "ok").sel(phase="on").values[1]
    assert float(rows[1]["tau_on (s)"]) == np.nanmedian(good)
    assert rows[1]["n_tau_on"] == str(np.isfinite(good).sum())


def test_excel(out, results, tmp_path):
    of.export(out, tmp_path / "a.xlsx")
    book = openpyxl.load_workbook(tmp_path / "a.xlsx")
    assert book.sheetnames == ["experiments", "steps", "cycles", "columns"]
    names, units, *rows = (list(row) for row in book["steps"])
    at = {cell.value: k for k, cell in enumerate(names)}
    assert (units[at["gm"]].value, units[at["point_Id"]].value) == ("S", "A")
    assert len(rows) == 8
    assert rows[0][at["gm"]].value == results["gm"].values[0, 0]
    for name in ("gm", "gm_status"):
        assert rows[0][at[name]].fill.fgColor.rgb == "00000000"
        assert rows[1][at[name]].fill.fgColor.rgb == "00D9C3E6"
    assert rows[1][at["gm"]].value is None
    assert rows[3][at["chip_id"]].value == "'=1+1"
    # Nothing in it is a formula.
    kinds = {cell.data_type for sheet in book for row in sheet for cell in row}
    assert kinds <= {"s", "inlineStr", "n"}
    described = {row[1].value: row for row in book["columns"] if row[0].value == "cycles"}
    assert described["tau_on"][2].value == "s"
    assert "ok: " in described["tau_status_on"][4].value
    assert len(list(book["cycles"])) == 2 + 22
    # As pandas opens it.
    frame = pd.read_excel(
        tmp_path / "a.xlsx", engine="openpyxl", sheet_name="experiments", header=0, skiprows=[1]
    )
    assert frame["experiment_id"].tolist() == ["t0", "t1", "t2"]


def test_ids_are_seen_whole(out, tmp_path):
    results = of.open_results(out)
    named = results.assign_coords(experiment=[f"{name}_{'x' * 30}" for name in "abc"])
    book = openpyxl.load_workbook(of.export(named, tmp_path / "a.xlsx"))
    widths = book["steps"].column_dimensions
    assert widths["A"].width == 2 + 32
    assert widths["B"].width == 11


def test_more_rows_than_a_sheet_has(out, tmp_path, monkeypatch):
    monkeypatch.setattr(excel, "MOST_ROWS", 5)
    book = openpyxl.load_workbook(of.export(out, tmp_path / "a.xlsx", features="gm"))
    assert book.sheetnames == ["experiments", "steps", "steps 2", "steps 3", "columns"]
    rows = [row for name in book.sheetnames[1:4] for row in list(book[name].values)[2:]]
    assert [(row[0], row[3]) for row in rows] == [
        ("t0", 0), ("t0", 1), ("t0", 2), ("t1", 0), ("t1", 1), ("t2", 0), ("t2", 1), ("t2", 2),
    ]  # fmt: skip
    monkeypatch.setattr(excel, "MOST_COLUMNS", 3)
    with pytest.raises(OutputError, match="a sheet of Excel has 3"):
        of.export(out, tmp_path / "b.xlsx")
    assert not (tmp_path / "b.xlsx").exists()


def test_text_and_numbers_that_excel_cannot_hold(results, tmp_path):
    strange = results.isel(experiment=[0]).assign_coords(experiment=["a\x00b"])
    strange["gm"] = strange["gm"].where(False, math.inf)
    book = openpyxl.load_workbook(of.export(strange, tmp_path / "a.xlsx", features="gm"))
    row = list(book["steps"].values)[2]
    assert row[0] == "a\ufffdb"
    assert "inf" in row


def test_matlab(out, results, tmp_path):
    of.export(out, tmp_path / "a.mat")
    found = loadmat(tmp_path / "a.mat", simplify_cells=True)
    np.testing.assert_array_equal(found["data"]["gm"], results["gm"])
    np.testing.assert_array_equal(found["data"]["tau"], results["tau"])
    assert found["dims"]["tau"].tolist() == ["experiment", "step", "cycle", "phase"]
    assert found["units"]["gm"] == "S"
    assert found["coords"]["experiment"].tolist() == ["t0", "t1", "t2"]
    assert found["coords"]["sample_W"].tolist() == [1e-4] * 3
    words = np.asarray(found["words"]["tau_status"])[found["data"]["tau_status"] - 1]
    np.testing.assert_array_equal(words, results["tau_status"])
    assert found["description"]["gm"] == results["gm"].attrs["description"]


def test_whole_numbers_that_are_none(tmp_path):
    numbers = np.array([[3, -1], [0, 7]], np.int16)
    data = xr.Dataset(
        {"x": (("experiment", "step"), np.ones((2, 2))), "n": (("experiment", "step"), numbers)},
        {"experiment": ["a", "b"]},
    )
    rows = rows_of(of.export(data, tmp_path / "a.csv"))
    assert [row["n"] for row in rows] == ["3", "", "0", "7"]


def test_names_that_matlab_does_not_take(tmp_path):
    names = ["τ on", "τ_on", "1st", "x" * 70, "x" * 71, "gm"]
    data = xr.Dataset(
        {name: (("experiment", "step"), [[float(k)]]) for k, name in enumerate(names)},
        {"experiment": ["a"]},
    )
    found = loadmat(of.export(data, tmp_path / "a.mat"), simplify_cells=True)
    assert {found["names"][field]: value for field, value in found["data"].items()} == dict(
        zip(names, range(6), strict=True)
    )
    assert all(len(field) <= 63 and field.isascii() for field in found["data"])


def test_an_array_too_large_for_matlab(tmp_path, monkeypatch):
    from oectflow.pipeline.outputs.export import arrays

    monkeypatch.setattr(arrays, "_MOST_BYTES", 100)
    data = xr.Dataset(
        {"x": (("experiment", "step"), np.ones((4, 4)))}, {"experiment": list("abcd")}
    )
    with pytest.raises(OutputError, match=r"16 numbers are more than a \.mat file holds"):
        of.export(data, tmp_path / "a.mat")


@pytest.mark.parametrize("end", ["nc", "zarr"])
def test_netcdf_and_zarr(out, results, tmp_path, end):
    target = tmp_path / f"a.{end}"
    if end == "zarr":
        pytest.importorskip("zarr")
    for _ in range(2):
        # The second one replaces the first.
        assert of.export(out, target) == target
    again = xr.open_dataset(target, engine="h5netcdf" if end == "nc" else "zarr").load()
    assert set(again) == set(results)
    for name in results:
        np.testing.assert_array_equal(again[name], results[name])
        assert again[name].attrs["units"] == results[name].attrs["units"]
        assert again[name].attrs["description"] == results[name].attrs["description"]
    assert again["experiment"].values.tolist() == ["t0", "t1", "t2"]
    assert again["sample_W"].attrs["units"] == "m"
    again.close()
    # Nothing half is left.
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


def test_what_was_saved_is_sent_on_again(out, tmp_path):
    of.export(out, tmp_path / "a.nc")
    with xr.open_dataset(tmp_path / "a.nc", engine="h5netcdf") as again:
        of.export(again, tmp_path / "b.csv")
    assert len(rows_of(tmp_path / "b.csv")) == 8


def test_a_part_of_the_results_and_marks(out, results, tmp_path):
    part = results.isel(experiment=[2])
    assert {row["experiment_id"] for row in rows_of(of.export(part, tmp_path / "a.csv"))} == {"t2"}
    row = rows_of(of.export(out, tmp_path / "a.csv", features="gm", marks="flag"))[1]
    assert float(row["gm (S)"]) > 0
    assert row["gm_mark"] == "bad"
    row = rows_of(of.export(out, tmp_path / "a.csv", features="gm", marks="ignore"))[1]
    assert "gm_mark" not in row
    assert not any(heading.startswith("point") for heading in row)


@pytest.mark.parametrize(
    ("name", "options", "error", "why"),
    [
        ("a.xls", {}, OutputError, "did you mean '.xlsx'"),
        ("a", {}, OutputError, "expected a name that ends in"),
        ("a.csv", {"level": "step"}, ParameterError, "level='step'"),
        ("a.csv", {"decimal": ";"}, ParameterError, "decimal=';'"),
        ("a.csv", {"features": "gmm"}, UnknownFeature, "did you mean 'gm'"),
        ("a.csv", {"marks": "no"}, ParameterError, "marks='no'"),
        ("nowhere/a.csv", {}, StorageError, "cannot be written"),
        ("nowhere/a.zarr", {}, StorageError, "cannot be written"),
    ],
)
def test_mistakes(out, tmp_path, name, options, error, why):
    with pytest.raises(error) as found:
        of.export(out, tmp_path / name, **options)
    assert why in str(found.value)
    assert list(tmp_path.iterdir()) == []


def test_what_stands_there_is_not_lost(out, tmp_path, monkeypatch):
    folder = tmp_path / "mine.zarr"
    folder.mkdir()
    (folder / "precious").write_text("precious")
    with pytest.raises(StorageError, match="is no Zarr folder"):
        of.export(out, folder)
    assert (folder / "precious").read_text() == "precious"
    path = tmp_path / "a.csv"
    path.write_text("before")
    monkeypatch.setattr("oectflow.pipeline.outputs.export.tables._text", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        of.export(out, path)
    assert path.read_text() == "before"


@pytest.mark.parametrize(("end", "module"), [("xlsx", "openpyxl"), ("zarr", "zarr")])
def test_what_is_not_installed_is_said(out, tmp_path, monkeypatch, end, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(OectflowError, match="pip install 'oectflow"):
        of.export(out, tmp_path / f"a.{end}")


def test_the_command(out, tmp_path, monkeypatch, capsys):
    from oectflow.pipeline.cli import main

    path = tmp_path / "a.csv"
    arguments = ["export", str(out), "-o", str(path), "--feature", "tau", "--level", "cycles"]
    monkeypatch.setattr(sys, "argv", ["oectflow", *arguments, "--decimal-comma"])
    with pytest.raises(SystemExit) as left:
        main()
    assert not left.value.code
    assert str(path) in capsys.readouterr().out
    assert len(rows_of(path, delimiter=";")) == 22
