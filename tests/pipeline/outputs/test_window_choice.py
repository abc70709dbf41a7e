"""Windows that were chosen by hand: stored beside results, used by the next run, judged as any."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from scipy.optimize import curve_fit

import oectflow as of
from oectflow.errors import OutputError, ParameterError
from oectflow.extractors.base import get_extractor
from oectflow.extractors.chosen_windows import CHOSEN_WINDOWS, chosen_windows, sample_of_step
from oectflow.measurement import Batch
from oectflow.pipeline.inputs.simulate import simulate_device
from oectflow.pipeline.outputs.sink import read_metadata
from oectflow.pipeline.outputs.window_choice import windows_of_experiments

FEATURES = {
    "tau": {"extractor": "transient.tau_on_off", "input": "transient"},
    "cycles": {"extractor": "transient.cycles", "input": "transient", "params": {"n_cycles": 5}},
    "slowest": {"func": "tau.max(axis=1).max(axis=1)", "input": "tau"},
}
PLACE = {"step": 1, "cycle": 2, "phase": "off"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    (folder / "raw").mkdir()
    for i in range(2):
        simulate_device(
            i, n_transfer=0, n_transient=3, n_cycles=5, test_id=f"test_{i}", chip_id="C7",
            device_number=str(i),
        ).write(folder / "raw" / f"{i}.h5")  # fmt: skip
    assert of.extract(folder / "raw", FEATURES, folder / "out", progress=False).ok
    return folder


@pytest.fixture
def lab(made, tmp_path):
    """Raw files and results of one's own."""
    shutil.copytree(made, tmp_path / "lab", copy_function=shutil.copy2)
    return tmp_path / "lab"


def run(lab, **options):
    return of.extract(lab / "raw", FEATURES, lab / "out", progress=False, **options)


def opened(lab):
    return of.open_results(lab / "out").load()


def outcomes(report):
    return {record.experiment_id: record.outcome for record in report.experiments}


def cell(results, name, experiment="test_0", step=1, cycle=2, phase="off"):
    one = results[name].sel(experiment=experiment, step=step, phase=phase)
    return one.isel(cycle=cycle).item()


@pytest.mark.parametrize("granularity", ["auto", "step"])
def test_the_next_run_fits_in_the_window(lab, granularity):
    before = opened(lab)
    start, length = (cell(before, f"tau_window_{word}") for word in ("start", "duration"))
    begin, end = start + 0.1 * length, start + 0.7 * length
    of.set_window(lab / "out", "test_0", **PLACE, begin=begin, end=end, reason="a spike", who="Ada")
    report = run(lab, granularity=granularity)
    assert outcomes(report) == {"test_0": "done", "test_1": "unchanged"}
    (record,) = [one for one in report.experiments if one.experiment_id == "test_0"]
    assert set(record.computed) == {"tau", "slowest"}
    after = opened(lab)
    assert cell(after, "tau_status") == "ok"
    assert cell(after, "tau_window_start") == pytest.approx(begin, abs=0.6e-3)
    assert cell(after, "tau_window_duration") == pytest.approx(end - begin, abs=1.1e-3)
    assert cell(after, "tau") == pytest.approx(fitted(lab, after), rel=1e-6)
    # All other phases are as they were.
    changed = after["tau"] != before["tau"]
    assert int((changed & before["tau"].notnull()).sum()) == 1
    assert float(after["slowest"].sel(experiment="test_0", step=1)) == pytest.approx(
        float(after["tau"].sel(experiment="test_0", step=1).max())
    )
    # It is written down, and asks for nothing more.
    used = read_metadata(lab / "out" / "test_0.parquet")["features"]["tau"]["sample"]
    assert used == {CHOSEN_WINDOWS: [[1, 2, "off", begin, end]]}
    assert of.windows(lab / "out")["used"].tolist() == [True]
    assert set(outcomes(run(lab)).values()) == {"unchanged"}


def fitted(lab, results):
    """What SciPy finds in the window of the results."""
    step = of.Experiment(lab / "raw" / "0.h5").batch("transient", 1, 2).step(0)
    start = cell(results, "tau_window_start")
    stop = start + cell(results, "tau_window_duration")
    t = np.arange(len(step["drain_current"])) * step["sampling_interval"]
    inside = (t > start - 0.5e-3) & (t < stop - 0.5e-3)
    t, current = t[inside] - t[inside][0], step["drain_current"][inside]
    scale = np.ptp(current)
    (_, tau, _), _ = curve_fit(
        lambda t, a, tau, c: a * np.exp(-t / tau) + c,
        t, current / scale, [1.0, np.ptp(t) / 3, current[-1] / scale], xtol=1e-14, ftol=1e-14,
    )  # fmt: skip
    return tau


def test_the_window_that_was_found_gives_the_same_bits(lab):
    before = opened(lab)
    for phase in ("on", "off"):
        start = cell(before, "tau_window_start", phase=phase)
        length = cell(before, "tau_window_duration", phase=phase)
        of.set_window(
            lab / "out", "test_0", step=1, cycle=2, phase=phase, begin=start, end=start + length
        )
    assert outcomes(run(lab))["test_0"] == "done"
    after = opened(lab)
    for name in before:
        np.testing.assert_array_equal(before[name], after[name])


