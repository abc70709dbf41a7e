"""From instrument folders to HDF5 files, the catalog and features."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from oectflow.errors import CatalogError, ConfigError, IngestError
from oectflow.pipeline.inputs.catalog import CatalogConfig, CatalogEntry
from oectflow.pipeline.inputs.convert import OnConflict
from oectflow.pipeline.inputs.experiment import Experiment
from oectflow.pipeline.inputs.ingest import ingest
from oectflow.pipeline.inputs.ingest_report import IngestRecord
from oectflow.pipeline.inputs.readers.test_info import TEST_INFO, read_test_info
from oectflow.pipeline.inputs.sources import find_sources
from oectflow.pipeline.manager.catalog import ManagedCatalog
from oectflow.pipeline.manager.extraction import (
    FeatureConfig,
    at_most_cores,
    instead_of,
    load_features,
)


class Conversions:
    """Converts instrument folders for a manager.

    Parameters
    ----------
    catalog
        The catalog that records the converted experiments.
    config
        The configuration with the output folders.
    extract
        :meth:`UnifiedExperimentManager.batch_extract_features_v2`.
    """

    def __init__(
        self,
        catalog: ManagedCatalog,
        config: CatalogConfig,
        extract: Callable[..., dict[str, Any]],
    ) -> None:
        self.catalog = catalog
        self.config = config
        self._extract = extract

    def clean_json_files(
        self, source_directory: str | os.PathLike[str], pattern: str = TEST_INFO
    ) -> dict[str, Any]:
        """Read every ``test_info.json`` below a folder; nothing is written.

        A conversion tidies the data that it reads; the files of the instrument stay unchanged.

        Parameters
        ----------
        source_directory
            Searched at any depth.
        pattern
            ``test_info.json``, or a pattern that matches it.

        Returns
        -------
        ``success``, ``directory``, ``pattern``, and ``result`` with ``total``, ``readable`` and
        ``errors``.

        Raises
        ------
        ConfigError
            The pattern is for other files.
        IngestError
            There is no such folder, or one below it cannot be listed.
        """
        if not fnmatch(TEST_INFO, pattern):
            raise ConfigError(
                f"pattern={pattern!r}: a conversion reads only {TEST_INFO}, so other "
                "files need no cleaning"
            )
        folders = self.discover_test_directories(source_directory)
        errors = []
        for folder in folders:
            try:
                read_test_info(Path(folder))
            except (IngestError, OSError) as error:
                text = str(error)
                errors.append(text if folder in text else f"{folder}: {text}")
        return {
            "success": not errors,
            "directory": str(source_directory),
            "pattern": pattern,
            "result": {
                "total": len(folders),
                "readable": len(folders) - len(errors),
                "errors": errors,
            },
        }

    def discover_test_directories(
        self, source_directory: str | os.PathLike[str], exclude_output_dir: bool = True
    ) -> list[str]:
        """Return the folders at or below one that hold a ``test_info.json``.

        Parameters
        ----------
        source_directory
            Searched at any depth.
        exclude_output_dir
            Leave out ``roots.raw_data`` and everything below it.

        Raises
        ------
        IngestError
            There is no such folder, or one below it cannot be listed.
        """
        found = find_sources([Path(source_directory).expanduser()])
        if found.failures:
            raise IngestError("; ".join(f"{path}: {reason}" for path, reason in found.failures))
        output = Path(self.config.roots.raw_data)
        folders = [Path(folder).absolute() for folder in found.folders]
        return [
            str(given)
            for given, folder in zip(found.folders, folders, strict=True)
            if not (exclude_output_dir and folder.is_relative_to(output))
        ]

    def batch_convert_folders(
        self,
        test_directories: Sequence[str | os.PathLike[str]],
        num_workers: int | None = None,
        conflict_strategy: OnConflict = "skip",
        show_progress: bool = True,
    ) -> dict[str, Any]:
        """Convert instrument folders to HDF5 files in ``roots.raw_data``, and scan this folder.

        Parameters
        ----------
        test_directories
            The folders.
        num_workers
            Largest number of processes, at most one per core; by default, as many as pay off.
        conflict_strategy
            ``"skip"``, ``"overwrite"`` or ``"rename"``, if a file of the same name exists.
        show_progress
            Show a progress bar.

        Returns
        -------
        ``success``, whether nothing failed; ``total_directories``, ``successful_conversions``,
        ``skipped_conversions``, ``failed_conversions``, ``output_directory``; and
        ``detailed_results``, one :class:`IngestRecord` each.

        Raises
        ------
        IngestError
            There is no folder to convert, or an argument is wrong.
        """
        target = self.config.roots.raw_data
        with _bar("convert", shown=show_progress) as advance:
            report = ingest(
                test_directories,
                target,
                on_conflict=conflict_strategy,
                workers=at_most_cores(num_workers),
                progress=advance,
            )
        with _bar("scan", shown=show_progress) as advance:
            self.catalog.scan(progress=advance)
        return {
            "success": not report.failed,
            "total_directories": len(report.records),
            "successful_conversions": len(report.written),
            "skipped_conversions": len(report.skipped),
            "failed_conversions": len(report.failed),
            "output_directory": target,
            "detailed_results": list(report.records),
        }

    def process_data_pipeline(
        self,
        source_directory: str | os.PathLike[str],
        clean_json: bool = True,
        num_workers: int | None = None,
        conflict_strategy: OnConflict = "skip",
        v1_feature_versions: Sequence[str] | None = None,
        v2_feature_configs: Sequence[FeatureConfig] | None = None,
        show_progress: bool = True,
        *,
        auto_extract_features: bool = False,
        feature_version: str = "v1",
        v2_feature_config: FeatureConfig | None = None,
    ) -> dict[str, Any]:
        """Convert instrument folders, record them in the catalog, compute features, in one call.

        If you run it again, only new data are processed.

        Parameters
        ----------
        source_directory
            Searched at any depth for folders with a ``test_info.json``; never changed.
        clean_json
            Check the JSON files first.
        num_workers
            Number of processes that convert, at most the number of cores, and of workers that
            compute features unless a Dask client is active.  None: as many processes as pay off,
            and the threads of this process.
        conflict_strategy
            ``"skip"``, ``"overwrite"`` or ``"rename"``, if an HDF5 file of the same name exists.
        v1_feature_versions
            Versions of the earlier software.  The same quantities are computed by
            ``v2_transfer_basic`` (``"v1"``) and ``transient_tau`` (``"v2"``).
        v2_feature_configs
            Configurations to compute: names of bundled ones, files, or dicts.
        show_progress
            Show progress bars.
        auto_extract_features, feature_version, v2_feature_config
            The arguments of older notebooks: one configuration, or else one version.

        Returns
        -------
        ``source_directory``; ``steps_completed``; ``overall_success``, whether nothing failed; and
        ``results`` by step: ``json_cleaning``, ``discovery``, ``conversion`` as for
        :meth:`batch_convert_folders`, ``v1_feature_extraction_<version>`` and
        ``v2_feature_extraction_<configuration>`` as for
        :meth:`UnifiedExperimentManager.batch_extract_features_v2`, of the experiments below
        ``source_directory``.

        Raises
        ------
        ConfigError
            A configuration or an argument is wrong; nothing has been done.
        IngestError
            There is no instrument folder.
        StorageError
            Something cannot be written.
        """
        wanted = list(v2_feature_configs or ())
        versions = list(v1_feature_versions or ())
        if auto_extract_features and v2_feature_config is not None:
            wanted.append(v2_feature_config)
        elif auto_extract_features:
            versions.append(feature_version)
        # A wrong name is found now, and not after the conversion of a year of measurements.
        configs = [
            *((f"v1_feature_extraction_{version}", instead_of(version)) for version in versions),
            *((f"v2_feature_extraction_{load_features(c).name}", c) for c in wanted),
        ]
        workers = at_most_cores(num_workers)
        results: dict[str, Any] = {}
        if clean_json:
            results["json_cleaning"] = self.clean_json_files(source_directory)
        folders = self.discover_test_directories(source_directory)
        if not folders:
            raise IngestError(f"{source_directory}: no folder with a {TEST_INFO} in it or below")
        results["discovery"] = {
            "success": True,
            "directories_found": len(folders),
            "directories": folders,
        }
        converted = self.batch_convert_folders(folders, workers, conflict_strategy, show_progress)
        results["conversion"] = converted
        entries, uncatalogued = self.catalogued(converted["detailed_results"])
        success = converted["success"] and not uncatalogued
        for name, config in configs:
            extracted = self._extract(
                entries,
                config,
                n_workers=workers,
                show_progress=show_progress,
            )
            extracted["failed"] += uncatalogued
            results[name] = extracted
            success = success and not extracted["failed"]
        return {
            "source_directory": str(source_directory),
            "steps_completed": list(results),
            "overall_success": success,
            "results": results,
        }

    def catalogued(
        self, records: Sequence[IngestRecord]
    ) -> tuple[list[CatalogEntry], list[tuple[None, str]]]:
        """Return the experiments that were converted now or before, and those not in the catalog.

        The latter have the number None.
        """
        entries, missing = [], []
        for record in records:
            if record.path is None or record.status == "failed":
                continue
            try:
                entries.append(self.catalog.get(Experiment(record.path).experiment_id))
            except CatalogError as error:
                pattern = self.config.discovery.file_patterns.raw
                reason = f"{record.path}: is not in the catalog; is it named like {pattern!r}?"
                missing.append((None, f"{reason} ({error})"))
        return entries, missing


@contextmanager
def _bar(what: str, *, shown: bool) -> Iterator[Callable[[int, int], object]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), disable=not shown) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
