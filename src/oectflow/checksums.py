"""Parquet files whose every byte is covered by a checksum.

Parquet's own checksums cover the data of pages.  A bit that flips in the header of a page or in the
footer, where types, encodings and places stand, can still give other values without an error.  So
a block of digests is put between the last column and the footer, a place that no reader of Parquet
looks at::

    PAR1 | column chunks | XXH3-64 of each chunk, or of all together, of the first 4 bytes, and of
    the footer and the next two numbers; place and length of a text in the footer; number of
    digests, b"OEFLSUM2" | footer | length of the footer | PAR1

The text is what a file says about itself, and is read without looking at the columns.
Files of before have ``OEFLSUMS`` and no place of a text.
"""

from __future__ import annotations

import errno
import stat
import struct
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from oectflow.errors import DamagedFile
from oectflow.place import is_remote

_MAGIC = b"OEFLSUM2"
_END = struct.Struct("<III8s")
_MAGIC_1 = b"OEFLSUMS"
_END_1 = struct.Struct("<I8s")
_DIGEST = struct.Struct("<Q")
#: The length of the footer, and ``PAR1``.
_TAIL = 8
_PART = 2**20
#: Digests that are of no column: of the first bytes, and of the footer.
_OTHERS = 2
#: A small file, or the end of a large one, is read at once.
_LAST = 2**16


def add_checksums(path: Path, text: bytes = b"", *, together: bool = False) -> None:
    """Put the digests of a Parquet file into it.

    Parameters
    ----------
    path
        The file, just written.
    text
        What :func:`read_text` returns; a value of the file's metadata.
    together
        Give all columns one digest: of a small file, many would be a tenth.

    Raises
    ------
    OSError
        As writing raises it.
    """
    spans = list(_spans(pq.read_metadata(path)).values())
    together = together or len(spans) == 1
    with path.open("rb+") as file:
        size = file.seek(0, 2)
        footer = _footer_start(size, _at(file, size - _TAIL, _TAIL))
        end = _at(file, footer, size - footer)
        place = (end.rindex(text) if text else 0), len(text)
        spans = [(4, footer - 4)] if together else spans
        digests = [_digest(file, start, n) for start, n in (*spans, (0, 4))]
        digests.append(_digest_of_end(end, place))
        file.seek(footer)
        file.write(b"".join(map(_DIGEST.pack, digests)))
        file.write(_END.pack(*place, len(digests), _MAGIC))
        file.write(end)


def read_text(path: Path) -> bytes | None:
    """Return the text that a file was given with its digests, None where it has none.

    Of the rest, only that it begins as it was written is looked at.

    Raises
    ------
    DamagedFile
        The footer, in which it stands, is not what was written.
    OSError
        The file cannot be opened.
    """
    _need_content(path)
    with path.open("rb", buffering=0) as file:
        size = file.seek(0, 2)
        last = _at(file, max(0, size - _LAST), _LAST)
        try:
            footer = _footer_start(size, last[-_TAIL:])
            needed = size - footer + _END.size
            if needed > len(last):
                last = _at(file, max(0, footer - _END.size), needed)
            end = last[len(last) - (size - footer) :]
            head = last[: len(last) - len(end)][-_END.size :]
            if not head.endswith(_MAGIC) or len(head) < _END.size:
                return None
            start, n, _, _ = _END.unpack(head)
            begin, digest = struct.unpack("<QQ", _at(file, footer - _END.size - 16, 16))
            if digest != _digest_of_end(end, (start, n)):
                raise _Changed("its footer is not what was written")
            if begin != xxhash.xxh3_64_intdigest(_at(file, 0, 4)):
                raise _Changed("its begin is not what was written")
        except (_Changed, struct.error) as error:
            raise _damaged(path, error) from error
    return end[start : start + n] if n else None


