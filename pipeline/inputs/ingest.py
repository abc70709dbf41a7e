"""Turn instrument folders into raw HDF5 files, one per experiment, many at a time."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from oectflow.errors import IngestError, did_you_mean
from oectflow.measurement import Measurement
from oectflow.pipeline.inputs.instrument_folder import TEST_INFO, read_folder, read_test_info
from oectflow.pipeline.inputs.raw_format import (
    NAME_KEYS,
    file_name,
    name_parts,
    root_attributes,
    write_measurement,
)

OnConflict = Literal["skip", "overwrite", "rename"]
Status = Literal["written", "skipped", "failed"]

_DIED = "the process that converted it died; did the memory run out?"
# Starting a process takes 0.7 s, in which one converts 50 MB.
_BYTES_WORTH_A_PROCESS = 50_000_000


@dataclass(frozen=True)
class IngestRecord:
    """What became of one instrument folder.

    Attributes
    ----------
    folder
        The instrument folder.
    status
        ``"written"``, ``"skipped"`` (a file of this name exists) or ``"failed"``.
    path
        The HDF5 file, None where there is none.
    reason
        Why it was skipped or failed.
    n_transfer, n_transient
        Steps written.
    warnings
        Everything that was left out or assumed, with the step it concerns.
    """

    folder: Path
    status: Status
    path: Path | None = None
    reason: str = ""
    n_transfer: int = 0
    n_transient: int = 0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class IngestReport:
    """What became of every folder, in the order of their paths."""

    records: tuple[IngestRecord, ...]

    @property
    def written(self) -> list[IngestRecord]:
        """The folders that became a file."""
        return [record for record in self.records if record.status == "written"]

    @property
    def skipped(self) -> list[IngestRecord]:
        """The folders whose file was there already."""
        return [record for record in self.records if record.status == "skipped"]

    @property
    def failed(self) -> list[IngestRecord]:
        """The folders that could not be converted."""
        return [record for record in self.records if record.status == "failed"]

    def __str__(self) -> str:
        counts = f"{len(self.written)} written, {len(self.skipped)} skipped"
        lines = [f"{counts}, {len(self.failed)} failed"]
        lines += [f"failed: {record.folder}: {record.reason}" for record in self.failed]
        for record in self.records:
            lines += [f"warning: {record.folder}: {warning}" for warning in record.warnings]
        return "\n".join(lines)


def ingest(
    src: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    on_conflict: OnConflict = "skip",
    workers: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> IngestReport:
    """Convert every instrument folder below ``src`` to one HDF5 file in ``out``.

    A folder that cannot be converted is a record with a reason; the others are converted.

    Parameters
    ----------
    src
        One folder or several, searched at any depth for folders that hold a ``test_info.json``;
        never changed.
    out
        Folder of the HDF5 files, made where absent.
    on_conflict
        What to do where a file of the same name exists: keep it (``"skip"``), replace it
        (``"overwrite"``), or write beside it with ``_2``, ``_3``, … (``"rename"``).
    workers
        Processes; 1 converts in this process.  By default one per core where there is enough to do.
    progress
        Called with the number of folders done and of all folders.

    Returns
    -------
    One record per folder.

    Raises
    ------
    IngestError
        ``src`` holds no instrument folder, an argument is wrong, or no process can be started.
    """
    _check(on_conflict)
    if workers is not None and workers < 1:
        raise IngestError(f"workers={workers}, expected 1 or more, or None to decide by the work")
    sources = [src] if isinstance(src, str | os.PathLike) else list(src)
    found = [find_folders(source) for source in sources]
    folders = list(dict.fromkeys(folder for several, _ in found for folder in several))
    records = [record for _, failures in found for record in failures]
    if not folders and not records:
        places = ", ".join(map(str, sources[:5])) or "nothing given"
        raise IngestError(f"{places}: no folder with a {TEST_INFO} in it or below it")
    target = Path(out).absolute()
    target.mkdir(parents=True, exist_ok=True)
    groups = _by_file_name(folders)
    convert = partial(_convert_group, out=target, on_conflict=on_conflict)
    n = min(len(groups), workers or _useful_workers(folders))
    results = _in_processes(groups, convert, n) if n > 1 else map(convert, groups)
    total = len(folders) + len(records)
    for result in results:
        records += result
        if progress is not None:
            progress(len(records), total)
    return IngestReport(tuple(sorted(records, key=lambda record: record.folder)))


def convert_folder(
    folder: str | os.PathLike[str], out: str | os.PathLike[str], on_conflict: OnConflict = "skip"
) -> IngestRecord:
    """Convert one instrument folder; whatever is wrong with it is said in the record.

    Parameters
    ----------
    folder
        Holds ``test_info.json`` (or one JSON file of another name), CSV files and, if there is
        one, ``workflow.json``.
    out
        Folder of the HDF5 files, made where absent.
    on_conflict
        As in :func:`ingest`.
    """
    _check(on_conflict)
    folder = Path(folder).absolute()
    try:
        Path(out).mkdir(parents=True, exist_ok=True)
        info = read_test_info(folder)
        path = Path(out).absolute() / file_name(info.tidy)
        if path.exists():
            if on_conflict == "skip":
                return IngestRecord(folder, "skipped", path, "a file of this name exists")
            if on_conflict == "rename":
                path = _free_path(path)
        contents = read_folder(info)
        provenance = {
            "source_folder_name": folder.name,
            "source_folder_path": str(folder),
            "source_json_name": info.path.name,
            "export_time_utc": datetime.now(UTC).isoformat(),
            "output_filename": path.name,
        }
        names = dict(zip(NAME_KEYS, name_parts(info.tidy), strict=True))
        documents = {"json": json.dumps(info.original)}
        if contents.workflow_json is not None:
            documents["workflow"] = contents.workflow_json
        write_measurement(
            path,
            Measurement(
                root_attributes(info.tidy) | names | provenance,
                [*contents.transfer_steps, *contents.transient_steps],
                documents=documents,
            ),
        )
    except IngestError as error:
        return IngestRecord(folder, "failed", reason=str(error))
    except Exception as error:  # noqa: BLE001  one folder's trouble must not stop the others
        return IngestRecord(folder, "failed", reason=f"{type(error).__name__}: {error}")
    return IngestRecord(
        folder,
        "written",
        path,
        n_transfer=len(contents.transfer_steps),
        n_transient=len(contents.transient_steps),
        warnings=contents.warnings,
    )


def find_folders(src: str | os.PathLike[str]) -> tuple[list[Path], list[IngestRecord]]:
    """Return the folders at or below ``src`` that hold ``test_info.json``, and failures.

    Returns
    -------
    The folders, sorted; and a failed record for every folder that cannot be listed.

    Raises
    ------
    IngestError
        ``src`` is no folder.
    """
    root = Path(src).absolute()
    if not root.is_dir():
        raise IngestError(f"{src}: expected a folder that holds instrument folders")
    failures: list[IngestRecord] = []

    def unlisted(error: OSError) -> None:
        failures.append(IngestRecord(Path(error.filename), "failed", reason=str(error)))

    walk = os.walk(root, onerror=unlisted)
    return sorted(Path(folder) for folder, _, files in walk if TEST_INFO in files), failures


def _check(on_conflict: str) -> None:
    if on_conflict not in get_args(OnConflict):
        hint = did_you_mean(on_conflict, get_args(OnConflict))
        raise IngestError(f"unknown on_conflict={on_conflict!r}{hint}")


def _free_path(path: Path) -> Path:
    number = 2
    while (free := path.with_name(f"{path.stem}_{number}{path.suffix}")).exists():
        number += 1
    return free


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


def _convert_group(
    folders: Sequence[Path], out: Path, on_conflict: OnConflict
) -> list[IngestRecord]:
    records: list[IngestRecord] = []
    for folder in folders:
        first = next((record for record in records if record.status == "written"), None)
        if first is not None and on_conflict == "overwrite":
            reason = f"would overwrite the file just made from {first.folder}; rename one of them"
            records.append(IngestRecord(folder, "failed", first.path, reason))
        else:
            records.append(convert_folder(folder, out, on_conflict))
    return records


def _useful_workers(folders: Iterable[Path]) -> int:
    size = sum(
        entry.stat().st_size
        for folder in folders
        for entry in os.scandir(folder)
        if entry.is_file()
    )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(cores or 1, size // _BYTES_WORTH_A_PROCESS))


def _in_processes(
    groups: Sequence[Sequence[Path]],
    convert: Callable[[Sequence[Path]], list[IngestRecord]],
    workers: int,
) -> Iterator[list[IngestRecord]]:
    """Yield the records of each group as it is done; a group that kills its process fails alone."""
    waiting = list(reversed(groups))
    # Which of several died cannot be known: those in flight get another turn, one by one.
    suspects: list[Sequence[Path]] = []
    while waiting or suspects:
        queue, n = (suspects, 1) if suspects else (waiting, workers)
        running: dict[Future[list[IngestRecord]], Sequence[Path]] = {}
        with ProcessPoolExecutor(n, multiprocessing.get_context("spawn")) as pool:
            _check_alive(pool)
            try:
                while queue or running:
                    while queue and len(running) < n:
                        running[pool.submit(convert, queue[-1])] = queue[-1]
                        queue.pop()
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        result = future.result()
                        del running[future]
                        yield result
            except BrokenProcessPool:
                if queue is waiting:
                    suspects += running.values()
                    continue
                for folders in running.values():
                    yield [IngestRecord(f, "failed", reason=_DIED) for f in folders]


def _check_alive(pool: ProcessPoolExecutor) -> None:
    try:
        pool.submit(os.getpid).result()
    except BrokenProcessPool:
        raise IngestError(
            "worker processes do not start; a script that calls ingest needs "
            "'if __name__ == \"__main__\":' around its calls, or workers=1"
        ) from None
