from __future__ import annotations

import shutil

import pytest

import oectflow as of
from oectflow.errors import StorageError
from oectflow.pipeline.watching.planning import SILENCE
from tests.pipeline.watching.lab import Desk, RunningTest


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


def test_a_test_is_followed_from_its_first_step_to_its_end(desk):
    test = RunningTest(desk.instrument / "t1")
    desk.pass_time(1, [test.folder])
    assert not list(desk.raw.iterdir())
    for n in (1, 2, 3):
        test.add_step()
        growing = test.begin_step(rows=5)
        desk.pass_time(1, [growing])
        assert desk.rows("t1") == n
        assert desk.status()["t1"] == of_test("t1", n, "running")
    assert desk.told == []
    test.add_step()
    test.end()
    desk.pass_time(1, [test.folder / "test_info.json"])
    assert desk.rows("t1") == 4
    assert desk.status()["t1"] == of_test("t1", 4, "done")
    assert [one["id"] for message in desk.told for one in message["done"]] == ["t1"]
    n_runs = len(desk.records)
    desk.pass_time(20, [test.folder])
    assert len(desk.records) == n_runs


def of_test(name, n, state, message=""):
    from oectflow.pipeline.watching.status import WatchedExperiment

    return WatchedExperiment(name, n, n, state, message)


def test_a_folder_that_is_still_copied_is_brought_up_to_date(desk, tmp_path):
    made = RunningTest(tmp_path / "elsewhere" / "t1")
    for _ in range(3):
        made.add_step()
    made.end()
    folder = desk.instrument / "batch" / "t1"
    folder.mkdir(parents=True)
    for name in ("test_info.json", "1_transfer.csv"):
        shutil.copy(made.folder / name, folder)
    # The copy rests for longer than anybody can wait.
    desk.pass_time(2, [desk.instrument / "batch"])
    assert desk.rows("t1") == 1
    for name in ("2_transfer.csv", "3_transfer.csv"):
        shutil.copy(made.folder / name, folder)
    desk.pass_time(1, [folder / "3_transfer.csv"])
    assert desk.rows("t1") == 3


def test_what_a_test_was_measuring_when_it_was_left_is_not_lost(desk):
    test = RunningTest(desk.instrument / "t1")
    test.add_step()
    test.begin_step(rows=30)
    desk.pass_time(2, [test.folder])
    assert desk.rows("t1") == 1
    desk.pass_time(SILENCE)
    assert desk.rows("t1") == 2


def test_whoever_begins_again_does_only_what_is_missing(desk, tmp_path):
    tests = [RunningTest(desk.instrument / f"t{i}") for i in range(3)]
    for test in tests:
        test.add_step()
    tests[0].end()
    desk.pass_time(1, [test.folder for test in tests])
    tests[1].add_step()
    later = Desk(tmp_path)
    later.pass_time(1)
    outcomes = {record.experiment_id: record.outcome for record in later.records}
    assert outcomes["t0"] == outcomes["t2"] == "unchanged"
    assert later.rows("t1") == 2
    assert later.status().keys() == {"t1", "t2"}


def test_a_raw_file_that_was_never_extracted_is(desk, tmp_path):
    test = RunningTest(desk.instrument / "t1")
    test.add_step()
    of.ingest(desk.instrument, desk.raw)
    later = Desk(tmp_path)
    later.pass_time(1)
    assert later.rows("t1") == 1


