"""Pictures: what is drawn is what was measured and computed."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest

mpl.use("agg")
import matplotlib.pyplot as plt

import oectflow as of
from oectflow.pipeline.inputs.simulate import simulate_device


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module", params=["n", "p"])
def device(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plots")
    simulated = simulate_device(
        1, polarity=request.param, n_transfer=3, n_transient=3, n_cycles=4, transient_noise=0
    )
    experiment = of.Experiment(simulated.write(folder / "device.h5"))
    of.extract(experiment, "all", folder / "out", progress=False)
    return experiment, of.open_results(folder / "out")


def test_plot_transient__fits_lie_on_the_measured_current(device):
    experiment, results = device
    one = results.isel(experiment=0)
    ax = of.plot_transient(experiment, one, 1, cycles=(1, 2))
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
    assert ax.get_xlabel() == "time"
    assert {text.get_text() for text in ax.get_legend().get_texts()} == {
        "measured", "fit, on", "fit, off",
    }  # fmt: skip


def test_plot_transfer__all_sweeps_and_their_slopes(device):
    experiment, _ = device
    ax = of.plot_transfer(experiment)
    assert len(ax.lines) == 2 * 3
    step = experiment.step("transfer", 0)
    drawn = np.concatenate([ax.lines[0].get_xdata(), ax.lines[1].get_xdata()[1:]])
    np.testing.assert_array_equal(drawn, step["Vg"])
    right = next(other for other in ax.figure.axes if other is not ax and other.lines)
    assert len(right.lines) == 6
    assert len(of.plot_transfer(experiment, gm=False).figure.axes) == 2


def test_plot_feature__the_median_over_cycles(device):
    _, results = device
    ax = of.plot_feature(results, "tau", phase="off")
    tau = results["tau"].sel(phase="off").isel(experiment=0)
    expected = np.nanmedian(tau.values, axis=1)
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), expected)
    assert "tau off" in ax.get_ylabel()
    plain = of.plot_feature(results, "gm_max_forward")
    np.testing.assert_array_equal(
        plain.lines[0].get_ydata(), results["gm_max_forward"].isel(experiment=0)
    )
