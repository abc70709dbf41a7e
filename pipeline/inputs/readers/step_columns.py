"""Which column of a step's file is which array of its kind, and which curves they make.

A heading like ``Id(Vg=-200mV)`` is the array of one curve: such a file holds several.  A column
that the kind does not know is kept under its heading, and named.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from oectflow.errors import IngestError
from oectflow.measurement import Array, Extra, Kind, kinds
from oectflow.pipeline.inputs.readers.step_file import Column, StepFile

#: Headings that instruments have written over the years; of several in one file the first counts.
_HEADINGS = {
    "Vg": ("Vg", "gate_voltage", "vg"),
    "Id": ("Id", "drain_current", "id"),
    "time": ("Time", "timestamp", "time"),
    "Ig": ("Ig", "gate_current", "ig"),
    "Vd": ("Vd", "drain_voltage", "vd"),
}
_OF_CURVE = re.compile(r"\s*(\w+)\s*[(\[]\s*(\w+)\s*=\s*([^()\[\]]*?)\s*(mV|V)?\s*[)\]]\s*")
_WITH_UNIT = re.compile(r"(.*?)\s*[(\[]\s*([^()\[\]]*?)\s*[)\]]")


@dataclass
class Curve:
    """One curve of a file.

    Attributes
    ----------
    arrays, extra
        As of a step.
    value
        The number that tells it from the others, in V; None where the file holds one.
    """

    arrays: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    extra: dict[str, Extra] = field(default_factory=dict)
    value: float | None = None


def kind_of_columns(columns: Sequence[Column]) -> Kind | None:
    """Return the one kind that has the first column as its x and all arrays it needs, else None."""
    found = []
    for kind in kinds().values():
        names = {_parse(kind, column.heading)[0] for column in columns}
        x = _parse(kind, columns[0].heading)[0]
        if x == kind.x and all(array.name in names for array in _needed(kind)):
            found.append(kind)
    return found[0] if len(found) == 1 else None


def curves_of(name: str, kind: Kind, file: StepFile) -> tuple[list[Curve], list[str]]:
    """Return the curves of a file, and a warning for all that is not as it should be.

    Parameters
    ----------
    name
        The file's, for messages.
    kind
        What it holds.
    file
        Its columns.

    Raises
    ------
    IngestError
        An array that every step needs is missing.
    """
    shared, of_curves, others = _sorted(kind, file.columns)
    have = {*shared, *(array for arrays in of_curves.values() for array in arrays)}
    for array in _needed(kind):
        if array.name not in have:
            seen = [column.heading for column in file.columns]
            raise IngestError(
                f"{name} has columns {seen}, expected {' or '.join(_headings(array))}"
            )
    warnings = []
    extra: dict[str, Extra] = {}
    for column in others:
        if column.is_text or column.is_void:
            warnings.append(f"{name}: column {column.heading!r} holds no numbers and is left out")
            continue
        key = _identifier(column.heading, file.columns.index(column), extra)
        extra[key] = Extra(column.values, column.heading, _unit(column.heading))
        what = f"{name}: column {column.heading!r} is none that a {kind.name} has"
        warnings.append(f"{what}; kept as /extra/{kind.name}/{key}")
    warnings += _flaws(
        name, [*shared.values(), *(c for c in others if not (c.is_text or c.is_void))]
    )
    arrays = {key: column.values for key, column in shared.items()}
    if not of_curves:
        return [Curve(arrays, extra)], warnings
    curves = []
    for (value, _), own in of_curves.items():
        missing = [a.name for a in _needed(kind) if a.name not in own and a.name not in shared]
        length = max(_length(column.values) for column in own.values())
        label = f"{kind.curve_by} = {value:g} V"
        if missing or not length:
            why = f"has no {missing[0]}" if missing else "has no points"
            warnings.append(f"{name}: the curve at {label} {why} and is left out")
            continue
        warnings += _flaws(name, own.values(), length)
        arrays_of_one = arrays | {key: column.values for key, column in own.items()}
        curves.append(
            Curve(
                {key: values[:length] for key, values in arrays_of_one.items()},
                {
                    key: Extra(one.values[:length], one.heading, one.unit)
                    for key, one in extra.items()
                },
                value,
            )
        )
    if not curves:
        raise IngestError(f"{name}: no curve has points")
    warnings += _beyond(name, curves, arrays, extra)
    return curves, warnings


def _sorted(
    kind: Kind, columns: Sequence[Column]
) -> tuple[dict[str, Column], dict[tuple[float, int], dict[str, Column]], list[Column]]:
    """Return columns by array, columns of curves by value and array, and all others."""
    shared: dict[str, Column] = {}
    of_curves: dict[tuple[float, int], dict[str, Column]] = {}
    places: dict[str, int] = {}
    others: list[Column] = []
    # Of several headings of one array, the one that the list of headings has first.
    order = sorted(range(len(columns)), key=lambda i: _parse(kind, columns[i].heading)[2])
    for i in order:
        column = columns[i]
        name, value, _ = _parse(kind, column.heading)
        if name is None or column.is_text:
            others.append(column)
        elif value is not None:
            # The same voltage again is another curve.
            n = sum(v == value and name in own for (v, _), own in of_curves.items())
            of_curves.setdefault((value, n), {})[name] = column
        elif name in shared:
            others.append(column)
        else:
            shared[name] = column
            places[name] = i
    by_place = {id(column): i for i, column in enumerate(columns)}
    others.sort(key=lambda column: by_place[id(column)])
    return shared, of_curves, others


def _parse(kind: Kind, heading: str) -> tuple[str | None, float | None, int]:
    """Return the array's name, the value of its curve (V), and how far down its headings it is."""
    match = _OF_CURVE.fullmatch(heading)
    if match and match[2] == kind.curve_by:
        name, _, rank = _parse(kind, match[1])
        try:
            number = float(match[3])
        except ValueError:
            return None, None, 0
        # The instrument writes mV.
        return name, number if match[4] == "V" else number / 1000, rank
    for array in kind.arrays:
        headings = _headings(array)
        if heading in headings and not _is_built(kind, array):
            return array.name, None, headings.index(heading)
    return None, None, 0


