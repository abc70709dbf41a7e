"""Windows that are kept from step to step."""

import numpy as np
import pytest

from oectflow.errors import ParameterError
from oectflow.extractors.autotau import AutoTauFitter, CachedAutoTauFitter

ASKED = {"sample_step": 1e-3, "period": 0.2}


def test_cached__hit_is_the_search_of_the_same_step(trace):
    t, y = trace
    expected = AutoTauFitter(t, y, **ASKED).fit_tau_on_and_off()
    cached = CachedAutoTauFitter()
    for _ in range(4):
        result = cached.fit_step(t, y, **ASKED)
        for i in range(4):
            np.testing.assert_array_equal(result[i], expected[i])
    assert cached.get_statistics() == {
        "total_steps": 4,
        "full_searches": 1,
        "cache_hits": 3,
        "cache_misses": 0,
        "revalidations": 0,
        "cache_hit_rate": 0.75,
        "search_reduction": "75.0%",
        "estimated_speedup": 4.0,
    }


def test_cached__poor_fit_causes_a_search(trace):
    t, y = trace
    cached = CachedAutoTauFitter(validation_threshold=0.99)
    cached.fit_step(t, y, **ASKED)
    shifted = np.roll(y, 30)
    result = cached.fit_step(t, shifted, **ASKED)
    expected = AutoTauFitter(t, shifted, **ASKED).fit_tau_on_and_off()
    np.testing.assert_array_equal(result[0], expected[0])
    statistics = cached.get_statistics()
    assert (statistics["full_searches"], statistics["cache_misses"]) == (2, 1)


def test_cached__revalidation_follows_the_step_index(trace):
    cached = CachedAutoTauFitter(revalidation_interval=10)
    for step in (0, 9, 10, 19, 25, 3):
        cached.fit_step(*trace, **ASKED, step_index=step)
    # Searches at 0, 10, 25 - 10 >= 10, and at 3, which is before the last search.
    assert cached.get_statistics()["full_searches"] == 4
    assert cached.get_statistics()["cache_misses"] == 0


@pytest.mark.parametrize(
    "other",
    [{"period": 0.1}, {"interp": False}, {"window_points_step": 3}, {"points_after_interp": 50}],
)
def test_cached__other_options_cause_a_search(trace, other):
    cached = CachedAutoTauFitter()
    cached.fit_step(*trace, **ASKED)
    cached.fit_step(*trace, **ASKED | other)
    assert cached.get_statistics()["full_searches"] == 2


def test_cached__shorter_or_damaged_step_causes_a_search(trace):
    t, y = trace
    cached = CachedAutoTauFitter()
    cached.fit_step(t, y, **ASKED)
    cached.fit_step(t[:400], y[:400], **ASKED)
    y = y.copy()
    y[::50] = np.nan
    assert cached.fit_step(t, y, **ASKED)[0] is not None
    assert cached.get_statistics()["full_searches"] == 3


def test_cached__factory(trace):
    seen = []

    def factory(time, signal, **options):
        seen.append(options)
        return AutoTauFitter(time, signal, **options)

    cached = CachedAutoTauFitter(base_fitter_factory=factory)
    for _ in range(3):
        cached.fit_step(*trace, **ASKED, window_scalar_min=0.1)
    assert seen == [ASKED | {"window_scalar_min": 0.1}]


def test_cached__nothing_to_find():
    cached = CachedAutoTauFitter()
    for _ in range(2):
        assert cached.fit_step(np.arange(100.0), np.zeros(100), 1.0, 50.0) == (None, 0, None, 0)
    assert cached.get_statistics()["full_searches"] == 2
    assert CachedAutoTauFitter().get_statistics()["cache_hit_rate"] == 0.0
    with pytest.raises(ParameterError, match="revalidation_interval=0"):
        CachedAutoTauFitter(revalidation_interval=0)
