"""Numbers that no transistor gives: marks of overflow, and units that cannot be right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from oectflow.measurement import Measurement, Step, get_kind

# Instruments write ±9.9E37 and 9.91E+37 for what is beyond their range.
_OVERFLOW = 9e37
_LARGEST = {"A": 1.0, "V": 200.0}


def sensible(measurement: Measurement) -> Measurement:
    """Return a measurement without marks of overflow, with a warning for all that makes no sense.

    Marks of overflow become NaN.  Currents beyond 1 A and voltages beyond 200 V stay as they are.
    """
    counts: dict[str, int] = {}
    steps = []
    warnings = []
    for step in measurement.steps:
        number = counts[step.kind] = counts.get(step.kind, 0) + 1
        file = step.info.get("data_file")
        label = f"{step.kind} {number}" + (f" ({file})" if isinstance(file, str) else "")
        checked, flaws = without_overflow(step)
        flaws += _too_large(checked)
        steps.append(checked)
        warnings += [f"{label}: {flaw}" for flaw in flaws]
    if not warnings:
        return measurement
    return replace(measurement, steps=steps, warnings=(*measurement.warnings, *warnings))


def without_overflow(step: Step) -> tuple[Step, list[str]]:
    """Return a step with NaN for marks of overflow, and what is to be said of them."""
    arrays = dict(step.arrays)
    extra = dict(step.extra)
    flaws = []
    for name, values in step.arrays.items():
        arrays[name], flaw = _without_overflow(name, values)
        flaws += flaw
    for name, one in step.extra.items():
        found, flaw = _without_overflow(name, one.values)
        extra[name] = replace(one, values=found)
        flaws += flaw
    return (replace(step, arrays=arrays, extra=extra) if flaws else step), flaws


def _too_large(step: Step) -> list[str]:
    kind = get_kind(step.kind)
    flaws = []
    for name, values in step.arrays.items():
        unit = kind.array(name).unit
        if unit not in _LARGEST or _is_within(values, _LARGEST[unit]):
            continue
        large = np.abs(values) > _LARGEST[unit]
        if large.any():
            first = int(np.argmax(large))
            flaws.append(
                f"{name} is {values[first]:g} {unit} at point {first}, more than any transistor's "
                f"{_LARGEST[unit]:g} {unit}: is the unit right?"
            )
    return flaws


def _is_within(values: NDArray[np.float64], limit: float) -> bool:
    """Return whether all values are numbers within ±limit: two of them tell."""
    return len(values) > 0 and -limit < values.min() and bool(values.max() < limit)


def _without_overflow(
    name: str, values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], list[str]]:
    if _is_within(values, _OVERFLOW):
        return values, []
    over = np.abs(values) >= _OVERFLOW
    n = int(np.count_nonzero(over))
    if not n:
        return values, []
    first = int(np.argmax(over))
    more = f" (and {n - 1} more such values)" if n > 1 else ""
    flaw = f"{name} is {values[first]:g} at point {first}, beyond the instrument's range, now NaN"
    return np.where(over, np.nan, values), [flaw + more]
