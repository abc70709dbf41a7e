"""The front door of the room: ``extract`` and ``plan``."""

from __future__ import annotations

import math
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, get_args
from weakref import WeakSet

from dask.delayed import Delayed
from distributed import Client, default_client
from distributed import performance_report as dask_performance_report

from oectflow.atomic_write import remove_leftovers
from oectflow.cluster.local import default_workers
from oectflow.errors import ConfigError, RunFailed, StorageError, did_you_mean
from oectflow.extractors.base import BaseExtractor
from oectflow.extractors.fingerprint import code_fingerprint, cost_fingerprint
from oectflow.extractors.pinning import is_built_in
from oectflow.local_path import local_path
from oectflow.pipeline.execution.driving.cluster import LazyCluster
from oectflow.pipeline.execution.driving.cost_file import load_costs, save_costs
from oectflow.pipeline.execution.driving.disks import check_disks
from oectflow.pipeline.execution.driving.file_book import FileBook, question
from oectflow.pipeline.execution.driving.find_work import find_work
from oectflow.pipeline.execution.driving.graph import GraphBuilder, delayed
from oectflow.pipeline.execution.driving.local import thread_overheads
from oectflow.pipeline.execution.driving.lock import only_run_in
from oectflow.pipeline.execution.driving.loop import Loop, answer
from oectflow.pipeline.execution.driving.progress import RunProgress
from oectflow.pipeline.execution.driving.run_file import machines_of, write_run_file
from oectflow.pipeline.execution.events import Overheads
from oectflow.pipeline.execution.planning.actions import Measure, Submit
from oectflow.pipeline.execution.planning.batches import Granularity, check_granularity
from oectflow.pipeline.execution.planning.costs import CostBook, Costs
from oectflow.pipeline.execution.planning.run_plan import RunPlan
from oectflow.pipeline.execution.planning.state import RunState, Workforce
from oectflow.pipeline.execution.planning.work import Job, StepTimeoutOption, Trait, n_logical
from oectflow.pipeline.execution.report import ExperimentRecord, RunReport, dropped_lines
from oectflow.pipeline.execution.worker.pickled_once import PickledOnce
from oectflow.pipeline.execution.worker.tasks import named_extractors
from oectflow.pipeline.execution.worker.warm import warm_up_here
from oectflow.pipeline.features.feature_list import FeatureList
from oectflow.pipeline.inputs.find import Experiments, find_experiments
from oectflow.pipeline.inputs.from_python import on_disk
from oectflow.pipeline.inputs.samples import read_samples
from oectflow.pipeline.outputs.places import check_partition
from oectflow.pipeline.outputs.states import Verify
from oectflow.pipeline.outputs.window_choice import windows_of_experiments
from oectflow.place import is_remote, place, snapshot


@dataclass(frozen=True)
class Options:
    """Options of a run, as :func:`extract` describes them."""

    granularity: Granularity = "auto"
    on_error: Literal["record", "raise"] = "record"
    force: bool = False
    expand_multidim: bool = False
    samples: Any = None
    verify: Verify = "identity"
    step_timeout: StepTimeoutOption = "auto"
    allow_external: bool = False
    partition_by: str | None = None

    def check(self) -> None:
        """Raise ConfigError if an option has an impossible value."""
        check_granularity(self.granularity)
        if self.on_error not in ("record", "raise"):
            raise ConfigError(f"on_error={self.on_error!r}: expected 'record' or 'raise'")
        seconds = self.step_timeout
        if seconds not in ("auto", None) and not (isinstance(seconds, int | float) and seconds > 0):
            raise ConfigError(f"step_timeout={seconds!r}: expected seconds, 'auto' or None")
        if self.verify not in get_args(Verify):
            hint = did_you_mean(str(self.verify), get_args(Verify))
            raise ConfigError(f"verify={self.verify!r}{hint}")


