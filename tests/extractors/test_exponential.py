from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import curve_fit

from oectflow.extractors.kernels import exponential as ex
from tests.extractors import naive_tau
from tests.reference.solve import exponential, nist

NO_TIMES = np.empty(0)


def fit(
    y: Any, t: Any = NO_TIMES, process: int = ex.EITHER, fixed: float = np.nan
) -> tuple[np.ndarray, int, int]:
    row = np.empty(ex.N_COLUMNS)
    code, sign = ex.fit_exponential(np.asarray(y, float), np.asarray(t, float), process, fixed, row)
    return row, code, sign


@pytest.mark.parametrize("name", ["Misra1a", "BoxBOD"])
def test_fit_exponential__nist_certified_values(name: str) -> None:
    data = nist(name)
    row, code, _ = fit(data["y"], data["x"], ex.RISE, fixed=0.0)
    assert code == ex.FIT_OK
    (b1, se_b1), (b2, se_b2) = (map(float, data["certified"][b]) for b in ("b1", "b2"))
    # Certified to 11 significant digits, so at best to half a unit of the eleventh.
    assert row[ex.AMPLITUDE] == pytest.approx(b1, rel=5e-11)
    assert row[ex.TAU] == pytest.approx(1 / b2, rel=5e-11)
    assert row[ex.SE_AMPLITUDE] == pytest.approx(se_b1, rel=5e-11)
    # se(tau) = se(b2) / b2^2, both with 11 digits.
    assert row[ex.SE_TAU] == pytest.approx(se_b2 / b2**2, rel=1.5e-10)


@pytest.mark.parametrize(
    ("name", "process"),
    [
        ("Misra1a", ex.RISE),
        ("BoxBOD", ex.RISE),
        ("MGH17", ex.DECAY),
        ("Lanczos1", ex.DECAY),
        ("Lanczos3", ex.DECAY),
    ],
)
def test_fit_exponential__fifty_digit_solutions(name: str, process: int) -> None:
    data = nist(name)
    expected = exponential(data["x"], data["y"], rises=process == ex.RISE)
    row, code, _ = fit(data["y"], data["x"], process)
    assert code == ex.FIT_OK
    assert row[ex.TAU] == pytest.approx(expected.tau, rel=1e-10)
    assert row[ex.AMPLITUDE] == pytest.approx(expected.amplitude, rel=1e-10)
    # C may be small beside A: its digits are those of A.
    assert row[ex.OFFSET] == pytest.approx(expected.offset, abs=1e-10 * expected.amplitude)
    assert row[ex.R2] == pytest.approx(expected.r_squared, rel=1e-13)
    # As good as tau, by which they are; they are sums of n <= 33 products.
    errors = row[[ex.SE_TAU, ex.SE_AMPLITUDE, ex.SE_OFFSET]]
    assert errors == pytest.approx(expected.errors, rel=1e-10)


@pytest.mark.parametrize("process", [ex.DECAY, ex.RISE])
def test_fit_exponential__standard_errors_of_curve_fit(process: int) -> None:
    rng = np.random.default_rng(7)
    t = np.arange(40.0)
    y = naive_tau.model(t, 9.0, 2.0, 0.3, process) + rng.normal(0, 0.05, 40)
    row, code, _ = fit(y, process=process)
    assert code == ex.FIT_OK
    popt, pcov = curve_fit(
        lambda t, tau, a, c: naive_tau.model(t, tau, a, c, process),
        t,
        y,
        p0=(8, 2, 0.3),
        xtol=1e-15,
        ftol=1e-15,
    )
    # MINPACK's Jacobian by forward differences is good to sqrt(eps) = 1.5e-8; so is the minimum.
    assert row[[ex.TAU, ex.AMPLITUDE, ex.OFFSET]] == pytest.approx(popt, rel=1e-6)
    assert row[[ex.SE_TAU, ex.SE_AMPLITUDE, ex.SE_OFFSET]] == pytest.approx(
        np.sqrt(np.diag(pcov)), rel=1e-6
    )
    n = 40
    assert row[ex.R2_ADJUSTED] == pytest.approx(1 - (1 - row[ex.R2]) * (n - 1) / (n - 4), rel=1e-15)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(5, 60),
    log_tau=st.floats(-0.7, 2.3),
    log_snr=st.floats(0.5, 6),
    sign=st.sampled_from([ex.DECAY, ex.RISE]),
    uneven=st.booleans(),
)
def test_fit_exponential__is_global_optimum(
    seed: int, n: int, log_tau: float, log_snr: float, sign: int, uneven: bool
) -> None:
    rng = np.random.default_rng(seed)
    t = np.arange(float(n))
    if uneven:
        t += rng.uniform(-0.3, 0.3, n)
        t -= t[0]
    tau = min(10**log_tau, 10 * n)
    y = naive_tau.model(t, tau, 1, 0, sign) + rng.normal(0, 10**-log_snr, n)
    row, code, _ = fit(y, t if uneven else NO_TIMES, sign)
    expected = naive_tau.fit(t, y, sign)
    if code in (ex.FIT_OK, ex.NOISE):
        assert expected is not None
        # 1e-12: R2 of either is a quotient of sums of n <= 60 squares, n eps = 1e-14 each.
        assert row[ex.R2] >= expected.r2 - 1e-12
        assert naive_tau.r_squared(t, y, row[ex.TAU]) == pytest.approx(row[ex.R2], abs=1e-11)
    else:
        assert expected is None or not expected.inside


