"""Three ratios that show whether a change has made us slow, beside those of the last release.

    python benchmarks/ratios.py [--rounds 9] [--keep VERSION]

Each case does the same work in our way and in the usual way, and checks that the numbers agree:

- tau of known windows, beside ``scipy.optimize.curve_fit``, per fit;
- extracting tau, gm and Von of one file, beside reading its arrays with h5py, per file;
- gm and Von of transfer sweeps, beside NumPy's gradient, per sweep.

A ratio is the CPU time of the usual way by ours, so more is better; it has no unit, so machines can
be compared.  Both ways take turns in every round; the ratio is the median over the rounds, and
``low`` and ``high`` are the quartiles.  ``--keep`` stores the ratios as those of a release, in
``results/ratios.json``.  The last ones there stand beside what is measured; where a ratio is less
than a third of them, the exit status is 1.  That is far beyond what machines and rounds scatter, so
somebody should look; below that, the table is for reading.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import _machine
import h5py
import numpy as np
from scipy.optimize import curve_fit
from sweeps import sweeps_of

import oectflow as of
from oectflow.extractors.base import get_extractor
from oectflow.measurement import Batch
from oectflow.pipeline.inputs.simulate import simulate_device

KEPT = Path(__file__).resolve().parent / "results" / "ratios.json"
#: A ratio that has become this many times smaller ends with exit status 1.
FAR = 3.0
INTERVAL, PERIOD, N_CYCLES = 1e-3, 0.1, 40
TAU_ON, TAU_OFF = 12e-3, 7e-3
#: Samples from the change of the gate to the window, and of the window.
BEGIN, N = 2, 40
#: CPU seconds that one way takes in a round at least.
ROUND_SECONDS = 0.05

Way = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """The same work in two ways; ``share`` is which part of it the usual way does."""

    name: str
    ours: Way
    usual: Way
    share: float = 1.0


def known_windows() -> Case:
    """Tau of the on and off windows of a trace; curve_fit takes ten cycles of it."""
    k = np.arange(N_CYCLES * round(PERIOD / INTERVAL))
    t = INTERVAL * (k % round(PERIOD / INTERVAL))
    on = t < PERIOD / 2
    y = np.where(on, 1.0 - np.exp(-t / TAU_ON), np.exp(-(t - PERIOD / 2) / TAU_OFF))
    y += np.random.default_rng(1).normal(0.0, 2e-3, y.size)
    step = {
        "continuous_time": INTERVAL * k,
        "original_time": INTERVAL * k,
        "drain_current": y,
        "sampling_interval": INTERVAL,
        "gate_period": PERIOD,
        "duty_cycle": 0.5,
    }
    windows = [(begin * INTERVAL, N * INTERVAL) for begin in (BEGIN, BEGIN + round(PERIOD / 2e-3))]
    extractor = get_extractor(
        "transient.tau_on_off",
        {"search": "fixed", "window_on": windows[0], "window_off": windows[1], "min_swing": 0.0},
    )
    x = INTERVAL * np.arange(N)

    def rise(x: np.ndarray, tau: float, a: float, c: float) -> np.ndarray:
        return a * (1.0 - np.exp(-x / tau)) + c

    def decay(x: np.ndarray, tau: float, a: float, c: float) -> np.ndarray:
        return a * np.exp(-x / tau) + c

    def ours() -> Any:
        return extractor.extract_step(step)["value"]

    def usual() -> Any:
        found = []
        for cycle in range(10):
            for model, (begin, _) in zip((rise, decay), windows, strict=True):
                first = cycle * round(PERIOD / INTERVAL) + round(begin / INTERVAL)
                found.append(curve_fit(model, x, y[first : first + N], p0=(0.01, 1.0, 0.0))[0][0])
        return np.reshape(found, (10, 2))

    # MINPACK stops at relative changes of sqrt(eps) = 1.5e-8.
    np.testing.assert_allclose(ours()[:10], usual(), rtol=1e-6)
    return Case("tau of known windows / curve_fit", ours, usual, 10 / N_CYCLES)


def one_file(folder: Path) -> Case:
    """A run over one file beside reading all of its arrays."""
    device = simulate_device(
        1, n_transfer=40, n_transient=40, n_points=201, n_cycles=50, period=0.2, test_id="one"
    )
    path = device.write(folder / "one.h5")
    features = {
        "tau": {
            "extractor": "transient.tau_on_off",
            "params": {"search": "fixed", "window_on": (2e-3, 0.08), "window_off": (0.102, 0.08)},
        },
        "gm": {"extractor": "transfer.gm_max"},
        "Von": {"extractor": "transfer.Von"},
    }

    def ours() -> Any:
        return of.extract(path, features, folder / "out", force=True, progress=False)

    def usual() -> Any:
        arrays = []
        with h5py.File(path) as file:
            file.visititems(
                lambda _, item: arrays.append(item[()]) if isinstance(item, h5py.Dataset) else None
            )
        return arrays

    report = ours()
    assert report.ok, report
    assert len(usual()) >= 2
    return Case("extract of one file / reading it with h5py", ours, usual)


def sweeps() -> Case:
    """Both figures of the forward branch of quiet sweeps."""
    steps = sweeps_of(121, 1e-6, 1e-4)
    batch = Batch.from_steps(steps)
    gm = get_extractor("transfer.gm_max", {"direction": "forward"})
    von = get_extractor("transfer.Von", {"direction": "forward", "device_type": "N"})

    def ours() -> Any:
        # What features share is known of a batch that was seen: this one is new.
        fresh = Batch(batch.arrays, batch.offsets, batch.values)
        found = [one.extract_batch(fresh, one.params)["value"] for one in (gm, von)]
        return np.array(found)

    def usual() -> Any:
        found = []
        for step in steps:
            turn = int(np.argmax(np.abs(step["Vg"] - step["Vg"][0]))) + 1
            vg, current = step["Vg"][:turn], step["Id"][:turn]
            slope = np.abs(np.gradient(current, vg)).max()
            logarithm = np.log10(np.maximum(np.abs(current), 1e-12))
            found.append((slope, vg[np.argmax(np.gradient(logarithm, vg))]))
        return np.transpose(found)

    # We answer NaN where the noise decides.  Elsewhere: slopes of even points, the same two
    # differences, added in another order.
    given, answered = ours(), np.isfinite(ours())
    assert answered.mean() > 0.8, answered.mean()
    np.testing.assert_allclose(given[answered], usual()[answered], rtol=1e-9)
    return Case("gm and Von of sweeps / numpy.gradient", ours, usual)


def seconds(way: Way) -> float:
    """Return the CPU time of one call, in s."""
    calls, begin = 0, time.process_time()
    while (spent := time.process_time() - begin) < ROUND_SECONDS or not calls:
        way()
        calls += 1
    return spent / calls if spent else ROUND_SECONDS


def measure(case: Case, rounds: int) -> dict[str, Any]:
    """Return the ratio of a case, and its quartiles."""
    times = [(seconds(case.usual) / case.share, seconds(case.ours)) for _ in range(rounds)]
    ratios = [usual / ours for usual, ours in times]
    low, ratio, high = statistics.quantiles(ratios, n=4)
    return {"case": case.name, "ratio": ratio, "low": low, "high": high}


def main() -> None:
    """Measure, print, keep, and judge."""
    parser = _machine.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--keep", metavar="VERSION", help="store these as the ratios of a release")
    arguments = parser.parse_args()
    machine = _machine.describe()
    kept = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
    last = next(reversed(kept), None)
    before = {row["case"]: row for row in kept[last]["rows"]} if last else {}
    with tempfile.TemporaryDirectory(prefix="oectflow-ratios-") as folder:
        cases = [known_windows(), one_file(Path(folder)), sweeps()]
        rows = [measure(case, arguments.rounds) for case in cases]
    slow = []
    for row in rows:
        if old := before.get(row["case"]):
            row[f"of {last}"] = old["ratio"]
            if row["ratio"] * FAR < old["ratio"]:
                slow.append(row["case"])
    _machine.report("CPU time of the usual way by ours", rows, arguments.json, (), (), machine)
    if arguments.keep:
        plain = [
            {"case": row["case"]} | {key: round(row[key], 3) for key in ("ratio", "low", "high")}
            for row in rows
        ]
        kept[arguments.keep] = {"machine": machine, "rows": plain}
        text = json.dumps(kept, indent=1, ensure_ascii=False)
        KEPT.write_text(f"{text}\n", encoding="utf-8")
    if slow and not arguments.keep:
        sys.exit(f"less than a third of what {last} had: {'; '.join(slow)}")


if __name__ == "__main__":
    main()
