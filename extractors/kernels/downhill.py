"""Two exponentials, or a stretched one: the sum of squares at their time constants, and downhill.

``y = C + A1 exp(-t / tau1) + A2 exp(-t / tau2)`` and ``y = C + A exp(-(t / tau)^beta)``.  The
linear parameters are eliminated (variable projection [1]_): what is left has two unknowns, and
damped Newton steps lead to a minimum.

``f = exp - 1`` replaces ``exp``, and every window is taken relative to its first sample: neither a
large baseline nor a long time constant costs digits.

All exponentials of even samples lie in a space of some 30 dimensions, however long the window is.
There, a window has so many coordinates, and exponentials have tables of theirs
(:mod:`.coordinates`).  Functions that go downhill do not know whether they work on samples or on
coordinates.

Dimension letters: n samples of a window, or r coordinates.

References
----------
.. [1] Golub & Pereyra (1973), SIAM J. Numer. Anal. 10, 413. doi:10.1137/0710036
"""

from __future__ import annotations

import math

import numpy as np

from oectflow.extractors.kernels.compiled import borrowing, kernel
from oectflow.extractors.kernels.coordinates import look_up
from oectflow.extractors.kernels.lane_math import exponential, less_one

#: What is fitted.
DOUBLE, STRETCHED = range(2)
#: Steps down to a minimum, at most.
MOST_STEPS = 100
#: Steps of the logarithms below which nothing more is gained.
CLOSE = 1e-10
#: Steps and damping below which the next step is below that.
NEARLY = 1e-5
#: Distance of two ``ln tau`` below which the exponentials are nearly one, and the least there is.
NEAR, LEAST_APART = 0.5, 0.02
#: Longest step.
LONGEST = 1.0
#: Distance from a minimum that is known below which a way leads to it.
SAME = 1e-3
#: Share of the sum of squares that rounding hides: a millionth of a standard error.
ROUNDING = 1e-14
#: Damping at the beginning, and that at which no step is found any more.
DAMPING, STUCK = 1e-3, 1e9
#: Least share of a square that has to be left of it when a matrix is decomposed.
SINGULAR = 1e-14


@borrowing
def fill_columns(t, even, model, p, q, table, columns):
    """Fill in the functions of a model and their derivatives.

    Parameters
    ----------
    t
        Times since the first sample, or, of a stretched exponential, their logarithms.  Shape (n,).
    even
        Whether times are 0, 1, 2, ...
    model
        ``DOUBLE`` or ``STRETCHED``.
    p, q
        ``ln tau1`` and ``ln tau2``, or ``ln tau`` and ``ln beta``.
    table
        Of exponentials in coordinates: what :func:`look_up` takes; no cells where ``columns`` are
        samples.
    columns
        Gets two functions (a stretched one is alone), their first derivatives by ``p`` and ``q``,
        all less their means, and the second ones: by ``p`` and ``q``, and by both.  Shape (7, n).
    """
    n = t.size
    cells, low = table
    if cells.shape[0]:
        look_up(cells, low, p, columns[0], columns[2], columns[4])
        look_up(cells, low, q, columns[1], columns[3], columns[5])
        columns[6] = 0.0
        return
    if model == DOUBLE:
        rate_f, rate_g = math.exp(-p), math.exp(-q)
        f, g, u, v = columns[0], columns[1], columns[2], columns[3]
        drop_f, drop_g = math.expm1(-rate_f), math.expm1(-rate_g)
        at_f = at_g = sf = sg = su = sv = 0.0
        # Both at once, since each sample waits for the one before.
        for k in range(n):
            z, y = t[k] * rate_f, t[k] * rate_g
            if not even:
                at_f, at_g = math.expm1(-z), math.expm1(-y)
            hf, hg = z + z * at_f, y + y * at_g
            f[k] = at_f
            g[k] = at_g
            u[k] = hf
            v[k] = hg
            columns[4, k] = hf * z - hf
            columns[5, k] = hg * y - hg
            sf += at_f
            sg += at_g
            su += hf
            sv += hg
            at_f += drop_f * (1.0 + at_f)
            at_g += drop_g * (1.0 + at_g)
        sf /= n
        sg /= n
        su /= n
        sv /= n
        for k in range(n):
            f[k] -= sf
            g[k] -= sg
            u[k] -= su
            v[k] -= sv
        columns[6] = 0.0
        return
    stretch(t, p, math.exp(q), columns[5], columns[6])
    fill_less_one(columns[5], columns[0])
    fill_slopes(columns[0], columns[5], columns[6], columns[2], columns[3])
    fill_bends(math.exp(q), columns[2], columns[4], columns[5], columns[6])
    value, by_p, by_q = columns[0], columns[2], columns[3]
    sf = su = sv = 0.0
    for k in range(n):
        sf += value[k]
        su += by_p[k]
        sv += by_q[k]
    sf /= n
    su /= n
    sv /= n
    for k in range(n):
        value[k] -= sf
        by_p[k] -= su
        by_q[k] -= sv


