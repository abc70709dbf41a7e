"""What a catalog knows of devices: each sample once, and the table that completes raw files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import xxhash
from sqlalchemy import Connection, delete, insert, select, update

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
    """What a table of devices says of the experiments of a catalog.

    Attributes
    ----------
    n_described, n_unknown
        Experiments of whose device something is known now, and of which nothing is.
    contradictions
        Test id, and where table and raw file, or two rows, say different things.
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
    """Make a table known; see :meth:`oectflow.pipeline.inputs.catalog.Catalog.set_samples`."""
    with store.write() as connection:
        connection.execute(delete(sample_table))
        if table is not None:
            document = tidy_text(table.to_json())
            connection.execute(insert(sample_table).values(id=1, document=document))
        ids = list(connection.scalars(select(experiments.c.id).order_by(experiments.c.id)))
    report = SamplesReport()
    for start in range(0, len(ids), _BATCH):
        with store.write() as connection:
            _complete(connection, ids[start : start + _BATCH], report)
    return report


def _complete(connection: Connection, ids: list[int], report: SamplesReport) -> None:
    e = experiments.c
    rows = connection.execute(
        select(e.id, e.test_id, e.chip_id, e.device_id, e.sample_id, raw_files.c.sample)
        .join_from(experiments, raw_files)
        .where(e.id.in_(ids))
        .order_by(e.id)
    ).all()
    changed: dict[int | None, list[int]] = {}
    for row in rows:
        own = json.loads(row.sample or "{}")
        sample, odd = known_sample(connection, row.chip_id, row.device_id, own)
        report.contradictions += [(row.test_id, reason) for reason in odd]
        if sample:
            report.n_described += 1
        else:
            report.n_unknown += 1
        sample_id = intern_sample(connection, sample)
        if sample_id != row.sample_id:
            changed.setdefault(sample_id, []).append(row.id)
    for sample_id, owners in changed.items():
        connection.execute(update(experiments).where(e.id.in_(owners)).values(sample_id=sample_id))


def known_sample(
    connection: Connection, chip_id: str, device_id: str, own: Mapping[str, Any]
) -> tuple[Sample, list[str]]:
    """Return what is known of a device, and where the table contradicts.

    Parameters
    ----------
    connection
        Of the catalog that has the table.
    chip_id, device_id
        Which device.
    own
        What its raw file says.
    """
    table = stored_table(connection)
    if table is None:
        return dict(own), []
    try:
        return table.complete(chip_id, device_id, own)
    except ConfigError as error:
        return dict(own), [str(error)]


def stored_table(connection: Connection) -> Samples | None:
    """Return the table that was made known, None without one."""
    document = connection.scalar(select(sample_table.c.document))
    return None if document is None else _parsed(document)


@lru_cache(maxsize=2)
def _parsed(document: str) -> Samples:
    # For every file of a scan, it is the same.
    return Samples.from_json(document)


def intern_sample(connection: Connection, sample: Mapping[str, Any]) -> int | None:
    """Return the id of a sample, which is stored if no experiment had it before.

    Parameters
    ----------
    connection
        In a writing transaction.
    sample
        An empty one has no id.
    """
    if not sample:
        return None
    document = tidy_text(json.dumps(sample, ensure_ascii=False, sort_keys=True))
    digest = xxhash.xxh3_128_hexdigest(document.encode())
    known = connection.scalar(select(samples.c.id).where(samples.c.digest == digest))
    if known is not None:
        return int(known)
    result = connection.execute(
        insert(samples).values(digest=digest, document=document).returning(samples.c.id)
    )
    sample_id = int(result.scalar_one())
    rows = {}
    for key, value in sample.items():
        if key != "units":
            number, text = comparable(value)
            name = comparable(key)[1]
            rows[name] = {"sample_id": sample_id, "key": name, "number": number, "text": text}
    connection.execute(insert(sample_values), list(rows.values()))
    return sample_id


def load_samples(connection: Connection, ids: Iterable[int | None]) -> dict[int | None, Sample]:
    """Return samples by id; that of None is empty."""
    wanted = {i for i in ids if i is not None}
    rows = connection.execute(
        select(samples.c.id, samples.c.document).where(samples.c.id.in_(wanted))
    )
    found: dict[int | None, Sample] = {i: json.loads(document) for i, document in rows}
    return found | {None: {}}
