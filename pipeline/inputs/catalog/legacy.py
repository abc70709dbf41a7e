"""Import the ``catalog.db`` that laboratories already have; it is read, never changed.

The file is copied before it is opened.  SQLite itself writes files beside a database that it only
reads, and on recovery even into the database.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, text

from oectflow.errors import CatalogError, InputError
from oectflow.pipeline.inputs.catalog.facts import attribute_columns, identity_columns, step_counts
from oectflow.pipeline.inputs.catalog.indexing import insert_experiment
from oectflow.pipeline.inputs.catalog.scan import ScanProblem
from oectflow.pipeline.inputs.catalog.schema import experiments, imports
from oectflow.pipeline.inputs.catalog.store import Store, is_foreign_sqlite

_BATCH = 200
_TABLES = {"experiments", "sync_history"}
#: What only the other catalog needs to know, kept for those who look for it.
_KEPT = ("id", "feature_file_path", "v2_feature_metadata", "sync_status")


@dataclass
class ImportReport:
    """Report of the import of another catalog.

    Attributes
    ----------
    path
        The other catalog.
    n_imported, n_known
        Number of experiments that were added; and of those that were known and not changed.
    n_without_file
        Number of added experiments whose raw file is not where the other catalog says.
    problems
        Rows that could not be imported.
    """

    path: str
    n_imported: int = 0
    n_known: int = 0
    n_without_file: int = 0
    problems: list[ScanProblem] = field(default_factory=list)

    def __str__(self) -> str:
        line = (
            f"{self.path}: {self.n_imported:,} imported, {self.n_known:,} known already; "
            f"{self.n_without_file:,} without raw file"
        )
        return "\n".join([line, *(f"{p.path}: {p.reason}" for p in self.problems)])


def is_legacy(path: Path) -> bool:
    """Whether a file is a catalog of the earlier software."""
    if not is_foreign_sqlite(path):
        return False
    with _snapshot(path) as copy:
        return _is_legacy(copy)


def is_imported(store: Store, path: Path) -> bool:
    """Whether the present state of a catalog has been imported."""
    size, mtime_ns = _identity(path)
    where = (imports.c.path == str(path), imports.c.size == size, imports.c.mtime_ns == mtime_ns)
    with store.read() as connection:
        return connection.scalar(select(imports.c.path).where(*where)) is not None


def import_legacy(
    store: Store, path: str | os.PathLike[str], raw_root: str | os.PathLike[str] | None
) -> ImportReport:
    """Import a catalog; see :meth:`oectflow.pipeline.inputs.catalog.Catalog.import_legacy`."""
    source = Path(path).expanduser().absolute()
    if not source.is_file():
        raise CatalogError(f"{path}: there is no such file")
    identity = _identity(source)
    with _snapshot(source) as copy:
        if not _is_legacy(copy):
            raise CatalogError(
                f"{path}: is no catalog of the earlier software (a SQLite file with the "
                f"tables {' and '.join(sorted(_TABLES))})"
            )
        rows = copy.execute("SELECT * FROM experiments ORDER BY id").fetchall()
    roots = [Path(raw_root).expanduser().absolute()] if raw_root is not None else []
    # Unless told otherwise, that software keeps data/catalog.db and data/raw.
    roots = roots or [source.parent / "raw", source.parent]
    report = ImportReport(str(source))
    for start in range(0, len(rows), _BATCH):
        with store.write() as connection:
            for row in rows[start : start + _BATCH]:
                _import_row(connection, dict(row), roots, report)
    with store.write() as connection:
        connection.execute(delete(imports).where(imports.c.path == str(source)))
        values = {"path": str(source), "size": identity[0], "mtime_ns": identity[1]}
        connection.execute(insert(imports).values(values))
        if not store.on_sqlite:
            # Numbers were given by hand; the next one must be a new one.
            highest = select(func.coalesce(func.max(experiments.c.id), 1)).scalar_subquery()
            sequence = func.pg_get_serial_sequence(text("'experiments'"), text("'id'"))
            connection.execute(select(func.setval(sequence, highest)))
    return report


def _import_row(
    connection: Connection, row: Mapping[str, Any], roots: Sequence[Path], report: ImportReport
) -> None:
    relative = str(row.get("raw_file_path") or "")
    test_id = str(row.get("test_id") or Path(relative).stem)
    subject = f"{report.path}, row {row.get('id')}"
    if not test_id:
        report.problems.append(ScanProblem(subject, "has neither a test_id nor a raw file"))
        return
    try:
        identity = identity_columns(
            test_id, str(row.get("chip_id") or ""), str(row.get("device_id") or "")
        )
    except InputError as error:
        report.problems.append(ScanProblem(subject, str(error)))
        return
    wanted = experiments.c.test_id == identity["test_id"]
    if connection.scalar(select(experiments.c.id).where(wanted)) is not None:
        report.n_known += 1
        return
    path = next((p for root in roots if (p := root / relative).is_file()), roots[0] / relative)
    present = bool(relative) and path.is_file()
    report.n_without_file += not present
    file = {
        "path": str(path) if relative else "",
        "size": int(row.get("raw_file_size") or 0),
        "mtime_ns": 0,
        "scanned_ns": 0,
        "problem": "" if present else "the file is not where the imported catalog has it",
        "legacy": json.dumps({key: row[key] for key in _KEPT if row.get(key) is not None}),
    }
    columns = identity | attribute_columns(row, step_counts(row))
    columns["file_state"] = "unscanned" if present else "missing"
    row_id = row.get("id")
    taken = select(experiments.c.id).where(experiments.c.id == row_id)
    if not isinstance(row_id, int) or connection.scalar(taken) is not None:
        row_id = None
    insert_experiment(connection, columns, file, workflow=_workflow(row), row_id=row_id)
    report.n_imported += 1


def _workflow(row: Mapping[str, Any]) -> dict[str, Any]:
    try:
        parameters = json.loads(row.get("workflow_metadata") or "{}")
    except (TypeError, ValueError):
        # The raw file has it; the next scan reads it from there.
        return {}
    return parameters if isinstance(parameters, dict) else {}


@contextmanager
def _snapshot(path: Path) -> Iterator[sqlite3.Connection]:
    """Give a connection to a copy of a database, with what its journal still holds."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "catalog.db"
        try:
            for suffix in ("", "-wal", "-journal"):
                part = path.with_name(path.name + suffix)
                if part.exists():
                    shutil.copyfile(part, copy.with_name(copy.name + suffix))
        except OSError as error:
            raise CatalogError(f"{path}: cannot be read ({error.strerror})") from error
        with closing(sqlite3.connect(copy)) as connection:
            connection.row_factory = sqlite3.Row
            try:
                yield connection
            except sqlite3.DatabaseError as error:
                raise CatalogError(
                    f"{path}: cannot be read as SQLite: {error}; close the program that is writing "
                    "it and try again"
                ) from error


def _is_legacy(connection: sqlite3.Connection) -> bool:
    rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    return {row["name"] for row in rows} >= _TABLES


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
