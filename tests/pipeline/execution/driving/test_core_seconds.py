"""Cores that a run holds while workers come and go."""

from __future__ import annotations

import threading

import pytest

from oectflow.pipeline.execution.driving import scheduler
from oectflow.pipeline.execution.driving.core_seconds import CoreSeconds


def test_total__is_the_area_under_the_number_of_cores():
    now = [10.0]
    held = CoreSeconds(lambda: now[0])
    assert held.total == 0.0
    for now[0], cores in ((10.0, 4), (20.0, 4), (30.0, 0), (130.0, 0), (140.0, 2)):
        held.see(cores)
    # 4 for 10 s, on average 2 for 10 s, none for 100 s, on average 1 for 10 s.
    assert held.total == pytest.approx(70.0, rel=1e-12)


def test_workers_watched__tells_how_many_cores_there_are(monkeypatch):
    """A batch system has taken the workers away, and gives them back."""
    monkeypatch.setattr(scheduler, "_INTERVAL", 0.001)
    there = iter([{"a": 1, "b": 2}, {}, {"c": 4}])
    seen: list[int] = []
    all_seen = threading.Event()

    class FakeClient:
        status = "running"

        def nthreads(self):
            return next(there, {"c": 4})

    def see(cores):
        seen.append(cores)
        if len(seen) == 3:
            all_seen.set()

    with scheduler.workers_watched(FakeClient(), see):
        assert all_seen.wait(60)
    assert seen[:3] == [3, 0, 4]
