"""What happened in a run: one record per experiment, and their sum."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Literal

from oectflow.pipeline.outputs.sink import Problem

if TYPE_CHECKING:
    import pandas as pd

#: ``done``: written, every value is good.  ``flagged``: written, some values carry a status word.
#: ``failed``: some logical tasks raised, or nothing could be written.  ``unchanged``: an earlier
#: run had computed everything.
Outcome = Literal["done", "flagged", "failed", "unchanged"]
_SHOWN_FAILURES = 10


@dataclass(frozen=True)
class ExperimentRecord:
    """What became of one experiment.

    Attributes
    ----------
    experiment_id, path
        Which one.
    outcome
        ``"done"``, ``"flagged"``, ``"failed"`` or ``"unchanged"``.
    reason
        Why it failed, else ``""``.
    out_path
        Its Parquet file; ``""`` where none was written.
    n_steps, n_flagged, n_failed
        Rows of the file; those in which a feature has a status word other than ``ok`` and
        ``absent``; those in which a feature raised.
    computed, reused
        Names of the features that were computed now, and of those kept from an earlier run.
    n_bytes
        Size of the Parquet file.
    seconds
        Worker time by feature, of those that were computed now.
    problems
        The first problems.
    finished
        Seconds from the begin of the run until it was written or had failed; NaN where there was
        nothing to do.
    """

    experiment_id: str
    path: str
    outcome: Outcome
    reason: str = ""
    out_path: str = ""
    n_steps: int = 0
    n_flagged: int = 0
    n_failed: int = 0
    computed: tuple[str, ...] = ()
    reused: tuple[str, ...] = ()
    n_bytes: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    finished: float = math.nan


@dataclass
class FeaturePlan:
    """What was planned for a feature and what became of it, over the whole run.

    Attributes
    ----------
    feature
        Its name.
    timed
        Whether its cost was known from a measurement.
    n_steps, n_tasks
        Steps to compute, and Dask tasks that they were divided into.
    predicted_seconds, actual_seconds
        Worker time.
    """

    feature: str
    timed: bool
    n_steps: int = 0
    n_tasks: int = 0
    predicted_seconds: float = 0.0
    actual_seconds: float = 0.0


@dataclass(frozen=True, repr=False)
class RunReport:
    """What a run did.

    Attributes
    ----------
    experiments
        One record each, in the order in which they were given.
    seconds
        Wall time of the run.
    out
        Folder of the results.
    plan
        What was planned for each feature, and what it took.
    """

    experiments: Sequence[ExperimentRecord]
    seconds: float
    out: str
    plan: Sequence[FeaturePlan] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.failed

    @property
    def failed(self) -> list[ExperimentRecord]:
        """The experiments in which something failed."""
        return [record for record in self.experiments if record.outcome == "failed"]

    @property
    def counts(self) -> dict[str, int]:
        """Number of experiments by outcome."""
        return dict(Counter(record.outcome for record in self.experiments))

    @property
    def n_bytes(self) -> int:
        """Bytes of all result files of this run."""
        return sum(record.n_bytes for record in self.experiments)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per experiment."""
        import pandas as pd

        return pd.DataFrame([vars(record) for record in self.experiments]).drop(
            columns="problems", errors="ignore"
        )

    def problems_frame(self) -> pd.DataFrame:
        """Return the first problems of every experiment, one row each."""
        import pandas as pd

        rows = [
            {"experiment_id": record.experiment_id} | vars(problem)
            for record in self.experiments
            for problem in record.problems
        ]
        columns = ["experiment_id", *Problem.__dataclass_fields__]
        return pd.DataFrame(rows, columns=columns)

    def summary(self) -> str:
        """Return the run in a few lines of text."""
        records = self.experiments
        lines = []
        if records and all(record.outcome == "unchanged" for record in records):
            lines.append(f"nothing to do: {len(records)} experiments unchanged since the last run")
        else:
            words = ", ".join(f"{n} {word}" for word, n in sorted(self.counts.items()))
            lines.append(f"{len(records)} experiments: {words}")
        steps = sum(record.n_steps for record in records)
        if steps:
            flagged = sum(record.n_flagged for record in records)
            failed = sum(record.n_failed for record in records)
            good = steps - flagged - failed
            lines.append(f"{steps:,} steps: {good:,} done, {flagged:,} flagged, {failed:,} failed")
        lines += [f"failed: {record.reason}" for record in self.failed[:_SHOWN_FAILURES]]
        if len(self.failed) > _SHOWN_FAILURES:
            lines.append(f"… and {len(self.failed) - _SHOWN_FAILURES} more")
        lines.append(f"{self.seconds:.1f} s, {self.n_bytes / 1e6:.2f} MB in {self.out}")
        return "\n".join(lines)

    def explain(self) -> str:
        """Return a table: for each feature the cost, the batches, and predicted and actual time."""
        lines = [
            f"{'feature':24} {'steps':>8} {'tasks':>7} {'steps/task':>10} "
            f"{'µs/step':>9} {'predicted':>10} {'actual':>10}"
        ]
        for row in self.plan:
            per_step = 1e6 * row.actual_seconds / row.n_steps if row.n_steps else 0.0
            predicted = f"{row.predicted_seconds:.3g} s" if row.timed else "unknown"
            lines.append(
                f"{row.feature:24} {row.n_steps:8,} {row.n_tasks:7,} "
                f"{row.n_steps / max(1, row.n_tasks):10.1f} {per_step:9.1f} "
                f"{predicted:>10} {row.actual_seconds:8.3g} s"
            )
        return "\n".join(lines)

    def __repr__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        return f"<pre>{escape(self.summary())}</pre>"
