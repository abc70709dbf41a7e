"""Newton steps towards the optimal ``tau`` in closed forms, for windows of even samples.

The sums over ``exp(-k x)`` (``x = 1 / tau``) and its derivatives are those of a geometric series,
``G(x) = (1 - exp(-n x)) / (1 - exp(-x))``, of ``G(2 x)``, and their first two derivatives.  With
the samples they are a polynomial in ``exp(-x)`` and its first two derivatives, by Horner's rule:
three multiplications per sample, where the sums of :mod:`.simd_fit` take twelve.

Where ``tau`` is much longer than the window, differences of large numbers are left, and digits are
lost.  So this is the way to the optimum, and the last step is for :mod:`.simd_fit`.

Dimension letters: n samples of a window.
"""

from __future__ import annotations

from oectflow.extractors.kernels.compiled import borrowing
from oectflow.extractors.kernels.tau_grid import TAU_MIN
from oectflow.extractors.kernels.vectors import (
    WIDE,
    fma,
    like,
    load_wide,
    store,
    where_less,
)


@borrowing
def less_one(x):
    """Return ``exp(x) - 1`` of a vector, for ``-10.24 <= x <= 0``."""
    # Taylor for x / 32 (12 terms: 2e-16), squared five times.
    one, two = like(x, 1.0), like(x, 2.0)
    x = x * like(x, 1.0 / 32.0)
    p = fma(x, like(x, 1.0 / 12.0), one)
    p = fma(x * like(x, 1.0 / 11.0), p, one)
    p = fma(x * like(x, 1.0 / 10.0), p, one)
    p = fma(x * like(x, 1.0 / 9.0), p, one)
    p = fma(x * like(x, 1.0 / 8.0), p, one)
    p = fma(x * like(x, 1.0 / 7.0), p, one)
    p = fma(x * like(x, 1.0 / 6.0), p, one)
    p = fma(x * like(x, 1.0 / 5.0), p, one)
    p = fma(x * like(x, 1.0 / 4.0), p, one)
    p = fma(x * like(x, 1.0 / 3.0), p, one)
    p = x * fma(x * like(x, 1.0 / 2.0), p, one)
    p = p * (two + p)
    p = p * (two + p)
    p = p * (two + p)
    p = p * (two + p)
    return p * (two + p)


@borrowing
def newton_step(y, n, longest, near, rates, done):
    """Take one Newton step in every lane that is not done.

    Parameters
    ----------
    y
        Centred windows, sample by sample.  Shape (n * WIDE,).
    n
        Samples in a window.
    longest
        Longest ``tau``, in samples: no step leads beyond it, or below ``TAU_MIN``.
    near
        Step in ``ln tau`` from which on a lane is done.
    rates
        ``1 / tau`` of every lane; overwritten.  Shape (WIDE,).
    done
        1 where a lane is done; overwritten.  Shape (WIDE,).
    """
    x = load_wide(rates, 0)
    zero, one, two = like(x, 0.0), like(x, 1.0), like(x, 2.0)
    many, scale = like(x, n), like(x, 1.0 / n)
    drop = less_one(zero - x)
    r = one + drop
    # The polynomial and its derivatives, the second one halved.
    p, p_1, p_2 = zero, zero, zero
    for k in range(n - 1, -1, -1):
        p_2 = fma(p_2, r, p_1)
        p_1 = fma(p_1, r, p)
        p = fma(p, r, load_wide(y, k * WIDE))
    # exp(-n x) - 1, by squaring.
    last, power = zero, drop
    m = n
    while m > 0:
        if m % 2 == 1:
            last = last + fma(power, last, power)
        power = power * (two + power)
        m //= 2
    g, g_1, g_2 = geometric(many, drop, last)
    e, e_1, e_2 = geometric(many, drop * (two + drop), last * (two + last))
    sh, sq = zero - x * g_1, x * fma(x, g_2, g_1)
    mean = g * scale
    ff = e - g * mean
    fh = zero - fma(x, e_1, mean * sh)
    hh = x * x * e_2 - sh * sh * scale
    fq = x * fma(x, e_2, e_1) - mean * sq
    hy = x * r * p_1
    qy = x * fma(two * x * r * r, p_2, hy) - hy
    inverse = one / ff
    alpha = p * inverse
    gradient = hy - alpha * fh
    curvature = (qy - alpha * fq) - alpha * (hh - fh * fh * inverse) - gradient * fh * inverse
    step = zero - gradient / curvature
    most = like(x, 0.7)
    step = where_less(most, step, most, step)
    step = where_less(step, zero - most, zero - most, step)
    # exp(-step) to third order.
    new = x * (two - step) / (two + step)
    new = where_less(new, like(x, 1.0 / TAU_MIN), new, x)
    new = where_less(like(x, 1.0 / longest), new, new, x)
    was = load_wide(done, 0)
    store(rates, 0, where_less(was, one, new, x))
    size = where_less(step, zero, zero - step, step)
    store(done, 0, where_less(size, like(x, near), one, was))


@borrowing
def geometric(n, drop, last):
    """Return the sum of ``exp(-k x)`` over ``k < n``, and its derivatives by ``x``.

    Parameters
    ----------
    n, drop, last
        Number of terms, ``exp(-x) - 1`` and ``exp(-n x) - 1``, as vectors.
    """
    zero, one = like(drop, 0.0), like(drop, 1.0)
    r = one + drop
    a = like(drop, -1.0) / drop
    b = r * a
    many = fma(n, last, n) * a
    g = (zero - last) * a
    return g, many - g * b, g * b * (a + b) - many * (n + b + b)
