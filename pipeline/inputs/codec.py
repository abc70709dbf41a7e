"""What HDF5's shuffle and fletcher32 filters do, as compiled loops.

References
----------
HDF5 File Format Specification, filters 2 and 3; RFC 1145 for the byte order of such checksums.
"""

from __future__ import annotations

import numpy as np
from numba import njit

# So many 16-bit words that their sum, each counted up to so many times, stays below 2**32.
_BLOCK = 360


@njit(nogil=True, cache=True)
def fletcher32(data):
    """Return the checksum that HDF5 stores behind a chunk.

    Parameters
    ----------
    data
        The bytes that it protects; an odd one at the end counts as the high half of a word.
        Shape (n,).

    Returns
    -------
    Fletcher's checksum of the bytes as big-endian words, modulo 65535, where zero stands for zeros
    only.
    """
    n = data.size // 2
    words = data[: 2 * n].view(np.uint16)
    # Modulo 65535 a swap of bytes is a factor of 256: sums of swapped words are swapped sums.
    low, high = np.uint64(0), np.uint64(0)
    for start in range(0, n, _BLOCK):
        block = words[start : start + _BLOCK]
        total, weighted = np.uint32(0), np.uint32(0)
        for k in range(block.size):
            word = np.uint32(block[k])
            total += word
            weighted += word * np.uint32(block.size - k)
        high += low * np.uint64(block.size) + np.uint64(weighted)
        low += np.uint64(total)
        low, high = _fold(low), _fold(high)
    if data.size % 2:
        low += np.uint64(data[data.size - 1])
        high += low
    return (_swapped(_fold(high)) << np.uint64(16)) | _swapped(_fold(low))


@njit(nogil=True, cache=True)
def _fold(total):
    while total > np.uint64(0xFFFF):
        total = (total & np.uint64(0xFFFF)) + (total >> np.uint64(16))
    return total


@njit(nogil=True, cache=True)
def _swapped(word):
    return ((word & np.uint64(0xFF)) << np.uint64(8)) | (word >> np.uint64(8))


@njit(nogil=True, cache=True)
def unshuffle(data, first, out):
    """Put the bytes of some elements together again.

    Parameters
    ----------
    data
        First bytes of all elements of 8 bytes, then all second bytes, …  Shape (8 n,).
    first
        The element that comes first in ``out``.
    out
        Gets the elements, little-endian.  Shape (at most n - first,).
    """
    n, m = data.size // 8, out.size
    # One slice per byte and one index for all: LLVM turns this into vector instructions.
    b0, b1 = data[first : first + m], data[n + first : n + first + m]
    b2, b3 = data[2 * n + first : 2 * n + first + m], data[3 * n + first : 3 * n + first + m]
    b4, b5 = data[4 * n + first : 4 * n + first + m], data[5 * n + first : 5 * n + first + m]
    b6, b7 = data[6 * n + first : 6 * n + first + m], data[7 * n + first : 7 * n + first + m]
    for k in range(m):
        out[k] = (
            np.uint64(b0[k])
            | (np.uint64(b1[k]) << np.uint64(8))
            | (np.uint64(b2[k]) << np.uint64(16))
            | (np.uint64(b3[k]) << np.uint64(24))
            | (np.uint64(b4[k]) << np.uint64(32))
            | (np.uint64(b5[k]) << np.uint64(40))
            | (np.uint64(b6[k]) << np.uint64(48))
            | (np.uint64(b7[k]) << np.uint64(56))
        )
