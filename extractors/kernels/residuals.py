"""Whether a fitted exponential describes its window, and how well its tau is known.

A mixture of exponentials, a stretched one, a drift under one: to first order they all add to the
fitted ``alpha f`` a part along ``q = d2f/dtheta2`` (``theta = ln tau``): with a distribution of
``theta`` about its mean, ``<f> = f + var(theta) q / 2``.  So the residual is projected on the part
of ``q`` that (1, f, df/dtheta) leave, and the coefficient is compared with its standard error: one
degree of freedom, for which misfit has the most power.

What then remains tells how neighbouring residuals are correlated.  For residuals of an
autoregressive process of first order, phi, slowly varying parameters have variances larger by
``(1 + phi) / (1 - phi)`` [1]_.

Dimension letters: n samples of a window.

References
----------
.. [1] Zieba & Ramza (2011), Metrol. Meas. Syst. 18, 529. doi:10.2478/v10178-011-0052-x
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from oectflow.extractors.kernels.exponential import (
    AMPLITUDE,
    DECAY,
    FIT_OK,
    N_COLUMNS,
    OFFSET,
    SE_AMPLITUDE,
    SE_OFFSET,
    SE_TAU,
    STEP,
    STRAIGHT,
    TAU,
    fit_exponential,
)
from oectflow.extractors.kernels.gate import swing

#: Standard errors of the misfit beyond which it is no chance: one in 1,000 windows of white noise.
MISFIT_Z = 3.3
#: From here on the error of tau holds what the misfit would do to it, were it real.
DOUBT_Z = 2.0
#: Least variance of ln tau that is called a misfit: tau is then wrong by 1 to 2 %.
MISFIT_SPREAD = 0.05
#: Least change of ln tau by the misfit that is called one.
MISFIT_SHIFT = 0.015
#: Share of tau of its standard error beyond which the window has no curvature that can be seen.
UNKNOWN = 0.5
#: Fewer independent residuals than these say nothing about the error of tau ...
LEAST_INDEPENDENT = 8.0
#: ... unless even five standard errors are less than this share of it.
HARMLESS = 0.03
#: Least tau in samples that more than a single sample tells.
SHORTEST = 0.25
#: Studentised residual of an outlier: one in 10,000 windows of 100 samples of white noise.
OUTLIER_T = 6.0
#: Steps of the instrument in a window from which on they are fine.
FINE = 5000.0
#: Samples below which outliers cannot be told, and outliers that a window may have.
OUTLIER_SAMPLES, MOST_OUTLIERS = 10, 3

#: What is wrong with a fit that was found.
GOOD, OVERFLOW, OUTLIER, CLIPPED, MISFIT = range(5)
_F, _H, _Q, _R = range(4)


@njit(nogil=True, cache=True, error_model="numpy")
def examine(y, t, even, tau, work):
    """Return what the residuals of a fit say.

    Parameters
    ----------
    y
        Finite samples of the window.  Shape (n,), n >= 6.
    t
        Their times since the first one, in the unit of ``tau``; unused where ``even``.
    even
        Whether ``t`` is 0, 1, 2, ...
    tau
        The fit.
    work
        Work space.  Shape (4, >= n).

    Returns
    -------
    Misfit in standard errors, variance of ln tau that it stands for, what it does to ln tau,
    correlation of neighbouring residuals, largest studentised residual, and where it is.
    """
    n = y.size
    f, h, q, r = work[_F, :n], work[_H, :n], work[_Q, :n], work[_R, :n]
    rate = 1.0 / tau
    drop = math.expm1(-rate)
    value = 0.0
    mf = mh = mq = my = 0.0
    for k in range(n):
        z = k * rate if even else t[k] * rate
        if not even:
            value = math.expm1(-z)
        f[k] = value
        h[k] = z * (1.0 + value)
        q[k] = h[k] * (z - 1.0)
        r[k] = y[k] - y[0]
        mf += value
        mh += h[k]
        mq += q[k]
        my += r[k]
        value += drop * (1.0 + value)
    mf, mh, mq, my = mf / n, mh / n, mq / n, my / n
    ff = fh = fq = fy = hh = hq = hy = qq = yy = 0.0
    for k in range(n):
        f[k] -= mf
        h[k] -= mh
        q[k] -= mq
        r[k] -= my
        ff += f[k] * f[k]
        fh += f[k] * h[k]
        fq += f[k] * q[k]
        fy += f[k] * r[k]
        yy += r[k] * r[k]
    b, c, alpha = fh / ff, fq / ff, fy / ff
    for k in range(n):
        h[k] -= b * f[k]
        q[k] -= c * f[k]
        r[k] -= alpha * f[k]
        hh += h[k] * h[k]
        hq += h[k] * q[k]
        hy += h[k] * r[k]
    b, c = hq / hh, hy / hh
    qy = 0.0
    for k in range(n):
        q[k] -= b * h[k]
        r[k] -= c * h[k]
        qq += q[k] * q[k]
        qy += q[k] * r[k]
    c = qy / qq
    total = near = 0.0
    for k in range(n):
        r[k] -= c * q[k]
        total += r[k] * r[k]
        if k > 0:
            near += r[k] * r[k - 1]
    # Nothing but the rounding of the samples is left.
    if not total > yy * 1e-24:
        return 0.0, 2.0 * c / alpha, 0.0, 0.0, 0.0, 0
    # What was fitted pushes the correlation down, the more so the larger it is.
    phi = near / total
    phi = min(max(phi + (2.0 + 6.0 * max(phi, 0.0)) / n, 0.0), 0.99)
    scale = math.sqrt(total / (n - 4) * (1.0 + phi) / (1.0 - phi))
    worst = 0.0
    at = 0
    for k in range(n):
        left = 1.0 - 1.0 / n - f[k] * f[k] / ff - h[k] * h[k] / hh - q[k] * q[k] / qq
        square = r[k] * r[k] / max(left, 1e-3)
        if square > worst:
            worst = square
            at = k
    others = (total - worst) / max(n - 5, 1)
    student = math.sqrt(worst / others) if others > 0.0 else math.inf
    return c * math.sqrt(qq) / scale, 2.0 * c / alpha, c * b / alpha, phi, student, at


@njit(nogil=True, cache=True, error_model="numpy")
def without(y, t, left_out, used, when):
    """Copy the samples that are not left out, with their times; return how many."""
    m = 0
    for k in range(y.size):
        if not left_out[k]:
            used[m] = y[k]
            when[m] = t[k] if t.size else k
            m += 1
    return m


@njit(nogil=True, cache=True, error_model="numpy")
def refit(y, t, left_out, process, row, used, when):
    """Fit a window without some of its samples; return how it ended and how many were used."""
    m = without(y, t, left_out, used, when)
    begin = when[0] if m else 0.0
    for k in range(m):
        when[k] -= begin
    code, _ = fit_exponential(used[:m], when[:m], process, math.nan, row)
    return code, m


@njit(nogil=True, cache=True, error_model="numpy")
def pile_up(y, top):
    """Return the largest (or least) sample of a window, and how many are equal to it and the next.

    Parameters
    ----------
    y
        The window.  Shape (n,).
    top
        Whether to look at the largest.
    """
    sign = 1.0 if top else -1.0
    best = second = -math.inf
    count = after = 0
    for k in range(y.size):
        value = sign * y[k]
        if value > best:
            second, after = best, count
            best, count = value, 1
        elif value == best:
            count += 1
        elif value > second:
            second, after = value, 1
        elif value == second:
            after += 1
    return sign * best, count, after


@njit(nogil=True, cache=True, error_model="numpy")
def least_step(y):
    """Return the least change from sample to sample that is one, infinity where none is."""
    least = math.inf
    for k in range(1, y.size):
        step = abs(y[k] - y[k - 1])
        if step > 0.0:
            least = min(least, step)
    return least


@njit(nogil=True, cache=True, error_model="numpy")
def limits_of(y):
    """Return the largest and the least current of a step where samples pile up there, else NaN."""
    limits = np.full(2, math.nan)
    # Of coarse steps many samples are equal, and no wonder.
    if not swing(y) > FINE * least_step(y):
        return limits
    for i in range(2):
        level, count, after = pile_up(y, i == 0)
        if count >= max(8, 3 * after, y.size // 200):
            limits[i] = level
    return limits


@njit(nogil=True, cache=True, error_model="numpy")
def is_cut_off(y, t, left_out, level, top, ended, process, fit):
    """Tell whether the current would have gone on, were it not for the instrument.

    Parameters
    ----------
    y, t
        The window.
    left_out
        The samples of the plateau.
    level, top
        Its current, and whether this is the largest of the window or the least.
    ended, process, fit
        How the fit without it ended, its process, and this fit.
    """
    n = y.size
    # A plateau within one of the instrument's own steps is the end of a relaxation.
    digit = least_step(y)
    if ended != FIT_OK:
        # What is left is no exponential; of fine steps no two samples are equal by chance.
        return np.ptp(y) > FINE * digit
    origin = 0
    while left_out[origin]:
        origin += 1
    begin = t[origin] if t.size else float(origin)
    middle = 0.0
    count = 0
    rss = 0.0
    alpha = fit[AMPLITUDE] if process == DECAY else -fit[AMPLITUDE]
    end = fit[OFFSET] if process == DECAY else fit[OFFSET] + fit[AMPLITUDE]
    for k in range(n):
        f = math.exp(-((t[k] if t.size else float(k)) - begin) / fit[TAU])
        if left_out[k]:
            middle += f
            count += 1
        else:
            rss += (y[k] - end - alpha * f) ** 2
    scatter = math.sqrt(rss / max(n - count - 3, 1))
    # Where the noise is wider than the steps, equal samples do not pile up at one end of them.
    if scatter > digit:
        return True
    beyond = (end + alpha * middle / count - level) * (1.0 if top else -1.0)
    error = fit[SE_AMPLITUDE] * max(1.0, middle / count) + fit[SE_OFFSET]
    return beyond > 2.0 * digit and beyond > 5.0 * error


@njit(nogil=True, cache=True, error_model="numpy")
def judge(y, raw, t, limits, process, code, row, work):
    """Judge a fit, leave out samples that are none, and widen its standard errors.

    Parameters
    ----------
    y
        The window, NaN where a sample is no number.  Shape (n,).
    raw
        Which of these are overflow marks.  Shape (n,).
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
    work
        Work space.  Shape (6, >= n).

    Returns
    -------
    How the fit ended, and ``GOOD`` ... ``MISFIT``.
    """
    n = y.size
    verdict = GOOD
    left_out = np.zeros(n, np.bool_)
    used, when = work[4, :n], work[5, :n]
    marks = 0
    for k in range(n):
        left_out[k] = raw[k]
        marks += raw[k]
    if marks:
        code, m = refit(y, t, left_out, process, row, used, when)
        verdict = OVERFLOW
    if code != FIT_OK or n < 6:
        return code, verdict
    if row[TAU] < SHORTEST:
        # One sample makes the fit.
        row[:] = math.nan
        return STEP, verdict
    other = np.empty(N_COLUMNS)
    samples, times = y, t
    if verdict == OVERFLOW:
        samples, times = used[:m], when[:m]
    if verdict == GOOD:
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
                row[:] = other
                samples, times = used[:m], when[:m]
                break
            left_out[:] = False
    found = 0
    while True:
        even = times.size == 0
        z, spread, shift, phi, student, at = examine(samples, times, even, row[TAU], work)
        # Student's distribution has longer tails where there are few samples.
        allowed = OUTLIER_T * (1.0 + 8.0 / (samples.size - 5.0)) if samples.size > 5 else math.inf
        if student < allowed or samples.size < OUTLIER_SAMPLES or found == MOST_OUTLIERS:
            break
        # At the edge the gate, a spike and another process look alike.
        if at < 2:
            return FIT_OK, MISFIT
        # The sample of this number among those that are used.
        for k in range(n):
            if not left_out[k]:
                if at == 0:
                    left_out[k] = True
                    break
                at -= 1
        ended, m = refit(y, t, left_out, process, other, used, when)
        if ended != FIT_OK:
            return FIT_OK, MISFIT
        row[:] = other
        samples, times = used[:m], when[:m]
        verdict = OUTLIER if verdict == GOOD else verdict
        found += 1
    wider = math.sqrt((1.0 + phi) / (1.0 - phi))
    row[SE_TAU] *= wider
    if abs(z) > DOUBT_Z:
        row[SE_TAU] = math.hypot(row[SE_TAU], shift * row[TAU])
    row[SE_OFFSET] *= wider
    row[SE_AMPLITUDE] *= wider
    if abs(z) > MISFIT_Z and (abs(spread) > MISFIT_SPREAD or abs(shift) > MISFIT_SHIFT):
        return FIT_OK, MISFIT
    independent = samples.size * (1.0 - phi) / (1.0 + phi)
    if independent < LEAST_INDEPENDENT and 5.0 * row[SE_TAU] > HARMLESS * row[TAU]:
        return FIT_OK, MISFIT
    if row[SE_TAU] > UNKNOWN * row[TAU]:
        row[:] = math.nan
        return STRAIGHT, verdict
    return FIT_OK, verdict
