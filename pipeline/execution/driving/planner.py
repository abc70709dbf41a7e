"""Knows what is left of a run and what it costs; plans one experiment after the other."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future as LocalFuture
from dataclasses import replace
from typing import Any
from weakref import WeakSet

from distributed import Future

from oectflow.extractors.base import BaseExtractor
from oectflow.pipeline.execution.driving.find_work import Job
from oectflow.pipeline.execution.driving.timings import Timings
from oectflow.pipeline.execution.planning.batches import (
    BATCH_BYTES,
    FeatureCost,
    Granularity,
    StepBatch,
    halves,
    plan_batches,
)
from oectflow.pipeline.execution.planning.costs import CostBook
from oectflow.pipeline.execution.planning.decide import VARIATION, Decision, Overheads, decide
from oectflow.pipeline.execution.report import ExperimentRecord, FeaturePlan
from oectflow.pipeline.execution.worker.build_table import Extracted
from oectflow.pipeline.execution.worker.tasks import feature_specs

#: Share of a worker's memory that the samples of one batch may take; results, temporaries and the
#: worker itself need the rest.
_BATCH_SHARE = 1 / 8
#: The end of a run: so many rounds of the longest tasks.
_LAST_ROUNDS = 8
#: Errors of features that must not run in the process of the notebook again: isolated, they ended
#: their process, or would have taken all memory.
_DEADLY = ("ProcessDied", "MemoryError")
_OURS = "oectflow.extractors."
#: What has computed an experiment during the life of this process, with whatever parameters.
_harmless: WeakSet[type[BaseExtractor]] = WeakSet()


class Planner:
    """Plans the experiments of a run.

    Parameters
    ----------
    jobs
        All experiments of the run.
    extractors
        By feature.
    book
        Costs known from earlier runs; learns those of this one.
    granularity
        As in :func:`oectflow.extract`.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        extractors: Mapping[str, BaseExtractor],
        book: CostBook,
        granularity: Granularity,
    ) -> None:
        self.granularity = granularity
        self.book = book
        self.extractors = extractors
        #: What tasks get of them.
        self.specs = feature_specs(extractors)
        self.features: dict[str, FeaturePlan] = {}
        self.timings = Timings(book)
        self._n_bytes = BATCH_BYTES
        self._bytes_per_row: float | None = None
        names = dict.fromkeys(name for job in jobs for name in job.missing)
        self.safe = all(self._is_safe(name) for name in names)
        # Amounts of all experiments that are not finished, by what costs and by length of a step:
        # a decision must not take longer because there are many experiments.
        self._left: defaultdict[tuple[str, float], float] = defaultdict(float)
        self._items = self._n_left = 0
        self.alone_done = 0.0
        # By experiment and kind: samples of a typical step, and what one process needs to read it.
        self._steps: dict[tuple[str, str], tuple[float, float]] = {}
        self.n_batches_done = 0
        for job in jobs:
            self._count(job, 1)

    def _is_safe(self, name: str) -> bool:
        # What comes with the package, and what has computed an experiment before, may run in the
        # process of the notebook; what nobody has seen might take it along.
        extractor = type(self.extractors[name])
        ours = extractor.__module__.startswith(_OURS)
        known = self.book.get(name) is not None or extractor in _harmless
        return (ours or known) and not self.book.is_deadly(name)

    def unknown(self, job: Job) -> list[str]:
        """Return the features of an experiment of whose cost nothing is known."""
        return [
            name
            for name in job.missing
            if self.extractors[name].source in job.layouts and self.timings.cost(name) is None
        ]

    def groups(self, job: Job) -> dict[tuple[str, int], list[str]]:
        """Return the features of an experiment that may share batches, by source and block."""
        groups: dict[tuple[str, int], list[str]] = {}
        for name in job.missing:
            extractor = self.extractors[name]
            if extractor.source in job.layouts:
                block = extractor.steps_per_block(extractor.params)
                groups.setdefault((extractor.source, block), []).append(name)
        return groups

    @property
    def batch_bytes(self) -> int:
        """Samples that a batch may hold, in bytes."""
        return self._n_bytes

    def keep(self, job: Job, parts: Sequence[Extracted], features: Sequence[str]) -> None:
        """Make steps of some features part of the results of an experiment."""
        self._count(job, -1)
        job.done += parts
        for name in features:
            job.first[name] = max(job.first.get(name, 0), *(part.stop for part in parts))
        self._count(job, 1)

    def begun(self, job: Job, batch: StepBatch, future: Future | LocalFuture[Extracted]) -> None:
        """Take a batch out of what is left of an experiment: it is being computed."""
        self._count(job, -1)
        job.pending.append((batch, future))
        for name in batch.features:
            job.first[name] = max(job.first.get(name, 0), batch.stop)
        self._count(job, 1)

    def forget(self, job: Job) -> None:
        """Put all that is being computed of an experiment back to what is left."""
        self._count(job, -1)
        for batch, _ in job.pending:
            for name in batch.features:
                job.first[name] = min(job.first[name], batch.start)
        job.pending = []
        self._count(job, 1)

    def seconds_left(self) -> float:
        """Return what one process would need for all that is not finished, in s."""
        return self._sum(self._left)

    def is_near_end(self, batch_seconds: float, n_workers: int) -> bool:
        """Whether tasks that are too long to be divided should all begin soon.

        In the end the workers wait for those that begin last, unless enough short ones are left to
        do meanwhile.
        """
        longest = long = short = 0.0
        for (name, length), n in self._left.items():
            cost = self.timings.cost(name, length) or 0.0
            extractor = self.extractors.get(name)
            block = extractor.steps_per_block(extractor.params) if extractor else 0
            if cost * length * block > batch_seconds:
                longest = max(longest, cost * length * block)
                long += n * cost
            else:
                short += n * cost
        round_of_all = n_workers * longest
        # One may well take two standard deviations longer than they do on average, or, where that
        # is not known yet, any time.
        enough = math.inf if self.timings.any_is_bound else (1 + 2 * VARIATION) * round_of_all
        return short < enough and long < _LAST_ROUNDS * round_of_all

    def decide(self, overheads: Overheads) -> Decision:
        """Decide about all that is not finished."""
        writing = self._sum(self._left, "write")
        seconds = self.seconds_left() - writing
        sources = {name.removeprefix("read ") for name, _ in self._left if name.startswith("read ")}
        opening = max(map(self.timings.opening, sources), default=0.0)
        overheads = replace(overheads, per_worker=overheads.per_worker + opening)
        return decide(seconds, self._items, overheads, self._n_left, writing)

    def decide_one(self, job: Job, overheads: Overheads) -> Decision:
        """Decide about one experiment: its files are written by one, whoever computes it."""
        return decide(self.seconds_of(job), self._items_of(job), overheads, 1)

    def seconds_of(self, job: Job) -> float:
        """Return what one process would need for the rest of an experiment, in s, not to write."""
        load = self._load(job)
        return self._sum(load) - self._sum(load, "write")

    def _sum(self, load: Mapping[tuple[str, float], float], only: str = "") -> float:
        return sum(
            n * (self.timings.cost(name, length) or 0.0)
            for (name, length), n in load.items()
            if name == only or not only
        )

    def plan(self, job: Job, batch_seconds: float) -> None:
        """Fill in the batches of an experiment, with what is known now."""
        predicted = {
            name: self.timings.cost(name, _length(job, self.extractors[name].source)) or 0.0
            for names in self.groups(job).values()
            for name in names
        }
        costs = [
            FeatureCost(
                name,
                source,
                # What takes longer than a batch should, however much, is one of its own.
                max(predicted[name], 2 * batch_seconds / (block * _length(job, source)))
                if self.timings.is_bound(name) and batch_seconds < math.inf
                else predicted[name],
                block,
                job.first.get(name, 0),
            )
            for (source, block), names in self.groups(job).items()
            for name in names
        ]
        reading = {
            source: self.timings.cost(f"read {source}", _length(job, source)) or 0.0
            for source in job.layouts
        }
        for source, per_sample in reading.items():
            length = _length(job, source)
            self._steps[job.task.experiment_id, source] = length, per_sample * length
        job.batches = plan_batches(
            job.layouts,
            costs,
            granularity=self.granularity,
            seconds=batch_seconds or math.inf,
            reading=reading,
            n_bytes=self._n_bytes,
        )
        for cost in costs:
            layout = job.layouts[cost.source]
            row = self.features.setdefault(cost.name, FeaturePlan(cost.name))
            row.timed = row.timed or self.timings.cost(cost.name) is not None
            row.at_least = row.at_least or self.timings.is_bound(cost.name)
            row.n_steps += layout.n_steps
            row.n_tasks += sum(cost.name in batch.features for batch in job.batches)
            row.n_tasks += sum(cost.name in part.seconds for part in job.done)
            row.n_tasks += sum(cost.name in batch.features for batch, _ in job.pending)
            samples = layout.samples()
            row.n_samples += samples
            row.predicted_seconds += predicted[cost.name] * samples

    def learn(self, job: Job, record: ExperimentRecord, *, costs: bool = True) -> None:
        """Take an experiment that is over into account.

        Parameters
        ----------
        job, record
            Which, and what became of it.
        costs
            False where its times say little: threads that wait for each other take longer.
        """
        self._count(job, -1)
        for source in job.layouts:
            self._steps.pop((job.task.experiment_id, source), None)
        self.alone_done += record.n_steps * (self.timings.cost("write", record.n_steps) or 0.0)
        deadly = {p.feature for p in record.problems if p.error_type.endswith(_DEADLY)}
        self.book.mark_deadly(deadly)
        _harmless.update(type(self.extractors[name]) for name in record.seconds)
        _harmless.difference_update(type(self.extractors[name]) for name in deadly)
        if record.n_steps:
            self._bytes_per_row = record.n_bytes_in_memory / record.n_steps
        amounts = {name: seconds for name, seconds in record.seconds.items() if seconds}
        for name, seconds in amounts.items():
            self.features[name].actual_seconds += seconds
        if record.finishing and record.n_steps:
            self.book.learn("write", record.finishing / record.n_steps, record.n_steps)
        for source, layout in job.layouts.items():
            length = _length(job, source)
            samples = layout.samples()
            mine = {n: s for n, s in amounts.items() if self.extractors[n].source == source}
            for name, seconds in mine.items():
                self.timings.settle(name)
                if costs:
                    self.book.learn(name, seconds / max(samples, 1.0), length)
                elif self.book.get(name) is None and (timed := self.timings.cost(name)):
                    self.book.learn(name, timed, length)
        if record.reading and costs:
            total = sum(job.layouts[source].samples() for source, _ in self.groups(job))
            for source, _ in self.groups(job):
                self.book.learn(f"read {source}", record.reading / total, _length(job, source))

    def limit_batches(self, worker_bytes: float) -> None:
        """Bound the samples of a batch by the memory of the worker that has least, in bytes."""
        self._n_bytes = max(1, min(self._n_bytes, int(worker_bytes * _BATCH_SHARE)))

    def shrink_batches(self) -> None:
        """Make batches smaller from now on: a worker has run short of memory."""
        self._n_bytes = max(1, self._n_bytes // 2)

    def pieces(self, job: Job, batch: StepBatch) -> list[StepBatch]:
        """Return a batch in four, or as it is where its samples are too few to fill a worker."""
        layout = job.layouts[batch.source]
        samples = layout.samples(batch.start, batch.stop)
        if 4 * samples * layout.nbytes_per_sample < self._n_bytes:
            return [batch]
        extractor = self.extractors[batch.features[0]]
        block = extractor.steps_per_block(extractor.params)
        return [part for half in halves(batch, block) for part in halves(half, block)]

    def bytes_in_flight(self, job: Job) -> float:
        """Return about how much memory an experiment takes until it is written, in bytes.

        Its results twice, as arrays and as the table that is written.  Before one experiment has
        shown how many bytes that is for a row, they are taken to be as large as the samples.
        """
        if self._bytes_per_row is not None:
            return 2 * self._bytes_per_row * max(job.task.n_steps.values(), default=0)
        return float(sum(x.nbytes_per_sample * x.samples() for x in job.layouts.values()))

    def batch_done(self, event: Mapping[str, Any]) -> None:
        """Take a batch into account that was announced: what one process would have needed."""
        if event["kind"] == "batch":
            self._resolve(event)
            rows = [self.features[name] for name in event["features"] if name in self.features]
            per_step = sum(row.predicted_seconds / max(row.n_steps, 1) for row in rows)
            per_step += self._step(event)[1]
            self.alone_done += event["n_steps"] * per_step
            self.n_batches_done += 1

    def _resolve(self, event: Mapping[str, Any]) -> None:
        """Replace the lower bound of a cost as soon as something tells how much it is."""
        (name, *others) = event["features"]
        length, _ = self._step(event)
        row = self.features.get(name)
        if others or not self.timings.is_bound(name) or not length or row is None:
            return
        cost = event["seconds"] / max(event["n_steps"] * length, 1.0)
        self.timings.settle(name, cost)
        row.predicted_seconds = cost * row.n_samples
        row.at_least = False

    def _step(self, event: Mapping[str, Any]) -> tuple[float, float]:
        """Return the length of a typical step of what an event tells of, and the time to read it.

        Of an experiment that was never planned, both are 0.
        """
        return self._steps.get((event["experiment_id"], event["source"]), (0.0, 0.0))

    def _count(self, job: Job, sign: int) -> None:
        for key, amount in self._load(job).items():
            self._left[key] += sign * amount
        self._items += sign * self._items_of(job)
        self._n_left += sign

    def _load(self, job: Job) -> dict[tuple[str, float], float]:
        load: defaultdict[tuple[str, float], float] = defaultdict(float)
        for (source, _), names in self.groups(job).items():
            # A few classes of lengths, however many experiments there are.
            length = 2.0 ** int(math.log2(max(_length(job, source), 1.0)))
            layout = job.layouts[source]
            for name in names:
                load[name, length] += layout.samples(job.first.get(name, 0))
            first = min(job.first.get(name, 0) for name in names)
            load[f"read {source}", length] += layout.samples(first)
        rows = max(job.task.n_steps.values(), default=0) if job.task else 0
        load["write", float(rows)] += rows
        return load

    def _items_of(self, job: Job) -> int:
        return sum(
            -(-(job.layouts[source].n_steps - job.first.get(name, 0)) // block)
            for (source, block), names in self.groups(job).items()
            for name in names
        )


def _length(job: Job, source: str) -> float:
    """Return the samples of a typical step."""
    layout = job.layouts[source]
    return layout.samples() / max(layout.n_steps, 1)
