"""The window is bounded by memory; a batch that may have been too large is divided first."""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future as LocalFuture
from dataclasses import replace
from types import SimpleNamespace
from weakref import WeakKeyDictionary

import numpy as np
import pytest
from distributed import Client, KilledWorker, LocalCluster
from distributed.scheduler import WorkerState

from oectflow.extractors.base import BaseExtractor, register
from oectflow.pipeline.execution.driving import overheads
from oectflow.pipeline.execution.driving.find_work import Job
from oectflow.pipeline.execution.driving.graph import delayed_experiment, experiment_graph
from oectflow.pipeline.execution.driving.overheads import (
    cluster_overheads,
    correct_effective,
    measured_again,
    overheads_if_worth_it,
)
from oectflow.pipeline.execution.driving.planner import Planner
from oectflow.pipeline.execution.driving.run import extract
from oectflow.pipeline.execution.driving.stream import (
    ATTEMPTS,
    WindowMemory,
    run_on_cluster,
    try_again,
)
from oectflow.pipeline.execution.planning.batches import StepBatch
from oectflow.pipeline.execution.planning.costs import CostBook
from oectflow.pipeline.execution.planning.decide import Decision, Overheads
from oectflow.pipeline.execution.report import ExperimentRecord
from oectflow.pipeline.execution.worker.pickled_once import PickledOnce
from oectflow.pipeline.execution.worker.tasks import feature_specs
from oectflow.pipeline.features.feature_set import FeatureSet
from oectflow.pipeline.inputs.simulate import simulate_device
from oectflow.pipeline.inputs.step_layout import Layout
from oectflow.pipeline.outputs.results import open_results

GIB = 2**30


class Transient(BaseExtractor):
    name = "transient.anything"
    source = "transient"


def job(index=0, n_steps=100, samples=100_000) -> Job:
    layout = Layout(n_steps, np.full(n_steps, samples), np.arange(n_steps + 1), 24)
    task = SimpleNamespace(
        n_steps={"transient": n_steps}, reused=(), experiment_id=f"test_{index}", topic="topic"
    )
    return Job(index, task, {"transient": layout}, ("peak",))


def planner(jobs, folder) -> Planner:
    return Planner(jobs, {"peak": Transient()}, CostBook(folder, {"peak": "abc"}), "auto")


class Cluster:
    """Stands for a client; tells what is asked of it about its workers."""

    def __init__(self, memory=0.2 * GIB, limit=2 * GIB, status="running"):
        self.worker = {
            "memory_limit": limit, "nthreads": 1, "status": status, "metrics": {"memory": memory},
        }  # fmt: skip

    def scheduler_info(self, n_workers):
        return {"workers": {"a": self.worker, "b": self.worker}}


def test_window__is_as_wide_as_memory_allows(tmp_path):
    jobs = [job(i) for i in range(10)]
    plan = planner(jobs, tmp_path)
    # A quarter of 4 GiB may wait to be written.  Before anything is known, results count as much
    # as samples: 0.24 GB each, so four experiments fit.
    memory = WindowMemory(Cluster(), plan)
    assert memory.has_room_for(jobs[3], jobs[:3])
    assert not memory.has_room_for(jobs[4], jobs[:4])
    # Then it is seen that the results of one are 0.05 GB, twice of which is held.
    plan.plan(jobs[0], 1.0)
    plan.learn(
        jobs[0], ExperimentRecord("a", "a", "done", n_steps=100, n_bytes_in_memory=50_000_000)
    )
    assert memory.has_room_for(jobs[9], jobs[:9])
    assert not memory.has_room_for(jobs[9], [*jobs, jobs[0]])


def test_window__workers_without_a_limit(tmp_path):
    jobs = [job(i) for i in range(100)]
    assert WindowMemory(Cluster(limit=0), planner(jobs, tmp_path)).has_room_for(jobs[99], jobs[:99])


def test_window__waits_and_shrinks_batches_when_a_worker_is_short_of_memory(tmp_path):
    jobs = [job(0), job(1)]
    for cluster in (Cluster(memory=1.7 * GIB), Cluster(status="paused")):
        plan = planner(jobs, tmp_path)
        plan.plan(jobs[0], 100.0)
        before = jobs[0].batches[0]
        assert not WindowMemory(cluster, plan).has_room_for(jobs[1], [jobs[0]])
        plan.plan(jobs[0], 100.0)
        after = jobs[0].batches[0]
        assert after.stop - after.start <= (before.stop - before.start + 1) // 2


