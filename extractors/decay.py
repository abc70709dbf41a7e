"""Decay time of transients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from scipy.optimize import brentq

from oectflow.extractors.base import NO_PERIOD, BaseExtractor, Params, register
from oectflow.extractors.fit_words import FIT_WORDS
from oectflow.extractors.kernels import exponential, gate
from oectflow.extractors.timing import gate_timing


class DecayTimeParams(Params):
    """Parameters of :class:`DecayTime`."""

    #: What is fitted, see the definition.
    method: Literal["off_phase", "exponential", "linear"] = "off_phase"
    #: Of ``off_phase``: which one, counted from 1.
    cycle: int = Field(1, ge=1)
    #: Gate period in s; None takes that of the step.
    period: float | None = Field(None, gt=0)
    #: Samples per second; None takes that of the step.
    sample_rate: float | None = Field(None, gt=0)
    #: Of ``exponential`` and ``linear``: begin and end as shares of the whole step.
    fit_range: tuple[float, float] = (0.1, 0.9)

    @model_validator(mode="after")
    def _ordered(self) -> DecayTimeParams:
        if not 0 <= self.fit_range[0] < self.fit_range[1] <= 1:
            raise ValueError("fit_range must be (begin, end) with 0 <= begin < end <= 1")
        return self


_DECAY_WORDS = {
    "flat": "the current is constant in the window",
    "straight": "no curvature (off_phase: tau is longer than 100 windows) or no decay",
    "step": "no relaxation: tau is shorter than a tenth of a sample",
    "opposite": "the current grows in the window; the tau of a linear fit is negative",
    "noise": "an exponential explains the window no better than chance",
    "nan": "a sample in the window is not a number",
    "too_few": "fewer samples in the window than the fit needs",
    "no_time": "continuous_time does not increase in the window",
    "cut": "the step has no such complete off phase after an on phase",
    **NO_PERIOD,
}
#: A decay to zero is fitted up to a tau of this many windows: rounding of the samples, 1e-16 of
#: them, is then 1e-10 of what the current loses in the window.
_LONGEST_DECAY = 1e6


@register("transient.decay_time")
class DecayTime(BaseExtractor):
    """Time constant of switching off."""

    source = "transient"
    unit = "s"
    description = "decay time of the drain current"
    definition = (
        "off_phase: tau of Id = A exp(-t/tau) + C, least squares over one whole off phase that "
        "follows an on phase. exponential: tau of |Id| = I0 exp(-t/tau), least squares over "
        "fit_range of the whole step. linear: -1 / slope of the straight line through ln |Id| "
        "over fit_range of the whole step"
    )
    formula = r"(A, \tau, C) = \arg \min \sum_k \left( I_{d,k} - A e^{-t_k / \tau} - C \right)^2"
    reference = "Golub & Pereyra (1973), SIAM J. Numer. Anal. 10, 413. doi:10.1137/0710036"
    statuses = _DECAY_WORDS
    Params = DecayTimeParams

    @property
    def arrays(self) -> tuple[str, ...]:
        """The current, and the times that the method goes by."""
        timed = self.params["method"] == "off_phase"
        return ("original_time" if timed else "continuous_time", "drain_current")

    def extract_single_step(
        self, step_data: Mapping[str, Any], params: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Fit one step.

        Parameters
        ----------
        step_data
            ``drain_current`` (A).  ``off_phase`` needs ``sampling_interval`` and ``gate_period``
            (s), and uses ``duty_cycle`` and an uneven ``original_time`` (s) where they are known;
            the others need ``continuous_time`` (s).
        params
            :class:`DecayTimeParams` as a dict.

        Returns
        -------
        ``value`` and ``status``.
        """
        current = np.ascontiguousarray(step_data["drain_current"], np.float64)
        if params["method"] == "off_phase":
            tau, status = fit_off_phase(current, step_data, params)
        else:
            first, last = (int(current.size * share) for share in params["fit_range"])
            t = np.asarray(step_data["continuous_time"], np.float64)[first:last]
            y = np.abs(current[first:last])
            used = np.isfinite(y) & (y > 0)
            fit = fit_to_zero if params["method"] == "exponential" else fit_logarithm
            tau, status = np.nan, "no_time"
            if np.all(np.diff(t) > 0):
                tau, status = fit(t[used] - t[:1], y[used])
        return {"value": tau, "status": status}


