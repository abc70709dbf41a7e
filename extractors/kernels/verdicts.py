"""Judge the fits of a step: each of them by itself, and by what all cycles say of each.

Dimension letters: n cycles; the last axis is (on, off).
"""

from __future__ import annotations

import math

import numpy as np

from oectflow.extractors.kernels.clock import CLOCK_OK, has_gap
from oectflow.extractors.kernels.compiled import borrowing, copy_row, kernel
from oectflow.extractors.kernels.edges import OFF, ON
from oectflow.extractors.kernels.endings import (
    CUT_OFF,
    LOW_R2,
    LOW_SWING,
    NO_RESPONSE,
    NO_WINDOW,
    NOT_EXPONENTIAL,
    OUTLIER_LEFT_OUT,
    OVERFLOW_LEFT_OUT,
    WRONG_CLOCK,
)
from oectflow.extractors.kernels.exponential import (
    AMPLITUDE,
    DECAY,
    FIT_OK,
    N_COLUMNS,
    NOISE,
    NOT_FINITE,
    OFFSET,
    R2,
    RISE,
    STEP,
    STRAIGHT,
    TAU,
    fit_exponential,
    is_noise,
)
from oectflow.extractors.kernels.misfit import (
    LANES,
    N_EVIDENCE,
    VARIANCE,
    examine_lanes,
    examine_space,
)
from oectflow.extractors.kernels.residuals import (
    CLIPPED,
    GOOD,
    MISFIT,
    OUTLIER,
    SHORTEST,
    is_plain,
    judge,
    judge_space,
    widen_by_residuals,
)
from oectflow.extractors.kernels.residuals import OVERFLOW as MARKED
from oectflow.extractors.kernels.settling import settle

#: A sample beyond the curve by so many of its standard deviations is no noise.
BEYOND = 4.0


@kernel
def judge_step(
    y,
    overflow,
    t,
    limits,
    both,
    whole,
    clock,
    swings,
    min_swing,
    threshold,
    rows,
    codes,
    spans,
    seen,
):
    """Judge every fit of a step by itself (:func:`.residuals.judge`), and by what all of them say.

    Parameters
    ----------
    y, overflow, t, limits
        Oriented current; which samples are overflow marks, shape (0,) where none is; times;
        :func:`.ceilings.limits_of`.
    both
        Whether both windows are where the device should answer, and not just anywhere.
    whole
        Whether windows are whole phases, which may begin a little late.
    clock
        From :func:`.clock.step_clock`.
    swings, min_swing
        Range of the current in the cycle, and the share of it that a fit must hold.
    threshold
        R2 below which a fit is marked.
    rows, codes, spans
        Fits, ends and windows; overwritten.
    seen
        What the residuals say of the fits, NaN where nobody has looked; overwritten.  Shape
        (n, 2, 9).

    Returns
    -------
    Number of fits that are good on their own, and of those that are not for their swing alone.
    """
    n_cycles = codes.shape[0]
    evidence = np.full((n_cycles, 2, N_EVIDENCE), math.nan)
    if t.size:
        # Even samples were examined as they were fitted.
        for phase in (ON, OFF):
            examine_cycles(y, t, phase, rows, codes, spans, seen)
    longest = min(max(np.max(spans[:, :, 1]), 0), y.size)
    space = judge_space(longest)
    rooms = np.empty(N_COLUMNS), np.empty(N_EVIDENCE), np.empty(longest)
    judge_fits(
        y, overflow, t, limits, whole, swings, min_swing, threshold, rows, codes, spans, seen,
        space, rooms, np.full(N_EVIDENCE, math.nan), evidence,
    )  # fmt: skip
    good = int(np.count_nonzero(codes == FIT_OK))
    low = int(np.count_nonzero(codes == LOW_SWING))
    for phase in (ON, OFF):
        settle(y, t, phase, whole, rows, codes, spans, evidence)
    good -= mark_clock(t, clock, codes, spans)
    if is_silent(y, both, codes, spans):
        good = 0
        for i in range(n_cycles):
            for phase in (ON, OFF):
                code = codes[i, phase]
                if code == FIT_OK or STRAIGHT <= code <= NOISE or code >= LOW_R2:
                    codes[i, phase] = NO_RESPONSE
    return good, low


