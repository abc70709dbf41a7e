"""Time constants of every gate cycle of many steps: search a window, fit it in all cycles.

The parts of :func:`fit_steps` are inlined by numba: compiled as functions of their own, each would
compile everything below it once more (half a minute instead of a quarter).

Dimension letters: S steps, n cycles, the last axis is (on, off).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from oectflow.extractors.kernels.ceilings import limits_of
from oectflow.extractors.kernels.clock import step_clock
from oectflow.extractors.kernels.compiled import borrowing, kernel
from oectflow.extractors.kernels.cycles import fit_windows
from oectflow.extractors.kernels.edges import (
    GATE,
    NO_CYCLES,
    NOMINAL,
    OFF,
    ON,
    TRACE,
    complete_cycles,
    gate_runs,
    phases_of_runs,
    phases_of_trace,
)
from oectflow.extractors.kernels.endings import (
    ABSENT,
    CUT,
    LOW_R2,
    LOW_SWING,
    NO_PERIOD,
    NO_RESPONSE,
    NO_WINDOW,
    NOT_EXPONENTIAL,
    WAITING,
    WRONG_CLOCK,
)
from oectflow.extractors.kernels.exponential import (
    AMPLITUDE,
    DECAY,
    F_MIN,
    FIT_OK,
    N_COLUMNS,
    OPPOSITE,
    R2,
    R2_ADJUSTED,
    RISE,
    STEP,
    STRAIGHT,
    TAU,
    fit_exponential,
)
from oectflow.extractors.kernels.folding import period_is_off, refined_period
from oectflow.extractors.kernels.gate import (
    OVERFLOW,
    count_cycles,
    cycle_starts,
    extremes,
    orient,
    phase_offsets,
    swing,
)
from oectflow.extractors.kernels.misfit import N_EVIDENCE
from oectflow.extractors.kernels.step_results import begin_fits, clear_cycles, keep_step, take_fits
from oectflow.extractors.kernels.uneven import search_uneven_above
from oectflow.extractors.kernels.verdicts import judge_step
from oectflow.extractors.kernels.windows import adjusted, search_above, search_tables

#: How windows are chosen: searched in the first two periods, kept from an earlier step while they
#: hold, found by somebody else, the phases, or given once and for all.
SEARCH, KEEP, FOUND, FULL_PHASE, FIXED = range(5)


@kernel
def room_for_cycles(recorded, gate, offsets, interval, period):
    """Return how many cycles the steps may have at most; arguments of :func:`fit_steps`."""
    most = 1
    for step in range(offsets.size - 1):
        a, b = offsets[step], offsets[step + 1]
        span = (b - a) * interval[step]
        recorded_span = recorded[b - 1] - recorded[a] if b > a else math.nan
        if math.isfinite(recorded_span) and not recorded_span <= span:
            span = recorded_span
        if period[step] > 0.0 and span > 0.0:
            # One more for what rounds up, and a clock with more cycles than samples is none.
            n = int(min(span / period[step], float(b - a))) + 1
            # The true period may be shorter than the nominal one.
            most = max(most, n + n // 4 + 1)
        if gate.size:
            runs = np.empty(((b - a) // 2 + 2, 3), np.int64)
            most = max(most, complete_cycles(runs, gate_runs(gate[a:b], runs)))
    return most


@kernel
def window_lengths(samples_per_period, share_min, share_max, step):
    """Return the window lengths to search: shares of the period, at least 5 samples."""
    # 0.2 * 100 must give 20 although 0.2 is not a binary fraction.
    shortest = max(5, int(share_min * samples_per_period + 1e-9))
    longest = max(shortest, int(share_max * samples_per_period + 1e-9))
    return np.arange(shortest, longest + 1, step)


@njit(inline="always", error_model="numpy")
def offset_in_cycle(sample, starts, anchors):
    """Return the position of a sample from the anchor of its cycle."""
    cycle = np.searchsorted(starts, sample, side="right") - 1
    return sample - anchors[min(max(cycle, 0), starts.size - 2)]


@njit(inline="always", error_model="numpy")
def place_windows(t, anchors, window, spans):
    """Put one window into all cycles, by its time where the clock is uneven.

    Parameters
    ----------
    t
        Times in sampling intervals, or shape (0,).
    anchors
        Samples from which the window is counted.  Shape (n,).
    window
        Offset and length in samples.
    spans
        Gets first sample and length.  Shape (n, 2).
    """
    offset, length = window
    for i in range(anchors.size):
        spans[i] = anchors[i] + offset, length
        if t.size and length > 0 and 0 <= anchors[i] < t.size:
            begin = t[anchors[i]] + offset
            # Half a sample on either side, so that jitter takes none away.
            a = np.searchsorted(t, begin - 0.5)
            b = np.searchsorted(t, begin + length - 0.5)
            complete = begin + length - 1.5 <= t[t.size - 1]
            spans[i] = a, b - a if complete else t.size + length


@njit(inline="always", error_model="numpy")
def fit_step(
    y, t, starts, anchors, windows, choice, start_step, lengths, tables, min_swing, threshold, hold,
    rows, codes, spans, swings, seen,
):  # fmt: skip
    """Fit all cycles of one step.

    Parameters
    ----------
    y
        Oriented current, NaN where it is no number.  Shape (N,).
    t
        Times in sampling intervals, or shape (0,).
    starts
        First samples of the cycles.  Shape (n + 1,).
    anchors
        Samples from which the windows of a cycle are counted.  Shape (n, 2).
    windows
        Offset and length of the on and the off window, in samples; length 0 for none.  Read unless
        ``choice`` is ``SEARCH`` or ``FULL_PHASE``, and overwritten by those that were searched.
        Shape (2, 2).
    choice
        ``SEARCH`` ... ``FIXED``.
    start_step, lengths, tables
        As in :func:`.windows.search_windows`.
    min_swing
        Share of the swing that a searched window must hold.
    threshold
        R2 below which a cycle is searched again, where windows are searched.
    hold
        Adjusted R2 above which kept windows are used.
    rows, codes, spans, swings
        Get fits (n, 2, 8), ends (n, 2), windows (n, 2, 2) as start and length, and the range of
        the current in the cycle (n,).  With ``FULL_PHASE`` the windows are read from ``spans``.
    seen
        Gets what the residuals say of the fits, NaN where nobody has looked.  Shape (n, 2, 9).
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
            windows[ON] = offset_in_cycle(up[0], starts, anchors[:, ON]), up[1]
            windows[OFF] = offset_in_cycle(down[0], starts, anchors[:, OFF]), down[1]
        for phase in (ON, OFF):
            process = RISE if phase == ON else DECAY
            if choice != FULL_PHASE:
                place_windows(t, anchors[:, phase], windows[phase], spans[:, phase])
            fit_cycles(y, t, process, rows, codes, spans, phase, seen)
        if searched or windows_hold(rows, codes, spans, hold, least_change):
            break
        searched = True
    fill_swings(y, starts, swings)
    for i in range(n_cycles):
        if choice <= FOUND and not (
            codes[i, ON] == FIT_OK
            and codes[i, OFF] == FIT_OK
            and rows[i, ON, R2] >= threshold
            and rows[i, OFF, R2] >= threshold
        ):
            search_again(
                y, t, starts[i], starts[i + 1], start_step, lengths, tables,
                min_swing * swings[i], threshold, rows[i], codes[i], spans[i], seen[i],
            )  # fmt: skip


