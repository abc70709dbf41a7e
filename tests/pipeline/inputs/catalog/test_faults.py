"""What goes wrong with the catalog of the software in use until now, and must not here.

Each test is named after the fault.  Faults that concern one function only have their tests beside
those of that function.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import h5py
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from oectflow.errors import CatalogError
from oectflow.pipeline.inputs.catalog import Catalog, load_catalog_config
from oectflow.pipeline.inputs.experiment import Experiment

MakeFile = Callable[..., Path]


def write_result(raw_file: Path, out: Path, config: str = "all") -> Path:
    """Write a result file with the one feature ``tau``, as a run does."""
    experiment = Experiment(raw_file)
    metadata = {
        "format": 1,
        "config": config,
        "created": "2025-08-15T12:00:00+00:00",
        "features": {"tau": {"fingerprint": "f", "counts": {"ok": 1}}},
        "identity": {
            "experiment_id": experiment.experiment_id,
            "chip_id": experiment.chip_id,
            "device_id": experiment.device_id,
        },
        "n_rows": 1,
        "source": {
            "path": str(raw_file),
            "size": experiment.identity.size,
            "mtime_ns": experiment.identity.mtime_ns,
            "content_hash": experiment.content_hash(),
            "n_steps": {"transfer": 1},
        },
    }
    out.mkdir(exist_ok=True)
    schema = pa.schema([("tau", pa.float64())], {b"oectflow": json.dumps(metadata).encode()})
    path = out / f"{experiment.experiment_id}.parquet"
    pq.write_table(schema.empty_table(), path)
    return path


def state(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        path.name: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in folder.iterdir()
    }


def test_fault__synchronising_writes_into_every_raw_file(
    catalog: Catalog, raw: Path, make_file: MakeFile, tmp_path: Path
) -> None:
    first, second = make_file(1), make_file(2)
    write_result(first, tmp_path / "features")
    before = state(raw)
    catalog.scan(raw)
    catalog.sync_features(tmp_path / "features")
    catalog.search(text_search="sim").to_frame(workflow=True)
    catalog.validate(content=True)
    catalog.backup(tmp_path / "copy.db")
    catalog.vacuum()
    catalog.remove_missing()
    assert state(raw) == before
    assert second.exists()


def test_fault__features_are_found_by_chip_and_device_so_another_test_has_them(
    catalog: Catalog, raw: Path, make_file: MakeFile, tmp_path: Path
) -> None:
    first = make_file(1, chip_id="#7", device_number="1")
    make_file(2, chip_id="#7", device_number="1")
    catalog.scan(raw)
    catalog.record_features(write_result(first, tmp_path / "features"))
    assert catalog.search(chip_id="#7", has_features="tau").test_ids == ["test_1"]
    assert catalog.search(chip_id="#7", missing_features="tau").test_ids == ["test_2"]
    assert catalog.features("test_2") == []


def test_fault__any_result_of_any_set_counts_as_done(
    catalog: Catalog, raw: Path, make_file: MakeFile, tmp_path: Path
) -> None:
    catalog.scan(raw / make_file(1).parent)
    catalog.record_features(write_result(raw / "sim-test_1.h5", tmp_path / "features", "mine"))
    with pytest.raises(CatalogError, match="no experiment has this feature"):
        catalog.search(has_features="gm_max")
    assert catalog.search(missing_features="gm_max").test_ids == ["test_1"]


def test_fault__changed_files_are_never_read_again(
    catalog: Catalog, raw: Path, make_file: MakeFile
) -> None:
    path = make_file(1, completion_percentage=50.0)
    catalog.scan(raw)
    with h5py.File(path, "r+") as file:
        file.attrs["completion_percentage"] = 100.0
    assert catalog.scan(raw).counts["changed"] == 1
    assert catalog.get("test_1").completion_percentage == 100


def test_fault__results_made_after_the_scan_are_never_noticed(
    catalog: Catalog, raw: Path, make_file: MakeFile, tmp_path: Path
) -> None:
    path = make_file(1)
    catalog.scan(raw)
    assert not catalog.get("test_1").has_features
    write_result(path, tmp_path / "features")
    assert catalog.sync_features(tmp_path / "features").n_recorded == 1
    assert catalog.get("test_1").has_features


def test_fault__a_status_that_is_not_known_becomes_pending(
    catalog: Catalog, raw: Path, make_file: MakeFile
) -> None:
    make_file(1, status="aborted by user")
    make_file(2, status=None)
    catalog.scan(raw)
    assert catalog.get("test_1").status == "aborted by user"
    assert catalog.get("test_2").status == "unknown"
    assert catalog.search(status="aborted by user").test_ids == ["test_1"]
    assert len(catalog.search(status="pending")) == 0


def test_fault__the_number_of_steps_is_always_0(
    catalog: Catalog, raw: Path, make_file: MakeFile
) -> None:
    make_file(1, total_steps=None)
    make_file(2, total_steps=40)
    catalog.scan(raw)
    # Two transfer steps and a transient; or what the instrument had meant to do.
    assert catalog.get("test_1").total_steps == 3
    assert catalog.get("test_2").total_steps == 40
    assert catalog.search(min_steps=4).test_ids == ["test_2"]


def test_fault__workflow_filters_work_only_after_an_initialisation(
    catalog: Catalog, raw: Path, make_file: MakeFile
) -> None:
    make_file(1, cycles=2)
    make_file(2, cycles=7)
    catalog.scan(raw)
    key = next(k for k in catalog.get("test_1").workflow if k.endswith("param_cycles"))
    assert catalog.search(**{key: 7}).test_ids == ["test_2"]
    assert catalog.search(**{key: (None, 6)}).test_ids == ["test_1"]


@pytest.mark.parametrize(
    "filters",
    [
        {"chp_id": "#1"},
        {"chip_id": 1.5},
        {"order_by": "created_at; DROP TABLE experiments"},
        {"workflow_step_9_param_x": 1},
        {"status": "finished!"},
    ],
)
def test_fault__a_mistyped_search_returns_everything_or_nothing(
    catalog: Catalog, raw: Path, make_file: MakeFile, filters: dict[str, object]
) -> None:
    make_file(1)
    catalog.scan(raw)
    with pytest.raises(CatalogError):
        catalog.search(**filters)
    assert len(catalog.search()) == 1


def test_fault__text_with_wildcards_finds_everything(
    catalog: Catalog, raw: Path, make_file: MakeFile
) -> None:
    make_file(1, description="100%_sure")
    make_file(2, description="stability")
    catalog.scan(raw)
    assert catalog.search(text_search="%_").test_ids == ["test_1"]
    assert catalog.search(text_search="STABIL").test_ids == ["test_2"]


def test_fault__files_named_otherwise_are_passed_over_in_silence(
    catalog: Catalog, raw: Path, make_file: MakeFile
) -> None:
    make_file(1, "measurement.h5")
    report = catalog.scan(raw)
    assert report.n_unmatched == 1
    assert "not named like '*-test_*.h5': 1 HDF5 files" in str(report)


def test_fault__a_missing_configuration_is_made_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CatalogError, match="'oectflow init' makes one"):
        Catalog.from_config()
    assert list(tmp_path.iterdir()) == []


def test_fault__an_unknown_strategy_or_key_is_taken_for_the_default() -> None:
    with pytest.raises(CatalogError, match=r"sync\.conflict_strategy='newest'"):
        load_catalog_config({"sync": {"conflict_strategy": "newest"}})
    with pytest.raises(CatalogError, match="did you mean 'recursive'"):
        load_catalog_config({"discovery": {"recursiv": False}})


def test_fault__keys_that_have_no_effect(raw: Path, make_file: MakeFile, tmp_path: Path) -> None:
    make_file(1, "top-test_1.h5")
    make_file(2, "deep/below-test_2.h5")
    make_file(3, "skip_me-test_3.h5")
    found = {}
    for name, discovery in {
        "plain": {},
        "flat": {"recursive": False},
        "ignoring": {"ignore_patterns": ["skip_*"]},
        "pattern": {"file_patterns": {"raw": "top*.h5"}},
    }.items():
        config = load_catalog_config({"discovery": discovery})
        with Catalog(tmp_path / f"{name}.db", config=config) as catalog:
            catalog.scan(raw)
            found[name] = sorted(catalog.search().test_ids)
    assert found == {
        "plain": ["test_1", "test_2", "test_3"],
        "flat": ["test_1", "test_3"],
        "ignoring": ["test_1", "test_2"],
        "pattern": ["test_1"],
    }


def test_fault__environment_variables_are_promised_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB", str(tmp_path))
    path = tmp_path / "catalog_config.yaml"
    path.write_text("database: {path: '${LAB}/my.db'}\n")
    with Catalog.from_config(path) as catalog:
        assert catalog.name == str(tmp_path / "my.db")
