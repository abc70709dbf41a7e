from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from oectflow.pipeline.cli import output

TEXT = "Vg (V);Id (mA);Remark on the temperature\n" + "".join(
    f"{i / 10:.1f};{i:.1f};2{i}\n".replace(".", ",") for i in range(9)
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a_file_with_a_rather_long_name_of_a_device_and_its_measurement.csv"
    path.write_text(TEXT)
    return path


def test_inspect__says_what_would_be_read(oectflow: Any, file: Path) -> None:
    answer = oectflow("inspect", file)
    assert answer.status == 0
    for word in ("text", "Id (mA)", "0.001 A", "transfer", "kept as extra", "semicolons"):
        assert word in answer.out, word


def test_inspect__fits_a_narrow_terminal(
    oectflow: Any, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "_console", lambda: Console(width=80))
    answer = oectflow("inspect", file)
    assert max(len(line.rstrip()) for line in answer.out.splitlines()) <= 80
    assert "0.001 A" in answer.out


def test_inspect__saves_a_schema_and_obeys_it(oectflow: Any, file: Path, tmp_path: Path) -> None:
    schema = tmp_path / "s.yaml"
    assert oectflow("inspect", file, "--save", schema).status == 0
    content = yaml.safe_load(schema.read_text("utf-8"))
    assert content["columns"]["Id (mA)"] == {"quantity": "Id", "unit": "mA"}
    answer = oectflow("inspect", file, "--schema", schema, "--json").json
    assert answer["reason"] == "as s.yaml says"
    assert answer["steps"][0]["arrays"]["Id"] == ["A", 0.0, pytest.approx(8e-3)]


def test_inspect__what_nobody_reads_is_status_1(oectflow: Any, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("words\n")
    answer = oectflow("inspect", tmp_path / "x.txt")
    assert answer.status == 1
    assert "no reader can read it" in answer.out
    assert "excel" in answer.out
