from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from scipy.optimize import curve_fit

from oectflow.errors import ParameterError
from oectflow.extractors.base import get_extractor, stack_steps
from oectflow.extractors.tau import TauOnOff
from oectflow.extractors.timing import CYCLES_FROM
from oectflow.measurement import Batch
from oectflow.pipeline.inputs.experiment import Experiment
from oectflow.pipeline.inputs.simulate import simulate_device
from tests.extractors import naive_tau

ON, OFF = 0, 1


def make_step(
    current: np.ndarray,
    *,
    interval: float = 1e-3,
    period: float = 0.1,
    duty_cycle: float = np.nan,
    time: np.ndarray | None = None,
) -> dict[str, Any]:
    nominal = np.arange(current.size) * interval
    return {
        "continuous_time": nominal,
        "original_time": nominal if time is None else time,
        "drain_current": np.asarray(current, float),
        "sampling_interval": interval,
        "gate_period": period,
        "duty_cycle": duty_cycle,
    }


def device(
    *,
    n_cycles: int = 5,
    m: int = 100,
    n_on: int = 50,
    tau_on: float = 12.0,
    tau_off: float = 7.0,
    off_first: bool = True,
    snr: float = 500.0,
    time: np.ndarray | None = None,
    seed: int = 1,
) -> np.ndarray:
    """Current of a device whose channel relaxes towards the gate, 1 A on, 0.2 A off."""
    k = np.arange(n_cycles * m)
    phase = k % m
    gate = phase >= m - n_on if off_first else phase < n_on
    t = k.astype(float) if time is None else time
    y = np.empty(k.size)
    level = 0.0
    for i in range(k.size):
        y[i] = level
        if i + 1 < k.size:
            tau = tau_on if gate[i] else tau_off
            level = gate[i] + (level - gate[i]) * np.exp(-(t[i + 1] - t[i]) / tau)
    return 0.2 + 0.8 * y + np.random.default_rng(seed).normal(0, 0.8 / snr, k.size)


#: What autotau does: the window of the best R2, whatever it holds.
COMPATIBLE = {"window": "best_r2", "min_swing": 0.0}


def extract(step: dict[str, Any], **params: Any) -> dict[str, np.ndarray]:
    if "search" in params:
        return TauOnOff({"min_swing": 0.0} | params).extract_step(step)
    return TauOnOff(COMPATIBLE | params).extract_step(step)


def words(result: dict[str, np.ndarray]) -> np.ndarray:
    names = np.array(list(TauOnOff().variables["status"].statuses))
    return names[result["status"]]


