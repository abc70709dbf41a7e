"""Results and marks as they are published: the same numbers, without folders of this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from oectflow.pipeline.marks.store import FOLDER
from oectflow.pipeline.outputs.sink import (
    Results,
    read_columns,
    read_problems,
    read_variables,
    write_results,
)
from oectflow.pipeline.publishing.contents import Item
from oectflow.pipeline.publishing.names import Cleaner

#: What a file says about itself beside what its writer adds.
_WRITTEN = ("format", "variables", "units")


def copy_results(items: Sequence[Item], folder: Path, clean: Cleaner) -> None:
    """Write the results anew; their raw files have the names that they have in the publication.

    Raises
    ------
    DamagedFile
        A column of a result was cut or changed.
    """
    for item in items:
        metadata = item.metadata
        variables = read_variables(metadata)
        kept = {key: value for key, value in metadata.items() if key not in _WRITTEN}
        source = {**metadata["source"], "path": item.raw.place}
        features = {
            name: {
                **about,
                **({"sample": clean.sample(about["sample"])} if "sample" in about else {}),
            }
            for name, about in metadata["features"].items()
        }
        known = {**metadata["identity"], "sample": clean.sample(metadata["identity"]["sample"])}
        target = folder / item.place
        target.parent.mkdir(parents=True, exist_ok=True)
        identity = {
            key: metadata["identity"][key] for key in ("experiment_id", "chip_id", "device_id")
        }
        write_results(
            target,
            Results(
                identity | {"step_index": np.arange(metadata["n_rows"])},
                read_columns(item.result, list(variables), metadata),
                variables,
                {name: metadata["variables"][name]["feature"] for name in variables},
                [
                    replace(problem, message=clean.text(problem.message))
                    for problem in read_problems(item.result)
                ],
                kept
                | {
                    "identity": known,
                    "features": features,
                    "source": source,
                    "warnings": [clean.text(w) for w in metadata["warnings"]],
                },
            ),
            expand_multidim=metadata["expand_multidim"],
        )


def copy_marks(results: Path, folder: Path, clean: Cleaner) -> None:
    """Write all marks into one file: names of files would tell of accounts and machines."""
    lines = [
        json.dumps(
            entry
            | {"who": clean.person(str(entry["who"]))}
            | ({"reason": clean.text(str(entry["reason"]))} if entry.get("reason") else {}),
            ensure_ascii=False,
        )
        for entry in read_entries(results)
    ]
    if lines:
        (folder / FOLDER).mkdir(parents=True)
        path = folder / FOLDER / "marks.jsonl"
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def read_entries(results: Path) -> Iterator[dict[str, Any]]:
    """Yield what was written into the files of marks, file by file; what is no entry is none."""
    for path in sorted((results / FOLDER).glob("*.jsonl")):
        for line in path.read_bytes().split(b"\n"):
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                # Reading the marks names it, and nobody respects it.
                continue
            if isinstance(entry, dict) and "who" in entry:
                yield entry


def texts_of(results: Path, items: Sequence[Item]) -> Iterator[tuple[str, str]]:
    """Yield the free texts that are published, each with its place."""
    for entry in read_entries(results):
        yield "the reason of a mark", str(entry.get("reason", ""))
    for item in items:
        for key, value in item.metadata["identity"]["sample"].items():
            if isinstance(value, str):
                yield f"{key} of the sample of {item.experiment_id}", value
        for text in item.metadata["warnings"]:
            yield f"a warning of {item.experiment_id}", str(text)
        for problem in read_problems(item.result):
            yield f"a message of {item.experiment_id}", problem.message
