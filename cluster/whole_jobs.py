"""Jobs of a batch system that come and go with the work, whole ones, and not at every breath."""

from __future__ import annotations

import math
from typing import Any

from distributed import Adaptive
from distributed.scheduler import WorkerState

#: A job that waited for its turn is not given back for a pause of less than so many seconds.
_PATIENCE = 60


def job_of(worker: WorkerState) -> str:
    """Return what the workers of one job have in common: all of their names but the last number."""
    return str(worker.name).rpartition("-")[0]


class WholeJobs(Adaptive):
    """Dask's adaptive scaling in units of jobs.

    It would otherwise ask for three workers where a job has two, find four, and end the job that
    has one too many: workers of a job come and end together.

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
        """Return how many workers there should be: whole jobs."""
        return whole(await super().safe_target(), self._processes, self.maximum)


def whole(target: int, processes: int, most: float) -> int:
    """Return the workers of the fewest jobs that have so many, at most ``most`` in one job or more.

    >>> whole(3, 2, 8), whole(3, 2, 3), whole(1, 48, 10), whole(0, 48, 10)
    (4, 2, 48, 0)
    """
    if target <= 0:
        return 0
    jobs = math.ceil(target / processes)
    if math.isfinite(most):
        jobs = min(jobs, max(int(most) // processes, 1))
    return jobs * processes
