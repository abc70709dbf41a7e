"""The examples of autotau's documents, 0.3.0 and 0.6.0; only import lines change."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from oectflow.extractors.autotau import exp_rise


@pytest.fixture
def trace(cell: Any) -> Any:
    """A cell that knows five cycles of 0.2 s at 1 kHz."""
    k = np.arange(1000)
    p = k % 200
    noise = 2e-6 * np.random.default_rng(3).normal(size=k.size)
    signal = 1e-3 * np.where(p < 100, 1 - np.exp(-p / 12), np.exp(-(p - 100) / 17)) + noise
    cell("import numpy as np\n", time_data=1e-3 * k, current_data=signal)
    return cell


def test_seed_000_2__which_function(cell: Any) -> None:
    names = cell("""
import numpy as np
from autotau.core.accelerated import NUMBA_AVAILABLE, exp_rise_numba, exp_rise_numpy
from autotau.core.accelerated import is_numba_available, get_acceleration_status
if NUMBA_AVAILABLE:
    exp_rise = exp_rise_numba
else:
    exp_rise = exp_rise_numpy
t = np.linspace(0, 0.1, 11)
result = exp_rise_numba(t, 1.0, 0.02, 0.0)
""")
    np.testing.assert_allclose(names["result"], 1 - np.exp(-names["t"] / 0.02), rtol=1e-14)
    assert names["exp_rise"] is exp_rise
    assert names["is_numba_available"]()
    assert "Numba" in names["get_acceleration_status"]()


def test_seed_000_4_and_15__kept_windows_and_smart_search(trace: Any) -> None:
    names = trace("""
from autotau.core import CachedAutoTauFitter, SmartWindowSearchFitter

smart_factory = lambda t, s, **kw: SmartWindowSearchFitter(
    t, s, maxiter=50, popsize=15, **kw
)

def process_experiment(experiment_data):
    cached_fitter = CachedAutoTauFitter(
        base_fitter_factory=smart_factory,
        validation_threshold=0.95
    )
    results = []
    for step_idx, (time, signal) in enumerate(experiment_data['steps']):
        tau_on, r2_on, tau_off, r2_off = cached_fitter.fit_step(
            time, signal, sample_step=1/1000, period=0.2, step_index=step_idx
        )
        results.append((tau_on[1], tau_off[1], r2_on, r2_off))
    return results, cached_fitter

results, cached_fitter = process_experiment({'steps': [(time_data[:400], current_data[:400])] * 4})
stats = cached_fitter.get_statistics()
text = f"{stats['cache_hit_rate']:.1%} {stats['full_searches']} {stats['estimated_speedup']}"
smart_fitter = SmartWindowSearchFitter(time_data[:400], current_data[:400], 1e-3, 0.2)
result = smart_fitter.fit_tau_on_and_off()
stats = smart_fitter.get_statistics()
""")
    for tau_on, tau_off, r2_on, r2_off in names["results"]:
        assert tau_on == pytest.approx(0.012, rel=0.05)
        assert tau_off == pytest.approx(0.017, rel=0.05)
        assert min(r2_on, r2_off) > 0.99
    assert names["text"] == "75.0% 1 4.0"
    smart, stats = names["smart_fitter"], names["stats"]
    assert (smart.window_length_min, smart.window_length_max) == pytest.approx((0.02, 0.08))
    assert stats["total_evaluations"] == smart.eval_count > 0
    assert stats["on_iterations"] == smart.optimization_result_on.nit
    assert stats["off_iterations"] == smart.optimization_result_off.nit
    assert (stats["maxiter"], stats["popsize"]) == (50, 15)


def test_seed_000_6_and_7__what_is_kept(trace: Any) -> None:
    names = trace("""
from autotau.core import CachedAutoTauFitter
fitter = CachedAutoTauFitter(validation_threshold=0.9, revalidation_interval=3)
for step_index in range(7):
    fitter.fit_step(time_data, current_data, sample_step=1/1000, period=0.2, step_index=step_index)
