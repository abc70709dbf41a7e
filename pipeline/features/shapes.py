"""The shape of a derived feature, found before anything is measured by a trial on ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from oectflow.errors import ExpressionError
from oectflow.extractors.base import Variable
from oectflow.pipeline.features.expressions import Expression

# An axis is recognised in the result by its length, so each gets its own, twice: a length that
# differs between the trials without being that of an axis, as in x[:, :-1], is not a constant.
_STEPS = 3
_LENGTHS = ((211, 223, 227, 229, 233, 239), (241, 251, 257, 263, 269, 271))

Shape = tuple[int | str, ...]


def trial_shape(
    expression: Expression, inputs: Sequence[Variable], name: str
) -> tuple[Shape, tuple[str, ...]]:
    """Return shape per step and names of the axes of an expression's result.

    Parameters
    ----------
    expression
        What is computed.
    inputs
        Variables in the order of its inputs.
    name
        Name of the derived feature, for axes that are new.

    Returns
    -------
    Sizes and names, equally many.  A size is text where it differs between experiments; it is
    ``()`` where only a measurement can tell.

    Raises
    ------
    ExpressionError
        The expression cannot work on inputs of these shapes.
    """
    keys = [
        [
            variable.dims[axis] if axis < len(variable.dims) else f"{column}_axis{axis}"
            for axis in range(len(variable.shape))
        ]
        for column, variable in zip(expression.inputs, inputs, strict=True)
    ]
    sizes: dict[str, int | str] = {}
    for names, variable in zip(keys, inputs, strict=True):
        for key, size in zip(names, variable.shape, strict=True):
            sizes.setdefault(key, size)
    known = {key: size for key, size in sizes.items() if isinstance(size, int)}
    actual = _run(expression, keys, known) if len(known) == len(sizes) else None
    new = [f"{name}_axis{axis}" for axis in range(len(actual or ()))]
    if not sizes:
        return tuple(actual or ()), tuple(new)
    try:
        lengths = [dict(zip(sizes, row, strict=False)) for row in _LENGTHS]
        first, second = (_run(expression, keys, row) for row in lengths)
    except (ExpressionError, KeyError):
        # x[:, 500] fails on a trial axis, but may be right for the measurement.
        return tuple(actual or ()), tuple(new)
    axes = {
        (a, b): key for key, a, b in zip(sizes, *(row.values() for row in lengths), strict=False)
    }
    shape: list[int | str] = []
    dims: list[str] = []
    for axis, pair in enumerate(zip(first, second, strict=True)):
        traced = axes.get(pair)
        if traced is not None and traced not in dims:
            shape.append(sizes[traced])
            dims.append(traced)
        else:
            constant = pair[0] == pair[1]
            dims.append(f"{name}_axis{axis}")
            shape.append(actual[axis] if actual else pair[0] if constant else dims[-1])
    return tuple(shape), tuple(dims)


def _run(
    expression: Expression, keys: Sequence[Sequence[str]], lengths: Mapping[str, int]
) -> tuple[int, ...]:
    columns = [np.ones((_STEPS, *(lengths[key] for key in names))) for names in keys]
    return expression.evaluate(columns).shape[1:]
