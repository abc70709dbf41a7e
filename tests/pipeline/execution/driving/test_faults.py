"""Processes that die, disks that fill, folders that vanish: nothing written is lost or partial."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
from distributed import Client, Future, get_task_stream
from distributed.client import FutureCancelledError
from distributed.comm import CommClosedError

from oectflow.errors import ClusterError, OutputError, StorageError
from oectflow.extractors.base import BaseExtractor, register
from oectflow.extractors.fingerprint import code_fingerprint, cost_fingerprint
from oectflow.pipeline.execution.driving import scheduler as scheduler_module
from oectflow.pipeline.execution.driving.cost_file import load_costs, save_costs
from oectflow.pipeline.execution.driving.find_work import find_work
from oectflow.pipeline.execution.driving.lock import only_run_in
from oectflow.pipeline.execution.driving.overheads import ClusterMeter, meter_of
from oectflow.pipeline.execution.driving.probe import ClusterProbe
from oectflow.pipeline.execution.driving.run import extract, plan
from oectflow.pipeline.execution.events import Overheads
from oectflow.pipeline.execution.worker.children import worker_memory
from oectflow.pipeline.execution.worker.isolate import extract_isolated
from oectflow.pipeline.execution.worker.tasks import named_extractors
from oectflow.pipeline.features.feature_list import FeatureList
from oectflow.pipeline.inputs.simulate import simulate_device
from oectflow.pipeline.outputs.results import open_results, problems_frame
from oectflow.pipeline.outputs.sink import read_metadata

PEAK = {"peak": {"extractor": "transient.peak_current", "input": "transient"}}


def run(raw, out, features=PEAK, **options):
    return extract(raw, features, out, progress=False, **options)


def poisonous(name: str) -> dict[str, dict[str, str]]:
    """Return a feature that ends the process at the third step of the first device."""

    @register(name)
    class Poison(BaseExtractor):
        source = "transient"
        unit = "A"

        def extract_single_step(self, step_data, params):
            first, current = step_data["continuous_time"][0], step_data["drain_current"]
            # Steps have 240 samples in this device, 300 and 360 in the others.
            if len(current) == 240 and round(first * 1e3) == 480:
                os._exit(1)
            return current.mean()

    return {"mean": {"extractor": name, "input": "transient"}}


def task_of(path, out):
    """Return the description of an experiment that its tasks get."""
    feature_set = FeatureList.load(PEAK)
    options = {"force": False, "expand_multidim": False, "topic": "t"}
    (job,) = find_work([path], feature_set, out, **options)
    return job.task


def test_poison__the_one_logical_task_is_found_and_given_up(lab, tmp_path, mortal_client):
    features = PEAK | poisonous("transient.poison")
    report = run(lab, tmp_path / "out", features, client=mortal_client, granularity="experiment")
    (failed,) = report.failed
    assert failed.experiment_id == "test_0"
    assert failed.n_failed == 1
    problems = problems_frame(tmp_path / "out")
    assert problems[["experiment_id", "step", "feature", "error_type"]].values.tolist() == [
        ["test_0", 2, "mean", "ProcessDied"]
    ]
    assert "ended with exit status 1" in problems["message"].iloc[0]
    results = open_results(tmp_path / "out").load()
    mean = results["mean"].sel(experiment="test_0")
    assert np.isnan(mean).values.tolist()[:5] == [False, False, True, False, False]
    assert np.isfinite(results["peak"].sel(experiment="test_0")[:5]).all()


def test_poison__in_an_experiment_that_is_one_task(lab, tmp_path, mortal_client):
    features = PEAK | poisonous("transient.poison_in_one")
    codes = {f.name: f.extractor for f in FeatureList.load(features).extracted}
    keys = {name: cost_fingerprint(x, code_fingerprint(type(x))) for name, x in codes.items()}
    out = tmp_path / "out"
    out.mkdir()
    book = load_costs(out, keys)
    for name in features:
        book.learn(name, 0.1 / 240, 240)
    save_costs(book, out)
    meter_of(mortal_client).remember(Overheads(1e-2, 1e-2, 1e-2, 2, 2.0))
    with get_task_stream(mortal_client) as stream:
        report = run(lab, out, features, client=mortal_client)
    assert any(task["key"][0].startswith("peak+mean-") for task in stream.data)
    assert [(one.experiment_id, one.n_failed) for one in report.failed] == [("test_0", 1)]
    problems = problems_frame(out)
    assert problems[["experiment_id", "step", "feature", "error_type"]].values.tolist() == [
        ["test_0", 2, "mean", "ProcessDied"]
    ]
    assert np.isfinite(open_results(out).load()["peak"].sel(experiment="test_0")[:5]).all()


def test_greedy__a_step_that_allocates_without_end_is_recorded(lab, tmp_path):
    @register("transient.greedy")
    class Greedy(BaseExtractor):
        source = "transient"

        def extract_single_step(self, step_data, params):
            print("whatever an extractor prints must not disturb the results")
            if round(step_data["continuous_time"][0] * 1e3) == 480:
                hoard = []
                while True:
                    hoard.append(np.empty(2**27))
            return step_data["drain_current"].mean()

    task = task_of(lab / "device0.h5", tmp_path)
    (spec,) = named_extractors({"mean": Greedy()}).values()
    results = extract_isolated(task, [spec], "transient", 0, 5)
    assert [len(result.problems) for result in results] == [0, 0, 1, 0, 0]
    assert results[2].problems[0].error_type in ("MemoryError", "_ArrayMemoryError")
    assert np.isfinite(np.concatenate([r.columns["mean"] for r in results])).tolist() == [
        True, True, False, True, True,
    ]  # fmt: skip


def test_isolated__bounded_by_the_memory_limit_of_the_worker(lab, tmp_path, client):
    @register("transient.left_of_the_limit")
    class Left(BaseExtractor):
        source = "transient"

        def extract_single_step(self, step_data, params):
            import resource

            import psutil

            limit, _ = resource.getrlimit(resource.RLIMIT_AS)
            return limit - psutil.Process().memory_info().vms

    task = task_of(lab / "device0.h5", tmp_path)
    arguments = (task, [*named_extractors({"left": Left()}).values()], "transient", 0, 1)
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    (of_a_worker,) = {worker["memory_limit"] for worker in workers}
    (there,) = client.submit(extract_isolated, *arguments).result()
    # What was free of the limit has become less by what was allocated since it was set.
    assert 0 < there.columns["left"][0] <= of_a_worker
    # A test on a machine with less could not tell it from the rule for where there is no worker.
    assert psutil.virtual_memory().available > 2 * of_a_worker
    # Where there is none, test_greedy shows that there is a bound nevertheless.
    assert worker_memory() is None


def test_lock__a_second_run_in_the_folder_is_refused(lab, tmp_path):
    (tmp_path / "out").mkdir()
    with (
        only_run_in(tmp_path / "out"),
        pytest.raises(OutputError, match="another run is writing here"),
    ):
        run(lab, tmp_path / "out")
    assert run(lab, tmp_path / "out").ok


def test_lock__a_killed_run_does_not_leave_it_behind(lab, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    code = f"""
import time
from pathlib import Path
from oectflow.pipeline.execution.driving.lock import only_run_in

