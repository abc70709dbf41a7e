from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oectflow.extractors import get_extractor
from oectflow.extractors.base import OK
from oectflow.measurement import Batch

NAMES = (
    "output.channel_conductance",
    "output.on_resistance",
    "output.output_conductance",
    "output.saturation_voltage",
    "output.Early_voltage",
)


def value(name: str, Vd, Id, **params):
    found = get_extractor(name, params).extract_step({"Vd": Vd, "Id": Id})
    words = list(get_extractor(name).variables["status"].statuses)
    return float(found["value"]), float(found["stderr"]), words[int(found["status"])]


def square_law(Vd, G: float, V: float, slope: float = 0.0):
    """Id of the square law up to saturation at V, with a line behind; n-type in Vd > 0."""
    x = np.minimum(Vd, V)
    return G * (V - x / 2) * x + slope * Vd


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("scale", [1e-9, 1e-3, 1.0])
def test_square_law__exact_in_both_directions_and_at_any_scale(sign: int, scale: float) -> None:
    Vd = np.linspace(0, 0.6, 61)
    G, V, gd = scale, 0.3, 0.01 * scale
    Id = square_law(Vd, G, V, gd)
    Vd, Id = sign * Vd, sign * Id
    # The fits are exact on parabola and line: what remains is rounding.
    near = {"rel": 1e-10}
    assert value(NAMES[0], Vd, Id)[::2] == (pytest.approx(G * V + gd, **near), "ok")
    assert value(NAMES[1], Vd, Id)[::2] == (pytest.approx(1 / (G * V + gd), **near), "ok")
    assert value(NAMES[2], Vd, Id)[::2] == (pytest.approx(gd, **near), "ok")
    assert value(NAMES[3], Vd, Id)[::2] == (pytest.approx(sign * V / 2, **near), "ok")
    assert value(NAMES[4], Vd, Id)[::2] == (pytest.approx(G * V**2 / 2 / gd, **near), "ok")


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(30, 200), power=st.integers(-9, 0))
def test_slopes_and_errors__as_numpy_polyfit_has_them(seed: int, n: int, power: int) -> None:
    rng = np.random.default_rng(seed)
    Vd = np.sort(rng.uniform(0, 0.8, n))
    Id = 10.0**power * (np.tanh(5 * Vd) + 0.05 * rng.standard_normal(n))
    top = Vd.max()
    low, high = Vd <= 0.3 * top, Vd >= 0.75 * top
    for name, part, degree in ((NAMES[0], low, 2), (NAMES[2], high, 1)):
        found, stderr, word = value(name, Vd, Id)
        if min(low.sum(), high.sum()) < 6:
            assert word == "too_few"
            continue
        fit, covariance = np.polyfit(Vd[part], Id[part], degree, cov=True)
        if word == "ok":
            # polyfit solves in the powers of Vd, whose condition reaches 1e4 here.
            assert found == pytest.approx(fit[-2], rel=1e-9, abs=1e-9 * stderr)
            assert stderr == pytest.approx(covariance[-2, -2] ** 0.5, rel=1e-8)
        else:
            assert word == "noise"


def test_standard_errors__cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(7)
    Vd = np.linspace(0, 0.6, 121)
    clean = square_law(Vd, 1e-3, 0.3, 1e-5)
    truth = (3.1e-4, 1 / 3.1e-4, 1e-5, 0.15, 4.5)
    n = 2000
    noisy = clean + 1e-7 * rng.standard_normal((n, len(Vd)))
    batch = Batch.from_steps([{"Vd": Vd, "Id": row} for row in noisy])
    for name, true in zip(NAMES, truth, strict=True):
        extractor = get_extractor(name)
        columns = extractor.extract_batch(batch, extractor.params)
        assert (columns["status"] == OK).all()
        inside = np.abs(columns["value"] - true) < 1.96 * columns["stderr"]
        # Student's t with 28 degrees of freedom or more is inside 94 % of the time; the share of n
        # has a standard deviation of 0.5 %.
        assert 0.925 < inside.mean() < 0.965, name


def test_noise_alone__is_no_conductance() -> None:
    rng = np.random.default_rng(3)
    Vd = np.linspace(0, 0.6, 61)
    n = 4000
    batch = Batch.from_steps(
        [{"Vd": Vd, "Id": row} for row in 1e-11 * rng.standard_normal((n, 61))]
    )
    for name in (NAMES[0], NAMES[1]):
        extractor = get_extractor(name)
        status = extractor.extract_batch(batch, extractor.params)["status"]
        # One in a thousand expected; the number is binomial, ten of 4,000 is three deviations off.
        assert (status == OK).sum() <= 10


@pytest.mark.parametrize(
    ("Vd", "Id", "words"),
    [
        ([], [], ["no_data"] * 5),
        ([np.nan] * 9, [1.0] * 9, ["no_data"] * 5),
        ([0.0] * 9, [1.0] * 9, ["no_data"] * 5),
        (np.linspace(0, 1, 12), np.linspace(0, 1, 12), ["too_few"] * 5),
        (np.repeat([0.0, 1.0], 9), np.repeat([0.0, 1.0], 9), ["too_few"] * 5),
        # A resistor never saturates.
        (np.linspace(0, 1, 41), np.linspace(0, 1, 41), ["ok"] * 3 + ["not_saturated"] * 2),
    ],
)
def test_what_cannot_be_known_is_said(Vd, Id, words) -> None:
    Vd, Id = np.asarray(Vd, float), np.asarray(Id, float)
    found = [value(name, Vd, Id) for name in NAMES]
    assert [word for *_, word in found] == words
    assert all(np.isnan(number) == (word != "ok") for number, _, word in found)


def test_falling_current__has_no_early_voltage() -> None:
    Vd = np.linspace(0, 0.6, 61)
    Id = square_law(Vd, 1e-3, 0.3, -2e-6)
    assert value("output.Early_voltage", Vd, Id)[2] == "falling"
    assert value("output.output_conductance", Vd, Id)[2] == "ok"


def test_batch__same_bits_as_single_steps() -> None:
    rng = np.random.default_rng(11)
    steps = [
        {
            "Vd": np.linspace(0, 0.6, n),
            "Id": np.tanh(np.linspace(0, 3, n)) + rng.normal(size=n) / 99,
        }
        for n in (61, 0, 12, 200)
    ]
    batch = Batch.from_steps(steps)
    for name in NAMES:
        extractor = get_extractor(name)
        whole = extractor.extract_batch(batch, extractor.params)
        for i, step in enumerate(steps):
            for column, one in extractor.extract_step(step).items():
                np.testing.assert_array_equal(whole[column][i], one)
