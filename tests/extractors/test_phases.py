"""Phases that several features of a batch share."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

from oectflow.extractors.base import get_extractor
from oectflow.extractors.tau import TauOnOff
from oectflow.measurement import Batch
from oectflow.pipeline.inputs.experiment import Experiment
from oectflow.pipeline.inputs.simulate import simulate_device

SHARING = ("crossing_times", "gate_charge", "gate_capacitance", "relaxation", "two_exponentials")


@pytest.fixture(scope="module")
def batch(tmp_path_factory) -> Batch:
    path = simulate_device(3, n_transient=3, n_cycles=4).write(
        tmp_path_factory.mktemp("p") / "a.h5"
    )
    return Experiment(path).batch("transient", 0, 3)


def extract(name: str, batch: Batch) -> dict[str, np.ndarray]:
    extractor = get_extractor(f"transient.{name}")
    return extractor.extract_batch(batch, extractor.params)


def alone(batch: Batch) -> Batch:
    return replace(batch, memo={})


@pytest.mark.parametrize("names", [SHARING, SHARING[::-1]])
def test_phases__shared_or_not_same_numbers(batch: Batch, names: tuple[str, ...]) -> None:
    shared = alone(batch)
    for name in names:
        columns, expected = extract(name, shared), extract(name, alone(batch))
        assert columns.keys() == expected.keys()
        for column, values in columns.items():
            np.testing.assert_array_equal(values, expected[column])
            # Whoever computes features marks steps that failed.
            values[[]] = 0


def test_phases__are_found_once(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    found = TauOnOff.extract_batch

    def counted(self, batch, params):
        calls.append(self)
        return found(self, batch, params)

    monkeypatch.setattr(TauOnOff, "extract_batch", counted)
    shared = alone(batch)
    for name in SHARING:
        extract(name, replace(shared, sample={}))
    assert len(calls) == 1


def test_phases__of_other_samples_are_others(batch: Batch) -> None:
    shared = alone(batch)
    first = extract("crossing_times", shared)
    double = batch.arrays | {"drain_current": 2.0 * batch.arrays["drain_current"]}
    second = extract("crossing_times", replace(shared, arrays=double))
    assert np.isfinite(first["begin_level"]).any()
    np.testing.assert_allclose(second["begin_level"], 2.0 * first["begin_level"], rtol=1e-12)


def test_batch__memo_stays_in_its_process(batch: Batch) -> None:
    shared = alone(batch)
    extract("gate_charge", shared)
    assert shared.memo
    assert pickle.loads(pickle.dumps(shared)).memo == {}