PEAK = feature_specs({"peak": Transient()})


def killed(job, batch):
    graph, _ = experiment_graph(job, PEAK, PickledOnce(FeatureSet("none")))
    (key,) = (k for k in graph if k[2] == batch.start and k[3] == batch.n_logical)
    return killed_at(key)


def killed_at(key):
    state = WorkerState(
        address="tcp://127.0.0.1:1", status="closed", pid=1, name="a", memory_limit=0,
        local_directory="", server_id="a", nanny="", scheduler=None,
    )  # fmt: skip
    return KilledWorker(key, state, 0)


def test_killed__a_large_batch_is_divided_and_then_isolated(tmp_path):
    one = job(n_steps=20)
    plan = planner([one], tmp_path)
    plan.plan(one, 100.0)
    (first,) = {batch for batch in one.batches if batch.start == 0}
    n = len(one.batches)
    assert try_again(one, killed(one, first), plan)
    assert one.isolated == set()
    assert len(one.batches) == n + 3
    steps = [step for batch in one.batches for step in range(batch.start, batch.stop)]
    assert steps == list(range(20))
    piece = one.batches[1]
    assert piece in one.divided
    assert try_again(one, killed(one, piece), plan)
    assert one.isolated == {piece}


def test_killed__a_small_batch_is_isolated_at_once(tmp_path):
    one = job(n_steps=20, samples=100)
    plan = planner([one], tmp_path)
    plan.plan(one, 100.0)
    assert try_again(one, killed(one, one.batches[0]), plan)
    assert one.isolated == {one.batches[0]}
    # With nothing left to isolate, it is given up in the end.
    results = [try_again(one, killed(one, one.batches[0]), plan) for _ in range(ATTEMPTS)]
    assert results == [True, True, False]


def test_killed__what_was_begun_before_is_part_of_the_next_attempt(tmp_path):
    one = job(n_steps=20, samples=100)
    plan = planner([one], tmp_path)
    guilty = StepBatch("transient", 0, 1, ("peak",))
    one.batches = [guilty]
    error = killed(one, guilty)
    plan.begun(one, guilty, LocalFuture())
    plan.plan(one, 100.0)
    assert guilty not in one.batches
    assert try_again(one, error, plan)
    assert one.isolated == {guilty}
    assert one.pending == []
    steps = [step for batch in one.batches for step in range(batch.start, batch.stop)]
    assert sorted(steps) == list(range(20))


def test_killed__the_hash_is_not_blamed_twice(tmp_path):
    one = job(n_steps=20)
    plan = planner([one], tmp_path)
    plan.plan(one, 100.0)

    def needs_of_hash():
        graph, _ = experiment_graph(one, PEAK, PickledOnce(FeatureSet("none")))
        (key,) = (key for key in graph if key[0].startswith("hash-"))
        return {name.rpartition("-")[0] for name, *_ in graph[key].dependencies}, key

    needs, key = needs_of_hash()
    assert needs == set()
    assert try_again(one, killed_at(key), plan)
    assert one.isolated == set()
    assert needs_of_hash()[0] == {"derive"}


def test_graph__long_tasks_go_first_and_read_for_themselves(tmp_path):
    one = job(3, n_steps=2)
    one.batches = [
        StepBatch("transient", step, step + 1, features, urgency)
        for step in range(2)
        for features, urgency in ((("peak",), 0), (("on",), 0), (("tau",), 2))
    ]
    extracted = feature_specs(dict.fromkeys(("peak", "on", "tau"), Transient()))
    features = FeatureSet.load({"peak": {"extractor": "transient.peak_current"}})
    layers = delayed_experiment(one, extracted, PickledOnce(features)).dask.layers.values()
    priority = {
        (key[0].rpartition("-")[0], key[2]): layer.annotations["priority"]
        for layer in layers
        for key in layer
    }
    reads = {key[2] for layer in layers for key in layer if key[0].startswith("read-")}
    assert reads == {0, 1}
    of_short = {
        priority[name, step] for name in ("peak", "on", "read-transient") for step in (0, 1)
    }
    of_long = {priority["tau", step] for step in (0, 1)}
    of_end = {priority["derive", 0], priority["write", 0]}
    assert max(of_short) < 0 < min(of_long) < min(of_end)
    dependencies = {
        key[0].rpartition("-")[0]: {one[0].rpartition("-")[0] for one in node.dependencies}
        for layer in layers
        for key, node in layer.items()
    }
    assert dependencies["tau"] == set()
    assert dependencies["peak"] == {"read-transient"}


