"""Fixtures shared by all tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import pytest
from distributed import LocalCluster

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real measurements and certified references, kept beside the checkout."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"reference data not found: {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def expected(shared_data: Path) -> dict[str, Any]:
    """Values computed by the software in use today for the files in ``oect_infra/``."""
    return json.loads((shared_data / "oect_infra" / "expected.json").read_text())


class Computed(Exception):
    """Dask was asked for values."""


def _refuse(graph: object, keys: object, **options: object) -> None:
    raise Computed("something lazy was computed")


@pytest.fixture
def nothing_computes() -> Iterator[type[Computed]]:
    """Dask computes nothing in this test; the value is what is raised where it should."""
    with dask.config.set(scheduler=_refuse):
        yield Computed


@pytest.fixture(scope="session")
def threads_of_dask() -> Callable[..., LocalCluster]:
    """Start a cluster whose workers are threads of this process.

    Each of its pages takes a free port of 127.0.0.1.  Dask's own defaults are port 8787, which
    somebody else may have, and every address of the machine.
    """

    def start(n_workers: int, threads_per_worker: int = 1) -> LocalCluster:
        return LocalCluster(
            n_workers=n_workers,
            threads_per_worker=threads_per_worker,
            processes=False,
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address="127.0.0.1:0",
        )

    return start
