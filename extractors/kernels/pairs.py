"""Two exponentials with a constant: windows of one length, many of them side by side.

All local maxima of the grid are starts (:mod:`.pair_starts`), ways lead from them to optima
(:mod:`.pair_search`), and the best of these is worked out from the samples (:mod:`.pair_fits`).
Where time constants are not well known, other optima are looked for along the valley in which two
of them balance each other, as :func:`.mixtures.search_valley` says.  What is in doubt goes the way
of a single window (:mod:`.mixtures`).  A result does not depend on what else is in the call.

Dimension letters: n samples of a window, r coordinates, K nodes.
"""

from __future__ import annotations

import math

import numpy as np

from oectflow.extractors.kernels import pair_fits as fits
from oectflow.extractors.kernels.ceilings import limits_of
from oectflow.extractors.kernels.compiled import borrowing, kernel
from oectflow.extractors.kernels.downhill import DOUBLE, LEAST_APART, ROUNDING, refine
from oectflow.extractors.kernels.gate import OVERFLOW
from oectflow.extractors.kernels.mixtures import (
    A_1,
    A_2,
    CLIPPED,
    EXACT,
    FIRST,
    FIT_OK,
    KNOWN,
    MOST_STARTS,
    NOWHERE,
    OFFSET,
    OUTLIER,
    PHI,
    R2,
    ROUGHLY,
    RSS,
    SE_A_1,
    SE_A_2,
    SE_FIRST,
    SE_SECOND,
    SECOND,
    fill_best,
    fit_window,
    gains,
    has_outlier,
    is_clipped,
    is_far,
    work_space,
)
from oectflow.extractors.kernels.pair_search import go_down
from oectflow.extractors.kernels.pair_starts import (
    HIGHEST,
    LANES,
    LARGEST,
    MEAN,
    N_ABOUT,
    SMALLEST,
    TOTAL,
    centre,
    fill_gains,
    find_maxima,
    multiply,
    start_space,
)

#: Windows that are searched together, a multiple of the lanes.
BLOCK = 64
#: Share of the sum of squares that a way may miss: the samples give the rest.
NEARLY = 1e-11
#: Sums of squares are still compared where less than this share of them is rounding; one that is so
#: many times larger than another has no optimum near.
TOO_DOUBTFUL, HOPELESS = 1e-2, 100.0
#: Number of unknowns, with the constant.
_N_UNKNOWNS = 5


@borrowing
def make_sure(c, t, bounds, starts, table, work, ends):
    """Go the doubtful ways of a window again, on residuals.

    Parameters
    ----------
    c, t, table, work
        As :func:`.downhill.refine` takes them.
    bounds, starts, ends
        Of the ways, as in :func:`.pair_search.go_down`.
    """
    least = math.inf
    for j in range(starts.shape[0]):
        if ends[j, 3] == 0.0:
            least = min(least, ends[j, 2])
    for j in range(starts.shape[0]):
        if ends[j, 3] == 0.0:
            continue
        if ends[j, 3] < TOO_DOUBTFUL and ends[j, 2] > HOPELESS * least:
            continue
        ends[j, 0], ends[j, 1], ends[j, 2] = refine(
            c, t, True, DOUBLE, starts[j, 0], starts[j, 1], bounds[j], table, work, NOWHERE,
            ROUNDING,
        )  # fmt: skip


@kernel
def fill_held(gain, nodes, bounds, starts, held, kinds):
    """Fill in ways along which one time constant is held at a node; return how many there are.

    Parameters
    ----------
    gain
        What pairs of nodes explain.  Shape (K, K).
    nodes, bounds
        ``ln tau`` of the nodes, and the least and greatest ones.
    starts, held, kinds
        Get the ways, their bounds, and which time constant is held at which node: i for the faster
        one, K + i for the slower one.  Shapes (T, 2), (T, 2, 2) and (T,).
    """
    found = 0
    for which in range(2):
        of_nodes = gain if which == 0 else gain.T
        for i in range(nodes.size):
            for j in range(nodes.size):
                top = of_nodes[i, j]
                if (
                    not top > -math.inf
                    or (j > 0 and of_nodes[i, j - 1] > top)
                    or (j + 1 < nodes.size and of_nodes[i, j + 1] > top)
                ):
                    continue
                starts[found, which], starts[found, 1 - which] = nodes[i], nodes[j]
                held[found] = bounds
                held[found, which] = nodes[i]
                if which == 0:
                    held[found, 1, 0] = min(nodes[i] + LEAST_APART, bounds[1, 1])
                else:
                    held[found, 0, 1] = max(nodes[i] - LEAST_APART, bounds[0, 0])
                kinds[found] = which * nodes.size + i
                found += 1
    return found


