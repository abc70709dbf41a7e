"""The fit that follows the hand is the fit of the next run, and what SciPy finds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import curve_fit

import oectflow as of
from oectflow.pipeline.app.live_fit import LiveFit, can_be_dragged
from oectflow.pipeline.app.one_result import OneResult
from oectflow.pipeline.app.step_data import (
    curve_of,
    has_windows,
    read_fits,
    read_trace,
    residuals_of,
)


@pytest.fixture(scope="module")
def parts(made):
    return of.Experiment(made.raw / "A2.h5"), OneResult(made.out / "A2.parquet")


def test_read_fits__as_the_results_have_them(parts, made):
    _, result = parts
    one = of.open_results(made.out).load().sel(experiment="A2").isel(step=3)
    fits = read_fits(result, "tau", 3)
    assert len(fits) == 10
    for fit in fits:
        this = one.sel(phase=fit.phase).isel(cycle=fit.cycle)
        np.testing.assert_equal(fit.tau, this["tau"].item())
        np.testing.assert_equal(fit.r_squared, this["tau_r_squared"].item())
        assert fit.status == this["tau_status"].item()
    assert read_fits(result, "gm_max", 3) == []
    assert can_be_dragged(result, "tau")
    assert not can_be_dragged(result, "gm_max")
    assert not has_windows(result, "gm_max")


def test_live_fit__window_of_the_results_gives_their_digits(parts):
    experiment, result = parts
    live = LiveFit(result, "tau", experiment.step("transient", 2))
    fits = [fit for fit in read_fits(result, "tau", 2) if np.isfinite(fit.tau)]
    assert len(fits) > 5
    for fit in fits:
        again = live.fit(fit.cycle, fit.phase, fit.start, fit.start + fit.duration)
        assert (again.tau, again.r_squared, again.status) == (fit.tau, fit.r_squared, fit.status)
        assert (again.start, again.duration) == (fit.start, fit.duration)


@pytest.mark.parametrize(("phase", "begin", "end"), [("on", 0.51, 0.57), ("off", 0.405, 0.48)])
def test_live_fit__as_scipy_fits_that_window(parts, phase, begin, end):
    experiment, result = parts
    trace = read_trace(experiment, result, 2)
    live = LiveFit(result, "tau", experiment.step("transient", 2))
    found = live.fit(2, phase, begin, end)
    inside = (trace.time > begin - 5e-4) & (trace.time < end - 5e-4)
    t, current = trace.time[inside] - trace.time[inside][0], trace.current[inside]

    def model(t, tau, amplitude, offset):
        decay = np.exp(-t / tau)
        return offset + amplitude * (1 - decay if phase == "on" else decay)

    # In mA, since SciPy ends where gradients are below 1e-8.
    in_mA = 1e3 * current
    guess = (0.01, in_mA.max() - in_mA.min(), in_mA.min())
    found_by_scipy, covariance = curve_fit(model, t, in_mA, guess, xtol=1e-14, ftol=1e-14)
    tau, amplitude, offset = found_by_scipy * (1, 1e-3, 1e-3)
    assert found.tau == pytest.approx(tau, rel=1e-6)
    # Ours holds what residuals have in common with their neighbours, too.
    assert 0.9 < found.stderr / np.sqrt(covariance[0, 0]) < 2
    # What is drawn is this curve, and what is left of it.
    x, y = curve_of(found)
    np.testing.assert_allclose(y, model(x - found.start, tau, amplitude, offset), rtol=1e-4)
    at, rest = residuals_of(found, trace.time, trace.current)
    np.testing.assert_array_equal(at, trace.time[inside])
    expected = current - model(t, tau, amplitude, offset)
    np.testing.assert_allclose(rest, expected, atol=1e-4 * np.abs(current).max())


@pytest.mark.parametrize(
    ("cycle", "begin", "end"), [(2, 0.5, 0.5), (2, 0.5, 99.0), (2, 0.5, 0.502), (99, 0.5, 0.6)]
)
def test_live_fit__of_no_use_is_no_number(parts, cycle, begin, end):
    experiment, result = parts
    live = LiveFit(result, "tau", experiment.step("transient", 2))
    found = live.fit(cycle, "on", begin, end)
    assert np.isnan(found.tau)
    assert found.status not in ("ok", "")


def test_trace__a_cycle_and_its_samples(parts):
    experiment, result = parts
    trace = read_trace(experiment, result, 1)
    assert trace.period == pytest.approx(0.2)
    low, high = trace.span(2)
    assert (low, high) == pytest.approx((0.4, 0.6))
    x, y, every = trace.between(low, high)
    assert every == 1
    np.testing.assert_array_equal(y, trace.current[400 : 400 + len(x)])
    assert read_trace(experiment, result, 99) is None
