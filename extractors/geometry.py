"""Figures of transfer sweeps, normalised by the geometry of the channel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from oectflow.extractors.base import COMMON_STATUSES, OK, Columns, Variable, register
from oectflow.extractors.branches import (
    LEFT_OUT,
    NOISY,
    SLOPE,
    SPLIT,
    UNSOUND,
    WORDS,
    DirectionParams,
    PerBranch,
    SlopeParams,
    branches_of,
    drain_voltages,
    formula_of,
    status_table,
)
from oectflow.extractors.channel import GEOMETRY_KEYS, SHEET, error_of, factor_of, no_geometry
from oectflow.extractors.kernels import mobility, sweeps
from oectflow.extractors.transfer import GmMax
from oectflow.measurement import Batch

#: Standard errors by which a device must be outside the regime of a formula.
_SURE = 1.96


@register("transfer.gm_normalized")
class GmNormalized(GmMax):
    """Largest transconductance of a sweep direction, normalised by the geometry of the channel.

    Attributes
    ----------
    powers
        Powers of the lengths by which gm is multiplied.
    """

    powers: ClassVar[Mapping[str, int]] = SHEET
    unit = "S/m"
    description = "largest |gm| of the transfer curve, times L/(W d)"
    definition = f"max |dId/dVg| along one branch, times L/(W d) of the sample. {GmMax.definition}"
    formula = (
        r"\frac{L}{W d} \max_{V_g} \left| \frac{dI_d}{dV_g} \right|"
        r"\quad \left( = \mu C^* \, |V_{th} - V_g| \ \mathrm{in\ saturation} \right)"
    )
    reference = "Rivnay et al. (2015), Sci. Adv. 1, e1400251. doi:10.1126/sciadv.1400251"
    sample_keys: ClassVar[tuple[str, ...]] = GEOMETRY_KEYS
    statuses: ClassVar[dict[str, str]] = {**GmMax.statuses, **no_geometry(SHEET)}

    @property
    def variables(self) -> dict[str, Variable]:
        """The value, its status, and its standard errors due to noise and due to the geometry."""
        found = super().variables
        value = found["value"]
        found["geometry_stderr"] = Variable(
            self.unit, error_of(self.powers), value.shape, value.dims, value.labels
        )
        return found

    def columns(self, batch: Batch, params: Mapping[str, Any]) -> Columns:
        """Compute gm of many sweeps of one device, and normalise it by the geometry."""
        found = super().columns(batch, params)
        known = np.isfinite(found["value"])
        factor, share = factor_of(batch.sample, self.powers)
        for name, variable in self.variables.items():
            if variable.unit == self.unit and name in found:
                found[name] = found[name] * factor
        found["geometry_stderr"] = np.abs(found["value"]) * share
        if np.isnan(factor):
            words = list(self.variables["status"].statuses)
            # A sweep without gm keeps its own word.
            found["status"][known] = words.index("no_geometry")
        return found


_VERTICAL = (
    "Huang et al. (2023), Nature 613, 496 (vertical devices). doi:10.1038/s41586-022-05592-2"
)


@register("transfer.gm_per_area")
class GmPerArea(GmNormalized):
    """Largest transconductance of a sweep direction, per area of the channel."""

    powers: ClassVar[Mapping[str, int]] = {"W": -1, "L": -1}
    unit = "S/m^2"
    description = "largest |gm| of the transfer curve, over W L"
    definition = f"max |dId/dVg| along one branch, over W L of the sample. {GmMax.definition}"
    formula = r"\frac{1}{W L} \max_{V_g} \left| \frac{dI_d}{dV_g} \right|"
    reference = _VERTICAL
    statuses: ClassVar[dict[str, str]] = {**GmMax.statuses, **no_geometry(powers)}


@register("transfer.gm_per_cross_section")
class GmPerCrossSection(GmNormalized):
    """Largest transconductance of a sweep direction, per cross section of the channel."""

    powers: ClassVar[Mapping[str, int]] = {"W": -1, "d": -1}
    unit = "S/m^2"
    description = "largest |gm| of the transfer curve, over W d"
    definition = f"max |dId/dVg| along one branch, over W d of the sample. {GmMax.definition}"
    formula = r"\frac{1}{W d} \max_{V_g} \left| \frac{dI_d}{dV_g} \right|"
    reference = _VERTICAL
    statuses: ClassVar[dict[str, str]] = {**GmMax.statuses, **no_geometry(powers)}


_WAYS = {
    "sqrt": mobility.BY_ROOT,
    "gm": mobility.BY_OVERDRIVE,
    "linear": mobility.BY_DRAIN,
}
_CODES = {
    sweeps.FOUND: "ok",
    sweeps.NO_BRANCH: "absent",
    sweeps.EDGE: "edge",
    sweeps.TOO_FEW: "too_few",
    sweeps.NO_DATA: "no_data",
    sweeps.FLAT: "flat",
    sweeps.NOISY: "noisy",
}


class MobilityParams(SlopeParams, DirectionParams):
    """Parameters of :class:`MobilityCapacitance`."""

    #: "sqrt": slope of sqrt(|Id|), in saturation.  "gm": largest gm over the overdrive there, in
    #: saturation.  "linear": largest gm over Vd, in the linear regime.
    method: Literal["sqrt", "gm", "linear"] = "sqrt"


@register("transfer.mobility_capacitance")
class MobilityCapacitance(PerBranch):
    """Mobility times volumetric capacitance, from one sweep direction of one device."""

    unit = "F/(m V s)"
    description = "µC*, mobility times volumetric capacitance, of one device"
    definition = (
        "sqrt: 2 L/(W d) times the square of the steepest slope of sqrt(|Id|). gm: L/(W d) times "
        "max |dId/dVg| over |Vg - Vth| there, with Vth where that steepest tangent to sqrt(|Id|) "
        "is 0. Both hold in saturation: where Vd (of the step, else of the sample) is less than "
        "the overdrive |Vg - Vth| there by 1.96 standard errors, there is no value. linear: "
        "L/(W d) times max |dId/dVg| over |Vd|, which holds where |Vd| is no more than the "
        "overdrive, by the tangent to Id less Vd/2. 1 F/(cm V s) is 100 F/(m V s). Of several "
        f"devices with an interval: of.mobility_capacitance. {SPLIT} {SLOPE}"
    )
    formula = (
        r"\mu C^* = \frac{2 L}{W d} \left( \frac{d \sqrt{|I_d|}}{dV_g} \right)^2, \quad "
        r"\frac{L}{W d} \, \frac{g_m}{|V_g - V_{th}|} \quad \mathrm{or} \quad "
        r"\frac{L}{W d} \, \frac{g_m}{|V_d|}"
    )
    reference = (
        "Inal et al. (2017), Nat. Commun. 8, 1767. doi:10.1038/s41467-017-01812-w ; linear: "
        "Bernards & Malliaras (2007), Adv. Funct. Mater. 17, 3538. doi:10.1002/adfm.200601239"
    )
    statuses: ClassVar[Mapping[str, str]] = {
        "edge": WORDS["edge"],
        "not_saturated": "sqrt, gm: |Vd| is less than |Vg - Vth| by 1.96 standard errors: the "
        "formula does not hold; no value",
        "saturated": "linear: |Vd| is more than |Vg - Vth| by 1.96 standard errors: the formula "
        "does not hold; no value",
        "Vd_unknown": "Vd is known neither of the step nor of the sample: sqrt and gm have a "
        "value, of which nobody knows whether it is one in saturation; linear has none",
        **no_geometry(SHEET),
        **NOISY,
        "flat": "the current does not change along the branch",
        "too_few": WORDS["too_few"],
        "no_data": WORDS["no_data"],
        **LEFT_OUT,
        **UNSOUND,
    }
    Params = MobilityParams
    sample_keys: ClassVar[tuple[str, ...]] = (*GEOMETRY_KEYS, "Vd")
    companions: ClassVar[Mapping[str, tuple[str, str]]] = {
        "geometry_stderr": (unit, error_of(SHEET))
    }

    def one_branch(
        self, batch: Batch, params: Mapping[str, Any], branch: int
    ) -> tuple[NDArray[Any], ...]:
        """Compute µC* of one branch."""
        rows = np.empty((len(batch), 5))
        codes = np.empty(len(batch), np.int8)
        split = branches_of(batch)
        linear, formula = params["method"] == "linear", formula_of(params)
        lines = split.tangents(branch, root=False, formula=formula)
        roots = lines if linear else split.tangents(branch, root=True, formula=formula)
        mobility.mobilities(
            split.x,
            split.y,
            split.sigma,
            split.first,
            split.count,
            split.classes,
            *roots,
            *lines,
            branch,
            _WAYS[params["method"]],
            formula,
            rows,
            codes,
        )
        value, error, place, overdrive, u_overdrive = rows.T.copy()
        words = [*COMMON_STATUSES, *self.statuses]
        status = status_table(_CODES, words)[codes]
        drain = np.abs(drain_voltages(batch))
        if linear:
            value, error = value / drain, error / drain
            # The tangent to Id is 0 at Vth + Vd / 2.
            beyond, wrong = drain - (overdrive + drain / 2), "saturated"
        else:
            beyond, wrong = overdrive - drain, "not_saturated"
        factor, share = factor_of(batch.sample, SHEET)
        value, error = value * factor, error * factor
        geometry = value * share
        beside = split.beside_gap(place, branch)
        found = np.isin(status, [OK, words.index("edge")]) & ~beside
        unknown = np.isnan(drain)
        outside = beyond > _SURE * np.nan_to_num(u_overdrive)
        status[found & unknown] = words.index("Vd_unknown")
        status[found & outside] = words.index(wrong)
        if np.isnan(factor):
            status[found] = words.index("no_geometry")
        status[beside] = OK
        none = beside | outside | np.isnan(value)
        value[none] = error[none] = geometry[none] = np.nan
        return value, error, status, geometry
