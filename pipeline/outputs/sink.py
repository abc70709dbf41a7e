"""One Parquet file per experiment, written completely or not at all.

Layout of a file: one row per step.  A feature that is one number per step is a column; one with a
value per cycle is a list column whose rows are equally long; an axis whose entries have names
(``on``/``off``, ``forward``/``reverse``, ``Vg``/``Id``) becomes one column per name, so ``tau`` is
stored as ``tau_on`` and ``tau_off``.  The column ``problems`` says what went wrong in a row.

Lists are plain Parquet lists, not fixed-size ones: two experiments with different numbers of
cycles then still have one schema, and pyarrow, pandas, polars and duckdb read a folder of them as
one table.

The metadata of a file are in its footer under ``oectflow``: units by the number of the column, and
definitions, parameters and fingerprints.  If the file has few rows, the latter are in a separate
file beside it; see :mod:`oectflow.result_metadata`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from oectflow.atomic_write import atomic_write
from oectflow.checksums import add_checksums, open_checked, read_text
from oectflow.errors import DamagedFile, OutputError, StorageError
from oectflow.extractors.base import Variable
from oectflow.place import as_remote, is_remote
from oectflow.result_metadata import (
    KEY,
    DefinitionsLost,
    definitions_folder,
    pack,
    partition_key,
    unpack,
    without_definitions,
)

#: Raised when a reader of older files would misunderstand a newer one.
FORMAT = 3
#: Of fewer rows, neither statistics nor dictionaries are worth their bytes.
_FEW_ROWS = 100
#: Of fewer rows, single values are not made shorter by compression: 140 columns of 4 rows take 19.7
#: kB with it and 19.2 without, of 6 rows 21.0 and 21.4.
_SHORT_ROWS = 5
#: Columns that say which row it is.
IDENTITY = ("experiment_id", "chip_id", "device_id", "step_index")

_PROBLEMS = pa.list_(
    pa.struct(
        [(name, pa.string()) for name in ("source", "feature", "status", "error_type", "message")]
    )
)


@dataclass(frozen=True)
class Problem:
    """Why one feature of one step has no value.

    ``step`` is the index of the row; ``error_type`` is the exception's class name, or ``""``.
    """

    step: int
    source: str
    feature: str
    status: str
    error_type: str
    message: str


@dataclass(frozen=True)
class Results:
    """All features of one experiment, ready to be written.

    Attributes
    ----------
    identity
        Columns that identify the row: ``experiment_id``, ``chip_id``, ``device_id`` (text) and
        numbers per step such as ``step_index``.  Text is repeated in every row.
    columns
        Arrays by variable, first axis the step.
    variables
        Description of each variable.
    owners
        The feature that each variable belongs to.
    problems
        Everything that went wrong, in any order.
    metadata
        JSON-serialisable description of the experiment, the features and the software.
    """

    identity: Mapping[str, str | NDArray[Any]]
    columns: Mapping[str, NDArray[Any]]
    variables: Mapping[str, Variable]
    owners: Mapping[str, str]
    problems: Sequence[Problem]
    metadata: Mapping[str, Any]


def write_results(path: Path, results: Results, *, expand_multidim: bool = False) -> int:
    """Write one experiment atomically and return the size of the file in bytes.

    Parameters
    ----------
    path
        The Parquet file to create or replace.
    results
        The results to write.
    expand_multidim
        Write ``name_0``, ``name_1``, … instead of lists.

    Raises
    ------
    StorageError
        The folder cannot be written, or the disk is full.
    OutputError
        ``path`` belongs to other software or another experiment.
    """
    if not is_remote(path):
        read_earlier(path, results.metadata)
    key = partition_key(path)
    table, metadata = _to_table(results, key, expand=expand_multidim)
    few = len(table) < _FEW_ROWS
    compressed = _lists(table.schema) if len(table) < _SHORT_ROWS else None
    try:
        if key is not None:
            # Not the folder of all: one that is removed during a run is missed, and not made.
            path.parent.mkdir(exist_ok=True)
        text = pack(metadata, definitions_folder(path) if few else None)
        with _written(path, results.metadata) as temporary:
            with pq.ParquetWriter(
                temporary,
                table.schema,
                compression="zstd" if compressed is None else dict.fromkeys(compressed, "zstd"),
                compression_level=1 if compressed is None else dict.fromkeys(compressed, 1),
                use_dictionary=not few and _repeating(table.schema),
                # No reader skips rows by what is in their lists.
                write_statistics=not few and _single(table.schema),
                # Lists of 100 values: 8 % less time than with the 1,024 values of the default.
                write_batch_size=65_536,
                # 4,688 steps of tau: 20.3 MB in 91 ms, without it 25.2 MB in 112 ms.
                use_byte_stream_split=not few,
                # For other readers; ours look at digests of all bytes.
                write_page_checksum=not few,
                # Arrow's own description of the columns is longer than they are where rows are few,
                # and all it adds is that text comes as categories.
                store_schema=False,
            ) as writer:
                writer.write_table(table)
                writer.add_key_value_metadata({KEY: text})
            add_checksums(temporary, text, together=few)
            return temporary.stat().st_size
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror or error})") from error


@contextmanager
def _written(path: Path, metadata: Mapping[str, Any]) -> Iterator[Path]:
    """Yield where a result is written; in a store one request sees to it that none was there."""
    remote = as_remote(path)
    if remote is None:
        with atomic_write(path) as temporary:
            yield temporary
        return
    with TemporaryDirectory(prefix="oectflow-") as folder:
        temporary = Path(folder) / path.name
        yield temporary
        content = temporary.read_bytes()
    if not remote.put_if_absent(content):
        read_earlier(path, metadata)
        remote.write_bytes(content)


def read_metadata(path: Path) -> dict[str, Any] | None:
    """Return the ``oectflow`` metadata of a result file, or None if it is from other software.

    Raises
    ------
    DamagedFile
        The file was cut or changed.
    OutputError
        The file was written by a newer version, or cannot be opened.
    """
    try:
        raw = read_text(path)
        if raw is None:
            # Written by a version of before, or by other software.
            with open_checked(path) as file:
                raw = (file.metadata.metadata or {}).get(KEY)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OutputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except DamagedFile:
        if _was_parquet(path):
            raise
        return None
    return None if raw is None else _parsed(path, raw)


def _parsed(path: Path, raw: bytes) -> dict[str, Any]:
    """Return metadata in which everything is where it belongs."""
    try:
        packed = json.loads(raw)
        newest = int(packed["format"])
        if newest <= FORMAT:
            try:
                metadata = unpack(packed, path)
            except DefinitionsLost:
                metadata = _described_by_itself(path, without_definitions(packed))
            _look_through(metadata)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DamagedFile(
            f"{path}: its metadata are not those of a result "
            f"({type(error).__name__}: {str(error)[:100]}); extract the experiment again with "
            "force=True (--force)"
        ) from error
    if newest > FORMAT:
        raise OutputError(
            f"{path}: written in format {newest}, this version reads up to {FORMAT}; "
            "upgrade oectflow"
        )
    return metadata


def _described_by_itself(path: Path, metadata: dict[str, Any]) -> dict[str, Any]:
    """Complete metadata without definitions: each column is a variable, an axis is its length."""
    table = read_table(path)
    units = {
        table.column_names[i]: unit for unit, places in metadata["units"].items() for i in places
    }
    for name in table.column_names:
        if name in (*IDENTITY, "problems"):
            continue
        values = table[name].combine_chunks()
        sizes, n = [], len(values)
        while pa.types.is_list(values.type):
            values = values.flatten()
            sizes.append(len(values) // max(n, 1))
            n = len(values)
        words = values.unique().to_pylist() if pa.types.is_string(values.type) else []
        variable = Variable(
            units.get(name, ""),
            "",
            tuple(sizes),
            tuple(f"axis_{i}_of_{size}" for i, size in enumerate(sizes)),
            dtype="int8" if words else str(values.type.to_pandas_dtype()().dtype),
            statuses=dict.fromkeys(words, ""),
        )
        metadata["variables"][name] = asdict(variable) | {
            "feature": "", "sizes": sizes, "columns": [name], "split": False,
        }  # fmt: skip
    return metadata


def _look_through(metadata: Mapping[str, Any]) -> None:
    """Raise KeyError, TypeError or the like where something that all readers need is missing."""
    identity, source = metadata["identity"], metadata["source"]
    for text in (
        *(identity[key] for key in ("experiment_id", "chip_id", "device_id")),
        *(source[key] for key in ("path", "content_hash")),
        *(metadata[key] for key in ("config", "created")),
    ):
        text.encode()
    counts = (metadata["n_rows"], source["size"], source["mtime_ns"], *source["n_steps"].values())
    if not all(isinstance(n, int) for n in counts) or metadata["n_rows"] < 0:
        raise TypeError(f"counts {counts}")
    for trails in source.get("trails", {}).values():
        for marks in trails.values():
            for n, mark in marks.items():
                int(n)
                bytes.fromhex(mark)
    for entry in metadata["features"].values():
        entry["fingerprint"].encode()
        if sum(entry["counts"].values()) < 0:
            raise ValueError("counts below zero")
    # Once for all files that say the same.
    _variables(_Same(metadata["variables"]))


def read_earlier(path: Path, metadata: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
    """Return the metadata of an existing result at the place of a new one; None if there is none.

    A result that was cut or changed counts as none: it is replaced.

    Parameters
    ----------
    path
        Place of the new result.
    metadata
        Metadata of the new result, at least ``identity`` and ``source``.

    Raises
    ------
    OutputError
        The existing file is from other software, from another experiment, or from a newer version.
    """
    if is_remote(path) and not path.exists():
        # Asked twice, it would be two more requests.
        return None
    try:
        found = read_metadata(path)
    except DamagedFile:
        return None
    if found is None and path.exists():
        raise OutputError(
            f"{path}: exists and was not written by oectflow; "
            "move it away or choose another output folder"
        )
    if found is not None and metadata is not None:
        _need_same_experiment(path, found, metadata)
    return found


def _was_parquet(path: Path) -> bool:
    """Whether a file begins or ends like Parquet, is empty, or begins with zeros (a power cut)."""
    with path.open("rb") as file:
        first = file.read(4)
        file.seek(max(0, file.seek(0, 2) - 4))
        return b"PAR1" in (first, file.read(4)) or not any(first)


def _need_same_experiment(path: Path, there: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise OutputError where a result is of another experiment.

    Ids may differ and give one name of a file (``lot 7/a``, ``lot 7_a``), and a test_id may have
    been given on two chips.  In the same raw file, chip and device may have been corrected.
    """
    was, new = there["identity"], now["identity"]
    same_file = there["source"]["path"] == now["source"]["path"]
    keys = ("experiment_id",) if same_file else ("experiment_id", "chip_id", "device_id")
    for key in keys:
        if was[key] != new[key]:
            raise OutputError(
                f"{path}: holds the result of {there['source']['path']}, which has "
                f"{key}={was[key]!r} and not {new[key]!r}; choose another output folder, or give "
                "one of the two another test_id"
            )


