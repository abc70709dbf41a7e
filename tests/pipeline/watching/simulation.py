"""Hours of a laboratory on a clock that is set by hand: tests grow, folders come, watchers die.

The watcher, its files and what it computes are real; the time is not.  What must be there in the
end is known from what the laboratory has made, and not from the watcher.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

import oectflow as of
import oectflow.pipeline.execution.driving.local as local
from tests.pipeline.watching.lab import Clock, Desk, RunningTest

#: Tests that run at a time.
TOGETHER = 4
#: Of so many changes one is not told of.
LOST = 10


class Killed(BaseException):
    """The process was killed."""


@dataclass
class Outcome:
    """What has happened.

    ``missing`` are rows that are not there, ``twice`` steps that were computed more than once,
    ``computed`` all of them; ``memory`` is what was measured at even distances.
    """

    n_appends: int = 0
    n_folders: int = 0
    n_kills: int = 0
    hours: float = 0.0
    computed: Counter = field(default_factory=Counter)
    expected: dict[str, int] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)
    memory: list[float] = field(default_factory=list)

    @property
    def twice(self) -> dict[tuple, int]:
        return {step: n for step, n in self.computed.items() if n > 1}


class Laboratory:
    """Makes things happen to a watcher.

    Parameters
    ----------
    where
        An empty folder.
    n_appends, n_folders, n_kills
        How often a running test gets a step, a whole folder comes, and the watcher dies.
    hours
        In which that happens.
    seed
        Of the dice.
    measure
        Called for the memory now, twenty times.
    """

    def __init__(
        self,
        where: Path,
        n_appends: int,
        n_folders: int,
        n_kills: int,
        hours: float,
        seed: int = 0,
        measure: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.where, self.hours, self.measure = where, hours, measure
        self.rng = np.random.default_rng(seed)
        events = ["append"] * n_appends + ["folder"] * n_folders
        self.rng.shuffle(events)
        # A kill is armed, and comes with the next thing that the watcher does.
        self.events = list(events)
        for at in sorted(self.rng.choice(len(events), n_kills, replace=False))[::-1]:
            self.events.insert(int(at), "kill")
        self.outcome = Outcome(n_appends, n_folders, n_kills, hours)
        self.clock = Clock()
        self.armed = ""
        self.tests: list[RunningTest] = []
        self.ended: list[RunningTest] = []
        self.n = 0
        self.desk = self._desk()

    def run(self) -> Outcome:
        """Play all of it, and compare what is there with what was made."""
        real = local.compute_batch

        def counted(task, specs, source, start, stop):
            self.outcome.computed.update(
                (task.experiment_id, spec.name, i) for spec in specs for i in range(start, stop)
            )
            return real(task, specs, source, start, stop)

        local.compute_batch = counted
        try:
            pauses = self.rng.exponential(1.0, len(self.events))
            pauses *= self.hours * 3600 / pauses.sum()
            every = max(1, len(self.events) // 20)
            for i, (event, pause) in enumerate(zip(self.events, pauses, strict=True)):
                self._pass(pause, self._happen(event))
                if i % every == every - 1:
                    self.outcome.memory.append(self.measure())
            for test in list(self.tests):
                self._pass(1.0, self._end(test))
            # What nobody was told of is found by looking.
            self._pass(700.0, [])
        finally:
            local.compute_batch = real
        for test in self.ended:
            name, n = test.folder.name, test.n_sweeps
            self.outcome.expected[name] = n
            path = self.desk.out / f"{name}.parquet"
            there = pq.read_metadata(path).num_rows if path.exists() else 0
            if there != n:
                self.outcome.missing[name] = n - there
        return self.outcome

    # ---------------------------------------------------------------------------------- events

    def _happen(self, event: str) -> list[Path]:
        if event == "kill":
            self.armed = str(self.rng.choice(["before ingest", "after ingest", "before run",
                                              "after run"]))  # fmt: skip
            return []
        if event == "folder":
            test = self._test()
            for _ in range(int(self.rng.integers(1, 4))):
                test.add_step()
            return self._end(test)
        while len(self.tests) < TOGETHER:
            self.tests.append(self._test())
        test = self.tests[int(self.rng.integers(TOGETHER))]
        if self.rng.random() < 0.3:
            # What is being measured is nobody's business.
            self._pass(5.0, [test.begin_step(rows=int(self.rng.integers(1, 30)))])
        test.add_step()
        changed = [test.folder]
        if len(test.entries) >= 40:
            self.tests.remove(test)
            return self._end(test)
        return changed

    def _test(self) -> RunningTest:
        self.n += 1
        return RunningTest(self.desk.instrument / f"week_{self.n // 50}" / f"test_{self.n:04d}")

    def _end(self, test: RunningTest) -> list[Path]:
        test.end()
        self.ended.append(test)
        if test in self.tests:
            self.tests.remove(test)
        return [test.folder]

    # ------------------------------------------------------------------------------ the watcher

    def _pass(self, seconds: float, changed: list[Path]) -> None:
        """Let time go by; the watcher is told at once, or not at all."""
        told = changed if changed and self.rng.integers(LOST) else []
        until = self.clock.now + seconds
        while True:
            try:
                self.desk.watcher.turn(told)
            except Killed:
                self.desk = self._desk()
            told = []
            if self.clock.now >= until:
                return
            # In quarters of a second as long as something may be settling.
            quick = self.clock.now - (until - seconds) < 2
            self.clock.now = min(until, self.clock.now + (0.25 if quick else 2.5))

    def _desk(self) -> Desk:
        def extract(paths, *arguments, **options):
            self._die("before run")
            report = of.extract(paths, *arguments, **options)
            self._die("after run")
            return report

        desk = Desk(self.where, extract, clock=self.clock)
        convert = desk.folder.convert

        def dying(source, *, under_way):
            self._die("before ingest")
            records = convert(source, under_way=under_way)
            self._die("after ingest")
            return records

        desk.folder.convert = dying
        desk.records = _Forgetful()
        return desk

    def _die(self, where: str) -> None:
        if self.armed == where:
            self.armed = ""
            raise Killed


class _Forgetful(list):
    """Keeps nothing: the memory that is measured is the watcher's."""

    def __iadd__(self, other):
        return self
