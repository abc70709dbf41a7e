"""Decisions against a simulated cluster: never much slower than the best that was possible."""

from __future__ import annotations

import heapq
import itertools

import numpy as np
import pytest

from oectflow.pipeline.execution.planning.decide import Overheads, decide, wall_seconds


def simulate(costs, n_batches, overheads):
    """Return the wall time of equal batches, by playing a serial dispatcher and its workers."""
    workers = min(n_batches, overheads.n_workers)
    slower = workers / min(workers, overheads.effective)
    free = [0.0] * workers
    sent = end = 0.0
    for part in np.array_split(costs, n_batches):
        sent = max(sent + overheads.per_batch, free[0])
        finished = sent + float(part.sum()) * slower + overheads.per_worker
        heapq.heapreplace(free, finished)
        end = max(end, finished)
    return overheads.start + overheads.round_trip + end


def best_possible(costs, overheads):
    """Return the best of one process alone and of fixed batch sizes, chosen with hindsight."""
    numbers = sorted({int(n) for n in np.geomspace(1, len(costs), 40)})
    return min(float(costs.sum()), *(simulate(costs, n, overheads) for n in numbers))


def ratios(n_workers, variation):
    """Return how much longer than the best each of 45 jobs takes as decided, costs being known."""
    rng = np.random.default_rng(n_workers)
    found = []
    for per_batch, n, cost in itertools.product(
        (1e-4, 1e-3), (20, 400, 8000), (5e-6, 1e-4, 1e-3, 1e-2, 1.0)
    ):
        sigma = np.sqrt(np.log1p(variation**2))
        costs = cost * rng.lognormal(-(sigma**2) / 2, sigma, n)
        overheads = Overheads(5e-3, per_batch, 1.5 * per_batch, n_workers, n_workers)
        decision = decide(n * cost, n, overheads)
        took = simulate(costs, decision.n_batches, overheads) if decision.divide else costs.sum()
        found.append(took / best_possible(costs, overheads))
    return np.array(found)


@pytest.mark.parametrize("n_workers", [2, 8, 48, 96])
def test_decide__equal_costs_within_ten_percent_of_the_best(n_workers):
    # 10 % is the margin below which dividing is not tried, as it may not be real.
    assert ratios(n_workers, 0.0).max() <= 1.10


@pytest.mark.parametrize("n_workers", [2, 8, 48, 96])
def test_decide__varying_costs_nearly_always_within_ten_percent(n_workers):
    # Hindsight sees where the expensive steps are; no plan can.  So the bound holds for nine jobs
    # of ten, and the worst is the luck of one drawing of random costs.
    found = ratios(n_workers, 1.0)
    assert (found <= 1.10).mean() >= 0.9
    assert np.median(found) <= 1.02


def test_decide__few_expensive_steps_get_a_worker_each():
    # 20 × 1 s on 48 workers: one step for each, not one after the other.
    decision = decide(20.0, 20, Overheads(5e-3, 1e-3, 2e-3, 48, 48.0))
    assert decision.divide
    assert decision.n_batches == 20


def test_decide__a_slow_dispatcher_is_given_fewer_batches_than_there_are_workers():
    # 40 ms of work, 1 ms per batch: the root of 40 is 6; with a batch for each of 96 workers the
    # dispatcher alone would take longer than the work.
    decision = decide(8000 * 5e-6, 8000, Overheads(2e-3, 1e-3, 0.0, 96, 96.0))
    assert decision.divide
    assert 4 <= decision.n_batches <= 10


def test_decide__workers_that_share_cores():
    # Two processes with a core and a tenth do not gain what the margin asks for.
    crowded = Overheads(5e-3, 1e-3, 2e-3, 2, 1.1)
    assert not decide(100.0, 1000, crowded).divide
    assert decide(100.0, 1000, Overheads(5e-3, 1e-3, 2e-3, 2, 1.5)).divide
    # Nor is a speed-up believed that was measured badly.
    assert not decide(100.0, 1000, Overheads(5e-3, 1e-3, 2e-3, 2, 1.5, spread=0.6)).divide


