"""Workflows as flat parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from oectflow.pipeline.inputs.catalog import flatten_workflow
from oectflow.pipeline.inputs.catalog.store import Store
from oectflow.pipeline.inputs.catalog.workflow import comparable, intern_workflow
from oectflow.pipeline.inputs.experiment import Experiment


def test_flatten__as_the_software_in_use_until_now(
    shared_data: Path, expected: dict[str, Any]
) -> None:
    flows = {}
    for row in expected["catalog"]["rows"]:
        experiment = Experiment(shared_data / "oect_infra" / row["raw_file_path"])
        flows[row["test_id"]] = flatten_workflow(experiment.workflow)
    assert flows == expected["catalog"]["workflow_metadata"]
    assert sum(map(len, flows.values())) > 20


def test_flatten__one_step_lists_and_objects() -> None:
    step = {
        "type": "output",
        "id": 3,
        "params": {"V": [1, 2], "o": {"a": "ü"}, "n": None, "b": True},
    }
    assert flatten_workflow(step) == {
        "workflow_step_1_type": "output",
        "workflow_step_1_id": 3,
        "workflow_step_1_param_V": "[1, 2]",
        "workflow_step_1_param_o": '{"a": "ü"}',
        "workflow_step_1_param_n": None,
        "workflow_step_1_param_b": True,
    }


def test_flatten__nested_loops_are_numbered_per_level() -> None:
    inner = {"type": "loop", "iterations": 2, "steps": [{"type": "transfer"}]}
    flow = [{"type": "transient"}, {"type": "loop", "steps": [{"type": "transient"}, inner]}]
    assert flatten_workflow(flow)["workflow_step_2_2_1_type"] == "transfer"
    assert flatten_workflow(flow)["workflow_step_2_2_iterations"] == 2


def test_flatten__anything_else_is_empty() -> None:
    for nothing in (None, [], {}, "text", 3, [3, None], [{"steps": "x", "params": [1]}]):
        assert flatten_workflow(nothing) == {}


def test_flatten__endless_nesting() -> None:
    flow: list[Any] = [{"type": "transfer"}]
    for _ in range(200):
        flow = [{"type": "loop", "steps": flow}]
    assert len(flatten_workflow(flow)) < 200


def test_comparable() -> None:
    assert comparable(5) == comparable(5.0) == (5.0, None)
    assert comparable(True) == (1.0, None)
    assert comparable("5") == (None, "5")
    assert comparable(None) == (None, None)
    assert comparable(float("nan")) == (None, "nan")
    assert comparable(10**400)[1] is not None
    assert comparable("a\0b\ud800") == (None, "ab?")
    first, second = comparable("x" * 999 + "a")[1], comparable("x" * 999 + "b")[1]
    assert first != second
    assert first is not None
    assert len(first) < 300


def test_intern__once_for_all_who_share_it(url: str) -> None:
    store = Store(url)
    with store.write() as connection:
        first = intern_workflow(connection, {"workflow_step_1_type": "a\0", "k\0": "x" * 5000})
        assert (
            intern_workflow(connection, {"workflow_step_1_type": "a\0", "k\0": "x" * 5000}) == first
        )
        assert intern_workflow(connection, {"workflow_step_1_type": "b"}) != first
        assert intern_workflow(connection, {}) is None
    store.close()
