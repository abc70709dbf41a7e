"""Read the metadata of many files, in several processes where that pays."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from oectflow.errors import CatalogError
from oectflow.pipeline.inputs.catalog.facts import Facts, read_facts

#: A path, and the hash of the content that the catalog knows, if that is worth comparing.
Item = tuple[str, str | None]

_CHUNK = 20
# Starting processes takes as long as reading so many files.
_FILES_WORTH_PROCESSES = 1000


def read_all(items: Sequence[Item], workers: int) -> Iterator[Facts]:
    """Yield what each file holds, in the order given.

    A file on which the HDF5 library crashes takes one process with it, and nothing else.

    Parameters
    ----------
    items
        What to read.
    workers
        Processes; 1 reads in this one.

    Raises
    ------
    CatalogError
        No process can be started.
    """
    if workers == 1:
        for item in items:
            yield read_facts(*item)
        return
    chunks = deque(items[i : i + _CHUNK] for i in range(0, len(items), _CHUNK))
    while chunks:
        with _pool(workers) as pool:
            _check_alive(pool)
            futures = [pool.submit(read_chunk, chunk) for chunk in chunks]
            try:
                for future in futures:
                    yield from future.result()
                    chunks.popleft()
            except BrokenProcessPool:
                # Whose fault it was cannot be known; whoever is at fault does it again alone.
                yield from _one_by_one(chunks.popleft())


def useful_workers(n_files: int, most: int) -> int:
    """Return how many processes so many files are worth."""
    if n_files < _FILES_WORTH_PROCESSES:
        return 1
    return max(1, min(most, os.cpu_count() or 1))


def read_chunk(items: Sequence[Item]) -> list[Facts]:
    """Read some files; runs in a worker process."""
    return [read_facts(*item) for item in items]


def _one_by_one(items: Sequence[Item]) -> Iterator[Facts]:
    waiting = deque(items)
    while waiting:
        with _pool(1) as pool:
            try:
                while waiting:
                    yield from pool.submit(read_chunk, [waiting[0]]).result()
                    waiting.popleft()
            except BrokenProcessPool:
                path = waiting.popleft()[0]
                reason = f"{path}: the process that read it died; the file is damaged"
                yield Facts(path, 0, 0, time.time_ns(), None, "unreadable", reason)


def _pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))


def _check_alive(pool: ProcessPoolExecutor) -> None:
    try:
        pool.submit(os.getpid).result()
    except BrokenProcessPool:
        raise CatalogError(
            "worker processes do not start; a script that scans needs "
            "'if __name__ == \"__main__\":' around its calls, or workers=1"
        ) from None
