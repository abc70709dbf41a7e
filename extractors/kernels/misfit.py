"""What the residuals of fitted exponentials say, of several windows side by side.

A mixture of exponentials, a stretched one, or a drift under one: to first order, each adds to the
fitted ``alpha f`` a part along ``q = d2f/dtheta2`` (``theta = ln tau``).  With a distribution of
``theta`` about its mean, ``<f> = f + var(theta) q / 2``.  So the residual is projected on the part
of ``q`` that (1, f, df/dtheta) leave, and the coefficient is compared with its standard error.  It
is the one degree of freedom in which misfit has the most power.

The rest tells how neighbouring residuals are correlated.

Every loop over the samples has an innermost loop over the windows, as in :mod:`.simd_fit`: what a
window says does not depend on those beside it.

Dimension letters: n samples of a window.
"""

from __future__ import annotations

import math

import numpy as np

from oectflow.extractors.kernels.compiled import borrowing, kernel

#: Windows side by side.
LANES = 16

#: What the residuals of a fit say: misfit in standard errors, variance of ln tau that it stands
#: for, what it does to ln tau, correlation of neighbours, variance of what is left, how many
#: samples that is from, what a drift of 1 per unit of time does to ln tau; the largest studentised
#: residual, and which sample has it.
MISFIT_IN_SE, SPREAD, SHIFT, PHI, VARIANCE, N_USED, BY_DRIFT, STUDENT, WORST_AT = range(9)
N_EVIDENCE = 9

# Rows of the work space: the basis, sums over the samples, coefficients, sums over the residuals.
_RATE, _DROP, _VALUE = range(3)
_SF, _SH, _SQ, _SY, _ST, _FF, _FH, _FQ, _FY, _FT, _HH, _HQ, _HY, _HT, _QQ, _QY, _YY = range(3, 20)
_B, _C, _D, _ALPHA, _ON_F, _ON_H, _ON_Q, _PER_F, _PER_H, _PER_Q = range(20, 30)
_TOTAL, _NEAR, _WORST, _AT, _BEFORE = range(30, 35)
_ROWS = 35


@borrowing
def conclude(
    n, tau, scatter, alpha, on_q, q_on_h, hh, qq, ht, total, near, worst, at, said
):  # fmt: skip
    """Say what the residuals of one window mean.

    Parameters
    ----------
    n, tau, scatter, alpha
        Samples, the fit, the sum of squares of the window about its mean, and its ``alpha``.
    on_q, q_on_h
        What ``q`` adds to the fit, and how much of ``h`` there is in ``q``.
    hh, qq
        Sums of squares of what is left of ``h`` and ``q`` after the vectors before them.
    ht
        Sum of what is left of ``h`` times ``t / tau``.
    total, near
        Sum of squares of the residuals, and of products of neighbours.
    worst, at
        Largest square of a residual over its share of freedom, and its sample.
    said
        Gets ``MISFIT_IN_SE`` ... ``WORST_AT``.  Shape (9,).
    """
    said[SPREAD] = 2.0 * on_q / alpha
    said[N_USED] = n
    # Nothing but the rounding of the samples is left.
    if not total > scatter * 1e-24:
        said[MISFIT_IN_SE] = said[SHIFT] = said[PHI] = 0.0
        said[VARIANCE] = said[BY_DRIFT] = said[STUDENT] = said[WORST_AT] = 0.0
        return
    # Fitting pushes the correlation down, the more so the larger the correlation is.
    phi = near / total
    phi = min(max(phi + (2.0 + 6.0 * max(phi, 0.0)) / n, 0.0), 0.99)
    said[PHI] = phi
    said[VARIANCE] = total / (n - 4)
    said[SHIFT] = on_q * q_on_h / alpha
    said[MISFIT_IN_SE] = on_q * math.sqrt(qq / said[VARIANCE] * (1.0 - phi) / (1.0 + phi))
    said[BY_DRIFT] = ht * tau / hh / alpha
    others = (total - worst) / max(n - 5, 1)
    said[STUDENT] = math.sqrt(worst / others) if others > 0.0 else math.inf
    said[WORST_AT] = at


