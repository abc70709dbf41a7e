"""What all commands share: help, exit statuses, and messages that say what to do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import oectflow as of
from oectflow.cluster import connect as connecting
from oectflow.pipeline.cli.app import COMMANDS, GROUPS


def all_commands() -> Iterator[list[str]]:
    for functions in COMMANDS.values():
        yield from ([function.__name__] for function in functions)
    for group, (_, members) in GROUPS.items():
        yield from ([group, name] for name in members)


@pytest.mark.parametrize("command", list(all_commands()), ids=" ".join)
def test_help__every_command_says_its_exit_statuses(oectflow, command: list[str]) -> None:
    answer = oectflow(*command, "--help")
    words = " ".join(answer.out.split())
    assert answer.status == 0
    assert "0 all is well; 1 something failed, the rest is written; 2 the command" in words


def test_help__imports_nothing_heavy() -> None:
    # In a process of its own: here everything has been imported already.
    code = (
        "import sys; sys.argv = ['oectflow', '--help']\n"
        "from oectflow.pipeline.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'numba', 'dask', 'distributed', 'h5py', 'pyarrow', 'pandas', 'scipy', 'numpy', "
        "'sqlalchemy', 'pydantic', 'bokeh'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "extract" in done.stdout


def test_version(oectflow) -> None:
    assert oectflow("--version").out == f"oectflow {of.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("extract", "nowhere"), "nowhere: no such file or folder"),
        (("extract", "nowhere", "-f", "al"), "did you mean 'all'"),
        (("extract", "nowhere", "--granularity", "stp"), "--granularity stp: expected auto"),
        (("extract", "nowhere", "--granularity", "0"), "--granularity 0: expected auto"),
        (("extract", "x.h5", "--chip", "#1"), "not both"),
        (("extract",), "name folders or files, or use a catalog"),
        (("extract", "--chip", "#1"), "no catalog: name one with --catalog"),
        (("extract", "--dry-run", "nowhere"), "nowhere: no such file or folder"),
        (("show", "nowhere.h5"), "nowhere.h5: there is no such file"),
        (("show", "test_1"), "no catalog: name one with --catalog"),
        (("search",), "oectflow init"),
        (("search", "--catalog", "gone.db"), "oectflow scan FOLDER --catalog gone.db"),
        (("search", "--catalog", "gone.yaml"), "gone.yaml: there is no such file"),
        (("scan", "--catalog", "new.db"), "name one: oectflow scan FOLDER"),
        (("scan", "nowhere", "--catalog", "new.db"), "there is no such folder"),
        (("status",), "features: there is no such folder; name the results with --out"),
        (("ingest", "."), "name one: oectflow ingest SOURCE OUT"),
        (("ingest", ".", "out"), "no folder with a test_info.json"),
        (("catalog", "sync", "--catalog", "new.db"), "oectflow catalog sync FOLDER"),
        (("catalog", "import", "old.db", "--catalog", "new.db"), "old.db: there is no such file"),
        (("features", "show", "transient_tua"), "did you mean 'transient_tau'"),
        (("extrct",), "extrct"),
        (("search", "--chp", "1"), "--chp"),
        (("completion", "tcsh"), "tcsh"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_mistakes__are_one_message_on_stderr_and_status_2(
    oectflow, arguments: tuple[str, ...], message: str
) -> None:
    answer = oectflow(*arguments)
    assert answer.status == 2
    assert message in answer.err
    assert answer.out == ""
    assert "Traceback" not in answer.err


def test_mistakes__no_scheduler(oectflow, tmp_path: Path, monkeypatch) -> None:
    of.make_demo(tmp_path / "demo")
    real = connecting.connect
    monkeypatch.setattr(connecting, "connect", lambda spec, **more: real(spec, timeout=1, **more))
    answer = oectflow("extract", "demo", "--cluster", "tcp://127.0.0.1:1", "-f", "transient_tau")
    assert answer.status == 2
    assert "no Dask scheduler answers" in answer.err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_completion(oectflow, shell: str) -> None:
    answer = oectflow("completion", shell)
    assert answer.status == 0
    assert "_OECTFLOW_COMPLETE" in answer.out


def test_completion__of_bash_completes_commands(oectflow, tmp_path: Path) -> None:
    script = oectflow("completion", "bash").out
    stand_in = tmp_path / "oectflow"
    stand_in.write_text(
        f"#!/bin/sh\nexec {sys.executable} -c "
        "'from oectflow.pipeline.cli import main; main()' \"$@\"\n"
    )
    stand_in.chmod(0o755)
    ask = (
        f'{script}\nPATH="{tmp_path}:$PATH"\nCOMP_WORDS=(oectflow se); COMP_CWORD=1\n'
        "_oectflow_completion oectflow\necho ${COMPREPLY[@]}"
    )
    done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "search"
