"""Write one experiment as an HDF5 file in the layout that laboratories already have on disk.

::

    /                            scalar metadata as attributes, format_version first of all
    /raw/json, /raw/workflow     the instrument's own descriptions, as text
    /raw/metadata                of a text file, what stands beside its table, as JSON
    /transfer/measurement_data   (n_steps, 2, longest): Vg, Id; shorter steps padded with NaN
    /transfer/step_info_table    one row per step
    /transient/measurement_data  (3, n_samples): continuous_time, original_time, drain_current
    /transient/step_info_table   one row per step, with start_data_index and end_data_index

Newer things stand beside these, where the software that knows only the above passes them by::

    /output, /impedance          like /transfer, with the rows of their kind
    /transient/gate_voltage      and other arrays that a kind may have: one dataset each
    /extra/<kind>/<name>         columns that no kind knows, with their heading and unit
    /sample                      geometry and materials of the device, as attributes

Columns of a step table that begin with ``value_`` are numbers in SI units, for steps whose
parameters do not give them.

The chunks are ours: they follow the steps, so that reading one step decompresses little else.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from oectflow.atomic_write import atomic_write
from oectflow.measurement import Extra, Kind, Measurement, Step, get_kind
from oectflow.pipeline.inputs.attributes import add_attribute
from oectflow.pipeline.inputs.step_table import find_parameter, fits_int64, plain_text, step_table
from oectflow.place import place

FORMAT_VERSION = "2.0_direct_new_storage"
#: The root keys of ``test_info.json`` that name the file, in this order.
NAME_KEYS = ("chip_id", "device_number", "description", "test_id")

_TEXT = h5py.string_dtype("utf-8")
_CHUNK_BYTES = 64 * 1024
_SMALLEST_CHUNK, _LARGEST_CHUNK = 8 * 1024, 1024 * 1024
_LONGEST_NAME_PART = 120
# What common file systems take, less what "_999" and the ending need.
_LONGEST_STEM_BYTES = 248


def write_measurement(
    path: str | os.PathLike[str], measurement: Measurement, *, compression: int = 4
) -> Path:
    """Write one experiment; the file appears completely or not at all.

    Parameters
    ----------
    path
        The file; an existing one is replaced.
    measurement
        Its attributes (text, numbers and booleans), steps, sample and documents.  A kind without
        steps gets no group.
    compression
        gzip level, 0 to 9.

    Returns
    -------
    The path written.

    Raises
    ------
    ValueError
        An array that every step has is missing, the arrays of a step differ in length, or a name
        is not one of the kind's.
    OSError
        The file cannot be written.
    """
    target = place(path)
    by_kind: dict[str, list[Step]] = {}
    for step in measurement.steps:
        by_kind.setdefault(step.kind, []).append(step)
    with atomic_write(target) as partial, h5py.File(partial, "w") as file:
        attributes = {plain_text(name): value for name, value in measurement.attributes.items()}
        for name, value in (attributes | {"format_version": FORMAT_VERSION}).items():
            add_attribute(file, name, _attribute(value))
        for name, text in measurement.documents.items():
            file.create_dataset(f"raw/{name}", data=plain_text(text), dtype=_TEXT)
        for kind in (get_kind(name) for name in by_kind):
            _write_kind(file, kind, by_kind[kind.name], compression)
        if measurement.sample:
            _write_sample(file.create_group("sample"), measurement.sample)
    return target


def _write_kind(file: h5py.File, kind: Kind, steps: Sequence[Step], compression: int) -> None:
    group = file.create_group(kind.name)
    arrays = [_checked(kind, i, step) for i, step in enumerate(steps)]
    lengths = np.array([len(step) for step in steps])
    names = [row.name for row in kind.rows]
    if kind.gated:
        _add_continuous_time(arrays, steps)
    rows = [_laid_out(kind, [step[name] for step in arrays], lengths) for name in names]
    chunks: tuple[int, ...]
    if kind.layout == "sweeps":
        chunks = sweeps_per_chunk(len(steps), len(rows), int(lengths.max()))
        dimensions, title = ["step_index", "data_type", "data_point"], "3D"
    else:
        chunks = (1, samples_per_chunk(lengths))
        dimensions, title = ["data_type", "data_point"], "2D"
    data = np.stack(rows, axis=-2)
    measured = _write_array(group, "measurement_data", data, chunks, compression)
    add_attribute(measured, "dimension_labels", dimensions)
    add_attribute(measured, "data_type_labels", names)
    description = f"{title} {kind.name} measurement data: [{', '.join(dimensions)}]"
    add_attribute(measured, "description", description)
    # A dataset of one array has the chunks of measurement_data without the axis of its rows.
    chunks = chunks[:-2] + chunks[-1:]
    for array in kind.optional:
        if any(array.name in step for step in arrays):
            found = [step.get(array.name) for step in arrays]
            laid_out = _laid_out(kind, found, lengths)
            dataset = _write_array(group, array.dataset, laid_out, chunks, compression)
            add_attribute(dataset, "description", array.description)
            add_attribute(dataset, "units", array.unit)
    for name, extras in _extras(steps).items():
        columns = [None if one is None else one.values for one in extras]
        laid_out = _laid_out(kind, columns, lengths)
        dataset = _write_array(file, f"extra/{kind.name}/{name}", laid_out, chunks, compression)
        first = next(one for one in extras if one is not None)
        add_attribute(dataset, "heading", plain_text(first.heading))
        add_attribute(dataset, "units", plain_text(first.unit))
    spans: dict[str, list[int]] = {}
    if kind.layout == "traces":
        ends = np.cumsum(lengths)
        spans = {"start_data_index": list(ends - lengths), "end_data_index": list(ends)}
    _write_table(group, step_table(kind, steps, spans), compression)


def _extras(steps: Sequence[Step]) -> dict[str, list[Extra | None]]:
    """Return columns that no kind knows, by name: one of each heading, for it has one unit."""
    found: dict[tuple[str, str, str], list[Extra | None]] = {}
    for i, step in enumerate(steps):
        for name, extra in step.extra.items():
            plain = plain_text(name).replace("/", "_")
            column = found.setdefault((plain, extra.heading, extra.unit), [None] * len(steps))
            column[i] = extra
    named: dict[str, list[Extra | None]] = {}
    for (name, _, _), column in found.items():
        unique, number = name, 2
        while unique in named:
            unique, number = f"{name}_{number}", number + 1
        named[unique] = column
    return named


def _checked(kind: Kind, index: int, step: Step) -> dict[str, NDArray[np.float64]]:
    """Return the arrays of a step by the kind's own names."""
    arrays = {
        kind.array(name).name: np.asarray(values, np.float64)
        for name, values in step.arrays.items()
    }
    built = {"continuous_time"} if kind.gated else set()
    missing = [row.name for row in kind.rows if row.name not in arrays and row.name not in built]
    if missing:
        raise ValueError(f"step {index}: a {kind.name} step needs {missing[0]}, it has none")
    extras = [np.asarray(extra.values) for extra in step.extra.values()]
    shapes = {array.shape for array in [*arrays.values(), *extras]}
    if len(shapes) > 1 or len(next(iter(shapes))) != 1:
        seen = " and ".join(sorted(map(str, shapes)))
        raise ValueError(f"step {index}: arrays of shape {seen}, expected one length for all")
    return arrays


