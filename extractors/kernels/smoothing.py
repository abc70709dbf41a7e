"""Slopes by least squares over windows of points, as Savitzky and Golay have them.

A parabola is fitted to a window of neighbouring points, in the middle of which the point lies; at
the ends of a branch the first and the last window serve.  Where voltages are even this is the same
as ``scipy.signal.savgol_filter(…, polyorder=2, mode="interp")``; elsewhere it is what that formula
is derived from (Savitzky & Golay (1964), Anal. Chem. 36, 1627, doi:10.1021/ac60214a047).

Dimension letters: m points of a branch, w points of a window.
"""

from __future__ import annotations

import math

import numpy as np

from oectflow.extractors.kernels.compiled import borrowing, kernel
from oectflow.extractors.kernels.sweep_errors import (
    EVEN,
    SECOND_ORDER,
    TWO_SIDED_MEAN,
    derivative_errors,
)

#: A formula of a derivative from here on is the length w of a window, odd.
SMOOTHED = 5


@borrowing
def stencil(x, first, w, at, order, weight):
    """Fill in the factors with which the ordinates of a window sum up to a derivative.

    Parameters
    ----------
    x
        Voltages of a branch.  Shape (m,).
    first, w
        Where the window begins, and its points; three or more.
    at
        The index of the point.
    order
        0 for the fitted parabola itself, 1 for its first, 2 for its second derivative.
    weight
        Gets the factors.  Shape (w,) or more.
    """
    scale = 0.0
    for j in range(first, first + w):
        scale = max(scale, abs(x[j] - x[at]))
    s_1 = s_2 = s_3 = s_4 = 0.0
    for j in range(first, first + w):
        u = (x[j] - x[at]) / scale
        s_1 += u
        s_2 += u * u
        s_3 += u * u * u
        s_4 += u * u * u * u
    # The row of the inverse of the normal equations that belongs to the coefficient.
    if order == 0:
        row = (s_2 * s_4 - s_3 * s_3, s_2 * s_3 - s_1 * s_4, s_1 * s_3 - s_2 * s_2)
    elif order == 1:
        row = (s_2 * s_3 - s_1 * s_4, w * s_4 - s_2 * s_2, s_1 * s_2 - w * s_3)
    else:
        row = (s_1 * s_3 - s_2 * s_2, s_1 * s_2 - w * s_3, w * s_2 - s_1 * s_1)
    determinant = w * (s_2 * s_4 - s_3 * s_3) + s_1 * (s_2 * s_3 - s_1 * s_4)
    determinant += s_2 * (s_1 * s_3 - s_2 * s_2)
    factor = 1.0 / determinant
    if order > 0:
        factor /= scale
    if order > 1:
        factor *= 2.0 / scale
    for j in range(w):
        u = (x[first + j] - x[at]) / scale
        weight[j] = factor * (row[0] + u * (row[1] + u * row[2]))


@borrowing
def window_of(m, w, k):
    """Return where the window of point ``k`` begins: it lies within the branch."""
    return min(max(k - w // 2, 0), m - w)


@kernel
def smooth(y, x, w, order, d):
    """Fill in the fitted parabola of every point, or a derivative of it.

    Parameters
    ----------
    y, x
        Ordinates and voltages of a branch.  Shape (m,), m >= w.
    w, order
        As in :func:`stencil`.
    d
        Gets the numbers.  Shape (m,).
    """
    m = x.size
    weight = np.empty(w)
    for k in range(m):
        first = window_of(m, w, k)
        stencil(x, first, w, k, order, weight)
        total = 0.0
        # Relative to one ordinate, since a constant has no derivative, not even by rounding.
        base = y[k] if order > 0 else 0.0
        for j in range(w):
            total += weight[j] * (y[first + j] - base)
        d[k] = total


@kernel
def smooth_errors(x, spread, w, order, error):
    """Fill in the standard errors of what :func:`smooth` computes.

    Parameters
    ----------
    x, spread
        Voltages, and standard deviations of the ordinates.  Shape (m,).
    w, order
        As in :func:`stencil`.
    error
        Gets them.  Shape (m,).
    """
    m = x.size
    weight = np.empty(w)
    for k in range(m):
        first = window_of(m, w, k)
        stencil(x, first, w, k, order, weight)
        total = 0.0
        for j in range(w):
            total += (weight[j] * spread[first + j]) ** 2
        error[k] = math.sqrt(total)


@borrowing
def slope_errors(x, spread, formula, error):
    """Fill in the standard errors of the slopes of :func:`.sweeps.derivative`, by any formula."""
    if formula >= SMOOTHED:
        smooth_errors(x, spread, formula, 1, error)
    else:
        derivative_errors(x, spread, formula, error)


@borrowing
def slope_weights(x, k, formula, weight):
    """Fill in the factors with which ordinates sum up to the slope at one point.

    Parameters
    ----------
    x, formula
        As in :func:`.sweeps.derivative`.
    k
        The index of the point.
    weight
        Gets the factors.  Shape (w,), or (3,) where there is no window.

    Returns
    -------
    The first point and the number of points.
    """
    m = x.size
    if formula >= SMOOTHED:
        first = window_of(m, formula, k)
        stencil(x, first, formula, k, 1, weight)
        return first, formula
    if k in (0, m - 1):
        first = min(k, m - 2)
        h = x[first + 1] - x[first]
        weight[0] = -1.0 / h
        weight[1] = 1.0 / h
        return first, 2
    h_l = x[k] - x[k - 1]
    h_r = x[k + 1] - x[k]
    left = 0.5
    mean = formula == TWO_SIDED_MEAN or h_l * h_r < 0.0
    if not mean and (formula == SECOND_ORDER or abs(h_r - h_l) > EVEN * abs(h_r + h_l)):
        left = h_r / (h_l + h_r)
    weight[0] = -left / h_l
    weight[1] = left / h_l - (1.0 - left) / h_r
    weight[2] = (1.0 - left) / h_r
    return k - 1, 3


@borrowing
def apart(rivals, formula):
    """Return how many of some neighbouring slopes have little in common: windows overlap."""
    return max(2.0 * rivals / formula, 1.0) if formula >= SMOOTHED else rivals
