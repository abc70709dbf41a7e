"""Output of commands: results on stdout, for people or as JSON; messages and bars on stderr."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

#: For messages that are no result.
messages = Console(stderr=True)
_WIDE = 200

AsJson = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON on stdout, for scripts.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")]


def say(text: object, *, style: str | None = None) -> None:
    """Print a result for people, without folding it."""
    _console().print(
        str(text), highlight=False, markup=False, soft_wrap=True, style=style, emoji=False
    )


def tell(text: object) -> None:
    """Print sentences, folded between words to the width of the terminal."""
    say(folded(text, _console().width) if sys.stdout.isatty() else text)


def folded(text: object, width: int) -> str:
    """Fold the lines of a text between words; a part without blanks, such as a path, stays whole.

    >>> print(folded("    the gate was never on; in a-very-long-name 1", 24))
        the gate was never
          on; in
          a-very-long-name 1
    """
    lines = []
    for line in str(text).splitlines():
        indent = line[: len(line) - len(line.lstrip())]
        lines += textwrap.wrap(
            line,
            width,
            subsequent_indent=f"{indent}  ",
            break_long_words=False,
            break_on_hyphens=False,
        ) or [""]
    return "\n".join(lines)


def note(text: object) -> None:
    """Print a message that is no result, folded between words to the width of the terminal."""
    text = folded(text, messages.width) if messages.is_terminal else str(text)
    messages.print(text, highlight=False, markup=False, soft_wrap=True, emoji=False)


def show(renderable: Any) -> None:
    """Print a table or a tree."""
    _console().print(renderable, highlight=False, emoji=False)


def table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """Return a table; long values are folded, never cut."""
    grid = Table(show_edge=False)
    for title in titles:
        grid.add_column(title, overflow="fold")
    for row in rows:
        # Text, since a test id in brackets is no markup.
        grid.add_row(*(Text(cell(value)) for value in row))
    return grid


def cell(value: object) -> str:
    """Return the text that a table shows for a value."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value.isoformat(" ") if isinstance(value, datetime) else str(value)


def emit_json(value: Any) -> None:
    """Print a result for scripts as pure JSON; NaN and infinity become null."""
    json.dump(_plain(value), sys.stdout, ensure_ascii=False, indent=1, allow_nan=False)
    sys.stdout.write("\n")


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(part) for part in value]
    if isinstance(value, float):
        return value if value - value == 0 else None
    if value is None or isinstance(value, str | int | bool):
        return value
    return value.isoformat() if isinstance(value, datetime) else str(value)


@contextmanager
def progress_bar(what: str, unit: str, *, quiet: bool = False) -> Iterator[Callable[..., None]]:
    """Show a bar on a terminal; yield the function to call with the number done and the total."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        console=messages,
        disable=quiet or not messages.is_terminal,
    )
    with bar:
        task = bar.add_task(what, total=None)

        def update(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield update


def _console() -> Console:
    # Beside a terminal (a pipe, a file) there is no width to keep to.
    return Console(width=None if sys.stdout.isatty() else _WIDE)
