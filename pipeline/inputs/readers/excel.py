"""Workbooks: ``.xls``, ``.xlsx``, ``.xlsm``, ``.ods``, of people and of the Keithley 4200."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from oectflow.errors import IngestError
from oectflow.measurement import Measurement, Step
from oectflow.pipeline.inputs.readers.grid import tables_in
from oectflow.pipeline.inputs.readers.keithley4200 import Run, is_settings, key_of, runs_in
from oectflow.pipeline.inputs.readers.reader import Reading, Recognition
from oectflow.pipeline.inputs.readers.settings import fill_in, geometry, identity
from oectflow.pipeline.inputs.readers.tables import Table, steps_from_table
from oectflow.pipeline.inputs.readers.workbook import Sheet, read_sheets, workbook_kind

_IN_NAME = re.compile(r"\b([WLd])\s*=?\s*(\d+\.?\d*)\s*([nuµm]m)\b")


@dataclass(frozen=True)
class _Content:
    """The contents of one sheet."""

    steps: Sequence[Step]
    sample: Mapping[str, Any]
    identity: Mapping[str, str]

    @property
    def device(self) -> tuple[tuple[str, Any], ...]:
        """The device that the sheet names, empty if it names none."""
        return tuple(sorted({**self.sample, **self.identity}.items()))


class ExcelReader:
    """Reads one workbook: an experiment whose steps are the tables of its sheets, in their order.

    If the sheets name different devices, each device is an experiment.  In a workbook of the
    Keithley 4200, the sheet ``Settings`` contains the settings of each run.
    """

    name = "excel"
    title = "workbooks (.xls, .xlsx, .xlsm, .ods), also of the Keithley 4200"

    def recognises(self, path: Path) -> Recognition:
        """Look at the first bytes of the file, not at its name."""
        kind = workbook_kind(path)
        if kind:
            return Recognition(0.9, f"it is packed as a workbook (.{kind})")
        return Recognition(0.0, "it is no workbook: neither a zip of sheets nor an old .xls")

    def read(self, path: Path) -> Reading:
        """Read the tables of all sheets.

        Raises
        ------
        IngestError
            The file is damaged or too large, or no sheet holds a known kind of measurement.
        """
        sheets, warnings = read_sheets(path)
        settings = next((sheet for sheet in sheets if is_settings(sheet.name, sheet.rows)), None)
        runs = runs_in(settings.rows) if settings is not None else {}
        contents: list[_Content] = []
        for place, sheet in enumerate(sheets):
            if sheet is settings:
                continue
            label = f"sheet {sheet.name!r}"
            if runs and sheet.name.strip().lower() == "calc":
                warnings.append(f"{label} left out: it holds results that the instrument computed")
                continue
            warnings += [f"{label} is hidden; it was read"] if sheet.hidden else []
            found, words = _read_sheet(sheet, place, path, runs.get(key_of(sheet.name), Run()))
            contents += [found] if found.steps else []
            warnings += [f"{label}: {word}" for word in words]
        if not contents:
            reasons = "; ".join(warnings) or "it has no sheets"
            raise IngestError(f"{path}: nothing to read in this workbook: {reasons}")
        attributes: dict[str, Any] = {"test_id": path.stem}
        if runs:
            attributes["instrument"] = "Keithley 4200"
            attributes["description"] = next((run.test for run in runs.values() if run.test), "")
        devices = {one.device for one in contents if one.device}
        groups: dict[tuple[tuple[str, Any], ...], list[_Content]] = {}
        for one in contents:
            groups.setdefault(one.device if len(devices) > 1 else (), []).append(one)
        return Reading(
            [_measurement(group, attributes, warnings) for group in groups.values()], [path]
        )

    def tables(self, path: Path) -> list[Table]:
        """Return the tables of all sheets."""
        sheets, _ = read_sheets(path)
        return [
            table
            for sheet in sheets
            if not is_settings(sheet.name, sheet.rows)
            for table in tables_in(sheet.rows, sheet.first_row, sheet.name)[0]
        ]


def _measurement(
    contents: Sequence[_Content], attributes: Mapping[str, Any], warnings: Sequence[str]
) -> Measurement:
    steps = [step for one in contents for step in one.steps]
    if len(steps) > 1:
        steps = [
            replace(step, values={**step.values, "curve": float(curve)})
            for curve, step in enumerate(steps, 1)
        ]
    about = next((one for one in contents if one.device), contents[0])
    return Measurement(
        {**attributes, **about.identity},
        steps,
        about.sample,
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _read_sheet(sheet: Sheet, place: int, path: Path, run: Run) -> tuple[_Content, list[str]]:
    tables, words = tables_in(sheet.rows, sheet.first_row, sheet.name)
    warnings = list(words)
    steps: list[Step] = []
    # The name of a sheet may also be "W=100um L=10um".
    entries = {f"{name} ({unit})": number for name, number, unit in _IN_NAME.findall(sheet.name)}
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
            known = fill_in(step, run.voltages(curve, len(found)))
            steps.append(replace(known, values={**known.values, "file_step": float(place)}))
        for name, text in table.metadata.items():
            if entries.setdefault(name, text) != text:
                warnings.append(f"{name} is {text!r}, {entries[name]!r} before; that counts")
    if not tables and not words:
        warnings.append("left out: no table of numbers under headings")
    sample, flaws = geometry(entries)
    return _Content(steps, sample, identity(entries)), [*warnings, *flaws]


READER = ExcelReader()
