"""Transfer sweeps: split at the turning point, differentiate, find extremes.

Dimension letters: N samples of a step, n finite points of a sweep, m points of a branch, S steps.
"""

from __future__ import annotations

import math

import numpy as np

from oectflow.extractors.kernels.compiled import borrowing, kernel
from oectflow.extractors.kernels.smoothing import SMOOTHED, apart, slope_errors, smooth
from oectflow.extractors.kernels.sweep_errors import (
    AUTO,
    CURRENT_FLOOR,
    DECADES,
    DOUBTED,
    EVEN,
    LINEAR,
    TWO_SIDED_MEAN,
    chance,
    of_largest,
    point_errors,
    resolution,
    rivals_of,
    spread_of,
)

#: Two gate voltages count as one where they differ by at most this share r of the typical spacing
#: h.  Merging such a pair moves Id by at most Id'' (r h)^2 / 8, which changes a slope over h by
#: r^2 / 4 = 1e-4 of the truncation error Id'' h / 2 that it has anyway; not merging it divides the
#: noise of Id by r h instead of h.  A region that was measured still finer on purpose is averaged
#: to about r h, fifty times finer than the rest.
SAME_VOLTAGE = 0.02

#: Share of a slope by which that at the turning point may differ from its neighbours before it is
#: the step from one branch of a hysteresis loop to the other.  A branch whose |gm| still grows by
#: more than this in one step of the voltage is too coarse for it to be told.
STEP = 0.25

#: Slopes that rise to the last point but one fall there by no more than this times their earlier
#: differences, plus so many standard deviations of one point, unless the current is cut off.
CUT = 1.0
CUT_NOISE = 4.0
#: Points from an end at which a slope may be the largest because the end is cut off.
CUT_POINTS = 4

FLOOR_DECADES = math.log10(CURRENT_FLOOR)

#: What is sought along a branch: max |dId/dVg|; max or min d log10|Id| / dVg, or that of the two
#: which fits the direction in which |Id| grows.
GM, ONSET_N, ONSET_P, ONSET = range(4)
#: How a branch ended.
FOUND, NO_BRANCH, EDGE, TOO_FEW, NO_DATA, FLAT, AMBIGUOUS = range(7)
NOISY = 12
FORWARD, REVERSE = 0, 1


@borrowing
def keep_finite(vg, current, x, y):
    """Copy the points at which both numbers are finite, and return how many there are.

    Parameters
    ----------
    vg, current
        Gate voltage (V) and drain current (A).  Shape (N,).
    x, y
        Get the points, in order.  Shape (N,).
    """
    n = 0
    for k in range(vg.size):
        if math.isfinite(vg[k]) and math.isfinite(current[k]):
            x[n] = vg[k]
            y[n] = current[k]
            n += 1
    return n


@kernel
def typical_spacing(x):
    """Return the spacing up to which the spacings make up half of the path.

    Neither many repeats of a voltage nor a few long jumps change it, as they would the median or
    the mean.

    Parameters
    ----------
    x
        Gate voltages, finite.  Shape (n,), in V.
    """
    least = math.inf
    largest = 0.0
    for k in range(1, x.size):
        spacing = abs(x[k] - x[k - 1])
        least = min(least, spacing)
        largest = max(largest, spacing)
    # Most sweeps are even: nothing to sort.
    if largest <= 1.000001 * least:
        return largest
    spacings = np.sort(np.abs(np.diff(x)))
    rest = 0.5 * np.sum(spacings)
    for spacing in spacings:
        rest -= spacing
        if rest <= 0.0:
            return spacing
    return 0.0


@borrowing
def split_sweep(x):
    """Find the turning point: the first point at the voltage farthest from the first one.

    Parameters
    ----------
    x
        Gate voltages, finite.  Shape (n,), in V.

    Returns
    -------
    Number of points of the forward branch, whose last is the turning point; the distance below
    which two voltages count as the same; and :func:`typical_spacing`.
    """
    n = x.size
    if n == 0:
        return 0, 0.0, 0.0
    low = x[0]
    high = x[0]
    for k in range(n):
        low = min(low, x[k])
        high = max(high, x[k])
    farthest = max(x[0] - low, high - x[0])
    typical = typical_spacing(x)
    same = SAME_VOLTAGE * typical
    turn = 0
    while abs(x[turn] - x[0]) < farthest - same:
        turn += 1
    # A voltage that was held to the end of the sweep is no way back.
    for k in range(turn + 1, n):
        if abs(x[k] - x[turn]) > same:
            return turn + 1, same, typical
    return n, same, typical


