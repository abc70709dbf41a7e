"""The cluster on one machine: sizes, settings, processes that outlive nobody."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import dask
import psutil
import pytest
from distributed import Client, Security

from oectflow.cluster import host
from oectflow.cluster.connect import connect
from oectflow.cluster.local import default_workers, free_port
from oectflow.errors import ClusterError

#: Compiles nothing: these tests are about processes.
NO_KERNELS = "tests_no_kernels"


@pytest.fixture(scope="module", autouse=True)
def no_kernels(tmp_path_factory):
    """A module beside the driver, which the workers find as they are given its sys.path."""
    folder = tmp_path_factory.mktemp("modules")
    (folder / f"{NO_KERNELS}.py").write_text("READY = []\ndef warm_up():\n    READY.append(1)\n")
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))
    sys.modules.pop(NO_KERNELS, None)


@pytest.fixture(scope="module")
def client(no_kernels):
    with connect(
        "local", n_workers=2, memory="4 GiB", dashboard_port=0, kernels=NO_KERNELS
    ) as client:
        yield client


def eventually(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(("cores", "workers"), [(1, 1), (2, 2), (7, 7), (8, 7), (48, 47), (96, 95)])
def test_default_workers(cores, workers):
    assert default_workers(cores) == workers


def test_connect__workers_are_ready(client):
    workers = client.scheduler_info()["workers"].values()
    assert [worker["nthreads"] for worker in workers] == [1, 1]
    assert {worker["memory_limit"] for worker in workers} == {2 * 2**30}

    def settings(dask_worker):
        import dask
        import tests_no_kernels

        names = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS")
        return {name: os.environ[name] for name in names} | {
            "ready": tests_no_kernels.READY,
            "pause": dask.config.get("distributed.worker.memory.pause"),
        }

    for found in client.run(settings).values():
        assert found == {
            "NUMBA_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1",
            "ready": [1],
            "pause": False,
        }


def test_connect__nothing_runs_in_this_process(client):
    scheduler = client.run_on_scheduler(os.getpid)
    workers = set(client.run(os.getpid).values())
    assert len(workers | {scheduler, os.getpid()}) == 4
    # Ctrl-C in a terminal or a notebook reaches the process group of this process.
    assert os.getpgid(scheduler) != os.getpgid(0)
    assert {os.getpgid(worker) for worker in workers} == {os.getpgid(scheduler)}


def test_connect__certificate_is_asked_for(client):
    address = client.scheduler.address
    assert address.startswith("tls://127.0.0.1:")
    with pytest.raises(ClusterError, match="asks for a certificate"):
        connect(address)
    with pytest.raises(ClusterError, match="no Dask scheduler answers"):
        connect(address, security=Security.temporary(), timeout=2)
    with connect(address, security=client.cluster.security, kernels=NO_KERNELS) as second:
        assert second.submit(os.getpid).result() in client.run(os.getpid).values()
    assert client.submit(os.getpid, pure=False).result() in client.run(os.getpid).values()


def test_connect__certificate_is_in_no_list_of_processes(client):
    scheduler = psutil.Process(client.run_on_scheduler(os.getpid))
    assert "PRIVATE" not in " ".join(scheduler.cmdline())
    assert not any("PRIVATE" in value for value in scheduler.environ().values())


def test_connect__dashboard_on_loopback_only(client):
    port = int(client.dashboard_link.split(":")[-1].split("/")[0])
    assert client.dashboard_link == f"http://127.0.0.1:{port}/status"
    listening = [
        one.laddr.ip
        for one in psutil.Process(client.run_on_scheduler(os.getpid)).net_connections("tcp")
        if one.status == psutil.CONN_LISTEN
    ]
    assert set(listening) == {"127.0.0.1"}
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as answer:
        assert answer.read() == b"ok"


def status_of(port, path="/status", **headers):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, ""
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "127.0.0.1:{port}"}, 200),
        ({"Host": "localhost:9999"}, 200),
        ({"Host": "[::1]:{port}"}, 200),
        ({"Host": "{node}:{port}"}, 200),
        ({"Host": "localhost:9999", "Origin": "http://localhost:9999"}, 200),
        # A name that leads here now, and a page that asks across origins.
        ({"Host": "rebound.example.org:{port}"}, 403),
        ({"Host": "localhost.example.org"}, 403),
        ({"Origin": "http://example.org"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "http://203.0.113.5:{port}"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_connect__dashboard_by_names_of_this_machine_only(client, headers, status):
    port = int(client.dashboard_link.split(":")[-1].split("/")[0])
    node = socket.gethostname()
    headers = {name: value.format(port=port, node=node) for name, value in headers.items()}
    for path in ("/status", "/health", "/status/ws", "/oectflow"):
        found, text = status_of(port, path, **headers)
        # A WebSocket that is allowed asks for a WebSocket's headers.
        assert found == (400 if path == "/status/ws" and status == 200 else status), path
        assert found != 403 or "allow-websocket-origin" in text


def test_connect__dashboard_behind_a_proxy_that_is_named(no_kernels, monkeypatch):
    monkeypatch.setenv("JUPYTERHUB_PUBLIC_URL", "https://hub.example.org/user/me/")
    setting = "distributed.scheduler.dashboard.bokeh-application.allow-websocket-origin"
    with (
        dask.config.set({setting: ["proxy.example.org:8000"]}),
        connect("local", n_workers=1, dashboard_port=0, kernels=NO_KERNELS) as client,
    ):
        port = int(client.dashboard_link.split(":")[-1].split("/")[0])
        for name in ("proxy", "hub"):
            origin = f"https://{name}.example.org"
            assert status_of(port, Host=f"{name}.example.org", Origin=origin)[0] == 200
            assert status_of(port, Host="localhost:8787", Origin=origin)[0] == 200
        assert status_of(port, Host="other.example.org")[0] == 403


def test_connect__killed_worker_is_replaced(client):
    before = client.run(os.getpid)
    os.kill(min(before.values()), signal.SIGKILL)

    def replaced():
        # Whoever asks the worker itself may wait for its last answer for half a minute.
        now = client.nthreads()
        return len(now) == 2 and now.keys() != before.keys()

    eventually(replaced)

    def ready():
        import tests_no_kernels

        return tests_no_kernels.READY

    assert all(client.run(ready).values())


def test_connect__worker_that_is_missing_for_long_is_replaced(client):
    """Dask's own clusters close the nanny of a worker that is not back in time."""
    (before, *_) = client.run(os.getpid).values()
    with dask.config.set({"distributed.deploy.lost-worker-timeout": "1 ms"}):
        os.kill(before, signal.SIGKILL)
        eventually(lambda: len(client.nthreads()) == 1)
        eventually(lambda: len(client.nthreads()) == 2)
    # One that is to be closed would still come back for a moment.
    assert sorted(client.cluster.workers) == [0, 1]


