"""The folders of the laboratory's own instrument: ``test_info.json`` and one CSV per step.

Names, encodings and column headings differ between instruments and years; the rules here accept
everything that laboratories have on disk.  Nothing is guessed: a warning names what cannot be used.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oectflow.errors import IngestError
from oectflow.measurement import Kind, Measurement, Step, kinds
from oectflow.pipeline.inputs.raw_format import root_attributes
from oectflow.pipeline.inputs.readers.curves import split_curves
from oectflow.pipeline.inputs.readers.marks import doubtful_interval
from oectflow.pipeline.inputs.readers.reader import Reading, Recognition
from oectflow.pipeline.inputs.readers.sense import without_overflow
from oectflow.pipeline.inputs.readers.step_columns import Curve, curves_of, kind_of_columns
from oectflow.pipeline.inputs.readers.step_file import read_step_file
from oectflow.pipeline.inputs.readers.test_info import (
    TEST_INFO,
    TEST_INFO_TEMP,
    WORKFLOW,
    FolderInfo,
    read_document,
    read_test_info,
)
from oectflow.pipeline.inputs.step_table import find_parameter


class InstrumentReader:
    """Reads one folder per test."""

    name = "instrument"
    title = "folders of the laboratory's own instrument"

    def recognises(self, path: Path) -> Recognition:
        """Look for the description of a test."""
        for name in (TEST_INFO, TEST_INFO_TEMP):
            if (path / name).exists():
                return Recognition(1.0, f"the folder holds {name}")
        return Recognition(0.0, f"the folder holds no {TEST_INFO}")

    def read(self, path: Path) -> Reading:
        """Read all steps of a test, up to its current state.

        A step that cannot be read is left out, with a warning, and later steps of its kind move up;
        ``data_file`` and ``workflow_step_index`` still say where each came from.

        Raises
        ------
        IngestError
            The description cannot be used, or no step can be read.
        """
        return self.read_test(read_test_info(path))

    def read_test(self, info: FolderInfo, *, under_way: bool = True) -> Reading:
        """Read all steps of a test whose description has been read; raises as :meth:`read`.

        ``under_way=False`` leaves out the step that a running test is still measuring.
        """
        path = info.path.parent
        with os.scandir(path) as found_there:
            names = {one.name for one in found_there}
        entries: list[Any] = info.tidy["steps"]
        steps: list[Step] = []
        warnings = list(info.warnings)
        used: set[str] = {info.path.name}
        for number, entry in enumerate(entries, 1):
            found, flaws, files = _described(path, names, number, entry)
            steps += found
            warnings += flaws
            used.update(files)
        for name in sorted(names - used, key=_natural):
            if name.lower().endswith(".csv") and (under_way or not info.running):
                found, flaws = _undescribed(path, name, len(entries), running=info.running)
                steps += found
                warnings += flaws
                used.add(name)
        if not steps:
            why = "; ".join(warnings[:3]) or "it has none yet"
            raise IngestError(f"{info.path}: no step can be read: {why}")
        documents = {"json": json.dumps(info.original)}
        if WORKFLOW in names:
            used.add(WORKFLOW)
            try:
                workflow, flaws_of_workflow = read_document(path / WORKFLOW)
                documents["workflow"] = json.dumps(
                    workflow, ensure_ascii=False, separators=(",", ":")
                )
                warnings += flaws_of_workflow
            except IngestError as error:
                warnings.append(f"workflow left out: {error}")
        if TEST_INFO_TEMP in names - used:
            warnings.append(f"{TEST_INFO_TEMP} is passed over: {info.path.name} is there, too")
            used.add(TEST_INFO_TEMP)
        attributes = root_attributes(info.tidy) | {"source_json_name": info.path.name}
        measurement = Measurement(
            attributes, steps, documents=documents, warnings=tuple(dict.fromkeys(warnings))
        )
        return Reading([measurement], sorted(path / name for name in used & names))


READER = InstrumentReader()


def complete_files(info: FolderInfo, names: Collection[str]) -> frozenset[str]:
    """Return the files of the complete part of a test: descriptions, and steps that have ended.

    Parameters
    ----------
    info
        The description of the test.
    names
        All files in its folder.

    Returns
    -------
    All CSV and JSON files if the test has ended; those of the described steps if it is running.
    """
    if not info.running:
        return frozenset(name for name in names if name.lower().endswith((".csv", ".json")))
    found = {info.path.name, WORKFLOW} & set(names)
    for number, entry in enumerate(info.tidy["steps"], 1):
        if isinstance(entry, Mapping):
            word = str(entry.get("type", "")).strip().lower()
            # If the file of a step is not there yet, reading the test names it.
            with contextlib.suppress(IngestError):
                name, others = _csv_name(entry, names, number, word)
                found |= {name, *others}
    return frozenset(found)


def _described(
    folder: Path, names: Collection[str], number: int, entry: Any
) -> tuple[list[Step], list[str], list[str]]:
    """Return the steps of one entry, warnings, and the files of this entry."""
    if not isinstance(entry, Mapping):
        text = repr(entry)[:100]
        return (
            [],
            [f"step {number} (malformed) left out: its entry is {text}, expected an object"],
            [],
        )
    word = str(entry.get("type", "")).strip().lower()
    label = f"step {number} ({word[:40]})"
    files: list[str] = []
    try:
        name, others = _csv_name(entry, names, number, word)
        files = [name, *others]
        steps, flaws = _steps_of(folder / name, word, entry, number)
    except IngestError as error:
        return [], [f"{label} left out: {error}"], files
    if others:
        flaws.append(f"names {name} and {', '.join(others)}; only the first is read")
    return steps, [f"{label}: {flaw}" for flaw in flaws], files


def _undescribed(
    folder: Path, name: str, n_described: int, *, running: bool
) -> tuple[list[Step], list[str]]:
    """Return the steps of a file that no entry names: in a running test, the current step."""
    match = re.match(r"(?:step)?(\d+)(?:_([a-z]+))?", name.lower())
    number = int(match[1]) if match and len(match[1]) < 10 else 0
    if not running or number <= n_described:
        return [], [f"{name} belongs to no step and is not read"]
    word = (match[2] if match else "") or ""
    try:
        entry = {"type": word, "data_file": name}
        steps, flaws = _steps_of(folder / name, word, entry, number, growing=True)
    except IngestError as error:
        return [], [f"step {number}, not described yet, left out: {error}"]
    label = f"step {number} ({steps[0].kind}, not described yet)"
    return steps, [f"{label}: {flaw}" for flaw in ["read as far as it is there", *flaws]]


def _steps_of(
    path: Path, word: str, entry: Mapping[str, Any], number: int, *, growing: bool = False
) -> tuple[list[Step], list[str]]:
    """Return the steps in one CSV file, and warnings.

    Raises
    ------
    IngestError
        The file cannot be read, or its kind is unknown.
    """
    file = read_step_file(path, growing=growing)
    flaws = list(file.warnings)
    kind = kinds().get(word)
    if kind is None:
        kind = kind_of_columns(file.columns)
        if kind is None:
            headings = [column.heading for column in file.columns]
            raise IngestError(
                f"no kind of measurement is called {word[:40]!r}, and columns {headings} make none"
            )
        if not growing:
            flaws.append(f"no kind is called {word[:40]!r}; read as {kind.name} by its columns")
        entry = {**entry, "type": word or kind.name}
    curves, more = curves_of(path.name, kind, file)
    flaws += more + _contradictions(kind, entry, curves)
    steps = []
    for curve in curves:
        # An overflow mark would look like a turn of the sweep.
        values = {} if curve.value is None else {kind.curve_by: curve.value}
        step, more = without_overflow(Step(kind.name, curve.arrays, values, entry, curve.extra))
        steps += _parts(step)
        flaws += [f"{path.name}: {flaw}" for flaw in more]
    if len(steps) > 1:
        steps = [
            replace(step, values={**step.values, "curve": i, "file_step": number})
            for i, step in enumerate(steps, 1)
        ]
    if len(steps) > len(curves):
        flaws.append(f"{path.name} holds {len(steps)} curves one after the other")
    if kind.gated and (flaw := _flaw_of_clock(entry, steps[0].arrays[kind.x])):
        flaws.append(flaw)
    return steps, flaws


def _parts(step: Step) -> list[Step]:
    """Return one step per curve, for curves that follow each other in the same columns."""
    pieces = split_curves(step.kind, step.arrays, step.values)
    if len(pieces) == 1:
        return [replace(step, values=pieces[0][2])]
    return [
        replace(
            step,
            arrays={name: array[start:stop] for name, array in step.arrays.items()},
            values=own,
            extra={
                name: replace(one, values=one.values[start:stop])
                for name, one in step.extra.items()
            },
        )
        for start, stop, own in pieces
    ]


def _contradictions(kind: Kind, entry: Mapping[str, Any], curves: Sequence[Curve]) -> list[str]:
    """Compare the voltages of the curves with those that the parameters give, in mV."""
    found = [curve.value for curve in curves if curve.value is not None]
    if not found:
        return []
    parameters = entry.get("parameters")
    for name in kind.value(kind.curve_by).parameters:
        given = parameters.get(f"{name}List") if isinstance(parameters, Mapping) else None
        if not isinstance(given, list):
            number = find_parameter(entry, (name,))
            given = [] if number is None else [number]
        wanted = [_millivolts(value) for value in given]
        if wanted and wanted != [round(1000 * value, 6) for value in found]:
            headings = [f"{1000 * value:g}" for value in found]
            return [
                f"the headings give {kind.curve_by} = {', '.join(headings)} mV, the parameters "
                f"{', '.join(map(str, given))[:200]} mV; the headings count"
            ]
    return []


def _millivolts(value: Any) -> float | None:
    try:
        return round(float(value), 6)
    except (TypeError, ValueError, OverflowError):
        return None


def _flaw_of_clock(entry: Mapping[str, Any], time: NDArray[np.float64]) -> str:
    """Return the fault of the interval in the parameters of a step, or ``""``."""
    value = find_parameter(entry, ("timeStep",))
    if value is None or not value > 0:
        seen = "no timeStep" if value is None else f"timeStep is {value!r}"
        return f"{seen}, continuous_time follows the recorded times"
    return doubtful_interval(time, value / 1000)


def _csv_name(
    info: Mapping[str, Any], names: Collection[str], number: int, kind: str
) -> tuple[str, list[str]]:
    """Return the file of a step: the one that its entry names, else the one with its number.

    The other files that the entry names are returned, too.

    Raises
    ------
    IngestError
        There is none.
    """
    texts = [text for text in _strings(info) if text.lower().endswith(".csv")]
    named = [re.split(r"[\\/]", text)[-1] for text in texts]
    there = [name for name in dict.fromkeys(named) if name in names]
    if there:
        return there[0], there[1:]
    for pattern in (rf"{number}_.*\.csv", rf"step{number}_.*\.csv", rf"{number}\.csv"):
        matches = [name for name in names if re.fullmatch(pattern, name, re.IGNORECASE)]
        if matches:
            return min(matches, key=lambda name: (kind not in name, name)), []
    expected = ", ".join(dict.fromkeys([*named, f"{number}_*.csv", f"step{number}_*.csv"]))
    raise IngestError(f"no CSV file; expected {expected} or {number}.csv")


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list):
        return []
    return [
        text for item in value if isinstance(item, str | dict | list) for text in _strings(item)
    ]


def _natural(name: str) -> tuple[int, str]:
    digits = re.search(r"\d{1,9}", name)
    return int(digits[0]) if digits else 0, name
