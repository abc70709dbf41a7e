"""What is computed to find out what features cost."""

from __future__ import annotations

import time
from concurrent.futures import Future as LocalFuture

import pytest
from distributed import Future

from oectflow.extractors.base import BaseExtractor, register
from oectflow.pipeline.execution.driving import explore as explore_module
from oectflow.pipeline.execution.driving.explore import collect, explore
from oectflow.pipeline.execution.driving.find_work import find_work
from oectflow.pipeline.execution.driving.planner import Planner
from oectflow.pipeline.execution.planning.costs import CostBook
from oectflow.pipeline.features.feature_set import FeatureSet


@pytest.mark.parametrize(("are_here", "n_sent"), [(True, 1), (False, 2)])
def test_explore__what_is_computed_here_takes_a_core_from_workers_on_this_machine(
    lab, tmp_path, client, monkeypatch, are_here, n_sent
):
    @register("transient.waits")
    class Waits(BaseExtractor):
        source = "transient"

        def extract_single_step(self, step_data, params):
            time.sleep(1.0)
            return 1.0

    assert explore_module._are_here(client)
    monkeypatch.setattr(explore_module, "_are_here", lambda _: are_here)
    features = FeatureSet.load({"waits": {"extractor": "transient.waits", "input": "transient"}})
    jobs = list(
        find_work(
            sorted(lab.glob("*.h5")), features, tmp_path,
            force=True, expand_multidim=False, topic="topic",
        )
    )  # fmt: skip
    extractors = {one.name: one.extractor for one in features.extracted}
    planner = Planner(jobs, extractors, CostBook(tmp_path, {"waits": "print"}), "auto")
    planner.safe = True
    explore(jobs, planner, client, 0.01, 2)
    begun = [future for one in jobs for _, future in one.pending]
    assert sum(isinstance(future, Future) for future in begun) == n_sent
    for one in jobs:
        collect(one, planner, everything=True)
    steps = [(one.index, part.start) for one in jobs for part in one.done]
    assert steps == [(0, step) for step in range(1 + n_sent)]
    assert not any(isinstance(future, LocalFuture) for one in jobs for _, future in one.pending)
