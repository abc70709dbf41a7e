"""Threads of this process compute batches, and write an experiment when all of it is there."""

from __future__ import annotations

import threading
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest

from oectflow.extractors.base import BaseExtractor, register
from oectflow.pipeline.execution.driving.find_work import find_work
from oectflow.pipeline.execution.driving.local import LocalThreads
from oectflow.pipeline.execution.driving.wakeups import Failed, Over
from oectflow.pipeline.execution.events import BatchDone
from oectflow.pipeline.execution.planning.actions import RunHere
from oectflow.pipeline.execution.planning.batches import StepBatch
from oectflow.pipeline.execution.worker.pickled_once import PickledOnce
from oectflow.pipeline.execution.worker.tasks import named_extractors
from oectflow.pipeline.features.feature_list import FeatureList
from oectflow.pipeline.outputs.sink import read_columns, read_metadata


@pytest.fixture
def threads(lab, tmp_path):
    """Threads whose feature waits at its last step until it may go on."""
    may_go_on = threading.Event()

    @register("transient.waits")
    class Waits(BaseExtractor):
        source = "transient"
        unit = "A"

        def extract_single_step(self, step_data, params):
            if step_data["continuous_time"][0] > 0:
                assert may_go_on.wait(60)
            return step_data["drain_current"].mean()

    features = FeatureList.load({"mean": {"extractor": "transient.waits", "input": "transient"}})
    (job,) = find_work(
        [lab / "device0.h5"], features, tmp_path, force=False, expand_multidim=False, topic="t",
        step_timeout=None,
    )  # fmt: skip
    extractors = {f.name: f.extractor for f in features.extracted}
    heard = SimpleQueue()
    local = LocalThreads(named_extractors(extractors), PickledOnce(features), heard.put)
    yield local, job.task, heard, may_go_on
    may_go_on.set()
    local.close()


def batch(start, stop):
    return (StepBatch("transient", start, stop, ("mean",)),)


@pytest.mark.parametrize("together", [True, False])
def test_written__only_when_what_began_before_is_done(threads, together):
    local, task, heard, may_go_on = threads
    local.run(task, RunHere(0, batch(0, 1), whole=False))
    assert isinstance(heard.get(timeout=60), BatchDone)
    local.run(task, RunHere(0, batch(1, 5), whole=False, together=together))
    # Nothing else is to be computed, but one batch is still under way.
    local.run(task, RunHere(0, (), whole=True, together=together))
    may_go_on.set()
    assert isinstance(heard.get(timeout=60), BatchDone)
    over = heard.get(timeout=60)
    assert isinstance(over, Over)
    assert over.record.outcome == "done"
    path = Path(over.record.out_path)
    found = read_columns(path, ["mean"], read_metadata(path))["mean"]
    assert np.isfinite(found).tolist() == [True] * 5
    assert heard.empty()


def test_failed__is_told(threads):
    local, task, heard, _ = threads
    local.run(task, RunHere(0, (StepBatch("transient", 0, 1, ("no such feature",)),)))
    assert isinstance(heard.get(timeout=60), Failed)
