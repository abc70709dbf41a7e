"""How long the page of ``oectflow app`` takes over 10,000 experiments of 100 steps.

    python benchmarks/app.py [--n 10000] [--steps 100] [--keep FOLDER] [--json PATH]

One experiment is simulated and extracted; its result is written under other names with numbers that
differ, and the raw files of those with the worst fits stand beside them.  Then a server runs in a
process of its own, and a headless Chromium measures, in the page: from the request to the first row
of the table, and from every action to the frame that shows what it has changed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "cluster"))

from browser import Browser

import oectflow as of
from oectflow.pipeline.inputs.simulate import simulate_device
from oectflow.pipeline.outputs.sink import Results, read_columns, read_metadata, read_variables
from oectflow.pipeline.outputs.sink import write_results as write

_WITH_RAW = 32
_REPEATS = 9
_FIRST_S, _EACH_MS = 2.0, 200.0

#: Act, then wait until Bokeh has changed a property and the frame with it was drawn.
TOOLS = """
window.model = name => Bokeh.documents[0].get_model_by_name(name)
window.timed = (act, name, property) => new Promise((found, failed) => {
    const target = model(name), begun = performance.now()
    const end = () => {
        target.properties[property].change.disconnect(end)
        requestAnimationFrame(() => setTimeout(() => found(performance.now() - begun)))
    }
    target.properties[property].change.connect(end)
    setTimeout(() => failed('nothing has changed'), 20000)
    act()
})
window.press = key => document.dispatchEvent(
    new KeyboardEvent('keydown', {key, bubbles: true, composed: true}))
