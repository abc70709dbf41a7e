"""Exponentials without a call and without a branch, for loops over fits side by side.

The compiler turns a loop over lanes into vector instructions only where nothing in it is called.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_PER_LN2 = 1.4426950408889634
#: ``ln 2`` in two parts, of which a whole number times the first is exact.
_LN2, _LN2_REST = 0.6931471803691238, 1.9082149292705877e-10
#: Added to a number, it leaves that number, rounded, in the last bits.
_ROUND = 6755399441055744.0


@njit(inline="always", error_model="numpy")
def parts(x):
    """Return a power of two ``m`` and ``d``, to 2 ulp: ``exp(x)`` is ``m + m d``; |x| < 700."""
    shifted = x * _PER_LN2 + _ROUND
    m = shifted - _ROUND
    r = (x - m * _LN2) - m * _LN2_REST
    # (exp(r) - 1) / r for |r| <= ln 2 / 2, through Chebyshev points beyond its first two terms:
    # 8e-17 is left.
    p = 2.5095547589810930e-08 * r + 2.7613797645615640e-07
    p = p * r + 2.7557280079787370e-06
    p = p * r + 2.4801536405296596e-05
    p = p * r + 1.9841269854332220e-04
    p = p * r + 1.3888888905873230e-03
    p = p * r + 8.3333333333321570e-03
    p = p * r + 4.1666666666651364e-02
    p = p * r + 1.6666666666666666e-01
    p = p * r + 0.5
    p = p * r + 1.0
    # 2^m by its exponent.
    power = np.int64((np.float64(shifted).view(np.int64) + 1023) << 52).view(np.float64)
    return power, r * p


@njit(inline="always", error_model="numpy")
def exponential(x):
    """Return ``exp(x)``."""
    power, more = parts(x)
    return power + power * more


@njit(inline="always", error_model="numpy")
def less_one(x):
    """Return ``exp(x) - 1``; no digits are lost where ``x`` is small."""
    power, more = parts(x)
    return power * more + (power - 1.0)
