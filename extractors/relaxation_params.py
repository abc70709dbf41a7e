"""Parameters of models of a phase, and what may be known of one beforehand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from oectflow.extractors.base import Params
from oectflow.extractors.kernels import downhill, mixtures

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class RelaxationParams(Params):
    """Parameters of models of a phase; times in s."""

    #: Gate period in s; None takes that of the step.
    period: float | None = Field(None, gt=0)
    #: Samples per second; None takes that of the step.
    sample_rate: float | None = Field(None, gt=0)
    #: Fit only the first cycles, at most so many; None fits all.
    max_cycles: int | None = Field(None, ge=1)


class RestrictedParams(RelaxationParams):
    """Parameters of one model of a phase, with what is known of it beforehand."""

    #: The unknowns, in the order of the fit.
    unknowns: ClassVar[tuple[str, str]]
    #: Weights of the samples: all alike; or by the noise that the plateaus on and off have in the
    #: step, which goes from one to the other as the current does.
    weights: Literal["equal", "plateaus"] = "equal"

    @model_validator(mode="after")
    def _agree(self) -> RestrictedParams:
        known = self.model_dump()
        fixed, bounds, shared = known["fixed"], known["bounds"], known["shared"]
        for name in self.unknowns:
            if name in fixed and name in bounds:
                raise ValueError(f"{name} is fixed and has bounds; give one of both")
            if name in fixed and name in shared:
                raise ValueError(f"{name} is fixed, and so the same in all cycles; do not share it")
            if name in bounds and not bounds[name][0] < bounds[name][1]:
                raise ValueError(
                    f"bounds of {name} are {bounds[name][0]:g} and {bounds[name][1]:g}; expected "
                    "the lower one first, and fixed for a number that is known"
                )
        return self


class TwoParams(RestrictedParams):
    """Parameters of two exponentials; times in s."""

    unknowns = ("tau1", "tau2")
    #: Time constants that are known, such as ``{"tau2": 0.1}``.
    fixed: dict[Literal["tau1", "tau2"], Positive] = Field({})
    #: Least and greatest time constants, such as ``{"tau1": (0.001, 0.1)}``.
    bounds: dict[Literal["tau1", "tau2"], tuple[Positive, Positive]] = Field({})
    #: Time constants that are the same in all cycles of a step, for on and off separately.
    shared: tuple[Literal["tau1", "tau2"], ...] = ()

    @model_validator(mode="after")
    def _ordered(self) -> TwoParams:
        least = self.fixed.get("tau1", self.bounds.get("tau1", (0.0, 0.0))[0])
        most = self.fixed.get("tau2", self.bounds.get("tau2", (0.0, math.inf))[1])
        if not least * math.exp(downhill.LEAST_APART) < most:
            raise ValueError(
                f"tau1 is {least:g} s at least and tau2 {most:g} s at most; expected the shorter "
                "time constant as tau1"
            )
        return self


class StretchedParams(RestrictedParams):
    """Parameters of a stretched exponential; times in s."""

    unknowns = ("tau", "beta")
    #: What is known, such as ``{"beta": 1}`` for one exponential.
    fixed: dict[Literal["tau", "beta"], Positive] = Field({})
    #: Least and greatest numbers, such as ``{"tau": (0.001, 0.1)}``.
    bounds: dict[Literal["tau", "beta"], tuple[Positive, Positive]] = Field({})
    #: What is the same in all cycles of a step, for on and off separately.
    shared: tuple[Literal["tau", "beta"], ...] = ()

    @model_validator(mode="after")
    def _searched(self) -> StretchedParams:
        low, high = mixtures.BETA_MIN, mixtures.BETA_MAX
        beta = self.fixed.get("beta")
        given = (beta, beta) if beta is not None else self.bounds.get("beta", (low, high))
        if not (low <= given[0] and given[1] <= high):
            raise ValueError(
                f"beta is from {given[0]:g} to {given[1]:g}; expected {low:g} to {high:g}"
            )
        return self


def is_restricted(params: Mapping[str, Any]) -> bool:
    """Tell whether something is known beforehand."""
    given = (params.get(name) for name in ("fixed", "bounds", "shared"))
    return any(given) or params.get("weights", "equal") != "equal"
