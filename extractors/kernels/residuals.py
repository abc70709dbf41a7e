"""Whether a fitted exponential describes its window, and how well its tau is known.

:mod:`.misfit` works out what the residuals say; this module decides what follows.  If residuals are
an autoregressive process of first order, phi, slowly varying parameters have variances larger by
``(1 + phi) / (1 - phi)`` [1]_.

Dimension letters: n samples of a window.

References
----------
.. [1] Zieba & Ramza (2011), Metrol. Meas. Syst. 18, 529. doi:10.2478/v10178-011-0052-x
"""

from __future__ import annotations

import math

import numpy as np

from oectflow.extractors.kernels.ceilings import is_cut_off, pile_up, piles_up
from oectflow.extractors.kernels.compiled import borrowing, copy_row, kernel
from oectflow.extractors.kernels.exponential import (
    AMPLITUDE,
    FIT_OK,
    N_COLUMNS,
    SE_AMPLITUDE,
    SE_OFFSET,
    SE_TAU,
    STEP,
    STRAIGHT,
    TAU,
    fit_exponential,
)
from oectflow.extractors.kernels.misfit import (
    MISFIT_IN_SE,
    N_EVIDENCE,
    PHI,
    SHIFT,
    SPREAD,
    STUDENT,
    VARIANCE,
    WORST_AT,
    examine_one,
    examine_space,
)

#: Standard errors of the misfit beyond which it is no chance: one in 1,000 windows of white noise.
MISFIT_Z = 3.3
#: From here on, the error of tau covers what the misfit would do to it if it were real.
DOUBT_Z = 2.0
#: Least variance of ln tau that is called a misfit: tau is then wrong by 1 to 2 %.
MISFIT_SPREAD = 0.05
#: Least change of ln tau by the misfit that is called one.
MISFIT_SHIFT = 0.015
#: Where the standard error of tau is above this share of tau, no curvature can be seen.
UNKNOWN = 0.5
#: Fewer independent residuals than this say nothing about the error of tau ...
LEAST_INDEPENDENT = 8.0
#: ... unless even five standard errors are less than this share of tau.
HARMLESS = 0.03
#: Least tau, in samples, that rests on more than a single sample.
SHORTEST = 0.25
#: The second sample has to be so many standard deviations of a sample away from the end.
SEEN = 3.0
#: Studentised residual of an outlier: one in 10,000 windows of 100 samples of white noise.
OUTLIER_T = 6.0
#: Samples below which outliers cannot be told, and outliers that a window may have.
OUTLIER_SAMPLES, MOST_OUTLIERS = 10, 3

#: What is wrong with a fit that was found.
GOOD, OVERFLOW, OUTLIER, CLIPPED, MISFIT = range(5)


@borrowing
def without(y, t, left_out, used, when):
    """Copy the samples that are not left out, with their times; return how many."""
    m = 0
    for k in range(y.size):
        if not left_out[k]:
            used[m] = y[k]
            when[m] = t[k] if t.size else k
            m += 1
    return m


@borrowing
def refit(y, t, left_out, process, row, used, when):
    """Fit a window without some of its samples; return how it ended and how many were used."""
    m = without(y, t, left_out, used, when)
    begin = when[0] if m else 0.0
    for k in range(m):
        when[k] -= begin
    code, _ = fit_exponential(used[:m], when[:m], process, math.nan, row)
    return code, m


@kernel
def judge_space(longest):
    """Return the work space of :func:`judge` for windows up to a length."""
    return (
        np.empty(longest, np.bool_), np.empty(longest), np.empty(longest), np.empty(N_COLUMNS),
        np.zeros(1, np.int64), np.empty(1), np.empty((1, N_EVIDENCE)), examine_space(longest, 1),
    )  # fmt: skip


@borrowing
def widen_by_residuals(row, evidence, n, step):
    """Widen the standard errors of a fit by what its residuals say, or say why it is no fit.

    Parameters
    ----------
    row, evidence
        As in :func:`judge`.
    n, step
        Samples that were fitted, and the distance of the first two.

    Returns
    -------
    How the fit ended, and whether the residuals are a misfit.
    """
    second = row[AMPLITUDE] * math.exp(-step / row[TAU])
    if second < SEEN * math.sqrt(evidence[VARIANCE]):
        # The second sample has to show some of the relaxation.
        row[:] = math.nan
        return STEP, False
    z, spread = evidence[MISFIT_IN_SE], evidence[SPREAD]
    shift, phi = evidence[SHIFT], evidence[PHI]
    wider = math.sqrt((1.0 + phi) / (1.0 - phi))
    row[SE_TAU] *= wider
    unknown = row[SE_TAU] > UNKNOWN * row[TAU]
    if abs(z) > DOUBT_Z:
        row[SE_TAU] = in_quadrature(row[SE_TAU], shift * row[TAU])
    row[SE_OFFSET] *= wider
    row[SE_AMPLITUDE] *= wider
    if abs(z) > MISFIT_Z and (abs(spread) > MISFIT_SPREAD or abs(shift) > MISFIT_SHIFT):
        return FIT_OK, True
    independent = n * (1.0 - phi) / (1.0 + phi)
    if independent < LEAST_INDEPENDENT and 5.0 * row[SE_TAU] > HARMLESS * row[TAU]:
        return FIT_OK, True
    if unknown:
        row[:] = math.nan
        return STRAIGHT, False
    return FIT_OK, False


