"""One window: against SciPy, at any scale, and every way to fail."""

import logging

import numpy as np
import pytest
from scipy.optimize import curve_fit

from oectflow.errors import ParameterError
from oectflow.extractors.autotau import TauFitter, exp_decay, exp_rise

# SciPy's tolerances of 1e-15 leave an error of sqrt(eps) times the condition in tau; R2 is flat
# there, so it agrees to rounding.
TAU = 1e-7


@pytest.mark.parametrize("points", [0, 100, 37])
@pytest.mark.parametrize("phase", ["on", "off"])
def test_fit__scipy(trace, scipy_fit, phase, points):
    t, y = trace
    window = [0.0, 0.06] if phase == "on" else [0.1, 0.16]
    fitter = TauFitter(t, y, window, window)
    fit = fitter.fit_tau_on if phase == "on" else fitter.fit_tau_off
    popt, _, r_squared, adjusted = fit(interp=points > 0, points_after_interp=points)
    a = round(window[0] * 1000)
    tau, expected = scipy_fit(t[a : a + 61], y[a : a + 61], phase, points)
    assert popt[1] == pytest.approx(tau, rel=TAU)
    # R2 on the raw samples is no optimum of a resampled fit: the error of tau enters linearly.
    assert r_squared == pytest.approx(expected, abs=TAU)
    assert adjusted == pytest.approx(1 - (1 - expected) * 60 / 57, abs=TAU)
    assert getattr(fitter, f"get_tau_{phase}")() == popt[1]
    assert getattr(fitter, f"get_r_squared_{phase}")() == r_squared


@pytest.mark.parametrize("interp", [True, False])
@pytest.mark.parametrize("phase", ["on", "off"])
def test_pcov__curve_fit_at_the_optimum(trace, phase, interp):
    t, y = trace
    a = 0 if phase == "on" else 100
    t, y = t[a : a + 61], y[a : a + 61]
    fitter = TauFitter(t, y, [t[0], t[-1]], [t[0], t[-1]])
    popt, pcov, *_ = getattr(fitter, f"fit_tau_{phase}")(interp=interp)
    ts = np.linspace(0, t[-1] - t[0], 100) if interp else t - t[0]
    model = exp_rise if phase == "on" else exp_decay
    _, expected = curve_fit(
        model, ts, np.interp(ts, t - t[0], y), p0=popt, ftol=1e-15, xtol=1e-15, gtol=1e-15
    )
    # curve_fit differentiates by finite differences: sqrt(eps) per column, squared in the product.
    np.testing.assert_allclose(pcov, expected, rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-9, 1e-6, 1e-3, 1e3])
@pytest.mark.parametrize("interp", [True, False])
def test_fit__any_current_scale(trace, scale, interp):
    t, y = trace
    fits = [TauFitter(t, s * y, [0.0, 0.06]).fit_tau_on(interp=interp) for s in (1.0, scale)]
    # Scaling by a power of ten rounds every sample by eps/2; the slope of tau is of order n.
    np.testing.assert_allclose(fits[1][0], fits[0][0] * [scale, 1, scale], rtol=1e-12)
    assert fits[1][2] == pytest.approx(fits[0][2], rel=1e-12)


@pytest.mark.parametrize("interp", [True, False])
def test_fit__large_constant(trace, interp):
    t, y = trace
    # An exact sum: the samples are cut to 2**-30 before, so that nothing but the constant differs.
    y = np.round(y * 2**30) / 2**30
    near = TauFitter(t, y, [0.0, 0.06]).fit_tau_on(interp=interp)
    far = TauFitter(t, y + 2.0**20, [0.0, 0.06]).fit_tau_on(interp=interp)
    assert far[0][1] == pytest.approx(near[0][1], rel=1e-12)
    assert far[2] == pytest.approx(near[2], abs=1e-12)


def test_normalize__changes_only_the_scale(trace):
    t, y = trace
    plain = TauFitter(t, y, [0.0, 0.06])
    scaled = TauFitter(t, y, [0.0, 0.06], normalize=True)
    (A, tau, C), pcov, *quality = plain.fit_tau_on()
    popt, pcov_scaled, *quality_scaled = scaled.fit_tau_on()
    low, span = y[:61].min(), np.ptp(y[:61])
    # Two roundings, and C - min cancels at most one digit here.
    np.testing.assert_allclose(popt, [A / span, tau, (C - low) / span], rtol=1e-14, atol=1e-15)
    assert quality_scaled == quality
    unit = np.array([span, 1, span])
    np.testing.assert_allclose(pcov_scaled, pcov / unit[:, None] / unit, rtol=1e-9)


def test_fit__baseline_is_fitted():
    t = 1e-3 * np.arange(60)
    fitter = TauFitter(t, np.exp(-t / 0.01) + 1.0, None, [0, 1])
    popt, *_ = fitter.fit_tau_off(interp=False)
    # Rounding of samples near 1 and 2: n eps times the condition of the fit (about 10).
    np.testing.assert_allclose(popt, [1, 0.01, 1], rtol=1e-12)


def test_window__border_that_misses_by_rounding():
    t = 1e-3 * np.arange(400)
    begin, end = t[100] + 1e-12, t[300] - 1e-12
    fitter = TauFitter(t, np.cos(t), [begin, end])
    fitter.fit_tau_on()
    assert fitter.window("on")[0][[0, -1]].tolist() == [t[100], t[300]]