def extract(
    experiments: Any,
    features: Any = "all",
    out: str | os.PathLike[str] = "features",
    *,
    client: Client | None = None,
    granularity: Granularity = "auto",
    on_error: Literal["record", "raise"] = "record",
    force: bool = False,
    progress: bool = True,
    expand_multidim: bool = False,
    performance_report: str | os.PathLike[str] | None = None,
    samples: Any = None,
    verify: Verify = "identity",
    step_timeout: StepTimeoutOption = "auto",
    allow_external: bool = False,
    partition_by: str | None = None,
) -> RunReport:
    """Compute features of experiments and write one Parquet file for each.

    Results that an earlier run has computed from the same raw file with the same definition are
    kept.  A second call does nothing.  A call with one more feature computes only this feature.
    After an interruption, the next call continues where the run stopped.

    Parameters
    ----------
    experiments
        A folder (searched with its subfolders), a glob, a file, an Experiment, or several of them;
        or data in memory, as :func:`oectflow.write_experiment` takes them: an xarray DataTree, or a
        mapping such as ``{"transfer": frame, "test_id": "a1"}``.
    features
        Name of a bundled feature set, path of a YAML or JSON file, dict, or a :class:`FeatureSet`.
    out
        Folder of the results; made if missing.
    client
        A Dask client, as :func:`oectflow.connect` returns it.  By default, the client that is
        active in this process; if there is none, this process and its threads do the work.
    granularity
        ``"auto"``: measure the cost of steps and of the cluster, then decide whether to use the
        cluster and how long its tasks should be.  A small amount of work is done in this process.
        An extractor that is not part of the package runs in this process only if it has computed an
        experiment before without ending a worker.  ``"step"``: one Dask task for every (experiment,
        feature, step); this includes derived features if their steps can be computed separately.
        ``"experiment"``: one task for each source of an experiment.  A number: this many steps in a
        task.
    on_error
        ``"record"`` reports failures; ``"raise"`` raises RunFailed after everything else is done.
    verify
        How to recognise the raw file of an earlier run.  ``"identity"``: by its size and time; its
        content is compared only if the time is different.  ``"content"``: all raw files and results
        are read, and data that were changed without a trace are computed again.
    force
        Compute all requested features again.  Other features of earlier results stay, except those
        that were computed from the requested ones; the report names these.
    progress
        Show a progress bar.
    expand_multidim
        Write ``name_0``, ``name_1``, … instead of list columns.
    performance_report
        An HTML file to write.  In it, Dask shows what every worker did, and when.
    samples
        Geometry and materials of the devices: a table (``devices.csv``, ``.yaml``, ``.xlsx``), a
        DataFrame or a mapping, see :func:`oectflow.read_samples`.  Raw files are not changed.  If a
        raw file and the table disagree, the raw file counts, and you get a warning.
    step_timeout
        How long one feature of one step may take, in s.  A step that takes longer gets the status
        ``error``, and the others are computed.  The same happens to a step that starts hundreds of
        threads or exits.  ``"auto"``: ten minutes for extractors that are not part of the package,
        no limit for those that are.  None: no limit.
    allow_external
        Accept raw files that keep their data in other files, through external links, external
        storage or virtual datasets.  Such a file can point to any file that you can read.  The
        other files count as part of the raw file: if one of them changes, the raw file has changed.
    partition_by
        ``"chip_id"`` or ``"device_id"``: the results of each chip (or device) are put in a folder
        ``chip_id=…``.  pyarrow, pandas, Polars and DuckDB read all of them as one dataset.  A
        folder of results keeps this layout in later runs.

    Returns
    -------
    A report of the run; print it.  Its ``explain()`` says how the work was done, and why.

    Raises
    ------
    InputError
        There is no experiment at this place.
    ConfigError
        The features, the samples or an option are wrong.
    StorageError
        The output folder cannot be made or written; files that were written are complete.
    OutputError
        Another run is writing in the folder.
    ClusterError
        The scheduler is gone; files that were written are complete.
    RunFailed
        With ``on_error="raise"``, if anything failed.

    Examples
    --------
    >>> import oectflow as of
    >>> report = of.extract("raw/", "transient_tau", "features/", progress=False)
    >>> print(report)
    nothing to do: 2 experiments unchanged since the last run
    ...
    """
    if client is None:
        client = _active_client()
    if performance_report is not None and client is None:
        raise ConfigError(
            f"performance_report={os.fspath(performance_report)!r}: this is Dask's report on a "
            "cluster; give client=oectflow.connect()"
        )
    with _reported(client, performance_report):
        return _extract(
            experiments, features, out, LazyCluster(client), progress,
            Options(
                granularity, on_error, force, expand_multidim, samples, verify, step_timeout,
                allow_external, partition_by,
            ),
        )  # fmt: skip


