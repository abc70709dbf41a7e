"""Rewrite raw files so that they read many times faster; not a bit of their data changes.

The samples get chunks that follow the steps, and Blosc with LZ4 and shuffle in place of gzip.
Measured on one core, per step of 10,000 samples like those of a real device (80 kB per array):

======================  ==================  =============  ======  ===============
samples stored with     read current        read times     size    write all three
======================  ==================  =============  ======  ===============
gzip 4, shuffle         308 µs              92 µs          48 kB   1,420 µs
zstd 3, shuffle         55 µs               47 µs          62 kB   277 µs
Blosc2, LZ4, shuffle    22 µs               15 µs          67 kB   368 µs
Blosc, LZ4, shuffle     21 µs               13 µs          66 kB   113 µs
Bitshuffle, LZ4         31 µs               46 µs          137 kB  246 µs
not at all              26 µs               26 µs          240 kB  129 µs
======================  ==================  =============  ======  ===============

(h5py, chunks of one step; the first row in the chunks of laboratories.)  HDF5's checksums stay.
Reading such a file takes the package ``hdf5plugin`` (``pip install 'oectflow[repack]'``).
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Literal, get_args

import h5py
import numpy as np
from numpy.typing import NDArray

from oectflow.atomic_write import atomic_write
from oectflow.errors import InputError, OectflowError, StorageError, did_you_mean
from oectflow.extras import extra
from oectflow.local_path import walk_files
from oectflow.pipeline.inputs.chunks import need_filters, read_rows, read_slab
from oectflow.pipeline.inputs.experiment import Experiment
from oectflow.pipeline.inputs.find import is_hdf5
from oectflow.pipeline.inputs.hdf5 import open_file, reading
from oectflow.pipeline.inputs.raw_format import (
    samples_per_chunk,
    sweeps_per_chunk,
)
from oectflow.place import place

OnConflict = Literal["skip", "overwrite"]
Status = Literal["written", "skipped", "failed"]

#: Bytes copied and compared at a time.
_SLAB = 32 * 2**20


@dataclass(frozen=True)
class RepackRecord:
    """The outcome for one file.

    Attributes
    ----------
    source
        The old file.
    path
        The new file.
    status
        ``"written"``, ``"skipped"`` (``path`` exists) or ``"failed"``.
    reason
        Why it was skipped or failed.
    bytes_before, bytes_after
        Sizes of the two files; 0 unless it was written.
    """

    source: Path
    path: Path
    status: Status
    reason: str = ""
    bytes_before: int = 0
    bytes_after: int = 0


@dataclass(frozen=True)
class RepackReport:
    """The outcome for every file, in the order of their paths."""

    records: tuple[RepackRecord, ...]

    @property
    def failed(self) -> list[RepackRecord]:
        """The files that have no new file."""
        return [record for record in self.records if record.status == "failed"]

    def __str__(self) -> str:
        count = dict.fromkeys(get_args(Status), 0)
        for record in self.records:
            count[record.status] += 1
        before, after = (
            sum(getattr(record, name) for record in self.records) / 1e6
            for name in ("bytes_before", "bytes_after")
        )
        words = ", ".join(f"{n} {status}" for status, n in count.items())
        lines = [f"{words}; {before:,.1f} MB became {after:,.1f} MB"]
        return "\n".join(lines + [f"failed: {record.reason}" for record in self.failed])


def repack(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    on_conflict: OnConflict = "skip",
    workers: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> RepackReport:
    """Rewrite raw files so that they read many times faster.

    All groups, links, attributes and types are kept, and all other datasets stay as they are
    stored.  Each new file is compared with the old one bit by bit before it appears; the old file
    is never changed.  :func:`oectflow.extract` treats the new file as a different raw file: results
    of the old file are computed again if both have the same output folder.

    Parameters
    ----------
    source
        A raw file, or a folder that is searched with its subfolders.
    target
        Folder of the new files, made if missing.  The files keep their names and subfolders.
    on_conflict
        What to do if a file of the same name exists: keep it (``"skip"``) or replace it
        (``"overwrite"``).
    workers
        Number of processes; 1 works in this process.  By default one per core, but not more than
        files.
    progress
        Called with the number of files done, and the number of all files.

    Returns
    -------
    One record per file.  If a file cannot be read or written, its record has the reason.

    Raises
    ------
    InputError
        There is no file, an argument is wrong, or the package hdf5plugin is missing.
    """
    if on_conflict not in get_args(OnConflict):
        hint = did_you_mean(on_conflict, get_args(OnConflict))
        raise InputError(f"unknown on_conflict={on_conflict!r}{hint}")
    if workers is not None and workers < 1:
        raise InputError(f"workers={workers}, expected 1 or more, or None for one per core")
    _filters()
    try:
        pairs = _pairs(place(source, InputError), place(target, InputError))
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{source}: cannot be listed: {reason}") from error
    n = min(len(pairs), workers or os.cpu_count() or 1)
    records = []
    for record in _in_turn(pairs, on_conflict, n):
        records.append(record)
        if progress is not None:
            progress(len(records), len(pairs))
    return RepackReport(tuple(sorted(records, key=lambda record: record.source)))


def _in_turn(
    pairs: list[tuple[Path, Path]], on_conflict: OnConflict, workers: int
) -> Iterator[RepackRecord]:
    if workers == 1:
        for pair in pairs:
            yield repack_file(*pair, on_conflict)
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        jobs = {pool.submit(repack_file, *pair, on_conflict): pair for pair in pairs}
        for job in as_completed(jobs):
            try:
                yield job.result()
            except BrokenProcessPool:
                old, new = jobs[job]
                why = "a process died; did the memory run out? Try again with fewer workers"
                yield RepackRecord(old, new, "failed", f"{old}: {why}")


def _pairs(source: Path, target: Path) -> list[tuple[Path, Path]]:
    """Return every file and where its new one goes."""
    if source.is_file():
        root, files = source.parent, [source]
    else:
        root, files = source, sorted(p for p in walk_files(source) if is_hdf5(p) or p.is_dir())
    if not files:
        raise InputError(f"{source}: no HDF5 file (*.h5, *.hdf5) there")
    if root.resolve() == target.resolve():
        raise InputError(f"{target}: is the folder of the files themselves; choose another one")
    # A target within the source holds new files, not old ones.
    old = [path for path in files if not path.resolve().is_relative_to(target.resolve())]
    return [(path, target / PurePath(*path.relative_to(root).parts)) for path in old]


def repack_file(source: Path, target: Path, on_conflict: OnConflict = "skip") -> RepackRecord:
    """Rewrite one raw file; the record says if something is wrong with it."""
    if target.exists() and on_conflict == "skip":
        return RepackRecord(source, target, "skipped", f"{target}: a file of this name exists")
    try:
        experiment = Experiment(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(target) as partial:
            with open_file(source, "the file") as old:
                # By address: a dataset may have more than one name.
                lengths = {
                    _address(old[name]["measurement_data"]): experiment.layout(name).lengths
                    for name in experiment.sources
                }
                with _writing(target), h5py.File(partial, "w") as new:
                    _copy_group(source, old, new, lengths, {_address(old): "/"})
                with h5py.File(partial, "r") as new:
                    _compare(source, old, new, {_address(old): _address(new)})
            sizes = source.stat().st_size, partial.stat().st_size
    except (OectflowError, OSError) as error:
        return RepackRecord(source, target, "failed", str(error))
    return RepackRecord(source, target, "written", "", *sizes)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise StorageError(f"{path}: cannot be written: {reason}; is the disk full?") from error


def _filters() -> Any:
    with extra("repack", "repacking", InputError):
        import hdf5plugin
    return hdf5plugin.Blosc(cname="lz4", clevel=5, shuffle=hdf5plugin.Blosc.SHUFFLE)


def _copy_group(
    path: Path,
    old: h5py.Group,
    new: h5py.Group,
    lengths: Mapping[Any, NDArray[np.int64]],
    made: dict[Any, str],
) -> None:
    """Copy attributes and members; two names of one object stay two names of one object."""
    _copy_attributes(old, new)
    for name in old:
        link = old.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            new[name] = link
            continue
        item = old[name]
        address = _address(item)
        if address in made:
            new[name] = new.file[made[address]]
            continue
        made[address] = item.name
        if isinstance(item, h5py.Group):
            _copy_group(path, item, new.create_group(name), lengths, made)
        elif address in lengths and item.size:
            _copy_samples(path, item, new, name, lengths[address])
        else:
            with reading(path, item.name):
                old.copy(item, new, name)


def _address(item: Any) -> Any:
    """Return what two names of one object have in common."""
    return h5py.h5o.get_info(item.id).addr


def _copy_attributes(old: Any, new: Any) -> None:
    """Copy attributes with the types that they have in the file."""
    for name in old.attrs:
        there = h5py.h5a.open(old.id, name.encode())
        here = h5py.h5a.create(new.id, name.encode(), there.get_type(), there.get_space())
        if there.get_space().get_simple_extent_type() != h5py.h5s.NULL:
            value = np.empty(there.shape, there.dtype)
            there.read(value)
            here.write(value)


def _copy_samples(
    path: Path, old: h5py.Dataset, parent: h5py.Group, name: str, lengths: NDArray[np.int64]
) -> None:
    """Write samples in chunks that follow the steps, through other filters."""
    need_filters(path, old)
    properties = old.id.get_create_plist().copy()
    for code in [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]:
        properties.remove_filter(code)
    if old.ndim == 3:
        properties.set_chunk(sweeps_per_chunk(*old.shape))
    else:
        properties.set_chunk((1, min(old.shape[1], samples_per_chunk(lengths))))
    filters = _filters()
    properties.set_filter(filters.filter_id, h5py.h5z.FLAG_MANDATORY, filters.filter_options)
    properties.set_fletcher32()
    h5py.h5d.create(
        parent.id, name.encode(), old.id.get_type(), old.id.get_space(), dcpl=properties
    )
    new = parent[name]
    _copy_attributes(old, new)
    for where in _slabs(old):
        with reading(path, f"{old.name}, {where},"):
            value = _read(old, where)
        new[where] = value


def _slabs(dataset: h5py.Dataset) -> Iterator[tuple[Any, ...]]:
    """Yield selections that cover a dataset of samples, none of them large."""
    if dataset.ndim == 2:
        n = max(1, _SLAB // 8)
        for row in range(dataset.shape[0]):
            for start in range(0, dataset.shape[1], n):
                yield row, slice(start, min(dataset.shape[1], start + n))
    else:
        n = max(1, _SLAB // (8 * dataset[:1].size))
        for start in range(0, dataset.shape[0], n):
            yield (slice(start, start + n),)


def _read(dataset: h5py.Dataset, where: tuple[Any, ...]) -> Any:
    if dataset.ndim == 2 and dataset.dtype == np.float64:
        row, span = where
        return read_rows(dataset, [row], span.start, span.stop)[0]
    (span, *_) = where
    if isinstance(span, slice):
        return read_slab(dataset, span.start, min(span.stop, dataset.shape[0]))
    return dataset[where]


def _compare(path: Path, old: h5py.Group, new: h5py.Group, seen: dict[Any, Any]) -> None:
    """Raise where the new file does not hold, bit by bit, what the old one holds."""

    def same(condition: bool, what: str) -> None:
        if not condition:
            raise InputError(
                f"{path}: the new file differs in {what}; nothing was written, the file is as it "
                "was; please report this"
            )

    same(list(old) == list(new), f"the members of {old.name}")
    _compare_attributes(same, old, new)
    for name in old:
        link = old.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            now = new.get(name, getlink=True)
            same(vars(link) == vars(now) and type(link) is type(now), f"the link {name}")
            continue
        before, after = old[name], new[name]
        address = _address(before)
        if address in seen:
            same(seen[address] == _address(after), f"what {before.name} stands for")
            continue
        seen[address] = _address(after)
        if isinstance(before, h5py.Group):
            _compare(path, before, after, seen)
            continue
        _compare_attributes(same, before, after)
        kind = before.id.get_type().equal(after.id.get_type())
        same(bool(kind) and before.shape == after.shape, f"the type or shape of {before.name}")
        big = before.ndim > 1 and before.dtype.kind in "fiu" and before.size
        for where in _slabs(before) if big else [()]:
            same(
                _bits(_read(before, where) if big else before[where]) == _bits(after[where]),
                before.name,
            )


def _compare_attributes(same: Callable[[bool, str], None], old: Any, new: Any) -> None:
    same(list(old.attrs) == list(new.attrs), f"the attributes of {old.name}")
    for name in old.attrs:
        types = [h5py.h5a.open(one.id, name.encode()).get_type() for one in (old, new)]
        bits = [_bits(one.attrs[name]) for one in (old, new)]
        same(types[0].equal(types[1]) and bits[0] == bits[1], f"the attribute {name} of {old.name}")


def _bits(value: Any) -> Any:
    """Return something that is equal only where all bits are."""
    array = np.asarray(value)
    return array.tolist() if array.dtype.hasobject else (array.dtype, array.tobytes())
