"""``extract``: compute features, and tell the catalog."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oectflow.errors import CatalogError, ConfigError
from oectflow.pipeline.cli.filters import Filters, takes_filters
from oectflow.pipeline.cli.output import AsJson, Quiet, emit_json, messages, note, say, tell
from oectflow.pipeline.cli.panels import in_panels
from oectflow.pipeline.cli.place import (
    CatalogOption,
    SamplesOption,
    find_catalog,
    need_catalog,
)

if TYPE_CHECKING:
    from distributed import Client

    from oectflow.pipeline.execution.planning.batches import Granularity
    from oectflow.pipeline.execution.planning.run_plan import RunPlan
    from oectflow.pipeline.execution.report import RunReport
    from oectflow.pipeline.inputs.catalog import Catalog
    from oectflow.pipeline.inputs.samples import Samples

Workers = Annotated[int | None, typer.Option(help="Worker processes; by default one per core.")]
FeaturesOption = Annotated[
    str, typer.Option("--features", "-f", help="A bundled set, or a YAML or JSON file.")
]
VerifyOption = Annotated[
    str,
    typer.Option(
        help="identity: a file with the same size and time is taken as unchanged; content: all "
        "files are read and compared."
    ),
]
AllowExternal = Annotated[
    bool,
    typer.Option(
        "--allow-external",
        help="Accept raw files that keep their data in other files.  They can point to any file "
        "that you can read.",
    ),
]
PartitionBy = Annotated[
    str | None,
    typer.Option(
        help="chip_id or device_id: make one folder for each.  Other software reads them as one "
        "dataset."
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        help="Folder of the results; by default the one in the configuration, else 'features'.",
    ),
]


@in_panels(
    {
        "What is computed": ("features", "samples", "force", "verify", "allow_external", "dry"),
        "Where results go": ("out", "partition_by", "catalog"),
        "Where it runs": ("cluster", "workers", "granularity"),
    }
)
@takes_filters
def extract(
    filters: Filters,
    experiments: Annotated[
        list[str] | None,
        typer.Argument(
            help="Folders, globs or HDF5 files.  By default, the experiments of the catalog that "
            "match the filters; without filters, all of them."
        ),
    ] = None,
    features: FeaturesOption = "all",
    out: Out = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            help="local, slurm, pbs, sge, lsf, ssh, kubernetes, the address of a Dask scheduler, "
            "or a YAML file; by default the one in the Dask configuration, else local."
        ),
    ] = None,
    workers: Workers = None,
    granularity: Annotated[
        str, typer.Option(help="auto, step, experiment, or a number of steps per task.")
    ] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Compute everything anew.")] = False,
    verify: VerifyOption = "identity",
    allow_external: AllowExternal = False,
    partition_by: PartitionBy = None,
    samples: SamplesOption = None,
    dry: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be computed, and stop.")
    ] = False,
    price_per_core_hour: Annotated[
        float | None,
        typer.Option(min=0.0, help="Show the cost of the run, in total and per TB."),
    ] = None,
    catalog: CatalogOption = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Compute features and write one Parquet file per experiment.

    Results that exist already, from the same raw file and definition, are not computed again.  If
    you use a catalog, the new features are recorded in it.
    """
    from oectflow.pipeline.features.feature_list import FeatureList
    from oectflow.pipeline.inputs.find import find_experiments
    from oectflow.pipeline.inputs.samples import read_samples

    size = _granularity(granularity)
    table = None if samples is None else read_samples(samples)
    # A mistake in the features should not cost the start of a cluster.
    feature_set = FeatureList.load(features)
    if experiments and filters.wanted():
        raise ConfigError("give either files and folders or filters of the catalog, not both")
    place = find_catalog(catalog)
    folder = out or default_out(catalog)
    paths = find_experiments(experiments or from_catalog(filters, catalog))
    if dry:
        plan = _planned(
            paths, feature_set, folder,
            granularity=size, force=force, workers=workers, samples=table,
            allow_external=allow_external,
        )  # fmt: skip
        if as_json:
            emit_json(plan)
        else:
            say(plan)
        raise typer.Exit(1 if plan.unusable else 0)
    # Now, since a catalog that cannot be opened should not cost a run.
    opened = place.open(make=True) if place else None
    try:
        report = run(
            paths,
            feature_set,
            folder,
            cluster=cluster,
            workers=workers,
            granularity=size,
            force=force,
            verify=verify,
            allow_external=allow_external,
            partition_by=partition_by,
            quiet=quiet,
            samples=table,
        )
        recorded, reason = _record(opened, folder)
    finally:
        if opened is not None:
            opened.close()
    if as_json:
        emit_json({"report": report, "recorded": recorded})
    else:
        tell(report)
        if price_per_core_hour is not None:
            say(report.cost(price_per_core_hour))
        if recorded is not None and opened is not None:
            note(f"recorded in {opened.name}: {recorded:,} files")
    if reason:
        note(reason)
    # A result that was damaged on the disk is replaced, but should not go unnoticed.
    raise typer.Exit(0 if report.ok and not reason and not report.plan.damaged else 1)


