"""What ``ok`` is worth: time constants of made devices beside the truth.

    python benchmarks/ok.py [--json PATH] [--devices 40] [--faults 2000] [--seed 2026]

(a) The shipped simulator over a grid: n and p, accumulation and depletion, noise 1e-4 to 0.3 of the
    swing, duty cycle 0.1 to 0.9, clocks that jitter, devices that fade: bias and scatter of tau,
    how many intervals of 95 % hold the truth, and how many ``ok`` are wrong.
(b) Devices with one fault each, of ``tests/extractors/faulty_transients.py``, which computes its
    currents by itself; per fault and per status word.

A value is wrong if it is off by more than 5 of its standard errors and more than 3 %.
``docs/reference/ok.md`` is written from what ``--json benchmarks/results/ok.json`` keeps.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from oectflow.extractors.base import get_extractor
from oectflow.pipeline.inputs.simulate import simulate_device

Array = np.ndarray
HERE = Path(__file__).resolve().parent
NOISE = (1e-4, 1e-3, 1e-2, 0.03, 0.1, 0.3)
DUTY = (0.1, 0.3, 0.5, 0.7, 0.9)
JITTER = (0.0, 0.01, 0.2)
#: Share of the current lost from the first to the last cycle.
FADE = (0.0, 0.05, 0.3)
RATE, PERIOD, CYCLES = 1000.0, 0.2, 10
#: Samples that the simulator makes for one that a jittering clock keeps.
FINE = 20
STANDARD_ERRORS, SHARE = 5.0, 0.03


def simulated(
    rng: np.random.Generator, noise: float, duty: float, jitter: float, fade: float
) -> tuple[dict[str, Any], Array]:
    """Return a step of the simulator, and its time constants: (n_cycles, 2) in s."""
    fine = FINE if jitter else 1
    depletion = bool(rng.random() < 0.5)
    device = simulate_device(
        int(rng.integers(2**31)),
        polarity="n" if rng.random() < 0.5 else "p",
        n_transfer=0,
        n_transient=1,
        n_cycles=CYCLES,
        sample_rate=RATE * fine,
        period=PERIOD,
        duty_cycle=duty,
        tau_on=duty * PERIOD * rng.uniform(0.07, 0.35),
        tau_off=(1 - duty) * PERIOD * rng.uniform(0.07, 0.35),
        tau_drift=0.0,
        max_current=10.0 ** rng.uniform(-8, -2),
        off_ratio=10.0 ** rng.uniform(-4, -0.5),
        fade=fade,
        transient_noise=noise,
    )
    (step,) = device.transient_steps
    time, current = step.arrays["time"], step.arrays["Id"]
    if jitter:
        at = fine * np.arange(time.size // fine)
        moved = np.rint(fine * jitter * rng.uniform(-1, 1, at.size)).astype(int)
        at = np.clip(at + moved, 0, time.size - 1)
        time, current = time[at], current[at]
    made = {
        "original_time": time,
        "drain_current": current,
        "sampling_interval": 1 / RATE,
        "gate_period": PERIOD,
        # In depletion mode the gate is high while |Id| is low.
        "duty_cycle": 1 - duty if depletion else duty,
    }
    return made, np.stack([device.truth["tau_on"][0], device.truth["tau_off"][0]], axis=-1)


def fits(step: dict[str, Any], truth: Array) -> Iterator[tuple[str, float, float, float]]:
    """Yield word, tau, standard error and truth of every fit of a step."""
    result = TAU.extract_step(step)
    n = min(len(truth), len(result["value"]))
    for name in ("status", "value", "stderr"):
        result[name] = result[name][:n].ravel()
    for code, tau, error, true in zip(
        result["status"], result["value"], result["stderr"], truth[:n].ravel(), strict=True
    ):
        yield WORDS[code], float(tau), float(error), float(true)


def is_wrong(tau: float, error: float, truth: float) -> bool:
    """Tell whether a value is off by more than it says, and by more than a little."""
    return not abs(tau - truth) <= max(STANDARD_ERRORS * error, SHARE * truth)


def summary(found: list[tuple[str, float, float, float]]) -> dict[str, Any]:
    """Sum fits up."""
    ok = np.array([one[1:] for one in found if one[0] == "ok"]).reshape(-1, 3)
    tau, error, truth = ok.T
    off = tau / truth - 1
    return {
        "fits": len(found),
        "ok": len(ok),
        "wrong": sum(is_wrong(*one) for one in ok),
        "bias": float(np.median(off)) if len(ok) else None,
        "scatter": float(1.4826 * np.median(np.abs(off))) if len(ok) else None,
        "coverage": float(np.mean(np.abs(tau - truth) <= 1.96 * error)) if len(ok) else None,
    }


def grid(devices: int, seed: int) -> dict[str, dict[str, Any]]:
    """Return summaries of the simulator, by each value of the grid."""
    found: dict[str, list[tuple[str, float, float, float]]] = defaultdict(list)
    for i, noise in enumerate(NOISE):
        for j, duty in enumerate(DUTY):
            for k, jitter in enumerate(JITTER):
                for m, fade in enumerate(FADE):
                    rng = np.random.default_rng([seed, i, j, k, m])
                    for _ in range(max(1, devices // 4)):
                        # The step ages from 0 to 1 in all its cycles.
                        made = list(fits(*simulated(rng, noise, duty, jitter, fade)))
                        for name in (
                            f"noise {noise:g}", f"duty cycle {duty:g}", f"jitter {jitter:g}",
                            f"fading by {fade:g}", "all",
                        ):  # fmt: skip
                            found[name] += made
    return {name: summary(found[name]) for name in sorted(found, key=order)}


def order(name: str) -> tuple[int, float]:
    """Return the place of a row."""
    what, _, value = name.rpartition(" ")
    kinds = ["noise", "duty cycle", "jitter", "fading by", ""]
    return kinds.index(what), float(value) if what else 0.0


def load_faults() -> ModuleType:
    """Return the module that makes faulty devices."""
    path = HERE.parent / "tests" / "extractors" / "faulty_transients.py"
    spec = importlib.util.spec_from_file_location("faulty_transients", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path}: cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def faults(devices: int, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return summaries of devices with one fault each, by fault; and what words stand for."""
    faulty = load_faults()
    by_kind = {}
    words: dict[str, list[int]] = {word: [0, 0, 0] for word in WORDS}
    for index, (kind, make) in enumerate(faulty.KINDS.items()):
        found = []
        for i in range(devices):
            device = make(np.random.default_rng([seed, index, i]))
            truth = device.truth if device.exponential else np.full(2, np.nan)
            found += fits(device.step, np.tile(truth, (1000, 1)))
        by_kind[kind] = summary(found)
        for word, tau, error, truth in found:
            words[word][0] += 1
            words[word][1] += bool(np.isfinite(tau))
            words[word][2] += bool(np.isfinite(tau)) and not is_wrong(tau, error, truth)
    return by_kind, {
        word: dict(zip(("fits", "numbers", "right"), counts, strict=True))
        for word, counts in words.items()
    }


