"""A time constant is right within its stated error, or a word says why not."""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oectflow.extractors.base import get_extractor
from oectflow.extractors.kernels import clock, edges, residuals
from oectflow.extractors.phases import phases_by_fit
from oectflow.pipeline.inputs.gate_signal import square_wave
from oectflow.pipeline.inputs.timing import Timing, complete_from_trace
from tests.extractors import faulty_transients as faulty

ON, OFF = 0, 1
#: OECTFLOW_EXAMPLES=2000 pytest ... makes so many of each kind, at random.
EXAMPLES = int(os.environ.get("OECTFLOW_EXAMPLES", "0"))
TAU = get_extractor("transient.tau_on_off")
WORDS = list(TAU.variables["status"].statuses)
SOURCES = list(TAU.variables["cycles_from"].statuses)


@pytest.fixture
def case(shared_data: Path):
    def load(name: str) -> dict[str, Any]:
        (folder,) = (shared_data / "field_cases").glob(name + "_*")
        time, current = np.loadtxt(folder / "1.csv", delimiter=",", skiprows=1).T.copy()
        declared = json.loads((folder / "test_info.json").read_text())["steps"][0]["parameters"]
        ms = [declared.get(word, np.nan) for word in ("timeStep", "topTime", "bottomTime")]
        interval, top, bottom = (np.array([value]) / 1e3 for value in ms)
        timing = complete_from_trace(
            Timing(interval, top + bottom, top / (top + bottom), ("step",)),
            time,
            current,
            np.array([0, time.size]),
        )
        return {
            "original_time": time,
            "drain_current": current,
            "sampling_interval": float(timing.sampling_interval[0]),
            "gate_period": float(timing.gate_period[0]),
            "duty_cycle": float(timing.duty_cycle[0]),
        }

    return load


def words(result: dict[str, Any]) -> np.ndarray:
    return np.array(WORDS)[result["status"]]


def decay(step: dict[str, Any], cycle: int) -> tuple[float, str]:
    extractor = get_extractor("transient.decay_time", {"cycle": cycle})
    result = extractor.extract_step(step)
    return float(result["value"]), list(extractor.variables["status"].statuses)[result["status"]]


@pytest.mark.parametrize("kind", faulty.KINDS)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=EXAMPLES or 30, deadline=None, derandomize=not EXAMPLES, print_blob=True)
def test_tau__is_right_or_a_word_says_why_not(kind: str, seed: int) -> None:
    device = faulty.KINDS[kind](np.random.default_rng(seed))
    assert faulty.wrong_values(device, TAU.extract_step(device.step), WORDS) == []


@pytest.mark.parametrize(
    ("kind", "least"),
    [("clean", 0.7), ("jittering_clock", 0.6), ("period_off", 0.6), ("overflow", 0.6)],
)
def test_tau__words_do_not_hide_what_can_be_known(kind: str, least: float) -> None:
    good = total = 0
    for seed in range(40):
        device = faulty.KINDS[kind](np.random.default_rng([7, seed]))
        found = words(TAU.extract_step(device.step))
        good += np.count_nonzero(found == "ok")
        total += found.size
    assert good >= least * total


def test_field_case__cycles_longer_than_nominal(case) -> None:
    step = case("t01")
    result = TAU.extract_step(step)
    assert SOURCES[int(result["cycles_from"])] == "trace"
    assert result["value"].shape == (10, 2)
    assert result["value"][9, ON] == pytest.approx(25.0, rel=0.02)
    assert set(words(result)[:, ON]) == {"not_exponential"}
    # 60.4 s and not 60 s between one cycle and the next.
    begins = result["window_start"][1:, ON]
    assert np.diff(begins).mean() == pytest.approx(60.4, abs=0.15)
    assert decay(step, 3) == (pytest.approx(0.757, rel=0.01), "not_exponential")


def borders(t: np.ndarray, period: float, n_cycles: int) -> np.ndarray:
    return np.searchsorted(t, t[0] + period * np.arange(n_cycles + 1))


def outcome(name: str, step: dict[str, Any], **params: Any) -> tuple[dict[str, Any], str, str]:
    """Return a result, its status word, and what cut the cycles."""
    extractor = get_extractor(name, params)
    result = extractor.extract_step(step)
    found = [
        list(extractor.variables[column].statuses)[int(result[column])]
        for column in ("status", "cycles_from")
    ]
    return result, *found


