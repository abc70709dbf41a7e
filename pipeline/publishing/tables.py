"""Results as CSV with a description that programs read: a Frictionless data package."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oectflow.cells import plain_cell
from oectflow.pipeline.outputs.export.tables import LEVELS, Column, Table
from oectflow.pipeline.outputs.marking import marks
from oectflow.pipeline.outputs.results import open_results, problems_frame
from oectflow.pipeline.outputs.window_choice import windows

if TYPE_CHECKING:
    import pandas as pd

#: A table of more rows is not written: its numbers are in the Parquet files.
MOST_ROWS = 2_000_000
_KEYS = {"experiments": ("experiment_id",), "steps": ("experiment_id", "step"),
         "cycles": ("experiment_id", "step", "cycle")}  # fmt: skip
_ABOUT = {
    "experiments": "a row for each experiment: its sample, and medians of the good values",
    "steps": "a row for each step",
    "cycles": "a row for each gate cycle of each step",
    "marks": "what people have said of measurements, see label, reason",
    "windows": "windows that people have chosen, in which time constants were fitted",
    "problems": "what is wrong with values, and why",
}


def write_tables(results: Path, folder: Path, title: str) -> list[str]:
    """Write the tables of results and ``datapackage.json``, and return what was left out, and why.

    Values that are marked as bad are left out, as in every export; Parquet files have them.
    """
    folder.mkdir()
    opened = open_results(results)
    resources, notes = [], []
    for level in LEVELS:
        n_rows = math.prod(opened.sizes.get(axis, 1) for axis in _axes(level))
        if n_rows > MOST_ROWS:
            notes.append(
                f"{level}: up to {n_rows:,} rows are too many for a table, and only in results/"
            )
            continue
        table = Table(opened, level)
        if table.has_values or level == "experiments":
            resources.append(_write(folder, level, table.columns, table.rows()))
    for name, frame in (
        ("marks", marks(results)),
        ("windows", windows(results)),
        ("problems", problems_frame(results)),
    ):
        if len(frame):
            resources.append(_write(folder, name, *_of_frame(frame)))
    package = {
        "name": "oect-features",
        "title": title,
        "description": "Numbers are in the unit that stands at the field, in SI where there is no "
        "other; an empty cell is no value.  What was marked as bad has no value here, and the "
        "status 'marked'.",
        "profile": "tabular-data-package",
        "resources": resources,
    }
    text = json.dumps(package, indent=2, ensure_ascii=False)
    (folder / "datapackage.json").write_text(f"{text}\n", encoding="utf-8")
    return notes


def _axes(level: str) -> Sequence[str]:
    return ("experiment", *_KEYS[level][1:])


def _write(
    folder: Path, name: str, columns: Sequence[Column], rows: Iterable[Sequence[Any]]
) -> dict[str, Any]:
    """Write a table and return its description."""
    kinds: list[set[str]] = [set() for _ in columns]
    path = folder / f"{name}.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([plain_cell(column.name) for column in columns])
        for row in rows:
            writer.writerow([_cell(value, seen) for value, seen in zip(row, kinds, strict=True)])
    keys = _KEYS.get(name, ())
    schema: dict[str, Any] = {
        "fields": [_field(c, seen, keys) for c, seen in zip(columns, kinds, strict=True)],
        "missingValues": [""],
    }
    if keys:
        schema["primaryKey"] = list(keys)
    if name != "experiments" and any(column.name == "experiment_id" for column in columns):
        schema["foreignKeys"] = [
            {
                "fields": ["experiment_id"],
                "reference": {"resource": "experiments", "fields": ["experiment_id"]},
            }
        ]
    return {
        "name": name,
        "path": path.name,
        "description": _ABOUT[name],
        "profile": "tabular-data-resource",
        "format": "csv",
        "mediatype": "text/csv",
        "encoding": "utf-8",
        "schema": schema,
    }


def _cell(value: Any, seen: set[str]) -> str:
    """Return the text of a value, and note what it is."""
    if value is None or value == "":
        return ""
    if isinstance(value, bool):
        seen.add("boolean")
        return "true" if value else "false"
    if isinstance(value, str):
        seen.add("string")
        return value
    if isinstance(value, int):
        seen.add("integer")
        return str(value)
    seen.add("number")
    if math.isinf(value):
        return "INF" if value > 0 else "-INF"
    return repr(float(value))


def _field(column: Column, seen: set[str], keys: Sequence[str]) -> dict[str, Any]:
    kind = seen.pop() if len(seen) == 1 else "number" if seen == {"integer", "number"} else "string"
    if not seen and column.unit:
        # Of no value at all.
        kind = kind if kind != "string" else "number"
    about = "; ".join(text for text in (column.description, column.words) if text)
    field: dict[str, Any] = {"name": plain_cell(column.name), "type": kind}
    if column.unit:
        field["unit"] = column.unit
    if about:
        field["description"] = about
    if column.name in keys:
        field["constraints"] = {"required": True}
    return field


def _of_frame(frame: pd.DataFrame) -> tuple[list[Column], list[list[Any]]]:
    columns = [Column(str(name), "", "") for name in frame]
    plain = frame.astype(object).where(frame.notna(), None)
    rows = [
        [plain_cell(value) if isinstance(value, str) else value for value in row]
        for row in plain.itertuples(index=False)
    ]
    return columns, rows
