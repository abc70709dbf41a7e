"""Real SSH servers on two addresses of this machine: runs, losses, and what goes wrong."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import dask
import numba
import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest

import oectflow as of
from oectflow.cluster import far_host
from oectflow.cluster import ssh as module
from oectflow.cluster.connect import connect
from oectflow.errors import ClusterError
from oectflow.pipeline.inputs.simulate import simulate_device

from . import sshd

pytestmark = pytest.mark.ssh

ADDRESSES = ("127.0.0.2", "127.0.0.3")


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    missing = sshd.missing_programs()
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: apt install openssh-server")
    pytest.importorskip("asyncssh", reason="asyncssh is not installed")
    modules = tmp_path_factory.mktemp("modules")
    (modules / "no_kernels.py").write_text("def warm_up():\n    pass\n")
    environment = {
        "PYTHONPATH": ":".join([str(modules), *filter(None, sys.path)]),
        # Kernels that are compiled are found again.
        "NUMBA_CACHE_DIR": numba.config.CACHE_DIR
        or str(Path("~/.cache/oectflow/kernels").expanduser()),
    }
    with contextlib.ExitStack() as stack:
        stack.enter_context(pytest.MonkeyPatch.context()).syspath_prepend(str(modules))
        yield {
            address: stack.enter_context(
                sshd.ssh_server(tmp_path_factory.mktemp("sshd"), address, environment)
            )
            for address in ADDRESSES
        }


@pytest.fixture
def options(servers):
    def options(*hosts, **given):
        way = given.pop("way", {})
        ways = [servers[host].connect_options | way for host in hosts]
        return {
            "hosts": list(hosts), "n_workers": 1, "connect_options": ways, "dashboard_port": 0,
            "kernels": "no_kernels", "timeout": 300,
        } | given  # fmt: skip

    return options


@pytest.fixture
def impatient():
    """A client looks for a scheduler that is gone for half a minute otherwise."""
    with dask.config.set({"distributed.comm.timeouts.connect": "5s"}):
        yield


def listening(servers):
    """Addresses at which what was started there listens."""
    return {
        one.laddr.ip
        for server in servers.values()
        for process in psutil.Process(server.process.pid).children(recursive=True)
        for one in process.net_connections("inet")
        if one.status == psutil.CONN_LISTEN
    }


# Dask's client leaves a socket open where a scheduler ends while the client connects to it anew.
@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")
@pytest.mark.usefixtures("impatient")
def test_runs_there_as_here_and_goes_on_without_a_machine(servers, options, tmp_path, capfd):
    raw, out = tmp_path / "raw", tmp_path / "out"
    raw.mkdir()
    for i in range(8):
        simulate_device(i, n_transfer=2, n_transient=6, n_cycles=30, test_id=f"t{i}").write(
            raw / f"{i}.h5"
        )
    given = options("127.0.0.2", "127.0.0.2", "127.0.0.3")
    del given["kernels"], given["timeout"]
    with connect("ssh", **given) as client:
        said = capfd.readouterr().err
        assert f"the scheduler listens at {client.scheduler.address} of 127.0.0.2" in said
        hosts = {one["host"] for one in client.scheduler_info(n_workers=-1)["workers"].values()}
        assert hosts == set(ADDRESSES)
        assert client.scheduler.address.startswith("tls://127.0.0.2:")
        assert listening(servers) == {"127.0.0.1", *ADDRESSES}
        with urllib.request.urlopen(client.dashboard_link) as page:
            assert page.status == 200
        (session,) = servers["127.0.0.3"].sessions()
        done = threading.Event()

        def kill():
            while not list(out.glob("*.parquet")) and not done.is_set():
                done.wait(0.02)
            session.kill()

        killer = threading.Thread(target=kill)
        killer.start()
        report = of.extract(raw, "transient_tau", out, client=client, progress=False)
        done.set()
        killer.join()
        assert report.ok
        assert len(client.scheduler_info(n_workers=-1)["workers"]) == 1
        # The last machine goes: nobody would ever work on it.
        worker = client.cluster.workers[0].process
        client.cluster.loop.add_callback(worker._connection.abort)
        with pytest.raises(ClusterError, match="the Dask scheduler is gone"):
            of.extract(raw, "transient_tau", tmp_path / "more", client=client, progress=False)
    gc.collect()
    of.extract(raw, "transient_tau", tmp_path / "alone", progress=False)
    assert len(list((tmp_path / "alone").glob("*.parquet"))) == 8
    for path in (tmp_path / "alone").glob("*.parquet"):
        alone, there = (pq.read_table(one) for one in (path, out / path.name))
        for name in alone.column_names:
            np.testing.assert_array_equal(
                np.array(alone[name].to_pylist()), np.array(there[name].to_pylist()), name
            )


def test_keys_are_in_no_file_and_nothing_is_left(servers, options, tmp_path):
    with connect("ssh", **options(*ADDRESSES)) as client:
        assert client.submit(sum, [1, 2]).result() == 3
        started = [
            process
            for server in servers.values()
            for process in psutil.Process(server.process.pid).children(recursive=True)
        ]
        for process in started:
            assert "PRIVATE KEY" not in " ".join(process.cmdline())
            assert not [one.path for one in process.open_files() if one.path.endswith(".pem")]
    _, alive = psutil.wait_procs(started, timeout=60)
    assert not alive


def test_without_tls_where_that_is_said(options):
    with connect("ssh", **options(*ADDRESSES, security=False, interface="lo")) as client:
        assert client.scheduler.address.startswith("tcp://127.0.0.1:")


def test_machines_with_one_disk_compile_apart(options, monkeypatch):
    async def answer(host, do, **arguments):
        answer = await asked(host, do, **arguments)
        if do == "describe":
            answer |= {"machine": host.name, "kernels": "whose-1"}
        return answer

    asked = module.SSHHost.request
    monkeypatch.setattr(module.SSHHost, "request", answer)
    with connect("ssh", **options(*ADDRESSES)) as client:
        (folder,) = client.run(os.getenv, "NUMBA_CACHE_DIR").values()
        assert Path(folder).name == f"numba-{socket.gethostname()}"


def test_whose_kernels_they_are(tmp_path, monkeypatch):
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "one"))
    mark = far_host._mark()
    assert mark == far_host._mark()
    assert [path.name for path in (tmp_path / "one/oectflow/kernels").iterdir()] == ["whose"]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "two"))
    assert far_host._mark() not in (mark, None)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    assert far_host._mark() is None


def test_a_user_in_the_name_of_a_machine(options, tmp_path):
    given = options(*ADDRESSES)
    given["hosts"][1] = "nobody-here@127.0.0.3"
    why = r"nobody-here@127\.0\.0\.3: Permission denied for user nobody-here on host 127\.0\.0\.3"
    with pytest.raises(ClusterError, match=why):
        connect("ssh", **given)


def test_a_scheduler_that_only_ssh_reaches(options, monkeypatch, capfd):
    async def blocked(address, security):
        raise OSError("no route to host")

    monkeypatch.setattr(module, "knock", blocked)
    with connect("ssh", **options(*ADDRESSES)) as client:
        assert client.scheduler.address.startswith("tls://127.0.0.1:")
        assert client.submit(sum, [1, 2]).result() == 3
    assert "does not reach it (no route to host), and goes through SSH" in capfd.readouterr().err


@pytest.fixture
def pythons(tmp_path):
    """Pythons with faults."""
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    found = {"bare": bare / "bin" / "python"}
    other = tmp_path / "other" / "numba-0.1.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: numba\nVersion: 0.1\n")
    broken = tmp_path / "broken" / "oectflow"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise RuntimeError('half a copy')\n")
    for name in ("other", "broken"):
        found[name] = tmp_path / f"python-{name}"
        path = ":".join([str(tmp_path / name), *filter(None, sys.path)])
        found[name].write_text(f'#!/bin/sh\nPYTHONPATH="{path}" exec "{sys.executable}" "$@"\n')
        found[name].chmod(0o755)
    # An environment finds the packages of none of the others.
    found["bare"] = tmp_path / "python-bare"
    found["bare"].write_text(f'#!/bin/sh\nPYTHONPATH= exec "{bare}/bin/python" "$@"\n')
    found["bare"].chmod(0o755)
    return found | {"none": Path("/no/such/python")}


@pytest.mark.parametrize(
    ("which", "why"),
    [
        ("none", r"127\.0\.0\.3: /no/such/python does not run there: .*(not found|No such file)"),
        ("bare", r"127\.0\.0\.3: .* has no oectflow, dask, .*; .*install oectflow.*remote_pyt"),
        ("other", r"127\.0\.0\.3: .* has other versions: numba 0\.1 \(here .*\); install the same"),
        ("broken", r"127\.0\.0\.3: .* cannot be imported \(RuntimeError: half a copy\); install"),
    ],
)
def test_the_python_of_a_machine_is_looked_at_first(which, why, options, pythons):
    given = options(*ADDRESSES, remote_python=[sys.executable, str(pythons[which])])
    with pytest.raises(ClusterError, match=why):
        connect("ssh", **given)


def test_a_host_key_that_nobody_knows(options, tmp_path):
    (tmp_path / "empty").touch()
    given = options(*ADDRESSES, way={"known_hosts": str(tmp_path / "empty")})
    with pytest.raises(ClusterError) as caught:
        connect("ssh", **given)
    for address in ADDRESSES:
        assert f"{address}: Host key is not trusted" in str(caught.value)
        assert f"connect once by hand, 'ssh {address}'" in str(caught.value)


def with_another_key(options, tmp_path, passphrase):
    """Return the arguments for two machines, with a key for the second that it does not know."""
    key = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", key], check=True)
    given = options(*ADDRESSES)
    given["connect_options"][1]["client_keys"] = [str(key)]
    return given


def test_a_key_that_is_refused(options, tmp_path):
    given = with_another_key(options, tmp_path, "")
    with pytest.raises(ClusterError, match=r"^connect\('ssh'\): 127.0.0.3: Permission denied.*key"):
        connect("ssh", **given)


def test_a_key_with_a_passphrase(options, tmp_path):
    given = with_another_key(options, tmp_path, "secret")
    with pytest.raises(ClusterError, match=r"127\.0\.0\.3: .*[Pp]assphrase"):
        connect("ssh", **given)


def test_nobody_listens_or_nobody_has_that_name(options):
    with socket.create_server(("127.0.0.3", 0)) as free:
        port = free.getsockname()[1]
    given = options(*ADDRESSES)
    given["connect_options"][1]["port"] = port
    with pytest.raises(ClusterError, match=r"127\.0\.0\.3: .*[Cc]onnect.*is it up"):
        connect("ssh", **given)
    given["hosts"][1] = "no-such-machine.invalid"
    with pytest.raises(ClusterError, match=r"no-such-machine\.invalid: .*; is that its name"):
        connect("ssh", **given)


def test_somebody_who_does_not_answer(options):
    with socket.create_server(("127.0.0.3", 0)) as silent:
        given = options(*ADDRESSES)
        given["connect_options"][1] |= {"port": silent.getsockname()[1], "connect_timeout": 0.5}
        with pytest.raises(ClusterError, match=r"127\.0\.0\.3: does not answer within 0\.5 s"):
            connect("ssh", **given)


def test_says_what_it_waits_for_and_no_longer_than_it_was_told(options, monkeypatch, capfd):
    monkeypatch.setattr(module, "_TELL_AFTER", 0.2)
    with socket.create_server(("127.0.0.3", 0)) as silent:
        given = options(*ADDRESSES, timeout=1)
        given["connect_options"][1]["port"] = silent.getsockname()[1]
        with pytest.raises(ClusterError, match=r"127\.0\.0\.3: SSH took more than .* timeout="):
            connect("ssh", **given)
    assert "connect('ssh'): waits for SSH of 127.0.0.3 (0 s)" in capfd.readouterr().err


def test_an_interface_that_is_not_there(options):
    with pytest.raises(ClusterError, match=r"there is no interface 'ib9'; it has .*lo \(127\.0"):
        connect("ssh", **options(*ADDRESSES, interface="ib9"))


def test_a_machine_that_others_do_not_reach(options, monkeypatch):
    found = module.listening_address

    def address(host, interface):
        return "192.0.2.7" if host.name == "127.0.0.3" else found(host, interface)

    monkeypatch.setattr(module, "listening_address", address)
    why = r"127\.0\.0\.2 was reached at 127\.0\.0\.2, where no other machine reaches it; .*interf"
    with pytest.raises(ClusterError, match=why):
        connect("ssh", **options(*ADDRESSES))


def test_workers_that_do_not_reach_the_scheduler(options, servers, monkeypatch):
    async def reach(host, do, **arguments):
        if do == "reach" and host.name == "127.0.0.3":
            arguments["address"] = "tls://127.0.0.3:9"
        return await asked(host, do, **arguments)

    asked = module.SSHHost.request
    monkeypatch.setattr(module.SSHHost, "request", reach)
    with pytest.raises(ClusterError, match=r"127\.0\.0\.3: .*: it does not reach the scheduler at"):
        connect("ssh", **options(*ADDRESSES))
    _, alive = psutil.wait_procs(
        [session for server in servers.values() for session in server.sessions()], timeout=60
    )
    assert not alive


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"hosts": []}, "the scheduler's machine, then the workers'"),
        ({"hosts": ["only"]}, "the scheduler's machine, then the workers'"),
        ({"hosts": "ab"}, "the scheduler's machine, then the workers'"),
        ({"remote_python": ["a"]}, r"remote_python=…\): 1 for 2 hosts"),
        ({"connect_options": [{}] * 3}, r"connect_options=…\): 3 for 2 hosts"),
        ({"connect_options": {"prot": 22}}, "prot"),
        ({"adapt": (1, 2)}, "say n_workers="),
        ({"intreface": "ib0"}, "did you mean 'interface'"),
        ({"worker_options": {"nthread": 2}}, "nthread"),
        ({"security": "yes"}, "certificates that exist"),
    ],
)
def test_options_that_are_wrong(given, why, options):
    with pytest.raises(ClusterError, match=why):
        connect("ssh", **options(*ADDRESSES) | given)


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "asyncssh", None)
    with pytest.raises(ClusterError, match=r"pip install 'oectflow\[ssh\]'"):
        connect("ssh", hosts=["a", "b"], n_workers=1)
