"""Chooses batches for one experiment after the other, and learns from those that are done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from distributed import Client, KilledWorker

from oectflow.extractors.base import BaseExtractor
from oectflow.pipeline.execution.costs import CostBook, measure_costs
from oectflow.pipeline.execution.plan import (
    FeatureCost,
    Granularity,
    plan_batches,
    total_seconds,
)
from oectflow.pipeline.execution.prepare import Job
from oectflow.pipeline.execution.report import ExperimentRecord, FeaturePlan

#: Assumed for a feature that could not be timed; its order of magnitude is that of a cheap kernel.
UNKNOWN_SECONDS_PER_SAMPLE = 1e-7


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
    n_workers
        Workers that share the run.
    granularity
        As in :func:`oectflow.extract`.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        extractors: Mapping[str, BaseExtractor],
        book: CostBook,
        n_workers: int,
        granularity: Granularity,
    ) -> None:
        self._jobs = jobs
        self._extractors = extractors
        self._book = book
        self._n_workers = n_workers
        self._granularity = granularity
        self.features: dict[str, FeaturePlan] = {}
        # Samples of the whole run by feature; summed once, since there may be many experiments.
        self._samples: dict[str, float] = {}
        for job in jobs:
            for name in job.missing:
                layout = job.layouts.get(extractors[name].source)
                if layout is not None:
                    total = self._samples.get(name, 0.0) + float(layout.lengths.sum())
                    self._samples[name] = total

    def time_unknown(self, client: Client | None) -> None:
        """Time the features that nothing is known of, on a step of the first experiment with any.

        Parameters
        ----------
        client
            Where to do it: an extractor that brings its process down must not take the notebook
            with it.  Without a client there is no other process.
        """
        if self._granularity != "auto":
            return
        for job in self._jobs:
            unknown = {
                name: self._extractors[name]
                for name in job.missing
                if self._book.get(name) is None and self._extractors[name].source in job.layouts
            }
            if not unknown:
                continue
            if client is None:
                costs = measure_costs(job.task.path, unknown)
            else:
                future = client.submit(measure_costs, job.task.path, unknown, pure=False)
                try:
                    costs = future.result()
                except KilledWorker:
                    # The extractor to blame is found when the steps are computed.
                    return
            for name, cost in costs.items():
                self._book.learn(name, cost)

    def plan(self, job: Job) -> None:
        """Fill in the batches of an experiment, with what is known now."""
        costs = self._costs(job)
        run_seconds = sum(self._cost(name) * n for name, n in self._samples.items())
        job.batches = plan_batches(
            job.layouts,
            costs,
            granularity=self._granularity,
            n_workers=self._n_workers,
            run_seconds=run_seconds,
        )
        for cost in costs:
            if cost.source not in job.layouts:
                continue
            timed = self._book.get(cost.name) is not None
            row = self.features.setdefault(cost.name, FeaturePlan(cost.name, timed))
            row.n_steps += job.layouts[cost.source].n_steps
            row.n_tasks += sum(cost.name in batch.features for batch in job.batches)
            row.predicted_seconds += total_seconds(job.layouts, [cost])

    def learn(self, job: Job, record: ExperimentRecord) -> None:
        """Take the measured times of a finished experiment into account."""
        for name, seconds in record.seconds.items():
            samples = int(job.layouts[self._extractors[name].source].lengths.sum())
            if samples:
                self._book.learn(name, seconds / samples)
            self.features[name].actual_seconds += seconds

    def _costs(self, job: Job) -> list[FeatureCost]:
        return [
            FeatureCost(
                name,
                extractor.source,
                self._cost(name),
                extractor.steps_per_block(extractor.params),
            )
            for name in job.missing
            for extractor in [self._extractors[name]]
        ]

    def _cost(self, feature: str) -> float:
        return self._book.get(feature) or UNKNOWN_SECONDS_PER_SAMPLE