def test_field_case__cycles_and_parts_follow_the_trace(case) -> None:
    step = case("t01")
    result, word, source = outcome("transient.cycles", step, n_cycles=10)
    assert (word, source) == ("ok", "trace")
    size = np.abs(step["drain_current"])
    want = [size[a:b].max() for a, b in pairwise(borders(step["original_time"], 60.4, 10))]
    np.testing.assert_array_equal(np.abs(result["value"]), want)
    assert outcome("transient.decay_time", step, cycle=3)[2] == "trace"
    # The last on phase: 11 samples later than the nominal period has it.
    assert outcome("transient.dwt", step, part="on", cycle=10)[2] == "trace"
    _, _, source = outcome("transient.cycles", step, n_cycles=10, period=60.0)
    assert source == "trace"


@pytest.mark.parametrize("name", ["t03", "t05"])
def test_field_case__nominal_cycles_that_are_right_stay(case, name: str) -> None:
    step = case(name)
    for extractor, params in (
        ("transient.cycles", {}),
        ("transient.dwt", {"part": "off"}),
        ("transient.decay_time", {}),
    ):
        assert outcome(extractor, step, **params)[2] == "nominal"
        period = step["gate_period"]
        assert outcome(extractor, step, **params, period=period)[2] == "given"


def test_field_case__period_of_an_uneven_clock(case) -> None:
    step = case("t02")
    assert step["gate_period"] == pytest.approx(60.48, abs=0.02)


def test_field_case__depletion(case) -> None:
    step = case("t03")
    result = TAU.extract_step(step)
    found = words(result)
    np.testing.assert_allclose(result["value"][1:, ON], 0.010, rtol=0.01)
    np.testing.assert_allclose(result["value"][:, OFF], 0.020, rtol=0.01)
    assert (found[1:] == "ok").all()
    np.testing.assert_allclose(result["window_duration"][1:], [[0.05, 0.15]] * 9, atol=2.1e-3)
    assert decay(step, 3) == (pytest.approx(0.020, rel=0.01), "ok")


def test_field_case__two_exponentials(case) -> None:
    assert set(words(TAU.extract_step(case("t05"))).ravel()) == {"not_exponential"}


def test_field_case__clock_in_another_unit(case) -> None:
    step = case("t07")
    assert set(words(TAU.extract_step(step)).ravel()) == {"clock"}
    assert outcome("transient.cycles", step)[1] == "clock"
    assert outcome("transient.dwt", step, part="on")[1] == "clock"
    assert outcome("transient.decay_time", step)[1] == "clock"


@pytest.mark.parametrize("kind", ["two_clocks", "broken_clock"])
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=EXAMPLES or 30, deadline=None, derandomize=not EXAMPLES, print_blob=True)
def test_clock__no_feature_is_ok(kind: str, seed: int) -> None:
    step = faulty.KINDS[kind](np.random.default_rng(seed)).step
    for name, params in (
        ("transient.cycles", {}),
        ("transient.dwt", {}),
        ("transient.dwt", {"part": "on"}),
        ("transient.decay_time", {}),
    ):
        extractor = get_extractor(name, params)
        found = extractor.extract_step(step)
        assert list(extractor.variables["status"].statuses)[int(found["status"])] != "ok"


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=EXAMPLES or 30, deadline=None, derandomize=not EXAMPLES, print_blob=True)
def test_period__cycles_do_not_drift_away(seed: int) -> None:
    """The nominal period is up to 5 % off; cycles begin within 2 % of one of the true ones."""
    rng = np.random.default_rng(seed)
    scale = 1 + rng.choice([-1, 1]) * 10.0 ** rng.uniform(-2.5, -1.3)
    step = faulty.make(rng, n_cycles=10, noise=1e-3, gate=False, period_scale=scale).step
    m = step["gate_period"] / step["sampling_interval"] * scale
    source, spans = phases_by_fit(step, {"period": None, "sample_rate": None})
    begins = spans[..., 0].min(axis=1)
    assert SOURCES[source] == "trace" or abs(scale - 1) * begins.size < 0.1
    away = begins / m - np.round(begins / m)
    # The windows of a fit may leave out the sample of the switch.
    assert np.all(np.abs(away) <= max(0.02, 2.5 / m) + (SOURCES[source] == "nominal") * 0.1)
    _, word, again = outcome("transient.cycles", step, n_cycles=10)
    assert word == "ok"
    assert again in (SOURCES[source], "nominal")


