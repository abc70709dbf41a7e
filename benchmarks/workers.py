"""How well 8 to 96 workers are used, and how that compares with one task per experiment.

    python benchmarks/workers.py [--json PATH] [--workers 8 16 32 48 96] [--workloads A B few]
    python benchmarks/workers.py --workloads B --workers 48 96 --batch-seconds 0.25 --dilation 4
    python benchmarks/workers.py --workloads B --workers 96 --disk-rate 2000   (MB/s)
    python benchmarks/workers.py --workloads many --workers 250 1000

The steps sleep as long as the real kernels take, so that a small machine can hold 96 workers: each
has one thread, as in ``of.connect``, but 24 of them share a process.  Everything else is real:
``of.extract``, its planner, window and graphs, the scheduler in its own process, the reading of raw
files, the Parquet files.  The costs are measured here, on the real kernels, before the runs.

A     80 experiments × 5 steps × 9 features, slow steps: the nine features of the bundled set, in
      the proportions measured, such that a step takes 2.4 s (--slow-step).
B     75 experiments × 5,000 steps of 100 cycles, the same nine features and the reading.  A step
      that sleeps stands for ten (--stands-for), so there are 500 in a file.
few   11 experiments × 40 steps as slow as in A: fewer experiments than workers.
many  10,000 experiments (--experiments) × 8 steps of 1 s, one feature: what all of them, and all
      the workers, cost the scheduler and the process that asks for it.

``busy`` is the share of the workers' time, from the first task to the last, in which a task ran;
``useful`` the share in which one slept as prescribed.  ``ideal`` is the prescribed time divided by
the workers, or what the disk needs where that is longer; ``/ideal`` the time from the first task to
the last over it; ``run`` all of ``of.extract``, with the look at every file at the beginning (as it
was; all others are undilated).  ``× by experiment`` is how many times longer the same costs take
with one task per experiment (granularity="experiment").

``first task`` is how long after the call the first task of the run begins; ``client`` the CPU time
of this process, and by how much its memory has grown at most; ``scheduler MB`` by how much that of
the scheduler has; ``kB/graph`` the graph of one experiment, pickled.

A 96-core machine spends the workers' own overhead on 96 cores; here it competes for few.  Where
``machine`` is near 100 % the figures are lower bounds.  --dilation D stretches the prescribed times
and the batches D-fold, which leaves the overhead per batch what it is but spreads it over D times
longer; ``useful at 1:1`` then puts it back: batch / (batch + measured CPU of a worker per task).
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import _machine
import cloudpickle
import psutil
import pyarrow.dataset as ds
from _lab import new_disk, timed_feature, write_copies, write_lab
from _many_workers import ManyWorkers, many_workers
from distributed import get_task_stream

import oectflow as of
from oectflow.pipeline.execution.driving import probe
from oectflow.pipeline.inputs.simulate import simulate_device

NINE = (
    "gm_max_forward", "gm_max_reverse", "Von_forward", "Von_reverse", "absI_max",
    "cycle_peaks", "peak_current", "decay_time", "tau",
)  # fmt: skip
#: With as many workers as this, one task per experiment is measured, too.
COMPARED_FROM = 48


def measure_costs(folder: Path) -> dict[str, float]:
    """Return the seconds per step of each feature, and of reading, on steps of 100 cycles."""
    n_steps = 20
    path = simulate_device(
        0, n_transfer=n_steps, n_transient=n_steps, n_cycles=100, period=0.1
    ).write(folder / "costs.h5")
    experiment = of.Experiment(path)
    extractors = {f.name: f.extractor for f in of.FeatureSet.load("all").extracted}

    def best(call: Any) -> float:
        seconds = []
        for _ in range(7):
            begin = time.process_time()
            call()
            seconds.append(time.process_time() - begin)
        return min(seconds[1:]) / n_steps

    blocks = {s: experiment.batch(s, 0, n_steps) for s in experiment.sources}
    batches = {s: of.Batch(b.arrays, b.offsets, b.values, 0) for s, b in blocks.items()}

    def compute(extractor: of.BaseExtractor) -> None:
        batch = batches[extractor.source]
        if extractor.extract_batch is not None:
            extractor.extract_batch(batch, extractor.params)
        else:
            for i in range(n_steps):
                extractor.extract_step(batch.step(i))

    costs = {name: best(lambda e=extractors[name]: compute(e)) for name in NINE}
    return costs | {
        "reading": sum(
            best(lambda s=source: of.Experiment(path).batch(s, 0, n_steps)) for source in blocks
        )
    }


@dataclass(frozen=True)
class Workload:
    """What runs: files, and a step's time by feature, in s."""

    name: str
    n_experiments: int
    n_steps: int
    costs: dict[str, float]
    spread: float

    @property
    def step_seconds(self) -> float:
        """Mean time of all features of a step."""
        return sum(self.costs.values())


