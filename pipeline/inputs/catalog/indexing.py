"""Write the data read from one raw file into the catalog.

All functions run in a writing transaction.  Therefore, the catalog does not change until they are
done, even if others scan at the same time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from sqlalchemy import Connection, and_, delete, exists, func, insert, or_, select, update

from oectflow.pipeline.inputs.catalog.facts import Facts, search_text
from oectflow.pipeline.inputs.catalog.feature_sets import union_of_sets
from oectflow.pipeline.inputs.catalog.sample_sets import (
    complete_sample,
    intern_samples,
    stored_table,
)
from oectflow.pipeline.inputs.catalog.schema import (
    experiments,
    feature_files,
    other_files,
    raw_files,
)
from oectflow.pipeline.inputs.catalog.workflow import intern_workflow

#: What became of a file in a scan.
Outcome = Literal[
    "added",
    "changed",
    "moved",
    "returned",
    "unchanged",
    "copy",
    "conflict",
    "unreadable",
    "foreign",
]

#: What a catalog may know although the file does not say it.
_KEPT = ("device_type", "sample_type", "temperature", "duration", "batch_id", "test_unit_id")


def record_facts(connection: Connection, facts: Facts) -> tuple[Outcome, str]:
    """Write the data that a scan has read from one file.

    Returns
    -------
    The outcome, and the reason if it is not an experiment or not the first of its name.
    """
    if facts.kind == "same":
        return _record_same(connection, facts), ""
    if facts.kind == "experiment":
        return _record_experiment(connection, facts)
    here = _rows(connection, raw_files.c.path == facts.path)
    present = [row for row in here if row["file_state"] != "missing"]
    for row in present:
        _set_state(connection, row["id"], "unreadable", facts.reason)
    if not present:
        _record_other(connection, facts, facts.kind, facts.reason)
    return ("unreadable" if present or facts.kind == "unreadable" else "foreign"), facts.reason


def insert_experiment(
    connection: Connection,
    columns: Mapping[str, Any],
    file: Mapping[str, Any],
    *,
    workflow: Mapping[str, Any],
    sample: Mapping[str, Any] | None = None,
    row_id: int | None = None,
) -> int:
    """Add an experiment and return its id.

    Parameters
    ----------
    connection
        In a writing transaction.
    columns, file
        Values of the tables of experiments and of raw files.
    workflow
        Its flattened parameters.
    sample
        All known properties of the device.
    row_id
        The id to give it.
    """
    values = dict(columns) | {
        "search_text": search_text(columns),
        "device_type": columns.get("device_type") or "unknown",
        "workflow_id": intern_workflow(connection, workflow),
        "sample_id": intern_samples(connection, [sample or {}])[0],
    }
    if row_id is not None:
        values["id"] = row_id
    statement = insert(experiments).values(values).returning(experiments.c.id)
    new_id = int(connection.execute(statement).scalar_one())
    connection.execute(insert(raw_files).values(experiment_id=new_id, **file))
    return new_id


def refresh_features(connection: Connection, ids: Sequence[int]) -> None:
    """Find out again which results were computed from the present raw files."""
    f = feature_files.c
    same_hash = raw_files.c.content_hash == f.source_hash
    unknown = or_(raw_files.c.content_hash.is_(None), f.source_hash.is_(None))
    current = exists().where(
        raw_files.c.experiment_id == f.experiment_id,
        or_(same_hash, and_(unknown, raw_files.c.size == f.source_size)),
    )
    connection.execute(
        update(feature_files).where(f.experiment_id.in_(ids)).values(is_current=current)
    )
    owned: dict[int, list[int]] = {i: [] for i in ids}
    rows = connection.execute(
        select(f.experiment_id, f.set_id)
        .where(f.experiment_id.in_(ids), f.is_current)
        .order_by(f.created_at, f.id)
    )
    for experiment_id, set_id in rows:
        owned[experiment_id].append(set_id)
    for experiment_id, set_ids in owned.items():
        features_id = union_of_sets(connection, set_ids)
        connection.execute(
            update(experiments)
            .where(experiments.c.id == experiment_id)
            .values(features_id=features_id)
        )


def mark_vanished(connection: Connection, paths: Sequence[str]) -> int:
    """Record that files are missing; return the number of experiments affected.

    Nothing is deleted: the entry stays, with its features, until the file comes back.
    """
    owners = select(raw_files.c.experiment_id).where(raw_files.c.path.in_(paths))
    result = connection.execute(
        update(experiments)
        .where(experiments.c.id.in_(owners), experiments.c.file_state != "missing")
        .values(file_state="missing")
    )
    connection.execute(
        update(raw_files).where(raw_files.c.path.in_(paths)).values(problem="the file has vanished")
    )
    connection.execute(delete(other_files).where(other_files.c.path.in_(paths)))
    return int(result.rowcount)


def _record_same(connection: Connection, facts: Facts) -> Outcome:
    """The content is what it was; only its time has changed, or the file had been away."""
    stamp = {"mtime_ns": facts.mtime_ns, "scanned_ns": facts.scanned_ns}
    for row in _rows(connection, raw_files.c.path == facts.path):
        if row["content_hash"] == facts.content_hash:
            connection.execute(
                update(raw_files)
                .where(raw_files.c.experiment_id == row["id"])
                .values(problem="", size=facts.size, **stamp)
            )
            _set_state(connection, row["id"], "present", "")
            return "unchanged" if row["file_state"] == "present" else "returned"
    here = (other_files.c.path == facts.path, other_files.c.content_hash == facts.content_hash)
    connection.execute(update(other_files).where(*here).values(stamp))
    return "unchanged"


def _record_experiment(connection: Connection, facts: Facts) -> tuple[Outcome, str]:
    test_id = facts.columns["test_id"]
    sample, odd = complete_sample(
        stored_table(connection),
        facts.columns["chip_id"],
        facts.columns["device_id"],
        facts.sample,
    )
    facts = replace(facts, reason="; ".join(filter(None, [facts.reason, *odd])))
    for row in _rows(connection, raw_files.c.path == facts.path):
        if row["test_id"] != test_id and row["file_state"] != "missing":
            reason = f"its file now holds the experiment {test_id}"
            _set_state(connection, row["id"], "missing", reason)
    mine = next(iter(_rows(connection, experiments.c.test_id == test_id)), None)
    if mine is None:
        connection.execute(delete(other_files).where(other_files.c.path == facts.path))
        new_id = insert_experiment(
            connection,
            dict(facts.columns) | {"file_state": "present"},
            _file_values(facts),
            workflow=facts.workflow,
            sample=sample,
        )
        refresh_features(connection, [new_id])
        return "added", facts.reason
    elsewhere = bool(mine["path"]) and mine["path"] != facts.path
    if elsewhere and mine["file_state"] == "present" and os.path.exists(mine["path"]):  # noqa: PTH110
        kind: Literal["copy", "conflict"] = "conflict"
        reason = f"has the test_id of {mine['path']}, but other content; give one another"
        if mine["content_hash"] == facts.content_hash:
            kind, reason = "copy", f"is a copy of {mine['path']}"
        _record_other(connection, facts, kind, reason)
        return kind, reason
    if not elsewhere and mine["scanned_ns"] > facts.scanned_ns:
        # Another scan has looked at the file after this one did.
        return "unchanged", ""
    connection.execute(delete(other_files).where(other_files.c.path == facts.path))
    _update_experiment(connection, mine, facts, sample)
    if mine["file_state"] in ("missing", "unreadable"):
        return ("moved" if elsewhere else "returned"), facts.reason
    return ("moved" if elsewhere else "changed"), facts.reason


def _update_experiment(
    connection: Connection, mine: Mapping[Any, Any], facts: Facts, sample: Mapping[str, Any]
) -> None:
    values = dict(facts.columns)
    for name in _KEPT:
        values[name] = func.coalesce(values[name], experiments.c[name])
    values |= {
        "search_text": search_text(facts.columns),
        "workflow_id": intern_workflow(connection, facts.workflow),
        "sample_id": intern_samples(connection, [sample])[0],
        "file_state": "present",
    }
    connection.execute(update(experiments).where(experiments.c.id == mine["id"]).values(values))
    connection.execute(
        update(raw_files).where(raw_files.c.experiment_id == mine["id"]).values(_file_values(facts))
    )
    refresh_features(connection, [mine["id"]])


def _file_values(facts: Facts) -> dict[str, Any]:
    return {
        "path": facts.path,
        "size": facts.size,
        "mtime_ns": facts.mtime_ns,
        "scanned_ns": facts.scanned_ns,
        "content_hash": facts.content_hash,
        "problem": facts.reason,
        "sample": json.dumps(facts.sample, ensure_ascii=False) if facts.sample else None,
    }


def _record_other(connection: Connection, facts: Facts, kind: str, reason: str) -> None:
    connection.execute(delete(other_files).where(other_files.c.path == facts.path))
    connection.execute(
        insert(other_files).values(
            path=facts.path,
            size=facts.size,
            mtime_ns=facts.mtime_ns,
            scanned_ns=facts.scanned_ns,
            content_hash=facts.content_hash,
            kind=kind,
            reason=reason,
            test_id=facts.columns.get("test_id"),
        )
    )


def _set_state(connection: Connection, row_id: int, state: str, problem: str) -> None:
    connection.execute(
        update(experiments).where(experiments.c.id == row_id).values(file_state=state)
    )
    connection.execute(
        update(raw_files).where(raw_files.c.experiment_id == row_id).values(problem=problem)
    )


def _rows(connection: Connection, condition: Any) -> Sequence[Mapping[Any, Any]]:
    statement = select(
        experiments.c.id,
        experiments.c.test_id,
        experiments.c.file_state,
        raw_files.c.path,
        raw_files.c.content_hash,
        raw_files.c.scanned_ns,
    ).join_from(experiments, raw_files)
    return connection.execute(statement.where(condition)).mappings().all()
