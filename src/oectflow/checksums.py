"""Parquet files whose every byte is covered by a checksum.

Parquet's own checksums cover the data of pages.  A bit that flips in the header of a page or in the
footer, where types, encodings and places stand, can still give other values without an error.  So
a block of digests is put between the last column and the footer, a place that no reader of Parquet
looks at::

    PAR1 | column chunks | XXH3-64 of each chunk, of the first 4 bytes and of the footer,
    their number, b"OEFLSUMS" | footer | length of the footer | PAR1
"""

from __future__ import annotations

import errno
import stat
import struct
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from oectflow.errors import DamagedFile

_MAGIC = b"OEFLSUMS"
_END = struct.Struct("<I8s")
_DIGEST = struct.Struct("<Q")
#: The length of the footer, and ``PAR1``.
_TAIL = 8
_PART = 2**20


def add_checksums(path: Path) -> None:
    """Put the digests of a Parquet file into it; OSError as writing raises it."""
    spans = _spans(pq.read_metadata(path))
    with path.open("rb+") as file:
        size = file.seek(0, 2)
        footer = _footer_start(size, _at(file, size - _TAIL, _TAIL))
        end = _at(file, footer, size - footer)
        digests = [_digest(file, start, n) for start, n in (*spans.values(), (0, 4))]
        digests.append(xxhash.xxh3_64_intdigest(end))
        file.seek(footer)
        file.write(b"".join(map(_DIGEST.pack, digests)))
        file.write(_END.pack(len(digests), _MAGIC))
        file.write(end)


@contextmanager
def open_checked(path: Path, columns: Collection[str] | None = ()) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file of which footer and some columns are as they were written.

    What is read from it is checked once more, page by page.  A file without digests, which other
    software wrote, has only the checksums that this gave it.

    Parameters
    ----------
    path
        The file.
    columns
        Columns that will be read, None for all.

    Raises
    ------
    DamagedFile
        It is no Parquet file (any more), or not the one that was written.
    OSError
        It cannot be opened.
    """
    # A named pipe would be waited for, a folder has no content.
    if not stat.S_ISREG(path.stat().st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is no file with content", str(path))
    try:
        with pa.OSFile(str(path)) as file:
            # pyarrow would read the end once more.
            size = file.size()
            last = file.read_at(_TAIL, max(0, size - _TAIL))
            footer = _footer_start(size, last)
            digests = _digests(file, footer, size)
            parquet = pq.ParquetFile(file, page_checksum_verification=True)
            if digests:
                _check_columns(file, parquet.metadata, digests, columns)
            yield parquet
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except (OSError, EOFError, pa.ArrowException, UnicodeDecodeError, _Changed) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DamagedFile(
            f"{path}: cannot be read as Parquet, it was cut or changed ({reason}); extract the "
            "experiment again with force=True (--force)"
        ) from error


class _Changed(Exception):
    """A digest is another one."""


def _check_columns(
    file: Any, metadata: pq.FileMetaData, digests: list[int], columns: Collection[str] | None
) -> None:
    n_chunks = metadata.num_columns * metadata.num_row_groups
    if len(digests) != n_chunks + 2 or digests[-2] != _digest(file, 0, 4):
        raise _Changed("its begin is not what was written")
    # Where many small files are opened, this would take as long as all else.
    spans = {} if columns is not None and not columns else _spans(metadata)
    for (name, (start, n)), digest in zip(spans.items(), digests, strict=False):
        wanted = columns is None or name[1].partition(".")[0] in columns
        # A name with a dot in it may be that of a column, too.
        wanted = wanted or any(name[1].startswith(f"{column}.") for column in columns or ())
        if wanted and digest != _digest(file, start, n):
            raise _Changed(f"column {name[1]!r} is not what was written")


def _digests(file: pa.NativeFile, footer: int, size: int) -> list[int]:
    """Return the digests of a file that has some, after a look at that of the footer."""
    if footer < _END.size:
        return []
    n, magic = _END.unpack(file.read_at(_END.size, footer - _END.size))
    start = footer - _END.size - n * _DIGEST.size
    if magic != _MAGIC or not n or start < 0:
        return []
    found = [d for (d,) in _DIGEST.iter_unpack(file.read_at(n * _DIGEST.size, start))]
    if xxhash.xxh3_64_intdigest(file.read_at(size - footer, footer)) != found[-1]:
        raise _Changed("its footer is not what was written")
    return found


def _spans(metadata: pq.FileMetaData) -> dict[tuple[int, str], tuple[int, int]]:
    """Return where each column chunk begins and how long it is, by row group and column."""
    spans = {}
    for group in range(metadata.num_row_groups):
        for index in range(metadata.num_columns):
            column = metadata.row_group(group).column(index)
            begins = [column.data_page_offset]
            if column.has_dictionary_page:
                begins.append(column.dictionary_page_offset)
            spans[group, column.path_in_schema] = (min(begins), column.total_compressed_size)
    return spans


def _footer_start(size: int, last: bytes) -> int:
    length = int.from_bytes(last[:4], "little")
    if last[4:] != b"PAR1" or not 0 < length <= size - _TAIL:
        raise _Changed("it does not end like a Parquet file" if size else "it is empty")
    return size - _TAIL - length


def _at(file: Any, start: int, n: int) -> bytes:
    file.seek(start)
    return bytes(file.read(n))


def _digest(file: Any, start: int, n: int) -> int:
    digest = xxhash.xxh3_64()
    file.seek(start)
    while n > 0 and (part := file.read(min(n, _PART))):
        digest.update(part)
        n -= len(part)
    return digest.intdigest()