@kernel
def fill_lowest(kinds, ends, nodes, lowest):
    """Fill in where, along the valley, less is left than at both sides; return how often."""
    found = 0
    least, other = np.empty(nodes.size + 2), np.empty(nodes.size)
    for which in range(2):
        least[:] = math.inf
        for j in range(kinds.size):
            i = kinds[j] - which * nodes.size
            if 0 <= i < nodes.size and ends[j, 2] < least[i + 1]:
                least[i + 1], other[i] = ends[j, 2], ends[j, 1 - which]
        for i in range(nodes.size):
            if least[i + 1] < math.inf and least[i] >= least[i + 1] <= least[i + 2]:
                lowest[found, which] = nodes[i]
                lowest[found, 1 - which] = other[i]
                found += 1
    return found


@borrowing
def take_best(j, first_way, c, t, boxes, ways, ends, space, work, best):
    """Take the best end of the ways of window ``j``; tell whether it is better than before."""
    a, b = first_way[j], first_way[j + 1]
    doubtful = False
    for k in range(a, b):
        doubtful |= ends[k, 3] != 0.0
    if doubtful:
        make_sure(c[j], t, boxes[a:b], ways[a:b], (space[1], space[2]), work, ends[a:b])
    before = best[j, 0]
    for k in range(a, b):
        if ends[k, 2] < best[j, 0]:
            best[j, 0], best[j, 1], best[j, 2] = ends[k, 2], ends[k, 0], ends[k, 1]
    return best[j, 0] < before


@borrowing
def copy_lane(w, lane, about, first, n, row):
    """Copy the fit of a lane to its row; tell how it ended."""
    total, rss = about[TOTAL * LANES + lane], w[fits.RSS * LANES + lane]
    row[FIRST] = math.exp(w[fits.P * LANES + lane])
    row[SECOND] = math.exp(w[fits.Q * LANES + lane])
    row[A_1], row[A_2] = w[fits.A_1 * LANES + lane], w[fits.A_2 * LANES + lane]
    row[OFFSET] = w[fits.OFFSET * LANES + lane] + (first + about[MEAN * LANES + lane])
    row[SE_FIRST] = w[fits.SE_P * LANES + lane] * row[FIRST]
    row[SE_SECOND] = w[fits.SE_Q * LANES + lane] * row[SECOND]
    row[SE_A_1], row[SE_A_2] = w[fits.SE_1 * LANES + lane], w[fits.SE_2 * LANES + lane]
    row[R2], row[RSS], row[PHI] = 1.0 - rss / total, rss, w[fits.PHI * LANES + lane]
    far = is_far(w[fits.WORST * LANES + lane], rss, n, _N_UNKNOWNS)
    return OUTLIER if far else FIT_OK


@borrowing
def is_known(row):
    """Tell whether both time constants are known so well that there is no other optimum."""
    return row[SE_FIRST] < KNOWN * row[FIRST] and row[SE_SECOND] < KNOWN * row[SECOND]


