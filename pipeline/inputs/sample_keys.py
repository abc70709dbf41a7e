"""What a column of a samples table is called, in which unit it stands, and what is impossible."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from oectflow.errors import ConfigError

# A unit is its size in SI, as numerator and denominator: 100 µm / 1e6 is 1e-4 m to the last bit,
# 100 * 1e-6 is not.  (Pint knows every unit, but not "cm2", and takes 0.8 s to import.)
_LENGTHS = {
    "m": 1.0, "dm": 1e1, "cm": 1e2, "mm": 1e3, "µm": 1e6, "um": 1e6, "micron": 1e6, "microns": 1e6,
    "nm": 1e9, "Å": 1e10, "angstrom": 1e10, "pm": 1e12,
}  # fmt: skip
_AREAS = {
    f"{unit}{square}": size**2
    for unit, size in _LENGTHS.items()
    if not unit.startswith(("micron", "angstrom"))
    for square in ("²", "2", "^2", "**2")
}
_MOLAR = {"": 1e-3, "m": 1.0, "µ": 1e3, "u": 1e3, "n": 1e6}
_CONCENTRATIONS = {
    f"{prefix}{unit}": size
    for prefix, size in _MOLAR.items()
    for unit in ("M", "mol/L", "mol/l", "mol L-1", "mol·L⁻¹", "mol L⁻¹", "mol/dm3", "mol/dm³")
} | {"mol/m3": 1.0, "mol/m³": 1.0, "mol/m^3": 1.0}
_VOLTAGES = {"V": 1.0, "mV": 1e3, "µV": 1e6, "uV": 1e6, "kV": 1e-3}
_TEMPERATURES = {"K": 1.0, "°C": 1.0, "degC": 1.0, "C": 1.0, "℃": 1.0, "celsius": 1.0}
_ZERO_CELSIUS = 273.15


@dataclass(frozen=True)
class Quantity:
    """A number of the sample that is known by name.

    Attributes
    ----------
    name, unit, description
        As it stands in the sample, in SI.
    units
        What may stand in a heading, and how many of it are one SI unit.
    lowest, highest
        Beyond them it is a mistake.
    may_be_lowest
        Whether ``lowest`` itself is possible.
    example
        A heading.
    aliases
        Further names, in small letters without spaces.
    """

    name: str
    unit: str
    description: str
    units: Mapping[str, float]
    lowest: float
    highest: float
    may_be_lowest: bool
    example: str
    aliases: tuple[str, ...] = ()


QUANTITIES = {
    quantity.name: quantity
    for quantity in (
        Quantity("W", "m", "channel width", _LENGTHS, 0, 1, False, "W (µm)",
                 ("width", "channel_width", "w_channel", "w_ch")),
        Quantity("L", "m", "channel length", _LENGTHS, 0, 1, False, "L (µm)",
                 ("length", "channel_length", "l_channel", "l_ch")),
        Quantity("d", "m", "thickness of the semiconductor", _LENGTHS, 0, 1, False, "d (nm)",
                 ("thickness", "film_thickness", "channel_thickness", "d_channel", "d_film")),
        Quantity("gate_area", "m²", "area of the gate", _AREAS, 0, 1, False, "gate_area (mm²)",
                 ("area_gate", "a_gate", "gate_size")),
        Quantity("concentration", "mol/m³", "salt in the electrolyte", _CONCENTRATIONS, 0, 1e5,
                 True, "concentration (mol/L)",
                 ("conc", "electrolyte_concentration", "salt_concentration")),
        Quantity("Vd", "V", "drain voltage", _VOLTAGES, -200, 200, True, "Vd (V)",
                 ("vds", "v_d", "v_ds", "drain_voltage")),
        Quantity("temperature", "K", "temperature", _TEMPERATURES, 0, 2000, False,
                 "temperature (°C)", ("temp",)),
    )
}  # fmt: skip
TEXTS = {
    "architecture": ("device_architecture",),
    "gate": ("gate_electrode", "gate_material"),
    "electrolyte": (),
    "semiconductor": ("polymer", "channel_material", "material"),
    "batch": ("batch_id",),
}
CHIP = ("chip_id", "chip", "chipid", "chip_no", "chip_number", "chip_#", "substrate")
DEVICE = ("device_id", "device", "deviceid", "device_no", "device_number", "device_#", "dev")

_NAMES = {
    alias.casefold(): name
    for name, aliases in [
        ("chip_id", CHIP),
        ("device_id", DEVICE),
        *((q.name, (q.name, *q.aliases)) for q in QUANTITIES.values()),
        *((name, (name, *aliases)) for name, aliases in TEXTS.items()),
    ]
    for alias in aliases
}
_UNIT = re.compile(r"(.*?)\s*(?:\(([^()]*)\)|\[([^\[\]]*)\])")
_BARE_UNIT = re.compile(r"(.+?)(?:\s*/\s*|[_ ])([^/_ ]+(?:/[^/_ ]+)?)")
_UNCERTAINTY = (
    re.compile(r"(?:u|err|error|sigma|σ|uncertainty|std)_(.+)"),
    re.compile(r"u\((.+)\)|[δ±](.+)"),
    re.compile(r"(.+)_(?:u|err|error|sigma|uncertainty|std|sd)"),
)
_NUMBER = re.compile(r"[+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][+-]?\d+)?")
_CELL = re.compile(rf"({_NUMBER.pattern})(?:\s*(?:±|\+/-|\+-)\s*({_NUMBER.pattern}))?\s*(\D.*)?")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(?:,\d{3})+")
#: How people write that they do not know.
MISSING = frozenset(
    {"", "~", "-", "–", "—", "?", "n/a", "na", "nan", "none", "null", "unknown", "nat", "<na>"}
)


@dataclass(frozen=True)
class Column:
    """What one column of a table holds.

    Attributes
    ----------
    heading
        As it stands there.
    name
        ``chip_id``, ``device_id``, a key of the sample, or what the user calls it.
    unit
        As written, ``""`` where there is none.
    of
        Of an uncertainty, the quantity.
    """

    heading: str
    name: str
    unit: str
    of: str = ""

    @property
    def quantity(self) -> Quantity | None:
        """What its numbers are, None for text and for columns that only the user knows."""
        return QUANTITIES.get(self.of or self.name)


@dataclass(frozen=True)
class Share:
    """An uncertainty that is given as a share of its value."""

    of_value: float


def understand(heading: str) -> Column:
    """Return what a heading means.

    ``W (µm)``, ``W [µm]``, ``W / µm``, ``W_um`` and ``Channel width (um)`` are one and the same.
    """
    text = " ".join(heading.split())
    name, unit = text, ""
    is_call = re.fullmatch(r"u ?\([^()]*\)", text)
    match = None if is_call else _UNIT.fullmatch(text)
    if match and match[1].strip():
        name, unit = match[1].strip(), (match[2] or match[3] or "").strip()
    found, of = _known(_plain(name), unit)
    if found:
        return Column(heading, found, unit, of)
    bare = None if unit else _BARE_UNIT.fullmatch(text)
    if bare:
        found, of = _known(_plain(bare[1]), bare[2])
        quantity = QUANTITIES.get(of or found)
        # W/L is a ratio, L_um is a length in µm.
        if quantity and (size_of(quantity, bare[2]) or (of and bare[2] == "%")):
            return Column(heading, found, bare[2], of)
    return Column(heading, re.sub(r"\W+", "_", name).strip("_") or "_", unit)


def _plain(name: str) -> str:
    return re.sub(r"[\s\-.]+", "_", name).strip("_").casefold()


def _known(plain: str, unit: str) -> tuple[str, str]:
    """Return the key and, of an uncertainty, the quantity; empty where nobody knows the name."""
    if plain == "t":
        # Thickness or temperature: the unit says which.
        name = next((n for n in ("d", "temperature") if size_of(QUANTITIES[n], unit)), "")
        return name, ""
    if plain in _NAMES:
        return _NAMES[plain], ""
    for pattern in _UNCERTAINTY:
        match = pattern.fullmatch(plain)
        of = _NAMES.get(next(g for g in match.groups() if g).strip("_"), "") if match else ""
        if of in QUANTITIES:
            return f"u_{of}", of
    return "", ""


def size_of(quantity: Quantity, unit: str) -> float | None:
    """Return how many of a unit are one SI unit, None where it is no unit of that quantity."""
    # Two letters look like µ, and two like Å.
    tidy = unit.strip().replace("\u03bc", "µ").replace("\u212b", "Å")
    return quantity.units.get(tidy, quantity.units.get(tidy.replace(" ", "")))


def to_si(quantity: Quantity, value: float, unit: str, *, difference: bool = False) -> float:
    """Convert a number.

    Parameters
    ----------
    quantity
        What it is.
    value, unit
        As written.
    difference
        Of two temperatures, which does not care where zero is.

    Raises
    ------
    ConfigError
        That is no unit of this quantity.
    """
    size = size_of(quantity, unit)
    if size is None:
        raise ConfigError(
            f"{unit!r} is no unit of {quantity.name} ({quantity.description}); known: "
            f"{', '.join(list(quantity.units)[:12])}"
        )
    is_celsius = quantity.unit == "K" and unit.strip() != "K"
    shift = _ZERO_CELSIUS if is_celsius and not difference else 0.0
    return value / size + shift


def parse(column: Column, cell: Any, *, comma: bool, si: bool = False) -> dict[str, Any]:
    """Return what one cell says, by key of the sample, in SI.

    Parameters
    ----------
    column
        From :func:`understand`.
    cell
        Text or a number; what says nothing gives an empty dict.
    comma
        Whether the table writes ``0,5`` for a half.
    si
        Whether a number without unit is in SI.

    Raises
    ------
    ConfigError
        It is no number, has no unit, or is impossible; the message lacks the place.
    """
    if str(cell).strip().casefold() in MISSING:
        return {}
    quantity = column.quantity
    if quantity is None:
        return {column.name: identifier(cell) if column.name in TEXTS else _free(cell, comma)}
    number, error, own_unit = _split(column, cell, comma)
    if own_unit and column.unit and own_unit != column.unit:
        raise ConfigError(
            f"{cell!r} under {column.heading!r}: two units; write the number alone in the unit of "
            "the heading"
        )
    unit = own_unit or column.unit or (quantity.unit if si else "")
    if not unit:
        u_hint = " or in %" if column.of else ""
        example = f"u_{quantity.example}" if column.of else quantity.example
        raise ConfigError(
            f"{column.heading!r} has no unit; write it into the heading, as {example!r}{u_hint}"
        )
    if column.of:
        return {column.name: _uncertainty(quantity, number, unit)}
    value = to_si(quantity, number, unit)
    _check_range(quantity, value, f"{number:g} {unit}")
    found: dict[str, Any] = {quantity.name: value}
    if error is not None:
        found[f"u_{quantity.name}"] = _uncertainty(quantity, error, unit)
    return found


def in_si(key: str, value: float | str) -> float:
    """Return a number of a known quantity or its uncertainty, text with a unit, in SI.

    Raises
    ------
    ConfigError
        It is no number, or has no unit of the quantity.
    """
    of = key.removeprefix("u_") if key not in QUANTITIES else ""
    found = parse(Column(key, key, "", of), value, comma=False, si=not isinstance(value, str))
    number = found.get(key)
    if not isinstance(number, float):
        raise ConfigError("expected a number, or one with its unit such as '100 µm'")
    return number


def _split(column: Column, cell: Any, comma: bool) -> tuple[float, float | None, str]:
    if isinstance(cell, bool):
        raise ConfigError(f"{column.heading!r} is {cell!r}, expected a number")
    if not isinstance(cell, str):
        try:
            number = float(cell)
        except (TypeError, ValueError):
            raise ConfigError(f"{column.heading!r} is {cell!r}, expected a number") from None
        return number, None, ""
    text = cell.strip()
    match = _CELL.fullmatch(text.removeprefix("±").lstrip() if column.of else text)
    if not match:
        raise ConfigError(f"{column.heading!r} is {cell!r}, expected a number")
    error = None if match[2] is None else as_number(match[2], comma)
    return as_number(match[1], comma), error, (match[3] or "").strip()


def as_number(text: str, comma: bool) -> float:
    """Return a number as people write it, with a decimal point or a decimal comma.

    Raises
    ------
    ConfigError
        ``1,000`` may be one or a thousand.
    """
    if not comma and _THOUSANDS.fullmatch(text):
        raise ConfigError(
            f"{text!r} may be one number or a thousand times it; write "
            f"{text.replace(',', '')} or {text.replace(',', '.', 1)}"
        )
    return float(text.replace(",", "."))


def _free(cell: Any, comma: bool) -> float | str:
    """Return a cell of a column that only the user knows: a number where it is plainly one."""
    text = str(cell).strip()
    if isinstance(cell, bool):
        return text
    if not isinstance(cell, str):
        try:
            number = float(cell)
        except (TypeError, ValueError):
            return text
        return number if math.isfinite(number) else text
    # 007 names something, 7 counts something; nobody knows what 1,000 is.
    names = re.match(r"[+-]?0\d", text) or (not comma and _THOUSANDS.fullmatch(text))
    if names or not _NUMBER.fullmatch(text):
        return text
    number = as_number(text, comma)
    return number if math.isfinite(number) else text


def identifier(cell: Any) -> str:
    """Return an id as text: 1 and 1.0 are ``"1"``, ``"01"`` stays what it is."""
    if isinstance(cell, float | np.floating) and float(cell).is_integer():
        return str(int(float(cell)))
    return str(cell).strip()


def _uncertainty(quantity: Quantity, value: float, unit: str) -> float | Share:
    if not 0 <= value < math.inf:
        raise ConfigError(f"u_{quantity.name}={value:g} {unit}: an uncertainty is 0 or more")
    if unit == "%":
        if value > 100:
            raise ConfigError(f"u_{quantity.name}={value:g} %: more than the value itself")
        return Share(value / 100)
    return to_si(quantity, value, unit, difference=True)


def _check_range(quantity: Quantity, value: float, written: str) -> None:
    low, high = quantity.lowest, quantity.highest
    if not low <= value <= high or (value == low and not quantity.may_be_lowest):
        least = f"{low:g} {quantity.unit}" + ("" if quantity.may_be_lowest else " (excluded)")
        raise ConfigError(
            f"{quantity.name}={written} is impossible; expected {least} to {high:g} "
            f"{quantity.unit}; check number and unit"
        )


def check_possible(name: str, value: float) -> None:
    """Raise ConfigError where a number in SI units cannot be."""
    quantity = QUANTITIES.get(name)
    if quantity is not None:
        _check_range(quantity, value, f"{value:g} {quantity.unit}")
    elif name.removeprefix("u_") in QUANTITIES and value < 0:
        raise ConfigError(f"{name}={value:g}: an uncertainty is 0 or more")


def check_together(sample: Mapping[str, Any]) -> None:
    """Raise ConfigError where numbers that are possible alone are not so together."""
    if "W" in sample and "d" in sample and sample["d"] > 10 * sample["W"]:
        raise ConfigError(
            f"d={sample['d']:g} m is more than ten times W={sample['W']:g} m; check the units"
        )
    for name in QUANTITIES:
        error, value = sample.get(f"u_{name}"), sample.get(name)
        if error is not None and value and name in ("W", "L", "d") and error > value:
            raise ConfigError(
                f"u_{name}={error:g} m is more than {name}={value:g} m itself; check the units"
            )
