"""Figures of merit of transfer sweeps: on/off ratio, threshold, subthreshold swing, hysteresis.

Dimension letters: N samples of a step, m points of a branch, c crossings of a level, S steps.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from oectflow.extractors.kernels.sweeps import (
    AMBIGUOUS,
    EDGE,
    FLAT,
    FORWARD,
    FOUND,
    NO_BRANCH,
    NO_DATA,
    REVERSE,
    TOO_FEW,
    branches,
    derivative,
    growth,
)

#: What is computed of a branch.
ON_OFF, VTH_LINEAR, VTH_SQRT, SWING, SWING_N, SWING_P = range(6)
#: The scale on which a level of the current lies in the middle, and on which it is interpolated.
LINEAR, LOGARITHMIC = range(2)
#: How a branch or a loop ended, beside the codes of :mod:`.sweeps`.
ZERO, FLOOR, SIGN, NARROW, NO_LEVEL = range(7, 12)


@njit(nogil=True, cache=True, error_model="numpy")
def on_off_ratio(y, floor, value):
    """Divide the largest by the smallest magnitude of a branch.

    Parameters
    ----------
    y
        Currents.  Shape (m,), m >= 3.
    floor
        Smallest magnitude that counts, not negative; smaller ones count as it.
    value
        Gets the ratio, NaN where the smallest magnitude is 0.  Shape (1,).

    Returns
    -------
    ``FOUND``, ``ZERO``, ``FLOOR``, ``SIGN``, or ``FLAT`` with the ratio 1.
    """
    low = abs(y[0])
    high = abs(y[0])
    positive = False
    negative = False
    for current in y:
        low = min(low, abs(current))
        high = max(high, abs(current))
        positive = positive or current > 0.0
        negative = negative or current < 0.0
    raised = low < floor
    if raised:
        low = floor
        high = max(high, floor)
    if low == 0.0:
        return ZERO
    value[0] = high / low
    if low == high:
        return FLAT
    if raised:
        return FLOOR
    return SIGN if positive and negative else FOUND


@njit(nogil=True, cache=True, error_model="numpy")
def threshold(x, y, root, formula, value):
    """Extrapolate the steepest tangent of ``y``, or of ``sqrt(|y|)``, to zero.

    Parameters
    ----------
    x, y
        Voltages and currents of a branch.  Shape (m,), m >= 3.
    root
        Whether the square root is taken.
    formula
        Of the derivative, as in :func:`.sweeps.derivative`.
    value
        Gets the voltage, NaN where nothing changes.  Shape (1,).

    Returns
    -------
    ``FOUND``, ``EDGE`` or ``FLAT``.
    """
    z = y
    if root:
        z = np.sqrt(np.abs(y))
    slope = np.empty(x.size)
    derivative(z, x, formula, slope)
    k = 0
    for j in range(x.size):
        if abs(slope[j]) > abs(slope[k]):
            k = j
    if slope[k] == 0.0:
        return FLAT
    value[0] = x[k] - z[k] / slope[k]
    return EDGE if k == 0 or k == x.size - 1 else FOUND


@njit(nogil=True, cache=True, error_model="numpy")
def steepest_run(x, y, sign, decades, floor, value):
    """Find the subthreshold swing: the inverse of the steepest slope of ``log10 |y|``.

    Every run of at least three neighbouring points of one sign and at least the magnitude ``floor``
    is looked at, each as short as it can be to end ``decades`` or more away from where it begins;
    its slope is that of the straight line by least squares.

    Parameters
    ----------
    x, y
        Voltages and currents of a branch.  Shape (m,), m >= 3.
    sign
        1 for a slope along which ``|y|`` grows with ``x``, -1 for one along which it falls.
    decades
        How far a run reaches, not negative.
    floor
        In the unit of ``y``, positive.
    value
        Gets the swing, in V per decade, NaN where there is no such slope.  Shape (1,).

    Returns
    -------
    ``FOUND``, ``EDGE`` where the run touches an end of the branch, or ``NARROW``.
    """
    m = x.size
    z = np.log10(np.maximum(np.abs(y), floor))
    best = 0.0
    at_edge = False
    for i in range(m - 2):
        j = i
        while (
            j < m
            and abs(y[j]) >= floor
            and (y[j] > 0.0) == (y[i] > 0.0)
            and (j < i + 2 or abs(z[j] - z[i]) < decades)
        ):
            j += 1
        if j == m or abs(y[j]) < floor or (y[j] > 0.0) != (y[i] > 0.0):
            continue
        x_mean = 0.0
        z_mean = 0.0
        for k in range(i, j + 1):
            x_mean += x[k] - x[i]
            z_mean += z[k] - z[i]
        x_mean = x[i] + x_mean / (j + 1 - i)
        z_mean = z[i] + z_mean / (j + 1 - i)
        s_xx = 0.0
        s_xz = 0.0
        for k in range(i, j + 1):
            s_xx += (x[k] - x_mean) * (x[k] - x_mean)
            s_xz += (x[k] - x_mean) * (z[k] - z_mean)
        slope = sign * s_xz / s_xx
        if slope > best:
            best = slope
            at_edge = i == 0 or j == m - 1
    if best == 0.0:
        return NARROW
    value[0] = 1.0 / best
    return EDGE if at_edge else FOUND


@njit(nogil=True, cache=True, error_model="numpy")
def branch_figures(vg, current, offsets, figure, formula, decades, floor, values, codes):
    """Compute one figure of the forward and of the reverse branch of every step.

    Parameters
    ----------
    vg, current
        Gate voltage (V) and drain current (A) of all steps, one after the other.
    offsets
        Step i is ``offsets[i]:offsets[i + 1]``.  Shape (S + 1,).
    figure
        ``ON_OFF``, ``VTH_LINEAR``, ``VTH_SQRT``, ``SWING_N``, ``SWING_P``, or ``SWING`` in the
        direction of :func:`.sweeps.growth`, ``AMBIGUOUS`` where that has none.
    formula, decades, floor
        As in :func:`threshold`, :func:`steepest_run` and :func:`on_off_ratio`.
    values
        Gets the figures, NaN where there is none.  Shape (S, 2).
    codes
        Gets how each branch ended.  Shape (S, 2).
    """
    values[:] = math.nan
    for step in range(offsets.size - 1):
        a, b = offsets[step], offsets[step + 1]
        x = np.empty(b - a + 1)
        y = np.empty(b - a + 1)
        first, m = branches(vg[a:b], current[a:b], x, y)
        for direction in (FORWARD, REVERSE):
            points = slice(first[direction], first[direction] + m[direction])
            value = values[step, direction : direction + 1]
            if m[direction] == 0:
                code = NO_DATA if m[FORWARD] == 0 else NO_BRANCH
            elif m[direction] < 3:
                code = TOO_FEW
            elif figure == ON_OFF:
                code = on_off_ratio(y[points], floor, value)
            elif figure in (VTH_LINEAR, VTH_SQRT):
                code = threshold(x[points], y[points], figure == VTH_SQRT, formula, value)
            else:
                sign = 1 if figure == SWING_N else -1
                if figure == SWING:
                    sign = growth(x[points], y[points], floor)
                code = AMBIGUOUS
                if sign != 0:
                    code = steepest_run(x[points], y[points], sign, decades, floor, value)
            codes[step, direction] = code


@njit(nogil=True, cache=True, error_model="numpy")
def crossing(x, z, level):
    """Find where a branch passes a level: the middle one of its crossings.

    Parameters
    ----------
    x, z
        Voltages and ordinates of a branch.  Shape (m,).
    level
        In the unit of ``z``.

    Returns
    -------
    The voltage, and the number of crossings c.  Neighbours on both sides of the level are joined by
    a straight line; the voltage is NaN where c is not odd, for then the branch comes back.
    """
    found = np.empty(x.size)
    c = 0
    for k in range(x.size - 1):
        if (z[k] < level) != (z[k + 1] < level):
            found[c] = x[k] + (x[k + 1] - x[k]) * ((level - z[k]) / (z[k + 1] - z[k]))
            c += 1
    if c % 2 == 0:
        return math.nan, c
    return np.sort(found[:c])[c // 2], c


@njit(nogil=True, cache=True, error_model="numpy")
def integral(x, y, low, high):
    """Integrate ``|y|`` over ``x`` between two voltages, along the branch, by trapezoids.

    A branch that goes towards smaller voltages has a negative integral.
    """
    total = 0.0
    for k in range(x.size - 1):
        begin = min(max(x[k], low), high)
        end = min(max(x[k + 1], low), high)
        if begin != end:
            slope = (abs(y[k + 1]) - abs(y[k])) / (x[k + 1] - x[k])
            # The trapezoid's middle is where its mean height is.
            total += (end - begin) * (abs(y[k]) + slope * (0.5 * (begin + end) - x[k]))
    return total


@njit(nogil=True, cache=True, error_model="numpy")
def least_magnitude(z):
    """Return the least of some magnitudes that is not 0, infinity where there is none."""
    least = np.inf
    for magnitude in z:
        if 0.0 < magnitude < least:
            least = magnitude
    return least


@njit(nogil=True, cache=True, error_model="numpy")
def hysteresis(x_f, y_f, x_r, y_r, scale, row):
    """Compare the forward with the reverse branch.

    Parameters
    ----------
    x_f, y_f, x_r, y_r
        Voltages and currents of the branches.  At least 3 points each.
    scale
        ``LINEAR``: the level is half of the largest magnitude that both branches reach.
        ``LOGARITHMIC``: it is the geometric mean of the largest and of the smallest magnitude, not
        0, that both branches reach.
    row
        Gets the voltage at the level, forward minus reverse (V), NaN where there is none; the
        integral of ``|y_f| - |y_r|`` over the common voltages (A V); and the level (A).
        Shape (3,).

    Returns
    -------
    ``FOUND``, ``FLAT``, ``NO_LEVEL`` or ``AMBIGUOUS``.
    """
    low = max(x_f.min(), x_r.min())
    high = min(x_f.max(), x_r.max())
    row[0] = math.nan
    row[1] = math.nan
    if low < high:
        forward = integral(x_f, y_f, low, high)
        reverse = integral(x_r, y_r, low, high)
        # Along the way: one of the two runs towards smaller voltages.
        row[1] = math.copysign(1.0, x_f[-1] - x_f[0]) * forward
        row[1] -= math.copysign(1.0, x_r[-1] - x_r[0]) * reverse
    z_f = np.abs(y_f)
    z_r = np.abs(y_r)
    row[2] = 0.5 * min(z_f.max(), z_r.max())
    if row[2] == 0.0:
        return FLAT
    level = row[2]
    if scale == LOGARITHMIC:
        least_f = least_magnitude(z_f)
        least_r = least_magnitude(z_r)
        level = 0.5 * (math.log10(2.0 * row[2]) + math.log10(max(least_f, least_r)))
        row[2] = 10.0**level
        # Zero has no logarithm; it counts as what is next to it.
        z_f = np.log10(np.maximum(z_f, least_f))
        z_r = np.log10(np.maximum(z_r, least_r))
    forward, c_f = crossing(x_f, z_f, level)
    reverse, c_r = crossing(x_r, z_r, level)
    if c_f == 0 or c_r == 0:
        return NO_LEVEL
    row[0] = forward - reverse
    return AMBIGUOUS if math.isnan(row[0]) else FOUND


@njit(nogil=True, cache=True, error_model="numpy")
def sweep_hystereses(vg, current, offsets, scale, rows, codes):
    """Compare the forward with the reverse branch of every step.

    Parameters
    ----------
    vg, current, offsets
        As in :func:`branch_figures`.
    scale
        As in :func:`hysteresis`.
    rows
        Gets the rows of :func:`hysteresis`, NaN where there are none.  Shape (S, 3).
    codes
        Gets how each loop ended.  Shape (S,).
    """
    rows[:] = math.nan
    for step in range(offsets.size - 1):
        a, b = offsets[step], offsets[step + 1]
        x = np.empty(b - a + 1)
        y = np.empty(b - a + 1)
        first, m = branches(vg[a:b], current[a:b], x, y)
        if m[FORWARD] == 0:
            codes[step] = NO_DATA
        elif m[REVERSE] == 0:
            codes[step] = NO_BRANCH
        elif min(m[FORWARD], m[REVERSE]) < 3:
            codes[step] = TOO_FEW
        else:
            forward = slice(0, m[FORWARD])
            reverse = slice(first[REVERSE], first[REVERSE] + m[REVERSE])
            codes[step] = hysteresis(
                x[forward], y[forward], x[reverse], y[reverse], scale, rows[step]
            )
