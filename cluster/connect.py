"""Turn one word, address or file into a Dask client whose workers are ready."""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import dask
from distributed import Client
from distributed.comm import CommClosedError
from distributed.deploy.cluster import Cluster
from distributed.versions import VersionMismatchWarning

from oectflow.cluster.batch import BATCH_SYSTEMS, start_batch
from oectflow.cluster.dashboard import add_page
from oectflow.cluster.hub import lead_dashboards_through_hub
from oectflow.cluster.jobs import Jobs, wait_for_workers
from oectflow.cluster.kubernetes import start_kubernetes
from oectflow.cluster.local import start_local
from oectflow.cluster.plugins import NOT_READY, PinToSocket, WarmUp, warm_up_here
from oectflow.cluster.security import given_certificates
from oectflow.cluster.settings import CLIENT_CONFIG
from oectflow.cluster.shared import NoWorkers, SharedClient, find_able, resource_for
from oectflow.cluster.ssh import start_ssh
from oectflow.cluster.versions import (
    CHECKED_PACKAGES,
    check_versions,
    installed_versions,
    probe_expression,
)
from oectflow.cluster.whole_jobs import WholeJobs
from oectflow.config_file import read_config_file, shorten
from oectflow.errors import ClusterError, did_you_mean

#: The section of Dask's configuration that says which cluster to use where nothing is said.
CONFIG_SECTION = "oectflow.cluster"

#: Seconds to wait for a scheduler that runs already; for workers that have compiled the kernels.
_ANSWER, _PATIENCE = 30.0, 600.0
#: So often workers may leave while they are made ready before it is an error.
_ATTEMPTS = 3
#: Seconds of waiting after which what is waited for is said, each time anew.
_TELL_AFTER = 10.0

KINDS = ("local", *BATCH_SYSTEMS, "ssh", "kubernetes")


def connect(
    spec: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    *,
    n_workers: int | None = None,
    memory: str | int | None = None,
    adapt: tuple[int, int] | None = None,
    security: Any = None,
    dashboard_port: int | None = None,
    dashboard_host: str | None = None,
    timeout: float | None = None,
    kernels: str = "oectflow.pipeline.execution.worker.warm",
    **options: Any,
) -> Client:
    """Return a Dask client whose workers have compiled the kernels.

    Parameters
    ----------
    spec
        ``"local"`` starts one worker process per core of this machine.  An address such as
        ``"tcp://host:8786"`` uses a scheduler that is already running.  ``"slurm"``, ``"pbs"``,
        ``"sge"`` and ``"lsf"`` submit workers as jobs, ``"ssh"`` and ``"kubernetes"`` start them on
        other machines.  A mapping, or the path of a YAML file with a mapping, gives ``kind`` and
        any of the arguments below.  By default, the section ``oectflow.cluster`` of Dask's
        configuration, else ``"local"``.
    n_workers
        Number of single-threaded worker processes; with ``"ssh"``, on each machine.
    memory
        ``"local"``: memory of all workers together (``"200 GiB"``).  Batch systems: memory of one
        job. ``"ssh"``, ``"kubernetes"``: memory of one worker.
    adapt
        Smallest and largest number of workers.  Workers are started and stopped as the work
        requires.
    security
        By default, TLS with a temporary certificate if that is possible (for all but
        ``"kubernetes"``); ``{"ca_file": …, "cert": …, "key": …}`` or a ``distributed.Security``;
        False for no encryption.
    dashboard_port, dashboard_host
        Where the dashboard listens; by default 127.0.0.1:8787, or another port if this one is in
        use.
    timeout
        How long to wait.  For a scheduler that is already running, the default is 30 s.  For the
        first worker and until workers have compiled the kernels, the default is 600 s together.
    kernels
        Module with a function ``warm_up()``, which compiles and imports the code that workers will
        call.
    **options
        Further arguments of the cluster's class, e.g. ``cores``, ``queue`` and ``walltime`` for
        ``"slurm"``, ``hosts`` for ``"ssh"``.

    Returns
    -------
    A client.  Close it (or use ``with``) to stop a cluster that this call has started.

    Raises
    ------
    ClusterError
        The cluster cannot be started, nothing answers at the address, or workers lack oectflow or
        have other versions.

    Examples
    --------
    On this machine, and through a batch system::

        with of.connect() as client:
            print(client.dashboard_link)
        client = of.connect("slurm", n_workers=96, cores=48, memory="180 GiB")
    """
    given = {
        "n_workers": n_workers,
        "memory": memory,
        "adapt": adapt,
        "security": security,
        "dashboard_port": dashboard_port,
        "dashboard_host": dashboard_host,
    } | options
    settings = _settings(spec, {name: value for name, value in given.items() if value is not None})
    kind = settings.pop("kind")
    lead_dashboards_through_hub(here="://" not in kind)
    if "://" in kind:
        return _existing(kind, settings, timeout, kernels)
    wanted = settings.pop("adapt", None)
    limit = _PATIENCE if timeout is None else timeout
    begin = time.monotonic()
    if kind == "ssh" and timeout is not None:
        settings["timeout"] = timeout
    cluster, jobs = _start(kind, settings, wanted)
    try:
        if kind == "local":
            # Compiled here first, every worker then loads the kernels from the cache on disk.
            warm_up_here(kernels, f"dashboard: {cluster.dashboard_link}")
        if wanted is not None:
            how = {"Adaptive": WholeJobs, "processes": jobs.processes} if jobs else {}
            cluster.adapt(minimum=wanted[0], maximum=wanted[1], **how)
        with dask.config.set(CLIENT_CONFIG):
            client = _OwningClient(cluster)
    except BaseException:
        cluster.close()
        raise
    try:
        if wanted is None or wanted[0] > 0:
            _wait_for_a_worker(client, kind, limit, jobs)
        left = limit - (time.monotonic() - begin)
        _patiently(client, kind, partial(_prepare, client, kind, kernels), left, jobs)
    except BaseException:
        client.close()
        raise
    return client


