"""A real SLURM: what it refuses, jobs that die at once, and jobs that are cancelled in a run."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import numba
import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest

import oectflow as of
from oectflow.cluster.connect import connect
from oectflow.cluster.whole_jobs import WholeJobs
from oectflow.errors import ClusterError
from oectflow.pipeline.inputs.simulate import simulate_device

from . import slurm

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    missing = slurm.missing_programs()
    if missing:
        pytest.skip(
            f"{', '.join(missing)} not installed: apt install slurmctld slurmd slurm-client"
        )
    pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed")
    with slurm.slurm_system(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment


@pytest.fixture
def node(system, tmp_path, monkeypatch):
    """This process as one on a login node; kernels that are compiled are found again."""
    for name, value in system.items():
        monkeypatch.setenv(name, value)
    cache = numba.config.CACHE_DIR or str(Path("~/.cache/oectflow/kernels").expanduser())
    monkeypatch.setenv("NUMBA_CACHE_DIR", cache)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "no_kernels.py").write_text("def warm_up():\n    pass\n")
    monkeypatch.setenv("PYTHONPATH", ":".join([str(tmp_path), *filter(None, sys.path)]))
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def options(**given):
    loopback = next(
        name
        for name, found in psutil.net_if_addrs().items()
        if any(one.address == "127.0.0.1" for one in found)
    )
    return {
        "n_workers": 2, "cores": 1, "memory": "2 GiB", "dashboard_port": 0, "interface": loopback,
        "timeout": 300,
    } | given  # fmt: skip


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (
            {"queue": "nope"},
            "the batch system refuses the job: .*invalid partition specified: nope",
        ),
        (
            {"job_extra_directives": ["--mem=900G"]},
            "the batch system refuses the job: .*Memory specification can not be satisfied",
        ),
        (
            {"python": "/no/such/python"},
            r"(?s)job \d+ ended with status 127 before its workers came; the end of its log .*: No",
        ),
        (
            {"job_script_prologue": ["module load oect"]},
            r"(?s)job \d+ ended .* the end of its log .*module.*not found",
        ),
        (
            {"worker_extra_args": ["--preload", "no_such_module"]},
            r"(?s)job \d+ ended .* the end of its log .*no_such_module",
        ),
    ],
)
@pytest.mark.usefixtures("node")
def test_what_cannot_work_is_said_in_its_own_words(given, why):
    if "job_script_prologue" in given:
        # A shell goes on after a command that fails.
        given["job_script_prologue"].insert(0, "set -e")
    with pytest.raises(ClusterError, match=why):
        connect("slurm", **options(kernels="no_kernels", **given))


def test_jobs_that_are_cancelled_are_replaced(system, node):
    (node / "raw").mkdir()
    for i in range(8):
        simulate_device(i, n_transfer=2, n_transient=6, n_cycles=30, test_id=f"t{i}").write(
            node / "raw" / f"{i}.h5"
        )
    before = slurm.jobs_so_far(system)
    lost = []
    done = threading.Event()

    def cancel():
        """Cancel a job each time that another result is there."""
        for n in (1, 4):
            while len(list((node / "out").glob("*.parquet"))) < n and not done.is_set():
                done.wait(0.05)
            running = slurm.running_jobs(system)
            if running and not done.is_set():
                slurm.cancel(system, running[0])
                lost.append(running[0])

    canceller = threading.Thread(target=cancel)
    with connect("slurm", **options()) as client:
        canceller.start()
        report = of.extract(node / "raw", "transient_tau", node / "out", client=client,
                            progress=False)  # fmt: skip
        done.set()
        canceller.join()
        assert report.ok
        assert lost
        assert slurm.jobs_so_far(system) - before <= 2 + len(lost)
    of.extract(node / "raw", "transient_tau", node / "alone", progress=False)
    for path in (node / "alone").glob("*.parquet"):
        alone, there = (pq.read_table(one) for one in (path, node / "out" / path.name))
        for name in alone.column_names:
            np.testing.assert_array_equal(
                np.array(alone[name].to_pylist()), np.array(there[name].to_pylist()), name
            )


@pytest.mark.usefixtures("node")
def test_no_more_jobs_come_than_are_needed(system, monkeypatch):
    """Three workers at most, where a job has two: one job, kept through pauses."""
    before = slurm.jobs_so_far(system)
    looked = threading.Semaphore(0)
    target = WholeJobs.safe_target

    async def counted(self):
        looked.release()
        return await target(self)

    monkeypatch.setattr(WholeJobs, "safe_target", counted)
    given = options(adapt=(0, 3), cores=2, kernels="no_kernels")
    given.pop("n_workers")
    with connect("slurm", **given) as client:
        for wave in range(3):
            assert client.submit(sum, client.map(pow, range(40), [wave] * 40)).result() > 0
            # With nothing to do, Dask itself ends a worker after three looks.
            for _ in range(5):
                assert looked.acquire(timeout=60)
    assert slurm.jobs_so_far(system) - before <= 2


@pytest.mark.usefixtures("node")
def test_nothing_is_left_when_all_is_done():
    with connect("slurm", **options(kernels="no_kernels")) as client:
        assert client.submit(sum, [1, 2]).result() == 3
    assert list((Path("~/.oectflow").expanduser()).iterdir()) == []
