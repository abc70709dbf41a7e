"""Pictures: what is drawn is what was measured and computed."""

from __future__ import annotations

import dataclasses
import sys
from statistics import stdev

import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import oectflow as of
from oectflow.pipeline.inputs.simulate import simulate_device
from oectflow.pipeline.outputs.fit_report import fit_report
from oectflow.pipeline.outputs.plots.axes import COLOURS, with_prefix, with_unit
from oectflow.pipeline.outputs.plots.choose import spread

N_STEPS, N_CYCLES = 3, 4


@pytest.fixture(scope="module", params=["n", "p"])
def device(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plots")
    simulated = simulate_device(
        1,
        polarity=request.param,
        n_transfer=N_STEPS,
        n_transient=N_STEPS,
        n_cycles=N_CYCLES,
        transient_noise=0,
    )
    experiment = of.Experiment(simulated.write(folder / "device.h5"))
    report = of.extract(experiment, "all", folder / "out", progress=False)
    return experiment, of.open_results(folder / "out"), simulated, report


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def ticks(axis):
    """Texts of the ticks, after drawing."""
    axis.figure.draw_without_rendering()
    return [label.get_text() for label in axis.get_ticklabels() if label.get_text()]


def table(values, statuses=None, **labels):
    """Results of devices 1, 2, … with one feature, ``f``."""
    values = np.asarray(values, float)
    dims = ["experiment", "step", *labels, "cycle"][: values.ndim]
    if len(labels) + 2 == values.ndim:
        dims = ["experiment", "step", *labels]
    attrs = {"units": "A", "description": "a current", "feature": "f"}
    data = {"f": (dims, values, attrs)}
    if statuses is not None:
        statuses = np.asarray(statuses)
        data["f_status"] = (dims[: statuses.ndim], statuses, {"feature": "f"})
    n = len(values)
    coordinates = {
        "experiment": [f"e{i}" for i in range(n)],
        "step": np.arange(values.shape[1]),
        "chip_id": ("experiment", ["chip"] * n),
        "device_id": ("experiment", [str(i + 1) for i in range(n)]),
        **labels,
    }
    return xr.Dataset(data, coordinates)


def test_plot_transfer__all_sweeps_and_the_logarithm(device):
    experiment, *_ = device
    ax = of.plot_transfer(experiment, marks=False)
    assert len(ax.lines) == 2 * N_STEPS
    step = experiment.step("transfer", 0)
    forward, reverse = ax.lines[:2]
    drawn = np.concatenate([forward.get_xdata(), reverse.get_xdata()[1:]])
    np.testing.assert_array_equal(drawn, step["Vg"])
    drawn = np.concatenate([forward.get_ydata(), reverse.get_ydata()[1:]])
    np.testing.assert_array_equal(drawn, step["Id"])
    assert (forward.get_linestyle(), reverse.get_linestyle()) == ("-", "--")
    bar, right = (other for other in reversed(ax.figure.axes) if other is not ax)
    assert right.get_yscale() == "log"
    np.testing.assert_array_equal(right.lines[0].get_ydata(), np.abs(forward.get_ydata()))
    assert bar.get_ylabel() == "step"
    assert "V" in ticks(ax.xaxis)[0]
    assert all(text.endswith(("A", "mA", "µA")) for text in ticks(ax.yaxis))


def test_plot_transfer__marks_are_what_the_extractors_find(device):
    experiment, results, *_ = device
    ax = of.plot_transfer(experiment, steps=[1], right="gm")
    circles = [line for line in ax.lines if line.get_marker() == "o"]
    triangles = [line for line in ax.lines if line.get_marker() == "^"]
    computed = results["gm_max_coords"].isel(experiment=0, step=1).values
    np.testing.assert_array_equal(np.ravel(circles[0].get_data()), computed)
    # By NumPy, on the points behind the turn; of the p-type device the logarithm falls.
    step = experiment.step("transfer", 1)
    Vg, Id = step["Vg"][61:], step["Id"][61:]
    slope = np.gradient(np.log10(np.abs(Id)), Vg)
    at = np.argmax(slope) if Id.max() > 1e-5 else np.argmin(slope)
    assert tuple(np.ravel(triangles[1].get_data())) == (Vg[at], Id[at])
    # The bundled set has found out the same type.
    onset = results.isel(experiment=0, step=1)
    assert onset["Von_reverse"] == Vg[at]
    np.testing.assert_array_equal(np.ravel(triangles[0].get_data()), onset["Von_coords"].values)
    assert onset["Von_forward_status"] == onset["Von_reverse_status"] == "ok"
    right = next(other for other in ax.figure.axes if other is not ax and other.lines)
    # What is drawn peaks where it is marked.
    assert right.lines[0].get_ydata().max() == float(
        results["gm_max_forward"].isel(experiment=0, step=1)
    )
    assert len(ax.figure.axes) == 2
    assert legend(ax)[:2] == ["forward", "reverse"]


def test_plot_transfer__of_many_steps_ten(device):
    class Long:
        experiment_id = "long"

        def n_steps(self, source):
            return 95

        def step(self, source, index):
            shown.append(index)
            return device[0].step("transfer", 0)

    shown = []
    ax = of.plot_transfer(Long(), right=None, marks=False)
    assert len(ax.lines) == 20
    assert (len(shown), shown[0], shown[-1]) == (10, 0, 94)
    assert ax.get_title() == "10 of 95 transfer sweeps"


def test_plot_transfer__points_without_a_number(device):
    class Holes:
        experiment_id = "holes"

        def n_steps(self, source):
            return 2

        def step(self, source, index):
            step = device[0].step("transfer", 0)
            step["Id"][slice(None) if index else [3, 70]] = np.nan
            return step

    ax = of.plot_transfer(Holes(), marks=False)
    n = sum(len(line.get_xdata()) for line in ax.lines)
    assert n == 121 - 2 + 1
    with pytest.raises(of.OectflowError, match="did you mean 'log'"):
        of.plot_transfer(device[0], right="lgo")


def test_plot_transient__fits_lie_on_the_measured_current(device):
    experiment, results, *_ = device
    ax = of.plot_transient(experiment, results, 1, cycles=(1, 2))
    current = experiment.step("transient", 1)["drain_current"]
    fits = [line for line in ax.lines if line.get_linestyle() == "-"]
    assert len(fits) == 4
    for line in fits:
        time, curve = line.get_data()
        samples = np.arange(np.ceil(time[0] * 1e3 - 1e-6), np.floor(time[-1] * 1e3)).astype(int)
        drawn = np.interp(samples * 1e-3, time, curve)
        # 200 points of a curve of at least 3 tau: linear interpolation is off by less than
        # (3 tau / 200)^2 / (8 tau^2) < 1e-3 of the amplitude.
        np.testing.assert_allclose(drawn, current[samples], atol=1e-3 * np.ptp(current))
    assert legend(ax) == ["measured", "fit, on", "fit, off"]
    lower = ax.figure.axes[1]
    assert lower.get_xlabel() == "time"
    residuals = np.concatenate(
        [line.get_ydata() for line in lower.lines if len(line.get_ydata()) > 2]
    )
    # Amplitude and offset are stored as float32.
    assert np.abs(residuals).max() < 1e-6 * np.ptp(current)
    words = [text.get_text() for text in ax.texts]
    one = results.isel(experiment=0, step=1, cycle=1).sel(phase="on")
    error = with_unit(float(one["tau_stderr"]), "s", 2)
    assert f"{with_unit(float(one['tau']), 's')}\n± {error}\nR² > 0.9999" in words
    # They stand above the axes, where there is nothing that they could hide.
    ax.figure.draw_without_rendering()
    title = ax.title.get_window_extent()
    for text in ax.texts:
        box = text.get_window_extent()
        assert ax.bbox.y1 <= box.y0 < box.y1 <= title.y0
    assert all(text.endswith("s") for text in ticks(lower.xaxis))


@pytest.mark.parametrize("feature", ["two", "stretched"])
def test_plot_transient__other_models_lie_on_the_measured_current(tmp_path, feature):
    simulated = simulate_device(2, n_transient=1, n_transfer=1, n_cycles=3, transient_noise=1e-3)
    trace = simulated.transient_steps[0]
    fast, slow = trace.arrays["Id"].copy(), trace.arrays["Id"].copy()
    for k in range(1, slow.size):
        slow[k] = slow[k - 1] + (fast[k] - slow[k - 1]) / 60
    trace.arrays["Id"][:] = (fast + slow) / 2
    experiment = of.Experiment(simulated.write(tmp_path / "device.h5"))
    of.extract(experiment, "transient_models", tmp_path / "out", progress=False)
    results = of.open_results(tmp_path / "out")
    ax = of.plot_transient(experiment, results, 0, feature=feature, cycles=(1,))
    measured, *fits = ax.lines
    drawn = [line for line in fits if str(line.get_label()).startswith("fit")]
    assert len(drawn) == 2
    swing = np.ptp(measured.get_ydata())
    for line in drawn:
        inside = (measured.get_xdata() >= line.get_xdata()[0]) & (
            measured.get_xdata() <= line.get_xdata()[-1]
        )
        curve = np.interp(measured.get_xdata()[inside], line.get_xdata(), line.get_ydata())
        # Five times the noise, and what a polygon of 200 points cuts off; a stretched exponential
        # describes two processes to some per cent.
        allowed = 1e-2 if feature == "two" else 6e-2
        assert np.abs(curve - measured.get_ydata()[inside]).max() < allowed * swing
    with pytest.raises(of.OectflowError, match="correlations are only given for one exponential"):
        fit_report(experiment, results, 0, feature=feature, cycles=(1,))


def test_plot_transient__says_why_there_is_no_fit(device):
    experiment, results, *_ = device
    changed = results.load().copy(deep=True)
    where = {"experiment": 0, "step": 0, "cycle": 1, "phase": 0}
    changed["tau_status"][where] = "low_r2"
    changed["tau_r_squared"][where] = 0.87654
    ax = of.plot_transient(experiment, changed, 0, residuals=False)
    word = next(text for text in ax.texts if text.get_text().startswith("low_r2"))
    assert word.get_text().endswith("\nR² 0.8765")
    assert to_hex(word.get_color()) == "#d55e00"
    # The first off phase has nothing to decay from.
    assert "absent" in {text.get_text() for text in ax.texts}
    assert len(ax.figure.axes) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": 9}, "has 3 transient steps, there is no step 9"),
        ({"cycles": [400]}, "there is no cycle 400"),
        ({"feature": "tua"}, "did you mean 'tau'"),
        ({"feature": "gm_max_forward"}, "no fit of phases, such as transient.tau_on_off"),
    ],
)
def test_plot_transient__what_is_not_there(device, change, message):
    experiment, results, *_ = device
    with pytest.raises(of.OectflowError, match=message):
        of.plot_transient(experiment, results, **({"step": 0} | change))


