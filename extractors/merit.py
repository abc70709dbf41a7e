"""Figures of merit of transfer sweeps: on/off ratio, subthreshold swing, hysteresis."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from oectflow.extractors.base import COMMON_STATUSES, OK, Columns, Params, Variable, register
from oectflow.extractors.branches import (
    GROWTH,
    LEFT_OUT,
    NO_GROWTH,
    NOISY,
    SPLIT,
    UNSOUND,
    WORDS,
    DeviceType,
    DirectionParams,
    PerBranch,
    SweepExtractor,
    branches_of,
    status_table,
)
from oectflow.extractors.kernels import merit, sweep_errors, sweeps
from oectflow.measurement import Batch

_FEW = {"too_few": WORDS["too_few"], "no_data": WORDS["no_data"]}
_FLAT = {"flat": "the current does not change along the branch"}
_STANDARD = (
    "IEEE Std 1620-2008, Test Methods for the Characterization of Organic Transistors and Materials"
)
#: The word for every code of a kernel.
_CODES = {
    sweeps.FOUND: "ok",
    sweeps.NO_BRANCH: "absent",
    sweeps.EDGE: "edge",
    sweeps.TOO_FEW: "too_few",
    sweeps.NO_DATA: "no_data",
    sweeps.FLAT: "flat",
    merit.ZERO: "zero",
    merit.FLOOR: "floor",
    merit.SIGN: "sign",
    merit.NARROW: "narrow",
    merit.NO_LEVEL: "no_level",
    sweeps.AMBIGUOUS: "ambiguous",
    sweeps.NOISY: "noisy",
}
_JUDGED = {**LEFT_OUT, **UNSOUND}
_GATE_CURRENT = (
    "the smallest |Id| is no more than the |Ig| recorded with it: it is leakage of the gate"
)
#: Boltzmann's constant over the elementary charge, V/K.
_K_OVER_Q = 8.617333262e-5


class _Merit(SweepExtractor):
    """A figure of merit, with its status words."""

    def to_status(self, codes: NDArray[np.int8]) -> NDArray[np.int8]:
        """Return the status codes for the codes of a kernel."""
        words = [*COMMON_STATUSES, *self.statuses]
        known = {code: word for code, word in _CODES.items() if word in words}
        return status_table(known, words)[codes]


class _MeritPerBranch(PerBranch, _Merit):
    """A figure of merit per branch."""

    def kernel_options(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return which figure the kernel computes, and how."""
        raise NotImplementedError

    def one_branch(
        self, batch: Batch, params: Mapping[str, Any], branch: int
    ) -> tuple[NDArray[Any], ...]:
        """Compute the figure of one branch."""
        options = {"decades": 0.0, "floor": 0.0} | self.kernel_options(params)
        rows = np.empty((len(batch), 3))
        codes = np.empty(len(batch), np.int8)
        split = branches_of(batch)
        merit.branch_figures(
            split.x,
            split.y,
            split.log,
            split.sigma,
            split.first,
            split.count,
            split.classes,
            branch,
            options["figure"],
            options["decades"],
            options["floor"],
            rows,
            codes,
        )
        value, error, smallest = rows.T.copy()
        status = self.to_status(codes)
        words = [*COMMON_STATUSES, *self.statuses]
        if "gate_current" in words and split.gate.size:
            leaks = np.empty(len(batch), np.bool_)
            merit.leakage(split.y, split.gate, split.first, split.count, branch, smallest, leaks)
            status[leaks & (status == OK)] = words.index("gate_current")
        return value, error, status


class OnOffParams(DirectionParams):
    """Parameters of :class:`OnOffRatio`."""

    #: Smallest |Id| that the instrument can tell from 0, in A; a smaller |Id| is replaced by it.
    current_floor: float = Field(0.0, ge=0, allow_inf_nan=False)


