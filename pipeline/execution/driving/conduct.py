"""Who does the work: this process, its threads, or a cluster; decided again as costs are learnt."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from distributed import Client

from oectflow.errors import StorageError
from oectflow.pipeline.execution.driving.explore import collect, explore, is_computed_here
from oectflow.pipeline.execution.driving.find_work import Job
from oectflow.pipeline.execution.driving.local import run_inline, run_on_threads
from oectflow.pipeline.execution.driving.overheads import (
    cluster_overheads,
    correct_effective,
    count_workers,
    measured_again,
    overheads_if_worth_it,
    thread_overheads,
)
from oectflow.pipeline.execution.driving.planner import Planner
from oectflow.pipeline.execution.driving.scheduler import gone, scheduler_needed
from oectflow.pipeline.execution.driving.stream import Listener, failure, run_on_cluster, stopped
from oectflow.pipeline.execution.planning.costs import CostBook
from oectflow.pipeline.execution.planning.decide import Overheads
from oectflow.pipeline.execution.report import ExperimentRecord, RunPlan
from oectflow.pipeline.execution.worker import tasks
from oectflow.pipeline.execution.worker.pickled_once import PickledOnce
from oectflow.pipeline.features.feature_set import FeatureSet

Finished = Iterator[tuple[Job, ExperimentRecord]]

#: CPU time in s that this process had used when everything for a run was imported.
_IMPORTING = time.process_time()


class Crew:
    """The cluster that there is, or could be.

    Parameters
    ----------
    client
        A cluster that runs.
    connect
        Starts one; called only if there is enough work.
    n_workers
        How many workers that one would have.
    """

    def __init__(
        self,
        client: Client | None = None,
        connect: Callable[[], Client] | None = None,
        n_workers: int = 1,
    ) -> None:
        self.client = client
        self._connect = connect
        self._n_workers = n_workers
        if client is not None and client.status == "closed":
            # Said before the run, also where there is too little work to ask for workers.
            raise gone()

    @property
    def n_workers(self) -> int:
        """How many may work together, beside this process or in its threads."""
        if self.client is not None:
            return count_workers(self.client)
        return thread_overheads().n_workers if self._connect is None else self._n_workers

    def connected(self, book: CostBook) -> Client | None:
        """Return the client, of a cluster that is started now if need be."""
        if self.client is None and self._connect is not None:
            begin = time.perf_counter()
            self.client = self._connect()
            book.learn("start", time.perf_counter() - begin)
        return self.client

    def overheads(self, seconds: float, book: CostBook) -> Overheads | None:
        """Return what it costs to use the cluster; None without one, or with too little to do.

        Parameters
        ----------
        seconds
            What the work takes one process.
        book
            Knows how long the start of a cluster takes.
        """
        if self.client is not None:
            return overheads_if_worth_it(self.client, seconds)
        if self._connect is None:
            return None
        # Before the first start is measured: workers have to import what this process has
        # imported.  How long it has lived would say nothing in a notebook that is open for hours.
        start = book.get("start") or _IMPORTING
        n = self._n_workers
        return Overheads(0.0, 0.0, 0.0, n, float(n), start=start)


def conduct(
    jobs: Sequence[Job],
    features: PickledOnce[FeatureSet],
    planner: Planner,
    crew: Crew,
    plan: RunPlan,
    listener: Listener,
) -> Finished:
    """Run experiments, each in the way that is expected to be quickest.

    Parameters
    ----------
    jobs
        The experiments.
    features
        For the derived ones.
    planner
        Knows the costs; whoever calls lets it learn from what is yielded.
    crew
        The cluster.
    plan
        Filled in with what is decided.
    listener
        Called with every progress event.

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
    tasks.local_listeners[topic] = listener
    try:
        with scheduler_needed():
            if planner.granularity == "auto":
                yield from _auto(deque(jobs), features, planner, crew, plan, listener)
            elif (client := crew.connected(planner.book)) is not None:
                plan.take("cluster")
                queue = deque(jobs)
                yield from run_on_cluster(queue, features, planner, listener, client, math.inf)
            else:
                for job in jobs:
                    plan.take("threads")
                    yield (
                        job,
                        _safely(job, lambda job: run_on_threads(job, planner, features, math.inf)),
                    )
    finally:
        del tasks.local_listeners[topic]


