"""``watch``: raw files and features follow what instruments write."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from oectflow.pipeline.cli.extract import FeaturesOption
from oectflow.pipeline.cli.output import Quiet, messages, note
from oectflow.pipeline.cli.place import SamplesOption


def watch(
    instrument: Annotated[Path, typer.Argument(help="Folder in which instruments write.")],
    raw: Annotated[Path, typer.Argument(help="Folder of the HDF5 files.")],
    out: Annotated[Path, typer.Argument(metavar="FEATURES", help="Folder of the results.")],
    features: FeaturesOption = "all",
    samples: SamplesOption = None,
    notify: Annotated[
        str | None,
        typer.Option(
            help="Who is told of complete tests and of failures: an address http(s)://… that gets "
            "JSON by POST, or a command that gets it on its standard input."
        ),
    ] = None,
    settle: Annotated[
        float, typer.Option(help="Seconds for which a file has not changed when it is complete.")
    ] = 0.5,
    quiet: Quiet = False,
) -> None:
    """Ingest and extract what instruments write, as it comes, until stopped with Ctrl-C.

    Of a test that runs, only the steps that are new are computed.  The same command goes on where
    it was stopped, killed, or the power failed.  FEATURES/_watch.log says what has happened.
    """
    from oectflow.pipeline.watching.watch import watch as run_watch

    # A service is ended by a signal that is not Ctrl-C.
    signal.signal(signal.SIGTERM, _interrupt)
    note(f"{instrument} is watched; what happens stands in {out / '_watch.log'}; Ctrl-C stops")
    options: dict[str, Any] = {"samples": samples, "notify": notify, "settle": settle}
    if quiet or not messages.is_terminal:
        run_watch(instrument, raw, out, features, **options)
        return
    with messages.status("looking at what is there") as line:
        run_watch(
            instrument, raw, out, features, **options,
            on_turn=lambda _, text: line.update(_short(text)),
        )  # fmt: skip


def _short(text: str) -> str:
    from rich.markup import escape

    room = max(messages.width - 4, 20)
    return escape(text if len(text) <= room else f"{text[: room - 1]}…")


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
