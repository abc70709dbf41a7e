"""Text that spreadsheets show and do not run."""

from __future__ import annotations

import re
from typing import Any

# Also in the width of Chinese and Japanese characters, which spreadsheets take for the same.
_BEGINS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
# Where a spreadsheet of another country lets the next cell begin, quotes or not.
_SEPARATORS = re.compile(r"([;\t\r\n])")


def plain_cell(value: Any) -> Any:
    """Return a value for a table that is sent on; an apostrophe keeps text from being a formula.

    >>> plain_cell("=1+1"), plain_cell("-1.5"), plain_cell("chip 3"), plain_cell(-1)
    ("'=1+1", '-1.5', 'chip 3', -1)
    >>> plain_cell("a;=1+1")
    "a;'=1+1"
    """
    if not isinstance(value, str):
        return value
    text = "".join(f"'{part}" if _runs(part) else part for part in _SEPARATORS.split(value))
    return f"'{text}" if text.startswith(("\t", "\r", "\n")) else text


def _runs(text: str) -> bool:
    if not text.lstrip().startswith(_BEGINS):
        return False
    try:
        float(text)
    except ValueError:
        return True
    return False
