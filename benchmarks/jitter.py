"""Time the exhaustive search on clocks that jitter beside an even clock of the same length.

    python benchmarks/jitter.py [--rounds 5] [--samples 100,502,1004]

Two gate periods of so many samples each, every window of 20 % to 33 % of a period, one core, warm.
In each round the even clock and all others are searched once, in turns; a number is the median over
the rounds of the ratio.  ``displaced``: every sample is off the even grid by up to so much of the
interval; ``random walk``: every interval is off by that, and what is off adds up.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from oectflow.extractors.kernels.transitions import window_lengths
from oectflow.extractors.kernels.uneven import search_uneven
from oectflow.extractors.kernels.windows import search_tables, search_windows

NOISE = (1e-4, 1e-3, 0.01, 0.03, 0.1, 0.3)
JITTER = (0.001, 0.02, 0.2)
#: Wanted: at most so many times the even clock.
LIMIT = 5.0


def clock(rng: np.random.Generator, n: int, kind: str, jitter: float) -> np.ndarray:
    """Return times in intervals."""
    off = jitter * rng.uniform(-1, 1, n)
    t = np.arange(n) + off if kind == "displaced" else np.cumsum(1 + off)
    return t - t[0]


def current(rng: np.random.Generator, t: np.ndarray, m: int, noise: float) -> np.ndarray:
    """Return a rise with tau = 12 % of the period and a decay with 7 %, with noise."""
    p = t % m
    y = np.where(p < m / 2, 1 - np.exp(-p / (0.12 * m)), np.exp(-(p - m / 2) / (0.07 * m)))
    return y + noise * rng.standard_normal(t.size)


def searches(m: int, noise: float) -> dict[str, Callable[[], Any]]:
    """Return the search on an even clock, which comes first, and those on all others."""
    rng = np.random.default_rng([m, int(1e6 * noise)])
    lengths = window_lengths(float(m), 0.2, 1 / 3, 1)
    t = np.arange(2.0 * m)
    even = current(rng, t, m, noise)
    found = {
        "even": lambda: search_windows(even, 0, even.size, 1, lengths, search_tables(lengths), 0.0)
    }
    for kind in ("displaced", "random walk"):
        for jitter in JITTER:
            t = clock(rng, 2 * m, kind, jitter)
            y = current(rng, t, m, noise)
            found[f"{kind} {100 * jitter:g} %"] = lambda t=t, y=y: search_uneven(
                y, t, 0, y.size, 1, lengths, 0.0
            )
    return found


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", default="100,502,1004", help="samples per period")
    options = parser.parse_args()
    names = list(searches(100, 0.1))
    table = Table("samples", "noise", "even, ms", *names[1:])
    worst = 0.0
    for m in map(int, options.samples.split(",")):
        for noise in NOISE:
            calls = searches(m, noise)
            seconds: dict[str, list[float]] = {name: [] for name in calls}
            for turn in range(options.rounds + 1):
                for name, call in calls.items():
                    begin = time.process_time()
                    call()
                    if turn:
                        seconds[name].append(time.process_time() - begin)
            ratios = [
                statistics.median(
                    a / b for a, b in zip(seconds[name], seconds["even"], strict=True)
                )
                for name in names[1:]
            ]
            worst = max(worst, *ratios)
            even = 1e3 * statistics.median(seconds["even"])
            table.add_row(str(m), f"{noise:g}", f"{even:.2f}", *(f"{r:.1f}×" for r in ratios))
    console = Console()
    console.print(table)
    console.print(f"the slowest: {worst:.1f}×, wanted: at most {LIMIT:g}×")


if __name__ == "__main__":
    main()
