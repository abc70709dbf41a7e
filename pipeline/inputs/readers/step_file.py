"""The CSV file of one step, as the instrument writes it: headings first, then rows of numbers.

Every cell is read as the number it is, or counted and named.  A row with more cells than headings
is an error: which cell belongs to which heading cannot be known.
"""

from __future__ import annotations

import csv
import io
import math
import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
from numpy.typing import NDArray

from oectflow.errors import IngestError
from oectflow.pipeline.inputs.readers.regular_file import read_regular
from oectflow.pipeline.inputs.readers.test_info import decode

_SMALL = 6 * 1024
_DELIMITERS = (",", ";", "\t")
_WHOLE_PART = re.compile(r"\s*[+-]?\d+")
_LEADING_ZERO = re.compile(r"0\d")
_DECIMALS = re.compile(r"\d+(?:[eE][+-]?\d+)?\s*")


@dataclass(frozen=True)
class Cells:
    """Some cells of a column.

    Attributes
    ----------
    number
        How many.
    first
        The line of the first, from 1, and what it says.
    """

    number: int = 0
    first: tuple[int, str] = (0, "")

    def and_one(self, line: int, cell: str) -> Cells:
        """Return these and one more."""
        return Cells(self.number + 1, self.first if self.number else (line, cell))


@dataclass(frozen=True)
class Column:
    """One column of a file.

    Attributes
    ----------
    heading
        As in the file, without space around it.
    values
        NaN where a cell is empty or no number.
    wrong, empty
        Such cells.
    is_text
        No cell of it is a number.
    """

    heading: str
    values: NDArray[np.float64]
    wrong: Cells = Cells()
    empty: Cells = Cells()
    is_text: bool = False

    @property
    def is_void(self) -> bool:
        """No cell of it holds anything."""
        return self.empty.number == len(self.values)


@dataclass(frozen=True)
class StepFile:
    """The columns of a file, and what was left out or assumed of all of them."""

    columns: Sequence[Column]
    warnings: Sequence[str]


def read_step_file(path: Path, *, growing: bool = False) -> StepFile:
    """Read all columns of a file.

    Parameters
    ----------
    path
        The CSV file.
    growing
        The instrument is still writing it: a last line without an end is not whole.

    Raises
    ------
    IngestError
        It has no headings, no rows, or rows with more cells than headings.
    """
    data = read_regular(path)
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        data = decode(path.name, data).encode()
    data = data.removeprefix(b"\xef\xbb\xbf")
    if b"\n" not in data:
        data = data.replace(b"\r", b"\n")
    body = data.lstrip(b"\r\n")
    # Lines are counted as in the file, so that the user finds them.
    n_lines = data.count(b"\n", 0, len(data) - len(body))
    head, _, body = body.partition(b"\n")
    heading = decode(path.name, head).strip()
    delimiter = next((d for d in _DELIMITERS if d in heading), ",")
    header = [name.strip() for name in next(csv.reader([heading], delimiter=delimiter), [])]
    if not any(header):
        raise IngestError(f"{path.name} has no headings; is it empty?")
    body, warnings = _whole_lines(path.name, body, len(header), delimiter, growing=growing)
    columns = _read_small(body, header) if len(body) <= _SMALL and delimiter == "," else None
    columns = columns or _read_fast(body, header, delimiter)
    if columns is None:
        rows = _Rows(path.name, decode(path.name, body), n_lines + 2, len(header), delimiter)
        columns, more = _read_cells(rows, header)
        warnings += more
    if not len(columns[0].values):
        raise IngestError(f"{path.name} has no rows{' yet' if growing else ''}")
    return StepFile([c for c in columns if c.heading or not c.is_void], warnings)


def _whole_lines(
    name: str, body: bytes, n_cells: int, delimiter: str, *, growing: bool
) -> tuple[bytes, list[str]]:
    """Return the lines that are whole, and a warning about a last one that is not."""
    start = body.rfind(b"\n") + 1
    last = body[start:]
    if not last.strip():
        return body, []
    text = last.decode("utf-8", "replace").strip()
    if not growing and _n_cells(text, delimiter) >= n_cells:
        return body, []
    why = "is not whole yet" if growing else "is cut"
    return body[:start], [f"{name}: the last line, {text[:80]!r}, {why} and is left out"]


def _n_cells(line: str, delimiter: str) -> int:
    try:
        return len(next(csv.reader([line], delimiter=delimiter), []))
    except csv.Error:
        return 0


def _read_small(body: bytes, header: Sequence[str]) -> list[Column] | None:
    """Read columns of sound cells, few of them, sooner than Arrow is ready; else None."""
    n = len(header)
    # A mark where each line ends tells, in one comparison, whether all have as many cells.
    cells = body.removesuffix(b"\n").replace(b"\n", b",\n,").split(b",")
    n_rows = (len(cells) + 1) // (n + 1)
    ends = cells[n :: n + 1]
    if len(cells) != n_rows * (n + 1) - 1 or ends != [b"\n"] * len(ends) or b"_" in body:
        return None
    del cells[n :: n + 1]
    try:
        numbers = np.array(list(map(float, cells)))
    except ValueError:
        return None
    table = numbers.reshape(n_rows, n).T.copy()
    return [Column(name, values) for name, values in zip(header, table, strict=True)]


