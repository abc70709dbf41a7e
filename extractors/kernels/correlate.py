"""Correlate every window of a trace with exponentials: with all nodes, and around one ``tau``.

``f = exp - 1`` replaces ``exp``, and every window is taken relative to its first sample: neither a
large baseline nor a long ``tau`` costs digits.

**How much a window can gain around one tau.**  With ``u(s)``, ``y``, ``c`` and ``kappa`` of
:mod:`.tau_grid`, ``s`` the arc from ``u_0``, and ``c_0``, ``c_0'`` known there,

``c(s) = c_0 cos s + c_0' sin s + integral from 0 to s of sin(s - x) kappa <N(x), y> dx``.

If ``c(s) >= c_need``, then ``y`` is within ``sine = sqrt(1 - c_need^2)`` of ``c u(s)``, and
``|<N(x), u(s)>| <= C (s - x)^2 / 2`` (Taylor, with ``|u''| <= C = sqrt(1 + kappa^2)``), so that
the integral is at most ``kappa (sine s^2 / 2 + C s^4 / 8)``.  With
``cos s <= 1 - s^2 / 2 + s^4 / 24`` and ``sin s <= s``, for all ``s`` up to ``S``,

``c(s) <= c_0 + |c_0'| s - bend s^2 / 2``,
``bend = c_0 - kappa sine - S^2 (kappa C / 4 + c_0 / 12)``,

which is at most ``c_0 + c_0'^2 / (2 bend)`` if ``bend`` is positive.

**How far it would have to go.**  ``|u(s) - u_0| <= |u(s) - y| + |y - u_0|``, both known from the
correlations.  This chord grows with ``|s|``: where it did not, the residual of the fit of ``u_0``
by a constant and ``u`` would be orthogonal to ``1``, ``exp`` and ``t exp``, hence change its sign
three times; but it is a combination of a constant and two exponentials, which has two zeros.  And a
curve of curvature ``C`` at most has a chord of ``2 sin(C s / 2) / C`` at least (Schur).

Dimension letters: n samples of a window, W starts, L lengths, K nodes, B starts of a block.
"""

from __future__ import annotations

import math

import numpy as np

from oectflow.extractors.kernels.compiled import borrowing, kernel
from oectflow.extractors.kernels.tau_grid import KAPPA, SLACK

#: Starts that are searched together; their samples stay in the first-level cache.
BLOCK = 64


@borrowing
def fill_block(y, first, last, start_step, used, d):
    """Lay windows side by side, relative to their first samples; NaN where there is no sample.

    Parameters
    ----------
    y, last, start_step
        As in :func:`correlate_windows`.
    first
        Begin of the first of the windows.
    used
        Number of windows, at most ``BLOCK``.
    d
        Gets the samples.  Shape (longest, B).
    """
    longest = d.shape[0]
    if start_step == 1 and first + BLOCK - 1 + longest <= last:
        # The usual case, without a branch in the loop.
        start = y[first : first + BLOCK]
        for j in range(longest):
            sample = y[first + j : first + j + BLOCK]
            for i in range(BLOCK):
                d[j, i] = sample[i] - start[i]
        return
    for j in range(longest):
        for i in range(BLOCK):
            s = first + i * start_step
            d[j, i] = y[s + j] - y[s] if i < used and s + j < last else math.nan


