"""How fast a large catalog is: scans of unchanged files, and searches.

    python benchmarks/catalog.py [--n 100000] [--database URL] [--json PATH]

Makes a catalog of synthetic experiments with as many (empty) files of the same names, then measures
a scan and a sync of results that find nothing new, and the median and the slowest of several runs
of every kind of search, and the median of the processor time, which is what the machine needs when
nothing else runs on it.  A search is timed until the result exists and knows its length; the median
time until a notebook shows its table is given beside it.  Of scan, sync and all searches together
it is said how much memory the process has grown by at most.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import _machine
from sqlalchemy import insert, text

from oectflow.pipeline.inputs.catalog import Catalog, SearchResult
from oectflow.pipeline.inputs.catalog.facts import search_text
from oectflow.pipeline.inputs.catalog.feature_sets import intern_set
from oectflow.pipeline.inputs.catalog.schema import TABLES, experiments, feature_files, raw_files
from oectflow.pipeline.inputs.catalog.store import Store
from oectflow.pipeline.inputs.catalog.workflow import flatten_workflow, intern_workflow

_N_WORKFLOWS = 500
_N_CHIPS = 2000
_DESCRIPTIONS = ("stability", "稳定性 stability", "gate bias stress", "figure 3", "long cycling")
_REPEATS, _SCANS = 9, 3
_PER_FOLDER, _AT_ONCE = 1000, 10_000
_LIMIT_MS = 50.0
_FILES_PER_S = 5000.0

SEARCHES: dict[str, dict[str, Any]] = {
    "everything": {},
    "one chip": {"chip_id": "#20250000042"},
    "one device": {"chip_id": "#20250000042", "device_id": 3},
    "one test": {"test_id": "test_42"},
    "one batch": {"batch_id": "b7"},
    "status, 80 % of all": {"status": "completed"},
    "status, 10 % of all": {"status": "failed"},
    "device type": {"device_type": "P"},
    "with features": {"has_features": True},
    "with one feature": {"has_features": "feature_7"},
    "missing one feature": {"missing_features": "feature_7"},
    "with transient data": {"has_transient_data": True},
    "a year": {"created_after": "2023-01-01", "created_before": "2024-01-01"},
    "completion": {"min_completion": 60, "max_completion": 90},
    "steps": {"min_steps": 20, "max_steps": 30},
    "text in a description": {"text_search": "bias"},
    "text in a test id": {"text_search": "4242"},
    "text nowhere": {"text_search": "nowhere at all"},
    "workflow value": {"workflow_step_1_2_param_cycles": 25},
    "workflow list": {"workflow_step_1_2_param_cycles": [5, 25, 50]},
    "workflow range": {"workflow_step_1_2_param_topTime": (50, 400)},
    "many at once": {
        "status": "completed",
        "has_transient_data": True,
        "min_completion": 50,
        "created_after": "2022-06-01",
        "text_search": "stab",
        "workflow_step_1_2_param_topTime": (50, None),
    },
    "by chip": {"order_by": "chip_id", "order_desc": False},
    "by test": {"order_by": "test_id", "status": "failed"},
    "by completion": {"order_by": "completed_at"},
    "page 900": {"limit": 100, "offset": 90_000},
}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=100_000, help="number of experiments")
    parser.add_argument("--database", help="an empty PostgreSQL database, instead of SQLite")
    parser.add_argument("--repeats", type=int, default=_REPEATS, help="how often each is searched")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "raw"
        url = arguments.database or str(Path(folder) / "catalog.db")
        files = make_files(root, arguments.n)
        fill(url, files)
        with Catalog(url) as catalog:
            rows = [
                *measure_scan(catalog, root, arguments.n),
                *measure_sync(catalog, root),
                *measure_searches(catalog, arguments.repeats),
            ]
    kind = "PostgreSQL" if arguments.database else f"SQLite {sqlite3.sqlite_version}"
    print(f"{arguments.n:,} experiments, {kind}, {platform.machine()}, {os.cpu_count()} cores\n")
    titles = ("what", "found", "median", "slowest", "processor", "until shown", "required")
    print(f"{titles[0]:<26}{titles[1]:>9}" + "".join(f"{title:>16}" for title in titles[2:]))
    for row in rows:
        times = (f"{row[key]:,.1f} ms" for key in ("ms", "slowest_ms", "cpu_ms", "shown_ms"))
        cells = "".join(f"{cell:>16}" for cell in (*times, row["required"]))
        print(f"{row['name']:<26}{row['n_found']:>9,}{cells}")
    if arguments.json:
        document = {"n": arguments.n, "database": kind, "results": rows}
        arguments.json.write_text(json.dumps(document, indent=1))


def make_files(root: Path, n: int) -> list[tuple[str, os.stat_result]]:
    """Make empty files, an hour old, and return them with their size and time."""
    files = []
    old = time.time_ns() - 3600 * 10**9
    for i in range(n):
        folder = root / f"{i // _PER_FOLDER:04d}"
        if i % _PER_FOLDER == 0:
            folder.mkdir(parents=True)
        path = f"{folder}/#{i}-1-synthetic-test_{i}.h5"
        files.append((path, touch(path, old)))
    return files


def touch(path: str, mtime_ns: int) -> os.stat_result:
    """Make an empty file of some age."""
    file = os.open(path, os.O_CREAT | os.O_WRONLY)
    try:
        os.utime(file, ns=(mtime_ns, mtime_ns))
        return os.fstat(file)
    finally:
        os.close(file)


def fill(url: str, files: list[tuple[str, os.stat_result]]) -> None:
    """Write one experiment for each file, and features for most of them."""
    store = Store(url)
    draw = random.Random(20250815)
    rows, places, results = [], [], []
    with store.write() as connection:
        flows = [
            intern_workflow(connection, flatten_workflow(synthetic_workflow(i)))
            for i in range(_N_WORKFLOWS)
        ]
        sets = [
            intern_set(connection, {f"feature_{k}": f"{k:032x}" for k in range(n)})
            for n in (5, 12, 60)
        ]
        for start in range(0, len(files), _AT_ONCE):
            rows, places, results = [], [], []
            for i, (path, status) in enumerate(files[start : start + _AT_ONCE], start + 1):
                row, place, result = synthetic_rows(i, path, status, draw, flows, sets)
                rows.append(row)
                places.append(place)
                if result:
                    results.append(result)
                    touch(result["path"], status.st_mtime_ns)
            for table, values in (
                (experiments, rows),
                (raw_files, places),
                (feature_files, results),
            ):
                connection.execute(insert(table), values)
    if not store.on_sqlite:
        with store.outside_transaction() as connection:
            for table in TABLES:
                connection.execute(text(f"ANALYZE {table.name}"))
    store.close()


def synthetic_workflow(i: int) -> list[dict[str, Any]]:
    """Return a loop of a transfer and a transient; ``i`` sets its parameters."""
    transfer = {"timeStep": 300, "drainVoltage": 100 + i % 3, "gateVoltageEnd": 800}
    transient = {"timeStep": 1, "topTime": 10 * (i % 50), "bottomTime": 50, "cycles": 5 * (i % 20)}
    steps = [
        {"id": "T", "type": "transfer", "command_id": 1, "params": transfer},
        {"id": "P", "type": "transient", "command_id": 2, "params": transient | {"run": i}},
    ]
    return [{"id": "L", "type": "loop", "iterations": 6, "steps": steps}]


def synthetic_rows(
    i: int,
    path: str,
    status: os.stat_result,
    draw: random.Random,
    flows: list[int | None],
    sets: list[int],
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any] | None]:
    """Return the rows of one experiment: what it is, where it is, what was computed."""
    created = datetime(2022, 1, 1) + timedelta(seconds=draw.randrange(4 * 365 * 86400))
    features_id = draw.choice(sets) if draw.random() < 0.9 else None
    names = {
        "chip_id": f"#2025{draw.randrange(_N_CHIPS):07d}",
        "description": draw.choice(_DESCRIPTIONS),
        "test_id": f"test_{i}" if i < 100 else f"test_{created:%Y%m%d%H%M%S}_{i:08x}",
    }
    row = names | {
        "id": i,
        "device_id": str(draw.randrange(1, 7)),
        "batch_id": f"b{draw.randrange(50)}",
        "status": draw.choices(("completed", "running", "failed"), (8, 1, 1))[0],
        "device_type": draw.choice("NP"),
        "file_state": "present",
        "features_id": features_id,
        "workflow_id": draw.choice(flows),
        "completion_percentage": draw.choice((100.0, 83.3, 50.0)),
        "completed_steps": 10,
        "total_steps": draw.randrange(1, 80),
        "transfer_steps": 6,
        "transient_steps": draw.randrange(2) * 4,
        "created_at": created,
        "completed_at": created + timedelta(hours=draw.randrange(1, 50)),
        "search_text": search_text(names),
        "test_unit_id": "unit_C1",
        "duration": 7200.0,
        "total_data_points": 7452,
    }
    stamp = {"size": status.st_size, "mtime_ns": status.st_mtime_ns}
    digest = f"{draw.getrandbits(128):032x}"
    place = stamp | {
        "experiment_id": i,
        "path": path,
        "scanned_ns": time.time_ns(),
        "content_hash": digest,
        "problem": "",
    }
    result = stamp | {
        "experiment_id": i,
        "set_id": features_id,
        "is_current": True,
        "path": f"{path}.parquet",
        "config": "all",
        "created_at": created,
        "n_rows": 6,
        "source_hash": digest,
        "source_size": status.st_size,
        "counts": json.dumps({f"feature_{k}": {"ok": 6} for k in range(5)}),
    }
    return row, place, result if features_id else None


def measure_scan(catalog: Catalog, root: Path, n: int) -> list[dict[str, Any]]:
    """Scan unchanged files."""
    with _machine.most_memory([os.getpid()]) as most:
        report = catalog.scan(root)
    if report.counts["unchanged"] != n or report.problems:
        raise SystemExit(f"the scan should find {n} unchanged files:\n{report}")
    times = [timed(lambda: catalog.scan(root)) for _ in range(_SCANS)]
    wall = statistics.median(time[0] for time in times)
    print(f"scan: {max(most.values()) / 1e6:,.0f} MB")
    return [
        row(f"scan, {n / wall:,.0f} files/s", n, times, times, f"≥ {_FILES_PER_S:,.0f} files/s")
    ]


def measure_sync(catalog: Catalog, root: Path) -> list[dict[str, Any]]:
    """Look at results that are known."""
    with _machine.most_memory([os.getpid()]) as most:
        report = catalog.sync_features(root)
    if report.n_recorded or report.n_removed or report.problems:
        raise SystemExit(f"the sync should find known results only:\n{report}")
    times = [timed(lambda: catalog.sync_features(root)) for _ in range(_SCANS)]
    print(f"sync: {max(most.values()) / 1e6:,.0f} MB")
    return [row("sync", report.n_unchanged, times, times, "")]


def measure_searches(catalog: Catalog, repeats: int) -> list[dict[str, Any]]:
    """Run every search several times, after a first one that does not count."""
    rows = []
    with _machine.most_memory([os.getpid()]) as most:
        for filters in SEARCHES.values():
            show(catalog.search(**filters))
    print(f"all searches: {max(most.values()) / 1e6:,.0f} MB")
    for name, filters in SEARCHES.items():
        n_found = len(catalog.search(**filters))
        times = [timed(lambda f=filters: catalog.search(**f)) for _ in range(repeats)]
        shown = [timed(lambda f=filters: show(catalog.search(**f))) for _ in range(repeats)]
        rows.append(row(name, n_found, times, shown, f"≤ {_LIMIT_MS:.0f} ms"))
    return rows


def row(
    name: str,
    n_found: int,
    times: list[tuple[float, float]],
    shown: list[tuple[float, float]],
    required: str,
) -> dict[str, Any]:
    """Return one line of the table."""
    wall, processor = zip(*times, strict=True)
    return {
        "name": name,
        "n_found": n_found,
        "ms": 1000 * statistics.median(wall),
        "slowest_ms": 1000 * max(wall),
        "cpu_ms": 1000 * statistics.median(processor),
        "shown_ms": 1000 * statistics.median(seconds for seconds, _ in shown),
        "required": required,
    }


def show(found: SearchResult) -> str:
    """Return what a notebook would show."""
    return found._repr_html_()


def timed(action: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds that an action takes, by the clock and of the processor."""
    begin, processor = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - begin, time.process_time() - processor


if __name__ == "__main__":
    main()