def _add_continuous_time(
    arrays: Sequence[dict[str, NDArray[np.float64]]], steps: Sequence[Step]
) -> None:
    """Add the time that runs through all steps, from the interval that each declares."""
    start = 0.0
    for step, given in zip(steps, arrays, strict=True):
        length = len(given["original_time"])
        interval = _interval_of(step, given["original_time"])
        time = np.arange(length, dtype=np.float64) * interval + start
        given["continuous_time"] = time
        if length:
            start = time[-1] + interval


def _interval_of(step: Step, time: NDArray[np.float64]) -> float:
    """Return the interval that the step declares, else the usual one of its times, in s."""
    declared = find_parameter(step.info, ("timeStep",))
    interval = step.values.get("sampling_interval", np.nan if declared is None else declared / 1000)
    if not interval > 0 and len(time) > 1:
        interval = float(np.median(np.diff(time)))
    # A clock that says nothing leaves what instruments of this format default to.
    return interval if 0 < interval < np.inf else 1e-3


def _laid_out(
    kind: Kind, arrays: Sequence[ArrayLike | None], lengths: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the arrays of all steps as they lie in a dataset, NaN for a step that has none."""
    whole = [
        np.full(length, np.nan) if array is None else np.asarray(array, np.float64)
        for array, length in zip(arrays, lengths, strict=True)
    ]
    if kind.layout == "traces":
        return np.concatenate(whole)
    out = np.full((len(whole), int(lengths.max(initial=0))), np.nan)
    for row, array in zip(out, whole, strict=True):
        row[: len(array)] = array
    return out


def _write_sample(group: h5py.Group, sample: Mapping[str, Any]) -> None:
    for name, value in sample.items():
        if name == "units":
            for key, unit in value.items():
                group.attrs[plain_text(f"unit_{key}")] = plain_text(unit)
        elif value is not None:
            group.attrs[plain_text(name)] = _attribute(value)


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
    text = "" if value is None else plain_text(str(value)).strip()
    text = re.sub(r'[\\/:*?"<>|\r\n\t]', "_", text)
    return re.sub(r"\s+", " ", text)[:_LONGEST_NAME_PART].rstrip() or "NA"


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


def _write_array(
    group: Any, name: str, data: NDArray[np.float64], chunks: tuple[int, ...], compression: int
) -> Any:
    # HDF5 knows no chunks for a dataset without elements.
    storage = _storage(compression) | {"chunks": chunks} if data.size else {}
    return group.create_dataset(name, data=data, **storage)


def _write_table(group: Any, table: NDArray[np.void], compression: int) -> None:
    dataset = group.create_dataset("step_info_table", data=table, **_storage(compression))
    add_attribute(dataset, "description", "Step information table stored as structured array")
    add_attribute(dataset, "columns", list(table.dtype.names or ()))


def _storage(compression: int) -> dict[str, Any]:
    return {
        "compression": "gzip",
        "compression_opts": compression,
        "shuffle": True,
        "fletcher32": True,
    }


def _attribute(value: Any) -> Any:
    if isinstance(value, str):
        return plain_text(value)
    if isinstance(value, int) and not isinstance(value, bool) and not fits_int64(value):
        return str(value)
    return value
