"""Counts for the page on the dashboard, made from the events of a run.

This module and :mod:`oectflow.cluster.dashboard` are sent to the scheduler by value, so a scheduler
needs no oectflow.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

#: Topics of our runs begin with this; the rest names the run.
TOPIC_PREFIX = "oectflow-"


@dataclass
class ExperimentRow:
    """One experiment of a run.

    Attributes
    ----------
    experiment_id, run
        Which.
    n_steps, n_logical
        Number of its steps, and of its (feature, step) pairs to compute.
    state
        ``"waiting"``, ``"running"``, then ``"done"``, ``"flagged"`` or ``"failed"``.
    logical_done, n_errors
        Number of pairs computed, and of pairs in which an extractor raised an error.
    n_flagged, n_failed
        Steps, known when the experiment is written.
    seconds
        Time spent in extractors by all workers together, in s.
    bytes_computed, bytes_written
        Size in memory of the computed values, and size of the Parquet file.
    entered, last_event
        Time since the epoch, in s.
    """

    experiment_id: str
    run: str
    n_steps: int = 0
    n_logical: int = 0
    state: str = "waiting"
    logical_done: int = 0
    n_errors: int = 0
    n_flagged: int = 0
    n_failed: int = 0
    seconds: float = 0.0
    bytes_computed: int = 0
    bytes_written: int = 0
    entered: float = 0.0
    last_event: float = 0.0

    @property
    def open(self) -> bool:
        """Whether the experiment has not been written yet."""
        return self.state in ("waiting", "running")

    @property
    def steps_done(self) -> float:
        """Steps done; a step with half of its features computed counts half."""
        if not self.open:
            return float(self.n_steps)
        share = min(1.0, self.logical_done / self.n_logical) if self.n_logical else 0.0
        return share * self.n_steps

    @property
    def per_cent(self) -> int:
        """Share done in %: 0 only if nothing is done, and 100 only if everything is done."""
        if not (self.n_steps and self.steps_done):
            return 0
        if self.steps_done >= self.n_steps:
            return 100
        return min(max(round(100 * self.steps_done / self.n_steps), 1), 99)


@dataclass
class RunTotals:
    """One run: its work at the start, and its progress.

    Attributes
    ----------
    n_experiments, n_steps
        Experiments and steps without results when the cluster begins to work; 0 if unknown.
    outcomes
        Finished experiments, by outcome.
    steps_over
        Steps of the finished experiments.
    n_errors
        Number of (feature, step) pairs in which an extractor raised an error.
    """

    n_experiments: int = 0
    n_steps: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    steps_over: int = 0
    n_errors: int = 0


@dataclass(frozen=True)
class BatchDot:
    """One batch: when it ended (s since the epoch), its label, and how long it took (s)."""

    ended: float
    source: str
    features: str
    n_steps: int
    seconds: float


@dataclass
class RunCounters:
    """Counts events in bounded memory.

    Parameters
    ----------
    n_rows
        How many experiments are kept: the open ones, and the last ones of the others.
    bin_seconds, n_bins
        Length in s and number of the intervals in which throughput is counted.
    n_dots
        How many batches are kept.
    n_runs
        How many runs are kept; older ones are dropped.
    sources
        Kinds of measurement.
    clock
        Tells the time since the epoch in s.
    """

    n_rows: int = 100
    bin_seconds: float = 2.0
    n_bins: int = 300
    n_dots: int = 1000
    n_runs: int = 10
    sources: tuple[str, ...] = ("transfer", "transient")
    clock: Callable[[], float] = time.time
    rows: OrderedDict[tuple[str, str], ExperimentRow] = field(default_factory=OrderedDict)
    runs: OrderedDict[str, RunTotals] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        #: Begin of the interval (s since the epoch) and steps done in it, by feature.
        self.bins: deque[tuple[float, Counter[str]]] = deque(maxlen=self.n_bins)
        self.dots: deque[BatchDot] = deque(maxlen=self.n_dots)

    def event(self, topic: str, event: Any) -> None:
        """Count an event of a topic; topics of others are ignored."""
        if not topic.startswith(TOPIC_PREFIX) or not isinstance(event, Mapping):
            return
        run = topic.removeprefix(TOPIC_PREFIX)
        kind = event.get("kind", "")
        if kind == "begun":
            self._begun(run, event)
        elif kind == "entered":
            for one in event["experiments"]:
                self._count(run, one, self._entered)
        elif kind in ("batch", "written"):
            self._count(run, event, self._batch if kind == "batch" else self._written)

    def _count(
        self,
        run: str,
        event: Mapping[str, Any],
        count: Callable[[ExperimentRow, Mapping[str, Any], float], None],
    ) -> None:
        now = self.clock()
        key = (run, event["experiment_id"])
        row = self.rows.get(key)
        if row is None:
            row = self.rows[key] = ExperimentRow(event["experiment_id"], run, entered=now)
        row.last_event = now
        count(row, event, now)
        self._forget()

    def _begun(self, run: str, event: Mapping[str, Any]) -> None:
        totals = self._totals(run)
        totals.n_experiments, totals.n_steps = event["n_experiments"], event["n_steps"]

    def _totals(self, run: str) -> RunTotals:
        totals = self.runs.setdefault(run, RunTotals())
        while len(self.runs) > self.n_runs:
            self.runs.popitem(last=False)
        return totals

    def steps_done(self, run: str) -> int:
        """Return the number of steps of a run that are done; open experiments count in part."""
        rows = [row for (its, _), row in self.rows.items() if its == run and row.open]
        return self.runs[run].steps_over + int(sum(row.steps_done for row in rows))

    def n_open(self, run: str) -> int:
        """Return the number of experiments of a run that workers have started but not finished."""
        return sum(row.open for (its, _), row in self.rows.items() if its == run)

    def _entered(self, row: ExperimentRow, event: Mapping[str, Any], now: float) -> None:
        # An experiment that is tried again enters again, and starts from nothing.
        row.state, row.logical_done, row.entered = "waiting", 0, now
        row.n_steps, row.n_logical = event["n_steps"], event["n_logical"]

    def _batch(self, row: ExperimentRow, event: Mapping[str, Any], now: float) -> None:
        # A batch is announced after the end where Dask computes it again for a lost worker.
        if row.open:
            row.state = "running"
        row.logical_done += event["n_logical"]
        row.n_errors += event["n_errors"]
        row.seconds += event["seconds"]
        row.bytes_computed += event["bytes"]
        self._totals(row.run).n_errors += event["n_errors"]
        begin = now - now % self.bin_seconds
        if not self.bins or self.bins[-1][0] < begin:
            self.bins.append((begin, Counter()))
        for feature in event["features"]:
            self.bins[-1][1][feature] += event["n_steps"]
        self.dots.append(
            BatchDot(
                now,
                event["source"],
                ", ".join(event["features"]),
                event["n_steps"],
                event["seconds"],
            )
        )

    def _written(self, row: ExperimentRow, event: Mapping[str, Any], now: float) -> None:  # noqa: ARG002 - one signature for all kinds
        if row.open:
            totals = self._totals(row.run)
            totals.outcomes[event["outcome"]] += 1
            totals.steps_over += event["n_steps"]
        row.state = event["outcome"]
        row.n_steps = event["n_steps"]
        row.n_flagged, row.n_failed = event["n_flagged"], event["n_failed"]
        row.bytes_written = event["bytes"]

    def _forget(self) -> None:
        """Drop the oldest experiments that are over, then the oldest of all."""
        if len(self.rows) <= self.n_rows:
            return
        for key in [key for key, row in self.rows.items() if not row.open]:
            if len(self.rows) <= self.n_rows:
                return
            del self.rows[key]
        while len(self.rows) > 10 * self.n_rows:
            self.rows.popitem(last=False)

    def newest_first(self) -> list[ExperimentRow]:
        """Return the open experiments, then the finished ones, the newest first."""
        rows = sorted(self.rows.values(), key=lambda row: row.last_event, reverse=True)
        return sorted(rows, key=lambda row: not row.open)

    def throughput(self, n_named: int) -> tuple[list[float], dict[str, list[float]]]:
        """Return steps per second over time.

        Parameters
        ----------
        n_named
            How many features are named: those with most steps.  The others are combined into one.

        Returns
        -------
        Begin of the intervals, without a gap, in s since the epoch; and for each feature, steps/s
        in each interval.  The unfinished interval is left out.
        """
        now = self.clock()
        counted = {begin: steps for begin, steps in self.bins if begin + self.bin_seconds <= now}
        if not counted:
            return [], {}
        total: Counter[str] = sum(counted.values(), Counter())
        names = [name for name, _ in total.most_common(n_named)]
        n = min(
            self.n_bins, round((now - now % self.bin_seconds - min(counted)) / self.bin_seconds)
        )
        last = now - now % self.bin_seconds - self.bin_seconds
        begins = [last - self.bin_seconds * k for k in reversed(range(n))]
        # Added up, the beginnings of intervals differ in their last digits.
        nearest = {round(begin / self.bin_seconds): steps for begin, steps in counted.items()}
        per_bin = [nearest.get(round(begin / self.bin_seconds), Counter()) for begin in begins]
        rates = {name: [steps[name] / self.bin_seconds for steps in per_bin] for name in names}
        n_others = len(total) - len(names)
        if n_others:
            rates[f"{n_others} more"] = [
                (steps.total() - sum(steps[name] for name in names)) / self.bin_seconds
                for steps in per_bin
            ]
        return begins, rates
