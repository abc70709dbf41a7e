"""Peaks of transients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from oectflow.extractors.base import (
    COMMON_STATUSES,
    ERROR,
    NO_PERIOD,
    BaseExtractor,
    Columns,
    Params,
    Variable,
    register,
    stack_steps,
)
from oectflow.extractors.kernels import clock, edges, peaks
from oectflow.extractors.phases import phases_by_fit
from oectflow.extractors.timing import cycles_from, gate_timing, name_sources
from oectflow.measurement import Batch

_NO_DATA = {"no_data": "no sample of the step is a finite number"}


class PeakCurrentParams(Params):
    """Parameters of :class:`PeakCurrent`."""

    #: Compare and return |Id|; otherwise, the signed current.
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

    def extract_batch(self, batch: Batch, params: Mapping[str, Any]) -> Columns:
        """Find the peaks of many steps, with the same bits as one by one."""
        value = np.empty(len(batch))
        peaks.step_peaks(batch.arrays["drain_current"], batch.offsets, params["use_abs"], value)
        no_data = len(COMMON_STATUSES)
        return {"value": value, "status": np.where(np.isnan(value), no_data, 0).astype(np.int8)}


class CyclesParams(Params):
    """Parameters of :class:`Cycles`."""

    #: Number of values per step; NaN after the last cycle.
    n_cycles: int = Field(100, ge=1)
    #: How samples are chosen, see the definition.
    method: Literal["peak_per_period", "peak_detection", "fixed_interval", "percentile"] = (
        "peak_per_period"
    )
    #: Gate period in s; None takes the period of the step.
    period: float | None = Field(None, gt=0)
    #: Samples per second; None takes the rate of the step.
    sample_rate: float | None = Field(None, gt=0)
    #: For ``peak_detection``: smallest number of samples between two peaks.
    min_distance: int = Field(10, ge=1)
    #: For ``peak_detection``: prominence of a peak, in A; None is a tenth of the third quartile
    #: of |Id|.
    prominence: float | None = Field(None, ge=0)


_CYCLES_WORDS = {
    "more_cycles": "the step has more cycles than n_cycles; the first ones are here",
    "too_short": "less than one gate period, fewer than four samples in it, or (percentile) "
    "fewer samples than n_cycles",
    "no_peak": "no peak was detected: the values are samples at fixed intervals",
    **_NO_DATA,
    **NO_PERIOD,
    "clock": "recorded times that disagree with the declared interval, stand still or go back",
}
# An unknown code must not become "ok".
_CYCLES_STATUS = np.full(5, ERROR, np.int8)
for _code, _word in {
    peaks.FOUND: "ok",
    peaks.MORE_CYCLES: "more_cycles",
    peaks.NO_CYCLE: "too_short",
    peaks.NO_DATA: "no_data",
    peaks.NO_PERIOD: "no_period",
}.items():
    _CYCLES_STATUS[_code] = [*COMMON_STATUSES, *_CYCLES_WORDS].index(_word)
_CLOCK = [*COMMON_STATUSES, *_CYCLES_WORDS].index("clock")


@register("transient.cycles")
class Cycles(BaseExtractor):
    """Peak current of the gate cycles of a step."""

    source = "transient"
    unit = "A"
    description = "peak drain current per gate cycle, in its measured sign"
    definition = (
        "peak_per_period: Id at max |Id| in each complete gate period, the first n_cycles; cycle i "
        "begins at the edge of the recorded gate, else at the sample nearest to i periods, or "
        "where cycles then do not look alike, at the edge in the trace if fits are better for it. "
        "peak_detection: Id at the n_cycles largest "
        "peaks of |Id| that scipy.signal.find_peaks finds, in the order of time. fixed_interval: "
        "n_cycles samples from the first to the last. percentile: the samples with |Id| at or "
        "above its percentile 100 (1 - n_cycles / n_samples), thinned to n_cycles"
    )
    formula = r"I_i = I_d(t_i), \quad t_i = \arg \max_{i T \leq t < (i + 1) T} |I_d(t)|"
    reference = "Virtanen et al. (2020), Nat. Methods 17, 261. doi:10.1038/s41592-019-0686-2"
    statuses = _CYCLES_WORDS
    version = 3
    Params = CyclesParams

    @property
    def arrays(self) -> tuple[str, ...]:
        """The current; for methods that count cycles, also the recorded times and the gate."""
        timed = self.params["method"] == "peak_per_period"
        return ("original_time", "drain_current", "Vg") if timed else ("drain_current",)

    @property
    def variables(self) -> dict[str, Variable]:
        """The peaks, their status, and the source of the cycles."""
        timed = self.params["method"] == "peak_per_period"
        return super().variables | ({"cycles_from": cycles_from()} if timed else {})

    @property
    def output_shape(self) -> tuple[int | str, ...]:
        """Always ``n_cycles`` values; NaN after the last one found."""
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
            in s; for uneven samples, ``original_time``, shape (n_samples,), in s.
        params
            :class:`CyclesParams` as a dict.

        Returns
        -------
        ``value`` and ``status``.
        """
        if params["method"] == "peak_per_period":
            columns: dict[str, Any] = super().extract_single_step(step_data, params)
            return columns
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
        """Find the peaks of many steps, with the same bits as one by one."""
        if params["method"] != "peak_per_period":
            return stack_steps(
                self.variables, [self.extract_step(batch.step(i)) for i in range(len(batch))]
            )
        current = batch.arrays["drain_current"]
        value = np.empty((len(batch), params["n_cycles"]))
        codes, clocks, sources = np.zeros((3, len(batch)), np.int8)
        interval, period = gate_timing(batch.values, len(batch), params)
        peaks.cycle_peaks(
            current,
            batch.arrays.get("original_time", np.full(current.size, np.nan)),
            batch.arrays.get("Vg", np.empty(0)),
            batch.offsets,
            interval,
            period,
            value,
            codes,
            clocks,
            sources,
        )
        for i in np.flatnonzero(sources == edges.TRACE):
            step = batch.step(int(i))
            sources[i], spans = phases_by_fit(step, params)
            if sources[i] == edges.TRACE:
                borders = np.append(spans[..., 0].min(axis=1), spans[-1, :, 1].max())
                codes[i] = peaks.peaks_between(step["drain_current"], borders, value[i])
        status = _CYCLES_STATUS[codes]
        found = (codes == peaks.FOUND) | (codes == peaks.MORE_CYCLES)
        status[found & (clocks != clock.CLOCK_OK)] = _CLOCK
        return {"value": value, "status": status, "cycles_from": name_sources(sources, params)}


def detected_peaks(
    current: NDArray[np.float64], n: int, min_distance: int, prominence: float | None
) -> NDArray[np.float64]:
    """Return the current at its largest peaks, in the order of time.

    Parameters
    ----------
    current
        Finite samples.  Shape (n_samples,), in A.
    n
        Number of peaks to keep.
    min_distance
        Smallest distance of two peaks in samples.
    prominence
        Prominence of a peak of |Id|, in A; None is a tenth of the third quartile of |Id|.

    Returns
    -------
    Shape (at most n,), in A, signed.
    """
    # The import takes a third of a second in every worker, and few runs need it.
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
    """Return ``n`` samples from the first to the last one, or all if there are fewer."""
    if current.size <= n:
        return current
    return current[np.linspace(0, current.size - 1, n).astype(np.int64)]


def highest_percentile(current: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Return the samples of largest |Id|, thinned to ``n``; none if there are fewer than n."""
    if current.size < n:
        return current[:0]
    size = np.abs(current)
    return fixed_interval(current[size >= np.percentile(size, 100 * (1 - n / size.size))], n)
