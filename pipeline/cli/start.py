"""``init``, ``demo`` and ``completion``."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from oectflow.errors import StorageError
from oectflow.pipeline.cli.extract import Workers
from oectflow.pipeline.cli.output import messages, note, say, tell
from oectflow.pipeline.cli.place import CONFIG_NAME

if TYPE_CHECKING:
    from distributed import Client

    from oectflow.pipeline.execution.report import RunReport


def init(
    folder: Annotated[
        Path, typer.Argument(help="Folder of the project; made if missing.")
    ] = Path(),
    raw: Annotated[str, typer.Option(help="Folder of the raw HDF5 files.")] = "data/raw",
    features: Annotated[str, typer.Option(help="Folder of the results.")] = "data/features_v2",
    database: Annotated[
        str, typer.Option(help="The catalog: a file, or a PostgreSQL URL.")
    ] = "data/catalog.db",
) -> None:
    """Begin a project: write a catalog_config.yaml and make its folders.

    Relative paths start at the project's folder.  An existing configuration is never overwritten.
    """
    from oectflow.pipeline.inputs.catalog import CatalogConfig

    config = CatalogConfig.model_validate(
        {"roots": {"raw_data": raw, "features_v2": features}, "database": {"path": database}}
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        written = config.write(folder / CONFIG_NAME)
        for place in (raw, features):
            (folder / Path(place).expanduser()).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{error.filename}: cannot be made ({error.strerror})") from error
    say(f"made {written}, {raw} and {features}\n\nnext:")
    if folder.absolute() != Path.cwd():
        say(f"    cd {folder}")
    for command, about in (
        ("oectflow ingest INSTRUMENT_FOLDER", f"CSV and test_info.json become HDF5 in {raw}"),
        ("oectflow scan", f"take what is in {raw} into the catalog"),
        ("oectflow search --status completed", "look for experiments"),
        ("oectflow extract -f all", f"compute features of all into {features}"),
        ("oectflow status", "see what is done and what is missing"),
    ):
        say(f"    {command:<40}# {about}")


def demo(
    folder: Annotated[Path, typer.Argument(help="Folder for the demo.")] = Path("oectflow-demo"),
    workers: Workers = None,
) -> None:
    """Make eight simulated experiments, extract every feature, and write a report to look at.

    One of the raw files is damaged on purpose.  The exit status is 0 if this file is reported and
    everything else is complete.
    """
    from oectflow.cluster.connect import connect
    from oectflow.pipeline.demo import make_demo
    from oectflow.pipeline.execution.driving.run import extract

    with messages.status("simulating and ingesting eight experiments"):
        raw, damaged = make_demo(folder)
    note("starting workers")
    client = connect(n_workers=workers)
    with client:
        note(f"dashboard: {client.dashboard_link}")
        report = extract(raw, "all", folder / "features", client=client)
        tell(report)
        if [record.path for record in report.failed] == [str(damaged)]:
            say("The one failure is intended: its raw file was cut in half.")
            _what_next(folder, report, client)
            return
    note("unexpected: the damaged file should be the one failure")
    raise typer.Exit(1)


def _what_next(folder: Path, run: RunReport, client: Client) -> None:
    """Write a report of the demo; tell users how to open it and how to use their own files."""
    page = None
    if importlib.util.find_spec("matplotlib") is not None:
        from oectflow.pipeline.outputs.html import report

        page = report(
            folder / "features", folder / "report.html", raw=folder / "raw", run=run, title="Demo",
            client=client,
        )  # fmt: skip
    say("\nlook at it:")
    if page is not None:
        say(f"    in a browser: {page.absolute().as_uri()}")
    else:
        say("    pip install 'oectflow[report]', then:")
        say(f"    oectflow report {folder / 'features'} --raw {folder / 'raw'}")
    say("    in Python:")
    say("        import oectflow as of")
    say(f'        results = of.open_results("{folder / "features"}")')
    say("\nyour own files:")
    for command, about in (
        ("oectflow import my.csv --plot", "one file: features and a picture"),
        ("oectflow ingest INSTRUMENT_FOLDER raw", "many files: raw HDF5 of all"),
        ("oectflow extract raw -o features", "their features"),
        ("oectflow report features --raw raw", "a report"),
    ):
        say(f"    {command:<38}# {about}")


def completion(
    shell: Annotated[
        Literal["bash", "zsh", "fish", "powershell"], typer.Argument(help="Your shell.")
    ] = "bash",
) -> None:
    """Print the script that completes commands and options with the TAB key.

    In bash: oectflow completion bash >> ~/.bashrc.  'oectflow --install-completion' installs it
    for the shell that you are using.
    """
    # Not exported by typer, but what its own --show-completion calls.
    from typer._completion_shared import get_completion_script

    variable = "_OECTFLOW_COMPLETE"
    say(get_completion_script(prog_name="oectflow", complete_var=variable, shell=shell))
