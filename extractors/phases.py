"""The phases of a step where fits of all of them decide what cuts its cycles."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oectflow.extractors.kernels import clock
from oectflow.extractors.tau import TauOnOff
from oectflow.extractors.timing import gate_timing


@lru_cache(16)
def whole_phases(cycles: int | None, period: float | None, sample_rate: float | None) -> TauOnOff:
    """Return the extractor that fits the whole phases of so many cycles."""
    return TauOnOff(
        {
            "window": "full_phase",
            "max_cycles": cycles,
            "min_swing": 0.0,
            "period": period,
            "sample_rate": sample_rate,
        }
    )


def phases_by_fit(
    step: Mapping[str, Any], params: Mapping[str, Any]
) -> tuple[int, NDArray[np.int64]]:
    """Find the phases of a step as :class:`.tau.TauOnOff` does.

    Parameters
    ----------
    step
        As :meth:`.tau.TauOnOff.extract_step` takes it.
    params
        ``period`` in s and ``sample_rate`` in Hz; None leaves those of the step.

    Returns
    -------
    A code of :data:`.timing.CYCLES_FROM`; begin and end of on and off in every cycle, in samples,
    equal where there is no such phase.  Shape (n_cycles, 2, 2).
    """
    tau = whole_phases(None, params["period"], params["sample_rate"])
    found = tau.extract_step(step)
    begin, span = found["window_start"], found["window_duration"].astype(np.float64)
    interval, period = gate_timing(step, 1, params)
    recorded = np.require(step.get("original_time", np.empty(0)), np.float64, ["C", "W"])
    t, dt, _ = clock.step_clock(recorded, interval[0], period[0])
    if t.size == 0:
        t = np.arange(len(step["drain_current"]), dtype=np.float64)
    # A quarter of an interval on either side, for rounding.
    spans = np.stack(
        [np.searchsorted(t, begin / dt - 0.25), np.searchsorted(t, (begin + span) / dt - 0.75)],
        axis=-1,
    )
    spans[np.isnan(begin)] = 0
    return int(found["cycles_from"]), spans
