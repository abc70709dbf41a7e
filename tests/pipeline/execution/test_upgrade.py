"""What a second run in the same folder keeps, computes anew, and lets go."""

from __future__ import annotations

import numpy as np
import pytest

from oectflow.extractors.base import BaseExtractor, register
from oectflow.extractors.transfer import GmMax
from oectflow.pipeline.execution.run import extract
from oectflow.pipeline.features.feature_set import FeatureSet
from oectflow.pipeline.outputs.sink import read_columns, read_metadata

ABOVE = {"n": {"extractor": "transient.above", "input": "transient"}}


def run(raw, out, features, **options):
    return extract(raw, features, out, progress=False, **options)


def columns(out, name="test_0"):
    path = out / f"{name}.parquet"
    metadata = read_metadata(path)
    return read_columns(path, list(metadata["variables"]), metadata)


def define(limit):
    @register("transient.above")
    class Above(BaseExtractor):
        source = "transient"

        def extract_single_step(self, step_data, params):
            return float((step_data["drain_current"] > limit).sum())

    return Above


def test_built_in__a_version_that_was_raised_is_computed_anew(lab, tmp_path, monkeypatch):
    features = {
        "gm": {"extractor": "transfer.gm_max", "input": "transfer"},
        "Von": {"extractor": "transfer.Von", "input": "transfer"},
    }
    run(lab, tmp_path / "out", features)
    monkeypatch.setattr(GmMax, "version", GmMax.version + 1)
    (record, *_) = run(lab, tmp_path / "out", features).experiments
    assert record.computed == ("gm",)
    assert record.reused == ("Von",)


@pytest.mark.parametrize("granularity", ["auto", "step"])
def test_user__a_closure_is_part_of_an_extractor(lab, tmp_path, client, granularity):
    for limit in (0.0, 1e3):
        define(limit)
        report = run(lab, tmp_path / "out", ABOVE, client=client, granularity=granularity)
        assert {record.computed for record in report.experiments} == {("n",)}
        run(lab, tmp_path / f"fresh {limit}", ABOVE)
        np.testing.assert_array_equal(
            columns(tmp_path / "out")["n"], columns(tmp_path / f"fresh {limit}")["n"]
        )
    report = run(lab, tmp_path / "out", ABOVE)
    assert {record.outcome for record in report.experiments} == {"unchanged"}


FACTOR = 1.0


def test_user__one_feature_set_for_two_runs(lab, tmp_path, monkeypatch):
    """Its fingerprints are those of the moment when a run begins."""

    @register("transient.factor")
    class Factor(BaseExtractor):
        source = "transient"

        def extract_single_step(self, step_data, params):
            return FACTOR

    features = FeatureSet("mine").add("f", extractor="transient.factor")
    features.add("twice", func=lambda f: FACTOR + f, input="f")
    for factor in (1.0, 2.0):
        monkeypatch.setitem(globals(), "FACTOR", factor)
        run(lab, tmp_path / "out", features)
        assert set(columns(tmp_path / "out")["f"]) == {factor}
        assert set(columns(tmp_path / "out")["twice"]) == {2 * factor}


def test_user__what_cannot_be_pinned_is_computed_in_every_run(lab, tmp_path):
    model = np.random.default_rng(0)

    @register("transient.model")
    class Model(BaseExtractor):
        source = "transient"

        def extract_single_step(self, step_data, params):
            return model.random()

    features = {"m": {"extractor": "transient.model", "input": "transient"}}
    for _ in range(2):
        report = run(lab, tmp_path / "out", features, granularity="experiment")
        assert {record.computed for record in report.experiments} == {("m",)}
