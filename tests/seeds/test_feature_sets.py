"""Feature sets as the seeds and the README of the package in use build them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import oectflow as of
from oectflow.errors import ConfigError


def test_seed_001_15__cycle_is_found_by_add() -> None:
    features = of.FeatureSet()
    features.add("gm_max", extractor="transfer.gm_max", input="transfer")
    features.add("gm_norm", func=lambda x: x / x.mean(), input="gm_max")
    features.add("A", input="B")
    with pytest.raises(ConfigError, match="a cycle, features need each other: A → B → A"):
        features.add("B", input="A")


def test_cycle__of_functions_and_longer_ones() -> None:
    features = of.FeatureSet()
    features.add("a", func=lambda b: b, input="b")
    features.add("b", func=lambda c: c, input="c")
    with pytest.raises(ConfigError, match="a cycle, features need each other: a → b → c → a"):
        features.add("c", func=lambda a, b: a + b, input=["a", "b"])


def test_inputs_may_be_added_later() -> None:
    features = of.FeatureSet()
    features.add("twice", func=lambda x: 2 * x, input="relative")
    features.add("relative", func="gm / gm.mean()")
    with pytest.raises(ConfigError, match=r"unknown input 'gm'"):
        _ = features.features
    features.add("gm", extractor="transfer.gm_max", input="transfer")
    assert list(features.features) == ["gm", "relative", "twice"]
    assert [one.name for one in features.derived] == ["relative", "twice"]
    assert len(features.fingerprints()) == 3
    assert features.to_config()["features"][1]["name"] == "relative"


def test_input_that_never_comes__is_named_when_the_set_is_used() -> None:
    features = of.FeatureSet()
    features.add("gm", extractor="transfer.gm_max").add("x", func="gmm / 2")
    for use in (len, of.FeatureSet.fingerprints, lambda f: f.variables, lambda f: f.derived):
        with pytest.raises(ConfigError, match=r"'x': unknown input 'gmm'; did you mean 'gm'"):
            use(features)


def test_from_config__with_an_experiment(notebook: Any) -> None:
    names = notebook("""
from infra.experiment import Experiment
from infra.features_v2 import FeatureSet
experiment = Experiment(exp.file_path)
features = FeatureSet(experiment=experiment)
features.add('gm_max', extractor='transfer.gm_max', input='transfer')
features.add('gm_norm', func=lambda gm: gm / gm.max(), input='gm_max')
values = features.compute()
frame = features.to_dataframe()
again = FeatureSet.from_config('v2_transfer_basic', experiment=experiment).to_dataframe()
one = FeatureSet(experiment)
""")
    np.testing.assert_array_equal(names["frame"]["gm_max"], names["values"]["gm_max"])
    assert names["values"]["gm_norm"].max() == 1
    assert len(names["again"]) == 4
    assert names["one"].add("n", extractor="transfer.absI_max").compute()["n"].shape == (4,)


def test_experiment__something_else_is_named() -> None:
    with pytest.raises(ConfigError, match="experiment=5: expected an experiment, or the path"):
        of.FeatureSet(experiment=5)  # type: ignore[arg-type]
