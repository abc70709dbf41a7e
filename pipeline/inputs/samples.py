"""Geometry and materials of devices, from a table.

A *sample* is a mapping.  These keys have a meaning; any further one is a number or a text that only
the user knows, whose unit, as written, stands under ``units`` (in a raw file, ``/sample`` has it
as the attribute ``unit_<key>``):

=====================  =======  ===============================================
``W``, ``L``, ``d``    m        channel width and length, film thickness
``gate_area``          m²       area of the gate
``concentration``      mol/m³   salt in the electrolyte; 1 mol/L is 1000 mol/m³
``Vd``                 V        drain voltage
``temperature``        K
``u_W``, ``u_L``, …    as W, …  standard uncertainty of a number
``architecture``       text
``gate``               text
``electrolyte``        text
``semiconductor``      text
``batch``              text
=====================  =======  ===============================================

The table has the columns ``chip_id`` and ``device_id``; ``*`` stands for any.  Of several rows that
fit a device, the most specific one that says something counts, quantity by quantity.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

from oectflow.config_file import shorten
from oectflow.errors import ConfigError
from oectflow.measurement import Measurement
from oectflow.pipeline.inputs.experiment import Experiment
from oectflow.pipeline.inputs.sample_keys import (
    QUANTITIES,
    TEXTS,
    Share,
    check_possible,
    check_together,
    identifier,
    parse,
    understand,
)
from oectflow.pipeline.inputs.sample_table import Entry, entries_of, entries_of_frame, read_table

Sample = dict[str, Any]
ANY = "*"


@dataclass(frozen=True)
class _Row:
    place: str
    chip: str
    device: str
    values: Mapping[str, Any]
    units: Mapping[str, str] = field(default_factory=dict)


class Samples:
    """A table of devices, made by :func:`read_samples`."""

    def __init__(self, rows: Sequence[_Row]) -> None:
        self._rows: dict[tuple[str, str], list[_Row]] = {}
        self._text: str | None = None
        for row in rows:
            self._rows.setdefault((row.chip, row.device), []).append(row)
        for chip, device in self._rows:
            self.of(chip, device)

    def of(self, chip_id: Any, device_id: Any) -> Sample:
        """Return what the table says about a device; empty if it says nothing.

        Parameters
        ----------
        chip_id, device_id
            As in the raw file; the number 1 is the text ``"1"``, which is not ``"01"``.

        Raises
        ------
        ConfigError
            Two equally specific rows contradict each other.
        """
        return _resolved(self._chosen(chip_id, device_id))

    def complete(
        self, chip_id: Any, device_id: Any, own: Mapping[str, Any]
    ) -> tuple[Sample, list[str]]:
        """Combine what a raw file says about its device with what the table says.

        Parameters
        ----------
        chip_id, device_id
            As in :meth:`of`.
        own
            Sample of the raw file.  If both have a value, the raw file counts.

        Returns
        -------
        The combined sample, and a sentence for each contradiction.

        Raises
        ------
        ConfigError
            As in :meth:`of`.
        """
        mine = {name: value for name, value in own.items() if name != "units"}
        row = _Row("the file", "", "", mine, own.get("units", {}))
        chosen = {name: (row, value) for name, value in mine.items()}
        contradictions = []
        for name, (other, value) in self._chosen(chip_id, device_id).items():
            if name in mine and not alike(mine[name], value):
                contradictions.append(
                    f"{name}: the file says {_shown(name, mine[name])}, {other.place} says "
                    f"{_shown(name, value)}; the file counts"
                )
            elif name not in mine and _belongs(name, other, chosen):
                chosen[name] = (other, value)
        return _resolved(chosen), contradictions

    def to_json(self) -> str:
        """Return the table as text, for :meth:`from_json`."""
        rows = [
            {
                "place": row.place,
                "chip": row.chip,
                "device": row.device,
                "values": {
                    name: {"share": value.of_value} if isinstance(value, Share) else value
                    for name, value in row.values.items()
                },
                "units": dict(row.units),
            }
            for several in self._rows.values()
            for row in several
        ]
        return json.dumps(rows, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the table that :meth:`to_json` has written."""
        rows = []
        for row in json.loads(text):
            values = {
                name: Share(value["share"]) if isinstance(value, dict) else value
                for name, value in row.pop("values").items()
            }
            rows.append(_Row(**row, values=values))
        return cls(rows)

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        # It travels with every folder that is ingested: 3,000 rows take 60 ms as objects, and 1 as
        # text that a process reads once.
        if self._text is None:
            self._text = self.to_json()
        return _from_text, (self._text,)

    def _unknown(self, chip_id: Any, device_id: Any) -> list[str]:
        if self._chosen(chip_id, device_id):
            return []
        return [f"the table of samples says nothing of chip {chip_id!r}, device {device_id!r}"]

    def _chosen(self, chip_id: Any, device_id: Any) -> dict[str, tuple[_Row, Any]]:
        """Return each key's value and the row that has it."""
        chip, device = identifier(chip_id), identifier(device_id)
        chosen: dict[str, tuple[_Row, Any]] = {}
        for keys in ([(chip, device)], [(chip, ANY), (ANY, device)], [(ANY, ANY)]):
            level: dict[str, tuple[_Row, Any]] = {}
            for row in (row for key in dict.fromkeys(keys) for row in self._rows.get(key, ())):
                for name, value in row.values.items():
                    if name in chosen or not _belongs(name, row, chosen):
                        continue
                    other = level.setdefault(name, (row, value))
                    if not alike(other[1], value):
                        raise ConfigError(
                            f"{name} of chip {chip!r}, device {device!r}: {other[0].place} says "
                            f"{_shown(name, other[1])}, {row.place} says {_shown(name, value)}; "
                            "correct one of them"
                        )
            chosen |= level
        return chosen

    def __len__(self) -> int:
        return sum(map(len, self._rows.values()))

    def __repr__(self) -> str:
        return f"<Samples: {len(self)} row{'' if len(self) == 1 else 's'}>"


