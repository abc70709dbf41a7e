"""Transfer sweeps that cannot be believed as they are: points left out, branches with a word.

Dimension letters: N samples of a step, n finite points of a sweep, m points of a branch, S steps.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from oectflow.extractors.kernels.sweep_noise import RESPONDS, deviation, middle, noise_of, responds
from oectflow.extractors.kernels.sweeps import merge_repeats, share_turn, split_sweep

#: What is wrong with a branch, the worse the larger; of several the largest counts.
SOUND, OVERFLOW, OUTLIER, CLIPPED, JUMP, NOISE, LOOPS, IMPLAUSIBLE = range(8)

#: Readings from here on are marks of an instrument (9.9e37, 9.91e37), in A.
MARK = 1e30
#: No transistor in an electrolyte carries more, A; no source of a gate gives more, V.
MOST_CURRENT = 1.0
MOST_VOLTAGE = 200.0

#: False alarms of a sweep that the tests for single points and steps may make: with m points each
#: takes z = sqrt(2 ln(m / ALARMS)) standard deviations, beyond which one of m normal variables is
#: found less often than that.
ALARMS = 1e-4
#: The scale itself is known to about 1 / sqrt(2 n) from n residuals: z is larger by this over n.
FEW = 16.0
#: Noise above this share of the current: what is beyond it on one of the scales is only believed
#: if it is so on the other one, too, for on one of them the noise has a long tail.
SKEWED = 0.06
#: A point or a step that changes slopes by less than this share of those around is harmless.
HARMLESS = 0.05
#: A step is told from a steep place by the slopes on both sides: they must differ from it by so
#: many times what they differ from those next to them.  A logistic curve sampled at two of its
#: widths (87 % of its rise in two steps) has 1.4.
STEEPER = 2.0
#: A current leaves its floor where the step of its logarithm before is less than this share of that
#: behind, and that behind more than this share of the one between.
FLOOR = 0.2
GOES_ON = 0.05
#: With noise s, what a step is more than the mean of its neighbours has the deviation
#: s sqrt(20) / 2, and more than each of them it is no more often.
STEP_GAIN = 2.24
#: Equal largest currents that make a plateau.
PLATEAU = 3
#: The last steps before a plateau are more than so many steps of the converter, and more than this
#: share of the largest step: a current that saturates has neither, unless it does so by more than a
#: factor of five with every point.
ABRUPT_QUANTA = 20.0
ABRUPT = 0.01
#: Six digits, as instruments print them, differ by this share at most.
PRINTED = 1e-5
#: So many differences that are multiples of the smallest one are no chance.
FEW_STEPS = 4


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
def logarithms(y, z):
    """Fill in ln |y|, NaN where y is 0.  Shape (m,)."""
    for k in range(y.size):
        z[k] = math.log(abs(y[k])) if y[k] != 0.0 else math.nan


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
def find_outliers(x, y, typical, noise, classes, n_told, out):
    """Mark single points that are off by more than noise, where no device bends like that.

    Parameters
    ----------
    x, y
        A branch without repeated voltages.  Shape (m,).
    typical
        Typical spacing of the voltages, V.
    noise, classes, n_told
        Its noise, as :func:`.sweep_noise.noise_of` fills and returns it.
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
    z = np.empty(m)
    logarithms(y, z)
    d = np.empty(m - 1)
    d_z = np.empty(m - 1)
    slopes(x, y, typical, d)
    slopes(x, z, typical, d_z)
    bar = limit(m, n_told)
    found = 0
    for k in range(2, m - 2):
        off = off_by(d, x, typical, k)
        known = one_sign(y, k - 3, k + 4)
        off_z = off_by(d_z, x, typical, k) if known else 0.0
        if off == 0.0 and off_z == 0.0:
            continue
        size = middle(abs(y[k - 1]), abs(y[k]), abs(y[k + 1]))
        near = max(abs(y[k - 1]), abs(y[k + 1]))
        # Three residuals of noise s, of which the middle one has s sqrt(7) / 2.
        sigma = 1.33 * deviation(noise, classes, max(size, min(near, 2.0 * size)))
        around = max(abs(d[k - 2]), abs(d[k + 1]))
        linear = off > bar * sigma and off > HARMLESS * around
        relative = deviation(noise, classes, size) / size if size > 0.0 else math.inf
        logarithmic = off_z > bar * 1.33 * relative and off_z > HARMLESS
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
def has_jump(x, y, typical, noise, classes, n_told):
    """Tell whether the current of a branch steps where the curve before and behind does not.

    Parameters
    ----------
    x, y, typical, noise, classes, n_told
        As in :func:`find_outliers`.
    """
    m = x.size
    if m < 6 or n_told == 0:
        return False
    z = np.empty(m)
    logarithms(y, z)
    d = np.empty(m - 1)
    d_z = np.empty(m - 1)
    slopes(x, y, typical, d)
    slopes(x, z, typical, d_z)
    bar = limit(m, n_told)
    for k in range(1, m - 2):
        jump, curve = step_at(d, k)
        known = one_sign(y, k - 2, k + 4)
        jump_z, curve_z = step_at(d_z, k) if known else (0.0, 0.0)
        if jump == 0.0 and jump_z == 0.0:
            continue
        large = max(abs(y[k]), abs(y[k + 1]))
        small = max(min(abs(y[k]), abs(y[k + 1])), 1e-300)
        # Voltages closer than usual make more of the noise.
        close = min(abs(x[k + 1] - x[k]), abs(x[k] - x[k - 1]), abs(x[k + 2] - x[k + 1]))
        gain = STEP_GAIN * max(typical / close, 1.0)
        sigma = gain * deviation(noise, classes, large)
        linear = jump > max(STEEPER * curve, bar * sigma, HARMLESS * abs(d[k]))
        # Where the current grows manifold with every step, the linear scale cannot tell.
        growing = max(abs(d_z[k - 1]), abs(d_z[k + 1]))
        if known and abs(d_z[k]) > 1.0 and abs(d_z[k]) < 1.5 * growing:
            linear = False
        relative = deviation(noise, classes, small) / small
        logarithmic = jump_z > max(STEEPER * curve_z, bar * gain * relative, HARMLESS)
        # Where the current leaves a floor, its logarithm has a step: it goes on rising behind.
        rising = abs(y[k + 1]) > abs(y[k])
        behind = abs(d_z[k + 1] if rising else d_z[k - 1])
        before = abs(d_z[k - 1] if rising else d_z[k + 1])
        if known and before < FLOOR * behind and behind > GOES_ON * abs(d_z[k]):
            logarithmic = False
        if believed(linear, logarithmic, known, relative):
            return True
    return False


