"""From logical tasks to batches: which steps and features run together as one Dask task.

A logical task is (experiment, feature, step).  One Dask task each would be exact and slow: the
scheduler and the worker spend some milliseconds on every task, whatever it does.  So steps and
features are batched.  How long a batch should take is decided elsewhere
(:mod:`~oectflow.pipeline.execution.planning.decide`); which steps and features that are, here.

Everything here is pure: metadata in, batches out; no Dask, no file is opened.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from oectflow.errors import ConfigError, did_you_mean
from oectflow.pipeline.inputs.step_layout import Layout

#: Samples of one batch held by a worker; eight features and their temporaries fit beside it.
BATCH_BYTES = 64 * 2**20
#: Sums of as many costs as there are steps are rounded by less than this.
_ROUNDING = 1e-9
#: Batches that are too long by this share are better than one more of them.
_TOO_LONG = 0.01
_NAMES_SHOWN = 3

Granularity = Literal["auto", "step", "experiment"] | int
#: Of a task: label and submission, experiment, first step, and its number of logical tasks.
Key = tuple[str, str, int, int]


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
    first
        Steps before this one are computed already.
    """

    name: str
    source: str
    seconds_per_sample: float
    block: int = 1
    first: int = 0


@dataclass(frozen=True)
class StepBatch:
    """One Dask task: these features of these steps of one source.

    Attributes
    ----------
    source, start, stop, features
        Which.
    urgency
        Above zero where it takes longer than a batch should and cannot be divided, and one more
        where it takes twice as long: the sooner a long task begins, the less others wait for it in
        the end.
    """

    source: str
    start: int
    stop: int
    features: tuple[str, ...]
    urgency: int = 0

    @property
    def steps(self) -> tuple[str, int, int]:
        """Source, first step, and the one behind the last."""
        return self.source, self.start, self.stop

    @property
    def n_logical(self) -> int:
        """Number of logical tasks (feature, step) in the batch."""
        return (self.stop - self.start) * len(self.features)

    @property
    def label(self) -> str:
        """What the dashboard shows for it."""
        return label_of(self.features)


def label_of(features: Sequence[str]) -> str:
    """Return what the dashboard shows for a task: the features' names, if need be shortened."""
    shown = "+".join(features[:_NAMES_SHOWN])
    hidden = len(features) - _NAMES_SHOWN
    return f"{shown}+{hidden}more" if hidden > 0 else shown


def check_granularity(granularity: Granularity) -> None:
    """Raise ConfigError unless this is ``"auto"``, ``"step"``, ``"experiment"`` or a count."""
    words = ("auto", "step", "experiment")
    if isinstance(granularity, str) and granularity not in words:
        raise ConfigError(f"granularity={granularity!r}{did_you_mean(granularity, words)}")
    if not isinstance(granularity, str) and (
        isinstance(granularity, bool) or int(granularity) != granularity or granularity < 1
    ):
        raise ConfigError(f"granularity={granularity!r}: steps per task must be a whole number ≥ 1")