def assert_same_bits(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype, name
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.fixture(scope="session")
def real_step(shared_data: Path) -> dict[str, Any]:
    time, current = np.loadtxt(
        shared_data / "autotau_transient.csv", delimiter=",", skiprows=1, unpack=True
    )
    return make_step(current, interval=1e-3, period=0.2, time=time)


def test_tau__registered() -> None:
    assert type(get_extractor("transient.tau_on_off")) is TauOnOff


def test_tau__declared_variables_are_returned() -> None:
    variables = TauOnOff().variables
    result = extract(make_step(device()))
    assert list(result) == list(variables)
    assert list(variables)[:2] == ["value", "status"]
    for name, variable in variables.items():
        assert result[name].dtype == variable.dtype, name
        if name == "cycles_from":
            assert result[name].shape == ()
            continue
        assert result[name].shape == (5, 2), name
        assert variable.dims == ("cycle", "phase")
        assert variable.labels == {"phase": ("on", "off")}


def test_tau__nothing_is_left_of_cycles_that_were_given_up(tmp_path: Path) -> None:
    def step(n_cycles: int, **changed: float) -> dict[str, Any]:
        path = simulate_device(1, n_transient=1, n_cycles=n_cycles).write(tmp_path / "a.h5")
        return Experiment(path).batch("transient", 0, 1).step(0) | changed

    # By the nominal period there are 13 cycles, by the trace 12; the other step has 20.
    short = step(12, gate_period=0.9 * step(12)["gate_period"])
    tau = get_extractor("transient.tau_on_off")
    together = tau.extract_batch(Batch.from_steps([step(20), short]), tau.params)
    alone = tau.extract_step(short)
    for name, values in together.items():
        if values.ndim == 3:
            np.testing.assert_array_equal(values[1, :12], alone[name])
            if name != "status":
                assert np.isnan(values[1, 12:]).all(), name


def test_tau__real_trace_fixed_window(real_step: dict[str, Any]) -> None:
    result = extract(real_step, search="fixed", window_on=(0.109, 0.041))
    assert result["value"].shape == (163, 2)
    # 41 samples of a phase of 100, which no single exponential describes.
    assert set(words(result)[:, ON]) <= {"ok", "not_exponential"}
    assert set(words(result)[:, OFF]) == {"no_window"}
    t = np.arange(41.0) * 1e-3
    for i in range(6):
        window = -real_step["drain_current"][200 * i + 109 :][:41]
        expected = naive_tau.fit(t, window, naive_tau.RISE)
        assert expected is not None
        tau = result["value"][i, ON]
        assert tau == pytest.approx(expected.tau, rel=1e-6)
        assert tau == pytest.approx(
            1e-3 * float(naive_tau.mpmath_tau(window, expected.tau * 1e3)), rel=1e-9
        )
        assert result["r_squared"][i, ON] == pytest.approx(expected.r2, abs=1e-12)
        # Of the measured, negative current.
        assert result["amplitude"][i, ON] == pytest.approx(-expected.amplitude, rel=1e-6)
        assert result["offset"][i, ON] == pytest.approx(-expected.offset, rel=1e-6)
        assert result["window_start"][i, ON] == pytest.approx(0.2 * i + 0.109)
        assert result["window_duration"][i, ON] == pytest.approx(0.041)


def test_tau__real_trace_search(real_step: dict[str, Any]) -> None:
    result = extract(real_step)
    assert result["value"].shape == (163, 2)
    assert set(words(result).ravel()) <= {"ok", "not_exponential", "absent", "outlier"}
    # autotau 0.6.0, which resamples each window to 100 points and so shifts tau by up to 3 %.
    published = np.array([7.676, 6.323, 5.888, 5.751, 5.516, 5.406]) * 1e-3
    np.testing.assert_allclose(result["value"][:6, ON], published, rtol=0.03)
    # The window with the best R2 of all, off phase: a start-up artefact far below the swing.
    assert result["swing_fraction"][0, OFF] < 0.02
    whole = extract(real_step, min_swing=0.5)
    assert whole["swing_fraction"][1:, OFF].min() > 0.4


def test_tau__expected_json(shared_data: Path, expected: dict[str, Any]) -> None:
    compared = 0
    for key in ("regular_serial", "ragged_ptype_serial"):
        content = expected[key]
        for row in content["autotau_fixed_windows"]:
            if not row["normalize"] or row["interp"]:
                continue
            with h5py.File(shared_data / "oect_infra" / content["file"]) as file:
                table = file["transient/step_info_table"][row["step"]]
                span = slice(table["start_data_index"], table["end_data_index"])
                time, _, current = file["transient/measurement_data"][:, span]
            interval = 1 / row["sample_rate"]
            m = round(row["period"] / interval)
            step = make_step(current, interval=interval, period=row["period"])
            for phase, column in (("on", ON), ("off", OFF)):
                offset, size = row[f"window_{phase}"]
                values = zip(row[f"tau_{phase}"], row[f"r2_{phase}"], strict=True)
                for i, (tau, r2) in enumerate(values):
                    if r2 < 0.99:
                        continue
                    # Its windows are masks of rounded times, of 45 or of 46 samples.
                    begin = time[0] + i * row["period"] + offset
                    held = np.flatnonzero((time >= begin) & (time <= begin + size))
                    window = ((held[0] - i * m) * interval, held.size * interval)
                    result = extract(
                        step, search="fixed", polarity="positive", **{f"window_{phase}": window}
                    )
                    if words(result)[i, column] in ("outlier", "clipped"):
                        continue
                    # It stops when RSS improves by less than 1e-8: within sqrt(1e-8 (n - 3))
                    # = 7e-4 standard errors, the last step being the smallest.
                    assert result["value"][i, column] == pytest.approx(
                        tau, abs=7e-4 * float(result["stderr"][i, column])
                    )
                    assert result["r_squared"][i, column] >= r2 - 1e-14
                    compared += 1
    assert compared > 20


@pytest.mark.parametrize("off_first", [True, False])
@pytest.mark.parametrize("n_on", [10, 50, 90])
@pytest.mark.parametrize("sign", [1, -1])
def test_tau__finds_the_truth(off_first: bool, n_on: int, sign: int) -> None:
    # The shortest phase has 10 samples: windows of 8 fit in.
    current = sign * device(n_on=n_on, off_first=off_first, tau_on=5.0, tau_off=4.0, snr=3000)
    result = extract(make_step(current), window_scalar_min=0.08, window_scalar_max=0.09)
    truth = np.array([5e-3, 4e-3])
    ok = words(result) == "ok"
    error = np.abs(result["value"] - truth)
    # Six standard errors: one in 5e8 for a normal error.
    assert (error[ok] < 6 * np.maximum(result["stderr"][ok], 1e-6)).all()
    assert ok[1:-1].all()
    assert words(result)[0, OFF] == ("absent" if off_first else "ok")


@pytest.mark.parametrize(
    ("n_samples", "interval", "period", "n_cycles"),
    [
        (500, 1e-3, 0.1, 5),
        (499, 1e-3, 0.1, 4),
        (32610, 1e-3, 0.2, 163),
        (300, 1 / 3000, 0.01, 10),
        (1000, 1e-3, 0.0125 * 8, 10),
        (105, 1e-3, 0.0105, 10),
    ],
)
def test_tau__number_of_cycles(
    n_samples: int, interval: float, period: float, n_cycles: int
) -> None:
    current = np.random.default_rng(0).normal(size=n_samples)
    step = make_step(current, interval=interval, period=period)
    result = extract(step, search="fixed", window_on=(0, 4 * interval))
    assert result["value"].shape == (n_cycles, 2)
    starts = np.round(result["window_start"][:, ON] / interval)
    np.testing.assert_array_equal(starts, np.floor(np.arange(n_cycles) * period / interval + 0.5))


def test_tau__max_cycles() -> None:
    step = make_step(device())
    result = extract(step, max_cycles=2)
    whole = extract(step)
    for name in result:
        # How well tau is known, all cycles tell together.
        if name not in ("cycles_from", "stderr"):
            np.testing.assert_array_equal(result[name], whole[name][:2])


@pytest.mark.parametrize("scale", [1e-9, 1e-6, 1e9])
def test_tau__scale_of_the_current(scale: float) -> None:
    current = device()
    a, b = extract(make_step(current)), extract(make_step(current * scale))
    np.testing.assert_array_equal(a["status"], b["status"])
    np.testing.assert_array_equal(a["window_start"], b["window_start"])
    np.testing.assert_allclose(b["value"], a["value"], rtol=1e-9)
    np.testing.assert_allclose(b["amplitude"], a["amplitude"] * scale, rtol=1e-6)


def test_tau__constant_added() -> None:
    current = device()
    a, b = extract(make_step(current)), extract(make_step(current + 80))
    np.testing.assert_allclose(b["value"], a["value"], rtol=1e-9)
    np.testing.assert_allclose(b["offset"], a["offset"] + 80, rtol=1e-6)


def test_tau__other_sign_swaps_the_phases() -> None:
    current = device(off_first=False)
    a = extract(make_step(current), polarity="positive")
    b = extract(make_step(-current), polarity="positive")
    np.testing.assert_array_equal(b["value"], a["value"][:, ::-1])
    c = extract(make_step(-current), polarity="negative")
    np.testing.assert_array_equal(c["value"], a["value"])
    auto = extract(make_step(-current))
    np.testing.assert_array_equal(auto["value"], a["value"])


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("polarity", ["auto", "positive", "negative"])
def test_tau__curve_lies_on_the_measured_current(sign: int, polarity: str) -> None:
    current = sign * device()
    result = extract(make_step(current), polarity=polarity)
    fitted = np.argwhere(np.isfinite(result["value"]))
    assert len(fitted) >= 9
    for i, phase in fitted:
        start = round(result["window_start"][i, phase] / 1e-3)
        n = round(float(result["window_duration"][i, phase]) / 1e-3)
        window = current[start : start + n]
        decay = np.exp(-np.arange(n) * 1e-3 / result["value"][i, phase])
        offset = float(result["offset"][i, phase])
        amplitude = float(result["amplitude"][i, phase])
        curve = offset + amplitude * (1 - decay if phase == ON else decay)
        rss = np.sum((window - curve) ** 2)
        tss = np.sum((window - window.mean()) ** 2)
        # Both numbers are rounded to float32, which moves the curve by at most d.
        d = 2.0**-24 * (abs(offset) + abs(amplitude))
        moved = (2 * np.sqrt(n * rss) * d + n * d**2) / tss
        assert 1 - rss / tss == pytest.approx(result["r_squared"][i, phase], abs=moved + 1e-14)
        rises = sign > 0 if polarity == "auto" else polarity == "positive"
        assert np.sign(amplitude) == (1 if rises else -1)
    assert (result["swing_fraction"][tuple(fitted.T)] > 0).all()


def test_tau__unit_of_time() -> None:
    current = device()
    a = extract(make_step(current, interval=1e-3, period=0.1))
    b = extract(make_step(current, interval=1e3, period=1e5))
    np.testing.assert_allclose(b["value"], a["value"] * 1e6, rtol=1e-14)


def test_tau__parameters_replace_the_protocol() -> None:
    current = device()
    known = extract(make_step(current))
    unknown = make_step(current, interval=np.nan, period=np.nan)
    given = extract(unknown, period=0.1, sample_rate=1000.0)
    assert given.pop("cycles_from") == list(CYCLES_FROM).index("given")
    assert known.pop("cycles_from") == list(CYCLES_FROM).index("nominal")
    assert_same_bits(given, known)


@pytest.mark.parametrize(
    ("interval", "period"), [(1e-3, np.nan), (np.nan, 0.1), (1e-3, 0.0), (0.0, 0.1)]
)
def test_tau__no_period(interval: float, period: float) -> None:
    result = extract(make_step(device(), interval=interval, period=period))
    assert words(result).tolist() == [["no_period", "no_period"]]
    for name, values in result.items():
        if name not in ("status", "cycles_from"):
            assert np.isnan(values).all(), name


@pytest.mark.parametrize("n", [0, 1, 3, 50])
def test_tau__step_shorter_than_a_period(n: int) -> None:
    result = extract(make_step(device()[:n]))
    assert words(result).tolist() == [["absent", "absent"]]
    assert np.isnan(result["value"]).all()


@pytest.mark.parametrize(
    ("current", "allowed"),
    [
        (np.full(500, 3e-6), {"no_window"}),
        (np.full(500, np.nan), {"no_window"}),
        (np.linspace(0, 1, 500), {"no_window", "absent", "no_response", "cut"}),
    ],
    ids=["constant", "nan", "line"],
)
def test_tau__nothing_to_fit(current: np.ndarray, allowed: set[str]) -> None:
    result = extract(make_step(current))
    assert set(words(result).ravel()) <= allowed
    assert np.isnan(result["value"]).all()


def test_tau__pure_noise_is_never_ok() -> None:
    result = extract(make_step(np.random.default_rng(6).normal(size=500)))
    assert "ok" not in words(result)


def test_tau__nan_poisons_one_window() -> None:
    current = device(off_first=False)
    clean = extract(
        make_step(current), search="fixed", window_on=(0, 0.04), window_off=(0.05, 0.04)
    )
    current[230] = np.nan
    result = extract(
        make_step(current), search="fixed", window_on=(0, 0.04), window_off=(0.05, 0.04)
    )
    assert words(result)[2].tolist() == ["nan", "ok"]
    assert np.isnan(result["value"][2, ON])
    kept = np.ones((5, 2), bool)
    kept[2, ON] = False
    np.testing.assert_array_equal(result["value"][kept], clean["value"][kept])


def test_tau__gap_is_searched_around() -> None:
    current = device()
    clean = extract(make_step(current))
    start = round(clean["window_start"][2, ON] / 1e-3)
    current[start + 15 : start + 18] = np.nan
    result = extract(make_step(current))
    assert words(result)[2, ON] in {"ok", "low_r2"}
    assert result["window_start"][2, ON] != clean["window_start"][2, ON]
    others = [0, 1, 3, 4]
    np.testing.assert_array_equal(result["value"][others], clean["value"][others])


def test_tau__bad_cycle_is_searched_again_and_marked() -> None:
    current = device(off_first=False)
    rng = np.random.default_rng(0)
    current[300:400] = 0.6 + rng.normal(0, 0.1, 100)
    result = extract(make_step(current))
    clean = extract(make_step(device(off_first=False)))
    assert "ok" not in words(result)[3]
    others = [0, 1, 2]
    np.testing.assert_array_equal(result["value"][others], clean["value"][others])


def test_tau__window_beyond_the_end() -> None:
    step = make_step(device(off_first=False))
    result = extract(step, search="fixed", window_on=(0.0, 0.04), window_off=(0.07, 0.04))
    assert words(result)[4].tolist() == ["ok", "cut"]
    result = extract(step, search="fixed", window_on=(0.0, 0.003))
    assert set(words(result)[:, ON]) == {"too_few"}


@pytest.mark.parametrize("duty_cycle", [0.3, np.nan])
@pytest.mark.parametrize("off_first", [True, False])
def test_tau__full_phase_and_fraction(duty_cycle: float, off_first: bool) -> None:
    current = device(n_on=30, off_first=off_first, tau_on=4, tau_off=6)
    step = make_step(current, duty_cycle=duty_cycle)
    full = extract(step, window="full_phase")
    # A sample is taken before the gate acts on it, so the first change is one sample later.
    late = 0.0 if np.isfinite(duty_cycle) else 1e-3
    near = {"abs": 2.1e-3}
    begin_on, begin_off = (0.07, 0.0) if off_first else (0.0, 0.03)
    assert full["window_start"][1] == pytest.approx(
        [0.1 + begin_on + late, 0.1 + begin_off + late], **near
    )
    assert full["window_duration"][1] == pytest.approx([0.03, 0.07], **near)
    np.testing.assert_allclose(full["value"][1:4], [[4e-3, 6e-3]] * 3, rtol=0.02)
    part = extract(step, window="fraction", fraction=(0.2, 0.8))
    assert part["window_start"][1] == pytest.approx(
        [0.1 + begin_on + late + 0.006, 0.1 + begin_off + late + 0.014], **near
    )
    assert part["window_duration"][1] == pytest.approx([0.018, 0.042], **near)


def test_tau__uneven_recorded_times() -> None:
    rng = np.random.default_rng(10)
    time = np.cumsum(rng.uniform(0.5, 1.5, 500))
    time -= time[0]
    current = device(time=time, snr=1e5, tau_on=10, tau_off=8)
    windows = {"search": "fixed", "window_on": (0.055, 0.03), "window_off": (0.005, 0.03)}
    uneven = extract(make_step(current, time=time * 1e-3), **windows)
    # Cycles are 100 samples here, and 100 mean intervals to within the jitter: away from the
    # switching the windows hold one phase each.
    ok = words(uneven) == "ok"
    assert ok[1:, ON].all()
    np.testing.assert_allclose(uneven["value"][1:, ON], 10e-3, rtol=5e-3)
    even = extract(make_step(current), **windows)
    assert np.abs(even["value"][1:, ON] / 10e-3 - 1).max() > 5e-3


@pytest.mark.parametrize(
    "time",
    [
        np.round(np.arange(500) * 1.0, 3) * 1e-3,
        np.arange(500) * 1e-3 + 1.7e9,
        np.full(500, np.nan),
        np.zeros(500),
    ],
    ids=["digits", "epoch", "nan", "constant"],
)
def test_tau__recorded_times_that_are_even_or_useless(time: np.ndarray) -> None:
    current = device()
    assert_same_bits(extract(make_step(current, time=time)), extract(make_step(current)))


def ragged_steps() -> list[dict[str, Any]]:
    rng = np.random.default_rng(12)
    jitter = np.cumsum(rng.uniform(0.6, 1.4, 300)) * 1e-3
    spoilt = -device(seed=5)
    spoilt[123:130] = np.nan
    return [
        make_step(device()),
        make_step(device(n_cycles=3, m=60, n_on=20), period=0.06, duty_cycle=1 / 3),
        make_step(spoilt),
        make_step(device(n_cycles=3), time=jitter),
        make_step(device(), period=np.nan),
        make_step(rng.normal(size=420)),
        make_step(device()[:40]),
        make_step(device(seed=3), interval=2e-3, period=0.2),
    ]


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"min_swing": 0.3, "window_points_step": 3, "window_start_idx_step": 2},
        {"window": "full_phase"},
        {"search": "fixed", "window_on": (0.05, 0.03), "window_off": (0.0, 0.03)},
        {"search": "smart", "maxiter": 3},
        {"search": "cached", "revalidation_interval": 1},
    ],
    ids=["search", "coarse", "full_phase", "fixed", "smart", "cached"],
)
def test_tau__batch_has_the_bits_of_single_steps(params: dict[str, Any]) -> None:
    steps = ragged_steps()
    extractor = TauOnOff(params)
    single = stack_steps(extractor.variables, [extractor.extract_step(step) for step in steps])
    batch = extractor.extract_batch(Batch.from_steps(steps), extractor.params)
    assert_same_bits(batch, single)
    # Wherever the batches are cut, and in whatever order.
    for cut in (1, 3, 6):
        halves = [
            extractor.extract_batch(Batch.from_steps(part), extractor.params)
            for part in (steps[:cut], steps[cut:])
        ]
        rows = [
            dict(zip(half, values, strict=True))
            for half in halves
            for values in zip(*half.values(), strict=True)
        ]
        assert_same_bits(stack_steps(extractor.variables, rows), single)


