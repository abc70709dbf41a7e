"""Carries out what is planned: looks at sources, ingests, extracts, and says so."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from oectflow.errors import InputError, OectflowError
from oectflow.pipeline.execution.report import ExperimentRecord, RunReport
from oectflow.pipeline.inputs.find import find_experiments
from oectflow.pipeline.inputs.ingest_report import IngestRecord, Unread
from oectflow.pipeline.outputs.states import Found, RawFiles
from oectflow.pipeline.watching.board import Board
from oectflow.pipeline.watching.planning import Extract, Ingest, WatchState
from oectflow.pipeline.watching.sources import InstrumentFolder
from oectflow.pipeline.watching.status import ExperimentWord, WatchedExperiment, Word

#: What the file system has not told is found after so many s.
_SEARCH = 600.0
#: Where the folder could not be looked at, it is searched after so many s.
_SOON = 10.0
#: Sources that are looked at in a turn, one after the other, though nobody has told of them.
_IN_TURN = 20
#: Sentences that are not said a second time.
_REMEMBERED = 10_000

Tell = Callable[[dict[str, Any]], object]


class Watcher:
    """Keeps raw files and results up to date with a folder of the instrument.

    Parameters
    ----------
    folder
        What is watched.
    raw, features
        Folders of the raw files and of the results.
    extract
        Computes what is missing of raw files.
    settle
        A file that has not changed for so long is complete, in s.
    board, log
        Where is said how far it is, and what happens.
    tell
        Called with what was completed and what has failed.
    clock
        In s, never going back.
    """

    def __init__(
        self,
        folder: InstrumentFolder,
        raw: Path,
        features: Path,
        extract: Callable[[list[Path]], RunReport],
        *,
        settle: float,
        board: Board,
        log: logging.Logger,
        tell: Tell,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._raw, self._features = folder, raw, features
        self._extract, self._board, self._log, self._tell = extract, board, log, tell
        self._clock = clock
        self._state = WatchState(settle)
        self._results = RawFiles(features)
        self._searched = clock()
        self._in_turn: list[str] = []
        # Raw files of tests that run, and the reasons that were logged.
        self._running: set[str] = set()
        self._said: dict[str, str] = {}

    def begin(self) -> None:
        """Look at everything that is there, raw files without a source, too."""
        self._look(self._folder.all())
        try:
            raws = find_experiments(self._raw)
        except InputError:
            # There is none yet.
            raws = []
        self._state.wanted(map(str, raws), self._clock())
        n = len(self._state.sources)
        self._log.info("begin: %d sources, %d raw files are there", n, len(raws))

    def turn(self, changed: Iterable[Path]) -> None:
        """Take changes into account, and do what is due.

        Parameters
        ----------
        changed
            Files and new folders of which one was told.
        """
        now = self._clock()
        try:
            self._look(self._folder.of(changed))
            self._look(self._state.to_look(now))
            self._look_in_turn(now)
            self._said.pop("look", None)
        except (OSError, ValueError) as error:
            # A drive that is away for a while, or a folder that nobody may look into; what was told
            # is found by looking.
            self._say_once("look", f"cannot be looked at: {error}")
            self._searched = min(self._searched, now - _SEARCH + _SOON)
        while (action := self._state.next(self._clock())) is not None:
            self._board.say("working")
            if isinstance(action, Ingest):
                self._ingest(action)
            else:
                self._run(action)
                # Others may have come meanwhile.
                break
        idle: Word = "watching" if self._state.is_idle else "working"
        self._board.say("waiting" if self._state.is_paused else idle)

    def _look(self, sources: Iterable[str]) -> None:
        for source in sources:
            self._state.seen(source, self._folder.look(source), self._clock())

    def _look_in_turn(self, now: float) -> None:
        """Find what nobody was told of."""
        if now - self._searched >= _SEARCH:
            self._searched = now
            self._in_turn = list({*self._folder.all(), *self._state.sources})
        self._look(self._in_turn[-_IN_TURN:])
        del self._in_turn[-_IN_TURN:]

    # ----------------------------------------------------------------------------------- ingest

    def _ingest(self, action: Ingest) -> None:
        source = action.source
        self._look([source])
        if not self._state.is_due(action, self._clock()):
            # It has grown just now.
            return
        running = self._state.is_running(source)
        begin = self._clock()
        records = self._folder.convert(source, under_way=action.under_way)
        now = self._clock()
        found = [record for record in records if isinstance(record, IngestRecord)]
        raws = {str(record.path): record for record in found if record.path is not None}
        for raw, record in raws.items():
            (self._running.add if running else self._running.discard)(raw)
            if record.status != "skipped":
                self._log.info("%s: %s from %s", raw, record.status, source)
            for warning in record.warnings:
                self._say_once(f"{source}\0{warning}", f"{source}: {warning}")
        for one in records:
            if isinstance(one, Unread):
                self._say_once(str(one.path), f"{one.path}: not read: {one.reason}")
        failed = [record for record in found if record.status == "failed"]
        self._note_failure(source, failed)
        # What was skipped may have been written just before the end of another watcher.
        self._state.ingested(action, raws, failed=bool(failed), now=now, seconds=now - begin)

    def _note_failure(self, source: str, failed: Sequence[IngestRecord]) -> None:
        reason = "; ".join(record.reason for record in failed)
        if not failed:
            self._said.pop(source, None)
            self._board.forget(source)
            return
        name = Path(source).name
        self._board.show(source, WatchedExperiment(name, 0, 0, "failed", reason))
        if self._say_once(source, reason):
            self._tell({"done": [], "failed": [{"id": name, "reason": reason}]})

    # ---------------------------------------------------------------------------------- extract

    def _run(self, action: Extract) -> None:
        usable: dict[str, Found] = {}
        failures: dict[str, str] = {}
        for raw in action.raws:
            path = Path(raw)
            if not path.exists():
                self._board.forget(raw)
                # Another raw file may have its result from now on.
                self._results = RawFiles(self._features)
                continue
            try:
                usable[raw] = found = self._results.look(path)
            except OectflowError as error:
                failures[raw] = str(error)
                self._board.show(raw, WatchedExperiment(path.stem, 0, 0, "failed", str(error)))
            else:
                if raw in self._running:
                    done = (found.metadata or {}).get("n_rows", 0)
                    self._show(raw, found, done, "running")
        records: Sequence[ExperimentRecord] = []
        if usable:
            try:
                records = self._extract([Path(raw) for raw in usable]).experiments
            except Exception as error:  # noqa: BLE001
                # Another run works here, the disk is full, or worse: what comes next may go well.
                known = isinstance(error, OectflowError)
                if self._say_once("run", f"{type(error).__name__}: {error}") and not known:
                    self._log.exception("the run was given up")
                self._state.refused(self._clock())
                return
        self._said.pop("run", None)
        failures |= self._note_records(records, usable)
        for raw, reason in failures.items():
            self._say_once(raw, f"{raw}: {reason}")
        done = [one for one in records if self._is_news(one)]
        if done or failures:
            self._tell(
                {
                    "done": [
                        {"id": one.experiment_id, "result": one.out_path, "outcome": one.outcome}
                        for one in done
                    ],
                    "failed": [{"id": Path(r).stem, "reason": why} for r, why in failures.items()],
                }
            )
        self._state.extracted(action, failures.keys(), self._clock())

    def _is_news(self, record: ExperimentRecord) -> bool:
        return (
            record.path not in self._running
            and record.outcome != "unchanged"
            and bool(record.content_hash)
        )

    def _note_records(
        self, records: Iterable[ExperimentRecord], usable: dict[str, Found]
    ) -> dict[str, str]:
        """Show what became of raw files; return why of some no result was written."""
        failures = {}
        for record in records:
            found = usable[record.path]
            written = record.outcome == "unchanged" or bool(record.content_hash)
            if not written:
                failures[record.path] = record.reason or "it changed while it was read"
                self._show(record.path, found, 0, "failed", failures[record.path])
                continue
            running = record.path in self._running
            if running or record.outcome != "unchanged":
                self._log.info("%s: %s", record.out_path, record.outcome)
                state: ExperimentWord = "failed" if record.outcome == "failed" else "done"
                n = max(map(found.experiment.n_steps, found.experiment.sources), default=0)
                self._show(record.path, found, n, "running" if running else state, record.reason)
        return failures

    def _show(
        self, raw: str, found: Found, done: int, state: ExperimentWord, message: str = ""
    ) -> None:
        experiment = found.experiment
        seen = max(map(experiment.n_steps, experiment.sources), default=0)
        self._board.show(
            raw, WatchedExperiment(experiment.experiment_id, seen, done, state, message)
        )

    def _say_once(self, key: str, text: str) -> bool:
        """Log a warning unless it was the last that was said of the same thing."""
        if self._said.get(key) == text:
            return False
        self._said[key] = text
        if len(self._said) > _REMEMBERED:
            del self._said[next(iter(self._said))]
        self._log.warning("%s", text)
        return True
