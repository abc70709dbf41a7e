"""Text of programs that drive Keithley source meters: LabVIEW, and the Python programs after it.

The columns have headings such as ``V_G``, ``I_DS (A)``, ``I_DS Error (A)``, and are separated by
tabs.  The settings stand before or after them (``V_DS = -0.6``, ``Width/um = 4000``), and a
``.cfg`` beside the files contains the geometry of the device.  The layout is that of the files of
OECT_processing (Giridharagopal, University of Washington) and of the programs that wrote them,
which differ in the order of the columns, in ``#`` before text, and in the place of the settings.
"""

from __future__ import annotations

import configparser
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from oectflow.errors import IngestError
from oectflow.measurement import Measurement
from oectflow.pipeline.inputs.readers.files import decode, file_head
from oectflow.pipeline.inputs.readers.headings import read_heading
from oectflow.pipeline.inputs.readers.marks import is_overflow_word
from oectflow.pipeline.inputs.readers.reader import Reading, Recognition
from oectflow.pipeline.inputs.readers.regular_file import read_regular
from oectflow.pipeline.inputs.readers.settings import geometry, identity, number
from oectflow.pipeline.inputs.readers.tables import Table, steps_from_table

_MAX_BYTES = 256 * 2**20
_MAX_CONFIG = 2**20
_ENTRY = re.compile(r"([A-Za-z][^=\t]*?)\s*=\s*(.*)")
#: Settings of these programs; a file with none of them is some other text.
_SIGNS = re.compile(r"^#?\s*(V_DS|V_G|Number of Averages|(Width|Length)\s*/\s*um)\s*=", re.M)


@dataclass
class _Content:
    headings: list[str] = field(default_factory=list)
    rows: list[list[float]] = field(default_factory=list)
    entries: dict[str, str] = field(default_factory=dict)
    flaws: list[str] = field(default_factory=list)
    first_line: int = 1


class KeithleyReader:
    """Reads one file: an experiment whose steps are its curves."""

    name = "keithley"
    title = "text of Keithley programs (LabVIEW), with .cfg"

    def recognises(self, path: Path) -> Recognition:
        """Look for headings between tabs, and for settings in the first and last lines."""
        head = decode(file_head(path, 8192))
        headings = next(filter(None, map(_headings, head.splitlines()[:40])), [])
        if not headings:
            return Recognition(0.0, "no headings such as V_G and I_DS between tabs")
        sign = _SIGNS.search(head) or _SIGNS.search(_tail(path))
        if sign is None:
            return Recognition(0.0, "no setting such as 'V_DS =' before or after the columns")
        seen = ", ".join(headings[:3])
        return Recognition(0.9, f"headings {seen} between tabs, and {sign[1]!r} is set")

    def read(self, path: Path) -> Reading:
        """Read all curves of a file, and the geometry from the ``.cfg`` beside it.

        Raises
        ------
        IngestError
            A row does not fit the headings, or the file holds no known kind of measurement.
        """
        (table,) = self.tables(path)
        info = {"data_file": path.name, "parameters": dict(table.metadata)}
        steps, warnings = steps_from_table(table, info=info)
        sample, words = geometry(table.metadata)
        warnings += words
        files = [path]
        config, words = _config_of(path)
        warnings += words
        if config is not None:
            files.append(config)
            beside, words = _read_config(config)
            warnings += words
            warnings += [
                f"{name} is {sample[name]:g} m in the file and {value:g} m in {config.name}; "
                "the file counts"
                for name, value in beside.items()
                if name in sample and not np.isclose(sample[name], value, rtol=1e-9)
            ]
            sample = {**beside, **sample}
        attributes = {"test_id": path.stem, "instrument": "Keithley", **identity(table.metadata)}
        measurement = Measurement(
            attributes, steps, sample, warnings=tuple(dict.fromkeys(warnings))
        )
        return Reading([measurement], files)

    def tables(self, path: Path) -> list[Table]:
        """Return the one table of a file."""
        content = _parse(decode(read_regular(path, _MAX_BYTES)), path)
        if not content.rows:
            raise IngestError(f"{path}: no row of numbers under headings")
        columns = np.array(content.rows).T
        table = Table(
            content.headings,
            list(columns),
            metadata=content.entries,
            first_line=content.first_line,
            source=path.name,
            flaws=tuple(content.flaws),
        )
        return [table]


