"""Write results as one file for another program."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from oectflow.atomic_write import atomic_write
from oectflow.errors import (
    OutputError,
    ParameterError,
    StorageError,
    UnknownFeature,
    did_you_mean,
)
from oectflow.extras import extra
from oectflow.local_path import local_path
from oectflow.pipeline.marks.mark import Treatment
from oectflow.pipeline.outputs.export.arrays import write_matlab, write_netcdf, write_zarr
from oectflow.pipeline.outputs.export.tables import LEVELS, Level, write_csv
from oectflow.pipeline.outputs.results import open_results

if TYPE_CHECKING:
    import xarray as xr

_ENDS = (".xlsx", ".csv", ".mat", ".nc", ".zarr")


def export(
    results: str | os.PathLike[str] | xr.Dataset,
    out: str | os.PathLike[str],
    *,
    features: str | Iterable[str] | None = None,
    level: Level = "steps",
    decimal: Literal[".", ","] = ".",
    marks: Treatment = "exclude",
) -> Path:
    """Write results as one file for another program; the ending of its name decides which.

    ``.xlsx``: sheets of experiments (medians of the good values), steps and cycles, coloured by
    status, and a sheet that explains each column.  ``.csv``: one of these tables.  ``.mat``
    (MATLAB), ``.nc`` (NetCDF) and ``.zarr``: all arrays with their axes and units.

    Parameters
    ----------
    results
        Folder that :func:`oectflow.extract` has written, or a Dataset from
        :func:`oectflow.open_results`, or a part of it.
    out
        The file; an existing one is replaced.
    features
        Names of features to export with their companions; by default all.
    level
        Rows of a CSV file: ``"experiments"``, ``"steps"`` or ``"cycles"``.
    decimal
        Decimal sign of a CSV file.  With ``","``, columns are separated by semicolons, as Excel in
        most of Europe expects.
    marks
        As for :func:`oectflow.open_results`; only for a folder.

    Returns
    -------
    The file written.

    Raises
    ------
    OutputError
        There are no results, the name has another ending, or the results do not fit into such a
        file.
    UnknownFeature
        There is no such feature.
    ParameterError
        ``level`` or ``decimal`` is not one of these values.
    OectflowError
        openpyxl or zarr is not installed.
    StorageError
        The file cannot be written; an existing file is unchanged.
    """
    target = local_path(out, StorageError)
    end = target.suffix.lower()
    if end not in _ENDS:
        raise OutputError(
            f"{target}: expected a name that ends in {', '.join(_ENDS)}{did_you_mean(end, _ENDS)}"
        )
    if level not in LEVELS:
        raise ParameterError(f"level={level!r}: expected one of {', '.join(LEVELS)}")
    if decimal not in (".", ","):
        raise ParameterError(f"decimal={decimal!r}: expected '.' or ','")
    if isinstance(results, str | os.PathLike):
        results = open_results(results, marks=marks)
    elif "experiment" not in results.dims:
        raise OutputError(
            "these results have no axis 'experiment': select with isel(experiment=[0])"
        )
    if features is not None:
        results = _only(results, [features] if isinstance(features, str) else list(features))
    write = _writer(end, level, decimal)
    try:
        if end == ".zarr":
            write_zarr(results, target)
        else:
            with atomic_write(target, end) as temporary:
                write(results, temporary)
    except OSError as error:
        raise StorageError(f"{target}: cannot be written ({error.strerror or error})") from error
    return target


def _writer(end: str, level: Level, decimal: str) -> Callable[[xr.Dataset, Path], None]:
    """Return what writes such a file; what is not installed is said before results are read."""
    if end == ".xlsx":
        with extra("excel", "XLSX"):
            import openpyxl  # noqa: F401
        from oectflow.pipeline.outputs.export.excel import write_excel

        return write_excel
    if end == ".csv":
        return partial(write_csv, level=level, decimal=decimal)
    if end == ".zarr":
        with extra("zarr", "Zarr"):
            import zarr  # noqa: F401
        return write_zarr
    return write_matlab if end == ".mat" else write_netcdf


def _only(results: xr.Dataset, names: list[str]) -> xr.Dataset:
    owners = {str(key): str(one.attrs.get("feature", "")) for key, one in results.items()}
    for name in names:
        if name not in owners.values():
            hint = did_you_mean(name, set(owners.values()) - {""})
            raise UnknownFeature(f"no feature {name!r} in these results{hint}")
    return results[[key for key, owner in owners.items() if owner in names]]
