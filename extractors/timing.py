"""The sampling interval and gate period by which a transient is cut into cycles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oectflow.extractors.base import Variable
from oectflow.extractors.kernels import edges

#: Sources of the cycles and phases; codes of :mod:`.kernels.edges`, and one more.
CYCLES_FROM = {
    "nominal": "the gate period that was declared or found, from the first sample on",
    "absent": "the step has no cycle",
    "gate": "the edges of the recorded gate voltage",
    "trace": "the edges in the current, which the nominal period misses",
    "given": "the period or sample_rate of the feature's parameters, from the first sample on",
}
_GIVEN = list(CYCLES_FROM).index("given")
#: For extractors that use the clock.
CLOCK_WORD = {
    "clock": "recorded times that disagree with the declared interval, stand still, go back or "
    "jump, or lost samples in the window"
}


def cycles_from() -> Variable:
    """Return the variable that names the source of the cycles of a step."""
    return Variable(
        "", "what the cycles of the step were cut by", dtype="int8", statuses=CYCLES_FROM
    )


def name_sources(sources: NDArray[np.int8], params: Mapping[str, Any]) -> NDArray[np.int8]:
    """Return the sources of the cycles, given the period or rate in the parameters."""
    if params["period"] is None and params["sample_rate"] is None:
        return sources
    return np.where(sources == edges.NOMINAL, _GIVEN, sources).astype(np.int8)


def gate_timing(
    values: Mapping[str, Any], n_steps: int, params: Mapping[str, Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the timing of each step; parameters take precedence.

    Parameters
    ----------
    values
        ``sampling_interval`` and ``gate_period`` in s, if they are known; each a number or an
        array of shape (n_steps,).
    n_steps
        Number of steps.
    params
        ``sample_rate`` in Hz and ``period`` in s; None takes the values of the steps.

    Returns
    -------
    Sampling intervals and gate periods; NaN if unknown.  Shape (n_steps,), in s.
    """
    interval = np.full(n_steps, values.get("sampling_interval", np.nan), np.float64)
    if params["sample_rate"] is not None:
        interval[:] = 1.0 / params["sample_rate"]
    period = np.full(n_steps, values.get("gate_period", np.nan), np.float64)
    if params["period"] is not None:
        period[:] = params["period"]
    return interval, period
