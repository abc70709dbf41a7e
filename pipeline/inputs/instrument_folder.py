"""Read what an instrument leaves behind: a folder with ``test_info.json`` and one CSV per step.

Names, encodings and column headings differ between instruments and their years; the rules here
take all that laboratories have on disk.  What cannot be used is said in a warning, never guessed.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
from numpy.typing import NDArray

from oectflow.errors import IngestError
from oectflow.measurement import Step
from oectflow.pipeline.inputs.step_table import find_parameter

TEST_INFO = "test_info.json"
WORKFLOW = "workflow.json"

_VG = ("Vg", "gate_voltage", "vg")
_ID = ("Id", "drain_current", "id")
_TIME = ("Time", "timestamp", "time")
_COLUMNS = {"transfer": (_VG, _ID), "transient": (_TIME, _ID)}


@dataclass(frozen=True)
class FolderInfo:
    """What an instrument says about a test.

    Attributes
    ----------
    path
        The JSON file.
    original
        Its content.
    tidy
        The same with flat metadata and the names that current instruments use.
    """

    path: Path
    original: Mapping[str, Any]
    tidy: Mapping[str, Any]


@dataclass(frozen=True)
class FolderContents:
    """The measurements of one folder, and what was wrong with some of them."""

    transfer_steps: list[Step]
    transient_steps: list[Step]
    workflow_json: str | None
    warnings: tuple[str, ...]


def read_test_info(folder: Path) -> FolderInfo:
    """Read ``test_info.json``, or the only other JSON file of the folder.

    Raises
    ------
    IngestError
        There is none, it is no JSON, or it has no steps.
    """
    path = folder / TEST_INFO
    if not path.is_file():
        if not folder.is_dir():
            raise IngestError(f"{folder}: no such folder")
        others = [p for p in folder.iterdir() if p.suffix.lower() == ".json" and p.name != WORKFLOW]
        if len(others) != 1:
            found = ", ".join(sorted(p.name for p in others)) or "no JSON file"
            raise IngestError(f"{folder}: expected {TEST_INFO}, found {found}")
        path = others[0]
    original = _read_json(path)
    steps = original.get("steps") if isinstance(original, dict) else None
    if not isinstance(steps, list) or not steps:
        raise IngestError(f"{path}: expected an object with a list 'steps' that is not empty")
    return FolderInfo(path, original, tidy_test_info(original))


def tidy_test_info(test_info: Mapping[str, Any]) -> dict[str, Any]:
    """Return a test description with flat metadata and current names; the argument is unchanged.

    ``metadata.*`` moves to the root where that has no such key (``raw_params`` is dropped),
    ``summary`` gives its completed steps and percentage, ``device_id`` becomes ``test_unit_id``,
    ``test_type`` and every ``workflow_info.path`` go.
    """
    tidy = dict(test_info)
    tidy.pop("test_type", None)
    if "device_id" in tidy:
        tidy["test_unit_id"] = tidy.pop("device_id")
    metadata = tidy.pop("metadata", None)
    if isinstance(metadata, Mapping):
        lifted = {key: value for key, value in metadata.items() if key != "raw_params"}
        tidy = lifted | tidy
    summary = tidy.pop("summary", None)
    if isinstance(summary, Mapping):
        for key in ("completed_steps", "completion_percentage"):
            if key in summary:
                tidy[key] = summary[key]
    if isinstance(tidy.get("steps"), list):
        tidy["steps"] = [_without_path(step) for step in tidy["steps"]]
    return tidy


def _without_path(step: Any) -> Any:
    if not isinstance(step, Mapping) or not isinstance(step.get("workflow_info"), Mapping):
        return step
    info = {key: value for key, value in step["workflow_info"].items() if key != "path"}
    return {**step, "workflow_info": info}


def read_folder(folder_info: FolderInfo) -> FolderContents:
    """Read the CSV files of all transfer and transient steps, and the workflow.

    A step that cannot be read is left out with a warning, so that later steps of its kind move up;
    ``data_file`` and ``workflow_step_index`` still tell where each came from.

    Raises
    ------
    IngestError
        No step can be read.
    """
    folder = folder_info.path.parent
    names = {path.name for path in folder.iterdir()}
    transfer_steps: list[Step] = []
    transient_steps: list[Step] = []
    warnings: list[str] = []
    for number, info in enumerate(folder_info.tidy["steps"], 1):
        kind = str(info.get("type", "")).lower() if isinstance(info, Mapping) else "malformed"
        label = f"step {number} ({kind})"
        if kind not in _COLUMNS:
            if kind == "malformed":
                warnings.append(f"{label} left out: its entry is {info!r}, expected an object")
            continue
        try:
            name, others = _csv_name(info, names, number, kind)
            (first, second), flaws = _read_columns(folder / name, _COLUMNS[kind])
        except (IngestError, OSError) as error:
            warnings.append(f"{label} left out: {error}")
            continue
        warnings += [f"{label}: {flaw}" for flaw in flaws]
        if others:
            warnings.append(
                f"{label}: names {name} and {', '.join(others)}; only the first is read"
            )
        if kind == "transfer":
            transfer_steps.append(Step("transfer", {"Vg": first, "Id": second}, info=info))
            continue
        if flaw := _flaw_of_time_step(info):
            warnings.append(f"{label}: {flaw}")
        transient_steps.append(Step("transient", {"time": first, "Id": second}, info=info))
    if not transfer_steps and not transient_steps:
        why = "; ".join(warnings[:3]) or "none is a transfer or transient"
        raise IngestError(f"{folder_info.path}: no step can be read: {why}")
    workflow_json = None
    if WORKFLOW in names:
        try:
            workflow = _read_json(folder / WORKFLOW)
            workflow_json = json.dumps(workflow, ensure_ascii=False, separators=(",", ":"))
        except IngestError as error:
            warnings.append(f"workflow left out: {error}")
    return FolderContents(transfer_steps, transient_steps, workflow_json, tuple(warnings))


def _csv_name(
    info: Mapping[str, Any], names: set[str], number: int, kind: str
) -> tuple[str, list[str]]:
    """Return the file of a step: one that its entry names, else one that bears its number.

    Beside it, the files that the entry names, too.
    """
    named = [re.split(r"[\\/]", text)[-1] for text in _strings(info)]
    named = [name for name in named if name.lower().endswith(".csv")]
    there = [name for name in dict.fromkeys(named) if name in names]
    if there:
        return there[0], there[1:]
    for pattern in (rf"{number}_.*\.csv", rf"step{number}_.*\.csv", rf"{number}\.csv"):
        matches = [name for name in names if re.fullmatch(pattern, name)]
        if matches:
            return min(matches, key=lambda name: (kind not in name, name)), []
    expected = ", ".join(dict.fromkeys([*named, f"{number}_*.csv", f"step{number}_*.csv"]))
    raise IngestError(f"no CSV file; expected {expected} or {number}.csv")


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _strings(item)


def _flaw_of_time_step(info: Mapping[str, Any]) -> str:
    """Return what is wrong with the sampling interval that a step's parameters give, or ``""``."""
    value = find_parameter(info, ("timeStep",))
    if value is not None and value > 0:
        return ""
    seen = "no timeStep" if value is None else f"timeStep is {value!r}"
    return f"{seen}, continuous_time follows the recorded times"


