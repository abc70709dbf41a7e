"""From logical tasks to batches: which steps and features run together as one Dask task.

A logical task is (experiment, feature, step).  One Dask task each would be exact and slow: the
scheduler and the worker spend some milliseconds on every task, whatever it does.  So steps and
features are batched until a task is long against that cost, yet short enough to keep every worker
busy to the end and memory small.

Everything here is pure: metadata in, batches out; no Dask, no file is opened.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from oectflow.pipeline.errors import ConfigError, did_you_mean
from oectflow.pipeline.inputs.step_layout import Layout

#: A Dask task costs 2–3 ms of its worker.  At 250 ms that is 1 % of the worker's time.
TARGET_SECONDS = 0.25
#: Below 50 ms it would be more than 5 %, and the scheduler, which spends up to 0.9 ms on a task,
#: must not be busy for more than half of the time with the tasks of all workers.
SHORTEST_SECONDS = 0.05
SCHEDULER_SECONDS, SCHEDULER_SHARE = 0.9e-3, 0.5
#: The last tasks of a run should not leave workers idle for more than 5 % of it.
TAIL_SHARE = 0.05
#: Samples of one batch held by a worker; eight features and their temporaries fit beside it.
BATCH_BYTES = 64 * 2**20

Granularity = Literal["auto", "step", "experiment"] | int


@dataclass(frozen=True)
class FeatureCost:
    """One feature to plan for.

    Attributes
    ----------
    name, source
        Its name, and the data it needs.
    seconds_per_sample
        What it costs.
    block
        Its batches begin at multiples of so many steps.
    """

    name: str
    source: str
    seconds_per_sample: float
    block: int = 1


@dataclass(frozen=True)
class StepBatch:
    """One Dask task: these features of these steps of one source."""

    source: str
    start: int
    stop: int
    features: tuple[str, ...]

    @property
    def n_logical(self) -> int:
        """Number of logical tasks (feature, step) in the batch."""
        return (self.stop - self.start) * len(self.features)


def check_granularity(granularity: Granularity) -> None:
    """Raise ConfigError unless this is ``"auto"``, ``"step"``, ``"experiment"`` or a count."""
    words = ("auto", "step", "experiment")
    if isinstance(granularity, str) and granularity not in words:
        raise ConfigError(f"granularity={granularity!r}{did_you_mean(granularity, words)}")
    if not isinstance(granularity, str) and (
        isinstance(granularity, bool) or int(granularity) != granularity or granularity < 1
    ):
        raise ConfigError(f"granularity={granularity!r}: steps per task must be a whole number ≥ 1")


def total_seconds(layouts: Mapping[str, Layout], features: Sequence[FeatureCost]) -> float:
    """Return the estimated worker seconds of all features of one experiment."""
    return sum(
        feature.seconds_per_sample * float(layouts[feature.source].lengths.sum())
        for feature in features
        if feature.source in layouts
    )


def batch_seconds(n_workers: int, run_seconds: float) -> float:
    """Return how long a batch should take.

    Parameters
    ----------
    n_workers
        Workers that share the run.
    run_seconds
        Estimated worker seconds of the whole run.
    """
    shortest = max(SHORTEST_SECONDS, n_workers * SCHEDULER_SECONDS / SCHEDULER_SHARE)
    tail = TAIL_SHARE * run_seconds / n_workers
    return max(min(TARGET_SECONDS, tail), shortest)


def plan_batches(
    layouts: Mapping[str, Layout],
    features: Sequence[FeatureCost],
    *,
    granularity: Granularity = "auto",
    n_workers: int = 1,
    run_seconds: float = math.inf,
) -> list[StepBatch]:
    """Divide the logical tasks of one experiment into batches.

    Parameters
    ----------
    layouts
        The experiment's steps by source; a source that is missing has no steps.
    features
        What to compute.
    granularity
        ``"step"``: one batch for every logical task.  ``"experiment"``: one batch for each source.
        A number: that many steps, all features of the source together.  ``"auto"``: as many steps
        as take :func:`batch_seconds`, bounded by memory, starting at chunk borders; features that
        are too long for that are divided among several batches.
    n_workers
        Workers that share the run.
    run_seconds
        Estimated worker seconds of the whole run.

    Returns
    -------
    Every (feature, step) exactly once, in the order of steps.
    """
    check_granularity(granularity)
    batches = []
    for source, layout in layouts.items():
        wanted = [feature for feature in features if feature.source == source]
        for block in sorted({feature.block for feature in wanted}):
            together = [feature for feature in wanted if feature.block == block]
            batches += _batches(source, layout, together, granularity, n_workers, run_seconds)
    return batches


def _batches(
    source: str,
    layout: Layout,
    features: Sequence[FeatureCost],
    granularity: Granularity,
    n_workers: int,
    run_seconds: float,
) -> list[StepBatch]:
    """Divide the steps of one source for features with blocks of one size."""
    block = features[0].block
    if granularity == "auto":
        ranges = _ranges(layout, features, batch_seconds(n_workers, run_seconds), block)
    else:
        sizes = {"step": 1, "experiment": max(1, layout.n_steps)}
        wanted = sizes[granularity] if isinstance(granularity, str) else granularity
        size = math.ceil(wanted / block) * block
        ranges = [(a, min(a + size, layout.n_steps)) for a in range(0, layout.n_steps, size)]
    batches = []
    for start, stop in ranges:
        if granularity == "step":
            groups = [[feature.name] for feature in features]
        elif granularity == "auto":
            groups = _bundles(features, float(layout.lengths[start:stop].sum()), TARGET_SECONDS)
        else:
            groups = [[feature.name for feature in features]]
        batches += [StepBatch(source, start, stop, tuple(group)) for group in groups]
    return batches


def _ranges(
    layout: Layout, features: Sequence[FeatureCost], seconds: float, block: int
) -> list[tuple[int, int]]:
    """Cut the steps where the work or the memory of a batch is full, at chunk borders if near."""
    cost = sum(feature.seconds_per_sample for feature in features) * layout.lengths
    size = layout.nbytes_per_sample * layout.lengths
    # A batch is full when either share reaches 1.
    share = np.maximum(cost / seconds, size / BATCH_BYTES)
    filled = np.concatenate([[0.0], np.cumsum(share)])
    ranges = []
    start = 0
    while start < layout.n_steps:
        stop = int(np.searchsorted(filled, filled[start] + 1.0, side="right")) - 1
        stop = min(max(stop, start + 1), layout.n_steps)
        border = int(layout.borders[np.searchsorted(layout.borders, stop, side="right") - 1])
        # A border in the second half of the batch is worth a shorter batch; one further back
        # would double the number of tasks.
        if border > start and 2 * (border - start) >= stop - start:
            stop = border
        if block > 1:
            stop = min(start + max(1, (stop - start) // block) * block, layout.n_steps)
        ranges.append((start, stop))
        start = stop
    return ranges


def _bundles(features: Sequence[FeatureCost], samples: float, seconds: float) -> list[list[str]]:
    """Put features together, in order, until a bundle takes ``seconds``."""
    bundles: list[list[str]] = []
    filled = math.inf
    for feature in features:
        cost = feature.seconds_per_sample * samples
        if filled + cost > seconds:
            bundles.append([])
            filled = 0.0
        bundles[-1].append(feature.name)
        filled += cost
    return bundles
