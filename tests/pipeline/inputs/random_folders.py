"""Random folders as the instrument, its users and accidents make them, and what is in each.

Nothing here asks the code that is tested: what a folder holds is known from its making.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

OVERFLOW = ("9.91E+37", "-9.9e37", "9.9E37")


@dataclass
class Sheet:
    """One CSV file, and what of it may be expected back.

    Attributes
    ----------
    name, kind
        The file, and the kind of its steps; ``""`` where nobody can know.
    headings, values
        One column each; NaN for what is no number.
    words
        Texts that have to be in a warning that names the file.
    lost
        The file as a whole may be left out, if that is said.
    """

    name: str
    kind: str
    headings: list[str]
    values: list[list[float]]
    words: list[str] = field(default_factory=list)
    lost: bool = False
    text: str = ""


@dataclass
class Folder:
    """One test."""

    path: Path
    sheets: list[Sheet]
    status: str
    info: dict[str, Any]


class Maker:
    """Makes one folder from a seed."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.seed = seed

    def make(self, where: Path) -> Folder:
        path = where / f"test_{self.seed:05d}"
        path.mkdir(parents=True)
        status = self.one_of("completed", "completed", "stopped", "in_progress")
        sheets, entries = [], []
        n = int(self.rng.integers(1, 6))
        for number in range(1, n + 1):
            sheet, entry = self.step(number, last=number == n, running=status == "in_progress")
            sheets.append(sheet)
            if entry is not None:
                entries.append(entry)
        info = {
            "test_id": f"test_{self.seed:05d}",
            "chip_id": self.one_of("#1", "芯片/7", "a b"),
            "device_number": self.one_of("1", 2),
            "description": self.one_of("d", "稳定性", ""),
            "status": status,
            "metadata": {"operator": "x", "raw_params": {"deep": [1, 2]}},
            "steps": entries,
        }
        encoding = self.one_of("utf-8", "utf-8-sig", "gbk")
        name = "test_info_temp.json" if status == "in_progress" else "test_info.json"
        text = json.dumps(info, ensure_ascii=self.chance(0.5), indent=self.one_of(None, 4))
        (path / name).write_bytes(text.encode(encoding))
        if self.chance(0.3):
            (path / "workflow.json").write_text("[]")
        for sheet in sheets:
            if sheet.text:
                (path / sheet.name).write_bytes(sheet.text.encode(encoding))
        return Folder(path, sheets, status, info)

    def step(self, number: int, *, last: bool, running: bool) -> tuple[Sheet, Any]:
        what = self.one_of("transfer", "transient", "output", "impedance", "cv", "eis", "loop")
        growing = last and running
        if growing and what in ("cv", "eis", "loop"):
            what = "transient"
        word = {"transfer": self.one_of("transfer", "Transfer")}.get(what, what)
        sheet = self.sheet(f"{number}_{what}.csv", what)
        entry = {
            "type": word,
            "data_file": self.one_of(sheet.name, "C:\\lab\\" + sheet.name),
            "reason": self.one_of("completed", "stopped"),
            "parameters": {
                "timeStep": 1,
                "drainVoltage": -600,
                "list": [1, 2],
                "nested": {"a": 1, "b": None},
            },
            "workflow_info": {"step_index": number - 1, "path": [0]},
        }
        if what in ("cv", "eis", "loop"):
            sheet.words.append(f"step {number} ({word})")
        if what == "loop":
            sheet.text = ""
            return sheet, entry
        self.write(sheet, growing=growing)
        if growing:
            sheet.words.append("not described yet")
            return sheet, None
        return sheet, entry

    def sheet(self, name: str, what: str) -> Sheet:
        n = int(self.rng.integers(4, 40))
        current = [f"{x:g}" for x in 1e-5 * self.rng.standard_normal(6 * n)]
        if what in ("transfer", "cv"):
            x = self.sweep(n)
            heads, columns = [self.one_of("Vg", "gate_voltage", "Vgs (V)"), "Id"], [x, current]
            kind = "transfer"
        elif what == "transient":
            heads, columns = ["Time", "Id"], [[f"{i / 1000:.3f}" for i in range(n)], current]
            kind = "transient"
        elif what == "impedance":
            heads = ["frequency", "Z_real", "Z_imag"]
            columns = [[f"{10 ** (5 - 4 * i / n):.5g}" for i in range(n)], current, current[::-1]]
            kind = "impedance"
        elif what == "output":
            gates = sorted(self.rng.choice(9, int(self.rng.integers(1, 5)), replace=False))
            heads = ["Vd", *(f"Id(Vg={100 * (gate - 4)}mV)" for gate in gates)]
            columns = [[f"{-0.02 * i:.3f}" for i in range(n)]]
            columns += [list(self.rng.permutation(current)) for _ in gates]
            kind = "output"
            if self.chance(0.4):
                # Stopped: the last curves have fewer points, or none.
                stop = int(self.rng.integers(0, n))
                columns[-1] = [*columns[-1][:stop], *[""] * (n - stop)]
        else:
            heads, columns, kind = ["f", "Z"], [current, current], ""
        n_rows = len(columns[0])
        columns = [list(column[:n_rows]) for column in columns]
        for heading in ("Ig", "Vd", "Vg", "Time", "T (K)", "备注", "index", "Id", "Temp [°C]"):
            present = {"Vgs (V)": "Vg", "gate_voltage": "Vg"}.get(heads[0], heads[0])
            if self.chance(0.15) and heading != present and kind:
                if kind == "output" and heading in ("Id", "Vg", "Time"):
                    continue
                heads.append(heading)
                cells = [f"{x:.4f}" for x in self.rng.uniform(-1, 1, n_rows)]
                if heading == "备注":
                    cells = [self.one_of("好", "ok") for _ in cells]
                if heading in ("Vg", "Vd"):
                    # Another level is another curve, which is not the question here.
                    cells = ["0.1000"] * n_rows
                if heading == "Time":
                    cells = [f"{0.05 * i:.2f}" for i in range(n_rows)]
                columns.append(cells)
        sheet = Sheet(name, kind, heads, [])
        sheet.values = [[_number(cell) for cell in column] for column in columns]
        self.cells = columns
        return sheet

    def sweep(self, n: int) -> list[str]:
        there = np.linspace(-0.4, 0.8, n)
        loop = np.r_[there, there[-2::-1]] if self.chance(0.7) else there
        return [f"{x:.3f}" for x in np.tile(loop, self.one_of(1, 1, 2, 3))]

    def write(self, sheet: Sheet, *, growing: bool) -> None:
        """Write the text, with accidents."""
        columns, n = self.cells, len(self.cells[0])
        wrong = 0
        if self.chance(0.3):
            for _ in range(int(self.rng.integers(1, 4))):
                # Not in the last row, which may be cut.
                i, k = int(self.rng.integers(len(columns))), int(self.rng.integers(n - 1))
                if sheet.headings[i] == "备注" or math.isnan(sheet.values[i][k]):
                    continue
                cell = self.one_of("", "OVLD", "abc", "1_0", *OVERFLOW)
                columns[i][k] = cell
                sheet.values[i][k] = math.nan
                if cell in OVERFLOW:
                    sheet.words.append("beyond the instrument's range")
                else:
                    wrong += 1
        rows = [list(cells) for cells in zip(*columns, strict=True)]
        # A curve that ends early has empty cells, too: those above its end are named.
        if wrong and sheet.kind != "output":
            sheet.words.append("not a number")
        if self.chance(0.1):
            k = int(self.rng.integers(n - 1))
            if sheet.kind != "output" and "beyond the instrument's range" not in sheet.words:
                sheet.words.append("not a number")
                rows[k] = rows[k][:1]
                for column in sheet.values[1:]:
                    column[k] = math.nan
        mark, point = ",", "."
        if self.chance(0.1):
            mark, point = ";", ","
        elif self.chance(0.1):
            # A spreadsheet of a country with decimal commas: said, or refused.
            point = ","
            sheet.lost = True
        if self.chance(0.05):
            rows[int(self.rng.integers(n - 1))].append("0.5")
            sheet.lost = True
        lines = [mark.join(cell.replace(".", point) for cell in row) for row in rows]
        if self.chance(0.1):
            lines.insert(int(self.rng.integers(n)), "")
        cut = growing or self.chance(0.1)
        if cut:
            # Within the last cell but one, so that a cell is missing.
            lines[-1] = mark.join(lines[-1].split(mark)[:-1])
            if not lines[-1].strip():
                lines[-1] = "0"
            sheet.words.append("the last line")
            for column in sheet.values:
                column.pop()
        end = self.one_of("\n", "\r\n")
        text = end.join([mark.join(sheet.headings), *lines])
        sheet.text = text if cut or self.chance(0.3) else text + end
        # Without a point there is no step.
        sheet.lost = sheet.lost or all(np.isnan(column).all() for column in sheet.values[1:])

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def one_of(self, *options: Any) -> Any:
        return options[int(self.rng.integers(len(options)))]


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan
