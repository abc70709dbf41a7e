"""Time constants of switching on and off, for every gate cycle of a transient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from oectflow.extractors.base import (
    COMMON_STATUSES,
    ERROR,
    NO_PERIOD,
    Columns,
    Params,
    Variable,
    register,
)
from oectflow.extractors.chosen_windows import CHOSEN_WINDOWS, chosen_windows
from oectflow.extractors.evolution import evolve_window
from oectflow.extractors.fit_words import FIT_WORDS
from oectflow.extractors.kernels import endings, exponential, gate, transitions
from oectflow.extractors.per_phase import PerPhase
from oectflow.extractors.timing import CLOCK_WORD, cycles_from, gate_timing, name_sources
from oectflow.measurement import Batch

TAU_WORDS = {
    "low_r2": "an exponential was fitted, but R2 is below the threshold",
    "not_exponential": "the residuals have a structure, or levels drift: one exponential does not "
    "describe them",
    "clipped": "a plateau of equal values at which the instrument could measure no more; left out",
    "overflow": "overflow marks of the instrument in the window; left out",
    "outlier": "samples far from the fit in the window; left out",
    "low_swing": "the fit holds less than min_swing of the swing of the cycle",
    **CLOCK_WORD,
    "no_response": "the current does not go both ways as the gate is switched",
    "flat": "the current is constant in the window",
    "straight": "no curvature: tau is longer than 100 windows, or not known to a half",
    "step": "no relaxation: tau is shorter than a quarter of a sample, or noise hides the second",
    "opposite": "the current moves the other way in the window",
    "noise": "an exponential explains the window no better than chance",
    "nan": "a sample in the window is not a number",
    "too_few": "fewer than four samples in the window",
    "cut": "the window reaches beyond the end of the step",
    "no_window": "no window was found or given",
    **NO_PERIOD,
}
_ALL_WORDS = [*COMMON_STATUSES, *TAU_WORDS]
# An unknown code must not become "ok".
_STATUS_OF_CODE = np.full(32, ERROR, np.int8)
for _code, _word in {
    **FIT_WORDS,
    endings.LOW_R2: "low_r2",
    endings.NO_WINDOW: "no_window",
    endings.CUT: "cut",
    endings.ABSENT: "absent",
    endings.NO_PERIOD: "no_period",
    endings.NO_RESPONSE: "no_response",
    endings.NOT_EXPONENTIAL: "not_exponential",
    endings.CUT_OFF: "clipped",
    endings.OVERFLOW_LEFT_OUT: "overflow",
    endings.OUTLIER_LEFT_OUT: "outlier",
    endings.LOW_SWING: "low_swing",
    endings.WRONG_CLOCK: "clock",
}.items():
    _STATUS_OF_CODE[_code] = _ALL_WORDS.index(_word)

#: Share of the swing of a cycle that a fit must hold, unless somebody asks for another one.
MIN_SWING = 0.1

Window = tuple[float, float]


class TauParams(Params):
    """Parameters of :class:`TauOnOff`; lengths in samples, times in s."""

    #: Gate period in s; None takes the period of the step.
    period: float | None = Field(None, gt=0)
    #: Samples per second; None takes the rate of the step.
    sample_rate: float | None = Field(None, gt=0)
    #: How windows are found.  "exhaustive": all windows are tried in every step.  "cached": the
    #: windows of the previous step are used while they hold.  "smart": differential evolution tries
    #: some windows.  "fixed": ``window_on`` and ``window_off`` are used.
    search: Literal["exhaustive", "cached", "smart", "fixed"] = "exhaustive"
    #: The window of a phase: the whole phase; the share ``fraction`` of it; or the window with the
    #: best adjusted R2, as in autotau.  None is "full_phase", or "best_r2" with the searches
    #: "cached" and "smart".
    window: Literal["full_phase", "fraction", "best_r2"] | None = None
    #: Begin and end of ``window="fraction"``, as shares of the phase.
    fraction: tuple[float, float] = (0.1, 0.9)
    #: Shortest window of the search, as a share of the period.
    window_scalar_min: float = Field(0.2, gt=0, le=1)
    #: Longest window of the search, as a share of the period.
    window_scalar_max: float = Field(1 / 3, gt=0, le=1)
    #: Samples between neighbouring lengths of the search.
    window_points_step: int = Field(1, ge=1)
    #: Samples between neighbouring starts of the search.
    window_start_idx_step: int = Field(1, ge=1)
    #: Share of the swing that the fitted curve must cover within a window; 0 as in autotau.
    min_swing: float = Field(MIN_SWING, ge=0, lt=1)
    #: "cached": adjusted R2 that both windows must reach in one of the first two cycles of a step;
    #: otherwise the step is searched.
    validation_threshold: float = Field(0.95, ge=0, le=1)
    #: "cached": number of steps after which a search takes place in any case.
    revalidation_interval: int = Field(500, ge=1)
    #: "smart": largest number of generations of ``scipy.optimize.differential_evolution``.
    maxiter: int = Field(50, ge=1)
    #: "smart": members of the population per unknown.
    popsize: int = Field(15, ge=1)
    #: "smart": absolute tolerance.
    atol: float = Field(0.01, ge=0)
    #: "smart": relative tolerance.
    tol: float = Field(0.001, ge=0)
    #: "smart": seed of the random numbers; the same seed finds the same windows.
    seed: int = Field(0, ge=0)
    #: "fixed": offset (from the begin of the period) and duration of the on window, in s.
    window_on: Window | None = None
    #: "fixed": the same for the off window.
    window_off: Window | None = None
    #: A cycle with a smaller R2 is searched again on its own, and is marked if this does not help.
    r_squared_threshold: float = Field(0.95, ge=0, le=1)
    #: "auto": on is where |Id| rises; "positive": where Id rises; "negative": where Id falls.
    polarity: Literal["auto", "positive", "negative"] = "auto"
    #: Fit only this many cycles, from the first one on; None fits all.
    max_cycles: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _consistent(self) -> TauParams:
        if self.search == "fixed" and self.window_on is None and self.window_off is None:
            raise ValueError("search='fixed' needs window_on or window_off, (offset_s, duration_s)")
        if self.search in ("cached", "smart") and self.window not in (None, "best_r2"):
            raise ValueError(
                f"search={self.search!r} looks for window='best_r2', not for {self.window!r}"
            )
        if self.window_scalar_min > self.window_scalar_max:
            raise ValueError("window_scalar_min exceeds window_scalar_max")
        if not 0 <= self.fraction[0] < self.fraction[1] <= 1:
            raise ValueError("fraction must be (begin, end) with 0 <= begin < end <= 1")
        return self


@register("transient.tau_on_off")
class TauOnOff(PerPhase):
    """Time constants of switching on and off, for every gate cycle."""

    unit = "s"
    description = "time constants of switching on and off, per gate cycle"
    definition = (
        "on: Id = offset + amplitude (1 - exp(-t/tau)), off: Id = offset + amplitude exp(-t/tau), "
        "t from the window's first sample; least squares on the raw samples of one window per "
        "phase; window with the largest adjusted R2 (p = 3) of the first two periods"
    )
    formula = (
        r"\mathrm{on:} \; I_d = C + A (1 - e^{-t / \tau}), \quad "
        r"\mathrm{off:} \; I_d = C + A e^{-t / \tau}; \quad "
        r"(A, \tau, C) = \arg \min \sum_k (I_{d,k} - I_d(t_k))^2"
    )
    reference = "Golub & Pereyra (1973), SIAM J. Numer. Anal. 10, 413. doi:10.1137/0710036"
    statuses = TAU_WORDS
    version = 5
    sample_keys = (CHOSEN_WINDOWS,)
    Params = TauParams

    @property
    def variables(self) -> dict[str, Variable]:
        """tau, its status, and the numbers to judge it by; all per cycle and phase."""
        of = self.per_phase
        return super().variables | {
            "r_squared": of("", "R2 on the raw samples"),
            "r_squared_adj": of("", "adjusted R2 with 3 parameters"),
            "stderr": of("s", "standard error of tau", "float32"),
            "amplitude": of(
                "A", "amplitude of the exponential; negative for a negative current", "float32"
            ),
            "offset": of("A", "Id at t = 0 (on) or as t goes to infinity (off)", "float32"),
            "swing_fraction": of(
                "", "absolute amplitude over the range of Id in the cycle", "float32"
            ),
            "window_start": of("s", "begin of the window, from the step's first sample"),
            "window_duration": of("s", "samples in the window times interval", "float32"),
            "gate_level": of(
                "", "1 while the recorded gate is high, 0 while it is low; NaN unknown", "float32"
            ),
            "cycles_from": cycles_from(),
        }

    def steps_per_block(self, params: Mapping[str, Any]) -> int:
        """With ``search="cached"`` a window is kept for ``revalidation_interval`` steps."""
        return int(params["revalidation_interval"]) if params["search"] == "cached" else 1

    def extract_batch(self, batch: Batch, params: Mapping[str, Any]) -> Columns:
        """Fit all cycles of many steps, with the same bits as one by one.

        With ``search="cached"``, a step depends on the steps before it in its block, see
        :meth:`steps_per_block`.  A single step counts as the first of its block.

        Returns
        -------
        All :attr:`variables`, of shape (n_steps, most cycles, 2).  Shorter steps are padded with
        NaN and ``absent``.

        Raises
        ------
        ValueError
            The batch begins in the middle of a block, so the earlier windows are unknown.
        """
        if batch.memo is not None and _choice(params) == transitions.FULL_PHASE:
            return self._share(batch, params)
        return self._fit(batch, params)[0]

    def _share(self, batch: Batch, params: Mapping[str, Any]) -> Columns:
        """Fit whole phases once for all features of a task that ask for the same; to be read only.

        They ask for different swings.  The largest is tried first: mostly it decides nothing.
        """
        swing = params["min_swing"]
        largest = max(swing, MIN_SWING)
        same = {**params, "window": params["window"] or "full_phase", "min_swing": largest}

        def fit() -> tuple[Columns, bool]:
            columns, decides = self._fit(batch, same)
            for values in columns.values():
                values.flags.writeable = False
            return columns, decides

        name = (TauOnOff, repr(sorted(same.items())))
        columns, decides = batch.once(name, decide_phases(batch), fit)
        return columns.copy() if swing == largest or not decides else self._fit(batch, params)[0]

    def _fit(self, batch: Batch, params: Mapping[str, Any]) -> tuple[Columns, bool]:
        """Return the variables, and whether ``min_swing`` has decided about anything."""
        block = self.steps_per_block(params)
        if batch.first_step % block:
            raise ValueError(
                f"{self.name}: the batch begins at step {batch.first_step}; with search='cached' "
                f"it must begin at a multiple of revalidation_interval={block}"
            )
        unknown = np.full(len(batch), np.nan)
        interval, period = gate_timing(batch.values, len(batch), params)
        duty_cycle = np.asarray(batch.values.get("duty_cycle", unknown), np.float64)
        offsets = _own(batch.offsets)
        current = _own(batch.arrays["drain_current"])
        recorded = _own(batch.arrays.get("original_time", np.full(current.size, np.nan)))
        gate_voltage = _own(batch.arrays.get("Vg", np.empty(0)))
        most = params["max_cycles"] or np.iinfo(np.int64).max
        room = transitions.room_for_cycles(recorded, gate_voltage, offsets, interval, period)
        shape = (len(batch), min(room, most), 2)
        rows = np.empty((exponential.N_COLUMNS, *shape))
        codes = np.empty(shape, np.int8)
        times = np.empty((2, *shape))
        swings = np.empty(shape[:2])
        polarities = np.ones(len(batch), np.int64)
        n_cycles = np.zeros(len(batch), np.int64)
        sources = np.zeros(len(batch), np.int8)
        levels = np.empty(shape)
        polarity = {"auto": 0, "positive": 1, "negative": -1}[params["polarity"]]
        windows = np.zeros((len(batch), 2, 2))
        windows[:] = [params["window_on"] or (0.0, 0.0), params["window_off"] or (0.0, 0.0)]
        if params["search"] == "smart":
            for i in np.flatnonzero(period / interval >= 4):
                step = slice(offsets[i], offsets[i + 1])
                windows[i] = _evolve(
                    current[step], recorded[step], interval[i], period[i], polarity, params
                )
        decides = transitions.fit_steps(
            current,
            recorded,
            gate_voltage,
            offsets,
            interval,
            period,
            duty_cycle,
            most,
            polarity,
            _choice(params),
            params["fraction"] if params["window"] == "fraction" else (0.0, 1.0),
            windows,
            chosen_windows(batch.sample, batch.first_step, len(batch)),
            params["window_points_step"],
            params["window_start_idx_step"],
            (params["window_scalar_min"], params["window_scalar_max"]),
            params["min_swing"],
            params["r_squared_threshold"],
            params["validation_threshold"],
            block,
            rows,
            codes,
            times,
            swings,
            polarities,
            n_cycles,
            sources,
            levels,
        )
        used = max(1, int(n_cycles.max(initial=0)))
        columns = _columns(
            rows[:, :, :used],
            codes[:, :used],
            times[:, :, :used],
            swings[:, :used],
            polarities,
            levels[:, :used],
        )
        return columns | {"cycles_from": name_sources(sources, params)}, decides


def decide_phases(batch: Batch) -> tuple[Any, ...]:
    """Return all that the phases of a batch are found by, beside parameters.

    As :meth:`.Batch.once` takes it.
    """
    return (
        batch.offsets,
        *(batch.arrays.get(name) for name in ("drain_current", "original_time", "Vg")),
        *(batch.values.get(name) for name in ("sampling_interval", "gate_period", "duty_cycle")),
        batch.sample.get(CHOSEN_WINDOWS),
    )


def _choice(params: Mapping[str, Any]) -> int:
    if params["search"] == "exhaustive" and params["window"] != "best_r2":
        return transitions.FULL_PHASE
    return {
        "exhaustive": transitions.SEARCH,
        "cached": transitions.KEEP,
        "smart": transitions.FOUND,
        "fixed": transitions.FIXED,
    }[params["search"]]


def _evolve(
    current: NDArray[np.float64],
    recorded: NDArray[np.float64],
    interval: float,
    period: float,
    polarity: int,
    params: Mapping[str, Any],
) -> list[tuple[int, int]]:
    """Return offset and length, in samples, of the on and the off window of one step."""
    signal = np.empty(current.size)
    gate.orient(current, polarity, signal)
    clock = gate.recorded_clock(recorded, interval)
    m = period / interval
    starts = gate.cycle_starts(
        clock, signal.size, m, min(2, int(gate.count_cycles(signal.size, m)))
    )
    signal = signal[: starts[-1]]
    lengths = transitions.window_lengths(
        m, params["window_scalar_min"], params["window_scalar_max"], params["window_points_step"]
    )
    options = {name: params[name] for name in ("maxiter", "popsize", "atol", "tol", "seed")}
    found = []
    for process in (exponential.RISE, exponential.DECAY):
        start, length = evolve_window(
            signal,
            clock,
            process,
            lengths,
            params["window_start_idx_step"],
            params["min_swing"] * gate.swing(signal),
            **options,
        )
        cycle = max(0, int(np.searchsorted(starts[:-1], start, "right")) - 1)
        found.append((start - int(starts[cycle]), length))
    return found


def _columns(
    rows: NDArray[np.float64],
    codes: NDArray[np.int8],
    times: NDArray[np.float64],
    swings: NDArray[np.float64],
    polarities: NDArray[np.int64],
    levels: NDArray[np.float64],
) -> Columns:
    """Turn the results of the kernel into the declared variables."""
    status = _STATUS_OF_CODE[codes]
    # A fit that is no better than chance has no value, but its other numbers show how bad it is.
    fitted = (codes == exponential.FIT_OK) | (codes >= endings.LOW_R2)
    tau, amplitude, offset, stderr = (
        np.where(fitted, rows[column], np.nan)
        for column in (
            exponential.TAU,
            exponential.AMPLITUDE,
            exponential.OFFSET,
            exponential.SE_TAU,
        )
    )
    spanned = times[1] > 0
    sign = polarities[:, None, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = amplitude / swings[..., None]
    return {
        "value": tau,
        "status": status,
        "r_squared": rows[exponential.R2],
        "r_squared_adj": rows[exponential.R2_ADJUSTED],
        "stderr": _float32(stderr),
        "amplitude": _float32(amplitude * sign),
        "offset": _float32(offset * sign),
        "swing_fraction": _float32(share),
        "window_start": np.where(spanned, times[0], np.nan),
        "window_duration": _float32(np.where(spanned, times[1], np.nan)),
        "gate_level": _float32(levels),
    }


def _own(array: NDArray[Any]) -> NDArray[Any]:
    # Arrays from a scheduler may be read-only, and numba would compile again for them.
    return np.require(array, requirements=["C", "W"])


def _float32(values: NDArray[np.float64]) -> NDArray[np.float32]:
    # A standard error may be infinite in float32 if the fit does not determine tau.
    with np.errstate(over="ignore"):
        return values.astype(np.float32)