def instrument_step(shared_data: Path) -> dict[str, Any]:
    (path,) = (shared_data / "instrument_v2").glob("*completed/*transient*.csv")
    time, current, gate = np.loadtxt(path, delimiter=",", skiprows=1).T.copy()
    return {
        "original_time": time,
        "drain_current": current,
        "Vg": gate,
        "sampling_interval": np.nan,
        "gate_period": np.nan,
        "duty_cycle": np.nan,
    }


def test_gate__instrument_with_a_recorded_gate(shared_data: Path) -> None:
    step = instrument_step(shared_data)
    result = TAU.extract_step(step)
    assert SOURCES[int(result["cycles_from"])] == "gate"
    level = result["gate_level"]
    for high, tau in ((1, 12e-3), (0, 25e-3)):
        found = (level == high) & (words(result) == "ok")
        assert found.sum() >= 7
        np.testing.assert_allclose(result["value"][found], tau, rtol=0.03)
    period, duty_cycle = square_wave(step["Vg"], step["original_time"])
    assert period == pytest.approx(0.2, rel=1e-3)
    assert duty_cycle == pytest.approx(0.3, abs=0.01)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_gate__both_readings_agree(seed: int) -> None:
    """The kernel's edges and those of the inputs, which were written apart."""
    device = faulty.make(np.random.default_rng(seed), gate=True, n_cycles=6)
    step = device.step
    period, duty_cycle = square_wave(step["Vg"], step["original_time"])
    assert period == pytest.approx(step["gate_period"], rel=1e-9)
    assert duty_cycle == pytest.approx(step["duty_cycle"], rel=1e-9)
    runs = np.empty((step["Vg"].size, 3), np.int64)
    assert edges.gate_runs(step["Vg"], runs) == 12
    at = runs[1:12:2, 0] * step["sampling_interval"]
    np.testing.assert_allclose(np.diff(at), period, rtol=1e-9)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_gate__its_edges_cut_cycles_and_parts_too(seed: int) -> None:
    """Each cycle is 0.5 to 5 % off; the nominal period is not asked."""
    rng = np.random.default_rng(seed)
    step = faulty.make(rng, gate=True, n_cycles=8, edge_jitter=10.0 ** rng.uniform(-2.3, -1.3)).step
    high = np.round((step["Vg"] - step["Vg"].min()) / np.ptp(step["Vg"])) > 0.5
    edge = np.flatnonzero(np.diff(high)) + 1
    begins = np.r_[0, edge[1::2], high.size]
    cycles = get_extractor("transient.cycles", {"n_cycles": 8})
    step["gate_period"] *= 1.5
    size = np.abs(step["drain_current"])
    want = [a + np.argmax(size[a:b]) for a, b in pairwise(begins)]
    found = cycles.extract_step(step)["value"]
    # The last cycle may be cut by the end of the step.
    np.testing.assert_array_equal(found[:7], step["drain_current"][want[:7]])
    for part in ("on", "off"):
        dwt = get_extractor("transient.dwt", {"part": part, "cycle": 2, "detrend": "mean"})
        value = dwt.extract_step(step)["value"]
        on_first = TAU.extract_step(step)["window_start"][0]
        at = 2 if (part == "on") == (on_first[ON] < on_first[OFF]) else 3
        at += 2 * (part == "off" and on_first[OFF] < on_first[ON])
        piece = np.r_[0, edge, high.size][[at, at + 1]]
        alone = step["drain_current"][piece[0] : piece[1]]
        same = get_extractor("transient.dwt", {"part": "step"}).extract_step(
            {"drain_current": alone, "sampling_interval": step["sampling_interval"]}
        )
        np.testing.assert_array_equal(value, same["value"])


@pytest.mark.parametrize(
    "gate",
    [
        np.zeros(400),
        np.full(400, np.nan),
        np.random.default_rng(1).normal(size=400),
        np.linspace(0, 1, 400),
        np.sin(np.arange(400) / 20),
    ],
    ids=["zero", "nan", "noise", "ramp", "sine"],
)
def test_gate__what_is_no_square_wave(gate: np.ndarray) -> None:
    assert edges.gate_runs(gate, np.empty((402, 3), np.int64)) == 0
    assert square_wave(gate, np.arange(400.0)) is None


