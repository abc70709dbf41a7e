"""The median of a few numbers, and of magnitudes, by counting how many lie below a pivot.

Where the values are about as noise is, the pivot starts so near to the median that few counts are
needed; anything else is found by narrowing a bracket around a sample.

Magnitudes are compared by their bit patterns, which as integers have the same order.  Counting how
many lie below a pivot then is a loop without branches or stores that runs in vector instructions,
and copying those in a bracket one without branches, 3 times faster than on floating-point numbers.

Dimension letters: m values, n of them still in the bracket.
"""

from __future__ import annotations

import math

import numpy as np

from oectflow.extractors.kernels.compiled import borrowing

#: So few values are sorted; and so many are sampled for a first bracket.
FEW = 8
#: The bracket of a median reaches from the second smallest to the largest of the sample: it holds
#: the median nineteen times out of twenty.
REACH_SAMPLE = 3
#: Half width of a later bracket, in standard deviations of the rank of its centre.
REACH = 1.65
#: Brackets tried before the values in the last one are copied.  The second and later ones lie
#: strictly inside the one before, so that two at least are needed to get on.
LOOKS = 2
#: Median of the magnitude of normally distributed numbers over their mean magnitude, and density
#: there times the mean magnitude: 0.6745 / 0.7979, and 0.6356 * 0.7979.
NORMAL_MIDDLE, NORMAL_DENSITY = 0.845, 0.507
#: Pivots that are tried from there; and the distance in rank that is gone value by value.  With
#: these, noise of 100 to 10000 values takes two counts and two splits on average.
COUNTS, NEAR = 6, 2


@borrowing
def sort_few(v, n):
    """Sort ``v[:n]`` in place, by exchanges without branches."""
    for i in range(1, n):
        x = v[i]
        for j in range(i):
            y = v[j]
            v[j] = min(x, y)
            x = max(x, y)
        v[i] = x


