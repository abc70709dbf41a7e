"""Decay time of transients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import scipy
from numpy.typing import NDArray
from pydantic import Field, model_validator

from oectflow.extractors.base import (
    COMMON_STATUSES,
    ERROR,
    BaseExtractor,
    Columns,
    Params,
    Variable,
    register,
    stack_steps,
)
from oectflow.extractors.fit_words import FIT_WORDS
from oectflow.extractors.kernels import exponential, gate
from oectflow.extractors.phases import whole_phases
from oectflow.extractors.tau import TAU_WORDS
from oectflow.extractors.timing import cycles_from
from oectflow.measurement import Batch

#: tau in s, status, R2, standard error of tau in s.
Fit = tuple[float, str, float, float]


class DecayTimeParams(Params):
    """Parameters of :class:`DecayTime`."""

    #: What is fitted, see the definition.
    method: Literal["off_phase", "exponential", "linear"] = "off_phase"
    #: For ``off_phase``: number of the off phase, counted from 1.
    cycle: int = Field(1, ge=1)
    #: Gate period in s; None takes the period of the step.
    period: float | None = Field(None, gt=0)
    #: Samples per second; None takes the rate of the step.
    sample_rate: float | None = Field(None, gt=0)
    #: For ``exponential`` and ``linear``: begin and end, as shares of the whole step.
    fit_range: tuple[float, float] = (0.1, 0.9)

    @model_validator(mode="after")
    def _ordered(self) -> DecayTimeParams:
        if not 0 <= self.fit_range[0] < self.fit_range[1] <= 1:
            raise ValueError("fit_range must be (begin, end) with 0 <= begin < end <= 1")
        return self


_DECAY_WORDS = {
    **{word: text for word, text in TAU_WORDS.items() if word not in ("no_window", "low_swing")},
    "opposite": "the current grows in the window; the tau of a linear fit is negative",
    "too_few": "fewer samples in the window than the fit needs",
    "no_time": "continuous_time does not increase in the window",
    "cut": "the step has no such complete off phase after an on phase",
}
_TAU_WORDS = [*COMMON_STATUSES, *TAU_WORDS]
_ALL_WORDS = [*COMMON_STATUSES, *_DECAY_WORDS]
_CUT = _ALL_WORDS.index("cut")
#: The words here for those of :class:`.tau.TauOnOff`.
_STATUS_OF_TAU = np.array(
    [
        _CUT if word in ("absent", "no_window") else _ALL_WORDS.index(word) if word in _ALL_WORDS
        else ERROR
        for word in _TAU_WORDS
    ],
    np.int8,
)  # fmt: skip
#: A decay to zero is fitted up to a tau of this many windows.  The rounding of the samples, 1e-16
#: of their size, is then 1e-10 of the decrease in the window.
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
    version = 4
    Params = DecayTimeParams

    @property
    def arrays(self) -> tuple[str, ...]:
        """The current, and the times that the method needs."""
        timed = self.params["method"] == "off_phase"
        return (
            ("original_time", "drain_current", "Vg")
            if timed
            else (
                "continuous_time",
                "drain_current",
            )
        )

    @property
    def variables(self) -> dict[str, Variable]:
        """The decay time, its status, and the numbers to judge it by."""
        found = super().variables | {
            "r_squared": Variable("", "R2 of the fit; of ln |Id| for a linear one"),
            "stderr": Variable("s", "standard error of the decay time"),
        }
        if self.params["method"] == "off_phase":
            found["cycles_from"] = cycles_from()
        return found

    def extract_single_step(
        self, step_data: Mapping[str, Any], params: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Fit one step.

        Parameters
        ----------
        step_data
            ``drain_current`` (A).  ``off_phase`` needs ``sampling_interval`` and ``gate_period``
            (s) or ``Vg`` (V), and uses ``duty_cycle`` and ``original_time`` (s) if they are known.
            The other methods need ``continuous_time`` (s).
        params
            :class:`DecayTimeParams` as a dict.

        Returns
        -------
        All :attr:`variables`.
        """
        if params["method"] == "off_phase":
            columns: dict[str, Any] = super().extract_single_step(step_data, params)
            return columns
        current = np.ascontiguousarray(step_data["drain_current"], np.float64)
        first, last = (int(current.size * share) for share in params["fit_range"])
        t = np.asarray(step_data["continuous_time"], np.float64)[first:last]
        y = np.abs(current[first:last])
        used = np.isfinite(y) & (y > 0)
        fit = fit_to_zero if params["method"] == "exponential" else fit_logarithm
        found: Fit = (np.nan, "no_time", np.nan, np.nan)
        if np.all(np.diff(t) > 0):
            found = fit(t[used] - t[:1], y[used])
        return dict(zip(("value", "status", "r_squared", "stderr"), found, strict=True))

    def extract_batch(self, batch: Batch, params: Mapping[str, Any]) -> Columns:
        """Fit many steps, with the same bits as one by one."""
        if params["method"] == "off_phase":
            return fit_off_phases(batch, params)
        return stack_steps(
            self.variables, [self.extract_step(batch.step(i)) for i in range(len(batch))]
        )


