"""The table of the steps of one kind in a raw file: one row per step."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oectflow.measurement import Kind, Step, Value

#: Where a curve was found: its number among those of a file, and the step and point of the file.
PLACES = ("curve", "file_step", "file_position")
#: Begins the columns of a step table that are numbers of the kind.
VALUE_PREFIX = "value_"

_STEP_KEYS = ("type", "start_time", "end_time", "reason", "data_file")


def step_table(
    kind: Kind, steps: Sequence[Step], spans: Mapping[str, list[int]]
) -> NDArray[np.void]:
    """Return the entries of the steps as a structured array, one row per step.

    Parameters
    ----------
    kind, steps
        The steps, all of one kind.
    spans
        Further columns of integers, which come last.
    """
    rows = [_flat_step(index, step.info) for index, step in enumerate(steps)]
    # Steps may lack entries: the order is that of first sight, group by group.
    groups = ("step_index", *_STEP_KEYS), "param_", "workflow_"
    seen = dict.fromkeys(name for row in rows for name in row)
    names = [name for name in groups[0] if name in seen]
    names += [name for prefix in groups[1:] for name in seen if name.startswith(prefix)]
    columns = {name: _column([row.get(name) for row in rows]) for name in names}
    columns |= _value_columns(kind, steps)
    columns |= {name: np.array(span, np.int64) for name, span in spans.items()}
    table = np.empty(len(rows), [(name, column.dtype) for name, column in columns.items()])
    for name, column in columns.items():
        table[name] = column
    return table


def _value_columns(kind: Kind, steps: Sequence[Step]) -> dict[str, NDArray[np.float64]]:
    """Return the numbers of the steps that their parameters do not give."""
    columns = {}
    for name in dict.fromkeys(name for step in steps for name in step.values):
        numbers = np.array([step.values.get(name, np.nan) for step in steps], np.float64)
        if name in PLACES:
            columns[name] = numbers
            continue
        value = kind.value(name)
        known = np.array([_declared(value, step.info) for step in steps])
        if not np.array_equal(numbers, known, equal_nan=True):
            columns[VALUE_PREFIX + name] = numbers
    return columns


def _flat_step(index: int, info: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {"step_index": index}
    flat |= {key: info[key] for key in _STEP_KEYS if info.get(key) is not None}
    for key, prefix in (("parameters", "param"), ("workflow_info", "workflow")):
        entries = info.get(key)
        if isinstance(entries, Mapping):
            flat |= _flatten(entries, prefix)
    return flat


def _flatten(entries: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in entries.items():
        name = f"{prefix}_{plain_text(key)}"
        if isinstance(value, Mapping):
            flat |= _flatten(value, name)
        elif value is not None:
            flat[name] = value
    return flat


def _column(values: Sequence[Any]) -> NDArray[Any]:
    """Return one column in the type that holds all its values; ``None`` is a missing entry."""
    known = [value for value in values if value is not None]
    complete = len(known) == len(values)
    booleans = sum(isinstance(value, bool) for value in known)
    if not booleans and all(isinstance(value, int | float) for value in known):
        if complete and all(fits_int64(value) for value in known):
            return np.array(values, np.int64)
        return np.array([np.nan if value is None else float(value) for value in values])
    # Width in bytes, not characters: a cut inside a character would make the text unreadable.
    cells = [b"" if value is None else _cell(value).encode() for value in values]
    least = 50 if complete and booleans == len(values) else 10
    return np.array(cells, f"S{max(least, *map(len, cells))}")


def fits_int64(value: float) -> bool:
    """Return whether it is a whole number that HDF5 has a type for."""
    return isinstance(value, int) and -(2**63) <= value < 2**63


def _cell(value: Any) -> str:
    if isinstance(value, list | dict):
        return plain_text(json.dumps(value, ensure_ascii=False))
    return plain_text(str(value))


def _declared(value: Value, info: Mapping[str, Any]) -> float:
    """Return a number as the parameters of a step give it, NaN where they do not."""
    given = find_parameter(info, value.parameters)
    per = find_parameter(info, (value.per,)) if value.per else 1.0
    return np.nan if given is None or not per else given / value.divisor / per


def _positive(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(numbers > 0, numbers, np.nan)


def find_parameter(info: Mapping[str, Any], names: Sequence[str]) -> float | None:
    """Return the first of some parameters that a step's entry gives as a number, else None.

    The step's own parameter comes before one that is nested in another.
    """
    for name in names:
        for value in _values_of(name, info.get("parameters")):
            try:
                number = float(value)
            except (TypeError, ValueError):
                continue
            if math.isfinite(number) and not isinstance(value, bool):
                return number
    return None


def _values_of(key: str, entries: Any) -> Iterator[Any]:
    """Yield the values of ``key``, outermost first."""
    if isinstance(entries, Mapping):
        if key in entries:
            yield entries[key]
        for value in entries.values():
            yield from _values_of(key, value)
    elif isinstance(entries, list):
        for value in entries:
            yield from _values_of(key, value)


def plain_text(value: str) -> str:
    """Return ``value`` without what HDF5 text cannot hold: NUL and halves of surrogate pairs."""
    return value.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def step_values(kind: Kind, table: NDArray[np.void]) -> dict[str, NDArray[np.float64]]:
    """Return the numbers of steps from their rows of the table, NaN where it does not tell.

    Parameters
    ----------
    kind
        Of the steps.
    table
        Rows of ``step_info_table``.

    Returns
    -------
    One array of shape (n_steps,) for each number of the kind, in its unit; and ``curve``,
    ``file_step`` and ``file_position`` where the table has them.
    """
    columns = table.dtype.names or ()
    values = {}
    for value in kind.values:
        own = VALUE_PREFIX + value.name
        found = np.full(len(table), np.nan)
        for parameter in value.parameters:
            given = parameter_column(table, parameter) / value.divisor
            if value.per:
                given = given / _positive(parameter_column(table, value.per))
            found = np.where(np.isnan(found), given, found)
        if own in columns:
            found = np.where(np.isnan(table[own]), found, table[own])
        values[value.name] = found
    return values | {name: table[name].astype(np.float64) for name in PLACES if name in columns}


def parameter_column(table: NDArray[np.void], parameter: str) -> NDArray[np.float64]:
    """Return an instrument's parameter of each step as it stands, NaN where it is no number."""
    result = np.full(len(table), np.nan)
    names = [name for name in table.dtype.names or () if name.startswith("param_")]
    # The step's own parameter comes before one that is nested in another.
    for name in sorted(names, key=len):
        if name.endswith(f"_{parameter}"):
            column = table[name]
            if column.dtype.kind in "fiu":
                numbers = column.astype(np.float64)
            else:
                numbers = np.array([number(value) for value in column.tolist()])
            result = np.where(np.isnan(result), numbers, result)
    return result


def number(value: Any) -> float:
    """Return a parameter as a number, NaN where it is none; numbers may be stored as text."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")
