"""Extractors as people wrote them for the package in use until now."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import h5py
import numpy as np
import pytest

import oectflow as of
from oectflow.errors import ConfigError
from oectflow.pipeline.execution.worker.run_extractor import Steps, run_extractor

SMART = """
from infra.features_v2.extractors.base import BaseExtractor, register

@register('custom.my_smart_feature')
class MySmartFeatureExtractor(BaseExtractor):
    def extract(self, data, params):
        data_list = data['transfer'] if isinstance(data, dict) else data
        results = [self.extract_single_step(step_data, params) for step_data in data_list]
        return np.array(results)

    def extract_single_step(self, step_data, params):
        vg = step_data['Vg']
        id_array = step_data['Id']
        smart_value = self._compute_smart_feature(vg, id_array, params)
        return float(smart_value)

    def _compute_smart_feature(self, vg, id_array, params):
        return id_array[vg.argmax()] - id_array[vg.argmin()]

    @property
    def output_shape(self):
        return ()

result = manager.batch_extract_features_v2(
    experiments=experiments,
    feature_config={
        'my_smart_feature': {'extractor': 'custom.my_smart_feature', 'input': 'transfer'}
    },
    execution_mode='step',
    n_workers=1
)
frame = exp.get_v2_feature_dataframe('inline_config')
"""
ALL_AT_ONCE = """
from infra.features_v2.extractors.base import BaseExtractor, register

@register('custom.drift')
class Drift(BaseExtractor):
    def extract(self, data, params):
        steps = {take}
        peaks = np.array([np.max(np.abs(step['Id'])) for step in steps])
        return {result}

    @property
    def output_shape(self):
        return {shape}

result = manager.batch_extract_features_v2(
    experiments, {{'drift': {{'extractor': 'custom.drift', 'input': 'transfer'}}}},
    execution_mode='{mode}')
values = exp.get_features(['drift'])['drift']
"""


def sweeps(path: str) -> np.ndarray:
    with h5py.File(path) as file:
        return file["transfer/measurement_data"][()]


def peaks(path: str) -> np.ndarray:
    return np.nanmax(np.abs(sweeps(path)[:, 1]), axis=1)


def test_class_without_source__the_kind_is_what_input_says(notebook: Any) -> None:
    names = notebook(SMART)
    assert sorted(names["result"]["successful"]) == sorted(e.id for e in names["experiments"])
    data = sweeps(names["exp"].file_path)
    expected = [step[1, step[0].argmax()] - step[1, step[0].argmin()] for step in data]
    np.testing.assert_array_equal(names["frame"]["my_smart_feature"], expected)


@pytest.mark.parametrize("take", ["data", "data['transfer']"])
@pytest.mark.parametrize("mode", ["auto", "step", "experiment"])
def test_extract_alone__gets_all_steps_of_the_experiment(
    notebook: Any, take: str, mode: str
) -> None:
    names = notebook(
        ALL_AT_ONCE.format(take=take, result="peaks / peaks[0]", shape="('n_steps',)", mode=mode)
    )
    expected = peaks(names["exp"].file_path)
    np.testing.assert_array_equal(names["values"], expected / expected[0])


@pytest.mark.parametrize(
    ("result", "shape"),
    [
        ("np.stack([peaks, 2 * peaks], axis=1)", "('n_steps', 2)"),
        ("np.stack([peaks, 2 * peaks], axis=1)", "(2,)"),
        ("np.stack([peaks, 2 * peaks], axis=1)", "('n_steps', 'n_cycles')"),
    ],
)
def test_extract_alone__several_values_per_step(notebook: Any, result: str, shape: str) -> None:
    names = notebook(ALL_AT_ONCE.format(take="data", result=result, shape=shape, mode="auto"))
    expected = peaks(names["exp"].file_path)
    np.testing.assert_array_equal(names["values"], np.stack([expected, 2 * expected], axis=1))


def test_extract_alone__wrong_shape_and_exceptions_are_failures_of_every_step(
    notebook: Any,
) -> None:
    for result, said in (("peaks[:2]", r"shape \(2,\), expected \(4,\)"), ("missing", "missing")):
        names = notebook(
            ALL_AT_ONCE.format(take="data", result=result, shape="('n_steps',)", mode="auto")
            + "frame = exp.get_v2_feature_dataframe('inline_config', "
            "feature_names=['drift', 'drift_status'])\n"
        )
        assert len(names["result"]["failed"]) == 2
        for _, reason in names["result"]["failed"]:
            assert re.search(said, reason), reason
        assert np.isnan(names["values"]).all()


def test_kind__follows_from_the_name_where_nothing_else_tells(notebook: Any) -> None:
    names = notebook("""
