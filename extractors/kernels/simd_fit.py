"""Fit several windows of one length side by side.

Windows of equal length are fitted in groups of :data:`LANES`: every loop over the samples has an
innermost loop over the lanes, which the compiler turns into vector instructions.  A lane never sees
its neighbours and starts from its own samples, so a fit has the same bits in whatever company.
Products and sums are not contracted to single instructions (which would save 4 % of the time): how
they are depends on what a function is compiled into, and a kernel that was just compiled would not
give the bits of one from the cache.

Each lane looks at a few nodes in ``ln tau``, takes the vertex between the best three and goes on by
Newton's method.  The optimum so found is the global one if it explains enough: with ``u(theta)`` on
the unit sphere and ``y`` the normalised window (see :mod:`.tau_grid`), anything better than an
optimum at angle ``a`` from ``y`` lies within ``2 a`` of it, hence within ``3 a`` of ``y``; and
``c = <u, y>`` has no second maximum where ``tan(angle) < 1 / kappa = 1 / 2``.  So R2 > 0.977
(``3 a < atan(1 / 2)``) certifies it, and every other lane is fitted again by
:func:`.exponential.fit_exponential`, which searches the whole range.

Dimension letters: n samples of a window, K nodes.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from oectflow.extractors.kernels.exponential import (
    AMPLITUDE,
    N_COLUMNS,
    OFFSET,
    R2,
    R2_ADJUSTED,
    SE_AMPLITUDE,
    SE_OFFSET,
    SE_TAU,
    TAU,
)
from oectflow.extractors.kernels.tau_grid import TAU_MAX, TAU_MIN, turning_rate

LANES = 16
#: Arc between the nodes of the first look, in rad: the vertex is then good to some percent.
FIRST_LOOK_ARC = 0.25
#: R2 above which a local optimum is certainly the global one, with a margin.
CERTAIN = 0.98

# Rows of the work space: basis and its rate, then the sums of exponential_sums, then results.
_F, _RATE, _DROP = range(3)
_SB, _SH, _SQ, _SBB, _SBH, _SHH, _SBQ, _SBY, _SHY, _SQY = range(3, 13)
_DONE, _MEAN, _TSS, _ALPHA, _RSS = range(13, 18)
_BEST, _INDEX, _NODE = range(18, 21)
_OUT = _NODE + 4
_ROWS = _OUT + N_COLUMNS


@njit(nogil=True, cache=True, error_model="numpy")
def slopes(f, z):
    """Return ``df/dtheta`` and ``d2f/dtheta2`` of ``f = exp(-z) - 1``."""
    h = z + z * f
    return h, h * z - h


@njit(nogil=True, cache=True, error_model="numpy")
def lane_sums(y, n, w):
    """Compute the sums of :func:`.exponential.exponential_sums` in every lane.

    Parameters
    ----------
    y
        Centred windows, sample by sample.  Shape (n * LANES,).
    n
        Samples in a window.
    w
        Work space; reads the rates, gets the sums.  Shape (_ROWS * LANES,).
    """
    for i in range(LANES):
        # expm1(-x) without a call: Taylor for x / 32 <= 0.32 (12 terms: 2e-16), squared five times.
        x = w[_RATE * LANES + i] * (-1.0 / 32.0)
        p = 1.0 + x * (1.0 / 12.0)
        p = 1.0 + x * (1.0 / 11.0) * p
        p = 1.0 + x * (1.0 / 10.0) * p
        p = 1.0 + x * (1.0 / 9.0) * p
        p = 1.0 + x * (1.0 / 8.0) * p
        p = 1.0 + x * (1.0 / 7.0) * p
        p = 1.0 + x * (1.0 / 6.0) * p
        p = 1.0 + x * (1.0 / 5.0) * p
        p = 1.0 + x * (1.0 / 4.0) * p
        p = 1.0 + x * (1.0 / 3.0) * p
        p = 1.0 + x * (1.0 / 2.0) * p
        p = x * p
        p = p * (2.0 + p)
        p = p * (2.0 + p)
        p = p * (2.0 + p)
        p = p * (2.0 + p)
        w[_DROP * LANES + i] = p * (2.0 + p)
        w[_F * LANES + i] = 0.0
        w[_SB * LANES + i] = 0.0
        w[_SH * LANES + i] = 0.0
        w[_SQ * LANES + i] = 0.0
        w[_SBB * LANES + i] = 0.0
        w[_SBH * LANES + i] = 0.0
        w[_SHH * LANES + i] = 0.0
        w[_SBQ * LANES + i] = 0.0
        w[_SBY * LANES + i] = 0.0
        w[_SHY * LANES + i] = 0.0
        w[_SQY * LANES + i] = 0.0
    # Four samples a turn keep the sums in registers: 21 ns per window and pass instead of 37.
    whole = n - n % 4
    for k in range(0, whole, 4):
        for i in range(LANES):
            drop = w[_DROP * LANES + i]
            rate = w[_RATE * LANES + i]
            f0 = w[_F * LANES + i]
            f1 = (f0 + drop) + drop * f0
            f2 = (f1 + drop) + drop * f1
            f3 = (f2 + drop) + drop * f2
            w[_F * LANES + i] = (f3 + drop) + drop * f3
            h0, q0 = slopes(f0, k * rate)
            h1, q1 = slopes(f1, (k + 1) * rate)
            h2, q2 = slopes(f2, (k + 2) * rate)
            h3, q3 = slopes(f3, (k + 3) * rate)
            y0 = y[k * LANES + i]
            y1 = y[(k + 1) * LANES + i]
            y2 = y[(k + 2) * LANES + i]
            y3 = y[(k + 3) * LANES + i]
            w[_SB * LANES + i] += f0 + f1 + f2 + f3
            w[_SH * LANES + i] += h0 + h1 + h2 + h3
            w[_SQ * LANES + i] += q0 + q1 + q2 + q3
            w[_SBB * LANES + i] += f0 * f0 + f1 * f1 + f2 * f2 + f3 * f3
            w[_SBH * LANES + i] += f0 * h0 + f1 * h1 + f2 * h2 + f3 * h3
            w[_SHH * LANES + i] += h0 * h0 + h1 * h1 + h2 * h2 + h3 * h3
            w[_SBQ * LANES + i] += f0 * q0 + f1 * q1 + f2 * q2 + f3 * q3
            w[_SBY * LANES + i] += f0 * y0 + f1 * y1 + f2 * y2 + f3 * y3
            w[_SHY * LANES + i] += h0 * y0 + h1 * y1 + h2 * y2 + h3 * y3
            w[_SQY * LANES + i] += q0 * y0 + q1 * y1 + q2 * y2 + q3 * y3
    for k in range(whole, n):
        for i in range(LANES):
            drop = w[_DROP * LANES + i]
            f = w[_F * LANES + i]
            w[_F * LANES + i] = (f + drop) + drop * f
            h, q = slopes(f, k * w[_RATE * LANES + i])
            v = y[k * LANES + i]
            w[_SB * LANES + i] += f
            w[_SH * LANES + i] += h
            w[_SQ * LANES + i] += q
            w[_SBB * LANES + i] += f * f
            w[_SBH * LANES + i] += f * h
            w[_SHH * LANES + i] += h * h
            w[_SBQ * LANES + i] += f * q
            w[_SBY * LANES + i] += f * v
            w[_SHY * LANES + i] += h * v
            w[_SQY * LANES + i] += q * v
    scale = 1.0 / n
    for i in range(LANES):
        sb = w[_SB * LANES + i]
        sh = w[_SH * LANES + i] * scale
        w[_SBB * LANES + i] -= sb * sb * scale
        w[_SBH * LANES + i] -= sb * sh
        w[_SHH * LANES + i] -= w[_SH * LANES + i] * sh
        w[_SBQ * LANES + i] -= sb * w[_SQ * LANES + i] * scale


@njit(nogil=True, cache=True, error_model="numpy")
def lane_steps(w):
    """Take one Newton step in every lane that is not done."""
    for i in range(LANES):
        sbb = w[_SBB * LANES + i]
        sbh = w[_SBH * LANES + i]
        inverse = 1.0 / sbb
        alpha = w[_SBY * LANES + i] * inverse
        gradient = w[_SHY * LANES + i] - alpha * sbh
        curvature = (
            (w[_SQY * LANES + i] - alpha * w[_SBQ * LANES + i])
            - alpha * (w[_SHH * LANES + i] - sbh * sbh * inverse)
            - gradient * sbh * inverse
        )
        step = -gradient / curvature
        # Uphill for the better fit; a step of the wrong direction is halted, and the lane falls
        # back to the search of the whole range.
        step = min(max(step, -0.7), 0.7)
        rate = w[_RATE * LANES + i]
        # exp(-step) to third order: Newton's error squares all the same.
        new = rate * (1.0 - 0.5 * step) / (1.0 + 0.5 * step)
        busy = w[_DONE * LANES + i] == 0.0
        w[_RATE * LANES + i] = new if busy else rate
        finished = abs(step) <= 1e-8
        w[_DONE * LANES + i] = 1.0 if finished else w[_DONE * LANES + i]


@njit(nogil=True, cache=True, error_model="numpy")
def lane_centre(y, n, w):
    """Centre every lane and store its sum of squares."""
    for i in range(LANES):
        w[_MEAN * LANES + i] = 0.0
        w[_TSS * LANES + i] = 0.0
    whole = n - n % 4
    for k in range(0, whole, 4):
        for i in range(LANES):
            w[_MEAN * LANES + i] += (
                y[k * LANES + i]
                + y[(k + 1) * LANES + i]
                + y[(k + 2) * LANES + i]
                + y[(k + 3) * LANES + i]
            )
    for k in range(whole, n):
        for i in range(LANES):
            w[_MEAN * LANES + i] += y[k * LANES + i]
    scale = 1.0 / n
    for i in range(LANES):
        w[_MEAN * LANES + i] *= scale
    for k in range(0, whole, 4):
        for i in range(LANES):
            mean = w[_MEAN * LANES + i]
            y0 = y[k * LANES + i] - mean
            y1 = y[(k + 1) * LANES + i] - mean
            y2 = y[(k + 2) * LANES + i] - mean
            y3 = y[(k + 3) * LANES + i] - mean
            y[k * LANES + i] = y0
            y[(k + 1) * LANES + i] = y1
            y[(k + 2) * LANES + i] = y2
            y[(k + 3) * LANES + i] = y3
            w[_TSS * LANES + i] += y0 * y0 + y1 * y1 + y2 * y2 + y3 * y3
    for k in range(whole, n):
        for i in range(LANES):
            y0 = y[k * LANES + i] - w[_MEAN * LANES + i]
            y[k * LANES + i] = y0
            w[_TSS * LANES + i] += y0 * y0


@njit(nogil=True, cache=True, error_model="numpy")
def look_at_four(y, n, f, k, w):
    """Multiply every lane by basis vectors ``k`` to ``k + 3``."""
    for i in range(4 * LANES):
        w[_NODE * LANES + i] = 0.0
    whole = n - n % 2
    for j in range(0, whole, 2):
        a0, a1, a2, a3 = f[j, k], f[j, k + 1], f[j, k + 2], f[j, k + 3]
        b0, b1, b2, b3 = f[j + 1, k], f[j + 1, k + 1], f[j + 1, k + 2], f[j + 1, k + 3]
        for i in range(LANES):
            u = y[j * LANES + i]
            v = y[(j + 1) * LANES + i]
            w[_NODE * LANES + i] += a0 * u + b0 * v
            w[(_NODE + 1) * LANES + i] += a1 * u + b1 * v
            w[(_NODE + 2) * LANES + i] += a2 * u + b2 * v
            w[(_NODE + 3) * LANES + i] += a3 * u + b3 * v
    for j in range(whole, n):
        a0, a1, a2, a3 = f[j, k], f[j, k + 1], f[j, k + 2], f[j, k + 3]
        for i in range(LANES):
            u = y[j * LANES + i]
            w[_NODE * LANES + i] += a0 * u
            w[(_NODE + 1) * LANES + i] += a1 * u
            w[(_NODE + 2) * LANES + i] += a2 * u
            w[(_NODE + 3) * LANES + i] += a3 * u


@njit(nogil=True, cache=True, error_model="numpy")
def lane_first_look(y, n, sign, rates, f, weight, looks, w):
    """Set the rate of every lane to the vertex between the best node and its neighbours.

    Parameters
    ----------
    y, n, w
        As in :func:`lane_sums`.
    sign
        ``DECAY`` or ``RISE``.
    rates, f, weight
        :func:`.tau_grid.node_tables`; ``weight`` of this length.
    looks
        Work space.  Shape (K * LANES,).
    """
    n_nodes = rates.size
    turn = turning_rate(f.shape[0])
    for i in range(LANES):
        w[_BEST * LANES + i] = -math.inf
        w[_INDEX * LANES + i] = 0.0
    for k in range(n_nodes):
        if k % 4 == 0:
            look_at_four(y, n, f, k, w)
        for i in range(LANES):
            c = w[(_NODE + k % 4) * LANES + i] * weight[k] * sign
            looks[k * LANES + i] = c
            better = c > w[_BEST * LANES + i]
            w[_BEST * LANES + i] = c if better else w[_BEST * LANES + i]
            w[_INDEX * LANES + i] = float(k) if better else w[_INDEX * LANES + i]
    for i in range(LANES):
        k = min(max(int(w[_INDEX * LANES + i]), 1), n_nodes - 2)
        left = looks[(k - 1) * LANES + i]
        right = looks[(k + 1) * LANES + i]
        bend = left - 2.0 * looks[k * LANES + i] + right
        vertex = 0.5 * (left - right) / bend if bend < 0.0 else 0.0
        vertex = min(max(vertex, -1.0), 1.0)
        toward = k + 1 if vertex > 0.0 else k - 1
        share = abs(vertex)
        # The arc is linear in 1/tau beyond the turn; before it, nearly so in tau.
        if min(rates[k], rates[toward]) < turn:
            w[_RATE * LANES + i] = (1.0 - share) * rates[k] + share * rates[toward]
        else:
            w[_RATE * LANES + i] = 1.0 / ((1.0 - share) / rates[k] + share / rates[toward])


@njit(nogil=True, cache=True, error_model="numpy")
def lane_results(y, n, sign, w):
    """Compute all columns of the fit in every lane, as :func:`.exponential.describe` does."""
    scale = 1.0 / n
    for i in range(LANES):
        w[_ALPHA * LANES + i] = w[_SBY * LANES + i] / w[_SBB * LANES + i]
        w[_F * LANES + i] = -w[_SB * LANES + i] * scale
        w[_RSS * LANES + i] = 0.0
    for k in range(n):
        for i in range(LANES):
            # Here F is the centred basis: it obeys f' = f + drop (1 + f + mean).
            f = w[_F * LANES + i]
            residual = y[k * LANES + i] - w[_ALPHA * LANES + i] * f
            w[_RSS * LANES + i] += residual * residual
            drop = w[_DROP * LANES + i]
            w[_F * LANES + i] = f + drop * (1.0 + f + w[_SB * LANES + i] * scale)
    for i in range(LANES):
        sbb = w[_SBB * LANES + i]
        sbh = w[_SBH * LANES + i]
        shh = w[_SHH * LANES + i]
        alpha = w[_ALPHA * LANES + i]
        mean_h = w[_SH * LANES + i] * scale
        # The zero of a decay's basis exp is 1 below that of f.
        mean_b = w[_SB * LANES + i] * scale + (1.0 if sign > 0 else 0.0)
        inverse = 1.0 / (sbb * shh - sbh * sbh)
        unexplained = w[_RSS * LANES + i] / w[_TSS * LANES + i]
        variance = w[_RSS * LANES + i] / (n - 3.0)
        tau = 1.0 / w[_RATE * LANES + i]
        leverage = mean_b * mean_b * shh - 2.0 * mean_b * mean_h * sbh + mean_h * mean_h * sbb
        w[(_OUT + TAU) * LANES + i] = tau
        w[(_OUT + AMPLITUDE) * LANES + i] = abs(alpha)
        w[(_OUT + OFFSET) * LANES + i] = -alpha * mean_b
        w[(_OUT + R2) * LANES + i] = 1.0 - unexplained
        w[(_OUT + R2_ADJUSTED) * LANES + i] = 1.0 - unexplained * (n - 1.0) / (n - 4.0)
        w[(_OUT + SE_TAU) * LANES + i] = tau / abs(alpha) * math.sqrt(variance * sbb * inverse)
        w[(_OUT + SE_AMPLITUDE) * LANES + i] = math.sqrt(variance * shh * inverse)
        w[(_OUT + SE_OFFSET) * LANES + i] = math.sqrt(variance * (scale + leverage * inverse))


@njit(nogil=True, cache=True, error_model="numpy")
def lane_space(longest, n_nodes):
    """Return the work space of :func:`fit_group`: samples, correlations at nodes, sums."""
    return np.empty(longest * LANES), np.empty(n_nodes * LANES), np.empty(_ROWS * LANES)


@njit(nogil=True, cache=True, error_model="numpy")
def fit_group(y, starts, n, sign, index, tables, space):
    """Fit up to ``LANES`` windows of ``n`` samples; the results stay in the work space.

    Parameters
    ----------
    y
        Trace.
    starts
        First samples; lanes without a window repeat another.  Shape (LANES,), int64.
    n, sign
        Samples and process of all windows.
    index, tables
        :func:`.tau_grid.node_tables` with :data:`FIRST_LOOK_ARC`, and the index of ``n`` in them.
    space
        :func:`lane_space`.
    """
    rates, f, weight, _ = tables
    yt, looks, w = space
    for i in range(LANES):
        s = starts[i]
        for k in range(n):
            yt[k * LANES + i] = y[s + k] - y[s]
    lane_centre(yt, n, w)
    lane_first_look(yt, n, sign, rates, f, weight[index], looks, w)
    for i in range(LANES):
        w[_DONE * LANES + i] = 0.0
    for _ in range(10):
        lane_sums(yt, n, w)
        lane_steps(w)
        done = 0.0
        for i in range(LANES):
            done += w[_DONE * LANES + i]
        if done == LANES:
            break
    lane_sums(yt, n, w)
    lane_results(yt, n, sign, w)


@njit(nogil=True, cache=True, error_model="numpy")
def is_certain(space, lane, n, sign, first):
    """Tell whether a lane holds the global optimum without doubt.

    Parameters
    ----------
    space, lane
        Work space after :func:`fit_group`, and the lane.
    n, sign
        Samples and process of the window.
    first
        Its first sample, to which the window's scatter is compared: where it is near rounding,
        :func:`.exponential.fit_exponential` decides whether the window is flat.
    """
    w = space[2]
    tss = w[_TSS * LANES + lane]
    tau = w[(_OUT + TAU) * LANES + lane]
    return (
        w[_DONE * LANES + lane] == 1.0
        and w[(_OUT + R2) * LANES + lane] >= CERTAIN
        and w[_ALPHA * LANES + lane] * sign > 0.0
        and TAU_MIN * (1.0 + 1e-5) < tau < TAU_MAX * n * (1.0 - 1e-5)
        and 1e-250 < tss < 1e250
        and tss > n * (first * 2.0**-40) ** 2
    )


@njit(nogil=True, cache=True, error_model="numpy")
def lane_fit(space, lane, n):
    """Return adjusted R2, ``ln tau`` and the change of the curve within the window of a lane."""
    w = space[2]
    tau = w[(_OUT + TAU) * LANES + lane]
    change = -w[(_OUT + AMPLITUDE) * LANES + lane] * math.expm1(-(n - 1) / tau)
    return w[(_OUT + R2_ADJUSTED) * LANES + lane], math.log(tau), change


@njit(nogil=True, cache=True, error_model="numpy")
def copy_lane(space, lane, first, row):
    """Copy a lane's fit to ``row``; ``first`` is the window's first sample."""
    w = space[2]
    for column in range(N_COLUMNS):
        row[column] = w[(_OUT + column) * LANES + lane]
    row[OFFSET] += first + w[_MEAN * LANES + lane]
