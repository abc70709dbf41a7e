"""The code of a function, as a text without comments and layout, and the names that it uses."""

from __future__ import annotations

import ast
import dis
import linecache
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType, FunctionType

_GLOBAL = frozenset({"LOAD_GLOBAL", "LOAD_NAME"})
_ATTRIBUTE = frozenset({"LOAD_ATTR", "LOAD_METHOD", "IMPORT_FROM"})


@dataclass(frozen=True)
class Names:
    """The names in a piece of code.

    Attributes
    ----------
    globals, attributes
        Names of globals, and of attributes of any object.
    imports
        Modules that are imported in it, with the level of a relative import.
    words
        Texts in the code.
    """

    globals: frozenset[str] = frozenset()
    attributes: frozenset[str] = frozenset()
    imports: frozenset[tuple[int, str]] = frozenset()
    words: frozenset[str] = frozenset()


@lru_cache(4096)
def names_in(code: CodeType) -> Names:
    """Return the names in compiled code and in the functions within it."""
    # Taking it apart is most of what pinning an extractor takes, and every run pins some.
    found: tuple[set[str], set[str], set[tuple[int, str]], set[str]] = (set(), set(), set(), set())
    for one in _with_inner(code):
        before: list[dis.Instruction] = []
        for step in dis.get_instructions(one):
            if step.opname in _GLOBAL:
                found[0].add(step.argval)
            elif step.opname in _ATTRIBUTE:
                found[1].add(step.argval)
            elif step.opname == "IMPORT_NAME":
                # The level was pushed first, then what is taken from the module.
                found[2].add((before[-2].argval, step.argval))
            before.append(step)
        found[3].update(const for const in one.co_consts if isinstance(const, str))
    return Names(*map(frozenset, found))  # type: ignore[arg-type]


def code_text(function: FunctionType) -> str:
    """Return the source of a function without comments and docstrings; else its bytecode.

    The source counts only if it compiles to the running code: a file may have been edited since it
    was imported.
    """
    compiled = bytecode_text(function.__code__)
    lines = linecache.getlines(function.__code__.co_filename)
    place = (function.__name__, function.__code__.co_firstlineno, compiled)
    return _written("".join(lines)).get(place, compiled)


def bytecode_text(code: CodeType) -> str:
    """Return the instructions, names and constants of compiled code, without line numbers."""
    constants = [
        bytecode_text(const) if isinstance(const, CodeType) else _constant(const)
        for const in _without_docstring(code)
    ]
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    shape = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount)
    return f"{code.co_code.hex()}:{names}:{shape}:{constants}"


def _constant(value: object) -> str:
    # The order of a set is not the same in every process.
    if isinstance(value, frozenset):
        return f"set:{sorted(map(repr, value))}"
    return repr(value)


def _without_docstring(code: CodeType) -> tuple[object, ...]:
    # The first constant of a function is its docstring, or None.
    first = code.co_consts[:1]
    return code.co_consts[1:] if first and isinstance(first[0], str) else code.co_consts


@lru_cache(maxsize=256)
def _written(text: str) -> dict[tuple[str, int, str], str]:
    """Return the source of every function of a file, by its name, first line and bytecode."""
    try:
        tree = ast.parse(text)
        # A file is compiled as a whole, a notebook cell statement by statement; what is the
        # same in both ways is what counts here.
        whole = compile(tree, "", "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return {}
    codes = {(one.co_name, one.co_firstlineno): bytecode_text(one) for one in _with_inner(whole)}
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
            if (node.name, first) in codes:
                found[node.name, first, codes[node.name, first]] = normalised(node)
    return found


def normalised(tree: ast.AST) -> str:
    """Return code without comments, docstrings and layout."""
    for node in ast.walk(tree):
        documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def _with_inner(code: CodeType) -> Iterator[CodeType]:
    yield code
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _with_inner(const)
