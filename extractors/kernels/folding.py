"""Whether the cycles of a trace look alike where they are cut, and with which period they would.

Dimension letters: N samples of a step, n cycles, B bins of a cycle.
"""

from __future__ import annotations

import math

import numpy as np

from oectflow.extractors.kernels.compiled import borrowing, kernel
from oectflow.extractors.kernels.gate import OVERFLOW, count_cycles, cycle_starts

#: Parts of a cycle that are compared.
BINS = 32
#: Mean deviation of a part from the median of the cycles, in standard deviations within a cycle.
ALIKE = 0.04
#: Share of the nominal period by which the true one may differ from it.
FAR = 0.06


@kernel
def cycles_differ(y, t, starts):
    """Tell whether cycles may be cut at wrong places: they do not look alike.

    Arguments as in :func:`unlikeness`.
    """
    if starts.size < 3:
        return False
    shapes = shapes_of(y, t, starts)
    # Nothing is nearer to all of them than their median, so most traces need only the mean.
    return about_mean(shapes) > ALIKE and about_median(shapes) > ALIKE


@kernel
def unlikeness(y, t, starts):
    """Return how much the cycles of a trace differ, in standard deviations within a cycle.

    Level and size of a cycle do not count, so that a device may age.

    Parameters
    ----------
    y
        Current.  Shape (N,).
    t
        Times of the samples, shape (N,); shape (0,) stands for 0, 1, 2, ...
    starts
        Borders of the cycles.  Shape (n + 1,).

    Returns
    -------
    The mean deviation of a part of a cycle from its median; 0 where nothing can be compared.
    """
    return about_median(shapes_of(y, t, starts)) if starts.size > 2 else 0.0


@kernel
def about_median(shapes):
    """Return the mean deviation of a part from its median; NaN does not count.  Shape (n, B)."""
    n_cycles = shapes.shape[0]
    total = 0.0
    count = 0
    column = np.empty(n_cycles)
    for j in range(BINS):
        used = 0
        for i in range(n_cycles):
            if not math.isnan(shapes[i, j]):
                column[used] = shapes[i, j]
                used += 1
        if used < 2:
            continue
        middle = np.median(column[:used])
        for i in range(used):
            # A single bad sample does not outweigh all others.
            total += min(abs(column[i] - middle), 1.0)
        count += used
    return total / count if count else 0.0


@borrowing
def about_mean(shapes):
    """Return the mean deviation of a part from its mean, at least :func:`about_median`."""
    n_cycles = shapes.shape[0]
    total = 0.0
    count = 0
    for j in range(BINS):
        middle = 0.0
        used = 0
        for i in range(n_cycles):
            if not math.isnan(shapes[i, j]):
                middle += shapes[i, j]
                used += 1
        if used < 2:
            continue
        middle /= used
        for i in range(n_cycles):
            if not math.isnan(shapes[i, j]):
                total += abs(shapes[i, j] - middle)
        count += used
    return total / count if count else 0.0


@kernel
def shapes_of(y, t, starts):
    """Return the shape of every cycle, as :func:`fill_shape` has it.  Shape (n, B)."""
    shapes = np.empty((starts.size - 1, BINS))
    parts = np.empty(BINS + 1, np.int64)
    length = -1
    for i in range(starts.size - 1):
        first, last = starts[i], starts[i + 1]
        if t.size == 0 and last - first != length:
            length = last - first
            parts[:] = length
            for k in range(length - 1, -1, -1):
                parts[min(int(k * (BINS / float(length))), BINS - 1)] = k
            # A part without samples begins where the next one does.
            for j in range(BINS - 1, -1, -1):
                parts[j] = min(parts[j], parts[j + 1])
        fill_shape(y, t, first, last, parts, shapes[i])
    return shapes


@kernel
def fill_shape(y, t, first, last, parts, shape):
    """Fill the mean current in the parts of a cycle, centred and divided by its deviation.

    NaN where a part has no sample, or the cycle does not change.

    Parameters
    ----------
    y, t
        As in :func:`unlikeness`.
    first, last
        Borders of the cycle.
    parts
        Where they begin, in samples from ``first``; unused where there are times.  Shape (B + 1,).
    shape
        Gets the means.  Shape (B,).
    """
    shape[:] = 0.0
    counts = np.zeros(BINS)
    zero = 0.0
    for k in range(first, last):
        if abs(y[k]) < OVERFLOW:
            zero = y[k]
            break
    if t.size == 0:
        for j in range(BINS):
            total = count = 0.0
            for k in range(first + parts[j], first + parts[j + 1]):
                usable = abs(y[k]) < OVERFLOW
                total += y[k] - zero if usable else 0.0
                count += usable
            shape[j], counts[j] = total, count
    else:
        begin = t[first]
        end = t[last] if last < t.size else 2.0 * t[last - 1] - t[last - 2]
        scale = BINS / (end - begin)
        for k in range(first, last):
            at = min(int((t[k] - begin) * scale), BINS - 1)
            if abs(y[k]) < OVERFLOW:
                shape[at] += y[k] - zero
                counts[at] += 1.0
    mean = square = used = 0.0
    for j in range(BINS):
        shape[j] = shape[j] / counts[j] if counts[j] > 0.0 else math.nan
        if counts[j] > 0.0:
            mean += shape[j]
            used += 1.0
    mean /= used
    for j in range(BINS):
        if counts[j] > 0.0:
            square += (shape[j] - mean) ** 2
    deviation = math.sqrt(square / used) if used > 0.0 else 0.0
    for j in range(BINS):
        shape[j] = (shape[j] - mean) / deviation if deviation > 0.0 else math.nan


@borrowing
def refined_period(y, m):
    """Return the period near a nominal one after which the current comes back best.

    First within :data:`FAR`, then from multiple to twice the multiple, which tells twice as much.

    Parameters
    ----------
    y
        Current, NaN where it is no number.  Shape (N,).
    m
        Nominal period in samples.
    """
    period = m
    multiple = 1
    reach = math.ceil(FAR * m)
    while multiple * period + reach <= 0.75 * y.size:
        centre = math.floor(multiple * period + 0.5)
        nearest = math.inf
        for lag in range(max(centre - reach, 1), centre + reach + 1):
            away = distance_after(y, lag)
            if away < nearest:
                nearest = away
                period = lag / multiple
        multiple *= 2
        reach = 2
    return period


@borrowing
def distance_after(y, lag):
    """Return the mean distance of samples from those so many samples later."""
    total = 0.0
    count = 0
    for k in range(y.size - lag):
        away = abs(y[k + lag] - y[k])
        if away == away:
            total += away
            count += 1
    return total / count if count else math.inf


@kernel
def period_is_off(y, t, m, n_cycles):
    """Tell whether cycles are twice as much alike with a period near the nominal one.

    Parameters
    ----------
    y, t
        As in :func:`unlikeness`.
    m, n_cycles
        Nominal period in samples, and number of cycles.
    """
    nominal = unlikeness(y, t, cycle_starts(t, y.size, m, n_cycles))
    if not nominal > ALIKE:
        return False
    near = refined_period(y, m)
    n = count_cycles(float(y.size), near)
    return n > 1 and unlikeness(y, t[:0], cycle_starts(t[:0], y.size, near, n)) < 0.5 * nominal
