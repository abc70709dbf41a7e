"""Find the catalog: from the command, a configuration nearby, or the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oectflow.errors import CatalogError

if TYPE_CHECKING:
    from oectflow.pipeline.inputs.catalog import Catalog, CatalogConfig

CONFIG_NAME = "catalog_config.yaml"
VARIABLE = "OECTFLOW_CATALOG"

CatalogOption = Annotated[
    str | None,
    typer.Option(
        "--catalog",
        metavar="PATH_OR_URL",
        help="The catalog: a database file, a PostgreSQL URL, or a configuration (.yaml).  By "
        f"default, the {CONFIG_NAME} in this folder or the nearest one above it, else the value of "
        f"the environment variable {VARIABLE}.",
    ),
]


SamplesOption = Annotated[
    Path | None,
    typer.Option(help="Table of devices (CSV, YAML or Excel) with W, L, d and materials."),
]


@dataclass(frozen=True)
class Place:
    """The catalog to use.

    Attributes
    ----------
    database
        A file or URL.
    config
        The configuration that names the database; None if there is no configuration.
    """

    database: str
    config: CatalogConfig | None

    @property
    def exists(self) -> bool:
        """Whether the database exists; always True for a URL, since a server is not asked."""
        return "://" in self.database or Path(self.database).expanduser().exists()

    def open(self, *, make: bool = False) -> Catalog:
        """Open the catalog.

        Parameters
        ----------
        make
            Make the database if it is missing.

        Raises
        ------
        CatalogError
            The database is missing, or cannot be used.
        """
        from oectflow.pipeline.inputs.catalog import Catalog

        if not make and not self.exists:
            raise CatalogError(
                f"{self.database}: there is no such catalog; 'oectflow scan' makes it"
                + ("" if self.config else f": oectflow scan FOLDER --catalog {self.database}")
            )
        return Catalog(self.database, config=self.config)


def find_catalog(given: str | None) -> Place | None:
    """Return the catalog to use, or None if nothing names one.

    Parameters
    ----------
    given
        The option ``--catalog``.

    Raises
    ------
    CatalogError
        The configuration is wrong.
    """
    if given is None:
        for folder in (Path.cwd(), *Path.cwd().parents):
            if (folder / CONFIG_NAME).is_file():
                return _configured(folder / CONFIG_NAME)
        given = os.environ.get(VARIABLE)
    if not given:
        return None
    if "://" not in given and Path(given).suffix.lower() in (".yaml", ".yml"):
        return _configured(Path(given).expanduser())
    return Place(given, None)


def need_catalog(given: str | None) -> Place:
    """Return the catalog to use.

    Raises
    ------
    CatalogError
        Nothing names a catalog.
    """
    place = find_catalog(given)
    if place is None:
        raise CatalogError(
            f"no catalog: name one with --catalog, make a {CONFIG_NAME} with 'oectflow init', or "
            f"set the environment variable {VARIABLE}"
        )
    return place


def _configured(path: Path) -> Place:
    from oectflow.pipeline.inputs.catalog import load_catalog_config

    config = load_catalog_config(path).below(path.absolute().parent)
    return Place(config.database.path, config)
