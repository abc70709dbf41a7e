"""Bring a catalog up to date with the raw files below a folder; never change these files."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Literal, get_args

from sqlalchemy import ColumnElement, and_, select

from oectflow.errors import CatalogError
from oectflow.local_path import local_path
from oectflow.pipeline.inputs.catalog.config import Discovery
from oectflow.pipeline.inputs.catalog.discover import Found, discover
from oectflow.pipeline.inputs.catalog.indexing import Outcome, mark_vanished, record_facts
from oectflow.pipeline.inputs.catalog.readers import Item, read_all, useful_workers
from oectflow.pipeline.inputs.catalog.schema import experiments, other_files, raw_files
from oectflow.pipeline.inputs.catalog.store import Store

#: Files per transaction: some tens of milliseconds, so that other writers soon have their turn.
_BATCH = 50
#: Rows of the catalog that are read at a time.
_PAGE = 5_000
# The coarsest clock of a file system in use (FAT): a file that was changed that shortly before it
# was read may have been changed once more without a new time.
_TICK_NS = 2_000_000_000
_SHOWN = 20


@dataclass(frozen=True)
class ScanProblem:
    """A file or folder that a scan could not use, and why."""

    path: str
    reason: str


@dataclass
class ScanReport:
    """Report of a scan.

    Attributes
    ----------
    root
        The folder.
    counts
        Number of files by outcome.  ``"added"``: new experiments.  ``"changed"``: read again.
        ``"moved"``: known experiments in a new place.  ``"returned"``: were missing or unreadable,
        and are back.  ``"unchanged"``.  ``"vanished"``: missing since the last scan; their entries
        stay.  ``"copy"`` and ``"conflict"``: more files with the test id of another one, with the
        same content or not.  ``"unreadable"``.  ``"foreign"``: HDF5 of another kind.
    problems
        Unreadable files and folders, copies and conflicts, each with its reason.
    n_unmatched
        HDF5 files that were ignored because their names do not match the pattern.
    pattern
        The pattern for names of raw files.
    seconds
        Wall time.
    """

    root: str
    counts: dict[str, int] = field(default_factory=dict)
    problems: list[ScanProblem] = field(default_factory=list)
    n_unmatched: int = 0
    pattern: str = ""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether every file could be used."""
        return not self.problems

    def __str__(self) -> str:
        words = ", ".join(f"{n:,} {outcome}" for outcome, n in self.counts.items() if n)
        lines = [f"{self.root}: {words or 'no raw file'} ({self.seconds:.1f} s)"]
        if self.n_unmatched:
            lines.append(f"not named like {self.pattern!r}: {self.n_unmatched:,} HDF5 files")
        lines += [f"{problem.path}: {problem.reason}" for problem in self.problems[:_SHOWN]]
        if len(self.problems) > _SHOWN:
            lines.append(f"… and {len(self.problems) - _SHOWN:,} more")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class _Known:
    """What the catalog knows of one file."""

    size: int
    mtime_ns: int
    scanned_ns: int
    content_hash: str | None
    state: str


def scan(
    store: Store,
    root: str | os.PathLike[str],
    discovery: Discovery,
    *,
    workers: int | None,
    verify: Literal["identity", "content"] = "identity",
    progress: Callable[[int, int], object] | None,
) -> ScanReport:
    """Scan a folder; see :meth:`oectflow.pipeline.inputs.catalog.Catalog.scan`."""
    if workers is not None and workers < 1:
        raise CatalogError(f"workers={workers}, expected 1 or more, or None to decide by the work")
    if verify not in ("identity", "content"):
        raise CatalogError(f"verify={verify!r}: expected 'identity' or 'content'")
    begin = time.perf_counter()
    local_path(root, CatalogError)
    top = os.path.abspath(os.path.expanduser(root))  # noqa: PTH100, PTH111 - text throughout
    found = discover(top, discovery)
    n_files = len(found.files)
    items, gone = _compare(store, top, found, verify)
    report = ScanReport(
        top,
        dict.fromkeys((*get_args(Outcome), "vanished"), 0),
        [ScanProblem(*problem) for problem in found.problems],
        found.n_unmatched,
        discovery.file_patterns.raw,
    )
    report.counts["vanished"] = _notice_vanished(store, gone)
    report.counts["unchanged"] = n_files - len(items)
    n_workers = workers or useful_workers(len(items), discovery.parallel_workers)
    done = report.counts["unchanged"]
    for outcomes in _read_and_record(store, items, n_workers):
        _count(report, outcomes)
        done += len(outcomes)
        if progress is not None:
            progress(done, n_files)
    heirs = _heirs(store, top)
    for outcomes in _read_and_record(store, heirs, 1):
        _count(report, [o for o in outcomes if o[1] not in ("copy", "conflict")])
    report.seconds = time.perf_counter() - begin
    return report


