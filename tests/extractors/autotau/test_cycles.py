"""Cycles: borders, the last one, bad samples, poor fits, and that nothing is printed."""

import numpy as np
import pytest

from oectflow.errors import ParameterError
from oectflow.extractors.autotau import (
    AutoTauFitter,
    CyclesAutoTauFitter,
    CyclesTauFitter,
    SmartWindowSearchFitter,
    TauFitter,
)

WINDOWS = {
    "window_on_offset": 0.0,
    "window_on_size": 0.04,
    "window_off_offset": 0.1,
    "window_off_size": 0.06,
}
#: The keys of autotau 0.6.0.
KEYS = {
    "cycle", "cycle_start_time", "tau_on", "tau_off", "tau_on_popt", "tau_off_popt",
    "tau_on_r_squared", "tau_off_r_squared", "tau_on_r_squared_adj", "tau_off_r_squared_adj",
    "fitter",
}  # fmt: skip
COLUMNS = [
    "cycle", "cycle_start_time", "tau_on", "tau_off", "r_squared_on", "r_squared_off",
    "r_squared_adj_on", "r_squared_adj_off",
]  # fmt: skip


def taus(results):
    return np.array([[r["tau_on"], r["tau_off"]] for r in results])


@pytest.mark.parametrize("interp", [True, False])
def test_cycles__each_is_its_own_window(trace, interp):
    t, y = trace
    fitter = CyclesTauFitter(t, y, 0.2, 1000, **WINDOWS)
    results = fitter.fit_all_cycles(interp=interp)
    assert fitter.cycle_results is results
    assert [r["cycle"] for r in results] == [1, 2, 3, 4, 5]
    assert all(set(r) >= KEYS for r in results)
    for i, r in enumerate(results):
        assert r["cycle_start_time"] == t[200 * i]
        for phase, first, last in (("on", 0, 40), ("off", 100, 160)):
            ends = [t[200 * i + first], t[200 * i + last]]
            single = TauFitter(t, y, ends, ends)
            popt, pcov, r_squared, adjusted = getattr(single, f"fit_tau_{phase}")(interp=interp)
            np.testing.assert_array_equal(r[f"tau_{phase}_popt"], popt)
            assert r[f"tau_{phase}"] == popt[1]
            assert r[f"tau_{phase}_r_squared"] == r_squared
            assert r[f"tau_{phase}_r_squared_adj"] == adjusted
            assert r[f"tau_{phase}_status"] == "ok"
            assert r[f"window_{phase}_start_idx"] == 200 * i + first
            assert r[f"window_{phase}_end_idx"] == 200 * i + last
            np.testing.assert_array_equal(getattr(r["fitter"], f"tau_{phase}_pcov"), pcov)


def test_cycles__last_one_is_kept(trace):
    t, y = trace
    # The off window ends where a sixth cycle would begin: its last sample does not exist.
    windows = WINDOWS | {"window_off_size": 0.1}
    results = CyclesTauFitter(t, y, 0.2, 1000, **windows).fit_all_cycles()
    assert len(results) == 5
    assert [r["window_off_end_idx"] - r["window_off_start_idx"] for r in results] == [100] * 4 + [
        99
    ]
    assert all(r["tau_off_status"] == "ok" for r in results)
    # One sample less is no complete period by more than half a sample.
    assert len(CyclesTauFitter(t[:-1], y[:-1], 0.2, 1000, **WINDOWS).fit_all_cycles()) == 4


def test_cycles__window_beyond_the_end(trace):
    results = CyclesTauFitter(
        *trace, 0.2, 1000, **WINDOWS | {"window_off_offset": 0.19}
    ).fit_all_cycles()
    assert [r["tau_off_status"] for r in results][-1] == "cut"
    assert np.isnan(results[-1]["tau_off"])
    assert np.isnan(results[-1]["window_off_end_time"])
    assert np.isfinite(taus(results)[:, 0]).all()


@pytest.mark.parametrize("period", [0.2, 0.1999, 0.0777])
def test_cycles__windows_have_one_length(period):
    # Borders by float comparison would differ by one sample from cycle to cycle.
    t = 0.001 + 1e-3 * np.arange(20000)
    y = np.exp(-(t % period) / 0.01)
    results = CyclesTauFitter(t, y, period, 1000, 0.0, 0.03, 0.01, 0.03).fit_all_cycles()
    first = np.array([r["window_on_start_idx"] for r in results])
    last = np.array([r["window_on_end_idx"] for r in results])
    np.testing.assert_array_equal(last - first, 30)
    # Nearest sample; a border halfway between two may go to either.
    assert np.abs(first - np.arange(first.size) * period / 1e-3).max() <= 0.5 + 1e-6


