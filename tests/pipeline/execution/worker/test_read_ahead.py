"""The next task of a worker is read while this one computes."""

from __future__ import annotations

import threading

import pytest
from distributed import Client

from oectflow.pipeline.execution.worker.read_ahead import steps_of

N = 6
#: Of the tasks below, in the one process in which all of this runs.
begun = {i: threading.Event() for i in range(N)}
readers: dict[int, str] = {}


def read(i):
    readers[i] = threading.current_thread().name
    begun[i].set()
    return i * i


def task(i):
    steps = steps_of(task, read, i)
    # Somebody reads the next one while this one runs, as long as there is one.
    return steps, i == N - 1 or begun[i + 1].wait(timeout=60)


@pytest.fixture(scope="module")
def client(threads_of_dask):
    with threads_of_dask(1) as cluster, Client(cluster) as client:
        yield client


def test_the_next_task_is_read_while_this_one_computes(client):
    futures = client.map(task, range(N), pure=False)
    assert client.gather(futures) == [(i * i, True) for i in range(N)]
    assert all(readers[i].startswith("read-ahead") for i in range(1, N))


def test_what_fails_ahead_fails_in_its_own_task(client):
    futures = client.map(failing, range(3), pure=False)
    for future in futures:
        with pytest.raises(ValueError, match=r"of \d"):
            future.result()


def fail(i):
    raise ValueError(f"of {i}")


def failing(i):
    return steps_of(failing, fail, i)


def test_without_a_worker_the_steps_are_read_here():
    assert steps_of(task, lambda i: i + 1, 4) == 5
