from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import yaml

import oectflow as of
from oectflow.errors import ConfigError, InputError
from oectflow.pipeline.inputs.simulate import simulate_lab

SEMICOLONS = "Chip A\nVg (mV);Id (µA);Temp\n" + "".join(
    f"{100 * i};{1.5 + i:.1f};2{i}\n".replace(".", ",") for i in range(6)
)
KEITHLEY = (
    "V_G\tI_DS (A)\tI_DS Error (A)\n0\t-1e-6\t1e-9\n-0.1\t-2e-6\t1e-9\n-0.2\t-3e-6\t1e-9\n"
    "V_DS =\t-0.6\nWidth/um =\t4000\n"
)


@pytest.fixture
def semicolons(tmp_path: Path) -> Path:
    path = tmp_path / "a.csv"
    path.write_text(SEMICOLONS, "utf-16")
    return path


def test_text_is_shown_with_units_and_what_is_kept(semicolons: Path) -> None:
    found = of.inspect(semicolons)
    assert (found.reader, found.problem) == ("text", "")
    columns = {column.heading: column for column in found.columns}
    assert (columns["Vg (mV)"].quantity, columns["Vg (mV)"].scale) == ("Vg", 1e-3)
    assert (columns["Id (µA)"].quantity, columns["Id (µA)"].scale) == ("Id", 1e-6)
    assert columns["Temp"].quantity == ""
    assert columns["Id (µA)"].first == (1.5, 2.5, 3.5)
    (step,) = found.steps
    assert (step.kind, step.n_points, step.extra) == ("transfer", 6, ("Temp",))
    assert step.arrays["Vg"] == ("V", 0.0, pytest.approx(0.5))
    assert any("Temp" in warning for warning in found.warnings)
    confidences = [confidence for _, confidence, _ in found.candidates]
    assert confidences == sorted(confidences, reverse=True)
    assert {"text", "excel", "gamry"} <= {name for name, _, _ in found.candidates}
    assert repr(found) == "<Inspection of a.csv: text; 1 transfer>"


def test_a_schema_is_saved_corrected_and_obeyed(semicolons: Path, tmp_path: Path) -> None:
    saved = of.inspect(semicolons).save_schema(tmp_path / "mine.yaml")
    content = yaml.safe_load(saved.read_text("utf-8"))
    content["columns"]["Id (µA)"]["unit"] = "nA"
    saved.write_text(yaml.safe_dump(content), "utf-8")
    found = of.inspect(semicolons, saved)
    assert found.reason == "as mine.yaml says"
    unit, smallest, largest = found.steps[0].arrays["Id"]
    assert (unit, smallest, largest) == ("A", pytest.approx(1.5e-9), pytest.approx(6.5e-9))


def test_vendors_files_are_shown_with_sample(tmp_path: Path) -> None:
    path = tmp_path / "t_0.txt"
    path.write_text(KEITHLEY)
    found = of.inspect(path)
    assert found.reader == "keithley"
    assert found.sample["W"] == 4e-3
    assert found.steps[0].values["Vd"] == -0.6
    assert [column.quantity for column in found.columns] == ["Vg", "Id", "u_Id"]
    with pytest.raises(InputError, match="a schema is for delimited text"):
        found.save_schema(tmp_path / "s.yaml")


def test_everything_shown_is_in_html_and_text_too(tmp_path: Path) -> None:
    path = tmp_path / "<b>.txt"
    path.write_text(KEITHLEY)
    found = of.inspect(path)
    page = found._repr_html_()
    assert "&lt;b&gt;.txt" in page
    assert "<b>.txt" not in page
    for word in ("I_DS Error (A)", "u_Id", "transfer", "0.004", "sure"):
        assert word in page, word
        assert word in str(found), word


def test_a_folder_of_the_instrument_and_its_raw_file(tmp_path: Path) -> None:
    (folder,) = simulate_lab(tmp_path / "lab", 1, steps=2, cycles=3)
    found = of.inspect(folder)
    assert (found.reader, found.problem) == ("instrument", "")
    kinds = {step.kind for step in found.steps}
    assert kinds == {"transfer", "transient"}
    (record,) = of.ingest(folder, tmp_path / "raw").records
    raw = of.inspect(record.path)
    assert raw.reader == "raw"
    assert raw.attributes["transfer"].startswith(f"{record.n_steps['transfer']} step")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("empty.csv", b"", "no reader can read it"),
        ("prose.txt", b"only words\n", "no reader can read it"),
        ("noise.bin", bytes(range(256)), "no reader can read it"),
        ("broken.h5", b"no HDF5", "broken.h5"),
        ("a.DTA", b"EXPLAIN\nTAG\tCV\n", "no table"),
        ("many.csv", b"Time,Id\n0,001,1,50e-6\n0,002,1,60e-6\n", ""),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    found = of.inspect(tmp_path / name)
    assert says in found.problem
    if says:
        assert found.problem
    # Never a current of 1 A from a decimal comma.
    assert all(step.arrays["Id"][2] < 1e-3 for step in found.steps)


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "no such file" in of.inspect(tmp_path / "nothing").problem
    assert of.inspect(tmp_path / "pipe").problem
    assert "oectflow ingest" in of.inspect(tmp_path).problem


def test_a_reader_that_fails_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from oectflow.pipeline.inputs.readers.keithley import KeithleyReader

    path = tmp_path / "t_0.txt"
    path.write_text(KEITHLEY)

    def fail(self: object, path: Path) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(KeithleyReader, "read", fail)
    problem = of.inspect(path).problem
    assert problem.startswith("the reader 'keithley' failed: ZeroDivisionError: oh; an IngestError")


def test_a_wrong_schema_is_an_error(semicolons: Path, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("kindd: transfer\n")
    with pytest.raises(ConfigError, match="kindd"):
        of.inspect(semicolons, tmp_path / "s.yaml")


def test_current_in_the_wrong_unit_is_named(tmp_path: Path) -> None:
    rows = "".join(f"{0.1 * i},{3.0 + i}\n" for i in range(6))
    (tmp_path / "a.csv").write_text("Vg (V),Id (A)\n" + rows)
    assert any("unit right" in warning for warning in of.inspect(tmp_path / "a.csv").warnings)


def test_json_of_an_inspection_is_plain(semicolons: Path, tmp_path: Path) -> None:
    from dataclasses import asdict

    text = json.dumps(asdict(of.inspect(semicolons)), default=str)
    assert np.isfinite(json.loads(text)["steps"][0]["arrays"]["Vg"][2])