before = dict(fitter.stats), fitter.cached_window_on, fitter.last_full_search_step
fitter.fit_step(time_data, current_data, 1/1000, 0.2, 7, force_full_search=True)
forced = dict(fitter.stats)
""")
    fitter, (stats, window, last) = names["fitter"], names["before"]
    # Steps 0, 3 and 6 are searched: the first, and two whose windows are three steps old.
    assert stats == {
        "total_steps": 7,
        "full_searches": 3,
        "cache_hits": 4,
        "cache_misses": 0,
        "revalidations": 2,
    }
    assert last == 6
    assert set(window) == {"start_time", "end_time", "size", "start_offset", "duration"}
    assert window["duration"] == pytest.approx(window["end_time"] - window["start_time"])
    assert names["forced"] == stats | {"total_steps": 8, "full_searches": 4}
    assert fitter.cached_window_off["start_time"] > 0.1
    fitter.reset_cache()
    assert fitter.cached_window_on is fitter.cached_window_off is None
    assert set(fitter.stats.values()) == {0}
    assert fitter.last_full_search_step == -1


def test_seed_000_5_and_13__a_pool(trace: Any) -> None:
    with ThreadPoolExecutor(2) as pool:
        names = trace(
            """
from autotau import AutoTauFitter
fitter = AutoTauFitter(time_data, current_data, 1e-3, 0.2, executor=executor)
result = fitter.fit_tau_on_and_off()
alone = AutoTauFitter(time_data, current_data, 1e-3, 0.2).fit_tau_on_and_off()
""",
            executor=pool,
        )
    for with_pool, without in zip(names["result"], names["alone"], strict=True):
        np.testing.assert_array_equal(with_pool, without)


def test_readme__one_window_and_many_cycles(trace: Any) -> None:
    pytest.importorskip("matplotlib").use("agg")
    names = trace("""
from autotau import TauFitter, AutoTauFitter, CyclesAutoTauFitter
tau_fitter = TauFitter(time_data, current_data, t_on_idx=[0.0, 0.06], t_off_idx=[0.1, 0.16])
tau_fitter.fit_tau_on()
tau_fitter.fit_tau_off()
one = tau_fitter.get_tau_on(), tau_fitter.get_tau_off()
tau_fitter.plot_tau_on()
tau_fitter.plot_tau_off()
options = dict(window_scalar_min=0.2, window_scalar_max=1/3, window_points_step=10,
               window_start_idx_step=2, normalize=False, language='cn', show_progress=True)
auto_fitter = AutoTauFitter(time_data, current_data, sample_step=0.001, period=0.2, **options)
auto_fitter.fit_tau_on_and_off()
best = auto_fitter.best_tau_on_fitter.get_tau_on(), auto_fitter.best_tau_off_fitter.get_tau_off()
cycles_fitter = CyclesAutoTauFitter(
    time_data, current_data, period=0.2, sample_rate=1000, **options)
cycles_fitter.fit_all_cycles()
cycles_fitter.plot_cycle_results()
cycles_fitter.plot_windows_on_signal(num_cycles=5)
cycles_fitter.plot_all_fits(num_cycles=3)
summary = cycles_fitter.get_summary_data()
""")
    for tau_on, tau_off in (names["one"], names["best"]):
        assert tau_on == pytest.approx(0.012, rel=0.05)
        assert tau_off == pytest.approx(0.017, rel=0.05)
    assert len(names["summary"]) == 5


def test_readme__the_old_parallel_classes_name_what_to_call(trace: Any) -> None:
    with pytest.warns(DeprecationWarning, match="AutoTauFitter"):
        names = trace("""
from autotau import ParallelAutoTauFitter
fitter = ParallelAutoTauFitter(
    time_data, current_data, sample_step=0.001, period=0.2, max_workers=None)
fitter.fit_tau_on_and_off()
""")
    assert names["fitter"].best_tau_on_fitter.get_tau_on() == pytest.approx(0.012, rel=0.05)


def test_readme__the_extractor_of_time_constants(notebook: Any) -> None:
    names = notebook("""
import autotau_extractors
result = manager.batch_extract_features_v2(
    experiments=experiments,
    feature_config='transient_tau',
    save_format='parquet',
    progress=True
)
tau = exp.get_features(['tau'])['tau']
""")
    assert len(names["result"]["successful"]) == 2
    # Steps, cycles, on and off; simulated with 4 and 6 ms.
    assert names["tau"].shape == (3, 4, 2)
    assert np.nanmedian(names["tau"], axis=(0, 1)) == pytest.approx([4e-3, 6e-3], rel=0.1)


@pytest.fixture
def one_period(cell: Any) -> Any:
    """A cell that knows the noise-free period of 0.4 s of the README of 0.6.0."""
    cell("""
import numpy as np
time = np.linspace(0, 0.4, 400)
signal = np.where(
    time <= 0.2,
    1 - np.exp(-time / 0.05),
    np.exp(-(time - 0.2) / 0.05),
)
""")
    return cell


def test_readme_060_1_and_2__one_period(one_period: Any) -> None:
    names = one_period("""
