"""The README and the example scripts of oect-infra 3.3.1; only import lines change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oectflow.pipeline.inputs.simulate import simulate_device


@pytest.fixture
def source(lab: Path) -> Path:
    """A folder of the instrument's, with sweeps and pulses."""
    device = simulate_device(
        7, n_transfer=4, n_transient=2, n_points=41, n_cycles=4, period=0.06, tau_on=4e-3,
        tau_off=6e-3, test_id="test_7", chip_id="#20250804008", device_number="7",
    )  # fmt: skip
    device.write_folder(lab / "data" / "source" / "run")
    return lab / "data" / "source"


def test_readme__from_the_catalog_to_a_picture(notebook: Any) -> None:
    pytest.importorskip("matplotlib").use("agg")
    names = notebook("""
result_df = exp.extract_features_v2('v2_transfer_basic', output_format='dataframe')
transfer_data = exp.get_transfer_data()
features = exp.get_features(['gm_max_forward', 'Von_forward'])
fig = exp.plot_transfer_evolution()
""")
    assert names["transfer_data"]["measurement_data"].shape == (4, 2, 41)
    for name, values in names["features"].items():
        np.testing.assert_array_equal(values, names["result_df"][name])
    assert len(names["fig"].axes[0].lines) > 0


def test_quickstart__experiment_of_a_catalog_as_experiment(notebook: Any) -> None:
    names = notebook("""
from infra.features_v2 import FeatureSet
exp = manager.search(chip_id="#20250804008", device_id="3")[0]
features = FeatureSet(experiment=exp)
features.add('gm_max_forward', extractor='transfer.gm_max', input='transfer',
             params={'direction': 'forward', 'device_type': 'N'})
features.add('gm_max_reverse', extractor='transfer.gm_max', input='transfer',
             params={'direction': 'reverse', 'device_type': 'N'})
features.add('Von_forward', extractor='transfer.Von', input='transfer',
             params={'direction': 'forward', 'device_type': 'N'})
features.add('absI_max', extractor='transfer.absI_max', input='transfer',
             params={'device_type': 'N'})
features.add('gm_max_normalized', func=lambda gm: (gm - gm.mean()) / gm.std(),
             input='gm_max_forward', output_shape=('n_steps',))
count = len(features.graph.nodes)
text = str(features.visualize_graph())
result = features.compute()
lines = [f"{name:20s} {array.shape} {array.dtype} {array.min():.3e} {array.max():.3e}"
         for name, array in result.items()]
head = features.to_dataframe().head(10)
from pathlib import Path
Path('output').mkdir(exist_ok=True)
features.to_parquet('output/quickstart_features.parquet')
stats = features.get_statistics()
said = (f"{stats['total_features']} {stats['total_time_ms']:.2f} "
        f"{stats['avg_time_per_feature_ms']:.2f} {stats['cache_hits']} {stats['cache_misses']} "
        f"{stats['slowest_feature']['name']}")
""")
    assert (names["count"], len(names["lines"])) == (5, 5)
    assert "gm_max_normalized" in names["text"]
    gm = names["result"]["gm_max_forward"]
    np.testing.assert_allclose(
        names["result"]["gm_max_normalized"], (gm - gm.mean()) / gm.std(), rtol=1e-12
    )
    assert Path("output/quickstart_features.parquet").stat().st_size > 0
    assert names["said"].startswith("5 ")


def test_incremental_workflow__what_is_known_is_not_computed_again(notebook: Any) -> None:
    names = notebook("""
from pathlib import Path
from infra.features_v2 import FeatureSet
features = FeatureSet(unified_experiment=exp, config_name='demo_incremental', config_version='1.0')
features.add('gm_max', extractor='transfer.gm_max', input='transfer',
             params={'direction': 'forward', 'device_type': 'N'})
features.add('Von', extractor='transfer.Von', input='transfer',
             params={'direction': 'forward', 'device_type': 'N'})
features.add('absI_max', extractor='transfer.absI_max', input='transfer',
             params={'device_type': 'N'})
result = features.compute()
saved = features.save_as_config(config_name='demo_incremental', save_parquet=True,
                                config_dir='user', description="the first three")

config_path = Path.home() / '.my_features' / 'demo_incremental.yaml'
features_v2 = FeatureSet.from_config(str(config_path), unified_experiment=exp)
features_v2.add('gm_normalized', func=lambda gm: (gm - gm.mean()) / gm.std(), input='gm_max',
                output_shape=('n_steps',))
features_v2.add('gm_to_current_ratio', func=lambda gm, i: gm / (i + 1e-10),
                input=['gm_max', 'absI_max'], output_shape=('n_steps',))
result_v2 = features_v2.compute()
stats_v2 = features_v2.get_statistics()
again = features_v2.save_as_config('demo_incremental', append=True, save_parquet=True,
                                   config_dir='user')

features_v3 = FeatureSet.from_config(str(config_path), unified_experiment=exp)
result_v3 = features_v3.compute()
stats = features_v3.get_statistics()
cache_hit_rate = stats['cache_hits'] / (stats['cache_hits'] + stats['cache_misses'])
""")
    assert len(names["result"]) == 3
    assert names["saved"]["config_version"] == "1.0"
    assert names["stats_v2"]["cache_hits"] == 3
    assert sorted(names["again"]["features_added"]) == ["gm_normalized", "gm_to_current_ratio"]
    assert names["cache_hit_rate"] == 1
    ratio = names["result"]["gm_max"] / (names["result"]["absI_max"] + 1e-10)
    np.testing.assert_allclose(names["result_v3"]["gm_to_current_ratio"], ratio, rtol=1e-12)


