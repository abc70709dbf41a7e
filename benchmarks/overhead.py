"""What it costs to divide work, from 5 µs to 1 s per step: five ways to compute the same.

    python benchmarks/overhead.py [--json PATH] [--rounds 7] [--cap 4] [--rows TEXT …] [--anyway]

Items are the steps of one simulated raw file; an extractor computes for a prescribed time on each
(it spins).  Rows: tiny 5 µs, small 100 µs, medium 5 ms, large 100 ms, huge 1 s × 20, 400, 8,000
items, but not more than --cap seconds of work; two hard ones, 400 × 1 ms and 2,000 × 0.1 ms; a
lognormal mix with a standard deviation as large as its mean; and three real features, the wavelet
features, gm_max and tau.

sequential  reading, a plain loop, and writing, in this process, without Dask
step        one Dask task per item: of.extract(granularity="step")
fixed       batches of 0.2 s: of.extract(granularity=N)
cold        of.extract with nothing known of the cost
warm        the same with what two earlier runs have learnt

All write the same Parquet file with the same values; that is checked, bit for bit.  Each round runs
every arm once, in random order.  An arm that takes longer than --cap is run in one round only (with
the mark ~), and one task per item only up to --most-tasks items.  ``/best`` is the median of an arm
over that of the best of the first three; ``cost`` is predicted over true cost of an item in the
warm run, where it was predicted.  Wanted: warm at most 1.10; cold at most 1.10 plus 10 ms or, if
that is more, two round trips of an empty task.
"""

from __future__ import annotations

import hashlib
import math
import random
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import _machine
import pyarrow as pa
import pyarrow.parquet as pq
from _lab import timed_feature, write_lab
from distributed import Client

import oectflow as of
from oectflow.pipeline.execution.driving.find_work import find_work
from oectflow.pipeline.execution.driving.overheads import meter_of
from oectflow.pipeline.execution.planning.work import Job
from oectflow.pipeline.execution.worker import tasks
from oectflow.pipeline.execution.worker.pickled_once import PickledOnce
from oectflow.pipeline.inputs.simulate import simulate_device

ARMS = ("sequential", "step", "fixed", "cold", "warm")
FIXED_S = 0.2
NUMBERS = (20, 400, 8_000)
SIZES = {"tiny": 5e-6, "small": 100e-6, "medium": 5e-3, "large": 0.1, "huge": 1.0}
WANTED, COLD_EXTRA_S = 1.10, 10e-3


@dataclass(frozen=True)
class Row:
    """A file, a feature of its steps, and about what a step costs, in s."""

    name: str
    raw: Path
    n: int
    seconds: float
    feature: Callable[[str], dict[str, Any]]


def rows(folder: Path, cap: float) -> Iterator[Row]:
    """Yield all rows, and write the files they need."""

    def lab(n: int) -> Path:
        raw = folder / f"lab-{n}"
        return raw if raw.exists() else write_lab(raw, 1, n)

    def spinning(name: str, n: int, seconds: float, spread: float = 0.0) -> Row:
        return Row(
            f"{name}: {n:,} × {1e3 * seconds:g} ms", lab(n), n, seconds,
            lambda salt: timed_feature("spin", seconds, spread=spread, salt=salt),
        )  # fmt: skip

    for name, seconds in SIZES.items():
        capped = dict.fromkeys(min(n, max(2, int(cap / seconds))) for n in NUMBERS)
        for n in capped:
            yield spinning(name, n, seconds)
    yield spinning("hard", 400, 1e-3)
    yield spinning("hard", 2_000, 0.1e-3)
    # exp of a normal variable has a coefficient of variation of 1 at this standard deviation.
    yield spinning("mix", 400, 5e-3, spread=math.sqrt(math.log(2)))

    real = folder / "real"
    real.mkdir()
    simulate_device(0, n_transfer=2_000, n_transient=1_000, n_cycles=10, period=0.1).write(
        real / "0.h5"
    )
    long = folder / "long"
    long.mkdir()
    simulate_device(0, n_transfer=0, n_transient=400, n_cycles=100, period=0.1).write(long / "0.h5")
    for name, raw, n, source, seconds in (
        ("transient.dwt", real, 1_000, "transient", 5e-6),
        ("transfer.gm_max", real, 2_000, "transfer", 3e-6),
        ("transient.tau_on_off", long, 400, "transient", 0.25e-3),
    ):
        # A real extractor has no parameter that changes nothing: what is cold is the folder.
        feature = {"extractor": name, "input": source}

        def real_feature(_: str, feature: dict[str, Any] = feature) -> dict[str, Any]:
            return feature

        yield Row(f"{name}: {n:,} steps", raw, n, seconds, real_feature)


