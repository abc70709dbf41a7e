"""Gate leakage, and which way round a hysteresis goes."""

from __future__ import annotations

import numpy as np
import pytest

from oectflow.extractors.base import get_extractor, stack_steps
from oectflow.measurement import Batch

THERE = np.linspace(-0.2, 0.8, 61)
VG = np.concatenate([THERE, THERE[-2::-1]])
ID = 1e-3 / (1 + np.exp(-(VG - 0.3) / 0.05))
IG = 1e-8 * (1 + VG**2) * np.where(np.arange(VG.size) < 61, 1, -1.5)


def run(name, step, **params):
    extractor = get_extractor(name, params)
    found = extractor.extract_step(step)
    for key, variable in extractor.variables.items():
        if variable.statuses:
            found[key] = list(variable.statuses)[int(found[key])]
    return found


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_leakage__is_that_of_numpy(direction, sign):
    step = {"Vg": sign * VG, "Id": sign * ID, "Ig": IG}
    found = run("transfer.gate_leakage", step, direction=direction)
    assert found["status"] == "ok"
    assert found["value"] == np.abs(IG).max()
    at = run("transfer.gm_max_coords", step, direction=direction)["value"][0]
    branch = slice(0, 61) if direction == "forward" else slice(60, None)
    k = int(np.argmin(np.abs(step["Vg"][branch] - at)))
    assert found["share"] == np.abs(IG[branch][k] / ID[branch][k])


def test_leakage__scales_with_the_gate_current_alone():
    one = run("transfer.gate_leakage", {"Vg": VG, "Id": ID, "Ig": IG})
    other = run("transfer.gate_leakage", {"Vg": VG, "Id": 2 * ID, "Ig": 4 * IG})
    assert other["value"] == 4 * one["value"]
    assert other["share"] == 2 * one["share"]


def test_leakage__says_what_it_lacks():
    step = {"Vg": VG, "Id": ID}
    assert run("transfer.gate_leakage", step)["status"] == "no_gate_current"
    none = run("transfer.gate_leakage", step | {"Ig": np.full(VG.size, np.nan)})
    assert none["status"] == "no_gate_current"
    assert np.isnan(none["value"])
    marked = np.where(np.arange(VG.size) == 7, 9.9e37, IG)
    found = run("transfer.gate_leakage", step | {"Ig": marked})
    assert found["status"] == "gate_overflow"
    assert found["value"] == np.abs(IG).max()
    other_unit = run("transfer.gate_leakage", step | {"Ig": 1e9 * IG})
    assert other_unit["status"] == "implausible"
    assert np.isnan(other_unit["value"])
    # Without a largest gm there is no share, and the largest gate current is one all the same.
    flat = run("transfer.gate_leakage", {"Vg": VG, "Id": np.full(VG.size, 1e-9), "Ig": IG})
    assert flat["status"] == "ok"
    assert flat["value"] == np.abs(IG).max()


def test_leakage__same_bits_in_a_batch():
    steps = [
        {"Vg": VG, "Id": ID, "Ig": IG},
        {"Vg": VG[:0], "Id": ID[:0], "Ig": IG[:0]},
        {"Vg": VG, "Id": ID, "Ig": np.full(VG.size, np.nan)},
        {"Vg": VG, "Id": -ID, "Ig": np.where(VG > 0.5, np.inf, IG)},
    ]
    batch = Batch.from_steps(steps)
    extractor = get_extractor("transfer.gate_leakage")
    together = extractor.extract_batch(batch, extractor.params)
    alone = stack_steps(extractor.variables, [extractor.extract_step(step) for step in steps])
    for name, column in alone.items():
        np.testing.assert_array_equal(together[name], column)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("depletion", [False, True])
@pytest.mark.parametrize("shift", [0.05, -0.05])
def test_loop__is_the_branch_that_carries_more(shift, depletion, sign):
    def curve(v):
        return 1e-3 / (1 + np.exp((1 if depletion else -1) * (v - 0.3) / 0.05))

    current = np.concatenate([curve(THERE), curve(THERE[-2::-1] + shift)])
    found = run("transfer.hysteresis", {"Vg": sign * VG, "Id": sign * current})
    forward = np.interp(0.3, THERE, current[:61])
    back = np.interp(0.3, THERE, current[:59:-1])
    assert found["loop"] == ("back_higher" if back > forward else "back_lower")


def test_loop__of_the_same_way_back_is_none():
    rng = np.random.default_rng(2)
    same = 0
    for _ in range(200):
        noisy = ID + 1e-6 * rng.standard_normal(ID.size)
        same += run("transfer.hysteresis", {"Vg": VG, "Id": noisy})["loop"] == "none"
    # 95 % expected, with a standard deviation of 1.5 %; the noise itself is known to 7 %.
    assert same >= 170
    one_way = run("transfer.hysteresis", {"Vg": VG[:61], "Id": ID[:61]})
    assert one_way["loop"] == "absent"
    assert one_way["status"] == "absent"
