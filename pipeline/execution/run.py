"""Plan a run, submit it, and report what happened."""

from __future__ import annotations

import math
import os
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import dask.threaded
from distributed import Client, Future, as_completed, default_client

from oectflow.extractors.base import BaseExtractor
from oectflow.pipeline.errors import ConfigError, OutputError, RunFailed
from oectflow.pipeline.execution import tasks
from oectflow.pipeline.execution.costs import UNKNOWN_SECONDS_PER_SAMPLE, measure_costs
from oectflow.pipeline.execution.graph import delayed_experiment, experiment_graph
from oectflow.pipeline.execution.plan import (
    FeatureCost,
    Granularity,
    check_granularity,
    plan_batches,
    total_seconds,
)
from oectflow.pipeline.execution.prepare import Experiments, Job, find_experiments, prepare
from oectflow.pipeline.execution.progress import RunProgress
from oectflow.pipeline.execution.report import ExperimentRecord, RunReport
from oectflow.pipeline.features.feature_set import FeatureSet
from oectflow.pipeline.outputs.sink import remove_leftovers


def extract(
    experiments: Experiments,
    features: Any = "all",
    out: str | os.PathLike[str] = "features",
    *,
    client: Client | None = None,
    granularity: Granularity = "auto",
    on_error: Literal["record", "raise"] = "record",
    force: bool = False,
    progress: bool = True,
    expand_multidim: bool = False,
) -> RunReport:
    """Compute features of experiments and write one Parquet file for each.

    What an earlier run has computed from the same raw file with the same definition is kept: a
    second call does nothing, a call with one more feature computes that one, and a run that was
    interrupted goes on where it stopped.

    Parameters
    ----------
    experiments
        A folder (searched with its subfolders), a glob, a file, an Experiment, or several of them.
    features
        Name of a bundled feature set, path of a YAML or JSON file, dict, or FeatureSet.
    out
        Folder of the results; made if missing.
    client
        A Dask client, as :func:`oectflow.connect` returns.  By default the client that is active
        in this process; without one, the threads of this process do the work.
    granularity
        ``"auto"``: batches of about a quarter of a second.  ``"step"``: one Dask task for every
        (experiment, feature, step).  ``"experiment"``: one for each source of an experiment.  A
        number: so many steps in a task.
    on_error
        ``"record"`` reports failures; ``"raise"`` raises RunFailed when everything else is done.
    force
        Compute everything anew.
    progress
        Show a progress bar.
    expand_multidim
        Write ``name_0``, ``name_1``, … instead of list columns.

    Returns
    -------
    What happened; print it.

    Raises
    ------
    InputError
        There is no experiment at the place named.
    ConfigError
        The features or an option are wrong.
    OutputError
        The output folder cannot be made.
    RunFailed
        With ``on_error="raise"``, if anything failed.

    Examples
    --------
    >>> import oectflow as of
    >>> report = of.extract("raw/", "transient_tau", "features/")  # doctest: +SKIP
    >>> print(report)  # doctest: +SKIP
    """
    begin = time.perf_counter()
    check_granularity(granularity)
    if on_error not in ("record", "raise"):
        raise ConfigError(f"on_error={on_error!r}: expected 'record' or 'raise'")
    feature_set = FeatureSet.load(features)
    folder = Path(out).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror})") from error
    client = client or _active_client()
    run = uuid.uuid4().hex[:8]
    records: dict[int, ExperimentRecord] = {}
    jobs: list[Job] = []
    for index, item in enumerate(
        prepare(
            find_experiments(experiments),
            feature_set,
            folder,
            force=force,
            expand_multidim=expand_multidim,
            topic=f"oectflow-{run}",
        )
    ):
        if isinstance(item, Job):
            jobs.append(item)
        else:
            records[index] = item
    remove_leftovers(Path(job.task.out_path) for job in jobs)
    extractors = {f.name: f.extractor for f in feature_set.extracted if f.extractor}
    _plan(jobs, extractors, client, granularity)
    logical = {
        job.task.experiment_id: sum(batch.n_logical for batch in job.batches) for job in jobs
    }
    execute = _on_threads if client is None else _on_cluster
    with RunProgress(logical, shown=progress and bool(jobs)) as bar:
        for job, record in execute(jobs, extractors, feature_set, run, client, bar):
            bar.finish(job.task.experiment_id)
            records[job.index] = record
    report = RunReport(
        [records[index] for index in sorted(records)],
        time.perf_counter() - begin,
        str(folder),
    )
    if on_error == "raise" and not report.ok:
        raise RunFailed(report.summary())
    return report


