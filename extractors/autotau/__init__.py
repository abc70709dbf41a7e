"""The fitter classes that existing scripts use, on the kernels of oectflow.

A script written for autotau 0.6.0 changes one line: ``from autotau import X`` becomes
``from oectflow.extractors.autotau import X``.  Constructor arguments, attributes, methods and keys
of the results are the same; ``docs/autotau.md`` lists where the numbers differ on purpose.
"""

from oectflow.extractors.autotau import accelerated
from oectflow.extractors.autotau.accelerated import (
    NUMBA_AVAILABLE,
    exp_decay_numba,
    exp_decay_numpy,
    exp_rise_numba,
    exp_rise_numpy,
    get_acceleration_status,
    is_numba_available,
)
from oectflow.extractors.autotau.auto import AutoTauFitter, WindowFinder
from oectflow.extractors.autotau.cached import CachedAutoTauFitter
from oectflow.extractors.autotau.cycles import CyclesAutoTauFitter, CyclesTauFitter
from oectflow.extractors.autotau.fitter import TauFitter
from oectflow.extractors.autotau.models import (
    batch_exp_rise,
    batch_r_squared,
    compute_adjusted_r_squared,
    compute_r_squared,
    exp_decay,
    exp_rise,
)
from oectflow.extractors.autotau.parallel import (
    ParallelAutoTauFitter,
    ParallelCyclesAutoTauFitter,
    ParallelCyclesTauFitter,
)
from oectflow.extractors.autotau.smart import SmartWindowSearchFitter

__all__ = [
    "NUMBA_AVAILABLE",
    "AutoTauFitter",
    "CachedAutoTauFitter",
    "CyclesAutoTauFitter",
    "CyclesTauFitter",
    "ParallelAutoTauFitter",
    "ParallelCyclesAutoTauFitter",
    "ParallelCyclesTauFitter",
    "SmartWindowSearchFitter",
    "TauFitter",
    "WindowFinder",
    "accelerated",
    "batch_exp_rise",
    "batch_r_squared",
    "compute_adjusted_r_squared",
    "compute_r_squared",
    "exp_decay",
    "exp_decay_numba",
    "exp_decay_numpy",
    "exp_rise",
    "exp_rise_numba",
    "exp_rise_numpy",
    "get_acceleration_status",
    "is_numba_available",
]
