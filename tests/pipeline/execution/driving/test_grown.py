"""A raw file that has grown: only what is new is computed, and nobody can tell it afterwards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from oectflow.extractors.base import BaseExtractor, register
from oectflow.pipeline.execution.driving import local
from oectflow.pipeline.execution.driving import run as run_module
from oectflow.pipeline.execution.driving.run import extract, plan
from oectflow.pipeline.execution.worker import tasks
from oectflow.pipeline.inputs.simulate import simulate_device
from oectflow.pipeline.outputs.sink import read_columns, read_metadata, read_problems

FEATURES = {
    "gm": {"extractor": "transfer.gm_max", "input": "transfer"},
    "Von": {"extractor": "transfer.Von", "input": "transfer"},
    "tau": {"extractor": "transient.tau_on_off", "input": "transient"},
    "peaks": {"extractor": "transient.cycles", "input": "transient"},
    "of_first": {"func": "lambda gm: gm / gm[0]", "input": "gm"},
}
DEVICE = simulate_device(
    3, n_transfer=8, n_transient=8, n_points=41, n_cycles=4, period=0.06, tau_on=4e-3,
    tau_off=6e-3, test_id="grown",
)  # fmt: skip


@pytest.fixture
def computed(monkeypatch):
    """Every (feature, step) that was computed, in order."""
    done = []
    real = local.compute_batch

    def compute_batch(task, specs, source, start, stop):
        done.extend((spec.name, step) for spec in specs for step in range(start, stop))
        return real(task, specs, source, start, stop)

    # Where a machine is busy, threads may seem worth their while; they go by the graph.
    for module in (local, tasks):
        monkeypatch.setattr(module, "compute_batch", compute_batch)
    # A cluster that other tests have left computes in other processes.
    monkeypatch.setattr(run_module, "_active_client", lambda: None)
    return done


def write(folder, n_transfer, n_transient, change=None, **attributes):
    steps = list(DEVICE.transient_steps[:n_transient])
    if change is not None:
        current = steps[change].Id.copy()
        current[7] *= 1 + 1e-12
        steps[change] = replace(steps[change], Id=current)
    device = replace(
        DEVICE,
        transfer_steps=DEVICE.transfer_steps[:n_transfer],
        transient_steps=steps,
        test_info={**DEVICE.test_info, **attributes},
    )
    folder.mkdir(exist_ok=True)
    return device.write(folder / "grown.h5")


def run(raw, out, features=FEATURES, **options):
    (record,) = extract(raw, features, out, progress=False, **options).experiments
    return record


def numbers(path):
    """Return every variable as bytes, and the problems."""
    metadata = read_metadata(path)
    columns = read_columns(path, list(metadata["variables"]), metadata)
    return {
        name: (str(array.dtype), array.shape, array.tobytes()) for name, array in columns.items()
    }, read_problems(path)


def need_same(raw, record, tmp_path, features=FEATURES):
    """Nothing tells the result from one that was computed as a whole."""
    whole = run(raw, tmp_path / "whole", features, force=True)
    assert numbers(Path(record.out_path)) == numbers(Path(whole.out_path))
    grown, at_once = (read_metadata(Path(one.out_path)) for one in (record, whole))
    assert grown["variables"] == at_once["variables"]
    for name, entry in at_once["features"].items():
        assert grown["features"][name]["counts"] == entry["counts"]
    # What is proved of the raw file says the same of it.
    for kind, trails in at_once["source"]["trails"].items():
        for name, trail in trails.items():
            mine = grown["source"]["trails"][kind][name]
            assert max(map(int, mine)) == max(map(int, trail))
            assert all(trail[n] == mine[n] for n in trail.keys() & mine.keys())


@pytest.mark.parametrize("options", [{}, {"granularity": "step"}, {"granularity": 3}])
def test_only_new_steps_are_computed(tmp_path, computed, options):
    raw = write(tmp_path / "raw", 5, 4)
    run(raw, tmp_path / "out", **options)
    computed.clear()
    write(tmp_path / "raw", 6, 6)
    record = run(raw, tmp_path / "out", **options)
    assert sorted(computed) == sorted(
        [("gm", 5), ("Von", 5), *((name, i) for name in ("tau", "peaks") for i in (4, 5))]
    )
    assert record.kept_steps == {"gm": 5, "Von": 5, "tau": 4, "peaks": 4}
    need_same(raw, record, tmp_path)


@pytest.mark.parametrize("features", ["all", "stability"])
def test_no_bundled_feature_tells_that_it_has_grown(tmp_path, features):
    for n in (2, 3, 5):
        raw = write(tmp_path / "raw", n, n)
        record = run(raw, tmp_path / "out", features)
    assert set(record.kept_steps.values()) == {3}
    need_same(raw, record, tmp_path, features)


def test_growth_in_many_pieces_computes_each_step_once(tmp_path, computed):
    for n in range(1, 9):
        raw = write(tmp_path / "raw", n, max(1, n - 2))
        record = run(raw, tmp_path / "out")
    assert sorted(computed) == sorted(
        [(name, i) for name in ("gm", "Von") for i in range(8)]
        + [(name, i) for name in ("tau", "peaks") for i in range(6)]
    )
    need_same(raw, record, tmp_path)


def test_an_experiment_that_has_ended_without_a_new_step_computes_none(tmp_path, computed):
    raw = write(tmp_path / "raw", 3, 2, status="in_progress")
    run(raw, tmp_path / "out")
    computed.clear()
    write(tmp_path / "raw", 3, 2)
    record = run(raw, tmp_path / "out")
    assert computed == []
    assert record.outcome in ("done", "flagged")
    need_same(raw, record, tmp_path)


@pytest.mark.parametrize("change", [0, 2, 3])
def test_a_step_that_has_changed_is_computed_and_so_are_those_behind_it(tmp_path, computed, change):
    raw = write(tmp_path / "raw", 3, 4)
    run(raw, tmp_path / "out")
    computed.clear()
    write(tmp_path / "raw", 3, 5, change=change)
    record = run(raw, tmp_path / "out")
    taus = {step for name, step in computed if name == "tau"}
    assert set(range(change, 5)) <= taus
    assert not [name for name, _ in computed if name in ("gm", "Von")]
    need_same(raw, record, tmp_path)


def test_a_file_that_was_cut_has_the_rows_that_are_left(tmp_path, computed):
    raw = write(tmp_path / "raw", 5, 6)
    run(raw, tmp_path / "out")
    computed.clear()
    write(tmp_path / "raw", 5, 5)
    record = run(raw, tmp_path / "out")
    assert {name for name, _ in computed} <= {"tau", "peaks"}
    need_same(raw, record, tmp_path)


def test_a_step_with_more_cycles_leaves_no_padding_behind(tmp_path):
    # The step under way was longer than all that are left of it.
    longer = simulate_device(
        3, n_transfer=2, n_transient=3, n_points=41, n_cycles=9, period=0.06, tau_on=4e-3,
        tau_off=6e-3, test_id="grown",
    )  # fmt: skip
    (tmp_path / "raw").mkdir()
    raw = tmp_path / "raw" / "grown.h5"
    shorter = [*DEVICE.transient_steps[:2]]
    for last in (longer.transient_steps[2], DEVICE.transient_steps[2]):
        device = replace(DEVICE, transfer_steps=DEVICE.transfer_steps[:2],
                         transient_steps=[*shorter, last])  # fmt: skip
        device.write(raw)
        record = run(raw, tmp_path / "out")
    assert record.kept_steps["tau"] == 2
    need_same(raw, record, tmp_path)


def test_what_is_carried_from_step_to_step_begins_with_its_block(tmp_path, computed):
    cached = {"tau": {"extractor": "transient.tau_on_off", "input": "transient",
                      "params": {"search": "cached", "revalidation_interval": 3}}}  # fmt: skip
    raw = write(tmp_path / "raw", 1, 5)
    run(raw, tmp_path / "out", cached)
    computed.clear()
    write(tmp_path / "raw", 1, 6)
    record = run(raw, tmp_path / "out", cached)
    assert sorted(computed) == [("tau", 3), ("tau", 4), ("tau", 5)]
    need_same(raw, record, tmp_path, cached)


def test_what_looks_at_all_steps_is_computed_anew(tmp_path):
    @register("transfer.of_the_last")
    class OfTheLast(BaseExtractor):
        """Largest current, by that of the last step."""

        source = "transfer"
        unit = ""

        def extract(self, data, params=None):
            largest = np.array([np.nanmax(np.abs(step["Id"])) for step in data])
            return largest / largest[-1]

    features = {"of_the_last": {"extractor": "transfer.of_the_last", "input": "transfer"}}
    raw = write(tmp_path / "raw", 3, 1)
    run(raw, tmp_path / "out", features)
    write(tmp_path / "raw", 5, 1)
    record = run(raw, tmp_path / "out", features)
    assert record.kept_steps == {}
    need_same(raw, record, tmp_path, features)


@pytest.mark.parametrize(
    "change",
    [
        {"tau": {**FEATURES["tau"], "params": {"max_cycles": 2}}},
        {"tau": {"extractor": "transient.peak_current", "input": "transient"}},
        {"more": {"extractor": "transient.peak_current", "input": "transient"}},
    ],
)
def test_another_definition_is_computed_anew(tmp_path, computed, change):
    raw = write(tmp_path / "raw", 2, 3)
    run(raw, tmp_path / "out")
    computed.clear()
    write(tmp_path / "raw", 2, 4)
    features = FEATURES | change
    record = run(raw, tmp_path / "out", features)
    (name,) = change
    assert sorted(computed) == sorted([*((name, i) for i in range(4)),
                                       *(("tau", 3) for _ in "1" if name != "tau"),
                                       ("peaks", 3)])  # fmt: skip
    need_same(raw, record, tmp_path, features)


def test_features_that_were_added_later_grow_too(tmp_path, computed):
    raw = write(tmp_path / "raw", 3, 1)
    run(raw, tmp_path / "out", {"gm": FEATURES["gm"]})
    run(raw, tmp_path / "out", {"gm": FEATURES["gm"], "tau": FEATURES["tau"]})
    computed.clear()
    write(tmp_path / "raw", 4, 2)
    features = {name: FEATURES[name] for name in ("gm", "tau")}
    record = run(raw, tmp_path / "out", features)
    assert sorted(computed) == [("gm", 3), ("tau", 1)]
    need_same(raw, record, tmp_path, features)


def test_without_a_proof_everything_is_computed(tmp_path, computed, monkeypatch):
    raw = write(tmp_path / "raw", 2, 1)
    with monkeypatch.context() as patched:
        # As versions of before have written it.
        patched.setattr("oectflow.pipeline.execution.worker.tasks.joined_trails", lambda *_: {})
        run(raw, tmp_path / "out")
    computed.clear()
    write(tmp_path / "raw", 3, 1)
    record = run(raw, tmp_path / "out")
    assert record.kept_steps == {}
    assert len(computed) == 2 * 3 + 2
    need_same(raw, record, tmp_path)


def test_an_array_that_has_come_is_another_input(tmp_path, computed):
    raw = write(tmp_path / "raw", 1, 3)
    run(raw, tmp_path / "out")
    computed.clear()
    raw = write(tmp_path / "raw", 1, 4)
    with h5py.File(raw, "r+") as file:
        n = file["transient/measurement_data"].shape[1]
        file["transient/gate_voltage"] = np.full(n, np.nan)
    record = run(raw, tmp_path / "out")
    assert {step for name, step in computed if name == "tau"} == {0, 1, 2, 3}
    need_same(raw, record, tmp_path)


def test_force_computes_everything(tmp_path, computed):
    raw = write(tmp_path / "raw", 2, 1)
    run(raw, tmp_path / "out")
    computed.clear()
    write(tmp_path / "raw", 3, 1)
    assert run(raw, tmp_path / "out", force=True).kept_steps == {}
    assert len(computed) == 2 * 3 + 2


def test_the_plan_counts_what_is_new_and_a_damaged_result_is_no_proof(tmp_path):
    raw = write(tmp_path / "raw", 4, 2)
    record = run(raw, tmp_path / "out")
    write(tmp_path / "raw", 5, 2)
    foreseen = {row.feature: row.n_steps for row in plan(raw, FEATURES, tmp_path / "out").features}
    assert foreseen == {"gm": 1, "Von": 1, "tau": 0, "peaks": 0}
    with Path(record.out_path).open("r+b") as file:
        file.seek(200)
        file.write(b"\xff" * 40)
    again = run(raw, tmp_path / "out")
    assert again.kept_steps == {}
    need_same(raw, again, tmp_path)


def test_a_cluster_does_the_same(tmp_path, client):
    raw = write(tmp_path / "raw", 3, 2)
    run(raw, tmp_path / "out", client=client, granularity="step")
    write(tmp_path / "raw", 4, 3)
    record = run(raw, tmp_path / "out", client=client, granularity="step")
    assert record.kept_steps == {"gm": 3, "Von": 3, "tau": 2, "peaks": 2}
    need_same(raw, record, tmp_path)
