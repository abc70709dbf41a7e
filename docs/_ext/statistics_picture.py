"""A picture of what several devices and steps say: simulated data, and what is found in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr
from feature_pictures import BLUE, GREY, ORANGE
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import oectflow as of

_N_STEPS, _KNOWN = 90, 60


def draw_statistics(path: Path) -> None:
    """Draw µC*, the contacts' resistance and a forecast, and write them as PNG."""
    figure = Figure(figsize=(11, 3.4), layout="constrained", facecolor="white")
    left, middle, right = figure.subplots(1, 3)
    devices = _devices()
    found = of.mobility_capacitance(devices).isel(step=0)
    _line(left, found, found["mobility_capacitance"].sel(line="through_zero").item(), 0.0)
    left.set_xlabel("W d / L · |Vg − Vth| (µm V)")
    left.set_ylabel("gm (mS)")
    left.set_title(_with_error(found.sel(line="through_zero"), "mobility_capacitance", "µC*", 1e-2)
                   + " F/(cm V s)", fontsize=9)  # fmt: skip
    contacts = of.contact_resistance(devices.drop_vars("sample_d")).isel(step=0)
    _line(middle, contacts, contacts["sheet_resistance"].item(),
          contacts["contact_resistance"].item(), x=1e6, y=1.0)  # fmt: skip
    middle.set_xlabel("L (µm)")
    middle.set_ylabel("R W (Ω m)")
    middle.set_title(_with_error(contacts, "contact_resistance", "R_c W", 1.0) + " Ω m", fontsize=9)
    _forecast(right)
    figure.savefig(path, dpi=160, metadata={"Software": None})


def _line(
    ax: Axes, found: xr.Dataset, slope: float, intercept: float, x: float = 1e6, y: float = 1e3
) -> None:
    ax.errorbar(
        x * found["x"], y * found["y"], y * found["y_stderr"], x * found["x_stderr"],
        fmt=".", color=BLUE, elinewidth=0.8,
    )  # fmt: skip
    ends = np.array([0.0, 1.05 * found["x"].max().item()])
    ax.plot(x * ends, y * (intercept + slope * ends), color=ORANGE)
    ax.set_xlim(0, None)
    ax.set_ylim(0, None)


def _with_error(found: xr.Dataset, name: str, label: str, factor: float) -> str:
    value, error = (factor * found[key].item() for key in (name, f"{name}_stderr"))
    return f"{label} = {value:.3g} ± {error:.2g}"


def _forecast(ax: Axes) -> None:
    rng = np.random.default_rng(4)
    steps = np.arange(_N_STEPS)
    values = 8.0 * np.exp(-((steps / 150) ** 0.7)) + 0.12 * rng.normal(size=_N_STEPS)
    data = {
        "gm": (("experiment", "step"), values[np.newaxis, :_KNOWN]),
        "gm_status": (("experiment", "step"), np.full((1, _KNOWN), "ok", object)),
    }
    results = xr.Dataset(data, {"step": steps[:_KNOWN]})
    found = of.forecast_degradation(results, "gm", at=steps).isel(experiment=0)
    best = of.fit_degradation(results, "gm").isel(experiment=0)["best"].item()
    ax.plot(steps[:_KNOWN], values[:_KNOWN], ".", color=BLUE, ms=4)
    ax.plot(steps[_KNOWN:], values[_KNOWN:], ".", color=GREY, ms=4)
    ax.plot(steps, found["forecast"], color=ORANGE)
    ax.fill_between(
        steps, found["forecast_low"], found["forecast_high"], color=ORANGE, alpha=0.2, lw=0
    )
    ax.axvline(_KNOWN - 0.5, color=GREY, lw=0.8, ls=":")
    ax.set_xlabel("step")
    ax.set_ylabel("gm (mS)")
    ax.set_ylim(0, None)
    ax.set_title(f"forecast from {_KNOWN} steps; best model: {best}", fontsize=9)


def _devices() -> xr.Dataset:
    """Return results of eight devices of one material, with errors in all that was measured."""
    rng = np.random.default_rng(2)
    W = 1e-4 * np.array([0.5, 1, 1, 2, 2, 4, 1, 3])
    L = 1e-6 * np.array([5, 10, 20, 10, 40, 10, 100, 20])
    d = 1e-9 * np.array([40, 50, 60, 80, 100, 120, 50, 70])
    both = ("experiment", "step")

    def column(
        values: np.ndarray | float, share: float = 0.0
    ) -> tuple[tuple[str, str], np.ndarray]:
        return both, (values * (1 + share * rng.normal(size=8))).reshape(8, 1)

    gm, R = W * d / L * 2e4 * 0.7, (3.0 + 5e4 * L) / W
    ok = (both, np.full((8, 1), "ok", object))
    gate = np.zeros((8, 1, 2))
    gate[..., 0] = -0.5
    quantities = (*both, "quantity")
    data = {
        "gm_max_forward": column(gm, 0.05),
        "gm_max_forward_stderr": column(0.05 * gm),
        "Vth_forward": column(0.2),
        "Vth_forward_stderr": column(0.02),
        "gm_max_coords": (quantities, gate),
        "gm_max_coords_stderr": (quantities, np.full(gate.shape, 0.01)),
        "transfer_Vd": column(-0.8),
        "on_resistance": column(R, 0.04),
        "on_resistance_stderr": column(0.04 * R),
        "output_Vg": column(-0.6),
    }
    data |= {
        f"{name}_status": ok
        for name in ("gm_max_forward", "Vth_forward", "gm_max_coords", "on_resistance")
    }
    coords = {"quantity": ["Vg", "Id"]}
    for name, size, share in (("W", W, 0.01), ("L", L, 0.03), ("d", d, 0.08)):
        coords[f"sample_{name}"] = ("experiment", size)
        coords[f"sample_u_{name}"] = ("experiment", share * size)
    return xr.Dataset(data, coords)
