"""Single points and steps of a sweep that no device makes.

Dimension letters: m points of a branch.
"""

from __future__ import annotations

import math

from numba import njit

from oectflow.extractors.kernels.sweep_noise import LN10, deviation, middle

#: False alarms of a sweep that the tests for single points and steps may make: with m points each
#: takes z = sqrt(2 ln(m / ALARMS)) standard deviations, beyond which one of m normal variables is
#: found less often than that.
ALARMS = 3e-4
#: The scale itself is known to about 1 / sqrt(2 n) from n residuals: z is larger by this over n.
FEW = 8.0
#: Noise above this share of the current: what is beyond it on one of the scales is only believed
#: if it is so on the other one, too, for on one of them the noise has a long tail.
SKEWED = 0.06
#: A point or a step that changes slopes by less than this share of those around is harmless.
HARMLESS = 0.05
#: A step is told from a steep place by the slopes on both sides: they must differ from it by so
#: many times what they differ from those next to them.  A logistic curve sampled at two of its
#: widths (87 % of its rise in two steps) has 1.4.
STEEPER = 2.0
#: A share of the largest current that an instrument in its range may not see.
UNSEEN = 0.01
#: So many steps of the converter are no step of the current.
QUANTA = 3.0
#: A step, or a point that is off, is more than so many times the largest noise around it: that of a
#: short sweep as a whole says little where the noise grows with the current.  A point that is not
#: found has a standard error that covers it; a step shifts all that is behind.
ROUGHER = 2.0
SPIKIER = 5.0
AROUND = 6
#: A current leaves its floor where the step of its logarithm before is less than this share of that
#: behind, and that behind more than this share of the one between.
FLOOR = 0.2
GOES_ON = 0.05


@njit(nogil=True, cache=True, error_model="numpy")
def limit(n_points, n_told):
    """Return how many standard deviations one of so many points may be off."""
    return math.sqrt(2.0 * math.log(n_points / ALARMS)) * (1.0 + FEW / n_told)


@njit(nogil=True, cache=True, error_model="numpy")
def slopes(x, y, typical, d):
    """Fill in the steps of a branch, as if all voltages were ``typical`` apart.  Shape (m - 1,)."""
    for k in range(d.size):
        d[k] = (y[k + 1] - y[k]) / (x[k + 1] - x[k]) * typical


@njit(nogil=True, cache=True, error_model="numpy")
def off_by(d, x, typical, k):
    """Return how far point k is off a curve of one curvature: 0 unless it bends there and back.

    The changes of slope before, at and behind the point less the mean of those beyond are o, -2 o
    and o where the point is off by o.  A curve that bends one way, has a kink or turns from bending
    one way to the other has not three changes of alternate signs, so it has nothing here.
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


@njit(nogil=True, cache=True, error_model="numpy")
def step_at(d, k):
    """Return by how much step k is more, or less, than those on both sides of it.

    And what those differ from their neighbours: a curve has a largest slope, too, but it gets there
    by and by.
    """
    n = d.size
    one = d[k] - d[k - 1]
    other = d[k] - d[k + 1]
    if one * other <= 0.0:
        return 0.0, 0.0
    curve = 0.0
    if k >= 2:
        curve = abs(d[k - 1] - d[k - 2])
    if k + 2 < n:
        curve = max(curve, abs(d[k + 1] - d[k + 2]))
    return min(abs(one), abs(other)), curve


@njit(nogil=True, cache=True, error_model="numpy")
def roughness(d, before, behind):
    """Return the largest noise that points around show: those up to ``before``, from ``behind`` on.

    The third difference of four of them has sqrt(20) of the noise of one.

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


@njit(nogil=True, cache=True, error_model="numpy")
def step_gain(before, behind):
    """Return how much more than that of a point the noise is of what a step is more than its place.

    Of what it is more than the mean of the slopes beside it: sqrt(5) where the voltages are even;
    more than each of them it is no more often.

    Parameters
    ----------
    before, behind
        Its spacing over that before and that behind.
    """
    left = 0.5 * abs(before)
    right = 0.5 * abs(behind)
    return math.sqrt(left * left + (1 + left) ** 2 + (1 + right) ** 2 + right * right)


@njit(nogil=True, cache=True, error_model="numpy")
def one_sign(y, first, last):
    """Tell whether all points of a range have the same sign."""
    for k in range(max(first, 0), min(last, y.size)):
        if y[k] * y[first if first > 0 else 0] <= 0.0:
            return False
    return True


