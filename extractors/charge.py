"""Charge that flows into the gate in every phase, and the capacitance derived from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from oectflow.extractors.base import COMMON_STATUSES, ERROR, Columns, Params, Variable, register
from oectflow.extractors.channel import GEOMETRY_KEYS, PER_VOLUME, error_of, factor_of
from oectflow.extractors.kernels import charge
from oectflow.extractors.per_phase import PerPhase
from oectflow.extractors.phases import phases_of
from oectflow.extractors.relaxation import OF_THE_RECORD
from oectflow.extractors.relaxation_params import RelaxationParams
from oectflow.extractors.tau import TAU_WORDS
from oectflow.measurement import Batch

_TAU_WORDS = [*COMMON_STATUSES, *TAU_WORDS]
_WORD_OF_CODE = {
    charge.FOUND: "ok",
    charge.TOO_FEW: "too_few",
    charge.NOT_FINITE: "nan",
    charge.MARKED: "overflow",
    charge.FAST: "fast",
    charge.UNSETTLED: "unsettled",
}
_WORDS = {
    "no_gate_current": "the step has no gate current",
    "fast": "more than half of the charge flows in one sample: the current is not resolved",
    "unsettled": "the gate current still changes at the end of the phase, and a leakage that does "
    "so is more than a tenth of the charge beyond it",
    "too_few": "fewer than 16 samples in the phase",
    "nan": "a sample of the gate current is not a number",
    "overflow": "overflow marks of the instrument in the gate current",
    **{word: TAU_WORDS[word] for word in OF_THE_RECORD if word not in ("nan", "no_response")},
}
_INTEGRAL = (
    "Ig is integrated by trapezoids over the recorded times, from the last sample before the "
    "switch to the last one of the phase. The leakage is the mean of its last quarter. "
    "Standard errors hold noise of Ig that is autoregressive of first order, as it is at the ends "
    "of the phases"
)


class _GateCurrent(PerPhase):
    """A number per phase that is derived from the gate current."""

    reference = "Rivnay et al. (2015), Sci. Adv. 1, e1400251. doi:10.1126/sciadv.1400251"
    Params: ClassVar[type[Params] | None] = RelaxationParams
    statuses: ClassVar[Mapping[str, str]] = _WORDS

    @property
    def arrays(self) -> tuple[str, ...]:
        """Gate current and voltage; times and drain current, to find the phases."""
        return ("original_time", "drain_current", "Vg", "Ig")

    def integrals(
        self, batch: Batch, params: Mapping[str, Any]
    ) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
        """Integrate the gate current of many steps.

        Returns
        -------
        Columns of :mod:`.kernels.charge` in C, A and V, shape (n_steps, most cycles, 2, 6); and the
        status.
        """
        one, steps = phases_of(batch, params)
        words = [*COMMON_STATUSES, *self.statuses]
        status_of_code = np.full(32, ERROR, np.int8)
        for code, word in _WORD_OF_CODE.items():
            status_of_code[code] = words.index(word)
        shape = one["status"].shape
        rows = np.full((*shape, charge.N_COLUMNS), np.nan)
        status = np.full(shape, words.index("absent"), np.int8)
        silent = np.full(len(batch), True)
        for step, part, t, interval, spans in steps:
            current = np.array(batch.arrays.get("Ig", ())[part], np.float64)
            silent[step] = not np.isfinite(current).any()
            if silent[step]:
                continue
            first, last = spans.reshape(-1, 2).T
            order = np.argsort(first, kind="stable")
            order = order[(last > first)[order]]
            times = t if t.size else np.arange(current.size, dtype=np.float64)
            voltage = np.array(batch.arrays.get("Vg", ())[part], np.float64)
            found = np.empty((order.size, charge.N_COLUMNS))
            codes = np.zeros(order.size, np.int8)
            charge.charge_step(
                current, times, voltage, first[order], (last - first)[order], order % 2,
                found, codes,
            )  # fmt: skip
            found[:, : charge.LEAKAGE] *= interval
            rows[step].reshape(-1, charge.N_COLUMNS)[order] = found
            status[step].reshape(-1)[order] = status_of_code[codes]
        status[silent] = words.index("no_gate_current")
        for word in ("absent", *OF_THE_RECORD):
            if word in words and word != "nan":
                status[one["status"] == _TAU_WORDS.index(word)] = words.index(word)
        rows[~np.isin(status, (0, words.index("unsettled")))] = np.nan
        return rows, status


@register("transient.gate_charge")
class GateCharge(_GateCurrent):
    """Charge that flows into the gate in every phase."""

    unit = "C"
    description = "charge that flows into the gate, per gate cycle and phase"
    definition = f"{_INTEGRAL}. The value holds the leakage; 'switched' is the charge beyond it"
    formula = r"Q = \int I_g \, dt, \quad Q_{switched} = \int (I_g - I_{leak}) \, dt"
    version = 2

    @property
    def variables(self) -> dict[str, Variable]:
        """The charge, its status, the charge beyond the leakage, and the leakage."""
        return super().variables | {
            "stderr": self.per_phase("C", "standard error of the charge"),
            "switched": self.per_phase("C", "charge beyond the leakage"),
            "switched_stderr": self.per_phase("C", "standard error of the charge beyond it"),
            "leakage": self.per_phase("A", "mean of Ig over the last quarter of the phase"),
        }

    def extract_batch(self, batch: Batch, params: Mapping[str, Any]) -> Columns:
        """Integrate over all phases of many steps, with the same bits as one by one.

        Returns
        -------
        All :attr:`variables`, of shape (n_steps, most cycles, 2).  Shorter steps are padded with
        NaN and ``absent``.
        """
        rows, status = self.integrals(batch, params)
        return {
            "value": rows[..., charge.CHARGE],
            "status": status,
            "stderr": rows[..., charge.SE_CHARGE],
            "switched": rows[..., charge.SWITCHED],
            "switched_stderr": rows[..., charge.SE_SWITCHED],
            "leakage": rows[..., charge.LEAKAGE],
        }


@register("transient.gate_capacitance")
class GateCapacitance(_GateCurrent):
    """Capacitance of the gate in every phase, from the charge beyond the leakage."""

    unit = "F"
    description = "capacitance of the gate by its charge, per gate cycle and phase"
    definition = (
        f"{_INTEGRAL}; the charge beyond it counts. The change of the gate voltage is that of the "
        "median of the recorded Vg from the phase before to this one; where Vg is not recorded, it "
        "is Vg_high - Vg_low of the step, and the capacitance has no sign"
    )
    formula = r"C = \frac{1}{\Delta V_g} \int (I_g - I_{leak}) \, dt, \quad C^* = \frac{C}{W L d}"
    statuses: ClassVar[Mapping[str, str]] = {
        **_WORDS,
        "no_gate": "neither the phase before has a recorded Vg, nor are Vg_low and Vg_high known",
    }
    sample_keys: ClassVar[tuple[str, ...]] = GEOMETRY_KEYS
    version = 2

    @property
    def variables(self) -> dict[str, Variable]:
        """The capacitance, its status, the volumetric capacitance, and standard errors."""
        return super().variables | {
            "stderr": self.per_phase("F", "standard error of the capacitance"),
            "volumetric": self.per_phase("F/m^3", "by W L d of the sample; NaN without them"),
            "volumetric_stderr": self.per_phase("F/m^3", "its standard error by noise"),
            "geometry_stderr": self.per_phase("F/m^3", f"its {error_of(PER_VOLUME)}"),
            "gate_step": self.per_phase("V", "change of the gate voltage; NaN if not recorded"),
        }

    def extract_batch(self, batch: Batch, params: Mapping[str, Any]) -> Columns:
        """Compute the capacitance in all phases of many steps, with the same bits as one by one.

        Returns
        -------
        All :attr:`variables`, of shape (n_steps, most cycles, 2).  Shorter steps are padded with
        NaN and ``absent``.
        """
        rows, status = self.integrals(batch, params)
        words = [*COMMON_STATUSES, *self.statuses]
        unknown = np.full(len(batch), np.nan)
        low, high = (batch.values.get(name, unknown) for name in ("Vg_low", "Vg_high"))
        declared = np.abs(np.asarray(high, np.float64) - low)[:, None, None]
        recorded = rows[..., charge.GATE_STEP]
        switched = rows[..., charge.SWITCHED]
        with np.errstate(all="ignore"):
            value = np.where(np.isnan(recorded), np.abs(switched) / declared, switched / recorded)
            stderr = rows[..., charge.SE_SWITCHED] / np.abs(
                np.where(np.isnan(recorded), declared, recorded)
            )
        known = np.isfinite(value) & np.isfinite(stderr)
        status[np.isin(status, (0, words.index("unsettled"))) & ~known] = words.index("no_gate")
        per_volume, share = factor_of(batch.sample, PER_VOLUME)
        volumetric = np.where(known, value, np.nan) * per_volume
        return {
            "value": np.where(known, value, np.nan),
            "status": status,
            "stderr": np.where(known, stderr, np.nan),
            "volumetric": volumetric,
            "volumetric_stderr": np.where(known, stderr, np.nan) * per_volume,
            "geometry_stderr": np.abs(volumetric) * share,
            "gate_step": recorded,
        }
