"""From a table of numbers under headings to steps, the same for every format that holds tables."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oectflow.errors import IngestError
from oectflow.measurement import Extra, Step, get_kind
from oectflow.pipeline.inputs.readers.curves import split_curves
from oectflow.pipeline.inputs.readers.groups import ABSCISSAS, Group, column_groups
from oectflow.pipeline.inputs.readers.headings import Heading, read_heading, si_scale, si_unit
from oectflow.pipeline.inputs.readers.marks import (
    doubtful_interval,
    interval,
    without_overflow,
)
from oectflow.pipeline.inputs.readers.sweeps import changes, kind_of_arrays


@dataclass(frozen=True)
class Table:
    """Numbers under headings, as a file has them.

    Attributes
    ----------
    headings
        One per column, as it stands in the file, or read already (of a schema, a channel table).
    columns
        One per heading, float64, NaN where a cell is empty or no number.  All equally long.
    units
        The row of units, empty where there is none.
    metadata
        What stands before the headings or beside the table: name -> text.
    first_line
        Line (row of a sheet) of the first row of numbers, from 1.
    source
        Name for messages: the file, the sheet.
    flaws
        What was wrong with cells, found in reading.
    lines
        The line of each row, where they do not follow each other.
    repeats
        Rows before which the headings stand again: another measurement begins.
    notes
        Row -> what lines of text before it say, as metadata.  Where that is a voltage, another
        measurement begins as well.
    """

    headings: Sequence[str | Heading]
    columns: Sequence[NDArray[np.float64]]
    units: Sequence[str] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    first_line: int = 1
    source: str = "table"
    flaws: tuple[str, ...] = ()
    lines: NDArray[np.int64] | None = None
    repeats: tuple[int, ...] = ()
    notes: Mapping[int, Mapping[str, str]] = field(default_factory=dict)

    def line(self, row: int) -> int:
        """Return the line of a row, from 1."""
        return self.first_line + row if self.lines is None else int(self.lines[row])

    def parts(self) -> list[Table]:
        """Return the measurements one below the other, each with its own headings."""
        n = len(self.columns[0]) if self.columns else 0
        said = {row for row, note in self.notes.items() if values_of_metadata(note)}
        bounds = sorted({0, *self.repeats, *said, n})
        if len(bounds) <= 2:
            return [self]
        return [
            replace(
                self,
                columns=[column[a:b] for column in self.columns],
                metadata={**self.metadata, **self.notes.get(a, {})},
                first_line=self.line(a),
                lines=None if self.lines is None else self.lines[a:b],
                repeats=(),
                notes={row - a: note for row, note in self.notes.items() if a < row < b},
                flaws=(),
            )
            for a, b in pairwise(bounds)
        ]

    def read_headings(self) -> list[Heading]:
        """Return what each heading says."""
        units = self.units or [""] * len(self.headings)
        return [
            heading if isinstance(heading, Heading) else read_heading(heading, unit)
            for heading, unit in zip(self.headings, units, strict=True)
        ]


def steps_from_table(
    table: Table,
    *,
    kind: str | None = None,
    info: Mapping[str, Any] | None = None,
    values: Mapping[str, float] | None = None,
) -> tuple[list[Step], list[str]]:
    """Return the curves of a table, and everything that was assumed or not used.

    Parameters
    ----------
    table
        One measurement, or several side by side or one below the other.
    kind
        Name of the kind, where it is known; else the columns tell.
    info
        What the instrument says, for all of its steps; ``parameters.timeStep`` (ms) is compared
        with recorded times.
    values
        Numbers of the steps in SI units, where neither columns nor headings give them.

    Raises
    ------
    IngestError
        There is no measurement of any kind in it, or not of the one asked for; the message names
        the columns and what they were taken for.
    """
    warnings = list(table.flaws)
    parts = table.parts()
    lines = [text for part in parts for note in part.notes.values() for text in note.values()]
    if lines:
        more = f" (and {len(lines) - 1} more such lines)" if len(lines) > 1 else ""
        warnings.append(f"text between the numbers, {lines[0][:60]!r}, is not used{more}")
    steps: list[Step] = []
    for part in parts:
        given = values_of_metadata(part.metadata) | dict(values or {})
        found, flaws = _steps_of_part(part, kind, info or {}, given)
        steps += found
        warnings += flaws
    if len(steps) > 1 and not all("curve" in step.values for step in steps):
        steps = [_numbered(step, number) for number, step in enumerate(steps, 1)]
    return steps, list(dict.fromkeys(warnings))


def _steps_of_part(
    table: Table, kind: str | None, info: Mapping[str, Any], given: Mapping[str, float]
) -> tuple[list[Step], list[str]]:
    headings = table.read_headings()
    warnings: list[str] = []
    steps: list[Step] = []
    reasons: list[str] = []
    used: set[int] = set()
    seen: list[Group] = []
    for group in column_groups(headings):
        if not _length(table, group):
            continue
        if any(_is_mirrored(table, headings, group, other) for other in seen):
            dependent = [i for name, i in group.columns.items() if name not in ABSCISSAS]
            names = ", ".join(repr(headings[i].text) for i in dependent)
            warnings.append(f"column {names} repeats one before it with the other sign; left out")
            used |= {*group.columns.values(), *group.others}
            continue
        seen.append(group)
        try:
            found, flaws = _steps_of_group(table, headings, group, kind, info, given)
        except IngestError as error:
            reasons.append(str(error))
            continue
        steps += found
        warnings += flaws
        used |= {*group.columns.values(), *group.others}
    if not steps:
        raise IngestError(f"{table.source}: {_why_not(headings, reasons)}")
    warnings += [f"{reason}; left out" for reason in dict.fromkeys(reasons)]
    for i, heading in enumerate(headings):
        if i not in used and np.isfinite(table.columns[i]).any():
            label = heading.text or f"column {i + 1}"
            warnings.append(f"column {label!r} belongs to no measurement; left out")
    return steps, warnings


def _is_mirrored(table: Table, headings: Sequence[Heading], group: Group, other: Group) -> bool:
    """Return whether a group has the numbers of another one with the sign of its heading.

    Instruments write ``-Id(A)`` beside ``Id(A)`` for plots on a logarithmic axis.
    """
    dependent = [name for name in group.columns if name not in ABSCISSAS]
    pairs = [(group.columns[name], other.columns.get(name, -1)) for name in dependent]
    shared = all(other.columns.get(n) == i for n, i in group.columns.items() if n in ABSCISSAS)
    return (
        shared
        and bool(pairs)
        and all(
            b >= 0
            and headings[a].scale == -headings[b].scale
            and np.array_equal(table.columns[a], -table.columns[b], equal_nan=True)
            for a, b in pairs
        )
    )


def _numbered(step: Step, number: int) -> Step:
    values = {"file_position": 0.0, **step.values, "curve": float(number)}
    return Step(step.kind, step.arrays, values, step.info, step.extra)


def values_of_metadata(metadata: Mapping[str, str]) -> dict[str, float]:
    """Return the voltages that lines beside the table give, ``Vd (V), -0.6``, in V."""
    values = {}
    for key, text in metadata.items():
        heading = read_heading(key)
        match = re.fullmatch(r"\s*([+-]?\d*[.,]?\d+(?:[eE][+-]?\d+)?)\s*([a-zA-Zµμ]*)\s*", text)
        if match is None or heading.quantity is None or si_unit(heading.quantity) != "V":
            continue
        scale = si_scale(match[2], "V") if match[2] else abs(heading.scale)
        if scale is not None:
            values[heading.quantity] = float(match[1].replace(",", ".")) * scale
    return values


def _length(table: Table, group: Group) -> int:
    """Return how many rows a group has: columns side by side end with empty cells."""
    dependents = [i for name, i in group.columns.items() if name not in ABSCISSAS]
    there = [np.flatnonzero(~np.isnan(table.columns[i])) for i in dependents]
    return max((int(rows[-1]) + 1 for rows in there if len(rows)), default=0)


def _steps_of_group(
    table: Table,
    headings: Sequence[Heading],
    group: Group,
    kind: str | None,
    info: Mapping[str, Any],
    given: Mapping[str, float],
) -> tuple[list[Step], list[str]]:
    n = _length(table, group)
    warnings: list[str] = []
    arrays: dict[str, NDArray[np.float64]] = {}
    values = dict(group.values)
    for name, i in group.columns.items():
        heading = headings[i]
        column, flaw = without_overflow(table.columns[i][:n], heading.text, table.line)
        warnings += [flaw] if flaw else []
        arrays[name] = column if heading.scale == 1.0 else column * heading.scale
        values |= heading.values
        if heading.note:
            warnings.append(f"column {heading.text!r}: {heading.note}")
        if heading.assumed:
            warnings.append(f"column {heading.text!r} is taken as the drain current")
        if heading.nominal:
            warnings.append(f"column {heading.text!r} is what was set, not what was measured")
        missing = int(np.count_nonzero(np.isnan(column)))
        if missing and not flaw and not any(heading.text in known for known in table.flaws):
            line = table.line(int(np.argmax(np.isnan(column))))
            warnings.append(
                f"column {heading.text!r}: {missing} of {n} cells are empty or no number, the first"
                f" in line {line}"
            )
    _from_polar(arrays)
    name = kind or kind_of_arrays(arrays, values)
    declared = get_kind(name)
    lacking = [
        row.name
        for row in declared.rows
        if not {row.name, *row.aliases, *(["time"] if row.name == "continuous_time" else [])}
        & arrays.keys()
    ]
    if lacking:
        seen = ", ".join(headings[i].text for i in group.columns.values())
        raise IngestError(f"a {name} needs {', '.join(lacking)}; the columns are {seen}")
    extra, flaws = _extras(table, headings, group, n)
    warnings += flaws
    for quantity in [quantity for quantity in arrays if quantity not in declared.array_names]:
        if quantity in group.columns:
            heading = headings[group.columns[quantity]]
            extra[_identifier(quantity, extra)] = Extra(
                arrays[quantity], heading.text, si_unit(quantity)
            )
            warnings.append(f"column {heading.text!r} is no array of a {name}; kept as extra")
        del arrays[quantity]
    values = {**given, **_numbers(name, arrays), **values}
    values = {key: value for key, value in values.items() if key in _value_names(name)}
    if name == "transient" and "time" in arrays:
        warnings += _check_clock(arrays["time"], info)
    steps = []
    for start, stop, own in split_curves(name, arrays, values):
        part = {key: array[start:stop] for key, array in arrays.items()}
        beside = {
            key: Extra(one.values[start:stop], one.heading, one.unit) for key, one in extra.items()
        }
        steps.append(Step(name, part, own, info, beside))
    return steps, warnings


def _from_polar(arrays: dict[str, NDArray[np.float64]]) -> None:
    """Put real and imaginary part in the place of magnitude and phase, where they are missing."""
    if {"Z_abs", "phase"} <= arrays.keys() and not {"Z_real", "Z_imag"} & arrays.keys():
        size, phase = arrays.pop("Z_abs"), arrays.pop("phase")
        arrays["Z_real"], arrays["Z_imag"] = size * np.cos(phase), size * np.sin(phase)


def _value_names(kind: str) -> set[str]:
    return {value.name for value in get_kind(kind).values}


def _numbers(kind: str, arrays: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
    """Return the numbers of a record that its columns give."""
    numbers: dict[str, float] = {}
    for name in ("Vg", "Vd", "Vdc"):
        if name in _value_names(kind) and name in arrays and not changes(arrays[name]):
            numbers[name] = float(np.nanmedian(arrays[name]))
    if kind == "transient":
        between = interval(arrays["time"]) if "time" in arrays else math.nan
        if between > 0:
            numbers["sampling_interval"] = between
    if kind == "transfer" and "time" in arrays:
        times, sweep = np.diff(arrays["time"]), np.abs(np.diff(arrays["Vg"]))
        moving = (times > 0) & (sweep > 0)
        if moving.any():
            numbers["sweep_rate"] = float(np.median(sweep[moving] / times[moving]))
    return numbers


def _check_clock(time: NDArray[np.float64], info: Mapping[str, Any]) -> list[str]:
    warnings = []
    backwards = np.flatnonzero(np.diff(time[np.isfinite(time)]) < 0)
    if len(backwards):
        warnings.append(f"time goes back {len(backwards)} times, first after sample {backwards[0]}")
    parameters = info.get("parameters")
    declared = parameters.get("timeStep") if isinstance(parameters, Mapping) else None
    if isinstance(declared, (int, float)) and not isinstance(declared, bool):
        flaw = doubtful_interval(time, declared / 1000.0)
        warnings += [flaw] if flaw else []
    return warnings


def _extras(
    table: Table, headings: Sequence[Heading], group: Group, n: int
) -> tuple[dict[str, Extra], list[str]]:
    extra: dict[str, Extra] = {}
    warnings = []
    for i in group.others:
        column = table.columns[i][:n]
        heading = headings[i]
        if not np.isfinite(column).any():
            if heading.text and not any(repr(heading.text) in flaw for flaw in table.flaws):
                warnings.append(f"column {heading.text!r} holds no numbers; left out")
            continue
        why = f" ({heading.note})" if heading.note else ""
        if heading.nominal:
            why = " (what was set; the measured value is used)"
        label = heading.text or f"column {i + 1}"
        extra[_identifier(label, extra)] = Extra(column, heading.text, heading.unit)
        warnings.append(f"column {label!r} is not used{why}; kept as extra")
    return extra, warnings


def _identifier(text: str, taken: Iterable[str]) -> str:
    plain = re.sub(r"\W+", "_", text).strip("_") or "column"
    plain = f"_{plain}" if plain[0].isdigit() else plain
    names = set(taken)
    number = 2
    name = plain
    while name in names:
        name, number = f"{plain}_{number}", number + 1
    return name


def _why_not(headings: Sequence[Heading], reasons: Sequence[str]) -> str:
    seen = []
    for heading in headings[:12]:
        taken = heading.quantity or (heading.note or "unknown")
        taken = f"{taken}, uncertain" if heading.assumed else taken
        seen.append(f"{heading.text!r} ({taken})")
    more = f" and {len(headings) - 12} more" if len(headings) > 12 else ""
    why = "; ".join(dict.fromkeys(reasons)) or "no column holds a measurement"
    return (
        f"{why}. Columns: {', '.join(seen)}{more}. A schema can say what they are:"
        " columns: {NAME: {quantity: Id, unit: mA}}"
    )
