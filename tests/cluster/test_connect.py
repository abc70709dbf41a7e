"""From a word, an address, a file or the configuration to a client; clear refusals."""

from __future__ import annotations

import dask
import pytest
from distributed import Client, LocalCluster, Security
from distributed.comm import CommClosedError

from oectflow.cluster import connect as module
from oectflow.cluster.connect import _patiently, connect
from oectflow.cluster.plugins import NOT_READY
from oectflow.cluster.security import given_certificates, temporary_certificates
from oectflow.cluster.versions import check_versions
from oectflow.errors import ClusterError


@pytest.fixture(scope="module")
def running(threads_of_dask):
    with (
        threads_of_dask(1) as cluster,
        Client(cluster),
    ):
        yield cluster


@pytest.fixture
def started(monkeypatch):
    """What would be started, instead of starting it."""

    class Started(Exception):
        pass

    def start(kind, settings, adapt):
        raise Started(kind, settings, adapt)

    monkeypatch.setattr(module, "_start", start)
    monkeypatch.setattr(module, "warm_up_here", lambda kernels, beside: None)

    def call(*args, **kwargs):
        with pytest.raises(Started) as caught:
            connect(*args, **kwargs)
        return caught.value.args

    return call


SLOW = """
from pathlib import Path
from threading import Event

def warm_up():
    while not Path({go!r}).exists():
        Event().wait(0.02)
"""


def test_connect__says_what_it_waits_for_and_no_longer_than_it_was_told(
    tmp_path, monkeypatch, capsys
):
    go = tmp_path / "go"
    (tmp_path / "slow_kernels.py").write_text(SLOW.format(go=str(go)))
    # Workers are spawned, and look for modules where this process does.
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(module, "_TELL_AFTER", 0.2)
    with LocalCluster(
        n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
    ) as cluster:
        try:
            with pytest.raises(ClusterError, match="have not compiled the kernels in time"):
                connect(cluster.scheduler_address, kernels="slow_kernels", timeout=1)
        finally:
            go.touch()
    assert "workers compile kernels (0 s)" in capsys.readouterr().err


ONCE_TOO_MUCH = """
import os, signal
from pathlib import Path

def warm_up():
    with Path({said!r}).open("a") as said:
        said.write("x")
    if Path({said!r}).stat().st_size == 1:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_connect__a_worker_that_goes_before_it_is_ready_is_waited_for_anew(
    tmp_path, monkeypatch, capsys
):
    said = tmp_path / "said"
    (tmp_path / "large_kernels.py").write_text(ONCE_TOO_MUCH.format(said=str(said)))
    monkeypatch.syspath_prepend(str(tmp_path))
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        connect(cluster.scheduler_address, kernels="large_kernels", timeout=120) as client,
    ):
        assert client.submit(sum, [1, 2]).result() == 3
    assert said.stat().st_size >= 2
    assert "a worker has gone before it was ready" in capsys.readouterr().err


@pytest.mark.parametrize("spec", ["local", "tcp://127.0.0.1:8786"])
def test_connect__a_client_waits_longer_for_a_busy_scheduler(spec, monkeypatch):
    """Dask's 30 s end a run whose scheduler cannot read for so long; see cluster/settings.py."""

    class Seen(Exception):
        pass

    def client(*args, **options):
        raise Seen(dask.config.get("distributed.comm.timeouts.tcp"))

    class FakeCluster:
        dashboard_link = ""

        def close(self):
            pass

    monkeypatch.setattr(module, "_start", lambda kind, settings, adapt: (FakeCluster(), None))
    monkeypatch.setattr(module, "warm_up_here", lambda kernels, beside: None)
    monkeypatch.setattr(module, "_OwningClient", client)
    monkeypatch.setattr(module, "SharedClient", client)
    before = dask.config.get("distributed.comm.timeouts.tcp")
    with pytest.raises(Seen, match="300s"):
        connect(spec)
    assert dask.config.get("distributed.comm.timeouts.tcp") == before


def test_patiently__says_what_another_worker_has_said_before_it_left():
    """One has other versions and leaves; the connection to another is lost at that moment."""
    attempts = []

    class FakeClient:
        def get_events(self, topic):
            assert topic == NOT_READY
            return [(1.0, "worker tcp://w has other versions: numba 0.1 (here 0.61)")]

    def prepare(timeout):
        attempts.append(timeout)
        raise CommClosedError("to tcp://v")

    with pytest.raises(
        ClusterError, match=r"connect\('slurm'\): worker tcp://w has other versions"
    ):
        _patiently(FakeClient(), "slurm", prepare, 60.0)
    assert len(attempts) == 1


