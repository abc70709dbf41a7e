"""Old names that lead to the part which does the work."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def forwarded(
    part: str, method: Callable[Concatenate[Any, P], T]
) -> Callable[Concatenate[Any, P], T]:
    """Return a method that calls the same one of a part.

    Parameters
    ----------
    part
        Name of the attribute that holds the part.
    method
        Of the part's class; its signature and its docstring are those of the result.
    """

    def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        found: T = getattr(getattr(self, part), method.__name__)(*args, **kwargs)
        return found

    functools.update_wrapper(call, method)
    return call
