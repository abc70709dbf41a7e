"""Steps of transients, and their extractors, for tests."""

from __future__ import annotations

import h5py
import numpy as np

from oectflow.extractors.decay import DecayTime
from oectflow.extractors.transient import Cycles, PeakCurrent

FILES = ["regular_serial", "ragged_ptype_serial", "regular_parallel_writer"]
EPS = np.finfo(np.float64).eps

EXTRACTORS = {
    "transient.cycles": Cycles,
    "transient.peak_current": PeakCurrent,
    "transient.decay_time": DecayTime,
}
#: The methods that the software in use has as its defaults.
DEFAULTS = {
    "transient.cycles": {"method": "peak_detection"},
    "transient.peak_current": {},
    "transient.decay_time": {"method": "exponential"},
}


def read_transients(folder, file):
    with h5py.File(folder / "oect_infra" / file) as h:
        data = h["transient/measurement_data"][:]
        table = h["transient/step_info_table"][:]
    names = ("continuous_time", "original_time", "drain_current")
    return [
        dict(zip(names, data[:, row["start_data_index"] : row["end_data_index"]], strict=True))
        | {
            "sampling_interval": row["param_timeStep"] / 1e3,
            "gate_period": (row["param_topTime"] + row["param_bottomTime"]) / 1e3,
            "duty_cycle": row["param_topTime"] / (row["param_topTime"] + row["param_bottomTime"]),
        }
        for row in table
    ]


def run(name, step, **params):
    return EXTRACTORS[name](params).extract_step(step)


def word(name, result):
    return list(EXTRACTORS[name]().variables["status"].statuses)[int(result["status"])]


def gated(
    n_cycles=5, m=100, n_on=50, tau_on=8.0, tau_off=12.0, level=1e-3, base=1e-4, on_first=False
):
    """A step of ``n_cycles`` periods of m samples, 1 ms apart, without noise; tau in samples.

    The current is continuous: the sample at which the gate switches ends one phase and begins the
    next.
    """
    parts = []
    now = base
    for phase in range(2 * n_cycles):
        on = (phase % 2 == 0) == on_first
        n, tau, goal = (n_on, tau_on, base + level) if on else (m - n_on, tau_off, base)
        parts.append(goal + (now - goal) * np.exp(-np.arange(n) / tau))
        now = goal + (now - goal) * np.exp(-n / tau)
    current = np.concatenate(parts)
    t = 1e-3 * np.arange(current.size)
    return {
        "continuous_time": t + 7.0,
        "original_time": t,
        "drain_current": current,
        "sampling_interval": 1e-3,
        "gate_period": m * 1e-3,
        "duty_cycle": n_on / m,
    }
