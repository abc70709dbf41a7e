"""A scheduler and many single-thread workers in few processes, for tasks that only sleep.

Ninety-six worker processes would need 10 to 20 GB and minutes to start on a small machine.  Tasks
that sleep need no core of their own, so several workers share the event loop and the interpreter of
one process; what they cost there is CPU time that real ones would spend on cores of their own.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import dask
from distributed import Client, Scheduler, Worker

import oectflow as of
from oectflow.cluster.settings import (
    CLIENT_CONFIG,
    DASK_CONFIG,
    WORKER_ENVIRONMENT,
    as_environment,
)

#: With more workers than this, what each does in the background would be most of what a small
#: machine does: 0.4 % of a core for each.
MOST_AWAKE = 100
QUIET = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.interval": "60s",
    "distributed.admin.tick.interval": "60s",
}


@dataclass(frozen=True)
class ManyWorkers:
    """A running cluster: its client, and the processes to account for."""

    client: Client
    scheduler_pid: int
    worker_pids: tuple[int, ...]


@contextmanager
def many_workers(n_workers: int, n_processes: int = 4) -> Iterator[ManyWorkers]:
    """Start a scheduler process and ``n_workers`` workers in ``n_processes`` processes."""
    n_processes = min(n_processes, n_workers)
    config = DASK_CONFIG | (QUIET if n_workers > MOST_AWAKE else {})
    env = os.environ | as_environment(config) | WORKER_ENVIRONMENT
    processes: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> str:
        process = subprocess.Popen(
            [sys.executable, __file__, *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env,
        )  # fmt: skip
        processes.append(process)
        assert process.stdout is not None
        return process.stdout.readline()

    try:
        address = json.loads(start("scheduler"))
        shares = [n_workers * (i + 1) // n_processes - n_workers * i // n_processes
                  for i in range(n_processes)]  # fmt: skip
        for i, share in enumerate(shares):
            start("workers", address, str(i), str(share))
        # As for any scheduler that runs already: every worker loads the kernels first.  What sleeps
        # needs none, and hundreds in one process would all do that.
        connect = of.connect if n_workers <= MOST_AWAKE else Client
        with dask.config.set(CLIENT_CONFIG), connect(address, timeout=120) as client:
            scheduler, *workers = (process.pid for process in processes)
            yield ManyWorkers(client, scheduler, tuple(workers))
    finally:
        for process in reversed(processes):
            process.communicate()


async def _scheduler() -> None:
    async with Scheduler(host="127.0.0.1", dashboard=False, protocol="tcp") as scheduler:
        print(json.dumps(scheduler.address), flush=True)
        await asyncio.to_thread(sys.stdin.read)


async def _workers(address: str, process: int, count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        workers = [
            Worker(address, nthreads=1, name=f"{process}-{i}", memory_limit=0, host="127.0.0.1",
                   dashboard=False, local_directory=folder)
            for i in range(count)
        ]  # fmt: skip
        await asyncio.gather(*workers)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        await asyncio.gather(*(worker.close(timeout=5) for worker in workers))


if __name__ == "__main__":
    for name in ("distributed", "distributed.batched", "bokeh"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if sys.argv[1] == "scheduler":
        asyncio.run(_scheduler())
    else:
        asyncio.run(_workers(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
