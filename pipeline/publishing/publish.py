"""Write a publication: completely, or not at all."""

from __future__ import annotations

import json
import os
import shutil
import uuid
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import oectflow
from oectflow.atomic_write import atomic_write
from oectflow.errors import OutputError, ParameterError, StorageError
from oectflow.local_path import local_path
from oectflow.pipeline.execution.driving.lock import only_run_in
from oectflow.pipeline.inputs.find import Experiments
from oectflow.pipeline.outputs.html import report
from oectflow.pipeline.publishing.contents import Contents, collect
from oectflow.pipeline.publishing.copies import copy_marks, copy_results, read_entries, texts_of
from oectflow.pipeline.publishing.crate import need_rocrate, person, write_manifest
from oectflow.pipeline.publishing.environment import REQUIREMENTS, environment, requirements
from oectflow.pipeline.publishing.names import (
    Cleaner,
    Finding,
    Names,
    decide,
    in_raw,
    in_samples,
    in_texts,
)
from oectflow.pipeline.publishing.tables import write_tables

_README = """\
# {title}

{description}

- `report.html`: a report to look at in a browser.
- `tables/`: CSV files; `datapackage.json` says what each column is, and its unit.
- `results/`: all numbers, one Parquet file per experiment; marks are in `results/_marks`.
- `features.yaml`: what was computed, and how.
- `environment.json`, `requirements.txt`: with which software.
- `ro-crate-metadata.json`: the manifest (RO-Crate, Process Run Crate): SHA-256 of every file.

## Compute it again

With oectflow {version}; `requirements.txt` has the versions of all packages beside it.

```bash
oectflow rerun .{raw}
```

This computes every number again from the raw files, which have to be the same ones by SHA-256, and
compares them bit by bit.{notes}
"""


@dataclass(frozen=True)
class Publication:
    """A publication that was written.

    Attributes
    ----------
    path
        The folder or zip.
    n_experiments, n_bytes
        Number of experiments, and bytes of all files before they are packed.
    notes
        Notes for people who compute it again.
    """

    path: Path
    n_experiments: int
    n_bytes: int
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        said = f"{self.path}: {self.n_experiments:,} experiments, {self.n_bytes / 1e6:.1f} MB"
        return "\n".join([said, *self.notes])


def publish(
    results: str | os.PathLike[str],
    out: str | os.PathLike[str] = "publication.zip",
    *,
    raw: Experiments | None = None,
    with_raw: bool = False,
    names: Names | None = None,
    title: str = "OECT measurements",
    description: str = "",
    authors: Sequence[str] = (),
    license: str = "",  # noqa: A002 - the word of the standard
    progress: bool = True,
) -> Publication:
    """Write results as a publication from which another machine can compute the same numbers.

    It contains the results with their marks, tables (Frictionless data package, with units), the
    report, the configuration, the versions of the software, and a manifest (RO-Crate, Process Run
    Crate) with the SHA-256 of every file.  :func:`oectflow.rerun` computes the results again and
    compares them.

    Parameters
    ----------
    results
        Folder that :func:`oectflow.extract` has written.
    out
        A name that ends in ``.zip``, or the name of a folder.  It must not exist yet.
    raw
        Raw files, folder or glob; by default the files that the results name.  They must exist, and
        the features must have been computed from them.
    with_raw
        Publish the raw files, too.  Otherwise, the manifest only has the name, size and SHA-256 of
        each.
    names
        ``"keep"`` or ``"omit"`` the names of people, accounts and machines in marks, messages and
        raw files.  By default, such names are an error, and the message lists them.  Folder names
        of this machine are always left out.
    title, description
        Title of the publication, and a sentence or two about it.
    authors
        Names, each followed by the ORCID if there is one.
    license
        SPDX identifier, such as ``"CC-BY-4.0"``, or a web address.
    progress
        Show a progress bar while the report is drawn.

    Raises
    ------
    OutputError
        Results are broken or come from several configurations, raw files are missing or have
        changed, names were found and ``names`` is not given, or ``out`` exists.
    StorageError
        ``out`` cannot be written; no part of it is left.
    OectflowError
        rocrate is not installed.
    """
    if names not in (None, "keep", "omit"):
        raise ParameterError(f"names={names!r}: expected 'keep', 'omit' or None")
    need_rocrate()
    folder, target = local_path(results, OutputError), local_path(out, StorageError)
    _need_free(target)
    for author in authors:
        person(author)
    with _quiet(folder):
        contents = collect(folder, raw)
        found = find_names(folder, contents, with_raw=with_raw)
        omit = decide(found, names)
        people = [str(entry["who"]) for entry in read_entries(folder)]
        files = [item.raw.path for item in contents.items] + [i.result for i in contents.items]
        clean = Cleaner(people, files, omit=omit)
        about = f"Features of {len(contents.items)} experiments with organic electrochemical"
        description = description or f"{about} transistors."
        with _staged(target) as stage:
            copy_results(contents.items, stage / "results", clean)
            copy_marks(folder, stage / "results", clean)
            notes = [*contents.notes, *write_tables(stage / "results", stage / "tables", title)]
            contents.features.to_yaml(stage / "features.yaml")
            _write_environment(stage, contents)
            if with_raw:
                _copy_raw(contents, stage)
            report(
                stage / "results", stage / "report.html", title=title, progress=progress,
                raw=[item.raw.path for item in contents.items],
            )  # fmt: skip
            said = _README.format(
                title=title, description=description, version=oectflow.__version__,
                raw="" if with_raw else " --raw FOLDER_OF_RAW_FILES",
                notes="".join(f"\n\nNote: {note}." for note in notes),
            )  # fmt: skip
            (stage / "README.md").write_text(said, encoding="utf-8")
            write_manifest(
                stage, contents, title=title, description=description, license=license,
                authors=authors, published=datetime.now().astimezone(),
            )  # fmt: skip
            n_bytes = sum(path.stat().st_size for path in stage.rglob("*") if path.is_file())
    return Publication(target, len(contents.items), n_bytes, tuple(notes))


