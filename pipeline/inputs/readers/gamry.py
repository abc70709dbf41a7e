"""Gamry's ``.DTA``: text of Framework, with a header of typed entries and one or more tables.

Read here.  ``gamry-parser`` was tried on the ten files of its own tests: 0.4.6, the last release
for Python 3.11, refuses numbers with a decimal comma unless the locale of the process has one,
makes an index of the voltage of VFP600 files, and drops overload marks; its later releases (1.1.0
of 2026-10) ask for Python 3.12.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from oectflow.errors import IngestError
from oectflow.measurement import Measurement, Step
from oectflow.pipeline.inputs.readers.files import decode, file_head
from oectflow.pipeline.inputs.readers.potentiostat import Column, left_out, steps_of, table_of
from oectflow.pipeline.inputs.readers.reader import Reading, Recognition
from oectflow.pipeline.inputs.readers.regular_file import read_regular
from oectflow.pipeline.inputs.readers.settings import number
from oectflow.pipeline.inputs.readers.tables import Table

_MAX_BYTES = 256 * 2**20
#: Column -> its array, and the unit of that array.
_ARRAYS = {
    "T": ("time", "s"),
    "Time": ("time", "s"),
    "Im": ("Id", "A"),
    "Current": ("Id", "A"),
    "Freq": ("frequency", "Hz"),
    "Zreal": ("Z_real", "ohm"),
    "Zimag": ("Z_imag", "ohm"),
    "Vdc": ("Vdc", "V"),
}


@dataclass(frozen=True)
class _Table:
    name: str
    headings: Sequence[str]
    units: Sequence[str]
    rows: Sequence[Sequence[str]]
    warnings: Sequence[str]


class GamryReader:
    """Reads one file: an experiment whose steps are its tables."""

    name = "gamry"
    title = "Gamry data files (.DTA)"

    def recognises(self, path: Path) -> Recognition:
        """Look at the first two lines."""
        lines = decode(file_head(path, 1024)).splitlines()
        first = lines[0].strip() if lines else ""
        if first in ("EXPLAIN", "VFP600") and len(lines) > 1 and lines[1].startswith("TAG\t"):
            return Recognition(1.0, f"first lines are {first!r} and a TAG")
        return Recognition(0.0, "first lines are not 'EXPLAIN' and a TAG")

    def read(self, path: Path) -> Reading:
        """Read all tables.

        Raises
        ------
        IngestError
            A row does not fit its table, or nothing of a known kind is in the file.
        """
        header: dict[str, Any] = {}
        steps: list[Step] = []
        warnings: list[str] = []
        tables = 0
        for entry in _parse(decode(read_regular(path, _MAX_BYTES)), path):
            if isinstance(entry, tuple):
                header.setdefault(*entry)
                if entry == ("EXPERIMENTABORTED", "T"):
                    warnings.append("the experiment was aborted")
                continue
            columns, words = _columns(entry, header)
            info = {"data_file": path.name, "type": entry.name, "parameters": dict(header)}
            more, later = steps_of(columns, info, _values(header), entry.name)
            warnings += [*entry.warnings, *words, *later]
            for step in more:
                numbers = {"file_step": float(tables), **step.values}
                steps.append(replace(step, values=numbers))
            tables += 1
        if not steps:
            reasons = "; ".join(warnings) or "it has no table"
            raise IngestError(f"{path}: nothing to read in this Gamry file: {reasons}")
        attributes = {"test_id": path.stem, "instrument": "Gamry"}
        if header.get("TITLE"):
            attributes["description"] = str(header["TITLE"])
        return Reading(
            [Measurement(attributes, steps, warnings=tuple(dict.fromkeys(warnings)))], [path]
        )

    def tables(self, path: Path) -> list[Table]:
        """Return the tables of a file."""
        found = _parse(decode(read_regular(path, _MAX_BYTES)), path)
        tables = [one for one in found if isinstance(one, _Table)]
        return [table_of(_columns(one, {})[0], one.name) for one in tables if one.rows]


def _parse(text: str, path: Path) -> Iterator[tuple[str, str] | _Table]:
    """Yield the entries of the header and the tables, in their order."""
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        cells = lines[at].split("\t")
        at += 1
        if len(cells) > 1 and cells[1] == "TABLE":
            end = at
            while end < len(lines) and lines[end].startswith(("\t", " ")):
                end += 1
            yield _table(cells[0], lines[at:end], at, path)
            at = end
        elif cells[0] == "TAG" and len(cells) > 1:
            yield "TAG", cells[1].strip()
        elif len(cells) > 2 and cells[0]:
            # A potential says whether it is against the open circuit: T or F.
            more = (
                f" {cells[3].strip()}"
                if cells[1] in ("POTEN", "TWOPARAM") and len(cells) > 3
                else ""
            )
            yield cells[0], cells[2].strip() + more


def _table(name: str, lines: Sequence[str], first: int, path: Path) -> _Table:
    rows = [line.rstrip("\r\n").split("\t")[1:] for line in lines]
    if len(rows) < 2:
        return _Table(name, (), (), (), (f"{name}: the table is empty",))
    headings, units, *rows = rows
    while headings and not headings[-1]:
        headings.pop()
    good, short = [], []
    for number_of_line, row in enumerate(rows, first + 3):
        if any(cell.strip() for cell in row[len(headings) :]):
            raise IngestError(
                f"{path}: line {number_of_line} has {len(row)} cells under {len(headings)} headings"
            )
        if len(row) < len(headings):
            short.append(number_of_line)
        else:
            good.append(row)
    words = (f"{name}: {left_out(short)}",) if short else ()
    return _Table(name, headings, units, good, words)


def _columns(table: _Table, header: Mapping[str, str]) -> tuple[list[Column], list[str]]:
    columns, warnings = [], []
    for place, heading in enumerate(table.headings):
        unit = table.units[place].strip() if place < len(table.units) else ""
        cells = [row[place] for row in table.rows]
        if heading == "Over":
            marks = np.array([sum(c not in ". " for c in cell) for cell in cells], np.float64)
            if marks.any():
                warnings.append(
                    f"{table.name}: {np.count_nonzero(marks)} readings have an overload mark; "
                    "they are kept as measured, the number of marks beside them"
                )
            columns.append(Column(heading, marks, "marks"))
            continue
        array, expected = _ARRAYS.get(heading, ("", ""))
        if array and unit.split()[:1] != [expected]:
            warnings.append(f"{table.name}: {heading} is in {unit!r}, not {expected}: kept beside")
            array = ""
        columns.append(Column(heading, np.array([number(c) for c in cells]), unit, array))
    rate = number(header.get("FREQ", ""))
    if table.name == "VFPCURVE" and rate > 0:
        time = np.arange(len(table.rows)) / rate
        columns.append(Column("time", time, "s", "time"))
        warnings.append(f"{table.name}: time is the number of the row / FREQ ({rate:g} Hz)")
    return columns, warnings


def _values(header: Mapping[str, str]) -> dict[str, float]:
    """Return bias and amplitude of a spectrum, as set."""
    bias, _, against_open_circuit = header.get("VDC", "").partition(" ")
    values = {"Vdc": number(bias) if against_open_circuit == "F" else math.nan}
    values["amplitude"] = number(header.get("VAC", "")) * math.sqrt(2) * 1e-3  # mV rms
    return {name: value for name, value in values.items() if math.isfinite(value)}


READER = GamryReader()
