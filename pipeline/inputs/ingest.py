"""Convert instrument folders and files of other instruments into raw HDF5 files."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any, get_args

from oectflow.errors import IngestError, did_you_mean
from oectflow.local_path import local_path
from oectflow.pipeline.inputs.convert import OnConflict, convert_files, convert_folder
from oectflow.pipeline.inputs.ingest_report import IngestRecord, IngestReport, Unread
from oectflow.pipeline.inputs.raw_format import file_name
from oectflow.pipeline.inputs.readers.registry import plug_ins
from oectflow.pipeline.inputs.readers.test_info import TEST_INFO, read_test_info
from oectflow.pipeline.inputs.samples import Samples, read_samples
from oectflow.pipeline.inputs.sources import Sources, find_sources
from oectflow.place import is_remote, place

_DIED = "the process that converted it died; did the memory run out?"
# Starting a process takes 0.7 s, in which one converts 50 MB.
_BYTES_WORTH_A_PROCESS = 50_000_000

Outcome = IngestRecord | Unread


def ingest(
    src: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    on_conflict: OnConflict = "skip",
    workers: int | None = None,
    progress: Callable[[int, int], object] | None = None,
    samples: Any = None,
) -> IngestReport:
    """Convert every measurement below ``src`` to one HDF5 file in ``out``.

    A folder with a ``test_info.json`` is one test of the laboratory's instrument.  All other files
    are offered to the readers; the reader that recognises a file best reads it.  A measurement that
    cannot be converted becomes a record with a reason; the others are converted.

    Parameters
    ----------
    src
        One or several folders or files.  Folders are searched at any depth and never changed.
    out
        Folder of the HDF5 files, made if missing.
    on_conflict
        What to do if a file of the same name exists: keep it (``"skip"``), replace it if its source
        has changed since (``"update"``), always replace it (``"overwrite"``), or write a new file
        with ``_2``, ``_3``, … (``"rename"``).  A file that was made while its test was running is
        updated even if other files are kept.
    workers
        Number of processes; 1 converts in this process.  By default one per core, if there is
        enough work.
    progress
        Called with the number of folders and files done, and the number of all.
    samples
        Geometry and materials of the devices, as :func:`oectflow.read_samples` takes them.  They
        are written into the files.  If a measurement and the table disagree, the measurement
        counts, and you get a warning.

    Returns
    -------
    One record per experiment, and the files that no reader could read.

    Raises
    ------
    IngestError
        ``src`` has no measurements, an argument is wrong, or no process can be started.
    ConfigError
        The samples are wrong.
    """
    if on_conflict not in get_args(OnConflict):
        hint = did_you_mean(on_conflict, get_args(OnConflict))
        raise IngestError(f"unknown on_conflict={on_conflict!r}{hint}")
    if workers is not None and workers < 1:
        raise IngestError(f"workers={workers}, expected 1 or more, or None to decide by the work")
    table = None if samples is None else read_samples(samples)
    roots = [src] if isinstance(src, str | os.PathLike) else list(src)
    target = place(out, IngestError).absolute()
    roots = [local_path(root, IngestError, "copy the measurements to a disk") for root in roots]
    found = find_sources(roots, leave_out=None if is_remote(target) else target)
    if isinstance(samples, str | os.PathLike):
        found.files.pop(Path(samples).absolute(), None)
    if not found.folders and not found.files and not found.failures:
        places = ", ".join(map(str, roots[:5])) or "nothing given"
        raise IngestError(f"{places}: no folder with a {TEST_INFO}, and no file, in it or below it")
    target.mkdir(parents=True, exist_ok=True)
    outcomes: list[Outcome] = [
        IngestRecord(path, "failed", reason=reason) for path, reason in found.failures
    ]
    n = min(len(found.folders) + len(found.files), workers or _useful_workers(found))
    # Only folders that are converted at once can be in each other's way.
    groups = _by_file_name(found.folders) if n > 1 else [[folder] for folder in found.folders]
    groups += _by_stem(found.files)
    convert = partial(_convert_group, out=target, on_conflict=on_conflict, samples=table, made={})
    if n > 1:
        results = _in_processes(groups, convert, n)
    else:
        results = ((group, convert(group)) for group in groups)
    total = len(found.folders) + len(found.files) + len(outcomes)
    done = len(outcomes)
    for group, result in results:
        outcomes += result
        done += len(group)
        if progress is not None:
            progress(done, total)
    return _report(outcomes, found)


def _report(outcomes: Iterable[Outcome], found: Sources) -> IngestReport:
    records = [one for one in outcomes if isinstance(one, IngestRecord)]
    unread = [one for one in outcomes if isinstance(one, Unread)]
    # What a reader took beside its file was no measurement of its own.
    companions = {path for record in records for path in record.files}
    notes = [*plug_ins()[1]]
    notes += [
        f"{path} is a link to {target}, and was looked through" for path, target in found.links
    ]
    notes += [f"{path} is hidden, and was passed over" for path in found.hidden]
    return IngestReport(
        tuple(sorted(records, key=lambda record: record.source)),
        tuple(
            sorted((one for one in unread if one.path not in companions), key=lambda one: one.path)
        ),
        tuple(notes),
    )


def _by_file_name(folders: Iterable[Path]) -> list[list[Path]]:
    """Group the folders that want the same file name: only these must not run at once."""
    groups: dict[str, list[Path]] = {}
    for folder in folders:
        try:
            name = file_name(read_test_info(folder).tidy)
        except (IngestError, OSError):
            name = str(folder)  # it fails alone, with its reason, when its turn comes
        groups.setdefault(name, []).append(folder)
    return list(groups.values())


def _by_stem(files: Iterable[Path]) -> list[list[Path]]:
    """Group the files of one name but for the ending: one may be read along with another."""
    groups: dict[tuple[Path, str], list[Path]] = {}
    for path in files:
        groups.setdefault((path.parent, path.stem.casefold()), []).append(path)
    return list(groups.values())


def _convert_group(
    paths: Sequence[Path],
    out: Path,
    on_conflict: OnConflict,
    samples: Samples | None,
    made: dict[Path, Path],
) -> list[Outcome]:
    """Convert sources, one after the other.

    Parameters
    ----------
    paths
        Folders of the instrument, or files.
    out, on_conflict, samples
        As of :func:`ingest`.
    made
        The raw files made so far in this process, and of what: none is overwritten.
    """
    if not paths[0].is_dir():
        return convert_files(paths, out, on_conflict, samples)
    return [convert_folder(folder, out, on_conflict, samples, made) for folder in paths]


def _useful_workers(found: Sources) -> int:
    size = sum(found.folders.values()) + sum(found.files.values())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(cores or 1, size // _BYTES_WORTH_A_PROCESS))


def _in_processes(
    groups: Sequence[Sequence[Path]],
    convert: Callable[[Sequence[Path]], list[Outcome]],
    workers: int,
) -> Iterator[tuple[Sequence[Path], list[Outcome]]]:
    """Yield each group with what became of it; a group that kills its process fails alone."""
    waiting = list(reversed(groups))
    # Which of several died cannot be known: those in flight get another turn, one by one.
    suspects: list[Sequence[Path]] = []
    while waiting or suspects:
        queue, n = (suspects, 1) if suspects else (waiting, workers)
        running: dict[Future[list[Outcome]], Sequence[Path]] = {}
        with ProcessPoolExecutor(n, multiprocessing.get_context("spawn")) as pool:
            _check_alive(pool)
            try:
                while queue or running:
                    while queue and len(running) < n:
                        running[pool.submit(convert, queue[-1])] = queue[-1]
                        queue.pop()
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        result = future.result()
                        yield running.pop(future), result
            except BrokenProcessPool:
                # What was done when another one died is done.
                for future in [one for one in running if one.done() and not one.exception()]:
                    yield running.pop(future), future.result()
                if queue is waiting:
                    suspects += running.values()
                    continue
                for paths in running.values():
                    yield paths, [IngestRecord(path, "failed", reason=_DIED) for path in paths]


def _check_alive(pool: ProcessPoolExecutor) -> None:
    try:
        pool.submit(os.getpid).result()
    except BrokenProcessPool:
        raise IngestError(
            "worker processes do not start; a script that calls ingest needs "
            "'if __name__ == \"__main__\":' around its calls, or workers=1"
        ) from None
