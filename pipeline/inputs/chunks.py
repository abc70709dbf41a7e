"""Read rows of a dataset, each chunk once and with the fastest inflater that there is.

h5py reads whatever HDF5 can; it inflates with zlib, and that is most of the time that reading
takes.  Chunks of the filters that laboratories have on disk (shuffle, gzip, fletcher32, each of
them optional) are taken as they are stored and decoded here, with libdeflate.  Everything else is
left to h5py, and h5py has the last word wherever decoding fails.

HDF5 gives the fill value, mostly 0.0, for whatever was never stored or is lost from the index of a
file.  Nothing measured looks like that, so it is refused.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import deflate
import h5py
import numpy as np
from numpy.typing import NDArray

from oectflow.errors import UnreadableFile
from oectflow.pipeline.inputs.object_file import fetch_chunks

_DEFLATE, _SHUFFLE, _FLETCHER32 = h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, 3
_FILTERS = {(_DEFLATE,), (_SHUFFLE, _DEFLATE), (_DEFLATE, _FLETCHER32)}
_FILTERS |= {(_SHUFFLE, _DEFLATE, _FLETCHER32)}

#: What HDF5 says of a chunk that has no place in the file.
_NOWHERE = ("address isn't defined", "storage is not allocated")


class _Undecodable(Exception):
    """A chunk does not hold what its filters say."""


def read_rows(
    dataset: h5py.Dataset, rows: Sequence[int], start: int, stop: int
) -> list[NDArray[np.float64]]:
    """Read columns ``start:stop`` of some rows of a dataset with two axes.

    Parameters
    ----------
    dataset
        Numbers of any type, shape (n_rows, n_columns).
    rows
        Which rows.
    start, stop
        Range of the columns.

    Returns
    -------
    One array per row, each contiguous and with memory of its own.  Shape (stop - start,).

    Raises
    ------
    OSError
        A chunk is damaged or was never stored; the message names it.  Or whatever else h5py raises.
    """
    fetch_chunks(dataset, *(((row, row + 1), (start, stop)) for row in rows))
    if not _is_known(dataset):
        return _read_plainly(dataset, rows, start, stop)
    try:
        return _read_chunks(dataset, rows, start, stop)
    except _Undecodable as found:
        # Rare layouts, such as unfiltered chunks at the edge, only h5py can tell from damage.
        try:
            return _read_plainly(dataset, rows, start, stop)
        except OSError as error:
            raise OSError(f"{found} ({error})") from error


def read_slab(dataset: h5py.Dataset, start: int, stop: int) -> NDArray[Any]:
    """Read ``start:stop`` along the first axis of a dataset of numbers; OSError as read_rows."""
    fetch_chunks(dataset, ((start, stop), *((0, n) for n in dataset.shape[1:])))
    data = np.asarray(dataset[start:stop])
    _need_stored(dataset, data, (start, *(0 for _ in dataset.shape[1:])))
    return data


def read_all(dataset: h5py.Dataset) -> NDArray[Any]:
    """Read a small dataset of any type, such as a table; OSError as read_rows."""
    fetch_chunks(dataset, [(0, n) for n in dataset.shape], keep=True)
    data: NDArray[Any] = dataset[()]
    if dataset.chunks is not None:
        spans = zip(dataset.shape, dataset.chunks, strict=True)
        for at in itertools.product(*(range(0, n, step) for n, step in spans)):
            _stored_chunk(dataset, at)
    else:
        _need_space(dataset)
    return data


def need_filters(path: Path, dataset: h5py.Dataset) -> None:
    """Make sure that HDF5 has the filters of a dataset; some come with the package hdf5plugin.

    Raises
    ------
    UnreadableFile
        A filter is not to be had; the message says what to install.
    """
    unknown = [code for code in _filters(dataset) if not h5py.h5z.filter_avail(code)]
    if not unknown:
        return
    with contextlib.suppress(ImportError):
        importlib.import_module("hdf5plugin")
    if missing := [code for code in unknown if not h5py.h5z.filter_avail(code)]:
        raise UnreadableFile(
            f"{path}: {dataset.name} is compressed with the HDF5 filter {missing[0]}, which is not "
            "there; pip install 'oectflow[repack]'"
        )


def _is_known(dataset: h5py.Dataset) -> bool:
    """Whether the elements are float64 as in memory, in chunks, through filters known here."""
    if dataset.chunks is None or dataset.ndim != 2 or sys.byteorder != "little":
        return False
    same_type = dataset.id.get_type().equal(h5py.h5t.IEEE_F64LE)
    return same_type and _filters(dataset) in _FILTERS


def _filters(dataset: h5py.Dataset) -> tuple[int, ...]:
    pipeline = dataset.id.get_create_plist()
    return tuple(pipeline.get_filter(i)[0] for i in range(pipeline.get_nfilters()))


def _read_plainly(
    dataset: h5py.Dataset, rows: Sequence[int], start: int, stop: int
) -> list[NDArray[np.float64]]:
    if dataset.chunks is None or dataset.chunks[0] == 1:
        found = [np.asarray(dataset[row, start:stop]) for row in rows]
        for row, values in zip(rows, found, strict=True):
            _need_stored(dataset, values[None], (row, start))
        return [np.asarray(values, np.float64) for values in found]
    # Rows share chunks, which HDF5 would inflate once for each row.
    data = np.asarray(dataset[:, start:stop])
    _need_stored(dataset, data, (0, start))
    return [np.array(data[row], np.float64) for row in rows]


def _need_stored(dataset: h5py.Dataset, data: NDArray[Any], origin: tuple[int, ...]) -> None:
    """Raise OSError where what was read at ``origin`` is a fill value that stands for nothing.

    Only a part that begins and ends with the fill value is looked up.
    """
    if not data.size:
        return
    fill = dataset.fillvalue
    steps = dataset.chunks
    if steps is None:
        if _same(data.flat[0], fill):
            _need_space(dataset)
        return
    firsts, lasts = [], []
    for first, n, step in zip(origin, data.shape, steps, strict=True):
        begin = np.arange(first // step * step - first, n, step)
        firsts.append(np.maximum(begin, 0))
        lasts.append(np.minimum(begin + step, n) - 1)
    suspicious = _same(data[np.ix_(*firsts)], fill) & _same(data[np.ix_(*lasts)], fill)
    if not suspicious.any():
        return
    for where in np.argwhere(suspicious):
        at = tuple(
            (first + int(inside[k])) // step * step
            for first, inside, k, step in zip(origin, firsts, where, steps, strict=True)
        )
        _stored_chunk(dataset, at)


def _same(values: Any, fill: Any) -> Any:
    return (values == fill) | ((values != values) & (fill != fill))  # NaN is itself


def _need_space(dataset: h5py.Dataset) -> None:
    """Raise OSError where a dataset in one piece was made, but nothing was written into it."""
    properties = dataset.id.get_create_plist()
    in_one_piece = properties.get_layout() == h5py.h5d.CONTIGUOUS
    elsewhere = in_one_piece and properties.get_external_count()
    if dataset.size and in_one_piece and not elsewhere and dataset.id.get_offset() is None:
        raise OSError(
            f"it was made for {dataset.size:,} values, but none was ever stored; the acquisition "
            "or the copy did not finish"
        )


def _stored_chunk(dataset: h5py.Dataset, at: tuple[int, ...]) -> tuple[int, bytes]:
    """Return the filter mask and the bytes of a chunk as they are stored; OSError without them."""
    try:
        found: tuple[int, bytes] = dataset.id.read_direct_chunk(at)
    except (OSError, RuntimeError, MemoryError) as error:
        # A size of nothing, which is no memory to be had, is how older HDF5 says so.
        if not isinstance(error, MemoryError) and not any(word in str(error) for word in _NOWHERE):
            raise
        n = dataset.id.get_num_chunks()
        spans = zip(dataset.shape, dataset.chunks, strict=True)
        whole = int(np.prod([-(-size // step) for size, step in spans]))
        raise OSError(
            f"the chunk at {at} is not stored ({n} of {whole} chunks are in the file), and HDF5 "
            "would give its fill value instead; the acquisition or the copy did not finish, or "
            "the file is damaged"
        ) from error
    return found


def _read_chunks(
    dataset: h5py.Dataset, rows: Sequence[int], start: int, stop: int
) -> list[NDArray[np.float64]]:
    """Decode every chunk once and take from it what is wanted."""
    high, wide = dataset.chunks
    filters = _filters(dataset)
    out = [np.empty(stop - start) for _ in rows]
    for top in sorted({row // high * high for row in rows}):
        wanted = [
            (row - top, part)
            for row, part in zip(rows, out, strict=True)
            if row // high * high == top
        ]
        for left in range(start // wide * wide, stop, wide):
            first, last = max(start, left), min(stop, left + wide)
            data, shuffled = _inflated(dataset, (top, left), filters, 8 * high * wide)
            for row, part in wanted:
                _take(data, shuffled, row * wide + first - left, part[first - start : last - start])
    return out


def _inflated(
    dataset: h5py.Dataset, at: tuple[int, int], filters: tuple[int, ...], n_bytes: int
) -> tuple[NDArray[np.uint8], bool]:
    """Return the bytes of one chunk, and whether they are still shuffled."""
    # Compiled code is not worth its import to those who only look at metadata.
    from oectflow.pipeline.inputs.codec import fletcher32

    skipped, stored = _stored_chunk(dataset, at)
    data: Any = stored
    shuffled = False
    for i in reversed(range(len(filters))):
        if skipped >> i & 1:
            continue
        if filters[i] == _FLETCHER32:
            data, checksum = memoryview(data)[:-4], int.from_bytes(data[-4:], "little")
            if fletcher32(np.frombuffer(data, np.uint8)) != checksum:
                raise _Undecodable(f"the stored checksum does not match the chunk at {at}")
        elif filters[i] == _DEFLATE:
            try:
                data = deflate.zlib_decompress(data, n_bytes)
            except deflate.DeflateError as error:
                raise _Undecodable(f"the chunk at {at} cannot be inflated") from error
        else:
            shuffled = True
    if len(data) != n_bytes:
        raise _Undecodable(f"the chunk at {at} has {len(data)} bytes, expected {n_bytes}")
    return np.frombuffer(data, np.uint8), shuffled


def _take(data: NDArray[np.uint8], shuffled: bool, first: int, out: NDArray[np.float64]) -> None:
    """Copy the elements from ``first`` on."""
    from oectflow.pipeline.inputs.codec import unshuffle

    if shuffled:
        unshuffle(data, first, out.view(np.uint64))
    else:
        out[:] = data.view(np.float64)[first : first + out.size]
