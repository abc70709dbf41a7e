"""Files and folders of this machine where nothing else will do, and what is below a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from oectflow.errors import OectflowError
from oectflow.place import is_remote, is_url, place, walk_objects


def local_path(
    text: str | os.PathLike[str], error: type[OectflowError], remedy: str = "name a local path"
) -> Path:
    """Return a path with the home folder filled in; raise ``error`` for a URL.

    ``s3://bucket/out`` would be a folder ``s3:`` here, and nobody would look for it.
    """
    if not is_url(text):
        return Path(text).expanduser()
    path = place(text, error)
    if is_remote(path):
        raise error(
            f"{path.parts[0]}//…: URLs are not supported here; {remedy}, for example where the "
            "storage is mounted"
        )
    return path


def walk_files(root: Path) -> Iterator[Path]:
    """Yield the files below a folder, also through links to folders, each folder once.

    A folder that is reached both ways is under its own name.  One that cannot be listed is yielded
    itself, so that it is not passed over.
    """
    if is_remote(root):
        yield from walk_objects(root)
        return
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
