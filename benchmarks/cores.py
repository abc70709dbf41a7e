"""Whether workers are busy from the first second to the last, and what Dask costs them.

    python benchmarks/cores.py [--json PATH] [--workers 2] [--parts slow real]
    python benchmarks/cores.py --parts real --experiments 8 --steps 4688   (a tenth of workload B)

slow  80 experiments × 5 steps with an extractor that computes for 50 ms per step (it spins for so
      much CPU time).  Every second in which the workers compute: CPU seconds per second, of the run
      (workers, scheduler and this process) and of the workers alone.  Wanted: the run uses at least
      0.95 core per worker, also in the first and in the last whole second.  On a machine with as
      many cores as workers these share them with the scheduler, so they have less; where others use
      the machine this says more about them.

real  Workload B scaled down (--experiments × --steps of 100 cycles, the files of headline.py, the
      bundled features, real kernels, real reading and writing) through a cluster.  Beside it, in
      turns, as many processes as workers, side by side, each with its share of the files and
      without Dask: they share the cores, the caches and the memory as workers do.  Overhead is all
      CPU time of the run (workers, scheduler and this process) beyond theirs, as a share of the
      workers'; imports are counted nowhere.  The median of --rounds.  Wanted: at most 5 %.
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
from headline_data import Size, make_data

import oectflow as of

SPIN_S = 0.05
WANTED_CORES, WANTED_OVERHEAD = 0.95, 0.05
#: Computes alone once it reads a line; prints its CPU time in s.
_ALONE = """
import sys, time
import oectflow as of
import dask
from pathlib import Path
from oectflow.extractors.warm import warm_up

small, out, *raw = map(Path, sys.argv[1:])
warm_up()
dask.config.set(num_workers=1)
of.extract(small, "all", out / "small", progress=False)
print("ready", flush=True)
sys.stdin.readline()
before = time.process_time()
report = of.extract(raw, "all", out / "real", progress=False)
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


def side_by_side(small: Path, paths: list[Path], out: Path, n: int) -> tuple[float, float]:
    """Compute files in ``n`` processes without Dask; return their CPU time and the wall time, s."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _ALONE, small, out / str(i), *paths[i::n]],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for i in range(n)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    begin = time.perf_counter()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    cpu = sum(float(process.communicate()[0]) for process in processes)
    if any(process.returncode for process in processes):
        sys.exit("a process without Dask failed")
    return cpu, time.perf_counter() - begin


def real_kernels(client: Client, folder: Path, n: int, n_steps: int, rounds: int) -> dict[str, Any]:
    """Compare the CPU time of a cluster with that of as many processes without."""
    n_workers = sum(client.nthreads().values())
    small = make_data(folder / "small", Size(2, 100), n_workers)[0].parent
    paths = make_data(folder / "real", Size(n, n_steps), n_workers)
    of.extract(small, "all", folder / "small-out", client=client, progress=False)
    alone, through = [], []
    for turn in range(rounds):
        cpu, seconds = side_by_side(small, paths, folder / f"alone-{turn}", n_workers)
        alone.append({"cpu": cpu, "seconds": seconds})
        before = cpu_by_role()
        report = of.extract(paths, "all", folder / f"out-{turn}", client=client, progress=False)
        after = cpu_by_role()
        if not report.ok:
            sys.exit(str(report))
        through.append({r: after[r] - before[r] for r in after} | {"seconds": report.seconds})
    shares = [
        (sum(one[role] for role in before) - other["cpu"]) / one["workers"]
        for one, other in zip(through, alone, strict=True)
    ]
    return {
        "part": "real",
        "run s": statistics.median(one["seconds"] for one in through),
        "side by side s": statistics.median(one["seconds"] for one in alone),
        **{f"{role} CPU s": statistics.median(one[role] for one in through) for role in before},
        "side by side CPU s": statistics.median(one["cpu"] for one in alone),
        "overhead %": 100 * statistics.median(shares),
        "wanted": f"≤ {100 * WANTED_OVERHEAD:g} %",
        "rounds": {"cluster": through, "side by side": alone, "overhead": shares},
        "explain": report.explain(),
    }


def main() -> None:
    """Run the benchmark."""
    parser = _machine.parser(__doc__)
    parser.add_argument("--parts", nargs="+", choices=("slow", "real"), default=["slow", "real"])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--experiments", type=int, default=10, help="of the part real")
    parser.add_argument("--steps", type=int, default=500, help="of the part real")
    parser.add_argument("--rounds", type=int, default=5)
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
