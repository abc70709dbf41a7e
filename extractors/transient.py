"""Peaks and decay time of transients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from scipy.optimize import brentq

from oectflow.extractors.base import (
    COMMON_STATUSES,
    BaseExtractor,
    Batch,
    Columns,
    Params,
    register,
    stack_steps,
)
from oectflow.extractors.fit_words import FIT_WORDS
from oectflow.extractors.kernels import exponential, gate, peaks

_NO_DATA = {"no_data": "no sample of the step is a finite number"}
_NO_PERIOD = {"no_period": "the gate period or the sampling interval is unknown"}


class PeakCurrentParams(Params):
    """Parameters of :class:`PeakCurrent`."""

    #: Compare and return |Id|; otherwise the signed current.
    use_abs: bool = True


@register("transient.peak_current")
class PeakCurrent(BaseExtractor):
    """Largest drain current of a step."""

    source = "transient"
    unit = "A"
    description = "largest drain current of the transient"
    definition = "max |Id| over the finite samples of the step; use_abs=False: max Id"
    formula = r"I_{peak} = \max_k |I_{d,k}|"
    reference = (
        "Bernards & Malliaras (2007), Adv. Funct. Mater. 17, 3538. doi:10.1002/adfm.200601239"
    )
    statuses = _NO_DATA
    Params = PeakCurrentParams

    @property
    def arrays(self) -> tuple[str, ...]:
        """The current."""
        return ("drain_current",)

    def extract_single_step(
        self, step_data: Mapping[str, Any], params: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Find the peak of one step.

        Parameters
        ----------
        step_data
            ``drain_current``, shape (n_samples,), in A.
        params
            :class:`PeakCurrentParams` as a dict.

        Returns
        -------
        ``value`` and ``status``.
        """
        one = Batch.from_steps([{"drain_current": step_data["drain_current"]}])
        return {name: column[0] for name, column in self.extract_batch(one, params).items()}

    def extract_batch(self, batch: Batch, params: Mapping[str, Any]) -> Columns:
        """Find the peaks of many steps; the same bits as one by one."""
        value = np.empty(len(batch))
        peaks.step_peaks(batch.arrays["drain_current"], batch.offsets, params["use_abs"], value)
        no_data = len(COMMON_STATUSES)
        return {"value": value, "status": np.where(np.isnan(value), no_data, 0).astype(np.int8)}


class CyclesParams(Params):
    """Parameters of :class:`Cycles`."""

    #: How many values a step has; NaN behind the last cycle.
    n_cycles: int = Field(100, ge=1)
    #: Which samples are taken, see the definition.
    method: Literal["peak_per_period", "peak_detection", "fixed_interval", "percentile"] = (
        "peak_per_period"
    )
    #: Gate period in s; None takes that of the step.
    period: float | None = Field(None, gt=0)
    #: Samples per second; None takes that of the step.
    sample_rate: float | None = Field(None, gt=0)
    #: Of ``peak_detection``: samples between two peaks.
    min_distance: int = Field(10, ge=1)
    #: Of ``peak_detection``: how far a peak stands out, in A; None is a tenth of the third quartile
    #: of |Id|.
    prominence: float | None = Field(None, ge=0)


_CYCLES_WORDS = {
    "more_cycles": "the step has more cycles than n_cycles; the first ones are here",
    "too_short": "less than one gate period, fewer than four samples in it, or (percentile) "
    "fewer samples than n_cycles",
    "no_peak": "no peak was detected: the values are samples at fixed intervals",
    **_NO_DATA,
    **_NO_PERIOD,
}
_CYCLES_STATUS = np.zeros(5, np.int8)
for _code, _word in {
    peaks.FOUND: "ok",
    peaks.MORE_CYCLES: "more_cycles",
    peaks.NO_CYCLE: "too_short",
    peaks.NO_DATA: "no_data",
    peaks.NO_PERIOD: "no_period",
}.items():
    _CYCLES_STATUS[_code] = [*COMMON_STATUSES, *_CYCLES_WORDS].index(_word)


