"""The catalog of a manager, which also answers to the names that notebooks call it by."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from oectflow.pipeline.inputs.catalog import (
    Catalog,
    CatalogConfig,
    ScanReport,
    SearchResult,
    load_catalog_config,
)

CONFIG_NAME = "catalog_config.yaml"


class ManagedCatalog(Catalog):
    """A :class:`Catalog` under the names that notebooks use."""

    def scan_and_index(self, **_: Any) -> ScanReport:
        """Bring the catalog up to date with ``roots.raw_data``; see :meth:`Catalog.scan`."""
        return self.scan()

    def find_experiments(self, **filters: Any) -> SearchResult:
        """Find experiments; see :meth:`Catalog.search`."""
        return self.search(**filters)

    def validate_data_integrity(self) -> dict[str, list[str]]:
        """Return all problems by kind; see :meth:`Catalog.validate`."""
        problems: dict[str, list[str]] = {}
        for problem in self.validate().problems:
            text = f"{problem.subject}: {problem.message}"
            problems.setdefault(problem.kind, []).append(text)
        return problems

    def get_statistics(self) -> dict[str, Any]:
        """Return what the catalog holds, in numbers, as :class:`CatalogStats` names them."""
        return asdict(self.stats())


def find_config(
    source: str | os.PathLike[str] | Mapping[str, Any] | CatalogConfig,
) -> CatalogConfig:
    """Return the configuration that is meant, all its places absolute.

    Parameters
    ----------
    source
        A YAML file; its content; or a folder: the ``catalog_config.yaml`` in it if there is one,
        else its raw files are in ``raw`` (or in the folder itself, if it has no ``raw``), results
        in ``features_v2``, and the database is ``catalog.db``.

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
