"""Only the arrays that extractors declare are read, and they give the numbers that all would."""

from dataclasses import replace

import h5py
import numpy as np
import pytest

from oectflow.extractors.base import BaseExtractor, extractor_names, get_extractor
from oectflow.measurement import Step
from oectflow.pipeline.execution.worker import tasks
from oectflow.pipeline.execution.worker.run_extractor import run_extractor
from oectflow.pipeline.execution.worker.tasks import (
    ExperimentTask,
    named_extractors,
    needed_arrays,
    read_steps,
)
from oectflow.pipeline.inputs import experiment as experiment_module
from oectflow.pipeline.inputs.experiment import Experiment
from oectflow.pipeline.inputs.simulate import simulate_device

CHOICES = {
    "transient.cycles": [
        {"method": "peak_detection"},
        {"method": "percentile"},
        {"method": "fixed_interval"},
    ],
    "transient.decay_time": [{"method": "exponential"}, {"method": "linear"}],
    "transient.dwt": [{"part": "on"}, {"part": "off"}],
    "transient.tau_on_off": [{"search": "cached"}, {"window": "full_phase"}],
}
BUILT_IN = [
    get_extractor(name, params)
    for name in extractor_names()
    if type(get_extractor(name)).__module__.startswith("oectflow.")
    for params in [{}, *CHOICES.get(name, [])]
]


class Greedy(BaseExtractor):
    """Takes whatever is there."""

    name = "transient.test_greedy"
    source = "transient"

    def extract_single_step(self, step_data, params):
        return sum(np.ndim(value) for value in step_data.values())


class Frugal(Greedy):
    name = "transient.test_frugal"

    @property
    def arrays(self):
        return ("drain_current",)


@pytest.fixture
def task(tmp_path):
    """Six steps: with even times, uneven ones, NaN among them, none, and some that run back."""
    device = simulate_device(1, n_transfer=6, n_transient=6, n_points=21, n_cycles=4, period=0.08)
    rng = np.random.default_rng(5)
    times = [step.arrays["time"].copy() for step in device.transient_steps]
    times[1] += rng.uniform(0, 4e-4, times[1].size)
    times[2][7] = np.nan
    times[3][:] = np.nan
    times[4] = times[4][::-1].copy()
    times[5] *= 2
    steps = [
        replace(step, arrays={**step.arrays, "time": time})
        for step, time in zip(device.transient_steps, times, strict=True)
    ]
    Vd = np.linspace(0, -0.6, 61)
    gates = (-0.4, -0.2, 0.0, 0.1, 0.2, 0.3)
    steps += [
        Step("output", {"Vd": Vd, "Id": 1e-3 * np.tanh((4 - Vg) * Vd), "Ig": Vd}, {"Vg": Vg})
        for Vg in gates
    ]
    f = np.geomspace(1.0, 1e5, 26)
    for capacitance in np.linspace(1e-8, 2e-8, 6):
        Z = 100.0 + 1e5 / (1.0 + 2j * np.pi * f * 1e5 * capacitance)
        spectrum = {"frequency": f, "Z_real": Z.real, "Z_imag": Z.imag}
        steps.append(Step("impedance", spectrum, {"Vdc": 0.1}))
    path = replace(device, transient_steps=steps).write(tmp_path / "a.h5")
    found = Experiment(path)
    counts = {source: found.n_steps(source) for source in found.sources}
    out = tmp_path / "a.parquet"
    return ExperimentTask(
        str(path), found.identity, str(out), "a", "", "", counts, (), False, "topic"
    )


@pytest.mark.parametrize("extractor", BUILT_IN, ids=str)
def test_declared_arrays_suffice(task, extractor):
    steps = read_steps(task, extractor.source, 0, 6)
    declared = needed_arrays(named_extractors({"f": extractor}).values())
    alone = read_steps(task, extractor.source, 0, 6, declared)
    if declared is not None:
        # Arrays that were not recorded, as a gate voltage may be, are not there.
        assert set(alone.batch.arrays) == set(declared) & set(steps.batch.arrays)
    # With every array, and past the filter of ``run_extractor``.
    if extractor.extract_batch is not None:
        expected = extractor.extract_batch(steps.batch, extractor.params)
        got, errors = run_extractor(extractor, alone)
        assert not errors
    else:
        expected, errors = run_extractor(extractor, steps)
        got, errors_alone = run_extractor(extractor, alone)
        assert errors == errors_alone
    assert got.keys() == expected.keys()
    for name, column in got.items():
        np.testing.assert_array_equal(column, expected[name])


def test_an_extractor_is_given_what_it_declares_and_no_more(task):
    steps = read_steps(task, "transient", 0, 6)
    n_values = len(steps.batch.arrays)
    np.testing.assert_array_equal(run_extractor(Greedy(), steps)[0]["value"], n_values)
    np.testing.assert_array_equal(run_extractor(Frugal(), steps)[0]["value"], 1)


def test_features_of_one_task_share_what_they_read():
    names = ("cycles", "tau_on_off", "peak_current")
    extractors = {name: get_extractor(f"transient.{name}") for name in names}
    peak, tau, current, greedy = named_extractors(extractors | {"greedy": Greedy()}).values()
    assert needed_arrays([current]) == ("drain_current",)
    assert needed_arrays([peak, tau, current]) == ("Vg", "drain_current", "original_time")
    assert needed_arrays([current, greedy]) is None


def test_rows_that_nobody_needs_are_not_read(task, monkeypatch):
    seen = []
    original = experiment_module.read_rows
    monkeypatch.setattr(
        experiment_module, "read_rows", lambda *args: (seen.append(args[1]), original(*args))[1]
    )
    for name in ("peak_current", "tau_on_off"):
        (spec,) = named_extractors({name: get_extractor(f"transient.{name}")}).values()
        tasks.read_and_extract(task, [spec], "transient", 0, 6)
    assert seen == [[2], [1, 2]]


def test_timing_that_is_not_declared_is_found_in_what_no_feature_needs(task, tmp_path):
    """The sampling interval is measured in original_time where the file does not declare it."""
    with h5py.File(task.path, "r+") as file:
        table = file["transient/step_info_table"]
        names = [n for n in table.dtype.names if "time" not in n.lower() or "index" in n]
        records = table[()]
        kept = np.empty(len(records), [(n, table.dtype[n]) for n in names])
        for name in names:
            kept[name] = records[name]
        del file["transient/step_info_table"]
        del file["raw/workflow"]
        file["transient/step_info_table"] = kept
    found = Experiment(task.path)
    everything = found.batch("transient", 0, 6)
    assert everything.values["sampling_interval"][0] == pytest.approx(1e-3, rel=1e-12)
    for arrays in (["drain_current"], ["continuous_time"], []):
        part = found.batch("transient", 0, 6, arrays)
        assert sorted(part.arrays) == sorted(arrays)
        assert part.timing_source == everything.timing_source
        for name, value in part.values.items():
            np.testing.assert_array_equal(value, everything.values[name])
