"""Evaluation of parsed expressions on the columns of one experiment."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from oectflow.pipeline.features.functions import BY_CANONICAL_NAME, KEEPS_NAN, Array, Function

#: ``("input", i)``, ``("number", x)``, ``("none",)``, ``("call", function, arguments, options)``,
#: ``("item", program, index)`` or ``("mask", program, condition)``.
Program = tuple[Any, ...]


class _Value(NamedTuple):
    array: Array
    #: Whether the first axis is the step.
    per_step: bool


def run_program(program: Program, columns: Sequence[Array]) -> NDArray[np.float64]:
    """Evaluate a program.

    Parameters
    ----------
    program
        Nested tuples.
    columns
        The inputs, float64, shape (n_steps, ...).

    Returns
    -------
    Shape (n_steps, ...), never one of ``columns`` itself.

    Raises
    ------
    ValueError, TypeError, IndexError
        Shapes do not fit, or the result is not per step.
    """
    lengths = {column.shape[:1] for column in columns}
    if len(lengths) != 1 or lengths == {()}:
        shapes = ", ".join(str(column.shape) for column in columns)
        raise ValueError(f"its inputs have different numbers of steps, shapes {shapes}")
    (n_steps,) = lengths.pop()
    # No intermediate result may outgrow the inputs, as an outer product would.
    run = _Run([_Value(column, True) for column in columns], max(c.size for c in columns))
    result = run.value(program)
    array = np.asarray(result.array, np.float64)
    if not result.per_step and array.size == 1:
        return np.full(n_steps, array.item())
    if not result.per_step or array.shape[0] != n_steps:
        raise ValueError(
            f"the result has shape {array.shape}, not one value for each of {n_steps} steps"
        )
    return np.array(array)


def keeps_nan(program: Program) -> bool:
    """Return whether a value is NaN for certain where an input is, and needs no other cell."""
    if program[0] != "call":
        return bool(program[0] == "input")
    _, name, arguments, _ = program
    if name == "power":
        base, exponent = arguments
        return exponent[0] == "number" and exponent[1] != 0 and keeps_nan(base)
    inputs = [one for one in arguments if one[0] not in ("number", "none")]
    return name in KEEPS_NAN and bool(inputs) and all(map(keeps_nan, inputs))


_NAN = _Value(np.asarray(np.nan), False)


class _Run(NamedTuple):
    inputs: list[_Value]
    max_size: int

    def value(self, program: Program) -> _Value:
        kind = program[0]
        if kind == "input":
            return self.inputs[program[1]]
        if kind == "number":
            return _Value(np.asarray(program[1]), False)
        if kind == "item":
            return _item(self.value(program[1]), program[2])
        if kind == "mask":
            value, condition = self.value(program[1]), self.value(program[2])
            if condition.array.dtype != bool:
                raise ValueError("an index is a constant, or a condition such as x[x > 0]")
            chosen = self.elementwise(BY_CANONICAL_NAME["where"], [condition, value, _NAN], {})
            if chosen.array.shape != value.array.shape:
                raise ValueError("the condition in x[condition] has more values than x")
            return chosen
        _, name, arguments, options = program
        function = BY_CANONICAL_NAME[name]
        values = [None if a == ("none",) else self.value(a) for a in arguments]
        if function.kind == "elementwise":
            return self.elementwise(function, values, dict(options))
        target, *others = values
        if target is None:
            raise ValueError(f"{name} of None")
        more = [other.array if other else None for other in others]
        return _along_axis(function, target, more, dict(options))

    def elementwise(
        self, function: Function, values: Sequence[_Value | None], options: Mapping[str, Any]
    ) -> _Value:
        there = [value for value in values if value is not None]
        per_step = any(value.per_step for value in there)
        ndim = max(value.array.ndim for value in there)
        arrays: list[Array | None] = []
        for value in values:
            array = value.array if value else None
            if value and array is not None and per_step and array.ndim:
                if value.per_step:
                    array = array.reshape(array.shape + (1,) * (ndim - array.ndim))
                elif array.ndim == ndim and array.shape[0] != 1:
                    raise ValueError(
                        f"an array of shape {array.shape} without steps meets one with steps"
                    )
            arrays.append(array)
        shape = np.broadcast_shapes(*(array.shape for array in arrays if array is not None))
        if math.prod(shape) > max(self.max_size, 1):
            raise ValueError(f"an intermediate result of shape {shape} is larger than any input")
        return _Value(function.apply(arrays, options), per_step)


def _along_axis(
    function: Function, value: _Value, more: list[Array | None], options: dict[str, Any]
) -> _Value:
    array = value.array
    axis = options.get("axis")
    if axis is not None and not -array.ndim <= axis < array.ndim:
        raise ValueError(
            f"axis={axis} of {function.name}, but the array has {array.ndim} "
            f"{'axis' if array.ndim == 1 else 'axes'} (0 is the step)"
        )
    result = function.apply([array, *more], options)
    if function.kind == "aggregate":
        mixes_steps = axis is None or axis % array.ndim == 0
        return _Value(result, value.per_step and not mixes_steps)
    return _Value(result, value.per_step and result.shape[:1] == array.shape[:1])


def _item(value: _Value, index: tuple[Any, ...]) -> _Value:
    ndim = value.array.ndim
    n_given = sum(part not in ("new", "...") for part in index)
    if n_given > ndim:
        raise ValueError(f"{n_given} indices for an array of {ndim} axes (0 is the step)")
    parts: list[Any] = []
    for part in index:
        if part == "...":
            parts += [slice(None)] * (ndim - n_given)
        elif part == "new":
            parts.append(np.newaxis)
        else:
            parts.append(slice(*part) if isinstance(part, tuple) else part)
    keeps_steps = not parts or parts[0] == slice(None)
    return _Value(value.array[tuple(parts)], value.per_step and keeps_steps)