def test_plot_transient__results_of_another_experiment(device):
    experiment, results, *_ = device
    other = results.assign_coords(experiment=["else"])
    with pytest.raises(of.OutputError, match="no results of experiment"):
        of.plot_transient(experiment, other, 0)


def test_plot_transient__axes_that_cannot_be_divided(device):
    experiment, results, *_ = device
    ax = Figure().add_axes((0, 0, 1, 1))
    with pytest.raises(of.OectflowError, match="residuals=False"):
        of.plot_transient(experiment, results, 0, ax)


def test_plot_feature__the_median_over_cycles(device):
    _, results, *_ = device
    ax = of.plot_feature(results, "tau", phase="off")
    tau = results["tau"].sel(phase="off").isel(experiment=0)
    np.testing.assert_allclose(
        ax.lines[0].get_ydata(), np.nanmedian(tau.values, axis=1), rtol=1e-15
    )
    assert ax.get_ylabel() == "tau off"
    assert all(text.endswith("ms") for text in ticks(ax.yaxis))
    plain = of.plot_feature(results, "gm_max_forward")
    np.testing.assert_array_equal(
        plain.lines[0].get_ydata(), results["gm_max_forward"].isel(experiment=0)
    )
    along = of.plot_feature(results, "tau", along="cycle", phase="on", step=2)
    np.testing.assert_array_equal(
        along.lines[0].get_ydata(), results["tau"].sel(phase="on", step=2).isel(experiment=0)
    )
    assert (along.get_xlabel(), along.get_ylabel()) == ("cycle", "tau on step 2")


