"""Scans: what is noticed, what is left alone, what cannot stop them."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import pytest

from oectflow.errors import CatalogError
from oectflow.pipeline.inputs.catalog import Catalog, CatalogConfig, ScanReport, facts
from oectflow.pipeline.inputs.catalog.readers import Item, read_all
from oectflow.pipeline.inputs.experiment import Experiment

MakeFile = Callable[..., Path]


def counts(report: ScanReport) -> dict[str, int]:
    return {outcome: n for outcome, n in report.counts.items() if n}


def shift_time(path: Path, seconds: float) -> None:
    status = path.stat()
    os.utime(path, (status.st_atime, status.st_mtime + seconds))


def change_status(path: Path) -> None:
    """Change the content of a file, but not its size."""
    content = path.read_bytes()
    assert b"completed" in content
    path.write_bytes(content.replace(b"completed", b"cancelled"))


def test_scan__rows_of_the_software_in_use_until_now(
    catalog: Catalog, shared_data: Path, expected: dict[str, Any]
) -> None:
    root = shared_data / "oect_infra"
    report = catalog.scan(root)
    assert report.counts["added"] == expected["catalog"]["files_added"]
    # The third file is the first one, written by another writer under the same test id.
    assert report.counts["conflict"] == 1
    for row in expected["catalog"]["rows"]:
        entry = catalog.get(row["test_id"])
        assert entry.path == root / row["raw_file_path"]
        for name in (
            "chip_id",
            "device_id",
            "test_unit_id",
            "description",
            "batch_id",
            "status",
            "completion_percentage",
            "completed_steps",
            "duration",
            "temperature",
            "sample_type",
            "device_type",
            "transfer_steps",
            "transient_steps",
            "total_data_points",
            "raw_file_size",
        ):
            assert getattr(entry, name) == row[name], name
        assert entry.has_transfer_data == bool(row["has_transfer_data"])
        assert entry.has_transient_data == bool(row["has_transient_data"])
        for name in ("created_at", "completed_at"):
            value = getattr(entry, name)
            assert (None if value is None else str(value)) == row[name]
        # That software looked for an attribute that no file has, and stored 0.
        assert row["total_steps"] == 0
        assert entry.total_steps == Experiment(entry.path).attributes["total_steps"]
        assert entry.workflow == expected["catalog"]["workflow_metadata"][row["test_id"]]
        assert entry.content_hash == Experiment(entry.path).content_hash()


def test_scan__second_scan_reads_nothing(
    catalog: Catalog, raw: Path, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        make_file(number)
    assert counts(catalog.scan(raw)) == {"added": 3}
    monkeypatch.setattr("builtins.open", None)
    assert counts(catalog.scan(raw)) == {"unchanged": 3}


def test_scan__two_tests_of_one_device_are_two_experiments(
    catalog: Catalog, raw: Path, make_file: MakeFile
) -> None:
    make_file(1, chip_id="#7", device_number="2")
    make_file(2, chip_id="#7", device_number="2")
    catalog.scan(raw)
    assert len(catalog.search(chip_id="#7", device_id="2")) == 2


def test_scan__new_time_and_old_content_is_unchanged(
    catalog: Catalog, raw: Path, make_file: MakeFile
) -> None:
    path = make_file(1)
    catalog.scan(raw)
    shift_time(path, 60)
    assert counts(catalog.scan(raw)) == {"unchanged": 1}
    entry = catalog.get("test_1")
    assert entry.raw_file_modified is not None
    assert entry.raw_file_modified.timestamp() == pytest.approx(path.stat().st_mtime, abs=1e-6)


def test_scan__new_content_of_the_same_size(
    catalog: Catalog, raw: Path, make_file: MakeFile
) -> None:
    path = make_file(1, status="completed")
    catalog.scan(raw)
    change_status(path)
    assert counts(catalog.scan(raw)) == {"changed": 1}
    assert catalog.get("test_1").status == "cancelled"


def test_scan__change_within_the_tick_of_the_clock(
    catalog: Catalog, raw: Path, make_file: MakeFile
) -> None:
    path = make_file(1, status="completed")
    os.utime(path)
    time = path.stat().st_mtime_ns
    catalog.scan(raw)
    change_status(path)
    # A coarse clock would have given this time again.
    os.utime(path, ns=(time, time))
    assert counts(catalog.scan(raw)) == {"changed": 1}


def test_scan__vanished_and_returned(catalog: Catalog, raw: Path, make_file: MakeFile) -> None:
    path = make_file(1)
    make_file(2)
    catalog.scan(raw)
    hidden = path.rename(raw.parent / "elsewhere")
    assert counts(catalog.scan(raw)) == {"unchanged": 1, "vanished": 1}
    entry = catalog.get("test_1")
    assert (entry.file_state, entry.path) == ("missing", path)
    assert len(catalog.search()) == 2
    assert catalog.search().paths == [raw / "sim-test_2.h5"]
    assert counts(catalog.scan(raw)) == {"unchanged": 1}
    hidden.rename(path)
    assert counts(catalog.scan(raw)) == {"unchanged": 1, "returned": 1}
    assert catalog.get("test_1").file_state == "present"


def test_scan__moved(catalog: Catalog, raw: Path, make_file: MakeFile) -> None:
    path = make_file(1)
    catalog.scan(raw)
    number = catalog.get("test_1").id
    (raw / "archive").mkdir()
    moved = path.rename(raw / "archive" / path.name)
    assert counts(catalog.scan(raw)) == {"moved": 1, "vanished": 1}
    entry = catalog.get("test_1")
    assert (entry.id, entry.path, entry.file_state) == (number, moved, "present")
    assert entry.problem == ""


def test_scan__copy_takes_the_place_of_a_vanished_file(
    catalog: Catalog, raw: Path, make_file: MakeFile
) -> None:
    path = make_file(1, "a-test_1.h5")
    copy = raw / "b-test_1.h5"
    shutil.copy2(path, copy)
    report = catalog.scan(raw)
    assert counts(report) == {"added": 1, "copy": 1}
    assert str(path) in report.problems[0].reason
    assert catalog.search().paths == [path]
    path.unlink()
    assert counts(catalog.scan(raw)) == {"unchanged": 1, "vanished": 1, "moved": 1}
    assert catalog.search().paths == [copy]


def test_scan__copy_takes_the_place_of_a_damaged_file(
    catalog: Catalog, raw: Path, make_file: MakeFile
) -> None:
    path = make_file(1, "a-test_1.h5")
    copy = raw / "b-test_1.h5"
    shutil.copy2(path, copy)
    catalog.scan(raw)
    os.truncate(path, 1000)
    assert counts(catalog.scan(raw)) == {"unchanged": 1, "unreadable": 1, "moved": 1}
    assert catalog.search().paths == [copy]
    assert counts(catalog.scan(raw)) == {"unchanged": 1, "unreadable": 1}
    assert catalog.search().paths == [copy]


def test_scan__same_test_id_and_other_content(
    catalog: Catalog, raw: Path, make_file: MakeFile
) -> None:
    first = make_file(1, "a-test_1.h5")
    make_file(2, "b-test_1.h5", test_id="test_1")
    assert counts(catalog.scan(raw)) == {"added": 1, "conflict": 1}
    assert catalog.search().paths == [first]
    assert counts(catalog.scan(raw)) == {"unchanged": 2}


def test_scan__file_replaced_by_another_experiment(
    catalog: Catalog, raw: Path, make_file: MakeFile
) -> None:
    make_file(1, "x-test_.h5")
    catalog.scan(raw)
    make_file(2, "x-test_.h5", description="longer than before")
    assert counts(catalog.scan(raw)) == {"added": 1}
    assert catalog.get("test_1").file_state == "missing"
    assert "test_2" in catalog.get("test_1").problem
    assert catalog.get("test_2").file_state == "present"
    assert counts(catalog.scan(raw)) == {"unchanged": 1}


def test_scan__bad_files_do_not_stop_it(catalog: Catalog, raw: Path, make_file: MakeFile) -> None:
    make_file(1)
    truncated = make_file(2)
    os.truncate(truncated, truncated.stat().st_size // 2)
    (raw / "empty-test_3.h5").touch()
    (raw / "text-test_4.h5").write_text("no HDF5")
    with h5py.File(raw / "other-test_5.h5", "w") as file:
        file.attrs["what"] = "something else"
    (raw / "link-test_6.h5").symlink_to(raw / "nowhere")
    make_file(7, chip_id="c", completion_percentage=250.0, total_steps="many", created_at="soon")
    make_file(8)
    with h5py.File(raw / "sim-test_8.h5", "r+") as file:
        file.attrs["test_id"] = "test_" + "x" * 300
    report = catalog.scan(raw)
    assert counts(report) == {"added": 2, "unreadable": 4, "foreign": 1}
    reasons = {Path(problem.path).name: problem.reason for problem in report.problems}
    assert set(reasons) == {
        truncated.name,
        "empty-test_3.h5",
        "text-test_4.h5",
        "link-test_6.h5",
        "sim-test_8.h5",
    }
    assert "truncated" in reasons[truncated.name]
    assert "leads nowhere" in reasons["link-test_6.h5"]
    assert "305 characters" in reasons["sim-test_8.h5"]
    entry = catalog.get("test_7")
    assert (entry.completion_percentage, entry.created_at) == (None, None)
    assert entry.total_steps == entry.transfer_steps + entry.transient_steps == 3
    assert "truncated" in str(report)


def test_scan__text_that_no_database_stores(
    catalog: Catalog, raw: Path, make_file: MakeFile
) -> None:
    make_file(1, description=b"a\xff\xfeb", batch_id="b", status="paused\u00a0")
    make_file(2, description="x" * 5000, chip_id="稳定性" * 50)
    assert counts(catalog.scan(raw)) == {"added": 2}
    assert catalog.get("test_1").description.startswith("a")
    assert catalog.get("test_2").chip_id == ("稳定性" * 50)[:60]


def test_scan__damaged_file_is_mended(catalog: Catalog, raw: Path, make_file: MakeFile) -> None:
    path = make_file(1)
    good = path.read_bytes()
    catalog.scan(raw)
    path.write_bytes(good[:1000])
    assert counts(catalog.scan(raw)) == {"unreadable": 1}
    entry = catalog.get("test_1")
    assert entry.file_state == "unreadable"
    assert "truncated" in entry.problem
    assert catalog.search().paths == []
    path.write_bytes(good)
    assert counts(catalog.scan(raw)) == {"returned": 1}
    assert catalog.get("test_1").problem == ""


def test_scan__file_that_is_being_written(
    catalog: Catalog, raw: Path, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_file(1)
    read = facts.content_hash
    touched = []

    def content_hash(name: str) -> str:
        # Somebody writes while we read: twice, then always.
        touched.append(name)
        if len(touched) < 3 or len(touched) > 3:
            shift_time(path, 1)
        return read(name)

    monkeypatch.setattr(facts, "content_hash", content_hash)
    assert counts(catalog.scan(raw)) == {"added": 1}
    shift_time(path, 1)
    report = catalog.scan(raw)
    assert counts(report) == {"unreadable": 1}
    assert "is being written" in report.problems[0].reason


def test_scan__workflow_that_is_no_json(catalog: Catalog, raw: Path, make_file: MakeFile) -> None:
    path = make_file(1)
    with h5py.File(path, "r+") as file:
        del file["raw/workflow"]
        file["raw/workflow"] = "{broken"
    report = catalog.scan(raw)
    assert counts(report) == {"added": 1}
    assert "workflow" in report.problems[0].reason
    assert catalog.get("test_1").workflow == {}


def test_scan__folder_that_cannot_be_listed_hides_nothing(
    catalog: Catalog, raw: Path, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_file(1, "locked/sim-test_1.h5")
    catalog.scan(raw)
    listed = os.scandir

    def scandir(folder: str) -> Any:
        if folder.endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return listed(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    report = catalog.scan(raw)
    assert counts(report) == {}
    assert [problem.path for problem in report.problems] == [str(raw / "locked")]
    assert catalog.get("test_1").file_state == "present"


def test_scan__root_that_is_gone_changes_nothing(
    catalog: Catalog, raw: Path, make_file: MakeFile
) -> None:
    make_file(1)
    catalog.scan(raw)
    with pytest.raises(CatalogError, match="no such folder"):
        catalog.scan(raw / "absent")
    raw.rename(raw.parent / "unmounted")
    with pytest.raises(CatalogError, match="no such folder"):
        catalog.scan(raw)
    assert catalog.get("test_1").file_state == "present"


def test_scan__only_below_its_root(catalog: Catalog, raw: Path, make_file: MakeFile) -> None:
    make_file(1, "a/sim-test_1.h5")
    other = make_file(2, "ab/sim-test_2.h5")
    make_file(3, "A/sim-test_3.h5")
    catalog.scan(raw)
    other.unlink()
    assert counts(catalog.scan(raw / "a")) == {"unchanged": 1}
    assert catalog.get("test_2").file_state == "present"


def test_scan__names_and_depth(url: str, raw: Path, make_file: MakeFile) -> None:
    make_file(1)
    make_file(2, "a/b/sim-test_2.h5")
    make_file(3, "a/b/c/sim-test_3.h5")
    make_file(4, "_hidden/sim-test_4.h5")
    make_file(5, ".sim-test_5.h5")
    make_file(6, "another.h5")
    make_file(7, "sim-feat_7.h5")
    config = CatalogConfig.model_validate({"discovery": {"max_depth": 2}})
    with Catalog(url, config=config) as catalog:
        report = catalog.scan(raw)
        assert catalog.search(order_by="test_id", order_desc=False).test_ids == ["test_1", "test_2"]
    assert report.n_unmatched == 1
    assert "not named like '*-test_*.h5': 1 " in str(report)


def test_scan__flat_folder_only(url: str, raw: Path, make_file: MakeFile) -> None:
    make_file(1)
    make_file(2, "a/sim-test_2.h5")
    config = CatalogConfig.model_validate({"discovery": {"recursive": False}})
    with Catalog(url, config=config) as catalog:
        assert counts(catalog.scan(raw)) == {"added": 1}


def test_scan__never_writes_a_raw_file(catalog: Catalog, raw: Path, make_file: MakeFile) -> None:
    paths = [make_file(number) for number in range(2)]

    def state() -> list[tuple[str, int]]:
        return [
            (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
            for path in paths
        ]

    before = state()
    for path in paths:
        path.chmod(0o444)
    catalog.scan(raw)
    catalog.scan(raw)
    assert state() == before
    assert sorted(raw.iterdir()) == sorted(paths)


def test_scan__says_how_far_it_is(catalog: Catalog, raw: Path, make_file: MakeFile) -> None:
    for number in range(60):
        make_file(number)
    calls: list[tuple[int, int]] = []
    catalog.scan(raw, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(50, 60), (60, 60)]


def test_read_all__in_processes_as_in_one_but_for_a_file_that_kills_its_process(
    raw: Path, make_file: MakeFile
) -> None:
    paths = [str(make_file(number)) for number in range(22)]
    alone = list(read_all([(path, None) for path in paths], 1))
    # Such a path stands for a file on which the HDF5 library crashes.
    items: list[Item] = [(_Killer(path) if i == 21 else path, None) for i, path in enumerate(paths)]
    read = list(read_all(items, 2))
    assert [one.path for one in read] == paths
    assert (read[21].kind, read[21].columns) == ("unreadable", {})
    assert "died" in read[21].reason
    for found, wanted in zip(read[:21], alone[:21], strict=True):
        assert replace(found, scanned_ns=0) == replace(wanted, scanned_ns=0)


class _Killer(str):
    """A path that ends the process in which it arrives."""

    def __reduce__(self) -> Any:
        return os._exit, (1,)


def test_scan__wrong_number_of_workers(catalog: Catalog, raw: Path) -> None:
    with pytest.raises(CatalogError, match="workers=0"):
        catalog.scan(raw, workers=0)


def test_scan__keeps_what_only_the_catalog_knows(
    catalog: Catalog, raw: Path, make_file: MakeFile
) -> None:
    path = make_file(1, device_type="N", temperature=300.0)
    catalog.scan(raw)
    with h5py.File(path, "r+") as file:
        del file.attrs["device_type"]
        file.attrs["temperature"] = 310.0
    catalog.scan(raw)
    entry = catalog.get("test_1")
    assert (entry.device_type, entry.temperature) == ("N", 310.0)
