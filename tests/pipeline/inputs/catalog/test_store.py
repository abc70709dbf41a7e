"""Databases: opening, migrating, refusing, and being several at once."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from importlib.resources import files
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from oectflow.errors import CatalogError
from oectflow.pipeline.inputs.catalog import Catalog
from oectflow.pipeline.inputs.catalog.schema import SCHEMA_VERSION, metadata
from oectflow.pipeline.inputs.catalog.store import Store


def test_migrations__make_the_tables_of_the_schema(url: str) -> None:
    store = Store(url)
    with store.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
        assert context.get_current_revision() == SCHEMA_VERSION
    store.close()


def test_migrations__newest_is_the_one_we_know() -> None:
    folder = files("oectflow.pipeline.inputs.catalog") / "migrations"
    assert ScriptDirectory(str(folder)).get_current_head() == SCHEMA_VERSION


def test_store__opens_again_without_migrating(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Store(url).close()
    monkeypatch.setattr("oectflow.pipeline.inputs.catalog.store._upgrade", None)
    Store(url).close()


def test_store__of_a_newer_version(url: str) -> None:
    store = Store(url)
    with store.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    store.close()
    with pytest.raises(CatalogError, match="upgrade oectflow"):
        Store(url)


def test_store__nothing_is_written_where_something_fails(url: str) -> None:
    store = Store(url)

    def fail() -> None:
        with store.write() as connection:
            connection.execute(text("INSERT INTO imports VALUES ('a', 1, 1)"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with store.read() as connection:
        assert connection.scalar(text("SELECT count(*) FROM imports")) == 0
    store.close()


def test_store__reader_sees_one_state(url: str) -> None:
    store, other = Store(url), Store(url)
    count = text("SELECT count(*) FROM imports")
    with store.read() as reader:
        assert reader.scalar(count) == 0
        with other.write() as writer:
            writer.execute(text("INSERT INTO imports VALUES ('a', 1, 1)"))
        assert reader.scalar(count) == 0
    with store.read() as reader:
        assert reader.scalar(count) == 1
    store.close()
    other.close()


def test_store__refuses_what_is_none(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("text")
    with pytest.raises(CatalogError, match="no SQLite database"):
        Store(tmp_path / "text.db")
    with pytest.raises(CatalogError, match="is a folder"):
        Store(tmp_path)
    with pytest.raises(CatalogError, match="cannot live in 'mysql'"):
        Store("mysql://host/database")
    with pytest.raises(CatalogError, match="plain file"):
        Store("sqlite://")
    with pytest.raises(CatalogError, match="URL cannot be read"):
        Store("postgresql://host:port/database")
    (tmp_path / "file").touch()
    with pytest.raises(CatalogError, match="cannot be read"):
        Store(tmp_path / "file" / "catalog.db")


def test_store__leaves_the_database_of_something_else_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE bills (id INTEGER)")
    connection.close()
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(CatalogError, match="something else"):
        Catalog(path)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before
    assert [p.name for p in tmp_path.iterdir()] == ["other.db"]


def test_store__server_that_does_not_answer() -> None:
    with pytest.raises(CatalogError) as caught:
        Store("postgresql://me:secret@127.0.0.1:1/nothing?connect_timeout=2")
    assert "secret" not in str(caught.value)


def test_store__sqlite_url_is_a_path(tmp_path: Path) -> None:
    with Catalog(f"sqlite:///{tmp_path / 'catalog.db'}") as catalog:
        assert catalog.name == str(tmp_path / "catalog.db")


def test_store__name_hides_the_password(url: str) -> None:
    with Catalog(url) as catalog:
        assert repr(catalog) == f"<Catalog {catalog.name}>"


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_store__survives_a_fork(url: str) -> None:
    store = Store(url)
    with store.write() as connection:
        connection.execute(text("INSERT INTO imports VALUES ('a', 1, 1)"))
    child = os.fork()
    if child == 0:
        with store.write() as connection:
            connection.execute(text("INSERT INTO imports VALUES ('b', 1, 1)"))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    with store.write() as connection:
        connection.execute(text("INSERT INTO imports VALUES ('c', 1, 1)"))
        assert connection.scalar(text("SELECT count(*) FROM imports")) == 3
    store.close()
