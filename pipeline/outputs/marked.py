"""Apply marks to results when these are opened; the files of results are not changed."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oectflow.errors import ExpressionError, ParameterError, did_you_mean
from oectflow.extractors.base import Variable, missing
from oectflow.pipeline.features.expressions import Expression
from oectflow.pipeline.marks.mark import BAD, TREATMENTS, Mark
from oectflow.pipeline.marks.reach import Origin, marked_cells, reach_of
from oectflow.pipeline.marks.store import Book, read
from oectflow.pipeline.outputs.sink import column_names, read_variables
from oectflow.result_metadata import definitions_folder

#: Status words that marks give.
WORDS = {
    "marked": "somebody has marked it as bad; no value",
    "partly": "it rests on values that somebody has marked as bad",
}
#: How a mark is named at a value that only rests on what it is about.
_PARTLY = "partly"


class MarksWarning(UserWarning):
    """Lines of a file of marks cannot be read; the message names each one and the reason."""


def read_marks(results: Path, treatment: str = "flag", stacklevel: int = 3) -> Book:
    """Return the marks beside a folder or file of results; a warning names invalid lines.

    Raises
    ------
    ParameterError
        There is no such treatment.
    """
    if treatment not in TREATMENTS:
        hint = did_you_mean(str(treatment), TREATMENTS)
        raise ParameterError(f"marks={treatment!r}: expected exclude, flag or ignore{hint}")
    if treatment == "ignore":
        return Book()
    book = read(results if results.is_dir() else definitions_folder(results.absolute()))
    if book.unreadable:
        text = "marks that cannot be read are not respected:\n" + "\n".join(book.unreadable)
        warnings.warn(text, MarksWarning, stacklevel=stacklevel)
    return book


def in_words(marks: Sequence[Mark]) -> str:
    """Return how many marks there are: ``3 marks: 2 bad, 1 check``."""
    counts = Counter(mark.label for mark in marks)
    said = ", ".join(f"{n} {label}" for label, n in sorted(counts.items()))
    return f"{len(marks)} mark{'' if len(marks) == 1 else 's'}: {said}"


def labels_of(marks: Sequence[Mark], origin: Origin, dims: Sequence[str]) -> set[str]:
    """Return the words for marks at values of a feature."""
    found = set()
    for mark in marks:
        reach = reach_of(mark, origin, dims)
        if reach is not None:
            found.add(mark.label if reach == "whole" else f"{_PARTLY} {mark.label}")
            if origin.mixes_steps:
                found.add(f"{_PARTLY} {mark.label}")
    return found


def mark_words(
    marks: Sequence[Mark], origin: Origin, dims: Sequence[str], shape: tuple[int, ...]
) -> NDArray[np.object_]:
    """Return the labels at every value of a feature; ``""`` if there is none."""
    words = np.full(shape, "", object)
    for label in sorted({mark.label for mark in marks}, key=lambda label: (label != BAD, label)):
        cells = marked_cells([m for m in marks if m.label == label], origin, dims, shape)
        for where, word in ((cells.whole, label), (cells.part, f"{_PARTLY} {label}")):
            words[where] = [f"{old}, {word}" if old else word for old in words[where]]
    return words


def without_bad(
    array: NDArray[Any], name: str, metadata: Mapping[str, Any], marks: Sequence[Mark]
) -> NDArray[Any]:
    """Return the values of a variable without those marked as bad.

    Parameters
    ----------
    array
        Of one experiment, the step first; words in place of codes.
    name, metadata
        Of the variable, and what its file says about itself.
    marks
        Those of the experiment.
    """
    owner = _owner(name, metadata)
    if not owner:
        return array
    variable = read_variables(metadata)[name]
    bad = [mark for mark in marks if mark.label == BAD]
    cells = marked_cells(bad, origin_of(owner, metadata), variable.dims, array.shape)
    array = array.copy()
    if name == f"{owner}_status":
        array[cells.whole & (array != "absent")] = "marked"
        array[cells.part & (array == "ok")] = "partly"
    elif not variable.statuses:
        array[cells.whole] = missing(variable)
    return array


def table_without_bad(table: Any, metadata: Mapping[str, Any], marks: Sequence[Mark]) -> Any:
    """Return the table of a result file without the values marked as bad."""
    import pyarrow as pa

    for name, entry in metadata["variables"].items():
        variable = read_variables(metadata)[name]
        shape = (len(table), *entry["sizes"])
        kind: Any = "U64" if variable.statuses else variable.dtype
        # What of these values would change is all that is asked for.
        probe = np.full(shape, "ok" if variable.statuses else 0, kind)
        changed = without_bad(probe, name, metadata, marks)
        if (changed == probe).all():
            continue
        parts = changed.reshape(shape[0], -1) if metadata.get("expand_multidim") else changed
        for k, column in enumerate(entry["columns"]):
            part = parts[..., k] if entry["split"] else parts.reshape(shape)
            values = table[column]
            kept = [
                _replaced(value, now, variable)
                for value, now in zip(values.to_pylist(), part, strict=True)
            ]
            place = table.column_names.index(column)
            kind = _without_dictionary(values.type)
            table = table.set_column(place, column, pa.array(kept, kind))
    return table


def _without_dictionary(kind: Any) -> Any:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return kind.value_type
    return pa.list_(_without_dictionary(kind.value_type)) if pa.types.is_list(kind) else kind


def _replaced(value: Any, now: Any, variable: Variable) -> Any:
    """Return a value, or a list of them, with what was marked replaced."""
    if isinstance(value, list):
        return [_replaced(one, then, variable) for one, then in zip(value, now, strict=True)]
    if not variable.statuses:
        return value if now == 0 else now.item()
    if now == "marked":
        return value if value == "absent" else "marked"
    return "partly" if now == "partly" and value == "ok" else value


def row_words(marks: Sequence[Mark], n_rows: int) -> list[str]:
    """Return the marks of every row in words: ``bad (tau, cycle 3); check``."""
    words: list[list[str]] = [[] for _ in range(n_rows)]
    for mark in marks:
        where = [mark.kind, mark.feature, None if mark.cycle is None else f"cycle {mark.cycle}"]
        said = ", ".join(one for one in where if one is not None)
        for row in words if mark.step is None else words[mark.step : mark.step + 1]:
            row.append(f"{mark.label} ({said})" if said else mark.label)
    return ["; ".join(dict.fromkeys(row)) for row in words]


def _owner(name: str, metadata: Mapping[str, Any]) -> str:
    """Return the feature of a variable; what features there are may have been lost."""
    owner: str = metadata["variables"][name]["feature"]
    return name if "definitions_lost" in metadata else owner


class _Described:
    """Definitions, which files of one run have in common as one object."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        self.variables, self.features = metadata["variables"], metadata["features"]

    def __hash__(self) -> int:
        return id(self.variables)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Described) and other.variables is self.variables


