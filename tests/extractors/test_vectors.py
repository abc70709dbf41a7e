"""Vectors of the processor, and Newton's steps that are written with them."""

from __future__ import annotations

import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from numba import config, njit
from numba.core.errors import TypingError

from oectflow.extractors.kernels import closed_forms, cycles, gate, misfit
from oectflow.extractors.kernels import exponential as ex
from oectflow.extractors.kernels.simd_fit import LANES
from oectflow.extractors.kernels.vectors import (
    WIDE,
    WIDTH,
    fma,
    like,
    load,
    load_wide,
    splat,
    store,
    transpose,
    where_less,
)


@njit
def operate(a, b, out):
    x, y = load(a, 1), load(b, 0)
    store(out, 0, x + y)
    store(out, WIDTH, x - y)
    store(out, 2 * WIDTH, x * y)
    store(out, 3 * WIDTH, x / y)
    store(out, 4 * WIDTH, where_less(x, y, splat(1), like(x, -1.0)))
    store(out, 5 * WIDTH, fma(x, y, like(y, 0.1)))
    store(out, 6 * WIDTH, load_wide(a, 0))


@njit
def turn(matrix, out):
    rows = load(matrix, 0), load(matrix, 4), load(matrix, 8), load(matrix, 12)
    columns = transpose(rows[0], rows[1], rows[2], rows[3])
    for i in range(4):
        store(out, 4 * i, columns[i])


@njit
def less_one(x, out):
    store(out, 0, closed_forms.less_one(load(x, 0)))


@pytest.mark.parametrize("n", [0, 1, 2, 15, 16, 17, 31, 32, 33, 200])
def test_extremes__as_numpy(n: int) -> None:
    rng = np.random.default_rng(n)
    for missing in (0.0, 0.5, 1.0):
        for at in range(max(n, 1)):
            y = rng.normal(size=n)
            y[rng.random(n) < missing] = np.nan
            if n and missing < 1:
                # Each place in turn holds the least one, and its neighbour the largest.
                y[at], y[at - 1] = -np.inf, 9.0
            finite = y[~np.isnan(y)]
            expected = (finite.min(), finite.max()) if finite.size else (np.inf, -np.inf)
            assert gate.extremes(y) == expected
            assert gate.swing(y) == (expected[1] - expected[0] if finite.size > 1 else 0.0)


def test_load__refuses_gaps() -> None:
    if config.DISABLE_JIT:
        pytest.skip("NumPy reads arrays with gaps")
    with pytest.raises(TypingError, match="layout C"):
        gate.extremes(np.zeros(64)[::2])


def test_operations__as_numpy() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=WIDE), rng.normal(size=WIDTH)
    a[2] = np.nan
    out = np.empty(6 * WIDTH + WIDE)
    operate(a, b, out)
    x = a[1 : 1 + WIDTH]
    np.testing.assert_array_equal(
        out[: 5 * WIDTH].reshape(5, WIDTH), [x + b, x - b, x * b, x / b, np.where(x < b, 1, -1)]
    )
    np.testing.assert_array_equal(out[6 * WIDTH :], a)


def test_fma__rounds_once() -> None:
    # 1 + 2^-30 squared has a last bit that a product of its own loses.
    a = np.full(WIDE, 1.0 + 2.0**-30)
    out = np.empty(6 * WIDTH + WIDE)
    operate(a, np.full(WIDTH, -1.0 - 2.0**-30), out)
    exact = Fraction(a[0]) * Fraction(-a[0]) + Fraction(0.1)
    np.testing.assert_array_equal(out[5 * WIDTH : 6 * WIDTH], float(exact))


def test_transpose() -> None:
    matrix, out = np.arange(16.0), np.empty(16)
    turn(matrix, out)
    np.testing.assert_array_equal(out.reshape(4, 4), matrix.reshape(4, 4).T)


@pytest.mark.parametrize("x", [0.0, -1e-300, -1e-9, -0.01, -0.5, -1.0, -3.3, -9.99, -10.24])
def test_less_one__against_mpmath(x: float) -> None:
    out = np.empty(WIDTH)
    less_one(np.full(WIDTH, x), out)
    # Five squarings double the relative error of p each, at most: 32 roundings of the first.
    assert out[0] == pytest.approx(float(mpmath.expm1(x)), rel=32 * 2.0**-52, abs=0.0)


