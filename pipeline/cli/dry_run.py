"""What ``extract`` would do, found out without computing or writing anything."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oectflow.pipeline.execution.plan import Granularity
    from oectflow.pipeline.features.feature_set import FeatureSet


@dataclass(frozen=True)
class DryRun:
    """A plan.

    Attributes
    ----------
    n_to_compute, n_unchanged
        Experiments of which something is missing; of which nothing is.
    failed
        Reasons why experiments cannot be used.
    features
        By feature its ``steps``, ``tasks`` and ``seconds`` of worker time; None where it was never
        timed.
    """

    n_to_compute: int
    n_unchanged: int
    failed: list[str]
    features: dict[str, dict[str, Any]]

    def __str__(self) -> str:
        lines = [
            f"{self.n_to_compute:,} experiments to compute, {self.n_unchanged:,} unchanged, "
            f"{len(self.failed):,} cannot be used"
        ]
        if self.features:
            lines.append(f"{'feature':24} {'steps':>10} {'tasks':>8} {'worker time':>14}")
        for name, row in self.features.items():
            seconds = "not known yet" if row["seconds"] is None else f"{row['seconds']:.3g} s"
            lines.append(f"{name:24} {row['steps']:>10,} {row['tasks']:>8,} {seconds:>14}")
        return "\n".join([*lines, *(f"cannot be used: {reason}" for reason in self.failed)])


def dry_run(
    paths: Sequence[Path],
    features: FeatureSet,
    out: Path,
    *,
    granularity: Granularity,
    force: bool,
    workers: int | None,
) -> DryRun:
    """Look at every experiment and plan it, as a run would.

    Raises
    ------
    ConfigError
        The granularity is none.
    """
    from oectflow.pipeline.execution.costs import CostBook
    from oectflow.pipeline.execution.planner import Planner
    from oectflow.pipeline.execution.prepare import Job, prepare

    prepared = list(
        prepare(paths, features, out, force=force, expand_multidim=False, topic="dry-run")
    )
    jobs = [item for item in prepared if isinstance(item, Job)]
    records = [item for item in prepared if not isinstance(item, Job)]
    extractors = {f.name: f.extractor for f in features.extracted if f.extractor}
    fingerprints = features.fingerprints()
    book = CostBook(out, {name: fingerprints[name] for name in extractors})
    planner = Planner(jobs, extractors, book, workers or os.cpu_count() or 1, granularity)
    for job in jobs:
        planner.plan(job)
    return DryRun(
        len(jobs),
        sum(record.outcome == "unchanged" for record in records),
        [record.reason for record in records if record.outcome == "failed"],
        {
            row.feature: {
                "steps": row.n_steps,
                "tasks": row.n_tasks,
                "seconds": row.predicted_seconds if row.timed else None,
            }
            for row in planner.features.values()
        },
    )
