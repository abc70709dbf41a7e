"""One feature: what it is called, how it is computed and what comes out."""

from __future__ import annotations

import hashlib
import inspect
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from oectflow.errors import ConfigError
from oectflow.extractors.base import (
    COMMON_STATUSES,
    BaseExtractor,
    Variable,
)
from oectflow.extractors.fingerprint import definition_fingerprint
from oectflow.extractors.pinning import callable_fingerprint
from oectflow.pipeline.features.config import FeatureSpec
from oectflow.pipeline.features.expressions import Expression
from oectflow.pipeline.features.raw_function import RawFunction
from oectflow.pipeline.features.shapes import trial_shape
from oectflow.pipeline.features.units import result_unit

STATUSES: dict[str, str] = COMMON_STATUSES | {
    "undefined": "an input has no value at this step, or the expression has none there",
}
UNDEFINED = list(STATUSES).index("undefined")

#: Raise it when an expression gives other numbers for the same program.
_EXPRESSION_VERSION = 1


def column_name(feature: str, variable: str) -> str:
    """Return the column of a feature's variable: ``tau``, ``tau_status``, ``tau_r2``."""
    return feature if variable == "value" else f"{feature}_{variable}"


class Column(NamedTuple):
    """Something that a derived feature can have as input.

    Attributes
    ----------
    feature
        The feature to which it belongs.
    variable_name
        The array in which it is found.
    entry
        Index along the last axis of that array, None for all of it.
    variable
        What it is.
    """

    feature: str
    variable_name: str
    entry: int | None
    variable: Variable

    def take(self, arrays: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """Return the column, shape (n_steps, ...)."""
        if self.variable_name not in arrays:
            raise ConfigError(f"its input {self.variable_name!r} was not computed")
        array = arrays[self.variable_name]
        return array if self.entry is None else array[..., self.entry]


@dataclass(frozen=True)
class Feature:
    """A feature with checked parameters.

    Attributes
    ----------
    name
        Name of its column.
    inputs
        The source of an extractor; else columns of other features, in the order of the arguments.
    extractor
        Computes it step by step; None for a derived feature.
    expression
        Computes it from other features; None for an extracted one.
    params
        Parameters as given.
    unit, description
        As given; None leaves those of the extractor, or what follows from the inputs.
    upstream
        Names of the features from which it is computed.
    variables
        ``"value"``, ``"status"`` and companions.
    output_shape
        What the user says about the result of a Python function.
    """

    name: str
    inputs: tuple[str, ...]
    extractor: BaseExtractor | None = None
    expression: Expression | Callable[..., Any] | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    unit: str | None = None
    description: str | None = None
    upstream: tuple[str, ...] = ()
    variables: Mapping[str, Variable] = field(default_factory=dict)
    output_shape: tuple[int | str, ...] | None = None

    @classmethod
    def from_extractor(cls, spec: FeatureSpec, extractor: BaseExtractor) -> Feature:
        """Return the feature that an extractor computes."""
        variables = dict(extractor.variables)
        value = variables["value"]
        variables["value"] = replace(
            value,
            unit=value.unit if spec.unit is None else spec.unit,
            description=value.description if spec.description is None else spec.description,
        )
        return cls(
            spec.name,
            (extractor.source,),
            extractor=extractor,
            params=dict(spec.params or {}),
            unit=spec.unit,
            description=spec.description,
            variables=variables,
        )

    @classmethod
    def from_function(
        cls, spec: FeatureSpec, function: Expression | Callable[..., Any], inputs: tuple[str, ...]
    ) -> Feature:
        """Return a derived feature whose shape is not known yet.

        Raises
        ------
        ConfigError
            A Python function does not take these inputs and parameters.
        """
        params = dict(spec.params or {})
        if not isinstance(function, Expression):
            try:
                inspect.signature(function).bind(*inputs, **params)
            except TypeError as error:
                raise ConfigError(f"{_function_name(function)}: {error}") from None
            except ValueError:
                pass  # functions written in C, such as ufuncs, may not tell their arguments
        shape = None if spec.output_shape is None else tuple(spec.output_shape[1:])
        feature = cls(
            spec.name,
            inputs,
            expression=function,
            params=params,
            unit=spec.unit,
            description=spec.description,
            output_shape=shape,
        )
        return replace(feature, variables=feature._derived_variables("", (), (), {}))

    @property
    def is_derived(self) -> bool:
        """Whether it is computed from other features."""
        return self.extractor is None

    @property
    def function(self) -> Callable[..., Any] | None:
        """The Python function that computes it, of features or of raw data."""
        if isinstance(self.extractor, RawFunction):
            return self.extractor.function
        return None if isinstance(self.expression, Expression) else self.expression

    @property
    def definition(self) -> str:
        """The name of the extractor, the expression, or the name of the function."""
        if self.extractor:
            return self.extractor.name
        if isinstance(self.expression, Expression):
            return self.expression.text
        return _function_name(self.expression)

    def describe(self) -> dict[str, Any]:
        """Return everything that defines the feature, as plain data for JSON."""
        params = self.extractor.params if self.extractor else self.params
        definition = self.extractor.definition if self.extractor else self.definition
        return {
            "extractor": self.extractor.name if self.extractor and not self.function else None,
            "func": self.definition if self.is_derived or self.function else None,
            "inputs": list(self.inputs),
            "params": _plain(params),
            "unit": self.variables["value"].unit,
            "description": self.variables["value"].description,
            "definition": definition,
            "formula": self.extractor.formula if self.extractor else "",
            "reference": self.extractor.reference if self.extractor else "",
        }

    def to_config(self) -> dict[str, Any]:
        """Return the entry of a configuration."""
        entry: dict[str, Any] = {"name": self.name}
        if self.function:
            entry["func"] = self.function
        elif self.extractor:
            entry["extractor"] = self.extractor.name
        else:
            expression = self.expression
            entry["func"] = expression.text if isinstance(expression, Expression) else expression
        entry["input"] = self.inputs[0] if len(self.inputs) == 1 else list(self.inputs)
        if self.params:
            entry["params"] = _plain(self.params)
        if self.output_shape is not None:
            entry["output_shape"] = ["n_steps", *self.output_shape]
        if self.unit is not None:
            entry["unit"] = self.unit
        if self.description is not None:
            entry["description"] = self.description
        return entry

    def row(self) -> tuple[str, str, str, str]:
        """Return name, definition, inputs and unit for a table."""
        return self.name, self.definition, ", ".join(self.inputs), self.variables["value"].unit

    def fingerprint(self, upstream: Sequence[str]) -> str:
        """Return 32 hexadecimal digits that change when the definition or an input's does."""
        if self.extractor and not self.function:
            return definition_fingerprint(self.extractor)
        if isinstance(self.expression, Expression):
            # The numbers of params are part of the program.
            parts = ["expression", _EXPRESSION_VERSION, repr(self.expression.program), *upstream]
        else:
            assert self.function is not None
            code = callable_fingerprint(self.function)
            parts = ["function", code, _plain(self.params), *(upstream or self.inputs)]
        text = json.dumps(parts, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def columns(self) -> dict[str, Column]:
        """Return what the feature offers to others, by the name of the column.

        These are its variables (``tau``, ``tau_r2``) and, where the entries of the last axis have
        names, each of them (``tau_on``), which is a column of its own in a file.
        """
        found: dict[str, Column] = {}
        for key, variable in self.variables.items():
            name = column_name(self.name, key)
            found[name] = Column(self.name, name, None, variable)
            last = variable.dims[-1] if variable.dims else ""
            for entry, label in enumerate(variable.labels.get(last, ())):
                part = replace(
                    variable,
                    shape=variable.shape[:-1],
                    dims=variable.dims[:-1],
                    labels={dim: names for dim, names in variable.labels.items() if dim != last},
                )
                found[f"{name}_{label}"] = Column(self.name, name, entry, part)
        return found

    def derived_variables(self, inputs: Sequence[Variable]) -> dict[str, Variable]:
        """Return the variables, with the shape that follows from those of the inputs.

        Raises
        ------
        ExpressionError
            The expression cannot work on such inputs.
        """
        unit = self.unit or ""
        if isinstance(self.expression, Expression):
            shape, dims = trial_shape(self.expression, inputs, self.name)
            if self.unit is None:
                unit = result_unit(self.expression.program, inputs)
        else:
            shape = self.output_shape or ()
            dims = self._dims(len(shape))
        labels = {dim: names for each in inputs for dim, names in each.labels.items()}
        return self._derived_variables(unit, shape, dims, labels)

    def _derived_variables(
        self,
        unit: str,
        shape: tuple[int | str, ...],
        dims: tuple[str, ...],
        labels: Mapping[str, tuple[str, ...]],
    ) -> dict[str, Variable]:
        return {
            "value": Variable(
                unit,
                self.description or self.definition,
                shape,
                dims,
                {dim: names for dim, names in labels.items() if dim in dims},
            ),
            "status": Variable(
                "", f"how to read {self.name}", dtype="int8", statuses=dict(STATUSES)
            ),
        }

    def _dims(self, ndim: int) -> tuple[str, ...]:
        return tuple(f"{self.name}_axis{axis}" for axis in range(ndim))

    def derive(self, arrays: Sequence[NDArray[Any]], n_steps: int) -> NDArray[np.float64]:
        """Compute a derived feature.

        Parameters
        ----------
        arrays
            One per input, shape (n_steps, ...).
        n_steps
            Number of steps of the experiment.

        Returns
        -------
        Shape (n_steps, ...); a single number is repeated.

        Raises
        ------
        ValueError
            There is not one value per step.
        Exception
            Whatever a Python function raises.
        """
        if isinstance(self.expression, Expression):
            value = self.expression.evaluate(arrays)
        else:
            assert self.expression is not None
            # Copies, so that a function that sorts in place does not change its input's column.
            copies = [np.array(array, np.float64) for array in arrays]
            value = np.asarray(self.expression(*copies, **self.params), np.float64)
            if value.ndim == 0:
                value = np.full(n_steps, value)
        if len(value) != n_steps:
            raise ValueError(
                f"the result has shape {value.shape}, not one value for each of {n_steps} steps"
            )
        return value

    def failed_value(self, n_steps: int) -> NDArray[np.float64]:
        """Return what stands for a derived feature that could not be computed."""
        sizes = [1 if isinstance(n, str) else n for n in self.variables["value"].shape]
        return np.full((n_steps, *sizes), np.nan)

    def fitting_variable(self, name: str, array: NDArray[Any]) -> Variable:
        """Return the variable that describes an array, which may have turned out otherwise."""
        variable = self.variables[name]
        sizes = array.shape[1:]
        if len(sizes) == len(variable.shape) and all(
            isinstance(want, str) or want == got
            for want, got in zip(variable.shape, sizes, strict=True)
        ):
            return variable
        return replace(variable, shape=sizes, dims=self._dims(len(sizes)), labels={})


def _function_name(function: Any) -> str:
    return str(getattr(function, "__qualname__", None) or getattr(function, "__name__", function))


def _plain(value: Any) -> Any:
    """Return parameters as data that JSON and YAML can hold."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no word for it
    if isinstance(value, (bool, int, float, str)) or value is None:
        return value
    if isinstance(value, Iterable):
        return [_plain(item) for item in value]
    return repr(value)
