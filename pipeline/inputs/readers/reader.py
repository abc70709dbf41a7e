"""What a reader is, and which one takes a path.

An installed package announces its own readers under the entry point group ``oectflow.readers``:
each entry names an object with the attributes of :class:`Reader`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from oectflow.measurement import Measurement


@dataclass(frozen=True)
class Recognition:
    """Whether a reader can read a path.

    Attributes
    ----------
    confidence
        0 (it cannot) to 1 (nothing else writes this).  The reader with the largest one reads.
    reason
        What it saw, for the user: ``"first line is 'SetupTitle'"``.
    """

    confidence: float
    reason: str


@dataclass(frozen=True)
class Reading:
    """What a reader found in a path.

    Attributes
    ----------
    measurements
        The experiments in it; each has its own warnings.
    files
        All files that were read for it, so that nobody reads them a second time on their own.
    """

    measurements: Sequence[Measurement]
    files: Sequence[Path] = field(default=())


def mistake_of(reader: str, error: Exception) -> str:
    """Return what to say of a reader that raised something other than an :class:`IngestError`."""
    said = " ".join(f"{type(error).__name__}: {error}".split())
    return (
        f"the reader {reader!r} failed: {said}; an IngestError would name the place and the remedy"
    )


class Reader(Protocol):
    """Reads one format.

    A reader may have a method ``tables(path)`` as well: it returns the tables of a file as they
    were written (:class:`~oectflow.pipeline.inputs.readers.tables.Table`), and
    :func:`oectflow.inspect` shows what their headings were taken for.

    Attributes
    ----------
    name
        One word, for commands and records: ``"instrument"``, ``"text"``, ``"excel"``.
    title
        What it reads, for people.
    """

    name: str
    title: str

    def recognises(self, path: Path) -> Recognition:
        """Look at a file or folder, briefly; nothing is raised for what is not its own."""
        ...

    def read(self, path: Path) -> Reading:
        """Read a file or folder that it recognises.

        Raises
        ------
        IngestError
            It cannot be read; the message names file, place and remedy.
        """
        ...
