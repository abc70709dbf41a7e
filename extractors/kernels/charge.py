"""The charge that flows into the gate in every phase, as the integral of the gate current.

Dimension letters: N samples of a step, W phases.
"""

from __future__ import annotations

import math

import numpy as np

from oectflow.extractors.kernels.compiled import borrowing, kernel
from oectflow.extractors.kernels.gate import OVERFLOW
from oectflow.extractors.kernels.levels import (
    CHANGE,
    CHANGES,
    COUNT,
    MEAN,
    N_KNOWN,
    measure_plateau,
    noise_of,
    variance_of_sum,
)

#: Columns of a phase: the whole charge, that beyond the leakage, their standard errors, and the
#: leakage, which is the level at the end of the phase; the change of the gate voltage.  Times are
#: in those of the samples.
CHARGE, SWITCHED, SE_CHARGE, SE_SWITCHED, LEAKAGE, GATE_STEP = range(6)
N_COLUMNS = 6
#: How a phase ended.
FOUND, TOO_FEW, NOT_FINITE, MARKED, FAST, UNSETTLED = range(6)
#: Least samples of a phase, of which a quarter is the plateau.
FEWEST = 16
#: Share of the switched charge that one sample may have.
OF_ONE_SAMPLE = 0.5
#: Standard errors of the switched charge beyond which a part of it is no noise.
SEEN = 6.0
#: Share of the switched charge beyond which a leakage that still changes leaves it unknown.
UNKNOWN = 0.1
#: Samples that a gap between two phases may have, beside a twentieth of the phase.
GAP = 3


@borrowing
def charge_of_phase(y, t, begin, end, plateau, sigma, phi, weights, row):
    """Integrate one phase by trapezoids, from the last sample before the switch.

    Parameters
    ----------
    y, t
        Gate current and times of the step.
    begin, end
        Samples that are integrated.
    plateau, sigma, phi
        From :func:`.levels.measure_plateau` and :func:`.levels.noise_of`.
    weights
        Work space.  Shape (>= end - begin,).
    row
        Gets the columns.

    Returns
    -------
    ``FOUND``, ``FAST`` or ``UNSETTLED``.
    """
    n = end - begin
    of = weights[:n]
    span = t[end - 1] - t[begin]
    total = beyond = largest = 0.0
    for k in range(n):
        before = t[begin + k] - t[begin + k - 1] if k > 0 else 0.0
        behind = t[begin + k + 1] - t[begin + k] if k < n - 1 else 0.0
        of[k] = 0.5 * (before + behind)
        total += of[k] * y[begin + k]
        part = of[k] * (y[begin + k] - plateau[MEAN])
        beyond += part
        largest = max(largest, abs(part))
    row[CHARGE], row[SWITCHED], row[LEAKAGE] = total, beyond, plateau[MEAN]
    # The switch may be anywhere within an interval.
    edge = 0.0
    for k in range(1, min(GAP, n - 1) + 1):
        step = (t[begin + k] - t[begin + k - 1]) * (y[begin + k] - y[begin + k - 1])
        edge = max(edge, abs(step) / math.sqrt(12.0))
    row[SE_CHARGE] = math.hypot(sigma * math.sqrt(variance_of_sum(of, phi)), edge)
    m = int(plateau[COUNT])
    for k in range(n - m, n):
        of[k] -= span / m
    error = sigma * math.sqrt(variance_of_sum(of, phi))
    # A leakage that goes on changing as it does within its quarter.
    wider = (1.0 + phi) / (1.0 - phi)
    seen = CHANGES * sigma * math.sqrt(4.0 * wider / m)
    drift = abs(plateau[CHANGE]) * span if abs(plateau[CHANGE]) > seen else 0.0
    row[SE_SWITCHED] = math.hypot(math.hypot(error, drift), edge)
    # Parts of noise alone are as large as their sum.
    if largest > OF_ONE_SAMPLE * abs(beyond) and largest > SEEN * error:
        return FAST
    return UNSETTLED if drift > UNKNOWN * abs(beyond) and drift > error else FOUND


@kernel
def middle_of(vg, begin, end):
    """Return the median of the finite gate voltages of a phase; NaN where there is none."""
    used = np.empty(end - begin)
    n = 0
    for k in range(begin, min(end, vg.size)):
        if abs(vg[k]) < OVERFLOW:
            used[n] = vg[k]
            n += 1
    return np.median(used[:n]) if n else math.nan


@kernel
def charge_step(y, t, vg, first, length, kind, rows, codes):
    """Integrate the gate current over all phases of a step.

    Parameters
    ----------
    y, t
        Gate current and times, increasing.  Shape (N,).
    vg
        Gate voltage.  Shape (N,), or (0,) where it is not recorded.
    first, length, kind
        First samples and lengths of the phases, in the order of time, and their kind, 0 or 1.
        Shape (W,), int64.
    rows, codes
        Get the columns, and ``FOUND`` ... ``UNSETTLED``.  Shapes (W, 6) and (W,).
    """
    n_phases = first.size
    plateaus = np.zeros((n_phases, N_KNOWN))
    good = np.zeros(n_phases, np.bool_)
    begins = first.copy()
    longest = 1
    for w in range(n_phases):
        rows[w] = math.nan
        end = first[w] + length[w]
        if w > 0:
            gap = first[w] - first[w - 1] - length[w - 1]
            # Most of the charge flows at the switch, where a fit leaves samples out.
            if 0 <= gap <= GAP + length[w] // 20:
                begins[w] = first[w - 1] + length[w - 1] - 1
                rows[w, GATE_STEP] = middle_of(vg, first[w], end) - middle_of(
                    vg, first[w - 1], first[w - 1] + length[w - 1]
                )
        longest = max(longest, end - begins[w])
        codes[w] = TOO_FEW if length[w] < FEWEST else FOUND
        for k in range(begins[w], end):
            if not abs(y[k]) < OVERFLOW:
                codes[w] = MARKED if abs(y[k]) >= OVERFLOW else NOT_FINITE
        good[w] = codes[w] == FOUND
        if good[w]:
            measure_plateau(y, first[w], length[w], plateaus[w])
    sigma = np.zeros(2)
    phi = noise_of(plateaus, good, kind, sigma)
    weights = np.empty(longest)
    for w in range(n_phases):
        if good[w]:
            codes[w] = charge_of_phase(
                y, t, begins[w], first[w] + length[w], plateaus[w], sigma[kind[w]], phi, weights,
                rows[w],
            )  # fmt: skip
