"""The plan: every logical task exactly once, batches of a sensible size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oectflow.errors import ConfigError
from oectflow.pipeline.execution.planning.batches import (
    BATCH_BYTES,
    FeatureCost,
    StepBatch,
    check_granularity,
    halves,
    plan_batches,
)
from oectflow.pipeline.inputs.step_layout import Layout

SECONDS = 0.25


def layout(samples: list[int], borders: list[int] | None = None, width: int = 24) -> Layout:
    n = len(samples)
    return Layout(n, np.array(samples), np.array(borders or [*range(n + 1)]), width)


@st.composite
def workloads(draw):
    layouts = {}
    for source in ("transfer", "transient"):
        samples = draw(st.lists(st.integers(1, 100_000), max_size=60))
        inner = draw(st.sets(st.integers(1, max(1, len(samples) - 1))))
        borders = sorted({0, len(samples)} | {b for b in inner if b < len(samples)})
        layouts[source] = layout(samples, borders)
    features = [
        FeatureCost(f"f{i}", source, cost)
        for i, (source, cost) in enumerate(
            draw(
                st.lists(
                    st.tuples(st.sampled_from(["transfer", "transient"]), st.floats(0, 1e-2)),
                    max_size=6,
                )
            )
        )
    ]
    granularity = draw(st.sampled_from(["auto", "step", "experiment", 1, 7, 10_000]))
    return layouts, features, granularity, draw(st.floats(1e-6, 100.0))


@given(workloads())
def test_plan__every_logical_task_once(workload):
    layouts, features, granularity, seconds = workload
    batches = plan_batches(layouts, features, granularity=granularity, seconds=seconds)
    planned = [
        (name, step)
        for batch in batches
        for name in batch.features
        for step in range(batch.start, batch.stop)
    ]
    wanted = {(f.name, step) for f in features for step in range(layouts[f.source].n_steps)}
    assert len(planned) == len(set(planned))
    assert set(planned) == wanted
    assert sum(batch.n_logical for batch in batches) == len(wanted)


@pytest.mark.parametrize("granularity", ["auto", "step", "experiment", 7, 64])
def test_plan__features_with_blocks_begin_at_multiples(granularity):
    features = [
        FeatureCost("cached", "transient", 1e-3 / 1000, block=50),
        FeatureCost("peak", "transient", 1e-3 / 1000),
    ]
    batches = plan_batches(
        {"transient": layout([1000] * 1020)}, features, granularity=granularity, seconds=SECONDS
    )
    cached = [batch for batch in batches if "cached" in batch.features]
    assert all(batch.start % 50 == 0 for batch in cached)
    assert all(batch.stop % 50 == 0 for batch in cached[:-1])
    assert [step for b in cached for step in range(b.start, b.stop)] == list(range(1020))
    others = [batch for batch in batches if "peak" in batch.features]
    assert [step for b in others for step in range(b.start, b.stop)] == list(range(1020))


def test_plan__step_is_one_task_per_feature_and_step():
    features = [FeatureCost("a", "transfer", 1e-9), FeatureCost("b", "transfer", 1e-9)]
    batches = plan_batches({"transfer": layout([100] * 5)}, features, granularity="step")
    assert len(batches) == 10
    assert {batch.n_logical for batch in batches} == {1}


def test_plan__cheap_features_share_one_batch():
    features = [FeatureCost(name, "transfer", 1e-8) for name in "abc"]
    batches = plan_batches({"transfer": layout([121] * 5000)}, features, seconds=SECONDS)
    assert [batch.features for batch in batches] == [("a", "b", "c")]


def test_plan__expensive_features_are_divided():
    # 50 ms per step and feature, nine features: 0.45 s per step, more than one batch may take.
    features = [FeatureCost(f"f{i}", "transient", 50e-3 / 1000) for i in range(9)]
    batches = plan_batches({"transient": layout([1000] * 5)}, features, seconds=SECONDS)
    longest = max((batch.stop - batch.start) * len(batch.features) * 50e-3 for batch in batches)
    assert longest <= SECONDS + 1e-12
    # Five features of 50 ms fill 0.25 s, so two tasks per step.
    assert len(batches) == 10


def test_plan__what_is_too_long_and_cannot_be_divided_is_urgent():
    costs = {"short": 0.1, "long": 0.3, "longer": 1.1}
    features = [FeatureCost(name, "transient", cost / 1000) for name, cost in costs.items()]
    batches = plan_batches({"transient": layout([1000] * 3)}, features, seconds=SECONDS)
    # One more for twice as long.
    assert [(b.features, b.urgency) for b in batches if b.start == 1] == [
        (("short",), 0), (("long",), 1), (("longer",), 3),
    ]  # fmt: skip
    together = plan_batches({"transient": layout([1000] * 3)}, features[:1], seconds=SECONDS)
    assert {batch.urgency for batch in together} == {0}


def test_plan__batches_take_about_the_target():
    cost = 1e-3
    features = [FeatureCost("tau", "transient", cost / 10_000)]
    batches = plan_batches(
        {"transient": layout([10_000] * 5000, width=8)}, features, seconds=SECONDS
    )
    # The running sum of costs is rounded, which may move a border by one step.
    for batch in batches[:-1]:
        assert SECONDS - cost <= (batch.stop - batch.start) * cost <= SECONDS


def test_plan__memory_bounds_a_batch_of_cheap_steps():
    features = [FeatureCost("peak", "transient", 1e-12)]
    batches = plan_batches({"transient": layout([1_000_000] * 20, width=24)}, features)
    steps = BATCH_BYTES // 24_000_000
    assert {batch.stop - batch.start for batch in batches} == {steps}


def test_plan__borders_follow_chunks():
    features = [FeatureCost("peak", "transient", 1e-3 / 1000)]
    borders = [*range(0, 1001, 16), 1000]
    layouts = {"transient": layout([1000] * 1000, borders)}
    # Longer to read than to compute: half a chunk off is worth a chunk that is read once.
    batches = plan_batches(layouts, features, seconds=SECONDS, reading={"transient": 1.5e-6})
    assert len(batches) == 10
    assert {batch.start for batch in batches} <= set(borders)
    # Where reading is nothing against computing, batches are equal.
    batches = plan_batches(layouts, features, seconds=SECONDS, reading={"transient": 1e-12})
    assert [batch.stop - batch.start for batch in batches] == [250] * 4


@given(
    st.integers(1, 500),
    st.integers(1, 40),
    st.sampled_from([1e-7, 1e-3, 0.1]),
)
def test_plan__batches_are_equal_and_as_many_as_wanted(n_steps, n_batches, cost):
    n_batches = min(n_steps, n_batches)
    features = [FeatureCost("tau", "transient", cost / 1000)]
    layouts = {"transient": layout([1000] * n_steps)}
    batches = plan_batches(layouts, features, seconds=n_steps * cost / n_batches)
    sizes = [batch.stop - batch.start for batch in batches]
    assert len(batches) == n_batches
    assert max(sizes) - min(sizes) <= 1


def test_plan__reading_counts():
    features = [FeatureCost("peak", "transient", 1e-9)]
    layouts = {"transient": layout([1000] * 100)}
    assert len(plan_batches(layouts, features, seconds=SECONDS)) == 1
    # 6 ms to read a step, 100 steps: 0.6 s, and the feature itself takes 0.1 ms in all.
    reading = {"transient": 6e-3 / 1000}
    assert len(plan_batches(layouts, features, seconds=SECONDS, reading=reading)) == 3


@pytest.mark.parametrize("granularity", ["auto", "step", "experiment", 4])
def test_plan__steps_that_are_computed_are_left_out(granularity):
    features = [
        FeatureCost("cached", "transient", 1e-3 / 1000, block=10, first=20),
        FeatureCost("peak", "transient", 1e-3 / 1000, first=3),
    ]
    layouts = {"transient": layout([1000] * 32)}
    batches = plan_batches(layouts, features, granularity=granularity, seconds=4e-3)
    for name, first in (("cached", 20), ("peak", 3)):
        mine = [batch for batch in batches if name in batch.features]
        assert [step for b in mine for step in range(b.start, b.stop)] == list(range(first, 32))


@pytest.mark.parametrize(
    ("size", "block", "sizes"),
    [
        (10, 1, [5, 5]), (11, 1, [6, 5]), (1, 1, [1]),
        (20, 10, [10, 10]), (25, 10, [20, 5]), (8, 10, [8]),
    ],
)  # fmt: skip
def test_halves(size, block, sizes):
    parts = halves(StepBatch("transient", 40, 40 + size, ("a",)), block)
    assert [part.stop - part.start for part in parts] == sizes
    assert parts[0].start == 40
    assert all((part.start - 40) % block == 0 for part in parts)


@pytest.mark.parametrize("granularity", ["stepp", 0, -1, 2.5, True])
def test_check_granularity__refuses(granularity):
    with pytest.raises(ConfigError, match="granularity="):
        check_granularity(granularity)


def test_check_granularity__names_the_nearest_word():
    with pytest.raises(ConfigError, match="did you mean 'step'"):
        check_granularity("stepp")