def run(
    experiments: Sequence[Path],
    features: Any,
    out: Path,
    *,
    cluster: str | None = None,
    workers: int | None = None,
    granularity: Granularity = "auto",
    force: bool = False,
    verify: str = "identity",
    allow_external: bool = False,
    partition_by: str | None = None,
    quiet: bool = False,
    samples: Samples | None = None,
) -> RunReport:
    """Extract features; start a cluster only if there is enough work for it."""
    from oectflow.cluster.connect import connect
    from oectflow.pipeline.execution.driving.run import extract as run_extract
    from oectflow.pipeline.execution.driving.run import extract_lazily

    options: dict[str, Any] = {
        "granularity": granularity, "force": force, "progress": not quiet, "samples": samples,
        "verify": verify, "allow_external": allow_external, "partition_by": partition_by,
    }  # fmt: skip

    with ExitStack() as started:

        def start() -> Client:
            with messages.status("starting workers"):
                client = started.enter_context(connect(cluster, n_workers=workers))
            note(f"dashboard: {client.dashboard_link}")
            return client

        if "://" in (cluster or ""):
            # It runs already; a wrong address should be known at once.
            return run_extract(experiments, features, out, client=start(), **options)
        return extract_lazily(
            experiments, features, out, connect=start, n_workers=workers, **options
        )


def _planned(
    paths: Sequence[Path], features: Any, out: Path, *, workers: int | None, **options: Any
) -> RunPlan:
    from oectflow.cluster.local import default_workers
    from oectflow.pipeline.execution.driving.run import plan

    return plan(paths, features, out, n_workers=workers or default_workers(), **options)


def default_out(catalog: str | None) -> Path:
    """Return the folder of the results if none is given."""
    place = find_catalog(catalog)
    if place is None or place.config is None:
        return Path("features")
    return Path(place.config.roots.features_v2)


def from_catalog(filters: Filters, catalog: str | None) -> list[Path]:
    """Return the raw files of the experiments in the catalog that match the filters.

    Raises
    ------
    ConfigError
        There is no catalog, or no experiment in it matches.
    """
    wanted = filters.wanted()
    if not wanted and find_catalog(catalog) is None:
        raise ConfigError("no experiments given: name folders or files, or use a catalog")
    with need_catalog(catalog).open() as opened:
        found = opened.search(**wanted)
        paths = found.paths
        if not paths:
            gone = f"; of {len(found)} that fit, no raw file is there" if found else ""
            raise ConfigError(f"{opened.name}: no experiment fits{gone}; look with oectflow search")
        if len(paths) < len(found):
            note(f"left out: {len(found) - len(paths):,} experiments without a readable raw file")
    return paths


def _record(catalog: Catalog | None, folder: Path) -> tuple[int | None, str]:
    """Record the results in the catalog; return their number, or why that failed."""
    if catalog is None:
        return None, ""
    try:
        report = catalog.sync_features(folder)
    except CatalogError as error:
        return None, f"the results are written, but not recorded: {error}"
    return report.n_recorded, "\n".join(f"{p.path}: {p.reason}" for p in report.problems)


def _granularity(text: str) -> Granularity:
    if text.isdecimal() and int(text) > 0:
        return int(text)
    if text in ("auto", "step", "experiment"):
        return text  # type: ignore[return-value] # narrowed by the line above
    raise ConfigError(
        f"--granularity {text}: expected auto, step, experiment, or a number of steps"
    )
