"""Period and duty cycle of a recorded gate voltage."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: A voltage too large for the gate of an electrolyte-gated device, and the smallest pulse; in V.
_HIGHEST, _LEAST = 200.0, 1e-3
#: Share of the pulse within which a sample belongs to a level, and share of samples that must.
_NEAR, _SQUARE = 0.25, 0.7


def square_wave(
    gate_voltage: NDArray[np.float64], time: NDArray[np.float64]
) -> tuple[float, float] | None:
    """Return gate period and duty cycle of a square wave.

    Parameters
    ----------
    gate_voltage
        In V, NaN if it was not recorded.  Shape (n_samples,).
    time
        Increasing, in s.  Shape (n_samples,).

    Returns
    -------
    Mean distance of the edges of one direction in s, and the share of it in which the gate is high.
    None if the gate is no square wave, or has fewer than two edges of one direction.
    """
    known = np.abs(gate_voltage) <= _HIGHEST
    if known.sum() < 8:
        return None
    ordered = np.sort(gate_voltage[known])
    # A few samples per thousand may have any value.
    trim = max(int(ordered.size >= 16), ordered.size // 200)
    low, high = ordered[trim], ordered[-1 - trim]
    near = _NEAR * (high - low)
    level = np.where(gate_voltage > high - near, 1, np.where(gate_voltage < low + near, 0, -1))
    level[~known] = -1
    there = np.flatnonzero(level >= 0)
    if high - low < _LEAST or there.size < _SQUARE * known.sum():
        return None
    # A single sample at the other level is no pulse.
    alone = np.zeros(there.size, bool)
    alone[1:-1] = (level[there][1:-1] != level[there][:-2]) & (
        level[there][1:-1] != level[there][2:]
    )
    there = there[~alone]
    changes = np.flatnonzero(np.diff(level[there])) + 1
    edges, after = time[there[changes]], level[there[changes]]
    if edges.size < 3:
        return None
    # From the first edge over a whole number of cycles.
    n_cycles = (edges.size - 1) // 2
    edges, after = edges[: 2 * n_cycles + 1], after[: 2 * n_cycles + 1]
    span = float(edges[-1] - edges[0])
    first_phases = float(np.sum(edges[1::2] - edges[:-1:2]))
    return span / n_cycles, (first_phases if after[0] == 1 else span - first_phases) / span