def extract_here(experiments: Experiments, features: Any, out: Path) -> RunReport:
    """Do the work of :func:`extract` in this process, even if there is a cluster; show no bar."""
    return _extract(
        experiments, features, out, LazyCluster(None), False, Options()
    )  # fmt: skip


def extract_lazily(
    experiments: Any,
    features: Any,
    out: str | os.PathLike[str],
    *,
    connect: Callable[[], Client],
    n_workers: int | None = None,
    granularity: Granularity = "auto",
    force: bool = False,
    progress: bool = True,
    expand_multidim: bool = False,
    samples: Any = None,
    verify: Verify = "identity",
    allow_external: bool = False,
    partition_by: str | None = None,
) -> RunReport:
    """Do the work of :func:`extract`, and start a cluster only if there is enough work.

    Parameters
    ----------
    connect
        Starts the cluster; called at most once.  The caller closes the client that it returned.
    n_workers
        How many workers the cluster will have; by default as many as ``connect("local")`` starts.
    experiments, features, out, granularity, force, progress, expand_multidim, samples, verify, \
    allow_external, partition_by
        As in :func:`extract`.
    """
    cluster = LazyCluster(None, connect, default_workers() if n_workers is None else n_workers)
    return _extract(
        experiments, features, out, cluster, progress,
        Options(
            granularity, force=force, expand_multidim=expand_multidim, samples=samples,
            verify=verify, allow_external=allow_external, partition_by=partition_by,
        ),
    )  # fmt: skip


def plan(
    experiments: Any,
    features: Any = "all",
    out: str | os.PathLike[str] = "features",
    *,
    client: Client | None = None,
    n_workers: int | None = None,
    granularity: Granularity = "auto",
    force: bool = False,
    expand_multidim: bool = False,
    samples: Any = None,
    allow_external: bool = False,
) -> RunPlan:
    """Show what :func:`extract` would do, without computing or writing anything.

    Parameters
    ----------
    experiments, features, out, client, granularity, force, expand_multidim, samples, \
    allow_external
        As in :func:`extract`.
    n_workers
        Without a client: how many workers a cluster could have; by default, there is no cluster.

    Returns
    -------
    The plan; print it.  Its costs were measured by earlier runs in the same folder.  If there were
    none, ``extract`` begins by timing the first steps, and the plan cannot predict a time.

    Raises
    ------
    InputError
        There is no experiment at this place.
    ConfigError
        The features, the samples or an option are wrong.

    Examples
    --------
    >>> import oectflow as of
    >>> of.plan("raw/", "transient_tau", "features/")
    0 experiments to compute, 2 unchanged, 0 cannot be used
    """
    check_granularity(granularity)
    with on_disk(experiments, None) as files:
        run = _prepared(
            files, FeatureList.load(features), place(out, StorageError),
            Options(
                granularity, force=force, expand_multidim=expand_multidim, samples=samples,
                allow_external=allow_external,
            ),
        )  # fmt: skip
    client = client or _active_client()
    cluster = LazyCluster(client, None if n_workers is None else _no_cluster, n_workers or 1)
    state = run.state(cluster)

    def measure(question: Measure) -> Overheads | None:
        return answer(question, cluster.meter)

    forecast = state.forecast(measure)
    forecast.features = list(state.ledger.features.values())
    forecast.graph_of = partial(_graph_of, run, state)
    return forecast


def _graph_of(run: _Run, state: RunState, experiment: str) -> Delayed:
    """Return the graph that a cluster would get of an experiment, with what is known now."""
    jobs = {job.task.experiment_id: job for job in run.jobs}
    if experiment not in jobs:
        raise ConfigError(
            f"dask_graph({experiment!r}){did_you_mean(experiment, jobs)}; nothing is to be "
            "computed of any other"
        )
    job = jobs[experiment]
    seconds = run.plan.batch_seconds or math.inf
    batches = tuple(state.ledger.batches(job, seconds, run.granularity))
    builder = GraphBuilder(
        named_extractors(run.extractors), PickledOnce(run.features),
        by_step=run.granularity == "step",
    )  # fmt: skip
    small = state.ledger.is_one_task(job, seconds, run.granularity)
    graph, sink = builder.experiment(job.task, Submit(job.index, batches, as_one=small))
    return delayed(graph, [sink], batches, job.index)[0]


