"""Multilevel discrete wavelet transform of many series, and statistics of its bands.

A series is copied into a buffer with room on both sides, so that the boundary mode is nothing but
what is written there and the filter loop has no edges.  Low-pass and high-pass results come from
one pass over the buffer, and the statistics from passes over one band at a time, while it is in the
nearest cache.  Fusing them further was slower: a maximum in the filter loop keeps it from running
in vector instructions.

A series is worked on alone, always by the same instructions: it has the same bits in whatever
company.

Dimension letters: R series, n samples of a series, F taps of a filter, m coefficients of a band,
L levels, B = L + 1 bands.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from oectflow.extractors.kernels.compiled import borrowing, kernel
from oectflow.extractors.kernels.padding import extend
from oectflow.extractors.kernels.selection import median_magnitude

#: Columns of the statistics of a band, and of a series.
ENERGY, RELATIVE, RELATIVE_DETAIL, STD, MEAN_ABS, MAX_ABS = range(6)
ENTROPY, DETAIL_ENTROPY, TREND, SNR, NOISE_SIGMA = range(5)
N_BAND, N_SERIES = 6, 5
#: How a series ended.
COMPUTED, SHORT, FLAT, NOT_FINITE, NO_DATA = range(5)
#: Instead of a number of levels: 2 below 200 samples, 3 below 500, else 4.
ADAPTIVE = -1
ADAPTIVE_MOST = 4
#: Median of |c| over the standard deviation of normally distributed c.
NORMAL_MEDIAN = 0.6745
#: Sums run over blocks of this many coefficients, whose sums are added in float64: rounding grows
#: with the block, and not with the series.
BLOCK = 512

# NaN and infinities are data here, so `nnan` and `ninf` stay out; `reassoc` is what lets a sum run
# in vector instructions.
_SUMS = {"contract", "reassoc", "nsz"}


@borrowing
def fitting_level(n, wanted, n_taps):
    """Return the level for a series: the wanted one, or the largest at which a filter fits.

    That is the largest L with ``n >= (F - 1) 2**L``, as ``pywt.dwt_max_level``: beyond it no
    coefficient is free of padding.

    Returns
    -------
    The level, and whether it is less than the wanted one.
    """
    if wanted == ADAPTIVE:
        wanted = 2 if n < 200 else 3 if n < 500 else ADAPTIVE_MOST
    level = 0
    while level < wanted and (n_taps - 1) << (level + 1) <= n:
        level += 1
    return level, level < wanted


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})
def filter_step(p, lo, hi, m, a, d):
    """Filter and keep every second result: ``a[i] = sum_j lo[j] p[2 i + j]``, ``d`` with ``hi``.

    Parameters
    ----------
    p
        Extended series.  Shape (2 m + F - 2,) or more.
    lo, hi
        Filters in the order in which they meet the samples.  Shape (F,), F even.
    m
        Number of results.
    a, d
        Get the results.  Shape (m,) or more.
    """
    n_taps = lo.size
    # An index that might be negative, as far as the compiler can tell, keeps a loop from running in
    # vector instructions: slices here and below begin where the work begins.
    # Eight taps at a time stay in registers; db4 is done in one pass.
    j = 0
    if n_taps >= 8:
        l0, l1, l2, l3, l4, l5, l6, l7 = lo[0], lo[1], lo[2], lo[3], lo[4], lo[5], lo[6], lo[7]
        h0, h1, h2, h3, h4, h5, h6, h7 = hi[0], hi[1], hi[2], hi[3], hi[4], hi[5], hi[6], hi[7]
        for i in range(m):
            k = 2 * i
            x0, x1, x2, x3 = p[k], p[k + 1], p[k + 2], p[k + 3]
            x4, x5, x6, x7 = p[k + 4], p[k + 5], p[k + 6], p[k + 7]
            low = l0 * x0 + l1 * x1 + l2 * x2 + l3 * x3
            high = h0 * x0 + h1 * x1 + h2 * x2 + h3 * x3
            a[i] = low + l4 * x4 + l5 * x5 + l6 * x6 + l7 * x7
            d[i] = high + h4 * x4 + h5 * x5 + h6 * x6 + h7 * x7
        j = 8
    else:
        l0, l1, h0, h1 = lo[0], lo[1], hi[0], hi[1]
        for i in range(m):
            k = 2 * i
            a[i] = l0 * p[k] + l1 * p[k + 1]
            d[i] = h0 * p[k] + h1 * p[k + 1]
        j = 2
    while j < n_taps:
        l0, l1, h0, h1 = lo[j], lo[j + 1], hi[j], hi[j + 1]
        x = p[j:]
        if n_taps - j >= 4:
            l2, l3, h2, h3 = lo[j + 2], lo[j + 3], hi[j + 2], hi[j + 3]
            for i in range(m):
                k = 2 * i
                x0, x1, x2, x3 = x[k], x[k + 1], x[k + 2], x[k + 3]
                a[i] += l0 * x0 + l1 * x1 + l2 * x2 + l3 * x3
                d[i] += h0 * x0 + h1 * x1 + h2 * x2 + h3 * x3
            j += 4
        else:
            for i in range(m):
                k = 2 * i
                a[i] += l0 * x[k] + l1 * x[k + 1]
                d[i] += h0 * x[k] + h1 * x[k + 1]
            j += 2


# Without `reassoc`, by which `(x - origin) - mean` may become `x - (origin + mean)`.
@borrowing
def load(x, centre, p):
    """Copy a series into its buffer, without its mean if so wished; return whether it is finite.

    The mean is that of the differences from the first sample: rounding is then a share of the
    series' range and not of its offset, and a constant series becomes exactly zero.

    Parameters
    ----------
    x
        Shape (n,), n >= 1.
    centre
        Subtract the mean.
    p
        Gets the series.  Shape (n,) or more.
    """
    n = x.size
    origin = np.float64(x[0])
    # Four sums do not wait for each other.
    sum_0 = sum_1 = sum_2 = sum_3 = 0.0
    for i in range(0, n - 3, 4):
        sum_0 += np.float64(x[i]) - origin
        sum_1 += np.float64(x[i + 1]) - origin
        sum_2 += np.float64(x[i + 2]) - origin
        sum_3 += np.float64(x[i + 3]) - origin
    for i in range(n - n % 4, n):
        sum_0 += np.float64(x[i]) - origin
    total = (sum_0 + sum_1) + (sum_2 + sum_3)
    if centre:
        mean = total / n
        for i in range(n):
            p[i] = (np.float64(x[i]) - origin) - mean
    else:
        for i in range(n):
            p[i] = x[i]
    return math.isfinite(total)


@njit(nogil=True, cache=True, error_model="numpy", fastmath=_SUMS)
def block_sums(c):
    """Return the sums of ``c``, ``c**2`` and ``|c|`` of one block, in its own precision."""
    total = c.dtype.type(0)
    energy = c.dtype.type(0)
    magnitude = c.dtype.type(0)
    for i in range(c.size):
        total += c[i]
        energy += c[i] * c[i]
        magnitude += abs(c[i])
    return total, energy, magnitude


@njit(nogil=True, cache=True, error_model="numpy", fastmath=_SUMS)
def block_deviation(c, mean):
    """Return the sum of ``(c - mean)**2`` of one block, in its own precision."""
    total = c.dtype.type(0)
    for i in range(c.size):
        total += (c[i] - mean) * (c[i] - mean)
    return total


@borrowing
def largest_magnitude(bits, m, magnitude_bits):
    """Return the largest magnitude, from and as bit patterns, whose order is the same."""
    top = np.int64(0)
    for i in range(m):
        top = max(top, bits[i] & magnitude_bits)
    return top


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})
def band_statistics(c, bits, m, bands, series, band):
    """Compute energy, std, mean and maximum magnitude of one band.

    ``E = sum c**2`` and ``std = sqrt(mean((c - mean(c))**2))``, in two passes where the mean
    counts: the shortcut ``E / m - mean**2`` loses half of the digits if the mean is a thousand std.

    Parameters
    ----------
    c, bits
        Coefficients, and the same memory as integers of their width; the entry behind the last one
        is overwritten.  Shape (m + 1,) or more.
    m
        Number of coefficients, at least 1.
    bands, series, band
        ``bands[series, band]`` gets the statistics.
    """
    total, energy, magnitude = 0.0, 0.0, 0.0
    for begin in range(0, m, BLOCK):
        sums = block_sums(c[begin : min(begin + BLOCK, m)])
        total += sums[0]
        energy += sums[1]
        magnitude += sums[2]
    mean = total / m
    deviation = energy - mean * total
    # The shortcut loses digits with the ratio of energy to deviation; the details have no mean.
    if deviation < 0.75 * energy:
        deviation = 0.0
        for begin in range(0, m, BLOCK):
            deviation += block_deviation(c[begin : min(begin + BLOCK, m)], c.dtype.type(mean))
    # As integers: a maximum of floating-point numbers takes ten times as long.
    bits[m] = largest_magnitude(bits, m, np.iinfo(bits.dtype).max)
    bands[series, band, ENERGY] = energy
    bands[series, band, STD] = math.sqrt(deviation / m)
    bands[series, band, MEAN_ABS] = magnitude / m
    bands[series, band, MAX_ABS] = c[m]


@njit(nogil=True, cache=True, error_model="numpy", fastmath=_SUMS)
def line_slope(c):
    """Return the slope of the straight line through equidistant points, by least squares."""
    m = c.size
    total = 0.0
    # Counted in floating point: converting an index took most of the time.
    from_middle = -0.5 * (m - 1)
    for i in range(m):
        total += from_middle * c[i]
        from_middle += 1.0
    return total / (m * (m * m - 1.0) / 12.0)


@borrowing
def shares(bands, series, with_approximation, level, column):
    """Divide the energies of the bands by their sum; return the Shannon entropy of the shares.

    Without energy all shares are 0, and so is the entropy (in nats).
    """
    n_bands = bands.shape[1]
    total = bands[series, 0, ENERGY] if with_approximation else 0.0
    for band in range(n_bands - level, n_bands):
        total += bands[series, band, ENERGY]
    entropy = 0.0
    for k in range(0 if with_approximation else 1, level + 1):
        band = n_bands - k if k > 0 else 0
        share = bands[series, band, ENERGY] / total if total > 0.0 else 0.0
        bands[series, band, column] = share
        if share > 0.5:
            # ln(share) would lose the digits in which a large share differs from 1.
            rest = 0.0
            for other in range(0 if with_approximation else 1, level + 1):
                if other != k:
                    rest += bands[series, n_bands - other if other > 0 else 0, ENERGY]
            entropy -= share * math.log1p(-rest / total)
        elif share > 0.0:
            entropy -= share * math.log(share)
    return entropy


@borrowing
def decibels(signal, noise, epsilon):
    """Return ``20 log10(signal / noise)``, within what the precision can tell; 0 for 0 / 0."""
    most = -20.0 * math.log10(epsilon)
    if signal == 0.0 and noise == 0.0:
        return 0.0
    if noise == 0.0:
        return most
    if signal == 0.0:
        return -most
    return min(max(20.0 * math.log10(signal / noise), -most), most)


@kernel
def statistics(
    x, begins, ends, wanted, lo, hi, mode, centre, work, bits, spare, bands, rows, levels, codes
):
    """Transform many series and compute the statistics of their bands.

    Parameters
    ----------
    x
        Samples of all series.
    begins, ends
        Series r is ``x[begins[r] : ends[r]]``, at most n samples.  Shape (R,).
    wanted
        Number of levels, or ``ADAPTIVE``.
    lo, hi
        As in :func:`filter_step`; their type is that of the computation.  Shape (F,).
    mode, centre
        As in :func:`.padding.extend` and :func:`load`.
    work, bits, spare
        Work space: one band, the same memory as integers of that width, and two rows of such
        integers.  Shapes (n + 2 F,), (n + 2 F,), (2, n + 2 F).
    bands, rows
        Get the statistics, NaN where there are none: of cA first, cD1 last, cD2 before it, and so
        on.  Shapes (R, B, N_BAND), (R, N_SERIES).
    levels, codes
        Get the levels computed, -1 where there is no answer, and how each series ended.  Shape
        (R,).
    """
    n_taps = lo.size
    first = n_taps - 2
    fine = bands.shape[1] - 1
    even = np.zeros(work.size + n_taps, lo.dtype)
    odd = np.zeros(work.size + n_taps, lo.dtype)
    even_series, odd_series = even[first:], odd[first:]
    sort_1, sort_2 = spare[0], spare[1]
    epsilon = np.finfo(lo.dtype).eps
    bands[:] = math.nan
    rows[:] = math.nan
    levels[:] = -1
    for r in range(begins.size):
        n = ends[r] - begins[r]
        if n == 0:
            codes[r] = NO_DATA
            continue
        if not load(x[begins[r] : ends[r]], centre, even_series):
            codes[r] = NOT_FINITE
            continue
        level, short = fitting_level(n, wanted, n_taps)
        energy = 0.0
        # Samples that owe nothing to the padding.
        clean_from, clean_to = 0, n
        for j in range(1, level + 1):
            m = (n + n_taps - 1) // 2
            if j % 2 == 1:
                extend(even, first, n, n_taps - 2, n_taps - 1, mode)
                filter_step(even, lo, hi, m, odd_series, work)
            else:
                extend(odd, first, n, n_taps - 2, n_taps - 1, mode)
                filter_step(odd, lo, hi, m, even_series, work)
            band_statistics(work, bits, m, bands, r, fine + 1 - j)
            energy += bands[r, fine + 1 - j, ENERGY]
            if j == 1:
                rows[r, NOISE_SIGMA] = (
                    median_magnitude(bits, m, work, bands[r, fine, MEAN_ABS], sort_1, sort_2)
                    / NORMAL_MEDIAN
                )
            clean_from = (clean_from + n_taps - 1) // 2
            clean_to = clean_to // 2
            n = m
        approximation = odd_series if level % 2 == 1 else even_series
        for i in range(n):
            work[i] = approximation[i]
        band_statistics(work, bits, n, bands, r, 0)
        energy += bands[r, 0, ENERGY]
        if clean_to - clean_from >= 2:
            # cA is 2**(level / 2) times the series, one for every 2**level samples.
            slope = line_slope(work[clean_from:clean_to])
            rows[r, TREND] = slope / (2.0**level * math.sqrt(2.0**level))
        rows[r, ENTROPY] = shares(bands, r, True, level, RELATIVE)
        if level > 0:
            rows[r, DETAIL_ENTROPY] = shares(bands, r, False, level, RELATIVE_DETAIL)
            rows[r, SNR] = decibels(bands[r, 0, STD], bands[r, fine, STD], epsilon)
        levels[r] = level
        codes[r] = FLAT if energy == 0.0 else SHORT if short else COMPUTED


@kernel
def coefficients(x, level, lo, hi, mode, out):
    """Transform many series of equal length.

    Parameters
    ----------
    x
        Shape (R, n), n >= 1.
    level
        Number of levels, any.
    lo, hi, mode
        As in :func:`statistics`.
    out
        Gets cA, cD of the last level, ..., cD1 of every series, one behind the other.  Shape
        (R, sum of the bands' lengths).
    """
    n_taps = lo.size
    first = n_taps - 2
    even = np.zeros(x.shape[1] + 3 * n_taps, lo.dtype)
    odd = np.zeros(x.shape[1] + 3 * n_taps, lo.dtype)
    even_series, odd_series = even[first:], odd[first:]
    for r in range(x.shape[0]):
        row, result = x[r], out[r]
        n = row.size
        for i in range(n):
            even_series[i] = row[i]
        end = result.size
        for j in range(1, level + 1):
            m = (n + n_taps - 1) // 2
            if j % 2 == 1:
                extend(even, first, n, n_taps - 2, n_taps - 1, mode)
                filter_step(even, lo, hi, m, odd_series, result[end - m :])
            else:
                extend(odd, first, n, n_taps - 2, n_taps - 1, mode)
                filter_step(odd, lo, hi, m, even_series, result[end - m :])
            end -= m
            n = m
        approximation = odd_series if level % 2 == 1 else even_series
        for i in range(n):
            result[i] = approximation[i]
