"""Currents that end abruptly in a plateau, as at a compliance.

Dimension letters: m points of a branch.
"""

from __future__ import annotations

import math

import numpy as np

from oectflow.extractors.kernels.compiled import borrowing, kernel

#: Equal largest currents that make a plateau: so many side by side, or ``SCATTERED`` of them that
#: are at least every second point.
PLATEAU = 3
SCATTERED = 5
#: The last steps before a plateau are more than so many steps of the instrument, and more than this
#: share of the largest step.  Those of a current that saturates are neither, unless they shrink by
#: more than a factor of five with every point.
ABRUPT_QUANTA = 20.0
ABRUPT = 0.01
#: A current that saturates rises in every block of as many points by about the same share of its
#: rise in the block before.  In a plateau, the rise that it should have had is more than so many
#: steps of the instrument, and more than this share of the current.
RISE_QUANTA = 3.0
RISE = 1e-3
#: Two neighbours are equal by chance less often than once in so many times.
NO_CHANCE = 1000.0
#: Likewise for both ends of a loop, where the points beside them differ by so many steps.
NO_CHANCE_ENDS = 200.0
#: Numbers of up to so many digits are recognised; others have at least those of single precision.
MOST_DIGITS = 6
SINGLE = 1e-7
#: The smallest step seen may be up to so many times the converter's own step.
PARTS = 4


@borrowing
def written_step(y, top):
    """Return the last digit of the largest number, A, where all numbers have few digits; else 0.

    Parameters
    ----------
    y
        Currents of a branch.  Shape (m,).
    top
        The largest |Id| of them, not 0.
    """
    for digits in range(2, MOST_DIGITS + 1):
        fits = True
        for current in y:
            if current != 0.0 and fits:
                size = abs(current)
                scaled = size * 10.0 ** (digits - 1.0 - math.floor(math.log10(size)))
                fits = abs(scaled - round(scaled)) < 1e-4
        if fits:
            return 10.0 ** (math.floor(math.log10(top)) - digits + 1.0)
    return 0.0


@kernel
def converter_unit(y, top):
    """Return the step of a converter, of which all currents are multiples, A; else 0."""
    size = np.sort(np.abs(y))
    least = top
    for k in range(size.size - 1):
        # Numbers that differ only by rounding are equal.
        if size[k + 1] - size[k] > SINGLE * top:
            least = min(least, size[k + 1] - size[k])
    for part in range(1, PARTS + 1):
        unit = least / part
        fits = unit < top
        for current in size:
            fits = fits and abs(current / unit - round(current / unit)) < 0.05
        if fits:
            return unit
    return 0.0


@borrowing
def should_rise(y, begin, step, points, quantum):
    """Tell whether a current would go on rising where it is constant, judged by its rise before.

    Parameters
    ----------
    y
        Magnitudes of the currents of a branch.  Shape (m,).
    begin, step
        Index of the end of a plateau, and 1 or -1, which leads out of it.
    points
        Number of points of the plateau.
    quantum
        Step of the instrument, A.
    """
    room = y.size - 1 - begin if step > 0 else begin
    block = points - 1
    while block > 0:
        if 2 * block <= room:
            one = y[begin] - y[begin + block * step]
            other = y[begin + block * step] - y[begin + 2 * block * step]
            if one > 0.0 and other > 0.0:
                return min(one / other, 1.0) * one > max(RISE_QUANTA * quantum, RISE * y[begin])
        block //= 2
    return False


@kernel
def plateau(y):
    """Return the number of points that have the largest |Id| of a branch, if it ends abruptly.

    Parameters
    ----------
    y
        Currents of a branch.  Shape (m,).

    Returns
    -------
    The number of points, 0 where the current approaches the plateau gradually, or where the points
    are few and scattered; two neighbours that cannot be equal by chance make a plateau of
    :data:`PLATEAU` points.  And the largest |Id|.
    """
    m = y.size
    top = 0.0
    largest = 0.0
    for k in range(m):
        top = max(top, abs(y[k]))
        if k > 0:
            largest = max(largest, abs(y[k] - y[k - 1]))
    equal = top - 1e-12 * top
    points = 0
    run = 0
    longest = 0
    first = -1
    last = -1
    before = 0.0
    for k in range(m):
        if abs(y[k]) < equal:
            run = 0
            continue
        points += 1
        run += 1
        longest = max(longest, run)
        first = k if first < 0 else first
        last = k
        for j in range(max(k - 1, 1), min(k + 3, m)):
            before = max(before, abs(y[j] - y[j - 1]))
    if points < 2:
        return points, top
    if top == 0.0:
        return 0, top
    quantum = max(written_step(y, top), converter_unit(y, top), SINGLE * top)
    if before <= max(ABRUPT * largest, ABRUPT_QUANTA * quantum):
        # Fine steps of the voltage make small steps of the current: the plateau has to be long.
        if points > PLATEAU and points == longest:
            size = np.abs(y)
            if should_rise(size, first, -1, points, quantum) or should_rise(
                size, last, 1, points, quantum
            ):
                return points, top
        return 0, top
    if longest >= PLATEAU or (points >= SCATTERED and 2 * points > last - first):
        return points, top
    if longest == 2 and before > NO_CHANCE * quantum:
        return PLATEAU, top
    return longest if longest > 1 else 0, top


@borrowing
def equal_ends(y_f, y_r):
    """Tell whether a loop begins and ends at the same largest |Id| although its branches differ.

    Parameters
    ----------
    y_f, y_r
        Currents of the forward and of the reverse branch.
    """
    m = min(y_f.size, y_r.size)
    if m < 5 or y_f[0] != y_r[-1] or y_f[0] == 0.0:
        return False
    top = abs(y_f[0])
    least = math.inf
    for k in range(1, 5):
        least = min(least, abs(y_f[k] - y_r[-1 - k]))
    if not least > NO_CHANCE_ENDS * SINGLE * top:
        return False
    for current in y_f:
        if abs(current) > top:
            return False
    for current in y_r:
        if abs(current) > top:
            return False
    quantum = max(written_step(y_f, top), converter_unit(y_f, top))
    return least > NO_CHANCE_ENDS * quantum