def test_fit__given_samples_are_not_stored(trace):
    t, y = trace
    fitter = TauFitter(t, y)
    popt, _, r_squared, _ = fitter.fit_tau_on(time=t[:61], signal=y[:61])
    assert fitter.tau_on_popt is None
    assert popt[1] == TauFitter(t, y, [0, 0.06]).fit_tau_on()[0][1]
    assert r_squared > 0.99


@pytest.mark.parametrize(
    ("y", "status"),
    [
        (np.zeros(40), "flat"),
        (np.arange(40.0), "straight"),
        (np.exp(-np.arange(40) / 9.0), "opposite"),
        (np.r_[0, np.nan, 1 - np.exp(-np.arange(38) / 9.0)], "nan"),
        (np.r_[0, np.inf, 1 - np.exp(-np.arange(38) / 9.0)], "nan"),
        (np.array([0, 0.5, 0.7]), "too_few"),
    ],
)
@pytest.mark.parametrize("interp", [True, False])
def test_fit__no_answer_is_nan_and_a_word(y, status, interp):
    fitter = TauFitter(1e-3 * np.arange(y.size), y, [0, 1])
    popt, pcov, r_squared, adjusted = fitter.fit_tau_on(interp=interp)
    assert fitter.tau_on_status == status
    assert np.isnan(popt).all()
    assert np.isnan(pcov).all()
    assert np.isnan([r_squared, adjusted]).all()
    assert np.isnan(fitter.get_tau_on())


def test_fit__step():
    y = np.r_[np.zeros(1), np.ones(39)]
    fitter = TauFitter(np.arange(40.0), y, [0, 40])
    assert np.isnan(fitter.fit_tau_on(interp=False)[0]).all()
    assert fitter.tau_on_status == "step"
    # Interpolation makes a ramp of one sample of it, and that has a time constant of its own.
    assert 0.1 < fitter.fit_tau_on(interp=True)[0][1] < 1.0


def test_fit__noise_has_r_squared_but_no_tau():
    # Seeds are chosen so that the best exponential is neither a step nor a line.
    found = set()
    for seed in range(20):
        y = np.random.default_rng(seed).normal(size=40)
        fitter = TauFitter(np.arange(40.0), y, [0, 40])
        popt, _, r_squared, _ = fitter.fit_tau_on(interp=False)
        assert np.isnan(popt).all()
        found.add(fitter.tau_on_status)
        if fitter.tau_on_status in ("noise", "no_response") and np.isfinite(r_squared):
            # F(2, 37) = R2 / 2 / ((1 - R2) / 37) < 10.
            assert 0 < r_squared < 20 / 57
    assert "no_response" in found
    assert found <= {"no_response", "noise", "opposite", "step", "straight"}


def test_fit__empty_window():
    fitter = TauFitter(np.arange(40.0), np.arange(40.0), [50, 60])
    fitter.fit_tau_on()
    assert fitter.tau_on_status == "too_few"


@pytest.mark.parametrize("interp", [True, False])
def test_fit__uneven_times(scipy_fit, interp):
    rng = np.random.default_rng(4)
    t = np.cumsum(rng.uniform(0.5e-3, 2e-3, 60))
    y = 1e-6 * (1 - np.exp(-(t - t[0]) / 0.02) + rng.normal(0, 0.01, 60))
    popt, _, r_squared, _ = TauFitter(t, y, [0, 1]).fit_tau_on(interp=interp)
    tau, expected = scipy_fit(t, y, "on", 100 if interp else 0)
    assert popt[1] == pytest.approx(tau, rel=TAU)
    assert r_squared == pytest.approx(expected, abs=TAU)


def test_compute_r_squared__static_method():
    x = np.arange(5.0)
    y = np.array([0, 1, 1.5, 1.7, 1.8])
    # autotau 0.6.0: TauFitter.compute_r_squared(x, y, (2, 1, 0), TauFitter.exp_rise).
    expected = (0.9131765030237412, 0.6527060120949648)
    found = TauFitter.compute_r_squared(x, y, (2, 1, 0), TauFitter.exp_rise)
    assert found == pytest.approx(expected, rel=1e-14)
    np.testing.assert_array_equal(TauFitter.normalize_signal([1, 2, 4]), [0, 1 / 3, 1])
    np.testing.assert_array_equal(TauFitter.normalize_signal([2, 2]), [0, 0])


def test_get_tau__before_the_fit(caplog, capsys):
    with caplog.at_level(logging.WARNING):
        assert TauFitter([0, 1, 2], [0, 1, 2]).get_tau_on() is None
    assert "call fit_tau_on() first" in caplog.text
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 1, 2], [0, 1]), r"shape \(3,\) and signal \(2,\)"),
        (([0, 2, 1], [0, 1, 2]), r"time\[2\] = 1.0: times must be finite and increase"),
        (([0, 1, np.nan], [0, 1, 2]), r"time\[2\]"),
        (([0, 1], [0, 1], None, None, False, "de"), "language='de': expected 'en' or 'cn'"),
    ],
)
def test_init__bad_arguments(arguments, message):
    with pytest.raises(ParameterError, match=message):
        TauFitter(*arguments)


def test_fit__bad_arguments():
    fitter = TauFitter(np.arange(9.0), np.arange(9.0))
    with pytest.raises(ParameterError, match="set t_on_idx"):
        fitter.fit_tau_on()
    with pytest.raises(ParameterError, match="both time and signal"):
        fitter.fit_tau_on(time=[0, 1, 2, 3])
    with pytest.raises(ParameterError, match="points_after_interp=3"):
        fitter.fit_tau_off(points_after_interp=3)
