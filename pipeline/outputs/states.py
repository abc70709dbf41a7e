"""States of experiments: raw files compared with their results, and the reasons of problems.

A run, ``status`` and the report all use :class:`RawFiles`, so they say the same about the same
file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from oectflow.errors import DamagedFile, InputError, OectflowError, OutputError
from oectflow.pipeline.inputs import object_file
from oectflow.pipeline.inputs.experiment import Experiment, FileIdentity
from oectflow.pipeline.inputs.guard import trust
from oectflow.pipeline.inputs.object_file import index_of, load_index
from oectflow.pipeline.outputs.places import partition_of, result_files, result_path
from oectflow.pipeline.outputs.sink import read_earlier, read_metadata, read_table
from oectflow.pipeline.outputs.trouble import Outcome, flags_of_result, in_words, outcome_of
from oectflow.place import fetch_ahead, is_remote, place

#: What tells that a file is the one that it was.
Verify = Literal["identity", "content"]
#: What the instrument's software calls a test that has not ended.
_RUNNING = ("in_progress", "running")
#: Characters of a chip's or device's name; it stands in every row of a table of results.
_LONGEST_NAME = 1000


@dataclass(frozen=True)
class State:
    """The state of one experiment.

    Attributes
    ----------
    experiment_id, raw, result
        Its id, its raw file and its result file; ``""`` if unknown.
    state
        ``"done"``: every value is good.  ``"flagged"``: some have a status word.  ``"failed"``: a
        step raised, or the raw file or the result cannot be read.  ``"missing"``: no result.
    unchanged
        Whether a run would have nothing to do.
    reason
        Why it failed or what is flagged, and what has changed.
    can_run
        Whether a run would help; False if somebody must repair, move or remove the raw file.
    """

    experiment_id: str
    state: Literal["done", "flagged", "failed", "missing"]
    unchanged: bool
    raw: str = ""
    result: str = ""
    reason: str = ""
    can_run: bool = True


@dataclass(frozen=True)
class Found:
    """A usable raw file, and its existing results.

    Attributes
    ----------
    experiment, result
        The raw file, and the place of its result.
    metadata
        Metadata of the result; None if there is no readable result.
    damage
        What is wrong with the existing result; ``""`` if nothing is wrong.
    """

    experiment: Experiment
    result: Path
    metadata: Mapping[str, Any] | None
    damage: str = ""


class RawFiles:
    """Raw files, checked one after the other; if several have the same id, the first counts.

    Parameters
    ----------
    out
        Folder of the results.
    allow_external
        Accept raw files that keep their data in other files.
    partition_by
        ``"chip_id"`` or ``"device_id"``; by default that of the existing results.
    """

    def __init__(
        self, out: Path, *, allow_external: bool = False, partition_by: str | None = None
    ) -> None:
        self._out, self._allow_external = out, allow_external
        self._partition_by = partition_by or partition_of(out)
        self._there: dict[str, list[Path]] = {}
        for path in result_files(out) if self._partition_by else ():
            self._there.setdefault(path.name, []).append(path)
        self._seen: dict[str, tuple[Path, str]] = {}
        self._opened: dict[Path, Experiment] = {}

    def look_ahead(self, paths: Iterable[Path]) -> None:
        """Fetch raw files of a store together, then their results; errors are raised later."""
        paths = [path for path in paths if is_remote(path)]
        fetch_ahead([*paths, *(index_of(path, self._out) for path in paths)])
        object_file.look_ahead(path for path in paths if not load_index(path, self._out))
        results = []
        for path in paths:
            try:
                experiment = self._opened[path] = self._experiment(path)
                results.append(_result_path(self._out, experiment, self._partition_by))
            except OectflowError:
                continue
        fetch_ahead(results)

    def _experiment(self, path: Path) -> Experiment:
        if is_remote(path) and load_index(path, self._out):
            # Whoever has put it there has seen the file.
            trust(path, FileIdentity.of(path))
        return Experiment(path, allow_external=self._allow_external)

    def claim(self, result: str, path: Path, experiment_id: str) -> bool:
        """Claim a result for this raw file; False if it belongs to an earlier one."""
        return self._seen.setdefault(result, (path, experiment_id))[0] == path

    def look(self, path: Path) -> Found:
        """Look at a raw file and its result; of both only the metadata is read.

        Raises
        ------
        InputError
            The raw file cannot be used, or belongs to an earlier experiment.
        OutputError
            There is something else at the place of its result.
        """
        experiment = self._opened.pop(path, None) or self._experiment(path)
        name = experiment.experiment_id
        result = _result_path(self._out, experiment, self._partition_by)
        if not self.claim(str(result), path, name):
            other, its_name = self._seen[str(result)]
            raise InputError(
                f"{path}: has the test_id {name!r} of {other}; remove the copy, or give one "
                "of them another test_id"
                if name == its_name
                else f"{path}: its test_id {name!r} and {its_name!r} of {other} give one name "
                f"of a file, {result.name}; give one of them another test_id, or choose "
                "another output folder for it"
            )
        if not result.exists():
            self._need_no_other(experiment, result)
        metadata = read_earlier(result, _about(experiment))
        damage = damage_of(result) if metadata is None and result.exists() else ""
        return Found(experiment, result, metadata, damage)

    def _need_no_other(self, experiment: Experiment, result: Path) -> None:
        """Raise OutputError where the result stands under the chip that the file named before."""
        for other in self._there.get(result.name, ()):
            try:
                metadata = read_metadata(other)
            except DamagedFile:
                continue
            if metadata and metadata["source"]["path"] == str(experiment.path.absolute()):
                raise OutputError(
                    f"{experiment.path}: its result is in {other}, but belongs in "
                    f"{result.parent.name} now; delete that one, then run again"
                )

    def state(self, path: Path) -> State:
        """Return the state of the experiment of a raw file."""
        try:
            found = self.look(path)
            name, result = found.experiment.experiment_id, found.result
            if found.damage:
                return State(name, "failed", False, str(path), str(result), found.damage)
            if found.metadata is None:
                return State(
                    name, "missing", False, str(path), "", "never extracted into this folder"
                )
            state, reasons = judge(found.metadata)
            reasons += notes_on(found.experiment)
            if not same_source(found.metadata, found.experiment):
                reasons.insert(0, "the raw file has changed since")
                return State(name, state, False, str(path), str(result), "; ".join(reasons))
            if state == "failed":
                reasons.append("a run tries again what raised")
            reason = "; ".join(reasons)
            return State(name, state, state != "failed", str(path), str(result), reason)
        except OectflowError as error:
            name, reason = path.stem, str(error)
            return State(name, "failed", False, str(path), "", reason, can_run=False)


def results_without(out: Path, raw: RawFiles, known: set[str]) -> list[State]:
    """Return the results in a folder that belong to none of the known experiments.

    Parameters
    ----------
    out
        The folder.
    raw
        The object that has checked the known experiments.
    known
        Their result files.
    """
    states = []
    for result in result_files(out):
        if str(result) in known:
            continue
        try:
            metadata = read_metadata(result)
        except OectflowError as error:
            states.append(State(result.stem, "failed", False, "", str(result), str(error)))
            continue
        if metadata is None:
            continue
        path = place(metadata["source"]["path"])
        if path.exists():
            states.append(raw.state(path))
            continue
        name = metadata["identity"]["experiment_id"]
        state, reasons = judge(metadata)
        reason = "; ".join([f"its raw file has vanished: {path}", *reasons])
        # Nothing could be computed anew, so the result stands.
        states.append(State(name, state, True, "", str(result), reason, can_run=False))
    return states


def judge(metadata: Mapping[str, Any]) -> tuple[Outcome, list[str]]:
    """Return the state of a result, and why it is not ``done``."""
    flags = flags_of_result(metadata)
    return outcome_of(flags), [in_words(flags)] if flags else []


def notes_on(experiment: Experiment) -> list[str]:
    """Return the contradictions in a usable raw file."""
    notes = experiment.oddities()
    if not experiment.sources:
        notes.append("it has no steps, so there is nothing to compute")
    if str(experiment.attributes.get("status", "")) in _RUNNING:
        notes.append(
            "its test was still running when the file was written; ingest and extract it again"
        )
    return notes


def same_source(
    metadata: Mapping[str, Any], experiment: Experiment, verify: Verify = "identity"
) -> bool:
    """Whether the content of the raw file is unchanged.

    Unless ``verify`` is ``"content"``, the file is read only if its time has changed.
    """
    was, now = metadata["source"], experiment.identity
    if was["size"] != now.size or not was["content_hash"]:
        return False
    if now.etag:
        return bool(was["content_hash"] == experiment.content_hash())
    others = [tuple(other) for other in was.get("others", ())]
    if (was["mtime_ns"], others) == (now.mtime_ns, list(now.others)) and verify == "identity":
        return True
    return bool(was["content_hash"] == experiment.content_hash())


def _about(experiment: Experiment) -> dict[str, Any]:
    """Return what tells an experiment from others, as its result has it."""
    return {
        "identity": {
            "experiment_id": experiment.experiment_id,
            "chip_id": experiment.chip_id,
            "device_id": experiment.device_id,
        },
        "source": {"path": str(experiment.path.absolute())},
    }


def _result_path(out: Path, experiment: Experiment, partition_by: str | None) -> Path:
    """Return where the result goes; InputError where names cannot be stored."""
    try:
        for key, text in (("chip_id", experiment.chip_id), ("device_number", experiment.device_id)):
            if len(text) > _LONGEST_NAME:
                raise InputError(
                    f"{key}={text[:40]!a}… has {len(text):,} characters, expected at most "
                    f"{_LONGEST_NAME}; is the attribute something else?"
                )
            text.encode()
        # Two of them may read alike.
        if "\ufffd" in experiment.experiment_id:
            raise InputError(
                f"test_id={experiment.experiment_id[:40]!a} was stored as something else than "
                "UTF-8 text; give the experiment another one"
            )
        identity = _about(experiment)["identity"]
        return result_path(out, experiment.experiment_id, identity, partition_by)
    except UnicodeEncodeError as error:
        raise InputError(
            f"{experiment.path}: chip_id or device_number is not valid text ({error.reason})"
        ) from error
    except InputError as error:
        raise InputError(f"{experiment.path}: {error}") from error


def damage_of(result: Path) -> str:
    """Say what is wrong with a result that is ours, ``""`` where nothing is."""
    try:
        read_metadata(result)
        read_table(result)
    except DamagedFile as error:
        return str(error)
    return ""
