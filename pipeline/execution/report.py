"""What happened in a run: one record per experiment, and their sum."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Literal

from oectflow.errors import OutputError
from oectflow.pipeline.execution.planning.run_plan import RunPlan
from oectflow.pipeline.outputs import trouble
from oectflow.pipeline.outputs.sink import Problem, read_problems
from oectflow.place import place

if TYPE_CHECKING:
    import pandas as pd

#: ``done``: written, every value is good.  ``flagged``: written, some values carry a status word.
#: ``failed``: some logical tasks raised, or nothing could be written.  ``unchanged``: an earlier
#: run had computed everything.
Outcome = Literal["done", "flagged", "failed", "unchanged"]
_SHOWN_FAILURES = 10


@dataclass(frozen=True)
class ExperimentRecord:
    """The outcome of one experiment.

    Attributes
    ----------
    experiment_id, path
        Which one.
    outcome
        ``"done"``, ``"flagged"``, ``"failed"`` or ``"unchanged"``.
    reason
        Why it failed, else ``""``.
    out_path
        Its Parquet file; ``""`` if none was written.
    n_steps, n_flagged, n_failed
        Number of rows in the file; of rows in which a feature has a status word other than ``ok``
        and ``absent``; and of rows in which a feature raised an error.
    computed, reused
        Names of the features computed in this run, and of those kept from an earlier run.
    kept_steps
        For each feature, how many of its first steps were kept from an earlier run.  This happens
        when the raw file has grown at its end.
    dropped
        Features of an earlier run that were not requested and could not be kept, and why.
    n_bytes
        Size of the Parquet file.
    seconds
        Worker time of each feature that was computed in this run.
    reading, finishing
        Worker time for reading the raw file, and for assembling and writing the results, in s.
    n_bytes_in_memory
        Bytes of the results as arrays.
    flags
        Every status word of a feature except ``ok`` and ``absent``, with the number of values.
    problems, n_problems
        The first problems, and how many there are.
    warnings
        Contradictions that did not stop anything, such as a table of samples that differs from the
        raw file.
    content_hash
        Hash of the raw file that was used; ``""`` if it could not be read or has changed.
    finished
        Seconds from the start of the run until the result was written or had failed; NaN if there
        was nothing to do.
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
    kept_steps: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[str, str] = field(default_factory=dict)
    n_bytes: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    reading: float = 0.0
    finishing: float = 0.0
    n_bytes_in_memory: int = 0
    flags: tuple[trouble.Flag, ...] = ()
    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()
    n_problems: int = 0
    content_hash: str = ""
    finished: float = math.nan

    def all_problems(self) -> Sequence[Problem]:
        """Return all problems; if there are more than listed here, read them from the results.

        Raises
        ------
        OutputError
            The results are gone.
        """
        if len(self.problems) >= self.n_problems:
            return self.problems
        path = place(self.out_path)
        if not path.exists():
            raise OutputError(f"{path}: is gone, and with it {self.n_problems} problems")
        return read_problems(path)


def _n(number: int, noun: str) -> str:
    """Return a number and what it counts: ``1 step``, ``1,200 steps``."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def dropped_lines(experiments: Iterable[Mapping[str, str]]) -> list[str]:
    """Return a line for every feature that cannot be kept in the results of some experiments.

    >>> dropped_lines([{"tau_ms": "its input 'tau' is computed anew"}, {}])
    ["not kept: tau_ms of 1 experiment: its input 'tau' is computed anew; ask for it again"]
    """
    counts = Counter(item for dropped in experiments for item in dropped.items())
    return [
        f"not kept: {name} of {_n(n, 'experiment')}: {why}; ask for it again"
        for (name, why), n in counts.items()
    ]


@dataclass(frozen=True, repr=False)
class RunReport:
    """The outcome of a run.

    Attributes
    ----------
    experiments
        One record for each experiment, in the order in which they were given.
    seconds
        Wall time of the run.
    out
        Folder of the results.
    plan
        The plan, and the time that it took.
    core_seconds
        Cores held for computing, added up over the time for which they were held.
    n_bytes_raw
        Bytes of the raw files from which something was computed.
    """

    experiments: Sequence[ExperimentRecord]
    seconds: float
    out: str
    plan: RunPlan = field(default_factory=RunPlan)
    core_seconds: float = 0.0
    n_bytes_raw: int = 0

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
            columns=["flags", "problems"], errors="ignore"
        )

    @property
    def troubles(self) -> list[trouble.Trouble]:
        """Problems with values, by feature and status word, the most frequent first."""
        return trouble.sum_up((record.experiment_id, record.flags) for record in self.experiments)

    def problems_frame(self) -> pd.DataFrame:
        """Return everything that is wrong, as :func:`oectflow.problems_frame` does.

        The table also has a row with the status ``failed`` for every experiment without a result.
        A record keeps only the first problems; further ones are read from the results.
        """
        return trouble.frame(
            (
                record.experiment_id,
                record.all_problems(),
                record.flags,
                record.reason if record.outcome == "failed" and not record.out_path else "",
            )
            for record in self.experiments
        )

    def summary(self) -> str:
        """Return the run in a few lines of text."""
        records = self.experiments
        lines = []
        if records and all(record.outcome == "unchanged" for record in records):
            all_of_them = _n(len(records), "experiment")
            lines.append(f"nothing to do: {all_of_them} unchanged since the last run")
        else:
            words = ", ".join(f"{n} {word}" for word, n in sorted(self.counts.items()))
            lines.append(f"{_n(len(records), 'experiment')}: {words}")
        steps = sum(record.n_steps for record in records)
        if steps:
            flagged = sum(record.n_flagged for record in records)
            failed = sum(record.n_failed for record in records)
            good = steps - flagged - failed
            lines.append(
                f"{_n(steps, 'step')}: {good:,} done, {flagged:,} flagged, {failed:,} failed"
            )
        lines += trouble.lines(self.troubles)
        lines += dropped_lines(record.dropped for record in records)
        lines += [f"damaged, and replaced: {damage}" for damage in self.plan.damaged]
        lines += [f"failed: {record.reason}" for record in self.failed[:_SHOWN_FAILURES]]
        if len(self.failed) > _SHOWN_FAILURES:
            n = len(self.failed) - _SHOWN_FAILURES
            lines.append(f"… and {n} more; all of them: report.failed, or --json")
        warnings = [f"{r.experiment_id}: {one}" for r in records for one in r.warnings]
        lines += [f"warning: {warning}" for warning in warnings[:_SHOWN_FAILURES]]
        if len(warnings) > _SHOWN_FAILURES:
            lines.append(f"… and {len(warnings) - _SHOWN_FAILURES} more warnings")
        lines.append(f"{self.seconds:.1f} s, {self.n_bytes / 1e6:.2f} MB in {self.out}")
        return "\n".join(lines)

    def cost(self, price_per_core_hour: float) -> str:
        """Return the cost of the run as text.

        Parameters
        ----------
        price_per_core_hour
            Price in any currency.  A core costs as long as it is held, even if it does not compute.
        """
        hours = self.core_seconds / 3600.0
        price = hours * price_per_core_hour
        per_TB = f", {1e12 * price / self.n_bytes_raw:.3g} per TB" if self.n_bytes_raw else ""
        return f"cost: {price:.3g} for {hours:.3g} core-hours{per_TB}"

    def explain(self) -> str:
        """Return how the work was done and why, and each feature's predicted and actual time."""
        return self.plan.explain()

    def __repr__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        return f"<pre>{escape(self.summary())}</pre>"
