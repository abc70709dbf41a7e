"""A measured transient."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture(scope="module")
def real_step(shared_data):
    """32,610 samples at 1 kHz, gate period 0.2 s, on in samples 100 to 199 of each; p-type."""
    t, current = np.loadtxt(shared_data / "autotau_transient.csv", delimiter=",", skiprows=1).T
    return {
        "continuous_time": t,
        "original_time": t,
        "drain_current": current,
        "sampling_interval": 1e-3,
        "gate_period": 0.2,
        "duty_cycle": 0.5,
    }
