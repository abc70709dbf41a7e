"""Correlate the windows of an unevenly sampled trace with exponentials, and bound what is between.

This is :mod:`.correlate` for recorded times.  There is no exponential that all windows share, so
each start runs through its samples with an ``f = exp(-(t - t_s) / tau) - 1`` of its own, many
starts side by side.

**What is known of the curve.**  Let no distance of two samples be less than ``low`` or more than
``high``, and ``rho^2 = high / low``.  Against the continuous curve each sample then has a weight
between ``1 / high`` and ``1 / low``, so that a squared norm, and the least one that any constant or
exponential leaves of it, is between those shares of the continuous one.  Speed and curvature of
``u(theta)`` are ratios of such norms.  So the speed is at most ``rho`` times that of
:mod:`.tau_grid` at the shortest distance and over the longest time, and the geodesic curvature at
most ``KAPPA rho^2``, both where ``tau`` is not below half a distance.  Between samples the sums are
not the integrals; a test looks for the clocks that are worst, from five samples on.  Nodes that are
``arc`` apart on an even clock of that distance and that time are therefore at most ``rho arc``
apart, also below half a distance, and everything that holds between nodes holds with that arc.

Dimension letters: N samples of the trace, n of a window, L lengths, K nodes, W starts, B starts of
a block.
"""

from __future__ import annotations

import math

import numpy as np

from oectflow.extractors.kernels.compiled import borrowing, kernel
from oectflow.extractors.kernels.correlate import BLOCK, fill_block, largest_gain
from oectflow.extractors.kernels.exponential import DECAY
from oectflow.extractors.kernels.tau_grid import SLACK, hidden, node_rates

#: Greatest arc between two nodes, in rad: on an even clock, and on this one.
EVEN_ARC, ARC = 0.1, 0.12
#: Largest ratio of two distances of samples up to which bounds hold.
WIDEST = 3.0
#: How many times as near nodes are where windows are looked at more closely.
CLOSER = 4
# Rows of the work space of a block: f, and the sums of f, f f and f d.
_F, _SF, _SFF, _SFD = 0, BLOCK, 2 * BLOCK, 3 * BLOCK
# The same of a look: f, then the sums of d, f, h, f f, f h, h h, f d, h d.
_D, _G, _H, _GG, _GH, _HH, _GD, _HD = (BLOCK * row for row in range(1, 9))


@kernel
def distances(t):
    """Return the shortest and the longest distance of samples that bounds are made for.

    Where their ratio exceeds :data:`WIDEST`, they are those of a clock with the usual distance.
    """
    steps = t[1:] - t[:-1]
    low, high = steps.min(), steps.max()
    if not high <= WIDEST * low:
        usual = np.median(steps)
        low, high = 2.0 / (1.0 + WIDEST) * usual, 2.0 * WIDEST / (1.0 + WIDEST) * usual
    return low, high


@borrowing
def node_arc(spread):
    """Return the arc between nodes on an even clock; on this one ``sqrt(spread)`` times that."""
    return min(EVEN_ARC, ARC / math.sqrt(spread))


@kernel
def uneven_nodes(t, longest, low, high, reach):
    """Return the rates of the nodes and what ``f`` loses from sample to sample at each.

    Parameters
    ----------
    t
        Times in sampling intervals, increasing.  Shape (N,).
    longest
        Samples in the longest window.
    low, high
        From :func:`distances`.
    reach
        How many samples behind the last one blocks may ask for.

    Returns
    -------
    ``rates`` (K,), and ``exp(-(t[k + 1] - t[k]) rate) - 1``, shape (K, N + reach); 0 behind the
    last sample.
    """
    rates = node_rates(math.ceil(longest * high / low), node_arc(high / low)) / low
    drops = np.zeros((rates.size, t.size + reach))
    for k in range(rates.size):
        for j in range(t.size - 1):
            drops[k, j] = math.expm1(-(t[j + 1] - t[j]) * rates[k])
    return rates, drops


@kernel
def correlate_uneven(y, start_step, lengths, drops, fall, rise, tss):
    """Correlate every window with every node and keep the best of either sign.

    Parameters
    ----------
    y, start_step, lengths
        As in :func:`search_uneven`; windows lie anywhere in ``y``.
    drops
        From :func:`uneven_nodes`.
    fall, rise, tss
        As in :func:`.correlate.correlate_windows`.  Shape (L, W).
    """
    longest = lengths[-1]
    n_starts = fall.shape[1]
    d = np.empty((longest, BLOCK))
    # One array with rows at constant places: the compiler must see that they do not overlap.
    w = np.empty(4 * BLOCK)
    # Per length: the largest and the least signed square, and the sum of the samples.
    best = np.empty(3 * BLOCK * lengths.size)
    for block in range(0, n_starts, BLOCK):
        used = min(BLOCK, n_starts - block)
        first = block * start_step
        fill_block(y, first, y.size, start_step, used, d)
        tss[:, block : block + used] = add_totals(d, lengths, w, best)[:, :used]
        for k in range(drops.shape[0]):
            correlate_node(d, drops[k, first:], start_step, lengths, w, best)
        for index in range(lengths.size):
            at = 3 * BLOCK * index
            for i in range(used):
                fall[index, block + i] = math.sqrt(best[at + i])
                rise[index, block + i] = math.sqrt(-best[at + BLOCK + i])


