"""What may be wrong with the currents of a sweep although no step of them is seen.

An offset below the noise of a device that is on can be many times the current of one that is off.
Three things reveal it: the loop does not close, the current is less noisy than one of that size is
elsewhere, or it has the other sign.  A range that is a little off is seen only where the range
changes.

Dimension letters: m points of a branch.
"""

from __future__ import annotations

import math

from oectflow.extractors.kernels.compiled import borrowing
from oectflow.extractors.kernels.sweep_noise import LN10, SMOOTH, end_misfit
from oectflow.extractors.kernels.sweep_steps import is_even

#: Share of an offset that counts as standard deviation: five of them are more than it.
SHARE = 1.0
#: An offset counts in full up to currents of so many times its size.
BESIDE = 10.0
#: A current that flows the other way is an offset if it is less than this share of the largest.
BOTH_WAYS = 0.6
#: No offset of more than so many standard deviations of the largest current goes unseen.
LARGEST = 10.0
#: The current behind a change of the range counts as at least this share of the larger one there.
LEAST = 0.05
MOST_LOG = 3.0
#: A sweep begins with a device that is off where it begins with less than this share of its largest
#: current.
OFF = 0.2
#: A slope that just begins is at most this share of the next one.
MOST = 0.75
#: What is within so many standard deviations is noise.
NOISE = 4.0
#: Currents above this share of the largest one tell the noise of a device that is on, if the
#: correlation of neighbouring fourth differences is less than ``RANDOM``.
ON = 0.2
RANDOM = -0.3
#: Points at either end of a loop that tell whether it closes; in a long one up to four times more.
CLOSING = 3
#: Steps of the current count where it is more than this share of the largest one.
SEEN = 0.03


