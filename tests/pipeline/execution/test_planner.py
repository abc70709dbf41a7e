"""Costs are measured, remembered and refined; the plan follows them."""

from __future__ import annotations

import numpy as np
import pytest

from oectflow.extractors.base import BaseExtractor
from oectflow.pipeline.execution.costs import CostBook, measure_costs
from oectflow.pipeline.execution.plan import TARGET_SECONDS
from oectflow.pipeline.execution.planner import Planner
from oectflow.pipeline.execution.prepare import Job, prepare
from oectflow.pipeline.execution.report import ExperimentRecord, RunReport
from oectflow.pipeline.execution.run import extract
from oectflow.pipeline.features.feature_set import FeatureSet
from oectflow.pipeline.inputs.step_layout import Layout

PRINTS = {"tau": "abc", "peak": "def"}


class Transient(BaseExtractor):
    name = "transient.anything"
    source = "transient"


def job(index: int = 0, n_steps: int = 5000, samples: int = 10_000) -> Job:
    borders = np.arange(n_steps + 1)
    layout = Layout(n_steps, np.full(n_steps, samples), borders, 8)
    return Job(index, None, {"transient": layout}, ("tau", "peak"))


def planner(jobs, folder, n_workers=2, granularity="auto"):
    extractors = {"tau": Transient(), "peak": Transient()}
    book = CostBook(folder, PRINTS)
    return Planner(jobs, extractors, book, n_workers, granularity), book


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


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"a": "b"}', "\x00"])
def test_cost_book__a_damaged_one_is_begun_anew(tmp_path, content):
    (tmp_path / ".oectflow-costs.json").write_text(content)
    assert CostBook(tmp_path, PRINTS).get("tau") is None


def test_planner__batches_follow_the_costs_learnt(tmp_path):
    jobs = [job(0), job(1)]
    plan, book = planner(jobs, tmp_path)
    book.learn("tau", 1e-3 / 10_000)
    book.learn("peak", 1e-6 / 10_000)
    plan.plan(jobs[0])
    steps = [batch.stop - batch.start for batch in jobs[0].batches[:-1]]
    assert max(steps) <= TARGET_SECONDS / 1.001e-3 <= min(steps) + 2
    # The first experiment shows that a step takes twice as long.
    record = ExperimentRecord("a", "a.h5", "done", seconds={"tau": 10.0, "peak": 0.005})
    plan.learn(jobs[0], record)
    plan.plan(jobs[1])
    again = [batch.stop - batch.start for batch in jobs[1].batches[:-1]]
    assert max(again) < min(steps)
    row = plan.features["tau"]
    assert (row.n_steps, row.actual_seconds, row.timed) == (10_000, 10.0, True)
    assert row.n_tasks == len(jobs[0].batches) + len(jobs[1].batches)


def test_planner__a_source_that_is_missing(tmp_path):
    one = job()
    one.layouts = {}
    plan, _ = planner([one], tmp_path)
    plan.plan(one)
    assert one.batches == []
    assert plan.features == {}


def test_measure_costs__only_what_can_be_timed(lab):
    class Raising(Transient):
        def extract_single_step(self, step_data, params):
            raise RuntimeError

    class Fine(Transient):
        def extract_single_step(self, step_data, params):
            return 1.0

    path = str(sorted(lab.glob("*.h5"))[0])
    costs = measure_costs(path, {"raising": Raising(), "fine": Fine()})
    assert list(costs) == ["fine"]
    assert costs["fine"] > 0


def test_report__explains_the_plan(lab, tmp_path):
    features = {"peak": {"extractor": "transient.peak_current", "input": "transient"}}
    report = extract(lab, features, tmp_path / "out", progress=False)
    lines = report.explain().splitlines()
    assert lines[0].split() == [
        "feature", "steps", "tasks", "steps/task", "µs/step", "predicted", "actual",
    ]  # fmt: skip
    (row,) = lines[1:]
    assert row.split()[:3] == ["peak", "15", str(report.plan[0].n_tasks)]
    assert RunReport([], 0.0, "out").explain().count("\n") == 0


def test_prepare__jobs_know_their_logical_tasks(lab, tmp_path):
    features = FeatureSet.load("all")
    options = {"force": False, "expand_multidim": False, "topic": "t"}
    extractors = {f.name: f.extractor for f in features.extracted}
    jobs = list(prepare(sorted(lab.glob("*.h5")), features, tmp_path, **options))
    sources = [extractor.source for extractor in extractors.values()]
    for i, one in enumerate(jobs):
        expected = sources.count("transfer") * (4 + i) + sources.count("transient") * 5
        assert one.n_logical(extractors) == expected
