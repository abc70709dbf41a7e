"""Find raw files whose data lie in other files, and refuse or follow the links.

Otherwise, a file from somebody else could bring in any file that its reader may read.  Data in
other files also change without a trace in the file that names them.  If such data are missing, HDF5
silently returns fill values, mostly 0.0.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from oectflow.errors import UnreadableFile
from oectflow.measurement import kinds
from oectflow.pipeline.inputs.hdf5 import reading
from oectflow.place import is_remote

_REMEDY = (
    "expected a file that holds its own data: copy them into it, for example by reading and "
    "writing that dataset with h5py, or say allow_external=True (--allow-external) if whoever "
    "wrote the file may name any file that you can read"
)


def find_external(path: Path, file: h5py.File, *, allowed: bool) -> tuple[str, ...]:
    """Find the other files in which data of a file lie.

    Parameters
    ----------
    path, file
        The path of the file, and the opened file.
    allowed
        Whether other files are allowed.

    Returns
    -------
    Their absolute paths in alphabetical order, including files that the other files name.

    Raises
    ------
    UnreadableFile
        Other files are not allowed, or their data are missing, or a link leads nowhere.  The
        message names the first such file.
    """
    # Where they are is said as a place on a disk.
    allowed = allowed and not is_remote(path)
    own = str(path.absolute())
    found = set(_named(path, file, path, allowed=allowed))
    waiting, walked = list(found), {own}
    while waiting:
        here, is_hdf5 = waiting.pop()
        if is_hdf5 and here not in walked:
            walked.add(here)
            with reading(path, f"{here}, to which a link of it leads,"), h5py.File(here) as other:
                named = set(_named(path, other, Path(here), allowed=allowed))
            waiting += named - found
            found |= named
    return tuple(sorted({here for here, _ in found} - {own}))


def _named(path: Path, file: h5py.File, here: Path, *, allowed: bool) -> Iterator[tuple[str, bool]]:
    """Yield the files that one file names, and whether they are HDF5."""
    groups, seen = [file["/"]], set()
    while groups:
        group = groups.pop()
        for name in group:
            link = group.get(name, getlink=True)
            where = f"{group.name.rstrip('/')}/{name}"
            needed = where.split("/")[1] in ("extra", "raw", "sample", *kinds())
            if here != path:
                where = f"{here}: {where}"
            if isinstance(link, h5py.ExternalLink):
                what = f"is a link to {link.filename!r}"
                _need_allowed(path, where, what, allowed=allowed)
                yield _there(path, where, what, here, link.filename), True
                needed = True
            if not isinstance(link, h5py.HardLink):
                if needed and group.get(name) is None:
                    raise UnreadableFile(
                        f"{path}: {where} is a link to {link.path!r}, which is not there; copy or "
                        "convert the file again"
                    )
                # Where it leads in this file is looked at under its own name.
                continue
            item = h5py.h5o.open(group.id, name.encode())
            address = h5py.h5o.get_info(item).addr
            if address in seen:
                continue
            seen.add(address)
            if isinstance(item, h5py.h5g.GroupID):
                groups.append(h5py.Group(item))
            elif isinstance(item, h5py.h5d.DatasetID):
                properties = item.get_create_plist()
                if properties.get_layout() == h5py.h5d.VIRTUAL:
                    _need_allowed(path, where, "is a virtual dataset", allowed=allowed)
                    yield from _sources(path, where, here, h5py.Dataset(item))
                elif n := properties.get_external_count():
                    _need_allowed(path, where, f"is stored in {n} other file(s)", allowed=allowed)
                    yield from _storage(path, where, here, h5py.Dataset(item))


def _need_allowed(path: Path, where: str, what: str, *, allowed: bool) -> None:
    if not allowed:
        raise UnreadableFile(f"{path}: {where} {what}; {_REMEDY}")


def _there(path: Path, where: str, what: str, here: Path, name: str) -> str:
    """Return the absolute path of a named file; UnreadableFile if there is none."""
    # HDF5 looks beside the file that names it first.
    target = (here.absolute().parent / name).absolute()
    if not target.is_file():
        raise UnreadableFile(
            f"{path}: {where} {what}, but there is no file {target}; copy that too"
        )
    return str(target)


def _storage(
    path: Path, where: str, here: Path, dataset: h5py.Dataset
) -> Iterator[tuple[str, bool]]:
    """Yield the files that hold the bytes of a dataset; HDF5 would read 0 beyond their ends."""
    properties = dataset.id.get_create_plist()
    left = dataset.size * dataset.dtype.itemsize
    for i in range(properties.get_external_count()):
        raw, offset, size = properties.get_external(i)
        name = raw.decode("utf-8", "surrogateescape")
        what = f"is stored in {name!r}"
        if not Path(name).is_absolute():
            raise UnreadableFile(
                f"{path}: {where} {what}, which HDF5 would look for in the current folder of "
                "whoever reads; expected an absolute path"
            )
        target = _there(path, where, what, here, name)
        used = min(size, left)
        n_bytes = Path(target).stat().st_size
        if n_bytes < offset + used:
            raise UnreadableFile(
                f"{path}: {where} {what}, which has {n_bytes:,} bytes, expected {offset + used:,}; "
                "copy it again"
            )
        left -= used
        yield target, False


def _sources(
    path: Path, where: str, here: Path, dataset: h5py.Dataset
) -> Iterator[tuple[str, bool]]:
    """Yield the files of a virtual dataset; they must contain all of it."""
    boxes = []
    for part in dataset.virtual_sources():
        what = f"is made of {part.dset_name} in {part.file_name!r}"
        target = (
            str(here.absolute())
            if part.file_name == "."
            else _there(path, where, what, here, part.file_name)
        )
        with h5py.File(target) as file:
            source = file.get(part.dset_name)
            if not isinstance(source, h5py.Dataset):
                raise UnreadableFile(
                    f"{path}: {where} {what}, but there is no such dataset; copy that file again"
                )
            if problem := _missing(source, part):
                raise UnreadableFile(f"{path}: {where} {what}, {problem}; copy that file again")
        first, last = (np.array(bound) for bound in part.vspace.get_select_bounds())
        if np.prod(last - first + 1) != part.vspace.get_select_npoints():
            raise UnreadableFile(
                f"{path}: {where} {what}, but not as one block; copy the data into the file"
            )
        boxes.append((first, last))
        yield target, True
    volume = sum(int(np.prod(last - first + 1)) for first, last in boxes)
    if volume != dataset.size or _overlap(boxes):
        raise UnreadableFile(
            f"{path}: {where} is a virtual dataset of {dataset.size:,} values, for which its "
            f"sources have {volume:,}, each once or more; expected a source for each value"
        )


def _overlap(boxes: list[tuple[NDArray[np.int64], NDArray[np.int64]]]) -> bool:
    """Whether any two blocks have a point in common."""
    if len(boxes) < 2:
        return False
    firsts, lasts = (np.array(ends) for ends in zip(*boxes, strict=True))
    for i in range(1, len(boxes)):
        common = (firsts[:i] <= lasts[i]) & (lasts[:i] >= firsts[i])
        if common.all(axis=1).any():
            return True
    return False


def _missing(source: h5py.Dataset, part: Any) -> str:
    """Return what a source of a virtual dataset lacks, ``""`` if it is complete."""
    properties = source.id.get_create_plist()
    if properties.get_layout() == h5py.h5d.VIRTUAL:
        return "which is a virtual dataset itself"
    if part.src_space.get_select_type() == h5py.h5s.SEL_ALL:
        if source.size != part.vspace.get_select_npoints():
            return f"which has the shape {source.shape} now"
    else:
        last = part.src_space.get_select_bounds()[1]
        if len(last) != source.ndim or any(n >= m for n, m in zip(last, source.shape, strict=True)):
            return f"which has the shape {source.shape} only"
    if properties.get_layout() == h5py.h5d.CONTIGUOUS:
        stored = properties.get_external_count() or source.id.get_offset() is not None
        return "" if stored or not source.size else "of which nothing was ever stored"
    if source.chunks is not None:
        steps = zip(source.shape, source.chunks, strict=True)
        wanted = int(np.prod([-(-n // step) for n, step in steps]))
        stored = set[tuple[int, ...]]()
        source.id.chunk_iter(lambda chunk: stored.add(tuple(chunk.chunk_offset)))
        if len(stored) != wanted:
            return f"of which {len(stored)} of {wanted} chunks are stored"
    return ""
