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
    interval, period = gate_timing(step, 1, params)
    recorded = np.require(step.get("original_time", np.empty(0)), np.float64, ["C", "W"])
    t, dt, _ = clock.step_clock(recorded, interval[0], period[0])
    n_samples = len(step["drain_current"])
    return int(found["cycles_from"]), in_samples(found, t, dt, n_samples)


def in_samples(
    found: Mapping[str, NDArray[Any]], t: NDArray[np.float64], dt: float, n_samples: int
) -> NDArray[np.int64]:
    """Return where the windows of a step begin and end, in samples; equal where there is none.

    Parameters
    ----------
    found
        ``window_start`` and ``window_duration`` in s, of one shape.
    t, dt
        From :func:`.clock.step_clock`: times in intervals, or shape (0,), and the interval in s.
    n_samples
        Of the step.

    Returns
    -------
    The shape of the windows, and an axis (begin, end).
    """
    begin, span = found["window_start"], found["window_duration"].astype(np.float64)
    if t.size == 0:
        t = np.arange(n_samples, dtype=np.float64)
    # A quarter of an interval on either side, for rounding.
    spans = np.stack(
        [np.searchsorted(t, begin / dt - 0.25), np.searchsorted(t, (begin + span) / dt - 0.75)],
        axis=-1,
    )
    spans[np.isnan(begin)] = 0
    return spans
