"""Files that strangers wrote: how they begin, and their text."""

from __future__ import annotations

from pathlib import Path

from oectflow.errors import IngestError
from oectflow.pipeline.inputs.readers.regular_file import check_regular


def file_head(path: Path, size: int) -> bytes:
    """Return the first bytes of a plain file, ``b""`` of anything else or what cannot be read."""
    try:
        check_regular(path)
        with path.open("rb") as file:
            return file.read(size)
    except (IngestError, OSError):
        return b""


def decode(raw: bytes) -> str:
    """Return the text of a vendor's file: UTF-16 with a mark, UTF-8, else what Windows writes."""
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return raw.decode("utf-16", "replace")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("cp1252", "replace")
