"""Find out what unknown features cost, on steps whose results are kept."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable

from distributed import Client, Future, KilledWorker, wait

from oectflow.pipeline.execution.assemble import Extracted
from oectflow.pipeline.execution.overheads import cluster_overheads, count_workers
from oectflow.pipeline.execution.planner import Planner
from oectflow.pipeline.execution.prepare import Job
from oectflow.pipeline.execution.tasks import FeatureSpec, read_and_extract

#: The first call of an extractor may import or compile something, so two are timed.
_LEAST = 2


def explore(jobs: Iterable[Job], planner: Planner, client: Client | None, enough: float) -> None:
    """Compute the first steps of the first experiment that has a feature of unknown cost.

    What is trusted is computed here: one step, two, four, until that has taken ``enough``; behind a
    first one that takes longer than a round trip the cluster goes on.  What nobody has seen before
    is computed on the cluster, where it may bring its process down.  There, an expensive step is
    waited for only once, since all workers get one meanwhile.

    Parameters
    ----------
    jobs
        The experiments of the run.
    planner
        Learns the costs.
    client
        The cluster; without one, everything is computed here.
    enough
        Time in s that may be spent here for a group of features.
    """
    for job in jobs:
        unknown = set(planner.unknown(job))
        if not unknown:
            continue
        for key, names in planner.groups(job).items():
            if unknown.isdisjoint(names):
                continue
            specs = [FeatureSpec(name, planner.extractors[name]) for name in names]
            done = 0
            if client is None or planner.safe:
                done = _here(job, planner, key, specs, client, enough)
            if client is not None and done < _LEAST:
                _on_cluster(job, planner, key, specs, client, done)


def _here(
    job: Job,
    planner: Planner,
    key: tuple[str, int],
    specs: list[FeatureSpec],
    client: Client | None,
    enough: float,
) -> int:
    """Compute a few parts, only one if the cluster had better go on, and return how many."""
    source, block = key
    n_steps = job.layouts[source].n_steps
    parts: list[Extracted] = []
    start, size = 0, block
    begin, seconds = time.perf_counter(), 0.0
    while start < n_steps and (len(parts) < _LEAST or seconds < enough):
        stop = min(start + size, n_steps)
        parts.append(read_and_extract(job.task, specs, source, start, stop))
        planner.probed(job, parts[-1])
        start = stop
        seconds = time.perf_counter() - begin
        if seconds < enough:
            size *= 2
        elif client is not None and seconds > cluster_overheads(client, 0.0).round_trip:
            break
    planner.keep(job, key, parts, start)
    return len(parts)


def _on_cluster(
    job: Job,
    planner: Planner,
    key: tuple[str, int],
    specs: list[FeatureSpec],
    client: Client,
    done: int,
) -> None:
    """Compute blocks behind those that are done: a few, and if they take long, one per worker."""
    source, block = key
    n_steps = job.layouts[source].n_steps
    name = f"{'+'.join(spec.name for spec in specs[:3])}-{uuid.uuid4().hex[:8]}"

    def submit(first: int, n: int) -> list[Future]:
        return [
            client.submit(
                read_and_extract, job.task, specs, source, start, min(start + block, n_steps),
                key=(name, job.index, start, 1), priority=1,
            )
            for start in range(first * block, min((first + n) * block, n_steps), block)
        ]  # fmt: skip

    trip = cluster_overheads(client, 0.0).round_trip
    futures = submit(done, _LEAST)
    if not futures:
        return
    try:
        wait(futures, timeout=2 * trip)
    except TimeoutError:
        futures += submit(done + _LEAST, count_workers(client))
    try:
        parts = client.gather(futures)
    except KilledWorker:
        # Which step and feature is to blame is found when they are computed in a graph.
        return
    for part in parts:
        planner.probed(job, part)
    planner.keep(job, key, parts, parts[-1].stop)
