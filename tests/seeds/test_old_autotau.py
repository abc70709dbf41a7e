"""autotau 0.3.0 and 0.6.0 beside ours, on the same traces.

Each lives in an environment of its own; ``OECTFLOW_TEST_AUTOTAU_030`` and
``OECTFLOW_TEST_AUTOTAU_060`` name their Pythons.

How far autotau may be from the minimum is derived in tests/extractors/autotau/test_peer.py: 1e-4
sqrt(n - 3) standard errors of the parameter, and R2 by 2e-4 sqrt(points / n) (1 - R2).
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

from oectflow.extractors import autotau

pytestmark = pytest.mark.old_packages
OLD = {"030": "autotau 0.3.0", "060": "autotau 0.6.0"}
#: Their ends lie between samples, so that rounding takes no sample away.
WINDOWS = [
    ([-0.0005, 0.0605], [0.0995, 0.1605]),
    ([0.4095, 0.4705], [0.4995, 0.5905]),
    ([0.7995, 0.8995], [0.9035, 0.9505]),
]
SEARCH = {"window_points_step": 13, "window_start_idx_step": 10}


def make_trace(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Five cycles of 200 samples at 1 kHz, every one slower and higher than the last.

    The current is of the order of 1: at a µA autotau stops on its absolute gradient.
    """
    k = np.arange(1000)
    p, i = k % 200, k // 200
    y = np.where(p < 100, 1 - np.exp(-p / (12 + i)), np.exp(-(p - 100) / (17 + i)))
    noise = np.random.default_rng(seed).normal(size=k.size)
    return 1e-3 * k, y * (1 + 0.2 * i) + 0.4 + 1e-3 * (1 + 4 * seed) * noise


ASK = f"""
import json
import numpy as np
import autotau

WINDOWS, SEARCH = {WINDOWS!r}, {SEARCH!r}
{inspect.getsource(make_trace)}
found = {{}}
for seed in range(2):
    t, y = make_trace(seed)
    about = found[seed] = {{}}
    for k, (on, off) in enumerate(WINDOWS):
        for interp in (True, False):
            fitter = autotau.TauFitter(t, y, on, off)
            fits = [getattr(fitter, 'fit_tau_' + phase)(interp=interp) for phase in ('on', 'off')]
            about['fit %d %s' % (k, interp)] = [[list(popt), r2, adjusted]
                                                for popt, pcov, r2, adjusted in fits]
    for interp in (True, False):
        fitter = autotau.AutoTauFitter(t[:401], y[:401], 0.001, 0.2, **SEARCH)
        on, r2_on, off, r2_off = fitter.fit_tau_on_and_off(interp=interp)
        about['search %s' % interp] = [
            [list(on), r2_on, fitter.best_tau_on_window_start_time, fitter.best_tau_on_window_size],
            [list(off), r2_off, fitter.best_tau_off_window_start_time,
             fitter.best_tau_off_window_size]]
    cycles = autotau.CyclesAutoTauFitter(t, y, 0.2, 1000, **SEARCH)
    about['cycles'] = [[r['tau_on'], r['tau_off']] for r in cycles.fit_all_cycles()]
print('ANSWER' + json.dumps(found))
"""


@pytest.fixture(scope="module", params=OLD)
def theirs(request: pytest.FixtureRequest, ask_old: Any) -> Any:
    """What the old package says of the traces, by seed."""
    version = request.param
    return ask_old(f"OECTFLOW_TEST_AUTOTAU_{version}", OLD[version], ASK)


def allowed(pcov: np.ndarray, points: int) -> np.ndarray:
    """Return how far ``curve_fit`` may stop from the minimum, for A, tau and C."""
    return 1e-4 * np.sqrt(points - 3) * np.sqrt(np.diag(pcov))


def allowed_r_squared(r_squared: float, points: int, n: int) -> float:
    return 2e-4 * np.sqrt(points / n) * (1 - r_squared) + 1e-14


