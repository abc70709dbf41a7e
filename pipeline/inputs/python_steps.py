"""Steps of a measurement from what is in memory: dicts of arrays, DataFrames, xarray Datasets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oectflow.config_file import shorten
from oectflow.errors import InputError, did_you_mean
from oectflow.measurement import Array, Extra, Kind, Step
from oectflow.pipeline.inputs.readers.headings import read_heading, si_scale
from oectflow.pipeline.inputs.step_table import PLACES

_SI = ("V", "A", "s", "Hz", "Ω")
#: What a tree has beside measured numbers: labels, and what the arrays tell again.
_LABELS = ("step", "point", "sample", "timing_source")


def steps_from(kind: Kind, entry: Any, where: str) -> Iterator[tuple[Step, list[str]]]:
    """Yield the steps of an entry of :func:`oectflow.write_experiment`, and what is odd in each.

    Parameters
    ----------
    kind
        Of the steps.
    entry
        A dict of arrays, a DataFrame, a Dataset, or a pair of one of these and a dict of numbers.
    where
        Its place, for messages.

    Raises
    ------
    InputError
        Something is missing, no number, or of another length.
    """
    values: Mapping[str, Any] = {}
    if isinstance(entry, tuple):
        if len(entry) != 2 or not isinstance(entry[1], Mapping):
            raise InputError(
                f"{where}: a tuple of {len(entry)}, expected (arrays, numbers), such as "
                "(frame, {'Vd': -0.6})"
            )
        entry, values = entry
    if isinstance(entry, Step):
        if entry.kind != kind.name:
            raise InputError(f"{where}: is a step of {entry.kind}")
        yield entry, []
        return
    several = list(_parts(entry, kind, where))
    for number, columns in enumerate(several):
        place = where if len(several) == 1 else f"{where}, step {number}"
        step, said = _step(kind, columns, values, place)
        if len(several) == 1 and not len(step):
            raise InputError(f"{where}: has no points")
        yield step, said


def _parts(
    entry: Any, kind: Kind, where: str
) -> Iterator[list[tuple[str, Any, Mapping[str, Any]]]]:
    """Yield the columns of each step: name, numbers, and attributes such as ``units``."""
    if hasattr(entry, "data_vars"):
        yield from _parts_of_dataset(entry, where)
    elif hasattr(entry, "columns") and hasattr(entry, "iloc"):
        named = [name for name in entry.index.names if name is not None]
        frame = entry.reset_index() if named else entry
        units = dict(frame.attrs.get("units", {}))
        yield [
            (str(name), frame.iloc[:, i], {"units": units.get(name, "")})
            for i, name in enumerate(frame.columns)
        ]
    elif isinstance(entry, Mapping):
        yield [(str(name), column, {}) for name, column in entry.items()]
    else:
        raise InputError(
            f"{where}: is {shorten(entry)}, expected a dict of arrays with "
            f"{' and '.join(_required(kind))}, a DataFrame or a Dataset"
        )


def _parts_of_dataset(
    dataset: Any, where: str
) -> Iterator[list[tuple[str, Any, Mapping[str, Any]]]]:
    dims = {dim for name in dataset.data_vars for dim in dataset[name].dims}
    if len(dims) > 2 or (len(dims) == 2 and "step" not in dims):
        raise InputError(
            f"{where}: dimensions {', '.join(map(str, sorted(dims)))}, expected one, or 'step' and "
            "one along the step"
        )
    labels = {dim for dim in dims if dim in _LABELS}
    names = [name for name in dataset.variables if name not in labels and name not in _LABELS]
    if "step" not in dims:
        yield [(str(name), dataset[name].values, dataset[name].attrs) for name in names]
        return
    for number in range(dataset.sizes["step"]):
        one = dataset.isel(step=number)
        columns = [(str(name), one[name].values, one[name].attrs) for name in names]
        # Shorter steps are padded with NaN.
        lines = [c for _, c, _ in columns if c.ndim == 1 and c.dtype.kind == "f"]
        known = [np.flatnonzero(~np.isnan(line)) for line in lines]
        stop = max((int(k[-1]) + 1 for k in known if len(k)), default=0)
        yield [(name, c[:stop] if c.ndim == 1 else c, attrs) for name, c, attrs in columns]


def _step(
    kind: Kind,
    columns: list[tuple[str, Any, Mapping[str, Any]]],
    numbers: Mapping[str, Any],
    where: str,
) -> tuple[Step, list[str]]:
    arrays: dict[str, NDArray[np.float64]] = {}
    values: dict[str, float] = {}
    extra: dict[str, Extra] = {}
    sources: dict[str, str] = {}
    said: list[str] = []
    for name, column, attrs in columns:
        array = _numeric(column, f"{where}: {name!r}")
        unit = str(attrs.get("units", "") or "")
        if array.ndim == 0:
            found, scale = _value(kind, name, unit, where)
            values[found] = float(array) * scale
            continue
        target, scale, note = _array(kind, name, unit, where)
        if target is None:
            free = re.sub(r"\W+", "_", name.removeprefix("extra_")).strip("_") or "column"
            while free in extra:
                free += "_"
            extra[free] = Extra(array, str(attrs.get("heading", name)), unit)
            if "heading" not in attrs:
                note = note or f"nothing that {kind.name} has"
                said.append(f"{name!r} is kept under /extra: {note}")
            continue
        if target.name in sources:
            raise InputError(
                f"{where}: {sources[target.name]!r} and {name!r} both are {target.name}"
            )
        sources[target.name] = name
        arrays[target.name] = array * scale
    for name, value in numbers.items():
        number = _numeric(value, f"{where}: {name!r}")
        if number.ndim:
            raise InputError(f"{where}: {name!r} has shape {number.shape}, expected one number")
        found, scale = _value(kind, str(name), "", where)
        values[found] = float(number) * scale
    _check(kind, arrays, extra, where, "".join(f"; {text}" for text in said))
    return Step(kind.name, arrays, values, extra=extra), said


def _check(
    kind: Kind,
    arrays: Mapping[str, NDArray[np.float64]],
    extra: Mapping[str, Extra],
    where: str,
    said: str,
) -> None:
    for needed in _required(kind):
        if kind.array(needed).name not in arrays:
            raise InputError(
                f"{where}: no {needed} ({kind.array(needed).description}, "
                f"{kind.array(needed).unit}); it has {', '.join(arrays) or 'no array'}{said}"
            )
    lengths = {name: array.shape for name, array in arrays.items()}
    lengths |= {name: one.values.shape for name, one in extra.items()}
    first = next(iter(lengths))
    for name, shape in lengths.items():
        if len(shape) != 1:
            raise InputError(f"{where}: {name} has shape {shape}, expected one dimension")
        if shape != lengths[first]:
            raise InputError(
                f"{where}: {first} has {lengths[first][0]} points, {name} has {shape[0]}; expected "
                "the same number"
            )


def _required(kind: Kind) -> list[str]:
    # The running time of a transient is worked out from the recorded one.
    rows = [row for row in kind.rows if row.name != "continuous_time"]
    short = {"original_time": "time", "drain_current": "Id"}
    return [short.get(row.name, row.name) for row in rows]


def _array(kind: Kind, name: str, unit: str, where: str) -> tuple[Array | None, float, str]:
    """Return which array of the kind a column is, its unit in SI, and why it is none of them."""
    if name in kind.array_names:
        array = kind.array(name)
        return array, _scale(unit, array.unit, f"{where}: {name!r}"), ""
    heading = read_heading(name, unit)
    if heading.quantity is not None and heading.quantity in kind.array_names:
        return kind.array(heading.quantity), heading.scale, ""
    return None, 1.0, heading.note


def _value(kind: Kind, name: str, unit: str, where: str) -> tuple[str, float]:
    """Return which number of the kind a scalar is, and what one of its units is in SI."""
    if name in PLACES:
        return name, 1.0
    known = {value.name: value for value in kind.values}
    if name not in known:
        heading = read_heading(name, unit)
        if heading.quantity is not None and heading.quantity in known:
            return heading.quantity, heading.scale
        raise InputError(f"{where}: {kind.name} has no number {name!r}{did_you_mean(name, known)}")
    return name, _scale(unit, known[name].unit, f"{where}: {name!r}")


def _scale(unit: str, si: str, where: str) -> float:
    if unit in ("", "1", si):
        return 1.0
    scale = si_scale(unit, si) if si in _SI else None
    if scale is None:
        raise InputError(f"{where}: {unit!r} is no unit of it, expected such as {si or '1'}")
    return scale


def _numeric(column: Any, where: str) -> NDArray[np.float64]:
    if np.ma.isMaskedArray(column):
        column = np.ma.filled(column.astype(np.float64), np.nan)
    if hasattr(column, "to_numpy"):
        is_nullable = not isinstance(column.dtype, np.dtype)
        column = column.to_numpy(na_value=np.nan) if is_nullable else column.to_numpy()
    array = np.asarray(column)
    if array.dtype.kind == "m":
        return np.asarray(array / np.timedelta64(1, "s"), np.float64)
    if array.dtype.kind not in "fiubO":
        raise InputError(f"{where} has numbers of type {array.dtype}, expected real numbers")
    try:
        return np.asarray(array, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where} is not all real numbers ({error})") from None
