from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oectflow.extractors.kernels import cycles, misfit
from oectflow.extractors.kernels import exponential as ex
from tests.extractors import naive_tau

NO_TIMES = np.empty(0)


def fit_windows(
    y: np.ndarray, starts: np.ndarray, n: int, process: int, t: np.ndarray = NO_TIMES
) -> tuple[np.ndarray, np.ndarray]:
    rows = np.empty((starts.size, ex.N_COLUMNS))
    codes = np.empty(starts.size, np.int8)
    evidence = np.empty((starts.size, misfit.N_EVIDENCE))
    cycles.fit_windows(y, t, starts, n, process, rows, codes, evidence)
    return rows, codes


def one_by_one(
    y: np.ndarray, starts: np.ndarray, n: int, process: int
) -> tuple[np.ndarray, np.ndarray]:
    rows = np.empty((starts.size, ex.N_COLUMNS))
    codes = np.empty(starts.size, np.int8)
    for row, (i, s) in zip(rows, enumerate(starts), strict=True):
        codes[i], _ = ex.fit_exponential(y[s : s + n], NO_TIMES, process, np.nan, row)
    return rows, codes


def random_windows(seed: int, count: int, n: int, sign: int, snr: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    tau = np.exp(rng.uniform(np.log(0.5), np.log(10 * n), count))
    y = sign * np.exp(-np.arange(n) / tau[:, None]) + rng.normal(0, 3, (count, 1))
    return (y + rng.normal(0, 1 / snr, y.shape)).ravel()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(4, 70),
    sign=st.sampled_from([ex.DECAY, ex.RISE]),
    snr=st.sampled_from([3.0, 30.0, 1e3, 1e5, np.inf]),
)
def test_fit_windows__equals_single_fits(seed: int, n: int, sign: int, snr: float) -> None:
    y = random_windows(seed, 37, n, sign, snr)
    starts = np.arange(37) * n
    rows, codes = fit_windows(y, starts, n, sign)
    expected, expected_codes = one_by_one(y, starts, n, sign)
    np.testing.assert_array_equal(codes, expected_codes)
    # Rounding of the gradient moves theta by about n eps (tau / n)^2 / R, with the curvature
    # (0.13 n / tau)^2 of R2: n <= 70, tau <= 100 n -> 70 * 2e-16 * 1e4 / 0.017 = 1e-8 at the far
    # edge of the range, 1e-12 for tau of one window.
    span = np.maximum(1, expected[:, ex.TAU] / n)
    wrong = np.abs(rows[:, ex.TAU] / expected[:, ex.TAU] - 1) / span**2
    assert not (wrong > 1e-12).any()
    np.testing.assert_allclose(rows[:, ex.R2], expected[:, ex.R2], rtol=0, atol=1e-13)
    if np.isfinite(snr):
        # The errors follow RSS, whose own rounding is n eps TSS.
        rss_wrong = 1e-13 / np.maximum(1 - expected[:, ex.R2], 1e-13)
        for column in (ex.SE_TAU, ex.SE_AMPLITUDE, ex.SE_OFFSET):
            wrong = np.abs(rows[:, column] / expected[:, column] - 1)
            assert not (wrong > rss_wrong + 1e-10 * span**2).any()


def test_fit_windows__against_scipy() -> None:
    n = 41
    y = random_windows(5, 20, n, ex.RISE, 200)
    rows, codes = fit_windows(y, np.arange(20) * n, n, ex.RISE)
    t = np.arange(float(n))
    for row, code, window in zip(rows, codes, y.reshape(20, n), strict=True):
        expected = naive_tau.fit(t, window, ex.RISE)
        assert expected is not None
        if code == ex.FIT_OK:
            # least_squares stops when a step is below 1e-15 or cannot improve: sqrt(eps) of the
            # minimum's width, which is the standard error.
            assert row[ex.TAU] == pytest.approx(expected.tau, abs=1e-6 * row[ex.SE_TAU] + 1e-12)
            assert row[ex.OFFSET] == pytest.approx(expected.offset, rel=1e-6)
        else:
            assert code == ex.STRAIGHT
            assert not expected.inside


def test_fit_windows__same_bits_in_any_company() -> None:
    n = 30
    y = np.concatenate([random_windows(9, 40, n, ex.DECAY, snr) for snr in (5.0, 100.0, np.inf)])
    y[7 * n + 3] = np.nan
    starts = np.arange(120) * n
    rows, codes = fit_windows(y, starts, n, ex.DECAY)
    for cuts in ([0, 1, 2, 19, 64, 120], [0, 16, 33, 120], list(range(121))):
        for a, b in pairwise(cuts):
            part, part_codes = fit_windows(y, starts[a:b], n, ex.DECAY)
            np.testing.assert_array_equal(part, rows[a:b])
            np.testing.assert_array_equal(part_codes, codes[a:b])
    order = np.random.default_rng(1).permutation(120)
    part, _ = fit_windows(y, starts[order], n, ex.DECAY)
    np.testing.assert_array_equal(part, rows[order])


def test_fit_windows__bad_windows_leave_their_neighbours_alone() -> None:
    n = 20
    y = random_windows(3, 16, n, ex.DECAY, 1e4)
    rows, codes = fit_windows(y, np.arange(16) * n, n, ex.DECAY)
    spoilt = y.copy()
    spoilt[2 * n] = np.nan
    spoilt[5 * n : 6 * n] = 1e-3
    spoilt[9 * n : 10 * n] = np.inf
    spoilt[11 * n : 12 * n] *= -1
    got, got_codes = fit_windows(spoilt, np.arange(16) * n, n, ex.DECAY)
    bad = {2: ex.NOT_FINITE, 5: ex.FLAT, 9: ex.NOT_FINITE, 11: ex.OPPOSITE}
    for i in range(16):
        if i in bad:
            assert got_codes[i] == bad[i]
            assert np.isnan(got[i]).all()
        else:
            assert got_codes[i] == codes[i]
            np.testing.assert_array_equal(got[i], rows[i])


@pytest.mark.parametrize("scale", [1e-300, 1e-9, 1e9, 1e300])
def test_fit_windows__scale(scale: float) -> None:
    n = 41
    y = np.exp(-np.arange(n) / 6) + np.random.default_rng(0).normal(0, 0.01, n)
    starts = np.zeros(1, np.int64)
    reference, _ = fit_windows(y, starts, n, ex.DECAY)
    rows, codes = fit_windows(y * scale, starts, n, ex.DECAY)
    assert codes[0] == ex.FIT_OK
    assert rows[0, ex.TAU] == pytest.approx(reference[0, ex.TAU], rel=1e-12)


def test_fit_windows__uneven_times() -> None:
    rng = np.random.default_rng(8)
    t = np.cumsum(rng.uniform(0.5, 1.5, 90))
    y = np.tile(1 - np.exp(-(t[:30] - t[0]) / 5), 3)
    t = np.concatenate([t[:30], t[:30] + 100, t[:30] + 200])
    rows, codes = fit_windows(y, np.array([0, 30, 60]), 30, ex.RISE, t)
    assert (codes == ex.FIT_OK).all()
    # t + 200 is rounded to 3e-14, a relative 6e-14 of its first differences.
    np.testing.assert_allclose(rows[:, ex.TAU], 5, rtol=1e-11)
