"""What features and reading cost: learnt by earlier runs, timed in this one, or a lower bound."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from oectflow.pipeline.execution.planning.costs import CostBook
from oectflow.pipeline.execution.worker.build_table import Extracted
from oectflow.pipeline.inputs.step_layout import Layout


class Timings:
    """Costs in s per sample, by feature, and as ``read SOURCE`` by source.

    Parameters
    ----------
    book
        What earlier runs have learnt; it counts before what this run has timed.
    """

    def __init__(self, book: CostBook) -> None:
        self._book = book
        self._probed: dict[str, float] = {}
        self._timed: defaultdict[str, NDArray[np.float64]] = defaultdict(lambda: np.zeros(2))
        # Of features of which nothing is done, when one began, and its samples.
        self._running: dict[str, tuple[float, float]] = {}
        self._opening: dict[str, float] = {}

    @property
    def any_is_bound(self) -> bool:
        """Whether of some costs only a lower bound is known."""
        return bool(self._running)

    def is_bound(self, name: str) -> bool:
        """Whether of a feature's cost only a lower bound is known."""
        return name in self._running

    def cost(self, name: str, length: float = 1.0) -> float | None:
        """Return what something costs per sample, in s, at least; None if that is not known.

        Parameters
        ----------
        name
            A feature, ``read SOURCE``, or ``write`` per row.
        length
            Samples of a step; it matters for what earlier runs have learnt.
        """
        known = self._book.get(name, length)
        if known is None:
            known = self._probed.get(name)
        if known is None and (running := self._running.get(name)):
            known = (time.perf_counter() - running[0]) / running[1]
        return known

    def opening(self, source: str) -> float:
        """Return what it costs to open a file for a source, however much is read, in s."""
        known = self._opening.get(source)
        return known if known is not None else self._book.get(f"open {source}") or 0.0

    def probed(self, layout: Layout, parts: Sequence[Extracted]) -> None:
        """Take steps of one source that were computed in order to time them, in order."""
        samples = [max(1.0, layout.samples(part.start, part.stop)) for part in parts]
        for part, n in zip(parts, samples, strict=True):
            for name, seconds in part.seconds.items():
                self.settle(name)
                if name in self._probed:
                    self._timed[name] += (seconds, n)
                    self._probed[name] = float(self._timed[name][0] / self._timed[name][1])
                else:
                    # The first call may import or compile something: it counts until the second.
                    self._probed[name] = seconds / n
        reading, n = parts[-1].reading, samples[-1]
        per_sample = min(part.reading / k for part, k in zip(parts, samples, strict=True))
        # Opening the file takes the same time for one step and for many.  Whatever disturbed one of
        # the smaller parts made it longer, and what it seems to tell of the difference less.
        slopes = [
            (reading - part.reading) / (n - fewer)
            for part, fewer in zip(parts, samples, strict=True)
            if fewer < n
        ]
        per_sample = min(max([0.0, *slopes]), per_sample) if slopes else per_sample
        opening = max(0.0, reading - per_sample * n)
        # Of several experiments, the one counts that was read while the least was going on.
        source = parts[0].source
        read = f"read {source}"
        self._probed[read] = min(self._probed.get(read, math.inf), per_sample)
        self._opening[source] = min(self._opening.get(source, math.inf), opening)
        self._book.learn(f"open {source}", self._opening[source])

    def at_least(self, name: str, begun: float, samples: float) -> None:
        """Take a feature into account that has been running since ``begun`` on so many samples."""
        self._running[name] = begun, max(samples, 1.0)

    def settle(self, name: str, cost: float | None = None) -> None:
        """Forget the lower bound of a cost; ``cost`` is what it has turned out to be."""
        if cost is not None:
            self._probed[name] = cost
        self._running.pop(name, None)
