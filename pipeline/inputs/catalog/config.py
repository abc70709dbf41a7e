"""``catalog_config.yaml``: where the raw files and the database are, and how files are found.

Every key of existing configuration files is accepted.  An unknown key is an error that names the
nearest key.  ``roots``, ``database.path`` and ``discovery`` have an effect.  The sections ``sync``
and ``logging`` and the other keys of ``database`` are checked, but have no effect: all content
comes from the raw files, which are never changed, so there is nothing to reconcile.

Relative paths are relative to the current directory, as they have always been.  ``${NAME}`` stands
for an environment variable.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from oectflow.config_file import read_config_file, shorten
from oectflow.errors import CatalogError, did_you_mean

_VARIABLE = re.compile(r"\$\{(\w+)\}")
_HEADER = """\
# roots: folders of the raw HDF5 files, and of the results (features_v2).
# database.path: a SQLite file, or postgresql+psycopg://user@host/database for a group.
# discovery: which files are raw files.  ${NAME} stands for an environment variable.
"""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Roots(_Section):
    """Folders of raw files, of old feature files, and of the results."""

    raw_data: str = "data/raw"
    features: str = "data/features"
    features_v2: str = "data/features_v2"

    @model_validator(mode="before")
    @classmethod
    def _other_name(cls, given: Any) -> Any:
        """Accept ``features_v1``, the name of ``features`` in published examples."""
        if isinstance(given, dict) and "features_v1" in given and "features" not in given:
            given = dict(given)
            given["features"] = given.pop("features_v1")
        return given


class Database(_Section):
    """``path`` is a SQLite file or a PostgreSQL URL; the rest has no effect."""

    path: str = "data/catalog.db"
    auto_backup: bool = True
    backup_interval: int = 86400
    connection_pool_size: int = 10


class Sync(_Section):
    """Checked, without effect."""

    auto_sync: bool = True
    auto_sync_interval: int = 300
    conflict_strategy: Literal["timestamp", "manual", "ignore", "keep_newer"] = "timestamp"
    batch_size: int = 100
    timeout: int = 300


class FilePatterns(_Section):
    """Names of raw files, and of feature files beside them."""

    raw: str = "*-test_*.h5"
    features: str = "*-feat_*.h5"


class Discovery(_Section):
    """How raw files are found.

    ``recursive`` and ``max_depth`` say how far to search below the root; ``parallel_workers`` is
    the number of processes that read new files; files and folders whose names match one of
    ``ignore_patterns`` are skipped.
    """

    recursive: bool = True
    max_depth: int = Field(default=10, ge=0)
    parallel_workers: int = Field(default=4, ge=1)
    file_patterns: FilePatterns = FilePatterns()
    ignore_patterns: tuple[str, ...] = ("*.tmp", ".*", "_*")


class Logging(_Section):
    """Checked, without effect."""

    level: str = "INFO"
    file: str | None = None
    rotation: str | int | None = None
    retention: str | int | None = None


class CatalogConfig(_Section):
    """A whole configuration."""

    roots: Roots = Roots()
    database: Database = Database()
    sync: Sync = Sync()
    discovery: Discovery = Discovery()
    logging: Logging = Logging()

    def below(self, folder: Path) -> CatalogConfig:
        """Return the configuration with its relative paths starting at a folder.

        The paths of a configuration found above the current folder start at its own folder.
        """

        def place(path: str) -> str:
            return path if "://" in path else str(folder / Path(path).expanduser())

        roots = {name: place(path) for name, path in self.roots.model_dump().items()}
        database = {"path": place(self.database.path)}
        return self.model_copy(
            update={
                "roots": self.roots.model_copy(update=roots),
                "database": self.database.model_copy(update=database),
            }
        )

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Write the configuration as YAML to a file that does not exist yet.

        Keys without effect are left out, unless they are set.

        Raises
        ------
        CatalogError
            The file exists already, or cannot be written.
        """
        target = Path(path)
        content = self.model_dump(mode="json")
        plain = CatalogConfig().model_dump(mode="json")
        for section in ("sync", "logging"):
            if content[section] == plain[section]:
                del content[section]
        for name in ("auto_backup", "backup_interval", "connection_pool_size"):
            if content["database"][name] == plain["database"][name]:
                del content["database"][name]
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        try:
            with target.open("x", encoding="utf-8") as file:
                file.write(_HEADER + text)
        except FileExistsError:
            raise CatalogError(f"{target}: exists; edit it, or choose another name") from None
        except OSError as error:
            raise CatalogError(f"{target}: cannot be written ({error.strerror})") from error
        return target


#: The model below each key, to name the keys that were possible.
_SECTIONS: dict[str, type[BaseModel]] = {
    "roots": Roots,
    "database": Database,
    "sync": Sync,
    "discovery": Discovery,
    "file_patterns": FilePatterns,
    "logging": Logging,
}


def load_catalog_config(
    source: str | os.PathLike[str] | Mapping[str, Any] = "catalog_config.yaml",
) -> CatalogConfig:
    """Read a configuration.

    Parameters
    ----------
    source
        A YAML file, or its content as a dict.

    Returns
    -------
    The configuration, with defaults for missing keys.

    Raises
    ------
    CatalogError
        The file cannot be read, a key is unknown, or a value is wrong.
    """
    if isinstance(source, Mapping):
        name, content = "catalog configuration", dict(source)
    else:
        name, content = str(source), _read_yaml(Path(source))
    try:
        return CatalogConfig.model_validate(_expand(name, content))
    except ValidationError as error:
        lines = [_explain(entry["loc"], entry) for entry in error.errors()]
        more = f"; and {len(lines) - 5} more" if len(lines) > 5 else ""
        raise CatalogError(f"{name}: {'; '.join(lines[:5])}{more}") from None


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = read_config_file(path, CatalogError)
    except FileNotFoundError:
        raise CatalogError(
            f"{path}: there is no such file; CatalogConfig().write({str(path)!r}) or "
            "'oectflow init' makes one"
        ) from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise CatalogError(f"{path}: expected keys such as 'roots:' and 'database:'")
    return content


def _expand(name: str, value: Any) -> Any:
    """Replace environment variables in all texts; leave out sections that are empty."""
    if isinstance(value, dict):
        filled = {key: part for key, part in value.items() if part is not None}
        return {str(key): _expand(name, part) for key, part in filled.items()}
    if isinstance(value, list):
        return [_expand(name, part) for part in value]
    if not isinstance(value, str):
        return value
    for variable in _VARIABLE.findall(value):
        if variable not in os.environ:
            raise CatalogError(
                f"{name}: the environment variable {variable[:80]} of {shorten(value)} is not set"
            )
    return _VARIABLE.sub(lambda match: os.environ[match[1]], value)


def _explain(location: tuple[int | str, ...], entry: Any) -> str:
    words = [str(part)[:80] for part in location]
    if entry["type"] == "extra_forbidden":
        model = _SECTIONS[words[-2]] if len(words) > 1 else CatalogConfig
        hint = did_you_mean(words[-1], model.model_fields)
        return f"unknown key {'.'.join(words)!r}{hint}"
    return f"{'.'.join(words)}={shorten(entry['input'])}: {entry['msg']}"
