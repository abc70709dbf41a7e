"""Open a folder of results: as one xarray Dataset, or as a Dask DataFrame."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from oectflow.checksums import open_checked
from oectflow.errors import OutputError
from oectflow.extractors.base import Variable, missing
from oectflow.local_path import local_path
from oectflow.pipeline.inputs.samples import unit_of
from oectflow.pipeline.outputs.places import result_files
from oectflow.pipeline.outputs.sink import (
    read_columns,
    read_metadata,
    read_problems,
    read_table,
    read_variables,
)
from oectflow.pipeline.outputs.trouble import flags_of_result, frame
from oectflow.result_metadata import PARTITIONS, definitions_folder

if TYPE_CHECKING:
    import dask.dataframe as dd
    import pandas as pd
    import xarray as xr

# xarray, pandas and dask.dataframe are imported where they are used: workers import this package
# too, and each of the three would cost every one of 96 processes some 50 MB.


class DamagedResultWarning(UserWarning):
    """Results that cannot be read are left out; the message names each, and why."""


@dataclass(frozen=True)
class _File:
    """What is needed of each of many files; what is common to all of them is one object.

    ``described`` are the variables as the file has them, ``variables`` as objects.
    """

    path: Path
    described: Mapping[str, Any]
    variables: Mapping[str, Variable]
    identity: Mapping[str, Any]
    n_rows: int


def open_results(out: str | os.PathLike[str]) -> xr.Dataset:
    """Return all results of a folder as one Dataset.

    Nothing but metadata is read until values are asked for; then only the columns needed.

    Parameters
    ----------
    out
        Folder that :func:`oectflow.extract` has written, or one of its files.

    Returns
    -------
    One variable per feature under the feature's name, and its companions such as ``tau_status``
    and ``tau_r_squared``; dimensions ``experiment``, ``step`` and, where a feature has them,
    ``cycle``, ``phase``, ``direction``, …; coordinates ``experiment`` (its id), ``chip_id``,
    ``device_id``, and what is known of the sample (``sample_W`` in m, ``sample_semiconductor``, …;
    NaN or ``""`` where it is not known); ``units``, ``description`` and the name of the ``feature``
    in ``attrs``.  NaN where an experiment has fewer steps or cycles than the largest one.
    ``results.oect.plot`` draws them.  Files that cannot be read are left out: a warning names them,
    and ``unreadable`` in ``attrs`` has the reasons.

    Raises
    ------
    OutputError
        There are no results, or two files disagree about what a feature is.
    """
    import dask.array as da
    import xarray as xr

    import oectflow.pipeline.outputs.plots.accessor  # noqa: F401 # registers results.oect

    files, unreadable = _files(out)
    union = _union(files)
    n_rows = max(file.n_rows for file in files)
    sizes = _dimension_sizes(files)
    data = {}
    owners = {
        name: file.described[name]["feature"]
        for file in _distinct(files)
        for name in file.variables
    }
    places = _Places(files)
    for name, variable in union.items():
        shape = (n_rows, *(sizes[dim] for dim in variable.dims))
        dtype = _dtype(variable)
        # One layer for all experiments, which is only written out for what is asked for.  Its name
        # would come from the lengths of 10,000 blocks.
        words = f"{places.token} {name} {shape} {dtype}".encode()
        blocks = da.map_blocks(
            _load,
            chunks=((1,) * len(files), *((n,) for n in shape)),
            dtype=dtype,
            meta=np.empty((0,) * (1 + len(shape)), dtype),
            name=f"{name}-{xxhash.xxh3_128_hexdigest(words)}",
            places=places,
            variable=name,
            shape=shape,
            fill=_fill(variable),
            kind=dtype,
        )
        data[name] = (
            ("experiment", "step", *variable.dims),
            blocks,
            _attributes(variable) | ({"feature": owners[name]} if owners[name] else {}),
        )
    coordinates: dict[str, Any] = {
        "experiment": [file.identity["experiment_id"] for file in files],
        "step": np.arange(n_rows),
    }
    if "cycle" in sizes:
        coordinates["cycle"] = np.arange(sizes["cycle"])
    for key in ("chip_id", "device_id"):
        coordinates[key] = ("experiment", [file.identity[key] for file in files])
    for name, (unit, values) in _sample_columns(files).items():
        attributes = {"units": unit} if unit else {}
        coordinates[name] = ("experiment", values, attributes)
    for file in _distinct(files):
        for variable in file.variables.values():
            coordinates |= {dim: list(labels) for dim, labels in variable.labels.items()}
    about: dict[str, Any] = {"source": str(out)}
    if unreadable:
        about["unreadable"] = unreadable
    return xr.Dataset(data, coordinates, about)


def results_frame(out: str | os.PathLike[str]) -> dd.DataFrame:
    """Return all results of a folder as a Dask DataFrame, one partition per experiment.

    Parameters
    ----------
    out
        Folder that :func:`oectflow.extract` has written, or one of its files.

    Returns
    -------
    One row per step with the columns of the Parquet files, and what is known of the sample
    (``sample_W`` in m, ``sample_semiconductor``, …); a column that a file lacks is missing values
    there.  Files that cannot be read are left out, and a warning names them.

    Raises
    ------
    OutputError
        There are no results.
    """
    import dask.dataframe as dd
    import pandas as pd
    import pyarrow as pa

    files, _ = _files(out)
    # An experiment with fewer features has fewer columns; the union is the table's schema.
    schema = pa.unify_schemas(
        [_plain(_schema(file.path)) for file in _distinct(files)], promote_options="permissive"
    )
    meta = _to_pandas(schema.empty_table())
    # In a partitioned folder, one of them is in the names of folders.
    columns = {
        key: [file.identity[key] for file in files] for key in PARTITIONS if key not in schema.names
    }
    columns |= {name: values for name, (_, values) in _sample_columns(files).items()}
    for name, values in columns.items():
        meta[name] = pd.Series([], dtype=pd.Series(values).dtype)
    samples = [{name: values[i] for name, values in columns.items()} for i in range(len(files))]
    paths = [str(file.path) for file in files]
    return dd.from_map(_load_frame, paths, samples, schema=schema, meta=meta)


def problems_frame(out: str | os.PathLike[str]) -> pd.DataFrame:
    """Return everything that is wrong with the results of a folder, and why.

    Parameters
    ----------
    out
        Folder that :func:`oectflow.extract` has written, or one of its files.

    Returns
    -------
    A row for every step in which a feature raised or that could not be read (``step``, ``status``,
    ``error_type``, ``message``); and one for every feature and other status word of an experiment,
    without a step, with the number ``n`` of values and the meaning of the word as ``message``.  The
    words of all steps are in :func:`oectflow.open_results`.
    """
    found = []
    for file in _files(out)[0]:
        metadata = read_metadata(file.path)
        # What has disappeared meanwhile is no problem of the results that are there.
        flags = flags_of_result(metadata) if metadata is not None else ()
        found.append((file.identity["experiment_id"], read_problems(file.path), flags, ""))
    return frame(found)


def _files(out: str | os.PathLike[str]) -> tuple[list[_File], list[str]]:
    """Return the results of a folder, and why others cannot be read; a warning names these."""
    folder = local_path(out, OutputError)
    if not folder.exists():
        raise OutputError(f"{folder}: no such file or folder")
    paths = result_files(folder) if folder.is_dir() else [folder]
    files: list[_File] = []
    # By the description that many files have in common, which they keep alive.
    variables: dict[int, dict[str, Variable]] = {}
    damaged = []
    lost: list[Path] = []
    for path in paths:
        try:
            metadata = read_metadata(path)
        except OutputError as error:
            damaged.append(str(error))
            continue
        if metadata is not None:
            if "definitions_lost" in metadata:
                lost.append(definitions_folder(path) / metadata["definitions_lost"])
            described = metadata["variables"]
            if id(described) not in variables:
                variables[id(described)] = read_variables(metadata)
            files.append(
                _File(
                    # Read later, by workers that may stand in another folder.
                    path.absolute(),
                    described,
                    variables[id(described)],
                    metadata["identity"],
                    metadata["n_rows"],
                )
            )
    if not files and damaged:
        raise OutputError("\n".join(damaged))
    if not files:
        raise OutputError(f"{folder}: no results of oectflow here; 'oectflow extract' writes them")
    if damaged:
        text = f"left out, {len(damaged)} of {len(paths)} files:\n" + "\n".join(damaged)
        warnings.warn(text, DamagedResultWarning, stacklevel=3)
    if lost:
        text = (
            f"{len(lost)} of {len(paths)} files: what their columns mean stood beside them and is "
            "not there; each column is a variable here.  Copy it from where they were made, or "
            "extract again with force=True (--force):\n"
            + "\n".join(sorted({str(path) for path in lost}))
        )
        warnings.warn(text, DamagedResultWarning, stacklevel=3)
    return files, damaged


def _distinct(files: Sequence[_File]) -> list[_File]:
    """Return one file for each description of variables."""
    return list({id(file.described): file for file in files}.values())


def _union(files: Sequence[_File]) -> dict[str, Variable]:
    """Return every variable of any file; the same name must mean the same thing everywhere."""
    union: dict[str, tuple[Variable, Path]] = {}
    for file in _distinct(files):
        for name, variable in file.variables.items():
            known, where = union.setdefault(name, (variable, file.path))
            if (known.dims, known.labels, known.unit) != (
                variable.dims,
                variable.labels,
                variable.unit,
            ):
                raise OutputError(
                    f"{name!r} is in {known.unit!r} per {known.dims} in {where}, but in "
                    f"{variable.unit!r} per {variable.dims} in {file.path}; "
                    "extract both with one feature set"
                )
    return {name: variable for name, (variable, _) in union.items()}


def _dimension_sizes(files: Sequence[_File]) -> dict[str, int]:
    """Return the length of each dimension: that of the longest variable that has it."""
    sizes: dict[str, int] = {}
    for file in _distinct(files):
        for name, variable in file.variables.items():
            lengths = file.described[name]["sizes"]
            for dim, length in zip(variable.dims, lengths, strict=True):
                sizes[dim] = max(length, sizes.get(dim, 0))
    return sizes


class _Places:
    """Where the experiments are, as Dask takes it for one thing and not for many."""

    def __init__(self, files: Sequence[_File]) -> None:
        self.paths = [str(file.path) for file in files]
        self.token = xxhash.xxh3_128_hexdigest(b"\0".join(map(os.fsencode, self.paths)))

    def __dask_tokenize__(self) -> str:
        return self.token


def _load(
    places: _Places,
    variable: str,
    shape: tuple[int, ...],
    fill: Any,
    kind: np.dtype[Any],
    block_id: tuple[int, ...],
) -> NDArray[Any]:
    """Return one variable of one experiment, missing values where its file has none."""
    path = Path(places.paths[block_id[0]])
    metadata = read_metadata(path)
    if metadata is None:
        raise OutputError(f"{path}: disappeared since the results were opened")
    out = np.full(shape, fill, kind)
    if variable in metadata["variables"]:
        array = read_columns(path, [variable], metadata)[variable]
        words = list(read_variables(metadata)[variable].statuses)
        if words:
            array = np.array(words)[array]
        out[tuple(slice(n) for n in array.shape)] = array
    return out[None]


def _dtype(variable: Variable) -> np.dtype[Any]:
    if variable.statuses:
        return np.dtype(f"U{max(len(word) for word in variable.statuses)}")
    return np.dtype(variable.dtype)


def _fill(variable: Variable) -> Any:
    return "absent" if variable.statuses else missing(variable)


def _attributes(variable: Variable) -> dict[str, str]:
    attributes = {"units": variable.unit, "description": variable.description}
    if variable.statuses:
        attributes["words"] = "; ".join(f"{k}: {v}" for k, v in variable.statuses.items())
    return attributes


def _plain(schema: Any) -> Any:
    """Return a schema without dictionaries, whose categories would differ between files."""
    import pyarrow as pa

    def plain(kind: Any) -> Any:
        if pa.types.is_dictionary(kind):
            return kind.value_type
        if pa.types.is_list(kind):
            return pa.list_(plain(kind.value_type))
        return kind

    return pa.schema([(field.name, plain(field.type)) for field in schema])


def _schema(path: Path) -> Any:
    with open_checked(path) as file:
        return file.schema_arrow


def _sample_columns(files: Sequence[_File]) -> dict[str, tuple[str, list[Any]]]:
    """Return unit and values, one for each file, of everything that is known of some sample."""
    samples: list[dict[str, Any]] = [file.identity.get("sample", {}) for file in files]
    columns: dict[str, tuple[str, list[Any]]] = {}
    for name in dict.fromkeys(key for sample in samples for key in sample if key != "units"):
        values = [sample.get(name) for sample in samples]
        unit = next(unit_of(name, sample) for sample in samples if name in sample)
        if any(isinstance(value, str) for value in values):
            columns[f"sample_{name}"] = unit, ["" if v is None else str(v) for v in values]
        else:
            columns[f"sample_{name}"] = unit, [math.nan if v is None else v for v in values]
    return columns


def _load_frame(path: str, sample: Mapping[str, Any], schema: Any) -> Any:
    import pyarrow as pa

    table = read_table(Path(path))
    for field in schema:
        if field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(len(table), field.type))
    return _to_pandas(table.select(schema.names).cast(schema)).assign(**sample)


def _to_pandas(table: Any) -> Any:
    import pandas as pd
    import pyarrow as pa

    # Lists in object columns would be turned into text by Dask.
    return table.to_pandas(
        types_mapper=lambda kind: pd.ArrowDtype(kind) if pa.types.is_nested(kind) else None
    )