def _no_cluster() -> Client:
    raise AssertionError("a plan starts no cluster")


#: What has computed an experiment in the life of this process, whatever the folder.
_harmless: WeakSet[type[BaseExtractor]] = WeakSet()


@dataclass
class _Run:
    """What is to be done in a folder.

    ``codes`` are fingerprints of the code of the extractors as the run began, None where it cannot
    be pinned.
    """

    features: FeatureList
    granularity: Granularity
    codes: Mapping[type[BaseExtractor], str | None]
    costs: CostBook
    plan: RunPlan
    files: FileBook | None
    jobs: list[Job] = field(default_factory=list)
    records: dict[int, ExperimentRecord] = field(default_factory=dict)

    @cached_property
    def extractors(self) -> dict[str, BaseExtractor]:
        """What computes the extracted features."""
        return {f.name: f.extractor for f in self.features.extracted if f.extractor}

    def state(self, cluster: LazyCluster) -> RunState:
        """Return the state in which the run begins."""
        traits = {name: self._trait(name, one) for name, one in self.extractors.items()}
        workforce = Workforce(thread_overheads(), cluster.client is not None, cluster.start)
        costs = Costs(self.costs)
        return RunState(self.jobs, traits, costs, workforce, self.granularity, self.plan)

    def _trait(self, name: str, extractor: BaseExtractor) -> Trait:
        code = type(extractor)
        # What comes with the package, and what has computed something before, may run in the
        # process of the notebook; what nobody has seen might take it along.
        seen = is_built_in(code) or code in _harmless
        pinned = self.codes[code]
        # Nothing that an earlier run has seen speaks for code that cannot be pinned, or against it.
        known = pinned is not None and (
            self.costs.get(name) is not None or self.costs.is_trusted(pinned)
        )
        crashed = (seen or pinned is not None) and self.costs.is_crashed(name)
        return Trait(
            extractor.source,
            extractor.steps_per_block(extractor.params),
            trusted=(seen or known) and not crashed,
            crashed=crashed,
        )

    def trust(self, features: Iterable[str]) -> None:
        """Remember that the extractors of some features have computed an experiment."""
        for code in {type(self.extractors[name]) for name in features}:
            if not is_built_in(code) and code not in _harmless:
                pinned = self.codes[code]
                self.costs.trust([pinned] if pinned else [])
                _harmless.add(code)


def _prepared(
    experiments: Experiments,
    features: FeatureList,
    folder: Path,
    options: Options,
) -> _Run:
    """Look at the experiments and at what is there of their results."""
    jobs: list[Job] = []
    records: dict[int, ExperimentRecord] = {}
    topic = f"oectflow-{uuid.uuid4().hex[:8]}"
    table = None if options.samples is None else read_samples(options.samples)
    paths = find_experiments(experiments)
    try:
        folder = snapshot(folder)
    except OSError as error:
        raise StorageError(f"{folder}: cannot be listed ({error.strerror or error})") from error
    features = features.pinned()
    windows = windows_of_experiments(folder)
    # The state of a raw file says nothing about other files in which its data may lie.
    files = None
    if not options.allow_external:
        asked = question(features, table, expand_multidim=options.expand_multidim)
        files = FileBook(folder, asked, windows)
    prepared = find_work(
        paths, features, folder, force=options.force, expand_multidim=options.expand_multidim,
        topic=topic, samples=table, verify=options.verify, step_timeout=options.step_timeout,
        allow_external=options.allow_external, partition_by=options.partition_by, book=files,
        windows=windows,
    )  # fmt: skip
    for index, item in enumerate(prepared):
        if isinstance(item, Job):
            jobs.append(item)
        else:
            records[index] = item
            if files and item.outcome == "unchanged":
                files.note(item, features)
    extractors = {f.name: f.extractor for f in features.extracted if f.extractor}
    codes = {one: code_fingerprint(one) for one in set(map(type, extractors.values()))}
    keys = {name: cost_fingerprint(one, codes[type(one)]) for name, one in extractors.items()}
    # How well threads do depends on all that they compute.
    keys["threads"] = "threads " + " ".join(sorted(keys.values()))
    unusable = [record.reason for record in records.values() if record.outcome == "failed"]
    plan = RunPlan(len(jobs), len(records) - len(unusable), unusable)
    plan.dropped = dropped_lines(job.task.dropped for job in jobs)
    plan.damaged = [job.damage for job in jobs if job.damage]
    costs = load_costs(folder, keys)
    return _Run(features, options.granularity, codes, costs, plan, files, jobs, records)


