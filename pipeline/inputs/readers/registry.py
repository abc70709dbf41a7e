"""The readers that there are, and which of them takes a path.

Built-in readers are named here by module and imported when a path may be theirs: one that needs a
package that is not installed says so, and costs nobody anything.  Installed packages announce
theirs under the entry point group ``oectflow.readers``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

from oectflow.errors import IngestError, did_you_mean
from oectflow.pipeline.inputs.readers.reader import Reader, Recognition

_PACKAGE = "oectflow.pipeline.inputs.readers"


@dataclass(frozen=True)
class BuiltIn:
    """A reader of ours, by the module of this package whose ``READER`` it is.

    Attributes
    ----------
    name
        Its name, and its module's.
    endings
        Of files that may be its own, in small letters with the dot; none for all files.
    folders
        It reads folders, and no files.
    extra
        The extra of this package that installs what it needs.
    """

    name: str
    endings: tuple[str, ...] = ()
    folders: bool = False
    extra: str = ""

    def may_read(self, path: Path, *, is_folder: bool) -> bool:
        """Return whether its module is worth importing for a path."""
        if is_folder or self.folders:
            return is_folder and self.folders
        return not self.endings or path.suffix.lower() in self.endings


#: Where two are equally confident, the first reads.
BUILT_IN = (
    BuiltIn("instrument", folders=True),
    BuiltIn("palmsens"),
    BuiltIn("gamry"),
    BuiltIn("biologic"),
    BuiltIn("easyexpert"),
    BuiltIn("keithley"),
    BuiltIn("excel"),
    BuiltIn("text"),
)


@dataclass(frozen=True)
class Candidate:
    """What one reader says of a path."""

    name: str
    recognition: Recognition


@dataclass(frozen=True)
class Choice:
    """Who reads a path.

    Attributes
    ----------
    reader
        None where nobody recognises it.
    recognition
        What that reader saw; of nobody, why not.
    candidates
        All that were asked, the most confident first.
    """

    reader: Reader | None
    recognition: Recognition
    candidates: tuple[Candidate, ...]


def find_reader(path: Path) -> Choice:
    """Ask the readers for a path, and return the one that recognises it best.

    Nothing that a reader does wrong is raised: it has then not recognised the path.

    Parameters
    ----------
    path
        A file, or a folder that is one measurement.
    """
    is_folder = path.is_dir()
    found: list[tuple[Candidate, Reader | None]] = []
    for built_in in BUILT_IN:
        if built_in.may_read(path, is_folder=is_folder):
            try:
                found.append(_asked(_built_in(built_in), path))
            except IngestError as error:
                candidate = Candidate(built_in.name, Recognition(0, str(error)))
                found.append((candidate, None))
    found += [_asked(reader, path) for reader in plug_ins()[0]]
    found.sort(key=lambda item: -item[0].recognition.confidence)
    candidates = tuple(candidate for candidate, _ in found)
    if found and candidates[0].recognition.confidence > 0:
        return Choice(found[0][1], candidates[0].recognition, candidates)
    reasons = [f"{one.name}: {one.recognition.reason}" for one in candidates]
    reason = "; ".join(reasons) or "no reader for " + (
        "folders" if is_folder else f"files *{path.suffix}" if path.suffix else "such files"
    )
    return Choice(None, Recognition(0, reason), candidates)


def get_reader(name: str) -> Reader:
    """Return the reader of this name.

    Raises
    ------
    IngestError
        There is none, or what it needs is not installed; the message names the remedy.
    """
    for built_in in BUILT_IN:
        if built_in.name == name:
            return _built_in(built_in)
    readers = {reader.name: reader for reader in plug_ins()[0]}
    if name not in readers:
        known = [*readers, *(built_in.name for built_in in BUILT_IN)]
        raise IngestError(f"unknown reader {name!r}{did_you_mean(name, known)}")
    return readers[name]


@cache
def plug_ins() -> tuple[Sequence[Reader], Sequence[str]]:
    """Return the readers of installed packages, and a warning for each that cannot be used."""
    readers: list[Reader] = []
    warnings = []
    taken = {built_in.name for built_in in BUILT_IN}
    for point in entry_points(group="oectflow.readers"):
        label = f"reader {point.name!r} ({point.value})"
        try:
            reader = point.load()
        except Exception as error:  # noqa: BLE001  whatever a package does must not stop the others
            warnings.append(f"{label} left out: it cannot be imported ({_line(error)})")
            continue
        lacks = [name for name in ("name", "title", "recognises", "read") if not _has(reader, name)]
        if lacks:
            warnings.append(f"{label} left out: it has no attribute {', '.join(lacks)}")
        elif reader.name in taken:
            warnings.append(f"{label} left out: there is a reader {reader.name!r} already")
        else:
            taken.add(reader.name)
            readers.append(reader)
    return tuple(readers), tuple(warnings)


def _has(reader: object, name: str) -> bool:
    attribute = getattr(reader, name, None)
    return callable(attribute) if name in ("recognises", "read") else isinstance(attribute, str)


def _built_in(built_in: BuiltIn) -> Reader:
    try:
        reader: Reader = import_module(f"{_PACKAGE}.{built_in.name}").READER
    except ImportError as error:
        remedy = f"oectflow[{built_in.extra}]" if built_in.extra else "--force-reinstall oectflow"
        raise IngestError(f"needs {error.name or error}: pip install '{remedy}'") from None
    return reader


def _asked(reader: Reader, path: Path) -> tuple[Candidate, Reader | None]:
    try:
        recognition = reader.recognises(path)
    except Exception as error:  # noqa: BLE001  one reader's fault must not stop the others
        recognition = Recognition(0, f"failed on it ({_line(error)})")
    return Candidate(reader.name, recognition), reader


def _line(error: BaseException) -> str:
    """Return what an error says, in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())
