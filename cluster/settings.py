"""Settings of every cluster: Dask's settings and the environment of the workers."""

from __future__ import annotations

from typing import Any

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

#: Of a client: for how long the scheduler may leave what it is sent unread.  Dask takes a scheduler
#: for dead that is busy for 30 s, with many workers or on a machine that others use, too, if more
#: waits to be sent than the system's buffers hold.  A worker gets as long to give a sign of life.
CLIENT_CONFIG: dict[str, Any] = {"distributed.comm.timeouts.tcp": "300s"}

#: Parallelism comes from Dask alone: a library with threads of its own would take the cores of its
#: neighbours.  Dask pins BLAS and OpenMP, but not Numba.  Arrow's default memory pool keeps what
#: it has freed: 170 MB more per worker after 60 files.  With the system's pool nothing is left to
#: trim: malloc_trim after each of 16 experiments of 48 MB left workers at 352–359 MB, as without.
WORKER_ENVIRONMENT: dict[str, str] = {
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MKL_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


def as_environment(config: dict[str, Any]) -> dict[str, str]:
    """Return Dask settings as environment variables, for workers started by other programs.

    >>> as_environment({"distributed.admin.tick.interval": "500ms"})
    {'DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL': '500ms'}
    """
    return {
        "DASK_" + name.upper().replace(".", "__").replace("-", "_"): str(value)
        for name, value in config.items()
    }
