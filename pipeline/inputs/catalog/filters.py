"""The filters of a search, as conditions on the database."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, false, func, or_, select, true

from oectflow.errors import CatalogError, ConfigError, did_you_mean
from oectflow.measurement import kinds
from oectflow.pipeline.inputs.catalog.schema import (
    FILE_STATES,
    SORTED_BY,
    experiments,
    feature_set_members,
    sample_values,
    workflow_parameters,
)
from oectflow.pipeline.inputs.catalog.workflow import comparable, tidy_text
from oectflow.pipeline.inputs.sample_keys import QUANTITIES, TEXTS, in_si

Condition = ColumnElement[bool]
#: Words that are right even where no experiment has them; others must occur in the catalog.
STATUSES = ("pending", "running", "completed", "failed", "stopped", "unknown")
DEVICE_TYPES = ("N", "P", "unknown")
#: Orders in which everything can be read that a filter asks for.
WALKED = ("created_at", "id")
# Sorting so many takes SQLite some 15 ms.
_MANY = 20_000
# A length is a number of another unit, rounded.
_TOLERANCE = 1e-9

_c = experiments.c
ORDERS = {name: _c[name] for name in ("created_at", "test_id", "id", *SORTED_BY)}


def unindexed(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return a column in a form for which SQLite does not use an index of this column.

    SQLite overrates an index of this one column.  With it, SQLite looks up row after row in the
    table, in no order.  This takes ten times as long as reading ``ix_scan`` from one end to the
    other.
    """
    return func.coalesce(column, None)


def conditions(connection: Connection, filters: Mapping[str, Any]) -> list[Condition]:
    """Return the conditions that an experiment must meet.

    Parameters
    ----------
    connection
        Connection to look up which words the catalog knows.
    filters
        Values by name of the filter; a filter whose value is None is ignored.

    Raises
    ------
    CatalogError
        There is no such filter, or it does not accept the value; the message names the nearest one.
    """
    found = []
    for name, value in filters.items():
        if name.startswith("workflow_"):
            if value is not None:
                found.append(_workflow(connection, name, value))
            continue
        if name not in _FILTERS and _is_of_sample(connection, name):
            if value is not None:
                found.append(_sample(name, value))
            continue
        if name not in _FILTERS:
            known = [*FILTER_NAMES, "workflow_step_…", *QUANTITIES, *TEXTS]
            raise CatalogError(f"there is no filter {name!r}{did_you_mean(name, known)}")
        if value is not None:
            found.append(_FILTERS[name](connection, name, value))
    return found


def _text(column: ColumnElement[str]) -> Callable[[Connection, str, Any], Condition]:
    def build(_: Connection, name: str, value: Any) -> Condition:
        return column.in_([_word(name, item) for item in _several(value)])

    return build


def _words(
    column: ColumnElement[str], words: Iterable[str]
) -> Callable[[Connection, str, Any], Condition]:
    def build(connection: Connection, name: str, value: Any) -> Condition:
        wanted = [_word(name, item) for item in _several(value)]
        if not set(wanted) <= set(words):
            known = {*words, *connection.scalars(select(column).distinct())}
            for word in wanted:
                if word not in known:
                    raise CatalogError(
                        f"{name}={word!r}: no experiment has that{did_you_mean(word, known)}"
                    )
        return unindexed(column).in_(wanted)

    return build


def _flag(condition: Condition) -> Callable[[Connection, str, Any], Condition]:
    def build(_: Connection, name: str, value: Any) -> Condition:
        return condition if _bool(name, value) else ~condition

    return build


def _number(
    column: ColumnElement[Any], *, least: bool, highest: float = math.inf
) -> Callable[[Connection, str, Any], Condition]:
    def build(_: Connection, name: str, value: Any) -> Condition:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise CatalogError(f"{name}={value!r}: expected a number")
        if not 0 <= value <= highest:
            upper = f" to {highest:g}" if math.isfinite(highest) else " on"
            raise CatalogError(f"{name}={value!r}: expected a number from 0{upper}")
        shown = unindexed(column)
        return shown >= value if least else shown <= value

    return build


def _time(
    column: ColumnElement[Any], *, after: bool
) -> Callable[[Connection, str, Any], Condition]:
    def build(_: Connection, name: str, value: Any) -> Condition:
        moment = _moment(name, value)
        return column >= moment if after else column < moment

    return build


