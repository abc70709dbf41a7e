"""One result file in one number per step and feature: what the index of a folder is made of."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oectflow.errors import OutputError
from oectflow.extractors.base import Variable
from oectflow.pipeline.marks.reach import CYCLE
from oectflow.pipeline.outputs.sink import read_columns, read_metadata, read_variables
from oectflow.pipeline.outputs.trouble import GOOD, flags_of_result, in_words, outcome_of

#: Of more entries, as the samples of a wavelet, there is no trend to look at one by one.
_MOST_ENTRIES = 32


@dataclass(frozen=True)
class Column:
    """A number per step: of a feature, or of one of its entries.

    Attributes
    ----------
    name
        ``"tau on"``, ``"gm_max_forward"``.
    feature, entry
        The feature and the labels of the entry, ``""`` where it has none.
    unit, description
        SI unit and what it is.
    place
        Where the entry stands along the axes of the feature other than the cycle.
    per_cycle
        Whether it is the median over cycles.
    is_fit
        Whether there is an R² of its fits.
    """

    name: str
    feature: str
    entry: str
    unit: str
    description: str
    place: tuple[int, ...]
    per_cycle: bool
    is_fit: bool

    @property
    def parts(self) -> tuple[str, ...]:
        """What is kept of it for each row."""
        return ("value", "flagged", "fit") if self.is_fit else ("value", "flagged")


@dataclass(frozen=True)
class Summary:
    """What a result file says about itself.

    Attributes
    ----------
    experiment_id, chip_id, device_id
        Which experiment.
    sample
        What is known of the device, as the results have it.
    n_rows, n_steps
        Number of rows, and of steps by kind of measurement.
    state
        ``"done"``, ``"flagged"`` or ``"failed"``.
    n_flagged, n_values
        Values with a status word other than ok, and all that there are.
    reason
        The flags in words, or why the file cannot be read.
    raw
        Path of the raw file from which it was computed.
    left_out
        Features of which there are too many entries for a trend of each.
    columns
        The numbers of each step.
    """

    experiment_id: str
    chip_id: str = ""
    device_id: str = ""
    sample: Mapping[str, Any] = field(default_factory=dict)
    n_rows: int = 0
    n_steps: Mapping[str, int] = field(default_factory=dict)
    state: str = "failed"
    n_flagged: int = 0
    n_values: int = 0
    reason: str = ""
    raw: str = ""
    left_out: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()

    def without_columns(self) -> Summary:
        """Return the same without its columns, which many files have in common."""
        return replace(self, columns=())


def summarise(path: Path) -> tuple[Summary, dict[str, NDArray[np.float64]]] | None:
    """Return what a result file comes to, and its numbers; None where it is not one of ours.

    A file that cannot be read is a summary that says so, without numbers.
    """
    try:
        metadata = read_metadata(path)
        if metadata is None:
            return None
        return _summary(path, metadata)
    except OutputError as error:
        return Summary(path.stem, reason=str(error)), {}


def _summary(
    path: Path, metadata: Mapping[str, Any]
) -> tuple[Summary, dict[str, NDArray[np.float64]]]:
    variables = read_variables(metadata)
    names = [
        name
        for name, entry in metadata["variables"].items()
        if entry["feature"] == name and f"{name}_status" in variables
    ]
    few = [name for name in names if _n_entries(name, metadata, variables) <= _MOST_ENTRIES]
    companions = (f"{name}_{word}" for name in few for word in ("status", "r_squared"))
    wanted = [*few, *(name for name in companions if name in variables)]
    loaded = read_columns(path, wanted, metadata)
    columns: list[Column] = []
    arrays: dict[str, NDArray[np.float64]] = {}
    for name in few:
        for column, parts in _columns(name, variables, loaded):
            columns.append(column)
            arrays |= {f"{column.name}/{part}": array for part, array in parts.items()}
    identity, flags = metadata["identity"], flags_of_result(metadata)
    counts = [about["counts"] for about in metadata["features"].values()]
    return Summary(
        experiment_id=identity["experiment_id"],
        chip_id=identity["chip_id"],
        device_id=identity["device_id"],
        sample=dict(identity.get("sample") or {}),
        n_rows=metadata["n_rows"],
        n_steps=dict(metadata["source"]["n_steps"]),
        state=outcome_of(flags),
        n_flagged=sum(flag.n for flag in flags),
        n_values=sum(sum(count.values()) - count.get("absent", 0) for count in counts),
        reason=in_words(flags),
        raw=metadata["source"]["path"],
        left_out=tuple(name for name in names if name not in few),
        columns=tuple(columns),
    ), arrays


def _n_entries(name: str, metadata: Mapping[str, Any], variables: Mapping[str, Variable]) -> int:
    sizes = zip(variables[name].dims, metadata["variables"][name]["sizes"], strict=True)
    return int(np.prod([size for dim, size in sizes if dim != CYCLE], dtype=int))


def _columns(
    name: str, variables: Mapping[str, Variable], loaded: Mapping[str, NDArray[Any]]
) -> Iterator[tuple[Column, dict[str, NDArray[np.float64]]]]:
    """Yield every entry of a feature, and its numbers per step."""
    variable, values = variables[name], loaded[name]
    status = variables[f"{name}_status"]
    words = list(status.statuses)
    good = [words.index(word) for word in GOOD if word in words]
    flagged = ~np.isin(loaded[f"{name}_status"], good)
    quality = loaded.get(f"{name}_r_squared")
    split = [dim for dim in variable.dims if dim != CYCLE]
    labels = [
        variable.labels.get(dim) or [f"{dim} {k}" for k in range(values.shape[i + 1])]
        for i, dim in enumerate(variable.dims)
        if dim != CYCLE
    ]
    units = variable.unit.split(", ")
    places = itertools.product(*(range(len(some)) for some in labels))
    for number, place in enumerate(places):
        at = dict(zip(split, place, strict=True))
        entry = " ".join(some[k] for some, k in zip(labels, place, strict=True))
        column = Column(
            name=f"{name} {entry}".strip(),
            feature=name,
            entry=entry,
            # Of a point (Vg, Id) each entry has a unit of its own.
            unit=units[number] if len(units) > 1 else variable.unit,
            description=variable.description,
            place=place,
            per_cycle=CYCLE in variable.dims,
            is_fit=quality is not None,
        )
        parts = {
            "value": medians(_rows(values, variable.dims, at)),
            "flagged": _rows(flagged, status.dims, at).sum(axis=1).astype(np.float64),
        }
        if quality is not None:
            rows = _rows(quality, variables[f"{name}_r_squared"].dims, at)
            parts["fit"] = np.fmin.reduce(rows, axis=1, initial=np.nan)
        yield column, parts


def _rows(array: NDArray[Any], dims: tuple[str, ...], at: Mapping[str, int]) -> NDArray[Any]:
    """Return the values of an entry, those of cycles in a row; shape (n_steps, n)."""
    index = (slice(None), *(at[dim] if dim in at else slice(None) for dim in dims))
    chosen = array[index]
    return chosen.reshape(len(array), -1) if len(array) else np.empty((0, 1), array.dtype)


def medians(rows: NDArray[Any]) -> NDArray[np.float64]:
    """Return the median of the numbers in each row, NaN where there is none.

    >>> medians(np.array([[3.0, np.nan, 1.0], [np.nan] * 3]))
    array([ 2., nan])
    """
    values = np.where(np.isfinite(rows), rows, np.nan).astype(np.float64)
    if values.shape[1] == 1:
        return np.ascontiguousarray(values[:, 0])
    # NaN is sorted behind all numbers.
    values = np.sort(values, axis=1)
    n = np.isfinite(values).sum(axis=1)
    each = np.arange(len(values))
    low, high = values[each, np.maximum(n - 1, 0) // 2], values[each, n // 2]
    return np.where(n > 0, (low + high) / 2, np.nan)
