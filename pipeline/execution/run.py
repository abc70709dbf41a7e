"""Plan a run, submit it, and report what happened."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from distributed import Client, default_client

from oectflow.extractors.base import BaseExtractor
from oectflow.pipeline.errors import ConfigError, RunFailed, StorageError
from oectflow.pipeline.execution.costs import UNKNOWN_SECONDS_PER_SAMPLE, measure_costs
from oectflow.pipeline.execution.lock import only_run_in
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
from oectflow.pipeline.execution.stream import n_workers, run_on_cluster, run_on_threads
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
    StorageError
        The output folder cannot be made or written; what was written is complete.
    OutputError
        Another run is writing in the folder.
    ClusterError
        The scheduler is gone; what was written is complete.
    RunFailed
        With ``on_error="raise"``, if anything failed.

    Examples
    --------
    >>> import oectflow as of
    >>> report = of.extract("raw/", "transient_tau", "features/")  # doctest: +SKIP
    >>> print(report)  # doctest: +SKIP
    """
    check_granularity(granularity)
    if on_error not in ("record", "raise"):
        raise ConfigError(f"on_error={on_error!r}: expected 'record' or 'raise'")
    feature_set = FeatureSet.load(features)
    folder = Path(out).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder}: cannot be made ({error.strerror})") from error
    with only_run_in(folder):
        report = _run(
            find_experiments(experiments),
            feature_set,
            folder,
            client or _active_client(),
            granularity=granularity,
            force=force,
            progress=progress,
            expand_multidim=expand_multidim,
        )
    if on_error == "raise" and not report.ok:
        raise RunFailed(report.summary())
    return report


def _run(
    paths: Sequence[Path],
    features: FeatureSet,
    folder: Path,
    client: Client | None,
    *,
    granularity: Granularity,
    force: bool,
    progress: bool,
    expand_multidim: bool,
) -> RunReport:
    begin = time.perf_counter()
    records: dict[int, ExperimentRecord] = {}
    jobs: list[Job] = []
    topic = f"oectflow-{uuid.uuid4().hex[:8]}"
    prepared = prepare(
        paths, features, folder, force=force, expand_multidim=expand_multidim, topic=topic
    )
    for index, item in enumerate(prepared):
        if isinstance(item, Job):
            jobs.append(item)
        else:
            records[index] = item
    remove_leftovers(Path(job.task.out_path) for job in jobs)
    extractors = {f.name: f.extractor for f in features.extracted if f.extractor}
    _plan(jobs, extractors, client, granularity)
    logical = {
        job.task.experiment_id: sum(batch.n_logical for batch in job.batches) for job in jobs
    }
    try:
        with RunProgress(logical, shown=progress and bool(jobs)) as bar:
            if client is None:
                finished = run_on_threads(jobs, extractors, features, bar.event)
            else:
                finished = run_on_cluster(jobs, extractors, features, bar.event, client)
            for job, record in finished:
                bar.finish(job.task.experiment_id)
                records[job.index] = record
    finally:
        # A run that stops early can leave writers behind which stop in the middle.
        remove_leftovers(Path(job.task.out_path) for job in jobs)
    return RunReport(
        [records[index] for index in sorted(records)],
        time.perf_counter() - begin,
        str(folder),
    )


def _active_client() -> Client | None:
    try:
        return default_client()
    except ValueError:
        return None


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
            n_workers=n_workers(client),
            run_seconds=run_seconds,
        )