@borrowing
def fill_swings(y, starts, swings):
    """Fill in the range of the current in every cycle."""
    for i in range(starts.size - 1):
        swings[i] = swing(y[starts[i] : starts[i + 1]])


@borrowing
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
    return search_uneven_above(y, t, first, last, start_step, lengths, least_change, bars)


@borrowing
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
def fit_cycles(y, t, process, rows, codes, spans, phase, seen):
    """Fit the windows of all cycles, those of one length together."""
    n_cycles = codes.shape[0]
    begin_fits(y.size, phase, rows, codes, spans, seen)
    first = np.empty(n_cycles, np.int64)
    cycle = np.empty(n_cycles, np.int64)
    for i in range(n_cycles):
        if codes[i, phase] != WAITING:
            continue
        length = spans[i, phase, 1]
        used = 0
        for j in range(i, n_cycles):
            if codes[j, phase] == WAITING and spans[j, phase, 1] == length:
                first[used] = spans[j, phase, 0]
                cycle[used] = j
                used += 1
        found = np.empty((used, N_COLUMNS))
        ends = np.empty(used, np.int8)
        said = np.empty((used, N_EVIDENCE))
        fit_windows(y, t, first[:used], length, process, found, ends, said)
        take_fits(cycle, phase, found, ends, said, rows, codes, seen)


