"""The whole of it: a real folder, what the file system tells, processes that are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from http.server import BaseHTTPRequestHandler, HTTPServer

import pyarrow.parquet as pq
import pytest

import oectflow as of
from oectflow.errors import ConfigError, InputError, OutputError
from oectflow.pipeline.watching.status import read_status
from tests.pipeline.watching.lab import FEATURES, RunningTest

#: Turns of a quarter of a second; one that never ends fails.
MANY = 400


class Enough(Exception):
    """Ends a watcher from its own thread."""


def n_rows(path):
    return pq.read_metadata(path).num_rows if path.exists() else 0


def test_a_growing_test_becomes_rows(tmp_path):
    lab, out = tmp_path / "lab", tmp_path / "features"
    test = RunningTest(lab / "2026" / "t1")
    test.add_step()
    result = out / "t1.parquet"
    lines, turns = [], []

    def on_turn(status, line):
        turns.append(status)
        lines.append(line)
        assert len(turns) < MANY, read_status(out)
        if len(test.entries) < 3 and n_rows(result) == len(test.entries):
            test.add_step()
        elif n_rows(result) == 3 and (test.folder / "test_info_temp.json").exists():
            test.end()
        elif [one.state for one in status.experiments] == ["done"]:
            raise Enough

    with pytest.raises(Enough):
        of.watch(lab, tmp_path / "raw", out, FEATURES, on_turn=on_turn)
    assert n_rows(result) == 3
    assert read_status(out).state == "stopped"
    assert any("t1 1/1 steps" in line for line in lines)
    log = (out / "_watch.log").read_text()
    assert "is watched by" in log
    assert "Enough" in log
    results = of.open_results(out)
    assert results.sizes["step"] == 3


def test_what_is_wrong_is_known_before_anything_is_done(tmp_path):
    lab = tmp_path / "lab"
    with pytest.raises(InputError, match="expected the folder"):
        of.watch(lab, tmp_path / "raw", tmp_path / "out")
    lab.mkdir()
    with pytest.raises(ConfigError, match="is taken for a measurement"):
        of.watch(lab, lab / "raw", tmp_path / "out")
    with pytest.raises(ConfigError, match="one folder for raw files and one for results"):
        of.watch(lab, tmp_path / "raw", tmp_path / "raw")
    with pytest.raises(ConfigError, match="settle=0"):
        of.watch(lab, tmp_path / "raw", tmp_path / "out", settle=0)
    with pytest.raises(ConfigError, match="http"):
        of.watch(lab, tmp_path / "raw", tmp_path / "out", notify="gopher://x")
    with pytest.raises(ConfigError, match="al"):
        of.watch(lab, tmp_path / "raw", tmp_path / "out", "al")


def test_the_command_tells_of_a_test_and_ends_as_a_service_does(tmp_path):
    test = RunningTest(tmp_path / "lab" / "t1")
    test.add_step()
    test.end()
    got = []

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self):
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        server.timeout = 120
        words = ["oectflow", "watch", *(str(tmp_path / name) for name in ("lab", "raw", "out"))]
        words += ["-f", "v2_transfer_basic"]
        words += ["--notify", f"http://127.0.0.1:{server.server_port}/"]
        code = f"import sys; sys.argv = {words!r}; from oectflow.pipeline.cli import main; main()"
        process = subprocess.Popen(
            [sys.executable, "-c", code], stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        try:
            server.handle_request()
        finally:
            process.send_signal(signal.SIGTERM)
            said = process.communicate()[1]
    (message,) = got
    assert [(one["id"], one["result"]) for one in message["done"]] == [
        ("t1", str(tmp_path / "out" / "t1.parquet"))
    ]
    assert process.returncode == 130, said
    assert "Ctrl-C stops" in said
    assert "the same command goes on" in said
    assert read_status(tmp_path / "out").state == "stopped"


def start(tmp_path, features):
    code = f"""
        import sys, oectflow as of
        def on_turn(status, line):
            print(line, flush=True)
        of.watch({str(tmp_path / "lab")!r}, {str(tmp_path / "raw")!r},
                 {str(tmp_path / "features")!r}, {features!r}, on_turn=on_turn)
    """
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip


def test_one_watcher_at_a_time_and_one_that_was_killed_is_in_nobodys_way(tmp_path):
    (tmp_path / "lab").mkdir()
    out = tmp_path / "features"
    process = start(tmp_path, FEATURES)
    try:
        assert process.stdout.readline()
        for raw, features in (("raw", "other"), ("other", "features")):
            with pytest.raises(OutputError, match=f"another watcher.*{process.pid}|at work here"):
                of.watch(tmp_path / "lab", tmp_path / raw, tmp_path / features, FEATURES)
        with pytest.raises(OutputError, match=f"process {process.pid}"):
            of.watch(tmp_path / "lab", tmp_path / "other", out, FEATURES)
        assert read_status(out).pid == process.pid
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert read_status(out).state == "lost"
    test = RunningTest(tmp_path / "lab" / "t1")
    test.add_step()
    test.end()

    def on_turn(status, line):
        if status.experiments:
            assert json.loads((out / "_watch.json").read_text())["pid"] == os.getpid()
            if status.experiments[0].state == "done":
                raise Enough

    with pytest.raises(Enough):
        of.watch(tmp_path / "lab", tmp_path / "raw", out, FEATURES, on_turn=on_turn)
