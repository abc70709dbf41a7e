"""The files of marks: nothing that anybody wrote is lost, and no line stops the others."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import threading

import pytest

from oectflow.errors import ParameterError, StorageError
from oectflow.pipeline.marks import store
from oectflow.pipeline.marks.mark import new_mark, new_undo


def mark(**about):
    return new_mark(**({"label": "bad", "experiment_id": "a"} | about))


def test_what_is_written_is_read(tmp_path):
    entries = [
        mark(step=3, cycle=2, feature="tau", reason='µ "x"\n', who="Ada"),
        mark(label="to check", experiment_id=None, chip_id="C7", device_id="2", kind="transfer"),
    ]
    path = store.write(tmp_path, entries)
    assert path.parent == tmp_path / "_marks"
    assert set(store.read(tmp_path).marks) == set(entries)
    assert store.read(tmp_path).unreadable == ()
    # Plain JSON, a line for each.
    assert [json.loads(line)["label"] for line in path.read_text().splitlines()] == [
        "bad",
        "to check",
    ]


def test_an_undo_counts_whichever_is_read_first(tmp_path):
    one, other = mark(), mark()
    undo = new_undo(one.id, reason="was right")
    store.write(tmp_path, [undo, one, other])
    book = store.read(tmp_path)
    assert set(book.marks) == {one, other}
    assert book.holding == (other,)
    assert book.undone == {one.id: undo}


def test_a_folder_without_marks(tmp_path):
    assert store.read(tmp_path).holding == ()
    assert list(tmp_path.iterdir()) == []


def test_two_who_mark_at_once_lose_nothing(tmp_path):
    code = (
        "import sys; from pathlib import Path\n"
        "from oectflow.pipeline.marks import store\n"
        "from oectflow.pipeline.marks.mark import new_mark\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "for i in range(100):\n"
        "    store.write(Path(sys.argv[1]), [new_mark('bad', experiment_id=sys.argv[2], step=i)])\n"
    )
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("first", "second")
    ]
    for run in runs:
        assert run.stdout.readline() == "ready\n"
    for run in runs:
        run.stdin.write("go\n")
        run.stdin.flush()
    threads = [
        threading.Thread(target=store.write, args=(tmp_path, [mark(step=i)])) for i in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for run in runs:
        assert run.wait() == 0
        run.stdin.close()
        run.stdout.close()
    book = store.read(tmp_path)
    assert book.unreadable == ()
    assert {(m.experiment_id, m.step) for m in book.holding} == {
        *(("first", i) for i in range(100)),
        *(("second", i) for i in range(100)),
        *(("a", i) for i in range(20)),
    }


def test_two_machines_write_two_files(tmp_path, monkeypatch):
    paths = {store.write(tmp_path, [mark(step=0)])}
    monkeypatch.setattr(store.uuid, "getnode", lambda: 7)
    paths.add(store.write(tmp_path, [mark(step=1)]))
    monkeypatch.setattr(store, "user_name", lambda: "../O'Hara =1")
    paths.add(store.write(tmp_path, [mark(step=2)]))
    assert len(paths) == 3
    assert {path.parent for path in paths} == {tmp_path / "_marks"}
    assert [m.step for m in sorted(store.read(tmp_path).holding, key=lambda m: m.step)] == [0, 1, 2]


def test_copies_that_are_put_together_again(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    common = mark(step=0)
    path = store.write(here, [common])
    shutil.copytree(here, there)
    store.write(here, [mark(step=1)])
    store.write(there, [mark(step=2), new_undo(common.id)])
    # As programs that synchronise folders name what has changed on both sides.
    shutil.copy(there / "_marks" / path.name, here / "_marks" / f"{path.stem} (conflict).jsonl")
    assert {m.step for m in store.read(here).marks} == {0, 1, 2}
    assert {m.step for m in store.read(here).holding} == {1, 2}


@pytest.mark.parametrize("kept", [1, 20, -2])
def test_a_line_that_was_cut_off(tmp_path, kept):
    first, lost, later = mark(step=0), mark(step=1), mark(step=2)
    path = store.write(tmp_path, [first])
    size = path.stat().st_size
    store.write(tmp_path, [lost])
    data = path.read_bytes()
    path.write_bytes(data[: size + kept] if kept > 0 else data[:kept])
    book = store.read(tmp_path)
    assert book.holding == (first,)
    (reason,) = book.unreadable
    assert f"{path}, line 2: is no mark: it was cut off" in reason
    store.write(tmp_path, [later])
    book = store.read(tmp_path)
    assert set(book.holding) == {first, later}
    assert [f"{path}, line 2" in reason for reason in book.unreadable] == [True]


GOOD = '{"id": "%s", "label": "bad", "experiment_id": "a", "who": "x", "when": "%s"}'
WHEN = "2026-01-02T03:04:05+00:00"
WINDOW = (GOOD % ("7" * 32, WHEN)).replace(
    '"label": "bad"', '"step": 1, "cycle": 2, "phase": "%s", "begin": %s, "end": %s'
)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("no JSON", "Expecting value"),
        ("[1]", "expected an object"),
        ("[" * 100_000, "nested too deeply"),
        (GOOD % ("7" * 31, WHEN), "id="),
        (GOOD % ("7" * 32, "yesterday"), "when="),
        ((GOOD % ("7" * 32, WHEN)).replace("}", ', "phase": "on"}'), "phase="),
        ((GOOD % ("7" * 32, WHEN)).replace("}", ', "step": -1}'), "step=-1"),
        ((GOOD % ("7" * 32, WHEN)).replace("}", ', "step": 1.0}'), "step=1.0"),
        ((GOOD % ("7" * 32, WHEN)).replace("}", ', "chip_id": "C"}'), "not both"),
        ((GOOD % ("7" * 32, WHEN)).replace('"bad"', '"a, b"'), "label='a, b'"),
        ((GOOD % ("7" * 32, WHEN)).replace('"a"', '"\\ud800"'), "experiment_id="),
        (WINDOW % ("down", 0.1, 0.2), "phase='down'"),
        (WINDOW % ("off", 0.2, 0.2), "is not before"),
        (WINDOW % ("off", 0.1, "NaN"), "end=nan"),
        ('{"undo": "7", "who": "x", "when": "' + WHEN + '"}', "undo='7'"),
    ],
)
def test_a_line_that_is_no_mark_is_named(tmp_path, line, why):
    first, last = mark(step=0), mark(step=1)
    path = store.write(tmp_path, [first])
    with path.open("a") as file:
        file.write(f"{line}\n\n")
    store.write(tmp_path, [last])
    book = store.read(tmp_path)
    assert set(book.holding) == {first, last}
    (reason,) = book.unreadable
    assert reason.startswith(f"{path}, line 2: is no mark: ")
    assert why in reason


def test_bytes_that_are_no_text_are_named(tmp_path):
    path = store.write(tmp_path, [mark()])
    path.write_bytes(b"\xff\xfe\n" + path.read_bytes())
    assert len(store.read(tmp_path).holding) == 1
    assert "line 1" in store.read(tmp_path).unreadable[0]


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    store.write(tmp_path, [mark()])
    (tmp_path / "_marks" / "other.jsonl").mkdir()
    book = store.read(tmp_path)
    assert len(book.holding) == 1
    assert "other.jsonl: cannot be read" in book.unreadable[0]


def test_a_disk_that_is_full(tmp_path, monkeypatch):
    first = mark()
    path = store.write(tmp_path, [first])
    real = os.write
    monkeypatch.setattr(store.os, "write", lambda fd, data: real(fd, data[:10]))
    with pytest.raises(StorageError, match="the disk took a part only"):
        store.write(tmp_path, [mark(step=1)])
    monkeypatch.undo()
    assert store.read(tmp_path).holding == (first,)
    assert str(path) in store.read(tmp_path).unreadable[0]


def test_a_link_is_not_followed(tmp_path):
    path = store.write(tmp_path, [mark()])
    victim = tmp_path / "victim"
    victim.write_text("precious")
    path.unlink()
    path.symlink_to(victim)
    with pytest.raises(StorageError):
        store.write(tmp_path, [mark()])
    assert victim.read_text() == "precious"


def test_who_may_write_results_may_mark_them(tmp_path):
    tmp_path.chmod(0o2775)
    umask = os.umask(0o077)
    try:
        path = store.write(tmp_path, [mark()])
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o2775
    assert stat.S_IMODE(path.stat().st_mode) == 0o664


@pytest.mark.parametrize(
    ("about", "why"),
    [
        ({"label": ""}, "label=''"),
        ({"label": "x" * 41}, "label="),
        ({"experiment_id": None}, "name an experiment, or a chip"),
        ({"chip_id": "C"}, "not both"),
        ({"device_id": "1"}, "a device has a chip"),
        ({"step": -1}, "step=-1"),
        ({"step": True}, "step=True"),
    ],
)
def test_what_is_no_mark(about, why):
    with pytest.raises(ParameterError, match=why):
        mark(**about)


def test_no_two_marks_have_one_id():
    assert len({mark().id for _ in range(1000)}) == 1000
