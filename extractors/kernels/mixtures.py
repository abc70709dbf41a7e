"""Two exponentials with a constant, and a stretched one: the best of all time constants.

Two unknowns are left where amplitudes are eliminated (:mod:`.downhill`).  A grid of them is tried
whole, and from its best maxima on, steps lead to the optimum.  The grid is equally spaced in the
arc that a normalised exponential goes through (:mod:`.tau_grid`).  Where the time constants are not
well known, minima lie along the valley in which two of them balance each other, and it is searched
along both.

Dimension letters: n samples of a window, K nodes.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from oectflow.extractors.kernels.ceilings import limits_of, pile_up
from oectflow.extractors.kernels.downhill import (
    DOUBLE,
    LEAST_APART,
    STRETCHED,
    decompose,
    fill_columns,
    project,
    refine,
    solve,
)
from oectflow.extractors.kernels.exponential import EITHER, fit_exponential
from oectflow.extractors.kernels.exponential import N_COLUMNS as N_OF_ONE
from oectflow.extractors.kernels.exponential import R2 as R2_OF_ONE
from oectflow.extractors.kernels.gate import OVERFLOW
from oectflow.extractors.kernels.residuals import OUTLIER_SAMPLES, OUTLIER_T
from oectflow.extractors.kernels.tau_grid import TAU_MAX, TAU_MIN, node_rates

#: Columns of a fit: the two unknowns, of two exponentials the faster one first, or tau and beta;
#: their amplitudes, of which a stretched one has the first; standard errors of all; variance and
#: correlation of neighbouring residuals.  Times are in those of the samples.
FIRST, SECOND, A_1, A_2, OFFSET, SE_FIRST, SE_SECOND, SE_A_1, SE_A_2, R2, RSS, PHI = range(12)
N_COLUMNS = 12
#: Exponents that are searched, and their number.
BETA_MIN, BETA_MAX, N_BETA = 0.2, 2.0, 8
#: Arc between the nodes, in rad.
MESH = 0.15
#: Maxima of the grid that are refined.
MOST_STARTS = 6
#: Shares of both time constants of their standard errors below which there is one minimum.
KNOWN = 0.05
#: What a window has told.
FIT_OK, TOO_FEW, NOT_FINITE, FLAT, NO_OPTIMUM, MARKED, CLIPPED, OUTLIER = range(8)


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


@njit(nogil=True, cache=True, error_model="numpy")
def fit_one(y, t, starts, lengths, r2):
    """Fill in R2 of one exponential on all samples of each window; arguments of :func:`fit_model`.

    NaN where there is none.  Fits that leave samples out are of another window, so to say.
    """
    row = np.empty(N_OF_ONE)
    for w in range(starts.size):
        a, n = starts[w], lengths[w]
        times = t if t.size == 0 else t[a : a + n] - t[a]
        fit_exponential(y[a : a + n], times, EITHER, math.nan, row)
        r2[w] = row[R2_OF_ONE]