@kernel
def add_totals(d, lengths, w, best):
    """Begin ``best`` with the mean of every window; return the sums of squares about it.

    Returns
    -------
    Shape (L, B).
    """
    squares = np.empty((lengths.size, BLOCK))
    w[:] = 0.0
    best[:] = 0.0
    index = 0
    for j in range(lengths[-1]):
        for i in range(BLOCK):
            w[i] += d[j, i]
            w[BLOCK + i] += d[j, i] * d[j, i]
        if lengths[index] == j + 1:
            at = 3 * BLOCK * index + 2 * BLOCK
            for i in range(BLOCK):
                best[at + i] = w[i] / (j + 1)
                squares[index, i] = w[BLOCK + i] - w[i] * w[i] / (j + 1)
            index += 1
    return squares


@borrowing
def correlate_node(d, drop, start_step, lengths, w, best):
    """Correlate the windows of one block with one node."""
    w[:] = 0.0
    done = 0
    for index in range(lengths.size):
        n = lengths[index]
        for j in range(done, n):
            row = d[j]
            if start_step == 1:
                fall = drop[j : j + BLOCK]
                for i in range(BLOCK):
                    f = w[_F + i]
                    w[_SF + i] += f
                    w[_SFF + i] += f * f
                    w[_SFD + i] += f * row[i]
                    w[_F + i] = f + fall[i] * (1.0 + f)
            else:
                for i in range(BLOCK):
                    f = w[_F + i]
                    w[_SF + i] += f
                    w[_SFF + i] += f * f
                    w[_SFD + i] += f * row[i]
                    w[_F + i] = f + drop[j + i * start_step] * (1.0 + f)
        done = n
        share = 1.0 / n
        at = 3 * BLOCK * index
        for i in range(BLOCK):
            sf = w[_SF + i]
            c = w[_SFD + i] - sf * best[at + 2 * BLOCK + i]
            # The square with its sign orders as the correlation does, and needs no root.
            c = c * abs(c) / (w[_SFF + i] - sf * sf * share)
            top = best[at + i]
            best[at + i] = c if c > top else top
            top = best[at + BLOCK + i]
            best[at + BLOCK + i] = c if c < top else top


@kernel
def bound_uneven(
    y, t, start_step, lengths, rate, sign, kappa, min_corrs, prune_below,
    correlations, tss, upper_bound,
):  # fmt: skip
    """Bound, as seen from one ``tau``, the correlation that windows have at any ``tau``.

    Parameters
    ----------
    y, t, start_step, lengths
        As in :func:`search_uneven`; windows lie anywhere in ``y``.
    kappa
        Largest geodesic curvature of the curve on this clock.
    rate, sign, min_corrs, prune_below, correlations, tss, upper_bound
        As in :func:`.correlate.bound_from`.

    Returns
    -------
    As :func:`.correlate.bound_from`.
    """
    n_starts = correlations.shape[1]
    d = np.empty((lengths[-1], BLOCK))
    w = np.empty(9 * BLOCK)
    drop = np.zeros(t.size + (BLOCK - 1) * start_step + 1)
    time = np.zeros(drop.size)
    for j in range(t.size):
        time[j] = t[j] * rate
        if j + 1 < t.size:
            drop[j] = math.expm1(-(t[j + 1] - t[j]) * rate)
    leader = -1, -1
    least = math.inf
    for block in range(0, n_starts, BLOCK):
        used = min(BLOCK, n_starts - block)
        first = block * start_step
        fill_block(y, first, y.size, start_step, used, d)
        w[:] = 0.0
        done = 0
        for index in range(lengths.size):
            n = lengths[index]
            add_samples(d, drop[first:], time[first:], start_step, done, n, w)
            done = n
            miss = math.sqrt(2.0 * (1.0 - min_corrs[index]))
            sine = math.sqrt(1.0 - min_corrs[index] * min_corrs[index])
            for i in range(used):
                if not correlations[index, block + i] > prune_below[index]:
                    continue
                if not upper_bound[index, block + i] >= min_corrs[index]:
                    continue
                norm = sign / math.sqrt(tss[index, block + i])
                sd, sf, sh = w[_D + i], w[_G + i], w[_H + i]
                ff = w[_GG + i] - sf * sf / n
                fh = w[_GH + i] - sf * sh / n
                tilt = fh / ff
                norm_f = math.sqrt(ff)
                norm_h = math.sqrt(max(0.0, w[_HH + i] - sh * sh / n - fh * tilt))
                along = w[_GD + i] - sf * sd / n
                across = w[_HD + i] - sh * sd / n - tilt * along
                c = along * norm / norm_f
                slope = abs(across * norm) / norm_h
                gain = largest_gain(c, slope, miss, sine, kappa)
                if gain < math.inf:
                    slack = SLACK * (1.0 + slope * norm_f / norm_h)
                    upper = c + gain + slack
                    upper_bound[index, block + i] = min(upper_bound[index, block + i], upper)
                unexplained = (1.0 - c * c - slope * slope) * (n - 1) / (n - 4)
                if unexplained < least:
                    least = unexplained
                    leader = index, block + i
    return leader


