"""A progress bar in logical steps: one for each (experiment, feature, step)."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any

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


class RunProgress:
    """Shows logical steps done, and ends with the truth.

    Parameters
    ----------
    total
        Logical steps in the run, by experiment.
    shown
        False shows nothing.
    console
        Where to draw.
    """

    def __init__(
        self, total: dict[str, int], *, shown: bool = True, console: Console | None = None
    ) -> None:
        self._remaining = dict(total)
        self._lock = threading.Lock()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            MofNCompleteColumn(),
            TextColumn("logical steps"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[errors]}"),
            console=console,
            disable=not shown,
        )
        self._task = self._bar.add_task("extract", total=sum(total.values()), errors="")
        self._n_errors = 0

    def __enter__(self) -> RunProgress:
        self._bar.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.__exit__(kind, error, trace)

    def event(self, event: dict[str, Any]) -> None:
        """Count a batch that a worker has finished; a batch that ran twice counts once at most."""
        if event["kind"] != "batch":
            return
        with self._lock:
            name = event["experiment_id"]
            n = min(event["n_logical"], self._remaining.get(name, 0))
            self._remaining[name] = self._remaining.get(name, 0) - n
            self._n_errors += event["n_errors"]
        self._advance(n)

    def finish(self, experiment_id: str) -> None:
        """Count whatever of an experiment was not announced: it is over, in one way or another."""
        with self._lock:
            n = self._remaining.pop(experiment_id, 0)
        self._advance(n)

    def _advance(self, n: int) -> None:
        errors = f"[red]{self._n_errors} errors" if self._n_errors else ""
        self._bar.update(self._task, advance=n, errors=errors)
