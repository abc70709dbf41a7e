"""Run code of users for as long as it may take, and not longer.

It runs in a thread of its own, next to the one that waits.  When its time is over, an exception is
raised in that thread, which ends what is written in Python.  Compiled code does not notice: then
the thread is left behind, and the steps are computed one by one in a process that can be killed.
"""

from __future__ import annotations

import contextvars
import ctypes
import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self, TypeVar

from distributed import get_worker
from distributed.worker import thread_state

T = TypeVar("T")
logger = logging.getLogger(__name__)

#: Time for a step of an extractor that is not part of the package, in s.
STEP_SECONDS = 600.0
#: Threads that a step may start, beside those it finds.
MOST_THREADS = 500
#: How often it is looked at, and how long what was interrupted may take to end, in s.
_INTERVAL, _GRACE = 0.05, 2.0
#: Code that catches everything is interrupted again.
_INTERRUPTIONS = 3
_PR_SET_PDEATHSIG = 1
#: How long a parent waits for what it has forked, in s.
_BIRTH = 5.0
# Looked up now: in what a process with threads has forked, the loader may be locked for good.
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

_of_a_step = threading.local()
_something_is_left = False


class StepTimeout(Exception):
    """A step took longer than it may, or started too many threads."""


class StepEnded(Exception):
    """A step raised what ends a thread or a process elsewhere."""


class Stuck(StepTimeout):
    """It did, and nothing in this process can end it."""


class _Interruption(BaseException):
    """What is raised in the thread of such a step; no ``except Exception`` catches it."""


class Watched:
    """A thread that computes steps, each for a limited time.

    Parameters
    ----------
    seconds
        The time for one step.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._work: SimpleQueue[Any] | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave()

    def call(self, function: Callable[[], T], n_steps: int = 1) -> T:
        """Return what a function returns, or raise what it raises, as an Exception.

        Parameters
        ----------
        function
            Computes steps.
        n_steps
            How many.

        Raises
        ------
        StepTimeout
            It took longer than its steps may, or started too many threads.
        Stuck
            It did, and is still running.
        """
        if self._work is None:
            self._start()
        found: list[tuple[bool, Any]] = []
        done = threading.Event()
        before, begin = threading.active_count(), time.monotonic()
        assert self._work is not None
        self._work.put((function, found, done))
        limit = n_steps * self._seconds
        reason = ""
        try:
            while not reason and not done.wait(min(_INTERVAL, limit)):
                if time.monotonic() - begin > limit:
                    reason = f"took longer than {limit:g} s"
                elif threading.active_count() - before > MOST_THREADS:
                    reason = f"started more than {MOST_THREADS} threads"
        except BaseException:
            # Whoever waits was interrupted: nobody wants the result any more.
            self._interrupt(done)
            raise
        if not reason and threading.active_count() - before > MOST_THREADS:
            reason = f"started more than {MOST_THREADS} threads"
        if reason:
            if not self._interrupt(done):
                raise Stuck(reason)
            raise StepTimeout(reason)
        returned, value = found[0]
        if returned:
            return value  # type: ignore[no-any-return]
        if isinstance(value, Exception):
            raise value
        raise StepEnded(f"{type(value).__name__}: {value}") from value

    def _start(self) -> None:
        self._work = SimpleQueue()
        context, dask = contextvars.copy_context(), dict(vars(thread_state))
        self._thread = threading.Thread(
            target=context.run,
            args=(_work_off, self._work, dask),
            name="oectflow step",
            daemon=True,
        )
        self._thread.start()

    def _leave(self) -> None:
        if self._work is not None:
            self._work.put(None)
        self._work = None

    def _interrupt(self, done: threading.Event) -> bool:
        """End what is running; return whether it has ended."""
        assert self._thread is not None
        assert self._thread.ident is not None
        ended = done.is_set()
        for _ in range(_INTERRUPTIONS):
            if ended:
                break
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(self._thread.ident), ctypes.py_object(_Interruption)
            )
            ended = done.wait(_GRACE)
        # The exception may come late, and must not hit the next step.
        self._leave()
        return ended


def _work_off(work: SimpleQueue[Any], dask: dict[str, Any]) -> None:
    # Dask tells a task by its thread on which worker it is.
    vars(thread_state).update(dask)
    _of_a_step.is_here = True
    pid = os.getpid()
    while True:
        item = work.get()
        if item is None:
            return
        function, found, done = item
        try:
            try:
                found.append((True, function()))
            except BaseException as error:  # noqa: BLE001 - also what ends a process elsewhere
                found.append((False, error))
        finally:
            if os.getpid() != pid:
                # The step has forked, and this is the child, which has nothing to do here.
                os._exit(0)
            done.set()


def left_behind(what: str) -> None:
    """Say that a step goes on computing and cannot be ended."""
    global _something_is_left
    _something_is_left = True
    logger.warning("%s, and cannot be ended; it is computed in a process of its own", what)


def renew_worker() -> None:
    """Have the worker of a task that is just ending begin anew, if a step was left behind there."""
    global _something_is_left
    if not _something_is_left:
        return
    try:
        worker = get_worker()
    except ValueError:
        return
    _something_is_left = False
    if worker.nanny is not None:
        worker.loop.add_callback(
            worker.loop.call_later, _GRACE, partial(worker.close_gracefully, restart=True)
        )


def die_with_parent() -> None:
    """Have the kernel end this process when the thread that has started it ends."""
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def steps_run_here() -> None:
    """Have all that is forked by this thread from now on end with it."""
    _of_a_step.is_here = True


def _before_fork() -> None:
    if getattr(_of_a_step, "is_here", False):
        _of_a_step.birth = os.pipe()


def _after_fork_in_parent() -> None:
    """Wait until the child ends with this thread: if the thread is faster, the child stays."""
    pipe = vars(_of_a_step).pop("birth", None)
    if pipe is not None:
        os.close(pipe[1])
        select.select([pipe[0]], [], [], _BIRTH)
        os.close(pipe[0])


def _after_fork_in_child() -> None:
    pipe = vars(_of_a_step).pop("birth", None)
    if pipe is not None:
        die_with_parent()
        os.close(pipe[0])
        os.close(pipe[1])


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
