"""A scheduler that others use: workers without oectflow, or with other versions, or busy."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from distributed import Client, LocalCluster

import oectflow as of
from oectflow.cluster.connect import connect
from oectflow.cluster.shared import SharedClient, find_able, resource_for
from oectflow.cluster.versions import CHECKED_PACKAGES, installed_versions, what_differs
from oectflow.errors import ClusterError
from oectflow.pipeline.inputs.simulate import simulate_device


@pytest.fixture
def modules(tmp_path, monkeypatch):
    (tmp_path / "no_kernels.py").write_text("def warm_up():\n    pass\n")
    # Workers are spawned, and look for modules where this process does.
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.fixture
def cluster(modules):
    with LocalCluster(
        n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
    ) as cluster:
        yield cluster


@pytest.fixture
def others(cluster):
    """A client of somebody else."""
    with Client(cluster.scheduler_address, set_as_default=False) as client:
        yield client


@pytest.fixture
def join(cluster, others, tmp_path):
    """Start a worker in an environment of its own, and return its address when it has joined."""
    started = []

    def join(name, path=()):
        spec = {
            "cls": "distributed.Worker",
            "opts": {"nthreads": 2, "name": name, "host": "127.0.0.1", "dashboard": False},
        }
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "distributed.cli.dask_spec", cluster.scheduler_address,
                 "--spec", json.dumps(spec)],
                env=os.environ | {"PYTHONPATH": ":".join([*path, *filter(None, sys.path)])},
                stderr=subprocess.DEVNULL,
            )
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while True:
            workers = others.scheduler_info(n_workers=-1)["workers"]
            found = [address for address, worker in workers.items() if worker["name"] == name]
            if found:
                return found[0], started[-1]
            assert started[-1].poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)

    yield join
    for process in started:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(60)


@pytest.fixture
def without(tmp_path):
    """Where oectflow cannot be imported, nor NumPy."""
    for name in ("oectflow", "numpy"):
        folder = tmp_path / "without" / name
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("raise ImportError('not for this environment')\n")
    return str(folder.parent)


def n_computed(client, address):
    return client.run(lambda dask_worker: dask_worker.state.executed_count, workers=[address])[
        address
    ]


def test_a_worker_without_oectflow_that_joins_later(
    cluster, others, join, without, tmp_path, capfd
):
    (tmp_path / "raw").mkdir()
    for i in range(3):
        simulate_device(i, n_transfer=2, n_transient=4, n_cycles=3, test_id=f"t{i}").write(
            tmp_path / "raw" / f"{i}.h5"
        )
    with connect(cluster.scheduler_address, timeout=600) as client:
        bare, _ = join("bare", [without])
        report = of.extract(
            tmp_path / "raw", "transient_tau", tmp_path / "out", client=client, progress=False
        )
        assert report.ok
        assert bare not in client.scheduler_info(n_workers=-1)["workers"]
        assert list(client.nthreads()) != []
        assert n_computed(others, bare) == 0
        # Others go on using it.
        assert others.submit(pow, 2, 3, workers=[bare]).result(60) == 8
    with connect(cluster.scheduler_address, kernels="no_kernels", timeout=60) as client:
        assert client.submit(sum, [1, 2]).result(60) == 3
        assert client.gather(client.map(pow, range(20), [2] * 20)) == [i**2 for i in range(20)]
        assert n_computed(others, bare) == 1
    said = capfd.readouterr().err
    assert f"1 of 2 workers are used; worker {bare} has an oectflow that cannot be imported" in said


def test_a_worker_with_other_versions_is_left_out_and_left_alone(cluster, others, join, tmp_path):
    other = tmp_path / "other" / "numba-0.1.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: numba\nVersion: 0.1\n")
    with connect(cluster.scheduler_address, kernels="no_kernels") as client:
        address, process = join("other", [str(other.parent)])
        assert address not in client.nthreads()
        assert client.submit(sum, [1, 2]).result(60) == 3
        assert others.submit(pow, 2, 3, workers=[address]).result(60) == 8
        assert process.poll() is None


def test_a_worker_like_ours_that_joins_later_is_used(cluster, join, modules):
    with connect(cluster.scheduler_address, kernels="no_kernels") as client:
        address, _ = join("ours")
        assert client.submit(os.getpid, workers=[address]).result(60) != os.getpid()
        assert len(client.nthreads()) == 2


def test_no_worker_can_run_our_tasks(cluster, join, without):
    cluster.scale(0)
    bare, _ = join("bare", [without])
    with pytest.raises(ClusterError, match=rf"worker {bare} has an oectflow .*install it anew"):
        connect(cluster.scheduler_address, kernels="no_kernels")


def test_a_worker_that_does_not_answer(cluster, others, join):
    silent, process = join("silent")
    process.send_signal(signal.SIGSTOP)
    told = []
    able = find_able(
        others, "tcp://s", installed_versions(CHECKED_PACKAGES), 2.0, 60.0, told.append
    )
    assert len(able) == 1
    assert told[-1].startswith(f"1 of 2 workers are used; worker {silent} does not answer")


def test_tasks_that_wait_for_a_worker_get_the_one_that_comes_back(cluster, others):
    with connect(cluster.scheduler_address, kernels="no_kernels") as client:
        (pid,) = client.run(os.getpid).values()
        os.kill(pid, signal.SIGKILL)
        assert client.submit(sum, [1, 2]).result(120) == 3
        assert list(client.run(os.getpid).values()) != [pid]


def test_only_our_client_is_bound():
    ours = installed_versions(CHECKED_PACKAGES)
    assert resource_for(ours) == resource_for(dict(ours))
    assert resource_for(ours) != resource_for(ours | {"numba": "0.1"})
    assert SharedClient.needed == ""


def test_what_differs_says_what_to_do():
    ours = {"python": "3.11", "oectflow": "1.0", "numba": "0.61"}
    assert what_differs(ours, ours) == ""
    assert "has no oectflow, numba; pip install oectflow==1.0" in what_differs(
        ours, {"python": "3.11", "oectflow": None, "numba": None}
    )


def test_what_differs_names_no_version_that_no_index_has():
    # As between two releases: "0.2.0.dev469+g76783e955".
    ours = {"python": "3.11", "oectflow": "0.2.0.dev469+g76783e955"}
    said = what_differs(ours, {"python": "3.11", "oectflow": None})
    assert "has no oectflow; install oectflow 0.2.0.dev469+g76783e955 in its environment" in said
    assert "copy the checkout" in said
    assert "==" not in said