@borrowing
def share_turn(x, y, n, n_forward, same):
    """Put the turning point in front of the reverse branch as well, in place.

    This is not done where the turning voltage was measured more than once, and so is in both
    branches already, or where the current steps from one branch to the other: there the slope from
    the turning point to the next one is neither between the last one of the forward branch and the
    next one of the reverse branch, nor within :data:`STEP` of the larger of them.

    Parameters
    ----------
    x, y
        Voltages and currents of a sweep, and room for one more.  Shape (n + 1,) or more.
    n, n_forward
        Number of points of the sweep, and of its forward branch.
    same
        Largest distance at which voltages count as the same.

    Returns
    -------
    Number of points, which is ``n`` or one more.
    """
    if n_forward < 2 or n_forward + 1 >= n:
        return n
    for k in range(n_forward - 1, n_forward + 2):
        if abs(x[k] - x[k - 1]) <= same:
            return n
    before = (y[n_forward - 1] - y[n_forward - 2]) / (x[n_forward - 1] - x[n_forward - 2])
    slope = (y[n_forward] - y[n_forward - 1]) / (x[n_forward] - x[n_forward - 1])
    after = (y[n_forward + 1] - y[n_forward]) / (x[n_forward + 1] - x[n_forward])
    margin = STEP * max(abs(before), abs(after))
    if slope < min(before, after) - margin or slope > max(before, after) + margin:
        return n
    for k in range(n, n_forward - 1, -1):
        x[k] = x[k - 1]
        y[k] = y[k - 1]
    return n + 1


@kernel
def merge_repeats(x, y, same):
    """Replace neighbouring points of the same voltage by their mean, in place.

    Afterwards all neighbours differ by more than ``same``.

    Parameters
    ----------
    x, y
        Voltages and currents of one branch.  Shape (m,).
    same
        Largest distance at which voltages count as the same, not negative.

    Returns
    -------
    Number of points left, at the front of ``x`` and ``y``.
    """
    k = 1
    while k < x.size and abs(x[k] - x[k - 1]) > same:
        k += 1
    if k >= x.size:
        return x.size
    count = np.empty(x.size, np.int64)
    top = -1
    for k in range(x.size):
        top += 1
        x[top] = x[k]
        y[top] = y[k]
        count[top] = 1
        # A mean moves when a point joins it, perhaps towards the point before.
        while top > 0 and abs(x[top] - x[top - 1]) <= same:
            both = count[top - 1] + count[top]
            x[top - 1] += (x[top] - x[top - 1]) * count[top] / both
            y[top - 1] += (y[top] - y[top - 1]) * count[top] / both
            count[top - 1] = both
            top -= 1
    return top + 1


@borrowing
def branches(vg, current, x, y):
    """Return the two branches of a sweep without repeated voltages.

    Parameters
    ----------
    vg, current
        Gate voltage (V) and drain current (A) of one step.  Shape (N,).
    x, y
        Get the points of the branches, of which the turning point is in both.  Shape (N + 1,).

    Returns
    -------
    Where the forward and the reverse branch begin in ``x`` and ``y``, and how many points they
    have: none in a forward branch without data, none in a reverse branch that is not there.
    """
    n = keep_finite(vg, current, x, y)
    n_forward, same, _ = split_sweep(x[:n])
    n = share_turn(x, y, n, n_forward, same)
    m_forward = merge_repeats(x[:n_forward], y[:n_forward], same)
    m_reverse = merge_repeats(x[n_forward:n], y[n_forward:n], same)
    return (0, n_forward), (m_forward, m_reverse)


