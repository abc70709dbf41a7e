"""One raw HDF5 file, read-only: its metadata, its steps, and ranges of steps in one read.

The file has one experiment, with a group for each kind of measurement.  Sweeps are padded with NaN
to the longest one; traces are stored one after the other.  Each group has a table of its steps.  No
file handle stays open after a call, so an :class:`Experiment` may be pickled, kept, and used in any
thread or process.
"""

from __future__ import annotations

import html
import json
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from oectflow.errors import InputError, NotAnExperiment, UnreadableFile
from oectflow.measurement import Batch, Extra, get_kind, kinds
from oectflow.pipeline.inputs.chunks import need_filters, read_rows, read_slab
from oectflow.pipeline.inputs.external import find_external
from oectflow.pipeline.inputs.guard import look_first
from oectflow.pipeline.inputs.hdf5 import (
    FileIdentity,
    explain,
    of_version,
    open_file,
    plain,
)
from oectflow.pipeline.inputs.recorded import Recorded
from oectflow.pipeline.inputs.step_layout import Layout, SourceSteps, read_source
from oectflow.pipeline.inputs.step_table import step_values
from oectflow.pipeline.inputs.timing import TIMING, complete_from_trace, declared_timing
from oectflow.place import place

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

__all__ = ["Experiment", "FileIdentity", "Layout"]


