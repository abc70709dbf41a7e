"""Workbooks: ``.xls``, ``.xlsx``, ``.xlsm``, ``.ods``, of people and of the Keithley 4200."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from oectflow.errors import IngestError
from oectflow.measurement import Measurement, Step
from oectflow.pipeline.inputs.readers.grid import tables_in
from oectflow.pipeline.inputs.readers.keithley4200 import Run, is_settings, key_of, runs_in
from oectflow.pipeline.inputs.readers.reader import Reading, Recognition
from oectflow.pipeline.inputs.readers.settings import fill_in, geometry
from oectflow.pipeline.inputs.readers.tables import Table, steps_from_table
from oectflow.pipeline.inputs.readers.workbook import Sheet, read_sheets, workbook_kind


class ExcelReader:
    """Reads one workbook: an experiment whose steps are the tables of its sheets, in their order.

    In a workbook of the Keithley 4200 the sheet ``Settings`` says what each run has set.
    """

    name = "excel"
    title = "workbooks (.xls, .xlsx, .xlsm, .ods), also of the Keithley 4200"

    def recognises(self, path: Path) -> Recognition:
        """Look at how the file begins, not at its name."""
        kind = workbook_kind(path)
        if kind:
            return Recognition(0.9, f"it is packed as a workbook (.{kind})")
        return Recognition(0.0, "it is no workbook: neither a zip of sheets nor an old .xls")

    def read(self, path: Path) -> Reading:
        """Read the tables of all sheets.

        Raises
        ------
        IngestError
            It is damaged or too large, or no sheet holds a known kind of measurement.
        """
        sheets, warnings = read_sheets(path)
        settings = next((sheet for sheet in sheets if is_settings(sheet.name, sheet.rows)), None)
        runs = runs_in(settings.rows) if settings is not None else {}
        steps: list[Step] = []
        sample: dict[str, Any] = {}
        for place, sheet in enumerate(sheets):
            if sheet is settings:
                continue
            label = f"sheet {sheet.name!r}"
            if runs and sheet.name.strip().lower() == "calc":
                warnings.append(f"{label} left out: what the instrument worked out of its data")
                continue
            warnings += [f"{label} is hidden; it was read"] if sheet.hidden else []
            found, beside, words = _read_sheet(sheet, path, _run_of(sheet.name, runs))
            steps += [replace(s, values={**s.values, "file_step": float(place)}) for s in found]
            warnings += [f"{label}: {word}" for word in words]
            for name, value in beside.items():
                if sample.setdefault(name, value) != value:
                    warnings.append(
                        f"{label}: {name} is {value:g} m, {sample[name]:g} m before; that counts"
                    )
        if not steps:
            reasons = "; ".join(warnings) or "it has no sheets"
            raise IngestError(f"{path}: nothing to read in this workbook: {reasons}")
        if len(steps) > 1:
            steps = [
                replace(step, values={**step.values, "curve": float(curve)})
                for curve, step in enumerate(steps, 1)
            ]
        attributes: dict[str, Any] = {"test_id": path.stem}
        if runs:
            attributes["instrument"] = "Keithley 4200"
            attributes["description"] = next((run.test for run in runs.values() if run.test), "")
        measurement = Measurement(
            attributes, steps, sample, warnings=tuple(dict.fromkeys(warnings))
        )
        return Reading([measurement], [path])

    def tables(self, path: Path) -> list[Table]:
        """Return the tables of all sheets."""
        sheets, _ = read_sheets(path)
        return [
            table
            for sheet in sheets
            if not is_settings(sheet.name, sheet.rows)
            for table in tables_in(sheet.rows, sheet.first_row, sheet.name)[0]
        ]


def _read_sheet(
    sheet: Sheet, path: Path, run: Run
) -> tuple[list[Step], Mapping[str, Any], Sequence[str]]:
    tables, words = tables_in(sheet.rows, sheet.first_row, sheet.name)
    warnings = list(words)
    steps: list[Step] = []
    sample: dict[str, Any] = {}
    for table in tables:
        info = {
            "data_file": f"{path.name}[{sheet.name}]",
            "parameters": {**run.parameters, **table.metadata},
        }
        try:
            found, flaws = steps_from_table(table, kind=run.kind, info=info)
        except IngestError as error:
            warnings.append(f"row {table.first_line}: left out: {error}")
            continue
        warnings += flaws
        for curve, step in enumerate(found):
            steps.append(fill_in(step, run.voltages(curve, len(found))))
        beside, flaws = geometry(table.metadata)
        sample = {**beside, **sample}
        warnings += flaws
    if not tables and not words:
        warnings.append("left out: no table of numbers under headings")
    return steps, sample, warnings


def _run_of(sheet: str, runs: Mapping[str, Run]) -> Run:
    return runs.get(key_of(sheet), Run())


READER = ExcelReader()
