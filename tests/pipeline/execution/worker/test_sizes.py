"""Dask knows how much memory the results of tasks take."""

from __future__ import annotations

import pickle
import tracemalloc

import numpy as np
import pytest
from dask.sizeof import sizeof

from oectflow.extractors.base import Variable
from oectflow.measurement import Batch
from oectflow.pipeline.execution.report import ExperimentRecord
from oectflow.pipeline.execution.worker.build_table import Extracted, Table
from oectflow.pipeline.execution.worker.pickled_once import PickledOnce
from oectflow.pipeline.execution.worker.run_extractor import Steps
from oectflow.pipeline.execution.worker.tasks import ExperimentTask, read_steps
from oectflow.pipeline.inputs.experiment import Experiment
from oectflow.pipeline.outputs.sink import Problem

MB = 1_000_000


def batch(n=MB // 8):
    """One megabyte for each of two arrays, of which one has two names."""
    time = np.arange(n, dtype=np.float64)
    arrays = {"time": time, "continuous_time": time, "Id": np.sin(time)}
    offsets = np.arange(0, n + 1, 1000, dtype=np.int64)
    return Batch(arrays, offsets, {"gate_period": np.ones(len(offsets) - 1)})


def problems(n=5000):
    return tuple(Problem(i, "transfer", "gm", "error", "ValueError", f"{i:0200}") for i in range(n))


MAKE = {
    "batch": batch,
    "views of one buffer": lambda: Batch(
        dict(zip("ab", np.ones((2, MB // 8)), strict=True)),
        np.array([0, MB // 8]),
    ),
    "steps": lambda: Steps("transient", batch()),
    "unreadable": lambda: Steps("transient", batch(0), {i: f"{i:0300}" for i in range(5000)}),
    "extracted": lambda: Extracted("transient", 0, 9, {"x": np.ones(MB // 8)}, problems(), {}),
    "table": lambda: Table(
        9, {"x": np.ones(MB // 8), "x_status": np.ones(MB, np.int8)},
        {"x": Variable("", "")}, {"x": "x"}, problems(9), {}, {},
    ),
    "list": lambda: [Extracted("t", 0, 9, {"x": np.ones(MB // 8)}, (), {}) for _ in range(4)],
}  # fmt: skip


@pytest.mark.parametrize("what", MAKE)
def test_sizes__are_what_python_has_allocated(what):
    """Within a tenth, held against ``tracemalloc``, which NumPy tells of its memory."""
    tracemalloc.start()
    thing = MAKE[what]()
    allocated, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert allocated > MB
    assert sizeof(thing) == pytest.approx(allocated, rel=0.1)


def test_sizes__of_what_came_over_the_network():
    """There, arrays are parts of one message."""
    thing = pickle.loads(pickle.dumps(Steps("transient", batch()), protocol=5))
    assert sizeof(thing) == pytest.approx(2 * MB, rel=0.1)


def test_sizes__of_small_things():
    pickled = PickledOnce(list(range(10_000)))
    payload = pickle.dumps(pickled)
    assert sizeof(pickle.loads(payload)) == pytest.approx(len(payload), rel=0.1)
    record = ExperimentRecord("a", "a.h5", "failed", problems=problems(20))
    assert 20 * 200 < sizeof(record) < 20 * 1000


def test_sizes__are_what_the_scheduler_knows(lab, tmp_path, client):
    path = str(lab / "device0.h5")
    experiment = Experiment(path)
    task = ExperimentTask(
        path, experiment.identity, "", "a", "", "", {"transient": 5}, (), False, "topic"
    )
    future = client.submit(read_steps, task, "transient", 0, 5, pure=False)
    steps = future.result()
    arrays = {id(array): array.nbytes for array in steps.batch.arrays.values()}
    assert sum(arrays.values()) > 10_000
    told = client.nbytes(summary=False)[future.key]
    assert told == pytest.approx(sum(arrays.values()), rel=0.1)
