"""A progress bar in steps; a step with only some of its features computed counts in part.

In a terminal it is drawn by rich, in a notebook by ipywidgets if that is installed.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

#: A browser is told no more often than this, in s.
_REDRAW = 0.1


class _Bar(Protocol):
    def show(self, done: int, text: str) -> None: ...

    def close(self, done: int, text: str, failed: bool) -> None: ...


class RunProgress:
    """Shows steps done, their rate and the time left, and ends with the true numbers.

    Parameters
    ----------
    total
        Logical steps in the run, one for each (feature, step), by experiment.
    n_steps
        Steps of all experiments.
    shown
        False shows nothing.
    console
        Where to draw in a terminal.
    """

    def __init__(
        self,
        total: Mapping[str, int],
        n_steps: int,
        *,
        shown: bool = True,
        console: Console | None = None,
    ) -> None:
        self._remaining = dict(total)
        self._total = sum(total.values())
        self._n_steps = n_steps
        self._done = 0
        self._n_errors = 0
        self._lock = threading.Lock()
        self._begin = time.monotonic()
        self._bar: _Bar | None = None
        self._shown = shown
        self._console = console

    def __enter__(self) -> RunProgress:
        self._begin = time.monotonic()
        if self._shown:
            widgets = in_a_notebook() and self._console is None
            self._bar = (
                _NotebookBar(self._n_steps)
                if widgets
                else _TerminalBar(self._n_steps, self._console)
            )
            self._bar.show(0, "")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is None:
            return
        with self._lock:
            seconds = time.monotonic() - self._begin
            how = "done" if kind is None else f"stopped by {kind.__name__}"
            text = f"{how} after {_clock(seconds)}{self._errors()}"
            self._bar.close(self._steps(), text, kind is not None)

    def event(self, event: Mapping[str, Any]) -> None:
        """Count a computed batch; a batch that ran twice counts at most once."""
        if event["kind"] != "batch":
            return
        name = event["experiment_id"]
        with self._lock:
            n = min(event["n_logical"], self._remaining.get(name, 0))
            self._remaining[name] = self._remaining.get(name, 0) - n
            self._n_errors += event["n_errors"]
            self._advance(n)

    def finish(self, experiment_id: str) -> None:
        """Count the rest of an experiment that is finished, whatever the outcome."""
        with self._lock:
            self._advance(self._remaining.pop(experiment_id, 0))

    def _advance(self, n: int) -> None:
        self._done += n
        if self._bar is None:
            return
        rate = self._steps() / max(time.monotonic() - self._begin, 1e-9)
        self._bar.show(self._steps(), f"{rate:,.0f}/s{self._errors()}")

    def _steps(self) -> int:
        return self._done * self._n_steps // self._total if self._total else 0

    def _errors(self) -> str:
        return f", {self._n_errors} errors" if self._n_errors else ""


class _TerminalBar:
    def __init__(self, total: int, console: Console | None) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
            console=console,
        )
        self._task = self._progress.add_task("extract", total=total, text="")
        self._progress.start()

    def show(self, done: int, text: str) -> None:
        self._progress.update(self._task, completed=done, text=text)

    def close(self, done: int, text: str, failed: bool) -> None:
        shown = str(Text(text, style="red" if failed else "").markup)
        self._progress.update(self._task, completed=done, text=shown)
        self._progress.stop()


class _NotebookBar:
    def __init__(self, total: int) -> None:
        import ipywidgets
        from IPython.display import display

        self._total = total
        self._begin = self._drawn = time.monotonic()
        self._bar = ipywidgets.IntProgress(0, 0, max(total, 1), bar_style="info")
        self._label = ipywidgets.Label()
        display(ipywidgets.HBox([self._bar, self._label]))

    def show(self, done: int, text: str) -> None:
        now = time.monotonic()
        if now - self._drawn < _REDRAW:
            return
        self._drawn = now
        left = (now - self._begin) * (self._total - done) / done if done else None
        eta = "" if left is None else f", {_clock(left)} left"
        self._draw(done, f"{text}{eta}")

    def close(self, done: int, text: str, failed: bool) -> None:
        self._bar.bar_style = "danger" if failed else "success"
        self._draw(done, text)

    def _draw(self, done: int, text: str) -> None:
        self._bar.value = done
        self._label.value = f"{done:,} of {self._total:,} steps: {text}"


def in_a_notebook() -> bool:
    """Return whether this process is the kernel of a notebook that can show widgets."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    in_kernel = shell is not None and hasattr(shell, "kernel")
    return in_kernel and importlib.util.find_spec("ipywidgets") is not None


def _clock(seconds: float) -> str:
    """Return a duration for people.

    >>> [_clock(t) for t in (0.25, 75, 7384)]
    ['0.2 s', '1:15', '2:03:04']
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