@borrowing
def median_of(values, n, work):
    """Return the median of ``values[:n]`` with the bits of :func:`numpy.median`.

    The part of the values that holds it is divided at a pivot without branches: for a hundred
    values Numba's own takes four times as long.

    Parameters
    ----------
    values
        Shape (m,).
    n
        How many of them count, at least 1; NaN if one of them is.
    work
        Work space.  Shape (m,) or more.
    """
    for i in range(n):
        work[i] = values[i]
        if math.isnan(values[i]):
            return math.nan
    k = (n - 1) // 2
    low, high = 0, n
    while high - low > FEW:
        a, b, c = work[low], work[(low + high) // 2], work[high - 1]
        pivot = max(min(a, b), min(max(a, b), c))
        less = low
        for i in range(low, high):
            v = work[i]
            work[i] = work[less]
            work[less] = v
            less += 1 if v < pivot else 0
        if k < less:
            high = less
            continue
        low = less
        for i in range(less, high):
            v = work[i]
            work[i] = work[low]
            work[low] = v
            low += 1 if v == pivot else 0
        if k < low:
            # It is the pivot.
            low, high = less, less
    sort_few(work[low:high], high - low)
    if n % 2 == 1:
        return work[k]
    above = work[k + 1]
    for i in range(k + 2, n):
        above = min(above, work[i])
    return 0.5 * (work[k] + above)


@borrowing
def keep_between(v, n, floor, ceiling, kept):
    """Copy those of ``v[:n]`` with ``floor < v < ceiling``; return their number."""
    count = 0
    span = np.uint64(ceiling - floor - 1)
    for i in range(n):
        kept[count] = v[i]
        # Below the floor the difference wraps around to a large number.
        count += int(np.uint64(v[i] - floor - 1) < span)
    return count


@borrowing
def kth_smallest(v, n, k, spare):
    """Return the values that stand at the indices ``k`` and ``k + 1`` when ``v[:n]`` is sorted.

    The second one is -1 where it is not seen in passing.

    Parameters
    ----------
    v
        Integers, not negative; overwritten.  Shape (m,).
    n, k
        How many of them count, and which one is wanted, ``0 <= k < n``.
    spare
        Work space.  Shape (m,).
    """
    floor, ceiling = -1, np.iinfo(np.int64).max
    while n > FEW:
        stride = n // FEW
        for i in range(FEW):
            spare[i] = v[i * stride + stride // 2]
        sort_few(spare, FEW)
        centre = k * FEW // n
        low = spare[max(centre - REACH_SAMPLE + 1, 0)]
        high = spare[min(centre + REACH_SAMPLE, FEW - 1)]
        first, last = 0, n
        for _ in range(LOOKS):
            below, to_high = 0, 0
            for i in range(n):
                below += 1 if v[i] < low else 0
                to_high += 1 if v[i] <= high else 0
            if k < below:
                ceiling, last = low, below
            elif k < to_high:
                floor, first, ceiling, last = low - 1, below, high + 1, to_high
            else:
                floor, first = high, to_high
            if ceiling - floor == 2:
                return floor + 1, -1
            if last - first <= FEW:
                break
            # Inside a bracket between two samples the values are about evenly spread.
            width = ceiling - floor
            share = (k + 0.5 - first) / (last - first)
            around = REACH * math.sqrt(0.25 / (last - first))
            low = min(max(floor + int(width * (share - around)), floor + 1), ceiling - 1)
            high = min(max(floor + int(width * (share + around)), low), ceiling - 1)
            if low == floor + 1 and high == ceiling - 1:
                high = low
        n = keep_between(v, n, floor, ceiling, spare)
        k -= first
        v, spare = spare, v
    sort_few(v, n)
    return np.int64(v[k]), np.int64(v[k + 1]) if k + 1 < n else -1


@borrowing
def count_below(bits, m, magnitude_bits, pivot):
    """Return how many of the first ``m`` magnitudes are less than ``pivot``."""
    # Count in the width of the values, or half of the vector would be lost with float32.
    integer = bits.dtype.type
    count = integer(0)
    for i in range(m):
        count = integer(count + integer(integer(bits[i] & magnitude_bits) < pivot))
    return np.int64(count)


@borrowing
def split_at(bits, m, magnitude_bits, pivot):
    """Return how many magnitudes are less than ``pivot``, the largest of them and the least other.

    -1, and the largest pattern, where there is none.
    """
    integer = bits.dtype.type
    none_below, none_other = integer(-1), integer(magnitude_bits)
    count, below, other = integer(0), none_below, none_other
    for i in range(m):
        v = integer(bits[i] & magnitude_bits)
        is_below = v < pivot
        count = integer(count + integer(is_below))
        below = integer(max(below, v if is_below else none_below))
        other = integer(min(other, none_other if is_below else v))
    return np.int64(count), np.int64(below), np.int64(other)


@borrowing
def middle_two(bits, m, c, mean, sample):
    """Find the middle of the magnitudes from where it lies in noise, by counting.

    A pivot goes from the median of normally distributed numbers of that mean magnitude to where
    their density says that the middle is, then between the nearest two on both sides, and over the
    last few values one by one.  Every pass runs in vector instructions.  Where a few large values
    have spoilt the mean, as the steps of a transient do, the pivot starts from a sample.

    Parameters
    ----------
    bits, m, c
        As in :func:`median_magnitude`.
    mean
        Mean magnitude; a wrong one costs time and nothing else.
    sample
        Work space.  Shape (FEW,) or more.

    Returns
    -------
    The values that stand at the indices ``(m - 1) // 2`` and ``(m - 1) // 2 + 1`` when the
    magnitudes are sorted; -1 twice where the middle is not as it is in noise.
    """
    integer = bits.dtype.type
    magnitude_bits = integer(np.iinfo(bits.dtype).max)
    target = (m + 1) // 2
    low, high = np.int64(0), np.int64(magnitude_bits)
    n_low, n_high = -1, -1
    guess = NORMAL_MIDDLE * mean
    step = mean / (NORMAL_DENSITY * m)
    near = False
    pivot = np.int64(0)
    for attempt in range(COUNTS):
        if n_low >= 0 and n_high >= 0:
            pivot = low + np.int64((high - low) * ((target - n_low) / (n_high - n_low)))
        else:
            c[m] = guess
            pivot = np.int64(bits[m])
        pivot = min(max(pivot, low + 1), high - 1)
        count = count_below(bits, m, magnitude_bits, integer(pivot))
        missing = target - count
        if abs(missing) <= NEAR:
            near = True
            break
        if missing > 0:
            low, n_low = pivot, count
        else:
            high, n_high = pivot, count
        if high - low == 1:
            return low, low
        if attempt == 0 and abs(missing) > m // 5 and m > FEW:
            stride = m // FEW
            for i in range(FEW):
                sample[i] = bits[i * stride + stride // 2] & magnitude_bits
            sort_few(sample, FEW)
            bits[m] = sample[FEW // 2]
            guess = np.float64(c[m])
            step = guess / (NORMAL_MIDDLE * NORMAL_DENSITY * m)
        else:
            guess += missing * step
            step *= 1.5
    if not near:
        # Perhaps the middle is one of many equal values.
        pivot = low
    next_below, next_other = np.int64(-2), np.int64(-2)
    for _ in range(NEAR + 2 if near else 2):
        count, below, other = split_at(bits, m, magnitude_bits, integer(pivot))
        if count == target:
            return below, other
        # Values that are equal are passed at once, perhaps with the middle among them.
        if count < target:
            if other == next_below:
                return other, other
            next_other = other
            pivot = other + 1
        else:
            if below == next_other:
                return below, below
            next_below = below
            pivot = below
    return np.int64(-1), np.int64(-1)


@borrowing
def median_magnitude(bits, m, c, mean, sort_1, sort_2):
    """Return the median of ``|c|``; the mean of the two middle ones where the count is even.

    Parameters
    ----------
    bits, m
        Bit patterns of finite numbers, ``m >= 1`` of them; the two entries behind the last one are
        overwritten.  Shape (m + 2,) or more.
    c
        The same memory as numbers.
    mean
        Mean of ``|c|``.
    sort_1, sort_2
        Work space: integers of the same width.  Shape (m,) or more.
    """
    magnitude_bits = np.iinfo(bits.dtype).max
    lower, upper = middle_two(bits, m, c, mean, sort_1)
    if lower < 0:
        for i in range(m):
            sort_1[i] = bits[i] & magnitude_bits
        lower, upper = kth_smallest(sort_1, m, (m - 1) // 2, sort_2)
    if m % 2 == 1:
        upper = lower
    elif upper < 0:
        to_lower = 0
        none = np.int64(np.iinfo(np.int64).max)
        upper = none
        for i in range(m):
            pattern = bits[i] & magnitude_bits
            to_lower += 1 if pattern <= lower else 0
            upper = min(upper, pattern if pattern > lower else none)
        if to_lower > m // 2:
            upper = lower
    bits[m] = lower
    bits[m + 1] = upper
    return 0.5 * (np.float64(c[m]) + np.float64(c[m + 1]))
