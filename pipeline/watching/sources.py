"""What there is in the folder that is watched: sources, and what is complete of each."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from oectflow.errors import IngestError
from oectflow.pipeline.inputs.convert import convert_files, convert_folder
from oectflow.pipeline.inputs.ingest_report import IngestRecord, Unread
from oectflow.pipeline.inputs.origin import state_of_files, state_of_test
from oectflow.pipeline.inputs.readers.test_info import (
    TEST_INFO,
    TEST_INFO_TEMP,
    FolderInfo,
    read_test_info,
)
from oectflow.pipeline.inputs.samples import Samples
from oectflow.pipeline.inputs.sources import find_sources, is_left_behind
from oectflow.pipeline.watching.planning import Look

#: What stands for files of one name but for the ending: one may be read along with another.
_FILES = ".*"


@dataclass(frozen=True)
class _Described:
    """A description that was read, and the size and time that it had."""

    state: tuple[int, int]
    info: FolderInfo


class InstrumentFolder:
    """The folder in which instruments leave their measurements.

    Parameters
    ----------
    root
        The folder.
    raw
        Where the raw files are written.
    samples
        Geometry and materials of the devices, written into the raw files.
    """

    def __init__(self, root: Path, raw: Path, samples: Samples | None = None) -> None:
        self._root, self._raw, self._samples = root, raw, samples
        self._described: dict[Path, _Described] = {}

    def all(self) -> list[str]:
        """Return all sources that are there."""
        return self._named(self._root)

    def of(self, changed: Iterable[Path]) -> list[str]:
        """Return the sources to which changed files, and new folders, belong."""
        found: dict[str, None] = {}
        for path in dict.fromkeys(self._top(path) for path in changed):
            if path.is_dir():
                found.update(dict.fromkeys(self._named(path)))
            elif not is_left_behind(path.name):
                found[_name_of_files(path)] = None
        return list(found)

    def look(self, source: str) -> Look | None:
        """Look at names, sizes and times; of a running test the description is read.

        None where nothing is there any more.
        """
        path = Path(source)
        if path.name.endswith(_FILES):
            files = _files_of(path)
            try:
                state = state_of_files(files)
            except OSError:
                # It went meanwhile; whoever has taken it away is told of, too.
                return None
            return Look(state, state) if files else None
        try:
            info = self._info(path)
            everything = state_of_test(path, info, under_way=True)
            complete = state_of_test(path, info, under_way=False) if info.running else everything
        except IngestError as error:
            if not path.is_dir():
                self._described.pop(path, None)
                return None
            # A description that is half written says nothing; what it says in the end is ingested.
            return Look(str(error), str(error))
        except OSError:
            return None
        if info.running and not info.tidy["steps"]:
            return Look("", everything, running=True)
        return Look(complete, everything, running=info.running)

    def convert(self, source: str, *, under_way: bool) -> list[IngestRecord | Unread]:
        """Convert a source; whatever is wrong is in the records."""
        path = Path(source)
        if path.name.endswith(_FILES):
            return convert_files(_files_of(path), self._raw, "update", self._samples)
        record = convert_folder(path, self._raw, "update", self._samples, under_way=under_way)
        return [record]

    def _info(self, folder: Path) -> FolderInfo:
        """Return the description of a test; one that was read is not read again."""
        known = self._described.get(folder)
        for name in (TEST_INFO, TEST_INFO_TEMP):
            try:
                status = (folder / name).stat()
            except FileNotFoundError:
                continue
            state = (status.st_size, status.st_mtime_ns)
            if known and known.info.path.name == name and known.state == state:
                return known.info
            info = read_test_info(folder)
            if info.running:
                self._described[folder] = _Described(state, info)
            else:
                # Nobody looks often at a test that has ended.
                self._described.pop(folder, None)
            return info
        raise IngestError(f"{folder}: no {TEST_INFO} any more")

    def _named(self, folder: Path) -> list[str]:
        try:
            found = find_sources([folder])
        except IngestError:
            # It has gone, or its drive has.
            return []
        folders = [str(path) for path in found.folders]
        return folders + list(dict.fromkeys(_name_of_files(path) for path in found.files))

    def _top(self, path: Path) -> Path:
        """Return the test to which a file belongs, else the file."""
        if not path.is_relative_to(self._root):
            # Where the root is a link, the file system may tell where it leads.
            path = self._root / path.resolve().relative_to(self._root.resolve())
        for folder in (path, *path.parents):
            if folder == self._root.parent:
                break
            if any((folder / name).exists() for name in (TEST_INFO, TEST_INFO_TEMP)):
                return folder
        return path


def _name_of_files(path: Path) -> str:
    return str(path.with_name(path.stem.casefold() + _FILES))


def _files_of(source: Path) -> list[Path]:
    """Return the files of one name but for the ending, in order."""
    stem = source.name.removesuffix(_FILES)
    try:
        with os.scandir(source.parent) as entries:
            names = sorted(entry.name for entry in entries if entry.is_file())
    except OSError:
        return []
    paths = [source.with_name(name) for name in names if not is_left_behind(name)]
    return [path for path in paths if path.stem.casefold() == stem]