@borrowing
def in_quadrature(a, b):
    """Return the root of the sum of two squares; hypot cannot overflow, but takes longer."""
    return math.sqrt(a * a + b * b)


@borrowing
def allowed_student(n):
    """Return the studentised residual at which one of ``n`` samples becomes an outlier."""
    # Student's distribution has longer tails where there are few samples.
    return OUTLIER_T * (1.0 + 8.0 / (n - 5.0)) if n > 5 else math.inf


@borrowing
def is_plain(y, limits, code, row, seen):
    """Tell whether all samples of a window are used, and nothing is left to examine.

    Most windows are so, and need no :func:`judge`, whose work space costs more than its work.  The
    parameters are the same; no sample is an overflow mark.
    """
    return (
        code == FIT_OK
        and y.size >= 6
        and row[TAU] >= SHORTEST
        and seen[STUDENT] < allowed_student(y.size)
        and not piles_up(y, limits)
    )


@borrowing
def judge(y, raw, t, limits, process, code, row, seen, space, evidence):
    """Judge a fit, leave out samples that are no readings, and widen its standard errors.

    Parameters
    ----------
    y
        The window, NaN where a sample is no number.  Shape (n,).
    raw
        Which of these are overflow marks.  Shape (n,), or (0,) where none is.
    t
        Times since the window's first sample, or shape (0,).
    limits
        From :func:`limits_of`.
    process
        ``DECAY`` or ``RISE``.
    code
        How the fit ended.
    row
        The fit; overwritten by one without samples that are left out.  Shape (8,).
    seen
        What :func:`.misfit.examine_lanes` says of the fit; NaN where it was not asked.  Shape (9,).
    space
        :func:`judge_space`.
    evidence
        Gets what the residuals of the last fit say; NaN where nothing is.  Shape (9,).

    Returns
    -------
    How the fit ended, and ``GOOD`` ... ``MISFIT``.
    """
    n = y.size
    verdict = GOOD
    evidence[:] = math.nan
    left_out, used, when, other = space[0][:n], space[1][:n], space[2][:n], space[3]
    origin, tau, said, one = space[4:]
    left_out[:] = False
    marks = 0
    for k in range(raw.size):
        left_out[k] = raw[k]
        marks += raw[k]
    if marks:
        code, m = refit(y, t, left_out, process, row, used, when)
        verdict = OVERFLOW
    if code != FIT_OK or n < 6:
        return code, verdict
    if row[TAU] < SHORTEST:
        # A single sample makes the fit.
        row[:] = math.nan
        return STEP, verdict
    samples, times = y, t
    if verdict == OVERFLOW:
        samples, times = used[:m], when[:m]
    if verdict == GOOD and piles_up(y, limits):
        for top in (True, False):
            level, count, after = pile_up(y, top)
            limit = level == limits[0] or level == limits[1]
            if limit and n - count < 6:
                verdict = CLIPPED
                break
            if n - count < 6 or not (limit or count >= max(4, 3 * after, n // 25)):
                continue
            for k in range(n):
                left_out[k] = y[k] == level
            ended, m = refit(y, t, left_out, process, other, used, when)
            if is_cut_off(y, t, left_out, level, top, ended, process, other):
                verdict = CLIPPED
                copy_row(other, row)
                samples, times = used[:m], when[:m]
                break
            left_out[:] = False
    found = 0
    while True:
        # Windows that were examined side by side are whole.
        if verdict == GOOD and not math.isnan(seen[STUDENT]):
            copy_row(seen, evidence)
        else:
            tau[0] = row[TAU]
            examine_one(samples, times, origin, samples.size, tau, one, said)
            copy_row(said[0], evidence)
        student, at = evidence[STUDENT], int(evidence[WORST_AT])
        few = samples.size < OUTLIER_SAMPLES
        if student < allowed_student(samples.size) or few or found == MOST_OUTLIERS:
            break
        # At the edge the gate, a spike and another process look alike.
        if at < 2:
            evidence[:] = math.nan
            return FIT_OK, MISFIT
        # Find the sample of this number among those that are used.
        for k in range(n):
            if not left_out[k]:
                if at == 0:
                    left_out[k] = True
                    break
                at -= 1
        ended, m = refit(y, t, left_out, process, other, used, when)
        if ended != FIT_OK:
            evidence[:] = math.nan
            return FIT_OK, MISFIT
        copy_row(other, row)
        samples, times = used[:m], when[:m]
        verdict = OUTLIER if verdict == GOOD else verdict
        found += 1
    step = times[1] - times[0] if times.size else 1.0
    code, misfit = widen_by_residuals(row, evidence, samples.size, step)
    return code, MISFIT if misfit else verdict
