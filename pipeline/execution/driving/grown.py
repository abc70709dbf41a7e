"""Find the steps of a grown raw file that are proved to be those of an earlier run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from oectflow.errors import InputError
from oectflow.extractors.base import BaseExtractor
from oectflow.measurement import get_kind
from oectflow.pipeline.inputs.experiment import Experiment
from oectflow.pipeline.inputs.step_digests import (
    NUMBERS,
    Digests,
    Trail,
    Trails,
    proved,
    step_digests,
)

#: Samples that are read at once, in bytes.
_BYTES = 64 * 2**20


def trails_of(metadata: Mapping[str, Any]) -> dict[str, dict[str, Trail]]:
    """Return the trails that a result keeps of its steps; ``{}`` if it keeps none."""
    return {
        kind: {name: {int(n): mark for n, mark in marks.items()} for name, marks in named.items()}
        for kind, named in metadata["source"].get("trails", {}).items()
    }


def kept_steps(
    metadata: Mapping[str, Any], experiment: Experiment, extractors: Mapping[str, BaseExtractor]
) -> tuple[dict[str, int], Trails]:
    """Return how many steps of an earlier result are unchanged.

    The samples are read and compared by their digests.

    Parameters
    ----------
    metadata
        Of the earlier result.
    experiment
        The raw file as it is now.
    extractors
        By feature, for features with the same definition as in the earlier result.

    Returns
    -------
    By feature, the number of first steps that need not be computed again (features without such
    steps are left out); and what is proved about the raw file.
    """
    sources = {one.source for one in extractors.values()} & set(experiment.sources)
    trails: dict[str, dict[str, Trail]] = {}
    for source, was in trails_of(metadata).items():
        if source in sources:
            digests = _digests(experiment, source, was)
            trails[source] = {
                name: proved(trail, digests.get(name, ())) for name, trail in was.items()
            }
    first = {}
    for name, extractor in extractors.items():
        if extractor.source in trails:
            rows = metadata["source"]["n_steps"].get(extractor.source, 0)
            n = min(rows, _n_proved(experiment, extractor, trails[extractor.source]))
            # What is carried from step to step begins with a block.
            n -= n % extractor.steps_per_block(extractor.params)
            if n:
                first[name] = n
    return first, trails


def _n_proved(experiment: Experiment, extractor: BaseExtractor, trails: Mapping[str, Trail]) -> int:
    """Return of how many first steps all that an extractor gets is what it was."""
    kind = get_kind(extractor.source)
    names = kind.array_names
    there = {names[name].name for name in experiment.batch(extractor.source, 0, 0).arrays}
    # An array that has come, or gone, is another input, too.
    seen = there | (trails.keys() - {NUMBERS})
    if extractor.arrays is not None:
        seen &= {names[name].name for name in extractor.arrays if name in names}
    if not seen <= there:
        return 0
    return min(max(trails.get(name, {}), default=0) for name in (NUMBERS, *seen))


def _digests(
    experiment: Experiment, source: str, trails: Mapping[str, Mapping[int, str]]
) -> dict[str, Digests]:
    """Return the digests of the steps of which there are trails, as far as they can be read."""
    arrays = [name for name in trails if name != NUMBERS]
    most = max((n for trail in trails.values() for n in trail), default=0)
    found: dict[str, list[bytes]] = {name: [] for name in trails}
    try:
        for start, stop in _ranges(experiment, source, min(most, experiment.n_steps(source))):
            digests = step_digests(source, experiment.batch(source, start, stop, arrays))
            for name, some in found.items():
                some += digests.get(name, ())
    except InputError:
        # What cannot be read is named when it is computed.
        pass
    return dict(found)


def _ranges(experiment: Experiment, source: str, n_steps: int) -> Iterator[tuple[int, int]]:
    layout = experiment.layout(source)
    sizes = (layout.lengths * layout.nbytes_per_sample).tolist()
    start = held = 0
    for i in range(n_steps):
        if held and held + sizes[i] > _BYTES:
            yield start, i
            start, held = i, 0
        held += sizes[i]
    if start < n_steps:
        yield start, n_steps