@pytest.mark.parametrize("scale", [1e-9, 1e-6, 1e-3, 1e3, 1e9, 1e-200, 1e200])
@pytest.mark.parametrize("baseline", [0.0, 100.0, -100.0])
def test_fit_exponential__scale_and_baseline(scale: float, baseline: float) -> None:
    rng = np.random.default_rng(11)
    t = np.arange(41.0)
    y = np.exp(-t / 7.5) + rng.normal(0, 0.01, 41)
    reference, _, _ = fit(y)
    row, code, _ = fit((y + baseline) * scale)
    assert code == ex.FIT_OK
    # Rounding the data at 100 times the amplitude costs 100 eps = 2e-14 each; 41 of them.
    assert row[ex.TAU] == pytest.approx(reference[ex.TAU], rel=1e-11)
    assert row[ex.AMPLITUDE] == pytest.approx(reference[ex.AMPLITUDE] * scale, rel=1e-11)


def test_fit_exponential__unit_of_time() -> None:
    t = np.cumsum(np.random.default_rng(3).uniform(0.5, 1.5, 30))
    t -= t[0]
    y = 1 - np.exp(-t / 4)
    tau_s = fit(y, t)[0][ex.TAU]
    tau_ms = fit(y, t * 1e3)[0][ex.TAU]
    assert tau_s == pytest.approx(4, rel=1e-12)
    assert tau_ms == pytest.approx(4e3, rel=1e-12)


def test_fit_exponential__even_times_given_or_not() -> None:
    y = np.exp(-np.arange(50.0) / 12) + np.random.default_rng(5).normal(0, 0.1, 50)
    a, _, _ = fit(y)
    b, _, _ = fit(y, np.arange(50.0))
    assert a == pytest.approx(b, rel=1e-10)


def test_fit_exponential__sign_tells_the_process() -> None:
    t = np.arange(30.0)
    y = 2 * np.exp(-t / 6) + 1
    fall, _, sign = fit(y)
    assert sign == ex.DECAY
    assert fall[[ex.TAU, ex.AMPLITUDE, ex.OFFSET]] == pytest.approx([6, 2, 1], rel=1e-12)
    rise, _, sign = fit(-y)
    assert sign == ex.RISE
    assert rise[[ex.TAU, ex.AMPLITUDE, ex.OFFSET]] == pytest.approx([6, 2, -3], rel=1e-12)


def test_fit_exponential__fixed_constant_of_a_decay() -> None:
    t = np.arange(30.0)
    row, code, _ = fit(2 * np.exp(-t / 6) + 0.7, process=ex.DECAY, fixed=0.7)
    assert code == ex.FIT_OK
    assert row[[ex.TAU, ex.AMPLITUDE, ex.OFFSET]] == pytest.approx([6, 2, 0.7], rel=1e-12)
    assert row[ex.SE_OFFSET] == 0


@pytest.mark.parametrize(
    ("y", "code"),
    [
        (np.full(20, 3e-6), ex.FLAT),
        (np.zeros(20), ex.FLAT),
        (3e-6 * (1 + 2.0**-52 * (np.arange(20) % 2)), ex.FLAT),
        (np.arange(20.0), ex.STRAIGHT),
        (np.arange(20.0) ** 2, ex.STRAIGHT),
        (np.r_[1.0, np.zeros(19)], ex.STEP),
        (np.r_[1, np.nan, np.zeros(18)], ex.NOT_FINITE),
        (np.r_[1, np.inf, np.zeros(18)], ex.NOT_FINITE),
        (np.array([1.0, 0.5, 0.3]), ex.TOO_FEW),
        (np.random.default_rng(0).normal(size=41), ex.NOISE),
    ],
    ids=[
        "constant", "zero", "last-bit", "line", "parabola", "spike", "nan", "inf", "three", "noise",
    ],
)  # fmt: skip
def test_fit_exponential__degenerate(y: np.ndarray, code: int) -> None:
    row, got, _ = fit(y)
    assert got == code
    assert np.isnan(row[ex.TAU]) == (code != ex.NOISE)


def test_fit_exponential__opposite_process() -> None:
    row, code, _ = fit(np.exp(-np.arange(30.0) / 5), process=ex.RISE)
    assert code == ex.OPPOSITE
    assert np.isnan(row).all()
