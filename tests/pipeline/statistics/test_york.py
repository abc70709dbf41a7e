"""Lines with errors in both coordinates, against published values and a search of the minimum."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import linregress

from oectflow.pipeline.statistics.york import fit_line

# Pearson's (1901) data with York's (1966) weights.
X = np.array([0.0, 0.9, 1.8, 2.6, 3.3, 4.4, 5.2, 6.1, 6.5, 7.4])
Y = np.array([5.9, 5.4, 4.4, 4.6, 3.5, 3.7, 2.8, 2.8, 2.4, 1.5])
U_X = 1 / np.sqrt([1000.0, 1000, 500, 800, 200, 80, 60, 20, 1.8, 1])
U_Y = 1 / np.sqrt([1.0, 1.8, 4, 8, 20, 20, 70, 70, 100, 500])


def objective(a: float, b: float, x, y, u_x, u_y) -> float:
    return float(np.sum((y - a - b * x) ** 2 / (u_y**2 + b**2 * u_x**2)))


def test_pearson_york__published_values() -> None:
    line = fit_line(X, Y, U_X, U_Y)
    assert line is not None
    # Williamson (1968), as Reed (1989), Am. J. Phys. 57, 642, gives it.
    assert line.slope == pytest.approx(-0.48053340745, rel=1e-11)
    assert line.intercept == pytest.approx(5.47991022403, rel=1e-11)
    # York et al. (2004): standard errors 0.0580 and 0.295, chi2 / 8 = 1.483.
    assert line.slope_stderr == pytest.approx(0.057985, abs=5e-7)
    assert line.intercept_stderr == pytest.approx(0.294971, abs=5e-7)
    assert line.chi2 / line.freedom == pytest.approx(1.4833, abs=5e-5)
    assert not line.scattered
    assert line.reach == pytest.approx(1.959964, abs=1e-5)


@pytest.mark.parametrize("through_zero", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_line__is_the_minimum_of_its_sum_of_squares(seed: int, through_zero: bool) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 20))
    x = rng.uniform(1, 10, n)
    u_x, u_y = rng.uniform(0, 0.5, (2, n))
    y = (0 if through_zero else 3.0) - 2 * x + rng.normal(size=n)
    line = fit_line(x, y, u_x, u_y, through_zero=through_zero)
    assert line is not None

    def cost(p: np.ndarray) -> float:
        return objective(0.0 if through_zero else p[1], p[0], x, y, u_x, u_y)

    found = minimize(
        cost, [line.slope * 1.1, line.intercept + 0.1], method="Nelder-Mead",
        options={"xatol": 1e-10, "fatol": 1e-12, "maxiter": 4000},
    )  # fmt: skip
    # A minimum is flat: half the digits of the sum of squares.
    assert line.chi2 <= found.fun * (1 + 1e-12)
    assert line.slope == pytest.approx(found.x[0], rel=1e-5)


def test_errors_in_y_only__are_weighted_least_squares() -> None:
    line = fit_line(X, Y, np.zeros(X.size), U_Y)
    assert line is not None
    weights = 1 / U_Y
    (slope, intercept), covariance = np.polyfit(X, Y, 1, w=weights, cov="unscaled")
    assert (line.slope, line.intercept) == pytest.approx((slope, intercept), rel=1e-12)
    assert line.scattered
    widened = covariance * line.chi2 / line.freedom
    assert line.slope_stderr == pytest.approx(np.sqrt(widened[0, 0]), rel=1e-12)
    assert line.intercept_stderr == pytest.approx(np.sqrt(widened[1, 1]), rel=1e-12)
    assert line.covariance == pytest.approx(widened[0, 1], rel=1e-12)


def test_without_errors__is_ordinary_least_squares() -> None:
    line, expected = fit_line(X, Y), linregress(X, Y)
    assert line is not None
    assert line.slope == pytest.approx(expected.slope, rel=1e-12)
    assert line.slope_stderr == pytest.approx(expected.stderr, rel=1e-12)
    assert line.intercept_stderr == pytest.approx(expected.intercept_stderr, rel=1e-12)
    # Student's t, 8 degrees of freedom (tables: 2.306).
    assert line.reach == pytest.approx(2.306, abs=5e-4)


def test_swapping_the_axes__is_the_same_line() -> None:
    line, swapped = fit_line(X, Y, U_X, U_Y), fit_line(Y, X, U_Y, U_X)
    assert line is not None
    assert swapped is not None
    assert swapped.slope == pytest.approx(1 / line.slope, rel=1e-12)
    assert swapped.chi2 == pytest.approx(line.chi2, rel=1e-12)


def test_scale__changes_nothing_but_the_units() -> None:
    line = fit_line(X, Y, U_X, U_Y)
    small = fit_line(1e-9 * X, 1e-6 * Y, 1e-9 * U_X, 1e-6 * U_Y)
    assert line is not None
    assert small is not None
    assert small.slope == pytest.approx(1e3 * line.slope, rel=1e-12)
    assert small.slope_stderr == pytest.approx(1e3 * line.slope_stderr, rel=1e-12)
    scaled = line.scaled(1e-9, 1e-6)
    assert scaled.slope == pytest.approx(small.slope, rel=1e-12)
    assert scaled.covariance == pytest.approx(small.covariance, rel=1e-11)
    assert scaled.intercept_stderr == pytest.approx(small.intercept_stderr, rel=1e-12)


def test_scatter__beyond_the_errors_widens_them() -> None:
    line, small = fit_line(X, Y, U_X, U_Y), fit_line(X, Y, U_X / 10, U_Y / 10)
    assert line is not None
    assert small is not None
    assert small.scattered
    # Errors ten times too small, made larger by sqrt(100 * 1.483).
    widened = line.slope_stderr * np.sqrt(line.chi2 / line.freedom)
    assert small.slope_stderr == pytest.approx(widened, rel=1e-9)


@pytest.mark.parametrize(
    ("x", "through_zero"),
    [([1.0, 2.0], False), ([1.0], True), ([2.0, 2.0, 2.0], False), ([], True)],
)
def test_points_that_determine_no_line(x: list[float], through_zero: bool) -> None:
    points = np.array(x)
    assert fit_line(points, points, through_zero=through_zero) is None


@pytest.mark.parametrize("through_zero", [False, True])
def test_coverage__of_95_percent_intervals(through_zero: bool) -> None:
    rng = np.random.default_rng(5)
    x = np.linspace(1, 10, 8)
    u_x, u_y = 0.03 * x, 0.05 * x
    inside = 0
    for _ in range(4000):
        seen = x + u_x * rng.normal(size=8)
        y = (0.0 if through_zero else 1.0) + 2 * x + u_y * rng.normal(size=8)
        line = fit_line(seen, y, u_x, u_y, through_zero=through_zero)
        assert line is not None
        inside += abs(line.slope - 2) <= line.reach * line.slope_stderr
    # 4000 draws: the share of a right interval is within 1.4 % of 95 % with 4 standard errors.
    assert 0.936 <= inside / 4000 <= 0.97
