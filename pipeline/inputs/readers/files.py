"""Files that strangers wrote: only plain ones are opened, and none is read without a bound."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from oectflow.errors import IngestError


def file_head(path: Path, size: int) -> bytes:
    """Return the first bytes of a plain file, ``b""`` of anything else or what cannot be read."""
    try:
        return _read(path, size)
    except OSError:
        return b""


def read_bytes(path: Path, limit: int) -> bytes:
    """Return all of a plain file.

    Raises
    ------
    IngestError
        It is no plain file, has more than ``limit`` bytes, or cannot be read.
    """
    try:
        raw = _read(path, limit + 1)
    except OSError as error:
        raise IngestError(f"{path}: cannot be read ({error.strerror or error})") from None
    if len(raw) > limit:
        raise IngestError(
            f"{path}: larger than {limit // 2**20} MiB, the most that is read of this format; "
            "export it in parts"
        )
    return raw


def decode(raw: bytes) -> str:
    """Return the text of a vendor's file: UTF-16 with a mark, UTF-8, else what Windows writes."""
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return raw.decode("utf-16", "replace")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("cp1252", "replace")


def _read(path: Path, size: int) -> bytes:
    # Opening a pipe that nobody writes to would wait for ever.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    with open(descriptor, "rb") as file:  # noqa: PTH123  a descriptor has no path
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{path.name} is no plain file")
        return file.read(size)