def test_connect__busy_driver_does_not_stop_the_scheduler(client):
    """The scheduler is asked through a socket while a thread here never lets go for long."""
    stop = threading.Event()

    def busy():
        while not stop.is_set():
            sum(range(1000))

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        assert client.gather(client.map(abs, range(-100, 0))) == list(range(100, 0, -1))
    finally:
        stop.set()
        thread.join()


def test_connect__adapts_and_leaves_nothing(no_kernels):
    with connect(
        "local", adapt=(1, 2), dashboard_port=0, kernels=NO_KERNELS, security=False
    ) as client:
        processes = [client.run_on_scheduler(os.getpid), *client.run(os.getpid).values()]
        assert len(processes) == 2
        futures = client.map(lambda _: time.sleep(0.2) or os.getpid(), range(40), pure=False)
        eventually(lambda: len(client.scheduler_info()["workers"]) == 2)
        client.cancel(futures)
        processes += client.run(os.getpid).values()
        address = client.scheduler.address
        cluster = client.cluster
    assert cluster.status.name == "closed"
    assert not any(psutil.pid_exists(one) for one in processes)
    with pytest.raises(ClusterError, match="no Dask scheduler answers"):
        connect(address, timeout=1)


def test_close__after_the_scheduler_was_killed(no_kernels):
    client = connect("local", n_workers=1, dashboard_port=0, kernels=NO_KERNELS, security=False)
    worker = psutil.Process(next(iter(client.run(os.getpid).values())))
    os.kill(client.run_on_scheduler(os.getpid), signal.SIGKILL)
    worker.wait(20)
    client.close()
    assert client.cluster.status.name == "closed"


