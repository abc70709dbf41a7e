"""A connection to a catalog's database that behaves the same on SQLite and PostgreSQL.

Readers never wait.  Writers take turns: a writing transaction holds the one write lock from its
first statement (``BEGIN IMMEDIATE`` on SQLite, an advisory lock on PostgreSQL).  Therefore, the
data that it has read cannot become outdated, and no transaction can fail because of another one.
"""

from __future__ import annotations

import os
import sqlite3
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from oectflow.errors import CatalogError
from oectflow.pipeline.inputs.catalog.schema import APPLICATION_ID, SCHEMA_VERSION

#: How long a writer waits for its turn.  Transactions take milliseconds; a backup or a vacuum of a
#: large catalog takes seconds.
_PATIENCE_S = 120.0
# Names the write lock among the advisory locks of a PostgreSQL database.
_LOCK = APPLICATION_ID
_MIGRATIONS = Path(__file__).with_name("migrations")


class Store:
    """The database of a catalog, migrated to the current schema.

    Parameters
    ----------
    url_or_path
        A file (made if missing), ``"sqlite:///…"`` or ``"postgresql+psycopg://…"``.

    Attributes
    ----------
    engine
        The engine of SQLAlchemy.
    name
        The file, or the URL without its password and the part after ``?``.
    path
        The SQLite file; None on PostgreSQL.

    Raises
    ------
    CatalogError
        The database cannot be reached, is not a catalog, or was written by a newer version.
    """

    def __init__(self, url_or_path: str | os.PathLike[str]) -> None:
        url = _to_url(url_or_path)
        self.path = Path(url.database or "") if url.get_backend_name() == "sqlite" else None
        self.name = str(self.path or url.set(query={}).render_as_string(hide_password=True))
        self._pid = os.getpid()
        self._closed = False
        if self.path is not None:
            _check_place(self.path)
        self._inode: int | None = None
        self.engine = _make_engine(url)
        weakref.finalize(self, self.engine.dispose)
        try:
            self._migrate()
        except BaseException:
            self.engine.dispose()
            raise
        if self.path is not None:
            self._inode = self.path.stat().st_ino

    @property
    def on_sqlite(self) -> bool:
        """Whether this is a SQLite file."""
        return self.path is not None

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection that sees one fixed state of the catalog."""
        with self._connection(writing=False) as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Give the only connection that may write; it commits everything at the end, or nothing."""
        with self._connection(writing=True) as connection:
            yield connection

    @contextmanager
    def outside_transaction(self) -> Iterator[Connection]:
        """Give a connection for statements like VACUUM."""
        options = {"oectflow_begin": ""} if self.on_sqlite else {"isolation_level": "AUTOCOMMIT"}
        with self._explained(), self.engine.connect() as connection:
            yield connection.execution_options(**options)

    def close(self) -> None:
        """Close the connections.  A later read opens a new one for a moment."""
        self._closed = True
        self.engine.dispose()

    @contextmanager
    def _connection(self, *, writing: bool) -> Iterator[Connection]:
        if os.getpid() != self._pid:
            # Connections do not survive a fork; the parent goes on using its own.
            self.engine.dispose(close=False)
            self._pid = os.getpid()
        self._need_file()
        try:
            with self._explained(), self.engine.connect() as connection:
                if self.on_sqlite:
                    begin = "BEGIN IMMEDIATE" if writing else "BEGIN"
                    connection = connection.execution_options(oectflow_begin=begin)
                elif not writing:
                    connection = connection.execution_options(isolation_level="REPEATABLE READ")
                with connection.begin():
                    if writing and not self.on_sqlite:
                        connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
                    yield connection
        finally:
            if self._closed:
                self.engine.dispose()

    def _need_file(self) -> None:
        """Raise CatalogError where the file is gone: SQLite would go on in one without a name."""
        if self.path is None or self._inode is None:
            return
        try:
            same = self.path.stat().st_ino == self._inode
        except FileNotFoundError:
            same = False
        if not same:
            raise CatalogError(
                f"{self.path}: was deleted or replaced while it was open; put it back or make a "
                "new one by a scan, and open it again"
            )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            raise CatalogError(f"{self.name}: {_reason(error)}") from error

    def _migrate(self) -> None:
        with self.read() as connection:
            if self._version(connection) == SCHEMA_VERSION:
                return
        with self.write() as connection:
            # Another process may have been faster.
            version = self._version(connection)
            if version == SCHEMA_VERSION:
                return
            _upgrade(connection, self.name, version)

    def _version(self, connection: Connection) -> str | None:
        inspector = inspect(connection)
        if inspector.has_table("alembic_version"):
            version = connection.scalar(text("SELECT version_num FROM alembic_version"))
            return None if version is None else str(version)
        tables = sorted(inspector.get_table_names())
        if tables:
            raise CatalogError(
                f"{self.name}: is a database of something else (tables {', '.join(tables[:5])}); "
                "name another file or database"
            )
        return None


