"""Faults of the software in use until now, one test each: what it does wrong is in the name."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import yaml

import oectflow as of
from oectflow.extractors.base import BaseExtractor, register
from oectflow.pipeline.inputs.simulate import SimulatedExperiment, damage
from oectflow.pipeline.outputs.sink import read_metadata

MakeDevice = Callable[..., SimulatedExperiment]
GM = {"gm": {"extractor": "transfer.gm_max", "input": "transfer"}}
WIDE = {"peaks": {"extractor": "transient.cycles", "params": {"n_cycles": 4}}}


def batch(manager: of.UnifiedExperimentManager, *args: Any, **options: Any) -> dict[str, Any]:
    return manager.batch_extract_features_v2(*args, show_progress=False, **options)


def change(path: str | Path, factor: float = 2.0) -> None:
    """Multiply the measured sweeps, which leaves the size of the file as it was."""
    with h5py.File(path, "r+") as file:
        data = file["transfer/measurement_data"]
        data[:, 1] = factor * data[:, 1]


def test_any_v2_file_made_it_skip_every_other_configuration(manager):
    found = manager.search(chip_id="#20250804009")
    assert len(batch(manager, found, "v2_quick_analysis")["successful"]) == 1
    assert len(batch(manager, found, "v2_ml_ready")["successful"]) == 1
    assert found[0].get_v2_features_metadata()["configs_used"] == [
        "v2_quick_analysis",
        "v2_ml_ready",
    ]


def test_an_added_feature_was_skipped_because_the_configuration_had_a_file(manager, lab):
    path = lab / "mine.yaml"
    features = [{"name": "gm", **GM["gm"]}]
    path.write_text(yaml.safe_dump({"features": features}))
    batch(manager, "test_1", path)
    features.append({"name": "von", "extractor": "transfer.Von"})
    path.write_text(yaml.safe_dump({"features": features}))
    assert len(batch(manager, "test_1", path)["successful"]) == 1
    frame = manager.get_experiment(test_id="test_1").get_v2_feature_dataframe("mine")
    assert list(frame.columns) == ["step_index", "gm", "von"]


def test_a_changed_parameter_gave_the_old_numbers_from_the_cache(experiment):
    raw = experiment.get_transient_step_measurement(0)["drain_current"]
    largest = {"x": {"extractor": "transient.peak_current", "params": {"use_abs": True}}}
    signed = {"x": {"extractor": "transient.peak_current", "params": {"use_abs": False}}}
    with h5py.File(experiment.file_path, "r+") as file:
        data = file["transient/measurement_data"]
        data[2] = -data[2]
    assert experiment.extract_features_v2(largest, "dict")["x"][0] == np.abs(raw).max()
    assert experiment.extract_features_v2(signed, "dict")["x"][0] == -raw.min()


def test_a_changed_function_gave_the_old_numbers_from_the_cache(experiment):
    gm = of.FeatureSet("set", unified_experiment=experiment).add("gm", **GM["gm"])
    double = gm.add("y", func=lambda gm: 2 * gm, input="gm").compute()["y"]
    again = of.FeatureSet("set", unified_experiment=experiment).add("gm", **GM["gm"])
    triple = again.add("y", func=lambda gm: 3 * gm, input="gm").compute()["y"]
    assert again.get_statistics()["cache_hits"] == 1
    np.testing.assert_array_equal(double / 2, triple / 3)


def test_a_changed_raw_file_gave_the_old_numbers_from_the_cache(manager, experiment):
    old = experiment.extract_features_v2("v2_quick_analysis", "dict")["gm_max_forward"]
    change(experiment.file_path)
    with pytest.raises(of.OutputError, match=r"before .* changed; extract it again"):
        experiment.get_v2_feature_dataframe("v2_quick_analysis")
    with pytest.raises(of.OutputError, match=r"before .* changed"):
        experiment.get_features(["gm_max_forward"])
    assert len(batch(manager, [experiment], "v2_quick_analysis")["successful"]) == 1
    new = experiment.get_v2_feature_dataframe("v2_quick_analysis")["gm_max_forward"]
    # Doubling a float is exact, and so are all differences and quotients of doubled ones.
    np.testing.assert_array_equal(new, 2 * old)


def test_a_copied_raw_file_made_everything_be_computed_again(manager, experiment):
    batch(manager, [experiment], GM)
    copy = shutil.copyfile(experiment.file_path, f"{experiment.file_path}.copy")
    Path(copy).replace(experiment.file_path)
    assert batch(manager, [experiment], GM)["skipped"] == [experiment.id]


def test_features_with_several_values_never_came_from_the_cache(experiment):
    features = of.FeatureSet.from_config(GM | WIDE, unified_experiment=experiment)
    first = features.compute()
    assert features.get_statistics()["cache_misses"] == 2
    again = of.FeatureSet.from_config(GM | WIDE, unified_experiment=experiment)
    second = again.compute()
    assert again.get_statistics()["cache_hits"] == 2
    assert first["peaks"].shape == (3, 4)
    np.testing.assert_array_equal(first["peaks"], second["peaks"])


def test_features_of_three_axes_were_left_out_of_the_table(experiment):
    frame = experiment.extract_features_v2(
        {"tau": {"extractor": "transient.tau_on_off"}}, "dataframe"
    )
    # 4 cycles, each with on and off.
    assert list(frame.columns) == ["step_index", *(f"tau_{k}" for k in range(8))]
    # Noise of 0.5 % moves one tau by some tens of that at most, the median of 9 by a third.
    assert np.nanmedian(frame[[f"tau_{2 * k}" for k in range(4)]]) == pytest.approx(4e-3, rel=0.05)
    assert np.nanmedian(frame[[f"tau_{2 * k + 1}" for k in range(1, 4)]]) == pytest.approx(
        6e-3, rel=0.05
    )
    assert frame.attrs["labels"]["tau"] == {"phase": ["on", "off"]}
    assert frame.attrs["units"]["tau"] == "s"


def test_a_feature_with_several_values_was_not_found_by_its_name(experiment):
    experiment.extract_features_v2(GM | WIDE)
    frame = experiment.get_v2_feature_dataframe(feature_names="peaks")
    assert list(frame.columns) == ["step_index", "peaks_0", "peaks_1", "peaks_2", "peaks_3"]


def test_a_table_with_steps_of_both_kinds_failed(manager):
    # test_2 has 3 transfer and 5 transient steps.
    experiment = manager.get_experiment(test_id="test_2")
    frame = experiment.extract_features_v2(GM | WIDE, "dataframe")
    assert list(frame["step_index"]) == [0, 1, 2, 3, 4]
    assert list(frame["gm"].isna()) == [False, False, False, True, True]
    assert frame["peaks_3"].notna().all()


def test_a_function_that_gives_one_number_failed_the_experiment(experiment):
    best = {"best": {"func": lambda gm: float(gm.max()), "input": "gm"}}
    values = experiment.extract_features_v2(GM | best, "dict")
    np.testing.assert_array_equal(values["best"], np.full(4, values["gm"].max()))


def test_lambdas_in_a_dict_could_not_be_sent_to_workers(manager, client):
    half = {"half": {"func": lambda gm: gm / 2, "input": "gm"}}
    result = batch(manager, manager.search(), GM | half, n_workers=2)
    assert len(result["successful"]) == 5
    frame = manager.get_experiment(test_id="test_5").get_v2_feature_dataframe("inline_config")
    np.testing.assert_array_equal(frame["half"], frame["gm"] / 2)


def test_bundled_configurations_were_found_only_in_one_working_folder(
    manager, tmp_path, monkeypatch
):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    result = batch(manager, "test_1", "v2_transfer_basic")
    assert len(result["successful"]) == 1
    assert not any(elsewhere.iterdir())


def test_batches_wrote_neither_units_nor_origin_into_their_files(manager, experiment):
    batch(manager, [experiment], "v2_quick_analysis")
    (path,) = experiment.get_v2_features_metadata()["output_files"]
    about = read_metadata(Path(path))
    assert about["identity"]["experiment_id"] == "test_1"
    assert about["features"]["gm_max_forward"]["unit"] == "S"
    assert len(about["features"]["gm_max_forward"]["fingerprint"]) == 32
    assert about["source"]["content_hash"] == experiment.open().content_hash()
    units = experiment.get_v2_feature_dataframe().attrs["units"]
    assert units == {"gm_max_forward": "S", "Von_forward": "V", "absI_max": "A"}


def test_two_tests_of_one_device_got_the_numbers_of_the_newer_one(manager):
    # Both test_3 and test_4 are of device 3.
    found = manager.search(chip_id="#20250804008", device_id="3")
    batch(manager, found, GM)
    rows = {e.test_id: len(e.get_v2_feature_dataframe()) for e in found}
    assert rows == {"test_3": 4, "test_4": 5}


def test_one_run_forgot_the_files_of_another_and_left_them_behind(manager, experiment, lab):
    batch(manager, [experiment], GM)
    batch(manager, [experiment], GM, force_recompute=True)
    batch(manager, [experiment], "v2_quick_analysis")
    files = experiment.get_v2_features_metadata()["output_files"]
    assert sorted(files) == sorted(map(str, (lab / "data" / "features_v2").rglob("*.parquet")))
    assert len(files) == 2


def test_ones_own_configuration_by_a_bundled_name_had_to_have_its_number_of_features(
    experiment, lab
):
    path = lab / "v2_ml_ready.yaml"
    path.write_text(yaml.safe_dump({"features": [{"name": "gm", **GM["gm"]}]}))
    experiment.extract_features_v2(str(path))
    assert list(experiment.get_v2_feature_dataframe("v2_ml_ready").columns) == ["step_index", "gm"]


def test_a_mistyped_filter_found_every_experiment(manager):
    with pytest.raises(of.CatalogError, match="did you mean 'chip_id'"):
        manager.search(chipid="#20250804008")
    with pytest.raises(of.CatalogError, match="did you mean 'completed'"):
        manager.get_experiment(status="complete")


def test_a_damaged_file_was_an_experiment_without_data(experiment):
    damage(experiment.file_path)
    with pytest.raises(of.InputError, match="truncated"):
        experiment.get_transfer_data()
    with pytest.raises(of.InputError, match="truncated"):
        experiment.get_workflow()


def test_a_step_that_is_not_there_was_none(experiment):
    with pytest.raises(IndexError, match="transfer has 4 steps, there is no step 4"):
        experiment.get_transfer_data(4)
    with pytest.raises(IndexError, match="transient has 3 steps"):
        experiment.get_transient_step_measurement(3)


def test_damaged_and_vanished_files_were_not_told_apart_and_stopped_nothing_else(manager):
    found = {e.test_id: e for e in manager.search()}
    damage(found["test_1"].file_path)
    Path(found["test_2"].file_path).unlink()
    result = batch(manager, found.values(), GM)
    reasons = dict(result["failed"])
    assert len(result["successful"]) == 3
    assert "truncated" in reasons[found["test_1"].id]
    assert "there is no such file; scan its folder" in reasons[found["test_2"].id]


def test_one_step_that_fails_made_the_whole_experiment_fail(manager, experiment, request):
    name = f"test.{request.node.originalname}"

    @register(name)
    class Fragile(BaseExtractor):
        source = "transfer"
        unit = "A"

        def extract_single_step(self, step_data: Any, params: Any) -> Any:
            if step_data["Vg"][0] > 1:
                raise ValueError("this step is special")
            return step_data["Id"].max()

    with h5py.File(experiment.file_path, "r+") as file:
        data = file["transfer/measurement_data"]
        data[2, 0] = data[2, 0] + 5
    features = {"top": {"extractor": name}} | GM
    result = batch(manager, [experiment], features)
    ((number, reason),) = result["failed"]
    assert number == experiment.id
    assert "1 of 4 steps; first step 2, top: this step is special" in reason
    frame = experiment.get_v2_feature_dataframe()
    assert list(frame["top"].isna()) == [False, False, True, False]
    assert frame["gm"].notna().all()
    with pytest.warns(UserWarning, match="this step is special"):
        experiment.extract_features_v2(features, "dict")


def test_a_wrong_output_format_was_found_out_after_everything_was_computed(experiment, lab):
    with pytest.raises(of.ConfigError, match="did you mean 'dataframe'"):
        experiment.extract_features_v2(GM, output_format="data_frame")
    assert not (lab / "data" / "features_v2").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"save_format": "csv"}, "save_format='csv': expected 'parquet', 'none'"),
        ({"execution_mode": "steps"}, "did you mean 'step'"),
        ({"execution_mode": 0}, "n_workers=0"),
        ({"n_workers": 0}, "n_workers=0"),
    ],
)
def test_wrong_options_were_ignored(manager, options, message):
    with pytest.raises(of.ConfigError, match=message):
        batch(manager, "test_1", GM, **options)


def test_options_without_effect_were_taken_in_silence(manager):
    with pytest.warns(DeprecationWarning, match="use_parallel_executor has no effect"):
        batch(manager, "test_1", GM, use_parallel_executor=True)
    with pytest.warns(DeprecationWarning, match="n_step_workers has no effect"):
        batch(manager, "test_1", GM, n_step_workers=4)


def test_a_pattern_that_fits_nothing_gave_a_table_without_features(experiment):
    experiment.extract_features_v2("v2_quick_analysis")
    with pytest.raises(of.UnknownFeature, match=r"no feature 'gmm_\*'; "):
        experiment.get_v2_feature_dataframe(feature_names="gmm_*")
    with pytest.raises(KeyError, match="did you mean 'Von_forward'"):
        experiment.get_v2_feature_dataframe(feature_names=["Von_forwrd"])


def test_a_merge_that_could_not_be_done_replaced_the_file(manager, lab):
    path = lab / "mine.parquet"
    for test_id in ("test_3", "test_4"):
        features = of.FeatureSet("set", unified_experiment=manager.get_experiment(test_id=test_id))
        features.add("gm", **GM["gm"])
        if test_id == "test_3":
            features.to_parquet(path)
            before = path.read_bytes()
            continue
        with pytest.raises(of.OutputError, match="has 4 steps, the features 5"):
            features.to_parquet(path, merge_existing=True)
    assert path.read_bytes() == before


def test_a_function_that_no_file_can_hold_was_saved_as_a_comment(experiment, lab):
    def named(gm: Any) -> Any:
        return gm

    factor = 2.0
    for function, reason in (
        (named, "the Python function named cannot be written"),
        (lambda gm: factor * gm, "the lambda uses factor, which a file does not have"),
    ):
        features = of.FeatureSet("set", unified_experiment=experiment)
        features.add("gm", **GM["gm"]).add("y", func=function, input="gm")
        with pytest.raises(of.ConfigError, match=f"feature 'y': {reason}"):
            features.save_as_config("set", config_dir=lab / "configs")
    assert not (lab / "configs").exists()


def test_what_could_not_be_computed_was_called_a_success(manager, lab, make_device: MakeDevice):
    make_device(7).write_folder(lab / "instrument" / "good")
    folder = make_device(8).write_folder(lab / "instrument" / "bad")
    (folder / "test_info.json").write_text("{")
    result = manager.process_data_pipeline(
        "instrument", v2_feature_configs=["v2_quick_analysis"], show_progress=False
    )
    assert not result["overall_success"]
    assert result["results"]["conversion"]["failed_conversions"] == 1
    assert (
        "bad/test_info.json: not valid JSON"
        in result["results"]["json_cleaning"]["result"]["errors"][0]
    )
    assert len(result["results"]["v2_feature_extraction_v2_quick_analysis"]["successful"]) == 1


def test_a_test_that_is_not_named_so_vanished_without_a_word(manager, lab, make_device: MakeDevice):
    make_device(7, test_id="run7").write_folder(lab / "instrument" / "run7")
    result = manager.process_data_pipeline(
        "instrument", v2_feature_configs=["v2_quick_analysis"], show_progress=False
    )
    ((number, reason),) = result["results"]["v2_feature_extraction_v2_quick_analysis"]["failed"]
    assert not result["overall_success"]
    assert number is None
    assert r"is not in the catalog; is it named like '*-test_*.h5'" in reason


def test_a_wrong_configuration_was_found_out_after_the_conversion(manager, lab, make_device):
    make_device(7).write_folder(lab / "instrument")
    with pytest.raises(of.ConfigError, match="did you mean 'v2_ml_ready'"):
        manager.process_data_pipeline("instrument", v2_feature_configs=["v2_ml_redy"])
    with pytest.raises(of.ConfigError, match="version='v3': expected 'v1' or 'v2'"):
        manager.process_data_pipeline("instrument", v1_feature_versions=["v3"])
    assert len(list((lab / "data" / "raw").glob("*.h5"))) == 5


def test_every_experiment_of_the_catalog_was_extracted_after_a_conversion(
    manager, lab, make_device: MakeDevice
):
    make_device(7).write_folder(lab / "instrument")
    result = manager.process_data_pipeline(
        "instrument", v2_feature_configs=["v2_quick_analysis"], show_progress=False
    )
    extracted = result["results"]["v2_feature_extraction_v2_quick_analysis"]["successful"]
    assert [manager.get_experiment(i).test_id for i in extracted] == ["test_7"]


def test_old_calls_started_ninety_processes_on_any_machine(manager, lab, make_device, monkeypatch):
    import oectflow.pipeline.manager.conversion as conversion
    import oectflow.pipeline.manager.extraction as extraction

    asked = []
    real = conversion.ingest

    def spy(*args: Any, **options: Any) -> Any:
        asked.append(options["workers"])
        return real(*args, **options | {"workers": 1})

    monkeypatch.setattr(conversion, "ingest", spy)
    monkeypatch.setattr(extraction, "CPU_COUNT", 3)
    monkeypatch.setattr(extraction, "MEMORY_LIMIT", 64 * 2**30)
    make_device(7).write_folder(lab / "instrument")
    with pytest.warns(UserWarning, match="n_workers=90: this machine has 3 cores and 64 GiB"):
        manager.process_data_pipeline("instrument", num_workers=90, show_progress=False)
    monkeypatch.setattr(extraction, "MEMORY_LIMIT", 2**30)
    with pytest.warns(UserWarning, match="1 GiB of memory; 2 are used"):
        manager.process_data_pipeline("instrument", num_workers=3, show_progress=False)
    assert asked == [3, 2]


def test_raw_files_were_written_by_a_synchronisation(manager, lab):
    def content() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (lab / "data" / "raw").iterdir()}

    before = content()
    assert manager.sync_all()["success"]
    batch(manager, manager.search(), GM)
    manager.auto_fix_inconsistencies()
    assert content() == before


def test_a_table_without_units_in_parquet(experiment, lab):
    features = of.FeatureSet("set", unified_experiment=experiment).add("gm", **GM["gm"])
    features.to_parquet(lab / "mine.parquet")
    frame = pd.read_parquet(lab / "mine.parquet")
    assert frame.attrs["units"] == {"gm": "S"}
    assert frame.attrs["test_id"] == "test_1"


def test_numbers_were_rounded_to_single_precision(experiment):
    gm = experiment.extract_features_v2(GM, "dict")["gm"]
    raw = experiment.get_transfer_all_measurement()["measurement_data"][:, :, :21]
    slopes = [np.abs(np.gradient(Id, Vg)).max() for Vg, Id in raw]
    # Of single precision, 6e-8 of each current would be lost, and more of their differences.
    np.testing.assert_allclose(gm, slopes, rtol=1e-12)


def test_one_missing_point_failed_every_sweep_of_the_experiment(manager, experiment):
    before = experiment.extract_features_v2(GM, "dict")["gm"]
    with h5py.File(experiment.file_path, "r+") as file:
        file["transfer/measurement_data"][1, 1, 3] = np.nan
    assert len(batch(manager, [experiment], GM)["successful"]) == 1
    after = experiment.get_features(["gm"])["gm"]
    np.testing.assert_array_equal(after[[0, 2, 3]], before[[0, 2, 3]])
    # Three points at the foot of the curve, far from where it is steepest.
    np.testing.assert_array_equal(after[1], before[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"func": "lambda gm: gm +", "input": "gm"}, "feature 'y': expression"),
        ({"func": "lambda gm: open('/etc/passwd')", "input": "gm"}, "feature 'y': expression"),
        ({"func": "lambda gm: gm", "inputs": "gm"}, "did you mean 'input'"),
        ({"extractor": "transfer.gm_mx"}, "did you mean 'transfer.gm_max'"),
    ],
    ids=["unreadable", "any code", "unknown key", "unknown extractor"],
)
def test_a_wrong_feature_was_left_out_with_a_warning_or_executed(manager, lab, change, message):
    with pytest.raises(of.ConfigError, match=message):
        batch(manager, "test_1", GM | {"y": change})
    assert not (lab / "data" / "features_v2").exists()


def test_postprocessing_was_ignored(experiment, lab):
    path = lab / "mine.yaml"
    config = {
        "features": [{"name": "top", "extractor": "transfer.absI_max"}],
        "postprocessing": [{"type": "normalize", "target": "top", "params": {"method": "zscore"}}],
    }
    path.write_text(yaml.safe_dump(config))
    top, normal = experiment.extract_features_v2(path, "dict").values()
    roundings = 8 * np.finfo(float).eps * top.max() / top.std()
    np.testing.assert_allclose(normal, (top - top.mean()) / top.std(), rtol=1e-12, atol=roundings)


def test_time_constants_had_the_gate_period_of_another_experiment(manager, make_device, lab):
    # The period of 0.25 s stood in the code.
    for number, period in ((8, 0.05), (9, 0.1)):
        device = make_device(number, period=period, transient_noise=1e-4)
        device.write(lab / "data" / "raw" / device.file_name)
        manager.catalog.scan()
        found = manager.get_experiment(test_id=f"test_{number}")
        tau = found.extract_features_v2({"tau": {"extractor": "transient.tau_on_off"}}, "dict")[
            "tau"
        ]
        assert tau.shape == (3, 4, 2)
        # A window can be as short as one tau, where noise of 1e-4 moves tau, with amplitude and
        # constant free, by some tens of that; windows by a wrong period miss by half or more.
        np.testing.assert_allclose(tau[:, :, 0], device.truth["tau_on"], rtol=1e-2)
        np.testing.assert_allclose(tau[:, 1:, 1], device.truth["tau_off"][:, 1:], rtol=1e-2)
