"""Tables of numbers in a grid of cells, wherever their headings stand."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta

import numpy as np
from numpy.typing import NDArray

from oectflow.pipeline.inputs.readers.headings import read_heading, si_scale
from oectflow.pipeline.inputs.readers.marks import is_overflow_word
from oectflow.pipeline.inputs.readers.settings import number
from oectflow.pipeline.inputs.readers.tables import Table

_ENTRY = re.compile(r"([^=:]{1,60}?)\s*[=:]\s*(\S.*)")
_UNITS = ("V", "A", "s", "Hz", "Ω")
_NUMBERS = (float, int)
_MIDNIGHT = datetime(1970, 1, 1)

Row = Sequence[object]


@dataclass
class _Block:
    """A heading with rows of numbers below it, and what stands before it."""

    heading: Row
    units: Row
    above: list[Row]
    rows: list[Row] = field(default_factory=list)
    places: list[int] = field(default_factory=list)

    def add(self, row: Row, place: int) -> None:
        self.rows.append(row)
        self.places.append(place)


def tables_in(rows: Sequence[Row], first_row: int, source: str) -> tuple[list[Table], list[str]]:
    """Return the tables of a grid in their order, and a note for what is none.

    A table is a row of headings, below it a row of units or none, and rows of numbers.  What stands
    before the headings or behind the numbers is its metadata.

    Parameters
    ----------
    rows
        Cells: numbers, texts, times, ``""`` where empty.
    first_row
        Number of the first row, for messages.
    source
        Name for messages.
    """
    blocks: list[_Block] = []
    notes: list[str] = []
    pending: list[Row] = []
    active: _Block | None = None
    bare = 0
    for place, row in enumerate(rows, first_row):
        if active is not None and all(type(cell) in _NUMBERS for cell in row):
            active.add(row, place)  # What most rows are.
            continue
        if not _texts(row) and not _numbers(row):
            continue
        if active is not None and _continues(row):
            active.add(row, place)
        elif _begins(row) and (block := _block(pending, row)) is not None:
            block.add(row, place)
            blocks.append(block)
            pending, active = [], block
        elif _begins(row):
            bare = bare or place
        else:
            pending.append(row)
            active = None
    if bare:
        notes.append(f"row {bare}: numbers without headings above them; left out")
    tables = [_table(block, source) for block in blocks]
    behind = dict(_entries(pending))
    if tables and behind:
        last = tables[-1]
        metadata = {**last.metadata, **behind}
        tables[-1] = Table(
            last.headings, last.columns, last.units, metadata, last.first_line, source, last.flaws
        )
    return tables, notes


def _block(pending: Sequence[Row], row: Row) -> _Block | None:
    texts = [i for i, above in enumerate(pending) if len(_texts(above)) > 1]
    if not texts:
        return None
    at = texts[-1]
    units: Row = ()
    if _is_units(pending[at]) and len(texts) > 1:
        units, at = pending[at], texts[-2]
    columns = set(_numbers(row))
    if len(columns & set(_texts(pending[at]))) < 2:
        return None
    return _Block(pending[at], units, list(pending[:at]))


def _begins(row: Row) -> bool:
    """Return whether a row may be the first of numbers: two at least, and none behind a name."""
    numbers, texts = _numbers(row), _texts(row)
    return len(numbers) > 1 and (not texts or min(numbers) < min(texts))


def _continues(row: Row) -> bool:
    numbers, texts = _numbers(row), _texts(row)
    return bool(numbers) and (not texts or min(numbers) < min(texts) or len(numbers) > len(texts))


def _is_units(row: Row) -> bool:
    cells = [str(row[i]).strip("()[] ") for i in _texts(row)]
    return all(any(si_scale(cell, unit) for unit in _UNITS) for cell in cells if cell != "-")


def _table(block: _Block, source: str) -> Table:
    width = max(len(row) for row in [block.heading, *block.rows])
    headings = [_text(block.heading, i) for i in range(width)]
    columns, flaws = [], []
    for i in range(width):
        values, flaw = _column([row[i] if i < len(row) else "" for row in block.rows], block.places)
        columns.append(values)
        if flaw:
            flaws.append(f"column {headings[i] or i + 1!r}: {flaw}")
    kept = [i for i in range(width) if headings[i] or np.isfinite(columns[i]).any()]
    _spread(block.above, headings)
    return Table(
        [headings[i] for i in kept],
        [columns[i] for i in kept],
        [_text(block.units, i) for i in kept] if block.units else (),
        dict(_entries(block.above)),
        block.places[0],
        source,
        tuple(flaws),
    )


def _spread(above: Sequence[Row], headings: list[str]) -> None:
    """Give the columns below a cell like ``Vd = -0.1 V`` that voltage."""
    for row in above:
        places = _texts(row)
        voltages = [i for i in places if set(read_heading(str(row[i])).values) & {"Vg", "Vd"}]
        if len(voltages) < 2 or len(places) > len(voltages):
            continue
        for start, stop in zip(voltages, [*voltages[1:], len(headings)], strict=True):
            for i in range(start, stop):
                if read_heading(headings[i]).quantity == "Id":
                    headings[i] = f"{headings[i]} {str(row[start]).strip()}"


def _column(cells: Sequence[object], places: Sequence[int]) -> tuple[NDArray[np.float64], str]:
    if all(type(cell) in _NUMBERS for cell in cells):
        return np.array(cells, np.float64), ""
    values = np.array([_value(cell) for cell in cells], np.float64)
    words = [i for i, cell in enumerate(cells) if _is_text(cell)]
    if any(isinstance(cell, datetime) for cell in cells) and np.isfinite(values).any():
        values -= values[np.isfinite(values)][0]  # A date counts from the first.
    if not words:
        return values, ""
    shown, place = str(cells[words[0]]).strip()[:30], places[words[0]]
    return values, f"{len(words)} cells are no number, the first {shown!r} in row {place}"


def _value(cell: object) -> float:
    if isinstance(cell, bool):
        return math.nan
    if isinstance(cell, int | float):
        return float(cell)
    if isinstance(cell, timedelta):
        return cell.total_seconds()
    if isinstance(cell, datetime):
        return (cell.replace(tzinfo=None) - _MIDNIGHT).total_seconds()
    if isinstance(cell, time):
        return cell.hour * 3600 + cell.minute * 60 + cell.second + cell.microsecond * 1e-6
    return number(cell) if isinstance(cell, str) else math.nan


def _is_text(cell: object) -> bool:
    """Return whether a cell holds something that is no number."""
    if isinstance(cell, str):
        return bool(cell.strip()) and math.isnan(number(cell))
    return isinstance(cell, bool | date) and not isinstance(cell, datetime)


def _texts(row: Row) -> list[int]:
    return [i for i, cell in enumerate(row) if _is_text(cell) and not is_overflow_word(str(cell))]


def _numbers(row: Row) -> list[int]:
    return [
        i
        for i, cell in enumerate(row)
        if not math.isnan(_value(cell)) or (_is_text(cell) and is_overflow_word(str(cell)))
    ]


def _text(row: Row, i: int) -> str:
    cell = row[i] if i < len(row) else ""
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    return str(cell).strip()


def _entries(rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """Give name and value of what stands beside a table: two cells, or ``name = value`` in one."""
    for row in rows:
        cells = [_text(row, i) for i in range(len(row))]
        cells = [cell for cell in cells if cell]
        if len(cells) == 1:
            match = _ENTRY.fullmatch(cells[0])
            if match:
                yield match[1].strip(), match[2].strip()
        elif len(cells) > 1:
            yield cells[0].rstrip(" :="), ", ".join(cells[1:])
