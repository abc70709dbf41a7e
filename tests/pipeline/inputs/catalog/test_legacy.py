"""The catalog of the software in use until now: taken over, never altered."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from oectflow.errors import CatalogError
from oectflow.pipeline.inputs.catalog import Catalog

SYNC_HISTORY = "CREATE TABLE sync_history (id INTEGER PRIMARY KEY, experiment_id INTEGER)"


@pytest.fixture
def old(shared_data: Path, expected: dict[str, Any], tmp_path: Path) -> Path:
    """A catalog with the rows that that software writes for the reference files."""
    raw = tmp_path / "data" / "raw"
    raw.mkdir(parents=True)
    rows = [dict(row) for row in expected["catalog"]["rows"]]
    for row in rows:
        shutil.copy(shared_data / "oect_infra" / row["raw_file_path"], raw)
        row["id"] += 40
        flat = expected["catalog"]["workflow_metadata"][row["test_id"]]
        row["workflow_metadata"] = json.dumps(flat)
    rows[0]["v2_feature_metadata"] = json.dumps(expected["v2_feature_metadata_in_db"])
    rows[0]["device_type"] = "N"
    path = tmp_path / "data" / "catalog.db"
    with closing(sqlite3.connect(path)) as connection:
        columns = ", ".join(f'"{name}"' for name in rows[0])
        connection.execute(f"CREATE TABLE experiments ({columns}, PRIMARY KEY (id))")
        connection.execute(SYNC_HISTORY)
        marks = ", ".join("?" * len(rows[0]))
        connection.executemany(
            f"INSERT INTO experiments VALUES ({marks})", [tuple(row.values()) for row in rows]
        )
        connection.commit()
    return path


def state(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() + str(path.stat().st_mtime_ns)
        for path in folder.iterdir()
        if path.is_file() and "oectflow" not in path.name
    }


def test_import_legacy__rows(catalog: Catalog, old: Path, expected: dict[str, Any]) -> None:
    before = state(old.parent)
    report = catalog.import_legacy(old)
    assert (report.n_imported, report.n_known, report.n_without_file) == (2, 0, 0)
    assert report.problems == []
    assert state(old.parent) == before
    for row in expected["catalog"]["rows"]:
        entry = catalog.get(row["test_id"])
        assert entry.id == row["id"] + 40
        assert entry.path == old.parent / "raw" / row["raw_file_path"]
        assert entry.file_state == "unscanned"
        for name in ("chip_id", "device_id", "batch_id", "status", "completion_percentage"):
            assert getattr(entry, name) == row[name]
        assert str(entry.created_at) == row["created_at"]
        assert entry.workflow == expected["catalog"]["workflow_metadata"][row["test_id"]]
    legacy = catalog.get(41).legacy
    assert json.loads(legacy["v2_feature_metadata"]) == expected["v2_feature_metadata_in_db"]


def test_import_legacy__then_scan(catalog: Catalog, old: Path) -> None:
    catalog.import_legacy(old)
    assert catalog.scan(old.parent / "raw").counts["changed"] == 2
    entry = catalog.get(41)
    assert (entry.file_state, entry.total_steps, entry.device_type) == ("present", 10, "N")
    report = catalog.import_legacy(old)
    assert (report.n_imported, report.n_known) == (0, 2)
    assert catalog.get(41) == entry
    assert "0 imported, 2 known" in str(report)


def test_import_legacy__next_number_is_new(catalog: Catalog, old: Path) -> None:
    catalog.import_legacy(old)
    third = Path(next((old.parent / "raw").iterdir()))
    with sqlite3.connect(old) as connection:
        connection.execute("UPDATE experiments SET test_id = test_id || 'x', id = id - 1")
    connection.close()
    assert third.is_file()
    report = catalog.import_legacy(old)
    assert report.n_imported == 2
    assert sorted(entry.id for entry in catalog.search()) == [40, 41, 42, 43]


def test_import_legacy__without_raw_files(catalog: Catalog, old: Path, tmp_path: Path) -> None:
    report = catalog.import_legacy(old, tmp_path / "elsewhere")
    assert report.n_without_file == 2
    assert [entry.file_state for entry in catalog.search()] == ["missing", "missing"]
    assert catalog.search().paths == []
    # They are found by their test ids, wherever they are.
    assert catalog.scan(old.parent / "raw").counts["moved"] == 2


def test_import_legacy__odd_rows(catalog: Catalog, old: Path) -> None:
    with sqlite3.connect(old) as connection:
        connection.execute("UPDATE experiments SET test_id = NULL, workflow_metadata = '{oops'")
        connection.execute("UPDATE experiments SET created_at = 'x', completion_percentage = 'y'")
        connection.execute("INSERT INTO experiments (id) VALUES (99)")
    connection.close()
    report = catalog.import_legacy(old)
    assert report.n_imported == 2
    assert "neither" in report.problems[0].reason
    assert catalog.get(41).test_id == catalog.get(41).path.stem
    assert catalog.get(41).created_at is None


def test_import_legacy__journal_that_was_not_merged(catalog: Catalog, old: Path) -> None:
    connection = sqlite3.connect(old)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("UPDATE experiments SET status = 'failed'")
    connection.commit()
    # As the disk looks while that software runs: the change is in the log beside the file.
    copies = {path: path.read_bytes() for path in old.parent.iterdir() if path.is_file()}
    connection.close()
    for path, content in copies.items():
        if not path.name.endswith("-shm"):
            path.write_bytes(content)
    before = state(old.parent)
    assert set(before) == {"catalog.db", "catalog.db-wal"}
    catalog.import_legacy(old)
    assert [entry.status for entry in catalog.search()] == ["failed", "failed"]
    assert state(old.parent) == before


def test_import_legacy__something_else(catalog: Catalog, tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE experiments (id INTEGER)")
    connection.close()
    with pytest.raises(CatalogError, match="no catalog of the earlier software"):
        catalog.import_legacy(path)
    with pytest.raises(CatalogError, match="no such file"):
        catalog.import_legacy(tmp_path / "absent.db")
    path.write_text("text")
    with pytest.raises(CatalogError, match="cannot be read as SQLite"):
        catalog.import_legacy(path)


def test_catalog__opens_an_old_one_beside_it(old: Path) -> None:
    before = state(old.parent)
    with Catalog(old) as catalog:
        assert catalog.name == str(old.with_name("catalog.oectflow.db"))
        assert len(catalog.search()) == 2
        catalog.scan(old.parent / "raw")
    assert state(old.parent) == before
    with sqlite3.connect(old) as connection:
        connection.execute("UPDATE experiments SET id = 7, test_id = 'test_new' WHERE id = 41")
    connection.close()
    with Catalog(old) as catalog:
        assert len(catalog.search()) == 3
        assert catalog.get("test_new").id == 7
