"""Read the rows of a samples table: CSV, YAML, Excel, a DataFrame, or a mapping."""

from __future__ import annotations

import csv
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from oectflow.config_file import read_config_file, shorten
from oectflow.errors import ConfigError
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
    try:
        status = path.stat()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"{path}: is no file; name a table of devices (.csv, .yaml, .xlsx)")
    if status.st_size > MAX_BYTES:
        raise ConfigError(
            f"{path}: has {status.st_size:,} bytes, expected at most {MAX_BYTES:,}; "
            "is it a table of devices?"
        )
    suffix = path.suffix.lower()
    if suffix in _YAML:
        return entries_of(read_config_file(path, ConfigError, as_text=True), str(path))
    if suffix in _EXCEL:
        return _read_excel(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    return _read_text(path, _decode(raw))


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


def _decode(raw: bytes) -> str:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return raw.decode("utf-16", "replace")
    if b"\0" in raw[:200]:
        return raw.decode("utf-16-le" if raw[1:2] == b"\0" else "utf-16-be", "replace")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        # A µ of a western computer stands between letters, Chinese characters are pairs of bytes.
        lonely = re.search(rb"(?<![\x80-\xff])[\x80-\xff](?![\x80-\xff])", raw)
        return raw.decode("cp1252" if lonely else "gb18030", "replace")


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


def _read_excel(path: Path) -> list[Entry]:
    try:
        from python_calamine import CalamineError, CalamineWorkbook
    except ModuleNotFoundError:
        raise ConfigError(
            f"{path}: Excel files need python-calamine; pip install 'oectflow[excel]', or save "
            "the table as CSV"
        ) from None
    try:
        with CalamineWorkbook.from_path(str(path)) as workbook:
            sheets = {
                name: workbook.get_sheet_by_name(name).to_python(skip_empty_area=False)
                for name in workbook.sheet_names
            }
    except (CalamineError, OSError) as error:
        raise ConfigError(f"{path}: cannot be read as Excel ({error})") from None
    entries: list[Entry] = []
    found = False
    for name, rows in sheets.items():
        numbered = [(n, row) for n, row in enumerate(rows, 1) if any(str(c).strip() for c in row)]
        start = _find_headings([row for _, row in numbered[:_PREAMBLE]])
        if start is not None:
            found = True
            where = [f"{path}, sheet {name!r}, row {n}" for n, _ in numbered[start:]]
            entries += _entries(where, [row for _, row in numbered[start:]], comma=False)
    if not found:
        raise ConfigError(
            f"{path}: no sheet has a row with the headings chip_id and device_id; sheets: "
            f"{', '.join(sheets)}"
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


def is_path(source: Any) -> bool:
    """Whether something names a file."""
    return isinstance(source, str | os.PathLike)