@pytest.mark.parametrize("scale", [1e-9, 1e-6, 1e-3])
@pytest.mark.parametrize("interp", [True, False])
def test_cycles__any_current_scale(trace, scale, interp):
    t, y = trace
    fits = [
        taus(CyclesAutoTauFitter(t, s * y, 0.2, 1000).fit_all_cycles(interp)) for s in (1.0, scale)
    ]
    # As for a single window: scaling rounds each sample once.
    np.testing.assert_allclose(fits[1], fits[0], rtol=1e-12)


@pytest.mark.parametrize("interp", [True, False])
def test_cycles__nan_stays_in_its_cycle(trace, interp):
    t, y = trace
    clean = CyclesAutoTauFitter(t, y, 0.2, 1000)
    expected = taus(clean.fit_all_cycles(interp))
    damaged = y.copy()
    at = int(clean.cycle_results[2]["window_on_start_idx"]) + 5
    damaged[at] = np.nan
    fitter = CyclesAutoTauFitter(t, damaged, 0.2, 1000)
    results = fitter.fit_all_cycles(interp)
    assert results[2]["tau_on_status"] == "nan"
    assert np.isnan(results[2]["tau_on"])
    assert not results[2]["was_refitted"]
    expected[2, 0] = np.nan
    np.testing.assert_array_equal(taus(results), expected)


def test_cycles_auto__poor_cycle_gets_its_own_window(trace):
    t, y = trace
    y = y.copy()
    # The begin of the third on phase is lost in a disturbance; the rest of the phase is whole.
    y[400:410] += 0.5
    fitter = CyclesAutoTauFitter(t, y, 0.2, 1000)
    results = fitter.fit_all_cycles(interp=False)
    assert [r["was_refitted"] for r in results] == [False, False, True, False, False]
    (entry,) = fitter.refitted_cycles
    assert entry["cycle"] == 3
    assert entry["refit_types"] == ["on"]
    assert entry["original_r_squared_on"] < 0.95 < entry["new_r_squared_on"]
    assert entry["new_r_squared_off"] == entry["original_r_squared_off"]
    start = results[2]["window_on_start_idx"]
    assert start >= 400
    # It is the best window of that cycle alone.
    alone = AutoTauFitter(t[400:600], y[400:600], 1e-3, 0.2)
    popt, adjusted, *_ = alone.fit_tau_on_and_off(interp=False)
    assert t[start] == alone.best_tau_on_window_start_time
    assert results[2]["tau_on_r_squared_adj"] == adjusted
    assert results[2]["tau_on"] == pytest.approx(popt[1], rel=1e-12)
    info = fitter.get_refitted_cycles_info()
    assert info["cycle"].tolist() == [3]


def test_cycles_auto__refitted_means_replaced(trace):
    t, y = trace
    y = y.copy()
    y[400:600] = 0.4 + 0.1 * np.sin(1.7 * np.arange(200))
    fitter = CyclesAutoTauFitter(t, y, 0.2, 1000)
    results = fitter.fit_all_cycles(interp=False, r_squared_threshold=0.999999)
    for r in results:
        entries = [e for e in fitter.refitted_cycles if e["cycle"] == r["cycle"]]
        assert r["was_refitted"] == bool(entries)
        for entry in entries:
            for phase in entry["refit_types"]:
                old = entry[f"original_r_squared_{phase}"]
                assert np.isnan(old) or entry[f"new_r_squared_{phase}"] > old
        # Nothing reaches such a threshold: the numbers stay, and the status says so.
        assert r["tau_on_status"] in ("low_r2", "noise", "opposite", "straight", "step")
    assert results[0]["tau_on_status"] == "low_r2"
    assert not results[0]["was_refitted"] or results[0]["tau_on"] > 0


def test_cycles_auto__summary(trace):
    fitter = CyclesAutoTauFitter(*trace, 0.2, 1000)
    assert fitter.get_summary_data() is None
    results = fitter.fit_all_cycles()
    table = fitter.get_summary_data()
    assert list(table.columns) == [*COLUMNS, "was_refitted"]
    np.testing.assert_array_equal(table[["tau_on", "tau_off"]], taus(results))
    assert fitter.get_refitted_cycles_info() is None
    assert fitter.last_r_squared_threshold == 0.95
    assert fitter.initial_auto_fitter.best_tau_on_fitter is not None


