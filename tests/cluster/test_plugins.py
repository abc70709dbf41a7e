"""What makes a worker ready: one compiles first, versions, sockets, memory."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from distributed import Client, Worker

from oectflow.cluster import plugins
from oectflow.cluster.plugins import (
    PinToSocket,
    WarmUp,
    cores_by_socket,
    lock_name,
    one_compiles_first,
    parse_cpu_list,
)
from oectflow.cluster.settings import DASK_CONFIG, as_environment
from oectflow.errors import ClusterError


def test_one_compiles_first__others_load(tmp_path):
    """Threads stand for workers: the lock belongs to the opened file, not to the process."""
    all_there = threading.Barrier(6)
    cache = tmp_path / "cache"

    def worker(_):
        all_there.wait()
        with one_compiles_first(tmp_path / "lock"):
            if cache.exists():
                return "loaded"
            time.sleep(0.3)
            cache.touch()
            return "compiled"

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(worker, range(6))) == ["compiled", *["loaded"] * 5]


def test_one_compiles_first__the_one_before_fails(tmp_path):
    with pytest.raises(RuntimeError, match="compiler"), one_compiles_first(tmp_path / "lock"):
        raise RuntimeError("compiler")
    with one_compiles_first(tmp_path / "lock"):
        pass


def test_one_compiles_first__does_not_wait_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(plugins, "_SECONDS_TO_WAIT", 0.2)
    with one_compiles_first(tmp_path / "lock"), one_compiles_first(tmp_path / "lock"):
        pass


def test_warm_up__late_worker_with_other_versions_leaves(threads_of_dask):
    with (
        threads_of_dask(0) as cluster,
        Client(cluster) as client,
    ):
        client.register_plugin(WarmUp("oectflow.cluster.settings", {"numba": "0.1"}))
        cluster.scale(1)
        seen: list[str] = []
        deadline = time.monotonic() + 30
        # It may come and leave between two looks at the list of workers.
        while "remove-worker" not in seen and time.monotonic() < deadline:
            time.sleep(0.01)
            seen = [event["action"] for _, event in client.get_events("all")]
        assert [one for one in seen if one.endswith("-worker")] == ["add-worker", "remove-worker"]


_ENDING = """
import atexit, sys
from oectflow.cluster.plugins import leave_at_once
class Said:
    def __del__(self):
        print("taken apart")
said = Said()
atexit.register(print, "called at the end")
if sys.argv[1] == "leaves":
    atexit.register(leave_at_once)
