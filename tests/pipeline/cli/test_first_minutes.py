"""The first ten minutes of a new user: what a terminal shows, then the report on every medium."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import NamedTuple

import pytest

import oectflow as of
from tests.cluster.browser import Browser, find_chromium

COLUMNS = 80
TUTORIAL = Path(__file__).parents[3] / "docs" / "tutorial.md"


class Screen(NamedTuple):
    """What a command left on a terminal, and its exit status."""

    status: int
    lines: list[str]

    @property
    def text(self) -> str:
        """Words, however they were folded."""
        return " ".join(" ".join(self.lines).split())


def in_terminal(*arguments: str, cwd: Path) -> Screen:
    """Run the command on a terminal of 80 columns, in a process of its own."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    code = "from oectflow.pipeline.cli import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd,
        env=environment | {"TERM": "xterm-256color"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        parts = []
        while True:
            try:
                part = os.read(ours, 2**16)
            except OSError:
                # How Linux tells that nobody has the other end.
                break
            if not part:
                break
            parts.append(part)
        status = process.wait(60)
    os.close(ours)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", b"".join(parts).decode())
    # Of a bar that is drawn again and again, the last is what stays.
    lines = [line.rstrip("\r").rpartition("\r")[2].rstrip() for line in text.split("\n")]
    return Screen(status, lines)


def wide_lines(screen: Screen) -> list[str]:
    """Return what is wider than the terminal, but for what has no blank, as a path has none."""
    return [
        line
        for line in screen.lines
        if len(line) > COLUMNS and max(map(len, line.split())) <= COLUMNS // 2
    ]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def demo(home):
    return in_terminal("demo", "--workers", "1", cwd=home)


def test_demo__one_intended_failure_and_what_to_do_next(demo, home):
    assert demo.status == 0, demo.text
    assert wide_lines(demo) == []
    for words in (
        "dashboard: http://127.0.0.1:",
        "The one failure is intended",
        (home / "oectflow-demo" / "report.html").as_uri(),
        "oectflow import my.csv",
    ):
        assert words in demo.text
    # One word for one thing: the bar counts what the summary counts.
    assert "140/140 steps" in demo.text
    assert "logical" not in demo.text
    assert "Worker process still alive" not in demo.text
    # The two lines of Python that it prints open the result.
    lines = [line.strip() for line in demo.lines]
    start = lines.index("import oectflow as of")
    assert lines[start + 1] == 'results = of.open_results("oectflow-demo/features")'
    results = of.open_results(home / "oectflow-demo/features")
    assert results.sizes["experiment"] == 7
    assert float((results["tau_status"] == "error").sum()) == 0


def test_tutorial__tells_what_the_demo_tells(demo):
    (block,) = re.findall(r"(?s)```text\n(.*?)```", TUTORIAL.read_text())
    told = [" ".join(line.split()) for line in block.strip().splitlines()]
    assert len(told) == 6
    for line in told:
        wanted = ".*?".join(map(re.escape, line.split("…")))
        assert re.search(wanted, demo.text), line


def test_status_and_extract__again(demo, home):
    places = ("oectflow-demo/raw", "--out", "oectflow-demo/features")
    status = in_terminal("status", *places, cwd=home)
    assert status.status == 1
    assert wide_lines(status) == []
    assert "8 experiments: 6 done, 1 flagged, 1 failed; 7 unchanged" in status.text
    assert "tau: not_exponential 1 of 980 values" in status.text
    again = in_terminal("extract", *places, cwd=home)
    assert again.status == 1
    assert wide_lines(again) == []
    assert "7 unchanged" in again.text


def test_other_programs__the_lines_of_the_page(demo, home, monkeypatch):
    pytest.importorskip("openpyxl")
    monkeypatch.chdir(home / "oectflow-demo")
    page = (TUTORIAL.parent / "howto" / "other-programs.md").read_text(encoding="utf-8")
    blocks = re.findall(r"(?s)```python\n(.*?)```", page)
    (picture,) = re.findall(r"`(results.*savefig.*)`", page)
    exec("\n".join([*blocks, picture]), {})
    for name in ("features.xlsx", "steps.csv", "two.mat", "tau.csv", "tau.pdf"):
        assert Path(name).stat().st_size > 1000, name


def test_report__of_some_features(demo, home):
    run = in_terminal(
        "extract", "oectflow-demo/raw", "--features", "transient_tau", "--out", "tau", cwd=home
    )
    assert "tau: not_exponential 1 of 980 values" in run.text
    made = in_terminal("report", "tau", "--out", "tau.html", cwd=home)
    assert made.status == 0
    assert wide_lines(made) == []
    assert "tau.html" in made.text
    assert "tau on by step" in (home / "tau.html").read_text(encoding="utf-8")


#: Least ratio of contrast that WCAG 2.1 (AA) asks for of text.
CONTRAST = 4.5
#: The least contrast of any text with what is behind it.
LEAST_CONTRAST = """(function () {
    function numbers(colour) { return colour.match(/[0-9.]+/g).map(Number); }
    function light(c) {
        const part = c.slice(0, 3).map(v => v / 255)
            .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * part[0] + 0.7152 * part[1] + 0.0722 * part[2];
    }
    function behind(node) {
        for (; node; node = node.parentElement) {
            const c = numbers(getComputedStyle(node).backgroundColor);
            if (c.length < 4 || c[3] > 0) return c;
        }
        return [255, 255, 255];
    }
    let least = 21;
    for (const node of document.querySelectorAll('h1,h2,h3,p,td,th,dd,dt,a,li,figcaption')) {
        const a = light(numbers(getComputedStyle(node).color)), b = light(behind(node));
        least = Math.min(least, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
    }
    return least;
})()"""
#: What reaches beyond the window, and is not in a box that scrolls.
CUT = """[...document.querySelectorAll('body *')].filter(
    e => e.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5
        && !e.parentElement.closest('.scroll')).map(e => e.outerHTML.slice(0, 80)).join('\\n')"""
#: Boxes whose content is wider, and which do not scroll.
STUCK = """[...document.querySelectorAll('.scroll')].filter(
    e => e.scrollWidth > e.clientWidth && getComputedStyle(e).overflowX !== 'auto').length"""
#: How much the picture that is made smallest is made smaller.
LEAST_SCALE = "Math.min(...[...document.images].map(i => i.clientWidth / i.naturalWidth))"


@pytest.fixture
def browser(demo, home, tmp_path):
    if find_chromium() is None:
        pytest.skip("no chromium on this machine")
    with Browser(tmp_path / "profile") as browser:
        browser.open((home / "oectflow-demo" / "report.html").as_uri())
        browser.wait_for("document.readyState === 'complete' && document.images.length > 0")
        yield browser
        assert browser.errors == []


def test_demo_report__on_a_screen_and_a_phone_in_the_light_and_in_the_dark(browser):
    for width in (1280, 390):
        browser.command(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=900, deviceScaleFactor=1, mobile=width < 500,
        )  # fmt: skip
        for scheme in ("light", "dark"):
            browser.command(
                "Emulation.setEmulatedMedia",
                features=[{"name": "prefers-color-scheme", "value": scheme}],
            )
            where = f"{width} px, {scheme}"
            assert browser.evaluate("innerWidth") == width, where
            assert browser.evaluate("document.documentElement.scrollWidth") <= width, where
            assert browser.evaluate(CUT) == "", where
            assert browser.evaluate(STUCK) == 0, where
            # Words of 10 points at 100 dpi (14 px) are at least as high as 8 px.
            assert browser.evaluate(LEAST_SCALE) > 0.55, where
            assert browser.evaluate(LEAST_CONTRAST) >= CONTRAST, where
            light = "getComputedStyle(document.body).backgroundColor === 'rgb(255, 255, 255)'"
            assert browser.evaluate(light) == (scheme == "light"), where


def test_demo_report__on_paper(browser):
    pdfium = pytest.importorskip("pypdfium2")
    headings = json.loads(
        browser.evaluate(
            "JSON.stringify([...document.querySelectorAll('h2,h3')].map("
            "e => e.innerText.trim().replace(/\\s+/g, ' ')))"
        )
    )
    printed = browser.command("Page.printToPDF", preferCSSPageSize=True)["data"]
    document = pdfium.PdfDocument(base64.b64decode(printed))
    found = set()
    for number in range(len(document)):
        page = document[number]
        words = page.get_textpage()
        width, _ = page.get_size()
        boxes = [words.get_rect(i) for i in range(words.count_rects())]
        assert all(left >= 0 and right <= width for left, _, right, _ in boxes), number
        lines = [" ".join(line.split()) for line in words.get_text_range().splitlines()]
        lines = [line for line in lines if line]
        found.update(lines)
        # A picture below the last words is what these belong to.
        bottoms = [o.get_bounds()[1] for o in page.get_objects() if o.type == IMAGE]
        lowest = min((bottom for _, bottom, _, _ in boxes), default=0.0)
        if lines and min(bottoms, default=lowest) >= lowest:
            assert lines[-1] not in headings, f"page {number + 1} ends with {lines[-1]!r}"
        words.close()
        page.close()
    document.close()
    # They are found as they are written, or nothing would have been asserted.
    assert {"Experiments", "Flags and failures", "Features", "Devices"} <= found


#: FPDF_PAGEOBJ_IMAGE of PDFium.
IMAGE = 3
