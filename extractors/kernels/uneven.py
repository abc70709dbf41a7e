"""Find the window of an unevenly sampled trace that an exponential explains best.

This is :mod:`.windows` with the bounds of :mod:`.uneven_looks`: windows that these leave open are
fitted on their true times.

Dimension letters: N samples of the trace, n of a window, L lengths, K nodes, W starts.
"""

from __future__ import annotations

import math

import numpy as np

from oectflow.extractors.kernels.compiled import borrowing, kernel
from oectflow.extractors.kernels.correlate import BLOCK
from oectflow.extractors.kernels.exponential import (
    DECAY,
    FIT_OK,
    RISE,
    exponential_sums,
    refine,
    scale_window,
)
from oectflow.extractors.kernels.tau_grid import KAPPA, hidden, sine_top
from oectflow.extractors.kernels.uneven_looks import (
    bound_uneven,
    correlate_uneven,
    distances,
    look_closer,
    node_arc,
    uneven_nodes,
)
from oectflow.extractors.kernels.windows import (
    MANY,
    PERFECT,
    adjusted,
    at_edge,
    min_corr,
    normalise,
    vertex_rate,
)

#: Windows are seen from one tau where it is at least so many distances: what agrees with it is then
#: above half a distance.
LEAST_TAU = 2.0
#: Windows are seen from so many tau at the most.
LOOKS = 4
#: Windows whose correlations are kept at a time.
ROOM = 2_000_000
# Rows of the work space of one window: f at all nodes, of which there are never so many, the sums
# of f, f f and f y, and of the product with f at the next node.
STRIDE = 512
_SUM, _FF, _C, _NEXT = STRIDE, 2 * STRIDE, 3 * STRIDE, 4 * STRIDE


@borrowing
def add_sample(value, drop, w):
    """Add one sample to the sums of all nodes and bring ``f`` to the next one."""
    for k in range(drop.size):
        f = w[k]
        w[_SUM + k] += f
        w[_FF + k] += f * f
        w[_C + k] += f * value
        # A 0 stands behind the last node.
        w[_NEXT + k] += f * w[k + 1]
    for k in range(drop.size):
        w[k] += drop[k] * (1.0 + w[k])


@borrowing
def refine_uneven(y, t, sign, rates, drops, arc, incumbent, scaled, w):
    """Fit one window exactly; as :func:`.windows.refine_window`.

    Parameters
    ----------
    y, t
        Window and its times since its first sample.  Shape (n,).
    sign
        ``DECAY`` or ``RISE``.
    rates, drops
        Nodes; ``drops`` from the window's first sample on.  Shapes (K,), (>= n - 1, K).
    arc
        Greatest arc between nodes on this clock.
    incumbent
        Adjusted R2 that it has to exceed.
    scaled, w
        Work space.  Shapes (>= n,), (5 STRIDE,).

    Returns
    -------
    Adjusted R2 (-inf where it has no admissible fit above the incumbent), ``theta``, and the change
    of the fitted curve within the window.
    """
    n = y.size
    yc = scaled[:n]
    _, unit, tss, code = scale_window(y, math.nan, yc)
    if code != FIT_OK:
        return -math.inf, math.nan, math.nan
    n_nodes = rates.size
    w[:] = 0.0
    for j in range(n):
        add_sample(yc[j], drops[min(j, n - 2)], w)
    norm = sign / math.sqrt(tss)
    c, length, next_to = w[_C : _C + n_nodes], w[_FF : _FF + n_nodes], w[_NEXT : _NEXT + n_nodes]
    for k in range(n_nodes):
        length[k] = math.sqrt(length[k] - w[_SUM + k] ** 2 / n)
        c[k] *= norm / length[k]
    last = n_nodes - 1
    for k in range(last):
        cosine = (next_to[k] - w[_SUM + k] * w[_SUM + k + 1] / n) / (length[k] * length[k + 1])
        # The angle itself loses its digits where it is small; it is never more than the arc.
        next_to[k] = min(arc, math.acos(min(cosine, 1.0)) + 1e-6)
    # Variables and not literals, for which numba would compile copies.
    free = n > 0
    even = not free
    best = min_corr(incumbent, n)
    best_at = math.nan
    change = 0.0
    for k in range(rates.size):
        if k > 0 and c[k - 1] > c[k]:
            continue
        if k < last and c[k + 1] >= c[k]:
            continue
        top = c[k]
        if k > 0:
            top = max(top, sine_top(c[k - 1], c[k], next_to[k - 1]))
        if k < last:
            top = max(top, sine_top(c[k], c[k + 1], next_to[k]))
        if top + hidden(best, arc) <= best:
            continue
        theta = refine(
            yc,
            t,
            even,
            -math.log(rates[max(k - 1, 0)]),
            -math.log(rates[min(k + 1, last)]),
            -math.log(vertex_rate(rates, c, k)),
            sign,
            free,
            0.0,
        )
        sums = exponential_sums(yc, t, even, math.exp(-theta), free, 0.0)
        value = sums[6] * norm / math.sqrt(sums[2])
        if value > best:
            best = value
            best_at = theta
            change = sums[6] / sums[2] * sums[9]
    if math.isnan(best_at) or at_edge(best_at, n):
        return -math.inf, math.nan, math.nan
    return adjusted(min(best, 1.0), n), best_at, abs(change) * unit


