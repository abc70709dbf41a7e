"""Largest values of a trace, as a whole and per gate cycle.

Dimension letters: N samples of a step, n cycles, S steps.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from oectflow.extractors.kernels.clock import step_clock
from oectflow.extractors.kernels.compiled import borrowing, kernel
from oectflow.extractors.kernels.edges import (
    GATE,
    NO_CYCLES,
    NOMINAL,
    TRACE,
    complete_cycles,
    gate_runs,
)
from oectflow.extractors.kernels.folding import cycles_differ
from oectflow.extractors.kernels.gate import count_cycles, cycle_starts

#: How a step ended.
FOUND, MORE_CYCLES, NO_CYCLE, NO_DATA, NO_PERIOD = range(5)


#: Samples that are compared at once; the largest is then looked for in one of such blocks.
_BLOCK = 64
_NOT_FINITE = np.int64(-(2**63))
_MAGNITUDE = np.int64(2**63 - 1)
_INFINITY = np.int64(0x7FF0000000000000)


@njit(inline="always", error_model="numpy")
def rank(bits, use_abs):
    """Return an integer that orders finite numbers, or their magnitudes, by their bits."""
    size = bits & _MAGNITUDE
    # Below zero, the order of the magnitudes is reversed; zero has two signs and one rank.
    rank = size if use_abs or bits >= 0 else -size
    return rank if size < _INFINITY else _NOT_FINITE


@borrowing
def largest(y, use_abs):
    """Return the index of the first largest finite sample, -1 where there is none.

    Parameters
    ----------
    y
        Samples; those that are not finite do not count.  Shape (N,).
    use_abs
        Whether to compare |y|.
    """
    # Compilers compare integers side by side; they seek the largest float one by one.
    bits = y.view(np.int64)
    top = _NOT_FINITE
    found = 0
    for begin in range(0, y.size, _BLOCK):
        best = _NOT_FINITE
        # Within a slice, the compiler knows that every index is good.
        block = bits[begin : begin + _BLOCK]
        for k in range(block.size):
            best = max(best, rank(block[k], use_abs))
        if best > top:
            top = best
            found = begin
    if top == _NOT_FINITE:
        return -1
    while rank(bits[found], use_abs) != top:
        found += 1
    return found


@borrowing
def any_finite(y):
    """Tell whether a sample is a finite number."""
    k = 0
    while k < y.size and not abs(y[k]) < math.inf:
        k += 1
    return k < y.size


@borrowing
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


@kernel
def cycle_peaks(y, recorded, gate, offsets, interval, period, peaks, codes, clocks, sources):
    """Find the sample of largest magnitude in every gate cycle of every step.

    Parameters
    ----------
    y, recorded
        Current and recorded times (s) of all steps, one after the other.
    gate
        Gate voltage (V) of all steps, NaN where it was not recorded; shape (0,) for nowhere.  Where
        it is a square wave its edges cut the cycles.
    offsets
        Step i is ``offsets[i]:offsets[i + 1]``.  Shape (S + 1,).
    interval, period
        Declared sampling interval and gate period (s), NaN where unknown.  Shape (S,).
    peaks
        Gets the signed samples of the first n cycles; NaN for a cycle that the step does not have,
        or without a finite sample.  Shape (S, n).
    codes, clocks, sources
        Get how each step ended, what its clock is (:mod:`.clock`), and what cut its cycles
        (:mod:`.edges`); ``TRACE`` where the nominal ones do not look alike and the trace has to be
        asked.  Shape (S,).
    """
    for step in range(offsets.size - 1):
        a, b = offsets[step], offsets[step + 1]
        peaks[step] = math.nan
        sources[step] = NO_CYCLES
        t, dt, clocks[step] = step_clock(recorded[a:b], interval[step], period[step])
        runs = np.empty((0, 3), np.int64)
        n_runs = 0
        if gate.size:
            runs = np.empty(((b - a) // 2 + 2, 3), np.int64)
            n_runs = gate_runs(gate[a:b], runs)
        n_complete = complete_cycles(runs, n_runs)
        by_gate = n_complete > 0
        if not by_gate and not (period[step] > 0.0 and dt > 0.0):
            codes[step] = NO_PERIOD
            continue
        samples = y[a:b]
        if not any_finite(samples):
            codes[step] = NO_DATA
            continue
        m = period[step] / dt
        if not by_gate:
            n_complete = count_cycles(time_span(t) if t.size else float(b - a), m)
        if n_complete == 0:
            codes[step] = NO_CYCLE
            continue
        if by_gate:
            starts = np.empty(n_complete + 1, np.int64)
            for i in range(n_complete):
                starts[i] = runs[2 * i, 0]
                starts[i + 1] = runs[2 * i + 1, 1]
            sources[step] = GATE
        else:
            starts = cycle_starts(t, b - a, m, n_complete)
            sources[step] = TRACE if cycles_differ(samples, t, starts) else NOMINAL
        codes[step] = peaks_between(samples, starts, peaks[step])


@borrowing
def time_span(t):
    """Return the time of all samples, of which the last one lasts as long as those before it."""
    last = t.size - 1
    return t[last] + min(t[last] - t[last - 1], t[last - 1] - t[last - 2])


@borrowing
def peaks_between(y, starts, peaks):
    """Find the sample of largest magnitude between borders.

    Parameters
    ----------
    y
        Samples.  Shape (N,).
    starts
        Borders of the cycles.  Shape (cycles + 1,), int64.
    peaks
        Gets the signed samples of the first n cycles, NaN beyond.  Shape (n,).

    Returns
    -------
    ``FOUND`` or ``MORE_CYCLES``.
    """
    n_cycles = starts.size - 1
    for i in range(peaks.size):
        peaks[i] = math.nan
        if i < n_cycles:
            k = largest(y[starts[i] : starts[i + 1]], True)
            if k >= 0:
                peaks[i] = y[starts[i] + k]
    return FOUND if n_cycles <= peaks.size else MORE_CYCLES
