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

from oectflow.extractors.kernels.ceilings import is_cut_off, pile_up, piles_up
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
#: Standard deviations of a sample by which the second one has to be away from the end.
SEEN = 3.0
#: Studentised residual of an outlier: one in 10,000 windows of 100 samples of white noise.
OUTLIER_T = 6.0
#: Samples below which outliers cannot be told, and outliers that a window may have.
OUTLIER_SAMPLES, MOST_OUTLIERS = 10, 3

#: What is wrong with a fit that was found.
GOOD, OVERFLOW, OUTLIER, CLIPPED, MISFIT = range(5)
#: What the residuals of a fit say: misfit in standard errors, variance of ln tau that it stands
#: for, what it does to ln tau, correlation of neighbours, variance of what is left, how many
#: samples that is from, and what a drift of 1 per unit of time does to ln tau.
MISFIT_IN_SE, SPREAD, SHIFT, PHI, VARIANCE, N_USED, BY_DRIFT = range(7)
N_EVIDENCE = 7
_F, _H = range(2)


@njit(nogil=True, cache=True, error_model="numpy")
def examine(y, t, even, tau, work, evidence):
    """Work out what the residuals of a fit say.

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
        Work space.  Shape (2, >= n).
    evidence
        Gets ``MISFIT_IN_SE`` ... ``BY_DRIFT``.  Shape (7,).

    Returns
    -------
    Largest studentised residual, and where it is.
    """
    n = y.size
    f, h = work[_F, :n], work[_H, :n]
    rate = 1.0 / tau
    drop = math.expm1(-rate)
    value = 0.0
    sf = sh = sq = sy = st = 0.0
    ff = fh = fq = fy = ft = hh = hq = hy = ht = qq = qy = yy = 0.0
    for k in range(n):
        z = k * rate if even else t[k] * rate
        if not even:
            value = math.expm1(-z)
        hk = z + z * value
        qk = hk * z - hk
        yk = y[k] - y[0]
        f[k] = value
        h[k] = hk
        sf += value
        sh += hk
        sq += qk
        sy += yk
        st += z
        ff += value * value
        fh += value * hk
        fq += value * qk
        fy += value * yk
        ft += value * z
        hh += hk * hk
        hq += hk * qk
        hy += hk * yk
        ht += hk * z
        qq += qk * qk
        qy += qk * yk
        yy += yk * yk
        value += drop * (1.0 + value)
    scale = 1.0 / n
    mf, mh, mq, my = sf * scale, sh * scale, sq * scale, sy * scale
    ff -= sf * mf
    yy -= sy * my
    # What is left of h and q after a constant, f, and each other; alike for their products.
    b, c, alpha = (fh - sf * mh) / ff, (fq - sf * mq) / ff, (fy - sf * my) / ff
    hh -= sh * mh + b * (fh - sf * mh)
    hq -= sh * mq + b * (fq - sf * mq)
    hy -= sh * my + b * (fy - sf * my)
    ht -= sh * st * scale + b * (ft - sf * st * scale)
    d, ch = hq / hh, hy / hh
    qq -= sq * mq + c * (fq - sf * mq) + d * hq
    qy -= sq * my + c * (fy - sf * my) + d * hy
    cq = qy / qq
    on_h = ch - cq * d
    on_f = alpha - on_h * b - cq * c
    inverse_f, inverse_h, inverse_q = 1.0 / ff, 1.0 / hh, 1.0 / qq
    total = near = worst = before = 0.0
    at = 0
    for k in range(n):
        fk = f[k] - mf
        z = k * rate if even else t[k] * rate
        hk = h[k] - mh
        qk = h[k] * z - h[k] - mq
        r = (y[k] - y[0] - my) - on_f * fk - on_h * hk - cq * qk
        hk -= b * fk
        qk -= c * fk + d * hk
        square = r * r
        total += square
        near += r * before
        before = r
        left = 1.0 - scale - fk * fk * inverse_f - hk * hk * inverse_h - qk * qk * inverse_q
        square /= max(left, 1e-3)
        if square > worst:
            worst = square
            at = k
    evidence[SPREAD] = 2.0 * cq / alpha
    evidence[N_USED] = n
    # Nothing but the rounding of the samples is left.
    if not total > yy * 1e-24:
        evidence[MISFIT_IN_SE] = evidence[SHIFT] = evidence[PHI] = 0.0
        evidence[VARIANCE] = evidence[BY_DRIFT] = 0.0
        return 0.0, 0
    # What was fitted pushes the correlation down, the more so the larger it is.
    phi = near / total
    phi = min(max(phi + (2.0 + 6.0 * max(phi, 0.0)) / n, 0.0), 0.99)
    evidence[PHI] = phi
    evidence[VARIANCE] = total / (n - 4)
    evidence[SHIFT] = cq * d / alpha
    evidence[MISFIT_IN_SE] = cq * math.sqrt(qq / evidence[VARIANCE] * (1.0 - phi) / (1.0 + phi))
    evidence[BY_DRIFT] = ht * tau / hh / alpha
    others = (total - worst) / max(n - 5, 1)
    return math.sqrt(worst / others) if others > 0.0 else math.inf, at


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
def judge(y, raw, t, limits, process, code, row, work, evidence):
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
        Work space.  Shape (4, >= n).
    evidence
        Gets what :func:`examine` says; NaN where nothing is.  Shape (7,).

    Returns
    -------
    How the fit ended, and ``GOOD`` ... ``MISFIT``.
    """
    n = y.size
    verdict = GOOD
    evidence[:] = math.nan
    left_out = np.zeros(n, np.bool_)
    used, when = work[2, :n], work[3, :n]
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
                row[:] = other
                samples, times = used[:m], when[:m]
                break
            left_out[:] = False
    found = 0
    while True:
        even = times.size == 0
        student, at = examine(samples, times, even, row[TAU], work, evidence)
        # Student's distribution has longer tails where there are few samples.
        allowed = OUTLIER_T * (1.0 + 8.0 / (samples.size - 5.0)) if samples.size > 5 else math.inf
        if student < allowed or samples.size < OUTLIER_SAMPLES or found == MOST_OUTLIERS:
            break
        # At the edge the gate, a spike and another process look alike.
        if at < 2:
            evidence[:] = math.nan
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
            evidence[:] = math.nan
            return FIT_OK, MISFIT
        row[:] = other
        samples, times = used[:m], when[:m]
        verdict = OUTLIER if verdict == GOOD else verdict
        found += 1
    step = times[1] - times[0] if times.size else 1.0
    second = row[AMPLITUDE] * math.exp(-step / row[TAU])
    if second < SEEN * math.sqrt(evidence[VARIANCE]):
        # Of a relaxation the second sample has to show something.
        row[:] = math.nan
        return STEP, verdict
    z, spread = evidence[MISFIT_IN_SE], evidence[SPREAD]
    shift, phi = evidence[SHIFT], evidence[PHI]
    wider = math.sqrt((1.0 + phi) / (1.0 - phi))
    row[SE_TAU] *= wider
    unknown = row[SE_TAU] > UNKNOWN * row[TAU]
    if abs(z) > DOUBT_Z:
        row[SE_TAU] = math.hypot(row[SE_TAU], shift * row[TAU])
    row[SE_OFFSET] *= wider
    row[SE_AMPLITUDE] *= wider
    if abs(z) > MISFIT_Z and (abs(spread) > MISFIT_SPREAD or abs(shift) > MISFIT_SHIFT):
        return FIT_OK, MISFIT
    independent = samples.size * (1.0 - phi) / (1.0 + phi)
    if independent < LEAST_INDEPENDENT and 5.0 * row[SE_TAU] > HARMLESS * row[TAU]:
        return FIT_OK, MISFIT
    if unknown:
        row[:] = math.nan
        return STRAIGHT, verdict
    return FIT_OK, verdict
