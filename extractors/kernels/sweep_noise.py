"""Noise of a transfer sweep, and whether there is anything but noise.

Dimension letters: n finite points of a sweep, m points of a branch.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

#: Four equally spaced neighbours predict a point by (-1, 4, 4, -1) / 6, exactly for cubics; with
#: white noise s the residual has the standard deviation s sqrt(1 + 34 / 36).
EVEN_GAIN = math.sqrt(1.0 + 34.0 / 36.0)
#: Median of |x| of a normal variable, and the share of its variance within three of it.
MEDIAN = 0.6744897501960817
WITHIN_THREE = 0.9733
#: Points are taken together by their |Id|, in classes of so many to one, from the largest
#: downwards; at least so many points make a class, and at most so many classes are needed.
CLASS = 3.0
FEWEST = 12
#: Fewer residuals than this tell nothing of the noise.
TOLD = 6
CLASSES = 16
#: Neighbouring classes have one noise where they differ by no more than 1 + this / sqrt(n), with n
#: points in the smaller one: 2.5 standard deviations of the ratio of two standard deviations.
SAME_SCALE = 2.5
#: Residuals of ln |Id| count up to here.
SMOOTH = 0.1
#: Largest range, in standard deviations, of white noise after a running median of three.  A median
#: is beyond 3.5 of them with the probability 3 Q(3.5)^2 = 1.6e-7, so one of 500 with 1.6e-4; the
#: second term is for the scale, which is known to 1 / sqrt(n) or so.
RESPONSE = 7.0
RESPONSE_FEW = 3.0
#: Fewer points cannot be told from noise.  Von Neumann's ratio, of the squares of the differences
#: to those about the mean, is 2 on average for noise, with the variance 4 (m - 2) / (m^2 - 1); less
#: by so many standard deviations it is with a probability below 1e-4.
RESPONDS = 10
NEUMANN = 3.7


@njit(nogil=True, cache=True, error_model="numpy")
def predict(x, y, k):
    """Return the value at point k of the cubic through its four neighbours, and its noise gain."""
    total = 0.0
    gain = 1.0
    for i in (k - 2, k - 1, k + 1, k + 2):
        weight = 1.0
        for j in (k - 2, k - 1, k + 1, k + 2):
            if j != i:
                weight *= (x[k] - x[j]) / (x[i] - x[j])
        total += weight * y[i]
        gain += weight * weight
    return total, math.sqrt(gain)


@njit(nogil=True, cache=True, error_model="numpy")
def residuals(x, y, size, residual, at):
    """Compare the points of a branch with the cubics through their neighbours.

    Of the residual of the current and, where all five have one sign, that of its logarithm the
    smaller one counts: the curve is smoother on one of the two scales.

    Parameters
    ----------
    x, y
        Branch without repeated voltages.  Shape (m,).
    size
        Number of residuals that are there already.
    residual, at
        Get the magnitudes of the residuals, each divided by its gain, and of the currents (A).

    Returns
    -------
    The number of residuals.
    """
    m = x.size
    if m < 5:
        return size
    z = np.empty(m)
    for k in range(m):
        z[k] = math.log(abs(y[k])) if y[k] != 0.0 else 0.0
    for k in range(2, m - 2):
        h = x[k] - x[k - 1]
        turns = h * (x[k + 1] - x[k]) <= 0.0 or h * (x[k - 1] - x[k - 2]) <= 0.0
        if turns or h * (x[k + 2] - x[k + 1]) <= 0.0:
            continue
        even = True
        for j in (k - 2, k, k + 1):
            even = even and abs(x[j + 1] - x[j] - h) <= 1e-2 * abs(h)
        if even:
            there = (4.0 * (y[k - 1] + y[k + 1]) - y[k - 2] - y[k + 2]) / 6.0
            gain = EVEN_GAIN
        else:
            there, gain = predict(x, y, k)
        least = abs(y[k] - there) / gain
        positive = 0
        for j in range(k - 2, k + 3):
            if y[j] > 0.0:
                positive += 1
            elif y[j] == 0.0:
                positive += 10
        if positive in (0, 5):
            if even:
                there = (4.0 * (z[k - 1] + z[k + 1]) - z[k - 2] - z[k + 2]) / 6.0
            else:
                there, gain = predict(x, z, k)
            relative = abs(z[k] - there) / gain
            # What is noise on both scales has on the logarithmic one a long tail.
            if relative < SMOOTH:
                least = min(least, abs(y[k]) * relative)
        residual[size] = least
        at[size] = abs(y[k])
        size += 1
    return size


@njit(nogil=True, cache=True, error_model="numpy")
def scale_of(residual):
    """Return the standard deviation of residuals: by the median, then without those beyond three.

    Parameters
    ----------
    residual
        Magnitudes, divided by their gain.  Shape (n,), n >= 1.
    """
    bound = 3.0 * np.median(residual) / MEDIAN
    total = 0.0
    kept = 0
    for r in residual:
        if r <= bound:
            total += r * r
            kept += 1
    return math.sqrt(total / kept / WITHIN_THREE)


@njit(nogil=True, cache=True, error_model="numpy")
def middle(a, b, c):
    """Return the middle one of three numbers."""
    return max(min(a, b), min(max(a, b), c))


@njit(nogil=True, cache=True, error_model="numpy")
def noise_of(x_f, y_f, x_r, y_r, noise):
    """Estimate the noise of a sweep as a function of the current.

    Parameters
    ----------
    x_f, y_f, x_r, y_r
        Its branches without repeated voltages, V and A.
    noise
        Gets the currents (A, falling) of classes of points, and the standard deviation in each of
        them (A).  Shape (2, CLASSES).

    Returns
    -------
    The number of residuals by which they were told, and the number of classes; 0 where there are
    too few points.
    """
    residual = np.empty(x_f.size + x_r.size)
    at = np.empty(residual.size)
    n = residuals(x_f, y_f, 0, residual, at)
    n = residuals(x_r, y_r, n, residual, at)
    if n < TOLD:
        return 0, 0
    order = np.argsort(-at[:n])
    residual = residual[:n][order]
    at = at[:n][order]
    begin = 0
    c = 0
    first = np.empty(CLASSES + 1, np.int64)
    while begin < n:
        end = min(begin + FEWEST, n)
        while end < n and at[end] * CLASS > at[begin]:
            end += 1
        if n - end < FEWEST or c == CLASSES - 1:
            end = n
        first[c] = begin
        noise[1, c] = scale_of(residual[begin:end])
        c += 1
        begin = end
    first[c] = n
    # From the top: what is alike becomes one class.
    top = 0
    for k in range(1, c):
        one, other = noise[1, top], noise[1, k]
        fewer = min(first[k] - first[top], first[k + 1] - first[k])
        if max(one, other) <= (1.0 + SAME_SCALE / math.sqrt(fewer)) * min(one, other):
            noise[1, top] = scale_of(residual[first[top] : first[k + 1]])
        else:
            top += 1
            first[top] = first[k]
            noise[1, top] = other
    first[top + 1] = n
    for k in range(top + 1):
        square = 0.0
        for j in range(first[k], first[k + 1]):
            square += at[j] * at[j]
        noise[0, k] = math.sqrt(square / (first[k + 1] - first[k]))
        noise[1, k] = max(noise[1, k], 4.0 * 2.220446049250313e-16 * noise[0, 0])
    # With the current the noise of a reading grows, if anything, and its share of the current
    # falls, if anything: what is less than that is chance.
    for k in range(1, top + 1):
        noise[1, k] = max(noise[1, k], noise[1, k - 1] * noise[0, k] / noise[0, k - 1])
    for k in range(top - 1, -1, -1):
        noise[1, k] = max(noise[1, k], noise[1, k + 1])
    return n, top + 1


@njit(nogil=True, cache=True, error_model="numpy")
def deviation(noise, classes, current):
    """Return the standard deviation of the noise at a current: in between, a power of the current.

    Parameters
    ----------
    noise, classes
        As :func:`noise_of` fills and returns them; at least one class.
    current
        |Id|, A.
    """
    if classes == 1 or current <= noise[0, classes - 1]:
        return noise[1, classes - 1]
    k = 1
    while k < classes - 1 and current < noise[0, k]:
        k += 1
    power = math.log(noise[1, k - 1] / noise[1, k]) / math.log(noise[0, k - 1] / noise[0, k])
    if current > noise[0, 0]:
        power = min(max(power, 0.0), 1.0)
    return noise[1, k - 1] * (current / noise[0, k - 1]) ** power


@njit(nogil=True, cache=True, error_model="numpy")
def responds(y, noise, classes, n_told):
    """Tell whether a branch is more than noise about a constant.

    Parameters
    ----------
    y
        Currents of the branch.  Shape (m,), m >= 3.
    noise, classes, n_told
        The noise of its sweep, as :func:`noise_of` fills and returns it.
    """
    low = math.inf
    high = -math.inf
    quantum = math.inf
    for k in range(1, y.size - 1):
        now = middle(y[k - 1], y[k], y[k + 1])
        low = min(low, now)
        high = max(high, now)
        step = abs(y[k] - y[k - 1])
        if step > 0.0:
            quantum = min(quantum, step)
    # What flickers between two steps of a converter is noise of about half a step.
    sigma = deviation(noise, classes, np.median(np.abs(y)))
    if quantum < math.inf:
        sigma = max(sigma, 0.5 * quantum)
    if high - low > RESPONSE * (1.0 + RESPONSE_FEW / n_told) * sigma:
        return True
    m = y.size
    ratio = np.sum(np.diff(y) ** 2) / np.sum((y - np.mean(y)) ** 2)
    return ratio < 2.0 - NEUMANN * math.sqrt(4.0 * (m - 2) / (m * m - 1.0))
