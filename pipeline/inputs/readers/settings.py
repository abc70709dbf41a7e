"""What stands beside a table of numbers: set voltages and geometry, as lines ``name = value``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from oectflow.errors import ConfigError
from oectflow.measurement import Step, get_kind
from oectflow.pipeline.inputs.sample_keys import parse, understand

_GEOMETRY = ("W", "L", "d")


def number(cell: str) -> float:
    """Return a cell as a number, with a point or a comma; NaN where it is none."""
    try:
        return float(cell.strip().replace(",", ".", 1))
    except ValueError:
        return math.nan


def geometry(entries: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Return width, length and thickness that entries name, in m, and what is wrong with others."""
    found: dict[str, Any] = {}
    warnings = []
    for name, text in entries.items():
        column = understand(name)
        if column.name in _GEOMETRY:
            try:
                found |= parse(column, text, comma="." not in text)
            except ConfigError as error:
                warnings.append(f"{error}; left out")
    return found, warnings


def identity(entries: Mapping[str, str]) -> dict[str, str]:
    """Return chip and device that entries name, as attributes of an experiment."""
    attributes = {"chip_id": "chip_id", "device_id": "device_number"}
    found: dict[str, str] = {}
    for name, text in entries.items():
        key = attributes.get(understand(name).name)
        if key is not None and text:
            found.setdefault(key, text)
    return found


def fill_in(step: Step, known: Mapping[str, float]) -> Step:
    """Return a step with numbers of its kind that no column has."""
    names = {value.name for value in get_kind(step.kind).values}
    more = {
        name: value
        for name, value in known.items()
        if name in names
        and name not in step.arrays
        and math.isfinite(value)
        and math.isnan(step.values.get(name, math.nan))
    }
    return replace(step, values={**step.values, **more}) if more else step
