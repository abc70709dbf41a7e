"""Standard errors of what is read off a transfer sweep, from the noise of its points.

Dimension letters: m points of a branch.
"""

from __future__ import annotations

import math

from oectflow.extractors.kernels.compiled import borrowing
from oectflow.extractors.kernels.sweep_noise import LN10

#: Two neighbouring spacings h_l, h_r count as even where |h_r - h_l| / |h_r + h_l| is at most
#: this.  The two formulas of :func:`.sweeps.derivative` differ by exactly that ratio times
#: (s_l - s_r) / 2, with the slopes s on both sides, so by less than 1e-3 of the largest slope.
#: Voltages recorded to q reach q / h: 1e-3 for steps of 1 mV recorded to 1 uV.
EVEN = 1e-3

#: Smallest |Id| of which the logarithm is taken, in A.
CURRENT_FLOOR = 1e-12

#: Formula of the derivative at inner points.
AUTO, TWO_SIDED_MEAN, SECOND_ORDER = range(3)
#: What the slope is taken of: the current, its square root, its decimal logarithm.
LINEAR, ROOT, DECADES = range(3)
#: The largest of m slopes that are noise is beyond z = sqrt(2 ln m) + this standard deviations with
#: the probability 2 m Q(z): 2e-4 for m = 20, 4e-5 for 120, 1e-5 for 1000.  A slope below that is
#: chance and no value, however honest its standard error, which is a fifth of it or more.
BEYOND = 2.0
#: The standard error is this share of a change of the current that nobody sees.
DOUBTED = 0.4
#: The largest of K numbers with the same noise is on average too large, and scatters less; an
#: interval of 1.96 (1 + this ln K) standard deviations holds the true one 95 times in 100: 1.28
#: is needed for K = 10, 1.53 for 50, 1.77 for 250.
LARGEST = 0.13


@borrowing
def chance(m):
    """Return how many standard deviations the largest of m slopes of pure noise may be."""
    return math.sqrt(2.0 * math.log(m)) + BEYOND


@borrowing
def of_largest(rivals):
    """Return the factor by which the largest of so many is less certain than any one of them."""
    return 1.0 + LARGEST * math.log(max(rivals, 1.0))


@borrowing
def point_errors(y, sigma, scale, spread):
    """Fill in the standard deviation of the current, its root or its logarithm at every point.

    Parameters
    ----------
    y, sigma
        Currents of a branch, and the standard deviations of their noise.  Shape (m,).
    scale
        ``LINEAR``, ``ROOT`` or ``DECADES``.
    spread
        Gets them.  Shape (m,).
    """
    for k in range(y.size):
        size = abs(y[k])
        if scale == LINEAR:
            spread[k] = sigma[k]
        elif scale == DECADES:
            spread[k] = sigma[k] / (max(size, CURRENT_FLOOR) * LN10)
        else:
            # Near zero, it is the root of the noise itself.
            spread[k] = math.sqrt(sigma[k])
            if size > 0.25 * sigma[k]:
                spread[k] = sigma[k] / (2.0 * math.sqrt(size))


@borrowing
def derivative_errors(x, spread, formula, error):
    """Fill in the standard errors of the derivatives of :func:`.sweeps.derivative`.

    Parameters
    ----------
    x, spread
        Voltages, and standard deviations of the ordinates.  Shape (m,), m >= 2.
    formula
        As in :func:`.sweeps.derivative`.
    error
        Gets them.  Shape (m,).
    """
    m = x.size
    h_l = abs(x[1] - x[0])
    error[0] = math.hypot(spread[0], spread[1]) / h_l
    for k in range(1, m - 1):
        h_r = abs(x[k + 1] - x[k])
        turns = (x[k + 1] - x[k]) * (x[k] - x[k - 1]) < 0.0
        left = 0.5
        if not (formula == TWO_SIDED_MEAN or turns) and (
            formula == SECOND_ORDER or abs(h_r - h_l) > EVEN * (h_l + h_r)
        ):
            left = h_r / (h_l + h_r)
        right = 1.0 - left
        before = left / h_l * spread[k - 1]
        behind = right / h_r * spread[k + 1]
        at = (left / h_l - right / h_r) * spread[k]
        error[k] = math.sqrt(before * before + at * at + behind * behind)
        h_l = h_r
    error[m - 1] = math.hypot(spread[m - 1], spread[m - 2]) / h_l


