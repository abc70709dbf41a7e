"""Plan a run, submit it, and report what happened."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from distributed import Client, default_client

from oectflow.pipeline.errors import ConfigError, RunFailed, StorageError
from oectflow.pipeline.execution.costs import CostBook
from oectflow.pipeline.execution.lock import only_run_in
from oectflow.pipeline.execution.plan import Granularity, check_granularity
from oectflow.pipeline.execution.planner import Planner
from oectflow.pipeline.execution.prepare import Job, prepare
from oectflow.pipeline.execution.progress import RunProgress
from oectflow.pipeline.execution.report import ExperimentRecord, RunReport
from oectflow.pipeline.execution.stream import n_workers, run_on_cluster, run_on_threads
from oectflow.pipeline.features.feature_set import FeatureSet
from oectflow.pipeline.inputs.find import Experiments, find_experiments
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
    fingerprints = features.fingerprints()
    book = CostBook(folder, {name: fingerprints[name] for name in extractors})
    planner = Planner(jobs, extractors, book, n_workers(client), granularity)
    planner.time_unknown(client)
    try:
        with RunProgress(
            {job.task.experiment_id: job.n_logical(extractors) for job in jobs},
            shown=progress and bool(jobs),
        ) as bar:
            if client is None:
                finished = run_on_threads(jobs, extractors, features, planner, bar.event)
            else:
                finished = run_on_cluster(jobs, extractors, features, planner, bar.event, client)
            for job, record in finished:
                bar.finish(job.task.experiment_id)
                records[job.index] = replace(record, finished=time.perf_counter() - begin)
                planner.learn(job, record)
    finally:
        # A run that stops early can leave writers behind which stop in the middle.
        remove_leftovers(Path(job.task.out_path) for job in jobs)
        book.save()
    return RunReport(
        [records[index] for index in sorted(records)],
        time.perf_counter() - begin,
        str(folder),
        tuple(planner.features.values()),
    )


def _active_client() -> Client | None:
    try:
        return default_client()
    except ValueError:
        return None
