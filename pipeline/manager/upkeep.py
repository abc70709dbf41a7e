"""Keep a catalog in order."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from oectflow.pipeline.inputs.catalog import CatalogConfig
from oectflow.pipeline.manager.catalog import ManagedCatalog


class Upkeep:
    """What a manager does for its catalog.

    Parameters
    ----------
    catalog
        The catalog.
    config
        Where raw files and results are.
    """

    def __init__(self, catalog: ManagedCatalog, config: CatalogConfig) -> None:
        self.catalog = catalog
        self.features_root = Path(config.roots.features_v2)

    def check_consistency(self) -> dict[str, list[str]]:
        """Return all problems by kind; see ``validate_data_integrity``."""
        return self.catalog.validate_data_integrity()

    def auto_fix_inconsistencies(
        self, issues: Mapping[str, Sequence[Any]] | None = None
    ) -> dict[str, int]:
        """Bring the catalog up to date with raw files and results, forget what has vanished.

        Parameters
        ----------
        issues
            What :meth:`check_consistency` returned; nothing is done where that holds no problem.

        Returns
        -------
        ``fixed`` and ``failed``, the problems that are gone and those that stay.
        """
        if issues is not None and not any(issues.values()):
            return {"fixed": 0, "failed": 0}
        before = len(self.catalog.validate().problems)
        self.sync_all()
        self.catalog.remove_missing()
        after = len(self.catalog.validate().problems)
        return {"fixed": max(before - after, 0), "failed": after}

    def sync_all(self) -> dict[str, Any]:
        """Bring the catalog up to date with raw files and results.

        Returns
        -------
        ``success``, ``files_processed``, ``files_added``, ``files_updated``, ``errors``, and
        ``duration`` in s.
        """
        begin = time.perf_counter()
        scanned = self.catalog.scan_and_index()
        errors = scanned.errors
        if self.features_root.is_dir():
            found = self.catalog.sync_features(self.features_root)
            errors += [f"{problem.path}: {problem.reason}" for problem in found.problems]
        return {
            "success": not errors,
            "files_processed": scanned.files_processed,
            "files_added": scanned.files_added,
            "files_updated": scanned.files_updated,
            "errors": errors,
            "duration": time.perf_counter() - begin,
        }

    def get_statistics(self) -> dict[str, Any]:
        """Return what the catalog holds; see ``get_statistics``."""
        return self.catalog.get_statistics()

    def initialize_workflow_metadata(
        self,
        force_update: bool = False,  # noqa: ARG002 - notebooks give it
    ) -> dict[str, Any]:
        """Scan: that reads the workflows, too.

        Parameters
        ----------
        force_update
            Without effect; a file that has changed is always read again.

        Returns
        -------
        ``total``, ``updated`` (experiments with a workflow), ``skipped`` (without), ``failed`` and
        ``errors``.
        """
        report = self.catalog.scan()
        known = [bool(entry.workflow) for entry in self.catalog.search()]
        return {
            "total": len(known),
            "updated": sum(known),
            "skipped": len(known) - sum(known),
            "failed": len(report.problems),
            "errors": [f"{problem.path}: {problem.reason}" for problem in report.problems],
        }
