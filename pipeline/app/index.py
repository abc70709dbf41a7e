"""What a folder of results comes to, step by step, in one file that is looked up at once.

Ten thousand results cannot be opened at every click.  Each is read once, and what is shown of it in
tables and trends, one number per step and feature, is kept in ``_index.arrow`` beside the results;
later only those that have changed are read.  It may be deleted at any time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oectflow.atomic_write import atomic_write
from oectflow.errors import OutputError
from oectflow.local_path import local_path
from oectflow.pipeline.app.summary import Column, Summary, summarise
from oectflow.pipeline.outputs.places import result_files

#: Readers of a folder of Parquet files pass over it.
NAME = "_index.arrow"
_KEY = b"oectflow"
#: Raised when what stands in the file changes its meaning; a file of before is made anew.
_FORMAT = 1

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Entry:
    """One result file.

    Attributes
    ----------
    path
        Of the file, below the folder.
    stamp
        Its time of change in ns, and its size in bytes.
    summary
        What it says.
    """

    path: str
    stamp: tuple[int, int]
    summary: Summary


@dataclass
class Index:
    """All results of a folder, in the order of their files.

    Attributes
    ----------
    folder
        Of the results.
    entries
        One for each file, also for those that cannot be read.
    starts
        The first row of each, and the number of all rows; a row is a step.
    columns
        The numbers that there are for each row.
    """

    folder: Path
    entries: list[Entry]
    starts: NDArray[np.int64]
    columns: list[Column]
    _arrays: Mapping[str, NDArray[np.float64]] = field(repr=False)

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def n_rows(self) -> int:
        """Number of steps of all results."""
        return int(self.starts[-1])

    def rows(self, number: int) -> slice:
        """Return where the steps of an experiment stand."""
        return slice(int(self.starts[number]), int(self.starts[number + 1]))

    def owners(self) -> NDArray[np.int64]:
        """Return the number of the experiment of every row."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    def column(self, name: str) -> Column:
        """Return a column by its name.

        Raises
        ------
        OutputError
            There is none.
        """
        for column in self.columns:
            if column.name == name:
                return column
        raise OutputError(f"{self.folder}: no column {name!r} in these results")

    def values(self, column: Column) -> NDArray[np.float64]:
        """Return a number per row: the value, of several cycles the median; NaN without any."""
        return self._arrays[f"{column.name}/value"]

    def flagged(self, column: Column) -> NDArray[np.float64]:
        """Return how many values of each row have a status word other than ok and absent."""
        return self._arrays[f"{column.name}/flagged"]

    def fits(self, column: Column) -> NDArray[np.float64]:
        """Return the least R² of the fits of each row; NaN without any."""
        return self._arrays[f"{column.name}/fit"]

    def fitted(self) -> list[str]:
        """Return the features that were fitted, those of phases first."""
        names = dict.fromkeys(column.feature for column in self.columns if column.is_fit)
        return sorted(names, key=lambda name: not self._has_phases(name))

    def _has_phases(self, feature: str) -> bool:
        return any(column.feature == feature and column.entry for column in self.columns)


def open_index(folder: str | os.PathLike[str], progress: Progress | None = None) -> Index:
    """Return what a folder of results comes to; what has not changed since is not read.

    Parameters
    ----------
    folder
        Folder that :func:`oectflow.extract` has written.
    progress
        Called with the numbers of results that were read, and of all that have to be.

    Raises
    ------
    OutputError
        There is no such folder, or there are no results in it.
    """
    place = local_path(folder, OutputError)
    if not place.is_dir():
        raise OutputError(f"{place}: there is no such folder of results")
    stamps: dict[str, tuple[int, int]] = {}
    for path in result_files(place):
        try:
            about = path.stat()
        except FileNotFoundError:
            # A result that disappears while they are listed is none.
            continue
        stamps[path.relative_to(place).as_posix()] = (about.st_mtime_ns, about.st_size)
    if not stamps:
        raise OutputError(f"{place}: no results of oectflow here; 'oectflow extract' writes them")
    earlier = _read(place)
    known = {} if earlier is None else {entry.path: n for n, entry in enumerate(earlier.entries)}
    changed = [
        path
        for path, stamp in stamps.items()
        if earlier is None or path not in known or earlier.entries[known[path]].stamp != stamp
    ]
    if earlier is not None and not changed and len(known) == len(stamps):
        return earlier
    fresh = dict(zip(changed, _summarised(place, changed, progress), strict=True))
    found = _joined(place, stamps, earlier, known, fresh)
    if not found.entries:
        raise OutputError(f"{place}: no results of oectflow here; 'oectflow extract' writes them")
    _write(found)
    return found