@njit(inline="always", error_model="numpy")
def search_again(
    y, t, first, last, start_step, lengths, tables, least_change, threshold, rows, codes, spans,
    seen,
):  # fmt: skip
    """Search one cycle for better windows than those it was given."""
    if last - first < lengths[0]:
        return
    # A window no better than chance is not taken, nor is any for a phase that was good.
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
            seen[phase] = math.nan
            codes[phase] = code
            spans[phase] = start, length


@njit(inline="always", error_model="numpy")
def fit_chosen(y, t, dt, chosen, rows, codes, spans, seen):
    """Fit one window that somebody has chosen, as :func:`fit_steps` has them."""
    cycle, phase = int(chosen[1]), int(chosen[2])
    begin, end = chosen[3] / dt, chosen[4] / dt
    a, b = math.floor(begin + 0.5), math.floor(end + 0.5)
    if t.size:
        a, b = np.searchsorted(t, begin - 0.5), np.searchsorted(t, end - 0.5)
    rows[cycle, phase] = math.nan
    seen[cycle, phase] = math.nan
    spans[cycle, phase] = a, b - a
    if b <= a:
        codes[cycle, phase] = NO_WINDOW
    elif b > y.size:
        codes[cycle, phase] = CUT
    else:
        # The function is that of all cycles, so that the digits are the same.
        found = np.empty((1, N_COLUMNS))
        ends = np.empty(1, np.int8)
        process = RISE if phase == ON else DECAY
        said = np.empty((1, N_EVIDENCE))
        fit_windows(y, t, spans[cycle, phase, :1], b - a, process, found, ends, said)
        rows[cycle, phase] = found[0]
        seen[cycle, phase] = said[0]
        codes[cycle, phase] = ends[0]


@njit(inline="always", error_model="numpy")
def nominal_phases(y, t, m, duty_cycle, starts, windows, first, length):
    """Place the phases of all cycles by the nominal period."""
    on, n_on, off, n_off = phase_offsets(y, starts, duty_cycle)
    # With lost samples a cycle has fewer samples than its time says.
    scale = m / (starts[1] - starts[0]) if t.size else 1.0
    windows[ON] = math.floor(on * scale + 0.5), math.floor(n_on * scale + 0.5)
    windows[OFF] = math.floor(off * scale + 0.5), math.floor(n_off * scale + 0.5)
    spans = np.empty((starts.size - 1, 2), np.int64)
    for phase in (ON, OFF):
        place_windows(t, starts[: starts.size - 1], windows[phase], spans)
        first[:, phase] = spans[:, 0]
        length[:, phase] = spans[:, 1]


@borrowing
def explained(rows, codes):
    """Return the mean R2 of all windows, less than 1."""
    total = 0.0
    for i in range(codes.shape[0]):
        for phase in (ON, OFF):
            if codes[i, phase] == FIT_OK or codes[i, phase] >= LOW_R2:
                total += max(rows[i, phase, R2], 0.0)
    return 0.999 * total / max(codes.size, 1)


@borrowing
def count_doubtful(codes):
    """Return how many fits say that their window may lie across an edge."""
    count = 0
    for i in range(codes.shape[0]):
        for phase in (ON, OFF):
            code = codes[i, phase]
            count += code in (STRAIGHT, STEP, OPPOSITE)
            count += LOW_R2 <= code <= LOW_SWING
    return count


@borrowing
def take_shares(shares, first, length, spans):
    """Fill in the windows that are a share of each phase, as :func:`fit_steps` has them."""
    for i in range(spans.shape[0]):
        for phase in (ON, OFF):
            low = math.floor(shares[0] * length[i, phase] + 0.5)
            top = math.floor(shares[1] * length[i, phase] + 0.5)
            spans[i, phase, 0] = first[i, phase] + low
            spans[i, phase, 1] = top - low


