"""Transconductance, onset voltage and largest current of transfer sweeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from oectflow.extractors.base import COMMON_STATUSES, OK, Columns, Params, Variable, register
from oectflow.extractors.branches import (
    DIRECTIONS,
    GROWTH,
    LEFT_OUT,
    NO_GROWTH,
    SLOPE,
    SPLIT,
    UNSOUND,
    WORDS,
    DeviceType,
    Direction,
    PerBranch,
    SlopeParams,
    SweepExtractor,
    branches_of,
    formula_of,
    most_current,
    status_table,
)
from oectflow.extractors.kernels import judge, merit, sweep_errors, sweeps
from oectflow.measurement import Batch

_ONSET_WORDS = WORDS | {"ambiguous": NO_GROWTH}
_STATUS_OF_CODE = status_table(
    {
        sweeps.FOUND: "ok",
        sweeps.NO_BRANCH: "absent",
        sweeps.EDGE: "edge",
        sweeps.TOO_FEW: "too_few",
        sweeps.NO_DATA: "no_data",
        sweeps.FLAT: "flat",
        sweeps.AMBIGUOUS: "ambiguous",
        sweeps.NOISY: "noisy",
    },
    [*COMMON_STATUSES, *_ONSET_WORDS],
)
_BRANCHES = f"{SPLIT} {SLOPE}"
_CARRIERS = f"{GROWTH}; smaller |Id| than 1e-12 A count as that."
_ONSETS = {"auto": sweeps.ONSET, "N": sweeps.ONSET_N, "P": sweeps.ONSET_P}
_REVIEW = "Rivnay et al. (2018), Nat. Rev. Mater. 3, 17086. doi:10.1038/natrevmats.2017.86"

#: Columns of a row that :func:`.sweeps.sweep_extremes` fills in.
_DERIVATIVE, _VG, _ID = range(3)


class SweepParams(SlopeParams):
    """Parameters of features that are read off a derivative along a branch."""

    #: Charge carriers: the onset is where |Id| rises (N) or falls (P) with Vg; "auto" decides for
    #: each branch.
    device_type: DeviceType = "auto"


class BranchParams(SweepParams):
    """Parameters of a number per branch."""

    #: Branch of the sweep.
    direction: Direction = "forward"


class CoordsParams(SweepParams):
    """Parameters of a point on a branch."""

    #: Branch of the sweep.
    direction: Literal["forward", "reverse"] = "forward"
    #: Vg alone instead of the pair.
    return_vg_only: bool = False
    #: Id alone; without effect if ``return_vg_only`` is set.
    return_id_only: bool = False


class _BranchExtreme(SweepExtractor):
    """The extreme of a derivative, along the forward and the reverse branch."""

    statuses = WORDS
    reference = _REVIEW
    #: ``sweeps.GM`` or ``sweeps.ONSET``; the device type may replace the latter.
    quantity: ClassVar[int]

    def extremes(
        self, batch: Batch, params: Mapping[str, Any], branch: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int8]]:
        """Return rows (derivative, Vg, Id), their errors, (S, 3), and statuses, (S,)."""
        quantity = self.quantity
        if quantity == sweeps.ONSET:
            quantity = _ONSETS[params["device_type"]]
        formula = formula_of(params)
        split = branches_of(batch)

        def compute() -> tuple[NDArray[Any], ...]:
            rows, errors = np.empty((2, len(batch), 3))
            codes = np.empty(len(batch), np.int8)
            sweeps.sweep_extremes(
                split.x,
                split.y,
                split.log,
                split.sigma,
                split.first,
                split.count,
                split.doubt,
                split.classes,
                branch,
                quantity,
                formula,
                rows,
                errors,
                codes,
            )
            # A slope across a gap cannot be compared with the others.
            beside = split.beside_gap(rows[:, _VG], branch)
            rows[beside] = np.nan
            errors[beside] = np.nan
            return rows, errors, np.where(beside, np.int8(OK), _STATUS_OF_CODE[codes])

        rows, errors, status = split.once((quantity, formula, branch), compute)
        return rows.copy(), errors.copy(), status.copy()


class _ExtremePerBranch(PerBranch, _BranchExtreme):
    """One number of the extreme per branch."""

    #: The column of the row that holds the value.
    column: ClassVar[int]
    Params = BranchParams

    def one_branch(
        self, batch: Batch, params: Mapping[str, Any], branch: int
    ) -> tuple[NDArray[Any], ...]:
        """Return the column of one branch."""
        rows, errors, status = self.extremes(batch, params, branch)
        return rows[:, self.column].copy(), errors[:, self.column].copy(), status


class _Coordinates(_BranchExtreme):
    """The point (Vg, Id) at which the extreme lies."""

    Params = CoordsParams
    unit = "V, A"

    @property
    def output_shape(self) -> tuple[int | str, ...]:
        """Vg and Id, or a single one of them."""
        return (2,) if len(self._wanted) == 2 else ()

    @property
    def output_dims(self) -> tuple[str, ...]:
        """The quantity, if there are two."""
        return ("quantity",) if self.output_shape else ()

    @property
    def output_labels(self) -> Mapping[str, tuple[str, ...]]:
        """The two quantities."""
        return {"quantity": self._wanted} if self.output_shape else {}

    @property
    def variables(self) -> dict[str, Variable]:
        """The value, in V and A or in the unit of the wanted quantity, and its status."""
        both = super().variables
        units = {"Vg": "V", "Id": "A"}
        both["value"] = Variable(
            ", ".join(units[name] for name in self._wanted),
            " and ".join(f"{name} ({units[name]})" for name in self._wanted)
            + f" of the {self.description}",
            self.output_shape,
            self.output_dims,
            self.output_labels,
        )
        both["stderr"] = replace(
            both["value"], description="standard errors by the noise of the sweep"
        )
        return both

    @property
    def _wanted(self) -> tuple[str, ...]:
        if self.params["return_vg_only"]:
            return ("Vg",)
        return ("Id",) if self.params["return_id_only"] else ("Vg", "Id")

    def columns(self, batch: Batch, params: Mapping[str, Any]) -> Columns:
        """Pick the wanted coordinates."""
        branch = DIRECTIONS.index(params["direction"])
        rows, errors, status = self.extremes(batch, params, branch)
        self.judged(status, branches_of(batch).verdict[:, branch], (rows, errors))
        wanted = [{"Vg": _VG, "Id": _ID}[name] for name in self._wanted]
        value, error = (np.ascontiguousarray(a[:, wanted]) for a in (rows, errors))
        if not self.output_shape:
            value, error = value[:, 0], error[:, 0]
        return {"value": value, "status": status, "stderr": error}


@register("transfer.gm_max")
class GmMax(_ExtremePerBranch):
    """Largest transconductance of a sweep direction."""

    unit = "S"
    description = "largest |gm| of the transfer curve"
    definition = f"max |dId/dVg| along one branch. {_BRANCHES}"
    formula = r"g_{m,\max} = \max_{V_g} \left| \frac{dI_d}{dV_g} \right|"
    quantity = sweeps.GM
    column = _DERIVATIVE


@register("transfer.Von")
class Von(_ExtremePerBranch):
    """Onset voltage of a sweep direction."""

    unit = "V"
    description = "onset voltage, where the current rises most steeply on a logarithmic scale"
    definition = (
        "Vg at the maximum (device_type N) or minimum (P) of d log10(max(|Id|, 1e-12 A))/dVg "
        f"along one branch. {_CARRIERS} {_BRANCHES}"
    )
    formula = (
        r"V_{on} = \arg \max_{V_g} \left( \pm \frac{d \log_{10} |I_d|}{dV_g} \right)"
        r"\quad (+ \ \mathrm{N}, - \ \mathrm{P})"
    )
    statuses = _ONSET_WORDS
    quantity = sweeps.ONSET
    clipped_stands = True
    column = _VG


@register("transfer.gm_max_coords")
class GmMaxCoords(_Coordinates):
    """Point of a sweep direction at which the transconductance is largest."""

    description = "point of largest |gm|"
    definition = f"(Vg, Id) at max |dId/dVg| along one branch. {_BRANCHES}"
    formula = r"(V_g, I_d) \quad \mathrm{where} \quad |dI_d / dV_g| = g_{m,\max}"
    quantity = sweeps.GM


@register("transfer.Von_coords")
class VonCoords(_Coordinates):
    """Point of a sweep direction at the onset voltage."""

    description = "point at the onset voltage"
    definition = (
        "(Vg, Id) at the maximum (device_type N) or minimum (P) of "
        f"d log10(max(|Id|, 1e-12 A))/dVg along one branch. {_CARRIERS} {_BRANCHES}"
    )
    formula = r"(V_g, I_d) \quad \mathrm{where} \quad V_g = V_{on}"
    statuses = _ONSET_WORDS
    quantity = sweeps.ONSET
    clipped_stands = True


class AbsIMaxParams(Params):
    """Parameters of :class:`AbsIMax`."""

    #: Accepted because existing configurations contain it; |Id| does not depend on it.
    device_type: DeviceType = "auto"


@register("transfer.absI_max")
class AbsIMax(SweepExtractor):
    """Largest drain current of a whole sweep."""

    unit = "A"
    description = "largest |Id| of the transfer curve"
    definition = "max |Id| over all points of the sweep with a finite Vg and Id"
    formula = r"|I|_{\max} = \max_k |I_{d,k}|"
    reference = _REVIEW
    statuses: ClassVar[Mapping[str, str]] = {
        "no_data": WORDS["no_data"],
        **LEFT_OUT,
        **{word: meaning for word, meaning in UNSOUND.items() if word != "several_loops"},
    }
    Params = AbsIMaxParams
    clipped_stands = True

    @property
    def variables(self) -> dict[str, Variable]:
        """The value, its status and its standard error."""
        error = Variable(self.unit, "standard error by the noise of the sweep")
        return super().variables | {"stderr": error}

    def columns(self, batch: Batch, params: Mapping[str, Any]) -> Columns:
        """Find the largest current of many sweeps."""
        del params
        split = branches_of(batch)
        value, error = np.full((2, len(batch)), np.nan)
        sweep_errors.largest_currents(
            batch.arrays["Vg"],
            batch.arrays["Id"],
            batch.offsets,
            split.y,
            split.sigma,
            split.first,
            split.count,
            split.verdict,
            split.doubt,
            split.classes,
            value,
            error,
        )
        words = [*COMMON_STATUSES, *self.statuses]
        status = np.where(np.isnan(value), words.index("no_data"), OK).astype(np.int8)
        # Noise in one branch does no harm if the other branch responds, because the larger current
        # is then in the other one.  The way back of several loops is as good as the first one.
        verdict = split.verdict.copy()
        verdict[verdict == judge.LOOPS] = judge.SOUND
        noise = verdict == judge.NOISE
        responds = ((split.count > 0) & ~noise).any(axis=1, keepdims=True)
        verdict[noise & responds] = judge.SOUND
        self.judged(status, verdict.max(axis=1), (value, error))
        return {"value": value, "status": status, "stderr": error}


class LeakageParams(SlopeParams):
    """Parameters of :class:`GateLeakage`."""

    #: Branch on which the largest gm is sought.
    direction: Literal["forward", "reverse"] = "forward"


@register("transfer.gate_leakage")
class GateLeakage(_BranchExtreme):
    """Largest gate current of a whole sweep, and its share of Id at the largest gm."""

    unit = "A"
    version = 1
    description = "largest |Ig| of the transfer curve"
    definition = (
        "max |Ig| over all points of the sweep with a finite Ig. share: |Ig / Id| where |gm| is "
        "largest on one branch, NaN where there is no largest gm. Nothing is known of the noise "
        f"of Ig: there is no standard error. {_BRANCHES}"
    )
    formula = (
        r"I_{\mathrm{leak}} = \max_k |I_{g,k}|, \quad "
        r"\left| \frac{I_g}{I_d} \right|_{|g_m| = g_{m,\max}}"
    )
    reference = (
        "IEEE Std 1620-2008, Test Methods for the Characterization of Organic Transistors and "
        "Materials"
    )
    statuses: ClassVar[dict[str, str]] = {
        "no_gate_current": "no gate current was recorded",
        "gate_overflow": "readings of Ig without a number, or with the instrument's mark for too "
        "much, are left out; the value is that of the others",
        "implausible": UNSOUND["implausible"].replace("|Id|", "|Id| or |Ig|"),
    }
    Params = LeakageParams
    quantity = sweeps.GM

    @property
    def variables(self) -> dict[str, Variable]:
        """The largest current, its status, and its share at the largest gm."""
        return super().variables | {"share": Variable("", "|Ig / Id| at the largest |gm|")}

    def columns(self, batch: Batch, params: Mapping[str, Any]) -> Columns:
        """Find the largest gate current of many sweeps."""
        words = [*COMMON_STATUSES, *self.statuses]
        value, share = np.full((2, len(batch)), np.nan)
        status = np.full(len(batch), words.index("no_gate_current"), np.int8)
        if "Ig" not in batch.arrays:
            return {"value": value, "status": status, "share": share}
        branch = DIRECTIONS.index(params["direction"])
        split = branches_of(batch)
        rows, errors, said = self.extremes(batch, params, branch)
        self.judged(said, split.verdict[:, branch], (rows, errors))
        left_out = np.zeros(len(batch), np.int64)
        merit.gate_currents(
            np.ascontiguousarray(batch.arrays["Ig"], np.float64),
            batch.offsets,
            split.x,
            split.y,
            split.gate,
            split.first,
            split.count,
            branch,
            rows[:, _VG].copy(),
            value,
            share,
            left_out,
        )
        known = ~np.isnan(value)
        status[known] = OK
        status[left_out > 0] = words.index("gate_overflow")
        wrong = (split.verdict == judge.IMPLAUSIBLE).any(axis=1) | (value > most_current(batch))
        status[known & wrong] = words.index("implausible")
        value[wrong] = share[wrong] = np.nan
        return {"value": value, "status": status, "share": share}