def workloads(real: dict[str, float], options: argparse.Namespace) -> list[Workload]:
    """Return the workloads asked for."""
    kernels = {name: real[name] for name in NINE}
    slow = {
        name: cost * options.slow_step / sum(kernels.values()) for name, cost in kernels.items()
    }
    fast = {name: cost * options.stands_for for name, cost in real.items()}
    known = [
        # Slow steps do not all take the same time: a standard deviation of 30 %.
        Workload("A", 80, 5, slow, 0.3),
        Workload("B", 75, 5_000 // options.stands_for, fast, 0.0),
        Workload("few", 11, 40, slow, 0.3),
        Workload("many", options.experiments, 8, {"slow": 1.0}, 0.0),
    ]
    return [one for one in known if one.name in options.workloads]


def believe_in_workers() -> None:
    """Let whatever measures how much the workers can do together find that each has a core.

    Workers that share a core cannot compute at the same time, but they can sleep.
    """

    def sleep_and_believe(seconds: float) -> float:
        time.sleep(seconds)
        return 1.0

    if not hasattr(probe, "_share_of_core"):
        raise SystemExit("probe._share_of_core has another name: adapt benchmarks/workers.py")
    probe._share_of_core = sleep_and_believe


def run(
    cluster: ManyWorkers, raw: Path, out: Path, features: dict[str, Any], granularity: Any
) -> dict[str, Any]:
    """Run once, and return what the scheduler and the processes say about it."""
    pids = [os.getpid(), cluster.scheduler_pid, *cluster.worker_pids]
    before = _machine.cpu_seconds(pids)
    psutil.cpu_percent()
    with get_task_stream(client=cluster.client) as stream:
        begin = time.time()
        with _machine.most_memory(pids[:2]) as most:
            report = of.extract(
                raw, features, out, client=cluster.client, granularity=granularity, progress=False
            )
        after = _machine.cpu_seconds(before)
        machine = psutil.cpu_percent()
    if not report.ok:
        raise SystemExit(str(report))
    spans = [
        (span["start"], span["stop"])
        for task in stream.data
        for span in task["startstops"]
        if span["action"] == "compute"
    ]
    first = sorted(raw.glob("*.h5"))[0]
    with tempfile.TemporaryDirectory() as empty:
        plan = of.plan(first, features, empty, client=cluster.client, granularity=granularity)
        graph = len(cloudpickle.dumps(dict(plan.dask_graph(first.stem).__dask_graph__())))
    names = list(features)
    table = ds.dataset(sorted(out.glob("*.parquet"))).to_table(columns=names)
    return {
        "run_s": report.seconds,
        "makespan_s": max(stop for _, stop in spans) - min(start for start, _ in spans),
        "task_s": sum(stop - start for start, stop in spans),
        "prescribed_s": sum(float(table[name].to_numpy().sum()) for name in names),
        "n_tasks": len(spans),
        "first_task_s": min(start for start, _ in spans) - begin,
        "client_cpu_s": after[pids[0]] - before[pids[0]],
        "graph_bytes": graph,
        "client_bytes": most[pids[0]],
        "scheduler_bytes": most[cluster.scheduler_pid],
        "scheduler_cpu_s": after[cluster.scheduler_pid] - before[cluster.scheduler_pid],
        "worker_cpu_s": sum(after[pid] - before[pid] for pid in cluster.worker_pids),
        "machine_percent": machine,
        "explain": report.explain(),
    }


def row(load: Workload, n: int, got: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of one run."""
    dilation = options.dilation
    disk = 0.0
    if options.disk_rate:
        n_bytes = load.n_experiments * load.n_steps * options.stands_for * options.bytes_per_step
        disk = n_bytes / (1e6 * options.disk_rate) * dilation
    useful = got["prescribed_s"] / n
    ideal = max(useful, disk)
    # Real workers have their own cores for this, and the batches are D times shorter there.
    overhead = got["worker_cpu_s"] / got["n_tasks"]
    batch = got["prescribed_s"] / got["n_tasks"] / dilation
    return {
        "workload": load.name,
        "workers": n,
        "tasks": got["n_tasks"],
        "ideal s": ideal / dilation,
        "/ideal": got["makespan_s"] / ideal,
        "busy %": 100 * got["task_s"] / (n * got["makespan_s"]),
        "useful %": 100 * useful / got["makespan_s"],
        "useful at 1:1 %": 100 * useful / got["makespan_s"] * batch / (batch + overhead)
        if dilation > 1
        else None,
        "run s": got["run_s"],
        "ms CPU/task": 1e3 * overhead,
        "first task s": got["first_task_s"],
        "client CPU s": got["client_cpu_s"],
        "client MB": got["client_bytes"] / 1e6,
        "kB/graph": got["graph_bytes"] / 1e3,
        "scheduler MB": got["scheduler_bytes"] / 1e6,
        "µs sched./task": 1e6 * got["scheduler_cpu_s"] / got["n_tasks"],
        "scheduler %": 100 * dilation * got["scheduler_cpu_s"] / got["makespan_s"],
        "machine %": got["machine_percent"],
        "raw": got,
    }


def measure(options: argparse.Namespace, folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Run all workloads on all numbers of workers."""
    real = measure_costs(folder)
    if options.step_seconds:
        factor = options.step_seconds / sum(real.values())
        real = {name: cost * factor for name, cost in real.items()}
    notes = ["µs per step of 100 cycles, measured: " + ", ".join(
        f"{name} {1e6 * cost:.3g}" for name, cost in real.items()
    )]  # fmt: skip
    rows = []
    small = write_lab(folder / "small", 4, 100)
    for load in workloads(real, options):
        write = write_copies if load.name == "many" else write_lab
        raw = write(folder / load.name, load.n_experiments, load.n_steps)
        for n in options.workers:
            with many_workers(n, options.processes) as cluster:
                # The first tasks of a process import what they need.
                warm_up = {"f": timed_feature("sleep", 0.01)}
                of.extract(
                    small, warm_up, folder / f"small-{load.name}-{n}", client=cluster.client,
                    granularity="step", progress=False,
                )  # fmt: skip
                extra = {}
                if options.disk_rate:
                    disk = new_disk(folder / f"disk-{load.name}-{n}")
                    rate = 1e6 * options.disk_rate / options.dilation
                    extra = {"disk": disk, "rate": rate, "n_bytes": options.bytes_per_step}
                    extra["n_bytes"] *= options.stands_for
                features = {
                    name: timed_feature(
                        "sleep",
                        cost * options.dilation,
                        spread=load.spread,
                        **(extra if name == "reading" else {}),
                    )
                    for name, cost in load.costs.items()
                }
                steps = max(1, round((options.batch_seconds or 0) / load.step_seconds))
                by_plan = steps if options.batch_seconds else "auto"
                first = run(cluster, raw, folder / f"{load.name}-{n}", features, by_plan)
                rows.append(row(load, n, first, options))
                if n >= COMPARED_FROM and not options.batch_seconds and load.name != "many":
                    coarse = run(
                        cluster, raw, folder / f"{load.name}-{n}-e", features, "experiment"
                    )
                    rows[-1]["× by experiment"] = coarse["makespan_s"] / first["makespan_s"]
                    rows[-1]["raw by experiment"] = coarse
            shown = {k: v for k, v in rows[-1].items() if not k.startswith("raw")}
            print({k: round(v, 3) if isinstance(v, float) else v for k, v in shown.items()})
    return rows, notes


def main() -> None:
    """Run the benchmark."""
    parser = _machine.parser(__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[8, 16, 32, 48, 96])
    parser.add_argument(
        "--workloads", nargs="+", choices=("A", "B", "few", "many"), default=["A", "B"]
    )
    parser.add_argument("--processes", type=int, default=4, help="processes of the workers")
    parser.add_argument("--experiments", type=int, default=10_000, help="of many")
    parser.add_argument("--slow-step", type=float, default=2.4, help="s per step of A; default 2.4")
    parser.add_argument("--stands-for", type=int, default=10, help="real steps per step of B")
    parser.add_argument("--step-seconds", type=float, help="s per real step of B, not measured")
    parser.add_argument("--batch-seconds", type=float, help="length of a batch, not by the planner")
    parser.add_argument("--dilation", type=float, default=1.0, help="needs --batch-seconds")
    parser.add_argument("--disk-rate", type=float, help="MB/s of the disk that all read from")
    parser.add_argument(
        "--bytes-per-step", type=float, default=80e3, help="of a real step on disk; default 80e3"
    )
    options = parser.parse_args()
    if options.dilation != 1 and not options.batch_seconds:
        parser.error("--dilation changes what the planner sees: also give --batch-seconds")
    about = _machine.describe()
    _machine.check_load(abort=False)
    believe_in_workers()
    with tempfile.TemporaryDirectory() as folder:
        rows, notes = measure(options, Path(folder))
    _machine.report(
        "Workers that sleep as long as the kernels take", rows, options.json,
        hidden=("raw", "raw by experiment"), notes=notes, machine=about,
    )  # fmt: skip


if __name__ == "__main__":
    main()
