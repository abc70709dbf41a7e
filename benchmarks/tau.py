"""Time the tau kernels beside autotau, SciPy, lmfit and FLIMLib.

    python benchmarks/tau.py [--json PATH] [--rounds 5] [--peer PYTHON] [--instructions]

Everything runs on one core, warm, in turns: in each round every case is timed once with everybody.
A number is CPU time (an idle core takes as long), the median over the rounds of the median over the
calls of a round; ``±`` is half of the range of the rounds.  autotau, lmfit and FLIMLib come from
this environment, or from the interpreter PYTHON; where neither has them their columns stay empty.
What takes them minutes is measured on a part of the work and marked ``~``: every 13th length and
every 40th start of a search, some tens of fits, or a step whose bad cycles autotau is not asked to
search again.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import _machine
import numpy as np
import tau_instructions
import tau_others
from rich.console import Console
from rich.table import Table

from oectflow.extractors.kernels.cycles import fit_windows
from oectflow.extractors.kernels.exponential import DECAY, N_COLUMNS, RISE, TAU
from oectflow.extractors.kernels.misfit import N_EVIDENCE
from oectflow.extractors.kernels.windows import search_tables, search_windows
from oectflow.extractors.tau import TauOnOff
from oectflow.measurement import Batch

HERE = Path(__file__).resolve().parent
REAL_TRACE = HERE.parents[1] / "shared" / "data" / "autotau_transient.csv"
OTHERS = ("autotau", "scipy", "lmfit", "flimlib")
INTERVAL, PERIOD, M = 1e-3, 0.1, 100
LENGTHS = np.arange(20, 34)
#: The part of a search that the others do.
PART = {"window_points_step": 13, "window_start_idx_step": 40}
#: Samples of the known windows, and where they begin in the cycle.
N, BEGIN_ON, BEGIN_OFF = 40, 2, 52
#: CPU seconds that the calls of one round take at least.
ROUND_SECONDS = 0.03


def make_trace(n_cycles: int, seed: int = 1, snr: float = 500.0) -> np.ndarray:
    """Return cycles of 100 samples: a rise with tau = 12 samples and a decay with 7."""
    p = np.arange(n_cycles * M) % M
    y = np.where(p < M // 2, 1.0 - np.exp(-p / 12.0), np.exp(-(p - M // 2) / 7.0))
    return y + np.random.default_rng(seed).normal(0.0, 1.0 / snr, y.size)


def count_windows(n_samples: int) -> int:
    """Return the number of windows of all :data:`LENGTHS` in a trace."""
    return int(np.sum(n_samples - LENGTHS + 1))


@dataclass(frozen=True)
class Other:
    """What somebody else does for a case.

    Attributes
    ----------
    arm, arguments
        Of :mod:`tau_others`.
    work
        Their seconds per unit done, times this, stand for the case.
    extrapolated
        Whether they do only a part of it.
    rounds
        Rounds they take part in at most.
    """

    arm: str
    arguments: Mapping[str, Any]
    work: float
    extrapolated: bool = True
    rounds: int = 1_000


@dataclass(frozen=True)
class Case:
    """One row: what we call, how many fits it stands for, what others do, and what is wanted.

    ``targets`` is by ``"seconds"`` (at most), ``"fits_per_s"`` or ``"times_autotau"`` (at least):
    the value to reach and the value aimed at.
    """

    name: str
    ours: Callable[[], Any]
    n_fits: int
    others: Mapping[str, Other] = field(default_factory=dict)
    targets: Mapping[str, tuple[float, float]] = field(default_factory=dict)


def known_windows(n_cycles: int) -> Callable[[], np.ndarray]:
    """Return a function that fits the on and the off window of all cycles."""
    y = make_trace(n_cycles)
    no_clock = np.empty(0)
    cycles = M * np.arange(n_cycles)
    rows, codes = np.empty((2, n_cycles, N_COLUMNS)), np.empty((2, n_cycles), np.int8)
    said = np.empty((n_cycles, N_EVIDENCE))

    def fit() -> np.ndarray:
        fit_windows(y, no_clock, cycles + BEGIN_ON, N, RISE, rows[0], codes[0], said)
        fit_windows(y, no_clock, cycles + BEGIN_OFF, N, DECAY, rows[1], codes[1], said)
        return rows[..., TAU].T

    return fit


def make_step(current: np.ndarray, period: float, t: np.ndarray | None = None) -> dict[str, Any]:
    """Return a step as the pipeline hands it to an extractor."""
    nominal = INTERVAL * np.arange(current.size)
    return {
        "continuous_time": nominal,
        "original_time": nominal if t is None else t,
        "drain_current": current,
        "sampling_interval": INTERVAL,
        "gate_period": period,
        "duty_cycle": 0.5,
    }


def make_cases() -> list[Case]:
    """Return all rows of the table."""
    y5, y100 = make_trace(5), make_trace(100)
    t100 = INTERVAL * np.arange(y100.size)
    tables = search_tables(LENGTHS)
    # What others fit in a search: every window of their part, in both directions.
    part = [y5[s : s + n] for n in LENGTHS[::13] for s in range(0, y5.size - n, 40)]
    some = [y100[i * M + b :][:N] for i in range(20) for b in (BEGIN_ON, BEGIN_OFF)]
    clock = {"interval": INTERVAL, "period": PERIOD}
    given = {
        "window_on_offset": BEGIN_ON * INTERVAL,
        # autotau's windows include both ends.
        "window_on_size": (N - 1) * INTERVAL,
        "window_off_offset": BEGIN_OFF * INTERVAL,
        "window_off_size": (N - 1) * INTERVAL,
    }
    cycles = {"t": t100[: 26 * M], "y": y100[: 26 * M], **clock, **given}

    def search(n_samples: int, kept: Any = None) -> Callable[[], Any]:
        y = y5[:n_samples]
        return lambda: search_windows(
            y, 0, y.size, 1, LENGTHS, search_tables(LENGTHS) if kept is None else kept, 0.0
        )

    def searched_by_others(n_samples: int) -> dict[str, Other]:
        n = count_windows(n_samples)
        trace = {"t": t100[:n_samples], "y": y5[:n_samples], **clock}
        shares = {"window_scalar_min": 0.2, "window_scalar_max": 0.33}
        return {
            "autotau": Other("autotau_search", trace | shares | PART, n),
            "scipy": Other("scipy_fits", {"windows": part}, 2 * n),
            "lmfit": Other("lmfit_fits", {"windows": part}, 2 * n),
            "flimlib": Other("flimlib_fits", {"windows": part}, 2 * n),
        }

    def fitted_by_others(n_fits: int) -> dict[str, Other]:
        return {
            "autotau": Other("autotau_cycles", cycles, n_fits),
            "scipy": Other("scipy_fits", {"windows": some}, n_fits),
            "lmfit": Other("lmfit_fits", {"windows": some}, n_fits),
            "flimlib": Other("flimlib_fits", {"windows": some}, n_fits),
        }

    extractor = TauOnOff()
    step = make_step(y100, PERIOD)
    batch = Batch.from_steps([make_step(make_trace(100, i), PERIOD) for i in range(20)])
    theirs = {"t": t100, "y": y100, **clock, "threshold": 0.95}
    fits = {"fits_per_s": (2e6, 5e6), "times_autotau": (5e3, 1e4)}
    n5, n2 = count_windows(500), count_windows(200)
    cases = [
        Case(
            f"exhaustive search, {n5:,} windows",
            search(500), 2 * n5, searched_by_others(500),
            {"times_autotau": (5e4, 1e5), "seconds": (0.5e-3, 0.4e-3)},
        ),
        Case("the same, tables of the lengths kept", search(500, tables), 2 * n5),
        Case(
            f"search of two periods, {n2:,} windows", search(200), 2 * n2, searched_by_others(200)
        ),
        Case("1,000 known windows", known_windows(500), 1_000, fitted_by_others(1_000), fits),
        Case(
            "100,000 known windows", known_windows(50_000), 100_000, fitted_by_others(100_000), fits
        ),
        Case(
            "step of 100 cycles, one call",
            lambda: extractor.extract_step(step), 200,
            {"autotau": Other("autotau_step", theirs, 1, False, 1)},
            {"seconds": (0.5e-3, 0.15e-3)},
        ),
        Case(
            "20 steps of 100 cycles, one batch",
            lambda: extractor.extract_batch(batch, extractor.params), 4_000,
            {"autotau": Other("autotau_step", theirs, 20, True, 1)},
            {"seconds": (20 * 0.5e-3, 20 * 0.15e-3)},
        ),
    ]  # fmt: skip
    if REAL_TRACE.exists():
        t, current = np.loadtxt(REAL_TRACE, delimiter=",", skiprows=1, unpack=True)
        real = make_step(current, 0.2, t)
        # Searching bad cycles again, as it does by default, takes it four minutes.
        spared = {"t": t, "y": -current, "interval": INTERVAL, "period": 0.2, "threshold": 0.0}
        cases.append(
            Case(
                "real step, 163 cycles of 200 samples",
                lambda: extractor.extract_step(real), 326,
                {"autotau": Other("autotau_step", spared, 1, True, 1)},
            )
        )  # fmt: skip
    return cases


def timed(call: Callable[[], Any]) -> float:
    """Return the median CPU time of calls, in s."""
    seconds: list[float] = []
    while sum(seconds) < ROUND_SECONDS or len(seconds) < 3:
        begin = time.process_time()
        call()
        seconds.append(time.process_time() - begin)
    return statistics.median(seconds)


def measure(cases: list[Case], others: tau_others.Others, rounds: int) -> list[dict[str, Any]]:
    """Time all cases with everybody, in turns."""
    for case in cases:
        case.ours()
    ours: list[list[float]] = [[] for _ in cases]
    theirs: list[dict[str, list[float]]] = [{name: [] for name in OTHERS} for _ in cases]
    for turn in range(rounds):
        # The first call of a library imports, compiles and fills caches.
        if turn == 0:
            for arm, arguments in {
                o.arm: o.arguments for c in cases for o in c.others.values() if o.rounds > 1
            }.items():
                others.run(arm, arguments)
        for i, case in enumerate(cases):
            ours[i].append(timed(case.ours))
            for name, other in case.others.items():
                if turn < other.rounds and (done := others.run(other.arm, other.arguments)):
                    theirs[i][name].append(done["seconds"] / done["done"] * other.work)
    return [row(case, ours[i], theirs[i]) for i, case in enumerate(cases)]


def row(case: Case, ours: list[float], theirs: dict[str, list[float]]) -> dict[str, Any]:
    """Sum the rounds of one case up."""
    seconds = statistics.median(ours)
    result: dict[str, Any] = {
        "case": case.name,
        "seconds": seconds,
        "rounds": ours,
        "n_fits": case.n_fits,
        "fits_per_s": case.n_fits / seconds,
        "others": {},
    }
    for name, measured in theirs.items():
        if measured:
            # The ratio of each round first: what slows the machine down slows both.
            ratios = [there / here for there, here in zip(measured, ours, strict=False)]
            result["others"][name] = {
                "seconds": statistics.median(measured),
                "rounds": measured,
                "ratio": statistics.median(ratios),
                "extrapolated": case.others[name].extrapolated,
            }
    autotau = result["others"].get("autotau")
    reached = {
        "seconds": seconds,
        "fits_per_s": result["fits_per_s"],
        "times_autotau": autotau and autotau["ratio"],
    }
    result["targets"] = [
        judge(what, reached[what], *wanted) for what, wanted in case.targets.items()
    ]
    return result


def judge(what: str, got: float | None, least: float, aim: float) -> dict[str, Any]:
    """Compare a number with its target."""
    verdict = "not measured"
    if got is not None:
        sign = -1 if what == "seconds" else 1
        reached = [sign * got >= sign * wanted for wanted in (least, aim)]
        verdict = "aim" if reached[1] else "target" if reached[0] else "missed"
    return {"what": what, "got": got, "target": least, "aim": aim, "reached": verdict}


def agreement(others: tau_others.Others) -> dict[str, float]:
    """Return by how much tau of the same windows differs, relatively, in the median and at most."""
    ours = known_windows(20)()
    y = make_trace(20)
    windows = [y[i * M + b :][:N] for i in range(20) for b in (BEGIN_ON, BEGIN_OFF)]
    result = {}
    for name in ("scipy", "lmfit", "flimlib"):
        if found := others.run(f"{name}_fits", {"windows": windows}):
            away = np.abs(np.reshape(found["tau"], (20, 2)) / ours - 1.0)
            result[name] = float(away.max())
    return result


def short(seconds: float) -> str:
    """Return a time with three digits."""
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * factor >= 1.0 or unit == "µs":
            return f"{seconds * factor:.3g} {unit}"
    raise AssertionError


def with_spread(rounds: list[float]) -> str:
    """Return the median of the rounds, and half of their range where there are several."""
    median = statistics.median(rounds)
    spread = f" ±{50.0 * (max(rounds) - min(rounds)) / median:.0f} %"
    return short(median) + (spread if len(rounds) > 1 else "")


def report(console: Console, rows: list[dict[str, Any]], others: tau_others.Others) -> None:
    """Print the table."""
    table = Table(title="CPU time on one core; ~ extrapolated from a part")
    table.add_column("case")
    for heading in ("oectflow", "fits/s", "instructions"):
        if heading != "instructions" or any("instructions" in one for one in rows):
            table.add_column(heading, justify="right")
    for name in OTHERS:
        table.add_column(f"{name} {others.version(name) or '–'}", justify="right")
    table.add_column("wanted")
    for one in rows:
        cells = [one["case"], with_spread(one["rounds"]), f"{one['fits_per_s'] / 1e6:.2f} M"]
        if any("instructions" in each for each in rows):
            cells.append(f"{one['instructions']:,}" if "instructions" in one else "")
        for name in OTHERS:
            found = one["others"].get(name)
            mark = "~" if found and found["extrapolated"] else ""
            text = f"{mark}{with_spread(found['rounds'])} ({found['ratio']:,.0f}×)" if found else ""
            cells.append(text)
        cells.append(
            ", ".join(f"{t['what']} {t['target']:g}: {t['reached']}" for t in one["targets"])
        )
        table.add_row(*cells)
    console.print(table)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, help="write all numbers here")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer", metavar="PYTHON", help="interpreter that has the others")
    parser.add_argument("--instructions", action="store_true", help="count instructions, too")
    parser.add_argument("--call", help=argparse.SUPPRESS)
    parser.add_argument("--counted-calls", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--times", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rounds < 5:
        parser.error(f"--rounds {options.rounds}: expected at least 5, medians of fewer say little")
    console = Console(width=None if sys.stdout.isatty() else 220)
    cases = make_cases()
    if options.counted_calls:
        tau_instructions.print_counted_calls({case.name: case.ours for case in cases})
        return
    if options.call:
        call = next(case.ours for case in cases if case.name == options.call)
        for _ in range(options.times):
            call()
        return
    if hasattr(os, "sched_setaffinity"):
        # The other interpreter inherits the core; only one of both ever works.
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    others = tau_others.Others(options.peer)
    rows = measure(cases, others, options.rounds)
    same = agreement(others)
    others.close()
    if options.instructions:
        calls = {case.name: case.ours for case in cases}
        counted = tau_instructions.count_instructions(__file__, calls, console)
        for name, count in counted.items():
            next(one for one in rows if one["case"] == name)["instructions"] = count
    report(console, rows, others)
    for name, away in same.items():
        console.print(f"tau of the same windows: at most {away:.1e} from {name}")
    for name in OTHERS:
        if others.version(name) is None:
            console.print(f"{name}: left out, neither this environment nor --peer has it")
    if not REAL_TRACE.exists():
        console.print(f"real step: left out, {REAL_TRACE} is not there")
    if options.json:
        content = {
            "machine": _machine.describe(),
            "others": {name: others.version(name) for name in OTHERS},
            "agreement": same,
            "rows": rows,
        }
        options.json.write_text(json.dumps(content, indent=2))


if __name__ == "__main__":
    main()