@borrowing
def set_bars(min_corrs, prune_below, lengths, incumbent, arc):
    """Set, per length, the correlation that beats ``incumbent``, and what a node must have."""
    for index in range(lengths.size):
        c = min_corr(incumbent, lengths[index])
        min_corrs[index] = c
        prune_below[index] = max(0.0, (c - hidden(c, arc)) * math.cos(0.5 * arc))


@kernel
def other_leader(correlations, lengths, start_step, tried, leader):
    """Return the window with the largest adjusted R2 that does not begin where others did.

    Returns
    -------
    Index of the length and of the start; ``leader`` where there is no other.
    """
    won = leader
    least = math.inf
    for s in range(correlations.shape[1]):
        if np.min(np.abs(tried - s)) * start_step < lengths[0] // 4:
            continue
        for index in range(lengths.size):
            c = correlations[index, s]
            n = lengths[index]
            if c > 0.0 and (1.0 - c * c) * (n - 1) / (n - 4) < least:
                least = (1.0 - c * c) * (n - 1) / (n - 4)
                won = index, s
    return won


@borrowing
def count_open(correlations, prune_below, upper_bound, min_corrs):
    """Return the number of windows that may still win."""
    count = 0
    for index in range(min_corrs.size):
        for s in range(correlations.shape[1]):
            above = correlations[index, s] > prune_below[index]
            count += above and upper_bound[index, s] >= min_corrs[index]
    return count


