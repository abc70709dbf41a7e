"""Read the numbers of a delimited text block by block, fast if its cells are sound.

pyarrow parses sound blocks.  A block with text, a short row or a comment is read cell by cell, so
that everything that is left out can be named.
"""

from __future__ import annotations

import io
import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
from numpy.typing import NDArray

from oectflow.errors import IngestError
from oectflow.pipeline.inputs.readers.cells import (
    begins_like_number,
    is_comment,
    is_number,
    join_decimals,
    split_line,
    to_number,
)
from oectflow.pipeline.inputs.readers.encodings import one_or_two_bytes
from oectflow.pipeline.inputs.readers.headings import Heading
from oectflow.pipeline.inputs.readers.layout import (
    Layout,
    find_layout,
    is_row,
    metadata_of,
    n_known,
    with_plain_minus,
)
from oectflow.pipeline.inputs.readers.schema import Schema
from oectflow.pipeline.inputs.readers.tables import Table

#: Number of characters that are read at a time.
_BLOCK = 4 * 2**20


def read_delimited(path: Path, schema: Schema | None = None, layout: Layout | None = None) -> Table:
    """Read the table in a text file.

    Parameters
    ----------
    path
        The file.
    schema
        What is known about the file; the rest is found out.
    layout
        The layout of the file, if it is known already.

    Raises
    ------
    IngestError
        The file holds no readable table, or a row has more cells than there are headings.
    """
    layout = layout or find_layout(path, schema)
    try:
        rows = _read(path, layout)
    except UnicodeError as error:
        if schema is not None and schema.encoding:
            raise IngestError(f"{path.name}: is not {layout.encoding} text ({error})") from None
        # The first character beyond ASCII comes far behind the beginning.
        raw = error.object if isinstance(error, UnicodeDecodeError) else b""
        layout = replace(layout, encoding=one_or_two_bytes(raw))
        try:
            rows = _read(path, layout)
        except UnicodeError as again:
            raise IngestError(f"{path.name}: its encoding is unknown ({again})") from None
    return rows.table(schema)


def _read(path: Path, layout: Layout) -> _Rows:
    rows = _Rows(path.name, layout)
    for line, block in _blocks(path, layout):
        rows.add(line, block)
    rows.close()
    return rows


def _blocks(path: Path, layout: Layout) -> Iterator[tuple[int, str]]:
    """Yield the text from the first row on in blocks of whole lines, each with its first line."""
    try:
        # Do not wait for a writer if a pipe has replaced the file in the meantime.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        raise IngestError(f"{path}: cannot be read ({error.strerror or error})") from None
    with os.fdopen(descriptor, "rb") as raw:
        if os.fstat(descriptor).st_size <= _BLOCK:
            # For a small file, the text layer would take most of the time.
            file: io.TextIOBase = _small(raw.read(), layout.encoding)
        else:
            file = io.TextIOWrapper(raw, layout.encoding)
        for _ in range(layout.first_line - 1):
            file.readline()
        line = layout.first_line
        while block := file.read(_BLOCK):
            block = with_plain_minus(block + file.readline())
            yield line, block
            line += block.count("\n")


def _small(data: bytes, encoding: str) -> io.StringIO:
    text = data.decode(encoding)
    return io.StringIO(text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text)


