"""One result file as a table of plain columns: ``gm``, ``cycles_0``, ``cycles_1`` and so on."""

from __future__ import annotations

import contextlib
import fnmatch
import math
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from oectflow.atomic_write import atomic_write
from oectflow.errors import DamagedFile, OutputError, StorageError, UnknownFeature, did_you_mean
from oectflow.extractors.base import Variable
from oectflow.pipeline.outputs.places import result_path
from oectflow.pipeline.outputs.sink import (
    read_columns,
    read_metadata,
    read_variables,
)

if TYPE_CHECKING:
    import pandas as pd


def read_values(
    path: Path, features: Collection[str] | None = None
) -> tuple[dict[str, NDArray[Any]], dict[str, Variable], dict[str, Any]]:
    """Read the values of features, without their status and companions.

    Parameters
    ----------
    path
        A result file.
    features
        Names of features; by default all.

    Returns
    -------
    Arrays by feature, whose first axis is the step of its source; a description of each; and the
    metadata of the file.

    Raises
    ------
    OutputError
        The file is none of ours, or is gone.
    """
    metadata = _metadata(path)
    variables = read_variables(metadata)
    names = [name for name in metadata["features"] if features is None or name in features]
    arrays = read_columns(path, names, metadata)
    # A file has as many rows as the source with the most steps; the other one ends before.
    return (
        {name: array[: _n_rows(metadata, name)] for name, array in arrays.items()},
        {name: variables[name] for name in names},
        metadata,
    )


def wide_frame(
    path: Path, features: Collection[str] | None = None, names: str | Iterable[str] | None = None
) -> pd.DataFrame:
    """Return a result file as a table with one column for each number.

    Parameters
    ----------
    path
        A result file.
    features
        Features to take; by default all.
    names
        Columns to take from these features, in this order: names of features, of columns, or of
        companions such as ``tau_status``.  ``*`` and ``?`` match any text and any letter in names
        of features and columns, or, if none of these match, in names of companions.

    Returns
    -------
    ``step_index``, and for each feature ``name``, or ``name_0``, ``name_1``, … if it has several
    values per step.  ``attrs`` has ``units``, ``axes`` and ``labels`` by feature, and the origin of
    the numbers.

    Raises
    ------
    UnknownFeature
        There is no such feature; the message names the nearest one.
    OutputError
        The file is none of ours, or is gone.
    """
    values, _, metadata = read_values(path, features)
    every = read_variables(metadata)
    owners = {name: entry["feature"] for name, entry in metadata["variables"].items()}
    companions = {
        name: _columns(name, metadata["variables"][name]["sizes"])
        for name in every
        if name not in values and (owners[name] in values or not owners[name])
    }
    columns = {name: _columns(name, array.shape[1:]) for name, array in values.items()}
    chosen = select_columns(columns, names, companions)
    extra = [name for name in companions if set(companions[name]) & set(chosen)]
    n_rows = max((len(array) for array in values.values()), default=metadata["n_rows"])
    arrays = dict(values)
    for name, array in read_columns(path, extra, metadata).items():
        words = np.array(list(every[name].statuses), object)
        arrays[name] = (words[array] if every[name].statuses else array)[:n_rows]
    frame = spread(arrays, n_rows)[["step_index", *chosen]]
    shown = {
        name: every[name] for name in arrays if set((columns | companions)[name]) & set(chosen)
    }
    frame.attrs.update(describe(shown, metadata))
    return frame


