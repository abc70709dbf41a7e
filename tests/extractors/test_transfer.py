"""Features of transfer sweeps: against files in use, exact twins, physics and broken sweeps."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oectflow.errors import ParameterError
from oectflow.extractors import transfer
from oectflow.extractors.base import get_extractor, stack_steps
from oectflow.extractors.kernels import sweep_errors, sweep_noise, sweeps
from oectflow.measurement import Batch
from oectflow.pipeline.features.feature_list import FeatureList
from oectflow.pipeline.inputs.simulate import simulate_device
from tests.extractors import naive

FILES = ["regular_serial", "ragged_ptype_serial", "regular_parallel_writer"]
EPS = np.finfo(np.float64).eps
U32 = float(np.finfo(np.float32).eps) / 2

EXTRACTORS = {
    "transfer.gm_max": transfer.GmMax,
    "transfer.Von": transfer.Von,
    "transfer.absI_max": transfer.AbsIMax,
    "transfer.gm_max_coords": transfer.GmMaxCoords,
    "transfer.Von_coords": transfer.VonCoords,
}

#: Where the expected values are deliberately not reproduced.
CONTRADICTED = {
    "ragged_ptype_serial: every transfer.* call is an error": (
        "padding of the shorter sweeps made the whole experiment fail; we give every step the "
        "value that it has on its own (N_step_by_step, P_step_by_step)"
    ),
    "raw (both branches as one curve)": (
        "no extractor asks for it: across the turning point the slope is taken between two "
        "branches and is no transconductance (twice gm_max in these files)"
    ),
}


def read_sweeps(folder, file):
    with h5py.File(folder / "oect_infra" / file) as h:
        data = h["transfer/measurement_data"][:]
    return [{"Vg": vg[np.isfinite(vg)], "Id": current[np.isfinite(vg)]} for vg, current in data]


def run(name, step, **params):
    return EXTRACTORS[name](params).extract_step(step)


def word(name, result, **params):
    words = list(EXTRACTORS[name](params).variables["status"].statuses)
    codes = result["status"]
    return words[codes] if codes.ndim == 0 else [words[code] for code in codes]


def sigmoid(n=61, low=-0.2, high=0.8, scale=1e-3):
    """A sweep there and back over n points each way, the turning point measured once."""
    there = np.linspace(low, high, n)
    vg = np.concatenate([there, there[-2::-1]])
    shift = np.where(np.arange(vg.size) < n, 0.3, 0.27)
    return {"Vg": vg, "Id": scale / (1 + np.exp(-(vg - shift) / 0.06)) + 1e-6 * scale}


# Values in use ------------------------------------------------------------------------------------


@pytest.mark.parametrize("gradient", ["two_sided_mean", "auto"])
@pytest.mark.parametrize("device_type", ["N", "P"])
@pytest.mark.parametrize("key", FILES)
def test_expected_float64__every_step_and_branch(expected, shared_data, key, device_type, gradient):
    steps = read_sweeps(shared_data, expected[key]["file"])
    per_step = expected[key]["batch_transfer_float64"][f"{device_type}_step_by_step"]
    assert len(steps) == len(per_step)
    # The same operations on the same numbers: two differences, two quotients, a sum and a half,
    # each rounded once, in whatever order.
    rtol = 3 * EPS
    for step, want in zip(steps, per_step, strict=True):
        for branch in ("forward", "reverse"):
            options = {"direction": branch, "device_type": device_type, "gradient": gradient}
            for name, quantity in (("gm_max", "absgm_max"), ("Von", "Von")):
                got = run(f"transfer.{name}", step, **options)["value"]
                np.testing.assert_allclose(got, want[quantity][branch][0], rtol=rtol)
                got = run(f"transfer.{name}_coords", step, **options)["value"]
                np.testing.assert_array_equal(got, want[quantity][f"{branch}_coords"][0])
        got = run("transfer.absI_max", step, device_type=device_type)["value"]
        assert got == want["absI_max"]["raw"][0]


@pytest.mark.parametrize("key", ["regular_serial", "regular_parallel_writer"])
def test_expected_float32__every_call(expected, shared_data, key):
    steps = read_sweeps(shared_data, expected[key]["file"])
    calls = [c for c in expected[key]["extractors"] if c["extractor"].startswith("transfer.")]
    assert len(calls) == 13
    for call in calls:
        extractor = EXTRACTORS[call["extractor"]](call["params"])
        got = extractor.extract(steps)
        want = np.array(call["result"]["values"])
        assert got.shape == tuple(call["result"]["shape"])
        # The expected values come from Vg and Id rounded to float32: relative error U32 in each
        # number, so at most (2 U32 |I| + |gm| 2 U32 |Vg|) / h in a slope over the spacing h.
        if call["extractor"] == "transfer.gm_max":
            h = np.array([np.abs(np.diff(step["Vg"])).min() for step in steps])
            largest = [[np.abs(step[name]).max() for step in steps] for name in ("Id", "Vg")]
            bound = 2 * U32 * (largest[0] + np.abs(want.T) * largest[1]) / h
            np.testing.assert_array_less(np.abs(got - want).T, bound)
        else:
            np.testing.assert_allclose(got, want, rtol=U32)


def test_expected_errors__are_answered(expected, shared_data):
    calls = expected["ragged_ptype_serial"]["extractors"]
    assert {
        "NaN or infinite" in call["error"]
        for call in calls
        if call["extractor"].startswith("transfer.")
    } == {True}
    steps = read_sweeps(shared_data, expected["ragged_ptype_serial"]["file"])
    assert len({len(step["Vg"]) for step in steps}) == 3
    for name, cls in EXTRACTORS.items():
        assert np.isfinite(cls().extract(steps)).all(), name


def test_contradicted_raw__is_not_a_transconductance(expected):
    for key in FILES:
        for want in expected[key]["batch_transfer_float64"]["N_step_by_step"]:
            gm = want["absgm_max"]
            assert gm["raw"][0] > 1.5 * max(gm["forward"][0], gm["reverse"][0])


def test_same_sweep__from_both_writers(expected, shared_data):
    one, other = (read_sweeps(shared_data, expected[FILES[i]]["file"]) for i in (0, 2))
    for cls in EXTRACTORS.values():
        np.testing.assert_array_equal(cls().extract(one), cls().extract(other))


# Kernels against exact twins ----------------------------------------------------------------------


@st.composite
def rough_sweeps(draw, spacings=(0, 1, 1, 1, 2, 5)):
    """Ragged sweeps on a grid of 1/64 V with repeats, jitter of 2^-20 V, turns and NaN.

    On this grid no two distances are so close to a threshold that rounding could decide.
    """
    steps = draw(st.lists(st.sampled_from(spacings), max_size=24))
    turn = draw(st.integers(0, len(steps)))
    start = draw(st.integers(-20, 20))
    sign = draw(st.sampled_from([1, -1]))
    moves = [s if i < turn else -s for i, s in enumerate(steps)]
    vg = (start + sign * np.cumsum([0, *moves])) / 64
    n = vg.size
    jitter = draw(st.lists(st.sampled_from([0, 0, 0, 1, -1]), min_size=n, max_size=n))
    vg = vg + np.array(jitter) * 2.0**-20
    current = np.array(
        draw(
            st.lists(
                st.floats(-1e-2, 1e-2, allow_subnormal=False) | st.sampled_from([0.0, 1e-3]),
                min_size=n,
                max_size=n,
            )
        )
    )
    for array in (vg, current):
        for k in draw(st.lists(st.integers(0, n - 1), max_size=2)):
            array[k] = draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    return vg, current


@settings(deadline=None, max_examples=300, derandomize=True)
@given(rough_sweeps())
def test_split_and_merge__same_as_twin(sweep):
    vg, current = sweep
    x, y = np.empty(vg.size + 1), np.empty(vg.size + 1)
    n = sweeps.keep_finite(vg, current, x, y)
    forward, reverse, exact_same = naive.branches(vg, current)
    n_forward, same, _ = sweeps.split_sweep(x[:n])
    n = sweeps.share_turn(x, y, n, n_forward, same)
    assert (n_forward, n - n_forward) == (len(forward), len(reverse))
    # A product, and spacings that are exact on this grid.
    assert abs(same - float(exact_same)) <= EPS * same
    for points, first, last in ((forward, 0, n_forward), (reverse, n_forward, n)):
        bx, by = x[first:last].copy(), y[first:last].copy()
        m = sweeps.merge_repeats(bx, by, same)
        groups = naive.merged(points, exact_same)
        assert m == len(groups)
        assert np.all(np.abs(np.diff(bx[:m])) > same)
        # Each of up to 25 merges rounds four times, relative to the numbers that are merged.
        for got, i in ((bx, 0), (by, 1)):
            scale = max((abs(float(p[i])) for p in points), default=0.0)
            want = [float(group[i]) for group in groups]
            np.testing.assert_allclose(got[:m], want, rtol=0, atol=100 * EPS * scale)


@settings(deadline=None, max_examples=300, derandomize=True)
@given(
    rough_sweeps(),
    st.sampled_from(["gm", "onset_n", "onset_p"]),
    st.sampled_from(["auto", "two_sided_mean", "second_order"]),
)
def test_extremes__same_as_twin(sweep, quantity, formula):
    vg, current = sweep
    rows, errors = np.empty((2, 1, 2, 3))
    codes = np.empty((1, 2), np.int8)
    x, y, decades = np.zeros((3, vg.size + 1))
    first, count = sweeps.branches(vg, current, x, y)
    sweep_noise.logarithms(y, decades)
    for direction in (sweeps.FORWARD, sweeps.REVERSE):
        sweeps.sweep_extremes(
            x,
            y,
            decades,
            np.empty(y.size),
            np.array([first]),
            np.array([count]),
            np.zeros((1, 2)),
            np.zeros(1, np.int64),
            direction,
            ["gm", "onset_n", "onset_p"].index(quantity),
            ["auto", "two_sided_mean", "second_order"].index(formula),
            rows[:, direction],
            errors[:, direction],
            codes[:, direction],
        )
    *both, same = naive.branches(vg, current)
    for direction, points in enumerate(both):
        value, at_vg, at_id = rows[0, direction]
        code = codes[0, direction]
        groups = naive.merged(points, same)
        if not points:
            assert code == (sweeps.NO_BRANCH if both[0] else sweeps.NO_DATA)
            assert np.isnan(rows[0, direction]).all()
            continue
        if len(groups) < 3:
            assert code == sweeps.TOO_FEW
            assert np.isnan(rows[0, direction]).all()
            continue
        exact = [float(d) for d in naive.to_maximise(groups, quantity, formula)]
        h = min(abs(float(b[0] - a[0])) for a, b in pairwise(groups))
        span = max(abs(float(p[0])) for p in points)
        # Ordinate: merged currents as above; a logarithm of at most 12 decades, rounded to 1 ulp,
        # of a merged current whose relative error may be as large as the cancellation in it.
        if quantity == "gm":
            error = 100 * EPS * max(abs(float(p[1])) for p in points)
        else:
            merged_error = 100 * EPS * max(abs(float(p[1])) for p in points)
            smallest = max(min(abs(float(g[1])) for g in groups), naive.FLOOR)
            error = 24 * EPS + (merged_error / smallest if len(groups) < len(points) else 0.0)
        steepest = max(abs(d) for d in exact)
        # A slope has the error of two ordinates over h, and that of h relative to itself; the
        # slopes on both sides of a point are at most 3 times the largest derivative (the ends).
        bound = 2 * error / h + 3 * steepest * (200 * EPS * span / h + 4 * EPS)
        if code == sweeps.FLAT:
            assert steepest <= bound
            assert value == 0
            assert np.isnan([at_vg, at_id]).all()
            continue
        sign = -1 if quantity == "onset_p" else 1
        assert abs(sign * value - max(exact)) <= bound
        k = int(np.argmin([abs(float(g[0]) - at_vg) + abs(float(g[1]) - at_id) for g in groups]))
        assert exact[k] >= max(exact) - 2 * bound
        assert code == (sweeps.EDGE if k in (0, len(groups) - 1) else sweeps.FOUND)


@settings(deadline=None, max_examples=200, derandomize=True)
@given(st.lists(st.tuples(st.integers(1, 40), st.floats(-1, 1)), min_size=3, max_size=30))
def test_derivative__second_order_is_numpy_gradient(points):
    x = np.cumsum([p[0] for p in points]) / 64
    y = np.array([p[1] for p in points])
    d = np.empty(x.size)
    sweeps.derivative(y, x, sweep_errors.SECOND_ORDER, d)
    # NumPy adds three products f_k * (spacings): each rounded about five times, and at most
    # max|f| / min(h) * 2.
    h = np.diff(x).min()
    np.testing.assert_allclose(d, np.gradient(y, x), rtol=0, atol=20 * EPS * np.abs(y).max() / h)


def test_derivative__auto_switches_where_the_spacing_is_uneven():
    y = np.array([0.0, 1.0, 4.0, 9.0, 2.0])
    for unevenness, expect_mean in ((0.0, True), (0.9e-3, True), (1.1e-3, False), (0.4, False)):
        # h_r - h_l = unevenness * (h_l + h_r) at the middle point; the outer ones mirror it.
        h_l, h_r = 1 - unevenness, 1 + unevenness
        x = np.cumsum([0, h_l, h_l, h_r, h_r])
        d, mean, second = (np.empty(5) for _ in range(3))
        sweeps.derivative(y, x, sweep_errors.AUTO, d)
        sweeps.derivative(y, x, sweep_errors.TWO_SIDED_MEAN, mean)
        sweeps.derivative(y, x, sweep_errors.SECOND_ORDER, second)
        assert d[2] == (mean if expect_mean else second)[2]
        # The stated difference of the formulas, which is the reason for the threshold.
        slopes = np.diff(y) / np.diff(x)
        difference = unevenness * abs(slopes[1] - slopes[2]) / 2
        assert abs(second[2] - mean[2]) == pytest.approx(difference, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("formula", [sweep_errors.AUTO, sweep_errors.SECOND_ORDER])
def test_derivative__parabola_is_exact_on_uneven_points(formula):
    x = np.array([0.0, 0.125, 0.5, 0.625, 1.0])
    d = np.empty(5)
    sweeps.derivative(3 * x**2 - x, x, formula, d)
    # All numbers are short binary fractions except the divisions: 4 roundings of at most 6.
    np.testing.assert_allclose(d[1:-1], (6 * x - 1)[1:-1], rtol=0, atol=4 * 6 * EPS)


# Physics ------------------------------------------------------------------------------------------


def test_turning_point__there_and_back():
    for step, there in (
        (sigmoid(), 61),
        (sigmoid(low=0.8, high=-0.2), 61),
        ({"Vg": np.array([0.0, 0.2, 0.4, 0.4, 0.2, 0.0]), "Id": np.arange(6.0)}, 3),
        ({"Vg": np.array([0.0, 0.1, 0.2, 0.3, 0.2]), "Id": np.arange(5.0)}, 4),
    ):
        assert sweeps.split_sweep(step["Vg"])[0] == there


def test_direction__reverse_is_forward_of_the_mirrored_sweep():
    step = sigmoid()
    back = {"Vg": step["Vg"][60:], "Id": step["Id"][60:]}
    without_turn = {"Vg": step["Vg"][61:], "Id": step["Id"][61:]}
    for name in ("transfer.gm_max", "transfer.Von"):
        reverse = run(name, step, direction="reverse")
        assert reverse["value"] == run(name, without_turn)["value"]
        assert reverse["value"] == run(name, back)["value"]
        both = run(name, step, direction="both")
        assert both["value"][1] == reverse["value"]
        assert both["value"][0] == run(name, step)["value"]
        assert both["status"].shape == (2,)


def test_one_way__is_forward_whatever_its_sign():
    half = {name: array[:61] for name, array in sigmoid().items()}
    for step in (half, {name: array[::-1] for name, array in half.items()}):
        for name in ("transfer.gm_max", "transfer.Von"):
            result = run(name, step, direction="both")
            assert word(name, result, direction="both") == ["ok", "absent"]
            assert np.isfinite(result["value"][0])
            assert np.isnan(result["value"][1])
        assert word("transfer.gm_max", run("transfer.gm_max", step, direction="reverse")) == (
            "absent"
        )
        coords = run("transfer.gm_max_coords", step, direction="reverse")
        assert np.isnan(coords["value"]).all()
    held = {name: np.append(array, array[-1:]) for name, array in half.items()}
    assert run("transfer.gm_max", held, direction="both")["status"][1] == 1


def test_gm_max__of_a_sigmoid():
    # d/dVg of a logistic at its centre is scale / (4 width); the centre is a point of the grid.
    result = run("transfer.gm_max_coords", sigmoid())
    assert result["value"][0] == pytest.approx(0.3, abs=1e-15)
    gm = run("transfer.gm_max", sigmoid())["value"]
    # Central difference over h: relative error h^2 f''' / (6 f') = (h / width)^2 / 12.
    h, width = 1 / 60, 0.06
    assert gm == pytest.approx(1e-3 / (4 * width), rel=(h / width) ** 2 / 12)
    assert gm < 1e-3 / (4 * width)


@pytest.mark.parametrize("factor", [2.0**-10, 2.0**-20, -1.0, 1e-3, 1e-6])
def test_scaled_current__scales_as_physics_says(factor):
    step = sigmoid()
    # Stays above 1e-12 A: below that floor the onset is not defined by the current any more.
    step["Id"] += 1e-5
    assert np.abs(step["Id"] * factor).min() > 1e-12
    scaled = {"Vg": step["Vg"], "Id": step["Id"] * factor}
    # A factor that is a power of two is exact; another one rounds every current once, which a
    # slope over h turns into 2 u max|I| / h, and the four roundings of the slope itself.
    exact = np.frexp(abs(factor))[0] == 0.5
    h = np.diff(step["Vg"]).max()
    for branch in ("forward", "reverse"):
        one = run("transfer.gm_max", step, direction=branch)["value"]
        other = run("transfer.gm_max", scaled, direction=branch)["value"]
        bound = abs(factor) * (EPS * np.abs(step["Id"]).max() / h + 4 * EPS * one)
        assert abs(other - abs(factor) * one) <= (0 if exact else bound)
        one, other = (
            run("transfer.gm_max_coords", s, direction=branch)["value"] for s in (step, scaled)
        )
        np.testing.assert_array_equal(other, one * [1, factor])
        one, other = (
            run("transfer.Von_coords", s, direction=branch)["value"] for s in (step, scaled)
        )
        np.testing.assert_array_equal(other, one * [1, factor])
    one, other = (run("transfer.absI_max", s)["value"] for s in (step, scaled))
    assert other == abs(factor) * one


def test_von__floor_of_the_current_decides_below_it():
    step = sigmoid()
    # All of it below 1e-12 A: no onset can be told.
    dark = {"Vg": step["Vg"], "Id": step["Id"] * 1e-10}
    result = run("transfer.Von_coords", dark)
    assert word("transfer.Von_coords", result) == "flat"
    assert np.isnan(result["value"]).all()
    # Part of it: the onset is where the current leaves the floor.
    dim = {"Vg": step["Vg"], "Id": (step["Id"] - 1e-9) * 1e-7}
    assert run("transfer.Von", dim)["value"] > run("transfer.Von", step)["value"]


def test_von__device_type_takes_the_falling_slope():
    n_type = sigmoid(low=-0.8, high=0.2)
    p_type = {"Vg": -n_type["Vg"], "Id": -n_type["Id"]}
    for branch in ("forward", "reverse"):
        n = run("transfer.Von", n_type, direction=branch)["value"]
        for letter in ("P", "p"):
            p = run("transfer.Von", p_type, direction=branch, device_type=letter)["value"]
            assert p == -n
    assert (
        run("transfer.gm_max", p_type, device_type="p")["value"]
        == (run("transfer.gm_max", p_type, device_type="N")["value"])
    )


@pytest.mark.parametrize("polarity", ["n", "p"])
def test_von__auto_is_the_type_of_the_device(polarity):
    device = simulate_device(3, polarity=polarity, n_transfer=6, n_transient=0, fade=0.2)
    right, wrong = ("N", "P") if polarity == "n" else ("P", "N")
    for sweep in device.transfer_steps:
        step = {"Vg": sweep.arrays["Vg"], "Id": sweep.arrays["Id"]}
        for name in ("transfer.Von", "transfer.Von_coords"):
            for branch in ("forward", "reverse"):
                auto, same, other = (
                    run(name, step, direction=branch, device_type=letter)
                    for letter in ("auto", right, wrong)
                )
                np.testing.assert_array_equal(auto["value"], same["value"])
                assert word(name, auto) == word(name, same) == "ok"
                assert not np.array_equal(auto["value"], other["value"])


@pytest.mark.parametrize(
    ("bundled", "letters"),
    [
        ("all", ["auto"] * 3),
        ("v2_transfer_basic", ["N"] * 2),
        ("v2_ml_ready", ["N"] * 4),
        ("v2_quick_analysis", ["N"]),
        ("v2_mixed", ["N"]),
    ],
)
def test_von__default_is_auto_and_sets_of_the_software_in_use_say_n(bundled, letters):
    assert transfer.Von().params["device_type"] == transfer.VonCoords().params["device_type"]
    assert transfer.Von().params["device_type"] == "auto"
    features = FeatureList.load(bundled).extracted
    types = [f.extractor.params["device_type"] for f in features if "Von" in f.extractor.name]
    assert types == letters


def test_turning_point__belongs_to_both_branches():
    # gm rises up to the turning point, and there is no hysteresis.
    there = np.linspace(0, -0.8, 33)
    curve = -1e-3 * np.clip(-there - 0.2, 0, None) ** 2 - 1e-9
    step = {
        "Vg": np.concatenate([there, there[-2::-1]]),
        "Id": np.concatenate([curve, curve[-2::-1]]),
    }
    forward, reverse = run("transfer.gm_max", step, direction="both")["value"]
    assert forward == reverse == abs(curve[-1] - curve[-2]) / abs(there[-1] - there[-2])
    for name in ("transfer.gm_max_coords", "transfer.Von_coords"):
        one, other = (run(name, step, direction=d)["value"] for d in ("forward", "reverse"))
        np.testing.assert_array_equal(one, other)


def test_turning_point__a_step_to_the_other_branch_is_no_slope():
    # On the way back everything lies 0.1 V to the right: the current falls by a step at the turn.
    there = np.linspace(0, 0.8, 33)
    vg = np.concatenate([there, there[-2::-1]])
    shift = np.where(np.arange(65) < 33, 0.2, 0.3)
    step = {"Vg": vg, "Id": 1e-3 * np.clip(vg - shift, 0, None)}
    result = run("transfer.gm_max", step, direction="both")
    # Straight lines: differences of numbers up to 6e-4 over 0.025, rounded.
    np.testing.assert_allclose(result["value"], 1e-3, rtol=100 * EPS)


@settings(deadline=None, max_examples=300, derandomize=True)
@given(rough_sweeps(), st.sampled_from([None, 1e-6, 3e-4]))
def test_von__auto_same_as_comparing_every_pair_of_points(sweep, resolution):
    vg, current = sweep
    if resolution:
        # Many equal largest and smallest currents.
        current = np.clip(np.round(current / resolution) * resolution, -5e-4, 5e-4)
    step = {"Vg": vg, "Id": current}
    x, y = np.empty(vg.size + 1), np.empty(vg.size + 1)
    first, m = sweeps.branches(vg, current, x, y)
    swing = get_extractor("transfer.subthreshold_swing", {"direction": "both"})
    swing_words = list(swing.variables["status"].statuses)
    with naive.believing():
        auto, *both = (
            run("transfer.Von", step, direction="both", device_type=letter)
            for letter in ("auto", "N", "P")
        )
        swing_status = [swing_words[code] for code in swing.extract_step(step)["status"]]
    both = dict(zip("NP", both, strict=True))
    for k in (0, 1):
        # The merged points of the branch, which are tested against an exact twin above.
        points = slice(first[k], first[k] + m[k])
        pairs = [(Fraction(v), Fraction(c)) for v, c in zip(x[points], y[points], strict=True)]
        flat = word("transfer.Von", both["N"], direction="both")[k] == "flat"
        letter = naive.device_type(pairs) if len(pairs) >= 3 else "N"
        assert (swing_status[k] == "ambiguous") == (letter is None)
        if letter is None and not flat:
            assert word("transfer.Von", auto, direction="both")[k] == "ambiguous"
            assert np.isnan(auto["value"][k])
        else:
            np.testing.assert_array_equal(auto["value"][k], both[letter or "N"]["value"][k])
            assert auto["status"][k] == both[letter or "N"]["status"][k]


def test_von__auto_of_a_current_on_both_sides_is_ambiguous():
    vg = np.linspace(-1, 1, 21)
    both_sides = {"Vg": vg, "Id": np.minimum(1e-3 * np.abs(vg), 5e-4) + 1e-6}
    for name in ("transfer.Von", "transfer.Von_coords"):
        result = run(name, both_sides, device_type="auto")
        assert word(name, result) == "ambiguous"
        assert np.isnan(result["value"]).all()
    # One side only a little higher than the other is the type.
    higher = {"Vg": vg, "Id": both_sides["Id"] + np.where(vg == -1, 1e-9, 0.0)}
    with naive.believing():
        result = run("transfer.Von", higher, device_type="auto")
    assert word("transfer.Von", result) == "ok"
    # Whatever is below 1e-12 A is off: where it is least, is chance.
    bell = {"Vg": vg, "Id": np.where(np.abs(vg) < 0.5, 1e-6, 1e-13 * (2 + np.sign(vg)))}
    with naive.believing():
        result = run("transfer.Von", bell, device_type="auto")
    assert word("transfer.Von", result) == "ambiguous"


def test_edge__is_flagged_and_kept():
    vg = np.linspace(0, 1, 11)
    result = run("transfer.gm_max", {"Vg": vg, "Id": 1e-3 * vg**3})
    assert word("transfer.gm_max", result) == "edge"
    assert result["value"] == pytest.approx(1e-3 * (1 - 0.9**3) / 0.1, rel=1e-12)
    inner = run("transfer.gm_max", {"Vg": vg, "Id": 1e-3 * np.tanh(5 * (vg - 0.5))})
    assert word("transfer.gm_max", inner) == "ok"


def test_ties__first_one_counts():
    vg = np.arange(7.0)
    current = np.array([0.0, 0.0, 1.0, 2.0, 2.0, 3.0, 4.0]) / 1024
    assert run("transfer.gm_max_coords", {"Vg": vg, "Id": current})["value"][0] == 2.0


# Broken and unusual sweeps ------------------------------------------------------------------------


def test_repeated_voltage__never_divides_by_nothing():
    step = sigmoid()
    for jitter in (0.0, 1e-12, 1e-6, 1e-4):
        # Every voltage measured twice, the second time a little higher and with other noise.
        vg = np.repeat(step["Vg"], 2)
        current = np.repeat(step["Id"], 2)
        vg[1::2] += jitter
        current[1::2] += 2e-7
        twice = {"Vg": vg, "Id": current}
        for direction in ("forward", "reverse"):
            got = run("transfer.gm_max", twice, direction=direction)["value"]
            single = run("transfer.gm_max", step, direction=direction)["value"]
            # Means shift all points alike, but for the turning point, which is split in two
            # halves: its current is off by 1e-7 A and its voltage by jitter / 2.
            h = 1 / 60
            assert abs(got - single) <= 1e-7 / h + single * jitter / h


def test_turning_voltage_measured_twice__first_is_forward_second_reverse():
    step = sigmoid()
    twice = {name: np.insert(array, 60, array[60]) for name, array in step.items()}
    # The reverse branch then has the point at which the forward branch ends.
    back = {name: array[60:] for name, array in step.items()}
    for name in ("transfer.gm_max", "transfer.Von"):
        assert run(name, twice)["value"] == run(name, step)["value"]
        assert run(name, twice, direction="reverse")["value"] == run(name, back)["value"]


def test_turning_voltage_measured_twice__a_little_higher_the_second_time():
    vg = np.array([0.0, 0.1, 0.2, 0.2 + 1e-6, 0.1, 0.0])
    for sweep in (vg, -vg, 1 - vg):
        assert sweeps.split_sweep(sweep)[0] == 3


def test_nan_points__do_not_count_for_the_largest_current():
    step = sigmoid()
    k = int(np.argmax(step["Id"]))
    step["Vg"][k] = np.nan
    assert run("transfer.absI_max", step)["value"] == np.delete(step["Id"], k).max()


def test_nan_points__are_dropped():
    step = sigmoid()
    kept = np.ones(121, bool)
    kept[[3, 30, 61, 100]] = False
    holes = {name: array.copy() for name, array in step.items()}
    holes["Vg"][[3, 100]] = np.nan
    holes["Id"][[30, 61]] = [np.nan, np.inf]
    without = {name: array[kept] for name, array in step.items()}
    for name in EXTRACTORS:
        with naive.believing():
            dropped, value = run(name, holes)["value"], run(name, without)["value"]
        np.testing.assert_array_equal(dropped, value)
        # And it is said; none where the extreme lies beside a gap, as that of gm does.
        said = run(name, holes)
        assert word(name, said) == "overflow"
        assert np.isnan(said["value"]).all() == ("gm_max" in name)


def test_closed_loop__turns_inside_a_branch():
    # 0 -> 0.5 -> -0.5 -> 0: the way back passes a second turn, where spacings cancel.
    vg = np.concatenate([np.arange(0, 6), np.arange(4, -6, -1), np.arange(-4, 1)]) / 10
    current = 1e-3 * vg
    for gradient in ("auto", "second_order", "two_sided_mean"):
        for direction in ("forward", "reverse"):
            got = run(
                "transfer.gm_max",
                {"Vg": vg, "Id": current},
                direction=direction,
                gradient=gradient,
            )["value"]
            # A straight line: differences of numbers up to 0.5 over 0.1, rounded.
            assert got == pytest.approx(1e-3, rel=20 * EPS)


DEGENERATE = {
    "empty": ([], [], ["no_data", "no_data"]),
    "all_nan": ([np.nan] * 4, [np.nan] * 4, ["no_data", "no_data"]),
    "nan_currents": ([0, 0.1, 0.2, 0.1], [np.nan] * 4, ["no_data", "no_data"]),
    "one_point": ([0.1], [1e-6], ["too_few", "absent"]),
    "two_points": ([0.1, 0.2], [1e-6, 2e-6], ["too_few", "absent"]),
    "one_way": ([0, 0.1, 0.2, 0.3], [1e-6, 2e-6, 5e-6, 6e-6], ["ok", "absent"]),
    "one_point_back": ([0, 0.1, 0.2, 0.1], [1e-6, 2e-6, 5e-6, 4e-6], ["edge", "too_few"]),
    "turning_twice": (
        [0, 0.1, 0.2, 0.2, 0.1, 0],
        [1e-6, 2e-6, 5e-6, 5e-6, 2e-6, 1e-6],
        ["edge", "edge"],
    ),
    "constant_vg": ([0.3] * 5, [1e-6, 2e-6, 3e-6, 2e-6, 1e-6], ["too_few", "absent"]),
    "constant_id": ([0, 0.1, 0.2, 0.1, 0.05, 0], [1e-6] * 6, ["flat", "flat"]),
}


@pytest.mark.parametrize("case", DEGENERATE)
def test_degenerate__gets_a_word(case):
    vg, current, words = DEGENERATE[case]
    step = {"Vg": np.array(vg, float), "Id": np.array(current, float)}
    result = run("transfer.gm_max", step, direction="both")
    assert word("transfer.gm_max", result, direction="both") == words
    for value, found in zip(result["value"], words, strict=True):
        assert np.isfinite(value) == (found in ("ok", "edge", "flat"))
        assert found != "flat" or value == 0.0
    finite = np.isfinite(step["Vg"]) & np.isfinite(step["Id"])
    largest = run("transfer.absI_max", step)
    assert word("transfer.absI_max", largest) == ("ok" if finite.any() else "no_data")
    if finite.any():
        assert largest["value"] == np.abs(step["Id"][finite]).max()


# One by one and together --------------------------------------------------------------------------

CALLS = [
    ("transfer.gm_max", {}),
    ("transfer.gm_max", {"direction": "reverse", "gradient": "second_order"}),
    ("transfer.gm_max", {"direction": "both", "gradient": "two_sided_mean"}),
    ("transfer.Von", {"direction": "both"}),
    ("transfer.Von", {"direction": "reverse", "device_type": "P"}),
    ("transfer.Von", {"direction": "both", "device_type": "auto"}),
    ("transfer.gm_max_coords", {}),
    ("transfer.gm_max_coords", {"return_vg_only": True, "direction": "reverse"}),
    ("transfer.Von_coords", {"return_id_only": True}),
    ("transfer.Von_coords", {"device_type": "P", "direction": "reverse"}),
    ("transfer.Von_coords", {"device_type": "auto"}),
    ("transfer.absI_max", {}),
]


@pytest.mark.parametrize(("name", "params"), CALLS)
def test_batch__same_bits_as_single_steps(name, params):
    rng = np.random.default_rng(7)
    steps = [
        {"Vg": np.array(vg, float), "Id": np.array(current, float)}
        for vg, current, _ in DEGENERATE.values()
    ]
    for n in (3, 10, 61):
        step = sigmoid(n)
        step["Id"] += 1e-6 * rng.standard_normal(step["Id"].size)
        steps += [step, {"Vg": -step["Vg"], "Id": -step["Id"]}]
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


def test_batch__no_step():
    none = Batch({"Vg": np.empty(0), "Id": np.empty(0)}, np.zeros(1, np.int64))
    for name, params in CALLS:
        extractor = EXTRACTORS[name](params)
        columns = extractor.extract_batch(none, extractor.params)
        assert columns["value"].shape == (0, *extractor.output_shape)


# What they declare --------------------------------------------------------------------------------


def test_declared__shape_labels_and_units():
    both = transfer.GmMax({"direction": "both"})
    assert both.output_shape == (2,)
    for variable in both.variables.values():
        assert (variable.dims, variable.labels) == (
            ("direction",),
            {"direction": ("forward", "reverse")},
        )
    for params, unit, shape in (
        ({}, "V, A", (2,)),
        ({"return_vg_only": True}, "V", ()),
        ({"return_id_only": True}, "A", ()),
        ({"return_vg_only": True, "return_id_only": True}, "V", ()),
    ):
        for cls in (transfer.GmMaxCoords, transfer.VonCoords):
            value = cls(params).variables["value"]
            assert (value.unit, value.shape) == (unit, shape)
            assert cls(params).variables["status"].shape == ()
    assert transfer.GmMaxCoords().variables["value"].labels == {"quantity": ("Vg", "Id")}
    vg, current = np.array(run("transfer.gm_max_coords", sigmoid())["value"])
    assert run("transfer.gm_max_coords", sigmoid(), return_vg_only=True)["value"] == vg
    assert run("transfer.gm_max_coords", sigmoid(), return_id_only=True)["value"] == current


@pytest.mark.parametrize(
    ("name", "params", "said"),
    [
        ("transfer.gm_max", {"direction": "up"}, "direction='up'"),
        ("transfer.gm_max", {"diretion": "forward"}, "did you mean 'direction'"),
        ("transfer.gm_max_coords", {"direction": "both"}, "direction='both'"),
        ("transfer.Von", {"device_type": "X"}, "device_type='X'"),
        ("transfer.absI_max", {"direction": "forward"}, "unknown parameter 'direction'"),
    ],
)
def test_params__wrong_ones_are_named(name, params, said):
    with pytest.raises(ParameterError, match=said):
        EXTRACTORS[name](params)


def test_lengths_differ__is_an_error():
    with pytest.raises(ValueError, match="'Id' and 'Vg' of a step differ in length"):
        run("transfer.gm_max", {"Vg": np.zeros(3), "Id": np.zeros(4)})


def test_twin_constants__are_those_of_the_kernel():
    assert Fraction(sweeps.SAME_VOLTAGE) == naive.SAME_VOLTAGE
    assert Fraction(sweep_errors.EVEN) == naive.EVEN
    assert Fraction(sweeps.STEP) == naive.STEP
    assert sweep_errors.CURRENT_FLOOR == naive.FLOOR
