"""The window search: against a brute-force fit of every window, and on every executor."""

from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
from distributed import Client

from oectflow.errors import ParameterError
from oectflow.extractors.autotau import AutoTauFitter, SmartWindowSearchFitter, WindowFinder
from oectflow.extractors.autotau.fits import OFF, ON, fit_windows
from oectflow.extractors.autotau.search import best_windows
from oectflow.extractors.autotau.trace import Trace


def small_trace(seed):
    rng = np.random.default_rng(seed)
    k = np.arange(30)
    p = k % 15
    y = np.where(p < 8, 1 - np.exp(-p / 2.5), np.exp(-(p - 8) / 2.0))
    return k.astype(float), 1e-7 * (y + rng.normal(0, 0.02, 30))


@pytest.mark.parametrize(("seed", "interp"), [(0, True), (1, False)])
def test_search__brute_force(scipy_fit, seed, interp):
    t, y = small_trace(seed)
    fitter = AutoTauFitter(t, y, 1.0, 15.0, 6 / 15, 8 / 15, 2)
    result = fitter.fit_tau_on_and_off(interp=interp, points_after_interp=40)
    for phase, popt, adjusted in (("on", *result[:2]), ("off", *result[2:])):
        best = -np.inf, 0.0, 0, 0
        for n in (6, 8):
            for start in range(30 - n + 1):
                tau, r_squared = scipy_fit(
                    t[start : start + n], y[start : start + n], phase, 40 if interp else 0
                )
                # The search range: an interior optimum between 0.1 samples and 100 windows.
                if 0.1 * 1.01 < tau < 99 * n:
                    value = 1 - (1 - r_squared) * (n - 1) / (n - 4)
                    best = max(best, (value, tau, start, n))
        value, tau, start, n = best
        assert getattr(fitter, f"best_tau_{phase}_window_start_time") == start
        assert getattr(fitter, f"best_tau_{phase}_window_end_time") == start + n - 1
        assert getattr(fitter, f"best_tau_{phase}_window_size") == n
        # As in test_fitter: SciPy's tau is good to sqrt(eps) times the condition.
        assert adjusted == pytest.approx(value, abs=1e-7)
        assert popt[1] == pytest.approx(tau, rel=1e-6)
        assert getattr(fitter, f"best_tau_{phase}_fitter").tau_on_status in (
            {"ok"} if phase == "on" else {"opposite", "step", "straight", "noise", "ok"}
        )


def snapshot(fitter, interp):
    result = fitter.fit_tau_on_and_off(interp=interp)
    windows = [
        getattr(fitter, f"best_tau_{phase}_window_{name}")
        for phase in ("on", "off")
        for name in ("start_time", "end_time", "size")
    ]
    return [np.asarray(value).tolist() for value in (*result, *windows)]


@pytest.mark.parametrize("interp", [True, False])
def test_executor__same_bits_everywhere(trace, interp):
    t, y = trace
    expected = snapshot(AutoTauFitter(t[:400], y[:400], 1e-3, 0.2), interp)
    with ThreadPoolExecutor(3) as pool:
        fitter = AutoTauFitter(t[:400], y[:400], 1e-3, 0.2, executor=pool)
        assert snapshot(fitter, interp) == expected


def test_executor__process_pool(trace):
    t, y = trace
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        for interp in (True, False):
            serial = AutoTauFitter(t[:400], y[:400], 1e-3, 0.2)
            fitter = AutoTauFitter(t[:400], y[:400], 1e-3, 0.2, executor=pool)
            assert snapshot(fitter, interp) == snapshot(serial, interp)


def test_executor__dask_client(trace, threads_of_dask):
    t, y = trace
    expected = snapshot(AutoTauFitter(t[:400], y[:400], 1e-3, 0.2), True)
    with threads_of_dask(1) as cluster, Client(cluster) as client:
        for executor in (client.get_executor(), client):
            fitter = AutoTauFitter(t[:400], y[:400], 1e-3, 0.2, executor=executor)
            assert snapshot(fitter, True) == expected


def test_executor__unusable(trace):
    t, y = trace
    with pytest.raises(ParameterError, match=r"executor=8 has no submit\(\)"):
        AutoTauFitter(t, y, 1e-3, 0.2, executor=8).fit_tau_on_and_off()


