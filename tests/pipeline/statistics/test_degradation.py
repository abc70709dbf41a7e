"""Degradation models against SciPy, generalised least squares and simulated truth."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy.linalg import toeplitz
from scipy.optimize import approx_fprime, curve_fit

import oectflow as of
from oectflow.errors import OutputError, ParameterError
from oectflow.extractors.autotau import CyclesAutoTauFitter
from oectflow.pipeline.statistics import ageing_fit
from oectflow.pipeline.statistics.ageing_models import MODELS

NAMES = [model.name for model in MODELS]
N = 60
AGES = np.arange(float(N))
TRUTH = {
    "linear": 1 - 0.008 * AGES,
    "exponential": np.exp(-0.02 * AGES),
    "power": (1 + AGES) ** -0.25,
    "stretched": np.exp(-((0.02 * AGES) ** 0.6)),
}
HALF = {
    "linear": 62.5,
    "exponential": math.log(2) / 0.02,
    "power": 15.0,
    "stretched": math.log(2) ** (1 / 0.6) / 0.02,
}
#: Shape parameters for ages in spans of 59 steps.
SHAPES = {
    "linear": (0.4,),
    "exponential": (1.2,),
    "power": (0.3,),
    "stretched": (1.1, 0.6),
}


def noise(rng: np.random.Generator, alike: float, n: int = N) -> np.ndarray:
    """Return noise of unit variance whose neighbours are alike."""
    fresh = rng.normal(size=n)
    out = fresh.copy()
    for k in range(1, n):
        out[k] = alike * out[k - 1] + math.sqrt(1 - alike**2) * fresh[k]
    return out


def make_results(rows: np.ndarray, **others: Any) -> xr.Dataset:
    """Results of a feature ``x``, an experiment in each row."""
    both = ("experiment", "step")
    data = {
        "x": (both, rows, {"units": "S", "feature": "x"}),
        "x_status": (both, np.where(np.isfinite(rows), "ok", "noise").astype(object)),
    }
    coords = {"experiment": [f"e{k}" for k in range(len(rows))], "step": np.arange(rows.shape[1])}
    return xr.Dataset(data | others, coords)


@pytest.mark.parametrize("model", MODELS, ids=NAMES)
def test_model__slopes_and_half_lives(model: Any) -> None:
    shape, unit = SHAPES[model.name], 1 / 59
    x = np.linspace(0, 1, 7)
    slopes = model.slopes(x, unit, *shape)
    for k, at in enumerate(x):
        numeric = approx_fprime(
            np.array(shape), lambda p, at=at: model.shape(np.array([at]), unit, *p)[0], 1e-7
        )
        np.testing.assert_allclose(slopes[:, k], numeric, rtol=1e-5, atol=1e-6)
    log, by = model.log_half(unit, *shape)
    np.testing.assert_allclose(model.shape(np.exp([log]), unit, *shape), 0.5, rtol=1e-12)
    numeric = approx_fprime(np.array(shape), lambda p: model.log_half(unit, *p)[0], 1e-7)
    np.testing.assert_allclose(by, numeric, rtol=1e-5)
    assert model.shape(np.array([0.0]), unit, *shape)[0] == 1


@pytest.mark.parametrize("model", MODELS, ids=NAMES)
@pytest.mark.parametrize("seed", range(3))
def test_fit__is_the_best_that_scipy_finds(model: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, z = AGES / AGES[-1], TRUTH[NAMES[seed]] + 0.02 * rng.normal(size=N)
    unit = 1 / (N - 1)
    fit = ageing_fit._fit_model(model, x, z, unit, np.zeros(N - 1), 0.0)
    assert fit is not None

    def function(t: np.ndarray, a: float, *p: float) -> np.ndarray:
        return np.asarray(a * model.shape(t, unit, *p))

    costs = []
    low, high = zip((-np.inf, np.inf), *model.bounds, strict=True)
    for start in model.starts:
        best, covariance = curve_fit(function, x, z, [1.0, *start], bounds=(low, high))
        costs.append(float(np.sum((z - function(x, *best)) ** 2)))
    mine = float(np.sum((z - fit.predict(x)[0]) ** 2))
    assert mine <= min(costs) * (1 + 1e-10)
    # Its covariance divides by n - p; here the autocorrelation has taken one more.
    p = model.n_parameters
    best, covariance = curve_fit(function, x, z, [fit.start, *fit.shape], bounds=(low, high))
    np.testing.assert_allclose(
        fit.covariance, covariance * (N - p) / (N - p - 1), rtol=1e-3, atol=1e-12
    )
    k = p + 2
    aicc = N * math.log(mine / N) + 2 * k + 2 * k * (k + 1) / (N - k - 1)
    assert fit.aicc == pytest.approx(aicc, rel=1e-12)


@pytest.mark.parametrize("gaps", [False, True])
def test_noise_that_is_alike__is_generalised_least_squares(gaps: bool) -> None:
    rng = np.random.default_rng(4)
    alike = 0.6
    use = np.sort(rng.permutation(N)[:45]) if gaps else np.arange(N)
    steps = AGES[use] - AGES[use[0]]
    z = (TRUTH["linear"] + 0.02 * noise(rng, alike))[use]
    x = steps / steps[-1]
    unit = 1 / steps[-1]
    carried = alike ** np.diff(steps)
    fit = ageing_fit._fit_model(MODELS[0], x, z, unit, carried, alike)
    assert fit is not None
    V = alike ** np.abs(steps[:, np.newaxis] - steps)
    if not gaps:
        np.testing.assert_allclose(V, toeplitz(alike**AGES), rtol=1e-12)
    X = np.vstack([np.ones(x.size), x]).T
    inverse = np.linalg.inv(V)
    best = np.linalg.solve(X.T @ inverse @ X, X.T @ inverse @ z)
    assert fit.start == pytest.approx(best[0], rel=1e-9)
    assert -fit.start * fit.shape[0] == pytest.approx(best[1], rel=1e-8)
    residual = z - X @ best
    variance = residual @ inverse @ residual / (z.size - 3)
    assert fit.noise == pytest.approx(math.sqrt(variance), rel=1e-9)
    expected = variance * np.linalg.inv(X.T @ inverse @ X)[0, 0]
    assert fit.covariance[0, 0] == pytest.approx(expected, rel=1e-8)


def test_autocorrelation__without_the_bias_of_the_fit() -> None:
    rng = np.random.default_rng(0)
    X = np.vstack([np.ones(N), AGES]).T
    project = np.eye(N) - X @ np.linalg.pinv(X)
    for alike in (0.3, 0.6):
        found = [ageing_fit._autocorrelation(project @ noise(rng, alike), 2) for _ in range(2000)]
        # Of first order in 1 / n; 0.0045 is four standard errors of the mean.
        assert np.mean(found) == pytest.approx(alike, abs=0.02)


def test_without_noise__the_truth_is_found() -> None:
    rows = np.array(list(TRUTH.values())) * 3e-6
    found = of.fit_degradation(make_results(rows), "x")
    assert found["half_life"].dims == ("experiment", "model")
    for k, name in enumerate(TRUTH):
        one = found.isel(experiment=k).sel(model=name)
        # An exponential is a stretched one with beta 1, to the last digits.
        assert one["best"].item() == name or name == "exponential"
        assert one["half_life"].item() == pytest.approx(HALF[name], rel=1e-5)
        assert one["start"].item() == pytest.approx(3e-6, rel=1e-6)
    linear = found.sel(model="linear").isel(experiment=0)
    assert linear["rate"].item() == pytest.approx(0.008, rel=1e-6)
    assert found.sel(model="power")["exponent"][2].item() == pytest.approx(0.25, rel=1e-6)
    stretched = found.sel(model="stretched").isel(experiment=3)
    assert stretched["rate"].item() == pytest.approx(0.02, rel=1e-5)
    assert stretched["exponent"].item() == pytest.approx(0.6, rel=1e-5)
    assert found["half_life"].attrs["units"] == "step"
    assert found["rate"].attrs["units"] == "1/step"
    assert found["start"].attrs["units"] == "S"
    assert "Hurvich" in found.attrs["reference"]


@pytest.mark.parametrize("alike", [0.0, 0.5])
def test_calibration__the_last_third_is_forecast(alike: float) -> None:
    rng = np.random.default_rng(11)
    rows = np.array(
        [truth + 0.01 * noise(rng, alike) for _ in range(40) for truth in TRUTH.values()]
    )
    known = 2 * N // 3
    results = make_results(rows)
    found = of.forecast_degradation(results.isel(step=slice(known)), "x", at=AGES[known:])
    # Now and then noise that is alike looks like a drift, which is said.
    assert (found["status"] == "ok").mean() > 0.97
    later = rows[:, known:]
    inside = (found["forecast_low"] <= later) & (later <= found["forecast_high"])
    # 160 series; those of one are alike: 95 % within 2 % with about 3 standard errors.
    assert 0.93 <= inside.mean() <= 0.97
    fits = of.fit_degradation(results, "x")
    right = 0
    for k, name in enumerate(list(TRUTH) * 40):
        one = fits.isel(experiment=k).sel(model=name)
        right += one["half_life_low"].item() <= HALF[name] <= one["half_life_high"].item()
    assert 0.91 <= right / len(rows) <= 0.985


def test_words_of_series_and_half_lives() -> None:
    rng = np.random.default_rng(2)
    rows = np.vstack(
        [
            np.where(AGES < 5, 1.0, np.nan),  # too few
            1 + 0.01 * AGES + 0.01 * rng.normal(size=N),  # rises
            1 + 0.01 * rng.normal(size=N),  # nothing
            np.exp(-0.002 * AGES) + 0.001 * rng.normal(size=N),  # slow
            np.zeros(N),
            1 + np.sin(AGES / 8) + 0.001 * rng.normal(size=N),  # no model
        ]
    )
    found = of.fit_degradation(make_results(rows), "x")
    assert found["status"].values.tolist() == ["too_few", "ok", "ok", "ok", "no_fit", "drift"]
    assert found["steps"].values.tolist() == [5, N, N, N, N, N]
    words = found["half_life_status"].sel(model="exponential").values.tolist()
    assert words[:5] == ["no_fit", "rises", "no_decay", "beyond", "no_fit"]
    assert found["best"].values[0] == ""
    nothing = found.isel(experiment=2).sel(model="exponential")
    assert math.isnan(nothing["half_life"].item())
    assert nothing["half_life_low"].item() > 60
    assert nothing["half_life_high"].item() == math.inf
    assert "no_decay: " in found["half_life_status"].attrs["words"]
    beyond = of.forecast_degradation(make_results(rows), "x", at=[70])
    assert beyond["status"].values.tolist() == found["status"].values.tolist()
    assert np.isnan(beyond["forecast"].values[[0, 4]]).all()


def test_steps_that_are_not_ok__are_left_out() -> None:
    rng = np.random.default_rng(1)
    row = TRUTH["exponential"] + 0.01 * rng.normal(size=N)
    hurt = row.copy()
    hurt[[3, 10, 11]] = 50
    results = make_results(np.array([row, hurt]))
    results["x_status"][1, [3, 10, 11]] = "outlier"
    expected = make_results(np.array([row]))
    expected["x"][0, [3, 10, 11]] = np.nan
    found = of.fit_degradation(results, "x").isel(experiment=1)
    without = of.fit_degradation(expected, "x").isel(experiment=0)
    assert found["steps"].item() == N - 3
    np.testing.assert_array_equal(found["half_life"], without["half_life"])


def test_against_a_time__and_before_the_begin() -> None:
    rng = np.random.default_rng(3)
    row = np.array([TRUTH["exponential"] + 0.01 * rng.normal(size=N)])
    hours = 3600.0 * (AGES + 2)
    results = make_results(row, time=("step", hours, {"units": "s"}))
    by_step, by_time = (
        of.fit_degradation(results, "x", against).sel(model="exponential")
        for against in ("step", "time")
    )
    assert by_time["half_life"].attrs["units"] == "s"
    assert by_time["half_life"].item() == pytest.approx(3600 * by_step["half_life"].item())
    found = of.forecast_degradation(results, "x", at=[0.0, 7200.0, 3600.0 * 70], against="time")
    assert np.isnan(found["forecast"].values[0, 0])
    assert found["forecast"].values[0, 1] == pytest.approx(1, abs=0.02)
    assert found["at"].attrs["units"] == "s"
    back = results.assign(time=("step", hours[::-1].copy()))
    assert of.fit_degradation(back, "x", "time")["status"].item() == "no_order"


def test_wrong_arguments__are_named() -> None:
    results = make_results(np.array([TRUTH["linear"]]))
    phases = results["x"].expand_dims(phase=["on", "off"]).transpose("experiment", "step", "phase")
    results = results.assign(tau=phases, other=("experiment", [1.0]))
    assert of.fit_degradation(results, "tau", phase="on").sizes["model"] == 4
    assert of.fit_degradation(results, "tau")["best"].dims == ("experiment", "phase")
    for call, said in (
        (lambda: of.fit_degradation(results, "gm"), "no variable 'gm' in these results"),
        (lambda: of.fit_degradation(results, "tau", phase="onn"), "'tau' has no phase='onn'; did"),
        (lambda: of.fit_degradation(results, "tau", phas="on"), "'tau' has no axis 'phas'; did"),
        (lambda: of.fit_degradation(results, "other"), "'other' has no axis 'step'"),
        (lambda: of.fit_degradation(results, "x_status"), "'x_status' holds words"),
        (lambda: of.fit_degradation(results, "x", "other"), "expected one age for each step"),
    ):
        with pytest.raises(OutputError, match=said):
            call()
    with pytest.raises(ParameterError, match="expected a row of finite numbers"):
        of.forecast_degradation(results, "x", at=[np.nan])


def test_real_series__is_forecast_or_says_that_no_model_describes_it(shared_data: Path) -> None:
    """Time constants of the 163 gate cycles of a measured transient."""
    table = np.loadtxt(shared_data / "autotau_transient.csv", delimiter=",", skiprows=1)
    fitter = CyclesAutoTauFitter(table[:, 0], -table[:, 1], period=0.2, sample_rate=1000)
    tau = np.array([cycle["tau_off"] for cycle in fitter.fit_all_cycles(interp=False)])
    # The first cycles settle, as none of the models does: that has a word.
    assert of.fit_degradation(make_results(tau[np.newaxis, :108]), "x")["status"].item() == "drift"
    settled = tau[np.newaxis, 10:]
    known = 2 * settled.shape[1] // 3
    results, later = make_results(settled[:, :known]), settled[:, known:]
    ages = np.arange(known, settled.shape[1])
    found = of.forecast_degradation(results, "x", at=ages)
    assert found["status"].item() == "ok"
    inside = (found["forecast_low"] <= later) & (later <= found["forecast_high"])
    # 51 cycles that are alike.
    assert inside.mean() >= 0.9
