"""Models of a phase with fixed unknowns, bounds, weights, and unknowns that cycles share."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import least_squares

from oectflow.errors import ParameterError
from oectflow.extractors import get_extractor, restricted
from oectflow.extractors.fingerprint import definition_fingerprint
from oectflow.extractors.kernels import downhill, mixtures
from oectflow.extractors.restricted import Problem, window_of
from oectflow.measurement import Batch
from tests.extractors.test_relaxation import (
    FAST,
    INTERVAL,
    SLOW,
    double,
    features,
    stretched,
    transient,
    words,
)

DOUBLE, STRETCHED = downhill.DOUBLE, downhill.STRETCHED
LOW, HIGH = np.log(mixtures.TAU_MIN), np.log(mixtures.TAU_MAX * 60)
OF_BETA = np.log(mixtures.BETA_MIN), np.log(mixtures.BETA_MAX)
FREE = {DOUBLE: ((LOW, LOW), (HIGH, HIGH)), STRETCHED: ((LOW, OF_BETA[0]), (HIGH, OF_BETA[1]))}


def left_of(window, model, pair):
    """Return the weighted residuals of the best amplitudes and constant, by NumPy."""
    t = window.t
    if model == DOUBLE:
        parts = [np.exp(-t / np.exp(pair[0])), np.exp(-t / np.exp(pair[1]))]
    else:
        parts = [np.exp(-((t / np.exp(pair[0])) ** np.exp(pair[1])))]
    basis = np.stack([np.ones_like(t), *parts], axis=1) * window.roots[:, None]
    return window.y - basis @ np.linalg.lstsq(basis, window.y, rcond=None)[0]


def least_of_scipy(problem, truth, rng, n_starts=8):
    """Return the least sum of squares that SciPy finds from many starts, within the same bounds."""
    places, free = problem.places, problem.places >= 0
    low, high = np.empty(problem.n_unknowns), np.empty(problem.n_unknowns)
    for bound, of_unknown in ((problem.low, low), (problem.high, high)):
        of_unknown[places[free]] = np.broadcast_to(bound, places.shape)[free]

    def residuals(unknowns):
        pairs = problem.pairs_of(unknowns)
        return np.concatenate(
            [left_of(w, problem.model, p) for w, p in zip(problem.windows, pairs, strict=True)]
        )

    best = np.inf
    for i in range(n_starts):
        start = rng.uniform(np.maximum(low, -1.0), np.minimum(high, np.log(120.0)))
        if i == 0:
            start = problem.unknowns_of(truth)
        start = np.clip(start, low + 1e-6 * (high - low), high - 1e-6 * (high - low))
        found = least_squares(
            residuals, start, bounds=(low, high), x_scale="jac", xtol=1e-14, ftol=1e-14, gtol=1e-14
        )
        apart = np.diff(problem.pairs_of(found.x), axis=1).min()
        # Nearer than two per cent, rounding would fit the noise.
        if problem.model == STRETCHED or apart >= downhill.LEAST_APART:
            best = min(best, 2.0 * found.cost)
    return best


def case(rng, model, n_windows=1, noise=3e-3):
    """Return windows of common unknowns, with weights, and what is true of them."""
    if model == DOUBLE:
        tau = rng.uniform(2.0, 6.0)
        truth = np.log([tau, tau * rng.uniform(3.0, 7.0)])
    else:
        truth = np.log([rng.uniform(5.0, 15.0), rng.uniform(0.4, 1.2)])
    windows = []
    for _ in range(n_windows):
        t = np.arange(float(rng.integers(50, 70)))
        if model == DOUBLE:
            y = double(t, *np.exp(truth), *rng.uniform(0.3, 1.0, 2), 3.0)
        else:
            y = stretched(t, *np.exp(truth), rng.uniform(0.5, 1.0), 3.0)
        sigma = noise * np.linspace(3.0, 1.0, t.size)
        windows.append(window_of(y + sigma * rng.normal(size=t.size), t, True, 1 / sigma**2))
    return windows, np.tile(truth, (n_windows, 1))


def restrict(model, what, truth, windows):
    """Return a problem of which something is known."""
    (low, high), shared = FREE[model], [False, False]
    low, high = list(low), list(high)
    for d, how in enumerate(what):
        at = truth[0, d]
        if how == "fixed":
            low[d] = high[d] = at + 0.03
        elif how == "within":
            low[d], high[d] = at - 0.5, at + 0.5
        elif how == "beyond":
            # The bound is in the way.
            low[d], high[d] = at + 0.2, at + 1.0
        shared[d] = how == "shared"
    return Problem(model, windows, tuple(low), tuple(high), tuple(shared))


@pytest.mark.parametrize("model", [DOUBLE, STRETCHED])
@pytest.mark.parametrize(
    ("n_windows", "what"),
    [
        (1, ("free", "free")),
        (1, ("fixed", "free")),
        (1, ("free", "fixed")),
        (1, ("within", "within")),
        (1, ("beyond", "free")),
        (3, ("shared", "shared")),
        (3, ("shared", "free")),
        (3, ("free", "shared")),
        (3, ("fixed", "shared")),
    ],
)
def test_solve__no_start_of_scipy_finds_less(model, n_windows, what):
    rng = np.random.default_rng(5)
    for _ in range(3):
        windows, truth = case(rng, model, n_windows)
        problem = restrict(model, what, truth, windows)
        pairs, rss = restricted.solve(problem)
        assert (pairs >= np.array(problem.low) - 1e-12).all()
        assert (pairs <= np.array(problem.high) + 1e-12).all()
        again = sum(
            np.sum(left_of(window, model, pair) ** 2)
            for window, pair in zip(windows, pairs, strict=True)
        )
        assert rss == pytest.approx(again, rel=1e-9)
        assert rss <= least_of_scipy(problem, truth, rng) * (1 + 1e-9)


def test_solve__one_that_is_fixed_at_its_optimum_changes_nothing():
    rng = np.random.default_rng(6)
    for model in (DOUBLE, STRETCHED):
        windows, truth = case(rng, model)
        free = restrict(model, ("free", "free"), truth, windows)
        pairs, rss = restricted.solve(free)
        held = Problem(
            model, windows, (pairs[0, 0], free.low[1]), (pairs[0, 0], free.high[1]), free.shared
        )
        other, left = restricted.solve(held)
        np.testing.assert_allclose(other, pairs, atol=1e-7)
        assert left == pytest.approx(rss, rel=1e-12)


@pytest.mark.parametrize("model", [DOUBLE, STRETCHED])
@pytest.mark.parametrize(
    ("n_windows", "what"),
    [
        (1, ("free", "free")),
        (1, ("free", "fixed")),
        (4, ("shared", "shared")),
        (4, ("shared", "free")),
    ],
)
def test_errors__cover_the_truth(model, n_windows, what):
    rng = np.random.default_rng(8)
    inside = trials = 0
    for _ in range(300):
        windows, truth = case(rng, model, n_windows)
        problem = restrict(
            model, ("fixed" if how == "fixed" else how for how in what), truth, windows
        )
        # What is fixed is fixed at the truth.
        low, high = (
            tuple(truth[0, d] if how == "fixed" else bound[d] for d, how in enumerate(what))
            for bound in (problem.low, problem.high)
        )
        problem = Problem(model, windows, low, high, problem.shared)
        pairs = restricted.again(problem, truth)
        rss = sum(
            np.sum(left_of(window, model, pair) ** 2)
            for window, pair in zip(windows, pairs, strict=True)
        )
        se, _ = restricted.errors(problem, pairs, rss)
        for d in range(2):
            assert (se[:, d] == 0).all() == (what[d] == "fixed")
            if what[d] != "fixed":
                # Of windows that share it, one stands for all.
                count = 1 if what[d] == "shared" else n_windows
                off = np.abs(pairs[:count, d] - truth[:count, d])
                inside += int((off <= 1.96 * se[:count, d]).sum())
                trials += count
    # 93 to 97 %, and three standard deviations of the share.
    slack = 3 * np.sqrt(0.05 * 0.95 / min(trials, 600))
    assert 0.93 - slack < inside / trials < 0.97 + slack


MODELS = {
    FAST: (lambda t: double(t, 5e-3, 40e-3, 0.6, 0.4), {"tau1": 5e-3, "tau2": 40e-3}, "slow"),
    SLOW: (lambda t: stretched(t, 15e-3, 0.6, 1.0), {"tau": 15e-3, "beta": 0.6}, "beta"),
}
OPTIONS = [
    (FAST, {"fixed": {"tau2": 40e-3}}),
    (FAST, {"bounds": {"tau1": (1e-3, 20e-3)}, "shared": ("tau1",)}),
    (FAST, {"weights": "plateaus"}),
    (SLOW, {"fixed": {"beta": 0.6}, "weights": "plateaus"}),
    (SLOW, {"shared": ("tau", "beta")}),
]


def restricted_features(name, params, step):
    extractor = get_extractor(name, params)
    return extractor, extractor.extract_step(step)


@pytest.mark.parametrize("name", [FAST, SLOW])
def test_bounds__that_are_wide_change_nothing(name):
    relax, truth, second = MODELS[name]
    step = transient(relax, noise=2e-3)
    bounds = {unknown: (x / 2.5, x * 2.5) for unknown, x in truth.items()}
    extractor, found = restricted_features(name, {"bounds": bounds}, step)
    plain_extractor, plain = features(name, step)
    assert words(extractor, found) == words(plain_extractor, plain)
    for column in ("value", second, "amplitude", "offset", "stderr", f"{second}_stderr"):
        np.testing.assert_allclose(found[column], plain[column], rtol=1e-5)
    np.testing.assert_allclose(found["aicc_gain"], plain["aicc_gain"], atol=1e-3)


@pytest.mark.parametrize(("name", "params"), OPTIONS)
def test_options__of_a_device(name, params):
    relax, truth, second = MODELS[name]
    extractor, found = restricted_features(name, params, transient(relax, noise=2e-3))
    assert set(words(extractor, found)) == {"ok"}
    for column, error, unknown in zip(
        ("value", second), ("stderr", f"{second}_stderr"), truth, strict=True
    ):
        there = np.isfinite(found[column])
        off = np.abs(found[column] - truth[unknown])[there]
        assert (off <= 4 * found[error][there]).all()
        if unknown in params.get("fixed", {}):
            # Twice through a logarithm.
            np.testing.assert_allclose(found[column][there], truth[unknown], rtol=1e-14)
            assert (found[error][there] == 0.0).all()
        if unknown in params.get("shared", ()):
            for phase in range(2):
                own = found[column][:, phase]
                assert np.unique(own[np.isfinite(own)]).size == 1


@pytest.mark.parametrize(("name", "params"), OPTIONS)
def test_options__batch_and_steps_are_the_same_bits(name, params):
    relax = MODELS[name][0]
    steps = [transient(relax, n_cycles=n, noise=2e-3, seed=n) for n in (1, 3, 2)]
    extractor = get_extractor(name, params)
    together = extractor.extract_batch(Batch.from_steps(steps), extractor.params)
    for i, step in enumerate(steps):
        for column, alone in extractor.extract_step(step).items():
            np.testing.assert_array_equal(together[column][i, : alone.shape[0]], alone)


@pytest.mark.parametrize("name", [FAST, SLOW])
def test_bounds__that_are_in_the_way_are_named(name):
    relax, truth, _ = MODELS[name]
    unknown, x = next(iter(truth.items()))
    step = transient(relax, noise=2e-3)
    extractor, found = restricted_features(name, {"bounds": {unknown: (x / 9, x / 3)}}, step)
    assert set(words(extractor, found)) == {"edge"}
    assert np.isnan(found["value"]).all()


@pytest.mark.parametrize("name", [FAST, SLOW])
def test_shared__is_known_better_and_a_bad_phase_is_left_out(name):
    relax, truth, _ = MODELS[name]
    step = transient(relax, noise=2e-3, n_cycles=6)
    shared = {"shared": tuple(truth)}
    plain = features(name, step)[1]
    _, found = restricted_features(name, shared, step)
    # Of white noise with the root of the number of cycles; half a sample of the switch stays.
    if name == FAST:
        assert (
            np.nanmean(found["stderr"], axis=0) < 0.6 * np.nanmean(plain["stderr"], axis=0)
        ).all()
    current = step["drain_current"].copy()
    current[700] = np.nan
    # 1,250 is in the off phase of the fourth cycle, of which the current is 1.1e-3 at most.
    current[1250] = 3e-3
    bad, columns = restricted_features(name, shared, step | {"drain_current": current})
    seen = words(bad, columns)
    assert seen.count("outlier") == seen.count("nan") == 1
    assert seen.count("ok") == len(seen) - 2
    statuses = list(bad.variables["status"].statuses)
    for word in ("outlier", "nan"):
        assert np.isnan(columns["value"][columns["status"] == statuses.index(word)]).all()
    # The others are as without both of them.
    ok = columns["status"] == 0
    assert np.nanmax(np.abs(columns["value"] - found["value"])[ok] / found["stderr"][ok]) < 1.5


def noisy_on(n_cycles, seed):
    """Return a step of one exponential, whose plateau on is ten times as noisy as that off."""
    step = transient(lambda t: np.exp(-t / 15e-3), n_cycles=n_cycles)
    rng = np.random.default_rng(seed)
    share = (step["drain_current"] - 1e-4) / 1e-3
    sigma = 1e-6 * np.sqrt(1.0 + 99.0 * share)
    return step | {"drain_current": step["drain_current"] + sigma * rng.normal(size=sigma.size)}


def test_weights__make_intervals_right_and_narrow():
    step = noisy_on(60, 5)
    params = {"fixed": {"beta": 1.0}, "weights": "plateaus"}
    extractor, found = restricted_features(SLOW, params, step)
    assert set(words(extractor, found)) == {"ok"}
    off = (found["value"] - 15e-3)[np.isfinite(found["value"])]
    # The switch is at a sample here, and errors hold what it does that it might be earlier: of one
    # exponential nothing.
    inside = np.mean(np.abs(off) <= 1.96 * found["stderr"][np.isfinite(found["value"])])
    slack = 3 * np.sqrt(0.05 * 0.95 / off.size)
    assert 0.93 - slack < inside < 0.97 + slack
    # As much as the noise allows, were it known (Cramer and Rao); 0.092 is one standard deviation
    # of the scatter of 60 numbers.
    t = np.arange(200.0) * INTERVAL
    for phase in range(2):
        share = np.exp(-t / 15e-3) if phase else 1.0 - np.exp(-t / 15e-3)
        sigma = 1e-6 * np.sqrt(1.0 + 99.0 * share)
        slope = 1e-3 * t * np.exp(-t / 15e-3) / 15e-3**2
        slopes = np.stack([np.ones_like(t), np.exp(-t / 15e-3), slope])
        known = (slopes / sigma**2) @ slopes.T
        best = np.sqrt(np.linalg.inv(known)[2, 2])
        scatter = np.nanstd(found["value"][:, phase])
        assert 1 - 3 * 0.092 < scatter / best < 1 + 3 * 0.092


def test_weights__of_phases_without_a_plateau():
    step = transient(MODELS[FAST][0], noise=2e-3)
    short = step | {
        "drain_current": step["drain_current"][::20],
        "sampling_interval": 20 * INTERVAL,
    }
    extractor, found = restricted_features(FAST, {"weights": "plateaus"}, short)
    assert set(words(extractor, found)) == {"no_weights"}


def test_weights__of_a_step_without_noise_are_equal():
    step = transient(MODELS[FAST][0])
    # Plateaus that end within a converter's step.
    step["drain_current"] = np.round(step["drain_current"], 5)
    found = restricted_features(FAST, {"weights": "plateaus"}, step)[1]
    plain = features(FAST, step)[1]
    assert np.isfinite(found["value"]).sum() >= 5
    np.testing.assert_allclose(found["value"], plain["value"], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "params", "says"),
    [
        (FAST, {"fixed": {"tau3": 1}}, "tau3"),
        (FAST, {"fixed": {"tau1": 0}}, "greater than 0"),
        (FAST, {"fixed": {"tau1": 1}, "bounds": {"tau1": (1, 2)}}, "give one of both"),
        (FAST, {"fixed": {"tau1": 1}, "shared": ("tau1",)}, "do not share it"),
        (FAST, {"bounds": {"tau1": (2, 1)}}, "the lower one first"),
        (FAST, {"fixed": {"tau1": 1, "tau2": 0.5}}, "the shorter time constant as tau1"),
        (FAST, {"shared": ("beta",)}, "'tau1' or 'tau2'"),
        (FAST, {"weights": "noise"}, "plateaus"),
        (SLOW, {"fixed": {"beta": 3}}, "expected 0.2 to 2"),
    ],
)
def test_options__that_contradict_each_other_are_errors(name, params, says):
    with pytest.raises(ParameterError, match=says):
        get_extractor(name, params)


def test_options__that_are_not_used_leave_results_as_they_are():
    for name in (FAST, SLOW):
        plain = definition_fingerprint(get_extractor(name))
        given = {"fixed": {}, "bounds": {}, "shared": (), "weights": "equal"}
        assert definition_fingerprint(get_extractor(name, given)) == plain
        assert definition_fingerprint(get_extractor(name, given | {"weights": "plateaus"})) != plain
