"""Delimited text of any instrument: ``.csv``, ``.txt``, ``.tsv``, ``.dat``."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from oectflow.errors import ConfigError, IngestError
from oectflow.measurement import Measurement
from oectflow.pipeline.inputs.readers.delimited import read_delimited
from oectflow.pipeline.inputs.readers.headings import Heading, read_heading
from oectflow.pipeline.inputs.readers.layout import Layout, find_layout
from oectflow.pipeline.inputs.readers.reader import Reading, Recognition
from oectflow.pipeline.inputs.readers.schema import SCHEMA_FILE, ColumnSchema, Schema
from oectflow.pipeline.inputs.readers.tables import Table, steps_from_table

_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", " ": "blanks"}


class TextReader:
    """Reads one file: an experiment whose steps are its curves.

    Parameters
    ----------
    schema
        How to read every file; else a ``schema.yaml`` beside a file says it, or it is found out.
    """

    name = "text"
    title = "delimited text (.csv, .txt, .tsv, .dat)"

    def __init__(self, schema: Schema | None = None) -> None:
        self.schema = schema

    def recognises(self, path: Path) -> Recognition:
        """Look for a table of numbers, and for headings that are known."""
        if path.name == SCHEMA_FILE:
            return Recognition(0.0, "it says how the files beside it are read")
        try:
            schema = self._schema_for(path)
            layout = find_layout(path, schema)
        except IngestError as error:
            return Recognition(0.0, str(error).removeprefix(f"{path.name}: "))
        columns = _columns(layout, schema)
        known = [heading for heading in columns if heading.quantity]
        if not known:
            seen = ", ".join(repr(heading.text) for heading in columns[:8])
            return Recognition(
                0.0, f"a table, but none of its headings is known: {seen}; a schema can say them"
            )
        lines = f"headings in line {layout.heading_line}" if layout.heading_line else "no headings"
        found = f"a table with {_NAMES[layout.delimiter]} between, {lines}: " + ", ".join(
            f"{heading.text} ({heading.quantity})" for heading in known[:8]
        )
        if schema is not None and self.schema is None:
            found += f", read as {SCHEMA_FILE} says"
        return Recognition(0.5 if len(known) > 1 else 0.1, found)

    def read(self, path: Path) -> Reading:
        """Read all curves of a file.

        Raises
        ------
        IngestError
            It holds no measurement that can be read, or can be read in two ways.
        """
        schema = self._schema_for(path)
        layout = find_layout(path, schema)
        table = read_delimited(path, schema, layout)
        steps, warnings = steps_from_table(
            table,
            kind=schema.kind or None if schema else None,
            info={"data_file": path.name},
            values=schema.values if schema else {},
        )
        documents = {}
        if table.metadata:
            documents["metadata"] = json.dumps(table.metadata, ensure_ascii=False)
        found = Measurement({}, steps, documents=documents, warnings=tuple(warnings))
        return Reading([found], [path])

    def tables(self, path: Path) -> list[Table]:
        """Return the one table of a file."""
        return [read_delimited(path, self._schema_for(path))]

    def _schema_for(self, path: Path) -> Schema | None:
        if self.schema is not None:
            return self.schema
        try:
            return Schema.beside(path)
        except ConfigError as error:
            raise IngestError(str(error)) from None


READER = TextReader()


def guess_schema(path: Path, schema: Schema | None = None) -> Schema:
    """Return what is found out about a text file as a schema, to be corrected and used.

    Parameters
    ----------
    path
        The file; that its columns are known is not needed.
    schema
        How to read it; else a ``schema.yaml`` beside it says it, or it is found out.

    Raises
    ------
    IngestError
        It holds no table.
    """
    schema = TextReader(schema)._schema_for(path)
    try:
        layout = find_layout(path, schema)
    except IngestError:
        # Perhaps for want of headings: then the columns go by their numbers.
        layout = find_layout(path, replace(schema or Schema(), heading_line=0))
    columns: dict[str | int, ColumnSchema] = {}
    for number, heading in enumerate(_columns(layout, schema), 1):
        once = heading.text and layout.headings.count(heading.text) == 1
        # A heading that says more than a quantity says it again when it is read.
        if not heading.values:
            sign = -1.0 if heading.scale < 0 else 1.0
            key = heading.text if once else number
            columns[key] = ColumnSchema(heading.quantity or "", heading.unit, sign)
    return Schema(
        encoding=layout.encoding,
        delimiter=layout.delimiter,
        decimal="" if layout.split_decimals else layout.decimal,
        heading_line=layout.heading_line,
        columns=columns,
        kind=schema.kind if schema else "",
        values=schema.values if schema else {},
    )


def _columns(layout: Layout, schema: Schema | None) -> list[Heading]:
    units = layout.units or ("",) * len(layout.headings)
    columns = []
    for number, (text, unit) in enumerate(zip(layout.headings, units, strict=True), 1):
        known = schema.heading(number, text) if schema is not None else None
        columns.append(known or read_heading(text, unit))
    return columns
