"""Currents that end abruptly in a plateau, as at a compliance.

Dimension letters: m points of a branch.
"""

from __future__ import annotations

import numpy as np
from numba import njit

#: Equal largest currents that make a plateau.
PLATEAU = 3
#: The last steps before a plateau are more than so many steps of the converter, and more than this
#: share of the largest step: a current that saturates has neither, unless it does so by more than a
#: factor of five with every point.
ABRUPT_QUANTA = 20.0
ABRUPT = 0.01
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
def plateau(y):
    """Return the number of neighbours that have the largest |Id| of a branch, if it ends abruptly.

    Parameters
    ----------
    y
        Currents of a branch.  Shape (m,).

    Returns
    -------
    The length of the plateau, 0 where the current comes to it by and by; and its |Id|.
    """
    m = y.size
    top = 0.0
    largest = 0.0
    for k in range(m):
        top = max(top, abs(y[k]))
        if k > 0:
            largest = max(largest, abs(y[k] - y[k - 1]))
    equal = 1e-12 * top
    longest = 0
    before = 0.0
    k = 0
    while k < m:
        if abs(y[k]) < top - equal:
            k += 1
            continue
        end = k
        while end + 1 < m and abs(y[end + 1]) >= top - equal:
            end += 1
        if end + 1 - k > longest:
            longest = end + 1 - k
            before = 0.0
            for j in (k, k - 1, end + 1, end + 2):
                if 0 < j < m:
                    before = max(before, abs(y[j] - y[j - 1]))
        k = end + 1
    if longest < 2 or before <= ABRUPT * largest:
        return 0 if longest > 1 else longest, top
    if before <= ABRUPT_QUANTA * quantum_of(y, top):
        return 0, top
    return longest, top
