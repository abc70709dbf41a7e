"""The loop of a run: it passes events to the state, and carries out what the state asks for."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from queue import Empty, SimpleQueue
from typing import Any

from distributed import KilledWorker

from oectflow.errors import StorageError
from oectflow.pipeline.execution.driving.cluster import HEARTBEAT, ClusterExecutor, LazyCluster
from oectflow.pipeline.execution.driving.graph import GraphBuilder
from oectflow.pipeline.execution.driving.local import LocalThreads
from oectflow.pipeline.execution.driving.overheads import ClusterMeter
from oectflow.pipeline.execution.driving.scheduler import scheduler_lost, scheduler_needed
from oectflow.pipeline.execution.driving.wakeups import Announced, Failed, FutureDone, Over, Wakeup
from oectflow.pipeline.execution.events import (
    BatchDone,
    Begun,
    Connected,
    Ended,
    Event,
    Killed,
    Measured,
    Overheads,
    Waited,
    WorkersSeen,
)
from oectflow.pipeline.execution.planning.actions import (
    Action,
    Connect,
    Correct,
    GiveUp,
    Look,
    Measure,
    RunHere,
    Stop,
    Submit,
    Wake,
)
from oectflow.pipeline.execution.planning.state import RunState
from oectflow.pipeline.execution.planning.work import ExperimentTask, n_logical
from oectflow.pipeline.execution.report import ExperimentRecord
from oectflow.pipeline.execution.worker.pickled_once import PickledOnce
from oectflow.pipeline.execution.worker.tasks import NamedExtractor, written_message
from oectflow.pipeline.features.feature_list import FeatureList

Listener = Callable[[Mapping[str, Any]], None]


class Loop:
    """Drives a run.

    Parameters
    ----------
    state
        Decides.
    specs, features
        What computes the features, by name, and the set of them.
    cluster
        A cluster that is running, or could be started.
    listener
        Called with every progress event.
    by_step
        Whether derived features are computed step by step, where that is possible.
    """

    def __init__(
        self,
        state: RunState,
        specs: Mapping[str, NamedExtractor],
        features: PickledOnce[FeatureList],
        cluster: LazyCluster,
        listener: Listener,
        *,
        by_step: bool = False,
    ) -> None:
        self._state = state
        self._tasks: dict[int, ExperimentTask] = {i: job.task for i, job in state.jobs.items()}
        self._topic = next((task.topic for task in self._tasks.values()), "")
        self._cluster = cluster
        self._listener = listener
        self._graphs = GraphBuilder(specs, features, by_step=by_step)
        # Everything is handled in the thread of the caller, whatever thread it comes from.
        self._wakeups: SimpleQueue[Wakeup] = SimpleQueue()
        self._here = LocalThreads(specs, features, self._wakeups.put)
        self._executor: ClusterExecutor | None = None
        self._stack = ExitStack()
        self._errors: dict[int, BaseException] = {}
        self._wake_at = self._look_at = math.inf
        self._records: deque[tuple[int, ExperimentRecord]] = deque()

    def run(self) -> Iterator[tuple[int, ExperimentRecord]]:
        """Carry out what the state asks for, until it says stop.

        Yields
        ------
        The index and the record of every finished experiment.

        Raises
        ------
        StorageError
            Nothing more can be written.
        ClusterError
            The scheduler is gone.
        """
        with self._stack:
            self._stack.enter_context(scheduler_needed())
            self._stack.callback(self._here.close)
            running = self._handle(Begun())
            while running:
                running = self._hear()
                while self._records:
                    yield self._records.popleft()

    def _handle(self, event: Event) -> bool:
        """Put an event into the state and do what comes out; False at the end of the run."""
        actions = deque(self._state.handle(event, time.perf_counter()))
        while actions:
            action = actions.popleft()
            if isinstance(action, Stop):
                return False
            answer = self._do(action)
            if answer is not None:
                actions.extend(self._state.handle(answer, time.perf_counter()))
        return True

    def _do(self, action: Action) -> Event | None:
        match action:
            case RunHere():
                self._here.run(self._tasks[action.index], action)
            case Submit():
                self._submit(action)
            case Measure():
                return Measured(answer(action, self._cluster.meter))
            case Connect():
                return Connected(self._cluster.connect())
            case Wake():
                self._wake_at = time.perf_counter() + action.seconds
            case Correct():
                self._cluster.meter.correct(action.decision, action.seconds)
            case Look():
                return self._look()
            case GiveUp():
                return self._failed(action.index, self._errors[action.index])
        return None

    def _submit(self, action: Submit) -> None:
        task = self._tasks[action.index]
        executor = self._on_cluster()
        enters = not executor.knows(action.index) or executor.is_retry(action.index)
        entered = self._entered(action.index) if enters else None
        executor.submit(task, action, self._here.take_parts(action.index), entered)

    def _on_cluster(self) -> ClusterExecutor:
        if self._executor is None:
            client = self._cluster.client
            assert client is not None
            # Nothing but what asks the cluster can raise an OSError from now on.
            self._stack.enter_context(scheduler_needed(OSError))
            self._executor = ClusterExecutor(
                client, self._graphs, self._wakeups.put, self._cluster.held.see
            )
            self._stack.enter_context(self._executor.listening(self._topic))
            client.log_event(self._topic, self._begun())
        return self._executor

    def _look(self) -> WorkersSeen:
        self._look_at = time.monotonic() + HEARTBEAT
        return self._on_cluster().look()

    def _hear(self) -> bool:
        """Wait for what happens next and handle it; False at the end of the run."""
        if self._executor is not None and self._wakeups.empty():
            self._executor.flush()
        try:
            seconds = self._wake_at - time.perf_counter()
            if seconds <= 0:
                raise Empty
            wakeup = self._wakeups.get(timeout=None if seconds == math.inf else seconds)
        except Empty:
            self._wake_at = math.inf
            return self._handle(Waited())
        if time.monotonic() > self._look_at and not self._handle(self._look()):
            return False
        event = self._event_of(wakeup)
        return event is None or self._handle(event)

    def _event_of(self, wakeup: Wakeup) -> Event | None:
        """Return what the state has to know; None where that is nothing."""
        match wakeup:
            case BatchDone():
                task = self._tasks[wakeup.index]
                self._listener(wakeup.message(task.experiment_id))
                return wakeup
            case Announced():
                if wakeup.message["kind"] != "batch":
                    return None
                self._listener(wakeup.message)
                return BatchDone.of(wakeup.message)
            case Over():
                return self._over(wakeup.index, wakeup.record)
            case Failed():
                return self._failed(wakeup.index, wakeup.error)
            case FutureDone():
                return self._future_done(wakeup)

    def _future_done(self, wakeup: FutureDone) -> Event | None:
        assert self._executor is not None
        if not self._executor.is_current(wakeup):
            return None
        if wakeup.future.cancelled():
            raise scheduler_lost()
        error = wakeup.future.exception()
        if isinstance(error, KilledWorker):
            self._errors[wakeup.index] = error
            return Killed(wakeup.index, error.task)
        if error is not None:
            return self._failed(wakeup.index, error)
        if not self._executor.is_sink(wakeup):
            return None
        return self._over(wakeup.index, wakeup.future.result())

    def _failed(self, index: int, error: BaseException) -> Event | None:
        if isinstance(error, StorageError):
            raise StorageError(
                f"{error}; the run has stopped, and the files that were written are complete: make "
                "room, or make the folder writable, and repeat the call"
            ) from error
        if index not in self._state.jobs:
            # Another part of it has failed before.
            return None
        task = self._tasks[index]
        reason = f"{task.path}: {type(error).__name__}: {error}"
        record = ExperimentRecord(task.experiment_id, task.path, "failed", reason)
        if self._executor is not None:
            n = task.n_rows
            message = written_message(record) | {"n_steps": n, "n_failed": n}
            self._executor.client.log_event(self._topic, message)
        return self._over(index, record)

    def _over(self, index: int, record: ExperimentRecord) -> Ended:
        if self._executor is not None:
            if not self._executor.knows(index):
                # Of what was computed here, no worker tells the dashboard.
                self._executor.client.log_event(self._topic, written_message(record))
            self._executor.release(index)
        self._records.append((index, record))
        return Ended(
            index,
            record.n_steps,
            record.n_bytes_in_memory,
            record.seconds,
            record.reading,
            record.finishing,
        )

    def _begun(self) -> dict[str, Any]:
        """Return what there is to do on the cluster and beside it, for the dashboard."""
        n_steps = [self._tasks[index].n_rows for index in self._state.jobs]
        return {"kind": "begun", "n_experiments": len(n_steps), "n_steps": sum(n_steps)}

    def _entered(self, index: int) -> dict[str, Any]:
        task = self._tasks[index]
        return {
            "experiment_id": task.experiment_id,
            "n_steps": task.n_rows,
            "n_logical": n_logical(self._state.jobs[index], self._state.ledger.traits),
        }


def answer(question: Measure, meter: ClusterMeter) -> Overheads | None:
    """Return the overheads of a cluster, measured as far as requested."""
    if question.again:
        return meter.measured_again(question.seconds)
    if question.needed:
        return meter.overheads(question.seconds)
    return meter.overheads_if_worth_it(question.seconds)
