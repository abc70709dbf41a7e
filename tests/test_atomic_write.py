import errno
import os
import stat

import pytest

from oectflow.atomic_write import atomic_write, remove_leftovers


def test_atomic_write__replaces_on_success(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with atomic_write(target) as partial:
        partial.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_atomic_write__keeps_the_old_file_on_failure(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def fail():
        with atomic_write(target) as partial:
            partial.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_atomic_write__the_longest_name_a_file_system_takes(tmp_path):
    target = tmp_path / ("é" * 127)
    with atomic_write(target, ".gif") as partial:
        assert partial.suffix == ".gif"
        partial.write_text("whole")
    assert target.read_text() == "whole"


def test_atomic_write__a_folder_that_cannot_be_synced_is_no_failure(tmp_path, monkeypatch):
    real = os.fsync

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with atomic_write(tmp_path / "a.txt") as partial:
        partial.write_text("whole")
    assert (tmp_path / "a.txt").read_text() == "whole"


def test_remove_leftovers__only_of_the_named_files(tmp_path):
    mine = tmp_path / "a[1].parquet"
    (tmp_path / ".a[1].parquet.0123.tmp").touch()
    (tmp_path / ".b.parquet.0123.tmp").touch()
    remove_leftovers([mine])
    assert [p.name for p in tmp_path.iterdir()] == [".b.parquet.0123.tmp"]