from autotau import TauFitter, AutoTauFitter
fitter = TauFitter(time, signal, t_on_idx=[0.0, 0.2], t_off_idx=[0.2, 0.4], normalize=False,
                   language="en")
fitter.fit_tau_on(interp=True, points_after_interp=200)
fitter.fit_tau_off(interp=True, points_after_interp=200)
one = fitter.get_tau_on(), fitter.get_tau_off()
quality = fitter.tau_on_r_squared, fitter.tau_on_r_squared_adj
auto_fitter = AutoTauFitter(time, signal, sample_step=time[1] - time[0], period=0.4,
                            window_scalar_min=0.2, window_scalar_max=1/3, window_points_step=10,
                            window_start_idx_step=1, normalize=False, language="en",
                            show_progress=True)
auto_fitter.fit_tau_on_and_off()
best = auto_fitter.best_tau_on_fitter.get_tau_on(), auto_fitter.best_tau_off_fitter.get_tau_off()
window = auto_fitter.best_tau_on_window_start_time, auto_fitter.best_tau_on_window_end_time
""")
    # 200 points on 200 samples are the samples; elsewhere interpolation shifts tau a little.
    assert names["one"] == pytest.approx((0.05, 0.05), rel=1e-10)
    assert names["quality"] == pytest.approx((1, 1), abs=1e-14)
    assert names["best"] == pytest.approx((0.05, 0.05), rel=1e-3)
    assert 0 <= names["window"][0] < names["window"][1] <= 0.2


def test_readme_060_3_and_4__windows_of_two_cycles_for_all(trace: Any) -> None:
    names = trace("""
from autotau import CyclesAutoTauFitter, WindowFinder, ParallelCyclesTauFitter
time, signal = time_data, current_data
period = 0.2
sample_rate = 1000
cycles_fitter = CyclesAutoTauFitter(
    time, signal, period=period, sample_rate=sample_rate, window_scalar_min=0.2,
    window_scalar_max=1/3, window_points_step=10, window_start_idx_step=1, normalize=False,
    language="en")
results = cycles_fitter.fit_all_cycles(r_squared_threshold=0.95)
head = cycles_fitter.get_summary_data().head()

two_period_mask = time <= time[0] + 2 * period
finder = WindowFinder(
    time[two_period_mask], signal[two_period_mask], sample_step=1 / sample_rate, period=period,
    window_scalar_min=0.2, window_scalar_max=1/3, show_progress=True, max_workers=4)
windows = finder.find_best_windows()
fitter = ParallelCyclesTauFitter(
    time, signal, period=period, sample_rate=sample_rate,
    window_on_offset=windows["on"]["offset"], window_on_size=windows["on"]["size"],
    window_off_offset=windows["off"]["offset"], window_off_size=windows["off"]["size"],
    show_progress=True, max_workers=4)
df = fitter.fit_all_cycles()
""")
    assert len(names["results"]) == len(names["head"]) == len(names["df"]) == 5
    np.testing.assert_array_equal(names["df"]["tau_on"], names["head"]["tau_on"])


def test_readme_030__pools_and_factories(trace: Any) -> None:
    with ThreadPoolExecutor(2) as pool:
        names = trace(
            """
from autotau import AutoTauFitter, CyclesAutoTauFitter
fitter_factory = lambda t, s, **kw: AutoTauFitter(t, s, executor=executor, **kw)
cycles_fitter = CyclesAutoTauFitter(
    time_data, current_data, period=0.2, sample_rate=1000, fitter_factory=fitter_factory)
results = cycles_fitter.fit_all_cycles()
serial = CyclesAutoTauFitter(time_data, current_data, period=0.2, sample_rate=1000)
alone = serial.fit_all_cycles()
""",
            executor=pool,
        )
    for one, two in zip(names["results"], names["alone"], strict=True):
        assert (one["tau_on"], one["tau_off"]) == (two["tau_on"], two["tau_off"])


def test_readme_030__kept_windows_over_many_steps(trace: Any) -> None:
    names = trace("""
from autotau.core import CachedAutoTauFitter, SmartWindowSearchFitter
smart_factory = lambda t, s, **kw: SmartWindowSearchFitter(t, s, maxiter=50, popsize=15, **kw)
cached_fitter = CachedAutoTauFitter(
    base_fitter_factory=smart_factory, validation_threshold=0.95, revalidation_interval=500)
