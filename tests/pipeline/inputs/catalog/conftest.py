"""A catalog, and raw files for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from oectflow.pipeline.inputs.catalog import Catalog
from oectflow.pipeline.inputs.simulate import simulate_device


@pytest.fixture
def catalog(url: str) -> Iterator[Catalog]:
    with Catalog(url) as opened:
        yield opened


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    return folder


@pytest.fixture
def make_file(raw: Path) -> Callable[..., Path]:
    """Write a small raw file; attributes of the root can be given, or taken away by None."""

    def make(number: int, name: str | None = None, **attributes: object) -> Path:
        device = simulate_device(
            number,
            n_transfer=2,
            n_transient=1,
            n_points=5,
            n_cycles=int(attributes.pop("cycles", 2)),
            test_id=str(attributes.pop("test_id", f"test_{number}")),
            chip_id=str(attributes.pop("chip_id", "#1")),
            device_number=str(attributes.pop("device_number", number)),
        )
        path = raw / (name or f"sim-test_{number}.h5")
        path.parent.mkdir(parents=True, exist_ok=True)
        device.write(path)
        with h5py.File(path, "r+") as file:
            for key, value in attributes.items():
                if value is None:
                    del file.attrs[key]
                else:
                    file.attrs[key] = value
        # Older than the clock tick within which a scan does not trust the time of a file.
        an_hour_ago = path.stat().st_mtime - 3600
        os.utime(path, (an_hour_ago, an_hour_ago))
        return path

    return make


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20250815)