@njit(nogil=True, cache=True, error_model="numpy")
def believed(linear, logarithmic, known, relative):
    """Combine what both scales say of a point: see :data:`SKEWED`."""
    if not known:
        return linear
    if relative < SKEWED:
        return linear or logarithmic
    return linear and logarithmic


@njit(nogil=True, cache=True, error_model="numpy")
def find_outliers(x, y, z, typical, noise, classes, n_told, quantum, d, d_z, out):
    """Mark single points that are off by more than noise, where no device bends like that.

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
    d = d[: m - 1]
    d_z = d_z[: m - 1]
    slopes(x, y, typical, d)
    slopes(x, z, LN10 * typical, d_z)
    bar = limit(m, n_told)
    found = 0
    least = bar * 1.33 * noise[1, classes - 1]
    for k in range(2, m - 2):
        off = off_by(d, x, typical, k)
        off_z = off_by(d_z, x, typical, k)
        if not (off > least or off_z > HARMLESS):
            continue
        around = max(abs(d[k - 2]), abs(d[k + 1]))
        near = max(abs(y[k - 1]), abs(y[k + 1]))
        # Of a few steps of the converter nobody knows.
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
        # Of neighbours that seem off because of one another the one farther off is.
        if out[k] and out[k - 1]:
            if abs(d[k] - d[k - 1]) > abs(d[k - 1] - d[k - 2]):
                out[k - 1] = False
            else:
                out[k] = False
        elif out[k]:
            found += 1
    return found


@njit(nogil=True, cache=True, error_model="numpy")
def has_jump(x, y, z, typical, noise, classes, n_told, quantum, d, d_z):
    """Tell whether the current of a branch steps where the curve before and behind does not.

    Parameters
    ----------
    x, y, z, typical, noise, classes, n_told, quantum, d, d_z
        As in :func:`find_outliers`.
    """
    m = x.size
    if m < 6 or n_told == 0:
        return False
    d = d[: m - 1]
    d_z = d_z[: m - 1]
    slopes(x, y, typical, d)
    slopes(x, z, LN10 * typical, d_z)
    bar = limit(m, n_told)
    # No gain is less, unless the voltage makes more than two of its typical steps.
    least = bar * noise[1, classes - 1]
    top = 0.0
    for k in range(m):
        top = max(top, abs(y[k]))
    for k in range(1, m - 2):
        jump, curve = step_at(d, k)
        jump_z, curve_z = step_at(d_z, k)
        if not (jump > least or jump_z > HARMLESS):
            continue
        if abs(y[k + 1] - y[k]) <= QUANTA * quantum:
            continue
        # Where readings of 0 end the current begins to be seen.
        if y[k] * y[k + 1] == 0.0 and max(abs(y[k]), abs(y[k + 1])) < UNSEEN * top:
            continue
        linear = jump > max(least, STEEPER * curve, HARMLESS * abs(d[k]))
        logarithmic = jump_z > max(HARMLESS, STEEPER * curve_z)
        if not (linear or logarithmic):
            continue
        known = one_sign(y, k - 2, k + 4)
        large = max(abs(y[k]), abs(y[k + 1]))
        small = max(min(abs(y[k]), abs(y[k + 1])), 1e-300)
        h = x[k + 1] - x[k]
        gain = step_gain(h / (x[k] - x[k - 1]), h / (x[k + 2] - x[k + 1])) * typical / abs(h)
        sigma = gain * deviation(noise, classes, large)
        linear = linear and jump > bar * sigma
        # Where the current grows manifold with every step, the linear scale cannot tell.
        growing = max(abs(d_z[k - 1]), abs(d_z[k + 1]))
        if known and abs(d_z[k]) > 1.0 and abs(d_z[k]) < 1.5 * growing:
            linear = False
        relative = deviation(noise, classes, small) / small
        logarithmic = logarithmic and known and jump_z > bar * gain * relative
        # Where the current leaves a floor, its logarithm has a step: it goes on rising behind.
        rising = abs(y[k + 1]) > abs(y[k])
        behind = abs(d_z[k + 1] if rising else d_z[k - 1])
        before = abs(d_z[k - 1] if rising else d_z[k + 1])
        if known and before < FLOOR * behind and behind > GOES_ON * abs(d_z[k]):
            logarithmic = False
        linear = linear and jump > ROUGHER * gain * roughness(d, k, k + 1)
        logarithmic = logarithmic and jump_z > ROUGHER * gain * roughness(d_z, k, k + 1)
        # The noise of the larger current is that of the linear scale.
        if logarithmic and (linear or relative < SKEWED):
            return True
        if linear and (not known or sigma < SKEWED * gain * large):
            return True
    return False
