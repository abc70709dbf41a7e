"""Bookkeeping of features: what runs write, and what a folder of results says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from oectflow.errors import CatalogError
from oectflow.extractors.base import Variable
from oectflow.pipeline.inputs.catalog import Catalog
from oectflow.pipeline.inputs.experiment import Experiment
from oectflow.pipeline.outputs.sink import FORMAT, Results, write_results

MakeFile = Callable[..., Path]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "features"
    folder.mkdir()
    return folder


def write_features(raw_file: Path, path: Path, created: str = "", **names: str) -> Path:
    """Write a result file as a run does, with features of given fingerprints."""
    experiment = Experiment(raw_file)
    steps = {source: experiment.n_steps(source) for source in experiment.sources}
    n_rows = max(steps.values())
    identity = {
        "experiment_id": experiment.experiment_id,
        "chip_id": experiment.chip_id,
        "device_id": experiment.device_id,
    }
    metadata = {
        "config": "some set",
        "created": created or "2025-08-15T12:00:00+00:00",
        "expand_multidim": False,
        "features": {
            name: {"fingerprint": fingerprint, "counts": {"ok": n_rows - 1, "flat": 1}}
            for name, fingerprint in names.items()
        },
        "identity": identity,
        "n_rows": n_rows,
        "source": {
            "path": str(raw_file),
            "size": experiment.identity.size,
            "mtime_ns": experiment.identity.mtime_ns,
            "content_hash": experiment.content_hash(),
            "n_steps": steps,
        },
    }
    variables = {name: Variable(unit="S", description="") for name in names}
    write_results(
        path,
        Results(
            identity | {"step_index": np.arange(n_rows)},
            {name: np.zeros(n_rows) for name in names},
            variables,
            {name: name for name in names},
            (),
            metadata,
        ),
    )
    return path


def test_record_features(catalog: Catalog, raw: Path, make_file: MakeFile, out: Path) -> None:
    path = make_file(1)
    make_file(2)
    catalog.scan(raw)
    result = write_features(path, out / "test_1.parquet", tau="f1", gm_max="f2")
    assert catalog.record_features(result) == 1
    assert catalog.search(has_features=["tau", "gm_max"]).test_ids == ["test_1"]
    assert catalog.search(missing_features="tau").test_ids == ["test_2"]
    gm_max, tau = catalog.features("test_1")
    assert (gm_max.name, gm_max.fingerprint) == ("gm_max", "f2")
    assert (tau.name, tau.fingerprint, tau.path, tau.config) == ("tau", "f1", result, "some set")
    assert tau.counts == {"ok": 1, "flat": 1}
    assert tau.is_current
    assert str(tau.created_at) == "2025-08-15 12:00:00"
    assert catalog.features("test_2") == []


def test_record_features__again_with_one_more(
    catalog: Catalog, raw: Path, make_file: MakeFile, out: Path
) -> None:
    path = make_file(1)
    catalog.scan(raw)
    catalog.record_features(write_features(path, out / "test_1.parquet", tau="f1"))
    catalog.record_features(write_features(path, out / "test_1.parquet", tau="f1", Von="f3"))
    assert [record.name for record in catalog.features("test_1")] == ["Von", "tau"]
    assert catalog.stats().by_feature == {"Von": 1, "tau": 1}


def test_record_features__two_folders_of_results(
    catalog: Catalog, raw: Path, make_file: MakeFile, out: Path
) -> None:
    path = make_file(1)
    catalog.scan(raw)
    old, new = "2025-01-01T00:00:00+00:00", "2025-01-01T01:00:00+01:00"
    first = write_features(path, out / "a.parquet", old, tau="old", gm_max="f2")
    second = write_features(path, out / "b.parquet", new, tau="new")
    # In the zone of the first one, both were written at the same moment.
    third = write_features(path, out / "c.parquet", "2025-01-02T00:00:00+00:00", tau="newest")
    assert catalog.record_features([third, first, second]) == 3
    found = [(r.name, r.fingerprint) for r in catalog.features("test_1")]
    assert found[:2] == [("gm_max", "f2"), ("tau", "newest")]
    assert len(catalog.search(has_features=["tau", "gm_max"])) == 1
    assert catalog.stats().by_feature == {"gm_max": 1, "tau": 1}


def test_record_features__before_any_scan(
    catalog: Catalog, raw: Path, make_file: MakeFile, out: Path
) -> None:
    path = make_file(1, chip_id="#9")
    catalog.record_features(write_features(path, out / "test_1.parquet", tau="f1"))
    entry = catalog.get("test_1")
    assert (entry.file_state, entry.chip_id, entry.path) == ("unscanned", "#9", path)
    assert (entry.transfer_steps, entry.transient_steps) == (2, 1)
    assert catalog.search(has_features="tau").paths == [path]
    assert catalog.scan(raw).counts["changed"] == 1
    entry = catalog.get("test_1")
    assert (entry.file_state, entry.status, entry.has_features) == ("present", "completed", True)


def test_features__of_an_older_raw_file_do_not_count(
    catalog: Catalog, raw: Path, make_file: MakeFile, out: Path
) -> None:
    path = make_file(1)
    catalog.scan(raw)
    original = path.read_bytes()
    catalog.record_features(write_features(path, out / "test_1.parquet", tau="f1"))
    make_file(1, cycles=3)
    catalog.scan(raw)
    assert catalog.search(has_features=True).test_ids == []
    assert catalog.search(missing_features="tau").test_ids == ["test_1"]
    assert [record.is_current for record in catalog.features("test_1")] == [False]
    assert [p.kind for p in catalog.validate().problems] == ["results outdated"]
    path.write_bytes(original)
    catalog.scan(raw)
    assert catalog.search(has_features="tau").test_ids == ["test_1"]


def test_features__new_time_and_old_content_still_count(
    catalog: Catalog, raw: Path, make_file: MakeFile, out: Path
) -> None:
    path = make_file(1)
    catalog.scan(raw)
    catalog.record_features(write_features(path, out / "test_1.parquet", tau="f1"))
    path.write_bytes(path.read_bytes())
    catalog.scan(raw)
    assert catalog.get("test_1").has_features


def test_sync_features__rebuilds_everything(
    url: str, raw: Path, make_file: MakeFile, out: Path, tmp_path: Path
) -> None:
    with Catalog(tmp_path / "first.db") as first, Catalog(url) as second:
        for number in range(5):
            path = make_file(number)
            result = write_features(path, out / f"test_{number}.parquet", tau="f1", gm_max="f2")
            first.record_features(result)
        first.scan(raw)
        assert second.sync_features(out).n_recorded == 5
        second.scan(raw)
        for number in range(5):
            assert first.features(f"test_{number}") == second.features(f"test_{number}")
        assert first.stats().by_feature == second.stats().by_feature == {"gm_max": 5, "tau": 5}


def test_sync_features__only_what_has_changed(
    catalog: Catalog, raw: Path, make_file: MakeFile, out: Path
) -> None:
    paths = [make_file(number) for number in range(3)]
    results = [
        write_features(p, out / "deep" / f"{p.stem}.parquet", tau="f1") for p in _made(out, paths)
    ]
    report = catalog.sync_features(out)
    assert (report.n_recorded, report.n_unchanged, report.problems) == (3, 0, [])
    assert catalog.sync_features(out).n_unchanged == 3
    results[0].unlink()
    write_features(paths[1], results[1], tau="f1", Von="f3")
    report = catalog.sync_features(out)
    assert (report.n_recorded, report.n_unchanged, report.n_removed) == (1, 1, 1)
    assert catalog.search(missing_features=True).test_ids == ["test_0"]
    assert catalog.search(has_features="Von").test_ids == ["test_1"]
    assert "1 recorded, 1 unchanged, 1 removed" in str(report)


def _made(out: Path, paths: list[Path]) -> list[Path]:
    (out / "deep").mkdir()
    return paths


def test_sync_features__other_and_damaged_files(
    catalog: Catalog, make_file: MakeFile, out: Path, shared_data: Path
) -> None:
    good = write_features(make_file(1), out / "good.parquet", tau="f1")
    shutil.copy(shared_data / "oect_infra" / "regular_serial.v2_ml_ready.parquet", out)
    (out / "cut.parquet").write_bytes(good.read_bytes()[:-100])
    (out / "empty.parquet").touch()
    (out / ".unfinished.parquet").write_bytes(b"PAR1")
    _write_metadata(out / "newer.parquet", {"format": FORMAT + 1})
    _write_metadata(out / "garbled.parquet", {"format": FORMAT, "identity": {}})
    report = catalog.sync_features(out)
    assert (report.n_recorded, report.n_foreign) == (1, 1)
    reasons = {Path(p.path).name: p.reason for p in report.problems}
    assert set(reasons) == {"cut.parquet", "empty.parquet", "newer.parquet", "garbled.parquet"}
    assert "upgrade oectflow" in reasons["newer.parquet"]
    assert "cut.parquet" in str(report)


def _write_metadata(path: Path, metadata: dict[str, Any]) -> None:
    schema = pa.schema([("a", pa.int64())], metadata={b"oectflow": json.dumps(metadata).encode()})
    pq.write_table(schema.empty_table(), path)


def test_record_features__not_a_result(catalog: Catalog, out: Path, shared_data: Path) -> None:
    with pytest.raises(CatalogError, match="no result file of oectflow"):
        catalog.record_features(shared_data / "oect_infra" / "regular_serial.v2_ml_ready.parquet")
    with pytest.raises(CatalogError, match="cannot be read"):
        catalog.record_features(out / "absent.parquet")
    with pytest.raises(CatalogError, match="no such folder"):
        catalog.sync_features(out / "absent")


def test_validate__vanished_results(
    catalog: Catalog, raw: Path, make_file: MakeFile, out: Path
) -> None:
    result = write_features(make_file(1), out / "test_1.parquet", tau="f1")
    catalog.scan(raw)
    catalog.record_features(result)
    assert catalog.validate().ok
    result.unlink()
    assert [p.kind for p in catalog.validate().problems] == ["results missing"]
