"""The plan: every logical task exactly once, batches of a sensible size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oectflow.pipeline.errors import ConfigError
from oectflow.pipeline.execution.plan import (
    BATCH_BYTES,
    TARGET_SECONDS,
    FeatureCost,
    batch_seconds,
    check_granularity,
    plan_batches,
)
from oectflow.pipeline.inputs.step_layout import Layout


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
    return layouts, features, granularity, draw(st.integers(1, 96))


@given(workloads())
def test_plan__every_logical_task_once(workload):
    layouts, features, granularity, n_workers = workload
    batches = plan_batches(layouts, features, granularity=granularity, n_workers=n_workers)
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
    batches = plan_batches({"transient": layout([1000] * 1020)}, features, granularity=granularity)
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
    batches = plan_batches({"transfer": layout([121] * 5000)}, features)
    assert [batch.features for batch in batches] == [("a", "b", "c")]


def test_plan__expensive_features_are_divided():
    # 50 ms per step and feature, nine features: 0.45 s per step, more than one batch may take.
    features = [FeatureCost(f"f{i}", "transient", 50e-3 / 1000) for i in range(9)]
    batches = plan_batches({"transient": layout([1000] * 5)}, features)
    longest = max((batch.stop - batch.start) * len(batch.features) * 50e-3 for batch in batches)
    assert longest <= TARGET_SECONDS + 1e-12
    # Five features of 50 ms fill 0.25 s, so two tasks per step.
    assert len(batches) == 10


def test_plan__batches_take_about_the_target():
    cost = 1e-3
    features = [FeatureCost("tau", "transient", cost / 10_000)]
    batches = plan_batches({"transient": layout([10_000] * 5000, width=8)}, features)
    # The running sum of costs is rounded, which may move a border by one step.
    for batch in batches[:-1]:
        assert TARGET_SECONDS - cost <= (batch.stop - batch.start) * cost <= TARGET_SECONDS


def test_plan__memory_bounds_a_batch_of_cheap_steps():
    features = [FeatureCost("peak", "transient", 1e-12)]
    batches = plan_batches({"transient": layout([1_000_000] * 20, width=24)}, features)
    steps = BATCH_BYTES // 24_000_000
    assert {batch.stop - batch.start for batch in batches} == {steps}


def test_plan__borders_follow_chunks():
    features = [FeatureCost("peak", "transient", 1e-3 / 1000)]
    borders = [*range(0, 1001, 16), 1000]
    batches = plan_batches({"transient": layout([1000] * 1000, borders)}, features)
    assert {batch.start for batch in batches} <= set(borders)


@pytest.mark.parametrize(
    ("n_workers", "run_seconds", "seconds"),
    [
        (2, 1e6, 0.25),  # a long run: the target
        (2, 4.0, 0.1),  # 5 % of 2 s, so that the last tasks end together
        (2, 0.1, 0.05),  # never so short that Dask's own work counts
        (96, 1e6, 0.25),
        (96, 10.0, 96 * 0.9e-3 / 0.5),  # the scheduler must keep up with 96 workers
        (1000, 1e6, 1.8),
    ],
)
def test_batch_seconds(n_workers, run_seconds, seconds):
    assert batch_seconds(n_workers, run_seconds) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize("granularity", ["stepp", 0, -1, 2.5, True])
def test_check_granularity__refuses(granularity):
    with pytest.raises(ConfigError, match="granularity="):
        check_granularity(granularity)


def test_check_granularity__names_the_nearest_word():
    with pytest.raises(ConfigError, match="did you mean 'step'"):
        check_granularity("stepp")
