"""The raw file of a result, found when its step is shown."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path, PurePath, PureWindowsPath

from oectflow.errors import InputError
from oectflow.pipeline.app.summary import Summary
from oectflow.pipeline.inputs.experiment import Experiment
from oectflow.pipeline.inputs.find import Experiments, find_experiments

_MOST_OPEN = 64


class RawFiles:
    """Raw files by the names that results know them under.

    Parameters
    ----------
    raw
        A folder, a glob, a file or several; None takes those that the results name.

    Raises
    ------
    InputError
        There is no raw file.
    """

    def __init__(self, raw: Experiments | None) -> None:
        self._by_name: dict[str, list[Path]] | None = None
        if raw is not None:
            self._by_name = {}
            for path in find_experiments(raw):
                self._by_name.setdefault(path.name, []).append(path)
        self._open = lru_cache(_MOST_OPEN)(Experiment)

    def of(self, summary: Summary) -> Experiment:
        """Return the raw file of a result.

        Raises
        ------
        InputError
            It is not there, or is of another experiment.
        """
        wanted = summary.experiment_id
        for path in self._candidates(summary.raw):
            experiment = self._open(path)
            if experiment.experiment_id == wanted:
                return experiment
        where = "where it was" if self._by_name is None else "among the raw files"
        raise InputError(
            f"{wanted}: its raw file {summary.raw or '(unknown)'} is not {where}; name the folder "
            "of raw files with --raw (raw=)"
        )

    def _candidates(self, raw: str) -> list[Path]:
        if self._by_name is None:
            return [Path(raw)] if raw and Path(raw).is_file() else []
        # Results may have been computed on another system.
        name = (PureWindowsPath if "\\" in raw else PurePath)(raw).name
        return self._by_name.get(name, [])