def find_names(folder: Path, contents: Contents, *, with_raw: bool) -> list[Finding]:
    """Return the names of people, accounts and machines that would be published."""
    entries: dict[str, int] = {}
    for entry in read_entries(folder):
        entries[str(entry["who"])] = entries.get(str(entry["who"]), 0) + 1
    found = [
        Finding(name, f"who has made {n} mark{'' if n == 1 else 's'} or undone one")
        for name, n in entries.items()
    ]
    found += in_texts(texts_of(folder, contents.items), entries)
    samples = {i.experiment_id: i.metadata["identity"]["sample"] for i in contents.items}
    found += in_samples(samples)
    if with_raw:
        found += in_raw([item.raw.path for item in contents.items])
    return found


def _need_free(target: Path) -> None:
    if target.exists():
        raise OutputError(f"{target}: exists; choose another name, or remove it")
    if not target.parent.is_dir():
        raise StorageError(f"{target}: cannot be written (there is no folder {target.parent})")


def _quiet(folder: Path) -> AbstractContextManager[None]:
    """Hold the lock of the results, so that nobody changes them meanwhile."""
    if not folder.is_dir():
        raise OutputError(f"{folder}: there is no such folder of results")
    # Of a folder that may only be read the lock cannot be held.
    return only_run_in(folder) if os.access(folder, os.W_OK) else nullcontext()


@contextmanager
def _staged(target: Path) -> Iterator[Path]:
    """Yield a folder beside the target, which becomes it if all goes well."""
    stage = target.with_name(f".{target.name[:200]}.{uuid.uuid4().hex[:16]}.tmp")
    try:
        stage.mkdir()
        yield stage
        if target.suffix.lower() == ".zip":
            with atomic_write(target) as partial:
                _pack(stage, partial)
        else:
            stage.rename(target)
    except OSError as error:
        raise StorageError(f"{target}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _pack(folder: Path, path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in sorted(folder.rglob("*")):
            # What is packed already would only take time.
            stored = file.suffix in (".parquet", ".h5", ".hdf5")
            how = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
            packed.write(file, file.relative_to(folder), how)


def _write_environment(stage: Path, contents: Contents) -> None:
    known = environment([item.metadata["versions"] for item in contents.items])
    text = json.dumps(known, indent=2)
    (stage / "environment.json").write_text(f"{text}\n", encoding="utf-8")
    (stage / REQUIREMENTS).write_text(requirements(), encoding="utf-8")


def _copy_raw(contents: Contents, stage: Path) -> None:
    for item in contents.items:
        target = stage / item.raw.place
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(item.raw.path, target)
