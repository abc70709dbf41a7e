"""Run work in a process of its own, which may die, hang or be killed, and collect its results.

The parent writes what is to be done to the child's standard input, pickled; the child sends one
message when it begins and one for every result.  What a child has forked ends with it, and the
child ends with the thread that has started it.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import resource
import select
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import cloudpickle
import psutil
from distributed import get_worker

from oectflow.pipeline.execution.worker.watch import MOST_THREADS, die_with_parent, steps_run_here

#: Memory a child may take, as a share of what is free when it starts; on a worker that has a limit,
#: no more than that.
_MEMORY_SHARE = 0.5
_HEAD = struct.Struct("<Q")


def collect(
    entry: str, work: Any, seconds: Sequence[float | None]
) -> tuple[list[Any], tuple[str, str] | None]:
    """Run one child; return what it has sent, and why it has not sent more.

    Parameters
    ----------
    entry
        ``"module:function"``; the function calls :func:`serve`.
    work
        What it gets, with the memory that it may take.
    seconds
        How long it may take for each of its results, None without a limit.

    Returns
    -------
    Its results; and the kind and text of what has befallen the next one, None where that has not
    been begun.
    """
    module, _, function = entry.partition(":")
    command = [sys.executable, "-c", f"from {module} import {function}; {function}()"]
    found: list[Any] = []
    cause: tuple[str, str] | None = None
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            try:
                process.stdin.write(cloudpickle.dumps((work, worker_memory())))
                process.stdin.close()
            except BrokenPipeError:
                # It died before it had read everything; the reason is told below.
                pass
            pipe = process.stdout.fileno()
            # The first message only says that it begins.
            begun = _receive(pipe, None)
            while begun is not None and len(found) < len(seconds):
                limit = seconds[len(found)]
                try:
                    message = _receive(pipe, limit)
                except TimeoutError:
                    cause = "StepTimeout", f"took longer than {limit:g} s"
                    break
                if message is None:
                    break
                found.append(pickle.loads(message))
        finally:
            if cause is not None or len(found) == len(seconds):
                _end(process)
            returncode = process.wait()
            _end(process)
    # One that has sent something and ends without a fault makes room for another one.
    if cause is None and len(found) < len(seconds) and (returncode or not found):
        cause = "ProcessDied", _told(returncode)
    return found, cause


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a child and all that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _receive(pipe: int, seconds: float | None) -> bytes | None:
    """Return the next message, None at the end."""
    if not select.select([pipe], [], [], seconds)[0]:
        raise TimeoutError
    head = _read(pipe, _HEAD.size)
    return None if head is None else _read(pipe, _HEAD.unpack(head)[0])


def _read(pipe: int, n_bytes: int) -> bytes | None:
    parts = []
    while n_bytes:
        part = os.read(pipe, min(n_bytes, 2**20))
        if not part:
            return None
        parts.append(part)
        n_bytes -= len(part)
    return b"".join(parts)


def _told(returncode: int) -> str:
    if returncode < 0:
        how = f"was ended by {signal.Signals(-returncode).name}"
    else:
        how = f"ended with exit status {returncode}"
    return f"the process that computed it {how}; computed alone, it would do so again"


def worker_memory() -> int | None:
    """Return the memory limit of the worker that runs this task, in bytes; None without one.

    A step that needs more would have ended that worker, too.
    """
    try:
        limit = get_worker().memory_manager.memory_limit
    except ValueError:
        return None
    return int(limit) if limit else None


def serve(compute: Callable[[Any], Iterable[Any]]) -> None:
    """Be the child: compute what comes in, and send every result when it is there."""
    die_with_parent()
    steps_run_here()
    # Whatever an extractor prints must not get between the results.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    work, most = pickle.load(sys.stdin.buffer)
    # An extractor that allocates without end gets a MemoryError, which is recorded, before it
    # takes the machine's memory.
    share = int(_MEMORY_SHARE * psutil.virtual_memory().available)
    limit = psutil.Process().memory_info().vms + (share if most is None else min(share, most))
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    pid = os.getpid()
    _send(out, None)
    for result in compute(work):
        if os.getpid() != pid:
            # The step has forked, and this is the child of the child.
            os._exit(0)
        _send(out, result)
        if threading.active_count() > MOST_THREADS:
            # The next step gets a process without them.
            os._exit(0)
    out.close()
    # Threads that a step has left behind are not waited for.
    os._exit(0)


def _send(out: Any, result: Any) -> None:
    message = pickle.dumps(result)
    out.write(_HEAD.pack(len(message)) + message)
    out.flush()
