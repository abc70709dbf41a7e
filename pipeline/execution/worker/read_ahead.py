"""Steps of the task that a worker has next, read from a store while the worker computes.

A store answers after a tenth of a second, in which a core could compute; a disk answers at once,
and there reading ahead does not pay.  The scheduler gives a worker one task more than it can run,
so that there is one to look at.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from distributed import Worker, WorkerPlugin, get_worker

from oectflow.pipeline.execution.worker.run_extractor import Steps

#: Batches that are read ahead; what belongs to a task that another worker has taken is dropped.
_MOST = 2
_NAME = "oectflow-read-ahead"

_reading: OrderedDict[Any, Future[Steps]] = OrderedDict()
_pool = ThreadPoolExecutor(_MOST, thread_name_prefix="read-ahead")


def steps_of(task: Callable[..., Any], read: Callable[..., Steps], *arguments: Any) -> Steps:
    """Return the steps of the task that runs here; from now on, those of the next are read ahead.

    Parameters
    ----------
    task
        The function that tasks call, with the same arguments as ``read``.
    read
        Reads the steps.
    *arguments
        Those of the task that runs here.
    """
    try:
        worker = get_worker()
    except ValueError:
        # No worker, and nobody knows of a next task.
        return read(*arguments)
    ahead = _reading.pop(worker.get_current_task(), None)
    # What waits is known in the thread of the worker's loop.
    worker.loop.add_callback(_begin, worker, task, read)
    return read(*arguments) if ahead is None else ahead.result()


def _begin(worker: Worker, task: Callable[..., Any], read: Callable[..., Steps]) -> None:
    """Begin to read for the task that waits, and do so again whenever another one has come."""
    if _NAME not in worker.plugins:
        worker.loop.add_callback(worker.plugin_add, _Watch(worker, task, read), _NAME)
    for waiting in worker.state.ready.peekn(_MOST):
        if getattr(waiting.run_spec, "func", None) is task and waiting.key not in _reading:
            _reading[waiting.key] = _pool.submit(read, *waiting.run_spec.args)
    while len(_reading) > _MOST:
        _reading.popitem(last=False)[1].cancel()


class _Watch(WorkerPlugin):  # type: ignore[misc] # Dask has no types
    """Tells when a task has come; nothing of it is sent, as tasks put it where they run."""

    def __init__(
        self, worker: Worker, task: Callable[..., Any], read: Callable[..., Steps]
    ) -> None:
        self._of = worker, task, read

    def transition(self, key: Any, start: str, finish: str, **_: Any) -> None:  # noqa: ARG002
        if finish == "ready":
            # One that runs at once has gone from those that wait by then.
            self._of[0].loop.add_callback(_begin, *self._of)