def experiment(n_steps: int = 23) -> list[dict[str, Any]]:
    """Steps of one device whose phases, noise and period change now and then."""
    steps = []
    for k in range(n_steps):
        current = device(tau_on=12 - 0.2 * k, n_on=50 if k < 13 else 35, snr=300, seed=k)
        if k in (4, 9):
            current += np.random.default_rng(k).normal(0, 0.3, current.size)
        if k == 15:
            current = current[:60]
        if k == 17:
            current = current[:300]
        steps.append(make_step(-current, period=np.nan if k == 7 else 0.1))
    return steps


def in_blocks(extractor: TauOnOff, steps: list[dict[str, Any]], cuts: list[int]) -> Any:
    rows = []
    for a, b in zip([0, *cuts], [*cuts, len(steps)], strict=True):
        part = Batch.from_steps(steps[a:b])
        batch = Batch(part.arrays, part.offsets, part.values, a)
        columns = extractor.extract_batch(batch, extractor.params)
        rows += [
            dict(zip(columns, values, strict=True))
            for values in zip(*columns.values(), strict=True)
        ]
    return stack_steps(extractor.variables, rows)


def test_tau__cached_does_not_depend_on_batches() -> None:
    steps = experiment()
    extractor = TauOnOff({"search": "cached", "min_swing": 0.0, "revalidation_interval": 5})
    assert extractor.steps_per_block(extractor.params) == 5
    assert TauOnOff().steps_per_block(TauOnOff().params) == 1
    whole = in_blocks(extractor, steps, [])
    for cuts in ([5], [10, 15], [5, 10, 15, 20], [20]):
        assert_same_bits(in_blocks(extractor, steps, cuts), whole)


