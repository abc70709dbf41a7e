"""Transients of made devices whose time constants are known, whole and with one fault each.

The current is computed sample by sample from the gate's edges and the two time constants, and not
by any code of the package.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray


@dataclass
class Device:
    """A step and the truth about it.

    ``tau_high``, ``tau_low``: while the gate is high and low, in s (of a sum of two exponentials
    the mean by amplitude); ``high_is_on``: whether |Id| is larger then; ``exponential``: whether
    there is a time constant at all.
    """

    step: dict[str, Any]
    tau_high: float
    tau_low: float
    high_is_on: bool
    exponential: bool = True

    @property
    def truth(self) -> Array:
        """Time constants of on and off."""
        taus = [self.tau_high, self.tau_low]
        return np.array(taus if self.high_is_on else taus[::-1])


def relax(t: Array, edges: Array, levels: Array, shape: Callable[[Array, int], Array]) -> Array:
    """Return the state at times ``t``: it relaxes to ``levels[k]`` from ``edges[k]`` on."""
    state = np.full(t.size, levels[0], float)
    value = levels[0]
    for k, begin in enumerate(edges):
        end = edges[k + 1] if k + 1 < len(edges) else np.inf
        inside = (t >= begin) & (t < end)
        state[inside] = levels[k] + (value - levels[k]) * shape(t[inside] - begin, int(levels[k]))
        if np.isfinite(end):
            value = (
                levels[k] + (value - levels[k]) * shape(np.array([end - begin]), int(levels[k]))[0]
            )
    return state


def make(
    rng: np.random.Generator,
    *,
    n_cycles: int | None = None,
    noise: float | None = None,
    period_scale: float = 1.0,
    edge_jitter: float = 0.0,
    clock_jitter: float = 0.0,
    missing: bool = False,
    gate: bool | None = None,
    shape: str = "exponential",
    drift: float | None = None,
) -> Device:
    """Make a device of random kind: n or p, accumulation or depletion, duty 0.1 to 0.9."""
    n_cycles = n_cycles or int(rng.integers(3, 13))
    m = int(rng.integers(80, 301))
    dt = 10.0 ** rng.uniform(-4, 0)
    # A whole number of samples in each phase, at least 16.
    n_high = int(np.clip(round(m * rng.uniform(0.1, 0.9)), 16, m - 16))
    high_first = bool(rng.random() < 0.5)
    high_is_on = bool(rng.random() < 0.6)
    n_low = m - n_high
    tau = {1: n_high * rng.uniform(0.07, 0.4) * dt, 0: n_low * rng.uniform(0.07, 0.4) * dt}
    lengths = [n_high, n_low] if high_first else [n_low, n_high]
    edges = np.concatenate([[0], np.cumsum(lengths * n_cycles)]).astype(float) * dt * period_scale
    n_samples = round(edges[-1] / dt)
    edges = edges[:-1]
    if edge_jitter:
        edges[1:] += edge_jitter * m * dt * rng.uniform(-1, 1, edges.size - 1)
    levels = np.arange(edges.size) % 2
    levels = 1 - levels if high_first else levels
    if missing:
        gone = int(rng.integers(2, edges.size - 2))
        edges, levels = np.delete(edges, [gone, gone + 1]), np.delete(levels, [gone, gone + 1])
    grid = np.arange(n_samples) * dt
    t = grid + clock_jitter * dt * rng.uniform(-1, 1, n_samples) if clock_jitter else grid
    # The quicker part takes more than a sample, or it is none that is seen.
    spread, beta = rng.uniform(4, 20), rng.uniform(0.5, 0.9)
    if shape != "exponential":
        tau = {level: max(value, 8 * dt) for level, value in tau.items()}
        spread = min(spread, min(tau.values()) / dt)
    weight = rng.uniform(0.25, 0.75)

    def decay(s: Array, level: int) -> Array:
        z = s / tau[level]
        if shape == "biexponential":
            return weight * np.exp(-z * spread / 2) + (1 - weight) * np.exp(-z / 2)
        if shape == "stretched":
            return np.exp(-(z**beta))
        return np.exp(-z)

    # Floating point puts an edge on either side of its sample.
    state = relax(t, edges - 1e-9 * dt, levels, decay)
    on = state if high_is_on else 1 - state
    amplitude = 10.0 ** rng.uniform(-8, -2)
    base = 10.0 ** rng.uniform(-4, 0.5)
    noise = 10.0 ** rng.uniform(-4, np.log10(0.3)) if noise is None else noise
    if drift is None:
        drift = 0.0
    current = amplitude * (
        base + on * (1 + drift * t / t[-1]) + noise * rng.standard_normal(t.size)
    )
    current *= 1 if rng.random() < 0.5 else -1
    step = {
        "original_time": t,
        "drain_current": current,
        "sampling_interval": dt,
        "gate_period": m * dt,
        "duty_cycle": n_high / m,
    }
    if gate if gate is not None else rng.random() < 0.5:
        at = np.searchsorted(edges - 1e-9 * dt, t, side="right") - 1
        low, high = np.sort(rng.uniform(-1, 1, 2))
        high += 0.05
        volts = np.where(levels[at] == 1, high, low)
        step["Vg"] = volts + 1e-3 * (high - low) * rng.standard_normal(t.size)
    mean = weight * 2 / spread + (1 - weight) * 2 if shape == "biexponential" else 1.0
    return Device(step, mean * tau[1], mean * tau[0], high_is_on)


def clean(rng: np.random.Generator) -> Device:
    return make(rng)


def drifting(rng: np.random.Generator) -> Device:
    return make(rng, drift=rng.uniform(-0.6, 0.6))


def drifting_baseline(rng: np.random.Generator) -> Device:
    """A line, a relaxation or a wave of up to 60 % of the swing; no current crosses zero."""
    device = make(rng)
    y, t = device.step["drain_current"], device.step["original_time"]
    ordered = np.sort(np.abs(y))
    swing = ordered[-1 - y.size // 50] - ordered[y.size // 50]
    x = (t - t[0]) / (t[-1] - t[0])
    shapes = (
        x,
        1 - np.exp(-x * rng.uniform(1, 8)),
        np.sin(2 * np.pi * x * rng.uniform(0.3, 3)),
    )
    added = rng.uniform(-0.6, 0.6) * swing * shapes[int(rng.integers(3))]
    device.step["drain_current"] = y + np.sign(y.mean()) * (added - min(0.0, added.min()))
    return device


def jittering_clock(rng: np.random.Generator) -> Device:
    return make(rng, clock_jitter=10.0 ** rng.uniform(-3, np.log10(0.2)))


def period_off(rng: np.random.Generator) -> Device:
    return make(rng, period_scale=1 + rng.choice([-1, 1]) * 10.0 ** rng.uniform(-3, -1.3))


def jittering_edges(rng: np.random.Generator) -> Device:
    return make(rng, edge_jitter=10.0 ** rng.uniform(-3, -1.3))


def missing_pulse(rng: np.random.Generator) -> Device:
    return make(rng, n_cycles=int(rng.integers(4, 13)), missing=True)


def late_begin(rng: np.random.Generator) -> Device:
    device = make(rng)
    s = device.step
    cut = int(rng.integers(1, s["drain_current"].size // 6))
    for name in ("original_time", "drain_current", "Vg"):
        if name in s:
            s[name] = s[name][cut:]
    return device


def two_clocks(rng: np.random.Generator) -> Device:
    device = make(rng)
    device.step["sampling_interval"] *= rng.choice([0.5, 2.0, 1e-3, 1e3, rng.uniform(1.05, 1.5)])
    return device


def lost_samples(rng: np.random.Generator) -> Device:
    device = make(rng)
    s = device.step
    keep = rng.random(s["drain_current"].size) > rng.uniform(0.002, 0.1)
    keep[0] = True
    for name in ("original_time", "drain_current", "Vg"):
        if name in s:
            s[name] = s[name][keep]
    return device


def broken_clock(rng: np.random.Generator) -> Device:
    device = make(rng)
    t = device.step["original_time"]
    k = int(rng.integers(2, t.size - 2))
    kind = rng.integers(3)
    if kind == 0:
        t[k] = t[k - 1]
    elif kind == 1:
        t[k:] -= rng.uniform(0.01, 1) * t[k]
    else:
        t[k] = np.nan
    return device


def biexponential(rng: np.random.Generator) -> Device:
    return make(rng, shape="biexponential", noise=10.0 ** rng.uniform(-4, -2))


def stretched(rng: np.random.Generator) -> Device:
    return make(rng, shape="stretched", noise=10.0 ** rng.uniform(-4, -2))


def clipped(rng: np.random.Generator) -> Device:
    device = make(rng)
    current = device.step["drain_current"]
    size = np.abs(current)
    low, high = np.quantile(size, [0.02, 0.98])
    limit = low + rng.uniform(0.4, 0.97) * (high - low)
    device.step["drain_current"] = np.sign(current) * np.minimum(size, limit)
    return device


def overflow(rng: np.random.Generator) -> Device:
    device = make(rng)
    y = device.step["drain_current"]
    where = rng.choice(y.size, int(rng.integers(1, 4)), replace=False)
    y[where] = rng.choice([9.9e37, -9.9e37, 9.91e37, np.inf, -np.inf])
    return device


def outliers(rng: np.random.Generator) -> Device:
    device = make(rng)
    y = device.step["drain_current"]
    where = rng.choice(y.size, int(rng.integers(1, 4)), replace=False)
    y[where] += rng.choice([-1, 1]) * 10.0 ** rng.uniform(-1, 4) * np.ptp(y)
    return device


def no_response(rng: np.random.Generator) -> Device:
    device = make(rng)
    n = device.step["drain_current"].size
    x = np.arange(n) / n
    kind = rng.integers(4)
    y = 1e-11 * rng.standard_normal(n)
    if kind == 1:
        y = y + 1e-9 + rng.choice([-1, 1]) * 1e-9 * x
    elif kind == 2:
        y = y + 1e-9 * np.exp(-x * 10.0 ** rng.uniform(-0.5, 1))
    elif kind == 3:
        y = y + 1e-9 + 1e-10 * np.sin(2 * np.pi * n * rng.uniform(0.01, 0.3) * x)
    device.step["drain_current"] = y
    device.exponential = False
    return device


KINDS = {
    f.__name__: f
    for f in (
        clean, drifting, drifting_baseline, jittering_clock, period_off, jittering_edges,
        missing_pulse, late_begin,
        two_clocks, lost_samples, broken_clock, biexponential, stretched, clipped, overflow,
        outliers, no_response,
    )
}  # fmt: skip


def wrong_values(device: Device, result: dict[str, Any], words: list[str]) -> list[str]:
    """Return what is wrong in a result: ``ok``, and off by 5 standard errors and by 3 %."""
    found = []
    if result["status"].shape == (1, 2) and np.isnan(result["value"]).all():
        return found
    for phase in (0, 1):
        truth = device.truth[phase]
        for cycle, code in enumerate(result["status"][:, phase]):
            tau, error = result["value"][cycle, phase], result["stderr"][cycle, phase]
            off = abs(tau - truth) > max(5 * error, 0.03 * truth) or not device.exponential
            if words[code] == "ok" and off:
                found.append(
                    f"cycle {cycle} phase {phase}: {tau:.4g} +- {error:.2g} s, not {truth:.4g}"
                )
    return found
