"""Keep a catalog in order."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from oectflow.pipeline.inputs.catalog import CatalogConfig
from oectflow.pipeline.manager.catalog import ManagedCatalog


class Upkeep:
    """What a manager does for its catalog."""

    catalog: ManagedCatalog
    config: CatalogConfig

    @property
    def features_root(self) -> Path:
        """Folder of the results, with one folder for each configuration."""
        return Path(self.config.roots.features_v2)

    def check_consistency(self) -> dict[str, list[str]]:
        """Return all problems by kind; see :meth:`Catalog.validate`."""
        return self.catalog.validate_data_integrity()

    def auto_fix_inconsistencies(self) -> dict[str, int]:
        """Bring the catalog up to date with raw files and results, forget what has vanished.

        Returns
        -------
        ``fixed`` and ``failed``, the problems that are gone and those that stay.
        """
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
        scanned = self.catalog.scan()
        problems = list(scanned.problems)
        if self.features_root.is_dir():
            problems += self.catalog.sync_features(self.features_root).problems
        return {
            "success": not problems,
            "files_processed": sum(scanned.counts.values()),
            "files_added": scanned.counts.get("added", 0),
            "files_updated": scanned.counts.get("changed", 0),
            "errors": [f"{problem.path}: {problem.reason}" for problem in problems],
            "duration": time.perf_counter() - begin,
        }

    def get_statistics(self) -> dict[str, Any]:
        """Return what the catalog holds, in numbers, as :class:`CatalogStats` names them."""
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
