"""Models of a phase where something is known beforehand: fixed unknowns, bounds, weights.

Windows may have unknowns in common; amplitudes and constants are always their own, and are
eliminated (variable projection).  As in :mod:`.kernels.mixtures`, a whole grid is tried, and damped
Newton steps lead from its best minima to the optimum, for all windows together.

Dimension letters: n samples of a window, W windows, U unknowns of all of them, K and M nodes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from oectflow.extractors.kernels import downhill, mixtures
from oectflow.extractors.kernels import restricted_fits as fits

#: An estimate within this share of a bound is at the bound.
AT_BOUND = 1e-6
#: Share of the sum of squares; a step that would take less off it is the last one.
_ENOUGH = 1e-14
#: Two normalised functions are the same where less than this is left of the pair.
_SAME = 1e-10


class Window(NamedTuple):
    """Samples that are fitted.

    Attributes
    ----------
    y
        After :func:`.restricted_fits.weigh`.  Shape (n,).
    t, even
        Times since the first sample, and whether these are 0, 1, 2, ...  Shape (n,).
    roots
        Roots of the weights.  Shape (n,).
    work
        :func:`.mixtures.work_space`.
    """

    y: NDArray[np.float64]
    t: NDArray[np.float64]
    even: bool
    roots: NDArray[np.float64]
    work: tuple[NDArray[np.float64], NDArray[np.float64]]


def window_of(
    y: NDArray[np.float64],
    t: NDArray[np.float64],
    even: bool,
    weights: NDArray[np.float64] | None = None,
) -> Window:
    """Return samples as :class:`Window`; None weighs all alike."""
    roots = np.ones(y.size) if weights is None else np.sqrt(weights)
    centred = y - y[0]
    fits.weigh(centred, roots)
    return Window(centred, t, even, roots, mixtures.work_space(y.size))


@dataclass(frozen=True)
class Problem:
    """What is fitted to windows, and what is known beforehand.

    Attributes
    ----------
    model
        ``DOUBLE`` or ``STRETCHED``.
    windows
        At least one.
    low, high
        Least and greatest ``p`` and ``q``; equal where one is fixed.
    shared
        Whether all windows have the same ``p``, and the same ``q``.
    """

    model: int
    windows: Sequence[Window]
    low: tuple[float, float]
    high: tuple[float, float]
    shared: tuple[bool, bool]

    @property
    def places(self) -> NDArray[np.int64]:
        """Where ``p`` and ``q`` of each window stand among the unknowns, -1 if fixed: (W, 2)."""
        n = len(self.windows)
        places = np.full((n, 2), -1)
        found = 0
        for d in range(2):
            if self.is_free(d):
                places[:, d] = found if self.shared[d] else found + np.arange(n)
                found += 1 if self.shared[d] else n
        return places

    def is_free(self, d: int) -> bool:
        """Whether ``p`` or ``q`` is not fixed."""
        return self.low[d] < self.high[d]

    @property
    def n_unknowns(self) -> int:
        """Number of unknowns ``p`` and ``q`` of all windows."""
        return int(self.places.max()) + 1

    def pairs_of(self, unknowns: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``p`` and ``q`` of every window.  Shape (W, 2)."""
        places = self.places
        padded = np.append(unknowns, 0.0)
        return np.where(places < 0, self.low, padded[places])

    def unknowns_of(self, pairs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the unknowns of which :meth:`pairs_of` makes pairs."""
        unknowns = np.empty(self.n_unknowns)
        places = self.places
        unknowns[places[places >= 0]] = pairs[places >= 0]
        return unknowns

    def inside(self, unknowns: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the nearest unknowns within the bounds, time constants apart from each other."""
        pairs = np.clip(self.pairs_of(unknowns), self.low, self.high)
        if self.model == downhill.DOUBLE:
            missing = downhill.LEAST_APART - (pairs[:, 1] - pairs[:, 0])
            # What is fixed or shared stays; the slower one has as much room as is needed.
            stays = [
                not self.is_free(d) or (self.shared[d] and not all(self.shared)) for d in (0, 1)
            ]
            shares = (0.0, 1.0) if stays[0] else (1.0, 0.0) if stays[1] else (0.5, 0.5)
            missing = np.maximum(missing, 0.0)
            pairs[:, 0] -= shares[0] * missing
            pairs[:, 1] += shares[1] * missing
        return self.unknowns_of(pairs)

    def look(
        self, unknowns: NDArray[np.float64]
    ) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
        """Return the sum of squares and its first and second derivatives, halved."""
        total, gradient = 0.0, np.zeros(unknowns.size + 1)
        hessian = np.zeros((unknowns.size + 1, unknowns.size + 1))
        seen = np.empty(fits.N_SEEN)
        pairs = self.pairs_of(unknowns)
        # The last one stands for what is fixed.
        for window, (p, q), (i, j) in zip(self.windows, pairs, self.places, strict=True):
            _look(window, self.model, p, q, seen)
            total += seen[fits.RSS]
            gradient[i] += seen[fits.BY_P]
            gradient[j] += seen[fits.BY_Q]
            hessian[i, i] += seen[fits.PP]
            hessian[j, j] += seen[fits.QQ]
            hessian[i, j] += seen[fits.PQ]
            hessian[j, i] += seen[fits.PQ]
        return total, gradient[:-1], hessian[:-1, :-1]


def _look(window: Window, model: int, p: float, q: float, seen: NDArray[np.float64]) -> None:
    clock = downhill.clock_of(window.t, model)
    fits.look(window.y, clock, window.even, model, window.roots, p, q, window.work, seen)


def amplitudes_of(window: Window, model: int, pair: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the best amplitudes at ``p`` and ``q``; residuals are left in the work space."""
    seen = np.empty(fits.N_SEEN)
    _look(window, model, pair[0], pair[1], seen)
    return seen[fits.A_1 : fits.A_1 + (2 if model == downhill.DOUBLE else 1)]


def solve(problem: Problem) -> tuple[NDArray[np.float64], float]:
    """Return ``p`` and ``q`` of every window, shape (W, 2), and the least sum of squares.

    Infinite where there is none.
    """
    if len(problem.windows) > 1 and not any(
        problem.shared[d] and problem.is_free(d) for d in range(2)
    ):
        alone = [solve(replace(problem, windows=[window])) for window in problem.windows]
        return np.concatenate([pairs for pairs, _ in alone]), sum(rss for _, rss in alone)
    left, nodes = _try_grid(problem)
    best = np.empty(0), math.inf
    for start in _starts(problem, left, nodes):
        best = min(best, _descend(problem, start), key=lambda found: found[1])
    if problem.model == downhill.DOUBLE and not _is_known(problem, *best):
        for d in range(2):
            if problem.is_free(d) and (problem.shared[d] or len(problem.windows) == 1):
                for start in _valley(problem, d, left, nodes):
                    best = min(best, _descend(problem, start), key=lambda found: found[1])
    if not best[1] < math.inf:
        return np.full((len(problem.windows), 2), np.nan), math.inf
    return problem.pairs_of(best[0]), best[1]


def _is_known(problem: Problem, unknowns: NDArray[np.float64], rss: float) -> bool:
    """Tell whether time constants are known so well that there is no other optimum."""
    if not rss < math.inf:
        return True
    found, _ = errors(problem, problem.pairs_of(unknowns), rss)
    return bool((found[:, :2] < mixtures.KNOWN).all())


def again(problem: Problem, pairs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the optimum that is downhill from ``p`` and ``q`` of every window."""
    return problem.pairs_of(_descend(problem, problem.unknowns_of(pairs))[0])


def _nodes(problem: Problem, d: int) -> NDArray[np.float64]:
    """Return the nodes of ``p`` or ``q``, of the longest window, within the bounds."""
    longest = max(problem.windows, key=lambda window: window.t[-1])
    nodes = mixtures.nodes_of(longest.t, problem.model)[d]
    low, high = problem.low[d], problem.high[d]
    if not problem.is_free(d):
        return np.array([low])
    within = nodes[(nodes > low) & (nodes < high)]
    return np.unique(np.concatenate([within, np.linspace(low, high, 5 if within.size < 4 else 2)]))


def _try_grid(
    problem: Problem,
) -> tuple[NDArray[np.float64], tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return what pairs of nodes leave of every window, shape (W, K, M), and the nodes."""
    p, q = _nodes(problem, 0), _nodes(problem, 1)
    left = np.empty((len(problem.windows), p.size, q.size))
    for window, of_window in zip(problem.windows, left, strict=True):
        total = float(window.y @ window.y)
        if problem.model == downhill.STRETCHED:
            c = _functions(window, problem.model, p, q) @ window.y
            of_window[:] = total - c.reshape(p.size, q.size) ** 2
            continue
        f, g = (_functions(window, problem.model, nodes, nodes) for nodes in (p, q))
        cosine = f @ g.T
        c, d = (f @ window.y)[:, None], (g @ window.y)[None, :]
        with np.errstate(all="ignore"):
            explained = (c**2 - 2.0 * cosine * c * d + d**2) / (1.0 - cosine**2)
        apart = (q - p[:, None] >= downhill.LEAST_APART) & (1.0 - cosine**2 > _SAME)
        of_window[:] = np.where(apart, total - explained, np.inf)
    return left, (p, q)


def _functions(
    window: Window, model: int, p: NDArray[np.float64], q: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the functions at the nodes, weighed and of unit length, a row for each."""
    rows = np.empty((p.size if model == downhill.DOUBLE else p.size * q.size, window.t.size))
    mixtures.fill_grid(window.t, window.even, model, p, q, rows)
    for row in rows:
        fits.weigh(row, window.roots)
    size = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.divide(rows, size, out=np.zeros_like(rows), where=size > 0.0))


def _starts(
    problem: Problem,
    left: NDArray[np.float64],
    nodes: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> list[NDArray[np.float64]]:
    """Return the best minima of the grid, as unknowns."""
    n = len(problem.windows)
    common = [problem.shared[d] or not problem.is_free(d) or n == 1 for d in range(2)]
    pairs = np.empty((n, 2))
    found = []
    if all(common):
        total = left.sum(axis=0)
        for i, j in _minima(total):
            pairs[:] = nodes[0][i], nodes[1][j]
            found.append(problem.unknowns_of(pairs))
        return found
    # One is shared: for each of its nodes, every window has its own best one of the other.
    d = 0 if common[0] else 1
    total = left.min(axis=2 - d).sum(axis=0)
    for i, _ in _minima(total[:, None]):
        pairs[:, d] = nodes[d][i]
        pairs[:, 1 - d] = nodes[1 - d][np.take(left, i, axis=1 + d).argmin(axis=1)]
        found.append(problem.unknowns_of(pairs))
    return found


def _minima(left: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Return the least of the local minima of a table, the least first."""
    padded = np.pad(left, 1, constant_values=np.inf)
    least = np.isfinite(left)
    for i in range(3):
        for j in range(3):
            least &= left <= padded[i : i + left.shape[0], j : j + left.shape[1]]
    found = sorted(zip(*np.nonzero(least), strict=True), key=lambda at: float(left[at]))
    return [(int(i), int(j)) for i, j in found[: mixtures.MOST_STARTS]]


def _valley(
    problem: Problem,
    d: int,
    left: NDArray[np.float64],
    nodes: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> list[NDArray[np.float64]]:
    """Return where minima may be along the valley in which two time constants balance each other.

    As :func:`.mixtures.search_valley` does: one of them is held at its nodes, and the others are
    the best ones there.
    """
    least = np.full(nodes[d].size + 2, np.inf)
    starts = []
    for i, node in enumerate(nodes[d]):
        of_node = np.take(left, i, axis=1 + d)
        pairs = np.empty((len(problem.windows), 2))
        pairs[:, d] = node
        pairs[:, 1 - d] = nodes[1 - d][of_node.argmin(axis=1)]
        if all(problem.shared):
            pairs[:, 1 - d] = nodes[1 - d][of_node.sum(axis=0).argmin()]
        held = replace(
            problem,
            low=(node, problem.low[1]) if d == 0 else (problem.low[0], node),
            high=(node, problem.high[1]) if d == 0 else (problem.high[0], node),
        )
        if np.isfinite(of_node.min(axis=1)).all() and held.n_unknowns:
            unknowns, least[i + 1] = _descend(held, held.unknowns_of(pairs))
            pairs = held.pairs_of(unknowns)
        starts.append(problem.unknowns_of(pairs))
    lowest = (least[1:-1] <= least[:-2]) & (least[1:-1] <= least[2:]) & np.isfinite(least[1:-1])
    return [start for start, here in zip(starts, lowest, strict=True) if here]


def _descend(problem: Problem, unknowns: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Go downhill, as :func:`.downhill.refine` does; return where that ends, and what is left."""
    places = problem.places
    low, high = (np.empty(unknowns.size) for _ in range(2))
    for d in range(2):
        if problem.is_free(d):
            low[places[:, d]], high[places[:, d]] = problem.low[d], problem.high[d]
    unknowns = problem.inside(unknowns)
    rss, gradient, hessian = problem.look(unknowns)
    damping = downhill.DAMPING
    for _ in range(downhill.MOST_STEPS):
        if not unknowns.size or not rss < math.inf:
            break
        held = ((unknowns <= low) & (gradient > 0.0)) | ((unknowns >= high) & (gradient < 0.0))
        slope = np.where(held, 0.0, gradient)
        bend = np.where(held[:, None] | held, np.diag(held.astype(np.float64)), hessian)
        moved = 0.0
        while damping < downhill.STUCK:
            damped = bend + damping * np.diag(np.abs(np.diag(bend)))
            try:
                np.linalg.cholesky(damped)
            except np.linalg.LinAlgError:
                damping = max(10.0 * damping, downhill.DAMPING)
                continue
            step = -np.linalg.solve(damped, slope)
            gain = -0.5 * float(slope @ step)
            longest = float(np.abs(step).max())
            step *= min(1.0, downhill.LONGEST / longest) if longest > 0.0 else 0.0
            tried = problem.inside(unknowns + step)
            moved = float(np.abs(tried - unknowns).max())
            last = gain < _ENOUGH * rss or moved < downhill.CLOSE
            at_tried = problem.look(tried)
            # The last step is smaller than rounding.
            if at_tried[0] < rss or (last and at_tried[0] <= rss * (1.0 + _ENOUGH)):
                unknowns, (rss, gradient, hessian) = tried, at_tried
                damping *= 0.1
                break
            if last:
                return unknowns, rss
            damping = max(10.0 * damping, downhill.DAMPING)
        if damping >= downhill.STUCK or last:
            break
    return unknowns, rss


def errors(
    problem: Problem, pairs: NDArray[np.float64], rss: float
) -> tuple[NDArray[np.float64], float]:
    """Return standard errors and the correlation of neighbouring residuals.

    As :func:`.mixtures.standard_errors` does; what is fixed has none.

    Parameters
    ----------
    problem, pairs, rss
        A problem and what :func:`solve` says of it.

    Returns
    -------
    Errors of ``p``, ``q`` and both amplitudes of every window, shape (W, 4), and the correlation.
    """
    n_linear = 2 if problem.model == downhill.DOUBLE else 1
    n_unknowns, places = problem.n_unknowns, problem.places
    known = np.zeros((n_unknowns, n_unknowns))
    whole = np.zeros(n_unknowns)
    near = total = n_samples = 0.0
    parts = []
    for window, (p, q), at in zip(problem.windows, pairs, places, strict=True):
        seen = np.empty(fits.N_SEEN)
        _look(window, problem.model, p, q, seen)
        columns, residual = window.work[0][:7], window.work[0][7]
        near += float(residual[1:] @ residual[:-1])
        total += float(window.y @ window.y)
        n_samples += residual.size
        amplitudes = seen[[fits.A_1, fits.A_1 if n_linear == 1 else fits.A_2]]
        free = at >= 0
        slopes = (columns[2:4] * amplitudes[:, None])[free]
        functions = columns[:n_linear]
        inverse = np.linalg.pinv(functions @ functions.T)
        by_unknown = inverse @ functions @ slopes.T
        rest = slopes - by_unknown.T @ functions
        np.add.at(known, np.ix_(at[free], at[free]), rest @ rest.T)
        np.add.at(whole, at[free], np.sum(slopes**2, axis=1))
        parts.append((at[free], free, inverse, by_unknown))
    n_columns = n_unknowns + n_linear * len(problem.windows)
    phi = near / rss if rss > mixtures.EXACT * total else 0.0
    # Fitting pushes the correlation down.
    phi = phi + (n_columns + 2.0 * n_columns * max(phi, 0.0)) / n_samples
    phi = min(max(phi, 0.0), 0.99)
    freedom = n_samples - n_columns - len(problem.windows)
    variance = rss / freedom * (1.0 + phi) / (1.0 - phi)
    found = np.zeros((len(parts), 4))
    covariance = _inverse(known, whole)
    for row, (at, free, inverse, by_unknown) in zip(found, parts, strict=True):
        own = covariance[np.ix_(at, at)]
        row[:2][free] = np.sqrt(variance * np.diag(own))
        row[2 : 2 + n_linear] = np.sqrt(
            variance * (np.diag(inverse) + np.einsum("ij,jk,ik->i", by_unknown, own, by_unknown))
        )
    return found, phi


def _inverse(known: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the inverse of what is known, infinite where next to nothing of the whole is left."""
    nothing = np.full_like(known, np.inf)
    try:
        factor = np.linalg.cholesky(known)
    except np.linalg.LinAlgError:
        return nothing
    if not (np.diag(factor) ** 2 > downhill.SINGULAR * whole).all():
        return nothing
    return np.asarray(np.linalg.inv(known))
