"""What all fits of a step say about each of them.

A fit on its own has few residuals: their scatter may be small by chance, and a fit that was chosen
because it looked good has a scatter that is too small.  A misfit too small to be seen in one cycle
shows in ten.  A drift of the levels shows only between cycles.  So the cycles of a phase are looked
at together:

- the variance of the residuals is at least the median of the phase,
- the misfit of a phase is the median of its cycles, whose standard error is smaller by
  ``sqrt(2 n / pi)``,
- where even that could hide a misfit that matters more than the noise, the standard error of tau
  covers it,
- a drift of the level from cycle to cycle goes on within each of them, and what it does to tau is
  part of the standard error.

Dimension letters: n cycles; the last axis is (on, off).
"""

from __future__ import annotations

import math

import numpy as np

from oectflow.extractors.kernels.clock import CLOCK_OK, has_gap
from oectflow.extractors.kernels.compiled import borrowing, copy_row, kernel
from oectflow.extractors.kernels.edges import OFF, ON
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
    SE_AMPLITUDE,
    SE_OFFSET,
    SE_TAU,
    STEP,
    STRAIGHT,
    TAU,
    fit_exponential,
    is_noise,
)
from oectflow.extractors.kernels.gate import end_level
from oectflow.extractors.kernels.misfit import (
    BY_DRIFT,
    LANES,
    MISFIT_IN_SE,
    N_EVIDENCE,
    N_USED,
    PHI,
    SHIFT,
    SPREAD,
    VARIANCE,
    examine_lanes,
    examine_space,
)
from oectflow.extractors.kernels.residuals import (
    CLIPPED,
    DOUBT_Z,
    GOOD,
    MISFIT,
    MISFIT_Z,
    OUTLIER,
    SHORTEST,
    in_quadrature,
    is_plain,
    judge,
    judge_space,
    widen_by_residuals,
)
from oectflow.extractors.kernels.residuals import OVERFLOW as MARKED
from oectflow.extractors.kernels.selection import median_of

#: How a cycle ended, beyond the codes of :mod:`.exponential`.
NO_WINDOW, CUT, ABSENT, NO_PERIOD, WAITING, NO_RESPONSE = range(14, 20)
#: How a fit ended that is no fit, or not quite one.
LOW_R2, NOT_EXPONENTIAL, CUT_OFF, OVERFLOW_LEFT_OUT, OUTLIER_LEFT_OUT, LOW_SWING, WRONG_CLOCK = (
    range(20, 27)
)
#: A sample beyond the curve by so many of its standard deviations is no noise.
BEYOND = 4.0
#: Least number of cycles whose median stands for the phase.
SOME = 3
#: Five standard errors from few residuals cover as much as from many if they are larger by a factor
#: of 1 + this / degrees of freedom squared (Student, 1 in 10,000).
FEW_RESIDUALS = 24.0
#: Variance of ln tau, and its change by the misfit, from which on a phase is no exponential; less
#: is part of the standard error.
PHASE_SPREAD, PHASE_SHIFT = 0.1, 0.05
#: Change of ln tau by a drift from which on it is no exponential, where it is 3 standard errors.
DRIFT_SHIFT = 0.05


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
        As in :func:`settle`.
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
def settle(y, t, phase, whole, rows, codes, spans, evidence):
    """Widen the standard errors of a phase by what its cycles say, and name a misfit they share.

    Parameters
    ----------
    y, t
        Oriented current, and times in sampling intervals or shape (0,).
    phase, whole
        ``ON`` or ``OFF``, and whether windows are whole phases.
    rows, codes, spans
        Fits, ends and windows; rows and codes are overwritten.
    evidence
        What :func:`.residuals.judge` said of every fit.  Shape (n, 2, 9).
    """
    n_cycles = codes.shape[0]
    told = np.empty((6, n_cycles))
    count, freedom, fits, misfits = gather(phase, codes, evidence, told)
    # Windows that lie elsewhere in their cycle are not compared.
    pitch = math.inf
    if not whole:
        pitch = np.median(spans[1:, phase, 0] - spans[:-1, phase, 0]) if n_cycles > 1 else 0.0
    usual = math.nan, math.nan, math.nan, math.nan, math.nan
    together = count >= SOME
    if together:
        # The median of n independent values has the standard error sqrt(pi / 2 n).
        more = math.sqrt(2.0 * count / math.pi)
        usual = (
            abs(median_of(told[0], count, told[5])) * more,
            abs(median_of(told[1], count, told[5])),
            abs(median_of(told[2], count, told[5])),
            median_of(told[3], count, told[5]) / more,
            median_of(told[4], count, told[5]),
        )
    # What holds for most of them also holds for those that look better by chance.
    mostly = fits >= SOME and 2 * misfits > fits
    levels = np.empty(n_cycles)
    settle_fits(
        y, t, phase, rows, codes, spans, evidence, pitch, together, usual, freedom, mostly, levels
    )


