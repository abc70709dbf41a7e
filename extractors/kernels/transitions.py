"""Time constants of every gate cycle of many steps: search a window, fit it in all cycles.

The parts of :func:`fit_steps` are inlined by numba: compiled as functions of their own, each would
compile everything below it once more (half a minute instead of a quarter).

Dimension letters: S steps, n cycles, the last axis is (on, off).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from oectflow.extractors.kernels.cycles import fit_windows
from oectflow.extractors.kernels.exponential import (
    AMPLITUDE,
    DECAY,
    F_MIN,
    FIT_OK,
    N_COLUMNS,
    R2,
    R2_ADJUSTED,
    RISE,
    SE_TAU,
    TAU,
    fit_exponential,
)
from oectflow.extractors.kernels.gate import (
    count_cycles,
    cycle_starts,
    orient,
    phase_offsets,
    recorded_clock,
    swing,
)
from oectflow.extractors.kernels.uneven import search_uneven
from oectflow.extractors.kernels.windows import adjusted, search_above, search_tables

#: How windows are chosen: searched in the first two periods, kept from an earlier step while they
#: hold, found by somebody else, the phases, or given once and for all.
SEARCH, KEEP, FOUND, FULL_PHASE, FIXED = range(5)
#: How a cycle ended, beyond the codes of :mod:`.exponential`.
LOW_R2, NO_WINDOW, CUT, ABSENT, NO_PERIOD = range(20, 25)
ON, OFF = 0, 1


@njit(nogil=True, cache=True, error_model="numpy")
def count_all_cycles(offsets, interval, period):
    """Return the number of complete gate periods of every step; arguments of :func:`fit_steps`."""
    counts = np.zeros(offsets.size - 1, np.int64)
    for step in range(counts.size):
        n_samples = offsets[step + 1] - offsets[step]
        counts[step] = count_cycles(n_samples, period[step] / interval[step])
    return counts


@njit(nogil=True, cache=True, error_model="numpy")
def window_lengths(samples_per_period, share_min, share_max, step):
    """Return the window lengths to search: shares of the period, at least 5 samples."""
    # 0.2 * 100 must give 20 although 0.2 is not a binary fraction.
    shortest = max(5, int(share_min * samples_per_period + 1e-9))
    longest = max(shortest, int(share_max * samples_per_period + 1e-9))
    return np.arange(shortest, longest + 1, step)


@njit(inline="always", error_model="numpy")
def offset_in_cycle(sample, starts):
    """Return the cycle-relative position of a sample."""
    cycle = np.searchsorted(starts, sample, side="right") - 1
    return sample - starts[min(max(cycle, 0), starts.size - 2)]


@njit(inline="always", error_model="numpy")
def fit_step(
    y, t, starts, windows, choice, start_step, lengths, tables, min_swing, threshold, hold,
    rows, codes, spans, swings,
):  # fmt: skip
    """Fit all cycles of one step.

    Parameters
    ----------
    y
        Oriented current, NaN where not finite.  Shape (N,).
    t
        Times in sampling intervals, or shape (0,).
    starts
        First samples of the cycles.  Shape (n + 1,).
    windows
        Offset and length of the on and the off window, in samples; length 0 for none.  Read unless
        ``choice`` is ``SEARCH``, and overwritten by those that were searched.  Shape (2, 2).
    choice
        ``SEARCH`` ... ``FIXED``.
    start_step, lengths, tables
        As in :func:`.windows.search_windows`.
    min_swing
        Share of the swing that a searched window must hold.
    threshold
        R2 below which a cycle is searched again (where windows are searched) and marked.
    hold
        Adjusted R2 above which kept windows are used.
    rows, codes, spans, swings
        Get fits (n, 2, 8), ends (n, 2), windows (n, 2, 2) as start and length, and the range of
        the current in the cycle (n,).
    """
    n_cycles = starts.size - 1
    until = starts[min(2, n_cycles)]
    least_change = min_swing * swing(y[:until])
    searched = choice != KEEP
    # Twice only where kept windows do not hold; a loop, lest everything is compiled twice.
    while True:
        if choice == SEARCH or (choice == KEEP and searched):
            bars = np.full(2, -math.inf)
            down, up = search(
                y, t, starts[0], until, start_step, lengths, tables, least_change, bars
            )
            windows[ON] = offset_in_cycle(up[0], starts), up[1]
            windows[OFF] = offset_in_cycle(down[0], starts), down[1]
        for phase in (ON, OFF):
            process = RISE if phase == ON else DECAY
            fit_cycles(y, t, starts, windows[phase], process, rows, codes, spans, phase)
        if searched or windows_hold(rows, codes, spans, hold, least_change):
            break
        searched = True
    begins_off = windows[OFF, 0] < windows[ON, 0]
    for i in range(n_cycles):
        swings[i] = swing(y[starts[i] : starts[i + 1]])
        good = True
        for phase in (ON, OFF):
            if codes[i, phase] != FIT_OK or rows[i, phase, R2] < threshold:
                good = False
        if good:
            continue
        if choice <= FOUND:
            search_again(
                y, t, starts[i], starts[i + 1], start_step, lengths, tables,
                min_swing * swings[i], threshold, rows[i], codes[i], spans[i],
            )  # fmt: skip
        for phase in (ON, OFF):
            if codes[i, phase] == FIT_OK and rows[i, phase, R2] < threshold:
                codes[i, phase] = LOW_R2
        # Before the first on phase nothing has been switched off.
        if i == 0 and begins_off and windows[OFF, 1] > 0 and codes[0, OFF] != FIT_OK:
            codes[0, OFF] = ABSENT
            rows[0, OFF] = math.nan


@njit(nogil=True, cache=True, error_model="numpy")
def windows_hold(rows, codes, spans, hold, least_change):
    """Tell whether both windows still do what the search of the first two periods asks for.

    Parameters
    ----------
    rows, codes, spans
        Fits of all cycles, as :func:`fit_step` has them.
    hold
        Adjusted R2 that each window must reach in one of the first two cycles.
    least_change
        Change of the fitted curve that it must hold there.
    """
    for phase in (ON, OFF):
        good = False
        for i in range(min(2, rows.shape[0])):
            if codes[i, phase] == FIT_OK and rows[i, phase, R2_ADJUSTED] >= hold:
                n = spans[i, phase, 1]
                share = -math.expm1(-(n - 1) / rows[i, phase, TAU])
                if rows[i, phase, AMPLITUDE] * share >= least_change:
                    good = True
        if not good:
            return False
    return True


@njit(inline="always", error_model="numpy")
def search(y, t, first, last, start_step, lengths, tables, least_change, bars):
    """Search with the kernel that the clock asks for."""
    if t.size == 0:
        return search_above(y, first, last, start_step, lengths, tables, least_change, bars)
    return search_uneven(y, t, first, last, start_step, lengths, least_change)


@njit(nogil=True, cache=True, error_model="numpy")
def noise_level(lengths):
    """Return an adjusted R2 below which windows of all these lengths are noise."""
    level = 1.0
    for n in lengths:
        # Where :func:`.exponential.is_noise` changes its mind.
        r2 = 2.0 * F_MIN / (n - 3 + 2.0 * F_MIN)
        level = min(level, adjusted(math.sqrt(r2), n))
    # The search and the fit have their R2 from different sums.
    return level - 1e-9


@njit(inline="always", error_model="numpy")
def fit_cycles(y, t, starts, window, process, rows, codes, spans, phase):
    """Fit one window in all cycles."""
    n_cycles = starts.size - 1
    offset, length = window
    first = np.empty(n_cycles, np.int64)
    used = 0
    for i in range(n_cycles):
        spans[i, phase] = starts[i] + offset, length
        rows[i, phase] = math.nan
        codes[i, phase] = FIT_OK
        if length <= 0:
            codes[i, phase] = NO_WINDOW
        elif starts[i] + offset + length > y.size:
            codes[i, phase] = CUT
        if codes[i, phase] == FIT_OK:
            first[used] = starts[i] + offset
            used += 1
    found = np.empty((used, N_COLUMNS))
    ends = np.empty(used, np.int8)
    fit_windows(y, t, first[:used], length, process, found, ends)
    w = 0
    for i in range(n_cycles):
        if codes[i, phase] == FIT_OK:
            rows[i, phase] = found[w]
            codes[i, phase] = ends[w]
            w += 1


@njit(inline="always", error_model="numpy")
def search_again(
    y, t, first, last, start_step, lengths, tables, least_change, threshold, rows, codes, spans
):
    """Search one cycle for better windows than those it was given."""
    if last - first < lengths[0]:
        return
    # What is no better than chance is not taken, and neither is a phase that was good.
    bars = np.empty(2)
    for phase in (ON, OFF):
        good = codes[phase] == FIT_OK and rows[phase, R2] >= threshold
        bars[0 if phase == OFF else 1] = 1.0 if good else noise_level(lengths)
    down, up = search(y, t, first, last, start_step, lengths, tables, least_change, bars)
    row = np.empty(N_COLUMNS)
    for phase in (ON, OFF):
        if codes[phase] == FIT_OK and rows[phase, R2] >= threshold:
            continue
        start, length, _ = up if phase == ON else down
        if length <= 0:
            continue
        a, b = start, start + length
        code, _ = fit_exponential(
            y[a:b], t[a:b] - t[a] if t.size else t, RISE if phase == ON else DECAY, math.nan, row
        )
        if code == FIT_OK and (codes[phase] != FIT_OK or row[R2] > rows[phase, R2]):
            rows[phase] = row
            codes[phase] = code
            spans[phase] = start, length


@njit(nogil=True, cache=True, error_model="numpy")
def fit_steps(
    current, recorded, offsets, interval, period, duty_cycle, n_cycles, polarity, choice,
    shares, given, length_step, start_step, window_shares, min_swing, threshold, hold, block,
    rows, codes, spans, swings, polarities,
):  # fmt: skip
    """Fit all cycles of many steps.

    Every step as if it were alone, save with ``KEEP``: windows are searched in the first step of
    a block that has cycles, and wherever those of the step before do not hold or the step has
    another number of samples per period; no window passes from block to block.

    Parameters
    ----------
    current, recorded
        Drain current (A) and recorded times (s) of all steps, one after the other.
    offsets
        Step i is ``offsets[i]:offsets[i + 1]``.  Shape (S + 1,).
    interval, period, duty_cycle
        Sampling interval (s), gate period (s), share of the period with the gate on.  Shape (S,).
    n_cycles
        Cycles to fit; 0 where the period is unknown.  Shape (S,).
    polarity
        1, -1, or 0 for the sign of the mean current.
    choice
        ``SEARCH`` ... ``FIXED``.
    shares
        Begin and end of the window as shares of the phase, for ``FULL_PHASE``.
    given
        Offset and duration of the on and the off window, in s for ``FIXED``, in samples for
        ``FOUND``.  Shape (S, 2, 2).
    length_step, start_step, window_shares, min_swing, threshold
        Parameters of the search.
    hold, block
        For ``KEEP``: adjusted R2 above which a window is kept, and steps in a block.
    rows, codes, spans, swings, polarities
        Get (S, n, 2, 8), (S, n, 2), (S, n, 2, 2), (S, n), (S,).
    """
    lengths = np.empty(0, np.int64)
    tables = search_tables(np.array([5]))
    windows = np.zeros((2, 2), np.int64)
    # Samples per period of the step that the windows are from; NaN where there are none.
    kept_m = math.nan
    for step in range(offsets.size - 1):
        a, b = offsets[step], offsets[step + 1]
        n = n_cycles[step]
        if step % block == 0:
            kept_m = math.nan
        if n == 0:
            if not (period[step] > 0.0 and interval[step] > 0.0):
                codes[step, 0] = NO_PERIOD
            continue
        y = np.empty(b - a)
        polarities[step] = orient(current[a:b], polarity, y)
        t = recorded_clock(recorded[a:b], interval[step])
        m = period[step] / interval[step]
        starts = cycle_starts(t, b - a, m, n)
        how = choice
        if choice == KEEP and kept_m != m:
            how = SEARCH
        kept_m = m
        if choice <= FOUND:
            wanted = window_lengths(m, window_shares[0], window_shares[1], length_step)
            if wanted.size != lengths.size or wanted[0] != lengths[0] or wanted[-1] != lengths[-1]:
                lengths = wanted
                tables = search_tables(lengths)
        if choice == FULL_PHASE:
            on, n_on, off, n_off = phase_offsets(y, starts, duty_cycle[step])
            for phase in (ON, OFF):
                begin = on if phase == ON else off
                length = n_on if phase == ON else n_off
                low = math.floor(shares[0] * length + 0.5)
                high = math.floor(shares[1] * length + 0.5)
                windows[phase] = begin + low, high - low
        elif choice >= FOUND:
            unit = interval[step] if choice == FIXED else 1.0
            for phase in (ON, OFF):
                for i in range(2):
                    windows[phase, i] = math.floor(given[step, phase, i] / unit + 0.5)
        fit_step(
            y, t, starts, windows, how, start_step, lengths, tables, min_swing, threshold, hold,
            rows[step, :n], codes[step, :n], spans[step, :n], swings[step, :n],
        )  # fmt: skip
        for i in range(n):
            for phase in (ON, OFF):
                rows[step, i, phase, TAU] *= interval[step]
                rows[step, i, phase, SE_TAU] *= interval[step]
