"""What a watcher does next: what was seen goes in, with the time; one action comes out.

Nothing here knows a file, a clock or a process, so that weeks are a test of a list of events.

A source is a folder of the instrument, or a file of another one.  It is ingested when what is
complete of it has not changed for a while, and its raw file is extracted then.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

#: A running test that nobody has written to for so long has been left: what it was measuring then
#: is taken as it is; in s.
SILENCE = 60.0
#: Of a running test, and of what has changed lately, the next look; in s.  Notifications may get
#: lost, and whoever polls compares times in whole seconds.
LOOK_AGAIN = 5.0
#: What has changed lately: the last minute, and no more than so many sources.
LATELY, MOST_LATELY = 60.0, 100
#: What fails is tried again after so many s, the last again and again: whatever was wrong, a disk
#: that was full among it, may be mended.
RETRIES = (10.0, 60.0, 600.0, 3600.0)
#: Where nothing can be written, the next trials; the last is repeated, in s.
PAUSES = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
#: What is new is ingested for so long before it is extracted, in s: others may wait for their rows.
TURN = 1.0
#: Raw files that are extracted together.
TOGETHER = 32


@dataclass(frozen=True)
class Look:
    """What was seen of a source, without reading its samples.

    Attributes
    ----------
    complete
        Names, sizes and times of the files that are complete; ``""`` where there is none.
    everything
        The same of all its files.
    running
        Whether its test has not ended.
    """

    complete: str
    everything: str
    running: bool = False


@dataclass(frozen=True)
class Ingest:
    """Convert a source; ``under_way`` means with what a running test has not described."""

    source: str
    under_way: bool = False


@dataclass(frozen=True)
class Extract:
    """Compute what is missing of some raw files."""

    raws: tuple[str, ...]


@dataclass
class _Source:
    """``since`` and ``all_since`` are when what is complete, and when anything, has changed."""

    look: Look
    looked: float
    since: float
    all_since: float
    done: str = ""
    all_done: str = ""
    tries: int = 0
    retry_at: float = math.inf
    rests_until: float = -math.inf


@dataclass
class _Raw:
    tries: int = 0
    at: float = 0.0
    urgent: bool = False


class WatchState:
    """Knows how every source and every raw file stands.

    Parameters
    ----------
    settle
        A file that has not changed for so long is complete, in s.
    """

    def __init__(self, settle: float) -> None:
        self._settle = settle
        self._sources: dict[str, _Source] = {}
        # Those that may soon be due: of 10,000 that have ended nobody asks at every turn.
        self._running: dict[str, None] = {}
        self._ended: dict[str, None] = {}
        # In the order of their last change.
        self._lately: dict[str, None] = {}
        self._raws: dict[str, _Raw] = {}
        self._turn_began = -math.inf
        self._paused_until = -math.inf
        self._n_pauses = 0

    # ---------------------------------------------------------------------------------- events

    def seen(self, source: str, look: Look | None, now: float) -> None:
        """Take into account what a source looks like; None where it is gone."""
        one = self._sources.get(source)
        if look is None:
            for known in (self._sources, self._running, self._ended, self._lately):
                known.pop(source, None)
            return
        if one is None:
            one = self._sources[source] = _Source(look, now, now, now)
            self._note_change(source)
        else:
            if look.complete != one.look.complete:
                one.since, one.tries, one.retry_at = now, 0, math.inf
            if look.everything != one.look.everything:
                one.all_since = now
                self._note_change(source)
            one.look, one.looked = look, now
        self._sort(source, one)

    def ingested(
        self,
        action: Ingest,
        raws: Iterable[str],
        *,
        failed: bool,
        now: float,
        seconds: float = 0.0,
    ) -> None:
        """Take into account that a source was converted, or that this has failed.

        Parameters
        ----------
        action
            What was to be done.
        raws
            Raw files that were written.
        failed
            Whether something of it could not be converted.
        now
            The time.
        seconds
            What it has taken.  A test that runs rests for as long, so that one of many steps leaves
            half of the time to the others.
        """
        one = self._sources[action.source]
        one.rests_until = now + seconds
        one.done = one.look.complete
        if action.under_way or not one.look.running:
            one.all_done = one.look.everything
        one.retry_at = now + _pause(RETRIES, one.tries) if failed else math.inf
        one.tries = one.tries + 1 if failed else 0
        self._sort(action.source, one)
        self.wanted(raws, now, urgent=one.look.running)

    def wanted(self, raws: Iterable[str], now: float, *, urgent: bool = False) -> None:
        """Take raw files into account of which something may be missing; urgent ones go first."""
        for raw in raws:
            self._raws[raw] = _Raw(0, now, urgent)

    def extracted(self, action: Extract, failed: Collection[str], now: float) -> None:
        """Take into account that a run is over.

        Parameters
        ----------
        action
            What was to be done.
        failed
            Raw files of which no result could be written.
        now
            The time.
        """
        self._n_pauses, self._turn_began = 0, now
        for raw in action.raws:
            was = self._raws.pop(raw)
            if raw in failed:
                self._raws[raw] = _Raw(was.tries + 1, now + _pause(RETRIES, was.tries), was.urgent)

    def refused(self, now: float) -> None:
        """Take into account that nothing can be written now: the disk is full, another run works.

        What was to be done is tried again.
        """
        self._paused_until = now + _pause(PAUSES, self._n_pauses)
        self._n_pauses += 1

    # -------------------------------------------------------------------------------- questions

    @property
    def is_paused(self) -> bool:
        """Whether something is to be done that could not be done when it was tried last."""
        return self._n_pauses > 0

    @property
    def is_idle(self) -> bool:
        """Whether nothing that can be done is left, but for what has not settled."""
        return not any(one.tries == 0 for one in self._raws.values())

    @property
    def sources(self) -> Collection[str]:
        """All sources that are there."""
        return self._sources.keys()

    def is_due(self, action: Ingest, now: float) -> bool:
        """Whether a source is to be ingested, as it looks now."""
        one = self._sources.get(action.source)
        return one is not None and self._action(action.source, one, now) == action

    def is_running(self, source: str) -> bool:
        """Whether the test of a source has not ended."""
        return source in self._running

    def to_look(self, now: float) -> list[str]:
        """Return the sources that are to be looked at, though nobody has said that they changed."""
        while self._lately and self._is_old(next(iter(self._lately)), now):
            del self._lately[next(iter(self._lately))]
        return [
            source
            for source in {**self._running, **self._lately}
            if now - self._sources[source].looked >= LOOK_AGAIN
        ]

    def next(self, now: float) -> Ingest | Extract | None:
        """Return what is to be done now; None where nothing is.

        Tests that run come first.  What is ingested meanwhile never makes the others wait for more
        than a turn.
        """
        if now < self._paused_until:
            return None
        ready = self._ready(now)
        if not ready or self._turn_began == -math.inf:
            self._turn_began = now
        due = None if ready and now - self._turn_began >= TURN else self._due(now)
        if due is not None:
            return due
        return Extract(tuple(ready)) if ready else None

    def _ready(self, now: float) -> list[str]:
        some = (
            raw
            for urgent in (True, False)
            for raw, one in self._raws.items()
            if one.urgent == urgent and one.at <= now
        )
        return list(itertools.islice(some, TOGETHER))

    def _due(self, now: float) -> Ingest | None:
        for source in itertools.chain(self._running, self._ended):
            action = self._action(source, self._sources[source], now)
            if action is not None:
                return action
        return None

    def _action(self, source: str, one: _Source, now: float) -> Ingest | None:
        if one.look.running and now < one.rests_until:
            return None
        silent = one.look.running and now - one.all_since >= max(SILENCE, self._settle)
        if silent and one.look.everything != one.all_done:
            return Ingest(source, under_way=True)
        changed = one.look.complete not in ("", one.done)
        if (changed and now - one.since >= self._settle) or now >= one.retry_at:
            return Ingest(source)
        return None

    def _note_change(self, source: str) -> None:
        self._lately.pop(source, None)
        self._lately[source] = None
        if len(self._lately) > MOST_LATELY:
            del self._lately[next(iter(self._lately))]

    def _is_old(self, source: str, now: float) -> bool:
        return now - self._sources[source].all_since > LATELY

    def _sort(self, source: str, one: _Source) -> None:
        is_open = one.look.complete != one.done or one.retry_at < math.inf
        for known, belongs in (
            (self._running, one.look.running),
            (self._ended, is_open and not one.look.running),
        ):
            if belongs:
                # Whoever waits keeps its place.
                known.setdefault(source)
            else:
                known.pop(source, None)


def _pause(pauses: Sequence[float], n: int) -> float:
    return pauses[min(n, len(pauses) - 1)]
