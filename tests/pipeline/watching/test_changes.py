from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from oectflow.errors import ConfigError
from oectflow.pipeline.watching import changes

#: Turns of a quarter of a second at most; a watcher that does not tell ends the test, no more.
MANY = 400


def told(iterator, wanted):
    """Return whether all wanted paths are told of."""
    left = set(wanted)
    for _ in range(MANY):
        left -= set(next(iterator))
        if not left:
            return True
    return False


@pytest.mark.parametrize("network", [False, True])
def test_files_and_new_folders_are_told(tmp_path, monkeypatch, network):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "a.csv").write_text("1")
    if network:
        monkeypatch.setattr(changes, "file_system_of", lambda path: "nfs4")
    iterator, how = changes.watch_folder(tmp_path, print)
    assert ("looking" in how) == network
    next(iterator)
    (tmp_path / "old" / "a.csv").write_text("1\n2")
    # Whoever polls compares whole seconds.
    os.utime(tmp_path / "old" / "a.csv", (2e9, 2e9))
    (tmp_path / "new").mkdir()
    (tmp_path / "b.csv").write_text("1")
    wanted = [tmp_path / "old" / "a.csv", tmp_path / "new", tmp_path / "b.csv"]
    assert told(iterator, wanted)
    iterator.close()


def test_a_folder_that_the_system_does_not_tell_of_is_looked_at(tmp_path, monkeypatch):
    import watchfiles

    real = watchfiles.watch

    def watch(*paths, force_polling, **options):
        if not force_polling:
            raise OSError("OS file watch limit reached")
        return real(*paths, force_polling=force_polling, **options)

    monkeypatch.setattr(watchfiles, "watch", watch)
    iterator, how = changes.watch_folder(tmp_path, print)
    assert "limit reached" in how
    assert "max_user_watches" in how
    next(iterator)
    (tmp_path / "b.csv").write_text("1")
    assert told(iterator, [tmp_path / "b.csv"])
    iterator.close()


def test_a_system_that_tells_no_more_is_said_and_the_folder_looked_at(tmp_path, monkeypatch):
    import watchfiles

    real = watchfiles.watch

    def watch(*paths, force_polling, **options):
        if not force_polling:
            yield set()
            raise RuntimeError("the thread has died")
        yield from real(*paths, force_polling=force_polling, **options)

    monkeypatch.setattr(watchfiles, "watch", watch)
    complaints = []
    iterator, how = changes.watch_folder(tmp_path, complaints.append)
    assert "tells" in how
    assert next(iterator) == []
    next(iterator)
    assert "the thread has died" in complaints[0]
    (tmp_path / "b.csv").write_text("1")
    assert told(iterator, [tmp_path / "b.csv"])
    iterator.close()


def disk(mountpoint, fstype, opts="rw"):
    return SimpleNamespace(mountpoint=mountpoint, fstype=fstype, opts=opts)


@pytest.mark.parametrize(
    ("disks", "network"),
    [
        ([disk("/", "ext4")], False),
        ([disk("/", "ext4"), disk("/lab", "nfs4"), disk("/lab2", "xfs")], True),
        ([disk("/lab", "CIFS"), disk("/", "ext4")], True),
        ([disk("/lab", "autofs"), disk("/lab", "ext4")], False),
        ([disk("/", "NTFS", "rw,remote")], True),
        ([], False),
    ],
)
def test_network_drives_are_known(monkeypatch, disks, network, tmp_path):
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: disks)
    folder = Path("/lab/instrument")
    assert changes.is_network(changes.file_system_of(folder), folder) is network


def test_without_watchfiles_the_remedy_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    with pytest.raises(ConfigError, match=r"pip install 'oectflow\[watch\]'"):
        changes.watch_folder(tmp_path, print)
