"""Exponentials of even samples as short vectors, from tables.

All exponentials of a number of even samples lie in a space of some 30 dimensions, in which their
coordinates are polynomials of ``ln tau`` in cells of :data:`CELL`; :mod:`...relaxation_tables`
makes both.

Dimension letters: n samples of a window, r coordinates.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from oectflow.extractors.kernels.compiled import borrowing, kernel

#: Width of a cell, in ``ln tau``, and coefficients of its polynomials.
CELL = 0.0625
N_POWERS = 7


@kernel
def no_table():
    """Return the empty table, which says that functions are samples."""
    return np.empty((0, 0, 0)), 0.0


@njit(inline="always", error_model="numpy")
def polynomial(c, i, x):
    """Return a polynomial of :data:`N_POWERS` coefficients, its slope, and half its curvature."""
    h = c[6, i]
    f = h * x + c[5, i]
    k = h
    h = h * x + f
    f = f * x + c[4, i]
    k = k * x + h
    h = h * x + f
    f = f * x + c[3, i]
    k = k * x + h
    h = h * x + f
    f = f * x + c[2, i]
    k = k * x + h
    h = h * x + f
    f = f * x + c[1, i]
    k = k * x + h
    h = h * x + f
    f = f * x + c[0, i]
    return f, h, k


@borrowing
def look_up(cells, low, theta, f, h, k2):
    """Fill in an exponential and its first and second derivative from polynomials.

    Parameters
    ----------
    cells, low
        Coefficients by powers in every cell, shape (cells, 7, r), and where the first one begins.
    theta
        ``ln tau``.
    f, h, k2
        Get them.  Shape (r,).
    """
    place = (theta - low) / CELL
    cell = min(max(int(place), 0), cells.shape[0] - 1)
    x = 2.0 * (place - cell) - 1.0
    c = cells[cell]
    # Unrolled, which keeps sums in registers: 50 ns instead of 250.
    for i in range(f.size):
        value, slope, bend = polynomial(c, i, x)
        f[i] = value
        h[i] = slope * (2.0 / CELL)
        k2[i] = bend * (8.0 / CELL**2)


@borrowing
def in_coordinates(y, basis, c):
    """Fill in the coordinates of a window.  Shapes (n,), (n, r), (r,)."""
    c[:] = 0.0
    for k in range(y.size):
        v = y[k]
        for i in range(c.size):
            c[i] += v * basis[k, i]
