from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from oectflow.errors import IngestError
from oectflow.pipeline.inputs.readers import registry
from oectflow.pipeline.inputs.readers.reader import Reading, Recognition
from oectflow.pipeline.inputs.readers.registry import BuiltIn, find_reader, get_reader, plug_ins

GOOD = """
from oectflow.pipeline.inputs.readers.reader import Reading, Recognition

class Mine:
    name = "mine"
    title = "files *.mine"
    def recognises(self, path):
        return Recognition(0.9 if path.suffix == ".mine" else 0.0, "its name ends in .mine")
    def read(self, path):
        return Reading([])

class Raises(Mine):
    name = "raises"
    def recognises(self, path):
        raise RuntimeError("two\\nlines")

class NoRead:
    name = "no_read"
    title = "t"
    def recognises(self, path):
        raise AssertionError

class Instrument(Mine):
    name = "instrument"

mine, raises, no_read, instrument = Mine(), Raises(), NoRead(), Instrument()
"""


@pytest.fixture
def announce(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Announce objects of two modules, as installed packages do."""
    (tmp_path / "good_plug_in.py").write_text(GOOD)
    (tmp_path / "bad_plug_in.py").write_text("import a_package_that_nobody_has")
    monkeypatch.syspath_prepend(tmp_path)

    def announced(*values: str) -> None:
        points = [EntryPoint(v.split(":")[1], v, "oectflow.readers") for v in values]
        monkeypatch.setattr(registry, "entry_points", lambda group: points)
        plug_ins.cache_clear()

    yield announced
    plug_ins.cache_clear()


def test_find_reader__a_folder_of_the_instrument(tmp_path: Path) -> None:
    assert find_reader(tmp_path).reader is None
    (tmp_path / "test_info.json").write_text("{}")
    choice = find_reader(tmp_path)
    assert choice.reader is get_reader("instrument")
    assert "test_info.json" in choice.recognition.reason
    assert [candidate.name for candidate in choice.candidates] == ["instrument"]


def test_find_reader__the_most_confident_reads(
    tmp_path: Path, announce: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    announce("good_plug_in:raises", "good_plug_in:mine")
    monkeypatch.setattr(registry, "BUILT_IN", ())
    path = tmp_path / "a.mine"
    path.write_text("x")
    choice = find_reader(path)
    assert choice.reader is not None
    assert choice.reader.name == "mine"
    assert choice.reader.read(path) == Reading([])
    assert [candidate.name for candidate in choice.candidates] == ["mine", "raises"]
    assert choice.candidates[1].recognition == Recognition(
        0, "failed on it (RuntimeError: two lines)"
    )
    other = find_reader(tmp_path / "a.other")
    assert other.reader is None
    assert "mine: its name ends in .mine" in other.recognition.reason


def test_plug_ins__one_that_cannot_be_used_is_named_and_stops_no_other(announce: Any) -> None:
    announce(
        "bad_plug_in:x",
        "good_plug_in:no_read",
        "good_plug_in:instrument",
        "good_plug_in:absent",
        "good_plug_in:mine",
    )
    readers, warnings = plug_ins()
    assert [reader.name for reader in readers] == ["mine"]
    for warning, text in zip(
        warnings,
        (
            "'x' (bad_plug_in:x) left out: it cannot be imported (ModuleNotFoundError",
            "'no_read' (good_plug_in:no_read) left out: it has no attribute read",
            "there is a reader 'instrument' already",
            "'absent' (good_plug_in:absent) left out: it cannot be imported (AttributeError",
        ),
        strict=True,
    ):
        assert text in warning
    assert get_reader("mine") is readers[0]


def test_find_reader__a_built_in_whose_package_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError("No module named 'calamine'", name="calamine")

    monkeypatch.setattr(registry, "import_module", missing)
    monkeypatch.setattr(registry, "BUILT_IN", (BuiltIn("excel", (".xlsx",), extra="excel"),))
    choice = find_reader(tmp_path / "a.XLSX")
    assert choice.reader is None
    assert choice.recognition.reason == "excel: needs calamine: pip install 'oectflow[excel]'"
    with pytest.raises(IngestError, match=r"oectflow\[excel\]"):
        get_reader("excel")


def test_find_reader__modules_are_imported_only_for_files_that_may_be_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = []

    def note(name: str) -> Any:
        imported.append(name.rpartition(".")[2])
        nothing = SimpleNamespace(name=imported[-1], recognises=lambda path: Recognition(0, "no"))
        return SimpleNamespace(READER=nothing)

    monkeypatch.setattr(registry, "import_module", note)
    built_in = (BuiltIn("folders", folders=True), BuiltIn("some", (".a", ".b")), BuiltIn("all"))
    monkeypatch.setattr(registry, "BUILT_IN", built_in)
    find_reader(tmp_path)
    find_reader(tmp_path / "x.B")
    find_reader(tmp_path / "x.c")
    assert imported == ["folders", "some", "all", "all"]


def test_get_reader__unknown() -> None:
    with pytest.raises(IngestError, match="did you mean 'instrument'"):
        get_reader("instument")
