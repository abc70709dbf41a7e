"""Who does the work: this process, a cluster that runs, or one that is started only if need be."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pyarrow.parquet as pq
import pytest
from distributed import Client, get_task_stream

import oectflow.pipeline.execution.driving.run as run_module
from oectflow.errors import ConfigError, StorageError
from oectflow.extractors.base import BaseExtractor, register
from oectflow.extractors.fingerprint import code_fingerprint, cost_fingerprint
from oectflow.extractors.pinning import class_fingerprint
from oectflow.pipeline.execution.driving.cost_file import load_costs, save_costs
from oectflow.pipeline.execution.driving.overheads import meter_of
from oectflow.pipeline.execution.driving.run import extract, extract_lazily, plan
from oectflow.pipeline.execution.events import Overheads
from oectflow.pipeline.features.feature_list import FeatureList
from oectflow.pipeline.inputs.simulate import simulate_device
from oectflow.pipeline.outputs.results import open_results
from oectflow.pipeline.outputs.sink import read_metadata

PEAK = {"peak": {"extractor": "transient.peak_current", "input": "transient"}}


def run(raw, out, features=PEAK, **options):
    return extract(raw, features, out, progress=False, **options)


def transitions(client):
    """Return how often any task has changed its state, once what is released is forgotten."""

    def count():
        return client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.transition_counter)

    before, now = -1, count()
    while now != before:
        time.sleep(0.3)
        before, now = now, count()
    return now


def sleeper(name: str, seconds: float):
    """Return a feature of somebody else's that takes its time at every step."""

    @register(name)
    class Sleeper(BaseExtractor):
        source = "transient"
        unit = "A"

        def extract_single_step(self, step_data, params):
            time.sleep(seconds)
            return step_data["drain_current"].mean()

    return {"mean": {"extractor": name, "input": "transient"}}


def same_results(left, right):
    one, other = open_results(left).load(), open_results(right).load()
    assert one.equals(other)


def known(folder, features, seconds, length=240):
    """Write what earlier runs have learnt: so many seconds per step of every feature."""
    folder.mkdir(exist_ok=True)
    feature_set = FeatureList.load(features)
    keys = {
        f.name: cost_fingerprint(f.extractor, code_fingerprint(type(f.extractor)))
        for f in feature_set.extracted
    }
    book = load_costs(folder, keys)
    for name in feature_set.features:
        book.learn(name, seconds / length, length)
    codes = (class_fingerprint(type(f.extractor)) for f in feature_set.extracted)
    book.trust(code for code in codes if code)
    save_costs(book, folder)
    return folder


@contextmanager
def told(session_client, seconds):
    """Make a client of which it is known what a task costs: no decision is left to the machine."""
    with Client(session_client.scheduler.address, security=session_client.security) as client:
        meter_of(client).remember(Overheads(seconds, seconds, seconds, 2, 2.0))
        yield client


@pytest.fixture
def slow_client(session_client):
    with told(session_client, 100.0) as client:
        yield client


@pytest.fixture
def quick_client(session_client):
    with told(session_client, 1e-6) as client:
        yield client


def test_auto__little_work_with_known_costs_stays_here(lab, tmp_path, client, slow_client):
    features = sleeper("transient.short_sleep", 0.0)
    out = known(tmp_path / "out", features, 1e-9)
    before = transitions(client)
    assert run(lab, out, features, client=slow_client).plan.ways == ["inline"]
    assert transitions(client) == before
    run(lab, tmp_path / "reference", features, client=client, granularity="step")
    same_results(out, tmp_path / "reference")


def test_auto__what_nobody_has_seen_runs_on_the_cluster_however_little_it_is(
    lab, tmp_path, slow_client
):
    features = sleeper("transient.unseen_sleep", 0.0)
    first = run(lab, tmp_path / "out", features, client=slow_client)
    assert first.plan.ways == ["cluster"]
    run(lab, tmp_path / "reference", features, client=slow_client, granularity="step")
    same_results(tmp_path / "out", tmp_path / "reference")


