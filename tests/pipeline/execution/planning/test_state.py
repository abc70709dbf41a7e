"""Decisions are lists of events; a made-up cluster on a made-up clock plays whole runs."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from oectflow.pipeline.execution.events import (
    CHILD,
    BatchDone,
    Begun,
    Connected,
    Ended,
    Killed,
    Measured,
    Overheads,
    Waited,
    WorkersSeen,
)
from oectflow.pipeline.execution.planning.actions import (
    Connect,
    Correct,
    GiveUp,
    Look,
    Measure,
    RunHere,
    Stop,
    Submit,
    Wake,
)
from oectflow.pipeline.execution.planning.batches import StepBatch
from oectflow.pipeline.execution.planning.costs import CostBook, Costs
from oectflow.pipeline.execution.planning.state import ATTEMPTS, RunState, Workforce
from oectflow.pipeline.execution.planning.window import Entry
from oectflow.pipeline.execution.planning.work import Job, Trait
from oectflow.pipeline.inputs.step_layout import Layout

GIB = 2**30
SAMPLES = 1000
THREADS = Overheads(1e-4, 1e-4, 1e-4, 2, 2.0)
CHEAP = Overheads(5e-3, 2e-3, 1e-3, 2, 2.0)


def job(index=0, n_steps=40, features=("tau", "peak"), samples=SAMPLES, sources=("transient",)):
    layouts = {
        source: Layout(n_steps, np.full(n_steps, samples), np.arange(n_steps + 1), 8)
        for source in sources
    }
    task = SimpleNamespace(experiment_id=f"test_{index}", n_rows=n_steps)
    return Job(index, task, layouts, features)


def state(jobs, costs=None, *, traits=None, workforce=None, granularity="auto"):
    """Return a state; ``costs`` are known, in s per step."""
    names = dict.fromkeys(name for one in jobs for name in one.missing)
    book = CostBook({})
    for name, seconds in (costs or {}).items():
        length = 1.0 if name in ("write", "start", "threads") else float(SAMPLES)
        book.learn(name, seconds / length, length)
    traits = {name: Trait("transient") for name in names} | (traits or {})
    return RunState(jobs, traits, Costs(book), workforce or Workforce(THREADS), granularity)


@dataclass
class Played:
    """What has happened in a run that was played."""

    seconds: float = 0.0
    computed: Counter = field(default_factory=Counter)
    here: set = field(default_factory=set)
    in_children: set = field(default_factory=set)
    largest_window: int = 0
    n_kills: int = 0
    given_up: list = field(default_factory=list)
    connected: bool = False


def play(run, jobs, cost, *, n_workers=2, overheads=CHEAP, kills=(), memory=64 * GIB):
    """Play a run on workers whose time is made up.

    ``cost(feature, step)`` is in s; ``kills`` are logical tasks ``(index, feature, step)`` that end
    their process unless they are isolated.
    """
    jobs = {one.index: one for one in jobs}
    played, now, order = Played(), 0.0, itertools.count()
    happening: list = []
    free = dict.fromkeys(["here", *(f"worker-{i}" for i in range(n_workers))], 0.0)
    # Of every experiment: logical tasks that are done, batches that are under way, all submitted.
    done = {index: set() for index in jobs}
    open_ = {index: {} for index in jobs}
    whole = dict.fromkeys(jobs, False)
    attempt = dict.fromkeys(jobs, 0)
    ending = set()

    def later(at, event):
        heapq.heappush(happening, (at, next(order), event))

    def tasks(index, batch):
        return {(index, name, step) for name in batch.features
                for step in range(batch.start, batch.stop)}  # fmt: skip

    def compute(action, batch, places):
        place = min(places, key=free.get)
        begin = max(now, free[place])
        wanted = tasks(action.index, batch)
        seconds = {
            name: sum(cost(name, step) for step in range(batch.start, batch.stop))
            for name in batch.features
        }
        isolated = batch in action.isolated
        end = free[place] = begin + sum(seconds.values()) + overheads.per_worker
        killed = not isolated and any(one in kills for one in wanted)
        where = ("" if not isolated else CHILD) if place == "here" else place
        assert not (killed and place == "here"), "the notebook would be gone"
        crashed = tuple({one[1] for one in wanted if one in kills}) if isolated else ()
        event = BatchDone(
            action.index, batch.source, batch.start, batch.stop, seconds, 1e-6, 100, 0, where,
            crashed,
        )  # fmt: skip
        if place == "here":
            (played.in_children if isolated else played.here).update(wanted)
        later(end, (attempt[action.index], batch, killed, event))

    def do(action):
        nonlocal now
        match action:
            case RunHere() | Submit():
                index = action.index
                assert action.batches or action.whole, "nothing to be done"
                if isinstance(action, Submit) and whole[index]:
                    # Everything is submitted anew.
                    attempt[index] += 1
                    open_[index] = {}
                    mine = {one for one in done[index] if one in played.here | played.in_children}
                    done[index] = mine
                for batch in action.batches:
                    open_[index][batch] = True
                    here = isinstance(action, RunHere)
                    compute(action, batch, ["here"] if here else [p for p in free if p != "here"])
                whole[index] = action.whole
                finish(index)
            case Measure():
                return Measured(overheads)
            case Look():
                return WorkersSeen(n_workers, memory, memory / n_workers)
            case Connect():
                played.connected = True
                return Connected(1.0)
            case Wake():
                later(now + action.seconds, Waited())
            case GiveUp():
                played.given_up.append(action.index)
                return Ended(action.index)
        return None

    def finish(index):
        if whole[index] and not open_[index] and (index, attempt[index]) not in ending:
            ending.add((index, attempt[index]))
            assert done[index] == everything([jobs[index]]), "something was left out"
            later(now + 1e-3, Ended(index, jobs[index].task.n_rows, 1000, {}, 0.0, 1e-3))

    def handle(what):
        todo = list(run.handle(what, now))
        while todo:
            action = todo.pop(0)
            if isinstance(action, Stop):
                return False
            answer = do(action)
            if answer is not None:
                todo += run.handle(answer, now)
        return True

    running = handle(Begun())
    while running:
        assert happening, "the run waits for nothing"
        now, _, event = heapq.heappop(happening)
        if isinstance(event, tuple):
            number, batch, killed, event = event
            if number != attempt[event.index]:
                continue
            if killed:
                played.n_kills += 1
                key = (f"{batch.label}-0", "", batch.start, batch.n_logical)
                if not whole[event.index]:
                    del open_[event.index][batch]
                running = handle(Killed(event.index, key))
                continue
            open_[event.index].pop(batch)
            for one in tasks(event.index, batch):
                assert one not in done[event.index], "computed twice"
                done[event.index].add(one)
                played.computed[one] += 1
        played.largest_window = max(played.largest_window, sum(map(bool, open_.values())))
        index = event.index if isinstance(event, BatchDone) else None
        running = handle(event)
        if index is not None and index in run.jobs:
            finish(index)
    played.seconds = now
    return played


def everything(jobs):
    return {
        (one.index, name, step)
        for one in jobs
        for name in one.missing
        for step in range(one.first.get(name, 0), one.task.n_rows)
    }


@st.composite
def runs(draw):
    features = draw(st.sampled_from([("tau",), ("tau", "peak"), ("tau", "peak", "dwt")]))
    sizes = draw(st.lists(st.integers(0, 60), min_size=1, max_size=6))
    jobs = [job(i, n, features) for i, n in enumerate(sizes)]
    # Of some, an earlier run has computed the first steps.
    grown = draw(st.sets(st.sampled_from(range(len(jobs)))))
    for i in grown:
        first = {name: draw(st.integers(0, sizes[i])) for name in features}
        jobs[i] = replace(jobs[i], first=first)
    costs = {name: draw(st.floats(1e-5, 3.0)) for name in features}
    known = draw(st.sets(st.sampled_from(features)))
    unseen = draw(st.sets(st.sampled_from(features)))
    n_workers = draw(st.integers(1, 7))
    cluster = draw(st.sampled_from(["no", "runs", "could"]))
    logical = sorted(everything(jobs))
    kills = draw(st.sets(st.sampled_from(logical), max_size=2)) if logical else set()
    granularity = draw(st.sampled_from(["auto", "auto", "auto", "step", "experiment", 7]))
    return jobs, costs, known, unseen, n_workers, cluster, kills, granularity


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(runs())
def test_run__everything_is_computed_once_and_it_ends(drawn):
    jobs, costs, known, unseen, n_workers, cluster, kills, granularity = drawn
    overheads = Overheads(5e-3, 2e-3, 1e-3, n_workers, float(n_workers))
    workforce = Workforce(
        THREADS, cluster == "runs", replace(overheads, start=1.0) if cluster == "could" else None
    )
    traits = {name: Trait("transient", trusted=name not in unseen) for name in costs}
    # What has computed something is trusted in a notebook, and no step of it may end that.
    kills = kills if cluster == "runs" and unseen == set(costs) else set()
    run = state(
        jobs, {name: costs[name] for name in known},
        traits=traits, workforce=workforce, granularity=granularity,
    )  # fmt: skip
    played = play(
        run, jobs, lambda name, step: costs[name],
        n_workers=n_workers, overheads=overheads, kills=kills,
    )  # fmt: skip
    event("with kills" if played.n_kills else "without")
    if not kills:
        assert played.computed == Counter(everything(jobs))
    assert set(played.computed) == everything(jobs)
    assert not played.given_up
    if cluster == "runs":
        # What nobody has seen never runs in the process of the notebook where there is another.
        assert not {one for one in played.here if one[1] in unseen}


def test_little_known_work__stays_here_and_asks_the_cluster_for_nothing():
    jobs = [job(n_steps=20)]
    run = state(jobs, {"tau": 1e-5, "peak": 1e-5}, workforce=Workforce(THREADS, cluster=True))
    played = play(run, jobs, lambda name, step: 1e-5)
    assert run.plan.ways == ["inline"]
    assert len(played.here) == 40


def test_much_known_work__goes_to_the_cluster():
    jobs = [job(i) for i in range(5)]
    run = state(jobs, {"tau": 0.1, "peak": 0.1}, workforce=Workforce(THREADS, cluster=True))
    played = play(run, jobs, lambda name, step: 0.1)
    assert run.plan.ways == ["cluster"]
    assert not played.here
    # 5 × 40 × 0.2 s on two workers.
    assert played.seconds == pytest.approx(20, rel=0.06)


def test_unknown_and_cheap__is_timed_here():
    jobs = [job(i) for i in range(3)]
    run = state(jobs, workforce=Workforce(THREADS, cluster=True))
    played = play(run, jobs, lambda name, step: 1e-5)
    assert run.plan.ways == ["inline"]
    assert len(played.here) == 240


def test_unknown_and_expensive__one_step_here_before_the_workers_have_some():
    jobs = [job(i) for i in range(3)]
    run = state(jobs, workforce=Workforce(THREADS, cluster=True))
    played = play(run, jobs, lambda name, step: 0.5)
    assert run.plan.ways == ["cluster"]
    assert played.here == {(0, "tau", 0), (0, "peak", 0)}
    assert played.seconds == pytest.approx(60, rel=0.06)


def test_unseen__runs_on_workers_first_however_little_it_is():
    jobs = [job(n_steps=20)]
    slow = Overheads(100.0, 100.0, 100.0, 2, 2.0)
    unseen = {name: Trait("transient", trusted=False) for name in ("tau", "peak")}
    run = state(jobs, traits=unseen, workforce=Workforce(THREADS, cluster=True))
    played = play(run, jobs, lambda name, step: 1e-5, overheads=slow)
    assert run.plan.ways == ["cluster"]
    assert not played.here


def test_unseen__runs_in_a_child_first_where_there_is_no_cluster():
    jobs = [job(n_steps=20)]
    run = state(jobs, traits={"tau": Trait("transient", trusted=False)})
    played = play(run, jobs, lambda name, step: 1e-5)
    assert played.in_children == {(0, "tau", 0)}
    assert len(played.here) == 39


def test_crashed__runs_in_children_only():
    jobs = [job(n_steps=5)]
    crashed = {"tau": Trait("transient", trusted=False, crashed=True)}
    run = state(jobs, {"tau": 1e-3, "peak": 1e-3}, traits=crashed)
    played = play(run, jobs, lambda name, step: 1e-3, kills={(0, "tau", 3)})
    assert played.in_children == {(0, "tau", step) for step in range(5)}
    assert played.n_kills == 0


@pytest.mark.parametrize("n_workers", [2, 16, 96])
def test_unknown__many_workers_are_busy_nearly_all_the_time(n_workers):
    # 80 experiments of 5 steps; two features of 1.2 s.
    jobs = [job(i, n_steps=5) for i in range(80)]
    overheads = Overheads(5e-3, 1e-3, 1e-3, n_workers, float(n_workers))
    unseen = {name: Trait("transient", trusted=False) for name in ("tau", "peak")}
    run = state(jobs, traits=unseen, workforce=Workforce(THREADS, cluster=True))
    rng = np.random.default_rng(1)
    costs = {(name, step): rng.normal(1.2, 0.3) for name in ("tau", "peak") for step in range(5)}
    played = play(run, jobs, lambda name, step: max(costs[name, step], 0.1),
                  n_workers=n_workers, overheads=overheads)  # fmt: skip
    busy = 80 * sum(max(cost, 0.1) for cost in costs.values()) / n_workers / played.seconds
    assert busy > 0.85


def test_window__is_bounded_by_memory():
    jobs = [job(i, n_steps=40, samples=100_000) for i in range(20)]
    run = state(jobs, {"tau": 1.0, "peak": 1.0}, workforce=Workforce(THREADS, cluster=True))
    actions = run.handle(Begun(), 0.0)
    actions = run.handle(Measured(CHEAP), 0.0)
    assert [type(one) for one in actions] == [Look]
    # One takes 32 MB, and a quarter of the memory may be filled.
    actions = run.handle(WorkersSeen(96, 4 * 100e6, 4e6), 0.0)
    assert [one.index for one in actions] == [0, 1, 2]
    # The last lets in the next.
    actions = run.handle(Ended(0, 40, int(1e6), {}, 0.0, 1e-3), 1.0)
    assert 3 in [one.index for one in actions]


def test_window__waits_while_a_worker_is_short_of_memory():
    jobs = [job(i) for i in range(5)]
    run = state(jobs, {"tau": 1.0, "peak": 1.0}, workforce=Workforce(THREADS, cluster=True))
    run.handle(Begun(), 0.0)
    run.handle(Measured(CHEAP), 0.0)
    before = run.ledger.batch_bytes
    entered = run.handle(WorkersSeen(2, 4 * GIB, 2 * GIB, tight=True), 0.0)
    assert [one.index for one in entered] == [0]
    assert run.ledger.batch_bytes == before // 2
    assert [one.index for one in run.handle(WorkersSeen(2, 4 * GIB, 2 * GIB), 0.0)][:1] == [1]


@pytest.mark.parametrize("n_jobs", [400, 800])
def test_window__an_event_costs_the_same_however_many_experiments_are_under_way(
    n_jobs, monkeypatch
):
    """500 workers, so that all experiments are under way at once."""
    looked = Counter()

    def counted(self):
        looked["n_tasks"] += 1
        return n_tasks.fget(self)

    n_tasks = Entry.n_tasks
    monkeypatch.setattr(Entry, "n_tasks", property(counted))
    jobs = [job(i, n_steps=1, features=("tau",)) for i in range(n_jobs)]
    run = state(jobs, {"tau": 1.0}, workforce=Workforce(THREADS, cluster=True))
    played = play(run, jobs, lambda *_: 1.0, n_workers=500)
    assert played.largest_window >= n_jobs - 1
    # A batch that is handed out, one that is done, an experiment that ends.
    assert looked["n_tasks"] <= 12 * n_jobs


def on_the_cluster(one, costs=1e-9, seconds=1e9, **traits):
    """Return a run whose only experiment was just handed to the cluster."""
    known = dict.fromkeys(one.missing, costs)
    run = state([one], known, workforce=Workforce(THREADS, cluster=True), granularity=50)
    (look,) = run.handle(Begun(), 0.0)
    assert look == Look()
    (submit,) = run.handle(WorkersSeen(2, 4 * GIB, 2 * GIB), 0.0)
    return run, submit


def killed(run, batch, index=0):
    key = (f"{batch.label}-0123abcd", "test_0", batch.start, batch.n_logical)
    (action,) = run.handle(Killed(index, key), 0.0)
    return action


def test_killed__a_large_batch_is_divided_and_then_isolated():
    # 50 steps of 100,000 samples of 8 bytes are 40 MB.
    run, submit = on_the_cluster(job(n_steps=100, samples=100_000, features=("peak",)))
    first, second = submit.batches
    again = killed(run, first)
    pieces = [batch for batch in again.batches if batch != second]
    assert [(batch.start, batch.stop) for batch in pieces] == [
        (0, 13),
        (13, 25),
        (25, 38),
        (38, 50),
    ]
    assert not again.isolated
    again = killed(run, pieces[1])
    assert again.isolated == {pieces[1]}
    assert set(again.batches) == {*pieces, second}
    assert again.whole


def test_killed__a_small_batch_is_isolated_at_once():
    run, submit = on_the_cluster(job(n_steps=100, samples=10, features=("peak",)))
    assert killed(run, submit.batches[0]).isolated == {submit.batches[0]}


def submitted(jobs, costs, n_workers=2, **options):
    """Return what is handed to the cluster first, of known work."""
    run = state(jobs, costs, workforce=Workforce(THREADS, cluster=True), **options)
    run.handle(Begun(), 0.0)
    run.handle(Measured(replace(CHEAP, n_workers=n_workers, effective=n_workers)), 0.0)
    return run, run.handle(WorkersSeen(n_workers), 0.0)


def test_as_one__small_experiments_and_no_others():
    costs = {"tau": 1e-3, "peak": 1e-3}
    sources = ("transfer", "transient")
    traits = {"peak": Trait("transfer")}
    small = [job(i, n_steps=5, sources=sources) for i in range(100)]
    _, submits = submitted(small, costs, traits=traits)
    assert {one.as_one for one in submits} == {True}
    assert {len(one.batches) for one in submits} == {2}
    # As many tasks as keep the workers busy until the next one enters.
    assert len(submits) == 2 * 2 + 1
    large = [job(i, n_steps=5000, sources=sources) for i in range(100)]
    _, submits = submitted(large, costs, traits=traits)
    assert {one.as_one for one in submits} == {False}
    # Fewer experiments than workers are divided, however small they are.
    _, submits = submitted(small[:4], dict.fromkeys(costs, 0.1), 16, traits=traits)
    assert {one.as_one for one in submits} == {False}
    # Whoever wants so many steps in a task gets that.
    run = state(small, costs, workforce=Workforce(THREADS, True), granularity=5, traits=traits)
    run.handle(Begun(), 0.0)
    assert {one.as_one for one in run.handle(WorkersSeen(2), 0.0)} == {False}


def test_as_one__an_experiment_for_each_worker_is_not_divided_for_a_slow_dispatcher():
    # 8 s each: half as long would mean five tasks instead of one, of 2 ms for 500 workers.
    jobs = [job(i, n_steps=8, features=("tau",)) for i in range(1000)]
    _, submits = submitted(jobs, {"tau": 1.0}, 500)
    assert {one.as_one for one in submits} == {True}


def test_as_one__not_with_what_has_killed_a_worker():
    jobs = [job(i, n_steps=5) for i in range(100)]
    crashed = {"tau": Trait("transient", trusted=False, crashed=True)}
    _, submits = submitted(jobs, {"tau": 1e-3, "peak": 1e-3}, traits=crashed)
    assert {one.as_one for one in submits} == {False}
    assert all(one.isolated for one in submits)


def test_as_one__that_kills_its_worker_is_divided_and_isolated():
    jobs = [job(i, n_steps=5, features=("tau", "peak")) for i in range(100)]
    run, (submit, *_) = submitted(jobs, {"tau": 1e-3, "peak": 1e-3})
    assert submit.as_one
    (again,) = run.handle(Killed(0, ("tau+peak-0123abcd", "test_0", 0, 10)), 0.0)
    assert not again.as_one
    assert again.whole
    assert again.isolated == set(again.batches) == set(submit.batches)


def test_killed__the_hash_is_not_blamed_twice_and_not_for_ever():
    run, _ = on_the_cluster(job(n_steps=100, samples=10, features=("peak",)))
    for _ in range(ATTEMPTS - 1):
        (again,) = run.handle(Killed(0, ("hash-0123abcd", "test_0", 0, 0)), 0.0)
        assert again.hash_last
        assert not again.isolated
    assert run.handle(Killed(0, ("hash-0123abcd", "test_0", 0, 0)), 0.0) == [GiveUp(0)]


def test_busy_workers__are_measured_again_before_the_work_is_done_here():
    jobs = [job(i) for i in range(3)]
    known = {"tau": 0.1, "peak": 0.1}
    alone = replace(CHEAP, effective=1.0)
    run = state(jobs, known, workforce=Workforce(THREADS, cluster=True))
    (asked,) = run.handle(Begun(), 0.0)
    assert not asked.again
    (asked,) = run.handle(Measured(alone), 0.0)
    assert asked.again
    assert run.handle(Measured(CHEAP), 0.0) == [Look()]
    assert run.plan.ways == ["cluster"]
    run = state(jobs, known, workforce=Workforce(THREADS, cluster=True))
    run.handle(Begun(), 0.0)
    run.handle(Measured(alone), 0.0)
    (here,) = run.handle(Measured(None), 0.0)
    assert isinstance(here, RunHere)


def test_slow_cluster__does_not_get_the_rest():
    jobs = [job(i, n_steps=5) for i in range(30)]
    run = state(jobs, {"tau": 1e-2, "peak": 1e-2}, workforce=Workforce(THREADS, cluster=True))
    # What they need is ten times what is known of them.
    played = play(run, jobs, lambda name, step: 0.1)
    assert run.plan.ways == ["cluster", "inline"]
    assert set(played.computed) == everything(jobs)


@pytest.mark.parametrize(("others", "way"), [(True, "cluster"), (False, "inline")])
def test_workers_that_were_away__are_not_slow(others, way):
    jobs = [job(i, n_steps=5) for i in range(30)]
    run = state(jobs, {"tau": 1e-2, "peak": 1e-2}, workforce=Workforce(THREADS, cluster=True))
    run.handle(Begun(), 0.0)
    run.handle(Measured(CHEAP), 0.0)
    waiting = [one for one in run.handle(WorkersSeen(2), 0.0) if isinstance(one, Submit)]

    def done(now):
        submit = waiting.pop(0)
        for batch in submit.batches:
            span = (batch.source, batch.start, batch.stop)
            seconds = dict.fromkeys(batch.features, 1e-2 * (batch.stop - batch.start))
            actions = run.handle(BatchDone(submit.index, *span, seconds, where="w"), now)
            waiting.extend(one for one in actions if isinstance(one, Submit))
        actions = run.handle(Ended(submit.index, 5, 1000, {}, 0.0, 1e-3), now)
        waiting.extend(one for one in actions if isinstance(one, Submit))

    for turn in range(4):
        done(0.05 * (turn + 1))
    # Their jobs were over, and others have waited for an hour.
    run.handle(WorkersSeen(2, others=others), 3600.0)
    for turn in range(4):
        done(3600.0 + 0.05 * (turn + 1))
    assert run.way == way


def test_could_be_started__only_for_enough_work():
    start = replace(CHEAP, start=5.0)
    little, much = [job()], [job(i) for i in range(9)]
    known = {"tau": 1e-3, "peak": 1e-3}
    run = state(little, known, workforce=Workforce(THREADS, start=start))
    assert not play(run, little, lambda name, step: 1e-3).connected
    known = {"tau": 0.1, "peak": 0.1}
    run = state(much, known, workforce=Workforce(THREADS, start=start))
    assert play(run, much, lambda name, step: 0.1).connected
    assert run.plan.ways == ["cluster"]
    # What was seen of a start counts.
    run = state(much, known | {"start": 1e4}, workforce=Workforce(THREADS, start=start))
    assert not play(run, much, lambda name, step: 0.1).connected


def test_wake__a_late_step_lets_the_workers_begin():
    jobs = [job(i) for i in range(3)]
    run = state(jobs, workforce=Workforce(THREADS, cluster=True))
    assert run.handle(Begun(), 0.0) == [Measure(0.0, needed=True)]
    here, wake = run.handle(Measured(CHEAP), 0.0)
    assert isinstance(here, RunHere)
    assert wake == Wake(2 * CHEAP.round_trip)
    assert run.handle(Waited(), 1.0) == [Look()]
    submits = run.handle(WorkersSeen(2), 1.0)
    # Two for each worker, of which one is that step.
    assert sum(len(one.batches) for one in submits) == 3
    assert not any(one.whole for one in submits)


def test_wake__what_runs_here_to_its_end_is_submitted_when_that_is_over():
    """The only step of an experiment is late here; the workers have told what the others cost."""
    jobs = [job(i, n_steps=1, features=("tau",)) for i in range(30)]
    run = state(jobs, workforce=Workforce(THREADS, cluster=True))
    run.handle(Begun(), 0.0)
    run.handle(Measured(CHEAP), 0.0)
    run.handle(Waited(), 1.0)
    submits = run.handle(WorkersSeen(2), 1.0)
    assert {one.index for one in submits} == {1, 2, 3}
    # The first of a process may have imported something.
    for index in (1, 2):
        done = BatchDone(index, "transient", 0, 1, {"tau": 1.0}, where="worker-1")
        actions = run.handle(done, 2.0)
    assert [type(one) for one in actions] == [Measure]
    submits = run.handle(Measured(CHEAP), 2.0)
    assert len(submits) > 1
    assert 0 not in [one.index for one in submits]
    done = BatchDone(0, "transient", 0, 1, {"tau": 2.0})
    assert Submit(0, ()) in run.handle(done, 3.0)


def test_correct__what_the_cluster_has_shown_is_told_at_the_end():
    jobs = [job(n_steps=4)]
    run = state(jobs, {"tau": 10.0, "peak": 10.0}, workforce=Workforce(THREADS, cluster=True))
    run.handle(Begun(), 0.0)
    run.handle(Measured(CHEAP), 0.0)
    run.handle(WorkersSeen(2), 0.0)
    correct, stop = run.handle(Ended(0, 4), 50.0)
    assert isinstance(correct, Correct)
    assert (correct.seconds, stop) == (50.0, Stop())


def test_forecast__hands_nothing_out():
    jobs = [job(i) for i in range(3)]
    known = {"tau": 0.1, "peak": 0.1}
    run = state(jobs, known, workforce=Workforce(THREADS, cluster=True))
    plan = run.forecast(lambda question: CHEAP)
    assert plan.ways == ["cluster"]
    rows = run.ledger.features
    assert {name: row.n_steps for name, row in rows.items()} == {"tau": 120, "peak": 120}
    assert all(row.n_tasks >= 3 for row in rows.values())
    assert plan.predicted_seconds == pytest.approx(12, rel=0.2)
    # Nothing can be said where costs are unknown.
    assert state(jobs).forecast(lambda question: CHEAP).ways == []


def test_late_event__of_an_experiment_that_is_over_changes_nothing():
    jobs = [job(0, 5), job(1, 5)]
    run = state(jobs, {"tau": 1.0, "peak": 1.0}, workforce=Workforce(THREADS, cluster=True))
    run.handle(Begun(), 0.0)
    run.handle(Measured(CHEAP), 0.0)
    run.handle(WorkersSeen(2), 0.0)
    run.handle(Ended(0, 5), 1.0)
    left = run.ledger.seconds_left()
    late = BatchDone(0, "transient", 0, 5, {"tau": 5.0}, where="worker-1")
    assert run.handle(late, 2.0) == []
    assert run.ledger.seconds_left() == left


def test_batches__are_those_of_the_granularity_that_is_asked_for():
    one = job(n_steps=3)
    run = state([one], granularity="step")
    (here,) = run.handle(Begun(), 0.0)
    assert not here.together
    assert set(here.batches) == {
        StepBatch("transient", i, i + 1, (name,)) for i in range(3) for name in ("tau", "peak")
    }