def _settings(spec: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Put together what was said in the call, in a file and in Dask's configuration."""
    configured = {
        name.replace("-", "_"): value
        for name, value in dask.config.get(CONFIG_SECTION, {}).items()
        if value is not None
    }
    if spec is None:
        found: Mapping[str, Any] = configured
    elif isinstance(spec, Mapping):
        found = spec
    elif str(spec).endswith((".yaml", ".yml")):
        found = _read(Path(spec))
    elif spec == configured.get("kind"):
        found = configured
    else:
        found = {"kind": os.fspath(spec)}
    settings = {"kind": "local"} | dict(found) | dict(given)
    kind = settings["kind"]
    if not isinstance(kind, str) or (kind not in KINDS and "://" not in kind):
        raise ClusterError(
            f"connect({shorten(kind)}): give {', '.join(KINDS)}, or an address such as "
            f"'tcp://host:8786'{did_you_mean(str(kind), KINDS)}"
        )
    adapt = settings.get("adapt")
    if adapt is not None and not (len(adapt) == 2 and 0 <= adapt[0] <= adapt[1] and adapt[1] > 0):
        raise ClusterError(f"adapt={adapt!r}: expected the smallest and largest number of workers")
    return settings


def _read(path: Path) -> Mapping[str, Any]:
    try:
        found = read_config_file(path.expanduser(), ClusterError)
    except FileNotFoundError:
        raise ClusterError(f"{path}: there is no such description of a cluster") from None
    if not isinstance(found, Mapping) or "kind" not in found:
        raise ClusterError(
            f"{path}: expected a mapping with the entry 'kind', found {shorten(found)}"
        )
    return found


def _start(
    kind: str, settings: dict[str, Any], adapt: tuple[int, int] | None
) -> tuple[Cluster, Jobs | None]:
    """Start a cluster and ask for its workers; return its jobs, too, if they are some."""
    if kind == "local":
        _check_options(kind, settings, start_local)
        if adapt is not None:
            settings.setdefault("n_workers", max(1, adapt[0]))
        return start_local(**settings), None
    if adapt is None and settings.get("n_workers") is None:
        raise ClusterError(f"connect({kind!r}): say how many workers, n_workers= or adapt=")
    if kind == "ssh":
        _check_options(kind, settings, start_ssh)
        if adapt is not None:
            raise ClusterError(
                "connect('ssh', adapt=…): these machines are there all the time; say n_workers="
            )
        return start_ssh(**settings), None
    if kind == "kubernetes":
        return start_kubernetes(**settings), None
    n_workers = settings.pop("n_workers", None)
    cluster, jobs = start_batch(kind, **settings)
    jobs.keep(cluster, n_workers if adapt is None else None)
    return cluster, jobs


def _check_options(kind: str, settings: Mapping[str, Any], start: Callable[..., Any]) -> None:
    known = inspect.signature(start).parameters
    for name in settings:
        if name not in known:
            raise ClusterError(
                f"connect({kind!r}, {name}=…): there is no such option{did_you_mean(name, known)}"
            )


def _existing(
    address: str, settings: Mapping[str, Any], timeout: float | None, kernels: str
) -> Client:
    """Connect to a scheduler that runs already."""
    answer, patience = (_ANSWER, _PATIENCE) if timeout is None else (timeout, timeout)
    for name, value in settings.items():
        if name != "security":
            raise ClusterError(
                f"connect({address!r}, {name}={value!r}): the cluster runs already; "
                f"{name} is only for clusters that are started here, such as connect('local')"
            )
    security = given_certificates(settings.get("security") or None)
    if address.startswith("tls://") and security is None:
        raise ClusterError(
            f"{address}: this scheduler asks for a certificate; give "
            "security={'ca_file': …, 'cert': …, 'key': …}"
        )
    try:
        with warnings.catch_warnings(), dask.config.set(CLIENT_CONFIG):
            # What differs is said below, and of the packages that matter.
            warnings.simplefilter("ignore", VersionMismatchWarning)
            client = SharedClient(address, timeout=answer, security=security)
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"{address}: no Dask scheduler answers within {answer:g} s ({error}); "
            "is it running, and is the port open?"
        ) from error

    def prepare(timeout: float) -> None:
        begin = time.monotonic()
        ours = installed_versions(CHECKED_PACKAGES)
        able = find_able(client, address, ours, answer, timeout, partial(_tell, address))
        plugin = WarmUp(kernels, ours, resource_for(ours))
        client.needed = plugin.resource
        _warm_up(client, address, plugin, max(timeout - (time.monotonic() - begin), 1.0), able)
        _add_page(client, ours)

    try:
        _patiently(client, address, prepare, patience)
    except BaseException:
        client.close()
        raise
    return client