def test_auto__a_small_experiment_is_one_task_with_the_same_results(lab, tmp_path, mortal_client):
    features = PEAK | {
        "largest": {"extractor": "transfer.absI_max", "input": "transfer"},
        "ratio": {"func": "peak / largest"},
    }
    out = known(tmp_path / "out", features, 1e-2)
    reference = tmp_path / "reference"
    run(lab, reference, features, client=mortal_client, granularity="step")
    with told(mortal_client, 1e-2) as client, get_task_stream(client) as stream:
        report = run(lab, out, features, client=client)
    assert report.plan.ways == ["cluster"]
    assert len({task["key"] for task in stream.data}) == 3
    same_results(out, reference)
    for path in sorted(reference.glob("*.parquet")):
        one, two = (pq.read_table(folder / path.name).to_pandas() for folder in (out, reference))
        assert one[sorted(one)].equals(two[sorted(two)])
        one, two = read_metadata(out / path.name), read_metadata(path)
        same = ("source", "identity", "versions", "n_rows", "warnings")
        assert {key: one[key] for key in same} == {key: two[key] for key in same}


def counting(name, folder, seconds):
    """Return a feature that leaves a file for each call of each step, with its process."""
    folder.mkdir()

    @register(name)
    class Counting(BaseExtractor):
        source = "transient"
        unit = "A"

        def extract_single_step(self, step_data, params):
            first, n = step_data["continuous_time"][0], len(step_data["continuous_time"])
            call = f"{n}-{round(first * 1e3)}-{os.getpid()}-{time.time_ns()}"
            (folder / call).touch()
            time.sleep(seconds)
            return step_data["drain_current"].mean()

    return {"mean": {"extractor": name, "input": "transient"}}


@pytest.mark.parametrize("seconds", [0.02, 0.2])
def test_auto__results_of_timed_steps_are_kept(lab, tmp_path, client, seconds):
    counts = tmp_path / "counts"
    features = counting(f"transient.counting_{round(1e3 * seconds)}", counts, seconds)
    report = run(lab, tmp_path / "out", features, client=client)
    assert report.ok
    assert report.plan.ways == ["cluster"]
    calls = [path.name.split("-") for path in counts.iterdir()]
    assert len(calls) == len({(n, first) for n, first, *_ in calls}) == 15
    # What nobody has seen does not run here.
    assert str(os.getpid()) not in {pid for _, _, pid, _ in calls}
    run(lab, tmp_path / "reference", features, client=client, granularity="experiment")
    same_results(tmp_path / "out", tmp_path / "reference")


@pytest.fixture
def no_client(monkeypatch):
    monkeypatch.setattr(run_module, "_active_client", lambda: None)


@pytest.mark.usefixtures("no_client")
def test_auto__without_a_cluster_the_first_step_runs_in_a_child(lab, tmp_path):
    counts = tmp_path / "counts"
    features = counting("transient.counting_here", counts, 0.0)
    report = extract(lab, features, tmp_path / "out", client=None, progress=False)
    assert report.ok
    pids = [path.name.split("-")[2] for path in counts.iterdir()]
    assert len(pids) == 15
    assert sum(pid != str(os.getpid()) for pid in pids) == 1
    # It has done no harm, and is trusted from now on, with whatever parameters.
    again = extract(lab, features, tmp_path / "out", client=None, progress=False, force=True)
    assert again.ok
    assert len(list(counts.iterdir())) == 30
    assert sum(path.name.split("-")[2] != str(os.getpid()) for path in counts.iterdir()) == 1


def deadly(name, folder):
    """Return a feature that ends its process at the last step of the last device."""

    @register(name)
    class Deadly(BaseExtractor):
        source = "transient"
        unit = "A"

        def extract_single_step(self, step_data, params):
            current = step_data["drain_current"]
            (folder / str(os.getpid())).touch()
            # Steps have 360 samples there.
            if len(current) == 360 and round(step_data["continuous_time"][0] * 1e3) >= 1440:
                os._exit(1)
            return current.mean()

    return {"mean": {"extractor": name, "input": "transient"}}


