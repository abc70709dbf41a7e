"""Figures of merit of transfer sweeps: on/off ratio, subthreshold swing, hysteresis.

Dimension letters: m points of a branch, c crossings of a level, S steps.
"""

from __future__ import annotations

import math

import numpy as np

from oectflow.extractors.kernels.compiled import borrowing, kernel
from oectflow.extractors.kernels.judge import MARK
from oectflow.extractors.kernels.sweep_errors import (
    DOUBTED,
    chance,
    extreme_error,
    of_largest,
)
from oectflow.extractors.kernels.sweep_noise import LN10
from oectflow.extractors.kernels.sweeps import (
    AMBIGUOUS,
    EDGE,
    FLAT,
    FORWARD,
    FOUND,
    NO_BRANCH,
    NO_DATA,
    NOISY,
    REVERSE,
    TOO_FEW,
    growth,
)

#: What is computed of a branch.
ON_OFF, SWING, SWING_N, SWING_P = range(4)
#: The scale on which a level of the current lies in the middle, and on which it is interpolated,
#: instead of ``LINEAR``.
LOGARITHMIC = 3
#: A run of a swing begins at more than so many standard deviations of the noise.
VISIBLE = 10.0
#: How a branch or a loop ended, beside the codes of :mod:`.sweeps`.
ZERO, FLOOR, SIGN, NARROW, NO_LEVEL = range(7, 12)


@borrowing
def on_off_ratio(y, sigma, floor, known, row):
    """Divide the largest by the smallest magnitude of a branch.

    Parameters
    ----------
    y, sigma
        Currents, and the standard deviations of their noise.  Shape (m,), m >= 3.
    floor
        Smallest magnitude that counts, not negative; smaller ones count as this.
    known
        Whether the noise is known.
    row
        Gets the ratio, NaN where the smallest magnitude is 0, its standard error, and the smallest
        magnitude.  Shape (3,).

    Returns
    -------
    ``FOUND``, ``ZERO``, ``FLOOR``, ``SIGN``, ``NOISY``, or ``FLAT`` with the ratio 1.
    """
    low = abs(y[0])
    high = low
    at_low = 0
    at_high = 0
    positive = False
    negative = False
    for k in range(y.size):
        size = abs(y[k])
        if size < low:
            low = size
            at_low = k
        if size > high:
            high = size
            at_high = k
        positive = positive or y[k] > 0.0
        negative = negative or y[k] < 0.0
    raised = low < floor
    if raised:
        low = floor
        high = max(high, floor)
    if low == 0.0:
        return ZERO
    row[0] = high / low
    row[2] = low
    if low == high:
        return FLAT
    noisy = False
    if known:
        high_share, high_rivals = extreme_error(y, high, sigma[at_high])
        low_share, low_rivals = extreme_error(y, low, sigma[at_low])
        if raised:
            low_share = 0.0
        noisy = low_share * chance(low_rivals) > 1.0
        high_share *= of_largest(high_rivals)
        low_share *= of_largest(low_rivals)
        row[1] = row[0] * math.hypot(high_share, low_share)
    if raised:
        return FLOOR
    if positive and negative:
        return SIGN
    return NOISY if noisy else FOUND


@kernel
def steepest_run(x, y, log, sigma, sign, decades, floor, known, row):
    """Find the subthreshold swing: the inverse of the steepest slope of ``log10 |y|``.

    Every run of at least three neighbouring points of one sign and at least the magnitude ``floor``
    is looked at, each as short as it can be to end ``decades`` or more away from where it begins;
    its slope is that of the straight line by least squares.

    Parameters
    ----------
    x, y, log, sigma
        Branch: V, A, log10 |Id|, and the standard deviation of the noise (A).  Shape (m,), m >= 3.
    sign
        1 for a slope along which ``|y|`` grows with ``x``, -1 for one along which it falls.
    decades
        How far a run reaches, not negative.
    floor
        In the unit of ``y``, positive.
    known
        Whether the noise is known.
    row
        Gets the swing, in V per decade, NaN where there is no such slope, its standard error, and
        the smallest magnitude of the run.  Shape (3,).

    Returns
    -------
    ``FOUND``, ``EDGE`` where the run touches an end of the branch, ``NOISY`` or ``NARROW``.
    """
    m = x.size
    z = np.empty(m)
    least = math.log10(floor)
    for k in range(m):
        z[k] = log[k] if abs(y[k]) > floor else least
    best = 0.0
    at_edge = False
    begin = 0
    end = 0
    runs = 0
    slopes = np.full(m, math.nan)
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
        runs += 1
        slopes[i] = slope
        if slope > best:
            best = slope
            at_edge = i == 0 or j == m - 1
            begin = i
            end = j
    if best == 0.0:
        return NARROW
    row[0] = 1.0 / best
    smallest = begin
    for k in range(begin, end + 1):
        if abs(y[k]) < abs(y[smallest]):
            smallest = k
    row[2] = abs(y[smallest])
    if not known:
        return EDGE if at_edge else FOUND
    error = run_error(x[begin : end + 1], y[begin : end + 1], sigma[begin : end + 1])
    # Runs overlap: so many of them have nothing in common.
    apart = max(runs / (end - begin), 1.0)
    # Where a run begins and ends is up to noise: the runs on both sides are as good.
    beside = 0.0
    for k in (begin - 1, begin + 1):
        if 0 <= k < m and not math.isnan(slopes[k]):
            beside = max(beside, abs(slopes[k] - best))
    row[1] = math.hypot(error * of_largest(apart), 0.5 * beside) / (best * best)
    # A run that begins in the noise may be only the visible part of a steeper one.
    hidden = row[2] < VISIBLE * sigma[smallest]
    if hidden or best <= chance(apart) * error:
        return NOISY
    return EDGE if at_edge else FOUND


