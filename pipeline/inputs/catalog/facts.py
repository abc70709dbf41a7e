"""The data that a scan reads from one raw file: small, picklable, ready for the database."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from oectflow.errors import InputError, NotAnExperiment, UnreadableFile
from oectflow.pipeline.inputs.catalog.workflow import Parameters, flatten_workflow, tidy_text
from oectflow.pipeline.inputs.experiment import Experiment
from oectflow.pipeline.inputs.hdf5 import content_hash
from oectflow.pipeline.inputs.samples import Sample, sample_of

# In characters.  What is indexed must fit into the 2700 bytes of an index entry of PostgreSQL.
_LONGEST = 500
_LONGEST_NAME = 60
_LONGEST_ID = 120
_LONGEST_SEARCHED = 300
_LARGEST = 2**31 - 1
_TRIES = 3


@dataclass(frozen=True)
class Facts:
    """One file that a scan has read.

    Attributes
    ----------
    path, size, mtime_ns
        The file, and its size and time when it was read.
    scanned_ns
        When it was read.
    content_hash
        XXH3-128 of its bytes; None if they could not be read.
    kind
        ``"experiment"``; ``"same"`` if the content has not changed; ``"unreadable"``; or
        ``"foreign"`` if it is HDF5 of another kind.
    reason
        Why it is not an experiment, or what else is wrong with it.
    columns
        Values for the table of experiments.
    workflow
        Flattened.
    sample
        Properties of the device in the file.
    """

    path: str
    size: int
    mtime_ns: int
    scanned_ns: int
    content_hash: str | None
    kind: str
    reason: str = ""
    columns: Mapping[str, Any] = field(default_factory=dict)
    workflow: Parameters = field(default_factory=dict)
    sample: Sample = field(default_factory=dict)


def read_facts(path: str, known_hash: str | None = None) -> Facts:
    """Read the metadata of one raw file; the result says if something is wrong with it.

    Parameters
    ----------
    path
        The file.
    known_hash
        Hash of the content that the catalog has read before.  If it is the same, the metadata need
        not be read again.
    """
    for _ in range(_TRIES):
        facts = _read_once(path, known_hash)
        if facts is not None:
            return facts
    reason = f"{path}: is being written; scan again when that has finished"
    return Facts(path, 0, 0, time.time_ns(), None, "unreadable", reason)


def _read_once(path: str, known_hash: str | None) -> Facts | None:
    """Read a file; None where it changed meanwhile."""
    scanned_ns = time.time_ns()
    size = mtime_ns = 0
    digest = None
    columns: dict[str, Any] = {}
    workflow: Parameters = {}
    sample: Sample = {}
    reason = ""
    kind = "experiment"
    try:
        status = os.stat(path)  # noqa: PTH116 - a Path for each of 100,000 files takes its time
        size, mtime_ns = status.st_size, status.st_mtime_ns
        experiment = None if known_hash else Experiment(path)
        digest = content_hash(path)
        if experiment is None and digest != known_hash:
            experiment = Experiment(path)
        if experiment is None:
            kind = "same"
        else:
            columns = experiment_columns(experiment)
            workflow, reason = _workflow(experiment)
            sample, odd = sample_of(experiment, None)
            reason = _tidy("; ".join(filter(None, [reason, *odd])))
    except NotAnExperiment as error:
        kind, reason = "foreign", _tidy(error)
    except (InputError, OSError) as error:
        kind, reason = "unreadable", _tidy(error)
    except Exception as error:  # noqa: BLE001 - one file must not stop a scan of all others
        kind, reason = "unreadable", _tidy(f"{path}: {type(error).__name__}: {error}")
    if _identity(path) not in (None, (size, mtime_ns)):
        return None
    if kind in ("foreign", "unreadable"):
        columns, workflow, sample = {}, {}, {}
    return Facts(path, size, mtime_ns, scanned_ns, digest, kind, reason, columns, workflow, sample)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - as above
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def experiment_columns(experiment: Experiment) -> dict[str, Any]:
    """Return the values for the table of experiments.

    Raises
    ------
    InputError
        The test id is too long to be one.
    """
    counts = {name: experiment.n_steps(name) for name in experiment.sources}
    layouts = [experiment.layout(name) for name in experiment.sources]
    points = sum(x.samples() * x.nbytes_per_sample // 8 for x in layouts)
    return (
        identity_columns(experiment.experiment_id, experiment.chip_id, experiment.device_id)
        | attribute_columns(experiment.attributes, counts)
        | {"total_data_points": points}
    )


def step_counts(row: Mapping[str, Any]) -> dict[str, int]:
    """Return the numbers of steps by kind, from a row of another catalog."""
    return {kind: _count(row.get(f"{kind}_steps")) or 0 for kind in ("transfer", "transient")}


def step_columns(counts: Mapping[str, int]) -> dict[str, Any]:
    """Return the columns for the numbers of steps by kind of measurement."""
    return {
        "transfer_steps": counts.get("transfer", 0),
        "transient_steps": counts.get("transient", 0),
        "step_counts": json.dumps({kind: n for kind, n in counts.items() if n}),
    }


def attribute_columns(attributes: Mapping[str, Any], counts: Mapping[str, int]) -> dict[str, Any]:
    """Return the columns that come from attributes, or from a row of another catalog.

    A value that does not fit its column (a completion of 250 %, an invalid date) is left out; the
    raw file keeps it.
    """
    completion = _number(attributes.get("completion_percentage"))
    if completion is not None and not 0 <= completion <= 100:
        completion = None
    return {
        "description": _text(attributes.get("description")) or "",
        "test_unit_id": _text(attributes.get("test_unit_id")),
        "batch_id": _name(attributes.get("batch_id")),
        "status": _name(attributes.get("status")) or "unknown",
        "device_type": _name(attributes.get("device_type")),
        "sample_type": _text(attributes.get("sample_type")),
        "temperature": _number(attributes.get("temperature")),
        "duration": _number(attributes.get("duration")),
        "completion_percentage": completion,
        "completed_steps": _count(attributes.get("completed_steps")),
        "total_steps": _count(attributes.get("total_steps")) or sum(counts.values()),
        **step_columns(counts),
        "created_at": wall_clock(attributes.get("created_at")),
        "completed_at": wall_clock(attributes.get("completed_at")),
        "total_data_points": _count(attributes.get("total_data_points")) or 0,
    }


def identity_columns(test_id: str, chip_id: str, device_id: str) -> dict[str, Any]:
    """Return the columns that identify the experiment, as text that any database can store.

    Raises
    ------
    InputError
        The test id is too long to be one.
    """
    if len(test_id) > _LONGEST_ID:
        raise UnreadableFile(
            f"test_id={test_id[:40]!r}… has {len(test_id)} characters, expected at most "
            f"{_LONGEST_ID}; is the attribute something else?"
        )
    return {
        "test_id": _tidy(test_id),
        "chip_id": _tidy(chip_id)[:_LONGEST_NAME],
        "device_id": _tidy(device_id)[:_LONGEST_NAME],
    }


def search_text(columns: Mapping[str, Any]) -> str:
    """Return the text that ``text_search`` searches."""
    words = (columns["chip_id"], columns["test_id"], columns["description"])
    return "\n".join(words).casefold()[:_LONGEST_SEARCHED]


def wall_clock(value: Any) -> datetime | None:
    """Return an ISO time as wall-clock time; None if it is not a time."""
    if not isinstance(value, str):
        return None
    try:
        return datetime.fromisoformat(value.strip()).replace(tzinfo=None)
    except ValueError:
        return None


def _workflow(experiment: Experiment) -> tuple[Parameters, str]:
    try:
        return flatten_workflow(experiment.workflow), ""
    except UnreadableFile as error:
        # The measurement is as good as ever.
        return {}, _tidy(error)


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, list):
        return None
    return _tidy(value).strip() or None


def _name(value: Any) -> str | None:
    text = _text(value)
    return text[:_LONGEST_NAME] if text else None


def _tidy(value: Any) -> str:
    return tidy_text(str(value))[:_LONGEST]


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _count(value: Any) -> int | None:
    number = _number(value)
    return int(number) if number is not None and 0 <= number <= _LARGEST else None
