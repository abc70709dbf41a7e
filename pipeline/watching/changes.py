"""What changes in a folder: told by the file system, or found by looking again and again.

Network drives tell only of what this machine has done itself, so they are looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from oectflow.errors import ConfigError, InputError
from oectflow.extras import extra

#: How long nobody hears of anything, at most; in ms.
_TICK = 250
#: Changes are told together that come within so many ms.
_STEP, _DEBOUNCE = 50, 200
#: A network drive is looked at so often; in ms.
_POLL = 1000
#: Drives on which another machine may write without this one being told.
_NETWORK = frozenset(
    (
        "nfs", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "afpfs", "afs", "9p", "ncpfs",
        "ceph", "glusterfs", "lustre", "beegfs", "gpfs", "davfs", "webdav", "fuse.sshfs",
        "fuse.rclone", "fuse.s3fs", "fuse.gcsfuse", "fuse.glusterfs", "fuse.davfs2", "vboxsf",
        "vmhgfs", "fuse.vmhgfs-fuse", "drvfs", "prl_fs", "virtiofs", "remote",
    )
)  # fmt: skip


def watch_folder(root: Path, complain: Callable[[str], object]) -> tuple[Iterator[list[Path]], str]:
    """Begin to watch a folder with all that is below it.

    Parameters
    ----------
    root
        The folder.
    complain
        Called with a sentence where the file system tells no more, and it is looked at instead.

    Returns
    -------
    An iterator without end over the files and new folders that have changed, with an empty list
    where nothing has for a quarter of a second; and how it is done.

    Raises
    ------
    ConfigError
        The package watchfiles is not installed.
    InputError
        The folder cannot be watched.
    """
    with extra("watch", "watch", ConfigError):
        import watchfiles  # noqa: F401
    kind = file_system_of(root)
    if is_network(kind, root):
        return _polled(root), f"by looking every {_POLL / 1000:g} s: {root} is on a drive {kind!r}"
    try:
        changes = _told(root, polling=False)
        first = next(changes)
    except OSError as error:
        # Linux gives a user so many folders to watch, and no more.
        return _polled(root), f"by looking every {_POLL / 1000:g} s: {_why(error)}"
    return _kept_up(root, first, changes, complain), "by what the file system tells"


def file_system_of(path: Path) -> str:
    """Return the kind of the file system of a path in lower case, ``""`` where nobody knows."""
    path = path.resolve()
    found = [
        part for part in psutil.disk_partitions(all=True) if path.is_relative_to(part.mountpoint)
    ]
    # Of two on one place, the later one hides the other.
    nearest = max(found, key=lambda part: len(Path(part.mountpoint).parts), default=None)
    if nearest is None:
        return ""
    if "remote" in nearest.opts.split(","):
        return "remote"
    return str(nearest.fstype).lower()


def is_network(kind: str, path: Path) -> bool:
    """Whether another machine may write there; also where a path names a server (UNC)."""
    return kind in _NETWORK or str(path.resolve()).startswith("\\\\")


def _polled(root: Path) -> Iterator[list[Path]]:
    return _told(root, polling=True)


def _told(root: Path, *, polling: bool) -> Iterator[list[Path]]:
    from watchfiles import Change, watch

    try:
        for changes in watch(
            root,
            watch_filter=None,
            debounce=_DEBOUNCE,
            step=_STEP,
            rust_timeout=_TICK,
            yield_on_timeout=True,
            force_polling=polling,
            poll_delay_ms=_POLL,
            ignore_permission_denied=True,
        ):
            # A folder has changed where something in it has, which is told by itself.
            yield [
                path
                for change, path in ((change, Path(name)) for change, name in sorted(changes))
                if change is Change.added or not path.is_dir()
            ]
    except FileNotFoundError as error:
        raise InputError(f"{root}: is gone ({error})") from error


def _kept_up(
    root: Path,
    first: list[Path],
    changes: Iterator[list[Path]],
    complain: Callable[[str], object],
) -> Iterator[list[Path]]:
    yield first
    try:
        yield from changes
    except (OSError, RuntimeError) as error:
        # RuntimeError is what watchfiles raises where its own thread has failed.
        complain(f"{root} is looked at every {_POLL / 1000:g} s from now on: {error}")
    yield from _polled(root)


def _why(error: OSError) -> str:
    return f"{error}; on Linux, sysctl fs.inotify.max_user_watches is how many folders may be told"
