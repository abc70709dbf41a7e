"""Read results piece by piece on request, without values marked as bad."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from oectflow.errors import OutputError
from oectflow.extractors.base import Variable
from oectflow.pipeline.marks.mark import Mark, Treatment
from oectflow.pipeline.marks.reach import CYCLE
from oectflow.pipeline.outputs.marked import (
    labels_of,
    mark_words,
    origin_of,
    row_words,
    table_without_bad,
    without_bad,
)
from oectflow.pipeline.outputs.sink import read_columns, read_metadata, read_table, read_variables
from oectflow.place import place


class Places:
    """The places of experiments, as one object for Dask instead of many.

    Attributes
    ----------
    paths
        Of the files.
    marks
        Marks of each experiment that has any, by its number.
    exclude
        Whether to leave out bad values.
    token
        Changes if any of these change.
    """

    def __init__(
        self,
        identities: Mapping[Path, Mapping[str, Any]],
        marks: Sequence[Mark] = (),
        treatment: Treatment = "ignore",
    ) -> None:
        self.paths = [str(path) for path in identities]
        self.exclude = treatment == "exclude"
        self.marks = _by_experiment(list(identities.values()), marks)
        # The id of a mark stands for all that it says.
        said = [f"{number} {mark.id}" for number, own in self.marks.items() for mark in own]
        words = "\n".join([treatment, *said]) if said else ""
        self.token = xxhash.xxh3_128_hexdigest(
            b"\0".join([*map(os.fsencode, self.paths), words.encode()])
        )

    def __dask_tokenize__(self) -> str:
        return self.token

    @property
    def distinct(self) -> list[Mark]:
        """All marks of experiments, each once."""
        return list({mark.id: mark for own in self.marks.values() for mark in own}.values())

    def metadata(self, number: int) -> dict[str, Any]:
        """Return the metadata of a file."""
        path = place(self.paths[number])
        metadata = read_metadata(path)
        if metadata is None:
            raise OutputError(f"{path}: disappeared since the results were opened")
        return metadata

    def marked_features(self) -> dict[str, set[str]]:
        """Return the labels of every feature that a mark applies to."""
        found: dict[str, set[str]] = {}
        for number, own in self.marks.items():
            metadata = self.metadata(number)
            variables = read_variables(metadata)
            # Of many steps that are marked alike, one says which features that is about.
            some = {(m.label, m.feature, m.kind, m.cycle is None): m for m in own}.values()
            for name in dict.fromkeys(entry["feature"] for entry in metadata["variables"].values()):
                if name in variables:
                    origin = origin_of(name, metadata)
                    labels = labels_of([*some], origin, variables[name].dims)
                    if labels:
                        found.setdefault(name, set()).update(labels)
        return found


def _by_experiment(
    identities: Sequence[Mapping[str, Any]], marks: Sequence[Mark]
) -> dict[int, tuple[Mark, ...]]:
    """Return the marks of every experiment that has some, by its number."""
    if not marks:
        return {}
    named: dict[str, list[Mark]] = {}
    of_chips = []
    for mark in marks:
        if mark.experiment_id is None:
            of_chips.append(mark)
        else:
            named.setdefault(mark.experiment_id, []).append(mark)
    found = {}
    for number, identity in enumerate(identities):
        own = [mark for mark in of_chips if mark.is_of(identity)]
        own += named.get(identity["experiment_id"], [])
        if own:
            found[number] = tuple(own)
    return found


def load_block(
    places: Places,
    variable: str,
    shape: tuple[int, ...],
    fill: Any,
    kind: np.dtype[Any],
    block_id: tuple[int, ...],
) -> NDArray[Any]:
    """Return one variable of one experiment, with missing values if its file has none."""
    number = block_id[0]
    metadata = places.metadata(number)
    out = np.full(shape, fill, kind)
    if variable in metadata["variables"]:
        array = read_columns(place(places.paths[number]), [variable], metadata)[variable]
        about = read_variables(metadata)[variable]
        if about.statuses:
            array = np.array(list(about.statuses), kind)[array]
        if places.exclude and number in places.marks:
            array = without_bad(array, variable, metadata, places.marks[number])
        out[tuple(slice(n) for n in array.shape)] = array
    return out[None]


def load_mark_block(
    places: Places,
    variable: str,
    shape: tuple[int, ...],
    fill: Any,
    kind: np.dtype[Any],
    block_id: tuple[int, ...],
) -> NDArray[Any]:
    """Return the labels of a feature of one experiment; ``fill`` if there are none."""
    out = np.full(shape, fill, kind)
    own = places.marks.get(block_id[0], ())
    feature = variable.removesuffix("_mark")
    metadata = places.metadata(block_id[0]) if own else {"variables": {}}
    if feature in metadata["variables"]:
        about = read_variables(metadata)[feature]
        lengths = dict(zip(about.dims, metadata["variables"][feature]["sizes"], strict=True))
        dims = mark_dims(about)
        there = (metadata["n_rows"], *(lengths[dim] for dim in dims))
        words = mark_words(own, origin_of(feature, metadata), dims, there)
        out[tuple(slice(n) for n in there)] = words
    return out[None]


def mark_dims(variable: Variable) -> tuple[str, ...]:
    """Return the axes of the marks of a feature; phases and directions have no marks."""
    return tuple(dim for dim in variable.dims if dim == CYCLE)


def load_frame(number: int, sample: Mapping[str, Any], places: Places, schema: Any) -> Any:
    """Return the rows of one experiment with these columns, and the properties of its sample."""
    import pyarrow as pa

    table = read_table(place(places.paths[number]))
    own = places.marks.get(number, ())
    if own and places.exclude:
        table = table_without_bad(table, places.metadata(number), own)
    if places.marks:
        sample = {**sample, "marks": row_words(own, len(table))}
    for field in schema:
        if field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(len(table), field.type))
    return to_pandas(table.select(schema.names).cast(schema)).assign(**sample)


def to_pandas(table: Any) -> Any:
    """Return a table of Arrow as one of pandas."""
    import pandas as pd
    import pyarrow as pa

    # Lists in object columns would be turned into text by Dask.
    return table.to_pandas(
        types_mapper=lambda kind: pd.ArrowDtype(kind) if pa.types.is_nested(kind) else None
    )