def _auto(
    queue: deque[Job],
    features: PickledOnce[FeatureSet],
    planner: Planner,
    crew: Crew,
    plan: RunPlan,
    listener: Listener,
) -> Finished:
    if any(map(planner.unknown, queue)):
        others = cluster_overheads(crew.client, 0.0) if crew.client else thread_overheads()
        explore(queue, planner, crew.client, others.round_trip, crew.n_workers)
        queue = deque(sorted(queue, key=is_computed_here))
    plan.alone_seconds, plan.at_least = planner.seconds_left(), planner.timings.any_is_bound
    may_divide = True
    while queue:
        if may_divide and choose(planner, crew, plan):
            if crew.client is None:
                # Once it is there, it can be measured.
                crew.connected(planner.book)
                continue
            plan.take("cluster")
            seconds = plan.batch_seconds or math.inf
            known = None if planner.timings.any_is_bound else plan.overheads
            decision = planner.decide(known) if known else None
            begin = time.perf_counter()
            yield from run_on_cluster(queue, features, planner, listener, crew.client, seconds)
            if decision is not None and not queue:
                correct_effective(crew.client, decision, time.perf_counter() - begin)
            # What it has left here did not pay there.
            may_divide = False
            continue
        job = queue.popleft()
        collect(job, planner, everything=True)
        yield job, _safely(job, lambda job: _here(job, features, planner, crew, plan))


def choose(planner: Planner, crew: Crew, plan: RunPlan) -> bool:
    """Decide whether the cluster shall do all that is left, and say so in the plan."""
    seconds = planner.seconds_left()
    # What nobody has seen before must not run in this process if there is another one.
    must = crew.client is not None and not planner.safe
    if must and crew.client is not None:
        overheads: Overheads | None = cluster_overheads(crew.client, seconds)
    else:
        overheads = crew.overheads(seconds, planner.book)
    cluster = planner.decide(overheads) if overheads else None
    if crew.client and cluster and not (must or cluster.divide):
        again = measured_again(crew.client, seconds)
        if again is not None:
            overheads, cluster = again, planner.decide(again)
    if cluster and (must or cluster.divide):
        plan.overheads, plan.batch_seconds = overheads, cluster.batch_seconds
        plan.predicted_seconds = cluster.predicted
        return True
    if not plan.ways:
        here = None if crew.client else planner.decide(_threads(planner))
        plan.overheads = overheads
        plan.predicted_seconds = here.predicted if here else seconds
    return False


def way_of(planner: Planner, crew: Crew, plan: RunPlan) -> str:
    """Return how a run would begin, and say in the plan what it would take."""
    if choose(planner, crew, plan):
        return "cluster"
    threads = crew.client is None and planner.decide(_threads(planner)).divide
    return "threads" if threads else "inline"


def _threads(planner: Planner) -> Overheads:
    """Return what threads cost, with what they were seen to do together."""
    threads = thread_overheads()
    learnt = planner.book.get("threads")
    return threads if learnt is None else replace(threads, effective=learnt)


def _here(
    job: Job, features: PickledOnce[FeatureSet], planner: Planner, crew: Crew, plan: RunPlan
) -> ExperimentRecord:
    """Run an experiment in this process."""
    if crew.client is None:
        threads = _threads(planner)
        decision = planner.decide_one(job, threads)
        if decision.divide:
            plan.take("threads")
            plan.overheads, plan.batch_seconds = threads, decision.batch_seconds
            return run_on_threads(job, planner, features, decision.batch_seconds)
    plan.take("inline")
    return run_inline(job, planner, features)


def _safely(job: Job, run: Callable[[Job], ExperimentRecord]) -> ExperimentRecord:
    """Run an experiment; whatever happens, short of a full disk, the others go on."""
    try:
        return run(job)
    except StorageError as error:
        raise stopped(error) from error
    except Exception as error:  # noqa: BLE001
        return failure(job, error)