def is_url(url_or_path: str | os.PathLike[str]) -> bool:
    """Whether this is the URL of a database rather than a file."""
    return isinstance(url_or_path, str) and "://" in url_or_path


def _to_url(url_or_path: str | os.PathLike[str]) -> URL:
    if not is_url(url_or_path):
        path = Path(url_or_path).expanduser().absolute()
        return URL.create("sqlite", database=str(path))
    try:
        url = make_url(str(url_or_path))
    except (ArgumentError, ValueError):
        # What SQLAlchemy says of it may hold the password.
        raise CatalogError(
            "a database URL cannot be read; expected postgresql+psycopg://user@host/database"
        ) from None
    if url.drivername in ("postgres", "postgresql"):
        url = url.set(drivername="postgresql+psycopg")
    if url.drivername not in ("sqlite", "postgresql+psycopg"):
        raise CatalogError(
            f"a catalog cannot live in {url.drivername!r}; expected a file for SQLite, or "
            "postgresql+psycopg://user@host/database"
        )
    if url.drivername == "sqlite":
        if not url.database or url.database == ":memory:" or url.query:
            raise CatalogError(
                f"{url.set(query={})}: a SQLite catalog needs a plain file; name its path"
            )
        return _to_url(url.database)
    return url


def is_foreign_sqlite(path: Path) -> bool:
    """Whether a file is a SQLite database, but not one of ours; only its header is read."""
    try:
        with path.open("rb") as file:
            head = file.read(100)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise CatalogError(f"{path}: cannot be read ({error.strerror})") from error
    ours = int.from_bytes(head[68:72], "big") == APPLICATION_ID
    return head.startswith(b"SQLite format 3\0") and not ours


def _check_place(path: Path) -> None:
    if path.is_dir():
        raise CatalogError(f"{path}: is a folder, expected a file such as {path / 'catalog.db'}")
    # Before anything is connected: that alone would write into the header.
    if is_foreign_sqlite(path):
        raise CatalogError(f"{path}: is a database of something else; name another file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab"):
            pass
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise CatalogError(f"{path}: cannot be opened ({error.strerror})") from error
    if head and head != b"SQLite format 3\0":
        raise CatalogError(f"{path}: is no SQLite database; name another file")


def _make_engine(url: URL) -> Engine:
    try:
        if url.get_backend_name() == "sqlite":
            engine = create_engine(url, connect_args={"timeout": _PATIENCE_S})
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
            return engine
        return create_engine(url, pool_pre_ping=True)
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        raise CatalogError(
            "a PostgreSQL catalog needs the driver psycopg; pip install 'oectflow[postgres]'"
        ) from error


def _prepare_sqlite(connection: sqlite3.Connection, _: Any) -> None:
    # The driver's own BEGIN comes too late to be IMMEDIATE.
    connection.isolation_level = None
    if connection.execute("PRAGMA page_count").fetchone() == (0,):
        # Before WAL, so that it stands in the file itself from the first moment on.
        mark = f"PRAGMA application_id = {APPLICATION_ID}"
        _patiently(lambda: connection.execute(mark).close())
    # The change to WAL is refused at once, not after a wait, while another process makes it.
    _patiently(lambda: connection.execute("PRAGMA journal_mode = WAL").close())
    for setting in (
        # In WAL mode nothing can be damaged by this; a power cut may cost the last transactions,
        # and what they said can be scanned again.
        "synchronous = NORMAL",
        "foreign_keys = ON",
        "temp_store = MEMORY",
        "cache_size = -65536",
        f"mmap_size = {2**30}",
    ):
        connection.execute(f"PRAGMA {setting}").close()


def _patiently(action: Callable[[], None]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return action()
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _begin_sqlite(connection: Connection) -> None:
    statement = connection.get_execution_options().get("oectflow_begin", "BEGIN")
    if statement:
        connection.exec_driver_sql(statement)


def _upgrade(connection: Connection, name: str, version: str | None) -> None:
    # Alembic takes a third of a second to import, and most openings do not need it.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if version is not None and version not in known:
        raise CatalogError(
            f"{name}: has the schema {version}, this version knows up to {SCHEMA_VERSION}; "
            "upgrade oectflow"
        )
    command.upgrade(config, "head")


def _reason(error: SQLAlchemyError) -> str:
    reason = " ".join(str(getattr(error, "orig", None) or error).split())
    if "database is locked" in reason:
        return (
            f"another program has kept it locked for {_PATIENCE_S:.0f} s; close that, and keep the "
            "file on a local disk (a catalog for several machines belongs into PostgreSQL)"
        )
    if "readonly" in reason or "read-only" in reason:
        return f"cannot be written ({reason}); change the mode of the file and its folder"
    if "disk is full" in reason:
        return "the disk is full; make room and repeat"
    if "malformed" in reason or "not a database" in reason:
        return f"is damaged ({reason}); restore a backup, or delete it and scan again"
    return reason
