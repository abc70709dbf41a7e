"""Devices in a catalog: each sample once, and the table that completes raw files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import xxhash
from sqlalchemy import Connection, bindparam, delete, insert, select, update

from oectflow.errors import ConfigError
from oectflow.pipeline.inputs.catalog.schema import (
    experiments,
    raw_files,
    sample_table,
    sample_values,
    samples,
)
from oectflow.pipeline.inputs.catalog.store import Store
from oectflow.pipeline.inputs.catalog.workflow import comparable, tidy_text
from oectflow.pipeline.inputs.samples import Sample, Samples

# Experiments per transaction: some tens of milliseconds.
_BATCH = 1000
_SHOWN = 20


@dataclass
class SamplesReport:
    """Report of adding a table of devices to a catalog.

    Attributes
    ----------
    n_described, n_unknown
        Number of experiments whose device has known properties now, and of those without any.
    contradictions
        Test id, and the contradiction between table and raw file or between two rows.
    """

    n_described: int = 0
    n_unknown: int = 0
    contradictions: list[tuple[str, str]] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [
            f"samples: {self.n_described:,} experiments described, {self.n_unknown:,} not known"
        ]
        lines += [f"{test_id}: {reason}" for test_id, reason in self.contradictions[:_SHOWN]]
        if len(self.contradictions) > _SHOWN:
            lines.append(f"… and {len(self.contradictions) - _SHOWN:,} more")
        return "\n".join(lines)


def set_samples(store: Store, table: Samples | None) -> SamplesReport:
    """Add a table; see :meth:`oectflow.pipeline.inputs.catalog.Catalog.set_samples`."""
    with store.write() as connection:
        connection.execute(delete(sample_table))
        if table is not None:
            document = tidy_text(table.to_json())
            values = {"id": 1, "digest": _digest(document), "document": document}
            connection.execute(insert(sample_table).values(values))
        ids = list(connection.scalars(select(experiments.c.id).order_by(experiments.c.id)))
    report = SamplesReport()
    for start in range(0, len(ids), _BATCH):
        with store.write() as connection:
            # Perhaps somebody else has set another one meanwhile.
            current = stored_table(connection)
            _complete(connection, ids[start : start + _BATCH], current, report)
    return report


def _complete(
    connection: Connection, ids: list[int], table: Samples | None, report: SamplesReport
) -> None:
    e = experiments.c
    rows = connection.execute(
        select(e.id, e.test_id, e.chip_id, e.device_id, e.sample_id, raw_files.c.sample)
        .join_from(experiments, raw_files)
        .where(e.id.in_(ids))
        .order_by(e.id)
    ).all()
    found: dict[tuple[str, str, str | None], tuple[Sample, list[str]]] = {}
    for row in rows:
        key = (row.chip_id, row.device_id, row.sample)
        if key not in found:
            own = json.loads(row.sample or "{}")
            found[key] = complete_sample(table, row.chip_id, row.device_id, own)
    numbers = dict(
        zip(found, intern_samples(connection, [one for one, _ in found.values()]), strict=True)
    )
    changed: dict[int | None, list[int]] = {}
    for row in rows:
        key = (row.chip_id, row.device_id, row.sample)
        sample, odd = found[key]
        report.contradictions += [(row.test_id, reason) for reason in odd]
        report.n_described += bool(sample)
        report.n_unknown += not sample
        if numbers[key] != row.sample_id:
            changed.setdefault(numbers[key], []).append(row.id)
    if changed:
        connection.execute(
            update(experiments).where(e.id == bindparam("owner")),
            [
                {"owner": owner, "sample_id": sample_id}
                for sample_id, owners in changed.items()
                for owner in owners
            ],
        )


def complete_sample(
    table: Samples | None, chip_id: str, device_id: str, own: Mapping[str, Any]
) -> tuple[Sample, list[str]]:
    """Return the known properties of a device, and contradictions with the table.

    Parameters
    ----------
    table
        From :func:`stored_table`.
    chip_id, device_id
        Which device.
    own
        Sample from its raw file.
    """
    if table is None:
        return dict(own), []
    try:
        return table.complete(chip_id, device_id, own)
    except ConfigError as error:
        return dict(own), [str(error)]


#: The last table that was read, by digest: for every file of a scan, it is the same.
_last: tuple[str, Samples] | None = None


def stored_table(connection: Connection) -> Samples | None:
    """Return the table that was added; None if there is none."""
    global _last
    digest = connection.scalar(select(sample_table.c.digest))
    if digest is None:
        return None
    last = _last
    if last is None or last[0] != digest:
        document = connection.scalar(select(sample_table.c.document))
        last = _last = digest, Samples.from_json(str(document))
    return last[1]


def intern_samples(
    connection: Connection, several: Sequence[Mapping[str, Any]]
) -> list[int | None]:
    """Return the ids of samples; store samples that no experiment had before.

    Parameters
    ----------
    connection
        In a writing transaction.
    several
        An empty one has no id.
    """
    if not any(several):
        return [None] * len(several)
    documents = [
        tidy_text(json.dumps(sample, ensure_ascii=False, sort_keys=True)) if sample else ""
        for sample in several
    ]
    digests = [_digest(document) for document in documents]
    s = samples.c
    rows = connection.execute(select(s.digest, s.id).where(s.digest.in_(set(digests))))
    known: dict[str, int] = {row.digest: row.id for row in rows}
    ids: list[int | None] = []
    values = []
    for sample, document, digest in zip(several, documents, digests, strict=True):
        if not document:
            ids.append(None)
            continue
        if digest not in known:
            statement = insert(samples).values(digest=digest, document=document)
            known[digest] = int(connection.execute(statement.returning(s.id)).scalar_one())
            values += _values(known[digest], sample)
        ids.append(known[digest])
    if values:
        connection.execute(insert(sample_values), values)
    return ids


def _values(sample_id: int, sample: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = {}
    for key, value in sample.items():
        if key != "units":
            number, text = comparable(value)
            name = comparable(key)[1]
            rows[name] = {"sample_id": sample_id, "key": name, "number": number, "text": text}
    return list(rows.values())


def _digest(document: str) -> str:
    return xxhash.xxh3_128_hexdigest(document.encode())


def load_samples(connection: Connection, ids: Iterable[int | None]) -> dict[int | None, Sample]:
    """Return samples by id; the sample of None is empty."""
    wanted = {i for i in ids if i is not None}
    rows = connection.execute(
        select(samples.c.id, samples.c.document).where(samples.c.id.in_(wanted))
    )
    found: dict[int | None, Sample] = {i: json.loads(document) for i, document in rows}
    return found | {None: {}}
