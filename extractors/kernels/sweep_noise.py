"""Noise of a transfer sweep, and whether there is anything but noise.

Dimension letters: n finite points of a sweep, m points of a branch.
"""

from __future__ import annotations

import math

import numpy as np

from oectflow.extractors.kernels.compiled import borrowing, kernel

LN10 = math.log(10.0)
#: Four equally spaced neighbours predict a point by (-1, 4, 4, -1) / 6, exactly for cubics; with
#: white noise s the residual has the standard deviation s sqrt(1 + 34 / 36).
EVEN_GAIN = math.sqrt(1.0 + 34.0 / 36.0)
#: Median of |x| of a normal variable, and the share of its variance within three of it.
MEDIAN = 0.6744897501960817
WITHIN_THREE = 0.9733
#: Points are grouped by |Id|, from the largest downwards, in classes that span so many to one.  A
#: class has at least so many points (in a short sweep a quarter of all points, but no fewer than
#: half as many), and at most so many classes are needed.
CLASS = 3.0
FEWEST = 12
#: Fewer residuals than this say nothing about the noise.
TOLD = 6
CLASSES = 16
#: Ranges of the current, of :data:`CLASS` to one each; the last one holds what is below it, too.
BINS = 24
#: Neighbouring classes have one noise where they differ by a factor of at most 1 + this / sqrt(n),
#: with n points in the smaller one: 2.5 standard deviations of the ratio of two such estimates.
SAME_SCALE = 2.5
#: Residuals of ln |Id| count up to here.
SMOOTH = 0.1
#: The standard deviation of n residuals is nearly always known to a factor of exp(this / sqrt(n)).
QUIET = 4.0
#: The standard deviation of a point is at least this share of how far it is off its neighbours.
OFF = 0.4
#: The same at an end, where one point that is cut off looks as if the curve saturated.
OFF_END = 0.6
#: Largest range, in standard deviations, of white noise after a running median of three.  A median
#: is beyond 3.5 of them with the probability 3 Q(3.5)^2 = 1.6e-7, so one of 500 with 1.6e-4; the
#: second term is for the scale, which is known to 1 / sqrt(n) or so.
RESPONSE = 7.0
RESPONSE_FEW = 3.0
#: Fewer points cannot be told from noise.  Von Neumann's ratio, of the squares of the differences
#: to those about the mean, is 2 on average for noise, with the variance 4 (m - 2) / (m^2 - 1).  It
#: is less by so many standard deviations with a probability below 1e-4.  So is the correlation with
#: the voltage beyond its bound, for its artanh has the standard deviation 1 / sqrt(m - 3).
RESPONDS = 10
NEUMANN = 3.7
CORRELATED = 4.3


@borrowing
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


@borrowing
def logarithms(y, z):
    """Fill in log10 |y|, NaN where y is 0.  Shape (m,)."""
    for k in range(y.size):
        z[k] = math.log10(abs(y[k])) if y[k] != 0.0 else math.nan


@borrowing
def misfit(x, y, z, k, alike):
    """Compare an inner point with the cubic through its four neighbours.

    Where all five have one sign, the misfit of the current is compared with that of its logarithm.
    The smaller one counts: the curve is smoother on one of the two scales.

    Parameters
    ----------
    x, y, z
        Branch without repeated voltages: V, A, and log10 |Id|.  Shape (m,).
    k
        Index of the point, 2 to m - 3.
    alike
        Whether all five have one sign.

    Returns
    -------
    By how much the point is off (A), and the noise of this as a multiple of the noise of one point;
    0 where the voltage turns.
    """
    h = x[k] - x[k - 1]
    after = x[k + 1] - x[k]
    last = x[k + 2] - x[k + 1]
    first = x[k - 1] - x[k - 2]
    if h * after <= 0.0 or h * first <= 0.0 or h * last <= 0.0:
        return 0.0, 0.0
    near = 1e-2 * abs(h)
    even = abs(after - h) <= near and abs(first - h) <= near and abs(last - h) <= near
    gain = EVEN_GAIN
    if even:
        there = (4.0 * (y[k - 1] + y[k + 1]) - y[k - 2] - y[k + 2]) / 6.0
    else:
        there, gain = predict(x, y, k)
    least = abs(y[k] - there)
    if alike:
        if even:
            there = (4.0 * (z[k - 1] + z[k + 1]) - z[k - 2] - z[k + 2]) / 6.0
        else:
            there, gain = predict(x, z, k)
        relative = LN10 * abs(z[k] - there)
        # Where noise is large on both scales, it has a long tail on the logarithmic one.
        if relative < SMOOTH * gain:
            least = min(least, abs(y[k]) * relative)
    return least, gain


