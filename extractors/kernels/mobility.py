"""What µC* of one device is computed from: the slope of the root of a transfer sweep, or its gm.

Dimension letters: m points of a branch, S steps.
"""

from __future__ import annotations

import math

import numpy as np

from oectflow.extractors.kernels.compiled import borrowing, kernel
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
from oectflow.extractors.kernels.tangents import ERROR, OWN, RIVALS, SHIFT, SLOPE, Z

#: What it is computed from: the slope of the root of the current, gm over the overdrive, gm alone.
BY_ROOT, BY_OVERDRIVE, BY_DRAIN = range(3)


@borrowing
def mobility(x, lines, k, shift, rivals, way, formula, known, row):
    """Find what µC* is computed from by one tangent, without the geometry.

    Parameters
    ----------
    x
        Voltages of the branch.  Shape (m,), m >= 3.
    lines, k, shift, rivals
        Its tangents, the index of the steepest, and what :func:`.tangents.sweep_tangents` says
        about it.
    way
        ``BY_ROOT``: twice the square of the steepest slope of ``sqrt(|Id|)``, to which the
        tangents belong.  ``BY_DRAIN``: the largest gm.
    formula, known
        As in :func:`.tangents.tangents`.
    row
        Gets that (A/V², or S), NaN where there is none, its standard error, the voltage at which
        it is found, the overdrive there and its standard error.  Shape (5,).

    Returns
    -------
    ``FOUND``, ``EDGE``, ``NOISY`` or ``FLAT``.
    """
    z, slope, error = lines[Z, k], lines[SLOPE, k], lines[ERROR, k]
    if slope == 0.0:
        return FLAT
    size = abs(slope)
    row[2] = x[k]
    row[3] = abs(x[k] - (x[k] - z / slope))
    row[0] = 2.0 * size * size if way == BY_ROOT else size
    if known:
        own_error = 4.0 * size * error if way == BY_ROOT else error
        row[1] = own_error * of_largest(apart(rivals, formula))
        row[4] = math.sqrt((lines[OWN, k] / size) ** 2 + (z / size * error / size) ** 2 + shift)
        if size <= chance(x.size) * error:
            return NOISY
    return EDGE if k == 0 or k == x.size - 1 else FOUND


@kernel
def mobility_by_overdrive(x, y, sigma, roots, q, shift, lines, k, rivals, formula, known, row):
    """Find the largest gm over the distance to where the steepest tangent to the root is zero.

    Parameters
    ----------
    x, y, sigma, formula, known
        As in :func:`.tangents.tangents`; m >= 3.
    roots, q, shift
        Tangents to the root of the current, the steepest, and what is said about it.
    lines, k, rivals
        Those to the current.
    row
        As in :func:`mobility`.

    Returns
    -------
    ``FOUND``, ``EDGE``, ``NOISY`` or ``FLAT``.
    """
    m = x.size
    z, slope, error = roots[Z, q], roots[SLOPE, q], roots[ERROR, q]
    if slope == 0.0:
        return FLAT
    size = abs(slope)
    at_zero = x[q] - z / slope
    gm, gm_error = lines[SLOPE], lines[ERROR]
    row[2] = x[k]
    row[3] = abs(x[k] - at_zero)
    row[0] = abs(gm[k]) / row[3]
    if known:
        # The overdrive differs at another place that may have the largest gm.
        elsewhere, weight = np.empty((2, m))
        rivals_of(np.abs(gm), gm_error, k, weight)
        for j in range(m):
            elsewhere[j] = abs(gm[j] / (x[j] - at_zero))
        # Derivatives by the readings, of which slope and threshold share some.
        total = np.zeros(m)
        room = np.empty(max(formula, 3))
        begin, w = slope_weights(x, k, formula, room)
        for j in range(w):
            total[begin + j] += math.copysign(1.0, gm[k]) * room[j] / row[3]
        by_zero = row[0] / row[3] * math.copysign(1.0, x[k] - at_zero)
        begin, w = slope_weights(x, q, formula, room)
        for j in range(w):
            point = begin + j
            by_root = by_zero * z / (slope * slope) * room[j]
            if formula < SMOOTHED and point == q:
                by_root -= by_zero / slope
            root = math.sqrt(max(abs(y[point]), 0.25 * sigma[point]))
            total[point] += by_root * 0.5 * math.copysign(1.0, y[point]) / root
        noise = (row[0] / row[3]) ** 2 * shift
        if formula >= SMOOTHED:
            noise += (by_zero * roots[OWN, q] / slope) ** 2
        for j in range(m):
            noise += (total[j] * sigma[j]) ** 2
        largest = of_largest(apart(rivals, formula))
        row[1] = math.sqrt(noise * largest**2 + spread_of(elsewhere, weight, k))
        row[4] = math.sqrt((roots[OWN, q] / size) ** 2 + (z / size * error / size) ** 2 + shift)
        if size <= chance(m) * error or abs(gm[k]) <= chance(m) * gm_error[k]:
            return NOISY
    return EDGE if k == 0 or k == m - 1 else FOUND


@borrowing
def mobilities(
    x, y, sigma, first, count, classes, roots, steepest_root, about_root, lines, steepest, about,
    direction, way, formula, rows, codes,
):  # fmt: skip
    """Find what µC* is computed from, for one branch of every step.

    Parameters
    ----------
    x, y, sigma, first, count, classes, direction, formula
        As in :func:`.thresholds.thresholds`.
    roots, steepest_root, about_root
        Tangents to the root of the current, as :func:`.tangents.sweep_tangents` fills them; any for
        ``BY_DRAIN``.
    lines, steepest, about
        Those to the current; any for ``BY_ROOT``.
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
        known = classes[step] > 0
        row = rows[step]
        if m == 0:
            codes[step] = NO_DATA if count[step, FORWARD] == 0 else NO_BRANCH
        elif m < 3 or m < formula:
            codes[step] = TOO_FEW
        elif way == BY_OVERDRIVE:
            codes[step] = mobility_by_overdrive(
                x[points], y[points], sigma[points],
                roots[:, points], steepest_root[step], about_root[step, SHIFT],
                lines[:, points], steepest[step], about[step, RIVALS], formula, known, row,
            )  # fmt: skip
        else:
            own = roots if way == BY_ROOT else lines
            k = steepest_root[step] if way == BY_ROOT else steepest[step]
            said = about_root[step] if way == BY_ROOT else about[step]
            codes[step] = mobility(
                x[points], own[:, points], k, said[SHIFT], said[RIVALS], way, formula, known, row
            )
