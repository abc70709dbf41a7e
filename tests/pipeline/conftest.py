"""Every test of a catalog runs on SQLite, and on PostgreSQL where one is named.

``OECTFLOW_TEST_POSTGRES`` is the URL of a database in which tests may make and drop schemas.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

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
