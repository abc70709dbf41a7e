"""Results as tables: a row for each experiment, step or cycle."""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from oectflow.cells import plain_cell
from oectflow.pipeline.outputs.trouble import GOOD

if TYPE_CHECKING:
    import xarray as xr

Level = Literal["experiments", "steps", "cycles"]
LEVELS: tuple[Level, ...] = ("experiments", "steps", "cycles")
_AXES: dict[str, tuple[str, ...]] = {
    "experiments": (), "steps": ("step",), "cycles": ("step", "cycle"),
}  # fmt: skip
#: Columns that say which row it is, and the coordinates that have them.
_IDS = {"experiment_id": "experiment", "chip_id": "chip_id", "device_id": "device_id"}
#: Experiments that are read at once: each alone would be read through all layers of Dask.
_AT_ONCE = 64


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes
    ----------
    name, unit, description, words
        Description of the column; ``words`` has the meanings of its status words.
    status
        Position of the column with its status; for a status column, its own position; None if there
        is no status.
    """

    name: str
    unit: str
    description: str
    words: str = ""
    status: int | None = None

    @property
    def heading(self) -> str:
        """Name and unit: ``gm_max (S)``."""
        return f"{self.name} ({self.unit})" if self.unit else self.name


@dataclass(frozen=True)
class _Part:
    """A column of numbers or words out of a variable: its entries along other axes."""

    column: Column
    variable: str
    entry: tuple[tuple[str, int], ...]


class Table:
    """One level of results, row by row.

    Parameters
    ----------
    results
        The results to write.
    level
        One of :data:`LEVELS`.

    Attributes
    ----------
    columns
        In their order.
    key_lengths
        Length of the longest text in each column that identifies the row.
    """

    def __init__(self, results: xr.Dataset, level: Level) -> None:
        self._results, self._axes = results, _AXES[level]
        self._parts = _with_status(list(self._split(level)))
        self._samples = [
            str(name)
            for name, one in results.coords.items()
            if level == "experiments" and str(name).startswith("sample_")
            and one.dims == ("experiment",)
        ]  # fmt: skip
        keys = [
            Column("experiment_id", "", "experiment"),
            Column("chip_id", "", "chip"),
            Column("device_id", "", "device on its chip"),
            *(_about(results, name) for name in self._samples),
            *(Column(axis, "", f"{axis}, from 0") for axis in self._axes),
        ]
        self.key_lengths = {
            column: max(map(len, map(str, results[name].values.tolist())), default=0)
            for column, name in _IDS.items()
            if name in results.coords
        }
        shift = len(keys)
        self.columns = keys + [
            Column(
                c.name, c.unit, c.description, c.words,
                None if c.status is None else c.status + shift,
            )
            for c in (part.column for part in self._parts)
        ]  # fmt: skip

    @property
    def has_values(self) -> bool:
        """Whether there is any feature on this level."""
        return bool(self._parts)

    def _split(self, level: Level) -> Iterator[_Part]:
        for key, variable in self._results.items():
            name = str(key)
            dims = [str(dim) for dim in variable.dims if dim != "experiment"]
            if level == "experiments":
                if variable.dtype.kind not in "fiu" or variable.attrs.get("feature") != name:
                    continue
                others = [dim for dim in dims if dim not in ("step", "cycle")]
            elif ("cycle" in dims) == (level == "cycles") and "step" in dims:
                others = [dim for dim in dims if dim not in self._axes]
            else:
                continue
            sizes = [range(variable.sizes[dim]) for dim in others]
            for entry in itertools.product(*sizes):
                words = [
                    str(variable[dim].values[k]) if dim in variable.coords else str(k)
                    for dim, k in zip(others, entry, strict=True)
                ]
                column = _about(self._results, name, "_".join([name, *words]))
                if len(units := column.unit.split(", ")) == len(sizes[0] if sizes else ()) > 1:
                    # Of a point (Vg, Id) each entry has its own.
                    column = Column(column.name, units[entry[0]], column.description, column.words)
                yield _Part(column, name, tuple(zip(others, entry, strict=True)))
                if level == "experiments":
                    said = f"number of good values of {column.name}"
                    yield _Part(Column(f"n_{column.name}", "", said), name, (("count", -1),))

    def rows(self) -> Iterator[list[Any]]:
        """Yield the values of each row that exists; None is no value."""
        wanted = self._results[list(dict.fromkeys(part.variable for part in self._parts))]
        statuses = [
            name
            for name in {f"{key}_status" for key in wanted} & set(map(str, self._results))
            if not self._axes
        ]
        wanted = self._results[[*wanted, *statuses]]
        for first in range(0, self._results.sizes["experiment"], _AT_ONCE):
            some = wanted.isel(experiment=slice(first, first + _AT_ONCE))
            loaded = some.load()
            for k in range(loaded.sizes["experiment"]):
                yield from self._rows_of(loaded.isel(experiment=k))

    def _rows_of(self, one: xr.Dataset) -> Iterator[list[Any]]:
        keys = [
            plain_cell(str(one[name].item())) if name in one.coords else ""
            for name in ("experiment", "chip_id", "device_id")
        ]
        if not self._axes:
            yield [*keys, *(_cell(one[name].item()) for name in self._samples), *self._medians(one)]
            return
        shape = tuple(one.sizes[axis] for axis in self._axes)
        arrays = [
            one[part.variable].isel(dict(part.entry)).transpose(*self._axes).values
            for part in self._parts
        ]
        there = np.zeros(shape, bool)
        for array in arrays:
            there |= _is_there(array)
        for index in np.argwhere(there).tolist():
            place = tuple(index)
            yield [*keys, *index, *(_number(array[place]) for array in arrays)]

    def _medians(self, one: xr.Dataset) -> Iterator[Any]:
        for part in self._parts[::2]:
            values = one[part.variable].isel(dict(part.entry))
            status = f"{part.variable}_status"
            if status in one:
                entry = {dim: k for dim, k in part.entry if dim in one[status].dims}
                values = values.where(one[status].isel(entry) == "ok")
            good = values.values[np.isfinite(values.values.astype(float))]
            yield float(np.median(good)) if good.size else None
            yield int(good.size)


def write_csv(results: xr.Dataset, path: Path, level: Level, decimal: str) -> None:
    """Write one level as CSV, with a mark so that Excel takes it for UTF-8."""
    table = Table(results, level)
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file, delimiter=";" if decimal == "," else ",")
        writer.writerow([plain_cell(column.heading) for column in table.columns])
        for row in table.rows():
            writer.writerow([_text(value, decimal) for value in row])


def is_good(word: object) -> bool:
    """Whether a status word means that nothing is wrong with the value."""
    return word in GOOD or word is None


def _about(results: xr.Dataset, variable: str, name: str | None = None) -> Column:
    attrs = results[variable].attrs
    return Column(
        name or variable,
        str(attrs.get("units", "")),
        str(attrs.get("description", "")),
        str(attrs.get("words", "")),
    )


def _with_status(parts: Sequence[_Part]) -> list[_Part]:
    """Let each column know where its status is: that of the same entry, or of all of them."""
    places = {(part.variable, part.entry): k for k, part in enumerate(parts)}
    known = {part.variable for part in parts}
    out = []
    for part in parts:
        name = f"{part.variable}_status"
        place = places.get((name, part.entry), places.get((name, ()))) if name in known else None
        if part.variable.endswith("_status"):
            place = places[part.variable, part.entry]
        c = part.column
        column = Column(c.name, c.unit, c.description, c.words, place)
        out.append(_Part(column, part.variable, part.entry))
    return out


def _is_there(array: NDArray[Any]) -> NDArray[np.bool_]:
    if array.dtype.kind == "f":
        return np.asarray(~np.isnan(array))
    if array.dtype.kind in "US":
        return np.asarray((array != "absent") & (array != ""))
    # -1 stands for no value.
    return np.asarray(array != -1)


def _number(value: Any) -> Any:
    # Of whole numbers, -1 stands for no value.
    return None if value.dtype.kind == "i" and value == -1 else _cell(value.item())


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return plain_cell(value)
    return None if isinstance(value, float) and math.isnan(value) else value


def _text(value: Any, decimal: str) -> Any:
    if isinstance(value, float):
        return repr(value).replace(".", decimal)
    return value