def origin_of(feature: str, metadata: Mapping[str, Any]) -> Origin:
    """Return the inputs of a feature of a result, from its metadata."""
    return _origin(feature, _Described(metadata))


@lru_cache(4096)
def _origin(feature: str, described: _Described) -> Origin:
    features, owners = described.features, _owners(described)
    kinds: set[str] = set()
    rests_on: set[str] = set()
    mixes = False
    waiting = [feature]
    while waiting:
        about = features.get(waiting.pop(), {"func": None, "extractor": None, "inputs": []})
        if about["func"] and not about["extractor"]:
            mixes |= not _is_stepwise(about["func"], tuple(about["inputs"]), str(about["params"]))
        for column in about["inputs"]:
            owner = owners.get(column, "")
            if owner not in features:
                kinds.add(column)
            elif owner not in rests_on and owner != feature:
                rests_on.add(owner)
                waiting.append(owner)
    return Origin(feature, frozenset(kinds), frozenset(rests_on), mixes)


@lru_cache(64)
def _owners(described: _Described) -> dict[str, str]:
    """Return the feature of each variable, and of the columns that inputs name."""
    variables = read_variables({"variables": described.variables})
    return {
        column: entry["feature"]
        for name, entry in described.variables.items()
        for column in (name, *column_names(name, variables[name]))
    }


@lru_cache(1024)
def _is_stepwise(text: str, inputs: tuple[str, ...], params: str) -> bool:
    import ast

    try:
        return Expression.parse(text, inputs, ast.literal_eval(params)).is_elementwise
    except (ExpressionError, ValueError, SyntaxError):
        # A function in Python: nobody knows.
        return False