@pytest.mark.parametrize("n", [5, 8, 41, 50, 999])
@pytest.mark.parametrize("share", [0.05, 0.3, 1.0])
def test_newton_step__finds_the_tau_of_a_curve(n: int, share: float) -> None:
    taus = share * n * np.linspace(0.8, 1.25, WIDE)
    y = np.exp(-np.arange(n)[:, None] / taus)
    y -= y.mean(axis=0)
    # Newton's error squares: 5 % of ln tau is 2e-13 after four steps.
    rates, done = 1.05 / taus, np.zeros(WIDE)
    for _ in range(5):
        closed_forms.newton_step(y.ravel(), n, 100.0 * n, 1e-9, rates, done)
    # Of the sums (n / tau)^2 / 12 is left about their means, and the curvature of R2 there is
    # (0.13 n / tau)^2: what roundings do to ln tau, ten of its own
    # and those of a polynomial of n terms.
    rounding = (10 + n**0.5) * 2.0**-52 * 12 / 0.13**2 * (1.25 * share) ** 4
    np.testing.assert_allclose(rates * taus, 1.0, rtol=0, atol=rounding + 1e-12)


def test_newton_step__leaves_lanes_that_are_done() -> None:
    y = np.random.default_rng(1).normal(size=20 * WIDE)
    rates, done = np.full(WIDE, 0.1), np.ones(WIDE)
    closed_forms.newton_step(y, 20, 2000.0, 1e-9, rates, done)
    np.testing.assert_array_equal(rates, 0.1)


@pytest.mark.parametrize("n", [6, 20, 51])
@pytest.mark.parametrize("sign", [ex.DECAY, ex.RISE])
def test_evidence__as_that_of_one_window(n: int, sign: int) -> None:
    rng = np.random.default_rng(n)
    windows = sign * np.exp(-np.arange(n) / (0.3 * n)) + rng.normal(0, 1e-3, (LANES + 3, n))
    y, starts = windows.ravel(), n * np.arange(LANES + 3)
    rows, codes = np.empty((LANES + 3, ex.N_COLUMNS)), np.empty(LANES + 3, np.int8)
    said = np.empty((LANES + 3, misfit.N_EVIDENCE))
    cycles.fit_windows(y, np.empty(0), starts, n, sign, rows, codes, said)
    assert (codes == ex.FIT_OK).all()
    one, space = np.empty((1, misfit.N_EVIDENCE)), misfit.examine_space(n, 1)
    for k in range(LANES + 3):
        tau = rows[k, ex.TAU : ex.TAU + 1].copy()
        misfit.examine_one(windows[k], np.empty(0), np.zeros(1, np.int64), n, tau, space, one)
        # tau differs by 1e-7 of its own, which changes sums by as much.
        np.testing.assert_allclose(said[k], one[0], rtol=1e-5, atol=1e-6)
    alone = np.empty((1, misfit.N_EVIDENCE))
    cycles.fit_windows(y, np.empty(0), starts[7:8], n, sign, rows[:1], codes[:1], alone)
    np.testing.assert_array_equal(alone[0], said[7])


def test_evidence__against_least_squares() -> None:
    n, tau = 60, 15.0
    t = np.arange(float(n))
    rng = np.random.default_rng(3)
    y = np.exp(-t / tau) + 0.05 * np.exp(-t / 4) + rng.normal(0, 1e-3, n)
    rows, codes = np.empty((1, ex.N_COLUMNS)), np.empty(1, np.int8)
    said = np.empty((1, misfit.N_EVIDENCE))
    cycles.fit_windows(y, np.empty(0), np.zeros(1, np.int64), n, ex.DECAY, rows, codes, said)
    # The tangent space of the model, and q = d2f/dtheta2, by formula; the projections by NumPy.
    z = t / rows[0, ex.TAU]
    f, h = np.expm1(-z), z * np.exp(-z)
    q = z * h - h
    design = np.column_stack([np.ones(n), f, h, q])
    coefficients, (total,), _, _ = np.linalg.lstsq(design, y, rcond=None)
    assert said[0, misfit.VARIANCE] == pytest.approx(total / (n - 4), rel=1e-6)
    assert said[0, misfit.SPREAD] == pytest.approx(
        2.0 * coefficients[3] / rows[0, ex.AMPLITUDE], rel=1e-5
    )
    residuals = y - design @ coefficients
    leverage = np.einsum("ij,ji->i", design, np.linalg.pinv(design))
    studentised = residuals**2 / (1.0 - leverage)
    assert said[0, misfit.WORST_AT] == np.argmax(studentised)
    others = (total - studentised.max()) / (n - 5)
    assert said[0, misfit.STUDENT] == pytest.approx(math.sqrt(studentised.max() / others), rel=1e-6)
