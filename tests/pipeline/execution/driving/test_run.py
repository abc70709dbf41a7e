"""Whole runs: the same numbers on every path, resume, and failures that stay where they are."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from oectflow.errors import ConfigError, InputError, RunFailed
from oectflow.extractors.base import BaseExtractor, register
from oectflow.pipeline.execution.driving.run import extract
from oectflow.pipeline.features.feature_list import FeatureList
from oectflow.pipeline.inputs.simulate import damage, simulate_device
from oectflow.pipeline.outputs.results import open_results, problems_frame
from oectflow.pipeline.outputs.sink import read_columns, read_metadata

QUICK = {
    "gm": {"extractor": "transfer.gm_max", "input": "transfer"},
    "peak": {"extractor": "transient.peak_current", "input": "transient"},
}
WITH_DERIVED = QUICK | {"gm_half": {"func": "lambda gm: gm / 2", "input": "gm"}}


def run(raw, out, features=QUICK, **options):
    return extract(raw, features, out, progress=False, **options)


def columns_of(out: Path) -> dict[str, dict[str, np.ndarray]]:
    result = {}
    for path in sorted(out.glob("*.parquet")):
        metadata = read_metadata(path)
        result[path.stem] = read_columns(path, list(metadata["variables"]), metadata)
    return result


def assert_same(left, right):
    assert left.keys() == right.keys()
    for name in left:
        assert left[name].keys() == right[name].keys()
        for column in left[name]:
            np.testing.assert_array_equal(left[name][column], right[name][column], strict=True)


def test_extract__every_experiment_and_step_has_its_row(lab, tmp_path):
    report = run(lab, tmp_path / "out", "all")
    assert report.ok
    assert {record.outcome for record in report.experiments} <= {"done", "flagged"}
    for i, path in enumerate(sorted((tmp_path / "out").glob("*.parquet"))):
        table = pq.read_table(path)
        # Rows for the longer source: 4, 5, 6 transfer steps and 5 transient ones.
        assert table["step_index"].to_pylist() == list(range(max(4 + i, 5)))
        assert table["experiment_id"].to_pylist() == [f"test_{i}"] * len(table)


def test_extract__a_status_code_without_a_word_costs_that_feature_only(lab, tmp_path):
    @register("transient.run_status_off")
    class Off(BaseExtractor):
        source = "transient"
        unit = "A"

        def extract_single_step(self, step_data, params):
            return {"value": 1.0, "status": 4}

    off = {"off": {"extractor": "transient.run_status_off", "input": "transient"}}
    run(lab, tmp_path / "out", QUICK | off)
    run(lab, tmp_path / "quick", QUICK)
    quick = columns_of(tmp_path / "quick")
    for name, columns in columns_of(tmp_path / "out").items():
        table = open_results(tmp_path / "out" / f"{name}.parquet")
        assert set(table["off_status"].values[0, :5]) == {"error"}
        assert np.isnan(columns["off"]).all()
        for column, values in quick[name].items():
            np.testing.assert_array_equal(columns[column], values)
    problems = problems_frame(tmp_path / "out")
    assert set(problems["feature"]) == {"off"}
    assert problems["message"].str.contains("status code 4, its words have the codes 0 to 2").all()


@pytest.mark.parametrize("granularity", ["auto", "step", "experiment", 2])
def test_extract__cluster_and_granularity_change_no_bit(lab, tmp_path, client, granularity):
    run(lab, tmp_path / "threads", "all", client=None, granularity="experiment")
    reference = columns_of(tmp_path / "threads")
    report = run(lab, tmp_path / "cluster", "all", client=client, granularity=granularity)
    assert report.ok
    assert_same(columns_of(tmp_path / "cluster"), reference)


def test_extract__derived_features_are_the_same_whether_steps_are_tasks_or_not(
    lab, tmp_path, client
):
    class Varying(BaseExtractor):
        source = "transient"
        output_shape = ("n_cycles",)
        bad: int | None = None

        def extract_single_step(self, step_data, params):
            n = int(step_data["Id"][:1].view(np.int64)[0]) % 4
            if n == self.bad:
                raise ValueError("no value")
            return np.log(step_data["Id"][5 : 5 + (n + type(self).shift) % 4] ** 2)

    @register("transient.run_varying")
    class First(Varying):
        shift = 1

    @register("transient.run_varying_too")
    class Second(Varying):
        shift, bad = 2, 3

    features = {
        "a": {"extractor": "transient.run_varying"},
        "b": {"extractor": "transient.run_varying_too"},
        "gm": {"extractor": "transfer.gm_max"},
        "peak": {"extractor": "transient.peak_current"},
        "a_scaled": {"func": "np.exp(a) / peak + a"},
        "a_scaled_twice": {"func": "a_scaled * 3 - peak ** 2"},
        "sum_of_other_lengths": {"func": "a + b"},
        "b_filled": {"func": "np.nan_to_num(b)"},
        "b_half": {"func": "b / 2"},
        "b_last": {"func": "last(b, axis=1)"},
        "gm_per_peak": {"func": "gm / peak"},
        "peak_drift": {"func": "peak - peak[0]"},
    }
    run(lab, tmp_path / "whole", features, client=None, granularity="experiment")
    run(lab, tmp_path / "steps", features, client=client, granularity="step")
    assert_same(columns_of(tmp_path / "steps"), columns_of(tmp_path / "whole"))
    whole, steps = (problems_frame(tmp_path / name) for name in ("whole", "steps"))
    assert steps.equals(whole)
    assert {"b", "sum_of_other_lengths"} <= set(whole["feature"])


def test_extract__what_is_carried_from_step_to_step_is_the_same_in_any_batches(lab, tmp_path):
    features = {
        "tau": {
            "extractor": "transient.tau_on_off",
            "input": "transient",
            "params": {"search": "cached", "revalidation_interval": 2},
        }
    }
    reference = None
    for granularity in ("experiment", "step", 1, 3, "auto"):
        out = tmp_path / str(granularity)
        assert run(lab, out, features, granularity=granularity).ok
        reference = reference or columns_of(out)
        assert_same(columns_of(out), reference)


def transitions(client):
    """Return how often any task has changed its state, once what is released is forgotten."""

    def count():
        return client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.transition_counter)

    before, now = -1, count()
    while now != before:
        time.sleep(0.3)
        before, now = now, count()
    return now


def test_extract__the_active_client_is_used(lab, tmp_path, client):
    before = transitions(client)
    run(lab, tmp_path / "out", granularity="experiment")
    assert transitions(client) > before


def test_extract__nothing_to_do_needs_no_cluster(lab, tmp_path, client):
    run(lab, tmp_path / "out", granularity="experiment")
    before = transitions(client)
    report = run(lab, tmp_path / "out", client=client)
    assert transitions(client) == before
    assert report.plan.ways == []


def test_extract__again_does_nothing(lab, tmp_path):
    def written():
        # Older versions of filelock touch the lock's file; nobody reads when.
        files = list((tmp_path / "out").iterdir())
        return {p: p.suffix == ".lock" or p.stat().st_mtime_ns for p in files}

    run(lab, tmp_path / "out")
    before = written()
    report = run(lab, tmp_path / "out")
    assert {record.outcome for record in report.experiments} == {"unchanged"}
    assert "nothing to do" in str(report)
    assert written() == before


def test_extract__an_added_feature_is_the_only_one_computed(lab, tmp_path):
    run(lab, tmp_path / "out")
    first = columns_of(tmp_path / "out")
    more = WITH_DERIVED | {"Von": {"extractor": "transfer.Von", "input": "transfer"}}
    report = run(lab, tmp_path / "out", more)
    for record in report.experiments:
        assert set(record.computed) == {"gm_half", "Von"}
        assert set(record.reused) == {"gm", "peak"}
    second = columns_of(tmp_path / "out")
    for name, columns in first.items():
        for column, values in columns.items():
            np.testing.assert_array_equal(second[name][column], values, strict=True)
        np.testing.assert_array_equal(second[name]["gm_half"], columns["gm"] / 2)


def test_extract__a_changed_parameter_is_computed_again_with_what_depends_on_it(lab, tmp_path):
    run(lab, tmp_path / "out", WITH_DERIVED)
    reverse = WITH_DERIVED | {"gm": QUICK["gm"] | {"params": {"direction": "reverse"}}}
    report = run(lab, tmp_path / "out", reverse)
    for record in report.experiments:
        assert set(record.computed) == {"gm", "gm_half"}
    run(lab, tmp_path / "fresh", reverse)
    assert_same(columns_of(tmp_path / "out"), columns_of(tmp_path / "fresh"))


def test_extract__a_changed_raw_file_is_computed_again(lab, tmp_path):
    run(lab, tmp_path / "out")
    path = lab / "device0.h5"
    simulate_device(
        99, n_transfer=2, n_transient=2, n_points=41, n_cycles=3, test_id="test_0"
    ).write(path)
    report = run(lab, tmp_path / "out")
    assert [record.outcome for record in report.experiments][1:] == ["unchanged"] * 2
    assert report.experiments[0].n_steps == 2
    assert report.experiments[0].reused == ()


def test_extract__a_touched_raw_file_is_not(lab, tmp_path):
    run(lab, tmp_path / "out")
    os.utime(lab / "device0.h5")
    assert {record.outcome for record in run(lab, tmp_path / "out").experiments} == {"unchanged"}


def test_extract__a_changed_description_is_rewritten_but_not_computed(lab, tmp_path):
    run(lab, tmp_path / "out")
    before = columns_of(tmp_path / "out")
    described = QUICK | {"gm": QUICK["gm"] | {"description": "of my device", "unit": "mho"}}
    report = run(lab, tmp_path / "out", described)
    assert all(record.computed == () for record in report.experiments)
    assert_same(columns_of(tmp_path / "out"), before)
    attributes = open_results(tmp_path / "out")["gm"].attrs
    assert attributes == {"units": "mho", "description": "of my device", "feature": "gm"}
    assert {record.outcome for record in run(lab, tmp_path / "out", described).experiments} == {
        "unchanged"
    }


def test_extract__a_feature_of_one_component_is_not_computed_again(lab, tmp_path):
    features = {
        "tau": {"extractor": "transient.tau_on_off", "input": "transient"},
        "tau_mean": {"func": "lambda tau: tau.mean(axis=1)", "input": "tau_on"},
    }
    run(lab, tmp_path / "out", features)
    report = run(lab, tmp_path / "out", features)
    assert {record.outcome for record in report.experiments} == {"unchanged"}


def test_extract__force(lab, tmp_path):
    run(lab, tmp_path / "out")
    report = run(lab, tmp_path / "out", force=True)
    assert all(set(record.computed) == {"gm", "peak"} for record in report.experiments)


def test_extract__features_of_an_earlier_run_are_kept(lab, tmp_path):
    run(lab, tmp_path / "out")
    run(lab, tmp_path / "out", {"Von": {"extractor": "transfer.Von", "input": "transfer"}})
    assert {"gm", "peak", "Von"} <= columns_of(tmp_path / "out")["test_0"].keys()


def test_extract__one_broken_file_never_stops_the_others(lab, tmp_path):
    damage(lab / "device0.h5")
    (lab / "notes.h5").write_text("not HDF5 at all")
    report = run(lab, tmp_path / "out")
    assert {Path(record.path).name for record in report.failed} == {"device0.h5", "notes.h5"}
    for record in report.failed:
        assert record.path in record.reason
    assert {p.stem for p in (tmp_path / "out").glob("*.parquet")} == {"test_1", "test_2"}


def test_extract__raise_when_everything_else_is_written(lab, tmp_path):
    damage(lab / "device0.h5")
    with pytest.raises(RunFailed, match=r"device0\.h5"):
        run(lab, tmp_path / "out", on_error="raise")
    assert {p.stem for p in (tmp_path / "out").glob("*.parquet")} == {"test_1", "test_2"}


def test_extract__two_files_of_one_test(lab, tmp_path):
    (lab / "copy.h5").write_bytes((lab / "device0.h5").read_bytes())
    report = run(lab, tmp_path / "out")
    (failed,) = report.failed
    assert "test_id 'test_0'" in failed.reason
    assert "copy.h5" in failed.reason


def test_extract__a_file_that_is_not_ours_is_left_alone(lab, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "test_0.parquet").write_text("somebody's notes")
    report = run(lab, out)
    assert "not written by oectflow" in report.failed[0].reason
    assert (out / "test_0.parquet").read_text() == "somebody's notes"


@pytest.mark.parametrize("what", ["folder", "pattern", "file"])
def test_extract__nothing_there(tmp_path, what):
    target = {"folder": tmp_path, "pattern": tmp_path / "*.h5", "file": tmp_path / "a.h5"}[what]
    with pytest.raises(InputError, match=str(tmp_path)):
        run(target, tmp_path / "out")


def test_extract__options_are_checked_before_anything_is_done(lab, tmp_path):
    for options in ({"granularity": "steps"}, {"on_error": "ignore"}):
        with pytest.raises(ConfigError):
            run(lab, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def failing_extractor(name: str, action):
    """Return a registered extractor whose third step does something bad.

    It is defined in a function, like a class in a notebook: it travels to the workers by value.
    """

    @register(name)
    class Failing(BaseExtractor):
        source = "transient"
        unit = "A"

        def extract_single_step(self, step_data, params):
            mean = step_data["drain_current"].mean()
            if step_data["continuous_time"][0] > 2.5 * len(step_data["continuous_time"]) * 1e-3:
                action()
            return mean

    return name


@pytest.mark.parametrize("where", ["threads", "cluster"])
def test_extract__an_exception_is_a_row_and_not_the_end(lab, tmp_path, request, where):
    def action():
        raise ZeroDivisionError("the third step is bad")

    features = QUICK | {
        "bad": {"extractor": failing_extractor("transient.raises", action), "input": "transient"},
        "worse": {"func": "lambda bad: bad * 2", "input": "bad"},
    }
    client = request.getfixturevalue("client") if where == "cluster" else None
    report = run(lab, tmp_path / "out", features, client=client)
    assert len(report.failed) == 3
    assert "the third step is bad" in report.failed[0].reason
    problems = report.problems_frame()
    assert set(problems["error_type"]) == {"ZeroDivisionError"}
    assert set(problems["feature"]) == {"bad"}
    for columns in columns_of(tmp_path / "out").values():
        assert np.isfinite(columns["bad"][:3]).all()
        assert np.isnan(columns["bad"][3:5]).all()
        assert np.isfinite(columns["peak"][:5]).all()


def test_extract__a_step_that_raised_is_tried_again(lab, tmp_path):
    switch = tmp_path / "repaired"

    def action():
        if not switch.exists():
            raise RuntimeError("not yet")

    features = {
        "f": {"extractor": failing_extractor("transient.retry", action), "input": "transient"}
    }
    assert not run(lab, tmp_path / "out", features).ok
    switch.touch()
    report = run(lab, tmp_path / "out", features)
    assert report.ok
    assert all(record.computed == ("f",) for record in report.experiments)


def test_extract__a_killed_worker_loses_nothing(lab, tmp_path, client):
    marker = tmp_path / "killed"

    def action():
        # The first process that gets here dies, as under the kernel's memory killer.
        try:
            marker.touch(exist_ok=False)
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)

    name = failing_extractor("transient.killed_once", action)
    features = QUICK | {"mean": {"extractor": name, "input": "transient"}}
    report = run(lab, tmp_path / "out", features, client=client, granularity="step")
    assert marker.exists()
    assert report.ok
    run(lab, tmp_path / "reference", features, client=None)
    assert_same(columns_of(tmp_path / "out"), columns_of(tmp_path / "reference"))


def test_extract__workers_killed_from_outside_lose_nothing(lab, tmp_path, client):
    def slow():
        time.sleep(0.05)

    name = failing_extractor("transient.slow", slow)
    features = QUICK | {"mean": {"extractor": name, "input": "transient"}}

    def kill():
        time.sleep(0.3)
        os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    report = run(lab, tmp_path / "out", features, client=client, granularity="step")
    killer.join()
    assert report.ok
    run(lab, tmp_path / "reference", features, client=None)
    assert_same(columns_of(tmp_path / "out"), columns_of(tmp_path / "reference"))
    assert not list((tmp_path / "out").glob(".*.tmp"))


def test_extract__feature_sets_are_taken_as_objects(lab, tmp_path):
    feature_set = FeatureList("mine").add("gm", extractor="transfer.gm_max", input="transfer")
    assert run(lab, tmp_path / "out", feature_set).ok
    assert read_metadata(tmp_path / "out" / "test_0.parquet")["config"] == "mine"