def test_same_values_where_the_definition_is_the_same(theirs: Any) -> None:
    compared = 0
    for seed, about in theirs.items():
        t, y = make_trace(int(seed))
        for k, (on, off) in enumerate(WINDOWS):
            for interp in (True, False):
                fitter = autotau.TauFitter(t, y, on, off)
                for phase, ends, old in zip(
                    ("on", "off"), (on, off), about[f"fit {k} {interp}"], strict=True
                ):
                    popt, pcov, r2, adjusted = getattr(fitter, f"fit_tau_{phase}")(interp=interp)
                    n = round(1e3 * (ends[1] - ends[0]))
                    points = 100 if interp else n
                    assert (np.abs(popt - old[0]) < allowed(pcov, points)).all()
                    assert abs(r2 - old[1]) < allowed_r_squared(old[1], points, n)
                    assert abs(adjusted - old[2]) < 1.1 * allowed_r_squared(old[1], points, n)
                    compared += 1
    assert compared == 24


def test_search__never_lower_and_the_same_tau_in_the_same_window(theirs: Any) -> None:
    same = 0
    for seed, about in theirs.items():
        t, y = make_trace(int(seed))
        for interp in (True, False):
            fitter = autotau.AutoTauFitter(t[:401], y[:401], 0.001, 0.2, **SEARCH)
            on, r2_on, off, r2_off = fitter.fit_tau_on_and_off(interp=interp)
            for phase, popt, r2, old in zip(
                ("on", "off"), (on, off), (r2_on, r2_off), about[f"search {interp}"], strict=True
            ):
                n = round(1e3 * old[3])
                points = 100 if interp else n
                assert r2 >= old[1] - 1.1 * allowed_r_squared(old[1], points, n)
                start = getattr(fitter, f"best_tau_{phase}_window_start_time")
                size = getattr(fitter, f"best_tau_{phase}_window_size")
                if (start, size) == pytest.approx((old[2], old[3]), abs=1e-9):
                    same += 1
                    pcov = getattr(getattr(fitter, f"best_tau_{phase}_fitter"), f"tau_{phase}_pcov")
                    assert (np.abs(popt - old[0]) < allowed(pcov, points)).all()
    assert same >= 6


def test_cycles__ours_has_one_more_and_the_others_agree(theirs: Any) -> None:
    for seed, about in theirs.items():
        t, y = make_trace(int(seed))
        fitter = autotau.CyclesAutoTauFitter(t, y, 0.2, 1000, **SEARCH)
        results = fitter.fit_all_cycles()
        assert len(results) == len(about["cycles"]) + 1
        ours = np.array([[r["tau_on"], r["tau_off"]] for r in results[:-1]])
        # Its windows are one sample shorter in some cycles, by rounding of the borders.
        np.testing.assert_allclose(ours, about["cycles"], rtol=0.05)


FUNCTIONS = """
import json
import numpy as np
from autotau.core import accelerated as a
rng = np.random.default_rng(0)
t = np.sort(rng.uniform(0, 1, 50))
y, fit = rng.normal(size=(2, 50))
print('ANSWER' + json.dumps([
    a.exp_rise_numpy(t, 2.0, 0.3, 0.1).tolist(), a.exp_decay_numpy(t, 2.0, 0.3, 0.1).tolist(),
    a.exp_rise(t, 2.0, 0.3, 0.1).tolist(), a.compute_r_squared(y, fit),
    a.compute_adjusted_r_squared(y, fit, 3),
]))
"""


def test_functions_of_030(ask_old: Any) -> None:
    old = ask_old("OECTFLOW_TEST_AUTOTAU_030", OLD["030"], FUNCTIONS)
    rng = np.random.default_rng(0)
    t = np.sort(rng.uniform(0, 1, 50))
    y, fit = rng.normal(size=(2, 50))
    ours = [
        autotau.exp_rise_numpy(t, 2.0, 0.3, 0.1),
        autotau.exp_decay_numpy(t, 2.0, 0.3, 0.1),
        autotau.exp_rise(t, 2.0, 0.3, 0.1),
        autotau.compute_r_squared(y, fit),
        autotau.compute_adjusted_r_squared(y, fit, 3),
    ]
    for mine, theirs in zip(ours, old, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-13)
