"""What ``oectflow watch`` does in six hours, and how long a finished step waits for its row.

    python benchmarks/watch.py [--appends 1000] [--folders 200] [--kills 5] [--hours 6]
                               [--steps 40] [--json PATH]

First the simulation of the tests in full: running tests grow, folders come, one change in ten is
told to nobody, the watcher dies again and again; its clock is set by hand, all else is real.  Said
are steps that are missing and steps that were computed more than once, both of which must be none,
and the memory of the process along the way.

Then ``oectflow watch`` as a process of its own: a test gets one step after the other, and the clock
runs from the moment in which the instrument has described a step until its row is in the result.
The set is ``v2_transfer_basic``; the clock's seconds hold the half second for which files settle.
"""

from __future__ import annotations

import argparse
import gc
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pyarrow.parquet as pq
from _machine import check_load, describe, parser, report

# Ours, whatever else an environment has installed under this name.
sys.modules["tests"] = ModuleType("tests")
sys.modules["tests"].__path__ = [str(Path(__file__).resolve().parents[1] / "tests")]

from tests.pipeline.watching.lab import RunningTest  # noqa: E402
from tests.pipeline.watching.simulation import Laboratory  # noqa: E402

#: A row that is not there after so long never comes, in s.
PATIENCE = 120.0


def resident() -> float:
    """Return the memory of this process in MiB, without what only waits to be collected."""
    gc.collect()
    return psutil.Process().memory_info().rss / 2**20


def simulate(where: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Play the six hours."""
    begin = time.perf_counter()
    laboratory = Laboratory(
        where, arguments.appends, arguments.folders, arguments.kills, arguments.hours,
        measure=resident,
    )  # fmt: skip
    outcome = laboratory.run()
    return {
        "appends": outcome.n_appends,
        "folders": outcome.n_folders,
        "kills": outcome.n_kills,
        "hours": outcome.hours,
        "experiments": len(outcome.expected),
        "steps": sum(outcome.expected.values()),
        "steps_missing": sum(outcome.missing.values()),
        "steps_computed_twice": len(outcome.twice),
        "memory_mib": [round(one, 1) for one in outcome.memory],
        "seconds": time.perf_counter() - begin,
    }


def wait_for_row(result: Path, n: int) -> None:
    """Return when a result has so many rows."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if result.exists() and pq.read_metadata(result).num_rows >= n:
            return
        time.sleep(0.005)
    sys.exit(f"{result}: no row {n} after {PATIENCE:g} s")


def latency(where: Path, n_steps: int) -> dict[str, Any]:
    """Measure how long steps wait for their rows, in s."""
    lab, out = where / "lab", where / "features"
    lab.mkdir(parents=True)
    words = ["oectflow", "watch", str(lab), str(where / "raw"), str(out)]
    words += ["-f", "v2_transfer_basic", "-q"]
    code = f"import sys; sys.argv = {words!r}; from oectflow.pipeline.cli import main; main()"
    watcher = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    try:
        # Kernels are loaded by a test that is not measured.
        first = RunningTest(lab / "first")
        first.add_step()
        wait_for_row(out / "first.parquet", 1)
        test = RunningTest(lab / "measured")
        waits = []
        for n in range(1, n_steps + 1):
            test.add_step()
            begin = time.perf_counter()
            wait_for_row(out / "measured.parquet", n)
            waits.append(time.perf_counter() - begin)
        memory = psutil.Process(watcher.pid).memory_info().rss / 2**20
    finally:
        watcher.send_signal(signal.SIGTERM)
        watcher.wait()
    return {
        "steps": n_steps,
        "median_s": statistics.median(waits),
        "longest_s": max(waits),
        "memory_mib": memory,
    }


def main() -> None:
    """Run both parts, and print what was found."""
    options = parser(__doc__)
    options.add_argument("--appends", type=int, default=1000)
    options.add_argument("--folders", type=int, default=200)
    options.add_argument("--kills", type=int, default=5)
    options.add_argument("--hours", type=float, default=6.0)
    options.add_argument("--steps", type=int, default=40)
    arguments = options.parse_args()
    machine = describe()
    check_load(abort=False)
    with tempfile.TemporaryDirectory() as folder:
        waited = latency(Path(folder) / "latency", arguments.steps)
        played = simulate(Path(folder) / "simulated", arguments)
    memory = ", ".join(f"{one:.0f}" for one in played["memory_mib"])
    report(
        "oectflow watch", [{"part": "latency", **waited}, {"part": "simulated", **played}],
        arguments.json, ["memory_mib"],
        [f"memory of the simulation along the way: {memory} MiB"], machine,
    )  # fmt: skip
    sys.exit(1 if played["steps_missing"] or played["steps_computed_twice"] else 0)


if __name__ == "__main__":
    main()
