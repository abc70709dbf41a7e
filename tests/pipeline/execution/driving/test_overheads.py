"""What a cluster costs is measured once, in steps, and corrected by what runs have shown."""

from __future__ import annotations

from dataclasses import replace

import pytest

from oectflow.pipeline.execution.driving.local import thread_overheads
from oectflow.pipeline.execution.driving.overheads import ClusterMeter, meter_of
from oectflow.pipeline.execution.driving.probe import ClusterProbe
from oectflow.pipeline.execution.events import Overheads
from oectflow.pipeline.execution.planning.decide import Decision

#: What a measurement takes, and whoever asks for the workers, in s.
MEASURING, ASKING = 0.012, 1e-4


class MadeUp:
    """Two workers of which it is known what they cost, and a clock that only they move."""

    def __init__(self, effective=2.0):
        self.now = 0.0
        self.effective = effective
        self.asked = []

    def clock(self):
        return self.now

    def threads(self):
        self.asked.append("threads")
        self.now += ASKING
        return {"a": 1, "b": 1}

    def expected(self, threads):
        return len(threads)

    def round_trip(self):
        self.asked.append("round_trip")
        self.now += 2e-3
        return 1e-3

    def measure(self, threads, known):
        self.asked.append("measure")
        self.now += MEASURING
        return Overheads(1e-3, 1e-4, 1e-4, 2, self.effective)


@pytest.fixture
def cluster():
    return MadeUp()


@pytest.fixture
def meter(cluster):
    return ClusterMeter(cluster, cluster.clock)


def test_meter__is_one_for_each_client(client):
    assert meter_of(client) is meter_of(client)


def test_overheads__are_measured_once_and_in_steps(cluster, meter):
    bound = Overheads(1e-3, 1e-3, 1e-3, 2, 2.0)
    assert meter.overheads(0.0) == bound
    assert meter.overheads(bound.round_trip) == bound
    assert cluster.asked == ["threads", "round_trip", "threads"]
    measured = meter.overheads(1e6)
    assert measured == Overheads(1e-3, 1e-4, 1e-4, 2, 2.0)
    assert meter.overheads(1e6) == measured
    assert cluster.asked.count("round_trip") == cluster.asked.count("measure") == 1


def test_overheads__workers_are_not_asked_for_again_for_little_work(cluster, meter):
    measured = meter.overheads(1e6)
    cluster.asked.clear()
    assert meter.overheads_if_worth_it(measured.round_trip) is None
    assert meter.overheads_if_worth_it(1.01 * measured.round_trip) == measured
    assert not cluster.asked
    assert meter.overheads_if_worth_it(1.0) == measured
    assert cluster.asked == ["threads"]


def test_correct__one_batch_shows_nothing_and_a_hundred_much(meter):
    measured = meter.overheads(1e6)
    alone = 1e3
    decision = Decision(True, 1, alone, alone / measured.effective, alone)
    meter.correct(decision, alone)
    assert meter.overheads(1e6) == measured
    meter.correct(replace(decision, n_batches=100), alone)
    corrected = meter.overheads(1e6)
    assert corrected.effective == pytest.approx((measured.effective + 1) / 2, rel=1e-9)
    assert corrected.spread >= measured.spread


def test_correct__what_a_run_has_shown_is_kept_for_as_long_as_a_measurement(cluster, meter):
    decision = Decision(True, 100, 1e3, 500.0, 1e3)
    cluster.now = 299.0
    assert meter.overheads(1e6).effective == 2.0
    meter.correct(decision, 1e3)
    corrected = meter.overheads(1e6).effective
    assert corrected == pytest.approx(1.5, rel=0.01)
    # A border between two five minutes means nothing.
    for cluster.now in (301.0, 598.0):
        assert meter.overheads(1e6).effective == corrected
    # Nor does a run that takes longer than five minutes lose what it has shown.
    cluster.now = 1000.0
    meter.correct(decision, 1e3)
    assert meter.overheads(1e6).effective < corrected
    assert cluster.asked.count("measure") == 1
    cluster.now = 1301.0
    assert meter.overheads(1e6).effective == 2.0
    assert cluster.asked.count("measure") == 2


@pytest.mark.parametrize(
    ("effective", "seconds_ago", "work", "is_measured"),
    [
        (1.0, 290.0, 1e6, True),
        # They do what they can; it was only just now; there is too little to gain.
        (2.0, 290.0, 1e6, False),
        (1.0, MEASURING, 1e6, False),
        (1.0, 290.0, 1e-3, False),
    ],
)
def test_measured_again__workers_that_seemed_busy(
    cluster, meter, effective, seconds_ago, work, is_measured
):
    cluster.effective = effective
    assert meter.overheads(1e6).effective == effective
    cluster.now += seconds_ago
    cluster.effective = 1.9
    again = meter.measured_again(work)
    assert cluster.asked.count("measure") == 1 + is_measured
    assert (again is not None) == is_measured
    if again is not None:
        assert again.effective == 1.9


def test_probe__asks_the_workers_of_a_cluster(client):
    probe = ClusterProbe(client)
    threads = probe.threads()
    assert probe.expected(threads) == sum(threads.values()) == 2
    trip = probe.round_trip()
    bound = Overheads(trip, trip, trip, 2, 2.0)
    measured = probe.measure(threads, bound)
    assert measured is not None
    assert 0 < measured.round_trip <= trip
    assert measured.per_batch > 0
    assert measured.per_worker > 0
    # Two processes get at most two cores, and clocks that are read one after the other agree to
    # better than 1 %.
    assert 1 <= measured.effective <= 2.02


def test_probe__does_not_wait_for_a_worker_that_has_left(client, monkeypatch):
    threads = {"tls://127.0.0.1:1": 1, **client.nthreads()}
    monkeypatch.setattr(client, "processing", lambda: dict.fromkeys(threads, ()))
    measured = ClusterProbe(client).measure(threads, Overheads(0.01, 0.01, 0.01, 3, 3.0))
    assert measured is not None
    assert measured.n_workers == 3


def test_threads__cost_microseconds():
    threads = thread_overheads()
    assert 0 < threads.round_trip < 1
    assert threads.effective == threads.n_workers >= 1
