"""The content cache: what counts as the same, how much is kept, and whether it pays."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from oectflow.extractors.cache import DEAR, REST, SAMPLE, ContentCache, content_key

series = arrays(
    st.sampled_from([np.float64, np.float32]),
    st.integers(1, 40),
    elements=st.floats(-1e6, 1e6, width=32),
)


class Clock:
    """A clock that goes on only when it is told to."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def variants(x):
    """Series that a summary such as mean, std, minimum and maximum can hardly tell from ``x``."""
    rng = np.random.default_rng(0)
    one_ulp = x.copy()
    one_ulp[len(x) // 2] = np.nextafter(one_ulp[len(x) // 2], x.dtype.type(np.inf))
    other = np.float32 if x.dtype == np.float64 else np.float64
    yield from (x[::-1], rng.permutation(x), one_ulp, -x, x.astype(other), x[None], x.byteswap())
    yield np.where(x == 0, np.copysign(0, -np.copysign(1, x)), x).astype(x.dtype)


@given(series)
@settings(deadline=None)
def test_key__is_the_same_for_the_same_bytes_only(x):
    seen = {content_key("db4", x): (x.dtype, x.shape, x.tobytes())}
    assert content_key("db4", x.copy()) in seen
    assert content_key("db4", np.repeat(x, 2)[::2]) in seen
    assert content_key("db2", x) not in seen
    assert content_key(("db4", 3), x) != content_key(("db4", 4), x)
    for other in variants(x):
        content = (other.dtype, other.shape, other.tobytes())
        known = seen.get(content_key("db4", other))
        assert known in (None, content)
        assert (known is not None) == (content in seen.values())
        seen[content_key("db4", other)] = content


def test_key__tells_signs_of_zero_payloads_of_nan_and_byte_orders():
    payload = np.array([0x7FF8000000000001], np.uint64).view(np.float64)
    one = np.array([1.0])
    members = [np.array([0.0]), np.array([-0.0]), np.array([np.nan]), payload, one]
    members += [one.astype(">f8"), one.astype("f4"), np.array([1]), np.empty(0), np.empty((0, 3))]
    assert len({content_key(None, x) for x in members}) == len(members)


def test_fetch__computes_what_is_missing_and_nothing_else():
    cache: ContentCache[float] = ContentCache(10)
    rows = list(np.random.default_rng(1).normal(size=(4, 20)))
    asked = []

    def total(indices):
        asked.append(indices)
        return [float(rows[i].sum()) for i in indices]

    expected = [float(row.sum()) for row in rows]
    assert cache.fetch("sum", rows[:2], total) == expected[:2]
    assert cache.fetch("sum", rows, total) == expected
    assert cache.fetch("sum", rows, total) == expected
    assert asked == [[0, 1], [2, 3]]
    assert cache.fetch("other", rows[:1], total) == expected[:1]
    stats = cache.stats()
    assert (stats.hits, stats.misses, stats.entries) == (6, 5, 5)
    assert stats.hit_rate == 6 / 11
    assert cache.fetch("sum", [], total) == []


def test_fetch__keeps_the_least_recently_used_within_the_capacity():
    cache: ContentCache[bytes] = ContentCache(3)
    rows = [np.array([float(i)]) for i in range(4)]

    def fetch(i):
        misses = cache.stats().misses
        assert cache.fetch("", [rows[i]], lambda _: [bytes(10)], size=len) == [bytes(10)]
        return cache.stats().misses == misses

    assert [fetch(i) for i in (0, 1, 2, 0, 3)] == [False, False, False, True, False]
    assert [fetch(0), fetch(2), fetch(3), fetch(1)] == [True, True, True, False]
    stats = cache.stats()
    assert (stats.entries, stats.weight, stats.bytes, stats.evictions) == (3, 3, 30, 2)
    cache.fetch("heavy", [rows[0]], lambda _: [b""], weight=2, size=len)
    assert cache.stats().weight == 3
    # What alone exceeds the capacity is not kept, and nothing has to make room for it.
    cache.fetch("giant", [rows[0]], lambda _: [b""], weight=4, size=len)
    assert cache.stats().entries == 2
    cache.clear()
    assert (cache.stats().entries, cache.stats().weight, cache.stats().bytes) == (0, 0, 0)


def test_fetch__with_no_capacity_keeps_nothing():
    cache: ContentCache[int] = ContentCache(0)
    for _ in range(2):
        assert cache.fetch("", [np.ones(2)], lambda _: [5]) == [5]
    stats = cache.stats()
    assert (stats.hits, stats.misses, stats.entries, stats.on) == (0, 0, 0, False)
    with pytest.raises(ValueError, match="-1"):
        ContentCache(-1)


def run(cache, clock, numbers, *, cost, lookup):
    """Ask for one result per number; a result costs ``cost``, any look at the cache ``lookup``."""

    for number in numbers:

        def compute(_):
            clock.now += cost
            return [0]

        def size(_):
            clock.now += lookup
            return 8

        cache.fetch("", [np.array([float(number)])], compute, size=size)


def test_pays__cheap_results_without_hits_switch_it_off_and_hits_keep_it_on():
    clock = Clock()
    cache: ContentCache[int] = ContentCache(10**6, clock)
    # Storing costs as much as computing, and nothing is ever asked for twice.
    run(cache, clock, range(SAMPLE), cost=1.0, lookup=1.0)
    assert not cache.stats().on
    assert cache.stats().seconds_saved < 0
    # While it rests, nothing is looked up; then it is tried again.
    run(cache, clock, range(REST * SAMPLE), cost=1.0, lookup=1.0)
    stats = cache.stats()
    assert (stats.skipped, stats.misses, stats.on) == (REST * SAMPLE, SAMPLE, True)
    run(cache, clock, range(SAMPLE), cost=1.0, lookup=1.0)
    stats = cache.stats()
    assert (stats.hits, stats.on) == (SAMPLE, True)
    assert stats.seconds_saved == pytest.approx(0.0, abs=1e-9)


def test_pays__break_even_is_at_the_share_of_hits_that_makes_storing_good():
    # With c = 4 and S = 1 (L = 0 on this clock): h c > (1 - h) S, so h > 1 / 5.
    for hits, on in ((48, False), (56, True)):
        clock = Clock()
        cache: ContentCache[int] = ContentCache(10**6, clock)
        new = range(1, SAMPLE - hits + 1)
        run(cache, clock, new, cost=4.0, lookup=1.0)
        run(cache, clock, [1] * hits, cost=4.0, lookup=1.0)
        assert cache.stats().on is on, hits
        assert cache.stats().seconds_saved == hits * 4.0 - (SAMPLE - hits)


def test_pays__dear_results_are_kept_without_hits():
    clock = Clock()
    cache: ContentCache[int] = ContentCache(10**6, clock)
    run(cache, clock, range(3 * SAMPLE), cost=DEAR, lookup=1.0)
    assert cache.stats().on
    assert cache.stats().misses == 3 * SAMPLE


def test_fetch__from_many_threads_gives_everyone_their_own():
    cache: ContentCache[float] = ContentCache(50)
    rows = list(np.random.default_rng(2).normal(size=(100, 8)))
    expected = [float(row.sum()) for row in rows]
    wrong = []

    def work(seed):
        rng = np.random.default_rng(seed)
        for _ in range(200):
            chosen = rng.integers(0, 100, 5)
            mine = [rows[i] for i in chosen]
            found = cache.fetch(
                "", mine, lambda missing, mine=mine: [float(mine[i].sum()) for i in missing]
            )
            if found != [expected[i] for i in chosen]:
                wrong.append(chosen)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stats = cache.stats()
    assert not wrong
    assert stats.hits + stats.misses + stats.skipped == 8 * 200 * 5
    assert stats.entries == stats.weight <= 50
