"""A fingerprint of a Python function that a user gives as a derived feature.

Bytecode, constants, defaults, and what the function refers to, as far as that is plain data or
functions of the user.  Functions of installed packages count by name.  The fingerprint differs
between Python versions, as bytecode does; then a cheap derived feature is computed again.
"""

from __future__ import annotations

import functools
import hashlib
import sysconfig
import types
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

_INSTALLED = tuple(
    str(Path(sysconfig.get_paths()[key]).resolve()) for key in ("stdlib", "purelib", "platlib")
)


class _NotPinned(Exception):
    """The function depends on an object whose content has no canonical form."""


def callable_fingerprint(function: Callable[..., Any]) -> str:
    """Return a text that changes whenever what the function computes may have changed.

    Parameters
    ----------
    function
        A function, lambda, method, ``functools.partial`` or NumPy function.

    Returns
    -------
    32 hexadecimal digits.  Where the function depends on an object that cannot be pinned down, such
    as a fitted model, the text is new at every call, so that nothing old is ever taken for current.
    """
    try:
        text = _text(function, [])
    except _NotPinned:
        return uuid.uuid4().hex
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _text(value: Any, path: list[int]) -> str:
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes, type(...))):
        return f"{type(value).__name__}:{value!r}"
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "biufcSU":
        digest = hashlib.blake2b(np.ascontiguousarray(value).tobytes(), digest_size=16).hexdigest()
        return f"array:{value.dtype.str}:{value.shape}:{digest}"
    if isinstance(value, types.ModuleType):
        return f"module:{value.__name__}"
    if isinstance(value, np.ufunc):
        return f"ufunc:{value.__name__}"
    if id(value) in path:
        return f"above:{len(path) - path.index(id(value))}"
    below = [*path, id(value)]
    if isinstance(value, (tuple, list)):
        return f"{type(value).__name__}:({','.join(_text(item, below) for item in value)})"
    if isinstance(value, (set, frozenset)):
        return f"set:({','.join(sorted(_text(item, below) for item in value))})"
    if isinstance(value, Mapping):
        items = sorted(f"{_text(k, below)}={_text(v, below)}" for k, v in value.items())
        return f"mapping:({','.join(items)})"
    if isinstance(value, functools.partial):
        return f"partial:{_text((value.func, value.args, value.keywords), below)}"
    if isinstance(value, types.MethodType):
        return f"method:{_text((value.__self__, value.__func__), below)}"
    if isinstance(value, types.CodeType):
        return _code_text(value, below)
    if isinstance(value, types.FunctionType):
        return _function_text(value, below)
    if isinstance(value, (types.BuiltinFunctionType, type)) and _is_installed(value):
        return f"name:{value.__module__}.{value.__qualname__}"
    wrapped = getattr(value, "__wrapped__", None)
    if isinstance(wrapped, types.FunctionType) and _is_installed(wrapped):
        return f"name:{wrapped.__module__}.{wrapped.__qualname__}"
    raise _NotPinned


def _is_installed(value: Any) -> bool:
    if isinstance(value, types.FunctionType):
        return str(Path(value.__code__.co_filename).resolve()).startswith(_INSTALLED)
    return isinstance(value, types.BuiltinFunctionType) or value.__module__ == "builtins"


def _code_text(code: types.CodeType, path: list[int]) -> str:
    names = (code.co_names, code.co_varnames, code.co_freevars)
    shape = (code.co_argcount, code.co_kwonlyargcount, code.co_flags)
    return f"code:{code.co_code.hex()}:{_text((code.co_consts, names, shape), path)}"


def _function_text(function: types.FunctionType, path: list[int]) -> str:
    if _is_installed(function):
        return f"name:{function.__module__}.{function.__qualname__}"
    used = {
        name: function.__globals__[name]
        for name in sorted(_names(function.__code__))
        if name in function.__globals__
    }
    cells = tuple(cell.cell_contents for cell in function.__closure__ or ())
    parts = (function.__code__, function.__defaults__, function.__kwdefaults__, cells, used)
    return f"function:{_text(parts, path)}"


def _names(code: types.CodeType) -> set[str]:
    nested = (const for const in code.co_consts if isinstance(const, types.CodeType))
    return set(code.co_names).union(*(_names(inner) for inner in nested))
