"""The manager beyond what notebooks call: clusters, options, folders, and the books it keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import oectflow as of
from oectflow.pipeline.manager import extraction

GM = {"gm": {"extractor": "transfer.gm_max", "input": "transfer"}}


def test_n_workers__little_work_starts_no_cluster(manager, monkeypatch):
    def nobody() -> None:
        raise ValueError

    monkeypatch.setattr(extraction, "connect", lambda *a, **k: pytest.fail("a cluster was started"))
    monkeypatch.setattr(extraction, "default_client", nobody)
    result = manager.batch_extract_features_v2("test_1", GM, n_workers=2, show_progress=False)
    assert len(result["successful"]) == 1


def test_n_workers__starts_a_cluster_and_closes_it(manager, monkeypatch):
    clients = []
    connect = extraction.connect

    def spy(*args: Any, **options: Any) -> Any:
        clients.append(connect(*args, memory="2 GiB", **options))
        return clients[-1]

    def nobody() -> None:
        raise ValueError

    monkeypatch.setattr(extraction, "connect", spy)
    monkeypatch.setattr(extraction, "default_client", nobody)
    result = manager.batch_extract_features_v2(
        "test_1", GM, execution_mode="step", n_workers=1, show_progress=False
    )
    assert len(result["successful"]) == 1
    (client,) = clients
    assert len(client.cluster.workers) == 0
    assert client.status == "closed"


def test_n_workers__nothing_is_started_for_nothing(manager, monkeypatch):
    monkeypatch.setattr(extraction, "connect", lambda *a, **k: pytest.fail("a cluster was started"))
    result = manager.batch_extract_features_v2([], GM, n_workers=2, show_progress=False)
    assert (result["successful"], result["failed"], result["skipped"]) == ([], [], [])


@pytest.mark.parametrize("mode", ["step", "experiment"])
def test_execution_mode__changes_no_bit(manager, mode):
    found = manager.search(chip_id="#20250804008")
    frames = []
    for name in ("auto", mode):
        options: dict[str, Any] = {"execution_mode": name, "show_progress": False}
        result = manager.batch_extract_features_v2(found, "v2_mixed", name, **options)
        assert len(result["successful"]) == 4
        frames.append([pd.read_parquet(path) for path in sorted(Path(name).rglob("*.parquet"))])
    for left, right in zip(*frames, strict=True):
        pd.testing.assert_frame_equal(left, right)


def test_save_format_none__keeps_nothing(manager, lab):
    result = manager.batch_extract_features_v2(
        "test_1", GM, save_format="none", show_progress=False
    )
    assert len(result["successful"]) == 1
    assert not any((lab / "data" / "features_v2").iterdir())
    assert not manager.get_experiment(test_id="test_1").has_v2_features()


def test_output_dir__is_found_again(manager, experiment, lab):
    manager.batch_extract_features_v2([experiment], GM, lab / "other", show_progress=False)
    assert (lab / "other" / "inline_config" / "test_1.parquet").exists()
    assert list(experiment.get_v2_feature_dataframe("inline_config")) == ["step_index", "gm"]


def test_books__are_kept_of_what_was_written_before_a_run_broke_off(manager, lab, monkeypatch):
    extract = extraction.extract

    def broken(*args: Any, **options: Any) -> Any:
        extract(*args, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(extraction, "extract", broken)
    with pytest.raises(KeyboardInterrupt):
        manager.batch_extract_features_v2("test_1", GM, show_progress=False)
    assert manager.get_experiment(test_id="test_1").has_features()
    assert [e.test_id for e in manager.search(has_features="gm")] == ["test_1"]
    assert len(manager.get_experiments_missing_features()) == 4


def test_books__forgotten_and_found_again(manager, experiment, lab):
    manager.batch_extract_features_v2([experiment], GM, show_progress=False)
    experiment.clear_v2_features_metadata()
    assert not experiment.has_v2_features()
    assert experiment.get_v2_features_metadata() is None
    # Its file is where it would be written.
    assert experiment.get_v2_feature_dataframe("inline_config") is not None
    synced = experiment.sync_v2_features_from_filesystem()
    assert synced["added_files"] == 1
    assert synced["configs_found"] == ["inline_config"]
    assert experiment.has_v2_features()
    (lab / "data" / "features_v2" / "inline_config" / "test_1.parquet").unlink()
    assert experiment.has_v2_features(validate_files=False)
    assert not experiment.has_v2_features()
    assert experiment.sync_v2_features_from_filesystem()["removed_files"] == 1
    assert experiment.get_v2_feature_dataframe("inline_config") is None


def test_get_features__of_several_configurations_and_the_newest(experiment):
    with pytest.raises(of.UnknownFeature, match="'gm' has not been computed"):
        experiment.get_features(["gm"])
    experiment.extract_features_v2(GM)
    experiment.extract_features_v2("v2_quick_analysis")
    values = experiment.get_features(["gm", "absI_max"])
    peak = np.abs(experiment.get_transfer_all_measurement()["measurement_data"][:, 1]).max(axis=1)
    np.testing.assert_array_equal(values["absI_max"], peak)
    with pytest.raises(of.UnknownFeature, match="did you mean 'absI_max'"):
        experiment.get_features(["absI_mx"])


def test_get_features__companions_say_why(experiment):
    experiment.extract_features_v2("v2_quick_analysis")
    frame = experiment.get_v2_feature_dataframe(feature_names=["gm_max_forward", "*_status"])
    assert list(frame.columns[:3]) == ["step_index", "gm_max_forward", "gm_max_forward_status"]
    assert set(frame["absI_max_status"]) == {"ok"}


def test_get_experiment(manager):
    assert manager.get_experiment(test_id="test_3").device_id == "3"
    assert manager.get_experiment(chip_id="#20250804008", device_id="3").test_id == "test_4"
    assert manager.get_experiment(chip_id="nobody") is None
    entry = manager.catalog.get("test_2")
    assert manager.get_experiment(entry.id).test_id == "test_2"
    with pytest.raises(of.CatalogError, match="there is no experiment 999"):
        manager.get_experiment(999)


def test_raw_file_replaced_by_another_test(manager, experiment, make_device):
    make_device(9).write(experiment.file_path)
    result = manager.batch_extract_features_v2([experiment], GM, show_progress=False)
    ((_, reason),) = result["failed"]
    assert "holds 'test_9' now, not 'test_1'; scan its folder" in reason
    assert result["successful"] == []


def test_folder__needs_no_configuration(lab, make_device):
    folder = lab / "small"
    folder.mkdir()
    device = make_device(1)
    device.write(folder / device.file_name)
    with of.UnifiedExperimentManager(folder) as manager:
        assert manager.catalog.scan_and_index().counts["added"] == 1
        manager.batch_extract_features_v2("test_1", GM, show_progress=False)
    assert (folder / "features_v2" / "inline_config" / "test_1.parquet").exists()
    assert (folder / "catalog.db").exists()


def test_configuration_missing(lab):
    with pytest.raises(of.CatalogError, match="there is no such file"):
        of.UnifiedExperimentManager()


def test_experiments_of_another_kind(manager):
    with pytest.raises(of.ConfigError, match=r"expected the result of search\(\), not PosixPath"):
        manager.batch_extract_features_v2([Path("x.h5")], GM)


def test_catalog_answers_to_its_old_names(manager, lab):
    assert len(manager.catalog.find_experiments(chip_id="#20250804009")) == 1
    assert not any(manager.check_consistency().values())
    assert manager.auto_fix_inconsistencies(manager.check_consistency()) == {
        "fixed": 0,
        "failed": 0,
    }
    next((lab / "data" / "raw").glob("*test_5.h5")).unlink()
    assert manager.sync_all()["success"]
    problems = manager.check_consistency()
    assert [kind for kind, lines in problems.items() if lines] == ["missing_raw_files"]
    assert "orphaned_records" in problems
    assert manager.auto_fix_inconsistencies() == {"fixed": 1, "failed": 0}
    statistics = manager.get_statistics()
    assert statistics["n_experiments"] == statistics["overview"]["total_experiments"] == 4
    assert statistics["overview"]["completion_rate"] == 100
    assert statistics["files"]["missing_feature_files"] == 4
    workflows = manager.initialize_workflow_metadata()
    assert (workflows["total"], workflows["updated"], workflows["failed"]) == (4, 4, 0)


def test_process_data_pipeline__as_a_function(lab, make_device):
    make_device(7).write_folder(lab / "instrument" / "run")
    (lab / "new").mkdir()
    (lab / "new" / "raw").mkdir()
    result = of.process_data_pipeline(
        "instrument", v2_feature_configs=[GM], show_progress=False, config_path="new"
    )
    assert result["overall_success"]
    assert len(result["results"]["v2_feature_extraction_inline_config"]["successful"]) == 1
    with pytest.raises(of.InputError, match="no folder with a"):
        of.process_data_pipeline(lab / "new", config_path="new", show_progress=False)


def test_old_feature_file__is_read(manager, experiment, lab, shared_data):
    import h5py

    source = shared_data / "oect_infra" / "regular_serial.v1_features.h5"
    name = Path(experiment.file_path).name.replace("-test_", "-feat_")
    target = lab / "data" / "features" / name
    target.parent.mkdir()
    target.write_bytes(source.read_bytes())
    with pytest.raises(of.OutputError, match="belongs to test 'test_20250815000000_00abc000'"):
        experiment.get_feature_dataframe("v1")
    with h5py.File(target, "r+") as file:
        file.attrs["test_id"] = "test_1"
        expected = file["transfer/columns/buckets/bk_00/Von_forward"][()]
    assert experiment.has_features("v1")
    frame = experiment.get_feature_dataframe("v1", include_workflow=True)
    np.testing.assert_array_equal(frame["Von_forward"], expected)
    assert set(frame["workflow_step_1_type"]) == {"loop"}
    np.testing.assert_array_equal(experiment.get_features(["Von_forward"])["Von_forward"], expected)


def test_old_table__is_read_by_its_path(experiment, shared_data):
    path = shared_data / "oect_infra" / "regular_serial.transient_bench.parquet"
    frame = experiment.get_v2_feature_dataframe(file_path=path, feature_names=["cycles", "pe*"])
    assert list(frame.columns) == ["step_index", *(f"cycles_{k}" for k in range(5)), "peak"]
    with pytest.raises(of.OutputError, match="there is no such file"):
        experiment.get_v2_feature_dataframe(file_path="nowhere.parquet")