@borrowing
def stretch(logs, p, beta, u, log_u):
    """Fill in ``(t / tau)^beta`` and its logarithm, up to where exponentials are 0 or 1."""
    for k in range(u.size):
        x = beta * (logs[k] - p)
        x = x if x > -600.0 else -600.0
        x = x if x < 6.0 else 6.0
        log_u[k] = x
        u[k] = exponential(x)


@borrowing
def fill_less_one(u, value):
    """Fill in ``exp(-u) - 1``."""
    for k in range(u.size):
        value[k] = less_one(-u[k])


@borrowing
def fill_slopes(value, u, log_u, slope, by_q):
    """Fill in ``u exp(-u)``, and the derivative of ``exp(-u)`` by ``ln beta``."""
    for k in range(u.size):
        slope[k] = u[k] + u[k] * value[k]
    for k in range(u.size):
        by_q[k] = -log_u[k] * slope[k]


@borrowing
def fill_bends(beta, slope, second_p, u, log_u):
    """Fill in the second derivatives, ``u`` and ``log_u`` getting those by ``q`` and by both.

    ``slope`` gets the first one by ``p``.
    """
    for k in range(u.size):
        second_p[k] = beta * beta * slope[k] * (u[k] - 1.0)
    for k in range(u.size):
        more = (1.0 - u[k]) * log_u[k]
        second = -log_u[k] * slope[k] * (1.0 + more)
        log_u[k] = beta * slope[k] * (1.0 + more)
        u[k] = second
    for k in range(u.size):
        slope[k] *= beta


@kernel
def clock_of(t, model):
    """Return what :func:`fill_columns` takes for times."""
    return np.log(t) if model == STRETCHED else t


@borrowing
def decompose(a, n):
    """Replace a positive definite matrix by its Cholesky factor; tell whether it is one."""
    for i in range(n):
        for j in range(i + 1):
            s = a[i, j]
            for k in range(j):
                s -= a[i, k] * a[j, k]
            if i != j:
                a[i, j] = s / a[j, j]
            elif s > SINGULAR * a[i, i]:
                a[i, i] = math.sqrt(s)
            else:
                return False
    return True


@borrowing
def solve(factor, b, n, x):
    """Solve for ``x``, given a Cholesky factor."""
    for i in range(n):
        s = b[i]
        for k in range(i):
            s -= factor[i, k] * x[k]
        x[i] = s / factor[i, i]
    for i in range(n - 1, -1, -1):
        s = x[i]
        for k in range(i + 1, n):
            s -= factor[k, i] * x[k]
        x[i] = s / factor[i, i]


@borrowing
def products(y, f, g):
    """Return all products of two functions and a window."""
    ff = fg = gg = fy = gy = 0.0
    # One pass, since the sums wait for each other otherwise.
    for k in range(y.size):
        ff += f[k] * f[k]
        fg += f[k] * g[k]
        gg += g[k] * g[k]
        fy += f[k] * y[k]
        gy += g[k] * y[k]
    return ff, fg, gg, fy, gy


@borrowing
def leave(y, f, g, a, b, residual):
    """Fill in what two functions leave of a window; return its sum of squares."""
    rss = 0.0
    for k in range(y.size):
        r = y[k] - a * f[k] - b * g[k]
        residual[k] = r
        rss += r * r
    return rss


@borrowing
def project(y, columns, n_linear, factor, alpha, residual):
    """Fit the amplitudes; return the sum of squares that is left.

    Parameters
    ----------
    y
        The window, less its mean.  Shape (n,).
    columns
        From :func:`fill_columns`; the first ``n_linear`` are fitted.
    factor, alpha, residual
        Get the Cholesky factor of their products, the amplitudes and the residuals.
    """
    f, g = columns[0], columns[n_linear - 1]
    ff, fg, gg, fy, gy = products(y, f, g)
    factor[0, 0], factor[n_linear - 1, 0], factor[n_linear - 1, n_linear - 1] = ff, fg, gg
    if not decompose(factor, n_linear):
        return math.inf
    if n_linear == 1:
        alpha[0] = fy / factor[0, 0] / factor[0, 0]
        return leave(y, f, g, alpha[0], 0.0, residual)
    first = fy / factor[0, 0]
    second = (gy - factor[1, 0] * first) / factor[1, 1]
    alpha[1] = second / factor[1, 1]
    alpha[0] = (first - factor[1, 0] * alpha[1]) / factor[0, 0]
    return leave(y, f, g, alpha[0], alpha[1], residual)


