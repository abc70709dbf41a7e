"""What notebooks for the software in use until now call, with another import line.

The cells are those calls that its public README and its examples make.  They run one after the
other in files of their own, as the cells of a notebook do.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest

from oectflow.pipeline.inputs.catalog import load_catalog_config
from oectflow.pipeline.manager.manager import UnifiedExperimentManager

IMPORTS = {
    "from infra.catalog import": "from oectflow import",
    "from infra.features_v2 import": "from oectflow import",
}
RunCell = Callable[[str], dict[str, Any]]


@pytest.fixture
def cell(manager: UnifiedExperimentManager, lab: Path) -> RunCell:
    """Run the text of a cell in one namespace, and return that."""
    names: dict[str, Any] = {}
    count = 0

    def run(text: str) -> dict[str, Any]:
        nonlocal count
        count += 1
        for old, new in IMPORTS.items():
            text = text.replace(old, new)
        path = lab / f"cell_{count}.py"
        path.write_text(text)
        exec(compile(text, path, "exec"), names)
        return names

    return run


START = """
from infra.catalog import UnifiedExperimentManager
manager = UnifiedExperimentManager('catalog_config.yaml')
exp = manager.get_experiment(chip_id="#20250804008", device_id="3")
"""


def measured_gm(path: str) -> np.ndarray:
    """Compute the largest slope of the first branch by NumPy, from the file itself."""
    with h5py.File(path) as file:
        data = file["transfer/measurement_data"][()]
    turn = (data.shape[2] - 1) // 2 + 1
    return np.array([np.abs(np.gradient(step[1, :turn], step[0, :turn])).max() for step in data])


def test_readme__search_by_chip_and_batch_extraction_by_name(cell: RunCell, client: Any) -> None:
    cell(START)
    names = cell("""
experiments = manager.search(chip_id="#20250804008")
result = manager.batch_extract_features_v2(
    experiments=experiments,
    feature_config='v2_ml_ready',
    save_format='parquet',
    n_workers=4
)
result_df = exp.extract_features_v2('v2_transfer_basic', output_format='dataframe')
""")
    result, frame = names["result"], names["result_df"]
    assert sorted(result["successful"]) == sorted(e.id for e in names["experiments"])
    assert len(result["successful"]) == 4
    assert (result["failed"], result["skipped"]) == ([], [])
    assert set(result["timings"]) == set(result["successful"])
    assert set(result) == {"successful", "failed", "skipped", "timings", "total_time_ms"}
    assert list(frame.columns) == [
        *("step_index", "gm_max_forward", "gm_max_reverse", "Von_forward", "Von_reverse"),
        "absI_max",
    ]
    # The same sums in another order: some roundings of the current's and the voltage's last digit.
    np.testing.assert_allclose(
        frame["gm_max_forward"], measured_gm(names["exp"].file_path), rtol=1e-12
    )


def test_readme__data_features_and_picture(cell: RunCell) -> None:
    pytest.importorskip("matplotlib").use("agg")
    cell(START)
    cell("exp.extract_features_v2('v2_transfer_basic')")
    names = cell("""
transfer_data = exp.get_transfer_data()
features = exp.get_features(['gm_max_forward', 'Von_forward'])
fig = exp.plot_transfer_evolution()
""")
    with h5py.File(names["exp"].file_path) as file:
        raw = file["transfer/measurement_data"][()]
    np.testing.assert_array_equal(names["transfer_data"]["measurement_data"], raw)
    assert [len(values) for values in names["features"].values()] == [5, 5]
    assert len(names["fig"].axes) == 3


def test_readme__configuration_is_accepted() -> None:
    config = load_catalog_config(
        {
            "roots": {
                "raw_data": "data/raw",
                "features_v1": "data/features",
                "features_v2": "data/features_v2",
            },
            "database": {"path": "catalog.db"},
            "sync": {"conflict_strategy": "keep_newer"},
        }
    )
    assert config.roots.features == "data/features"


def test_guide__inline_configuration(cell: RunCell) -> None:
    cell(START)
    names = cell("""