@njit(nogil=True, cache=True, error_model="numpy")
def quantum_of(y, top):
    """Return the step of a converter: of which all differences in the upper half are multiples.

    Parameters
    ----------
    y
        Currents of a branch.  Shape (m,).
    top
        The largest |Id| of them.

    Returns
    -------
    The step (A), or what printing leaves where there is none.
    """
    size = np.sort(np.abs(y))
    first = np.searchsorted(size, 0.5 * top)
    quantum = top
    for k in range(first, size.size - 1):
        if size[k + 1] > size[k]:
            quantum = min(quantum, size[k + 1] - size[k])
    steps = 0
    for k in range(first, size.size - 1):
        multiple = (size[k + 1] - size[k]) / quantum
        if abs(multiple - round(multiple)) > 0.05:
            return PRINTED * top
        steps += multiple > 0.5
    return max(quantum, PRINTED * top) if steps >= FEW_STEPS else PRINTED * top


@njit(nogil=True, cache=True, error_model="numpy")
def plateau(y):
    """Return the number of neighbours that have the largest |Id| of a branch, if it ends abruptly.

    Parameters
    ----------
    y
        Currents of a branch.  Shape (m,).

    Returns
    -------
    The length of the plateau, 0 where the current comes to it by and by; and its |Id|.
    """
    m = y.size
    top = 0.0
    largest = 0.0
    for k in range(m):
        top = max(top, abs(y[k]))
        if k > 0:
            largest = max(largest, abs(y[k] - y[k - 1]))
    equal = 1e-12 * top
    longest = 0
    before = 0.0
    k = 0
    while k < m:
        if abs(y[k]) < top - equal:
            k += 1
            continue
        end = k
        while end + 1 < m and abs(y[end + 1]) >= top - equal:
            end += 1
        if end + 1 - k > longest:
            longest = end + 1 - k
            before = 0.0
            for j in (k, k - 1, end + 1, end + 2):
                if 0 < j < m:
                    before = max(before, abs(y[j] - y[j - 1]))
        k = end + 1
    if longest < 2 or before <= ABRUPT * largest:
        return 0 if longest > 1 else longest, top
    if before <= ABRUPT_QUANTA * quantum_of(y, top):
        return 0, top
    return longest, top


