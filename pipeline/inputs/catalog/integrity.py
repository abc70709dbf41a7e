"""Check that a catalog is sound and agrees with the disks; maintain it."""

from __future__ import annotations

import glob
import os
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, text, union

from oectflow.errors import CatalogError
from oectflow.pipeline.inputs.catalog.schema import (
    TABLES,
    experiments,
    feature_files,
    feature_set_members,
    feature_sets,
    metadata,
    other_files,
    raw_files,
    samples,
    workflows,
)
from oectflow.pipeline.inputs.catalog.store import Store
from oectflow.pipeline.inputs.hdf5 import content_hash

_ROWS = 1000
_SHOWN = 20


@dataclass(frozen=True)
class CatalogProblem:
    """One problem of a catalog.

    Attributes
    ----------
    kind
        ``"database"``, ``"missing"``, ``"unreadable"``, ``"unscanned"``, ``"changed"``,
        ``"content"``, ``"copy"``, ``"conflict"``, ``"foreign"``, ``"results missing"`` or
        ``"results outdated"``.
    subject
        The test id or the file.
    message
        What is wrong, and what to do.
    """

    kind: str
    subject: str
    message: str


@dataclass(frozen=True)
class ValidationReport:
    """All problems of a catalog."""

    name: str
    problems: list[CatalogProblem]

    @property
    def ok(self) -> bool:
        """Whether there are no problems."""
        return not self.problems

    def __str__(self) -> str:
        if self.ok:
            return f"{self.name}: no problem found"
        kinds = Counter(problem.kind for problem in self.problems)
        lines = [f"{self.name}: " + ", ".join(f"{n:,} {kind}" for kind, n in kinds.items())]
        lines += [f"{p.kind}: {p.subject}: {p.message}" for p in self.problems[:_SHOWN]]
        if len(self.problems) > _SHOWN:
            lines.append(f"… and {len(self.problems) - _SHOWN:,} more")
        return "\n".join(lines)


@dataclass(frozen=True)
class CatalogStats:
    """The content of a catalog in numbers.

    Attributes
    ----------
    n_experiments, n_chips, n_devices, n_workflows
        Devices are counted separately on each chip.
    by_status, by_device_type, by_file_state, by_chip, by_feature
        Number of experiments; for features, only those computed from the present raw file.
    other_files
        Number of files by kind: copies, conflicts, unreadable files, other kinds.
    n_transfer_steps, n_transient_steps
        Over all experiments.
    n_with_features
        Experiments with at least one feature.
    raw_bytes, database_bytes
        Size of all raw files at the last scan, and of the database.
    first_created, last_created
        The oldest and the newest experiment.
    """

    n_experiments: int
    n_chips: int
    n_devices: int
    n_workflows: int
    n_with_features: int
    n_transfer_steps: int
    n_transient_steps: int
    raw_bytes: int
    database_bytes: int
    first_created: datetime | None
    last_created: datetime | None
    by_status: dict[str, int] = field(default_factory=dict)
    by_device_type: dict[str, int] = field(default_factory=dict)
    by_file_state: dict[str, int] = field(default_factory=dict)
    by_chip: dict[str, int] = field(default_factory=dict)
    by_feature: dict[str, int] = field(default_factory=dict)
    other_files: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [
            f"{self.n_experiments:,} experiments on {self.n_devices:,} devices of "
            f"{self.n_chips:,} chips; {self.n_with_features:,} with features",
            f"{self.n_transfer_steps:,} transfer and {self.n_transient_steps:,} transient steps, "
            f"{self.raw_bytes / 1e6:,.1f} MB of raw files",
        ]
        if self.first_created:
            lines.append(f"from {self.first_created} to {self.last_created}")
        for title, counts in (
            ("status", self.by_status),
            ("raw files", self.by_file_state),
            ("other files", self.other_files),
        ):
            if counts:
                lines.append(
                    f"{title}: " + ", ".join(f"{n:,} {word}" for word, n in counts.items())
                )
        lines.append(f"database: {self.database_bytes / 1e6:,.1f} MB")
        return "\n".join(lines)


