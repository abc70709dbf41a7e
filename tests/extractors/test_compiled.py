"""Kernels that only borrow arrays are right as long as nobody expects a counted one of them."""

from __future__ import annotations

import pkgutil
import sys
from collections.abc import Iterator
from types import CodeType

import numba
import numpy as np
import pytest
from numba.core import types
from numba.core.dispatcher import Dispatcher
from numba.core.errors import NumbaError

from oectflow.extractors import kernels
from oectflow.extractors.kernels.compiled import borrowing, copy_row
from oectflow.extractors.warm import warm_up

REFUSED = r"NRT required|Only accept returning of array"

pytestmark = pytest.mark.skipif(
    numba.config.DISABLE_JIT, reason="only compiled code counts references"
)


def all_kernels() -> dict[str, Dispatcher]:
    """Return every kernel, with all that was compiled of it, in this process or before."""
    found = {}
    for info in pkgutil.iter_modules(kernels.__path__):
        for name, one in vars(sys.modules[f"{kernels.__name__}.{info.name}"]).items():
            if isinstance(one, Dispatcher) and one.py_func.__module__.endswith(f".{info.name}"):
                found[f"{info.name}.{name}"] = one
    for one in found.values():
        # What is called only by other kernels is on the disk, and nowhere in a dispatcher.
        cached = getattr(one._cache, "_cache_file", None)
        for signature, *_ in cached._load_index() if cached else ():
            one.compile(signature)
    return found


def holds_arrays(kind: types.Type) -> bool:
    if isinstance(kind, types.BaseTuple):
        return any(holds_arrays(part) for part in kind)
    return isinstance(kind, types.Array)


def names_in(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from names_in(constant)


def test_borrowing__no_kernel_returns_an_array_or_takes_one_from_another():
    warm_up()
    found = all_kernels()
    returned = {
        id(one)
        for one in found.values()
        if any(holds_arrays(c.signature.return_type) for c in one.overloads.values())
    }
    borrowers = {n: one for n, one in found.items() if one.targetoptions.get("_nrt") is False}
    compiled = sum(bool(one.overloads) for one in borrowers.values())
    # Some are only for plots, and for parameters that are not the usual ones.
    assert len(returned) > 10
    assert compiled > 0.9 * len(borrowers) > 200
    wrong = [name for name, one in borrowers.items() if id(one) in returned]
    for name, one in borrowers.items():
        called = (one.py_func.__globals__.get(n) for n in names_in(one.py_func.__code__))
        wrong += [f"{name} calls {c.py_func.__name__}" for c in called if id(c) in returned]
    assert not wrong, "these have to be @kernel"


def test_borrowing__numba_refuses_to_make_an_array():
    with pytest.raises(NumbaError, match=REFUSED):
        borrowing(lambda n: np.zeros(n).sum())(3)
    with pytest.raises(NumbaError, match=REFUSED):
        borrowing(lambda x: x[1:])(np.zeros(3))


def test_borrowing__references_are_as_many_as_before():
    x = np.arange(6.0)
    before = sys.getrefcount(x)

    @borrowing
    def inner(part, to):
        copy_row(part[1:], to)
        return part[0]

    @numba.njit
    def outer(x, n):
        total = 0.0
        for k in range(n):
            to = np.empty(2)
            total += inner(x[k : k + 3], to) + to[1]
        return total

    assert outer(x, 4) == sum(range(4)) + sum(range(2, 6))
    assert sys.getrefcount(x) == before
