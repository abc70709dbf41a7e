"""One raw HDF5 file, read-only: its metadata, its steps, and ranges of steps in one read.

The file holds one experiment: ``/transfer`` (sweeps, padded with NaN to the longest one) and
``/transient`` (current traces, one after the other), each with a table of its steps.  No handle
outlives a call, so an :class:`Experiment` may be pickled, kept, and used in any thread or process.
"""

from __future__ import annotations

import html
import json
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from oectflow.errors import NotAnExperiment, UnreadableFile, did_you_mean
from oectflow.pipeline.inputs.chunks import need_filters, read_rows
from oectflow.pipeline.inputs.hdf5 import FileIdentity, content_hash, explain, open_file, plain
from oectflow.pipeline.inputs.step_layout import ARRAYS, Layout, read_source
from oectflow.pipeline.inputs.timing import complete_from_trace, declared_timing

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

__all__ = ["Block", "Experiment", "FileIdentity", "Layout"]

_UNITS = {"Vg": "V", "Id": "A", "continuous_time": "s", "original_time": "s", "drain_current": "A"}
_VALUES = {"sampling_interval": "s", "gate_period": "s", "duty_cycle": ""}


@dataclass(frozen=True)
class Block:
    """Consecutive steps of one source, as contiguous arrays.

    Attributes
    ----------
    arrays
        Samples of all steps, one after the other: ``Vg`` (V), ``Id`` (A), or ``continuous_time``,
        ``original_time`` (s), ``drain_current`` (A).  Each of shape (n_samples,), float64.
    offsets
        Step ``i`` is ``offsets[i]:offsets[i + 1]``.  Shape (n_steps + 1,), int64.
    values
        For transient ``sampling_interval``, ``gate_period`` (s) and ``duty_cycle``, NaN where
        unknown.  Each of shape (n_steps,), float64.
    first_step
        Index of the first step along its source.
    timing_source
        For transient, where the gate period of each step is from: ``"step"``, ``"workflow"``,
        ``"trace"`` or ``"unknown"`` (``"caller"`` where somebody puts in their own).
    """

    arrays: dict[str, NDArray[np.float64]]
    offsets: NDArray[np.int64]
    values: dict[str, NDArray[np.float64]]
    first_step: int
    timing_source: tuple[str, ...]


