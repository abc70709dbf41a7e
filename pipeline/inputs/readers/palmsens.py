"""PalmSens sessions: ``.pssession`` of PSTrace and MultiTrace, JSON in UTF-16.

Sessions are read with Python's own JSON parser.  PalmSens' library for Python, ``pypalmsens``
(2.2.0 of 2026-10, well maintained), is a shell around .NET: it brings its libraries and needs a
.NET runtime, which a compute node does not have.  The layout is that of files that PSTrace 5.7 and
5.12 wrote, and the names of array types and of reading states are those in PalmSens' own
declarations.

The symbol of a unit has no prefix (``"s": "A"``).  The name of its type has one
(``PalmSens.Units.MicroAmpere``), so the name counts.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from oectflow.errors import IngestError
from oectflow.measurement import Measurement, Step
from oectflow.pipeline.inputs.readers.files import file_head
from oectflow.pipeline.inputs.readers.potentiostat import Column, steps_of, table_of
from oectflow.pipeline.inputs.readers.reader import Reading, Recognition
from oectflow.pipeline.inputs.readers.regular_file import read_regular
from oectflow.pipeline.inputs.readers.tables import Table

_MARK = "PalmSens."
#: A session of this size holds about three million values.
_MAX_BYTES = 256 * 2**20
#: PalmSens.Data.DataArrayType -> our array, and the sign of its values there.
_ARRAYS = {
    0: ("time", 1.0),
    1: ("Vdc", 1.0),
    2: ("Id", 1.0),
    5: ("frequency", 1.0),
    7: ("Z_real", 1.0),
    8: ("Z_imag", 1.0),
}
_PREFIXES = {"Pico": 1e-12, "Nano": 1e-9, "Micro": 1e-6, "Milli": 1e-3, "Kilo": 1e3, "Mega": 1e6}
_LETTERS = {1e-12: "p", 1e-9: "n", 1e-6: "µ", 1e-3: "m", 1e3: "k", 1e6: "M"}
_OVERLOAD = 1


class _Overload(float):
    """A reading that the instrument marks as out of its range."""


class PalmSensReader:
    """Reads one session: an experiment whose steps are its measurements, in their order."""

    name = "palmsens"
    title = "PalmSens sessions (.pssession)"

    def recognises(self, path: Path) -> Recognition:
        """Look for the name of a PalmSens type at the beginning of the file."""
        head = file_head(path, 4096)
        for encoding in ("utf-16", "utf-16-le", "utf-8"):
            text = head[: len(head) // 2 * 2].decode(encoding, "ignore")
            if text.lstrip("\ufeff \r\n\t").startswith("{") and _MARK in text:
                return Recognition(1.0, f"JSON in {encoding.upper()} that names a {_MARK} type")
        return Recognition(0.0, "no JSON with a PalmSens type")

    def read(self, path: Path) -> Reading:
        """Read all measurements of a session.

        Raises
        ------
        IngestError
            The file is damaged or too large, or holds no known kind of measurement.
        """
        session = _parse(path)
        found = session.get("measurements")
        steps: list[Step] = []
        warnings: list[str] = []
        for index, measurement in enumerate(found if isinstance(found, list) else ()):
            if isinstance(measurement, dict):
                more, words = _read_measurement(measurement, index, path)
                steps += more
                warnings += words
            else:
                warnings.append(f"measurement {index} left out: it is not an object")
        if not steps:
            reasons = "; ".join(warnings) or "it holds no measurements"
            raise IngestError(f"{path}: nothing to read in this PalmSens session: {reasons}")
        attributes = {"test_id": path.stem, "instrument": "PalmSens"}
        if isinstance(version := session.get("coreversion"), str):
            attributes["software_version"] = version
        return Reading(
            [Measurement(attributes, steps, warnings=tuple(dict.fromkeys(warnings)))], [path]
        )

    def tables(self, path: Path) -> list[Table]:
        """Return the arrays of each scan of each measurement."""
        found = _parse(path).get("measurements")
        tables = []
        for measurement in found if isinstance(found, list) else ():
            if isinstance(measurement, dict):
                title = str(measurement.get("title", ""))
                scans, _ = _scans(_columns(measurement, title)[0], title)
                tables += [table_of(scan, title) for scan in scans]
        return tables


def _parse(path: Path) -> dict[str, Any]:
    raw = read_regular(path, _MAX_BYTES)
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    if raw[1:2] == b"\0":
        encoding = "utf-16-le"
    try:
        text = raw.decode(encoding).strip("\ufeff\0 \r\n\t")
        session = json.loads(text, object_hook=_reading)
    except (ValueError, RecursionError) as error:
        raise IngestError(
            f"{path}: not a whole PalmSens session ({str(error)[:200]}); save it again in PSTrace"
        ) from None
    if not isinstance(session, dict):
        raise IngestError(f"{path}: not a PalmSens session: its JSON holds no object")
    return session


def _reading(entries: dict[str, Any]) -> Any:
    """Return the value of one reading as a number, anything else with its keys in small letters.

    Versions differ in the case of keys.  Most of a file are readings, which need little memory as
    numbers.
    """
    value = entries.get("v", entries.get("V"))
    if isinstance(value, int | float) and not isinstance(value, bool):
        overloaded = entries.get("s", entries.get("S")) == _OVERLOAD
        return _Overload(value) if overloaded else float(value)
    return {key.lower(): entry for key, entry in entries.items()}


def _read_measurement(
    measurement: Mapping[str, Any], index: int, path: Path
) -> tuple[list[Step], list[str]]:
    title = str(measurement.get("title", ""))
    what = f"measurement {index} ({title})"
    columns, warnings = _columns(measurement, what)
    info = {
        "data_file": path.name,
        "type": title,
        "parameters": _parameters(str(measurement.get("method", ""))),
    }
    if (start := _start_time(measurement.get("timestamp"))) is not None:
        info["start_time"] = start
    steps: list[Step] = []
    scans, words = _scans(columns, what)
    warnings += words
    for number, scan in enumerate(scans):
        part = what if len(scans) == 1 else f"{what}, scan {number + 1}"
        more, words = steps_of(scan, info, {}, part)
        warnings += words
        for step in more:
            numbers = {"file_step": float(index), **step.values}
            numbers |= {"curve": float(number + 1)} if len(scans) > 1 else {}
            steps.append(replace(step, values=numbers))
    if not columns:
        warnings.append(f"{what} left out: it holds no data")
    return steps, warnings


def _columns(measurement: Mapping[str, Any], what: str) -> tuple[list[Column], list[str]]:
    dataset = measurement.get("dataset")
    arrays = dataset.get("values") if isinstance(dataset, dict) else None
    columns, warnings = [], []
    for array in arrays if isinstance(arrays, list) else ():
        column, word = _column(array)
        columns += [column] if column is not None else []
        warnings += [f"{what}: {word}"] if word else []
    return columns, warnings


def _column(array: Any) -> tuple[Column | None, str]:
    """Return one array of a data set, and a warning or ``""``."""
    if not isinstance(array, dict) or not isinstance(array.get("datavalues"), list):
        return None, "an array left out: it holds no values"
    readings = array["datavalues"]
    heading = str(array.get("description") or "unnamed")
    kind = array.get("arraytype")
    if isinstance(kind, int) and kind >= 16383:
        return None, ""  # notes of the firmware to itself: debugtext, nPointsAC, …
    numbers = [r if isinstance(r, float) else math.nan for r in readings]
    values = np.array(numbers, np.float64)
    over = np.array([isinstance(r, _Overload) for r in readings], bool)
    values[over] = np.nan
    unit = array.get("unit") if isinstance(array.get("unit"), dict) else {}
    assert isinstance(unit, dict)
    match = re.search(rf"Units\.({'|'.join(_PREFIXES)})", str(unit.get("type")))
    scale = _PREFIXES[match[1]] if match else 1.0
    name, sign = _ARRAYS.get(kind, ("", 1.0)) if isinstance(kind, int) else ("", 1.0)
    if str(unit.get("q", "")).startswith("-"):
        sign = -1.0  # "-Z''": positive for a capacitor
    word = f"{over.sum()} overloaded readings of {heading} are NaN" if over.any() else ""
    shown = _LETTERS.get(scale, "") + str(unit.get("s") or "")
    return Column(heading, values, shown, name, scale * sign), word


def _scans(columns: Sequence[Column], what: str) -> tuple[list[list[Column]], list[str]]:
    """Return the columns of each scan, equally long, and what was left out.

    A session repeats its arrays for each scan or channel: the first current belongs to the first
    scan.  An array that occurs once, such as the time, belongs to all scans: it is as long as one
    of them, or as all of them together, and is then cut.
    """
    alike: dict[str, list[Column]] = {}
    for column in columns:
        alike.setdefault(column.array or column.heading, []).append(column)
    scans = max((len(group) for group in alike.values()), default=0)
    ends = [0]
    for scan in range(scans):
        lengths = [len(group[scan].values) for group in alike.values() if len(group) == scans]
        ends.append(ends[-1] + max(lengths, default=0))
    result: list[list[Column]] = [[] for _ in range(scans)]
    warnings = []
    for name, group in alike.items():
        for scan in range(scans):
            n = ends[scan + 1] - ends[scan]
            column = group[scan if len(group) == scans else 0]
            if len(group) == 1 and len(column.values) == ends[-1]:
                part = column.values[ends[scan] : ends[scan + 1]]
            elif len(group) in (1, scans) and len(column.values) <= n:
                part = np.pad(column.values, (0, n - len(column.values)), constant_values=np.nan)
            else:
                warnings.append(f"{what}: {name} left out, it fits none of the {scans} scans")
                break
            if len(part) > len(column.values):
                warnings.append(f"{what}: {name} is shorter than the arrays beside it")
            result[scan].append(replace(column, values=part))
    return result, warnings


def _parameters(method: str) -> dict[str, str]:
    lines = (line.partition("=") for line in method.splitlines() if not line.startswith("#"))
    return {key.strip(): value.strip() for key, equals, value in lines if equals}


def _start_time(ticks: Any) -> str | None:
    """Return a .NET time: steps of 100 ns since the year 1."""
    if not isinstance(ticks, int) or not 0 < ticks < 3 * 10**18:
        return None
    return (datetime(1, 1, 1) + timedelta(microseconds=ticks // 10)).isoformat()


READER = PalmSensReader()
