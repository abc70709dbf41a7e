"""Mean, scatter and interval of a feature over all devices, and over groups of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from oectflow.pipeline.statistics.compare import estimate
from oectflow.pipeline.statistics.groups import Group, group_of, groups_of, natural, values_of
from oectflow.pipeline.statistics.points import EXPERIMENT

#: Of the bootstrap: the ends of an interval then move by some hundredths of its length.
_DRAWS = 1000


def describe(
    results: xr.Dataset, feature: str, by: Sequence[str] = (), **selection: Any
) -> list[dict[str, Any]]:
    """Describe a feature over all devices, then over the groups that columns make.

    Parameters
    ----------
    results
        As :func:`oectflow.open_results` returns, or a part of it.  Only values with the status
        ``ok`` count.
    feature
        Name of a variable along experiments, steps and cycles.
    by
        Columns that make groups, as :func:`oectflow.compare` takes them.
    selection
        Entries along other axes, such as ``phase="on"``.

    Returns
    -------
    For each group what :func:`oectflow.compare` says of one, with ``group`` and ``by``, the column;
    of all devices both are ``""``.

    Raises
    ------
    OutputError
        There is no such feature, column, axis or entry, or there are too many groups.
    """
    rng = np.random.default_rng(0)
    values = values_of(results, feature, selection, log=False)
    whole = group_of("", values)
    rows = [{"by": "", "group": "", **estimate(whole, _DRAWS, rng, by_chip=False)}]
    for column in by:
        groups = (
            _by_chip(whole, values)
            if column == "chip_id"
            else groups_of(results, feature, column, selection, log=False)[0]
        )
        for group in groups:
            found = estimate(group, _DRAWS, rng, by_chip=column == "chip_id")
            rows.append({"by": column, "group": group.name, **found})
    return rows


def _by_chip(whole: Group, values: xr.DataArray) -> list[Group]:
    """Divide devices by their chips, which is what reading them again would come to."""
    columns = (values[name].values.tolist() for name in ("chip_id", "device_id", EXPERIMENT))
    there: dict[str, set[str]] = {}
    for chip, device, experiment in zip(*columns, strict=True):
        there.setdefault(str(chip), set()).add(str(device) or str(experiment))
    groups = []
    for chip in sorted(there.keys() - {""}, key=natural):
        devices = [one for one in whole.devices if one.chip == chip]
        groups.append(Group(chip, devices, len(there[chip]) - len(devices)))
    return groups