def test_what_cannot_be_used_is_named_and_stops_nobody(desk):
    broken = desk.instrument / "broken"
    broken.mkdir()
    (broken / "test_info.json").write_text("{")
    (desk.instrument / "note.txt").write_text("nothing measured")
    test = RunningTest(desk.instrument / "t1")
    test.add_step()
    desk.pass_time(2, [broken, test.folder, desk.instrument / "note.txt"])
    assert desk.rows("t1") == 1
    assert desk.status()["broken"].state == "failed"
    assert "not valid JSON" in desk.status()["broken"].message
    assert sum("not valid JSON" in line for line in desk.lines) == 1
    assert any("note.txt: not read" in line for line in desk.lines)
    mended = RunningTest(desk.instrument / "other")
    mended.add_step()
    mended.end()
    desk.pass_time(2, [mended.folder])
    shutil.copytree(mended.folder, broken, dirs_exist_ok=True)
    desk.pass_time(2, [broken])
    said = desk.status()
    # It is a copy, which would replace the result of the other one.
    assert said["broken"].state == "failed"
    assert "remove one of them" in said["broken"].message
    shutil.rmtree(mended.folder)
    desk.pass_time(20, [broken / "test_info.json"])
    assert "broken" not in desk.status()


def test_two_tests_of_one_id_are_named(desk):
    first = RunningTest(desk.instrument / "a" / "t1")
    second = RunningTest(desk.instrument / "b" / "t1")
    second.info["description"] = "another"
    for test in (first, second):
        test.add_step()
        test.end()
    desk.pass_time(1, [desk.instrument / "a"])
    desk.pass_time(1, [desk.instrument / "b"])
    assert [one.state for one in desk.status().values()] == ["failed", "done"]
    assert any("has the test_id 't1'" in line for line in desk.lines)


def test_a_run_that_is_refused_is_tried_again(tmp_path):
    refusals = [StorageError("the disk is full"), ValueError("a fault of ours")]

    def extract(*arguments, **options):
        if refusals:
            raise refusals.pop()
        return of.extract(*arguments, **options)

    desk = Desk(tmp_path, extract)
    test = RunningTest(desk.instrument / "t1")
    test.add_step()
    desk.pass_time(1, [test.folder])
    assert desk.board.status.state == "waiting"
    desk.pass_time(5)
    assert desk.rows("t1") == 1
    assert desk.board.status.state == "watching"
    assert sum("the disk is full" in line for line in desk.lines) == 1


def test_what_nobody_was_told_of_is_found(desk):
    desk.pass_time(1)
    test = RunningTest(desk.instrument / "t1")
    test.add_step()
    desk.clock.now += 3600
    desk.pass_time(2)
    assert desk.rows("t1") == 1
    # Of a test that runs, it is found soon.
    test.add_step()
    desk.pass_time(7)
    assert desk.rows("t1") == 2


def test_a_drive_that_is_away_for_a_while_is_waited_for(desk):
    test = RunningTest(desk.instrument / "t1")
    test.add_step()

    def away(changed):
        raise OSError("stale file handle")

    real, desk.folder.of = desk.folder.of, away
    desk.watcher.turn([test.folder])
    assert any("stale file handle" in line for line in desk.lines)
    desk.folder.of = real
    desk.pass_time(12)
    assert desk.rows("t1") == 1


def test_a_folder_behind_a_link_is_one_source_by_whatever_name(desk, tmp_path):
    test = RunningTest(tmp_path / "elsewhere" / "t1")
    test.add_step()
    desk.instrument.rmdir()
    desk.instrument.symlink_to(tmp_path / "elsewhere")
    of.ingest(tmp_path / "elsewhere", desk.raw)
    # The file system may tell the other name.
    desk.pass_time(1, [test.folder / "1_transfer.csv"])
    assert desk.rows("t1") == 1
    test.add_step()
    desk.pass_time(1, [test.folder / "2_transfer.csv"])
    assert desk.rows("t1") == 2
    assert len(list(desk.raw.glob("*.h5"))) == 1
    assert desk.status()["t1"].state == "running"


def test_folders_and_raw_files_that_go_are_no_trouble(desk):
    test = RunningTest(desk.instrument / "t1")
    test.add_step()
    desk.pass_time(1, [test.folder])
    shutil.rmtree(test.folder)
    desk.pass_time(7, [test.folder])
    assert desk.rows("t1") == 1
    assert not any("Error" in line for line in desk.lines)
    shutil.rmtree(desk.instrument)
    desk.clock.now += 3600
    desk.pass_time(2)
