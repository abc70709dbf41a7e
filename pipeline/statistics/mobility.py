"""µC* of a material, from devices of different geometry."""

from __future__ import annotations

import numpy as np
import xarray as xr

from oectflow.pipeline.statistics.points import (
    LINE_WORDS,
    USED,
    Points,
    choose_word,
    columns,
    coordinates,
    get_sample,
    good_values,
    lines_through,
    need_one_experiment_each,
    or_unknown,
    quality,
    squared_share,
    words,
)

_FEATURES = "compute the set 'all', or name the variables: gm=…, Vth=…, coords=…"
#: Standard errors by which a device has to be outside saturation.
_SURE = 1.96
_DEVICE_WORDS = {
    USED: "a point of the line",
    "no_gm": "gm has no value with the status ok; left out",
    "no_Vth": "Vth, or the gate voltage at the largest gm, has no value; left out",
    "no_geometry": "W, L or d of the device is not known; left out",
    "linear": "|Vd| < |Vg - Vth| (by 1.96 standard errors): not in saturation, where the formula "
    "does not hold; left out",
    "Vd_unknown": "a point of the line, but Vd is not known: whether it is saturated, neither",
}


def mobility_capacitance(
    results: xr.Dataset,
    gm: str = "gm_max_forward",
    Vth: str = "Vth_forward",
    coords: str = "gm_max_coords",
) -> xr.Dataset:
    """Return µC* of a material: the slope of gm against W d / L times the overdrive of devices.

    In saturation ``gm = (W d / L) µC* |Vg - Vth|`` (Inal, Malliaras & Rivnay (2017), Nat. Commun.
    8, 1767, doi:10.1038/s41467-017-01812-w).  The fit of the line includes the errors of both axes
    (York et al. (2004), Am. J. Phys. 72, 367, doi:10.1119/1.1632486): the errors of gm, Vth and Vg
    from the noise of the sweeps, and u_W, u_L and u_d of the geometry.  They are treated as
    independent.

    Parameters
    ----------
    results
        A Dataset from :func:`oectflow.open_results`, or a part of it, with one experiment per
        device.
    gm, Vth, coords
        Names of the largest transconductance, of the threshold voltage, and of the gate voltage
        (entry ``Vg`` of its axis ``quantity``) at which gm is largest.

    Returns
    -------
    ``mobility_capacitance`` in F/(m V s) (1 F/(cm V s) is 100 F/(m V s)) with ``_stderr``, with
    ``_low`` and ``_high`` of the 95 % interval, and with ``_status``; ``intercept`` in S, with the
    same companions; ``chi2``, ``freedom``, ``p_value``, ``devices``. The axes are ``line`` and
    those of ``results`` except ``experiment``.  ``line`` has two entries: ``through_zero``, as in
    the formula, and ``free``.  If the intercept of ``free`` is away from 0, the formula does not
    hold.  ``device`` says for each device whether it is a point of the line, or why not; ``x``,
    ``y`` and their standard errors are the points.

    Raises
    ------
    OutputError
        A variable is missing, or a device has several experiments.
    """
    need_one_experiment_each(results)
    y, u_y = good_values(results, gm, _FEATURES)
    threshold, u_threshold = good_values(results, Vth, _FEATURES)
    at, u_at = good_values(results, coords, _FEATURES)
    gate = at.sel(quantity="Vg", drop=True)
    u_gate = or_unknown(u_at, at).sel(quantity="Vg", drop=True)
    W, L, d = (get_sample(results, name) for name in ("W", "L", "d"))
    overdrive, geometry = abs(gate - threshold), W * d / L
    u_overdrive = (or_unknown(u_threshold, y) ** 2 + u_gate**2) ** 0.5
    share = squared_share(results, "W") + squared_share(results, "L") + squared_share(results, "d")
    x = geometry * overdrive
    u_x = (x**2 * share + (geometry * u_overdrive) ** 2) ** 0.5
    drain = results.get("transfer_Vd", xr.full_like(y, np.nan))
    device = choose_word(
        {
            "no_gm": y.isnull(),
            "no_Vth": overdrive.isnull(),
            "no_geometry": geometry.isnull(),
            # At the border both formulas say the same: noise must not choose the devices.
            "linear": abs(drain) < overdrive - _SURE * u_overdrive.fillna(0.0),
            "Vd_unknown": drain.isnull(),
        },
        y,
    ).assign_attrs(words("what became of the device", _DEVICE_WORDS))
    points = Points.of(x, abs(y), u_x, or_unknown(u_y, y), device, "Vd_unknown")
    found = xr.concat(
        [_one_line(points, through_zero=True), _one_line(points, through_zero=False)],
        xr.Variable("line", ["through_zero", "free"]),
    )
    return found.assign(coordinates(points, "(W d / L) |Vg - Vth|", "m V", f"|{gm}|", "S"))


def _one_line(points: Points, *, through_zero: bool) -> xr.Dataset:
    lines, status = lines_through(points, through_zero=through_zero)
    said = {
        "formula": r"g_m = \frac{W d}{L} \mu C^* \, |V_g - V_{th}|",
        "reference": "Inal et al. (2017), Nat. Commun. 8, 1767. doi:10.1038/s41467-017-01812-w",
    }
    slope = columns(
        lines, status, "mobility_capacitance", "slope", "F/(m V s)",
        "µC*, slope of gm against (W d / L) |Vg - Vth| over devices", attrs=said,
    )  # fmt: skip
    status = status.assign_attrs(words("how to read the line", LINE_WORDS))
    return xr.Dataset(
        {
            **slope,
            "mobility_capacitance_status": status,
            **columns(lines, status, "intercept", "intercept", "S", "gm of the line at 0"),
            **quality(lines, status, points),
        }
    )
