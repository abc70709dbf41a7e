"""Largest values of a trace, as a whole and per gate cycle.

Dimension letters: N samples of a step, n cycles, S steps.
"""

from __future__ import annotations

import math

from numba import njit

from oectflow.extractors.kernels.gate import count_cycles, cycle_starts, recorded_clock

#: How a step ended.
FOUND, MORE_CYCLES, NO_CYCLE, NO_DATA, NO_PERIOD = range(5)


@njit(nogil=True, cache=True, error_model="numpy")
def largest(y, use_abs):
    """Return the index of the first largest finite sample, -1 where there is none.

    Parameters
    ----------
    y
        Samples; those that are not finite do not count.  Shape (N,).
    use_abs
        Whether to compare |y|.
    """
    best = -1
    top = -math.inf
    for k in range(y.size):
        size = abs(y[k]) if use_abs else y[k]
        if size > top and size < math.inf:
            best = k
            top = size
    return best


@njit(nogil=True, cache=True, error_model="numpy")
def step_peaks(y, offsets, use_abs, peaks):
    """Find the largest sample of every step.

    Parameters
    ----------
    y
        Samples of all steps, one after the other.
    offsets
        Step i is ``offsets[i]:offsets[i + 1]``.  Shape (S + 1,).
    use_abs
        Whether to compare and to return |y|.
    peaks
        Gets the value, NaN where a step has no finite sample.  Shape (S,).
    """
    for step in range(offsets.size - 1):
        samples = y[offsets[step] : offsets[step + 1]]
        k = largest(samples, use_abs)
        peaks[step] = math.nan
        if k >= 0:
            peaks[step] = abs(samples[k]) if use_abs else samples[k]


@njit(nogil=True, cache=True, error_model="numpy")
def cycle_peaks(y, recorded, offsets, interval, period, peaks, codes):
    """Find the sample of largest magnitude in every gate cycle of every step.

    Parameters
    ----------
    y, recorded
        Current and recorded times (s) of all steps, one after the other.
    offsets
        Step i is ``offsets[i]:offsets[i + 1]``.  Shape (S + 1,).
    interval, period
        Sampling interval and gate period (s), NaN where unknown.  Shape (S,).
    peaks
        Gets the signed samples of the first n cycles; NaN for a cycle that the step does not have,
        or without a finite sample.  Shape (S, n).
    codes
        Gets how each step ended.  Shape (S,).
    """
    for step in range(offsets.size - 1):
        a, b = offsets[step], offsets[step + 1]
        peaks[step] = math.nan
        if not (period[step] > 0.0 and interval[step] > 0.0):
            codes[step] = NO_PERIOD
            continue
        samples = y[a:b]
        if largest(samples, True) < 0:
            codes[step] = NO_DATA
            continue
        n_complete = count_cycles(b - a, period[step] / interval[step])
        n = min(n_complete, peaks.shape[1])
        codes[step] = FOUND
        if n == 0:
            codes[step] = NO_CYCLE
        elif n < n_complete:
            codes[step] = MORE_CYCLES
        t = recorded_clock(recorded[a:b], interval[step])
        starts = cycle_starts(t, b - a, period[step] / interval[step], n)
        for i in range(n):
            k = largest(samples[starts[i] : starts[i + 1]], True)
            if k >= 0:
                peaks[step, i] = samples[starts[i] + k]
