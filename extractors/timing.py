"""The sampling interval and gate period by which a transient is cut into cycles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def gate_timing(
    values: Mapping[str, Any], n_steps: int, params: Mapping[str, Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what is known of each step, unless the parameters say otherwise.

    Parameters
    ----------
    values
        ``sampling_interval`` and ``gate_period`` in s, where they are known; each a number or an
        array of shape (n_steps,).
    n_steps
        Number of steps.
    params
        ``sample_rate`` in Hz and ``period`` in s; None leaves those of the steps.

    Returns
    -------
    Sampling intervals and gate periods; NaN where unknown.  Shape (n_steps,), in s.
    """
    interval = np.full(n_steps, values.get("sampling_interval", np.nan), np.float64)
    if params["sample_rate"] is not None:
        interval[:] = 1.0 / params["sample_rate"]
    period = np.full(n_steps, values.get("gate_period", np.nan), np.float64)
    if params["period"] is not None:
        period[:] = params["period"]
    return interval, period
