"""How kernels are compiled."""

from __future__ import annotations

from numba import njit

_OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy"}

#: For kernels that make arrays, or call a kernel that returns some.
kernel = njit(**_OPTIONS, _nrt=True)
#: For all others.  They only borrow arrays and need not count who uses them: Numba counts at every
#: call and for every part of an array, with two atomic instructions of some 5 ns each.  That was a
#: third of the time of fits and crossings.  Numba refuses to make an array in such a kernel (0.61
#: also refuses to assign a tuple to a part of one), and ``tests/extractors/test_compiled.py`` finds
#: whoever returns an array or is given one to keep.
borrowing = njit(**_OPTIONS, _nrt=False)


@borrowing
def copy_row(row, to):
    """Copy numbers; ``to[:] = row`` would make an array where the two might overlap."""
    for k in range(row.size):
        to[k] = row[k]