@pytest.mark.parametrize("phi", [0.0, 0.3, 0.6])
@pytest.mark.parametrize(("n", "tau"), [(100, 15.0), (300, 60.0)])
def test_judge__intervals_cover(phi: float, n: int, tau: float) -> None:
    """95 % intervals hold the truth in 93 to 97 % of windows, of white noise and of AR(1) noise."""
    rng = np.random.default_rng([n, int(10 * phi)])
    from scipy.signal import lfilter

    from oectflow.extractors.kernels import exponential

    row, space, trials, held = np.empty(8), residuals.judge_space(n), 2000, 0
    evidence, unseen = np.empty(9), np.full(9, np.nan)
    limits = np.full(2, np.nan)
    for _ in range(trials):
        noise = 0.01 * lfilter([1.0], [1.0, -phi], rng.standard_normal(n + 100))[100:]
        y = np.exp(-np.arange(n) / tau) + noise
        code, _ = exponential.fit_exponential(y, np.empty(0), exponential.DECAY, np.nan, row)
        residuals.judge(
            y, np.zeros(n, bool), np.empty(0), limits, exponential.DECAY, code, row, unseen, space,
            evidence,
        )  # fmt: skip
        held += abs(row[0] - tau) < 1.96 * row[exponential.SE_TAU]
    assert 0.93 <= held / trials <= 0.97


@pytest.mark.parametrize(
    ("recorded", "code"),
    [
        (np.arange(500) * 1e-3, clock.CLOCK_OK),
        (np.arange(500) * 1.02e-3, clock.CLOCK_OK),
        (np.arange(500) * 2e-3, clock.CLOCK_DISAGREES),
        (np.arange(500) * 1.0, clock.CLOCK_DISAGREES),
        (np.arange(500)[::-1] * 1e-3, clock.CLOCK_BROKEN),
        (np.repeat(np.arange(250), 2) * 2e-3, clock.CLOCK_BROKEN),
        (np.full(500, np.nan), clock.CLOCK_OK),
        (np.zeros(500), clock.CLOCK_OK),
    ],
    ids=["same", "near", "half speed", "unit", "backwards", "doubled", "none", "still"],
)
def test_clock__recorded_against_declared(recorded: np.ndarray, code: int) -> None:
    assert clock.step_clock(recorded, 1e-3, 0.1)[2] == code


@pytest.mark.parametrize("periods", [20, 100_000, 10_000_000_000])
def test_clock__set_on_the_way(periods: int) -> None:
    device = faulty.make(np.random.default_rng(5), noise=1e-3, gate=False)
    step = device.step
    n = step["drain_current"].size
    usual = TAU.extract_step(step)
    step["original_time"] = np.arange(n) * step["sampling_interval"]
    step["original_time"][n // 2 :] += periods * step["gate_period"]
    result = TAU.extract_step(step)
    if periods < n:
        # A pause is named; the cycles before and behind it are what they were.
        assert {"clock", "no_window"} & set(words(result).ravel())
        assert np.sum(words(result) == "ok") > 0.8 * np.sum(words(usual) == "ok")
    else:
        assert result["value"].shape == usual["value"].shape
        assert "clock" in words(result)
        assert "ok" not in words(result)


def test_clock__recorded_times_win() -> None:
    device = faulty.make(np.random.default_rng(3), noise=1e-3, gate=False)
    device.step["sampling_interval"] *= 2
    result = TAU.extract_step(device.step)
    assert set(words(result).ravel()) <= {"clock", "absent"}
    for phase in (ON, OFF):
        known = words(result)[:, phase] == "clock"
        np.testing.assert_allclose(result["value"][known, phase], device.truth[phase], rtol=0.03)


def test_polarity__one_overflow_changes_nothing() -> None:
    device = faulty.make(np.random.default_rng(5), noise=1e-3, gate=False)
    before = TAU.extract_step(device.step)
    middle = device.step["drain_current"].size // 2 + 5
    device.step["drain_current"][middle] = -np.sign(device.step["drain_current"].mean()) * 9.9e37
    after = TAU.extract_step(device.step)
    same = words(after) == words(before)
    assert same.sum() >= same.size - 1
    np.testing.assert_array_equal(after["value"][same], before["value"][same])
    assert "overflow" in words(after)


def test_fitter__no_response_is_a_word() -> None:
    from oectflow.extractors.autotau import TauFitter

    noise = np.random.default_rng(2).standard_normal(200)
    fitter = TauFitter(np.arange(200) * 1e-3, noise, [0.0, 0.1], [0.1, 0.199])
    fitter.fit_tau_on(interp=False)
    fitter.fit_tau_off(interp=False)
    assert {fitter.tau_on_status, fitter.tau_off_status} == {"no_response"}
    assert np.isnan(fitter.get_tau_on())
    assert np.isnan(fitter.get_tau_off())
