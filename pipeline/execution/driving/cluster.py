"""Hand batches and experiments to a Dask cluster."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from dask.delayed import Delayed
from distributed import Client, Future

from oectflow.pipeline.execution.driving.core_seconds import CoreSeconds
from oectflow.pipeline.execution.driving.graph import GraphBuilder, delayed
from oectflow.pipeline.execution.driving.overheads import ClusterMeter, meter_of
from oectflow.pipeline.execution.driving.probe import ClusterProbe
from oectflow.pipeline.execution.driving.scheduler import (
    scheduler_lost,
    workers_of,
    workers_watched,
)
from oectflow.pipeline.execution.driving.wakeups import Announced, FutureDone, Wakeup
from oectflow.pipeline.execution.events import Overheads, WorkersSeen
from oectflow.pipeline.execution.planning.actions import Submit
from oectflow.pipeline.execution.planning.batches import Key, StepBatch
from oectflow.pipeline.execution.planning.work import ExperimentTask
from oectflow.pipeline.execution.worker.build_table import Extracted

#: Workers that hold more than this share of their memory get smaller batches.
PRESSURE = 0.8
#: Experiments that are handed to the scheduler together at most: enough for what it does once for
#: all of them, and few enough that it is not busy with them alone for long.
_AT_ONCE = 32
#: Workers tell how much memory they use about so often, in s.
HEARTBEAT = 1.0
#: What the start of a cluster takes before the first one was timed, in s: its workers import what
#: they need.
_START = 3.0


class LazyCluster:
    """A cluster that is running, or could be started.

    Parameters
    ----------
    client
        A running cluster.
    connect
        Starts a cluster; called only if there is enough work.
    n_workers
        How many workers a cluster started by ``connect`` would have.
    """

    def __init__(
        self,
        client: Client | None = None,
        connect: Callable[[], Client] | None = None,
        n_workers: int = 1,
    ) -> None:
        self.client = client
        self._connect = connect
        self._n_workers = n_workers
        #: For how long the workers are held.
        self.held = CoreSeconds()
        if client is not None and client.status == "closed":
            # Said before the run, also where there is too little work to ask for workers.
            raise scheduler_lost()

    @property
    def start(self) -> Overheads | None:
        """Cost of starting the cluster; None if it is running, or there is none."""
        if self.client is not None or self._connect is None:
            return None
        n = self._n_workers
        return Overheads(0.0, 0.0, 0.0, n, float(n), start=_START)

    @property
    def meter(self) -> ClusterMeter:
        """The meter of the running cluster."""
        assert self.client is not None
        return meter_of(self.client)

    def connect(self) -> float:
        """Start the cluster, and return how long this took, in s."""
        assert self._connect is not None
        begin = time.perf_counter()
        self.client = self._connect()
        self.look()
        return time.perf_counter() - begin

    def look(self) -> None:
        """See how many cores are held now."""
        if self.client is not None:
            there = workers_of(self.client)
            self.held.see(sum(worker["nthreads"] for worker in there.values()))


class ClusterExecutor:
    """The futures of a run on a cluster.

    Parameters
    ----------
    client
        The cluster.
    graphs
        Builds the graphs of experiments.
    wake
        Called from Dask's thread with what has happened.
    see
        Called from any thread with the number of cores that the workers have.
    """

    def __init__(
        self,
        client: Client,
        graphs: GraphBuilder,
        wake: Callable[[Wakeup], None],
        see: Callable[[int], None],
    ) -> None:
        self.client = client
        self._graphs = graphs
        self._wake = wake
        self._see = see
        self._sinks: dict[int, Future] = {}
        self._batches: defaultdict[int, dict[StepBatch, Future]] = defaultdict(dict)
        self._here: defaultdict[int, list[Extracted]] = defaultdict(list)
        self._topic = ""
        self._entered: list[Mapping[str, Any]] = []
        # By experiment: its batches, or None for its last task, and what is to be computed.
        self._waiting: dict[int, list[tuple[StepBatch | None, Delayed]]] = {}
        # Addresses of the workers at the last look; whoever comes again has another one.
        self._seen: frozenset[str] = frozenset()

    @contextmanager
    def listening(self, topic: str) -> Iterator[None]:
        """Listen to the workers; at the end, cancel all tasks that are left."""
        self._topic = topic

        def on_event(event: tuple[Any, dict[str, Any]]) -> None:
            self._wake(Announced(event[1]))

        with workers_watched(self.client, self._see):
            self.client.subscribe_topic(topic, on_event)
            try:
                yield
            finally:
                if self.client.status == "running":
                    self.client.unsubscribe_topic(topic)
                    batches = [f for some in self._batches.values() for f in some.values()]
                    self.client.cancel([*self._sinks.values(), *batches])

    def submit(
        self,
        task: ExperimentTask,
        submit: Submit,
        here: Sequence[Extracted],
        entered: Mapping[str, Any] | None = None,
    ) -> None:
        """Submit batches of an experiment, and its last task if these are all its batches.

        They leave with :meth:`flush`, or when many wait.  The scheduler takes in many experiments
        at once with a tenth of the work.

        Parameters
        ----------
        task
            The experiment.
        submit
            The batches, and how to submit them.
        here
            Parts of it that this process has computed since the last call.
        entered
            What the dashboard is told before that, if anything.
        """
        index = task.index
        if index in self._waiting:
            self.flush()
        self._here[index] += here
        self._entered += [entered] if entered else []
        before = {
            batch: future
            for batch, future in self._batches[index].items()
            if batch not in submit.batches and future.status != "error"
        }
        wanted: list[tuple[StepBatch | None, Key]]
        if submit.whole:
            others = [*(future.key for future in before.values()), *self._here[index]]
            graph, sink = self._graphs.experiment(task, submit, others)
            wanted = [(None, sink)]
            # What an earlier attempt tells is of no interest any more.
            self._sinks.pop(index, None)
        else:
            graph, keys = self._graphs.batches(task, submit)
            wanted = list(keys.items())
        ready = delayed(graph, [key for _, key in wanted], submit.batches, index)
        self._batches[index] = before
        self._waiting[index] = [(batch, one) for (batch, _), one in zip(wanted, ready, strict=True)]
        if len(self._waiting) == _AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Hand everything that waits to the scheduler."""
        waiting, self._waiting = self._waiting, {}
        if not waiting:
            return
        if self._entered:
            told = {"kind": "entered", "experiments": self._entered}
            self.client.log_event(self._topic, told)
            self._entered = []
        everything = [one for some in waiting.values() for _, one in some]
        futures = iter(self.client.compute(everything))
        for index, some in waiting.items():
            for (batch, _), future in zip(some, futures, strict=False):
                if batch is None:
                    self._sinks[index] = future
                else:
                    self._batches[index][batch] = future
                future.add_done_callback(partial(_wake_by, self._wake, index))

    def knows(self, index: int) -> bool:
        """Whether any part of an experiment was submitted."""
        return index in self._batches

    def is_retry(self, index: int) -> bool:
        """Whether the last task of an experiment was submitted before."""
        return index in self._sinks

    def is_current(self, wakeup: FutureDone) -> bool:
        """Whether a future belongs to the latest attempt at its experiment."""
        return self._sinks.get(wakeup.index) is wakeup.future or any(
            future is wakeup.future for future in self._batches[wakeup.index].values()
        )

    def is_sink(self, wakeup: FutureDone) -> bool:
        """Whether a future is the last task of its experiment."""
        return self._sinks.get(wakeup.index) is wakeup.future

    def release(self, index: int) -> None:
        """Forget an experiment that is finished."""
        self._sinks.pop(index, None)
        self._batches.pop(index, None)
        self._here.pop(index, None)
        self._waiting.pop(index, None)

    def look(self) -> WorkersSeen:
        """Look at the workers and their memory."""
        there = workers_of(self.client)
        before, self._seen = self._seen, frozenset(there)
        workers = there.values()
        limited = [worker for worker in workers if worker["memory_limit"]]
        return WorkersSeen(
            ClusterProbe(self.client).expected({w["name"]: w["nthreads"] for w in workers}),
            float(sum(worker["memory_limit"] for worker in limited)),
            min((worker["memory_limit"] / worker["nthreads"] for worker in limited), default=0.0),
            any(
                worker["status"] == "paused"
                or worker["metrics"].get("memory", 0) > PRESSURE * worker["memory_limit"]
                for worker in limited
            ),
            bool(before) and before != self._seen,
        )


def _wake_by(wake: Callable[[Wakeup], None], index: int, future: Future) -> None:
    wake(FutureDone(index, future))
