"""One object for everything: find experiments, convert folders, extract features."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from distributed import Client

from oectflow.atomic_write import atomic_write
from oectflow.cells import plain_cell
from oectflow.errors import ConfigError, IngestError, OutputError
from oectflow.pipeline.inputs.catalog import CatalogConfig, CatalogEntry
from oectflow.pipeline.manager.catalog import CONFIG_NAME, ManagedCatalog, find_config
from oectflow.pipeline.manager.conversion import Conversions
from oectflow.pipeline.manager.experiment import UnifiedExperiment
from oectflow.pipeline.manager.extraction import (
    ExecutionMode,
    FeatureConfig,
    SaveFormat,
    check_option,
    check_workers,
    instead_of,
    load_features,
    run_batch,
)
from oectflow.pipeline.manager.forward import forwarded
from oectflow.pipeline.manager.upkeep import Upkeep
from oectflow.pipeline.outputs.wide import spread

if TYPE_CHECKING:
    import pandas as pd

Experiments = str | UnifiedExperiment | Iterable[UnifiedExperiment | CatalogEntry]


class UnifiedExperimentManager:
    """A catalog of experiments, and everything that you do with them.

    Scan first, with ``manager.catalog.scan()``; raw files are never changed.  :attr:`convert` turns
    instrument folders into raw files, :attr:`upkeep` keeps the catalog in order.  The method names
    of existing notebooks still work.

    Parameters
    ----------
    config_path
        A ``catalog_config.yaml``, its content as a dict, or a folder.  If the folder has a
        ``catalog_config.yaml``, this is used.  If not, raw files are searched for in its subfolder
        ``raw`` (or in the folder itself), and ``features_v2`` and ``catalog.db`` are made in it.

    Attributes
    ----------
    config
        The configuration, with absolute paths.
    catalog
        The :class:`Catalog`.
    convert
        Its ``Conversions``.
    upkeep
        Its ``Upkeep``.

    Raises
    ------
    CatalogError
        The configuration is missing or wrong, or the database cannot be used.

    Examples
    --------
    >>> with UnifiedExperimentManager("lab/") as manager:
    ...     scanned = manager.catalog.scan()
    ...     found = manager.search(chip_id="#20250804008", status="completed")
    ...     report = manager.batch_extract_features_v2(found, "v2_ml_ready", show_progress=False)
    ...     frame = found[0].get_v2_feature_dataframe("v2_ml_ready", feature_names="gm_*")
    """

    def __init__(
        self, config_path: str | os.PathLike[str] | Mapping[str, Any] | CatalogConfig = CONFIG_NAME
    ) -> None:
        self.config = find_config(config_path)
        self.catalog = ManagedCatalog(self.config.database.path, config=self.config)
        self.convert = Conversions(self.catalog, self.config, self.batch_extract_features_v2)
        self.upkeep = Upkeep(self.catalog, self.config)

    @property
    def features_root(self) -> Path:
        """Folder of the results, with one folder for each configuration."""
        return self.upkeep.features_root

    clean_json_files = forwarded("convert", Conversions.clean_json_files)
    discover_test_directories = forwarded("convert", Conversions.discover_test_directories)
    batch_convert_folders = forwarded("convert", Conversions.batch_convert_folders)
    process_data_pipeline = forwarded("convert", Conversions.process_data_pipeline)

    check_consistency = forwarded("upkeep", Upkeep.check_consistency)
    auto_fix_inconsistencies = forwarded("upkeep", Upkeep.auto_fix_inconsistencies)
    sync_all = forwarded("upkeep", Upkeep.sync_all)
    get_statistics = forwarded("upkeep", Upkeep.get_statistics)
    initialize_workflow_metadata = forwarded("upkeep", Upkeep.initialize_workflow_metadata)

    def create_experiment(
        self,
        source_dir: str | os.PathLike[str],
        auto_extract_features: bool = True,
        feature_versions: Sequence[str] | None = None,
    ) -> UnifiedExperiment | None:
        """Convert one instrument folder, and compute features.

        Parameters
        ----------
        source_dir
            The folder.
        auto_extract_features
            Compute features, too.
        feature_versions
            Which features, as for :meth:`batch_extract_features`; by default ``["v1"]``.

        Returns
        -------
        The experiment, even if it had been converted before; None if there is none.

        Raises
        ------
        IngestError
            The folder cannot be converted.
        """
        converted = self.convert.batch_convert_folders([source_dir], show_progress=False)
        if not converted["success"]:
            failed = [r.reason for r in converted["detailed_results"] if r.status == "failed"]
            raise IngestError("; ".join(failed))
        entries, _ = self.convert.catalogued(converted["detailed_results"])
        if not entries:
            return None
        if auto_extract_features:
            for version in feature_versions or ["v1"]:
                self.batch_extract_features(entries, version)
        return self._unify(self.catalog.get(entries[0].id))

    def get_experiment(self, exp_id: int | None = None, **filters: Any) -> UnifiedExperiment | None:
        """Return one experiment.

        Parameters
        ----------
        exp_id
            Its number in the catalog.
        **filters
            As for :meth:`search`.

        Returns
        -------
        The newest experiment found; None if there is none.

        Raises
        ------
        CatalogError
            There is no such number, or no such filter.
        """
        if exp_id is not None:
            return self._unify(self.catalog.get(exp_id))
        found = self.catalog.search(**{"limit": 1} | filters)
        return self._unify(found[0]) if found else None

    def search(self, **filters: Any) -> list[UnifiedExperiment]:
        """Find experiments.

        Parameters
        ----------
        **filters
            As for :meth:`Catalog.search`: ``chip_id``, ``device_id``, ``status``, ``text_search``,
            ``workflow_step_1_2_param_cycles`` and many more.

        Returns
        -------
        All experiments that match every filter, the newest first.

        Raises
        ------
        CatalogError
            There is no such filter, or it does not accept the value; the message names the nearest
            one.
        """
        return [self._unify(entry) for entry in self.catalog.search(**filters)]

    def get_experiments_by_chip(self, chip_id: str) -> list[UnifiedExperiment]:
        """Return the experiments of one chip."""
        return self.search(chip_id=chip_id)

    def get_experiments_by_batch(self, batch_id: str) -> list[UnifiedExperiment]:
        """Return the experiments of one batch."""
        return self.search(batch_id=batch_id)

    def get_completed_experiments(self) -> list[UnifiedExperiment]:
        """Return the experiments whose status is ``"completed"``."""
        return self.search(status="completed")

    def get_experiments_missing_features(self) -> list[UnifiedExperiment]:
        """Return the experiments without a feature computed from the present raw file."""
        return self.search(missing_features=True)

    def batch_extract_features(
        self, experiments: Experiments, version: str = "v1"
    ) -> dict[str, Any]:
        """Compute the features of a version of the earlier software.

        Parameters
        ----------
        experiments
            As for :meth:`batch_extract_features_v2`.
        version
            ``"v1"``: features of transfer sweeps; ``"v2"``: time constants.

        Returns
        -------
        As :meth:`batch_extract_features_v2`.

        Raises
        ------
        ConfigError
            There is no such version.
        """
        config = instead_of(version)
        return self.batch_extract_features_v2(experiments, config, show_progress=False)

    def batch_extract_features_v2(
        self,
        experiments: Experiments,
        feature_config: FeatureConfig,
        output_dir: str | os.PathLike[str] | None = None,
        save_format: SaveFormat = "parquet",
        execution_mode: ExecutionMode | int = "auto",
        n_workers: int | None = None,
        force_recompute: bool = False,
        client: Client | None = None,
        *,
        show_progress: bool = True,
        progress: bool | None = None,
        use_parallel_executor: bool | None = None,
        n_step_workers: int | None = None,
    ) -> dict[str, Any]:
        """Compute features of many experiments on Dask, and record them in the catalog.

        A feature that is known already, with the same definition and content of the raw file, is
        not computed again.

        Parameters
        ----------
        experiments
            Experiments that :meth:`search` has found, or a text to search for in chip, description
            and test id.
        feature_config
            Name of a bundled configuration, path of a file, dict, or FeatureSet.
        output_dir
            By default ``roots.features_v2``.  The file of an experiment is
            ``<output_dir>/<configuration>/<test_id>.parquet``.
        save_format
            ``"parquet"``, or ``"none"`` to compute without keeping anything.
        execution_mode
            ``"auto"``: batches of steps, chosen by measured cost; ``"step"``: one Dask task for
            every (experiment, feature, step); ``"experiment"``: one for each source of an
            experiment.  A number is taken as ``n_workers``, which had this position in the past.
        n_workers
            If no ``client`` is given or active: start a cluster of this many processes on this
            machine for this call, if there is enough work for it, or if ``execution_mode`` is not
            ``"auto"``.  If the machine has too few cores or too little memory, fewer processes are
            started, with a warning.  None: this process and its threads do the work.
        force_recompute
            Compute everything anew.
        client
            A Dask client, as :func:`oectflow.connect` returns; by default the active one.
        show_progress, progress
            Show a progress bar.
        use_parallel_executor, n_step_workers
            Without effect, because Dask does this.

        Returns
        -------
        ``successful``, the catalog numbers of experiments; ``failed``, pairs of number and reason,
        even if only some steps failed and the rest was written; ``skipped``, the numbers of
        experiments that had nothing to compute; ``timings``, worker time in ms by number;
        ``total_time_ms``, wall time.

        Raises
        ------
        ConfigError
            The features or an argument are wrong.
        StorageError
            The results cannot be written; files that were written are complete.
        ClusterError
            No cluster can be started, or the scheduler is gone.
        """
        if isinstance(execution_mode, int):
            # Of an earlier version: n_workers, use_parallel_executor, force_recompute.
            n_workers, execution_mode = execution_mode, "auto"
        show_progress = show_progress if progress is None else progress
        for name, given in (
            ("use_parallel_executor", use_parallel_executor),
            ("n_step_workers", n_step_workers),
        ):
            if given is not None:
                warnings.warn(
                    f"{name} has no effect: steps run in parallel on Dask; use execution_mode "
                    "and n_workers",
                    DeprecationWarning,
                    stacklevel=2,
                )
        check_option("save_format", save_format, SaveFormat)
        check_option("execution_mode", execution_mode, ExecutionMode)
        check_workers(n_workers)
        features = load_features(feature_config)
        entries = self._entries(experiments)
        begin = time.perf_counter()
        records, impossible = run_batch(
            self.catalog,
            entries,
            features,
            self.features_root if output_dir is None else Path(output_dir).expanduser().absolute(),
            save=save_format == "parquet",
            client=client,
            n_workers=n_workers,
            granularity=execution_mode,
            force=force_recompute,
            progress=show_progress,
        )
        failed = impossible | {
            i: record.reason for i, record in records.items() if record.outcome == "failed"
        }
        return {
            "successful": [i for i, r in records.items() if r.outcome in ("done", "flagged")],
            "failed": list(failed.items()),
            "skipped": [i for i, r in records.items() if r.outcome == "unchanged"],
            "timings": {
                i: 1e3 * sum(record.seconds.values())
                for i, record in records.items()
                if record.outcome != "unchanged"
            },
            "total_time_ms": 1e3 * (time.perf_counter() - begin),
        }

    def create_combined_features_dataframe(
        self,
        experiments: Sequence[UnifiedExperiment],
        feature_names: Sequence[str],
        data_type: str = "transfer",
        include_workflow: bool = False,
    ) -> pd.DataFrame:
        """Return features of several experiments in one table, one row per step.

        Parameters
        ----------
        experiments
            Experiments that :meth:`search` has found.
        feature_names, data_type
            As for :meth:`UnifiedExperiment.get_features`.
        include_workflow
            Add the parameters of the workflows as columns.

        Returns
        -------
        ``experiment_id``, ``chip_id``, ``device_id``, ``test_id``, ``step_index`` and the features.

        Raises
        ------
        UnknownFeature
            An experiment does not have one of them.
        """
        import pandas as pd

        parts = []
        for experiment in experiments:
            values = experiment.get_features(feature_names, data_type)
            n_rows = max((len(array) for array in values.values()), default=0)
            identity: dict[str, Any] = {
                "experiment_id": experiment.id,
                "chip_id": experiment.chip_id,
                "device_id": experiment.device_id,
                "test_id": experiment.test_id,
            }
            part = spread(values, n_rows).assign(**identity)
            part = part[[*identity, *(name for name in part.columns if name not in identity)]]
            workflow = experiment.get_workflow_metadata() if include_workflow else {}
            parts.append(part.join(pd.DataFrame(workflow, index=part.index)))
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()

    def export_experiments_info(
        self, experiments: Sequence[UnifiedExperiment], output_path: str | os.PathLike[str]
    ) -> bool:
        """Write the catalog entries of experiments to a CSV file, one row each; return True.

        Raises
        ------
        OutputError
            The file cannot be written.
        """
        import pandas as pd

        rows = []
        for experiment in experiments:
            info = experiment.get_info()
            rows.append(info["basic_info"] | info["status_info"] | info["data_info"])
        path = Path(output_path)
        try:
            with atomic_write(path) as temporary:
                pd.DataFrame(rows).map(plain_cell).to_csv(temporary, index=False)
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({error.strerror})") from error
        return True

    def close(self) -> None:
        """Close the catalog."""
        self.catalog.close()

    def _unify(self, entry: CatalogEntry) -> UnifiedExperiment:
        return UnifiedExperiment(
            entry, self.catalog, self.features_root, Path(self.config.roots.features)
        )

    def _entries(self, experiments: Experiments) -> list[CatalogEntry]:
        if isinstance(experiments, str):
            return list(self.catalog.search(text_search=experiments))
        if isinstance(experiments, UnifiedExperiment):
            experiments = [experiments]
        found: dict[int, CatalogEntry] = {}
        for item in experiments:
            entry = item.entry if isinstance(item, UnifiedExperiment) else item
            if not isinstance(entry, CatalogEntry):
                raise ConfigError(
                    f"experiments: expected the result of search(), not {type(item).__name__}"
                )
            found[entry.id] = entry
        return list(found.values())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<UnifiedExperimentManager {self.catalog.name}>"
