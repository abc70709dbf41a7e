"""A scheduler and workers on machines reached by SSH.

Each machine holds one process (:mod:`oectflow.cluster.far_host`) that obeys requests through the
connection, as the one of this machine does, and ends with it: no machine keeps anything.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys
import time
import weakref
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import dask
from distributed import Security
from distributed.deploy.cluster import Cluster
from distributed.utils import format_dashboard_link

from oectflow.cluster.dask_internals import Status, SteadyCluster
from oectflow.cluster.far_host import knock
from oectflow.cluster.local import LOOPBACK
from oectflow.cluster.processes import SchedulerProcess, WorkerProcess, plain
from oectflow.cluster.security import temporary_certificates
from oectflow.cluster.settings import DASK_CONFIG, WORKER_ENVIRONMENT
from oectflow.cluster.ssh_host import (
    SSHHost,
    addresses_in_words,
    host_and_port,
    is_loopback,
    listening_address,
)
from oectflow.errors import ClusterError

logger = logging.getLogger(__name__)

#: Seconds of waiting after which what is waited for is said, each time anew.
_TELL_AFTER = 10.0


def start_ssh(
    hosts: Sequence[str] = (),
    n_workers: int | None = None,
    memory: str | None = None,
    dashboard_port: int = 8787,
    dashboard_host: str = LOOPBACK,
    security: Any = None,
    interface: str | None = None,
    remote_python: str | Sequence[str] | None = None,
    connect_options: dict[str, Any] | Sequence[dict[str, Any]] | None = None,
    scheduler_options: dict[str, Any] | None = None,
    worker_options: dict[str, Any] | None = None,
    timeout: float = 600.0,
) -> Cluster:
    """Start a scheduler and workers on machines that are reached by SSH.

    Parameters
    ----------
    hosts
        The first runs the scheduler, all others run workers; a machine may be named twice, and as
        ``user@machine``.
    n_workers
        Number of single-threaded worker processes on each of them.
    memory
        Memory of one worker, e.g. ``"4 GiB"``.
    dashboard_port, dashboard_host
        Where the dashboard listens on the first machine; a port of this machine leads there.
    security
        None or True: TLS with a temporary certificate, which goes to the machines through SSH and
        stays in memory; certificates that exist under the same paths on all of them; False: none.
    interface
        Network interface of the machines on which the scheduler and the workers listen, e.g.
        ``"ib0"``; by default the address at which SSH has reached each.
    remote_python
        Path of Python there, one for all or one for each of ``hosts``; by default the same as here.
    connect_options
        Arguments of ``asyncssh.connect``, e.g. ``username``, ``port``, ``client_keys``, for all or
        for each of ``hosts``; ``~/.ssh/config`` counts, too.
    scheduler_options, worker_options
        Arguments of ``distributed.Scheduler`` and of ``distributed.Nanny``.
    timeout
        How long all of that may take, in s.

    Raises
    ------
    ClusterError
        An option is missing or refused, a machine cannot be reached or does not let us in, its
        Python lacks packages or has others, or machines do not reach each other.
    """
    if len(hosts) < 2 or isinstance(hosts, str):
        raise ClusterError(
            f"connect('ssh', hosts={hosts!r}): expected the scheduler's machine, then the workers'"
        )
    if n_workers is None:
        raise ClusterError("connect('ssh'): say how many workers each machine has, n_workers=48")
    try:
        importlib.import_module("asyncssh")
    except ImportError as error:
        raise ClusterError(
            "connect('ssh') needs the package asyncssh; pip install 'oectflow[ssh]'"
        ) from error
    pythons = _for_each(hosts, "remote_python", remote_python or sys.executable, str)
    ways = _for_each(hosts, "connect_options", connect_options or {}, dict)
    certificates = temporary_certificates(security)
    shared = {"protocol": "tcp://" if certificates is None else "tls://"}
    with dask.config.set(DASK_CONFIG):
        config = dict(dask.config.config)
    given_memory = {} if memory is None else {"memory_limit": memory}
    try:
        return SSHCluster(
            [SSHHost(*one) for one in zip(hosts, pythons, ways, strict=True)],
            n_workers,
            scheduler_options=shared
            | {"dashboard": True, "dashboard_address": f"{dashboard_host}:{dashboard_port}"}
            | (scheduler_options or {}),
            worker_options=shared
            | {
                "nthreads": 1,
                "silence_logs": logging.WARNING,
                "env": WORKER_ENVIRONMENT,
                # Health and counters of a worker are for those on its machine.
                "dashboard": False,
                "dashboard_address": f"{LOOPBACK}:0",
            }
            | given_memory
            | (worker_options or {}),
            security=certificates,
            interface=interface,
            config=config,
            timeout=timeout,
        )
    except (ClusterError, OSError, RuntimeError, TypeError) as error:
        raise ClusterError(f"connect('ssh'): {error}") from error


def _for_each(hosts: Sequence[str], name: str, given: Any, one: type) -> list[Any]:
    """Return an option for each of the machines."""
    found = [given] * len(hosts) if isinstance(given, one) else list(given)
    if len(found) != len(hosts):
        raise ClusterError(
            f"connect('ssh', {name}=…): {len(found)} for {len(hosts)} hosts; give one for all, or "
            "one for each"
        )
    return found


class SSHCluster(SteadyCluster):
    """A scheduler on the first of some machines, and workers on the others.

    Parameters
    ----------
    hosts
        The machines.
    n_workers
        On each but the first.
    scheduler_options, worker_options
        Arguments of ``distributed.Scheduler`` and of ``distributed.Nanny``.
    security
        TLS, or none.
    interface
        On which all listen; None is where SSH has reached them.
    config
        Dask's, for all.
    timeout
        Of the start, in s.
    """

    def __init__(
        self,
        hosts: Sequence[SSHHost],
        n_workers: int,
        scheduler_options: dict[str, Any],
        worker_options: dict[str, Any],
        security: Security | None,
        interface: str | None,
        config: dict[str, Any],
        timeout: float,
    ) -> None:
        self._hosts = hosts
        self._n_workers = n_workers
        self._of_scheduler, self._of_workers = scheduler_options, worker_options
        self._certificates = security
        self._interface = interface
        self._config = config
        self._deadline = time.monotonic() + timeout
        self._dashboard_port: int | None = None
        try:
            super().__init__(security=security, name="oectflow")
        except BaseException:
            # Also when a notebook's cell is interrupted while it waits.
            self.loop.add_callback(self._cut)
            self._loop_runner.stop()
            self.status = Status.closed
            raise

    @property
    def dashboard_link(self) -> str:
        """Where the dashboard is seen from this machine."""
        if self._dashboard_port is None:
            return str(super().dashboard_link)
        return str(format_dashboard_link(LOOPBACK, self._dashboard_port))

    async def _start(self) -> None:
        if self.status == Status.running:
            return
        try:
            await self._each("SSH", self._hosts, SSHHost.connect)
            await self._each("the versions", self._hosts, SSHHost.look)
            await self._each("a process", self._hosts, lambda host: host.begin(self._config))
            await self._each("a folder", self._with_one_disk(), _keep_kernels_apart)
            self.scheduler = await self._scheduler()
            await self._each("workers", self._hosts[1:], self._workers_of)
            await super()._start()
            host, _, _ = self._of_scheduler["dashboard_address"].rpartition(":")
            port = self.scheduler_info["services"].get("dashboard")
            if port is not None:
                self._dashboard_port = await self._hosts[0].forward(
                    LOOPBACK if host in ("", "0.0.0.0") else host, port
                )
        except BaseException:
            self._cut()
            raise
        for host in self._hosts:
            host.when_lost = partial(self._host_lost, host)

    def _with_one_disk(self) -> list[SSHHost]:
        """Return the machines whose kernels lie in a folder that another one has, too."""
        users: defaultdict[str | None, set[str]] = defaultdict(set)
        for host in self._hosts:
            users[host.kernels].add(host.machine)
        return [host for host in self._hosts if host.kernels and len(users[host.kernels]) > 1]

    async def _scheduler(self) -> SchedulerProcess:
        """Start the scheduler, and see that all reach it."""
        first = self._hosts[0]
        addresses = {host: listening_address(host, self._interface) for host in self._hosts}
        self._addresses = addresses
        if len({is_loopback(address) for address in addresses.values()}) > 1:
            alone = next(host for host, address in addresses.items() if is_loopback(address))
            raise ClusterError(
                f"{alone.name} was reached at {addresses[alone]}, where no other machine reaches "
                f"it; name it as the others do, or say interface=; it has "
                f"{addresses_in_words(alone)}"
            )
        options = {"host": addresses[first]} | self._of_scheduler
        scheduler = SchedulerProcess(process=first, security=self._certificates, **options)
        await scheduler
        address = scheduler.address
        _tell(f"the scheduler listens at {address} of {first.name}; it has "
              f"{addresses_in_words(first)}")  # fmt: skip

        async def reach(host: SSHHost) -> None:
            try:
                await host.request("reach", address=address, security=plain(self._certificates))
            except ClusterError as error:
                raise ClusterError(
                    f"{error}: it does not reach the scheduler at {address}; say "
                    f"interface=, {first.name} has {addresses_in_words(first)}"
                ) from error

        await self._each("the way to the scheduler", self._hosts[1:], reach)
        try:
            await knock(address, self.security)
        except OSError as error:
            way = address.partition("://")[0]
            through = await first.forward(*host_and_port(address))
            scheduler.external_address = f"{way}://{LOOPBACK}:{through}"
            _tell(f"this machine does not reach it ({error}), and goes through SSH")
        return scheduler

    async def _workers_of(self, host: SSHHost) -> None:
        """Start the workers of a machine."""
        begin = self._hosts[1:].index(host) * self._n_workers
        options = {"host": self._addresses[host]} | self._of_workers
        for name in range(begin, begin + self._n_workers):
            worker = WorkerProcess(
                self.scheduler.address, name, host, security=self._certificates, **options
            )
            self._created.add(worker)
            worker._cluster = weakref.ref(self)
            self.workers[name] = worker
            self.worker_spec[name] = {"cls": WorkerProcess, "options": {}}
        mine = [self.workers[name] for name in range(begin, begin + self._n_workers)]
        await asyncio.gather(*mine)

    async def _each(
        self,
        what: str,
        hosts: Sequence[SSHHost],
        do: Callable[[SSHHost], Awaitable[None]],
    ) -> None:
        """Do something with machines at once, and say which are waited for.

        Raises
        ------
        ClusterError
            It failed with some; what they said is said together.
        """
        running = {asyncio.ensure_future(do(host)): host for host in hosts}
        waiting = set(running)
        begin = time.monotonic()
        while waiting:
            left = self._deadline - time.monotonic()
            _, waiting = await asyncio.wait(waiting, timeout=max(min(_TELL_AFTER, left), 0.0))
            late = ", ".join(sorted({running[one].name for one in waiting}))
            if waiting and left <= _TELL_AFTER:
                for one in waiting:
                    one.cancel()
                raise ClusterError(
                    f"{late}: {what} took more than the {time.monotonic() - begin:.0f} s that were "
                    "left; wait longer with timeout="
                )
            if waiting:
                _tell(f"waits for {what} of {late} ({time.monotonic() - begin:.0f} s)")
        errors = [error for one in running if (error := one.exception()) is not None]
        for error in errors:
            if not isinstance(error, ClusterError):
                raise error
        if errors:
            # A machine that is named twice says the same twice.
            raise ClusterError("; ".join(dict.fromkeys(map(str, errors))))

    def _cut(self) -> None:
        for host in self._hosts:
            host.kill()

    def _host_lost(self, host: SSHHost, why: str) -> None:
        """Forget the workers of a machine; without any, end the scheduler, as nobody will come."""
        if self.status != Status.running:
            return
        for name, worker in list(self.workers.items()):
            if worker.process is host:
                del self.workers[name], self.worker_spec[name]
                worker.status = Status.closed
        if host is self._hosts[0]:
            logger.error("%s, where the scheduler is: %s", host.name, why)
        elif self.workers:
            logger.warning("%s: %s; the workers of other machines go on", host.name, why)
        else:
            logger.error("%s: %s; no workers are left: the scheduler is stopped", host.name, why)
            self._hosts[0].kill()

    def scheduler_is_gone(self) -> bool:
        """Whether the first machine, where the scheduler is, has been lost."""
        return not self._hosts[0].alive

    async def _close(self) -> None:
        await super()._close()
        await asyncio.gather(*(host.close() for host in self._hosts))


async def _keep_kernels_apart(host: SSHHost) -> None:
    await host.request("keep_kernels_apart")


def _tell(what: str) -> None:
    sys.stderr.write(f"connect('ssh'): {what}\n")
    sys.stderr.flush()
