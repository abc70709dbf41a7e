"""Compute the derived features of one experiment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from oectflow.extractors.base import ABSENT, ERROR, OK, Variable
from oectflow.pipeline.features.feature import UNDEFINED, Column, Feature, column_name


class Derived(NamedTuple):
    """Derived features of one experiment.

    Attributes
    ----------
    columns
        ``name`` and ``name_status`` for each, first axis the step.
    variables
        What each of them is.
    owners
        The feature to which each belongs.
    """

    columns: dict[str, NDArray[Any]]
    variables: dict[str, Variable]
    owners: dict[str, str]


class Failure(NamedTuple):
    """Why a derived feature has no value."""

    feature: str
    error_type: str
    message: str


def compute_derived(
    features: Iterable[Feature],
    known: Mapping[str, Column],
    columns: Mapping[str, NDArray[Any]],
    values: Mapping[str, NDArray[Any]],
) -> tuple[Derived, list[Failure]]:
    """Compute derived features of one experiment.

    Parameters
    ----------
    features
        Derived ones, each after those that it needs.
    known
        What they can have as input, by the name of the column.
    columns
        Variables by column name, for all steps of the experiment, shape (n_steps, ...).
    values
        Values that are known already, by feature.

    Returns
    -------
    The features, and why one has no value.
    """
    have = dict(columns)
    n_steps = max((len(column) for column in have.values()), default=0)
    result = Derived({}, {}, {})
    failures: dict[str, Failure] = {}
    for feature in features:
        broken = next((failures[name] for name in feature.upstream if name in failures), None)
        try:
            if broken:
                raise _UpstreamFailed(f"its input {broken.feature!r} failed: {broken.message}")
            inputs = [known[name].take(have) for name in feature.inputs]
            value = values.get(feature.name)
            if value is None or not _fits(value, inputs):
                value = feature.derive(inputs, n_steps)
            status = derived_status(value, feature.upstream, have)
        except Exception as error:  # noqa: BLE001 - a user's function can raise anything
            failures[feature.name] = Failure(feature.name, type(error).__name__, str(error))
            value = feature.failed_value(n_steps)
            status = np.full(n_steps, ERROR, np.int8)
        for name, array in (("value", value), ("status", status)):
            column = column_name(feature.name, name)
            have[column] = result.columns[column] = array
            result.variables[column] = feature.fitting_variable(name, array)
            result.owners[column] = feature.name
    return result, list(failures.values())


def derived_status(
    value: NDArray[np.float64], inputs: Iterable[str], have: Mapping[str, NDArray[Any]]
) -> NDArray[np.int8]:
    """Say for each step whether a derived feature has a value, and if not, why.

    Parameters
    ----------
    value
        The feature, shape (n_steps, ...).
    inputs
        Names of the features from which it was computed.
    have
        All columns, among them the status of the inputs.

    Returns
    -------
    Codes of :data:`STATUSES`, shape (n_steps,).
    """
    n_steps = len(value)
    there = np.isfinite(value).any(axis=tuple(range(1, value.ndim)))
    status = np.full(n_steps, UNDEFINED, np.int8)
    for code in (ABSENT, ERROR):
        for name in inputs:
            codes = have.get(column_name(name, "status"))
            if codes is not None and len(codes) == n_steps:
                status[(codes == code).all(axis=tuple(range(1, codes.ndim)))] = code
    status[there] = OK
    return status


def _fits(value: NDArray[Any], inputs: Iterable[NDArray[Any]]) -> bool:
    """Whether inputs give a value of this shape when all steps are there."""
    return all(
        n in (1, there)
        for array in inputs
        for n, there in zip(array.shape[1:], value.shape[1:], strict=False)
    )


class _UpstreamFailed(Exception):
    """A derived feature cannot be computed because one that it needs could not."""
