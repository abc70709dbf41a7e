"""Transfer sweeps of made devices whose features are known, whole and with one fault each.

The current is computed from closed formulas, and not by any code of the package.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray
#: A step of fewer standard deviations of the noise around it may not be found.
HIDDEN = 25.0
#: Features that are compared with the truth, and their parameters.
FEATURES: dict[str, dict[str, Any]] = {
    "gm_max": {"direction": "both"},
    "Von": {"direction": "both"},
    "Vth": {"direction": "both"},
    "on_off_ratio": {"direction": "both"},
    "subthreshold_swing": {"direction": "both"},
    "absI_max": {},
    "hysteresis": {},
}


@dataclass
class Sweep:
    """A sweep and the truth about it.

    ``step`` is what was measured, ``right`` the same without noise and without fault, ``kind`` what
    device and noise it has, ``sigma`` the standard deviation of the noise at each point (A),
    ``swing`` the range of the current (A).  ``hidden``: whether the fault is less than what can be
    told from the noise and the curvature of the curve where it is.
    """

    step: dict[str, Any]
    right: dict[str, Any]
    kind: str
    sigma: Array
    swing: float
    hidden: bool = False

    def hide(self, k: int, size: float) -> None:
        """Say whether a step of the current before point ``k`` is hidden."""
        around = slice(max(k - 4, 0), k + 4)
        bends = np.abs(np.diff(self.right["Id"][around], 2)).max()
        self.hidden = abs(size) < max(HIDDEN * self.sigma[around].max(), 5 * bends)


def characteristic(rng: np.random.Generator, span: float) -> Callable[[Array], Array]:
    """Return the current of a device as a function of the voltage that turns it on, from 0 to 1."""
    width = rng.uniform(0.06, 0.15) / np.log(10)
    onset = rng.uniform(0.15, 0.6) * span
    shape, mobility = rng.integers(3), rng.uniform(0, 2)

    def curve(v: Array) -> Array:
        above = width * np.logaddexp(0, (v - onset) / width)
        if shape == 0:
            return 1 / (1 + np.exp(-(v - onset) / (2 * width)))
        return above / (1 + mobility * above) if shape == 1 else above**2

    return curve


def voltages(rng: np.random.Generator, n: int, span: float) -> Array:
    """Return the way there, from 0 to ``span``: even, set by hand, or as recorded."""
    there = np.linspace(0, span, n)
    kind = rng.integers(4)
    if kind == 0:
        # Finer in one half, as somebody sets it who looks at the onset.
        there = np.where(there < 0.5 * span, there * 1.5, 0.75 * span + (there - 0.5 * span) * 0.5)
    elif kind == 1:
        there = there + rng.normal(0, 0.02 * span / (n - 1), n)
    return there


def make(rng: np.random.Generator, n_points: int | None = None) -> Sweep:
    """Return a sweep without a fault: any type, mode, direction, length and noise."""
    n = n_points or int(np.exp(rng.uniform(np.log(21), np.log(1000))))
    both_ways = n >= 30 and rng.random() < 0.6
    span = rng.uniform(0.6, 1.4)
    curve = characteristic(rng, span)
    way = voltages(rng, n // 2 + 1 if both_ways else n, span)
    # From on to off, as a device of depletion mode is measured, or from off to on.
    depletion = rng.random() < 0.4
    if depletion:
        way = span - way
    drive, shift = way, np.zeros(way.size)
    if both_ways:
        drive = np.concatenate([way, way[-2::-1]])
        shift = np.where(np.arange(drive.size) < way.size, 0.0, rng.choice([0, 1]) * 0.03)
    off = 10 ** rng.uniform(-7, -2)
    right = curve(drive - shift) / curve(np.array([span]))[0] + off
    share = 10 ** rng.uniform(-4, np.log10(0.3))
    noise = rng.standard_normal(drive.size)
    kind = int(rng.integers(4))
    if kind == 0:
        sigma = np.full(drive.size, share * np.ptp(right))
        measured = right + sigma * noise
    elif kind == 1:
        sigma = share * right
        measured = right + sigma * noise
    elif kind == 2:
        sigma = min(share, 0.05) * right + 0.2 * off
        measured = right * np.exp(sigma / right * noise)
    else:
        sigma = np.hypot(share * right, 0.3 * off)
        measured = right * (1 + share * noise) + 0.3 * off * rng.standard_normal(drive.size)
    p_type = rng.random() < 0.5
    sign = -1 if p_type else 1
    # A depletion device is on at 0 V.
    vg = sign * (drive - (span if depletion else 0.0))
    scale = sign * 10 ** rng.uniform(-7, -2)
    measured = scale * measured
    kind_of_numbers = rng.random()
    if kind_of_numbers < 0.25:
        # A converter of 10 to 18 bits.
        step = np.abs(measured).max() * 2.0 ** -float(rng.integers(10, 19))
        measured = np.rint(measured / step) * step
        sigma = np.hypot(sigma, step / np.sqrt(12) / abs(scale))
    elif kind_of_numbers < 0.5:
        digits = rng.integers(4, 8)
        measured = np.array([float(f"{number:.{digits}g}") for number in measured])
    about = f"{'p' if p_type else 'n'} {'depletion' if depletion else 'accumulation'} noise {kind}"
    return Sweep(
        {"Vg": vg, "Id": measured},
        {"Vg": vg, "Id": scale * right},
        about,
        abs(scale) * sigma,
        float(np.ptp(scale * right)),
    )


def _anywhere(sweep: Sweep, rng: np.random.Generator) -> int:
    return int(rng.integers(0, sweep.step["Id"].size))


def _not_at_turn(sweep: Sweep, k: int) -> int:
    """Return ``k`` or a point beside: at the turning point a step is what hysteresis is."""
    turn = int(np.argmax(np.abs(sweep.step["Vg"] - sweep.step["Vg"][0])))
    if abs(k - turn) > 1:
        return k
    return turn - 2 if turn + 3 > sweep.step["Id"].size - 3 else turn + 2


def clean(sweep: Sweep, rng: np.random.Generator) -> None:
    """Leave it as it is."""


def outlier(sweep: Sweep, rng: np.random.Generator) -> None:
    """One point is off, by a hundredth to ten times the swing."""
    sweep.step["Id"][_anywhere(sweep, rng)] += (
        rng.choice([-1, 1]) * sweep.swing * 10 ** rng.uniform(-2, 1)
    )


def outliers(sweep: Sweep, rng: np.random.Generator) -> None:
    """Two or three points are off, neighbours perhaps."""
    first = _anywhere(sweep, rng)
    for k in range(int(rng.integers(2, 4))):
        at = min(first + k, sweep.step["Id"].size - 1)
        if rng.random() < 0.5:
            at = _anywhere(sweep, rng)
        sweep.step["Id"][at] += rng.choice([-1, 1]) * sweep.swing * 10 ** rng.uniform(-1, 1)


def overflow(sweep: Sweep, rng: np.random.Generator) -> None:
    """One to three readings are marks of an instrument."""
    k = rng.integers(0, sweep.step["Id"].size, rng.integers(1, 4))
    sweep.step["Id"][k] = rng.choice([9.91e37, -9.9e37, np.inf, np.nan])


def clipped(sweep: Sweep, rng: np.random.Generator) -> None:
    """A compliance cuts the current off."""
    current = sweep.step["Id"]
    limit = np.abs(sweep.right["Id"]).max() * rng.uniform(0.3, 0.97)
    current[:] = np.clip(current, -limit, limit)


def jump(sweep: Sweep, rng: np.random.Generator) -> None:
    """From one point on there is more current, or less."""
    k = _not_at_turn(sweep, int(rng.integers(3, sweep.step["Id"].size - 2)))
    size = rng.choice([-1, 1]) * sweep.swing * 10 ** rng.uniform(-2, 0.7)
    sweep.step["Id"][k:] += size
    sweep.hide(k, size)


def gain(sweep: Sweep, rng: np.random.Generator) -> None:
    """From a point on that is seen the current is a multiple, as of another range or contact."""
    seen = np.flatnonzero(np.abs(sweep.right["Id"]) > 0.05 * sweep.swing)
    k = _not_at_turn(sweep, int(np.clip(rng.choice(seen), 3, sweep.step["Id"].size - 3)))
    factor = np.exp(rng.choice([-1, 1]) * 10 ** rng.uniform(-1, 1))
    sweep.step["Id"][k:] *= factor
    sweep.sigma[k:] *= factor
    sweep.hide(k, sweep.right["Id"][k] * (factor - 1))


def no_response(sweep: Sweep, rng: np.random.Generator) -> None:
    """There is nothing but noise, about 0 or about a leak."""
    noise = rng.standard_normal(sweep.step["Id"].size)
    sweep.step["Id"][:] = 10 ** rng.uniform(-13, -9) * (noise + rng.choice([0, 20, 1000]))
    sweep.right["Id"][:] = np.nan


def other_unit(sweep: Sweep, rng: np.random.Generator) -> None:
    """Currents in mA, µA or nA are taken for A, and are more than 0.1 A then."""
    least = 0.2 / np.abs(sweep.step["Id"]).max()
    sweep.step["Id"] *= max(10.0 ** rng.choice([3, 6, 9]), least)


def several_loops(sweep: Sweep, rng: np.random.Generator) -> None:
    """Two sweeps stand one after the other."""
    del rng
    for name, array in sweep.step.items():
        sweep.step[name] = np.concatenate([array, array])


FAULTS: dict[str, Callable[[Sweep, np.random.Generator], None]] = {
    fault.__name__: fault
    for fault in (
        clean,
        outlier,
        outliers,
        overflow,
        clipped,
        jump,
        gain,
        no_response,
        other_unit,
        several_loops,
    )
}


def faulty(fault: str, seed: int) -> Sweep:
    """Return the sweep of a seed with a fault."""
    rng = np.random.default_rng([list(FAULTS).index(fault), seed])
    sweep = make(rng)
    FAULTS[fault](sweep, rng)
    return sweep


def wrong(value: Array, error: Array, want: Array) -> Array:
    """Tell where a value is neither within five standard errors nor within 3 % of the truth."""
    allowed = np.maximum(5 * np.nan_to_num(error), 0.03 * np.abs(want))
    return ~(np.abs(value - want) <= allowed)
