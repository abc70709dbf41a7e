"""``ingest``: convert files of instruments into raw files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from oectflow.errors import CatalogError
from oectflow.pipeline.cli.output import AsJson, Quiet, emit_json, progress_bar, say
from oectflow.pipeline.cli.place import CatalogOption, SamplesOption, find_catalog


def ingest(
    source: Annotated[Path, typer.Argument(help="Folder with measurements in it, or one file.")],
    out: Annotated[
        Path | None,
        typer.Argument(help="Folder of the HDF5 files; by default the one in the configuration."),
    ] = None,
    on_conflict: Annotated[
        Literal["skip", "update", "overwrite", "rename"],
        typer.Option(help="What to do if the HDF5 file exists already."),
    ] = "skip",
    workers: Annotated[
        int | None, typer.Option(help="Number of processes; by default as many as are useful.")
    ] = None,
    samples: SamplesOption = None,
    catalog: CatalogOption = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Convert files of instruments into HDF5 files, one per experiment.

    A folder with a test_info.json is a test of the laboratory's own instrument.  All other files
    are offered to the readers.  Files that cannot be read or converted are listed with the reason;
    the rest is converted.
    """
    from oectflow.pipeline.inputs.ingest import ingest as run_ingest

    if out is None:
        place = find_catalog(catalog)
        if place is None or place.config is None:
            raise CatalogError("no folder for the HDF5 files: name one: oectflow ingest SOURCE OUT")
        out = Path(place.config.roots.raw_data)
    with progress_bar("ingest", "sources", quiet=quiet) as progress:
        report = run_ingest(
            source,
            out,
            on_conflict=on_conflict,
            workers=workers,
            progress=progress,
            samples=samples,
        )
    if as_json:
        emit_json(report)
    else:
        say(report)
    raise typer.Exit(1 if report.failed or not report.records else 0)