def refreshed(index: Index) -> Index:
    """Return the index of a folder as it is now; the same object where nothing has changed."""
    now = open_index(index.folder)
    return index if [e.stamp for e in now.entries] == [e.stamp for e in index.entries] else now


_Read = tuple[Summary, dict[str, NDArray[np.float64]]]


def _summarised(
    folder: Path, paths: Sequence[str], progress: Progress | None
) -> list[_Read | None]:
    found = []
    for done, path in enumerate(paths, 1):
        found.append(summarise(folder / path))
        if progress is not None:
            progress(done, len(paths))
    return found


def _joined(
    folder: Path,
    stamps: Mapping[str, tuple[int, int]],
    earlier: Index | None,
    known: Mapping[str, int],
    fresh: Mapping[str, _Read | None],
) -> Index:
    entries: list[Entry] = []
    pieces: list[dict[str, NDArray[np.float64]] | slice] = []
    columns: dict[str, Column] = {}
    if earlier is not None and len(fresh) < len(stamps):
        columns |= {column.name: column for column in earlier.columns}
    for path, stamp in stamps.items():
        if path in fresh:
            read = fresh[path]
            if read is None:
                # A Parquet file of somebody else.
                continue
            summary, arrays = read
            columns |= {c.name: c for c in summary.columns if c.name not in columns}
            pieces.append(arrays)
            # The same for many files, and kept once.
            entries.append(Entry(path, stamp, summary.without_columns()))
        elif earlier is not None:
            entries.append(earlier.entries[known[path]])
            pieces.append(earlier.rows(known[path]))
    sizes = [entry.summary.n_rows for entry in entries]
    starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
    keys = [f"{column.name}/{part}" for column in columns.values() for part in column.parts]
    joined = {key: np.full(int(starts[-1]), np.nan) for key in keys}
    before = {} if earlier is None else earlier._arrays
    for number, piece in enumerate(pieces):
        rows = slice(starts[number], starts[number + 1])
        if isinstance(piece, slice):
            for key in before.keys() & joined.keys():
                joined[key][rows] = before[key][piece]
        else:
            for key, array in piece.items():
                joined[key][rows] = array
            # Or all of them would be in memory twice.
            piece.clear()
    return Index(folder, entries, starts, list(columns.values()), joined)


def _write(index: Index) -> None:
    """Keep an index beside the results; where these may not be changed it is made every time."""
    import pyarrow as pa

    said = {
        "format": _FORMAT,
        "columns": [asdict(column) for column in index.columns],
        "entries": [[e.path, list(e.stamp), asdict(e.summary)] for e in index.entries],
    }
    names = [f"{column.name}/{part}" for column in index.columns for part in column.parts]
    table = pa.table([pa.array(index._arrays[name]) for name in names], names)
    table = table.replace_schema_metadata({_KEY: json.dumps(said)})
    try:
        with (
            atomic_write(index.folder / NAME) as temporary,
            pa.OSFile(str(temporary), "wb") as file,
            pa.ipc.new_file(file, table.schema) as writer,
        ):
            # In one piece, so that columns are arrays as they stand in the file.
            writer.write_table(table, max_chunksize=max(1, len(table)))
    except OSError:
        return


def _read(folder: Path) -> Index | None:
    """Return the index that stands beside results; None where it is not there or of no use."""
    import pyarrow as pa

    try:
        with pa.memory_map(str(folder / NAME)) as file:
            table = pa.ipc.open_file(file).read_all()
        said = json.loads(table.schema.metadata[_KEY])
        if said["format"] != _FORMAT:
            return None
        columns = [Column(**{**one, "place": tuple(one["place"])}) for one in said["columns"]]
        entries = [
            Entry(path, (stamp[0], stamp[1]), Summary(**summary))
            for path, stamp, summary in said["entries"]
        ]
        sizes = [entry.summary.n_rows for entry in entries]
        starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        arrays = {name: _as_array(table[name]) for name in table.column_names}
        wanted = {f"{column.name}/{part}" for column in columns for part in column.parts}
    except (OSError, pa.ArrowException, ValueError, TypeError, KeyError, IndexError):
        return None
    fits = set(arrays) == wanted and len(table) == starts[-1]
    return Index(folder, entries, starts, columns, arrays) if fits else None


def _as_array(column: Any) -> NDArray[np.float64]:
    if column.num_chunks == 1:
        array: NDArray[np.float64] = column.chunk(0).to_numpy(zero_copy_only=True)
        return array
    return np.asarray(column.to_numpy(), np.float64)
