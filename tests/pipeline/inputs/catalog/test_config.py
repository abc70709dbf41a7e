"""``catalog_config.yaml``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from oectflow.errors import CatalogError
from oectflow.pipeline.inputs.catalog import Catalog, CatalogConfig, load_catalog_config

# Every key that configuration files in use have.
EVERYTHING = """
roots:
  raw_data: "data/raw"
  features: "data/features"
  features_v2: "data/features_v2"
database:
  path: "data/catalog.db"
  auto_backup: true
  backup_interval: 86400
  connection_pool_size: 5
sync:
  auto_sync: false
  auto_sync_interval: 300
  conflict_strategy: keep_newer
  batch_size: 50
  timeout: 60
discovery:
  recursive: true
  max_depth: 3
  parallel_workers: 8
  file_patterns:
    raw: "*-test_*.h5"
    features: "*-feat_*.h5"
  ignore_patterns: ["*.tmp", ".*", "_*"]
logging:
  level: INFO
  file: logs/catalog.log
  rotation: "10 MB"
  retention: 30
"""


def test_load__every_key(tmp_path: Path) -> None:
    path = tmp_path / "catalog_config.yaml"
    path.write_text(EVERYTHING)
    config = load_catalog_config(path)
    assert config.database.path == "data/catalog.db"
    assert config.discovery.max_depth == 3
    assert config.discovery.parallel_workers == 8


def test_load__defaults(tmp_path: Path) -> None:
    path = tmp_path / "catalog_config.yaml"
    path.write_text("roots:\n")
    config = load_catalog_config(path)
    assert config == CatalogConfig()
    assert config.roots.raw_data == "data/raw"
    assert config.discovery.file_patterns.raw == "*-test_*.h5"
    assert config.discovery.ignore_patterns == ("*.tmp", ".*", "_*")
    written = CatalogConfig().write(tmp_path / "written.yaml")
    assert load_catalog_config(written) == config
    with pytest.raises(CatalogError, match="exists"):
        config.write(written)


def test_load__environment_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_DATA", "/srv/lab")
    config = load_catalog_config({"roots": {"raw_data": "${LAB_DATA}/raw"}})
    assert config.roots.raw_data == "/srv/lab/raw"
    with pytest.raises(CatalogError, match="environment variable NOT_THERE"):
        load_catalog_config({"database": {"path": "${NOT_THERE}/catalog.db"}})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"root": {}}, "unknown key 'root'; did you mean 'roots'"),
        ({"roots": {"raw_dta": "x"}}, "unknown key 'roots.raw_dta'; did you mean 'raw_data'"),
        ({"discovery": {"file_patterns": {"row": "x"}}}, "did you mean 'raw'"),
        ({"discovery": {"max_depth": -1}}, "discovery.max_depth=-1"),
        ({"sync": {"conflict_strategy": "newest"}}, "sync.conflict_strategy='newest'"),
        ({"database": "catalog.db"}, "database='catalog.db'"),
    ],
)
def test_load__mistakes(content: dict[str, Any], message: str) -> None:
    with pytest.raises(CatalogError) as caught:
        load_catalog_config(content)
    assert message in str(caught.value)


def test_load__files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"CatalogConfig\(\).write"):
        load_catalog_config(tmp_path / "absent.yaml")
    path = tmp_path / "bad.yaml"
    for text, message in (("a: [", "not valid: while parsing"), ("- a", "expected keys")):
        path.write_text(text)
        with pytest.raises(CatalogError, match=message):
            load_catalog_config(path)


def test_from_config__paths_from_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "raw").mkdir(parents=True)
    (tmp_path / "data" / "features_v2").mkdir()
    CatalogConfig().write("catalog_config.yaml")
    with Catalog.from_config() as catalog:
        assert catalog.name == str(tmp_path / "data" / "catalog.db")
        assert catalog.scan().root == str(tmp_path / "data" / "raw")
        assert catalog.sync_features().folder == str(tmp_path / "data" / "features_v2")
