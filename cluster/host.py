"""A process that runs a Dask scheduler and the nannies of this machine's workers.

It is started as a script by :mod:`oectflow.cluster.processes` and obeys one JSON request per line
of its standard input; each is answered by a line of its standard output.  When the input ends, for
any reason, everything that this process has started ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import logging
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import dask
from distributed import Nanny, Scheduler
from tornado.web import RequestHandler

#: A worker in the middle of a kernel is given so long to end; then it is killed.
SECONDS_TO_CLOSE = 5.0


class Host:
    """Starts and stops a scheduler and workers on request."""

    def __init__(self) -> None:
        self.scheduler: Scheduler | None = None
        self.remove_at_end: str | None = None
        self.nannies: dict[int | str, Nanny] = {}

    async def start_scheduler(
        self, options: dict[str, Any], remove_at_end: str | None = None
    ) -> str:
        """Start the scheduler and return its address; its own folder is removed when it ends."""
        self.remove_at_end = remove_at_end
        self.scheduler = await Scheduler(**options)
        need_own_name(self.scheduler)
        return str(self.scheduler.address)

    async def start_worker(
        self, name: int | str, scheduler: str, options: dict[str, Any]
    ) -> str | None:
        """Start a worker process under a nanny, and return the worker's address."""
        # Kept before it has started: it must be stopped even if starting fails half-way.
        nanny = self.nannies[name] = Nanny(scheduler, name=name, **options)
        await nanny
        return str(nanny.worker_address)

    async def stop_worker(self, name: int | str) -> None:
        """Stop a worker; a missing worker has already been stopped."""
        nanny = self.nannies.pop(name, None)
        if nanny is None:
            return
        try:
            await asyncio.wait_for(nanny.close(timeout=SECONDS_TO_CLOSE), 2 * SECONDS_TO_CLOSE)
        except TimeoutError:
            # A nanny that was about to replace its worker may wait for ever.
            if nanny.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(nanny.pid, signal.SIGKILL)

    async def close(self) -> None:
        """Stop all workers, then the scheduler."""
        # First, as the rest may hang.
        if self.remove_at_end is not None:
            shutil.rmtree(self.remove_at_end, ignore_errors=True)
        names = list(self.nannies)
        await asyncio.gather(*map(self.stop_worker, names), return_exceptions=True)
        if self.scheduler is not None:
            await self.scheduler.close()


class Refused(RequestHandler):
    """Says why a page is not shown."""

    def prepare(self) -> None:
        """Called by Tornado before anything else."""
        self.set_status(403)
        self.finish(
            f"{self.request.host_name} is no name of this machine that is known, or a page from "
            "elsewhere has asked.  If it is a proxy of yours, name it in Dask's configuration: "
            "distributed.scheduler.dashboard.bokeh-application.allow-websocket-origin"
        )


def need_own_name(scheduler: Scheduler) -> None:
    """Let the dashboard answer only requests that use a name of this machine.

    Otherwise, a foreign web page could read the dashboard in the user's browser: through its own
    host name that it points to this machine, or through a WebSocket, which browsers open across
    origins.
    """
    application = getattr(scheduler, "http_application", None)
    if application is None:
        return
    setting = "distributed.scheduler.dashboard.bokeh-application.allow-websocket-origin"
    proxies = {urlsplit(f"//{name}").hostname for name in dask.config.get(setting, [])}
    # Where the notebook is behind a hub, the hub passes its own name on.
    hub = os.environ.get("JUPYTERHUB_PUBLIC_URL", os.environ.get("JUPYTERHUB_HOST", ""))
    proxies |= {urlsplit(hub).hostname} - {None}
    # It may not tell its name: then whoever comes through the user's server has it.  A page from
    # elsewhere does not know that path.
    server = os.environ.get("JUPYTERHUB_SERVICE_PREFIX", "")
    names = {"localhost", socket.gethostname().lower(), socket.getfqdn().lower()}
    find = application.find_handler

    def checked(request: Any, **options: Any) -> Any:
        host, page = request.host_name, request.headers.get("Origin")
        if len(server) > 1 and request.headers.get("X-ProxyContextPath", "").startswith(server):
            proxies.add(host)
        origin = urlsplit(page or "")
        # Nobody can let an address lead elsewhere.
        known = host in names | proxies or _is_address(host)
        own = page is None or origin.netloc == request.host or origin.hostname in proxies
        if known and own:
            return find(request, **options)
        return application.get_handler_delegate(request, Refused)

    application.find_handler = checked


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def in_words(error: BaseException) -> str:
    """Return the text of an error and of its cause: Dask names the cause only there."""
    words = f"{type(error).__name__}: {error}"
    return f"{words} {in_words(error.__cause__)}" if error.__cause__ is not None else words


async def serve(host: Host, requests: AsyncIterator[str], answer_file: Any) -> None:
    """Answer requests until there are no more, then close everything."""
    running = set()

    async def obey(request: dict[str, Any]) -> None:
        number = request.pop("number")
        try:
            result = await getattr(host, request.pop("do"))(**request)
            answer = {"number": number, "result": result}
        except Exception as error:  # noqa: BLE001 - whatever it is, the one who asked must know
            answer = {"number": number, "error": in_words(error)}
        with contextlib.suppress(BrokenPipeError):  # nobody is left to read it
            answer_file.write(json.dumps(answer) + "\n")
            answer_file.flush()

    async for line in requests:
        task = asyncio.create_task(obey(json.loads(line)))
        running.add(task)
        task.add_done_callback(running.discard)
    await host.close()


async def lines_of_standard_input() -> AsyncIterator[str]:
    """Yield lines as they arrive, read in a thread: Windows cannot wait for a pipe otherwise."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[str] = asyncio.Queue()

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(queue.put_nowait, line)
        loop.call_soon_threadsafe(queue.put_nowait, "")
        # Should closing hang, the worker processes still end with this one.
        time.sleep(4 * SECONDS_TO_CLOSE)
        os._exit(1)

    with contextlib.suppress(NotImplementedError):  # Windows knows no such signal
        loop.add_signal_handler(signal.SIGTERM, queue.put_nowait, "")
    threading.Thread(target=read, daemon=True).start()
    while line := await queue.get():
        yield line


def main(host: Host) -> None:
    """Serve the parent process until it closes our input, or dies.

    Parameters
    ----------
    host
        The host that answers requests.
    """
    # Whatever prints must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    first = json.loads(sys.stdin.readline())
    # A module beside the user's notebook must be found by the workers as well.
    sys.path[:] = first.get("sys_path", sys.path)
    dask.config.update(dask.config.config, first.get("config", {}))
    logging.getLogger("distributed").setLevel(logging.WARNING)
    # At its start the dashboard warns that it allows any origin, which a tunnel needs.
    logging.getLogger("bokeh").setLevel(logging.ERROR)
    asyncio.run(serve(host, lines_of_standard_input(), answers))
    # Threads of Dask that are still busy with a dead connection must not keep the process.
    os._exit(0)


if __name__ == "__main__":
    main(Host())
