"""Run the extraction for experiments of a catalog, and record it."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Literal, get_args

from dask.system import CPU_COUNT
from distributed import Client, default_client
from distributed.system import MEMORY_LIMIT

from oectflow.cluster.connect import connect
from oectflow.errors import ConfigError, OutputError, RunFailed, did_you_mean
from oectflow.pipeline.execution.driving.run import extract, extract_lazily
from oectflow.pipeline.execution.report import ExperimentRecord, RunReport
from oectflow.pipeline.features.feature_list import FeatureList
from oectflow.pipeline.inputs.catalog import Catalog, CatalogEntry
from oectflow.pipeline.inputs.experiment import Experiment
from oectflow.pipeline.outputs.wide import config_folder

FeatureConfig = str | os.PathLike[str] | Mapping[str, Any] | FeatureList
ExecutionMode = Literal["auto", "step", "experiment"]
SaveFormat = Literal["parquet", "none"]
#: Memory that a worker needs before it reads anything, and for a batch.
_WORKER_BYTES = 2**29
#: Configurations with the quantities of the versions of the earlier software.
INSTEAD = {"v1": "v2_transfer_basic", "v2": "transient_tau"}


def instead_of(version: str) -> str:
    """Return the configuration with the quantities of a version; see ``INSTEAD``.

    Raises
    ------
    ConfigError
        There is none.
    """
    if version not in INSTEAD:
        raise ConfigError(
            f"version={version!r}: expected {' or '.join(map(repr, INSTEAD))}; for other features "
            "call batch_extract_features_v2"
        )
    return INSTEAD[version]


def check_option(name: str, value: Any, options: Any) -> None:
    """Raise ConfigError unless a value is one of the words of a ``Literal``."""
    words = get_args(options)
    if value not in words:
        hint = did_you_mean(value, words) if isinstance(value, str) else ""
        raise ConfigError(f"{name}={value!r}: expected {', '.join(map(repr, words))}{hint}")


def load_features(feature_config: FeatureConfig) -> FeatureList:
    """Return the feature set; a set from a file has the name of the file.

    Raises
    ------
    ConfigError
        The configuration is wrong.
    """
    features = FeatureList.load(feature_config)
    if isinstance(feature_config, str | os.PathLike) and Path(feature_config).suffix:
        features.name = Path(feature_config).stem
    return features


def check_workers(n_workers: int | None) -> None:
    """Raise ConfigError unless the number of workers is valid."""
    if n_workers is not None and n_workers < 1:
        raise ConfigError(f"n_workers={n_workers}: expected 1 or more, or None")


def at_most_cores(n_workers: int | None) -> int | None:
    """Return the number of workers, reduced to what the machine can hold, with a warning.

    Existing notebooks ask for 47 or 90, whatever the machine.
    """
    if n_workers is None:
        return None
    memory = max(1, MEMORY_LIMIT // _WORKER_BYTES)
    used: int = min(n_workers, CPU_COUNT, memory)
    if used < n_workers:
        warnings.warn(
            f"n_workers={n_workers}: this machine has {CPU_COUNT} cores and "
            f"{MEMORY_LIMIT / 2**30:.0f} GiB of memory; {used} are used",
            stacklevel=4,
        )
    return used


def _extract(
    paths: Sequence[str],
    features: FeatureList,
    out: str | os.PathLike[str],
    *,
    client: Client | None,
    n_workers: int | None,
    **options: Any,
) -> RunReport:
    """Extract with the given or the active client, or else with own workers.

    A cluster of ``n_workers`` is started only if there is neither, and enough work for it; it is
    closed at the end.
    """
    if client is None:
        # It raises an error if there is none.
        with suppress(ValueError):
            client = default_client()
    if client is not None or n_workers is None:
        return extract(paths, features, out, client=client, **options)
    n_workers = at_most_cores(n_workers)
    with ExitStack() as started:

        def start() -> Client:
            # The usual port of the dashboard may be in use; one call does not need a dashboard.
            own = connect("local", n_workers=n_workers, dashboard_port=0)
            return started.enter_context(own)

        return extract_lazily(paths, features, out, connect=start, n_workers=n_workers, **options)


def run_batch(
    catalog: Catalog | None,
    entries: Sequence[CatalogEntry],
    features: FeatureList,
    root: Path,
    *,
    save: bool,
    client: Client | None,
    n_workers: int | None = None,
    granularity: ExecutionMode,
    force: bool,
    progress: bool,
) -> tuple[dict[int, ExperimentRecord], dict[int, str]]:
    """Compute features of experiments and record them in the catalog.

    Parameters
    ----------
    catalog
        Catalog that records the results; None records nothing.
    entries
        The experiments.
    features
        What to compute.
    root
        Results are written into its subfolder with the name of the feature set.
    save
        Keep the results.
    client, granularity, force, progress
        As for :func:`oectflow.extract`.
    n_workers
        Number of workers of the cluster that may be started if there is no client.

    Returns
    -------
    The outcome of each experiment, by its number; the reasons of those that could not start.
    """
    by_path, impossible = _runnable(entries)
    if not by_path:
        return {}, impossible
    folder = config_folder(root, features.name)
    arguments: dict[str, Any] = {
        "client": client,
        "n_workers": n_workers,
        "granularity": granularity,
        "force": force,
        "progress": progress,
        "expand_multidim": True,
    }
    if save:
        try:
            report = _extract(list(by_path), features, folder, **arguments)
        finally:
            # This includes results that were written before the run was stopped.
            if catalog is not None and folder.is_dir():
                record_folder(catalog, folder)
    else:
        root.mkdir(parents=True, exist_ok=True)
        # Beside the results, because workers on other machines must reach it.
        with tempfile.TemporaryDirectory(prefix=".not-kept-", dir=root) as temporary:
            report = _extract(list(by_path), features, temporary, **arguments)
    records = {}
    for record in report.experiments:
        entry = by_path[record.path]
        if record.out_path and record.experiment_id != entry.test_id:
            impossible[entry.id] = (
                f"{record.path}: holds {record.experiment_id!r} now, not {entry.test_id!r}; "
                "scan its folder"
            )
        else:
            records[entry.id] = record
    return records, impossible


def check_record(record: ExperimentRecord) -> None:
    """Raise RunFailed if an experiment has no results; warn of steps that failed."""
    if record.outcome != "failed":
        return
    if not record.out_path:
        raise RunFailed(record.reason)
    warnings.warn(record.reason, stacklevel=3)


def _runnable(entries: Sequence[CatalogEntry]) -> tuple[dict[str, CatalogEntry], dict[int, str]]:
    by_path: dict[str, CatalogEntry] = {}
    impossible: dict[int, str] = {}
    for entry in entries:
        if entry.path is None:
            impossible[entry.id] = f"{entry.test_id}: its raw file is not known; scan its folder"
        elif not entry.path.exists():
            impossible[entry.id] = f"{entry.path}: there is no such file; scan its folder"
        else:
            by_path[str(entry.path)] = entry
    return by_path, impossible


def record_folder(catalog: Catalog, folder: Path) -> None:
    """Record new files in a folder of results in the catalog, fifty at a time."""
    for problem in catalog.sync_features(folder).problems:
        warnings.warn(f"{problem.path}: {problem.reason}", stacklevel=3)


def check_current(path: Path, metadata: Mapping[str, Any], raw: Path | None) -> None:
    """Make sure that results belong to the present content of the raw file.

    Parameters
    ----------
    path
        The result file, for the message.
    metadata
        Its metadata.
    raw
        The raw file.  If it is gone, the results are accepted.

    Raises
    ------
    OutputError
        The raw file has other content now.
    """
    if raw is None or not raw.exists():
        return
    experiment = Experiment(raw)
    was, now = metadata["source"], experiment.identity
    if was["size"] == now.size and was["mtime_ns"] == now.mtime_ns:
        return
    if was["content_hash"] != experiment.content_hash():
        raise OutputError(f"{path}: was computed before {raw} changed; extract it again")
