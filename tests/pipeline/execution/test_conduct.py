"""Who does the work: this process, a cluster that runs, or one that is started only if need be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

import oectflow.pipeline.execution.driving.conduct as conduct_module
import oectflow.pipeline.execution.driving.run as run_module
import oectflow.pipeline.execution.driving.stream as stream_module
from oectflow.errors import ConfigError, StorageError
from oectflow.extractors.base import BaseExtractor, register
from oectflow.pipeline.execution.driving.planner import Planner
from oectflow.pipeline.execution.driving.run import extract, extract_lazily, plan
from oectflow.pipeline.execution.planning.costs import CostBook
from oectflow.pipeline.execution.planning.decide import Overheads
from oectflow.pipeline.features.feature_set import FeatureSet
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


def believe(monkeypatch, seconds: float):
    """Let the cluster cost so much per batch: the decision must not depend on the machine."""
    told = Overheads(seconds, seconds, seconds, 2, 2.0)
    measured = conduct_module.Crew.overheads

    def overheads(crew, work, book):
        return measured(crew, work, book) if crew.client is None else told

    monkeypatch.setattr(conduct_module.Crew, "overheads", overheads)
    monkeypatch.setattr(conduct_module, "cluster_overheads", lambda client, work: told)


def same_results(left, right):
    one, other = open_results(left).load(), open_results(right).load()
    assert one.equals(other)


def test_auto__little_work_with_known_costs_stays_here(lab, tmp_path, client, monkeypatch):
    believe(monkeypatch, 100.0)
    features = sleeper("transient.short_sleep", 0.0)
    first = run(lab, tmp_path / "out", features, client=client)
    # Nobody has seen this extractor before: it must not run in the process of the notebook.
    assert first.plan.ways == ["cluster"]
    before = transitions(client)
    second = run(lab, tmp_path / "out", features, client=client, force=True)
    assert second.plan.ways == ["inline"]
    assert transitions(client) == before
    run(lab, tmp_path / "reference", features, client=client, granularity="step")
    same_results(tmp_path / "out", tmp_path / "reference")


@pytest.mark.parametrize(("seconds", "trusted"), [(0.02, False), (0.2, False), (0.2, True)])
def test_auto__much_work_goes_to_the_cluster_and_results_of_timed_steps_are_kept(
    lab, tmp_path, client, monkeypatch, seconds, trusted
):
    believe(monkeypatch, 1e-6)
    if trusted:
        monkeypatch.setattr(Planner, "_is_safe", lambda planner, name: True)
    counts = tmp_path / "counts"
    counts.mkdir()

    @register("transient.counting")
    class Counting(BaseExtractor):
        source = "transient"
        unit = "A"

        def extract_single_step(self, step_data, params):
            first, n = step_data["continuous_time"][0], len(step_data["continuous_time"])
            # One file for each call of each step.
            call = f"{n}-{round(first * 1e3)}-{time.time_ns()}"
            (counts / call).touch()
            time.sleep(seconds)
            return step_data["drain_current"].mean()

    features = {"mean": {"extractor": "transient.counting", "input": "transient"}}
    report = run(lab, tmp_path / "out", features, client=client)
    assert report.ok
    assert report.plan.ways == ["cluster"]
    calls = [path.name.rsplit("-", 1)[0] for path in counts.iterdir()]
    assert len(calls) == len(set(calls)) == 15
    run(lab, tmp_path / "reference", features, client=client, granularity="experiment")
    same_results(tmp_path / "out", tmp_path / "reference")


@pytest.mark.parametrize("trusted", [True, False])
def test_auto__of_expensive_steps_one_at_most_before_the_workers_have_some(
    lab, tmp_path, client, monkeypatch, trusted
):
    believe(monkeypatch, 1e-6)
    calls = tmp_path / "calls"
    calls.mkdir()

    @register("transient.expensive")
    class Expensive(BaseExtractor):
        source = "transient"
        unit = "A"

        def extract_single_step(self, step_data, params):
            begin = time.time_ns()
            time.sleep(0.2)
            (calls / f"{begin}-{os.getpid()}").touch()
            return step_data["drain_current"].mean()

    if trusted:
        # As what comes with the package, of whose cost nothing is known yet.
        monkeypatch.setattr(Planner, "_is_safe", lambda planner, name: True)
    features = {"mean": {"extractor": "transient.expensive", "input": "transient"}}
    device = simulate_device(1, n_transfer=0, n_transient=10, n_cycles=2, period=0.06)
    report = run(device.write(tmp_path / "one.h5"), tmp_path / "out", features, client=client)
    assert report.ok
    assert report.plan.ways == ["cluster"]
    made = sorted(tuple(map(int, path.name.split("-"))) for path in calls.iterdir())
    assert len(made) == 10
    here = [begin for begin, pid in made if pid == os.getpid()]
    assert len(here) == trusted
    assert all(begin == made[0][0] for begin in here)
    # Both workers have one, or this process and one of them, which share the machine.
    assert made[0][1] != made[1][1]


@pytest.mark.parametrize("seconds", [0.0, 0.05])
def test_auto__one_that_ends_its_process_never_runs_here(
    lab, tmp_path, mortal_client, monkeypatch, seconds
):
    @register("transient.deadly")
    class Deadly(BaseExtractor):
        source = "transient"
        unit = "A"

        def extract_single_step(self, step_data, params):
            current = step_data["drain_current"]
            # The last step of the last device; steps have 360 samples there.
            if len(current) == 360 and round(step_data["continuous_time"][0] * 1e3) >= 1440:
                os._exit(1)
            time.sleep(seconds)
            return current.mean()

    believe(monkeypatch, 100.0)
    features = {"mean": {"extractor": "transient.deadly", "input": "transient"}}
    for _ in range(2):
        # The second time, its cost is known, and the cluster seems to be far too slow for it.
        report = run(lab, tmp_path / "out", features, client=mortal_client, force=True)
        (failed,) = report.failed
        assert failed.n_failed == 1
        assert failed.problems[0].error_type == "ProcessDied"
        assert report.plan.ways == ["cluster"]


@pytest.mark.parametrize(("again", "way"), [(2.0, "cluster"), (None, "inline")])
def test_auto__workers_that_seemed_busy_may_have_been_so_for_a_moment(
    lab, tmp_path, client, monkeypatch, again, way
):
    told = Overheads(1e-6, 1e-6, 1e-6, 2, 1.0)
    better = again and replace(told, effective=again)
    monkeypatch.setattr(conduct_module.Crew, "overheads", lambda crew, work, book: told)
    monkeypatch.setattr(conduct_module, "measured_again", lambda client, work: better)
    monkeypatch.setattr(Planner, "_is_safe", lambda planner, name: True)
    features = sleeper("transient.told_cost_too", 0.02)
    out = tmp_path / "out"
    out.mkdir()
    book = CostBook(out, FeatureSet.load(features).fingerprints())
    book.learn("mean", 0.02 / 240, 240)
    book.save()
    report = run(lab, out, features, client=client)
    assert report.ok
    assert report.plan.ways == [way]


def test_auto__the_rest_is_done_here_if_the_cluster_is_slower(lab, tmp_path, client, monkeypatch):
    believe(monkeypatch, 1e-6)
    for i in range(3, 8):
        simulate_device(
            i,
            n_transfer=1,
            n_transient=5,
            n_points=41,
            n_cycles=4,
            period=0.06,
            test_id=f"test_{i}",
        ).write(lab / f"device{i}.h5")
    features = sleeper("transient.told_cost", 0.02)
    out = tmp_path / "out"
    out.mkdir()
    book = CostBook(out, FeatureSet.load(features).fingerprints())
    # It sleeps for 20 ms, and the book says that this process would have needed 1 ms.
    book.learn("mean", 1e-3 / 240, 240)
    book.save()
    report = run(lab, out, features, client=client)
    assert report.ok
    assert report.plan.ways == ["cluster", "inline"]
    run(lab, tmp_path / "reference", features, client=client, granularity="step")
    same_results(out, tmp_path / "reference")


def test_auto__the_rest_that_is_done_here_keeps_what_the_cluster_has_begun(
    lab, tmp_path, client, monkeypatch
):
    believe(monkeypatch, 1e-6)
    # Whatever the workers do, they are too slow.
    monkeypatch.setattr(stream_module, "LEAST_MARGIN", -1.0)
    monkeypatch.setattr(Planner, "_is_safe", lambda planner, name: True)
    for i in range(3, 8):
        device = simulate_device(i, n_transfer=0, n_transient=5, n_cycles=4, period=0.06)
        device.write(lab / f"device{i}.h5")
    here = os.getpid()

    @register("transient.slower_here")
    class SlowerHere(BaseExtractor):
        source = "transient"
        unit = "A"

        def extract_single_step(self, step_data, params):
            # So the first experiment is still being timed when the others enter, and comes last.
            time.sleep(
                2.0 if os.getpid() == here and step_data["continuous_time"][0] == 0 else 0.05
            )
            return step_data["drain_current"].mean()

    features = {"mean": {"extractor": "transient.slower_here", "input": "transient"}}
    report = run(lab, tmp_path / "out", features, client=client)
    assert report.ok
    assert report.plan.ways == ["cluster", "inline"]
    run(lab, tmp_path / "reference", features, client=client, granularity="experiment")
    same_results(tmp_path / "out", tmp_path / "reference")


def test_lazy__a_cluster_is_started_only_for_enough_work(lab, tmp_path, client, monkeypatch):
    believe(monkeypatch, 1e-6)
    started = []

    def connect():
        started.append(1)
        return client

    def lazily(out, features, **options):
        return extract_lazily(
            lab, features, out, connect=connect, n_workers=2, progress=False, **options
        )

    assert lazily(tmp_path / "small", PEAK).plan.ways[0] in ("inline", "threads")
    assert started == []
    # 20 ms × 15 steps; a start that is known to take a millisecond is soon earned.
    features = sleeper("transient.lazy_sleep", 0.02)
    (tmp_path / "large").mkdir()
    book = CostBook(tmp_path / "large", {})
    book.learn("start", 1e-3)
    book.save()
    assert lazily(tmp_path / "large", features).plan.ways == ["cluster"]
    assert started == [1]
    # Nothing to do, nothing to start; what is asked for is done.
    assert lazily(tmp_path / "large", features).plan.ways == []
    assert started == [1]
    assert lazily(tmp_path / "large", features, force=True, granularity="step").ok
    assert started == [1, 1]


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
    written = {path.stem for path in out.glob("[!.]*")}
    assert len(written) < 3
    for name in written:
        assert read_metadata(out / f"{name}.parquet") is not None
    # The lock is free, and a run with another feature goes on in the same folder.
    assert run(lab, out).ok
    assert np.isfinite(open_results(out).load()["peak"].values).any()
