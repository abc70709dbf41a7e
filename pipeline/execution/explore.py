"""Find out what unknown features cost, on steps whose results are kept."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_here
from dataclasses import dataclass, replace
from itertools import chain, islice

from distributed import Client, Future, KilledWorker, wait

from oectflow.pipeline.execution.assemble import Extracted
from oectflow.pipeline.execution.overheads import cluster_overheads
from oectflow.pipeline.execution.planner import Planner
from oectflow.pipeline.execution.prepare import Job
from oectflow.pipeline.execution.tasks import ExperimentTask, FeatureSpec, read_and_extract

#: The first call of an extractor may import or compile something, so two are timed.
_LEAST = 2
#: Meanwhile the other workers wait, for this share at most of what they need for everything.
_SHARE = 0.01
#: Results that are known travel with the graph of their experiment; more of them than this would
#: delay it.
_MOST_BYTES = 2**20


@dataclass(frozen=True)
class Probe:
    """How much of a group of features to compute in order to time it.

    Attributes
    ----------
    start, n_steps, block
        Parts are in ``start:n_steps`` and begin at multiples of ``block``.
    most
        Steps in the largest part.
    enough
        Time in s that may be spent in any case.
    steps_per_worker
        What there is to compute, in steps, for each worker.
    at_least
        Parts to compute however long they take.
    """

    start: int
    n_steps: int
    block: int
    most: int
    enough: float
    steps_per_worker: float
    at_least: int = _LEAST


def explore(
    jobs: Iterable[Job], planner: Planner, client: Client | None, enough: float, n_workers: int
) -> None:
    """Compute the first steps of the first experiment that has a feature of unknown cost.

    What is trusted is computed here: one step, two, four, until that has taken ``enough``, or one
    percent of what all of them will take; behind a first one that takes longer the cluster goes on.
    What nobody has seen before is computed on the cluster, where it may bring its process down.
    Where a step is expensive, all workers compute single features of others meanwhile.  Experiments
    of which something is still running then have it in ``pending``, for :func:`collect`.

    Parameters
    ----------
    jobs
        The experiments of the run.
    planner
        Learns the costs.
    client
        The cluster; without one, everything is computed here.
    enough
        Time in s that may be spent here in any case for a group of features: what a task takes to
        be handed out and come back.
    n_workers
        How many may work together.
    """
    jobs = list(jobs)
    for at, job in enumerate(jobs):
        unknown = set(planner.unknown(job))
        if not unknown:
            continue
        for key, names in planner.groups(job).items():
            if unknown.isdisjoint(names):
                continue
            specs = [FeatureSpec(name, planner.extractors[name]) for name in names]
            source, block = key
            layout = job.layouts[source]
            step_bytes = max(layout.nbytes_per_sample * float(layout.lengths.mean()), 1.0)
            total = sum(one.layouts[source].n_steps for one in jobs if source in one.layouts)
            probe = Probe(
                start=0,
                n_steps=layout.n_steps,
                block=block,
                most=max(block, int(planner.batch_bytes / step_bytes)),
                enough=enough,
                steps_per_worker=total / n_workers,
            )
            if client is None:
                found = {job.index: first_parts(job.task, specs, source, probe)}
            else:
                behind = [one for one in jobs[at:] if planner.groups(one).get(key) == names]
                found = _with_cluster(behind, key, specs, probe, client, n_workers, planner.safe)
            for one in jobs:
                if parts := found.get(one.index):
                    planner.probed(one, parts)
                    planner.keep(one, key, parts, parts[-1].stop)


def collect(job: Job, planner: Planner, client: Client) -> None:
    """Take what :func:`explore` has left running of an experiment into its results."""
    pending, job.pending = job.pending, []
    for key, futures in pending:
        try:
            parts = _taken(client, futures)
        except KilledWorker:
            # Which step and feature is to blame is found when they are computed in a graph.
            continue
        planner.keep(job, key, parts, parts[-1].stop)


def first_parts(
    task: ExperimentTask, specs: Sequence[FeatureSpec], source: str, probe: Probe
) -> list[Extracted]:
    """Compute parts of one block, two, four, …, until what a step costs is known well enough."""
    parts: list[Extracted] = []
    start, size, n_bytes = probe.start, probe.block, 0
    begin = time.perf_counter()
    while start < probe.n_steps:
        stop = min(start + size, probe.n_steps)
        now = time.perf_counter()
        parts.append(read_and_extract(task, specs, source, start, stop))
        per_step = (time.perf_counter() - now) / (stop - start)
        start = stop
        enough = max(probe.enough, _SHARE * per_step * probe.steps_per_worker)
        n_bytes += sum(column.nbytes for column in parts[-1].columns.values())
        full = time.perf_counter() - begin > enough or n_bytes > _MOST_BYTES
        if len(parts) >= probe.at_least and full:
            break
        size = min(2 * size, max(probe.block, probe.most // probe.block * probe.block))
    return parts


def _with_cluster(
    jobs: Sequence[Job],
    key: tuple[str, int],
    specs: Sequence[FeatureSpec],
    probe: Probe,
    client: Client,
    n_workers: int,
    here: bool,
) -> dict[int, list[Extracted]]:
    """Compute the first blocks of the first job, here or there; while they take long, more there.

    Returns
    -------
    By index of the job, its first parts in order, features together or one by one.
    """
    source, block = key
    first, *others = jobs
    suffix = uuid.uuid4().hex[:8]
    trip = cluster_overheads(client, 0.0).round_trip
    submitted: dict[int, list[Future]] = {}

    def submit(job: Job, start: int, some: Sequence[FeatureSpec], priority: int) -> Future:
        name = "+".join(spec.name for spec in some[:3])
        stop = min(start + block, job.layouts[source].n_steps)
        future = client.submit(
            read_and_extract, job.task, some, source, start, stop,
            key=(f"{name}-{suffix}", job.index, start, 1), priority=priority,
        )  # fmt: skip
        submitted.setdefault(job.index, []).append(future)
        return future

    def meanwhile(done: Callable[[float], bool], blocks: Iterator[tuple[Job, int]]) -> None:
        """Keep all workers busy with single features: they are done when the others are."""
        running: list[Future] = []
        if here and not submitted and not done(2 * trip):
            # Now nothing runs there that would disturb the measurement.
            cluster_overheads(client, 2 * trip * probe.steps_per_worker * n_workers)
        while not done(2 * trip):
            running = [future for future in running if not future.done()]
            while len(running) < n_workers and (at := next(blocks, None)):
                running += [submit(*at, [spec], 0) for spec in specs]

    rest = ((job, start) for job in others for start in _starts(job, key, 0))
    parts: list[Extracted] = []
    if here:
        # In a thread, for nobody knows how long a step takes.
        with ThreadPoolExecutor(1) as pool:
            mine = pool.submit(first_parts, first.task, specs, source, replace(probe, at_least=1))
            meanwhile(lambda seconds: not wait_here([mine], seconds).not_done, rest)
        parts = mine.result()
    cheap = len(parts) >= _LEAST
    if not cheap and not submitted:
        starts = _starts(first, key, parts[-1].stop if parts else 0)
        leading = [submit(first, start, specs, 1) for start in islice(starts, _LEAST)]
        begin = time.perf_counter()
        meanwhile(
            lambda seconds: not leading or _are_done(leading, seconds),
            chain(((first, start) for start in starts), rest),
        )
        cheap = time.perf_counter() - begin < 2 * trip
    found = {first.index: parts}
    try:
        for job in jobs:
            futures = submitted.get(job.index, [])
            if job is first or all(future.done() for future in futures):
                found[job.index] = [*found.get(job.index, []), *_taken(client, futures)]
            else:
                # Nobody should have to wait for the longest of them.
                job.pending.append((key, futures))
        last = found[first.index][-1].stop
        if cheap and not here and last < probe.n_steps:
            more = replace(probe, start=last, at_least=1)
            future = client.submit(
                first_parts, first.task, specs, source, more,
                key=(f"{specs[0].name}-{suffix}", first.index, last, 1), priority=1,
            )  # fmt: skip
            found[first.index] += future.result()
    except KilledWorker:
        # Which step and feature is to blame is found when they are computed in a graph.
        return {first.index: parts}
    return found


def _taken(client: Client, futures: Sequence[Future]) -> list[Extracted]:
    parts: list[Extracted] = client.gather(futures)
    for future in futures:
        # An exception of Dask's that was caught can hold them for a while.
        future.release()
    return parts


def _starts(job: Job, key: tuple[str, int], behind: int) -> Iterator[int]:
    source, block = key
    return iter(range(behind, job.layouts[source].n_steps, block))


def _are_done(futures: Sequence[Future], seconds: float) -> bool:
    """Wait until all of some futures are done, at most so long, and tell whether they are."""
    try:
        wait(futures, timeout=seconds)
    except TimeoutError:
        return False
    return True
