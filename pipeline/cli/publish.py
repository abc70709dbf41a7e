"""``publish`` and ``rerun``: results that another machine can compute again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from oectflow.pipeline.cli.extract import default_out
from oectflow.pipeline.cli.output import AsJson, Quiet, emit_json, say, tell
from oectflow.pipeline.cli.place import CatalogOption


def publish(
    results: Annotated[
        Path | None,
        typer.Argument(
            help="Folder that extract has written; by default the one in the configuration, else "
            "'features'."
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="A .zip file or a folder that does not exist yet.")
    ] = Path("publication.zip"),
    raw: Annotated[
        str | None,
        typer.Option(
            help="Raw files, a folder or a glob; by default the place they were extracted from."
        ),
    ] = None,
    with_raw: Annotated[
        bool,
        typer.Option(
            "--with-raw",
            help="Publish the raw files, too; otherwise only their names, sizes and SHA-256.",
        ),
    ] = False,
    names: Annotated[
        Literal["keep", "omit"] | None,
        typer.Option(
            help="Keep or omit the names of people, accounts and machines.  By default, the names "
            "found are shown, and you are asked."
        ),
    ] = None,
    title: Annotated[str, typer.Option(help="Title of the publication.")] = "OECT measurements",
    description: Annotated[str, typer.Option(help="A sentence or two about the publication.")] = "",
    author: Annotated[
        list[str] | None,
        typer.Option(
            help="Name of an author, followed by the ORCID.  Give it several times for several "
            "authors."
        ),
    ] = None,
    license: Annotated[  # noqa: A002 - the word of the standard
        str, typer.Option(help="License, such as CC-BY-4.0, or its web address.")
    ] = "",
    catalog: CatalogOption = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Write results as a publication.  Another machine can compute the same numbers again from it.

    It contains results and marks, tables with units (Frictionless), the report, configuration,
    versions, and a manifest (RO-Crate) with the SHA-256 of every file.  Nothing is written if
    results are broken or come from several configurations.
    """
    from oectflow.pipeline.publishing.names import NamesFound
    from oectflow.pipeline.publishing.publish import publish as write

    folder = results or default_out(catalog)
    options: dict[str, Any] = {
        "raw": raw, "with_raw": with_raw, "title": title, "description": description,
        "authors": author or (), "license": license, "progress": not quiet,
    }  # fmt: skip
    try:
        written = write(folder, out, names=names, **options)
    except NamesFound as error:
        if not sys.stdin.isatty():
            raise
        tell(error)
        chosen = typer.prompt("keep, omit or stop", default="stop", err=True)
        if chosen not in ("keep", "omit"):
            raise typer.Exit(2) from None
        written = write(folder, out, names=chosen, **options)
    if as_json:
        emit_json(written)
    else:
        say(written)


def rerun(
    publication: Annotated[Path, typer.Argument(help="Folder or .zip that publish has written.")],
    raw: Annotated[
        str | None,
        typer.Option(
            help="Raw files, a folder or a glob, if they are not in the publication.  Only files "
            "with the right SHA-256 are taken."
        ),
    ] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Compute a publication again, compare every number bit by bit, and show the differences.

    The exit status is 0 if all numbers are the same.
    """
    from oectflow.pipeline.publishing.rerun import rerun as compute

    found = compute(publication, raw=raw, progress=not quiet)
    if as_json:
        emit_json({"ok": found.ok, "comparison": found})
    else:
        say(found)
    raise typer.Exit(0 if found.ok else 1)
