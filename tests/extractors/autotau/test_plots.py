"""Plots: what is drawn, that nothing is shown, and what happens without matplotlib."""

import sys

import numpy as np
import pytest

from oectflow.errors import OectflowError, ParameterError
from oectflow.extractors.autotau import (
    AutoTauFitter,
    CyclesAutoTauFitter,
    ParallelCyclesTauFitter,
    TauFitter,
    WindowFinder,
)

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")
import matplotlib.pyplot as plt  # noqa: E402  the backend comes first


@pytest.fixture(autouse=True)
def _no_window(monkeypatch):
    def show(*args, **kwargs):
        raise AssertionError("a plot called show()")

    monkeypatch.setattr(plt, "show", show)
    yield
    plt.close("all")


@pytest.fixture
def cycles(trace):
    y = trace[1].copy()
    y[400:410] += 0.5
    fitter = CyclesAutoTauFitter(trace[0], y, 0.2, 1000)
    fitter.fit_all_cycles(interp=False)
    return fitter


def test_plot_tau__samples_and_curve(trace):
    t, y = trace
    fitter = TauFitter(t, y, [0.0, 0.06], [0.1, 0.16])
    assert fitter.plot_tau_on() is None
    popt, *_ = fitter.fit_tau_on()
    fitter.fit_tau_off()
    ax = fitter.plot_tau_on(figsize=(3, 2))
    data, curve = ax.lines
    np.testing.assert_array_equal(data.get_xydata(), np.column_stack([t, y])[:61])
    x = curve.get_xdata()
    np.testing.assert_allclose(curve.get_ydata(), fitter.exp_rise(x - x[0], *popt), rtol=1e-12)
    assert f"{popt[1]:.5g} s" in ax.get_title()
    assert len(fitter.plot_tau_off().lines) == 2


def test_plot_tau__no_answer(trace):
    fitter = TauFitter(*trace, [0.1, 0.16])
    fitter.fit_tau_on()
    ax = fitter.plot_tau_on()
    assert len(ax.lines) == 1
    assert "opposite" in ax.get_title()


def test_plot_tau__chinese(trace):
    fitter = TauFitter(*trace, [0.0, 0.06], language="cn")
    fitter.fit_tau_on()
    assert fitter.plot_tau_on().get_xlabel() == "时间 (s)"
    fitter.set_language("en")
    assert fitter.plot_tau_on().get_xlabel() == "time (s)"


@pytest.mark.parametrize("dual", [True, False])
def test_plot_cycle_results__numbers(cycles, dual):
    ax = cycles.plot_cycle_results(dual_y_axis=dual)
    on = [r["tau_on"] for r in cycles.cycle_results]
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), on)
    # The third cycle has a window of its own and gets a ring.
    np.testing.assert_array_equal(ax.lines[1].get_xdata(), [3])
    assert len(ax.figure.axes) == (2 if dual else 1)


def test_plot_r_squared__threshold(cycles):
    ax = cycles.plot_r_squared_values()
    assert ax.lines[-1].get_ydata()[0] == 0.95
    assert cycles.plot_r_squared_values(threshold=0.5).lines[-1].get_ydata()[0] == 0.5


def test_plot_windows__spans(cycles):
    ax = cycles.plot_windows_on_signal(start_cycle=1, num_cycles=2)
    assert len(ax.patches) == 4
    assert ax.lines[0].get_xdata()[0] == cycles.time[200]
    first = cycles.cycle_results[1]["window_on_start_time"]
    assert ax.patches[0].get_x() == pytest.approx(first)
    assert len(cycles.plot_windows(plot_full_signal=True).patches) == 10


def test_plot_all_fits__rows(cycles):
    axes = cycles.plot_all_fits(start_cycle=3, num_cycles=10)
    assert axes.shape == (2, 2)
    assert "4" in axes[0, 0].get_title()
    with pytest.raises(ParameterError, match="start_cycle=9: expected 0 to 4"):
        cycles.plot_all_fits(start_cycle=9)


def test_plots__tables_too(trace):
    fitter = ParallelCyclesTauFitter(*trace, 0.2, 1000, 0.0, 0.04, 0.1, 0.06)
    assert fitter.plot_cycle_results() is None
    fitter.fit_all_cycles()
    assert len(fitter.plot_cycle_results().figure.axes) == 2
    assert fitter.plot_r_squared_values().get_ylabel() == "R²"
    assert fitter.plot_all_fits(num_cycles=1).shape == (1, 2)


def test_plot_windows__search(trace):
    t, y = trace
    for fitter in (AutoTauFitter(t, y, 1e-3, 0.2), WindowFinder(t, y, 1e-3, 0.2)):
        assert len(fitter.plot_windows().patches) == 0
        getattr(fitter, "fit_tau_on_and_off", getattr(fitter, "find_best_windows", None))()
        assert len(fitter.plot_windows().patches) == 2


def test_plots__without_matplotlib(cycles, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(OectflowError, match=r"pip install 'oectflow\[plot\]'"):
        cycles.plot_cycle_results()
