"""Derived features: expressions over features, parsed and evaluated, never executed as code.

Users write ``lambda gm: (gm - gm.mean()) / gm.std()``, ``np.log10`` or
``gm_max_forward / gm_max_reverse``.  The text is read with :mod:`ast`, translated node by node into
nested tuples, and those are evaluated on arrays; what is not on the list is refused by name.

The meaning is NumPy's, with four deliberate differences:

* Aggregates skip NaN (see :mod:`oectflow.pipeline.features.functions`).
* All numbers are float64, so ``2 ** 1000000`` is ``inf`` and takes no time.
* The first axis of a feature is the step.  ``cycles / gm`` divides every step's cycles by that
  step's gm, where NumPy would align the last axes.
* ``and``, ``or``, ``not``, ``a if c else b`` and ``0 < x < 1`` work element by element, and
  ``x[x > 0]`` keeps its length with NaN where the condition fails.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oectflow.errors import ExpressionError
from oectflow.extractors.base import Variable
from oectflow.pipeline.features.parsing import MAX_LENGTH, parse_text, short_text
from oectflow.pipeline.features.programs import Program, keeps_nan, run_program


@dataclass(frozen=True)
class Expression:
    """A parsed expression over features.

    Attributes
    ----------
    text
        What the user wrote.
    inputs
        Names of the columns it needs, in the order in which :meth:`evaluate` takes them.
    params
        Numbers for further arguments of the lambda.
    program
        What is evaluated.  Two texts that mean the same, such as ``lambda x: x.mean()`` and
        ``np.nanmean``, have equal programs; names of arguments do not occur in it.
    is_elementwise
        Whether each step's value depends on that step alone.
    """

    text: str
    inputs: tuple[str, ...]
    params: Mapping[str, float] = field(default_factory=dict, hash=False)
    program: Program = field(default=(), repr=False, compare=False)
    is_elementwise: bool = field(default=False, repr=False, compare=False)

    def __str__(self) -> str:
        return self.text

    @classmethod
    def parse(
        cls, text: str, inputs: Sequence[str] = (), params: Mapping[str, Any] | None = None
    ) -> Expression:
        """Read an expression.

        Parameters
        ----------
        text
            A lambda whose first arguments are the inputs in order, the name of a function as
            ``np.log10``, or a bare expression over the names of the inputs.
        inputs
            Names of features; by default the arguments of the lambda, or the names that occur.
        params
            Values of the lambda's further arguments, or keywords of the function.

        Raises
        ------
        ExpressionError
            The text is no such expression; the message names the part and what is allowed.
        """
        if not isinstance(text, str):
            raise ExpressionError(f"an expression is text, not {type(text).__name__}")
        if len(text) > MAX_LENGTH:
            raise ExpressionError(
                f"expression {text[:40]!r}… has {len(text)} characters; at most {MAX_LENGTH} are "
                "allowed: write an extractor for what needs more"
            )
        try:
            parsed = parse_text(text, tuple(inputs), dict(params or {}))
        except ExpressionError as error:
            raise ExpressionError(f"expression {short_text(text)}: {error}") from None
        return cls(
            text.strip(), parsed.inputs, parsed.params, parsed.program, parsed.is_elementwise
        )

    def is_stepwise(self, inputs: Sequence[Variable]) -> bool:
        """Return whether the steps can be computed one by one, to the same bits.

        Cycles that a step does not have, and others have, are NaN when all steps are there, and are
        not there when it is alone.

        Parameters
        ----------
        inputs
            What the inputs are.
        """
        padded = [
            variable for variable in inputs if any(isinstance(n, str) for n in variable.shape)
        ]
        floats = all(variable.dtype == "float64" for variable in padded)
        return self.is_elementwise and (not padded or (floats and keeps_nan(self.program)))

    def evaluate(self, columns: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
        """Compute the derived feature for all steps.

        Parameters
        ----------
        columns
            One array per name in :attr:`inputs`, each of shape (n_steps, ...).

        Returns
        -------
        Shape (n_steps, ...), float64; a single number is repeated for every step, and true and
        false become 1 and 0.  Division by zero gives inf or NaN without a warning.

        Raises
        ------
        ExpressionError
            Shapes do not fit, or the result has no value per step.
        """
        try:
            with np.errstate(all="ignore"):
                return run_program(self.program, [np.asarray(x, np.float64) for x in columns])
        except (TypeError, ValueError, IndexError, ArithmeticError) as error:
            raise ExpressionError(f"expression {short_text(self.text)}: {error}") from error