def test_tau__cached_refuses_half_a_block() -> None:
    extractor = TauOnOff({"search": "cached", "min_swing": 0.0, "revalidation_interval": 5})
    with pytest.raises(ValueError, match=r"begins at step 7.*multiple of revalidation_interval=5"):
        in_blocks(extractor, experiment(), [7])


def test_tau__cached_keeps_windows_while_they_hold() -> None:
    steps = experiment()
    cached = in_blocks(
        TauOnOff({"search": "cached", "min_swing": 0.0, "revalidation_interval": 5}), steps, []
    )
    searched = in_blocks(TauOnOff(COMPATIBLE), steps, [])
    # What a step does by itself, with the windows that the steps before it left behind.
    kept: dict[str, tuple[float, float]] = {}
    n_searched = 0
    for k, step in enumerate(steps):
        if k % 5 == 0:
            kept = {}
        row = {name: column[k] for name, column in cached.items()}
        if not np.isfinite(row["value"]).any() and k in (7, 15):
            continue
        good = False
        if kept:
            fixed = TauOnOff(
                {"search": "fixed", "r_squared_threshold": 0.0, "min_swing": 0.0, **kept}
            ).extract_step(step)
            first = fixed["r_squared_adj"][:2]
            good = bool((np.nan_to_num(first).max(axis=0) >= 0.95).all())
            if good:
                sound = fixed["r_squared"] >= 0.95
                np.testing.assert_array_equal(
                    row["value"][: len(sound)][sound], fixed["value"][sound]
                )
        if not good:
            n_searched += 1
            # Kept windows belong to nominal cycles; a search of its own may ask the trace.
            if row["cycles_from"] == searched["cycles_from"][k]:
                for name in row:
                    np.testing.assert_array_equal(row[name], searched[name][k])
            kept = windows_of(row)
    # Five blocks, the noisy steps 4 and 9 and those behind them, the other duty cycle: and no more.
    assert 5 < n_searched < 14


