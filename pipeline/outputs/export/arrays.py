"""Results as arrays with axes: MATLAB, NetCDF, Zarr."""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from oectflow.errors import OutputError, StorageError

if TYPE_CHECKING:
    import xarray as xr

#: What one variable of a MATLAB 5 file holds, and what its fields may be called.
_MOST_BYTES = 2**31 - 2**20
_LONGEST = 63
_NO_LETTER = re.compile(r"[^A-Za-z0-9_]")


def write_netcdf(results: xr.Dataset, path: Path) -> None:
    """Write NetCDF 4."""
    _portable(results).to_netcdf(path, engine="h5netcdf")


def write_zarr(results: xr.Dataset, target: Path) -> None:
    """Write a Zarr folder, completely or not at all.

    Raises
    ------
    StorageError
        Something else is at this place, or there is no such folder.
    """
    if target.exists() and not (target / ".zgroup").is_file():
        raise StorageError(f"{target}: exists and is no Zarr folder; choose another name")
    if not target.parent.is_dir():
        raise StorageError(f"{target}: cannot be written (there is no folder {target.parent})")
    name = f".{target.name[:200]}.{uuid.uuid4().hex[:16]}.tmp"
    partial, old = target.with_name(name), target.with_name(f"{name}-old")
    plain = _portable(results)
    try:
        # The version that all readers know, and that says how text is stored.
        plain.to_zarr(partial, mode="w-", zarr_format=2, consolidated=True)
        if target.exists():
            target.rename(old)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def write_matlab(results: xr.Dataset, path: Path) -> None:
    """Write a MATLAB file: ``data``, ``coords``, ``units``, ``dims``, ``description``, ``words``.

    Words are stored as numbers from 1; ``words`` has their meanings, as ``categorical`` takes them.

    Raises
    ------
    OutputError
        An array is too large for such a file.
    """
    from scipy.io import savemat

    names = _fields([str(name) for name in results])
    data: dict[str, Any] = {}
    words: dict[str, Any] = {}
    for key, one in results.items():
        name = names[str(key)]
        if one.size * 8 > _MOST_BYTES:
            raise OutputError(
                f"{key}: {one.size:,} numbers are more than a .mat file holds; name fewer features "
                "or experiments, or write a .nc, which MATLAB reads with ncread"
            )
        if one.dtype.kind in "US":
            known, codes = np.unique(one.values, return_inverse=True)
            data[name] = _at_least_2d(codes.reshape(one.shape).astype(np.uint16) + 1)
            words[name] = _texts(known.tolist())
        else:
            data[name] = _at_least_2d(one.values)
    places = _fields([str(name) for name in results.coords])
    coords = {
        places[str(key)]: _texts(one.values.tolist())
        if one.dtype.kind in "USO"
        else _at_least_2d(one.values)
        for key, one in results.coords.items()
    }
    about = {
        "data": data,
        "coords": coords,
        "units": {names[str(k)]: str(v.attrs.get("units", "")) for k, v in results.items()}
        | {places[str(k)]: str(v.attrs.get("units", "")) for k, v in results.coords.items()},
        "dims": {names[str(key)]: _texts(map(str, one.dims)) for key, one in results.items()},
        "description": {
            names[str(k)]: str(v.attrs.get("description", "")) for k, v in results.items()
        },
        "words": words,
        "names": {field: name for name, field in names.items()},
    }
    kept = {key: value for key, value in about.items() if value}
    savemat(path, kept, long_field_names=True, do_compression=True, oned_as="column")


def _portable(results: xr.Dataset) -> xr.Dataset:
    """Return results whose attributes are plain text, of which no part is left of other files."""
    plain = results.copy()
    plain.attrs = {key: _line(value) for key, value in results.attrs.items()}
    for one in plain.variables.values():
        one.encoding = {}
    return plain


def _line(value: Any) -> Any:
    return "\n".join(map(str, value)) if isinstance(value, list | tuple) else value


def _at_least_2d(array: NDArray[Any]) -> NDArray[Any]:
    return array[:, None] if array.ndim == 1 else array


def _texts(texts: Iterable[str]) -> NDArray[np.object_]:
    """Return text as a column of cells."""
    words = list(texts)
    cells = np.empty((len(words), 1), object)
    cells[:, 0] = words
    return cells


def _fields(names: Iterable[str]) -> dict[str, str]:
    """Return a field that MATLAB takes for each name, and no two alike."""
    fields: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        field = _NO_LETTER.sub("_", name)
        field = (field if field[:1].isalpha() else f"x_{field}")[:_LONGEST]
        number = 1
        while field in taken:
            number += 1
            field = f"{field[: _LONGEST - 4]}_{number}"
        taken.add(field)
        fields[name] = field
    return fields
