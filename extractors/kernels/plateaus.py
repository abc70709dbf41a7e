"""Currents that end abruptly in a plateau, as at a compliance.

Dimension letters: m points of a branch.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

#: Equal largest currents that make a plateau.
PLATEAU = 3
#: The last steps before a plateau are more than so many steps of the converter, and more than this
#: share of the largest step: a current that saturates has neither, unless it does so by more than a
#: factor of five with every point.
ABRUPT_QUANTA = 20.0
ABRUPT = 0.01
#: Two neighbours are equal by chance less often than once in so many times.
NO_CHANCE = 1000.0
#: Six digits, as instruments print them, differ by this share at most.
PRINTED = 1e-5
#: So many differences that are multiples of the smallest one are no chance.
FEW_STEPS = 4


@njit(nogil=True, cache=True, error_model="numpy")
def quantum_of(y, top):
    """Return the step of a converter: of which all differences in the upper half are multiples.

    Parameters
    ----------
    y
        Currents of a branch.  Shape (m,).
    top
        The largest |Id| of them.

    Returns
    -------
    The step (A), or what printing leaves where there is none.
    """
    size = np.sort(np.abs(y))
    first = np.searchsorted(size, 0.5 * top)
    quantum = top
    for k in range(first, size.size - 1):
        if size[k + 1] > size[k]:
            quantum = min(quantum, size[k + 1] - size[k])
    steps = 0
    for k in range(first, size.size - 1):
        multiple = (size[k + 1] - size[k]) / quantum
        if abs(multiple - round(multiple)) > 0.05:
            return PRINTED * top
        steps += multiple > 0.5
    return max(quantum, PRINTED * top) if steps >= FEW_STEPS else PRINTED * top


@njit(nogil=True, cache=True, error_model="numpy")
def printed_digits(y):
    """Return the resolution of numbers as they were written, as a share of the largest one.

    Parameters
    ----------
    y
        Currents of a branch.  Shape (m,).

    Returns
    -------
    :data:`PRINTED` where no number has more than six digits, else a tenth of it.
    """
    for current in y:
        if current == 0.0:
            continue
        size = abs(current)
        scaled = size * 10.0 ** (5.0 - math.floor(math.log10(size)))
        if abs(scaled - round(scaled)) > 1e-6:
            return 0.1 * PRINTED
    return PRINTED


@njit(nogil=True, cache=True, error_model="numpy")
def plateau(y):
    """Return the number of points that have the largest |Id| of a branch, if it ends abruptly.

    Parameters
    ----------
    y
        Currents of a branch.  Shape (m,).

    Returns
    -------
    The number, 0 where the current comes to it by and by, more than two of them or two neighbours
    that cannot be equal by chance making a plateau of :data:`PLATEAU` points; and the largest |Id|.
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
    neighbours = False
    before = 0.0
    for k in range(m):
        if abs(y[k]) < equal:
            continue
        points += 1
        neighbours = neighbours or (k > 0 and abs(y[k - 1]) >= equal)
        for j in range(max(k - 1, 1), min(k + 3, m)):
            before = max(before, abs(y[j] - y[j - 1]))
    if points < 2:
        return points, top
    if before <= ABRUPT * largest or before <= ABRUPT_QUANTA * quantum_of(y, top):
        return 0, top
    if points == 2 and neighbours and before > NO_CHANCE * printed_digits(y) * top:
        return PLATEAU, top
    return points, top
