"""Whether anything is lost when processes die, disks are full, or files are damaged or hostile.

    python benchmarks/faults.py [--json PATH] [--kills 20] [--seed 0] [--scenarios …]

Each scenario runs a small laboratory through ``of.extract`` with something going wrong, calls
``of.extract`` again, and compares the folder with that of a run in which nothing went wrong:
every experiment that can be computed is there, every value is equal bit for bit, and no other file
than results and the run's own notes is left.  When a worker is killed, and which, comes from
--seed; what was done is printed.

workers     SIGKILL of random workers, --kills times, one after the other
client      SIGKILL of the process that called ``of.extract``; nothing of its cluster is left
scheduler   SIGKILL of the scheduler's process
poison      a step that ends every process that computes it (``os._exit``)
greedy      a step that allocates without end, past the memory limit of its worker
disk        a file system that is full, and later has room (needs root for a small tmpfs)
folder      the output folder is removed while results are written

Those of ``faults_storage.py``, in which nothing dies:

holes       samples that were never stored, or lie in other files
flips       400 flipped bits in a result
cuts        results that were cut, emptied or zeroed
names       test ids that give one name of a file, or stand twice
urls        a place on a network as output
hostile     metadata that would stop a reader, and a book of costs of nothing but brackets
writing     files that are being written
swapped     other content of the same size and time

``tests/benchmarks/test_faults.py`` runs the same functions, with fewer kills.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
from distributed import Client

import oectflow as of
from oectflow.pipeline.inputs.simulate import simulate_device

#: Files in an output folder that are no results.
NOTES = (
    ".oectflow.lock",
    ".oectflow-costs.json",
    ".oectflow-unchanged.json",
    "_report.json",
    "_runs",
)
N_STEPS = 6
POISONOUS_STEP = 3
#: Seconds after which a process that ought to have ended counts as left over.
SECONDS_TO_END = 30.0
#: Of two workers together: 768 MiB more than a worker has at rest pass the limit of one.
MEMORY = "1200 MiB"


@dataclass
class Outcome:
    """What a scenario did, and what is wrong after it; nothing if it went well."""

    scenario: str
    done: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0
    skipped: str = ""


@dataclass(frozen=True)
class Place:
    """Where a scenario runs: raw files, an empty folder of its own, the truth by experiment."""

    raw: Path
    folder: Path
    seed: int = 0

    @property
    def out(self) -> Path:
        """Output folder of the scenario."""
        return self.folder / "out"


def write_lab(folder: Path, n: int = 12) -> Path:
    """Write ``n`` experiments of six steps each and return their folder."""
    folder.mkdir(parents=True)
    for i in range(n):
        simulate_device(
            i, n_transfer=2, n_transient=N_STEPS, n_points=41, n_cycles=5, period=0.06,
            test_id=f"test_{i:02d}",
        ).write(folder / f"test_{i:02d}.h5")  # fmt: skip
    return folder


def features(kind: str = "good", pause: float = 0.0) -> dict[str, Any]:
    """Return a real feature, and one that waits ``pause`` s per step and then does as ``kind``.

    ``"poison"`` and ``"greedy"`` do so in one step of the first experiment only.
    """

    # Defined here, so that workers that cannot import this module get it from Dask.
    @of.register(f"transient.mean_{kind}")
    class Mean(of.BaseExtractor):
        source = "transient"
        unit = "A"
        description = "mean drain current"

        def extract_single_step(self, step_data, params):
            import numpy as np

            current = step_data["drain_current"]
            time.sleep(pause)
            # Every simulated current has noise of its own.
            if kind != "good" and params["marker"] == float(current[0]):
                if kind == "poison":
                    os._exit(3)
                hoard = [np.ones(2**23) for _ in range(12)]
                while True:
                    # From here on only addresses: the limit of the process that isolates a step
                    # counts those, and other processes need the memory.  Slowly, so that a
                    # worker is found out, twice a second, before there are no more addresses.
                    hoard.append(np.empty(2**27))
                    time.sleep(0.02)
            return current.mean()

    return {
        "peak": {"extractor": "transient.peak_current", "input": "transient"},
        "mean": {"extractor": f"transient.mean_{kind}", "input": "transient"},
    }


def marked(config: dict[str, Any], raw: Path) -> dict[str, Any]:
    """Tell the feature ``mean`` which step is the bad one."""
    first = of.Experiment(sorted(raw.glob("*.h5"))[0])
    step = first.step("transient", POISONOUS_STEP)
    config["mean"]["params"] = {"marker": float(step["drain_current"][0])}
    return config


def contents(out: Path) -> dict[str, Any]:
    """Return the rows of every result by experiment, so that NaN is equal to NaN.

    The order of columns is not compared: what was kept from an earlier run comes first.
    """
    found = {}
    for path in sorted(out.glob("[!.]*.parquet")):
        frame = pq.read_table(path).to_pandas()
        found[path.stem] = frame[sorted(frame)].to_json(double_precision=15)
    return found


def check(place: Place, expected: dict[str, Any], outcome: Outcome) -> None:
    """Compare the output folder with what a run without faults has written."""
    got = contents(place.out)
    outcome.wrong += [f"{name} is missing" for name in sorted(set(expected) - set(got))]
    outcome.wrong += [f"{name} should not be there" for name in sorted(set(got) - set(expected))]
    outcome.wrong += [f"{n} differs" for n in sorted(got) if got[n] != expected.get(n, got[n])]
    left = [
        path.name
        for path in place.out.iterdir()
        if path.suffix != ".parquet"
        and path.name not in NOTES
        # What the results of a run have in common.
        and not path.name.startswith("_definitions-")
    ]
    outcome.wrong += [f"{name} is left over" for name in left]


@contextmanager
def faulty(place: Place, scenario: str) -> Iterator[Outcome]:
    """Run a scenario: time it, and check the output folder after it."""
    expected_out = place.folder / "expected"
    of.extract(place.raw, features(), expected_out, progress=False)
    outcome = Outcome(scenario)
    begin = time.perf_counter()
    yield outcome
    outcome.seconds = time.perf_counter() - begin
    check(place, contents(expected_out), outcome)


def resume(place: Place, outcome: Outcome, config: Any = None, client: Any = None) -> of.RunReport:
    """Call ``of.extract`` again, as a user would."""
    report = of.extract(place.raw, config or features(), place.out, client=client, progress=False)
    outcome.done.append(f"again: {report.summary().splitlines()[0]}")
    return report


def worker_pids(client: Client) -> list[int]:
    """Return the processes of the workers that are there now."""
    return sorted(client.run(os.getpid).values())


def family(pid: int) -> list[psutil.Process]:
    """Return all processes below a process."""
    return psutil.Process(pid).children(recursive=True)


def killed_workers(place: Place, client: Client, kills: int) -> Outcome:
    """SIGKILL random workers during a run, ``kills`` of them."""
    rng = random.Random(place.seed)
    with faulty(place, "workers") as outcome:
        over = threading.Event()

        def kill() -> None:
            for _ in range(kills):
                if over.wait(rng.uniform(0.3, 1.5)):
                    return
                # Not through the client: it would wait for workers that are being restarted.
                victims = [
                    p for p in family(os.getpid())
                    if p.is_running() and any("spawn_main" in word for word in p.cmdline())
                ]  # fmt: skip
                if victims:
                    victim = rng.choice(sorted(victims, key=lambda process: process.pid))
                    victim.kill()
                    outcome.done.append(f"{time.perf_counter() - begin:.1f} s: a worker killed")

        begin = time.perf_counter()
        killer = threading.Thread(target=kill)
        killer.start()
        turns = 0
        try:
            # Long enough for all kills, on workers of which some are always starting.
            while killer.is_alive() or not turns:
                report = of.extract(
                    place.raw, features(pause=0.1), place.out, client=client, granularity=2,
                    force=True, progress=False,
                )  # fmt: skip
                turns += 1
                if not report.ok:
                    outcome.done += [f"failed: {one.reason}" for one in report.failed]
        finally:
            over.set()
            killer.join()
        n_killed = sum("killed" in line for line in outcome.done)
        outcome.done.append(f"{n_killed} workers killed in {turns} runs")
        resume(place, outcome, features(pause=0.1), client)
    return outcome


_CLIENT = """
import sys
sys.path.insert(0, sys.argv[1])
import faults
import oectflow as of

