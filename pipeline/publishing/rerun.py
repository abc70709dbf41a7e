"""Compute a publication again, and compare it bit by bit."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oectflow.errors import OutputError
from oectflow.extractors.chosen_windows import CHOSEN_WINDOWS
from oectflow.local_path import local_path
from oectflow.pipeline.execution.driving.run import extract
from oectflow.pipeline.execution.worker.tasks import software_versions
from oectflow.pipeline.features.feature_list import FeatureList
from oectflow.pipeline.inputs.find import Experiments, find_experiments
from oectflow.pipeline.inputs.sample_keys import identifier
from oectflow.pipeline.inputs.samples import ANY, Samples
from oectflow.pipeline.marks.store import FOLDER
from oectflow.pipeline.outputs.places import partition_of, result_files
from oectflow.pipeline.outputs.sink import read_metadata
from oectflow.pipeline.outputs.states import damage_of
from oectflow.pipeline.publishing.contents import sha256_of
from oectflow.pipeline.publishing.crate import METADATA, read_manifest
from oectflow.pipeline.publishing.differences import Difference, compare_results

#: Faults that are named when a comparison is printed.
_MOST_NAMED = 20


@dataclass(frozen=True)
class Rerun:
    """Comparison of a publication with the results of computing it again.

    Attributes
    ----------
    n_experiments, n_values
        Number of experiments and values that were compared.
    changed
        Files of the publication that do not agree with its manifest.
    missing
        Experiments that could not be computed again, each with the reason.
    differences
        The differences, by experiment and variable.
    versions
        Packages that have another version on this machine: name, version then, version now.
    """

    n_experiments: int
    n_values: int
    changed: tuple[str, ...]
    missing: tuple[str, ...]
    differences: tuple[Difference, ...]
    versions: tuple[tuple[str, str, str], ...]

    @property
    def ok(self) -> bool:
        """Whether every number is the same."""
        return not (self.changed or self.missing or self.differences)

    def __str__(self) -> str:
        if self.ok:
            lines = [
                f"identical: {self.n_values:,} values of {self.n_experiments:,} experiments, "
                "bit by bit"
            ]
        else:
            lines = [f"not the same; {self.n_experiments:,} experiments were compared"]
            for title, found in (
                ("files that are not what the manifest says", self.changed),
                ("not computed again", self.missing),
                ("different", self.differences),
            ):
                if found:
                    lines.append(f"{title}: {len(found):,}")
                    lines += [f"    {one}" for one in found[:_MOST_NAMED]]
                    if len(found) > _MOST_NAMED:
                        lines.append(f"    and {len(found) - _MOST_NAMED:,} more")
        if self.versions:
            said = ", ".join(f"{name} {now} ({then})" for name, then, now in self.versions)
            lines.append(f"other versions here than computed it: {said}")
        return "\n".join(lines)


def rerun(
    publication: str | os.PathLike[str],
    *,
    raw: Experiments | None = None,
    progress: bool = True,
) -> Rerun:
    """Compute a publication again from its raw files, and compare every number bit by bit.

    Parameters
    ----------
    publication
        Folder or zip that :func:`oectflow.publish` has written.
    raw
        Raw files, folder or glob, if they are not part of the publication.  Files are used if they
        have the size and the SHA-256 in the manifest; their names do not matter.
    progress
        Show a progress bar.

    Returns
    -------
    The differences; print them.

    Raises
    ------
    OutputError
        This is not a publication, or raw files are needed but not given.
    ConfigError
        Its configuration cannot be used here, for example because an extractor is missing.
    InputError
        ``raw`` was given, but there are no files.
    """
    with _unpacked(local_path(publication, OutputError)) as folder:
        digests, described = read_manifest(folder)
        changed = _changed(folder, digests)
        published = _read_results(folder)
        places = _found_raw(folder, described, raw)
        features = FeatureList.load(folder / "features.yaml")
        with tempfile.TemporaryDirectory(prefix="oectflow-rerun-") as scratch:
            out = Path(scratch) / "results"
            reasons = _extract_all(folder, features, published, places, out, progress=progress)
            return _compared(published, out, changed, reasons)


def _extract_all(
    folder: Path,
    features: FeatureList,
    published: Mapping[str, tuple[Path, Mapping[str, Any]]],
    places: Mapping[str, Path],
    out: Path,
    *,
    progress: bool,
) -> dict[str, str]:
    """Compute everything again, and return by the place of a result why there is none."""
    reasons = {
        place: f"{metadata['source']['path']}: no raw file with its size and SHA-256"
        for place, (_, metadata) in published.items()
        if metadata["source"]["path"] not in places
    }
    out.mkdir()
    if (folder / "results" / FOLDER).is_dir():
        # Windows that were set by hand are there, too, and a run uses them.
        shutil.copytree(folder / "results" / FOLDER, out / FOLDER)
    there = {place: one for place, (_, one) in published.items() if place not in reasons}
    partition = partition_of(folder / "results")
    for group in _groups(there):
        # Raw files are named as they were, so that names in results are the same.
        rows = [_row(there[place]) for place in group]
        report = extract(
            [places[there[place]["source"]["path"]] for place in group],
            features,
            out,
            samples=Samples.from_json(_json(rows)),
            expand_multidim=there[group[0]]["expand_multidim"],
            partition_by=partition,
            progress=progress,
        )
        said = {record.experiment_id: record.reason for record in report.experiments}
        for place in group:
            if not (out / place).is_file():
                name = there[place]["identity"]["experiment_id"]
                reasons[place] = f"{name}: {said.get(name) or 'another test_id in its raw file'}"
    return reasons


def _groups(described: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Divide results so that no two of a group say different things of one device."""
    groups: list[tuple[dict[tuple[str, str], Any], list[str]]] = []
    for place, metadata in described.items():
        row = _row(metadata)
        key, says = (row["chip"], row["device"]), (row["values"], row["units"])
        for known, places in groups:
            anybody = ANY in key or any(ANY in other for other in known)
            if (known == {key: says}) or (not anybody and known.get(key, says) == says):
                known[key] = says
                places.append(place)
                break
        else:
            groups.append(({key: says}, [place]))
    return [places for _, places in groups]


