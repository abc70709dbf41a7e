"""Which values a mark is about: all of a feature, some of its steps, one of its cycles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from oectflow.pipeline.marks.mark import Mark

CYCLE = "cycle"
#: ``whole``: the value itself is marked.  ``part``: it rests on others that are.
Reach = Literal["whole", "part"]


@dataclass(frozen=True)
class Origin:
    """What a feature is computed from.

    Attributes
    ----------
    feature
        Its name.
    kinds
        Kinds of measurement, also those of the features that it is derived from.
    rests_on
        Features that it is derived from, and those of these.
    mixes_steps
        Whether its value at a step may depend on other steps.
    """

    feature: str
    kinds: frozenset[str]
    rests_on: frozenset[str]
    mixes_steps: bool


@dataclass(frozen=True)
class Marked:
    """Which values are marked, and which only rest on such; same shape as the values."""

    whole: NDArray[np.bool_]
    part: NDArray[np.bool_]


def reach_of(mark: Mark, origin: Origin, dims: Sequence[str]) -> Reach | None:
    """Return how a mark concerns a feature with these axes beside the step; None: not at all."""
    if mark.kind is not None and mark.kind not in origin.kinds:
        return None
    if mark.feature is not None and mark.feature != origin.feature:
        return "part" if mark.feature in origin.rests_on else None
    # A median over cycles, one of which is marked.
    return "part" if mark.cycle is not None and CYCLE not in dims else "whole"


def marked_cells(
    marks: Sequence[Mark], origin: Origin, dims: Sequence[str], shape: tuple[int, ...]
) -> Marked:
    """Return which values of a variable the marks of its experiment are about.

    Parameters
    ----------
    marks
        Those of the experiment.
    origin
        The feature to which the variable belongs.
    dims, shape
        Axes of the variable behind the step, and its shape with the step.
    """
    whole, part = np.zeros(shape, bool), np.zeros(shape, bool)
    for mark in marks:
        reach = reach_of(mark, origin, dims)
        step: slice = slice(None) if mark.step is None else slice(mark.step, mark.step + 1)
        if reach == "whole":
            index = [step] + [slice(None)] * len(dims)
            if mark.cycle is not None:
                index[1 + list(dims).index(CYCLE)] = slice(mark.cycle, mark.cycle + 1)
            whole[tuple(index)] = True
        if reach == "part":
            part[step] = True
        if reach is not None and origin.mixes_steps:
            part[...] = True
    return Marked(whole, part & ~whole)
