"""What all visitors of one server have in common: the results, their marks and the raw files."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from oectflow.errors import OutputError
from oectflow.local_path import local_path
from oectflow.pipeline.app.desk import Desk
from oectflow.pipeline.app.index import Index, Progress, open_index, refreshed
from oectflow.pipeline.app.marking import Marks
from oectflow.pipeline.app.one_result import OneResult
from oectflow.pipeline.app.raw_files import RawFiles
from oectflow.pipeline.inputs.find import Experiments

#: Seconds between looks for results that have changed.
_NEWS = 10.0


class Shared:
    """Results, marks and raw files.

    Parameters
    ----------
    results
        Folder that :func:`oectflow.extract` has written.
    raw
        The raw files; None takes those that the results name.
    progress
        As in :func:`oectflow.pipeline.app.index.open_index`.

    Raises
    ------
    OutputError
        There are no results.
    InputError
        There are no raw files.
    """

    def __init__(
        self,
        results: str | os.PathLike[str],
        raw: Experiments | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.folder: Path = local_path(results, OutputError)
        self.raw = RawFiles(raw)
        self.index: Index = open_index(self.folder, progress)
        self._opened: dict[str, OneResult] = {}
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def new_desk(self) -> Desk:
        """Return the desk of a new visitor."""
        return Desk(self.index, Marks(self.folder), self._opened)

    def follow(self) -> None:
        """Look for changed results from now on, beside what visitors do."""
        self._thread = threading.Thread(target=self._look, name="oectflow-news", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._end.set()
        if self._thread is not None:
            self._thread.join()

    def _look(self) -> None:
        while not self._end.wait(_NEWS):
            self.look()

    def look(self) -> None:
        """Look for changed results now."""
        try:
            self.index = refreshed(self.index)
        except OutputError:
            # Results that are gone for a moment stay as they were.
            return
