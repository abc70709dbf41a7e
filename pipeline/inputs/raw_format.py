"""Write one experiment as an HDF5 file in the layout that laboratories already have on disk.

::

    /                            scalar metadata as attributes, format_version first of all
    /raw/json, /raw/workflow     the instrument's own descriptions, as text
    /transfer/measurement_data   (n_steps, 2, longest): Vg, Id; shorter steps padded with NaN
    /transfer/step_info_table    one row per step
    /transient/measurement_data  (3, n_samples): continuous_time, original_time, drain_current
    /transient/step_info_table   one row per step, with start_data_index and end_data_index

The chunks are ours: they follow the steps, so that reading one step decompresses little else.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from oectflow.atomic_write import atomic_write

FORMAT_VERSION = "2.0_direct_new_storage"
#: The root keys of ``test_info.json`` that name the file, in this order.
NAME_KEYS = ("chip_id", "device_number", "description", "test_id")

_STEP_KEYS = ("type", "start_time", "end_time", "reason", "data_file")
_TEXT = h5py.string_dtype("utf-8")
_CHUNK_BYTES = 64 * 1024
_SMALLEST_CHUNK, _LARGEST_CHUNK = 8 * 1024, 1024 * 1024
_LONGEST_NAME_PART = 120
# What common file systems take, less what "_999" and the ending need.
_LONGEST_STEM_BYTES = 248


@dataclass(frozen=True)
class TransferStep:
    """One gate sweep.

    Attributes
    ----------
    Vg, Id
        Gate voltage in V and drain current in A, in the order measured.  Shape (n_points,).
    info
        The step's entry in ``test_info.json``.
    """

    Vg: NDArray[np.float64]
    Id: NDArray[np.float64]
    info: Mapping[str, Any]


@dataclass(frozen=True)
class TransientStep:
    """One current trace under a gate square wave.

    Attributes
    ----------
    original_time, drain_current
        Time as measured, in s, and current in A.  Shape (n_samples,).
    info
        The step's entry in ``test_info.json``.
    time_step_ms
        Nominal sampling interval, in ms; ``continuous_time`` is built from it.
    """

    original_time: NDArray[np.float64]
    drain_current: NDArray[np.float64]
    info: Mapping[str, Any]
    time_step_ms: float = 1.0


def write_experiment(
    path: str | os.PathLike[str],
    attributes: Mapping[str, Any],
    transfer_steps: Sequence[TransferStep],
    transient_steps: Sequence[TransientStep],
    test_info_json: str,
    workflow_json: str | None = None,
    *,
    compression: int = 4,
) -> Path:
    """Write one experiment; the file appears whole, or not at all.

    Parameters
    ----------
    path
        The file, which is replaced where it exists.
    attributes
        Attributes of the root: text, numbers and booleans.
    transfer_steps, transient_steps
        The steps in measured order; a kind without steps gets no group.
    test_info_json, workflow_json
        The instrument's descriptions, kept as text.
    compression
        gzip level, 0 to 9.

    Returns
    -------
    The path written.

    Raises
    ------
    ValueError
        The two arrays of a step differ in length.
    OSError
        The file cannot be written.
    """
    target = Path(path)
    with atomic_write(target) as partial, h5py.File(partial, "x") as file:
        for name, value in attributes.items():
            file.attrs[_text(name)] = _attribute(value)
        file.attrs["format_version"] = FORMAT_VERSION
        file.create_dataset("raw/json", data=_text(test_info_json), dtype=_TEXT)
        if workflow_json is not None:
            file.create_dataset("raw/workflow", data=_text(workflow_json), dtype=_TEXT)
        if transfer_steps:
            _write_transfer(file.create_group("transfer"), transfer_steps, compression)
        if transient_steps:
            _write_transient(file.create_group("transient"), transient_steps, compression)
    return target


def root_attributes(test_info: Mapping[str, Any]) -> dict[str, Any]:
    """Return the scalar root keys of ``test_info.json``; nulls, lists and objects have no place."""
    return {
        key: value
        for key, value in test_info.items()
        if key != "steps" and value is not None and not isinstance(value, dict | list)
    }


def name_parts(test_info: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """Return chip, device, description and test id as they stand in the file name."""
    chip, device, description, test = (_name_part(test_info.get(key)) for key in NAME_KEYS)
    return chip, device, description, test


def file_name(test_info: Mapping[str, Any]) -> str:
    """Return ``{chip_id}-{device_number}-{description}-{test_id}.h5``.

    Characters that some file system refuses become ``_``, a missing part ``NA``.  Where the name
    would be too long for a file system, the description gives way: the test id names the file.
    """
    chip, device, description, test = name_parts(test_info)
    spare = _LONGEST_STEM_BYTES - len(f"{chip}-{device}--{test}".encode())
    short = description.encode()[: max(spare, 0)].decode(errors="ignore").rstrip()
    stem = f"{chip}-{device}-{short or 'NA'}-{test}"
    return stem.encode()[:_LONGEST_STEM_BYTES].decode(errors="ignore") + ".h5"


def _name_part(value: Any) -> str:
    text = "" if value is None else _text(str(value)).strip()
    text = re.sub(r'[\\/:*?"<>|\r\n\t]', "_", text)
    return re.sub(r"\s+", " ", text)[:_LONGEST_NAME_PART].rstrip() or "NA"


def _write_transfer(group: Any, steps: Sequence[TransferStep], compression: int) -> None:
    arrays = [_stacked(i, step.Vg, step.Id) for i, step in enumerate(steps)]
    longest = max(array.shape[1] for array in arrays)
    data = np.full((len(steps), 2, longest), np.nan)
    for row, array in zip(data, arrays, strict=True):
        row[:, : array.shape[1]] = array
    _write_measurement(
        group,
        data,
        sweeps_per_chunk(*data.shape),
        ["step_index", "data_type", "data_point"],
        ["Vg", "Id"],
        "3D transfer measurement data: [step_index, data_type, data_point]",
        compression,
    )
    _write_table(group, _table([step.info for step in steps], {}), compression)


def _write_transient(group: Any, steps: Sequence[TransientStep], compression: int) -> None:
    arrays = [_stacked(i, step.original_time, step.drain_current) for i, step in enumerate(steps)]
    lengths = np.array([array.shape[1] for array in arrays])
    ends = np.cumsum(lengths)
    data = np.empty((3, ends[-1]))
    data[1:] = np.concatenate(arrays, axis=1)
    start = 0.0
    for step, end, length in zip(steps, ends, lengths, strict=True):
        interval = step.time_step_ms / 1000.0
        time = np.arange(length) * interval + start
        data[0, end - length : end] = time
        if length:
            start = time[-1] + interval
    _write_measurement(
        group,
        data,
        (1, samples_per_chunk(lengths)),
        ["data_type", "data_point"],
        ["continuous_time", "original_time", "drain_current"],
        "2D transient measurement data: [data_type, data_point]",
        compression,
    )
    spans = {"start_data_index": list(ends - lengths), "end_data_index": list(ends)}
    _write_table(group, _table([step.info for step in steps], spans), compression)


def _stacked(index: int, first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(
            f"step {index}: arrays of shape {a.shape} and {b.shape}, expected two of equal length"
        )
    return np.stack([a, b])


def sweeps_per_chunk(n_steps: int, n_rows: int, n_points: int) -> tuple[int, int, int]:
    """Return the shape of a chunk that holds whole sweeps."""
    return max(1, min(n_steps, _CHUNK_BYTES // max(1, 16 * n_points))), n_rows, max(1, n_points)


def samples_per_chunk(lengths: NDArray[np.int64]) -> int:
    """Return a chunk length that holds whole steps, or an even part of one, where it can."""
    total, longest = int(lengths.sum()), int(lengths.max())
    if longest == 0 or (lengths != longest).any():
        return max(1, min(total, _CHUNK_BYTES // 8))
    step_bytes = 8 * longest
    if step_bytes > _LARGEST_CHUNK:
        return math.ceil(longest / math.ceil(step_bytes / _LARGEST_CHUNK))
    # Short steps share a chunk, in whole steps.
    return min(total, longest * math.ceil(_SMALLEST_CHUNK / step_bytes))


def _write_measurement(
    group: Any,
    data: NDArray[np.float64],
    chunks: tuple[int, ...],
    dimensions: list[str],
    types: list[str],
    description: str,
    compression: int,
) -> None:
    # HDF5 knows no chunks for a dataset without elements.
    storage = _storage(compression) | {"chunks": chunks} if data.size else {}
    dataset = group.create_dataset("measurement_data", data=data, **storage)
    dataset.attrs["dimension_labels"] = np.array(dimensions, _TEXT)
    dataset.attrs["data_type_labels"] = np.array(types, _TEXT)
    dataset.attrs["description"] = description


def _write_table(group: Any, table: NDArray[np.void], compression: int) -> None:
    dataset = group.create_dataset("step_info_table", data=table, **_storage(compression))
    dataset.attrs["description"] = "Step information table stored as structured array"
    dataset.attrs["columns"] = np.array(table.dtype.names, _TEXT)


def _storage(compression: int) -> dict[str, Any]:
    return {
        "compression": "gzip",
        "compression_opts": compression,
        "shuffle": True,
        "fletcher32": True,
    }


def _table(infos: Sequence[Mapping[str, Any]], spans: Mapping[str, list[int]]) -> NDArray[np.void]:
    """Return the step entries as a structured array, one row per step."""
    rows = [_flat_step(index, info) for index, info in enumerate(infos)]
    # Steps may lack entries: the order is that of first sight, group by group.
    groups = ("step_index", *_STEP_KEYS), "param_", "workflow_"
    seen = dict.fromkeys(name for row in rows for name in row)
    names = [name for name in groups[0] if name in seen]
    names += [name for prefix in groups[1:] for name in seen if name.startswith(prefix)]
    columns = {name: _column([row.get(name) for row in rows]) for name in names}
    columns |= {name: np.array(span, np.int64) for name, span in spans.items()}
    table = np.empty(len(rows), [(name, column.dtype) for name, column in columns.items()])
    for name, column in columns.items():
        table[name] = column
    return table


def _flat_step(index: int, info: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {"step_index": index}
    flat |= {key: info[key] for key in _STEP_KEYS if info.get(key) is not None}
    for key, prefix in (("parameters", "param"), ("workflow_info", "workflow")):
        entries = info.get(key)
        if isinstance(entries, Mapping):
            flat |= _flatten(entries, prefix)
    return flat


def _flatten(entries: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in entries.items():
        name = f"{prefix}_{_text(key)}"
        if isinstance(value, Mapping):
            flat |= _flatten(value, name)
        elif value is not None:
            flat[name] = value
    return flat


def _column(values: Sequence[Any]) -> NDArray[Any]:
    """Return one column in the type that holds all its values; ``None`` is a missing entry."""
    known = [value for value in values if value is not None]
    complete = len(known) == len(values)
    booleans = sum(isinstance(value, bool) for value in known)
    if not booleans and all(isinstance(value, int | float) for value in known):
        if complete and all(_fits_int64(value) for value in known):
            return np.array(values, np.int64)
        return np.array([np.nan if value is None else float(value) for value in values])
    # Width in bytes, not characters: a cut inside a character would make the text unreadable.
    cells = [b"" if value is None else _cell(value).encode() for value in values]
    least = 50 if complete and booleans == len(values) else 10
    return np.array(cells, f"S{max(least, *map(len, cells))}")


def _fits_int64(value: float) -> bool:
    return isinstance(value, int) and -(2**63) <= value < 2**63


def _cell(value: Any) -> str:
    if isinstance(value, list | dict):
        return _text(json.dumps(value, ensure_ascii=False))
    return _text(str(value))


def _attribute(value: Any) -> Any:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int) and not isinstance(value, bool) and not _fits_int64(value):
        return str(value)
    return value


def _text(value: str) -> str:
    """Return ``value`` without what HDF5 text cannot hold: NUL and halves of surrogate pairs."""
    return value.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
