"""Files that earlier runs found unchanged, so that a run with nothing to do opens no file.

Opening a raw file and its result takes some 10 ms; asking the file system about both takes some 10
µs.  The book records the state of both files in which a run had nothing to do.  It does so for one
question: the features with their definitions, the table of samples, the layout.  The book is a
cache: if anything differs, or the book is lost or damaged, the files are opened as before.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Container, Mapping
from pathlib import Path, PurePath
from typing import Any

import xxhash

import oectflow
from oectflow.atomic_write import atomic_write
from oectflow.pipeline.execution.report import ExperimentRecord
from oectflow.pipeline.features.feature_list import FeatureList
from oectflow.pipeline.inputs.samples import Samples
from oectflow.pipeline.outputs.sink import FORMAT as RESULT_FORMAT
from oectflow.pipeline.outputs.trouble import Flag
from oectflow.place import as_remote, is_remote, place, snapshot
from oectflow.result_metadata import definitions_name

_FILE = ".oectflow-unchanged.json"
_FORMAT = 3
#: More than the book of a million files.
_MOST_BYTES = 2**30
#: A file that was written so shortly before it was looked at may be written again within the same
#: tick of the file system's clock, which is 2 s on FAT; in ns.
_RECENT_NS = 2_000_000_000

#: Size, modification and change time (ns), and number of a file.
_State = list[int]


class FileBook:
    """Remembered states of files.

    Parameters
    ----------
    folder
        Output folder; the book is kept in it.
    question
        From :func:`question`; entries for another question do not count.
    apart
        Experiments that the book does not remember, because they have a question of their own.
    """

    def __init__(self, folder: Path, question: str, apart: Container[str] = ()) -> None:
        self._folder = folder
        self._apart = apart
        self._question = question
        self._looked: dict[str, tuple[str, _State | None]] = {}
        self._told: set[str] = set()
        self._found, self._reused, self._meanings = _read(folder, question)
        self._changed = False

    def find(self, path: Path) -> ExperimentRecord | None:
        """Return the record of an experiment if neither its raw file nor its result has changed.

        None if the files must be opened.
        """
        key = str(path.absolute())
        raw = _state_of(path.absolute())
        self._looked[key] = (str(path), raw)
        entry = self._found.get(key)
        if entry is None or raw is None or [str(path), raw] != entry[:2]:
            return None
        _, _, experiment_id, name, result, reused, warnings, flags = entry
        out_path = self._folder / name
        if experiment_id in self._apart or _state_of(out_path) != result:
            return None
        self._told.add(key)
        return ExperimentRecord(
            experiment_id,
            str(path),
            "unchanged",
            out_path=str(out_path),
            reused=self._reused[reused],
            n_bytes=result[0],
            flags=tuple(
                Flag(feature, word, n, of, self._meanings.get(feature, {}).get(word, ""))
                for feature, word, n, of in flags
            ),
            warnings=tuple(warnings),
        )

    def note(self, record: ExperimentRecord, features: FeatureList) -> None:
        """Remember the state in which the next run will find an experiment.

        Parameters
        ----------
        record
            The record that this run has found or written.
        features
            The requested features.
        """
        path, out_path = place(record.path).absolute(), place(record.out_path).absolute()
        key = str(path)
        if record.outcome == "unchanged" and key in self._told:
            return
        given, raw = self._looked.get(key, ("", None))
        self._changed |= self._found.pop(key, None) is not None
        kept = (*record.reused, *record.computed)
        whole = record.outcome == "unchanged" or (
            record.outcome in ("done", "flagged")
            and bool(record.content_hash)
            and record.n_problems == 0
        )
        whole &= record.experiment_id not in self._apart
        if not whole or raw is None or not set(features.features) <= set(kept):
            return
        # Of an object, the ETag says what was read; its time is of no use.
        if not is_remote(path) and (
            time.time_ns() - max(raw[1], raw[2]) < _RECENT_NS or raw != _state(key)
        ):
            return
        # Objects are asked for together when all are written.
        result = [record.n_bytes] if is_remote(out_path) else _state(record.out_path)
        if result is None or result[0] != record.n_bytes:
            return
        if kept not in self._reused:
            self._reused.append(kept)
        name = str(PurePath(*out_path.relative_to(self._folder.absolute()).parts))
        self._found[key] = [
            given, raw, record.experiment_id, name, result, self._reused.index(kept),
            list(record.warnings), [[f.feature, f.word, f.n, f.of] for f in record.flags],
        ]  # fmt: skip
        for flag in record.flags:
            self._meanings.setdefault(flag.feature, {})[flag.word] = flag.meaning
        self._changed = True

    def save(self) -> None:
        """Write the book; if the folder cannot be written any more, the old book stays."""
        if not self._changed:
            return
        # A run that is refused by the disk has said so; the next one is slower, no more.
        with contextlib.suppress(OSError):
            self._write(snapshot(self._folder))

    def _write(self, folder: Path) -> None:
        for key, entry in list(self._found.items()):
            if len(entry[4]) == 1:
                state = _state_of(folder / entry[3])
                if state is None or state[0] != entry[4][0]:
                    del self._found[key]
                else:
                    entry[4] = state
        content = {
            "format": _FORMAT,
            "question": self._question,
            "reused": self._reused,
            "meanings": self._meanings,
            "definitions": {
                path.name: _state_of(path) for path in folder.glob(definitions_name("*"))
            },
            "files": self._found,
        }
        with atomic_write(folder / _FILE) as temporary:
            # It names files and people's chips.
            temporary.chmod(0o600)
            text = json.dumps(content, separators=(",", ":")).encode()
            temporary.write_bytes(xxhash.xxh3_128_hexdigest(text).encode() + b"\n" + text)


def question(features: FeatureList, samples: Samples | None, *, expand_multidim: bool) -> str:
    """Return a text of everything, apart from the files, that decides what to compute."""
    asked = {
        "version": [oectflow.__version__, RESULT_FORMAT],
        "expand_multidim": expand_multidim,
        "samples": None if samples is None else samples.to_json(),
        "features": {
            name: [
                fingerprint,
                features.features[name].describe(),
                list(features.features[name].columns()),
            ]
            for name, fingerprint in features.fingerprints().items()
        },
    }
    return xxhash.xxh3_128_hexdigest(json.dumps(asked, default=str).encode())


def _read(
    folder: Path, question: str
) -> tuple[dict[str, Any], list[tuple[str, ...]], dict[str, dict[str, str]]]:
    """Return the entries for a question, and the sets of features and words they refer to."""
    try:
        with (folder / _FILE).open("rb") as file:
            raw = file.read(_MOST_BYTES)
        digest, _, text = raw.partition(b"\n")
        if xxhash.xxh3_128_hexdigest(text).encode() != digest:
            return {}, [], {}
        content: Mapping[str, Any] = json.loads(text)
        if content["format"] != _FORMAT or content["question"] != question:
            return {}, [], {}
        # Without them, nobody knows of what definition a result is.
        for name, state in content["definitions"].items():
            if state is None or _state_of(folder / name) != state:
                return {}, [], {}
        found, reused = content["files"], [tuple(names) for names in content["reused"]]
        meanings = content["meanings"]
        for given, raw, experiment_id, name, result, index, warnings, flags in found.values():
            for text in (given, experiment_id, name, *warnings):
                text.encode()
            for feature, word, n, of in flags:
                (feature + word).encode()
                if n + of < 0:
                    return {}, [], {}
            if len(raw) != len(result) or not 0 <= index < len(reused):
                return {}, [], {}
        for words in meanings.values():
            "".join(words.values())
        return found, reused, meanings
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        # It is written anew.
        return {}, [], {}


def _state_of(path: Path) -> _State | None:
    remote = as_remote(path)
    if remote is None:
        return _state(str(path))
    try:
        about = remote.about()
    except OSError:
        return None
    return [about.size, about.mtime_ns, xxhash.xxh3_64_intdigest(about.etag.encode()), 0]


def _state(path: str) -> _State | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - a Path for each of 100,000 files takes its time
    except (OSError, ValueError):
        return None
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