@borrowing
def is_plain(x, y):
    """Tell whether the voltages of a branch are even, and all currents have one sign."""
    h = x[1] - x[0]
    near = 0.5e-2 * abs(h)
    odd = 0
    for k in range(1, x.size):
        odd += (abs(x[k] - x[k - 1] - h) > near) | (y[k] * y[0] <= 0.0)
    return odd == 0


@borrowing
def is_alike(y, k):
    """Tell whether a point and its four neighbours have one sign."""
    alike = True
    for j in (k - 2, k - 1, k + 1, k + 2):
        alike = alike and y[k] * y[j] > 0.0
    return alike


@borrowing
def residuals(x, y, z, size, off, residual, at):
    """Compare the points of a branch with their neighbours.

    Parameters
    ----------
    x, y, z
        As in :func:`misfit`.
    size
        Number of residuals that are there already.
    off
        Gets by how much each point is off, A; NaN where there is no telling.  Shape (m,).
    residual, at
        Get the magnitudes of the residuals, each divided by its gain, and of the currents (A).

    Returns
    -------
    The number of residuals.
    """
    m = x.size
    off[:] = math.nan
    if m < 5:
        return size
    if is_plain(x, y):
        # The same as below, without a branch in the loop.
        for k in range(2, m - 2):
            line = abs(y[k] - (4.0 * (y[k - 1] + y[k + 1]) - y[k - 2] - y[k + 2]) / 6.0)
            log = LN10 * abs(z[k] - (4.0 * (z[k - 1] + z[k + 1]) - z[k - 2] - z[k + 2]) / 6.0)
            curve = abs(y[k]) * log
            off[k] = curve if (log < SMOOTH * EVEN_GAIN) & (curve < line) else line
            residual[size + k - 2] = off[k] / EVEN_GAIN
            at[size + k - 2] = abs(y[k])
        return size + m - 4
    for k in range(2, m - 2):
        least, gain = misfit(x, y, z, k, is_alike(y, k))
        if gain > 0.0:
            off[k] = least
            residual[size] = least / gain
            at[size] = abs(y[k])
            size += 1
    return size


@borrowing
def end_misfit(x, y, k, step, skip):
    """Compare the first point, or the second, with the line and the parabola of those behind.

    Parameters
    ----------
    x, y
        Voltages and ordinates of a branch.  Shape (m,), m >= 4.
    k
        Index of the end.
    step
        1 from the first point on, -1 from the last one.
    skip
        0 for the point at the end, 1 for the one beside it, which the point at the end helps to
        judge.
    """
    at = k + skip * step
    one = k + (1 - skip) * step
    two = k + 2 * step
    three = k + 3 * step
    slope = (y[two] - y[one]) / (x[two] - x[one])
    beyond = (y[three] - y[two]) / (x[three] - x[two])
    bend = (beyond - slope) / (x[three] - x[one])
    line = y[at] - y[one] - slope * (x[at] - x[one])
    return min(abs(line), abs(line - bend * (x[at] - x[one]) * (x[at] - x[two])))


@borrowing
def converter_step(y):
    """Return the smallest step of a branch in which the current stands still elsewhere, A.

    It is the step of the converter, where that can be seen; else 0.
    """
    still = 0
    least = math.inf
    for k in range(y.size - 1):
        step = abs(y[k + 1] - y[k])
        if step == 0.0:
            still += 1
        elif step < least:
            least = step
    return least if still > 1 and least < math.inf else 0.0


