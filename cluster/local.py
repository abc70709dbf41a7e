"""A Dask cluster on this machine, set up for tasks that take a fraction of a second."""

from __future__ import annotations

import logging
import os
import socket
import tempfile
from pathlib import Path
from typing import Any

import dask
from dask.system import CPU_COUNT
from dask.utils import parse_bytes
from distributed.system import MEMORY_LIMIT

from oectflow.cluster.processes import ProcessCluster
from oectflow.cluster.security import temporary_certificates
from oectflow.cluster.settings import DASK_CONFIG, WORKER_ENVIRONMENT
from oectflow.errors import ClusterError
from oectflow.private_folder import NotPrivate, private_folder

#: From this many cores on, one is left to the scheduler and the notebook.
CORES_TO_SPARE_ONE = 8

LOOPBACK = "127.0.0.1"


def default_workers(n_cores: int = CPU_COUNT) -> int:
    """Return a suitable number of worker processes: 2 for 2 cores, 47 for 48, 95 for 96."""
    return n_cores - 1 if n_cores >= CORES_TO_SPARE_ONE else max(1, n_cores)


def start_local(
    n_workers: int | None = None,
    memory: str | int | None = None,
    dashboard_port: int = 8787,
    dashboard_host: str = LOOPBACK,
    security: Any = None,
) -> ProcessCluster:
    """Start one single-threaded worker process per core, and a scheduler process.

    It uses processes, not threads, because h5py reads one file at a time per process.

    Parameters
    ----------
    n_workers
        Number of processes; by default :func:`default_workers`.
    memory
        Memory of all workers together, e.g. ``"200 GiB"``; by default 90 % of the machine's.
    dashboard_port
        Port of the dashboard on this machine; if it is in use, another free port is taken.
    dashboard_host
        Address on which the dashboard listens; by default only this machine can see it.
    security
        None or True: TLS with a temporary certificate; False: none.

    Returns
    -------
    The cluster.  It ends with this process at the latest.

    Raises
    ------
    ClusterError
        The cluster does not start.
    """
    n_workers = default_workers() if n_workers is None else n_workers
    if n_workers < 1:
        raise ClusterError(f"n_workers={n_workers}: expected at least 1")
    total = parse_bytes(memory) if memory is not None else int(0.9 * MEMORY_LIMIT)
    certificates = temporary_certificates(security)
    protocol = "tcp://" if certificates is None else "tls://"
    port = free_port(dashboard_port, dashboard_host)
    with dask.config.set(DASK_CONFIG):
        try:
            return ProcessCluster(
                n_workers,
                scheduler_options={
                    "host": LOOPBACK,
                    "protocol": protocol,
                    "dashboard": True,
                    "dashboard_address": f"{dashboard_host}:{port}",
                    # Dask imports from there before it looks anywhere else.
                    "local_directory": str(scratch_folder()),
                },
                worker_options={
                    "host": LOOPBACK,
                    "protocol": protocol,
                    "nthreads": 1,
                    "memory_limit": total // n_workers,
                    "env": WORKER_ENVIRONMENT,
                    "local_directory": str(scratch_folder()),
                    "silence_logs": logging.WARNING,
                },
                security=certificates,
            )
        except RuntimeError as error:
            raise ClusterError(f"the cluster on this machine does not start: {error}") from error


def scratch_folder() -> Path:
    """Return a private folder that no other account can write.

    It is not the current folder, which may be on a slow or read-only network disk.

    Raises
    ------
    ClusterError
        Another account has made a folder of that name, or can replace it.
    """
    owner = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "")
    try:
        return private_folder(Path(tempfile.gettempdir()) / f"oectflow-{owner}")
    except (NotPrivate, OSError) as error:
        raise ClusterError(f"{error}; or set TMPDIR to a folder of yours") from error


def free_port(wanted: int, host: str = LOOPBACK) -> int:
    """Return the port if nothing listens on it, else 0, which means any port."""
    address = LOOPBACK if host in ("", "0.0.0.0") else host
    with socket.socket() as probe:
        return 0 if probe.connect_ex((address, wanted)) == 0 else wanted
