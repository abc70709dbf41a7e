from __future__ import annotations

import math
from typing import Any

import h5py
import numpy as np
import pytest

from oectflow.pipeline.inputs.experiment import Experiment
from oectflow.pipeline.inputs.periodicity import find_period
from oectflow.pipeline.inputs.timing import (
    Timing,
    complete_from_trace,
    declared_timing,
    measured_interval,
)

NAN = math.nan


def table(**columns: Any) -> np.ndarray:
    arrays = {name: np.asarray(values) for name, values in columns.items()}
    out = np.empty(
        len(next(iter(arrays.values()))), [(name, values.dtype) for name, values in arrays.items()]
    )
    for name, values in arrays.items():
        out[name] = values
    return out


def never() -> Any:
    raise AssertionError("the workflow is not needed")


def command(kind: str = "transient", **params: Any) -> dict[str, Any]:
    return {"type": kind, "id": "x", "params": params}


def loop(iterations: Any, *steps: Any) -> dict[str, Any]:
    return {"type": "loop", "iterations": iterations, "steps": list(steps)}


def unrolled(nodes):
    """Every command in the order of execution, one list entry each."""
    for node in nodes:
        if node["type"] == "loop":
            for _ in range(node["iterations"]):
                yield from unrolled(node["steps"])
        else:
            yield node


def numbers(timing: Timing) -> list[list[float]]:
    return [
        values.tolist()
        for values in (timing.sampling_interval, timing.gate_period, timing.duty_cycle)
    ]


# --- the step's own parameters ------------------------------------------------------------------


def test_declared__in_the_step():
    timing = declared_timing(
        table(param_timeStep=[1, 2], param_topTime=[50, 30], param_bottomTime=[50, 90]), never
    )
    assert numbers(timing) == [[0.001, 0.002], [0.1, 0.12], [0.5, 0.25]]
    assert timing.source == ("step", "step")


def test_declared__nested_and_as_text():
    timing = declared_timing(
        table(
            param_gate_topTime=[40.0],
            param_gate_bottomTime=np.array([b"60"]),
            param_timeStep=np.array([b"0.5"]),
            param_nested_timeStep=[7],
            param_xtimeStep=[9],
        ),
        never,
    )
    assert numbers(timing) == [[0.0005], [0.1], [0.4]]


@pytest.mark.parametrize("missing", [0, -5, NAN, math.inf, b"", b"fast"])
def test_declared__no_number_is_unknown(missing):
    timing = declared_timing(
        table(
            param_timeStep=np.array([missing]),
            param_topTime=np.array([missing]),
            param_bottomTime=[50],
        ),
        lambda: None,
    )
    assert np.isnan(numbers(timing)).all()
    assert timing.source == ("unknown",)


def test_declared__own_comes_before_nested_and_nested_fills():
    timing = declared_timing(
        table(
            param_timeStep=[2.0, NAN],
            param_nested_timeStep=[5.0, 5.0],
            param_topTime=[1, 1],
            param_bottomTime=[1, 1],
        ),
        never,
    )
    assert timing.sampling_interval.tolist() == [0.002, 0.005]


# --- the workflow -------------------------------------------------------------------------------

FAST = command(timeStep=1, topTime=50, bottomTime=50)
SLOW = command(timeStep=2, topTime=100, bottomTime=300)
SWEEP = command("transfer", timeStep=300)


def test_workflow__all_commands_agree():
    for tree in (FAST, [FAST], [loop(6, SWEEP, FAST)], [FAST, loop(2, FAST | {"id": "other"})]):
        timing = declared_timing(table(step_index=[0, 1]), lambda tree=tree: tree)
        assert numbers(timing) == [[0.001] * 2, [0.1] * 2, [0.5] * 2]
        assert timing.source == ("workflow", "workflow")


def test_workflow__commands_differ():
    timing = declared_timing(table(step_index=[0]), lambda: [FAST, SLOW])
    assert np.isnan(numbers(timing)).all()
    assert timing.source == ("unknown",)


def test_workflow__found_by_index_in_nested_loops():
    tree = [SWEEP, loop(3, SWEEP, loop(2, FAST, SLOW), SWEEP), SLOW]
    every = list(unrolled(tree))
    indices = [i for i, node in enumerate(every, start=1) if node["type"] == "transient"]
    timing = declared_timing(
        table(workflow_step_index=indices, workflow_total_steps=[len(every)] * len(indices)),
        lambda: tree,
    )
    assert timing.gate_period.tolist() == [
        (every[i - 1]["params"]["topTime"] + every[i - 1]["params"]["bottomTime"]) / 1000
        for i in indices
    ]
    assert set(timing.source) == {"workflow"}


