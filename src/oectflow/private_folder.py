"""Folders that no other account can put anything into."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from oectflow.errors import OectflowError

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class NotPrivate(OectflowError):
    """A folder belongs to another account, or others may put files into it."""


def private_folder(folder: Path) -> Path:
    """Make a folder that only its owner can enter, or see to it that one is so.

    What lies in it although others could write there is deleted: nobody knows who wrote it.

    Parameters
    ----------
    folder
        Where; made with what is above it.

    Returns
    -------
    The folder.

    Raises
    ------
    NotPrivate
        It is a link, of another account, or in a folder in which others may put another in its
        place.
    OSError
        It cannot be made.
    """
    for above in reversed(folder.absolute().parents):
        # Path.mkdir(parents=True) gives the umask its way.
        if not above.exists():
            above.mkdir(mode=0o700, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    if not hasattr(os, "getuid"):
        return folder
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        what = "is a link" if stat.S_ISLNK(status.st_mode) else "belongs to another account"
        raise NotPrivate(f"{folder} {what}; remove it, or name a folder of yours")
    ours = (0, os.getuid())
    for i, above in enumerate(folder.absolute().parents):
        there = above.stat()
        theirs = bool(there.st_mode & stat.S_IWOTH) or (i == 0 and there.st_uid not in ours)
        if theirs and not there.st_mode & stat.S_ISVTX:
            raise NotPrivate(
                f"{folder}: other accounts may replace it, since {above} can be written by all "
                f"or is not yours; name another folder, or chmod o-w {above}"
            )
    if status.st_mode & _OTHERS:
        folder.chmod(0o700)
    for entry in sorted(folder.rglob("*")) if _was_open(folder, status) else ():
        _remove(entry)
    return folder


def _was_open(folder: Path, status: os.stat_result) -> bool:
    """Whether others could have written into a folder or a file in it, from what is there now."""
    return bool(status.st_mode & _OTHERS_WRITE) or (
        bool(status.st_mode & _OTHERS)
        and any(
            entry.lstat().st_mode & _OTHERS_WRITE or entry.lstat().st_uid != status.st_uid
            for entry in folder.rglob("*")
            if not entry.is_symlink()
        )
    )


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink(missing_ok=True)
