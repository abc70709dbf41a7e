"""Threshold voltages of transfer sweeps by five methods.

Standard errors are those of first order: every number is a weighted sum of the readings, with the
weights of a derivative, a ratio or a line.

Dimension letters: m points of a branch, w points of a window, S steps.
"""

from __future__ import annotations

import math

import numpy as np

from oectflow.extractors.kernels.compiled import borrowing, kernel
from oectflow.extractors.kernels.merit import NARROW
from oectflow.extractors.kernels.smoothing import SMOOTHED, slope_weights, stencil
from oectflow.extractors.kernels.sweep_errors import chance, rivals_of, spread_of
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
from oectflow.extractors.kernels.tangents import ERROR, OWN, SHIFT, SLOPE, Z, steepest

#: Methods: tangent to the current, to its root; where the current bends most; line through
#: Id / sqrt(gm), through Id / gm.
TANGENT, ROOT_TANGENT, BEND, Y_FUNCTION, RATIO = range(5)
#: A line goes through the points whose |Id| is within these shares of the largest mean of so many
#: neighbours, so that noise does not choose them; their weight rises to 1 over this share of it.
LOW, HIGH, RAMP, NEIGHBOURS = 0.2, 0.8, 0.1, 5
#: Slopes that are not known to this share have no ratio: 1 / gm is biased by its square, 1 %.
KNOWN = 0.1
#: A place that is known only to this share of the branch may be anywhere in its middle.
VAGUE = 0.25
#: A line has so many points or more.
FEWEST = 3


@borrowing
def threshold(x, lines, k, shift, known, row):
    """Extrapolate the steepest tangent to zero.

    Parameters
    ----------
    x
        Voltages of the branch.  Shape (m,), m >= 3.
    lines, k, shift
        Its tangents, the index of the steepest, and the mean square by which others that may be
        as steep meet zero elsewhere (V²), as of :func:`.tangents.sweep_tangents`.
    known
        Whether the noise is known.
    row
        Gets the voltage, NaN where nothing changes, its standard error, the voltage at which the
        tangent touches, twice, and 1.  Shape (5,).

    Returns
    -------
    ``FOUND``, ``EDGE``, ``NOISY`` or ``FLAT``.
    """
    z, slope, error = lines[Z, k], lines[SLOPE, k], lines[ERROR, k]
    if slope == 0.0:
        return FLAT
    row[0] = x[k] - z / slope
    row[2] = row[3] = x[k]
    row[4] = 1.0
    at_edge = k == 0 or k == x.size - 1
    if not known:
        return EDGE if at_edge else FOUND
    size = abs(slope)
    at_zero = lines[OWN, k] / size
    tilt = z / size * error / size
    row[1] = math.sqrt(at_zero * at_zero + tilt * tilt + shift)
    if size <= chance(x.size) * error:
        return NOISY
    return EDGE if at_edge else FOUND


