"""Open a folder of results as one xarray Dataset, or as a Dask DataFrame."""

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

from oectflow.checksums import open_checked
from oectflow.errors import OutputError
from oectflow.extractors.base import Variable, missing
from oectflow.pipeline.inputs.samples import unit_of
from oectflow.pipeline.marks.mark import Treatment
from oectflow.pipeline.outputs.marked import WORDS, in_words, read_marks
from oectflow.pipeline.outputs.places import result_files
from oectflow.pipeline.outputs.result_blocks import (
    Places,
    load_block,
    load_frame,
    load_mark_block,
    mark_dims,
    to_pandas,
)
from oectflow.pipeline.outputs.sink import read_metadata, read_problems, read_variables
from oectflow.pipeline.outputs.trouble import flags_of_result, frame
from oectflow.place import fetch_ahead, place, snapshot
from oectflow.result_metadata import PARTITIONS, definitions_folder

if TYPE_CHECKING:
    import dask.dataframe as dd
    import pandas as pd
    import xarray as xr

# xarray, pandas and dask.dataframe are imported where they are used: workers import this package
# too, and each of the three would cost every one of 96 processes some 50 MB.


class DamagedResultWarning(UserWarning):
    """Results that cannot be read are left out; the message names each one and the reason."""


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


def open_results(out: str | os.PathLike[str], *, marks: Treatment = "exclude") -> xr.Dataset:
    """Return all results of a folder as one Dataset.

    At first, only metadata is read.  When you ask for values, only the columns needed are read.

    Parameters
    ----------
    out
        Folder that :func:`oectflow.extract` has written, or one of its files.
    marks
        How to treat marked values (:func:`oectflow.mark`).  ``"exclude"``: a ``bad`` value becomes
        NaN and gets the status ``marked``; a value computed from it, such as a median over cycles,
        gets the status ``partly``.  ``"flag"``: all values stay as they were computed.  In both
        cases, a variable such as ``tau_mark`` has the labels.  ``"ignore"``: ignore all marks.

    Returns
    -------
    One variable per feature with the feature's name, and its companions such as ``tau_status`` and
    ``tau_r_squared``.  Dimensions: ``experiment``, ``step`` and, if a feature has them, ``cycle``,
    ``phase``, ``direction``, …  Coordinates: ``experiment`` (its id), ``chip_id``, ``device_id``,
    and the properties of the sample (``sample_W`` in m, ``sample_semiconductor``, …; NaN or ``""``
    if not known).  The ``attrs`` of a variable have its ``units``, its ``description`` and the name
    of the ``feature``.  Values are NaN where an experiment has fewer steps or cycles than the
    largest one.  ``results.oect.plot`` draws the results.  Files that cannot be read are left out:
    a warning names them, and ``unreadable`` in ``attrs`` has the reasons.  If there are marks,
    ``marks`` counts them.

    Raises
    ------
    OutputError
        There are no results, or two files define the same feature differently.
    ParameterError
        ``marks`` is none of the three words.
    """
    import dask.array as da
    import xarray as xr

    import oectflow.pipeline.outputs.plots.accessor  # noqa: F401 # registers results.oect

    files, unreadable = _files(out)
    holding = read_marks(place(out, OutputError), marks).holding
    union = _union(files)
    n_rows = max(file.n_rows for file in files)
    sizes = _dimension_sizes(files)
    data = {}
    owners = {
        name: file.described[name]["feature"]
        for file in _distinct(files)
        for name in file.variables
    }
    places = Places({file.path: file.identity for file in files}, holding, marks)

    def lazily(load: Any, name: str, shape: tuple[int, ...], kind: np.dtype[Any], fill: Any) -> Any:
        # One layer for all experiments, which is only written out for what is asked for.  Its name
        # would come from the lengths of 10,000 blocks.
        words = f"{places.token} {name} {shape} {kind}".encode()
        return da.map_blocks(
            load,
            chunks=((1,) * len(files), *((n,) for n in shape)),
            dtype=kind,
            meta=np.empty((0,) * (1 + len(shape)), kind),
            name=f"{name}-{xxhash.xxh3_128_hexdigest(words)}",
            places=places,
            variable=name,
            shape=shape,
            fill=fill,
            kind=kind,
        )

    for name, variable in union.items():
        shape = (n_rows, *(sizes[dim] for dim in variable.dims))
        blocks = lazily(load_block, name, shape, _dtype(variable), _fill(variable))
        data[name] = (
            ("experiment", "step", *variable.dims),
            blocks,
            _attributes(variable, with_marks=places.exclude and bool(places.marks))
            | ({"feature": owners[name]} if owners[name] else {}),
        )
    for name, words in places.marked_features().items():
        dims = mark_dims(union[name])
        shape = (n_rows, *(sizes[dim] for dim in dims))
        # No more than all labels together, with what divides them.
        longest = sum(len(word) + 2 for word in words)
        blocks = lazily(load_mark_block, f"{name}_mark", shape, np.dtype(f"U{longest}"), "")
        said = {"units": "", "description": f"marks of {name}", "feature": name}
        if f"{name}_mark" in data:
            raise OutputError(
                f"{name}_mark: is a variable of these results and the name of the marks of {name}; "
                "open them with marks='ignore', or give the feature another name"
            )
        data[f"{name}_mark"] = (("experiment", "step", *dims), blocks, said)
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
    if places.marks:
        about["marks"] = in_words(places.distinct)
    return xr.Dataset(data, coordinates, about)