def test_plot_feature__relative_to_the_first_value():
    ax = of.plot_feature(table([[np.nan, 2, 3], [0, 1, 2]]), "f", normalise=True)
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [np.nan, 1, 1.5])
    # Nothing is relative to zero.
    assert np.isnan(ax.lines[1].get_ydata()).all()
    assert ax.get_ylabel() == "f, relative to the first value"
    assert not any("A" in text for text in ticks(ax.yaxis))


def test_plot_feature__flagged_points_are_hollow_and_missing_ones_crosses():
    status = [["ok", "edge", "flat", "absent"]]
    ax = of.plot_feature(table([[1, 2, np.nan, np.nan]], status), "f")
    hollow = next(line for line in ax.lines if line.get_markerfacecolor() == "white")
    cross = next(line for line in ax.lines if line.get_marker() == "x")
    np.testing.assert_array_equal(hollow.get_xdata(), [1, 2])
    np.testing.assert_array_equal(hollow.get_ydata(), [2, np.nan])
    np.testing.assert_array_equal(cross.get_xdata(), [2])
    assert legend(ax) == ["chip, device 1", "flagged", "flagged, no value"]


def test_plot_feature__one_status_for_all_cycles_of_a_step():
    values = np.arange(12.0).reshape(1, 3, 4)
    ax = of.plot_feature(table(values, [["ok", "more_cycles", "ok"]]), "f")
    hollow = next(line for line in ax.lines if line.get_markerfacecolor() == "white")
    np.testing.assert_array_equal(hollow.get_xdata(), [1])
    low, high = ax.collections[0].get_paths()[0].vertices[:, 1].min(), 11
    assert low == pytest.approx(np.percentile([0, 1, 2, 3], 10))
    assert high >= ax.collections[0].get_paths()[0].vertices[:, 1].max()


