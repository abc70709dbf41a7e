"""Two exponentials, or a stretched one: the sum of squares at their time constants, and downhill.

``y = C + A1 exp(-t / tau1) + A2 exp(-t / tau2)`` and ``y = C + A exp(-(t / tau)^beta)``.  The
linear parameters are eliminated (variable projection [1]_): what is left has two unknowns, and
damped Newton steps lead to a minimum.

``f = exp - 1`` replaces ``exp``, and every window is taken relative to its first sample: neither a
large baseline nor a long time constant costs digits.

Dimension letters: n samples of a window.

References
----------
.. [1] Golub & Pereyra (1973), SIAM J. Numer. Anal. 10, 413. doi:10.1137/0710036
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

#: What is fitted.
DOUBLE, STRETCHED = range(2)
#: Steps down to a minimum, at most.
MOST_STEPS = 100
#: Steps of the logarithms below which nothing more is gained.
CLOSE = 1e-10
#: Distance of two ``ln tau`` below which the exponentials are nearly one, and the least there is.
NEAR, LEAST_APART = 0.5, 0.02
#: Longest step.
LONGEST = 1.0
#: Damping at the beginning, and that at which no step is found any more.
DAMPING, STUCK = 1e-3, 1e9
#: Least share of a square that has to be left of it when a matrix is decomposed.
SINGULAR = 1e-14


@njit(nogil=True, cache=True, error_model="numpy")
def fill_columns(t, even, model, p, q, columns):
    """Fill in the functions of a model and their derivatives.

    Parameters
    ----------
    t
        Times since the first sample.  Shape (n,).
    even
        Whether these are 0, 1, 2, ...
    model
        ``DOUBLE`` or ``STRETCHED``.
    p, q
        ``ln tau1`` and ``ln tau2``, or ``ln tau`` and ``ln beta``.
    columns
        Gets two functions (a stretched one is alone), their first derivatives by ``p`` and ``q``,
        all less their means, and the second ones: by ``p`` and ``q``, and by both.  Shape (7, n).
    """
    n = t.size
    if model == DOUBLE:
        for i in range(2):
            rate = math.exp(-(p if i == 0 else q))
            f, h, k2 = columns[i], columns[2 + i], columns[4 + i]
            drop = math.expm1(-rate)
            value = sf = sh = 0.0
            for k in range(n):
                z = t[k] * rate
                if not even:
                    value = math.expm1(-z)
                hk = z + z * value
                f[k] = value
                h[k] = hk
                k2[k] = hk * z - hk
                sf += value
                sh += hk
                value += drop * (1.0 + value)
            sf /= n
            sh /= n
            for k in range(n):
                f[k] -= sf
                h[k] -= sh
        columns[6] = 0.0
        return
    beta = math.exp(q)
    for k in range(n):
        u, log_u = 0.0, 0.0
        if t[k] > 0.0:
            log_u = min(beta * (math.log(t[k]) - p), 700.0)
            u = math.exp(log_u)
        value = math.expm1(-u)
        slope = u + u * value
        columns[0, k] = value
        columns[2, k] = beta * slope
        columns[3, k] = -log_u * slope
        columns[4, k] = beta * beta * slope * (u - 1.0)
        columns[5, k] = -log_u * slope * (log_u + 1.0 - u * log_u)
        columns[6, k] = beta * slope * (1.0 + (1.0 - u) * log_u)
    for i in (0, 2, 3):
        columns[i] -= np.mean(columns[i])


@njit(nogil=True, cache=True, error_model="numpy")
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


@njit(nogil=True, cache=True, error_model="numpy")
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


@njit(nogil=True, cache=True, error_model="numpy")
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
    ff = fg = gg = fy = gy = 0.0
    # One pass, since the sums wait for each other otherwise.
    for k in range(y.size):
        ff += f[k] * f[k]
        fg += f[k] * g[k]
        gg += g[k] * g[k]
        fy += f[k] * y[k]
        gy += g[k] * y[k]
    factor[0, 0], factor[n_linear - 1, 0], factor[n_linear - 1, n_linear - 1] = ff, fg, gg
    if not decompose(factor, n_linear):
        return math.inf
    solve(factor, np.array([fy, gy]), n_linear, alpha)
    a = alpha[0]
    b = alpha[1] if n_linear == 2 else 0.0
    rss = 0.0
    for k in range(y.size):
        r = y[k] - a * f[k] - b * g[k]
        residual[k] = r
        rss += r * r
    return rss


@njit(nogil=True, cache=True, error_model="numpy")
def differentiate(
    model, p, q, bounds, columns, n_linear, factor, alpha, residual, gradient, hessian
):
    """Fill in the derivatives of the sum of squares at the best amplitudes, halved.

    Exact ones: along the valley in which two time constants balance each other, the second
    derivatives of the model count as much as the products of the first.
    """
    f, g = columns[0], columns[n_linear - 1]
    u, v = columns[2], columns[3]
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
        pp += columns[4, k] * r
        qq += columns[5, k] * r
        pq += columns[6, k] * r
    a, b = alpha[0], alpha[n_linear - 1]
    gradient[0], gradient[1] = -a * ur, -b * vr
    hessian[0, 0] = a * a * uu - a * pp
    hessian[1, 0] = a * b * uv - a * pq
    hessian[1, 1] = b * b * vv - b * qq
    # By an unknown and an amplitude; each function has its own, or both unknowns are of one.
    of_amplitude = np.empty((2, 2))
    of_amplitude[0] = a * uf, a * ug
    of_amplitude[1] = b * vf, b * vg
    of_amplitude[0, 0] -= ur
    of_amplitude[1, n_linear - 1] -= vr
    gone = np.empty(2)
    for i in range(2):
        solve(factor, of_amplitude[i], n_linear, gone)
        for j in range(i, 2):
            for k in range(n_linear):
                hessian[j, i] -= gone[k] * of_amplitude[j, k]
    hessian[0, 1] = hessian[1, 0]
    if is_near(model, p, q, bounds):
        # By the mean of p and q, and the square of half their difference, in which the sum of
        # squares is smooth where they meet.
        s = 0.5 * (q - p)
        by_s = gradient[1] - gradient[0]
        gradient[0] += gradient[1]
        gradient[1] = 0.5 * by_s / s
        a, b, c = hessian[0, 0], hessian[1, 0], hessian[1, 1]
        hessian[0, 0] = a + 2.0 * b + c
        hessian[0, 1] = hessian[1, 0] = 0.5 * (c - a) / s
        hessian[1, 1] = 0.25 * (a - 2.0 * b + c - by_s / s) / (s * s)


@njit(nogil=True, cache=True, error_model="numpy")
def is_near(model, p, q, bounds):
    """Whether two exponentials are nearly one, and both of them free."""
    free = bounds[0, 0] < bounds[0, 1] and bounds[1, 0] < bounds[1, 1]
    return model == DOUBLE and free and q - p < NEAR


@njit(nogil=True, cache=True, error_model="numpy")
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


@njit(nogil=True, cache=True, error_model="numpy")
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


@njit(nogil=True, cache=True, error_model="numpy")
def refine(y, t, even, model, p, q, bounds, work):
    """Go downhill from ``p``, ``q``; return where that ends and the sum of squares there.

    Parameters
    ----------
    y, t, even, model, p, q
        As in :func:`fill_columns`; ``y`` less its mean.
    bounds
        Least and greatest ``p`` and ``q``.  Shape (2, 2).
    work
        Work space.  Shape (8, n).
    """
    n_linear = 2 if model == DOUBLE else 1
    columns, residual = work[:7], work[7]
    alpha = np.zeros(2)
    factor = np.empty((2, 2))
    move = np.empty(2)
    hessian = np.empty((2, 2))
    normal = np.empty((2, 2))
    gradient = np.empty(2)
    damping = DAMPING
    fill_columns(t, even, model, p, q, columns)
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
            for i in range(2):
                for j in range(2):
                    normal[i, j] = hessian[i, j] + (damping * abs(hessian[i, i]) if i == j else 0.0)
            if not decompose(normal, 2):
                damping = max(damping * 10.0, DAMPING)
                continue
            solve(normal, gradient, 2, move)
            longest = max(abs(move[0]), abs(move[1]))
            move *= -min(1.0, LONGEST / longest) if longest > 0.0 else 0.0
            new_p, new_q = stay(model, p, q, move, bounds)
            moved = max(abs(new_p - p), abs(new_q - q))
            if moved < CLOSE:
                break
            fill_columns(t, even, model, new_p, new_q, columns)
            tried = project(y, columns, n_linear, factor, alpha, residual)
            if tried < rss:
                p, q, rss = new_p, new_q, tried
                damping *= 0.1
                break
            damping = max(damping * 10.0, DAMPING)
        if moved < CLOSE or damping >= STUCK:
            break
    return p, q, rss
