"""The clock of a step: which of the recorded and the declared times are to be believed.

Dimension letters: N samples of a step.
"""

from __future__ import annotations

import math

import numpy as np

from oectflow.extractors.kernels.compiled import borrowing, kernel
from oectflow.extractors.kernels.gate import recorded_clock, recorded_digit

#: How a clock was found.  ``CLOCK_DISAGREES``: recorded and declared spacing differ by more than
#: :data:`AGREE`.  ``CLOCK_BROKEN``: recorded times that stand still, go back or are no numbers, or
#: of a clock that was set on the way.
CLOCK_OK, CLOCK_DISAGREES, CLOCK_BROKEN = range(3)
#: Share by which recorded and declared spacing may differ: less than what a wrong tau is.
AGREE = 0.03
#: A distance of so many usual ones is a lost sample and no jitter.
LOST = 1.9


@kernel
def step_clock(recorded, declared, period):
    """Decide on the times of the samples of one step.

    Recorded times are taken wherever they are sane; the declared interval stands where nothing
    was recorded, where both are the same to within the digits of the record, and where only it
    makes sense of the gate period.

    Parameters
    ----------
    recorded
        Recorded times, shape (N,), in s.
    declared
        Declared interval in s, NaN where unknown.
    period
        Gate period in s, NaN where unknown.

    Returns
    -------
    Times since the first sample in intervals, shape (N,), or shape (0,) for an even clock; the
    interval in s, NaN where unknown; ``CLOCK_OK`` ... ``CLOCK_BROKEN``.
    """
    even = np.empty(0)
    n = recorded.size
    known = 0
    backward = 0
    moved = 0
    for k in range(n):
        known += math.isfinite(recorded[k])
        if k > 0:
            backward += not recorded[k] > recorded[k - 1]
            moved += recorded[k] != recorded[0]
    if n < 3 or known == 0 or moved == 0:
        return even, declared, CLOCK_OK
    if known < n or backward:
        return even, declared, CLOCK_BROKEN
    mean = (recorded[n - 1] - recorded[0]) / (n - 1)
    if not math.isfinite(mean):
        return even, declared, CLOCK_BROKEN
    if not declared > 0.0:
        return recorded_clock(recorded, mean), mean, CLOCK_OK
    t = recorded_clock(recorded, declared)
    if t.size == 0:
        off = abs(mean / declared - 1.0)
        if off <= 1e-6 or off <= 2.0 * recorded_digit(recorded, mean) / ((n - 1) * mean):
            return even, declared, CLOCK_OK
        usual = mean
    else:
        # More gate periods than samples: the clock was set while it ran.
        if recorded[n - 1] - recorded[0] > n * period:
            return even, declared, CLOCK_BROKEN
        usual = usual_spacing(recorded, mean)
    if abs(usual / declared - 1.0) <= AGREE:
        # Uneven times carry their own seconds, whatever they are counted in.
        if t.size:
            return (recorded - recorded[0]) / declared, declared, CLOCK_OK
        return even, mean, CLOCK_OK
    # The gate period reveals a record in another unit: it has to hold samples.
    if period / mean < 4.0 <= period / declared <= n:
        return even, declared, CLOCK_DISAGREES
    if t.size:
        return (recorded - recorded[0]) / usual, usual, CLOCK_DISAGREES
    return even, mean, CLOCK_DISAGREES


@kernel
def usual_spacing(t, mean):
    """Return the mean distance of increasing times without the lost samples between them."""
    usual = np.median(np.diff(t))
    total = 0.0
    count = 0
    for k in range(1, t.size):
        step = t[k] - t[k - 1]
        if step < LOST * usual:
            total += step
            count += 1
    return total / count if count else mean


@borrowing
def has_gap(t, first, length):
    """Tell whether a sample was lost within a window; ``t`` in intervals, or shape (0,)."""
    for k in range(max(first + 1, 1), min(first + length, t.size)):
        if t[k] - t[k - 1] > LOST:
            return True
    return False


@kernel
def step_clocks(recorded, offsets, interval, period, begins, ends, codes):
    """Decide on the clocks of many steps, and look for lost samples in a part of each.

    Parameters
    ----------
    recorded, offsets, period
        As in :func:`.transitions.fit_steps`.
    interval
        Declared intervals (s), overwritten by those that were taken.  Shape (S,).
    begins, ends
        The parts.  Shape (S,), int64.
    codes
        Get ``CLOCK_OK`` ... ``CLOCK_BROKEN``; a part with a lost sample disagrees.  Shape (S,).
    """
    for step in range(offsets.size - 1):
        a, b = offsets[step], offsets[step + 1]
        t, interval[step], codes[step] = step_clock(recorded[a:b], interval[step], period[step])
        if codes[step] == CLOCK_OK and has_gap(t, begins[step] - a, ends[step] - begins[step]):
            codes[step] = CLOCK_DISAGREES
