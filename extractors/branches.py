"""What the features of transfer sweeps have in common: branches, directions and status words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator

from oectflow.extractors.base import ERROR, BaseExtractor, Columns, Params, Variable
from oectflow.extractors.kernels import sweeps
from oectflow.measurement import Batch

WORDS = {
    "edge": "the extreme lies on the first or last point of the branch: it may be beyond",
    "too_few": "fewer than three different gate voltages in the branch",
    "no_data": "no point of the step has a finite Vg and Id",
    "flat": "the current does not change along the branch (or stays below 1e-12 A, for Von)",
}
GRADIENTS = {
    "auto": sweeps.AUTO,
    "two_sided_mean": sweeps.TWO_SIDED_MEAN,
    "second_order": sweeps.SECOND_ORDER,
}
DIRECTIONS = ("forward", "reverse")
SPLIT = (
    "The sweep is split at the turning point, the first point at the voltage farthest from the "
    "first one; it belongs to both branches, unless the current steps there from one to the other; "
    "a one-way sweep is forward. Points of the same voltage are merged."
)
SLOPE = (
    "Derivative at inner points: mean of both slopes while the spacing is even, else "
    "numpy.gradient(Id, Vg); gradient='two_sided_mean' or 'second_order' choose one."
)


def _letter(value: Any) -> Any:
    """Return text but "auto" in capitals, and anything else as it is."""
    return value.upper() if isinstance(value, str) and value != "auto" else value


#: Charge carriers.  It decides the sign of the slope of log10 |Id|, and nothing else.
DeviceType = Annotated[Literal["auto", "N", "P"], BeforeValidator(_letter)]
#: How "auto" chooses one, which :func:`.sweeps.growth` does, and what it says where it cannot.
GROWTH = (
    "device_type auto is, for each branch, N where every point of its largest |Id| is at a higher "
    "Vg than every point of its smallest |Id|, P where every one is at a lower Vg"
)
NO_GROWTH = (
    "the branch has its largest |Id| on both sides of its smallest, or the other way round: "
    "give device_type"
)
Gradient = Literal["auto", "two_sided_mean", "second_order"]
Direction = Literal["forward", "reverse", "both"]


class DirectionParams(Params):
    """Parameters of a number per branch."""

    #: Branch of the sweep.
    direction: Direction = "forward"


class SweepExtractor(BaseExtractor):
    """A feature of a transfer sweep; subclasses say how its columns are computed."""

    source = "transfer"
    version = 2

    def extract_single_step(
        self, step_data: Mapping[str, Any], params: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Compute the feature of one sweep.

        Parameters
        ----------
        step_data
            ``Vg`` (V) and ``Id`` (A), each of shape (n_points,).
        params
            The validated parameters.

        Returns
        -------
        All :attr:`variables`.
        """
        one = Batch.from_steps([{name: step_data[name] for name in ("Vg", "Id")}])
        return {name: column[0] for name, column in self.columns(one, params).items()}

    def extract_batch(self, batch: Batch, params: Mapping[str, Any]) -> Columns:
        """Compute the feature of many sweeps; the same bits as one by one.

        Returns
        -------
        All :attr:`variables`, first axis the step.
        """
        return self.columns(batch, params)

    def columns(self, batch: Batch, params: Mapping[str, Any]) -> Columns:
        """Compute all variables of many sweeps."""
        raise NotImplementedError


class PerBranch(SweepExtractor):
    """One number per branch; subclasses compute both, and have the parameter ``direction``."""

    @property
    def output_shape(self) -> tuple[int | str, ...]:
        """Forward and reverse for ``direction="both"``, else a single number."""
        return (2,) if self.params["direction"] == "both" else ()

    @property
    def output_dims(self) -> tuple[str, ...]:
        """The sweep direction, where there are two."""
        return ("direction",) if self.output_shape else ()

    @property
    def output_labels(self) -> Mapping[str, tuple[str, ...]]:
        """The two directions."""
        return {"direction": DIRECTIONS} if self.output_shape else {}

    @property
    def variables(self) -> dict[str, Variable]:
        """The value and its status, both per direction."""
        both = super().variables
        status = both["status"]
        both["status"] = Variable(
            "",
            status.description,
            self.output_shape,
            self.output_dims,
            self.output_labels,
            "int8",
            status.statuses,
        )
        return both

    def both_branches(
        self, batch: Batch, params: Mapping[str, Any]
    ) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
        """Return value and status of the forward and the reverse branch, each of shape (S, 2)."""
        raise NotImplementedError

    def columns(self, batch: Batch, params: Mapping[str, Any]) -> Columns:
        """Pick what ``direction`` asks for."""
        value, status = self.both_branches(batch, params)
        if params["direction"] == "both":
            return {"value": value, "status": status}
        branch = DIRECTIONS.index(params["direction"])
        return {"value": value[:, branch].copy(), "status": status[:, branch].copy()}


def status_table(codes: Mapping[int, str], words: list[str]) -> NDArray[np.int8]:
    """Return the array that turns what a kernel says into status codes.

    Parameters
    ----------
    codes
        Code of the kernel -> word.
    words
        All words of the extractor in their order.
    """
    # A code without a word would be our mistake, and must not pass for "ok".
    table = np.full(max(codes) + 1, ERROR, np.int8)
    for code, word in codes.items():
        table[code] = words.index(word)
    return table
