"""From the parts of one experiment to its table: join, take over, derive, count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oectflow.errors import OutputError
from oectflow.extractors.base import ABSENT, ERROR, OK, Columns, Variable, missing
from oectflow.pipeline.execution.worker.run_extractor import used_sample, value_variables
from oectflow.pipeline.features.feature import column_name
from oectflow.pipeline.features.feature_list import FeatureList
from oectflow.pipeline.inputs.step_digests import Digests, Trails
from oectflow.pipeline.outputs.sink import (
    Problem,
    read_columns,
    read_metadata,
    read_problems,
    read_variables,
)


@dataclass(frozen=True)
class Extracted:
    """Variables of a range of steps of one source, what went wrong there, and the time it took.

    ``seconds`` is by feature; ``reading`` is what it took to read the steps, in s, where the task
    that computed them has read them.  ``digests`` are those of what was read, by array.
    """

    source: str
    start: int
    stop: int
    columns: Columns
    problems: tuple[Problem, ...]
    seconds: Mapping[str, float]
    reading: float = 0.0
    digests: Mapping[str, Digests] = field(default_factory=dict)


@dataclass(frozen=True)
class DerivedStep:
    """A derived feature at one step; no columns where it cannot be computed."""

    feature: str
    step: int
    columns: Columns


@dataclass(frozen=True)
class Table:
    """All variables of one experiment, one row per step.

    Attributes
    ----------
    n_rows
        The largest of the numbers of steps by kind.
    columns, variables
        Arrays by name, first axis the row, and what they are.
    owners
        Feature to which each variable belongs, ``""`` for the numbers of the steps.
    problems
        Everything that went wrong.
    seconds
        Worker time by feature, for those that were computed now.
    kept
        Metadata of the features taken over from an earlier run.
    reading, finishing
        Worker time for reading, and for putting the table together, in s.
    trails
        Of what the steps were computed from.
    """

    n_rows: int
    columns: Columns
    variables: dict[str, Variable]
    owners: dict[str, str]
    problems: tuple[Problem, ...]
    seconds: dict[str, float]
    kept: dict[str, dict[str, Any]]
    reading: float = 0.0
    finishing: float = 0.0
    trails: Trails = field(default_factory=dict)

    def statuses(self, feature: str) -> NDArray[np.int8]:
        """Return the status codes of a feature.  Shape (n_rows, …)."""
        return self.columns[column_name(feature, "status")]


def build_table(
    parts: Sequence[Extracted], features: FeatureList, n_steps: Mapping[str, int]
) -> Table:
    """Join the parts of one experiment.

    A source with fewer steps than the other leaves rows that are NaN and ``absent``; so does a
    step with fewer cycles than the longest one.  A feature whose source has no step at all has
    ``absent`` in every row.
    """
    n_rows = max(n_steps.values(), default=0)
    # Threads are done in any order; what is written must not depend on it.
    sources = list(n_steps)
    parts = sorted(parts, key=lambda one: (sources.index(one.source), one.start, *one.seconds))
    seconds: dict[str, float] = {}
    for part in parts:
        for name, value in part.seconds.items():
            seconds[name] = seconds.get(name, 0.0) + value
    columns: Columns = {}
    variables: dict[str, Variable] = {}
    owners: dict[str, str] = {}

    def add(name: str, variable: Variable, owner: str) -> None:
        pieces = [
            (part.start, part.stop, part.columns[name]) for part in parts if name in part.columns
        ]
        columns[name] = _join(variable, pieces, n_rows)
        variables[name] = variable
        owners[name] = owner

    for source in dict.fromkeys(part.source for part in parts):
        for name, variable in value_variables(source).items():
            if any(name in part.columns for part in parts):
                add(name, variable, "")
    found = {name for part in parts for name in part.columns}
    for feature in features.extracted:
        without_steps = feature.extractor is not None and feature.extractor.source not in n_steps
        if column_name(feature.name, "status") in found or without_steps:
            for name, variable in feature.variables.items():
                add(column_name(feature.name, name), variable, feature.name)
    problems = tuple(problem for part in parts for problem in part.problems)
    reading = sum(part.reading for part in parts)
    return Table(n_rows, columns, variables, owners, problems, seconds, {}, reading)


def _join(
    variable: Variable, pieces: Sequence[tuple[int, int, NDArray[Any]]], n_rows: int
) -> NDArray[Any]:
    # An axis of unknown length is as long as the longest part, but never empty: a row without
    # any cycle still says "absent".
    sizes = [
        max([1, *(array.shape[axis + 1] for *_, array in pieces)])
        if isinstance(size, str)
        else size
        for axis, size in enumerate(variable.shape)
    ]
    out = np.full((n_rows, *sizes), missing(variable), variable.dtype)
    for start, stop, array in pieces:
        out[(slice(start, stop), *(slice(size) for size in array.shape[1:]))] = array
    return out


def earlier_metadata(path: Path) -> dict[str, Any]:
    """Return what the result of an earlier run says about itself.

    Raises
    ------
    OutputError
        It is gone, though there was one when the run was planned.
    """
    metadata = read_metadata(path)
    if metadata is None:
        raise OutputError(f"{path}: disappeared during the run; run again")
    return metadata


def add_reused(table: Table, features: FeatureList, path: Path, reused: Sequence[str]) -> Table:
    """Take over from an earlier result the features that need not be computed again.

    Their numbers stay; units and descriptions are those of the feature set now.

    Raises
    ------
    OutputError
        The earlier result is gone.
    """
    metadata = earlier_metadata(path)
    old = read_variables(metadata)
    owners = {name: metadata["variables"][name]["feature"] for name in old}
    names = [
        name
        for name, owner in owners.items()
        if name not in table.columns and owner in ("", *reused)
    ]
    words = {
        name: {"unit": value.unit, "description": value.description}
        for name in reused
        if name in features.features
        for value in [features.features[name].variables["value"]]
    }
    for name, now in words.items():
        old[name] = replace(old[name], unit=now["unit"], description=now["description"])
    return replace(
        table,
        columns=read_columns(path, names, metadata) | table.columns,
        variables={name: old[name] for name in names} | table.variables,
        owners={name: owners[name] for name in names} | table.owners,
        problems=(
            *(problem for problem in read_problems(path) if problem.feature in reused),
            *table.problems,
        ),
        kept={name: metadata["features"][name] | words.get(name, {}) for name in reused},
    )


def add_derived(table: Table, features: FeatureList, steps: Sequence[DerivedStep] = ()) -> Table:
    """Compute the derived features that were not taken over, but for steps that are known.

    One that raises is NaN with the status ``error`` in every row, and so are those that need it.
    """
    wanted = [feature.name for feature in features.derived if feature.name not in table.kept]
    if not wanted:
        return table
    values = _joined_steps(table, features, steps)
    derived, failures = features.compute_derived(table.columns, wanted, values)
    return replace(
        table,
        columns=table.columns | derived.columns,
        variables=table.variables | derived.variables,
        owners=table.owners | derived.owners,
        problems=(
            *table.problems,
            *(
                Problem(row, "", failure.feature, "error", failure.error_type, failure.message)
                for failure in failures
                for row in range(table.n_rows)
            ),
        ),
    )


def _joined_steps(table: Table, features: FeatureList, steps: Sequence[DerivedStep]) -> Columns:
    """Return derived features of which every step is known."""
    by_feature: dict[str, list[tuple[int, int, NDArray[Any]]]] = {}
    for one in steps:
        if one.feature in one.columns:
            pieces = by_feature.setdefault(one.feature, [])
            pieces.append((one.step, one.step + 1, one.columns[one.feature]))
    joined: Columns = {}
    for name, pieces in by_feature.items():
        variable = features.features[name].variables["value"]
        if len(pieces) == table.n_rows and pieces[0][2].ndim == len(variable.shape) + 1:
            joined[name] = _join(variable, pieces, table.n_rows)
    return joined


def describe(
    table: Table, features: FeatureList, known: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Return the metadata of every feature: definition, fingerprint, time, outcomes by word.

    Parameters
    ----------
    table, features
        What was computed.
    known
        Of the device and by hand; a feature says what it has used of that.
    """
    described = dict(table.kept)
    fingerprints = features.fingerprints()
    for name in table.owners.values():
        if not name or name in described:
            continue
        described[name] = features.features[name].describe() | {
            "fingerprint": fingerprints[name],
            "seconds": table.seconds.get(name, 0.0),
            "counts": _counts(table, name),
        }
        extractor = features.features[name].extractor
        if extractor is not None and extractor.sample_keys:
            described[name]["sample"] = used_sample(extractor, known)
    return described


def _counts(table: Table, feature: str) -> dict[str, int]:
    words = table.variables[column_name(feature, "status")].statuses
    codes = np.bincount(table.statuses(feature).ravel(), minlength=len(words))
    return {word: int(n) for word, n in zip(words, codes, strict=True) if n}


def row_outcomes(table: Table) -> tuple[int, int]:
    """Return the number of rows with a flagged feature and with one that raised."""
    failed = np.zeros(table.n_rows, bool)
    flagged = np.zeros(table.n_rows, bool)
    for feature in set(table.owners.values()) - {""}:
        codes = table.statuses(feature)
        # Not all in one axis: of no rows, NumPy does not know its length.
        inner = tuple(range(1, codes.ndim))
        failed |= (codes == ERROR).any(axis=inner)
        flagged |= (~np.isin(codes, (OK, ABSENT, ERROR))).any(axis=inner)
    return int((flagged & ~failed).sum()), int(failed.sum())
