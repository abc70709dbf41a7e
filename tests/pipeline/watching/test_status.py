from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time

import pytest

from oectflow.errors import StorageError
from oectflow.pipeline.watching.status import (
    STATUS_NAME,
    WatchedExperiment,
    WatchStatus,
    read_status,
    write_status,
)

EXPERIMENTS = (
    WatchedExperiment("test_µ", 101, 100, "running"),
    WatchedExperiment("test_2", 3, 0, "failed", "the disk is full"),
)


def status(**changes):
    now = time.time()
    fields = {
        "pid": os.getpid(), "host": platform.node(), "started": now, "updated": now,
        "state": "working", "experiments": EXPERIMENTS,
    }  # fmt: skip
    return WatchStatus(**fields | changes)


def test_what_was_written_is_read(tmp_path):
    assert read_status(tmp_path) is None
    assert read_status(tmp_path / "not there") is None
    said = status()
    write_status(tmp_path, said)
    assert read_status(tmp_path) == said
    assert [path.name for path in tmp_path.iterdir()] == [STATUS_NAME]


def test_of_a_process_that_is_gone_the_state_is_lost(tmp_path):
    child = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    write_status(tmp_path, status(pid=int(child.stdout)))
    assert read_status(tmp_path).state == "lost"
    # What was stopped is stopped, whatever became of the process.
    write_status(tmp_path, status(pid=int(child.stdout), state="stopped"))
    assert read_status(tmp_path).state == "stopped"


def test_a_later_process_with_the_same_number_is_another_one(tmp_path):
    write_status(tmp_path, status(started=1e6))
    assert read_status(tmp_path).state == "lost"


def test_on_another_machine_silence_tells(tmp_path):
    write_status(tmp_path, status(host="elsewhere", updated=1e9))
    assert read_status(tmp_path, now=1e9 + 60).state == "working"
    assert read_status(tmp_path, now=1e9 + 3600).state == "lost"


@pytest.mark.parametrize(
    "change",
    [
        {"state": "dancing"},
        {"pid": "none"},
        {"experiments": 3},
        {"experiments": [{"id": "a"}]},
        {"experiments": [{**vars(EXPERIMENTS[0]), "state": "well"}]},
        {"updated": float("nan")},
    ],
)
def test_what_cannot_be_understood_is_none(tmp_path, change):
    write_status(tmp_path, status())
    path = tmp_path / STATUS_NAME
    text = json.dumps(json.loads(path.read_text()) | change)
    path.write_text(text)
    assert read_status(tmp_path) is None
    path.write_text(text[: len(text) // 2])
    assert read_status(tmp_path) is None
    path.write_text("[" * 100_000)
    assert read_status(tmp_path) is None


def test_what_cannot_be_read_is_said(tmp_path):
    (tmp_path / STATUS_NAME).mkdir()
    with pytest.raises(StorageError, match="cannot be read"):
        read_status(tmp_path)
