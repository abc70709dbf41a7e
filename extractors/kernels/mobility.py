"""What µC* of one device is told from: the slope of the root of a transfer sweep, or its gm.

Dimension letters: m points of a branch, S steps.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from oectflow.extractors.kernels.smoothing import SMOOTHED, apart, slope_weights
from oectflow.extractors.kernels.sweep_errors import chance, of_largest, rivals_of, spread_of
from oectflow.extractors.kernels.sweeps import (
    EDGE,
    FLAT,
    FORWARD,
    FOUND,
    NO_BRANCH,
    NO_DATA,
    NOISY,
    TOO_FEW,
)
from oectflow.extractors.kernels.thresholds import steepest, tangents, zeros_of

#: What it is told from: the slope of the root of the current, gm over the overdrive, gm alone.
BY_ROOT, BY_OVERDRIVE, BY_DRAIN = range(3)


@njit(nogil=True, cache=True, error_model="numpy")
def mobility(x, y, sigma, way, formula, known, row):
    """Find what µC* is told from, without the geometry.

    Parameters
    ----------
    x, y, sigma, formula, known
        As in :func:`.thresholds.tangents`; m >= 3.
    way
        ``BY_ROOT``: twice the square of the steepest slope of ``sqrt(|Id|)``.  ``BY_OVERDRIVE``:
        the largest gm over the distance from there to where that steepest tangent is zero.
        ``BY_DRAIN``: the largest gm.
    row
        Gets that (A/V², or S), NaN where there is none, its standard error, the voltage at which
        it is found, the overdrive there and its standard error.  Shape (5,).

    Returns
    -------
    ``FOUND``, ``EDGE``, ``NOISY`` or ``FLAT``.
    """
    m = x.size
    z, slope, own, error = np.empty((4, m))
    weight, meets = np.empty((2, m))
    # The place and the slope of the tangent that tells the threshold.
    tangents(x, y, sigma, way != BY_DRAIN, formula, known, z, slope, own, error)
    q = steepest(slope)
    if slope[q] == 0.0:
        return FLAT
    size = abs(slope[q])
    at_zero = x[q] - z[q] / slope[q]
    rivals = 1.0
    shift = elsewhere = 0.0
    if known:
        zeros_of(x, z, slope, q, meets)
        rivals = apart(rivals_of(np.abs(slope), error, q, weight), formula)
        shift = spread_of(meets, weight, q)
    u_zero = math.sqrt((own[q] / size) ** 2 + (z[q] / size * error[q] / size) ** 2 + shift)
    noisy = known and size <= chance(m) * error[q]
    k = q
    if way == BY_ROOT:
        row[0] = 2.0 * size * size
        row[1] = 4.0 * size * error[q] * of_largest(rivals)
    elif way == BY_DRAIN:
        row[0] = size
        row[1] = error[q] * of_largest(rivals)
    else:
        g, g_error = np.empty((2, m))
        tangents(x, y, sigma, False, formula, known, meets, g, weight, g_error)
        k = steepest(g)
        if known:
            rivals = apart(rivals_of(np.abs(g), g_error, k, weight), formula)
            noisy = noisy or abs(g[k]) <= chance(m) * g_error[k]
            for j in range(m):
                meets[j] = abs(g[j] / (x[j] - at_zero))
            elsewhere = spread_of(meets, weight, k)
    row[2] = x[k]
    row[3] = abs(x[k] - at_zero)
    row[4] = u_zero
    if way == BY_OVERDRIVE:
        row[0] = abs(g[k]) / row[3]
        if known:
            # By the readings, of which slope and threshold share some.
            total = np.zeros(m)
            room = np.empty(max(formula, 3))
            begin, w = slope_weights(x, k, formula, room)
            for j in range(w):
                total[begin + j] += math.copysign(1.0, g[k]) * room[j] / row[3]
            by_zero = row[0] / row[3] * math.copysign(1.0, x[k] - at_zero)
            begin, w = slope_weights(x, q, formula, room)
            for j in range(w):
                point = begin + j
                by_root = by_zero * z[q] / (slope[q] * slope[q]) * room[j]
                if formula < SMOOTHED and point == q:
                    by_root -= by_zero / slope[q]
                root = math.sqrt(max(abs(y[point]), 0.25 * sigma[point]))
                total[point] += by_root * 0.5 * math.copysign(1.0, y[point]) / root
            noise = (row[0] / row[3]) ** 2 * shift
            if formula >= SMOOTHED:
                noise += (by_zero * own[q] / slope[q]) ** 2
            for j in range(m):
                noise += (total[j] * sigma[j]) ** 2
            row[1] = math.sqrt(noise * of_largest(rivals) ** 2 + elsewhere)
    if not known:
        row[1] = row[4] = math.nan
    if noisy:
        return NOISY
    return EDGE if k == 0 or k == m - 1 else FOUND


@njit(nogil=True, cache=True, error_model="numpy")
def mobilities(x, y, sigma, first, count, classes, direction, way, formula, rows, codes):
    """Find what µC* is told from, of one branch of every step.

    Parameters
    ----------
    x, y, sigma, first, count, classes, direction, formula
        As in :func:`.thresholds.thresholds`.
    way
        ``BY_ROOT``, ``BY_OVERDRIVE`` or ``BY_DRAIN``.
    rows
        Gets the rows of :func:`mobility`, NaN where there are none.  Shape (S, 5).
    codes
        Gets how each branch ended.  Shape (S,).
    """
    rows[:] = math.nan
    for step in range(count.shape[0]):
        m = count[step, direction]
        begin = first[step, direction]
        points = slice(begin, begin + m)
        if m == 0:
            codes[step] = NO_DATA if count[step, FORWARD] == 0 else NO_BRANCH
        elif m < 3 or m < formula:
            codes[step] = TOO_FEW
        else:
            codes[step] = mobility(
                x[points], y[points], sigma[points], way, formula, classes[step] > 0, rows[step]
            )
