"""Read regular files only: pipes and devices never end."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from oectflow.errors import IngestError


def check_regular(path: Path) -> int:
    """Return the size of a file in bytes, without opening it.

    Raises
    ------
    IngestError
        It is not a regular file, but a folder, pipe, socket or device; or it does not exist.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        what = "is a link to nothing" if path.is_symlink() else "there is no such file"
        raise IngestError(f"{path}: {what}") from None
    except OSError as error:
        raise IngestError(f"{path}: cannot be read ({error.strerror or error})") from None
    if not stat.S_ISREG(status.st_mode):
        raise IngestError(f"{path}: is {_kind(status.st_mode)}, expected a file")
    return status.st_size


def read_regular(path: Path, at_most: int | None = None) -> bytes:
    """Return the bytes of a regular file.

    Parameters
    ----------
    path
        The file.
    at_most
        A file with more bytes is refused.

    Raises
    ------
    IngestError
        It is no regular file, is larger, or cannot be read.
    """
    size = check_regular(path)
    if at_most is not None and size > at_most:
        raise IngestError(f"{path}: has {size:,} bytes, expected at most {at_most:,}")
    try:
        # Do not wait for a writer if a pipe has replaced the file in the meantime.
        with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
            return file.read() if at_most is None else file.read(at_most)
    except OSError as error:
        raise IngestError(f"{path}: cannot be read ({error.strerror or error})") from None


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "no regular file")
