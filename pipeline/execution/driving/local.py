"""Compute batches in threads of this process."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from queue import SimpleQueue
from typing import Any

import dask
from dask.system import CPU_COUNT

from oectflow.pipeline.execution.driving.wakeups import Failed, Over, Wakeup
from oectflow.pipeline.execution.events import CHILD, Overheads
from oectflow.pipeline.execution.planning.actions import RunHere
from oectflow.pipeline.execution.planning.batches import StepBatch
from oectflow.pipeline.execution.planning.work import ExperimentTask
from oectflow.pipeline.execution.worker.build_table import Extracted
from oectflow.pipeline.execution.worker.isolate import extract_isolated
from oectflow.pipeline.execution.worker.pickled_once import PickledOnce
from oectflow.pipeline.execution.worker.tasks import (
    NamedExtractor,
    batch_done,
    compute_batch,
    finish_experiment,
)
from oectflow.pipeline.features.feature_list import FeatureList

#: Round trips that are timed.  The shortest counts: whatever disturbs them makes them longer.
_TRIPS = 3


class LocalThreads:
    """Threads that compute batches and write complete experiments.

    Parameters
    ----------
    specs
        What computes the features, by name.
    features
        The feature set, for the derived ones.
    wake
        Called from any thread with what has happened.
    """

    def __init__(
        self,
        specs: Mapping[str, NamedExtractor],
        features: PickledOnce[FeatureList],
        wake: Callable[[Wakeup], None],
    ) -> None:
        self._specs = specs
        self._features = features
        self._wake = wake
        self._lock = threading.Lock()
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._closed = False
        # By experiment: batches that are not done, and whether no other will come.
        self._left: Counter[int] = Counter()
        self._whole: set[int] = set()
        self._parts: defaultdict[int, list[Extracted]] = defaultdict(list)

    def run(self, task: ExperimentTask, action: RunHere) -> None:
        """Begin with some batches of an experiment."""
        with self._lock:
            self._left[task.index] += len(action.batches)
            if action.whole:
                self._whole.add(task.index)
            nothing_left = action.whole and not self._left[task.index]
        calls = [(task, batch, batch in action.isolated) for batch in action.batches]
        if nothing_left:
            self._begin(task, self._finish, task)
        elif action.together:
            self._begin(task, self._one_after_the_other, calls)
        else:
            for call in calls:
                self._begin(task, self._compute, *call)

    def take_parts(self, index: int) -> list[Extracted]:
        """Return the computed parts of an experiment, to be assembled elsewhere."""
        return self._parts.pop(index, [])

    def close(self) -> None:
        """Start nothing new; running computations are left to themselves."""
        self._closed = True
        for _ in self._threads:
            self._work.put(None)

    def _begin(self, task: ExperimentTask, do: Callable[..., None], *args: Any) -> None:
        self._work.put(partial(self._safely, task, do, *args))
        if len(self._threads) < _n_threads():
            # Nobody who interrupts a run and leaves Python has to wait for the end of a step.
            thread = threading.Thread(target=self._serve, name="oectflow batches", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self) -> None:
        while not self._closed and (work := self._work.get()) is not None:
            work()

    def _safely(self, task: ExperimentTask, do: Callable[..., None], *args: Any) -> None:
        try:
            do(*args)
        except Exception as error:  # noqa: BLE001
            # Whatever happens to one experiment, the others go on.
            self._wake(Failed(task.index, error))

    def _one_after_the_other(self, calls: list[tuple[ExperimentTask, StepBatch, bool]]) -> None:
        for call in calls:
            if not self._closed:
                self._compute(*call)

    def _compute(self, task: ExperimentTask, batch: StepBatch, isolated: bool) -> None:
        specs = [self._specs[name] for name in batch.features]
        steps = (batch.source, batch.start, batch.stop)
        if isolated:
            parts = extract_isolated(task, specs, *steps)
        else:
            parts = [compute_batch(task, specs, *steps)]
        with self._lock:
            self._parts[task.index] += parts
            self._left[task.index] -= 1
            is_last = task.index in self._whole and not self._left[task.index]
        self._wake(batch_done(task, parts, CHILD if isolated else ""))
        if is_last and not self._closed:
            self._finish(task)

    def _finish(self, task: ExperimentTask) -> None:
        parts = self.take_parts(task.index)
        self._wake(Over(task.index, finish_experiment(task, self._features, parts)))


def thread_overheads() -> Overheads:
    """Return the overheads of this process's threads; ``effective`` is only an upper bound.

    A round trip is taken as the upper bound of all overheads.  The joint speed of threads depends
    on how long an extractor holds the interpreter's lock, so it is learnt from finished work.
    """
    return _overheads(_n_threads())


def _n_threads() -> int:
    return int(dask.config.get("num_workers", None) or CPU_COUNT)


@cache
def _overheads(n_threads: int) -> Overheads:
    trips = []
    with ThreadPoolExecutor(1) as pool:
        for _ in range(_TRIPS):
            begin = time.perf_counter()
            pool.submit(int).result()
            trips.append(time.perf_counter() - begin)
    trip = min(trips)
    return Overheads(trip, trip, trip, n_threads, float(n_threads))
