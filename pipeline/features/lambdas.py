"""The text of a Python function, for a configuration file."""

from __future__ import annotations

import ast
import inspect
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from oectflow.pipeline.errors import ConfigError


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
        It is another function, its source is not to be found, or it uses variables of the place
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
    # Several lambdas can begin in one line: which one it is, its bytecode tells.
    for node in _lambdas(function):
        if _same_code(node, function.__code__):
            return ast.unparse(node)
    raise ConfigError(
        "the source of the lambda is not to be found; give func as text, such as "
        "'lambda gm: gm / gm.mean()'"
    )


def _lambdas(function: types.FunctionType) -> list[ast.Lambda]:
    try:
        lines, _ = inspect.findsource(function)
        tree = ast.parse("".join(lines))
    except (OSError, SyntaxError):
        return []
    line = function.__code__.co_firstlineno
    return [n for n in ast.walk(tree) if isinstance(n, ast.Lambda) and n.lineno == line]


def _same_code(node: ast.Lambda, code: types.CodeType) -> bool:
    module = compile(ast.Expression(node), "<lambda>", "eval")
    own = next(const for const in module.co_consts if isinstance(const, types.CodeType))
    keys = ("co_code", "co_consts", "co_names", "co_varnames")
    return all(getattr(own, key) == getattr(code, key) for key in keys)
