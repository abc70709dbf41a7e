"""What a second run in the same folder keeps, computes anew, and lets go."""

from __future__ import annotations

import json
import os

import numpy as np
import pandas as pd
import pytest

from oectflow.errors import OutputError
from oectflow.extractors.base import BaseExtractor, register
from oectflow.extractors.transfer import GmMax
from oectflow.pipeline.execution.driving.run import extract, plan
from oectflow.pipeline.features.feature_list import FeatureList
from oectflow.pipeline.inputs.simulate import simulate_device
from oectflow.pipeline.outputs.results import problems_frame
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


def test_user__what_code_that_cannot_be_pinned_costs_is_known(lab, tmp_path):
    """It is computed anew in every run, but timed once, and the book of costs does not grow."""

    @register("transient.reads_a_file")
    class ReadsAFile(BaseExtractor):
        source = "transient"

        def extract_single_step(self, step_data, params):
            with open(os.devnull) as file:  # noqa: PTH123
                return float(len(file.read()))

    features = {"n": {"extractor": "transient.reads_a_file", "input": "transient"}}
    costs, unknown = [], []
    for _ in range(3):
        forecast = plan(lab, features, tmp_path / "out")
        unknown.append(forecast.predicted_seconds is None)
        report = run(lab, tmp_path / "out", features)
        assert {record.computed for record in report.experiments} == {("n",)}
        content = json.loads((tmp_path / "out" / ".oectflow-costs.json").read_text())
        costs.append((sorted(content["costs"]), content["trusted"]))
    assert unknown == [True, False, False]
    assert costs[0] == costs[1] == costs[2]


FACTOR = 1.0


def test_user__one_feature_set_for_two_runs(lab, tmp_path, monkeypatch):
    """Its fingerprints are those of the moment when a run begins."""

    @register("transient.factor")
    class Factor(BaseExtractor):
        source = "transient"

        def extract_single_step(self, step_data, params):
            return FACTOR

    features = FeatureList("mine").add("f", extractor="transient.factor")
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


# What stays beside what is computed anew ----------------------------------------------------------

GM = {"gm": {"extractor": "transfer.gm_max", "input": "transfer"}}
REVERSE = {"gm": GM["gm"] | {"params": {"direction": "reverse"}}}
HALF = {"gm_half": {"func": "gm / 2", "input": "gm"}}
QUARTER = {"gm_quarter": {"func": lambda half: half / 2, "input": "gm_half"}}
PEAK = {"peak": {"extractor": "transient.peak_current", "input": "transient"}}
TAU = {"tau": {"extractor": "transient.tau_on_off", "input": "transient"}}
OTHER_TAU = {"tau": TAU["tau"] | {"params": {"window": "full_phase"}}}
MS = {"tau_ms": {"func": "mean(tau_on, axis=1) * 1000", "input": "tau_on"}}
R2 = {
    "good": {
        "func": lambda r2: r2 > 0.9,
        "input": "tau_r_squared",
        "output_shape": ["n_steps", 6, 2],
    }
}


@pytest.mark.parametrize(
    ("first", "second", "gone"),
    [
        (GM | HALF, REVERSE, {"gm_half"}),
        (GM | HALF | QUARTER, REVERSE, {"gm_half", "gm_quarter"}),
        (GM | HALF | PEAK, REVERSE, {"gm_half"}),
        (GM | HALF, PEAK, set()),
        (GM | HALF, GM | PEAK, set()),
        (TAU | MS, OTHER_TAU, {"tau_ms"}),
        (TAU | R2, OTHER_TAU, {"good"}),
        # The name is used for something else now.
        (GM | HALF, {"gm": PEAK["peak"]}, {"gm_half"}),
        ({"tau_on": GM["gm"]}, TAU, {"tau_on"}),
        ({"tau_on": GM["gm"]} | {"twice": {"func": "2 * tau_on", "input": "tau_on"}}, TAU,
         {"tau_on", "twice"}),
        (GM | {"half": {"func": "gm / 2", "input": "gm"}}, {"half": PEAK["peak"]}, set()),
    ],
)  # fmt: skip
def test_kept__never_beside_another_input_than_its_own(lab, tmp_path, first, second, gone):
    run(lab, tmp_path / "out", first)
    before = columns(tmp_path / "out")
    report = run(lab, tmp_path / "out", second)
    assert {name for record in report.experiments for name in record.dropped} == gone
    for name in gone:
        assert f"not kept: {name} of 3 experiments: " in str(report)
        assert name in report.explain()
    there = columns(tmp_path / "out")
    assert there.keys().isdisjoint(gone)
    for name in first.keys() - second.keys() - gone:
        np.testing.assert_array_equal(there.get(name), before.get(name))
    run(lab, tmp_path / "fresh", second)
    for name, values in columns(tmp_path / "fresh").items():
        np.testing.assert_array_equal(there[name], values)


