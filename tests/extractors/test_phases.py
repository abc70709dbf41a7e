"""Phases that several features of a batch share."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

from oectflow.extractors.base import COMMON_STATUSES, get_extractor
from oectflow.extractors.phases import whole_phases
from oectflow.extractors.tau import TauOnOff
from oectflow.measurement import Batch
from oectflow.pipeline.inputs.experiment import Experiment
from oectflow.pipeline.inputs.simulate import simulate_device

SHARING = ("crossing_times", "gate_charge", "gate_capacitance", "relaxation", "two_exponentials")
TAU = "tau_on_off"


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


@pytest.mark.parametrize("names", [(*SHARING, TAU), (TAU, *SHARING[::-1])])
def test_phases__shared_or_not_same_numbers(batch: Batch, names: tuple[str, ...]) -> None:
    shared = alone(batch)
    for name in names:
        columns, expected = extract(name, shared), extract(name, replace(batch, memo=None))
        assert columns.keys() == expected.keys()
        for column, values in columns.items():
            np.testing.assert_array_equal(values, expected[column])


def test_phases__are_found_once(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    found = TauOnOff._fit

    def counted(self, batch, params):
        calls.append(self)
        return found(self, batch, params)

    monkeypatch.setattr(TauOnOff, "_fit", counted)
    shared = alone(batch)
    for name in (*SHARING, TAU):
        extract(name, replace(shared, sample={}))
    assert len(calls) == 1


def test_phases__are_fitted_again_where_the_swing_decides(batch: Batch) -> None:
    # The current jumps by 92 % of what it does, and relaxes by 4 %.
    k = np.arange(100.0)
    cycle = np.concatenate([1.0 - 0.04 * np.exp(-k / 15.0), 0.04 * np.exp(-k / 15.0)])
    noise = 1e-7 * np.random.default_rng(0).normal(size=800)
    current = batch.arrays["drain_current"].copy()
    current[batch.offsets[1] : batch.offsets[2]] = 1e-3 * np.tile(cycle, 4) + noise
    batch = replace(batch, arrays=dict(batch.arrays) | {"drain_current": current})
    whole, tau = whole_phases(None, None, None), get_extractor(f"transient.{TAU}")
    low = [*COMMON_STATUSES, *tau.statuses].index("low_swing")
    for order in ((whole, tau), (tau, whole)):
        shared = alone(batch)
        for one in order:
            columns = one.extract_batch(shared, one.params)
            assert (columns["status"][1] == low).all() == (one is tau)
            expected = one.extract_batch(replace(batch, memo=None), one.params)
            for name, values in columns.items():
                np.testing.assert_array_equal(values, expected[name])


def test_batch__changed_in_place_is_computed_again(batch: Batch) -> None:
    changed = replace(batch, arrays={n: a.copy() for n, a in batch.arrays.items()})
    assert changed.memo is None
    first = extract("crossing_times", changed)
    changed.arrays["drain_current"][:] *= 2.0
    second = extract("crossing_times", changed)
    np.testing.assert_allclose(second["begin_level"], 2.0 * first["begin_level"], rtol=1e-12)


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
    assert pickle.loads(pickle.dumps(shared)).memo is None
