"""Find the window of an unevenly sampled trace that an exponential explains best.

As :mod:`.windows`, for recorded times.  There is no exponential that all windows share, so each
start runs through its samples with ``f = exp(-(t - t_s) / tau) - 1`` at all nodes side by side.

The curve ``u(theta)`` has no universal curvature here, but its speed ``ds/dtheta`` is bounded: the
largest that a numerical maximisation over arbitrary sampling patterns found is 3.1 (evenly spaced:
1/2), and :data:`SPEED` is assumed.  Where no distance of samples is less than half or more than one
and a half of the usual one, the largest found is 0.64, and :data:`STEADY_SPEED` is assumed.  A
maximum is therefore at most half a node spacing times that speed from a node in angle, and a window
is dropped if not even that would make it win.

Dimension letters: N samples of the trace, n of a window, L lengths, K nodes, W starts.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from oectflow.extractors.kernels.exponential import (
    DECAY,
    FIT_OK,
    RISE,
    exponential_sums,
    refine,
    scale_window,
)
from oectflow.extractors.kernels.tau_grid import TAU_MAX, TAU_MIN
from oectflow.extractors.kernels.windows import adjusted, at_edge, min_corr

NODE_SPACING = 0.1
SPEED = 4.0
#: The same of a clock that only jitters: no distance is off by more than this share of the usual.
STEADY_SPEED, STEADY = 0.8, 0.5
#: Windows whose correlations are kept at a time.
ROOM = 500_000
#: Room for the nodes; a constant, so that the compiler sees that rows do not overlap.
STRIDE = 512
_F, _SF, _SFF, _SFY, _C = range(5)


@njit(nogil=True, cache=True, error_model="numpy")
def uneven_nodes(t, longest):
    """Return the rates of the nodes and what ``f`` loses from sample to sample at each.

    Parameters
    ----------
    t
        Times in sampling intervals, increasing.  Shape (N,).
    longest
        Samples in the longest window.

    Returns
    -------
    ``rates`` (K,), and ``exp(-(t[k + 1] - t[k]) rate) - 1``, shape (N - 1, K).
    """
    span = math.log(TAU_MAX * longest / TAU_MIN)
    n_nodes = min(math.ceil(span / NODE_SPACING) + 1, STRIDE)
    rates = np.empty(n_nodes)
    drops = np.empty((t.size - 1, n_nodes))
    for k in range(n_nodes):
        rates[k] = math.exp(-span * k / (n_nodes - 1)) / TAU_MIN
    for j in range(t.size - 1):
        for k in range(n_nodes):
            drops[j, k] = math.expm1(-(t[j + 1] - t[j]) * rates[k])
    return rates, drops


@njit(nogil=True, cache=True, error_model="numpy")
def add_sample(value, drop, w):
    """Add one sample to the sums of all nodes and bring ``f`` to the next one."""
    for k in range(drop.size):
        f = w[_F * STRIDE + k]
        w[_SF * STRIDE + k] += f
        w[_SFF * STRIDE + k] += f * f
        w[_SFY * STRIDE + k] += f * value
        w[_F * STRIDE + k] = f + drop[k] * (1.0 + f)


@njit(nogil=True, cache=True, error_model="numpy")
def correlate(n, total, n_nodes, w):
    """Store the correlation of the window's first ``n`` samples with every node."""
    for k in range(n_nodes):
        sf = w[_SF * STRIDE + k]
        norm = math.sqrt(w[_SFF * STRIDE + k] - sf * sf / n)
        w[_C * STRIDE + k] = (w[_SFY * STRIDE + k] - sf * total / n) / norm


@njit(nogil=True, cache=True, error_model="numpy")
def scan_uneven(y, start_step, lengths, drops, fall, rise):
    """Correlate every window with every node and keep the best of either sign.

    Parameters
    ----------
    y, start_step, lengths
        As in :func:`search_uneven`; windows lie anywhere in ``y``.
    drops
        From :func:`uneven_nodes`.
    fall, rise
        Get the largest normalised correlations, 0 where there is none.  Shape (L, W).
    """
    n_nodes = drops.shape[1]
    w = np.zeros(5 * STRIDE)
    still = np.zeros(n_nodes)
    for s in range(fall.shape[1]):
        a = s * start_step
        w[:] = 0.0
        total = 0.0
        squares = 0.0
        index = 0
        for j in range(min(lengths[-1], y.size - a)):
            d = y[a + j] - y[a]
            total += d
            squares += d * d
            add_sample(d, drops[a + j] if a + j < drops.shape[0] else still, w)
            if lengths[index] != j + 1:
                continue
            n = j + 1
            correlate(n, total, n_nodes, w)
            top = 0.0
            bottom = 0.0
            for k in range(n_nodes):
                c = w[_C * STRIDE + k]
                top = c if c > top else top
                bottom = c if c < bottom else bottom
            tss = squares - total * total / n
            if tss > 0.0:
                fall[index, s] = top / math.sqrt(tss)
                rise[index, s] = -bottom / math.sqrt(tss)
            index += 1


