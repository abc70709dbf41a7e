"""Keysight (Agilent) EasyEXPERT: test records exported as CSV with their setup.

The layout is that of the EasyEXPERT User's Guide ("Text File Export settings"): a tag at the
beginning of each row, the data by row or by column; one file may hold many records.  No library
reads it.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from oectflow.errors import IngestError
from oectflow.measurement import Measurement, Step
from oectflow.pipeline.inputs.readers.files import decode, file_head
from oectflow.pipeline.inputs.readers.headings import read_heading
from oectflow.pipeline.inputs.readers.reader import Reading, Recognition
from oectflow.pipeline.inputs.readers.regular_file import read_regular
from oectflow.pipeline.inputs.readers.settings import fill_in, number
from oectflow.pipeline.inputs.readers.tables import Table, steps_from_table

_TAG = re.compile(
    r"^\ufeff?\"?(SetupTitle|TestParameter|Data ?Name|Data ?Value)\"?\s*[,;\t]", re.MULTILINE
)
_MAX_BYTES = 256 * 2**20

_DATA = ("Dimension1", "Dimension2", "DataName", "DataUnit", "DataValue")


@dataclass
class Record:
    """One test record of a file.

    Attributes
    ----------
    line
        Line of its first row, from 1.
    title
        ``SetupTitle``.
    test
        The kind of test: ``PrimitiveTest`` or ``ApplicationTest``.
    parameters
        ``TestParameter``, ``MetaData``, ``AnalysisSetup``: name -> its cells.
    names, units
        Of the columns.
    lengths, curves
        ``Dimension1`` and ``Dimension2`` of each column: number of points, and of curves.
    rows
        Cells of the data, as text, with the number of the line of each row in ``lines``.
    """

    line: int
    title: str = ""
    test: str = ""
    parameters: dict[str, list[str]] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    units: list[str] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    curves: list[int] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)


def parse(text: str) -> Iterator[Record]:
    """Yield the records of a file, in their order."""
    delimiter = _delimiter(text)
    reader = csv.reader(text.splitlines(), delimiter=delimiter, skipinitialspace=True)
    record = Record(1)
    by_column = False
    for cells in reader:
        tag = re.sub(r"\s+", "", cells[0]) if cells else ""
        row = [cell.strip() for cell in cells[1:]]
        while row and not row[-1]:
            row.pop()
        if not tag and not row:
            continue
        inside = tag == "DataValue" or (by_column and tag.isdecimal())
        if record.rows and not inside and (tag == "SetupTitle" or tag in _DATA):
            yield record
            # Without a title of its own, a second table belongs to the same setup.
            keep = {} if tag == "SetupTitle" else record.parameters
            record = Record(reader.line_num, record.title, record.test, dict(keep))
            by_column = False
        _take(record, tag, row, reader.line_num, by_column)
        by_column = by_column or (tag == "Dimension1" and row[:1] == ["Dimension2"])
    if record.rows or record.names:
        yield record


def _take(record: Record, tag: str, row: list[str], line: int, by_column: bool) -> None:
    if by_column and tag.isdecimal():
        _take_column(record, [tag, *row], line)
    elif tag == "DataValue":
        record.rows.append(row)
        record.lines.append(line)
    elif tag == "DataName":
        record.names = row
    elif tag == "DataUnit":
        record.units = row
    elif tag == "Dimension1" and row[:1] != ["Dimension2"]:
        record.lengths = [int(cell) for cell in row if cell.isdecimal()]
    elif tag == "Dimension2":
        record.curves = [int(cell) for cell in row if cell.isdecimal()]
    elif tag == "SetupTitle":
        record.title, record.line = row[0] if row else "", line
    elif tag in ("PrimitiveTest", "ApplicationTest", "QuickTest", "ClassicTest"):
        record.test = row[0] if row else ""
    elif row:
        record.parameters[row[0]] = row[1:]


class EasyExpertReader:
    """Reads one file: one experiment per device, whose steps are the curves of its records."""

    name = "easyexpert"
    title = "Keysight EasyEXPERT test records (CSV)"

    def recognises(self, path: Path) -> Recognition:
        """Look for the tags of setup and data at the beginning of lines."""
        head = decode(file_head(path, 2**16))
        tags = [tag.replace(" ", "") for tag in _TAG.findall(head)]
        if tags[:1] == ["SetupTitle"]:
            return Recognition(1.0, "the first of its tags is 'SetupTitle'")
        if "DataName" in tags and ("DataValue" in tags or "TestParameter" in tags):
            return Recognition(0.95, f"lines begin with {tags[0]!r} and 'DataName'")
        return Recognition(0.0, "no lines that begin with 'SetupTitle' or 'DataName'")

    def read(self, path: Path) -> Reading:
        """Read all records of a file.

        Raises
        ------
        IngestError
            The file is damaged, or no record holds a known kind of measurement.
        """
        devices: dict[str, list[Step]] = {}
        warnings: list[str] = []
        records = list(parse(decode(read_regular(path, _MAX_BYTES))))
        for place, record in enumerate(records):
            what = f"record {place + 1} ({record.title}, line {record.line})"
            try:
                found, words = _steps(record, what, path)
            except IngestError as error:
                warnings.append(f"{what} left out: {error}")
                continue
            target = (record.parameters.get("TestRecord.TestTarget") or [""])[0]
            steps = [replace(s, values={**s.values, "file_step": float(place)}) for s in found]
            devices.setdefault(target, []).extend(steps)
            warnings += words
        if not devices:
            reasons = "; ".join(warnings) or "it holds no data"
            raise IngestError(f"{path}: nothing to read in this EasyEXPERT file: {reasons}")
        attributes = {"test_id": path.stem, "instrument": "EasyEXPERT"}
        attributes |= {"description": records[0].title} if records[0].title else {}
        measurements = [
            Measurement(
                attributes | ({"device_number": target} if target else {}),
                _numbered(steps),
                warnings=tuple(dict.fromkeys(warnings)),
            )
            for target, steps in devices.items()
        ]
        return Reading(measurements, [path])

    def tables(self, path: Path) -> list[Table]:
        """Return the table of the first curve of each record."""
        records = parse(decode(read_regular(path, _MAX_BYTES)))
        return [next(_tables(r, r.title))[1] for r in records if r.names and r.rows]


def _numbered(steps: list[Step]) -> list[Step]:
    if len(steps) < 2:
        return steps
    return [
        replace(step, values={**step.values, "curve": float(curve)})
        for curve, step in enumerate(steps, 1)
    ]


def _steps(record: Record, what: str, path: Path) -> tuple[list[Step], list[str]]:
    kind, info = _kind(record), _info(record, path)
    steps: list[Step] = []
    warnings: list[str] = []
    for curve, (start, table) in enumerate(_tables(record, what)):
        known = _set_voltages(record, curve)
        # No kind has a voltage of a second gate: it is a parameter of its own for each curve.
        others = {name: value for name, value in known.items() if name not in ("Vg", "Vd")}
        own = {**info, "parameters": {**info["parameters"], **others}}
        found, words = steps_from_table(table, kind=kind, info=own)
        for step in found:
            position = start + step.values.get("file_position", 0.0)
            placed = replace(step, values={**step.values, "file_position": position})
            steps.append(fill_in(placed, known))
        warnings += [f"{what}: {word}" for word in words]
    return steps, warnings


def _tables(record: Record, what: str) -> Iterator[tuple[int, Table]]:
    """Yield the start of each curve in the data of a record, and its table."""
    if not record.names or not record.rows:
        raise IngestError("it has no data")
    wide = max(range(len(record.rows)), key=lambda i: len(record.rows[i]))
    if len(record.rows[wide]) > len(record.names):
        raise IngestError(
            f"line {record.lines[wide]} has {len(record.rows[wide])} values under "
            f"{len(record.names)} names"
        )
    cells = np.full((len(record.rows), len(record.names)), np.nan)
    for i, row in enumerate(record.rows):
        cells[i, : len(row)] = [number(cell) for cell in row]
    points = max(record.lengths, default=0) or len(cells)
    curves = max(record.curves, default=1)
    flaws: tuple[str, ...] = ()
    if len(cells) != points * curves:
        flaws = (f"{points} points of {curves} curves were announced, {len(cells)} are there",)
    columns = [i for i in range(len(record.names)) if not _is_scalar(record, i, points)]
    units = [*record.units, *[""] * len(record.names)]
    for start in range(0, len(cells), points):
        yield (
            start,
            Table(
                [record.names[i].lstrip("@") for i in columns],
                [cells[start : start + points, i] for i in columns],
                [units[i] for i in columns],
                first_line=record.lines[start],
                source=what,
                flaws=flaws,
            ),
        )


def _is_scalar(record: Record, column: int, points: int) -> bool:
    """Return whether a column holds one number per curve, such as a computed threshold."""
    return points > 1 and column < len(record.lengths) and record.lengths[column] == 1


def _kind(record: Record) -> str | None:
    """Return the kind, from the swept channel or the axis of the graph.

    Raises
    ------
    IngestError
        The name of the swept channel is neither that of a gate nor that of a drain.
    """
    swept = [name for name, function in _channels(record) if function == "VAR1"]
    swept += record.parameters.get("Analysis.Setup.Vector.Graph.XAxis.Name", [])[:1]
    swept = [name for name in swept if name in record.names]
    kinds = {"Vg": "transfer", "Vd": "output"}
    found = [kinds.get(read_heading(name, "V").quantity or "") for name in swept]
    if found and not any(found) and read_heading(swept[0].lstrip("@")).quantity != "time":
        raise IngestError(
            f"it sweeps {swept[0]!r}, which is no known name of a gate or drain voltage; export it "
            "under the name Vg or Vd"
        )
    return next(filter(None, found), None)


def _channels(record: Record) -> list[tuple[str, str]]:
    """Return the name of the voltage of each channel, and the function of the channel."""
    names = record.parameters.get("Channel.VName", [])
    return list(zip(names, record.parameters.get("Channel.Func", []), strict=False))


def _set_voltages(record: Record, curve: int) -> dict[str, float]:
    """Return the voltages of the channels that are not swept, as set for a curve.

    ``Measurement.Bias.Source`` has a value per channel; the second sweep starts from its own start,
    or from there.
    """
    bias = record.parameters.get("Measurement.Bias.Source", [])
    found: dict[str, float] = {}
    for place, (name, function) in enumerate(_channels(record)):
        quantity = read_heading(name, "V").quantity
        voltage = number(bias[place]) if place < len(bias) else math.nan
        if function == "VAR2":
            first = _first(record, "Measurement.Secondary.Start")
            step = _first(record, "Measurement.Secondary.Step")
            voltage = first if math.isfinite(first) else voltage
            voltage += curve * step if curve else 0.0
        if function in ("VAR2", "CONST") and math.isfinite(voltage):
            found[quantity if quantity in ("Vg", "Vd") else name] = voltage
    return found


def _first(record: Record, name: str) -> float:
    return number((record.parameters.get(name) or [""])[0])


def _info(record: Record, path: Path) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        name: ", ".join(cells) for name, cells in record.parameters.items() if any(cells)
    }
    points = max(record.lengths, default=0)
    for i, name in enumerate(record.names):
        if _is_scalar(record, i, points) and record.rows and i < len(record.rows[0]):
            parameters[name] = number(record.rows[0][i])
    return {
        "data_file": path.name,
        "type": record.test or record.title,
        "parameters": {"SetupTitle": record.title} | parameters,
    }


def _take_column(record: Record, cells: list[str], line: int) -> None:
    """Take one column that stands in a row: its dimensions, name, unit and values."""
    length, curves, name, *rest = [*cells, "", ""][: max(len(cells), 3)]
    unit = rest.pop(0) if rest and not _is_number(rest[0]) else ""
    record.lengths.append(int(length))
    record.curves.append(int(curves) if curves.isdecimal() else 1)
    record.names.append(name)
    record.units.append(unit)
    place = len(record.names) - 1
    for i, cell in enumerate(rest):
        if i == len(record.rows):
            record.rows.append([])
            record.lines.append(line)
        record.rows[i] += [""] * (place - len(record.rows[i])) + [cell]


def _delimiter(text: str) -> str:
    match = re.search(r"^\ufeff?\"?(?:SetupTitle|Data ?Name|Dimension1)\"?\s*([,;\t])", text, re.M)
    return match[1] if match else ","


def _is_number(cell: str) -> bool:
    return not math.isnan(number(cell))


READER = EasyExpertReader()