def sequential(raw: Path, features: dict[str, Any], out: Path) -> None:
    """Read, compute and write in this process, with what the tasks of a run are made of."""
    out.mkdir(exist_ok=True)
    feature_set = of.FeatureSet.load(features)
    (job,) = find_work(
        sorted(raw.glob("*.h5")), feature_set, out, force=True, expand_multidim=False, topic=""
    )
    assert isinstance(job, Job)
    extractors = {f.name: f.extractor for f in feature_set.extracted if f.extractor}
    specs = list(tasks.named_extractors(extractors).values())
    source = specs[0].extractor.source
    part = tasks.read_and_extract(job.task, specs, source, 0, job.layouts[source].n_steps)
    pickled = PickledOnce(feature_set)
    table = tasks.derive_features(job.task, pickled, [part])
    tasks.write_experiment(job.task, pickled, table, tasks.hash_source(job.task))


def fingerprint(out: Path) -> str:
    """Return a hash of all values and statuses of the results, NaN included."""
    digest = hashlib.sha256()
    for path in sorted(out.glob("*.parquet")):
        table = pq.read_table(path).combine_chunks().replace_schema_metadata()
        table = table.select(sorted(table.column_names))
        table = table.cast(pa.schema([field.remove_metadata() for field in table.schema]))
        with pa.ipc.new_stream(sink := pa.BufferOutputStream(), table.schema) as writer:
            writer.write_table(table)
        digest.update(sink.getvalue())
    return digest.hexdigest()


def measure(
    row: Row, client: Client, folder: Path, rounds: int, cap: float, most_tasks: int
) -> dict[str, Any]:
    """Run all arms of a row, in turns."""
    arms = [arm for arm in ARMS if arm != "step" or row.n <= most_tasks]
    salt, turns = uuid.uuid4().hex, iter(range(10**6))
    fixed = max(1, round(FIXED_S / row.seconds))

    def config(salt: str) -> dict[str, Any]:
        return {"f": row.feature(salt)}

    def extract(out: Path, salt: str, granularity: Any = "auto") -> of.RunReport:
        report = of.extract(
            row.raw, config(salt), out, client=client, granularity=granularity, force=True,
            progress=False,
        )  # fmt: skip
        if not report.ok:
            sys.exit(str(report))
        return report

    cold_report, warm_report = None, None
    for _ in range(2):
        extract(folder / "warm", salt)
    seconds: dict[str, list[float]] = {arm: [] for arm in arms}
    found: dict[str, str] = {}
    rng = random.Random(0)
    for turn in range(rounds):
        for arm in rng.sample(arms, len(arms)):
            if turn and seconds[arm][0] > cap:
                continue
            # A file that is replaced takes some ms longer; one that was written cold is not known.
            out = folder / (f"cold-{next(turns)}" if arm == "cold" else arm)
            begin = time.perf_counter()
            if arm == "sequential":
                sequential(row.raw, config(salt), out)
            elif arm == "step":
                extract(out, salt, "step")
            elif arm == "fixed":
                extract(out, salt, fixed)
            elif arm == "cold":
                cold_report = extract(out, uuid.uuid4().hex)
            else:
                warm_report = extract(out, salt)
            seconds[arm].append(time.perf_counter() - begin)
            found[arm] = fingerprint(out)
    assert cold_report is not None
    assert warm_report is not None
    trip = meter_of(client).overheads(0.0).round_trip
    return summary(row, seconds, found, fixed, cold_report, warm_report, trip)


