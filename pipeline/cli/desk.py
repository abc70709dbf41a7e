"""``app``: look through results in a browser, mark them, share pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from oectflow.pipeline.cli.extract import default_out
from oectflow.pipeline.cli.output import Quiet, note, progress_bar, say
from oectflow.pipeline.cli.place import CatalogOption


def app(
    results: Annotated[
        Path | None,
        typer.Argument(
            help="Folder that extract has written; by default the one in the configuration, else "
            "'features'."
        ),
    ] = None,
    raw: Annotated[
        str | None,
        typer.Option(
            help="Raw files, a folder or a glob; by default the files that the results name."
        ),
    ] = None,
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 0,
    prefix: Annotated[
        str, typer.Option(help="Path under which a proxy shows the page, such as /lab.")
    ] = "",
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            help="Behind a proxy: the host, with its port, that browsers see.  May be repeated.",
            metavar="HOST[:PORT]",
        ),
    ] = None,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
    catalog: CatalogOption = None,
    quiet: Quiet = False,
) -> None:
    """Look through results in a browser: worst fits first, trends, marks, windows by hand.

    The page is served on this machine only (127.0.0.1), to anyone who has the address with its
    token.  The app writes only marks, windows, and an index beside the results (_index.arrow).  The
    index makes the next start quick.
    """
    from oectflow.pipeline.app.server import AppServer

    folder = results or default_out(catalog)
    with progress_bar("reading results", "files", quiet=quiet) as update:
        server = AppServer(
            folder,
            raw,
            port=port,
            prefix=prefix,
            allow_origin=allow_origin or (),
            progress=update,
        )

    def ready() -> None:
        say(f"{server.url}\nCtrl-C ends it")
        if browser:
            import webbrowser

            webbrowser.open(server.url)

    try:
        server.run(ready)
    except KeyboardInterrupt:
        note("ended")
