"""Of an experiment that has grown: the steps that an earlier run has computed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from oectflow.extractors.base import Columns, Variable, missing
from oectflow.pipeline.execution.worker.build_table import Extracted, earlier_metadata
from oectflow.pipeline.execution.worker.run_extractor import Steps, value_variables
from oectflow.pipeline.features.feature import column_name
from oectflow.pipeline.features.feature_list import FeatureList
from oectflow.pipeline.inputs.step_digests import Digests, Trail, Trails, extended, step_digests
from oectflow.pipeline.outputs.sink import read_columns, read_problems


def digests_of(steps: Steps) -> dict[str, Digests]:
    """Return the digests of steps that were read; empty ones of those that could not be."""
    digests = step_digests(steps.source, steps.batch)
    if not steps.unreadable:
        return digests
    return {
        name: [b"" if i in steps.unreadable else one for i, one in enumerate(some)]
        for name, some in digests.items()
    }


def earlier_steps(path: Path, features: FeatureList, first: Mapping[str, int]) -> list[Extracted]:
    """Read the steps that need not be computed again.

    Parameters
    ----------
    path
        The earlier result.
    features
        What is asked for.
    first
        By feature, how many of its steps are taken over.

    Raises
    ------
    OutputError
        The earlier result is gone.
    """
    metadata = earlier_metadata(path)
    problems = read_problems(path)
    parts = []
    stops: defaultdict[str, int] = defaultdict(int)
    for name, n in first.items():
        feature = features.features[name]
        assert feature.extractor is not None
        source = feature.extractor.source
        stops[source] = max(stops[source], n)
        own = {column_name(name, key): variable for key, variable in feature.variables.items()}
        columns = {key: array[:n] for key, array in read_columns(path, list(own), metadata).items()}
        if n < metadata["source"]["n_steps"][source]:
            columns = _without_padding(columns, own)
        theirs = tuple(one for one in problems if one.feature == name and one.step < n)
        parts.append(Extracted(source, 0, n, columns, theirs, {}))
    for source, n in stops.items():
        names = [name for name in value_variables(source) if name in metadata["variables"]]
        columns = {key: array[:n] for key, array in read_columns(path, names, metadata).items()}
        parts.append(Extracted(source, 0, n, columns, (), {}))
    return parts


def _without_padding(columns: Columns, variables: Mapping[str, Variable]) -> Columns:
    """Cut axes to what these steps need; a step that is not among them may have had more."""
    longest: dict[str, int] = {}
    for name, variable in variables.items():
        nothing = missing(variable)
        array = columns[name]
        given = ~np.isnan(array) if nothing != nothing else array != nothing
        for axis, size in enumerate(variable.shape, 1):
            if isinstance(size, str):
                others = tuple(one for one in range(array.ndim) if one != axis)
                used = np.flatnonzero(given.any(axis=others))
                n = int(used[-1]) + 1 if used.size else 1
                longest[size] = max(longest.get(size, 1), n)
    return {
        name: columns[name][
            (slice(None), *(slice(longest.get(str(size))) for size in variable.shape))
        ]
        for name, variable in variables.items()
    }


def joined_trails(trails: Trails, parts: Sequence[Extracted]) -> dict[str, dict[str, Trail]]:
    """Return trails with the steps that were read now.

    Parameters
    ----------
    trails
        What is proved of the raw file.
    parts
        What was computed of it.
    """
    joined = {kind: {key: dict(one) for key, one in some.items()} for kind, some in trails.items()}
    steps: defaultdict[tuple[str, str], dict[int, bytes]] = defaultdict(dict)
    for part in parts:
        for name, digests in part.digests.items():
            steps[part.source, name].update(enumerate(digests, part.start))
    for (source, name), found in steps.items():
        trail = joined.setdefault(source, {}).get(name, {})
        start = stop = max(trail, default=0)
        while stop in found:
            stop += 1
        longer = extended(trail, [found[i] for i in range(start, stop)], start)
        if longer:
            joined[source][name] = longer
    return joined
