"""Two exponentials with a constant, and a stretched one: the best of all time constants.

``y = C + A1 exp(-t / tau1) + A2 exp(-t / tau2)`` and ``y = C + A exp(-(t / tau)^beta)``.  The
linear parameters are eliminated (variable projection [1]_): what is left has two unknowns.  A grid
of them is tried whole, and from its best maxima on, damped Newton steps lead to the optimum.  The
grid is equally spaced in the arc that a normalised exponential goes through (:mod:`.tau_grid`).

``f = exp - 1`` replaces ``exp``, and every window is taken relative to its first sample: neither a
large baseline nor a long time constant costs digits.

Dimension letters: n samples of a window, K nodes.

References
----------
.. [1] Golub & Pereyra (1973), SIAM J. Numer. Anal. 10, 413. doi:10.1137/0710036
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from oectflow.extractors.kernels.ceilings import limits_of, pile_up
from oectflow.extractors.kernels.gate import OVERFLOW
from oectflow.extractors.kernels.residuals import OUTLIER_SAMPLES, OUTLIER_T
from oectflow.extractors.kernels.tau_grid import TAU_MAX, TAU_MIN, node_rates

#: What is fitted.
DOUBLE, STRETCHED = range(2)
#: Columns of a fit: the two unknowns, of two exponentials the faster one first, or tau and beta;
#: their amplitudes, of which a stretched one has the first; standard errors of all; variance and
#: correlation of neighbouring residuals.  Times are in those of the samples.
FIRST, SECOND, A_1, A_2, OFFSET, SE_FIRST, SE_SECOND, SE_A_1, SE_A_2, R2, RSS, PHI = range(12)
N_COLUMNS = 12
#: Exponents that are searched, and their number.
BETA_MIN, BETA_MAX, N_BETA = 0.2, 2.0, 8
#: Arc between the nodes, in rad.
MESH = 0.15
#: Maxima of the grid that are refined, and steps of each.
MOST_STARTS, MOST_STEPS = 6, 100
#: Steps of the logarithms below which nothing more is gained.
CLOSE = 1e-10
#: Distance of two ``ln tau`` below which the exponentials are nearly one, and the least there is.
NEAR, LEAST_APART = 0.5, 0.02
#: Shares of both time constants of their standard errors below which there is one minimum.
KNOWN = 0.05
#: Longest step.
LONGEST = 1.0
#: Damping at the beginning, and that at which no step is found any more.
DAMPING, STUCK = 1e-3, 1e9
#: Least share of a square that has to be left of it when a matrix is decomposed.
SINGULAR = 1e-14
#: What a window has told.
FIT_OK, TOO_FEW, NOT_FINITE, FLAT, NO_OPTIMUM, MARKED, CLIPPED, OUTLIER = range(8)


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
    return (
        model == DOUBLE
        and q - p < NEAR
        and (bounds[0, 0] < bounds[0, 1] and bounds[1, 0] < bounds[1, 1])
    )


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


@njit(nogil=True, cache=True, error_model="numpy")
def nodes_of(t, model):
    """Return the nodes of the grid: ``p`` and ``q`` of each, and what they are bounded by.

    Returns
    -------
    Nodes of ``p`` and of ``q``, shapes (K,) and (K or 8,); bounds, shape (2, 2).
    """
    n = t.size
    unit = t[n - 1] / (n - 1)
    rates = node_rates(n, MESH)
    p = np.log(unit) - np.log(rates)
    bounds = np.empty((2, 2))
    bounds[0] = bounds[1] = math.log(TAU_MIN * unit), math.log(TAU_MAX * n * unit)
    if model == DOUBLE:
        return p, p, bounds
    bounds[1] = math.log(BETA_MIN), math.log(BETA_MAX)
    return p, np.linspace(bounds[1, 0], bounds[1, 1], N_BETA), bounds


@njit(nogil=True, cache=True, error_model="numpy")
def fill_grid(t, even, model, p, q, grid):
    """Fill in the normalised functions at the nodes; a stretched one has one for each pair.

    ``grid`` has the shape (K, n), or (K * 8, n).
    """
    columns = np.empty((7, t.size))
    for i in range(p.size):
        for j in range(1 if model == DOUBLE else q.size):
            # Of two exponentials the second is not looked at.
            fill_columns(t, even, model, p[i], p[i] + 1.0 if model == DOUBLE else q[j], columns)
            norm = math.sqrt(np.dot(columns[0], columns[0]))
            row = grid[i if model == DOUBLE else i * q.size + j]
            row[:] = 0.0
            if norm > 0.0:
                row += columns[0] / norm


@njit(nogil=True, cache=True, error_model="numpy")
def gains(y, model, grid, gram, shape, gain):
    """Fill in what the fit at every pair of nodes explains of ``y``."""
    c = np.dot(grid, y)
    for i in range(shape[0]):
        for j in range(shape[1]):
            if model == STRETCHED:
                gain[i, j] = c[i * shape[1] + j] ** 2
            elif j <= i:
                gain[i, j] = -math.inf
            else:
                g = gram[i, j]
                gain[i, j] = (c[i] ** 2 - 2.0 * g * c[i] * c[j] + c[j] ** 2) / (1.0 - g * g)


@njit(nogil=True, cache=True, error_model="numpy")
def best_starts(gain, starts):
    """Fill in the greatest of the local maxima; return how many there are, at most (6, 2)."""
    found = 0
    for i in range(gain.shape[0]):
        for j in range(gain.shape[1]):
            top = gain[i, j]
            if not top > -math.inf:
                continue
            for k in range(max(i - 1, 0), min(i + 2, gain.shape[0])):
                for m in range(max(j - 1, 0), min(j + 2, gain.shape[1])):
                    if gain[k, m] > top:
                        top = math.inf
            if top == math.inf:
                continue
            # Sorted in, the greatest first.
            at = min(found, starts.shape[0] - 1)
            if found == starts.shape[0] and gain[starts[at, 0], starts[at, 1]] >= top:
                continue
            while at > 0 and gain[starts[at - 1, 0], starts[at - 1, 1]] < top:
                starts[at] = starts[at - 1]
                at -= 1
            starts[at] = i, j
            found = min(found + 1, starts.shape[0])
    return found


@njit(nogil=True, cache=True, error_model="numpy")
def standard_errors(model, columns, alpha, residual, row):
    """Fill in the standard errors and the correlation of neighbouring residuals.

    From the Jacobian at the optimum; slowly varying parameters have variances larger by
    ``(1 + phi) / (1 - phi)`` where residuals are autoregressive (see :mod:`.residuals`).
    """
    n_linear = 2 if model == DOUBLE else 1
    n_columns = n_linear + 2
    n = residual.size
    jacobian = np.empty((n_columns, n))
    for i in range(n_linear):
        jacobian[i] = columns[i]
    for i in range(2):
        jacobian[n_linear + i] = alpha[min(i, n_linear - 1)] * columns[2 + i]
    factor = np.dot(jacobian, jacobian.T)
    rss = row[RSS]
    phi = np.dot(residual[1:], residual[:-1]) / rss if rss > 0.0 else 0.0
    # What was fitted pushes the correlation down.
    phi = min(max(phi + (n_columns + 2.0 * n_columns * max(phi, 0.0)) / n, 0.0), 0.99)
    row[PHI] = phi
    variance = rss / (n - n_columns - 1) * (1.0 + phi) / (1.0 - phi)
    if not decompose(factor, n_columns):
        row[SE_FIRST : SE_A_2 + 1] = math.inf
        return
    unit = np.zeros(n_columns)
    solved = np.empty(n_columns)
    for i in range(n_columns):
        unit[:] = 0.0
        unit[i] = 1.0
        solve(factor, unit, n_columns, solved)
        error = math.sqrt(variance * solved[i])
        if i >= n_linear:
            row[SE_FIRST + i - n_linear] = error * row[FIRST + i - n_linear]
        else:
            row[SE_A_1 + i] = error


@njit(nogil=True, cache=True, error_model="numpy")
def search_valley(y, t, even, p, gain, bounds, which, best, work):
    """Look for other minima along the valley in which two time constants balance each other.

    It is narrower than the grid where there is little noise.  For every node of one of them the
    best of the other are found; where that leaves less than at both neighbours, both are refined.

    Parameters
    ----------
    y, t, even, bounds, work
        As in :func:`refine`.
    p, gain
        The nodes, and what pairs of them explain.
    which
        0 goes along the faster one, 1 along the slower one.
    best
        The least sum of squares that is known, and where it is.

    Returns
    -------
    The same, after the search.
    """
    held = bounds.copy()
    n_nodes = p.size
    # Both sides of the diagonal: gain[i, j] is that of the node i of one and j of the other.
    of_nodes = gain if which == 0 else gain.T
    least = np.full(n_nodes + 2, math.inf)
    other = np.empty(n_nodes)
    for i in range(n_nodes):
        held[:] = bounds
        held[which] = p[i]
        if which == 0:
            held[1, 0] = min(p[i] + LEAST_APART, bounds[1, 1])
        else:
            held[0, 1] = max(p[i] - LEAST_APART, bounds[0, 0])
        for j in range(n_nodes):
            top = of_nodes[i, j]
            if (
                not top > -math.inf
                or (j > 0 and of_nodes[i, j - 1] > top)
                or (j + 1 < n_nodes and of_nodes[i, j + 1] > top)
            ):
                continue
            begin_p, begin_q = (p[i], p[j]) if which == 0 else (p[j], p[i])
            end_p, end_q, rss = refine(y, t, even, DOUBLE, begin_p, begin_q, held, work)
            if rss < least[i + 1]:
                least[i + 1], other[i] = rss, end_q if which == 0 else end_p
    for i in range(n_nodes):
        if least[i + 1] < math.inf and least[i] >= least[i + 1] <= least[i + 2]:
            begin_p, begin_q = (p[i], other[i]) if which == 0 else (other[i], p[i])
            new_p, new_q, rss = refine(y, t, even, DOUBLE, begin_p, begin_q, bounds, work)
            if rss < best[0]:
                best = rss, new_p, new_q
    return best


@njit(nogil=True, cache=True, error_model="numpy")
def fill_row(y, t, even, model, p, q, work, row):
    """Fill in a fit: the unknowns, the amplitudes, and how well they are known."""
    n_linear = 2 if model == DOUBLE else 1
    columns, residual = work[:7], work[7]
    alpha = np.zeros(2)
    fill_columns(t, even, model, p, q, columns)
    rss = project(y, columns, n_linear, np.empty((2, 2)), alpha, residual)
    row[FIRST], row[SECOND] = math.exp(p), math.exp(q)
    row[OFFSET] = 0.0
    for i in range(n_linear):
        row[A_1 + i] = alpha[i]
        # Centred, a function begins with minus its mean, where it was 0.
        row[OFFSET] += alpha[i] * columns[i, 0] - alpha[i]
    row[R2], row[RSS] = 1.0 - rss / np.dot(y, y), rss
    standard_errors(model, columns, alpha, residual, row)


@njit(nogil=True, cache=True, error_model="numpy")
def has_outlier(residual, n_unknowns):
    """Tell whether one residual is far beyond all others."""
    n = residual.size
    if n < OUTLIER_SAMPLES + n_unknowns:
        return False
    squares = residual * residual
    worst = np.max(squares)
    others = (np.sum(squares) - worst) / (n - n_unknowns - 1)
    # Student's distribution has longer tails where there are few samples.
    return worst > others * (OUTLIER_T * (1.0 + 8.0 / (n - n_unknowns))) ** 2


@njit(nogil=True, cache=True, error_model="numpy")
def is_clipped(y, limits):
    """Tell whether a window ends at a level at which the samples of the step pile up."""
    for top in (True, False):
        level, count, _ = pile_up(y, top)
        if count > 1 and (level == limits[0] or level == limits[1]):
            return True
    return False


@njit(nogil=True, cache=True, error_model="numpy")
def fit_window(y, t, even, model, p, q, bounds, grid, gram, limits, row):
    """Fit one window.

    Parameters
    ----------
    y, t, even
        Samples, their times since the first one, and whether these are 0, 1, 2, ...  Shape (n,).
    model
        ``DOUBLE`` or ``STRETCHED``.
    p, q, bounds, grid, gram
        From :func:`nodes_of` and :func:`fill_grid`, and the products of the rows of the grid.
    limits
        From :func:`.ceilings.limits_of`.
    row
        Gets ``FIRST`` ... ``PHI``; NaN where there is no fit.  Shape (12,).

    Returns
    -------
    ``FIT_OK`` ... ``OUTLIER``; the row is filled in with the last two, too.
    """
    row[:] = math.nan
    n_linear = 2 if model == DOUBLE else 1
    n = y.size
    if n < n_linear + 4:
        return TOO_FEW
    for k in range(n):
        if not math.isfinite(y[k]):
            return NOT_FINITE
        if abs(y[k]) >= OVERFLOW:
            return MARKED
    relative = y - y[0]
    mean = np.mean(relative)
    yc = relative - mean
    if not np.dot(yc, yc) > 0.0:
        return FLAT
    gain = np.empty((p.size, q.size))
    gains(yc, model, grid, gram, gain.shape, gain)
    starts = np.empty((MOST_STARTS, 2), np.int64)
    found = best_starts(gain, starts)
    work = np.empty((8, n))
    best = math.inf, math.nan, math.nan
    for i in range(found):
        at_p, at_q, rss = refine(yc, t, even, model, p[starts[i, 0]], q[starts[i, 1]], bounds, work)
        if rss < best[0]:
            best = rss, at_p, at_q
    if not best[0] < math.inf:
        return NO_OPTIMUM
    fill_row(yc, t, even, model, best[1], best[2], work, row)
    if model == DOUBLE and not (
        row[SE_FIRST] < KNOWN * row[FIRST] and row[SE_SECOND] < KNOWN * row[SECOND]
    ):
        for which in range(2):
            best = search_valley(yc, t, even, p, gain, bounds, which, best, work)
        fill_row(yc, t, even, model, best[1], best[2], work, row)
    row[OFFSET] += y[0] + mean
    if model == STRETCHED:
        # The switch is somewhere between two samples.
        earlier = t + (t[1] - t[0])
        other_p, other_q, _ = refine(
            yc, earlier, False, model, best[1], best[2], bounds, np.empty((8, n))
        )
        row[SE_FIRST] = math.hypot(row[SE_FIRST], math.exp(other_p) - row[FIRST])
        row[SE_SECOND] = math.hypot(row[SE_SECOND], math.exp(other_q) - row[SECOND])
    if is_clipped(y, limits):
        return CLIPPED
    return OUTLIER if has_outlier(work[7], n_linear + 3) else FIT_OK


@njit(nogil=True, cache=True, error_model="numpy")
def fit_model(y, t, starts, lengths, model, rows, codes):
    """Fit windows of one trace; a result does not depend on what else is in the call.

    Parameters
    ----------
    y
        Trace.  Shape (n_samples,).
    t
        Times of the samples in any unit, increasing; shape (0,) stands for 0, 1, 2, ...
    starts, lengths
        First samples and lengths of the windows; one of length 0 is left out.  Shape (W,), int64.
    model
        ``DOUBLE`` or ``STRETCHED``.
    rows, codes
        Get the fits and how each ended.  Shapes (W, 12) and (W,).
    """
    limits = limits_of(y)
    p, q, bounds = nodes_of(np.arange(8.0), model)
    grid = np.empty((0, 0))
    gram = np.empty((0, 0))
    even = t.size == 0
    length = 0
    for w in range(starts.size):
        n = lengths[w]
        if n < 6:
            codes[w] = TOO_FEW
            continue
        a = starts[w]
        times = np.arange(float(n)) if even else t[a : a + n] - t[a]
        # Uneven samples have a grid of their own in every window.
        if not even or n != length:
            p, q, bounds = nodes_of(times, model)
            grid = np.empty((p.size if model == DOUBLE else p.size * q.size, n))
            fill_grid(times, even, model, p, q, grid)
            gram = np.dot(grid, grid.T) if model == DOUBLE else grid[:0]
            length = n
        codes[w] = fit_window(
            y[a : a + n], times, even, model, p, q, bounds, grid, gram, limits, rows[w]
        )
