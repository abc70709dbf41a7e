"""Show what would be read from a file: the reader, the columns, and what would be left out."""

from __future__ import annotations

import html
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from oectflow.errors import IngestError, InputError
from oectflow.measurement import Measurement, Step, get_kind
from oectflow.pipeline.inputs.experiment import Experiment
from oectflow.pipeline.inputs.readers.headings import si_unit
from oectflow.pipeline.inputs.readers.reader import Reader, mistake_of
from oectflow.pipeline.inputs.readers.registry import find_reader, plug_ins
from oectflow.pipeline.inputs.readers.schema import Schema
from oectflow.pipeline.inputs.readers.sense import sensible
from oectflow.pipeline.inputs.readers.tables import Table
from oectflow.pipeline.inputs.readers.text import TextReader, guess_schema

_RAW = (".h5", ".hdf5")
#: First values of a column that are shown.
_FIRST = 3
#: Tables, and steps of a file, that are shown.
_SHOWN = 12


@dataclass(frozen=True)
class InspectedColumn:
    """One column of a file.

    Attributes
    ----------
    table
        The file, sheet or record that has the column.
    heading, unit
        As written.
    quantity
        Quantity that was recognised: ``Vg``, ``Id``, …; ``""`` if unknown.
    scale
        Value of one unit in SI.
    first
        Its first values, as written.
    """

    table: str
    heading: str
    unit: str
    quantity: str
    scale: float
    first: tuple[float, ...]


