"""Report of an ingest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Status = Literal["written", "updated", "skipped", "failed"]

# Endings of what nobody expects to be read: counted, not listed.
_ENDINGS = (
    ".png .jpg .jpeg .gif .bmp .tif .tiff .svg .webp .pdf .doc .docx .odt .rtf .ppt .pptx .odp .md "
    ".html .htm .mp4 .avi .mov .mp3 .zip .7z .rar .gz .tar .exe .dll .py .ipynb .m .pyc .opj .opju "
    ".pxp .h5 .hdf5 .parquet .lnk .url .tmp .bak"
)
NO_MEASUREMENTS = frozenset(_ENDINGS.split(" "))
_LISTED = 50


@dataclass(frozen=True)
class IngestRecord:
    """The outcome for one experiment: an instrument folder, or a measurement in a file.

    Attributes
    ----------
    source
        The folder or file.
    status
        ``"written"``; ``"updated"``, if its source has grown or changed; ``"skipped"``, if a file
        of this name exists; or ``"failed"``.
    path
        The HDF5 file; None if there is none.
    reason
        Why it was skipped or failed.
    reader
        The reader that read it.
    recognition
        How the reader recognised it.
    n_steps
        Steps written, by kind.
    warnings
        Everything that was left out or assumed, with the step.
    files
        Further files that were read for it.
    """

    source: Path
    status: Status
    path: Path | None = None
    reason: str = ""
    reader: str = ""
    recognition: str = ""
    n_steps: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()

    @property
    def folder(self) -> Path:
        """The folder or file that was ingested."""
        return self.source

    @property
    def n_transfer(self) -> int:
        """Transfer steps written."""
        return self.n_steps.get("transfer", 0)

    @property
    def n_transient(self) -> int:
        """Transient steps written."""
        return self.n_steps.get("transient", 0)


@dataclass(frozen=True)
class Unread:
    """A file that no reader could read.

    Attributes
    ----------
    path
        The file.
    reason
        The reasons given by the readers.
    """

    path: Path
    reason: str


@dataclass(frozen=True)
class IngestReport:
    """The outcome for every folder and file, in the order of their paths.

    Attributes
    ----------
    records
        One for each experiment.
    unread
        Files that no reader could read.
    notes
        Further information: readers that could not be loaded, linked and hidden folders.
    """

    records: tuple[IngestRecord, ...]
    unread: tuple[Unread, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def written(self) -> list[IngestRecord]:
        """The experiments whose file was written or updated."""
        return [record for record in self.records if record.status in ("written", "updated")]

    @property
    def skipped(self) -> list[IngestRecord]:
        """The experiments whose file existed already."""
        return [record for record in self.records if record.status == "skipped"]

    @property
    def failed(self) -> list[IngestRecord]:
        """The folders and files that were recognised, but could not be converted."""
        return [record for record in self.records if record.status == "failed"]

    def __str__(self) -> str:
        counts = Counter(record.status for record in self.records)
        words = [f"{counts['written']} written"]
        words += [f"{counts['updated']} updated"] if counts["updated"] else []
        words += [f"{counts['skipped']} skipped", f"{counts['failed']} failed"]
        words += [f"{len(self.unread)} not read"] if self.unread else []
        lines = [", ".join(words), *self._by_reader()]
        for record in self.written:
            if record.reader != "instrument":
                steps = ", ".join(f"{n} {kind}" for kind, n in record.n_steps.items())
                lines.append(f"{record.source}: {steps}; {record.reader}: {record.recognition}")
        lines += [f"failed: {_named(record)}" for record in self.failed]
        for record in self.records:
            lines += [f"warning: {record.source}: {warning}" for warning in record.warnings]
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join([*lines, *_not_read(self.unread)])

    def _by_reader(self) -> Iterator[str]:
        readers = Counter(record.reader for record in self.written)
        if set(readers) - {"instrument"}:
            yield "read by " + ", ".join(f"{name}: {n}" for name, n in sorted(readers.items()))


def _named(record: IngestRecord) -> str:
    """Return the reason of a failure behind its source, which most reasons name themselves."""
    source = str(record.source)
    return record.reason if record.reason.startswith(source) else f"{source}: {record.reason}"


def _not_read(unread: Sequence[Unread]) -> Iterator[str]:
    """Yield a line for each file that somebody might have expected to be read, and one for more."""
    listed = [one for one in unread if one.path.suffix.lower() not in NO_MEASUREMENTS]
    yield from (f"not read: {one.path}: {one.reason}" for one in listed[:_LISTED])
    if len(listed) > _LISTED:
        yield f"not read: {len(listed) - _LISTED} more files; report.unread has them all"
    endings = Counter(
        one.path.suffix.lower() for one in unread if one.path.suffix.lower() in NO_MEASUREMENTS
    )
    if endings:
        counted = ", ".join(f"{n} *{ending}" for ending, n in sorted(endings.items()))
        yield f"not read: {counted}"