def _headings(line: str) -> list[str]:
    """Return the headings of a line if they include a drain current and what it depends on."""
    cells = [cell.strip() for cell in line.lstrip("#").rstrip().split("\t")]
    quantities = {read_heading(cell).quantity for cell in cells if cell}
    return cells if "Id" in quantities and quantities & {"Vg", "Vd", "time"} else []


def _parse(text: str, path: Path) -> _Content:
    content = _Content()
    lines = text.splitlines()
    for place, line in enumerate(lines, 1):
        plain = line.lstrip("#").strip()
        if not plain:
            continue
        cells = _cells(line)
        entry = _ENTRY.fullmatch(plain) if "=" in plain else None
        if entry:
            content.entries.setdefault(entry[1].strip(), entry[2].strip())
        elif not content.headings and _headings(line):
            content.headings = _headings(line)
            content.first_line = place + 1
        elif content.headings and (row := _numbers(cells)) is not None:
            if len(cells) > len(content.headings):
                raise IngestError(
                    f"{path}: line {place} has {len(cells)} cells under "
                    f"{len(content.headings)} headings"
                )
            if len(cells) < len(content.headings):
                what = "the file is cut there" if place == len(lines) else "left out"
                content.flaws.append(
                    f"line {place} has {len(cells)} of {len(content.headings)} cells; {what}"
                )
            else:
                content.rows.append(row)
        elif _headings(line) == content.headings and content.headings:
            continue  # The next loop repeats the headings.
        elif len(cells) == 2 and not content.headings:
            content.entries.setdefault(cells[0].rstrip(":"), cells[1])
        else:
            content.flaws.append(f"line {place} left out: {plain[:60]!r}")
    return content


def _cells(line: str) -> list[str]:
    plain = line.strip("\r\n")
    cells = plain.split("\t") if "\t" in plain else plain.split()
    while cells and not cells[-1].strip():
        cells.pop()
    return [cell.strip() for cell in cells]


def _numbers(cells: Sequence[str]) -> list[float] | None:
    """Return the numbers of a row, None if a cell is neither a number nor a mark for none."""
    try:
        return [float(cell) for cell in cells]
    except ValueError:
        values = [number(cell) for cell in cells]
    known = (
        not cell or not math.isnan(value) or is_overflow_word(cell)
        for cell, value in zip(cells, values, strict=True)
    )
    return values if all(known) else None


def _tail(path: Path) -> str:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            file.seek(max(size - 1024, 0))
            return decode(file.read(1024))
    except OSError:
        return ""


def _config_of(path: Path) -> tuple[Path | None, list[str]]:
    """Return the ``.cfg`` that belongs to a file: the only one, or the one with its name."""
    try:
        found = sorted(p for p in path.parent.iterdir() if p.suffix.lower() == ".cfg")
    except OSError:
        return None, []
    if len(found) < 2:
        return (found[0], []) if found else (None, [])
    named = []
    for config in found:
        stem = re.sub(r"_*config$", "", config.stem, flags=re.IGNORECASE)
        if stem and path.stem.startswith(stem):
            named.append((len(stem), config))
    if named:
        return max(named)[1], []
    names = ", ".join(config.name for config in found)
    return None, [f"several .cfg files may belong to it ({names}); none was used"]


def _read_config(path: Path) -> tuple[dict[str, Any], list[str]]:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    try:
        parser.read_string(decode(read_regular(path, _MAX_CONFIG)))
    except (configparser.Error, IngestError) as error:
        return {}, [f"{path.name} cannot be read: {' '.join(str(error).split())[:200]}"]
    entries: Mapping[str, str] = {
        name: value for section in parser.sections() for name, value in parser.items(section)
    }
    found, warnings = geometry(entries)
    return found, [f"{path.name}: {warning}" for warning in warnings]


READER = KeithleyReader()
