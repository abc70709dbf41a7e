"""Search the window of a step by differential evolution instead of trying all."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from oectflow.extractors.kernels.exponential import (
    AMPLITUDE,
    N_COLUMNS,
    R2_ADJUSTED,
    TAU,
    fit_exponential,
)

#: Score of a window without an admissible fit: less than any adjusted R2 above 0.
_NOTHING = 1.0


def evolve_window(
    y: NDArray[np.float64],
    t: NDArray[np.float64],
    process: int,
    lengths: NDArray[np.int64],
    start_step: int,
    least_change: float,
    *,
    maxiter: int,
    popsize: int,
    atol: float,
    tol: float,
    seed: int,
) -> tuple[int, int]:
    """Find a window with a large adjusted R2 by differential evolution [1]_.

    Parameters
    ----------
    y
        Oriented current, NaN if not finite.  Shape (N,).
    t
        Times in sampling intervals, or shape (0,) for an even clock.
    process
        ``DECAY`` or ``RISE`` of :mod:`.kernels.exponential`.
    lengths, start_step, least_change
        As in :func:`.kernels.windows.search_windows`, which tries all these windows.
    maxiter, popsize, atol, tol, seed
        Options of :func:`scipy.optimize.differential_evolution`; one seed gives one window.

    Returns
    -------
    Start and length; (-1, -1) if no tried window holds the process.

    References
    ----------
    .. [1] Storn & Price (1997), J. Global Optim. 11, 341. doi:10.1023/A:1008202821328
    """
    from scipy.optimize import differential_evolution

    possible = lengths[lengths <= y.size]
    if possible.size == 0:
        return -1, -1
    row = np.empty(N_COLUMNS)

    def window(x: NDArray[np.float64]) -> tuple[int, int]:
        n = int(possible[int(x[0])])
        # A start that leaves no room for the window stands for the last one that does.
        return min(int(x[1]) * start_step, (y.size - n) // start_step * start_step), n

    def cost(x: NDArray[np.float64]) -> float:
        start, n = window(x)
        part = slice(start, start + n)
        fit_exponential(y[part], t[part] - t[start] if t.size else t, process, math.nan, row)
        change = -row[AMPLITUDE] * math.expm1(-(n - 1) / row[TAU])
        # Any comparison with NaN fails, and so does a window without a fit.
        return -float(row[R2_ADJUSTED]) if change >= least_change else _NOTHING

    found = differential_evolution(
        cost,
        [(0, possible.size - 1), (0, (y.size - int(possible[0])) // start_step)],
        maxiter=maxiter,
        popsize=popsize,
        atol=atol,
        tol=tol,
        seed=np.random.default_rng(seed),
        polish=False,
        integrality=[True, True],
    )
    return window(found.x) if found.fun < 0.0 else (-1, -1)
