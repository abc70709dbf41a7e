"""What a workbook of the Keithley 4200 (KITE, Clarius) says in its sheet ``Settings``.

The sheet has one part per run, under its name between two lines of ``=``: that of the run's
sheet, ``Run19``; in KITE ``Append 1`` for ``Append1``, and ``Initial Run`` for ``Data``.  With one
run there may be one part without a name.  Rows are a name and a cell per terminal:
``Device Terminal``, and
``Forcing Function`` and ``Start/Level`` in KITE, ``Operation Mode`` and ``Start/Bias`` in Clarius.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from oectflow.pipeline.inputs.readers.settings import number

_TERMINALS = {"gate": "Vg", "drain": "Vd"}
_KINDS = {"Vg": "transfer", "Vd": "output"}
_FUNCTION = ("Forcing Function", "Operation Mode")
_NAME = re.compile(r"initial run|append\s*\d+", re.IGNORECASE)
_START = ("Start/Level", "Start/Bias")


@dataclass
class Run:
    """The settings of one run.

    Attributes
    ----------
    test
        Name of the test.
    terminals
        ``Gate``, ``Drain``, … in the order of the cells of each row.
    rows
        Name -> a cell per terminal.
    """

    test: str = ""
    terminals: Sequence[str] = ()
    rows: dict[str, Sequence[str]] = field(default_factory=dict)

    @property
    def parameters(self) -> Mapping[str, str]:
        """All settings as text."""
        named = {"Test Name": self.test, "Device Terminal": ", ".join(self.terminals)}
        rows = {name: ", ".join(cells).rstrip(", ") for name, cells in self.rows.items()}
        return {name: text for name, text in (named | rows).items() if text}

    @property
    def kind(self) -> str | None:
        """The kind that the one swept terminal says, None where none or several are swept."""
        swept = [voltage for voltage, function in self._functions() if "sweep" in function]
        return _KINDS[swept[0]] if len(swept) == 1 else None

    def voltages(self, curve: int, curves: int) -> dict[str, float]:
        """Return the voltages that are not swept, as set for one of several curves."""
        found: dict[str, float] = {}
        for voltage, function in self._functions():
            start = self._number(_START, voltage)
            steps = self._number(("Number of Points",), voltage)
            if "bias" in function or (curves == 1 and "step" in function):
                found[voltage] = start
            elif "step" in function and curves == steps:
                found[voltage] = start + curve * self._number(("Step",), voltage)
        return {voltage: value for voltage, value in found.items() if math.isfinite(value)}

    def _functions(self) -> list[tuple[str, str]]:
        cells = zip(self.terminals, self._row(_FUNCTION), strict=False)
        return [
            (_TERMINALS[terminal.lower()], function.lower())
            for terminal, function in cells
            if terminal.lower() in _TERMINALS
        ]

    def _row(self, names: Sequence[str]) -> Sequence[str]:
        return next((self.rows[name] for name in names if name in self.rows), ())

    def _number(self, names: Sequence[str], voltage: str) -> float:
        for terminal, cell in zip(self.terminals, self._row(names), strict=False):
            if _TERMINALS.get(terminal.lower()) == voltage:
                return number(cell)
        return math.nan


def is_settings(name: str, rows: Sequence[Sequence[object]]) -> bool:
    """Return whether a sheet holds the settings of a Keithley 4200."""
    first = {str(row[0]).strip() for row in rows if row}
    return name.strip().lower() == "settings" and bool(
        first & {"Test Name", "Device Terminal", *_FUNCTION}
    )


def runs_in(rows: Sequence[Sequence[object]]) -> dict[str, Run]:
    """Return the settings of each run by the key of its sheet, see :func:`key_of`."""
    lines = [[_text(cell) for cell in row] for row in rows]
    separators = {i for i, cells in enumerate(lines) if cells and cells[0].startswith("===")}
    runs: dict[str, Run] = {}
    current = "data"
    for i, cells in enumerate(lines):
        while cells and not cells[-1]:
            cells.pop()
        if not cells or not cells[0] or i in separators:
            continue
        label, values = cells[0], cells[1:]
        if {i - 1, i + 1} <= separators or _NAME.fullmatch(label):
            current = key_of("Data" if label.lower() == "initial run" else label)
            continue
        run = runs.setdefault(current, Run())
        if label.lower() == "test name":
            run.test = values[0] if values else ""
        elif label.lower() == "device terminal":
            run.terminals = values
        else:
            run.rows.setdefault(label, values)
    return runs


def key_of(sheet: str) -> str:
    """Return the name of a sheet without what may differ in the settings: blanks and case."""
    return "".join(sheet.split()).lower()


def _text(cell: object) -> str:
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).strip()
