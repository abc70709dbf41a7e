"""The graph of an experiment, and the order in which its tasks run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from oectflow.extractors.base import BaseExtractor
from oectflow.pipeline.execution.driving.graph import GraphBuilder, delayed
from oectflow.pipeline.execution.planning.actions import Submit
from oectflow.pipeline.execution.planning.batches import StepBatch, batches_of
from oectflow.pipeline.execution.planning.work import ExperimentTask
from oectflow.pipeline.execution.worker.build_table import Extracted
from oectflow.pipeline.execution.worker.pickled_once import PickledOnce
from oectflow.pipeline.execution.worker.tasks import named_extractors
from oectflow.pipeline.features.feature_list import FeatureList
from oectflow.pipeline.inputs.experiment import FileIdentity


class Transient(BaseExtractor):
    name = "transient.anything"
    source = "transient"


@pytest.fixture
def task(tmp_path):
    (tmp_path / "a.h5").touch()
    identity = FileIdentity.of(Path(tmp_path / "a.h5"))
    return ExperimentTask(
        "a.h5", identity, "a.parquet", "test_3", "c", "1", {"transient": 2}, (), False, "t", 3
    )


@pytest.fixture
def builder():
    features = FeatureList.load({"peak": {"extractor": "transient.peak_current"}})
    specs = named_extractors(dict.fromkeys(("peak", "on", "tau"), Transient()))
    return GraphBuilder(specs, PickledOnce(features))


def batches(urgency=0):
    return tuple(
        StepBatch("transient", step, step + 1, features, urgent)
        for step in range(2)
        for features, urgent in ((("peak",), 0), (("on",), 0), (("tau",), urgency))
    )


def label(key):
    return key[0].rpartition("-")[0]


def needs(graph):
    return {label(key): {label(one) for one in node.dependencies} for key, node in graph.items()}


def test_keys__name_the_experiment_and_lead_back_to_the_batches(task, builder):
    submit = Submit(3, batches())
    graph, sink = builder.experiment(task, submit)
    assert {key[1] for key in graph} == {"test_3"}
    assert label(sink) == "write"
    for key in graph:
        found = batches_of(key, submit.batches)
        if label(key) in ("peak", "on", "tau"):
            assert [(one.start, one.features) for one in found] == [(key[2], (label(key),))]
        elif label(key) == "read-transient":
            assert {one.start for one in found} == {key[2]}
            assert len(found) == 3
        else:
            assert found == []


def test_graph__steps_are_read_once_for_all_batches_of_them(task, builder):
    graph, _ = builder.experiment(task, Submit(3, batches()))
    found = needs(graph)
    assert found["peak"] == found["tau"] == {"read-transient"}
    assert found["derive"] == {"peak", "on", "tau"}
    assert found["write"] == {"derive", "hash"}
    assert sum(label(key) == "read-transient" for key in graph) == 2


def test_graph__long_tasks_go_first_and_read_for_themselves(task, builder):
    submit = Submit(3, batches(urgency=2))
    graph, sink = builder.experiment(task, submit)
    (one,) = delayed(graph, [sink], submit.batches, 3)
    layers = one.dask.layers.values()
    priority = {
        (label(key), key[2]): layer.annotations["priority"] for layer in layers for key in layer
    }
    of_short = {
        priority[name, step] for name in ("peak", "on", "read-transient") for step in (0, 1)
    }
    of_long = {priority["tau", step] for step in (0, 1)}
    of_end = {priority["derive", 0], priority["write", 0]}
    assert max(of_short) < 0 < min(of_long) < min(of_end)
    assert needs(graph)["tau"] == set()
    assert needs(graph)["peak"] == {"read-transient"}


def test_graph__isolated_batches_read_for_themselves(task, builder):
    submit = Submit(3, batches())
    isolated = replace(submit, isolated=frozenset(submit.batches[:1]))
    graph, keys = builder.batches(task, isolated)
    assert not graph[keys[submit.batches[0]]].dependencies
    assert graph[keys[submit.batches[1]]].dependencies


def test_graph__the_hash_comes_last_once_it_was_blamed(task, builder):
    submit = Submit(3, batches())
    assert needs(builder.experiment(task, submit)[0])["hash"] == set()
    again = replace(submit, hash_last=True)
    assert needs(builder.experiment(task, again)[0])["hash"] == {"derive"}


def test_graph__what_is_not_divided_is_one_task_that_reads_once(task, builder):
    others = tuple(StepBatch("transient", 0, 2, (name,)) for name in ("peak", "on"))
    submit = Submit(3, (*others, StepBatch("transient", 2, 3, ("tau",))), as_one=True)
    graph, sink = builder.experiment(task, submit)
    ((key, node),) = graph.items()
    assert sink == key
    assert (label(key), *key[1:]) == ("peak+on+tau", "test_3", 0, 5)
    assert not node.dependencies
    assert node.data_producer
    _, _, batches = node.args
    found = [([spec.name for spec in specs], *steps) for specs, *steps in batches]
    assert found == [(["peak", "on"], "transient", 0, 2), (["tau"], "transient", 2, 3)]
    (one,) = delayed(graph, [sink], submit.batches, 3)
    assert [layer.annotations["priority"] for layer in one.dask.layers.values()] == [-3]


def test_graph__what_was_computed_before_is_part_of_it(task, builder):
    part = Extracted("transient", 0, 1, {}, (), {"tau": 1.0})
    submit = Submit(3, batches()[3:])
    before, keys = builder.batches(task, Submit(3, batches()[:2], whole=False))
    graph, _ = builder.experiment(task, submit, [*keys.values(), part])
    (derive,) = (node for key, node in graph.items() if label(key) == "derive")
    assert set(keys.values()) <= derive.dependencies
    assert not set(keys.values()) & graph.keys()
    assert set(before) >= set(keys.values())


def test_graph__a_derived_feature_is_a_task_for_each_step_where_that_is_possible(task):
    features = FeatureList.load(
        {
            "peak": {"extractor": "transient.peak_current"},
            "half": {"func": "peak / 2"},
            "quarter": {"func": "half / 2"},
            "relative": {"func": "peak / peak.mean()"},
        }
    )
    specs = named_extractors({"peak": Transient()})
    submit = Submit(3, tuple(StepBatch("transient", i, i + 1, ("peak",)) for i in range(2)))
    whole, _ = GraphBuilder(specs, PickledOnce(features)).experiment(task, submit)
    assert "half" not in needs(whole)
    graph, _ = GraphBuilder(specs, PickledOnce(features), by_step=True).experiment(task, submit)
    found = {(label(key), key[2]): node.dependencies for key, node in graph.items()}
    for step in range(2):
        assert {(label(key), key[2]) for key in found["half", step]} == {("peak", step)}
        assert {(label(key), key[2]) for key in found["quarter", step]} == {("half", step)}
    assert needs(graph)["derive"] == {"peak", "half", "quarter"}
    assert "relative" not in needs(graph)


def test_graph__a_derived_feature_with_an_input_that_is_kept_waits_for_the_end(task):
    features = FeatureList.load(
        {
            "peak": {"extractor": "transient.peak_current"},
            "on": {"extractor": "transient.peak_current"},
            "ratio": {"func": "on / peak"},
        }
    )
    specs = named_extractors({"peak": Transient()})
    submit = Submit(3, tuple(StepBatch("transient", i, i + 1, ("peak",)) for i in range(2)))
    graph, _ = GraphBuilder(specs, PickledOnce(features), by_step=True).experiment(task, submit)
    assert "ratio" not in needs(graph)