def describe(variables: Mapping[str, Variable], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the information that goes with a table, as plain data."""
    source = metadata["source"]
    return {
        "chip_id": metadata["identity"]["chip_id"],
        "device_id": metadata["identity"]["device_id"],
        "test_id": metadata["identity"]["experiment_id"],
        "config_name": metadata["config"],
        "created_at": metadata["created"],
        "source_file": source["path"],
        "source_hash": source["content_hash"],
        "units": {name: variable.unit for name, variable in variables.items()},
        "axes": {name: list(variable.dims) for name, variable in variables.items()},
        "labels": {
            name: {dim: list(words) for dim, words in variable.labels.items()}
            for name, variable in variables.items()
            if variable.labels
        },
    }


def spread(arrays: Mapping[str, NDArray[Any]], n_rows: int) -> pd.DataFrame:
    """Return arrays of shape (n_steps, …) as one table, the first column ``step_index``."""
    import pandas as pd

    table: dict[str, NDArray[Any]] = {"step_index": np.arange(n_rows)}
    for name, array in arrays.items():
        flat = array.reshape(len(array), math.prod(array.shape[1:]))
        for k, column in enumerate(_columns(name, array.shape[1:])):
            table[column] = flat[:, k]
    # Features of transfers and transients can differ in the number of steps.
    return pd.DataFrame({name: pd.Series(column) for name, column in table.items()})


def select_columns(
    columns: Mapping[str, Collection[str]],
    names: str | Iterable[str] | None,
    companions: Mapping[str, Collection[str]] | None = None,
) -> list[str]:
    """Return the columns that match, each once; see :func:`wide_frame`.

    Parameters
    ----------
    columns
        Columns of each feature.
    names
        Names and patterns; None means all features.
    companions
        Columns that are only taken if nothing else matches.

    Raises
    ------
    UnknownFeature
        Nothing matches a name or pattern.
    """
    if names is None:
        return [column for group in columns.values() for column in group]
    chosen: dict[str, None] = {}
    for name in [names] if isinstance(names, str) else names:
        found = _fitting(name, columns) or _fitting(name, companions or {})
        if not found:
            raise UnknownFeature(f"no feature {name!r}{did_you_mean(name, columns)}")
        chosen.update(dict.fromkeys(found))
    return list(chosen)


def _fitting(name: str, columns: Mapping[str, Collection[str]]) -> list[str]:
    if "*" in name or "?" in name:
        return [
            column
            for feature, group in columns.items()
            for column in group
            if fnmatch.fnmatchcase(feature, name) or fnmatch.fnmatchcase(column, name)
        ]
    if name in columns:
        return list(columns[name])
    return [column for group in columns.values() for column in group if column == name]


def write_frame(frame: pd.DataFrame, path: Path) -> None:
    """Write a table as Parquet, completely or not at all.

    Raises
    ------
    StorageError
        The folder cannot be written.
    OutputError
        There is a result file of a run at this place.
    """
    with contextlib.suppress(DamagedFile):
        if read_metadata(path) is not None:
            raise OutputError(f"{path}: is a result file of a run; choose another path")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            frame.to_parquet(temporary, compression="zstd", index=False, write_page_checksum=True)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror or error})") from error


def config_folder(root: str | os.PathLike[str], config: str) -> Path:
    """Return the folder below ``root`` for the results of a configuration."""
    return result_path(Path(root), config).with_suffix("")


def _metadata(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise OutputError(f"{path}: there is no such file")
    metadata = read_metadata(path)
    if metadata is None:
        raise OutputError(f"{path}: is no result file of oectflow")
    return metadata


def _n_rows(metadata: Mapping[str, Any], feature: str) -> int:
    """Return the number of steps of the sources that a feature is computed from."""
    steps: Mapping[str, int] = metadata["source"]["n_steps"]
    known = metadata["features"]
    sources: set[str] = set()
    waiting, seen = [feature], set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for column in known[name]["inputs"]:
            if column in steps:
                sources.add(column)
            else:
                # tau_on, tau_r_squared and the like belong to tau.
                waiting += [f for f in known if column == f or column.startswith(f"{f}_")]
    return max((steps[source] for source in sources), default=int(metadata["n_rows"]))


def _columns(name: str, sizes: Iterable[int]) -> list[str]:
    sizes = tuple(sizes)
    return [f"{name}_{k}" for k in range(math.prod(sizes))] if sizes else [name]