def validate(store: Store, *, content: bool) -> ValidationReport:
    """Check a catalog against itself and the disks."""
    with store.read() as connection:
        problems = list(_damage(connection)) if store.on_sqlite else []
        # What a damaged database says about files means nothing.
        if not problems:
            problems = [
                *_file_problems(connection, content=content),
                *_other_problems(connection),
                *_result_problems(connection),
            ]
    return ValidationReport(store.name, problems)


def stats(store: Store) -> CatalogStats:
    """Count the content of a catalog."""
    e = experiments.c
    with store.read() as connection:
        devices = select(e.chip_id, e.device_id).distinct().subquery()
        totals = connection.execute(
            select(
                func.count(),
                func.coalesce(func.sum(e.transfer_steps), 0),
                func.coalesce(func.sum(e.transient_steps), 0),
                func.min(e.created_at),
                func.max(e.created_at),
            )
        ).one()
        by_chip = _counts(connection, e.chip_id)
        return CatalogStats(
            n_experiments=totals[0],
            n_chips=len(by_chip),
            n_devices=connection.scalar(select(func.count()).select_from(devices)) or 0,
            n_workflows=connection.scalar(select(func.count()).select_from(workflows)) or 0,
            n_with_features=connection.scalar(
                select(func.count()).select_from(experiments).where(e.features_id.is_not(None))
            )
            or 0,
            n_transfer_steps=int(totals[1]),
            n_transient_steps=int(totals[2]),
            raw_bytes=int(connection.scalar(select(func.sum(raw_files.c.size))) or 0),
            database_bytes=_database_bytes(store, connection),
            first_created=totals[3],
            last_created=totals[4],
            by_status=_counts(connection, e.status),
            by_device_type=_counts(connection, e.device_type),
            by_file_state=_counts(connection, e.file_state),
            by_chip=by_chip,
            by_feature=_feature_counts(connection),
            other_files=_counts(connection, other_files.c.kind),
        )


def backup(store: Store, path: str | os.PathLike[str]) -> Path:
    """Copy a catalog, as it is now, into one SQLite file."""
    target = Path(path).expanduser().absolute()
    if target.exists():
        raise CatalogError(f"{target}: exists; move it away or choose another name")
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        copy = Store(partial)
        with store.read() as source, copy.write() as sink:
            for table in TABLES:
                rows = source.execution_options(yield_per=_ROWS).execute(select(table)).mappings()
                for part in rows.partitions(_ROWS):
                    sink.execute(insert(table), [dict(row) for row in part])
        copy.close()
        partial.replace(target)
    finally:
        for leftover in partial.parent.glob(f"{glob.escape(partial.name)}*"):
            leftover.unlink(missing_ok=True)
    return target


def vacuum(store: Store) -> int:
    """Delete unused rows and rewrite the database; return the number of bytes gained."""
    with store.write() as connection:
        before = _database_bytes(store, connection)
        used = select(experiments.c.workflow_id).where(experiments.c.workflow_id.is_not(None))
        connection.execute(delete(workflows).where(workflows.c.id.not_in(used)))
        used = select(experiments.c.sample_id).where(experiments.c.sample_id.is_not(None))
        connection.execute(delete(samples).where(samples.c.id.not_in(used)))
        owned = select(experiments.c.features_id).where(experiments.c.features_id.is_not(None))
        sets = union(select(feature_files.c.set_id), owned)
        connection.execute(delete(feature_sets).where(feature_sets.c.id.not_in(sets)))
    with store.outside_transaction() as connection:
        if store.on_sqlite:
            connection.execute(text("VACUUM"))
            connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
        else:
            for table in metadata.sorted_tables:
                connection.execute(text(f"VACUUM ANALYZE {table.name}"))
    with store.read() as connection:
        return before - _database_bytes(store, connection)


def remove_missing(store: Store) -> int:
    """Remove the experiments whose raw files are missing; return their number."""
    with store.write() as connection:
        gone = delete(experiments).where(experiments.c.file_state == "missing")
        return int(connection.execute(gone).rowcount)


