"""The Dask graph of one experiment.

::

    read-transfer ──► gm_max+Von ──┐
    read-transient ─► tau ─────────┼──► derive ──► write
                      cycle_peaks ─┘                 ▲
    hash ────────────────────────────────────────────┘

Every edge is a true dependency; there is no barrier between layers and nothing is gathered in the
client.  A range of steps whose features all run in one task is read inside that task, and so is
one for a task that takes long.

Keys are ``(label-submission, experiment, start, size)``, where the size is the number of logical
tasks, or for a read the step at which it ends: the dashboard groups tasks by the
label, which is the features' names, and cuts off the submission, eight hexadecimal digits.
"""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

# Private to Dask, and the only such import: a Task that is known to produce data from nothing is
# held back by the scheduler until a worker is free, so that memory stays bounded.
from dask._task_spec import List, Task, TaskRef
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from distributed import Future

from oectflow.pipeline.execution.driving.find_work import Job
from oectflow.pipeline.execution.planning.batches import StepBatch
from oectflow.pipeline.execution.worker.isolate import extract_isolated
from oectflow.pipeline.execution.worker.pickled_once import PickledOnce
from oectflow.pipeline.execution.worker.tasks import (
    FeatureSpec,
    derive_features,
    extract_features,
    hash_source,
    needed_arrays,
    read_and_extract,
    read_steps,
    write_experiment,
)
from oectflow.pipeline.features.feature_set import FeatureSet

Key = tuple[str, int, int, int]
#: What a degree of urgency counts in experiments: more than there are.
_URGENT = 10**9


def experiment_graph(
    job: Job, extracted: Mapping[str, FeatureSpec], features: PickledOnce[FeatureSet]
) -> tuple[dict[Key, Any], Key]:
    """Build the graph of one experiment.

    Parameters
    ----------
    job
        The experiment and its batches.
    extracted
        What computes them, by feature.
    features
        The feature set, for the derived ones.

    Returns
    -------
    The graph, and the key of the sink, whose result is a small record.
    """
    graph: dict[Key, Any] = {}
    task = job.task
    # New keys at every submission: Dask must not take an earlier failure for the answer.
    submission = uuid.uuid4().hex[:8]

    def add(label: str, start: int, n_logical: int, *call: Any, root: bool = False) -> TaskRef:
        key = (f"{label}-{submission}", job.index, start, n_logical)
        graph[key] = Task(key, *call, _data_producer=root)
        return TaskRef(key)

    together: dict[tuple[str, int, int], list[FeatureSpec]] = {}
    # A long task reads for itself: one that has its steps already would be bound to where they are.
    short = [batch for batch in job.batches if not batch.urgency]
    for batch in short:
        in_batch = together.setdefault((batch.source, batch.start, batch.stop), [])
        in_batch += [extracted[name] for name in batch.features]
    sharing = Counter((batch.source, batch.start, batch.stop) for batch in short)
    reads: dict[tuple[str, int, int], TaskRef] = {}
    parts = []
    for batch in job.batches:
        specs = tuple(extracted[name] for name in batch.features)
        steps = (batch.source, batch.start, batch.stop)
        root = True
        if batch in job.isolated:
            call: tuple[Any, ...] = (extract_isolated, task, specs, *steps)
        elif batch.urgency or sharing[steps] == 1:
            call = (read_and_extract, task, specs, *steps)
        else:
            if steps not in reads:
                read = (read_steps, task, *steps, needed_arrays(together[steps]))
                label_of_read = f"read-{batch.source}"
                reads[steps] = add(label_of_read, batch.start, batch.stop, *read, root=True)
            call = (extract_features, task, specs, reads[steps])
            root = False
        parts.append(add(batch.label, batch.start, batch.n_logical, *call, root=root))
    running = [TaskRef(one.key) for _, one in job.pending if isinstance(one, Future)]
    table = add("derive", 0, 0, derive_features, task, features, List(*parts, *job.done, *running))
    # Dask blames every task that was given to a worker which died.  If that was this one, it comes
    # after all others from now on, so that one of them is blamed.
    after = (table,) if job.attempts else ()
    digest = add("hash", 0, 0, hash_source, task, *after, root=not after)
    sink = add("write", 0, 0, write_experiment, task, features, table, digest)
    return graph, sink.key


def batches_of(key: Key, batches: Sequence[StepBatch]) -> list[StepBatch]:
    """Return the batches that a task computes, or reads for; none for the tasks at the end."""
    label, _, start, size = key
    label = label.rpartition("-")[0]
    return [
        batch
        for batch in batches
        if (label, start, size)
        in (
            (batch.label, batch.start, batch.n_logical),
            (f"read-{batch.source}", batch.start, batch.stop),
        )
    ]


def delayed_experiment(
    job: Job, extracted: Mapping[str, FeatureSpec], features: PickledOnce[FeatureSet]
) -> Delayed:
    """Build the graph of one experiment for ``client.compute``.

    Earlier experiments go first.  Before all of them goes what takes long and cannot be divided, so
    that short tasks are left for the end of a run, and to derive and write, which makes room.

    Few layers per experiment keep Dask's optimisation linear in the number of experiments; with a
    layer per task it is quadratic.
    """
    graph, sink = experiment_graph(job, extracted, features)
    urgency = {(b.label, b.start, b.n_logical): b.urgency for b in job.batches}
    end = max(urgency.values(), default=0) + 1
    parts: defaultdict[int, dict[Key, Any]] = defaultdict(dict)
    for key, node in graph.items():
        label = key[0].rpartition("-")[0]
        at_the_end = label in ("derive", "write")
        parts[end if at_the_end else urgency.get((label, *key[2:]), 0)][key] = node
    layers = {
        f"experiment-{part}-{sink[0]}-{job.index}": MaterializedLayer(
            nodes, annotations={"priority": part * _URGENT - job.index, "retries": 1}
        )
        for part, nodes in sorted(parts.items())
    }
    # Long tasks need nothing, and the end needs all.
    *others, last = layers
    needs: dict[str, set[str]] = {name: set() for name in others}
    return Delayed(sink, HighLevelGraph(layers, needs | {last: set(others)}), layer=last)
