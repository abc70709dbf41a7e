"""A scheduler and workers in their own processes, separate from the notebook's process.

Dask's ``LocalCluster`` runs the scheduler in a thread of the notebook's process.  There it waits
whenever a cell computes, and interrupting a cell also interrupts the workers.  Here, a child
process (:mod:`oectflow.cluster.host`) runs the scheduler and the nannies.  It has its own session,
so Ctrl-C does not reach it.  It ends when its standard input ends: with ``close``, with the
interpreter, or when the notebook's kernel is killed.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import dask
from distributed import Security

from oectflow.cluster.dask_internals import ProcessInterface, SteadyCluster
from oectflow.errors import ClusterError

_SECONDS_TO_EXIT = 15.0


class HostProcess:
    """The child process, and its unanswered requests."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}

    @property
    def alive(self) -> bool:
        """Whether the child process has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the child process; call this in the event loop that will wait for it."""
        config = dask.config.serialize(dask.config.config)
        self._process = subprocess.Popen(
            # -P: a file random.py in the current folder must not be imported by the standard
            # library.
            [sys.executable, "-P", str(Path(__file__).with_name("host.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"DASK_INTERNAL_INHERIT_CONFIG": config},
            start_new_session=True,
            encoding="utf-8",
        )
        self._write({"sys_path": [str(Path(entry).absolute()) for entry in sys.path]})
        # A cluster that nobody closes must not keep the child alive through our end of the pipe.
        weakref.finalize(self, self._process.stdin.close)  # type: ignore[union-attr]
        threading.Thread(
            target=_read_answers,
            args=(self._process, self._waiting, asyncio.get_running_loop()),
            name="oectflow cluster answers",
            daemon=True,
        ).start()

    async def request(self, do: str, **arguments: Any) -> Any:
        """Ask the child to do something and return the result.

        Raises
        ------
        ClusterError
            The request failed, or the child has ended.
        """
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            self._write({"number": number, "do": do, **arguments})
        except OSError as error:
            del self._waiting[number]
            raise ClusterError(f"the process of the scheduler has ended: {error}") from error
        answer = await self._waiting[number]
        if "error" in answer:
            raise ClusterError(f"{do.replace('_', ' ')}: {answer['error']}")
        return answer["result"]

    async def close(self) -> None:
        """Let the child close everything and wait for its end."""
        if self._process is None:
            return
        self._process.stdin.close()  # type: ignore[union-attr]
        try:
            await asyncio.to_thread(self._process.wait, _SECONDS_TO_EXIT)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the child at once; the workers notice and end too."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _write(self, message: dict[str, Any]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()


def _read_answers(
    process: subprocess.Popen[str],
    waiting: dict[int, asyncio.Future[Any]],
    loop: asyncio.AbstractEventLoop,
) -> None:
    """Hand each answer to the one who waits for it; at the end, tell all that are left."""

    def give(number: int, answer: dict[str, Any]) -> None:
        future = waiting.pop(number, None)
        if future is not None and not future.done():
            future.set_result(answer)

    def give_up() -> None:
        error = f"the process of the scheduler has ended with status {process.wait()}"
        for number in list(waiting):
            give(number, {"error": error})

    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            answer = json.loads(line)
            loop.call_soon_threadsafe(give, answer["number"], answer)
    if not loop.is_closed():
        loop.call_soon_threadsafe(give_up)


class SchedulerProcess(ProcessInterface):
    """A scheduler in its own process, for any ``SpecCluster``.

    Parameters
    ----------
    process
        The process; by default a new one.
    security
        TLS, or none.
    remove_at_end
        A folder that only the scheduler needs; it is removed when the process ends.
    **options
        Arguments of ``distributed.Scheduler``.
    """

    def __init__(
        self,
        process: HostProcess | None = None,
        security: Security | None = None,
        remove_at_end: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.process = process or HostProcess()
        self._remove_at_end = remove_at_end
        self._options = options | {"security": plain(security)}

    async def start(self) -> None:
        """Start the process and the scheduler in it."""
        if not self.process.alive:
            self.process.start()
        try:
            self.address = await self.process.request(
                "start_scheduler", options=self._options, remove_at_end=self._remove_at_end
            )
        except BaseException:
            await self.process.close()
            raise
        await super().start()

    async def close(self) -> None:
        """Stop the scheduler and the process."""
        await self.process.close()
        if self._remove_at_end is not None:
            # The process has done so, unless it was killed.
            shutil.rmtree(self._remove_at_end, ignore_errors=True)
        await super().close()


class WorkerProcess(ProcessInterface):
    """A worker under a nanny in the scheduler's process.

    Parameters
    ----------
    scheduler
        Address of the scheduler.
    name
        Name of the worker.
    process
        The process of the nanny.
    security
        TLS, or none.
    **options
        Arguments of ``distributed.Nanny``.
    """

    def __init__(
        self,
        scheduler: str,
        name: int | str,
        process: HostProcess,
        security: Security | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self._scheduler = scheduler
        self._name = name
        self.process = process
        self._options = options | {"security": plain(security)}

    async def start(self) -> None:
        """Start the worker and wait until it has joined the scheduler."""
        self.address = await self.process.request(
            "start_worker", name=self._name, scheduler=self._scheduler, options=self._options
        )
        await super().start()

    async def close(self) -> None:
        """Stop the worker."""
        if self.process.alive:
            await self.process.request("stop_worker", name=self._name)
        await super().close()


class ProcessCluster(SteadyCluster):
    """A scheduler and workers of this machine, all of them outside this process.

    Parameters
    ----------
    n_workers
        Number of workers at the start.
    scheduler_options, worker_options
        Arguments of ``distributed.Scheduler`` and of ``distributed.Nanny``.
    security
        TLS, or none.
    """

    def __init__(
        self,
        n_workers: int,
        scheduler_options: dict[str, Any],
        worker_options: dict[str, Any],
        security: Security | None = None,
    ) -> None:
        self._host = HostProcess()
        shared = {"process": self._host, "security": security}
        worker = {"cls": WorkerProcess, "options": shared | worker_options}
        try:
            super().__init__(
                scheduler={"cls": SchedulerProcess, "options": shared | scheduler_options},
                workers=dict.fromkeys(range(n_workers), worker),
                worker=worker,
                security=security,
                name="oectflow",
            )
        except BaseException:
            # Also when a notebook's cell is interrupted while it waits for the workers.
            self._host.kill()
            raise

    def scheduler_is_gone(self) -> bool:
        """Whether the process of scheduler and workers has ended."""
        return not self._host.alive


def plain(security: Security | None) -> dict[str, Any] | None:
    """Return a Security in a form for JSON; it never appears in a list of processes."""
    if security is None:
        return None
    names = [name for name in Security.__slots__ if name.startswith("tls_")]
    values = {name: getattr(security, name) for name in names}
    return {
        "require_encryption": security.require_encryption,
        **{name: value for name, value in values.items() if isinstance(value, str)},
    }
