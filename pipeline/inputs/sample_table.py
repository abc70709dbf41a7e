"""Read the rows of a samples table: CSV, YAML, Excel, a DataFrame, or a mapping."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from oectflow.config_file import read_config_file, shorten
from oectflow.errors import ConfigError, IngestError
from oectflow.pipeline.inputs.readers.encodings import find_encoding
from oectflow.pipeline.inputs.readers.regular_file import check_regular, read_regular
from oectflow.pipeline.inputs.readers.workbook import read_sheets, workbook_kind
from oectflow.pipeline.inputs.sample_keys import MISSING, understand

#: A table of 10,000 devices has 1 MB.
MAX_BYTES = 16 * 1024 * 1024
_DELIMITERS = (";", "\t", ",", "|")
#: So far down the headings are looked for.
_PREAMBLE = 50
_YAML = (".yaml", ".yml", ".json")
_EXCEL = (".xlsx", ".xls", ".xlsm", ".xlsb", ".ods")


@dataclass(frozen=True)
class Entry:
    """One row of a table.

    Attributes
    ----------
    place
        Where it stands: ``"devices.csv, line 4"``.
    cells
        By heading; text, or what Excel and YAML make of it.
    comma
        Whether numbers have a decimal comma.
    """

    place: str
    cells: Mapping[str, Any]
    comma: bool = False


def read_table(path: Path) -> list[Entry]:
    """Return the rows of a file.

    Raises
    ------
    ConfigError
        The file cannot be read, is too large, or has no headings ``chip_id`` and ``device_id``.
    """
    suffix = path.suffix.lower()
    try:
        if suffix in _YAML:
            check_regular(path)
            return entries_of(read_config_file(path, ConfigError, as_text=True), str(path))
        if suffix in _EXCEL or workbook_kind(path):
            return _read_workbook(path)
        raw = read_regular(path, MAX_BYTES)
    except IngestError as error:
        raise ConfigError(f"{error}; a table of devices is a .csv, .yaml or .xlsx file") from None
    encoding = find_encoding(raw)
    if raw and not encoding:
        raise ConfigError(f"{path}: is no text; a table of devices is a .csv, .yaml or .xlsx file")
    return _read_text(path, raw.decode(encoding, "replace") if raw else "")


def entries_of(found: Any, place: str) -> list[Entry]:
    """Return the rows of a list of mappings, of one under ``devices``, or of a single mapping.

    Raises
    ------
    ConfigError
        It is none of these.
    """
    if isinstance(found, Mapping):
        found = found["devices"] if set(found) == {"devices"} else [found]
    if not isinstance(found, Sequence) or isinstance(found, str):
        raise ConfigError(f"{place}: is {shorten(found)}, expected a list of devices")
    for number, row in enumerate(found, 1):
        if not isinstance(row, Mapping):
            raise ConfigError(
                f"{place}, device {number}: is {shorten(row)}, expected keys such as chip_id, "
                "device_id, 'W (µm)'"
            )
    return [
        Entry(f"{place}, device {number}", {str(key): cell for key, cell in row.items()})
        for number, row in enumerate(found, 1)
    ]


def entries_of_frame(frame: Any) -> list[Entry]:
    """Return the rows of a pandas DataFrame."""
    named = [name for name in frame.index.names if name is not None]
    table = frame.reset_index() if named else frame
    headings = [str(name) for name in table.columns]
    _check_headings("the DataFrame", headings)
    rows = zip(*(table.iloc[:, i].tolist() for i in range(table.shape[1])), strict=True)
    return [
        Entry(f"the DataFrame, row {number}", dict(zip(headings, row, strict=True)))
        for number, row in enumerate(rows, 1)
    ]


def _read_text(path: Path, text: str) -> list[Entry]:
    for delimiter in _DELIMITERS:
        rows = _rows(text, delimiter)
        try:
            head = list(islice(rows, _PREAMBLE))
            start = _find_headings([cells for _, cells in head])
            if start is None:
                continue
            table = [*head, *rows][start:]
        except csv.Error as error:
            raise ConfigError(f"{path}: is no table ({error})") from None
        where = [f"{path}, line {line}" for line, _ in table]
        cells = [row for _, row in table]
        return _entries(where, cells, comma=delimiter in ";\t")
    first = next((line for line in text.splitlines() if line.strip()), "")
    raise ConfigError(
        f"{path}: no line with the headings chip_id and device_id among the first {_PREAMBLE}; "
        f"it begins with {shorten(first)}"
    )


def _rows(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(text.splitlines(keepends=True), delimiter=delimiter)
    begin = 1
    for row in reader:
        if any(cell.strip() for cell in row):
            yield begin, row
        begin = reader.line_num + 1


def _find_headings(rows: Iterable[Sequence[Any]]) -> int | None:
    for number, row in enumerate(rows):
        names = {understand(str(cell)).name for cell in row if str(cell).strip()}
        if {"chip_id", "device_id"} <= names:
            return number
    return None


def _read_workbook(path: Path) -> list[Entry]:
    sheets = [sheet for sheet in read_sheets(path)[0] if not sheet.hidden]
    entries: list[Entry] = []
    found = False
    for sheet in sheets:
        numbered = [
            (number, row)
            for number, row in enumerate(sheet.rows, sheet.first_row)
            if any(str(cell).strip() for cell in row)
        ]
        start = _find_headings([row for _, row in numbered[:_PREAMBLE]])
        if start is not None:
            found = True
            where = [f"{path}, sheet {sheet.name!r}, row {n}" for n, _ in numbered[start:]]
            entries += _entries(where, [row for _, row in numbered[start:]], comma=False)
    if not found:
        raise ConfigError(
            f"{path}: no sheet has a row with the headings chip_id and device_id; sheets: "
            f"{', '.join(sheet.name for sheet in sheets) or 'none with cells'}"
        )
    return entries


def _entries(where: Sequence[str], rows: Sequence[Sequence[Any]], *, comma: bool) -> list[Entry]:
    """Return what stands below the headings, which are the first row."""
    headings = [str(cell).strip() for cell in rows[0]]
    _check_headings(where[0], headings)
    body = list(zip(where, rows, strict=True))[1:]
    if body and _is_unit_row(headings, body[0][1]):
        units = [str(cell).strip() for cell in body[0][1]]
        units += [""] * (len(headings) - len(units))
        headings = [
            f"{heading} ({unit})" if unit and heading and not understand(heading).unit else heading
            for heading, unit in zip(headings, units, strict=True)
        ]
        body = body[1:]
    entries = []
    for place, row in body:
        if len(row) > len(headings):
            raise ConfigError(
                f"{place}: {len(row)} cells under {len(headings)} headings; is a decimal comma "
                "taken for a separator? Write 0.5, or separate the cells by semicolons"
            )
        for number, (heading, cell) in enumerate(zip(headings, row, strict=False), 1):
            if not heading and str(cell).strip():
                raise ConfigError(f"{place}: {cell!r} in column {number} has no heading")
        cells = dict(zip(headings, row, strict=False))
        cells.pop("", None)
        entries.append(Entry(place, cells, comma))
    return entries


def _check_headings(place: str, headings: Sequence[str]) -> None:
    known: dict[str, str] = {}
    for heading in filter(None, headings):
        name = understand(heading).name
        if name in known:
            raise ConfigError(f"{place}: {known[name]!r} and {heading!r} both mean {name}")
        known[name] = heading
    for needed in ("chip_id", "device_id"):
        if needed not in known:
            raise ConfigError(
                f"{place}: no column {needed}; add one, in which * stands for any; "
                f"columns: {', '.join(filter(None, headings))}"
            )


def _is_unit_row(headings: Sequence[str], row: Sequence[Any]) -> bool:
    """Whether a row below the headings names units: no device, no number, some unit."""
    some = False
    for heading, cell in zip(headings, row, strict=False):
        text = str(cell).strip()
        if understand(heading or "_").name in ("chip_id", "device_id"):
            if text.casefold().strip("()[]") not in MISSING | {"unit", "units"}:
                return False
        elif re.search(r"\d", text) and not re.match(r"\D", text):
            return False
        else:
            some = some or text.casefold() not in MISSING
    return some
