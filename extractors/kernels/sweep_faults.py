"""Single points of a sweep that are off where no device bends like that.

Dimension letters: m points of a branch.
"""

from __future__ import annotations

import math

import numpy as np

from oectflow.extractors.kernels.compiled import borrowing, kernel
from oectflow.extractors.kernels.sweep_noise import LN10, deviation, middle

#: False alarms per sweep that the tests for single points and steps may make.  With m points, each
#: test takes z = sqrt(2 ln(m / ALARMS)) standard deviations: one of m normal variables is beyond
#: that less often.
ALARMS = 3e-4
#: The scale itself is known to about 1 / sqrt(2 n) from n residuals: z is larger by this over n.
FEW = 8.0
#: Where noise is above this share of the current, a point has to be off on both scales, for on one
#: of them the noise has a long tail.
SKEWED = 0.06
#: A point that changes slopes by less than this share of those around is harmless.
HARMLESS = 0.05
#: A difference of so many steps of the converter is no fault.
QUANTA = 3.0
#: A point is off by more than so many times the largest noise around it: the noise of a short sweep
#: as a whole says little where the noise grows with the current.  A point that is not found has a
#: standard error that covers it.
SPIKIER = 5.0
AROUND = 6
#: A point that is far off is off by so many times the usual limit, and beyond the middle of its
#: neighbours by so many times their spread: 1.3 for a smooth extreme, 2.5 for a tip.
FAR = 3.0
GROSS = 3.0


@borrowing
def limit(n_points, n_told):
    """Return how many standard deviations one of so many points may be off."""
    return math.sqrt(2.0 * math.log(n_points / ALARMS)) * (1.0 + FEW / n_told)


@borrowing
def slopes(x, y, typical, d):
    """Fill in the steps of a branch, as if all voltages were ``typical`` apart.  Shape (m - 1,)."""
    for k in range(d.size):
        d[k] = (y[k + 1] - y[k]) / (x[k + 1] - x[k]) * typical


@borrowing
def off_by(d, x, typical, k):
    """Return how far point k is off a curve of one curvature: 0 unless it bends there and back.

    The changes of slope before, at and behind the point less the mean of those beyond are o, -2 o
    and o where the point is off by o.  A curve that bends one way, has a kink or turns from bending
    one way to the other does not have three changes of alternate signs, so it gives 0.
    """
    n = d.size
    bend = 0.0
    known = 0
    if k >= 3:
        bend += d[k - 2] - d[k - 3]
        known += 1
    if k + 2 < n:
        bend += d[k + 2] - d[k + 1]
        known += 1
    if known:
        bend /= known
    before = d[k - 1] - d[k - 2] - bend
    at = d[k] - d[k - 1] - bend
    behind = d[k + 1] - d[k] - bend
    if before * at >= 0.0 or at * behind >= 0.0:
        return 0.0
    left = abs(x[k] - x[k - 1]) / typical
    right = abs(x[k + 1] - x[k]) / typical
    return min(abs(before) * left, abs(behind) * right, abs(at) / (1.0 / left + 1.0 / right))


@borrowing
def roughness(d, before, behind):
    """Return the largest noise that the points up to ``before`` and from ``behind`` on show.

    The third difference of four points has sqrt(20) times the noise of one.

    Parameters
    ----------
    d
        Slopes, as :func:`slopes` fills them.
    before, behind
        Points in between do not count.
    """
    largest = 0.0
    for k in range(max(before - AROUND, 1), before - 1):
        largest = max(largest, abs(d[k + 1] - 2.0 * d[k] + d[k - 1]))
    for k in range(behind + 1, min(behind + AROUND, d.size - 1)):
        largest = max(largest, abs(d[k + 1] - 2.0 * d[k] + d[k - 1]))
    return largest / math.sqrt(20.0)


@borrowing
def one_sign(y, first, last):
    """Tell whether all points of a range have the same sign."""
    for k in range(max(first, 0), min(last, y.size)):
        if y[k] * y[first if first > 0 else 0] <= 0.0:
            return False
    return True


@borrowing
def believed(linear, logarithmic, known, relative):
    """Combine what both scales say of a point: see :data:`SKEWED`."""
    if not known:
        return linear
    if relative < SKEWED:
        return linear or logarithmic
    return linear and logarithmic


@borrowing
def is_outside(y, k, least):
    """Tell whether a point is not between its third, or its fourth, neighbours on both sides.

    Parameters
    ----------
    y, k, least
        As in :func:`is_gross`.
    """
    for j in (3, 4):
        if y[k] < min(y[k - j], y[k + j]) - least or y[k] > max(y[k - j], y[k + j]) + least:
            return True
    return False


