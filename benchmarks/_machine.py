"""What benchmarks say beside their figures: the machine, its load, the CPU time."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

_PACKAGES = (
    "oectflow", "dask", "distributed", "numpy", "numba", "scipy", "h5py", "deflate", "pyarrow",
    "PyWavelets", "xxhash",
)  # fmt: skip


def describe() -> dict[str, Any]:
    """Return where this runs, and how busy the machine was in the last minute."""
    model = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    return {
        "cpu": model,
        "n_cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _PACKAGES},
        "load": os.getloadavg()[0],
    }


def is_busy() -> bool:
    """Whether somebody else uses more than half of the machine: times then mean little."""
    return os.getloadavg()[0] > (os.cpu_count() or 1) / 2


def check_load(abort: bool) -> None:
    """Warn, or stop, where the machine is busy with something else."""
    if not is_busy():
        return
    text = (
        f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores: something else is running, "
        "and times and ratios are worse than they would be"
    )
    if abort:
        sys.exit(f"{text}; wait, or measure anyway with --anyway")
    print(f"warning: {text}", file=sys.stderr)


def parser(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser that shows the whole docstring, and has ``--json``."""
    result = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("--json", type=Path, metavar="PATH", help="also write all numbers here")
    return result


def report(
    title: str,
    rows: Sequence[dict[str, Any]],
    json_path: Path | None,
    hidden: Iterable[str] = (),
    notes: Sequence[str] = (),
    machine: dict[str, Any] | None = None,
) -> None:
    """Print a table, and write rows, notes and machine as JSON.

    Parameters
    ----------
    title
        Above the table.
    rows
        One dict per row; the keys are the headings.
    json_path
        Where the JSON goes; None for nowhere.
    hidden
        Keys that only the JSON has.
    notes
        Lines under the table.
    machine
        Of :func:`describe`, taken before the measurement; its own load would count otherwise.
    """
    headings = dict.fromkeys(name for row in rows for name in row if name not in set(hidden))
    table = Table(title=title)
    for name in headings:
        table.add_column(name, justify="left" if name == next(iter(headings)) else "right")
    for row in rows:
        table.add_row(*(_text(row.get(name, "")) for name in headings))
    # A pipe has no width; cells would be cut.
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)
    for note in notes:
        print(note)
    about = machine or describe()
    print(f"{about['cpu']}, {about['n_cores']} cores, load {about['load']:.2f} at the start")
    if json_path is not None:
        content = {"title": title, "machine": about, "rows": list(rows), "notes": list(notes)}
        json_path.write_text(json.dumps(content, indent=1, ensure_ascii=False))


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return "" if value is None else str(value)


def cpu_seconds(pids: Iterable[int]) -> dict[int, float]:
    """Return the CPU time of each process that is still there, in s."""
    result = {}
    for pid in pids:
        try:
            times = psutil.Process(pid).cpu_times()
        except psutil.NoSuchProcess:
            continue
        result[pid] = times.user + times.system
    return result


@contextmanager
def most_memory(pids: Iterable[int]) -> Iterator[dict[int, int]]:
    """Yield by how many bytes each process grows meanwhile, at most, looking ten times a second."""
    processes = {pid: psutil.Process(pid) for pid in pids}
    begin = {pid: process.memory_info().rss for pid, process in processes.items()}
    most = dict.fromkeys(processes, 0)
    over = threading.Event()

    def look_on() -> None:
        while not over.wait(0.1):
            for pid, process in processes.items():
                most[pid] = max(most[pid], process.memory_info().rss - begin[pid])

    thread = threading.Thread(target=look_on)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


def processes_of(pid: int) -> dict[str, list[psutil.Process]]:
    """Return a client's processes by what they do: ``client``, ``scheduler``, ``workers``.

    The scheduler's process of ``of.connect("local")`` holds the nannies, too.
    """
    roles: dict[str, list[psutil.Process]] = {"client": [], "scheduler": [], "workers": []}
    try:
        client = psutil.Process(pid)
        family = [client, *client.children(recursive=True)]
    except psutil.NoSuchProcess:
        return roles
    for process in family:
        try:
            command = " ".join(process.cmdline())
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
        if process.pid == pid:
            roles["client"].append(process)
        elif "host.py" in command:
            roles["scheduler"].append(process)
        elif "spawn_main" in command:
            roles["workers"].append(process)
    return roles
