"""Steps that killed a worker are computed in a process of their own, which may die.

The worker starts a child and collects what it sends.  If the child dies, the first logical task
that has not come back is to blame.  It is recorded, and another child goes on behind it.  So one
poisonous step costs one child, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from oectflow.measurement import Batch
from oectflow.pipeline.execution.planning.work import ExperimentTask
from oectflow.pipeline.execution.worker.build_table import Extracted
from oectflow.pipeline.execution.worker.children import collect, serve
from oectflow.pipeline.execution.worker.run_extractor import Steps, run_extractor, step_seconds
from oectflow.pipeline.execution.worker.tasks import (
    NamedExtractor,
    announce,
    compute_batch,
)
from oectflow.pipeline.features.feature import column_name
from oectflow.pipeline.outputs.sink import Problem


def extract_isolated(
    task: ExperimentTask, specs: Sequence[NamedExtractor], source: str, start: int, stop: int
) -> list[Extracted]:
    """Compute features of steps in child processes, each logical task on its own.

    Returns
    -------
    One result per logical task (or block of steps, where a feature carries something from step to
    step).  One that ended its process has NaN, the status ``error`` and a problem that says how the
    process died, or that the step took too long.
    """
    todo = [
        (first, min(first + block, stop), spec)
        for spec in specs
        for block in [spec.extractor.steps_per_block(spec.extractor.params)]
        for first in range(start, stop, block)
    ]
    limits = [
        None if limit is None else limit * (last - first)
        for first, last, spec in todo
        for limit in [step_seconds(spec.extractor, task.step_timeout)]
    ]
    results: list[Extracted] = []
    while len(results) < len(todo):
        n_done = len(results)
        done, cause = collect(f"{__name__}:child", (task, todo[n_done:], source), limits[n_done:])
        results += done
        if cause is not None:
            results.append(_given_up(source, *todo[len(results)], *cause))
    announce(task, *results)
    return results


def _given_up(
    source: str, start: int, stop: int, spec: NamedExtractor, kind: str, reason: str
) -> Extracted:
    n_steps = stop - start
    nothing = Steps(
        source,
        Batch({}, np.zeros(n_steps + 1, np.int64), {}, start),
        dict.fromkeys(range(n_steps), reason),
    )
    columns, _ = run_extractor(spec.extractor, nothing)
    return Extracted(
        source,
        start,
        stop,
        {column_name(spec.name, name): array for name, array in columns.items()},
        tuple(
            Problem(step, source, spec.name, "error", kind, reason) for step in range(start, stop)
        ),
        {spec.name: 0.0},
    )


def child() -> None:
    """Compute what comes in, one logical task after the other."""
    serve(_results)


def _results(
    work: tuple[ExperimentTask, Sequence[tuple[int, int, NamedExtractor]], str],
) -> Iterator[Extracted]:
    task, todo, source = work
    # Whoever has started this process ends it when a step takes too long.
    task = replace(task, step_timeout=None)
    for start, stop, spec in todo:
        yield compute_batch(task, (spec,), source, start, stop)