@kernel
def best_uneven(
    y, t, start_step, lengths, rates, by_node, drops, low, high, sign, correlations, tss,
    least_change, incumbent,
):  # fmt: skip
    """Return the window with the largest adjusted R2 among those that were correlated.

    Parameters
    ----------
    y, t, start_step, lengths, sign, least_change, incumbent
        As in :func:`search_uneven` and :func:`refine_uneven`.
    rates, by_node, drops
        From :func:`uneven_nodes`; ``drops`` sample by sample, shape (N, K).
    low, high
        From :func:`distances`.
    correlations, tss
        From :func:`correlate_uneven`; ``correlations`` is overwritten with normalised ones.

    Returns
    -------
    Start, length (-1, -1 where no window is admissible), ``theta`` and adjusted R2.
    """
    won = -1, -1, math.nan, incumbent
    leader = normalise(correlations, tss, lengths)
    if leader[0] < 0:
        return won
    spread = high / low
    arc = node_arc(spread) * math.sqrt(spread)
    n_starts = correlations.shape[1]
    scaled = np.empty(lengths[-1])
    w = np.empty(5 * STRIDE)
    upper_bound = np.full(correlations.shape, math.inf)
    min_corrs = np.empty(lengths.size)
    prune_below = np.empty(lengths.size)
    set_bars(min_corrs, prune_below, lengths, incumbent, arc)
    tried = np.full(LOOKS, -lengths[-1])
    # The window that leads on the grid goes first, then the one that leads as seen from its tau,
    # and again, until few are left.
    for turn in range(-LOOKS, lengths.size):
        index = leader[0] if turn < 0 else turn
        n = lengths[index]
        begin = leader[1] if turn < 0 else 0
        better = False
        for s in range(begin, begin + 1 if turn < 0 else n_starts):
            if not correlations[index, s] > prune_below[index]:
                continue
            if not upper_bound[index, s] >= min_corrs[index]:
                continue
            a = s * start_step
            value, theta, change = refine_uneven(
                y[a : a + n], t[a : a + n] - t[a], sign, rates, drops[a:], arc, incumbent, scaled, w
            )
            if value > incumbent and change >= least_change:
                incumbent = value
                won = a, n, theta, value
                better = True
                set_bars(min_corrs, prune_below, lengths, incumbent, arc)
            if 1.0 - incumbent < PERFECT:
                return won
        if turn < -1 and won[0] < 0:
            # Where tau is at an edge there is no fit, and seldom one nearby.
            tried[turn] = leader[1]
            leader = other_leader(correlations, lengths, start_step, tried, leader)
        look = turn < -1 and better and math.exp(-won[2]) * LEAST_TAU <= 1.0
        if look and count_open(correlations, prune_below, upper_bound, min_corrs) > MANY:
            second = bound_uneven(
                y, t, start_step, lengths, math.exp(-won[2]), sign, KAPPA * spread, min_corrs,
                prune_below, correlations, tss, upper_bound,
            )  # fmt: skip
            leader = leader if second[0] < 0 else second
        if turn == -1 and won[0] >= 0:
            look_closer(
                y, t, start_step, lengths, rates, by_node, low, high, sign, min_corrs, prune_below,
                correlations, tss, upper_bound,
            )  # fmt: skip
    return won


@kernel
def search_uneven(y, t, first, last, start_step, lengths, least_change):
    """Find the best decay and the best rise of an unevenly sampled trace.

    Parameters
    ----------
    y, first, last, start_step, lengths, least_change
        As in :func:`.windows.search_windows`.
    t
        Times in (mean or nominal) sampling intervals, increasing.  Shape (N,).

    Returns
    -------
    As :func:`.windows.search_windows`.
    """
    bars = np.full(2, -math.inf)
    return search_uneven_above(y, t, first, last, start_step, lengths, least_change, bars)


@kernel
def search_uneven_above(y, t, first, last, start_step, lengths, least_change, bars):
    """Do what :func:`search_uneven` does, for windows that are good enough.

    ``bars`` as in :func:`.windows.search_above`.
    """
    n_starts = max(0, (last - first - lengths[0]) // start_step + 1)
    found = (-1, -1, math.nan), (-1, -1, math.nan)
    if n_starts == 0:
        return found
    low, high = distances(t[first:last])
    chunk = max(BLOCK, ROOM // lengths.size)
    for begin in range(0, n_starts, chunk):
        used = min(chunk, n_starts - begin)
        a = first + begin * start_step
        b = min(last, a + (used - 1) * start_step + lengths[-1])
        rates, drops = uneven_nodes(
            t[a:b], lengths[-1], low, high, BLOCK * start_step + lengths[-1]
        )
        fall = np.empty((lengths.size, used))
        rise = np.empty((lengths.size, used))
        tss = np.empty((lengths.size, used))
        correlate_uneven(y[a:b], start_step, lengths, drops, fall, rise, tss)
        by_sample = np.ascontiguousarray(drops[:, : b - a].T)
        # One call in a loop: with literal signs numba would compile everything below twice.
        for turn in range(2):
            if bars[turn] >= 1.0:
                continue
            start, n, theta, value = best_uneven(
                y[a:b],
                t[a:b],
                start_step,
                lengths,
                rates,
                drops,
                by_sample,
                low,
                high,
                DECAY if turn == 0 else RISE,
                fall if turn == 0 else rise,
                tss,
                least_change,
                bars[turn],
            )
            if n > 0:
                bars[turn] = value
                best = start + a, n, theta
                found = (best, found[1]) if turn == 0 else (found[0], best)
    return found
