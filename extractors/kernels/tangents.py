"""Tangents to the current of a transfer sweep, or to its root: what several figures are read off.

Dimension letters: m points of a branch, P points of all branches, S steps.
"""

from __future__ import annotations

import numpy as np

from oectflow.extractors.kernels.compiled import borrowing, kernel
from oectflow.extractors.kernels.smoothing import SMOOTHED, slope_errors, smooth, smooth_errors
from oectflow.extractors.kernels.sweep_errors import (
    LINEAR,
    ROOT,
    point_errors,
    rivals_of,
    spread_of,
)
from oectflow.extractors.kernels.sweeps import derivative

#: The rows of the lines of :func:`sweep_tangents`, and the columns of what is said about them.
Z, SLOPE, OWN, ERROR = range(4)
SHIFT, RIVALS = range(2)


@kernel
def tangents(x, y, sigma, root, formula, known, z, slope, own, error):
    """Fill in ordinates and slopes of the current, or of its root, and their standard errors.

    Parameters
    ----------
    x, y, sigma
        Branch: V, A, and the standard deviation of the noise (A).  Shape (m,).
    root
        Whether it is ``sqrt(|y|)``.
    formula
        Formula of the derivative, as in :func:`.sweeps.derivative`.
    known
        Whether the noise is known.
    z, slope, own, error
        Get the ordinates, which are smooth where the slopes are, the slopes, and the errors of
        both; the latter 0 where the noise is not known.  Shape (m,).
    """
    m = x.size
    raw = np.sqrt(np.abs(y)) if root else y
    derivative(raw, x, formula, slope)
    if formula >= SMOOTHED:
        smooth(raw, x, formula, 0, z)
    else:
        z[:] = raw
    own[:] = 0.0
    error[:] = 0.0
    if not known:
        return
    spread = np.empty(m)
    point_errors(y, sigma, ROOT if root else LINEAR, spread)
    slope_errors(x, spread, formula, error)
    if formula >= SMOOTHED:
        smooth_errors(x, spread, formula, 0, own)
    else:
        own[:] = spread


@borrowing
def steepest(slope):
    """Return the index of the largest magnitude, the first of equal ones."""
    k = 0
    for j in range(slope.size):
        if abs(slope[j]) > abs(slope[k]):
            k = j
    return k


@kernel
def sweep_tangents(
    x, y, sigma, first, count, classes, direction, root, formula, lines, best, about
):
    """Fill in the tangents of one branch of every step, and which is the steepest.

    Parameters
    ----------
    x, y, sigma, first, count, classes
        Branches, as :func:`.judge.judge_sweeps` fills them.
    direction
        ``FORWARD`` or ``REVERSE``.
    root, formula
        As in :func:`tangents`.
    lines
        Gets what :func:`tangents` fills in, at the points of the branch only.  Shape (4, P).
    best
        Gets the index of the steepest within its branch, -1 where the branch is too short.
        Shape (S,).
    about
        Gets the mean square of the distance of its zero from those of tangents that may be as
        steep (V²), and how many these are, itself included; 0 and 1 where the noise is not known.
        Shape (S, 2).
    """
    for step in range(count.shape[0]):
        m = count[step, direction]
        begin = first[step, direction]
        best[step] = -1
        about[step, SHIFT] = 0.0
        about[step, RIVALS] = 1.0
        if m < 3 or m < formula:
            continue
        points = slice(begin, begin + m)
        own_x = x[points]
        z, slope = lines[Z, points], lines[SLOPE, points]
        error = lines[ERROR, points]
        known = classes[step] > 0
        tangents(
            own_x, y[points], sigma[points], root, formula, known,
            z, slope, lines[OWN, points], error,
        )  # fmt: skip
        k = steepest(slope)
        best[step] = k
        if not known or slope[k] == 0.0:
            continue
        # Where every tangent meets zero; that of the steepest where one has none.
        meets, weight = np.empty((2, m))
        for j in range(m):
            at = j if slope[j] != 0.0 else k
            meets[j] = own_x[at] - z[at] / slope[at]
        about[step, RIVALS] = rivals_of(np.abs(slope), error, k, weight)
        about[step, SHIFT] = spread_of(meets, weight, k)