class Experiment(Recorded):
    """One raw experiment file.

    Parameters
    ----------
    path
        The HDF5 file.  Only metadata is read now.
    cache_size
        Accepted, but without effect; nothing is kept from call to call.
    allow_external
        Whether its data may be in other files: external links, external storage, virtual datasets.

    Attributes
    ----------
    path
        The file.
    identity
        Size and modification time of the file, and of its other files, when the metadata was read.
    experiment_id
        The attribute ``test_id``, or the file's name without suffix.
    chip_id, device_id
        The attributes ``chip_id`` and ``device_number``; ``""`` if absent.
    attributes
        All attributes of the file's root, as str, int, float or bool.
    format_version
        ``"2.0_direct_new_storage"`` or ``"2.0_new_storage"``, depending on the writer.
    sources
        Kinds of measurement with at least one step: ``"transfer"``, ``"output"``, …
    sample
        Properties of the device from the file: ``W``, ``L``, ``d`` (m), materials; ``{}`` if none.

    Raises
    ------
    UnreadableFile
        The file is missing, empty, truncated, damaged or not HDF5, another process is writing it,
        or its data are in other files.
    NotAnExperiment
        It is HDF5 of another kind.

    Examples
    --------
    >>> experiment = Experiment("test_2.h5")
    >>> experiment.step("transfer", 0)["Vg"][:3]
    array([-0.2 , -0.15, -0.1 ])
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        cache_size: int | None = None,
        *,
        allow_external: bool = False,
    ) -> None:
        del cache_size
        self.path = place(path, InputError)
        self.identity = FileIdentity.of(self.path)
        # What is read of an object from now on is of this version.
        self.path = of_version(self.path, self.identity)
        look_first(self.path, self.identity, allow_external=allow_external)
        with self._open("the metadata") as file:
            others = find_external(self.path, file, allowed=allow_external)
            if others:
                self.identity = FileIdentity.of(self.path, others)
            attributes = {name: plain(value) for name, value in file.attrs.items()}
            self.format_version = _check_format(self.path, attributes)
            found = {
                name: read_source(file, self.path, kind)
                for name, kind in kinds().items()
                if name in file
            }
            self.sample: dict[str, Any] = _read_sample(file)
        self.attributes: dict[str, Any] = attributes
        self.experiment_id = str(attributes.get("test_id") or self.path.stem)
        self.chip_id = str(attributes.get("chip_id", ""))
        self.device_id = str(attributes.get("device_number", ""))
        self._sources = found
        self.sources: tuple[str, ...] = tuple(name for name in found if self.n_steps(name))

    def n_steps(self, source: str) -> int:
        """Return the number of steps of a kind of measurement; 0 if it is absent."""
        get_kind(source)
        return len(self._sources[source].table) if source in self._sources else 0

    def layout(self, source: str) -> Layout:
        """Return the layout of the steps of a kind in the file, without reading a sample."""
        if not self.n_steps(source):
            nothing = np.zeros(0, np.int64)
            return Layout(0, nothing, np.zeros(1, np.int64), 8 * len(get_kind(source).rows))
        return self._sources[source].layout()

    def oddities(self) -> list[str]:
        """List contradictions of step tables and samples: overlapping steps, samples of no step."""
        return [line for found in self._sources.values() for line in found.oddities()]

    def step_table(self, source: str) -> pd.DataFrame:
        """Return the step table: one row per step, the file's columns, text as ``str``."""
        import pandas as pd

        if not self.n_steps(source):
            return pd.DataFrame()
        table = self._sources[source].table
        return pd.DataFrame({name: _text(table[name]) for name in table.dtype.names or ()})

    def declared_values(self, source: str) -> dict[str, NDArray[np.float64]]:
        """Return the numbers of all steps of a kind from the step table; NaN if not given there."""
        if not self.n_steps(source):
            return {}
        return step_values(get_kind(source), self._sources[source].table)

    @cached_property
    def workflow(self) -> Any:
        """The workflow that the instrument ran, parsed from ``/raw/workflow``; None if absent."""
        return self._read_json("raw/workflow")

    @cached_property
    def test_info(self) -> Any:
        """The instrument's description of the test, parsed from ``/raw/json``; None if absent."""
        return self._read_json("raw/json")

    def content_hash(self) -> str:
        """Return the XXH3-128 hash of the bytes of the file and its other files, in hexadecimal."""
        try:
            return self.identity.content_hash(self.path)
        except OSError as error:
            raise UnreadableFile(explain(self.path, "the file", error)) from error

    def step(self, source: str, index: int) -> dict[str, Any]:
        """Read one step.

        Parameters
        ----------
        source
            Kind of measurement: ``"transfer"``, ``"output"``, ``"transient"``, …
        index
            Which step; negative counts from the end.

        Returns
        -------
        Float64 arrays and numbers by name, and the ``sample``, as in :meth:`oectflow.Batch.step`;
        an unknown number is NaN.  A sweep has no padding: points without a value of its first array
        are dropped, so a step that has only NaN has arrays of length 0.  A trace keeps every
        sample, NaN or not.

        Raises
        ------
        IndexError
            There is no such step.
        UnreadableFile
            The samples are damaged, or the file has changed since the metadata was read.
        """
        n_steps = self.n_steps(source)
        if not -n_steps <= index < n_steps:
            raise IndexError(f"{self.path}: {source} has {n_steps} steps, there is no step {index}")
        start = index % n_steps
        return self.batch(source, start, start + 1).step(0)

    def extra(self, source: str, index: int) -> dict[str, Extra]:
        """Read the columns of one step that its kind does not define, with heading and unit.

        Raises
        ------
        IndexError
            There is no such step.
        UnreadableFile
            The columns are damaged.
        """
        if not 0 <= index < self.n_steps(source):
            raise IndexError(f"{self.path}: {source} has no step {index}")
        if not self._has_extra:
            return {}
        found = self._sources[source]
        where = f"extra/{source}"
        with self._open(f"/{where}, step {index},") as file:
            extras = {}
            for name, dataset in file[where].items() if where in file else ():
                if found.kind.layout == "traces":
                    values = read_slab(dataset, found.starts[index], found.stops[index])
                else:
                    measured = ~np.isnan(file[source]["measurement_data"][index, 0])
                    values = read_slab(dataset, index, index + 1)[0][measured]
                heading, unit = (str(plain(dataset.attrs[key])) for key in ("heading", "units"))
                extras[name] = Extra(np.asarray(values, np.float64), heading, unit)
        return extras

    def batch(
        self, source: str, start: int, stop: int, arrays: Collection[str] | None = None
    ) -> Batch:
        """Read the steps ``start:stop`` of a source in one contiguous read.

        Parameters
        ----------
        source
            Kind of measurement: ``"transfer"``, ``"output"``, ``"transient"``, …
        start, stop
            Range of the steps.
        arrays
            Names or aliases of the arrays to read; None for all.  If the timing is not declared,
            the arrays that it is found from are read, too.

        Returns
        -------
        The samples without padding, and the numbers of the steps; see :meth:`step`.

        Raises
        ------
        IndexError
            The range is not within the steps of the source.
        UnreadableFile
            The samples are damaged, or the file has changed since the metadata was read.
        """
        n_steps = self.n_steps(source)
        if not 0 <= start <= stop <= n_steps:
            raise IndexError(
                f"{self.path}: {source} has {n_steps} steps, there is no range {start}:{stop}"
            )
        kind = get_kind(source)
        found = self._sources.get(source)
        present = {array.name for array in (*kind.rows, *(found.optional if found else ()))}
        names = {
            name: array.name
            for name, array in kind.array_names.items()
            if array.name in present and (arrays is None or name in arrays)
        }
        if found is None or start == stop:
            empty = {name: np.zeros(0) for name in names}
            values = {value.name: np.zeros(0) for value in kind.values}
            return Batch(empty, np.zeros(1, np.int64), values, start, (), self.sample)
        values = step_values(kind, found.table[start:stop])
        needed = set(names.values())
        recorded = {array.name for array in found.optional}
        # A number that nobody declared is what was measured; whoever reads, it is the same.
        typical = [n for n in recorded & values.keys() if np.isnan(values[n]).any()]
        needed.update(typical)
        timing_source: tuple[str, ...] = ()
        if kind.layout == "sweeps":
            data, offsets = self._read_sweeps(found, start, stop, needed)
        else:
            offsets = _offsets(found.stops[start:stop] - found.starts[start:stop])
            if kind.gated:
                timing = declared_timing(found.table[start:stop], lambda: self.workflow)
                if np.isnan(timing.sampling_interval).any():
                    needed.add("original_time")
                if np.isnan(timing.gate_period).any():
                    # In recorded spacings, whatever else is read.
                    needed |= {"drain_current", "original_time"}
                if "Vg" in recorded:
                    needed |= {"Vg", "original_time"}
            data = self._read_traces(found, start, stop, needed, offsets)
            if kind.gated:
                # Times that nobody asked for tell nothing.
                nothing = np.empty(0)
                timing = complete_from_trace(
                    timing,
                    data.get("original_time", nothing),
                    data.get("drain_current", nothing),
                    offsets,
                    data.get("Vg"),
                )
                values |= {name: getattr(timing, name) for name in TIMING}
                timing_source = timing.source
        for name in typical:
            measured = [_median(part) for part in np.split(data[name], offsets[1:-1])]
            values[name] = np.where(np.isnan(values[name]), measured, values[name])
        samples = {name: data[own] for name, own in names.items()}
        return Batch(samples, offsets, values, start, timing_source, self.sample)

    def to_xarray(self) -> xr.DataTree:
        """Read everything into one labelled tree, for exploring.

        Returns
        -------
        A node for each kind, with its arrays along (step, point) or (step, sample), further columns
        of the file (``extra_…``), and the numbers of the steps as coordinates along (step,). If an
        array and a number have the same name, the array gets its alias: ``Vd_measured``. Shorter
        steps are padded with NaN.  The units are in the attributes of each variable.  The file's
        attributes and the sample (``sample_…``) are at the root.
        """
        # xarray is not worth its import to workers.
        from oectflow.pipeline.inputs.labelled import labelled

        return labelled(self)

    def __repr__(self) -> str:
        return "\n".join(
            [f"<Experiment {self.experiment_id}>"]
            + [f"    {label:<12} {value}" for label, value in self._summary()]
        )

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(label)}</th>"
            f"<td style='text-align:left'>{html.escape(value)}</td></tr>"
            for label, value in self._summary()
        )
        return f"<b>Experiment {html.escape(self.experiment_id)}</b><table>{rows}</table>"

    def __getstate__(self) -> dict[str, Any]:
        # What can be read again is not worth sending to another process.
        return {k: v for k, v in self.__dict__.items() if k not in ("workflow", "test_info")}

    def _summary(self) -> list[tuple[str, str]]:
        rows = [("file", str(self.path)), ("chip", self.chip_id), ("device", self.device_id)]
        rows += [
            (name, str(self.attributes[name]))
            for name in ("description", "status", "created_at")
            if name in self.attributes
        ]
        for source, found in self._sources.items():
            lengths = found.layout().lengths
            word = "no steps"
            if len(lengths):
                padded = found.kind.layout == "sweeps"
                upper = "up to " if padded or lengths.min() < lengths.max() else ""
                steps = f"{len(lengths):,} step" + "s" * (len(lengths) > 1)
                word = f"{steps} of {upper}{lengths.max():,} {found.kind.sample}s"
            rows.append((source, word))
        return rows if self._sources else [*rows, ("measured", "no steps")]

    @contextmanager
    def _open(self, what: str) -> Iterator[h5py.File]:
        if not self.identity.is_of(self.path):
            raise UnreadableFile(
                f"{self.path}: changed since its metadata was read; open the experiment again"
            )
        with open_file(self.path, what) as file:
            yield file

    def _read_sweeps(
        self, found: SourceSteps, start: int, stop: int, names: Collection[str]
    ) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.int64]]:
        """Read arrays of sweeps without their padding, and where each step begins."""
        rows = {row.name: i for i, row in enumerate(found.kind.rows)}
        own = [array for array in found.optional if array.name in names]
        with self._samples(found, start, stop) as group:
            data = np.asarray(read_slab(group["measurement_data"], start, stop), np.float64)
            beside = {
                a.name: np.asarray(read_slab(group[a.dataset], start, stop), np.float64)
                for a in own
            }
        measured = ~np.isnan(data[:, 0])
        arrays = {name: data[:, rows[name]][measured] for name in names if name in rows}
        arrays |= {name: array[measured] for name, array in beside.items()}
        return arrays, _offsets(measured.sum(axis=1))

    def _read_traces(
        self,
        found: SourceSteps,
        start: int,
        stop: int,
        names: Collection[str],
        offsets: NDArray[np.int64],
    ) -> dict[str, NDArray[np.float64]]:
        """Read arrays of traces, which usually lie one after the other."""
        starts, stops = found.starts[start:stop], found.stops[start:stop]
        filled = stops > starts
        low, high = (starts[filled].min(), stops[filled].max()) if filled.any() else (0, 0)
        rows = {row.name: i for i, row in enumerate(found.kind.rows) if row.name in names}
        own = [array for array in found.optional if array.name in names]
        with self._samples(found, start, stop) as group:
            measured = read_rows(
                group["measurement_data"], list(rows.values()), int(low), int(high)
            )
            data = dict(zip(rows, measured, strict=True))
            for array in own:
                column = read_slab(group[array.dataset], int(low), int(high))
                data[array.name] = np.asarray(column, np.float64)
        if high - low != offsets[-1] or np.any(starts[filled] - low != offsets[:-1][filled]):
            # Steps with gaps or in another order: no known writer does it, the table allows it.
            samples = np.concatenate([np.arange(a, b) for a, b in zip(starts, stops, strict=True)])
            data = {name: row[samples - low] for name, row in data.items()}
        return data

    @contextmanager
    def _samples(self, found: SourceSteps, start: int, stop: int) -> Iterator[h5py.Group]:
        steps = f"step {start}" if stop - start == 1 else f"steps {start}:{stop}"
        source = found.kind.name
        with self._open(f"/{source}/measurement_data, {steps},") as file:
            dataset = file[source]["measurement_data"]
            if dataset.shape != found.shape:
                raise ValueError(f"its shape is now {dataset.shape}")
            need_filters(self.path, dataset)
            yield file[source]

    @cached_property
    def _has_extra(self) -> bool:
        with self._open("/extra") as file:
            return "extra" in file

    def _read_json(self, name: str) -> Any:
        with self._open(f"/{name}") as file:
            if name not in file:
                return None
            text = plain(file[name][()])
            return json.loads(text) if isinstance(text, str) and text.strip() else None


def _check_format(path: Path, attributes: dict[str, Any]) -> str:
    version = str(attributes.get("format_version", ""))
    if version.startswith("2.0_") and "new_storage" in version:
        return version
    if attributes.get("file_type") == "feature":
        seen = "is a file of computed features"
    elif version:
        seen = f"has format_version={version!r}"
    else:
        seen = "has no attribute format_version"
    raise NotAnExperiment(
        f"{path}: {seen}, expected a raw experiment with format_version '2.0_..new_storage'; "
        "convert the measurement's folder"
    )


def _read_sample(file: h5py.File) -> dict[str, Any]:
    if "sample" not in file:
        return {}
    found = {name: plain(value) for name, value in file["sample"].attrs.items()}
    units = {
        name.removeprefix("unit_"): found.pop(name)
        for name in list(found)
        if name.startswith("unit_")
    }
    return found | ({"units": units} if units else {})


def _text(column: NDArray[Any]) -> Any:
    """Return a column of the step table; bytes, perhaps cut within a character, become str."""
    return plain(column) if column.dtype.kind in "SO" else column


def _median(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if known.size else float("nan")


def _offsets(lengths: NDArray[Any]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
