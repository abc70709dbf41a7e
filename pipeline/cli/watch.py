"""``watch``: keep raw files and features up to date while instruments write."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from oectflow.pipeline.cli.extract import FeaturesOption
from oectflow.pipeline.cli.output import Quiet, messages, note
from oectflow.pipeline.cli.place import SamplesOption


def watch(
    instrument: Annotated[Path, typer.Argument(help="Folder that the instruments write to.")],
    raw: Annotated[Path, typer.Argument(help="Folder of the HDF5 files.")],
    out: Annotated[Path, typer.Argument(metavar="FEATURES", help="Folder of the results.")],
    features: FeaturesOption = "all",
    samples: SamplesOption = None,
    notify: Annotated[
        str | None,
        typer.Option(
            help="Report complete tests and failures as JSON: to an address http(s)://… by POST, "
            "or to a command on its standard input."
        ),
    ] = None,
    settle: Annotated[
        float,
        typer.Option(help="A file is complete when it has not changed for this many seconds."),
    ] = 0.5,
    quiet: Quiet = False,
) -> None:
    """Ingest and extract new data of instruments as they are written.  Ctrl-C stops it.

    While a test runs, only its new steps are computed.  After a stop, a crash or a power failure,
    run the same command again to continue.  FEATURES/_watch.log records what has happened.
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
