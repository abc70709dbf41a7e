"""Find out what unknown features cost, on steps whose results are kept."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from distributed import Client, Future, KilledWorker, wait

from oectflow.pipeline.execution.assemble import Extracted
from oectflow.pipeline.execution.overheads import cluster_overheads, count_workers
from oectflow.pipeline.execution.planner import Planner
from oectflow.pipeline.execution.prepare import Job
from oectflow.pipeline.execution.tasks import ExperimentTask, FeatureSpec, read_and_extract

#: The first call of an extractor may import or compile something, so two are timed.
_LEAST = 2
#: Meanwhile the other workers wait, for this share at most of what they need for everything.
_SHARE = 0.01


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
    There, an expensive step is waited for only once, since all workers get one meanwhile.

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
    for job in jobs:
        unknown = set(planner.unknown(job))
        if not unknown:
            continue
        for key, names in planner.groups(job).items():
            if unknown.isdisjoint(names):
                continue
            specs = [FeatureSpec(name, planner.extractors[name]) for name in names]
            source, block = key
            layout = job.layouts[source]
            step_bytes = layout.nbytes_per_sample * float(layout.lengths.mean())
            total = sum(one.layouts[source].n_steps for one in jobs if source in one.layouts)
            probe = Probe(
                start=0,
                n_steps=layout.n_steps,
                block=block,
                most=max(block, int(planner.batch_bytes / max(step_bytes, 1.0))),
                enough=enough,
                steps_per_worker=total / n_workers,
            )
            parts: list[Extracted] = []
            if client is None:
                parts = first_parts(job.task, specs, source, probe)
            elif planner.safe:
                parts = first_parts(job.task, specs, source, replace(probe, at_least=1))
            if client is not None and len(parts) < _LEAST:
                parts += _on_cluster(job, specs, source, probe, client, parts)
            if parts:
                planner.probed(job, parts)
                planner.keep(job, key, parts, parts[-1].stop)


def first_parts(
    task: ExperimentTask, specs: Sequence[FeatureSpec], source: str, probe: Probe
) -> list[Extracted]:
    """Compute parts of one block, two, four, …, until what a step costs is known well enough."""
    parts: list[Extracted] = []
    start, size = probe.start, probe.block
    begin = time.perf_counter()
    while start < probe.n_steps:
        stop = min(start + size, probe.n_steps)
        now = time.perf_counter()
        parts.append(read_and_extract(task, specs, source, start, stop))
        per_step = (time.perf_counter() - now) / (stop - start)
        start = stop
        enough = max(probe.enough, _SHARE * per_step * probe.steps_per_worker)
        if len(parts) >= probe.at_least and time.perf_counter() - begin > enough:
            break
        size = min(2 * size, max(probe.block, probe.most // probe.block * probe.block))
    return parts


def _on_cluster(
    job: Job,
    specs: list[FeatureSpec],
    source: str,
    probe: Probe,
    client: Client,
    done: Sequence[Extracted],
) -> list[Extracted]:
    """Compute blocks behind those that are done: a few, and if they take long, one per worker."""
    name = f"{'+'.join(spec.name for spec in specs[:3])}-{uuid.uuid4().hex[:8]}"
    behind = done[-1].stop if done else 0

    def submit(first: int, n: int) -> list[Future]:
        begin = behind + first * probe.block
        return [
            client.submit(
                read_and_extract, job.task, specs, source, start,
                min(start + probe.block, probe.n_steps),
                key=(name, job.index, start, 1), priority=1,
            )
            for start in range(begin, min(begin + n * probe.block, probe.n_steps), probe.block)
        ]  # fmt: skip

    trip = cluster_overheads(client, 0.0).round_trip
    futures = submit(0, _LEAST)
    if not futures:
        return []
    cheap = True
    try:
        wait(futures, timeout=2 * trip)
    except TimeoutError:
        cheap = False
        futures += submit(_LEAST, count_workers(client))
    try:
        parts: list[Extracted] = client.gather(futures)
        if cheap and not done and parts[-1].stop < probe.n_steps:
            more = replace(probe, start=parts[-1].stop, at_least=1)
            key = (name, job.index, more.start, 1)
            parts += client.submit(
                first_parts, job.task, specs, source, more, key=key, priority=1
            ).result()
    except KilledWorker:
        # Which step and feature is to blame is found when they are computed in a graph.
        return []
    return parts
