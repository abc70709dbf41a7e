"""Slow, obvious twins of the kernels for sweeps and peaks: lists and exact fractions."""

from __future__ import annotations

import math
from contextlib import contextmanager
from fractions import Fraction
from itertools import pairwise

import numpy as np

from oectflow.extractors import branches as branches_module
from oectflow.extractors.kernels import sweeps

SAME_VOLTAGE = Fraction(0.02)
EVEN = Fraction(1e-3)
STEP = Fraction(0.25)
FLOOR = 1e-12


def typical_spacing(x):
    """Return the smallest spacing such that those up to it make up half of the path."""
    spacings = [abs(b - a) for a, b in pairwise(x)]
    return min(
        (s for s in spacings if 2 * sum(t for t in spacings if t <= s) >= sum(spacings)),
        default=Fraction(0),
    )


def branches(vg, current):
    """Return the finite points of the forward and of the reverse branch, and ``same``."""
    points = [
        (Fraction(float(x)), Fraction(float(y)))
        for x, y in zip(vg, current, strict=True)
        if math.isfinite(x) and math.isfinite(y)
    ]
    if not points:
        return [], [], Fraction(0)
    x = [p[0] for p in points]
    same = SAME_VOLTAGE * typical_spacing(x)
    distance = [abs(v - x[0]) for v in x]
    turn = next(k for k, d in enumerate(distance) if d >= max(distance) - same)
    if all(abs(v - x[turn]) <= same for v in x[turn:]):
        return points, [], same
    return points[: turn + 1], points[turn + (not shared_turn(points, turn, same)) :], same


def shared_turn(points, turn, same):
    """Tell whether the reverse branch begins with the turning point."""
    around = points[turn - 1 : turn + 3] if turn else []
    # A turning voltage that was measured twice is in both branches already.
    if len(around) < 4 or any(abs(b[0] - a[0]) <= same for a, b in pairwise(around)):
        return False
    before, slope, after = ((b[1] - a[1]) / (b[0] - a[0]) for a, b in pairwise(around))
    margin = STEP * max(abs(before), abs(after))
    return min(before, after) - margin <= slope <= max(before, after) + margin


def mean(points):
    """Return the mean voltage and current of some points."""
    return tuple(sum(p[i] for p in points) / len(points) for i in (0, 1))


def merged(points, same):
    """Return neighbouring points joined until their voltages differ by more than ``same``."""
    groups = []
    for point in points:
        groups.append([point])
        while len(groups) > 1 and abs(mean(groups[-1])[0] - mean(groups[-2])[0]) <= same:
            groups[-2:] = [groups[-2] + groups[-1]]
    return [mean(group) for group in groups]


def derivative(y, x, formula):
    """Return dy/dx by the formula named, at every point."""
    slopes = [(y[k + 1] - y[k]) / (x[k + 1] - x[k]) for k in range(len(x) - 1)]
    result = [slopes[0]]
    for k in range(1, len(x) - 1):
        left, right = x[k] - x[k - 1], x[k + 1] - x[k]
        parabola = formula == "second_order"
        if formula == "auto":
            parabola = abs(right - left) > EVEN * abs(right + left)
        if parabola and left * right > 0:
            # The parabola through three points, in Newton's form, differentiated at the middle.
            bend = (slopes[k] - slopes[k - 1]) / (left + right)
            result.append(slopes[k - 1] + bend * left)
        else:
            result.append((slopes[k - 1] + slopes[k]) / 2)
    return [*result, slopes[-1]]


def device_type(points, floor=FLOOR):
    """Return N, P, or None where neither fits: by comparing every on with every off point."""
    size = [(p[0], max(abs(p[1]), Fraction(floor))) for p in points]
    most, least = max(s for _, s in size), min(s for _, s in size)
    if most == least:
        return "N"
    pairs = [(on, off) for on, a in size if a == most for off, b in size if b == least]
    if all(on > off for on, off in pairs):
        return "N"
    return "P" if all(on < off for on, off in pairs) else None


def to_maximise(points, quantity, formula):
    """Return what is largest at the extreme of a branch, at every point."""
    x = [p[0] for p in points]
    y = [p[1] for p in points]
    if quantity == "gm":
        return [abs(d) for d in derivative(y, x, formula)]
    decades = [Fraction(float(np.log10(max(abs(float(v)), FLOOR)))) for v in y]
    sign = 1 if quantity == "onset_n" else -1
    return [sign * d for d in derivative(decades, x, formula)]


def peak(samples, use_abs):
    """Return the first largest finite sample, NaN where there is none."""
    best = math.nan
    for sample in samples:
        if not math.isfinite(sample):
            continue
        larger = abs(sample) > abs(best) if use_abs else sample > best
        if math.isnan(best) or larger:
            best = sample
    return best


def cycle_peaks(samples, samples_per_period, n):
    """Return the signed peak of the first ``n`` complete periods; NaN behind."""
    values = np.full(n, np.nan)
    for i in range(n):
        first, last = (math.floor(j * samples_per_period + 0.5) for j in (i, i + 1))
        # Half a sample may be missing of the last period.
        if (i + 1) * samples_per_period <= len(samples) + 0.5:
            values[i] = peak(samples[first:last], True)
    return values


@contextmanager
def believing():
    """Take every sweep as it is, for what is tested with currents that no device has."""

    def split(
        vg, current, gate, offsets, most, x, y, z, sigma, g, first, count, verdict, doubt, noise,
        classes,
    ):  # fmt: skip
        verdict[:] = classes[:] = doubt[:] = 0
        for i in range(len(offsets) - 1):
            a, b = offsets[i], offsets[i + 1]
            own = slice(a + i, b + i + 1)
            y[own] = 0
            begin, count[i] = sweeps.branches(vg[a:b], current[a:b], x[own], y[own])
            first[i] = np.array(begin) + a + i
            with np.errstate(all="ignore"):
                z[own] = np.log10(np.abs(y[own]))

    judged = branches_module.judge.judge_sweeps
    branches_module.judge.judge_sweeps = split
    branches_module._last.branches = None
    try:
        yield
    finally:
        branches_module.judge.judge_sweeps = judged
        branches_module._last.branches = None
