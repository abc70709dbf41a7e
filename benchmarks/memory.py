"""Whether memory depends on the number of experiments: peaks at 10, 40 and 160 of them.

    python benchmarks/memory.py [--json PATH] [--numbers 10 40 160] [--workers 2]

Every number runs in a fresh client process with its own cluster (``of.connect``), once, with the
bundled feature set on experiments of the same size: --steps transients of 100 cycles (10,000
samples, 160 kB).  Every 50 ms this process looks at the memory of the client, of the scheduler's
process (which also holds the nannies) and of the workers.

RSS counts memory that processes share once for each of them; PSS divides it among them, so PSS is
what a machine must have, and the sum of all PSS is the figure to compare.  ``grown`` is the peak of
the client minus what it had when the run began.  Wanted: the total at the largest number at most
1.15 times that of the smallest.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import _machine
import h5py
import psutil

INTERVAL_S = 0.05
WANTED_RATIO = 1.15
_CLIENT = """
import json, sys
import oectflow as of
from pathlib import Path

raw, out, n_workers, mark = sys.argv[1:]
with of.connect("local", n_workers=int(n_workers), dashboard_port=0) as client:
    Path(mark).touch()
    report = of.extract(raw, "all", out, client=client, progress=False)
    Path(mark).unlink()
print(json.dumps({"ok": report.ok, "n": len(report.experiments), "s": report.seconds}))
"""


def write_experiments(folder: Path, first: Path, n: int) -> Path:
    """Copy an experiment ``n`` times, each with a name of its own."""
    folder.mkdir()
    for i in range(n):
        path = folder / f"test_{i:04d}.h5"
        shutil.copyfile(first, path)
        with h5py.File(path, "r+") as file:
            file.attrs["test_id"] = f"test_{i:04d}"
    return folder


def memory(processes: list[psutil.Process]) -> tuple[int, int]:
    """Return RSS and PSS of processes together, in bytes."""
    rss = pss = 0
    for process in processes:
        try:
            full = process.memory_full_info()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            # It has ended since it was listed.
            continue
        rss += full.rss
        pss += full.pss
    return rss, pss


def run(raw: Path, out: Path, n_workers: int, mark: Path) -> dict[str, Any]:
    """Run in a client process of its own and return the peaks, in MB."""
    client = subprocess.Popen(
        [sys.executable, "-c", _CLIENT, raw, out, str(n_workers), mark],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    peaks: dict[str, float] = {}
    start: dict[str, float] = {}
    while client.poll() is None:
        time.sleep(INTERVAL_S)
        if not mark.exists():
            continue
        roles = _machine.processes_of(client.pid)
        seen = {role: memory(processes) for role, processes in roles.items()}
        now = {f"{role} RSS": rss / 1e6 for role, (rss, _) in seen.items()}
        now |= {f"{role} PSS": pss / 1e6 for role, (_, pss) in seen.items()}
        now["total PSS"] = sum(pss for _, pss in seen.values()) / 1e6
        # A process that is listed before it runs would give too small a start.
        start = start or now
        peaks = {name: max(value, peaks.get(name, 0.0)) for name, value in now.items()}
    assert client.stdout is not None
    done = json.loads(client.stdout.read() or '{"ok": false}')
    if client.returncode or not done["ok"]:
        sys.exit(f"the run of {raw} failed: status {client.returncode}, {done}")
    return {
        "experiments": done["n"],
        "run s": done["s"],
        **peaks,
        "client grown": peaks["client PSS"] - start["client PSS"],
        "start": start,
    }


def main() -> None:
    """Run the benchmark."""
    parser = _machine.parser(__doc__)
    parser.add_argument("--numbers", type=int, nargs="+", default=[10, 40, 160])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=100, help="per experiment; default 100")
    options = parser.parse_args()
    about = _machine.describe()
    _machine.check_load(abort=False)
    from oectflow.pipeline.inputs.simulate import simulate_device

    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        first = simulate_device(
            0, n_transfer=options.steps, n_transient=options.steps, n_cycles=100, period=0.1
        ).write(folder / "first.h5")
        for n in options.numbers:
            raw = write_experiments(folder / f"raw-{n}", first, n)
            rows.append(run(raw, folder / f"out-{n}", options.workers, folder / "running"))
            shutil.rmtree(raw)
    for row in rows:
        row["× the first"] = row["total PSS"] / rows[0]["total PSS"]
    ratio = rows[-1]["× the first"]
    verdict = "as wanted" if ratio <= WANTED_RATIO else "MISSED"
    notes = [
        f"total PSS at {rows[-1]['experiments']} experiments over that at "
        f"{rows[0]['experiments']}: {ratio:.3f} (wanted ≤ {WANTED_RATIO}): {verdict}"
    ]
    _machine.report(
        f"Peak memory in MB, {options.workers} workers on {os.cpu_count()} cores",
        rows, options.json, hidden=("start",), notes=notes, machine=about,
    )  # fmt: skip


if __name__ == "__main__":
    main()
