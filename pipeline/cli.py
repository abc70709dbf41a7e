"""The command line: ``oectflow demo``, ``ingest``, ``extract``, ``show``, ``features``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from oectflow.cluster.connect import connect
from oectflow.extractors import extractor_names, get_extractor
from oectflow.pipeline.demo import make_demo
from oectflow.pipeline.errors import ConfigError, OectflowError
from oectflow.pipeline.execution.plan import Granularity
from oectflow.pipeline.execution.report import RunReport
from oectflow.pipeline.execution.run import extract as run_extract
from oectflow.pipeline.features.config import list_bundled
from oectflow.pipeline.features.feature_set import FeatureSet
from oectflow.pipeline.inputs.experiment import Experiment
from oectflow.pipeline.inputs.ingest import ingest as run_ingest

app = typer.Typer(
    help="Features of organic electrochemical transistor measurements, on Dask.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
features_app = typer.Typer(help="Which features there are.", no_args_is_help=True)
app.add_typer(features_app, name="features")
console = Console()

Workers = Annotated[int | None, typer.Option(help="Worker processes; by default one per core.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")]


def main() -> None:
    """Run the command line; an error of ours is one message, not a traceback."""
    try:
        app()
    except OectflowError as error:
        message = f"[bold red]error:[/] {escape(str(error))}"
        Console(stderr=True).print(message, highlight=False, soft_wrap=True)
        sys.exit(2)


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where to make it.")] = Path("oectflow-demo"),
    workers: Workers = None,
) -> None:
    """Make eight simulated experiments, extract every feature, and show how to look at them.

    One of the raw files is damaged on purpose: the exit status is 0 if that one is reported and
    everything else is complete.
    """
    with console.status("simulating and ingesting eight experiments"):
        raw, damaged = make_demo(folder)
    report = _extract_on_cluster([str(raw)], "all", folder / "features", "auto", False, workers)
    expected = [str(damaged)]
    if [record.path for record in report.failed] == expected:
        console.print("The one failure is intended: its raw file was cut in half.")
        console.print("\nOpen the result in Python:\n", style="bold")
        console.print("    import oectflow as of", highlight=False)
        console.print(f'    results = of.open_results("{folder / "features"}")', highlight=False)
        return
    console.print("[bold red]unexpected:[/] the damaged file should be the one failure")
    raise typer.Exit(1)


@app.command()
def ingest(
    source: Annotated[Path, typer.Argument(help="Folder with instrument folders in it.")],
    out: Annotated[Path, typer.Argument(help="Folder of the HDF5 files.")],
    on_conflict: Annotated[
        Literal["skip", "overwrite", "rename"],
        typer.Option(help="What to do where the file exists already."),
    ] = "skip",
    workers: Workers = None,
) -> None:
    """Convert instrument folders (CSV and test_info.json) into one HDF5 file each."""
    with _bar() as bar:
        task = bar.add_task("ingest", total=None)
        report = run_ingest(
            source,
            out,
            on_conflict=on_conflict,
            workers=workers,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    console.print(str(report), highlight=False, markup=False, soft_wrap=True)
    raise typer.Exit(1 if report.failed else 0)


@app.command()
def extract(
    experiments: Annotated[list[str], typer.Argument(help="Folders, globs or HDF5 files.")],
    features: Annotated[
        str, typer.Option("--features", "-f", help="A bundled set, or a YAML or JSON file.")
    ] = "all",
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the results.")] = Path(
        "features"
    ),
    cluster: Annotated[
        str | None,
        typer.Option(
            help="local, slurm, pbs, sge, lsf, ssh, kubernetes, the address of a Dask scheduler, "
            "or a YAML file; by default what the Dask configuration says, else local."
        ),
    ] = None,
    granularity: Annotated[
        str, typer.Option(help="auto, step, experiment, or a number of steps per task.")
    ] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Compute everything anew.")] = False,
    workers: Workers = None,
    quiet: Quiet = False,
) -> None:
    """Compute features and write one Parquet file per experiment.

    The exit status is 0 if nothing failed, 1 if something did (everything else is written), 2 if
    the command itself cannot be carried out.
    """
    report = _extract_on_cluster(
        experiments, features, out, granularity, force, workers, cluster, quiet
    )
    raise typer.Exit(0 if report.ok else 1)


@app.command()
def show(path: Annotated[Path, typer.Argument(help="A raw HDF5 file.")]) -> None:
    """Show what a raw file holds."""
    experiment = Experiment(path)
    console.print(repr(experiment), highlight=False, markup=False)
    table = Table("attribute", "value")
    for name, value in sorted(experiment.attributes.items()):
        table.add_row(name, str(value))
    console.print(table)


@features_app.command("list")
def features_list() -> None:
    """List the bundled feature sets and all extractors."""
    table = Table("feature set", "features")
    for name in list_bundled():
        table.add_row(name, ", ".join(FeatureSet.load(name).features))
    console.print(table)
    table = Table("extractor", "unit", "what it is")
    for name in extractor_names():
        extractor = get_extractor(name)
        table.add_row(name, extractor.unit or "1", extractor.description)
    console.print(table)


@features_app.command("show")
def features_show(
    features: Annotated[str, typer.Argument(help="A bundled set, or a YAML or JSON file.")],
) -> None:
    """Check a feature set and show what it computes."""
    console.print(str(FeatureSet.load(features)), highlight=False, markup=False)


def _extract_on_cluster(
    experiments: list[str],
    features: str,
    out: Path,
    granularity: str,
    force: bool,
    workers: int | None,
    cluster: str | None = None,
    quiet: bool = False,
) -> RunReport:
    size = _granularity(granularity)
    # A mistake in the features should not cost the start of a cluster.
    feature_set = FeatureSet.load(features)
    with console.status("starting workers"):
        client = connect(cluster, n_workers=workers)
    with client:
        console.print(f"dashboard: {client.dashboard_link}", highlight=False)
        report = run_extract(
            experiments,
            feature_set,
            out,
            client=client,
            granularity=size,
            force=force,
            progress=not quiet,
        )
    console.print(str(report), highlight=False, markup=False, soft_wrap=True)
    return report


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("folders"),
        TimeElapsedColumn(),
        console=console,
    )


def _granularity(text: str) -> Granularity:
    if text.isdigit():
        return int(text)
    if text in ("auto", "step", "experiment"):
        return text  # type: ignore[return-value] # narrowed by the line above
    raise ConfigError(
        f"--granularity {text}: expected auto, step, experiment, or a number of steps"
    )
