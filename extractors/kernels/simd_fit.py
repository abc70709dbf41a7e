"""Fit several windows of one length side by side.

Windows of equal length are fitted in groups of :data:`LANES`, in vector instructions: sample ``k``
of lane ``i`` is number ``k LANES + i``.  A lane never sees its neighbours and starts from its own
samples, so a fit has the same bits in whatever company.

Each lane looks at a few nodes in ``ln tau``, takes the vertex between the best three, and goes on
by Newton's method: first in closed forms (:mod:`.closed_forms`), then with sums over the samples,
which lose no digits however long ``tau`` is.  The same sums tell what the residuals say, which
:mod:`.misfit` explains.

The optimum so found is the global one if it explains enough: with ``u(theta)`` on the unit sphere
and ``y`` the normalised window (see :mod:`.tau_grid`), anything better than an optimum at angle
``a`` from ``y`` lies within ``2 a`` of it, hence within ``3 a`` of ``y``; and ``c = <u, y>`` has no
second maximum where ``tan(angle) < 1 / kappa = 1 / 2``.  So R2 > 0.977 (``3 a < atan(1 / 2)``)
certifies it, and every other lane is fitted again by :func:`.exponential.fit_exponential`, which
searches the whole range.

Dimension letters: n samples of a window, K nodes.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from oectflow.extractors.kernels.closed_forms import less_one, newton_step
from oectflow.extractors.kernels.compiled import borrowing, kernel
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
from oectflow.extractors.kernels.misfit import conclude
from oectflow.extractors.kernels.tau_grid import TAU_MAX, TAU_MIN, turning_rate
from oectflow.extractors.kernels.vectors import (
    WIDE,
    WIDTH,
    fma,
    like,
    load,
    splat,
    store,
    transpose,
    where_less,
)

#: As many as a wide vector has numbers.
LANES = WIDE
#: Arc between the nodes of the first look, in rad: the vertex is then good to some percent.
FIRST_LOOK_ARC = 0.25
#: R2 above which a local optimum is certainly the global one, with a margin.
CERTAIN = 0.98
#: Steps in closed forms at most, and the step after which the sums take over.
GLANCES, NEAR_ENOUGH = 5, 1e-4
#: Passes over the samples at most, and the last step, which is not taken but allowed for: Newton's
#: error squares, so 1e-14 of tau is left.
PASSES, LAST_STEP = 8, 1e-7

# Rows of the work space: 1 / tau and exp(-1 / tau) - 1, the step that is left, whether it is the
# last one, mean and sum of squares of the window;
_RATE, _DROP, _STEP, _DONE, _MEAN, _TSS = range(6)
# means of f, h = df/dtheta and q = dh/dtheta, and sums of their products about these means;
_F, _H, _Q, _FF, _FH, _FQ, _HH, _HQ, _QQ, _FY, _HY, _QY = range(6, 18)
# the window in terms of f, of what h adds to it, of what q adds to both, and the norms of these;
_ON_F, _ON_H, _ON_Q, _H_F, _Q_H, _PER_F, _PER_H, _PER_Q = range(18, 26)
# sums over the residuals of the fit, and of that with q; a look at the nodes; results.
_RSS, _TOTAL, _NEAR, _WORST, _LEFT, _AT = range(26, 32)
_NODE, _OUT = 32, 36
_ROWS = _OUT + N_COLUMNS


@borrowing
def lane_fill(trace, starts, n, y, w):
    """Copy the windows, centre them, and store their means and sums of squares.

    Parameters
    ----------
    trace, starts, n
        As in :func:`fit_group`.
    y
        Gets the centred windows.  Shape (n * LANES,).
    w
        Work space.  Shape (_ROWS * LANES,).
    """
    zero = splat(0.0)
    scale = splat(1.0 / n)
    for i in range(0, LANES, WIDTH):
        a, b, c, d = starts[i], starts[i + 1], starts[i + 2], starts[i + 3]
        first, _, _, _ = transpose(load(trace, a), load(trace, b), load(trace, c), load(trace, d))
        total = zero
        for begin in range(0, n, WIDTH):
            # The last four samples overlap with those before.
            k = min(begin, n - WIDTH)
            rows = transpose(
                load(trace, a + k), load(trace, b + k), load(trace, c + k), load(trace, d + k)
            )
            r0, r1, r2, r3 = rows[0] - first, rows[1] - first, rows[2] - first, rows[3] - first
            store(y, k * LANES + i, r0)
            store(y, (k + 1) * LANES + i, r1)
            store(y, (k + 2) * LANES + i, r2)
            store(y, (k + 3) * LANES + i, r3)
            total = total + (r3 if k < begin else (r0 + r1) + (r2 + r3))
            if begin - k == 1:
                total = total + (r1 + r2)
            elif begin - k == 2:
                total = total + r2
        mean = total * scale
        squares = zero
        for k in range(n):
            value = load(y, k * LANES + i) - mean
            store(y, k * LANES + i, value)
            squares = fma(value, value, squares)
        store(w, _MEAN * LANES + i, mean)
        store(w, _TSS * LANES + i, squares)


@borrowing
def look_at_four(y, n, f, k, w):
    """Multiply every lane by basis vectors ``k`` to ``k + 3``."""
    zero = splat(0.0)
    for i in range(0, LANES, 2 * WIDTH):
        a0, a1, a2, a3 = zero, zero, zero, zero
        b0, b1, b2, b3 = zero, zero, zero, zero
        for j in range(n):
            u = load(y, j * LANES + i)
            v = load(y, j * LANES + i + WIDTH)
            f0, f1, f2, f3 = (
                splat(f[j, k]),
                splat(f[j, k + 1]),
                splat(f[j, k + 2]),
                splat(f[j, k + 3]),
            )
            a0, a1, a2, a3 = fma(f0, u, a0), fma(f1, u, a1), fma(f2, u, a2), fma(f3, u, a3)
            b0, b1, b2, b3 = fma(f0, v, b0), fma(f1, v, b1), fma(f2, v, b2), fma(f3, v, b3)
        store(w, _NODE * LANES + i, a0)
        store(w, (_NODE + 1) * LANES + i, a1)
        store(w, (_NODE + 2) * LANES + i, a2)
        store(w, (_NODE + 3) * LANES + i, a3)
        store(w, _NODE * LANES + i + WIDTH, b0)
        store(w, (_NODE + 1) * LANES + i + WIDTH, b1)
        store(w, (_NODE + 2) * LANES + i + WIDTH, b2)
        store(w, (_NODE + 3) * LANES + i + WIDTH, b3)


@borrowing
def lane_first_look(y, n, sign, rates, f, weight, looks, w):
    """Set the rate of every lane to the vertex between the best node and its neighbours.

    Parameters
    ----------
    y, n, w
        As in :func:`lane_fill`.
    sign
        ``DECAY`` or ``RISE``.
    rates, f, weight
        :func:`.tau_grid.node_tables`; ``weight`` of this length.
    looks
        Work space.  Shape (K * LANES,).
    """
    n_nodes = rates.size
    turn = turning_rate(f.shape[0])
    for k in range(0, n_nodes, 4):
        look_at_four(y, n, f, k, w)
        for j in range(4):
            factor = splat(weight[k + j] * sign)
            for i in range(0, LANES, WIDTH):
                store(looks, (k + j) * LANES + i, load(w, (_NODE + j) * LANES + i) * factor)
    for i in range(LANES):
        best, k = -math.inf, 1
        for j in range(n_nodes):
            if looks[j * LANES + i] > best:
                best, k = looks[j * LANES + i], j
        k = min(max(k, 1), n_nodes - 2)
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


@njit(inline="always", error_model="numpy")
def add_sample(z, f, v, sums):
    """Add one sample of every lane to the sums that :func:`lane_sums` stores."""
    sf, sh, sq, ff, fh, fq, hh, hq, qq, fy, hy, qy = sums
    h = fma(z, f, z)
    q = fma(h, z, like(z, 0.0) - h)
    return (
        sf + f, sh + h, sq + q,
        fma(f, f, ff), fma(f, h, fh), fma(f, q, fq), fma(h, h, hh), fma(h, q, hq), fma(q, q, qq),
        fma(f, v, fy), fma(h, v, hy), fma(q, v, qy),
    )  # fmt: skip


@borrowing
def lane_sums(y, n, w):
    """Sum up what :func:`.exponential.exponential_sums` does, and the products with ``q``.

    Parameters
    ----------
    y, n
        As in :func:`lane_fill`.
    w
        Work space; reads the rates, gets ``_DROP`` and ``_F`` ... ``_QY``.
    """
    zero, two = splat(0.0), splat(2.0)
    scale = splat(1.0 / n)
    for i in range(0, LANES, WIDTH):
        rate = load(w, _RATE * LANES + i)
        drop = less_one(zero - rate)
        # Two chains side by side, of every second sample each.
        drop_2 = drop * (two + drop)
        f, g = zero, drop
        sums = (zero, zero, zero, zero, zero, zero, zero, zero, zero, zero, zero, zero)
        whole = n - n % 2
        for k in range(0, whole, 2):
            sums = add_sample(splat(k) * rate, f, load(y, k * LANES + i), sums)
            f = fma(drop_2, f, f + drop_2)
            sums = add_sample(splat(k + 1) * rate, g, load(y, (k + 1) * LANES + i), sums)
            g = fma(drop_2, g, g + drop_2)
        if whole < n:
            sums = add_sample(splat(whole) * rate, f, load(y, whole * LANES + i), sums)
        sf, sh, sq, ff, fh, fq, hh, hq, qq, fy, hy, qy = sums
        mf, mh, mq = sf * scale, sh * scale, sq * scale
        store(w, _DROP * LANES + i, drop)
        store(w, _F * LANES + i, mf)
        store(w, _H * LANES + i, mh)
        store(w, _Q * LANES + i, mq)
        store(w, _FF * LANES + i, ff - sf * mf)
        store(w, _FH * LANES + i, fh - sf * mh)
        store(w, _FQ * LANES + i, fq - sf * mq)
        store(w, _HH * LANES + i, hh - sh * mh)
        store(w, _HQ * LANES + i, hq - sh * mq)
        store(w, _QQ * LANES + i, qq - sq * mq)
        store(w, _FY * LANES + i, fy)
        store(w, _HY * LANES + i, hy)
        store(w, _QY * LANES + i, qy)


@borrowing
def lane_steps(w):
    """Take one Newton step in every lane, or note that it would be the last one."""
    for i in range(LANES):
        ff = w[_FF * LANES + i]
        fh = w[_FH * LANES + i]
        inverse = 1.0 / ff
        alpha = w[_FY * LANES + i] * inverse
        gradient = w[_HY * LANES + i] - alpha * fh
        curvature = (
            (w[_QY * LANES + i] - alpha * w[_FQ * LANES + i])
            - alpha * (w[_HH * LANES + i] - fh * fh * inverse)
            - gradient * fh * inverse
        )
        step = -gradient / curvature
        # Uphill for the better fit; a step of the wrong direction is halted, and the lane falls
        # back to the search of the whole range.
        step = min(max(step, -0.7), 0.7)
        rate = w[_RATE * LANES + i]
        last = abs(step) <= LAST_STEP
        # exp(-step) to third order: Newton's error squares all the same.
        w[_RATE * LANES + i] = rate if last else rate * (1.0 - 0.5 * step) / (1.0 + 0.5 * step)
        w[_STEP * LANES + i] = step
        w[_DONE * LANES + i] = 1.0 if last else 0.0


@borrowing
def lane_residuals(y, n, w):
    """Sum up what the fit and ``q`` leave of every lane.

    Parameters
    ----------
    y, n, w
        As in :func:`lane_sums`, after it.
    """
    zero, one = splat(0.0), splat(1.0)
    share = splat(1.0 - 1.0 / n)
    least = splat(1e-3)
    for i in range(0, LANES, WIDTH):
        fh, fq, fy = load(w, _FH * LANES + i), load(w, _FQ * LANES + i), load(w, _FY * LANES + i)
        per_f = one / load(w, _FF * LANES + i)
        h_f, q_f, on_f = fh * per_f, fq * per_f, fy * per_f
        per_h = one / (load(w, _HH * LANES + i) - h_f * fh)
        hq = load(w, _HQ * LANES + i) - h_f * fq
        hy = load(w, _HY * LANES + i) - h_f * fy
        q_h, on_h = hq * per_h, hy * per_h
        per_q = one / (load(w, _QQ * LANES + i) - fma(q_f, fq, q_h * hq))
        on_q = (load(w, _QY * LANES + i) - fma(q_f, fy, q_h * hy)) * per_q
        store(w, _ON_F * LANES + i, on_f)
        store(w, _ON_H * LANES + i, on_h)
        store(w, _ON_Q * LANES + i, on_q)
        store(w, _H_F * LANES + i, h_f)
        store(w, _Q_H * LANES + i, q_h)
        store(w, _PER_F * LANES + i, per_f)
        store(w, _PER_H * LANES + i, per_h)
        store(w, _PER_Q * LANES + i, per_q)
        rate, drop = load(w, _RATE * LANES + i), load(w, _DROP * LANES + i)
        mf, mh, mq = load(w, _F * LANES + i), load(w, _H * LANES + i), load(w, _Q * LANES + i)
        value, before, rss, total, near = zero, zero, zero, zero, zero
        worst, at = zero, zero
        worst_left = one
        for k in range(n):
            z = splat(k) * rate
            h = fma(z, value, z)
            f = value - mf
            q = fma(h, z, zero - h) - fma(q_f, f, mq)
            h = h - fma(h_f, f, mh)
            q = q - q_h * h
            r = (load(y, k * LANES + i) - on_f * f) - on_h * h
            rss = fma(r, r, rss)
            r = r - on_q * q
            value = fma(drop, value, value + drop)
            square = r * r
            total = total + square
            near = fma(r, before, near)
            before = r
            left = ((share - f * f * per_f) - h * h * per_h) - q * q * per_q
            left = where_less(left, least, least, left)
            # square / left, without dividing.
            known, new = worst * left, square * worst_left
            worst = where_less(known, new, square, worst)
            worst_left = where_less(known, new, left, worst_left)
            at = where_less(known, new, splat(k), at)
        store(w, _RSS * LANES + i, rss)
        store(w, _TOTAL * LANES + i, total)
        store(w, _NEAR * LANES + i, near)
        store(w, _WORST * LANES + i, worst)
        store(w, _LEFT * LANES + i, worst_left)
        store(w, _AT * LANES + i, at)


@borrowing
def lane_results(n, sign, w):
    """Compute all columns of the fit in every lane, as :func:`.exponential.describe` does.

    The last step of Newton's method is so small that everything is linear in it.
    """
    scale = 1.0 / n
    for i in range(LANES):
        step = w[_STEP * LANES + i]
        alpha = w[_ON_F * LANES + i]
        alpha += (
            step * (w[_HY * LANES + i] - 2.0 * alpha * w[_FH * LANES + i]) * w[_PER_F * LANES + i]
        )
        ff = w[_FF * LANES + i] + 2.0 * step * w[_FH * LANES + i]
        fh = w[_FH * LANES + i] + step * (w[_HH * LANES + i] + w[_FQ * LANES + i])
        hh = w[_HH * LANES + i] + 2.0 * step * w[_HQ * LANES + i]
        mean_h = w[_H * LANES + i] + step * w[_Q * LANES + i]
        # The zero of a decay's basis exp is 1 below that of f.
        mean_b = w[_F * LANES + i] + step * w[_H * LANES + i] + (1.0 if sign > 0 else 0.0)
        rss = w[_RSS * LANES + i]
        inverse = 1.0 / (ff * hh - fh * fh)
        unexplained = rss / w[_TSS * LANES + i]
        variance = rss / (n - 3.0)
        tau = (1.0 + step * (1.0 + 0.5 * step)) / w[_RATE * LANES + i]
        leverage = mean_b * mean_b * hh - 2.0 * mean_b * mean_h * fh + mean_h * mean_h * ff
        w[(_OUT + TAU) * LANES + i] = tau
        w[(_OUT + AMPLITUDE) * LANES + i] = abs(alpha)
        w[(_OUT + OFFSET) * LANES + i] = -alpha * mean_b
        w[(_OUT + R2) * LANES + i] = 1.0 - unexplained
        w[(_OUT + R2_ADJUSTED) * LANES + i] = 1.0 - unexplained * (n - 1.0) / (n - 4.0)
        # Where a lane has gone astray these are NaN; math.sqrt would raise in plain Python.
        w[(_OUT + SE_TAU) * LANES + i] = tau / abs(alpha) * np.sqrt(variance * ff * inverse)
        w[(_OUT + SE_AMPLITUDE) * LANES + i] = np.sqrt(variance * hh * inverse)
        w[(_OUT + SE_OFFSET) * LANES + i] = np.sqrt(variance * (scale + leverage * inverse))


@kernel
def lane_space(longest, n_nodes):
    """Return the work space of :func:`fit_group`: samples, correlations at nodes, sums."""
    return np.empty(longest * LANES), np.empty(n_nodes * LANES), np.empty(_ROWS * LANES)


@borrowing
def all_done(w):
    """Tell whether no lane has a step to take."""
    done = 0.0
    for i in range(LANES):
        done += w[_DONE * LANES + i]
    return done == LANES


@borrowing
def fit_group(trace, starts, n, sign, index, tables, space):
    """Fit up to ``LANES`` windows of ``n`` samples; the results stay in the work space.

    Parameters
    ----------
    trace
        Trace.  Shape (n_samples,), any unit.
    starts
        First samples; lanes without a window repeat another.  Shape (LANES,), int64.
    n, sign
        Samples, at least 5, and process of all windows.
    index, tables
        :func:`.tau_grid.node_tables` with :data:`FIRST_LOOK_ARC`, and the index of ``n`` in them.
    space
        :func:`lane_space`.
    """
    rates, f, weight, _ = tables
    y, looks, w = space
    lane_fill(trace, starts, n, y, w)
    lane_first_look(y, n, sign, rates, f, weight[index], looks, w)
    lane_rates = w[_RATE * LANES : (_RATE + 1) * LANES]
    done = w[_DONE * LANES : (_DONE + 1) * LANES]
    done[:] = 0.0
    for _ in range(GLANCES):
        newton_step(y, n, TAU_MAX * n, NEAR_ENOUGH, lane_rates, done)
        if all_done(w):
            break
    for _ in range(PASSES):
        lane_sums(y, n, w)
        lane_steps(w)
        if all_done(w):
            break
    lane_residuals(y, n, w)
    lane_results(n, sign, w)


@borrowing
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
        and w[_ON_F * LANES + lane] * sign > 0.0
        and TAU_MIN * (1.0 + 1e-5) < tau < TAU_MAX * n * (1.0 - 1e-5)
        and 1e-250 < tss < 1e250
        and tss > n * (first * 2.0**-40) ** 2
    )


@borrowing
def lane_fit(space, lane, n):
    """Return adjusted R2, ``ln tau`` and the change of the curve within the window of a lane."""
    w = space[2]
    tau = w[(_OUT + TAU) * LANES + lane]
    change = -w[(_OUT + AMPLITUDE) * LANES + lane] * math.expm1(-(n - 1) / tau)
    return w[(_OUT + R2_ADJUSTED) * LANES + lane], math.log(tau), change


@borrowing
def copy_lane(space, lane, first, row):
    """Copy a lane's fit to ``row``; ``first`` is the window's first sample."""
    w = space[2]
    for column in range(N_COLUMNS):
        row[column] = w[(_OUT + column) * LANES + lane]
    row[OFFSET] += first + w[_MEAN * LANES + lane]


@borrowing
def lane_evidence(space, lane, n, said):
    """Fill in ``said``, shape (9,), as :func:`.misfit.examine_one` does for one window."""
    w = space[2]
    # With z = t / tau: h = z + z f and q = h z - h, so sums with z are sums of the others.
    rate = w[_RATE * LANES + lane]
    z = 0.5 * (n - 1.0) * rate
    mf, mh, mq = w[_F * LANES + lane], w[_H * LANES + lane], w[_Q * LANES + lane]
    fz, hz = n * ((mh - z) - mf * z), n * ((mq + mh) - mh * z)
    conclude(
        n, 1.0 / rate, w[_TSS * LANES + lane], w[_ON_F * LANES + lane], w[_ON_Q * LANES + lane],
        w[_Q_H * LANES + lane], 1.0 / w[_PER_H * LANES + lane], 1.0 / w[_PER_Q * LANES + lane],
        hz - w[_H_F * LANES + lane] * fz, w[_TOTAL * LANES + lane], w[_NEAR * LANES + lane],
        w[_WORST * LANES + lane] / w[_LEFT * LANES + lane], w[_AT * LANES + lane], said,
    )  # fmt: skip
