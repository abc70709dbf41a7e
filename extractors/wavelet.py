"""Wavelet features of transients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from oectflow.extractors.base import (
    COMMON_STATUSES,
    NO_PERIOD,
    OK,
    BaseExtractor,
    Columns,
    Params,
    Variable,
    register,
)
from oectflow.extractors.dwt import (
    OUTCOMES,
    Detrend,
    Mode,
    Precision,
    band_names,
    filters,
    wavelet_features,
)
from oectflow.extractors.kernels import clock, edges, gate
from oectflow.extractors.phases import phases_by_fit
from oectflow.extractors.timing import CLOCK_WORD, cycles_from, gate_timing, name_sources
from oectflow.measurement import Batch

_WORDS = {
    "short": "fewer samples than (taps - 1) 2^level: computed with fewer levels, see 'level'",
    "flat": "the current is constant: all energies are 0, and so are shares and entropies",
    "nan": "a sample is not a finite number",
    "no_data": "the step has no sample",
    "cut": "the step has no such complete phase",
    **NO_PERIOD,
    **CLOCK_WORD,
}
_ALL_WORDS = [*COMMON_STATUSES, *_WORDS]
_STATUS = np.array([_ALL_WORDS.index(word) for word in OUTCOMES], np.int8)


class DwtParams(Params):
    """Parameters of :class:`Dwt`."""

    #: Discrete wavelet of PyWavelets.
    wavelet: str = "db4"
    #: Number of levels; "adaptive": 2 for fewer than 200 samples, 3 for fewer than 500, else 4.
    level: int | Literal["adaptive"] = 3
    #: Continuation of the current beyond its ends.
    mode: Mode = "smooth"
    #: What is subtracted before the transform.
    detrend: Detrend = "mean"
    #: Precision of the transform.
    dtype: Precision = "float64"
    #: The whole step, or one phase of one gate cycle.
    part: Literal["step", "on", "off"] = "step"
    #: For ``on`` and ``off``: number of the gate cycle, counted from 1.
    cycle: int = Field(1, ge=1)
    #: Gate period in s; None takes the period of the step.
    period: float | None = Field(None, gt=0)
    #: Samples per second; None takes the rate of the step.
    sample_rate: float | None = Field(None, gt=0)

    @field_validator("level")
    @classmethod
    def _levels(cls, level: int | str) -> int | str:
        if not isinstance(level, str) and not 1 <= level <= 20:
            raise ValueError("expected 1 to 20 levels, or 'adaptive'")
        return level

    @field_validator("wavelet")
    @classmethod
    def _known(cls, wavelet: str) -> str:
        filters(wavelet, "float64")
        return wavelet


@register("transient.dwt")
class Dwt(BaseExtractor):
    """Energy of the wavelet bands of a step or one of its phases, and derived numbers."""

    source = "transient"
    unit = "A^2"
    description = "energy of the drain current per wavelet band"
    definition = (
        "discrete wavelet transform of Id minus its mean: E = sum c^2 over the coefficients of the "
        "approximation cA and of the details cD, coarse to fine"
    )
    formula = (
        r"E_j = \sum_k c_{j,k}^2, \quad "
        r"a_{j+1,k} = \sum_i l_i a_{j,2k+i}, \quad d_{j+1,k} = \sum_i h_i a_{j,2k+i}, \quad "
        r"a_{0,k} = I_{d,k} - \overline{I_d}"
    )
    reference = (
        "Mallat (1989), IEEE Trans. Pattern Anal. Mach. Intell. 11, 674. doi:10.1109/34.192463"
    )
    statuses = _WORDS
    version = 3
    Params = DwtParams

    @property
    def arrays(self) -> tuple[str, ...]:
        """The current and the recorded times; to find a phase, the gate."""
        whole = self.params["part"] == "step"
        return ("original_time", "drain_current") + (() if whole else ("Vg",))

    @property
    def output_shape(self) -> tuple[int | str, ...]:
        """One energy per band; four details with ``level="adaptive"``, NaN where unused."""
        return (len(band_names(self.params["level"])),)

    @property
    def output_dims(self) -> tuple[str, ...]:
        """The band."""
        return ("band",)

    @property
    def output_labels(self) -> Mapping[str, tuple[str, ...]]:
        """Approximation and details, coarse to fine."""
        return {"band": band_names(self.params["level"])}

    @property
    def variables(self) -> dict[str, Variable]:
        """The energies, their status, numbers derived from the bands, and the levels computed."""

        def per_band(unit: str, text: str) -> Variable:
            return Variable(unit, text, self.output_shape, self.output_dims, self.output_labels)

        found = super().variables
        if self.params["part"] != "step":
            found["cycles_from"] = cycles_from()
        return found | {
            "relative_energy": per_band("", "energy of a band over that of all bands"),
            "relative_detail_energy": per_band(
                "", "energy of a detail band over that of all detail bands; NaN for cA"
            ),
            "std": per_band("A", "standard deviation of a band's coefficients"),
            "mean_abs": per_band("A", "mean |c| of a band's coefficients"),
            "max_abs": per_band("A", "max |c| of a band's coefficients"),
            "entropy": Variable("", "wavelet entropy -sum p ln p, p = relative_energy"),
            "detail_entropy": Variable(
                "", "wavelet entropy of the details -sum p ln p, p = relative_detail_energy"
            ),
            "trend": Variable(
                "A/s",
                "slope of Id: least squares through the cA that no padding touches, over 2^(1.5 "
                "level) sampling intervals; NaN where those are fewer than two",
            ),
            "snr": Variable(
                "dB",
                "20 log10(std(cA) / std(cD1)), limited to the digits of dtype; 0 if both are 0",
            ),
            "noise_sigma": Variable(
                "A", "standard deviation of white noise in Id: median |cD1| / 0.6745"
            ),
            "level": Variable(
                "", "levels computed; 0: too short for any, -1: no answer", dtype="int16"
            ),
        }

    def extract_batch(self, batch: Batch, params: Mapping[str, Any]) -> Columns:
        """Compute the features of many steps, with the same bits as one by one."""
        interval, period = gate_timing(batch.values, len(batch), params)
        begins, ends = batch.offsets[:-1], batch.offsets[1:]
        failed = np.zeros(len(batch), np.int8)
        columns: Columns = {}
        if params["part"] != "step":
            begins, ends, failed, sources = phases(batch, interval, period, params)
            columns["cycles_from"] = name_sources(sources, params)
        clocks = np.zeros(len(batch), np.int8)
        recorded = batch.arrays.get("original_time", np.full(int(batch.offsets[-1]), np.nan))
        clock.step_clocks(recorded, batch.offsets, interval, period, begins, ends, clocks)
        found = wavelet_features(
            batch.arrays["drain_current"],
            begins,
            ends,
            wavelet=params["wavelet"],
            level=params["level"],
            mode=params["mode"],
            detrend=params["detrend"],
            dtype=params["dtype"],
        )
        status = np.where(failed > 0, failed, _STATUS[found.outcome]).astype(np.int8)
        status[(status == OK) & (clocks != clock.CLOCK_OK)] = _ALL_WORDS.index("clock")
        return columns | {
            "value": found.energy,
            "status": status,
            "relative_energy": found.relative_energy,
            "relative_detail_energy": found.relative_detail_energy,
            "std": found.std,
            "mean_abs": found.mean_abs,
            "max_abs": found.max_abs,
            "entropy": found.entropy,
            "detail_entropy": found.detail_entropy,
            "trend": found.trend / np.where(interval > 0, interval, np.nan),
            "snr": found.snr,
            "noise_sigma": found.noise_sigma,
            "level": found.level.astype(np.int16),
        }


def phases(
    batch: Batch,
    interval: NDArray[np.float64],
    period: NDArray[np.float64],
    params: Mapping[str, Any],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int8], NDArray[np.int8]]:
    """Find one phase of one gate cycle in every step.

    The off phase is the one that follows the on phase of the same cycle.

    Parameters
    ----------
    batch
        Steps with ``drain_current``, and ``original_time``, ``Vg``, ``gate_period``,
        ``duty_cycle`` if they are known.
    interval, period
        Sampling intervals and gate periods.  Shape (n_steps,), in s.
    params
        ``part`` and ``cycle`` of :class:`DwtParams`.

    Returns
    -------
    Begin and end of the phases, equal if there is none, shape (n_steps,); the status of steps
    without a phase, else 0; and the source of the cycles.
    """
    duty_cycle = np.asarray(batch.values.get("duty_cycle", np.full(len(batch), np.nan)), np.float64)
    begins = batch.offsets[:-1].copy()
    ends = begins.copy()
    failed = np.zeros(len(batch), np.int8)
    sources = np.full(len(batch), edges.NO_CYCLES, np.int8)
    cut, no_period = _ALL_WORDS.index("cut"), _ALL_WORDS.index("no_period")
    for i in range(len(batch)):
        step = batch.step(i)
        current = np.require(step["drain_current"], np.float64, ["C", "W"])
        gate_voltage = step.get("Vg", current[:0])
        spans = phases_of_gate(current, gate_voltage, params["part"])
        sources[i] = edges.GATE
        if not len(spans):
            if not (interval[i] > 0 and period[i] > 0):
                sources[i], failed[i] = edges.NO_CYCLES, no_period
                continue
            sources[i], fitted = phases_by_fit(step, params)
            spans = phases_of_fits(fitted, params["part"])
        if sources[i] in (edges.GATE, edges.TRACE):
            known = params["cycle"] <= len(spans)
            span = spans[params["cycle"] - 1] if known else None
        else:
            recorded = np.require(step.get("original_time", current[:0]), np.float64, ["C", "W"])
            t, dt, _ = clock.step_clock(recorded, interval[i], period[i])
            span = phase(current, t, period[i] / dt, duty_cycle[i], params)
        if span is None:
            failed[i] = cut
        else:
            ends[i] = begins[i] + span[1]
            begins[i] += span[0]
    return begins, ends, failed, sources


def phases_of_fits(spans: NDArray[np.int64], part: str) -> NDArray[np.int64]:
    """Return begin and end of the on or off phases that :func:`.phases.phases_by_fit` found."""
    which = edges.ON if part == "on" else edges.OFF
    skipped = int(part == "off" and spans[0, edges.OFF, 0] < spans[0, edges.ON, 0])
    return spans[skipped:, which]


def phases_of_gate(
    current: NDArray[np.float64], gate_voltage: NDArray[np.float64], part: str
) -> NDArray[np.int64]:
    """Return begin and end of the on or off phases of a step by its recorded gate.

    An off phase at the beginning of a step follows no on phase, and is left out.  Shape
    (n_cycles, 2), or (0, 2) if the gate is no square wave.
    """
    runs = np.empty((current.size // 2 + 2, 3), np.int64)
    n = int(edges.complete_cycles(runs, edges.gate_runs(np.ascontiguousarray(gate_voltage), runs)))
    starts = np.empty(n + 1, np.int64)
    first, length = np.empty((2, n, 2), np.int64)
    if n == 0:
        return first[:, :2]
    signal = np.empty(current.size)
    gate.orient(np.ascontiguousarray(current), 0, signal)
    edges.phases_of_runs(signal, runs, n, starts, first, length)
    which = edges.ON if part == "on" else edges.OFF
    spans = np.stack([first[:, which], first[:, which] + length[:, which]], axis=1)
    skipped = int(part == "off" and first[0, edges.OFF] < first[0, edges.ON])
    return spans[skipped:]


def phase(
    current: NDArray[np.float64],
    t: NDArray[np.float64],
    samples_per_period: float,
    duty_cycle: float,
    params: Mapping[str, Any],
) -> tuple[int, int] | None:
    """Return begin and end of one phase from the period, None if the step has only a part of it.

    ``t`` is the result of :func:`.clock.step_clock`.
    """
    span = float(t[-1]) + 1.0 if t.size else float(current.size)
    n_cycles = gate.count_cycles(span, samples_per_period)
    if n_cycles == 0:
        return None
    starts = gate.cycle_starts(t, current.size, samples_per_period, n_cycles)
    signal = np.empty(current.size)
    gate.orient(current, 0, signal)
    on, on_length, off, off_length = gate.phase_offsets(signal, starts, duty_cycle)
    cycle = params["cycle"] - 1
    first, length = (on, on_length) if params["part"] == "on" else (off, off_length)
    # An off phase at the beginning of the period follows the on phase of the previous period.
    if params["part"] == "off" and off < on:
        cycle += 1
    if cycle >= n_cycles or starts[cycle] + first + length > current.size:
        return None
    return int(starts[cycle] + first), int(starts[cycle] + first + length)
