"""The names under which autotau 0.3.0 offers its models twice, compiled and not: here they are one.

The functions are those of ``models``; what is compiled are the fits.
"""

from oectflow.extractors.autotau.models import (
    batch_exp_rise,
    batch_r_squared,
    compute_adjusted_r_squared,
    compute_r_squared,
    exp_decay,
    exp_rise,
)

__all__ = [
    "NUMBA_AVAILABLE",
    "batch_exp_rise",
    "batch_exp_rise_numba",
    "batch_r_squared",
    "batch_r_squared_numba",
    "compute_adjusted_r_squared",
    "compute_adjusted_r_squared_numba",
    "compute_r_squared",
    "compute_r_squared_numba",
    "compute_r_squared_numpy",
    "exp_decay",
    "exp_decay_numba",
    "exp_decay_numpy",
    "exp_rise",
    "exp_rise_numba",
    "exp_rise_numpy",
    "get_acceleration_status",
    "is_numba_available",
]

#: Numba is a dependency.
NUMBA_AVAILABLE = True
exp_rise_numba = exp_rise_numpy = exp_rise
exp_decay_numba = exp_decay_numpy = exp_decay
compute_r_squared_numba = compute_r_squared_numpy = compute_r_squared
compute_adjusted_r_squared_numba = compute_adjusted_r_squared
batch_exp_rise_numba = batch_exp_rise
batch_r_squared_numba = batch_r_squared


def is_numba_available() -> bool:
    """Return True."""
    return NUMBA_AVAILABLE


def get_acceleration_status() -> str:
    """Return what computes the fits."""
    return "Numba JIT"
