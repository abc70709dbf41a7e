"""The cluster on one machine: sizes, settings, and clear refusals."""

from __future__ import annotations

import os

import pytest
from distributed import Client, LocalCluster

from oectflow.cluster.connect import check_versions, connect
from oectflow.cluster.local import default_workers
from oectflow.pipeline.errors import ClusterError


@pytest.mark.parametrize(("cores", "workers"), [(1, 1), (2, 2), (7, 7), (8, 7), (48, 47), (96, 95)])
def test_default_workers(cores, workers):
    assert default_workers(cores) == workers


def test_connect__local_workers_are_ready():
    with connect("local", n_workers=2, memory="4 GiB", dashboard_port=0) as client:
        workers = client.scheduler_info()["workers"].values()
        assert [worker["nthreads"] for worker in workers] == [1, 1]
        assert {worker["memory_limit"] for worker in workers} == {2 * 2**30}
        assert client.dashboard_link.startswith("http://127.0.0.1:")

        def worker_settings():
            names = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS")
            return {"pid": os.getpid()} | {name: os.environ[name] for name in names}

        settings = client.run(worker_settings).values()
        assert len({one["pid"] for one in settings} | {os.getpid()}) == 3
        assert {one["NUMBA_NUM_THREADS"] + one["OMP_NUM_THREADS"] for one in settings} == {"11"}
        cluster = client.cluster
        address = client.scheduler.address
    assert cluster.status.name == "closed"

    with pytest.raises(ClusterError, match="no Dask scheduler answers"):
        connect(address, timeout=1)


@pytest.fixture(scope="module")
def running():
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
        ) as cluster,
        Client(cluster),
    ):
        yield cluster


def test_connect__address(running):
    with connect(running.scheduler_address) as client:
        assert client.submit(lambda: 1).result() == 1
    assert running.status.name == "running"


def test_connect__address_with_local_options(running):
    with pytest.raises(ClusterError, match="n_workers is only for connect"):
        connect(running.scheduler_address, n_workers=3)


OURS = {"python": "3.11", "oectflow": "1.0", "numba": "0.61"}


def test_check_versions__the_same():
    check_versions("tcp://s", OURS, {"tcp://w": dict(OURS)})


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        ({}, "has no workers"),
        ({"tcp://w": OURS | {"oectflow": None}}, "pip install oectflow==1.0"),
        ({"tcp://w": OURS | {"numba": "0.1"}}, r"other versions: numba 0\.1 \(here 0\.61\)"),
        ({"tcp://v": OURS, "tcp://w": OURS | {"python": "3.12"}}, "worker tcp://w.*python 3.12"),
    ],
)
def test_check_versions__differences_are_named(theirs, message):
    with pytest.raises(ClusterError, match=message):
        check_versions("tcp://s", OURS, theirs)


def test_connect__unknown_word():
    with pytest.raises(ClusterError, match="did you mean 'local'"):
        connect("locl")