def test_kept__asked_for_again_it_is_computed(lab, tmp_path):
    run(lab, tmp_path / "out", GM | HALF)
    run(lab, tmp_path / "out", REVERSE)
    report = run(lab, tmp_path / "out", REVERSE | HALF)
    assert {record.computed for record in report.experiments} == {("gm_half",)}
    there = columns(tmp_path / "out")
    np.testing.assert_array_equal(there["gm_half"], there["gm"] / 2)


def test_kept__what_raised_is_tried_again_with_what_depends_on_it(lab, tmp_path):
    broken = [True]

    @register("transfer.sometimes")
    class Sometimes(BaseExtractor):
        source = "transfer"

        def extract_single_step(self, step_data, params):
            if broken[0]:
                raise OSError("no disk")
            return 1.0

    features = {"a": {"extractor": "transfer.sometimes", "input": "transfer"}}
    twice = {"twice": {"func": "2 * a", "input": "a"}}
    run(lab, tmp_path / "out", features | twice)
    broken[0] = False
    report = run(lab, tmp_path / "out", features)
    assert {tuple(record.dropped) for record in report.experiments} == {("twice",)}


def test_force__columns_that_were_not_asked_for_stay(lab, tmp_path):
    run(lab, tmp_path / "out", GM | HALF | PEAK)
    before = columns(tmp_path / "out")
    report = run(lab, tmp_path / "out", PEAK, force=True)
    assert {record.computed for record in report.experiments} == {("peak",)}
    assert {record.reused for record in report.experiments} == {("gm", "gm_half")}
    there = columns(tmp_path / "out")
    assert there.keys() == before.keys()
    for name, values in before.items():
        np.testing.assert_array_equal(there[name], values)


def test_changed_raw_file__names_what_goes(lab, tmp_path):
    run(lab, tmp_path / "out", GM | PEAK)
    simulate_device(
        99, n_transfer=2, n_transient=2, n_points=41, n_cycles=3, test_id="test_0"
    ).write(lab / "device0.h5")
    report = run(lab, tmp_path / "out", PEAK)
    assert report.experiments[0].dropped == {"gm": "the raw file has changed"}
    assert "not kept: gm of 1 experiment: the raw file has changed" in str(report)
    assert "gm" not in columns(tmp_path / "out")
    assert [record.dropped for record in report.experiments[1:]] == [{}, {}]


# Problems -----------------------------------------------------------------------------------------


def test_problems_frame__holds_all_of_them(tmp_path):
    @register("transfer.never")
    class Never(BaseExtractor):
        source = "transfer"

        def extract_single_step(self, step_data, params):
            raise ValueError("no")

    simulate_device(0, n_transfer=50, n_transient=1, n_points=21, test_id="many").write(
        tmp_path / "raw.h5"
    )
    features = {"never": {"extractor": "transfer.never", "input": "transfer"}}
    report = run(tmp_path / "raw.h5", tmp_path / "out", features)
    frame = report.problems_frame()
    assert len(frame) == report.experiments[0].n_problems == 50
    pd.testing.assert_frame_equal(frame, problems_frame(tmp_path / "out"))
    (tmp_path / "out" / "many.parquet").unlink()
    with pytest.raises(OutputError, match=r"many.parquet: is gone, and with it 50 problems"):
        report.problems_frame()