def _text_search(_: Connection, name: str, value: Any) -> Condition:
    needle = _word(name, value).casefold()
    return experiments.c.search_text.contains(needle, autoescape=True)


def _features(connection: Connection, name: str, value: Any) -> Condition:
    wanted_all = name == "has_features"
    if isinstance(value, bool):
        return _c.features_id.is_not(None) if value == wanted_all else _c.features_id.is_(None)
    features = [_word(name, item) for item in _several(value)]
    if wanted_all:
        known = set(connection.scalars(select(feature_set_members.c.name).distinct()))
        for feature in features:
            if known and feature not in known:
                hint = did_you_mean(feature, known)
                raise CatalogError(f"{name}={feature!r}: no experiment has this feature{hint}")
    m = feature_set_members.c
    owned = [_c.features_id.in_(select(m.set_id).where(m.name == feature)) for feature in features]
    if wanted_all:
        return and_(true(), *owned)
    return or_(_c.features_id.is_(None), ~and_(true(), *owned))


def _workflow(connection: Connection, key: str, value: Any) -> Condition:
    p = workflow_parameters.c
    if connection.scalar(select(p.key).where(p.key == comparable(key)[1]).limit(1)) is None:
        known = list(connection.scalars(select(p.key).distinct()))
        if known:
            hint = did_you_mean(key, known) if len(known) <= 20 else _nearest(key, known)
            raise CatalogError(f"no workflow has a parameter {key!r}{hint}")
        return false()
    if isinstance(value, tuple):
        matches = _between(key, value)
    else:
        matches = or_(false(), *(_equals(key, item) for item in _several(value)))
    ids = select(p.workflow_id).where(p.key == comparable(key)[1], matches)
    return _c.workflow_id.in_(ids)


def _between(key: str, value: tuple[Any, ...]) -> Condition:
    if len(value) != 2 or any(
        isinstance(end, bool) or not isinstance(end, int | float | None) for end in value
    ):
        raise CatalogError(
            f"{key}={value!r}: a range is (lowest, highest), two numbers, None where it is open; "
            "several values are a list"
        )
    low, high = value
    number = workflow_parameters.c.number
    ends = [number.is_not(None)]
    ends += [number >= low] if low is not None else []
    ends += [number <= high] if high is not None else []
    return and_(*ends)


def _equals(key: str, value: Any) -> Condition:
    if value is not None and not isinstance(value, str | int | float):
        raise CatalogError(
            f"{key}={value!r}: expected a number, a text, a list of them, or a range (low, high)"
        )
    number, words = comparable(value)
    p = workflow_parameters.c
    if number is not None:
        return p.number == number
    if words is not None:
        return p.text == words
    return and_(p.number.is_(None), p.text.is_(None))


def _is_of_sample(connection: Connection, name: str) -> bool:
    if name in QUANTITIES or name in TEXTS or name.removeprefix("u_") in QUANTITIES:
        return True
    v = sample_values.c
    known = select(v.key).where(v.key == comparable(name)[1]).limit(1)
    return connection.scalar(known) is not None


def _sample(key: str, value: Any) -> Condition:
    v = sample_values.c
    if isinstance(value, tuple):
        if len(value) != 2:
            raise CatalogError(f"{key}={value!r}: a range is (lowest, highest), None where open")
        low, high = (None if end is None else _si(key, end) for end in value)
        if isinstance(low, str) or isinstance(high, str):
            raise CatalogError(f"{key}={value!r}: a range is of two numbers, None where it is open")
        matches = and_(
            v.number.is_not(None),
            true() if low is None else v.number >= low - abs(low) * _TOLERANCE,
            true() if high is None else v.number <= high + abs(high) * _TOLERANCE,
        )
    else:
        matches = or_(false(), *(_is(_si(key, item)) for item in _several(value)))
    return _c.sample_id.in_(select(v.sample_id).where(v.key == comparable(key)[1], matches))


def _is(value: float | str) -> Condition:
    v = sample_values.c
    if isinstance(value, str):
        return v.text == comparable(value)[1]
    margin = abs(value) * _TOLERANCE
    return and_(v.number >= value - margin, v.number <= value + margin)


