"""A laboratory with a catalog: two chips, and two tests of one device."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numba
import platformdirs
import pytest
import yaml
from distributed import Client

from oectflow.cluster.connect import connect
from oectflow.pipeline.inputs.simulate import SimulatedExperiment, simulate_device
from oectflow.pipeline.manager.experiment import UnifiedExperiment
from oectflow.pipeline.manager.manager import UnifiedExperimentManager

CHIP = "#20250804008"


def _make_device(number: int, **changes: Any) -> SimulatedExperiment:
    options: dict[str, Any] = {
        "n_transfer": 4,
        "n_transient": 3,
        "n_points": 41,
        "n_cycles": 4,
        "period": 0.06,
        "tau_on": 4e-3,
        "tau_off": 6e-3,
        "chip_id": CHIP,
        "device_number": str(number),
        "test_id": f"test_{number}",
        "created_at": datetime(2025, 8, 4) + timedelta(days=number),
    }
    return simulate_device(number, **options | changes)


@pytest.fixture
def make_device() -> Callable[..., SimulatedExperiment]:
    return _make_device


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with ``data/raw``, in which the test runs and which is the user's home."""
    monkeypatch.chdir(tmp_path)
    # Workers need not compile the kernels in every new home.
    compiled = numba.config.CACHE_DIR or platformdirs.user_cache_path("oectflow") / "kernels"
    monkeypatch.setenv("NUMBA_CACHE_DIR", os.fspath(compiled))
    monkeypatch.setenv("HOME", str(tmp_path))
    raw = tmp_path / "data" / "raw"
    raw.mkdir(parents=True)
    for device in (
        _make_device(1),
        _make_device(2, n_transfer=3, n_transient=5, n_cycles=6),
        _make_device(3),
        _make_device(4, device_number="3", n_transfer=5),
        _make_device(5, chip_id="#20250804009"),
    ):
        device.write(raw / device.file_name)
    return tmp_path


@pytest.fixture
def config(lab: Path, url: str) -> Path:
    """``catalog_config.yaml`` in the folder of the laboratory."""
    path = lab / "catalog_config.yaml"
    path.write_text(yaml.safe_dump({"database": {"path": url}}))
    return path


@pytest.fixture
def manager(config: Path) -> Iterator[UnifiedExperimentManager]:
    with UnifiedExperimentManager(config) as opened:
        opened.catalog.scan()
        yield opened


@pytest.fixture
def experiment(manager: UnifiedExperimentManager) -> UnifiedExperiment:
    found = manager.get_experiment(test_id="test_1")
    assert found is not None
    return found


@pytest.fixture(scope="package")
def cluster() -> Iterator[Client]:
    with connect("local", n_workers=2, memory="4 GiB", dashboard_port=0) as client:
        yield client


@pytest.fixture
def client(cluster: Client) -> Iterator[Client]:
    """Two worker processes, as the active client of the test."""
    with cluster.as_current():
        yield cluster
