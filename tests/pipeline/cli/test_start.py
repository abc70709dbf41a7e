"""``init`` and ``demo``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import oectflow as of
from oectflow.pipeline.inputs.catalog import load_catalog_config


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does, in a process of its own."""
    code = "from oectflow.pipeline.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_demo__one_intended_failure_and_everything_else(tmp_path: Path) -> None:
    done = run("demo", "--workers", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "dashboard: http://127.0.0.1:" in done.stderr
    assert "8 experiments:" in done.stdout
    assert "1 failed" in done.stdout
    assert "The one failure is intended" in done.stdout
    # The two lines of Python that it prints open the result.
    lines = [line.strip() for line in done.stdout.splitlines()]
    start = lines.index("import oectflow as of")
    assert lines[start + 1] == 'results = of.open_results("oectflow-demo/features")'
    results = of.open_results(tmp_path / "oectflow-demo/features")
    assert results.sizes["experiment"] == 7
    assert float((results["tau_status"] == "error").sum()) == 0

    again = run("extract", "oectflow-demo/raw", "-o", "oectflow-demo/features", cwd=tmp_path)
    assert again.returncode == 1
    assert "7 unchanged" in again.stdout


def test_demo__refuses_a_folder_with_other_things(oectflow, tmp_path: Path) -> None:
    (tmp_path / "mine/raw").mkdir(parents=True)
    answer = oectflow("demo", "mine")
    assert answer.status == 2
    assert "is no demo of ours" in answer.err


def test_init__makes_what_the_next_commands_need(oectflow, tmp_path: Path) -> None:
    answer = oectflow("init", "lab", "--raw", "/nowhere/../tmp", "--database", "my.db")
    assert answer.status == 0, answer.err
    config = load_catalog_config(tmp_path / "lab/catalog_config.yaml")
    assert config.roots.raw_data == "/nowhere/../tmp"
    assert config.database.path == "my.db"
    assert (tmp_path / "lab/data/features_v2").is_dir()
    for step in ("cd lab", "oectflow ingest", "oectflow scan", "oectflow extract"):
        assert step in answer.out


def test_init__never_overwrites(oectflow, tmp_path: Path) -> None:
    path = tmp_path / "catalog_config.yaml"
    path.write_text("mine")
    answer = oectflow("init")
    assert answer.status == 2
    assert "catalog_config.yaml: exists" in answer.err
    assert path.read_text() == "mine"
    # Nor does it leave folders behind.
    assert list(tmp_path.iterdir()) == [path]


def test_init__folder_that_cannot_be_made(oectflow, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    answer = oectflow("init", "file/lab")
    assert answer.status == 2
    assert "cannot be made" in answer.err