def test_workflow__index_is_not_trusted_where_it_does_not_fit():
    tree = [SWEEP, FAST, SLOW]
    cases = table(workflow_step_index=[1, 2, 0, 9, 3], workflow_total_steps=[3, 7, 3, 3, 3])
    timing = declared_timing(cases, lambda: tree)
    # A transfer, another workflow's length, not counted from 1, beyond the end; the last one fits.
    assert timing.source == ("unknown",) * 4 + ("workflow",)
    assert timing.gate_period[-1] == 0.4


def test_workflow__huge_loops_are_not_unrolled():
    tree = [loop(10**9, loop(10**6, FAST, SLOW))]
    timing = declared_timing(
        table(workflow_step_index=[10**15], workflow_total_steps=[2 * 10**15]), lambda: tree
    )
    assert timing.gate_period.tolist() == [0.4]


@pytest.mark.parametrize("iterations", [None, 0, -1, "many", math.inf])
def test_workflow__impossible_iterations(iterations):
    timing = declared_timing(
        table(workflow_step_index=[1], workflow_total_steps=[1]), lambda: [loop(iterations, FAST)]
    )
    assert timing.gate_period.tolist() == [0.1]


@pytest.mark.parametrize("tree", [None, 3, "text", [], [None, 1], {"type": "transient"}])
def test_workflow__nothing_useful(tree):
    assert declared_timing(table(step_index=[0]), lambda: tree).source == ("unknown",)


def test_workflow__fills_only_what_the_step_lacks():
    timing = declared_timing(
        table(param_timeStep=[4.0, NAN], param_topTime=[NAN, 10], param_bottomTime=[70, 10]),
        lambda: [FAST],
    )
    assert numbers(timing) == [[0.004, 0.001], [0.1, 0.02], [0.5, 0.5]]
    assert timing.source == ("workflow", "step")


# --- the measured times -------------------------------------------------------------------------


def test_measured_interval__averages_the_rounding_of_the_clock():
    # 0.7 ms on a clock of 0.1 ms steps with a drift: each time is off by 0.05 ms at most, so the
    # mean of n spacings by 0.1 ms / n.
    true = 0.7003e-3
    time = np.round(np.arange(1001) * true, 4)
    assert abs(measured_interval(time) - true) <= 0.1e-3 / 1000


@pytest.mark.parametrize(
    "time",
    [
        [],
        [1.0],
        [1.0, 1.0, 1.0],
        [3.0, 2.0, 1.0],
        [0.0, 1.0, NAN, 3.0],
        [0.0, 1.0, 2.0, 4.0, 5.0],
        [0.0, 1.0, 1.0, 2.0, 3.0],
        [0.0, 1.0, 2.0, 0.0, 1.0],
    ],
)
def test_measured_interval__not_uniform(time):
    assert math.isnan(measured_interval(np.array(time)))


def test_trace__declared_values_are_kept():
    # The clock says 2 ms, the users' definition says 1 ms.
    declared = Timing(np.array([1e-3]), np.array([0.1]), np.array([0.5]), ("step",))
    time = np.arange(1000) * 2e-3
    completed = complete_from_trace(declared, time, np.zeros(1000), np.array([0, 1000]))
    assert numbers(completed) == numbers(declared)
    assert completed.source == declared.source


def test_trace__each_step_by_itself():
    wave = gate_response(10, 100.0, 0.5, 10.0)
    lengths = np.array([1000, 1000, 0, 1000])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    current = np.concatenate([wave, np.linspace(0, 1, 1000), wave])
    time = np.concatenate([np.arange(1000) * 2e-3, np.arange(1000) * 2e-3, np.full(1000, NAN)])
    unknown = np.full(4, NAN)
    timing = complete_from_trace(
        Timing(unknown, unknown, unknown, ("unknown",) * 4), time, current, offsets
    )
    assert timing.source == ("trace", "unknown", "unknown", "unknown")
    # One sample in ten periods, see test_find_period__simulated.
    assert timing.gate_period[0] == pytest.approx(0.2, abs=2e-3 / 4)
    assert np.isnan(timing.gate_period[1:]).all()
    assert timing.sampling_interval[:2] == pytest.approx(2e-3, rel=1e-12)
    assert np.isnan(timing.sampling_interval[2:]).all()
    assert np.isnan(timing.duty_cycle).all()


