"""Open an HDF5 file for reading, and say in plain words why it cannot be read."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xxhash

from oectflow.errors import UnreadableFile

#: What h5py raises on damaged metadata or data: HDF5's own errors, names that are gone, types and
#: sizes that make no sense.
_DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, MemoryError)
#: Answers of file systems that give no lock (NFS without a lock daemon, read-only mounts).
_NO_LOCKS = {errno.ENOLCK, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP}


@dataclass(frozen=True)
class FileIdentity:
    """Size in bytes and modification time (ns) of a file: cheap evidence that it is the same."""

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> FileIdentity:
        """Return the identity of a file; UnreadableFile where there is none."""
        try:
            status = path.stat()
        except OSError as error:
            raise UnreadableFile(explain(path, "the file", error)) from error
        return cls(status.st_size, status.st_mtime_ns)


def content_hash(path: str | os.PathLike[str]) -> str:
    """Return the XXH3-128 hash of a file's bytes, in hexadecimal; OSError as ``open`` raises it."""
    digest = xxhash.xxh3_128()
    with open(path, "rb") as file:  # noqa: PTH123 - a Path for each of 100,000 files takes its time
        while part := file.read(2**20):
            digest.update(part)
    return digest.hexdigest()


@contextmanager
def open_file(path: Path, what: str) -> Iterator[h5py.File]:
    """Open a file for reading while the context lasts.

    Parameters
    ----------
    path
        The file.
    what
        What is read from it, for the error message.

    Raises
    ------
    UnreadableFile
        Whatever HDF5 could not open, or could not read inside the context.
    """
    with reading(path, what), _open(path) as file:
        yield file


def need_whole(path: Path, file: h5py.File) -> None:
    """Make sure that all data of a file lie in itself.

    A file from somebody else could otherwise bring in whatever its reader may read, and what lies
    elsewhere changes, or is missing, without a trace in this file.

    Raises
    ------
    UnreadableFile
        There is an external link, external storage or a virtual dataset; the message names it.
    """
    groups, seen = [file["/"]], set()
    while groups:
        group = groups.pop()
        for name in group:
            link = group.get(name, getlink=True)
            where = f"{group.name.rstrip('/')}/{name}"
            if isinstance(link, h5py.ExternalLink):
                raise UnreadableFile(_elsewhere(path, where, f"is a link to {link.filename!r}"))
            if not isinstance(link, h5py.HardLink):
                # Where it leads in this file is looked at under its own name.
                continue
            item = h5py.h5o.open(group.id, name.encode())
            address = h5py.h5o.get_info(item).addr
            if address in seen:
                continue
            seen.add(address)
            if isinstance(item, h5py.h5g.GroupID):
                groups.append(h5py.Group(item))
            elif isinstance(item, h5py.h5d.DatasetID):
                properties = item.get_create_plist()
                if properties.get_layout() == h5py.h5d.VIRTUAL:
                    raise UnreadableFile(_elsewhere(path, where, "is a virtual dataset"))
                if n := properties.get_external_count():
                    what = f"is stored in {n} other file(s)"
                    raise UnreadableFile(_elsewhere(path, where, what))


def _elsewhere(path: Path, where: str, what: str) -> str:
    return (
        f"{path}: {where} {what}; expected a file that holds its own data: copy them into it, for "
        "example by reading and writing that dataset with h5py"
    )


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Turn what h5py raises on damaged files into UnreadableFile; parameters as open_file's."""
    try:
        yield
    except _DAMAGE as error:
        raise UnreadableFile(explain(path, what, error)) from error


def _open(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except BlockingIOError:
        raise
    except OSError as error:
        # Reading needs no lock where the file system has none to give.
        if error.errno in _NO_LOCKS and "lock" in str(error):
            return h5py.File(path, "r", locking=False)
        raise


def explain(path: Path, what: str, error: BaseException) -> str:
    """Say in one line what cannot be read, why, and what to do about it."""
    if isinstance(error, FileNotFoundError):
        return f"{path}: there is no such file"
    if isinstance(error, IsADirectoryError):
        return f"{path}: is a folder, expected one HDF5 file"
    if isinstance(error, BlockingIOError):
        return f"{path}: is being written by another process; read it when that has finished"
    if isinstance(error, PermissionError):
        return f"{path}: no permission to read it; change its mode or ask its owner"
    reason = " ".join(str(error).split()) or type(error).__name__
    if "already open for" in reason:
        # The mark that HDF5 leaves in a file while it is written, also for readers (SWMR).
        return (
            f"{path}: is being written; run again when it is complete.  If its writer has died, "
            f"'h5clear -s' of a copy removes the mark"
        )
    if "truncated" in reason:
        reason = f"the file is truncated ({reason})"
    elif "signature not found" in reason:
        if path.stat().st_size:
            reason = "the file is no HDF5 file"
            return (
                f"{path}: {what} cannot be read: {reason}; copy or convert it again: "
                f"oectflow ingest {path} FOLDER"
            )
        reason = "the file is empty"
    elif "filter returned failure" in reason:
        reason = f"the stored checksum does not match the data ({reason})"
    return f"{path}: {what} cannot be read: {reason}; copy or convert the file again"


def plain(value: Any) -> Any:
    """Return an HDF5 value as str, int, float, bool, or a list of them; ``""`` for an empty one.

    Text that is not UTF-8, or was cut within a character, keeps what can be read.
    """
    if isinstance(value, h5py.Empty):
        return ""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