@kernel
def finish(yt, about, y, starts, chosen, t, bounds, best, w, work, rows, codes):
    """Work out the fits of up to ``LANES`` windows from their samples.

    Parameters
    ----------
    yt, about
        From :func:`.pair_starts.centre`, of the windows that are ``chosen``.
    y, starts, t, bounds, rows, codes
        As in :func:`fit_pairs`.
    chosen
        Indices of the windows.
    best
        For each window, the least sum of squares that is known, and where it is.  Shape (W, 3).
    w, work
        Work spaces of :mod:`.pair_fits` and of :func:`.downhill.refine`.
    """
    n = t.size
    for i in range(LANES):
        of = chosen[min(i, chosen.size - 1)]
        for k in range(2):
            w[(fits.P + k) * LANES + i] = best[of, 1 + k]
            w[(fits.P_LOW + 2 * k) * LANES + i] = bounds[k, 0]
            w[(fits.P_HIGH + 2 * k) * LANES + i] = bounds[k, 1]
        w[fits.TOTAL * LANES + i] = about[TOTAL * LANES + i]
    fits.settle(yt, n, w)
    fits.errors(n, w, EXACT)
    fits.step_on(n, w)
    for i in range(chosen.size):
        of, a = chosen[i], starts[chosen[i]]
        if w[fits.STATE * LANES + i] == 1.0:
            codes[of] = copy_lane(w, i, about, y[a], n, rows[of])
            continue
        yc = np.empty(n)
        for k in range(n):
            yc[k] = yt[k * LANES + i]
        at = best[of, 0], best[of, 1], best[of, 2]
        fill_best(yc, t, True, DOUBLE, bounds, at, work, rows[of])
        rows[of, OFFSET] += y[a] + about[MEAN * LANES + i]
        codes[of] = OUTLIER if has_outlier(work[0][7], _N_UNKNOWNS) else FIT_OK


