"""``inspect``: what would be read from a file, before it is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from oectflow.pipeline.cli.output import AsJson, emit_json, note, say, show, table


def inspect(
    file: Annotated[Path, typer.Argument(help="A file, or a folder that is one test.")],
    save: Annotated[
        Path | None,
        typer.Option(help="Write what was found out about delimited text as a schema (YAML)."),
    ] = None,
    schema: Annotated[
        Path | None, typer.Option(help="Read it as delimited text, as this schema says.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what would be read from a file: its columns, steps, and what would be left out.

    Nothing is written, but the schema with --save: correct it, and give it with --schema, or leave
    it beside the files as schema.yaml.
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