@borrowing
def rivals_of(d, error, best, weight):
    """Weigh the points at which the largest slope could just as well have been found.

    Parameters
    ----------
    d, error
        Slopes and their standard errors.  Shape (m,).
    best
        Index of the largest one.
    weight
        Gets exp(-t^2 / 2), where t is how far a slope is below the largest one in standard errors
        of the difference.  Shape (m,).

    Returns
    -------
    The number of points less than two standard errors of the difference below.
    """
    rivals = 0.0
    for k in range(d.size):
        weight[k] = 1.0 if k == best else 0.0
        both = error[k] * error[k] + error[best] * error[best]
        below = d[best] - d[k]
        if both > 0.0 and below * below < 25.0 * both:
            weight[k] = math.exp(-0.5 * below * below / both)
            if below * below < 4.0 * both:
                rivals += 1.0
    return rivals


@borrowing
def spread_of(values, weight, best):
    """Return the weighted mean square difference of values from the one chosen."""
    total = 0.0
    weights = 0.0
    for k in range(values.size):
        if weight[k] > 0.0:
            off = values[k] - values[best]
            total += weight[k] * off * off
            weights += weight[k]
    return total / weights


@borrowing
def resolution(x, k):
    """Return the variance of a voltage known only to within its neighbours: h^2 / 12."""
    h = max(abs(x[k] - x[max(k - 1, 0)]), abs(x[min(k + 1, x.size - 1)] - x[k]))
    return h * h / 12.0


@borrowing
def extreme_error(y, size, sigma):
    """Return the noise of an extreme magnitude as a share of it, and how many are as extreme.

    Parameters
    ----------
    y
        Currents.  Shape (m,).
    size
        The extreme of their magnitudes, positive.
    sigma
        Standard deviation of the noise there, A.
    """
    rivals = 0.0
    for current in y:
        if abs(abs(current) - size) <= 2.0 * math.sqrt(2.0) * sigma:
            rivals += 1.0
    return sigma / size, max(rivals, 1.0)


@borrowing
def largest_currents(
    vg, current, offsets, y, sigma, first, count, verdict, doubt, classes, values, errors
):  # fmt: skip
    """Find the largest |Id| of every sweep: of all its readings, or of those not left out.

    Parameters
    ----------
    vg, current, offsets
        As in :func:`.judge.judge_sweeps`.
    y, sigma, first, count, verdict, doubt, classes
        Branches, as it fills them.
    values, errors
        Get |Id| (A) and its standard error; untouched where there is no point.  Shape (S,).
    """
    for step in range(count.shape[0]):
        largest = math.nan
        noise = 0.0
        for k in range(2):
            for j in range(first[step, k], first[step, k] + count[step, k]):
                if not abs(y[j]) <= largest:
                    largest = abs(y[j])
                    noise = sigma[j]
        if verdict[step, 0] == 0 and verdict[step, 1] == 0:
            largest = math.nan
            for j in range(offsets[step], offsets[step + 1]):
                finite = math.isfinite(vg[j]) and math.isfinite(current[j])
                if finite and not abs(current[j]) <= largest:
                    largest = abs(current[j])
        if math.isnan(largest):
            continue
        values[step] = largest
        if classes[step] > 0 and largest > 0.0:
            begin = first[step, 0]
            end = first[step, 1] + count[step, 1]
            own = y[begin : max(end, begin + count[step, 0])]
            share, rivals = extreme_error(own, largest, noise)
            unseen = DOUBTED * max(doubt[step, 0], doubt[step, 1])
            errors[step] = largest * math.hypot(share * of_largest(rivals), unseen)
