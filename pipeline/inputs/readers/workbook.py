"""Workbooks as rows of cells, read through python-calamine within bounds.

python-calamine 0.9.1 (2026-11) binds the Rust library calamine: one reader for ``.xls``, ``.xlsx``,
``.xlsm`` and ``.ods``, kept by its authors and used by pandas.  It holds a sheet as a full
rectangle, so that one cell far out asks for all memory.  What a file unpacks to, and how large its
rectangles are, is looked at first; and since a damaged file can say one thing and ask for another,
calamine reads in a process of its own, with a bound on its memory.
"""

from __future__ import annotations

import io
import pickle
import re
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from oectflow.errors import IngestError
from oectflow.pipeline.inputs.readers.files import file_head
from oectflow.pipeline.inputs.readers.regular_file import read_regular

_MAX_BYTES = 256 * 2**20
_MAX_UNPACKED = 512 * 2**20
#: Of one sheet; each takes some 100 bytes.
_MAX_CELLS = 10_000_000
_MAX_MEMORY = 3 * 2**30
_MAX_SECONDS = 300
_PROGRAM = Path(__file__).with_name("calamine_process.py")
_DAMAGES = (zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, ValueError)
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_STREAMS = ("Workbook".encode("utf-16-le"), "Book".encode("utf-16-le"))
_REFERENCE = re.compile(rb'<c\s[^>]*?\br="([A-Z]{1,3})(\d{1,7})"')
_REPEATED = re.compile(rb'number-(columns|rows)-repeated="(\d+)"')


@dataclass(frozen=True)
class Sheet:
    """One sheet: its cells as Python objects, empty ones as ``""``.

    Attributes
    ----------
    name
        Of the sheet.
    rows
        From the first row that holds anything.
    first_row
        Its number, from 1.
    hidden
        Nobody who opens the workbook sees it.
    """

    name: str
    rows: Sequence[Sequence[object]]
    first_row: int = 1
    hidden: bool = False


def workbook_kind(path: Path) -> str:
    """Return ``"xlsx"``, ``"ods"`` or ``"xls"``, by content, and ``""`` for anything else."""
    start = file_head(path, len(_OLE))
    if start != _OLE and not start.startswith(b"PK"):
        return ""
    head = file_head(path, 2**20)
    if start == _OLE:
        return "xls" if any(name in head for name in _STREAMS) else ""
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
    except _DAMAGES:
        # The list of contents stands at the end: this one is cut.
        return "xlsx" if b"xl/w" in head else ""
    if names & {"xl/workbook.xml", "xl/workbook.bin"}:
        return "xlsx"
    return "ods" if "content.xml" in names and b"opendocument.spreadsheet" in head else ""


def read_sheets(path: Path) -> tuple[list[Sheet], list[str]]:
    """Return all sheets with cells in them, and a note for each of the others.

    Raises
    ------
    IngestError
        It is damaged, has a password, is too large, or needs python-calamine.
    """
    if find_spec("python_calamine") is None:
        raise IngestError(f"{path}: workbooks need python-calamine: pip install 'oectflow[excel]'")
    _check_size(read_regular(path, _MAX_BYTES), path)
    sheets: list[Sheet] = []
    notes: list[str] = []
    for name, what, hidden, first_row, rows in _cells(path):
        if what:
            notes.append(f"sheet {name!r} left out: it is {what}")
        else:
            sheets.append(Sheet(name, rows, first_row, hidden))
    return sheets, notes


def _cells(path: Path) -> list[tuple[str, str, bool, int, list[list[object]]]]:
    command = [sys.executable, str(_PROGRAM), str(path.absolute()), str(_MAX_MEMORY)]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=_MAX_SECONDS)
    except (subprocess.TimeoutExpired, OSError) as error:
        raise IngestError(f"{path}: this workbook cannot be read ({error})") from None
    if done.returncode:
        # What Rust says when there is no memory left stands in many lines, the reason in the first.
        said = done.stderr.decode(errors="replace").strip().splitlines()
        reason = (
            said[0][:200] if said else f"it took more than {_MAX_MEMORY // 2**30} GiB of memory"
        )
        raise IngestError(
            f"{path}: this workbook cannot be read ({reason}); open it in a spreadsheet program "
            "and save it again, without a password"
        )
    # Written by our own program, not by the file.
    found: list[tuple[str, str, bool, int, list[list[object]]]] = pickle.loads(done.stdout)
    return found


def _check_size(raw: bytes, path: Path) -> None:
    if raw.startswith(_OLE):
        _check_old(raw, path)
        return
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            unpacked = sum(info.file_size for info in archive.infolist())
            if unpacked > _MAX_UNPACKED:
                raise IngestError(
                    f"{path}: {len(raw) / 2**20:.1f} MiB that unpack to {unpacked / 2**20:,.0f} "
                    f"MiB, more than the {_MAX_UNPACKED // 2**20} MiB that are read; save the "
                    "sheets in files of their own"
                )
            for name in archive.namelist():
                if re.fullmatch(r"xl/worksheets/[^/]+\.xml", name):
                    _check_area(_area(archive.read(name)), name, path)
                elif name == "content.xml":
                    _check_repeats(archive.read(name), path)
    except (*_DAMAGES, NotImplementedError, RuntimeError) as error:
        raise IngestError(f"{path}: this workbook is damaged ({error})") from None


def _area(xml: bytes) -> int:
    """Return the cells of the rectangle around all cells of a sheet."""
    rows, columns = 0, 0
    letters: set[bytes] = set()
    for match in _REFERENCE.finditer(xml):
        letters.add(match[1])
        rows = max(rows, int(match[2]))
    for name in letters:
        number = 0
        for letter in name:
            number = number * 26 + letter - 64
        columns = max(columns, number)
    return rows * columns


def _check_repeats(xml: bytes, path: Path) -> None:
    """Refuse a table in which much is repeated; LibreOffice itself repeats empty cells only."""
    for row in xml.split(b"<table:table-row")[1:]:
        if b"office:value" not in row:
            continue
        largest = {b"columns": 1, b"rows": 1}
        for what, count in _REPEATED.findall(row[: row.rfind(b"office:value") + 200]):
            largest[what] = max(largest[what], int(count))
        _check_area(largest[b"columns"] * largest[b"rows"], "content.xml", path)


def _check_old(raw: bytes, path: Path) -> None:
    """Look at the records of an ``.xls`` that say how large its sheets are."""
    place = raw.find(b"\x00\x02\x0e\x00")
    while place >= 0:
        first, last, left, right = struct.unpack_from(
            "<IIHH", raw[place + 4 : place + 16] + b"\0" * 12
        )
        if first <= last <= 65536 and left <= right <= 256:
            _check_area((last - first) * (right - left), "a sheet", path)
        place = raw.find(b"\x00\x02\x0e\x00", place + 1)


def _check_area(cells: int, name: str, path: Path) -> None:
    if cells > _MAX_CELLS:
        raise IngestError(
            f"{path}: {name} spans {cells:,} cells, more than the {_MAX_CELLS:,} that are read; "
            "is there a cell far below or right of the data?"
        )