@kernel
def sharpest_bend(x, y, sigma, w, known, row):
    """Find where the magnitude of the current bends upwards most: the top of d2|Id|/dVg2.

    Parameters
    ----------
    x, y, sigma
        Branch: V, A, and the standard deviation of the noise (A).  Shape (m,), m >= 3.
    known, row
        As in :func:`threshold`; between points the top is that of a parabola through three.
    w
        Points of the window over which the second derivative is fitted, odd.

    Returns
    -------
    ``FOUND``, ``EDGE``, ``NOISY`` or ``FLAT``.
    """
    m = x.size
    r = w // 2
    if m < w + 2:
        return TOO_FEW
    sign = math.copysign(1.0, y[steepest(y)])
    weight = np.empty(w)
    bend, error = np.zeros((2, m))
    top = r
    for k in range(r, m - r):
        stencil(x, k - r, w, k, 2, weight)
        noise = 0.0
        for j in range(w):
            bend[k] += sign * weight[j] * (y[k - r + j] - y[k])
            noise += (weight[j] * sigma[k - r + j]) ** 2
        error[k] = math.sqrt(noise)
        if bend[k] > bend[top]:
            top = k
    if not bend[top] > 0.0:
        return FLAT
    row[0] = row[2] = row[3] = x[top]
    if top == r or top == m - 1 - r:
        return EDGE
    h_l = x[top] - x[top - 1]
    h_r = x[top + 1] - x[top]
    s_l = (bend[top] - bend[top - 1]) / h_l
    s_r = (bend[top + 1] - bend[top]) / h_r
    slope = (h_r * s_l + h_l * s_r) / (h_l + h_r)
    curve = (s_r - s_l) / (h_l + h_r)
    if curve == 0.0:
        return FOUND
    row[0] = x[top] - slope / (2.0 * curve)
    if not known:
        return FOUND
    # Derivatives by slope and curve, by the three bends, and by the readings, which windows share.
    by_slope = -1.0 / (2.0 * curve)
    by_curve = slope / (2.0 * curve * curve)
    left = by_slope * -h_r / (h_l * (h_l + h_r)) + by_curve / (h_l * (h_l + h_r))
    right = by_slope * h_l / (h_r * (h_l + h_r)) + by_curve / (h_r * (h_l + h_r))
    total = np.zeros(w + 2)
    for i in range(3):
        factor = left if i == 0 else right if i == 2 else -left - right
        stencil(x, top - 1 + i - r, w, top - 1 + i, 2, weight)
        for j in range(w):
            total[i + j] += factor * weight[j]
    noise = 0.0
    for j in range(w + 2):
        noise += (total[j] * sigma[top - 1 - r + j]) ** 2
    # The curve may bend as much elsewhere, beside the top to begin with: a parabola through three
    # points that noise has made the largest is too narrow.
    rivals = np.empty(m)
    rivals_of(bend, error, top, rivals)
    for k in range(m):
        if k < r or k >= m - r:
            rivals[k] = 0.0
    row[1] = math.sqrt(noise + spread_of(x, rivals, top))
    vague = row[1] > VAGUE * abs(x[m - 1] - x[0])
    return NOISY if vague or bend[top] <= chance(m) * error[top] else FOUND


