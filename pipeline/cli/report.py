"""``report``: write results as one HTML file."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated

import typer

from oectflow.pipeline.cli.extract import default_out
from oectflow.pipeline.cli.output import AsJson, Quiet, emit_json, note, say
from oectflow.pipeline.cli.place import CatalogOption


def report(
    results: Annotated[
        Path | None,
        typer.Argument(
            help="Folder that extract has written; by default the one in the configuration, else "
            "'features'."
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The HTML file.")] = Path("report.html"),
    raw: Annotated[
        str | None,
        typer.Option(help="Raw files, a folder or a glob, to show transfer curves and fits, too."),
    ] = None,
    title: Annotated[str, typer.Option(help="Title of the report.")] = "OECT measurements",
    catalog: CatalogOption = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Write one HTML file to look at, print or send: runs, failures, features, pictures.

    The file needs no network and no other file.  An existing file is replaced.  Damaged results
    are named and left out; the exit status is then 1.
    """
    from oectflow.pipeline.outputs.html import report as write
    from oectflow.pipeline.outputs.results import DamagedResultWarning

    folder = results or default_out(catalog)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DamagedResultWarning)
        written = write(folder, out, raw=raw, title=title, progress=not quiet)
    damaged: dict[str, None] = {}
    for one in caught:
        if issubclass(one.category, DamagedResultWarning):
            damaged[str(one.message)] = None
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    size = written.stat().st_size
    if as_json:
        emit_json({"out": written, "bytes": size})
    else:
        say(f"{written}: {size / 1e6:.1f} MB; open it in a browser")
    for text in damaged:
        note(text)
    raise typer.Exit(1 if damaged else 0)
