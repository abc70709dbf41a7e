"""When a current has gone 10, 63 and 90 % of the way from one plateau to the next.

A plateau is the mean of the last quarter of a phase.  Where noise is larger than what the current
does from sample to sample, it crosses a level many times.  So the crossing is first placed where
most samples before are below the level and most samples behind are above it: where the sum of what
is missing to the level is greatest.  Then a parabola through the samples around it is followed to
the level.  Such sums choose these samples, too, by levels below and above.

Every number so found is a weighted sum of samples, divided by a slope.  Its standard error follows
from these weights and the noise, which is autoregressive of first order.  The noise on both
plateaus is known from their scatter.

Dimension letters: N samples of a step, W phases.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from oectflow.extractors.kernels.ceilings import limits_of, pile_up
from oectflow.extractors.kernels.compiled import borrowing, kernel
from oectflow.extractors.kernels.downhill import decompose, solve
from oectflow.extractors.kernels.gate import OVERFLOW, extremes
from oectflow.extractors.kernels.levels import (
    COUNT,
    MEAN,
    N_KNOWN,
    WORST,
    drift_of,
    measure_plateau,
    noise_of,
    rest,
    variances_of_sums,
)
from oectflow.extractors.kernels.residuals import OUTLIER_T
from oectflow.extractors.kernels.vectors import WIDTH, like, load, store, where_less

#: Columns of a phase: times from its first sample to 10, 63 and 90 % of the way, from 10 to 90 %,
#: standard errors of the last two, and both plateaus.  Times are in those of the samples.
TO_10, TO_63, TO_90, WAY, SE_63, SE_WAY, BEGIN, END = range(8)
N_COLUMNS = 8
#: How a phase ended.
FOUND, TOO_FEW, NOT_FINITE, MARKED, NO_BEGIN, NOISE, FAST, UNSETTLED, NOT_MONOTONE = range(9)
CLIPPED, OUTLIER = range(9, 11)
#: Shares of the way, and how far below and above them samples are fitted.
SHARES = (0.1, 1.0 - math.exp(-1.0), 0.9)
LOWER = (0.07, 0.08, 0.04)
UPPER = (0.1, 0.08, 0.03)
#: These distances are at least so many standard deviations of the noise, and end at these shares.
WIDE = 2.5
LEAST, MOST = 0.02, 0.97
#: The current goes beyond its plateaus where it is above this share of the way, or as far below 0.
BEYOND = 1.1
LN_9 = math.log(9.0)
#: Levels that are looked at: below, at and above each of the three shares, in whole vectors.
N_LEVELS = 12
#: Least samples of a phase, of which a quarter is the plateau, and of a parabola.
FEWEST, OF_PARABOLA = 16, 4
#: A way of fewer samples cannot be told from a step.
FASTEST = 3.0
#: Standard errors of the change from plateau to plateau below which there is none.
LEAST_CHANGE = 5.0
#: Noise, as a share of the way, beyond which crossings cannot be told.
LOUD = 0.035
#: Where an error is worked out, a slope is at most so many times the mean one between the levels.
STEEP = 1.15
#: Share of the time beyond which its standard error leaves it unknown.
UNKNOWN = 0.1
#: Standard errors that a sum of samples on the wrong side of a level may reach: such sums are many.
MANY_CHANCES = 5.0
#: Shares of the way by which a sample is off the curve, or the plateau, before it is an outlier.
SEEN, SEEN_ON_PLATEAU = 0.05, 0.01
#: Samples that a gap between two phases may have, beside a twentieth of the phase.
GAP = 3


@borrowing
def place_levels(y, levels, at):
    """Place the crossings of levels, by the sums of what is missing to each of them.

    Parameters
    ----------
    y
        Share of the way, sample by sample.
    levels
        Shape (12,).
    at
        Gets the number of samples before each crossing.  Shape (12,).
    """
    for i in range(0, N_LEVELS, WIDTH):
        level = load(levels, i)
        zero = like(level, 0.0)
        total, best, found = zero, zero, zero
        for k in range(y.size):
            total = total + level - like(level, y[k])
            found = where_less(best, total, like(level, k + 1.0), found)
            best = where_less(best, total, total, best)
        store(at, i, found)


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc"})
def all_wrong(y, level, at):
    """Return the sum of what samples are above a level before its crossing, and below it behind.

    In any order, so that the processor adds several at a time: good to rounding.
    """
    total = 0.0
    for k in range(at):
        wrong = y[k] - level
        total += wrong if wrong > 0.0 else 0.0
    for k in range(at, y.size):
        wrong = level - y[k]
        total += wrong if wrong > 0.0 else 0.0
    return total


@borrowing
def turns_back(y, level, at, allowed):
    """Tell whether samples before a crossing are above the level, or those behind are below it.

    The largest sum of neighbours decides, in units of what the noise of so many samples sums up to.

    Parameters
    ----------
    y, level, at
        Shares of the way, the level, and the samples before its crossing.
    allowed
        Largest noise of one sample that is chance.
    """
    # No neighbours add up to more than all samples that are on the wrong side.
    if all_wrong(y, level, at) < 0.999 * allowed:
        return False
    total = 0.0
    count = 0
    for k in range(y.size):
        wrong = y[k] - level if k < at else level - y[k]
        if k == at or total <= 0.0:
            total = 0.0
            count = 0
        total += wrong
        count += 1
        if total > allowed and total * total > allowed * allowed * count:
            return True
    return False


@borrowing
def follow_parabola(y, t, begin, end, level, at, noise, solving, weights):
    """Follow a least-squares parabola, or a line through few samples, to a level.

    Parameters
    ----------
    y, t
        Shares of the way and their times.
    begin, end
        The samples that are fitted.
    level, at
        The level, and the sample behind its crossing.
    noise
        Standard deviation of a sample.
    solving
        Work space.  Shapes (3, 3) and (2, 3).
    weights
        Gets the weights of the samples in the value of the curve there.  Shape (>= end - begin,).

    Returns
    -------
    When the curve is at the level, and its slope there; NaN where it does not get there.  Whether
    a sample is far from the curve.
    """
    normal, vectors = solving
    sums, fit = vectors[0], vectors[1]
    n_terms = 3 if end - begin >= OF_PARABOLA else 2
    origin = 0.5 * (t[at - 1] + t[at])
    unit = t[end - 1] - t[begin]
    normal[:] = 0.0
    sums[:] = 0.0
    for k in range(begin, end):
        x = (t[k] - origin) / unit
        v = y[k] - level
        square = x * x
        normal[0, 0] += 1.0
        normal[1, 0] += x
        normal[1, 1] += square
        normal[2, 1] += square * x
        normal[2, 2] += square * square
        sums[0] += v
        sums[1] += x * v
        sums[2] += square * v
    normal[2, 0] = normal[1, 1]
    if not decompose(normal, n_terms):
        return math.nan, math.nan, False
    fit[2] = 0.0
    solve(normal, sums, n_terms, fit)
    x = 0.0
    for _ in range(20):
        move = -(fit[0] + (fit[1] + fit[2] * x) * x) / (fit[1] + 2.0 * fit[2] * x)
        x += move
        if not abs(move) > 1e-12:
            break
    slope = fit[1] + 2.0 * fit[2] * x
    # One sample beyond is allowed, since the coarse place of a crossing is a sample.
    room = 1.0 / (end - begin)
    first, last = (t[begin] - origin) / unit - room, (t[end - 1] - origin) / unit + room
    if not (slope > 0.0 and first <= x <= last):
        return math.nan, math.nan, False
    worst = 0.0
    for k in range(begin, end):
        x_k = (t[k] - origin) / unit
        curve = level + fit[0] + (fit[1] + fit[2] * x_k) * x_k
        worst = max(worst, abs(y[k] - curve))
    few = 1.0 + 8.0 / (end - begin)
    sums[0], sums[1], sums[2] = 1.0, x, x * x
    solve(normal, sums, n_terms, fit)
    for k in range(begin, end):
        x_k = (t[k] - origin) / unit
        weights[k - begin] = fit[0] + fit[1] * x_k + (fit[2] * x_k * x_k if n_terms == 3 else 0.0)
    far = worst > max(OUTLIER_T * few * noise, SEEN)
    return origin + x * unit, slope / unit, far


@borrowing
def cross_phase(y, t, first, length, plateaus, w, phi, sigma, kind, drifts, left, row, space):
    """Find the crossings of one phase, whose plateau and the one before are known.

    Parameters
    ----------
    y, t
        Samples of the step and their times.  Shape (N,).
    first, length, plateaus, kind
        The phases in the order of time, and what is known of their plateaus.
    w
        Which phase.
    phi, sigma, drifts
        From :func:`noise_of`, and from :func:`drift_of` of the plateau before and of this one.
    left
        How far from their ends plateaus are, where it is known; gets that of this phase.
    row
        Gets the columns.
    space
        Work space: shares of the way and weights in a parabola, (2, > samples of the phase);
        weights of all samples, (2, samples from plateau to plateau); levels, (2, 12); and that of
        :func:`follow_parabola`.

    Returns
    -------
    ``FOUND``, or what is wrong.
    """
    way, weights, levels, solving = space
    begin, end = plateaus[w - 1], plateaus[w]
    change = end[MEAN] - begin[MEAN]
    row[BEGIN], row[END] = begin[MEAN], end[MEAN]
    wider = (1.0 + phi) / (1.0 - phi)
    noise_begin, noise_end = sigma[kind[w - 1]], sigma[kind[w]]
    error = math.sqrt(wider * (noise_begin**2 / begin[COUNT] + noise_end**2 / end[COUNT]))
    noise = max(noise_begin, noise_end) * math.sqrt(wider) / abs(change)
    if not (abs(change) > LEAST_CHANGE * error and noise < LOUD):
        return NOISE
    # Begin with the last sample before the switch.
    a = first[w] - 1
    n = length[w] + 1
    if not abs(y[a]) < OVERFLOW:
        return NO_BEGIN
    v = way[0, :n]
    for k in range(n):
        v[k] = (y[a + k] - begin[MEAN]) / change
    wide = WIDE * noise
    for i in range(3):
        levels[0, 3 * i] = max(SHARES[i] - max(LOWER[i], wide), LEAST)
        levels[0, 3 * i + 1] = SHARES[i]
        levels[0, 3 * i + 2] = min(SHARES[i] + max(UPPER[i], wide), MOST)
    at = levels[1]
    place_levels(v, levels[0], at)
    allowed = MANY_CHANCES * noise + 1e-9
    for i in range(3):
        if turns_back(v, SHARES[i], int(at[3 * i + 1]), allowed):
            return NOT_MONOTONE
    bottom, top = extremes(v)
    if top > BEYOND and turns_back(v, BEYOND, n, allowed):
        return NOT_MONOTONE
    if bottom < 1.0 - BEYOND and turns_back(v, 1.0 - BEYOND, 0, allowed):
        return NOT_MONOTONE
    quarter = int(end[COUNT])
    if at[7] > n - quarter:
        return UNSETTLED
    # Weights of the samples, from the plateau before to the end of this one.
    origin = first[w - 1] + length[w - 1] - int(begin[COUNT])
    span = first[w] + length[w] - origin
    of_63, of_way = weights[0, :span], weights[1, :span]
    of_63[:] = 0.0
    of_way[:] = 0.0
    by_begin = by_end = begin_63 = end_63 = edge = 0.0
    step = t[first[w]] - t[a]
    is_far = False
    for i in range(3):
        behind = min(max(int(at[3 * i + 1]), 1), n - 1)
        low = min(int(at[3 * i]), behind - 1)
        high = max(int(at[3 * i + 2]), behind + 1)
        # The sample before the switch is on no curve with those behind it.
        across = behind == 1
        low, high = (0, 2) if across else (max(low, 1), min(high, n))
        when, slope, far = follow_parabola(
            v, t[a : a + n], low, high, SHARES[i], behind, noise, solving, way[1]
        )
        if math.isnan(when):
            return NOISE
        is_far |= far
        # A slope that is steep by chance would make the error small.
        between = levels[0, 3 * i + 2] - levels[0, 3 * i]
        slope = min(slope, STEEP * between / (t[a + high - 1] - t[a + low]))
        row[TO_10 + i] = when - t[first[w]]
        # For 63 % alone, or for the way from 10 to 90 %.
        sums = of_63 if i == 1 else of_way
        sign = -1.0 if i == 0 else 1.0
        share = SHARES[i]
        local = sign / slope * math.sqrt((1.0 - share) * noise_begin**2 + share * noise_end**2)
        for k in range(low, high):
            sums[a + k - origin] -= way[1, k - low] * local
        of_begin = sign * (1.0 - share) / slope * noise_begin / begin[COUNT]
        of_end = sign * share / slope * noise_end / quarter
        for k in range(int(begin[COUNT])):
            sums[k] += of_begin
        for k in range(span - quarter, span):
            sums[k] += of_end
        if i == 1:
            begin_63, end_63 = (1.0 - share) / slope, share / slope
        else:
            by_begin += sign * (1.0 - share) / slope
            by_end += sign * share / slope
            # Between two samples across the switch, the current is no line.
            edge += step * step / 6.0 if across else 0.0
    row[WAY] = row[TO_90] - row[TO_10]
    # What is left of the way where the plateau is taken, as if it were one exponential.
    rate = LN_9 / row[WAY]
    left[w] = rest(t[first[w] + length[w] - 1] - t[first[w]], rate) * abs(change)
    if math.isnan(left[w - 1]):
        left[w - 1] = rest(t[a] - t[first[w - 1]], rate) * abs(change)
    unsure_begin = drifts[0] ** 2 + left[w - 1] ** 2
    unsure_end = drifts[1] ** 2 + left[w] ** 2
    of_noise = variances_of_sums(of_way, of_63, phi)
    by_noise = of_noise[0] / change**2
    by_level = (by_begin**2 * unsure_begin + by_end**2 * unsure_end) / change**2
    row[SE_WAY] = math.sqrt(by_noise + by_level + edge)
    row[SE_63] = math.sqrt(
        (of_noise[1] + begin_63**2 * unsure_begin + end_63**2 * unsure_end) / change**2
        # The switch is up to a sample earlier.
        + step * step / 3.0
    )
    if not row[WAY] >= FASTEST * step:
        return FAST
    if row[SE_WAY] > UNKNOWN * row[WAY]:
        return UNSETTLED if by_level > by_noise else NOISE
    return OUTLIER if is_far else FOUND


@kernel
def cross_step(y, t, first, length, kind, rows, codes):
    """Find the crossings of all phases of a step.

    Parameters
    ----------
    y, t
        Samples and their times, increasing.  Shape (N,).
    first, length, kind
        First samples and lengths of the phases, in the order of time, and their kind, 0 or 1.
        Shape (W,), int64.
    rows, codes
        Get the columns, and ``FOUND`` ... ``OUTLIER``.  Shapes (W, 8) and (W,).
    """
    n_phases = first.size
    plateaus = np.zeros((n_phases, N_KNOWN))
    good = np.zeros(n_phases, np.bool_)
    longest = 1
    for w in range(n_phases):
        rows[w] = math.nan
        a, n = first[w], length[w]
        longest = max(longest, n)
        codes[w] = TOO_FEW if n < FEWEST else FOUND
        for k in range(a, a + n):
            if not abs(y[k]) < OVERFLOW:
                codes[w] = MARKED if abs(y[k]) >= OVERFLOW else NOT_FINITE
        good[w] = codes[w] == FOUND
        if good[w]:
            measure_plateau(y, a, n, plateaus[w])
    sigma = np.zeros(2)
    phi = noise_of(plateaus, good, kind, sigma)
    limits = limits_of(y)
    space = (
        np.empty((2, longest + 1)),
        np.empty((2, 2 * longest + GAP)),
        np.zeros((2, N_LEVELS)),
        (np.empty((3, 3)), np.empty((2, 3))),
    )
    drifts = np.zeros(2)
    left = np.full(n_phases, math.nan)
    for w in range(n_phases):
        if not good[w]:
            continue
        a, n = first[w], length[w]
        if w == 0 or not good[w - 1]:
            codes[w] = NO_BEGIN
            continue
        gap = a - first[w - 1] - length[w - 1]
        if not 0 <= gap <= GAP + n // 20 or kind[w] == kind[w - 1]:
            codes[w] = NO_BEGIN
            continue
        for k in range(2):
            drifts[k] = drift_of(plateaus, first, good, kind, w - 1 + k, phi, sigma)
        code = cross_phase(
            y, t, first, length, plateaus, w, phi, sigma, kind, drifts, left, rows[w], space
        )
        if code == FOUND:
            for k in (w - 1, w):
                few = 1.0 + 8.0 / plateaus[k, COUNT]
                least = SEEN_ON_PLATEAU * abs(rows[w, END] - rows[w, BEGIN])
                if plateaus[k, WORST] > max(OUTLIER_T * few * sigma[kind[k]], least):
                    code = OUTLIER
            if not (math.isnan(limits[0]) and math.isnan(limits[1])):
                for top in (True, False):
                    level, count, _ = pile_up(y[a : a + n], top)
                    if count > 1 and (level == limits[0] or level == limits[1]):
                        code = CLIPPED
        codes[w] = code
