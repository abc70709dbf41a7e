"""Newton's method with damping, many ways side by side.

This does what :func:`.downhill.refine` does, step by step, for whoever fills in what a point
explains and its derivatives.  A way does not depend on those beside it, and ends when it ends: its
lane then takes the next one.
"""

from __future__ import annotations

import math

from oectflow.extractors.kernels.compiled import borrowing
from oectflow.extractors.kernels.downhill import (
    DAMPING,
    DOUBLE,
    LEAST_APART,
    LONGEST,
    NEAR,
    SINGULAR,
    STUCK,
)

#: Ways side by side.
LANES = 16
#: Evaluations on one way, at most.
MOST = 150
#: Step and damping from which on Newton's method needs one more step.
NEARLY, LITTLE = 1e-5, 1e-5
#: Step below which nothing is gained.
CLOSE = 1e-8
#: Share of what is left that rounding may be.
DOUBTFUL = 1e-6

# Rows of the work space.  Unknowns; then what is to be filled in: what a point explains, the
# derivatives of half of what is left, and what rounding may do to the first of these.
P, Q, GAIN, BY_P, BY_Q, PP, PQ, QQ, NOISE = range(9)
# What is returned: what is left where a way has ended, whether it has, and whether to trust it.
LEFT, ENDED, DOUBTED = range(9, 12)
# Where a way is, its derivatives there, how it goes on, and within which bounds.
_AT_P, _AT_Q, _AT_GAIN, _G1, _G2, _H11, _H12, _H22 = range(12, 20)
_DAMPING, _MOVED, _COUNT, _MISSING = range(20, 24)
_P_LOW, _P_HIGH, _Q_LOW, _Q_HIGH, _PAIR, _FREE, _TOTAL = range(24, 31)
ROWS = 31


@borrowing
def idle(w):
    """Put all lanes where nothing goes wrong."""
    for i in range(LANES):
        w[Q * LANES + i] = w[_TOTAL * LANES + i] = 1.0


@borrowing
def begin(model, total, start, bounds, lane, w):
    """Put a lane where a way begins.

    Parameters
    ----------
    model
        ``DOUBLE`` or ``STRETCHED``.
    total
        Sum of squares of the window.
    start, bounds
        ``p`` and ``q``, shape (2,), and the least and greatest ones, shape (2, 2).
    """
    for k in range(2):
        w[(P + k) * LANES + lane] = start[k]
        w[(_P_LOW + 2 * k) * LANES + lane] = bounds[k, 0]
        w[(_P_HIGH + 2 * k) * LANES + lane] = bounds[k, 1]
    free = bounds[0, 0] < bounds[0, 1] and bounds[1, 0] < bounds[1, 1]
    w[_PAIR * LANES + lane] = 1.0 if model == DOUBLE else 0.0
    w[_FREE * LANES + lane] = 1.0 if model == DOUBLE and free else 0.0
    w[_TOTAL * LANES + lane] = total
    w[_COUNT * LANES + lane] = 0.0


@borrowing
def step_all(w, enough):
    """Go on in all lanes, from what was filled in.

    ``enough`` is a share of the sum of squares: a step that would take less off it is the last one.
    ``LEFT`` and ``DOUBTED`` of a way that has ended say what is left of the sum of squares, and 0;
    the share of that which rounding may be, or :data:`DOUBTFUL`, where it is no optimum for sure.
    """
    accept(w)
    make_definite(w)
    move(w, enough)


@borrowing
def accept(w):
    """Take, in every lane, what is better than before, in coordinates in which it is smooth."""
    for i in range(LANES):
        p, q = w[P * LANES + i], w[Q * LANES + i]
        gain = w[GAIN * LANES + i]
        first = w[_COUNT * LANES + i] == 0.0
        # A step that rounding hides is taken: derivatives know better.
        better = (gain + w[NOISE * LANES + i] > w[_AT_GAIN * LANES + i]) | first
        near = (w[_FREE * LANES + i] == 1.0) & (q - p < NEAR)
        by_p, by_q = w[BY_P * LANES + i], w[BY_Q * LANES + i]
        a, b, c = w[PP * LANES + i], w[PQ * LANES + i], w[QQ * LANES + i]
        # As in downhill.differentiate and downhill.hold.
        per_s = 2.0 / (q - p)
        by_s = (by_q - by_p) * per_s
        bend = 0.25 * (a - 2.0 * b + c - by_s) * per_s * per_s
        g1 = by_p + by_q if near else by_p
        g2 = 0.5 * by_s if near else by_q
        h11 = a + 2.0 * b + c if near else a
        h12 = 0.5 * (c - a) * per_s if near else b
        h22 = bend if near else c
        free1 = near | (p > w[_P_LOW * LANES + i])
        free2 = q - p > LEAST_APART * (1.0 + 1e-9) if near else q > w[_Q_LOW * LANES + i]
        below1 = near | (p < w[_P_HIGH * LANES + i])
        below2 = near | (q < w[_Q_HIGH * LANES + i])
        goes1 = (free1 | (g1 <= 0.0)) & (below1 | (g1 >= 0.0))
        goes2 = (free2 | (g2 <= 0.0)) & (below2 | (g2 >= 0.0))
        g1 = g1 if goes1 else 0.0
        g2 = g2 if goes2 else 0.0
        h11 = h11 if goes1 else 1.0
        h22 = h22 if goes2 else 1.0
        h12 = h12 if goes1 & goes2 else 0.0
        w[_AT_P * LANES + i] = p if better else w[_AT_P * LANES + i]
        w[_AT_Q * LANES + i] = q if better else w[_AT_Q * LANES + i]
        w[_AT_GAIN * LANES + i] = gain if better else w[_AT_GAIN * LANES + i]
        w[_G1 * LANES + i] = g1 if better else w[_G1 * LANES + i]
        w[_G2 * LANES + i] = g2 if better else w[_G2 * LANES + i]
        w[_H11 * LANES + i] = h11 if better else w[_H11 * LANES + i]
        w[_H12 * LANES + i] = h12 if better else w[_H12 * LANES + i]
        w[_H22 * LANES + i] = h22 if better else w[_H22 * LANES + i]
        damping = w[_DAMPING * LANES + i]
        more = damping * 10.0 if damping * 10.0 > DAMPING else DAMPING
        less = DAMPING if first else damping * 0.1
        w[_DAMPING * LANES + i] = less if better else more
        doubt = w[NOISE * LANES + i] / (w[_TOTAL * LANES + i] - gain)
        # By rounding, less than nothing may be left.
        worse = doubt if (doubt >= 0.0) & (doubt < 1.0) else 1.0
        w[DOUBTED * LANES + i] = 0.0 if worse < DOUBTFUL else worse
        stalled = (not better) & (w[_MOVED * LANES + i] < CLOSE)
        w[ENDED * LANES + i] = 1.0 if stalled else 0.0
        w[_COUNT * LANES + i] += 1.0


