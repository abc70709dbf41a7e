"""Files and folders of this machine: nothing that is a place on a network, nothing twice."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from oectflow.errors import OectflowError

# Two letters at least: C:/ is a disk.  A Path has lost one of the slashes.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def local_path(
    text: str | os.PathLike[str], error: type[OectflowError], remedy: str = "name a local path"
) -> Path:
    """Return a path with the home folder filled in; raise ``error`` for a URL.

    ``s3://bucket/out`` would be a folder ``s3:`` here, and nobody would look for it.
    """
    if _URL.match(os.fspath(text)):
        raise error(
            f"{os.fspath(text).partition(':')[0]}://…: URLs are not supported; {remedy}, for "
            "example where the storage is mounted"
        )
    return Path(text).expanduser()


def walk_files(root: Path) -> Iterator[Path]:
    """Yield the files below a folder, also through links to folders, each folder once.

    A folder that is reached both ways is under its own name.  One that cannot be listed is yielded
    itself, so that it is not passed over.
    """
    seen: set[tuple[int, int]] = set()
    waiting, links = [root], list[Path]()
    while waiting or links:
        folder = waiting.pop() if waiting else links.pop(0)
        try:
            status = folder.stat()
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            yield folder
            continue
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                waiting.append(Path(entry.path))
            elif _leads_to_folder(entry):
                links.append(Path(entry.path))
            else:
                yield Path(entry.path)


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A link that leads to itself.
        return False