@lru_cache(maxsize=2)
def _from_text(text: str) -> Samples:
    return Samples.from_json(text)


def read_samples(source: Any) -> Samples:
    """Read a table of devices.

    Parameters
    ----------
    source
        A file: text with any usual delimiter, encoding and decimal sign (``.csv``, ``.txt``),
        ``.yaml`` or ``.xlsx``; or a pandas DataFrame; or a mapping such as ``{"W": 1e-4}`` for all
        devices, or several with ``chip_id`` and ``device_id``.  Give the unit of a number in the
        heading (``W (µm)``), in a row of units below it, or in the cell.  Only in a mapping,
        numbers without a unit are in SI.

    Returns
    -------
    The table.

    Raises
    ------
    ConfigError
        The table cannot be read, a unit is missing or unknown, a number is impossible, or two rows
        contradict each other.  The message names the line.

    Examples
    --------
    >>> samples = read_samples({"chip_id": "A", "device_id": "*", "W (µm)": 100, "d": 5e-8})
    >>> samples.of("A", 1)
    {'W': 0.0001, 'd': 5e-08}
    """
    if isinstance(source, Samples):
        return source
    if isinstance(source, str | os.PathLike):
        entries, si = read_table(Path(source).expanduser()), False
    elif hasattr(source, "columns") and hasattr(source, "iloc"):
        entries, si = entries_of_frame(source), False
    else:
        entries, si = entries_of(source, "samples"), True
    _check_commas(entries)
    return Samples([_row(entry, si=si) for entry in entries])


def sample_of(experiment: Experiment, samples: Samples | None) -> tuple[Sample, list[str]]:
    """Return the known properties of the device of an experiment, and contradictions in them.

    Parameters
    ----------
    experiment
        The experiment; values in its file take precedence.
    samples
        Table that adds missing values.

    Returns
    -------
    The sample, with finite and possible numbers only; and a sentence for each contradiction and for
    each impossible value in the file.

    Raises
    ------
    ConfigError
        Two rows of the table contradict each other.
    """
    own: Sample = {}
    odd = []
    for name, value in experiment.sample.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if name == "units" or (isinstance(value, str) and not _is_number(name)):
            own[name] = value
        elif not is_number:
            odd.append(f"/sample: {name} is {shorten(value)}, expected a number; left out")
        elif math.isfinite(value):
            try:
                check_possible(name, float(value))
            except ConfigError as error:
                odd.append(f"/sample: {error}; left out")
            else:
                own[name] = float(value)
    if samples is None:
        return own, odd
    merged, contradictions = samples.complete(experiment.chip_id, experiment.device_id, own)
    unknown = samples._unknown(experiment.chip_id, experiment.device_id)
    return merged, [*odd, *unknown, *contradictions]


