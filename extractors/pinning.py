"""A text that changes whenever the computation of a user's Python code may have changed.

The text covers the source of functions and classes, without comments and docstrings, their defaults
and closures, and every global that they name: functions, classes, constants, arrays, and the used
parts of the user's modules.  If the source does not belong to the running code, the bytecode is
used instead, which differs between Python versions.  Installed packages count with name and
version, built-in extractors with their declared ``version``.

An object without a canonical form, such as a fitted model, cannot be pinned.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import fractions
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import logging
import pathlib
import re
import sys
import sysconfig
import types
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from pydantic import BaseModel

from oectflow.extractors.base import BaseExtractor, extractor_names, get_extractor
from oectflow.extractors.source_code import Names, code_text, names_in

_OURS = "oectflow"
_HOME = "oectflow.extractors"
#: Classes of ours that carry numbers but compute none: their name is enough.
_NOT_NUMERIC = frozenset(
    f"{_HOME}.{name}" for name in ("base", "fingerprint", "pinning", "source_code", "warm")
)
#: Entries of a class that do not affect its computation.
_WORDS = frozenset(
    {"name", "unit", "description", "definition", "formula", "reference", "Params", "_abc_impl"}
)
_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(...), range, slice)
_EXACT = (
    *(datetime.datetime, datetime.date, datetime.timedelta, decimal.Decimal),
    *(fractions.Fraction, pathlib.PurePath, re.Pattern, np.dtype, types.GenericAlias),
)
#: With these, code can reach objects that it does not name.
_ANYTHING = frozenset({"eval", "exec", "globals", "open", "__import__"})
_DESCRIPTORS = (types.MemberDescriptorType, types.GetSetDescriptorType)


class NotPinned(Exception):
    """Something that code depends on has no canonical form; the message names it."""


def callable_fingerprint(function: Callable[..., Any]) -> str:
    """Return a text that changes whenever what a function computes may have changed.

    Parameters
    ----------
    function
        A function, lambda, method, ``functools.partial`` or NumPy function.

    Returns
    -------
    32 hexadecimal digits.  If the function depends on something that cannot be pinned, every call
    returns a new text, so that no old result is taken for current.
    """
    return _digest(function, "") or uuid.uuid4().hex


def class_fingerprint(cls: type) -> str | None:
    """Return a text that changes whenever what a class with its bases computes may have changed.

    The package of the class is followed like code of the user, even if it is installed.

    Returns
    -------
    32 hexadecimal digits; None if it depends on something that cannot be pinned.
    """
    return _digest(cls, cls.__module__.partition(".")[0])


def is_built_in(cls: type) -> bool:
    """Whether a class belongs to this package."""
    return cls.__module__.startswith(f"{_HOME}.")


def _digest(value: Any, home: str) -> str | None:
    try:
        text = _Pinning(home).text(value)
    except NotPinned:
        return None
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


class _Pinning:
    """One walk through everything that a function or class depends on.

    Parameters
    ----------
    home
        An installed package that is followed all the same.
    """

    def __init__(self, home: str) -> None:
        self._home = home
        # Kept with the object itself, or another object might get its id.
        self._seen: dict[int, tuple[int, Any]] = {}

    def text(self, value: Any) -> str:
        """Return the text of anything.

        Raises
        ------
        NotPinned
            It has no canonical form.
        """
        if type(value) in _PLAIN or isinstance(value, _EXACT):
            return f"{type(value).__name__}:{value!r}"
        if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "biufcSUmM":
            array = np.ascontiguousarray(value)
            digest = hashlib.blake2b(array.tobytes(), digest_size=16).hexdigest()
            return f"array:{value.dtype.str}:{value.shape}:{digest}"
        if isinstance(value, tuple):
            return f"{type(value).__name__}:({self._all(value)})"
        if id(value) in self._seen:
            return f"again:{self._seen[id(value)][0]}"
        self._seen[id(value)] = len(self._seen), value
        if type(value) is list:
            return f"list:({self._all(value)})"
        if type(value) in (set, frozenset):
            return f"set:({','.join(sorted(_Pinning(self._home).text(item) for item in value))})"
        if type(value) in (dict, types.MappingProxyType):
            return f"mapping:({self._all(value.items())})"
        if isinstance(value, types.ModuleType):
            return self._module(value, Names())
        if isinstance(value, type):
            return self._class(value)
        return self._function(value) or self._instance(value)

    def _all(self, values: Iterable[Any]) -> str:
        return ",".join(self.text(value) for value in values)

    def _function(self, value: Any) -> str | None:
        """Return the text of a callable, None for anything else."""
        if isinstance(value, np.ufunc):
            return f"ufunc:{_home_of_ufunc(value)}.{value.__name__}"
        if isinstance(value, functools.partial):
            return f"partial:({self._all((value.func, value.args, value.keywords))})"
        if isinstance(value, types.MethodType):
            return f"method:({self._all((value.__self__, value.__func__))})"
        if isinstance(value, staticmethod | classmethod):
            return f"{type(value).__name__}:{self.text(value.__func__)}"
        if isinstance(value, property):
            return f"property:({self._all((value.fget, value.fset, value.fdel))})"
        if isinstance(value, functools.cached_property):
            return f"property:{self.text(value.func)}"
        # A compiled kernel keeps its Python function, and the options of the compiler.
        python = getattr(value, "py_func", None)
        if isinstance(python, types.FunctionType):
            options = sorted((k, repr(v)) for k, v in getattr(value, "targetoptions", {}).items())
            return f"compiled:{_version('numba')}:{options}:{self.text(python)}"
        if not callable(value):
            return None
        named = self._named(value)
        if named is not None:
            return named
        if isinstance(value, types.FunctionType):
            return self._python(value)
        wrapped = getattr(value, "__wrapped__", None)
        return None if wrapped is None else f"wrapped:{self.text(wrapped)}"

    def _named(self, value: Any) -> str | None:
        """Return name and version of an object of an installed package, or of Python."""
        name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
        module = getattr(value, "__module__", None)
        if isinstance(value, types.BuiltinFunctionType):
            owner = value.__self__
            bound = owner is not None and not isinstance(owner, types.ModuleType)
            return f"name:{module}.{name}:{self.text(owner) if bound else ''}"
        if not name or not module or self._is_followed(module):
            return None
        return f"name:{module}.{name}:{_version(module)}"

    def _is_followed(self, module: str) -> bool:
        top = module.partition(".")[0]
        if top == _OURS:
            return module.startswith(f"{_HOME}.") and module not in _NOT_NUMERIC
        return top == self._home or not _is_installed(top)

    def _python(self, function: types.FunctionType) -> str:
        names = names_in(function.__code__)
        used = {}
        for name in sorted(names.globals):
            if name in function.__globals__:
                used[name] = self._used(function.__globals__[name], names)
            elif name in _ANYTHING:
                raise NotPinned(f"{name}() in {function.__qualname__}")
        for level, name in sorted(names.imports):
            used[f"import {level} {name}"] = self._imported(function, level, name, names)
        cells = {}
        for name, cell in zip(
            function.__code__.co_freevars, function.__closure__ or (), strict=True
        ):
            try:
                cells[name] = self._used(cell.cell_contents, names)
            except ValueError:
                # Nothing is assigned yet.
                cells[name] = ""
        defaults = self._all((function.__defaults__, function.__kwdefaults__))
        return f"function:{code_text(function)}:({defaults}):{cells}:{used}"

    def _used(self, value: Any, names: Names) -> str:
        """Return the text of an object, for code that uses certain names of it."""
        if isinstance(value, types.ModuleType):
            return self._module(value, names)
        if value is get_extractor:
            # The code must contain the name of the extractor.
            found = sorted(names.words.intersection(extractor_names()))
            if not found:
                raise NotPinned("get_extractor of a name that is not in the code")
            return self._all(type(get_extractor(word)) for word in found)
        return self.text(value)

    def _imported(self, function: types.FunctionType, level: int, name: str, names: Names) -> str:
        package = function.__globals__.get("__package__") or ""
        try:
            absolute = importlib.util.resolve_name("." * level + name, package)
            return self._used(importlib.import_module(absolute), names)
        except ImportError:
            # The object that uses it will say so.
            return "missing"

    def _module(self, module: types.ModuleType, names: Names) -> str:
        """Return the text of the used parts of a module, or its version."""
        name = module.__name__
        ours = name.partition(".")[0] == _OURS
        if not ours and not self._is_followed(name):
            return f"module:{name}:{_version(name)}"
        # Our modules load some of their names on request.
        there = vars(module).keys() | (set(getattr(module, "__all__", ())) if ours else set())
        found = sorted(there & (names.attributes | names.globals))
        if not found and not ours:
            raise NotPinned(f"module {name}, of which nothing is named")
        parts = {word: self._used(getattr(module, word), names) for word in found}
        return f"module:{name}:{parts}"

    def _class(self, cls: type) -> str:
        texts = []
        for base in cls.__mro__[:-1]:
            name = f"{base.__module__}.{base.__qualname__}"
            if is_built_in(base) and issubclass(base, BaseExtractor):
                texts.append(f"{name}:{base.version}")
            elif not self._is_followed(base.__module__):
                texts.append(f"{name}:{_version(base.__module__)}")
            else:
                texts.append(f"{base.__qualname__}:{self._own(base)}")
        return f"class:({','.join(texts)})"

    def _own(self, cls: type) -> dict[str, str]:
        """Return the own entries of a class, by name."""
        entries = dict(vars(cls))
        parts = {}
        if issubclass(cls, enum.Enum | BaseModel):
            # The rest is the machinery of their bases.
            parts[""] = (
                self._all((name, member.value) for name, member in cls.__members__.items())
                if issubclass(cls, enum.Enum)
                else repr(cls.model_json_schema())
            )
            entries = {k: v for k, v in entries.items() if isinstance(v, types.FunctionType)}
        for name, entry in sorted(entries.items()):
            dunder = name[:2] == "__" and name[-2:] == "__"
            counts = isinstance(entry, types.FunctionType) if dunder else name not in _WORDS
            if counts and not isinstance(entry, _DESCRIPTORS):
                parts[name] = self.text(entry)
        return parts

    def _instance(self, value: Any) -> str:
        cls = type(value)
        if isinstance(value, BaseExtractor):
            return f"extractor:{self._class(cls)}:{self.text(value.params)}"
        if isinstance(value, enum.Enum):
            return f"member:{self._class(cls)}:{value.name}"
        if isinstance(value, BaseModel):
            return f"model:{self._class(cls)}:{self.text(value.model_dump())}"
        if isinstance(value, logging.Logger):
            return f"logger:{value.name}"
        if all(self._is_followed(base.__module__) for base in cls.__mro__[:-1]) and not any(
            "__slots__" in vars(base) for base in cls.__mro__
        ):
            return f"instance:{self._class(cls)}:{self.text(vars(value))}"
        raise NotPinned(f"{cls.__module__}.{cls.__qualname__}")


def _is_installed(top: str) -> bool:
    """Whether a package belongs to Python or was installed, and is not written by the user."""
    if top in sys.stdlib_module_names and top != "__main__":
        return True
    module = sys.modules.get(top)
    file = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), None)
    return file is not None and _is_installed_file(file)


@functools.lru_cache(maxsize=1024)
def _is_installed_file(file: str) -> bool:
    path = pathlib.Path(file).resolve()
    folders = [sysconfig.get_paths()[key] for key in ("purelib", "platlib")]
    return not {"site-packages", "dist-packages"}.isdisjoint(path.parts) or any(
        path.is_relative_to(pathlib.Path(folder).resolve()) for folder in folders
    )


def _version(module: str) -> str:
    """Return the version of the package of a module; none for ours and for Python's."""
    top = module.partition(".")[0]
    if top == _OURS or top in sys.stdlib_module_names:
        return ""
    told = getattr(sys.modules.get(top), "__version__", None)
    return str(told) if told else _version_of_distribution(top)


@functools.cache
def _version_of_distribution(top: str) -> str:
    names = importlib.metadata.packages_distributions().get(top, ())
    return " ".join(importlib.metadata.version(name) for name in sorted(set(names)))


def _home_of_ufunc(function: np.ufunc) -> str:
    """Return the package in which a ufunc is found, with its version."""
    if getattr(np, function.__name__, None) is function:
        return f"numpy:{_version('numpy')}"
    special = sys.modules.get("scipy.special")
    if getattr(special, function.__name__, None) is function:
        return f"scipy:{_version('scipy')}"
    raise NotPinned(f"the ufunc {function.__name__}")