class _Rows:
    """The rows that have been read, and their faults."""

    def __init__(self, name: str, layout: Layout) -> None:
        self.name = name
        self.layout = layout
        self.width = len(layout.headings)
        self.numeric = [*layout.numeric, *[False] * self.width][: self.width]
        self.parts: list[list[NDArray[np.float64]]] = []
        self.lines: list[NDArray[np.int64]] = []
        self.repeats: list[int] = []
        self.n = 0
        self.no_numbers: Counter[int] = Counter()
        self.first_no_number: dict[int, tuple[int, str]] = {}
        self.n_short = 0
        self.first_short = self.last_short = 0
        self.text: list[tuple[int, str]] = []
        self.notes: list[tuple[int, int, str]] = []
        self.cut = ""
        # The last line is only judged once it is known to be the last.
        self.held: tuple[int, str] | None = None

    def add(self, line: int, block: str) -> None:
        """Read a block of whole lines, but keep back the last one."""
        if self.held is not None:
            self._cells(self.held[0], [self.held[1]])
        body, _, last = block.rstrip("\n").rpartition("\n")
        self.held = (line + body.count("\n") + bool(body), last + "\n" * block.endswith("\n"))
        if not body:
            return
        columns = None if self.layout.split_decimals else self._fast(line, body)
        if columns is None:
            self._cells(line, body.split("\n"))
        else:
            self._append(columns, np.arange(line, line + len(columns[0])))

    def close(self) -> None:
        """Read the last line, unless it is cut."""
        if self.held is None:
            return
        line, text = self.held
        cells = split_line(text.rstrip("\n"), self.layout.delimiter)
        ends_in_number = any(self.numeric[len(cells) - 1 : len(cells)])
        damaged = ends_in_number and to_number(cells[-1], self.layout.decimal) is None
        damaged = damaged and not text.endswith("\n")
        whole = self.width - 1 - max((i for i, one in enumerate(self.numeric) if one), default=0)
        few = len(cells) < self.width - whole and self.last_short != line - 1
        if self.n and not is_comment(text) and self._may_be_row(cells) and (few or damaged):
            self.cut = f"line {line}: the last line, {text.strip()[:60]!r}, is cut; left out"
        else:
            self._cells(line, [text.rstrip("\n")])

    def table(self, schema: Schema | None) -> Table:
        """Return all rows as a table."""
        if not self.n:
            raise IngestError(f"{self.name}: no rows of numbers")
        columns = []
        for i in range(self.width):
            columns.append(np.concatenate([part[i] for part in self.parts]))
            for part in self.parts:
                part[i] = np.empty(0)
        lines = np.concatenate(self.lines)
        headings: list[str | Heading] = list(self.layout.headings)
        skipped = []
        if schema is not None:
            for i, text in enumerate(self.layout.headings):
                headings[i] = schema.heading(i + 1, text) or text
                skipped += [i] if schema.skips(i + 1, text) else []
            lacking = [key for key in schema.columns if not self._has(key)]
            if lacking:
                seen = ", ".join(map(repr, self.layout.headings))
                raise IngestError(
                    f"{self.name}: the schema names a column {lacking[0]!r}, the file has {seen}"
                )
        keep = [i for i in range(self.width) if i not in skipped]
        units = [self.layout.units[i] for i in keep] if self.layout.units else ()
        consecutive = bool(len(lines) == lines[-1] - lines[0] + 1)
        rows = dict.fromkeys(row for row, _, _ in self.notes)
        notes = {
            row: metadata_of([(line, text) for at, line, text in self.notes if at == row])
            for row in rows
        }
        return Table(
            [headings[i] for i in keep],
            [columns[i] for i in keep],
            units,
            {**self.layout.metadata, **metadata_of(self.text)},
            int(lines[0]),
            self.name,
            tuple(self._flaws()),
            None if consecutive else lines,
            tuple(self.repeats),
            notes,
        )

    def _has(self, key: str | int) -> bool:
        return 0 < key <= self.width if isinstance(key, int) else key in self.layout.headings

    def _flaws(self) -> Iterator[str]:
        if self.layout.split_decimals:
            yield "numbers are divided by their decimal commas and put together again"
        for i, count in sorted(self.no_numbers.items()):
            line, cell = self.first_no_number[i]
            name = self.layout.headings[i] or f"column {i + 1}"
            if count == self.n:
                yield f"column {name!r} holds text such as {cell[:40]!r}; left out"
            else:
                more = f" (and {count - 1} more such cells)" if count > 1 else ""
                yield f"line {line}: {name} is {cell[:40]!r}, no number, taken as NaN{more}"
        if self.n_short:
            yield (
                f"line {self.first_short}: fewer cells than headings, the others taken as empty"
                + (f" (and {self.n_short - 1} more such lines)" if self.n_short > 1 else "")
            )
        for line, text in self.text:
            if begins_like_number(split_line(text, self.layout.delimiter)):
                yield f"line {line}: {text[:60]!r} is no row of numbers; left out"
                break
        if self.cut:
            yield self.cut

    def _append(self, columns: list[NDArray[np.float64]], lines: NDArray[np.int64]) -> None:
        if len(lines):
            self._note(self.n)
            self.parts.append(columns)
            self.lines.append(lines)
            self.n += len(lines)

    def _note(self, row: int) -> None:
        """Remember the lines of text before a row."""
        self.notes += [(row, line, text) for line, text in self.text]
        self.text.clear()

    def _fast(self, line: int, body: str) -> list[NDArray[np.float64]] | None:
        """Return the columns if all rows are sound, else None."""
        delimiter = self.layout.delimiter
        if "\n\n" in body or any(mark in body for mark in ("#", "%", "//")):
            return None
        if delimiter == " ":
            delimiter = "\t"
            body = re.sub(r"[^\S\n]+", "\t", re.sub(r"(?m)^[^\S\n]+|[^\S\n]+$", "", body))
        if "+" in body:
            # Instruments write "+1.0E+05", which pyarrow does not accept.
            body = body.replace("+", "")
        labels = [str(i) for i in range(self.width)]
        types = [pa.float64() if one else pa.string() for one in self.numeric]
        try:
            table = pa_csv.read_csv(
                pa.BufferReader(body.encode()),
                pa_csv.ReadOptions(
                    use_threads=False, column_names=labels, block_size=max(len(body) * 4, 1)
                ),
                pa_csv.ParseOptions(delimiter=delimiter),
                pa_csv.ConvertOptions(
                    column_types=dict(zip(labels, types, strict=True)),
                    null_values=[""],
                    decimal_point=self.layout.decimal,
                ),
            )
        except pa.ArrowInvalid:
            return None
        texts = [i for i, one in enumerate(self.numeric) if not one]
        for i in texts:
            if any(
                is_number(t.strip(), self.layout.decimal) for t in table[i].unique().to_pylist()
            ):
                return None
        for i in texts:
            self._text_column(i, line, table[i])
        nothing = np.full(table.num_rows if texts else 0, np.nan)
        # Copied, so that pyarrow has its memory for the next block.
        return [
            table[i].to_numpy().copy() if one else nothing for i, one in enumerate(self.numeric)
        ]

    def _text_column(self, i: int, line: int, column: pa.ChunkedArray) -> None:
        filled = pc.not_equal(pc.utf8_trim_whitespace(column), "").to_numpy()
        if filled.any():
            row = int(np.argmax(filled))
            self.no_numbers[i] += int(np.count_nonzero(filled))
            self.first_no_number.setdefault(i, (line + row, str(column[row]).strip()))

    def _cells(self, first_line: int, lines: Sequence[str]) -> None:
        """Read lines cell by cell, to keep the sound cells and to name the others."""
        layout = self.layout
        rows: list[list[float]] = []
        numbers: list[int] = []
        for line, text in enumerate(lines, first_line):
            if not text.strip():
                continue
            if is_comment(text):
                self.text.append((line, text.strip()))
                continue
            cells = split_line(text, layout.delimiter)
            if not self._may_be_row(cells):
                if tuple(cells[: self.width]) == layout.headings:
                    self.repeats.append(self.n + len(rows))
                elif self.n + len(rows) and self._are_headings(cells):
                    raise IngestError(
                        f"{self.name}, line {line}: another table begins here, with the headings"
                        f" {', '.join(cells)[:60]}; save each table in a file of its own"
                    )
                elif not (layout.units and tuple(cells[: self.width]) == layout.units):
                    self.text.append((line, text.strip()))
                continue
            self._note(self.n + len(rows))
            rows.append(self._row(line, cells))
            numbers.append(line)
        if rows:
            columns = list(np.array(rows, np.float64).T.copy())
            self._append(columns, np.array(numbers, np.int64))

    def _may_be_row(self, cells: Sequence[str]) -> bool:
        """Return whether a line belongs to the numbers: ``Vd (V),-0.3`` does not."""
        if is_row(cells, self.layout):
            return True
        decimal = self.layout.decimal
        first = next((c for c, one in zip(cells, self.numeric, strict=False) if one), "")
        begins = to_number(first, decimal) is not None
        return begins and any(is_number(cell, decimal) for cell in cells)

    def _are_headings(self, cells: Sequence[str]) -> bool:
        numbers = any(is_number(cell, self.layout.decimal) for cell in cells)
        return len(cells) > 1 and not numbers and n_known(cells) > 0

    def _row(self, line: int, cells: Sequence[str]) -> list[float]:
        layout = self.layout
        if layout.split_decimals:
            ways = join_decimals(cells, self.width)
            if len(ways) > 1:
                one, other = (" | ".join(way) for way in ways)
                raise IngestError(
                    f"{self.name}, line {line}: with commas between and in numbers it can be read"
                    f" as {one} or {other}; save it with semicolons between"
                )
            cells = ways[0] if ways else cells
        if any(cells[self.width :]):
            hint = ""
            if layout.delimiter == ",":
                hint = "; are the commas in its numbers? then save it with semicolons between"
            raise IngestError(
                f"{self.name}, line {line}: {len(cells)} cells under {self.width} headings: which"
                f" belongs where cannot be known{hint}"
            )
        if len(cells) < self.width:
            self.n_short += 1
            self.first_short = self.first_short or line
            self.last_short = line
        row = []
        for i in range(self.width):
            cell = cells[i] if i < len(cells) else ""
            value = to_number(cell, layout.decimal)
            if value is None or (cell and math.isnan(value)):
                self.no_numbers[i] += 1
                self.first_no_number.setdefault(i, (line, cell))
            row.append(math.nan if value is None else value)
        return row