@dataclass(frozen=True)
class InspectedStep:
    """One step that would be written.

    Attributes
    ----------
    kind, n_points
        Kind of measurement, and number of points.
    values
        Its numbers, in SI units.
    arrays
        Its arrays, each with unit, smallest and largest value.
    extra
        Further columns that are kept.
    """

    kind: str
    n_points: int
    values: Mapping[str, float]
    arrays: Mapping[str, tuple[str, float, float]]
    extra: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inspection:
    """The data that would be read from a file or folder, made by :func:`oectflow.inspect`.

    Attributes
    ----------
    path
        The file or folder that was inspected.
    reader
        Name of the reader; ``""`` if no reader reads it.
    reason
        How it was recognised, or why no reader reads it.
    candidates
        All readers that were asked: name, confidence and reason, the most confident first.
    columns
        The columns of the file.
    steps
        The steps that would be written.
    attributes, sample
        Attributes of the experiment, and properties of its device in SI units.
    warnings
        Data that would be left out, and assumptions.
    problem
        Why it cannot be read; ``""`` if it can.
    schema
        The layout found in delimited text.  You can save it, correct it and use it instead.
    """

    path: Path
    reader: str = ""
    reason: str = ""
    candidates: tuple[tuple[str, float, str], ...] = ()
    columns: tuple[InspectedColumn, ...] = ()
    steps: tuple[InspectedStep, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    sample: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    problem: str = ""
    schema: Mapping[str, Any] | None = None

    def save_schema(self, path: str | os.PathLike[str]) -> Path:
        """Save the layout that was found as a schema; correct it, and give it to :func:`inspect`.

        Raises
        ------
        InputError
            The file was not read as delimited text; other formats need no schema.
        """
        if self.schema is None:
            raise InputError(
                f"{self.path}: a schema is for delimited text, and this was read by "
                f"{self.reader or 'nobody'}"
            )
        Schema.from_mapping(self.schema).save(Path(path))
        return Path(path)

    def tables(self) -> list[tuple[str, Sequence[str], list[Sequence[str]]]]:
        """Return everything as tables: title, headings, and rows of text."""
        head = [("file", str(self.path)), ("reader", f"{self.reader or 'none'}: {self.reason}")]
        head += [("problem", self.problem)] if self.problem else []
        head += [(key, _show(value)) for key, value in self.attributes.items()]
        head += [(f"sample {key}", _show(value)) for key, value in self.sample.items()]
        found: list[tuple[str, Sequence[str], list[Sequence[str]]]] = [("", ("", ""), [*head])]
        if self.columns:
            titles = ("column", "unit", "taken for", "one unit is", "first values")
            found.append(("columns", titles, self._column_rows()))
        if self.steps:
            titles = ("step", "kind", "points", "values", "from … to")
            found.append(("steps", titles, self._step_rows()))
        if self.warnings:
            found.append(("warnings", ("",), [(warning,) for warning in self.warnings]))
        if self.candidates:
            asked = [(name, f"{sure:.2g}", why) for name, sure, why in self.candidates]
            found.append(("readers that were asked", ("reader", "sure", "reason"), [*asked]))
        return found

    def _column_rows(self) -> list[Sequence[str]]:
        rows: list[Sequence[str]] = []
        tables = list(dict.fromkeys(column.table for column in self.columns))
        for table in tables[:_SHOWN]:
            if len(tables) > 1:
                rows.append((f"— {table}", "", "", "", ""))
            for one in self.columns:
                if one.table == table:
                    scale = f"{one.scale:g} {si_unit(one.quantity)}".strip() if one.quantity else ""
                    first = ", ".join(f"{value:g}" for value in one.first)
                    rows.append(
                        (one.heading, one.unit, one.quantity or "kept as it is", scale, first)
                    )
        if len(tables) > _SHOWN:
            rows.append((f"… and {len(tables) - _SHOWN} more tables", "", "", "", ""))
        return rows

    def _step_rows(self) -> list[Sequence[str]]:
        rows: list[Sequence[str]] = []
        for number, step in enumerate(self.steps[:_SHOWN], 1):
            hidden = ("curve", "file_step", "file_position")
            values = [f"{k} {v:g}" for k, v in step.values.items() if k not in hidden]
            ranges = [f"{k} {a:g} … {b:g} {u}" for k, (u, a, b) in step.arrays.items()]
            ranges += [f"beside: {', '.join(step.extra)}"] if step.extra else []
            cells = (str(number), step.kind, f"{step.n_points:,}", ", ".join(values))
            rows.append((*cells, "\n".join(ranges)))
        if len(self.steps) > _SHOWN:
            rows.append(("…", f"{len(self.steps) - _SHOWN} more", "", "", ""))
        return rows

    def __str__(self) -> str:
        lines = []
        for title, headings, rows in self.tables():
            lines += ["", title] if title else []
            lines += ["  " + "  ".join(headings)] if any(headings) else []
            lines += ["  " + "  ".join(" ".join(c.split()) for c in row) for row in rows]
        return "\n".join(lines)

    def __repr__(self) -> str:
        kinds = ", ".join(f"{n} {kind}" for kind, n in _count(s.kind for s in self.steps).items())
        return (
            f"<Inspection of {self.path.name}: {self.reader or 'no reader'}; {kinds or 'nothing'}>"
        )

    def _repr_html_(self) -> str:
        parts = []
        for title, headings, rows in self.tables():
            parts.append(f"<b>{html.escape(title)}</b>" if title else "")
            cells = "".join(f"<th>{html.escape(heading)}</th>" for heading in headings)
            body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
            parts.append(f"<table><tr>{cells}</tr>{body}</table>")
        return "".join(parts)


def inspect(
    path: str | os.PathLike[str], schema: str | os.PathLike[str] | None = None
) -> Inspection:
    """Show what would be read from a file or folder, without changing anything.

    Parameters
    ----------
    path
        A file of any instrument, a folder of the laboratory's own instrument, or a raw HDF5 file.
    schema
        YAML file that says how to read delimited text.  The file is then read as delimited text.

    Returns
    -------
    The reader and why it was chosen, the columns and their quantities, the steps that would be
    written, and everything that would be left out or assumed.  If the file cannot be read, no error
    is raised: :attr:`Inspection.problem` says why.

    Raises
    ------
    ConfigError
        The schema is wrong.

    Examples
    --------
    >>> import oectflow as of
    >>> of.inspect("device_3.csv")
    <Inspection of device_3.csv: text; 2 transfer>
    """
    path = Path(path).absolute()
    if not path.exists():
        return Inspection(path, problem="there is no such file or folder")
    if path.suffix.lower() in _RAW:
        return _inspect_raw(path)
    if schema is not None:
        reader: Reader = TextReader(Schema.read(Path(schema)))
        found = Inspection(path, reader.name, f"as {Path(schema).name} says")
        return _with_content(found, reader)
    choice = find_reader(path)
    candidates = tuple(
        (one.name, one.recognition.confidence, one.recognition.reason) for one in choice.candidates
    )
    why = choice.recognition.reason
    if choice.reader is None:
        hint = "; oectflow ingest reads the files in it" * path.is_dir()
        problem = f"no reader can read it{hint}"
        guess = None if path.is_dir() else _guess(path)
        found = Inspection(path, reason=why, candidates=candidates, problem=problem, schema=guess)
    else:
        found = _with_content(Inspection(path, choice.reader.name, why, candidates), choice.reader)
    # A reader that could not be loaded may be the one that was meant.
    return replace(found, warnings=(*plug_ins()[1], *found.warnings))


def _with_content(found: Inspection, reader: Reader) -> Inspection:
    columns, problem = _columns(reader, found.path)
    measurement = Measurement({}, ())
    schema = None
    try:
        measurement = _merged([sensible(one) for one in reader.read(found.path).measurements])
    except IngestError as error:
        problem = str(error)
    except Exception as error:  # noqa: BLE001  it is a reader's fault, and this is to show it
        problem = mistake_of(reader.name, error)
    if isinstance(reader, TextReader):
        schema = _guess(found.path, reader.schema)
    return replace(
        found,
        columns=columns,
        steps=tuple(map(_step, measurement.steps)),
        attributes=measurement.attributes,
        sample=measurement.sample,
        warnings=measurement.warnings,
        problem=problem,
        schema=schema,
    )


def _guess(path: Path, schema: Schema | None = None) -> Mapping[str, Any] | None:
    """Return what a schema could say of a file, None where it holds no table."""
    try:
        return guess_schema(path, schema).to_mapping()
    except IngestError:
        return None


def _inspect_raw(path: Path) -> Inspection:
    try:
        experiment = Experiment(path)
    except InputError as error:
        return Inspection(path, "raw", "its name ends in .h5", problem=str(error))
    names = ("test_id", "chip_id", "device_number", "description", "status")
    attributes = {name: value for name, value in experiment.attributes.items() if name in names}
    for source in experiment.sources:
        n, points = experiment.n_steps(source), int(experiment.layout(source).lengths.sum())
        attributes[source] = f"{n:,} step{'s' * (n != 1)}, {points:,} points"
    return Inspection(
        path, "raw", "a raw file; oectflow show says more", attributes=attributes,
        sample=experiment.sample,
    )  # fmt: skip


def _merged(measurements: Sequence[Measurement]) -> Measurement:
    """Return all measurements of a file as one, to be shown."""
    if len(measurements) == 1:
        return measurements[0]
    return Measurement(
        {"experiments": len(measurements)},
        [step for one in measurements for step in one.steps],
        warnings=tuple(dict.fromkeys(word for one in measurements for word in one.warnings)),
    )


def _columns(reader: Reader, path: Path) -> tuple[tuple[InspectedColumn, ...], str]:
    """Return the columns of a file, and why there are none."""
    tables = getattr(reader, "tables", None)
    if tables is None:
        return (), ""
    try:
        return tuple(column for table in tables(path) for column in _of_table(table)), ""
    except IngestError as error:
        return (), str(error)


def _of_table(table: Table) -> Iterable[InspectedColumn]:
    for heading, values in zip(table.read_headings(), table.columns, strict=True):
        first = tuple(float(value) for value in values[:_FIRST])
        text = heading.text or "(no heading)"
        yield InspectedColumn(
            table.source, text, heading.unit, heading.quantity or "", heading.scale, first
        )


def _step(step: Step) -> InspectedStep:
    kind = get_kind(step.kind)
    arrays = {
        name: (kind.array(name).unit, _extreme(np.nanmin, values), _extreme(np.nanmax, values))
        for name, values in step.arrays.items()
    }
    values = {name: value for name, value in step.values.items() if not math.isnan(value)}
    extra = tuple(one.heading or name for name, one in step.extra.items())
    return InspectedStep(step.kind, len(step), values, arrays, extra)


def _extreme(function: Any, values: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    return float(function(values)) if np.isfinite(values).any() else math.nan


def _count(words: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for word in words:
        counts[word] = counts.get(word, 0) + 1
    return counts


def _show(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _cell(text: str) -> str:
    inner = html.escape(text).replace("\n", "<br>")
    return f"<td style='text-align:left'>{inner}</td>"