def below(column: ColumnElement[str], folder: str) -> ColumnElement[bool]:
    """Return the condition that a path is below a folder."""
    prefix = folder.rstrip(os.sep) + os.sep
    # A range, because LIKE does not tell capital letters apart on SQLite.
    return and_(column >= prefix, column < prefix[:-1] + chr(ord(os.sep) + 1))


def _known_files(store: Store, root: str) -> Iterator[tuple[str, _Known]]:
    """Yield what the catalog knows of each file, one after the other: there may be a million."""
    f, o = raw_files.c, other_files.c
    mine = (
        select(f.path, f.size, f.mtime_ns, f.scanned_ns, f.content_hash, experiments.c.file_state)
        .join_from(raw_files, experiments)
        .where(below(f.path, root))
        .order_by(f.path)
    )
    columns = (o.path, o.size, o.mtime_ns, o.scanned_ns, o.content_hash, o.kind)
    with store.read() as connection:
        rows = connection.execute(select(*columns).where(below(o.path, root)))
        others = {path: _Known(*values) for path, *values in rows}
        streamed = connection.execute(mine, execution_options={"yield_per": _PAGE})
        for path, rows_of_path in itertools.groupby(streamed, key=lambda row: row[0]):
            # An experiment whose file was replaced remembers the path, which now is another's.
            known = others.pop(path, None)
            for _, *values in rows_of_path:
                if known is None or values[-1] != "missing":
                    known = _Known(*values)
            assert known is not None
            yield path, known
    yield from others.items()


def _compare(store: Store, root: str, found: Found, verify: str) -> tuple[list[Item], list[str]]:
    """Return the files that may have changed, in alphabetical order, and those that are not there.

    What was found is used up, since it is large.
    """
    items: list[Item] = []
    gone: list[str] = []
    hidden = tuple(path + os.sep for path in found.unlisted)
    for path, was in _known_files(store, root):
        seen = found.files.pop(path, None)
        if seen is None:
            if (
                was.state != "missing"
                and path not in found.unlisted
                and not path.startswith(hidden)
            ):
                gone.append(path)
        elif was.state in ("unreadable", "unscanned") or seen[0] != was.size:
            items.append((path, None))
        elif (
            verify == "content"
            or seen[1] != was.mtime_ns
            or was.state == "missing"
            or seen[1] > was.scanned_ns - _TICK_NS
        ):
            items.append((path, was.content_hash))
    items += [(path, None) for path in found.files]
    # It may be there, but not match the pattern any more.
    return sorted(items, key=itemgetter(0)), [path for path in gone if not os.path.lexists(path)]


def _read_and_record(
    store: Store, items: Sequence[Item], workers: int
) -> Iterator[list[tuple[str, Outcome, str]]]:
    """Yield path, outcome and reason of every file, a transaction's worth at a time."""
    for batch in _batches(read_all(items, workers)):
        with store.write() as connection:
            outcomes = [(facts.path, *record_facts(connection, facts)) for facts in batch]
        yield outcomes


def _batches(items: Iterable[Any]) -> Iterator[list[Any]]:
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _count(report: ScanReport, outcomes: Iterable[tuple[str, Outcome, str]]) -> None:
    for path, outcome, reason in outcomes:
        report.counts[outcome] += 1
        if reason and outcome != "foreign":
            report.problems.append(ScanProblem(path, reason.removeprefix(f"{path}: ")))


def _notice_vanished(store: Store, gone: Sequence[str]) -> int:
    n = 0
    for start in range(0, len(gone), _BATCH):
        with store.write() as connection:
            n += mark_vanished(connection, gone[start : start + _BATCH])
    return n


def _heirs(store: Store, root: str) -> list[Item]:
    """Return the copies of experiments whose own file is no good: they take its place."""
    o = other_files.c
    statement = (
        select(o.path)
        .join_from(other_files, experiments, experiments.c.test_id == o.test_id)
        .where(experiments.c.file_state.in_(("missing", "unreadable")), below(o.path, root))
        .order_by(o.path)
    )
    with store.read() as connection:
        return [(path, None) for path in connection.scalars(statement)]