def test_connect__address(running, monkeypatch):
    monkeypatch.setattr("oectflow.cluster.settings.warm_up", lambda: None, raising=False)
    kernels = "oectflow.cluster.settings"
    with connect(running.scheduler_address, kernels=kernels) as client:
        assert client.submit(lambda: 1).result() == 1
        names = client.run(lambda dask_worker: list(dask_worker.plugins)).popitem()[1]
        assert "oectflow-warm-up" in names
        # Where the cores of a foreign cluster are used is not ours to say.
        assert "oectflow-pin" not in names
        # It has no dashboard: events are counted, and no page is served.
        assert "oectflow-page" in client.run_on_scheduler(
            lambda dask_scheduler: list(dask_scheduler.plugins)
        )
    assert running.status.name == "running"


def test_connect__address_with_local_options(running):
    with pytest.raises(ClusterError, match="n_workers is only for clusters that are started here"):
        connect(running.scheduler_address, n_workers=3)


def test_connect__a_client_that_is_closed_stops_its_cluster_once(threads_of_dask):
    with (
        threads_of_dask(0) as cluster,
        pytest.MonkeyPatch.context() as patch,
    ):
        closed = []
        client = module._OwningClient(cluster)
        patch.setattr(cluster, "close", lambda: closed.append(client.status))
        client.close()
        # Python does so when it deletes a client, and a lock may be held at that time.
        client.__del__()
        assert closed == ["closed"]


def test_connect__unknown_word():
    with pytest.raises(ClusterError, match="did you mean 'local'"):
        connect("locl")


def test_connect__unknown_option_of_local(monkeypatch):
    monkeypatch.setattr(module, "warm_up_here", lambda kernels, beside: None)
    with pytest.raises(ClusterError, match=r"wokers.*did you mean 'n_workers'"):
        connect("local", wokers=3)


def test_connect__word(started):
    assert started("local", n_workers=3) == ("local", {"n_workers": 3}, None)


def test_connect__nothing_said(started):
    assert started() == ("local", {}, None)


def test_connect__configuration(started):
    section = {"kind": "slurm", "n-workers": 96, "cores": 48, "memory": None}
    with dask.config.set({"oectflow.cluster": section}):
        assert started() == ("slurm", {"n_workers": 96, "cores": 48}, None)
        assert started("slurm", cores=24) == ("slurm", {"n_workers": 96, "cores": 24}, None)
        assert started("local") == ("local", {}, None)


def test_connect__mapping_and_file(started, tmp_path):
    path = tmp_path / "cluster.yaml"
    path.write_text("kind: ssh\nhosts: [a, b]\nn_workers: 4\nadapt: [1, 4]\n")
    expected = ("ssh", {"hosts": ["a", "b"], "n_workers": 4}, [1, 4])
    assert started(path) == expected
    assert started(str(path)) == expected
    mapping = {"kind": "ssh", "hosts": ["a", "b"], "n_workers": 2, "adapt": [1, 4]}
    assert started(mapping, n_workers=4) == expected


@pytest.mark.parametrize("text", ["", "[1, 2]", "n_workers: 3", "kind: [", None])
def test_connect__file_that_says_nothing(text, tmp_path):
    path = tmp_path / "cluster.yml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ClusterError, match=r"cluster\.yml: "):
        connect(path)


@pytest.mark.parametrize("adapt", [(3, 2), (0, 0), (-1, 2), (1, 2, 3)])
def test_connect__adapt_makes_no_sense(adapt):
    with pytest.raises(ClusterError, match="smallest and largest number of workers"):
        connect("local", adapt=adapt)


def test_connect__kernels_that_fail(running):
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        connect(running.scheduler_address, kernels="no_such_module")


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


@pytest.fixture
def files(tmp_path):
    made = Security.temporary()
    contents = {
        "ca_file": made.tls_ca_file,
        "cert": made.tls_client_cert,
        "key": made.tls_client_key,
    }
    for name, text in contents.items():
        (tmp_path / name).write_text(text)
    return {name: str(tmp_path / name) for name in contents}


def test_security__files(files):
    security = given_certificates(files)
    assert security.require_encryption
    for role in ("client", "scheduler", "worker"):
        assert security.get_tls_config_for_role(role)["cert"] == files["cert"]
        assert security.get_connection_args(role)["ssl_context"].verify_mode.name == "CERT_REQUIRED"


def test_security__words():
    assert temporary_certificates(False) is None
    assert temporary_certificates(None).require_encryption
    assert temporary_certificates(True).require_encryption
    assert given_certificates(None) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kye": "x"}, "unknown entry 'kye'; did you mean 'key'"),
        ({"key": "/no/such/file"}, "key: there is no file /no/such/file"),
    ],
)
def test_security__wrong_files(change, message, files):
    with pytest.raises(ClusterError, match=message):
        given_certificates(files | change)


def test_security__incomplete_or_odd(files):
    del files["key"]
    with pytest.raises(ClusterError, match="'key' is missing"):
        given_certificates(files)
    with pytest.raises(ClusterError, match="certificates that exist"):
        given_certificates(True)


def test_security__without_cryptography(monkeypatch):
    def missing():
        raise ImportError("no module")

    monkeypatch.setattr(Security, "temporary", missing)
    with pytest.raises(ClusterError, match="pip install cryptography"):
        temporary_certificates(None)