@njit(nogil=True, cache=True, error_model="numpy")
def refine_uneven(y, t, sign, rates, drops, speed, incumbent, scaled, w):
    """Fit one window exactly; as :func:`.windows.refine_window`.

    Parameters
    ----------
    y, t
        Window and its times since its first sample.  Shape (n,).
    sign
        ``DECAY`` or ``RISE``.
    rates, drops
        Nodes; ``drops`` from the window's first sample on.  Shapes (K,), (>= n - 1, K).
    speed
        From :func:`clock_speed`.
    incumbent
        Adjusted R2 that it has to exceed.
    scaled, w
        Work space.

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
    w[:] = 0.0
    for j in range(n):
        add_sample(yc[j], drops[min(j, n - 2)], w)
    correlate(n, 0.0, rates.size, w)
    norm = sign / math.sqrt(tss)
    last = rates.size - 1
    # Variables and not literals, for which numba would compile copies.
    free = n > 0
    even = not free
    best = min_corr(incumbent, n)
    best_at = math.nan
    change = 0.0
    for k in range(rates.size):
        c = w[_C * STRIDE + k] * norm
        if k > 0 and w[_C * STRIDE + k - 1] * norm > c:
            continue
        if k < last and w[_C * STRIDE + k + 1] * norm >= c:
            continue
        if not within_reach(c, best, speed):
            continue
        theta = refine(
            yc,
            t,
            even,
            -math.log(rates[max(k - 1, 0)]),
            -math.log(rates[min(k + 1, last)]),
            -math.log(rates[k]),
            sign,
            free,
            0.0,
        )
        sums = exponential_sums(yc, t, even, math.exp(-theta), free, 0.0)
        c = sums[6] * norm / math.sqrt(sums[2])
        if c > best:
            best = c
            best_at = theta
            change = sums[6] / sums[2] * sums[9]
    if math.isnan(best_at) or at_edge(best_at, n):
        return -math.inf, math.nan, math.nan
    return adjusted(min(best, 1.0), n), best_at, abs(change) * unit


@njit(nogil=True, cache=True, error_model="numpy")
def clock_speed(t):
    """Return the bound of ``ds/dtheta`` for windows of a clock."""
    steps = t[1:] - t[:-1]
    usual = np.median(steps)
    for step in steps:
        if not abs(step - usual) <= STEADY * usual:
            return SPEED
    return STEADY_SPEED


@njit(nogil=True, cache=True, error_model="numpy")
def within_reach(c, c_need, speed):
    """Tell whether a maximum of ``c_need`` may hide within half a cell of a node with ``c``."""
    angle = math.acos(min(max(c, -1.0), 1.0)) - 0.5 * speed * NODE_SPACING
    return angle <= math.acos(min(c_need, 1.0))


@njit(nogil=True, cache=True, error_model="numpy")
def best_uneven(
    y, t, start_step, lengths, rates, drops, sign, speed, correlations, least_change, incumbent
):
    """Return start, length, ``theta`` and adjusted R2 of the best window of one sign."""
    won = -1, -1, math.nan, incumbent
    leader = -math.inf
    leader_l = leader_s = -1
    for index in range(lengths.size):
        for s in range(correlations.shape[1]):
            c = correlations[index, s]
            if c > 0.0 and adjusted(min(c, 1.0), lengths[index]) > leader:
                leader = adjusted(min(c, 1.0), lengths[index])
                leader_l, leader_s = index, s
    if leader_l < 0:
        return won
    scaled = np.empty(lengths[-1])
    w = np.empty(5 * STRIDE)
    n_starts = correlations.shape[1]
    for turn in range(-1, lengths.size * n_starts):
        index = leader_l if turn < 0 else turn // n_starts
        s = leader_s if turn < 0 else turn % n_starts
        c = correlations[index, s]
        n = lengths[index]
        if c <= 0.0 or not within_reach(c, min_corr(incumbent, n), speed):
            continue
        a = s * start_step
        value, theta, change = refine_uneven(
            y[a : a + n], t[a : a + n] - t[a], sign, rates, drops[a:], speed, incumbent, scaled, w
        )
        if value > incumbent and change >= least_change:
            incumbent = value
            won = a, n, theta, value
    return won


@njit(nogil=True, cache=True, error_model="numpy")
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
    n_starts = max(0, (last - first - lengths[0]) // start_step + 1)
    found = (-1, -1, math.nan), (-1, -1, math.nan)
    bars = np.full(2, -math.inf)
    speed = clock_speed(t[first:last]) if last - first > 1 else SPEED
    chunk = max(1, ROOM // lengths.size)
    for begin in range(0, n_starts, chunk):
        used = min(chunk, n_starts - begin)
        a = first + begin * start_step
        b = min(last, a + (used - 1) * start_step + lengths[-1])
        rates, drops = uneven_nodes(t[a:b], lengths[-1])
        fall = np.zeros((lengths.size, used))
        rise = np.zeros((lengths.size, used))
        scan_uneven(y[a:b], start_step, lengths, drops, fall, rise)
        # One call in a loop: with literal signs numba would compile everything below twice.
        for turn in range(2):
            start, n, theta, value = best_uneven(
                y[a:b],
                t[a:b],
                start_step,
                lengths,
                rates,
                drops,
                DECAY if turn == 0 else RISE,
                speed,
                fall if turn == 0 else rise,
                least_change,
                bars[turn],
            )
            if n > 0:
                bars[turn] = value
                best = start + a, n, theta
                found = (best, found[1]) if turn == 0 else (found[0], best)
    return found
