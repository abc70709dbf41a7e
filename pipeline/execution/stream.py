"""Run the graphs of many experiments: a window of them at a time, and whatever goes wrong."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import dask.threaded
from distributed import Client, Future, KilledWorker, as_completed
from distributed.comm import CommClosedError

from oectflow.extractors.base import BaseExtractor
from oectflow.pipeline.errors import ClusterError, StorageError
from oectflow.pipeline.execution import tasks
from oectflow.pipeline.execution.graph import batches_of, delayed_experiment, experiment_graph
from oectflow.pipeline.execution.planner import Planner
from oectflow.pipeline.execution.prepare import Job
from oectflow.pipeline.execution.report import ExperimentRecord
from oectflow.pipeline.features.feature_set import FeatureSet

#: How often an experiment is submitted whose workers die for no reason that is in its batches.
ATTEMPTS = 3

_GONE = (
    "the Dask scheduler is gone; the files that were written are complete: "
    "connect again and repeat the call, it goes on from there"
)

Listener = Callable[[dict[str, Any]], None]
Finished = Iterator[tuple[Job, ExperimentRecord]]


def n_workers(client: Client | None) -> int:
    """Return how many tasks run at the same time."""
    if client is None:
        return os.cpu_count() or 1
    return max(1, int(sum(client.nthreads().values())))


def run_on_threads(
    jobs: Sequence[Job],
    extractors: Mapping[str, BaseExtractor],
    features: FeatureSet,
    planner: Planner,
    listener: Listener,
) -> Finished:
    """Run experiment after experiment in the threads of this process.

    Raises
    ------
    StorageError
        Nothing more can be written.
    """
    for job in jobs:
        planner.plan(job)
        graph, sink = experiment_graph(job, extractors, features)
        tasks.local_listeners[job.task.topic] = listener
        try:
            record = dask.threaded.get(graph, sink)
        except StorageError as error:
            raise _stopped(error) from error
        except Exception as error:  # noqa: BLE001 - whatever it is, the others go on
            record = _failure(job, error)
        finally:
            del tasks.local_listeners[job.task.topic]
        yield job, record


def run_on_cluster(
    jobs: Sequence[Job],
    extractors: Mapping[str, BaseExtractor],
    features: FeatureSet,
    planner: Planner,
    listener: Listener,
    client: Client,
) -> Finished:
    """Keep a window of experiments in the scheduler; as one is written, the next one enters.

    So neither the scheduler nor the workers hold more than the window, however many experiments
    there are, and only small records come back.  An experiment in which a task kills its workers
    is submitted again, with that task isolated.

    Raises
    ------
    StorageError
        Nothing more can be written.
    ClusterError
        The scheduler is gone.
    """
    if not jobs:
        return
    topic = jobs[0].task.topic
    waiting = iter(jobs)
    running: dict[Future, Job] = {}
    completed = as_completed()

    def submit(job: Job) -> None:
        future = client.compute(delayed_experiment(job, extractors, features))
        running[future] = job
        completed.add(future)

    def fill_window() -> None:
        # Two experiments, so that one is read while the other is written; more where they are so
        # small that not every worker would find two tasks; workers may join during the run.
        wanted = 2 * n_workers(client)
        while len(running) < 2 or sum(max(1, len(j.batches)) for j in running.values()) < wanted:
            job = next(waiting, None)
            if job is None:
                return
            planner.plan(job)
            client.log_event(topic, _entered(job))
            submit(job)

    client.subscribe_topic(topic, lambda event: listener(event[1]))
    try:
        fill_window()
        for future in completed:
            job = running.pop(future)
            if future.cancelled():
                raise ClusterError(_GONE)
            error = future.exception()
            if isinstance(error, StorageError):
                raise _stopped(error) from error
            if isinstance(error, KilledWorker) and try_again(job, error):
                future.release()
                submit(job)
                continue
            if error is None:
                record = future.result()
            else:
                record = _failure(job, error)
                client.log_event(topic, _failed(job))
            future.release()
            fill_window()
            yield job, record
    except CommClosedError as error:
        # It went after a result was announced and before it was fetched.
        raise ClusterError(_GONE) from error
    finally:
        if client.status == "running":
            client.unsubscribe_topic(topic)
            client.cancel(list(running))


def try_again(job: Job, error: KilledWorker) -> bool:
    """Prepare an experiment for another attempt after one of its tasks has killed its workers.

    If that was a batch, it runs in a process of its own from now on.  Dask blames every task that
    waited on a worker which died, so the task may as well be innocent: then it simply succeeds.

    Returns
    -------
    False where another attempt is of no use: nothing could be isolated, several times.
    """
    guilty = set(batches_of(error.task, job.batches)) - job.isolated
    job.isolated |= guilty
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


def _stopped(error: StorageError) -> StorageError:
    return StorageError(
        f"{error}; the run has stopped, and the files that were written are complete: make room, "
        "or make the folder writable, and repeat the call"
    )


def _failure(job: Job, error: BaseException) -> ExperimentRecord:
    reason = f"{job.task.path}: {type(error).__name__}: {error}"
    return ExperimentRecord(job.task.experiment_id, job.task.path, "failed", reason)
