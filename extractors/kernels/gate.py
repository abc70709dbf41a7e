"""Clock, cycles and phases of a gated trace.

Dimension letters: N samples of a step, n cycles.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from oectflow.extractors.kernels.compiled import borrowing, kernel
from oectflow.extractors.kernels.selection import median_of
from oectflow.extractors.kernels.vectors import WIDE, largest, least, like, load_wide, where_less

#: A period counts as complete if at most half a sample of it is missing.
TOLERANCE = 0.5
#: No current: instruments write 9.9E37 or infinity where they could not measure one.
OVERFLOW = 1e30


@borrowing
def count_cycles(n_samples, samples_per_period):
    """Return the number of complete gate periods in a step; 0 where the period is unknown."""
    # Less than four samples cannot tell three parameters; NaN fails the comparison as well.
    if not samples_per_period >= 4.0:
        return 0
    return int((n_samples + TOLERANCE) / samples_per_period)


@kernel
def cycle_starts(t, n_samples, samples_per_period, n_cycles):
    """Return the first sample of every cycle, and the end of the last one.

    Parameters
    ----------
    t
        Times of the samples since the first one, in sampling intervals, shape (N,); shape (0,)
        stands for 0, 1, 2, ...
    n_samples, samples_per_period, n_cycles
        As in :func:`count_cycles`.

    Returns
    -------
    Shape (n + 1,), int64.  Cycle i begins at the sample nearest to i periods.
    """
    starts = np.empty(n_cycles + 1, np.int64)
    for i in range(n_cycles + 1):
        at = i * samples_per_period
        if t.size == 0:
            starts[i] = math.floor(at + 0.5)
        else:
            j = np.searchsorted(t, at)
            if j > 0 and (j == n_samples or at - t[j - 1] <= t[j] - at):
                j -= 1
            # The step ends where the last cycle would begin its successor.
            starts[i] = j if at <= t[n_samples - 1] else n_samples
        starts[i] = min(starts[i], n_samples)
    return starts


@kernel
def recorded_clock(t, sampling_interval):
    """Return the recorded times where they are uneven, else an empty array.

    Times count as even if they lie on a line to within what rounding explains: the last digit
    in which they were written, or the rounding of the numbers themselves.

    Parameters
    ----------
    t
        Recorded times, shape (N,), in s.  Times that are not finite or do not increase are no
        clock, and are ignored.
    sampling_interval
        Nominal distance of samples, in s.

    Returns
    -------
    Times since the first sample in sampling intervals, shape (N,), or shape (0,) for an even clock.
    """
    even = np.empty(0)
    n = t.size
    if n < 3:
        return even
    mean = (t[n - 1] - t[0]) / (n - 1)
    if not (mean > 0.0 and math.isfinite(mean)):
        return even
    # Four units in the last place of the largest time, or a millionth of the spacing.
    rounding = max(abs(t[0]), abs(t[n - 1])) * 2.0**-50
    allowed = max(rounding, 1e-6 * mean)
    # The loop only counts and has no way out, so that the compiler vectorises it.
    begin = t[0]
    backward = 0
    apart = 0
    for k in range(1, n):
        backward += not t[k] > t[k - 1]
        apart += abs(t[k] - begin - np.int32(k) * mean) > allowed
    if backward or not apart:
        return even
    deviation = 0.0
    for k in range(n):
        deviation = max(deviation, abs(t[k] - begin - k * mean))
    if deviation <= recorded_digit(t, mean):
        return even
    # Times in s give tau in s; another unit of the record, or none, is brought to the nominal one.
    seconds = 0.5 < mean / sampling_interval < 2.0
    scale = sampling_interval if seconds else mean
    return (t - t[0]) / scale


@borrowing
def recorded_digit(t, mean):
    """Return the largest power of ten, up to ten mean spacings, of which all times are multiples.

    0 where there is none down to a thousandth of the mean spacing.
    """
    digit = 10.0 ** math.floor(math.log10(mean) + 1.0)
    for _ in range(5):
        multiple = True
        for k in range(t.size):
            count = t[k] / digit
            # Rounding of t and of the division: 2 ulp of the quotient.
            if abs(count - math.floor(count + 0.5)) > abs(count) * 2.0**-51 + 1e-9:
                multiple = False
                break
        if multiple:
            return digit
        digit /= 10.0
    return 0.0


@borrowing
def orient(y, polarity, signal):
    """Copy a current so that ``on`` rises, and return its polarity; no number becomes NaN.

    Parameters
    ----------
    y
        Drain current.  Shape (N,).
    polarity
        1 or -1; 0 takes the sign of the mean current, so that |Id| rises; no few samples turn it.
    signal
        Gets the result.  Shape (N,).
    """
    for k in range(y.size):
        signal[k] = y[k] if abs(y[k]) < OVERFLOW else math.nan
    if polarity == 0:
        polarity = -1 if robust_sum(signal) < 0.0 else 1
    if polarity < 0:
        for k in range(y.size):
            signal[k] = -signal[k]
    return polarity


@kernel
def robust_sum(y):
    """Return a number with the sign of the mean current, which a few samples cannot turn."""
    total = finite_sum(y)
    low, high = extremes(y)
    widest = max(high - low, -low, high)
    if abs(total) > 8.0 * widest:
        return total
    # So near to zero, or a few samples outweigh all others: the largest few have no vote.
    order = np.argsort(np.abs(y))
    n = y.size
    while n > 0 and math.isnan(y[order[n - 1]]):
        n -= 1
    total = 0.0
    for k in range(n - min(max(3, n // 100), n // 4)):
        total += y[order[k]]
    return total


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "nsz"})
def finite_sum(y):
    """Return the sum of the samples that are not NaN, in whatever order is fastest."""
    total = 0.0
    for k in range(y.size):
        total += y[k] if y[k] == y[k] else 0.0
    return total


@borrowing
def swing(y):
    """Return the range of the samples that are numbers, 0 where there are none."""
    low, high = extremes(y)
    return high - low if high > low else 0.0


@borrowing
def extremes(y):
    """Return the least and the largest of the samples that are not NaN.

    Infinity and minus infinity where there are none.
    """
    low, high = math.inf, -math.inf
    if y.size < WIDE:
        for k in range(y.size):
            low = y[k] if y[k] < low else low
            high = y[k] if y[k] > high else high
        return low, high
    # The last vector overlaps with the one before.
    value = load_wide(y, y.size - WIDE)
    lows = where_less(value, like(value, low), value, like(value, low))
    highs = where_less(like(value, high), value, value, like(value, high))
    for k in range(0, y.size - WIDE, WIDE):
        value = load_wide(y, k)
        lows = where_less(value, lows, value, lows)
        highs = where_less(highs, value, value, highs)
    return least(lows), largest(highs)


@borrowing
def phase_offsets(y, starts, duty_cycle):
    """Locate the on and the off phase within the period.

    Where the duty cycle is known, a period begins with the gate high or with the gate low, and
    either may be the on phase: at the switch between them the current is farthest from where the
    period began and ended, and the phase at whose end it is higher is on.  Where the duty cycle is
    not known, the phases begin with the steepest rise and the steepest fall, from sample to sample
    in the mean of the cycles.

    Parameters
    ----------
    y
        Oriented current.  Shape (N,).
    starts
        First samples of the cycles.  Shape (n + 1,).
    duty_cycle
        Share of the period in which the gate is high; NaN where unknown.

    Returns
    -------
    Offset and length of the on phase, offset and length of the off phase, in samples.
    """
    n_cycles = starts.size - 1
    m = starts[1] - starts[0]
    if 0.0 < duty_cycle < 1.0:
        n_high = min(max(math.floor(duty_cycle * m + 0.5), 1), m - 1)
        high_first = end_step(y, starts, n_high)
        low_first = high_first if 2 * n_high == m else end_step(y, starts, m - n_high)
        split, step = n_high, high_first
        if abs(low_first) > abs(high_first):
            split, step = m - n_high, low_first
        if step > 0.0:
            return 0, split, split, m - split
        return split, m - split, 0, split
    on = 0
    off = 0
    steepest_rise = -math.inf
    steepest_fall = math.inf
    for j in range(m):
        change = 0.0
        count = 0
        for i in range(n_cycles):
            k = starts[i] + j
            if 0 < k < starts[i + 1] and not math.isnan(y[k] - y[k - 1]):
                change += y[k] - y[k - 1]
                count += 1
        if count == 0:
            continue
        change /= count
        if change > steepest_rise:
            steepest_rise = change
            on = j
        if change < steepest_fall:
            steepest_fall = change
            off = j
    return on, (off - on) % m, off, (on - off) % m


@kernel
def end_step(y, starts, split):
    """Return by how much the current at ``split`` exceeds that at the end of the period.

    The median over the cycles, so that no single one decides; 0 where nothing is known.
    """
    n_cycles = starts.size - 1
    steps = np.empty(n_cycles)
    used = 0
    for i in range(n_cycles):
        last = starts[i + 1] - starts[i]
        step = end_level(y, starts[i], split) - end_level(y, starts[i] + split, last - split)
        if not math.isnan(step):
            steps[used] = step
            used += 1
    return median_of(steps, used, np.empty(used)) if used else 0.0


@borrowing
def end_level(y, first, length):
    """Return the mean of the last quarter of a phase, NaN where there is none."""
    total = 0.0
    count = 0
    end = first + length
    for k in range(max(end - max(1, length // 4), 0), min(end, y.size)):
        if not math.isnan(y[k]):
            total += y[k]
            count += 1
    return total / count if count else math.nan