@kernel
def correlate_windows(y, first, last, start_step, lengths, f, weight, shift, fall, rise, tss):
    """Correlate every window with every node and keep the best decay and the best rise.

    Parameters
    ----------
    y
        Trace.  Shape (n_samples,); NaN loses the windows that hold it.
    first, last
        Windows lie in ``first:last``.
    start_step
        Distance of the starts.
    lengths, f, weight, shift
        As :func:`search_tables` has them.
    fall, rise
        Get the largest correlation of either sign, divided by nothing yet; 0 where there is none.
        Shape (L, W).
    tss
        Gets the sum of squares about the mean.  Shape (L, W).
    """
    longest = lengths[-1]
    n_starts = fall.shape[1]
    d = np.empty((longest, BLOCK))
    # Per length: best decay, best rise, sum of the samples.  One array, four sums in another: the
    # compiler must see that they do not overlap, or it will not vectorise.
    best = np.empty(3 * BLOCK * lengths.size)
    sums = np.empty(4 * BLOCK)
    for block in range(0, n_starts, BLOCK):
        used = min(BLOCK, n_starts - block)
        fill_block(y, first + block * start_step, last, start_step, used, d)
        sums[:] = 0.0
        best[:] = 0.0
        index = 0
        for j in range(longest):
            for i in range(BLOCK):
                sums[i] += d[j, i]
                sums[BLOCK + i] += d[j, i] * d[j, i]
            if lengths[index] == j + 1:
                at = 3 * BLOCK * index
                for i in range(BLOCK):
                    best[at + 2 * BLOCK + i] = sums[i]
                for i in range(used):
                    tss[index, block + i] = sums[BLOCK + i] - sums[i] * sums[i] / (j + 1)
                index += 1
        for k in range(0, f.shape[1], 4):
            correlate_four(d, k, lengths, f, weight, shift, sums, best)
        for index in range(lengths.size):
            at = 3 * BLOCK * index
            for i in range(used):
                fall[index, block + i] = best[at + i]
                rise[index, block + i] = -best[at + BLOCK + i]


@borrowing
def correlate_four(d, k, lengths, f, weight, shift, sums, best):
    """Correlate the windows of one block with nodes ``k`` to ``k + 3``."""
    for i in range(4 * BLOCK):
        sums[i] = 0.0
    done = 0
    for index in range(lengths.size):
        n = lengths[index]
        for j in range(done, n):
            f0, f1, f2, f3 = f[j, k], f[j, k + 1], f[j, k + 2], f[j, k + 3]
            row = d[j]
            for i in range(BLOCK):
                sums[i] += f0 * row[i]
                sums[BLOCK + i] += f1 * row[i]
                sums[2 * BLOCK + i] += f2 * row[i]
                sums[3 * BLOCK + i] += f3 * row[i]
        done = n
        w0, w1, w2, w3 = (
            weight[index, k],
            weight[index, k + 1],
            weight[index, k + 2],
            weight[index, k + 3],
        )
        v0, v1, v2, v3 = (
            shift[index, k],
            shift[index, k + 1],
            shift[index, k + 2],
            shift[index, k + 3],
        )
        at = 3 * BLOCK * index
        for i in range(BLOCK):
            total = best[at + 2 * BLOCK + i]
            c0 = w0 * sums[i] - v0 * total
            c1 = w1 * sums[BLOCK + i] - v1 * total
            c2 = w2 * sums[2 * BLOCK + i] - v2 * total
            c3 = w3 * sums[3 * BLOCK + i] - v3 * total
            a = c0 if c0 > c1 else c1
            b = c2 if c2 > c3 else c3
            a = a if a > b else b
            top = best[at + i]
            best[at + i] = a if a > top else top
            a = c0 if c0 < c1 else c1
            b = c2 if c2 < c3 else c3
            a = a if a < b else b
            top = best[at + BLOCK + i]
            best[at + BLOCK + i] = a if a < top else top


@kernel
def plane_tables(lengths, rate):
    """Return the basis of the plane of ``u`` and ``u'`` at one ``tau``.

    Returns
    -------
    ``f`` and ``h = df/dtheta``, shape (longest,); and for each length the means of both, the norm
    of the centred ``f``, the part of ``f`` in ``h``, and the norm of the rest of ``h``.  Shape
    (L, 5).
    """
    longest = lengths[-1]
    f = np.empty(longest)
    h = np.empty(longest)
    of_length = np.empty((lengths.size, 5))
    drop = math.expm1(-rate)
    value = 0.0
    sf = sh = sff = sfh = shh = 0.0
    index = 0
    for j in range(longest):
        f[j] = value
        h[j] = j * rate * (1.0 + value)
        sf += f[j]
        sh += h[j]
        sff += f[j] * f[j]
        sfh += f[j] * h[j]
        shh += h[j] * h[j]
        value += drop * (1.0 + value)
        if lengths[index] == j + 1:
            n = j + 1
            ff = sff - sf * sf / n
            fh = sfh - sf * sh / n
            of_length[index, 0] = sf / n
            of_length[index, 1] = sh / n
            of_length[index, 2] = math.sqrt(ff)
            of_length[index, 3] = fh / ff
            of_length[index, 4] = math.sqrt(max(0.0, shh - sh * sh / n - fh * fh / ff))
            index += 1
    return f, h, of_length


