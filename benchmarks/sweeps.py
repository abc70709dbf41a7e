"""Time the features of transfer sweeps, beside those of another checkout.

    python benchmarks/sweeps.py [--json PATH] [--against ../old/src] [--rounds 15]

``--against`` takes the import root of another state of this software (``git worktree add``).  Each
state runs in a process of its own; in every round both compute the same sweeps once, in random
order, so that whatever else the machine does meets both.  A number is CPU time per sweep, the
median over the rounds; a ratio is the median of the ratios of one round.  The currents are
others in every measurement, as in a run: what features share is computed once per batch.  All
figures of transfer sweeps in the set ``figures_of_merit`` are timed together, and splitting and
judging the sweeps alone, which is part of it.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _machine
import numpy as np

HERE = Path(__file__).resolve().parent
#: The twelve features of sweeps in the bundled ``all.yaml``.
FEATURES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("gm_max", {"direction": "forward"}),
    ("gm_max", {"direction": "reverse"}),
    ("Von", {"direction": "forward", "device_type": "N"}),
    ("Von", {"direction": "reverse", "device_type": "N"}),
    ("absI_max", {}),
    ("gm_max_coords", {"direction": "forward"}),
    ("Von_coords", {"direction": "forward", "device_type": "N"}),
    ("on_off_ratio", {"direction": "forward"}),
    ("Vth", {"direction": "forward"}),
    ("Vth", {"direction": "reverse"}),
    ("subthreshold_swing", {"direction": "forward", "device_type": "N"}),
    ("hysteresis", {}),
)
#: What is measured beside single features: the twelve, all figures of merit, judging alone.
ALL, FIGURES_ALL, JUDGING = -1, -2, -3
_FIGURES = "figures_of_merit"
_SAMPLE = {"W": 1e-4, "L": 1e-5, "d": 1e-7, "Vd": 0.6}
N_SWEEPS = 300
#: Points of a sweep there and back, and noise as a share of the swing and of the current.
CASES = {
    "121 points, quiet": (121, 1e-6, 1e-4),
    "121 points, noisy": (121, 1e-3, 1e-2),
    "1001 points, quiet": (1001, 1e-6, 1e-4),
    "31 points, quiet": (31, 1e-6, 1e-4),
}


def sweeps_of(n_points: int, floor: float, share: float) -> list[dict[str, np.ndarray]]:
    """Return sweeps there and back of devices that differ."""
    rng = np.random.default_rng(3)
    there = np.linspace(-0.2, 0.8, n_points // 2 + 1)
    vg = np.concatenate([there, there[-2::-1]])
    steps = []
    for _ in range(N_SWEEPS):
        onset, width = rng.uniform(0.0, 0.5), rng.uniform(0.03, 0.06)
        shift = np.where(np.arange(vg.size) < there.size, 0.0, 0.03)
        current = width * np.logaddexp(0.0, (vg - shift - onset) / width) + 1e-4
        noise = rng.standard_normal((2, vg.size))
        current = current * (1.0 + share * noise[0]) + floor * noise[1]
        steps.append({"Vg": vg, "Id": 1e-3 * current})
    return steps


def answer() -> None:
    """Measure what the lines of the standard input ask for: a feature, or all, of a case."""
    from oectflow import FeatureSet
    from oectflow.extractors.base import get_extractor

    # Older states have it elsewhere.
    from oectflow.extractors.transfer import Batch, branches_of
    from oectflow.pipeline.features.config import list_bundled

    batches = {name: Batch.from_steps(sweeps_of(*case)) for name, case in CASES.items()}
    figures = []
    if _FIGURES in list_bundled():
        chosen = FeatureSet.load(_FIGURES).extracted
        figures = [f.extractor for f in chosen if f.extractor and f.extractor.source == "transfer"]
    extractors = [get_extractor(f"transfer.{name}", params) for name, params in FEATURES]

    count = itertools.count()

    def measure(case: str, which: int) -> float:
        kept = batches[case]
        arrays = {name: array.copy() for name, array in kept.arrays.items()}
        arrays["Id"] *= 1.0 + 1e-9 * next(count)
        batch = Batch(arrays, kept.offsets, kept.values, sample=_SAMPLE)
        chosen = {ALL: extractors, FIGURES_ALL: figures, JUDGING: []}.get(which)
        if chosen is None:
            chosen = [extractors[which]]
        start = time.process_time()
        if which == JUDGING:
            branches_of(batch)
        for extractor in chosen:
            extractor.extract_batch(batch, extractor.params)  # type: ignore[misc]
        return (time.process_time() - start) / N_SWEEPS

    for case in CASES:
        measure(case, ALL)
        measure(case, FIGURES_ALL)
    for line in sys.stdin:
        print(measure(*json.loads(line)), flush=True)


class State:
    """One state of the software, in a process of its own."""

    def __init__(self, root: str | None) -> None:
        environment = dict(os.environ)
        if root:
            environment["PYTHONPATH"] = root
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "sweeps.py"), "--answer"],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def measure(self, case: str, which: int) -> float:
        """Return seconds of CPU per sweep."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps([case, which]), file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())


def compare(states: dict[str, State], ask: Callable[[State], float], rounds: int) -> dict[str, Any]:
    """Let all states do the same in every round."""
    rng = np.random.default_rng(0)
    times: dict[str, list[float]] = {name: [] for name in states}
    for _ in range(rounds):
        for name in rng.permutation(list(states)):
            times[name].append(ask(states[name]))
    found: dict[str, Any] = {
        f"{name} (µs)": 1e6 * statistics.median(seconds) for name, seconds in times.items()
    }
    if len(times) > 1:
        one, other = times.values()
        found["ratio"] = statistics.median(a / b for a, b in zip(one, other, strict=True))
    return found


def main() -> None:
    """Measure and print."""
    parser = _machine.parser(__doc__)
    parser.add_argument("--against", metavar="SRC", help="import root of another checkout")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--answer", action="store_true", help="used by this program itself")
    arguments = parser.parse_args()
    if arguments.answer:
        answer()
        return
    machine = _machine.describe()
    states = {"this": State(None)}
    if arguments.against:
        states["other"] = State(arguments.against)
    rows = []
    for case in CASES:
        for what, which in (("all twelve", ALL), (_FIGURES, FIGURES_ALL), ("judging", JUDGING)):
            found = compare(
                states, lambda state, c=case, k=which: state.measure(c, k), arguments.rounds
            )
            rows.append({"what": f"{what}, {case}"} | found)
    case = next(iter(CASES))
    for which, (name, params) in enumerate(FEATURES):
        found = compare(states, lambda state, k=which: state.measure(case, k), arguments.rounds)
        direction = params.get("direction", "")
        rows.append({"what": f"{name} {direction} alone".replace("  ", " ")} | found)
    for state in states.values():
        assert state.process.stdin is not None
        state.process.stdin.close()
        state.process.wait()
    _machine.report(
        "Features of transfer sweeps, CPU per sweep", rows, arguments.json, (), (), machine
    )


if __name__ == "__main__":
    main()
