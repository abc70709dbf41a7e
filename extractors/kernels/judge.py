"""Transfer sweeps that cannot be believed as they are: leave points out, mark branches.

Dimension letters: N samples of a step, n finite points of a sweep, m points of a branch, S steps.
"""

from __future__ import annotations

import math

import numpy as np

from oectflow.extractors.kernels.compiled import borrowing, kernel
from oectflow.extractors.kernels.plateaus import PLATEAU, equal_ends, plateau
from oectflow.extractors.kernels.sweep_doubt import (
    allow_offset,
    first_off,
    hidden_gain,
    is_random,
    loop_gap,
    other_sign,
)
from oectflow.extractors.kernels.sweep_faults import find_outliers, limit
from oectflow.extractors.kernels.sweep_noise import (
    RESPONDS,
    converter_step,
    fill_deviations,
    logarithms,
    noise_of,
    responds,
)
from oectflow.extractors.kernels.sweep_steps import allow_for, find_steps
from oectflow.extractors.kernels.sweeps import (
    FORWARD,
    REVERSE,
    merge_repeats,
    share_turn,
    split_sweep,
)

#: What is wrong with a branch; larger is worse, and the largest of several counts.
SOUND, OVERFLOW, OUTLIER, CLIPPED, JUMP, NOISE, LOOPS, IMPLAUSIBLE = range(8)

#: Readings from here on are marks of an instrument (9.9e37, 9.91e37), in A.
MARK = 1e30
#: No gate source gives more than this, V.
MOST_VOLTAGE = 200.0


@kernel
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


@borrowing
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


@borrowing
def leave_out(x, y, where, n, first, last, same, b_x, b_y, out):
    """Close the gaps that outliers leave among points ``first:last``, in place.

    Parameters
    ----------
    x, y, where, n
        Points, their indices, and their number.
    b_x, b_y, out
        The same branch without repeated voltages, and its outliers.  Shape (m,).

    Returns
    -------
    Number of points left of all ``n``.
    """
    kept = first
    for k in range(first, n):
        gone = False
        if k < last:
            for j in range(b_x.size):
                gone = gone or (out[j] and abs(x[k] - b_x[j]) <= same and y[k] == b_y[j])
        if not gone:
            x[kept] = x[k]
            y[kept] = y[k]
            where[kept] = where[k]
            kept += 1
    return kept


