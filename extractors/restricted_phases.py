"""The phases of a step, fitted with what is known of a model beforehand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from oectflow.extractors import restricted
from oectflow.extractors.kernels import ceilings, downhill, gate, levels, mixtures
from oectflow.extractors.relaxation_params import StretchedParams, TwoParams
from oectflow.extractors.restricted import Problem, Window

#: A phase of fewer samples has no plateau whose noise can be told.
FEWEST_OF_PLATEAU = 16
#: Least noise of one plateau, as a share of that of the other: a converter shows no finer noise.
LEAST_NOISE = 0.01
#: How a phase ended, beside the codes of :mod:`.kernels.mixtures`.
NO_WEIGHTS = 8


class Fits(NamedTuple):
    """Fits of the phases of a step; shapes (n_cycles, 2), and a last axis of 12.

    Attributes
    ----------
    rows, codes
        As :func:`.mixtures.fit_model` fills them in, or ``NO_WEIGHTS``.
    left, left_one
        Share of the weighted sum of squares that the model and one exponential leave of all
        windows of the same fit.
    samples, windows, unknowns, of_one
        Samples of the same fit, its windows, and unknowns of both models, with the variance.
    at_bound
        Whether an unknown of the window is at one of its bounds.
    """

    rows: NDArray[np.float64]
    codes: NDArray[np.int8]
    left: NDArray[np.float64]
    left_one: NDArray[np.float64]
    samples: NDArray[np.int64]
    windows: NDArray[np.int64]
    unknowns: NDArray[np.int64]
    of_one: NDArray[np.int64]
    at_bound: NDArray[np.bool_]


def no_fits(shape: tuple[int, ...]) -> Fits:
    """Return fits of phases that are not there."""
    one = np.ones(shape, np.int64)
    return Fits(
        np.full((*shape, mixtures.N_COLUMNS), np.nan),
        np.full(shape, mixtures.TOO_FEW, np.int8),
        np.full(shape, np.nan),
        np.full(shape, np.nan),
        one,
        one.copy(),
        one.copy(),
        one.copy(),
        np.zeros(shape, np.bool_),
    )


@dataclass(frozen=True, eq=False)
class _Phase:
    """Samples of a phase, where it is, and the noise and level of the plateaus around it."""

    at: tuple[int, int]
    y: NDArray[np.float64]
    t: NDArray[np.float64]
    even: bool
    variances: tuple[float, float]
    levels: tuple[float, float]

    def window(self, curve: NDArray[np.float64] | None = None) -> Window:
        """Return the samples, with the weights that follow from a fitted curve if there is one."""
        if curve is None:
            return restricted.window_of(self.y, self.t, self.even)
        way = self.levels[1] - self.levels[0]
        share = np.clip((curve - self.levels[0]) / way, 0.0, 1.0) if way else np.ones(curve.size)
        noise = self.variances[0] + (self.variances[1] - self.variances[0]) * share
        return restricted.window_of(self.y, self.t, self.even, max(self.variances) / noise)


def fit_step(
    y: NDArray[np.float64],
    t: NDArray[np.float64],
    spans: NDArray[np.int64],
    interval: float,
    model: int,
    params: Mapping[str, Any],
) -> Fits:
    """Fit all phases of a step.

    Parameters
    ----------
    y, t, spans, interval
        The current and :class:`.phases.StepPhases`.
    model
        ``DOUBLE`` or ``STRETCHED``.
    params
        :class:`TwoParams` or :class:`StretchedParams` as a dict.
    """
    shape = spans.shape[:2]
    found = no_fits(shape)
    limits = ceilings.limits_of(y)
    noise, means = _plateaus(y, spans)
    weighed = params["weights"] == "plateaus"
    unknown = weighed and np.isnan(noise).any()
    fewest = (2 if model == downhill.DOUBLE else 1) + 4
    for kind in range(2):
        phases = []
        for cycle in range(shape[0]):
            a, b = spans[cycle, kind]
            samples = y[a:b]
            code = _code_of(samples, fewest)
            if code == mixtures.FIT_OK and mixtures.is_clipped(samples, limits):
                code = mixtures.CLIPPED
            if unknown and code in (mixtures.FIT_OK, mixtures.CLIPPED):
                code = NO_WEIGHTS
            found.codes[cycle, kind] = code
            found.samples[cycle, kind] = b - a
            if code == mixtures.FIT_OK or (code == mixtures.CLIPPED and not params["shared"]):
                even = t.size == 0
                times = np.arange(float(b - a)) if even else t[a:b] - t[a]
                around = (float(noise[1 - kind]), float(noise[kind]))
                level = (float(np.nanmedian(means[:, 1 - kind])) if weighed else 0.0,
                         float(means[cycle, kind]))  # fmt: skip
                phases.append(_Phase((cycle, kind), samples, times, even, around, level))
        if params["shared"]:
            _fit_shared(phases, interval, model, params, found)
        else:
            for phase in phases:
                _fit_together([phase], interval, model, params, found)
    return found


def _code_of(y: NDArray[np.float64], fewest: int) -> int:
    """Return why samples are not fitted, or ``FIT_OK``; as :func:`.mixtures.fit_window` does."""
    if y.size < max(fewest, 6):
        return mixtures.TOO_FEW
    if not np.isfinite(y).all():
        return mixtures.NOT_FINITE
    if (np.abs(y) >= gate.OVERFLOW).any():
        return mixtures.MARKED
    return mixtures.FIT_OK if (y != y[0]).any() else mixtures.FLAT


def _plateaus(
    y: NDArray[np.float64], spans: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the variance of samples on the plateaus, on and off, and the means of all plateaus.

    NaN where there is none.  Shapes (2,) and (n_cycles, 2).
    """
    first, last = spans.reshape(-1, 2).T
    plateaus = np.zeros((first.size, levels.N_KNOWN))
    good = np.zeros(first.size, np.bool_)
    for w, (a, b) in enumerate(zip(first, last, strict=True)):
        if b - a >= FEWEST_OF_PLATEAU and _code_of(y[a:b], 0) in (mixtures.FIT_OK, mixtures.FLAT):
            levels.measure_plateau(y, a, b - a, plateaus[w])
            good[w] = True
    kind = np.arange(first.size) % 2
    sigma = np.zeros(2)
    levels.noise_of(plateaus, good, kind, sigma)
    there = [good[kind == of].any() for of in range(2)]
    # Without any noise, all samples are equally good.
    sigma = np.maximum(sigma, LEAST_NOISE * sigma.max()) if sigma.any() else np.ones(2)
    means = np.where(good, plateaus[:, levels.MEAN], np.nan).reshape(-1, 2)
    return np.where(there, sigma**2, np.nan), means


