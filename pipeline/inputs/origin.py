"""The source of a raw file, and whether it has changed since.

A raw file keeps the place of its source, a hash of the content, and the names, sizes and times of
the files.  With these, the source can be recognised without reading it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import xxhash

from oectflow.errors import UnreadableFile
from oectflow.pipeline.inputs.hdf5 import content_hash, open_file, plain
from oectflow.pipeline.inputs.readers.instrument import complete_files
from oectflow.pipeline.inputs.readers.test_info import FolderInfo

_NAMES = ("status", "source_hash", "source_state", "source_folder_path", "source_file_path")


def origin_of(path: Path) -> dict[str, str]:
    """Return what a raw file says about its origin; ``""`` if it says nothing."""
    try:
        with open_file(path, "the metadata") as file:
            return {name: str(plain(file.attrs.get(name, ""))) for name in _NAMES}
    except UnreadableFile:
        return dict.fromkeys(_NAMES, "")


def state_of_test(folder: Path, info: FolderInfo, *, under_way: bool) -> str:
    """Return a text for names, sizes and times of the files of a test; nothing is read.

    Parameters
    ----------
    folder, info
        The test, and its description.
    under_way
        Whether to include files that a running test has not described yet.
    """
    return state_of_files(_files_of(folder, info, under_way=under_way))


def _files_of(folder: Path, info: FolderInfo, *, under_way: bool) -> list[Path]:
    """Return the descriptions and CSV files of a test."""
    with os.scandir(folder) as entries:
        names = {entry.name for entry in entries if entry.is_file()}
    if not under_way:
        return sorted(folder / name for name in complete_files(info, names))
    return sorted(folder / name for name in names if name.lower().endswith((".csv", ".json")))


def state_of_files(paths: Sequence[Path]) -> str:
    """Return a text for names, sizes and times of some files."""
    digest = xxhash.xxh3_128()
    for path in paths:
        status = path.stat()
        digest.update(f"{path.name}={status.st_size},{status.st_mtime_ns};".encode())
    return digest.hexdigest()


def hash_of_test(folder: Path, info: FolderInfo, *, under_way: bool) -> str:
    """Return a hash of the files that :func:`state_of_test` describes."""
    digest = xxhash.xxh3_128()
    for path in _files_of(folder, info, under_way=under_way):
        digest.update(f"{path.name}={content_hash(path)};".encode())
    return digest.hexdigest()