@register("transient.cycles")
class Cycles(BaseExtractor):
    """Peak current of the gate cycles of a step."""

    source = "transient"
    unit = "A"
    description = "peak drain current per gate cycle, in its measured sign"
    definition = (
        "peak_per_period: Id at max |Id| in each complete gate period, the first n_cycles; cycle i "
        "begins at the sample nearest to i periods. peak_detection: Id at the n_cycles largest "
        "peaks of |Id| that scipy.signal.find_peaks finds, in the order of time. fixed_interval: "
        "n_cycles samples from the first to the last. percentile: the samples with |Id| at or "
        "above its percentile 100 (1 - n_cycles / n_samples), thinned to n_cycles"
    )
    formula = r"I_i = I_d(t_i), \quad t_i = \arg \max_{i T \leq t < (i + 1) T} |I_d(t)|"
    reference = "Virtanen et al. (2020), Nat. Methods 17, 261. doi:10.1038/s41592-019-0686-2"
    statuses = _CYCLES_WORDS
    Params = CyclesParams

    @property
    def arrays(self) -> tuple[str, ...]:
        """The current; where cycles are counted in time, the recorded times."""
        timed = self.params["method"] == "peak_per_period"
        return ("original_time", "drain_current") if timed else ("drain_current",)

    @property
    def output_shape(self) -> tuple[int | str, ...]:
        """Always ``n_cycles`` values, NaN behind the last one found."""
        return (self.params["n_cycles"],)

    @property
    def output_dims(self) -> tuple[str, ...]:
        """The cycle."""
        return ("cycle",)

    def extract_single_step(
        self, step_data: Mapping[str, Any], params: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Find the peaks of one step.

        Parameters
        ----------
        step_data
            ``drain_current``, shape (n_samples,), in A; ``sampling_interval`` and ``gate_period``
            in s, and where it is uneven ``original_time``, shape (n_samples,), in s.
        params
            :class:`CyclesParams` as a dict.

        Returns
        -------
        ``value`` and ``status``.
        """
        if params["method"] == "peak_per_period":
            wanted = ("drain_current", "original_time", "sampling_interval", "gate_period")
            one = Batch.from_steps([{k: step_data[k] for k in wanted if k in step_data}])
            return {name: column[0] for name, column in self.extract_batch(one, params).items()}
        current = np.asarray(step_data["drain_current"], np.float64)
        current = current[np.isfinite(current)]
        n = params["n_cycles"]
        if params["method"] == "percentile":
            found = highest_percentile(current, n)
            status = "ok" if current.size >= n else "too_short"
        elif params["method"] == "fixed_interval":
            found, status = fixed_interval(current, n), "ok"
        else:
            found = detected_peaks(current, n, params["min_distance"], params["prominence"])
            status = "ok" if found.size else "no_peak"
            if not found.size:
                found = fixed_interval(current, n)
        value = np.full(n, np.nan)
        value[: found.size] = found
        return {"value": value, "status": status if current.size else "no_data"}

    def extract_batch(self, batch: Batch, params: Mapping[str, Any]) -> Columns:
        """Find the peaks of many steps; the same bits as one by one."""
        if params["method"] != "peak_per_period":
            return stack_steps(
                self.variables, [self.extract_step(batch.step(i)) for i in range(len(batch))]
            )
        current = batch.arrays["drain_current"]
        value = np.empty((len(batch), params["n_cycles"]))
        codes = np.empty(len(batch), np.int8)
        unknown = np.full(len(batch), np.nan)
        interval = batch.values.get("sampling_interval", unknown)
        if params["sample_rate"] is not None:
            interval = np.full(len(batch), 1.0 / params["sample_rate"])
        period = batch.values.get("gate_period", unknown)
        if params["period"] is not None:
            period = np.full(len(batch), params["period"])
        peaks.cycle_peaks(
            current,
            batch.arrays.get("original_time", np.full(current.size, np.nan)),
            batch.offsets,
            interval,
            period,
            value,
            codes,
        )
        return {"value": value, "status": _CYCLES_STATUS[codes]}


def detected_peaks(
    current: NDArray[np.float64], n: int, min_distance: int, prominence: float | None
) -> NDArray[np.float64]:
    """Return the current at its largest peaks, in the order of time.

    Parameters
    ----------
    current
        Finite samples.  Shape (n_samples,), in A.
    n
        How many peaks to keep.
    min_distance
        Smallest distance of two peaks in samples.
    prominence
        How far a peak of |Id| stands out, in A; None is a tenth of the third quartile of |Id|.

    Returns
    -------
    Shape (at most n,), in A, signed.
    """
    # A third of a second for every worker, and few ask for it.
    from scipy.signal import find_peaks

    if not current.size:
        return current
    size = np.abs(current)
    if prominence is None:
        prominence = 0.1 * float(np.percentile(size, 75))
    at: NDArray[np.int64] = find_peaks(size, distance=min_distance, prominence=prominence)[0]
    if at.size > n:
        at = np.sort(at[np.argsort(size[at])[-n:]])
    return current[at]


def fixed_interval(current: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Return ``n`` samples from the first to the last one; all of them where there are fewer."""
    if current.size <= n:
        return current
    return current[np.linspace(0, current.size - 1, n).astype(np.int64)]


def highest_percentile(current: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Return the samples of largest |Id|, thinned to ``n``; none where there are fewer than n."""
    if current.size < n:
        return current[:0]
    size = np.abs(current)
    return fixed_interval(current[size >= np.percentile(size, 100 * (1 - n / size.size))], n)


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
    **_NO_PERIOD,
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
    interval = step_data.get("sampling_interval", np.nan)
    if params["sample_rate"] is not None:
        interval = 1.0 / params["sample_rate"]
    period = params["period"] or step_data.get("gate_period", np.nan)
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
