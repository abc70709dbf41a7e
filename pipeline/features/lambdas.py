"""The text of a Python function, for a configuration file."""

from __future__ import annotations

import ast
import inspect
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from oectflow.errors import ConfigError


def function_text(function: Callable[..., Any]) -> str:
    """Return the text of a lambda, as it stands in its source, or the name of a NumPy function.

    Parameters
    ----------
    function
        Given as ``func`` of a derived feature.

    Returns
    -------
    One line, such as ``lambda gm: gm / gm.mean()`` or ``np.log10``.

    Raises
    ------
    ConfigError
        It is another function, its source cannot be found, or it uses variables of the place
        where it stands, which a file would not have.
    """
    name = getattr(function, "__name__", "")
    if name and getattr(np, name, None) is function:
        return f"np.{name}"
    if not isinstance(function, types.FunctionType) or name != "<lambda>":
        raise ConfigError(
            f"the Python function {name or type(function).__name__} cannot be written to a file; "
            "give func as text, such as 'lambda gm: gm / gm.mean()'"
        )
    if function.__closure__:
        names = ", ".join(function.__code__.co_freevars)
        raise ConfigError(
            f"the lambda uses {names}, which a file does not have; give them as params"
        )
    tree = _source_tree(function)
    if tree is not None and _still_compiles_to(tree, function.__code__):
        places = set(function.__code__.co_positions())
        for node in ast.walk(tree):
            # Several lambdas can begin in one line; what one returns, it has for itself.
            if isinstance(node, ast.Lambda) and _place(node.body) in places:
                return ast.unparse(node)
    raise ConfigError(
        "the source of the lambda cannot be found; give func as text, such as "
        "'lambda gm: gm / gm.mean()'"
    )


def _source_tree(function: types.FunctionType) -> ast.Module | None:
    try:
        lines, _ = inspect.findsource(function)
        return ast.parse("".join(lines))
    except (OSError, SyntaxError):
        return None


def _still_compiles_to(tree: ast.Module, code: types.CodeType) -> bool:
    """Whether the source, which can have changed since, is that of the code."""
    # A file is compiled as a whole, a cell of a notebook statement by statement.
    for unit in (tree, *(ast.Module([statement], []) for statement in tree.body)):
        compiled = compile(unit, code.co_filename, "exec", dont_inherit=True)
        if any(_same_code(found, code) for found in _inner(compiled)):
            return True
    return False


def _same_code(left: types.CodeType, right: types.CodeType) -> bool:
    # Not the flags: a __future__ import of another cell changes those.
    keys = ("co_code", "co_consts", "co_names", "co_varnames")
    same = all(getattr(left, key) == getattr(right, key) for key in keys)
    return same and list(left.co_positions()) == list(right.co_positions())


def _inner(code: types.CodeType) -> Iterator[types.CodeType]:
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield const
            yield from _inner(const)


def _place(node: ast.expr) -> tuple[int | None, ...]:
    return node.lineno, node.end_lineno, node.col_offset, node.end_col_offset
