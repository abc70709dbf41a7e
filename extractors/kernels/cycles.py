"""Fit many known windows of one trace.

Dimension letters: W windows, n samples of a window.
"""

from __future__ import annotations

import math

import numpy as np

from oectflow.extractors.kernels.compiled import borrowing, kernel
from oectflow.extractors.kernels.exponential import FIT_OK, fit_exponential
from oectflow.extractors.kernels.simd_fit import (
    FIRST_LOOK_ARC,
    LANES,
    copy_lane,
    fit_group,
    is_certain,
    lane_evidence,
    lane_space,
)
from oectflow.extractors.kernels.tau_grid import node_tables


@kernel
def fit_windows(y, t, starts, n, process, rows, codes, evidence):
    """Fit windows of one length; a result does not depend on what else is in the call.

    Parameters
    ----------
    y
        Trace.  Shape (n_samples,), any unit.
    t
        Times of the samples in any unit, increasing; shape (0,) stands for 0, 1, 2, ...
    starts
        First samples of the windows, which lie inside the trace.  Shape (W,), int64.
    n
        Samples in each window.
    process
        ``DECAY`` or ``RISE``.
    rows
        Gets the columns ``TAU`` ... ``SE_OFFSET`` of :mod:`.exponential`.  Shape (W, 8).
    codes
        Gets how each fit ended.  Shape (W,), int8.
    evidence
        Gets what the residuals say of each fit (:mod:`.misfit`), where this was found on the way;
        NaN elsewhere.  Shape (W, 9).
    """
    # Uneven samples have a basis of their own in every window.
    lanes = t.size == 0 and n >= 5
    group = np.empty(LANES, np.int64)
    tables = node_tables(np.array([max(n, 5)]), FIRST_LOOK_ARC)
    space = lane_space(max(n, 5), tables[0].size)
    evidence[:] = math.nan
    fit_groups(y, t, starts, n, process, lanes, group, tables, space, rows, codes, evidence)


@borrowing
def fit_groups(y, t, starts, n, process, lanes, group, tables, space, rows, codes, evidence):
    """Fit windows as :func:`fit_windows` does, side by side if ``lanes``, in its work space."""
    # A variable and not a literal, for which numba would compile a copy.
    index = t.size * 0
    for begin in range(0, starts.size, LANES):
        end = min(begin + LANES, starts.size)
        if lanes:
            for i in range(LANES):
                group[i] = starts[begin + i] if begin + i < end else starts[begin]
            fit_group(y, group, n, process, index, tables, space)
        for j in range(begin, end):
            a = starts[j]
            if lanes and is_certain(space, j - begin, n, process, y[a]):
                copy_lane(space, j - begin, y[a], rows[j])
                lane_evidence(space, j - begin, n, evidence[j])
                codes[j] = FIT_OK
            else:
                codes[j] = fit_alone(y, t, a, n, process, rows[j])


@kernel
def fit_alone(y, t, first, n, process, row):
    """Fit one window of a trace, and return how it ended; arguments of :func:`fit_windows`."""
    end = first + n
    times = t[first:end] - t[first] if t.size else t
    return fit_exponential(y[first:end], times, process, math.nan, row)[0]