@kernel
def judge_step(
    vg, current, gate, most, x, y, z, sigma, g, first, count, verdict, doubt, noise, where, gap,
    work, out
):  # fmt: skip
    """Split a sweep into branches and say what is wrong with them.

    Parameters
    ----------
    vg, current
        Gate voltage (V) and drain current (A) of one step.  Shape (N,).
    gate
        Gate current (A), of shape (N,), or (0,) where none was recorded.
    most
        Magnitude of a current that no device carries, A.
    x, y, z, sigma, g
        Get the points of the branches without repeated voltages: V, A, log10 |Id|, the standard
        deviation of the noise (A), and the magnitude of the gate current.  Shape (N + 1,), the last
        (0,) where there is none.
    first, count, verdict, doubt
        Get where the forward and the reverse branch begin, how many points they have, what is
        wrong, and by which share currents may change at once without being seen.  Shape (2,).
    noise
        Gets the noise of the sweep, as in :func:`.sweep_noise.noise_of`.  Shape (5, CLASSES).
    where, gap, work, out
        Room for N + 1 integers each, (4, N + 1) numbers and N + 1 booleans.

    Returns
    -------
    The number of classes of the noise.
    """
    first[:] = 0
    count[:] = 0
    verdict[:] = SOUND
    doubt[:] = 0.0
    n, n_gaps = keep_readings(vg, current, x, y, where, gap)
    if n == 0:
        verdict[:] = OVERFLOW if n_gaps else SOUND
        return 0
    n_forward, same, typical = split_sweep(x[:n])
    turn = n_forward - 1
    for k in range(n_gaps):
        verdict[0 if gap[k] < n_forward or n_forward == n else 1] = OVERFLOW
    loops = passes_again(x[:n], turn)
    b_x, b_y = work[0], work[1]
    b_x[:n] = x[:n]
    b_y[:n] = y[:n]
    m_f = merge_repeats(b_x[:n_forward], b_y[:n_forward], same)
    m_r = merge_repeats(b_x[n_forward:n], b_y[n_forward:n], same)
    logarithms(b_y[:n], z)
    there = slice(0, m_f)
    back = slice(n_forward, n_forward + m_r)
    n_told, classes = noise_of(
        b_x[there], b_y[there], z[there], sigma[there],
        b_x[back], b_y[back], z[back], sigma[back], 0.29 * converter_step(b_y[:n]), noise,
    )  # fmt: skip
    sound = m_f + m_r == n
    for branch in (REVERSE, FORWARD):
        points = there if branch == FORWARD else back
        found = find_outliers(
            b_x[points], b_y[points], z[points], typical, noise, classes, n_told,
            converter_step(b_y[points]), work[2], work[3], out[points],
        )  # fmt: skip
        if found:
            begin, end = (0, n_forward) if branch == FORWARD else (n_forward, n)
            left = leave_out(
                x, y, where, n, begin, end, same, b_x[points], b_y[points], out[points]
            )
            if branch == FORWARD:
                n_forward -= n - left
            n = left
            verdict[branch] = OUTLIER
            sound = False
    n_kept = n
    shared = share_turn(x, y, n, n_forward, same)
    if shared > n:
        for k in range(n, n_forward - 1, -1):
            where[k] = where[k - 1]
            z[k] = z[k - 1]
            sigma[k] = sigma[k - 1]
        # The turning point was the last one there; now it has others behind it, too.
        sigma[n_forward : n_forward + 3] = math.nan
        n = shared
    first[1] = n_forward
    if g.size > 0:
        b_x[:n] = x[:n]
        for k in range(n):
            g[k] = abs(gate[where[k]])
        merge_repeats(b_x[:n_forward], g[:n_forward], same)
        merge_repeats(b_x[n_forward:n], g[n_forward:n], same)
    count[0] = merge_repeats(x[:n_forward], y[:n_forward], same)
    count[1] = merge_repeats(x[n_forward:n], y[n_forward:n], same)
    if not sound:
        logarithms(y[:n], z)
        sigma[:] = math.nan
    flat, top = plateau(y[: count[0]])
    flat_r, top_r = plateau(y[n_forward : n_forward + count[1]])
    # A plateau goes on through the turning point.
    if 0 < flat < PLATEAU and 0 < flat_r < PLATEAU and top == top_r and shared == n:
        flat += flat_r - 1
        flat_r = flat
    # What cuts one branch off cuts off the other one, too.
    if equal_ends(y[: count[0]], y[n_forward : n_forward + count[1]]) or (
        top == top_r and max(flat, flat_r) >= PLATEAU
    ):
        flat = flat_r = PLATEAU
    largest = 0.0
    at_largest = 0.0
    for k in range(2):
        points = slice(first[k], first[k] + count[k])
        if (flat if k == 0 else flat_r) >= PLATEAU:
            verdict[k] = CLIPPED
        quantum = converter_step(y[points])
        fill_deviations(x[points], y[points], z[points], noise, classes, quantum, sigma[points])
        if count[k] < 3:
            continue
        if n_told > 0:
            stepped, suspect, at = find_steps(
                x[points], y[points], z[points], noise, classes, limit(count[k], n_told), quantum
            )
            if stepped:
                verdict[k] = JUMP
            elif suspect > largest:
                largest = suspect
                at_largest = at
        told = n_told > 0 and count[k] >= RESPONDS and y[points].min() < y[points].max()
        if told and not responds(x[points], y[points], noise, classes, n_told):
            verdict[k] = NOISE
    forward = slice(0, count[0])
    reverse = slice(first[1], first[1] + count[1])
    if classes > 0:
        open_by = loop_gap(
            x[forward], y[forward], sigma[forward], x[reverse], y[reverse], sigma[reverse]
        )
        quiet = noise[4, :classes].max() > 0.0
        if quiet and not is_random(x[forward], y[forward], x[reverse], y[reverse]):
            noise[4, :classes] = 0.0
        for k in range(2):
            points = forward if k == 0 else reverse
            doubt[k] = hidden_gain(x[points], y[points], z[points])
            offset = other_sign(y[points], sigma[points])
            if k == 1:
                offset = max(offset, open_by)
                if shared <= n_kept and count[1] > 4:
                    doubt[k] = max(doubt[k], first_off(x[points], y[points], z[points]))
            allow_offset(y[points], noise, classes, offset, sigma[points])
    if largest > 0.0:
        # One side of the step may be wrong, and nobody knows which.
        for k in range(2):
            points = slice(first[k], first[k] + count[k])
            allow_for(y[points], largest, at_largest, sigma[points])
    # Nobody knows which side of a step is right.
    if max(verdict[0], verdict[1]) == JUMP and verdict.min() < JUMP:
        verdict[:] = JUMP
    if loops:
        verdict[1] = LOOPS
    for k in range(n):
        if abs(y[k]) > most or abs(x[k]) > MOST_VOLTAGE:
            verdict[:] = IMPLAUSIBLE
    return classes


@kernel
def judge_sweeps(
    vg, current, gate, offsets, most, x, y, z, sigma, g, first, count, verdict, doubt, noise,
    classes,
):  # fmt: skip
    """Split many sweeps into branches and say what is wrong with them.

    Parameters
    ----------
    vg, current, gate
        Gate voltage (V), drain and gate current (A) of all steps, one after the other; the last of
        shape (0,) where none was recorded.
    offsets
        Step i is ``offsets[i]:offsets[i + 1]``.  Shape (S + 1,).
    most
        As in :func:`judge_step`, for each step.  Shape (S,).
    x, y, z, sigma, g
        As in :func:`judge_step`; step i begins at ``offsets[i] + i``.  Shape (N + S,).
    first, count, verdict, doubt
        As in :func:`judge_step`; ``first`` counts from the begin of ``x``.  Shape (S, 2).
    noise, classes
        The noise of every sweep, as in :func:`judge_step`.  Shapes (S, 5, CLASSES) and (S,).
    """
    longest = 0
    for step in range(offsets.size - 1):
        longest = max(longest, offsets[step + 1] - offsets[step])
    where, gap = np.empty((2, longest + 1), np.int64)
    work = np.empty((4, longest + 1))
    out = np.empty(longest + 1, np.bool_)
    for step in range(offsets.size - 1):
        a, b = offsets[step], offsets[step + 1]
        own = slice(a + step, b + step + 1)
        classes[step] = judge_step(
            vg[a:b], current[a:b], gate[a:b], most[step], x[own], y[own], z[own], sigma[own],
            g[own], first[step], count[step], verdict[step], doubt[step], noise[step], where, gap,
            work, out,
        )  # fmt: skip
        first[step] += a + step
