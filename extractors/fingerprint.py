"""Fingerprints that change when the numbers of a feature may change.

A result is reused where the fingerprint of its definition is the same.  The fingerprint covers the
source code that computes the feature, without comments and docstrings, and the parameters:

* of a built-in extractor, the modules that define the class and its bases, and every module of
  ``oectflow.extractors`` that these import, directly or not.  ``base`` and this module are left
  out: they carry numbers, they do not compute any;
* of any other extractor, the class, and the functions, classes and plain constants of its module
  that it names, directly or not.  What it imports from elsewhere is not looked into: raise
  ``version`` when that changes.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import json
import linecache
import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import numpy as np

from oectflow.extractors.base import BaseExtractor

_HOME = "oectflow.extractors"
_NOT_NUMERIC = frozenset({_HOME, f"{_HOME}.base", f"{_HOME}.fingerprint", f"{_HOME}.warm"})
_PLAIN = (bool, int, float, complex, str, bytes, tuple, list, dict, np.ndarray, type(None))


def definition_fingerprint(extractor: BaseExtractor) -> str:
    """Return the fingerprint of an extractor with its parameters.

    Parameters
    ----------
    extractor
        An extractor, parameters checked.

    Returns
    -------
    32 hexadecimal digits.  The order of the parameters does not matter; 1 and 1.0 differ unless
    the extractor declares the type, and so do 0.0 and -0.0.
    """
    params = _canonical(extractor.params)
    code = code_fingerprint(type(extractor))
    return _digest(json.dumps([extractor.name, code, params], sort_keys=True))


def code_fingerprint(extractor_class: type[BaseExtractor]) -> str:
    """Return the fingerprint of the code of an extractor, and of its ``version``.

    Parameters
    ----------
    extractor_class
        A class built in, installed, or defined in a script or notebook.

    Returns
    -------
    32 hexadecimal digits.
    """
    modules: set[str] = set()
    parts: dict[str, str] = {}
    for cls in extractor_class.__mro__:
        if cls in (BaseExtractor, object):
            continue
        if _is_ours(cls.__module__):
            modules.add(cls.__module__)
        else:
            _collect(cls, parts)
    for module in _with_imports(modules):
        parts[module] = _module_source(module)
    return _digest(json.dumps([extractor_class.version, parts], sort_keys=True))


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _is_ours(module: str) -> bool:
    return module.startswith(f"{_HOME}.")


def _canonical(value: Any) -> Any:
    """Return a parameter as something that JSON writes in one way only."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _canonical(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(entry) for entry in value]
    if isinstance(value, float):
        return {"float": value.hex()}
    if value is None or isinstance(value, bool | int | str):
        return value
    return {f"{type(value).__module__}.{type(value).__qualname__}": repr(value)}


def _with_imports(modules: set[str]) -> set[str]:
    """Return modules of ours together with those of ours that they import."""
    found: set[str] = set()
    waiting = set(modules)
    while waiting:
        module = waiting.pop()
        if module not in found and module not in _NOT_NUMERIC:
            found.add(module)
            waiting |= _imports(module)
    return found


@lru_cache(maxsize=256)
def _imports(module: str) -> frozenset[str]:
    """Return the modules of ours that a module imports, anywhere in its code."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(_read(module))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            # ``from package import name``: the name may be a module, too.
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(name for name in names if _is_ours(name) and _file(name) is not None)


def _file(module: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        # The parent is a module and no package: the name is something within it.
        return None
    return Path(spec.origin) if spec and spec.origin else None


def _read(module: str) -> str:
    path = _file(module)
    return "" if path is None else path.read_text(encoding="utf-8")


@lru_cache(maxsize=256)
def _module_source(module: str) -> str:
    return _normalised(ast.parse(_read(module)))


def _normalised(tree: ast.AST) -> str:
    """Return code without comments, docstrings and layout."""
    for node in ast.walk(tree):
        documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def _collect(thing: Any, parts: dict[str, str]) -> None:
    """Add a class or function, and what it names of its own module, to ``parts``."""
    key = f"{thing.__module__}.{thing.__qualname__}"
    if key in parts:
        return
    written = _definition(thing)
    if written is None:
        entries = {name: _plain(entry) for name, entry in vars(thing).items() if name[:2] != "__"}
        codes = [_compiled(code) for code in _codes(thing)]
        parts[key] = json.dumps([codes, entries], sort_keys=True)
        return
    parts[key], names = written
    scope = vars(sys.modules[thing.__module__]) if thing.__module__ in sys.modules else {}
    for name in names:
        # A compiled kernel keeps its Python function.
        other = getattr(scope.get(name), "py_func", scope.get(name))
        if isinstance(other, type | FunctionType):
            if other.__module__ == thing.__module__:
                _collect(other, parts)
        elif name in scope:
            parts[f"{thing.__module__}.{name}"] = _plain(other)


def _plain(value: Any) -> str:
    """Return a constant in writing, and of anything else its type only."""
    if isinstance(value, _PLAIN):
        return json.dumps(_canonical(value), sort_keys=True)
    return type(value).__qualname__


def _definition(thing: Any) -> tuple[str, tuple[str, ...]] | None:
    """Return the definition of a class or function, normalised, and the names in it.

    None where there is no source.
    """
    # Through the code of a method: ``inspect.getsource`` finds no class of a notebook.
    for code in _codes(thing):
        text = "".join(linecache.getlines(code.co_filename))
        found = _written(text, thing.__name__, code.co_firstlineno)
        if found is not None:
            return found
    try:
        # A class without methods of its own.
        return _described(ast.parse(inspect.cleandoc(inspect.getsource(thing))))
    except (OSError, TypeError, SyntaxError):
        return None


@lru_cache(maxsize=256)
def _written(text: str, name: str, line: int) -> tuple[str, tuple[str, ...]] | None:
    """Return the definition of a name that holds a line of some code."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        # The file changed since it was imported.
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            if first <= line <= (node.end_lineno or first):
                return _described(node)
    return None


def _described(tree: ast.AST) -> tuple[str, tuple[str, ...]]:
    text = _normalised(tree)
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return text, tuple(sorted(names))


def _codes(thing: Any) -> Iterator[CodeType]:
    """Yield the compiled code of a function, or of the methods and properties of a class."""
    if isinstance(thing, FunctionType):
        yield thing.__code__
        return
    for entry in vars(thing).values():
        function = getattr(entry, "fget", None) or getattr(entry, "__func__", entry)
        if isinstance(function, FunctionType):
            yield function.__code__


def _compiled(code: CodeType) -> list[Any]:
    """Return what compiled code does: instructions, names and constants, without line numbers."""
    constants = [_compiled(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return [code.co_code.hex(), code.co_names, constants]
