"""One run at a time in an output folder."""

from __future__ import annotations

import errno
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from oectflow.errors import OutputError, StorageError

# What NFS without a lock daemon, and some FUSE, answer.
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}


@contextmanager
def only_run_in(folder: Path) -> Iterator[None]:
    """Hold the lock of an output folder.

    The lock belongs to the open file, not to its existence, so a process that dies releases it.

    Raises
    ------
    OutputError
        Another run holds it.
    StorageError
        The folder cannot be written.
    """
    lock = FileLock(folder / ".oectflow.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise OutputError(
            f"{folder}: another run is writing here; wait for it, or choose another folder"
        ) from None
    except (OSError, NotImplementedError) as error:
        if isinstance(error, NotImplementedError) or error.errno in _NO_LOCKS:
            warnings.warn(
                f"{folder}: its file system has no locks; see to it that no other run writes here "
                "at the same time",
                stacklevel=4,
            )
            yield
            return
        raise StorageError(f"{folder}: cannot be written ({error.strerror or error})") from error
    try:
        yield
    finally:
        lock.release()
