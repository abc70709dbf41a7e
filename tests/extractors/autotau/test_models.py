"""The model functions against formulas written out, and SciPy's R2 of a straight line."""

import numpy as np
import pytest
from scipy.stats import linregress

from oectflow.extractors.autotau import (
    batch_exp_rise,
    batch_r_squared,
    compute_adjusted_r_squared,
    compute_r_squared,
    exp_decay,
    exp_rise,
)

EPS = np.finfo(float).eps


def test_models__formula():
    t = np.linspace(0, 0.3, 40)
    # One rounding each of quotient, exp, product and sum.
    np.testing.assert_allclose(
        exp_rise(t, 2, 0.05, -1), 2 * (1 - np.exp(-t / 0.05)) - 1, atol=8 * EPS
    )
    np.testing.assert_allclose(exp_decay(t, 2, 0.05, -1), 2 * np.exp(-t / 0.05) - 1, atol=8 * EPS)


def test_exp_rise__keeps_digits_at_long_tau():
    # 1 - exp(-x) = x - x^2/2 ... ; the naive formula keeps 4 digits at x = 1e-12.
    assert exp_rise(1e-12, 1, 1, 0) == pytest.approx(1e-12, rel=1e-11)


def test_batch_exp_rise__rows_are_single_curves():
    t = np.linspace(0, 1, 7)
    parameters = np.array([[1, 0.1, 0], [2, 0.3, -1.0]])
    expected = [exp_rise(t, *row) for row in parameters]
    np.testing.assert_array_equal(batch_exp_rise(t, parameters), expected)


def test_compute_r_squared__straight_line_by_scipy():
    rng = np.random.default_rng(0)
    x = np.arange(30.0)
    y = 3 * x + rng.normal(0, 5, 30)
    line = linregress(x, y)
    fit = line.slope * x + line.intercept
    assert compute_r_squared(y, fit) == pytest.approx(line.rvalue**2, rel=30 * EPS)
    expected = 1 - (1 - line.rvalue**2) * 29 / 26
    assert compute_adjusted_r_squared(y, fit, 3) == pytest.approx(expected, rel=60 * EPS)
    np.testing.assert_array_equal(
        batch_r_squared([y, y], [fit, y]), [compute_r_squared(y, fit), 1.0]
    )


def test_compute_r_squared__undefined_is_nan():
    assert np.isnan(compute_r_squared([2, 2, 2], [2, 2, 1]))
    assert np.isnan(compute_adjusted_r_squared([1, 2, 3, 4], [1, 2, 3, 5]))
