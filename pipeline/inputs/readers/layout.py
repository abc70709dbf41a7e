"""Find the table in a text file, and how its cells are written.

The beginning of the file is tried with every delimiter and decimal mark; the right one makes most
cells numbers.  If the numbers can be read in two ways, neither is taken.
"""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from oectflow.errors import IngestError
from oectflow.pipeline.inputs.readers.cells import (
    begins_like_number,
    is_comment,
    is_number,
    join_decimals,
    may_be_thousands,
    shows_split_decimals,
    split_line,
    to_number,
    without_mark,
)
from oectflow.pipeline.inputs.readers.encodings import find_encoding
from oectflow.pipeline.inputs.readers.files import file_head
from oectflow.pipeline.inputs.readers.headings import read_heading, si_scale
from oectflow.pipeline.inputs.readers.regular_file import check_regular
from oectflow.pipeline.inputs.readers.schema import Schema

#: Headings and the first numbers are sought in this many bytes.
_HEAD_BYTES = 256 * 1024
_SAMPLE_LINES = 100
# On a tie, the first counts: tabs keep empty cells apart, blanks do not.
_DELIMITERS = ("\t", ";", "|", ",", " ")
#: Headings stand at most this many lines above the numbers, with units and comments in between.
_ABOVE = 5
_VOLTAGE = re.compile(r"[-+]?[\d.,]+\s*m?V")
_UNITS = ("V", "A", "s", "Hz", "Ω", "rad")
_OTHER_UNITS = {"%", "°c", "c", "k", "s", "ms", "us", "w", "a.u.", "-", "1", "m", "mm", "f", "nf"}


@dataclass(frozen=True)
class Layout:
    """How a text file is written.

    Attributes
    ----------
    encoding, delimiter, decimal
        The delimiter ``" "`` means any number of blanks.
    heading_line, unit_line
        Counted from 1; 0 if there is none.
    first_line
        First line of the numbers.
    headings, units
        One per column; no units where they have no line.
    metadata
        The text above the headings.
    numeric
        Which columns hold numbers.
    split_decimals
        Decimal commas split the numbers, because the delimiter is a comma as well.
    rows
        The first rows, as text.
    """

    encoding: str
    delimiter: str
    decimal: str
    heading_line: int
    unit_line: int
    first_line: int
    headings: tuple[str, ...]
    units: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    numeric: tuple[bool, ...] = ()
    split_decimals: bool = False
    rows: tuple[tuple[str, ...], ...] = ()


