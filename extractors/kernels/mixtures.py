"""Two exponentials with a constant, and a stretched one: the best of all time constants.

Two unknowns are left after amplitudes are eliminated (:mod:`.downhill`).  A whole grid of them is
tried, and steps lead from its best maxima to the optimum.  The grid is equally spaced in the
arc that a normalised exponential goes through (:mod:`.tau_grid`).  Two exponentials of even samples
are searched in coordinates (:mod:`.downhill`), and the optimum is worked out from the samples.
Where the time constants are not well known, minima lie along the valley in which two of them
balance each other.  The valley is searched along both of them.

Dimension letters: n samples of a window, K nodes.
"""

from __future__ import annotations

import math

import numpy as np

from oectflow.extractors.kernels.ceilings import limits_of, pile_up
from oectflow.extractors.kernels.compiled import borrowing, kernel
from oectflow.extractors.kernels.coordinates import in_coordinates, no_table
from oectflow.extractors.kernels.downhill import (
    DOUBLE,
    LEAST_APART,
    ROUNDING,
    STRETCHED,
    clock_of,
    decompose,
    derivative_products,
    fill_columns,
    products,
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

#: Columns of a fit: the two unknowns (time constants, the faster one first, or tau and beta); the
#: amplitudes, of which a stretched exponential has only the first; the offset; standard errors of
#: unknowns and amplitudes; R2; the sum of squares of the residuals, and the correlation of
#: neighbouring ones.  Times are in those of the samples.
FIRST, SECOND, A_1, A_2, OFFSET, SE_FIRST, SE_SECOND, SE_A_1, SE_A_2, R2, RSS, PHI = range(12)
N_COLUMNS = 12
#: Exponents that are searched, and their number.
BETA_MIN, BETA_MAX, N_BETA = 0.2, 2.0, 8
#: Arc between the nodes, in rad.
MESH = 0.15
#: Maxima of the grid that are refined.
MOST_STARTS = 6
#: Where both standard errors are below this share of their time constants, there is one minimum.
KNOWN = 0.05
#: Share of a sum of squares to within which points of the valley are compared.
ROUGHLY = 1e-8
#: Share of the sum of squares that an exact fit leaves, at most.
EXACT = 1e-26
#: No known minimum.
NOWHERE = (math.nan, math.nan)
#: How a window ended.
FIT_OK, TOO_FEW, NOT_FINITE, FLAT, NO_OPTIMUM, MARKED, CLIPPED, OUTLIER = range(8)


@kernel
def work_space(n):
    """Return the work space of :func:`.downhill.refine`."""
    return np.empty((8, n)), np.zeros(14)


@kernel
def nodes_of(t, model):
    """Return the nodes of the grid: ``p`` and ``q`` of each, and their bounds.

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


@kernel
def fill_grid(t, even, model, p, q, grid):
    """Fill in the normalised functions at the nodes; a stretched one has one for each pair.

    ``grid`` has the shape (K, n), or (K * 8, n).
    """
    columns = np.empty((7, t.size))
    clock = clock_of(t, model)
    table = no_table()
    for i in range(p.size):
        for j in range(1 if model == DOUBLE else q.size):
            # For two exponentials, the second one is not looked at.
            other = p[i] + 1.0 if model == DOUBLE else q[j]
            fill_columns(clock, even, model, p[i], other, table, columns)
            norm = math.sqrt(np.dot(columns[0], columns[0]))
            row = grid[i if model == DOUBLE else i * q.size + j]
            row[:] = 0.0
            if norm > 0.0:
                row += columns[0] / norm


@kernel
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


@kernel
def best_starts(gain, starts):
    """Fill in the greatest of the local maxima; return how many there are, at most (6, 2)."""
    found = 0
    for i in range(gain.shape[0]):
        for j in range(gain.shape[1]):
            top = gain[i, j]
            # Most are less than a neighbour in their row.
            if (
                not top > -math.inf
                or (j > 0 and gain[i, j - 1] > top)
                or (j + 1 < gain.shape[1] and gain[i, j + 1] > top)
            ):
                continue
            highest = True
            for k in (i - 1, i + 1):
                if 0 <= k < gain.shape[0]:
                    for m in range(max(j - 1, 0), min(j + 2, gain.shape[1])):
                        highest &= not gain[k, m] > top
            if not highest:
                continue
            # Sort it in, the greatest first.
            at = min(found, starts.shape[0] - 1)
            if found == starts.shape[0] and gain[starts[at, 0], starts[at, 1]] >= top:
                continue
            while at > 0 and gain[starts[at - 1, 0], starts[at - 1, 1]] < top:
                starts[at] = starts[at - 1]
                at -= 1
            starts[at] = i, j
            found = min(found + 1, starts.shape[0])
    return found


@kernel
def standard_errors(model, columns, alpha, residual, total, row):
    """Fill in the standard errors and the correlation of neighbouring residuals.

    ``total`` is the sum of squares of the window.  The errors follow from the Jacobian at the
    optimum; slowly varying parameters have variances larger by ``(1 + phi) / (1 - phi)`` where
    residuals are autoregressive (see :mod:`.residuals`).
    """
    n_linear = 2 if model == DOUBLE else 1
    n = residual.size
    ff, fg, gg, _, _ = products(residual, columns[0], columns[n_linear - 1])
    uu, uv, vv, uf, ug, vf, vg, _, _, _, _, _ = derivative_products(columns, n_linear, residual)
    a, b = alpha[0], alpha[n_linear - 1]
    # The products of the functions and of the derivatives by both unknowns, lower triangle.
    factor = np.empty((4, 4))
    factor[0, 0] = ff
    factor[n_linear - 1, 0], factor[n_linear - 1, n_linear - 1] = fg, gg
    factor[n_linear, 0], factor[n_linear, n_linear - 1] = a * uf, a * ug
    factor[n_linear, n_linear] = a * a * uu
    last = n_linear + 1
    factor[last, 0], factor[last, n_linear - 1] = b * vf, b * vg
    factor[last, n_linear], factor[last, last] = a * b * uv, b * b * vv
    errors_of_products(factor, n_linear, n, neighbours(residual), total, row)


@kernel
def errors_of_products(factor, n_linear, n, near, total, row):
    """Fill in what :func:`standard_errors` does, from known products.

    Parameters
    ----------
    factor
        Products of the functions and of their derivatives by both unknowns, lower triangle;
        overwritten.
    n_linear, n
        Number of functions, and of samples.
    near, total
        Sum of the products of neighbouring residuals, and sum of squares of the window.
    row
        Holds the unknowns and ``RSS``.
    """
    n_columns = n_linear + 2
    rss = row[RSS]
    # What rounding leaves is no noise.
    phi = near / rss if rss > EXACT * total else 0.0
    # Fitting pushes the correlation down.
    phi = min(max(phi + (n_columns + 2.0 * n_columns * max(phi, 0.0)) / n, 0.0), 0.99)
    row[PHI] = phi
    variance = rss / (n - n_columns - 1) * (1.0 + phi) / (1.0 - phi)
    if not decompose(factor, n_columns):
        row[SE_FIRST : SE_A_2 + 1] = math.inf
        return
    unit, solved = np.zeros(n_columns), np.empty(n_columns)
    for i in range(n_columns):
        unit[:] = 0.0
        unit[i] = 1.0
        solve(factor, unit, n_columns, solved)
        error = math.sqrt(variance * solved[i])
        if i >= n_linear:
            row[SE_FIRST + i - n_linear] = error * row[FIRST + i - n_linear]
        else:
            row[SE_A_1 + i] = error


@borrowing
def neighbours(y):
    """Return the sum of the products of neighbouring samples."""
    total = 0.0
    for k in range(1, y.size):
        total += y[k] * y[k - 1]
    return total


@kernel
def search_valley(y, t, even, p, gain, bounds, table, which, best, work):
    """Look for other minima along the valley in which two time constants balance each other.

    The valley is narrower than the grid where there is little noise.  For every node of one time
    constant, the best values of the other are found; where less is left than at both neighbours,
    both time constants are refined.

    Parameters
    ----------
    y, t, even, bounds, table, work
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
            end_p, end_q, rss = refine(
                y, t, even, DOUBLE, begin_p, begin_q, held, table, work, NOWHERE, ROUGHLY
            )
            if rss < least[i + 1]:
                least[i + 1], other[i] = rss, end_q if which == 0 else end_p
    for i in range(n_nodes):
        if least[i + 1] < math.inf and least[i] >= least[i + 1] <= least[i + 2]:
            begin_p, begin_q = (p[i], other[i]) if which == 0 else (other[i], p[i])
            known = best[1], best[2]
            new_p, new_q, rss = refine(
                y, t, even, DOUBLE, begin_p, begin_q, bounds, table, work, known, ROUNDING
            )
            if rss < best[0]:
                best = rss, new_p, new_q
    return best


@kernel
def fill_row(y, t, even, model, p, q, work, row):
    """Fill in a fit: the unknowns, the amplitudes, and how well they are known."""
    n_linear = 2 if model == DOUBLE else 1
    long, short = work
    columns, residual = long[:7], long[7]
    alpha, factor = short[0:2], short[6:10].reshape(2, 2)
    fill_columns(t, even, model, p, q, no_table(), columns)
    rss = project(y, columns, n_linear, factor, alpha, residual)
    row[FIRST], row[SECOND] = math.exp(p), math.exp(q)
    row[OFFSET] = 0.0
    for i in range(n_linear):
        row[A_1 + i] = alpha[i]
        # A centred function begins with minus its mean, where it was 0.
        row[OFFSET] += alpha[i] * columns[i, 0] - alpha[i]
    total = np.dot(y, y)
    row[R2], row[RSS] = 1.0 - rss / total, rss
    standard_errors(model, columns, alpha, residual, total, row)


@kernel
def fill_best(y, t, even, model, bounds, best, work, row):
    """Fill in the best fit, after the last digits of its unknowns are found in the samples."""
    p, q, _ = refine(
        y, t, even, model, best[1], best[2], bounds, no_table(), work, NOWHERE, ROUNDING
    )
    fill_row(y, t, even, model, p, q, work, row)


@borrowing
def has_outlier(residual, n_unknowns):
    """Tell whether one residual is far beyond all others."""
    n = residual.size
    worst = total = 0.0
    for k in range(n):
        square = residual[k] * residual[k]
        worst = max(worst, square)
        total += square
    return is_far(worst, total, n, n_unknowns)


@borrowing
def is_far(worst, total, n, n_unknowns):
    """Tell whether the largest square of residuals is far beyond all others."""
    if n < OUTLIER_SAMPLES + n_unknowns:
        return False
    others = (total - worst) / (n - n_unknowns - 1)
    # Student's distribution has longer tails where there are few samples.
    return worst > others * (OUTLIER_T * (1.0 + 8.0 / (n - n_unknowns))) ** 2


@borrowing
def is_clipped(y, limits):
    """Tell whether a window ends at a level at which the samples of the step pile up."""
    if math.isnan(limits[0]) and math.isnan(limits[1]):
        return False
    for top in (True, False):
        level, count, _ = pile_up(y, top)
        if count > 1 and (level == limits[0] or level == limits[1]):
            return True
    return False


@kernel
def fit_window(y, t, even, model, p, q, bounds, grid, gram, space, limits, row):
    """Fit one window.

    Parameters
    ----------
    y, t, even
        Samples, their times since the first one, and whether these are 0, 1, 2, ...  Shape (n,).
    model
        ``DOUBLE`` or ``STRETCHED``.
    p, q, bounds, grid, gram
        From :func:`nodes_of` and :func:`fill_grid`, and the products of the rows of the grid.
    space
        Basis of the coordinates in which the grid is, shape (n, r), cells of a table and where they
        begin; n = 0 and no cells where the grid is in samples.
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
    yc = y - y[0]
    mean = np.mean(yc)
    yc -= mean
    if not np.dot(yc, yc) > 0.0:
        return FLAT
    work, clock = work_space(n), clock_of(t, model)
    basis, cells, low = space
    table = cells, low
    # The search is in coordinates, or in samples.
    c, there = yc, work
    if basis.shape[0]:
        c, there = np.empty(basis.shape[1]), work_space(basis.shape[1])
        in_coordinates(yc, basis, c)
    gain = np.empty((p.size, q.size))
    gains(c, model, grid, gram, gain.shape, gain)
    starts = np.empty((MOST_STARTS, 2), np.int64)
    found = best_starts(gain, starts)
    best = math.inf, math.nan, math.nan
    for i in range(found):
        begin_p, begin_q = p[starts[i, 0]], q[starts[i, 1]]
        known = best[1], best[2]
        at_p, at_q, rss = refine(
            c, clock, even, model, begin_p, begin_q, bounds, table, there, known, ROUNDING
        )
        if rss < best[0]:
            best = rss, at_p, at_q
    if not best[0] < math.inf:
        return NO_OPTIMUM
    fill_best(yc, clock, even, model, bounds, best, work, row)
    if model == DOUBLE and not (
        row[SE_FIRST] < KNOWN * row[FIRST] and row[SE_SECOND] < KNOWN * row[SECOND]
    ):
        for which in range(2):
            best = search_valley(c, clock, even, p, gain, bounds, table, which, best, there)
        fill_best(yc, clock, even, model, bounds, best, work, row)
    row[OFFSET] += y[0] + mean
    if is_clipped(y, limits):
        return CLIPPED
    code = OUTLIER if has_outlier(work[0][7], n_linear + 3) else FIT_OK
    if model == STRETCHED:
        # The switch is somewhere between two samples.
        earlier = clock_of(t + (t[1] - t[0]), model)
        other_p, other_q, _ = refine(
            yc, earlier, False, model, best[1], best[2], bounds, table, work, NOWHERE, ROUNDING
        )
        row[SE_FIRST] = math.hypot(row[SE_FIRST], math.exp(other_p) - row[FIRST])
        row[SE_SECOND] = math.hypot(row[SE_SECOND], math.exp(other_q) - row[SECOND])
    return code


@kernel
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
    cells, low = no_table()
    samples = np.empty((0, 0)), cells, low
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
            y[a : a + n], times, even, model, p, q, bounds, grid, gram, samples, limits, rows[w]
        )


@kernel
def fit_one(y, t, starts, lengths, r2):
    """Fill in R2 of one exponential on all samples of each window; arguments of :func:`fit_model`.

    NaN where there is none.  No samples are left out: that would make it another window, so to say.
    """
    row = np.empty(N_OF_ONE)
    for w in range(starts.size):
        a, n = starts[w], lengths[w]
        times = t if t.size == 0 else t[a : a + n] - t[a]
        fit_exponential(y[a : a + n], times, EITHER, math.nan, row)
        r2[w] = row[R2_OF_ONE]
