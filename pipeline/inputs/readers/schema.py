"""What a user says about a text file, in the place of what would be found out."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from oectflow.atomic_write import atomic_write
from oectflow.config_file import read_config_file, shorten
from oectflow.errors import ConfigError, did_you_mean
from oectflow.measurement import kinds
from oectflow.pipeline.inputs.readers.headings import Heading, known_heading, si_scale, si_unit

#: A file of this name tells how to read the text files beside it.
SCHEMA_FILE = "schema.yaml"
_DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "blank": " ", "bar": "|"}
_SKIP = "skip"


@dataclass(frozen=True)
class ColumnSchema:
    """One column.

    Attributes
    ----------
    quantity
        As of :class:`.Heading`; ``""`` for a column that no kind knows, ``"skip"`` for one to leave
        out.
    unit
        Of its cells, ``""`` for the SI unit.
    sign
        1, or -1 where the file has the opposite sign.
    """

    quantity: str = ""
    unit: str = ""
    sign: float = 1.0


@dataclass(frozen=True)
class Schema:
    """How to read text files; what it leaves open is found out.

    Attributes
    ----------
    encoding
        Name of the encoding, ``""`` to find it out.
    delimiter
        A comma, semicolon, tab, bar, or one blank for any number of blanks; ``""`` to find it out.
    decimal
        ``"."`` or ``","``, ``""`` to find it out.
    heading_line
        Line of the headings, from 1; 0 where there are none; None to find it out.
    columns
        By heading, or by number from 1.
    kind
        Name of the kind.
    values
        Numbers of the steps in SI units: ``{"Vd": -0.6}``.
    files
        Pattern of the names of the files that it is for.
    """

    encoding: str = ""
    delimiter: str = ""
    decimal: str = ""
    heading_line: int | None = None
    columns: Mapping[str | int, ColumnSchema] = field(default_factory=dict)
    kind: str = ""
    values: Mapping[str, float] = field(default_factory=dict)
    files: str = "*"

    @classmethod
    def read(cls, path: Path) -> Schema:
        """Read a schema.

        Raises
        ------
        FileNotFoundError
            There is none.
        ConfigError
            It is none; the message names the file, the key and what was expected.
        """
        content = read_config_file(path, ConfigError)
        try:
            return cls.from_mapping({} if content is None else content)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None

    @classmethod
    def from_mapping(cls, content: Any) -> Schema:
        """Return the schema that a mapping describes, as YAML gives it.

        Raises
        ------
        ConfigError
            A key or value is wrong.
        """
        if not isinstance(content, Mapping):
            raise ConfigError(f"is {shorten(content)}, expected a mapping such as kind: transfer")
        known = tuple(cls.__dataclass_fields__)
        for key in content:
            if key not in known:
                raise ConfigError(f"unknown key {shorten(key)}{did_you_mean(str(key), known)}")
        text = {key: _text(content, key) for key in ("encoding", "delimiter", "decimal", "kind")}
        text["delimiter"] = _DELIMITERS.get(text["delimiter"], text["delimiter"])
        if text["delimiter"] not in ("", *_DELIMITERS.values()):
            expected = ", ".join(_DELIMITERS)
            raise ConfigError(f"delimiter is {text['delimiter']!r}, expected one of {expected}")
        if text["decimal"] not in ("", ".", ","):
            raise ConfigError(f"decimal is {text['decimal']!r}, expected '.' or ','")
        if text["encoding"]:
            _check_encoding(text["encoding"])
        if text["kind"] and text["kind"] not in kinds():
            raise ConfigError(f"unknown kind {text['kind']!r}{did_you_mean(text['kind'], kinds())}")
        line = content.get("heading_line")
        if line is not None and (not isinstance(line, int) or isinstance(line, bool) or line < 0):
            raise ConfigError(f"heading_line is {shorten(line)}, expected a number, 0 for none")
        return cls(
            **text,
            heading_line=line,
            columns={_key(key): _column(key, one) for key, one in _items(content, "columns")},
            values={str(key): _value(str(key), one) for key, one in _items(content, "values")},
            files=_text(content, "files") or "*",
        )

    @classmethod
    def beside(cls, path: Path) -> Schema | None:
        """Return the schema that lies beside a file and is for it, if there is one.

        Raises
        ------
        ConfigError
            It is there, and wrong.
        """
        try:
            schema = cls.read(path.with_name(SCHEMA_FILE))
        except FileNotFoundError:
            return None
        return schema if fnmatch.fnmatch(path.name, schema.files) else None

    def to_mapping(self) -> dict[str, Any]:
        """Return what :meth:`from_mapping` takes, without what is left open."""
        named = {delimiter: name for name, delimiter in _DELIMITERS.items()}
        content: dict[str, Any] = {
            "files": "" if self.files == "*" else self.files,
            "encoding": self.encoding,
            "delimiter": named.get(self.delimiter, ""),
            "decimal": self.decimal,
            "heading_line": self.heading_line,
            "kind": self.kind,
            "columns": {key: _plain(column) for key, column in self.columns.items()},
            "values": {key: f"{value:.12g} {si_unit(key)}" for key, value in self.values.items()},
        }
        return {key: value for key, value in content.items() if value not in ("", None, {})}

    def save(self, path: Path) -> None:
        """Write it as YAML.

        Raises
        ------
        OSError
            The file cannot be written.
        """
        text = yaml.safe_dump(self.to_mapping(), allow_unicode=True, sort_keys=False)
        with atomic_write(path) as partial:
            partial.write_text(text, encoding="utf-8")

    def heading(self, number: int, text: str) -> Heading | None:
        """Return what the schema says about a column, None where it says nothing.

        Parameters
        ----------
        number
            Of the column, from 1.
        text
            Its heading in the file.
        """
        column = self.columns.get(text, self.columns.get(number))
        if column is None:
            return None
        if column.quantity in ("", _SKIP):
            return Heading(text, None, column.unit)
        known = known_heading(text or f"column {number}", column.quantity, column.unit)
        return Heading(known.text, known.quantity, known.unit, known.scale * column.sign)

    def skips(self, number: int, text: str) -> bool:
        """Return whether a column is to be left out."""
        column = self.columns.get(text, self.columns.get(number))
        return column is not None and column.quantity == _SKIP


def _text(content: Mapping[Any, Any], key: str) -> str:
    value = content.get(key, "")
    if not isinstance(value, str):
        raise ConfigError(f"{key} is {shorten(value)}, expected text")
    return value


def _items(content: Mapping[Any, Any], key: str) -> list[tuple[Any, Any]]:
    value = content.get(key) or {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{key} is {shorten(value)}, expected a mapping")
    return list(value.items())


def _check_encoding(encoding: str) -> None:
    try:
        "".encode(encoding)
    except LookupError:
        raise ConfigError(f"unknown encoding {encoding!r}, expected e.g. utf-8 or gbk") from None


def _key(key: Any) -> str | int:
    return key if isinstance(key, int) and not isinstance(key, bool) else str(key)


def _column(key: Any, content: Any) -> ColumnSchema:
    if isinstance(content, str):
        content = {"quantity": content}
    if not isinstance(content, Mapping) or not content.keys() <= {"quantity", "unit", "sign"}:
        raise ConfigError(
            f"column {shorten(key)} is {shorten(content)}, expected quantity, unit and sign:"
            " {quantity: Id, unit: mA}"
        )
    quantity, unit = _text(content, "quantity"), _text(content, "unit")
    sign = content.get("sign", 1)
    if sign not in (1, -1) or isinstance(sign, bool):
        raise ConfigError(f"column {shorten(key)}: sign is {shorten(sign)}, expected 1 or -1")
    if quantity not in ("", _SKIP):
        try:
            known_heading(str(key), quantity, unit)
        except ValueError as error:
            raise ConfigError(str(error)) from None
    return ColumnSchema(quantity, unit, float(sign))


def _value(key: str, content: Any) -> float:
    try:
        si = si_unit(key)
    except ValueError as error:
        raise ConfigError(f"values: {error}") from None
    match = re.fullmatch(r"\s*([+-]?[\d.]+(?:[eE][+-]?\d+)?)\s*(.*?)\s*", str(content))
    scale = si_scale(match[2], si) if match else None
    try:
        number = float(match[1]) if match else None
    except ValueError:
        number = None
    if scale is None or number is None or isinstance(content, bool):
        raise ConfigError(f"values: {key} is {shorten(content)}, expected e.g. '-0.6 {si}'")
    return number * scale


def _plain(column: ColumnSchema) -> dict[str, Any] | str:
    content = {"quantity": column.quantity, "unit": column.unit}
    plain: dict[str, Any] = {key: value for key, value in content.items() if value}
    return plain | ({"sign": -1} if column.sign < 0 else {})