def find_layout(path: Path, schema: Schema | None = None) -> Layout:
    """Find out how a text file is written.

    Parameters
    ----------
    path
        The file.
    schema
        What is known about the file.

    Raises
    ------
    IngestError
        The file is no text, has no table of numbers or no headings, or can be read in two ways.
    """
    schema = schema or Schema()
    size = check_regular(path)
    head = file_head(path, _HEAD_BYTES)
    encoding = schema.encoding or find_encoding(head)
    if not encoding:
        raise IngestError(f"{path.name}: not a text file (it holds bytes that no text has)")
    text = _text(path, head, encoding)
    if schema == Schema() and (plain := _plain_layout(text, encoding)):
        return plain
    lines = _lines(text, whole=size <= len(head))
    body = [line for line in lines if line.strip() and not is_comment(line)]
    delimiter, decimal = _find_marks(path, body, schema)
    rows = [split_line(line, delimiter) for line in body[:: max(1, len(body) // _SAMPLE_LINES)]]
    rows = [row for row in rows if _share(row, decimal) >= 0.5]
    width = Counter(map(len, rows)).most_common(1)[0][0]
    numeric = _numeric([row for row in rows if len(row) == width], decimal)
    start = _start(lines, delimiter, decimal, numeric)
    layout = Layout(encoding, delimiter, decimal, 0, 0, start + 1, (), numeric=numeric)
    layout = _with_headings(path, layout, lines, start, width, schema)
    start = layout.first_line - 1
    first = [split_line(line, delimiter) for line in filter(_is_row, lines[start:][:_SAMPLE_LINES])]
    return _with_split_decimals(replace(layout, rows=tuple(map(tuple, first[:3]))), first)


def with_plain_minus(text: str) -> str:
    """Return a text with typographic minus signs replaced by hyphens."""
    return text.replace("\u2212", "-")


def metadata_of(lines: Sequence[tuple[int, str]]) -> dict[str, str]:
    """Return the contents of lines of text: name -> text, or ``line 3`` -> text without a name.

    Parameters
    ----------
    lines
        Line, from 1, and its text.
    """
    found: dict[str, str] = {}
    for line, text in lines:
        text = (without_mark(text) if is_comment(text) else text).strip(",;| \t")
        match = re.match(r"([^:=;,|\t]{1,60}?)\s*[:=;,|\t]\s*(.*)", text)
        key = match[1].strip() if match else ""
        if match and key and key not in found:
            found[key] = match[2].strip(",;| \t")
        elif text:
            found[f"line {line}"] = text
    return found


def n_known(cells: Sequence[str]) -> int:
    """Return the number of known headings."""
    return sum(read_heading(cell).quantity is not None for cell in cells)


def is_row(cells: Sequence[str], layout: Layout) -> bool:
    """Return whether cells are a row of the table: numbers where its columns hold numbers."""
    return _is_data(cells, layout.decimal, layout.numeric)


def _text(path: Path, head: bytes, encoding: str) -> str:
    try:
        return with_plain_minus(codecs.getincrementaldecoder(encoding)().decode(head, final=False))
    except UnicodeError as error:
        raise IngestError(f"{path.name}: is not {encoding} text ({error})") from None


def _plain_layout(text: str, encoding: str) -> Layout | None:
    """Return the layout that most files have: known headings, and numbers from the second line."""
    lines = [line.rstrip("\r") for line in text.split("\n", 4)[:4]]
    delimiter = next((mark for mark in ("\t", ";", ",") if mark in lines[0]), "")
    if len(lines) < 4 or not delimiter or any('"' in line for line in lines):
        return None
    headings, *rows = (split_line(line, delimiter) for line in lines)
    plain = all(
        len(row) == len(headings) and all(is_number(cell, ".") for cell in row) for row in rows
    )
    if not plain or any(read_heading(heading).quantity is None for heading in headings):
        return None
    return Layout(
        encoding,
        delimiter,
        ".",
        1,
        0,
        2,
        tuple(headings),
        numeric=(True,) * len(headings),
        rows=tuple(map(tuple, rows)),
    )


def _lines(text: str, *, whole: bool) -> list[str]:
    # Not splitlines, which also splits at characters inside lines.
    lines = re.split(r"\r\n|\n|\r", text)
    return lines if whole or len(lines) < 2 else lines[:-1]


def _is_row(line: str) -> bool:
    return bool(line.strip()) and not is_comment(line)


def _find_marks(path: Path, body: Sequence[str], schema: Schema) -> tuple[str, str]:
    sample = body[:: max(1, len(body) // _SAMPLE_LINES)]
    best, marks = 0.0, ("", "")
    for delimiter in [schema.delimiter] if schema.delimiter else _DELIMITERS:
        if delimiter != " " and not any(delimiter in line for line in sample):
            continue
        rows = [split_line(line, delimiter) for line in sample]
        for decimal in [schema.decimal] if schema.decimal else (".", ","):
            score = sum(_share(row, decimal) for row in rows)
            if score > best + 1e-9:
                best, marks = score, (delimiter, decimal)
    if not marks[0]:
        raise IngestError(f"{path.name}: no table of numbers in it")
    delimiter, decimal = marks
    cells = [cell for line in sample for cell in split_line(line, delimiter)]
    if (
        decimal == ","
        and not schema.decimal
        and may_be_thousands([cell for cell in cells if is_number(cell, ",")])
    ):
        seen = next(cell for cell in cells if "," in cell and is_number(cell, ","))
        raise IngestError(
            f"{path.name}: the comma in {seen!r} may be a decimal comma or divide thousands; a"
            " schema can say which, decimal: ','"
        )
    return marks


def _share(row: Sequence[str], decimal: str) -> float:
    """Return the share of numbers among the cells of a row; 0 if it cannot be a row."""
    filled = [cell for cell in row if cell]
    values = [to_number(cell, decimal) for cell in filled]
    numbers = sum(value is not None for value in values)
    certain = sum(is_number(cell, decimal) for cell in filled)
    return numbers / len(filled) if len(row) > 1 and numbers > 1 and certain else 0.0


def _numeric(rows: Sequence[Sequence[str]], decimal: str) -> tuple[bool, ...]:
    columns = zip(*rows, strict=True)
    return tuple(
        sum(to_number(cell, decimal) is not None for cell in column) >= 0.8 * len(column)
        for column in columns
    )


def _is_data(cells: Sequence[str], decimal: str, numeric: Sequence[bool]) -> bool:
    seen = [cell for cell, is_numeric in zip(cells, numeric, strict=False) if is_numeric]
    # A cell may be damaged.  A line of headings has no number at all, or none in front.
    numbers = sum(is_number(cell, decimal) for cell in seen)
    text = sum(to_number(cell, decimal) is None for cell in seen)
    return len(cells) > 1 and numbers > text and to_number(seen[0], decimal) is not None


def _start(lines: Sequence[str], delimiter: str, decimal: str, numeric: Sequence[bool]) -> int:
    """Return the index of the first line of numbers that is followed by another or by the end."""
    candidate = first = -1
    for i, line in enumerate(lines):
        if not _is_row(line):
            continue
        if not _is_data(split_line(line, delimiter), decimal, numeric):
            candidate = -1
        elif candidate >= 0:
            return candidate
        else:
            candidate = i
            first = i if first < 0 else first
    return candidate if candidate >= 0 else first


def _with_headings(
    path: Path, layout: Layout, lines: Sequence[str], start: int, width: int, schema: Schema
) -> Layout:
    numbered = [(i, line) for i, line in enumerate(lines[:start]) if line.strip()]
    plain = [(i, line) for i, line in numbered if not is_comment(line)][-_ABOVE:]
    rows = {i: _heading_cells(line, layout.delimiter, width) for i, line in plain}
    chosen = -1
    if schema.heading_line is not None:
        chosen = schema.heading_line - 1
        if chosen >= start:
            raise IngestError(
                f"{path.name}: heading_line is {chosen + 1}, the numbers begin in line {start + 1}"
            )
        if chosen >= 0:
            rows[chosen] = _heading_cells(lines[chosen], layout.delimiter, width)
    else:
        chosen = _best_heading(rows)
        if chosen < 0:
            # In files of NumPy, the headings are the last comment.
            comments = [(i, without_mark(line)) for i, line in numbered if is_comment(line)]
            rows = {i: _heading_cells(text, layout.delimiter, width) for i, text in comments}
            rows = {i: cells for i, cells in rows.items() if len(cells) == width}
            chosen = max((i for i in rows if n_known(rows[i])), default=-1)
    headings = tuple(rows[chosen]) if chosen >= 0 else ("",) * width
    if chosen < 0 and not schema.columns and schema.heading_line is None:
        seen = layout.delimiter.join(split_line(lines[start], layout.delimiter))[:60]
        raise IngestError(
            f"{path.name}: no headings above the numbers, which begin in line {start + 1} with"
            f" {seen!r}; a schema can say what they are: columns: {{1: {{quantity: Vg, unit: V}},"
            " 2: {quantity: Id, unit: A}}"
        )
    units: tuple[str, ...] = ()
    unit_line = 0
    for i in sorted(i for i in rows if i > chosen >= 0):
        if not units and _are_units(rows[i]):
            units, unit_line = tuple(rows[i]), i + 1
        elif (named := _with_values(headings, rows[i])) != headings:
            headings = named
        elif begins_like_number(rows[i]):
            # Damaged rows are named while reading.
            start = i
            break
    units = (units + ("",) * len(headings))[: len(headings)] if units else ()
    numbered = [(i, line) for i, line in numbered if i < start]
    above = [(i + 1, line) for i, line in numbered if i not in (chosen, unit_line - 1)]
    return replace(
        layout,
        first_line=start + 1,
        heading_line=chosen + 1,
        unit_line=unit_line,
        headings=headings,
        units=units,
        metadata=metadata_of(above),
    )


def _with_values(headings: tuple[str, ...], cells: Sequence[str]) -> tuple[str, ...]:
    """Return headings joined with the voltages below them: ``Vg=-0.2 V``, or ``-0.2 V``."""
    first = read_heading(headings[0]).quantity
    other = {"Vd": "Vg", "Vg": "Vd"}.get(first or "", "")
    values = [f"{other}={cell}" if _VOLTAGE.fullmatch(cell) else cell for cell in cells]
    if sum(bool(read_heading(value).values) for value in values) < 2:
        return headings
    pairs = zip(headings, [*values, *[""] * len(headings)], strict=False)
    return tuple(f"{name} ({value})" if "=" in value else name for name, value in pairs)


def _heading_cells(line: str, delimiter: str, width: int) -> list[str]:
    if delimiter != " ":
        cells = split_line(line, delimiter)
        while len(cells) > width and not cells[-1]:
            cells.pop()
        return cells
    # "Vg (V)  Id (A)" has blanks inside its headings.
    ways = [re.split(pattern, line.strip()) for pattern in (r"\s{2,}|\t", r"\s+(?![(\[/])", r"\s+")]
    return next((cells for cells in ways if len(cells) == width), ways[-1])


def _best_heading(rows: Mapping[int, Sequence[str]]) -> int:
    """Return the line with the most known headings; of several, the lowest."""
    known = {i: n_known(cells) for i, cells in rows.items()}
    best = max(known.values(), default=0)
    if best:
        return max(i for i, n in known.items() if n == best)
    several = [i for i, cells in rows.items() if sum(map(bool, cells)) > 1]
    names = [i for i in several if not _are_units(rows[i])]
    return max(names or several, default=-1)


def _are_units(cells: Sequence[str]) -> bool:
    filled = [cell.strip("()[]{} ") for cell in cells if cell]
    return bool(filled) and all(
        not cell or cell.casefold() in _OTHER_UNITS or any(si_scale(cell, si) for si in _UNITS)
        for cell in filled
    )


def _with_split_decimals(layout: Layout, rows: Sequence[Sequence[str]]) -> Layout:
    """Return the layout for numbers that are split at their decimal commas, if they are."""
    n = len(layout.headings)
    if layout.delimiter != "," or not rows or all(len(row) <= n for row in rows):
        return layout
    ways = [join_decimals(row, n) for row in rows if len(row) > n]
    whole = [row for row in rows if len(row) >= n]
    if all(len(found) == 1 for found in ways) and any(map(shows_split_decimals, whole)):
        return replace(layout, decimal=",", split_decimals=True, numeric=(True,) * n)
    return layout