@borrowing
def fill_deviations(x, y, z, noise, classes, quantum, sigma):
    """Fill in the standard deviation of every point of a branch: of its noise, or more.

    A point is known no better than to a share of how far it is off its neighbours.  Noise alone is
    seldom so much.  A bad point, or a step of the current too small to be told from noise, is
    within five of these standard deviations.

    Parameters
    ----------
    x, y, z
        As in :func:`misfit`.
    noise, classes
        As :func:`noise_of` fills and returns them.
    quantum
        Step of the converter, A.
    sigma
        By how much each point is off, from :func:`residuals`, where that is known already, else
        NaN; gets the standard deviations, A.  Shape (m,).
    """
    m = x.size
    if classes == 0:
        return
    for k in range(m):
        off = sigma[k]
        # A rounded number has a standard deviation of its last step over sqrt(12).
        sigma[k] = max(deviation_at(noise, classes, abs(y[k]), z[k]), 0.29 * quantum)
        if 2 <= k < m - 2:
            if math.isnan(off):
                off, _ = misfit(x, y, z, k, is_alike(y, k))
            sigma[k] = max(sigma[k], OFF * off)
    if m < 5:
        return
    for end, step in ((0, 1), (m - 1, -1)):
        one_sign = True
        for j in range(1, 4):
            one_sign = one_sign and y[end] * y[end + j * step] > 0.0
        for skip in range(2):
            k = end + skip * step
            off = end_misfit(x, y, end, step, skip)
            if one_sign:
                relative = LN10 * end_misfit(x, z, end, step, skip)
                if relative < SMOOTH:
                    off = min(off, abs(y[k]) * relative)
            sigma[k] = max(sigma[k], (OFF_END if skip == 0 else OFF) * off)


@kernel
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


@borrowing
def middle(a, b, c):
    """Return the middle one of three numbers."""
    return max(min(a, b), min(max(a, b), c))