@njit(nogil=True, cache=True, error_model="numpy")
def passes_again(x, turn):
    """Tell whether a sweep comes back to its turning voltage after it has gone away from it.

    Parameters
    ----------
    x
        Voltages of the sweep.  Shape (n,).
    turn
        Index of the turning point.
    """
    span = x.max() - x.min()
    away = False
    for k in range(turn + 1, x.size):
        distance = abs(x[k] - x[turn])
        away = away or distance > 0.5 * span
        if away and distance < 0.1 * span:
            return True
    return False


@njit(nogil=True, cache=True, error_model="numpy")
def keep_readings(vg, current, x, y, where, gap):
    """Copy the points that are readings.

    Parameters
    ----------
    vg, current
        Gate voltage (V) and drain current (A).  Shape (N,).
    x, y, where
        Get the points, in order, and their indices.  Shape (N,).
    gap
        Gets, for each point left out, how many points come before it.  Shape (N,).

    Returns
    -------
    Number of points, and number of those left out because a number is missing or a mark of the
    instrument.  Where neither number is finite there is no point: sweeps are padded so.
    """
    n = 0
    n_gaps = 0
    for k in range(vg.size):
        good = math.isfinite(current[k]) and abs(current[k]) < MARK
        if math.isfinite(vg[k]) and good:
            x[n] = vg[k]
            y[n] = current[k]
            where[n] = k
            n += 1
        elif math.isfinite(vg[k]) or not math.isnan(current[k]):
            gap[n_gaps] = n
            n_gaps += 1
    return n, n_gaps


@njit(nogil=True, cache=True, error_model="numpy")
def leave_out(x, y, where, n, first, last, same, noise, classes, n_told, typical):
    """Find outliers among points ``first:last`` and close the gaps they leave, in place.

    Returns
    -------
    Number of points left of all ``n``, and of outliers.
    """
    m = last - first
    b_x = x[first:last].copy()
    b_y = y[first:last].copy()
    m = merge_repeats(b_x, b_y, same)
    out = np.empty(m, np.bool_)
    found = find_outliers(b_x[:m], b_y[:m], typical, noise, classes, n_told, out)
    if found == 0:
        return n, 0
    kept = first
    for k in range(first, n):
        gone = False
        if k < last:
            for j in range(m):
                gone = gone or (out[j] and abs(x[k] - b_x[j]) <= same and y[k] == b_y[j])
        if not gone:
            x[kept] = x[k]
            y[kept] = y[k]
            where[kept] = where[k]
            kept += 1
    return kept, found