def _fit_shared(
    phases: Sequence[_Phase], interval: float, model: int, params: Mapping[str, Any], found: Fits
) -> None:
    """Fit phases that have unknowns in common; one with an outlier is left out, and named."""
    while phases:
        problem = _fit_together(phases, interval, model, params, found)
        bad = [phase for phase in phases if found.codes[phase.at] == mixtures.OUTLIER]
        if problem is None or not bad:
            return
        for phase in bad:
            found.rows[phase.at] = np.nan
            found.left[phase.at] = found.left_one[phase.at] = np.nan
        phases = [phase for phase in phases if phase not in bad]


def _fit_together(
    phases: Sequence[_Phase], interval: float, model: int, params: Mapping[str, Any], found: Fits
) -> Problem | None:
    """Fit phases, and fill in the result of each; return what was solved, if anything was."""
    windows = [phase.window() for phase in phases]
    longest = max(windows, key=lambda window: window.t[-1])
    low, high = _box(longest, interval, model, params)
    names = (TwoParams if model == downhill.DOUBLE else StretchedParams).unknowns
    shared = (names[0] in params["shared"], names[1] in params["shared"])
    problem = Problem(model, windows, low, high, shared)
    pairs, rss = restricted.solve(problem)
    if params["weights"] == "plateaus" and rss < math.inf:
        curves = [_curve(problem, i, phases[i].y, pairs[i])[0] for i in range(len(phases))]
        windows = [phase.window(curve) for phase, curve in zip(phases, curves, strict=True)]
        problem = Problem(model, windows, low, high, shared)
        pairs, rss = restricted.solve(problem)
    if not rss < math.inf:
        for phase in phases:
            found.codes[phase.at] = mixtures.NO_OPTIMUM
        return None
    n_linear = 2 if model == downhill.DOUBLE else 1
    se, phi = restricted.errors(problem, pairs, rss)
    if model == downhill.STRETCHED:
        # The switch is somewhere between two samples.
        earlier = [
            window._replace(t=window.t + (window.t[1] - window.t[0]), even=False)
            for window in windows
        ]
        moved = restricted.again(Problem(model, earlier, low, high, shared), pairs)
        se[:, :2] = np.hypot(se[:, :2], np.expm1(moved - pairs))
    of_one = Problem(
        downhill.STRETCHED, windows, (_searched(longest)[0], 0.0), (_searched(longest)[1], 0.0),
        (any(shared), True),
    )  # fmt: skip
    left_one = restricted.solve(of_one)[1]
    total = sum(float(window.y @ window.y) for window in windows)
    n_samples = sum(window.y.size for window in windows)
    for i, phase in enumerate(phases):
        _, amplitudes, offset = _curve(problem, i, phase.y, pairs[i])
        residual = windows[i].work[0][7]
        of_window, left = float(windows[i].y @ windows[i].y), float(residual @ residual)
        row = found.rows[phase.at]
        row[[mixtures.FIRST, mixtures.SECOND]] = np.exp(pairs[i])
        row[[mixtures.SE_FIRST, mixtures.SE_SECOND]] = se[i, :2] * np.exp(pairs[i])
        row[mixtures.A_1 : mixtures.A_1 + n_linear] = amplitudes
        row[mixtures.SE_A_1 : mixtures.SE_A_1 + n_linear] = se[i, 2 : 2 + n_linear]
        row[mixtures.OFFSET] = offset
        row[[mixtures.R2, mixtures.RSS, mixtures.PHI]] = 1.0 - left / of_window, left, phi
        at_bound = _at_bound(problem, pairs[i], params)
        # Where a bound is in the way, residuals are large.
        judged = not at_bound and found.codes[phase.at] != mixtures.CLIPPED
        if judged and mixtures.has_outlier(residual, n_linear + 3):
            found.codes[phase.at] = mixtures.OUTLIER
        found.left[phase.at], found.left_one[phase.at] = rss / total, left_one / total
        found.samples[phase.at], found.windows[phase.at] = n_samples, len(phases)
        found.unknowns[phase.at] = problem.n_unknowns + (n_linear + 1) * len(phases) + 1
        found.of_one[phase.at] = of_one.n_unknowns + 2 * len(phases) + 1
        found.at_bound[phase.at] = at_bound
    return problem