def test_experiment__timing_from_the_trace(tmp_path):
    wave = gate_response(10, 100.0, 0.3, 8.0)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["format_version"] = "2.0_new_storage"
        file["transient/measurement_data"] = np.stack(
            [np.arange(1000) * 1e-3, np.arange(1000) * 1e-3, wave]
        )
        file["transient/step_info_table"] = table(start_data_index=[0], end_data_index=[1000])
        file["raw/workflow"] = "[]"
    batch = Experiment(tmp_path / "a.h5").batch("transient", 0, 1)
    assert batch.timing_source == ("trace",)
    assert batch.values["gate_period"][0] == pytest.approx(0.1, abs=1e-3 / 4)
    with h5py.File(tmp_path / "a.h5", "a") as file:
        # The instrument was told 1 ms and took 1.01 ms.
        file["transient/measurement_data"][:2] *= 1.01
        file["raw/workflow"][()] = '{"type": "transient", "params": {"timeStep": 1}}'
    for arrays in (None, ("drain_current",), ()):
        batch = Experiment(tmp_path / "a.h5").batch("transient", 0, 1, arrays)
        assert batch.values["sampling_interval"].tolist() == [1e-3]
        assert batch.values["gate_period"][0] == pytest.approx(0.101, abs=1e-3 / 4)
    with h5py.File(tmp_path / "a.h5", "a") as file:
        del file["raw/workflow"]
        file["raw/workflow"] = '{"type": "transient", "params": {"topTime": 20, "bottomTime": 60}}'
    batch = Experiment(tmp_path / "a.h5").batch("transient", 0, 1)
    assert batch.timing_source == ("workflow",)
    assert batch.values["gate_period"].tolist() == [0.08]
    assert batch.values["duty_cycle"].tolist() == [0.25]


# --- the period in a trace ----------------------------------------------------------------------


def gate_response(
    cycles: float, period: float, duty: float, tau: float, *, phase: float = 0.0
) -> np.ndarray:
    """Current of a device with relaxation times tau (on) and 0.7 tau (off), in samples."""
    gate = (np.arange(int(cycles * period)) - phase) / period % 1 < duty
    current = np.empty(len(gate))
    state = float(gate[0])
    for i, on in enumerate(gate):
        state += (on - state) * -math.expm1(-1 / (tau if on > state else 0.7 * tau))
        current[i] = state
    return current


def measured(rng: np.random.Generator, wave: np.ndarray, noise: float) -> np.ndarray:
    n = len(wave)
    drift = 0.1 * np.exp(-np.arange(n) / (n / 4))
    return wave * (1 + drift) + drift + noise * rng.standard_normal(n)


