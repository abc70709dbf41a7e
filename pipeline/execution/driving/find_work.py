"""Find the experiments, and what is missing for each, before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from pathlib import Path
from typing import Any

from oectflow.errors import ConfigError, InputError, OutputError
from oectflow.extractors.chosen_windows import with_windows
from oectflow.pipeline.execution.driving.file_book import FileBook
from oectflow.pipeline.execution.driving.grown import kept_steps, trails_of
from oectflow.pipeline.execution.planning.work import (
    ExperimentTask,
    Job,
    StepTimeoutOption,
)
from oectflow.pipeline.execution.report import ExperimentRecord
from oectflow.pipeline.execution.worker.run_extractor import used_sample
from oectflow.pipeline.features.feature_list import FeatureList
from oectflow.pipeline.inputs.object_file import save_index
from oectflow.pipeline.inputs.samples import Samples, sample_of
from oectflow.pipeline.inputs.step_digests import Trails
from oectflow.pipeline.outputs.states import RawFiles, Verify, damage_of, notes_on, same_source
from oectflow.pipeline.outputs.trouble import flags_of_result
from oectflow.place import is_remote

#: Raw files of a store that are fetched together.
_TOGETHER = 32
_REDEFINED = "its definition or its code has changed"
_SAMPLE_CHANGED = "what is known of the sample, or chosen by hand, has changed"


def find_work(
    paths: Iterable[Path],
    features: FeatureList,
    out: Path,
    *,
    force: bool,
    expand_multidim: bool,
    topic: str,
    samples: Samples | None = None,
    step_timeout: StepTimeoutOption = "auto",
    verify: Verify = "identity",
    allow_external: bool = False,
    partition_by: str | None = None,
    book: FileBook | None = None,
    windows: Mapping[str, Sequence[Sequence[Any]]] | None = None,
) -> Iterator[Job | ExperimentRecord]:
    """Look at every experiment and find out what to do, or why there is nothing to do.

    This reads only the metadata of raw files and of earlier results, and only for experiments that
    are not in the book.

    Yields
    ------
    For each path, in order, a job; or a record if the file cannot be used, belongs to an earlier
    experiment in the list, or is unchanged.
    """
    fingerprints = features.fingerprints()
    windows = windows or {}
    raw = RawFiles(out, allow_external=allow_external, partition_by=partition_by)
    for index, path in enumerate(_ahead(paths, raw, None if verify == "content" else book)):
        remembered = book.find(path) if book else None
        if (
            remembered
            and verify == "identity"
            and not force
            and raw.claim(remembered.out_path, path, remembered.experiment_id)
        ):
            yield remembered
            continue
        try:
            found = raw.look(path)
            experiment, out_path, metadata = found.experiment, found.result, found.metadata
            name, damage = experiment.experiment_id, found.damage
            sample, warnings = sample_of(experiment, samples)
            known = with_windows(sample, windows.get(name, ()))
            warnings = [*notes_on(experiment), *warnings]
        except (InputError, OutputError, ConfigError) as error:
            reason = str(error) if str(path) in str(error) else f"{path}: {error}"
            yield ExperimentRecord(path.stem, str(path), "failed", reason)
            continue
        reused: tuple[str, ...] = ()
        dropped: dict[str, str] = {}
        first: dict[str, int] = {}
        trails: Trails = {}
        why = dict.fromkeys(features.features, "it was never computed")
        if metadata is not None:
            asked = {} if force else fingerprints
            reused, dropped, why = _reusable(metadata, features, asked, known)
            if same_source(metadata, experiment, verify):
                trails = trails_of(metadata)
            else:
                defined = {f.name: f.extractor for f in features.extracted if f.name in reused}
                alike = {name: one for name, one in defined.items() if one is not None}
                first, trails = kept_steps(metadata, experiment, alike)
                reused = ()
                gone = metadata["features"].keys() - features.features.keys()
                dropped = dict.fromkeys(sorted(gone), "the raw file has changed")
                why = dict.fromkeys(features.features, "the raw file has changed") | why
        unchanged = (
            metadata is not None
            and set(features.features) <= set(reused)
            and _same_form(metadata, features, expand_multidim)
            and metadata["identity"].get("sample", {}) == sample
        )
        # What is kept in a new file is read now: in a task it would be too late to compute it.
        if metadata is not None and (reused or first) and (verify == "content" or not unchanged):
            damage = damage_of(out_path)
            if damage:
                gone = metadata["features"].keys() - features.features.keys()
                dropped |= dict.fromkeys(sorted(gone), "its result was damaged")
                reused, unchanged, first, trails = (), False, {}, {}
                why = dict.fromkeys(features.features, "its result was damaged") | why
        if unchanged and metadata is not None:
            yield ExperimentRecord(
                name,
                str(path),
                "unchanged",
                out_path=str(out_path),
                reused=reused,
                n_bytes=out_path.stat().st_size,
                flags=flags_of_result(metadata),
                warnings=tuple(warnings),
            )
            continue
        if is_remote(path):
            # Without it, the next run and every worker ask more, nothing else.
            with suppress(OSError):
                save_index(experiment.path, out)
        sources = experiment.sources
        yield Job(
            index,
            ExperimentTask(
                path=str(path.absolute()),
                identity=experiment.identity,
                out_path=str(out_path.absolute()),
                experiment_id=name,
                chip_id=experiment.chip_id,
                device_id=experiment.device_id,
                n_steps={source: experiment.n_steps(source) for source in sources},
                reused=reused,
                expand_multidim=expand_multidim,
                topic=topic,
                index=index,
                sample=sample,
                warnings=tuple(warnings),
                dropped=dropped,
                step_timeout=step_timeout,
                known=known,
                first=first,
                trails=trails,
            ),
            {source: experiment.layout(source) for source in sources},
            tuple(f.name for f in features.extracted if f.name not in reused),
            damage,
            first,
            why,
        )


def _ahead(paths: Iterable[Path], raw: RawFiles, book: FileBook | None) -> Iterator[Path]:
    """Yield paths; of objects, many are fetched together before the first of them is looked at."""
    group: list[Path] = []
    for path in paths:
        if is_remote(path):
            group.append(path)
            if len(group) < _TOGETHER:
                continue
        raw.look_ahead(one for one in group if not (book and book.find(one)))
        yield from group
        group = []
        if not is_remote(path):
            yield path
    raw.look_ahead(one for one in group if not (book and book.find(one)))
    yield from group


def _same_form(metadata: Mapping[str, Any], features: FeatureList, expand_multidim: bool) -> bool:
    """Whether an earlier result would be written the same way: layout, units, descriptions."""
    return metadata["expand_multidim"] == expand_multidim and all(
        metadata["features"][name][key] == getattr(feature.variables["value"], key)
        for name, feature in features.features.items()
        for key in ("unit", "description")
    )


def _reusable(
    metadata: Mapping[str, Any],
    features: FeatureList,
    fingerprints: Mapping[str, str],
    known: Mapping[str, Any],
) -> tuple[tuple[str, ...], dict[str, str], dict[str, str]]:
    """Say what of an earlier result is kept.

    A feature that is asked for is kept if its fingerprint is the same.  One in which a step raised
    is tried again: the reason may have been a disk or a bug that is mended.

    Parameters
    ----------
    metadata
        Of the earlier result.
    features, fingerprints
        What is asked for; without a fingerprint it is computed anew in any case.
    known
        Of the device, and by hand, now.

    Returns
    -------
    The names of what is kept; of the features that are not asked for, those that have to go, and
    why; and of those that are asked for, what is computed anew, and why.
    """
    earlier = metadata["features"]
    anew: dict[str, str] = {}
    for name in features.features:
        if name not in earlier:
            anew[name] = "it was never computed"
        elif name not in fingerprints:
            anew[name] = "everything is computed anew"
        elif earlier[name]["fingerprint"] != fingerprints[name]:
            anew[name] = _REDEFINED
        elif earlier[name]["counts"].get("error"):
            anew[name] = "a step had failed"
    for feature in features.extracted:
        if feature.extractor is not None and feature.name in earlier:
            used = used_sample(feature.extractor, known)
            if used != earlier[feature.name].get("sample", {}):
                anew.setdefault(feature.name, _SAMPLE_CHANGED)
    for feature in features.derived:
        changed = [name for name in feature.upstream if name in anew]
        # With an input, its fingerprint has changed, too.
        if changed and anew.get(feature.name, _REDEFINED) == _REDEFINED:
            anew[feature.name] = f"its input {changed[0]!r} is computed anew"
    dropped = _outdated(metadata, features, anew.keys(), known)
    kept = tuple(name for name in earlier if name not in anew and name not in dropped)
    return kept, dropped, anew


def _outdated(
    metadata: Mapping[str, Any], features: FeatureList, anew: Set[str], known: Mapping[str, Any]
) -> dict[str, str]:
    """Return the features of a result that cannot stand beside what is computed anew, and why."""
    earlier = metadata["features"]
    others = [name for name in earlier if name not in features.features]
    owners = {
        column: feature.name
        for feature in features.features.values()
        for column in feature.columns()
    }
    dropped: dict[str, str] = {}
    for name in others:
        used = earlier[name].get("sample", {})
        if any(known.get(word) != value for word, value in used.items()):
            dropped[name] = _SAMPLE_CHANGED
        taken = sorted(_columns(metadata, name) & owners.keys())
        if taken:
            dropped[name] = f"{taken[0]!r} is a column of {owners[taken[0]]!r} now"
    changed = {column for column, owner in owners.items() if owner in anew}
    changed.update(*(_columns(metadata, name) for name in dropped))
    # What is computed from something that has gone has to go, too.
    while outdated := {
        name: f"its input {column!r} is computed anew"
        for name in others
        if name not in dropped and earlier[name]["func"] is not None
        for column in earlier[name]["inputs"]
        if column in changed
    }:
        dropped |= outdated
        changed.update(*(_columns(metadata, name) for name in outdated))
    return dropped


def _columns(metadata: Mapping[str, Any], feature: str) -> set[str]:
    """Return what a feature of a result offers to others, by the names of its columns."""
    found = set()
    for name, entry in metadata["variables"].items():
        if entry["feature"] == feature:
            last = entry["dims"][-1] if entry["dims"] else ""
            found |= {name, *(f"{name}_{label}" for label in entry["labels"].get(last, ()))}
    return found