@borrowing
def run_error(x, y, sigma):
    """Return the standard error of the slope of ``log10 |y|`` by least squares, in 1/V."""
    x_mean = np.mean(x)
    s_xx = 0.0
    total = 0.0
    for k in range(x.size):
        off = x[k] - x_mean
        share = sigma[k] / (abs(y[k]) * LN10)
        s_xx += off * off
        total += off * off * share * share
    return math.sqrt(total) / s_xx


@borrowing
def branch_figures(
    x, y, log, sigma, first, count, classes, direction, figure, decades, floor, rows, codes
):  # fmt: skip
    """Compute one figure of one branch of every step.

    Parameters
    ----------
    x, y, log, sigma, first, count, classes
        Branches, as :func:`.judge.judge_sweeps` fills them.
    direction
        ``FORWARD`` or ``REVERSE``.
    figure
        ``ON_OFF``, ``SWING_N``, ``SWING_P``, or ``SWING`` in the direction of
        :func:`.sweeps.growth`, ``AMBIGUOUS`` where that has none.
    decades, floor
        As in :func:`steepest_run` and :func:`on_off_ratio`.
    rows
        Gets the figures, their standard errors, and what else a row of each has; NaN where there
        is none.  Shape (S, 3).
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
        elif m < 3:
            code = TOO_FEW
        elif figure == ON_OFF:
            code = on_off_ratio(y[points], sigma[points], floor, known, row)
        else:
            sign = 1 if figure == SWING_N else -1
            if figure == SWING:
                sign = growth(x[points], y[points], floor)
            code = AMBIGUOUS
            if sign != 0:
                code = steepest_run(
                    x[points], y[points], log[points], sigma[points], sign, decades, floor, known,
                    row,
                )  # fmt: skip
        codes[step] = code


@borrowing
def leakage(y, gate, first, count, direction, smallest, leaks):
    """Tell whether the smallest |Id| of a figure is no more than the gate current with it.

    Parameters
    ----------
    y, gate, first, count
        Branches, and the magnitude of the gate current, as :func:`.judge.judge_sweeps` fills them.
    direction
        ``FORWARD`` or ``REVERSE``.
    smallest
        |Id| (A), NaN where there is none.  Shape (S,).
    leaks
        Gets the answer.  Shape (S,).
    """
    for step in range(count.shape[0]):
        leaks[step] = False
        begin = first[step, direction]
        for k in range(begin, begin + count[step, direction]):
            if abs(y[k]) == smallest[step] and abs(y[k]) <= gate[k]:
                leaks[step] = True


@borrowing
def gate_currents(raw, offsets, x, y, gate, first, count, direction, at, largest, share, left_out):
    """Find the largest gate current of every step, and its share of the drain current at a place.

    Parameters
    ----------
    raw, offsets
        Gate currents (A) of all steps, as :func:`.judge.judge_sweeps` takes them.
    x, y, gate, first, count
        Branches, as it fills them.
    direction
        ``FORWARD`` or ``REVERSE``.
    at
        Gate voltage of the place, NaN where there is none.  Shape (S,).
    largest, share, left_out
        Get the largest magnitude (A), the share, and the number of readings that are marks of an
        instrument, or missing among others; untouched where there is none.  Shape (S,).
    """
    for step in range(count.shape[0]):
        missing = 0
        for k in range(offsets[step], offsets[step + 1]):
            size = abs(raw[k])
            if not size < MARK:
                missing += 1
            elif not size <= largest[step]:
                largest[step] = size
        if math.isnan(largest[step]):
            continue
        left_out[step] = missing
        begin = first[step, direction]
        for k in range(begin, begin + count[step, direction]):
            if x[k] == at[step] and gate[k] < MARK and y[k] != 0.0:
                share[step] = gate[k] / abs(y[k])


@kernel
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


@borrowing
def crossing_error(x, z, level, at, sigma, to_scale):
    """Return the standard error of where a branch passes a level, and dV / dlevel there.

    Parameters
    ----------
    x, z, level
        As in :func:`crossing`.
    at
        Where it does, V.
    sigma, to_scale
        Standard deviation of the currents (A), shape (m,), and what turns it into that of ``z``.
    """
    k = 0
    for j in range(x.size - 1):
        if min(x[j], x[j + 1]) <= at <= max(x[j], x[j + 1]) and (z[j] < level) != (
            z[j + 1] < level
        ):
            k = j
    share = (at - x[k]) / (x[k + 1] - x[k])
    # Take the slope of a few points around: between two of them it is mostly noise, where noise
    # makes them cross.
    first = max(k - 2, 0)
    last = min(k + 3, x.size - 1)
    x_mean = np.mean(x[first : last + 1])
    z_mean = np.mean(z[first : last + 1])
    s_xx = 0.0
    s_xz = 0.0
    for j in range(first, last + 1):
        s_xx += (x[j] - x_mean) * (x[j] - x_mean)
        s_xz += (x[j] - x_mean) * (z[j] - z_mean)
    tilt = s_xx / s_xz
    noise = to_scale * math.hypot((1.0 - share) * sigma[k], share * sigma[k + 1])
    # Any of several crossings might have been the middle one.
    low = at
    high = at
    for j in range(x.size - 1):
        if (z[j] < level) != (z[j + 1] < level):
            low = min(low, x[j], x[j + 1])
            high = max(high, x[j], x[j + 1])
    several = (high - low) / math.sqrt(12.0) if high - low > 1.5 * abs(x[k + 1] - x[k]) else 0.0
    return math.hypot(noise * tilt, several), tilt


@borrowing
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


@borrowing
def least_magnitude(z):
    """Return the least of some magnitudes that is not 0, infinity where there is none."""
    least = np.inf
    for magnitude in z:
        if 0.0 < magnitude < least:
            least = magnitude
    return least


@kernel
def hysteresis(x_f, y_f, sigma_f, x_r, y_r, sigma_r, doubt, scale, known, row):
    """Compare the forward with the reverse branch.

    Parameters
    ----------
    x_f, y_f, sigma_f, x_r, y_r, sigma_r
        Branches: V, A, and the standard deviation of the noise (A).  At least 3 points each.
    doubt
        By which share the currents of each branch may be wrong together.  Shape (2,).
    scale
        ``LINEAR``: the level is half of the largest magnitude that both branches reach.
        ``LOGARITHMIC``: it is the geometric mean of the largest and of the smallest magnitude, not
        0, that both branches reach.
    known
        Whether the noise is known.
    row
        Gets the voltage at the level, forward minus reverse (V), NaN where there is none; the
        integral of ``|y_f| - |y_r|`` over the common voltages (A V); the level (A); and the
        standard error of the voltage (V); and the voltages of both crossings.  Shape (6,).

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
    row[4] = forward
    row[5] = reverse
    if math.isnan(row[0]):
        return AMBIGUOUS
    if known:
        to_scale = 1.0 / (row[2] * LN10) if scale == LOGARITHMIC else 1.0
        one, tilt_f = crossing_error(x_f, z_f, level, forward, sigma_f, to_scale)
        other, tilt_r = crossing_error(x_r, z_r, level, reverse, sigma_r, to_scale)
        # The level is half of a reading and moves both crossings.
        top = 0.0
        if scale != LOGARITHMIC:
            forward_less = z_f.max() < z_r.max()
            top = sigma_f[z_f.argmax()] if forward_less else sigma_r[z_r.argmax()]
        both = 0.5 * top * (tilt_f - tilt_r)
        # Where a range is a little off, nobody knows in which branch.
        unseen = DOUBTED * max(doubt[0], doubt[1]) * row[2] * to_scale
        unseen *= max(abs(tilt_f), abs(tilt_r))
        row[3] = math.sqrt(one * one + other * other + both * both + unseen * unseen)
    return FOUND


