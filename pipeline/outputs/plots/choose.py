"""Choose what to draw: a variable of the results, its status and its devices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from oectflow.errors import OutputError, did_you_mean
from oectflow.pipeline.outputs.plots.axes import literal
from oectflow.pipeline.outputs.trouble import GOOD

if TYPE_CHECKING:
    import xarray as xr


class Chosen(NamedTuple):
    """A variable with one entry per experiment, step and cycle, and information about it.

    Attributes
    ----------
    values
        Dimensions ``experiment`` and the requested ones.
    flagged
        True if the status is neither ``ok`` nor ``absent``, or somebody has marked the value; same
        dimensions.  False if the variable has neither status nor marks.
    unit
        SI unit, ``""`` for a pure number.
    label
        The feature's name and the selection, such as ``tau on``.
    description
        Meaning of the number, in one line.
    """

    values: xr.DataArray
    flagged: xr.DataArray
    unit: str
    label: str
    description: str


def choose(
    results: xr.Dataset,
    feature: str,
    selection: Mapping[str, Any],
    dims: tuple[str, ...] = ("step", "cycle"),
) -> Chosen:
    """Select one variable of the results and load it.

    Parameters
    ----------
    results
        A Dataset from :func:`oectflow.open_results`, or a part of it.
    feature
        Name of a variable.
    selection
        Entries along axes, including ``experiment``.
    dims
        Dimensions that may remain besides ``experiment``.

    Raises
    ------
    OutputError
        There is no such variable or entry, or you must choose one entry of a remaining axis.
    """
    if feature not in results.data_vars:
        raise OutputError(
            f"no feature {feature!r} in these results{did_you_mean(feature, map(str, results))}"
        )
    if results[feature].dtype.kind not in "fiu":
        raise OutputError(f"{feature!r} holds words, not numbers; draw its feature")
    selection = dict(selection)
    if "experiment" in selection:
        results = one_experiment(results, str(selection.pop("experiment")))
    results = with_experiments(results)
    values = select(results[feature], feature, selection)
    for dim in values.dims:
        if dim not in ("experiment", *dims):
            entries = ", ".join(f"{dim}={entry!r}" for entry in values[dim].values.tolist())
            raise OutputError(f"{feature!r} has an axis {dim!r}: choose one of {entries}")
    status = f"{values.attrs.get('feature', feature)}_status"
    if status in results:
        known = {dim: entry for dim, entry in selection.items() if dim in results[status].dims}
        flagged = ~select(results[status], status, known).isin(GOOD)
        # One status may stand for all cycles of a step.
        flagged = flagged.broadcast_like(values).transpose(*values.dims)
    else:
        flagged = values.isnull() & False
    mark = f"{values.attrs.get('feature', feature)}_mark"
    if mark in results:
        known = {dim: entry for dim, entry in selection.items() if dim in results[mark].dims}
        marked = select(results[mark], mark, known) != ""
        marked = marked.any([dim for dim in marked.dims if dim not in values.dims])
        flagged = flagged | marked.broadcast_like(values).transpose(*values.dims)
    words = " ".join(
        entry if isinstance(entry, str) else f"{dim} {entry}" for dim, entry in selection.items()
    )
    return Chosen(
        values.load(),
        flagged.load(),
        values.attrs.get("units", ""),
        literal(f"{feature} {words}".strip()),
        literal(values.attrs.get("description", "")),
    )


def select(variable: xr.DataArray, name: str, selection: Mapping[str, Any]) -> xr.DataArray:
    """Return the entries selected along labelled axes; an error names the available ones."""
    for dim, entry in selection.items():
        if dim not in variable.dims:
            raise OutputError(
                f"{name!r} has no axis {dim!r}{did_you_mean(dim, map(str, variable.dims))}"
            )
        entries = variable[dim].values.tolist()
        if not np.isin(entry, entries).all():
            hint = did_you_mean(str(entry), map(str, entries)) if len(entries) < 20 else ""
            raise OutputError(f"{name!r} has no {dim}={entry!r}{hint}")
    return variable.sel(selection)


def with_experiments(results: xr.Dataset) -> xr.Dataset:
    """Return results with an axis of experiments, even if a single one was selected."""
    if "experiment" in results.dims:
        return results
    return results.expand_dims("experiment").assign_coords(
        {key: ("experiment", [results[key].item()]) for key in ("chip_id", "device_id")}
    )


def one_experiment(results: xr.Dataset, experiment_id: str | None = None) -> xr.Dataset:
    """Return the results of one experiment.

    Raises
    ------
    OutputError
        The experiment is missing, or there are several and none was named.
    """
    results = with_experiments(results)
    names = [str(name) for name in results["experiment"].values]
    if experiment_id is None:
        if len(names) != 1:
            raise OutputError(
                f"there are {len(names)} experiments, and this picture shows one: "
                "select it with results.sel(experiment=[name]) or results.isel(experiment=[0])"
            )
        return results.isel(experiment=0)
    if experiment_id not in names:
        raise OutputError(
            f"no results of experiment {experiment_id!r}{did_you_mean(experiment_id, names)}"
        )
    return results.isel(experiment=names.index(experiment_id))


def device_names(values: xr.DataArray) -> list[str]:
    """Return a name for each experiment: its chip and device, and its id if they are not enough.

    Parameters
    ----------
    values
        With the coordinates of results.
    """
    chips, devices = values["chip_id"].values, values["device_id"].values
    ids = values["experiment"].values
    names = [
        f"{chip}, device {device}" if chip and device else str(name)
        for chip, device, name in zip(chips, devices, ids, strict=True)
    ]
    return [
        literal(name if names.count(name) == 1 else f"{name} ({key})")
        for name, key in zip(names, ids, strict=True)
    ]


def spread(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 10th percentile, median and 90th percentile of each row's finite numbers.

    Parameters
    ----------
    values
        Shape (n, m).

    Returns
    -------
    Shape (3, n); NaN for a row without any number.
    """
    out = np.full((3, len(values)), np.nan)
    rows = np.isfinite(values).any(axis=1)
    if rows.any():
        out[:, rows] = np.nanpercentile(values[rows], (10, 50, 90), axis=1)
    return out
