"""The grid in ``ln tau`` on which every fit starts, and how far a fit can hide between its nodes.

Let ``u(theta)`` be the centred and normalised exponential ``exp(-k / tau)`` of n samples,
``theta = ln tau``, and ``y`` a centred and normalised window.  R2 is ``c^2`` with ``c = <u, y>``,
and ``theta -> u`` is a curve on the unit sphere.  For evenly spaced samples, every n and tau,

- its speed is ``ds/dtheta <= min(x / (2 sinh x), 0.13 n x)`` with ``x = 1 / tau``,
- its geodesic curvature is ``kappa < 2``

(equality in the limit of a long window and of a straight line; a test holds both on a dense grid).
Nodes that are equally spaced in the integral of the first bound are therefore nowhere more than
that spacing apart in arc length, for the longest window and for all shorter ones.

Along the arc ``c'' = -c + kappa <N, y>`` with a unit vector ``N`` orthogonal to ``u`` and ``u'``.
So between two nodes at distance ``L`` with correlations ``c1``, ``c2``, ``c`` is the sine arc
``(c1 sin(L - s) + c2 sin s) / sin L`` up to ``kappa max|<N, y>| (1 / cos(L / 2) - 1)``.  If there
is a ``c* = <u*, y> >= c_need`` in the cell, then ``y`` is within ``acos(c_need)`` of ``u*``, and
``|<N, u*>| <= |u''| L^2 / 2 <= sqrt(1 + kappa^2) L^2 / 2`` (Taylor about the point of ``N``), hence
``|<N, y>| <= sqrt(1 - c_need^2) + sqrt(5) L^2 / 2``.
"""

from __future__ import annotations

import math

import numpy as np

from oectflow.extractors.kernels.compiled import borrowing, kernel

#: The search range of tau: from a tenth of a sample to a hundred windows.
TAU_MIN = 0.1
TAU_MAX = 100.0
KAPPA = 2.0
#: What rounding can do to a correlation: 100 eps per sample is ten times what was ever seen.
SLACK = 1e-12


@borrowing
def turning_rate(length):
    """Return the rate ``x_c`` at which both bounds of the speed are equal."""
    return math.asinh(1.0 / (0.26 * length))


@kernel
def node_rates(length, arc):
    """Return the rates ``1 / tau`` of the grid nodes for windows of up to ``length`` samples.

    They are equally spaced in the arc ``S``, at most ``arc`` apart:
    ``S = -ln(tanh(x / 2)) / 2`` for ``x`` down to ``x_c``, where ``sinh x_c = 1 / (0.26 n)``, and
    ``S_c + 0.13 n (x_c - x)`` beyond.
    """
    x_first = 1.0 / TAU_MIN
    x_last = 1.0 / (TAU_MAX * length)
    x_turn = turning_rate(length)
    s_first = -0.5 * math.log(math.tanh(0.5 * x_first))
    s_turn = -0.5 * math.log(math.tanh(0.5 * x_turn))
    s_last = s_turn + 0.13 * length * (x_turn - x_last)
    # A multiple of four, for the kernels that take four nodes at a time.
    n_nodes = 4 * math.ceil(((s_last - s_first) / arc + 1.0) / 4.0)
    rates = np.empty(n_nodes)
    for k in range(n_nodes):
        s = s_first + (s_last - s_first) * k / (n_nodes - 1)
        if s <= s_turn:
            rates[k] = 2.0 * math.atanh(math.exp(-2.0 * s))
        else:
            rates[k] = x_turn - (s - s_turn) / (0.13 * length)
    rates[0] = x_first
    rates[n_nodes - 1] = x_last
    return rates


@borrowing
def hidden(c_need, arc):
    """Return how far a correlation of at least ``c_need`` can stand above the sine arc."""
    normal = math.sqrt(max(0.0, 1.0 - c_need * c_need)) + 0.5 * math.sqrt(5.0) * arc * arc
    return KAPPA * min(normal, 1.0) * (1.0 / math.cos(0.5 * arc) - 1.0) + SLACK


@borrowing
def sine_top(c_1, c_2, arc):
    """Return the maximum of the sine arc through two nodes."""
    cos_arc = math.cos(arc)
    if c_1 > c_2 * cos_arc and c_2 > c_1 * cos_arc:
        return math.sqrt(c_1 * c_1 + c_2 * c_2 - 2.0 * c_1 * c_2 * cos_arc) / math.sin(arc)
    return max(c_1, c_2)


@kernel
def node_tables(lengths, arc):
    """Return what all windows share: node rates, exponentials, weights.

    Parameters
    ----------
    lengths
        Window lengths, increasing.  Shape (L,), int64.
    arc
        Greatest arc between nodes.

    Returns
    -------
    ``rates`` (K,), ``f`` (longest, K), and ``weight``, ``shift`` (L, K), such that the correlation
    of a window ``d`` with a node is ``weight sum(f d) - shift sum(d)``, times its norm.
    """
    longest = lengths[-1]
    rates = node_rates(longest, arc)
    n_nodes = rates.size
    f = np.empty((longest, n_nodes))
    weight = np.empty((lengths.size, n_nodes))
    shift = np.empty((lengths.size, n_nodes))
    # Node by node within a sample, so that the compiler makes vector instructions of it.
    drop, value, total, squares = np.zeros((4, n_nodes))
    for k in range(n_nodes):
        drop[k] = math.expm1(-rates[k])
    index = 0
    for j in range(longest):
        for k in range(n_nodes):
            f[j, k] = value[k]
            total[k] += value[k]
            squares[k] += value[k] * value[k]
            # No cancellation: value and drop are both negative.
            value[k] += drop[k] * (1.0 + value[k])
        if index < lengths.size and lengths[index] == j + 1:
            n = j + 1
            for k in range(n_nodes):
                weight[index, k] = 1.0 / math.sqrt(squares[k] - total[k] * total[k] / n)
                shift[index, k] = weight[index, k] * total[k] / n
            index += 1
    return rates, f, weight, shift
