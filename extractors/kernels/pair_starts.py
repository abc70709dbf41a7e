"""Two exponentials with a constant: where to begin, of several windows side by side.

This does what :func:`.mixtures.gains` and :func:`.mixtures.best_starts` do, with windows in lanes.

Dimension letters: n samples of a window, r coordinates, K nodes.
"""

from __future__ import annotations

import math

import numpy as np

from oectflow.extractors.kernels.compiled import borrowing, kernel

#: Windows side by side.
LANES = 16
#: Sums of squares within which no product is too large or too small.
SMALLEST, LARGEST = 1e-200, 1e200

# Rows of what is known of a window.
MEAN, TOTAL, HIGHEST = range(3)
N_ABOUT = 3


@borrowing
def centre(y, starts, n, yt, about):
    """Take windows, less their first samples and their means.

    Parameters
    ----------
    y, starts, n
        Trace, first samples, and samples in a window.  Lanes without a window repeat another.
        ``starts`` has the shape (LANES,).
    yt
        Gets the windows, sample by sample.  Shape (n * LANES,).
    about
        Gets their means, sums of squares, and what no sample is larger than.  Shape (3 * LANES,).
    """
    for i in range(LANES):
        a = starts[i]
        first = y[a]
        for k in range(n):
            yt[k * LANES + i] = y[a + k] - first
        about[MEAN * LANES + i] = 0.0
        about[TOTAL * LANES + i] = 0.0
    whole = n - n % 4
    for k in range(0, whole, 4):
        for i in range(LANES):
            about[MEAN * LANES + i] += (yt[k * LANES + i] + yt[(k + 1) * LANES + i]) + (
                yt[(k + 2) * LANES + i] + yt[(k + 3) * LANES + i]
            )
    for k in range(whole, n):
        for i in range(LANES):
            about[MEAN * LANES + i] += yt[k * LANES + i]
    for i in range(LANES):
        about[MEAN * LANES + i] *= 1.0 / n
    for k in range(0, whole, 4):
        for i in range(LANES):
            mean = about[MEAN * LANES + i]
            v0, v1 = yt[k * LANES + i] - mean, yt[(k + 1) * LANES + i] - mean
            v2, v3 = yt[(k + 2) * LANES + i] - mean, yt[(k + 3) * LANES + i] - mean
            yt[k * LANES + i], yt[(k + 1) * LANES + i] = v0, v1
            yt[(k + 2) * LANES + i], yt[(k + 3) * LANES + i] = v2, v3
            about[TOTAL * LANES + i] += (v0 * v0 + v1 * v1) + (v2 * v2 + v3 * v3)
    for k in range(whole, n):
        for i in range(LANES):
            v = yt[k * LANES + i] - about[MEAN * LANES + i]
            yt[k * LANES + i] = v
            about[TOTAL * LANES + i] += v * v
    for i in range(LANES):
        # No sample is farther from the mean than all of them are together.
        level = abs(y[starts[i]]) + abs(about[MEAN * LANES + i])
        about[HIGHEST * LANES + i] = level + math.sqrt(about[TOTAL * LANES + i])


@borrowing
def multiply(rows, columns, n_rows, n_inner, sums, out):
    """Multiply every lane by the columns of a matrix, four of them per turn.

    Parameters
    ----------
    rows
        Rows of every lane.  Shape (n_inner * LANES,).
    columns
        Shape (n_inner, n_rows), ``n_rows`` a multiple of four.
    sums
        Work space.  Shape (4 * LANES,).
    out
        Gets the products.  Shape (n_rows * LANES,).
    """
    whole = n_inner - n_inner % 4
    for k in range(0, n_rows, 4):
        for i in range(4 * LANES):
            sums[i] = 0.0
        # Four of the inner ones per turn, since the sums are in memory.
        for j in range(0, whole, 4):
            a0, a1, a2, a3 = (
                columns[j, k], columns[j, k + 1], columns[j, k + 2], columns[j, k + 3]
            )  # fmt: skip
            b0, b1, b2, b3 = (
                columns[j + 1, k], columns[j + 1, k + 1], columns[j + 1, k + 2],
                columns[j + 1, k + 3],
            )  # fmt: skip
            c0, c1, c2, c3 = (
                columns[j + 2, k], columns[j + 2, k + 1], columns[j + 2, k + 2],
                columns[j + 2, k + 3],
            )  # fmt: skip
            d0, d1, d2, d3 = (
                columns[j + 3, k], columns[j + 3, k + 1], columns[j + 3, k + 2],
                columns[j + 3, k + 3],
            )  # fmt: skip
            for i in range(LANES):
                s = rows[j * LANES + i]
                t = rows[(j + 1) * LANES + i]
                u = rows[(j + 2) * LANES + i]
                v = rows[(j + 3) * LANES + i]
                sums[i] += (a0 * s + b0 * t) + (c0 * u + d0 * v)
                sums[LANES + i] += (a1 * s + b1 * t) + (c1 * u + d1 * v)
                sums[2 * LANES + i] += (a2 * s + b2 * t) + (c2 * u + d2 * v)
                sums[3 * LANES + i] += (a3 * s + b3 * t) + (c3 * u + d3 * v)
        for j in range(whole, n_inner):
            for m in range(4):
                a0 = columns[j, k + m]
                for i in range(LANES):
                    sums[m * LANES + i] += a0 * rows[j * LANES + i]
        for i in range(4 * LANES):
            out[k * LANES + i] = sums[i]


