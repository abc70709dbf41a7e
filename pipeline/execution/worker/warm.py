"""Make a process ready for tasks: kernels loaded, and everything imported that tasks need.

Otherwise the first task of every worker would take a fraction of a second longer, and what was
learnt from it would be wrong.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache

from rich.console import Console

from oectflow.extractors import warm
from oectflow.pipeline.execution.worker import tasks

#: Where no line can be written anew (a pipe, a file), one is added so often, in s.
_BETWEEN_LINES = 10.0
_ONCE = "compiling kernels, once for this version: a minute or two"


def warm_up() -> None:
    """Compile or load every kernel, and look up what is written into every result."""
    warm.warm_up()
    tasks.software_versions()


def warm_up_here(names: Iterable[str] | None = None, *, beside: str = "") -> None:
    """Do so in the process of a user, who is told why nothing happens for a while.

    Parameters
    ----------
    names
        Extractors whose kernels are needed, by default all.
    beside
        What else can be said while there is time to read it.
    """
    _load_once(None if names is None else frozenset(names), beside)


@cache
def _load_once(names: frozenset[str] | None, beside: str) -> None:
    # It takes as long as a few steps of a cheap feature, and is of no use the second time.
    with _shown(beside) as told:
        warm.warm_up(names, told)
    tasks.software_versions()


@contextmanager
def _shown(beside: str) -> Iterator[Callable[[int], None]]:
    """Give the function to call with the number of functions compiled; silent until it is."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    lock = threading.Lock()
    begin = said = 0.0
    status = console.status(_ONCE)

    def told(n: int) -> None:
        nonlocal begin, said
        now = time.monotonic()
        with lock:
            if not begin:
                begin = said = now
                console.print(_ONCE)
                if beside:
                    console.print(beside)
                status.start()
            text = f"compiling kernels: {n} functions, {now - begin:.0f} s"
            status.update(text)
            if not console.is_terminal and now - said > _BETWEEN_LINES:
                said = now
                console.print(text)

    try:
        yield told
    finally:
        status.stop()
    if begin:
        console.print(f"compiled in {time.monotonic() - begin:.0f} s")
        sys.stderr.flush()
