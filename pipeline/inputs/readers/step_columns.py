"""Which column of a step's file is which array of its kind, and which curves they make.

A heading like ``Id(Vg=-200mV)`` is the array of one curve: such a file holds several.  A column
that the kind does not know is kept under its heading, and named.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from oectflow.errors import IngestError
from oectflow.measurement import Array, Extra, Kind, get_kind, kinds
from oectflow.pipeline.inputs.readers.headings import read_heading
from oectflow.pipeline.inputs.readers.step_file import Column, StepFile

#: Headings that instruments have written over the years; of several in one file the first counts.
_HEADINGS = {
    "Vg": ("Vg", "gate_voltage", "vg"),
    "Id": ("Id", "drain_current", "id"),
    "time": ("Time", "timestamp", "time"),
    "Ig": ("Ig", "gate_current", "ig"),
    "Vd": ("Vd", "drain_voltage", "vd"),
}
_LAST = 100
_WITH_UNIT = re.compile(r"(.*?)\s*[(\[]\s*([^()\[\]]*?)\s*[)\]]")


@dataclass(frozen=True)
class _Place:
    """Array of a column, ``""`` for none; how far down its headings it is; its curve; its unit."""

    name: str = ""
    rank: int = 0
    value: float | None = None
    scale: float = 1.0


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
        names = {_parse(kind.name, column.heading).name for column in columns}
        if _parse(kind.name, columns[0].heading).name == kind.x and all(
            array.name in names for array in _needed(kind)
        ):
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
        key = _identifier(
            column.heading, next(i for i, one in enumerate(file.columns) if one is column), extra
        )
        extra[key] = Extra(column.values, column.heading, _unit(column.heading))
        what = f"{name}: column {column.heading!r} is no array of {kind.name}"
        warnings.append(f"{what}; kept under /extra/{kind.name}")
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
    others: list[Column] = []
    # Of several headings of one array, the one that the list of headings has first.
    order = sorted(columns, key=lambda column: _parse(kind.name, column.heading).rank)
    for column in order:
        place = _parse(kind.name, column.heading)
        name, value = place.name, place.value
        if not name or column.is_text:
            others.append(column)
            continue
        in_si = replace(column, values=column.values * place.scale) if place.scale != 1 else column
        if value is not None:
            # The same voltage again is another curve.
            n = sum(v == value and name in own for (v, _), own in of_curves.items())
            of_curves.setdefault((value, n), {})[name] = in_si
        elif name in shared:
            others.append(column)
        else:
            shared[name] = in_si
    others.sort(key=lambda column: next(i for i, one in enumerate(columns) if one is column))
    return shared, of_curves, others


@lru_cache(maxsize=1024)
def _parse(kind: str, heading: str) -> _Place:
    """Return what a heading says in a file of a kind."""
    found = _headings_of(kind).get(heading)
    if found is not None:
        return _Place(*found)
    said = read_heading(heading)
    declared = get_kind(kind)
    array = declared.array_names.get(said.quantity or "")
    if array is None or said.assumed or set(said.values) - {declared.curve_by}:
        return _Place()
    # What was set counts where nothing was measured.
    rank = _LAST + said.nominal
    value = said.values.get(declared.curve_by)
    return _Place(array.name, rank, None if value is None else round(value, 12), said.scale)


@cache
def _headings_of(kind: str) -> Mapping[str, tuple[str, int]]:
    """Return heading -> the array's name, and how far down its headings it is."""
    return {
        heading: (array.name, rank)
        for array in reversed(get_kind(kind).arrays)
        if not _is_built(get_kind(kind), array)
        for rank, heading in enumerate(_headings(array))
    }


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
