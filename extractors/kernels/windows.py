"""Find the window of a trace that an exponential explains best.

Every window (start, length) is tried at every node of a grid in ``ln tau``; then ``tau`` is refined
in each window that can still win.  "Can still win" is a bound and not a guess:

Between nodes a correlation cannot rise above the sine arc through them by more than
:func:`.tau_grid.hidden`, so a window is dropped only if no ``tau`` at all could make it win.  The
windows that remain are seen once more at the ``tau`` of the one that leads (:mod:`.correlate`):
where all follow the same exponential, few of them are left to refine.

Dimension letters: n samples of a window, W starts, L lengths, K nodes.
"""

from __future__ import annotations

import math

import numpy as np

from oectflow.extractors.kernels.compiled import borrowing, kernel
from oectflow.extractors.kernels.correlate import BLOCK, bound_from, correlate_windows
from oectflow.extractors.kernels.exponential import (
    DECAY,
    FIT_OK,
    RISE,
    exponential_sums,
    refine,
    scale_window,
)
from oectflow.extractors.kernels.simd_fit import (
    FIRST_LOOK_ARC,
    LANES,
    fit_group,
    is_certain,
    lane_fit,
    lane_space,
)
from oectflow.extractors.kernels.tau_grid import (
    TAU_MAX,
    TAU_MIN,
    hidden,
    node_tables,
    sine_top,
)

#: Arc between two nodes, in rad.
ARC = 0.05
#: No window can beat an adjusted R2 this near to 1 by more than rounding.
PERFECT = 1e-13
#: So many windows are refined in the time of a look from one tau.
MANY = 64
#: Windows whose correlations are kept at a time: 48 MB.
ROOM = 2_000_000


@kernel
def search_tables(lengths):
    """Return the :func:`.tau_grid.node_tables` of the search and of the fits side by side."""
    return node_tables(lengths, ARC), node_tables(lengths, FIRST_LOOK_ARC)


@borrowing
def adjusted(c, n):
    """Return adjusted R2 of a window of ``n`` samples with correlation ``c``."""
    return 1.0 - (1.0 - c * c) * (n - 1) / (n - 4)


@borrowing
def min_corr(incumbent, n):
    """Return the correlation with which ``n`` samples reach an adjusted R2, at least 0."""
    return math.sqrt(max(0.0, 1.0 - (1.0 - incumbent) * (n - 4) / (n - 1)))


@borrowing
def refine_window(y, sign, rates, f, weight, incumbent, scaled, node):
    """Fit one window exactly, unless no fit of it can beat ``incumbent``.

    Parameters
    ----------
    y
        The window.  Shape (n,).
    sign
        ``DECAY`` or ``RISE``.
    rates, f, weight
        Nodes; ``weight`` of this length.  Shapes (K,), (longest, K), (K,).
    incumbent
        Adjusted R2 that it has to exceed.
    scaled, node
        Work space.  Shapes (>= n,), (K,).

    Returns
    -------
    Adjusted R2, -inf where there is no admissible fit above the incumbent; ``theta``; the change of
    the fitted curve within the window, in units of ``y``.
    """
    n = y.size
    yc = scaled[:n]
    _, unit, tss, code = scale_window(y, math.nan, yc)
    if code != FIT_OK:
        return -math.inf, math.nan, math.nan
    node[:] = 0.0
    for j in range(n):
        for k in range(rates.size):
            node[k] += f[j, k] * yc[j]
    norm = sign / math.sqrt(tss)
    for k in range(rates.size):
        node[k] *= weight[k] * norm
    last = rates.size - 1
    # Variables and not literals, for which numba would compile copies.
    even = free = n > 0
    best = min_corr(incumbent, n)
    best_at = math.nan
    change = 0.0
    for k in range(rates.size):
        if k > 0 and node[k - 1] > node[k]:
            continue
        if k < last and node[k + 1] >= node[k]:
            continue
        top = sine_top(node[max(k - 1, 0)], node[k], ARC)
        top = max(top, sine_top(node[k], node[min(k + 1, last)], ARC))
        if top + hidden(best, ARC) <= best:
            continue
        theta = refine(
            yc,
            yc,
            even,
            -math.log(rates[max(k - 1, 0)]),
            -math.log(rates[min(k + 1, last)]),
            -math.log(vertex_rate(rates, node, k)),
            sign,
            free,
            0.0,
        )
        sums = exponential_sums(yc, yc, even, math.exp(-theta), free, 0.0)
        c = sums[6] * norm / math.sqrt(sums[2])
        if c > best:
            best = c
            best_at = theta
            change = sums[6] / sums[2] * sums[9]
    if math.isnan(best_at) or at_edge(best_at, n):
        return -math.inf, math.nan, math.nan
    return adjusted(min(best, 1.0), n), best_at, abs(change) * unit


