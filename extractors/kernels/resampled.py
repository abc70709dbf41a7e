"""Find the window that an exponential fitted to interpolated samples explains best.

autotau resamples every window linearly before it fits it, and judges the fit by the window's own
samples.  No fit to other numbers explains these samples better than a fit to the samples does, so
the search on the samples (:mod:`.windows`) bounds this one: only windows with a better fit of their
own than the best resampled one are looked at, which are one or two in a measured trace.
Windows whose samples hold no such process are not considered.

Dimension letters: n samples of a window, P interpolated points.
"""

from __future__ import annotations

import math

import numpy as np

from oectflow.extractors.kernels.compiled import borrowing, kernel
from oectflow.extractors.kernels.correlate import correlate_windows
from oectflow.extractors.kernels.exponential import (
    DECAY,
    F_MIN,
    RISE,
    exponential_sums,
    refine,
)
from oectflow.extractors.kernels.tau_grid import TAU_MIN
from oectflow.extractors.kernels.windows import (
    at_edge,
    normalise,
    search_above,
    search_tables,
    search_windows,
    set_bars,
)

#: Difference that rounding makes between two equally good windows.
TIE = 1e-14
#: Share of its range by which a window may differ from another one, times a factor and plus a
#: constant, for both to be equally good.  Near the best fits R2 changes by 2 sqrt(1 - R2) times
#: that, less than TIE.
SAME = 1e-12
#: How far interpolation may move ``ln tau``.
NEAR = 1.0


@borrowing
def resampled_fit(y, sign, theta, dense):
    """Fit one window at evenly spaced points between its samples.

    Parameters
    ----------
    y
        The window, evenly sampled, at least 5 samples.  Shape (n,), any unit.
    sign
        ``DECAY`` or ``RISE``.
    theta
        About ``ln tau`` in samples: that of the fit to the samples, or to a window nearby.
    dense
        Work space.  Shape (P,).

    Returns
    -------
    Adjusted R2 of its samples, -inf where there is no fit better than chance; and ``theta``.
    """
    n = y.size
    step = (n - 1) / (dense.size - 1)
    for j in range(n):
        if not math.isfinite(y[j]):
            return -math.inf, theta
    # Relative to its first sample, a window keeps its digits even on top of a large constant.
    middle = 0.0
    for p in range(dense.size):
        left = min(int(p * step), n - 2)
        share = p * step - left
        dense[p] = (y[left] - y[0]) + share * (y[left + 1] - y[left])
        middle += dense[p] / dense.size
    for p in range(dense.size):
        dense[p] -= middle
    even = free = n > 0
    shift = math.log(step)
    guess = theta - shift
    found = refine(dense, dense, even, guess - NEAR, guess + NEAR, guess, sign, free, 0.0)
    sums = exponential_sums(dense, dense, even, math.exp(-found), free, 0.0)
    alpha = sums[6] / sums[2]
    if not alpha * sign > 0.0 or abs(found - guess) > 0.99 * NEAR or at_edge(found, dense.size):
        return -math.inf, theta
    beta = middle - alpha * sums[0] / dense.size
    found += shift
    rate = math.exp(-found)
    if not rate * TAU_MIN < 1.0:
        return -math.inf, theta
    drop = math.expm1(-rate)
    mean = 0.0
    for j in range(n):
        mean += (y[j] - y[0]) / n
    f = rss = tss = 0.0
    for j in range(n):
        rss += (y[j] - y[0] - beta - alpha * f) ** 2
        tss += (y[j] - y[0] - mean) ** 2
        f += drop * (1.0 + f)
    r_squared = 1.0 - rss / tss
    if not r_squared * (n - 3) >= 2.0 * F_MIN * (1.0 - r_squared):
        return -math.inf, theta
    return 1.0 - (1.0 - r_squared) * (n - 1) / (n - 4), found


@kernel
def search_length(y, n, start_step, tables, sign, best, start, theta, dense):
    """Find the best window of one length, if it is better than the best of others.

    Parameters
    ----------
    y, start_step
        As in :func:`search_resampled`.
    n, tables
        Samples of a window, and the tables of this length.
    sign
        ``DECAY`` or ``RISE``.
    best
        Adjusted R2 that it has to exceed.
    start, theta
        The window whose samples have the best fit, and ``ln tau`` of that.
    dense
        As in :func:`resampled_fit`.

    Returns
    -------
    Start and adjusted R2; (-1, ``best``) where there is none.
    """
    value, _ = resampled_fit(y[start : start + n], sign, theta, dense)
    at, best = better(-1, best, start, value)
    lengths = np.array([n])
    may_win = can_exceed(y, lengths, start_step, tables, sign, best - TIE)
    before = -1
    for index in range(may_win.size):
        start = index * start_step
        if not may_win[index] or (before >= 0 and is_copy(y, before, start, n)):
            continue
        value, theta = resampled_fit(y[start : start + n], sign, theta, dense)
        if value > -math.inf:
            before = start
        at, best = better(at, best, start, value)
    return at, best


