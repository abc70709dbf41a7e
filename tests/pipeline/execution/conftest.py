"""A small laboratory, and one cluster for the session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dask
import pytest
from distributed import Client, LocalCluster

from oectflow.cluster.connect import connect
from oectflow.pipeline.inputs.simulate import simulate_device


def write_lab(folder: Path, n: int = 3) -> list[Path]:
    """Write ``n`` small experiments: different sizes, n- and p-type."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for i in range(n):
        device = simulate_device(
            i,
            polarity="p" if i == 1 else "n",
            n_transfer=4 + i,
            n_transient=5,
            n_points=41,
            n_cycles=4 + i,
            period=0.06,
            tau_on=4e-3,
            tau_off=6e-3,
            device_number=str(i + 1),
            test_id=f"test_{i}",
        )
        paths.append(device.write(folder / f"device{i}.h5"))
    return paths


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A folder of three small raw files."""
    write_lab(tmp_path / "raw")
    return tmp_path / "raw"


@pytest.fixture(scope="session")
def session_client() -> Iterator[Client]:
    """Two worker processes for all tests that need some."""
    with connect("local", n_workers=2, memory="4 GiB", dashboard_port=0) as client:
        yield client


@pytest.fixture
def client(session_client: Client) -> Iterator[Client]:
    """The cluster, as the active client of the test."""
    with session_client.as_current():
        yield session_client


@pytest.fixture
def mortal_client() -> Iterator[Client]:
    """Workers whose death is held against a task at once, so that tests are short."""
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        yield client