@contextmanager
def open_checked(
    path: Path, columns: Collection[str] | None = (), dictionaries: Collection[str] = ()
) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file of which footer and some columns are as they were written.

    What is read from it is checked once more, page by page.  A file without digests, which other
    software wrote, has only the checksums that this gave it.

    Parameters
    ----------
    path
        The file.
    columns
        Columns that will be read, None for all.
    dictionaries
        Columns whose text is read as codes and words.

    Raises
    ------
    DamagedFile
        It is no Parquet file (any more), or not the one that was written.
    OSError
        It cannot be opened.
    """
    _need_content(path)
    try:
        with _opened(path) as file:
            # pyarrow would read the end once more.
            size = file.size()
            last = file.read_at(_TAIL, max(0, size - _TAIL))
            footer = _footer_start(size, last)
            digests, data_end = _digests(file, footer, size)
            metadata = pq.read_metadata(file) if dictionaries else None
            parquet = pq.ParquetFile(
                file,
                metadata=metadata,
                page_checksum_verification=True,
                read_dictionary=_texts(metadata, dictionaries) if metadata else None,
            )
            if digests:
                _check_columns(file, parquet.metadata, digests, data_end, columns)
            yield parquet
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except (OSError, EOFError, pa.ArrowException, UnicodeDecodeError, _Changed) as error:
        raise _damaged(path, error) from error


def _opened(path: Path) -> Any:
    return pa.PythonFile(path.open("rb"), mode="r") if is_remote(path) else pa.OSFile(str(path))


def _need_content(path: Path) -> None:
    # A named pipe would be waited for, a folder has no content.
    if not stat.S_ISREG(path.stat().st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is no file with content", str(path))


class _Changed(Exception):
    """A digest is another one."""


def _damaged(path: Path, error: Exception) -> DamagedFile:
    reason = " ".join(str(error).split()) or type(error).__name__
    return DamagedFile(
        f"{path}: cannot be read as Parquet, it was cut or changed ({reason}); extract the "
        "experiment again with force=True (--force)"
    )


def _check_columns(
    file: Any,
    metadata: pq.FileMetaData,
    digests: list[int],
    data_end: int | None,
    columns: Collection[str] | None,
) -> None:
    n_chunks = metadata.num_columns * metadata.num_row_groups
    together = data_end is not None and len(digests) == 1 + _OTHERS
    if (len(digests) != n_chunks + _OTHERS and not together) or digests[-2] != _digest(file, 0, 4):
        raise _Changed("its begin is not what was written")
    if data_end is not None and together:
        if (columns is None or columns) and digests[0] != _digest(file, 4, data_end - 4):
            raise _Changed("its columns are not what was written")
        return
    # Where many small files are opened, this would take as long as all else.
    spans = {} if columns is not None and not columns else _spans(metadata)
    asked = set(columns or ())
    for (name, (start, n)), digest in zip(spans.items(), digests, strict=False):
        wanted = columns is None or not asked.isdisjoint(_columns_of(name[1]))
        if wanted and digest != _digest(file, start, n):
            raise _Changed(f"column {name[1]!r} is not what was written")


def _columns_of(path: str) -> Iterator[str]:
    """Yield what a column can be called that is stored under a path, or part of it is.

    >>> list(_columns_of("a.b.list"))
    ['a', 'a.b', 'a.b.list']
    """
    # A name with a dot in it may be that of a column, too.
    parts = path.split(".")
    for n in range(1, len(parts) + 1):
        yield ".".join(parts[:n])


def _digests(file: pa.NativeFile, footer: int, size: int) -> tuple[list[int], int | None]:
    """Return the digests of a file that has some, after a look at that of the footer.

    And where its columns end, if they may have one digest together.
    """
    end = file.read_at(size - footer, footer)
    for layout, mark in ((_END, _MAGIC), (_END_1, _MAGIC_1)):
        if footer < layout.size:
            continue
        *place, n, magic = layout.unpack(file.read_at(layout.size, footer - layout.size))
        start = footer - layout.size - n * _DIGEST.size
        if magic != mark or not n or start < 0:
            continue
        found = [d for (d,) in _DIGEST.iter_unpack(file.read_at(n * _DIGEST.size, start))]
        if found[-1] != (_digest_of_end(end, place) if place else xxhash.xxh3_64_intdigest(end)):
            raise _Changed("its footer is not what was written")
        return found, start if place else None
    return [], None


def _texts(metadata: pq.FileMetaData, names: Collection[str]) -> list[str]:
    """Return the paths of what is text in columns with these names."""
    columns = map(metadata.schema.column, range(metadata.num_columns))
    return [
        column.path
        for column in columns
        if column.physical_type == "BYTE_ARRAY"
        and any(column.path == name or column.path.startswith(f"{name}.") for name in names)
    ]


def _digest_of_end(end: bytes, place: Sequence[int]) -> int:
    return xxhash.xxh3_64_intdigest(end + struct.pack("<II", *place))


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