@borrowing
def better(at, best, start, value):
    """Return the better of two windows, the first of equally good ones; ``at`` -1 is none."""
    if at < 0:
        return (start, value) if value > best else (at, best)
    if value > best + TIE or (value >= best - TIE and start < at):
        return start, max(value, best)
    return at, best


@borrowing
def is_copy(y, one, other, n):
    """Tell whether two finite windows differ by a factor and a constant, and by rounding.

    In a trace without noise, every window of a process is such a copy of the one before: its fit is
    equally good, and the first of these counts.

    Parameters
    ----------
    y
        Trace.  Shape (n_samples,).
    one, other
        First samples of the windows.
    n
        Samples of a window.
    """
    span = y[one + n - 1] - y[one]
    if span == 0.0:
        return False
    factor = (y[other + n - 1] - y[other]) / span
    largest = 0.0
    apart = 0.0
    for j in range(n):
        change = y[other + j] - y[other]
        largest = max(largest, abs(change))
        apart = max(apart, abs(change - factor * (y[one + j] - y[one])))
    return apart <= SAME * largest


@kernel
def can_exceed(y, lengths, start_step, tables, sign, bar):
    """Tell which windows of one length may have a fit to their samples that is better than a bar.

    Parameters
    ----------
    y, start_step, sign
        As in :func:`search_length`.
    lengths
        The length, shape (1,).
    tables
        Of this length.
    bar
        Adjusted R2.

    Returns
    -------
    One answer for every start, shape (W,).
    """
    (_, f, weight, shift), _ = tables
    n_starts = (y.size - lengths[0]) // start_step + 1
    fall = np.empty((1, n_starts))
    rise = np.empty((1, n_starts))
    tss = np.empty((1, n_starts))
    correlate_windows(y, 0, y.size, start_step, lengths, f, weight, shift, fall, rise, tss)
    correlations = fall if sign == DECAY else rise
    normalise(correlations, tss, lengths)
    needed = np.empty(1)
    prune_below = np.empty(1)
    set_bars(needed, prune_below, lengths, bar)
    return correlations[0] > prune_below[0]


@kernel
def of_length(tables, i):
    """Return the part of :func:`.tau_grid.node_tables` that is of the length ``i``."""
    rates, f, weight, shift = tables
    return rates, f, weight[i : i + 1], shift[i : i + 1]


@kernel
def search_resampled(y, lengths, start_step, points):
    """Find the best decay and the best rise over windows of some lengths.

    Parameters
    ----------
    y
        Trace, evenly sampled.  Shape (n_samples,), any unit.
    lengths
        Samples of a window, increasing, from 5 to n_samples.  Shape (L,), int64.
    start_step
        Distance of the starts that are tried.
    points
        Number P of points between which a window is interpolated.

    Returns
    -------
    For the decay and the rise: start, length and adjusted R2; (-1, -1, -inf) where there is none.
    Of equally good windows, the shortest counts, and of these the first.
    """
    dense = np.empty(points)
    none = -1, -1, -math.inf
    found = none, none
    both, looks = search_tables(lengths)
    at = search_windows(y, 0, y.size, start_step, lengths, (both, looks), 0.0)
    guesses = np.full(2, -math.inf)
    bars = np.empty(2)
    for turn in range(2):
        start, n, theta = at[0] if turn == 0 else at[1]
        if start >= 0:
            sign = DECAY if turn == 0 else RISE
            guess, _ = resampled_fit(y[start : start + n], sign, theta, dense)
            # It has to be found again, among equally good ones.
            guesses[turn] = guess - TIE
    for i in range(lengths.size):
        n = lengths[i]
        tables = of_length(both, i), of_length(looks, i)
        for turn in range(2):
            bars[turn] = max(guesses[turn], found[0][2] if turn == 0 else found[1][2])
        best = bars.copy()
        at = search_above(y, 0, y.size, start_step, lengths[i : i + 1], tables, 0.0, bars)
        for turn in range(2):
            start, _, theta = at[0] if turn == 0 else at[1]
            if start < 0:
                continue
            sign = DECAY if turn == 0 else RISE
            start, value = search_length(
                y, n, start_step, tables, sign, best[turn], start, theta, dense
            )
            if start >= 0:
                new = start, n, value
                found = (new, found[1]) if turn == 0 else (found[0], new)
    return found
