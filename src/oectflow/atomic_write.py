"""Files that appear whole, or not at all."""

from __future__ import annotations

import errno
import os
import re
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from oectflow.place import as_remote, is_remote

# File systems take names of 255 bytes; what is added to a name needs 22 of them and a suffix.
_LONGEST_NAME_BYTES = 200
# What was added to a name.
_LEFTOVER = re.compile(r"(.*)\.[0-9a-f]+\.tmp[^/]*", re.DOTALL)
# What a file system answers that cannot sync a folder (CIFS, some FUSE): the rename is done.
_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES, errno.EPERM}


@contextmanager
def atomic_write(target: Path, suffix: str = "") -> Iterator[Path]:
    """Yield a path beside ``target``; the file written there takes its place on success only.

    The file and the rename are synced, so that both survive a power cut where the file system
    offers that.  What goes to an object store is written on this machine and put there at once.

    Parameters
    ----------
    target
        The file to create or replace.
    suffix
        End of the temporary name, for writers that read the format off it.

    Raises
    ------
    OSError
        The file cannot be written or renamed.
    """
    if (remote := as_remote(target)) is not None:
        with tempfile.TemporaryDirectory(prefix="oectflow-") as folder:
            partial = Path(folder) / f"object{suffix}"
            partial.touch()
            yield partial
            remote.write_bytes(partial.read_bytes())
        return
    partial = target.with_name(f"{_prefix(target)}.{uuid.uuid4().hex[:16]}.tmp{suffix}")
    # Made here, so that nothing that stands there, a link least of all, is written to.
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0)
    os.close(os.open(partial, flags, 0o666))
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(target)
        _sync_folder(target.parent)
    finally:
        partial.unlink(missing_ok=True)


def remove_leftovers(targets: Iterable[Path]) -> None:
    """Delete unfinished versions of these files that a killed process left behind."""
    prefixes: dict[Path, set[str]] = {}
    for target in targets:
        if is_remote(target):
            # An object that was not put whole is none.
            continue
        prefixes.setdefault(target.parent, set()).add(_prefix(target))
    for folder, wanted in prefixes.items():
        # Once for all: a folder may hold 10,000 results.
        for leftover in folder.glob(".*.tmp*"):
            found = _LEFTOVER.match(leftover.name)
            if found and found[1] in wanted:
                leftover.unlink(missing_ok=True)


def _prefix(target: Path) -> str:
    # The leading dot hides an unfinished file from every reader of the folder.
    short = os.fsencode(target.name)[:_LONGEST_NAME_BYTES]
    return "." + short.decode(errors="ignore")


def _sync_folder(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)
