"""The Dask graph of one experiment.

::

    read-transfer ──► gm_max+Von ──┐
    read-transient ─► tau ─────────┼──► derive ──► write
                      cycle_peaks ─┘                 ▲
    hash ────────────────────────────────────────────┘

If nobody would gain anything from dividing an experiment, all of this is one task, which is
called like its features.

If every step is a task, a derived feature whose steps can be computed separately is also one task
per step: ``tau ─► tau_ratio ─► derive``.

Every edge is a true dependency; there is no barrier between layers and nothing is gathered in the
client.  If all features of a range of steps run in one task, this task also reads the range.  A
task that takes long reads its range, too.

Keys are ``(label-submission, experiment, start, size)``, where the size is the number of logical
tasks, or for a read the step at which it ends: the dashboard groups tasks by the
label, which is the features' names, and cuts off the submission, eight hexadecimal digits.
"""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer

# A Task that is known to produce data from nothing is held back by the scheduler until a worker is
# free, so that memory stays bounded.
from oectflow.cluster.dask_internals import List, Task, TaskRef
from oectflow.pipeline.execution.planning.actions import Submit
from oectflow.pipeline.execution.planning.batches import Key, StepBatch, label_of
from oectflow.pipeline.execution.planning.work import ExperimentTask
from oectflow.pipeline.execution.worker.build_table import Extracted
from oectflow.pipeline.execution.worker.isolate import extract_isolated
from oectflow.pipeline.execution.worker.pickled_once import PickledOnce
from oectflow.pipeline.execution.worker.tasks import (
    NamedExtractor,
    derive_features,
    derive_step,
    extract_experiment,
    extract_features,
    hash_source,
    needed_arrays,
    read_and_extract,
    read_steps,
    write_experiment,
)
from oectflow.pipeline.features.feature_list import FeatureList

#: What a degree of urgency counts in experiments: more than there are.
_URGENT = 10**9
Graph = dict[Key, Any]


class GraphBuilder:
    """Builds the graphs of experiments.

    Parameters
    ----------
    specs
        The extractors of the features, by name.
    features
        The feature set, for the derived ones.
    by_step
        Whether derived features are computed step by step, where that is possible.
    """

    def __init__(
        self,
        specs: Mapping[str, NamedExtractor],
        features: PickledOnce[FeatureList],
        *,
        by_step: bool = False,
    ) -> None:
        self._specs = specs
        self._features = features
        self._by_step = by_step

    def batches(self, task: ExperimentTask, submit: Submit) -> tuple[Graph, dict[StepBatch, Key]]:
        """Build the graph of some batches of an experiment.

        Returns
        -------
        The graph, and the keys of the batches.
        """
        graph: Graph = {}
        # Only the end needs to know what is proved of the raw file.
        task = replace(task, trails={})
        # New keys at every submission: Dask must not take an earlier failure for the answer.
        add = _Adder(graph, task, uuid.uuid4().hex[:8])
        together: dict[tuple[str, int, int], list[NamedExtractor]] = {}
        # A long task reads for itself: one that has its steps already would be bound to where they
        # are.
        short = [batch for batch in submit.batches if not batch.urgency]
        for batch in short:
            in_batch = together.setdefault(batch.steps, [])
            in_batch += [self._specs[name] for name in batch.features]
        sharing = Counter(batch.steps for batch in short)
        reads: dict[tuple[str, int, int], TaskRef] = {}
        keys: dict[StepBatch, Key] = {}
        for batch in submit.batches:
            specs = tuple(self._specs[name] for name in batch.features)
            steps = batch.steps
            root = True
            if batch in submit.isolated:
                call: tuple[Any, ...] = (extract_isolated, task, specs, *steps)
            elif batch.urgency or sharing[steps] == 1:
                call = (read_and_extract, task, specs, *steps)
            else:
                if steps not in reads:
                    read = (read_steps, task, *steps, needed_arrays(together[steps]))
                    label = f"read-{batch.source}"
                    reads[steps] = add(label, batch.start, batch.stop, *read, root=True)
                call = (extract_features, task, specs, reads[steps])
                root = False
            keys[batch] = add(batch.label, batch.start, batch.n_logical, *call, root=root).key
        return graph, keys

    def experiment(
        self, task: ExperimentTask, submit: Submit, others: Sequence[Key | Extracted] = ()
    ) -> tuple[Graph, Key]:
        """Build the graph of an experiment to its end.

        Parameters
        ----------
        task
            The experiment.
        submit
            Its batches.
        others
            Parts of it that were computed before, or the keys of the tasks that compute them.

        Returns
        -------
        The graph, and the key of the sink, whose result is a small record.
        """
        if submit.as_one:
            return self._as_one(task, submit)
        graph, keys = self.batches(task, submit)
        add = _Adder(graph, task, uuid.uuid4().hex[:8])
        parts = [
            part if isinstance(part, Extracted) else TaskRef(part)
            for part in (*keys.values(), *others)
        ]
        if self._by_step:
            parts += self._derived_steps(task, keys, add)
        table = add("derive", 0, 0, derive_features, task, self._features, List(*parts))
        # Dask blames every task that was given to a worker which died.  If that was this one, it
        # comes after all others from now on, so that one of them is blamed.
        after = (table,) if submit.hash_last else ()
        digest = add("hash", 0, 0, hash_source, task, *after, root=not after)
        sink = add("write", 0, 0, write_experiment, task, self._features, table, digest)
        return graph, sink.key

    def _as_one(self, task: ExperimentTask, submit: Submit) -> tuple[Graph, Key]:
        together: dict[tuple[str, int, int], list[NamedExtractor]] = {}
        for batch in submit.batches:
            # Steps are read once for all that need them.
            in_batch = together.setdefault(batch.steps, [])
            in_batch += [self._specs[name] for name in batch.features]
        batches = [(tuple(specs), *steps) for steps, specs in together.items()]
        label = label_of([name for batch in submit.batches for name in batch.features])
        n_logical = sum(batch.n_logical for batch in submit.batches)
        graph: Graph = {}
        add = _Adder(graph, task, uuid.uuid4().hex[:8])
        call = (extract_experiment, task, self._features, batches)
        return graph, add(label, 0, n_logical, *call, root=True).key

    def _derived_steps(
        self, task: ExperimentTask, keys: Mapping[StepBatch, Key], add: _Adder
    ) -> list[TaskRef]:
        """Add a task for each step of the derived features whose inputs are all in the graph."""
        known = {
            (name, batch.start): TaskRef(key)
            for batch, key in keys.items()
            if batch.stop == batch.start + 1
            for name in batch.features
        }
        derived = []
        steps = range(task.n_rows)
        for feature in self._features.value.stepwise:
            needed = dict.fromkeys(feature.upstream)
            if all((name, step) in known for name in needed for step in steps):
                for step in steps:
                    inputs = List(*(known[name, step] for name in needed))
                    call = (derive_step, self._features, feature.name, step, inputs)
                    known[feature.name, step] = add(feature.name, step, 1, *call)
                    derived.append(known[feature.name, step])
        return derived