def _active_client() -> Client | None:
    try:
        return default_client()
    except ValueError:
        return None


def _n_workers(client: Client | None) -> int:
    if client is None:
        return os.cpu_count() or 1
    return max(1, int(sum(client.nthreads().values())))


def _plan(
    jobs: Sequence[Job],
    extractors: Mapping[str, BaseExtractor],
    client: Client | None,
    granularity: Granularity,
) -> None:
    """Fill in the batches of every job."""
    costs: dict[str, float] = {}
    if granularity == "auto":
        for job in jobs:
            untimed = {n: extractors[n] for n in job.missing if n not in costs}
            if untimed and any(e.source in job.layouts for e in untimed.values()):
                # In a worker: an extractor that brings a process down must not take the
                # notebook with it.
                call = (measure_costs, job.task.path, untimed)
                costs |= call[0](*call[1:]) if client is None else client.submit(*call).result()
            if costs.keys() >= set(job.missing):
                break
    planned = [
        [
            FeatureCost(name, extractors[name].source, costs.get(name, UNKNOWN_SECONDS_PER_SAMPLE))
            for name in job.missing
        ]
        for job in jobs
    ]
    run_seconds = sum(
        total_seconds(job.layouts, features) for job, features in zip(jobs, planned, strict=True)
    )
    for job, features in zip(jobs, planned, strict=True):
        job.batches = plan_batches(
            job.layouts,
            features,
            granularity=granularity,
            n_workers=_n_workers(client),
            run_seconds=run_seconds,
        )


def _on_threads(
    jobs: Sequence[Job],
    extractors: Mapping[str, BaseExtractor],
    features: FeatureSet,
    run: str,
    client: None,  # noqa: ARG001 - the signature of _on_cluster
    bar: RunProgress,
) -> Iterator[tuple[Job, ExperimentRecord]]:
    """Run experiment after experiment in the threads of this process."""
    for job in jobs:
        graph, sink = experiment_graph(job.index, job.task, job.batches, extractors, features, run)
        tasks.local_listeners[job.task.topic] = bar.event
        try:
            record = dask.threaded.get(graph, sink)
        except Exception as error:  # noqa: BLE001
            record = _failure(job, error)
        finally:
            del tasks.local_listeners[job.task.topic]
        yield job, record


def _on_cluster(
    jobs: Sequence[Job],
    extractors: Mapping[str, BaseExtractor],
    features: FeatureSet,
    run: str,
    client: Client,
    bar: RunProgress,
) -> Iterator[tuple[Job, ExperimentRecord]]:
    """Keep a window of experiments in the scheduler; as one is written, the next one enters.

    So neither the scheduler nor the workers hold more than the window, however many experiments
    there are, and only small records come back.
    """
    if not jobs:
        return
    topic = jobs[0].task.topic
    per_experiment = max(1, min(len(job.batches) for job in jobs))
    window = max(2, math.ceil(2 * _n_workers(client) / per_experiment))
    waiting = iter(jobs)
    running: dict[Future, Job] = {}
    completed = as_completed()

    def submit_next() -> None:
        job = next(waiting, None)
        if job is None:
            return
        graph, sink = experiment_graph(job.index, job.task, job.batches, extractors, features, run)
        client.log_event(
            topic,
            {
                "kind": "entered",
                "experiment_id": job.task.experiment_id,
                "n_steps": max(job.task.n_steps.values(), default=0),
                "n_logical": sum(batch.n_logical for batch in job.batches),
            },
        )
        future = client.compute(delayed_experiment(job.index, graph, sink))
        running[future] = job
        completed.add(future)

    client.subscribe_topic(topic, lambda event: bar.event(event[1]))
    try:
        for _ in range(window):
            submit_next()
        for future in completed:
            job = running.pop(future)
            error = future.exception()
            record = future.result() if error is None else _failure(job, error)
            future.release()
            submit_next()
            yield job, record
    finally:
        client.unsubscribe_topic(topic)
        client.cancel(list(running))


def _failure(job: Job, error: BaseException) -> ExperimentRecord:
    reason = f"{job.task.path}: {type(error).__name__}: {error}"
    return ExperimentRecord(job.task.experiment_id, job.task.path, "failed", reason)
