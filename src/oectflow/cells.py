"""Text that spreadsheets show and do not run."""

from __future__ import annotations

from typing import Any

_BEGINS = ("=", "+", "-", "@", "\t", "\r")


def plain_cell(value: Any) -> Any:
    """Return a value for a table that is sent on; an apostrophe keeps text from being a formula.

    >>> plain_cell("=1+1"), plain_cell("-1.5"), plain_cell("chip 3"), plain_cell(-1)
    ("'=1+1", '-1.5', 'chip 3', -1)
    """
    if not isinstance(value, str) or not value.lstrip(" ").startswith(_BEGINS):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value