def print_table(console: Console, title: str, rows: dict[str, Any]) -> None:
    """Print summaries."""
    table = Table("", "fits", "ok", "wrong ok", "bias", "scatter", "95 % hold", title=title)
    for name, row in rows.items():
        shares = [row["bias"], row["scatter"], row["coverage"]]
        cells = ["" if share is None else f"{100 * share:.2f} %" for share in shares]
        table.add_row(name, f"{row['fits']:,}", f"{row['ok']:,}", str(row["wrong"]), *cells)
    console.print(table)


TAU = get_extractor("transient.tau_on_off")
WORDS = list(TAU.variables["status"].statuses)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, help="write all numbers here")
    parser.add_argument("--devices", type=int, default=40, help="per four points of the grid")
    parser.add_argument("--faults", type=int, default=2000, help="devices per fault")
    parser.add_argument("--seed", type=int, default=2026)
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 120)
    simulator = grid(options.devices, options.seed)
    by_kind, words = faults(options.faults, options.seed)
    print_table(console, "The simulator", simulator)
    print_table(console, "One fault each", by_kind)
    ok = sum(row["ok"] for row in by_kind.values())
    wrong = sum(row["wrong"] for row in by_kind.values())
    console.print(f"wrong of all ok with a fault: {wrong} of {ok:,}")
    if options.json:
        content = {
            "command": f"python benchmarks/ok.py --devices {options.devices} --faults "
            f"{options.faults} --seed {options.seed}",
            "simulator": simulator,
            "faults": by_kind,
            "words": words,
        }
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
