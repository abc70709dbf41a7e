"""A Dask cluster on this machine, set up for tasks of a fraction of a second."""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path
from typing import Any

import dask
from dask.system import CPU_COUNT
from dask.utils import parse_bytes
from distributed import LocalCluster
from distributed.system import MEMORY_LIMIT

#: From this many cores on, one is left to the scheduler and the notebook.
CORES_TO_SPARE_ONE = 8

#: Dask's own background work costs 2.5–3.4 % of every core with its default intervals and under
#: 1 % with these, which keep the profile page useful.  A batch holds its samples in NumPy arrays
#: that cannot be spilled, and a paused worker never resumes while its memory is held by others, so
#: workers are neither spilled nor paused: one that leaks is restarted at 95 % of its limit.
DASK_CONFIG: dict[str, Any] = {
    "distributed.admin.system-monitor.interval": "2s",
    "distributed.admin.tick.interval": "500ms",
    "distributed.scheduler.allowed-failures": 3,
    "distributed.worker.memory.monitor-interval": "500ms",
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.terminate": 0.95,
    "distributed.worker.profile.cycle": "10s",
    "distributed.worker.profile.interval": "100ms",
}

#: Parallelism comes from Dask alone: a library with threads of its own would take the cores of its
#: neighbours.  Dask pins BLAS and OpenMP, but not Numba.  Arrow's default memory pool keeps what
#: it has freed: 170 MB more per worker after 60 files.
WORKER_ENVIRONMENT: dict[str, str] = {
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MKL_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


def default_workers(n_cores: int = CPU_COUNT) -> int:
    """Return how many worker processes suit a machine: 2 for 2 cores, 47 for 48, 95 for 96."""
    return n_cores - 1 if n_cores >= CORES_TO_SPARE_ONE else max(1, n_cores)


def start_local(
    n_workers: int | None = None,
    memory: str | int | None = None,
    dashboard_port: int = 8787,
) -> LocalCluster:
    """Start one single-threaded worker process per core.

    Processes, not threads: h5py reads one file at a time per process.

    Parameters
    ----------
    n_workers
        Number of processes; by default :func:`default_workers`.
    memory
        Memory of all workers together, e.g. ``"200 GiB"``; by default 90 % of the machine's.
    dashboard_port
        Port of the dashboard on this machine; another free one is taken where it is in use.

    Returns
    -------
    The cluster; the dashboard listens on the loopback address only.
    """
    n_workers = n_workers or default_workers()
    total = parse_bytes(memory) if memory is not None else int(0.9 * MEMORY_LIMIT)
    with dask.config.set(DASK_CONFIG):
        return LocalCluster(
            n_workers=n_workers,
            threads_per_worker=1,
            memory_limit=total // n_workers,
            host="127.0.0.1",
            dashboard_address=f"127.0.0.1:{_free_port(dashboard_port)}",
            env=WORKER_ENVIRONMENT,
            # Not the current folder: it may be a slow or read-only network disk.
            local_directory=str(Path(tempfile.gettempdir()) / "oectflow"),
        )


def _free_port(wanted: int) -> int:
    """Return the port if nobody listens there, else 0, which means any."""
    with socket.socket() as probe:
        return 0 if probe.connect_ex(("127.0.0.1", wanted)) == 0 else wanted