class _Adder:
    def __init__(self, graph: Graph, task: ExperimentTask, submission: str) -> None:
        self._graph, self._name, self._submission = graph, task.experiment_id, submission

    def __call__(
        self, label: str, start: int, n_logical: int, *call: Any, root: bool = False
    ) -> TaskRef:
        key = (f"{label}-{self._submission}", self._name, start, n_logical)
        self._graph[key] = Task(key, *call, _data_producer=root)
        return TaskRef(key)


def delayed(
    graph: Graph, keys: Sequence[Key], batches: Sequence[StepBatch], index: int
) -> list[Delayed]:
    """Make a graph of one experiment ready for ``client.compute``.

    Earlier experiments go first.  Two kinds of tasks go before all of them: tasks that take long
    and cannot be divided, so that short tasks are left for the end of a run; and tasks that derive
    and write, because they free memory.

    Few layers per experiment keep Dask's optimisation linear in the number of experiments; with a
    layer per task it is quadratic.

    Parameters
    ----------
    graph, keys
        The graph, and the keys to compute.
    batches
        The batches in the graph.
    index
        Position of the experiment in the run.
    """
    urgency = {(b.label, b.start, b.n_logical): b.urgency for b in batches}
    end = max(urgency.values(), default=0) + 1
    parts: defaultdict[int, Graph] = defaultdict(dict)
    for key, node in graph.items():
        label = key[0].rpartition("-")[0]
        at_the_end = label in ("derive", "write")
        parts[end if at_the_end else urgency.get((label, *key[2:]), 0)][key] = node
    layers = {
        f"experiment-{part}-{keys[0][0]}-{index}": MaterializedLayer(
            nodes, annotations={"priority": part * _URGENT - index, "retries": 1}
        )
        for part, nodes in sorted(parts.items())
    }
    # Long tasks need nothing, and the end needs all.
    *others, last = layers
    needs: dict[str, set[str]] = {name: set() for name in others}
    whole = HighLevelGraph(layers, needs | {last: set(others)})
    where = {key: layer for layer, nodes in layers.items() for key in nodes}
    return [Delayed(key, whole, layer=where[key]) for key in keys]