def test_plot_feature__many_devices_have_the_colour_of_their_chip():
    many = table(np.ones((20, 2)))
    many = many.assign_coords(chip_id=("experiment", ["a"] * 10 + ["$b"] * 10))
    ax = of.plot_feature(many, "f")
    assert legend(ax) == ["chip a", r"chip \$b"]
    assert {line.get_color() for line in ax.lines} == set(COLOURS[:2])
    chips = [str(i) for i in range(20)]
    ax = of.plot_feature(many.assign_coords(chip_id=("experiment", chips)), "f")
    assert legend(ax) == ["20 devices"]


def test_plot_feature__the_same_device_twice_is_told_apart_by_the_experiment():
    twice = table([[1, 2], [3, 4]]).assign_coords(device_id=("experiment", ["1", "1"]))
    assert legend(of.plot_feature(twice, "f")) == [
        "chip, device 1 (e0)",
        "chip, device 1 (e1)",
    ]
    assert legend(of.plot_feature(twice, "f", experiment="e1")) == ["chip, device 1"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"feature": "taau"}, "no feature 'taau'.*did you mean 'tau'"),
        ({"feature": "tau_status"}, "words, not numbers"),
        ({"feature": "tau"}, "choose one of phase='on', phase='off'"),
        ({"feature": "tau", "phase": "onn"}, "no phase='onn'; did you mean 'on'"),
        ({"feature": "tau", "fase": "on"}, "no axis 'fase'; did you mean 'phase'"),
        ({"feature": "absI_max", "along": "cycle"}, "no axis 'cycle'"),
        ({"feature": "absI_max", "along": "stp"}, "did you mean 'step'"),
    ],
)
def test_plot_feature__what_is_not_there(device, change, message):
    with pytest.raises(of.OutputError, match=message):
        of.plot_feature(device[1], **change)


def test_plot_degradation__step_to_the_right_cycle_upwards(device):
    _, results, *_ = device
    ax = of.plot_degradation(results, "tau", phase="off")
    (mesh,) = ax.collections
    expected = results["tau"].sel(phase="off").isel(experiment=0, cycle=slice(N_CYCLES)).values
    # Without the empty cycles that other features have.
    assert mesh.get_array().shape == (N_CYCLES, N_STEPS)
    np.testing.assert_array_equal(mesh.get_array().filled(np.nan), expected.T)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("step", "cycle")
    bar = ax.figure.axes[1]
    assert bar.get_ylabel() == "tau off"
    assert all(text.endswith("ms") for text in ticks(bar.yaxis))


def test_plot_degradation__flagged_values_and_several_devices():
    values = np.full((1, 2, 3), 2.0)
    values[0, 1, 2] = 3.0
    status = np.full((1, 2, 3), "ok", "U6")
    status[0, 1, 2] = "low_r2"
    ax = of.plot_degradation(table(values, status), "f", normalise=True)
    np.testing.assert_array_equal(np.ravel(ax.lines[0].get_data()), [1, 2])
    assert ax.collections[0].get_array().max() == 1.5
    with pytest.raises(of.OutputError, match="there are 2 experiments"):
        of.plot_degradation(table(np.ones((2, 2, 3))), "f")
    with pytest.raises(of.OutputError, match="use plot_feature"):
        of.plot_degradation(table([[1, 2]]), "f")


