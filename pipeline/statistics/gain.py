"""Intrinsic gain of devices: transconductance over output conductance at one gate voltage."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from oectflow.errors import OutputError
from oectflow.pipeline.statistics.points import USED, choose_word, good_values, or_unknown, words

#: Gate voltages that differ by no more are the same, V.
SAME_GATE = 0.01
_STEP = "step"
_SZE = "Sze & Ng (2007), Physics of Semiconductor Devices, 3rd ed., Wiley, ch. 6"
_FEATURES = "compute the set 'figures_of_merit', or name the variables: gm=…, coords=…"
_WORDS = {
    "ok": "the value is the answer",
    "no_gm": "gm, or the gate voltage at which it is largest, has no value with the status ok; "
    "no value",
    "no_conductance": "no output curve of the device has a conductance with the word ok; no value",
    "outside": "the gate voltage of the largest gm is not between those of the output curves; "
    "no value",
    "flat": "the output conductance is not above 0 by 1.96 standard errors: the gain has no bound; "
    "no value",
}


def intrinsic_gain(
    results: xr.Dataset,
    gm: str = "gm_max_forward",
    coords: str = "gm_max_coords",
    conductance: str = "output_conductance",
) -> xr.Dataset:
    """Return the intrinsic gain of every transfer sweep, ``gm / gd``.

    The output conductance ``gd`` comes from the output curves of the same device.  It is taken at
    the gate voltage of the largest ``gm``, by linear interpolation between the gate voltages of two
    output curves.  ``gd`` is the slope at the largest ``|Vd|`` of an output curve, so the transfer
    sweep must have been measured at this drain voltage.

    Parameters
    ----------
    results
        A Dataset from :func:`oectflow.open_results`, or a part of it, with transfer and output
        curves.
    gm, coords
        Names of the largest transconductance, and of the gate voltage (entry ``Vg`` of its axis
        ``quantity``) at which it is largest.
    conductance
        Name of the output conductance.

    Returns
    -------
    ``intrinsic_gain`` (a pure number) with ``_stderr`` and ``_status``, and ``conductance`` in S
    with its standard error, at the gate voltage of the largest gm.  The axes are those of gm.

    Raises
    ------
    OutputError
        A variable is missing.
    """
    top, u_top = good_values(results, gm, _FEATURES)
    at, _ = good_values(results, coords, _FEATURES)
    slope, u_slope = good_values(results, conductance, _FEATURES)
    if "output_Vg" not in results or _STEP not in slope.dims:
        raise OutputError(
            "these results have no gate voltages of output curves (output_Vg); extract files whose "
            "output curves say theirs"
        )
    at = at.sel(quantity="Vg", drop=True).load()
    found = xr.apply_ufunc(
        _between,
        at,
        *(one.rename({_STEP: "curve"}) for one in _plain(results["output_Vg"], slope, u_slope)),
        input_core_dims=[[_STEP], ["curve"], ["curve"], ["curve"]],
        output_core_dims=[[_STEP], [_STEP]],
        vectorize=True,
    )
    gd, u_gd = (one.transpose(*top.dims) for one in found)
    top = top.load()
    known = (slope.notnull() & results["output_Vg"].notnull()).any(_STEP)
    gain = abs(top) / gd
    share = (or_unknown(u_top, top) / top) ** 2 + (u_gd / gd) ** 2
    conditions = {
        "no_gm": top.isnull() | at.isnull(),
        "no_conductance": ~known & top.notnull(),
        "outside": gd.isnull(),
        "flat": ~(gd > 1.96 * u_gd.fillna(0.0)),
    }
    status = choose_word(conditions, top).astype("<U16")
    status = status.where(status != USED, "ok")
    ok = status == "ok"
    return xr.Dataset(
        {
            "intrinsic_gain": gain.where(ok).assign_attrs(
                units="",
                description="largest gm over the output conductance at its gate voltage",
                formula=r"A = g_m / g_d",
                reference=_SZE,
            ),
            "intrinsic_gain_stderr": (gain * share**0.5)
            .where(ok)
            .assign_attrs(units="", description="standard error of intrinsic_gain"),
            "intrinsic_gain_status": status.assign_attrs(words("how to read the gain", _WORDS)),
            "conductance": gd.assign_attrs(
                units="S", description="output conductance at the gate voltage of the largest gm"
            ),
            "conductance_stderr": u_gd.assign_attrs(
                units="S", description="standard error of conductance"
            ),
        }
    )


def _plain(
    gate: xr.DataArray, slope: xr.DataArray, error: xr.DataArray | None
) -> tuple[xr.DataArray, ...]:
    """Return them without coordinates of the steps, which are those of transfer sweeps, too."""
    parts = xr.broadcast(gate, slope, or_unknown(error, slope))
    return tuple(part.drop_vars(_STEP, errors="ignore").load() for part in parts)


def _between(
    at: NDArray[np.float64],
    gate: NDArray[np.float64],
    slope: NDArray[np.float64],
    error: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return |slope| and its error at gate voltages between those of curves, NaN outside."""
    value, spread = np.full((2, at.size), np.nan)
    known = np.isfinite(gate) & np.isfinite(slope)
    order = np.argsort(gate[known], kind="stable")
    gate, slope, error = (one[known][order] for one in (gate, slope, error))
    for k in np.flatnonzero(np.isfinite(at)) if gate.size else ():
        near = int(np.argmin(np.abs(gate - at[k])))
        if abs(gate[near] - at[k]) <= SAME_GATE:
            value[k], spread[k] = abs(slope[near]), error[near]
            continue
        above = int(np.searchsorted(gate, at[k]))
        if 0 < above < gate.size:
            share = (at[k] - gate[above - 1]) / (gate[above] - gate[above - 1])
            value[k] = abs((1 - share) * slope[above - 1] + share * slope[above])
            spread[k] = np.hypot((1 - share) * error[above - 1], share * error[above])
    return value, spread
