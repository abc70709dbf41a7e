"""Transconductance by the geometry of the channel."""

from __future__ import annotations

import numpy as np
import pytest

from oectflow.extractors.base import get_extractor
from oectflow.measurement import Batch

MU_C, V_TH = 2e4, 0.1  # F/(m V s), V
W, L, D = 100e-6, 10e-6, 50e-9
SAMPLE = {"W": W, "L": L, "d": D}


def sweeps(n: int = 3) -> list[dict]:
    """Return sweeps of an ideal OECT in saturation: Id = (W d / 2 L) µC* (Vth - Vg)²."""
    vg = np.concatenate([np.linspace(0.3, -0.6, 91), np.linspace(-0.6, 0.3, 91)[1:]])
    current = -(W * D / (2 * L)) * MU_C * np.clip(V_TH - vg, 0, None) ** 2
    return [{"Vg": vg, "Id": (1 + k / 10) * current} for k in range(n)]


def compute(steps: list[dict], sample: dict, **params) -> dict[str, np.ndarray]:
    extractor = get_extractor("transfer.gm_normalized", params)
    batch = Batch.from_steps([step | {"sample": sample} for step in steps])
    columns = extractor.extract_batch(batch, extractor.params)
    for i in range(len(batch)):
        one = extractor.extract_step(batch.step(i))
        for name, column in columns.items():
            np.testing.assert_array_equal(one[name], column[i])
    return columns


@pytest.mark.parametrize("direction", ["forward", "reverse", "both"])
def test_is_that_of_the_model(direction: str) -> None:
    found = compute(sweeps(), SAMPLE, direction=direction)
    largest = MU_C * (V_TH + 0.6) * np.array([1, 1.1, 1.2])
    # At the end of a branch, the derivative is that of half a step before it.
    expected = largest if direction != "both" else np.stack([largest, largest], axis=1)
    np.testing.assert_allclose(found["value"], expected, rtol=0.01)
    plain = get_extractor("transfer.gm_max", {"direction": direction})
    gm = plain.extract_batch(Batch.from_steps(sweeps()), plain.params)
    np.testing.assert_allclose(found["value"], gm["value"] * L / (W * D), rtol=1e-14)
    np.testing.assert_array_equal(found["status"], gm["status"])
    np.testing.assert_allclose(found["stderr"], gm["stderr"] * L / (W * D), rtol=1e-14)


def test_uncertainty_is_that_of_many_devices() -> None:
    errors = {"u_W": 2e-6, "u_L": 0.3e-6, "u_d": 2e-9}
    found = compute(sweeps(1), SAMPLE | errors)
    rng = np.random.default_rng(5)
    n = 200_000
    w, length, d = (rng.normal(SAMPLE[k], errors[f"u_{k}"], n) for k in ("W", "L", "d"))
    gm = found["value"][0] * W * D / L
    # To first order, and with the scatter of 200,000 draws: 1/sqrt(2 n) = 0.2 %.
    assert found["geometry_stderr"][0] == pytest.approx(np.std(gm * length / (w * d)), rel=0.02)
    assert np.isnan(compute(sweeps(1), SAMPLE)["geometry_stderr"]).all()


@pytest.mark.parametrize("missing", ["W", "L", "d"])
def test_without_geometry_there_is_a_word(missing: str) -> None:
    sample = {name: value for name, value in SAMPLE.items() if name != missing}
    nothing = {"Vg": np.zeros(0), "Id": np.zeros(0)}
    flat = {"Vg": sweeps(1)[0]["Vg"], "Id": np.full(181, np.nan)}
    extractor = get_extractor("transfer.gm_normalized")
    words = list(extractor.variables["status"].statuses)
    found = compute([*sweeps(1), nothing, flat], sample)
    known = compute([*sweeps(1), nothing, flat], SAMPLE)
    assert np.isnan(found["value"]).all()
    assert words[found["status"][0]] == "no_geometry"
    assert np.isfinite(known["value"][0])
    assert found["status"][1:].tolist() == known["status"][1:].tolist()
    assert 0 not in found["status"]
