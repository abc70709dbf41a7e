"""Run the graphs of many experiments on a cluster: a window of them at a time, come what may."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue
from typing import Any

from distributed import Client, Future, KilledWorker

from oectflow.errors import StorageError
from oectflow.pipeline.execution.driving.explore import collect
from oectflow.pipeline.execution.driving.find_work import Job
from oectflow.pipeline.execution.driving.graph import batches_of, delayed_experiment
from oectflow.pipeline.execution.driving.overheads import count_workers
from oectflow.pipeline.execution.driving.planner import Planner
from oectflow.pipeline.execution.driving.scheduler import gone, scheduler_needed, workers_missed
from oectflow.pipeline.execution.planning.decide import LEAST_MARGIN
from oectflow.pipeline.execution.report import ExperimentRecord
from oectflow.pipeline.execution.worker.pickled_once import PickledOnce
from oectflow.pipeline.features.feature_set import FeatureSet

#: How often an experiment is submitted whose workers die for no reason that is in its batches.
ATTEMPTS = 3
#: Workers that hold more than this share of their memory get smaller batches; results that wait to
#: be written may take this share of the memory of all of them.
PRESSURE = 0.8
WAITING_SHARE = 0.25
#: Workers tell how much memory they use about so often, in s.
_HEARTBEAT = 1.0

Listener = Callable[[dict[str, Any]], None]
Finished = Iterator[tuple[Job, ExperimentRecord]]


def run_on_cluster(
    queue: deque[Job],
    features: PickledOnce[FeatureSet],
    planner: Planner,
    listener: Listener,
    client: Client,
    batch_seconds: float,
) -> Finished:
    """Keep a window of experiments in the scheduler; as one is written, the next one enters.

    So neither the scheduler nor the workers hold more than the window, however many experiments
    there are, and only small records come back.  An experiment in which a task kills its workers
    is submitted again, with that task divided or isolated.

    Parameters
    ----------
    queue
        Experiments, taken from the left.  Some are left if the workers turn out to be slower than
        this process alone, and this process may do the rest.
    features
        For the derived ones.
    planner
        Plans an experiment when it enters.
    listener
        Called with every progress event.
    client
        The cluster.
    batch_seconds
        How long a batch should take.

    Raises
    ------
    StorageError
        Nothing more can be written.
    ClusterError
        The scheduler is gone.
    """
    topic = queue[0].task.topic
    running: dict[Future, Job] = {}
    # Futures that are done, and events as Dask's thread hears them; all is handled in this one.
    news: SimpleQueue[Future | dict[str, Any]] = SimpleQueue()
    with scheduler_needed(OSError):
        memory = WindowMemory(client, planner)
        n_workers = count_workers(client)
    begin = time.perf_counter()
    planner.alone_done, planner.n_batches_done = 0.0, 0
    # Batches of the running experiments that are not done.
    left: Counter[str] = Counter()

    def heard(event: tuple[Any, dict[str, Any]]) -> None:
        news.put(event[1])

    def take(event: dict[str, Any]) -> None:
        listener(event)
        planner.batch_done(event)
        if event["kind"] == "batch":
            left[event["experiment_id"]] -= 1

    def is_slow() -> bool:
        """Whether the workers have turned out to be slower than this process alone."""
        if planner.granularity != "auto" or planner.timings.any_is_bound or not planner.safe:
            return False
        if planner.n_batches_done < 2 * n_workers:
            return False
        quicker = planner.alone_done / (time.perf_counter() - begin)
        return quicker * (1 + LEAST_MARGIN) < 1

    def submit(job: Job) -> None:
        running_already = sum(not future.done() for _, future in job.pending)
        left[job.task.experiment_id] = len(job.batches) + running_already
        future = client.compute(delayed_experiment(job, planner.specs, features))
        running[future] = job
        future.add_done_callback(news.put)

    def n_left() -> int:
        """Return how many tasks are left when the first experiment is written, which is next."""
        # One that is only to be written is a task, too.
        tasks = [max(1, left[job.task.experiment_id]) for job in running.values()]
        return sum(tasks[1:])

    def fill_window() -> None:
        # Two experiments, so that one is read while the other is written; more where they are so
        # small that not every worker would find two tasks until the next one enters, or where few
        # long tasks are left, which should begin before the short ones.
        if not queue or is_slow():
            return
        all_of_them = planner.is_near_end(batch_seconds, n_workers)
        while queue and (all_of_them or len(running) < 2 or n_left() < 2 * n_workers):
            if running and not memory.has_room_for(queue[0], running.values()):
                return
            job = queue.popleft()
            collect(job, planner)
            planner.plan(job, batch_seconds)
            client.log_event(topic, _entered(job))
            submit(job)

    # Nothing here but what asks the cluster can raise an OSError.
    with scheduler_needed(OSError), workers_missed(client):
        client.subscribe_topic(topic, heard)
        try:
            fill_window()
            while running:
                future = news.get()
                if isinstance(future, dict):
                    take(future)
                    if news.empty():
                        # A batch is done: the window may have room.
                        fill_window()
                    continue
                job = running.pop(future)
                if future.cancelled():
                    raise gone()
                # Some may have joined.
                n_workers = count_workers(client)
                error = future.exception()
                if isinstance(error, StorageError):
                    raise stopped(error) from error
                if isinstance(error, KilledWorker) and try_again(job, error, planner):
                    future.release()
                    submit(job)
                    continue
                if error is None:
                    record = future.result()
                else:
                    record = failure(job, error)
                    client.log_event(topic, _failed(job))
                future.release()
                fill_window()
                yield job, record
        finally:
            if client.status == "running":
                client.unsubscribe_topic(topic)
                begun = [future for job in running.values() for _, future in job.pending]
                client.cancel([*running, *(one for one in begun if isinstance(one, Future))])


class WindowMemory:
    """What the workers have, and whether more may be asked of them."""

    def __init__(self, client: Client, planner: Planner) -> None:
        self._client = client
        self._planner = planner
        self._total = 0.0
        self._tight = False
        self._look()

    def has_room_for(self, job: Job, running: Iterable[Job]) -> bool:
        """Whether another experiment may enter beside those that run."""
        if time.monotonic() - self._asked > _HEARTBEAT:
            self._look()
        if self._tight:
            return False
        needed = sum(self._planner.bytes_in_flight(one) for one in (job, *running))
        return not self._total or needed < WAITING_SHARE * self._total

    def _look(self) -> None:
        self._asked = time.monotonic()
        workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        limited = [worker for worker in workers if worker["memory_limit"]]
        self._total = float(sum(worker["memory_limit"] for worker in limited))
        if limited:
            self._planner.limit_batches(min(w["memory_limit"] / w["nthreads"] for w in limited))
        self._tight = any(
            worker["status"] == "paused"
            or worker["metrics"].get("memory", 0) > PRESSURE * worker["memory_limit"]
            for worker in limited
        )
        if self._tight:
            self._planner.shrink_batches()


def try_again(job: Job, error: KilledWorker, planner: Planner) -> bool:
    """Prepare an experiment for another attempt after one of its tasks has killed its workers.

    If that was a batch of many samples, there may not have been enough memory: it is divided.  Any
    other batch, and one that was divided before, runs in a process of its own from now on.  Dask
    blames every task that waited on a worker which died, so the task may as well be innocent: then
    it simply succeeds.

    Returns
    -------
    False where another attempt is of no use: nothing could be isolated, several times.
    """
    # What had begun before, and may have been to blame, is part of the graph from now on.
    job.batches += [batch for batch, _ in job.pending]
    job.pending = []
    guilty = set(batches_of(error.task, job.batches)) - job.isolated
    for batch in guilty:
        pieces = planner.pieces(job, batch)
        if batch in job.divided or len(pieces) == 1:
            job.isolated.add(batch)
        else:
            at = job.batches.index(batch)
            job.batches[at : at + 1] = pieces
            job.divided.update(pieces)
            planner.shrink_batches()
    job.attempts += not guilty
    return job.attempts < ATTEMPTS


def _entered(job: Job) -> dict[str, Any]:
    return {
        "kind": "entered",
        "experiment_id": job.task.experiment_id,
        "n_steps": max(job.task.n_steps.values(), default=0),
        "n_logical": sum(batch.n_logical for batch in job.batches),
    }


def _failed(job: Job) -> dict[str, Any]:
    n_steps = max(job.task.n_steps.values(), default=0)
    return {
        "kind": "written",
        "experiment_id": job.task.experiment_id,
        "outcome": "failed",
        "n_steps": n_steps,
        "n_flagged": 0,
        "n_failed": n_steps,
        "bytes": 0,
    }


def stopped(error: StorageError) -> StorageError:
    """Return the error of a run whose folder cannot be written any more."""
    return StorageError(
        f"{error}; the run has stopped, and the files that were written are complete: make room, "
        "or make the folder writable, and repeat the call"
    )


def failure(job: Job, error: BaseException) -> ExperimentRecord:
    """Return the record of an experiment of which nothing could be written."""
    reason = f"{job.task.path}: {type(error).__name__}: {error}"
    return ExperimentRecord(job.task.experiment_id, job.task.path, "failed", reason)
