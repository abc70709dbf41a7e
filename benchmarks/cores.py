"""Whether workers are busy from the first second to the last, and what Dask costs them.

    python benchmarks/cores.py [--json PATH] [--workers 2] [--parts slow real]

slow  80 experiments × 5 steps with an extractor that computes for 50 ms per step (it spins for so
      much CPU time).  Every second in which the workers compute: CPU seconds per second, of the run
      (workers, scheduler and this process) and of the workers alone.  Wanted: the run uses at least
      0.95 core per worker, also in the first and in the last whole second.  On a machine with as
      many cores as workers these share them with the scheduler, so they have less; where others use
      the machine this says more about them.

real  Workload B scaled down (--experiments × --steps, 100 cycles, the bundled features, real
      kernels, real reading and writing) through a cluster, beside the same ``of.extract`` alone in
      a process without one.  Overhead is all CPU time of workers and scheduler beyond that of the
      process alone, as a share of the workers' CPU time; its own start and imports are counted
      nowhere.  CPU time, so a busy machine disturbs little; in turns, the median of --rounds.
      Wanted: at most 5 %.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import _machine
from _lab import timed_feature, write_lab
from distributed import Client

import oectflow as of
from oectflow.pipeline.inputs.simulate import simulate_device

SPIN_S = 0.05
WANTED_CORES, WANTED_OVERHEAD = 0.95, 0.05
_ALONE = """
import sys, time
import oectflow as of
import dask
from oectflow.extractors.warm import warm_up

small, raw, out = sys.argv[1:]
warm_up()
dask.config.set(num_workers=1)
of.extract(small, "all", out + "-small", progress=False)
before = time.process_time()
report = of.extract(raw, "all", out, progress=False)
print(time.process_time() - before)
sys.exit(not report.ok)
"""


def cpu_by_role() -> dict[str, float]:
    """Return the CPU time of scheduler and workers of this process' cluster, in s."""
    roles = _machine.processes_of(os.getpid())
    return {
        role: sum(_machine.cpu_seconds(p.pid for p in processes).values())
        for role, processes in roles.items()
    }


def slow_steps(client: Client, folder: Path, n_workers: int) -> dict[str, Any]:
    """Sample the workers' CPU time while steps of 50 ms are computed."""
    raw = write_lab(folder / "slow", 80, 5)
    samples: list[tuple[float, float, float]] = []
    over = threading.Event()

    def sample() -> None:
        while not over.is_set():
            cpu = cpu_by_role()
            samples.append((time.perf_counter(), cpu["workers"], sum(cpu.values())))
            over.wait(0.1)

    features = {"slow": timed_feature("spin", SPIN_S)}
    sampler = threading.Thread(target=sample)
    sampler.start()
    report = of.extract(raw, features, folder / "slow-out", client=client, progress=False)
    over.set()
    sampler.join()
    if not report.ok:
        sys.exit(str(report))
    # The run begins with a look at every file, and ends with the client's own bookkeeping; the
    # workers' first and last second are those in which they compute.
    used = samples[-1][1] - samples[0][1]
    first = next(i for i, s in enumerate(samples) if s[1] - samples[0][1] > 0.005 * used)
    last = next(i for i, s in enumerate(samples) if s[1] - samples[0][1] > 0.995 * used)
    before = samples[first][0] - samples[0][0]
    samples = samples[first : last + 1]
    begin, end = samples[0][0], samples[-1][0]
    cores = []
    for second in range(max(1, int(end - begin))):
        inside = [s for s in samples if second <= s[0] - begin <= second + 1]
        cores.append((inside[-1][2] - inside[0][2]) / (inside[-1][0] - inside[0][0]))
    return {
        "part": "slow",
        "run s": report.seconds,
        "ideal s": 80 * 5 * SPIN_S / n_workers,
        "cores, mean": (samples[-1][2] - samples[0][2]) / (end - begin),
        "of workers": (samples[-1][1] - samples[0][1]) / (end - begin),
        "s before": before,
        "first second": cores[0],
        "last second": cores[-1],
        "least": min(cores),
        "wanted": f"≥ {WANTED_CORES * n_workers:g} cores",
        "cores by second": cores,
        "explain": report.explain(),
    }


def real_kernels(client: Client, folder: Path, n: int, n_steps: int, rounds: int) -> dict[str, Any]:
    """Compare the CPU time of a cluster with that of one process without."""
    for name, count in (("small", 2), ("real", n)):
        for i in range(count):
            (folder / name).mkdir(exist_ok=True)
            simulate_device(
                i, n_transfer=n_steps, n_transient=n_steps, n_cycles=100, period=0.1
            ).write(folder / name / f"{i}.h5")
    of.extract(folder / "small", "all", folder / "small-out", client=client, progress=False)
    workers, schedulers, alone, seconds = [], [], [], []
    for turn in range(rounds):
        out = folder / f"alone-{turn}"
        done = subprocess.run(
            [sys.executable, "-c", _ALONE, folder / "small", folder / "real", out],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        alone.append(float(done.stdout))
        before = cpu_by_role()
        report = of.extract(
            folder / "real", "all", folder / f"out-{turn}", client=client, progress=False
        )
        after = cpu_by_role()
        if not report.ok:
            sys.exit(str(report))
        workers.append(after["workers"] - before["workers"])
        schedulers.append(after["scheduler"] - before["scheduler"])
        seconds.append(report.seconds)
    shares = [(w + s - a) / w for w, s, a in zip(workers, schedulers, alone, strict=True)]
    return {
        "part": "real",
        "run s": statistics.median(seconds),
        "workers CPU s": statistics.median(workers),
        "scheduler CPU s": statistics.median(schedulers),
        "alone CPU s": statistics.median(alone),
        "overhead %": 100 * statistics.median(shares),
        "wanted": f"≤ {100 * WANTED_OVERHEAD:g} %",
        "rounds": {"workers": workers, "scheduler": schedulers, "alone": alone},
        "explain": report.explain(),
    }


def main() -> None:
    """Run the benchmark."""
    parser = _machine.parser(__doc__)
    parser.add_argument("--parts", nargs="+", choices=("slow", "real"), default=["slow", "real"])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--experiments", type=int, default=10, help="of the part real")
    parser.add_argument("--steps", type=int, default=500, help="of the part real")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    about = _machine.describe()
    _machine.check_load(abort=False)
    rows = []
    with (
        tempfile.TemporaryDirectory() as temporary,
        of.connect("local", n_workers=options.workers, dashboard_port=0) as client,
    ):
        folder = Path(temporary)
        if "slow" in options.parts:
            rows.append(slow_steps(client, folder, options.workers))
        if "real" in options.parts:
            rows.append(
                real_kernels(client, folder, options.experiments, options.steps, options.rounds)
            )
    _machine.report(
        f"{options.workers} workers on this machine", rows, options.json,
        hidden=("cores by second", "rounds", "explain"), machine=about,
    )  # fmt: skip


if __name__ == "__main__":
    main()