@borrowing
def gather(phase, codes, evidence, told):
    """Collect what the residuals of the cycles of a phase say.

    Parameters
    ----------
    phase, codes, evidence
        As in :func:`settle`.
    told
        Gets misfit in standard errors, variance of ln tau, its change, what misfit of one standard
        error would change it by, and the variance of a sample; the last row is room.  Shape
        (6, n).

    Returns
    -------
    How many cycles say something, their degrees of freedom, fits, and fits that are misfits.
    """
    z, spread, shift, unseen, variance = told[0], told[1], told[2], told[3], told[4]
    count = 0
    freedom = 0.0
    fits = misfits = 0
    for i in range(codes.shape[0]):
        said = evidence[i, phase]
        fits += codes[i, phase] == FIT_OK or codes[i, phase] >= LOW_R2
        misfits += codes[i, phase] == NOT_EXPONENTIAL
        if math.isnan(said[VARIANCE]):
            continue
        z[count], spread[count], shift[count] = said[MISFIT_IN_SE], said[SPREAD], said[SHIFT]
        unseen[count] = abs(shift[count] / z[count]) if z[count] != 0.0 else 0.0
        variance[count] = said[VARIANCE] * (1.0 + said[PHI]) / (1.0 - said[PHI])
        freedom += (said[N_USED] - 4.0) * (1.0 - said[PHI]) / (1.0 + said[PHI])
        count += 1
    return count, freedom, fits, misfits


@borrowing
def settle_fits(
    y, t, phase, rows, codes, spans, evidence, pitch, together, usual, freedom, mostly, levels
):
    """Do what :func:`settle` does, after a look at all cycles.

    Parameters
    ----------
    y, t, phase, rows, codes, spans, evidence
        As in :func:`settle`.
    pitch
        Samples from a window to the next; infinite where they are whole phases.
    together, usual, freedom
        Whether the cycles stand for each other; the medians of what :func:`gather` collects, of
        which the first and the fourth are of all cycles; their degrees of freedom.
    mostly
        Whether most fits of the phase are misfits.
    levels
        Gets the :func:`.gate.end_level` of every cycle.  Shape (n,).
    """
    n_cycles = codes.shape[0]
    usual_z, usual_spread, usual_shift, usual_unseen, usual_variance = usual
    for i in range(n_cycles):
        levels[i] = end_level(y, spans[i, phase, 0], max(spans[i, phase, 1], 0))
    for i in range(n_cycles):
        said = evidence[i, phase]
        if codes[i, phase] != FIT_OK:
            continue
        row = rows[i, phase]
        if math.isnan(said[VARIANCE]):
            widen(row, 1.0 + FEW_RESIDUALS / (spans[i, phase, 1] - 3.0) ** 2)
            continue
        own = said[VARIANCE] * (1.0 + said[PHI]) / (1.0 - said[PHI])
        hidden = abs(said[SHIFT] / said[MISFIT_IN_SE]) if said[MISFIT_IN_SE] != 0.0 else 0.0
        change = abs(said[SHIFT])
        condemned = False
        own_freedom = (said[N_USED] - 4.0) * (1.0 - said[PHI]) / (1.0 + said[PHI])
        if together:
            hidden, change = usual_unseen, usual_shift
            condemned = usual_z > MISFIT_Z and (
                usual_spread > PHASE_SPREAD or usual_shift > PHASE_SHIFT
            )
            if own < usual_variance:
                widen(row, math.sqrt(usual_variance / own))
            own_freedom = freedom
        widen(row, 1.0 + FEW_RESIDUALS / max(own_freedom, 1.0) ** 2)
        error = row[SE_TAU]
        if hidden * row[TAU] > error or (together and usual_z > DOUBT_Z):
            row[SE_TAU] = in_quadrature(error, max(hidden, change) * row[TAU])
        steepest = drift_at(y.size, levels, t, spans, phase, pitch, i, math.sqrt(own))
        drift = in_quadrature(
            said[BY_DRIFT] * steepest, growth_at(t, rows, codes, spans, phase, pitch, i)
        )
        row[SE_TAU] = in_quadrature(row[SE_TAU], drift * row[TAU])
        if condemned or mostly:
            codes[i, phase] = NOT_EXPONENTIAL
        if drift > DRIFT_SHIFT and drift * row[TAU] > 3.0 * error:
            codes[i, phase] = NOT_EXPONENTIAL


