"""Where the samples of each step lie in a raw file: all that is known without reading one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from oectflow.errors import UnreadableFile
from oectflow.measurement import Array, Kind
from oectflow.pipeline.inputs.chunks import read_all


@dataclass(frozen=True)
class Layout:
    """How the steps of one source lie in the file; no sample is read for it.

    Attributes
    ----------
    n_steps
        Number of steps.
    lengths
        Samples per step; for transfer the padded length, an upper bound.  Shape (n_steps,).
    borders
        Ascending step indices from 0 to ``n_steps``: the first step that begins at or after each
        HDF5 chunk.  Where steps begin with chunks, batches cut at borders decompress no chunk
        twice; elsewhere two of them share at most the chunk in which the second begins.
    nbytes_per_sample
        Bytes in memory of one sample of all arrays of the source.
    """

    n_steps: int
    lengths: NDArray[np.int64]
    borders: NDArray[np.int64]
    nbytes_per_sample: int

    def samples(self, start: int = 0, stop: int | None = None) -> int:
        """Return the number of samples in steps ``start:stop``."""
        return int(self.lengths[start:stop].sum())


@dataclass(frozen=True)
class SourceSteps:
    """Metadata of one group of the file.

    Attributes
    ----------
    kind
        What kind of measurement it holds.
    table
        The step table, one record per step.
    optional
        Arrays that have a dataset of their own in this file.
    shape, chunks
        Of ``measurement_data``; ``chunks`` is None where it is stored in one piece.
    starts, stops
        Samples of each step along the last axis.  Shape (n_steps,).
    """

    kind: Kind
    table: NDArray[Any]
    optional: tuple[Array, ...]
    shape: tuple[int, ...]
    chunks: tuple[int, ...] | None
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]

    def oddities(self) -> list[str]:
        """Say where the step table contradicts the samples: steps that overlap, samples of none."""
        if self.kind.layout == "sweeps":
            return []
        order = np.argsort(self.starts, kind="stable")
        order = order[self.stops[order] > self.starts[order]]
        ends = np.maximum.accumulate(self.stops[order])
        overlap = np.minimum(ends[:-1], self.stops[order[1:]]) - self.starts[order[1:]]
        covered = int((self.stops - self.starts).sum() - overlap.clip(0).sum())
        left_out = self.shape[-1] - covered
        found = []
        if (overlap > 0).any():
            i = int(np.argmax(overlap > 0))
            steps = sorted((int(order[i]), int(order[i + 1])))
            found.append(
                f"/{self.kind.name}: {int((overlap > 0).sum())} steps overlap with others, first "
                f"steps {steps[0]} and {steps[1]} by {int(overlap[i]):,} samples"
            )
        if left_out:
            found.append(
                f"/{self.kind.name}: {left_out:,} of {self.shape[-1]:,} samples belong to no step"
            )
        return found

    def layout(self) -> Layout:
        """Return the lengths of the steps, and which of them begin with an HDF5 chunk."""
        n_steps = len(self.table)
        if self.kind.layout == "sweeps":
            every = self.chunks[0] if self.chunks else 1
            first = np.arange(0, n_steps, every)
        elif self.chunks:
            # A step without samples begins where its predecessor does.
            begins = np.maximum.accumulate(self.starts)
            first = np.searchsorted(begins, np.arange(0, self.shape[1], self.chunks[1]))
        else:
            first = np.arange(n_steps)
        return Layout(
            n_steps,
            self.stops - self.starts,
            np.unique(np.concatenate([[0], first, [n_steps]])).astype(np.int64),
            8 * (len(self.kind.rows) + len(self.optional)),
        )


def read_source(file: h5py.File, path: Path, kind: Kind) -> SourceSteps:
    """Read the step table of a group, and check the shape of its samples against it.

    Raises
    ------
    UnreadableFile
        A dataset is missing, or has another shape than the steps need.
    """
    source, group = kind.name, file[kind.name]
    for name in ("measurement_data", "step_info_table"):
        if name not in group:
            raise UnreadableFile(
                f"{path}: there is no dataset /{source}/{name}; "
                "the conversion was not finished, convert the measurement again"
            )
    data = group["measurement_data"]
    table = group["step_info_table"]
    if table.ndim != 1 or table.dtype.names is None:
        raise UnreadableFile(
            f"{path}: /{source}/step_info_table is {table.dtype} of shape {table.shape}, "
            "expected one record per step; convert the measurement again"
        )
    records = read_all(table)
    n_rows, n_steps = len(kind.rows), len(records)
    sweeps = kind.layout == "sweeps"
    expected = (n_steps, n_rows, "n_points") if sweeps else (n_rows, "n_samples")
    fits = len(data.shape) == len(expected) and all(
        isinstance(want, str) or want == got for want, got in zip(expected, data.shape, strict=True)
    )
    if not fits or data.dtype.kind not in "fiu":
        raise UnreadableFile(
            f"{path}: /{source}/measurement_data is {data.dtype} of shape {data.shape}, expected "
            f"numbers of shape ({', '.join(map(str, expected))}) for the {n_steps} steps in its "
            "table; convert the measurement again"
        )
    optional = tuple(array for array in kind.optional if array.dataset in group)
    for array in optional:
        shape = group[array.dataset].shape
        if shape != data.shape[:-2] + data.shape[-1:]:
            raise UnreadableFile(
                f"{path}: /{source}/{array.dataset} has the shape {shape}, measurement_data "
                f"{data.shape}; convert the measurement again"
            )
    if sweeps:
        starts = np.zeros(n_steps, np.int64)
        stops = np.full(n_steps, data.shape[2], np.int64)
    else:
        starts, stops = _ranges(path, source, records, data.shape[1])
    return SourceSteps(kind, records, optional, data.shape, data.chunks, starts, stops)


def _ranges(
    path: Path, source: str, table: NDArray[Any], total: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where each step of a trace begins and ends."""
    n_steps = len(table)
    names = ("start_data_index", "end_data_index")
    if not set(names) <= set(table.dtype.names or ()):
        # Files without these columns hold steps of one length; the last one takes the rest.
        edges = np.arange(n_steps + 1, dtype=np.int64) * (total // max(n_steps, 1))
        edges[n_steps:] = total
        return edges[:-1], edges[1:]
    # A step without data has no range: NaN, or twice the same number.
    ranges = np.nan_to_num(np.array([table[name] for name in names], np.float64), nan=0.0)
    wrong = np.flatnonzero((ranges[0] < 0) | (ranges[1] < ranges[0]) | (ranges[1] > total))
    if wrong.size:
        i = wrong[0]
        raise UnreadableFile(
            f"{path}: /{source}/step_info_table puts step {i} at samples "
            f"{ranges[0, i]:.0f}:{ranges[1, i]:.0f}, but there are {total}; "
            "convert the measurement again"
        )
    starts, stops = ranges.astype(np.int64)
    return starts, stops
