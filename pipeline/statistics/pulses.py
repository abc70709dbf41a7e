"""Trains of gate pulses: compare later pulses with the first one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from oectflow.errors import OutputError, ParameterError
from oectflow.pipeline.statistics.points import choose, good_values, or_unknown, words

CYCLE = "cycle"
_WORDS = {
    "ok": "the value is the answer",
    "absent": "the train has no such pulse",
    "no_first": "the amplitude of the first pulse has no value with the status ok; no value",
    "no_later": "that of the later pulse has none; no value",
    "no_amplitude": "the first pulse is not different from 0 (1.96 standard errors); no value",
    "opposite": "the two pulses have opposite signs; no value",
}


def pulse_ratios(
    results: xr.Dataset,
    amplitude: str = "tau_amplitude",
    pulses: Sequence[int] = (2, 10),
    **selection: Any,
) -> xr.Dataset:
    """Return the amplitudes of later pulses in a train, divided by the first amplitude.

    ``A2 / A1`` is the index of paired-pulse facilitation, ``A10 / A1`` is the index of post-tetanic
    potentiation: Ji et al. (2021), Nat. Commun. 12, 2480, doi:10.1038/s41467-021-22680-5.

    Parameters
    ----------
    results
        A Dataset from :func:`oectflow.open_results`, or a part of it.
    amplitude
        Variable with a value for each gate cycle, measured from the level before the pulse.  A peak
        current (``cycles``) includes the current that flows without a pulse.
    pulses
        Numbers of the pulses; the first pulse is 1.
    selection
        Entries along other axes, such as ``phase="on"``.

    Returns
    -------
    ``pulse_ratio`` with ``_stderr`` (from the errors of the amplitudes; NaN if they have none) and
    ``_status``.  The axes are those of the amplitude, with ``pulse`` in place of ``cycle``.  If
    gate period and duty cycle are known, also ``pulse_interval``: the time in s between two pulses.

    Raises
    ------
    OutputError
        There is no such variable, or it has no axis ``cycle``.
    ParameterError
        A pulse is not a whole number above 1.
    """
    for pulse in pulses:
        if not isinstance(pulse, int | np.integer) or pulse < 2:
            raise ParameterError(f"pulses={pulses!r}: expected whole numbers from 2 on")
    values, error = good_values(results, amplitude, "compute it, or name one that is there")
    values = choose(values, amplitude, selection)
    if CYCLE not in values.dims:
        raise OutputError(f"{amplitude!r} has no axis 'cycle': it has no value for each pulse")
    error = or_unknown(None if error is None else choose(error, amplitude, selection), values)
    ratios = [_ratio(values, error, pulse) for pulse in pulses]
    found = xr.concat(ratios, xr.Variable("pulse", list(pulses)))
    found = found.transpose(*(dim for dim in values.dims if dim != CYCLE), "pulse")
    found["pulse_ratio_status"].attrs = words("how to read the ratio", _WORDS)
    if {"gate_period", "duty_cycle"} <= set(results):
        interval = results["gate_period"] * (1.0 - results["duty_cycle"])
        found["pulse_interval"] = interval.assign_attrs(
            units="s", description="time between the end of a pulse and the begin of the next"
        )
    return found.assign_attrs(
        feature=amplitude,
        formula=r"A_n / A_1",
        reference="Ji et al. (2021), Nat. Commun. 12, 2480. doi:10.1038/s41467-021-22680-5",
    )


def _ratio(values: xr.DataArray, error: xr.DataArray, pulse: int) -> xr.Dataset:
    first, u_first = (one.isel({CYCLE: 0}, drop=True) for one in (values, error))
    if pulse > values.sizes[CYCLE]:
        later = u_later = xr.full_like(first, np.nan)
        beyond = xr.full_like(first, True, dtype=bool)
    else:
        later, u_later = (one.isel({CYCLE: pulse - 1}, drop=True) for one in (values, error))
        # A train that ends before has no value from there on.
        beyond = values.isel({CYCLE: slice(pulse - 1, None)}).isnull().all(CYCLE)
    ratio = later / first
    share = (u_later / later) ** 2 + (u_first / first) ** 2
    conditions = {
        "no_first": first.isnull(),
        "absent": beyond,
        "no_later": later.isnull(),
        "no_amplitude": abs(first) <= 1.96 * u_first,
        "opposite": ratio < 0.0,
    }
    status = xr.DataArray(
        np.select([one.values for one in conditions.values()], list(conditions), default="ok"),
        first.coords,
        first.dims,
    )
    known = status == "ok"
    return xr.Dataset(
        {
            "pulse_ratio": ratio.where(known).assign_attrs(
                units="", description="amplitude of the pulse over that of the first"
            ),
            "pulse_ratio_stderr": (abs(ratio) * share**0.5)
            .where(known)
            .assign_attrs(units="", description="standard error of pulse_ratio"),
            "pulse_ratio_status": status,
        }
    )