@borrowing
def judge_fits(
    y, overflow, t, limits, whole, swings, min_swing, threshold, rows, codes, spans, seen, space,
    rooms, nothing, evidence,
):  # fmt: skip
    """Judge every fit of a step by itself; for arguments see :func:`judge_step`.

    Parameters
    ----------
    space
        :func:`.residuals.judge_space` of the longest window.
    rooms
        Room for a fit, for what its residuals say, and for the times of the longest window.
    nothing
        What residuals say that nobody has looked at: NaN.  Shape (9,).
    evidence
        Gets what the residuals say of every fit that was judged.  Shape (n, 2, 9).
    """
    row, said, when = rooms
    for i in range(codes.shape[0]):
        for phase in (ON, OFF):
            if codes[i, phase] >= NO_WINDOW:
                continue
            process = RISE if phase == ON else DECAY
            a, length = spans[i, phase]
            best = -1
            # The first samples of a phase may show the gate's edge, and not the device.
            for trim in range(2 if whole else 1):
                begin, n = a + trim, length - 2 * trim
                if n < 8 and trim:
                    break
                copy_row(rows[i, phase], row)
                code = np.int64(codes[i, phase])
                window, times = y[begin : begin + n], t
                if t.size:
                    times = when[:n]
                    for k in range(n):
                        when[k] = t[begin + k] - t[begin]
                if trim:
                    code, _ = fit_exponential(window, times, process, math.nan, row)
                known = nothing if trim else seen[i, phase]
                if overflow.size == 0 and is_plain(window, limits, code, row, known):
                    copy_row(known, said)
                    step = times[1] if t.size else 1.0
                    code, misfit = widen_by_residuals(row, said, n, step)
                    verdict = MISFIT if misfit else GOOD
                else:
                    code, verdict = judge(
                        window, overflow[begin : begin + n] if overflow.size else overflow, times,
                        limits, process, code, row, known, space, said,
                    )  # fmt: skip
                final = final_code(code, verdict, row, n, threshold, min_swing * swings[i])
                if trim == 0 or (final == FIT_OK and is_late(y, t, a, process, row, said)):
                    best = final
                    copy_row(row, rows[i, phase])
                    spans[i, phase, 0], spans[i, phase, 1] = begin, n
                    copy_row(said, evidence[i, phase])
                if final != NOT_EXPONENTIAL and final != OUTLIER_LEFT_OUT:
                    break
            codes[i, phase] = best


@borrowing
def mark_clock(t, clock, codes, spans):
    """Mark fits whose times cannot be believed, and return how many good ones were among them."""
    marked = 0
    for i in range(codes.shape[0]):
        for phase in (ON, OFF):
            code = codes[i, phase]
            a, n = spans[i, phase]
            if (clock != CLOCK_OK and (code == FIT_OK or code >= LOW_R2)) or (
                code == FIT_OK and has_gap(t, a, n)
            ):
                codes[i, phase] = WRONG_CLOCK
                marked += code == FIT_OK
    return marked


@kernel
def examine_cycles(y, t, phase, rows, codes, spans, seen):
    """Examine the fits of a phase side by side, those of one length together.

    Parameters
    ----------
    y, t, phase, rows, codes, spans
        As in :func:`.settling.settle`.
    seen
        Gets what :func:`.misfit.examine_lanes` says of every fit that is likely to be judged as it
        is.  Shape (n, 2, 9).
    """
    n_cycles = codes.shape[0]
    waiting = np.empty(n_cycles, np.bool_)
    longest = 0
    for i in range(n_cycles):
        n = spans[i, phase, 1]
        waiting[i] = codes[i, phase] == FIT_OK and n >= 6 and rows[i, phase, TAU] >= SHORTEST
        longest = max(longest, n if waiting[i] else 0)
    first, cycle = np.empty(LANES, np.int64), np.empty(LANES, np.int64)
    taus = np.empty(LANES)
    said = np.empty((LANES, N_EVIDENCE))
    space = examine_space(longest, LANES)
    for i in range(n_cycles):
        while waiting[i]:
            used = 0
            for j in range(i, n_cycles):
                if waiting[j] and spans[j, phase, 1] == spans[i, phase, 1] and used < LANES:
                    first[used], taus[used] = spans[j, phase, 0], rows[j, phase, TAU]
                    cycle[used] = j
                    waiting[j] = False
                    used += 1
            # A group costs as much as six single windows.
            if used < 6:
                break
            for lane in range(used, LANES):
                first[lane], taus[lane] = first[0], taus[0]
            examine_lanes(y, t, first, spans[i, phase, 1], taus, space, said)
            for lane in range(used):
                seen[cycle[lane], phase] = said[lane]


