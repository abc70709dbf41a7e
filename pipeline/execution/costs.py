"""How long a feature takes: timed on one real step before batches are chosen."""

from __future__ import annotations

import time
from collections.abc import Mapping

from oectflow.extractors.base import BaseExtractor
from oectflow.pipeline.errors import OectflowError
from oectflow.pipeline.inputs.experiment import Experiment

#: Assumed for a feature that could not be timed; its order of magnitude is that of a cheap kernel.
UNKNOWN_SECONDS_PER_SAMPLE = 1e-7


def measure_costs(path: str, extractors: Mapping[str, BaseExtractor]) -> dict[str, float]:
    """Time every feature on the middle step of its source.

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