raw, out = sys.argv[2:]
with of.connect("local", n_workers=2, dashboard_port=0) as client:
    of.extract(raw, faults.features(pause=0.1), out, client=client, granularity=1, progress=False)
"""


def killed_client(place: Place) -> Outcome:
    """SIGKILL the process that called ``of.extract``; its cluster must end with it."""
    with faulty(place, "client") as outcome:
        client = subprocess.Popen(
            [sys.executable, "-c", _CLIENT, Path(__file__).parent, place.raw, place.out]
        )
        wait_for(lambda: len(contents(place.out)) >= 2 if place.out.exists() else False, client)
        below = family(client.pid)
        client.kill()
        client.wait()
        outcome.done.append(f"the client killed, with {len(contents(place.out))} results written")
        _, alive = psutil.wait_procs(below, timeout=SECONDS_TO_END)
        outcome.wrong += [f"process {process.pid} is left over" for process in alive]
        # The same feature with the same code, so that what was written is kept.
        report = resume(place, outcome, features(pause=0.1))
        if not report.counts.get("unchanged"):
            outcome.wrong.append("nothing of what the killed client had written was kept")
    return outcome


def killed_scheduler(place: Place) -> Outcome:
    """SIGKILL the process of the scheduler and the nannies during a run."""
    with faulty(place, "scheduler") as outcome:
        with of.connect("local", n_workers=2, dashboard_port=0) as client:
            (host,) = [p for p in family(os.getpid()) if "host.py" in " ".join(p.cmdline())]
            below = host.children(recursive=True)

            def kill() -> None:
                wait_for(lambda: place.out.exists() and len(contents(place.out)) >= 2)
                host.kill()

            killer = threading.Thread(target=kill)
            killer.start()
            try:
                of.extract(
                    place.raw, features(pause=0.1), place.out, client=client, granularity=1,
                    progress=False,
                )  # fmt: skip
                outcome.wrong.append("the run ended as if the scheduler were there")
            except of.ClusterError as error:
                outcome.done.append(f"the scheduler killed: {error}")
            killer.join()
            _, alive = psutil.wait_procs(below, timeout=SECONDS_TO_END)
            outcome.wrong += [f"process {process.pid} is left over" for process in alive]
        resume(place, outcome, features(pause=0.1))
    return outcome


def bad_step(place: Place, client: Client, kind: str) -> Outcome:
    """Compute a step that takes its process with it; only this one may be missing."""
    with faulty(place, kind) as outcome:
        config = marked(features(kind), place.raw)
        report = of.extract(
            place.raw, config, place.out, client=client, granularity="experiment", progress=False
        )
        (first, *others) = report.experiments
        outcome.done.append(first.reason or "nothing failed")
        if first.outcome != "failed" or first.n_failed != 1:
            outcome.wrong.append(f"the first experiment is {first.outcome}, {first.n_failed} steps")
        outcome.wrong += [one.reason for one in others if one.outcome == "failed"]
        problems = of.problems_frame(place.out)[["experiment_id", "step", "feature"]]
        if problems.values.tolist() != [["test_00", POISONOUS_STEP, "mean"]]:
            outcome.wrong.append(f"recorded problems: {problems.values.tolist()}")
        # With an extractor that is mended the rest is kept, or computed as it should be.
        resume(place, outcome)
    return outcome


def full_disk(place: Place) -> Outcome:
    """Write to a file system that is full; then there is room, and the run goes on."""
    place.out.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", place.out], capture_output=True
    )
    if mounted.returncode:
        return Outcome("disk", skipped="mounting a small file system needs root")
    try:
        with faulty(place, "disk") as outcome:
            try:
                of.extract(place.raw, features(), place.out, progress=False)
                outcome.wrong.append("the disk was not full")
            except of.OutputError as error:
                n = len(contents(place.out))
                outcome.done.append(f"full after {n} results: {error}")
            grow = ["mount", "-o", "remount,size=64m", place.out]
            subprocess.run(grow, check=True, capture_output=True)
            report = resume(place, outcome)
            # What was being written when the run stopped may have become whole since.
            if report.counts.get("unchanged", 0) < n:
                outcome.wrong.append(f"{n} results were whole, kept: {report.counts}")
    finally:
        # Lazily: a thread may still be about to find out.
        subprocess.run(["umount", "-l", place.out], check=True)
    return outcome


def removed_folder(place: Place, client: Client) -> Outcome:
    """Remove the output folder while results are written."""
    with faulty(place, "folder") as outcome:

        def remove() -> None:
            wait_for(lambda: place.out.exists() and len(contents(place.out)) >= 2)
            place.out.rename(place.out.with_name("taken away"))

        thief = threading.Thread(target=remove)
        thief.start()
        try:
            of.extract(
                place.raw, features(pause=0.05), place.out, client=client, granularity=1,
                progress=False,
            )  # fmt: skip
            outcome.wrong.append("the run ended as if the folder were there")
        except of.OutputError as error:
            outcome.done.append(f"the folder removed: {error}")
        thief.join()
        shutil.rmtree(place.out.with_name("taken away"))
        resume(place, outcome, features(pause=0.05), client)
    return outcome


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[Any] | None = None) -> None:
    """Wait until something is true, or a process has ended, or two minutes are over."""
    deadline = time.monotonic() + 120
    while not condition() and time.monotonic() < deadline:
        if process is not None and process.poll() is not None:
            raise RuntimeError(f"the process ended before, with status {process.returncode}")
        time.sleep(0.02)


def main() -> None:
    """Run the benchmark."""
    import _machine
    from faults_storage import SCENARIOS

    names = ("workers", "client", "scheduler", "poison", "greedy", "disk", "folder", *SCENARIOS)
    parser = _machine.parser(__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scenarios", nargs="+", choices=names, default=names)
    options = parser.parse_args()
    about = _machine.describe()
    outcomes = []
    with tempfile.TemporaryDirectory() as temporary:
        raw = write_lab(Path(temporary) / "raw")

        def add(name: str, scenario: Callable[..., Outcome], *arguments: Any) -> None:
            if name in options.scenarios:
                place = Place(raw, Path(temporary) / name, options.seed)
                place.folder.mkdir()
                outcome = scenario(place, *arguments)
                outcomes.append(outcome)
                verdict = outcome.skipped or "; ".join(outcome.wrong) or "nothing lost"
                print(f"{name}: {verdict} ({outcome.seconds:.0f} s)")
                print("".join(f"    {line}\n" for line in outcome.done), end="", flush=True)

        for name, scenario in SCENARIOS.items():
            add(name, scenario)
        if {"workers", "poison", "greedy", "folder"} & set(options.scenarios):
            with of.connect("local", n_workers=2, memory=MEMORY, dashboard_port=0) as client:
                add("workers", killed_workers, client, options.kills)
                add("poison", bad_step, client, "poison")
                add("greedy", bad_step, client, "greedy")
                add("folder", removed_folder, client)
        add("client", killed_client)
        add("scheduler", killed_scheduler)
        add("disk", full_disk)
    rows = [
        {
            "scenario": one.scenario,
            "wrong": "skipped: " + one.skipped if one.skipped else len(one.wrong),
            "s": one.seconds,
            "done": one.done,
            "what": one.wrong,
        }
        for one in outcomes
    ]
    _machine.report(
        "Faults, and what is wrong after the run was repeated", rows, options.json,
        hidden=("done", "what"), notes=[f"seed {options.seed}"], machine=about,
    )  # fmt: skip
    sys.exit(any(one.wrong for one in outcomes))


if __name__ == "__main__":
    # Under its own name, so that the extractors are the same ones in the client that is killed.
    import faults

    faults.main()
