"""The catalog of a manager, also under the names that existing notebooks use."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from oectflow.pipeline.inputs.catalog import (
    Catalog,
    CatalogConfig,
    ScanReport,
    SearchResult,
    load_catalog_config,
)

CONFIG_NAME = "catalog_config.yaml"


#: Kinds of problems, under the names of existing notebooks.
OLD_KINDS = (
    *("missing_raw_files", "missing_feature_files", "orphaned_records", "database_errors"),
    "metadata_inconsistencies",
)
_OLD_KIND = {
    "missing": "missing_raw_files",
    "results missing": "missing_feature_files",
    "database": "database_errors",
    "changed": "metadata_inconsistencies",
    "content": "metadata_inconsistencies",
}


class IndexReport(ScanReport):
    """The report of a scan, also under the names that existing notebooks use."""

    @classmethod
    def of(cls, reports: Sequence[ScanReport]) -> IndexReport:
        """Return several reports as one."""
        counts: Counter[str] = Counter()
        for report in reports:
            counts.update(report.counts)
        return cls(
            ", ".join(report.root for report in reports),
            dict(counts),
            [problem for report in reports for problem in report.problems],
            sum(report.n_unmatched for report in reports),
            reports[0].pattern,
            sum(report.seconds for report in reports),
        )

    @property
    def is_successful(self) -> bool:
        """Whether every file could be used."""
        return self.ok

    @property
    def files_processed(self) -> int:
        """Number of files."""
        return sum(self.counts.values())

    @property
    def files_added(self) -> int:
        """Number of new experiments."""
        return self.counts.get("added", 0)

    @property
    def files_updated(self) -> int:
        """Number of files that were read again."""
        return self.counts.get("changed", 0)

    @property
    def errors(self) -> list[str]:
        """Files and folders that cannot be used, each with its reason."""
        return [f"{problem.path}: {problem.reason}" for problem in self.problems]

    @property
    def duration(self) -> float:
        """Wall time, in s."""
        return self.seconds


class ManagedCatalog(Catalog):
    """A :class:`Catalog` under the names that notebooks use."""

    def scan_and_index(
        self, scan_paths: Sequence[str | os.PathLike[str]] | None = None, incremental: bool = True
    ) -> IndexReport:
        """Update the catalog from the raw files; see :meth:`Catalog.scan`.

        Parameters
        ----------
        scan_paths
            Folders, by default ``roots.raw_data``.
        incremental
            Skip a file whose size and time are known; False reads every file.

        Returns
        -------
        The report of the folder, or one report of all folders.
        """
        verify: Literal["identity", "content"] = "identity" if incremental else "content"
        paths: Sequence[str | os.PathLike[str] | None] = scan_paths or [None]
        return IndexReport.of([self.scan(path, verify=verify) for path in paths])

    def find_experiments(self, **filters: Any) -> SearchResult:
        """Find experiments; see :meth:`Catalog.search`."""
        return self.search(**filters)

    def validate_data_integrity(self) -> dict[str, list[str]]:
        """Return all problems by kind; see :meth:`Catalog.validate`.

        Returns
        -------
        Lines by kind of problem.  Every kind of ``OLD_KINDS`` is there, even if it is empty.
        """
        problems: dict[str, list[str]] = {kind: [] for kind in OLD_KINDS}
        for problem in self.validate().problems:
            text = f"{problem.subject}: {problem.message}"
            problems.setdefault(_OLD_KIND.get(problem.kind, problem.kind), []).append(text)
        return problems

    def get_statistics(self) -> dict[str, Any]:
        """Return the contents of the catalog in numbers, under the names of :class:`CatalogStats`.

        Returns
        -------
        These numbers, and the groups ``overview``, ``files``, ``storage`` and ``data`` of existing
        notebooks.
        """
        stats = self.stats()
        n, completed = stats.n_experiments, stats.by_status.get("completed", 0)
        old = {
            "overview": {
                "total_experiments": n,
                "completed_experiments": completed,
                "completion_rate": 100 * completed / n if n else 0.0,
                "unique_chips": stats.n_chips,
                "unique_batches": len({entry.batch_id for entry in self.search()} - {None}),
            },
            "files": {
                "total_raw_files": n - stats.by_file_state.get("missing", 0),
                "total_feature_files": stats.n_with_features,
                "feature_coverage": 100 * stats.n_with_features / n if n else 0.0,
                "missing_feature_files": n - stats.n_with_features,
            },
            "storage": {"total_raw_size": stats.raw_bytes},
            "data": {
                "total_data_points": sum(e.total_data_points or 0 for e in self.search()),
            },
        }
        return asdict(stats) | old


def find_config(
    source: str | os.PathLike[str] | Mapping[str, Any] | CatalogConfig,
) -> CatalogConfig:
    """Return the configuration, with absolute paths.

    Parameters
    ----------
    source
        A YAML file, its content, or a folder.  If the folder has a ``catalog_config.yaml``, this is
        read.  If not, raw files are in ``raw`` (or in the folder itself, if it has no ``raw``),
        results in ``features_v2``, and the database is ``catalog.db``.

    Raises
    ------
    CatalogError
        There is no such file, or it is wrong.
    """
    if isinstance(source, CatalogConfig):
        config = source
    elif isinstance(source, Mapping):
        config = load_catalog_config(source)
    else:
        path = Path(source).expanduser()
        inside = path / CONFIG_NAME
        if path.is_dir() and not inside.exists():
            config = _of_folder(path)
        else:
            config = load_catalog_config(inside if path.is_dir() else path)
    roots = {
        name: str(Path(root).expanduser().absolute())
        for name, root in config.roots.model_dump().items()
    }
    return config.model_copy(update={"roots": config.roots.model_copy(update=roots)})


def _of_folder(folder: Path) -> CatalogConfig:
    raw = folder / "raw"
    return load_catalog_config(
        {
            "roots": {
                "raw_data": str(raw if raw.is_dir() else folder),
                "features": str(folder / "features"),
                "features_v2": str(folder / "features_v2"),
            },
            "database": {"path": str(folder / "catalog.db")},
        }
    )