def fit_off_phases(batch: Batch, params: Mapping[str, Any]) -> Columns:
    """Fit a decay with offset to one off phase of each step, as :class:`.tau.TauOnOff` does.

    Returns
    -------
    All variables of :class:`DecayTime`; NaN if there is no answer.
    """
    tau = whole_phases(params["cycle"] + 1, params["period"], params["sample_rate"])
    fits = tau.extract_batch(batch, tau.params)
    on, off = fits["window_start"][:, 0].T
    # If a step begins with an off phase, no on phase precedes it.
    cycle = params["cycle"] - 1 + (off < on)
    beyond = cycle >= fits["status"].shape[1]
    at = np.arange(len(batch)), np.where(beyond, 0, cycle), 1
    status = _STATUS_OF_TAU[fits["status"][at]]
    status[beyond] = _CUT
    unknown = fits["status"][:, 0, 0] == _TAU_WORDS.index("no_period")
    status[unknown] = _ALL_WORDS.index("no_period")
    none = unknown | (status == _CUT)
    return {"status": status, "cycles_from": fits["cycles_from"]} | {
        name: np.where(none, np.nan, fits[name][at].astype(np.float64))
        for name in ("value", "r_squared", "stderr")
    }


def fit_to_zero(t: NDArray[np.float64], y: NDArray[np.float64]) -> Fit:
    """Fit ``y = I0 exp(-t / tau)``, a decay to zero, by least squares.

    Parameters
    ----------
    t
        Times, not negative, increasing.  Shape (n,), in s.
    y
        Positive samples.  Shape (n,).

    Returns
    -------
    ``tau`` in s, a word of ``DecayTime.statuses``, R2 and the standard error of ``tau``; NaN if
    there is no answer.
    """
    if t.size < 3:
        return np.nan, "too_few", np.nan, np.nan
    row = np.empty(exponential.N_COLUMNS)
    spacing = (t[-1] - t[0]) / (t.size - 1)
    # Without an offset, tau is independent of the origin of time; even samples are fitted faster.
    clock = t if gate.recorded_clock(t, spacing).size else t[:0]
    code, _ = exponential.fit_exponential(y, clock, exponential.DECAY, 0.0, row)
    if code == exponential.STRAIGHT:
        return fit_slow_decay(t, y)
    if code != exponential.FIT_OK:
        return np.nan, FIT_WORDS[code], np.nan, np.nan
    unit = 1.0 if clock.size else float(spacing)
    tau, error = (float(row[column]) * unit for column in (exponential.TAU, exponential.SE_TAU))
    return tau, "ok", float(row[exponential.R2]), error


def fit_slow_decay(t: NDArray[np.float64], y: NDArray[np.float64]) -> Fit:
    """Fit ``y = I0 exp(-t / tau)`` for a ``tau`` between 50 and 1e6 windows.

    Without an offset, even such a slow decay determines its ``tau``: the residual is orthogonal to
    the derivative of the model.  Arguments and result are those of :func:`fit_to_zero`.
    """
    span = t[-1]

    def slope(log_windows: float) -> float:
        z = t / (span * np.exp(log_windows))
        model = np.exp(-z)
        derivative = z * model
        return float(derivative @ y - (model @ y) * (model @ derivative) / (model @ model))

    shortest, longest = np.log(50.0), np.log(_LONGEST_DECAY)
    if slope(shortest) <= 0 or slope(longest) >= 0:
        return np.nan, "straight", np.nan, np.nan
    tau = float(np.exp(scipy.optimize.brentq(slope, shortest, longest, xtol=1e-14)) * span)
    model = np.exp(-t / tau)
    level = float(model @ y / (model @ model))
    # Standard error of tau by the derivatives of the model with respect to level and tau.
    by_tau = level * t / tau**2 * model
    by_tau -= (by_tau @ model) / (model @ model) * model
    rss = float(np.sum((y - level * model) ** 2))
    error = np.sqrt(rss / max(t.size - 2, 1) / float(by_tau @ by_tau))
    return tau, "ok", 1.0 - rss / float(np.sum((y - y.mean()) ** 2)), float(error)


def fit_logarithm(t: NDArray[np.float64], y: NDArray[np.float64]) -> Fit:
    """Fit a straight line to ``ln y``, return ``-1 / slope``; otherwise as :func:`fit_to_zero`."""
    if t.size < 3:
        return np.nan, "too_few", np.nan, np.nan
    centred = t - t.mean()
    # Taken relative to the first sample, so that equal samples have a slope of exactly 0.
    logarithm = np.log(y / y[0])
    spread = float(centred @ centred)
    slope = float(centred @ logarithm) / spread
    if slope == 0:
        return np.nan, "flat", np.nan, np.nan
    residual = logarithm - logarithm.mean() - slope * centred
    rss = float(residual @ residual)
    r_squared = 1.0 - rss / (rss + slope**2 * spread)
    error = float(np.sqrt(rss / (t.size - 2) / spread)) / slope**2
    return -1.0 / slope, "ok" if slope < 0 else "opposite", r_squared, error
