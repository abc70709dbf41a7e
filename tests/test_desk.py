"""From an instrument that measures to a publication: the desk of a lab, by its commands alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import openpyxl
import pytest
import yaml

import oectflow as of
from oectflow.pipeline.watching.status import read_status

from .cluster.browser import Browser, find_chromium
from .pipeline.app.test_in_browser import Visitor
from .pipeline.watching.lab import RunningTest

FEATURES = {
    "features": [
        {"name": "gm", "extractor": "transfer.gm_max", "input": "transfer"},
        {"name": "tau", "extractor": "transient.tau_on_off", "input": "transient"},
    ]
}
#: Long enough for a machine that compiles beside; what never comes fails then.
SECONDS = 300.0
OECTFLOW = [sys.executable, "-c", "from oectflow.pipeline.cli import main; main()"]


@contextmanager
def running(*arguments, cwd):
    """A command that runs until it is told to end."""
    with subprocess.Popen(
        [*OECTFLOW, *map(str, arguments)], cwd=cwd, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.terminate()
            process.communicate(timeout=SECONDS)


def command(*arguments, cwd, status=0):
    done = subprocess.run(
        [*OECTFLOW, *map(str, arguments)], cwd=cwd, capture_output=True, text=True,
        timeout=SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stderr + done.stdout
    return done.stdout


def until(holds, what):
    deadline, pause = time.monotonic() + SECONDS, threading.Event()
    while not holds():
        assert time.monotonic() < deadline, what()
        pause.wait(0.05)


@pytest.fixture
def lab(tmp_path):
    """Six devices on two chips: five were measured, one is being measured."""
    (tmp_path / "features.yaml").write_text(yaml.safe_dump(FEATURES))
    for k in range(5):
        test = RunningTest(tmp_path / "lab" / f"t{k}", transients=True, chip="AB"[k % 2])
        test.info["device_number"] = str(k)
        for _ in range(4):
            test.add_step()
        test.end()
    return tmp_path


def test_from_the_instrument_to_a_publication(lab):
    if find_chromium() is None:
        pytest.skip("no chromium on this machine")
    out = lab / "features"
    with running("watch", "lab", "raw", "features", "-f", "features.yaml", "-q", cwd=lab) as watch:
        last = RunningTest(lab / "lab" / "t5", transients=True, chip="B")

        def states():
            status = read_status(out)
            return {} if status is None else {one.id: one.state for one in status.experiments}

        for _ in range(4):
            last.add_step()
        last.end()
        wanted = {f"t{k}": "done" for k in range(6)}
        until(lambda: states() == wanted or watch.poll() is not None, states)
        assert watch.poll() is None

    with running("app", "features", "--raw", "raw", "--no-browser", cwd=lab) as app:
        url = app.stdout.readline().strip()
        with Browser(lab / "profile") as browser:
            visitor = Visitor(browser, url)
            places = visitor.ask("[...model('places-rows').data['cycle']]").__len__()
            assert places >= 10
            chosen = three_cycles(visitor)
            visitor.click(visitor.ask(f"row_of('places', {chosen[0]})"))
            for row in chosen[1:]:
                visitor.click(visitor.ask(f"row_of('places', {row})"), modifiers=2)
            visitor.wait("model('places-rows').selected.indices.length === 3")
            visitor.ask("document.activeElement.blur()")
            visitor.press("b")
            visitor.wait("model('message').text.includes('3 marks bad')")
            visitor.drag(visitor.ask("edge_of('on')"), -60)
            visitor.wait("model('fit_words').text.includes('by hand')")
            visitor.press("w")
            visitor.wait("model('message').text.includes('1 window kept')")
            assert browser.errors == []
    assert len(of.marks(out)) == 3

    command("extract", "raw", "-f", "features.yaml", "--out", "features", "-q", cwd=lab)
    assert of.windows(out)["used"].tolist() == [True]
    told = json.loads(command("compare", "gm", "--by", "chip_id", "--results", "features",
                              "--out", "chips.pdf", "--json", cwd=lab))  # fmt: skip
    assert told
    assert (lab / "chips.pdf").read_bytes().startswith(b"%PDF")
    command("export", "features", "--out", "all.xlsx", cwd=lab)
    book = openpyxl.load_workbook(lab / "all.xlsx", read_only=True)
    assert len(book.sheetnames) >= 3
    # Raw files say in which folder they were measured; names that are asked for are left out.
    command("publish", "features", "--out", "paper.zip", "--names", "omit", "-q", cwd=lab)
    elsewhere = lab / "elsewhere"
    elsewhere.mkdir()
    command("rerun", Path("..") / "paper.zip", "--raw", lab / "raw", "-q", cwd=elsewhere)


def three_cycles(visitor):
    """Return three rows of the worst fits that are about different cycles."""
    data = [
        visitor.ask(f"[...model('places-rows').data['{name}']].map(String)")
        for name in ("experiment", "step", "cycle")
    ]
    seen: dict[tuple[str, ...], int] = {}
    for row, place in enumerate(zip(*data, strict=True)):
        seen.setdefault(place, row)
    return list(seen.values())[:3]