def _read_text(path: Path) -> str:
    data = path.read_bytes()
    for encoding in ("utf-8-sig", "gbk"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise IngestError(f"{path.name}: the text is neither UTF-8 nor GBK; is the file damaged?")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(_read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise IngestError(f"{path}: not valid JSON ({error}); was the copy interrupted?") from None


def _read_columns(
    path: Path, wanted: tuple[tuple[str, ...], ...]
) -> tuple[list[NDArray[np.float64]], list[str]]:
    """Read columns by any of their names.

    Returns
    -------
    One array per wanted column, NaN where a cell is no number; and a warning about such cells.

    Raises
    ------
    IngestError
        A column or every row is missing.
    """
    text = _read_text(path)
    text, whole = text.lstrip("\r\n"), text
    head, _, body = text.partition("\n")
    header = [name.strip() for name in next(csv.reader([head.strip()]), [])]
    positions = []
    for aliases in wanted:
        found = [header.index(alias) for alias in aliases if alias in header]
        if not found:
            expected = " or ".join(aliases)
            raise IngestError(f"{path.name} has columns {header}, expected {expected}")
        positions.append(found[0])
    labels = [str(i) for i in range(len(header))]
    try:
        table = pa_csv.read_csv(
            io.BytesIO(body.encode()),
            pa_csv.ReadOptions(use_threads=False, column_names=labels),
            # Without words for a missing value, any cell that is no number is an error here.
            convert_options=pa_csv.ConvertOptions(
                column_types=dict.fromkeys(labels, pa.float64()),
                include_columns=[labels[i] for i in positions],
                null_values=[],
            ),
        )
    except pa.ArrowInvalid:
        first_line = whole[: len(whole) - len(body)].count("\n") + 1
        sought = [(header[i], i) for i in positions]
        return _read_damaged(path.name, body, first_line, sought)
    return [table.column(labels[i]).to_numpy() for i in positions], []


def _read_damaged(
    name: str, body: str, first_line: int, sought: list[tuple[str, int]]
) -> tuple[list[NDArray[np.float64]], list[str]]:
    """Read cell by cell, to keep what is sound and to say where it is not."""
    rows: list[list[float]] = []
    flaws = 0
    first_flaw = ""
    reader = csv.reader(io.StringIO(body))
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        row = []
        for column, position in sought:
            cell = cells[position] if position < len(cells) else ""
            value = _number(cell)
            if value is None:
                flaws += 1
                line = first_line + reader.line_num - 1
                first_flaw = first_flaw or f"line {line}: {column} is {cell!r}"
            row.append(math.nan if value is None else value)
        rows.append(row)
    if not rows:
        raise IngestError(f"{name} has no rows")
    more = f" (and {flaws - 1} more such cells)" if flaws > 1 else ""
    warnings = [f"{name}, {first_flaw}, not a number, taken as NaN{more}"] if flaws else []
    return list(np.array(rows).T.copy()), warnings


def _number(cell: str) -> float | None:
    try:
        # Python alone would take "1_000" for a number.
        return None if "_" in cell else float(cell)
    except ValueError:
        return None
