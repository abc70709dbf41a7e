"""The reader that the documentation writes works as it stands there."""

import re
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

import oectflow as of
from oectflow.errors import IngestError
from oectflow.pipeline.inputs.readers import registry

PAGE = Path(__file__).resolve().parents[4] / "docs" / "howto" / "reader.md"
BLOCKS = dict(re.findall(r"```(text|python)\n(.*?)```", PAGE.read_text(), re.DOTALL))
CONSOLE = re.findall(r"```console\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.fixture
def instrument(tmp_path, monkeypatch):
    """Install the package, and return a folder with the file."""
    package = tmp_path / "site" / "my_package"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "lablog.py").write_text(BLOCKS["python"])
    monkeypatch.syspath_prepend(package.parent)
    points = [EntryPoint("lablog", "my_package.lablog:READER", "oectflow.readers")]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    registry.plug_ins.cache_clear()
    folder = tmp_path / "instrument"
    folder.mkdir()
    (folder / "C7-3.log").write_text(BLOCKS["text"])
    yield folder
    registry.plug_ins.cache_clear()
    for name in [name for name in sys.modules if name.startswith("my_package")]:
        del sys.modules[name]


def test_own_reader__is_named_and_used(instrument, tmp_path):
    assert "lablog: its first line is LABLOG 2" in str(of.inspect(instrument / "C7-3.log"))
    report = of.ingest(instrument, tmp_path / "raw")
    assert not report.failed
    (raw,) = (tmp_path / "raw").glob("*.h5")
    experiment = of.Experiment(raw)
    assert experiment.chip_id == "C7"
    assert experiment.sample["L"] == pytest.approx(20e-6, rel=1e-15)
    step = experiment.step("transfer", 0)
    np.testing.assert_allclose(step["Vg"], [-0.2, 0.0, 0.2, 0.4], rtol=1e-15)
    np.testing.assert_allclose(step["Id"], np.array([-0.1, -0.9, -4.8, -11.7]) * 1e-6, rtol=1e-15)
    assert step["Vd"] == -0.6


def test_own_reader__answers_as_the_page_shows(instrument, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    inspected, ingested = CONSOLE
    shown = " ".join(str(of.inspect(instrument / "C7-3.log")).split())
    answer = inspected.partition("C7-3.log\n")[2]
    for cell in re.split(r"[│┃━╇\n]+", answer):
        assert cell.strip().rstrip("…").rstrip() in shown, cell
    lab = instrument.rename(tmp_path / "lab")
    (lab / "C7-4.log").write_text(BLOCKS["text"].replace("device;C7;3", "device;C7;4"))
    (lab / "bad.log").write_text("LABLOG 2\nwhat is this\n")
    answer = str(of.ingest("lab", "raw")).replace(f"{tmp_path}/", "")
    assert ingested.partition("\n")[2].splitlines() == answer.splitlines()


def test_own_reader__that_cannot_be_loaded_is_named(tmp_path, monkeypatch):
    points = [EntryPoint("lablog", "my_package.lablog:READR", "oectflow.readers")]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    registry.plug_ins.cache_clear()
    (tmp_path / "C7-3.log").write_text(BLOCKS["text"])
    (warning,) = of.inspect(tmp_path / "C7-3.log").warnings
    registry.plug_ins.cache_clear()
    assert warning.startswith("reader 'lablog' (my_package.lablog:READR) left out: ")


def test_own_reader__names_the_line_of_a_mistake(instrument, tmp_path):
    (instrument / "bad.log").write_text("LABLOG 2\nwhat is this\n")
    (instrument / "empty.log").write_text("LABLOG 2\nsweep;drain_mV=-600\n")
    report = of.ingest(instrument, tmp_path / "raw")
    said = {Path(record.source).name: record.reason for record in report.failed}
    assert "line 2: 'what is this' is no line of LABLOG 2" in said["bad.log"]
    assert "there is no sweep in it" in said["empty.log"]
    assert len(list((tmp_path / "raw").glob("*.h5"))) == 1
    assert issubclass(IngestError, of.InputError)