def _read_fast(body: bytes, header: Sequence[str], delimiter: str) -> list[Column] | None:
    """Read columns of sound cells; None where a cell is not."""
    labels = [str(i) for i in range(len(header))]
    first = body[: body.find(b"\n")] if b"\n" in body else body
    cells = first.decode("latin-1").strip("\r").split(delimiter)
    # A column of notes is no reason to read numbers one by one.
    notes = {i for i, cell in enumerate(cells) if cell.strip() and _number(cell, ".,") is None}
    types = {label: pa.binary() if i in notes else pa.float64() for i, label in enumerate(labels)}
    comma = delimiter != "," and b"," in body
    try:
        table = pa_csv.read_csv(
            pa.BufferReader(body),
            pa_csv.ReadOptions(use_threads=False, column_names=labels),
            pa_csv.ParseOptions(delimiter=delimiter),
            # Without words for a missing value, any cell that is no number is an error here.
            pa_csv.ConvertOptions(
                column_types=types, null_values=[], decimal_point="," if comma else "."
            ),
        )
    except pa.ArrowInvalid:
        return None
    columns = []
    for i, label in enumerate(labels):
        if i in notes:
            texts = table.column(label).to_pylist()
            if any(_number(text.decode("latin-1"), ".,") is not None for text in texts):
                return None
            nothing = np.full(len(texts), np.nan)
            columns.append(Column(header[i], nothing, is_text=True))
        else:
            columns.append(Column(header[i], table.column(label).to_numpy()))
    return columns


@dataclass(frozen=True)
class _Rows:
    """The rows of a file that has to be read cell by cell."""

    name: str
    body: str
    first_line: int
    n_cells: int
    delimiter: str

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        """Yield line and cells of each row that is not blank."""
        reader = csv.reader(io.StringIO(self.body), delimiter=self.delimiter)
        try:
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    yield self.first_line + reader.line_num - 1, cells
        except csv.Error as error:
            line = self.first_line + reader.line_num
            raise IngestError(f"{self.name}, line {line}: {error}; is it a table?") from None


def _read_cells(rows: _Rows, header: Sequence[str]) -> tuple[list[Column], list[str]]:
    """Read cell by cell, to keep what is sound and to say where it is not."""
    joined = _decimal_commas(rows)
    mark = "." if rows.delimiter == "," else ".,"
    values = [array("d") for _ in header]
    wrong, empty = [Cells()] * len(header), [Cells()] * len(header)
    for line, cells in rows:
        if joined:
            cells = [f"{a}.{b}" for a, b in zip(cells[::2], cells[1::2], strict=True)]
        for i, numbers in enumerate(values):
            cell = cells[i] if i < len(cells) else ""
            number = _number(cell, mark)
            if number is None and cell.strip():
                wrong[i] = wrong[i].and_one(line, cell)
            elif number is None:
                empty[i] = empty[i].and_one(line, cell)
            numbers.append(math.nan if number is None else number)
    columns = []
    for i, heading in enumerate(header):
        found = np.array(values[i], np.float64)
        is_text = bool(wrong[i].number) and wrong[i].number + empty[i].number == len(found)
        columns.append(Column(heading, found, wrong[i], empty[i], is_text))
    if joined:
        return columns, [f"{rows.name}: the numbers are read with decimal commas"]
    return columns, []


def _decimal_commas(rows: _Rows) -> bool:
    """Return whether every number is in two cells, since its decimal comma divides it.

    Raises
    ------
    IngestError
        A row has more cells than headings, and this is not why.
    """
    n = rows.n_cells
    all_split = rows.delimiter == ","
    # No integer begins with 0: a second half that does tells that it is one.
    evidence = False
    too_long: tuple[int, int] | None = None
    for line, cells in rows:
        if len(cells) > n and too_long is None:
            too_long = line, len(cells)
        all_split = all_split and len(cells) == 2 * n and _are_split(cells)
        evidence = evidence or any(map(_LEADING_ZERO.match, cells[1::2]))
        if too_long and not all_split:
            break
    if too_long and not (all_split and evidence):
        line, seen = too_long
        hint = ""
        if rows.delimiter == ",":
            hint = "; are the commas in its numbers? then save it with another delimiter"
        raise IngestError(
            f"{rows.name}, line {line}: {seen} cells under {n} headings: which belongs where "
            f"cannot be known{hint}"
        )
    return too_long is not None


def _are_split(cells: Sequence[str]) -> bool:
    return all(map(_WHOLE_PART.fullmatch, cells[::2])) and all(
        map(_DECIMALS.fullmatch, cells[1::2])
    )


def _number(cell: str, marks: str) -> float | None:
    if len(marks) > 1 and "." not in cell:
        cell = cell.replace(",", ".")
    try:
        # Python alone would take "1_000" for a number.
        return None if "_" in cell else float(cell)
    except ValueError:
        return None
