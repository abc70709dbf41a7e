"""Results as a workbook: a sheet per level, coloured by status, and one about the columns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openpyxl import Workbook
from openpyxl.cell import WriteOnlyCell
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE
from openpyxl.styles import Font, PatternFill
from openpyxl.utils import get_column_letter

import oectflow
from oectflow.cells import plain_cell
from oectflow.errors import OutputError
from oectflow.pipeline.outputs.export.tables import LEVELS, Column, Table, is_good

if TYPE_CHECKING:
    import xarray as xr

#: What a sheet of Excel holds.
MOST_ROWS, MOST_COLUMNS = 1_048_576, 16_384
#: Light enough for black words; the word stands beside, for eyes that tell no colours.
_COLOURS = {"error": "F4B9A0", "marked": "D9C3E6", "partly": "D9C3E6"}
_FLAGGED = "FBE3B0"
_FILLS = {colour: PatternFill("solid", fgColor=colour) for colour in (*_COLOURS.values(), _FLAGGED)}
_BOLD = Font(bold=True)
#: Characters of an id that are seen.
_WIDEST = 40


def write_excel(results: xr.Dataset, path: Path) -> None:
    """Write all levels of results that exist.

    Raises
    ------
    OutputError
        There are more columns than a sheet can have.
    """
    book = Workbook(write_only=True)
    tables = [(level, Table(results, level)) for level in LEVELS]
    for level, table in tables:
        if table.has_values or level == "experiments":
            _add(book, level, table)
    _describe(book, results, tables)
    book.save(path)


def _add(book: Any, level: str, table: Table) -> None:
    if len(table.columns) > MOST_COLUMNS:
        raise OutputError(
            f"{level}: {len(table.columns):,} columns, and a sheet of Excel has {MOST_COLUMNS:,}; "
            "name fewer features, or write a .csv, .nc or .mat"
        )
    sheet, n = _new_sheet(book, level, table), 2
    for number, row in enumerate(table.rows()):
        if number and number % (MOST_ROWS - 2) == 0:
            n += 1
            sheet = _new_sheet(book, f"{level} {n - 1}", table)
        sheet.append(_cells(sheet, table.columns, row))


def _new_sheet(book: Any, title: str, table: Table) -> Any:
    sheet = book.create_sheet(title)
    sheet.freeze_panes = "B3"
    for k, column in enumerate(table.columns, 1):
        longest = max(len(column.name), min(table.key_lengths.get(column.name, 0), _WIDEST))
        sheet.column_dimensions[get_column_letter(k)].width = max(11, longest + 2)
    sheet.append([_styled(sheet, plain_cell(column.name)) for column in table.columns])
    sheet.append([_styled(sheet, column.unit) for column in table.columns])
    return sheet


def _cells(sheet: Any, columns: list[Column], row: list[Any]) -> Iterator[Any]:
    for column, value in zip(columns, row, strict=True):
        word = row[column.status] if column.status is not None else None
        if is_good(word):
            yield _plain(value)
        else:
            cell = WriteOnlyCell(sheet, _plain(value))
            cell.fill = _FILLS[_COLOURS.get(str(word), _FLAGGED)]
            yield cell


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        # Bytes that no sheet may hold.
        return ILLEGAL_CHARACTERS_RE.sub("\ufffd", value)
    return str(value) if isinstance(value, float) and math.isinf(value) else value


def _styled(sheet: Any, value: str) -> Any:
    cell = WriteOnlyCell(sheet, _plain(value))
    cell.font = _BOLD
    return cell


def _describe(book: Any, results: xr.Dataset, tables: Sequence[tuple[str, Table]]) -> None:
    sheet = book.create_sheet("columns")
    sheet.column_dimensions["A"].width = 14
    sheet.column_dimensions["B"].width = 32
    sheet.column_dimensions["D"].width = 60
    sheet.freeze_panes = "A2"
    titles = ("sheet", "column", "unit", "what it is", "status words")
    sheet.append([_styled(sheet, title) for title in titles])
    for level, table in tables:
        for column in table.columns if table.has_values or level == "experiments" else ():
            about = (level, column.name, column.unit, column.description, column.words)
            sheet.append([plain_cell(_plain(text)) for text in about])
    sheet.append([])
    sheet.append(["written by", f"oectflow {oectflow.__version__}"])
    for key in ("source", "marks"):
        if key in results.attrs:
            sheet.append([key, plain_cell(_plain(Path(str(results.attrs[key])).name))])