def windows_of(row: dict[str, np.ndarray]) -> dict[str, tuple[float, float]]:
    """Return the windows of a step that was searched: most of its cycles have them."""
    found = {}
    for phase, name in enumerate(("window_on", "window_off")):
        offsets = np.round(row["window_start"][:, phase] / 1e-3) % 100
        pairs = [
            (float(offset), float(duration))
            for offset, duration in zip(offsets, row["window_duration"][:, phase], strict=True)
            if np.isfinite(offset)
        ]
        offset, duration = max(set(pairs), key=pairs.count)
        found[name] = (offset * 1e-3, duration)
    return found


@pytest.mark.parametrize("uneven", [False, True])
def test_tau__smart_is_near_the_best(uneven: bool) -> None:
    time = None
    if uneven:
        time = np.cumsum(np.random.default_rng(3).uniform(0.7, 1.3, 500))
        time -= time[0]
    current = device(time=time, snr=100, seed=2)
    step = make_step(current, time=None if time is None else time * 1e-3)
    best, smart = extract(step), extract(step, search="smart")
    assert_same_bits(smart, extract(step, search="smart"))
    n = min(len(best["value"]), len(smart["value"]))
    best, smart = ({k: v[:n] if v.ndim else v for k, v in r.items()} for r in (best, smart))
    scores = [np.nanmax(r["r_squared_adj"][:2], axis=0) for r in (best, smart)]
    # The evolution may stop when the scores of its windows differ by 0.01.
    # Of uneven samples a window at the same time may have one more or less in another cycle.
    assert (scores[1] <= scores[0] + (1e-3 if uneven else 1e-12)).all()
    assert (scores[1] >= scores[0] - 0.01).all()
    ok = (words(smart) == "ok") & (words(best) == "ok")
    assert ok.sum() >= 4
    error = np.abs(smart["value"] - [12e-3, 7e-3])[ok]
    assert (error < 6 * smart["stderr"][ok]).all()


