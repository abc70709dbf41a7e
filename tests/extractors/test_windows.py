from __future__ import annotations

import math
import os
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oectflow.extractors.kernels import exponential as ex
from oectflow.extractors.kernels import tau_grid, uneven, uneven_looks, windows
from tests.extractors import naive_tau

#: OECTFLOW_EXAMPLES=400 pytest ... searches longer, and at random.
EXAMPLES = int(os.environ.get("OECTFLOW_EXAMPLES", "0"))
thorough = settings(
    max_examples=EXAMPLES or 200, deadline=None, derandomize=not EXAMPLES, print_blob=True
)


@st.composite
def traces(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times, current and window lengths of two gate periods."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    period = draw(st.integers(10, 18))
    lengths = np.arange(5, 5 + draw(st.integers(1, 4))) + draw(st.integers(0, 3))
    tau = 10 ** draw(st.floats(np.log10(0.5), np.log10(10 * lengths[-1])))
    n_on = min(max(round(draw(st.floats(0.1, 0.9)) * period), 1), period - 1)
    off_first = draw(st.booleans())
    snr = draw(st.sampled_from([3.0, 10.0, 100.0, 1e3, 1e5, np.inf]))
    amplitude = 10 ** draw(st.floats(-10, 0))
    baseline = draw(st.sampled_from([0.0, 1.0, 100.0])) * amplitude
    polarity = draw(st.sampled_from([-1.0, 1.0]))
    gate = (np.arange(2 * period) % period) < n_on
    if off_first:
        gate = (np.arange(2 * period) % period) >= period - n_on
    t = np.arange(2.0 * period)
    if draw(st.booleans()):
        t += rng.uniform(-0.3, 0.3, t.size)
        t -= t[0]
    level = 0.0
    y = np.empty(t.size)
    for k, on in enumerate(gate):
        y[k] = level
        if k + 1 < t.size:
            level = on + (level - on) * np.exp(-(t[k + 1] - t[k]) / tau)
    y += rng.normal(0, 1 / snr, y.size)
    return t, polarity * amplitude * y + baseline, lengths


def search(
    t: np.ndarray, y: np.ndarray, lengths: np.ndarray, *, start_step: int = 1, change: float = 0.0
) -> dict[int, tuple[int, int, float]]:
    if np.array_equal(t, np.arange(float(t.size))):
        down, up = windows.search_windows(
            y, 0, y.size, start_step, lengths, windows.search_tables(lengths), change
        )
    else:
        down, up = uneven.search_uneven(y, t, 0, y.size, start_step, lengths, change)
    return {ex.DECAY: down, ex.RISE: up}


@thorough
@given(traces())
def test_search__no_window_fits_better(case: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    t, y, lengths = case
    for sign, (start, n, theta) in search(t, y, lengths).items():
        best = naive_tau.search(t, y, lengths, sign)
        if start < 0:
            # 1e-10 as below: SciPy may see an optimum in what rounding left of a straight line.
            assert best <= 1e-10
            continue
        window = slice(start, start + n)
        tau = np.exp(theta) * (1 if t[1] == 1 else 1.0)
        r2 = naive_tau.r_squared(t[window] - t[start], y[window], tau)
        adjusted = 1 - (1 - r2) * (n - 1) / (n - 4)
        # Two sums of squares of n < 20 numbers, conditioned by (baseline / amplitude)^2 eps where
        # the trace is centred only by its own rounding: 1e4 * 2e-16 * 20 = 4e-11.
        assert adjusted >= best - 1e-10


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    n=st.integers(4, 400),
    shorter=st.floats(0.3, 1),
    cell=st.integers(0, 10_000),
    seed=st.integers(0, 2**32 - 1),
    misfit=st.floats(-8, 0),
)
def test_hidden__bounds_every_correlation(
    n: int, shorter: float, cell: int, seed: int, misfit: float
) -> None:
    """Between two nodes no correlation exceeds what the kernels allow for."""
    rates = tau_grid.node_rates(n, windows.ARC)
    used = max(4, int(n * shorter))
    k = cell % (rates.size - 1)
    rng = np.random.default_rng(seed)
    tau = np.exp(np.linspace(-np.log(rates[k]), -np.log(rates[k + 1]), 101))
    u = np.expm1(-np.arange(used) / tau[:, None])
    u -= u.mean(axis=1, keepdims=True)
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    noise = rng.normal(size=used)
    noise -= noise.mean()
    y = u[rng.integers(101)] + 10**misfit * noise / np.linalg.norm(noise)
    y /= np.linalg.norm(y)
    c = u @ y
    top = tau_grid.sine_top(c[0], c[-1], windows.ARC)
    assert c.max() <= top + tau_grid.hidden(c.max(), windows.ARC)


@pytest.mark.parametrize("n", [4, 5, 7, 12, 33, 120, 1000])
def test_nodes__bounds_of_speed_and_curvature(n: int) -> None:
    k = np.arange(n)
    for x in np.exp(np.linspace(np.log(10), np.log(0.01 / n), 200)):
        f = np.expm1(-k * x)
        h = k * x * np.exp(-k * x)
        q = h * (k * x - 1)
        f, h, q = (v - v.mean() for v in (f, h, q))
        norm = np.linalg.norm(f)
        u = f / norm
        tangent = (h - (h @ u) * u) / norm
        speed = np.linalg.norm(tangent)
        # 1e-6: the difference of nearly parallel vectors, eps (tau / n)^2.
        assert speed <= min(x / (2 * math.sinh(x)), 0.13 * n * x) * (1 + 1e-6)
        if speed > 1e-3:
            tangent /= speed
            normal = q - (q @ u) * u
            normal -= (normal @ tangent) * tangent
            assert np.linalg.norm(normal) / norm / speed**2 <= tau_grid.KAPPA * (1 + 1e-6)


@pytest.mark.parametrize("n", [5, 33, 400, 5000])
def test_node_rates__cover_the_range_within_the_arc(n: int) -> None:
    rates = tau_grid.node_rates(n, 0.05)
    assert 1 / rates[0] == pytest.approx(tau_grid.TAU_MIN)
    assert 1 / rates[-1] == pytest.approx(tau_grid.TAU_MAX * n)
    assert (np.diff(rates) < 0).all()
    u = np.expm1(-np.arange(n) * rates[:, None])
    u -= u.mean(axis=1, keepdims=True)
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    angles = np.arccos(np.minimum(np.sum(u[1:] * u[:-1], axis=1), 1))
    assert angles.max() <= 0.05


def square_wave(snr: float, *, periods: int = 2, m: int = 60, tau: float = 8.0) -> np.ndarray:
    k = np.arange(m // 2)
    one = np.r_[np.exp(-k / tau), 1 - np.exp(-k / tau)]
    return np.tile(one, periods) + np.random.default_rng(2).normal(0, 1 / snr, m * periods)


@pytest.mark.parametrize("jitter", [0.0, 0.2])
def test_search__nan_loses_only_the_windows_that_hold_it(jitter: float) -> None:
    y = square_wave(50)
    t = np.arange(120.0) + jitter * np.sin(np.arange(120) ** 2)
    t -= t[0]
    lengths = np.arange(12, 20)
    y[70] = np.nan
    found = search(t, y, lengths)
    for sign in (ex.DECAY, ex.RISE):
        start, n, _ = found[sign]
        assert not start <= 70 < start + n
        sides = [search(t[:70], y[:70], lengths), search(t[71:] - t[71], y[71:], lengths)]
        r2 = [
            naive_tau.r_squared(t[s : s + n] - t[s], y[s : s + n], np.exp(theta))
            for s, n, theta in (found[sign], sides[0][sign])
        ]
        assert r2[0] >= r2[1] - 1e-12 or n != sides[0][sign][1]
        candidates = {sides[0][sign][:2], (sides[1][sign][0] + 71, sides[1][sign][1])}
        assert (start, n) in candidates


def test_search__least_change_excludes_the_tails() -> None:
    # An exact little exponential in the tail of a coarse one: best by R2, refused by its size.
    k = np.arange(40.0)
    big = np.exp(-k / 6) + np.random.default_rng(4).normal(0, 0.01, 40)
    small = 0.01 * np.exp(-np.arange(20.0) / 4) + big[-1]
    y = np.r_[big, small]
    lengths = np.array([15])
    start, _, _ = search(np.arange(60.0), y, lengths)[ex.DECAY]
    assert start >= 40
    start, n, theta = search(np.arange(60.0), y, lengths, change=0.5)[ex.DECAY]
    assert start < 25
    a, _ = np.polyfit(np.exp(-np.arange(n) * np.exp(-theta)), y[start : start + n], 1)
    assert a * (1 - np.exp(-(n - 1) * np.exp(-theta))) >= 0.5


def test_search__start_step() -> None:
    y = square_wave(30)
    lengths = np.array([10, 12])
    for start, _, _ in search(np.arange(120.0), y, lengths, start_step=7).values():
        assert start % 7 == 0


@pytest.mark.parametrize(
    "y",
    [np.full(40, 2e-6), np.full(40, np.nan), np.arange(40.0), np.zeros(4)],
    ids=["constant", "nan", "line", "short"],
)
def test_search__nothing_to_find(y: np.ndarray) -> None:
    lengths = np.array([6, 8])
    for start, n, theta in search(np.arange(float(y.size)), y, lengths).values():
        assert (start, n) == (-1, -1)
        assert np.isnan(theta)


def test_search__range_within_a_trace() -> None:
    y = square_wave(30, periods=4)
    lengths = np.arange(10, 14)
    tables = windows.search_tables(lengths)
    part = windows.search_windows(y[60:150].copy(), 0, 90, 1, lengths, tables, 0.0)
    whole = windows.search_windows(y, 60, 150, 1, lengths, tables, 0.0)
    for a, b in zip(part, whole, strict=True):
        assert (a[0] + 60, a[1], a[2]) == b


@pytest.mark.parametrize("jitter", [0.0, 0.2])
@pytest.mark.parametrize("at", [300, 4500])
def test_search__in_chunks(jitter: float, at: int) -> None:
    """A trace too long for the working memory is searched piece by piece."""
    y = square_wave(20, m=2500, tau=100)
    t = np.arange(5000.0) + jitter * np.sin(np.arange(5000) ** 2)
    t -= t[0]
    piece = slice(at, at + 100)
    y[piece] = np.exp(-(t[piece] - t[at]) / 12)
    lengths = np.arange(5, 1000)
    assert max(windows.ROOM, uneven.ROOM) // lengths.size < 4500
    start, n, theta = search(t, y, lengths)[ex.DECAY]
    assert at <= start < start + n <= at + 100
    assert np.exp(theta) == pytest.approx(12, rel=1e-6)


@pytest.mark.parametrize("seed", range(200))
def test_search__jittering_clock_against_every_window(seed: int) -> None:
    """The clock is off by 0.1 % to 20 % of the interval, at random or more and more."""
    rng = np.random.default_rng(seed)
    m = int(rng.integers(40, 100))
    jitter = 10 ** rng.uniform(-3, np.log10(0.2))
    t = np.arange(2.0 * m)
    if seed % 2:
        t += jitter * rng.uniform(-1, 1, t.size)
    else:
        t = np.cumsum(1 + jitter * rng.uniform(-1, 1, t.size))
    t -= t[0]
    tau = m * 10 ** rng.uniform(-2, 0.5)
    phase = (t + rng.uniform(0, m)) % m
    half = rng.uniform(0.2, 0.8) * m
    y = np.where(phase < half, 1 - np.exp(-phase / tau), np.exp(-(phase - half) / tau))
    y += 10 ** rng.uniform(-5, 0) * rng.normal(size=t.size)
    lengths = np.arange(max(5, m // 5), m // 3 + 1, 1 + int(rng.integers(3)))
    step = 1 + int(seed % 5 == 0)
    row = np.empty(ex.N_COLUMNS)
    for sign, (start, n, theta) in search(t, y, lengths, start_step=step).items():
        best = -np.inf, -1, -1, np.nan
        for length in lengths:
            for a in range(0, t.size - length + 1, step):
                part = slice(a, a + length)
                code, _ = ex.fit_exponential(y[part], t[part] - t[a], sign, np.nan, row)
                if code in (ex.FIT_OK, ex.NOISE) and row[ex.R2_ADJUSTED] > best[0]:
                    # The range of tau counts in samples, whatever their distance.
                    inside = 0.1 < row[ex.TAU] < 100 * length
                    best = (row[ex.R2_ADJUSTED], a, length, row[ex.TAU]) if inside else best
        assert (start, n) == best[1:3]
        assert np.exp(theta) == pytest.approx(best[3], rel=1e-6)


def worst_clock(measure: Callable[[np.ndarray], np.ndarray], n: int, spread: float) -> float:
    """Return the largest value that turning single distances from least to most leads to."""
    rng = np.random.default_rng(n)
    largest = 0.0
    for k in range(4):
        steps = np.where(rng.random(n - 1) < (0.5, 0.0, 1.0, 0.3)[k], spread, 1.0)
        value = measure(steps[None])[0]
        while True:
            others = np.repeat(steps[None], n - 1, axis=0)
            np.fill_diagonal(others, 1.0 + spread - steps)
            values = measure(others)
            if not values.max() > value * (1 + 1e-9):
                break
            value, steps = values.max(), others[values.argmax()]
        largest = max(largest, value)
    return largest


def centred_at(steps: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Return the normalised exponentials of clocks: (clocks, rates, n)."""
    t = np.concatenate([np.zeros((len(steps), 1)), np.cumsum(steps, axis=1)], axis=1)
    u = np.expm1(-t[:, None, :] * rates[:, None])
    u -= u.mean(axis=-1, keepdims=True)
    return u / np.linalg.norm(u, axis=-1, keepdims=True)


@pytest.mark.parametrize("n", [5, 9, 24])
@pytest.mark.parametrize("spread", [1.1, 1.5, 2.33, uneven_looks.WIDEST])
def test_uneven__nodes_are_near_on_every_clock(n: int, spread: float) -> None:
    """The angle of neighbours, and how far the curve leaves the plane of both."""
    arc = uneven_looks.node_arc(spread)
    rates = tau_grid.node_rates(math.ceil(n * spread), arc)
    arc *= math.sqrt(spread)
    for k in range(0, rates.size - 1, 3):
        three = np.array([rates[k], math.sqrt(rates[k] * rates[k + 1]), rates[k + 1]])

        def angle(steps: np.ndarray, three: np.ndarray = three) -> np.ndarray:
            u = centred_at(steps, three)
            return 2 * np.arcsin(np.linalg.norm(u[:, 0] - u[:, 2], axis=1) / 2)

        def above(steps: np.ndarray, three: np.ndarray = three) -> np.ndarray:
            u = centred_at(steps, three)
            plane = np.linalg.qr(u[:, ::2].transpose(0, 2, 1))[0]
            rest = u[:, 1] - (plane @ (plane.transpose(0, 2, 1) @ u[:, 1, :, None]))[..., 0]
            return np.linalg.norm(rest, axis=1)

        assert worst_clock(angle, n, spread) <= arc
        assert worst_clock(above, n, spread) <= tau_grid.KAPPA * (1 / math.cos(arc / 2) - 1)


@pytest.mark.parametrize("n", [5, 9, 24])
@pytest.mark.parametrize("spread", [1.1, 1.5, 2.33, uneven_looks.WIDEST])
def test_uneven__curvature_on_every_clock(n: int, spread: float) -> None:
    def curvature(steps: np.ndarray, rate: float) -> np.ndarray:
        t = np.concatenate([np.zeros((len(steps), 1)), np.cumsum(steps, axis=1)], axis=1)
        z = rate * t
        f, h = np.expm1(-z), z * np.exp(-z)
        f, h, q = (v - v.mean(axis=1, keepdims=True) for v in (f, h, (z - 1) * h))
        u = f / np.linalg.norm(f, axis=1, keepdims=True)
        h -= np.sum(h * u, axis=1, keepdims=True) * u
        e = h / np.linalg.norm(h, axis=1, keepdims=True)
        for _ in range(2):
            q -= np.sum(q * u, axis=1, keepdims=True) * u
            q -= np.sum(q * e, axis=1, keepdims=True) * e
        norms = [np.linalg.norm(v, axis=1) for v in (f, h, q)]
        return norms[2] * norms[0] / norms[1] ** 2

    # From half a mean distance on.
    for tau in np.exp(np.linspace(np.log((1 + spread) / 4), np.log(20 * n), 12)):
        worst = worst_clock(lambda steps, tau=tau: curvature(steps, 1 / tau), n, spread)
        assert worst <= tau_grid.KAPPA * spread


@pytest.mark.parametrize("n", [5, 9, 24])
@pytest.mark.parametrize("spread", [1.1, 1.5, 2.33, uneven_looks.WIDEST])
def test_uneven__a_look_stays_where_the_curvature_is_bounded(n: int, spread: float) -> None:
    mean = (1 + spread) / 2
    rates = 1 / (mean * np.array([uneven.LEAST_TAU, 0.5]))

    def nearness(steps: np.ndarray) -> np.ndarray:
        u = centred_at(steps, rates)
        return 1 / np.linalg.norm(u[:, 0] - u[:, 1], axis=1)

    farthest = math.sqrt(0.968 / (1 + (tau_grid.KAPPA * spread) ** 2))
    assert worst_clock(nearness, n, spread) <= 1 / farthest