window.drag = by => {
    const box = model('trace-plot').center.find(m => m.name === 'on')
    box.right = box.right + by
}
"""
#: What is done, what shows it, and how often.
ACTIONS = {
    "filter by words": ("model('text').value = 'chip=C' + k", "experiments-rows", "data"),
    "filter by nothing": ("model('text').value = ' '.repeat(k)", "experiments-rows", "data"),
    "all steps, worst fits": (
        "model('order').value = k % 2 ? 'all steps' : 'worst fits'",
        "places-rows",
        "data",
    ),
    "feature over steps": (
        "model('column').value = ['gm_max_forward', 'tau off', 'Von_forward'][k % 3]",
        "trend-points",
        "data",
    ),
    "next place": ("press('n')", "step_head", "text"),
    "next cycle": (
        "press(model('step_head').text.includes('<b>7<') ? 'ArrowLeft' : 'ArrowRight')",
        "step_head",
        "text",
    ),
    "mark": ("press('b')", "message", "text"),
    "undo": ("press('u')", "message", "text"),
    "window by hand": ("drag(-0.001)", "fit_words", "text"),
}


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--n", type=int, default=10_000)
    options.add_argument("--steps", type=int, default=100)
    options.add_argument("--keep", type=Path, help="folder of made-up results, used again")
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        make(folder, given.n, given.steps)
        found = first_start(folder) | measure(folder)
    for name, value in found.items():
        print(f"{name:<28} {value}")
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))


def make(folder: Path, n: int, steps: int) -> None:
    """Write results of many experiments, and the raw files of some of them."""
    raw, out, one = folder / "raw", folder / "out", folder / "one"
    if (out / f"e{n - 1:05d}.parquet").exists():
        return
    for path in (raw, out, one):
        path.mkdir(parents=True, exist_ok=True)
    for k in range(min(n, _WITH_RAW)):
        device = simulate_device(
            k, n_transfer=steps, n_transient=steps, n_cycles=8, test_id=f"e{k:05d}",
            chip_id=f"C{k % 200}", device_number=str(k // 200),
        )  # fmt: skip
        device.write(raw / f"e{k:05d}.h5")
    of.extract(raw / "e00000.h5", "all", one, progress=False)
    path = one / "e00000.parquet"
    metadata = read_metadata(path)
    assert metadata is not None
    variables = read_variables(metadata)
    columns = read_columns(path, list(variables), metadata)
    owners = {name: entry["feature"] for name, entry in metadata["variables"].items()}
    rest = {k: v for k, v in metadata.items() if k not in ("variables", "units", "format")}
    random = np.random.default_rng(0)
    for k in range(n):
        name, chip, device = f"e{k:05d}", f"C{k % 200}", str(k // 200)
        identity = {"experiment_id": name, "chip_id": chip, "device_id": device}
        spread = 0.3 if k < _WITH_RAW else 0.05
        own = dict(columns)
        own["tau_r_squared"] = columns["tau_r_squared"] - spread * random.random(
            columns["tau_r_squared"].shape
        )
        factor = random.normal(1.0, 0.1)
        for changed in ("tau", "gm_max_forward", "Von_forward"):
            own[changed] = columns[changed] * factor
        source = {**metadata["source"], "path": str(raw / f"{name}.h5")}
        about = {**rest, "identity": {**metadata["identity"], **identity}, "source": source}
        rows = {**identity, "step_index": np.arange(metadata["n_rows"])}
        write(out / f"{name}.parquet", Results(rows, own, variables, owners, (), about))


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, float]]:
    """Run the command, and give the address of the page and how long its start took."""
    begun = time.monotonic()
    command = [str(Path(sys.executable).with_name("oectflow")), "app", str(folder / "out")]
    command += ["--raw", str(folder / "raw"), "--no-browser", "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            yield url, time.monotonic() - begun
        finally:
            process.terminate()


def first_start(folder: Path) -> dict[str, Any]:
    """Return how long it takes to make the index, and its size."""
    index = folder / "out" / "_index.arrow"
    index.unlink(missing_ok=True)
    with served(folder) as (_, seconds):
        pass
    return {"first start": f"{seconds:.1f} s", "index": f"{index.stat().st_size / 1e6:.0f} MB"}


def measure(folder: Path) -> dict[str, Any]:
    """Return all times of a server that has its index, in words."""
    found: dict[str, Any] = {}
    with (
        tempfile.TemporaryDirectory() as profile,
        served(folder) as (url, seconds),
        Browser(Path(profile)) as browser,
    ):
        found["later start"] = f"{seconds:.1f} s"
        firsts = [first_page(browser, url) for _ in range(3)]
        found["first page"] = said(firsts, 1, "s", _FIRST_S)
        browser.evaluate(TOOLS)
        for name, (act, model, changed) in ACTIONS.items():
            times = []
            for k in range(1, _REPEATS + 1):
                code = f"k => timed(() => {{ {act} }}, '{model}', '{changed}')"
                answer = browser.command(
                    "Runtime.evaluate", expression=f"({code})({k})", awaitPromise=True,
                    returnByValue=True,
                )  # fmt: skip
                assert "exceptionDetails" not in answer, (name, answer)
                times.append(answer["result"]["value"])
            found[name] = said(times, 0, "ms", _EACH_MS)
        assert browser.errors == []
    return found


def first_page(browser: Browser, url: str) -> float:
    """Return how long it takes from the request to the first row of the table, in s."""
    browser.open("about:blank")
    begun = time.monotonic()
    browser.open(url)
    browser.wait_for(
        "window.Bokeh !== undefined && Bokeh.documents.length === 1 && (function some(node) {"
        "return node.classList?.contains('slick-row') || [...(node.shadowRoot?.children ?? []),"
        "...node.children].some(some)})(document.body)"
    )
    return time.monotonic() - begun


def said(times: list[float], digits: int, unit: str, limit: float) -> str:
    """Return the median and the slowest of some times, and whether all are below a limit."""
    word = "" if max(times) <= limit else f"  (more than {limit:g} {unit})"
    middle = statistics.median(times)
    return f"{middle:.{digits}f} {unit}, slowest {max(times):.{digits}f} {unit}{word}"


if __name__ == "__main__":
    main()
