"""What a cluster costs is measured once, in steps, and corrected by what runs have shown."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from distributed import Client

from oectflow.pipeline.execution.driving import overheads
from oectflow.pipeline.execution.driving.local import thread_overheads
from oectflow.pipeline.execution.driving.overheads import ClusterMeter, meter_of
from oectflow.pipeline.execution.events import Overheads
from oectflow.pipeline.execution.planning.decide import Decision


def test_meter__is_one_for_each_client(client):
    assert meter_of(client) is meter_of(client)


def test_overheads__are_measured_once_and_in_steps(client, monkeypatch):
    meter = ClusterMeter(client)

    def submitted():
        # Results that are released are forgotten a moment later.
        time.sleep(0.2)
        return client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.transition_counter)

    bounds = meter.overheads(0.0)
    assert bounds.round_trip == bounds.per_batch == bounds.per_worker > 0
    assert (bounds.n_workers, bounds.effective) == (2, 2.0)
    before = submitted()
    assert meter.overheads(bounds.round_trip) == bounds
    assert submitted() == before
    measured = meter.overheads(1e6)
    assert submitted() > before
    assert measured.per_batch > 0
    assert measured.per_worker > 0
    # Two processes get at most two cores, and clocks that are read one after the other agree to
    # better than 1 %.
    assert 1 <= measured.effective <= 2.02
    before = submitted()
    assert meter.overheads(1e6) == measured
    assert submitted() == before
    # For little work, the workers are not asked for again.
    with monkeypatch.context() as patched:
        patched.delattr(Client, "nthreads")
        assert meter.overheads_if_worth_it(measured.round_trip) is None
        assert meter.overheads_if_worth_it(1.01 * measured.round_trip) == measured
    # One batch shows nothing; a hundred that took as long as one process would have, much.
    alone = 1e3
    decision = Decision(True, 1, alone, alone / measured.effective, alone)
    meter.correct(decision, alone)
    assert meter.overheads(1e6) == measured
    meter.correct(replace(decision, n_batches=100), alone)
    corrected = meter.overheads(1e6)
    assert corrected.effective == pytest.approx((measured.effective + 1) / 2, rel=1e-9)
    assert corrected.spread >= measured.spread


class Quiet:
    """Stands for a client whose two workers are idle."""

    cluster = None
    status = "running"

    def nthreads(self):
        return {"a": 1, "b": 1}

    def processing(self):
        return {"a": (), "b": ()}


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def seen(monkeypatch):
    """Measurements that were made; the next one finds ``seen.next``."""

    class Seen(list):
        next = Overheads(1e-3, 1e-4, 1e-4, 2, 2.0)

    seen = Seen()

    def measure(*args):
        seen.append(args)
        return seen.next

    monkeypatch.setattr(overheads, "_measure", measure)
    monkeypatch.setattr(overheads, "_round_trip", lambda client: 1e-3)
    return seen


def test_correct__what_a_run_has_shown_is_kept_for_as_long_as_a_measurement(seen):
    client, clock = Quiet(), Clock()
    meter = ClusterMeter(client, clock)
    decision = Decision(True, 100, 1e3, 500.0, 1e3)
    clock.now = 299.0
    assert meter.overheads(1e6).effective == 2.0
    meter.correct(decision, 1e3)
    corrected = meter.overheads(1e6).effective
    assert corrected == pytest.approx(1.5, rel=0.01)
    # A border between two five minutes means nothing.
    for clock.now in (301.0, 598.0):
        assert meter.overheads(1e6).effective == corrected
    # Nor does a run that takes longer than five minutes lose what it has shown.
    clock.now = 1000.0
    meter.correct(decision, 1e3)
    assert meter.overheads(1e6).effective < corrected
    assert len(seen) == 1
    clock.now = 1301.0
    assert meter.overheads(1e6).effective == 2.0
    assert len(seen) == 2


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
def test_measured_again__workers_that_seemed_busy(seen, effective, seconds_ago, work, n_measured):
    client, clock = Quiet(), Clock()
    meter = ClusterMeter(client, clock)
    seen.next = Overheads(1e-3, 1e-4, 1e-4, 2, effective)

    def measure_slowly(*args):
        clock.now += 1.0
        return seen.next

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(overheads, "_measure", measure_slowly)
        assert meter.overheads(1e6).effective == effective
    clock.now += min(seconds_ago, 290.0)
    seen.next = replace(seen.next, effective=1.9)
    again = meter.measured_again(work)
    assert len(seen) == n_measured
    assert (again is not None) == bool(n_measured)
    if again is not None:
        assert again.effective == 1.9


def test_threads__cost_microseconds():
    threads = thread_overheads()
    assert 0 < threads.round_trip < 1
    assert threads.effective == threads.n_workers >= 1
