"""Plugins that prepare every worker before its first task."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import hashlib
import importlib.util
import logging
import multiprocessing
import os
import re
import sys
import time
from collections.abc import Awaitable, Iterator, Mapping
from pathlib import Path
from typing import Any

from distributed import Worker, WorkerPlugin

from oectflow.cluster.dask_internals import Status
from oectflow.cluster.local import scratch_folder
from oectflow.cluster.versions import installed_versions, what_differs
from oectflow.errors import ClusterError

if sys.platform != "win32":
    import fcntl

logger = logging.getLogger(__name__)

#: A compilation takes 5 to 30 s; who waits longer than this for another process compiles itself.
_SECONDS_TO_WAIT = 180.0


#: ``malloc.h`` of glibc: from which size on an allocation gets pages of its own, 32 MiB at most,
#: how much free memory at the end of the heap is kept, and how many heaps threads share.  A batch
#: holds 64 MiB of samples.
_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD, _M_ARENA_MAX = -3, -1, -8
_OWN_PAGES_FROM, _KEPT_FREE = 32 * 2**20, 128 * 2**20


#: The topic of Dask's events under which workers say why they leave instead of getting ready.
NOT_READY = "oectflow-not-ready"

#: Of a resource that is no limit.
_PLENTY = 1e9

#: What a worker makes of the plugin, in whatever Python and with whatever packages.
_ANYWHERE = """
def plugin(*given):
    import logging
    from distributed import WorkerPlugin
    try:
        from oectflow.cluster.plugins import WarmUp
        return WarmUp(*given)
    except Exception as error:
        logging.getLogger("distributed.worker").warning(
            "this worker is given no tasks of oectflow: %s: %s", type(error).__name__, error
        )
        return WorkerPlugin()
"""


def keep_freed_memory(threads: int) -> None:
    """Make glibc reuse the memory of one batch for the next.

    Parameters
    ----------
    threads
        How many of them compute.

    Notes
    -----
    Dask makes glibc give every 64 kB back at once.  As a side effect, every array of 128 kB or more
    is mapped again, page by page, and filled with zeros.  This took 40 % of the time of reading and
    a tenth of the time of fitting.  A heap of a thread of its own has 64 MiB at most and is given
    back as a whole, which took another 4 % of a run; where one thread computes, it needs none.  C
    libraries without ``mallopt`` are not changed.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _OWN_PAGES_FROM)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_FREE)
        if threads == 1:
            mallopt(_M_ARENA_MAX, 1)


def warm_up(module: str) -> None:
    """Import ``module`` and call its ``warm_up()``, which compiles or loads all kernels."""
    importlib.import_module(module).warm_up()


def warm_up_here(module: str, beside: str) -> None:
    """Do the same in a user's process; a message about a long wait includes ``beside``."""
    found = importlib.import_module(module)
    if hasattr(found, "warm_up_here"):
        found.warm_up_here(beside=beside)
    else:
        found.warm_up()


def lock_name(module: str) -> str:
    """Return the name of the lock for those who compile the same code into the same cache."""
    try:
        found = importlib.util.find_spec(module)
    except ImportError:
        # Whoever imports it will say so.
        found = None
    source = found.origin if found is not None else None
    what = "\0".join((module, source or "", os.environ.get("NUMBA_CACHE_DIR", "")))
    return f"warm-up-{hashlib.blake2b(what.encode(), digest_size=8).hexdigest()}.lock"


@contextlib.contextmanager
def one_compiles_first(lock_path: Path) -> Iterator[None]:
    """Let the first process of a machine compile alone, and then all others load together.

    The first process compiles and fills Numba's cache on disk; the others load from it.  Without
    this, every worker of a machine with new kernels would compile all of them at the same time.
    """
    if sys.platform == "win32":
        yield
        return
    with lock_path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # A shared lock is granted to all who wait as soon as the first has finished.
            deadline = time.monotonic() + _SECONDS_TO_WAIT
            while time.monotonic() < deadline:
                try:
                    fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(0.05)
        yield