def test_tau__smart_searches_where_exhaustive_does() -> None:
    step = make_step(device())
    options = {"window_points_step": 4, "window_start_idx_step": 3}
    smart = extract(step, search="smart", **options)
    assert set(np.unique(np.round(smart["window_duration"] / 1e-3))) <= {20.0, 24.0, 28.0, 32.0}
    nothing = extract(make_step(np.full(500, 1e-6)), search="smart")
    assert set(words(nothing).ravel()) == {"no_window"}


def test_tau__empty_batch() -> None:
    extractor = TauOnOff()
    batch = Batch(
        {"drain_current": np.empty(0), "original_time": np.empty(0)}, np.zeros(1, np.int64)
    )
    assert extractor.extract_batch(batch, extractor.params)["value"].shape == (0, 1, 2)


def test_tau__stderr_of_curve_fit() -> None:
    current = device(snr=100)
    result = extract(make_step(current), search="fixed", window_on=(0.055, 0.04))
    t = np.arange(40) * 1e-3
    for i in range(5):
        window = current[100 * i + 55 :][:40]
        _, pcov = curve_fit(
            lambda t, tau, a, c: naive_tau.model(t, tau, a, c, naive_tau.RISE),
            t,
            window,
            p0=(0.01, 0.5, 0.5),
        )
        # Ours is wider by the correlation of the residuals: nothing, or a little by chance.
        ratio = result["stderr"][i, ON] / np.sqrt(pcov[0, 0])
        assert 1 - 1e-4 < ratio < 1.6


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"search": "fixed"}, "window_on or window_off"),
        ({"windowscalar_min": 0.1}, "did you mean 'window_scalar_min'"),
        ({"window_scalar_min": 0.5, "window_scalar_max": 0.4}, "exceeds"),
        ({"fraction": (0.9, 0.1)}, "begin < end"),
        ({"search": "annealed"}, "search"),
        ({"search": "cached", "window": "full_phase"}, "best_r2"),
        ({"search": "smart", "window": "fraction"}, "best_r2"),
        ({"revalidation_interval": 0}, "revalidation_interval"),
        ({"period": -1.0}, "period"),
    ],
)
def test_tau__wrong_parameters(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        TauOnOff(params)


def test_tau__without_compiler() -> None:
    """The kernels are plain Python as well: the same values, up to fused multiplications."""
    script = """
import json, sys, warnings
import numpy as np
from oectflow.extractors.tau import TauOnOff
warnings.simplefilter("ignore")  # 0 / 0 in idle lanes, silent when compiled
data = json.load(sys.stdin)
step = {k: np.array(v) if isinstance(v, list) else v for k, v in data.items()}
jitter = dict(step, original_time=step["original_time"] + 1e-4 * np.sin(np.arange(48) ** 2))
tau = TauOnOff({"window": "best_r2", "min_swing": 0.0})
for one in (step, jitter):
    print(json.dumps(tau.extract_step(one)["value"].tolist()))
"""
    step = make_step(device(n_cycles=2, m=24, n_on=12, tau_on=4, tau_off=3), period=0.024)
    payload = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in step.items()}
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps(payload),
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    plain = [np.array(json.loads(line), float) for line in done.stdout.splitlines()]
    jitter = step["original_time"] + 1e-4 * np.sin(np.arange(48) ** 2)
    for values, one in zip(plain, (step, {**step, "original_time": jitter}), strict=True):
        np.testing.assert_allclose(values, extract(one)["value"], rtol=1e-9)
