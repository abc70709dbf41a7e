"""The examples of the seeds' documents on step-level parallel extraction (001 and 002)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from distributed import Client

from oectflow.errors import ConfigError


@pytest.fixture
def client(threads_of_dask: Any) -> Iterator[Client]:
    """Workers that are there already, so that none are started for ``n_workers=47``."""
    with threads_of_dask(2) as cluster, Client(cluster) as one:
        yield one


def test_001_4_and_002_11__step_mode(notebook: Any, client: Client) -> None:
    names = notebook("""
result = manager.batch_extract_features_v2(
    experiments=experiments,
    feature_config='v2_transfer_basic',
    execution_mode='step',
    n_workers=47
)
text = f"{len(result['successful'])} in {result['total_time_ms']/1000:.1f} s"
again = manager.batch_extract_features_v2(
    experiments=experiments,
    feature_config='v2_transfer_basic',
    execution_mode='experiment',
    n_workers=48,
    force_recompute=True
)
gm = exp.get_features(['gm_max_forward'])['gm_max_forward']
""")
    assert names["text"].startswith("2 in ")
    assert len(names["again"]["successful"]) == 2
    assert np.isfinite(names["gm"]).all()


def test_001_5_and_002_12__inline_configuration_of_both_kinds(
    notebook: Any, client: Client
) -> None:
    names = notebook("""
import autotau_extractors
result = manager.batch_extract_features_v2(
    experiments=experiments,
    feature_config={
        'gm_max': {'extractor': 'transfer.gm_max', 'input': 'transfer'},
        'Von': {'extractor': 'transfer.Von', 'input': 'transfer'},
        'tau_cycles': {
            'extractor': 'transient.tau_on_off',
            'input': 'transient',
            'params': {'r_squared_threshold': 0.99}
        }
    },
    execution_mode='step',
    n_workers=47
)
tau = exp.get_features(['tau_cycles'])['tau_cycles']
""")
    assert sorted(names["result"]["successful"]) == sorted(e.id for e in names["experiments"])
    assert np.nanmedian(names["tau"], axis=(0, 1)) == pytest.approx([4e-3, 6e-3], rel=0.1)


def test_001_2__arguments_that_were_deleted_warn(notebook: Any, client: Client) -> None:
    with pytest.warns(DeprecationWarning, match=r"use_parallel_executor|n_step_workers"):
        notebook("""
result = manager.batch_extract_features_v2(
    experiments,
    'v2_quick_analysis',
    output_dir=None,
    save_format='parquet',
    n_workers=1,
    use_parallel_executor=False,
    n_step_workers=1,
    force_recompute=False
)
""")


def test_001_12_and_002_8_to_10__extractors_of_transients(notebook: Any) -> None:
    with pytest.warns(UserWarning, match="takes the place of oectflow"):
        names = notebook("""
from infra.features_v2.extractors.base import BaseExtractor, register

@register('transient.peak_current')
class TransientPeakCurrentExtractor(BaseExtractor):
    def extract_single_step(self, step_data, params):
        drain_current = step_data['drain_current']
        use_abs = params.get('use_abs', True)
        if use_abs:
            return float(np.max(np.abs(drain_current)))
        else:
            return float(np.max(drain_current))

    @property
    def output_shape(self):
        return ()

@register('transient.cycles')
class TransientCyclesExtractor(BaseExtractor):
    def extract_single_step(self, step_data, params):
        drain_current = step_data['drain_current']
        n_cycles = params.get('n_cycles', 100)
        return drain_current[:n_cycles]

    @property
    def output_shape(self):
        n_cycles = self.params.get('n_cycles', 100)
        return (n_cycles,)

@register('custom.pairs')
class Pairs(BaseExtractor):
    def extract(self, data, params):
        data_list = data['transient'] if isinstance(data, dict) else data
        return np.array([self.extract_single_step(step_data, params) for step_data in data_list])

    def extract_single_step(self, step_data, params):
        return np.stack([step_data['continuous_time'][:3], step_data['drain_current'][:3]], axis=1)

    @property
    def output_shape(self):
        return ('n_cycles', 2)

values = exp.extract_features_v2({
    'peak': {'extractor': 'transient.peak_current', 'input': 'transient'},
    'first': {'extractor': 'transient.cycles', 'input': 'transient', 'params': {'n_cycles': 5}},
    'pairs': {'extractor': 'custom.pairs', 'input': 'transient'},
}, 'dict')
steps = [exp.get_transient_data(k) for k in range(3)]
""")
    for k, step in enumerate(names["steps"]):
        current = step["drain_current"]
        assert names["values"]["peak"][k] == np.abs(current).max()
        np.testing.assert_array_equal(names["values"]["first"][k], current[:5])
        np.testing.assert_array_equal(names["values"]["pairs"][k, :, 1], current[:3])


def test_002_20__a_class_without_any_method_says_so(notebook: Any) -> None:
    names = notebook("""
from infra.features_v2.extractors.base import BaseExtractor, register

@register('custom.my_feature')
class MyFeatureExtractor(BaseExtractor):
    pass

result = manager.batch_extract_features_v2(
    [exp], {'x': {'extractor': 'custom.my_feature', 'input': 'transfer'}})
""")
    ((_, reason),) = names["result"]["failed"]
    assert "MyFeatureExtractor does not define extract_single_step" in reason


def test_001_14__a_misspelt_mode_names_the_nearest(notebook: Any) -> None:
    with pytest.raises(ConfigError, match="did you mean 'step'"):
        notebook(
            "manager.batch_extract_features_v2("
            "experiments, 'v2_transfer_basic', execution_mode='stepp')"
        )