@borrowing
def fill_gains(c, gram, n_nodes, gain):
    """Fill in what the fit at every pair of nodes explains.

    Parameters
    ----------
    c
        Products of every lane with the exponentials at the nodes.  Shape (K, LANES).
    gram
        Products of these with each other.  Shape (K, K).
    gain
        Gets it at (i + 1, j + 1), with a margin of minus infinity.  Shape (K + 2, K + 2, LANES).
    """
    last = n_nodes - 1
    for i in range(last):
        for j in range(i + 1, n_nodes, 4):
            # Four pairs per turn; the last ones may be the same pair.
            j1, j2, j3 = min(j + 1, last), min(j + 2, last), min(j + 3, last)
            g0, g1, g2, g3 = gram[i, j], gram[i, j1], gram[i, j2], gram[i, j3]
            s0, s1 = 1.0 / (1.0 - g0 * g0), 1.0 / (1.0 - g1 * g1)
            s2, s3 = 1.0 / (1.0 - g2 * g2), 1.0 / (1.0 - g3 * g3)
            for k in range(LANES):
                a, b0, b1, b2, b3 = c[i, k], c[j, k], c[j1, k], c[j2, k], c[j3, k]
                gain[i + 1, j + 1, k] = (a * a - 2.0 * g0 * a * b0 + b0 * b0) * s0
                gain[i + 1, j1 + 1, k] = (a * a - 2.0 * g1 * a * b1 + b1 * b1) * s1
                gain[i + 1, j2 + 1, k] = (a * a - 2.0 * g2 * a * b2 + b2 * b2) * s2
                gain[i + 1, j3 + 1, k] = (a * a - 2.0 * g3 * a * b3 + b3 * b3) * s3


@borrowing
def fill_highest(before, here, after, highest):
    """Fill in the greatest of three, number by number."""
    for k in range(highest.size):
        a, b, c = before[k], here[k], after[k]
        higher = a if a > b else b
        highest[k] = higher if higher > c else c


@borrowing
def find_maxima(gain, above, rows, marks, starts, found):
    """Fill in the greatest local maxima of every lane, the greatest first.

    Parameters
    ----------
    gain
        What pairs of nodes explain, with a margin, as from :func:`fill_gains`.  Shape
        (K + 2, M + 2, LANES).
    above
        Whether the gain is that of two exponentials, of which the second is slower.
    rows
        Work space: the greatest of three neighbours in a row.  Shape (K + 2, (M + 2) * LANES).
    marks
        Work space: the greatest of nine.  Shape ((M + 2) * LANES,).
    starts, found
        Get the indices of nodes, and how many there are.  Shapes (LANES, most, 2) and (LANES,).
    """
    most = starts.shape[1]
    n_first, n_second = gain.shape[0] - 2, gain.shape[1] - 2
    size = (n_second + 2) * LANES
    for i in range(LANES):
        found[i] = 0
    for i in range(n_first + 2):
        flat = gain[i].reshape(size)
        begin, end = (max(i, 1) if above else 1) * LANES, size - LANES
        fill_highest(
            flat[begin - LANES : end - LANES], flat[begin:end], flat[begin + LANES :],
            rows[i, begin:end],
        )  # fmt: skip
    for i in range(1, n_first + 1):
        first = i + 1 if above else 1
        begin = first * LANES
        fill_highest(rows[i - 1, begin:], rows[i, begin:], rows[i + 1, begin:], marks[begin:])
        for j in range(first, n_second + 1):
            any_one = 0
            for k in range(LANES):
                any_one |= 1 if gain[i, j, k] >= marks[j * LANES + k] else 0
            if any_one == 0:
                continue
            for k in range(LANES):
                top = gain[i, j, k]
                if top < marks[j * LANES + k]:
                    continue
                # Sort it in, the greatest first.
                place = min(found[k], most - 1)
                if found[k] == most and value(gain, starts, k, place) >= top:
                    continue
                while place > 0 and value(gain, starts, k, place - 1) < top:
                    starts[k, place, 0] = starts[k, place - 1, 0]
                    starts[k, place, 1] = starts[k, place - 1, 1]
                    place -= 1
                starts[k, place, 0], starts[k, place, 1] = i - 1, j - 1
                found[k] = min(found[k] + 1, most)


@borrowing
def value(gain, starts, lane, place):
    """Return what the start at a place explains."""
    return gain[starts[lane, place, 0] + 1, starts[lane, place, 1] + 1, lane]


@kernel
def start_space(r, n_nodes):
    """Return the work space of a group of windows."""
    wide = n_nodes + 2
    return (
        np.empty(r * LANES),
        np.empty(n_nodes * LANES),
        np.empty(4 * LANES),
        np.full((wide, wide, LANES), -math.inf),
        np.full((wide, wide * LANES), -math.inf),
        np.empty(wide * LANES),
    )