for step_idx in range(50):
    tau_on, r2_on, tau_off, r2_off = cached_fitter.fit_step(
        time_data, current_data, sample_step=1/1000, period=0.2, step_index=step_idx)
stats = cached_fitter.get_statistics()
text = f"{stats['search_reduction']} {stats['estimated_speedup']}"
""")
    assert names["stats"]["full_searches"] == 1
    assert names["stats"]["estimated_speedup"] == 50
    assert names["tau_on"][1] == pytest.approx(0.012, rel=0.05)


def test_examples_030__every_class_says_the_same(trace: Any) -> None:
    pytest.importorskip("matplotlib").use("agg")
    with pytest.warns(DeprecationWarning, match="AutoTauFitter"):
        names = trace("""
from autotau import (
    TauFitter, AutoTauFitter, CyclesAutoTauFitter, ParallelAutoTauFitter,
    ParallelCyclesAutoTauFitter)
options = dict(window_scalar_min=0.2, window_scalar_max=1/3, window_points_step=10,
               window_start_idx_step=2, normalize=False, language='en', show_progress=True)
two = time_data <= 0.4
auto_fitter = AutoTauFitter(
    time_data[two], current_data[two], sample_step=0.001, period=0.2, **options)
auto_fitter.fit_tau_on_and_off(interp=True)
parallel_auto_fitter = ParallelAutoTauFitter(
    time_data[two], current_data[two], sample_step=0.001, period=0.2, **options)
parallel_auto_fitter.fit_tau_on_and_off(interp=True)
cycles_fitter = CyclesAutoTauFitter(
    time_data, current_data, period=0.2, sample_rate=1/0.001, **options)
cycles_fitter.fit_all_cycles(interp=True)
parallel_cycles_fitter = ParallelCyclesAutoTauFitter(
    time_data, current_data, period=0.2, sample_rate=1/0.001, max_workers=None, **options)
parallel_cycles_fitter.fit_all_cycles(interp=True)
serial_summary = cycles_fitter.get_summary_data()
parallel_summary = parallel_cycles_fitter.get_summary_data()
parallel_cycles_fitter.plot_cycle_results(figsize=(10, 6))
parallel_cycles_fitter.plot_r_squared_values(figsize=(10, 6))
parallel_cycles_fitter.plot_windows_on_signal(num_cycles=5, figsize=(12, 6))
parallel_cycles_fitter.plot_all_fits(num_cycles=3, figsize=(15, 10))
fitters = auto_fitter, parallel_auto_fitter
best = [(f.best_tau_on_fitter.get_tau_on(), f.best_tau_off_fitter.get_tau_off()) for f in fitters]
""")
    assert names["best"][0] == names["best"][1]
    for name in ("tau_on", "tau_off"):
        np.testing.assert_array_equal(
            names["serial_summary"][name], names["parallel_summary"][name]
        )


def test_seed_002_10__cycles_inside_an_extractor(notebook: Any) -> None:
    with pytest.warns(UserWarning, match="takes the place of"):
        names = notebook("""
from autotau import CyclesAutoTauFitter
from infra.features_v2.extractors.base import BaseExtractor, register

@register('transient.tau_on_off')
class TauOnOffExtractor(BaseExtractor):
    def _get_sampling_params(self, params):
        return params.get('period', 0.06), params.get('sample_rate', 1000)

    def extract_single_step(self, step_data, params):
        period, sample_rate = self._get_sampling_params(params)
        fitter = CyclesAutoTauFitter(
            step_data['original_time'],
            step_data['drain_current'],
            period=period,
            sample_rate=sample_rate
        )
        fitter.fit_all_cycles(r_squared_threshold=params['r_squared_threshold'])
        summary_df = fitter.get_summary_data()
        if summary_df is not None and not summary_df.empty:
            tau_on = summary_df['tau_on'].to_numpy()
            tau_off = summary_df['tau_off'].to_numpy()
            return np.stack([tau_on, tau_off], axis=1)
        else:
            return np.empty((0, 2))

    @property
    def output_shape(self):
        return ('n_cycles', 2)

values = exp.extract_features_v2({'tau': {
    'extractor': 'transient.tau_on_off', 'input': 'transient',
    'params': {'r_squared_threshold': 0.99}}}, 'dict')
step = exp.get_transient_data(0)
""")
    assert names["values"]["tau"].shape[0] == 3
    assert names["values"]["tau"].shape[2] == 2
