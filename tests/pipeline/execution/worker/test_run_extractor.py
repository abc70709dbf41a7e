"""Errors of extractors become data, and stay in their step."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from oectflow.extractors.base import ABSENT, ERROR, OK, BaseExtractor, Variable, get_extractor
from oectflow.measurement import Batch
from oectflow.pipeline.execution.worker.run_extractor import Steps, run_extractor, value_columns


class Mean(BaseExtractor):
    name = "transient.test_mean"
    source = "transient"

    def extract_single_step(self, step_data, params):
        if len(step_data["x"]) == 0:
            raise ValueError("empty step")
        return step_data["x"].mean()


class PerCycle(Mean):
    name = "transient.test_per_cycle"

    @property
    def output_shape(self):
        return ("n_cycles", 2)

    @property
    def variables(self):
        value = super().variables["value"]
        status = super().variables["status"]
        return {
            "value": value,
            "status": Variable(
                "", "", value.shape, value.dims, dtype="int8", statuses=status.statuses
            ),
        }

    def extract_single_step(self, step_data, params):
        if len(step_data["x"]) == 0:
            raise ValueError("empty step")
        n = len(step_data["x"]) // 2
        return {"value": np.ones((n, 2)), "status": np.zeros((n, 2), np.int8)}


def steps(*lengths: int, unreadable: dict[int, str] | None = None) -> Steps:
    batch = Batch.from_steps([{"x": np.arange(float(n)), "gate_period": 0.2} for n in lengths])
    batch = replace(batch, timing_source=("step",) * len(lengths))
    return Steps("transient", batch, unreadable or {})


def test_evaluate__an_exception_costs_its_step_only():
    columns, errors = run_extractor(Mean(), steps(3, 0, 5))
    np.testing.assert_array_equal(columns["value"], [1.0, np.nan, 2.0])
    np.testing.assert_array_equal(columns["status"], [OK, ERROR, OK])
    assert errors == {1: ("ValueError", "empty step")}


def test_evaluate__an_unreadable_step_is_not_computed():
    columns, errors = run_extractor(Mean(), steps(3, 3, unreadable={0: "bad checksum"}))
    np.testing.assert_array_equal(columns["status"], [ERROR, OK])
    assert np.isnan(columns["value"][0])
    assert errors == {0: ("UnreadableFile", "bad checksum")}


def test_evaluate__a_shared_result_is_marked_for_each_feature_alone():
    k = np.arange(400)
    one = {
        "drain_current": np.where(
            k // 20 % 2, 1.0 - np.exp(-(k % 20) / 5.0), np.exp(-(k % 20) / 5.0)
        ),
        "original_time": 1e-3 * k,
        "sampling_interval": 1e-3,
        "gate_period": 0.04,
        "duty_cycle": 0.5,
    }
    batch = Batch.from_steps([one, one])
    whole, tau = get_extractor("transient.crossing_times"), get_extractor("transient.tau_on_off")
    alone, _ = run_extractor(tau, Steps("transient", batch, {}))
    shared = replace(batch, memo={})
    for extractor in (whole, tau, tau):
        columns, errors = run_extractor(extractor, Steps("transient", shared, {0: "bad checksum"}))
        assert list(errors) == [0]
        assert (columns["status"][0] == ERROR).all()
        assert np.isnan(columns["value"][0]).all()
        assert (columns["status"][1] != ERROR).all()
    # What the mark was made in was a copy.
    columns, _ = run_extractor(tau, Steps("transient", shared, {}))
    for name, values in alone.items():
        np.testing.assert_array_equal(columns[name], values)


def test_evaluate__per_cycle_results_are_padded_and_errors_fill_the_row():
    columns, errors = run_extractor(PerCycle(), steps(2, 0, 6))
    assert columns["value"].shape == (3, 3, 2)
    np.testing.assert_array_equal(columns["status"][0, :, 0], [OK, ABSENT, ABSENT])
    assert (columns["status"][1] == ERROR).all()
    assert np.isnan(columns["value"][1]).all()
    assert (columns["status"][2] == OK).all()
    assert list(errors) == [1]


def test_evaluate__every_step_fails():
    columns, errors = run_extractor(PerCycle(), steps(0, 0))
    assert columns["value"].shape == (2, 1, 2)
    assert (columns["status"] == ERROR).all()
    assert list(errors) == [0, 1]


def test_evaluate__a_failing_batch_is_done_step_by_step():
    class Batched(Mean):
        def extract_batch(self, batch, params):
            raise RuntimeError("one bad step spoils the batch")

    columns, errors = run_extractor(Batched(), steps(3, 0, 5))
    np.testing.assert_array_equal(columns["value"], [1.0, np.nan, 2.0])
    assert errors == {1: ("ValueError", "empty step")}


@pytest.mark.parametrize(
    "returned",
    [
        {"value": np.array([1.0, 2.0, 3.0]), "status": np.array([OK, 4, OK], np.int8)},
        {"value": np.array([1.0, 2.0, 3.0]), "status": np.array([0, 256, 0])},
        {"value": np.array([1.0, 2.0j, 3.0]), "status": np.zeros(3, np.int8)},
        {"value": np.array([1.0, None, 3.0]), "status": np.zeros(3, np.int8)},
        {"value": np.array(["1", "2", "3"]), "status": np.zeros(3, np.int8)},
        {"value": np.ma.masked_equal([1.0, 2.0, 3.0], 2.0), "status": np.zeros(3, np.int8)},
        {"value": np.ones(2), "status": np.zeros(2, np.int8)},
        {"value": np.ones((3, 2)), "status": np.zeros(3, np.int8)},
        {"value": np.ones(3)},
        None,
    ],
)
def test_evaluate__a_batch_that_is_not_as_declared_is_done_step_by_step(returned):
    class Batched(Mean):
        def extract_batch(self, batch, params):
            return returned

    columns, errors = run_extractor(Batched(), steps(3, 0, 5))
    np.testing.assert_array_equal(columns["value"], [1.0, np.nan, 2.0])
    np.testing.assert_array_equal(columns["status"], [OK, ERROR, OK])
    assert list(errors) == [1]


def test_evaluate__a_status_code_without_a_word_costs_its_step():
    class Off(Mean):
        statuses: ClassVar = {"weak": "little signal"}

        def extract_single_step(self, step_data, params):
            return {"value": 1.0, "status": len(step_data["x"])}

    columns, errors = run_extractor(Off(), steps(3, 4, 0))
    np.testing.assert_array_equal(columns["status"], [3, ERROR, OK])
    np.testing.assert_array_equal(columns["value"], [1.0, np.nan, 1.0])
    assert errors[1][0] == "ValueError"
    assert "status code 4, its words have the codes 0 to 3" in errors[1][1]


def test_evaluate__a_wrong_shape_is_an_error_that_names_it():
    class Wrong(Mean):
        def extract_single_step(self, step_data, params):
            return np.zeros(3)

    _, errors = run_extractor(Wrong(), steps(2))
    assert errors[0][0] == "ValueError"
    assert "shape (3,)" in errors[0][1]


def test_evaluate__an_exception_without_text_still_says_something():
    class Silent(Mean):
        def extract_single_step(self, step_data, params):
            raise KeyError

    assert run_extractor(Silent(), steps(2))[1] == {0: ("KeyError", "KeyError()")}


def test_value_columns__words_as_codes():
    columns = value_columns(steps(2, 2))
    np.testing.assert_array_equal(columns["gate_period"], [0.2, 0.2])
    assert np.isnan(columns["sampling_interval"]).all()
    assert columns["timing_source"].tolist() == [2, 2]
