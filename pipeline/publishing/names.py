"""Names of people, accounts and machines in what is published: found, named, left out.

Folders are always left out: they are of no use elsewhere, and tell about a machine and its users.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from oectflow.errors import OutputError
from oectflow.pipeline.inputs.experiment import Experiment
from oectflow.pipeline.marks.mark import user_name

#: What becomes of names.
Names = Literal["keep", "omit"]
#: Attributes of raw files that are likely to name somebody.
_OF_PEOPLE = re.compile(
    r"(?i)operator|user|author|owner|experimenter|investigator|measured_by|e?mail|host|computer"
)
_ADDRESS = re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]+")
_MOST_NAMED = 20


class NamesFound(OutputError):
    """Names would be published, and nobody has said that they may be."""


@dataclass(frozen=True)
class Finding:
    """A name, and where it stands.

    Attributes
    ----------
    text, where
        The name, and the place.
    can_go
        Whether it can be left out; raw files are published as they are, or not at all.
    """

    text: str
    where: str
    can_go: bool = True

    def __str__(self) -> str:
        return f"{self.text}: {self.where}"


class Cleaner:
    """Takes folders, and if asked names, out of texts.

    Parameters
    ----------
    people
        Who has made marks.
    files
        Files whose folders may stand in texts.
    omit
        Whether names are left out, too.
    """

    def __init__(self, people: Iterable[str], files: Iterable[Path], *, omit: bool) -> None:
        self._people = {name: f"person {k}" for k, name in enumerate(sorted(set(people)), 1)}
        self._omit = omit
        parents = {f"{parent}{os.sep}" for file in files for parent in (file.parent,)}
        self._folders = sorted(parents - {os.sep}, key=len, reverse=True)
        self._path = _absolute_paths()
        self._words = words_of({**self._people, **_machine()})

    def person(self, name: str) -> str:
        """Return the name of somebody, or what stands for it."""
        return self._people.get(name, name) if self._omit else name

    def sample(self, sample: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is known of a device as it is published."""
        return {
            key: value
            if not isinstance(value, str)
            else "somebody"
            if self._omit and _OF_PEOPLE.search(key)
            else self.text(value)
            for key, value in sample.items()
        }

    def text(self, text: str) -> str:
        """Return a text as it is published."""
        for folder in self._folders:
            text = text.replace(folder, "")
        text = self._path.sub("", text)
        if self._omit and self._words is not None:
            known = {**self._people, **_machine()}
            text = self._words.sub(lambda match: known.get(match[0], "…"), text)
        return _ADDRESS.sub("…", text) if self._omit else text


def words_of(names: Mapping[str, str]) -> re.Pattern[str] | None:
    """Return what finds names as whole words, None where there are none."""
    kept = sorted((re.escape(name) for name in names if name), key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?:{'|'.join(kept)})(?!\w)") if kept else None


def in_texts(texts: Iterable[tuple[str, str]], people: Iterable[str]) -> list[Finding]:
    """Return the names in texts, each with its place."""
    pattern = words_of({**dict.fromkeys(people, ""), **_machine()})
    found: dict[Finding, None] = {}
    for place, text in texts:
        names = [] if pattern is None else pattern.findall(text)
        for name in [*names, *_ADDRESS.findall(text)]:
            found[Finding(name, place)] = None
    return list(found)


def in_samples(samples: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    """Return what in samples, by the id of their experiment, is called like somebody's name."""
    found: dict[Finding, None] = {}
    for name, sample in samples.items():
        for key, value in sample.items():
            if isinstance(value, str) and value and _OF_PEOPLE.search(key):
                found[Finding(value[:80], f"{key} of the sample of {name}")] = None
    return list(found)


def in_raw(experiments: Iterable[Path]) -> list[Finding]:
    """Return what in the attributes of raw files looks like the name of somebody."""
    found: dict[Finding, None] = {}
    pattern = words_of(_machine())
    for path in experiments:
        experiment = Experiment(path)
        for key, value in [*experiment.attributes.items(), *experiment.sample.items()]:
            text = str(value).strip()
            if text and (
                _OF_PEOPLE.search(str(key))
                or _ADDRESS.search(text)
                or (pattern is not None and pattern.search(text))
            ):
                where = f"attribute {key} of raw/{path.name}"
                found[Finding(text[:80], where, can_go=False)] = None
    return list(found)


def decide(findings: Sequence[Finding], names: Names | None) -> bool:
    """Return whether names are left out.

    Raises
    ------
    NamesFound
        Nobody has said what is to become of the names.
    OutputError
        They are to be left out, and stand in raw files.
    """
    if not findings or names == "keep":
        return False
    fixed = [one for one in findings if not one.can_go]
    if names == "omit" and fixed:
        raise OutputError(
            f"raw files contain names, and can only be published unchanged or not at all:\n"
            f"{listed(fixed)}\npublish without them (no --with-raw), or with names='keep' "
            "(--names keep)"
        )
    if names is None:
        raise NamesFound(
            f"names of people or machines would be published:\n{listed(findings)}\n"
            "say names='keep' (--names keep) to publish them, names='omit' (--names omit) to "
            "leave them out"
        )
    return True


def listed(findings: Sequence[Finding]) -> str:
    """Return findings as text, a line each."""
    more = len(findings) - _MOST_NAMED
    lines = [f"    {one}" for one in findings[:_MOST_NAMED]]
    return "\n".join([*lines, *([f"    and {more} more"] if more > 0 else [])])


def _machine() -> dict[str, str]:
    """Return the names of this account and machine, and what stands for each."""
    host = platform.node()
    names = {user_name(): "somebody", host: "a computer", host.partition(".")[0]: "a computer"}
    # Of every second machine.
    return {n: w for n, w in names.items() if n not in ("", "unknown", "localhost")}


def _absolute_paths() -> re.Pattern[str]:
    """Return what finds the folders of absolute paths, and no paths inside of HDF5 files."""
    try:
        roots = [re.escape(name) for name in os.listdir(os.sep)]  # noqa: PTH208 - names alone
    except OSError:
        roots = []
    parts = "|".join([*roots, "home", "Users"])
    return re.compile(
        rf"(?<![\w.])(?:/(?:{parts})/(?:[^\s/:'\"]+/)*|[A-Za-z]:\\(?:[^\\:'\"\n]+\\)*)"
    )