@kernel
def fit_pairs(y, starts, nodes, bounds, grid, gram, space, powers, rows, codes):
    """Fit two exponentials to windows of one length, of even samples.

    Parameters
    ----------
    y, starts, rows, codes
        As in :func:`.mixtures.fit_model`.
    nodes, bounds, grid, gram, space
        As :func:`.mixtures.fit_window` takes them, of this length.
    powers
        Table of :mod:`.pair_search`.  Shape (cells, r, 8).
    """
    limits = limits_of(y)
    basis, _, low = space
    (n, r), n_nodes = basis.shape, nodes.size
    t = np.arange(float(n))
    by_node = np.ascontiguousarray(grid.T)
    work, work_of_c = work_space(n), work_space(r)
    w = np.zeros(fits.ROWS * LANES)
    coordinates, products, sums, gain, highest, marks = start_space(r, n_nodes)
    by_lane = products.reshape(n_nodes, LANES)
    yt, about = np.empty((BLOCK // LANES, n * LANES)), np.empty((BLOCK // LANES, N_ABOUT * LANES))
    c, total, sound = np.empty((BLOCK, r)), np.empty(BLOCK), np.empty(BLOCK, np.bool_)
    begun, maxima = np.empty((LANES, MOST_STARTS, 2), np.int64), np.empty(LANES, np.int64)
    most = BLOCK * max(MOST_STARTS, 2 * n_nodes)
    lowest = np.empty((2 * n_nodes, 2))
    of, ways = np.empty(most, np.int64), np.empty((most, 2))
    boxes, ends = np.empty((most, 2, 2)), np.empty((most, 4))
    for j in range(most):
        boxes[j] = bounds
    best, begins = np.empty((BLOCK, 3)), np.empty(LANES, np.int64)
    first_way = np.empty(BLOCK + 1, np.int64)
    chosen = np.empty(LANES, np.int64)
    # Along the valley; a node has fewer maxima than every second one of the other.
    explained = np.empty((n_nodes, n_nodes))
    most = min(BLOCK, starts.size) * n_nodes * n_nodes
    held_starts, held, held_ends = np.empty((most, 2)), np.empty((most, 2, 2)), np.empty((most, 4))
    of_held, kinds = np.empty(most, np.int64), np.empty(most, np.int64)
    first_held = np.empty(BLOCK + 1, np.int64)
    for block in range(0, starts.size, BLOCK):
        here = min(BLOCK, starts.size - block)
        of_block = starts[block : block + here]
        of_rows, of_codes = rows[block : block + here], codes[block : block + here]
        found = 0
        for group in range(0, here, LANES):
            g = group // LANES
            for i in range(LANES):
                begins[i] = of_block[min(group + i, here - 1)]
            centre(y, begins, n, yt[g], about[g])
            multiply(yt[g], basis, r, n, sums, coordinates)
            multiply(coordinates, by_node, n_nodes, r, sums, products)
            fill_gains(by_lane, gram, n_nodes, gain)
            find_maxima(gain, True, highest, marks, begun, maxima)
            for i in range(min(LANES, here - group)):
                j = group + i
                sound[j] = (
                    SMALLEST < about[g, TOTAL * LANES + i] < LARGEST
                    and about[g, HIGHEST * LANES + i] < OVERFLOW
                )
                first_way[j] = found
                # Noise has a part that no exponential has: it is nowhere on a way.
                total[j] = 0.0
                for k in range(r):
                    c[j, k] = coordinates[k * LANES + i]
                    total[j] += c[j, k] * c[j, k]
                for k in range(maxima[i] if sound[j] else 0):
                    of[found] = j
                    ways[found, 0] = nodes[begun[i, k, 0]]
                    ways[found, 1] = nodes[begun[i, k, 1]]
                    found += 1
        first_way[here] = found
        go_down(
            c, total, powers, low, n, of[:found], ways[:found], boxes[:found], NEARLY,
            ends[:found],
        )  # fmt: skip
        for j in range(here):
            best[j] = math.inf, math.nan, math.nan
            sound[j] &= take_best(j, first_way, c, t, boxes, ways, ends, space, work_of_c, best)
        for group in range(0, here, LANES):
            g = group // LANES
            for i in range(LANES):
                chosen[i] = group + i
            some = chosen[: min(LANES, here - group)]
            finish(yt[g], about[g], y, of_block, some, t, bounds, best, w, work, of_rows, of_codes)
        found = 0
        for j in range(here):
            first_held[j] = found
            if not sound[j]:
                a = of_block[j]
                of_codes[j] = fit_window(
                    y[a : a + n], t, True, DOUBLE, nodes, nodes, bounds, grid, gram, space,
                    limits, of_rows[j],
                )  # fmt: skip
            elif not is_known(of_rows[j]):
                gains(c[j], DOUBLE, grid, gram, explained.shape, explained)
                n_held = fill_held(
                    explained, nodes, bounds, held_starts[found:], held[found:], kinds[found:]
                )
                of_held[found : found + n_held] = j
                found += n_held
        first_held[here] = found
        # The ways of all windows at once: those of one would leave lanes idle.
        go_down(
            c, total, powers, low, n, of_held[:found], held_starts[:found], held[:found], ROUGHLY,
            held_ends[:found],
        )  # fmt: skip
        found = 0
        for j in range(here):
            first_way[j] = found
            a, b = first_held[j], first_held[j + 1]
            if b > a:
                make_sure(
                    c[j], t, held[a:b], held_starts[a:b], (space[1], low), work_of_c, held_ends[a:b]
                )
                n_lowest = fill_lowest(kinds[a:b], held_ends[a:b], nodes, lowest)
                ways[found : found + n_lowest] = lowest[:n_lowest]
                of[found : found + n_lowest] = j
                found += n_lowest
        first_way[here] = found
        go_down(
            c, total, powers, low, n, of[:found], ways[:found], boxes[:found], NEARLY,
            ends[:found],
        )  # fmt: skip
        again = 0
        for j in range(here):
            if take_best(j, first_way, c, t, boxes, ways, ends, space, work_of_c, best):
                chosen[again] = j
                begins[again] = of_block[j]
                again += 1
            if again == LANES or (again and j == here - 1):
                begins[again:] = begins[0]
                centre(y, begins, n, yt[0], about[0])
                finish(
                    yt[0], about[0], y, of_block, chosen[:again], t, bounds, best, w, work,
                    of_rows, of_codes,
                )  # fmt: skip
                again = 0
        if not (math.isnan(limits[0]) and math.isnan(limits[1])):
            for j in range(here):
                a = of_block[j]
                if sound[j] and is_clipped(y[a : a + n], limits):
                    of_codes[j] = CLIPPED
