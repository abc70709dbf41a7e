"""Kinds of measurement, and what travels of them: steps, measurements and batches.

A *kind* is declared once and everything else asks it: which arrays there are, which are required,
their units, the numbers that belong to a step, the names of dimensions, what a curve is.  Four are
built in; an installed package announces its own under the entry point group ``oectflow.kinds``:
a module that calls :func:`register_kind`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from oectflow.errors import ConfigError, did_you_mean

_T = TypeVar("_T")

_BUILT_IN = ("transfer", "output", "transient", "impedance")


@dataclass(frozen=True)
class Array:
    """One array of a kind.

    Attributes
    ----------
    name
        The field's name: ``Vg``, ``Id``, ``time``.
    unit
        SI unit.
    description
        What it is, in a few words.
    dataset
        Name of its own dataset in a raw file; ``""`` for a row of ``measurement_data``, which all
        steps have.
    aliases
        Further names under which extractors get the same array.
    """

    name: str
    unit: str
    description: str
    dataset: str = ""
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Value:
    """One number that belongs to a step.

    Attributes
    ----------
    name, unit, description
        As of an array; NaN stands where it is unknown.
    parameters
        Names of the instrument's parameters that give it, the first that is there counts.
    divisor
        How many of the parameter's units make one ``unit``: 1000 for mV.
    per
        Parameter by which the number is divided, too, ``""`` for none.
    column
        Its column in results.
    """

    name: str
    unit: str
    description: str
    parameters: tuple[str, ...] = ()
    divisor: float = 1.0
    per: str = ""
    column: str = ""


@dataclass(frozen=True)
class Kind:
    """What a kind of measurement consists of.

    Attributes
    ----------
    name
        ``transfer``, ``output``, …: the group in raw files and the extractors' ``source``.
    title
        Its name in headings.
    arrays
        Those of ``measurement_data`` first, in the order of its rows.
    values
        Numbers per step.
    sample
        Name of the axis along a step: ``point``, ``sample``.
    layout
        ``"sweeps"``: shape (n_steps, n_rows, longest), padded with NaN; ``"traces"``: one after the
        other, shape (n_rows, n_samples).
    gated
        A trace under a gate square wave: it has sampling interval, gate period and duty cycle.
    x, y
        Arrays that a plain plot of a step draws.
    curve_by
        The value that tells curves of one file apart, ``""`` where there is none.
    """

    name: str
    title: str
    arrays: tuple[Array, ...]
    values: tuple[Value, ...]
    sample: str = "point"
    layout: Literal["sweeps", "traces"] = "sweeps"
    gated: bool = False
    x: str = ""
    y: str = ""
    curve_by: str = ""

    @cached_property
    def rows(self) -> tuple[Array, ...]:
        """Arrays that every step has, in the order of the rows of ``measurement_data``."""
        return tuple(array for array in self.arrays if not array.dataset)

    @cached_property
    def optional(self) -> tuple[Array, ...]:
        """Arrays that a file may have, each in a dataset of its own."""
        return tuple(array for array in self.arrays if array.dataset)

    @cached_property
    def array_names(self) -> Mapping[str, Array]:
        """Every name and alias -> the array."""
        return {name: array for array in self.arrays for name in (array.name, *array.aliases)}

    def array(self, name: str) -> Array:
        """Return the array of this name or alias.

        Raises
        ------
        ValueError
            The kind has none.
        """
        if name not in self.array_names:
            raise ValueError(
                f"{self.name} has no array {name!r}{did_you_mean(name, self.array_names)}"
            )
        return self.array_names[name]

    def value(self, name: str) -> Value:
        """Return the number per step of this name.

        Raises
        ------
        ValueError
            The kind has none.
        """
        for value in self.values:
            if value.name == name:
                return value
        names = [value.name for value in self.values]
        raise ValueError(f"{self.name} has no number {name!r}{did_you_mean(name, names)}")

    def column(self, value: Value) -> str:
        """Return the column of a number in results, where all kinds share one table."""
        return value.column or f"{self.name}_{value.name}"


@dataclass(frozen=True)
class Extra:
    """A column that no kind knows, kept as it was found.

    Attributes
    ----------
    values
        As long as the arrays of its step.
    heading
        The column's heading in the file.
    unit
        As the heading gives it, ``""`` where it gives none.
    """

    values: NDArray[np.float64]
    heading: str
    unit: str = ""


@dataclass(frozen=True)
class Step:
    """One curve of one kind, as measured.

    Attributes
    ----------
    kind
        Name of its kind.
    arrays
        By the kind's names, in SI units; equally long, NaN where a cell was empty or no number.
    values
        Numbers of the step by the kind's names, and ``curve`` (its number among those of the same
        file), ``file_step`` and ``file_position`` (step of the file, and point at which the curve
        begins there) where a file held several.
    info
        What the instrument says about the step: ``parameters``, ``start_time``, ``data_file`` …
    extra
        Columns that the kind does not know, by a name that is an identifier.
    """

    kind: str
    arrays: Mapping[str, NDArray[np.float64]]
    values: Mapping[str, float] = field(default_factory=dict)
    info: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Extra] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values()), ()))


@dataclass(frozen=True)
class Measurement:
    """One experiment, ready to be written as a raw file.

    Attributes
    ----------
    attributes
        Of the experiment: ``test_id``, ``chip_id``, ``device_number``, ``description`` …
    steps
        Of all kinds, each kind in the order measured.
    sample
        Geometry and what else is known of the device, see :mod:`oectflow.pipeline.inputs.samples`.
    documents
        The instrument's own descriptions as text: ``json`` and ``workflow``.
    warnings
        Everything that was left out or assumed, with the step it concerns.
    """

    attributes: Mapping[str, Any]
    steps: Sequence[Step]
    sample: Mapping[str, Any] = field(default_factory=dict)
    documents: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Batch:
    """Consecutive steps of one kind, as contiguous arrays.

    Attributes
    ----------
    arrays
        Samples of all steps, one after the other, under the kind's names and their aliases:
        ``Vg``, ``Id`` (transfer) or ``time``, ``continuous_time``, ``Id`` (transient).  Each of
        shape (n_samples,), float64, in V, A, s, Ω, Hz.
    offsets
        Step ``i`` is ``offsets[i]:offsets[i + 1]``.  Shape (n_steps + 1,), int64.
    values
        One number per step, shape (n_steps,), float64, NaN where unknown.  A transient has
        ``sampling_interval`` and ``gate_period`` (s) and ``duty_cycle`` (share of the period in
        which the gate is high).
    first_step
        Index of the first step along its kind.
    timing_source
        Of a transient, where the gate period of each step is from: ``"step"``, ``"workflow"``,
        ``"trace"`` or ``"unknown"`` (``"caller"`` where somebody puts in their own).
    sample
        What is known of the device: ``W``, ``L``, ``d`` in m, and more; the same for all steps.
    memo
        What features of one task have worked out of these steps for each other, as long as nobody
        changes an array in place; None, and nothing is kept.
    """

    arrays: Mapping[str, NDArray[np.float64]]
    offsets: NDArray[np.int64]
    values: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    first_step: int = 0
    timing_source: tuple[str, ...] = ()
    sample: Mapping[str, Any] = field(default_factory=dict)
    memo: dict[Any, Any] | None = field(default=None, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        # Identities of this process mean nothing in another one.
        return self.__dict__ | {"memo": None}

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def once(self, name: Hashable, given: tuple[Any, ...], make: Callable[[], _T]) -> _T:
        """Return ``make()``, which is called once if there is a :attr:`memo`.

        Parameters
        ----------
        name
            What is made, parameters included.
        given
            The objects it is made from.  Batches with other arrays may have the same memo.
        make
            Called without arguments.
        """
        if self.memo is None:
            return make()
        key = (name, self.first_step, *map(id, given))
        if key not in self.memo:
            # With what it was made from, so that nothing else gets its identity.
            self.memo[key] = given, make()
        made: _T = self.memo[key][1]
        return made

    def step(self, i: int) -> dict[str, Any]:
        """Return step ``i``: views of its arrays, its numbers as floats, and ``"sample"``.

        Where a number and a recorded array have one name, as Vd of a transient may, the name is
        the number's, and the array stands under its alias ``Vd_measured``.
        """
        a, b = self.offsets[i], self.offsets[i + 1]
        arrays: dict[str, Any] = {name: array[a:b] for name, array in self.arrays.items()}
        values = {name: float(value[i]) for name, value in self.values.items()}
        return arrays | values | {"sample": self.sample}

    @classmethod
    def from_steps(cls, steps: Sequence[Mapping[str, Any]]) -> Batch:
        """Concatenate steps given as dicts of equally long arrays and plain numbers.

        Raises
        ------
        ValueError
            The arrays of a step differ in length.
        """
        arrays: dict[str, NDArray[np.float64]] = {}
        values: dict[str, NDArray[np.float64]] = {}
        offsets = np.zeros(len(steps) + 1, np.int64)
        for name in steps[0] if steps else ():
            if name == "sample":
                continue
            parts = [np.asarray(step[name], np.float64) for step in steps]
            if parts[0].ndim == 0:
                values[name] = np.array(parts)
            else:
                ends = np.cumsum([len(part) for part in parts])
                if arrays and not np.array_equal(ends, offsets[1:]):
                    raise ValueError(
                        f"{name!r} and {next(iter(arrays))!r} of a step differ in length"
                    )
                arrays[name] = np.concatenate(parts)
                offsets[1:] = ends
        sample = steps[0].get("sample", {}) if steps else {}
        return cls(arrays, offsets, values, sample=sample)


def errors_of_currents() -> tuple[Array, ...]:
    """Return the arrays for the errors that some instruments write beside currents."""
    return (
        Array("u_Id", "A", "standard error of Id", "drain_current_error"),
        Array("u_Ig", "A", "standard error of Ig", "gate_current_error"),
    )


_kinds: dict[str, Kind] = {}
_loaded = False


def register_kind(kind: Kind) -> Kind:
    """Make a kind known.

    Raises
    ------
    ConfigError
        Another kind has the name, or two of its names are the same.
    """
    if kind.name in _kinds and _kinds[kind.name] != kind:
        raise ConfigError(f"there is a kind {kind.name!r} already")
    names = [name for array in kind.arrays for name in (array.name, *array.aliases)]
    if len(set(names)) < len(names):
        raise ConfigError(f"kind {kind.name!r}: two of its arrays have one name: {names}")
    for value in kind.values:
        # In the dict of a step the number has the plain name.
        if value.name in kind.array_names and not kind.array_names[value.name].aliases:
            raise ConfigError(f"kind {kind.name!r}: give the array {value.name!r} an alias, too")
    _kinds[kind.name] = kind
    return kind


def kinds() -> Mapping[str, Kind]:
    """Return all kinds by name: built in, in a fixed order, then those of installed packages."""
    global _loaded
    if not _loaded:
        _loaded = True
        for name in _BUILT_IN:
            import_module(f"oectflow.kinds.{name}")
        for point in entry_points(group="oectflow.kinds"):
            point.load()
    # Whoever has asked for one kind first has not chosen their order.
    return {name: _kinds[name] for name in (*_BUILT_IN, *_kinds)}


def is_kind(name: str) -> bool:
    """Whether there is a kind of this name; packages are asked only where it is not built in."""
    return name in _BUILT_IN or name in kinds()


def get_kind(name: str) -> Kind:
    """Return the kind of this name.

    Raises
    ------
    ValueError
        There is none; the message names the nearest one.
    """
    if name in _BUILT_IN:
        # Packages that announce kinds import ours, and ours may only be half imported now.
        import_module(f"oectflow.kinds.{name}")
        return _kinds[name]
    if name not in kinds():
        raise ValueError(f"unknown kind of measurement {name!r}{did_you_mean(name, kinds())}")
    return kinds()[name]