def test_search__nothing_to_find():
    fitter = AutoTauFitter(np.arange(100.0), np.zeros(100), 1.0, 50.0)
    assert fitter.fit_tau_on_and_off() == (None, 0, None, 0)
    assert fitter.best_tau_on_fitter is None


def test_search__nan_loses_only_its_windows(trace):
    t, y = trace
    y = y.copy()
    y[[3, 150]] = np.nan
    for interp in (True, False):
        fitter = AutoTauFitter(t[:400], y[:400], 1e-3, 0.2)
        fitter.fit_tau_on_and_off(interp)
        # The second cycle is whole, and its amplitude is larger.
        assert fitter.best_tau_on_window_start_time == pytest.approx(0.2)
        assert fitter.best_tau_off_window_start_time == pytest.approx(0.3)


@pytest.mark.parametrize("interp", [True, False])
def test_search__uneven_times(interp):
    rng = np.random.default_rng(0)
    k = np.arange(400)
    t = 1e-3 * (k + np.r_[0, rng.uniform(-0.3, 0.3, 399)])
    p = t / 1e-3 % 200
    y = np.where(p < 100, 1 - np.exp(-p / 12), np.exp(-(p - 100) / 17))
    fitter = AutoTauFitter(t, y + rng.normal(0, 1e-3, 400), 1e-3, 0.2)
    on, _, off, _ = fitter.fit_tau_on_and_off(interp)
    # Noise of 1e-3 in 40 to 60 samples gives a standard error of about 0.2 %; resampling a curve
    # of tau 12 samples linearly adds up to 1 / (8 * 12**2) = 0.1 %.
    assert on[1] == pytest.approx(0.012, rel=0.02)
    assert off[1] == pytest.approx(0.017, rel=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"period": 0.0}, "period=0.0: expected a positive time"),
        ({"sample_step": -1e-3}, "sample_step=-0.001"),
        ({"window_scalar_min": 0.5}, "expected shares of the period"),
        ({"window_points_step": 0}, "window_points_step=0"),
        ({"window_start_idx_step": 0}, "window_start_idx_step=0"),
    ],
)
def test_search__bad_options(trace, options, message):
    with pytest.raises(ParameterError, match=message):
        AutoTauFitter(*trace, **{"sample_step": 1e-3, "period": 0.2} | options).fit_tau_on_and_off()


def test_search__sampling_interval_disagrees(trace, caplog):
    AutoTauFitter(*trace, sample_step=2e-3, period=0.2)
    assert "given as 0.002 s, but the times are 0.001 s apart" in caplog.text


def test_window_finder__as_auto_fitter(trace):
    t, y = trace
    auto = AutoTauFitter(t[:400], y[:400], 1e-3, 0.2)
    auto.fit_tau_on_and_off()
    for max_workers in (None, 2):
        finder = WindowFinder(t[:400], y[:400], 1e-3, 0.2, max_workers=max_workers)
        windows = finder.find_best_windows()
        assert windows == finder.get_window_params()
        for phase in ("on", "off"):
            assert set(windows[phase]) == {
                "offset", "size", "start_time", "end_time", "r_squared", "r_squared_adj",
            }  # fmt: skip
            start = getattr(auto, f"best_tau_{phase}_window_start_time")
            assert windows[phase]["start_time"] == start
            # Both windows are in the second period; the offset counts from its begin.
            assert windows[phase]["offset"] == pytest.approx(start - 0.2, abs=1e-12)
            assert start >= 0.2


def test_window_finder__nothing_to_find():
    finder = WindowFinder(np.arange(100.0), np.zeros(100), 1.0, 50.0)
    assert finder.find_best_windows() == {"on": None, "off": None}


