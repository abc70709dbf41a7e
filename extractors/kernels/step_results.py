"""Where the fits of a step are put, and how places without a fit look.

Dimension letters: n cycles of a step.
"""

from __future__ import annotations

import math

from oectflow.extractors.kernels.compiled import borrowing, copy_row
from oectflow.extractors.kernels.edges import OFF, ON
from oectflow.extractors.kernels.endings import ABSENT, CUT, NO_WINDOW, WAITING
from oectflow.extractors.kernels.exponential import N_COLUMNS, SE_TAU, TAU


@borrowing
def begin_fits(n_samples, phase, rows, codes, spans, seen):
    """Empty the fits of a phase, and find the windows that wait for one.

    Arguments are those of :func:`.transitions.fit_step`.
    """
    for i in range(codes.shape[0]):
        rows[i, phase] = math.nan
        seen[i, phase] = math.nan
        codes[i, phase] = WAITING
        a, length = spans[i, phase]
        if length <= 0:
            codes[i, phase] = NO_WINDOW
        elif a < 0 or a + length > n_samples:
            codes[i, phase] = CUT


@borrowing
def take_fits(cycle, phase, found, ends, said, rows, codes, seen):
    """Put the results of :func:`.cycles.fit_windows` where those of a cycle are."""
    for w in range(ends.size):
        copy_row(found[w], rows[cycle[w], phase])
        copy_row(said[w], seen[cycle[w], phase])
        codes[cycle[w], phase] = ends[w]


@borrowing
def clear_cycles(first, rows, codes, times, swings, levels):
    """Clear the cycles of a step from ``first`` on; arguments of :func:`keep_step`."""
    for i in range(first, codes.shape[0]):
        swings[i] = math.nan
        for phase in (ON, OFF):
            for column in range(N_COLUMNS):
                rows[column, i, phase] = math.nan
            codes[i, phase] = ABSENT
            times[0, i, phase] = times[1, i, phase] = 0.0
            levels[i, phase] = math.nan


@borrowing
def keep_step(t, dt, high, fits, ends, spans, ranges, rows, codes, times, swings, levels):
    """Put what was found in a step into its part of what :func:`.transitions.fit_steps` fills in.

    Parameters
    ----------
    t, dt
        Times in intervals, or shape (0,); the interval in s.
    high
        Level of the gate in the on phase, -1 where it is unknown.
    fits, ends, spans, ranges
        Of :func:`.transitions.fit_step`, in intervals.
    rows, codes, times, swings, levels
        Get the numbers of each cycle, in s; shapes (8, n, 2), (n, 2), (2, n, 2), (n,), (n, 2).
    """
    clear_cycles(ends.shape[0], rows, codes, times, swings, levels)
    for i in range(ends.shape[0]):
        swings[i] = ranges[i]
        for phase in (ON, OFF):
            for column in range(N_COLUMNS):
                rows[column, i, phase] = fits[i, phase, column]
            rows[TAU, i, phase] *= dt
            rows[SE_TAU, i, phase] *= dt
            codes[i, phase] = ends[i, phase]
            k, size = spans[i, phase]
            times[0, i, phase], times[1, i, phase] = k * dt, size * dt
            if t.size and 0 <= k < t.size and size > 0:
                times[0, i, phase] = t[k] * dt
                last = min(k + size, t.size) - 1
                times[1, i, phase] = (t[last] - t[k] + 1.0) * dt
            levels[i, phase] = math.nan
            if high >= 0:
                levels[i, phase] = high if phase == ON else 1 - high
