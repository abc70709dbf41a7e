"""Split the lines of a table into cells, and turn cells into numbers."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence

from oectflow.pipeline.inputs.readers.marks import is_overflow_word

_NUMBER = {
    ".": re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eEdD][+-]?\d+)?"),
    ",": re.compile(r"[+-]?(?:\d+|\d*,\d+)(?:[eEdD][+-]?\d+)?"),
}
# A decimal comma, and the exponent of Fortran (1D-3).
_TO_PYTHON = str.maketrans(",dD", ".ee")
_COMMENT = re.compile(r"\s*(?:#|%|//)")
_BEGIN = re.compile(r"[-+]?\w?[-+]?[.,;]*\d")
_WHOLE = re.compile(r"[+-]?\d+")
_DECIMALS = re.compile(r"\d+(?:[eE][+-]?\d+)?")
_SPLIT_EXPONENT = re.compile(r"\d+[eE][+-]?\d+")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(?:,\d{3})+")


def is_comment(line: str) -> bool:
    """Return whether a line is marked as a comment."""
    return _COMMENT.match(line) is not None


def without_mark(line: str) -> str:
    """Return a comment without its mark."""
    return _COMMENT.sub("", line, count=1).lstrip("#%/ \t").rstrip()


def split_line(line: str, delimiter: str) -> list[str]:
    """Return the cells of a line, without blanks around them.

    Parameters
    ----------
    line
        Without its end.
    delimiter
        ``" "`` means any number of blanks and tabs.
    """
    if delimiter == " ":
        return line.split()
    if '"' in line:
        try:
            cells = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
        except csv.Error:  # A quote inside a cell that has none around it.
            cells = line.split(delimiter)
        return [cell.strip() for cell in cells]
    return [cell.strip() for cell in line.split(delimiter)]


def to_number(cell: str, decimal: str) -> float | None:
    """Return the number in a cell: NaN for an empty one or a mark of overflow, None for text."""
    if _NUMBER[decimal].fullmatch(cell):
        return float(cell.translate(_TO_PYTHON))
    return math.nan if not cell or is_overflow_word(cell) else None


def is_number(cell: str, decimal: str) -> bool:
    """Return whether a cell holds a number."""
    return _NUMBER[decimal].fullmatch(cell) is not None


def begins_like_number(cells: Sequence[str]) -> bool:
    """Return whether a line may be a damaged row of numbers."""
    return any(_BEGIN.match(cell) for cell in cells)


def may_be_thousands(cells: Sequence[str]) -> bool:
    """Return whether all commas in numbers may separate thousands as well as decimals."""
    with_comma = [cell for cell in cells if "," in cell]
    return bool(with_comma) and all(_THOUSANDS.fullmatch(cell) for cell in with_comma)


def join_decimals(cells: Sequence[str], n: int) -> list[list[str]]:
    """Return all ways to join cells into ``n`` numbers that were split at their decimal commas.

    At most two are returned; a single one is certain.
    """
    ways: list[list[str]] = []

    def join(start: int, numbers: list[str]) -> None:
        left, lacking = len(cells) - start, n - len(numbers)
        if len(ways) > 1 or not lacking <= left <= 2 * lacking:
            return
        if not lacking:
            ways.append(numbers)
            return
        first = cells[start]
        if left > 1 and _WHOLE.fullmatch(first) and _DECIMALS.fullmatch(cells[start + 1]):
            join(start + 2, [*numbers, f"{first},{cells[start + 1]}"])
        if is_number(first, "."):
            join(start + 1, [*numbers, first])

    join(0, [])
    return ways


def shows_split_decimals(cells: Sequence[str]) -> bool:
    """Return whether cells are halves of numbers: no integer looks like ``0250``."""
    return any(
        (len(cell) > 1 and cell[0] == "0" and cell.isdigit()) or _SPLIT_EXPONENT.fullmatch(cell)
        for cell in cells
    )