DRIVER = f"""
import os, signal, sys, time
from oectflow.cluster.connect import connect
sys.path.insert(0, sys.argv[1])
client = connect("local", n_workers=1, dashboard_port=0, security=False, kernels={NO_KERNELS!r})
pids = client.run_on_scheduler(os.getpid), *client.run(os.getpid).values()
print(*pids, flush=True)
future = client.submit(time.sleep, 1)
try:
    os.killpg(0, signal.SIGINT)
    future.result()
except KeyboardInterrupt:
    future.result()
    assert pids == (client.run_on_scheduler(os.getpid), *client.run(os.getpid).values())
    print("all alive", flush=True)
client.submit(time.sleep, 1000)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_stop_worker__whose_nanny_waits_for_ever(monkeypatch):
    monkeypatch.setattr(host, "SECONDS_TO_CLOSE", 0.01)
    with subprocess.Popen(["sleep", "600"]) as worker:

        class Nanny:
            pid = worker.pid

            async def close(self, timeout):
                await asyncio.Event().wait()

        stopped = host.Host()
        stopped.nannies["a"] = Nanny()
        asyncio.run(stopped.stop_worker("a"))
        assert worker.wait(30) == -signal.SIGKILL
    assert not stopped.nannies


def test_driver__interrupted_then_killed(no_kernels):
    """Ctrl-C leaves the cluster alone; the death of the driver ends it, though it computes."""
    driver = subprocess.run(
        [sys.executable, "-c", DRIVER, str(no_kernels)],
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=60,
    )
    first, *others = driver.stdout.splitlines()
    assert others == ["all alive"], driver.stderr
    assert driver.returncode == -signal.SIGKILL
    eventually(lambda: not any(psutil.pid_exists(int(one)) for one in first.split()))


def test_connect__cluster_that_cannot_start(monkeypatch, no_kernels):
    monkeypatch.setattr("oectflow.cluster.local.LOOPBACK", "203.0.113.1")
    with pytest.raises(ClusterError, match=r"does not start.*start scheduler"):
        connect("local", n_workers=1, security=False, dashboard_port=0, kernels=NO_KERNELS)


def test_connect__number_of_workers():
    with pytest.raises(ClusterError, match="n_workers=0: expected at least 1"):
        connect("local", n_workers=0, kernels=NO_KERNELS)


def test_free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        assert free_port(taken) == 0
    assert free_port(taken) == taken


def test_close__client_that_does_not_own(client):
    with Client(client.cluster) as other:
        assert other.submit(os.getpid).result()
    assert client.cluster.status.name == "running"


@pytest.mark.skipif(
    os.name != "posix" or os.getuid() != 0 or shutil.which("runuser") is None,
    reason="needs root, to act as a second account",
)
def test_nothing_of_another_account_can_be_imported(monkeypatch):
    """Another account has made the scratch folder of Dask, with a module in it, before us."""
    shared = Path(tempfile.mkdtemp(dir="/tmp"))
    shared.chmod(0o1777)

    def as_nobody(*command):
        return subprocess.run(["runuser", "-u", "nobody", "--", *map(str, command)], check=False)

    trap = shared / "dask-scratch-space"
    as_nobody("mkdir", "-m", "777", trap)
    as_nobody("sh", "-c", f"umask 0; echo > {trap}/module_of_another.py")
    monkeypatch.setenv("TMPDIR", str(shared))
    monkeypatch.setattr(tempfile, "tempdir", None)

    def look():
        import importlib.util
        import sys

        return importlib.util.find_spec("module_of_another") is not None, list(sys.path)

    try:
        with connect("local", n_workers=1, dashboard_port=0, kernels=NO_KERNELS) as client:
            seen = [client.run_on_scheduler(look), *client.run(look).values()]
            seen += client.run(look, nanny=True).values()
            for found, paths in seen:
                assert not found
                places = [p for p in paths if p and Path(p).is_dir()]
                assert not [p for p in places if as_nobody("test", "-w", p).returncode == 0]
    finally:
        shutil.rmtree(shared)
