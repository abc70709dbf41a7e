"""All commands in their order, and what happens to their errors.

A command is a plain function in the module of its group.  Modules that take long to import are
imported inside the function, so that ``oectflow --help`` answers at once.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Annotated, Any

import rich
import typer
from rich.markup import escape

import oectflow
from oectflow.errors import OectflowError
from oectflow.pipeline.cli import (
    catalog,
    compare,
    desk,
    export,
    extract,
    features,
    importing,
    ingest,
    marks,
    publish,
    repack,
    report,
    scan,
    search,
    show,
    start,
    status,
    watch,
)
from oectflow.pipeline.cli import inspect as inspecting
from oectflow.pipeline.cli.output import folded, messages, note, say

EXIT_STATUS = (
    "Exit status: 0 all is well; 1 something failed, the rest is written; "
    "2 the command or a configuration is wrong, or the command cannot be carried out."
)

INTERRUPTED = (
    "stopped: the files that were written are complete, and the same command goes on with the rest"
)

#: The commands by heading of the help.
COMMANDS: dict[str, tuple[Callable[..., Any], ...]] = {
    "Begin": (start.demo, importing.import_file, start.init, start.completion),
    "Raw files": (
        inspecting.inspect,
        ingest.ingest,
        repack.repack,
        scan.scan,
        search.search,
        show.show,
    ),
    "Features": (
        extract.extract,
        watch.watch,
        status.status,
        desk.app,
        report.report,
        compare.compare,
        export.export,
    ),
    "Publish": (publish.publish, publish.rerun),
}
GROUPS: dict[str, tuple[str, dict[str, Callable[..., Any]]]] = {
    "features": (
        "List and show features, and check a feature file.",
        {
            "list": features.list_features,
            "show": features.show_features,
            "validate": features.validate_features,
        },
    ),
    "marks": (
        "Mark results as bad or to be checked, undo marks, and list them.",
        {
            "add": marks.add,
            "list": marks.list_marks,
            "undo": marks.undo,
            "window": marks.window,
            "windows": marks.list_windows,
        },
    ),
    "catalog": (
        "Look after the catalog.",
        {
            "sync": catalog.sync,
            "validate": catalog.validate,
            "stats": catalog.stats,
            "backup": catalog.backup,
            "vacuum": catalog.vacuum,
            "import": catalog.import_catalog,
            "remove-missing": catalog.remove_missing,
        },
    ),
}


def _print_version(wanted: bool) -> None:
    if wanted:
        say(f"oectflow {oectflow.__version__}")
        raise typer.Exit


def build_app() -> typer.Typer:
    """Return the application with all its commands."""
    app = typer.Typer(
        epilog=EXIT_STATUS,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["--help", "-h"]},
    )
    app.callback()(options)
    for panel, functions in COMMANDS.items():
        for function in functions:
            about = _paragraphs(function)
            name = function.__name__
            command = app.command(name, help=about, rich_help_panel=panel, epilog=EXIT_STATUS)
            command(_interruptible(function))
    for group, (about, members) in GROUPS.items():
        sub = typer.Typer(help=about, no_args_is_help=True, epilog=EXIT_STATUS)
        for name, function in members.items():
            command = sub.command(name, help=_paragraphs(function), epilog=EXIT_STATUS)
            command(_interruptible(function))
        app.add_typer(sub, name=group, rich_help_panel="Groups")
    return app


def _interruptible(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a command that answers Ctrl-C with one line, not "Aborted!" or a traceback."""

    @functools.wraps(function)
    def command(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except KeyboardInterrupt:
            note(INTERRUPTED)
            raise typer.Exit(130) from None

    return command


def _paragraphs(function: Callable[..., Any]) -> str:
    """Return a docstring with one line per paragraph; the help folds the lines to the terminal."""
    paragraphs = (inspect.getdoc(function) or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Features of organic electrochemical transistor measurements, on Dask."""


def main() -> None:
    """Run the command line; an error of ours is one message, not a traceback."""
    # Results go to stdout; bars, wherever they are drawn, and messages go to stderr.
    rich.reconfigure(stderr=True)
    try:
        build_app()(prog_name="oectflow")
    except OectflowError as error:
        said = f"error: {error}"
        said = folded(said, messages.width) if messages.is_terminal else said
        text = f"[bold red]error:[/]{escape(said.removeprefix('error:'))}"
        messages.print(text, highlight=False, soft_wrap=True)
        sys.exit(2)
