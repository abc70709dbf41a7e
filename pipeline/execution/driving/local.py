"""Run an experiment in this process: one step after the other, or in threads."""

from __future__ import annotations

import time

import dask.threaded

from oectflow.pipeline.execution.driving.find_work import Job
from oectflow.pipeline.execution.driving.graph import experiment_graph
from oectflow.pipeline.execution.driving.overheads import MEASURING_SHARE, thread_overheads
from oectflow.pipeline.execution.driving.planner import Planner
from oectflow.pipeline.execution.report import ExperimentRecord
from oectflow.pipeline.execution.worker.pickled_once import PickledOnce
from oectflow.pipeline.execution.worker.tasks import (
    derive_features,
    hash_source,
    read_and_extract,
    write_experiment,
)
from oectflow.pipeline.features.feature_set import FeatureSet

#: Whoever looks at a progress bar wants to see it move.
_PROGRESS_SECONDS = 0.25


def run_inline(job: Job, planner: Planner, features: PickledOnce[FeatureSet]) -> ExperimentRecord:
    """Run an experiment without Dask: for little work, everything else would take longer.

    Raises
    ------
    StorageError
        Nothing more can be written.
    """
    planner.plan(job, _PROGRESS_SECONDS)
    parts = list(job.done)
    for batch in job.batches:
        specs = [planner.specs[name] for name in batch.features]
        parts.append(read_and_extract(job.task, specs, batch.source, batch.start, batch.stop))
    table = derive_features(job.task, features, parts)
    return write_experiment(job.task, features, table, hash_source(job.task))


def run_on_threads(
    job: Job, planner: Planner, features: PickledOnce[FeatureSet], batch_seconds: float
) -> ExperimentRecord:
    """Run the graph of an experiment in the threads of this process.

    Raises
    ------
    StorageError
        Nothing more can be written.
    """
    alone = planner.seconds_of(job)
    planner.plan(job, batch_seconds)
    graph, sink = experiment_graph(job, planner.specs, features)
    begin = time.perf_counter()
    record: ExperimentRecord = dask.threaded.get(graph, sink)
    seconds = time.perf_counter() - begin - record.finishing
    threads = thread_overheads()
    handing_out = len(job.batches) * threads.per_worker
    if len(job.batches) >= threads.n_workers and handing_out < MEASURING_SHARE * alone:
        planner.book.learn("threads", min(max(alone / seconds, 1.0), float(threads.n_workers)))
    return record
