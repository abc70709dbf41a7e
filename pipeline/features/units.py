"""The unit of a derived feature, where it follows from that of its input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from oectflow.extractors.base import Variable
from oectflow.pipeline.features.programs import Program

#: Functions whose result has the unit of their first argument.
_KEEPING = frozenset(
    {
        *("mean", "median", "std", "min", "max", "ptp", "sum", "first", "last"),
        *("percentile", "quantile", "cumsum", "diff"),
    }
)


class _Quantity(NamedTuple):
    unit: str
    #: Names of the axes, the step first; None where they are not known.
    axes: tuple[str, ...] | None


def result_unit(program: Program, inputs: Sequence[Variable]) -> str:
    """Return the unit of a program's result, ``""`` where it does not follow.

    It follows through aggregates, ``drift``, indices and conditions: the mean of a time over its
    cycles is a time, and the drift of a time is a time per cycle.

    Parameters
    ----------
    program
        Of an expression.
    inputs
        Variables in the order of its inputs.
    """
    quantity = _quantity(program, inputs)
    return quantity.unit if quantity else ""


def _quantity(program: Program, inputs: Sequence[Variable]) -> _Quantity | None:
    kind = program[0]
    if kind == "input":
        variable = inputs[program[1]]
        # Two units in one array, as of a point (Vg, Id), are not one of the result.
        return None if "," in variable.unit else _Quantity(variable.unit, ("step", *variable.dims))
    if kind == "mask":
        return _quantity(program[1], inputs)
    if kind == "item":
        of = _quantity(program[1], inputs)
        return of._replace(axes=None) if of else None
    if kind != "call" or program[1] not in _KEEPING | {"drift"}:
        return None
    of = _quantity(program[2][0], inputs)
    if of is None:
        return None
    axis = dict(program[3]).get("axis") or 0
    if program[1] != "drift":
        return of._replace(axes=None)
    if of.axes is None or not -len(of.axes) <= axis < len(of.axes):
        return None
    return _Quantity(f"{of.unit or 1}/{of.axes[axis]}", None)