def test_window__is_filled_again_while_all_in_it_wait_for_a_long_step(lab, tmp_path):
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
        LocalCluster(
            n_workers=1, threads_per_worker=4, processes=False, dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster) as client,
    ):
        extract(
            lab, features, tmp_path / "out", client=client, granularity="step",
            progress=False,
        )  # fmt: skip
    found = open_results(tmp_path / "out").load()["n_begun"].to_numpy()
    assert sorted(found[found > 0]) == [4, 4, 4, 4]


def test_overheads__are_measured_once_and_in_steps(client, monkeypatch):
    monkeypatch.setattr(overheads, "_VALID_SECONDS", 1e9)
    # What runs of other tests have shown of this cluster is of no use here.
    for name in ("_measured", "_taken", "_bounds", "_seen"):
        monkeypatch.setattr(overheads, name, {})

    def submitted():
        # Results that are released are forgotten a moment later.
        time.sleep(0.2)
        return client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.transition_counter)

    bounds = cluster_overheads(client, 0.0)
    assert bounds.round_trip == bounds.per_batch == bounds.per_worker > 0
    assert (bounds.n_workers, bounds.effective) == (2, 2.0)
    before = submitted()
    assert cluster_overheads(client, bounds.round_trip) == bounds
    assert submitted() == before
    measured = cluster_overheads(client, 1e6)
    assert submitted() > before
    assert measured.per_batch > 0
    assert measured.per_worker > 0
    # Two processes get at most two cores, and clocks that are read one after the other agree to
    # better than 1 %.
    assert 1 <= measured.effective <= 2.02
    before = submitted()
    assert cluster_overheads(client, 1e6) == measured
    assert submitted() == before
    # For little work, the workers are not asked for again.
    with monkeypatch.context() as patched:
        patched.delattr(Client, "nthreads")
        assert overheads_if_worth_it(client, measured.round_trip) is None
        assert overheads_if_worth_it(client, 1.01 * measured.round_trip) == measured
    # One batch shows nothing; a hundred that took as long as one process would have, much.
    alone = 1e3
    decision = Decision(True, 1, alone, alone / measured.effective, alone)
    correct_effective(client, decision, alone)
    assert cluster_overheads(client, 1e6) == measured
    correct_effective(client, replace(decision, n_batches=100), alone)
    corrected = cluster_overheads(client, 1e6)
    assert corrected.effective == pytest.approx((measured.effective + 1) / 2, rel=1e-9)
    assert corrected.spread >= measured.spread


class Quiet:
    """Stands for a client whose two workers are idle."""

    id = "quiet"
    cluster = None
    status = "running"

    def nthreads(self):
        return {"a": 1, "b": 1}

    def processing(self):
        return {"a": (), "b": ()}


def test_overheads__what_a_run_has_shown_is_kept_for_as_long_as_a_measurement(monkeypatch):
    measured = Overheads(1e-3, 1e-4, 1e-4, 2, 2.0)
    seen = []

    def measure(*args):
        seen.append(now)
        return measured

    for name in ("_measured", "_bounds", "_taken", "_seen"):
        monkeypatch.setattr(overheads, name, {})
    monkeypatch.setattr(overheads, "_measure", measure)
    monkeypatch.setattr(overheads, "_round_trip", lambda client: 1e-3)
    monkeypatch.setattr(overheads, "_clock", lambda: now)
    client = Quiet()
    decision = Decision(True, 100, 1e3, 500.0, 1e3)
    now = 299.0
    assert cluster_overheads(client, 1e6).effective == 2.0
    correct_effective(client, decision, 1e3)
    corrected = cluster_overheads(client, 1e6).effective
    assert corrected == pytest.approx(1.5, rel=0.01)
    # A border between two five minutes means nothing.
    now = 301.0
    assert cluster_overheads(client, 1e6).effective == corrected
    now = 598.0
    assert cluster_overheads(client, 1e6).effective == corrected
    # Nor does a run that takes longer than five minutes lose what it has shown.
    now = 1000.0
    correct_effective(client, decision, 1e3)
    assert cluster_overheads(client, 1e6).effective < corrected
    assert seen == [299.0]
    now = 1301.0
    assert cluster_overheads(client, 1e6).effective == 2.0
    assert seen == [299.0, 1301.0]