class WarmUp(WorkerPlugin):
    """Prepare a worker before its first task, even if it joins late or replaces a dead one.

    It compares versions with the driver's, keeps freed memory, and compiles or loads the kernels.
    When the worker closes, its process ends at once.  In a worker that cannot import oectflow, it
    does nothing: Dask gives the plugin to all workers that join, and a worker that cannot read it
    cannot join.

    Parameters
    ----------
    module
        Name of a module with a function ``warm_up()``.
    versions
        Version of each package that the worker must have; by default, none are compared.
    resource
        Name of the Dask resource that a worker gets when it is ready; it never gets it with other
        versions.  Empty if the worker is our own; such a worker ends if its versions are different.
    """

    name = "oectflow-warm-up"

    def __init__(
        self,
        module: str,
        versions: Mapping[str, str | None] | None = None,
        resource: str = "",
    ) -> None:
        self.module = module
        self.versions = dict(versions or {})
        self.resource = resource

    def __reduce__(self) -> tuple[Any, ...]:
        given = (self.module, self.versions, self.resource)
        return eval, (f"(lambda it: exec({_ANYWHERE!r}, it) or it['plugin'](*{given!r}))({{}})",)

    def setup(self, worker: Worker) -> Awaitable[None] | None:
        """Called by Dask before the worker is given tasks."""
        other = what_differs(self.versions, installed_versions(tuple(self.versions)))
        if other and self.resource:
            logger.warning("this worker is given no tasks of oectflow: it %s", other)
            return None
        if other:
            # Where another worker is lost at that moment, Dask tells the client nothing but that.
            worker.log_event(NOT_READY, f"worker {worker.address} {other}")
            # Dask only logs what a plugin raises in a worker that joins late.
            worker.loop.add_callback(worker.close, reason=f"oectflow: it {other}")
            raise ClusterError(f"worker {worker.address} {other}")
        keep_freed_memory(worker.state.nthreads)
        with one_compiles_first(scratch_folder() / lock_name(self.module)):
            warm_up(self.module)
        return self._announce(worker) if self.resource else None

    async def _announce(self, worker: Worker) -> None:
        """Let the scheduler know that the worker can run our tasks, and those that wait for one."""
        await worker.set_resources(**{self.resource: _PLENTY})
        if worker.status == Status.running:
            # The scheduler looks at tasks that no worker could run when one begins to run.
            worker.status = Status.paused
            worker.status = Status.running

    def teardown(self, worker: Worker) -> None:
        """Called by Dask when the worker closes."""
        # Only a process that a nanny has started for this worker is ours to end.
        if worker.nanny and multiprocessing.parent_process() is not None:
            atexit.register(leave_at_once)
            # What is lost from now on, a heartbeat or a stream, is lost because all of it ends.
            logging.getLogger("distributed").setLevel(logging.CRITICAL)


def leave_at_once() -> None:
    """End this process, which has finished its work.

    Otherwise, the interpreter would first look for garbage in everything that was imported and
    compiled.  This takes every worker 2 s of computing, all at the same time.  A nanny that has
    waited 4 s kills the worker and logs it.  Functions that others have registered for the end are
    called.
    """
    atexit.unregister(leave_at_once)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


class PinToSocket(WorkerPlugin):
    """Keep each worker on the cores of one socket, so that its memory is near.

    The workers of a machine take the sockets in turn.  On a machine with one socket, or if the
    batch system has given only cores of one socket, nothing is changed.
    """

    name = "oectflow-pin"

    def setup(self, worker: Worker) -> None:
        """Called by Dask before the worker is given tasks."""
        sockets = cores_by_socket()
        number = re.search(r"\d+$", str(worker.name))
        if len(sockets) > 1 and number:
            cores = sockets[int(number.group()) % len(sockets)]
            # Threads that run already do not follow the main one.
            for thread in Path("/proc/self/task").iterdir():
                with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                    os.sched_setaffinity(int(thread.name), cores)


def cores_by_socket(system: Path = Path("/sys/devices/system/node")) -> list[set[int]]:
    """Return the cores that this process may use, by NUMA node; empty if unknown.

    Parameters
    ----------
    system
        Folder where Linux describes its NUMA nodes.
    """
    if not hasattr(os, "sched_getaffinity"):
        return []
    allowed = os.sched_getaffinity(0)
    lists = sorted(system.glob("node[0-9]*/cpulist"), key=lambda path: int(path.parent.name[4:]))
    sockets = [parse_cpu_list(path.read_text()) & allowed for path in lists]
    return [cores for cores in sockets if cores]


def parse_cpu_list(text: str) -> set[int]:
    """Return the numbers in a list of ranges.

    >>> sorted(parse_cpu_list("0-2,8,10-11"))
    [0, 1, 2, 8, 10, 11]
    """
    cores: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        cores.update(range(int(first), int(last or first) + 1))
    return cores
