"""A part of what ``benchmarks/watch.py`` plays in full: 1,000 appends, 200 folders, 5 kills."""

from __future__ import annotations

from tests.pipeline.watching.lab import FEATURES
from tests.pipeline.watching.simulation import Laboratory


def test_every_step_is_computed_once_and_nothing_is_missed(tmp_path):
    laboratory = Laboratory(tmp_path, n_appends=90, n_folders=18, n_kills=4, hours=0.5, seed=1)
    outcome = laboratory.run()
    assert laboratory.armed == ""
    assert outcome.missing == {}
    assert outcome.twice == {}
    n_steps = sum(outcome.expected.values())
    assert n_steps >= 90 + 18
    assert len(outcome.computed) == n_steps * len(FEATURES["features"])
