"""``scan``: record raw files in the catalog."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from oectflow.errors import CatalogError
from oectflow.pipeline.cli.extract import VerifyOption
from oectflow.pipeline.cli.output import AsJson, Quiet, emit_json, progress_bar, say
from oectflow.pipeline.cli.place import CatalogOption, SamplesOption, need_catalog


def scan(
    root: Annotated[
        Path | None,
        typer.Argument(help="Folder of raw files; by default the one in the configuration."),
    ] = None,
    catalog: CatalogOption = None,
    workers: Annotated[
        int | None, typer.Option(help="Number of processes; by default as many as are useful.")
    ] = None,
    verify: VerifyOption = "identity",
    samples: SamplesOption = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Bring the catalog up to date with the raw files below a folder.

    Only new and changed files are read; no file is changed.  A file that cannot be used is named
    with the reason, and the exit status is then 1.  The catalog is made if it is missing.  A table
    of devices (--samples) adds to what the files say about their devices.  The catalog keeps the
    table for later scans.
    """
    place = need_catalog(catalog)
    if root is None and place.config is None:
        raise CatalogError(
            "no folder to scan: name one: oectflow scan FOLDER --catalog PATH_OR_URL"
        )
    with place.open(make=True) as opened, progress_bar("scan", "files", quiet=quiet) as progress:
        report = opened.scan(
            root,
            workers=workers,
            verify=verify,  # type: ignore[arg-type] # it says which words there are
            progress=progress,
        )
        described = None if samples is None else opened.set_samples(samples)
        name = opened.name
    if as_json:
        emit_json({"catalog": name, "report": report, "samples": described})
    else:
        say(report)
        if described is not None:
            say(described)
    good = report.ok and (described is None or not described.contradictions)
    raise typer.Exit(0 if good else 1)
