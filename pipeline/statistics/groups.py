"""Values of groups of devices: cycles within steps within devices within chips."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import index
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from oectflow.errors import OutputError, did_you_mean
from oectflow.pipeline.statistics.points import EXPERIMENT, choose, good_values

_LEVELS = (EXPERIMENT, "step", "cycle")
#: Pairs of more groups are no comparison that anybody reads.
MOST_GROUPS = 100


@dataclass(frozen=True)
class Device:
    """One device of a group.

    Attributes
    ----------
    chip, device
        Its ids.
    steps
        The mean of every step that has a value.
    cycles
        The values of each of these steps.
    """

    chip: str
    device: str
    steps: NDArray[np.float64]
    cycles: Sequence[NDArray[np.float64]]

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from others."""
        return self.chip, self.device

    @property
    def mean(self) -> float:
        """The mean of its steps, each of them the mean of its cycles."""
        return float(self.steps.mean())


@dataclass(frozen=True)
class Group:
    """Devices that have something in common.

    Attributes
    ----------
    name
        What they have in common.
    devices
        Those with a value.
    n_without
        Number of devices of which no value is good.
    """

    name: str
    devices: Sequence[Device]
    n_without: int


def groups_of(
    results: xr.Dataset, feature: str, by: str, selection: Mapping[str, Any], *, log: bool
) -> tuple[list[Group], xr.DataArray, list[str]]:
    """Return the groups by a column of the results, the feature, and experiments without a group.

    Raises
    ------
    OutputError
        There is no such feature, axis, entry or column; a value has no logarithm; or there are too
        many groups.
    """
    values = values_of(results, feature, selection, log=log)
    column = _column(values, by)
    names = [_name(value, str(column.attrs.get("units", ""))) for value in column.values.tolist()]
    order = sorted(set(names) - {""}, key=natural)
    if len(order) > MOST_GROUPS:
        raise OutputError(
            f"by={by!r}: {len(order)} groups, expected {MOST_GROUPS} at most; name a column that "
            "several devices have in common"
        )
    ids = [str(name) for name in values[EXPERIMENT].values.tolist()]
    groups = [
        group_of(name, values.isel({EXPERIMENT: [k for k, one in enumerate(names) if one == name]}))
        for name in order
    ]
    return groups, values, [key for key, name in zip(ids, names, strict=True) if not name]


def steps_of(values: xr.DataArray, name: str, steps: slice | Sequence[int]) -> Group:
    """Return all devices with some of their steps only.

    Raises
    ------
    OutputError
        There are no such steps.
    """
    n = values.sizes["step"]
    try:
        chosen = list(range(n)[steps]) if isinstance(steps, slice) else [*map(index, steps)]
    except TypeError:
        raise OutputError(f"{name}={steps!r}: expected a slice, or whole numbers") from None
    if not chosen or min(chosen) < 0 or max(chosen) >= n:
        raise OutputError(f"{name}={steps!r}: expected steps from 0 to {n - 1}")
    return group_of(name, values.isel(step=chosen))


def values_of(
    results: xr.Dataset, feature: str, selection: Mapping[str, Any], *, log: bool
) -> xr.DataArray:
    """Return the good values of a feature along experiment, step and cycle, or their logarithms.

    Raises
    ------
    OutputError
        There is no such feature, axis or entry; or a value has no logarithm.
    """
    if EXPERIMENT not in results.dims:
        raise OutputError("these results have no axis 'experiment'; open all that are compared")
    values, _ = good_values(results, feature, "compute it, or name one that is there")
    if values.dtype.kind not in "fiu":
        raise OutputError(f"{feature!r} holds words, not numbers; name a feature")
    values = choose(values, feature, selection)
    for dim in values.dims:
        if dim not in _LEVELS:
            entries = ", ".join(f"{dim}={entry!r}" for entry in values[dim].values.tolist())
            raise OutputError(f"{feature!r} has an axis {dim!r}: choose one of {entries}")
    for dim in _LEVELS:
        if dim not in values.dims:
            values = values.expand_dims(dim)
    values = values.transpose(*_LEVELS).astype(float).load()
    values = values.where(np.isfinite(values)).assign_attrs(values.attrs)
    if log:
        if bool((values <= 0).any()):
            raise OutputError(
                f"{feature!r} has values of 0 or below, which have no logarithm; compare it "
                "without log=True"
            )
        values = xr.apply_ufunc(np.log, values, keep_attrs=True)
    return values


def _column(values: xr.DataArray, by: str) -> xr.DataArray:
    """Return a value for each experiment."""
    known = [str(name) for name, one in values.coords.items() if one.dims == (EXPERIMENT,)]
    for name in (by, f"sample_{by}"):
        if name in known:
            return values[name]
    hint = did_you_mean(by, [name.removeprefix("sample_") for name in known])
    raise OutputError(
        f"by={by!r}: these results have no such column{hint}; what is known of devices comes from "
        "a table: of.extract(…, samples='devices.csv')"
    )


def group_of(name: str, values: xr.DataArray) -> Group:
    """Return all devices of some values, as :func:`values_of` returns them."""
    n = values.sizes[EXPERIMENT]
    ids = [str(key) for key in values[EXPERIMENT].values.tolist()]
    chips, devices = (
        [str(one) for one in values[key].values.tolist()] if key in values.coords else [""] * n
        for key in ("chip_id", "device_id")
    )
    found: dict[tuple[str, str], list[int]] = {}
    for k in range(n):
        # An experiment that does not say of which device it is has one of its own.
        found.setdefault((chips[k], devices[k] or ids[k]), []).append(k)
    kept = []
    for (chip, device), rows in found.items():
        # Several tests of a device have their steps in common.
        steps = values.values[rows].reshape(-1, values.sizes["cycle"])
        if steps.shape[1] == 1:
            # A value each: of 5,000 steps, a loop over them would take longer than all else.
            means = steps[np.isfinite(steps)]
            cycles = list(means[:, None])
        else:
            cycles = [step[np.isfinite(step)] for step in steps]
            cycles = [step for step in cycles if step.size]
            means = np.array([step.mean() for step in cycles])
        if cycles:
            kept.append(Device(chip, device, means, cycles))
    return Group(name, kept, len(found) - len(kept))


def _name(value: Any, unit: str) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:g} {unit}".strip()
    return str(value)


def natural(name: str) -> list[tuple[int, float, str]]:
    """Sort 10 µm behind 9 µm."""
    parts = re.split(r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)", name)
    return [
        (0, float(part), "") if k % 2 else (1, 0.0, part) for k, part in enumerate(parts) if part
    ]
