"""What people see of a watcher: how far every experiment is, in a file and in one line."""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from oectflow.pipeline.watching.status import (
    HEARTBEAT,
    WatchedExperiment,
    WatchStatus,
    Word,
    write_status,
)

#: Of experiments that do not run so many are shown, the latest.
_SHOWN = 200
#: The file is not written more often, in s.
_AT_LEAST = 1.0


class Board:
    """Keeps the status of a watcher, and its file.

    Parameters
    ----------
    features
        The folder of the results.
    clock
        The time in s since 1970.
    complain
        Called with a sentence where the file cannot be written.
    """

    def __init__(
        self,
        features: Path,
        complain: Callable[[str], object],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._features, self._complain, self._clock = features, complain, clock
        now = clock()
        self._status = WatchStatus(os.getpid(), platform.node(), now, now, "working")
        # In the order in which something happened to them, by raw file or source.
        self._experiments: dict[str, WatchedExperiment] = {}
        self._written = -_AT_LEAST
        self._changed = True
        self._lock = threading.Lock()
        self._over = threading.Event()

    @property
    def status(self) -> WatchStatus:
        """What the watcher says of itself now."""
        return self._status

    def show(self, key: str, experiment: WatchedExperiment) -> None:
        """Show how far an experiment is."""
        if self._experiments.get(key) == experiment:
            return
        self._experiments.pop(key, None)
        self._experiments[key] = experiment
        self._changed = True
        others = [one for one, found in self._experiments.items() if found.state != "running"]
        for old in others[:-_SHOWN]:
            del self._experiments[old]

    def get(self, key: str) -> WatchedExperiment | None:
        """Return what is shown of an experiment."""
        return self._experiments.get(key)

    def forget(self, key: str) -> None:
        """Show nothing of an experiment any more."""
        self._changed |= self._experiments.pop(key, None) is not None

    def say(self, state: Word) -> None:
        """Say what the watcher does; the file is written where something is new."""
        self._changed |= state != self._status.state
        self._status = replace(self._status, state=state)
        now = self._clock()
        if self._changed and (now - self._written >= _AT_LEAST or state == "stopped"):
            self.write()

    def write(self) -> None:
        """Write the file; what does not work now will the next time."""
        with self._lock:
            latest = reversed(self._experiments.values())
            in_order = sorted(latest, key=lambda one: one.state != "running")
            now = self._clock()
            self._status = replace(self._status, updated=now, experiments=tuple(in_order))
            self._written, self._changed = now, False
            try:
                write_status(self._features, self._status)
            except OSError as error:
                self._complain(f"the status cannot be written ({error.strerror or error})")

    def beat(self) -> None:
        """Write the file now and then from a thread, however long something takes."""
        threading.Thread(target=self._beat, name="oectflow watch status", daemon=True).start()

    def close(self) -> None:
        """Say that the watcher has ended."""
        self._over.set()
        self.say("stopped")

    def line(self) -> str:
        """Return the status in one line."""
        found = list(self._experiments.values())
        running = [one for one in found if one.state == "running"]
        words: list[str] = [self._status.state]
        words += [f"{one.id} {one.steps_done}/{one.steps_seen} steps" for one in running[-3:]]
        words += [f"{len(running) - 3} more run"] if len(running) > 3 else []
        n_failed = sum(one.state == "failed" for one in found)
        words += [f"{n_failed} failed"] if n_failed else []
        last = next((one for one in reversed(found) if one.state == "done"), None)
        words += [f"last done: {last.id}"] if last else []
        return "; ".join(words)

    def _beat(self) -> None:
        while not self._over.wait(HEARTBEAT):
            self.write()