def test_plot_bands__energy_of_every_band(device):
    _, results, *_ = device
    ax = of.plot_bands(results)
    energy = results["dwt"].isel(experiment=0)
    lines = [line for line in ax.lines if line.get_linestyle() == "-"]
    for line, band in zip(lines, energy["band"].values, strict=True):
        np.testing.assert_array_equal(line.get_ydata(), energy.sel(band=band))
    assert legend(ax) == ["cA", "cD3", "cD2", "cD1"]
    assert (ax.get_ylabel(), ax.get_yscale()) == ("energy per band (A²)", "log")
    shares = of.plot_bands(results, relative=True)
    total = sum(line.get_ydata() for line in shares.lines if line.get_linestyle() == "-")
    # Shares are quotients by their sum: four roundings.
    np.testing.assert_allclose(total, 1, rtol=4 * np.finfo(float).eps)
    with pytest.raises(of.OutputError, match="did you mean 'dwt'"):
        of.plot_bands(results, feature="dwtt")
    with pytest.raises(of.OutputError, match=r"no feature of transient\.dwt"):
        of.plot_bands(results, feature="tau")


def test_plot_chip__a_tile_per_device():
    results = table([[1e-3], [2e-3], [np.nan], [4e-3]], [["ok"], ["edge"], ["flat"], ["ok"]])
    results = results.assign_coords(
        chip_id=("experiment", ["b", "a", "a", "a"]),
        device_id=("experiment", ["1", "10", "9", "9"]),
    )
    ax = of.plot_chip(results, "f", columns=2)
    words = {text.get_position(): text.get_text() for text in ax.texts}
    assert words == {
        (0, 0.0): "device 9\n4.00 mA\nn = 1",
        (1, 0.0): "device 10\n2.00 mA\nn = 1",
        (0, 1.25): "device 1\n1.00 mA\nn = 1",
    }
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
    assert sum(isinstance(patch, Rectangle) for patch in ax.patches) == 3
    # Device 9 has a flagged value among two.
    assert len(ax.lines) == 2
    assert ax.figure.axes[1].get_ylabel() == "f"


def test_plot_chip__devices_that_hardly_differ_look_alike():
    def colours(values):
        ax = of.plot_chip(table(values), "f")
        return [np.array(patch.get_facecolor()) for patch in ax.patches]

    # 510.1 and 510.2 µA: less than a level of 255 each.
    one, other = colours([[510.1e-6], [510.2e-6]])
    assert np.abs(one - other).max() < 2 / 255
    # As different as the largest of them: both ends of the colours.
    one, other = colours([[100e-6], [510e-6]])
    assert np.abs(one - other).max() > 0.5
    # 1 and 2 mV of devices whose own values are spread by 10 mV.
    steps = np.linspace(-10e-3, 10e-3, 5)
    one, other = colours([1e-3 + steps, 2e-3 + steps])
    assert np.abs(one - other).max() < 0.1


def test_plot_chip__a_tile_says_number_and_spread_of_its_values():
    values = [[1.0, 2.0, 4.0, np.nan]]
    ax = of.plot_chip(table(values), "f")
    # The standard deviation is that of statistics.stdev.
    assert ax.texts[0].get_text() == f"device 1\n2.00 A\n± {stdev([1, 2, 4]):.1f}\nn = 3"
    assert "standard deviation of the n values" in ax.get_xlabel()
    ax = of.plot_chip(table([[1e-3, 2e-3]] * 4).assign(f=lambda r: r["f"].assign_attrs(
        units="V/decade")), "f")  # fmt: skip
    ax.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert not boxes[0].overlaps(boxes[1])


def test_ticks__are_whole_numbers():
    results = table([[1.00001, 1.00002, 1.00003]])
    results["f"].attrs["units"] = ""
    ax = of.plot_feature(results, "f")
    assert all(text.startswith("1.0000") for text in ticks(ax.yaxis))
    assert ax.yaxis.get_offset_text().get_text() == ""


def test_plot_feature__bands_are_explained():
    values = np.arange(24.0).reshape(1, 3, 8)
    assert "10 % to 90 % of cycles" in legend(of.plot_feature(table(values), "f"))
    assert legend(of.plot_feature(table(values[..., 0]), "f")) == ["chip, device 1"]


@pytest.mark.parametrize(
    ("largest", "unit", "wanted"),
    [
        (0.118, "V/decade", (1e-3, "mV/decade")),
        (2e-6, "A", (1e-6, "µA")),
        (999.0, "s", (1.0, "s")),
        (3e-7, "A^2", (1.0, "A²")),
        (0.0, "A", (1.0, "A")),
    ],
)
def test_with_prefix__one_for_all_numbers(largest, unit, wanted):
    factor, text = with_prefix(largest, unit)
    assert (pytest.approx(factor), text) == wanted


