"""Intrinsic gain: gm over gd at the gate voltage of the largest gm."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import oectflow as of
from oectflow.errors import OutputError


def results(**changes: object) -> xr.Dataset:
    """Two devices, three sweeps, four output curves with gd = 1e-5 S/V (Vg - 0.1)."""
    shape = (2, 4)
    gate = np.tile([0.5, 0.2, 0.4, 0.3], (2, 1))
    gm = np.array([[2e-3, 1e-3, -1e-3, np.nan]] * 2)
    at = np.zeros((2, 4, 2))
    at[..., 0] = [0.35, 0.402, 0.25, np.nan]
    values = {
        "gm_max_forward": gm,
        "gm_max_forward_stderr": 0.01 * np.abs(gm),
        "output_conductance": 1e-5 * (gate - 0.1),
        "output_conductance_stderr": np.full(shape, 2e-8),
        "output_Vg": gate,
    } | changes
    data = {name: (("experiment", "step"), value) for name, value in values.items()}
    for name in ("gm_max_forward", "gm_max_coords", "output_conductance"):
        data[f"{name}_status"] = (("experiment", "step"), np.full(shape, "ok", object))
    data["gm_max_coords"] = (("experiment", "step", "quantity"), at)
    return xr.Dataset(data, {"quantity": ["Vg", "Id"], "step": range(4)})


def test_gain__is_that_of_numpy_between_the_curves() -> None:
    found = of.intrinsic_gain(results())
    # Between two curves numpy.interp; within 10 mV of one, that one.
    gd = np.array([np.interp(0.35, [0.3, 0.4], [2e-6, 3e-6]), 3e-6, 1.5e-6])
    np.testing.assert_allclose(found.conductance[0, :3], gd, rtol=1e-12)
    np.testing.assert_allclose(found.intrinsic_gain[0, :3], [2e-3, 1e-3, 1e-3] / gd, rtol=1e-12)
    assert found.intrinsic_gain_status[0].values.tolist() == ["ok", "ok", "ok", "no_gm"]
    assert found.intrinsic_gain.dims == ("experiment", "step")


def test_gain__its_error_is_that_of_many_draws() -> None:
    rng = np.random.default_rng(1)
    found = of.intrinsic_gain(results())
    gm = 2e-3 * (1 + 0.01 * rng.standard_normal(200_000))
    low, high = (value + 2e-8 * rng.standard_normal(200_000) for value in (2e-6, 3e-6))
    # To first order, and with the scatter of the draws: 0.2 %.
    assert found.intrinsic_gain_stderr[0, 0] == pytest.approx(
        np.std(gm / (0.5 * (low + high))), 0.01
    )


def test_gain__scales_with_gm_and_not_with_the_width() -> None:
    one, wide = results(), results()
    for name in ("gm_max_forward", "output_conductance"):
        for part in (name, f"{name}_stderr"):
            wide[part] = 3 * wide[part]
    both = (of.intrinsic_gain(part).intrinsic_gain for part in (one, wide))
    np.testing.assert_allclose(*both, rtol=1e-12)


def test_gain__what_cannot_be_known_is_said() -> None:
    far = of.intrinsic_gain(results(output_Vg=np.tile([1.5, 1.2, 1.4, 1.3], (2, 1))))
    assert far.intrinsic_gain_status[0].values.tolist() == ["outside"] * 3 + ["no_gm"]
    none = of.intrinsic_gain(results(output_conductance=np.full((2, 4), np.nan)))
    assert none.intrinsic_gain_status[0].values.tolist() == ["no_conductance"] * 3 + ["no_gm"]
    flat = of.intrinsic_gain(results(output_conductance_stderr=np.full((2, 4), 1e-4)))
    assert flat.intrinsic_gain_status[0].values.tolist() == ["flat"] * 3 + ["no_gm"]
    for found in (far, none, flat):
        assert found.intrinsic_gain.isnull().all()
    with pytest.raises(OutputError, match="output_Vg"):
        of.intrinsic_gain(results().drop_vars("output_Vg"))
    with pytest.raises(OutputError, match="figures_of_merit"):
        of.intrinsic_gain(results().drop_vars("output_conductance"))


def test_gain__of_files(tmp_path: Path) -> None:
    Vg = np.linspace(-0.2, 0.8, 61)
    Id = 1e-3 / (1 + np.exp(-(Vg - 0.35) / 0.05))
    Vd = np.linspace(0, 0.6, 61)
    rng = np.random.default_rng(0)
    output = [
        {
            "Vd": Vd,
            "Id": g * 1e-3 * np.minimum(Vd, 0.2) + 1e-5 * Vd + 1e-8 * rng.standard_normal(61),
            "Vg": g,
        }
        for g in (0.2, 0.3, 0.4, 0.5)
    ]
    of.write_experiment(
        tmp_path / "raw" / "a.h5", transfer={"Vg": Vg, "Id": Id}, output=output, chip_id="A"
    )
    of.extract(tmp_path / "raw", "figures_of_merit", tmp_path / "out", progress=False)
    found = of.intrinsic_gain(of.open_results(tmp_path / "out")).isel(experiment=0)
    # gm of a logistic curve is 1e-3 / (4 * 0.05 V); by differences over 1/60 V 0.9 % less.
    assert found.intrinsic_gain[0] == pytest.approx(5e-3 / 1e-5, rel=0.03)
    assert found.intrinsic_gain_status[0] == "ok"
