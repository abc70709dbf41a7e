"""How long each feature takes: timed on real steps, remembered beside the results.

A cost is in seconds per sample, so that it carries over to steps of another length.  It belongs to
a definition (extractor, parameters and code, by fingerprint) and to a machine.
"""

from __future__ import annotations

import json
import math
import platform
import time
from collections.abc import Mapping
from pathlib import Path

from oectflow.extractors.base import BaseExtractor
from oectflow.pipeline.errors import OectflowError
from oectflow.pipeline.inputs.experiment import Experiment

#: Weight of the newest measurement in the running mean.
_NEW_SHARE = 0.3
_FILE = ".oectflow-costs.json"


class CostBook:
    """Remembered costs of features.

    Parameters
    ----------
    folder
        Output folder that the costs are kept in.
    fingerprints
        By feature: what its cost belongs to.
    """

    def __init__(self, folder: Path, fingerprints: Mapping[str, str]) -> None:
        self._path = folder / _FILE
        machine = f"{platform.node()}/{platform.machine()}"
        self._keys = {name: f"{machine}/{key}" for name, key in fingerprints.items()}
        self._costs: dict[str, float] = {}
        self._changed = False
        if self._path.exists():
            try:
                stored = json.loads(self._path.read_text())
                self._costs = {str(key): float(cost) for key, cost in stored.items()}
            except (ValueError, AttributeError, OSError):
                # A damaged book costs a new timing of a few steps, nothing else.
                self._costs = {}

    def get(self, feature: str) -> float | None:
        """Return seconds per sample, or None for a feature that was never timed."""
        return self._costs.get(self._keys[feature])

    def learn(self, feature: str, seconds_per_sample: float) -> None:
        """Take a new measurement into the running mean."""
        if not math.isfinite(seconds_per_sample) or seconds_per_sample <= 0:
            return
        key = self._keys[feature]
        old = self._costs.get(key, seconds_per_sample)
        self._changed = True
        self._costs[key] = (1 - _NEW_SHARE) * old + _NEW_SHARE * seconds_per_sample

    def save(self) -> None:
        """Write the book; a folder that cannot be written any more keeps the old one."""
        if not self._changed:
            return
        temporary = self._path.with_suffix(".tmp")
        try:
            temporary.write_text(json.dumps(self._costs, indent=1, sort_keys=True))
            temporary.replace(self._path)
        except OSError:
            # Whoever called is about to report, or has reported, that the disk is full.
            return


def measure_costs(path: str, extractors: Mapping[str, BaseExtractor]) -> dict[str, float]:
    """Time features on the middle step of an experiment.

    Parameters
    ----------
    path
        A raw file.
    extractors
        By feature.

    Returns
    -------
    Seconds per sample by feature, the second of two calls (the first may compile); a feature that
    cannot be timed here is left out.
    """
    costs = {}
    experiment = Experiment(path)
    for name, extractor in extractors.items():
        n_steps = experiment.n_steps(extractor.source)
        if n_steps == 0:
            continue
        try:
            step = experiment.step(extractor.source, n_steps // 2)
            n_samples = max(len(value) for value in step.values() if hasattr(value, "__len__"))
            extractor.extract_step(step)
            begin = time.perf_counter()
            extractor.extract_step(step)
            seconds = time.perf_counter() - begin
        except OectflowError:
            continue
        except Exception:  # noqa: BLE001
            # Whatever a user's extractor raises is recorded when its step is computed.
            continue
        if n_samples:
            costs[name] = seconds / n_samples
    return costs
