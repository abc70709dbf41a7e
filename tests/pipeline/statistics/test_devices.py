"""µC* and contact resistance over simulated devices whose truth is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

import oectflow as of
from oectflow.errors import OutputError

MU_C, R_SHEET, R_CONTACT = 2e4, 5e4, 3.0
W = 1e-4 * np.array([0.5, 1, 1, 2, 2, 4, 1, 3])
L = 1e-6 * np.array([5, 10, 20, 10, 40, 10, 100, 20])
D = 1e-9 * np.array([40, 50, 60, 80, 100, 120, 50, 70])
#: The share of a right interval is within 1.6 % of 95 % with 3.3 standard errors.
DRAWS = 2000
SHARES = {"W": 0.01, "L": 0.03, "d": 0.05}


def make_results(
    seed: int | None = 0, n_steps: int = 2, *, each: bool = False, **change: Any
) -> xr.Dataset:
    """Results of eight devices that follow both laws, measured with their errors.

    With ``each``, every step has an error of the geometry of its own: as many experiments in one.
    """
    rng = np.random.default_rng(seed)

    def noise(*shape: int) -> np.ndarray:
        return np.zeros(shape) if seed is None else rng.normal(size=shape)

    n = W.size
    Vth, Vg = 0.2, -0.5
    gm = (W * D / L * MU_C * abs(Vg - Vth))[:, np.newaxis] * np.ones(n_steps)
    R = ((R_CONTACT + R_SHEET * L) / W)[:, np.newaxis] * np.ones(n_steps)
    both = ("experiment", "step")
    axes = both if each else ("experiment",)
    sizes = {
        f"sample_{name}": (
            axes,
            (true.reshape(-1, *[1] * (len(axes) - 1)))
            * (1 + SHARES[name] * noise(*gm.shape[: len(axes)])),
        )
        for name, true in (("W", W), ("L", L), ("d", D))
    }
    errors = {f"sample_u_{name}": ("experiment", SHARES[name] * true) for name, true in
              (("W", W), ("L", L), ("d", D))}  # fmt: skip
    ok = np.full(gm.shape, "ok", object)
    where = np.stack([Vg + 0.005 * noise(*gm.shape), np.zeros(gm.shape)], axis=-1)
    data = {
        "gm_max_forward": (both, -gm * (1 + 0.02 * noise(*gm.shape))),
        "gm_max_forward_stderr": (both, 0.02 * gm),
        "gm_max_forward_status": (both, ok.copy()),
        "Vth_forward": (both, Vth + 0.01 * noise(*gm.shape)),
        "Vth_forward_stderr": (both, np.full(gm.shape, 0.01)),
        "Vth_forward_status": (both, ok.copy()),
        "gm_max_coords": ((*both, "quantity"), where),
        "gm_max_coords_stderr": ((*both, "quantity"), np.full(where.shape, 0.005)),
        "gm_max_coords_status": (both, ok.copy()),
        "transfer_Vd": (both, np.full(gm.shape, -0.8)),
        "on_resistance": (both, R * (1 + 0.02 * noise(*gm.shape))),
        "on_resistance_stderr": (both, 0.02 * R),
        "on_resistance_status": (both, ok.copy()),
        "output_Vg": (both, np.full(gm.shape, -0.6)),
    }
    coords = {
        "experiment": [f"test_{k}" for k in range(n)],
        "chip_id": ("experiment", ["C1"] * n),
        "device_id": ("experiment", [str(k) for k in range(n)]),
        "quantity": ["Vg", "Id"],
        **sizes,
        **errors,
    }
    made = xr.Dataset(data, coords)
    return made.assign({k: (made[k].dims, v) for k, v in change.items()})


def test_mobility__without_noise_is_the_truth() -> None:
    found = of.mobility_capacitance(make_results(None))
    assert found["mobility_capacitance"].dims == ("line", "step")
    np.testing.assert_allclose(found["mobility_capacitance"], MU_C, rtol=1e-10)
    np.testing.assert_allclose(found["intercept"], 0, atol=1e-15)
    assert (found["mobility_capacitance_status"] == "ok").all()
    assert (found["device"] == "used").all()
    assert (found["devices"] == 8).all()
    assert found["mobility_capacitance"].attrs["units"] == "F/(m V s)"
    assert "2017" in found["mobility_capacitance"].attrs["reference"]
    np.testing.assert_allclose(found["x"], (W * D / L * 0.7)[:, np.newaxis] * [1, 1], rtol=1e-12)
    # Relative errors of geometry and voltages, in quadrature.
    share = np.sqrt(0.01**2 + 0.03**2 + 0.05**2 + (0.01**2 + 0.005**2) / 0.7**2)
    np.testing.assert_allclose(found["x_stderr"] / found["x"], share, rtol=1e-12)


def test_mobility__coverage_of_its_interval() -> None:
    found = of.mobility_capacitance(make_results(1, n_steps=DRAWS, each=True))
    below = found["mobility_capacitance_low"] <= MU_C
    inside = (below & (found["mobility_capacitance_high"] >= MU_C)).mean("step")
    assert ((inside > 0.93) & (inside < 0.97)).all(), inside


def test_contacts__without_noise_are_the_truth() -> None:
    alike = make_results(None).assign_coords(sample_d=("experiment", np.full(8, 5e-8)))
    found = of.contact_resistance(alike)
    assert (found["status"] == "ok").all()
    np.testing.assert_allclose(found["contact_resistance"], R_CONTACT, rtol=1e-9)
    np.testing.assert_allclose(found["sheet_resistance"], R_SHEET, rtol=1e-10)
    np.testing.assert_allclose(found["transfer_length"], R_CONTACT / R_SHEET / 2, rtol=1e-9)
    assert found["contact_resistance"].attrs["units"] == "Ω m"


def test_contacts__coverage_of_their_intervals() -> None:
    names = {"contact_resistance": R_CONTACT, "transfer_length": R_CONTACT / R_SHEET / 2}
    results = make_results(2, n_steps=DRAWS, each=True).drop_vars("sample_d")
    found = of.contact_resistance(results)
    for name, truth in names.items():
        inside = ((found[f"{name}_low"] <= truth) & (found[f"{name}_high"] >= truth)).mean()
        assert 0.93 < inside < 0.97, (name, float(inside))


def test_contacts__of_curves_that_cannot_be_compared() -> None:
    results = make_results(None)
    found = of.contact_resistance(results)
    assert (found["status"] == "mixed_thickness").all()
    assert found["contact_resistance"].isnull().all()
    alike = results.drop_vars("sample_d")
    other = alike.copy(deep=True)
    other["output_Vg"][3, 1] = -0.4
    words = of.contact_resistance(other)["status"]
    assert words.values.tolist() == ["ok", "mixed_gate"]
    unknown = of.contact_resistance(alike.drop_vars("output_Vg"))
    assert (unknown["status"] == "unchecked").all()
    assert (unknown["device"] == "Vg_unknown").all()
    assert unknown["contact_resistance"].notnull().all()


def test_devices_that_are_left_out__are_named() -> None:
    results = make_results(None)
    results["gm_max_forward_status"][0, 0] = "noise"
    results["Vth_forward_status"][1, 0] = "flat"
    results["sample_d"][2] = np.nan
    results["transfer_Vd"][3, 0] = -0.3
    results["transfer_Vd"][4, 0] = np.nan
    found = of.mobility_capacitance(results)
    assert found["device"].sel(step=0).values.tolist() == [
        *("no_gm", "no_Vth", "no_geometry", "linear", "Vd_unknown"),
        *(["used"] * 3),
    ]  # fmt: skip
    assert found["devices"].sel(step=0).values.tolist() == [4, 4]
    assert (found["mobility_capacitance_status"].sel(step=0) == "unchecked").all()
    assert (found["mobility_capacitance_status"].sel(step=1) == "ok").all()
    np.testing.assert_allclose(found["mobility_capacitance"], MU_C, rtol=1e-10)
    # Errors of 10 and 5 mV: 0.69 V is as good as the overdrive of 0.7 V, 0.67 V is not.
    results["transfer_Vd"][5, 0], results["transfer_Vd"][6, 0] = -0.69, -0.67
    words = of.mobility_capacitance(results)["device"].sel(step=0).values[5:7]
    assert words.tolist() == ["used", "linear"]
    assert "linear: |Vd| < |Vg - Vth|" in found["device"].attrs["words"]


def test_line_words() -> None:
    results = make_results(None)
    few = of.mobility_capacitance(results.isel(experiment=[0, 1]))
    words = few["mobility_capacitance_status"].isel(step=0)
    assert words.values.tolist() == ["ok", "too_few"]
    same = results.isel(experiment=[0, 1, 2])
    for name in ("W", "L", "d"):
        same[f"sample_{name}"][:] = same[f"sample_{name}"][0]
    words = of.mobility_capacitance(same)["mobility_capacitance_status"].isel(step=0)
    assert words.sel(line="free").item() == "same"
    unweighted = of.mobility_capacitance(results.drop_vars("sample_u_d"))
    assert (unweighted["mobility_capacitance_status"] == "unweighted").all()
    np.testing.assert_allclose(unweighted["mobility_capacitance"], MU_C, rtol=1e-10)
    assert unweighted["p_value"].isnull().all()
    odd = results.copy(deep=True)
    odd["gm_max_forward"][0] *= 3
    scattered = of.mobility_capacitance(odd)
    assert (scattered["mobility_capacitance_status"] == "scattered").all()
    assert (scattered["p_value"] < 0.01).all()
    fall = results.copy(deep=True)
    fall["on_resistance"][:] = fall["on_resistance"] / L[:, np.newaxis] ** 2 * 1e-10
    word = of.contact_resistance(fall.drop_vars("sample_d"))["status"]
    assert (word == "no_slope").all()


def test_what_is_missing__is_named_with_the_remedy() -> None:
    results = make_results(None)
    for name, said in {
        "Vth_forward": "no variable 'Vth_forward' in these results.*compute the set 'all'",
        "sample_d": r"no variable 'sample_d'.*samples='devices\.csv'",
    }.items():
        with pytest.raises(OutputError, match=said):
            of.mobility_capacitance(results.drop_vars(name))
    with pytest.raises(OutputError, match=r"no variable 'on_resistanse'.*did you mean"):
        of.contact_resistance(results, "on_resistanse")
    twice = results.assign_coords(device_id=("experiment", ["0", "0", *"234567"]))
    with pytest.raises(OutputError, match="device 0 of chip C1 has 2 experiments here; select one"):
        of.mobility_capacitance(twice)
    with pytest.raises(OutputError, match="no axis 'experiment'"):
        of.contact_resistance(results.isel(experiment=0))
