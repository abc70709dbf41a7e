"""Digests of the data of steps, small enough to be stored beside the results.

Every array of every step has a digest, and so do the numbers of the step.  A *trail* joins the
digests of one array: its mark at ``n`` is the digest of all steps before ``n``, so that one
comparison proves that none of them has changed.  A trail keeps the marks at its end, one step
before, and at distances that double, which is enough to find the steps that a grown file still has.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import xxhash

from oectflow.measurement import Batch, get_kind

#: Stands for the numbers of a step among the names of arrays.
NUMBERS = ""

#: The digests of consecutive steps.
Digests = Sequence[bytes]
#: Hexadecimal digests by the number of steps that they are of.
Trail = dict[int, str]
#: The trails of a file, by kind and array.
Trails = Mapping[str, Mapping[str, Mapping[int, str]]]


def step_digests(kind: str, batch: Batch) -> dict[str, Digests]:
    """Return the digests of every step, by the kind's own names of the arrays.

    Parameters
    ----------
    kind
        What was measured.
    batch
        Its steps, with any of their arrays.

    Returns
    -------
    Lists as long as the batch, with one for the numbers under :data:`NUMBERS`.
    """
    names = get_kind(kind).array_names
    arrays = {names[name].name if name in names else name: a for name, a in batch.arrays.items()}
    digests: dict[str, Digests] = {}
    offsets = batch.offsets.tolist()
    spans = list(itertools.pairwise(offsets))
    for name, array in arrays.items():
        whole = np.ascontiguousarray(array)
        digests[name] = [xxhash.xxh3_128_digest(whole[a:b].data) for a, b in spans]
    order = sorted(batch.values)
    numbers = np.array([batch.values[name] for name in order], np.float64)
    columns = np.ascontiguousarray(numbers.reshape(len(order), len(batch)).T)
    words = batch.timing_source or ("",) * len(batch)
    heading = "\0".join(order)
    digests[NUMBERS] = [
        xxhash.xxh3_128_digest(f"{heading}\0{word}\0{b - a}\0".encode() + columns[i].tobytes())
        for i, (word, (a, b)) in enumerate(zip(words, spans, strict=True))
    ]
    return digests


def extended(trail: Mapping[int, str], digests: Digests, start: int) -> Trail:
    """Return a trail with the steps that follow its end.

    Parameters
    ----------
    trail
        Its marks; none for one that begins.
    digests
        Of the steps from ``start`` on, without a gap; empty for one that could not be read, at
        which the trail ends.
    start
        At most the number of steps of which the trail is.
    """
    end = max(trail, default=0)
    marks = dict(trail)
    last = bytes.fromhex(trail[end]) if trail else b""
    for n, digest in enumerate(digests[end - start :], end + 1):
        if not digest:
            break
        last = xxhash.xxh3_128_digest(last + digest)
        marks[n] = last.hex()
    return _thinned(marks)


def proved(trail: Mapping[int, str], digests: Digests) -> Trail:
    """Return the marks of a trail that are also those of other steps, from the first one on.

    Parameters
    ----------
    trail
        Of the steps that were.
    digests
        Of the steps that are.

    Returns
    -------
    All marks up to the last one that agrees: the steps before it have not changed.
    """
    last, agreed = b"", 0
    for n, digest in enumerate(digests, 1):
        last = xxhash.xxh3_128_digest(last + digest)
        if trail.get(n) == last.hex():
            agreed = n
    return {n: mark for n, mark in trail.items() if n <= agreed}


def _thinned(marks: Mapping[int, str]) -> Trail:
    """Keep the marks at distances 0 and 1 from the end, and one for each doubling."""
    end = max(marks, default=0)
    kept: dict[int, int] = {}
    for n in sorted(marks):
        # The farthest of each, which moves on to the next one as the trail grows.
        kept.setdefault((end - n).bit_length(), n)
    return {n: marks[n] for n in sorted(kept.values())}
