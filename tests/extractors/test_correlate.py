from __future__ import annotations

import numpy as np
import pytest

from oectflow.extractors.kernels import correlate, windows
from oectflow.extractors.kernels import exponential as ex


def correlations(y: np.ndarray, n: int, tau: np.ndarray, sign: int) -> np.ndarray:
    """Correlation of every window with every exponential, by the definition."""
    u = np.expm1(-np.arange(n) / tau[:, None])
    u -= u.mean(axis=1, keepdims=True)
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    d = np.lib.stride_tricks.sliding_window_view(y, n)
    d = d - d.mean(axis=1, keepdims=True)
    return sign * (d / np.linalg.norm(d, axis=1, keepdims=True)) @ u.T


@pytest.mark.parametrize("sign", [ex.DECAY, ex.RISE])
@pytest.mark.parametrize("misfit", [1e-6, 1e-4, 1e-3, 1e-2, 0.1, 0.5])
def test_reach_from__no_tau_goes_beyond(misfit: float, sign: int) -> None:
    rng = np.random.default_rng(int(1 / misfit))
    close = bounded = 0
    for _ in range(40):
        n = int(rng.integers(5, 60))
        tau = 10 ** rng.uniform(-0.5, np.log10(30 * n))
        first = sign * np.expm1(-np.arange(n) / tau)
        # Four windows hold the exponential and no jump.
        y = np.tile(first / np.ptp(first), 4) + rng.normal(0, misfit, 4 * n)
        grid = np.exp(np.linspace(np.log(0.1), np.log(100 * n), 2000))
        c = correlations(y, n, grid, sign)
        best = c.max(axis=1)
        # The bounds hold for windows that have what is needed: here, the four best.
        need = np.array([max(0.0, np.sort(best)[-4])])
        seen_from = tau * np.exp(rng.normal(0, rng.choice([0.003, 0.05, 0.5])))
        lengths = np.array([n])
        d = np.lib.stride_tricks.sliding_window_view(y, n)
        tss = ((d - d.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)[None]
        upper_bound = np.full(tss.shape, np.inf)
        correlate.bound_from(
            y, 0, y.size, 1, lengths, 1 / seen_from, sign, need, np.full(1, -2.0),
            best[None], tss, upper_bound,
        )  # fmt: skip
        holds = best >= need[0]
        assert (best[holds] <= upper_bound[0, holds]).all()
        bounded += int(np.isfinite(upper_bound).sum())
        close += int((upper_bound[0, holds] <= best[holds] + 0.01 * (1 - best[holds]) + 1e-9).sum())
    # Where windows are nearly exponentials the bound says something, and soon almost all.
    if misfit <= 1e-2:
        assert bounded > 100
    if misfit <= 1e-3:
        assert close > 20


def test_reach_from__leader_and_windows_left_out() -> None:
    k = np.arange(50)
    y = np.exp(-k / 9.0) + np.random.default_rng(0).normal(0, 1e-3, 50)
    lengths = np.array([20, 25])
    upper_bound = np.full((2, 31), np.inf)
    tss = np.empty((2, 31))
    c = np.empty((2, 31))
    for i, n in enumerate(lengths):
        d = np.lib.stride_tricks.sliding_window_view(y, n)[:31]
        tss[i, : len(d)] = ((d - d.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
        c[i, : len(d)] = correlations(y, n, np.array([9.0]), ex.DECAY)[:31, 0]
    c[1, 26:] = 0.0
    index, start = correlate.bound_from(
        y, 0, 50, 1, lengths, 1 / 9.0, ex.DECAY, np.full(2, 0.99), np.zeros(2), c, tss, upper_bound
    )
    adjusted = 1 - (1 - c**2) * (lengths[:, None] - 1) / (lengths[:, None] - 4)
    # The projection on a plane explains a little more than tau = 9 alone.
    assert adjusted[index, start] == pytest.approx(adjusted.max(), abs=1e-5)
    assert np.isinf(upper_bound[1, 26:]).all()


@pytest.mark.parametrize("snr", [5.0, 100.0, 1e3, 1e4, 1e6, np.inf])
@pytest.mark.parametrize("start_step", [1, 3])
def test_search__beats_the_fit_of_every_window(snr: float, start_step: int) -> None:
    """Periods long enough that most windows are dropped by what one tau tells of them."""
    rng = np.random.default_rng(int(min(snr, 1e6)))
    lengths = np.arange(20, 34, 2)
    row = np.empty(ex.N_COLUMNS)
    no_clock = np.empty(0)
    for case in range(3):
        k = np.arange(50.0)
        tau = rng.uniform(3, 60, 4)
        # The second period has a tau of its own: the leader's says little about it.
        halves = [1 - np.exp(-k / tau[0]), np.exp(-k / tau[1])]
        later = [1 - np.exp(-k / tau[2]), np.exp(-k / tau[3])] if case else halves
        y = np.concatenate(halves + later) + rng.normal(0, 1 / snr, 200)
        if case == 2:
            y[77] = np.nan
        found = windows.search_windows(
            y, 0, 200, start_step, lengths, windows.search_tables(lengths), 0.0
        )
        for sign, (start, n, _) in zip((ex.DECAY, ex.RISE), found, strict=True):
            score = {}
            for length in lengths:
                for s in range(0, 200 - length + 1, start_step):
                    code, _ = ex.fit_exponential(y[s : s + length], no_clock, sign, np.nan, row)
                    if code in (ex.FIT_OK, ex.NOISE):
                        score[s, int(length)] = row[ex.R2_ADJUSTED]
            # Above 1 - 1e-13 all windows count as perfect; below, R2 is rounded by n eps.
            assert score[start, n] >= max(score.values()) - 1.1e-13
