"""What is left of a run, and what it costs: the numbers that decisions are made from."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from oectflow.pipeline.execution.events import BatchDone, Ended, Overheads
from oectflow.pipeline.execution.planning.batches import (
    BATCH_BYTES,
    FeatureCost,
    Granularity,
    StepBatch,
    halves,
    plan_batches,
)
from oectflow.pipeline.execution.planning.costs import Costs
from oectflow.pipeline.execution.planning.decide import VARIATION, Decision, decide
from oectflow.pipeline.execution.planning.run_plan import FeaturePlan
from oectflow.pipeline.execution.planning.work import Job, Trait

#: Share of a worker's memory that the samples of one batch may take; results, temporaries and the
#: worker itself need the rest.
_BATCH_SHARE = 1 / 8
#: The end of a run: so many rounds of the longest tasks.
_LAST_ROUNDS = 8
#: An experiment that takes up to so many times as long as a batch should is not divided: its parts
#: would need four more tasks, and what it takes is known no better.
_WHOLE = 1.25

_Load = Mapping[tuple[str, float], float]


class Ledger:
    """Keeps account of the experiments of a run that are not finished.

    Parameters
    ----------
    jobs
        All experiments of the run.
    traits
        By feature.
    costs
        What is known of them; learns from what is done.
    """

    def __init__(self, jobs: Sequence[Job], traits: Mapping[str, Trait], costs: Costs) -> None:
        self.traits = traits
        self.costs = costs
        #: What is planned for each feature, and what it took.
        self.features: dict[str, FeaturePlan] = {}
        self.batch_bytes = BATCH_BYTES
        #: What one process would have needed for what is done, in s.
        self.alone_done = 0.0
        self._bytes_per_row: float | None = None
        # By experiment and feature, the first step that nothing computes yet.
        self._first: defaultdict[int, dict[str, int]] = defaultdict(dict)
        # Amounts of all experiments that are not finished, by what costs and by length of a step:
        # a decision must not take longer because there are many experiments.
        self._left: defaultdict[tuple[str, float], float] = defaultdict(float)
        self._items = self._n_left = 0
        for job in jobs:
            self._first[job.index].update(job.first)
            self._count(job, 1)

    def unknown(self, job: Job) -> list[str]:
        """Return the features of an experiment of whose cost nothing is known."""
        return [
            name
            for names in self.groups(job).values()
            for name in names
            if self.costs.of(name) is None
        ]

    def groups(self, job: Job) -> dict[tuple[str, int], list[str]]:
        """Return the features of an experiment that may share batches, by source and block."""
        groups: dict[tuple[str, int], list[str]] = {}
        for name in job.missing:
            trait = self.traits[name]
            if trait.source in job.layouts:
                groups.setdefault((trait.source, trait.block), []).append(name)
        return groups

    def begun(self, job: Job, batches: Iterable[StepBatch]) -> None:
        """Take batches out of what is left of an experiment: they are being computed."""
        self._count(job, -1)
        first = self._first[job.index]
        for batch in batches:
            for name in batch.features:
                first[name] = max(first.get(name, 0), batch.stop)
        self._count(job, 1)

    def seconds_left(self) -> float:
        """Return what one process would need for all that is not finished, in s."""
        return self._sum(self._left)

    def decide(self, overheads: Overheads) -> Decision:
        """Decide about all that is not finished."""
        writing = self._sum(self._left, "write")
        seconds = self.seconds_left() - writing
        sources = {name.removeprefix("read ") for name, _ in self._left if name.startswith("read ")}
        opening = max(map(self.costs.opening, sources), default=0.0)
        overheads = replace(overheads, per_worker=overheads.per_worker + opening)
        return decide(seconds, self._items, overheads, self._n_left, writing)

    def is_near_end(self, batch_seconds: float, n_workers: int) -> bool:
        """Whether tasks that are too long to be divided should all begin soon.

        In the end the workers wait for those that begin last, unless enough short ones are left to
        do meanwhile.
        """
        longest = long = short = 0.0
        for (name, length), n in self._left.items():
            cost = self.costs.of(name, length) or 0.0
            block = self.traits[name].block if name in self.traits else 0
            if cost * length * block > batch_seconds:
                longest = max(longest, cost * length * block)
                long += n * cost
            else:
                short += n * cost
        round_of_all = n_workers * longest
        # One may well take two standard deviations longer than they do on average.
        enough = (1 + 2 * VARIATION) * round_of_all
        return short < enough and long < _LAST_ROUNDS * round_of_all

    def batches(
        self, job: Job, batch_seconds: float, granularity: Granularity = "auto"
    ) -> list[StepBatch]:
        """Return the batches of what nothing computes yet of an experiment.

        Parameters
        ----------
        job
            The experiment.
        batch_seconds
            How long one should take.
        granularity
            As in :func:`oectflow.extract`.
        """
        costs = [
            FeatureCost(name, source, self._cost(job, name), block, self._first_of(job, name))
            for (source, block), names in self.groups(job).items()
            for name in names
        ]
        reading = {
            source: self.costs.of(f"read {source}", job.samples(source)) or 0.0
            for source in job.layouts
        }
        return plan_batches(
            job.layouts,
            costs,
            granularity=granularity,
            seconds=batch_seconds or math.inf,
            reading=reading,
            n_bytes=self.batch_bytes,
        )

    def is_one_task(self, job: Job, batch_seconds: float, granularity: Granularity) -> bool:
        """Whether nobody would gain anything if an experiment was divided.

        Parameters
        ----------
        job, batch_seconds, granularity
            As in :meth:`batches`.
        """
        load = self._load(job)
        takes = self._sum(load) - self._sum(load, "write")
        return granularity == "auto" and takes <= _WHOLE * batch_seconds

    def foresee(self, job: Job) -> None:
        """Count what the features of an experiment are expected to take, once for each."""
        for names in self.groups(job).values():
            for name in names:
                layout = job.layouts[self.traits[name].source]
                row = self.features.setdefault(name, FeaturePlan(name))
                row.timed = row.timed or self.costs.of(name) is not None
                first = job.first.get(name, 0)
                row.n_steps += layout.n_steps - first
                row.predicted_seconds += self._cost(job, name) * layout.samples(first)

    def handed_out(self, batches: Iterable[StepBatch]) -> None:
        """Count batches that somebody computes."""
        for batch in batches:
            for name in batch.features:
                self.features.setdefault(name, FeaturePlan(name)).n_tasks += 1

    def done(self, job: Job, batch: BatchDone) -> None:
        """Count what one process would have needed for a batch that is done."""
        layout = job.layouts[batch.source]
        samples = layout.samples(batch.start, batch.stop)
        read = self.costs.of(f"read {batch.source}", job.samples(batch.source)) or 0.0
        self.alone_done += samples * (read + sum(self._cost(job, name) for name in batch.seconds))

    def ended(self, job: Job, end: Ended, *, costs: bool = True) -> None:
        """Take an experiment that is over into account.

        Parameters
        ----------
        job, end
            Which, and what it took.
        costs
            False where its times say little: threads that wait for each other take longer.
        """
        self._count(job, -1)
        self._first.pop(job.index, None)
        book = self.costs.book
        self.alone_done += end.n_rows * (self.costs.of("write", end.n_rows) or 0.0)
        if end.n_rows:
            self._bytes_per_row = end.n_bytes / end.n_rows
            if end.finishing:
                book.learn("write", end.finishing / end.n_rows, end.n_rows)
        for name, seconds in end.seconds.items():
            row = self.features.setdefault(name, FeaturePlan(name))
            row.actual_seconds += seconds
            source = self.traits[name].source
            length = job.samples(source)
            if costs and seconds:
                samples = job.layouts[source].samples(job.first.get(name, 0))
                book.learn(name, seconds / max(samples, 1.0), length)
            elif book.get(name) is None and (timed := self.costs.of(name)):
                book.learn(name, timed, length)
        if end.reading and costs:
            first: dict[str, int] = {}
            for (source, _), names in self.groups(job).items():
                begins = [first[source]] if source in first else []
                first[source] = min(begins + [job.first.get(name, 0) for name in names])
            total = sum(job.layouts[source].samples(begin) for source, begin in first.items())
            for source in first:
                book.learn(f"read {source}", end.reading / max(total, 1.0), job.samples(source))

    def limit_batches(self, worker_bytes: float) -> None:
        """Bound the samples of a batch by the memory of the worker that has least, in bytes."""
        self.batch_bytes = max(1, min(self.batch_bytes, int(worker_bytes * _BATCH_SHARE)))

    def shrink_batches(self) -> None:
        """Make batches smaller from now on: a worker has run short of memory."""
        self.batch_bytes = max(1, self.batch_bytes // 2)

    def pieces(self, job: Job, batch: StepBatch) -> list[StepBatch]:
        """Return a batch in four, or as it is where its samples are too few to fill a worker."""
        layout = job.layouts[batch.source]
        samples = layout.samples(batch.start, batch.stop)
        if 4 * samples * layout.nbytes_per_sample < self.batch_bytes:
            return [batch]
        block = self.traits[batch.features[0]].block
        return [part for half in halves(batch, block) for part in halves(half, block)]

    def bytes_in_flight(self, n_rows: int, n_sample_bytes: float) -> float:
        """Return about how much memory experiments take until they are written, in bytes.

        Their results twice, as arrays and as the table that is written.  Before one experiment has
        shown how many bytes that is for a row, they are taken to be as large as the samples.

        Parameters
        ----------
        n_rows, n_sample_bytes
            Rows of all their results, and bytes of all their samples.
        """
        if self._bytes_per_row is not None:
            return 2 * self._bytes_per_row * n_rows
        return n_sample_bytes

    def _cost(self, job: Job, name: str) -> float:
        return self.costs.of(name, job.samples(self.traits[name].source)) or 0.0

    def _first_of(self, job: Job, name: str) -> int:
        return self._first.get(job.index, {}).get(name, 0)

    def _sum(self, load: _Load, only: str = "") -> float:
        return sum(
            n * (self.costs.of(name, length) or 0.0)
            for (name, length), n in load.items()
            if name == only or not only
        )

    def _count(self, job: Job, sign: int) -> None:
        for key, amount in self._load(job).items():
            self._left[key] += sign * amount
        self._items += sign * self._items_of(job)
        self._n_left += sign

    def _load(self, job: Job) -> _Load:
        load: defaultdict[tuple[str, float], float] = defaultdict(float)
        for (source, _), names in self.groups(job).items():
            length = _length_class(job.samples(source))
            layout = job.layouts[source]
            firsts = [self._first_of(job, name) for name in names]
            for name, first in zip(names, firsts, strict=True):
                load[name, length] += layout.samples(first)
            load[f"read {source}", length] += layout.samples(min(firsts))
        load["write", _length_class(job.task.n_rows)] += job.task.n_rows
        return load

    def _items_of(self, job: Job) -> int:
        return sum(
            -(-(job.layouts[source].n_steps - self._first_of(job, name)) // block)
            for (source, block), names in self.groups(job).items()
            for name in names
        )


def _length_class(length: float) -> float:
    """Return one of a few lengths, however many experiments there are."""
    return 2.0 ** int(math.log2(max(length, 1.0)))
