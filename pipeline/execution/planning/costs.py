"""How long each feature takes: learnt from steps that were computed, kept beside the results.

A cost is in seconds per sample.  It belongs to a definition (extractor, parameters and code, by
fingerprint), to the length of the steps (by powers of two: 600 and 1000 samples are one class) and
to a machine.  Samples reach an extractor as float64 whatever the file holds, so the type is none of
the things it depends on.
"""

from __future__ import annotations

import copy
import json
import math
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from oectflow.atomic_write import atomic_write

#: Weight of the newest measurement in the running mean.
_NEW_SHARE = 0.3
#: Costs that differ by less are the same to every decision, and not worth a new file.
_SAME = 0.1
_FILE = ".oectflow-costs.json"
_FORMAT = 2


class CostBook:
    """Remembered costs.

    Parameters
    ----------
    folder
        Output folder that the costs are kept in.
    fingerprints
        By feature: what its cost belongs to.  Names that have none, such as ``"write"``, stand
        for themselves.
    """

    def __init__(self, folder: Path, fingerprints: Mapping[str, str]) -> None:
        self._path = folder / _FILE
        self._machine = f"{platform.node()}/{platform.machine()}"
        self._fingerprints = dict(fingerprints)
        self._costs: dict[str, dict[int, float]] = {}
        self._deadly: set[str] = set()
        self._changed = False
        self._stored: dict[str, dict[int, float]] = {}
        try:
            stored = json.loads(self._path.read_text())
            if stored["format"] == _FORMAT:
                self._costs = {
                    str(key): {int(size): float(cost) for size, cost in by_size.items()}
                    for key, by_size in stored["costs"].items()
                }
                self._deadly = set(map(str, stored["deadly"]))
                self._stored = copy.deepcopy(self._costs)
        except FileNotFoundError:
            pass
        except (
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
            OverflowError,
            RecursionError,
            OSError,
        ):
            # A damaged book costs a new timing of a few steps, nothing else.
            self._costs, self._deadly = {}, set()

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
        self._changed |= abs(new - stored) > _SAME * stored

    def is_deadly(self, name: str) -> bool:
        """Whether a feature has ever ended the process that computed it."""
        return self._key(name) in self._deadly

    def mark_deadly(self, names: Iterable[str]) -> None:
        """Remember that features have ended the process that computed them."""
        keys = {self._key(name) for name in names}
        self._changed |= not keys <= self._deadly
        self._deadly |= keys

    def save(self) -> None:
        """Write the book; a folder that cannot be written any more keeps the old one."""
        if not self._changed:
            return
        content: dict[str, Any] = {
            "format": _FORMAT,
            "costs": self._costs,
            "deadly": sorted(self._deadly),
        }
        try:
            with atomic_write(self._path) as temporary:
                temporary.write_text(json.dumps(content, indent=1, sort_keys=True))
        except OSError:
            # Whoever called is about to report, or has reported, that the disk is full.
            return

    def _key(self, name: str) -> str:
        return f"{self._machine}/{self._fingerprints.get(name, name)}"


def _size(length: float) -> int:
    return int(math.log2(max(length, 1.0)))
