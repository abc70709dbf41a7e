"""Time ``of.extract`` on weeks of measurements beside plain reading of what it needs.

    python benchmarks/headline.py [--scale 0.01] [--json PATH] [--workers N] [--keep]
                                  [--folder FOLDER] [--rounds 1] [--peer PYTHON]

Scale 1 is 75 experiments of 5,000 transient steps of 100 gate cycles: 375,000 steps, 3.75e9
samples, 26 GB on disk (see ``headline_data.py``; made once, and removed unless ``--keep``).  In one
run, with the same number of processes, after all files have been read once:

(a) h5py reads and decompresses what the features need, the recorded times and the current, and
    beside it the current alone;
(b) ``of.extract`` computes ``transient.tau_on_off``: all windows, all cycles;
(c) the same with all transient features but models of a phase (``models.py``);
(d) ``of.repack`` of all files, and (b) of the new ones, where ``hdf5plugin`` is installed;
(e) autotau, as today's scripts call it, on one step, extrapolated; from the interpreter PYTHON.

Beside the seconds: where the workers' time went in (b), peak memory (PSS) of the client and of
everything else, and tau of 1,000 cycles beside ``scipy.optimize.least_squares``.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import _machine
import h5py
import headline_data as data
import numpy as np
import pyarrow.parquet as pq
import tau_others
from headline_meters import PeakMemory, Shares, cpu_seconds
from rich.console import Console
from rich.table import Table
from scipy.optimize import least_squares

import oectflow as of

A = "a: h5py, times and current"
#: Timed in ``models.py``: they fit as much in a step as all others in a hundred.
MODELS = (
    "transient.two_exponentials",
    "transient.stretched_exponential",
    "transient.relaxation",
)
TAU = {"tau": {"extractor": "transient.tau_on_off", "input": "transient"}}
#: Steps that plain reading takes at a time: 8 MB per row.
READ_STEPS = 100
CHECKED = 1_000


def all_features() -> dict[str, Any]:
    """Return a configuration with every transient extractor but those of :data:`MODELS`."""
    names = [name for name in of.extractor_names() if name.startswith("transient.")]
    names = [name for name in names if name not in MODELS]
    return {n.partition(".")[2]: {"extractor": n, "input": "transient"} for n in names}


def read_plainly(path: Path, rows: tuple[int, ...]) -> int:
    """Read rows of all steps with h5py and return the number of samples."""
    n_samples = 0
    with h5py.File(path) as file:
        dataset = file["transient/measurement_data"]
        step = READ_STEPS * data.SAMPLES
        for first in range(0, dataset.shape[1], step):
            for row in rows:
                n_samples += dataset[row, first : first + step].size
    return n_samples


def read_bytes(path: Path) -> None:
    """Bring a file into the page cache."""
    with path.open("rb") as file:
        while file.read(2**22):
            pass


def time_reading(pool: ProcessPoolExecutor, paths: list[Path], rows: tuple[int, ...]) -> float:
    """Return the wall time of reading rows of all files, one file per process at a time."""
    begin = time.perf_counter()
    jobs = [pool.submit(read_plainly, path, rows) for path in paths]
    for job in jobs:
        job.result()
    return time.perf_counter() - begin


def time_extraction(paths: list[Path], features: dict[str, Any], out: Path, client: Any) -> float:
    """Return the wall time of a run into an empty folder."""
    shutil.rmtree(out, ignore_errors=True)
    begin = time.perf_counter()
    report = of.extract(paths, features, out, client=client, progress=False)
    seconds = time.perf_counter() - begin
    if not report.ok:
        raise SystemExit(report.summary())
    return seconds


def away_from_scipy(paths: list[Path], out: Path) -> dict[str, float]:
    """Fit some cycles again with SciPy, in the same windows, and return the largest differences.

    SciPy sees the cost of n samples with a rounding of about n eps, and the cost of n - 3 degrees
    of freedom grows by the share 1 / (n - 3) where tau is one standard error off: it cannot tell
    taus apart that are nearer than sqrt(n eps (n - 3)) standard errors, 5e-7 for 33 samples.  The
    kernels promise tau within 1e-9 of itself.  Both together are the limit.
    """
    rng = np.random.default_rng(0)
    worst = {"standard_errors": 0.0, "relative": 0.0, "of_limit": 0.0}
    n_checked = 0
    while n_checked < CHECKED:
        path = paths[rng.integers(len(paths))]
        with h5py.File(path) as file:
            dataset = file["transient/measurement_data"]
            step = int(rng.integers(dataset.shape[1] // data.SAMPLES))
            current = dataset[2, step * data.SAMPLES : (step + 1) * data.SAMPLES]
            test_id = str(file.attrs["test_id"])
        row = pq.read_table(out / f"{test_id}.parquet").slice(step, 1).to_pylist()[0]
        for phase, sign in (("on", -1.0), ("off", 1.0)):
            for cycle in rng.integers(data.CYCLES, size=20):
                if row[f"tau_status_{phase}"][cycle] != "ok":
                    continue
                tau, error, begin, length = (
                    row[f"tau_{name}{phase}"][cycle]
                    for name in ("", "stderr_", "window_start_", "window_duration_")
                )
                n = round(length / data.INTERVAL)
                first = round(begin / data.INTERVAL)
                away = abs(refit(current[first : first + n], sign, tau) - tau)
                worst["standard_errors"] = max(worst["standard_errors"], away / error)
                worst["relative"] = max(worst["relative"], away / tau)
                limit = np.sqrt(n * np.finfo(float).eps * (n - 3)) * error + 1e-9 * tau
                worst["of_limit"] = max(worst["of_limit"], float(away / limit))
                n_checked += 1
    return worst | {"n_checked": n_checked}


def refit(window: np.ndarray, sign: float, tau: float) -> float:
    """Return tau of one window by SciPy, started well away from the answer."""
    t = np.arange(window.size) * data.INTERVAL
    y = (window - window.mean()) / np.ptp(window)
    y *= np.sign(sign * (y[0] - y[-1]))

    def residuals(p: np.ndarray) -> np.ndarray:
        return sign * p[0] * np.exp(-t / p[1]) + p[2] - y

    def jacobian(p: np.ndarray) -> np.ndarray:
        e = sign * np.exp(-t / p[1])
        return np.stack([e, p[0] * e * t / p[1] ** 2, np.ones_like(t)], axis=1)

    start = [1.0, 1.3 * tau, 0.0]
    options = {"ftol": 1e-15, "xtol": 1e-15, "gtol": 1e-15, "x_scale": [1.0, tau, 1.0]}
    return float(least_squares(residuals, start, jacobian, method="lm", **options).x[1])


def time_peer(python: str | None, path: Path) -> dict[str, Any] | None:
    """Return what one step takes autotau, in CPU seconds; None where there is no autotau."""
    others = tau_others.Others(python)
    step = of.Experiment(path).step("transient", 1)
    sign = 1.0 if step["drain_current"].mean() > 0 else -1.0
    done = others.run(
        "autotau_step",
        {
            "t": step["original_time"],
            "y": sign * step["drain_current"],
            "interval": step["sampling_interval"],
            "period": step["gate_period"],
            # Bad cycles are not searched again: each takes it seconds.
            "threshold": 0.0,
        },
    )
    version = others.version("autotau")
    others.close()
    return {"seconds_per_step": done["seconds"], "version": version} if done else None


def measure(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Make the data, run everything and return the numbers."""
    size = data.Size.of(options.scale)
    folder = options.folder / f"headline-{size.n_experiments}x{size.n_steps}"
    begin = time.perf_counter()
    paths = data.make_data(folder, size, options.workers)
    n_bytes = sum(path.stat().st_size for path in paths)
    made = time.perf_counter() - begin
    console.print(f"{size.total:,} steps in {folder}, {n_bytes / 1e9:.1f} GB, {made:.0f} s")
    result: dict[str, Any] = {
        "scale": options.scale,
        "n_experiments": size.n_experiments,
        "n_steps": size.total,
        "n_samples": size.total * data.SAMPLES,
        "bytes_on_disk": n_bytes,
        "workers": options.workers,
        "machine": _machine.describe(),
        "seconds": {},
    }
    seconds: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}

    def timed(name: str, call: Callable[[], float]) -> None:
        began = cpu_seconds()
        seconds.setdefault(name, []).append(call())
        cpu.setdefault(name, []).append(cpu_seconds() - began)
        console.print(f"  {name}: {seconds[name][-1]:.1f} s, {cpu[name][-1]:.1f} s of CPU")

    context = multiprocessing.get_context("spawn")
    out = folder / "features"
    with (
        ProcessPoolExecutor(options.workers, mp_context=context) as pool,
        of.connect("local", n_workers=options.workers, dashboard_port=0) as client,
    ):
        for path in paths:
            read_bytes(path)
        # Processes, imports and compiled code of both are there before the clock runs.
        list(pool.map(read_plainly, paths[: options.workers], [()] * options.workers))
        time_extraction(paths[:1], all_features(), out, client)
        for _ in range(options.rounds):
            timed(A, lambda: time_reading(pool, paths, (1, 2)))
            timed("a: h5py, current alone", lambda: time_reading(pool, paths, (2,)))
            shares = Shares(client)
            with PeakMemory() as memory:
                timed("b: tau", lambda: time_extraction(paths, TAU, out, client))
            result["shares"] = shares.of(seconds["b: tau"][-1], options.workers)
            result["peak_bytes"] = memory.peaks
        result["agreement"] = away_from_scipy(paths, out)
        result["result_bytes"] = sum(path.stat().st_size for path in out.glob("*.parquet"))
        for _ in range(options.rounds):
            timed(
                "c: all transient features",
                lambda: time_extraction(paths, all_features(), out, client),
            )
        if importlib.util.find_spec("hdf5plugin"):
            fast = folder / "repacked"

            def repacked() -> float:
                begin = time.perf_counter()
                report = of.repack(folder, fast, workers=options.workers, on_conflict="overwrite")
                if report.failed:
                    raise SystemExit(str(report))
                return time.perf_counter() - begin

            timed("d: repack", repacked)
            new = sorted(fast.glob("*.h5"))
            result["bytes_repacked"] = sum(path.stat().st_size for path in new)
            for _ in range(options.rounds):
                timed("d: tau, repacked", lambda: time_extraction(new, TAU, out, client))
            shutil.rmtree(fast)
    result["seconds"] = {name: statistics.median(values) for name, values in seconds.items()}
    result["cpu_seconds"] = {name: statistics.median(values) for name, values in cpu.items()}
    result["rounds"] = {"seconds": seconds, "cpu_seconds": cpu}
    result["peer"] = time_peer(options.peer, paths[0])
    if not options.keep:
        shutil.rmtree(folder)
    return result