def _examiner(lanes):
    """Return a function that examines so many windows, a number that the compiler has to know.

    Its parameters:

    y, t
        Trace, and its times in any unit; shape (0,) stands for 0, 1, 2, ...
    first, n
        First samples, of which all are finite, and the length of all windows, at least 6.  Shape
        (lanes,).
    taus
        The fits, in the unit of ``t``.  Shape (lanes,).
    space
        :func:`examine_space`.
    evidence
        Gets ``MISFIT_IN_SE`` ... ``WORST_AT``.  Shape (lanes, 9).
    """

    @borrowing
    def examine(y, t, first, n, taus, space, evidence):
        z, f, v, w = space
        even = t.size == 0
        for i in range(lanes):
            a = first[i]
            rate = 1.0 / taus[i]
            w[_RATE * lanes + i] = rate
            w[_DROP * lanes + i] = math.expm1(-rate)
            w[_VALUE * lanes + i] = 0.0
            for k in range(n):
                v[k * lanes + i] = y[a + k] - y[a]
            if not even:
                for k in range(n):
                    later = (t[a + k] - t[a]) * rate
                    z[k * lanes + i] = later
                    f[k * lanes + i] = math.expm1(-later)
        if even:
            for k in range(n):
                for i in range(lanes):
                    value = w[_VALUE * lanes + i]
                    z[k * lanes + i] = k * w[_RATE * lanes + i]
                    f[k * lanes + i] = value
                    w[_VALUE * lanes + i] = value + w[_DROP * lanes + i] * (1.0 + value)
        for i in range(_SF * lanes, (_YY + 1) * lanes):
            w[i] = 0.0
        for k in range(n):
            for i in range(lanes):
                zk = z[k * lanes + i]
                fk = f[k * lanes + i]
                yk = v[k * lanes + i]
                hk = zk + zk * fk
                qk = hk * zk - hk
                w[_SF * lanes + i] += fk
                w[_SH * lanes + i] += hk
                w[_SQ * lanes + i] += qk
                w[_SY * lanes + i] += yk
                w[_ST * lanes + i] += zk
                w[_FF * lanes + i] += fk * fk
                w[_FH * lanes + i] += fk * hk
                w[_FQ * lanes + i] += fk * qk
                w[_FY * lanes + i] += fk * yk
                w[_FT * lanes + i] += fk * zk
                w[_HH * lanes + i] += hk * hk
                w[_HQ * lanes + i] += hk * qk
                w[_HY * lanes + i] += hk * yk
                w[_HT * lanes + i] += hk * zk
                w[_QQ * lanes + i] += qk * qk
                w[_QY * lanes + i] += qk * yk
                w[_YY * lanes + i] += yk * yk
        scale = 1.0 / n
        for i in range(lanes):
            sf, sh, sq, sy, st = (
                w[_SF * lanes + i], w[_SH * lanes + i], w[_SQ * lanes + i], w[_SY * lanes + i],
                w[_ST * lanes + i],
            )  # fmt: skip
            mf, mh, mq, my = sf * scale, sh * scale, sq * scale, sy * scale
            ff = w[_FF * lanes + i] - sf * mf
            # What is left of h and q after a constant, f, and each other; alike for their products.
            b = (w[_FH * lanes + i] - sf * mh) / ff
            c = (w[_FQ * lanes + i] - sf * mq) / ff
            alpha = (w[_FY * lanes + i] - sf * my) / ff
            hh = w[_HH * lanes + i] - (sh * mh + b * (w[_FH * lanes + i] - sf * mh))
            hq = w[_HQ * lanes + i] - (sh * mq + b * (w[_FQ * lanes + i] - sf * mq))
            hy = w[_HY * lanes + i] - (sh * my + b * (w[_FY * lanes + i] - sf * my))
            ht = w[_HT * lanes + i] - (sh * st * scale + b * (w[_FT * lanes + i] - sf * st * scale))
            d = hq / hh
            ch = hy / hh
            qq = w[_QQ * lanes + i] - (sq * mq + c * (w[_FQ * lanes + i] - sf * mq) + d * hq)
            qy = w[_QY * lanes + i] - (sq * my + c * (w[_FY * lanes + i] - sf * my) + d * hy)
            on_q = qy / qq
            on_h = ch - on_q * d
            w[_SF * lanes + i] = mf
            w[_SH * lanes + i] = mh
            w[_SQ * lanes + i] = mq
            w[_SY * lanes + i] = my
            w[_YY * lanes + i] -= sy * my
            w[_HH * lanes + i] = hh
            w[_HT * lanes + i] = ht
            w[_QQ * lanes + i] = qq
            w[_B * lanes + i] = b
            w[_C * lanes + i] = c
            w[_D * lanes + i] = d
            w[_ALPHA * lanes + i] = alpha
            w[_ON_F * lanes + i] = alpha - on_h * b - on_q * c
            w[_ON_H * lanes + i] = on_h
            w[_ON_Q * lanes + i] = on_q
            w[_PER_F * lanes + i] = 1.0 / ff
            w[_PER_H * lanes + i] = 1.0 / hh
            w[_PER_Q * lanes + i] = 1.0 / qq
        for i in range(_TOTAL * lanes, _ROWS * lanes):
            w[i] = 0.0
        for k in range(n):
            for i in range(lanes):
                fk = f[k * lanes + i] - w[_SF * lanes + i]
                zk = z[k * lanes + i]
                hk = zk + zk * f[k * lanes + i]
                qk = hk * zk - hk - w[_SQ * lanes + i]
                hk -= w[_SH * lanes + i]
                r = (
                    (v[k * lanes + i] - w[_SY * lanes + i])
                    - w[_ON_F * lanes + i] * fk
                    - w[_ON_H * lanes + i] * hk
                    - w[_ON_Q * lanes + i] * qk
                )
                hk -= w[_B * lanes + i] * fk
                qk -= w[_C * lanes + i] * fk + w[_D * lanes + i] * hk
                square = r * r
                w[_TOTAL * lanes + i] += square
                w[_NEAR * lanes + i] += r * w[_BEFORE * lanes + i]
                w[_BEFORE * lanes + i] = r
                left = (
                    1.0
                    - scale
                    - fk * fk * w[_PER_F * lanes + i]
                    - hk * hk * w[_PER_H * lanes + i]
                    - qk * qk * w[_PER_Q * lanes + i]
                )
                square /= max(left, 1e-3)
                worse = square > w[_WORST * lanes + i]
                w[_WORST * lanes + i] = square if worse else w[_WORST * lanes + i]
                w[_AT * lanes + i] = float(k) if worse else w[_AT * lanes + i]
        for i in range(lanes):
            conclude(
                n, taus[i], w[_YY * lanes + i], w[_ALPHA * lanes + i], w[_ON_Q * lanes + i],
                w[_D * lanes + i], w[_HH * lanes + i], w[_QQ * lanes + i], w[_HT * lanes + i],
                w[_TOTAL * lanes + i], w[_NEAR * lanes + i], w[_WORST * lanes + i],
                w[_AT * lanes + i], evidence[i],
            )  # fmt: skip

    return examine


#: For one window, and for :data:`LANES` of them.
examine_one = _examiner(1)
examine_lanes = _examiner(LANES)


@kernel
def examine_space(longest, lanes):
    """Return the work space of so many windows: times, basis, samples, sums."""
    size = longest * lanes
    return np.empty(size), np.empty(size), np.empty(size), np.empty(_ROWS * lanes)
