"""One experiment as a labelled tree of arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from oectflow.measurement import get_kind

if TYPE_CHECKING:
    from oectflow.pipeline.inputs.experiment import Experiment


def labelled(experiment: Experiment) -> xr.DataTree:
    """Return what :meth:`oectflow.Experiment.to_xarray` describes."""
    sample = {
        f"sample_{name}": value for name, value in experiment.sample.items() if name != "units"
    }
    root = xr.Dataset(attrs=experiment.attributes | sample)
    tree = xr.DataTree(root, name=experiment.experiment_id)
    for source in experiment.sources:
        kind, n_steps = get_kind(source), experiment.n_steps(source)
        batch = experiment.batch(source, 0, n_steps)
        dims = ("step", kind.sample)
        node = xr.Dataset(coords={"step": np.arange(n_steps)})
        for array in kind.arrays:
            if array.name in batch.arrays:
                name = array.aliases[0] if array.name in batch.values else array.name
                padded = _padded(batch.arrays[array.name], batch.offsets)
                node[name] = (dims, padded, {"units": array.unit})
        extras = [experiment.extra(source, i) for i in range(n_steps)]
        # All steps of a kind have the same ones, NaN where a step had none.
        for name, first in extras[0].items():
            joined = np.concatenate([extra[name].values for extra in extras])
            about = {"units": first.unit, "heading": first.heading}
            node[f"extra_{name}"] = (dims, _padded(joined, batch.offsets), about)
        for value in kind.values:
            numbers = batch.values[value.name]
            if kind.gated or not np.isnan(numbers).all():
                units = {"units": value.unit or "1"}
                node = node.assign_coords({value.name: ("step", numbers, units)})
        if batch.timing_source:
            node = node.assign_coords(timing_source=("step", list(batch.timing_source)))
        tree[source] = xr.DataTree(node)
    return tree


def _padded(values: NDArray[np.float64], offsets: NDArray[np.int64]) -> NDArray[np.float64]:
    lengths = np.diff(offsets)
    out = np.full((len(lengths), lengths.max(initial=0)), np.nan)
    out[np.arange(out.shape[1]) < lengths[:, None]] = values
    return out
