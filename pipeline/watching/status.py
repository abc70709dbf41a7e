"""What a watcher says of itself, in a small file beside the results that others read.

The file is replaced whole, so that whoever reads it never sees a part; a watcher that was killed is
told by its process, or on another machine by its silence.
"""

from __future__ import annotations

import json
import math
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import psutil

from oectflow.atomic_write import atomic_write
from oectflow.errors import StorageError
from oectflow.local_path import local_path

#: Readers of a folder of Parquet files pass over what begins with an underscore.
STATUS_NAME = "_watch.json"
#: A watcher says at least every so many seconds that it is there.
HEARTBEAT = 30.0
#: One on another machine that was silent for so long is lost; in s.
_SILENCE = 10 * HEARTBEAT
#: The clock of the system and the one of processes differ by less, in s.
_CLOCKS_DIFFER = 5.0
_MOST_BYTES = 2**24

Word = Literal["watching", "working", "waiting", "stopped", "lost"]
ExperimentWord = Literal["running", "done", "failed"]


@dataclass(frozen=True)
class WatchedExperiment:
    """How far a watcher has come with one experiment.

    Attributes
    ----------
    id
        Its test id; the name of its folder or file as long as nothing else is known.
    steps_seen
        Steps in its raw file.
    steps_done
        Steps in its result.
    state
        ``"running"``: its test has not ended, or something of it is still to be computed.
        ``"done"``; or ``"failed"``.
    message
        Why it failed, and what else there is to know.
    """

    id: str
    steps_seen: int
    steps_done: int
    state: ExperimentWord
    message: str = ""


@dataclass(frozen=True)
class WatchStatus:
    """What a watcher does.

    Attributes
    ----------
    pid, host
        Its process, and the machine.
    started, updated
        When it began and when it said this, in s since 1970.
    state
        ``"watching"``: everything that came is computed.  ``"working"``.  ``"waiting"``: something
        cannot be done now and is tried again.  ``"stopped"``: it has ended as it was told.
        ``"lost"``: its process is gone, or was silent for five minutes on another machine.
    experiments
        Those that run first, then the latest others.
    """

    pid: int
    host: str
    started: float
    updated: float
    state: Word
    experiments: tuple[WatchedExperiment, ...] = ()


def read_status(
    features: str | os.PathLike[str], *, now: float | None = None
) -> WatchStatus | None:
    """Return what the watcher of a folder of results says of itself.

    Parameters
    ----------
    features
        The folder.
    now
        Time in s since 1970, by default of the clock.

    Returns
    -------
    None where nobody has watched, or where the file cannot be understood.

    Raises
    ------
    StorageError
        The file is there and cannot be read.
    """
    path = local_path(features, StorageError) / STATUS_NAME
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StorageError(f"{path}: cannot be read ({error.strerror or error})") from error
    try:
        status = _parsed(json.loads(data))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        # Of another version, or damaged; the watcher writes it anew.
        return None
    if status.state != "stopped" and _is_lost(status, time.time() if now is None else now):
        return replace(status, state="lost")
    return status


def write_status(features: Path, status: WatchStatus) -> None:
    """Replace what a watcher says of itself.

    Raises
    ------
    OSError
        The folder cannot be written.
    """
    text = json.dumps(asdict(status), ensure_ascii=False, separators=(",", ":"))
    with atomic_write(features / STATUS_NAME) as partial:
        partial.write_text(text, encoding="utf-8")


def _parsed(found: Mapping[str, Any]) -> WatchStatus:
    if found["state"] not in get_args(Word):
        raise ValueError(f"state {found['state']!r}")
    started, updated = float(found["started"]), float(found["updated"])
    if not (math.isfinite(started) and math.isfinite(updated)):
        raise ValueError("times that are none")
    return WatchStatus(
        int(found["pid"]), str(found["host"]), started, updated, found["state"],
        tuple(_experiment(one) for one in found["experiments"]),
    )  # fmt: skip


def _experiment(one: Mapping[str, Any]) -> WatchedExperiment:
    if one["state"] not in get_args(ExperimentWord):
        raise ValueError(f"state {one['state']!r}")
    seen, done = int(one["steps_seen"]), int(one["steps_done"])
    return WatchedExperiment(str(one["id"]), seen, done, one["state"], str(one["message"]))


def _is_lost(status: WatchStatus, now: float) -> bool:
    if status.host != platform.node():
        return now - status.updated > _SILENCE
    try:
        # A process that began later has only got the same number.
        return psutil.Process(status.pid).create_time() > status.started + _CLOCKS_DIFFER
    except (psutil.NoSuchProcess, ValueError, OverflowError):
        return True
    except psutil.AccessDenied:
        return False
