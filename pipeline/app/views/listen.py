"""What the browser has changed, told to whom it concerns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def when(model: Any, name: str, act: Callable[[Any], None]) -> None:
    """Call a function with the new value of a property whenever that becomes another one."""

    # Bokeh insists on three arguments of these names.
    def heard(attr: str, old: Any, new: Any) -> None:  # noqa: ARG001
        act(new)

    model.on_change(name, heard)