@register("transfer.on_off_ratio")
class OnOffRatio(_MeritPerBranch):
    """Largest over smallest drain current of a sweep direction."""

    unit = ""
    description = "largest over smallest |Id| of the transfer curve"
    definition = (
        f"max |Id| / max(min |Id|, current_floor) along one branch. {SPLIT} Where Id changes its "
        "sign the smallest magnitude is chance: give the instrument's resolution as current_floor"
    )
    formula = r"\frac{I_{on}}{I_{off}} = \frac{\max_k |I_{d,k}|}{\min_k |I_{d,k}|}"
    reference = _STANDARD
    statuses: ClassVar[Mapping[str, str]] = {
        "zero": "the smallest |Id| is 0, so the ratio has no bound: give current_floor",
        "floor": "the smallest |Id| is below current_floor: the ratio is a lower bound",
        "sign": "Id changes its sign along the branch: the smallest |Id| is noise or leakage",
        "noisy": "the smallest |Id| is no more than noise may come to, or an offset that is not "
        "excluded: the ratio is chance",
        "gate_current": _GATE_CURRENT,
        **_FLAT,
        **_FEW,
        **_JUDGED,
    }
    Params = OnOffParams
    clipped_stands = True

    def kernel_options(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the floor."""
        return {"figure": merit.ON_OFF, "floor": params["current_floor"]}


class SwingParams(DirectionParams):
    """Parameters of :class:`SubthresholdSwing`."""

    #: "N": where |Id| rises with Vg.  "P": where it falls.  "auto": decided for each branch.
    device_type: DeviceType = "auto"
    #: Decades of |Id| over which the slope is fitted; 0 fits three neighbouring points.
    decades: float = Field(1.0, ge=0, le=20)
    #: Points with a smaller |Id|, in A, are left out.
    current_floor: float = Field(sweep_errors.CURRENT_FLOOR, gt=0, allow_inf_nan=False)
    #: Temperature in K, which sets a lower bound to the swing; None takes the temperature of the
    #: sample, or 300 K.
    temperature: float | None = Field(None, gt=0, allow_inf_nan=False)


@register("transfer.subthreshold_swing")
class SubthresholdSwing(_MeritPerBranch):
    """Smallest gate voltage that changes the drain current tenfold."""

    unit = "V/decade"
    description = "subthreshold swing, the least Vg per decade of Id"
    definition = (
        "1 / max of the slope of log10 |Id| against Vg (against -Vg for device_type P), by least "
        f"squares over each run of neighbouring points along one branch. {GROWTH}; "
        "smaller |Id| than current_floor count as it. A run "
        "is the shortest one of three points or more from its first point to one whose |Id| "
        "differs by the given decades or more; its points have one sign and at least "
        f"current_floor. {SPLIT}"
    )
    formula = (
        r"S = \left( \max_{\mathrm{runs}} \frac{d \log_{10} |I_d|}{dV_g} \right)^{-1} = "
        r"\min \left( \ln 10 \ \frac{dV_g}{d \ln |I_d|} \right)"
    )
    reference = (
        "Schroder (2006), Semiconductor Material and Device Characterization, 3rd ed., Wiley. "
        "doi:10.1002/0471749095"
    )
    statuses: ClassVar[Mapping[str, str]] = {
        "edge": "the steepest run touches an end of the branch: it may go on beyond",
        "narrow": "no run of the wanted decades, above current_floor, along which |Id| grows",
        "subthermal": "less than ln(10) kT/q, which no transistor has: noise, a jump or leakage",
        "gate_current": _GATE_CURRENT,
        "ambiguous": NO_GROWTH,
        **NOISY,
        **_FEW,
        **_JUDGED,
    }
    Params = SwingParams
    sample_keys = (*_Merit.sample_keys, "temperature")
    clipped_stands = True

    def kernel_options(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the direction of the slope, and the extent of the runs."""
        figures = {"auto": merit.SWING, "N": merit.SWING_N, "P": merit.SWING_P}
        return {
            "figure": figures[params["device_type"]],
            "decades": params["decades"],
            "floor": params["current_floor"],
        }

    def one_branch(
        self, batch: Batch, params: Mapping[str, Any], branch: int
    ) -> tuple[NDArray[Any], ...]:
        """Compare the swing with that of an ideal barrier as well."""
        value, error, status = super().one_branch(batch, params, branch)
        temperature = params["temperature"] or batch.sample.get("temperature") or 300.0
        least = math.log(10.0) * _K_OVER_Q * float(temperature)
        # A swing that is below the bound by no more than its own error may be ideal.
        below = value + 2.0 * np.nan_to_num(error) < least
        words = [*COMMON_STATUSES, *self.statuses]
        worse = np.isin(status, [OK, words.index("edge"), words.index("gate_current")])
        status[below & worse] = words.index("subthermal")
        return value, error, status


#: Which branch carries more.
LOOPS = {
    "none": "both branches pass the level at the same Vg, within 1.96 standard errors",
    "absent": "there is no hysteresis, for the reason that its status names",
    "back_higher": "on the way back |Id| is larger at the same Vg",
    "back_lower": "on the way back |Id| is smaller at the same Vg",
}
#: A hysteresis differs from none by more than this many standard errors.
_TOLD = 1.96


class HysteresisParams(Params):
    """Parameters of :class:`Hysteresis`."""

    #: The current at which voltages are compared.  "half": half of the largest |Id| that both
    #: branches reach.  "geometric": the geometric mean of the largest and the smallest |Id| (other
    #: than 0) that both reach.
    level: Literal["half", "geometric"] = "half"


@register("transfer.hysteresis")
class Hysteresis(_Merit):
    """Distance of the forward from the reverse branch."""

    unit = "V"
    description = "Vg of the forward minus Vg of the reverse branch at the same |Id|"
    definition = (
        "Vg at which the forward branch passes a level of |Id|, minus Vg at which the reverse "
        "branch does. half: the level is half of the largest |Id| that both branches reach; "
        "geometric: the geometric mean of the largest and the smallest |Id| (not 0) that both "
        "reach. Between points Id (half) or log |Id| (geometric) is linear; of an odd number of "
        "crossings the middle one in Vg counts. area: integral of |Id forward| - |Id reverse| over "
        "the Vg that both have, by trapezoids. loop: which branch carries more at the level, where "
        f"the voltages differ by more than 1.96 standard errors. {SPLIT}"
    )
    formula = (
        r"\Delta V = V_{g,\mathrm{fwd}}(I^*) - V_{g,\mathrm{rev}}(I^*), \quad "
        r"A = \int (|I_{d,\mathrm{fwd}}| - |I_{d,\mathrm{rev}}|) \, dV_g"
    )
    reference = _STANDARD
    statuses: ClassVar[Mapping[str, str]] = {
        "no_level": "a branch does not pass the level of the current",
        "ambiguous": "a branch passes the level there and back: it has no one voltage",
        "flat": "the current of a branch is 0",
        **_FEW,
        **_JUDGED,
    }
    Params = HysteresisParams
    version = SweepExtractor.version + 1

    @property
    def variables(self) -> dict[str, Variable]:
        """The shift, its status, the area of the loop and the level."""
        return super().variables | {
            "area": Variable(
                "A V", "integral of |Id| of the forward minus that of the reverse branch"
            ),
            "current": Variable("A", "|Id| at which the voltages are compared"),
            "stderr": Variable("V", "standard error by the noise of the sweep"),
            "loop": Variable(
                "",
                "which branch carries more at that current's voltages",
                dtype="int8",
                statuses=LOOPS,
            ),
        }

    def columns(self, batch: Batch, params: Mapping[str, Any]) -> Columns:
        """Compare the branches of many sweeps."""
        rows = np.empty((len(batch), 6))
        codes = np.empty(len(batch), np.int8)
        scale = merit.LOGARITHMIC if params["level"] == "geometric" else sweep_errors.LINEAR
        split = branches_of(batch)
        merit.sweep_hystereses(
            split.x,
            split.y,
            split.sigma,
            split.first,
            split.count,
            split.doubt,
            split.classes,
            scale,
            rows,
            codes,
        )
        value, area, current, error = rows[:, :4].T.copy()
        status = self.to_status(codes)
        beside = split.beside_gap(rows[:, 4], 0) | split.beside_gap(rows[:, 5], 1)
        value[beside] = error[beside] = np.nan
        status[beside] = OK
        self.judged(status, split.verdict.max(axis=1), (value, area, current, error))
        # If |Id| grows with Vg, the branch with the higher Vg for the same |Id| carries less.
        first, last = split.first[:, 0], split.first[:, 0] + np.maximum(split.count[:, 0], 1) - 1
        grows = (np.abs(split.y[last]) - np.abs(split.y[first])) * (split.x[last] - split.x[first])
        back = value * grows
        told = np.abs(value) > _TOLD * np.nan_to_num(error)
        words = list(LOOPS)
        loop = np.full(len(batch), words.index("none"), np.int8)
        loop[told & (back > 0)] = words.index("back_higher")
        loop[told & (back < 0)] = words.index("back_lower")
        loop[np.isnan(value)] = words.index("absent")
        return {
            "value": value,
            "status": status,
            "area": area,
            "current": current,
            "stderr": error,
            "loop": loop,
        }
