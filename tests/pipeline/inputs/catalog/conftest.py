"""Every test of the catalog runs on SQLite, and on PostgreSQL where one is named.

``OECTFLOW_TEST_POSTGRES`` is the URL of a database in which tests may make and drop schemas.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from sqlalchemy import create_engine, make_url, text

from oectflow.pipeline.inputs.catalog import Catalog
from oectflow.pipeline.inputs.simulate import simulate_device

POSTGRES = "OECTFLOW_TEST_POSTGRES"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database: a file, or a schema of its own in a PostgreSQL database."""
    if request.param == "sqlite":
        yield str(tmp_path / "catalog.db")
        return
    if POSTGRES not in os.environ:
        pytest.skip(f"no PostgreSQL: the environment variable {POSTGRES} is not set")
    server = make_url(os.environ[POSTGRES])
    schema = f"test_{uuid.uuid4().hex}"
    engine = create_engine(server.set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
    mine = server.update_query_dict({"options": f"-csearch_path={schema}"})
    yield mine.render_as_string(hide_password=False)
    with engine.begin() as connection:
        connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
    engine.dispose()


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