@borrowing
def is_late(y, t, first, process, row, evidence):
    """Tell whether the first sample of a phase is from before the switch.

    Such a sample is nearer to the end of the relaxation than the curve was one sample earlier; with
    a second, quicker process it is beyond the curve.
    """
    step = t[first + 1] - t[first] if t.size else 1.0
    sign = 1.0 if process == DECAY else -1.0
    curve = sign * row[AMPLITUDE] * math.expm1(step / row[TAU])
    start = row[OFFSET] + row[AMPLITUDE] if process == DECAY else row[OFFSET]
    return sign * (y[first] - start - curve) <= BEYOND * math.sqrt(evidence[VARIANCE])


@borrowing
def final_code(code, verdict, row, n, threshold, least_change):
    """Return one code for how a fit ended and what is wrong with it: the worst one."""
    if code != FIT_OK:
        return code
    if verdict == MISFIT:
        return np.int64(NOT_EXPONENTIAL)
    if row[R2] < threshold:
        return np.int64(LOW_R2)
    if verdict == CLIPPED:
        return np.int64(CUT_OFF)
    if verdict == MARKED:
        return np.int64(OVERFLOW_LEFT_OUT)
    if verdict == OUTLIER:
        return np.int64(OUTLIER_LEFT_OUT)
    # 1 - exp(-x) is more than x / (1 + x), which is often enough and quicker.
    x = (n - 1) / row[TAU]
    enough = row[AMPLITUDE] * x > 1.001 * least_change * (1.0 + x)
    if not enough and -row[AMPLITUDE] * math.expm1(-x) < least_change:
        return np.int64(LOW_SWING)
    return code


@kernel
def is_silent(y, both, codes, spans):
    """Tell whether the device does not answer its gate.

    A device that answers goes both ways in at least a third of the cycles; noise does so in fewer,
    a drift in none.
    """
    judged = np.zeros(2, np.int64)
    answers = np.zeros(2, np.int64)
    for i in range(codes.shape[0]):
        for phase in (ON, OFF):
            code = codes[i, phase]
            if NO_WINDOW <= code <= NO_RESPONSE:
                continue
            judged[phase] += code != NOT_FINITE
            if code in (STEP, STRAIGHT):
                a, n = spans[i, phase]
                answers[phase] += moves(y[a : a + n], phase == ON, code == STEP)
            else:
                answers[phase] += code == FIT_OK or code >= LOW_R2
    if answers[ON] + answers[OFF] == 0:
        return True
    for phase in (ON, OFF):
        if both and judged[phase] > 0 and 3 * answers[phase] < judged[phase]:
            return codes.shape[0] > 1
    return False


@borrowing
def moves(y, up, at_once):
    """Tell whether a window goes one way by more than chance.

    Parameters
    ----------
    y
        The window.  Shape (n,).
    up
        The way.
    at_once
        Whether it goes from the first sample to the second, or evenly.
    """
    n = y.size
    sx = sy = sxx = sxy = syy = 0.0
    for k in range(n):
        x = min(k, 1.0) if at_once else k
        v = y[k] - y[0]
        sx += x
        sy += v
        sxx += x * x
        sxy += x * v
        syy += v * v
    sxx -= sx * sx / n
    sxy -= sx * sy / n
    syy -= sy * sy / n
    if not (sxx > 0.0 and syy > 0.0) or (sxy > 0.0) != up:
        return False
    return not is_noise(sxy * sxy / (sxx * syy), n)