class Immediate(Quiet):
    """Stands for a client whose workers have done every batch before ``compute`` returns."""

    scheduler = None

    def __init__(self):
        self.n_computed = 0
        self.futures = []

    def scheduler_info(self, n_workers):
        return {"workers": {}}

    def subscribe_topic(self, topic, heard):
        self.heard = heard

    def unsubscribe_topic(self, topic):
        pass

    def log_event(self, topic, event):
        pass

    def cancel(self, futures):
        pass

    def compute(self, delayed):
        index = self.n_computed
        self.n_computed += 1
        keys = [key for layer in delayed.dask.layers.values() for key in layer]
        for label, _, _, n_logical in keys:
            if label.rpartition("-")[0] == "peak":
                event = {
                    "kind": "batch", "experiment_id": f"test_{index}", "source": "transient",
                    "features": ("peak",), "n_steps": n_logical, "seconds": 1.0,
                }  # fmt: skip
                self.heard((0.0, event))
        future = DoneLater()
        self.futures.append(future)
        return future


class DoneLater:
    def add_done_callback(self, callback):
        self.done = lambda: callback(self)

    def cancelled(self):
        return False

    def exception(self):
        return None

    def result(self):
        return ExperimentRecord("a", "a", "done", n_steps=20)

    def release(self):
        pass


def test_run_on_cluster__batches_that_are_done_at_once_are_not_waited_for(tmp_path):
    """As many experiments enter as leave two tasks for each worker, whenever events come."""
    jobs = [job(i, n_steps=20) for i in range(12)]
    plan = planner(jobs, tmp_path)
    plan.granularity = 5
    client = Immediate()
    entered = []

    def listener(event):
        # Four batches each; in the end, each is only to be written, which is one task.
        entered.append((event["experiment_id"], client.n_computed))
        if len(entered) == 4 * 5:
            for future in client.futures:
                future.done()

    run = run_on_cluster(deque(jobs), PickledOnce(FeatureSet("none")), plan, listener, client, 1.0)
    next(run)
    # Five running ones leave four tasks, two for each worker, when the first of them is over.
    assert client.n_computed >= 5
    assert [name for name, _ in entered[:20]] == [f"test_{i}" for i in range(5) for _ in range(4)]
    run.close()


@pytest.mark.parametrize(
    ("effective", "seconds_ago", "work", "n_measured"),
    [
        (1.0, 1e3, 1e6, 1),
        # They do what they can; it was only just now; there is too little to gain.
        (2.0, 1e3, 1e6, 0),
        (1.0, 0.0, 1e6, 0),
        (1.0, 1e3, 1e-3, 0),
    ],
)
def test_overheads__workers_that_seemed_busy_are_looked_at_again(
    client, monkeypatch, effective, seconds_ago, work, n_measured
):
    monkeypatch.setattr(overheads, "_VALID_SECONDS", 1e9)
    poor = Overheads(5e-3, 1e-3, 1e-3, 2, effective)
    better = replace(poor, effective=1.9)
    seen = []

    def measure(*args):
        seen.append(args)
        return better

    identity = overheads._identity(client, 2)
    monkeypatch.setattr(overheads, "_measure", measure)
    monkeypatch.setattr(overheads, "_bounds", {})
    monkeypatch.setattr(overheads, "_measured", {identity: poor})
    monkeypatch.setattr(overheads, "_taken", {identity: (time.perf_counter() - seconds_ago, 0.05)})
    monkeypatch.setattr(overheads, "_last", WeakKeyDictionary({client: (poor, 0.0)}))
    assert measured_again(client, work) == (better if n_measured else None)
    assert len(seen) == n_measured
    assert cluster_overheads(client, work) == (better if n_measured else poor)
