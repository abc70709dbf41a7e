"""Models of a phase where something is known beforehand: sums of squares of weighed samples.

This is :mod:`.downhill` with two differences: a sample has a weight, and derivatives are always by
``p`` and ``q`` themselves, so that those of windows that share an unknown can be added up.

Dimension letters: n samples of a window.
"""

from __future__ import annotations

import numpy as np

from oectflow.extractors.kernels.compiled import borrowing, kernel
from oectflow.extractors.kernels.coordinates import no_table
from oectflow.extractors.kernels.downhill import DOUBLE, differentiate, fill_columns, project

#: What :func:`look` tells: the sum of squares, its derivatives, halved, and the amplitudes.
RSS, BY_P, BY_Q, PP, PQ, QQ, A_1, A_2 = range(8)
N_SEEN = 8


@borrowing
def weigh(values, roots):
    """Take the weighted mean off a row, and multiply by the roots of the weights."""
    total = weights = 0.0
    for k in range(values.size):
        w = roots[k] * roots[k]
        total += w * values[k]
        weights += w
    mean = total / weights
    for k in range(values.size):
        values[k] = (values[k] - mean) * roots[k]


@kernel
def look(y, clock, even, model, roots, p, q, work, seen):
    """Fit the amplitudes at ``p`` and ``q``.

    Parameters
    ----------
    y
        The window after :func:`weigh`.  Shape (n,).
    clock, even, model, p, q
        As :func:`.downhill.fill_columns` takes them.
    roots
        Roots of the weights.  Shape (n,).
    work
        :func:`.mixtures.work_space`; keeps functions and derivatives, weighed, in its first seven
        rows, and residuals in the last one.
    seen
        Gets ``RSS`` ... ``A_2``.  Shape (8,).
    """
    n_linear = 2 if model == DOUBLE else 1
    long, short = work
    columns, residual = long[:7], long[7]
    alpha, gradient = short[0:2], short[4:6]
    factor, hessian = short[6:10].reshape(2, 2), short[10:14].reshape(2, 2)
    fill_columns(clock, even, model, p, q, no_table(), columns)
    for j in range(7):
        weigh(columns[j], roots)
    seen[RSS] = project(y, columns, n_linear, factor, alpha, residual)
    # Bounds without room between them: derivatives by p and q themselves.
    held = np.zeros((2, 2))
    differentiate(
        model, p, q, held, columns, n_linear, factor, alpha, residual, gradient, hessian
    )  # fmt: skip
    seen[BY_P], seen[BY_Q] = gradient
    seen[PP], seen[PQ], seen[QQ] = hessian[0, 0], hessian[1, 0], hessian[1, 1]
    seen[A_1], seen[A_2] = alpha
