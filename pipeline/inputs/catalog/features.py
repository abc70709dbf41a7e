"""Features of each experiment in the catalog, from the result files.

All these data come from the Parquet files, and can be read from them again at any time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from oectflow.checksums import open_checked, read_text
from oectflow.errors import CatalogError, DamagedFile, InputError
from oectflow.local_path import local_path
from oectflow.pipeline.inputs.catalog.facts import identity_columns, step_columns
from oectflow.pipeline.inputs.catalog.feature_sets import intern_set
from oectflow.pipeline.inputs.catalog.indexing import insert_experiment, refresh_features
from oectflow.pipeline.inputs.catalog.scan import ScanProblem, below
from oectflow.pipeline.inputs.catalog.schema import (
    experiments,
    feature_files,
    feature_set_members,
)
from oectflow.pipeline.inputs.catalog.store import Store
from oectflow.result_metadata import KEY, unpack

#: The key of the results' schema metadata, and the newest layout that this version reads.
_FORMAT = 3
_BATCH = 50


@dataclass(frozen=True)
class FeatureRecord:
    """One feature of one experiment.

    Attributes
    ----------
    name, fingerprint
        The feature, and a fingerprint of its definition and code.
    path
        The Parquet file that has it.
    created_at
        When the file was written, in UTC.
    config
        The feature set of that run.
    counts
        Number of values by status word.
    is_current
        Whether it was computed from the present content of the raw file.
    """

    name: str
    fingerprint: str
    path: Path
    created_at: datetime | None
    config: str
    counts: Mapping[str, int]
    is_current: bool


@dataclass
class SyncReport:
    """Report of reading a folder of results.

    Attributes
    ----------
    folder
        The folder.
    n_recorded, n_unchanged, n_removed
        Number of result files that were new or had changed; that were known; and that are gone.
    n_foreign
        Parquet files of other software.
    problems
        Files that cannot be read, with the reason.
    """

    folder: str
    n_recorded: int = 0
    n_unchanged: int = 0
    n_removed: int = 0
    n_foreign: int = 0
    problems: list[ScanProblem] = field(default_factory=list)

    def __str__(self) -> str:
        line = (
            f"{self.folder}: {self.n_recorded:,} recorded, {self.n_unchanged:,} unchanged, "
            f"{self.n_removed:,} removed, {self.n_foreign:,} not ours"
        )
        return "\n".join([line, *(f"{p.path}: {p.reason}" for p in self.problems)])


@dataclass(frozen=True)
class _ResultFile:
    """What one result file says."""

    identity: dict[str, Any]
    members: dict[str, str]
    file: dict[str, Any]
    raw: dict[str, Any]
    n_steps: dict[str, int]
    sample: dict[str, Any]


def record_features(store: Store, paths: Iterable[str | os.PathLike[str]]) -> int:
    """Record the content of result files; see :meth:`oectflow.pipeline.inputs.catalog.Catalog`."""
    n = 0
    for batch in _batches([os.path.abspath(path) for path in paths]):  # noqa: PTH100 - as stored
        results = []
        for path in batch:
            result = _read_result(path)
            if result is None:
                raise CatalogError(f"{path}: is no result file of oectflow")
            results.append(result)
        with store.write() as connection:
            for result in results:
                _record(connection, result)
        n += len(batch)
    return n


def sync_features(store: Store, folder: str | os.PathLike[str]) -> SyncReport:
    """Bring the record of features up to date with a folder of results."""
    local_path(folder, CatalogError)
    top = os.path.abspath(os.path.expanduser(folder))  # noqa: PTH100, PTH111 - as stored
    if not os.path.isdir(top):  # noqa: PTH112 - as above
        raise CatalogError(f"{folder}: there is no such folder; is its disk connected?")
    report = SyncReport(top)
    f = feature_files.c
    with store.read() as connection:
        rows = connection.execute(select(f.path, f.size, f.mtime_ns).where(below(f.path, top)))
        known = {path: (size, mtime_ns) for path, size, mtime_ns in rows}
    results: list[_ResultFile] = []
    seen = set()
    for path, identity in _parquet_files(top, report):
        seen.add(path)
        if known.get(path) == identity:
            report.n_unchanged += 1
            continue
        try:
            result = _read_result(path)
        except CatalogError as error:
            report.problems.append(ScanProblem(path, str(error).removeprefix(f"{path}: ")))
            continue
        if result is None:
            report.n_foreign += 1
            continue
        results.append(result)
        if len(results) == _BATCH:
            report.n_recorded += _record_all(store, results)
            results = []
    report.n_recorded += _record_all(store, results)
    gone = [path for path in known if path not in seen and not os.path.lexists(path)]
    for batch in _batches(gone):
        with store.write() as connection:
            _forget(connection, batch)
        report.n_removed += len(batch)
    return report


def load_features(connection: Connection, experiment_id: int) -> list[FeatureRecord]:
    """Return the features of one experiment by name; for each name, the newest first."""
    f, m = feature_files.c, feature_set_members.c
    rows = connection.execute(
        select(m.name, m.fingerprint, f.path, f.created_at, f.config, f.counts, f.is_current)
        .join_from(feature_files, feature_set_members, m.set_id == f.set_id)
        .where(f.experiment_id == experiment_id)
        .order_by(m.name, f.created_at.desc(), f.path)
    )
    return [
        FeatureRecord(
            row.name,
            row.fingerprint,
            Path(row.path),
            row.created_at,
            row.config,
            json.loads(row.counts).get(row.name, {}),
            row.is_current,
        )
        for row in rows
    ]


def forget_features(connection: Connection, experiment_id: int) -> int:
    """Remove the record of all result files of one experiment, and return their number."""
    f = feature_files.c
    known = connection.scalars(select(f.path).where(f.experiment_id == experiment_id))
    paths = list(known)
    _forget(connection, paths)
    return len(paths)


def read_result_metadata(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Return the metadata of a result file, or None if it is from other software.

    Raises
    ------
    CatalogError
        The file cannot be read, or was written by a newer version.
    """
    try:
        raw = read_text(Path(path))
        if raw is None:
            with open_checked(Path(path)) as file:
                raw = (file.metadata.metadata or {}).get(KEY)
        metadata = None if raw is None else unpack(raw, Path(path))
    except DamagedFile as error:
        raise CatalogError(str(error)) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise CatalogError(f"{path}: cannot be read as Parquet: {reason}") from error
    if metadata is not None and metadata.get("format", 0) > _FORMAT:
        raise CatalogError(
            f"{path}: written in format {metadata['format']}, this version reads up to {_FORMAT}; "
            "upgrade oectflow"
        )
    return metadata


