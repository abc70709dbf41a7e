"""Slopes of output curves by least squares, near zero and where the current saturates.

Dimension letters: N samples of all steps, m points of a window, S steps.
"""

from __future__ import annotations

import math

import numpy as np

from oectflow.extractors.kernels.compiled import kernel

#: How a step ended.
FOUND, NO_DATA, TOO_FEW = range(3)
#: Columns of what is known of a step: value and slope of a polynomial at Vd = 0, their variances,
#: their covariance and the degrees of freedom of the residuals; first of the parabola near zero,
#: then of the line in saturation.
LOW, HIGH, END = 0, 6, 12
VALUE, SLOPE, VAR_VALUE, VAR_SLOPE, COVARIANCE, FREEDOM = range(6)
#: Fewest points of a window, which leaves the parabola three degrees of freedom.
FEWEST = 6


@kernel
def polynomial_at_zero(x, y, degree, out):
    """Fit a polynomial by least squares and extrapolate it to x = 0.

    The fit uses orthogonal polynomials p_k on the points (Forsythe 1957, J. SIAM 5, 74): with
    c_k = <y, p_k> / <p_k, p_k>, the value is sum c_k p_k(0), its variance
    s^2 sum p_k(0)^2 / <p_k, p_k>, and the same for the slope with p_k'(0); s^2 is the sum of
    squared residuals over m - degree - 1.

    Parameters
    ----------
    x, y
        Points, at least ``degree + 2`` with more than ``degree`` different x.  Shape (m,).
    degree
        Degree of the polynomial.
    out
        Gets value, slope, their variances and their covariance at x = 0, and the degrees of
        freedom of the residuals.  Shape (6,).
    """
    m = x.size
    residual = y.copy()
    before = np.zeros(m)
    p = np.ones(m)
    norm_before = 1.0
    p0, d0, p0_before, d0_before = 1.0, 0.0, 0.0, 0.0
    value = slope = var_value = var_slope = covariance = 0.0
    for k in range(degree + 1):
        norm = 0.0
        along = 0.0
        shift = 0.0
        for i in range(m):
            square = p[i] * p[i]
            norm += square
            shift += x[i] * square
            along += residual[i] * p[i]
        c = along / norm
        value += c * p0
        slope += c * d0
        var_value += p0 * p0 / norm
        var_slope += d0 * d0 / norm
        covariance += p0 * d0 / norm
        a = shift / norm
        b = norm / norm_before if k > 0 else 0.0
        for i in range(m):
            residual[i] -= c * p[i]
            following = (x[i] - a) * p[i] - b * before[i]
            before[i] = p[i]
            p[i] = following
        norm_before = norm
        p0, p0_before, d0, d0_before = (
            -a * p0 - b * p0_before,
            p0,
            p0 - a * d0 - b * d0_before,
            d0,
        )
    rss = 0.0
    for r in residual:
        rss += r * r
    out[FREEDOM] = m - degree - 1
    s2 = rss / out[FREEDOM]
    out[VALUE] = value
    out[SLOPE] = slope
    out[VAR_VALUE] = s2 * var_value
    out[VAR_SLOPE] = s2 * var_slope
    out[COVARIANCE] = s2 * covariance


@kernel
def slopes_of_curves(Vd, Id, offsets, low, high, out, codes):
    """Fit the beginning and the end of every curve.

    Parameters
    ----------
    Vd, Id
        Samples of all steps, in V and A.  Shape (N,).
    offsets
        Step ``i`` is ``offsets[i]:offsets[i + 1]``.  Shape (S + 1,).
    low, high
        Shares of the largest ``|Vd|``: a parabola is fitted up to ``low`` of it, a line from
        ``1 - high`` of it on.
    out
        Gets what :func:`polynomial_at_zero` returns of both.  Shape (S, 12).
    codes
        Gets ``FOUND``, ``NO_DATA`` or ``TOO_FEW``.  Shape (S,).
    """
    for step in range(offsets.size - 1):
        first, last = offsets[step], offsets[step + 1]
        out[step] = np.nan
        x = np.empty(last - first)
        y = np.empty(last - first)
        n = 0
        largest = 0.0
        for i in range(first, last):
            if math.isfinite(Vd[i]) and math.isfinite(Id[i]):
                x[n] = Vd[i]
                y[n] = Id[i]
                largest = max(largest, abs(Vd[i]))
                n += 1
        if n == 0 or largest == 0.0:
            codes[step] = NO_DATA
            continue
        x, y = x[:n] / largest, y[:n]
        near = np.abs(x) <= low * (1.0 + 1e-9)
        far = np.abs(x) >= 1.0 - high * (1.0 + 1e-9)
        if (
            near.sum() < FEWEST
            or far.sum() < FEWEST
            or np.unique(x[near]).size < 3
            or np.unique(x[far]).size < 3
        ):
            codes[step] = TOO_FEW
            continue
        codes[step] = FOUND
        polynomial_at_zero(x[near], y[near], 2, out[step, LOW:HIGH])
        polynomial_at_zero(x[far], y[far], 1, out[step, HIGH:END])
        for part in (LOW, HIGH):
            out[step, part + SLOPE] /= largest
            out[step, part + VAR_SLOPE] /= largest * largest
            out[step, part + COVARIANCE] /= largest
