"""Crossing times: identities, coverage of their intervals, and words where there are none."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq

from oectflow.extractors import get_extractor
from oectflow.measurement import Batch
from tests.extractors import faulty_transients as faulty

NAME = "transient.crossing_times"
INTERVAL = 1e-3
SHARES = {"to_10": 0.1, "to_63": 1 - np.exp(-1), "to_90": 0.9}


def transient(left, half=200, n_cycles=3, noise=None, sign=1.0, scale=1e-3):
    """Return a step, low first; ``left(t)`` of samples since the switch goes from 1 to 0."""
    gone = left(np.arange(half))
    current = np.concatenate([gone, 1.0 - gone] * n_cycles)
    if noise is not None:
        current = current + noise
    return {
        "Vg": np.repeat(np.tile([0.0, 0.5], n_cycles), half),
        "drain_current": sign * scale * (current + 0.3),
        "sampling_interval": INTERVAL,
        "gate_period": 2 * half * INTERVAL,
        "duty_cycle": 0.5,
    }


def crossings(step):
    extractor = get_extractor(NAME)
    found = extractor.extract_step(step)
    words = np.array(list(extractor.variables["status"].statuses))
    return found, words[found["status"]]


def answered(step):
    """Return results and words of the phases that have one before them, in the order of time.

    Times are in samples from the switch.
    """
    found, words = crossings(step)
    late = np.rint(found["window_start"] / INTERVAL) % round(step["gate_period"] / 2 / INTERVAL)
    for name, column in found.items():
        if column.dtype == float and name not in ("begin_level", "end_level", "window_start"):
            found[name] = column / INTERVAL + (late if name in SHARES else 0.0)
    order = np.argsort(found["window_start"], axis=None)
    flat = {name: column.ravel()[order] for name, column in found.items() if column.ndim}
    return {name: column[1:] for name, column in flat.items()}, words.ravel()[order][1:]


def autoregressive(rng, shape, phi):
    """Return noise of variance 1, correlated along the last axis."""
    noise = rng.normal(size=shape)
    for k in range(1, shape[-1]):
        noise[..., k] = phi * noise[..., k - 1] + np.sqrt(1 - phi**2) * noise[..., k]
    return noise


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("tau", [8.0, 15.0, 25.0])
def test_one_exponential__takes_ln_9_tau(tau, sign):
    found, words = answered(transient(lambda t: np.exp(-t / tau), half=round(12 * tau), sign=sign))
    assert set(words) == {"ok"}
    # What is left of the way after twelve tau, and parabolas through parts of an exponential: the
    # remainder of the widest, y''' L^3 / 192 of 0.7 tau at a tenth of the slope, is 0.2 % of tau.
    assert found["value"] == pytest.approx(np.log(9) * tau, rel=2e-3)
    # A line through three samples is off by a quarter of the sagitta, 1 / 8 tau, at the most.
    assert found["to_63"] == pytest.approx(tau, rel=2e-3, abs=0.05)
    assert found["to_10"] == pytest.approx(-np.log(0.9) * tau, abs=2e-3 * tau)


@pytest.mark.parametrize(
    "left",
    [
        lambda t: 0.6 * np.exp(-t / 6.0) + 0.4 * np.exp(-t / 30.0),
        lambda t: np.exp(-((t / 15.0) ** 0.7)),
        lambda t: 1.0 / (1.0 + np.exp((t - 80.0) / 9.0)),
        lambda t: (1.0 + t / 10.0) * np.exp(-t / 10.0),
    ],
)
def test_other_shapes__cross_where_brent_says(left):
    found, words = answered(transient(left, half=400))
    assert set(words) == {"ok"}
    last = left(np.arange(300.0, 400.0)).mean()
    first = left(0.0)
    for name, share in SHARES.items():
        want = brentq(lambda t, share=share: left(t) - first - share * (last - first), 0.0, 390.0)
        # Between the samples across the switch the steepest of them leaves a line by 0.12 samples.
        assert found[name] == pytest.approx(want, abs=0.005 * want + 0.12)


@pytest.mark.parametrize(
    ("noise", "phi"), [(3e-3, 0.0), (3e-3, 0.5), (3e-3, 0.8), (0.01, 0.0), (0.01, 0.5)]
)
def test_intervals__cover_the_truth_as_often_as_they_say(noise, phi):
    rng = np.random.default_rng(5)
    tau, half, n_cycles, n_steps = 20.0, 300, 4, 150
    value, to_63, total = 0, 0, 0
    for _ in range(n_steps):
        added = noise * autoregressive(rng, (2 * half * n_cycles,), phi)
        step = transient(lambda t: np.exp(-t / tau), half, n_cycles, added)
        found, words = answered(step)
        good = words == "ok"
        assert good.mean() > 0.5
        for name, truth in (("value", np.log(9) * tau), ("to_63", tau)):
            error = found["stderr" if name == "value" else "to_63_stderr"]
            inside = np.abs(found[name] - truth) <= 1.96 * error
            value += np.sum(inside & good) if name == "value" else 0
            to_63 += np.sum(inside & good) if name == "to_63" else 0
        total += good.sum()
    # Binomial: three standard deviations of the share, of some 1,000 phases of which neighbours
    # share a plateau, beside the 0.93 to 0.97 wanted.
    margin = 3 * np.sqrt(0.95 * 0.05 / (total / 2))
    assert 0.93 - margin < value / total < 0.97 + margin
    # It holds that the switch is up to a sample earlier, which it is not here.
    assert to_63 / total > 0.93 - margin


@pytest.mark.parametrize(
    "kind", sorted(set(faulty.KINDS) - {"biexponential", "stretched", "jittering_edges"})
)
def test_made_devices__are_right_or_a_word_says_why_not(kind):
    wrong = []
    for seed in range(40):
        device = faulty.KINDS[kind](np.random.default_rng([3, seed]))
        found, words = crossings(device.step)
        off = np.abs(found["value"] / (np.log(9) * device.truth) - 1.0)
        error = 5 * found["stderr"] / (np.log(9) * device.truth)
        is_wrong = (words == "ok") & ((off > np.maximum(error, 0.03)) | (not device.exponential))
        wrong += [(seed, *at) for at in np.argwhere(is_wrong)]
    assert wrong == []


def test_words__say_what_is_wrong():
    tau, half = 15.0, 200
    clean = transient(lambda t: np.exp(-t / tau), half)

    def changed(start, stop, value):
        current = clean["drain_current"].copy()
        current[start:stop] = value
        return set(answered(clean | {"drain_current": current})[1]) - {"ok"}

    top = clean["drain_current"].max()
    assert changed(500, 501, np.nan) == {"nan", "no_begin"}
    assert changed(500, 501, 9.9e37) == {"overflow", "no_begin"}
    assert changed(590, 591, 2 * top) == {"outlier", "not_monotone"}
    assert changed(440, 450, 0.0) == {"not_monotone"}
    found, words = crossings(clean)
    assert words[0, 1] == "no_begin"
    assert np.isnan(found["value"][0, 1])
    assert set(answered(transient(lambda t: np.exp(-t / 0.5), half))[1]) == {"fast"}
    assert set(answered(transient(lambda t: np.exp(-t / 45.0), half))[1]) == {"unsettled"}
    assert set(answered(transient(lambda t: np.exp(-t / 2.0), 12))[1]) == {"too_few"}
    for wave in (lambda t: 1.0 + t / 4.0, lambda t: np.cos(t / 8.0)):
        beyond = transient(lambda t, wave=wave: wave(t) * np.exp(-t / tau), half)
        assert set(answered(beyond)[1]) == {"not_monotone"}
    rng = np.random.default_rng(1)
    loud = transient(lambda t: np.exp(-t / tau), half, noise=0.1 * rng.normal(size=6 * half))
    assert set(answered(loud)[1]) == {"noise"}


@pytest.mark.parametrize("step", [np.empty(0), np.full(400, 1e-3), np.full(400, np.nan)])
def test_degenerate_steps__have_no_number(step):
    found, words = crossings(
        {"drain_current": step, "sampling_interval": 1e-3, "gate_period": 0.1, "duty_cycle": 0.5}
    )
    assert np.isnan(found["value"]).all()
    assert "ok" not in words


def test_batch_and_steps__are_the_same_bits():
    rng = np.random.default_rng(2)
    steps = [
        transient(lambda t: np.exp(-t / 15.0), n_cycles=n, noise=1e-3 * rng.normal(size=400 * n))
        for n in (1, 3, 2)
    ]
    extractor = get_extractor(NAME)
    together = extractor.extract_batch(Batch.from_steps(steps), extractor.params)
    for i, step in enumerate(steps):
        for column, alone in extractor.extract_step(step).items():
            if column == "cycles_from":
                assert together[column][i] == alone
                continue
            n = alone.shape[0]
            np.testing.assert_array_equal(together[column][i, :n], alone)
            rest = together[column][i, n:]
            assert (rest == 1).all() if column == "status" else np.isnan(rest).all()


def test_recorded_times__count_and_not_the_number_of_samples():
    rng = np.random.default_rng(8)
    tau, period = 15e-3, 0.4
    t = np.arange(1200) * INTERVAL + 2e-4 * rng.uniform(-1, 1, 1200)
    since = t % (period / 2)
    gone = np.exp(-since / tau)
    is_on = t % period >= period / 2
    step = transient(lambda t: t)
    step |= {"original_time": t, "drain_current": np.where(is_on, 1.0 - gone, gone)}
    found, words = crossings(step)
    good = words == "ok"
    assert good.sum() == 5
    assert found["value"][good] == pytest.approx(np.log(9) * tau, rel=5e-3)
