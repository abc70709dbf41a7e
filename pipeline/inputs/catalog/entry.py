"""The entry of one experiment in a catalog."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from oectflow.errors import CatalogError
from oectflow.pipeline.inputs.catalog.sample_sets import load_samples
from oectflow.pipeline.inputs.catalog.schema import experiments, raw_files, workflows
from oectflow.pipeline.inputs.experiment import Experiment

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class CatalogEntry:
    """One experiment of a catalog.

    Attributes
    ----------
    id
        Number of the entry in its catalog.
    test_id
        Id of the experiment; two tests of one device are two experiments.
    chip_id, device_id, batch_id, description, test_unit_id
        As in the raw file; ``""`` or None if not given.
    status
        As in the raw file, such as ``"completed"``; ``"unknown"`` if not given.
    device_type, sample_type, temperature, duration
        As in the raw file; ``"unknown"`` or None if not given.  Duration in s.
    completion_percentage, completed_steps, total_steps
        As in the raw file.  If it does not give a total, the number of measured steps.
    transfer_steps, transient_steps
        Number of steps in the file.
    n_steps
        Number of steps in the file by kind of measurement: ``{"output": 4, "transfer": 1}``.
    created_at, completed_at
        The instrument's wall clock, without time zone.
    total_data_points
        Count of all numbers in the file, including voltages, times and padding.
    path
        The raw file; None if it was never known.
    file_state
        ``"present"``, ``"missing"`` (not found at the last scan), ``"unreadable"``, or
        ``"unscanned"`` (known only from results or another catalog).
    problem
        What is wrong with the file, else ``""``.
    raw_file_size, raw_file_modified
        In bytes, and in UTC.
    content_hash
        XXH3-128 of the file's bytes; None before the first scan.
    has_features
        Whether features have been computed from the present content of the file.
    workflow
        The flattened parameters of the workflow, ``workflow_step_<i>…``.
    sample
        Known properties of the device, see :mod:`oectflow.pipeline.inputs.samples`.
    legacy
        Further data of an imported catalog.
    """

    id: int
    test_id: str
    chip_id: str
    device_id: str
    batch_id: str | None
    description: str
    status: str
    device_type: str
    completion_percentage: float | None
    completed_steps: int | None
    total_steps: int
    transfer_steps: int
    transient_steps: int
    created_at: datetime | None
    completed_at: datetime | None
    duration: float | None
    temperature: float | None
    sample_type: str | None
    test_unit_id: str | None
    total_data_points: int
    path: Path | None
    file_state: str
    problem: str
    raw_file_size: int
    raw_file_modified: datetime | None
    content_hash: str | None
    has_features: bool
    n_steps: Mapping[str, int] = field(repr=False)
    workflow: Mapping[str, Any] = field(repr=False)
    sample: Mapping[str, Any] = field(repr=False)
    legacy: Mapping[str, Any] = field(repr=False)

    @property
    def has_transfer_data(self) -> bool:
        """Whether the file has a transfer step."""
        return self.transfer_steps > 0

    @property
    def has_transient_data(self) -> bool:
        """Whether the file has a transient step."""
        return self.transient_steps > 0

    def open(self) -> Experiment:
        """Open the raw file.

        Raises
        ------
        InputError
            It cannot be read.
        CatalogError
            The catalog does not know where the file is.
        """
        if self.path is None:
            raise CatalogError(f"{self.test_id}: its raw file is not known; scan its folder")
        return Experiment(self.path)


#: The columns of a table of experiments, in the order of the attributes.
FRAME_COLUMNS = tuple(
    f.name
    for f in fields(CatalogEntry)
    if f.name not in ("n_steps", "workflow", "sample", "legacy")
)
#: Those that people look at first.
SHOWN_COLUMNS = (
    "test_id",
    "chip_id",
    "device_id",
    "description",
    "status",
    "created_at",
    "transfer_steps",
    "transient_steps",
    "has_features",
    "file_state",
)

_FROM_EXPERIMENTS = [column for column in experiments.c if column.name != "search_text"]
_STATEMENT = select(
    *_FROM_EXPERIMENTS,
    raw_files.c.path,
    raw_files.c.problem,
    raw_files.c.size,
    raw_files.c.mtime_ns,
    raw_files.c.content_hash,
    raw_files.c.legacy,
).join_from(experiments, raw_files)


def load_entries(connection: Connection, ids: Sequence[int]) -> list[CatalogEntry]:
    """Return the entries with these ids, in their order.

    Raises
    ------
    CatalogError
        One of them has been removed.
    """
    rows = connection.execute(_STATEMENT.where(experiments.c.id.in_(ids))).mappings()
    by_id = {row["id"]: row for row in rows}
    flows = load_workflows(connection, (row["workflow_id"] for row in by_id.values()))
    known = load_samples(connection, (row["sample_id"] for row in by_id.values()))
    gone = [i for i in ids if i not in by_id]
    if gone:
        raise CatalogError(
            f"{len(gone)} of the experiments found have been removed from the catalog since "
            f"(ids {', '.join(map(str, gone[:5]))}); search again"
        )
    return [_entry(by_id[i], flows, known) for i in ids]


def load_workflows(
    connection: Connection, ids: Iterable[int | None]
) -> dict[int | None, dict[str, Any]]:
    """Return the parameters of workflows by id; None has no parameters."""
    wanted = {i for i in ids if i is not None}
    rows = connection.execute(
        select(workflows.c.id, workflows.c.parameters).where(workflows.c.id.in_(wanted))
    )
    found: dict[int | None, dict[str, Any]] = {i: json.loads(document) for i, document in rows}
    return found | {None: {}}


def _entry(
    row: Mapping[Any, Any],
    flows: Mapping[int | None, dict[str, Any]],
    known: Mapping[int | None, dict[str, Any]],
) -> CatalogEntry:
    values = {column.name: row[column.name] for column in _FROM_EXPERIMENTS}
    workflow_id, sample_id = values.pop("workflow_id"), values.pop("sample_id")
    has_features = values.pop("features_id") is not None
    n_steps = json.loads(values.pop("step_counts"))
    return CatalogEntry(
        **values,
        path=Path(row["path"]) if row["path"] else None,
        problem=row["problem"],
        raw_file_size=row["size"],
        raw_file_modified=utc_time(row["mtime_ns"]),
        content_hash=row["content_hash"],
        has_features=has_features,
        n_steps=n_steps,
        workflow=flows.get(workflow_id, {}),
        sample=known.get(sample_id, {}),
        legacy=json.loads(row["legacy"] or "{}"),
    )


def utc_time(ns: int) -> datetime | None:
    """Return a time of the operating system, 0 for unknown, as a datetime in UTC."""
    return _EPOCH + timedelta(microseconds=ns // 1000) if ns else None