def plan_batches(
    layouts: Mapping[str, Layout],
    features: Sequence[FeatureCost],
    *,
    granularity: Granularity = "auto",
    seconds: float = math.inf,
    reading: Mapping[str, float] | None = None,
    n_bytes: int = BATCH_BYTES,
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
        as take ``seconds``, bounded by memory, starting at chunk borders where these are near;
        features that are too long for that are divided among several batches.
    seconds
        How long a batch should take, > 0.
    reading
        By source, what it takes to read a sample, in s.
    n_bytes
        Samples that a batch may hold, in bytes, unless a single step has more.

    Returns
    -------
    Every (feature, step) exactly once, in the order of steps.
    """
    check_granularity(granularity)
    batches = []
    for source, layout in layouts.items():
        wanted = [feature for feature in features if feature.source == source]
        for key in sorted({(feature.block, feature.first) for feature in wanted}):
            together = [f for f in wanted if (f.block, f.first) == key]
            if granularity == "auto":
                read = (reading or {}).get(source, 0.0)
                batches += _auto(source, layout, together, seconds, read, n_bytes)
            else:
                batches += _forced(source, layout, together, granularity)
    return batches


def batches_of(key: Key, batches: Sequence[StepBatch]) -> list[StepBatch]:
    """Return the batches that a task computes, or reads for; none for the tasks at the end."""
    label, _, start, size = key
    label = label.rpartition("-")[0]
    return [
        batch
        for batch in batches
        if (label, start, size)
        in (
            (batch.label, batch.start, batch.n_logical),
            (f"read-{batch.source}", batch.start, batch.stop),
        )
    ]


def _forced(
    source: str, layout: Layout, features: Sequence[FeatureCost], granularity: Granularity
) -> list[StepBatch]:
    """Divide the steps of one source as the caller wants it."""
    block, first = features[0].block, features[0].first
    sizes = {"step": 1, "experiment": max(1, layout.n_steps)}
    wanted = sizes[granularity] if isinstance(granularity, str) else granularity
    size = math.ceil(wanted / block) * block
    names = tuple(feature.name for feature in features)
    groups = [(name,) for name in names] if granularity == "step" else [names]
    return [
        StepBatch(source, start, min(start + size, layout.n_steps), group)
        for start in range(first, layout.n_steps, size)
        for group in groups
    ]


def _auto(
    source: str,
    layout: Layout,
    features: Sequence[FeatureCost],
    seconds: float,
    reading: float,
    n_bytes: int,
) -> list[StepBatch]:
    """Divide the steps of one source by time and memory, for features with the same blocks."""
    batches = []
    for start, stop in _ranges(layout, features, seconds, reading, n_bytes):
        samples = layout.samples(start, stop)
        groups = [list(features)]
        if stop - start <= features[0].block:
            # Nothing else is left to divide.
            groups = _bundles(features, samples, seconds)
        for group in groups:
            takes = samples * sum(feature.seconds_per_sample for feature in group)
            names = tuple(feature.name for feature in group)
            is_long = len(group) == 1 and stop - start <= group[0].block and takes > seconds
            urgency = 1 + int(math.log2(takes / seconds)) if is_long else 0
            batches.append(StepBatch(source, start, stop, names, urgency))
    return batches


def halves(batch: StepBatch, block: int) -> list[StepBatch]:
    """Divide a batch in two; one that is a single block, or step, is returned as it is."""
    middle = batch.start + (batch.stop - batch.start + 1) // 2
    middle = min(batch.start + math.ceil((middle - batch.start) / block) * block, batch.stop)
    if middle >= batch.stop:
        return [batch]
    return [
        StepBatch(batch.source, start, stop, batch.features)
        for start, stop in ((batch.start, middle), (middle, batch.stop))
    ]


def _ranges(
    layout: Layout,
    features: Sequence[FeatureCost],
    seconds: float,
    reading: float,
    n_bytes: int,
) -> list[tuple[int, int]]:
    """Cut the steps into equal batches, none of them too long or too large.

    Equal, and no more than it takes: where two workers have three batches, one of them waits.
    """
    block, start = features[0].block, features[0].first
    cost = (reading + sum(feature.seconds_per_sample for feature in features)) * layout.lengths
    size = layout.nbytes_per_sample * layout.lengths
    # A batch is full when either share reaches 1.
    filled = _running(np.maximum(cost / seconds, size / n_bytes))
    stored, spent = _running(size), _running(cost)
    ranges: list[tuple[int, int]] = []
    n_left = 0
    while start < layout.n_steps:
        left = float(filled[-1] - filled[start])
        if n_left < 1:
            n_left = max(1, math.ceil(left * (1 - _TOO_LONG)))
        full = filled[start] + left / n_left * (1 + _ROUNDING)
        stop = int(np.searchsorted(filled, full, side="right")) - 1
        stop = min(max(stop, start + 1), layout.n_steps)
        stop = _at_border(layout, start, stop, spent, reading)
        room = stored[start] + n_bytes * (1 + _ROUNDING)
        stop = min(stop, max(int(np.searchsorted(stored, room, side="right")) - 1, start + 1))
        if block > 1:
            stop = min(start + max(1, (stop - start) // block) * block, layout.n_steps)
        ranges.append((start, stop))
        start = stop
        n_left -= 1
    return ranges


def _at_border(
    layout: Layout, start: int, stop: int, cost: NDArray[np.float64], reading: float
) -> int:
    """Move the end of a batch to a chunk border, if that saves more than it shifts.

    Beyond a border, two batches read the chunk in which the second one begins.
    """
    at = int(np.searchsorted(layout.borders, stop, side="right"))
    if stop == layout.n_steps or at == len(layout.borders):
        return stop
    below, above = int(layout.borders[at - 1]), int(layout.borders[at])
    saved = reading * layout.samples(below, above)
    shift, border = min((abs(cost[b] - cost[stop]), b) for b in (below, above))
    return border if border > start and shift <= saved else stop


def _running(amounts: NDArray[Any]) -> NDArray[np.float64]:
    return np.concatenate([[0.0], np.cumsum(amounts)])


def _bundles(
    features: Sequence[FeatureCost], samples: float, seconds: float
) -> list[list[FeatureCost]]:
    """Put features together, in order, until a bundle takes ``seconds``."""
    bundles: list[list[FeatureCost]] = []
    filled = 0.0
    for feature in features:
        cost = feature.seconds_per_sample * samples
        if not bundles or filled + cost > seconds * (1 + _ROUNDING):
            bundles.append([])
            filled = 0.0
        bundles[-1].append(feature)
        filled += cost
    return bundles