def summary(
    row: Row,
    seconds: dict[str, list[float]],
    found: dict[str, str],
    fixed: int,
    cold: of.RunReport,
    warm: of.RunReport,
    trip: float,
) -> dict[str, Any]:
    """Sum the rounds of one row up."""
    median = {arm: statistics.median(times) for arm, times in seconds.items()}
    best = min(median[arm] for arm in ARMS[:3] if arm in median)
    extra = max(COLD_EXTRA_S, 2 * trip)
    # The plan is a list of features, or has one and the ways that were taken.
    (plan,) = getattr(warm.plan, "features", warm.plan)
    ways = getattr(warm.plan, "ways", ["cluster"])
    result: dict[str, Any] = {"row": row.name}
    for arm in median:
        mark = "~" if len(seconds[arm]) == 1 else ""
        result[f"{arm} ms"] = f"{mark}{1e3 * median[arm]:,.1f}"
    return result | {
        "cold /best": median["cold"] / best,
        "warm /best": median["warm"] / best,
        "as wanted": "yes"
        if median["warm"] <= WANTED * best and median["cold"] <= WANTED * best + extra
        else "NO",
        "way": " ".join(ways),
        "items/task": row.n / max(1, plan.n_tasks),
        "cost": plan.predicted_seconds / plan.actual_seconds if plan.actual_seconds else None,
        "equal": "yes" if len(set(found.values())) == 1 else "NO",
        "fixed": fixed,
        "rounds": seconds,
        "least": {arm: min(times) for arm, times in seconds.items()},
        "explain cold": cold.explain(),
        "explain warm": warm.explain(),
    }


def main() -> None:
    """Run the benchmark."""
    parser = _machine.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cap", type=float, default=4.0, help="s of work per row; default 4")
    parser.add_argument("--most-tasks", type=int, default=2_000, help="default 2000")
    parser.add_argument("--rows", nargs="+", default=[""], help="only rows that begin so")
    parser.add_argument("--workers", type=int, help="default: one per core")
    parser.add_argument("--anyway", action="store_true", help="even if the machine is busy")
    options = parser.parse_args()
    if options.rounds < 7 and not options.anyway:
        parser.error("--rounds: expected at least 7, medians of fewer say little")
    about = _machine.describe()
    _machine.check_load(abort=not options.anyway)
    results = []
    with (
        tempfile.TemporaryDirectory() as temporary,
        of.connect("local", n_workers=options.workers, dashboard_port=0) as client,
    ):
        folder = Path(temporary)
        # The first tasks of every process import what they need.
        warm_up = {"f": timed_feature("spin", 1e-3)}
        of.extract(
            write_lab(folder / "first", 8, 20), warm_up, folder / "first-out", client=client,
            granularity="step", progress=False,
        )  # fmt: skip
        for i, row in enumerate(rows(folder, options.cap)):
            if not row.name.startswith(tuple(options.rows)):
                continue
            place = folder / f"row-{i}"
            place.mkdir()
            results.append(
                measure(row, client, place, options.rounds, options.cap, options.most_tasks)
            )
            shown = [f"{k} {v}" for k, v in results[-1].items() if k in SHOWN]
            print("   ".join(shown), flush=True)
    unequal = [one["row"] for one in results if one["equal"] != "yes"]
    _machine.report(
        "Five ways to compute the same, median wall time", results, options.json,
        hidden=("rounds", "least", "explain cold", "explain warm", "fixed"),
        notes=[f"DIFFERENT RESULTS: {unequal}" if unequal else "all results are equal"],
        machine=about | {"load after": _machine.describe()["load"]},
    )  # fmt: skip
    sys.exit(bool(unequal))


SHOWN = ("row", "sequential ms", "step ms", "fixed ms", "cold ms", "warm ms", "way", "equal")


if __name__ == "__main__":
    main()
