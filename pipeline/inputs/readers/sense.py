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
        checked, flaws = _checked(step)
        steps.append(checked)
        warnings += [f"{label}: {flaw}" for flaw in flaws]
    if not warnings:
        return measurement
    return replace(measurement, steps=steps, warnings=(*measurement.warnings, *warnings))


def _checked(step: Step) -> tuple[Step, list[str]]:
    kind = get_kind(step.kind)
    arrays = dict(step.arrays)
    extra = dict(step.extra)
    flaws = []
    for name, values in step.arrays.items():
        unit = kind.array(name).unit
        limit = _LARGEST.get(unit, _OVERFLOW)
        # Most are sound: two numbers tell, unless one of them is NaN.
        if len(values) and -limit < values.min() and values.max() < limit:
            continue
        arrays[name], flaw = _without_overflow(name, values)
        flaws += flaw
        if unit in _LARGEST:
            flaws += _too_large(name, unit, arrays[name])
    for name, one in step.extra.items():
        found, flaw = _without_overflow(name, one.values)
        extra[name] = replace(one, values=found)
        flaws += flaw
    return (replace(step, arrays=arrays, extra=extra) if flaws else step), flaws


def _without_overflow(
    name: str, values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], list[str]]:
    over = np.abs(values) >= _OVERFLOW
    n = int(np.count_nonzero(over))
    if not n:
        return values, []
    first = int(np.argmax(over))
    more = f" (and {n - 1} more such values)" if n > 1 else ""
    flaw = f"{name} is {values[first]:g} at point {first}, beyond the instrument's range, now NaN"
    return np.where(over, np.nan, values), [flaw + more]


def _too_large(name: str, unit: str, values: NDArray[np.float64]) -> list[str]:
    large = np.abs(values) > _LARGEST[unit]
    if not large.any():
        return []
    first = int(np.argmax(large))
    return [
        f"{name} is {values[first]:g} {unit} at point {first}, more than any transistor's "
        f"{_LARGEST[unit]:g} {unit}: is the unit right?"
    ]