@borrowing
def vertex_rate(rates, node, k):
    """Return the rate at the vertex of the parabola through node ``k`` and its neighbours."""
    if k == 0 or k == rates.size - 1:
        return rates[k]
    bend = node[k - 1] - 2.0 * node[k] + node[k + 1]
    if not bend < 0.0:
        return rates[k]
    share = 0.5 * (node[k - 1] - node[k + 1]) / bend
    toward = k + 1 if share > 0.0 else k - 1
    share = min(abs(share), 0.5)
    # The arc between neighbours is short: a straight line in 1 / rate is near enough.
    return 1.0 / ((1.0 - share) / rates[k] + share / rates[toward])


@borrowing
def at_edge(theta, n):
    """Tell whether ``tau`` lies at an edge of the range for windows of ``n`` samples."""
    return theta <= math.log(TAU_MIN) + 1e-6 or theta >= math.log(TAU_MAX * n) - 1e-6


@borrowing
def normalise(correlations, tss, lengths):
    """Divide correlations by the norm of their window, and return the leader by adjusted R2.

    Returns
    -------
    Index of the length and of the start; (-1, -1) where no window has the right sign.
    """
    leader = -math.inf
    won = -1, -1
    for index in range(lengths.size):
        row = correlations[index]
        top = 0.0
        at = -1
        for s in range(row.size):
            c = 0.0
            if row[s] > 0.0 and tss[index, s] > 0.0:
                c = row[s] / math.sqrt(tss[index, s])
            row[s] = c
            if c > top:
                top = c
                at = s
        if at >= 0 and adjusted(min(top, 1.0), lengths[index]) > leader:
            leader = adjusted(min(top, 1.0), lengths[index])
            won = index, at
    return won


@borrowing
def set_bars(min_corrs, prune_below, lengths, incumbent):
    """Set, per length, the correlation that beats ``incumbent``, and what a node must have."""
    for index in range(lengths.size):
        c = min_corr(incumbent, lengths[index])
        min_corrs[index] = c
        prune_below[index] = max(0.0, (c - hidden(c, ARC)) * math.cos(0.5 * ARC))


@borrowing
def count_above(correlations, prune_below):
    """Return the number of windows that may still win by their nodes."""
    count = 0
    for index in range(prune_below.size):
        bar = prune_below[index]
        row = correlations[index]
        for s in range(row.size):
            count += row[s] > bar
    return count


