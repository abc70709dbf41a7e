from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from oectflow.measurement import Extra, Measurement, Step
from oectflow.pipeline.inputs.raw_format import (
    file_name,
    write_measurement,
)


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        (("#1", "2", "stability", "test_9"), "#1-2-stability-test_9.h5"),
        ((None, "", "  ", 0), "NA-NA-NA-0.h5"),
        (("a/b\\c", 'x:*?"<>|', " p \n q  r ", "t"), "a_b_c-x_______-p _ q r-t.h5"),
        (("c", 1, "x" * 200, "t"), "c-1-" + "x" * 120 + "-t.h5"),
        # 120 characters are 360 bytes, and 248 are left: whole characters stay.
        (("c", 1, "中" * 200, "t"), "c-1-" + "中" * 80 + "-t.h5"),
    ],
)
def test_file_name(parts: tuple[Any, ...], name: str) -> None:
    keys = ("chip_id", "device_number", "description", "test_id")
    assert file_name(dict(zip(keys, parts, strict=True))) == name


def test_write_measurement__whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "experiment.h5"
    path.write_bytes(b"what was there")
    ok = Step("transfer", {"Vg": np.zeros(3), "Id": np.zeros(3)})
    odd = Step("transfer", {"Vg": np.zeros(3), "Id": np.zeros(2)})
    with pytest.raises(ValueError, match=r"step 1: arrays of shape \(2,\) and \(3,\)"):
        write_measurement(path, Measurement({}, [ok, odd]))
    assert path.read_bytes() == b"what was there"
    assert list(tmp_path.iterdir()) == [path]
    write_measurement(path, Measurement({}, [ok]))
    with h5py.File(path) as file:
        assert file["transfer/measurement_data"].shape == (1, 2, 3)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("lengths", "chunk"),
    [
        ([5000] * 20, 5000),  # 40 kB: one step
        ([500] * 20, 1500),  # 4 kB: whole steps, at least 8 kB
        ([500] * 2, 1000),
        ([300_000] * 2, 100_000),  # 2.4 MB: even thirds
        ([5000, 4000], 8192),
        ([5, 4], 9),
        ([0, 0], None),
    ],
)
def test_write_measurement__transient_chunks(
    tmp_path: Path, lengths: list[int], chunk: int | None
) -> None:
    steps = [Step("transient", {"time": np.zeros(n), "Id": np.ones(n)}) for n in lengths]
    path = write_measurement(tmp_path / "x.h5", Measurement({}, steps), compression=1)
    with h5py.File(path) as file:
        dataset = file["transient/measurement_data"]
        assert dataset.chunks == (None if chunk is None else (1, chunk))
        assert dataset.shape == (3, sum(lengths))


@pytest.mark.parametrize(
    ("n_steps", "n_points", "chunk"), [(3, 121, 3), (500, 121, 33), (4, 5000, 1), (2, 0, None)]
)
def test_write_measurement__transfer_chunks(
    tmp_path: Path, n_steps: int, n_points: int, chunk: int | None
) -> None:
    step = Step("transfer", {"Vg": np.zeros(n_points), "Id": np.zeros(n_points)})
    path = write_measurement(tmp_path / "x.h5", Measurement({}, [step] * n_steps))
    with h5py.File(path) as file:
        chunks = file["transfer/measurement_data"].chunks
        assert chunks == (None if chunk is None else (chunk, 2, n_points))


def test_write_measurement__columns_of_one_name_and_two_units_stay_apart(tmp_path: Path) -> None:
    x = np.arange(3.0)
    steps = [
        Step("transfer", {"Vg": x, "Id": x}, extra={"T": Extra(x + i, f"T ({unit})", unit)})
        for i, unit in enumerate(["K", "°C", "K"])
    ]
    path = write_measurement(tmp_path / "a.h5", Measurement({"test_id": "test_1"}, steps))
    with h5py.File(path) as file:
        extra = file["extra/transfer"]
        assert {name: extra[name].attrs["units"] for name in extra} == {"T": "K", "T_2": "°C"}
        np.testing.assert_array_equal(extra["T"][0], x)
        np.testing.assert_array_equal(extra["T_2"][1], x + 1)
        assert np.isnan(extra["T"][1]).all()
