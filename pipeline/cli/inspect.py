"""``inspect``: show what would be read from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from oectflow.pipeline.cli.output import AsJson, emit_json, note, say, show, table


def inspect(
    file: Annotated[Path, typer.Argument(help="A file, or a folder that is one test.")],
    save: Annotated[
        Path | None,
        typer.Option(help="Save the layout that was found in delimited text as a schema (YAML)."),
    ] = None,
    schema: Annotated[
        Path | None, typer.Option(help="Read the file as delimited text, with this schema.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what would be read from a file: its columns, its steps, and what would be left out.

    Nothing is written, except the schema with --save.  You can correct the schema and give it with
    --schema, or put it beside the files as schema.yaml.
    """
    from oectflow.pipeline.inputs.inspection import inspect as look

    found = look(file, schema)
    if as_json:
        emit_json(found)
    else:
        for title, headings, rows in found.tables():
            if title:
                say(f"\n{title}", style="bold")
            grid = table(headings, rows)
            grid.show_header = any(headings)
            show(grid)
    if save is not None:
        note(f"schema written to {found.save_schema(save)}")
    raise typer.Exit(1 if found.problem else 0)
