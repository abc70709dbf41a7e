"""Turn the records of potentiostats into steps.

BioLogic, Gamry and PalmSens have fixed names of columns, so nothing is guessed: a table per format
says which column is which array.  A potentiostat knows a working electrode and its potential
against a reference, but no transistor.  Its current becomes ``Id``.  No file says whether its
potential is that of a gate or of a drain, so it is kept beside the arrays under its own name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oectflow.measurement import Extra, Step
from oectflow.pipeline.inputs.readers.curves import split_curves
from oectflow.pipeline.inputs.readers.headings import Heading
from oectflow.pipeline.inputs.readers.marks import interval
from oectflow.pipeline.inputs.readers.tables import Table

_SPECTRUM = ("frequency", "Z_real", "Z_imag")
_TRACE = ("time", "Id")
_MAY_HAVE = {"impedance": (*_SPECTRUM, "Vdc"), "transient": _TRACE}


@dataclass(frozen=True)
class Column:
    """A column as the program wrote it.

    Attributes
    ----------
    heading
        Its name in the file.
    values
        As written; NaN where a cell was empty or no number.
    unit
        Its unit in the file.
    array
        Name of the array, ``""`` if no kind has such an array.
    scale
        One unit of the column, in the unit of the array.
    """

    heading: str
    values: NDArray[np.float64]
    unit: str = ""
    array: str = ""
    scale: float = 1.0


def steps_of(
    columns: Sequence[Column], info: Mapping[str, Any], values: Mapping[str, float], what: str
) -> tuple[list[Step], list[str]]:
    """Return the steps in equally long columns, and what was left out or assumed.

    Rows with a frequency are a spectrum, one step per sweep.  Rows without one are a trace of time
    and current; BioLogic writes them while it waits before a spectrum.

    Parameters
    ----------
    columns
        If two columns are the same array, the first counts, and the other is kept beside it.
    info
        For :attr:`Step.info`.
    values
        Numbers of a spectrum: ``Vdc``, ``amplitude`` in V.
    what
        For warnings: ``"CURVE2"``.
    """
    found = {column.array: column for column in reversed(columns) if column.array}
    n = len(columns[0].values) if columns else 0
    parts: list[tuple[str, NDArray[np.intp], bool]] = []
    trace = np.arange(n)
    if all(name in found for name in _SPECTRUM):
        frequency = found["frequency"].values
        each = _spectra(frequency)
        parts += [("impedance", rows, len(each) > 1) for rows in each]
        trace = np.flatnonzero(~(frequency > 0))
    if len(trace) and all(name in found for name in _TRACE):
        parts.append(("transient", trace, False))
        trace = trace[:0]
    steps, warnings = [], []
    curves: dict[str, int] = {}
    for kind, rows, several in parts:
        numbers = dict(values) if kind == "impedance" else {}
        if several:
            curves[kind] = curves.get(kind, 0) + 1
            numbers |= {"curve": curves[kind], "file_position": float(rows[0])}
        steps.append(_step(kind, columns, found, rows, info, numbers))
    if len(trace):
        seen = ", ".join(column.heading for column in columns)
        warnings.append(
            f"{what}: {len(trace)} rows left out: neither time with current nor a spectrum "
            f"among its columns {seen}"
        )
    if any(step.kind == "transient" for step in steps):
        beside = [c.heading for c in columns if c.unit.startswith("V") and c.array not in _TRACE]
        if beside:
            warnings.append(
                "Id is the current of the working electrode; of which electrode of the transistor "
                f"the potential is, the file does not say: {', '.join(beside)} kept beside the "
                "arrays, as measured"
            )
    return steps, warnings


def table_of(columns: Sequence[Column], source: str) -> Table:
    """Return columns as a table whose headings are known."""
    headings = [
        Heading(column.heading, column.array or None, column.unit, column.scale)
        for column in columns
    ]
    return Table(headings, [column.values for column in columns], source=source)


def _spectra(frequency: NDArray[np.float64]) -> list[NDArray[np.intp]]:
    """Return the rows of each spectrum: a new one begins where the sweep starts again.

    Columns that number cycles do not help: EC-Lab has started a new cycle within a spectrum.
    """
    rows = np.flatnonzero(frequency > 0)
    pieces = split_curves("impedance", {"frequency": frequency[rows]}, {})
    return [rows[start:stop] for start, stop, _ in pieces if stop > start]


def _step(
    kind: str,
    columns: Sequence[Column],
    found: Mapping[str, Column],
    rows: NDArray[np.intp],
    info: Mapping[str, Any],
    values: Mapping[str, float],
) -> Step:
    arrays: dict[str, NDArray[np.float64]] = {}
    extra: dict[str, Extra] = {}
    for column in columns:
        part = column.values[rows]
        if column.array in _MAY_HAVE[kind] and found[column.array] is column:
            arrays[column.array] = part * column.scale
        elif np.isfinite(part).any():
            extra[_free_name(column.heading, extra)] = Extra(part, column.heading, column.unit)
    numbers = dict(values)
    if kind == "transient" and (step := interval(arrays["time"])) > 0:
        numbers["sampling_interval"] = step
    if "Vdc" in arrays and np.isfinite(arrays["Vdc"]).any():
        numbers.setdefault("Vdc", float(np.nanmedian(arrays["Vdc"])))
    return Step(kind, arrays, numbers, info, extra)


def _free_name(heading: str, taken: Mapping[str, Any]) -> str:
    letters = "".join(c if c.isalnum() and c.isascii() else "_" for c in heading).strip("_")
    name = letters if letters[:1].isalpha() else f"column_{letters}"
    number = 2
    unique = name
    while unique in taken:
        unique, number = f"{name}_{number}", number + 1
    return unique


def left_out(lines: Sequence[int]) -> str:
    """Return the warning for rows that lack cells."""
    shown = ", ".join(map(str, lines[:5])) + (" …" if len(lines) > 5 else "")
    return (
        f"{len(lines)} rows left out, they have fewer cells than there are headings: line {shown}"
    )