@borrowing
def derivative_products(columns, n_linear, residual):
    """Return the products of the derivatives with each other, the functions and the residuals."""
    f, g = columns[0], columns[n_linear - 1]
    u, v = columns[2], columns[3]
    second_p, second_q, mixed = columns[4], columns[5], columns[6]
    uu = uv = vv = uf = ug = vf = vg = ur = vr = pp = qq = pq = 0.0
    for k in range(residual.size):
        r = residual[k]
        uu += u[k] * u[k]
        uv += u[k] * v[k]
        vv += v[k] * v[k]
        uf += u[k] * f[k]
        ug += u[k] * g[k]
        vf += v[k] * f[k]
        vg += v[k] * g[k]
        ur += u[k] * r
        vr += v[k] * r
        pp += second_p[k] * r
        qq += second_q[k] * r
        pq += mixed[k] * r
    return uu, uv, vv, uf, ug, vf, vg, ur, vr, pp, qq, pq


@borrowing
def differentiate(
    model, p, q, bounds, columns, n_linear, factor, alpha, residual, gradient, hessian
):
    """Fill in the derivatives of the sum of squares at the best amplitudes, halved.

    Exact ones: along the valley in which two time constants balance each other, the second
    derivatives of the model count as much as the products of the first.
    """
    uu, uv, vv, uf, ug, vf, vg, ur, vr, pp, qq, pq = derivative_products(
        columns, n_linear, residual
    )
    a, b = alpha[0], alpha[n_linear - 1]
    gradient[0], gradient[1] = -a * ur, -b * vr
    # Derivatives by an unknown and an amplitude; each function has one unknown, or one has both.
    if n_linear == 1:
        scale = 1.0 / factor[0, 0]
        of_p, of_q = (a * uf - ur) * scale, (a * vf - vr) * scale
        hessian[0, 0] = a * a * uu - a * pp - of_p * of_p
        hessian[1, 0] = a * a * uv - a * pq - of_p * of_q
        hessian[1, 1] = a * a * vv - a * qq - of_q * of_q
    else:
        # Times the inverse of the Cholesky factor.
        first, second = 1.0 / factor[0, 0], 1.0 / factor[1, 1]
        of_p, of_q = (a * uf - ur) * first, b * vf * first
        then_p = (a * ug - factor[1, 0] * of_p) * second
        then_q = (b * vg - vr - factor[1, 0] * of_q) * second
        hessian[0, 0] = a * a * uu - a * pp - of_p * of_p - then_p * then_p
        hessian[1, 0] = a * b * uv - a * pq - of_p * of_q - then_p * then_q
        hessian[1, 1] = b * b * vv - b * qq - of_q * of_q - then_q * then_q
    hessian[0, 1] = hessian[1, 0]
    if is_near(model, p, q, bounds):
        # Derivatives by the mean of p and q, and by the square of half their difference, in which
        # the sum of squares is smooth where they meet.
        s = 0.5 * (q - p)
        by_s = gradient[1] - gradient[0]
        gradient[0] += gradient[1]
        gradient[1] = 0.5 * by_s / s
        a, b, c = hessian[0, 0], hessian[1, 0], hessian[1, 1]
        hessian[0, 0] = a + 2.0 * b + c
        hessian[0, 1] = hessian[1, 0] = 0.5 * (c - a) / s
        hessian[1, 1] = 0.25 * (a - 2.0 * b + c - by_s / s) / (s * s)


@borrowing
def is_near(model, p, q, bounds):
    """Tell whether two exponentials are nearly one, and both of them free."""
    free = bounds[0, 0] < bounds[0, 1] and bounds[1, 0] < bounds[1, 1]
    return model == DOUBLE and free and q - p < NEAR