def _patiently(
    client: Client,
    spec: str,
    prepare: Callable[[float], None],
    timeout: float,
    jobs: Jobs | None = None,
) -> None:
    """Make workers ready, some others where one leaves meanwhile; ``prepare`` is given seconds."""
    end = time.monotonic() + timeout
    gone = 0
    while True:
        try:
            prepare(max(end - time.monotonic(), 1.0))
            break
        except NoWorkers:
            # The one that has gone was the only one, and the next has not come yet.
            if not gone:
                raise
        except CommClosedError as error:
            for _, why in client.get_events(NOT_READY):
                # Another one has said what is wrong, and has left.
                raise ClusterError(f"connect({spec!r}): {why}") from error
            # Its job is over, or it has had more memory than its share.
            gone += 1
            if gone == _ATTEMPTS:
                raise ClusterError(
                    f"connect({spec!r}): {_ATTEMPTS} times a worker has gone before it was ready "
                    f"({error}); to compile the kernels takes minutes and 1.1 GiB: give workers "
                    "more memory, or jobs more time"
                ) from error
        _tell(spec, "a worker has gone before it was ready, waiting for another")
        _wait_for_a_worker(client, spec, max(end - time.monotonic(), 1.0), jobs)


def _prepare(client: Client, spec: str, kernels: str, timeout: float) -> None:
    """Check the workers that are there, and make these and all later ones ready."""
    ours = installed_versions(CHECKED_PACKAGES)
    theirs = client.run(eval, probe_expression(CHECKED_PACKAGES))
    if theirs:
        check_versions(spec, ours, theirs)
    client.register_plugin(PinToSocket())
    _warm_up(client, spec, WarmUp(kernels, ours), timeout)
    _add_page(client, ours)


def _add_page(client: Client, ours: Mapping[str, str | None]) -> None:
    scheduler = client.run_on_scheduler(eval, probe_expression(("python",)))
    add_page(client, scheduler["python"] == ours["python"])


def _warm_up(
    client: Client, spec: str, plugin: WarmUp, timeout: float, able: Sequence[str] = ()
) -> None:
    """Let all workers compile kernels, and say so while that takes long.

    It is enough that those are ready that are known to be able; others may be busy for long.
    """

    async def register() -> None:
        # In the loop of the client this is something to wait for.
        await client.register_plugin(plugin)

    done = asyncio.run_coroutine_threadsafe(register(), client.loop.asyncio_loop)
    begin = time.monotonic()
    while True:
        left = timeout - (time.monotonic() - begin)
        try:
            return done.result(min(_TELL_AFTER, max(left, 0.0)))
        except TimeoutError as error:
            if done.done():
                raise
            if able and set(able) <= set(client.nthreads()):
                return None
            if left <= _TELL_AFTER:
                done.cancel()
                raise ClusterError(
                    f"connect({spec!r}): workers have not compiled the kernels in time; connect "
                    "again, which goes on with what is left, or wait longer with timeout="
                ) from error
            _tell(spec, f"workers compile kernels ({time.monotonic() - begin:.0f} s)")


def _tell(spec: str, what: str) -> None:
    sys.stderr.write(f"connect({spec!r}): {what}\n")
    sys.stderr.flush()


def _wait_for_a_worker(client: Client, kind: str, timeout: float, jobs: Jobs | None) -> None:
    if jobs is not None:
        why = wait_for_workers(
            lambda: bool(client.scheduler_info()["workers"]),
            jobs,
            timeout,
            lambda what: _tell(kind, what),
        )
        if why:
            raise ClusterError(f"connect({kind!r}): {why}")
        return
    try:
        client.wait_for_workers(1, timeout=timeout)
    except TimeoutError as error:
        raise ClusterError(
            f"connect({kind!r}): no worker has come within {timeout:g} s; look at the workers' "
            "logs, or wait longer with timeout="
        ) from error


class _OwningClient(Client):
    """A client that stops its cluster when it is closed."""

    _stopped = False

    def close(self, *args: Any, **kwargs: Any) -> Any:
        cluster = self.cluster
        result = super().close(*args, **kwargs)
        # Python closes a client once more when it deletes it, at any time: also while this thread
        # starts another cluster, and holds a lock that stopping one waits for.
        if cluster is not None and not self._stopped:
            self._stopped = True
            cluster.close()
        return result