with only_run_in(Path({str(out)!r})):
    print("locked", flush=True)
    time.sleep(600)
"""
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "locked\n"
    with pytest.raises(OutputError, match="another run"):
        run(lab, out)
    holder.kill()
    holder.wait()
    holder.stdout.close()
    assert run(lab, out).ok


@pytest.fixture
def full_disk(tmp_path):
    """A file system of 256 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    # Lazily: a worker may still be about to find out.
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("where", ["threads", "cluster"])
def test_full_disk__stops_with_what_was_written_intact(lab, full_disk, tmp_path, request, where):
    client = request.getfixturevalue("client") if where == "cluster" else None
    # Each result takes some 60 KiB: a few fit, not all.
    for i in range(3, 12):
        simulate_device(i, n_points=41, n_cycles=6, period=0.06, test_id=f"test_{i}").write(
            lab / f"device{i}.h5"
        )
    with pytest.raises(StorageError, match=r"No space left.*make room") as caught:
        run(lab, full_disk, "all", client=client)
    assert str(full_disk) in str(caught.value)
    written = list(full_disk.glob("*.parquet"))
    assert 0 < len(written) < 12
    assert all(read_metadata(path) is not None for path in written)
    # What was being written at that moment removes its own.
    deadline = time.monotonic() + 10
    while list(full_disk.glob(".*.parquet.*.tmp")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not list(full_disk.glob(".*.tmp"))


def test_folder_removed__stops_with_a_clear_error(lab, tmp_path, client):
    out = tmp_path / "out"

    @register("transient.removes_the_folder")
    class Remover(BaseExtractor):
        source = "transient"

        def extract_single_step(self, step_data, params):
            shutil.rmtree(out, ignore_errors=True)
            return 0.0

    features = {"f": {"extractor": "transient.removes_the_folder", "input": "transient"}}
    with pytest.raises(StorageError, match="No such file or directory"):
        run(lab, out, features, client=client)


def test_scheduler_gone__a_clear_error_and_the_run_goes_on_later(lab, tmp_path):
    code = "from distributed.cli.dask_scheduler import main; main()"
    address_file = tmp_path / "scheduler.json"
    scheduler = subprocess.Popen(
        [sys.executable, "-c", code, "--scheduler-file", str(address_file), "--port", "0",
         "--no-dashboard", "--host", "127.0.0.1"],
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    worker = subprocess.Popen(
        [sys.executable, "-m", "dask", "worker", "--scheduler-file", str(address_file),
         "--no-dashboard", "--nthreads", "1"],
        stderr=subprocess.DEVNULL,
    )  # fmt: skip

    @register("transient.slow_mean")
    class Slow(BaseExtractor):
        source = "transient"

        def extract_single_step(self, step_data, params):
            time.sleep(0.1)
            return step_data["drain_current"].mean()

    features = {"f": {"extractor": "transient.slow_mean", "input": "transient"}}
    try:
        deadline = time.monotonic() + 30
        while not address_file.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        with Client(scheduler_file=str(address_file), timeout=3) as client:
            client.wait_for_workers(1, timeout=60)

            def kill():
                # With two of three experiments left.
                out = tmp_path / "out"
                while not list(out.glob("*.parquet")) and time.monotonic() < deadline:
                    time.sleep(0.02)
                scheduler.send_signal(signal.SIGKILL)

            deadline = time.monotonic() + 60
            killer = threading.Thread(target=kill)
            killer.start()
            with pytest.raises(ClusterError, match="scheduler is gone"):
                run(lab, tmp_path / "out", features, client=client, granularity="step")
            killer.join()
    finally:
        for process in (scheduler, worker):
            process.kill()
            process.wait()
    written = {path.stem for path in (tmp_path / "out").glob("*.parquet")}
    assert 0 < len(written) < 3
    report = run(lab, tmp_path / "out", features, client=None)
    assert report.ok
    assert {r.experiment_id for r in report.experiments if r.outcome == "unchanged"} == written


def test_scheduler_gone__between_the_end_of_an_experiment_and_its_record(
    lab, tmp_path, client, monkeypatch
):
    def connection_lost(self, timeout=None):
        raise CommClosedError("in <TCP (closed)>: Stream is closed")

    monkeypatch.setattr(Future, "result", connection_lost)
    with pytest.raises(ClusterError, match="scheduler is gone"):
        run(lab, tmp_path / "out", client=client, granularity=2)


def connection_lost():
    return CommClosedError("in <TCP (closed)>: Stream is closed")


def cancelled():
    return FutureCancelledError("key", "scheduler-connection-lost")


def cannot_connect():
    return OSError("Timed out trying to connect to tcp://127.0.0.1:8786 after 30 s")


@pytest.mark.parametrize(
    ("place", "name", "error"),
    [
        # To count the workers, before anything else.
        (Client, "nthreads", connection_lost),
        (Client, "nthreads", cannot_connect),
        # An empty task, whose round trip is timed, and the first steps.
        (Future, "result", connection_lost),
        (Future, "result", cancelled),
    ],
)
def test_scheduler_gone__before_the_first_experiment(
    lab, tmp_path, client, monkeypatch, place, name, error
):
    def fails(*args, **options):
        raise error()

    @register("transient.unknown_cost")
    class Unknown(BaseExtractor):
        source = "transient"

        def extract_single_step(self, step_data, params):
            return step_data["drain_current"].mean()

    features = {"f": {"extractor": "transient.unknown_cost", "input": "transient"}}
    # Of a new client, nothing is known that was measured before.
    with (
        Client(client.scheduler.address, security=client.security) as fresh,
        monkeypatch.context() as patched,
    ):
        patched.setattr(place, name, fails)
        with pytest.raises(ClusterError, match="scheduler is gone"):
            run(lab, tmp_path / "out", features, client=fresh)


def test_scheduler_gone__in_the_measurement_of_much_work(client, monkeypatch):
    def fails(*args, **options):
        raise cancelled()

    monkeypatch.setattr(Client, "gather", fails)
    with pytest.raises(ClusterError, match="scheduler is gone"):
        ClusterMeter(ClusterProbe(client)).overheads(1e9)


def test_no_workers__is_said_and_the_run_goes_on_with_the_first(
    lab, tmp_path, monkeypatch, caplog, threads_of_dask
):
    monkeypatch.setattr(scheduler_module, "_INTERVAL", 0.1)

    def said():
        return [one.getMessage() for one in caplog.records if one.name.startswith("oectflow")]

    with (
        threads_of_dask(0) as cluster,
        Client(cluster) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        running = pool.submit(
            extract, lab, PEAK, tmp_path / "out", client=client, granularity=1, progress=False
        )
        deadline = time.monotonic() + 60
        while not said() and time.monotonic() < deadline:
            time.sleep(0.05)
        cluster.scale(1)
        assert running.result(60).ok
    assert said()[0].startswith("no worker is connected to the scheduler at inproc://")


def test_client_closed__is_told_before_the_run(lab, tmp_path, session_client):
    with Client(session_client.scheduler.address, security=session_client.security) as closed:
        pass
    with pytest.raises(ClusterError, match="connect again"):
        run(lab, tmp_path / "out", client=closed)
    with pytest.raises(ClusterError, match="connect again"):
        plan(lab, PEAK, tmp_path / "out", client=closed)


def test_leftovers__of_a_killed_run_are_removed(lab, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    leftover = out / ".test_0.parquet.0123456789abcdef.tmp"
    leftover.write_bytes(b"half a file")
    assert run(lab, out).ok
    assert not leftover.exists()
    assert {path.name for path in out.glob("*.parquet")} == {f"test_{i}.parquet" for i in range(3)}