def _row(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was known of a device as a row of a table of samples."""
    identity = metadata["identity"]
    sample = dict(identity["sample"])
    units = sample.pop("units", {})
    # A run finds them beside the marks.
    sample.pop(CHOSEN_WINDOWS, None)
    return {
        "place": "the publication",
        "chip": identifier(identity["chip_id"]) or ANY,
        "device": identifier(identity["device_id"]) or ANY,
        "values": sample,
        "units": units,
    }


def _json(rows: Sequence[Mapping[str, Any]]) -> str:
    distinct = {json.dumps(row, sort_keys=True): row for row in rows if row["values"]}
    return json.dumps(list(distinct.values()))


def _read_results(folder: Path) -> dict[str, tuple[Path, Mapping[str, Any]]]:
    published: dict[str, tuple[Path, Mapping[str, Any]]] = {}
    for path in result_files(folder / "results"):
        # The manifest has said already that it is not what it was.
        metadata = None if damage_of(path) else read_metadata(path)
        if metadata is not None:
            place = path.relative_to(folder / "results").as_posix()
            published[place] = (path, metadata)
    if not published:
        raise OutputError(f"{folder}: no results in this publication; get it again")
    return published


def _changed(folder: Path, digests: Mapping[str, str]) -> list[str]:
    changed = []
    for place, digest in digests.items():
        path = folder / place
        if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
            changed.append(f"{place}: is not there")
        elif sha256_of(path) != digest:
            changed.append(f"{place}: has another SHA-256")
    known = {*digests, METADATA}
    there = (path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.parquet")))
    changed += [f"{place}: is not in the manifest" for place in there if place not in known]
    return changed


def _found_raw(
    folder: Path, described: Mapping[str, Mapping[str, Any]], raw: Experiments | None
) -> dict[str, Path]:
    """Return the raw files that are those of the manifest, by their places there."""
    own = [path for path in (folder / "raw").glob("*") if path.is_file()]
    if raw is None and not own:
        raise OutputError(
            f"{len(described)} raw files are not part of this publication; name the folder that "
            "has them with raw= (--raw)"
        )
    candidates = [*own, *([] if raw is None else find_experiments(raw))]
    by_size: dict[int, list[Path]] = {}
    for path in candidates:
        if path.is_file():
            by_size.setdefault(path.stat().st_size, []).append(path)
    digests: dict[Path, str] = {}
    found = {}
    for place, one in described.items():
        for path in by_size.get(one["size"], ()):
            if path not in digests:
                digests[path] = sha256_of(path)
            if digests[path] == one["sha256"]:
                found[place] = path
                break
    return found


def _compared(
    published: Mapping[str, tuple[Path, Mapping[str, Any]]],
    out: Path,
    changed: Sequence[str],
    reasons: Mapping[str, str],
) -> Rerun:
    n_values, n_experiments = 0, 0
    differences: list[Difference] = []
    for place, (path, metadata) in published.items():
        if place in reasons:
            continue
        now = read_metadata(out / place)
        assert now is not None
        n, found = compare_results((path, metadata), (out / place, now))
        n_experiments, n_values = n_experiments + 1, n_values + n
        differences += found
    here = software_versions()
    versions = {
        (name, then, here.get(name, "none"))
        for _, metadata in published.values()
        for name, then in metadata["versions"].items()
        if here.get(name) != then
    }
    return Rerun(
        n_experiments, n_values, tuple(changed), tuple(reasons.values()), tuple(differences),
        tuple(sorted(versions)),
    )  # fmt: skip


@contextmanager
def _unpacked(publication: Path) -> Iterator[Path]:
    """Yield the folder of a publication."""
    if publication.is_dir():
        yield publication
        return
    with tempfile.TemporaryDirectory(prefix="oectflow-publication-") as scratch:
        folder = Path(scratch)
        try:
            with zipfile.ZipFile(publication) as packed:
                needed = sum(member.file_size for member in packed.infolist())
                free = shutil.disk_usage(folder).free
                if needed > free:
                    raise OutputError(
                        f"{publication}: {needed / 1e9:.1f} GB when unpacked, and {folder.parent} "
                        f"has {free / 1e9:.1f} GB; set TMPDIR to a larger place"
                    )
                # Names that lead out of the folder are taken as names in it.
                packed.extractall(folder)
        except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
            raise OutputError(
                f"{publication}: cannot be read as a folder or zip ({error}); get it again"
            ) from error
        yield folder
