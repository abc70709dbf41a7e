"""Sets of features, stored once for all the experiments that have the same."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import xxhash
from sqlalchemy import Connection, insert, select

from oectflow.pipeline.inputs.catalog.schema import feature_set_members, feature_sets


def intern_set(connection: Connection, members: Mapping[str, str]) -> int:
    """Return the id of a set of features, which is stored if it is new.

    Parameters
    ----------
    connection
        In a writing transaction.
    members
        Fingerprints by name.
    """
    digest = xxhash.xxh3_128_hexdigest(json.dumps(sorted(members.items())).encode())
    known = connection.scalar(select(feature_sets.c.id).where(feature_sets.c.digest == digest))
    if known is not None:
        return int(known)
    statement = insert(feature_sets).values(digest=digest).returning(feature_sets.c.id)
    set_id = int(connection.execute(statement).scalar_one())
    rows = [{"set_id": set_id, "name": n, "fingerprint": f} for n, f in members.items()]
    if rows:
        connection.execute(insert(feature_set_members), rows)
    return set_id


def union_of_sets(connection: Connection, set_ids: Sequence[int]) -> int | None:
    """Return the id of the union of sets, of which later ones win; None for no set at all."""
    if len(set(set_ids)) < 2:
        return set_ids[0] if set_ids else None
    m = feature_set_members.c
    members: dict[str, str] = {}
    for set_id in set_ids:
        rows = connection.execute(select(m.name, m.fingerprint).where(m.set_id == set_id))
        members.update((name, fingerprint) for name, fingerprint in rows)
    return intern_set(connection, members)
