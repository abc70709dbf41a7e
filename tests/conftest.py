"""Fixtures shared by all tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import pytest

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