def _searched(window: Window) -> tuple[float, float]:
    """Return the least and greatest logarithm of a time constant that is searched, in samples."""
    low, high = mixtures.nodes_of(window.t, downhill.DOUBLE)[2][0]
    return float(low), float(high)


def _box(
    longest: Window, interval: float, model: int, params: Mapping[str, Any]
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the least and the greatest ``p`` and ``q``, times in samples."""
    names = (TwoParams if model == downhill.DOUBLE else StretchedParams).unknowns
    low: list[float] = []
    high: list[float] = []
    for d, name in enumerate(names):
        unit = 1.0 if name == "beta" else interval
        of_beta = math.log(mixtures.BETA_MIN), math.log(mixtures.BETA_MAX)
        searched = of_beta if name == "beta" else _searched(longest)
        value = params["fixed"].get(name)
        given = (value, value) if value is not None else params["bounds"].get(name)
        least, most = searched if given is None else (math.log(x / unit) for x in given)
        if model == downhill.DOUBLE and d == 1:
            # Both of them have room where only one was given.
            apart = downhill.LEAST_APART
            if given is None:
                least, most = max(least, low[0] + apart), max(most, high[0] + apart)
            elif names[0] not in params["fixed"]:
                high[0] = min(high[0], most - apart)
                if names[0] not in params["bounds"]:
                    low[0] = min(low[0], high[0] - 1.0)
            if value is None:
                least = max(least, low[0] + apart)
        low.append(least)
        high.append(most)
    return (low[0], low[1]), (high[0], high[1])


def _curve(
    problem: Problem, i: int, y: NDArray[np.float64], pair: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Return what was fitted to a window, the amplitudes, and the offset."""
    window = problem.windows[i]
    amplitudes = restricted.amplitudes_of(window, problem.model, pair)
    with np.errstate(divide="ignore", over="ignore"):
        if problem.model == downhill.DOUBLE:
            functions = np.expm1(-window.t[None, :] * np.exp(-pair)[:, None])
        else:
            functions = np.expm1(-((window.t * math.exp(-pair[0])) ** math.exp(pair[1])))[None, :]
    changes = amplitudes @ functions
    constant = float(np.average(y - y[0] - changes, weights=window.roots**2)) + y[0]
    return changes + constant, amplitudes, constant - float(amplitudes.sum())


def _at_bound(problem: Problem, pair: NDArray[np.float64], params: Mapping[str, Any]) -> bool:
    """Tell whether an unknown is at a given bound, beta is at any bound, or both are one."""
    names = (TwoParams if problem.model == downhill.DOUBLE else StretchedParams).unknowns
    near = restricted.AT_BOUND
    if problem.model == downhill.DOUBLE and pair[1] - pair[0] <= downhill.LEAST_APART + near:
        return True
    return any(
        problem.is_free(d)
        and (names[d] in params["bounds"] or names[d] == "beta")
        and not problem.low[d] + near < pair[d] < problem.high[d] - near
        for d in range(2)
    )