@kernel
def sort_by_current(residual, at, n, first):
    """Bring residuals into classes by the current, from the largest downwards, in place.

    Parameters
    ----------
    residual, at
        As :func:`residuals` fills them.  Shape (n,) or more.
    n
        Their number.
    first
        Gets where each class begins, and the end.  Shape (CLASSES + 1,).

    Returns
    -------
    The number of classes, each of :data:`FEWEST` residuals or more.
    """
    fewest = min(FEWEST, max(FEWEST // 2, n // 4))
    top = 0.0
    for k in range(n):
        top = max(top, at[k])
    own = np.empty(n, np.int64)
    sizes = np.zeros(BINS, np.int64)
    edges = np.empty(BINS)
    edge = top
    for b in range(BINS):
        edge /= CLASS
        edges[b] = edge
    for k in range(n):
        b = 0
        while b < BINS - 1 and at[k] < edges[b]:
            b += 1
        own[k] = b
        sizes[b] += 1
    if sizes[0] > n - fewest:
        first[0] = 0
        first[1] = n
        return 1
    class_of = np.empty(BINS, np.int64)
    c = 0
    inside = 0
    left = n
    first[0] = 0
    for b in range(BINS):
        class_of[b] = c
        inside += sizes[b]
        left -= sizes[b]
        if inside >= fewest and left >= fewest and c < CLASSES - 1:
            first[c + 1] = first[c] + inside
            c += 1
            inside = 0
    first[c + 1] = n
    place = first.copy()
    unsorted = residual[:n].copy()
    sizes_of = at[:n].copy()
    for k in range(n):
        to = place[class_of[own[k]]]
        place[class_of[own[k]]] += 1
        residual[to] = unsorted[k]
        at[to] = sizes_of[k]
    return c + 1


@kernel
def noise_of(x_f, y_f, z_f, off_f, x_r, y_r, z_r, off_r, quantum, noise):
    """Estimate the noise of a sweep as a function of the current.

    Parameters
    ----------
    x_f, y_f, z_f, x_r, y_r, z_r
        Its branches without repeated voltages: V, A, and log10 |Id|.
    off_f, off_r
        Get by how much each point is off, as in :func:`residuals`.
    quantum
        Least standard deviation of a reading, by the step of the converter, A.
    noise
        Gets, for each class of points, the current (A, falling), the standard deviation (A), the
        power of the current with which it changes from there to the class before, log10 of the
        current, and the share of it that must be an offset if it is as noisy as larger currents
        are.  Shape (5, CLASSES).

    Returns
    -------
    The number of residuals that these come from, and the number of classes; 0 where there are too
    few points.
    """
    residual = np.empty(x_f.size + x_r.size)
    at = np.empty(residual.size)
    n = residuals(x_f, y_f, z_f, 0, off_f, residual, at)
    n = residuals(x_r, y_r, z_r, n, off_r, residual, at)
    if n < TOLD:
        return 0, 0
    first = np.empty(CLASSES + 1, np.int64)
    c = sort_by_current(residual, at, n, first)
    for k in range(c):
        noise[1, k] = scale_of(residual[first[k] : first[k + 1]])
    # From the top down, classes that are alike become one.
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
    quietest = math.inf
    for k in range(top + 1):
        points = first[k + 1] - first[k]
        floor = max(noise[1, k], quantum)
        # The scale is a median, so noise that grows with the current is that of the median current.
        typical = np.median(at[first[k] : first[k + 1]])
        share = floor / typical if typical > 0.0 else math.inf
        chance = math.exp(QUIET / math.sqrt(points))
        noise[4, k] = max(0.0, 1.0 - chance * share / quietest) if k > 0 else 0.0
        quietest = min(quietest, share / chance)
    # An offset makes smaller currents quieter still.
    for k in range(top - 1, 0, -1):
        if noise[4, k + 1] == 0.0:
            noise[4, k] = 0.0
    # As the current grows, the noise of a reading grows, if anything, and its share of the current
    # falls, if anything.  Less noise than that is chance.
    for k in range(1, top + 1):
        noise[1, k] = max(noise[1, k], noise[1, k - 1] * noise[0, k] / noise[0, k - 1])
    for k in range(top - 1, -1, -1):
        noise[1, k] = max(noise[1, k], noise[1, k + 1])
    noise[2, 0] = 0.0
    for k in range(top + 1):
        noise[3, k] = math.log10(noise[0, k]) if noise[0, k] > 0.0 else -math.inf
        if k > 0:
            apart = noise[3, k - 1] - noise[3, k]
            noise[2, k] = math.log10(noise[1, k - 1] / noise[1, k]) / apart
    return n, top + 1


@borrowing
def deviation_at(noise, classes, current, decades):
    """Return the standard deviation of the noise at a current: a power of it between classes.

    Parameters
    ----------
    noise, classes
        As :func:`noise_of` fills and returns them; at least one class.
    current, decades
        |Id| (A), and its decimal logarithm.
    """
    if classes == 1 or not current > noise[0, classes - 1]:
        return noise[1, classes - 1]
    k = 1
    while k < classes - 1 and current < noise[0, k]:
        k += 1
    power = noise[2, k]
    if current > noise[0, 0]:
        power = min(max(power, 0.0), 1.0)
    if power == 0.0:
        return noise[1, k - 1]
    return noise[1, k - 1] * math.exp(LN10 * power * (decades - noise[3, k - 1]))


@borrowing
def deviation(noise, classes, current):
    """Return the standard deviation of the noise at a current, A, as :func:`deviation_at`."""
    if classes == 1 or not current > noise[0, classes - 1]:
        return noise[1, classes - 1]
    return deviation_at(noise, classes, current, math.log10(current))


@kernel
def responds(x, y, noise, classes, n_told):
    """Tell whether a branch is more than noise about a constant.

    Parameters
    ----------
    x, y
        Voltages and currents of the branch.  Shape (m,), m > 3.
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
    # A current that flickers between two steps of a converter has noise of about half a step.
    floor = 0.5 * quantum if quantum < math.inf else 0.0
    bar = RESPONSE * (1.0 + RESPONSE_FEW / n_told)
    # Most sweeps exceed even the bar of the largest noise.
    if high - low > bar * max(noise[1, 0], floor):
        return True
    sigma = deviation(noise, classes, np.median(np.abs(y)))
    if high - low > bar * max(sigma, floor):
        return True
    m = y.size
    y_mean = np.mean(y)
    x_mean = np.mean(x)
    s_xx = s_yy = s_xy = 0.0
    for k in range(m):
        s_xx += (x[k] - x_mean) * (x[k] - x_mean)
        s_yy += (y[k] - y_mean) * (y[k] - y_mean)
        s_xy += (x[k] - x_mean) * (y[k] - y_mean)
    correlation = abs(s_xy) / math.sqrt(s_xx * s_yy)
    if math.atanh(min(correlation, 1.0 - 1e-12)) * math.sqrt(m - 3.0) > CORRELATED:
        return True
    ratio = np.sum(np.diff(y) ** 2) / s_yy
    return ratio < 2.0 - NEUMANN * math.sqrt(4.0 * (m - 2) / (m * m - 1.0))