def test_phase2__pulses_of_an_experiment(notebook: Any) -> None:
    names = notebook("""
from infra.features_v2 import FeatureSet
features = FeatureSet(experiment=exp)
assert exp.has_transient_data()
features.add('transient_peak', extractor='transient.peak_current', input='transient',
             params={'use_abs': True})
features.add('transient_decay', extractor='transient.decay_time', input='transient',
             params={'method': 'exponential'})
features.add('transient_cycles', extractor='transient.cycles', input='transient',
             params={'n_cycles': 50, 'method': 'peak_detection'})
result = features.compute()
steps = [exp.get_transient_data(k)['drain_current'] for k in range(3)]
""")
    expected = [np.abs(step).max() for step in names["steps"]]
    np.testing.assert_array_equal(names["result"]["transient_peak"], expected)
    assert names["result"]["transient_decay"].shape == (3,)
    assert names["result"]["transient_cycles"].shape[0] == 3


def test_v2_integration__one_experiment_several_configurations(notebook: Any) -> None:
    names = notebook("""
before = exp.has_v2_features()
result_df = exp.extract_features_v2('v2_transfer_basic', output_format='dataframe')
parquet_path = exp.extract_features_v2('v2_transfer_basic', output_format='parquet')
metadata = exp.get_v2_features_metadata()
counts = {}
for config_name in ['v2_quick_analysis', 'v2_transfer_basic', 'v2_ml_ready']:
    frame = exp.extract_features_v2(config_name, output_format='dataframe', save_metadata=False)
    counts[config_name] = len(frame.columns) - 1
result = exp.extract_features_v2(
    {
        'gm_max': {
            'extractor': 'transfer.gm_max',
            'input': 'transfer',
            'params': {'direction': 'forward', 'device_type': 'N'},
        },
        'gm_normalized': {
            'func': 'lambda gm: (gm - gm.mean()) / gm.std()',
            'input': 'gm_max',
            'output_shape': ['n_steps'],
        },
    },
    output_format='dict',
    save_metadata=False,
)
""")
    assert not names["before"]
    assert Path(names["parquet_path"]).exists()
    assert names["metadata"]["configs_used"] == ["v2_transfer_basic"]
    assert names["metadata"]["feature_count"] == len(names["result_df"].columns) - 1
    assert names["metadata"]["last_computed"]
    assert all(count > 0 for count in names["counts"].values())
    assert sorted(names["result"]) == ["gm_max", "gm_normalized"]


def test_v2_integration__a_batch(notebook: Any) -> None:
    names = notebook("""
result = manager.batch_extract_features_v2(
    experiments=experiments[:3], feature_config='v2_quick_analysis', save_format='parquet',
    n_workers=2, force_recompute=False,
)
again = manager.batch_extract_features_v2(
    experiments=experiments[:3], feature_config='v2_quick_analysis', save_format='parquet',
    n_workers=2, force_recompute=False,
)
avg_time = sum(result['timings'].values()) / len(result['timings'])
""")
    assert (len(names["result"]["successful"]), names["result"]["failed"]) == (2, [])
    assert len(names["again"]["skipped"]) == 2
    assert names["avg_time"] > 0


PIPELINE = {
    "1, convert only": "clean_json=True, v1_feature_versions=None, v2_feature_configs=None",
    "2, sweeps": "v1_feature_versions=['v1'], v2_feature_configs=None",
    "3, time constants": "v1_feature_versions=['v2'], v2_feature_configs=None",
    "5, two configurations": (
        "v1_feature_versions=None, v2_feature_configs=['v2_transfer_basic', 'v2_ml_ready']"
    ),
    "6, everything": (
        "clean_json=True, conflict_strategy='skip', v1_feature_versions=['v1', 'v2'], "
        "v2_feature_configs=['v2_transfer_basic', 'v2_ml_ready'], show_progress=True"
    ),
}
STEPS = {
    "1, convert only": [],
    "2, sweeps": ["v1_feature_extraction_v1"],
    "3, time constants": ["v1_feature_extraction_v2"],
    "5, two configurations": [
        "v2_feature_extraction_v2_transfer_basic",
        "v2_feature_extraction_v2_ml_ready",
    ],
    "6, everything": [
        "v1_feature_extraction_v1",
        "v1_feature_extraction_v2",
        "v2_feature_extraction_v2_transfer_basic",
        "v2_feature_extraction_v2_ml_ready",
    ],
}


@pytest.mark.parametrize("example", PIPELINE)
def test_pipeline_example(notebook: Any, source: Path, example: str) -> None:
    names = notebook(f"""
result = manager.process_data_pipeline(
    source_directory='data/source', num_workers=1, {PIPELINE[example]})
conv = result['results']['conversion']
text = f"{{conv['successful_conversions']}}/{{conv['total_directories']}}"
""")
    result = names["result"]
    assert result["overall_success"]
    assert names["text"] == "1/1"
    for step in STEPS[example]:
        assert step in result["steps_completed"]
        found = result["results"][step]
        assert len(found["successful"]) + len(found["skipped"]) > 0
        assert found["failed"] == []


def test_pipeline_example_7_and_8__one_step_after_the_other(notebook: Any, source: Path) -> None:
    names = notebook("""
result1 = manager.process_data_pipeline(
    source_directory='data/source', num_workers=1, v1_feature_versions=None,
    v2_feature_configs=None)
result2 = manager.process_data_pipeline(
    source_directory='data/source', num_workers=1, clean_json=False, v1_feature_versions=['v1'])
result3 = manager.process_data_pipeline(
    source_directory='data/source', num_workers=1, clean_json=False, v1_feature_versions=['v2'])
""")
    assert all(names[f"result{k}"]["overall_success"] for k in (1, 2, 3))
    assert "v1_feature_extraction_v2" in names["result3"]["results"]
