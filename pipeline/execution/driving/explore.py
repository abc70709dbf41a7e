"""Find out what unknown features cost, on steps whose results are kept."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future as LocalFuture
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_here
from dataclasses import dataclass, field, replace
from itertools import groupby

from distributed import Client, Future, KilledWorker, wait
from distributed.comm import get_address_host
from distributed.utils import get_ip

from oectflow.pipeline.execution.driving.find_work import Job
from oectflow.pipeline.execution.driving.overheads import cluster_overheads
from oectflow.pipeline.execution.driving.planner import Planner
from oectflow.pipeline.execution.driving.scheduler import workers_missed
from oectflow.pipeline.execution.planning.batches import StepBatch
from oectflow.pipeline.execution.worker.build_table import Extracted
from oectflow.pipeline.execution.worker.tasks import ExperimentTask, FeatureSpec, read_and_extract

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
    """

    start: int
    n_steps: int
    block: int
    most: int
    enough: float
    steps_per_worker: float


@dataclass
class _Group:
    """Features that may share batches, and of which some have an unknown cost.

    Attributes
    ----------
    jobs
        The experiments that have all of them.
    source, specs
        What they need, and the features.
    probe
        How much of the first experiment to compute.
    first
        What computes its first block, if anything does.
    """

    jobs: Sequence[Job]
    source: str
    specs: Sequence[FeatureSpec]
    probe: Probe
    first: LocalFuture[Extracted] | Future | None = None

    def batch(self, job: Job, start: int, specs: Sequence[FeatureSpec]) -> StepBatch:
        """Return one block of some of the features."""
        stop = min(start + self.probe.block, job.layouts[self.source].n_steps)
        return StepBatch(self.source, start, stop, tuple(spec.name for spec in specs))

    def other_blocks(self) -> Iterator[tuple[Job, int]]:
        """Yield an experiment and a step for every block that nothing computes yet."""
        for job in self.jobs:
            begun = self.first is not None and job is self.jobs[0]
            n_steps = job.layouts[self.source].n_steps
            for start in range(self.probe.block if begun else 0, n_steps, self.probe.block):
                yield job, start


@dataclass(eq=False)
class _Scout:
    """One feature that the cluster computes alone, block by block."""

    group: _Group
    spec: FeatureSpec
    blocks: Iterator[tuple[Job, int]]
    begun: float | None = None
    sent: list[tuple[Job, StepBatch, Future]] = field(default_factory=list)

    @property
    def is_timed(self) -> bool:
        """Whether a block of it is done, alone or with the other features of its group."""
        first = self.group.first
        return (first is not None and first.done()) or any(one.done() for *_, one in self.sent)

    @property
    def n_running(self) -> int:
        """Blocks that are not done."""
        return sum(not future.done() for *_, future in self.sent)


def explore(
    jobs: Iterable[Job], planner: Planner, client: Client | None, trip: float, n_workers: int
) -> None:
    """Compute the first steps of the first experiment that has a feature of unknown cost.

    What is trusted is computed here, what nobody has seen before on the cluster, where it may bring
    its process down: one step, two, four, until that has taken as long as a round trip, or one
    percent of what all of them will take.  Where the first one takes longer than two round trips,
    the cluster computes single features of other steps, at first each of them and then more of
    those that are not done, until all are, or are known to take longer than a batch has to.  What
    is not done then is ``pending``, and its cost a lower bound.

    Parameters
    ----------
    jobs
        The experiments of the run.
    planner
        Learns the costs.
    client
        The cluster; without one, everything is computed here.
    trip
        What a task takes to be handed out and come back, in s.
    n_workers
        How many may work together.
    """
    groups = _groups(list(jobs), planner, trip, n_workers)
    if client is None:
        for group in groups:
            task = group.jobs[0].task
            _learn(group, planner, first_parts(task, group.specs, group.source, group.probe))
        return
    slow: list[_Group] = []
    # Not joined: nobody knows how long a step takes.
    pool = ThreadPoolExecutor(1)
    with workers_missed(client):
        for group in groups:
            if not _timed_at_once(group, planner, client, pool, here_is_free=not slow):
                slow.append(group)
        pool.shutdown(wait=False)
        if slow:
            _scout(slow, planner, client, trip, n_workers)