@borrowing
def make_definite(w):
    """Raise the damping of every lane until its matrix is positive definite."""
    for _ in range(MOST):
        missing = 0.0
        for i in range(LANES):
            h11, b, h22 = w[_H11 * LANES + i], w[_H12 * LANES + i], w[_H22 * LANES + i]
            damping = w[_DAMPING * LANES + i]
            a = h11 + damping * abs(h11)
            c = h22 + damping * abs(h22)
            rest = a * c - b * b
            fine = ((a > 0.0) & (rest > SINGULAR * a * c)) | (damping >= STUCK)
            more = damping * 10.0 if damping * 10.0 > DAMPING else DAMPING
            w[_DAMPING * LANES + i] = damping if fine else more
            w[_MISSING * LANES + i] = 0.0 if fine else 1.0
        for i in range(LANES):
            missing += w[_MISSING * LANES + i]
        if missing == 0.0:
            break


@borrowing
def move(w, enough):
    """Take a damped step of Newton's in every lane, as :func:`.downhill.refine` does."""
    for i in range(LANES):
        p, q = w[_AT_P * LANES + i], w[_AT_Q * LANES + i]
        damping = w[_DAMPING * LANES + i]
        h11, b, h22 = w[_H11 * LANES + i], w[_H12 * LANES + i], w[_H22 * LANES + i]
        g1, g2 = w[_G1 * LANES + i], w[_G2 * LANES + i]
        a = h11 + damping * abs(h11)
        c = h22 + damping * abs(h22)
        scale = 1.0 / (a * c - b * b)
        d1 = (c * g1 - b * g2) * scale
        d2 = (a * g2 - b * g1) * scale
        gain = 0.5 * (g1 * d1 + g2 * d2)
        longest = abs(d1) if abs(d1) > abs(d2) else abs(d2)
        shorter = LONGEST / longest if longest > LONGEST else 1.0
        d1 *= -shorter
        d2 *= -shorter
        # As in downhill.stay.
        near = (w[_FREE * LANES + i] == 1.0) & (q - p < NEAR)
        square = 0.25 * (q - p) * (q - p) + d2
        least = 0.25 * LEAST_APART * LEAST_APART
        half = math.sqrt(square if square > least else least)
        middle = 0.5 * (p + q) + d1
        new_p = middle - half if near else p + d1
        new_q = middle + half if near else q + d2
        p_low, p_high = w[_P_LOW * LANES + i], w[_P_HIGH * LANES + i]
        q_low, q_high = w[_Q_LOW * LANES + i], w[_Q_HIGH * LANES + i]
        new_p = new_p if new_p > p_low else p_low
        new_p = new_p if new_p < p_high else p_high
        new_q = new_q if new_q > q_low else q_low
        new_q = new_q if new_q < q_high else q_high
        middle = 0.5 * (new_p + new_q)
        middle = middle if middle > p_low + LEAST_APART else p_low + LEAST_APART
        middle = middle if middle < q_high - LEAST_APART else q_high - LEAST_APART
        close = (w[_PAIR * LANES + i] == 1.0) & (new_q - new_p < LEAST_APART)
        new_p = middle - 0.5 * LEAST_APART if close else new_p
        new_q = middle + 0.5 * LEAST_APART if close else new_q
        moved_p, moved_q = abs(new_p - p), abs(new_q - q)
        moved = moved_p if moved_p > moved_q else moved_q
        w[_MOVED * LANES + i] = moved
        left = w[_TOTAL * LANES + i] - w[_AT_GAIN * LANES + i]
        # Newton's method squares what is missing; a step that is worth nothing is the last one.
        last = ((gain < enough * left) & (damping < 1.0)) | ((moved < NEARLY) & (damping <= LITTLE))
        stalled = w[ENDED * LANES + i] == 1.0
        stuck = damping >= STUCK
        late = w[_COUNT * LANES + i] > MOST
        w[LEFT * LANES + i] = left - 2.0 * gain if last & (not stalled) else left
        w[P * LANES + i] = p if stalled else new_p
        w[Q * LANES + i] = q if stalled else new_q
        doubt = w[DOUBTED * LANES + i]
        doubtful = (doubt > 0.0) | stuck | late
        w[DOUBTED * LANES + i] = DOUBTFUL if (stuck | late) & (doubt == 0.0) else doubt
        w[ENDED * LANES + i] = 1.0 if last | stalled | doubtful else 0.0
