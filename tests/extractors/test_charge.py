"""Charge and capacitance: of an RC circuit what it holds, with intervals that cover it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import trapezoid

from oectflow.extractors import get_extractor
from oectflow.measurement import Batch
from tests.extractors.test_crossings import autoregressive

CHARGE, CAPACITANCE = "transient.gate_charge", "transient.gate_capacitance"
HALF, N_CYCLES, INTERVAL = 200, 3, 1e-3
#: F, V, A.
C, STEP, LEAK = 2e-6, 0.5, 3e-9
SAMPLE = {"W": 1e-4, "L": 1e-5, "d": 1e-7, "u_W": 2e-6, "u_L": 0.0, "u_d": 1e-9}


def circuit(tau=15.0, late=0.5, noise=0.0, n_cycles=N_CYCLES, **more):
    """Return a step of a gate that is charged with ``tau`` samples; low first, 0 is the first step.

    ``late``: how long after the switch the first sample of a phase is, in samples.
    """
    since = np.arange(HALF) + late
    gone = np.exp(-since / tau)
    # Of the first phase nothing is charged.
    rate = C * STEP / (tau * INTERVAL) * gone
    high = np.repeat(np.tile([0.0, 1.0], n_cycles), HALF)
    Ig = np.where(high > 0, np.tile(rate, 2 * n_cycles), -np.tile(rate, 2 * n_cycles))
    Ig[:HALF] = 0.0
    current = np.where(high > 0, 1.0 - np.tile(gone, 2 * n_cycles), np.tile(gone, 2 * n_cycles))
    return {
        "drain_current": 1e-3 * (current + 0.1),
        "Ig": Ig + LEAK + noise,
        "Vg": STEP * high,
        "sampling_interval": INTERVAL,
        "gate_period": 2 * HALF * INTERVAL,
        "duty_cycle": 0.5,
        "sample": SAMPLE,
    } | more


def found_in(name, step):
    extractor = get_extractor(name)
    found = extractor.extract_step(step)
    return found, np.array(list(extractor.variables["status"].statuses))[found["status"]]


def test_rc__holds_its_charge_and_capacitance():
    step = circuit()
    found, words = found_in(CHARGE, step)
    charged = words == "ok"
    charged[0, 1] = False
    assert charged.sum() == 2 * N_CYCLES - 1
    sign = np.array([1.0, -1.0])
    # Trapezoids of an exponential: (1/tau)^2 / 12; the interval of the switch has its own error.
    off = np.abs(found["switched"] - C * STEP * sign)
    assert (off < 2 * found["switched_stderr"])[charged].all()
    assert (found["switched_stderr"] < 0.03 * C * STEP)[charged].all()
    # What still flows in the last quarter: exp(-10) of the first current, and less.
    assert found["leakage"][charged] == pytest.approx(LEAK, abs=1e-9)
    found, words = found_in(CAPACITANCE, step)
    assert (np.abs(found["value"] - C) < 2 * found["stderr"])[charged].all()
    assert (found["value"] > 0)[charged].all()
    volume = SAMPLE["W"] * SAMPLE["L"] * SAMPLE["d"]
    assert found["volumetric"] == pytest.approx(found["value"] / volume, nan_ok=True)
    # 2 % of W and 1 % of d.
    share = found["geometry_stderr"] / found["volumetric"]
    assert share[charged] == pytest.approx(np.hypot(0.02, 0.01))


def test_charge__of_all_phases_is_the_integral_of_the_step():
    rng = np.random.default_rng(1)
    step = circuit(noise=1e-9 * rng.normal(size=2 * HALF * N_CYCLES))
    found, _ = found_in(CHARGE, step)
    total = trapezoid(step["Ig"], dx=INTERVAL)
    assert np.nansum(found["value"]) == pytest.approx(total, rel=1e-10, abs=1e-16)


@pytest.mark.parametrize("phi", [0.0, 0.6])
def test_intervals__cover_the_truth_as_often_as_they_say(phi):
    rng = np.random.default_rng(2)
    inside, total = np.zeros(2), 0
    clean, words = found_in(CHARGE, circuit(late=1e-9))
    there = words == "ok"
    for _ in range(150):
        noise = 2e-6 * autoregressive(rng, (2 * HALF * N_CYCLES,), phi)
        found, words = found_in(CHARGE, circuit(late=1e-9, noise=noise))
        good = (words == "ok") & there
        for i, (name, error) in enumerate((("value", "stderr"), ("switched", "switched_stderr"))):
            off = np.abs(found[name] - clean[name])
            inside[i] += np.sum((off <= 1.96 * found[error])[good])
        total += good.sum()
    assert total > 700
    # Binomial, three standard deviations, beside the 0.93 to 0.97 wanted; neighbours share samples.
    margin = 3 * np.sqrt(0.95 * 0.05 / (total / 2))
    assert (inside / total > 0.93 - margin).all()
    assert (inside / total < 0.97 + margin).all()


def test_words__say_what_is_missing():
    step = circuit()
    without = {name: value for name, value in step.items() if name != "Ig"}
    for name in (CHARGE, CAPACITANCE):
        found, words = found_in(name, without)
        assert set(words.flat) == {"no_gate_current"}
        assert np.isnan(found["value"]).all()
        found, words = found_in(name, step | {"Ig": np.full(step["Ig"].size, np.nan)})
        assert "no_gate_current" in words
    marked = step["Ig"].copy()
    marked[450], marked[650] = 9.9e37, np.nan
    _, words = found_in(CHARGE, step | {"Ig": marked})
    assert np.sum(words == "overflow") == np.sum(words == "nan") == 1
    _, words = found_in(CHARGE, circuit(tau=0.5))
    assert "fast" in words
    _, words = found_in(CHARGE, circuit(tau=90.0))
    assert "unsettled" in words


def test_capacitance__by_the_declared_voltages_where_none_is_recorded():
    step = {name: value for name, value in circuit().items() if name != "Vg"}
    found, words = found_in(CAPACITANCE, step)
    assert set(words.flat) <= {"no_gate", "absent"}
    found, words = found_in(CAPACITANCE, step | {"Vg_low": -0.1, "Vg_high": STEP - 0.1})
    good = words == "ok"
    good[0, 1] = False
    assert good.sum() == 2 * N_CYCLES - 1
    assert (np.abs(found["value"] - C) < 2 * found["stderr"])[good].all()
    bare, words = found_in(CAPACITANCE, {k: v for k, v in circuit().items() if k != "sample"})
    assert (words == "ok").any()
    assert np.isnan(bare["volumetric"]).all()


@pytest.mark.parametrize("name", [CHARGE, CAPACITANCE])
def test_batch_and_steps__are_the_same_bits(name):
    steps = [circuit(tau=10.0 + n, n_cycles=n) for n in (1, 3, 2)]
    extractor = get_extractor(name)
    together = extractor.extract_batch(Batch.from_steps(steps), extractor.params)
    for i, step in enumerate(steps):
        for column, alone in extractor.extract_step(step).items():
            n = alone.shape[0]
            np.testing.assert_array_equal(together[column][i, :n], alone)
            rest = together[column][i, n:]
            assert (rest == 1).all() if column == "status" else np.isnan(rest).all()


@pytest.mark.parametrize("Ig", [np.empty(0), np.zeros(400), np.full(400, np.nan)])
def test_degenerate_steps__have_no_wrong_number(Ig):
    step = {
        "drain_current": np.full(Ig.size, 1e-3),
        "Ig": Ig,
        "sampling_interval": 1e-3,
        "gate_period": 0.1,
        "duty_cycle": 0.5,
    }
    found, words = found_in(CHARGE, step)
    assert np.isnan(found["value"][words != "ok"]).all()
    assert (found["value"][words == "ok"] == 0.0).all()
