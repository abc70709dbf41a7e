"""Validation, backup, vacuum, statistics."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest

from oectflow.errors import CatalogError
from oectflow.pipeline.inputs.catalog import Catalog

MakeFile = Callable[..., Path]


def test_validate__sound(catalog: Catalog, raw: Path, make_file: MakeFile) -> None:
    make_file(1)
    catalog.scan(raw)
    report = catalog.validate(content=True)
    assert report.ok
    assert str(report).endswith("no problem found")


def test_validate__every_kind_of_problem(catalog: Catalog, raw: Path, make_file: MakeFile) -> None:
    paths = [make_file(number) for number in range(5)]
    make_file(9, "zz-test_0.h5", test_id="test_0")
    (raw / "empty-test_x.h5").touch()
    catalog.scan(raw)
    paths[1].unlink()
    with h5py.File(paths[2], "r+") as file:
        file.attrs["note"] = "new"
    # A disk that rots changes a byte, but neither size nor time.
    status = paths[3].stat()
    content = bytearray(paths[3].read_bytes())
    content[-1] ^= 1
    paths[3].write_bytes(content)
    os.utime(paths[3], ns=(status.st_atime_ns, status.st_mtime_ns))

    kinds = {(p.kind, Path(p.subject).name) for p in catalog.validate().problems}
    expected = {
        ("missing", "test_1"),
        ("changed", "test_2"),
        ("conflict", "zz-test_0.h5"),
        ("unreadable", "empty-test_x.h5"),
    }
    assert kinds == expected
    report = catalog.validate(content=True)
    kinds = {(p.kind, Path(p.subject).name) for p in report.problems}
    assert kinds == expected | {("content", "test_3")}
    assert "1 content" in str(report)


def test_validate__damaged_database(tmp_path: Path, raw: Path, make_file: MakeFile) -> None:
    path = tmp_path / "catalog.db"
    with Catalog(path) as catalog:
        for number in range(50):
            make_file(number)
        catalog.scan(raw)
        catalog.vacuum()
    content = bytearray(path.read_bytes())
    # Everything but the schema, so that it can still be opened.
    for start in range(8192, len(content) - 200, 4096):
        content[start + 100 : start + 200] = bytes(100)
    path.write_bytes(content)
    with Catalog(path) as catalog:
        try:
            kinds = {p.kind for p in catalog.validate().problems}
        except CatalogError as error:
            assert "restore a backup" in str(error)  # noqa: PT017 - either answer is right
        else:
            assert "database" in kinds


def test_backup__is_a_catalog(
    catalog: Catalog, raw: Path, make_file: MakeFile, tmp_path: Path
) -> None:
    for number in range(3):
        make_file(number)
    (raw / "empty-test_x.h5").touch()
    catalog.scan(raw)
    path = catalog.backup(tmp_path / "backup.db")
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith((".", "b"))) == [
        "backup.db"
    ]
    with Catalog(path) as copy:
        assert list(copy.search()) == list(catalog.search())
        assert copy.stats().by_status == catalog.stats().by_status
        assert [p.kind for p in copy.validate().problems] == ["unreadable"]
        assert copy.scan(raw).counts["unchanged"] == 3
        make_file(4)
        assert copy.scan(raw).counts["added"] == 1
    with pytest.raises(CatalogError, match="exists"):
        catalog.backup(path)


def test_vacuum__drops_what_nothing_refers_to(
    catalog: Catalog, raw: Path, make_file: MakeFile
) -> None:
    for number in range(3):
        make_file(number, cycles=number + 2)
    catalog.scan(raw)
    assert catalog.stats().n_workflows == 3
    (raw / "sim-test_0.h5").unlink()
    catalog.scan(raw)
    assert catalog.remove_missing() == 1
    assert catalog.stats().n_experiments == 2
    catalog.vacuum()
    assert catalog.stats().n_workflows == 2
    assert catalog.validate().ok
    assert catalog.search(workflow_step_1_2_param_cycles=[3, 4]).test_ids


def test_stats(catalog: Catalog, raw: Path, make_file: MakeFile) -> None:
    make_file(1, chip_id="#1", device_number="1", status="completed", device_type="N")
    make_file(2, chip_id="#1", device_number="1", status="running")
    make_file(3, chip_id="#2", device_number="1", status="completed")
    catalog.scan(raw)
    stats = catalog.stats()
    assert (stats.n_experiments, stats.n_chips, stats.n_devices) == (3, 2, 2)
    assert stats.by_status == {"completed": 2, "running": 1}
    assert stats.by_device_type == {"unknown": 2, "N": 1}
    assert stats.by_chip == {"#1": 2, "#2": 1}
    assert stats.by_file_state == {"present": 3}
    assert (stats.n_transfer_steps, stats.n_transient_steps) == (6, 3)
    assert stats.raw_bytes == sum(path.stat().st_size for path in raw.iterdir())
    assert stats.database_bytes > 0
    assert "3 experiments on 2 devices of 2 chips" in str(stats)


def test_stats__empty(catalog: Catalog) -> None:
    assert catalog.stats().n_experiments == 0
    assert "0 experiments" in str(catalog.stats())