@kernel
def best_window(
    y, first, last, start_step, lengths, tables, sign, correlations, tss, least_change, incumbent
):
    """Return the window with the largest adjusted R2 among those that were correlated.

    Parameters
    ----------
    y, first, last, start_step, lengths, tables, sign
        As in :func:`search_windows` and :func:`refine_window`.
    correlations, tss
        From :func:`correlate_windows`; ``correlations`` is overwritten with normalised ones.
    least_change
        Change of the fitted curve, in units of ``y``, that a window must hold.
    incumbent
        Adjusted R2 that it has to exceed.

    Returns
    -------
    Start, length (-1, -1 where no window is admissible), ``theta`` and adjusted R2.
    """
    (rates, f, weight, _), look = tables
    won = -1, -1, math.nan, incumbent
    leader = normalise(correlations, tss, lengths)
    if leader[0] < 0:
        return won
    n_starts = correlations.shape[1]
    scaled = np.empty(lengths[-1])
    node = np.empty(rates.size)
    space = lane_space(lengths[-1], look[0].size)
    starts = np.empty(LANES, np.int64)
    upper_bound = np.full(correlations.shape, math.inf)
    # The correlation that a window needs at its best, and at a node; one for each length.
    min_corrs = np.empty(lengths.size)
    prune_below = np.empty(lengths.size)
    set_bars(min_corrs, prune_below, lengths, incumbent)
    # The window that leads on the grid goes first, then the one that leads as seen from its tau:
    # they set a high bar for all others.
    for turn in range(-2, lengths.size):
        index = leader[0] if turn < 0 else turn
        n = lengths[index]
        s = leader[1] if turn < 0 else 0
        end = s + 1 if turn < 0 else n_starts
        while s < end:
            waiting = 0
            while s < end and waiting < LANES:
                at_nodes = correlations[index, s] > prune_below[index]
                if at_nodes and upper_bound[index, s] >= min_corrs[index]:
                    starts[waiting] = first + s * start_step
                    waiting += 1
                s += 1
            # A group costs as much as five single windows.
            lanes = waiting > 4
            if lanes:
                for i in range(waiting, LANES):
                    starts[i] = starts[0]
                fit_group(y, starts, n, sign, index, look, space)
            better = False
            for i in range(waiting):
                a = starts[i]
                if lanes and is_certain(space, i, n, sign, y[a]):
                    value, theta, change = lane_fit(space, i, n)
                else:
                    value, theta, change = refine_window(
                        y[a : a + n], sign, rates, f, weight[index], incumbent, scaled, node
                    )
                if value > incumbent and change >= least_change:
                    incumbent = value
                    won = a, n, theta, value
                    better = True
            if 1.0 - incumbent < PERFECT:
                return won
            if better:
                set_bars(min_corrs, prune_below, lengths, incumbent)
        if turn == -2 and won[0] >= 0 and count_above(correlations, prune_below) > MANY:
            second = bound_from(
                y, first, last, start_step, lengths, math.exp(-won[2]), sign, min_corrs,
                prune_below, correlations, tss, upper_bound,
            )  # fmt: skip
            leader = leader if second[0] < 0 else second
    return won


@kernel
def search_windows(y, first, last, start_step, lengths, tables, least_change):
    """Find the best decay and the best rise of a trace over all windows in a range.

    Parameters
    ----------
    y
        Trace, evenly sampled.  Shape (n_samples,), any unit; NaN loses the windows that hold it.
    first, last
        Windows lie in ``first:last``.
    start_step
        Distance of the starts that are tried.
    lengths
        Window lengths, increasing, at least 5.  Shape (L,), int64.
    tables
        :func:`search_tables` of ``lengths``.
    least_change
        Change of the fitted curve, in units of ``y``, that a window must hold; 0 admits all.

    Returns
    -------
    For the decay and the rise: start, length, and ``ln tau`` in samples; (-1, -1, NaN) where no
    window has an interior optimum of that sign.
    """
    bars = np.full(2, -math.inf)
    return search_above(y, first, last, start_step, lengths, tables, least_change, bars)


@kernel
def search_above(y, first, last, start_step, lengths, tables, least_change, bars):
    """Do what :func:`search_windows` does, for windows that are good enough.

    Parameters
    ----------
    y, first, last, start_step, lengths, tables, least_change
        As in :func:`search_windows`.
    bars
        Adjusted R2 that the decay and the rise have to exceed; 1 where none is wanted.
        Overwritten.  Shape (2,).

    Returns
    -------
    As :func:`search_windows`; (-1, -1, NaN) also where no window is good enough.
    """
    _, f, weight, shift = tables[0]
    n_starts = max(0, (last - first - lengths[0]) // start_step + 1)
    found = (-1, -1, math.nan), (-1, -1, math.nan)
    chunk = max(BLOCK, ROOM // lengths.size)
    for begin in range(0, n_starts, chunk):
        at = first + begin * start_step
        used = min(chunk, n_starts - begin)
        fall = np.empty((lengths.size, used))
        rise = np.empty((lengths.size, used))
        tss = np.empty((lengths.size, used))
        correlate_windows(y, at, last, start_step, lengths, f, weight, shift, fall, rise, tss)
        # One call in a loop: with literal signs numba would compile everything below twice.
        for turn in range(2):
            if bars[turn] >= 1.0:
                continue
            start, n, theta, value = best_window(
                y,
                at,
                last,
                start_step,
                lengths,
                tables,
                DECAY if turn == 0 else RISE,
                fall if turn == 0 else rise,
                tss,
                least_change,
                bars[turn],
            )
            if n > 0:
                bars[turn] = value
                best = start, n, theta
                found = (best, found[1]) if turn == 0 else (found[0], best)
    return found
