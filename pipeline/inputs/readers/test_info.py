"""What the instrument says about a test: ``test_info.json``, finished or still being written.

A description may be damaged or made to do harm: it is refused before it can take much time or
memory, or make a raw file that cannot be written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oectflow.errors import IngestError
from oectflow.pipeline.inputs.readers.regular_file import read_regular

TEST_INFO = "test_info.json"
#: Stands in place of ``test_info.json`` while a test runs.
TEST_INFO_TEMP = "test_info_temp.json"
WORKFLOW = "workflow.json"
#: The status of a test that has not ended.
RUNNING = "in_progress"

# A test of 40,000 steps.
_MAX_BYTES = 32 * 2**20
_MAX_DEPTH = 50
# An attribute of HDF5 has 64 KiB, and so has the description of a table's columns.
_MAX_TEXT = 32 * 1024
_MAX_KEYS = 1_000
_MAX_PARAMETERS = 400
_MAX_PARAMETER_BYTES = 16 * 1024
_MAX_TABLE_BYTES = 256 * 2**20
_MAX_DIGITS = 300
# No text of it, and no list, can be too long; most descriptions are small.
_SMALL_TEXT = 16 * 1024


@dataclass(frozen=True)
class FolderInfo:
    """What an instrument says about a test.

    Attributes
    ----------
    path
        The JSON file.
    original
        Its content.
    tidy
        The same with flat metadata and the names that current instruments use.
    running
        The test has not ended.
    warnings
        What was left out.
    """

    path: Path
    original: Mapping[str, Any]
    tidy: Mapping[str, Any]
    running: bool = False
    warnings: tuple[str, ...] = ()


def find_test_info(folder: Path) -> Path:
    """Return the description of a test: of one that ended, of one that runs, or the only JSON file.

    Raises
    ------
    IngestError
        There is none.
    """
    try:
        with os.scandir(folder) as entries:
            names = {entry.name for entry in entries}
    except OSError as error:
        reason = error.strerror or str(error) if folder.is_dir() else "no such folder"
        raise IngestError(f"{folder}: {reason}") from None
    for name in (TEST_INFO, TEST_INFO_TEMP):
        if name in names:
            return folder / name
    others = [name for name in names if name.lower().endswith(".json") and name != WORKFLOW]
    if len(others) != 1:
        found = ", ".join(sorted(others)) or "no JSON file"
        raise IngestError(f"{folder}: expected {TEST_INFO}, found {found}")
    return folder / others[0]


def read_test_info(folder: Path) -> FolderInfo:
    """Read the description of a test.

    Raises
    ------
    IngestError
        There is none, it is no JSON, it has no steps, or it is beyond all measure.
    """
    path = find_test_info(folder)
    original, warnings, is_small = _load(path)
    running = path.name == TEST_INFO_TEMP
    steps = original.get("steps", [] if running else None) if isinstance(original, dict) else None
    if not isinstance(steps, list) or (not steps and not running):
        raise IngestError(f"{path}: expected an object with a list 'steps' that is not empty")
    if not is_small:
        _check_steps(path, steps)
    tidy = tidy_test_info({**original, "steps": steps})
    if running:
        tidy["status"] = RUNNING
    if "" in tidy:
        warnings = (*warnings, f"{path.name}: the key '' is left out of the attributes")
        del tidy[""]
    return FolderInfo(path, original, tidy, tidy.get("status") == RUNNING, warnings)


def read_document(path: Path) -> tuple[Any, tuple[str, ...]]:
    """Read a JSON file of the instrument, in UTF-8 or GBK.

    Returns
    -------
    Its content, and warnings about keys that stand twice.

    Raises
    ------
    IngestError
        It is no JSON, or larger, deeper or with longer texts than any description of a test.
    """
    document, warnings, _ = _load(path)
    return document, warnings


def _load(path: Path) -> tuple[Any, tuple[str, ...], bool]:
    """Do as :func:`read_document`; return beside it whether nothing in it can be too large."""
    text = decode(path.name, read_regular(path, _MAX_BYTES))
    is_small = len(text) <= _SMALL_TEXT and text.count(":") <= _MAX_PARAMETERS
    warnings: list[str] = []

    def checked(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(pairs) > _MAX_KEYS:
            raise _Refused(f"an object has {len(pairs):,} keys, expected at most {_MAX_KEYS:,}")
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            warnings.append(f"{path.name}: key {twice[:80]!r} stands twice, the last one counts")
        return found

    try:
        document = json.loads(text, object_pairs_hook=checked, parse_int=_integer)
        if not is_small or text.count("{") + text.count("[") > _MAX_DEPTH:
            _check_value(document, 0)
    except _Refused as refused:
        raise IngestError(f"{path}: {refused}; is it the description of a test?") from None
    except RecursionError:
        raise IngestError(f"{path}: not valid JSON: nested too deeply") from None
    except ValueError as error:
        raise IngestError(f"{path}: not valid JSON ({error}); was the copy interrupted?") from None
    return document, tuple(dict.fromkeys(warnings)), is_small


class _Refused(Exception):
    """The document is beyond all measure."""


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise _Refused(f"a number has {len(digits):,} digits, expected at most {_MAX_DIGITS}")
    return int(digits)


def _check_value(value: Any, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise _Refused(f"nested more than {_MAX_DEPTH} deep")
    if isinstance(value, str):
        if len(value) > _MAX_TEXT:
            raise _Refused(f"a text has {len(value):,} characters, expected at most {_MAX_TEXT:,}")
    elif isinstance(value, dict):
        for key, item in value.items():
            if len(key) > 200:
                raise _Refused(f"a key has {len(key):,} characters, expected at most 200")
            _check_value(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check_value(item, depth + 1)


def _check_steps(path: Path, steps: list[Any]) -> None:
    """Refuse parameters for which a table of steps has no place: one column each."""
    names: set[tuple[str, ...]] = set()
    longest = 0
    for number, step in enumerate(steps, 1):
        for names_of_one, value in _leaves(step) if isinstance(step, Mapping) else ():
            names.add(names_of_one)
            if isinstance(value, list):
                size = len(json.dumps(value))
                longest = max(longest, size)
                if size > _MAX_PARAMETER_BYTES:
                    raise IngestError(
                        f"{path}: step {number}: {'.'.join(names_of_one)} is a list of {size:,} "
                        f"characters, expected at most {_MAX_PARAMETER_BYTES:,}"
                    )
            elif isinstance(value, str):
                longest = max(longest, len(value))
        if len(names) > _MAX_PARAMETERS:
            raise IngestError(
                f"{path}: the steps have more than {_MAX_PARAMETERS} different parameters; "
                "is it the description of a test?"
            )
    if longest * len(steps) > _MAX_TABLE_BYTES:
        raise IngestError(f"{path}: {len(steps)} steps with texts of {longest:,} characters")


def _leaves(
    entries: Mapping[str, Any], above: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in entries.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*above, key))
        else:
            yield (*above, key), value


def tidy_test_info(test_info: Mapping[str, Any]) -> dict[str, Any]:
    """Return a test description with flat metadata and current names; the argument is unchanged.

    ``metadata.*`` moves to the root where that has no such key (``raw_params`` is dropped),
    ``summary`` gives its completed steps and percentage, ``device_id`` becomes ``test_unit_id``,
    ``test_type`` and every ``workflow_info.path`` go.
    """
    tidy = dict(test_info)
    tidy.pop("test_type", None)
    if "device_id" in tidy:
        tidy["test_unit_id"] = tidy.pop("device_id")
    metadata = tidy.pop("metadata", None)
    if isinstance(metadata, Mapping):
        lifted = {key: value for key, value in metadata.items() if key != "raw_params"}
        tidy = lifted | tidy
    summary = tidy.pop("summary", None)
    if isinstance(summary, Mapping):
        for key in ("completed_steps", "completion_percentage"):
            if key in summary:
                tidy[key] = summary[key]
    if isinstance(tidy.get("steps"), list):
        tidy["steps"] = [_without_path(step) for step in tidy["steps"]]
    return tidy


def _without_path(step: Any) -> Any:
    if not isinstance(step, Mapping) or not isinstance(step.get("workflow_info"), Mapping):
        return step
    info = {key: value for key, value in step["workflow_info"].items() if key != "path"}
    return {**step, "workflow_info": info}


def decode(name: str, data: bytes) -> str:
    """Return the text of a file of the instrument.

    Raises
    ------
    IngestError
        It is in an encoding that no instrument writes.
    """
    has_mark = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    for encoding in ("utf-16",) if has_mark else ("utf-8-sig", "gbk"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise IngestError(f"{name}: the text is neither UTF-8 nor GBK; is the file damaged?")
