"""Batch systems by the scripts they would get, and by programs that stand for them."""

from __future__ import annotations

import gc
import os
import stat
import subprocess
import sys

import dask
import psutil
import pytest

from oectflow.cluster.batch import BATCH_SYSTEMS, start_batch
from oectflow.cluster.connect import connect
from oectflow.cluster.jobs import lifetime_options, walltime_seconds
from oectflow.cluster.settings import WORKER_ENVIRONMENT
from oectflow.cluster.whole_jobs import whole
from oectflow.errors import ClusterError

needs_jobqueue = pytest.mark.usefixtures("jobqueue", "home")


@pytest.fixture
def jobqueue():
    pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed")


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@needs_jobqueue
@pytest.mark.parametrize(
    ("kind", "directive"),
    [
        ("slurm", "#SBATCH --cpus-per-task=4"),
        ("pbs", "#PBS -l select=1:ncpus=4"),
        ("sge", "#$ -N dask-worker"),
        ("lsf", "#BSUB -n 4"),
    ],
)
def test_batch__job_script(kind, directive, home):
    options = {"lsf_units": "mb"} if kind == "lsf" else {}
    with start_batch(
        kind,
        memory="8 GiB",
        dashboard_port=0,
        cores=4,
        job_script_prologue=["module load python"],
        **options,
    )[0] as cluster:
        script = cluster.job_script()
        assert cluster.scheduler_address.startswith("tls://")
    assert directive in script
    lines = script.splitlines()
    for name, value in WORKER_ENVIRONMENT.items():
        assert f"export {name}={value}" in lines
    assert "export DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE=False" in lines
    assert "module load python" in lines
    assert "--nthreads 1 --memory-limit 2.00GiB --nworkers 4 --nanny" in script
    assert "--no-dashboard" in script
    assert f"--tls-ca-file {home}/.oectflow/" in script
    assert "PRIVATE KEY" not in script
    # What a worker compiles before it counts as come takes longer than Dask's minute.
    assert "--death-timeout 300 " in script


@needs_jobqueue
def test_batch__certificates_are_ours_alone(home):
    with start_batch("slurm", memory="1 GiB", dashboard_port=0, cores=1)[0]:
        (folder,) = (home / ".oectflow").iterdir()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        files = {one.name: stat.S_IMODE(one.stat().st_mode) for one in folder.iterdir()}
        assert files == {"ca_file.pem": 0o600, "cert.pem": 0o600, "key.pem": 0o600}
    assert list((home / ".oectflow").iterdir()) == []


@needs_jobqueue
def test_batch__options_from_dask_configuration():
    with (
        dask.config.set(
            {
                "jobqueue.slurm.cores": 6,
                "jobqueue.slurm.memory": "6 GiB",
                "jobqueue.slurm.queue": "short",
            }
        ),
        start_batch("slurm", dashboard_port=0, security=False)[0] as cluster,
    ):
        script = cluster.job_script()
        port = int(cluster.dashboard_link.split(":")[-1].split("/")[0])
        listening = [
            one.laddr.ip
            for process in psutil.Process().children()
            for one in process.net_connections("tcp")
            if one.status == psutil.CONN_LISTEN and one.laddr.port == port
        ]
        assert listening == ["127.0.0.1"]
    assert "#SBATCH -p short" in script
    assert "--nworkers 6" in script
    assert "--tls" not in script


# Dask complains when it deletes a cluster whose options were refused.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <function Cluster.__del__")
@needs_jobqueue
def test_batch__without_cores_or_with_unknown_option(home):
    with pytest.raises(ClusterError, match="say how many cores one job has"):
        start_batch("slurm", memory="1 GiB")
    with pytest.raises(ClusterError, match="unexpected keyword argument 'quee'"):
        start_batch("slurm", memory="1 GiB", cores=1, quee="short")
    assert list((home / ".oectflow").iterdir()) == []
    gc.collect()


SBATCH = """#!{python}
import os, subprocess, sys
script = sys.argv[-1]
kept = script + ".kept"
os.link(script, kept)
# The number of a job is the number of its process.
run = 'SLURM_JOB_ID=$$ exec bash "$0"'
child = subprocess.Popen(["bash", "-c", run, kept], stdout=open({log!r}, "a"),
                         stderr=subprocess.STDOUT, start_new_session=True)
print("Submitted batch job", child.pid)
"""
SCANCEL = """#!{python}
import os, signal, sys
try:
    os.killpg(int(sys.argv[1]), signal.SIGTERM)
except ProcessLookupError:
    sys.exit(1)
"""


@pytest.fixture
def slurm(home, monkeypatch):
    """Programs of SLURM that run a job on this machine."""
    programs = home / "bin"
    programs.mkdir()
    for name, text in {"sbatch": SBATCH, "scancel": SCANCEL}.items():
        text = text.format(python=sys.executable, log=str(home / "job.log"))
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    (home / "no_kernels.py").write_text("def warm_up():\n    pass\n")
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(home))
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)


@needs_jobqueue
@pytest.mark.usefixtures("slurm")
def test_connect__slurm_that_runs_the_script_here(home):
    with connect(
        "slurm",
        n_workers=2,
        memory="2 GiB",
        cores=2,
        dashboard_port=0,
        timeout=60,
        kernels="no_kernels",
        scheduler_options={"host": "127.0.0.1"},
    ) as client:
        client.wait_for_workers(2, timeout=60)
        assert client.scheduler.address.startswith("tls://")

        def settings():
            return os.environ["NUMBA_NUM_THREADS"], os.environ["NUMBA_CACHE_DIR"]

        node = os.uname().nodename
        for threads, cache in client.run(settings).values():
            assert threads == "1"
            assert cache == f"{home}/.cache/oectflow/numba-{node}"
        workers = client.scheduler_info()["workers"].values()
        assert [worker["nthreads"] for worker in workers] == [1, 1]
        assert client.submit(sum, [1, 2]).result() == 3