def _headings(array: Array) -> tuple[str, ...]:
    for name in (array.name, *array.aliases):
        if name in _HEADINGS:
            return _HEADINGS[name]
    return (array.name, *array.aliases)


def _needed(kind: Kind) -> list[Array]:
    return [array for array in kind.rows if not _is_built(kind, array)]


def _is_built(kind: Kind, array: Array) -> bool:
    # The raw file's own clock, which runs through all steps.
    return kind.gated and array.name == "continuous_time"


def _length(values: NDArray[np.float64]) -> int:
    """Return the number of values up to the last that is one."""
    there = np.flatnonzero(~np.isnan(values))
    return int(there[-1]) + 1 if len(there) else 0


def _flaws(name: str, columns: Iterable[Column], length: int | None = None) -> list[str]:
    """Return one warning about all cells that are no numbers; empty ones at the end of a curve are.

    Such a curve was stopped there.
    """
    number = 0
    first: tuple[int, str, str] | None = None
    for column in columns:
        ends = 0 if length is None else len(column.values) - length
        n_empty = max(0, column.empty.number - ends)
        number += n_empty + column.wrong.number
        for cells, n in ((column.empty, n_empty), (column.wrong, column.wrong.number)):
            if n and (first is None or cells.first[0] < first[0]):
                first = (cells.first[0], column.heading, cells.first[1])
    if first is None:
        return []
    line, heading, cell = first
    more = f" (and {number - 1} more such cells)" if number > 1 else ""
    return [f"{name}, line {line}: {heading} is {cell!r}, not a number, taken as NaN{more}"]


def _beyond(
    name: str,
    curves: Sequence[Curve],
    shared: Mapping[str, NDArray[np.float64]],
    extra: Mapping[str, Extra],
) -> list[str]:
    """Name cells of shared columns that are below the end of every curve."""
    longest = max(len(next(iter(curve.arrays.values()))) for curve in curves)
    rest = [values[longest:] for values in (*shared.values(), *(e.values for e in extra.values()))]
    n = max((int(np.count_nonzero(~np.isnan(values))) for values in rest), default=0)
    return [f"{name}: {n} rows without a current are left out"] if n else []


def _identifier(heading: str, position: int, taken: Mapping[str, Extra]) -> str:
    name = re.sub(r"\W+", "_", _WITH_UNIT.sub(r"\1", heading)).strip("_")
    if not name.isidentifier():
        name = f"column_{position + 1}_{name}".rstrip("_")
    unique, number = name, 2
    while unique in taken:
        unique, number = f"{name}_{number}", number + 1
    return unique


def _unit(heading: str) -> str:
    match = _WITH_UNIT.fullmatch(heading)
    return match[2] if match else ""
