"""``catalog``: look after the catalog."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from oectflow.errors import CatalogError
from oectflow.pipeline.cli.output import AsJson, emit_json, messages, say
from oectflow.pipeline.cli.place import CatalogOption, need_catalog


def sync(
    folder: Annotated[
        Path | None,
        typer.Argument(help="Folder of results; by default the one in the configuration."),
    ] = None,
    catalog: CatalogOption = None,
    as_json: AsJson = False,
) -> None:
    """Record the results in a folder: which are new, which have changed and which are gone.

    The exit status is 1 if some results cannot be read.
    """
    place = need_catalog(catalog)
    if folder is None and place.config is None:
        raise CatalogError("no folder of results: name one: oectflow catalog sync FOLDER")
    with messages.status("reading results"), place.open(make=True) as opened:
        report = opened.sync_features(folder)
    _print(report, as_json)
    raise typer.Exit(1 if report.problems else 0)


def validate(
    content: Annotated[
        bool, typer.Option("--content", help="Read all raw files and compare every byte.")
    ] = False,
    catalog: CatalogOption = None,
    as_json: AsJson = False,
) -> None:
    """Check the catalog against itself, the raw files and the results.

    The exit status is 1 if there are problems.
    """
    with messages.status("comparing"), need_catalog(catalog).open() as opened:
        report = opened.validate(content=content)
    _print(report, as_json)
    raise typer.Exit(0 if report.ok else 1)


def stats(catalog: CatalogOption = None, as_json: AsJson = False) -> None:
    """Show the content of the catalog in numbers."""
    with need_catalog(catalog).open() as opened:
        _print(opened.stats(), as_json)


def backup(
    path: Annotated[Path, typer.Argument(help="A file that does not exist yet.")],
    catalog: CatalogOption = None,
    as_json: AsJson = False,
) -> None:
    """Copy the catalog, as it is now, into one SQLite file.  The copy is a catalog, too."""
    with messages.status("copying"), need_catalog(catalog).open() as opened:
        written = opened.backup(path)
    _print(f"written: {written}", as_json, {"path": written})


def vacuum(catalog: CatalogOption = None, as_json: AsJson = False) -> None:
    """Make the database smaller: give unused space back."""
    with messages.status("rewriting"), need_catalog(catalog).open() as opened:
        gained = opened.vacuum()
    _print(f"gained: {gained / 1e6:,.1f} MB", as_json, {"bytes_gained": gained})


def import_catalog(
    path: Annotated[Path, typer.Argument(help="The catalog.db of the earlier software.")],
    raw_root: Annotated[
        Path | None,
        typer.Option(
            help="Folder that the paths in it are relative to; by default 'raw' beside it."
        ),
    ] = None,
    catalog: CatalogOption = None,
    as_json: AsJson = False,
) -> None:
    """Import the catalog of the earlier software.  The old catalog is not changed.

    The exit status is 1 if some rows could not be imported.
    """
    with messages.status("importing"), need_catalog(catalog).open(make=True) as opened:
        report = opened.import_legacy(path, raw_root)
    _print(report, as_json)
    raise typer.Exit(1 if report.problems else 0)


def remove_missing(catalog: CatalogOption = None, as_json: AsJson = False) -> None:
    """Remove the experiments whose raw files were missing at the last scan."""
    with need_catalog(catalog).open() as opened:
        n = opened.remove_missing()
    _print(f"removed: {n:,} experiments", as_json, {"removed": n})


def _print(report: Any, as_json: bool, document: Any = None) -> None:
    if as_json:
        emit_json(report if document is None else document)
    else:
        say(report)