@borrowing
def largest_gain(c, slope, miss, sine, kappa):
    """Bound by how much a correlation that wins exceeds the one that is seen.

    Parameters
    ----------
    c, slope
        Correlation and its derivative by the arc, where it is seen.
    miss, sine
        Chord between a window and a fit with which it wins, and the sine of their angle.
    kappa
        Largest geodesic curvature.

    Returns
    -------
    Infinity where there is no bound.
    """
    square = 1.0 + kappa * kappa
    chord = miss + math.sqrt(2.0 * (max(0.0, 1.0 - c) + SLACK))
    # Up to here asin(x) <= x (1 + 0.19 x^2) with x = sqrt(1 + kappa^2) chord / 2.
    if not (c > 0.0 and square * chord * chord < 0.968):
        return math.inf
    arc_2 = (chord * (1.0 + 0.048 * square * chord * chord)) ** 2
    bend = c - kappa * sine - arc_2 * (kappa * math.sqrt(square) / 4.0 + c / 12.0)
    return 0.5 * slope * slope / bend if bend > 0.0 else math.inf


@borrowing
def add_samples(d, f, h, begin, end, sums):
    """Add samples ``begin:end`` of a block to the sums of ``d``, ``f d`` and ``h d``."""
    for j in range(begin, end):
        fj = f[j]
        hj = h[j]
        row = d[j]
        for i in range(BLOCK):
            sums[i] += row[i]
            sums[BLOCK + i] += fj * row[i]
            sums[2 * BLOCK + i] += hj * row[i]


@kernel
def bound_from(
    y, first, last, start_step, lengths, rate, sign, min_corrs, prune_below,
    correlations, tss, upper_bound,
):  # fmt: skip
    """Bound, as seen from one ``tau``, the correlation that windows have at any ``tau``.

    Parameters
    ----------
    y, first, last, start_step, lengths, tss
        As in :func:`correlate_windows`.
    rate
        ``1 / tau``.
    sign
        ``DECAY`` or ``RISE``.
    min_corrs
        Correlation that a window needs to win, at least 0; bounds hold for those who have it.
        Shape (L,).
    prune_below
        Windows with a correlation up to this are left out.  Shape (L,).
    correlations
        Normalised.  Shape (L, W).
    upper_bound
        Gets the bounds; kept where there is none.  Shape (L, W).

    Returns
    -------
    Index of the length and of the start of the window that has the largest adjusted R2 if it is
    worth its projection; (-1, -1) where there is none.
    """
    f, h, of_length = plane_tables(lengths, rate)
    d = np.empty((lengths[-1], BLOCK))
    sums = np.empty(3 * BLOCK)
    n_starts = correlations.shape[1]
    leader = -1, -1
    least = math.inf
    for block in range(0, n_starts, BLOCK):
        used = min(BLOCK, n_starts - block)
        fill_block(y, first + block * start_step, last, start_step, used, d)
        sums[:] = 0.0
        done = 0
        for index in range(lengths.size):
            n = lengths[index]
            add_samples(d, f, h, done, n, sums)
            done = n
            mean_f, mean_h, norm_f, tilt, norm_h = of_length[index]
            # Chord between y and a fit that wins, and the sine of their angle.
            miss = math.sqrt(2.0 * (1.0 - min_corrs[index]))
            sine = math.sqrt(1.0 - min_corrs[index] * min_corrs[index])
            for i in range(used):
                if not correlations[index, block + i] > prune_below[index]:
                    continue
                norm = sign / math.sqrt(tss[index, block + i])
                along = sums[BLOCK + i] - mean_f * sums[i]
                c = along * norm / norm_f
                across = sums[2 * BLOCK + i] - mean_h * sums[i] - tilt * along
                slope = abs(across * norm) / norm_h
                gain = largest_gain(c, slope, miss, sine, KAPPA)
                if gain < math.inf:
                    # Rounding is that of c, and larger where f and h are nearly parallel.
                    slack = SLACK * (1.0 + slope * norm_f / norm_h)
                    upper_bound[index, block + i] = c + gain + slack
                square = c * c + slope * slope
                unexplained = (1.0 - square) * (n - 1) / (n - 4)
                if unexplained < least:
                    least = unexplained
                    leader = index, block + i
    return leader
