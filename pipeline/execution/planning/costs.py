"""What was measured, and what is believed: how long each feature, reading and writing take.

A cost is in seconds per sample.  It belongs to a definition (extractor, parameters and code, by
fingerprint), to the length of the steps (by powers of two: 600 and 1000 samples are one class) and
to a machine.  Samples reach an extractor as float64 whatever the file holds, so the type is none of
the things it depends on.
"""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from oectflow.pipeline.execution.events import BatchDone

#: Weight of the newest measurement in the running mean.
_NEW_SHARE = 0.3
#: Costs that differ by less are the same to every decision, and not worth a new file.
_SAME = 0.1
_FORMAT = 3


class CostBook:
    """Costs that runs have learnt; kept beside the results.

    Parameters
    ----------
    fingerprints
        By feature: what its cost belongs to.  Names that have none, such as ``"write"``, stand
        for themselves.
    machine
        Where the costs were measured.
    stored
        What :attr:`content` was at the end of an earlier run.

    Raises
    ------
    ValueError, TypeError, KeyError, AttributeError, OverflowError
        What is stored is no content of a book.
    """

    def __init__(
        self,
        fingerprints: Mapping[str, str],
        machine: str = "",
        stored: Mapping[str, Any] | None = None,
    ) -> None:
        self._machine = machine
        self._fingerprints = dict(fingerprints)
        self._costs: dict[str, dict[int, float]] = {}
        self._crashed: set[str] = set()
        self._trusted: set[str] = set()
        if stored is not None and stored["format"] == _FORMAT:
            self._costs = {
                str(key): {int(size): float(cost) for size, cost in by_size.items()}
                for key, by_size in stored["costs"].items()
            }
            self._crashed = set(map(str, stored["crashed"]))
            self._trusted = set(map(str, stored["trusted"]))
        self._stored = copy.deepcopy(self._costs)
        #: Whether it is worth being written.
        self.changed = False

    @property
    def content(self) -> dict[str, Any]:
        """What is to be stored, as JSON can hold it."""
        return {
            "format": _FORMAT,
            "costs": self._costs,
            "crashed": sorted(self._crashed),
            "trusted": sorted(self._trusted),
        }

    def get(self, name: str, length: float = 1.0) -> float | None:
        """Return a cost for steps of some length, or None where nothing is known.

        Parameters
        ----------
        name
            A feature.
        length
            Samples per step.  Where no step of about this length was timed, the cost per sample
            is that of the steps whose length is nearest.
        """
        known = self._costs.get(self._key(name))
        if not known:
            return None
        size = _size(length)
        return known[min(known, key=lambda other: (abs(other - size), other))]

    def learn(self, name: str, cost: float, length: float = 1.0) -> None:
        """Take a new measurement into the running mean."""
        if not math.isfinite(cost) or cost <= 0:
            return
        known = self._costs.setdefault(self._key(name), {})
        old = known.get(_size(length), cost)
        new = known[_size(length)] = (1 - _NEW_SHARE) * old + _NEW_SHARE * cost
        stored = self._stored.get(self._key(name), {}).get(_size(length), 0.0)
        self.changed |= abs(new - stored) > _SAME * stored

    def is_trusted(self, code: str) -> bool:
        """Whether code has computed a feature before, with whatever parameters."""
        return code in self._trusted

    def trust(self, codes: Iterable[str]) -> None:
        """Remember that code, by its fingerprint, has computed a feature."""
        new = set(codes) - self._trusted
        self.changed |= bool(new)
        self._trusted |= new

    def is_crashed(self, name: str) -> bool:
        """Whether a feature has ever ended the process that computed it."""
        return self._key(name) in self._crashed

    def mark_crashed(self, names: Iterable[str]) -> None:
        """Remember that features have ended the process that computed them."""
        keys = {self._key(name) for name in names}
        self.changed |= not keys <= self._crashed
        self._crashed |= keys

    def _key(self, name: str) -> str:
        return f"{self._machine}/{self._fingerprints.get(name, name)}"


class Costs:
    """What everything costs, as far as it is known: from earlier runs, else from this one.

    Parameters
    ----------
    book
        What earlier runs have learnt; it counts before what this run has timed.
    """

    def __init__(self, book: CostBook) -> None:
        self.book = book
        self._timed: dict[str, float] = {}
        # Time and samples of all batches but the first of a feature.
        self._sums: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self._reads: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
        self._opening: dict[str, float] = {}

    def of(self, name: str, length: float = 1.0) -> float | None:
        """Return what something costs per sample, in s; None if that is not known.

        Parameters
        ----------
        name
            A feature, ``read SOURCE``, or ``write`` per row.
        length
            Samples of a step; it matters for what earlier runs have learnt.
        """
        known = self.book.get(name, length)
        return self._timed.get(name) if known is None else known

    def opening(self, source: str) -> float:
        """Return what it costs to open a file for a source, however much is read, in s."""
        known = self._opening.get(source)
        return known if known is not None else self.book.get(f"open {source}") or 0.0

    def timed(self, done: BatchDone, samples: float, *, fresh: bool) -> None:
        """Take a batch into account that was computed while its costs were not known.

        Parameters
        ----------
        done
            The batch.
        samples
            Of its steps.
        fresh
            Whether it was the first in its process: the first call may import or compile
            something, so that it counts only until there is another.
        """
        samples = max(samples, 1.0)
        for name, seconds in done.seconds.items():
            if not fresh:
                total = self._sums[name]
                total[0] += seconds
                total[1] += samples
                self._timed[name] = total[0] / total[1]
            elif name not in self._sums:
                per_sample = seconds / samples
                self._timed[name] = min(self._timed.get(name, math.inf), per_sample)
        if done.reading:
            self._read(done.source, done.reading, samples)

    def _read(self, source: str, seconds: float, samples: float) -> None:
        reads = self._reads[source]
        reads.append((samples, seconds))
        n, reading = max(reads)
        per_sample = min(took / k for k, took in reads)
        # Opening the file takes the same time for one step and for many.  Whatever disturbed one of
        # the smaller parts made it longer, and what it seems to tell of the difference less.
        slopes = [(reading - took) / (n - k) for k, took in reads if k < n]
        per_sample = min(max([0.0, *slopes]), per_sample) if slopes else per_sample
        self._timed[f"read {source}"] = per_sample
        self._opening[source] = max(0.0, reading - per_sample * n)
        self.book.learn(f"open {source}", self._opening[source])


def _size(length: float) -> int:
    return int(math.log2(max(length, 1.0)))
