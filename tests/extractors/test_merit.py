"""Figures of merit of transfer sweeps: analytic curves, brute force, broken sweeps."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import linregress

from oectflow.errors import ParameterError
from oectflow.extractors.base import get_extractor, stack_steps
from oectflow.extractors.branches import LEFT_OUT, UNSOUND
from oectflow.extractors.kernels import merit, sweeps
from oectflow.measurement import Batch
from tests.extractors import naive

EPS = np.finfo(np.float64).eps
RATIO, VTH = "transfer.on_off_ratio", "transfer.Vth"
SWING, LOOP = "transfer.subthreshold_swing", "transfer.hysteresis"
NAMES = [RATIO, VTH, SWING, LOOP]


def run(name, step, **params):
    """Value, status word and companions of one step."""
    extractor = get_extractor(name, params)
    result = extractor.extract_step(step)
    words = list(extractor.variables["status"].statuses)
    codes = result["status"]
    result["word"] = words[codes] if codes.ndim == 0 else [words[code] for code in codes]
    return result


def sweep(curve, n=61, low=-0.2, high=0.8, shift=0.0):
    """A curve there, and back as it is ``shift`` farther to the left."""
    there = np.linspace(low, high, n)
    back = there[-2::-1]
    return {
        "Vg": np.concatenate([there, back]),
        "Id": np.concatenate([curve(there), curve(back + shift)]),
    }


def p_type(step):
    return {"Vg": -step["Vg"], "Id": -step["Id"]}


# Analytic curves ----------------------------------------------------------------------------------


@pytest.mark.parametrize("decades", [0.0, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("swing", [0.06, 0.1, 0.137])
def test_swing__of_an_exponential_between_two_plateaus(swing, decades):
    step = sweep(lambda v: np.clip(1e-6 * 10 ** (v / swing), 1e-8, 1e-3), n=201)
    # log10 |Id| has an error of at most 20 eps, of which a slope over a run gets 20 eps / rms(dx);
    # rms(dx) is at least the run's length / sqrt(12), and that is decades * swing or two steps.
    length = max(decades * swing, 2 * 0.005)
    for sign, device_type in ((step, "N"), (p_type(step), "P")):
        found = run(SWING, sign, decades=decades, device_type=device_type, direction="both")
        assert (
            run(SWING, sign, decades=decades, direction="both")["value"] == found["value"]
        ).all()
        # The upper plateau is as abrupt as a compliance, and no part of any run.
        assert found["word"] == ["clipped", "clipped"]
        rtol = 20 * EPS * swing * np.sqrt(12) / length + 20 * EPS / length
        np.testing.assert_allclose(found["value"], swing, rtol=rtol)


def test_swing__leakage_makes_it_larger_by_a_known_share():
    swing, leakage = 0.08, 1e-9
    step = sweep(lambda v: 1e-6 * 10 ** (v / swing) + leakage, low=-0.3, high=0.0, n=121)
    found = run(SWING, step)
    # The slope at a current I is (1 - leakage / I) / swing.  The last run begins a decade and at
    # most one point (0.0025 V) below 1e-6 A.
    lowest = 1e-7 * 10 ** (-0.0025 / swing)
    assert swing < found["value"] < swing / (1 - leakage / lowest)
    assert found["word"] == "edge"


def test_swing__only_where_the_current_grows_the_right_way():
    step = sweep(lambda v: 1e-3 / (1 + np.exp(-(v - 0.3) / 0.03)))
    assert run(SWING, step)["word"] in ("ok", "edge")
    assert run(SWING, p_type(step))["value"] == run(SWING, step)["value"]
    assert run(SWING, step, device_type="P")["word"] == "narrow"
    assert run(SWING, p_type(step), device_type="N")["word"] == "narrow"
    assert np.isnan(run(SWING, step, device_type="p")["value"])
    # 1e-3 at the top and 6e-11 at the bottom: seven decades and not eight.
    assert run(SWING, step, decades=7)["word"] != "narrow"
    assert run(SWING, step, decades=8)["word"] == "narrow"


def test_swing__noise_about_zero_is_no_slope():
    rng = np.random.default_rng(1)
    step = sweep(lambda v: np.clip(1e-6 * 10 ** (v / 0.1), None, 1e-3), n=101, low=-0.8)
    noise = 1e-9 * rng.standard_normal(step["Id"].size)
    noisy = {"Vg": step["Vg"], "Id": np.where(step["Id"] > 1e-7, step["Id"], 0.0) + noise}
    with naive.believing():
        found = run(SWING, noisy, current_floor=1e-8)
        steepest = run(SWING, noisy, decades=0)["value"]
    # Left is the exponential with noise of at most 5e-9 A on at least 1e-7 A: at most 5 %, or 0.022
    # decades, at points within one decade; a least-squares slope over X gets at most
    # 0.022 sqrt(12) / X, which is 0.076 of 1 / S where X is S.
    assert found["value"] == pytest.approx(0.1, rel=0.085)
    # Between two points the noise alone, at 1e-9 A and less, would have a steeper slope.
    assert steepest < 0.05


def test_vth__of_the_linear_law():
    vth, k = 0.123, 2e-3
    for step, want in (
        (sweep(lambda v: k * np.maximum(v - vth, 0)), vth),
        (p_type(sweep(lambda v: k * np.maximum(v - vth, 0))), -vth),
        # A p-type device that a positive gate voltage switches off.
        (sweep(lambda v: -k * np.maximum(vth - v, 0)), vth),
    ):
        found = run(VTH, step, direction="both")
        # Slopes over h = 1/60 V of currents up to k: relative error 4 eps / h, over at most 1 V.
        np.testing.assert_allclose(found["value"], want, rtol=0, atol=4 * EPS * 60 + 4 * EPS)


@pytest.mark.parametrize("gradient", ["auto", "two_sided_mean", "second_order"])
def test_vth__of_the_quadratic_law(gradient):
    vth, k = -0.05, 1e-3
    step = sweep(lambda v: 0.5 * k * np.maximum(v - vth, 0) ** 2, n=51)
    for mirrored, sign in ((step, 1), (p_type(step), -1)):
        root = run(VTH, mirrored, method="sqrt", gradient=gradient, direction="both")
        # As above, with h = 0.02 V and one more rounding for the root.
        np.testing.assert_allclose(root["value"], sign * vth, rtol=0, atol=8 * EPS * 50)
        # The tangent to the parabola is steepest at its end R = 0.85 V above the threshold, where
        # the only slope is k (R - h / 2): it meets zero R^2 / (2 R - h) before.
        linear = run(VTH, mirrored, gradient=gradient)
        assert linear["word"] == "edge"
        want = sign * (0.8 - 0.85**2 / (2 * 0.85 - 0.02))
        assert linear["value"] == pytest.approx(want, abs=8 * EPS * 50)


def test_vth__of_a_triode_curve_within_a_step_of_the_kink():
    # Mobility that falls with the gate voltage bends the line: gm is largest just above the kink,
    # where the mean of two slopes has lost at most the bend theta over three steps h.
    vth, theta, h = 0.1, 0.5, 1 / 60
    step = sweep(lambda v: 1e-3 * np.maximum(v - vth, 0) / (1 + theta * np.maximum(v - vth, 0)))
    found = run(VTH, step)
    assert found["word"] == "ok"
    assert abs(found["value"] - vth) <= h


@pytest.mark.parametrize("steps", [0, 1, 2, 7])
def test_hysteresis__shift_by_whole_steps_is_exact(steps):
    h = 1 / 64
    curve = sweep(lambda v: 1e-3 / (1 + np.exp(-(v - 0.25) / 0.06)), 65, -0.25, 0.75)["Id"][:65]
    there = np.arange(-16, 49) * h
    back = np.concatenate([curve, np.full(steps, curve[-1])])[steps:]
    step = {
        "Vg": np.concatenate([there, there[-2::-1]]),
        "Id": np.concatenate([curve, back[-2::-1]]),
    }
    for level in ("half", "geometric"):
        found = run(LOOP, step, level=level)
        assert found["word"] == "ok"
        # The same two points on either side: the fraction between them differs by the rounding of
        # two differences, each an eps of log10 |Id| or |Id| over its change per step.
        assert found["value"] == pytest.approx(steps * h, abs=40 * EPS)
        mirrored = run(LOOP, p_type(step), level=level)
        assert mirrored["value"] == -found["value"]
        assert mirrored["area"] == found["area"]
        assert mirrored["current"] == found["current"]


@pytest.mark.parametrize("shift", [-0.0321, 0.0123, 0.05])
def test_hysteresis__shift_and_area_of_a_sigmoid(shift):
    top, width, h = 1e-3, 0.06, 0.0125

    def curve(v):
        return top / (1 + np.exp(-(v - 0.3) / width))

    step = sweep(curve, n=81, shift=shift)
    found = run(LOOP, step)
    # A chord is at most h^2 / 8 max|f''| off the curve, with max|f''| = top / (6 sqrt(3) width^2);
    # the slope at half of the top is top / (4 width), and 0.9 of that a step away.
    bend = top / (6 * np.sqrt(3) * width**2)
    assert abs(found["value"] - shift) <= 2 * h**2 / 8 * bend / (0.9 * top / (4 * width))
    # The reverse branch begins a step below the turning point.
    low, high = -0.2, 0.8 - h

    def primitive(v):
        return top * width * np.log1p(np.exp((v - 0.3) / width))

    area = primitive(high) - primitive(low) - primitive(high + shift) + primitive(low + shift)
    # The error of trapezoids: h^2 / 12 times the length times max|f''|, of two curves.
    assert abs(found["area"] - area) <= 2 * h**2 / 12 * bend
    assert found["current"] == pytest.approx(curve(0.8 + min(shift, 0.0)) / 2, rel=0.02)


def test_hysteresis__shift_of_exponentials_is_exact_on_the_geometric_level():
    step = sweep(lambda v: 1e-12 * 10 ** (v / 0.09), n=33, shift=0.0321)
    found = run(LOOP, step, level="geometric")
    # log10 |Id| to 20 eps over a slope of 1 / 0.09 V, twice.
    assert found["value"] == pytest.approx(0.0321, abs=2 * 20 * EPS * 0.09 + 4 * EPS)
    current = np.abs(step["Id"])
    both = [current[:33], current[33:]]
    want = np.sqrt(min(b.max() for b in both) * max(b.min() for b in both))
    assert found["current"] == pytest.approx(want, rel=50 * EPS)


def test_hysteresis__of_noise_about_the_level_is_the_middle_crossing():
    vg = np.array([0, 1, 2, 3, 4, 5, 6, 5, 4, 3, 2, 1, 0]) / 10
    noisy = np.array([0, 2, 6, 4, 6, 9, 10, 9, 8, 7, 6, 4, 0]) * 1e-4
    with naive.believing():
        found = run(LOOP, {"Vg": vg, "Id": noisy})
    # Forward: half of 1e-3 is passed at 0.175, 0.25 and 0.35 V; reverse at 0.15 V.
    assert found["value"] == pytest.approx(0.25 - 0.15, abs=4 * EPS)
    bell = np.array([0, 2, 10, 10, 2, 0, 0, 0, 3, 10, 10, 2, 0]) * 1e-4
    with naive.believing():
        found = run(LOOP, {"Vg": vg, "Id": bell})
    assert found["word"] == "ambiguous"
    assert np.isnan(found["value"])
    assert np.isfinite(found["area"])


def test_ratio__of_a_curve_and_what_bounds_it():
    step = sweep(lambda v: 1e-3 / (1 + np.exp(-(v - 0.3) / 0.05)))
    found = run(RATIO, step, direction="both")
    for branch, value in zip((step["Id"][:61], step["Id"][60:]), found["value"], strict=True):
        assert value == branch.max() / branch.min()
    assert found["word"] == ["ok", "ok"]
    floor = run(RATIO, step, current_floor=1e-6)
    assert (floor["word"], floor["value"]) == ("floor", step["Id"].max() / 1e-6)
    zero = {"Vg": step["Vg"], "Id": np.where(step["Vg"] < 0, 0.0, step["Id"])}
    assert run(RATIO, zero)["word"] == "zero"
    assert np.isnan(run(RATIO, zero)["value"])
    assert run(RATIO, zero, current_floor=1e-9)["value"] == step["Id"].max() / 1e-9
    leaking = {"Vg": step["Vg"], "Id": step["Id"] - 1e-5}
    assert run(RATIO, leaking)["word"] == "sign"
    below = run(RATIO, step, current_floor=1.0)
    assert (below["word"], below["value"]) == ("flat", 1.0)


# Brute force --------------------------------------------------------------------------------------


def branch_points(step):
    """The merged points of both branches, which are tested against an exact twin elsewhere."""
    x, y = np.empty(step["Vg"].size + 1), np.empty(step["Vg"].size + 1)
    first, m = sweeps.branches(step["Vg"], step["Id"], x, y)
    return [(x[a : a + k], y[a : a + k]) for a, k in zip(first, m, strict=True)]


def brute_swing(x, y, sign, decades, floor):
    """The steepest slope, the error that rounding makes, and the words of all as steep as that."""
    good = np.abs(y) >= floor
    z = np.log10(np.abs(np.where(good, y, 1.0)))
    runs = [(0.0, 0.0, "narrow")]
    for i in range(x.size):
        for j in range(i + 2, x.size):
            run_of = slice(i, j + 1)
            if not good[run_of].all() or np.unique(np.sign(y[run_of])).size > 1:
                break
            if abs(z[j] - z[i]) >= decades:
                slope = sign * linregress(x[run_of], z[run_of]).slope
                rms = np.std(x[run_of])
                error = 50 * EPS * (np.abs(z[run_of]).max() + abs(slope) * np.abs(x).max()) / rms
                runs.append((slope, error, "edge" if i == 0 or j == x.size - 1 else "ok"))
                break
    slope, error, _ = max(runs)
    return slope, error, [word for other, _, word in runs if other >= slope - 2 * error]


def brute_crossings(x, y, level, log):
    with np.errstate(divide="ignore"):
        least = np.min(np.abs(y)[y != 0])
        z = np.log10(np.maximum(np.abs(y), least)) if log else np.abs(y)
    level = np.log10(level) if log else level
    found = []
    for (a, za), (b, zb) in pairwise(zip(x, z, strict=True)):
        if (za < level) != (zb < level):
            share = brentq(lambda s, u=za, w=zb: (1 - s) * u + s * w - level, 0, 1, xtol=1e-15)
            found.append(a + share * (b - a))
    return np.sort(found)


@st.composite
def noisy_sweeps(draw):
    """Sweeps with uneven steps and repeats, noise from none to more than the signal, gaps."""
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    n = draw(st.integers(0, 40))
    back = draw(st.integers(0, 40))
    noise = draw(st.sampled_from([0.0, 1e-9, 1e-6, 1e-3]))
    forward = np.cumsum(rng.integers(0, 4, n)) / 64
    # Down again, at most to the voltage at which it began.
    reverse = forward.max(initial=0) - np.cumsum(rng.integers(0, 4, back)) / 64
    vg = np.concatenate([forward, reverse[reverse >= 0]]) - 0.3
    current = 1e-3 / (1 + np.exp(-(vg - rng.uniform(-0.3, 0.3)) / rng.uniform(0.02, 0.1)))
    current += noise * rng.standard_normal(vg.size)
    current[rng.random(vg.size) < draw(st.sampled_from([0.0, 0.1]))] = np.nan
    if draw(st.booleans()):
        current = np.round(current, 6)
    sign = draw(st.sampled_from([1, -1]))
    return {"Vg": sign * vg, "Id": sign * current}


@settings(deadline=None, max_examples=150, derandomize=True)
@given(noisy_sweeps())
def test_figures__same_as_brute_force(step):
    with naive.believing():
        check_figures(step)


def test_figures__same_as_brute_force_in_measured_files(shared_data):
    for file in sorted((shared_data / "oect_infra").rglob("*.h5")):
        with h5py.File(file) as h:
            data = h.get("transfer/measurement_data", np.empty((0, 2, 0)))[:]
        for vg, current in data[:3]:
            check_figures({"Vg": vg.astype(float), "Id": current.astype(float)})


def check_figures(step):
    both = branch_points(step)
    ratio = run(RATIO, step, direction="both")["value"]
    for k, (x, y) in enumerate(both):
        if x.size < 3:
            assert np.isnan(ratio[k])
            continue
        if np.abs(y).min() > 0:
            assert ratio[k] == np.abs(y).max() / np.abs(y).min()
        for method, z in (("linear", y), ("sqrt", np.sqrt(np.abs(y)))):
            got = run(VTH, step, direction="both", method=method, gradient="second_order")
            if np.all(np.diff(x) > 0) or np.all(np.diff(x) < 0):
                slope = np.gradient(z, x)
            else:
                # NumPy's formula does not hold where the voltage turns back.
                exact = [[Fraction(v) for v in values] for values in (z, x)]
                slope = np.array(naive.derivative(*exact, "second_order"), float)
            # NumPy sums three products where we weigh two slopes: 20 roundings of max|z| / min(h).
            error = 20 * EPS * np.abs(z).max() / np.abs(np.diff(x)).min()
            if np.abs(slope).max() <= 2 * error:
                assert got["word"][k] == "flat" or np.abs(slope).max() > 0
                continue
            near = np.abs(slope) >= np.abs(slope).max() - 2 * error
            want = x[near] - z[near] / slope[near]
            bound = np.abs(z[near] / slope[near]) * 2 * error / np.abs(slope[near])
            distance = np.abs(got["value"][k] - want) - bound - 4 * EPS * (1 + np.abs(want))
            assert distance.min() <= 0
        auto = {"N": 1, "P": -1, None: 0}[naive.device_type(list(zip(x, y, strict=True)))]
        for device_type, sign in (("N", 1), ("P", -1), ("auto", auto)):
            for decades in (0.0, 1.0):
                options = {"device_type": device_type, "decades": decades, "direction": "both"}
                got = run(SWING, step, **options)
                if sign == 0:
                    assert got["word"][k] == "ambiguous"
                    continue
                slope, error, words = brute_swing(x, y, sign, decades, 1e-12)
                thermal = np.log(10) * 8.617333262e-5 * 300
                assert got["word"][k] in (["subthermal"] if got["value"][k] < thermal else words)
                if got["word"][k] != "narrow":
                    assert abs(1 / got["value"][k] - slope) <= error + 4 * EPS * slope
    check_loop(step, both)


def check_loop(step, both):
    (x_f, y_f), (x_r, y_r) = both
    if min(x_f.size, x_r.size) < 3:
        assert run(LOOP, step)["word"] in ("no_data", "absent", "too_few")
        return
    low, high = max(x_f.min(), x_r.min()), min(x_f.max(), x_r.max())
    largest = min(np.abs(y_f).max(), np.abs(y_r).max())
    for level in ("half", "geometric"):
        got = run(LOOP, step, level=level)
        if low < high and all(np.all(np.diff(x) > 0) or np.all(np.diff(x) < 0) for x, _ in both):
            grid = np.unique([low, high, *x_f, *x_r])
            grid = grid[(grid >= low) & (grid <= high)]
            sides = [
                np.interp(grid, *np.array(sorted(zip(x, np.abs(y), strict=True))).T)
                for x, y in both
            ]
            want = np.trapezoid(sides[0], grid) - np.trapezoid(sides[1], grid)
            # Sums of up to 100 terms, each rounded a few times, of at most max|Id| (high - low);
            # interpolation to eps |Vg| / h of a change of the current.
            scale = max(np.abs(y_f).max(), np.abs(y_r).max())
            assert abs(got["area"] - want) <= 400 * EPS * scale * (high - low + 1)
        if largest == 0:
            assert got["word"] == "flat"
            continue
        at = largest / 2
        if level == "geometric":
            smallest = max(np.min(np.abs(y)[y != 0]) for _, y in both)
            at = np.sqrt(largest * smallest)
        assert got["current"] == pytest.approx(at, rel=100 * EPS)
        if any(np.any(np.abs(np.abs(y) - at) <= 200 * EPS * at) for _, y in both):
            continue  # on which side of the level such a point lies is for rounding to decide
        crossings = [brute_crossings(x, y, at, level == "geometric") for x, y in both]
        counts = [c.size for c in crossings]
        if min(counts) == 0:
            assert got["word"] == "no_level"
        elif any(c % 2 == 0 for c in counts):
            assert got["word"] == "ambiguous"
        else:
            want = np.median(crossings[0]) - np.median(crossings[1])
            assert got["value"] == pytest.approx(want, abs=crossing_error(both, at, level))


def crossing_error(both, at, level):
    """Rounding of the level and the ordinates, over the least change between neighbours there."""
    error = 8 * EPS
    for x, y in both:
        z = np.abs(y)
        if level == "geometric":
            z = np.log10(np.maximum(z, np.min(z[z > 0])))
        here = np.log10(at) if level == "geometric" else at
        for k in range(x.size - 1):
            if (z[k] < here) != (z[k + 1] < here):
                scale = max(abs(z[k]), abs(z[k + 1]), 1.0 if level == "geometric" else 0.0)
                error += abs(x[k + 1] - x[k]) * (100 * EPS * scale / abs(z[k + 1] - z[k]) + 1e-14)
    return error


# Broken sweeps ------------------------------------------------------------------------------------

NAN = np.nan
#: Voltages, currents, and the word of RATIO, VTH, SWING (both branches) and LOOP.
BROKEN = {
    "empty": ([], [], [["no_data"] * 2] * 3, "no_data"),
    "all_nan": ([NAN] * 4, [NAN] * 4, [["no_data"] * 2] * 3, "no_data"),
    "nan_currents": ([0, 0.1, 0.2, 0.1], [NAN] * 4, [["no_data"] * 2] * 3, "no_data"),
    "one_point": ([0.1], [1e-6], [["too_few", "absent"]] * 3, "absent"),
    "two_points": ([0.1, 0.2], [1e-6, 2e-6], [["too_few", "absent"]] * 3, "absent"),
    "constant_vg": (
        [0.3] * 5,
        [1e-6, 2e-6, 3e-6, 2e-6, 1e-6],
        [["too_few", "absent"]] * 3,
        "absent",
    ),
    "one_way": (
        [0, 0.1, 0.2, 0.3, 0.4],
        [1e-6, 2e-6, 2e-5, 2e-4, 3e-4],
        [["ok", "absent"], ["ok", "absent"], ["ok", "absent"]],
        "absent",
    ),
    "one_point_back": (
        [0, 0.1, 0.2, 0.3, 0.4, 0.3],
        [1e-6, 2e-6, 2e-5, 2e-4, 3e-4, 2e-4],
        [["ok", "too_few"], ["ok", "too_few"], ["ok", "too_few"]],
        "too_few",
    ),
    "constant_id": (
        [0, 0.1, 0.2, 0.1, 0.05, 0],
        [1e-6] * 6,
        [["flat", "flat"], ["flat", "flat"], ["narrow", "narrow"]],
        "no_level",
    ),
    "zero_id": (
        [0, 0.1, 0.2, 0.1, 0.05, 0],
        [0.0] * 6,
        [["zero", "zero"], ["flat", "flat"], ["narrow", "narrow"]],
        "flat",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken__gets_a_word(case):
    vg, current, words, loop = BROKEN[case]
    step = {"Vg": np.array(vg, float), "Id": np.array(current, float)}
    for name, want in zip(NAMES, words, strict=False):
        found = run(name, step, direction="both")
        assert found["word"] == want, name
        for value, word in zip(found["value"], want, strict=True):
            assert np.isfinite(value) == (word == "ok" or (name, word) == (RATIO, "flat")), name
    found = run(LOOP, step)
    assert found["word"] == loop
    assert np.isnan(found["value"])


def test_nan_samples__are_as_if_not_there():
    step = sweep(lambda v: 1e-3 / (1 + np.exp(-(v - 0.3) / 0.05)), shift=0.02)
    gone = np.arange(step["Vg"].size) % 7 == 3
    holes = {name: np.where(gone, NAN, array) for name, array in step.items()}
    without = {name: array[~gone] for name, array in step.items()}
    for name in NAMES:
        with naive.believing():
            np.testing.assert_array_equal(run(name, holes)["value"], run(name, without)["value"])


# One by one and together --------------------------------------------------------------------------

CALLS = [
    (RATIO, {}),
    (RATIO, {"direction": "both", "current_floor": 1e-6}),
    (VTH, {"direction": "reverse"}),
    (VTH, {"direction": "both", "method": "sqrt", "gradient": "second_order"}),
    (VTH, {"direction": "both", "method": "ratio", "smooth": 5}),
    (SWING, {"direction": "both"}),
    (SWING, {"device_type": "P", "decades": 0.3}),
    (LOOP, {}),
    (LOOP, {"level": "geometric"}),
]


@pytest.mark.parametrize(("name", "params"), CALLS)
def test_batch__same_bits_as_single_steps(name, params):
    rng = np.random.default_rng(7)
    steps = [
        {"Vg": np.array(vg, float), "Id": np.array(current, float)}
        for vg, current, *_ in BROKEN.values()
    ]
    for n in (3, 10, 61):
        step = sweep(lambda v: 1e-3 / (1 + np.exp(-(v - 0.3) / 0.05)), n=n, shift=0.03)
        step["Id"] += 1e-6 * rng.standard_normal(step["Id"].size)
        steps += [step, p_type(step)]
    batch = Batch.from_steps(steps)
    before = {key: array.copy() for key, array in batch.arrays.items()}
    extractor = get_extractor(name, params)
    together = extractor.extract_batch(batch, extractor.params)
    alone = stack_steps(
        extractor.variables, [extractor.extract_step(batch.step(i)) for i in range(len(batch))]
    )
    assert together.keys() == alone.keys() == extractor.variables.keys()
    for key, column in alone.items():
        assert together[key].dtype == column.dtype
        np.testing.assert_array_equal(
            np.ascontiguousarray(together[key]).view(np.uint8), column.view(np.uint8)
        )
    for key, array in before.items():
        np.testing.assert_array_equal(batch.arrays[key], array)
    none = Batch({"Vg": np.empty(0), "Id": np.empty(0)}, np.zeros(1, np.int64))
    columns = extractor.extract_batch(none, extractor.params)
    assert columns["value"].shape == (0, *extractor.output_shape)


@pytest.mark.parametrize(
    ("name", "params", "said"),
    [
        (RATIO, {"current_floor": -1.0}, "current_floor=-1.0"),
        (VTH, {"method": "quadratic"}, "method='quadratic'"),
        (SWING, {"decades": -1}, "decades=-1"),
        (SWING, {"device_type": "X"}, "device_type='X'"),
        (SWING, {"current_floor": 0}, "current_floor=0"),
        (LOOP, {"direction": "forward"}, "unknown parameter 'direction'"),
        (LOOP, {"level": 1e-6}, "level=1e-06"),
    ],
)
def test_params__wrong_ones_are_named(name, params, said):
    with pytest.raises(ParameterError, match=said):
        get_extractor(name, params)


#: Codes of the kernel that an extractor can meet.
CODES = {
    RATIO: ["FOUND", "NO_BRANCH", "TOO_FEW", "NO_DATA", "FLAT", "ZERO", "FLOOR", "SIGN", "NOISY"],
    VTH: ["FOUND", "NO_BRANCH", "TOO_FEW", "NO_DATA", "FLAT", "EDGE", "NOISY", "NARROW"],
    SWING: ["FOUND", "NO_BRANCH", "TOO_FEW", "NO_DATA", "EDGE", "NARROW", "AMBIGUOUS", "NOISY"],
    LOOP: ["FOUND", "NO_BRANCH", "TOO_FEW", "NO_DATA", "FLAT", "NO_LEVEL", "AMBIGUOUS"],
}


@pytest.mark.parametrize("name", NAMES)
def test_codes__each_has_the_word_of_its_name(name):
    extractor = get_extractor(name)
    words = list(extractor.variables["status"].statuses)
    codes = np.array([getattr(merit, code) for code in CODES[name]], np.int8)
    named = {"FOUND": "ok", "NO_BRANCH": "absent"}
    want = [named.get(code, code.lower()) for code in CODES[name]]
    assert [words[status] for status in extractor.to_status(codes)] == want
    # And no word is there that no code means, beside the common "error" and what the branch or the
    # temperature says.
    others = [*LEFT_OUT, *UNSOUND, "error"]
    others += {SWING: ["gate_current", "subthermal"], RATIO: ["gate_current"]}.get(name, [])
    assert sorted(words) == sorted([*want, *others])
    assert extractor.unit == {RATIO: "", SWING: "V/decade"}.get(name, "V")