from infra.features_v2.extractors.base import BaseExtractor, register

@register('lab.transient_charge')
class Charge(BaseExtractor):
    def extract_single_step(self, step_data, params):
        return np.trapezoid(step_data['drain_current'], step_data['original_time'])

values = exp.extract_features_v2({'q': {'extractor': 'lab.transient_charge'}}, 'dict')
""")
    assert names["values"]["q"].shape == (3,)
    assert np.isfinite(names["values"]["q"]).all()


def test_kind__left_open_is_an_error_before_anything_runs(notebook: Any) -> None:
    notebook(SMART)
    with pytest.raises(ConfigError, match=r"'custom\.my_smart_feature' does not say what it reads"):
        notebook("exp.extract_features_v2({'x': {'extractor': 'custom.my_smart_feature'}})")
    with pytest.raises(ConfigError, match=r"'tranfer' is no kind.*did you mean 'transfer'"):
        notebook(
            "exp.extract_features_v2("
            "{'x': {'extractor': 'custom.my_smart_feature', 'input': 'tranfer'}})"
        )


def test_one_class_for_two_kinds__neither_takes_the_results_of_the_other(notebook: Any) -> None:
    names = notebook("""
from infra.features_v2.extractors.base import BaseExtractor, register

@register('custom.samples')
class Samples(BaseExtractor):
    def extract_single_step(self, step_data, params):
        return float(len(step_data['Id']))

first = exp.extract_features_v2({'n': {'extractor': 'custom.samples', 'input': 'transfer'}}, 'dict')
then = exp.extract_features_v2({'n': {'extractor': 'custom.samples', 'input': 'transient'}}, 'dict')
""")
    assert names["first"]["n"][0] == 41
    assert names["then"]["n"][0] > 41


def test_built_in_name__warns_and_takes_the_users_class(notebook: Any) -> None:
    with pytest.warns(UserWarning, match=r"takes the place of oectflow\.extractors\.transfer\."):
        notebook("""
from infra.features_v2.extractors.base import BaseExtractor, register

@register('transfer.gm_max')
class GmMaxExtractor(BaseExtractor):
    def extract_single_step(self, step_data, params):
        return np.array([1.0, 2.0], dtype=np.float32)

    @property
    def output_shape(self):
        return (2,)
""")
    names = notebook(
        "gm = exp.extract_features_v2("
        "{'gm': {'extractor': 'transfer.gm_max', 'input': 'transfer'}}, 'dict')"
    )
    np.testing.assert_array_equal(names["gm"]["gm"], [[1, 2]] * 4)


def test_function_of_raw_steps(notebook: Any) -> None:
    names = notebook("""
from infra.features_v2 import FeatureSet
features = FeatureSet(unified_experiment=exp)
features.add('mean_id', func=lambda x: np.array([np.mean(s['Id']) for s in x]), input='transfer')
features.add('relative', func=lambda m: m / m[0], input='mean_id')
values = features.compute()
""")
    expected = np.nanmean(sweeps(names["exp"].file_path)[:, 1], axis=1)
    np.testing.assert_allclose(names["values"]["mean_id"], expected, rtol=1e-14)
    np.testing.assert_allclose(names["values"]["relative"], expected / expected[0], rtol=1e-14)


def test_function_of_raw_steps__another_function_or_kind_is_another_feature() -> None:
    one = of.FeatureSet().add("x", func=lambda steps: 1.0 * len(steps), input="transfer")
    two = of.FeatureSet().add("x", func=lambda steps: 2.0 * len(steps), input="transfer")
    three = of.FeatureSet().add("x", func=lambda steps: 2.0 * len(steps), input="transient")
    assert len({str(features.fingerprints()) for features in (one, two, three)}) == 3


def test_extract_alone__a_step_that_cannot_be_read_takes_all_with_it() -> None:
    class Drift(of.BaseExtractor):
        source = "transfer"

        def extract(self, data, params=None):
            return np.array([step["Id"].max() for step in data])

    sweep = {"Vg": np.arange(3.0), "Id": np.arange(3.0)}
    whole = Steps("transfer", of.Batch.from_steps([sweep, sweep]))
    columns, errors = run_extractor(Drift(), whole)
    np.testing.assert_array_equal(columns["value"], [2, 2])
    assert errors == {}
    columns, errors = run_extractor(Drift(), replace(whole, unreadable={1: "cut"}))
    assert np.isnan(columns["value"]).all()
    assert errors == {0: ("UnreadableFile", "cut"), 1: ("UnreadableFile", "cut")}
