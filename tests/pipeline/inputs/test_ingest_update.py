"""``on_conflict="update"``: a raw file follows what it was made of, and nothing else."""

from __future__ import annotations

import os
import shutil

import pytest

import oectflow as of
from tests.pipeline.watching.lab import RunningTest


@pytest.fixture
def test(tmp_path):
    made = RunningTest(tmp_path / "lab" / "t1")
    for _ in range(2):
        made.add_step()
    made.end()
    return made


def update(tmp_path):
    (record,) = of.ingest(tmp_path / "lab", tmp_path / "raw", on_conflict="update").records
    return record


def n_steps(tmp_path):
    (path,) = (tmp_path / "raw").glob("*.h5")
    return of.Experiment(path).n_steps("transfer")


def test_what_has_grown_or_changed_is_read_again(test, tmp_path):
    assert update(tmp_path).status == "written"
    assert update(tmp_path).status == "skipped"
    test.add_step()
    test.end()
    assert update(tmp_path).status == "updated"
    assert n_steps(tmp_path) == 3
    path = test.folder / "1_transfer.csv"
    path.write_text(path.read_text().replace("-0.400,", "-0.410,"))
    assert update(tmp_path).status == "updated"
    assert of.Experiment(*(tmp_path / "raw").glob("*.h5")).step("transfer", 0)["Vg"][0] == -0.41


def test_another_time_alone_is_no_change(test, tmp_path):
    update(tmp_path)
    os.utime(test.folder / "1_transfer.csv", (2e9, 2e9))
    record = update(tmp_path)
    assert record.status == "skipped"
    assert "same content" in record.reason


def test_a_raw_file_of_something_else_is_not_replaced(test, tmp_path):
    update(tmp_path)
    shutil.copytree(test.folder, tmp_path / "copy" / "t1")
    (record,) = of.ingest(tmp_path / "copy", tmp_path / "raw", on_conflict="update").records
    assert record.status == "failed"
    assert "was made from" in record.reason
    # What was moved is the same.
    shutil.rmtree(test.folder)
    (record,) = of.ingest(tmp_path / "copy", tmp_path / "raw", on_conflict="update").records
    assert record.status == "skipped"


def test_a_raw_file_that_does_not_say_of_what_it_was_made_stays(test, tmp_path):
    of.ingest(tmp_path / "lab", tmp_path / "raw")
    test.add_step()
    test.end()
    assert "does not say" in update(tmp_path).reason
    assert n_steps(tmp_path) == 2


def test_files_of_other_instruments_follow_too(tmp_path):
    lab = tmp_path / "lab"
    lab.mkdir()
    rows = [f"{v / 10},{v * 1e-6}" for v in range(-5, 6)]
    (lab / "sweep.csv").write_text("\n".join(["Vg (V),Id (A)", *rows]) + "\n")
    assert update(tmp_path).status == "written"
    assert update(tmp_path).status == "skipped"
    with (lab / "sweep.csv").open("a") as file:
        file.write("0.6,6e-6\n")
    assert update(tmp_path).status == "updated"
    assert len(of.Experiment(*(tmp_path / "raw").glob("*.h5")).step("transfer", 0)["Vg"]) == 12