@needs_jobqueue
@pytest.mark.usefixtures("slurm")
def test_connect__all_ports_are_on_the_interface_that_was_asked_for():
    def listening():
        """Return where this process and the nanny that has started it listen."""
        return {
            one.laddr.ip
            for process in (psutil.Process(), psutil.Process().parent())
            for one in process.net_connections("tcp")
            if one.status == psutil.CONN_LISTEN
        }

    loopback = next(
        name
        for name, found in psutil.net_if_addrs().items()
        if any(one.address == "127.0.0.1" for one in found)
    )
    with connect(
        "slurm", n_workers=1, memory="1 GiB", cores=1, dashboard_port=0, timeout=60,
        kernels="no_kernels", interface=loopback,
    ) as client:  # fmt: skip
        assert client.run(listening).popitem()[1] == {"127.0.0.1"}
        assert client.run_on_scheduler(listening) == {"127.0.0.1"}


DRIVER = """
import os, signal, sys
from oectflow.cluster.batch import start_batch
cluster, _ = start_batch("slurm", memory="1 GiB", cores=1, dashboard_port=0)
host = cluster.scheduler.process._process.pid
print(host, len(os.listdir(os.path.expanduser("~/.oectflow"))), flush=True)
sys.stdin.readline()
os.kill(os.getpid() if sys.argv[1] == "client" else host, getattr(signal, sys.argv[2]))
signal.pause()
"""


@needs_jobqueue
@pytest.mark.parametrize(
    ("victim", "number"), [("client", "SIGTERM"), ("client", "SIGKILL"), ("host", "SIGTERM")]
)
def test_batch__keys_end_with_whoever_started_the_cluster(home, victim, number):
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER, victim, number],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as driver:  # fmt: skip
        host, n_folders = map(int, driver.stdout.readline().split())
        assert n_folders == 1
        process = psutil.Process(host)
        driver.stdin.write("\n")
        driver.stdin.flush()
        psutil.wait_procs([process], timeout=60)
        assert list((home / ".oectflow").iterdir()) == []
        driver.kill()


@needs_jobqueue
@pytest.mark.usefixtures("slurm")
@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("sbatch", "import sys; sys.exit('sbatch: error: no such account')"), "no such account"),
        (("sbatch", "print('queued')"), "Could not parse job id"),
        (("no_python", ""), r"(?s)job \d+ ended with status 127 before its workers came; .*no log"),
    ],
)
def test_connect__jobs_that_cannot_run(home, change, why):
    name, text = change
    options = {"python": "/no/such/python"} if name == "no_python" else {}
    if name == "sbatch":
        (home / "bin" / name).write_text(f"#!{sys.executable}\n{text}\n")
    with pytest.raises(ClusterError, match=why):
        connect(
            "slurm", n_workers=1, memory="1 GiB", cores=1, dashboard_port=0, timeout=60,
            kernels="no_kernels", scheduler_options={"host": "127.0.0.1"}, **options,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "walltime", "seconds"),
    [
        ("slurm", "00:30:00", 1800), ("slurm", "30", 1800), ("slurm", "30:30", 1830),
        ("slurm", "1-12", 129_600), ("slurm", "1-00:30:00", 88_200), ("pbs", "02:00:00", 7200),
        ("pbs", "90", 90), ("sge", "00:10:00", 600), ("lsf", "00:30", 1800), ("lsf", "90", 5400),
        ("slurm", None, None), ("slurm", "UNLIMITED", None), ("slurm", "0", None),
    ],
)  # fmt: skip
def test_walltime(kind, walltime, seconds):
    assert walltime_seconds(kind, walltime) == seconds
    options = lifetime_options(kind, walltime)
    if seconds is None:
        assert options == []
    else:
        latest = sum(float(text.removesuffix("s")) for text in options[1::2])
        assert 0.5 * seconds < latest < seconds


@pytest.mark.parametrize("kind", BATCH_SYSTEMS)
def test_connect__batch_without_the_package(kind, monkeypatch):
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    with pytest.raises(ClusterError, match=r"dask_jobqueue: pip install 'oectflow\[batch\]'"):
        connect(kind, n_workers=4, cores=4)


@pytest.mark.parametrize("kind", ["slurm", "ssh", "kubernetes"])
def test_connect__without_number_of_workers(kind):
    with pytest.raises(ClusterError, match="say how many workers"):
        connect(kind, cores=4)


@pytest.mark.parametrize(
    ("target", "processes", "most", "workers"),
    [
        (0, 4, 8, 0), (1, 4, 8, 4), (4, 4, 8, 4), (5, 4, 8, 8), (9, 4, 8, 8), (7, 4, 7, 4),
        (1, 48, 10, 48), (5, 1, 8, 5), (5, 4, float("inf"), 8), (-1, 4, 8, 0),
    ],
)  # fmt: skip
def test_workers_come_in_whole_jobs(target, processes, most, workers):
    assert whole(target, processes, most) == workers


LOOK = """
import signal, threading
from oectflow.cluster.batch import import_jobqueue
from oectflow.errors import ClusterError

if {in_thread}:
    def work():
        try:
            import_jobqueue("slurm")
        except ClusterError as error:
            print(error)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
else:
    import_jobqueue("slurm")
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
"""


@needs_jobqueue
@pytest.mark.parametrize("in_thread", [False, True])
def test_connect__leaves_ctrl_c_as_it_is(in_thread):
    code = LOOK.format(in_thread=in_thread)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert ("import dask_jobqueue in the main thread first" in done.stdout) == in_thread