def samples_of_uncertainty(n: int, period: float) -> float:
    """The peak is followed to the multiple k of the period and is within one sample there; each
    multiple is at most 1.25 times the one before, so k is at least 0.8 times the largest."""
    return 1 / max(1, math.floor(0.8 * (n // 2) / period))


def test_find_period__real_trace(shared_data):
    current = np.loadtxt(shared_data / "autotau_transient.csv", delimiter=",", skiprows=1)[:, 1]
    for part in (current, -current, 1e-6 * current + 1, current[:1000], current[137:5137]):
        error = find_period(part) - 200
        assert abs(error) <= samples_of_uncertainty(len(part), 200)


@pytest.mark.parametrize("noise", [0, 1e-3, 1e-2])
@pytest.mark.parametrize("duty", [0.1, 0.3, 0.5, 0.9])
@pytest.mark.parametrize(("cycles", "period"), [(5.5, 200), (10, 150.7), (30, 60), (100, 100.3)])
def test_find_period__simulated(cycles, period, duty, noise):
    rng = np.random.default_rng([int(cycles), int(1000 * duty), int(1000 * noise)])
    wave = gate_response(cycles, period, duty, 0.05 * period, phase=rng.uniform(0, period))
    found = find_period(measured(rng, wave, noise))
    assert abs(found - period) <= samples_of_uncertainty(len(wave), period)


@pytest.mark.parametrize("tau", [0.02, 0.4, 1.0])
@pytest.mark.parametrize("duty", [0.1, 0.5, 0.9])
@pytest.mark.parametrize(("cycles", "period"), [(4.7, 150.7), (7, 22.4), (15.3, 60), (60, 100)])
def test_find_period__right_or_unknown(cycles, period, duty, tau):
    # Small or few cycles, slow devices and 10 % noise: the period may be missed, but no multiple
    # or fraction of it may be taken for it.
    for noise in (0, 1e-2, 1e-1):
        rng = np.random.default_rng([int(cycles), int(10 * duty), int(10 * tau), int(1000 * noise)])
        wave = gate_response(cycles, period, duty, tau * period, phase=rng.uniform(0, period))
        found = find_period(measured(rng, wave, noise))
        assert math.isnan(found) or found == pytest.approx(period, rel=0.05)


@pytest.mark.parametrize("seed", [3, 45, 67])
def test_find_period__a_first_guess_that_its_multiples_refute(seed):
    # In these traces noise moves the peak at one period by two samples; its multiples disagree.
    rng = np.random.default_rng(seed)
    wave = gate_response(15.3, 150.7, 0.7, 150.7, phase=rng.uniform(0, 150.7))
    found = find_period(measured(rng, wave, 0.01))
    assert found == pytest.approx(150.7, abs=1)


def test_find_period__missing_samples_and_a_spike():
    rng = np.random.default_rng(5)
    current = measured(rng, gate_response(12, 120, 0.5, 10), 1e-3)
    current[rng.integers(len(current), size=20)] = NAN
    current[700] = 50.0
    assert abs(find_period(current) - 120) <= samples_of_uncertainty(len(current), 120)


def telegraph(rng, n, switches):
    return np.cumsum(rng.random(n) < switches / n) % 2.0


def relaxed(gate, tau):
    out = np.empty(len(gate))
    state = float(gate[0])
    for i, value in enumerate(gate):
        state += (float(value) - state) * -math.expm1(-1 / tau)
        out[i] = state
    return out


def hum(n, period):
    return np.sin(2 * np.pi * np.arange(n) / period)


APERIODIC = {
    "white": lambda rng, n: rng.standard_normal(n),
    "brown": lambda rng, n: np.cumsum(rng.standard_normal(n)),
    "spikes": lambda rng, n: rng.standard_normal(n) * (rng.random(n) < 0.02),
    "heavy tails": lambda rng, n: rng.standard_cauchy(n),
    "jumps": lambda rng, n: np.cumsum(rng.standard_cauchy(n)),
    "decay": lambda rng, n: np.exp(-np.arange(n) / (n / 5)),
    "noisy decay": lambda rng, n: np.exp(-5 * np.arange(n) / n) + 1e-3 * rng.standard_normal(n),
    "coarse decay": lambda rng, n: np.round(np.exp(-5 * np.arange(n) / n), 3),
    "coarse ramp": lambda rng, n: np.round(rng.uniform(0.1, 1) * np.arange(n) / n, 3),
    "coarse noise": lambda rng, n: np.round(rng.standard_normal(n)),
    "mains hum": lambda rng, n: hum(n, 20) + 0.01 * rng.standard_normal(n),
    "hum, overtone": lambda rng, n: hum(n, 20) + 0.3 * hum(n, 6.7) + 0.05 * rng.standard_normal(n),
    "random telegraph": lambda rng, n: relaxed(telegraph(rng, n, 15), n / 300),
    "noisy telegraph": lambda rng, n: telegraph(rng, n, 15) + 0.01 * rng.standard_normal(n),
    "one pulse": lambda rng, n: relaxed((np.arange(n) > 0.3 * n) * (np.arange(n) < 0.6 * n), n / 9),
    "step": lambda rng, n: (np.arange(n) > rng.uniform(0, n)) + 1e-3 * rng.standard_normal(n),
    "constant": lambda rng, n: np.full(n, 1e-9),
    "nothing": lambda rng, n: np.full(n, NAN),
}


@pytest.mark.parametrize("name", APERIODIC)
def test_find_period__unknown_without_periodicity(name):
    # 60 traces of each kind: at the false-alarm level of 1e-4 all 1,080 give 0.1 false periods.
    rng = np.random.default_rng(11)
    for n in (200, 500, 2000):
        assert all(math.isnan(find_period(APERIODIC[name](rng, n) * 1.0)) for _ in range(20))


@pytest.mark.parametrize("n", [0, 1, 71])
def test_find_period__too_short(n):
    assert math.isnan(find_period(np.random.default_rng(0).standard_normal(n)))