@borrowing
def derivative(y, x, formula, d):
    """Differentiate ``y`` by ``x``.

    The first and the last point have the slope to their only neighbour.  An inner point with the
    slopes s_l, s_r over the spacings h_l, h_r has (s_l + s_r) / 2 (``TWO_SIDED_MEAN``) or
    (h_r s_l + h_l s_r) / (h_l + h_r) (``SECOND_ORDER``: exact for a parabola, the same as
    ``numpy.gradient(y, x)``).  ``AUTO`` takes the mean where the spacings are :data:`EVEN`.  Where
    ``x`` turns back there is no parabola, and every formula takes the mean.

    Parameters
    ----------
    y, x
        Shape (m,), m >= 2; neighbours in ``x`` differ.
    formula
        ``AUTO``, ``TWO_SIDED_MEAN`` or ``SECOND_ORDER``; or the length of a window of
        :mod:`.smoothing`, no longer than the branch.
    d
        Gets the derivative.  Shape (m,).
    """
    if formula >= SMOOTHED:
        smooth(y, x, formula, 1, d)
        return
    m = x.size
    h_l = x[1] - x[0]
    s_l = (y[1] - y[0]) / h_l
    d[0] = s_l
    for k in range(1, m - 1):
        h_r = x[k + 1] - x[k]
        s_r = (y[k + 1] - y[k]) / h_r
        mean = formula == TWO_SIDED_MEAN or h_l * h_r < 0.0
        if formula == AUTO and abs(h_r - h_l) <= EVEN * abs(h_r + h_l):
            mean = True
        d[k] = 0.5 * (s_l + s_r) if mean else (h_r * s_l + h_l * s_r) / (h_l + h_r)
        h_l = h_r
        s_l = s_r
    d[m - 1] = s_l


@borrowing
def growth(x, y, floor):
    """Tell in which direction of the voltage the magnitude of the current grows along a branch.

    Parameters
    ----------
    x, y
        Voltages and currents of the branch.  Shape (m,), m >= 1.
    floor
        Smaller magnitudes count as this.

    Returns
    -------
    1 where every point of the largest magnitude is at a higher voltage than every one of the
    smallest, or all magnitudes are equal; -1 where every one is at a lower voltage; else 0.
    """
    least = max(abs(y[0]), floor)
    largest = least
    for current in y:
        least = min(least, max(abs(current), floor))
        largest = max(largest, abs(current))
    if least == largest:
        return 1
    off_low = on_low = math.inf
    off_high = on_high = -math.inf
    for k in range(x.size):
        if max(abs(y[k]), floor) == least:
            off_low = min(off_low, x[k])
            off_high = max(off_high, x[k])
        elif abs(y[k]) == largest:
            on_low = min(on_low, x[k])
            on_high = max(on_high, x[k])
    if on_low > off_high:
        return 1
    return -1 if on_high < off_low else 0


@kernel
def is_cut_off(x, y, sigma, known):
    """Tell whether an end of a branch may be cut off, so that slopes there are not the device's.

    A slope that grows towards the end then falls at once: by more than the slopes before differ,
    and by more than noise.  A curve that has its inflection there bends back as it bent before.

    Parameters
    ----------
    x, y, sigma
        Branch: V, A, and the standard deviation of the noise (A).  Shape (m,).
    known
        Whether the noise is known.

    Returns
    -------
    The answers for the first and for the last point.
    """
    m = x.size
    cut = (False, False)
    if m < 6:
        return cut
    answers = np.zeros(2, np.bool_)
    for i in range(2):
        end = 0 if i == 0 else m - 1
        step = 1 if i == 0 else -1
        slopes = np.empty(4)
        for j in range(4):
            a, b = end + j * step, end + (j + 1) * step
            slopes[j] = abs((y[b] - y[a]) / (x[b] - x[a]))
        if abs(y[end]) < abs(y[end + step]):
            continue
        rise = max(abs(slopes[1] - slopes[2]), abs(slopes[2] - slopes[3]))
        noise = 0.0
        if known:
            # A cut-off end makes points beside it look uncertain.
            least = min(sigma[end + 2 * step], sigma[end + 3 * step])
            noise = CUT_NOISE * least / abs(x[end] - x[end + step])
        rising = slopes[1] > slopes[2] > slopes[3]
        answers[i] = rising and slopes[1] - slopes[0] > CUT * rise + noise
    return answers[0], answers[1]


