"""What a column heading says: the quantity, its unit, and values that belong to the whole column.

Units are read by a table of a few names and the SI prefixes, not by pint: a heading holds one of
seven units, pint takes half a second to import in every process, and it reads ``MS`` as
megasiemens where an instrument that writes capitals means milliseconds.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

_PREFIXES = {
    "f": 1e-15,
    "p": 1e-12,
    "n": 1e-9,
    "u": 1e-6,
    "μ": 1e-6,  # NFKC turns the micro sign into the Greek letter.
    "m": 1e-3,
    "": 1.0,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
}
_WORD_PREFIXES = {
    "femto": 1e-15,
    "pico": 1e-12,
    "nano": 1e-9,
    "micro": 1e-6,
    "milli": 1e-3,
    "": 1.0,
    "kilo": 1e3,
    "mega": 1e6,
}
# SI unit -> its symbols, which take a prefix; its words, which take one in full; what takes none.
_UNITS: dict[str, tuple[tuple[str, ...], tuple[str, ...], dict[str, float]]] = {
    "V": (("V",), ("volts", "volt"), {}),
    "A": (("A", "amps", "amp"), ("amperes", "ampere", "amps", "amp"), {}),
    "s": (
        ("s", "sec"),
        ("seconds", "second", "secs", "sec"),
        {"min": 60.0, "mins": 60.0, "minutes": 60.0, "h": 3600.0, "hr": 3600.0, "hours": 3600.0},
    ),
    "Hz": (("Hz",), ("hertz",), {"1/s": 1.0, "s-1": 1.0}),
    "Ω": (("Ω", "ohms", "ohm"), ("ohms", "ohm"), {}),
    "rad": (
        ("rad",),
        ("radians",),
        dict.fromkeys(("°", "deg", "degree", "degrees"), math.pi / 180),
    ),
}

_DIMENSIONS = {
    "Vg": "V",
    "Vd": "V",
    "Vdc": "V",
    "Id": "A",
    "Ig": "A",
    "u_Id": "A",
    "u_Ig": "A",
    "time": "s",
    "frequency": "Hz",
    "Z_real": "Ω",
    "Z_imag": "Ω",
    "Z_abs": "Ω",
    "phase": "rad",
}
# Without case, blanks, underscores and hyphens.  漏电流 is not there: it means the drain current
# to some and the leakage current to others.
_NAMES = {
    "Vg": "vg vgs vgate vgatesource gate gatev gatevoltage gatebias gatepotential gatesourcevoltage"
    " voltagegate ug ugs ugate gatespannung 栅压 栅电压 栅极电压 栅源电压 ゲート電圧",
    "Vd": "vd vds vdrain vdrainsource drainv drainvoltage drainbias drainsourcevoltage"
    " sourcedrainvoltage voltagedrain ud uds drainspannung 漏压 漏极电压 漏源电压 源漏电压"
    " ドレイン電圧",
    "Id": "id ids idrain idrainsource draini draincurrent drainsourcecurrent currentdrain"
    " channelcurrent drainstrom 漏极电流 漏源电流 源漏电流 ドレイン電流",
    "Ig": "ig igs igate gatei gatecurrent gatesourcecurrent currentgate leakage leakagecurrent"
    " gateleakage gateleakagecurrent gatestrom 栅电流 栅极电流 ゲート電流",
    "time": "t time timestamp timestamps elapsed elapsedtime timeelapsed testtime zeit temps"
    " 时间 時間",
    "frequency": "f freq frequency frequenz 频率 周波数",
    "Z_real": "z' zre zreal zr rez re(z) realz real(z) realpart zprime",
    "Z_imag": "z'' zim zimag zi imz im(z) imagz imag(z) imaginarypart zdoubleprime",
    "Z_abs": "|z| zabs absz abs(z) zmod modz zmag magz",
    "phase": "phase phase(z) phasez zphase phz zphz phaseangle",
    "Vdc": "vdc dcbias biasdc",
}
_ALIASES = {name: quantity for quantity, names in _NAMES.items() for name in names.split()}
# What only the unit can tell.
_BY_UNIT = {("gate", "A"): "Ig", ("drain", "A"): "Id", ("drain", "V"): "Vd"}
#: Taken for the drain current where a table has no other current, and said so.
_ASSUMED = {
    "i": "Id",
    "current": "Id",
    "strom": "Id",
    "电流": "Id",
    "isd": "Id",
    "sourcedraincurrent": "Id",
}

_ERROR = re.compile(
    r"(?:error|err|uncertainty|stdev|stddev|std|sd|sigma)$|^(?:u|err|error|sigma|Δ|σ)"
)
_NOMINAL = re.compile(
    r"(?:set|setpoint|applied|programmed|nominal|target)$|^(?:set|applied|nominal)"
)
_MEASURED = re.compile(r"(?:measured|meas|actual|readback|read)$|^(?:measured|meas)")
_NUMBER_AT_END = re.compile(r"^(.*?\D)[\s._#-]*(?:\((\d{1,3})\)|#?(\d{1,3}))$")
_MINUS = re.compile(r"^[-−–]\s*(?=\D)")
_QUALIFIER = re.compile(
    r"""(?:[@,;:(\[{]|\bat\b|\bfor\b|(?<=[\s_]))?\s*
    (?P<name>[^\W\d](?:[\w-]|\s(?=\w))*?)\s*=\s*
    (?P<number>[-+−–]?\d*[.,]?\d+(?:[eE][-+]?\d+)?)\s*(?P<unit>[a-zA-ZμΩ°]*)\s*[)\]}]?""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Heading:
    """What the heading of a column says.

    Attributes
    ----------
    text
        As it stands in the file.
    quantity
        ``Vg``, ``Id``, ``Ig``, ``Vd``, ``time``, ``frequency``, ``Z_real``, ``Z_imag``, ``Z_abs``,
        ``phase``, ``Vdc``, ``u_Id`` or ``u_Ig``; ``None`` where it is unknown.
    unit
        As written, ``""`` where none is.
    scale
        What one unit of the column is in the SI unit of its quantity (phase: rad), with the sign of
        a heading like ``-Z''``.
    values
        What holds for the whole column, in SI units: ``{"Vg": -0.2}`` of ``Id(Vg=-200mV)``.
    nominal
        It is the value that was set, not the one that was measured.
    assumed
        The name alone does not say the quantity: ``Current`` may be the drain's or the gate's.
    note
        Why a quantity that looks known is not used, and what of the heading is not.
    """

    text: str
    quantity: str | None = None
    unit: str = ""
    scale: float = 1.0
    values: Mapping[str, float] = field(default_factory=dict)
    nominal: bool = False
    assumed: bool = False
    note: str = ""


