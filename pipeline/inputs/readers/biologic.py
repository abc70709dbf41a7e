"""BioLogic's ``.mpt``, text of EC-Lab and BT-Lab, and ``.mpr``, what the instrument itself writes.

``.mpt`` is read here.  Tried on the 43 files of the tests of yadg: ``galvani`` 0.5.0 (2025-03)
reads one, since it asks for the ends of lines of its own examples and for ASCII; ``yadg`` 7.0.1
(2026-07) asks for pandas before 3 and brings thirty packages for this one format.  Here 36 give
steps, and seven hold no current or no row.

``.mpr`` is binary, and read through galvani where that is installed (``oectflow[biologic]``; it is
under the GPL, so nothing of ours asks for it).  Of 34 pairs of ``.mpr`` and ``.mpt`` it gave 18
with the same numbers, to the digits of the text; the others have a column that galvani does not
know, or lack one that EC-Lab works out for the text only, and are refused.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from oectflow.errors import IngestError
from oectflow.extras import extra
from oectflow.measurement import Measurement
from oectflow.pipeline.inputs.readers.files import decode, file_head
from oectflow.pipeline.inputs.readers.potentiostat import Column, left_out, steps_of, table_of
from oectflow.pipeline.inputs.readers.reader import Reading, Recognition
from oectflow.pipeline.inputs.readers.regular_file import read_regular
from oectflow.pipeline.inputs.readers.settings import number
from oectflow.pipeline.inputs.readers.tables import Table

_MAX_BYTES = 256 * 2**20
_FIRST_LINE = re.compile(r"(EC|BT)-Lab ASCII FILE")
_MODULAR = b"BIO-LOGIC MODULAR FILE"
#: Column without its unit -> array, and the sign of its values in ours.
_ARRAYS = {
    "time": ("time", 1.0),
    "I": ("Id", 1.0),
    "<I>": ("Id", 1.0),
    "Ewe": ("Vdc", 1.0),
    "<Ewe>": ("Vdc", 1.0),
    "freq": ("frequency", 1.0),
    "Re(Z)": ("Z_real", 1.0),
    "-Im(Z)": ("Z_imag", -1.0),
}
_UNITS = {"s": "s", "A": "A", "V": "V", "Hz": "Hz", "Ohm": "Ohm", "ohm": "Ohm"}
_PREFIXES = {"p": 1e-12, "n": 1e-9, "µ": 1e-6, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6}
#: Width of a column in the table of settings.
_WIDTH = 20


class BioLogicReader:
    """Reads one file: an experiment with one trace, or one or more spectra."""

    name = "biologic"
    title = "BioLogic EC-Lab and BT-Lab files (.mpt, .mpr)"

    def recognises(self, path: Path) -> Recognition:
        """Look at the first line."""
        head = file_head(path, 256)
        if head.startswith(_MODULAR):
            return Recognition(1.0, f"it begins with {_MODULAR.decode()!r}")
        match = _FIRST_LINE.match(decode(head))
        if match:
            return Recognition(1.0, f"first line is {match[0]!r}")
        return Recognition(0.0, "first line is not 'EC-Lab ASCII FILE'")

    def read(self, path: Path) -> Reading:
        """Read the table of a file.

        Raises
        ------
        IngestError
            It is damaged, holds nothing of a known kind, or needs galvani.
        """
        columns, info, warnings = _read(path)
        info = {"data_file": path.name, **info}
        steps, words = steps_of(columns, info, {}, "the table")
        warnings += words
        if not steps:
            reasons = "; ".join(warnings) or "its table has no rows"
            raise IngestError(f"{path}: nothing to read in this file: {reasons}")
        attributes = {"test_id": path.stem, "instrument": "BioLogic"}
        if info.get("type"):
            attributes["description"] = info["type"]
        return Reading(
            [Measurement(attributes, steps, warnings=tuple(dict.fromkeys(warnings)))], [path]
        )

    def tables(self, path: Path) -> list[Table]:
        """Return the one table of a file."""
        return [table_of(_read(path)[0], path.name)]


def _read(path: Path) -> tuple[list[Column], dict[str, Any], list[str]]:
    return (_read_mpr if file_head(path, len(_MODULAR)) == _MODULAR else _read_mpt)(path)


def _read_mpt(path: Path) -> tuple[list[Column], dict[str, Any], list[str]]:
    lines = decode(read_regular(path, _MAX_BYTES)).splitlines()
    match = re.search(r"Nb header lines\s*:\s*(\d+)", lines[1] if len(lines) > 1 else "")
    last = int(match[1]) if match else 0
    if not 2 < last <= len(lines):
        raise IngestError(
            f"{path}: line 2 does not say how many lines its header has; export it again as text"
        )
    header, headings = lines[2 : last - 1], lines[last - 1].rstrip("\t").split("\t")
    rows, short = [], []
    warnings = []
    width = 1 + max((line.rstrip("\t").count("\t") for line in lines[last:]), default=0)
    if width < len(headings) and not headings[width]:
        # EC-Lab 11.61 writes an empty heading and repeats columns of before; they have no cells.
        warnings.append(f"headings without a column: {', '.join(headings[width + 1 :])}")
        headings = headings[:width]
    for place, line in enumerate(lines[last:], last + 1):
        cells = line.rstrip("\t").split("\t")
        if len(cells) > len(headings):
            raise IngestError(
                f"{path}: line {place} has {len(cells)} cells under {len(headings)} headings"
            )
        # Trailing cells may be empty, and the tab after them is gone.
        if line.count("\t") < len(headings) - 1 and line.strip():
            short.append(place)
        elif line.strip():
            rows.append(cells + [""] * (len(headings) - len(cells)))
    warnings += [left_out(short)] if short else []
    columns = [
        _column(heading, np.array([number(row[place]) for row in rows], np.float64))
        for place, heading in enumerate(headings)
    ]
    for place, column in enumerate(columns):
        if column.array == "time" and rows and not np.isfinite(column.values).any():
            raise IngestError(
                f"{path}: its time is {rows[0][place]!r}; export it with the time elapsed, in "
                "seconds"
            )
    technique = next((line.strip() for line in header if line.strip()), "")
    return columns, {"type": technique, "parameters": _settings(header)}, warnings


def _read_mpr(path: Path) -> tuple[list[Column], dict[str, Any], list[str]]:
    with extra("biologic", f"{path}: .mpr, unless exported as .mpt,", IngestError):
        from galvani.BioLogic import MPRfile
    file = io.BytesIO(read_regular(path, _MAX_BYTES))
    try:
        data = MPRfile(file).data
    except Exception as error:  # noqa: BLE001  what it raises on files that it does not know
        raise IngestError(f"{path}: galvani cannot read it ({error}); export it as .mpt") from None
    names: Sequence[str] = data.dtype.names or ()
    if "freq/Hz" in names and (data["freq/Hz"] > 0).any() and "Re(Z)/Ohm" not in names:
        raise IngestError(
            f"{path}: its spectra stand there as magnitude and phase only; export it as .mpt"
        )
    return [_column(name, np.asarray(data[name], np.float64)) for name in names], {}, []


def _column(heading: str, values: np.ndarray[Any, np.dtype[np.float64]]) -> Column:
    name, _, unit = heading.replace("/V>", ">/V").rpartition("/")
    if not name:
        name, unit = heading, ""
    array, sign = _ARRAYS.get(name, ("", 1.0))
    scale = 1.0
    if unit not in _UNITS and unit[1:] in _UNITS and unit[:1] in _PREFIXES:
        scale = _PREFIXES[unit[0]]
    elif unit and unit not in _UNITS:
        array = ""
    return Column(heading if not unit else name, values, unit, array, scale * sign)


def _settings(header: Sequence[str]) -> dict[str, str]:
    """Return the entries of a header: ``name : value``, or columns of 20 characters."""
    settings: dict[str, str] = {}
    previous = ""
    for line in header:
        name, colon, value = line.partition(" : ")
        if colon:
            settings.setdefault(name.strip(), value.strip())
        elif len(line) >= 2 * _WIDTH and len(line) % _WIDTH == 0:
            cells = [line[i : i + _WIDTH].strip() for i in range(0, len(line), _WIDTH)]
            key = f"{previous} vs." if cells[0] == "vs." else cells[0]
            settings.setdefault(key, " | ".join(cells[1:]))
            previous = cells[0]
    return {name: value for name, value in settings.items() if name and value}


READER = BioLogicReader()
