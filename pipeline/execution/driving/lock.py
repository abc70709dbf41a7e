"""One run, and one watcher, at a time in a folder."""

from __future__ import annotations

import errno
import stat
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from oectflow.errors import OutputError, StorageError
from oectflow.pipeline.execution.driving.lease import only_one_with
from oectflow.place import as_remote

# What NFS without a lock daemon, and some FUSE, answer.
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}


def only_run_in(folder: Path) -> AbstractContextManager[None]:
    """Hold the lock of an output folder; raises as :func:`only_one_in`."""
    return only_one_in(
        folder,
        ".oectflow.lock",
        lambda folder: OutputError(
            f"{folder}: another run is writing here; wait for it, or choose another folder"
        ),
    )


@contextmanager
def only_one_in(folder: Path, name: str, taken: Callable[[Path], OutputError]) -> Iterator[None]:
    """Hold a lock in a folder.

    The lock belongs to the open file, not to its existence, so a process that dies releases it.

    Parameters
    ----------
    folder, name
        The folder, and the file in it.
    taken
        Returns the error to raise if another process holds the lock.

    Raises
    ------
    OutputError
        Another process holds it.
    StorageError
        The folder cannot be written.
    """
    if (remote := as_remote(folder)) is not None:
        with only_one_with(remote / name):
            yield
        return
    path = folder / name
    try:
        # Whoever may write the folder may hold the lock, whatever the umask of the first one was.
        lock = FileLock(path, mode=stat.S_IMODE(folder.stat().st_mode) & 0o666)
        lock.acquire(timeout=0)
    except Timeout:
        raise taken(folder) from None
    except (OSError, NotImplementedError) as error:
        if isinstance(error, NotImplementedError) or error.errno in _NO_LOCKS:
            warnings.warn(
                f"{folder}: its file system has no locks; see to it that nobody else writes here "
                "at the same time",
                stacklevel=4,
            )
            yield
            return
        reason = f"{folder}: cannot be written ({error.strerror or error})"
        if isinstance(error, PermissionError):
            reason += f"; {_whose(path if path.exists() else folder)}"
        raise StorageError(reason) from error
    try:
        yield
    finally:
        lock.release()


def _whose(path: Path) -> str:
    """Say to whom something belongs, and what a group that writes together has to set."""
    try:
        owner = path.owner()
    except (KeyError, NotImplementedError):
        owner = "another account"
    mode = stat.S_IMODE(path.stat().st_mode)
    return (
        f"{path.name} belongs to {owner} and has the mode {mode:o}; for a folder that a group "
        f"writes, its owner says: chmod -R g+rwX {path if path.is_dir() else path.parent}"
    )
