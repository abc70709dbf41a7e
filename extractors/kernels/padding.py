"""Continue a finite series beyond its ends, as PyWavelets' modes of the same names do.

Dimension letters: n samples of the series, P samples of the buffer around it.
"""

from __future__ import annotations

from oectflow.extractors.kernels.compiled import borrowing

SYMMETRIC, SMOOTH, ANTIREFLECT, REFLECT, PERIODIC, ZERO, CONSTANT = range(7)


@borrowing
def extend(p, first, n, left, right, mode):
    """Fill ``left`` samples before a series and ``right`` samples behind it.

    A series of one sample has no slope and no neighbour: ``smooth``, ``reflect`` and
    ``antireflect`` then repeat it.

    Parameters
    ----------
    p
        Buffer; the series is ``p[first : first + n]``.  Shape (P,).
    first, n
        Begin and length of the series, n >= 1.
    left, right
        How many samples to fill; ``first >= left`` and ``P >= first + n + right``.
    mode
        ``SYMMETRIC`` (edge sample repeated: x1 x0 | x0 x1), ``REFLECT`` (edge sample not repeated:
        x2 x1 | x0 x1), ``ANTIREFLECT`` (the same, point-mirrored at the edge), ``SMOOTH`` (straight
        line through the two outer samples), ``PERIODIC``, ``ZERO`` or ``CONSTANT``.
    """
    last = first + n - 1
    if n == 1 and mode in (SMOOTH, ANTIREFLECT, REFLECT):
        mode = CONSTANT
    # Every mode is a recurrence on what is filled already: indices computed with remainders made
    # the transform of 100 samples three times slower.
    if mode == SYMMETRIC:
        for k in range(min(left, n)):
            p[first - 1 - k] = p[first + k]
        for k in range(n, left):
            p[first - 1 - k] = p[first - 1 - k + 2 * n]
        for k in range(min(right, n)):
            p[last + 1 + k] = p[last - k]
        for k in range(n, right):
            p[last + 1 + k] = p[last + 1 + k - 2 * n]
    elif mode == REFLECT:
        for k in range(1, min(left, n - 1) + 1):
            p[first - k] = p[first + k]
        for k in range(n, left + 1):
            p[first - k] = p[first - k + 2 * n - 2]
        for k in range(1, min(right, n - 1) + 1):
            p[last + k] = p[last - k]
        for k in range(n, right + 1):
            p[last + k] = p[last + k - 2 * n + 2]
    elif mode == ANTIREFLECT:
        twice_rise = 2 * (p[last] - p[first])
        for k in range(1, min(left, n - 1) + 1):
            p[first - k] = 2 * p[first] - p[first + k]
        for k in range(n, left + 1):
            p[first - k] = p[first - k + 2 * n - 2] - twice_rise
        for k in range(1, min(right, n - 1) + 1):
            p[last + k] = 2 * p[last] - p[last - k]
        for k in range(n, right + 1):
            p[last + k] = p[last + k - 2 * n + 2] + twice_rise
    elif mode == SMOOTH:
        slope = p[first] - p[first + 1]
        for k in range(1, left + 1):
            p[first - k] = p[first] + k * slope
        slope = p[last] - p[last - 1]
        for k in range(1, right + 1):
            p[last + k] = p[last] + k * slope
    elif mode == PERIODIC:
        for k in range(1, left + 1):
            p[first - k] = p[first - k + n]
        for k in range(1, right + 1):
            p[last + k] = p[last + k - n]
    elif mode == ZERO:
        p[first - left : first] = 0
        p[last + 1 : last + 1 + right] = 0
    else:
        p[first - left : first] = p[first]
        p[last + 1 : last + 1 + right] = p[last]