@kernel
def is_gross(y, k, least):
    """Tell whether a point is far beyond its eight neighbours, two or three of which may be, too.

    A point of a curve that rises or falls is in the middle of its neighbours.

    Parameters
    ----------
    y
        Currents of a branch, A.  Shape (m,).
    k
        Index of the point, 4 to m - 5.
    least
        How far it has to be off, A.
    """
    around = np.empty(8)
    around[:4] = y[k - 4 : k]
    around[4:] = y[k + 1 : k + 5]
    around.sort()
    off = abs(y[k] - 0.5 * (around[3] + around[4]))
    return off > least + GROSS * (around[5] - around[2])


@borrowing
def find_single(x, y, z, typical, noise, classes, quantum, bar, d, d_z, out):
    """Mark single points that are off, as :func:`find_outliers`.

    Parameters
    ----------
    x, y, z, typical, noise, classes, quantum, d, d_z, out
        As there.
    bar
        How many standard deviations a point has to be off.

    Returns
    -------
    The number of such points.
    """
    m = x.size
    out[:] = False
    d = d[: m - 1]
    d_z = d_z[: m - 1]
    slopes(x, y, typical, d)
    slopes(x, z, LN10 * typical, d_z)
    found = 0
    least = bar * 1.33 * noise[1, classes - 1]
    for k in range(2, m - 2):
        off = off_by(d, x, typical, k)
        off_z = off_by(d_z, x, typical, k)
        if not (off > least or off_z > HARMLESS):
            continue
        around = max(abs(d[k - 2]), abs(d[k + 1]))
        near = max(abs(y[k - 1]), abs(y[k + 1]))
        # A few steps of the converter prove nothing.
        if min(abs(y[k] - y[k - 1]), abs(y[k] - y[k + 1])) <= QUANTA * quantum:
            continue
        linear = off > least and off > HARMLESS * around
        linear = linear and off > SPIKIER * roughness(d, k - 1, k + 1)
        logarithmic = off_z > HARMLESS and off_z > SPIKIER * roughness(d_z, k - 1, k + 1)
        if not (linear or logarithmic):
            continue
        known = one_sign(y, k - 3, k + 4)
        size = middle(abs(y[k - 1]), abs(y[k]), abs(y[k + 1]))
        # Three residuals of noise s, of which the middle one has s sqrt(7) / 2.
        sigma = 1.33 * deviation(noise, classes, max(size, min(near, 2.0 * size)))
        linear = linear and off > bar * sigma
        relative = deviation(noise, classes, size) / size if size > 0.0 else math.inf
        logarithmic = logarithmic and known and off_z > bar * 1.33 * relative
        out[k] = believed(linear, logarithmic, known, relative)
        # Where two neighbours seem off because of one another, the one farther off is.
        if out[k] and out[k - 1]:
            if abs(d[k] - d[k - 1]) > abs(d[k - 1] - d[k - 2]):
                out[k - 1] = False
            else:
                out[k] = False
        elif out[k]:
            found += 1
    return found


@kernel
def find_outliers(x, y, z, typical, noise, classes, n_told, quantum, d, d_z, out):
    """Mark points that are off by more than noise, where no device bends like that.

    Points that are far off go first: nothing looks smooth beside them.

    Parameters
    ----------
    x, y, z
        A branch without repeated voltages: V, A, and log10 |Id|.  Shape (m,).
    typical
        Typical spacing of the voltages, V.
    noise, classes, n_told
        Its noise, as :func:`.sweep_noise.noise_of` fills and returns it.
    quantum
        Step of the converter, as :func:`.sweep_noise.converter_step` returns it.
    d, d_z
        Room for the slopes.  Shape (m - 1,) or more.
    out
        Gets True where a point is to be left out.  Shape (m,).

    Returns
    -------
    The number of such points.
    """
    m = x.size
    out[:] = False
    if m < 7 or n_told == 0:
        return 0
    bar = limit(m, n_told)
    far = 0
    steps = FAR * QUANTA * quantum
    least = max(FAR * bar * noise[1, classes - 1], steps)
    for k in range(4, m - 4):
        if not is_outside(y, k, least):
            continue
        size = max(min(abs(y[k - 3]), abs(y[k + 3])), min(abs(y[k - 4]), abs(y[k + 4])))
        own = max(FAR * bar * deviation(noise, classes, size), steps)
        if is_outside(y, k, own) and is_gross(y, k, own):
            out[k] = True
            far += 1
    if far == 0:
        return find_single(x, y, z, typical, noise, classes, quantum, bar, d, d_z, out)
    gross = out.copy()
    smooth = y.copy()
    log = z.copy()
    begin = -1
    for k in range(m):
        if gross[k]:
            continue
        for j in range(begin + 1, k):
            share = (x[j] - x[begin]) / (x[k] - x[begin])
            smooth[j] = y[begin] + share * (y[k] - y[begin])
            log[j] = math.log10(abs(smooth[j])) if smooth[j] != 0.0 else math.nan
        begin = k
    found = find_single(x, smooth, log, typical, noise, classes, quantum, bar, d, d_z, out)
    for k in range(m):
        out[k] = out[k] or gross[k]
    return found + far
