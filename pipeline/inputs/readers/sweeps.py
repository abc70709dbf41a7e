"""Which voltage of a record is swept, and what kind of measurement that makes it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from oectflow.errors import IngestError

#: A gate that is switched stands at few levels, one that is swept passes all of these.
_BINS = 20


def kind_of_arrays(arrays: Mapping[str, NDArray[np.float64]], values: Mapping[str, float]) -> str:
    """Return the name of the kind that a record is.

    Parameters
    ----------
    arrays
        The record, by quantity.
    values
        Voltages that headings give: they do not change.

    Raises
    ------
    IngestError
        It is none.
    """
    if {"frequency", "Z_real", "Z_imag"} <= arrays.keys():
        return "impedance"
    if "Id" not in arrays:
        raise IngestError("no column is a drain current")
    there = [name for name in ("Vg", "Vd") if name in arrays]
    if len(there) == 1 and "time" not in arrays:
        return {"Vg": "transfer", "Vd": "output"}[there[0]]
    sweeps = [name for name in there if changes(arrays[name])]
    if "time" in arrays:
        swept = [name for name in sweeps if _is_swept(arrays[name])]
        if not swept:
            return "transient"
        sweeps = swept
    if not sweeps:
        sweeps = [name for name in there if name not in values]
    if not sweeps:
        raise IngestError("no column is a time, a gate voltage or a drain voltage")
    inner = max(sweeps, key=lambda name: _variation(arrays[name]))
    return {"Vg": "transfer", "Vd": "output"}[inner]


def changes(array: NDArray[np.float64]) -> bool:
    """Return whether a voltage is more than constant with the noise of its reading."""
    seen = array[np.isfinite(array)]
    if len(seen) < 2:
        return False
    noise = 1.4826 * float(np.median(np.abs(np.diff(seen)))) / math.sqrt(2)
    return float(np.ptp(seen)) > max(2e-3, 0.0 if _is_swept(seen) else 10 * noise)


def _is_swept(array: NDArray[np.float64]) -> bool:
    """Return whether a voltage passes through its range, point by point, as in a sweep.

    One that is switched stands at a few levels, or at many for long.
    """
    seen = array[np.isfinite(array)]
    span = float(np.ptp(seen)) if len(seen) > 1 else 0.0
    if span == 0.0:
        return False
    bins = min(_BINS, max(len(seen) // 3, 2))
    places = np.minimum((seen - seen.min()) * (bins / span), bins - 1).astype(np.intp)
    filled = np.count_nonzero(np.bincount(places) >= len(seen) / (4 * bins))
    if filled <= bins / 2:
        return False
    steps = np.abs(np.diff(seen))
    steps = steps[steps < 0.3 * span] if len(seen) > 10 else steps
    largest = float(steps.max(initial=0.0))
    held = largest > 0.02 * span and float(np.median(steps)) < 0.1 * largest
    return not held


def _variation(array: NDArray[np.float64]) -> float:
    """Return how often a voltage passes its range: the inner loop of two does so more often."""
    seen = array[np.isfinite(array)]
    span = float(np.ptp(seen)) if len(seen) > 1 else 0.0
    if span == 0.0:
        return 0.0
    coarse = np.round((seen - seen.min()) / span * 10)
    return float(np.abs(np.diff(coarse)).sum())
