"""Feature files of the earlier software: columns in HDF5 (v1), tables in Parquet (v2)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pyarrow as pa

from oectflow.errors import OutputError, UnreadableFile
from oectflow.pipeline.inputs.chunks import read_all
from oectflow.pipeline.inputs.hdf5 import open_file, plain
from oectflow.pipeline.outputs.sink import read_metadata

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

UNKNOWN = "unknown"
_HDF5 = (".h5", ".hdf5")
_KINDS = ("transfer", "transient")
# Coordinates carry the unit of the quantity they belong to, so 'S' stands at a voltage.
_COORDINATES = {"_Vg": "V", "_Id": "A"}
_FILE_NAME = re.compile(
    r"(?P<chip_id>.+?)-(?P<device_id>[^-]+)-(?P<config_name>.+)-feat_\d{8}-\d{6}_[0-9a-f]{8}"
)


def open_legacy_features(path: str | os.PathLike[str]) -> xr.Dataset:
    """Open a feature file that ``oect-infra`` has written.

    Parameters
    ----------
    path
        A ``…-feat_….h5`` (features v1, with the time constants of its ``v2_feature``), or a
        ``….parquet`` (features v2).

    Returns
    -------
    One variable per feature along ``step``.  Transient features of an HDF5 file are along
    ``transient_entry``: the file does not say whether their entries are steps, or cycles of the
    whole experiment without those that have no fit.  Columns ``name_0``, ``name_1``, … are one
    variable with a second axis ``name_entry``.  ``units`` is ``"unknown"`` if the file does not
    name the unit.  The unit of a coordinate (``…_Vg``, ``…_Id``) is always V or A, even if the file
    says something else.  ``attrs`` has the chip, the device and the configuration, from the file or
    its name.  ``test_id`` is ``"unknown"`` for a Parquet file, because such a file does not
    distinguish two tests of one device.

    Raises
    ------
    OutputError
        The file is of another kind, or damaged.

    Examples
    --------
    With a file that the old software has written::

        old = of.open_legacy_features("data/features_v2/….parquet")
        old.gm_max_forward.plot()
    """
    source = Path(path).expanduser()
    if not source.is_file():
        raise OutputError(f"{source}: there is no such file")
    if source.suffix.lower() in _HDF5:
        return _open_hdf5(source)
    return _open_parquet(source)


def read_legacy_table(path: Path) -> pd.DataFrame:
    """Read a features v2 Parquet file as a table, with its ``attrs``.

    Raises
    ------
    OutputError
        The file is not such a table, or damaged.
    """
    if read_metadata(path) is not None:
        raise OutputError(f"{path}: is a result file of oectflow; open it with open_results")
    import pandas as pd

    try:
        frame = pd.read_parquet(path, page_checksum_verification=True)
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise OutputError(f"{path}: cannot be read as Parquet: {reason}") from error
    if "step_index" not in frame:
        columns = ", ".join(map(str, frame.columns[:5]))
        raise OutputError(
            f"{path}: is no feature file: it has no column step_index, but {columns or 'none'}"
        )
    return frame


def group_columns(columns: Iterable[str]) -> dict[str, list[str]]:
    """Return the columns of each feature: ``x_0``, ``x_1``, … belong to a feature ``x``.

    A feature has at least two such columns, numbered from 0 without a gap; any other column is a
    feature of its own.
    """
    names = list(columns)
    numbers: dict[str, set[int]] = {}
    for name in names:
        stem, _, number = name.rpartition("_")
        if stem and number.isascii() and number.isdecimal() and str(int(number)) == number:
            numbers.setdefault(stem, set()).add(int(number))
    wide = {
        stem: len(found)
        for stem, found in numbers.items()
        if len(found) > 1 and found == set(range(len(found))) and stem not in names
    }
    groups: dict[str, list[str]] = {}
    for name in names:
        stem = name.rpartition("_")[0]
        if stem in wide:
            groups[stem] = [f"{stem}_{k}" for k in range(wide[stem])]
        else:
            groups[name] = [name]
    return groups


def _open_parquet(path: Path) -> xr.Dataset:
    import xarray as xr

    frame = read_legacy_table(path)
    match = _FILE_NAME.fullmatch(path.stem)
    known = {"chip_id": UNKNOWN, "device_id": UNKNOWN, "config_name": UNKNOWN, "test_id": UNKNOWN}
    named = match.groupdict() if match else {}
    about = known | named | dict(frame.attrs)
    data = {}
    for name, columns in group_columns(c for c in frame.columns if c != "step_index").items():
        array = frame[columns].to_numpy()
        dims = ("step", f"{name}_entry") if len(columns) > 1 else ("step",)
        data[name] = (dims, array if len(columns) > 1 else array[:, 0], {"units": UNKNOWN})
    return xr.Dataset(
        data,
        {"step": frame["step_index"].to_numpy()},
        {key: _attribute(value) for key, value in about.items()} | {"source": str(path)},
    )


def _open_hdf5(path: Path) -> xr.Dataset:
    import xarray as xr

    data: dict[str, Any] = {}
    try:
        with open_file(path, "the features") as file:
            about = {name: plain(value) for name, value in file.attrs.items()}
            if about.get("file_type") != "feature":
                seen = about.get("format_version", "no attribute file_type")
                raise OutputError(
                    f"{path}: is no feature file ({seen}); raw experiments are opened with "
                    "oectflow.Experiment"
                )
            for kind in _KINDS:
                for name, dataset in _columns(file, kind).items():
                    data[f"{kind}_{name}" if name in data else name] = _variable(
                        kind, name, dataset
                    )
    except UnreadableFile as error:
        raise OutputError(str(error)) from error
    lengths: dict[str, dict[int, str]] = {}
    for name, ((dim,), array, _) in data.items():
        lengths.setdefault(dim, {}).setdefault(len(array), name)
    for dim, found in lengths.items():
        if len(found) > 1:
            words = ", ".join(f"{name} has {n}" for n, name in found.items())
            raise OutputError(f"{path}: its features differ in length along {dim}: {words}")
    return xr.Dataset(data, attrs=about | {"source": str(path)})


def _columns(file: h5py.File, kind: str) -> dict[str, h5py.Dataset]:
    buckets = file.get(f"{kind}/columns/buckets", {})
    return {
        name: dataset
        for bucket in buckets.values()
        for name, dataset in bucket.items()
        if isinstance(dataset, h5py.Dataset)
    }


def _variable(kind: str, name: str, dataset: h5py.Dataset) -> tuple[tuple[str], Any, Any]:
    written = plain(dataset.attrs.get("unit", "")) or UNKNOWN
    unit = next((unit for end, unit in _COORDINATES.items() if name.endswith(end)), written)
    about = {"units": unit, "description": plain(dataset.attrs.get("description", ""))}
    if unit != written:
        about["units_in_file"] = written
    dim = "step" if kind == "transfer" else "transient_entry"
    return (dim,), np.asarray(read_all(dataset)), about


def _attribute(value: Any) -> Any:
    """Return what a file can hold as an attribute: no nested data."""
    return str(value) if isinstance(value, Mapping | list | tuple) else value
