"""Search a catalog, and look at the experiments found."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from sqlalchemy import Select, func, select

from oectflow.pipeline.inputs.catalog.entry import (
    FRAME_COLUMNS,
    SHOWN_COLUMNS,
    CatalogEntry,
    load_entries,
)
from oectflow.pipeline.inputs.catalog.filters import (
    WALKED,
    check_order,
    conditions,
    count_limit,
    ordering,
)
from oectflow.pipeline.inputs.catalog.schema import experiments, raw_files
from oectflow.pipeline.inputs.catalog.store import Store

if TYPE_CHECKING:
    import pandas as pd

# How many ids a search reads at once, and how many entries are read to show one of them.
_FIRST = 2000
_PAGE = 100
_CHUNK = 5_000
_SHOWN = 20


def search(store: Store, filters: Mapping[str, Any]) -> SearchResult:
    """Find experiments; see :meth:`oectflow.pipeline.inputs.catalog.Catalog.search`."""
    wanted = dict(filters)
    order_by, order_desc = wanted.pop("order_by", "created_at"), wanted.pop("order_desc", True)
    check_order(order_by, order_desc)
    limit = count_limit("limit", wanted.pop("limit", None))
    offset = count_limit("offset", wanted.pop("offset", None)) or 0
    with store.read() as connection:
        where = conditions(connection, wanted)
        count = select(func.count()).select_from(experiments).where(*where)
        n_found = None
        if order_by not in WALKED:
            n_found = connection.scalar(count) or 0
        order = ordering(order_by, order_desc, n_found)
        query = _Query(store, select(experiments.c.id).where(*where).order_by(*order), offset)
        most = _FIRST if limit is None else min(limit, _FIRST)
        first = list(connection.scalars(query.ids.limit(most + 1)))
        if limit == most < len(first):
            n = most
        elif len(first) <= most and (first or not offset):
            n = len(first)
        else:
            # So many were found soon enough that there is time to count.
            if n_found is None:
                n_found = connection.scalar(count) or 0
            n = max(n_found - offset, 0)
            n = n if limit is None else min(n, limit)
    query.n = n
    return SearchResult(query, n, first[: min(n, most)])


class _Query:
    """Which experiments, in which order."""

    def __init__(self, store: Store, ids: Select[int], offset: int) -> None:
        self.store = store
        self.ids = ids.offset(offset)
        self.n = 0


class SearchResult(Sequence[CatalogEntry]):
    """Experiments that a search has found; shown as a table in a notebook.

    It is a sequence of :class:`CatalogEntry`: it has a length, can be indexed, sliced and looped
    over.  Rows are read when you look at them, some hundred at a time.
    """

    def __init__(self, query: _Query, n: int, first: list[int]) -> None:
        self._query = query
        self._n = n
        #: The first ids, or all.
        self._ids = first
        self._page: tuple[int, list[CatalogEntry]] = (0, [])

    def __len__(self) -> int:
        return self._n

    @overload
    def __getitem__(self, index: int) -> CatalogEntry: ...

    @overload
    def __getitem__(self, index: slice) -> SearchResult: ...

    def __getitem__(self, index: int | slice) -> CatalogEntry | SearchResult:
        if isinstance(index, slice):
            ids = self._all_ids()[index]
            return SearchResult(self._query, len(ids), ids)
        if not -self._n <= index < self._n:
            raise IndexError(f"there are {self._n} experiments, there is no number {index}")
        index %= self._n
        start, entries = self._page
        if not start <= index < start + len(entries):
            start = index // _PAGE * _PAGE
            self._page = start, self._load(start, start + _PAGE)
        return self._page[1][index - start]

    def __iter__(self) -> Iterator[CatalogEntry]:
        n = len(self._all_ids())
        for start in range(0, n, _CHUNK):
            yield from self._load(start, start + _CHUNK)

    @property
    def test_ids(self) -> list[str]:
        """The test ids, in order."""
        return [entry.test_id for entry in self]

    @property
    def paths(self) -> list[Path]:
        """The raw files, in order, for ``oectflow.extract``, without missing or unreadable ones."""
        ids = self._all_ids()
        c = experiments.c
        statement = (
            select(c.id, raw_files.c.path)
            .join_from(experiments, raw_files)
            .where(c.file_state.in_(("present", "unscanned")), raw_files.c.path != "")
        )
        found: dict[int, str] = {}
        with self._query.store.read() as connection:
            for start in range(0, len(ids), _CHUNK):
                rows = connection.execute(statement.where(c.id.in_(ids[start : start + _CHUNK])))
                found.update((row.id, row.path) for row in rows)
        return [Path(found[i]) for i in ids if i in found]

    def to_frame(self, *, workflow: bool = False, sample: bool = False) -> pd.DataFrame:
        """Return a table with one row per experiment.

        Parameters
        ----------
        workflow
            Add the parameters of the workflows as columns ``workflow_step_…``.
        sample
            Add the known properties of the devices as columns ``sample_…``, numbers in SI units.
        """
        import pandas as pd

        rows = [{name: getattr(entry, name) for name in FRAME_COLUMNS} for entry in self]
        # Beside the two kinds that the table always has.
        others = {f"{kind}_steps": kind for entry in self for kind in entry.n_steps}
        for name, kind in others.items():
            if name not in FRAME_COLUMNS:
                for row, entry in zip(rows, self, strict=True):
                    row[name] = entry.n_steps.get(kind, 0)
        more = [name for name in others if name not in FRAME_COLUMNS]
        frame = pd.DataFrame(rows, columns=[*FRAME_COLUMNS, *more])
        if workflow:
            parameters = pd.DataFrame([dict(entry.workflow) for entry in self], index=frame.index)
            frame = frame.join(parameters)
        if sample:
            named = [
                {f"sample_{key}": value for key, value in entry.sample.items() if key != "units"}
                for entry in self
            ]
            frame = frame.join(pd.DataFrame(named, index=frame.index))
        return frame

    def __repr__(self) -> str:
        lines = [f"<{_counted(self._n)}>"]
        lines += [
            f"    {entry.test_id}  {entry.chip_id}  {entry.device_id}  {entry.status}"
            for entry in self._shown()
        ]
        if self._n > _SHOWN:
            lines.append(f"    … and {self._n - _SHOWN:,} more")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        head = "".join(f"<th style='text-align:left'>{name}</th>" for name in SHOWN_COLUMNS)
        body = "".join(f"<tr>{_cells(entry)}</tr>" for entry in self._shown())
        more = f"<p>… and {self._n - _SHOWN:,} more</p>" if self._n > _SHOWN else ""
        return (
            f"<b>{_counted(self._n)}</b><table><thead><tr>{head}</tr></thead>"
            f"<tbody>{body}</tbody></table>{more}"
        )

    def _shown(self) -> list[CatalogEntry]:
        return [self[i] for i in range(min(self._n, _SHOWN))]

    def _load(self, start: int, stop: int) -> list[CatalogEntry]:
        ids = self._ids if stop <= len(self._ids) else self._all_ids()
        with self._query.store.read() as connection:
            return load_entries(connection, ids[start:stop])

    def _all_ids(self) -> list[int]:
        if len(self._ids) < self._n:
            with self._query.store.read() as connection:
                self._ids = list(connection.scalars(self._query.ids.limit(self._query.n)))
            # The catalog may have changed since the search counted.
            self._n = len(self._ids)
        return self._ids


def _counted(n: int) -> str:
    return f"{n:,} experiment" + ("" if n == 1 else "s")


def _cells(entry: CatalogEntry) -> str:
    values = (getattr(entry, name) for name in SHOWN_COLUMNS)
    texts = ("" if value is None else html.escape(str(value)) for value in values)
    return "".join(f"<td style='text-align:left'>{text}</td>" for text in texts)
