"""What is left of a run, and what it costs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from oectflow.pipeline.execution.events import BatchDone, Ended, Overheads
from oectflow.pipeline.execution.planning.batches import StepBatch
from oectflow.pipeline.execution.planning.costs import CostBook, Costs
from oectflow.pipeline.execution.planning.ledger import Ledger
from oectflow.pipeline.execution.planning.work import Job, Trait, n_logical
from oectflow.pipeline.inputs.step_layout import Layout

SECONDS = 0.25
TRAITS = {"tau": Trait("transient"), "peak": Trait("transient")}
FREE = Overheads(0.0, 0.0, 0.0, 2, 2.0)


def job(index=0, n_steps=5000, samples=10_000):
    layout = Layout(n_steps, np.full(n_steps, samples), np.arange(n_steps + 1), 8)
    task = SimpleNamespace(n_rows=n_steps, experiment_id=f"test_{index}")
    return Job(index, task, {"transient": layout}, ("tau", "peak"))


def ledger(jobs, **per_sample):
    book = CostBook({})
    for name, cost in per_sample.items():
        name = name.replace("_", " ")
        book.learn(name, cost, 5000 if name == "write" else 10_000)
    return Ledger(jobs, TRAITS, Costs(book))


def steps(batches):
    return [batch.stop - batch.start for batch in batches]


def test_batches__follow_the_costs_learnt():
    jobs = [job(0), job(1)]
    book = ledger(jobs, tau=1e-7, peak=1e-10)
    first = book.batches(jobs[0], SECONDS)
    # 5 s in all are 20 batches, and so little more that there is none for it.
    assert len(first) == 20
    assert max(steps(first)) == 250
    for batches in (first, []):
        book.foresee(jobs[0])
        book.handed_out(batches)
    # The first experiment shows that a step takes twice as long.
    book.ended(jobs[0], Ended(0, 5000, 0, {"tau": 10.0, "peak": 0.005}))
    assert max(steps(book.batches(jobs[1], SECONDS))) < max(steps(first))
    row = book.features["tau"]
    assert (row.n_steps, row.actual_seconds, row.timed, row.n_tasks) == (10_000, 10.0, True, 20)


def test_left__shrinks_to_nothing():
    jobs = [job(i) for i in range(3)]
    book = ledger(jobs, tau=2e-7, peak=0.5e-7, read_transient=1e-7, write=1e-5)
    one = 5000 * 10_000 * 3.5e-7 + 5000 * 1e-5
    assert book.seconds_left() == pytest.approx(3 * one, rel=1e-12)
    book.begun(jobs[0], [StepBatch("transient", 0, 1000, ("tau", "peak"))])
    assert book.seconds_left() == pytest.approx(3 * one - 1000 * 10_000 * 3.5e-7, rel=1e-12)
    assert min(batch.start for batch in book.batches(jobs[0], SECONDS)) == 1000
    decision = book.decide(FREE)
    assert decision.divide
    # As quick as two workers can be, but for how unevenly the last batches may end.
    assert decision.alone / 2 <= decision.predicted < 1.02 * decision.alone / 2
    for i, one_job in enumerate(jobs):
        book.ended(one_job, Ended(i, 5000))
    assert book.seconds_left() == pytest.approx(0.0, abs=1e-9 * one)
    assert not book.decide(FREE).divide


def test_left__what_was_handed_out_for_some_features_only():
    one = job(n_steps=20)
    book = ledger([one], tau=1e-7, peak=1e-7)
    book.begun(one, [StepBatch("transient", 0, 1, ("tau", "peak"))])
    book.begun(one, [StepBatch("transient", 1, 2, ("tau",))])
    assert book.seconds_left() == pytest.approx((18 + 19) * 1e-3, rel=1e-12)
    left = Counter(name for batch in book.batches(one, 1e-3) for name in batch.features)
    assert left == {"tau": 18, "peak": 19}


def test_done__an_event_tells_of_its_own_experiment():
    """Not of the one that was planned last, whose steps may be of another length."""
    jobs = [job(0, 20, 10_000), job(1, 20, 100)]
    book = ledger(jobs, tau=1e-5, peak=1e-9, read_transient=1e-5)
    book.done(jobs[0], BatchDone(0, "transient", 0, 2, {"tau": 8.0}))
    assert book.alone_done == pytest.approx(2 * 10_000 * 2e-5, rel=1e-12)
    book.done(jobs[1], BatchDone(1, "transient", 0, 2, {"tau": 8.0}))
    assert book.alone_done == pytest.approx(2 * 10_100 * 2e-5, rel=1e-12)


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
def test_near_end(n_jobs, long, near):
    # The class of lengths to which 10,000 samples belong begins at 8192.
    book = ledger([job(i, 20) for i in range(n_jobs)], tau=long / 8192, peak=0.1 / 8192)
    assert book.is_near_end(0.2, 10) is near


def test_memory__bounds_batches_and_pressure_shrinks_them():
    one = job()
    book = ledger([one], tau=1e-12, peak=1e-12)
    step_bytes = 8 * 10_000
    book.limit_batches(8 * 100 * step_bytes)
    batches = book.batches(one, SECONDS)
    assert set(steps(batches)) == {100}
    # A batch that may have been too large is divided in four; one of few samples is not.
    assert steps(book.pieces(one, batches[0])) == [25] * 4
    small = replace(batches[0], stop=10)
    assert book.pieces(one, small) == [small]
    book.shrink_batches()
    assert set(steps(book.batches(one, SECONDS))) == {50}


def test_memory__in_flight_is_known_once_an_experiment_has_shown_it():
    jobs = [job(0, 50, 1000), job(1, 100, 1000)]
    book = ledger(jobs)
    assert book.bytes_in_flight(100, jobs[1].n_sample_bytes) == 100 * 1000 * 8
    book.ended(jobs[0], Ended(0, 50, 50 * 64))
    assert book.bytes_in_flight(100, jobs[1].n_sample_bytes) == 2 * 100 * 64


def test_a_source_that_is_missing():
    one = replace(job(), layouts={})
    book = ledger([one])
    book.foresee(one)
    assert book.batches(one, SECONDS) == []
    assert book.features == {}
    assert book.unknown(one) == []
    assert n_logical(one, TRAITS) == 0


def test_ended__costs_of_threads_that_wait_for_each_other_say_little():
    jobs = [job(0), job(1)]
    book = ledger(jobs, tau=1e-7)
    book.ended(jobs[0], Ended(0, 5000, 0, {"tau": 100.0}), costs=False)
    assert book.costs.of("tau", 10_000) == 1e-7
    book.ended(jobs[1], Ended(1, 5000, 0, {"tau": 100.0}))
    assert book.costs.of("tau", 10_000) > 1e-7
