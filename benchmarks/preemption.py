"""What it costs when jobs of a batch system come and go during a run.

    python benchmarks/preemption.py [--json PATH] [--experiments 48] [--steps 60]
        [--seconds 20] [--minutes 1]

Needs Debian's packages slurmctld, slurmd, slurm-client and munge: a SLURM of its own is started,
two nodes on 127.0.0.1, as in the tests.  The same work is done three times with two workers, each a
job of ``of.connect("slurm", n_workers=2, cores=1, …)``:

undisturbed  nobody ends a job
cancelled    ``scancel`` of one job every --seconds seconds of both workers' CPU time, which is what
             they compute in so many seconds where nobody else uses the machine
walltime     jobs of --minutes minutes (``walltime="00:01:00"``), which leave in time by themselves

``jobs`` is how many were submitted, ``lost`` how many ended while the run went on; wanted is that
jobs - 2 is at most lost, that all results are equal bit for bit, and at most 15 % more time.
``CPU`` is that of the jobs, scheduler and client excluded, from the beginning of the run to its
end, with the start of workers that replace others: where others use the machine, it is what can be
compared.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import _machine
import numba
import psutil
from overhead import fingerprint

import oectflow as of
from oectflow.pipeline.inputs.simulate import simulate_device

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "cluster"))
import slurm

N_WORKERS = 2
WANTED = 1.15
ARMS = ("undisturbed", "cancelled", "walltime")


class Watcher:
    """Sees all jobs, and the CPU time of all their processes, while a run goes on."""

    def __init__(self, system: dict[str, str]) -> None:
        self._system = system
        self._cpu: dict[tuple[int, float], tuple[float, float]] = {}
        self._ours: dict[tuple[int, float], bool] = {}
        self.jobs: set[str] = set()
        self.load: list[float] = []

    @property
    def cpu(self) -> float:
        """CPU time since the first look, in s."""
        return sum(last - first for first, last in self._cpu.values())

    def look(self, first: bool = False) -> None:
        """Look once; what is there at the first look has used nothing yet."""
        listed = subprocess.run(
            ["squeue", "-h", "-t", "all", "-o", "%i"],
            env=os.environ | self._system, capture_output=True, text=True, check=True,
        )  # fmt: skip
        self.jobs |= set(listed.stdout.split())
        self.load.append(os.getloadavg()[0])
        for process in psutil.process_iter():
            try:
                key = (process.pid, process.create_time())
                if key not in self._ours:
                    self._ours[key] = self._is_of_a_job(process)
                if self._ours[key]:
                    times = process.cpu_times()
                    now = times.user + times.system
                    begin, _ = self._cpu.get(key, (now if first else 0.0, 0.0))
                    self._cpu[key] = (begin, now)
            except psutil.Error:
                continue

    def _is_of_a_job(self, process: psutil.Process) -> bool:
        found = process.environ()
        return "SLURM_JOB_ID" in found and found.get("SLURM_CONF") == self._system["SLURM_CONF"]


@contextmanager
def watched(system: dict[str, str], cancel_every: float | None) -> Iterator[Watcher]:
    """Watch jobs, and cancel one every so many seconds."""
    watcher, over = Watcher(system), threading.Event()
    watcher.look(first=True)

    def look_on() -> None:
        due = N_WORKERS * (cancel_every or 0.0)
        while not over.wait(0.5):
            watcher.look()
            if cancel_every and watcher.cpu > due:
                due += N_WORKERS * cancel_every
                running = slurm.running_jobs(system)
                if running:
                    # The oldest: one that has just come has done nothing yet.
                    slurm.cancel(system, min(running, key=int))

    thread = threading.Thread(target=look_on)
    thread.start()
    try:
        yield watcher
    finally:
        over.set()
        thread.join()
        watcher.look()


def run(
    arm: str, system: dict[str, str], raw: Path, out: Path, options: argparse.Namespace
) -> dict[str, Any]:
    """Compute everything once, and return what that took."""
    earlier = Watcher(system)
    earlier.look()
    loopback = next(
        name
        for name, found in psutil.net_if_addrs().items()
        if any(one.address == "127.0.0.1" for one in found)
    )
    walltime = {"walltime": f"00:{options.minutes:02d}:00"} if arm == "walltime" else {}
    with of.connect(
        "slurm", n_workers=N_WORKERS, cores=1, memory="2 GiB", interface=loopback,
        dashboard_port=0, **walltime,
    ) as client:  # fmt: skip
        client.wait_for_workers(N_WORKERS, timeout=300)
        with watched(system, options.seconds if arm == "cancelled" else None) as watcher:
            report = of.extract(
                raw, options.features, out, client=client, progress=False,
                granularity=options.granularity or "auto",
            )  # fmt: skip
            # Those that run at the end are not lost.
            left = set(slurm.running_jobs(system))
    if not report.ok:
        sys.exit(str(report))
    print(report.explain() if options.explain else "", flush=True)
    jobs = watcher.jobs - earlier.jobs
    return {
        "arm": arm,
        "run s": report.seconds,
        "CPU s": watcher.cpu,
        "jobs": len(jobs),
        "lost": len(jobs - left),
        "load": sum(watcher.load) / len(watcher.load),
    }


def main() -> None:
    """Run the benchmark."""
    parser = _machine.parser(__doc__)
    parser.add_argument("--experiments", type=int, default=48)
    parser.add_argument("--steps", type=int, default=60, help="of an experiment, 100 cycles each")
    parser.add_argument("--features", default="transient_models")
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="between two that are cancelled"
    )
    parser.add_argument("--minutes", type=int, default=1, help="walltime of jobs")
    parser.add_argument(
        "--granularity", type=int, help="steps in a batch; where others use the machine, a run may "
        "find that its workers do not pay, or make long batches",
    )  # fmt: skip
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    parser.add_argument("--explain", action="store_true", help="print what each run has decided")
    options = parser.parse_args()
    missing = slurm.missing_programs()
    if missing:
        sys.exit(f"{', '.join(missing)} not installed: apt install slurmctld slurmd slurm-client")
    about = _machine.describe()
    _machine.check_load(abort=False)
    rows, results = [], {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        raw = folder / "raw"
        raw.mkdir()
        for i in range(options.experiments):
            simulate_device(i, n_transfer=0, n_transient=options.steps, n_cycles=100,
                            test_id=f"t{i:03d}").write(raw / f"{i:03d}.h5")  # fmt: skip
        (folder / "slurm").mkdir()
        with slurm.slurm_system(folder / "slurm") as system:
            os.environ.update(system)
            # Kernels that are compiled here are found by the jobs.
            cache = numba.config.CACHE_DIR or str(Path("~/.cache/oectflow/kernels").expanduser())
            os.environ["NUMBA_CACHE_DIR"] = cache
            os.environ["PYTHONPATH"] = ":".join(filter(None, sys.path))
            for arm in options.arms:
                rows.append(run(arm, system, raw, folder / arm, options))
                results[arm] = fingerprint(folder / arm)
                rows[-1] |= {
                    "equal": "yes" if results[arm] == results[options.arms[0]] else "NO",
                    "no more jobs": "yes"
                    if rows[-1]["jobs"] <= N_WORKERS + rows[-1]["lost"]
                    else "NO",
                    "time": rows[-1]["run s"] / rows[0]["run s"],
                    "CPU": rows[-1]["CPU s"] / rows[0]["CPU s"],
                }
                print({k: round(v, 2) if isinstance(v, float) else v for k, v in rows[-1].items()})
    _machine.report("Jobs that come and go", rows, options.json, machine=about,
                    notes=[f"wanted: time at most {WANTED} at the same CPU time"])  # fmt: skip
    sys.exit(any("NO" in (one["equal"], one["no more jobs"]) for one in rows))


if __name__ == "__main__":
    main()