@kernel
def branch_extreme(x, y, decades, sigma, quantity, formula, known, row, error):
    """Find the extreme of one branch without repeated voltages.

    Parameters
    ----------
    x, y, decades, sigma
        Branch: V, A, log10 |Id|, and the standard deviation of the noise (A).  Shape (m,).
    quantity
        ``GM``, ``ONSET_N``, ``ONSET_P``, or ``ONSET`` for the one of the two that :func:`growth`
        chooses.
    formula
        As in :func:`derivative`.
    known
        Whether the noise is known.
    row
        Gets the extreme derivative (S, or decades per V), and Vg (V) and Id (A) there; the first
        of equal ones counts.  NaN where there is none.  Shape (3,).
    error
        Gets the standard errors of the row, NaN where the noise is not known.  Shape (3,).

    Returns
    -------
    ``FOUND``, ``EDGE``, ``NOISY``, ``TOO_FEW``, ``AMBIGUOUS`` where :func:`growth` cannot choose,
    or ``FLAT``, which leaves the derivative 0.
    """
    m = x.size
    row[:] = math.nan
    error[:] = math.nan
    if m < 3 or m < formula:
        return TOO_FEW
    z = y
    if quantity != GM:
        z = np.empty(m)
        for k in range(m):
            z[k] = decades[k] if abs(y[k]) > CURRENT_FLOOR else FLOOR_DECADES
    d = np.empty(m)
    derivative(z, x, formula, d)
    flat = True
    for k in range(m):
        flat = flat and d[k] == 0.0
    if flat:
        row[0] = 0.0
        return FLAT
    scale = LINEAR if quantity == GM else DECADES
    if quantity == ONSET:
        direction = growth(x, y, CURRENT_FLOOR)
        if direction == 0:
            return AMBIGUOUS
        quantity = ONSET_N if direction > 0 else ONSET_P
    for k in range(m):
        if quantity == GM:
            d[k] = abs(d[k])
        elif quantity == ONSET_P:
            d[k] = -d[k]
    best = 0
    for k in range(m):
        if d[k] > d[best]:
            best = k
    row[0] = -d[best] if quantity == ONSET_P else d[best]
    row[1] = x[best]
    row[2] = y[best]
    at_edge = best == 0 or best == m - 1
    if quantity == GM and (best < CUT_POINTS or best >= m - CUT_POINTS):
        first, last = is_cut_off(x, y, sigma, known)
        at_edge = at_edge or (first and best < CUT_POINTS) or (last and best >= m - CUT_POINTS)
    if not known:
        return EDGE if at_edge else FOUND
    spread = np.empty(m)
    point_errors(y, sigma, scale, spread)
    slope_error = np.empty(m)
    slope_errors(x, spread, formula, slope_error)
    weight = np.empty(m)
    rivals = apart(rivals_of(d, slope_error, best, weight), formula)
    error[0] = slope_error[best] * of_largest(rivals)
    error[1] = math.sqrt(spread_of(x, weight, best) + resolution(x, best))
    error[2] = math.sqrt(sigma[best] * sigma[best] + spread_of(y, weight, best))
    if d[best] <= chance(m) * slope_error[best]:
        return NOISY
    return EDGE if at_edge else FOUND


@borrowing
def sweep_extremes(
    x, y, decades, sigma, first, count, doubt, classes, direction, quantity, formula, rows, errors,
    codes,
):  # fmt: skip
    """Find the extreme of one branch of every step.

    Parameters
    ----------
    x, y, decades, sigma, first, count, doubt, classes
        Branches, as :func:`.judge.judge_sweeps` fills them.
    direction
        ``FORWARD`` or ``REVERSE``.
    quantity, formula
        As in :func:`branch_extreme`.
    rows, errors
        Get the rows and errors of :func:`branch_extreme`.  Shape (S, 3).
    codes
        Gets how each branch ended.  Shape (S,).
    """
    for step in range(count.shape[0]):
        rows[step] = math.nan
        errors[step] = math.nan
        if count[step, direction] == 0:
            codes[step] = NO_DATA if count[step, FORWARD] == 0 else NO_BRANCH
        else:
            begin = first[step, direction]
            points = slice(begin, begin + count[step, direction])
            codes[step] = branch_extreme(
                x[points], y[points], decades[points], sigma[points], quantity, formula,
                classes[step] > 0, rows[step], errors[step],
            )  # fmt: skip
            if quantity == GM:
                unseen = DOUBTED * doubt[step, direction] * rows[step, 0]
                errors[step, 0] = math.hypot(errors[step, 0], unseen)