def test_cycles_auto__same_windows_by_hand(trace):
    auto = CyclesAutoTauFitter(*trace, 0.2, 1000)
    expected = taus(auto.fit_all_cycles())
    manual = CyclesTauFitter(
        *trace, 0.2, 1000, auto.window_on_offset, auto.window_on_size,
        auto.window_off_offset, auto.window_off_size,
    )  # fmt: skip
    np.testing.assert_array_equal(taus(manual.fit_all_cycles()), expected)


def test_cycles_auto__factory_gets_what_it_needs(trace):
    expected = taus(CyclesAutoTauFitter(*trace, 0.2, 1000, window_points_step=5).fit_all_cycles())
    factories = [
        # As documented by autotau 0.6.0, which does not pass sample_step and period ...
        lambda time, signal, **kw: AutoTauFitter(time, signal, executor=None, **kw),
        # ... so that scripts which run with it supply them.
        lambda time, signal, **kw: AutoTauFitter(time, signal, sample_step=1e-3, period=0.2, **kw),
    ]
    for factory in factories:
        fitter = CyclesAutoTauFitter(*trace, 0.2, 1000, factory, window_points_step=5)
        np.testing.assert_array_equal(taus(fitter.fit_all_cycles()), expected)

    def broken(time, signal, **kw):
        raise TypeError("of its own")

    with pytest.raises(TypeError, match="of its own"):
        CyclesAutoTauFitter(*trace, 0.2, 1000, broken).fit_all_cycles()


def test_cycles_auto__smart_search_as_factory(trace):
    fitter = CyclesAutoTauFitter(
        *trace, 0.2, 1000, fitter_factory=SmartWindowSearchFitter, seed=1, maxiter=5
    )
    results = fitter.fit_all_cycles(interp=False)
    assert fitter.initial_auto_fitter.get_statistics()["total_evaluations"] > 0
    np.testing.assert_allclose(taus(results)[0], [0.012, 0.017], rtol=0.05)


def test_cycles_auto__max_cycles_and_unknown_options(trace):
    assert len(CyclesAutoTauFitter(*trace, 0.2, 1000, max_cycles=2).fit_all_cycles()) == 2
    with pytest.raises(ParameterError, match="did you mean 'window_points_step'"):
        CyclesAutoTauFitter(*trace, 0.2, 1000, window_point_step=3)


def test_cycles_auto__nothing_to_find():
    fitter = CyclesAutoTauFitter(1e-3 * np.arange(600), np.zeros(600), 0.2, 1000)
    results = fitter.fit_all_cycles()
    assert [r["tau_on_status"] for r in results] == ["no_window"] * 3
    assert np.isnan(taus(results)).all()


def test_cycles__shorter_than_a_period(trace, caplog):
    t, y = trace
    assert CyclesTauFitter(t[:150], y[:150], 0.2, 1000, **WINDOWS).fit_all_cycles() == []
    assert "no complete cycle" in caplog.text


def test_cycles__uneven_times():
    rng = np.random.default_rng(0)
    k = np.arange(1000)
    t = 1e-3 * (k + np.r_[0, rng.uniform(-0.3, 0.3, 999)])
    p = t / 1e-3 % 200
    y = np.where(p < 100, 1 - np.exp(-p / 12), np.exp(-(p - 100) / 17))
    found = taus(CyclesTauFitter(t, y, 0.2, 1000, 0.002, 0.05, 0.102, 0.06).fit_all_cycles(False))
    # No noise; a window of samples on the exponential itself is fitted to rounding, but its first
    # sample may lie just before the switch, at most 0.3 samples of 50.
    np.testing.assert_allclose(found, [[0.012, 0.017]] * 5, rtol=1e-9)


def test_cycles__nothing_is_printed(trace, capsys):
    y = trace[1].copy()
    y[420:460] = np.nan
    y[600:640] += np.random.default_rng(0).normal(0, 0.5, 40)
    fitter = CyclesAutoTauFitter(trace[0], y, 0.2, 1000, show_progress=True)
    fitter.get_summary_data()
    fitter.fit_all_cycles()
    fitter.get_refitted_cycles_info()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == ""


@pytest.mark.parametrize(
    ("period", "rate", "message"),
    [(0.003, 1000, "period=0.003 s is 3 samples"), (0.2, 0, "sample_rate=0")],
)
def test_cycles__bad_arguments(trace, period, rate, message):
    with pytest.raises(ParameterError, match=message):
        CyclesTauFitter(*trace, period, rate, **WINDOWS)