"""


@pytest.mark.parametrize("how", ["leaves", "stays"])
def test_leave_at_once__before_the_interpreter_takes_everything_apart(how):
    command = [sys.executable, "-c", _ENDING, how]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    after = [] if how == "leaves" else ["taken apart"]
    assert done.stdout.splitlines() == ["called at the end", *after]


@pytest.mark.parametrize(
    ("nanny", "child", "leaves"),
    [("tcp://n", True, True), ("tcp://n", False, False), (None, True, False)],
)
def test_warm_up__ends_only_processes_of_nannies(monkeypatch, nanny, child, leaves):
    registered = []
    monkeypatch.setattr(plugins.atexit, "register", registered.append)
    monkeypatch.setattr(plugins.multiprocessing, "parent_process", lambda: child or None)
    monkeypatch.setattr(plugins.logging.getLogger("distributed"), "level", 0)
    worker = object.__new__(Worker)
    worker.nanny = nanny
    WarmUp("os").teardown(worker)
    assert registered == [plugins.leave_at_once] * leaves


def test_warm_up__names_the_versions():
    class Loop:
        def add_callback(self, call, reason):
            call(reason)

    class FakeWorker:
        address = "tcp://w"
        loop = Loop()

        def close(self, reason):
            self.reason = reason

        def log_event(self, topic, message):
            self.event = topic, message

    worker = FakeWorker()
    with pytest.raises(ClusterError, match=r"worker tcp://w has other versions: numba .*here 0\.1"):
        WarmUp("os", {"numba": "0.1"}).setup(worker)
    assert "numba" in worker.reason
    topic, message = worker.event
    assert topic == plugins.NOT_READY
    assert message.startswith("worker tcp://w has other versions: numba ")


def test_lock__is_shared_by_those_who_compile_the_same_into_the_same_place(tmp_path, monkeypatch):
    """Two checkouts of a user have kernels of one name, and do not wait for each other."""
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    names = {}
    for checkout in ("one", "other"):
        (tmp_path / checkout).mkdir()
        (tmp_path / checkout / "kernels_of_a_checkout.py").touch()
        with monkeypatch.context() as patch:
            patch.syspath_prepend(str(tmp_path / checkout))
            names[checkout] = lock_name("kernels_of_a_checkout")
            assert lock_name("kernels_of_a_checkout") == names[checkout]
            patch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
            names[checkout, "elsewhere"] = lock_name("kernels_of_a_checkout")
    assert len(set(names.values())) == 4
    # What is not there is named by whoever imports it.
    assert lock_name("no_such_package.kernels").endswith(".lock")


@pytest.mark.parametrize(
    ("text", "cores"),
    [("0-3\n", {0, 1, 2, 3}), ("0,2,8-9\n", {0, 2, 8, 9}), ("\n", set()), ("7", {7})],
)
def test_parse_cpu_list(text, cores):
    assert parse_cpu_list(text) == cores


def nodes(folder, *lists):
    for i, text in enumerate(lists):
        (folder / f"node{i}").mkdir()
        (folder / f"node{i}" / "cpulist").write_text(text)
    return folder


def test_cores_by_socket__two_sockets_and_one_of_memory_only(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3, 4}, raising=False)
    assert cores_by_socket(nodes(tmp_path, "0-1,4-5", "2-3,6-7", "")) == [{0, 1, 4}, {2, 3}]


def test_cores_by_socket__unknown(tmp_path):
    assert cores_by_socket(tmp_path) == []


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="affinity is Linux's")
@pytest.mark.parametrize(("name", "core"), [("SLURMCluster-0-4", 0), (5, 1), ("named", None)])
def test_pin__workers_take_sockets_in_turn(name, core, monkeypatch):
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        pytest.skip("needs two cores")
    monkeypatch.setattr(plugins, "cores_by_socket", lambda: [{one} for one in allowed[:2]])
    worker = object.__new__(Worker)
    worker.name = name
    try:
        PinToSocket().setup(worker)
        threads = [int(one.name) for one in Path("/proc/self/task").iterdir()]
        found = set()
        for thread in threads:
            with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                found.add(tuple(sorted(os.sched_getaffinity(thread))))
    finally:
        for thread in threads:
            with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                os.sched_setaffinity(thread, allowed)
    assert found == {tuple(allowed) if core is None else (allowed[core],)}


def test_as_environment__dask_reads_it_back():
    environment = as_environment(DASK_CONFIG)
    code = f"import dask; print([dask.config.get(k) for k in {list(DASK_CONFIG)}])"
    found = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == str(list(DASK_CONFIG.values()))


_PAGES_PER_ARRAY = """
import os, resource, sys
import numpy as np
from oectflow.cluster.plugins import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory(1)
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
samples = 20 * 2**17
np.ones(samples)
before = faults()
for _ in range(100):
    np.ones(samples)
print((faults() - before) / 100)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts the page faults of glibc")
def test_memory_of_one_batch_is_reused_for_the_next():
    """With Dask's setting, an array is made of pages that the kernel has to fill with zeros."""
    environment = os.environ | {"MALLOC_TRIM_THRESHOLD_": "65536"}
    faults = {}
    for mode in ("leave", "keep"):
        command = [sys.executable, "-c", _PAGES_PER_ARRAY, mode]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        faults[mode] = float(done.stdout)
    if faults["leave"] < 100:
        pytest.skip("this C library keeps freed memory anyway")
    assert faults["keep"] < 1


_HEAP_OF_A_THREAD = """
import sys, threading
import numpy as np
from oectflow.cluster.plugins import keep_freed_memory
keep_freed_memory(int(sys.argv[1]))
def tell():
    address = np.ones(2**17).__array_interface__["data"][0]
    for line in open("/proc/self/maps"):
        begin, end = (int(part, 16) for part in line.split()[0].split("-"))
        if begin <= address < end:
            print("[heap]" in line)
thread = threading.Thread(target=tell)
thread.start()
thread.join()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for the heap of glibc")
def test_memory_of_the_only_thread_is_of_the_heap_of_the_process():
    found = {}
    for threads in ("1", "2"):
        command = [sys.executable, "-c", _HEAP_OF_A_THREAD, threads]
        found[threads] = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if found["2"] != "False\n":
        pytest.skip("this C library has no heaps of threads")
    assert found["1"] == "True\n"
