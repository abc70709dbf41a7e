"""What a report says of devices, against of.compare and plain means."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import oectflow as of
from oectflow.errors import OutputError
from oectflow.pipeline.statistics.describe import describe


def results(n_cycles, rng):
    n, chips = 7, ["a", "a", "a", "b", "b", "c", "c"]
    values = rng.normal(5, 1, (n, 4, n_cycles)) + rng.normal(0, 2, (n, 1, 1))
    values[6] = np.nan
    values[0, 1] = np.nan
    dims = ("experiment", "step", "cycle")
    status = np.where(np.isfinite(values), "ok", "noisy")
    status[1, 0, 0] = "noisy"
    data = {"x": (dims, values, {"units": "S"}), "x_status": (dims, status)}
    if n_cycles == 1:
        data = {k: (dims[:2], v[1][..., 0], *v[2:]) for k, v in data.items()}
    coords = {
        "experiment": [f"t{k}" for k in range(n)], "chip_id": ("experiment", chips),
        "device_id": ("experiment", ["1", "2", "", "1", "2", "1", "2"]),
        "sample_batch": ("experiment", ["I", "I", "I", "I", "I", "II", "II"]),
    }  # fmt: skip
    return xr.Dataset(data, coords)


@pytest.mark.parametrize("n_cycles", [1, 3])
def test_groups_are_those_of_compare(n_cycles):
    found = results(n_cycles, np.random.default_rng(3))
    rows = describe(found, "x", ["sample_batch", "chip_id"])
    assert [(row["by"], row["group"]) for row in rows] == [
        ("", ""), ("sample_batch", "I"), ("sample_batch", "II"),
        ("chip_id", "a"), ("chip_id", "b"), ("chip_id", "c"),
    ]  # fmt: skip
    for by in ("sample_batch", "chip_id"):
        other = of.compare(found, "x", by)
        mine = [row for row in rows if row["by"] == by]
        assert [row["group"] for row in mine] == other.group.values.tolist()
        for k, row in enumerate(mine):
            for name in ("estimate", "sd"):
                assert row[name] == pytest.approx(other[name].values[k], nan_ok=True, rel=1e-12)
            for name in ("n_chips", "n_devices", "n_steps", "n_values", "n_without"):
                assert row[name] == other[name].values[k]
            assert row["level"] == other.level.values[k]
            assert row["status"] == other.status.values[k]
            # Two bootstraps with other draws.
            width = other.estimate_high.values[k] - other.estimate_low.values[k]
            error = pytest.approx(other.estimate_low.values[k], abs=0.15 * width, nan_ok=True)
            assert row["estimate_low"] == error


@pytest.mark.parametrize("n_cycles", [1, 3])
def test_all_devices_by_hand(n_cycles):
    found = results(n_cycles, np.random.default_rng(4))
    (row,) = describe(found, "x")
    good = found.x.where(found.x_status == "ok").values.reshape(7, 4, n_cycles)
    means = []
    for device in good:
        steps = [np.mean(step[np.isfinite(step)]) for step in device if np.isfinite(step).any()]
        if steps:
            means.append(np.mean(steps))
    assert row["estimate"] == pytest.approx(np.mean(means), rel=1e-12)
    assert row["sd"] == pytest.approx(np.std(means, ddof=1), rel=1e-12)
    assert (row["n_chips"], row["n_devices"], row["n_without"]) == (3, 6, 1)
    assert row["n_values"] == np.isfinite(good).sum()
    assert row["level"] == "chip"


def test_what_is_not_there_is_named():
    found = results(1, np.random.default_rng(5))
    with pytest.raises(OutputError, match="no variable 'y'"):
        describe(found, "y")
    with pytest.raises(OutputError, match="no such column"):
        describe(found, "x", ["colour"])
