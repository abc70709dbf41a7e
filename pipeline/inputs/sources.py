"""Find the sources of an ingest below some folders: instrument folders, and single files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from oectflow.errors import IngestError
from oectflow.pipeline.inputs.readers.test_info import TEST_INFO, TEST_INFO_TEMP

# Files that belong to the instrument in one of its folders.
_OF_INSTRUMENT = (".csv", ".json")


@dataclass
class Sources:
    """The sources found, in the order of paths.

    Attributes
    ----------
    folders
        Folders of the instrument, with the bytes in each.
    files
        All other files, with their bytes.
    failures
        Folders that cannot be listed, and why.
    links
        Linked folders, and where they lead.
    hidden
        Folders whose names begin with a dot, which were passed over.
    """

    folders: dict[Path, int] = field(default_factory=dict)
    files: dict[Path, int] = field(default_factory=dict)
    failures: list[tuple[Path, str]] = field(default_factory=list)
    links: list[tuple[Path, Path]] = field(default_factory=list)
    hidden: list[Path] = field(default_factory=list)


def find_sources(roots: Iterable[str | os.PathLike[str]], leave_out: Path | None = None) -> Sources:
    """Search folders at any depth; only names are read.

    A folder is searched once, however many links lead to it, so circles of links end.  Folders that
    are no links come first.

    Parameters
    ----------
    roots
        Folders, or single files.
    leave_out
        A folder that is not searched: the folder of the raw files.

    Raises
    ------
    IngestError
        One of them does not exist.
    """
    found = Sources()
    seen: set[tuple[int, int]] = set()
    if leave_out is not None and leave_out.is_dir():
        seen.add(_inode(leave_out))
    waiting: list[Path] = []
    for root in roots:
        path = Path(root).absolute()
        if path.is_dir():
            waiting.append(path)
        elif path.exists():
            found.files[path] = path.stat().st_size
        else:
            raise IngestError(f"{root}: expected a folder that holds measurements, or a file")
    if leave_out in waiting:
        # A user who names the folder of the raw files means the other files in it.
        seen.clear()
    links: list[Path] = []
    while waiting or links:
        folder = waiting.pop() if waiting else links.pop()
        try:
            inode = _inode(folder)
            if inode in seen:
                continue
            seen.add(inode)
            with os.scandir(folder) as entries:
                _sort(found, folder, list(entries), waiting, links)
        except OSError as error:
            found.failures.append((folder, str(error)))
    found.folders = dict(sorted(found.folders.items()))
    found.files = dict(sorted(found.files.items()))
    return found


def _sort(
    found: Sources,
    folder: Path,
    entries: list[os.DirEntry[str]],
    waiting: list[Path],
    links: list[Path],
) -> None:
    names = {entry.name for entry in entries}
    is_test = TEST_INFO in names or TEST_INFO_TEMP in names
    size = 0
    for entry in entries:
        if _is_folder(entry):
            path = folder / entry.name
            if entry.name.startswith("."):
                found.hidden.append(path)
            elif entry.is_symlink():
                found.links.append((path, path.resolve()))
                links.append(path)
            else:
                waiting.append(path)
            continue
        n_bytes = _size(entry)
        if is_test:
            size += n_bytes
        if is_left_behind(entry.name):
            continue
        if not (is_test and entry.name.lower().endswith(_OF_INSTRUMENT)):
            found.files[folder / entry.name] = n_bytes
    if is_test:
        found.folders[folder] = size


def is_left_behind(name: str) -> bool:
    """Whether a file was left behind by desktop or office programs, and is no measurement."""
    return name.startswith((".", "~$")) or name in ("Thumbs.db", "desktop.ini")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A link that leads to itself.
        return False


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except OSError:
        # A link to nothing is named when its turn comes.
        return 0


def _inode(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino
