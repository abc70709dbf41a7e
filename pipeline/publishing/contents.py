"""What is published: results of one configuration, and the raw files that they are of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

from oectflow.errors import ConfigError, InputError, OutputError
from oectflow.extractors.chosen_windows import CHOSEN_WINDOWS
from oectflow.extractors.pinning import is_built_in
from oectflow.pipeline.features.feature_list import FeatureList
from oectflow.pipeline.inputs.experiment import Experiment
from oectflow.pipeline.inputs.find import Experiments, open_experiments
from oectflow.pipeline.outputs.places import result_files
from oectflow.pipeline.outputs.sink import read_metadata
from oectflow.pipeline.outputs.states import same_source
from oectflow.pipeline.outputs.window_choice import windows_of_experiments

#: What defines a feature, beside what was counted of one experiment.
_DEFINES = ("fingerprint", "extractor", "func", "inputs", "params", "unit", "description")
#: Faults that are named at once.
_MOST_NAMED = 10


@dataclass(frozen=True)
class Raw:
    """A raw file: where it is, what it is called in the publication, and what tells it.

    ``size`` is in bytes, ``sha256`` are 64 hexadecimal digits.
    """

    path: Path
    place: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Item:
    """The result of one experiment, and its raw file.

    ``place`` is where the result stands in its folder.
    """

    result: Path
    place: str
    metadata: Mapping[str, Any]
    raw: Raw

    @property
    def experiment_id(self) -> str:
        """The experiment."""
        return str(self.metadata["identity"]["experiment_id"])


@dataclass(frozen=True)
class Contents:
    """All results of a folder.

    Attributes
    ----------
    items
        Results with their raw files.
    features
        What computes them again.
    notes
        What whoever computes them again has to know.
    """

    items: Sequence[Item]
    features: FeatureList
    notes: tuple[str, ...]


def collect(folder: Path, raw: Experiments | None) -> Contents:
    """Read what the results of a folder say about themselves, and find their raw files.

    Raises
    ------
    OutputError
        Results are damaged, of several configurations, or cannot be computed again; or a raw file
        is not there, or not the one that it was.
    InputError
        ``raw`` was given, and none of it can be used.
    """
    described = _described(folder)
    _need_one_configuration(folder, described)
    first = next(iter(described.values()))
    features = rebuilt(folder, first)
    _need_windows_used(folder, described.values(), features)
    notes = [*_packages(features), *_versions(described.values())]
    items = _with_raw(folder, described, raw)
    return Contents(items, features, tuple(notes))


def rebuilt(folder: Path, metadata: Mapping[str, Any]) -> FeatureList:
    """Return the feature set by which a result was computed, from what its file says.

    Raises
    ------
    OutputError
        No file can hold it, or this installation has other definitions.
    """
    entries = []
    for name, about in metadata["features"].items():
        inputs = about["inputs"]
        how = {"extractor": about["extractor"]} if about["extractor"] else {"func": about["func"]}
        entries.append(
            {"name": name, **how, "input": inputs[0] if len(inputs) == 1 else inputs}
            | ({"params": about["params"]} if about["params"] else {})
            | {"unit": about["unit"], "description": about["description"]}
        )
    config = {"version": "v2", "name": metadata["config"], "features": entries}
    try:
        features = FeatureList.load(config)
        # What is not text, as a Python function, is no configuration either.
        found = features.fingerprints()
    except ConfigError as error:
        raise OutputError(
            f"{folder}: what computes these results cannot be written to a file that another "
            f"machine understands: {error}; give func as text, or an extractor of an installed "
            "package, and extract again"
        ) from error
    others = [n for n, about in metadata["features"].items() if found[n] != about["fingerprint"]]
    if others:
        raise OutputError(
            f"{folder}: {_listed(others)}: computed with another definition than that of this "
            "installation, or by a Python function; extract again, which computes only what has "
            "another definition, or publish with the version that computed them"
        )
    return features


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits.

    Raises
    ------
    OSError
        It cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _described(folder: Path) -> dict[Path, Mapping[str, Any]]:
    if not folder.is_dir():
        raise OutputError(f"{folder}: there is no such folder of results")
    described: dict[Path, Mapping[str, Any]] = {}
    broken = []
    for path in result_files(folder):
        try:
            metadata = read_metadata(path)
        except OutputError as error:
            broken.append(str(error))
            continue
        if metadata is not None and "definitions_lost" in metadata:
            broken.append(f"{path}: {metadata['definitions_lost']} is not beside it")
        elif metadata is not None:
            described[path] = metadata
    if broken:
        more = f"\nand {len(broken) - _MOST_NAMED} more" if len(broken) > _MOST_NAMED else ""
        raise OutputError(
            f"{folder}: {len(broken)} results are broken, so nothing is published; mend or remove "
            "them:\n" + "\n".join(broken[:_MOST_NAMED]) + more
        )
    if not described:
        raise OutputError(f"{folder}: no results of oectflow here; 'oectflow extract' writes them")
    return described


def _need_one_configuration(folder: Path, described: Mapping[Path, Mapping[str, Any]]) -> None:
    first: tuple[Path, dict[str, str], bool] | None = None
    # What files of one run have in common is one object.
    seen: dict[tuple[str, bool], Path] = {}
    for path, metadata in described.items():
        texts = {
            name: json.dumps({key: about[key] for key in _DEFINES}, sort_keys=True)
            for name, about in metadata["features"].items()
        }
        expanded = bool(metadata["expand_multidim"])
        if first is None:
            first = path, texts, expanded
        if seen.setdefault((json.dumps(texts, sort_keys=True), expanded), path) == first[0]:
            continue
        missing = sorted(first[1].keys() ^ texts.keys())
        other = [name for name in first[1] if name in texts and first[1][name] != texts[name]]
        what = (
            f"one has {_listed(missing)}, the other not" if missing
            else f"{_listed(other)} is defined otherwise" if other
            else "one has axes expanded into columns"
        )  # fmt: skip
        raise OutputError(
            f"{folder}: results of several configurations: {first[0].name} and {path.name}: "
            f"{what}; extract all of them with one feature set, or publish "
            "each from a folder of its own"
        )


def _need_windows_used(
    folder: Path, described: Iterable[Mapping[str, Any]], features: FeatureList
) -> None:
    """Raise OutputError where windows were chosen, or taken back, since results were computed."""
    chosen = windows_of_experiments(folder)
    fitting = [
        one.name for one in features.extracted
        if one.extractor and CHOSEN_WINDOWS in one.extractor.sample_keys
    ]  # fmt: skip
    for metadata in described:
        name = metadata["identity"]["experiment_id"]
        for feature in fitting:
            used = metadata["features"][feature].get("sample", {}).get(CHOSEN_WINDOWS, [])
            if used != chosen.get(name, []):
                raise OutputError(
                    f"{folder}: {name}: windows were chosen by hand, or taken back, since "
                    f"{feature!r} was computed; extract again, which computes only that"
                )


def _packages(features: FeatureList) -> list[str]:
    """Say which packages beside oectflow the features need.

    Raises
    ------
    OutputError
        An extractor is defined in a script or a notebook.
    """
    notes = []
    for feature in features.extracted:
        code = type(feature.extractor)
        if is_built_in(code):
            continue
        top = code.__module__.partition(".")[0]
        owners = packages_distributions().get(top)
        if not owners:
            raise OutputError(
                f"feature {feature.name!r}: its extractor is defined in {code.__module__}, which "
                "is not an installed package, so other machines do not have it; put it into a "
                "package (entry point oectflow.extractors)"
            )
        notes.append(f"feature {feature.name!r} needs the package {', '.join(owners)}")
    return list(dict.fromkeys(notes))


def _versions(described: Iterable[Mapping[str, Any]]) -> list[str]:
    """Say where results were computed by several versions of one package."""
    found: dict[str, set[str]] = {}
    for metadata in described:
        for name, version in metadata["versions"].items():
            found.setdefault(name, set()).add(version)
    return [
        f"the results were computed with {name} {' and '.join(sorted(several))}"
        for name, several in found.items()
        if len(several) > 1
    ]


def _with_raw(
    folder: Path, described: Mapping[Path, Mapping[str, Any]], raw: Experiments | None
) -> list[Item]:
    known = None if raw is None else open_experiments(raw)[0]
    items, faults = [], []
    taken: set[str] = set()
    for result, metadata in described.items():
        try:
            found = _raw_of(metadata, known)
        except (InputError, OSError) as error:
            faults.append(str(error))
            continue
        name = found.path.name
        if name.casefold() in taken:
            name = f"{result.stem}{found.path.suffix}"
        taken.add(name.casefold())
        raw_file = Raw(found.path, f"raw/{name}", found.path.stat().st_size, sha256_of(found.path))
        items.append(Item(result, result.relative_to(folder).as_posix(), metadata, raw_file))
    if faults:
        more = f"\nand {len(faults) - _MOST_NAMED} more" if len(faults) > _MOST_NAMED else ""
        raise OutputError(
            f"{folder}: {len(faults)} of {len(described)} results cannot be computed again from "
            "their raw files:\n" + "\n".join(faults[:_MOST_NAMED]) + more
        )
    return items


def _raw_of(metadata: Mapping[str, Any], known: Mapping[str, Experiment] | None) -> Experiment:
    """Return the raw file of a result; InputError where it is not the one that it was."""
    name, source = metadata["identity"]["experiment_id"], metadata["source"]
    if source.get("others"):
        raise InputError(
            f"{name}: the data of its raw file lie in other files, too; rewrite it as one with "
            "'oectflow repack', and extract again"
        )
    if known is not None and name not in known:
        raise InputError(f"{name}: no raw file with this test_id at the place given")
    if known is None and not Path(source["path"]).is_file():
        raise InputError(
            f"{name}: {source['path']} is not there any more; name the folder with raw= (--raw)"
        )
    experiment = Experiment(source["path"]) if known is None else known[name]
    if not same_source(metadata, experiment, "content"):
        raise InputError(f"{experiment.path}: has changed since its features were computed")
    return experiment


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(repr(name) for name in names[:3]) + more