result = exp.extract_features_v2({
    'gm_max': {'extractor': 'transfer.gm_max', 'input': 'transfer'},
    'gm_norm': {'func': lambda gm: gm / gm[0], 'input': 'gm_max', 'output_shape': ('n_steps',)},
}, output_format='dict')
path = exp.extract_features_v2({
    'gm_max': {'extractor': 'transfer.gm_max', 'input': 'transfer'},
})
""")
    gm = measured_gm(names["exp"].file_path)
    np.testing.assert_allclose(names["result"]["gm_max"], gm, rtol=1e-12)
    np.testing.assert_allclose(names["result"]["gm_norm"], gm / gm[0], rtol=1e-12)
    # Both were asked for under the name that dicts have: neither is lost.
    assert {"gm_max", "gm_norm"} <= set(pd.read_parquet(names["path"]).columns)


def test_guide__wildcards(cell: RunCell) -> None:
    cell(START)
    names = cell("""
manager.batch_extract_features_v2([exp], 'v2_ml_ready')
one = exp.get_v2_feature_dataframe('v2_ml_ready', feature_names='absI_max')
some = exp.get_v2_feature_dataframe('v2_ml_ready', feature_names=['Von_diff', 'gm_ratio'])
gm = exp.get_v2_feature_dataframe('v2_ml_ready', feature_names='gm_*')
vg = exp.get_v2_feature_dataframe('v2_ml_ready', feature_names='*_forward_?g')
newest = exp.get_v2_feature_dataframe()
exp.extract_features_v2({'peaks': {'extractor': 'transient.cycles', 'input': 'transient',
                                   'params': {'n_cycles': 4}}})
cycles = exp.get_v2_feature_dataframe('inline_config', feature_names='peaks')
""")
    assert list(names["one"].columns) == ["step_index", "absI_max"]
    assert list(names["some"].columns) == ["step_index", "Von_diff", "gm_ratio"]
    assert set(names["gm"].columns) == {
        *("step_index", "gm_max_forward", "gm_max_reverse", "gm_max_forward_Vg"),
        *("gm_max_forward_Id", "gm_max_forward_norm", "gm_ratio"),
    }
    assert list(names["vg"].columns) == ["step_index", "gm_max_forward_Vg", "Von_forward_Vg"]
    assert len(names["newest"].columns) == 13
    assert list(names["cycles"].columns) == ["step_index", *(f"peaks_{k}" for k in range(4))]


STAGE_1 = """
from infra.features_v2 import FeatureSet
features = FeatureSet(unified_experiment=exp, config_name='demo', config_version='1.0')
features.add('gm_max', extractor='transfer.gm_max', input='transfer',
             params={'direction': 'forward', 'device_type': 'N'})
features.add('Von', extractor='transfer.Von', input='transfer',
             params={'direction': 'forward', 'device_type': 'N'})
features.add('absI_max', extractor='transfer.absI_max', input='transfer',
             params={'device_type': 'N'})
print(len(features.graph.nodes), features.visualize_graph())
result = features.compute()
first = features.get_statistics()
saved = features.save_as_config(
    config_name='demo', save_parquet=True, config_dir='user', description="basic features")
"""
STAGE_2 = """
from pathlib import Path
config_path = Path.home() / '.my_features' / 'demo.yaml'
features_v2 = FeatureSet.from_config(str(config_path), unified_experiment=exp)
features_v2.add('gm_normalized', func=lambda gm: (gm - gm.mean()) / gm.std(),
                input='gm_max', output_shape=('n_steps',))