@borrowing
def sweep_hystereses(x, y, sigma, first, count, doubt, classes, scale, rows, codes):
    """Compare the forward with the reverse branch of every step.

    Parameters
    ----------
    x, y, sigma, first, count, doubt, classes
        Branches, as :func:`.judge.judge_sweeps` fills them.
    scale
        As in :func:`hysteresis`.
    rows
        Gets the rows of :func:`hysteresis`, NaN where there are none.  Shape (S, 6).
    codes
        Gets how each loop ended.  Shape (S,).
    """
    rows[:] = math.nan
    for step in range(count.shape[0]):
        m = count[step]
        if m[FORWARD] == 0:
            codes[step] = NO_DATA
        elif m[REVERSE] == 0:
            codes[step] = NO_BRANCH
        elif min(m[FORWARD], m[REVERSE]) < 3:
            codes[step] = TOO_FEW
        else:
            forward = slice(first[step, FORWARD], first[step, FORWARD] + m[FORWARD])
            reverse = slice(first[step, REVERSE], first[step, REVERSE] + m[REVERSE])
            codes[step] = hysteresis(
                x[forward], y[forward], sigma[forward], x[reverse], y[reverse], sigma[reverse],
                doubt[step], scale, classes[step] > 0, rows[step],
            )  # fmt: skip
