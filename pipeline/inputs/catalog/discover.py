"""Find the raw files below a folder, with the size and time that show a change."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import translate

from oectflow.errors import CatalogError
from oectflow.pipeline.inputs.catalog.config import Discovery

# What a database index takes as one value.
_LONGEST_PATH_BYTES = 2000
_HDF5_SUFFIXES = (".h5", ".hdf5")
_Match = Callable[[str], object]


@dataclass
class Found:
    """The content of a folder.

    Attributes
    ----------
    files
        Size and modification time (ns) by path.
    problems
        Path and reason, for folders that cannot be listed and files that cannot be catalogued.
    unlisted
        Folders whose present content is unknown.
    n_unmatched
        HDF5 files whose names do not match the pattern.
    """

    files: dict[str, tuple[int, int]] = field(default_factory=dict)
    problems: list[tuple[str, str]] = field(default_factory=list)
    unlisted: list[str] = field(default_factory=list)
    n_unmatched: int = 0


def discover(root: str, discovery: Discovery) -> Found:
    """Walk through a folder; only names, sizes and times are read.

    Parameters
    ----------
    root
        An absolute path.
    discovery
        Patterns and depth.

    Raises
    ------
    CatalogError
        ``root`` is no folder.
    """
    if not os.path.isdir(root):  # noqa: PTH112 - paths are plain text throughout a scan
        raise CatalogError(f"{root}: there is no such folder; is its disk connected?")
    raw = re.compile(translate(discovery.file_patterns.raw)).match
    features = re.compile(translate(discovery.file_patterns.features)).match
    ignored = re.compile("|".join(map(translate, discovery.ignore_patterns)) or r"\Z.").match
    deepest = discovery.max_depth if discovery.recursive else 0
    found = Found()
    for entry in _walk(root, ignored, deepest, found):
        stem, dot, suffix = entry.name.rpartition(".")
        if raw(entry.name) or raw(f"{stem}{dot}{suffix.lower()}"):
            _take(entry, found)
        elif entry.name.lower().endswith(_HDF5_SUFFIXES) and not features(entry.name):
            found.n_unmatched += 1
    return found


def _walk(root: str, ignored: _Match, deepest: int, found: Found) -> Iterator[os.DirEntry[str]]:
    folders, links = [(root, 0)], list[tuple[str, int]]()
    seen = set()
    while folders or links:
        # A folder that is reached both ways is under its own name.
        folder, depth = folders.pop() if folders else links.pop(0)
        try:
            status = os.stat(folder)  # noqa: PTH116 - as above
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                listed = [entry for entry in entries if not ignored(entry.name)]
        except OSError as error:
            found.problems.append((folder, f"cannot be listed ({error.strerror})"))
            found.unlisted.append(folder)
            continue
        for entry in listed:
            if _is_folder(entry):
                if depth < deepest:
                    (links if entry.is_symlink() else folders).append((entry.path, depth + 1))
            else:
                yield entry


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A link that leads nowhere is looked at as a file.
        return False


def _take(entry: os.DirEntry[str], found: Found) -> None:
    try:
        n_bytes = len(entry.path.encode())
    except UnicodeEncodeError:
        name = os.fsencode(entry.path).decode(sys.getfilesystemencoding(), "backslashreplace")
        found.problems.append((name, "its name is not valid text; rename it"))
        return
    if n_bytes > _LONGEST_PATH_BYTES:
        reason = f"its path is longer than {_LONGEST_PATH_BYTES} bytes; move it up"
        found.problems.append((entry.path, reason))
        return
    try:
        if entry.is_file():
            status = entry.stat()
            found.files[entry.path] = status.st_size, status.st_mtime_ns
        elif entry.is_symlink() and not os.path.isdir(entry.path):  # noqa: PTH112 - as above
            found.problems.append((entry.path, "is a link that leads nowhere"))
    except OSError as error:
        # It went away while we looked, or its folder may be listed but not entered.
        found.problems.append((entry.path, f"cannot be looked at ({error.strerror})"))
        found.unlisted.append(entry.path)
