"""Several curves or loops in one record come apart, and one curve never does."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from oectflow.pipeline.inputs.readers.curves import split_curves


def parts(x, outer=None, kind="transfer"):
    names = {"transfer": ("Vg", "Vd"), "output": ("Vd", "Vg"), "impedance": ("frequency", "Vdc")}
    inner, other = names[kind]
    arrays = {inner: np.asarray(x, float), "Id": np.zeros(len(x))}
    if outer is not None:
        arrays[other] = np.asarray(outer, float)
    return split_curves(kind, arrays, {})


def bounds(pieces):
    return [(start, stop) for start, stop, _ in pieces]


def double(first, last, n, ends_twice):
    out = np.linspace(first, last, n)
    return np.r_[out, out[::-1] if ends_twice else out[-2::-1]]


def test_the_field_case_of_three_drain_voltages(shared_data):
    table = shared_data / "field_cases" / "x03_three_Vd_curves_one_file" / "1.csv"
    vg, current = np.loadtxt(table, delimiter=",", skiprows=1).T
    pieces = split_curves("transfer", {"Vg": vg, "Id": current}, {"sweep_rate": 0.1})
    assert bounds(pieces) == [(0, 33), (33, 66), (66, 99)]
    assert pieces[1][2] == {"sweep_rate": 0.1, "curve": 2, "file_position": 33}


@pytest.mark.parametrize(
    "name", ["x01_overflow_9.91E37", "x05_one_outlier", "x10_no_hysteresis_gm_at_turn"]
)
def test_field_cases_with_one_curve_stay_whole(shared_data, name):
    folder = shared_data / "field_cases" / name
    assert json.loads((folder / "test_info.json").read_text())["steps"]
    vg = np.loadtxt(folder / "1.csv", delimiter=",", skiprows=1)[:, 0]
    assert parts(vg) == [(0, len(vg), {})]


sweep = st.tuples(
    st.sampled_from(["one way", "double", "double, end twice"]),
    st.floats(0.3, 1.0),
)


@given(
    st.lists(sweep, min_size=1, max_size=8),
    st.sampled_from([-0.025, 0.01, 0.1]),
    st.integers(10, 60),
    st.floats(-1, 1),
)
@settings(max_examples=200, deadline=None)
def test_what_was_put_together_comes_apart(sweeps, step, longest, first):
    curves = []
    for shape, share in sweeps:
        n = max(3, round(share * longest))
        last = first + step * (n - 1)
        if shape == "one way":
            curves.append(np.linspace(first, last, n))
        else:
            curves.append(double(first, last, n, shape.endswith("twice")))
    # Loops of three points beside one of twice their range look like noise.
    ranges = [round(float(np.ptp(curve)) / abs(step)) + 1 for curve in curves]
    assume(min(ranges) > 3 or max(ranges) < 6)
    ends = np.cumsum([len(curve) for curve in curves])
    expected = list(zip([0, *map(int, ends[:-1])], map(int, ends), strict=True))
    pieces = parts(np.concatenate(curves))
    assert bounds(pieces) == expected
    if len(curves) > 1:
        assert [values["curve"] for *_, values in pieces] == list(range(1, len(curves) + 1))
        assert [values["file_position"] for *_, values in pieces] == [a for a, _ in expected]
    else:
        assert pieces[0][2] == {}


@given(
    st.sampled_from(["one way", "double", "double, end twice", "from the middle"]),
    st.integers(3, 400),
    st.floats(0.05, 2.0),
    st.floats(0, 0.02),
    st.floats(0, 0.03),
    st.sampled_from([1.0, 0.3, 0.05]),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=200, deadline=None)
def test_noise_of_a_recorded_voltage_splits_nothing(shape, n, span, noise, resolution, often, seed):
    rng = np.random.default_rng(seed)
    if shape == "one way":
        x = np.linspace(0, -span, n)
    elif shape == "from the middle":
        high, low = 0.4 * span, -0.6 * span
        x = np.r_[np.linspace(0, high, n), np.linspace(high, low, n), np.linspace(low, 0, n)]
    else:
        x = double(0, -span, n, shape.endswith("twice"))
    x = x + rng.normal(0, noise * span, len(x)) * (rng.random(len(x)) < often)
    if resolution > 1e-3:
        x = np.round(x / (resolution * span)) * (resolution * span)
    vd = rng.normal(-0.6, 2e-4, len(x))
    assert bounds(parts(x)) == [(0, len(x))]
    assert bounds(parts(x, vd)) == [(0, len(x))]


@given(st.integers(2, 5), st.integers(5, 60), st.floats(0, 2e-4), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_the_other_voltage_tells_curves_apart(k, n, noise, seed):
    rng = np.random.default_rng(seed)
    one = np.linspace(0, -0.8, n)
    # There and back: by the gate voltage alone every second pair is one double sweep.
    vg = np.concatenate([one[:: (-1) ** i] for i in range(k)])
    levels = -0.1 * np.arange(1, k + 1)
    vd = np.repeat(levels, n)
    pieces = parts(vg, vd + rng.normal(0, noise, len(vd)))
    assert bounds(pieces) == [(i * n, (i + 1) * n) for i in range(k)]
    np.testing.assert_allclose([values["Vd"] for *_, values in pieces], levels, atol=5 * noise)


def test_loops_of_a_voltammogram_start_where_the_first_did():
    loop = np.r_[np.linspace(0, 0.4, 17), np.linspace(0.375, -0.8, 48), np.linspace(-0.775, 0, 32)]
    assert bounds(parts(loop)) == [(0, 97)]
    three = np.r_[loop, loop[1:], loop[1:]]
    assert bounds(parts(three)) == [(0, 96), (96, 192), (192, 289)]


def test_a_reading_that_sticks_out_splits_nothing():
    x = double(0, -0.8, 33, ends_twice=False)
    for i in (5, 20, 40, 60):
        for value in (3.0, -3.0, 0.0, np.nan):
            y = x.copy()
            y[i] = value
            assert bounds(parts(y)) == [(0, len(x))], (i, value)
            vd = np.full(len(x), -0.6)
            vd[i] = value
            assert bounds(parts(x, vd)) == [(0, len(x))], (i, value)


def test_uneven_steps_are_one_sweep():
    x = np.r_[np.linspace(0.4, 0, 9), np.linspace(-0.002, -0.2, 100), np.linspace(-0.25, -0.8, 12)]
    assert bounds(parts(x)) == [(0, len(x))]
    assert bounds(parts(np.r_[x, x])) == [(0, len(x)), (len(x), 2 * len(x))]


def test_spectra_one_after_the_other():
    f = np.logspace(5, -1, 43)
    assert bounds(parts(f, kind="impedance")) == [(0, 43)]
    pieces = parts(np.tile(f, 2), np.repeat([0.0, -0.4], 43), kind="impedance")
    assert bounds(pieces) == [(0, 43), (43, 86)]
    assert [values["Vdc"] for *_, values in pieces] == [0.0, -0.4]


def test_a_transient_is_one_curve():
    time = np.tile(np.arange(50.0), 3)
    assert split_curves("transient", {"time": time, "Id": time}, {}) == [(0, 150, {})]


def test_nothing_is_one_empty_curve():
    assert parts([]) == [(0, 0, {})]
    assert parts([np.nan] * 20) == [(0, 20, {})]
    assert parts([0.3] * 20) == [(0, 20, {})]