def _read_result(path: str) -> _ResultFile | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - paths are plain text here
    except OSError as error:
        raise CatalogError(f"{path}: cannot be read ({error.strerror})") from error
    metadata = read_result_metadata(path)
    if metadata is None:
        return None
    try:
        identity, source = metadata["identity"], metadata["source"]
        features = metadata["features"]
        created = datetime.fromisoformat(metadata["created"]).astimezone(UTC).replace(tzinfo=None)
        return _ResultFile(
            identity_columns(identity["experiment_id"], identity["chip_id"], identity["device_id"]),
            {name: entry["fingerprint"] for name, entry in features.items()},
            {
                "path": path,
                "size": status.st_size,
                "mtime_ns": status.st_mtime_ns,
                "config": metadata["config"],
                "created_at": created,
                "n_rows": metadata["n_rows"],
                "source_hash": source["content_hash"] or None,
                "source_size": source["size"],
                "counts": json.dumps({name: entry["counts"] for name, entry in features.items()}),
            },
            {
                "path": source["path"],
                "size": source["size"],
                "mtime_ns": source["mtime_ns"],
                "content_hash": source["content_hash"] or None,
                "scanned_ns": 0,
                "problem": "",
            },
            source["n_steps"],
            identity.get("sample", {}),
        )
    except (KeyError, TypeError, ValueError, AttributeError, InputError) as error:
        raise CatalogError(
            f"{path}: in its metadata, {error} is missing or damaged; extract the experiment again"
        ) from error


def _record_all(store: Store, results: Sequence[_ResultFile]) -> int:
    if results:
        with store.write() as connection:
            for result in results:
                _record(connection, result)
    return len(results)


def _record(connection: Connection, result: _ResultFile) -> None:
    test_id = result.identity["test_id"]
    experiment_id = connection.scalar(
        select(experiments.c.id).where(experiments.c.test_id == test_id)
    )
    if experiment_id is None:
        steps = result.n_steps
        columns = result.identity | {
            "description": "",
            "status": "unknown",
            "file_state": "unscanned",
            **step_columns(steps),
            "total_steps": sum(steps.values()),
            "total_data_points": 0,
        }
        experiment_id = insert_experiment(
            connection, columns, result.raw, workflow={}, sample=result.sample
        )
    set_id = intern_set(connection, result.members)
    connection.execute(delete(feature_files).where(feature_files.c.path == result.file["path"]))
    connection.execute(
        insert(feature_files).values(
            experiment_id=experiment_id, set_id=set_id, is_current=False, **result.file
        )
    )
    refresh_features(connection, [experiment_id])


def _forget(connection: Connection, paths: Sequence[str]) -> None:
    f = feature_files.c
    owners = list(connection.scalars(select(f.experiment_id).where(f.path.in_(paths)).distinct()))
    connection.execute(delete(feature_files).where(f.path.in_(paths)))
    refresh_features(connection, owners)


def _parquet_files(top: str, report: SyncReport) -> Iterator[tuple[str, tuple[int, int]]]:
    def unlisted(error: OSError) -> None:
        report.problems.append(ScanProblem(str(error.filename), str(error.strerror)))

    for folder, _, names in os.walk(top, onerror=unlisted):
        for name in sorted(names):
            # Unfinished files begin with a dot.
            if name.endswith(".parquet") and not name.startswith("."):
                path = os.path.join(folder, name)  # noqa: PTH118 - as above
                try:
                    status = os.stat(path)  # noqa: PTH116 - as above
                except OSError as error:
                    report.problems.append(ScanProblem(path, str(error.strerror)))
                    continue
                yield path, (status.st_size, status.st_mtime_ns)


def _batches(items: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(items), _BATCH):
        yield items[start : start + _BATCH]
