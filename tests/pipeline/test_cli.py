"""The command line: exit statuses, and messages that say what to do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import oectflow as of
from oectflow.pipeline import cli
from oectflow.pipeline.inputs.simulate import simulate_lab


def run(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does, in a process of its own."""
    code = "from oectflow.pipeline.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
    )


def here(monkeypatch, capsys, *arguments: str | Path) -> tuple[int, str]:
    """Run the command in this process; return its exit status and what it printed."""
    monkeypatch.setattr(sys, "argv", ["oectflow", *map(str, arguments)])
    monkeypatch.setattr(cli, "console", cli.Console(width=200))
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    captured = capsys.readouterr()
    return exit_.value.code or 0, captured.out + captured.err


def test_demo__one_intended_failure_and_everything_else(tmp_path):
    done = run("demo", "--workers", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "dashboard: http://127.0.0.1:" in done.stdout
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


def test_demo__refuses_a_folder_with_other_things(tmp_path, monkeypatch, capsys):
    (tmp_path / "mine/raw").mkdir(parents=True)
    status, text = here(monkeypatch, capsys, "demo", tmp_path / "mine")
    assert status == 2
    assert "is no demo of ours" in text


def test_ingest_and_show(tmp_path, monkeypatch, capsys):
    simulate_lab(tmp_path / "instrument", 2, steps=2, cycles=3)
    arguments = ("ingest", tmp_path / "instrument", tmp_path / "raw")
    status, text = here(monkeypatch, capsys, *arguments)
    assert (status, "2 written" in text) == (0, True)
    status, text = here(monkeypatch, capsys, *arguments)
    assert (status, "2 skipped" in text) == (0, True)
    status, text = here(monkeypatch, capsys, *arguments, "--on-conflict", "rename")
    assert (status, "2 written" in text) == (0, True)
    assert len(list((tmp_path / "raw").glob("*.h5"))) == 4

    path = sorted((tmp_path / "raw").glob("*.h5"))[0]
    status, text = here(monkeypatch, capsys, "show", path)
    assert status == 0
    assert "2 steps of" in text
    assert "chip_id" in text


def test_ingest__a_bad_folder_is_an_exit_status(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "instrument" / "test_1"
    folder.mkdir(parents=True)
    (folder / "test_info.json").write_text("{")
    status, text = here(monkeypatch, capsys, "ingest", tmp_path / "instrument", tmp_path / "raw")
    assert status == 1
    assert "test_1" in text


def test_features(monkeypatch, capsys):
    status, text = here(monkeypatch, capsys, "features", "list")
    assert status == 0
    assert "v2_transfer_basic" in text
    assert "transient.tau_on_off" in text
    status, text = here(monkeypatch, capsys, "features", "show", "transient_tau")
    assert (status, "transient.tau_on_off" in text) == (0, True)
    status, text = here(monkeypatch, capsys, "features", "show", "transient_tua")
    assert (status, "did you mean 'transient_tau'" in text) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("extract", "nowhere"), "nowhere: no such file or folder"),
        (("extract", "nowhere", "-f", "al"), "did you mean 'all'"),
        (("extract", "nowhere", "--granularity", "stp"), "--granularity stp: expected auto"),
        (("extract", "nowhere", "--cluster", "tcp://127.0.0.1:1"), "no Dask scheduler answers"),
        (("show", "nowhere.h5"), "nowhere.h5"),
    ],
)
def test_mistakes__are_one_message_and_status_2(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    real = cli.connect
    monkeypatch.setattr(cli, "connect", lambda spec, **options: real(spec, timeout=1, **options))
    status, text = here(monkeypatch, capsys, *arguments)
    assert status == 2
    assert message in text
    assert "Traceback" not in text