def read_variables(metadata: Mapping[str, Any]) -> dict[str, Variable]:
    """Return the variables that a file's metadata describe."""
    return dict(_variables(_Same(metadata["variables"])))


class _Same:
    """Stands for an object, which files that say the same have in common."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.value is self.value


@lru_cache(maxsize=64)
def _variables(entries: _Same) -> dict[str, Variable]:
    fields = Variable.__dataclass_fields__
    variables = {}
    for name, entry in entries.value.items():
        if not {"feature", "sizes", "columns", "split"} <= set(entry):
            raise KeyError(f"{name}: feature, sizes, columns, split")
        kept = {key: value for key, value in entry.items() if key in fields}
        kept["shape"] = tuple(kept["shape"])
        kept["dims"] = tuple(kept["dims"])
        kept["labels"] = {dim: tuple(words) for dim, words in kept["labels"].items()}
        variables[name] = Variable(**kept)
    return variables


def read_columns(
    path: Path, names: Sequence[str], metadata: Mapping[str, Any]
) -> dict[str, NDArray[Any]]:
    """Read variables of one result file back as the arrays that were written.

    Parameters
    ----------
    path
        A result file.
    names
        Variables, as in ``metadata["variables"]``.
    metadata
        From :func:`read_metadata`.

    Returns
    -------
    Arrays with the step as first axis; status variables as int8 codes.
    """
    variables = read_variables(metadata)
    entries = {name: metadata["variables"][name] for name in names}
    wanted = [column for entry in entries.values() for column in entry["columns"]]
    words = [c for n, entry in entries.items() if variables[n].statuses for c in entry["columns"]]
    if metadata["n_rows"] < _FEW_ROWS:
        words = []
    table = read_table(path, wanted, words)
    out = {}
    for name, entry in entries.items():
        parts = [_from_arrow(table[column], variables[name]) for column in entry["columns"]]
        # What was split was the last axis, or, expanded, all of them.
        if not parts:
            array = np.empty(0, variables[name].dtype)
        elif entry["split"]:
            # What was split was the last axis, or, expanded, all of them.
            array = np.stack(parts, axis=-1)
        else:
            (array,) = parts
        out[name] = array.reshape(table.num_rows, *entry["sizes"])
    return out


def read_table(
    path: Path, columns: Sequence[str] | None = None, dictionaries: Sequence[str] = ()
) -> pa.Table:
    """Read columns of a result file, by default all.

    Parameters
    ----------
    path
        A result file.
    columns
        Names of columns.
    dictionaries
        Columns whose text is read as codes and words; in older files, this is all text.

    Raises
    ------
    DamagedFile
        The columns are damaged or missing.
    OutputError
        The file is gone.
    """
    try:
        with open_checked(path, columns, dictionaries) as file:
            missing = set(columns or ()) - set(file.schema_arrow.names)
            if missing:
                raise DamagedFile(
                    f"{path}: has no column {min(missing)!r}; extract the experiment again with "
                    "force=True (--force)"
                )
            return file.read(columns=columns)
    except OSError as error:
        raise OutputError(f"{path}: cannot be read ({error.strerror or error})") from error


def read_problems(path: Path) -> list[Problem]:
    """Return everything that went wrong in one experiment."""
    table = read_table(path, ["step_index", "problems"])
    return [
        Problem(step, **problem)
        for step, row in zip(
            table["step_index"].to_pylist(), table["problems"].to_pylist(), strict=True
        )
        for problem in row
    ]


def _to_table(
    results: Results, partition: str | None, *, expand: bool
) -> tuple[pa.Table, dict[str, Any]]:
    """Return the table of an experiment, and what the file says about itself."""
    n_steps = len(results.identity["step_index"])
    arrays: list[pa.Array] = []
    names: list[str] = []
    units: dict[str, list[int]] = {}
    described: dict[str, Any] = {}

    def add(name: str, array: pa.Array, unit: str = "") -> None:
        if unit:
            units.setdefault(unit, []).append(len(names))
        arrays.append(array)
        names.append(name)

    for name, column in results.identity.items():
        if name == partition:
            continue
        if isinstance(column, str):
            codes = np.zeros(n_steps, np.int32)
            add(name, pa.DictionaryArray.from_arrays(codes, pa.array([column])))
        else:
            add(name, pa.array(column))
    for name, variable in results.variables.items():
        array = results.columns[name]
        parts = _split(name, array, variable, expand)
        for column_name, part in parts.items():
            add(column_name, _to_arrow(part, variable), variable.unit)
        described[name] = {
            **asdict(variable),
            "feature": results.owners[name],
            "sizes": array.shape[1:],
            "columns": list(parts),
            "split": list(parts) != [name],
        }
    add("problems", _problem_column(results.problems, n_steps))
    metadata = {"format": FORMAT, **results.metadata, "variables": described, "units": units}
    return pa.table(arrays, names), metadata


def _repeating(schema: pa.Schema) -> list[str]:
    """Return the columns in which values repeat, by their paths in a Parquet file.

    Measured numbers do not: a dictionary of them takes three times as long to write, and the file
    is half as large again.
    """
    leaves = [leaf for field in schema for leaf in _leaves(field, field.name)]
    return [path for path, kind in leaves if not pa.types.is_floating(kind)]


def _lists(schema: pa.Schema) -> list[str]:
    """Return the columns with several values in a row, by their paths in a Parquet file."""
    lists = [field for field in schema if pa.types.is_list(field.type)]
    return [path for field in lists for path, _ in _leaves(field, field.name)]


def _single(schema: pa.Schema) -> list[str]:
    """Return the columns with one value in a row."""
    return [field.name for field in schema if not pa.types.is_nested(field.type)]


def _leaves(field: pa.Field, path: str) -> Iterator[tuple[str, pa.DataType]]:
    if pa.types.is_list(field.type):
        yield from _leaves(field.type.value_field, f"{path}.list.element")
    elif pa.types.is_struct(field.type):
        for inner in field.type:
            yield from _leaves(inner, f"{path}.{inner.name}")
    else:
        yield path, field.type


def column_names(name: str, variable: Variable) -> list[str]:
    """Return the names of the Parquet columns of a variable."""
    labels = variable.labels.get(variable.dims[-1], ()) if variable.dims else ()
    return [f"{name}_{label}" for label in labels] or [name]


def _split(
    name: str, array: NDArray[Any], variable: Variable, expand: bool
) -> dict[str, NDArray[Any]]:
    if expand and array.ndim > 1:
        flat = array.reshape(len(array), math.prod(array.shape[1:]))
        return {f"{name}_{k}": np.ascontiguousarray(flat[:, k]) for k in range(flat.shape[1])}
    names = column_names(name, variable)
    if names == [name]:
        return {name: array}
    return {column: np.ascontiguousarray(array[..., k]) for k, column in enumerate(names)}


def _to_arrow(array: NDArray[Any], variable: Variable) -> pa.Array:
    if array.ndim > 1:
        values = _to_arrow(array.reshape(-1, *array.shape[2:]), variable)
        n, width = array.shape[:2]
        offsets = np.arange(n + 1, dtype=np.int32) * np.int32(width)
        return pa.ListArray.from_arrays(pa.array(offsets), values)
    if variable.statuses:
        words = pa.array(list(variable.statuses))
        return pa.DictionaryArray.from_arrays(pa.array(array), words)
    return pa.array(array)


def _from_arrow(column: pa.ChunkedArray, variable: Variable) -> NDArray[Any]:
    array = column.unify_dictionaries().combine_chunks()
    while pa.types.is_list(array.type):
        array = array.flatten()
    if not variable.statuses:
        return np.asarray(array)
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    words = list(variable.statuses)
    codes = np.array([words.index(word) for word in array.dictionary.to_pylist()], np.int8)
    decoded: NDArray[np.int8] = codes[np.asarray(array.indices)]
    return decoded


def _problem_column(problems: Sequence[Problem], n_steps: int) -> pa.Array:
    entries = [asdict(problem) for problem in sorted(problems, key=lambda problem: problem.step)]
    counts = np.bincount([entry.pop("step") for entry in entries], minlength=n_steps)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    values = pa.array(entries, _PROBLEMS.value_type)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values, type=_PROBLEMS)
