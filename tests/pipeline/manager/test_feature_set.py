"""A feature set with an experiment: values, tables, files, pictures."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

import oectflow as of
from oectflow.pipeline.inputs.experiment import Experiment


@pytest.fixture
def features(experiment: of.UnifiedExperiment) -> of.FeatureSet:
    """Two features of a raw file, without a catalog."""
    mine = of.FeatureSet("mine", experiment=experiment.file_path)
    mine.add("top", extractor="transfer.absI_max").add(
        "peaks", extractor="transient.cycles", params={"n_cycles": 4}
    )
    return mine


def test_file__is_enough_and_nothing_is_left(features, experiment, lab):
    values = features.compute()
    raw = experiment.get_transfer_all_measurement()["measurement_data"]
    np.testing.assert_array_equal(values["top"], np.abs(raw[:, 1]).max(axis=1))
    assert features.get_statistics()["cache_misses"] == 2
    features.add("double", func="2 * top")
    np.testing.assert_array_equal(features.compute()["double"], 2 * values["top"])
    statistics = features.get_statistics()
    assert (statistics["cache_hits"], statistics["cache_misses"]) == (2, 1)
    assert not (lab / "data" / "features_v2").exists()
    assert not experiment.has_v2_features()


def test_set_experiment__forgets_the_other_one(features, manager):
    first = features.compute()["top"]
    other = manager.get_experiment(test_id="test_2")
    features.set_experiment(Experiment(other.file_path))
    with pytest.raises(of.ConfigError, match="nothing is computed yet"):
        features.get_statistics()
    assert len(first) == 4
    assert len(features.compute()["top"]) == 3


def test_to_dataframe__columns_or_arrays(features):
    wide = features.to_dataframe()
    assert list(wide.columns) == ["step_index", "top", *(f"peaks_{k}" for k in range(4))]
    # 4 sweeps and 3 transients.
    assert list(wide["peaks_0"].isna()) == [False, False, False, True]
    short = features.to_dataframe(expand_multidim=False)
    assert list(short.columns) == ["step_index", "top", "peaks"]
    np.testing.assert_array_equal(short["peaks"][1], wide.iloc[1, 2:].to_numpy(float))
    assert wide.attrs["units"] == {"top": "A", "peaks": "A"}


def test_to_parquet__merges_columns_and_units(features, lab):
    path = lab / "mine.parquet"
    features.to_parquet(path)
    other = of.FeatureSet("other", experiment=features._bound)
    other.add("von", extractor="transfer.Von").to_parquet(path, merge_existing=True)
    merged = pd.read_parquet(path)
    assert list(merged.columns)[:2] == ["step_index", "top"]
    assert merged.columns[-1] == "von"
    assert merged.attrs["units"] == {"top": "A", "peaks": "A", "von": "V"}
    assert len(of.open_legacy_features(path).peaks.dims) == 2
    other.to_parquet(path, save_metadata=False)
    assert pd.read_parquet(path).attrs == {}


def test_to_parquet__never_replaces_a_result(experiment):
    path = Path(experiment.extract_features_v2("v2_quick_analysis"))
    before = path.read_bytes()
    features = of.FeatureSet("x", experiment=experiment.file_path)
    with pytest.raises(of.OutputError, match="is a result file of a run"):
        features.add("top", extractor="transfer.absI_max").to_parquet(path)
    assert path.read_bytes() == before


def test_workers__get_what_to_compute_and_not_the_catalog(experiment, client, tmp_path):
    features = of.FeatureSet("mine", unified_experiment=experiment)
    features.add("top", extractor="transfer.absI_max")
    features.add("half", func=lambda top: top / 2, input="top")
    copy = pickle.loads(pickle.dumps(of.FeatureSet("x").add("top", extractor="transfer.absI_max")))
    assert copy.unified_experiment is None
    values = features.compute(client=client)
    np.testing.assert_array_equal(values["half"], values["top"] / 2)
    report = of.extract(experiment.file_path, features, tmp_path / "out", progress=False)
    assert report.ok


def test_save_as_config__file_and_results(features, experiment, lab):
    features.add("half", func=lambda top: top / 2, input="top", unit="A")
    features.compute()
    saved = features.save_as_config("new", config_dir=lab / "configs", description="for people")
    assert saved["parquet_file"] is None
    content = yaml.safe_load(Path(saved["config_file"]).read_text())
    assert content["features"][-1]["func"] == "lambda top: top / 2"
    assert content["description"] == "for people"
    assert (features.name, len(features.derived)) == ("new", 1)
    back = of.FeatureSet.from_config(saved["config_file"], experiment=experiment.file_path)
    assert back.fingerprints() == features.fingerprints()
    assert back.config_version == "1.0"


def test_save_as_config__append(experiment, lab):
    def save(**features: dict[str, object]) -> dict[str, object]:
        chosen = of.FeatureSet.from_config(features, unified_experiment=experiment)
        return chosen.save_as_config("new", append=True, config_dir=lab / "configs")

    forward = {"extractor": "transfer.Von", "params": {"direction": "forward"}}
    reverse = {"extractor": "transfer.Von", "params": {"direction": "reverse"}}
    first = save(von=forward, top={"extractor": "transfer.absI_max"})
    second = save(von=reverse, peak={"extractor": "transient.peak_current"})
    assert first["features_added"] == ["von", "top"]
    assert second["features_added"] == ["von", "peak"]
    assert second["config_version"] == "1.1"
    content = yaml.safe_load(Path(second["config_file"]).read_text())
    assert content["data_type"] == "both"
    assert [entry["name"] for entry in content["features"]] == ["von", "top", "peak"]
    # The results under the new name are those of the whole file.
    frame = experiment.get_v2_feature_dataframe("new")
    assert set(frame.columns) == {"step_index", "von", "top", "peak"}


def test_save_as_config__postprocessing_of_the_file_stays(experiment, lab):
    path = lab / "old.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "features": [{"name": "top", "extractor": "transfer.absI_max"}],
                "postprocessing": [{"type": "normalize", "target": "top"}],
            }
        )
    )
    before = of.FeatureSet.from_config(path, experiment=experiment.file_path).compute()
    more = of.FeatureSet.from_config(path, experiment=experiment.file_path)
    more.add("von", extractor="transfer.Von").save_as_config("old", append=True, config_dir=lab)
    after = of.FeatureSet.from_config(path, experiment=experiment.file_path).compute()
    assert list(after) == [*before, "von"]
    for name, values in before.items():
        np.testing.assert_array_equal(after[name], values)


def test_save_as_config__places(features):
    with pytest.raises(of.ConfigError, match="the installed package is no place"):
        features.save_as_config("new", config_dir="global")


def test_without_what_is_needed(experiment):
    with pytest.raises(of.ConfigError, match="there is no experiment; give"):
        of.FeatureSet("x").add("top", extractor="transfer.absI_max").compute()
    with pytest.raises(of.ConfigError, match="there is no feature; add one"):
        of.FeatureSet("x", unified_experiment=experiment).compute()
    with pytest.raises(of.ConfigError, match=r"FeatureSet\(UnifiedExperiment\): the name is text"):
        of.FeatureSet(experiment)
    bare = of.FeatureSet("x", experiment=experiment.file_path)
    bare.add("top", extractor="transfer.absI_max")
    Path(experiment.file_path).unlink()
    with pytest.raises(of.InputError):
        bare.compute()


def test_visualize_graph__is_text_without_graphviz(features, monkeypatch):
    features.add("half", func="top / 2")
    monkeypatch.setitem(__import__("sys").modules, "graphviz", None)
    graph = features.visualize_graph()
    assert str(graph).splitlines() == [
        "FeatureSet 'mine'",
        "  top ← transfer: transfer.absI_max",
        "  peaks ← transient: transient.cycles",
        "  half ← top: top / 2",
    ]
    assert graph._repr_mimebundle_() == {"text/plain": str(graph)}
    assert "half" in graph
    with pytest.raises(of.ConfigError, match="apt install graphviz"):
        graph.render("graph.svg")


def test_visualize_graph__is_a_picture_with_graphviz(features, lab):
    pytest.importorskip("graphviz")
    if shutil.which("dot") is None:
        pytest.skip("the program dot of Graphviz is not installed")
    features.add("half", func="where(top > 0, top, -top) / 2")
    graph = features.visualize_graph()
    picture = graph._repr_mimebundle_()["image/svg+xml"]
    assert picture.count("<title>transfer&#45;&gt;top</title>") == 1
    assert picture.count('class="edge"') == 3
    assert picture.count('class="node"') == 5
    assert graph.render(lab / "graph.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(of.ConfigError, match="'nosuch' is no kind of picture"):
        graph.render(lab / "graph.nosuch")