@kernel
def fit_steps(
    current, recorded, gate, offsets, interval, period, duty_cycle, most_cycles, polarity, choice,
    shares, given, chosen, length_step, start_step, window_shares, min_swing, threshold, hold,
    block, rows, codes, times, swings, polarities, n_cycles, sources, levels,
):  # fmt: skip
    """Fit all cycles of many steps.

    Every step is fitted as if it were alone, except with ``KEEP``: then windows are searched in the
    first step of a block that has cycles, and wherever those of the step before do not hold or the
    step has another number of samples per period.  No window passes from block to block.

    Parameters
    ----------
    current, recorded
        Drain current (A) and recorded times (s) of all steps, one after the other.
    gate
        Gate voltage (V) of all steps, NaN where it was not recorded; shape (0,) for nowhere.
    offsets
        Step i is ``offsets[i]:offsets[i + 1]``.  Shape (S + 1,).
    interval, period, duty_cycle
        Declared sampling interval (s), overwritten by the one that was taken; gate period (s),
        share of the period with the gate high.  Shape (S,).
    most_cycles
        Most cycles to fit in a step.
    polarity
        1, -1, or 0 for the sign of the mean current.
    choice
        ``SEARCH`` ... ``FIXED``.
    shares
        Begin and end of the window as shares of the phase, for ``FULL_PHASE``.
    given
        Offset and duration of the on and the off window, in s for ``FIXED``, in samples for
        ``FOUND``.  Shape (S, 2, 2).
    chosen
        Windows that count instead, whatever ``choice`` says: step, cycle, ``ON`` or ``OFF``, begin
        and end in s from the first sample of the step.  Shape (K, 5).
    length_step, start_step, window_shares, min_swing, threshold
        Parameters of the search.
    hold, block
        For ``KEEP``: adjusted R2 above which a window is kept, and steps in a block.
    rows, codes, times, swings, polarities
        Get (8, S, n, 2), (S, n, 2), (2, S, n, 2) as begin and duration in s, (S, n), (S,).  Where
        there is no cycle: NaN, ``ABSENT``, 0, NaN; ``polarities`` is left as it is.
    n_cycles, sources, levels
        Get the number of cycles (S,), ``NOMINAL`` ... ``TRACE`` (S,), and the level of the gate in
        each phase (S, n, 2), NaN where unknown.

    Returns
    -------
    Whether ``min_swing`` has decided about anything.  If not, a smaller one leaves all fits as they
    are, unless windows are searched.
    """
    decides = False
    lengths = np.empty(0, np.int64)
    tables = search_tables(np.array([5]))
    windows = np.zeros((2, 2), np.int64)
    room = codes.shape[1]
    # Samples per period of the step that the windows are from; NaN where there are none.
    kept_m = math.nan
    for step in range(offsets.size - 1):
        a, b = offsets[step], offsets[step + 1]
        clear_cycles(0, rows[:, step], codes[step], times[:, step], swings[step], levels[step])
        if step % block == 0:
            kept_m = math.nan
        t, dt, clock = step_clock(recorded[a:b], interval[step], period[step])
        interval[step] = dt
        m = period[step] / dt
        n_runs = 0
        runs = np.empty((0, 3), np.int64)
        if gate.size and dt > 0.0:
            runs = np.empty(((b - a) // 2 + 2, 3), np.int64)
            n_runs = gate_runs(gate[a:b], runs)
        n = complete_cycles(runs, n_runs)
        by_gate = n > 0
        if by_gate:
            m = (runs[2 * n - 1, 1] - runs[0, 0]) / n
        elif dt > 0.0:
            n = count_cycles(t[t.size - 1] + 1.0 if t.size else float(b - a), m)
        n = min(n, most_cycles)
        n_cycles[step] = n
        if n == 0:
            sources[step] = NO_CYCLES
            if not (period[step] > 0.0 and dt > 0.0):
                codes[step, 0] = NO_PERIOD
            continue
        y = np.empty(b - a)
        polarities[step] = orient(current[a:b], polarity, y)
        least, largest = extremes(current[a:b])
        overflow = np.empty(0, np.bool_)
        if least <= -OVERFLOW or largest >= OVERFLOW:
            overflow = np.abs(current[a:b]) >= OVERFLOW
        limits = limits_of(y)
        if choice <= FOUND:
            wanted = window_lengths(m, window_shares[0], window_shares[1], length_step)
            if wanted.size != lengths.size or wanted[0] != lengths[0] or wanted[-1] != lengths[-1]:
                lengths = wanted
                tables = search_tables(lengths)
        best = -1.0
        for attempt in range(2):
            starts = np.empty(room + 1, np.int64)
            first = np.empty((room, 2), np.int64)
            length = np.empty((room, 2), np.int64)
            high = -1
            if attempt == 1:
                near = refined_period(y, m)
                n = max(1, count_cycles(float(b - a), near))
                on, n_on, off, n_off = phase_offsets(
                    y, cycle_starts(t[:0], b - a, near, n), duty_cycle[step]
                )
                n = phases_of_trace(
                    y, near, on, off, n_on, n_off, 0.0 < duty_cycle[step] < 1.0, starts, first,
                    length,
                )  # fmt: skip
                n = min(n, most_cycles)
                if n == 0:
                    break
            elif by_gate:
                high = phases_of_runs(y, runs, n, starts, first, length)
            else:
                starts[: n + 1] = cycle_starts(t, b - a, m, n)
                if choice == FULL_PHASE:
                    nominal_phases(
                        y, t, m, duty_cycle[step], starts[: n + 1], windows, first[:n], length[:n]
                    )
            how = choice
            if choice == KEEP and not abs(kept_m - m) < 0.5:
                how = SEARCH
            spans = np.zeros((n, 2, 2), np.int64)
            anchors = np.empty((n, 2), np.int64)
            by_phase = choice <= KEEP and (by_gate or attempt == 1)
            for i in range(n):
                for phase in (ON, OFF):
                    anchors[i, phase] = first[i, phase] if by_phase else starts[i]
            if choice == FULL_PHASE:
                take_shares(shares, first, length, spans)
            if choice in (FOUND, FIXED):
                unit = dt if choice == FIXED else 1.0
                for phase in (ON, OFF):
                    for i in range(2):
                        windows[phase, i] = math.floor(given[step, phase, i] / unit + 0.5)
            fits = np.empty((n, 2, N_COLUMNS))
            ends = np.empty((n, 2), np.int8)
            ranges = np.empty(n)
            seen = np.empty((n, 2, N_EVIDENCE))
            fit_step(
                y, t, starts[: n + 1], anchors, windows, how, start_step, lengths, tables,
                min_swing, threshold, hold, fits, ends, spans, ranges, seen,
            )  # fmt: skip
            for one in chosen:
                if one[0] == step and one[1] < n:
                    fit_chosen(y, t, dt, one, fits, ends, spans, seen)
            whole = choice == FULL_PHASE and shares[0] == 0.0 and shares[1] == 1.0
            good, low = judge_step(
                y, overflow, t, limits, choice != FIXED, whole, clock, ranges, min_swing,
                threshold, fits, ends, spans, seen,
            )  # fmt: skip
            decides |= low > 0
            # Good fits count; where there are none, what is explained.
            score = good + explained(fits, ends)
            if math.floor(score) > math.floor(best) or (best < 1.0 and score > best):
                best = score
                n_cycles[step] = n
                sources[step] = GATE if by_gate else (TRACE if attempt == 1 else NOMINAL)
                kept_m = m if attempt == 0 else math.nan
                keep_step(
                    t, dt, high, fits, ends, spans, ranges, rows[:, step], codes[step],
                    times[:, step], swings[step], levels[step],
                )  # fmt: skip
                # Before the first on phase nothing has been switched off.
                begins_off = spans[0, OFF, 0] < spans[0, ON, 0] and spans[0, OFF, 1] > 0
                relaxes = ends[0, OFF] in (FIT_OK, WRONG_CLOCK) or (
                    choice != FULL_PHASE
                    and ends[0, OFF] == NOT_EXPONENTIAL
                    and fits[0, OFF, R2] >= threshold
                )
                if begins_off and not relaxes:
                    codes[step, 0, OFF] = ABSENT
                    rows[:, step, 0, OFF] = math.nan
                    ends[0, OFF] = ABSENT
            doubtful = count_doubtful(ends)
            silent = np.all((ends == NO_RESPONSE) | (ends == ABSENT) | (ends == CUT))
            if silent and attempt == 0 and period_is_off(y, t, m, n):
                doubtful = n
            if by_gate or choice in (FOUND, KEEP) or doubtful < max(1, n // 10) or m < 16.0:
                break
    return decides