features_v2.add(
    'gm_to_current_ratio',
    func=lambda gm, i: gm / (i + 1e-10),
    input=['gm_max', 'absI_max'],
    output_shape=('n_steps',)
)
result_v2 = features_v2.compute()
second = features_v2.get_statistics()
save_result = features_v2.save_as_config('demo', append=True, save_parquet=True, config_dir='user')
"""
STAGE_3 = """
features_v3 = FeatureSet.from_config(str(config_path), unified_experiment=exp)
result_v3 = features_v3.compute()
stats = features_v3.get_statistics()
table = features_v3.to_dataframe()
"""


def test_example__incremental_workflow_in_three_stages(cell: RunCell, lab: Path) -> None:
    cell(START)
    cell(STAGE_1)
    cell(STAGE_2)
    names = cell(STAGE_3)
    counts = [
        (names[k]["cache_hits"], names[k]["cache_misses"]) for k in ("first", "second", "stats")
    ]
    assert counts == [(0, 3), (3, 2), (5, 0)]
    assert names["saved"]["config_file"] == str(lab / ".my_features" / "demo.yaml")
    assert names["saved"]["features_added"] == ["gm_max", "Von", "absI_max"]
    assert names["save_result"]["features_added"] == ["gm_normalized", "gm_to_current_ratio"]
    assert (names["saved"]["config_version"], names["save_result"]["config_version"]) == (
        "1.0",
        "1.1",
    )
    gm = measured_gm(names["exp"].file_path)
    result = names["result_v3"]
    np.testing.assert_allclose(result["gm_max"], gm, rtol=1e-12)
    # What is left of gm after its mean is subtracted has the roundings of gm itself: of each of
    # the numbers added, and once more for the difference.
    gm = result["gm_max"]
    roundings = (len(gm) + 1) * np.finfo(float).eps * gm.max() / gm.std()
    np.testing.assert_allclose(
        result["gm_normalized"], (gm - gm.mean()) / gm.std(), rtol=1e-12, atol=roundings
    )
    np.testing.assert_allclose(
        result["gm_to_current_ratio"], gm / (result["absI_max"] + 1e-10), rtol=1e-12
    )
    assert list(names["table"].columns) == ["step_index", *result]
    assert pd.read_parquet(names["save_result"]["parquet_file"])["gm_max"].equals(
        names["table"]["gm_max"]
    )


def test_guide__workflow_search_and_summaries(cell: RunCell) -> None:
    cell(START)
    names = cell("""
long = manager.search(workflow_step_1_type='loop', workflow_step_1_2_param_cycles=6)
both = manager.search(chip_id="#20250804008", status='completed', workflow_step_1_iterations=3)
by_text = manager.batch_extract_features_v2('20250804009', 'v2_quick_analysis')
flat = exp.get_workflow_metadata()
summary = exp.get_workflow_summary()
done = exp.export_workflow_json('workflow.json')
manager.export_experiments_info(manager.search(), 'all.csv')
table = manager.create_combined_features_dataframe(
    manager.get_experiments_by_chip('#20250804009'), ['gm_max_forward'], include_workflow=True)
manager.close()
""")
    assert [e.test_id for e in names["long"]] == ["test_2"]
    assert {e.test_id for e in names["both"]} == {"test_1", "test_2", "test_3", "test_4"}
    assert len(names["by_text"]["successful"]) == 1
    assert names["flat"]["workflow_step_1_2_param_cycles"] == 4
    assert names["summary"]["step_types"] == {"loop": 2, "transfer": 2, "transient": 1}
    assert names["done"]
    assert list(pd.read_csv("all.csv")["test_id"]) == [f"test_{k}" for k in (5, 4, 3, 2, 1)]
    assert len(names["table"]) == 4
    assert set(names["table"]["workflow_step_1_2_param_cycles"]) == {4}


def test_guide__process_data_pipeline(cell: RunCell, lab: Path, make_device: Any) -> None:
    for number in (7, 8):
        make_device(number).write_folder(lab / "instrument" / f"run_{number}")
    before = sorted((path, path.read_bytes()) for path in (lab / "instrument").rglob("*.*"))
    names = cell(
        START
        + """
result = manager.process_data_pipeline(
    'instrument', clean_json=True, num_workers=1, conflict_strategy='skip',
    v2_feature_configs=['v2_transfer_basic', 'v2_quick_analysis'])
again = manager.process_data_pipeline('instrument', v2_feature_configs=['v2_quick_analysis'])
"""
    )
    result, again = names["result"], names["again"]
    assert result["overall_success"]
    assert result["steps_completed"] == [
        *("json_cleaning", "discovery", "conversion"),
        *("v2_feature_extraction_v2_transfer_basic", "v2_feature_extraction_v2_quick_analysis"),
    ]
    assert result["results"]["conversion"]["successful_conversions"] == 2
    assert len(result["results"]["v2_feature_extraction_v2_transfer_basic"]["successful"]) == 2
    assert again["results"]["conversion"]["skipped_conversions"] == 2
    assert len(again["results"]["v2_feature_extraction_v2_quick_analysis"]["skipped"]) == 2
    assert before == sorted((path, path.read_bytes()) for path in (lab / "instrument").rglob("*.*"))