def test_decide__the_start_of_a_cluster_has_to_be_earned():
    start = Overheads(0.0, 0.0, 0.0, 4, 4.0, start=5.0)
    assert not decide(5.0, 1000, start).divide
    assert decide(60.0, 1000, start).divide


def test_decide__long_work_comes_in_batches_that_are_just_long_enough():
    overheads = Overheads(5e-3, 1e-3, 2.5e-3, 2, 2.0)
    decision = decide(1e4, 1_000_000, overheads)
    # 2.5 ms are 1 % of 0.25 s.
    assert overheads.enough == pytest.approx(0.25, rel=1e-12)
    assert decision.batch_seconds == pytest.approx(0.25, rel=1e-3)


def test_decide__what_one_has_to_write_cannot_be_divided():
    overheads = Overheads(5e-3, 1e-3, 2e-3, 4, 4.0)
    # 0.1 s of one experiment are written after 10 ms of work: nothing to gain.
    assert not decide(0.01, 100, overheads, 1, 0.1).divide
    # The same of forty experiments can be shared.
    many = decide(0.4, 4000, overheads, 40, 4.0)
    assert many.divide
    assert many.alone == pytest.approx(4.4, rel=1e-12)
    assert many.predicted >= 4.4 / 4


@pytest.mark.parametrize(("seconds", "n_items"), [(0.0, 0), (0.0, 10), (1.0, 0), (-1e-20, 5)])
def test_decide__nothing_to_do(seconds, n_items):
    assert not decide(seconds, n_items, Overheads(1e-3, 1e-3, 1e-3, 2, 2.0)).divide


@pytest.mark.parametrize("n_batches", [1, 2, 3, 7, 48, 200])
def test_wall_seconds__agrees_with_the_simulation(n_batches):
    overheads = Overheads(5e-3, 1e-3, 2e-3, 8, 6.0)
    costs = np.full(200, 1e-2)
    predicted = wall_seconds(2.0, 200, n_batches, overheads)
    played = simulate(costs, n_batches, overheads)
    # The model adds what varying costs would take, and rounds the last round up: at most one
    # batch and the expected lateness more than what was played, never less by more than the
    # unevenness of batches of whole steps (one step).
    step = 1e-2 * 8 / 6
    batch = 2.0 / n_batches * min(8, n_batches) / min(6, n_batches) + 2e-3
    late = np.sqrt(2 * np.log(min(8, n_batches)) * 200 / n_batches * -(-n_batches // 8)) * step / 2
    assert played - step - 1e-9 <= predicted <= played + batch + late + 1e-9


def test_decide__batches_are_as_long_as_is_enough_and_go_round_evenly():
    overheads = Overheads(7e-3, 1.9e-3, 1e-3, 96, 96.0)
    # The shortest length at which the dispatcher is busy for half of the time.
    assert overheads.enough == pytest.approx(2 * 96 * 1.9e-3, rel=1e-12)
    decision = decide(341.0, 3600, overheads)
    # 341 s / 0.365 s are 935 batches, or 9.7 for each worker.
    assert decision.n_batches == 10 * 96


def test_decide__many_experiments_are_left_whole():
    overheads = Overheads(5e-3, 1e-3, 2e-3, 1000, 1000.0)
    # Long enough are 2 s. Divided, 10,000 experiments of 8 s would be 80,000 tasks, which keep the
    # dispatcher busy for as long as the workers.
    assert decide(8e4, 80_000, overheads, 10_000).n_batches == 10_000
    # A lost worker would lose too much of longer ones.
    assert decide(4e5, 400_000, overheads, 10_000).batch_seconds <= 2 * overheads.enough
    # With two experiments for three workers, or little more than one for each, one has to wait.
    for n_experiments in (600, 1100):
        few = decide(8.0 * n_experiments, 8 * n_experiments, overheads, n_experiments)
        assert few.n_batches > n_experiments