def test_auto__one_that_ends_its_process_never_runs_here(lab, tmp_path, mortal_client, monkeypatch):
    pids = tmp_path / "pids"
    pids.mkdir()
    features = deadly("transient.deadly", pids)
    for turn in range(2):
        # The second time, its cost is known, and the cluster seems to be far too slow for it.
        options = {"client": mortal_client, "force": True}
        report = run(lab, tmp_path / "out", features, **options)
        (failed,) = report.failed
        assert failed.n_failed == 1
        assert failed.problems[0].error_type == "ProcessDied"
        assert report.plan.ways == ["cluster"]
        assert str(os.getpid()) not in {path.name for path in pids.iterdir()}
        if not turn:
            known(tmp_path / "out", features, 1e-9)
    # Nor without a cluster.
    monkeypatch.setattr(run_module, "_active_client", lambda: None)
    report = extract(lab, features, tmp_path / "out", client=None, progress=False, force=True)
    (failed,) = report.failed
    assert failed.problems[0].error_type == "ProcessDied"
    assert str(os.getpid()) not in {path.name for path in pids.iterdir()}


def test_auto__much_known_work_goes_to_the_cluster(lab, tmp_path, quick_client):
    features = sleeper("transient.told_cost", 0.01)
    out = known(tmp_path / "out", features, 100.0)
    assert run(lab, out, features, client=quick_client).plan.ways == ["cluster"]
    run(lab, tmp_path / "reference", features, client=quick_client, granularity="step")
    same_results(out, tmp_path / "reference")


def test_lazy__a_cluster_is_started_only_for_enough_work(lab, tmp_path, quick_client):
    started = []

    def connect():
        started.append(1)
        return quick_client

    def lazily(out, features, **options):
        return extract_lazily(
            lab, features, out, connect=connect, n_workers=2, progress=False, **options
        )

    assert lazily(tmp_path / "small", PEAK).plan.ways[0] in ("inline", "threads")
    assert started == []
    features = sleeper("transient.lazy_sleep", 0.0)
    out = known(tmp_path / "large", features, 100.0)
    assert lazily(out, features).plan.ways == ["cluster"]
    assert started == [1]
    # Nothing to do, nothing to start; what is asked for is done.
    assert lazily(out, features).plan.ways == []
    assert started == [1]
    assert lazily(out, features, force=True, granularity="step").ok
    assert started == [1, 1]


def test_window__is_filled_again_while_all_in_it_wait_for_a_long_step(
    lab, tmp_path, threads_of_dask
):
    """Four workers: three experiments enter, and each has one long step."""
    begun = tmp_path / "begun"
    begun.mkdir()

    @register("transient.first_is_long")
    class FirstIsLong(BaseExtractor):
        source = "transient"

        def extract_single_step(self, step_data, params):
            if step_data["continuous_time"][0] == 0:
                n_there = len(list(begun.iterdir()))
                (begun / str(n_there)).touch()
                deadline = time.monotonic() + 20
                # The fourth one begins although none of the others has ended.
                while len(list(begun.iterdir())) < 4 and time.monotonic() < deadline:
                    time.sleep(0.01)
                return float(len(list(begun.iterdir())))
            return 0.0

    fourth = simulate_device(3, n_transfer=0, n_transient=5, n_cycles=4, period=0.06)
    fourth.write(lab / "device3.h5")
    features = {"n_begun": {"extractor": "transient.first_is_long", "input": "transient"}}
    with (
        threads_of_dask(1, threads_per_worker=4) as cluster,
        Client(cluster) as client,
    ):
        extract(
            lab, features, tmp_path / "out", client=client, granularity="step",
            progress=False,
        )  # fmt: skip
    found = open_results(tmp_path / "out").load()["n_begun"].to_numpy()
    assert sorted(found[found > 0]) == [4, 4, 4, 4]


def test_plan__says_what_would_be_done_and_does_nothing(lab, tmp_path, client):
    out = tmp_path / "out"
    before = plan(lab, PEAK, out, client=client)
    assert not out.exists()
    assert (before.n_todo, before.n_unchanged, before.unusable) == (3, 0, [])
    assert before.predicted_seconds is None
    assert "way: not decided yet" in before.explain()
    run(lab, out, client=client)
    unchanged = plan(lab, PEAK, out, client=client)
    assert (unchanged.n_todo, unchanged.n_unchanged) == (0, 3)
    again = plan(lab, PEAK, out, client=client, force=True)
    assert again.predicted_seconds > 0
    assert again.actual_seconds is None
    assert [(row.feature, row.n_steps, row.timed) for row in again.features] == [("peak", 15, True)]
    assert plan(lab, PEAK, out, granularity="step", force=True).features[0].n_tasks == 15
    with pytest.raises(ConfigError):
        plan(lab, PEAK, out, granularity="stepp")