def show(result: dict[str, Any], console: Console) -> None:
    """Print the tables."""
    seconds, n_steps = result["seconds"], result["n_steps"]
    cpu = result["cpu_seconds"]
    plain = seconds[A]
    peer = result["peer"]
    table = Table(title=f"{n_steps:,} steps of 100 cycles, {result['workers']} processes")
    for heading in ("", "s", "of a", "CPU s", "of a", "samples/s", "fits/s"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, value in seconds.items():
        fits = 2 * data.CYCLES * n_steps / value if name.startswith("b") else None
        table.add_row(
            name,
            f"{value:,.1f}",
            f"{value / plain:.2f}",
            f"{cpu[name]:,.1f}",
            f"{cpu[name] / cpu[A]:.2f}",
            f"{result['n_samples'] / value / 1e6:,.0f} M",
            f"{fits / 1e6:.2f} M" if fits else "",
        )
    if peer:
        value = peer["seconds_per_step"] * n_steps / result["workers"]
        name = f"e: autotau {peer['version']}, extrapolated from 1 step"
        table.add_row(name, f"{value:,.0f}", f"{value / plain:,.0f}")
    console.print(table)
    if not peer:
        console.print("e: left out, neither this environment nor --peer has autotau")
    words = ", ".join(f"{name} {100 * share:.1f} %" for name, share in result["shares"].items())
    alone = not result["shares"]["fit"]
    console.print("b was computed without the workers" if alone else f"workers' time in b: {words}")
    words = ", ".join(f"{name} {n / 1e6:,.0f} MB" for name, n in result["peak_bytes"].items())
    console.print(f"peak memory (PSS) in b: {words}")
    same = result["agreement"]
    console.print(
        f"tau of {same['n_checked']:,} cycles beside least_squares: at most "
        f"{same['standard_errors']:.1e} standard errors away ({same['relative']:.1e} of tau); "
        f"{same['of_limit']:.2f} of what SciPy resolves and we promise"
    )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scale", type=float, default=0.01, help="share of 375,000 steps")
    parser.add_argument("--json", type=Path, help="write all numbers here")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--keep", action="store_true", help="leave the data for the next run")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--rounds", type=int, default=1, help="medians of so many")
    parser.add_argument("--peer", metavar="PYTHON", help="interpreter that has autotau")
    options = parser.parse_args()
    if not 0 < options.scale <= 1:
        parser.error(f"--scale {options.scale}: expected a share between 0 and 1")
    console = Console()
    result = measure(options, console)
    show(result, console)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
