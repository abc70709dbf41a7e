"""The state of a run: an event goes in, what is to be done comes out.

Nothing here knows Dask, the clock or a file, so that every decision is a test of a list of events.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from oectflow.pipeline.execution.events import (
    LEAST_MARGIN,
    BatchDone,
    Begun,
    Connected,
    Ended,
    Event,
    Killed,
    Measured,
    Overheads,
    Waited,
    WorkersSeen,
)
from oectflow.pipeline.execution.planning.actions import (
    Action,
    Connect,
    Correct,
    GiveUp,
    Look,
    Measure,
    RunHere,
    Stop,
    Submit,
    Wake,
)
from oectflow.pipeline.execution.planning.batches import Granularity, StepBatch, batches_of
from oectflow.pipeline.execution.planning.calibrate import Calibration
from oectflow.pipeline.execution.planning.costs import Costs
from oectflow.pipeline.execution.planning.decide import Decision
from oectflow.pipeline.execution.planning.ledger import Ledger
from oectflow.pipeline.execution.planning.run_plan import RunPlan
from oectflow.pipeline.execution.planning.window import Entry, Window
from oectflow.pipeline.execution.planning.work import Job, Trait

#: How often an experiment is submitted whose workers die for no reason that is in its batches.
ATTEMPTS = 3
#: Results that wait to be written may take this share of the memory of all workers.
WAITING_SHARE = 0.25
#: Whoever looks at a progress bar wants to see it move: length of a batch in this process, in s.
_PROGRESS_SECONDS = 0.25
#: A first step that takes longer than so many round trips is not waited for by the workers.
_TRIPS = 2
#: What threads have done together is learnt where handing out took less than this share of it.
_HANDING_OUT = 0.05


@dataclass(frozen=True)
class Workforce:
    """Who may do the work, beside the threads of this process.

    Attributes
    ----------
    threads
        What these cost.
    cluster
        Whether a cluster runs.
    start
        What one would cost that could be started; None where none can be.
    """

    threads: Overheads
    cluster: bool = False
    start: Overheads | None = None


class RunState:
    """Decides who does the work, in which batches and when.

    Parameters
    ----------
    jobs
        The experiments.
    traits
        Of their features.
    costs
        What is known of them.
    workforce
        Who may do the work.
    granularity
        As in :func:`oectflow.extract`.
    plan
        Filled in with what is decided.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        traits: Mapping[str, Trait],
        costs: Costs,
        workforce: Workforce,
        granularity: Granularity = "auto",
        plan: RunPlan | None = None,
    ) -> None:
        self.plan = RunPlan(len(jobs)) if plan is None else plan
        self.ledger = Ledger(jobs, traits, costs)
        #: Jobs that are not over.
        self.jobs = {job.index: job for job in jobs}
        #: How the work is done now: ``"inline"``, ``"threads"``, ``"cluster"``, or ``""``.
        self.way = self._last_way = ""
        self.batch_seconds = math.inf
        self._traits = dict(traits)
        self._workforce = workforce
        self._granularity = granularity
        self._queue = deque(jobs)
        self._window = Window()
        auto = granularity == "auto"
        self._calibration = Calibration(jobs, self.ledger) if auto else None
        self._trip = workforce.threads.round_trip
        # What nobody has seen before must not run in this process if there is another one.
        trusted = all(traits[name].trusted for job in jobs for name in job.missing)
        self._must = workforce.cluster and not trusted
        # Whether the workers calibrate, too, and when a step of this process is late.
        self._on_workers = self._must
        self._late = math.inf
        # Whether the cluster may still be chosen: what it has left here did not pay there.
        self._may_divide = True
        self._asking: Measure | None = None
        self._told: Overheads | None = None
        self._decision: Decision | None = None
        self._begun = 0.0
        self._n_done = 0
        # Since when the workers are judged, and what was done before.
        self._judged = (0.0, 0, 0.0)
        self._workers: WorkersSeen | None = None

    # ---------------------------------------------------------------------------------- events

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take an event into account and return what is to be done, in order.

        Parameters
        ----------
        event
            What has happened.
        now
            When that was noticed, in s of any clock that never goes back.
        """
        match event:
            case Begun():
                return self._begin(now)
            case Measured():
                return self._measured(event.overheads, now)
            case Connected():
                self.ledger.costs.book.learn("start", event.seconds)
                self._workforce = replace(self._workforce, cluster=True, start=None)
            case WorkersSeen():
                self._see(event, now)
            case BatchDone():
                return [*self._batch_done(event), *self._next(now)]
            case Ended():
                self._ended(event)
            case Killed():
                return self._killed(event)
            case Waited():
                self._on_workers |= now >= self._late
        return list(self._next(now))

    def _begin(self, now: float) -> list[Action]:
        unknown = self._calibration is not None and not self._calibration.is_over
        if unknown and self._workforce.cluster:
            return [self._ask(Measure(0.0, needed=True))]
        if self._granularity != "auto" and self._workforce.start is not None:
            return [Connect()]
        return list(self._next(now))

    def _ask(self, question: Measure) -> Measure:
        self._asking = question
        return question

    def _measured(self, overheads: Overheads | None, now: float) -> list[Action]:
        question, self._asking = self._asking, None
        assert question is not None
        if self._calibration is not None:
            assert overheads is not None
            self._trip = overheads.round_trip
            return list(self._next(now))
        told = overheads or self._told if question.again else overheads
        return [*self._chosen(told, now, final=question.again), *self._fill()]

    def _see(self, workers: WorkersSeen, now: float) -> None:
        self._workers = workers
        if workers.others:
            # Workers that were away, waiting for their turn in a batch system, say, are not slow.
            self._judged = (now, self._n_done, self.ledger.alone_done)
        if workers.least_bytes:
            self.ledger.limit_batches(workers.least_bytes)
        if workers.tight:
            self.ledger.shrink_batches()

    def _batch_done(self, done: BatchDone) -> Iterator[Action]:
        entry = self._window.find(done.index)
        if entry is None:
            # Dask has computed it again for a worker that was lost.
            return
        self._window.change(entry, entry.left - 1, whole=entry.whole, as_one=entry.as_one)
        if done.is_here:
            entry.here = max(0, entry.here - 1)
            self._late = math.inf
        for name in done.seconds:
            trait = self._traits[name]
            crashed = trait.crashed or name in done.crashed
            self._traits[name] = replace(trait, trusted=not crashed, crashed=crashed)
        self.ledger.costs.book.mark_crashed(done.crashed)
        self.ledger.done(entry.job, done)
        self._n_done += 1
        if self._calibration is not None:
            self._calibration.done(entry.job, done)
        if done.is_here and entry.whole and entry.on_cluster and not entry.here:
            # The end has waited for it.
            yield Submit(done.index, (), isolated=frozenset(entry.isolated))

    def _ended(self, end: Ended) -> None:
        entry = self._window.leave(end.index)
        del self.jobs[end.index]
        self.ledger.ended(entry.job, end, costs=self._last_way != "threads")
        if self.way in ("inline", "threads") and self._granularity == "auto":
            # What was learnt may change how the rest is done best.
            self.way = ""

    def _killed(self, event: Killed) -> list[Action]:
        """Hand out again what has killed its workers.

        If that was a batch of many samples, there may not have been enough memory: it is divided.
        Any other batch, and one that was divided before, runs in a process of its own from now on.
        Dask blames every task that waited on a worker which died, so the task may as well be
        innocent: then it simply succeeds.
        """
        entry = self._window.find(event.index)
        assert entry is not None
        blamed = [*entry.batches] if entry.as_one else batches_of(event.key, entry.batches)
        anew: list[StepBatch] = []
        guilty = [batch for batch in blamed if batch not in entry.isolated]
        for batch in guilty:
            pieces = self.ledger.pieces(entry.job, batch)
            if batch in entry.divided or len(pieces) == 1:
                entry.isolated.add(batch)
                pieces = [batch]
            else:
                entry.divided.update(pieces)
                self.ledger.shrink_batches()
            at = entry.batches.index(batch)
            entry.batches[at : at + 1] = pieces
            anew += pieces
            if self._calibration is not None:
                self._calibration.divided(batch, len(pieces))
        entry.attempts += not guilty
        if entry.attempts >= ATTEMPTS:
            return [GiveUp(event.index)]
        whole = entry.whole and not entry.here
        if whole:
            anew = entry.batches
            left = len(anew)
        else:
            anew = anew or blamed
            left = entry.left + len(anew) - len(blamed)
        self._window.change(entry, left, whole=entry.whole)
        return [
            Submit(
                event.index,
                tuple(anew),
                whole,
                frozenset(entry.isolated),
                hash_last=entry.attempts > 0,
            )
        ]

    # ------------------------------------------------------------------------------- decisions

    @property
    def _n_workers(self) -> int:
        if self._workers is None:
            return self._workforce.threads.n_workers
        return self._workers.n_workers

    def _next(self, now: float) -> Iterator[Action]:
        """Yield what the state asks for."""
        if not self.jobs:
            yield from self._stop(now)
            return
        if self._calibration is not None:
            yield from self._calibrate(self._calibration, now)
            if self._calibration is not None:
                return
        if self.way == "cluster" and self._is_slow(now):
            self.way, self._may_divide = "", False
        if not self._queue:
            return
        if not self.way:
            yield from self._choose(now)
        if self.way:
            yield from self._fill()

    def _calibrate(self, calibration: Calibration, now: float) -> Iterator[Action]:
        """Hand out batches of unknown cost; forget the calibration when all costs are known."""
        if self._on_workers and not calibration.is_over:
            if self._workers is None:
                yield Look()
                return
            by_job: dict[int, list[StepBatch]] = {}
            for job, batch in calibration.for_workers(self._n_workers):
                by_job.setdefault(job.index, []).append(batch)
            for index, batches in by_job.items():
                self.plan.take("cluster")
                yield self._submit(self.jobs[index], batches, whole=False)
            return
        if not self._on_workers:
            if any(entry.here for entry in self._window.entries()):
                return
            n_workers = self._n_workers if self._workforce.cluster or self._workforce.start else 1
            first = calibration.for_this_process(self._trip, n_workers)
            if first is not None:
                job, batch = first
                yield self._run_here(job, [batch], whole=False)
                if self._workforce.cluster:
                    # The workers do not wait for a step of which nobody knows how long it takes.
                    self._late = now + _TRIPS * self._trip
                    yield Wake(_TRIPS * self._trip)
                return
        self._calibration = None

    def _choose(self, now: float) -> Iterator[Action]:
        """Decide who does all that is left; ask the cluster first, if there is one."""
        seconds = self.ledger.seconds_left()
        if self.plan.alone_seconds is None:
            self.plan.alone_seconds = seconds
        if self._granularity != "auto":
            self._take("cluster" if self._workforce.cluster else "threads", math.inf, now)
        elif self._workforce.cluster and self._may_divide:
            yield self._ask(Measure(seconds, needed=self._must))
        else:
            start = self._workforce.start if self._may_divide else None
            yield from self._chosen(self._with_start(start), now)

    def _with_start(self, start: Overheads | None) -> Overheads | None:
        seconds = self.ledger.costs.book.get("start")
        return start if start is None or seconds is None else replace(start, start=seconds)

    def _chosen(
        self, overheads: Overheads | None, now: float, *, final: bool = False
    ) -> Iterator[Action]:
        """Choose between the cluster, whose costs are known now, and this process."""
        decision = self.ledger.decide(overheads) if overheads else None
        if decision is not None and (self._must or decision.divide):
            assert overheads is not None
            self.plan.overheads, self.plan.predicted_seconds = overheads, decision.predicted
            self.plan.batch_seconds = decision.batch_seconds
            if self._workforce.cluster:
                self._decision = decision
                self._take("cluster", decision.batch_seconds or math.inf, now)
            else:
                yield Connect()
        elif decision is not None and self._workforce.cluster and not final:
            self._told = overheads
            yield self._ask(Measure(self.ledger.seconds_left(), again=True))
        else:
            self._choose_here(overheads, now)

    def _choose_here(self, overheads: Overheads | None, now: float) -> None:
        threads = self.ledger.costs.book.get("threads")
        told = self._workforce.threads
        told = told if threads is None else replace(told, effective=threads)
        here = None if self._workforce.cluster else self.ledger.decide(told)
        first = not self.plan.ways
        if here is not None and here.divide:
            self.plan.overheads, self.plan.batch_seconds = told, here.batch_seconds
            self._take("threads", here.batch_seconds, now)
        else:
            if first:
                self.plan.overheads = overheads
            self._take("inline", _PROGRESS_SECONDS, now)
        if first:
            seconds = self.ledger.seconds_left()
            self.plan.predicted_seconds = here.predicted if here else seconds

    def _take(self, way: str, batch_seconds: float, now: float) -> None:
        self.plan.take(way)
        if way != self._last_way:
            self._begun, self._n_done, self.ledger.alone_done = now, 0, 0.0
            self._judged = (now, 0, 0.0)
        self.way = self._last_way = way
        self.batch_seconds = batch_seconds

    def _is_slow(self, now: float) -> bool:
        """Whether the workers have turned out to be slower than this process alone."""
        begun, n_before, alone_before = self._judged
        n_done = self._n_done - n_before
        if self._granularity != "auto" or self._must or n_done < 2 * self._n_workers:
            return False
        quicker = (self.ledger.alone_done - alone_before) / max(now - begun, 1e-9)
        return quicker * (1 + LEAST_MARGIN) < 1

    def forecast(self, measure: Callable[[Measure], Overheads | None]) -> RunPlan:
        """Return the plan of the run, of which nothing is handed out.

        Parameters
        ----------
        measure
            Answers what the cluster costs.
        """
        unknown = self._calibration is not None and not self._calibration.is_over
        self._calibration = None
        asked = [] if unknown else list(self._choose(0.0))
        while asked and isinstance(question := asked.pop(), Measure):
            told = measure(question)
            told = told or self._told if question.again else told
            asked = list(self._chosen(told, 0.0, final=question.again))
        if not unknown and not self.way:
            # A cluster would be started.
            self.plan.take("cluster")
        seconds = self.plan.batch_seconds or math.inf
        for job in self.jobs.values():
            self.ledger.foresee(job)
            self.ledger.handed_out(self.ledger.batches(job, seconds, self._granularity))
        return self.plan

    # -------------------------------------------------------------------------------- the window

    def _fill(self) -> Iterator[Action]:
        """Let experiments enter.

        Two of them, so that one is read while the other is written; more where they are so small
        that not every worker would find two tasks until the next one enters, or where few long
        tasks are left, which should begin before the short ones.
        """
        if self.way in ("", "inline"):
            busy = any(one.whole and not one.on_cluster for one in self._window.entries())
            if self.way and self._queue and not busy:
                yield self._enter(self._queue.popleft())
            return
        if self.way == "cluster" and self._workers is None:
            yield Look()
            return
        n_workers = self._n_workers
        all_of_them = self.way == "cluster" and self.ledger.is_near_end(
            self.batch_seconds, n_workers
        )
        while self._queue:
            n_whole, n_left = self._window.n_whole, self._window.n_tasks_behind_first
            if n_whole >= 2 and n_left >= 2 * n_workers and not all_of_them:
                return
            if n_whole and not self._has_room(self._queue[0]):
                return
            action = self._enter(self._queue.popleft())
            if action.batches or action.whole:
                # Otherwise all that is left of it runs here, and its end is submitted then.
                yield action

    def _has_room(self, job: Job) -> bool:
        """Whether the workers have the memory for another experiment."""
        if self._workers is None:
            return True
        if self._workers.tight:
            return False
        under_way = self._window.find(job.index) is not None
        n_rows = self._window.n_rows + (0 if under_way else job.task.n_rows)
        n_bytes = self._window.n_bytes + (0.0 if under_way else job.n_sample_bytes)
        needed = self.ledger.bytes_in_flight(n_rows, n_bytes)
        total = self._workers.total_bytes
        return not total or needed < WAITING_SHARE * total

    def _enter(self, job: Job) -> Submit | RunHere:
        """Hand out all that is left of an experiment."""
        self.ledger.foresee(job)
        batches = self.ledger.batches(job, self.batch_seconds, self._granularity)
        entry = self._window.find(job.index)
        if self.way == "cluster" or (entry is not None and entry.on_cluster):
            small = self.ledger.is_one_task(job, self.batch_seconds, self._granularity)
            return self._submit(job, batches, as_one=small and entry is None)
        return self._run_here(job, batches)

    def _submit(
        self,
        job: Job,
        batches: Sequence[StepBatch],
        *,
        whole: bool = True,
        as_one: bool = False,
    ) -> Submit:
        crashed = {name for name, trait in self._traits.items() if trait.crashed}
        batches = _divided(batches, crashed)
        isolated = {batch for batch in batches if crashed.intersection(batch.features)}
        as_one = as_one and not isolated
        entry = self._hand_out(job, batches, whole=whole, as_one=as_one)
        entry.batches += batches
        entry.isolated |= isolated
        entry.on_cluster = True
        # A batch that is running here belongs to the results: the end waits for it.
        return Submit(
            job.index, tuple(batches), whole and not entry.here, frozenset(entry.isolated),
            as_one=as_one,
        )  # fmt: skip

    def _run_here(self, job: Job, batches: Sequence[StepBatch], *, whole: bool = True) -> RunHere:
        unseen = {name for name, trait in self._traits.items() if not trait.trusted}
        batches = _divided(batches, unseen)
        entry = self._hand_out(job, batches, whole=whole)
        entry.here += len(batches)
        isolated = frozenset(batch for batch in batches if unseen.intersection(batch.features))
        return RunHere(job.index, tuple(batches), whole, isolated, self.way != "threads")

    def _hand_out(
        self, job: Job, batches: Sequence[StepBatch], *, whole: bool, as_one: bool = False
    ) -> Entry:
        entry = self._window.enter(job)
        self._window.change(entry, entry.left + len(batches), whole=whole, as_one=as_one)
        self.ledger.begun(job, batches)
        self.ledger.handed_out(batches)
        return entry

    def _stop(self, now: float) -> Iterator[Action]:
        seconds = now - self._begun
        same = self._judged[0] == self._begun
        if self._last_way == "cluster" and self._decision and self._may_divide and same:
            yield Correct(self._decision, seconds)
        if self._last_way == "threads" and self._granularity == "auto":
            threads = self._workforce.threads
            handing_out = self._n_done * threads.per_worker
            if self._n_done >= threads.n_workers and handing_out < _HANDING_OUT * seconds:
                together = self.ledger.alone_done / max(seconds, 1e-9)
                effective = min(max(together, 1.0), float(threads.n_workers))
                self.ledger.costs.book.learn("threads", effective)
        yield Stop()


def _divided(batches: Sequence[StepBatch], names: set[str]) -> list[StepBatch]:
    """Divide batches, so that none has features of these and others."""
    parts = []
    for batch in batches:
        theirs = tuple(name for name in batch.features if name in names)
        others = tuple(name for name in batch.features if name not in names)
        parts += [replace(batch, features=some) for some in (others, theirs) if some]
    return parts
