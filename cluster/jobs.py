"""The jobs of a batch system: refused, ended before their workers came, or ended and replaced.

At its end, a job writes into a folder that all nodes see.  This works in the same way for every
batch system.  If a job is refused, the command that submits it says so.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from distributed.deploy.cluster import Cluster

from oectflow.cluster.dask_internals import ProcessInterface, Status

logger = logging.getLogger(__name__)

#: Number of the job in its own environment: SLURM, PBS, LSF, SGE.
_JOB_ID = "${SLURM_JOB_ID:-${PBS_JOBID:-${LSB_JOBID:-${JOB_ID:-}}}}"
_ENDED = "ended-"
#: Seconds between two looks at the jobs.
_BETWEEN = 1.0
#: So many jobs may end one after the other without workers before no more are submitted.
_MOST_DEATHS = 3
#: Of a log, what is shown.
_LINES, _CHARACTERS = 12, 2000


def script_lines(folder: Path) -> list[str]:
    """Return shell lines that let a job say that it has ended, and with which status.

    Parameters
    ----------
    folder
        Folder for these messages; all nodes must see it.
    """
    place = shlex.quote(str(folder))
    return [
        f'oectflow_job="{_JOB_ID}"',
        f'oectflow_ended() {{ echo "$?" > {place}/{_ENDED}"${{oectflow_job%%.*}}"; }}',
    ]


@dataclass(frozen=True)
class Ended:
    """A job that has ended before any of its workers came.

    Attributes
    ----------
    job_id
        Its number.
    status
        Its exit status; empty if unknown.
    log
        The end of its output, and the place of the output.
    """

    job_id: str
    status: str
    log: str


class Jobs:
    """The state of the jobs of one cluster.

    Parameters
    ----------
    folder
        Folder where jobs say that they have ended.
    logs
        Folder where the batch system writes their output.
    processes
        Workers of a job.
    """

    def __init__(self, folder: Path, logs: Path, processes: int) -> None:
        self.folder, self.logs, self.processes = folder, logs, processes
        #: What the batch system said when it refused a job; empty where it took all.
        self.refusal = ""
        #: Jobs that have ended before any of their workers came, since the last one that came.
        self.dead: list[Ended] = []
        self._came: set[str] = set()
        self._wanted: int | None = None
        self._cluster: Cluster | None = None

    def watched(self, job_cls: type) -> type:
        """Return a job class of dask-jobqueue that reports a refusal instead of raising it."""
        jobs = self

        class Watched(job_cls):
            async def start(self) -> None:
                try:
                    await super().start()
                except (RuntimeError, ValueError, OSError) as error:
                    jobs.refusal = _said(error)
                    jobs.tell()
                    # What raises here is only logged by Dask, with a traceback of its own.
                    await ProcessInterface.start(self)

            async def close(self) -> None:
                await super().close()
                self.status = Status.closed

        return Watched

    def keep(self, cluster: Cluster, n_workers: int | None) -> None:
        """Watch the jobs from now on; replace jobs that end while there is work.

        Parameters
        ----------
        cluster
            Of dask-jobqueue.
        n_workers
            How many workers there should be; None if something else controls this.
        """
        self._cluster = cluster
        if n_workers is not None:
            self._wanted = math.ceil(n_workers / self.processes)
            cluster.scale(jobs=self._wanted)
        cluster.loop.add_callback(self._look_on)

    @property
    def problem(self) -> str:
        """The reason why no workers will come; empty if there is none."""
        if self.refusal:
            return f"the batch system refuses the job: {self.refusal}"
        if self.dead:
            last = self.dead[-1]
            status = f" with status {last.status}" if last.status else ""
            return f"job {last.job_id} ended{status} before its workers came; {last.log}"
        return ""

    def tell(self) -> None:
        """Log the problem; before the first worker comes, the waiting call reports it."""
        if self._came:
            logger.error("%s", self.problem)

    def in_words(self) -> str:
        """Say how many jobs there are."""
        assert self._cluster is not None
        ids = [job.job_id for job in self._cluster.workers.values() if job.job_id]
        some = ", ".join(ids[:5]) + (", …" if len(ids) > 5 else "")
        return f"{len(ids)} job{'' if len(ids) == 1 else 's'} submitted" + (
            f" ({some})" if ids else ""
        )

    async def _look_on(self) -> None:
        assert self._cluster is not None
        while self._cluster.status not in (Status.closing, Status.closed, Status.failed):
            try:
                await self._look(self._cluster)
            except OSError as error:
                # A scheduler that ends, or a disk that does not answer, is told by others.
                logger.debug("looking at the jobs: %s", error)
            await asyncio.sleep(_BETWEEN)

    async def _look(self, cluster: Cluster) -> None:
        names = {str(info["name"]) for info in cluster.scheduler_info["workers"].values()}
        for name, job in cluster.workers.items():
            if job.job_id and any(one == name or one.startswith(f"{name}-") for one in names):
                self._came.add(job.job_id)
        for path in self.folder.glob(f"{_ENDED}*"):
            status = path.read_text().strip()
            path.unlink()
            self._ended(cluster, path.name.removeprefix(_ENDED), status)
        wanted = len(cluster.worker_spec) if self._wanted is None else self._wanted
        if (
            not self.refusal
            and len(self.dead) < _MOST_DEATHS
            and len(cluster.workers) < wanted
            and await cluster.scheduler_comm.adaptive_target() > 0
        ):
            # Also what Dask itself has seen to be gone is submitted anew by that.
            cluster.scale(jobs=wanted)

    def _ended(self, cluster: Cluster, job_id: str, status: str) -> None:
        for name, job in list(cluster.workers.items()):
            if job.job_id == job_id:
                del cluster.workers[name]
                job.status = Status.closed
        if job_id in self._came:
            self.dead.clear()
            logger.info("job %s has ended with status %s", job_id, status)
            return
        self.dead.append(Ended(job_id, status, self._log_of(job_id)))
        self.tell()
        if len(self.dead) == _MOST_DEATHS:
            logger.error("%d jobs in a row without workers: no more are submitted", _MOST_DEATHS)

    def _log_of(self, job_id: str) -> str:
        """Return the end of what a job has written, in words."""
        number = re.compile(rf"(?<!\d){re.escape(job_id)}(?!\d)")
        try:
            files = [path for path in sorted(self.logs.iterdir()) if number.search(path.name)]
            texts = {path: path.read_text(errors="replace").strip() for path in files}
        except OSError as error:
            return f"its log cannot be read: {error}"
        for path, text in texts.items():
            if text:
                end = "\n".join(text.splitlines()[-_LINES:])[-_CHARACTERS:]
                return f"the end of its log {path}:\n{end}"
        return f"there is no log of it in {self.logs}"


def wait_for_workers(
    came: Callable[[], bool], jobs: Jobs, timeout: float, tell: Callable[[str], None]
) -> str:
    """Wait until a worker has come, or it is certain that none will come.

    Parameters
    ----------
    came
        Returns whether a worker has come.
    jobs
        Which jobs.
    timeout
        In s.
    tell
        Called every ten seconds with a text that says what the wait is for.

    Returns
    -------
    The reason why no worker will come; empty when one has come.
    """
    begin = told = time.monotonic()
    while not came():
        now = time.monotonic()
        if jobs.problem:
            return jobs.problem
        if now - begin > timeout:
            return (
                f"no worker has come within {timeout:g} s; {jobs.in_words()}; look at the queue, "
                "or wait longer with timeout="
            )
        if now - told > 10.0:
            told = now
            tell(f"{jobs.in_words()}, no worker yet ({now - begin:.0f} s)")
        time.sleep(0.1)
    return ""


def _said(error: BaseException) -> str:
    """Return what the batch system said, out of what dask-jobqueue makes of it."""
    _, _, said = str(error).partition("stderr:\n")
    return " ".join(said.split()) or str(error)


def lifetime_options(kind: str, walltime: str | None) -> list[str]:
    """Return options that let a worker end in time; none if there is no limit.

    A worker that knows its lifetime finishes its task and hands over its results.  Otherwise, the
    batch system would kill it in the middle of a task.  The workers of a job do not all end at
    once.

    Parameters
    ----------
    kind
        Of the batch system.
    walltime
        Of a job, as that system writes it.
    """
    seconds = walltime_seconds(kind, walltime)
    if seconds is None:
        return []
    margin = min(120.0, 0.2 * seconds)
    return ["--lifetime", f"{seconds - margin:.0f}s", "--lifetime-stagger", f"{margin / 2:.0f}s"]


def walltime_seconds(kind: str, walltime: str | None) -> float | None:
    """Return the time limit of a job in s; None if there is none, or it cannot be parsed.

    >>> walltime_seconds("slurm", "1-02:00:00"), walltime_seconds("lsf", "00:30")
    (93600.0, 1800.0)
    """
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", str(walltime or "").strip())
    if match is None:
        return None
    days, *rest = (int(part) if part is not None else None for part in match.groups())
    parts = [part for part in rest if part is not None]
    if days is not None or kind == "lsf":
        # Days, hours, minutes, seconds; of LSF hours and minutes, or minutes alone.
        units = [3600, 60, 1] if days is not None or len(parts) > 1 else [60]
    elif kind == "slurm":
        units = {1: [60], 2: [60, 1], 3: [3600, 60, 1]}[len(parts)]
    else:
        units = {1: [1], 2: [60, 1], 3: [3600, 60, 1]}[len(parts)]
    seconds = 86400 * (days or 0) + sum(n * unit for n, unit in zip(parts, units, strict=False))
    return float(seconds) or None
