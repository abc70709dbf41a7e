"""Marks in their folder: one file for each who writes, a line for each mark, window or undo.

Nobody writes into the file of another, so that files of several machines on one network drive, or
copies that were made apart and put together again, lose nothing: what holds is the union of all
lines, less what was undone, in whatever order they are read.
"""

from __future__ import annotations

import json
import os
import platform
import re
import stat
import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import xxhash
from pydantic import ValidationError

from oectflow.errors import StorageError
from oectflow.pipeline.marks.mark import Mark, Undo, Window, user_name, why_not

#: Readers of a folder of Parquet files pass over what begins with an underscore.
FOLDER = "_marks"
#: 100,000 marks have some 30 MB.
_MOST_BYTES = 2**28
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")
_lock = threading.Lock()


@dataclass(frozen=True)
class Book:
    """All marks of a folder of results.

    Attributes
    ----------
    marks
        Every mark that was ever made, in the order of their times, then of their lines.
    windows
        Every window that was ever chosen, in the same order.
    undone
        How those that hold no longer ended, by the id of the mark or window.
    unreadable
        Why lines or files cannot be read, each with its place.
    """

    marks: tuple[Mark, ...] = ()
    windows: tuple[Window, ...] = ()
    undone: Mapping[str, Undo] = field(default_factory=dict)
    unreadable: tuple[str, ...] = ()

    @property
    def holding(self) -> tuple[Mark, ...]:
        """The marks that were not undone."""
        return tuple(mark for mark in self.marks if mark.id not in self.undone)

    @property
    def chosen(self) -> tuple[Window, ...]:
        """The last window that was chosen for each phase, and not undone."""
        last = {
            (one.experiment_id, one.step, one.cycle, one.phase): one
            for one in self.windows
            if one.id not in self.undone
        }
        return tuple(last.values())


def write(results: Path, entries: Sequence[Mark | Window | Undo]) -> Path:
    """Append entries to the file of this user on this machine, and return its path.

    Raises
    ------
    StorageError
        It cannot be written.
    """
    folder = results / FOLDER
    path = folder / _file_name()
    try:
        if not folder.is_dir():
            folder.mkdir(exist_ok=True)
            # Whoever may write results may mark them, whatever the umask of the first one was.
            folder.chmod(stat.S_IMODE(results.stat().st_mode))
        with _lock:
            _append(path, "".join(f"{_line(entry)}\n" for entry in entries).encode())
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror or error})") from error
    return path


def read(results: Path) -> Book:
    """Return the marks of a folder of results; what cannot be read is named and stops nothing."""
    marks: dict[Mark | Window, None] = {}
    undone: dict[str, Undo] = {}
    unreadable: list[str] = []
    for path in sorted((results / FOLDER).glob("*.jsonl")):
        for entry in _read_file(path, unreadable):
            if isinstance(entry, Undo):
                undone.setdefault(entry.undo, entry)
            else:
                marks[entry] = None
    in_order = sorted(marks, key=lambda mark: mark.when)
    return Book(
        tuple(one for one in in_order if isinstance(one, Mark)),
        tuple(one for one in in_order if isinstance(one, Window)),
        undone,
        tuple(unreadable),
    )


def _read_file(path: Path, unreadable: list[str]) -> list[Mark | Window | Undo]:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        unreadable.append(f"{path}: cannot be read ({error.strerror or error})")
        return []
    if len(data) > _MOST_BYTES:
        unreadable.append(f"{path}: larger than {_MOST_BYTES >> 20} MiB; only its begin is read")
    *lines, rest = data[:_MOST_BYTES].split(b"\n")
    entries = []
    for number, line in enumerate([*lines, rest], 1):
        if not line.strip():
            continue
        try:
            entries.append(_parsed(line))
        except ValueError as error:
            # ValidationError and UnicodeDecodeError, too.
            why = why_not(error) if isinstance(error, ValidationError) else str(error)
            if number > len(lines):
                why = "it was cut off while it was written; mark again what it was about"
            unreadable.append(f"{path}, line {number}: is no mark: {why}")
    return entries


def _parsed(line: bytes) -> Mark | Window | Undo:
    try:
        entry = json.loads(line)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(entry, dict):
        raise ValueError(f"expected an object, not {str(entry)[:40]}")
    if "undo" in entry:
        return Undo(**entry)
    return Mark(**entry) if "label" in entry or "phase" not in entry else Window(**entry)


def _line(entry: Mark | Window | Undo) -> str:
    return json.dumps(entry.model_dump(exclude_defaults=True), ensure_ascii=False)


def _append(path: Path, data: bytes) -> None:
    """Add lines at the end in one piece, as other processes of this user may do at once."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0), 0o666)
    try:
        size = os.fstat(descriptor).st_size
        if size == 0:
            path.chmod(stat.S_IMODE(path.parent.stat().st_mode) & 0o666)
        elif _last_byte(descriptor, size) != b"\n":
            # A line that was cut off must not spoil this one.
            data = b"\n" + data
        if os.write(descriptor, data) < len(data):
            raise OSError("the disk took a part only")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _last_byte(descriptor: int, size: int) -> bytes:
    os.lseek(descriptor, size - 1, os.SEEK_SET)
    return os.read(descriptor, 1)


def _file_name() -> str:
    """Return a name that no other user or machine has, though their names may be the same."""
    who, where = user_name(), platform.node()
    digest = xxhash.xxh32_hexdigest(f"{who}\0{where}\0{uuid.getnode()}".encode())
    return f"{_UNSAFE.sub('_', f'{who}-{where}')[:100]}-{digest}.jsonl"
