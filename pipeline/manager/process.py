"""Instrument folders to features, in one call."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from oectflow.pipeline.inputs.convert import OnConflict
from oectflow.pipeline.manager.catalog import CONFIG_NAME
from oectflow.pipeline.manager.extraction import FeatureConfig
from oectflow.pipeline.manager.manager import UnifiedExperimentManager


def process_data_pipeline(
    source_directory: str | os.PathLike[str],
    clean_json: bool = True,
    num_workers: int | None = None,
    conflict_strategy: OnConflict = "skip",
    v1_feature_versions: Sequence[str] | None = None,
    v2_feature_configs: Sequence[FeatureConfig] | None = None,
    show_progress: bool = True,
    *,
    config_path: str | os.PathLike[str] | Mapping[str, Any] = CONFIG_NAME,
) -> dict[str, Any]:
    """Convert instrument folders to HDF5, record them in the catalog, and compute features.

    Parameters
    ----------
    source_directory, clean_json, num_workers, conflict_strategy
        As for :meth:`UnifiedExperimentManager.process_data_pipeline`.
    v1_feature_versions, v2_feature_configs, show_progress
        As there.
    config_path
        As for :class:`UnifiedExperimentManager`: the place of HDF5 files, catalog and features.

    Returns
    -------
    ``source_directory``; ``steps_completed``; ``overall_success``, whether nothing failed; and
    ``results`` by step.

    Raises
    ------
    ConfigError
        A configuration or an argument is wrong; nothing has been done.
    CatalogError
        The catalog cannot be used.
    IngestError
        There is no instrument folder.
    StorageError
        Something cannot be written.

    Examples
    --------
    >>> import oectflow as of
    >>> result = of.process_data_pipeline(
    ...     "instrument/",
    ...     v2_feature_configs=["v2_ml_ready"],
    ...     show_progress=False,
    ...     config_path="lab/",
    ... )
    >>> result["overall_success"]
    True
    """
    with UnifiedExperimentManager(config_path) as manager:
        return manager.process_data_pipeline(
            source_directory,
            clean_json,
            num_workers,
            conflict_strategy,
            v1_feature_versions,
            v2_feature_configs,
            show_progress,
        )
