"""Compile or load every kernel by running every built-in extractor once on a tiny step."""

from __future__ import annotations

import numpy as np

from oectflow.extractors.base import extractor_names, get_extractor
from oectflow.measurement import Batch


def tiny_batches() -> dict[str, Batch]:
    """Return two short steps of each source: a sweep there and back, and five gate cycles."""
    vg = np.concatenate([np.linspace(-0.2, 0.6, 17), np.linspace(0.55, -0.2, 16)])
    sweep = {"Vg": vg, "Id": -1e-4 / (1.0 + np.exp(-(vg - 0.3) / 0.05))}
    k = np.arange(200)
    decay = np.exp(-(k % 20) / 5.0)
    current = np.where(k // 20 % 2 == 1, 1e-3 * (1.0 - decay), 1e-3 * decay)
    transient = {
        "continuous_time": 1e-3 * k,
        "original_time": 1e-3 * k,
        "drain_current": current,
        "sampling_interval": 1e-3,
        "gate_period": 0.04,
        "duty_cycle": 0.5,
    }
    Vd = np.linspace(0.0, -0.6, 41)
    curve = {"Vd": Vd, "Id": 1e-3 * np.tanh(5.0 * Vd)}
    return {
        "output": Batch.from_steps([curve, curve]),
        "transfer": Batch.from_steps([sweep, sweep]),
        "transient": Batch.from_steps([transient, transient]),
    }


def warm_up() -> None:
    """Make sure that no built-in extractor compiles anything when it meets its first step."""
    batches = tiny_batches()
    for name in extractor_names():
        extractor = get_extractor(name)
        if not type(extractor).__module__.startswith("oectflow.extractors."):
            continue
        batch = batches[extractor.source]
        extractor.extract_step(batch.step(0))
        if extractor.extract_batch is not None:
            extractor.extract_batch(batch, extractor.params)
