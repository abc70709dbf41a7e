"""Costs are measured, remembered and refined; the plan follows them."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import Future
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from oectflow.extractors.base import BaseExtractor
from oectflow.pipeline.execution.driving import planner as planner_module
from oectflow.pipeline.execution.driving.find_work import Job, find_work
from oectflow.pipeline.execution.driving.planner import Planner
from oectflow.pipeline.execution.driving.run import extract
from oectflow.pipeline.execution.planning.batches import StepBatch
from oectflow.pipeline.execution.planning.costs import CostBook
from oectflow.pipeline.execution.planning.decide import Overheads
from oectflow.pipeline.execution.report import ExperimentRecord, RunReport
from oectflow.pipeline.execution.worker.build_table import Extracted
from oectflow.pipeline.features.feature_set import FeatureSet
from oectflow.pipeline.inputs.step_layout import Layout
from oectflow.pipeline.outputs.sink import Problem

PRINTS = {"tau": "abc", "peak": "def"}


class Transient(BaseExtractor):
    name = "transient.anything"
    source = "transient"


SECONDS = 0.25


def job(index: int = 0, n_steps: int = 5000, samples: int = 10_000) -> Job:
    borders = np.arange(n_steps + 1)
    layout = Layout(n_steps, np.full(n_steps, samples), borders, 8)
    task = SimpleNamespace(n_steps={"transient": n_steps}, experiment_id=f"test_{index}")
    return Job(index, task, {"transient": layout}, ("tau", "peak"))


def planner(jobs, folder, granularity="auto"):
    extractors = {"tau": Transient(), "peak": Transient()}
    book = CostBook(folder, PRINTS)
    return Planner(jobs, extractors, book, granularity), book


def test_cost_book__is_remembered_by_definition(tmp_path):
    book = CostBook(tmp_path, PRINTS)
    assert book.get("tau") is None
    book.learn("tau", 1e-7)
    book.save()
    assert CostBook(tmp_path, PRINTS).get("tau") == 1e-7
    assert CostBook(tmp_path, PRINTS | {"tau": "changed"}).get("tau") is None
    # Another name for the same definition has the same cost.
    assert CostBook(tmp_path, {"my_tau": "abc"}).get("my_tau") == 1e-7


def test_cost_book__a_running_mean(tmp_path):
    book = CostBook(tmp_path, PRINTS)
    book.learn("tau", 1.0)
    book.learn("tau", 2.0)
    assert book.get("tau") == pytest.approx(0.7 * 1.0 + 0.3 * 2.0, rel=1e-15)
    for nonsense in (0.0, -1.0, float("nan"), float("inf")):
        book.learn("tau", nonsense)
    assert book.get("tau") == pytest.approx(1.3, rel=1e-15)


def test_cost_book__the_nearest_length_stands_for_one_that_was_never_timed(tmp_path):
    book = CostBook(tmp_path, PRINTS)
    book.learn("tau", 1e-7, 1000)
    book.learn("tau", 4e-7, 16_000)
    assert book.get("tau", 600) == 1e-7  # 512 … 1023 samples are one class
    assert book.get("tau", 100) == 1e-7
    assert book.get("tau", 1e6) == 4e-7
    book.save()
    assert CostBook(tmp_path, PRINTS).get("tau", 20_000) == 4e-7


def test_cost_book__what_ended_a_process_is_remembered(tmp_path):
    book = CostBook(tmp_path, PRINTS)
    book.mark_deadly(["tau"])
    book.save()
    again = CostBook(tmp_path, PRINTS)
    assert again.is_deadly("tau")
    assert not again.is_deadly("peak")
    assert not CostBook(tmp_path, PRINTS | {"tau": "mended"}).is_deadly("tau")


@pytest.mark.parametrize(
    "content", ["[]", '{"format": 2, "costs": {"a": 1}}', "", "{", "[1]", '{"a": "b"}', "\x00"]
)
def test_cost_book__a_damaged_one_is_begun_anew(tmp_path, content):
    (tmp_path / ".oectflow-costs.json").write_text(content)
    assert CostBook(tmp_path, PRINTS).get("tau") is None


def test_planner__batches_follow_the_costs_learnt(tmp_path):
    jobs = [job(0), job(1)]
    plan, book = planner(jobs, tmp_path)
    book.learn("tau", 1e-3 / 10_000, 10_000)
    book.learn("peak", 1e-6 / 10_000, 10_000)
    plan.plan(jobs[0], SECONDS)
    steps = [batch.stop - batch.start for batch in jobs[0].batches]
    # 5 s in all are 20 batches, and so little more that there is none for it.
    assert len(steps) == 20
    assert max(steps) == 250
    # The first experiment shows that a step takes twice as long.
    record = ExperimentRecord(
        "a", "a.h5", "done", n_steps=5000, seconds={"tau": 10.0, "peak": 0.005}
    )
    plan.learn(jobs[0], record)
    plan.plan(jobs[1], SECONDS)
    again = [batch.stop - batch.start for batch in jobs[1].batches]
    assert max(again) < min(steps)
    row = plan.features["tau"]
    assert (row.n_steps, row.actual_seconds, row.timed) == (10_000, 10.0, True)
    assert row.n_tasks == len(jobs[0].batches) + len(jobs[1].batches)


def test_planner__what_is_left_shrinks_to_nothing(tmp_path):
    jobs = [job(i) for i in range(3)]
    plan, book = planner(jobs, tmp_path)
    book.learn("tau", 2e-7, 10_000)
    book.learn("peak", 0.5e-7, 10_000)
    book.learn("read transient", 1e-7, 10_000)
    book.learn("write", 1e-5, 5000)
    one = 5000 * 10_000 * 3.5e-7 + 5000 * 1e-5
    assert plan.seconds_left() == pytest.approx(3 * one, rel=1e-12)
    assert plan.seconds_of(jobs[0]) == pytest.approx(one - 5000 * 1e-5, rel=1e-12)
    done = Extracted("transient", 0, 1000, {}, (), {"tau": 2.0, "peak": 0.5}, 1.0)
    plan.keep(jobs[0], [done], ["tau", "peak"])
    assert plan.seconds_left() == pytest.approx(3 * one - 1000 * 10_000 * 3.5e-7, rel=1e-12)
    plan.plan(jobs[0], SECONDS)
    assert min(batch.start for batch in jobs[0].batches) == 1000
    decision = plan.decide(Overheads(0.0, 0.0, 0.0, 2, 2.0))
    assert decision.divide
    # As quick as two workers can be, but for how unevenly the last batches may end.
    assert decision.alone / 2 <= decision.predicted < 1.02 * decision.alone / 2
    record = ExperimentRecord("a", "a.h5", "done", n_steps=5000)
    for one_job in jobs:
        plan.plan(one_job, SECONDS)
        plan.learn(one_job, record)
    assert plan.seconds_left() == pytest.approx(0.0, abs=1e-9 * one)
    assert not plan.decide(Overheads(0.0, 0.0, 0.0, 2, 2.0)).divide


def test_planner__a_probe_counts_until_an_experiment_is_done(tmp_path):
    one = job()
    plan, book = planner([one], tmp_path)
    assert plan.unknown(one) == ["tau", "peak"]
    # The first call compiles; the second one counts.
    plan.timings.probed(
        one.layouts["transient"],
        [
            Extracted("transient", 0, 1, {}, (), {"tau": seconds, "peak": seconds}, 1e-4)
            for seconds in (5.0, 1e-3)
        ],
    )
    assert plan.unknown(one) == []
    assert plan.timings.cost("tau") == 1e-3 / 10_000
    assert book.get("tau") is None


def test_planner__what_is_not_done_yet_costs_as_much_as_it_has_taken(tmp_path):
    jobs = [job(n_steps=20), job(1, n_steps=20)]
    plan, book = planner(jobs, tmp_path)
    book.learn("peak", 1e-4 / 10_000, 10_000)
    plan.timings.at_least("tau", time.perf_counter() - 3.0, 10_000)
    assert plan.timings.any_is_bound
    cost = plan.timings.cost("tau")
    assert cost >= 3.0 / 10_000
    assert plan.timings.cost("tau") > cost
    # However long a batch should be: nobody knows how much longer it takes.
    plan.plan(jobs[0], 100.0)
    assert all(len(batch.features) == 1 for batch in jobs[0].batches)
    assert {b.urgency for b in jobs[0].batches if b.features == ("tau",)} == {2}
    assert plan.features["tau"].at_least
    event = {
        "kind": "batch", "experiment_id": "test_0", "source": "transient", "features": ("tau",),
        "n_steps": 1, "seconds": 8.0,
    }  # fmt: skip
    plan.batch_done(event)
    assert not plan.timings.any_is_bound
    assert plan.timings.cost("tau") == 8.0 / 10_000
    row = plan.features["tau"]
    assert (row.predicted_seconds, row.at_least) == (pytest.approx(20 * 8.0, rel=1e-12), False)


def test_planner__an_event_tells_of_its_own_experiment(tmp_path):
    """Not of the one that was planned last, whose steps may be of another length."""
    jobs = [job(0, n_steps=20, samples=10_000), job(1, n_steps=20, samples=100)]
    plan, book = planner(jobs, tmp_path)
    book.learn("peak", 1e-9, 10_000)
    book.learn("read transient", 1e-5, 10_000)
    plan.timings.at_least("tau", time.perf_counter(), 10_000)
    for one in jobs:
        plan.plan(one, 100.0)
    event = {
        "kind": "batch", "experiment_id": "test_0", "source": "transient", "features": ("tau",),
        "n_steps": 2, "seconds": 8.0,
    }  # fmt: skip
    plan.batch_done(event)
    assert plan.timings.cost("tau", 10_000) == 8.0 / 2 / 10_000
    before = plan.alone_done
    plan.batch_done(event | {"features": ()} | {"features": ("unknown",)})
    # What it takes one process to read two of its steps.
    reading = 2 * 10_000 * plan.timings.cost("read transient", 10_000)
    assert plan.alone_done - before == pytest.approx(reading, rel=1e-9)
    plan.batch_done(event | {"experiment_id": "nobody's", "features": ("unknown",)})
    assert plan.alone_done - before == pytest.approx(reading, rel=1e-9)


def test_planner__what_is_being_computed_is_not_left_unless_it_is_forgotten(tmp_path):
    one = job(n_steps=20)
    plan, book = planner([one], tmp_path)
    book.learn("tau", 1e-7, 10_000)
    book.learn("peak", 1e-7, 10_000)
    plan.begun(one, StepBatch("transient", 0, 1, ("tau", "peak")), Future())
    plan.begun(one, StepBatch("transient", 1, 2, ("tau",)), Future())
    assert plan.seconds_left() == pytest.approx((18 + 19) * 1e-3, rel=1e-12)
    plan.plan(one, 1e-3)
    left = Counter(name for batch in one.batches for name in batch.features)
    assert left == {"tau": 18, "peak": 19}
    plan.forget(one)
    assert one.pending == []
    assert plan.seconds_left() == pytest.approx(40 * 1e-3, rel=1e-12)


@pytest.mark.parametrize(
    ("n_jobs", "long", "near"),
    [
        # Eight rounds of ten workers are eighty long tasks; a step of 10 s has 1 s of short ones.
        (3, 10.0, True),
        (5, 10.0, False),
        # More short work than is needed to fill the time of the last long ones.
        (3, 0.35, False),
        # Nothing is long.
        (3, 1e-3, False),
    ],
)
def test_planner__the_end_is_near(tmp_path, n_jobs, long, near):
    jobs = [job(i, n_steps=20) for i in range(n_jobs)]
    plan, book = planner(jobs, tmp_path)
    # The class of lengths to which 10,000 samples belong begins at 8192.
    book.learn("tau", long / 8192, 8192)
    book.learn("peak", 0.1 / 8192, 8192)
    assert plan.is_near_end(0.2, 10) is near


def test_planner__the_end_may_be_near_where_nobody_knows_how_long_a_step_takes(tmp_path):
    plan, book = planner([job(i, n_steps=20) for i in range(3)], tmp_path)
    book.learn("peak", 0.1 / 8192, 8192)
    plan.timings.at_least("tau", time.perf_counter() - 0.35, 8192)
    # Known to take 0.35 s, the end would not be near; but this may take any time.
    assert plan.is_near_end(0.2, 10)


def test_planner__what_is_not_ours_is_safe_once_it_has_computed_something(tmp_path, monkeypatch):
    monkeypatch.setattr(planner_module, "_harmless", set())
    one = job()
    plan, book = planner([one], tmp_path)
    assert not plan.safe
    for name in PRINTS:
        book.learn(name, 1e-7)
    book.save()
    assert planner([one], tmp_path)[0].safe
    book.mark_deadly(["peak"])
    book.save()
    assert not planner([one], tmp_path)[0].safe


def test_planner__an_extractor_is_trusted_with_other_parameters(tmp_path, monkeypatch):
    monkeypatch.setattr(planner_module, "_harmless", set())
    one = job()
    (tmp_path / "first").mkdir()
    plan, book = planner([one], tmp_path / "first")
    plan.plan(one, SECONDS)
    problem = Problem(0, "transient", "tau", "error", "ProcessDied", "ended")
    record = ExperimentRecord("a", "a.h5", "failed", n_steps=5000, problems=(problem,))
    plan.learn(one, replace(record, seconds={"tau": 1.0}))
    assert not planner([one], tmp_path / "second")[0].safe
    plan.learn(one, ExperimentRecord("a", "a.h5", "done", n_steps=5000, seconds={"tau": 1.0}))
    book.save()
    assert planner([one], tmp_path / "second")[0].safe
    # Here it is known what it has done.
    assert not planner([one], tmp_path / "first")[0].safe


def test_planner__reading_has_a_part_that_is_the_same_for_any_number_of_steps(tmp_path):
    one = job()
    plan, book = planner([one], tmp_path)
    opening, per_step = 1e-3, 1e-4
    sizes = [1, 2, 4, 8]
    starts = np.cumsum([0, *sizes])
    parts = [
        Extracted("transient", start, start + n, {}, (), {"tau": 1e-3}, opening + n * per_step)
        for start, n in zip(starts[:-1], sizes, strict=True)
    ]
    plan.timings.probed(one.layouts["transient"], parts)
    assert plan.timings.cost("read transient") == pytest.approx(per_step / 10_000, rel=1e-12)
    assert book.get("open transient") == pytest.approx(opening, rel=1e-12)
    # A part that was disturbed does not count.
    parts[2] = replace(parts[2], reading=10 * parts[2].reading)
    plan.timings.probed(one.layouts["transient"], parts)
    assert plan.timings.cost("read transient") == pytest.approx(per_step / 10_000, rel=1e-12)


def test_planner__memory_bounds_batches_and_pressure_shrinks_them(tmp_path):
    one = job()
    plan, book = planner([one], tmp_path)
    for name in PRINTS:
        book.learn(name, 1e-12, 10_000)
    step_bytes = 8 * 10_000
    plan.limit_batches(8 * 100 * step_bytes)
    plan.plan(one, SECONDS)
    assert {batch.stop - batch.start for batch in one.batches} == {100}
    # A batch that may have been too large is divided in four; one of few samples is not.
    assert [p.stop - p.start for p in plan.pieces(one, one.batches[0])] == [25] * 4
    small = replace(one.batches[0], stop=10)
    assert plan.pieces(one, small) == [small]
    plan.shrink_batches()
    plan.plan(one, SECONDS)
    assert {batch.stop - batch.start for batch in one.batches} == {50}


def test_planner__a_source_that_is_missing(tmp_path):
    one = job()
    one.layouts = {}
    plan, _ = planner([one], tmp_path)
    plan.plan(one, SECONDS)
    assert one.batches == []
    assert plan.features == {}


def test_report__explains_the_plan(lab, tmp_path):
    features = {"peak": {"extractor": "transient.peak_current", "input": "transient"}}
    report = extract(lab, features, tmp_path / "out", progress=False)
    lines = report.explain().splitlines()
    assert lines[0] == "3 experiments to compute, 0 unchanged, 0 cannot be used"
    assert lines[1].startswith("way: ")
    (row,) = (line for line in lines if line.startswith("peak "))
    assert row.split()[:3] == ["peak", "15", str(report.plan.features[0].n_tasks)]
    again = extract(lab, features, tmp_path / "out", progress=False)
    assert again.explain() == "0 experiments to compute, 3 unchanged, 0 cannot be used"
    assert RunReport([], 0.0, "out").explain().startswith("0 experiments")


def test_prepare__jobs_know_their_logical_tasks(lab, tmp_path):
    features = FeatureSet.load("all")
    options = {"force": False, "expand_multidim": False, "topic": "t"}
    extractors = {f.name: f.extractor for f in features.extracted}
    jobs = list(find_work(sorted(lab.glob("*.h5")), features, tmp_path, **options))
    sources = [extractor.source for extractor in extractors.values()]
    for i, one in enumerate(jobs):
        expected = sources.count("transfer") * (4 + i) + sources.count("transient") * 5
        assert one.n_logical(extractors) == expected