@njit(nogil=True, cache=True, error_model="numpy")
def judge_step(vg, current, gate, x, y, g, first, count, verdict, noise):
    """Split a sweep into branches and say what is wrong with them.

    Parameters
    ----------
    vg, current
        Gate voltage (V) and drain current (A) of one step.  Shape (N,).
    gate
        Gate current (A), of shape (N,), or (0,) where none was recorded.
    x, y, g
        Get the points of the branches without repeated voltages: V, A, and the magnitude of the
        gate current.  Shape (N + 1,), the last (0,) where there is none.
    first, count, verdict
        Get where the forward and the reverse branch begin, how many points they have, and what is
        wrong.  Shape (2,).
    noise
        Gets the noise of the sweep, as in :func:`.sweep_noise.noise_of`.  Shape (2, CLASSES).

    Returns
    -------
    The number of classes of the noise.
    """
    first[:] = 0
    count[:] = 0
    verdict[:] = SOUND
    gap = np.empty(vg.size, np.int64)
    where = np.empty(vg.size + 1, np.int64)
    n, n_gaps = keep_readings(vg, current, x, y, where, gap)
    if n == 0:
        verdict[:] = OVERFLOW if n_gaps else SOUND
        return 0
    n_forward, same = split_sweep(x[:n])
    turn = n_forward - 1
    for k in range(n_gaps):
        verdict[0 if gap[k] < n_forward or n_forward == n else 1] = OVERFLOW
    loops = passes_again(x[:n], turn)
    b_x = x[:n].copy()
    b_y = y[:n].copy()
    m_f = merge_repeats(b_x[:n_forward], b_y[:n_forward], same)
    m_r = merge_repeats(b_x[n_forward:n], b_y[n_forward:n], same)
    reverse = slice(n_forward, n_forward + m_r)
    n_told, classes = noise_of(b_x[:m_f], b_y[:m_f], b_x[reverse], b_y[reverse], noise)
    typical = np.median(np.abs(np.diff(b_x[:m_f]))) if m_f > 1 else 0.0
    left, out_r = leave_out(x, y, where, n, n_forward, n, same, noise, classes, n_told, typical)
    n = left
    left, out_f = leave_out(x, y, where, n, 0, n_forward, same, noise, classes, n_told, typical)
    n_forward -= n - left
    n = left
    if out_f:
        verdict[0] = OUTLIER
    if out_r:
        verdict[1] = OUTLIER
    shared = share_turn(x, y, n, n_forward, same)
    if shared > n:
        for k in range(n, n_forward - 1, -1):
            where[k] = where[k - 1]
        n = shared
    first[1] = n_forward
    if g.size > 0:
        b_x = x[:n].copy()
        for k in range(n):
            g[k] = abs(gate[where[k]])
        merge_repeats(b_x[:n_forward], g[:n_forward], same)
        merge_repeats(b_x[n_forward:n], g[n_forward:n], same)
    count[0] = merge_repeats(x[:n_forward], y[:n_forward], same)
    count[1] = merge_repeats(x[n_forward:n], y[n_forward:n], same)
    flat, top = plateau(y[: count[0]])
    flat_r, top_r = plateau(y[n_forward : n_forward + count[1]])
    # A plateau goes on through the turning point.
    if 0 < flat < PLATEAU and 0 < flat_r < PLATEAU and top == top_r and shared == n:
        flat += flat_r - 1
        flat_r = flat
    for k in range(2):
        points = slice(first[k], first[k] + count[k])
        if (flat if k == 0 else flat_r) >= PLATEAU:
            verdict[k] = CLIPPED
        if count[k] < 3:
            continue
        if has_jump(x[points], y[points], typical, noise, classes, n_told):
            verdict[k] = JUMP
        told = n_told > 0 and count[k] >= RESPONDS and y[points].min() < y[points].max()
        if told and not responds(y[points], noise, classes, n_told):
            verdict[k] = NOISE
    # Which side of a step is right nobody knows.
    if max(verdict[0], verdict[1]) == JUMP and verdict.min() < JUMP:
        verdict[:] = JUMP
    if loops:
        verdict[1] = LOOPS
    for k in range(n):
        if abs(y[k]) > MOST_CURRENT or abs(x[k]) > MOST_VOLTAGE:
            verdict[:] = IMPLAUSIBLE
    return classes


@njit(nogil=True, cache=True, error_model="numpy")
def judge_sweeps(
    vg, current, gate, offsets, x, y, g, first, count, verdict, noise, classes
):  # fmt: skip
    """Split many sweeps into branches and say what is wrong with them.

    Parameters
    ----------
    vg, current, gate
        Gate voltage (V), drain and gate current (A) of all steps, one after the other; the last of
        shape (0,) where none was recorded.
    offsets
        Step i is ``offsets[i]:offsets[i + 1]``.  Shape (S + 1,).
    x, y, g
        As in :func:`judge_step`; step i begins at ``offsets[i] + i``.  Shape (N + S,).
    first, count, verdict
        As in :func:`judge_step`; ``first`` counts from the begin of ``x``.  Shape (S, 2).
    noise, classes
        The noise of every sweep, as in :func:`judge_step`.  Shapes (S, 2, CLASSES) and (S,).
    """
    for step in range(offsets.size - 1):
        a, b = offsets[step], offsets[step + 1]
        own = slice(a + step, b + step + 1)
        classes[step] = judge_step(
            vg[a:b], current[a:b], gate[a:b], x[own], y[own], g[own],
            first[step], count[step], verdict[step], noise[step],
        )  # fmt: skip
        first[step] += a + step