def si_unit(quantity: str) -> str:
    """Return the SI unit of a quantity of headings; that of a phase is rad.

    Raises
    ------
    ValueError
        There is no such quantity.
    """
    if quantity not in _DIMENSIONS:
        known = ", ".join(_DIMENSIONS)
        raise ValueError(f"no quantity {quantity!r}; expected one of {known}")
    return _DIMENSIONS[quantity]


def si_scale(unit: str, si: str) -> float | None:
    """Return what one ``unit`` is in the SI unit ``si`` (V, A, s, Hz, Ω, rad), None if it is none.

    ``""`` is taken as the SI unit itself.
    """
    unit = _tidy(unit).strip("()[]{} ")
    unit = re.sub(r"\s+(?:vs?\.?|versus|against|rel\.)\s.*$", "", unit, flags=re.IGNORECASE)
    if not unit:
        return 1.0
    symbols, words, others = _UNITS[si]
    for symbol in symbols:
        if unit.endswith(symbol) and unit[: -len(symbol)] in _PREFIXES:
            return _PREFIXES[unit[: -len(symbol)]]
    folded = unit.casefold()
    for symbol in symbols:
        prefix = folded.removesuffix(symbol.casefold())
        if prefix != folded and prefix in _PREFIXES:
            return _PREFIXES[prefix]
    for word in words:
        prefix = folded.removesuffix(word)
        if prefix != folded and prefix in _WORD_PREFIXES:
            return _WORD_PREFIXES[prefix]
    return others.get(folded)


def known_heading(text: str, quantity: str, unit: str = "") -> Heading:
    """Return a heading whose quantity is known from elsewhere: a schema, a channel table.

    Parameters
    ----------
    text
        As it stands in the file.
    quantity
        Of the column.
    unit
        Of the column, ``""`` for the SI unit.

    Raises
    ------
    ValueError
        There is no such quantity, or it has no such unit.
    """
    si = si_unit(quantity)
    scale = si_scale(unit, si)
    if scale is None:
        raise ValueError(f"column {text!r}: {unit!r} is no unit of {quantity}, expected e.g. {si}")
    return Heading(text, quantity, unit, scale)