def _damage(connection: Connection) -> Iterator[CatalogProblem]:
    advice = "restore a backup, or delete the file and scan again"
    for message in connection.scalars(text("PRAGMA integrity_check")):
        if message != "ok":
            yield CatalogProblem("database", "integrity", f"{message}; {advice}")
    for row in connection.execute(text("PRAGMA foreign_key_check")):
        yield CatalogProblem("database", row[0], f"row {row[1]} refers to nothing; {advice}")


def _file_problems(connection: Connection, *, content: bool) -> Iterator[CatalogProblem]:
    columns = (experiments.c.test_id, experiments.c.file_state, *raw_files.c)
    statement = select(*columns).join_from(experiments, raw_files).order_by(experiments.c.id)
    for row in connection.execute(statement).mappings():
        if row["file_state"] != "present":
            reason = row["problem"] or "its raw file has never been scanned"
            yield CatalogProblem(row["file_state"], row["test_id"], f"{row['path']}: {reason}")
            continue
        try:
            status = os.stat(row["path"])  # noqa: PTH116 - paths are plain text here
            if (status.st_size, status.st_mtime_ns) != (row["size"], row["mtime_ns"]):
                message = f"{row['path']}: has changed since the last scan; scan again"
                yield CatalogProblem("changed", row["test_id"], message)
            elif content and content_hash(row["path"]) != row["content_hash"]:
                message = (
                    f"{row['path']}: its bytes are others than at the scan, its size and time are "
                    "not; is the disk failing? Restore the file"
                )
                yield CatalogProblem("content", row["test_id"], message)
        except FileNotFoundError:
            message = f"{row['path']}: has vanished since the last scan"
            yield CatalogProblem("missing", row["test_id"], message)
        except OSError as error:
            message = f"{row['path']}: cannot be read ({error.strerror})"
            yield CatalogProblem("unreadable", row["test_id"], message)


def _other_problems(connection: Connection) -> Iterator[CatalogProblem]:
    o = other_files.c
    for row in connection.execute(select(o.kind, o.path, o.reason).order_by(o.path)):
        yield CatalogProblem(row.kind, row.path, row.reason.removeprefix(f"{row.path}: "))


def _result_problems(connection: Connection) -> Iterator[CatalogProblem]:
    f = feature_files.c
    statement = select(experiments.c.test_id, f.path, f.is_current).join_from(
        feature_files, experiments
    )
    for row in connection.execute(statement.order_by(f.id)):
        if not os.path.exists(row.path):  # noqa: PTH110 - as above
            message = f"{row.path}: has vanished; synchronise its folder"
            yield CatalogProblem("results missing", row.test_id, message)
        elif not row.is_current:
            message = f"{row.path}: the raw file has changed since; extract again"
            yield CatalogProblem("results outdated", row.test_id, message)


def _counts(connection: Connection, column: Any) -> dict[str, int]:
    n = func.count()
    rows = connection.execute(select(column, n).group_by(column).order_by(n.desc(), column))
    return {str(word): int(count) for word, count in rows}


def _feature_counts(connection: Connection) -> dict[str, int]:
    m = feature_set_members.c
    n = func.count()
    owners = select(experiments.c.features_id, n.label("n")).group_by(experiments.c.features_id)
    by_set = owners.subquery()
    rows = connection.execute(
        select(m.name, func.sum(by_set.c.n))
        .join_from(feature_set_members, by_set, by_set.c.features_id == m.set_id)
        .group_by(m.name)
        .order_by(m.name)
    )
    return {name: int(count) for name, count in rows}


def _database_bytes(store: Store, connection: Connection) -> int:
    if store.on_sqlite:
        pages = connection.scalar(text("PRAGMA page_count")) or 0
        return int(pages * (connection.scalar(text("PRAGMA page_size")) or 0))
    size = sum(
        connection.scalar(select(func.pg_total_relation_size(func.to_regclass(table.name)))) or 0
        for table in metadata.sorted_tables
    )
    return int(size)
