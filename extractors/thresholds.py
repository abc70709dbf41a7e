"""Threshold voltage of transfer sweeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from oectflow.extractors.base import COMMON_STATUSES, OK, register
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
    SweepExtractor,
    branches_of,
    drain_voltages,
    formula_of,
    status_table,
)
from oectflow.extractors.kernels import merit, sweeps, thresholds
from oectflow.measurement import Batch

_METHODS = {
    "linear": thresholds.TANGENT,
    "sqrt": thresholds.ROOT_TANGENT,
    "second_derivative": thresholds.BEND,
    "Y_function": thresholds.Y_FUNCTION,
    "ratio": thresholds.RATIO,
}
#: Methods that find Vth + Vd / 2 in the linear regime.
_SHIFTED = ("linear", "Y_function", "ratio")
#: A current that grows with this power of the overdrive is halfway to saturation.
_LINEAR = 1.5
#: The second derivative needs no tangents.
_NO_LINES = np.empty((4, 0)), np.empty(0, np.int64), np.empty((0, 2))
_CODES = {
    sweeps.FOUND: "ok",
    sweeps.NO_BRANCH: "absent",
    sweeps.EDGE: "edge",
    sweeps.TOO_FEW: "too_few",
    sweeps.NO_DATA: "no_data",
    sweeps.FLAT: "flat",
    merit.NARROW: "narrow",
    sweeps.NOISY: "noisy",
}


class VthParams(SlopeParams, DirectionParams):
    """Parameters of :class:`Vth`."""

    #: "linear": tangent to Id.  "sqrt": tangent to sqrt(|Id|).  "second_derivative": where |Id|
    #: bends most.
    #: "Y_function": line through Id / sqrt(gm).  "ratio": line through Id / gm.
    method: Literal["linear", "sqrt", "second_derivative", "Y_function", "ratio"] = "linear"


@register("transfer.Vth")
class Vth(PerBranch):
    """Threshold voltage of a sweep direction, by one of five methods."""

    unit = "V"
    version = SweepExtractor.version + 2
    description = "threshold voltage: tangent to Id or to its root, bend, Y function or ratio"
    definition = (
        "linear: Vg at which the tangent to Id at max |dId/dVg| is 0. sqrt: the same with "
        "sqrt(|Id|), for saturation. second_derivative: Vg at the maximum of d2|Id|/dVg2, the top "
        "of the parabola through three of its points; of an even spacing without 'smooth' that is "
        "the second difference. Y_function: zero of the line through Id/sqrt(|gm|) by least "
        "squares, over the points around half of the largest |Id| (mean of five neighbours) that "
        "have 0.2 to 0.8 of it, the weight of which rises within 0.1 at both ends; a mobility that "
        "falls as 1/(1 + theta (Vg - Vth)) and contacts do not bend it. ratio: the same with "
        "Id/gm, which for Id = K (Vg - Vth)^n is (Vg - Vth)/n: in both regimes, and with a "
        "mobility that is a power of the overdrive. The linear law of a transistor, "
        "Id = K (Vg - Vth - Vd/2) Vd, is 0 at Vth + Vd/2: linear, Y_function and ratio take off "
        "Vd/2 (Vd_half) where Vd of the step or of the sample is "
        "known and |Vd| is no more than the overdrive of the tangent's point, or of the middle of "
        "the line, where Id grows with less than the power 1.5 of it, so that this law holds "
        f"there. {SPLIT} {SLOPE}"
    )
    formula = (
        r"V_{th} = V_g^* - \frac{y(V_g^*)}{y'(V_g^*)} - \left[ \frac{V_d}{2} \right], \quad "
        r"y = I_d, \ \sqrt{|I_d|}, \ \frac{I_d}{\sqrt{g_m}} \ \mathrm{or} \ \frac{I_d}{g_m};"
        r"\quad V_{th} = \arg \max_{V_g} \frac{d^2 |I_d|}{dV_g^2}"
    )
    reference = (
        "Ortiz-Conde et al. (2013), Microelectron. Reliab. 53, 90. "
        "doi:10.1016/j.microrel.2012.09.015 ; second derivative: Wong et al. (1987), Solid-State "
        "Electron. 30, 953. doi:10.1016/0038-1101(87)90132-8 ; Y function: Ghibaudo (1988), "
        "Electron. Lett. 24, 543. doi:10.1049/el:19880369"
    )
    statuses: ClassVar[Mapping[str, str]] = {
        "edge": WORDS["edge"],
        "narrow": "fewer than three points of 0.2 to 0.8 of the largest |Id| for a line "
        "(Y_function, ratio), or Id falls and rises among them",
        **NOISY,
        "flat": "the current does not change along the branch, or does not bend",
        "too_few": WORDS["too_few"],
        "no_data": WORDS["no_data"],
        **LEFT_OUT,
        **UNSOUND,
    }
    Params = VthParams
    sample_keys = (*SweepExtractor.sample_keys, "Vd")
    companions: ClassVar[Mapping[str, tuple[str, str]]] = {
        "Vd_half": ("V", "what was taken off: Vd/2 in the linear regime, else 0")
    }

    def to_status(self, codes: NDArray[np.int8]) -> NDArray[np.int8]:
        """Return the status codes for the codes of a kernel."""
        return status_table(_CODES, [*COMMON_STATUSES, *self.statuses])[codes]

    def one_branch(
        self, batch: Batch, params: Mapping[str, Any], branch: int
    ) -> tuple[NDArray[Any], ...]:
        """Compute the voltage of one branch."""
        rows = np.empty((len(batch), 5))
        codes = np.empty(len(batch), np.int8)
        split = branches_of(batch)
        method, formula = params["method"], formula_of(params)
        lines: tuple[NDArray[Any], ...] = _NO_LINES
        if method != "second_derivative":
            lines = split.tangents(branch, root=method == "sqrt", formula=formula)
        thresholds.thresholds(
            split.x,
            split.y,
            split.sigma,
            split.first,
            split.count,
            split.classes,
            *lines,
            branch,
            _METHODS[method],
            formula,
            rows,
            codes,
        )
        value, error, at, place, power = rows.T.copy()
        half = np.where(np.isnan(value), np.nan, 0.0)
        if method in _SHIFTED:
            drain = drain_voltages(batch)
            linear = np.abs(drain) <= np.abs(at - (value - drain / 2))
            linear &= power < _LINEAR
            half[linear] = drain[linear] / 2
            value -= half
        status = self.to_status(codes)
        beside = split.beside_gap(place, branch)
        value[beside] = error[beside] = half[beside] = np.nan
        status[beside] = OK
        return value, error, status, half
