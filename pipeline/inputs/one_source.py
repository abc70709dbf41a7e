"""A single measurement of any kind, for users with one file and no folder of raw files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from oectflow.errors import ConfigError, InputError
from oectflow.local_path import local_path
from oectflow.measurement import Measurement, Step, get_kind, kinds
from oectflow.pipeline.inputs.experiment import Experiment
from oectflow.pipeline.inputs.find import is_hdf5
from oectflow.pipeline.inputs.from_python import as_measurement
from oectflow.pipeline.inputs.raw_format import write_measurement
from oectflow.pipeline.inputs.readers.headings import (
    Heading,
    known_heading,
    read_heading,
    si_scale,
    si_unit,
)
from oectflow.pipeline.inputs.readers.registry import find_reader
from oectflow.pipeline.inputs.readers.schema import ColumnSchema, Schema
from oectflow.pipeline.inputs.readers.sense import sensible
from oectflow.pipeline.inputs.readers.tables import Table, steps_from_table
from oectflow.pipeline.inputs.readers.text import TextReader


def read_one(
    source: Any,
    *,
    columns: Mapping[str, str] | None = None,
    period: float | None = None,
    kind: str | None = None,
) -> Measurement:
    """Read the measurement in one file, table or mapping.

    Parameters
    ----------
    source
        A file that a reader knows (text, Excel, …), a pandas DataFrame, or ``data`` as for
        :func:`oectflow.write_experiment`.
    columns
        Heading by quantity, if headings are not clear: ``{"time": "Zeit", "Id": "Kanal 2"}``.
    period
        Gate period in s of its transients.
    kind
        Name of the kind of measurement; by default, the columns decide.

    Raises
    ------
    InputError
        There is no measurement in it; the message says what was seen.
    ConfigError
        An argument is wrong.
    """
    if kind is not None:
        get_kind(kind)
    if period is not None and not (np.isreal(period) and period > 0):
        raise ConfigError(f"period={period!r}: expected the gate period in s, such as 0.2")
    names = {heading: quantity for quantity, heading in (columns or {}).items()}
    if isinstance(source, str | os.PathLike):
        found = _of_file(local_path(source, InputError), names, kind)
    elif hasattr(source, "iloc") and hasattr(source, "columns"):
        found = _of_frame(source, names, kind)
    else:
        if names:
            raise ConfigError("columns are for files and DataFrames; name the arrays instead")
        found = as_measurement(source, sample=None, test_id="memory")
    if period is None:
        return found
    return replace(found, steps=[_with_period(step, float(period)) for step in found.steps])


@contextmanager
def as_experiments(source: Any, **options: Any) -> Iterator[list[Experiment]]:
    """Give the raw files of a source as long as the context lasts; options as of :func:`read_one`.

    Raw files and Experiments are given as they are, and take no options.
    """
    is_path = isinstance(source, str | os.PathLike)
    if isinstance(source, Experiment) or (is_path and is_hdf5(Path(source))):
        wrong = [name for name, value in options.items() if value is not None]
        if wrong:
            raise ConfigError(f"{wrong[0]}: a raw file contains it; leave it out for raw files")
        yield [source if isinstance(source, Experiment) else Experiment(Path(source))]
        return
    measurement = read_one(source, **options)
    with TemporaryDirectory(prefix="oectflow-") as folder:
        yield [Experiment(write_measurement(Path(folder) / "one.h5", measurement))]


def _of_file(path: Path, names: Mapping[str, str], kind: str | None) -> Measurement:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if names or kind:
        described: dict[str | int, ColumnSchema] = {
            heading: ColumnSchema(quantity, _unit_of(heading, quantity))
            for heading, quantity in names.items()
        }
        reader: Any = TextReader(Schema(columns=described, kind=kind or ""))
    else:
        choice = find_reader(path)
        reader = choice.reader
        if reader is None:
            raise InputError(
                f"{path}: no reader can read it ({choice.recognition.reason}); name its columns, "
                "columns={'time': ..., 'Id': ...} (--time, --id)"
            )
    found = reader.read(path).measurements
    measurements = [sensible(one) for one in found if one.steps]
    if len(measurements) != 1:
        raise InputError(
            f"{path}: holds {len(measurements)} experiments, expected one; 'oectflow ingest' makes "
            "a raw file of each"
        )
    (one,) = measurements
    return replace(one, attributes={**one.attributes, "test_id": path.stem})


def _of_frame(frame: Any, names: Mapping[str, str], kind: str | None) -> Measurement:
    if any(name is not None for name in frame.index.names):
        frame = frame.reset_index()
    headings: list[str | Heading] = []
    values = []
    for name in map(str, frame.columns):
        column = frame.iloc[:, len(headings)]
        if name in names:
            headings.append(known_heading(name, names[name], _unit_of(name, names[name])))
        else:
            headings.append(name)
        try:
            values.append(np.asarray(column, np.float64))
        except (TypeError, ValueError):
            raise InputError(
                f"the DataFrame's column {name!r} has the type {column.dtype}, expected numbers; "
                "leave it out"
            ) from None
    lacking = names.keys() - set(map(str, frame.columns))
    if lacking:
        seen = ", ".join(map(str, frame.columns))
        raise InputError(f"the DataFrame has no column {min(lacking)!r}, but {seen}")
    table = Table(headings, values, source="the DataFrame")
    steps, warnings = steps_from_table(table, kind=kind)
    found = Measurement({"test_id": "frame"}, steps, warnings=tuple(warnings))
    return sensible(found)


def _unit_of(heading: str, quantity: str) -> str:
    """Return the unit that a heading gives beside its name, ``""`` if it gives none."""
    try:
        si = si_unit(quantity)
    except ValueError as error:
        raise ConfigError(f"columns: {error}") from None
    unit = read_heading(heading).unit
    if si_scale(unit, si) is not None:
        return unit
    # "probe 2" is no unit, "probe (mV)" is one of something else.
    if any(si_scale(unit, other) is not None for other in ("V", "A", "s", "Hz", "Ω")):
        raise ConfigError(
            f"columns: {heading!r} is in {unit}, which is no unit of {quantity} ({si})"
        )
    return ""


def _with_period(step: Step, period: float) -> Step:
    if not any(value.name == "gate_period" for value in kinds()[step.kind].values):
        return step
    return replace(step, values={**step.values, "gate_period": period})