def results_frame(out: str | os.PathLike[str], *, marks: Treatment = "exclude") -> dd.DataFrame:
    """Return all results of a folder as a Dask DataFrame, one partition per experiment.

    Parameters
    ----------
    out
        Folder that :func:`oectflow.extract` has written, or one of its files.
    marks
        As for :func:`open_results`.

    Returns
    -------
    One row per step with the columns of the Parquet files, and the properties of the sample
    (``sample_W`` in m, ``sample_semiconductor``, …).  If a file lacks a column, its values are
    missing there.  If there are marks, a column ``marks`` has the marks of each row in words.
    Files that cannot be read are left out, and a warning names them.

    Raises
    ------
    OutputError
        There are no results.
    ParameterError
        ``marks`` is none of the three words.
    """
    import dask.dataframe as dd
    import pandas as pd
    import pyarrow as pa

    files, _ = _files(out)
    holding = read_marks(place(out, OutputError), marks).holding
    places = Places({file.path: file.identity for file in files}, holding, marks)
    # An experiment with fewer features has fewer columns; the union is the table's schema.
    schema = pa.unify_schemas(
        [_plain(_schema(file.path)) for file in _distinct(files)], promote_options="permissive"
    )
    meta = to_pandas(schema.empty_table())
    # In a partitioned folder, one of them is in the names of folders.
    columns = {
        key: [file.identity[key] for file in files] for key in PARTITIONS if key not in schema.names
    }
    columns |= {name: values for name, (_, values) in _sample_columns(files).items()}
    if places.marks:
        meta["marks"] = pd.Series([], dtype=str)
    for name, values in columns.items():
        meta[name] = pd.Series([], dtype=pd.Series(values).dtype)
    samples = [{name: values[i] for name, values in columns.items()} for i in range(len(files))]
    numbers = list(range(len(files)))
    return dd.from_map(load_frame, numbers, samples, places=places, schema=schema, meta=meta)


def problems_frame(out: str | os.PathLike[str]) -> pd.DataFrame:
    """Return all problems with the results of a folder, and their reasons.

    Parameters
    ----------
    out
        Folder that :func:`oectflow.extract` has written, or one of its files.

    Returns
    -------
    One row for every step that could not be read or in which a feature raised an error (``step``,
    ``status``, ``error_type``, ``message``).  Other status words have one row for each feature and
    word of an experiment, without a step; this row has the number ``n`` of values and the meaning
    of the word as ``message``.  :func:`oectflow.open_results` has the words of all steps.
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
    folder = place(out, OutputError)
    try:
        folder = snapshot(folder)
        if not folder.exists():
            raise OutputError(f"{folder}: no such file or folder")
        paths = result_files(folder) if folder.is_dir() else [folder]
    except OSError as error:
        raise OutputError(f"{folder}: cannot be listed ({error.strerror or error})") from error
    fetch_ahead(paths)
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


def _dtype(variable: Variable) -> np.dtype[Any]:
    if variable.statuses:
        return np.dtype(f"U{max(len(word) for word in (*variable.statuses, *WORDS))}")
    return np.dtype(variable.dtype)


def _fill(variable: Variable) -> Any:
    return "absent" if variable.statuses else missing(variable)


def _attributes(variable: Variable, *, with_marks: bool) -> dict[str, str]:
    attributes = {"units": variable.unit, "description": variable.description}
    if variable.statuses:
        words = {**variable.statuses, **(WORDS if with_marks else {})}
        attributes["words"] = "; ".join(f"{k}: {v}" for k, v in words.items())
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