class Experiment:
    """One raw experiment file.

    Parameters
    ----------
    path
        The HDF5 file.  Only metadata is read now.

    Attributes
    ----------
    path
        The file.
    identity
        Size and modification time when the metadata was read.
    experiment_id
        The attribute ``test_id``, or the file's name without suffix.
    chip_id, device_id
        The attributes ``chip_id`` and ``device_number``, ``""`` where absent.
    attributes
        All attributes of the file's root, as str, int, float or bool.
    format_version
        ``"2.0_direct_new_storage"`` or ``"2.0_new_storage"``, depending on the writer.
    sources
        ``"transfer"`` and ``"transient"``, those with at least one step.

    Raises
    ------
    UnreadableFile
        The file is missing, empty, truncated, damaged, no HDF5, or another process writes it.
    NotAnExperiment
        It is HDF5 of another kind.

    Examples
    --------
    >>> experiment = Experiment("test_1.h5")  # doctest: +SKIP
    >>> experiment.step("transfer", 0)["Vg"]  # doctest: +SKIP
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.identity = FileIdentity.of(self.path)
        with self._open("the metadata") as file:
            attributes = {name: plain(value) for name, value in file.attrs.items()}
            self.format_version = _check_format(self.path, attributes)
            found = {name: read_source(file, self.path, name) for name in ARRAYS if name in file}
        self.attributes: dict[str, Any] = attributes
        self.experiment_id = str(attributes.get("test_id") or self.path.stem)
        self.chip_id = str(attributes.get("chip_id", ""))
        self.device_id = str(attributes.get("device_number", ""))
        self._sources = found
        self.sources: tuple[str, ...] = tuple(name for name in found if self.n_steps(name))

    def n_steps(self, source: str) -> int:
        """Return the number of steps of ``"transfer"`` or ``"transient"``, 0 where it is absent."""
        _check_source(source)
        return len(self._sources[source].table) if source in self._sources else 0

    def layout(self, source: str) -> Layout:
        """Return how the steps of a source lie in the file, without reading a sample."""
        if not self.n_steps(source):
            nothing = np.zeros(0, np.int64)
            return Layout(0, nothing, np.zeros(1, np.int64), 8 * len(ARRAYS[source]))
        return self._sources[source].layout()

    def step_table(self, source: str) -> pd.DataFrame:
        """Return the step table: one row per step, the file's columns, text as ``str``."""
        import pandas as pd

        if not self.n_steps(source):
            return pd.DataFrame()
        table = self._sources[source].table
        return pd.DataFrame({name: _text(table[name]) for name in table.dtype.names or ()})

    @cached_property
    def workflow(self) -> Any:
        """The workflow that the instrument ran, parsed from ``/raw/workflow``; None if absent."""
        return self._read_json("raw/workflow")

    @cached_property
    def test_info(self) -> Any:
        """The instrument's description of the test, parsed from ``/raw/json``; None if absent."""
        return self._read_json("raw/json")

    def content_hash(self) -> str:
        """Return the XXH3-128 hash of the file's bytes, in hexadecimal."""
        try:
            return content_hash(self.path)
        except OSError as error:
            raise UnreadableFile(explain(self.path, "the file", error)) from error

    def step(self, source: str, index: int) -> dict[str, Any]:
        """Read one step.

        Parameters
        ----------
        source
            ``"transfer"`` or ``"transient"``.
        index
            Which step; negative counts from the end.

        Returns
        -------
        Float64 arrays by name, as in :class:`Block`, and for transient the floats
        ``sampling_interval``, ``gate_period`` (s) and ``duty_cycle``, NaN where unknown.  A
        transfer step has no padding: points without ``Vg`` are dropped, so a step of nothing but
        NaN has arrays of length 0.  A transient keeps every sample, NaN or not.

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
        block = self.block(source, start, start + 1)
        return block.arrays | {name: float(value[0]) for name, value in block.values.items()}

    def block(
        self, source: str, start: int, stop: int, arrays: Collection[str] | None = None
    ) -> Block:
        """Read the steps ``start:stop`` of a source, in one read of one contiguous range.

        Parameters
        ----------
        source
            ``"transfer"`` or ``"transient"``.
        start, stop
            Range of the steps.
        arrays
            Names of the arrays to read; None for all.  Beyond them is read what the timing takes
            where it is not declared.

        Returns
        -------
        The samples, without the padding of transfer steps, and what is known of the timing; see
        :meth:`step`.

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
        names = [name for name in ARRAYS[source] if arrays is None or name in arrays]
        if source not in self._sources or start == stop:
            values = {name: np.zeros(0) for name in _VALUES} if source == "transient" else {}
            empty = {name: np.zeros(0) for name in names}
            return Block(empty, np.zeros(1, np.int64), values, start, ())
        found = self._sources[source]
        if source == "transfer":
            data = self._read_sweeps(start, stop)
            measured = ~np.isnan(data[:, 0])
            sweeps = {name: data[:, ARRAYS[source].index(name)][measured] for name in names}
            return Block(sweeps, _offsets(measured.sum(axis=1)), {}, start, ())
        starts, stops = found.starts[start:stop], found.stops[start:stop]
        offsets = _offsets(stops - starts)
        timing = declared_timing(found.table[start:stop], lambda: self.workflow)
        needed = set(names)
        if np.isnan(timing.sampling_interval).any():
            needed.add("original_time")
        if np.isnan(timing.gate_period).any():
            needed.add("drain_current")
        traces = self._read_traces(start, stop, [n for n in ARRAYS[source] if n in needed], offsets)
        nothing = np.zeros(offsets[-1])
        timing = complete_from_trace(
            timing,
            traces.get("original_time", nothing),
            traces.get("drain_current", nothing),
            offsets,
        )
        values = {name: getattr(timing, name) for name in _VALUES}
        kept = {name: traces[name] for name in names}
        return Block(kept, offsets, values, start, timing.source)

    def to_xarray(self) -> xr.DataTree:
        """Read everything into one labelled tree, for exploring.

        Returns
        -------
        A node ``transfer`` with ``Vg`` and ``Id`` along (step, point), and a node ``transient``
        with ``continuous_time``, ``original_time`` and ``drain_current`` along (step, sample), and
        the timing along (step,).  Shorter steps are padded with NaN.  Units are in the attributes
        of each variable, the file's attributes at the root.
        """
        import xarray as xr

        tree = xr.DataTree(xr.Dataset(attrs=self.attributes), name=self.experiment_id)
        for source in self.sources:
            block = self.block(source, 0, self.n_steps(source))
            dims = ("step", "point" if source == "transfer" else "sample")
            node = xr.Dataset(coords={"step": np.arange(self.n_steps(source))})
            for name, values in block.arrays.items():
                node[name] = (dims, _padded(values, block.offsets), {"units": _UNITS[name]})
            for name, values in block.values.items():
                node = node.assign_coords({name: ("step", values, {"units": _VALUES[name] or "1"})})
            if block.timing_source:
                node = node.assign_coords(timing_source=("step", list(block.timing_source)))
            tree[source] = xr.DataTree(node)
        return tree

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
        for source in ARRAYS:
            lengths = self.layout(source).lengths
            word = "no steps"
            if len(lengths):
                upper = "up to " if source == "transfer" or lengths.min() < lengths.max() else ""
                unit = "points" if source == "transfer" else "samples"
                steps = f"{len(lengths):,} step" + "s" * (len(lengths) > 1)
                word = f"{steps} of {upper}{lengths.max():,} {unit}"
            rows.append((source, word))
        return rows

    @contextmanager
    def _open(self, what: str) -> Iterator[h5py.File]:
        if FileIdentity.of(self.path) != self.identity:
            raise UnreadableFile(
                f"{self.path}: changed since its metadata was read; open the experiment again"
            )
        with open_file(self.path, what) as file:
            yield file

    def _read_sweeps(self, start: int, stop: int) -> NDArray[np.float64]:
        with self._samples("transfer", start, stop) as dataset:
            return np.asarray(dataset[start:stop], np.float64)

    def _read_traces(
        self, start: int, stop: int, names: Sequence[str], offsets: NDArray[np.int64]
    ) -> dict[str, NDArray[np.float64]]:
        """Read arrays of transient steps, which usually lie one after the other."""
        found = self._sources["transient"]
        starts, stops = found.starts[start:stop], found.stops[start:stop]
        filled = stops > starts
        low, high = (starts[filled].min(), stops[filled].max()) if filled.any() else (0, 0)
        rows = [ARRAYS["transient"].index(name) for name in names]
        with self._samples("transient", start, stop) as dataset:
            data = read_rows(dataset, rows, int(low), int(high))
        if high - low != offsets[-1] or np.any(starts[filled] - low != offsets[:-1][filled]):
            # Steps with gaps or in another order: no known writer does it, the table allows it.
            samples = np.concatenate([np.arange(a, b) for a, b in zip(starts, stops, strict=True)])
            data = [row[samples - low] for row in data]
        return dict(zip(names, data, strict=True))

    @contextmanager
    def _samples(self, source: str, start: int, stop: int) -> Iterator[h5py.Dataset]:
        steps = f"step {start}" if stop - start == 1 else f"steps {start}:{stop}"
        with self._open(f"/{source}/measurement_data, {steps},") as file:
            dataset = file[source]["measurement_data"]
            if dataset.shape != self._sources[source].shape:
                raise ValueError(f"its shape is now {dataset.shape}")
            need_filters(self.path, dataset)
            yield dataset

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


def _check_source(source: str) -> None:
    if source not in ARRAYS:
        raise ValueError(f"unknown source {source!r}{did_you_mean(source, ARRAYS)}")


def _text(column: NDArray[Any]) -> Any:
    """Return a column of the step table; bytes, perhaps cut within a character, become str."""
    return plain(column) if column.dtype.kind in "SO" else column


def _offsets(lengths: NDArray[Any]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _padded(values: NDArray[np.float64], offsets: NDArray[np.int64]) -> NDArray[np.float64]:
    lengths = np.diff(offsets)
    out = np.full((len(lengths), lengths.max(initial=0)), np.nan)
    out[np.arange(out.shape[1]) < lengths[:, None]] = values
    return out