@borrowing
def loop_gap(x_f, y_f, sigma_f, x_r, y_r, sigma_r):
    """Return by how much a loop fails to close that begins with a device that is off, A.

    Parameters
    ----------
    x_f, y_f, sigma_f, x_r, y_r, sigma_r
        Branches: V, A, and the standard deviations of the points (A).

    Returns
    -------
    The gap that neither noise nor a shift of the voltage explains, by the mean of some points; 0
    where the device is on there, or where the loop ends elsewhere.
    """
    m = x_f.size
    n = x_r.size
    points = min(max(CLOSING, m // 12), 8 * CLOSING)
    if min(m, n) < 3 * points:
        return 0.0
    for k in (0, 3 * points - 1):
        if abs(x_r[n - 1 - k] - x_f[k]) > abs(x_f[1] - x_f[0]):
            return 0.0
    top = 0.0
    for k in range(m):
        top = max(top, abs(y_f[k]))
    if abs(y_f[0]) > OFF * top:
        return 0.0
    first = 0.0
    second = 0.0
    slope = 0.0
    next_slope = 0.0
    noise = 0.0
    for k in range(points):
        back = n - 1 - k
        noise += (sigma_f[k] * sigma_f[k] + sigma_r[back] * sigma_r[back]) / points
        one = y_f[k + points] + y_r[back - points]
        first += (y_r[back] - y_f[k]) / points
        second += (y_r[back - points] - y_f[k + points]) / points
        slope += one - y_f[k] - y_r[back]
        next_slope += y_f[k + 2 * points] + y_r[back - 2 * points] - one
    # A shift turns a slope into a difference.  A gap that is left without a slope is no shift.
    ratio = 0.0
    if abs(next_slope) > NOISE * math.sqrt(2.0 * points * noise):
        ratio = min(max(slope / next_slope, 0.0), MOST)
    open_by = (first - ratio * second) / (1.0 - ratio)
    if open_by * first <= 0.0:
        return 0.0
    bar = NOISE * math.sqrt((1.0 + ratio * ratio) * noise / points) / (1.0 - ratio)
    open_by = min(abs(open_by), abs(first))
    return open_by if open_by > bar else 0.0


@borrowing
def other_sign(y, sigma):
    """Return the largest current of a branch that flows the other way by more than noise, A."""
    largest = 0.0
    sign = 1.0
    for current in y:
        if abs(current) > largest:
            largest = abs(current)
            sign = 1.0 if current > 0.0 else -1.0
    other = 0.0
    for k in range(y.size):
        against = -sign * y[k]
        if against > other and against > NOISE * sigma[k]:
            other = against
    # A current that is as large both ways is no offset.
    return other if other < BOTH_WAYS * largest else 0.0


@borrowing
def hidden_gain(x, y, z):
    """Return the share by which the current of a branch may change at once and nobody sees it.

    Parameters
    ----------
    x, y, z
        A branch without repeated voltages: V, A, and log10 |Id|.  Shape (m,).
    """
    m = x.size
    if m < 5:
        return 0.0
    top = 0.0
    for k in range(m):
        top = max(top, abs(y[k]))
    share = 0.0
    even = is_even(x)
    for k in range(1, m - 2):
        large = max(abs(y[k]), abs(y[k + 1]))
        behind = max(abs(y[k + 1]), LEAST * large)
        if even:
            # Most points end here.
            step = abs(y[k + 1] - y[k] - 0.5 * (y[k] - y[k - 1] + y[k + 2] - y[k + 1]))
            if step <= share * behind:
                continue
        if large < SEEN * top:
            continue
        found = abs(excess_of(x, y, k)) / behind
        if found > share and y[k - 1] * y[k] > 0.0 < y[k] * y[k + 1] and y[k + 1] * y[k + 2] > 0.0:
            found = min(found, math.expm1(min(LN10 * abs(excess_of(x, z, k)), MOST_LOG)))
        share = max(share, found)
    return share


@borrowing
def excess_of(x, y, k):
    """Return the change of the current between points k and k + 1, less the change expected.

    It is expected from the slopes on both sides, or from two on each side: the smaller excess
    counts.
    """
    width = x[k + 1] - x[k]
    sides = (y[k] - y[k - 1]) / (x[k] - x[k - 1]) + (y[k + 2] - y[k + 1]) / (x[k + 2] - x[k + 1])
    step = y[k + 1] - y[k]
    one = step - 0.5 * width * sides
    if k < 2 or k + 3 >= x.size:
        return one
    beyond = (y[k - 1] - y[k - 2]) / (x[k - 1] - x[k - 2])
    beyond += (y[k + 3] - y[k + 2]) / (x[k + 3] - x[k + 2])
    other = step - width * (4.0 * sides - beyond) / 6.0
    return one if abs(one) < abs(other) else other


@borrowing
def first_off(x, y, z):
    """Return the share by which the first point of a branch is off those behind it."""
    off = end_misfit(x, y, 0, 1, 0)
    size = max(abs(y[0]), abs(y[1]))
    if size == 0.0:
        return 0.0
    off /= size
    if y[0] * y[1] > 0.0 and y[1] * y[2] > 0.0 and y[2] * y[3] > 0.0:
        relative = LN10 * end_misfit(x, z, 0, 1, 0)
        if relative < SMOOTH:
            off = min(off, relative)
    return off


@borrowing
def quiet_share(noise, classes, current):
    """Return the share of a current that is an offset, if its noise is that of larger ones.

    Parameters
    ----------
    noise, classes
        As :func:`.sweep_noise.noise_of` fills and returns them.
    current
        Magnitude, A.
    """
    for k in range(classes - 1, 0, -1):
        # A class reaches halfway to the next one on a logarithmic scale.
        if current * current <= noise[0, k] * noise[0, k - 1]:
            return noise[4, k]
    return 0.0


@borrowing
def is_random(x_f, y_f, x_r, y_r):
    """Tell whether roughness where the device is on is noise, and not a coarse curve.

    Neighbouring fourth differences of white noise have the correlation -0.8; those of a curve
    change little from one to the next.

    Parameters
    ----------
    x_f, y_f, x_r, y_r
        Voltages (V) and currents (A) of both branches.
    """
    largest = 0.0
    for y in (y_f, y_r):
        for current in y:
            largest = max(largest, abs(current))
    squares = 0.0
    products = 0.0
    for x, y in ((x_f, y_f), (x_r, y_r)):
        before = 0.0
        for k in range(2, y.size - 2):
            fourth = y[k - 2] + y[k + 2] - 4.0 * (y[k - 1] + y[k + 1]) + 6.0 * y[k]
            width = abs(x[k + 2] - x[k - 2]) / abs(x[k + 1] - x[k])
            # Nothing looks smooth beside a point that was left out.
            if abs(y[k]) < ON * largest or not 3.5 < width < 4.5:
                fourth = 0.0
            squares += fourth * fourth
            products += fourth * before
            before = fourth
    return products < RANDOM * squares


@borrowing
def allow_offset(y, noise, classes, offset, sigma):
    """Let the standard deviations of a branch grow by offsets that may be there.

    Parameters
    ----------
    y
        Currents of the branch, A.  Shape (m,).
    noise, classes
        As in :func:`quiet_share`.
    offset
        Offset of all of its points, A.
    sigma
        Standard deviations, changed in place, A.  Shape (m,).
    """
    quiet = False
    for k in range(classes):
        quiet = quiet or noise[4, k] > 0.0
    if not quiet and offset == 0.0:
        return
    largest = LARGEST * noise[1, 0]
    for k in range(y.size):
        own = 0.0
        if quiet:
            own = min(quiet_share(noise, classes, abs(y[k])) * abs(y[k]), largest)
        own = max(offset, own)
        if own > 0.0:
            # It is a small part of a larger current, and the same in all neighbouring points.
            own *= min(1.0, BESIDE * own / max(abs(y[k]), own))
            sigma[k] = math.hypot(sigma[k], SHARE * own)