def test_plot_chip__many_chips_in_low_rows_and_many_devices_in_several():
    chips = [f"{i:02}" for i in range(30)]
    ax = of.plot_chip(table(np.ones((30, 1))).assign_coords(chip_id=("experiment", chips)), "f")
    assert ax.texts[0].get_text() == "device 1: 1.00 A"
    assert [label.get_text() for label in ax.get_yticklabels()] == chips
    ax.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in ax.texts[:2]]
    assert not boxes[0].overlaps(boxes[1])
    ax = of.plot_chip(table(np.ones((400, 1))), "f")
    assert {text.get_position()[0] for text in ax.texts} == set(range(12))


def test_plot_chip__nothing_known_at_all():
    ax = of.plot_chip(table([[np.nan]], [["flat"]]), "f")
    assert [text.get_text() for text in ax.texts] == ["device 1\n–"]


def test_plot_run__steps_per_second_by_outcome(device):
    report = device[-1]
    assert 0 < report.experiments[0].finished <= report.seconds
    done = dataclasses.replace(
        report.experiments[0], outcome="done", n_steps=30, finished=1.0, problems=()
    )
    failed = dataclasses.replace(done, outcome="failed", n_steps=10, finished=3.9)
    never = dataclasses.replace(done, outcome="failed", n_steps=0, finished=float("nan"))
    run = of.RunReport([done, failed, never], 4.0, "out")
    ax = of.plot_run(run)
    # Two intervals of 2 s, stacked by outcome.
    assert [bar.get_height() for bar in ax.patches] == [15, 0, 0, 5]
    total = next(other for other in ax.figure.axes if other is not ax)
    np.testing.assert_array_equal(total.lines[0].get_data(), [[0, 1, 3.9], [0, 30, 40]])
    assert legend(ax) == ["done (1)", "failed (1)"]
    assert "3 experiments: 1 done, 2 failed; 40 steps in 4.00 s" in ax.get_title()
    with pytest.raises(of.OectflowError, match="wrote nothing"):
        of.plot_run(of.RunReport([never], 1.0, "out"))


def test_accessor__the_same_pictures(device):
    experiment, results, *_ = device
    plot = results.oect.plot
    for ours, theirs in [
        (plot.feature("tau", phase="on"), of.plot_feature(results, "tau", phase="on")),
        (plot.bands(), of.plot_bands(results)),
        (plot.transient(experiment, 0), of.plot_transient(experiment, results, 0)),
    ]:
        assert len(ours.lines) == len(theirs.lines) > 0
        for one, other in zip(ours.lines, theirs.lines, strict=True):
            np.testing.assert_array_equal(one.get_data(), other.get_data())
    assert plot.chip("gm_max_forward").texts[0].get_text().startswith("device 1")
    assert plot.degradation("cycle_peaks").collections


def test_axes__given_ones_are_drawn_into_and_pyplot_knows_nothing(device):
    experiment, results, *_ = device
    first, second = Figure(layout="constrained").subplots(1, 2)
    assert of.plot_transfer(experiment, first) is first
    assert of.plot_feature(results, "tau", second, phase="on") is second
    new = of.plot_feature(results, "absI_max")
    assert new._repr_png_().startswith(b"\x89PNG")
    if "matplotlib.pyplot" in sys.modules:
        assert not sys.modules["matplotlib.pyplot"].get_fignums()


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (8.0512e-3, "s", "8.05 ms"),
        (999.96e-6, "A", "1.00 mA"),
        (-0.0138, "V", "−13.8 mV"),
        (250.0, "s", "250 s"),
        (0.0, "V", "0 V"),
        (3e-5, "A^2", "3.00e−05 A²"),
        (-0.25, "", "−0.250"),
        (120.0, "dB", "120 dB"),
        (0.0654, "V/decade", "65.4 mV/decade"),
        (2e-6, "1/s", "2.00e−06 1/s"),
        (np.nan, "s", "–"),
    ],
)
def test_with_unit(value, unit, text):
    assert with_unit(value, unit) == text


def test_spread__rows_without_numbers():
    values = np.array([[1.0, 2.0, np.nan], [np.nan] * 3])
    np.testing.assert_allclose(spread(values)[:, 0], np.percentile([1, 2], (10, 50, 90)))
    assert np.isnan(spread(values)[:, 1]).all()