@borrowing
def stay(model, p, q, move, bounds):
    """Return where a step leads that stays within the bounds."""
    if is_near(model, p, q, bounds):
        m = 0.5 * (p + q) + move[0]
        half = math.sqrt(max(0.25 * (q - p) ** 2 + move[1], 0.25 * LEAST_APART**2))
        p, q = m - half, m + half
    else:
        p, q = p + move[0], q + move[1]
    p = min(max(p, bounds[0, 0]), bounds[0, 1])
    q = min(max(q, bounds[1, 0]), bounds[1, 1])
    if model == DOUBLE and q - p < LEAST_APART:
        middle = min(max(0.5 * (p + q), bounds[0, 0] + LEAST_APART), bounds[1, 1] - LEAST_APART)
        p, q = middle - 0.5 * LEAST_APART, middle + 0.5 * LEAST_APART
    return p, q


@borrowing
def hold(model, p, q, bounds, gradient, hessian):
    """Hold an unknown that is at a bound and would go beyond."""
    if is_near(model, p, q, bounds):
        at_low = False, q - p <= LEAST_APART * (1.0 + 1e-9)
        at_high = False, False
    else:
        at_low = p <= bounds[0, 0], q <= bounds[1, 0]
        at_high = p >= bounds[0, 1], q >= bounds[1, 1]
    for i in range(2):
        if (at_low[i] and gradient[i] > 0.0) or (at_high[i] and gradient[i] < 0.0):
            gradient[i] = 0.0
            hessian[i, 1 - i] = hessian[1 - i, i] = 0.0
            hessian[i, i] = 1.0


@borrowing
def refine(y, t, even, model, p, q, bounds, table, work, known, enough):
    """Go downhill from ``p``, ``q``; return where that ends and the sum of squares there.

    Parameters
    ----------
    y, t, even, model, p, q, table
        As in :func:`fill_columns`; ``y`` less its mean.
    bounds
        Least and greatest ``p`` and ``q``.  Shape (2, 2).
    work
        Work space.  Shape (8, n), and (14,).
    known
        ``p`` and ``q`` of a minimum that is known, or NaN: a way that leads there ends, and its sum
        of squares is infinite.
    enough
        Share of the sum of squares; a step that would take less off it is the last one.
    """
    n_linear = 2 if model == DOUBLE else 1
    long, short = work
    columns, residual = long[:7], long[7]
    alpha, move, gradient = short[0:2], short[2:4], short[4:6]
    factor, hessian = short[6:10].reshape(2, 2), short[10:14].reshape(2, 2)
    damping = DAMPING
    fill_columns(t, even, model, p, q, table, columns)
    rss = project(y, columns, n_linear, factor, alpha, residual)
    for _ in range(MOST_STEPS):
        if not rss < math.inf:
            break
        differentiate(
            model, p, q, bounds, columns, n_linear, factor, alpha, residual, gradient, hessian
        )
        hold(model, p, q, bounds, gradient, hessian)
        moved = math.inf
        while damping < STUCK:
            a = hessian[0, 0] + damping * abs(hessian[0, 0])
            b = hessian[1, 0]
            c = hessian[1, 1] + damping * abs(hessian[1, 1])
            rest = c - b * b / a
            if not (a > 0.0 and rest > SINGULAR * c):
                damping = max(damping * 10.0, DAMPING)
                continue
            move[1] = (gradient[1] - b * gradient[0] / a) / rest
            move[0] = (gradient[0] - b * move[1]) / a
            gain = 0.5 * (gradient[0] * move[0] + gradient[1] * move[1])
            longest = max(abs(move[0]), abs(move[1]))
            shorter = -min(1.0, LONGEST / longest) if longest > 0.0 else 0.0
            move[0] *= shorter
            move[1] *= shorter
            new_p, new_q = stay(model, p, q, move, bounds)
            moved = max(abs(new_p - p), abs(new_q - q))
            if gain < enough * rss:
                # Newton's method squares what is left, and the sum of squares would not tell.
                return new_p, new_q, rss
            if moved < CLOSE:
                break
            fill_columns(t, even, model, new_p, new_q, table, columns)
            tried = project(y, columns, n_linear, factor, alpha, residual)
            if tried < rss:
                p, q, rss = new_p, new_q, tried
                damping *= 0.1
                break
            damping = max(damping * 10.0, DAMPING)
        if abs(p - known[0]) < SAME and abs(q - known[1]) < SAME:
            return p, q, math.inf
        # All is squared but the share of the damping.
        if moved < CLOSE or damping >= STUCK or (moved < NEARLY and damping < NEARLY):
            break
    return p, q, rss
