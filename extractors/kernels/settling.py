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

from oectflow.extractors.kernels.compiled import borrowing, kernel
from oectflow.extractors.kernels.endings import LOW_R2, NOT_EXPONENTIAL
from oectflow.extractors.kernels.exponential import (
    AMPLITUDE,
    FIT_OK,
    SE_AMPLITUDE,
    SE_OFFSET,
    SE_TAU,
    TAU,
)
from oectflow.extractors.kernels.gate import end_level
from oectflow.extractors.kernels.misfit import (
    BY_DRIFT,
    MISFIT_IN_SE,
    N_USED,
    PHI,
    SHIFT,
    SPREAD,
    VARIANCE,
)
from oectflow.extractors.kernels.residuals import DOUBT_Z, MISFIT_Z, in_quadrature
from oectflow.extractors.kernels.selection import median_of

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
