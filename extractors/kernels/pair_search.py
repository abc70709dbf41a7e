"""Two exponentials with a constant: many ways downhill, side by side.

The best amplitudes at ``p = ln tau1`` and ``q = ln tau2`` explain ``b M^-1 b`` of a window's sum of
squares, with ``b`` the products of both exponentials with the window, and ``M`` those with each
other.  ``M`` is the same for all windows of a length and has a closed form (geometric series).  In
a cell of the table of exponentials (:mod:`.coordinates`), ``b`` is a polynomial of ``p``, and a
window has to be multiplied by the coefficients once per cell.  So a step costs no loop over
samples.

The rest of the sum of squares is then a difference, and less exact than a sum over residuals.  So
the optimum found is only a start for :mod:`.pair_fits`.  Where digits do not suffice, a way is said
to be doubtful.

Dimension letters: n samples of a window, r coordinates, K nodes.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from oectflow.extractors.kernels.compiled import borrowing, kernel
from oectflow.extractors.kernels.downhill import DOUBLE
from oectflow.extractors.kernels.lane_math import exponential, less_one
from oectflow.extractors.kernels.newton_lanes import (
    BY_P,
    BY_Q,
    DOUBTED,
    ENDED,
    GAIN,
    LANES,
    LEFT,
    NOISE,
    PP,
    PQ,
    QQ,
    ROWS,
    P,
    Q,
    begin,
    idle,
    step_all,
)

#: Width of a cell in ``ln tau``, and coefficients of its polynomials: as many as a vector has.
#: ``(CELL / 6)^8``, 1e-11, is then left of Chebyshev's series.
CELL, POWERS = 0.25, 8

# Rows of the work space behind those of newton_lanes: cells, places in them, polynomials.
_CELL, _X = ROWS, ROWS + 2
_C = ROWS + 4
_ROWS = _C + 2 * POWERS


@njit(inline="always", error_model="numpy")
def series(d, e, n):
    """Return the sum of ``exp(-k x)`` over n samples and its two derivatives by ``x``.

    ``d`` is ``1 - exp(-x)``, and ``e`` is ``1 - exp(-n x)``.
    """
    scale = 1.0 / d
    s = e * scale
    ratio = 1.0 - d
    last = n * (1.0 - e)
    first = (last - s * ratio) * scale
    second = ((s - 2.0 * first) * ratio - n * last) * scale
    return s, first, second


@njit(inline="always", error_model="numpy")
def horner(w, row, i, x):
    """Return a polynomial, its slope, and its curvature, by ``ln tau``."""
    h = w[(row + 7) * LANES + i]
    f = h * x + w[(row + 6) * LANES + i]
    k = h
    h = h * x + f
    f = f * x + w[(row + 5) * LANES + i]
    k = k * x + h
    h = h * x + f
    f = f * x + w[(row + 4) * LANES + i]
    k = k * x + h
    h = h * x + f
    f = f * x + w[(row + 3) * LANES + i]
    k = k * x + h
    h = h * x + f
    f = f * x + w[(row + 2) * LANES + i]
    k = k * x + h
    h = h * x + f
    f = f * x + w[(row + 1) * LANES + i]
    k = k * x + h
    h = h * x + f
    f = f * x + w[row * LANES + i]
    return f, h * (2.0 / CELL), k * (8.0 / CELL**2)


@borrowing
def evaluate(w, n):
    """Compute, in every lane, what both exponentials explain, and its derivatives."""
    per_n = 1.0 / n
    for i in range(LANES):
        a = exponential(-w[P * LANES + i])
        b = exponential(-w[Q * LANES + i])
        na = n * a
        nb = n * b
        na = na if na < 700.0 else 700.0
        nb = nb if nb < 700.0 else 700.0
        da, ea = -less_one(-a), -less_one(-na)
        db, eb = -less_one(-b), -less_one(-nb)
        sa, sa1, sa2 = series(da, ea, n)
        sb, sb1, sb2 = series(db, eb, n)
        saa, saa1, saa2 = series(da * (2.0 - da), ea * (2.0 - ea), n)
        sbb, sbb1, sbb2 = series(db * (2.0 - db), eb * (2.0 - eb), n)
        sab, sab1, sab2 = series(da + db - da * db, ea + eb - ea * eb, n)
        # Products less those of the means, and their derivatives by ln tau.
        ff = saa - sa * sa * per_n
        gg = sbb - sb * sb * per_n
        fg = sab - sa * sb * per_n
        ff1 = -2.0 * a * (saa1 - sa * sa1 * per_n)
        ff2 = a * a * (4.0 * saa2 - 2.0 * (sa1 * sa1 + sa * sa2) * per_n) - ff1
        gg1 = -2.0 * b * (sbb1 - sb * sb1 * per_n)
        gg2 = b * b * (4.0 * sbb2 - 2.0 * (sb1 * sb1 + sb * sb2) * per_n) - gg1
        fg_p = -a * (sab1 - sa1 * sb * per_n)
        fg_q = -b * (sab1 - sa * sb1 * per_n)
        fg_pp = a * a * (sab2 - sa2 * sb * per_n) - fg_p
        fg_qq = b * b * (sab2 - sa * sb2 * per_n) - fg_q
        fg_pq = a * b * (sab2 - sa1 * sb1 * per_n)
        fy, fy1, fy2 = horner(w, _C, i, w[_X * LANES + i])
        gy, gy1, gy2 = horner(w, _C + POWERS, i, w[(_X + 1) * LANES + i])
        determinant = ff * gg - fg * fg
        scale = 1.0 / determinant
        a1 = (gg * fy - fg * gy) * scale
        a2 = (ff * gy - fg * fy) * scale
        # Parts of the derivatives of the amplitudes.
        p1 = fy1 - ff1 * a1 - fg_p * a2
        p2 = -fg_p * a1
        q1 = -fg_q * a2
        q2 = gy1 - gg1 * a2 - fg_q * a1
        w[GAIN * LANES + i] = a1 * fy + a2 * gy
        lost = 1e-15 * (saa * gg + sbb * ff) * scale
        w[NOISE * LANES + i] = lost * abs(w[GAIN * LANES + i])
        # Derivatives of half of what is left.
        w[BY_P * LANES + i] = -a1 * (fy1 - 0.5 * a1 * ff1 - a2 * fg_p)
        w[BY_Q * LANES + i] = -a2 * (gy1 - 0.5 * a2 * gg1 - a1 * fg_q)
        w[PP * LANES + i] = (
            -a1 * (fy2 - 0.5 * a1 * ff2 - a2 * fg_pp)
            - (gg * p1 * p1 - 2.0 * fg * p1 * p2 + ff * p2 * p2) * scale
        )
        w[PQ * LANES + i] = (
            a1 * a2 * fg_pq - (gg * p1 * q1 - fg * (p1 * q2 + p2 * q1) + ff * p2 * q2) * scale
        )
        w[QQ * LANES + i] = (
            -a2 * (gy2 - 0.5 * a2 * gg2 - a1 * fg_qq)
            - (gg * q1 * q1 - 2.0 * fg * q1 * q2 + ff * q2 * q2) * scale
        )


@borrowing
def set_polynomial(c, window, powers, cell, row, lane, sums, w):
    """Set the polynomial of a lane to that of a window in a cell.

    Parameters
    ----------
    c, window
        Coordinates of all windows, shape (W, r), and which of them.
    powers, cell
        Coefficients in every cell of :data:`CELL`, shape (cells, r, 8), and which of them.
    row, lane
        Where in ``w``.
    sums
        Work space.  Shape (8,).
    """
    for j in range(POWERS):
        sums[j] = 0.0
    # Four coordinates per turn: otherwise the sums wait for each other.
    for k in range(0, c.shape[1], 4):
        c0, c1, c2, c3 = c[window, k], c[window, k + 1], c[window, k + 2], c[window, k + 3]
        for j in range(POWERS):
            sums[j] += (c0 * powers[cell, k, j] + c1 * powers[cell, k + 1, j]) + (
                c2 * powers[cell, k + 2, j] + c3 * powers[cell, k + 3, j]
            )
    for j in range(POWERS):
        w[(row + j) * LANES + lane] = sums[j]


@borrowing
def find_cells(w, low, last):
    """Find the cells of all lanes, and the places in them; ``last`` is the last cell."""
    for i in range(2 * LANES):
        place = (w[P * LANES + i] - low) * (1.0 / CELL)
        cell = float(int(place))
        cell = cell if cell < last else last
        cell = cell if cell > 0.0 else 0.0
        w[_CELL * LANES + i] = cell
        w[_X * LANES + i] = 2.0 * (place - cell) - 1.0


@kernel
def go_down(c, total, powers, low, n, of, starts, bounds, enough, ends):
    """Go downhill from many starts; a way does not depend on the others.

    Parameters
    ----------
    c, total
        Coordinates of windows, and the sums of their squares.  Shapes (W, r) and (W,).
    powers, low
        Of the table, as in :func:`set_polynomial`, and where its first cell begins.
    n
        Samples in a window.
    of, starts, bounds
        For each way: its window, ``p`` and ``q`` where it begins, and the least and greatest ones.
        Shapes (T,), (T, 2) and (T, 2, 2).
    enough
        As in :func:`.newton_lanes.step_all`.
    ends
        Gets ``p`` and ``q`` where the way ends, and what that says.  Shape (T, 4).
    """
    w = np.zeros(_ROWS * LANES)
    sums = np.empty(POWERS)
    way = np.full(LANES, -1)
    had = np.full((LANES, 3), -1)
    n_ways = of.size
    idle(w)
    begun = busy = min(n_ways, LANES)
    for i in range(begun):
        way[i] = i
        begin(DOUBLE, total[of[i]], starts[i], bounds[i], i, w)
    while busy > 0:
        find_cells(w, low, powers.shape[0] - 1.0)
        for i in range(LANES):
            if way[i] < 0:
                continue
            window = of[way[i]]
            if had[i, 2] != window:
                had[i, 0] = had[i, 1] = -1
                had[i, 2] = window
            for k in range(2):
                cell = int(w[(_CELL + k) * LANES + i])
                if had[i, k] != cell:
                    set_polynomial(c, window, powers, cell, _C + k * POWERS, i, sums, w)
                    had[i, k] = cell
        evaluate(w, n)
        step_all(w, enough)
        for i in range(LANES):
            j = way[i]
            if j < 0 or w[ENDED * LANES + i] == 0.0:
                continue
            ends[j, 0], ends[j, 1] = w[P * LANES + i], w[Q * LANES + i]
            ends[j, 2], ends[j, 3] = w[LEFT * LANES + i], w[DOUBTED * LANES + i]
            way[i] = -1
            if begun < n_ways:
                way[i] = begun
                begin(DOUBLE, total[of[begun]], starts[begun], bounds[begun], i, w)
                begun += 1
            else:
                busy -= 1