def fit_off_phase(
    current: NDArray[np.float64], step_data: Mapping[str, Any], params: Mapping[str, Any]
) -> tuple[float, str]:
    """Fit a decay with offset to one off phase.

    Returns
    -------
    ``tau`` in s and a word of ``DecayTime.statuses``; NaN where there is no answer.
    """
    (interval,), (period,) = gate_timing(step_data, 1, params)
    if not (interval > 0 and period > 0):
        return np.nan, "no_period"
    n_cycles = gate.count_cycles(current.size, period / interval)
    if n_cycles == 0:
        return np.nan, "cut"
    unknown = np.full(current.size, np.nan)
    recorded = np.ascontiguousarray(step_data.get("original_time", unknown), np.float64)
    t = gate.recorded_clock(recorded, interval)
    starts = gate.cycle_starts(t, current.size, period / interval, n_cycles)
    signal = np.empty(current.size)
    gate.orient(current, 0, signal)
    on, _, off, length = gate.phase_offsets(signal, starts, step_data.get("duty_cycle", np.nan))
    # An off phase at the begin of the period follows the on phase of the period before.
    cycle = params["cycle"] - 1 + (0 if on < off else 1)
    if cycle >= n_cycles or starts[cycle] + off + length > current.size:
        return np.nan, "cut"
    window = slice(starts[cycle] + off, starts[cycle] + off + length)
    row = np.empty(exponential.N_COLUMNS)
    clock = t[window] - t[window.start] if t.size else t
    code, _ = exponential.fit_exponential(signal[window], clock, exponential.DECAY, np.nan, row)
    if code != exponential.FIT_OK:
        return np.nan, FIT_WORDS[code]
    return float(row[exponential.TAU]) * interval, "ok"


def fit_to_zero(t: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, str]:
    """Fit ``y = I0 exp(-t / tau)``, a decay to zero, by least squares.

    Parameters
    ----------
    t
        Times, not negative, increasing.  Shape (n,), in s.
    y
        Positive samples.  Shape (n,).

    Returns
    -------
    ``tau`` in s and a word of ``DecayTime.statuses``; NaN where there is no answer.
    """
    if t.size < 3:
        return np.nan, "too_few"
    row = np.empty(exponential.N_COLUMNS)
    spacing = (t[-1] - t[0]) / (t.size - 1)
    # Without an offset the origin of time has no part in tau, and even samples are fitted faster.
    clock = t if gate.recorded_clock(t, spacing).size else t[:0]
    code, _ = exponential.fit_exponential(y, clock, exponential.DECAY, 0.0, row)
    if code == exponential.STRAIGHT:
        return fit_slow_decay(t, y)
    if code != exponential.FIT_OK:
        return np.nan, FIT_WORDS[code]
    return float(row[exponential.TAU]) * (1.0 if clock.size else float(spacing)), "ok"


def fit_slow_decay(t: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, str]:
    """Fit ``y = I0 exp(-t / tau)`` where ``tau`` is between 50 and 1e6 windows.

    Without an offset even such a slow decay tells its ``tau``: the root of the condition that the
    residual is orthogonal to the derivative of the model.  Arguments and result as
    :func:`fit_to_zero`.
    """
    span = t[-1]

    def slope(log_windows: float) -> float:
        z = t / (span * np.exp(log_windows))
        model = np.exp(-z)
        derivative = z * model
        return float(derivative @ y - (model @ y) * (model @ derivative) / (model @ model))

    shortest, longest = np.log(50.0), np.log(_LONGEST_DECAY)
    if slope(shortest) <= 0 or slope(longest) >= 0:
        return np.nan, "straight"
    return float(np.exp(brentq(slope, shortest, longest, xtol=1e-14)) * span), "ok"


def fit_logarithm(t: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, str]:
    """Fit a straight line to ``ln y`` and return ``-1 / slope``; as :func:`fit_to_zero`."""
    if t.size < 3:
        return np.nan, "too_few"
    centred = t - t.mean()
    # Relative to the first sample, so that equal samples have a slope of exactly 0.
    slope = float(centred @ np.log(y / y[0]) / (centred @ centred))
    if slope == 0:
        return np.nan, "flat"
    return -1.0 / slope, "ok" if slope < 0 else "opposite"
