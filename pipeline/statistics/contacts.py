"""Resistance of the contacts, from devices of different length."""

from __future__ import annotations

import numpy as np
import xarray as xr

from oectflow.pipeline.statistics.points import (
    EXPERIMENT,
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

#: Gate voltages that differ by more are not the same, V.
SAME_GATE = 0.01
#: Thicknesses whose largest is more than this share above the smallest are not the same.
SAME_THICKNESS = 0.1
_DEVICE_WORDS = {
    USED: "a point of the line",
    "no_R": "the resistance has no value with the status ok; left out",
    "no_geometry": "W or L of the device is not known; left out",
    "Vg_unknown": "a point of the line, but its gate voltage is not known",
}
_MIXED = {
    "mixed_gate": "the gate voltages of the devices differ by more than 10 mV; no value",
    "mixed_thickness": "d of the devices differs by more than a tenth: there is no sheet "
    "resistance that they share; no value",
}


def contact_resistance(results: xr.Dataset, resistance: str = "on_resistance") -> xr.Dataset:
    """Return the resistance of the contacts by the transfer-line method: R W against L.

    The model is ``R W = R_c W + R_sheet L`` for devices of one material and different length.  The
    value at L = 0 is the resistance of both contacts.  The fit of the line includes the errors of
    both axes (York et al. (2004), Am. J. Phys. 72, 367, doi:10.1119/1.1632486): the error of R from
    the noise of the curve, and u_W and u_L of the geometry.  An error of L has a large effect
    (Wollandt et al. (2025), ACS Nano, doi:10.1021/acsnano.4c15828).

    Parameters
    ----------
    results
        A Dataset from :func:`oectflow.open_results`, or a part of it, with one experiment per
        device. Each step is an output curve.  A step must have the same gate voltage in all
        experiments.
    resistance
        Name of the resistance at Vd = 0, in Ω.

    Returns
    -------
    ``contact_resistance``, R_c W of both contacts, in Ω m (1 Ω cm is 0.01 Ω m);
    ``sheet_resistance`` in Ω; ``transfer_length``, R_c W / (2 R_sheet), in m; each with ``_stderr``
    and with ``_low`` and ``_high`` of the 95 % interval.  An interval of the contact resistance
    that includes 0 is a valid result.  One ``status``; ``chi2``, ``freedom``, ``p_value``,
    ``devices``, ``device``, ``x``, ``y`` as :func:`mobility_capacitance` has them.

    Raises
    ------
    OutputError
        A variable is missing, or a device has several experiments.
    """
    need_one_experiment_each(results)
    R, u_R = good_values(
        results, resistance, "compute 'output.on_resistance' (it is in the set 'all'), or name it"
    )
    W, L = (get_sample(results, name) for name in ("W", "L"))
    y = R * W
    u_y = abs(y) * ((or_unknown(u_R, R) / R) ** 2 + squared_share(results, "W")) ** 0.5
    u_x = L * squared_share(results, "L") ** 0.5
    gate = results.get("output_Vg", xr.full_like(R, np.nan))
    device = choose_word(
        {"no_R": R.isnull(), "no_geometry": (W * L).isnull(), "Vg_unknown": gate.isnull()}, y
    ).assign_attrs(words("what became of the device", _DEVICE_WORDS))
    points = Points.of(L, y, u_x, u_y, device, "Vg_unknown")
    lines, status = lines_through(points, through_zero=False)
    use = points.device.isin([USED, "Vg_unknown"])
    thickness = results.get("sample_d", xr.full_like(L, np.nan)).where(use)
    gates = gate.where(use)
    mixed = {
        "mixed_gate": gates.max(EXPERIMENT) - gates.min(EXPERIMENT) > SAME_GATE,
        "mixed_thickness": thickness.max(EXPERIMENT)
        > (1 + SAME_THICKNESS) * thickness.min(EXPERIMENT),
    }
    known = np.array([line is not None for line in lines.flat], bool).reshape(lines.shape)
    for word, where in mixed.items():
        instead = known & where.transpose(*status.dims).values
        status.values[instead] = word
        lines[instead] = None
        known &= ~instead
    said = {
        "formula": r"R W = R_c W + R_\mathrm{sheet} L",
        "reference": "Wollandt et al. (2025), ACS Nano. doi:10.1021/acsnano.4c15828",
    }
    return xr.Dataset(
        {
            **columns(
                lines, status, "contact_resistance", "intercept", "Ω m",
                "resistance of both contacts times the width of the channel", attrs=said,
            ),
            **columns(
                lines, status, "sheet_resistance", "slope", "Ω",
                "resistance of a square of the channel", attrs=said,
            ),
            **columns(
                lines, status, "transfer_length", "ratio", "m",
                "length of channel with the resistance of one contact", factor=0.5,
            ),
            "status": status.assign_attrs(words("how to read the line", LINE_WORDS | _MIXED)),
            **quality(lines, status, points),
            **coordinates(points, "L", "m", f"{resistance} times W", "Ω m"),
        }
    )  # fmt: skip