def test_smart__seed_and_optimum(trace):
    t, y = trace
    exhaustive = AutoTauFitter(t[:400], y[:400], 1e-3, 0.2, window_points_step=1)
    best = exhaustive.fit_tau_on_and_off()
    runs = []
    for _ in range(2):
        smart = SmartWindowSearchFitter(t[:400], y[:400], 1e-3, 0.2, seed=3)
        runs.append(smart.fit_tau_on_and_off())
        statistics = smart.get_statistics()
    np.testing.assert_array_equal(runs[0][0], runs[1][0])
    for i in (1, 3):
        assert 0.9 < runs[0][i] <= best[i]
    # Each process: 2 * popsize members, once and once per generation.
    generations = statistics["on_iterations"] + statistics["off_iterations"]
    assert statistics["total_evaluations"] == 30 * (2 + generations)


def test_smart__tight_tolerance_finds_the_best(trace):
    t, y = trace
    options = {"window_points_step": 10, "window_start_idx_step": 4}
    best = AutoTauFitter(t[:400], y[:400], 1e-3, 0.2, **options).fit_tau_on_and_off()
    smart = SmartWindowSearchFitter(
        t[:400], y[:400], 1e-3, 0.2, **options, atol=0, tol=1e-6, maxiter=100, seed=0
    )
    found = smart.fit_tau_on_and_off()
    assert found[1] == best[1]
    assert found[3] == best[3]


def test_smart__nothing_to_find():
    smart = SmartWindowSearchFitter(np.arange(100.0), np.zeros(100), 1.0, 50.0, seed=0, maxiter=2)
    assert smart.fit_tau_on_and_off() == (None, 0, None, 0)
    with pytest.raises(ParameterError, match="maxiter=0"):
        SmartWindowSearchFitter(np.arange(9.0), np.zeros(9), 1.0, 5.0, maxiter=0)


@pytest.mark.parametrize("noise", [0.0, 1e-5, 1e-3, 0.05])
@pytest.mark.parametrize(("length", "step"), [(120, 1), (300, 7)])
def test_search_between_samples__is_that_of_all_windows(noise, length, step):
    rng = np.random.default_rng(length)
    k = np.arange(length)
    p = k % 100
    y = np.where(p < 50, 1 - np.exp(-p / 9.0), np.exp(-(p - 50) / 13.0))
    trace = Trace.of(1e-3 * k, y + noise * rng.normal(size=length))
    lengths = list(range(20, 34, step))
    found = best_windows(trace, lengths, 1, 100)
    with ThreadPoolExecutor(2) as pool:
        assert best_windows(trace, lengths, 1, 100, pool) == found
    for phase, window in found.items():
        best = max(
            fits.r_squared_adj[fits.status == "ok"].max()
            for n in lengths
            for fits in [fit_windows(trace, np.arange(length - n + 1), n, phase, 100)]
        )
        at = fit_windows(trace, np.array([window.start]), window.length, phase, 100)
        # Sums of squares in another order: the last digits of R2.
        assert window.r_squared_adj == pytest.approx(best, abs=1e-13)
        assert at.r_squared_adj[0] == pytest.approx(best, abs=1e-13)


@pytest.mark.parametrize(("baseline", "noise"), [(0.0, 0.0), (1e3, 0.0), (0.0, 1e-10)])
def test_search__without_noise_the_first_of_equals(baseline, noise):
    """All windows of a process are as good there, and each is fitted by the brute force."""
    k = np.arange(300)
    p = k % 100
    y = np.where(p < 50, 1 - np.exp(-p / 6), np.exp(-(p - 50) / 9)) + baseline
    y += noise * np.random.default_rng(0).normal(size=k.size)
    y[263] = np.nan
    trace = Trace.of(1e-3 * k, y)
    lengths = [20, 26, 32]
    found = best_windows(trace, lengths, 1, 100)
    for phase in (ON, OFF):
        values = {}
        for n in lengths:
            fits = fit_windows(trace, np.arange(k.size - n + 1), n, phase, 100)
            good = np.where(fits.status == "ok", fits.r_squared_adj, -np.inf)
            values |= {(n, start): value for start, value in enumerate(good)}
        window = found[phase]
        best = max(values.values())
        # Sums of 32 squares of numbers with the rounding of the baseline, 1e-13 of the amplitude.
        slack = 1e-12 if baseline else 1e-13
        assert window.r_squared_adj == pytest.approx(best, abs=slack)
        if not noise and not baseline:
            first = next(key for key, value in values.items() if value >= best - slack)
            assert (window.length, window.start) == first