def _si(key: str, value: Any) -> float | str:
    """Return a value of a sample as it is stored: in SI, where it is a known quantity."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise CatalogError(
            f"{key}={value!r}: expected a number, a text, a list of them, or a range (low, high)"
        )
    if key in QUANTITIES or key.removeprefix("u_") in QUANTITIES:
        try:
            return in_si(key, value)
        except ConfigError as error:
            raise CatalogError(f"{key}={value!r}: {error}") from None
    # A batch is text, and 7 is as good as "7".
    return str(value) if key in TEXTS else value


def _several(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | set | frozenset) else [value]


def _word(name: str, value: Any) -> str:
    # Devices are numbered: 1 is as good as "1".
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise CatalogError(f"{name}={value!r}: expected a text")
    return tidy_text(str(value))


def _bool(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise CatalogError(f"{name}={value!r}: expected True or False")
    return value


def _moment(name: str, value: Any) -> datetime:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            raise CatalogError(
                f"{name}={value!r}: expected a time such as '2025-08-15' or '2025-08-15T13:00:00'"
            ) from None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if not isinstance(value, datetime):
        raise CatalogError(f"{name}={value!r}: expected a datetime, a date, or its ISO text")
    if value.tzinfo is not None:
        raise CatalogError(
            f"{name}={value}: times in a catalog are the instrument's wall clock; "
            "give one without time zone"
        )
    return value


def _nearest(word: str, known: Iterable[str]) -> str:
    # A list of all is no help where there are hundreds.
    hint = did_you_mean(word, known)
    return hint if hint.startswith("; did") else ""


def _kind(_: Connection, name: str, value: Any) -> Condition:
    wanted = [_word(name, item) for item in _several(value)]
    for word in wanted:
        if word not in kinds():
            raise CatalogError(
                f"{name}={word!r}: no kind of measurement{did_you_mean(word, kinds())}"
            )
    return or_(false(), *(_c.step_counts.contains(f'"{word}":') for word in wanted))


_FILTERS: dict[str, Callable[[Connection, str, Any], Condition]] = {
    "test_id": _text(_c.test_id),
    "chip_id": _text(_c.chip_id),
    "device_id": _text(unindexed(_c.device_id)),
    "batch_id": _text(_c.batch_id),
    "status": _words(_c.status, STATUSES),
    "device_type": _words(_c.device_type, DEVICE_TYPES),
    "file_state": _words(_c.file_state, FILE_STATES),
    "has_features": _features,
    "missing_features": _features,
    "kind": _kind,
    "has_transfer_data": _flag(_c.transfer_steps > 0),
    "has_transient_data": _flag(_c.transient_steps > 0),
    "created_after": _time(_c.created_at, after=True),
    "created_before": _time(_c.created_at, after=False),
    "completed_after": _time(unindexed(_c.completed_at), after=True),
    "completed_before": _time(unindexed(_c.completed_at), after=False),
    "min_completion": _number(_c.completion_percentage, least=True, highest=100),
    "max_completion": _number(_c.completion_percentage, least=False, highest=100),
    "min_steps": _number(_c.total_steps, least=True),
    "max_steps": _number(_c.total_steps, least=False),
    "text_search": _text_search,
}
#: How a result is arranged; taken by the search itself.
_ARRANGEMENT = ("order_by", "order_desc", "limit", "offset")
FILTER_NAMES = (*_FILTERS, *_ARRANGEMENT)


def ordering(order_by: Any, order_desc: Any, n_found: int | None) -> list[ColumnElement[Any]]:
    """Return the columns to sort by: unknown values last, ties by id.

    Parameters
    ----------
    order_by, order_desc
        As given by the user.
    n_found
        Number of experiments to sort; not needed for columns in ``WALKED``.
    """
    check_order(order_by, order_desc)
    column: ColumnElement[Any] = ORDERS[order_by]
    if n_found is not None and n_found < _MANY:
        # Read everything and sort; the other way is to walk along the index of this column, which
        # is faster where most of what one meets is wanted.
        column = unindexed(column)
    if order_by == "id":
        return [column.desc() if order_desc else column.asc()]
    return [
        (column.desc() if order_desc else column.asc()).nulls_last(),
        _c.id.desc() if order_desc else _c.id.asc(),
    ]


def check_order(order_by: Any, order_desc: Any) -> None:
    """Raise CatalogError if a result cannot be sorted like this."""
    if order_by not in ORDERS:
        hint = did_you_mean(str(order_by), ORDERS)
        raise CatalogError(f"cannot order by {order_by!r}{hint}")
    _bool("order_desc", order_desc)


def count_limit(name: str, value: Any) -> int | None:
    """Return ``limit`` or ``offset``, checked."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise CatalogError(f"{name}={value!r}: expected a whole number from 0 on")
    return value