def _extract(
    experiments: Any,
    features: Any,
    out: str | os.PathLike[str],
    cluster: LazyCluster,
    progress: bool,
    options: Options,
) -> RunReport:
    options.check()
    feature_set = FeatureList.load(features)
    folder = place(out, StorageError)
    try:
        check_partition(folder, options.partition_by)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder}: cannot be made ({error.strerror or error})") from error
    beside = None if is_remote(folder) else folder
    with only_run_in(folder), on_disk(experiments, beside) as files:
        began, begin = datetime.now(UTC), time.perf_counter()
        run = _prepared(files, feature_set, folder, options)
        looking = time.perf_counter() - begin
        _carry_out(run, cluster, folder, progress=progress)
        run.plan.actual_seconds = time.perf_counter() - begin
        n_threads = thread_overheads().n_workers if "threads" in run.plan.ways else 1
        # Of a run that had nothing to compute, nobody is asked about workers.
        machines = machines_of(cluster.client if run.jobs else None, n_threads)
        cluster.held.see(machines["cores"])
        alone = machines["cluster"] is None
        report = RunReport(
            [run.records[index] for index in sorted(run.records)],
            run.plan.actual_seconds,
            str(folder),
            run.plan,
            core_seconds=(
                (run.plan.actual_seconds - looking) * n_threads if alone else cluster.held.total
            ),
            n_bytes_raw=sum(job.task.identity.size for job in run.jobs),
        )
        why = {job.task.experiment_id: job.why for job in run.jobs}
        write_run_file(folder, report, began, looking, machines, why)
    if options.on_error == "raise" and not report.ok:
        raise RunFailed(report.summary())
    return report


def _carry_out(run: _Run, cluster: LazyCluster, folder: Path, *, progress: bool) -> None:
    """Compute what is missing, and put the records into the run."""
    if not run.jobs:
        if run.files:
            run.files.save()
        return
    # Otherwise it would be part of what the first steps are seen to cost.
    warm_up_here(one.name for one in run.extractors.values() if is_built_in(type(one)))
    if cluster.client is not None:
        cluster.look()
        sizes = ((job.task.path, job.task.identity.size) for job in run.jobs)
        check_disks(cluster.client, folder, sizes)
    begin = time.perf_counter()
    out_paths = [place(job.task.out_path) for job in run.jobs]
    remove_leftovers(out_paths)
    state = run.state(cluster)
    totals = {job.task.experiment_id: n_logical(job, state.ledger.traits) for job in run.jobs}
    try:
        n_steps = sum(job.task.n_rows for job in run.jobs)
        with RunProgress(totals, n_steps, shown=progress) as bar:
            specs, features = named_extractors(run.extractors), PickledOnce(run.features)
            by_step = run.granularity == "step"
            loop = Loop(state, specs, features, cluster, bar.event, by_step=by_step)
            for index, record in loop.run():
                bar.finish(record.experiment_id)
                run.records[index] = replace(record, finished=time.perf_counter() - begin)
                run.trust(record.seconds)
                if run.files:
                    run.files.note(record, run.features)
    finally:
        # A run that stops early can leave writers behind which stop in the middle.
        remove_leftovers(out_paths)
        run.plan.features = list(state.ledger.features.values())
        save_costs(run.costs, folder)
        if run.files:
            run.files.save()


@contextmanager
def _reported(client: Client | None, path: str | os.PathLike[str] | None) -> Iterator[None]:
    """Write Dask's report on what happens meanwhile, if it is wanted: whole or not at all."""
    if path is None or client is None:
        yield
        return
    target = local_path(path, StorageError)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        # A folder that is not there should be known before the work, not after it.
        temporary.touch()
    except OSError as error:
        raise StorageError(f"{target}: cannot be written ({error.strerror or error})") from error
    try:
        with client.as_current(), dask_performance_report(filename=str(temporary)):
            yield
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _active_client() -> Client | None:
    try:
        return default_client()
    except ValueError:
        return None