@borrowing
def widen(row, factor):
    """Multiply the standard errors of a fit."""
    row[SE_TAU] *= factor
    row[SE_AMPLITUDE] *= factor
    row[SE_OFFSET] *= factor


@borrowing
def drift_at(n_samples, levels, t, spans, phase, pitch, i, noise):
    """Return how much the level at the end of a phase changes per sampling interval, at most.

    The change is from the cycle before to the one after; or, where that is more, between this cycle
    and either of them, less what ``noise`` (standard deviation of a sample) explains.  0 where
    there is no other cycle.
    ``levels`` are the :func:`.gate.end_level` of all cycles.
    """
    steepest = 0.0
    for pair in range(3):
        before = max(i - (pair != 1), 0)
        after = min(i + (pair != 0), spans.shape[0] - 1)
        first, n = spans[before, phase]
        last, m = spans[after, phase]
        if (
            n <= 0
            or m <= 0
            or last + m > n_samples
            or not alike(first, last, after - before, pitch)
        ):
            continue
        change = abs(levels[after] - levels[before])
        if after - before < 2:
            change -= 2.0 * noise * math.sqrt(4.0 / n + 4.0 / m)
        if change > steepest * distance(t, first, last):
            steepest = change / distance(t, first, last)
    return steepest


@borrowing
def growth_at(t, rows, codes, spans, phase, pitch, i):
    """Return the share by which the amplitude changes from cycle to cycle, per tau of this one."""
    before, after = max(i - 1, 0), min(i + 1, spans.shape[0] - 1)
    for k in (before, after):
        if codes[k, phase] != FIT_OK and not codes[k, phase] >= LOW_R2:
            return 0.0
    first, last = spans[before, phase, 0], spans[after, phase, 0]
    if not alike(first, last, after - before, pitch):
        return 0.0
    change = rows[after, phase, AMPLITUDE] - rows[before, phase, AMPLITUDE]
    share = change / rows[i, phase, AMPLITUDE]
    found = abs(share) * rows[i, phase, TAU] / distance(t, first, last)
    return found if found > 0.0 else 0.0


@borrowing
def alike(first, last, cycles, pitch):
    """Tell whether two windows lie at the same place of their cycles; infinite pitch: they do."""
    if last <= first or math.isinf(pitch):
        return last > first
    return abs(last - first - cycles * pitch) <= 2.0 + 0.05 * pitch


@borrowing
def distance(t, first, last):
    """Return the time from one sample to another, in sampling intervals."""
    return t[last] - t[first] if t.size else float(last - first)


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
