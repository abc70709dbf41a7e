"""Headings for the options in the help of a command."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Annotated, Any, get_args


def in_panels(
    panels: Mapping[str, Sequence[str]],
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Put options of a command under headings; the other options stay where they are.

    Parameters
    ----------
    panels
        Names of parameters for each heading.
    """
    headings = {name: heading for heading, names in panels.items() for name in names}

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(command, eval_str=True)
        parameters = [_under(p, headings.get(p.name)) for p in signature.parameters.values()]
        command.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=parameters
        )
        command.__annotations__ = {p.name: p.annotation for p in parameters}
        return command

    return decorate


def _under(parameter: inspect.Parameter, heading: str | None) -> inspect.Parameter:
    if heading is None:
        return parameter
    kind, option = get_args(parameter.annotation)
    # Other commands have the same option, and no such heading.
    option = copy(option)
    option.rich_help_panel = heading
    return parameter.replace(annotation=Annotated[kind, option])
