"""Statistics over devices in a report: over all devices, over batches and over chips."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from oectflow.pipeline.outputs.html.summary import FeatureSummary
from oectflow.pipeline.outputs.plots.axes import with_unit
from oectflow.pipeline.statistics.describe import describe
from oectflow.pipeline.statistics.groups import MOST_GROUPS

if TYPE_CHECKING:
    import xarray as xr

#: What columns that make groups are called.
NAMES = {"sample_batch": "batch", "chip_id": "chip"}
#: What an interval is that of, by the level that was drawn again.
LEVEL_NAMES = {
    "chip": "further chips",
    "device": "further devices of this chip",
    "step": "further steps of this device",
    "cycle": "further cycles of this step",
    "none": "",
}
_LEVELS = {"experiment", "step", "cycle"}


def groupings(results: xr.Dataset) -> list[str]:
    """Return the columns that divide the devices of a report into several groups."""
    found = []
    for column in NAMES:
        if column in results.coords:
            names = {str(value) for value in results[column].values.tolist()} - {""}
            if 1 < len(names) <= MOST_GROUPS:
                found.append(column)
    return found


def statistics_of(
    loaded: xr.Dataset, feature: FeatureSummary, by: list[str]
) -> Iterator[dict[str, Any]]:
    """Yield a row for each entry of a feature and each group, with its numbers as text.

    Parameters
    ----------
    loaded
        Results with this feature in memory.
    feature, by
        The feature, and the columns that define the groups.
    """
    if not feature.was_measured or feature.name not in loaded:
        return
    labelled = {dim for entry in feature.entries for dim in entry}
    if not {str(dim) for dim in loaded[feature.name].dims} <= _LEVELS | labelled:
        # Along other axes it is no number of a device.
        return
    for entry in feature.entries:
        unit = feature.unit_of(entry)
        for row in describe(loaded, feature.name, by, **entry):
            if not row["by"] and not row["n_devices"]:
                break
            numbers = ("estimate", "sd", "estimate_low", "estimate_high")
            yield row | {
                "feature": feature.name,
                "entry": " ".join(entry.values()),
                "by": NAMES.get(row["by"], ""),
                **{name: with_unit(row[name], unit) for name in numbers},
            }
