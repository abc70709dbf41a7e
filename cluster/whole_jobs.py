"""Adaptive jobs of a batch system: whole jobs, which are not changed too often."""

from __future__ import annotations

import math
from typing import Any

from distributed import Adaptive
from distributed.scheduler import WorkerState

#: A job that waited for its turn is not given back for a pause of less than so many seconds.
_PATIENCE = 60


def job_of(worker: WorkerState) -> str:
    """Return the common part of the names of one job's workers: all but the last number."""
    return str(worker.name).rpartition("-")[0]


class WholeJobs(Adaptive):
    """Dask's adaptive scaling in units of jobs.

    The workers of a job start and end together.  Otherwise, Dask would ask for three workers when a
    job has two, find four, and end the job that has one too many.

    Parameters
    ----------
    cluster
        Of dask-jobqueue.
    processes
        Workers of a job.
    **options
        Of ``distributed.Adaptive``, such as ``minimum`` and ``maximum``.
    """

    def __init__(self, cluster: Any, processes: int, **options: Any) -> None:
        self._processes = processes
        key = job_of if processes > 1 else None
        super().__init__(cluster, interval="1s", wait_count=_PATIENCE, worker_key=key, **options)

    async def safe_target(self) -> int:
        """Return how many workers there should be, in whole jobs."""
        return whole(await super().safe_target(), self._processes, self.maximum)


def whole(target: int, processes: int, most: float) -> int:
    """Return the number of workers in the fewest jobs for ``target``, within ``most`` if possible.

    >>> whole(3, 2, 8), whole(3, 2, 3), whole(1, 48, 10), whole(0, 48, 10)
    (4, 2, 48, 0)
    """
    if target <= 0:
        return 0
    jobs = math.ceil(target / processes)
    if math.isfinite(most):
        jobs = min(jobs, max(int(most) // processes, 1))
    return jobs * processes
