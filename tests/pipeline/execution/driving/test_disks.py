"""A machine that does not see the files is named before anything is computed."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from distributed import Client, LocalCluster
from distributed.comm import CommClosedError

import oectflow as of
from oectflow.cluster.processes import ProcessCluster
from oectflow.errors import ClusterError, StorageError
from oectflow.pipeline.execution.driving.disks import check_disks, look
from oectflow.pipeline.inputs.simulate import simulate_device


def test_look(tmp_path):
    mark, raw, other = tmp_path / "out" / "mark", tmp_path / "raw.h5", tmp_path / "other.h5"
    mark.parent.mkdir()
    mark.touch()
    raw.write_bytes(b"123")
    assert look(str(mark), {str(raw): 3}) == (platform.node(), [])
    _, unseen = look(str(mark), {str(raw): 4, str(other): 3})
    assert unseen == [
        f"it sees another file {raw}: 3 bytes, here 4",
        f"it does not see the raw file {other} (No such file or directory)",
    ]
    _, (why,) = look(str(tmp_path / "elsewhere" / "mark"), {})
    assert why.startswith(
        f"it does not see the folder of results {tmp_path / 'elsewhere'} (No such"
    )


@pytest.fixture(scope="module")
def client(threads_of_dask):
    with (
        threads_of_dask(1) as cluster,
        Client(cluster) as client,
    ):
        yield client


def test_one_file_of_each_folder_is_looked_for(client, tmp_path):
    paths = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for name in ("1.h5", "2.h5"):
            paths.append(tmp_path / folder / name)
            paths[-1].write_bytes(b"12")
    check_disks(client, tmp_path, [(str(path), 2) for path in paths])
    paths[2].unlink()
    with pytest.raises(ClusterError, match=rf"on {platform.node()}: it does not see .*b/1\.h5"):
        check_disks(client, tmp_path, [(str(path), 2) for path in paths])
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []


def test_a_folder_relative_to_where_the_notebook_is(client, tmp_path, monkeypatch):
    (tmp_path / "raw.h5").write_bytes(b"12")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    asked = []
    real = client.run
    monkeypatch.setattr(
        client, "run", lambda *args, **options: asked.append(args) or real(*args, **options)
    )
    check_disks(client, Path("out"), [(str(tmp_path / "raw.h5"), 2)])
    assert all(Path(path).is_absolute() for path in (asked[0][1], *asked[0][2]))


def test_a_worker_that_leaves_meanwhile_is_not_one_that_sees_nothing(client, tmp_path, monkeypatch):
    def run(*args, on_error="raise", **options):
        gone = CommClosedError("Stream is closed")
        if on_error == "raise":
            raise gone
        return {"tcp://127.0.0.1:1": gone} | real(*args, on_error=on_error, **options)

    real = client.run
    monkeypatch.setattr(client, "run", run)
    check_disks(client, tmp_path, [])
    with pytest.raises(ClusterError, match="it does not see the raw file"):
        check_disks(client, tmp_path, [(str(tmp_path / "none.h5"), 2)])


def test_a_worker_that_cannot_run_our_tasks_is_named(client, tmp_path, monkeypatch):
    def run(*args, **options):
        return {"tcp://127.0.0.1:1": ModuleNotFoundError("No module named 'oectflow'")}

    monkeypatch.setattr(client, "run", run)
    with pytest.raises(ClusterError, match=r"worker tcp://127.0.0.1:1 cannot run .*oectflow'\);"):
        check_disks(client, tmp_path, [])


def test_workers_of_this_machine_are_not_asked(tmp_path):
    class Here(ProcessCluster):
        def __init__(self):
            pass

        def __del__(self):
            pass

    # It has nothing else, so that whatever would be asked fails.
    client = SimpleNamespace(cluster=Here())
    check_disks(client, tmp_path, [(str(tmp_path / "raw.h5"), 2)])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StorageError, match="cannot be written"):
        check_disks(client, tmp_path / "none", [])


WORKER = "mount -t tmpfs none {hidden} && exec {python} -m distributed.cli.dask_worker {address} "
OPTIONS = "--nthreads 1 --no-dashboard --no-nanny --host 127.0.0.1 --local-directory {scratch}"


def can_hide_folders() -> bool:
    """Whether a process may have mounts of its own, as another machine has."""
    if shutil.which("unshare") is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        return False
    tried = subprocess.run(
        ["unshare", "--mount", "sh", "-c", "mount -t tmpfs none /mnt"],
        capture_output=True,
        check=False,
    )
    return tried.returncode == 0


@pytest.mark.parametrize("hidden", ["raw", "out"])
def test_a_worker_with_other_disks_stops_the_run(tmp_path, hidden):
    if not can_hide_folders():
        pytest.skip("needs root and unshare, to give a worker disks of its own")
    for name in ("raw", "out", "scratch"):
        (tmp_path / name).mkdir()
    simulate_device(0, n_transfer=3, n_transient=0).write(tmp_path / "raw" / "0.h5")
    with (
        LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0", host="127.0.0.1") as cluster,
        Client(cluster) as client,
    ):
        command = (WORKER + OPTIONS).format(
            hidden=tmp_path / hidden, python=sys.executable, address=cluster.scheduler_address,
            scratch=tmp_path / "scratch",
        )  # fmt: skip
        with subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", command],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        ) as worker:  # fmt: skip
            try:
                client.wait_for_workers(1, timeout=120)
                with pytest.raises(ClusterError, match=f"it does not see the .*{hidden}"):
                    of.extract(
                        tmp_path / "raw", "v2_transfer_basic", tmp_path / "out", client=client,
                        progress=False,
                    )  # fmt: skip
            finally:
                worker.terminate()
    assert not list((tmp_path / "out").glob("*.parquet"))
