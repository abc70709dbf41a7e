"""A small laboratory and the command line, called in this process."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from oectflow.pipeline.cli import main
from oectflow.pipeline.inputs.catalog import Catalog, CatalogConfig
from oectflow.pipeline.inputs.ingest import ingest
from oectflow.pipeline.inputs.simulate import simulate_lab


class Answer(NamedTuple):
    """What a command left behind: exit status, stdout and stderr."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What stdout says, which must be JSON and nothing else."""
        return json.loads(self.out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


Oectflow = Callable[..., Answer]


@pytest.fixture
def oectflow(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Oectflow:
    """Run a command in an empty folder, without a catalog from the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OECTFLOW_CATALOG", raising=False)

    def run(*arguments: str | Path) -> Answer:
        monkeypatch.setattr(sys, "argv", ["oectflow", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
        captured = capsys.readouterr()
        code = exit_.value.code
        assert code is None or isinstance(code, int)
        return Answer(code or 0, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def instrument(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three instrument folders: chip #20250815001, devices 1 to 3, four cycles."""
    folder = tmp_path_factory.mktemp("instrument")
    simulate_lab(folder, 3, steps=2, cycles=4)
    return folder


def make_lab(folder: Path, instrument: Path) -> Path:
    """A project with three raw files, scanned."""
    raw = folder / "data/raw"
    report = ingest(instrument, raw, workers=1)
    for record in report.records:
        # Older than the clock tick within which a scan does not trust the time of a file.
        assert record.path is not None
        an_hour_ago = record.path.stat().st_mtime - 3600
        os.utime(record.path, (an_hour_ago, an_hour_ago))
    (folder / "data/features_v2").mkdir()
    CatalogConfig().write(folder / "catalog_config.yaml")
    with Catalog(folder / "data/catalog.db") as catalog:
        assert catalog.scan(raw, workers=1).counts["added"] == 3
    return folder


@pytest.fixture
def lab(tmp_path: Path, instrument: Path) -> Path:
    """A project of one's own, in the current folder."""
    return make_lab(tmp_path, instrument)


@pytest.fixture(scope="session")
def common_lab(tmp_path_factory: pytest.TempPathFactory, instrument: Path) -> Path:
    """A project that no test changes."""
    return make_lab(tmp_path_factory.mktemp("lab"), instrument)
