"""The catalog: find experiments by chip, device, batch, state and workflow parameters."""

from oectflow.errors import CatalogError
from oectflow.extras import extra

with extra("catalog", "a catalog", CatalogError):
    from oectflow.pipeline.inputs.catalog.catalog import Catalog
    from oectflow.pipeline.inputs.catalog.config import CatalogConfig, load_catalog_config
    from oectflow.pipeline.inputs.catalog.entry import CatalogEntry
    from oectflow.pipeline.inputs.catalog.features import FeatureRecord, SyncReport
    from oectflow.pipeline.inputs.catalog.integrity import (
        CatalogProblem,
        CatalogStats,
        ValidationReport,
    )
    from oectflow.pipeline.inputs.catalog.legacy import ImportReport
    from oectflow.pipeline.inputs.catalog.sample_sets import SamplesReport
    from oectflow.pipeline.inputs.catalog.scan import ScanProblem, ScanReport
    from oectflow.pipeline.inputs.catalog.search import SearchResult
    from oectflow.pipeline.inputs.catalog.workflow import flatten_workflow

__all__ = [
    "Catalog",
    "CatalogConfig",
    "CatalogEntry",
    "CatalogProblem",
    "CatalogStats",
    "FeatureRecord",
    "ImportReport",
    "SamplesReport",
    "ScanProblem",
    "ScanReport",
    "SearchResult",
    "SyncReport",
    "ValidationReport",
    "flatten_workflow",
    "load_catalog_config",
]
