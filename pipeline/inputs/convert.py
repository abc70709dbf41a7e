"""Convert one instrument folder, or one file of another instrument, into raw HDF5 files."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import xxhash

from oectflow.errors import IngestError
from oectflow.measurement import Measurement
from oectflow.pipeline.inputs.hdf5 import content_hash
from oectflow.pipeline.inputs.ingest_report import (
    NO_MEASUREMENTS,
    IngestRecord,
    Status,
    Unread,
)
from oectflow.pipeline.inputs.origin import (
    hash_of_test,
    origin_of,
    state_of_files,
    state_of_test,
)
from oectflow.pipeline.inputs.raw_format import (
    NAME_KEYS,
    file_name,
    name_parts,
    write_measurement,
)
from oectflow.pipeline.inputs.readers.instrument import READER
from oectflow.pipeline.inputs.readers.reader import Reader, mistake_of
from oectflow.pipeline.inputs.readers.registry import Choice, find_reader, plug_ins
from oectflow.pipeline.inputs.readers.regular_file import check_regular
from oectflow.pipeline.inputs.readers.sense import sensible
from oectflow.pipeline.inputs.readers.test_info import RUNNING, read_test_info
from oectflow.pipeline.inputs.samples import Samples, with_sample
from oectflow.place import place

OnConflict = Literal["skip", "update", "overwrite", "rename"]

_EXISTS = "a file of this name exists"
# A folder may be called "chip 12", "chip_A3", "device-4"; "chips" names none.
_CHIP = re.compile(r"(?:^|[^a-z])chip(?:[ _#-]+(\w+)|(\d\w*))", re.IGNORECASE)
_DEVICE = re.compile(r"(?:^|[^a-z])(?:device|dev|unit)(?:[ _#-]+(\w+)|(\d\w*))", re.IGNORECASE)
_LONGEST_STEM = 60
_SMALL_FILE = 2 * 2**20


def convert_folder(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    on_conflict: OnConflict = "skip",
    samples: Samples | None = None,
    made: dict[Path, Path] | None = None,
    *,
    under_way: bool = True,
) -> IngestRecord:
    """Convert one instrument folder; the record says if something is wrong with it.

    Parameters
    ----------
    folder
        A folder with ``test_info.json`` (``test_info_temp.json`` while the test runs, or one JSON
        file of another name), CSV files and, optionally, ``workflow.json``.
    out
        Folder of the HDF5 files, made if missing.
    on_conflict, samples
        As in :func:`oectflow.ingest`.
    made
        Raw files made before, and their sources.  They are not overwritten.  New files are added.
    under_way
        Whether to read the existing part of a step that a running test is still measuring.
    """
    made = {} if made is None else made
    folder = Path(folder).absolute()
    record = IngestRecord(folder, "failed", reader=READER.name)
    try:
        out = place(out, IngestError).absolute()
        out.mkdir(parents=True, exist_ok=True)
        info = read_test_info(folder)
        recognition = f"the folder holds {info.path.name}"
        record = replace(record, recognition=recognition)
        source: dict[str, Any] = {
            "source_folder_name": folder.name,
            "source_folder_path": str(folder),
        }
        digest = cache(partial(hash_of_test, folder, info, under_way=under_way))
        state = state_of_test(folder, info, under_way=under_way)
        names = dict(zip(NAME_KEYS, name_parts(info.tidy), strict=True))
        wanted = out / file_name(info.tidy)
        if on_conflict == "update":
            path, status, reason = _updated(wanted, folder, state, digest)
        else:
            path, status, reason = _target(wanted, on_conflict, digest, is_file=False)
        if status == "skipped":
            return replace(record, status=status, path=path, reason=reason)
        if path in made:
            raise IngestError(
                f"would overwrite the file just made from {made[path]}; rename one of them"
            )
        if info.running or on_conflict == "update":
            # The hash comes first, so that data added in between are read the next time.
            source |= {"source_hash": digest(), "source_state": state}
            info = read_test_info(folder)
        (measurement,) = READER.read_test(info, under_way=under_way).measurements
        measurement = with_sample(sensible(measurement), measurement.attributes, samples)
        _write(path, measurement, {**measurement.attributes, **names, **source})
    except IngestError as error:
        return replace(record, reason=str(error))
    except Exception as error:  # noqa: BLE001  one folder's trouble must not stop the others
        return replace(record, reason=f"{type(error).__name__}: {error}")
    made[path] = folder
    return _done(record, status, path, measurement)


def convert_files(
    paths: Iterable[Path],
    out: Path,
    on_conflict: OnConflict = "skip",
    samples: Samples | None = None,
) -> list[IngestRecord | Unread]:
    """Convert files that may belong together; a file read along with another is not repeated.

    Parameters
    ----------
    paths
        The files.
    out
        Folder of the HDF5 files.
    on_conflict, samples
        As in :func:`oectflow.ingest`.
    """
    outcomes: list[IngestRecord | Unread] = []
    chosen: list[tuple[Path, Choice]] = []
    for path in paths:
        choice = _choice(path)
        if isinstance(choice, Choice):
            chosen.append((path, choice))
        else:
            outcomes.append(choice)
    taken: set[Path] = set()
    for path, choice in sorted(chosen, key=lambda one: -one[1].recognition.confidence):
        if path in taken or choice.reader is None:
            continue
        failed = IngestRecord(
            path, "failed", reader=choice.reader.name, recognition=choice.recognition.reason
        )
        found = _convert_file(failed, choice.reader, out, on_conflict, samples)
        taken.update(*(record.files for record in found if isinstance(record, IngestRecord)))
        outcomes += found
    return outcomes


def _choice(path: Path) -> Choice | Unread:
    if path.suffix.lower() in NO_MEASUREMENTS and not plug_ins()[0]:
        return Unread(path, f"files *{path.suffix.lower()} are no measurements")
    try:
        if not check_regular(path):
            return Unread(path, "the file is empty")
    except IngestError as error:
        return Unread(path, str(error))
    choice = find_reader(path)
    return choice if choice.reader is not None else Unread(path, choice.recognition.reason)


def _convert_file(
    failed: IngestRecord,
    reader: Reader,
    out: Path,
    on_conflict: OnConflict,
    samples: Samples | None,
) -> list[IngestRecord | Unread]:
    path = failed.source
    try:
        # The hash comes before the content, so that data added in between change the hash.
        state = state_of_files([path])
        digest = content_hash(path)
        reading = reader.read(path)
    except IngestError as error:
        return [replace(failed, reason=str(error))]
    except Exception as error:  # noqa: BLE001  one file's trouble must not stop the others
        return [replace(failed, reason=mistake_of(reader.name, error))]
    several = len(reading.measurements) > 1
    files = tuple(file for file in reading.files if file != path)
    records: list[IngestRecord | Unread] = []
    for number, measurement in enumerate(reading.measurements, 1):
        attributes = _attributes_of_file(path, measurement, f"_{number}" if several else "")
        attributes |= {"reader": reader.name, "source_hash": digest, "source_state": state}
        record = replace(failed, files=files)
        records.append(_convert_one(record, measurement, attributes, out, on_conflict, samples))
    nothing = f"{reader.name}: {failed.recognition}, but it holds no measurement"
    return records or [Unread(path, nothing)]


def _convert_one(
    record: IngestRecord,
    measurement: Measurement,
    attributes: Mapping[str, Any],
    out: Path,
    on_conflict: OnConflict,
    samples: Samples | None,
) -> IngestRecord:
    try:
        if not measurement.steps:
            why = "; ".join(measurement.warnings[:3]) or "no step was found in it"
            raise IngestError(f"{record.source}: nothing can be read: {why}")
        digest = str(attributes["source_hash"])
        wanted = out / file_name(attributes)
        if on_conflict == "update":
            state = str(attributes["source_state"])
            path, status, reason = _updated(wanted, record.source, state, lambda: digest)
        else:
            path, status, reason = _target(wanted, on_conflict, lambda: digest, is_file=True)
        if status == "skipped":
            return replace(record, status=status, path=path, reason=reason)
        measurement = with_sample(sensible(measurement), attributes, samples)
        _write(path, measurement, attributes)
    except IngestError as error:
        return replace(record, reason=str(error))
    except Exception as error:  # noqa: BLE001  one measurement's trouble must not stop the others
        return replace(record, reason=f"{type(error).__name__}: {error}")
    return _done(record, status, path, measurement)


def _attributes_of_file(path: Path, measurement: Measurement, number: str) -> dict[str, Any]:
    """Return the attributes of a measurement that comes from a file.

    Its test id is made from the name and place of the file, so that no two files share one.
    """
    given = dict(measurement.attributes)
    if "test_id" in given:
        given["source_test_id"] = given.pop("test_id")
    parts = [path.stem, *(parent.name for parent in path.parents)][:4]
    stem = re.sub(r"[^\w.+-]+", "_", path.stem).strip("_")[:_LONGEST_STEM]
    place = xxhash.xxh3_64_hexdigest(os.fsencode(path))[:8]
    names = {
        "chip_id": _named(_CHIP, parts),
        "device_number": _named(_DEVICE, parts),
        "description": "",
    }
    return {
        **{key: value for key, value in names.items() if not given.get(key)},
        **{key: value for key, value in given.items() if value != "" or key not in names},
        "test_id": f"test_{stem}_{place}{number}",
        "source_file_name": path.name,
        "source_file_path": str(path),
    }


def _named(pattern: re.Pattern[str], parts: Sequence[str]) -> str:
    """Return the entry in the name of the file or the nearest folder, ``""`` if there is none."""
    for part in parts:
        if match := pattern.search(part.replace("__", "_")):
            return next(group for group in match.groups() if group)
    return ""


def _target(
    path: Path, on_conflict: OnConflict, digest: Callable[[], str], *, is_file: bool
) -> tuple[Path, Status, str]:
    """Return the path to write, the status, and the reason if nothing is to be written."""
    if not path.exists():
        return path, "written", ""
    if on_conflict == "rename":
        return _free_path(path), "written", ""
    if on_conflict == "overwrite":
        return path, "written", ""
    if not is_file and not _may_be_running(path):
        return path, "skipped", _EXISTS
    found = origin_of(path)
    status, written_from = found["status"], found["source_hash"]
    if status != RUNNING:
        changed = written_from and written_from != digest()
        hint = "; its source has changed since: on_conflict='overwrite' replaces it"
        return path, "skipped", _EXISTS + hint * bool(changed)
    if written_from and written_from == digest():
        return path, "skipped", f"{_EXISTS}, and the running test has nothing new"
    return path, "updated", ""


def _may_be_running(path: Path) -> bool:
    """Return whether a raw file may be of a running test; where it is small, HDF5 is not asked.

    Texts are stored as they are, so that the word is in the file of such a test.
    """
    try:
        return path.stat().st_size > _SMALL_FILE or RUNNING.encode() in path.read_bytes()
    except OSError:
        return False


def _updated(
    path: Path, source: Path, state: str, digest: Callable[[], str]
) -> tuple[Path, Status, str]:
    """Do as :func:`_target` for ``on_conflict="update"``.

    Parameters
    ----------
    path
        Path of the raw file, which may not exist yet.
    source, state
        The folder or file, and its state, which shows without reading whether it has changed.
    digest
        Reads it, and returns its hash.

    Raises
    ------
    IngestError
        The raw file was made from another source, which still exists.
    """
    if not path.exists():
        return path, "written", ""
    found = origin_of(path)
    other = found["source_folder_path"] or found["source_file_path"]
    is_other = other != str(source) and not _is_same(Path(other), source)
    if other and is_other and Path(other).exists():
        raise IngestError(
            f"{path.name} was made from {other}, and would be replaced by {source}; remove one of "
            "them, or give it another test_id"
        )
    if found["source_state"] == state and not is_other:
        return path, "skipped", f"{_EXISTS}, and its source has not changed"
    if not found["source_hash"] and found["status"] != RUNNING:
        return path, "skipped", f"{_EXISTS}, which does not say from what content it was made"
    if found["source_hash"] == digest():
        return path, "skipped", f"{_EXISTS}, and its source has the same content"
    return path, "updated", ""


def _is_same(one: Path, other: Path) -> bool:
    """Whether two names belong to one folder or file: one may be a link."""
    try:
        return one.samefile(other)
    except OSError:
        return False


def _free_path(path: Path) -> Path:
    number = 2
    while (free := path.with_name(f"{path.stem}_{number}{path.suffix}")).exists():
        number += 1
    return free


def _write(path: Path, measurement: Measurement, attributes: Mapping[str, Any]) -> None:
    provenance = {"export_time_utc": datetime.now(UTC).isoformat(), "output_filename": path.name}
    write_measurement(path, replace(measurement, attributes={**attributes, **provenance}))


def _done(
    record: IngestRecord, status: Status, path: Path, measurement: Measurement
) -> IngestRecord:
    counts = Counter(step.kind for step in measurement.steps)
    return replace(
        record, status=status, path=path, n_steps=dict(counts), warnings=measurement.warnings
    )
