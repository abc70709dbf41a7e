"""Plateaus at the ends of phases: their level, its noise, and how far they are from an end.

A plateau is the last quarter of a phase.  The noise of a step is autoregressive of first order;
what it does to a weighted sum of samples follows from the weights.

Dimension letters: W phases.
"""

from __future__ import annotations

import math

import numpy as np

from oectflow.extractors.kernels.compiled import borrowing, kernel

#: Standard errors from which on a plateau changes, within itself or from cycle to cycle.
CHANGES = 2.0
#: A current that goes on as a line does differs from its level in the middle of a phase by so many
#: times the change between both halves of the last quarter.
TO_MIDDLE = 6.0
#: What is known of a plateau: its mean, the sum of squares beside a line, products of neighbours,
#: the change between its halves, the largest residual, and its number of samples.
MEAN, SQUARES, PRODUCTS, CHANGE, WORST, COUNT = range(6)
N_KNOWN = 6


@borrowing
def measure_plateau(y, first, length, plateau):
    """Fill in what is known of the last quarter of a phase.  Shape (6,)."""
    m = length // 4
    a = first + length - m
    begin = y[a]
    sy = sky = 0.0
    middle = 0.5 * (m - 1)
    early = late = 0.0
    half = m // 2
    for k in range(m):
        v = y[a + k] - begin
        sy += v
        sky += (k - middle) * v
        early += v if k < half else 0.0
        late += v if k >= m - half else 0.0
    mean = sy / m
    slope = sky * 12.0 / (m * (m * m - 1.0))
    squares = products = worst = before = 0.0
    for k in range(m):
        r = y[a + k] - begin - mean - slope * (k - middle)
        squares += r * r
        products += r * before
        worst = max(worst, abs(r))
        before = r
    plateau[MEAN] = begin + mean
    plateau[SQUARES] = squares
    plateau[PRODUCTS] = products
    plateau[CHANGE] = (late - early) / half
    plateau[WORST] = worst
    plateau[COUNT] = m


@kernel
def noise_of(plateaus, good, kind, sigma):
    """Work out the noise of a step from its plateaus.

    Parameters
    ----------
    plateaus
        From :func:`measure_plateau`.  Shape (W, 6).
    good, kind
        Which of them count, and which of two kinds of plateau each is.  Shape (W,).
    sigma
        Gets the standard deviation of a sample in either kind, 0 where there is no plateau.

    Returns
    -------
    Correlation of neighbouring samples, between 0 and 0.95.
    """
    variances = np.empty(plateaus.shape[0])
    squares = products = count = 0.0
    used = 0
    for of in range(2):
        found = 0
        for w in range(plateaus.shape[0]):
            if good[w] and kind[w] == of:
                variances[found] = plateaus[w, SQUARES] / (plateaus[w, COUNT] - 2.0)
                found += 1
        sigma[of] = math.sqrt(np.median(variances[:found])) if found else 0.0
    for w in range(plateaus.shape[0]):
        # A plateau with a fault is not like the others.
        usual = 4.0 * sigma[kind[w]] ** 2 * plateaus[w, COUNT]
        if good[w] and sigma[kind[w]] > 0.0 and plateaus[w, SQUARES] <= usual:
            share = 1.0 / sigma[kind[w]] ** 2
            squares += plateaus[w, SQUARES] * share
            products += plateaus[w, PRODUCTS] * share
            count += plateaus[w, COUNT]
            used += 1
    if not squares > 0.0:
        return 0.0
    # The line that was taken off pushes the correlation down: Kendall's bias of both its unknowns.
    m = count / used
    phi = min(max((products / squares + 2.0 / m) / max(1.0 - 4.0 / m, 0.25), 0.0), 0.95)
    freedom = max(m - 2.0 * (1.0 + phi) / (1.0 - phi), 0.25 * m)
    for of in range(2):
        # The variance, too; the median of few squares is below their mean (Wilson & Hilferty).
        sigma[of] *= math.sqrt((m - 2.0) / freedom) * (1.0 - 2.0 / (9.0 * (m - 2.0))) ** -1.5
    return phi


@borrowing
def variance_of_sum(weights, phi):
    """Return the variance of a weighted sum of noise of variance 1 and correlation ``phi``."""
    total = carried = 0.0
    for k in range(weights.size):
        w = weights[k]
        total += w * (w + 2.0 * carried)
        carried = phi * (carried + w)
    return total


@borrowing
def variances_of_sums(weights, other, phi):
    """Return :func:`variance_of_sum` of two sums of as many samples, in little more than its time.

    Either is a chain, each link of which waits for the one before.
    """
    total = carried = total_2 = carried_2 = 0.0
    for k in range(weights.size):
        w, w_2 = weights[k], other[k]
        total += w * (w + 2.0 * carried)
        total_2 += w_2 * (w_2 + 2.0 * carried_2)
        carried = phi * (carried + w)
        carried_2 = phi * (carried_2 + w_2)
    return total, total_2


@borrowing
def drift_of(plateaus, first, good, kind, w, phi, sigma):
    """Return by how much the level of a plateau may change within its phase, where that is seen.

    It is seen by the change between the halves of the plateau, and by the changes to the plateaus
    of the same kind in the cycles before and behind.
    """
    m = plateaus[w, COUNT]
    wider = (1.0 + phi) / (1.0 - phi)
    error = sigma[kind[w]] * math.sqrt(4.0 * wider / m)
    change = abs(plateaus[w, CHANGE])
    found = TO_MIDDLE * change if change > CHANGES * error else 0.0
    for v in (w - 2, w + 2):
        if 0 <= v < plateaus.shape[0] and good[v] and kind[v] == kind[w]:
            change = abs(plateaus[w, MEAN] - plateaus[v, MEAN])
            error = sigma[kind[w]] * math.sqrt(wider * (1.0 / m + 1.0 / plateaus[v, COUNT]))
            if change > CHANGES * error:
                found = max(found, change * min(4.0 * m / abs(first[w] - first[v]), 1.0))
    return found


@borrowing
def rest(span, rate):
    """Return the mean of an exponential over the last quarter of a span."""
    z = rate * span
    return (math.exp(-0.75 * z) - math.exp(-z)) / (0.25 * z)
