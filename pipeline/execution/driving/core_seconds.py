"""For how long a run holds how many cores, however many workers come and go."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class CoreSeconds:
    """Adds up the cores of a cluster over time, from how many there are seen to be.

    Parameters
    ----------
    clock
        Tells the time, in s.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last: tuple[float, int] | None = None
        #: Until somebody has looked last.
        self.total = 0.0

    def see(self, cores: int) -> None:
        """Take into account how many cores there are now; between two looks, as many on average."""
        with self._lock:
            now = self._clock()
            if self._last is not None:
                before, had = self._last
                self.total += (now - before) * (had + cores) / 2
            self._last = now, cores
