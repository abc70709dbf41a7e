"""Transconductance, onset voltage and largest current of transfer sweeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from oectflow.extractors.base import COMMON_STATUSES, Columns, Params, Variable, register
from oectflow.extractors.branches import (
    DIRECTIONS,
    GRADIENTS,
    GROWTH,
    NO_GROWTH,
    SLOPE,
    SPLIT,
    WORDS,
    DeviceType,
    Direction,
    Gradient,
    PerBranch,
    SweepExtractor,
    status_table,
)
from oectflow.extractors.kernels import peaks, sweeps
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
    },
    [*COMMON_STATUSES, *_ONSET_WORDS],
)
_ONLY_NO_DATA = {"no_data": WORDS["no_data"]}
_BRANCHES = f"{SPLIT} {SLOPE}"
_CARRIERS = f"{GROWTH}; smaller |Id| than 1e-12 A count as that."
_ONSETS = {"auto": sweeps.ONSET, "N": sweeps.ONSET_N, "P": sweeps.ONSET_P}
_REVIEW = "Rivnay et al. (2018), Nat. Rev. Mater. 3, 17086. doi:10.1038/natrevmats.2017.86"

#: Columns of a row that :func:`.sweeps.sweep_extremes` fills.
_DERIVATIVE, _VG, _ID = range(3)


class SweepParams(Params):
    """Parameters of everything that is read off a derivative along a branch."""

    #: Charge carriers: the onset is where |Id| rises (N) or falls (P) with Vg; "auto" decides for
    #: each branch.
    device_type: DeviceType = "auto"
    #: Formula of the derivative at inner points; "auto" is the first where the spacing is even.
    gradient: Gradient = "auto"


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
    #: Id alone; without effect where ``return_vg_only`` is set.
    return_id_only: bool = False


class _BranchExtreme(SweepExtractor):
    """The extreme of a derivative, along the forward and the reverse branch."""

    statuses = WORDS
    reference = _REVIEW
    #: ``sweeps.GM`` or ``sweeps.ONSET``, of which the device type may make another.
    quantity: ClassVar[int]

    def extremes(
        self, batch: Batch, params: Mapping[str, Any]
    ) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
        """Return rows (derivative, Vg, Id), shape (S, 2, 3), and statuses, shape (S, 2)."""
        quantity = self.quantity
        if quantity == sweeps.ONSET:
            quantity = _ONSETS[params["device_type"]]
        rows = np.empty((len(batch), 2, 3))
        codes = np.empty((len(batch), 2), np.int8)
        sweeps.sweep_extremes(
            batch.arrays["Vg"],
            batch.arrays["Id"],
            batch.offsets,
            quantity,
            GRADIENTS[params["gradient"]],
            rows,
            codes,
        )
        return rows, _STATUS_OF_CODE[codes]


class _ExtremePerBranch(PerBranch, _BranchExtreme):
    """One number of the extreme per branch."""

    #: The column of the row that is the value.
    column: ClassVar[int]
    Params = BranchParams

    def both_branches(
        self, batch: Batch, params: Mapping[str, Any]
    ) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
        """Return the column of both branches."""
        rows, status = self.extremes(batch, params)
        return rows[:, :, self.column].copy(), status


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
        """The quantity, where there are two."""
        return ("quantity",) if self.output_shape else ()

    @property
    def output_labels(self) -> Mapping[str, tuple[str, ...]]:
        """The two quantities."""
        return {"quantity": self._wanted} if self.output_shape else {}

    @property
    def variables(self) -> dict[str, Variable]:
        """The value, in V and A, or in the unit of the quantity that is wanted; and its status."""
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
        return both

    @property
    def _wanted(self) -> tuple[str, ...]:
        if self.params["return_vg_only"]:
            return ("Vg",)
        return ("Id",) if self.params["return_id_only"] else ("Vg", "Id")

    def columns(self, batch: Batch, params: Mapping[str, Any]) -> Columns:
        """Pick the coordinates that are wanted."""
        rows, status = self.extremes(batch, params)
        branch = DIRECTIONS.index(params["direction"])
        point = {"Vg": rows[:, branch, _VG], "Id": rows[:, branch, _ID]}
        value = np.stack([point[name] for name in self._wanted], axis=1)
        return {
            "value": value if self.output_shape else value[:, 0],
            "status": status[:, branch].copy(),
        }


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


class AbsIMaxParams(Params):
    """Parameters of :class:`AbsIMax`."""

    #: Accepted because feature configurations give it; |Id| does not depend on it.
    device_type: DeviceType = "auto"


@register("transfer.absI_max")
class AbsIMax(SweepExtractor):
    """Largest drain current of a whole sweep."""

    unit = "A"
    description = "largest |Id| of the transfer curve"
    definition = "max |Id| over all points of the sweep with a finite Vg and Id"
    formula = r"|I|_{\max} = \max_k |I_{d,k}|"
    reference = _REVIEW
    statuses = _ONLY_NO_DATA
    Params = AbsIMaxParams

    def columns(self, batch: Batch, params: Mapping[str, Any]) -> Columns:
        """Find the largest current of many sweeps."""
        del params
        current = np.where(np.isfinite(batch.arrays["Vg"]), batch.arrays["Id"], np.nan)
        value = np.empty(len(batch))
        peaks.step_peaks(current, batch.offsets, True, value)
        no_data = [*COMMON_STATUSES, *self.statuses].index("no_data")
        return {"value": value, "status": np.where(np.isnan(value), no_data, 0).astype(np.int8)}