@borrowing
def add_samples(d, drop, time, start_step, begin, end, w):
    """Add samples ``begin:end`` of a block to the sums of a look; times in units of tau."""
    for j in range(begin, end):
        row = d[j]
        for i in range(BLOCK):
            at = j + i * start_step
            f = w[i]
            h = (time[at] - time[i * start_step]) * (1.0 + f)
            v = row[i]
            w[_D + i] += v
            w[_G + i] += f
            w[_H + i] += h
            w[_GG + i] += f * f
            w[_GH + i] += f * h
            w[_HH + i] += h * h
            w[_GD + i] += f * v
            w[_HD + i] += h * v
            w[i] = f + drop[at] * (1.0 + f)


@kernel
def look_closer(
    y, t, start_step, lengths, rates, drops, low, high, sign, min_corrs, prune_below, correlations,
    tss, upper_bound,
):  # fmt: skip
    """Close windows that nodes :data:`CLOSER` times as near rule out, where many are still open.

    Arguments as in :func:`best_uneven` and :func:`bound_uneven`; a closed window has an upper bound
    of minus infinity.
    """
    arc = node_arc(high / low) / CLOSER
    fine = node_rates(math.ceil(lengths[-1] * high / low), arc) / low
    arc *= math.sqrt(high / low)
    d = np.empty((lengths[-1], BLOCK))
    w = np.empty(4 * BLOCK)
    best = np.empty(3 * BLOCK * lengths.size)
    drop = np.empty(lengths[-1] + BLOCK * start_step)
    bars = np.empty(lengths.size)
    for block in range(0, correlations.shape[1], BLOCK):
        used = min(BLOCK, correlations.shape[1] - block)
        here = slice(block, block + used)
        is_open = (correlations[:, here] > prune_below.reshape(-1, 1)) & (
            upper_bound[:, here] >= min_corrs.reshape(-1, 1)
        )
        # A fit takes as long as a node takes for all windows of a block.
        if np.count_nonzero(is_open) * lengths[-1] < rates.size * drop.size:
            continue
        first = block * start_step
        fill_block(y, first, y.size, start_step, used, d)
        # Something better can hide only between nodes of which one is high enough.
        wanted = np.zeros(fine.size, np.bool_)
        for k in range(rates.size):
            add_totals(d, lengths, w, best)
            correlate_node(d, drops[k, first:], start_step, lengths, w, best)
            if any_above(best, sign, prune_below, tss[:, here], is_open):
                longer = rates[min(k + 1, rates.size - 1)]
                shorter = rates[max(k - 1, 0)]
                for m in range(fine.size):
                    begins = fine[max(m - 1, 0)] >= longer
                    wanted[m] |= begins and fine[min(m + 1, fine.size - 1)] <= shorter
        add_totals(d, lengths, w, best)
        for k in range(fine.size):
            if not wanted[k]:
                continue
            for j in range(drop.size):
                at = first + j
                drop[j] = math.expm1(-(t[at + 1] - t[at]) * fine[k]) if at + 1 < t.size else 0.0
            correlate_node(d, drop, start_step, lengths, w, best)
        for index in range(lengths.size):
            c = min_corrs[index]
            bars[index] = max(0.0, (c - hidden(c, arc)) * math.cos(0.5 * arc))
        for index in range(lengths.size):
            for i in range(used):
                if not above(best, sign, bars[index], tss[index, block + i], index, i):
                    upper_bound[index, block + i] = -math.inf


@borrowing
def above(best, sign, bar, tss, index, i):
    """Tell whether a window of a block has a correlation above ``bar`` with a node."""
    square = sign * best[3 * BLOCK * index + (0 if sign == DECAY else BLOCK) + i]
    return square > bar * bar * tss


@borrowing
def any_above(best, sign, bars, tss, is_open):
    """Tell whether one of the open windows of a block is :func:`above` its bar."""
    for index in range(is_open.shape[0]):
        for i in range(is_open.shape[1]):
            if is_open[index, i] and above(best, sign, bars[index], tss[index, i], index, i):
                return True
    return False
