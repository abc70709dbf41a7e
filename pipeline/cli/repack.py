"""``repack``: rewrite raw files so that they read many times faster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from oectflow.pipeline.cli.output import AsJson, Quiet, emit_json, progress_bar, say


def repack(
    source: Annotated[Path, typer.Argument(help="A raw file, or a folder of them.")],
    target: Annotated[Path, typer.Argument(help="A different folder, for the new files.")],
    on_conflict: Annotated[
        Literal["skip", "overwrite"],
        typer.Option(help="What to do if the new file exists already."),
    ] = "skip",
    workers: Annotated[
        int | None, typer.Option(help="Number of processes; by default one per core.")
    ] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Rewrite raw files in chunks of whole steps and with a codec that is many times faster.

    Each new file is compared with the old one bit by bit before it appears.  The old file is never
    changed.  Other software that reads the new files needs the Python package hdf5plugin or its
    filters.
    """
    from oectflow.pipeline.inputs.repack import repack as run_repack

    with progress_bar("repack", "files", quiet=quiet) as progress:
        report = run_repack(
            source, target, on_conflict=on_conflict, workers=workers, progress=progress
        )
    if as_json:
        emit_json(report)
    else:
        say(report)
    raise typer.Exit(1 if report.failed else 0)
