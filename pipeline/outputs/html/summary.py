"""Summary of the results of a batch: numbers per device, flags by word, files and versions."""

from __future__ import annotations

import csv
import io
import itertools
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from oectflow.cells import plain_cell
from oectflow.errors import OutputError
from oectflow.pipeline.outputs.plots.axes import with_unit
from oectflow.pipeline.outputs.plots.choose import choose
from oectflow.pipeline.outputs.sink import read_metadata, read_problems
from oectflow.pipeline.outputs.trouble import Flag, Outcome, flags_of_result, outcome_of
from oectflow.place import place

if TYPE_CHECKING:
    import xarray as xr

_MOST_PROBLEMS = 20
_CSV = (
    "experiment_id", "chip_id", "device_id", "feature", "entry", "unit",
    "n_values", "n_flagged", "first", "last", "median", "p10", "p90",
)  # fmt: skip


@dataclass(frozen=True)
class File:
    """One Parquet file: its experiment, and the problems in it.

    Attributes
    ----------
    metadata
        The result of :func:`oectflow.pipeline.outputs.sink.read_metadata`.
    flags
        Every status word except ``ok`` and ``absent``.
    problems
        The messages of errors, each with the number of steps and the first of them.
    """

    path: Path
    metadata: Mapping[str, Any]
    flags: Sequence[Flag]
    problems: Sequence[Mapping[str, Any]]

    @property
    def experiment_id(self) -> str:
        """The experiment of the file."""
        return str(self.metadata["identity"]["experiment_id"])

    @property
    def outcome(self) -> Outcome:
        """``"failed"``, ``"flagged"`` or ``"done"``."""
        return outcome_of(self.flags)


@dataclass
class FeatureSummary:
    """A feature of the batch: its description, and how often it has each status word.

    Attributes
    ----------
    parameters
        Every set of parameters with which it was computed, as text.
    entries
        Selections along its labelled axes; ``[{}]`` if it has none.
    """

    name: str
    unit: str
    description: str
    definition: str
    reference: str
    made_by: str
    parameters: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    entries: list[dict[str, Any]] = field(default_factory=list)

    def unit_of(self, entry: Mapping[str, Any]) -> str:
        """Return the unit of an entry; the entries of a point (Vg, Id) have different units."""
        units = self.unit.split(", ")
        return units[self.entries.index(dict(entry))] if len(units) > 1 else self.unit

    @property
    def was_measured(self) -> bool:
        """Whether there are any data to compute it from."""
        return self.counts.total() > self.counts["absent"]

    @property
    def has_one_unit(self) -> bool:
        """Whether its entries can be drawn on one axis."""
        return ", " not in self.unit


def read_file(path: Path) -> File:
    """Read the metadata of a result file, and the problems in its rows."""
    metadata = read_metadata(path)
    if metadata is None:
        raise OutputError(f"{path}: disappeared since the results were opened")
    folder = f"{place(metadata['source']['path']).parent}{os.sep}"
    grouped: dict[tuple[str, str], list[int]] = {}
    for problem in read_problems(path):
        # A report is sent on: names of files, no folders.
        message = problem.message.replace(folder, "")
        grouped.setdefault((problem.feature, message), []).append(problem.step)
    problems = [
        {"feature": feature, "message": message, "n": len(steps), "first": min(steps)}
        for (feature, message), steps in grouped.items()
    ]
    return File(path, metadata, flags_of_result(metadata), problems[:_MOST_PROBLEMS])


def collect_features(files: Sequence[File], results: xr.Dataset) -> list[FeatureSummary]:
    """Return all features of a batch, in the order of the files."""
    features: dict[str, FeatureSummary] = {}
    for file in files:
        for name, about in file.metadata["features"].items():
            if name not in results:
                continue
            feature = features.setdefault(
                name,
                FeatureSummary(
                    name,
                    about["unit"],
                    about["description"],
                    about["definition"],
                    about["reference"],
                    about["extractor"] or "derived from " + ", ".join(about["inputs"]),
                    entries=list(_entries(results[name])),
                ),
            )
            feature.counts.update(about["counts"])
            words = ", ".join(
                f"{key} = {value}" for key, value in about["params"].items() if value is not None
            )
            if words and words not in feature.parameters:
                feature.parameters.append(words)
    return list(features.values())


def versions(files: Sequence[File]) -> dict[str, str]:
    """Return the versions of the software that computed the results; several if they differ."""
    found: dict[str, list[str]] = {}
    for file in files:
        for name, version in file.metadata["versions"].items():
            if version not in found.setdefault(name, []):
                found[name].append(version)
    return {name: ", ".join(sorted(known)) for name, known in found.items()}


def statistics(loaded: xr.Dataset, feature: FeatureSummary) -> Iterator[dict[str, Any]]:
    """Summarise a feature: one row for every experiment and entry.

    Parameters
    ----------
    loaded
        Results with this feature in memory.
    feature
        Which one.

    Yields
    ------
    The columns of the CSV file; numbers in the feature's unit, NaN if there is no value.
    """
    for entry in feature.entries:
        chosen = choose(loaded, feature.name, entry)
        for i, name in enumerate(chosen.values["experiment"].values):
            values = chosen.values.isel(experiment=i).values.ravel()
            finite = values[np.isfinite(values)].astype(np.float64)
            low, middle, high = (
                np.percentile(finite, (10, 50, 90)) if finite.size else (np.nan,) * 3
            )
            yield {
                "experiment_id": str(name),
                "chip_id": str(chosen.values["chip_id"].values[i]),
                "device_id": str(chosen.values["device_id"].values[i]),
                "feature": feature.name,
                "entry": " ".join(entry.values()),
                "unit": feature.unit_of(entry),
                "n_values": finite.size,
                "n_flagged": int(chosen.flagged.isel(experiment=i).sum()),
                "first": finite[0] if finite.size else np.nan,
                "last": finite[-1] if finite.size else np.nan,
                "median": middle,
                "p10": low,
                "p90": high,
            }


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the summary as CSV text; a missing number is an empty field."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _CSV, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {key: "" if value != value else plain_cell(value) for key, value in row.items()}
        )
    return text.getvalue()


def readable(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return rows of the summary with their numbers as text with SI prefixes."""
    numbers = ("first", "last", "median", "p10", "p90")
    return [{**row, **{key: with_unit(row[key], row["unit"]) for key in numbers}} for row in rows]


def _entries(variable: xr.DataArray) -> Iterator[dict[str, Any]]:
    labelled = [
        str(dim) for dim in variable.dims if dim != "experiment" and variable[dim].dtype.kind == "U"
    ]
    for words in itertools.product(*(variable[dim].values.tolist() for dim in labelled)):
        yield dict(zip(labelled, words, strict=True))
