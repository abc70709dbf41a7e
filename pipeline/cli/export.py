"""``export``: results as a file of another program."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from oectflow.pipeline.cli.extract import default_out
from oectflow.pipeline.cli.output import AsJson, emit_json, say
from oectflow.pipeline.cli.place import CatalogOption


def export(
    results: Annotated[
        Path | None,
        typer.Argument(
            help="Folder that extract has written; by default the one in the configuration, else "
            "'features'."
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="File to write: .xlsx, .csv, .mat, .nc or .zarr.")
    ] = Path("features.xlsx"),
    feature: Annotated[
        list[str] | None,
        typer.Option(help="Feature to export; give it several times for several features."),
    ] = None,
    level: Annotated[
        Literal["experiments", "steps", "cycles"], typer.Option(help="Rows of a CSV file.")
    ] = "steps",
    decimal_comma: Annotated[
        bool,
        typer.Option(
            "--decimal-comma",
            help="Write a CSV file with 0,5 and semicolons, for Excel in Europe.",
        ),
    ] = False,
    marks: Annotated[
        Literal["exclude", "flag", "ignore"],
        typer.Option(help="Leave out values marked as bad, only flag them, or ignore marks."),
    ] = "exclude",
    catalog: CatalogOption = None,
    as_json: AsJson = False,
) -> None:
    """Write results as one file for Excel, Origin, MATLAB or other programs.

    The ending of the file's name decides the format.  An existing file is replaced.
    """
    from oectflow.pipeline.outputs.export import export as write

    decimal: Any = "," if decimal_comma else "."
    written = write(
        results or default_out(catalog),
        out,
        features=feature,
        level=level,
        decimal=decimal,
        marks=marks,
    )
    # A Zarr is a folder.
    parts = [written, *written.rglob("*")]
    size = sum(part.stat().st_size for part in parts if part.is_file())
    if as_json:
        emit_json({"out": written, "bytes": size})
    else:
        say(f"{written}: {size / 1e6:.1f} MB")