def with_sample(
    measurement: Measurement, attributes: Mapping[str, Any], samples: Samples | None
) -> Measurement:
    """Add the properties of its device from a table to a measurement; contradictions are warnings.

    Parameters
    ----------
    measurement
        The measurement; its own values take precedence.
    attributes
        Attributes with ``chip_id`` and ``device_number``.
    samples
        The table; None changes nothing.

    Raises
    ------
    ConfigError
        Two rows of the table contradict each other.
    """
    if samples is None:
        return measurement
    chip, device = (attributes.get(name, "") for name in ("chip_id", "device_number"))
    sample, odd = samples.complete(chip, device, measurement.sample)
    odd = [*samples._unknown(chip, device), *odd]
    return replace(measurement, sample=sample, warnings=(*measurement.warnings, *odd))


def alike(a: Any, b: Any) -> bool:
    """Whether two values of a sample are equal; numbers are compared to nine digits."""
    if isinstance(a, Share | str) or isinstance(b, Share | str):
        return bool(a == b)
    return math.isclose(a, b, rel_tol=1e-9)


def unit_of(name: str, sample: Mapping[str, Any]) -> str:
    """Return the unit of a key of a sample; ``""`` if it has none."""
    quantity = QUANTITIES.get(name) or QUANTITIES.get(name.removeprefix("u_"))
    return quantity.unit if quantity else str(sample.get("units", {}).get(name, ""))


def _row(entry: Entry, *, si: bool) -> _Row:
    cells = dict(entry.cells)
    units = cells.pop("units", {}) if si else {}
    ids = {"chip_id": ANY, "device_id": ANY} if si else {}
    values: dict[str, Any] = {}
    written: dict[str, str] = {}
    for heading, cell in cells.items():
        column = understand(heading)
        if column.name in ("chip_id", "device_id"):
            ids[column.name] = "" if cell is None else identifier(cell)
            continue
        if column.name.startswith("unit_") or column.name == "units":
            raise ConfigError(
                f"{entry.place}: a column {heading!r} would be the unit of another; rename it"
            )
        try:
            found = parse(column, cell, comma=entry.comma, si=si)
        except ConfigError as error:
            raise ConfigError(f"{entry.place}: {error}") from None
        for name, value in found.items():
            if name in values:
                raise ConfigError(f"{entry.place}: {name} stands there twice")
            values[name] = value
            unit = column.unit or units.get(name, "")
            if unit and column.quantity is None and name not in TEXTS:
                written[name] = unit
    for name in ("chip_id", "device_id"):
        if not ids.get(name) or ids[name].casefold() == "nan":
            raise ConfigError(f"{entry.place}: {name} is empty; * stands for any")
    row = _Row(entry.place, ids["chip_id"], ids["device_id"], values, written)
    try:
        _resolved({name: (row, value) for name, value in values.items()})
    except ConfigError as error:
        raise ConfigError(f"{entry.place}: {error}") from None
    return row


def _belongs(name: str, row: _Row, chosen: Mapping[str, tuple[_Row, Any]]) -> bool:
    """Whether a value may be joined: the uncertainty of one W is not that of another."""
    of = name.removeprefix("u_")
    if of == name or of not in chosen or of not in row.values:
        return True
    return alike(row.values[of], chosen[of][1])


def _resolved(chosen: Mapping[str, tuple[_Row, Any]]) -> Sample:
    sample: Sample = {}
    for name, (_, value) in chosen.items():
        if not isinstance(value, Share):
            sample[name] = value
        elif (of := name.removeprefix("u_")) in chosen:
            # A share of a value that nobody knows is nothing.
            sample[name] = abs(chosen[of][1]) * value.of_value
    check_together(sample)
    units = {name: row.units[name] for name, (row, _) in chosen.items() if name in row.units}
    return sample | {"units": units} if units else sample


def _is_number(name: str) -> bool:
    return name in QUANTITIES or name.removeprefix("u_") in QUANTITIES


def _check_commas(entries: Sequence[Entry]) -> None:
    """Refuse a table with 0.5 and 0,5: there, 1.234 may be a thousand."""
    seen: dict[str, Entry] = {}
    for entry in entries:
        for heading, cell in entry.cells.items():
            if isinstance(cell, str) and understand(heading).quantity is not None:
                for sign in filter(cell.__contains__, ".,"):
                    seen.setdefault(sign, entry)
    if len(seen) > 1:
        raise ConfigError(
            f"{seen['.'].place} has a decimal point, {seen[','].place} a decimal comma; use one"
        )


def _shown(name: str, value: Any) -> str:
    if isinstance(value, Share):
        return f"{100 * value.of_value:g} %"
    return repr(value) if isinstance(value, str) else f"{value:.6g} {unit_of(name, {})}".strip()