def is_computed_here(job: Job) -> bool:
    """Return whether this process is computing something of an experiment."""
    return any(isinstance(future, LocalFuture) for _, future in job.pending)


def collect(job: Job, planner: Planner, *, everything: bool = False) -> None:
    """Take what :func:`explore` has left running of an experiment into its results.

    Parameters
    ----------
    job, planner
        Which, and who knows what is left.
    everything
        Also what the cluster computes, which a graph there can refer to.
    """
    waiting = [one for one in job.pending if everything or isinstance(one[1], LocalFuture)]
    try:
        parts = [(batch, future.result()) for batch, future in waiting]
    except KilledWorker:
        # Which step and feature is to blame is found when they are computed again.
        planner.forget(job)
        return
    job.pending = [one for one in job.pending if one not in waiting]
    for batch, part in parts:
        planner.keep(job, [part], batch.features)


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
        if len(parts) + (probe.start > 0) >= _LEAST and full:
            break
        size = min(2 * size, max(probe.block, probe.most // probe.block * probe.block))
    return parts


def _groups(jobs: Sequence[Job], planner: Planner, trip: float, n_workers: int) -> Iterator[_Group]:
    """Yield what has to be timed, of the first experiment in which it occurs."""
    asked: set[str] = set()
    for at, job in enumerate(jobs):
        unknown = set(planner.unknown(job)) - asked
        if not unknown:
            continue
        for (source, block), names in planner.groups(job).items():
            if unknown.isdisjoint(names):
                continue
            asked.update(names)
            layout = job.layouts[source]
            step_bytes = max(layout.nbytes_per_sample * float(layout.lengths.mean()), 1.0)
            total = sum(one.layouts[source].n_steps for one in jobs if source in one.layouts)
            yield _Group(
                [one for one in jobs[at:] if planner.groups(one).get((source, block)) == names],
                source,
                [planner.specs[name] for name in names],
                Probe(
                    start=0,
                    n_steps=layout.n_steps,
                    block=block,
                    most=max(block, int(planner.batch_bytes / step_bytes)),
                    enough=trip,
                    steps_per_worker=total / n_workers,
                ),
            )


def _timed_at_once(
    group: _Group, planner: Planner, client: Client, pool: ThreadPoolExecutor, here_is_free: bool
) -> bool:
    """Compute the first block; if it is there soon, go on from there until the cost is known."""
    job, probe = group.jobs[0], group.probe
    batch = group.batch(job, 0, group.specs)
    if planner.safe:
        if not here_is_free:
            return False
        group.first = pool.submit(
            read_and_extract, job.task, group.specs, batch.source, batch.start, batch.stop
        )
        wait_here([group.first], 2 * probe.enough)
    else:
        group.first = client.submit(
            read_and_extract, job.task, group.specs, batch.source, batch.start, batch.stop,
            key=_key(batch, job), priority=1,
        )  # fmt: skip
        try:
            wait(group.first, 2 * probe.enough)
        except TimeoutError:
            return False
    if not group.first.done():
        return False
    more = (job.task, group.specs, group.source, replace(probe, start=batch.stop))
    try:
        parts = [group.first.result()]
        if planner.safe:
            parts += first_parts(*more)
        elif batch.stop < probe.n_steps:
            key = _key(group.batch(job, batch.stop, group.specs), job)
            parts += client.submit(first_parts, *more, key=key, priority=1).result()
    except KilledWorker:
        # Which step and feature is to blame is found when they are computed in a graph.
        return True
    _learn(group, planner, parts)
    return True


def _scout(
    groups: Sequence[_Group], planner: Planner, client: Client, trip: float, n_workers: int
) -> None:
    """Let the cluster compute single features until it is known which of them take long."""
    # What is computed here takes a core from workers on this machine.
    n_free = n_workers - sum(
        isinstance(group.first, Future) or (group.first is not None and _are_here(client))
        for group in groups
    )
    # Now, or never: soon nobody will be free to measure it with.
    n_steps = n_workers * max(group.probe.steps_per_worker for group in groups)
    long = cluster_overheads(client, 2 * trip * n_steps).enough
    scouts = [_Scout(group, spec, group.other_blocks()) for group in groups for spec in group.specs]
    while waiting := [scout for scout in scouts if not scout.is_timed]:
        fresh = [scout for scout in waiting if scout.begun is None]
        _send(fresh or waiting, n_free - sum(scout.n_running for scout in scouts), client)
        now = time.perf_counter()
        if all(scout.begun is not None and now - scout.begun > long for scout in waiting):
            break
        time.sleep(trip)
    _take_over(groups, scouts, planner, client)


def _are_here(client: Client) -> bool:
    """Return whether workers run on the machine of this process."""
    hosts = {get_address_host(address) for address in client.nthreads()}
    return not hosts.isdisjoint(("127.0.0.1", "::1", get_ip()))


def _take_over(
    groups: Sequence[_Group], scouts: Sequence[_Scout], planner: Planner, client: Client
) -> None:
    """Learn from what is done, and leave the rest running."""
    for scout in scouts:
        done = [(job, future) for job, _, future in scout.sent if future.status == "finished"]
        for job, some in groupby(done[:_LEAST], key=lambda one: one[0]):
            layout = job.layouts[scout.group.source]
            planner.timings.probed(layout, client.gather([future for _, future in some]))
        if scout.begun is not None and not scout.is_timed:
            job, batch, _ = scout.sent[0]
            samples = job.layouts[batch.source].samples(batch.start, batch.stop)
            planner.timings.at_least(scout.spec.name, scout.begun, samples)
    for group in groups:
        first = group.first
        if first is None:
            continue
        if first.done() and not (isinstance(first, Future) and first.status != "finished"):
            _learn(group, planner, [first.result()])
        else:
            job = group.jobs[0]
            planner.begun(job, group.batch(job, 0, group.specs), first)
    for scout in scouts:
        for job, batch, future in scout.sent:
            planner.begun(job, batch, future)


def _send(scouts: Sequence[_Scout], n: int, client: Client) -> None:
    """Hand out at most ``n`` blocks, one of every feature in turn."""
    left = list(scouts)
    places: list[tuple[_Scout, Job, StepBatch]] = []
    while left and len(places) < n:
        for scout in left[: n - len(places)]:
            place = next(scout.blocks, None)
            if place is None:
                left.remove(scout)
            else:
                places.append((scout, place[0], scout.group.batch(*place, [scout.spec])))
    if not places:
        return
    # One message for all of them: the scheduler is quicker than with one for each.
    futures = client.map(
        read_and_extract,
        [job.task for _, job, _ in places],
        [[scout.spec] for scout, *_ in places],
        [batch.source for *_, batch in places],
        [batch.start for *_, batch in places],
        [batch.stop for *_, batch in places],
        key=[_key(batch, job) for _, job, batch in places],
    )
    for (scout, job, batch), future in zip(places, futures, strict=True):
        scout.sent.append((job, batch, future))
        scout.begun = scout.begun or time.perf_counter()


def _key(batch: StepBatch, job: Job) -> tuple[str, int, int, int]:
    return (f"{batch.label}-{uuid.uuid4().hex[:8]}", job.index, batch.start, batch.n_logical)


def _learn(group: _Group, planner: Planner, parts: Sequence[Extracted]) -> None:
    planner.timings.probed(group.jobs[0].layouts[group.source], parts)
    planner.keep(group.jobs[0], parts, [spec.name for spec in group.specs])