def test_plan__has_the_graph_that_a_cluster_would_get(lab, tmp_path, client):
    out = tmp_path / "out"
    before = plan(lab, PEAK, out, client=client, granularity="step")
    graph = before.dask_graph("test_1")
    keys = {(key[0].rpartition("-")[0], *key[1:]) for key in dict(graph.dask)}
    assert keys == {
        *(("peak", "test_1", step, 1) for step in range(5)),
        *((name, "test_1", 0, 0) for name in ("hash", "derive", "write")),
    }
    assert not out.exists()
    out.mkdir()
    assert graph.compute().outcome == "flagged" or (out / "test_1.parquet").exists()
    with pytest.raises(ConfigError, match="did you mean 'test_2'"):
        before.dask_graph("test_22")
    with pytest.raises(ConfigError, match="this run is over"):
        run(lab, out, client=client).plan.dask_graph("test_1")


@pytest.mark.skipif(shutil.which("dot") is None, reason="the program dot draws graphs")
def test_plan__draws_the_graph(lab, tmp_path):
    pytest.importorskip("graphviz")
    picture = tmp_path / "graph.svg"
    plan(lab, PEAK, tmp_path / "out").visualize("test_0", str(picture))
    assert "<svg" in picture.read_text()


def test_plan__what_draws_is_missing_and_named(lab, tmp_path, monkeypatch):
    def missing(*args, **options):
        raise RuntimeError("no drawing engine")

    monkeypatch.setattr("dask.base.visualize", missing)
    with pytest.raises(ConfigError, match="pip install graphviz"):
        plan(lab, PEAK, tmp_path / "out").visualize("test_0", str(tmp_path / "g.svg"))


def test_performance_report__is_written_whole(lab, tmp_path, client):
    target = tmp_path / "report.html"
    run(lab, tmp_path / "out", client=client, performance_report=target, granularity="step")
    assert "<html" in target.read_text().lower()
    assert [path.name for path in tmp_path.glob("*.tmp")] == []
    with pytest.raises(StorageError, match="nowhere"):
        run(
            lab, tmp_path / "out", client=client, performance_report=tmp_path / "nowhere" / "r.html"
        )


def test_performance_report__without_a_cluster_is_refused(lab, tmp_path, monkeypatch):
    monkeypatch.setattr(run_module, "_active_client", lambda: None)
    with pytest.raises(ConfigError, match=r"client=oectflow\.connect"):
        run(lab, tmp_path / "out", performance_report="report.html")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("where", ["here", "cluster"])
def test_interrupted__complete_files_only_and_the_run_goes_on_later(lab, tmp_path, where):
    connect = "of.connect(n_workers=2, dashboard_port=0)" if where == "cluster" else "None"
    code = f"""
import time
from contextlib import nullcontext
from pathlib import Path
import oectflow as of
from oectflow.extractors.base import BaseExtractor, register

@register("transient.slow_until_interrupted")
class Slow(BaseExtractor):
    source = "transient"

    def extract_single_step(self, step_data, params):
        Path({str(tmp_path / "begun")!r}).touch()
        time.sleep(0.4)
        return step_data["drain_current"].mean()

if __name__ == "__main__":
    features = {{"f": {{"extractor": "transient.slow_until_interrupted", "input": "transient"}}}}
    with ({connect} or nullcontext()) as client:
        of.extract({str(lab)!r}, features, {str(tmp_path / "out")!r}, client=client)
"""
    script = tmp_path / "script.py"
    script.write_text(code)
    process = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    # 15 steps of 0.4 s take two workers at least 3 s.
    deadline = time.monotonic() + 60
    while not (tmp_path / "begun").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    shown, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "KeyboardInterrupt" in errors
    assert "stopped by KeyboardInterrupt" in shown
    out = tmp_path / "out"
    assert not list(out.glob(".*.tmp"))
    written = {path.stem for path in out.glob("*.parquet")}
    assert len(written) < 3
    for name in written:
        assert read_metadata(out / f"{name}.parquet") is not None
    # The lock is free, and a run with another feature goes on in the same folder.
    assert run(lab, out).ok
    assert np.isfinite(open_results(out).load()["peak"].values).any()
