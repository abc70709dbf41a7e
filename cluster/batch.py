"""Workers as jobs of a batch system: SLURM, PBS, SGE or LSF, through dask-jobqueue."""

from __future__ import annotations

import importlib
import shlex
import shutil
import signal
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import dask
from dask.utils import parse_timedelta
from distributed import Security
from distributed.deploy.cluster import Cluster

from oectflow.cluster.jobs import Jobs, lifetime_options, script_lines
from oectflow.cluster.local import LOOPBACK, free_port, scratch_folder
from oectflow.cluster.processes import SchedulerProcess
from oectflow.cluster.security import temporary_certificates, written_certificates
from oectflow.cluster.settings import DASK_CONFIG, WORKER_ENVIRONMENT, as_environment
from oectflow.errors import ClusterError
from oectflow.extras import extra

#: Name of the cluster class in dask-jobqueue.
BATCH_SYSTEMS = {
    "slurm": "SLURMCluster",
    "pbs": "PBSCluster",
    "sge": "SGECluster",
    "lsf": "LSFCluster",
}

#: Seconds that a worker has to come, at least.  What it compiles before it counts; with Dask's
#: minute, those that join while others compile would be killed and submitted anew.
_TO_COME = 300

#: Where jobs find the certificates and say that they have ended: seen by all nodes, and by nobody
#: else.
SHARED = "~/.oectflow"


def import_jobqueue(kind: str) -> ModuleType:
    """Import dask-jobqueue, and leave Ctrl-C as it is.

    Its import makes Ctrl-C end the process without a word, and fails in a thread for this reason.

    Raises
    ------
    ClusterError
        It is not installed, or it is imported for the first time outside the main thread.
    """
    before = signal.getsignal(signal.SIGINT)
    try:
        with extra("batch", f"connect({kind!r})", ClusterError):
            jobqueue = importlib.import_module("dask_jobqueue")
    except ValueError as error:
        raise ClusterError(
            f"connect({kind!r}): dask-jobqueue cannot be imported in a thread ({error}); import "
            "dask_jobqueue in the main thread first"
        ) from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, before)
    return jobqueue


def start_batch(
    kind: str,
    memory: str | None = None,
    dashboard_port: int = 8787,
    dashboard_host: str = LOOPBACK,
    security: Any = None,
    **options: Any,
) -> tuple[Cluster, Jobs]:
    """Start a scheduler on this machine whose workers will be jobs; no job is submitted yet.

    Parameters
    ----------
    kind
        ``"slurm"``, ``"pbs"``, ``"sge"`` or ``"lsf"``.
    memory
        Memory of one job, e.g. ``"180 GiB"``.
    dashboard_port, dashboard_host
        Where the dashboard listens.
    security
        None or True: TLS with a temporary certificate, which is kept in ``~/.oectflow`` for the
        jobs while the cluster runs.  False: no TLS; then everybody on the network can run code
        under your name.
    **options
        Arguments of the cluster class in dask-jobqueue: ``cores`` (of one job), ``queue``,
        ``account``, ``walltime``, ``interface``, ``job_extra_directives`` …; missing ones are taken
        from Dask's configuration, ``jobqueue.<kind>``.

    Returns
    -------
    The cluster and its jobs.  ``job_script()`` of the cluster shows what will be submitted.

    Raises
    ------
    ClusterError
        dask-jobqueue is missing, or does not accept an option.
    """
    jobqueue = import_jobqueue(kind)

    def configured(name: str) -> Any:
        return options.pop(name, None) or dask.config.get(
            f"jobqueue.{kind}.{name.replace('_', '-')}", None
        )

    cores = configured("cores")
    if cores is None:
        raise ClusterError(f"connect({kind!r}): say how many cores one job has, e.g. cores=48")
    # One thread per worker: h5py reads one file at a time per process.
    processes = configured("processes") or cores
    # Health and counters of a worker are there without a dashboard, for all who reach the node.
    arguments = ["--no-dashboard", "--dashboard-address", f"{LOOPBACK}:0"]
    asked = configured("worker_extra_args") or []
    if "--lifetime" not in asked:
        limit = options.get("walltime") or dask.config.get(f"jobqueue.{kind}.walltime", None)
        arguments += lifetime_options(kind, limit)
    arguments += asked
    options["death_timeout"] = max(_TO_COME, parse_timedelta(configured("death_timeout")) or 0)
    scheduler_options = configured("scheduler_options") or {}
    port = free_port(dashboard_port, dashboard_host)
    certificates = temporary_certificates(security)
    shared = Path(SHARED).expanduser()
    shared.mkdir(mode=0o700, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=shared))
    if certificates is not None:
        if not isinstance(security, (Mapping, Security)):
            certificates = written_certificates(certificates, folder)
        options["security"] = certificates
    prologue = [*_environment_lines(folder), *(configured("job_script_prologue") or [])]
    logs = Path(configured("log_directory") or folder)
    jobs = Jobs(folder, logs, processes)
    if memory is not None:
        options["memory"] = memory
    try:
        with dask.config.set(DASK_CONFIG):
            system = getattr(jobqueue, BATCH_SYSTEMS[kind])
            return system(
                cores=cores,
                processes=processes,
                job_cls=jobs.watched(system.job_cls),
                log_directory=str(logs),
                job_script_prologue=prologue,
                worker_extra_args=arguments,
                scheduler_cls=SchedulerProcess,
                scheduler_options={
                    "dashboard_address": f"{dashboard_host}:{port}",
                    "remove_at_end": str(folder),
                    "local_directory": str(scratch_folder()),
                }
                | scheduler_options,
                **options,
            ), jobs
    except (RuntimeError, TypeError, ValueError) as error:
        shutil.rmtree(folder)
        raise ClusterError(f"connect({kind!r}): {error}") from error


def _environment_lines(folder: Path) -> list[str]:
    """Return shell lines that prepare a node for its workers."""
    variables = WORKER_ENVIRONMENT | as_environment(DASK_CONFIG)
    return [
        # Dask imports from there before it looks anywhere else; mktemp lets only us in.
        'export DASK_TEMPORARY_DIRECTORY="$(mktemp -d "${TMPDIR:-/tmp}/oectflow-XXXXXXXXXX")"',
        *script_lines(folder),
        "trap 'oectflow_ended; rm -rf -- \"$DASK_TEMPORARY_DIRECTORY\"' EXIT",
        *(f"export {name}={shlex.quote(value)}" for name, value in variables.items()),
        # One folder per node: two nodes that write into one folder of a network disk can spoil
        # each other's index.
        'export NUMBA_CACHE_DIR="${NUMBA_CACHE_DIR:-$HOME/.cache/oectflow/numba-$(hostname)}"',
    ]
