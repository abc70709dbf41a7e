"""What goes into random folders of the instrument comes out of the raw file, or is named.

The raw file is read with h5py alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from oectflow.pipeline.inputs.convert import convert_folder
from tests.pipeline.inputs.random_folders import Folder, Maker, Sheet

NAMES = {
    "gate_voltage": "Vg",
    "gate_current": "Ig",
    "drain_voltage": "Vd",
    "time": "time",
    "bias": "Vdc",
    "original_time": "time",
    "drain_current": "Id",
}


def raw_steps(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the CSV file of each step, and its columns by what they are, with padding."""
    with h5py.File(path) as file:
        for kind in file:
            if kind in ("raw", "extra", "sample"):
                continue
            group = file[kind]
            table = group["step_info_table"][()]
            data = group["measurement_data"]
            rows = list(data.attrs["data_type_labels"])
            for i, row in enumerate(table):
                if "start_data_index" in table.dtype.names:
                    span = slice(row["start_data_index"], row["end_data_index"])
                    place: Any = span
                    columns = {NAMES.get(n, n): data[k, span] for k, n in enumerate(rows)}
                else:
                    place = i
                    columns = {NAMES.get(n, n): data[i, k] for k, n in enumerate(rows)}
                for name in set(group) - {"measurement_data", "step_info_table"}:
                    columns[NAMES.get(name, name)] = group[name][place]
                extras = file.get(f"extra/{kind}", {})
                for extra in extras.values():
                    columns[f"extra {extra.attrs['heading']}"] = extra[place]
                columns.pop("continuous_time", None)
                names = table.dtype.names
                columns["gate"] = row["value_Vg"] if "value_Vg" in names else np.nan
                yield re.split(r"[\\/]", row["data_file"].decode())[-1], columns


def check(folder: Folder, out: Path) -> list[str]:
    """Return what was dropped without a word."""
    record = convert_folder(folder.path, out)
    named = [record.reason, *record.warnings]
    if record.status == "failed":
        # Said of the whole, with the reason.
        readable = [s.name for s in folder.sheets if s.text and s.kind and not s.lost]
        return [f"{name}: failed: {record.reason}" for name in readable]
    assert record.path is not None
    found: dict[str, list[dict[str, Any]]] = {}
    for name, columns in raw_steps(record.path):
        found.setdefault(name, []).append(columns)
    problems = []
    for sheet in folder.sheets:
        number = sheet.name.split("_")[0]
        about = [w for w in named if sheet.name in w or w.startswith(f"step {number} ")]
        if sheet.name not in found:
            if not any("left out" in warning for warning in about):
                problems.append(f"{sheet.name} is gone")
            elif sheet.text and sheet.kind and not sheet.lost:
                problems.append(f"{sheet.name} was sound: {about}")
            continue
        problems += [
            f"{sheet.name}: nobody said {word!r}: {about}"
            for word in sheet.words
            if not any(word in w or "rows without a current" in w for w in about)
        ]
        problems += _compare(sheet, found[sheet.name], about)
    return problems


def _compare(sheet: Sheet, steps: list[dict[str, Any]], about: list[str]) -> Iterator[str]:
    """Yield the columns that differ and are not named."""
    if sheet.kind == "output":
        yield from _compare_curves(sheet, steps, about)
        return
    seen: dict[str, list[float]] = {}
    for heading, values in zip(sheet.headings, sheet.values, strict=True):
        name = {"Time": "time", "Vgs (V)": "Vg", "gate_voltage": "Vg"}.get(heading, heading)
        if name in seen or name not in steps[0]:
            name = f"extra {heading}"
        if name not in steps[0]:
            if not _left_out(heading, about):
                yield f"{sheet.name}: column {heading!r} is gone"
            continue
        seen[name] = values
    expected = np.array(list(seen.values()))
    got = np.hstack([np.array([step[name] for name in seen]) for step in steps])
    expected = expected[:, ~np.isnan(expected).all(axis=0)]
    got = got[:, ~np.isnan(got).all(axis=0)]
    if expected.shape != got.shape or not np.array_equal(expected, got, equal_nan=True):
        yield f"{sheet.name}: {list(seen)} differ: {expected} {got} {about}"


def _left_out(heading: str, about: list[str]) -> bool:
    return any(repr(heading) in warning and "is left out" in warning for warning in about)


def _compare_curves(sheet: Sheet, steps: list[dict[str, Any]], about: list[str]) -> Iterator[str]:
    by_gate = {round(1000 * float(step["gate"])): step for step in steps}
    drain = np.array(sheet.values[0])
    others = {}
    for heading, values in zip(sheet.headings[1:], sheet.values[1:], strict=True):
        match = re.fullmatch(r"Id\(Vg=(-?\d+)mV\)", heading)
        if not match:
            others[heading] = np.array(values)
            continue
        current = np.array(values)
        if np.isnan(current).all():
            if not any("has no points and is left out" in warning for warning in about):
                yield f"{sheet.name}: empty {heading} was not named"
            continue
        step = by_gate.get(int(match[1]))
        if step is None:
            yield f"{sheet.name}: {heading} is gone: {about}"
            continue
        length = np.flatnonzero(~np.isnan(current))[-1] + 1
        wanted = {"Vd": drain, "Id": current}
        for name in others:
            there = name if name in step else f"extra {name}"
            if there in step:
                wanted[there] = others[name]
            elif not _left_out(name, about):
                yield f"{sheet.name}: column {name!r} is gone"
        for name, array in wanted.items():
            got = step[name][:length]
            if not np.array_equal(got, array[:length], equal_nan=True):
                yield f"{sheet.name}: {name} at {heading} differs: {got} {array[:length]}"
            # Points that were out of range may follow.
            rest = step[name][length : len(array)]
            if not np.isin(rest[~np.isnan(rest)], array[length:]).all():
                yield f"{sheet.name}: {name} at {heading} goes on"


@pytest.mark.parametrize("block", range(6))
def test_ingest__nothing_is_dropped_in_silence(tmp_path: Path, block: int) -> None:
    problems = {}
    for seed in range(10 * block, 10 * block + 10):
        folder = Maker(seed).make(tmp_path / "in")
        if found := check(folder, tmp_path / "out"):
            problems[folder.path.name] = found
    assert problems == {}