def test_a_choice_taken_back_is_computed_back(lab):
    before = opened(lab)
    start = cell(before, "tau_window_start")
    first = of.set_window(lab / "out", "test_0", **PLACE, begin=start + 0.01, end=start + 0.05)
    second = of.set_window(lab / "out", "test_0", **PLACE, begin=start + 0.02, end=start + 0.06)
    # The last one counts.
    assert windows_of_experiments(lab / "out") == {
        "test_0": [[1, 2, "off", start + 0.02, start + 0.06]]
    }
    run(lab)
    assert cell(opened(lab), "tau_window_start") == pytest.approx(start + 0.02, abs=0.6e-3)
    of.unmark(lab / "out", [first[:8], second])
    assert outcomes(run(lab)) == {"test_0": "done", "test_1": "unchanged"}
    after = opened(lab)
    for name in before:
        np.testing.assert_array_equal(before[name], after[name])
    assert set(outcomes(run(lab)).values()) == {"unchanged"}


def test_a_window_that_holds_nothing_is_no_ok(lab):
    of.set_window(lab / "out", "test_1", **PLACE, begin=1e6, end=2e6)
    of.set_window(lab / "out", "test_1", **PLACE | {"phase": "on"}, begin=0.1001, end=0.1002)
    run(lab)
    results = opened(lab)
    assert cell(results, "tau_status", "test_1") == "cut"
    assert cell(results, "tau_status", "test_1", phase="on") == "no_window"
    assert np.isnan(cell(results, "tau", "test_1"))


def test_steps_one_by_one_have_their_own_windows():
    rows = [[1, 0, "on", 0.1, 0.2], [3, 2, "off", 0.3, 0.4]]
    sample = {"W": 1e-4, CHOSEN_WINDOWS: rows}
    assert chosen_windows(sample, 1, 2).tolist() == [[0, 0, 0, 0.1, 0.2]]
    assert chosen_windows(sample, 2, 5).tolist() == [[1, 2, 1, 0.3, 0.4]]
    assert chosen_windows({}, 0, 5).shape == (0, 5)
    assert sample_of_step(sample, 3) == {"W": 1e-4, CHOSEN_WINDOWS: [[0, 2, "off", 0.3, 0.4]]}
    assert sample_of_step({"W": 1.0}, 3) == {"W": 1.0}


def test_an_uneven_clock_has_windows_by_time():
    rng = np.random.default_rng(5)
    time = np.sort(np.arange(2000) * 1e-3 + rng.uniform(-2e-4, 2e-4, 2000))
    off = time % 0.4 >= 0.2
    current = 1e-3 * np.where(off, np.exp(-(time % 0.2) / 0.03), 1 - np.exp(-(time % 0.2) / 0.03))
    step = {
        "continuous_time": time, "original_time": time, "drain_current": current,
        "sampling_interval": 1e-3, "gate_period": 0.4, "duty_cycle": 0.5,
        "sample": {CHOSEN_WINDOWS: [[0, 1, "off", 0.65, 0.7]]},
    }  # fmt: skip
    columns = get_extractor("transient.tau_on_off").extract_step(step)
    inside = (time >= 0.65) & (time < 0.7)
    assert columns["window_start"][1, 1] == pytest.approx(time[inside][0] - time[0], abs=1e-3)
    assert columns["value"][1, 1] == pytest.approx(0.03, rel=1e-6)
    assert Batch.from_steps([step]).sample == step["sample"]


@pytest.mark.parametrize(
    ("given", "error", "why"),
    [
        ({"step": 3}, OutputError, "there are 3 steps, from 0 on"),
        ({"cycle": 5}, OutputError, "there are 5 cycles, from 0 on"),
        ({"experiment": "test_7"}, OutputError, "no results of test_7"),
        ({"phase": "up"}, ParameterError, "phase='up'"),
        ({"end": 0.1}, ParameterError, "begin=0.1 s is not before end=0.1 s"),
        ({"begin": -1.0}, ParameterError, "begin=-1.0"),
        ({"end": float("nan")}, ParameterError, "end="),
        ({"end": float("inf")}, ParameterError, "end=inf"),
        ({"step": 1.5}, ParameterError, "step=1.5"),
    ],
)
def test_mistakes(made, given, error, why):
    about = {"experiment": "test_0", **PLACE, "begin": 0.1, "end": 0.2} | given
    with pytest.raises(error, match=why):
        of.set_window(made / "out", about.pop("experiment"), **about)
    assert not (made / "out" / "_marks").exists()


def test_results_without_time_constants(made, tmp_path):
    of.extract(made / "raw", {"cycles": FEATURES["cycles"]}, tmp_path, progress=False)
    with pytest.raises(OutputError, match=r"extract transient\.tau_on_off first"):
        of.set_window(tmp_path, "test_0", **PLACE, begin=0.1, end=0.2)
    assert of.windows(tmp_path).empty


def test_a_window_of_nothing_that_is_there_stops_nobody(lab):
    of.set_window(lab / "out", "test_0", **PLACE, begin=0.1, end=0.2)
    (path,) = (lab / "out" / "_marks").glob("*.jsonl")
    line = json.loads(path.read_text())
    for number, change in enumerate(({"step": 99}, {"cycle": 99}, {"experiment_id": "gone"})):
        other = line | change | {"id": f"{number:032x}"}
        path.write_text(path.read_text() + json.dumps(other) + "\n")
    assert run(lab).ok
    assert of.windows(lab / "out")["used"].tolist() == [True, True, True, False]
