"""What it costs to ingest folders of the laboratory's instrument: new ones, and none that is new.

    python benchmarks/ingest.py [--folders 2000] [--rounds 5] [--against CHECKOUT] [--json PATH]

Makes folders as the instrument writes them (three sweeps of 121 points, two transients of 2,000
samples, description and workflow) and converts them in one process: all, and then again, when all
are there.  ``--against`` names another checkout (``git worktree add``): both are measured in turns
in each round, in fresh processes, and the ratio is ours over theirs.  Measured are the processor's
seconds, which other work on the machine disturbs least, and the clock's.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parents[1]


def make_folders(where: Path, n: int) -> None:
    """Write folders of which only the test id differs."""
    rng = np.random.default_rng(1)
    files = {}
    steps = []
    for number, kind in enumerate(
        ["transfer", "transient", "transfer", "transient", "transfer"], 1
    ):
        if kind == "transfer":
            x = np.r_[np.linspace(-0.4, 0.8, 61), np.linspace(0.78, -0.4, 60)]
            parameters = {"isSweep": 1, "timeStep": 50, "gateVoltageStart": -400,
                          "gateVoltageEnd": 800, "gateVoltageStep": 20}  # fmt: skip
        else:
            x = np.arange(2000) * 1e-3
            parameters = {"timeStep": 1, "topTime": 60, "bottomTime": 140, "gateVoltageBottom": 0,
                          "gateVoltageTop": 600, "cycles": 10}  # fmt: skip
        name = f"{number}_{kind}.csv"
        current = 1e-4 * rng.standard_normal(len(x))
        rows = [f"{a:.3f},{b:g}" for a, b in zip(x, current, strict=True)]
        files[name] = "\n".join(["Vg,Id" if kind == "transfer" else "Time,Id", *rows, ""])
        steps.append(
            {
                "type": kind,
                "start_time": "2026-01-12T10:00:00",
                "end_time": "2026-01-12T10:00:05",
                "reason": "completed",
                "data_file": name,
                "parameters": {"sourceVoltage": 0, "drainVoltage": -600, **parameters},
                "workflow_info": {"step_index": number - 1, "total_steps": 5, "path": [0]},
            }
        )
    files["workflow.json"] = json.dumps([{"id": "a", "type": "loop", "iterations": 1, "steps": []}])
    info = {"chip_id": "#1", "device_number": "1", "description": "bench", "status": "completed",
            "created_at": "2026-01-12T09:59:58", "sync_mode": False, "port": "COM3"}  # fmt: skip
    for i in range(n):
        folder = where / f"{i % 40:02d}" / f"test_{i:05d}"
        folder.mkdir(parents=True)
        for name, text in files.items():
            (folder / name).write_text(text)
        described = info | {"test_id": f"test_{i:05d}", "steps": steps}
        (folder / "test_info.json").write_text(json.dumps(described, indent=4))


def measure(folders: Path) -> dict[str, float]:
    """Ingest in this process, twice; seconds of the processor and of the clock."""
    from oectflow.pipeline.inputs.ingest import ingest

    # The first folder pays for what is loaded once.
    ingest(next(folders.glob("*/*")), folders.parent / "warm", workers=1)
    out = folders.parent / "raw"
    found = {}
    for what in ("new", "again"):
        clock, cpu = time.perf_counter(), _cpu()
        report = ingest(folders, out, workers=1)
        found[f"{what} cpu"] = _cpu() - cpu
        found[f"{what} clock"] = time.perf_counter() - clock
        assert not report.failed, str(report)
    return found


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _in_process(checkout: Path, folders: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", str(folders)]
    environment = os.environ | {"PYTHONPATH": str(checkout / "src")}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    for made in ("warm", "raw"):
        shutil.rmtree(folders.parent / made)
    return dict(json.loads(done.stdout))


def main() -> None:
    """Measure, and print medians."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folders", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given.measure)))
        return
    arms = {"this": HERE} | ({"other": given.against.resolve()} if given.against else {})
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in arms}
    with tempfile.TemporaryDirectory() as scratch:
        folders = Path(scratch) / "instrument"
        make_folders(folders, given.folders)
        for i in range(given.rounds):
            for name in sorted(arms, reverse=bool(i % 2)):
                rounds[name].append(_in_process(arms[name], folders))
    for what in rounds["this"][0]:
        ours = statistics.median(one[what] for one in rounds["this"])
        line = f"{what:12} {1000 * ours / given.folders:8.3f} ms per folder"
        if given.against:
            theirs = statistics.median(one[what] for one in rounds["other"])
            ratios = [a[what] / b[what] for a, b in zip(*rounds.values(), strict=True)]
            line += f", other {1000 * theirs / given.folders:8.3f}"
            line += f", ratio {statistics.median(ratios):.3f}"
        print(line)
    if given.json:
        given.json.write_text(json.dumps(rounds, indent=1))


if __name__ == "__main__":
    main()
