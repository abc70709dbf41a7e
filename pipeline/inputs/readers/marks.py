"""Marks of instruments for missing numbers, and clocks that contradict each other."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

#: Instruments write 9.9E37 or 9.91E+37 for "out of range"; no measured value is this large.
_OVERFLOW = 1e30
_OVERFLOW_WORDS = frozenset(
    """
    ovld overload overflow ovf ovrflw over ol +ol -ol inf +inf -inf infinity +infinity -infinity
    1.#inf -1.#inf ∞ nan -nan 1.#qnan -1.#ind 1.#ind n/a na null none --- -- - compliance
    #n/a #num! #div/0! #value! #ref! #name? #null!
    """.split()  # noqa: SIM905
)
#: The recorded and the declared interval of a transient may differ by this share.
_INTERVAL_TOLERANCE = 0.2


def is_overflow_word(cell: str) -> bool:
    """Return whether a cell is an instrument's word for a missing number."""
    return cell.strip().casefold() in _OVERFLOW_WORDS


def without_overflow(
    array: NDArray[np.float64], name: str, line: Callable[[int], int]
) -> tuple[NDArray[np.float64], str]:
    """Return the array with NaN for the instrument's marks for out of range.

    Parameters
    ----------
    array
        As read; it is not changed.
    name
        Name of its column, for the warning.
    line
        Function that returns the line of a row.

    Returns
    -------
    The array, the same object if nothing is out of range; and a warning or ``""``.
    """
    with np.errstate(invalid="ignore"):
        out = np.abs(array) > _OVERFLOW
    if not out.any():
        return array, ""
    first = int(np.argmax(out))
    count = np.count_nonzero(out)
    more = f", the first of {count}" if count > 1 else ""
    warning = (
        f"line {line(first)}: {name} is {array[first]:g}{more}, the instrument's mark for"
        " out of range; taken as NaN"
    )
    return np.where(out, np.nan, array), warning


def doubtful_interval(time: NDArray[np.float64], declared: float) -> str:
    """Return a warning if recorded times and a declared sampling interval contradict each other.

    Parameters
    ----------
    time
        Recorded times, in s.
    declared
        Interval in the parameters, in s.
    """
    recorded = interval(time)
    if not (recorded > 0 and declared > 0):
        return ""
    ratio = recorded / declared
    if abs(ratio - 1) <= _INTERVAL_TOLERANCE:
        return ""
    return (
        f"recorded times are {recorded:.4g} s apart, the declared timeStep is {declared:.4g} s"
        f" ({ratio:.4g} times); is timeStep in ms?"
    )


def interval(time: NDArray[np.float64]) -> float:
    """Return the interval of recorded times (s): the median, or the mean if they are rounded."""
    seen = time[np.isfinite(time)]
    if len(seen) < 2:
        return math.nan
    median = float(np.median(np.diff(seen)))
    mean = float(seen[-1] - seen[0]) / (len(seen) - 1)
    # Times rounded to whole ms of a 0.5 ms interval repeat: 0, 1, 1, 2 …
    return median if median > 0 and abs(median - mean) < 0.5 * abs(mean) else mean
