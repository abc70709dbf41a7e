"""Time that the current takes from one plateau to the next, without a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from oectflow.extractors.base import COMMON_STATUSES, ERROR, Columns, Params, Variable, register
from oectflow.extractors.kernels import crossings
from oectflow.extractors.per_phase import PerPhase
from oectflow.extractors.phases import phases_of
from oectflow.extractors.relaxation import OF_THE_RECORD
from oectflow.extractors.relaxation_params import RelaxationParams
from oectflow.extractors.tau import TAU_WORDS
from oectflow.extractors.timing import cycles_from
from oectflow.measurement import Batch

_TAU_WORDS = [*COMMON_STATUSES, *TAU_WORDS]
_WORD_OF_CODE = {
    crossings.FOUND: "ok",
    crossings.TOO_FEW: "too_few",
    crossings.NOT_FINITE: "nan",
    crossings.MARKED: "overflow",
    crossings.NO_BEGIN: "no_begin",
    crossings.NOISE: "noise",
    crossings.FAST: "fast",
    crossings.UNSETTLED: "unsettled",
    crossings.NOT_MONOTONE: "not_monotone",
    crossings.CLIPPED: "clipped",
    crossings.OUTLIER: "outlier",
}
#: Column, unit and meaning.
_COMPANIONS = {
    "value": (crossings.WAY, "s", ""),
    "stderr": (crossings.SE_WAY, "s", "standard error of the time from 10 to 90 %"),
    "to_10": (crossings.TO_10, "s", "time from the first sample of the phase to 10 % of the way"),
    "to_63": (crossings.TO_63, "s", "time from the first sample of the phase to 63.2 % of the way"),
    "to_63_stderr": (
        crossings.SE_63,
        "s",
        "standard error of to_63, with that of the switch up to a sample earlier",
    ),
    "to_90": (crossings.TO_90, "s", "time from the first sample of the phase to 90 % of the way"),
    "begin_level": (crossings.BEGIN, "A", "plateau of the phase before"),
    "end_level": (crossings.END, "A", "plateau of the phase"),
}


@register("transient.crossing_times")
class CrossingTimes(PerPhase):
    """Time from 10 to 90 % of the way between two plateaus, in every phase of the gate."""

    unit = "s"
    description = "time from 10 to 90 % of the way between two plateaus, per gate cycle and phase"
    definition = (
        "Plateaus are the means of the last quarters of a phase and of the one before. A level is "
        "crossed where a parabola is at it that is fitted by least squares to the samples between "
        "3 and 20 % of the way (for 10 %), 55 and 71 % (63.2 %), 86 and 93 % (90 %), or a line "
        "through fewer than four samples; these are found by the largest sum of what is missing "
        "to a level. Standard errors hold the noise of both plateaus, autoregressive of "
        "first order, that of the samples, and what levels that still change do"
    )
    formula = (
        r"t_{10-90} = t(0.9) - t(0.1), \quad "
        r"I_d(t(x)) = I_{begin} + x \, (I_{end} - I_{begin}); \quad "
        r"t_{10-90} = \ln 9 \; \tau \mathrm{\ of\ one\ exponential}"
    )
    reference = "IEEE Std 181-2011, Transitions, Pulses, and Related Waveforms"
    statuses: ClassVar[Mapping[str, str]] = {
        "no_begin": "no whole phase with a plateau right before, from which the current comes",
        "unsettled": "a plateau still changes by so much that the time is not known to a tenth",
        "not_monotone": "the current turns back across a level, or goes beyond a plateau by more "
        "than a tenth of the way",
        "fast": "the way takes fewer than three samples",
        "noise": "the plateaus are no different, or the standard error is more than a tenth",
        "clipped": "samples of the phase pile up where the instrument could measure no more",
        "outlier": "a sample of the plateaus or at a crossing is far from all others",
        "too_few": "fewer than 16 samples in the phase",
        "nan": "a sample in the phase is not a number",
        "overflow": "overflow marks of the instrument in the phase",
        **{word: TAU_WORDS[word] for word in OF_THE_RECORD if word != "nan"},
    }
    version = 2
    Params: ClassVar[type[Params] | None] = RelaxationParams

    @property
    def variables(self) -> dict[str, Variable]:
        """The time, its status, all three crossings and both plateaus, per cycle and phase."""
        return (
            super().variables
            | {
                name: self.per_phase(unit, text)
                for name, (_, unit, text) in _COMPANIONS.items()
                if name != "value"
            }
            | {
                "window_start": self.per_phase(
                    "s", "begin of the phase, from the step's first one"
                ),
                "cycles_from": cycles_from(),
            }
        )

    def extract_batch(self, batch: Batch, params: Mapping[str, Any]) -> Columns:
        """Find the crossings of many steps, with the same bits as one by one.

        Returns
        -------
        All :attr:`variables`, of shape (n_steps, most cycles, 2).  Shorter steps are padded with
        NaN and ``absent``.
        """
        one, steps = phases_of(batch, params)
        words = [*COMMON_STATUSES, *self.statuses]
        status_of_code = np.full(32, ERROR, np.int8)
        for code, word in _WORD_OF_CODE.items():
            status_of_code[code] = words.index(word)
        rows = np.full((*one["status"].shape, crossings.N_COLUMNS), np.nan)
        status = np.full(one["status"].shape, words.index("absent"), np.int8)
        samples = np.require(batch.arrays["drain_current"], np.float64, ["C", "W"])
        in_intervals = np.zeros(crossings.N_COLUMNS, bool)
        in_intervals[[column for column, unit, _ in _COMPANIONS.values() if unit == "s"]] = True
        even = np.arange(np.diff(batch.offsets).max(initial=0), dtype=np.float64)
        for step, part, t, interval, spans in steps:
            first, last = spans.reshape(-1, 2).T
            order = np.argsort(first, kind="stable")
            order = order[(last > first)[order]]
            current = samples[part]
            times = t if t.size else even[: current.size]
            found = np.empty((order.size, crossings.N_COLUMNS))
            codes = np.zeros(order.size, np.int8)
            crossings.cross_step(
                current, times, first[order], (last - first)[order], order % 2, found, codes
            )
            found *= np.where(in_intervals, interval, 1.0)
            rows[step].reshape(-1, crossings.N_COLUMNS)[order] = found
            status[step].reshape(-1)[order] = status_of_code[codes]
        for word in ("absent", *OF_THE_RECORD):
            status[one["status"] == _TAU_WORDS.index(word)] = words.index(word)
        known = np.isin(status, [words.index(word) for word in ("ok", "clipped", "outlier")])
        return {
            name: np.where(known, rows[..., column], np.nan)
            for name, (column, _, _) in _COMPANIONS.items()
        } | {
            "status": status,
            "window_start": one["window_start"].copy(),
            "cycles_from": one["cycles_from"].copy(),
        }
