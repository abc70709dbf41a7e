"""Split a record into its curves or loops.

A double sweep, out and back once, is one curve.  The next curve begins after it, after a jump back
to the start, or at another voltage of the other terminal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from oectflow.measurement import get_kind

#: A reversal must exceed this share of the range of the sweep, and this many times the noise.
_HYSTERESIS = 0.15
_NOISES = 8.0
#: A start this near one end of the range counts as that end: the curve ends when it is back there.
_END_SHARE = 0.2
#: A smaller difference (V) is no change of the voltage of the other terminal, or of a bias.
_SMALLEST_CHANGE = 5e-3
#: Fewer points are no curve.
_FEWEST = 3

Piece = tuple[int, int, dict[str, float]]


def split_curves(
    kind: str, arrays: Mapping[str, NDArray[np.float64]], values: Mapping[str, float]
) -> list[Piece]:
    """Split a record into its curves.

    Parameters
    ----------
    kind
        Name of the kind.  A record along time is always one curve.
    arrays
        The record, by the names of its kind; equally long.
    values
        Numbers of the record, which every curve keeps unless a column says more.

    Returns
    -------
    For each curve: its start, its stop, and its values.  If there are several curves, the values
    contain ``curve`` (from 1) and ``file_position`` (index of the first point in the record).  If
    the voltage of the other terminal was recorded, they contain its median over the curve (``Vd``
    of a transfer curve).

    Examples
    --------
    Two one-way sweeps:

    >>> import numpy as np
    >>> vg = np.tile(np.linspace(0, -0.8, 5), 2)
    >>> [piece[:2] for piece in split_curves("transfer", {"Vg": vg, "Id": vg}, {})]
    [(0, 5), (5, 10)]
    """
    declared = get_kind(kind)
    n = len(next(iter(arrays.values()), ()))
    outer = arrays.get(declared.curve_by) if declared.curve_by else None
    if declared.gated or declared.x not in arrays or not declared.curve_by:
        starts = [0]
    else:
        x = arrays[declared.x]
        # Frequencies are swept in equal ratios.
        x = np.log(np.where(x > 0, x, np.nan)) if declared.x == "frequency" else x
        starts = _starts(x, outer)
    pieces: list[Piece] = []
    for curve, (start, stop) in enumerate(pairwise([*starts, n]), 1):
        own = dict(values)
        if len(starts) > 1:
            own |= {"curve": float(curve), "file_position": float(start)}
        if outer is not None and np.isfinite(outer[start:stop]).any():
            own[declared.curve_by] = float(np.nanmedian(outer[start:stop]))
        pieces.append((start, stop, own))
    return pieces


def _starts(x: NDArray[np.float64], outer: NDArray[np.float64] | None) -> list[int]:
    """Return the index at which each curve starts; the first is 0."""
    there = np.flatnonzero(np.isfinite(x))
    if len(there) < 2 * _FEWEST:
        return [0]
    seen = x[there]
    if outer is None:
        d = np.diff(seen)
        moves = np.sign(d[d != 0])
        if np.count_nonzero(moves[1:] != moves[:-1]) < 2:
            return [0]  # Most records: one way, or out and back.
    forced = [] if outer is None else _level_changes(outer[there])
    threshold = _reversal(seen)
    sound = _without_glitches(seen, threshold)
    starts: list[int] = []
    bounds = [0, *forced, len(seen)]
    for a, b in pairwise(bounds):
        inside = sound[(sound >= a) & (sound < b)]
        starts.append(a)
        if len(inside):
            starts += [int(inside[i]) for i in _one_voltage(seen[inside], threshold) if i]
    # Empty cells and text between two curves belong to the first one.
    return [0, *(int(there[i]) for i in sorted(set(starts)) if i)]


def _reversal(x: NDArray[np.float64]) -> float:
    """Return the voltage that a reversal must exceed, from the range and the noise."""
    noise = 1.4826 * float(np.median(np.abs(np.diff(x, 2)))) / math.sqrt(6.0)
    span = float(np.ptp(x))
    # In a few points, jumps back look like noise.
    return max(_HYSTERESIS * span, min(_NOISES * noise, 0.45 * span))


def _typical_step(x: NDArray[np.float64]) -> float:
    steps = np.abs(np.diff(x))
    return float(np.median(steps[steps > 0])) if steps.any() else 0.0


def _jump(x: NDArray[np.float64], threshold: float) -> float:
    """Return a distance of neighbouring points that is too large for a sweep."""
    return max(threshold, 1.5 * _typical_step(x))


def _without_glitches(x: NDArray[np.float64], threshold: float) -> NDArray[np.intp]:
    """Return the indices of the points, without single points that stick out of the sweep."""
    d = np.diff(x)
    far = _jump(x, threshold)
    sticks_out = (np.abs(d[:-1]) > far) & (np.abs(d[1:]) > far) & (d[:-1] * d[1:] < 0)
    # Its neighbours are near each other; those of the start of a sweep after a jump are not.
    sticks_out &= np.abs(x[2:] - x[:-2]) <= 0.5 * np.maximum(np.abs(d[:-1]), np.abs(d[1:]))
    return np.flatnonzero(~np.r_[False, sticks_out, False])


def _one_voltage(x: NDArray[np.float64], threshold: float) -> list[int]:
    """Return where the curves start in a record at one voltage of the other terminal."""
    if len(x) < 2 * _FEWEST:
        return [0]
    d = np.diff(x)
    far = _jump(x, threshold)
    starts: list[int] = []
    bounds = [0, *(int(i) + 1 for i in np.flatnonzero(_jumps_back(x, d, far))), len(x)]
    for a, b in pairwise(bounds):
        starts += [a, *(a + i for i in _loops(x[a:b], threshold, far))]
    kept = [0]
    for start in starts[1:]:
        if start - kept[-1] >= _FEWEST:
            kept.append(start)
    return kept


def _jumps_back(x: NDArray[np.float64], d: NDArray[np.float64], far: float) -> NDArray[np.bool_]:
    """Return which steps lead back, against the sweep before and after them."""
    back = np.zeros(len(d), bool)
    for i in np.flatnonzero(np.abs(d) > far).tolist():
        before = x[i] - x[max(i - 2, 0)]
        after = x[min(i + 3, len(x) - 1)] - x[i + 1]
        # A single point that sticks out leads back as well, but not into a sweep.
        calm = abs(d[min(i + 1, len(d) - 1)]) <= max(far, 0.6 * abs(d[i])) or i == len(d) - 1
        back[i] = i > 0 and calm and before * d[i] < 0 and after * d[i] <= 0
    return back


def _loops(x: NDArray[np.float64], threshold: float, far: float) -> list[int]:
    """Return where the second and later loops start in a record without jumps back."""
    turns = _turns(x, threshold)
    if len(turns) < 2:
        return []
    low, high = float(x.min()), float(x.max())
    down = x[turns[0]] < x[0]
    share = (high - x[0] if down else x[0] - low) / (high - low)
    if share <= _END_SHARE:
        return [_after_turn(x, turn, far) for turn in turns[1::2]]
    # It starts between the ends, as a cyclic voltammogram does: a loop is over when the start is
    # passed in the first direction again.
    starts = []
    for a, b in zip(turns[1::2], [*turns[2::2], len(x) - 1], strict=False):
        leg = x[a : b + 1]
        passed = np.flatnonzero(leg <= x[0] if down else leg >= x[0])
        if len(passed) and abs(x[b] - x[0]) > threshold:
            starts.append(int(a + passed[0]))
    return starts


def _turns(x: NDArray[np.float64], threshold: float) -> list[int]:
    """Return the points at which the sweep turns by more than a threshold."""
    d = np.diff(x)
    moving = np.flatnonzero(d)
    if not len(moving):
        return []
    change = np.flatnonzero(np.diff(np.sign(d[moving])))
    # The point after the last movement before the direction changed: the first of equal ones.
    candidates = [*(int(i) for i in moving[change] + 1), len(x) - 1]
    turns: list[int] = []
    extreme, direction, origin = 0, 0.0, x[0]
    lowest = highest = 0
    for i in candidates:
        if direction == 0.0:
            lowest = i if x[i] < x[lowest] else lowest
            highest = i if x[i] > x[highest] else highest
            if abs(x[i] - origin) > threshold:
                direction, extreme = float(np.sign(x[i] - origin)), i
            elif x[highest] - x[lowest] > threshold:
                direction, extreme = (1.0, highest) if highest > lowest else (-1.0, lowest)
        elif (x[i] - x[extreme]) * direction > 0:
            extreme = i
        elif (x[extreme] - x[i]) * direction > threshold:
            turns.append(extreme)
            direction, extreme = -direction, i
    return turns


def _after_turn(x: NDArray[np.float64], turn: int, far: float) -> int:
    """Return where the next loop starts: an end that was recorded twice belongs to both."""
    if turn > 0 and abs(x[turn] - x[turn - 1]) > far:
        return turn
    near = 0.25 * _typical_step(x)
    first = last = turn
    while first > 0 and abs(x[first - 1] - x[turn]) < near:
        first -= 1
    while last + 1 < len(x) and abs(x[last + 1] - x[turn]) < near:
        last += 1
    return first + (last - first + 1) // 2


def _level_changes(outer: NDArray[np.float64]) -> list[int]:
    """Return where the voltage of the other terminal moves to another level and stays there."""
    finite = np.flatnonzero(np.isfinite(outer))
    if len(finite) < 2 * _FEWEST:
        return []
    level = outer[finite]
    d = np.abs(np.diff(level))
    least = max(_SMALLEST_CHANGE, 6.0 * 1.4826 * float(np.median(d)))
    bounds = [0, *(int(i) + 1 for i in np.flatnonzero(d > least)), len(level)]
    changes: list[int] = []
    before = [float(level[0])]
    for a, b in pairwise(bounds):
        if b - a < _FEWEST:
            continue  # A glitch, or the voltage on its way.
        here = float(np.median(level[a:b]))
        if a and abs(here - before[-1]) > least:
            changes.append(int(finite[a]))
        before.append(here)
    return changes