@kernel
def line_to_zero(x, y, sigma, lines, ratio, formula, known, row):
    """Fit a line to ``Id / sqrt(gm)`` or to ``Id / gm`` around half of the current: where it is 0.

    Parameters
    ----------
    x, y, sigma, formula, known
        As in :func:`.tangents.tangents`; m >= 3.
    lines
        The tangents to the current, as of :func:`.tangents.sweep_tangents`.  Shape (4, m).
    ratio
        Whether it is ``Id / gm``.
    row
        Gets the voltage, NaN where there is no line, its standard error, the mean voltage of the
        points, the voltage at half of the current, and the power of the overdrive with which
        it grows.  Shape (5,).

    Returns
    -------
    ``FOUND``, ``NARROW``, ``NOISY`` or ``FLAT``.
    """
    m = x.size
    slope, error = lines[SLOPE], lines[ERROR]
    largest = 0.0
    beside = min(NEIGHBOURS, m)
    top = 0
    for j in range(m - beside + 1):
        size = abs(np.mean(y[j : j + beside]))
        if size > largest:
            largest = size
            top = j
    if largest == 0.0:
        return FLAT
    k = 0
    for j in range(m):
        if abs(abs(y[j]) - 0.5 * largest) < abs(abs(y[k]) - 0.5 * largest):
            k = j
    row[3] = x[k]
    first = last = k
    while first > 0 and LOW <= abs(y[first - 1]) / largest <= HIGH:
        first -= 1
    while last < m - 1 and LOW <= abs(y[last + 1]) / largest <= HIGH:
        last += 1
    n = last + 1 - first
    if n < FEWEST:
        return NARROW
    sign = math.copysign(1.0, slope[k])
    q, p = np.empty((2, n))
    x_mean = q_mean = total_p = 0.0
    unknown = 0.0
    for j in range(n):
        g = sign * slope[first + j]
        if not g > 0.0:
            return NOISY if known else NARROW
        share = abs(y[first + j]) / largest
        p[j] = max(min(share - LOW, HIGH - share, RAMP), 0.0) / RAMP
        q[j] = y[first + j] / (sign * g if ratio else math.sqrt(g))
        total_p += p[j]
        x_mean += p[j] * x[first + j]
        q_mean += p[j] * q[j]
        unknown = max(unknown, error[first + j] / g)
    x_mean /= total_p
    q_mean /= total_p
    s_xx = s_xq = s_xr = 0.0
    for j in range(n):
        off = x[first + j] - x_mean
        s_xx += p[j] * off * off
        s_xq += p[j] * off * (q[j] - q_mean)
        s_xr += p[j] * off * y[first + j] / slope[first + j]
    tilt = s_xq / s_xx
    if tilt == 0.0:
        return FLAT
    row[0] = x_mean - q_mean / tilt
    row[2] = x_mean
    row[4] = s_xx / s_xr
    if not known:
        return FOUND
    total = np.zeros(m)
    weight = np.empty(max(formula, 3))
    by_largest = 0.0
    for j in range(n):
        k = first + j
        by_q = q_mean / (tilt * tilt) * (x[k] - x_mean) / s_xx - 1.0 / (total_p * tilt)
        # Derivatives of the weight by the reading and by the largest current, where it changes.
        if 0.0 < p[j] < 1.0:
            off_line = q[j] - q_mean - tilt * (x[k] - x_mean)
            share = abs(y[k]) / largest
            rises = 1.0 if share < 0.5 * (LOW + HIGH) else -1.0
            by_share = by_q * off_line * rises / RAMP
            total[k] += by_share * math.copysign(1.0, y[k]) / largest
            by_largest -= by_share * share / largest
        by_q *= p[j]
        g = sign * slope[k]
        total[k] += by_q / (sign * g if ratio else math.sqrt(g))
        by_slope = -by_q * q[j] * (sign / g if ratio else 0.5 * sign / g)
        begin, w = slope_weights(x, k, formula, weight)
        for i in range(w):
            total[begin + i] += by_slope * weight[i]
    for k in range(top, top + beside):
        total[k] += by_largest * math.copysign(1.0, y[k]) / beside
    noise = 0.0
    for k in range(m):
        noise += (total[k] * sigma[k]) ** 2
    row[1] = math.sqrt(noise)
    # A line that does not rise by more than noise has no zero.
    if unknown > KNOWN or abs(row[0] - x_mean) <= 3.0 * row[1]:
        return NOISY
    return FOUND


@borrowing
def thresholds(
    x, y, sigma, first, count, classes, lines, best, about, direction, method, formula, rows, codes
):  # fmt: skip
    """Find the threshold voltage of one branch of every step.

    Parameters
    ----------
    x, y, sigma, first, count, classes
        Branches, as :func:`.judge.judge_sweeps` fills them.
    lines, best, about
        Their tangents, as :func:`.tangents.sweep_tangents` fills them: to the root of the current
        for ``ROOT_TANGENT``, else to the current; any for ``BEND``.
    direction
        ``FORWARD`` or ``REVERSE``.
    method
        ``TANGENT``, ``ROOT_TANGENT``, ``BEND``, ``Y_FUNCTION`` or ``RATIO``.
    formula
        As in :func:`.sweeps.derivative`; for ``BEND`` the window, 3 where it is none.
    rows
        Gets the rows of :func:`threshold`, NaN where there are none.  Shape (S, 5).
    codes
        Gets how each branch ended.  Shape (S,).
    """
    rows[:] = math.nan
    for step in range(count.shape[0]):
        m = count[step, direction]
        begin = first[step, direction]
        points = slice(begin, begin + m)
        row = rows[step]
        known = classes[step] > 0
        if m == 0:
            code = NO_DATA if count[step, FORWARD] == 0 else NO_BRANCH
        elif m < 3 or m < formula:
            code = TOO_FEW
        elif method == BEND:
            w = formula if formula >= SMOOTHED else 3
            code = sharpest_bend(x[points], y[points], sigma[points], w, known, row)
        elif method in (Y_FUNCTION, RATIO):
            code = line_to_zero(
                x[points], y[points], sigma[points], lines[:, points], method == RATIO, formula,
                known, row,
            )  # fmt: skip
        else:
            shift = about[step, SHIFT]
            code = threshold(x[points], lines[:, points], best[step], shift, known, row)
        codes[step] = code