@lru_cache(maxsize=1024)
def read_heading(text: str, unit_cell: str = "") -> Heading:
    """Return what a heading says.

    Parameters
    ----------
    text
        ``"Vg"``, ``"I_DS (mA)"``, ``"Vg / V"``, ``"Id_mA"``, ``"Id(Vg=-200mV)"``, ``"-Z'' [Ohm]"``.
    unit_cell
        What the row of units below has in this column, ``""`` where there is none.
    """
    rest, values, note = _take_qualifiers(_tidy(text))
    minus = _MINUS.match(rest)
    sign = -1.0 if minus else 1.0
    rest = rest[minus.end() :] if minus else rest
    cell = _tidy(unit_cell).strip("()[]{} ")
    if not rest and values:
        # "Vd = -0.1 V" and nothing else heads the drain current at that voltage.
        scale = si_scale(cell, "A")
        return Heading(text, "Id" if scale else None, cell, scale or 1.0, values, assumed=True)
    misfit = ""
    for name, unit in _name_and_unit(rest):
        for found, nominal, assumed in _quantities(name, unit or cell):
            si = _DIMENSIONS[found]
            scale = si_scale(unit or cell, si)
            if scale is not None and unit and cell and si_scale(cell, si) != scale:
                misfit = misfit or f"its unit is {unit!r} in the heading and {cell!r} below"
            elif scale is None:
                misfit = misfit or f"{unit or cell!r} is not known as a unit of {found}"
            else:
                return Heading(
                    text, found, unit or cell, sign * scale, values, nominal, assumed, note
                )
    unit = cell or next((unit for _, unit in _name_and_unit(rest) if unit), "")
    return Heading(text, None, unit, 1.0, values, note=misfit or note)


def _tidy(text: str) -> str:
    text = unicodedata.normalize("NFKC", text).strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1].strip()
    return re.sub(r"[′’`]", "'", text).replace('"', "''")


def _fold(name: str) -> str:
    return re.sub(r"[\s_\-.:]+", "", name).casefold()


def _take_qualifiers(text: str) -> tuple[str, dict[str, float], str]:
    values: dict[str, float] = {}
    note = ""
    rest = text
    for match in _QUALIFIER.finditer(text):
        # "Id Vg=1": the words before the one that is set belong to the column.
        words = match["name"].replace("_", " ").split()
        for first in range(len(words)):
            quantity = _ALIASES.get(_fold("".join(words[first:])))
            scale = si_scale(match["unit"], "V")
            if quantity in ("Vg", "Vd") and scale is not None:
                number = match["number"].replace(",", ".")
                values[quantity] = float(re.sub("[−–]", "-", number)) * scale
                rest = rest.replace(match[0], " " + " ".join(words[:first]) + " ", 1)
                break
        else:
            note = f"{match[0].strip()!r} is not used"
            rest = rest.replace(match[0], " ", 1)
    return rest.strip(" ,;:@_"), values, note


def _name_and_unit(text: str) -> Iterator[tuple[str, str]]:
    """Yield the ways to split a heading, the most certain first."""
    yield text, ""
    bracket = re.fullmatch(r"(.*?)\s*[(\[{<]\s*([^()\[\]{}<>]*?)\s*[)\]}>]\s*(.*)", text)
    if bracket:
        yield f"{bracket[1]} {bracket[3]}".strip(), bracket[2]
    for separator in ("/", " in ", ",", ";"):
        name, found, unit = text.rpartition(separator)
        if found:
            yield name.strip(), unit.strip()
    name, found, unit = re.sub(r"[\s_]+", " ", text).rpartition(" ")
    if found:
        yield name, unit


def _quantities(name: str, unit: str) -> Iterator[tuple[str, bool, bool]]:
    """Yield (quantity, nominal, assumed) that a name may stand for."""
    number = _NUMBER_AT_END.match(name)
    for plain in (name, number[1]) if number else (name,):
        folded = _fold(plain)
        if folded in ("t", "f") and plain.strip() != folded and not unit:
            continue  # A capital T is a temperature as well, unless it is measured in seconds.
        for (word, si), quantity in _BY_UNIT.items():
            if folded == word and unit and si_scale(unit, si) is not None:
                yield quantity, False, False
        if folded in _ALIASES:
            yield _ALIASES[folded], False, False
        if folded in _ASSUMED:
            yield _ASSUMED[folded], False, True
        for pattern, nominal in ((_NOMINAL, True), (_MEASURED, False)):
            stem = pattern.sub("", folded, count=1)
            if stem != folded and stem in _ALIASES:
                yield _ALIASES[stem], nominal, False
        stem = _ERROR.sub("", folded, count=1)
        if stem != folded and _ALIASES.get(stem) in ("Id", "Ig"):
            yield f"u_{_ALIASES[stem]}", False, False
