"""Open an HDF5 file for reading; if it cannot be read, say why in plain words."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np
import xxhash

from oectflow.errors import UnreadableFile
from oectflow.object_store import Info
from oectflow.pipeline.inputs.object_file import open_object
from oectflow.place import as_remote, is_remote

#: Exceptions of h5py for damaged metadata or data: errors of HDF5, missing names, impossible types
#: and sizes.
_DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, MemoryError)
#: Errors of file systems without locks (NFS without a lock daemon, read-only mounts).
_NO_LOCKS = {errno.ENOLCK, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP}


@dataclass(frozen=True)
class FileIdentity:
    """Size in bytes and modification time (ns) of a file: cheap evidence that it is unchanged.

    ``others`` are path, size and modification time of the other files that hold data of it.  For an
    object in a store, ``etag`` is its version.
    """

    size: int
    mtime_ns: int
    others: tuple[tuple[str, int, int], ...] = ()
    etag: str = ""

    @classmethod
    def of(cls, path: Path, others: Iterable[str] = ()) -> FileIdentity:
        """Return the identity of a file and its other files; UnreadableFile if there is none."""
        if (remote := as_remote(path)) is not None:
            with reading(path, "the file"):
                about = remote.about()
            if about.is_folder:
                raise UnreadableFile(f"{path}: is a folder, expected one HDF5 file")
            return cls(about.size, about.mtime_ns, (), about.etag)
        size, mtime_ns = _stamp(path)
        return cls(size, mtime_ns, tuple((other, *_stamp(Path(other))) for other in others))

    def is_of(self, path: Path) -> bool:
        """Whether a file, and the other files that belong to it, are unchanged."""
        return self == FileIdentity.of(path, [other for other, *_ in self.others])

    def content_hash(self, path: Path) -> str:
        """Return the hash of the file's bytes, and of the others; OSError as ``open`` raises it.

        Of an object it is the ETag, by which nothing is read.
        """
        if self.etag:
            return f"etag-{self.etag}"
        return content_hash(path, *(other for other, *_ in self.others))


def of_version(path: Path, identity: FileIdentity) -> Path:
    """Return the path of an object in the version with this identity, any other path as it is."""
    if (remote := as_remote(path)) is not None:
        about = Info(identity.size, identity.mtime_ns, identity.etag)
        return cast("Path", remote.of_version(about))
    return path


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            # If its folder cannot be listed, this is the better reason.
            os.scandir(path).close()
    except OSError as error:
        raise UnreadableFile(explain(path, "the file", error)) from error
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        # Opening a named pipe would wait for a writer.
        raise UnreadableFile(f"{path}: is no file with content, expected one HDF5 file")
    return status.st_size, status.st_mtime_ns


def content_hash(*paths: str | os.PathLike[str]) -> str:
    """Return the XXH3-128 hash of the bytes of files, in hexadecimal; OSError as from ``open``."""
    digest = xxhash.xxh3_128()
    for path in paths:
        with open(path, "rb") as file:  # noqa: PTH123 - a Path for each of 100,000 takes its time
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
        HDF5 could not open the file, or could not read it inside the context.
    """
    with reading(path, what), (open_object if is_remote(path) else _open)(path) as file:
        yield file


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Turn h5py's exceptions for damaged files into UnreadableFile; parameters of open_file."""
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
        # On a file system without locks, reading needs none.
        if error.errno in _NO_LOCKS and "lock" in str(error):
            return h5py.File(path, "r", locking=False)
        raise


def explain(path: Path, what: str, error: BaseException) -> str:
    """Return in one line what cannot be read, why, and what to do about it."""
    if is_remote(path) and isinstance(error, OSError) and error.filename:
        return f"{path}: {what} cannot be read: {error.strerror}"
    if isinstance(error, FileNotFoundError) and path.is_symlink():
        return f"{path}: is a link to {path.readlink()}, which is not there"
    if isinstance(error, FileNotFoundError):
        return f"{path}: there is no such file"
    if isinstance(error, IsADirectoryError):
        return f"{path}: is a folder, expected one HDF5 file"
    if isinstance(error, BlockingIOError):
        return f"{path}: is being written by another process; run again when it is complete"
    if isinstance(error, PermissionError):
        return f"{path}: no permission to read it; change its mode or ask its owner"
    if isinstance(error, OSError) and error.errno == errno.ELOOP:
        return f"{path}: is a link that leads to itself"
    reason = " ".join(str(error).split()) or type(error).__name__
    if "already open for" in reason:
        # The mark that HDF5 leaves in a file while it is being written, also for readers (SWMR).
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
                f"oectflow ingest {path} FOLDER; or see its features at once: oectflow import "
                f"{path}"
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
