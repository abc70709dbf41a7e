"""Peaks of transients: against files in use, SciPy, twins, physics and broken steps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import find_peaks

from oectflow.errors import ParameterError
from oectflow.extractors import transient
from oectflow.extractors.base import stack_steps
from oectflow.extractors.kernels import peaks
from oectflow.measurement import Batch
from tests.extractors import naive
from tests.extractors.transients import (
    DEFAULTS,
    EXTRACTORS,
    FILES,
    gated,
    read_transients,
    run,
    word,
)

#: Where the expected values are deliberately not reproduced.
CONTRADICTED = {
    "defaults of cycles and decay_time": (
        "one peak per gate period, one off phase with an offset; the old ones are "
        "method='peak_detection' and method='exponential'"
    ),
}


# Values in use ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["transient.cycles", "transient.peak_current"])
@pytest.mark.parametrize("key", FILES)
def test_expected__peaks_to_the_last_bit(expected, shared_data, key, name):
    steps = read_transients(shared_data, expected[key]["file"])
    calls = [c for c in expected[key]["extractors"] if c["extractor"] == name]
    assert len(calls) == {"transient.cycles": 7, "transient.peak_current": 2}[name]
    for call in calls:
        got = EXTRACTORS[name](DEFAULTS[name] | call["params"]).extract(steps)
        want = np.array(call["result"]["values"], np.float32)
        np.testing.assert_array_equal(got.astype(np.float32), want)


def test_contradicted_defaults__need_a_period_or_say_so(expected, shared_data):
    step = read_transients(shared_data, expected["regular_serial"]["file"])[0]
    bare = {name: value for name, value in step.items() if np.ndim(value)}
    for name in ("transient.cycles", "transient.decay_time"):
        result = run(name, bare)
        assert word(name, result) == "no_period"
        assert np.isnan(result["value"]).all()
        given_by_hand = run(name, bare, period=0.1, sample_rate=1000)
        np.testing.assert_array_equal(given_by_hand["value"], run(name, step)["value"])


# A real measurement -------------------------------------------------------------------------------


def test_real_trace__peak_of_every_cycle(real_step):
    got = run("transient.cycles", real_step, n_cycles=200)["value"]
    cycles = real_step["drain_current"][: 163 * 200].reshape(163, 200)
    np.testing.assert_array_equal(got[:163], cycles.min(axis=1))
    assert np.isnan(got[163:]).all()


# Peaks --------------------------------------------------------------------------------------------


samples = st.lists(
    st.floats(-1e-2, 1e-2) | st.sampled_from([np.nan, np.inf, -np.inf, 0.0, 1e-3, -1e-3]),
    max_size=60,
).map(np.array)


@settings(deadline=None, max_examples=200, derandomize=True)
@given(st.lists(samples, min_size=1, max_size=4), st.booleans())
def test_step_peaks__same_as_twin(parts, use_abs):
    offsets = np.cumsum([0] + [part.size for part in parts])
    found = np.empty(len(parts))
    peaks.step_peaks(np.concatenate(parts).astype(float), offsets, use_abs, found)
    want = [naive.peak(part, use_abs) for part in parts]
    np.testing.assert_array_equal(found, np.abs(want) if use_abs else want)


@settings(deadline=None, max_examples=200, derandomize=True)
@given(
    st.lists(samples, min_size=1, max_size=4),
    st.integers(8, 60).map(lambda k: k / 2) | st.floats(4, 30),
    st.integers(1, 8),
)
def test_cycle_peaks__same_as_twin(parts, samples_per_period, n):
    offsets = np.cumsum([0] + [part.size for part in parts])
    y = np.concatenate(parts).astype(float)
    found = np.empty((len(parts), n))
    codes, clocks, sources = np.empty((3, len(parts)), np.int8)
    ones = np.ones(len(parts))
    period = samples_per_period * ones
    none = np.full(y.size, np.nan)
    peaks.cycle_peaks(y, none, none[:0], offsets, ones, period, found, codes, clocks, sources)
    want = [naive.cycle_peaks(part, samples_per_period, n) for part in parts]
    np.testing.assert_array_equal(found, want)


def test_peak_per_period__one_signed_value_for_each_cycle(expected, shared_data):
    for key, sign in (("regular_serial", 1), ("ragged_ptype_serial", -1)):
        for step in read_transients(shared_data, expected[key]["file"]):
            result = run("transient.cycles", step, n_cycles=10)
            m = round(step["gate_period"] / step["sampling_interval"])
            complete = len(step["drain_current"]) // m
            want = [
                sign * np.abs(step["drain_current"][m * i : m * i + m]).max()
                for i in range(complete)
            ]
            np.testing.assert_array_equal(result["value"][:complete], want)
            assert np.isnan(result["value"][complete:]).all()
            assert word("transient.cycles", result) == "ok"


def test_peak_per_period__noise_cannot_give_a_cycle_two_values():
    step = gated()
    step["drain_current"][[160, 175, 190]] = 5e-3
    got = run("transient.cycles", step, n_cycles=5)["value"]
    assert got[1] == 5e-3
    assert np.all(np.delete(got, 1) < 2e-3)
    detected = run("transient.cycles", step, n_cycles=3, method="peak_detection")["value"]
    np.testing.assert_array_equal(detected, [5e-3] * 3)


def test_peak_per_period__period_that_is_no_whole_number_of_samples():
    m = 33.3
    k = np.arange(1000)
    phase = k / m % 1
    step = gated() | {"drain_current": np.where(phase < 0.5, 1e-3, 2e-3) + 1e-6 * (k // m)}
    step |= {"original_time": 1e-3 * k, "gate_period": m * 1e-3}
    got = run("transient.cycles", step, n_cycles=31)["value"]
    assert np.isfinite(got[:30]).all()
    assert np.isnan(got[30])
    np.testing.assert_allclose(got[:30], 2e-3 + 1e-6 * np.arange(30), rtol=0, atol=1e-18)


def test_peak_per_period__uneven_clock_moves_the_cycles():
    step = gated()
    # The first half is sampled twice as densely as the nominal interval says.
    t = np.concatenate([np.arange(400) * 0.5e-3, 0.2 + np.arange(300) * 1e-3])
    gate_on = np.floor(t / 0.05 + 1e-9) % 2 == 1
    cycle = np.floor(t / 0.1 + 1e-9)
    step |= {"original_time": t, "drain_current": np.where(gate_on, 1e-3 * (1 + cycle), 1e-5)}
    got = run("transient.cycles", step, n_cycles=5)["value"]
    np.testing.assert_array_equal(got, 1e-3 * np.arange(1, 6))


def test_cycles__more_than_asked_for():
    result = run("transient.cycles", gated(), n_cycles=3)
    assert word("transient.cycles", result) == "more_cycles"
    np.testing.assert_array_equal(
        result["value"], run("transient.cycles", gated(), n_cycles=5)["value"][:3]
    )


def test_peak_detection__is_find_peaks_ranked_by_size():
    rng = np.random.default_rng(3)
    current = -1e-4 * np.abs(rng.standard_normal(400)).cumsum() * np.sin(np.arange(400) / 9)
    got = run(
        "transient.cycles",
        {"drain_current": current},
        n_cycles=6,
        method="peak_detection",
        min_distance=15,
        prominence=1e-4,
    )["value"]
    at, _ = find_peaks(np.abs(current), distance=15, prominence=1e-4)
    assert at.size > 6
    best = sorted(at, key=lambda k: abs(current[k]))[-6:]
    np.testing.assert_array_equal(got, current[sorted(best)])


def test_peak_detection__default_prominence_is_a_tenth_of_the_third_quartile():
    size = np.zeros(101)
    size[72:100] = 1.0
    # Quartile 1: a bump of 0.09 is too low, one of 0.11 is not.
    size[[20, 40]] = [0.09, 0.11]
    got = run("transient.cycles", {"drain_current": size}, n_cycles=4, method="peak_detection")
    np.testing.assert_array_equal(got["value"], [0.11, 1.0, np.nan, np.nan])


def test_percentile__samples_equal_to_it_count():
    step = {"drain_current": np.full(20, -2e-3)}
    got = run("transient.cycles", step, n_cycles=5, method="percentile")["value"]
    np.testing.assert_array_equal(got, np.full(5, -2e-3))


def test_peak_per_period__statuses():
    no_sample = gated() | {"drain_current": np.full(500, np.nan)}
    assert word("transient.cycles", run("transient.cycles", no_sample)) == "no_data"
    assert word("transient.cycles", run("transient.cycles", gated(), period=1.0)) == "too_short"
    assert word("transient.cycles", run("transient.cycles", gated(), period=3e-3)) == "too_short"
    assert word("transient.cycles", run("transient.cycles", gated(), period=0.5)) == "ok"
    hole = gated()
    hole["drain_current"][100:200] = np.nan
    np.testing.assert_array_equal(
        np.isnan(run("transient.cycles", hole, n_cycles=5)["value"]), [0, 1, 0, 0, 0]
    )


@pytest.mark.parametrize("method", ["peak_detection", "fixed_interval", "percentile"])
def test_old_methods__statuses(method):
    def outcome(current, **params):
        result = run(
            "transient.cycles", {"drain_current": np.array(current)}, method=method, **params
        )
        return word("transient.cycles", result), result["value"]

    short = [1e-3, 2e-3, 1e-3, np.nan]
    found, value = outcome(short, n_cycles=5)
    if method == "percentile":
        assert (found, np.isnan(value).all()) == ("too_short", True)
    elif method == "fixed_interval":
        assert found == "ok"
        np.testing.assert_array_equal(value, [1e-3, 2e-3, 1e-3, np.nan, np.nan])
    else:
        assert found == "ok"
        np.testing.assert_array_equal(value, [2e-3] + [np.nan] * 4)
    assert outcome([np.nan] * 4)[0] == "no_data"
    assert outcome([])[0] == "no_data"
    found, value = outcome(np.linspace(1.0, 2.0, 50), n_cycles=3)
    assert found == ("no_peak" if method == "peak_detection" else "ok")
    assert value[-1] == 2.0


def test_peak_current__use_abs():
    step = {"drain_current": np.array([1e-3, -5e-3, np.nan, 2e-3])}
    assert run("transient.peak_current", step)["value"] == 5e-3
    assert run("transient.peak_current", step, use_abs=False)["value"] == 2e-3
    dark = run("transient.peak_current", {"drain_current": np.array([np.nan, np.inf])})
    assert word("transient.peak_current", dark) == "no_data"
    assert np.isnan(dark["value"])


# Physics ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1e-3, 1e-6, -1.0])
def test_scaled_current__peaks_scale(factor):
    rng = np.random.default_rng(11)
    step = gated()
    step["drain_current"] += 1e-5 * rng.standard_normal(500)
    scaled = step | {"drain_current": factor * step["drain_current"]}
    for params in (
        {},
        {"method": "peak_detection"},
        {"method": "fixed_interval"},
        {"method": "percentile"},
    ):
        one, other = (
            run("transient.cycles", s, n_cycles=5, **params)["value"] for s in (step, scaled)
        )
        np.testing.assert_array_equal(other, factor * one)
    one, other = (run("transient.peak_current", s)["value"] for s in (step, scaled))
    assert other == abs(factor) * one


# One by one and together --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("transient.peak_current", {}),
        ("transient.peak_current", {"use_abs": False}),
        ("transient.cycles", {"n_cycles": 4}),
        ("transient.cycles", {"n_cycles": 7, "period": 0.05, "sample_rate": 1000}),
        ("transient.cycles", {"n_cycles": 4, "method": "peak_detection"}),
        ("transient.cycles", {"n_cycles": 4, "method": "percentile"}),
    ],
)
def test_batch__same_bits_as_single_steps(name, params):
    rng = np.random.default_rng(13)
    steps = [
        gated(n_cycles=5),
        gated(n_cycles=1) | {"gate_period": np.nan},
        gated(n_cycles=3, m=60, n_on=20),
        gated(n_cycles=2) | {"sampling_interval": np.nan},
    ]
    for size in (0, 1, 2, 30, 149):
        step = gated() | {"drain_current": rng.standard_normal(size) * 1e-3}
        step |= {key: np.arange(size) * 1e-3 for key in ("original_time", "continuous_time")}
        steps.append(step)
    steps[4]["drain_current"][:] = np.nan
    steps[-1]["drain_current"][::7] = np.nan
    batch = Batch.from_steps(steps)
    before = {key: array.copy() for key, array in batch.arrays.items()}
    extractor = EXTRACTORS[name](params)
    together = extractor.extract_batch(batch, extractor.params)
    alone = stack_steps(
        extractor.variables, [extractor.extract_step(batch.step(i)) for i in range(len(batch))]
    )
    assert together.keys() == alone.keys() == extractor.variables.keys()
    for key, column in alone.items():
        assert together[key].dtype == column.dtype
        np.testing.assert_array_equal(together[key].view(np.uint8), column.view(np.uint8))
    for key, array in before.items():
        np.testing.assert_array_equal(batch.arrays[key], array)


# What they declare --------------------------------------------------------------------------------


def test_cycles__shape():
    extractor = transient.Cycles({"n_cycles": 7})
    value = extractor.variables["value"]
    assert (value.shape, value.dims, value.unit) == ((7,), ("cycle",), "A")
    assert transient.Cycles().output_shape == (100,)


@pytest.mark.parametrize(
    ("name", "params", "said"),
    [
        ("transient.cycles", {"method": "peaks"}, "method='peaks'"),
        ("transient.cycles", {"n_cycles": 0}, "n_cycles=0"),
        ("transient.cycles", {"prominance": 1.0}, "did you mean 'prominence'"),
        ("transient.decay_time", {"fit_range": [0.9, 0.1]}, "fit_range must be"),
        ("transient.decay_time", {"fit_range": [0.1]}, "fit_range"),
        ("transient.peak_current", {"use_abs": "perhaps"}, "use_abs='perhaps'"),
    ],
)
def test_params__wrong_ones_are_named(name, params, said):
    with pytest.raises(ParameterError, match=said):
        EXTRACTORS[name](params)
