"""Currents that end at a level because the instrument could measure no more.

Dimension letters: N samples of a step, n of a window.
"""

from __future__ import annotations

import math

import numpy as np

from oectflow.extractors.kernels.compiled import borrowing, kernel
from oectflow.extractors.kernels.exponential import (
    AMPLITUDE,
    DECAY,
    FIT_OK,
    OFFSET,
    SE_AMPLITUDE,
    SE_OFFSET,
    TAU,
)
from oectflow.extractors.kernels.gate import extremes

#: Largest share of samples that equal another one where the steps of the instrument are fine.
TIED = 0.05


@borrowing
def pile_up(y, top):
    """Return the largest (or least) sample of a window, and how many are equal to it and the next.

    Parameters
    ----------
    y
        The window.  Shape (n,).
    top
        Whether to look at the largest.
    """
    sign = 1.0 if top else -1.0
    best = second = -math.inf
    count = after = 0
    for k in range(y.size):
        value = sign * y[k]
        if value > best:
            second, after = best, count
            best, count = value, 1
        elif value == best:
            count += 1
        elif value > second:
            second, after = value, 1
        elif value == second:
            after += 1
    return sign * best, count, after


@borrowing
def piles_up(y, limits):
    """Tell whether a window may have a plateau; quicker than :func:`pile_up`, and never too strict.

    Parameters
    ----------
    y
        The window, finite.  Shape (n,).
    limits
        From :func:`limits_of`.
    """
    low, high = extremes(y)
    tops = bottoms = 0
    for k in range(y.size):
        tops += y[k] == high
        bottoms += y[k] == low
    if max(tops, bottoms) >= 4:
        return True
    return high == limits[0] or high == limits[1] or low == limits[0] or low == limits[1]


@borrowing
def least_step(y):
    """Return the least change from sample to sample that is not 0, infinity if all are 0."""
    least = math.inf
    for k in range(1, y.size):
        step = abs(y[k] - y[k - 1])
        if step > 0.0:
            least = min(least, step)
    return least


@kernel
def is_fine(y):
    """Tell whether the steps of the instrument are so fine that samples are not equal by chance.

    The largest and the least of the samples, which may be plateaus, do not count.
    """
    ordered = np.sort(y)
    n = ordered.size
    while n > 0 and math.isnan(ordered[n - 1]):
        n -= 1
    if n == 0:
        return False
    inner = tied = 0
    for k in range(1, n):
        if ordered[0] < ordered[k] < ordered[n - 1]:
            inner += 1
            tied += ordered[k] == ordered[k - 1]
    return inner > 0 and tied <= TIED * inner


@kernel
def limits_of(y):
    """Return the largest and the least current of a step where samples pile up there, else NaN."""
    limits = np.full(2, math.nan)
    # Counting is quick; a closer look follows only where there is something.
    low, high = extremes(y)
    tops = bottoms = 0
    for k in range(y.size):
        tops += y[k] == high
        bottoms += y[k] == low
    if max(tops, bottoms) < 8:
        return limits
    for i in range(2):
        level, count, after = pile_up(y, i == 0)
        if count >= max(8, 3 * after, y.size // 200):
            limits[i] = level
    # Coarse steps make many samples equal by chance.
    if not (math.isnan(limits[0]) and math.isnan(limits[1])) and not is_fine(y):
        limits[:] = math.nan
    return limits


@borrowing
def is_cut_off(y, t, left_out, level, top, ended, process, fit):
    """Tell whether the current would have gone on, were it not for the instrument.

    Parameters
    ----------
    y, t
        The window.
    left_out
        The samples of the plateau.
    level, top
        Its current, and whether this is the largest of the window or the least.
    ended, process, fit
        How the fit without it ended, its process, and this fit.
    """
    n = y.size
    # A plateau within one of the instrument's own steps is the end of a relaxation.
    digit = least_step(y)
    if ended != FIT_OK:
        # The rest is no exponential.  With fine steps, no two samples are equal by chance.
        return is_fine(y)
    origin = 0
    while left_out[origin]:
        origin += 1
    begin = t[origin] if t.size else float(origin)
    middle = 0.0
    count = 0
    rss = 0.0
    alpha = fit[AMPLITUDE] if process == DECAY else -fit[AMPLITUDE]
    end = fit[OFFSET] if process == DECAY else fit[OFFSET] + fit[AMPLITUDE]
    for k in range(n):
        f = math.exp(-((t[k] if t.size else float(k)) - begin) / fit[TAU])
        if left_out[k]:
            middle += f
            count += 1
        else:
            rss += (y[k] - end - alpha * f) ** 2
    scatter = math.sqrt(rss / max(n - count - 3, 1))
    # Where the noise is wider than the steps, equal samples do not pile up at one end of them.
    if scatter > digit:
        return True
    beyond = (end + alpha * middle / count - level) * (1.0 if top else -1.0)
    error = fit[SE_AMPLITUDE] * max(1.0, middle / count) + fit[SE_OFFSET]
    return beyond > 2.0 * digit and beyond > 5.0 * error
