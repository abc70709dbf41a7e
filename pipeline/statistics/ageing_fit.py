"""Fit one series of values against age with every model.

The noise of neighbouring steps may be alike: residuals follow an autoregression of the first order,
whose coefficient is found from those of the best model.  What is minimised are the innovations, and
AICc compares the models by these (Hurvich & Tsai (1989), Biometrika 76, 297).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.special import stdtrit

from oectflow.pipeline.statistics.ageing_models import MODELS, Model

#: Fewest points: the largest model, its noise and the autocorrelation leave three.
FEWEST = 8
#: A larger autocorrelation is a drift, which no noise of steps is.
MOST_ALIKE = 0.9
LEVEL = 0.95


@dataclass(frozen=True)
class Fit:
    """A model fitted to a series, in the units of the data.

    Attributes
    ----------
    model
        What was fitted.
    start
        Value at the first age, ``a``.
    shape
        Parameters of ``g`` (of :class:`.Model`), of ages in spans.
    covariance
        Of ``start`` and ``shape``.
    aicc
        Smaller is better; comparable between the models of one series.
    noise
        Standard deviation of a value about the model.
    span, unit
        Range of the ages, and their median distance in spans.
    freedom
        Degrees of freedom of the noise, for Student's t.
    """

    model: Model
    start: float
    shape: tuple[float, ...]
    covariance: NDArray[np.float64]
    aicc: float
    noise: float
    span: float
    unit: float
    freedom: float

    @property
    def reach(self) -> float:
        """Half the length of a 95 % interval in standard errors, by Student's t."""
        return float(stdtrit(self.freedom, 0.5 + LEVEL / 2))

    def predict(self, age: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the model at some ages, and the variance of a value that is measured there."""
        x = age / self.span
        g = self.model.shape(x, self.unit, *self.shape)
        J = np.vstack([g, self.start * self.model.slopes(x, self.unit, *self.shape)])
        variance = np.einsum("ik,ij,jk->k", J, self.covariance, J) + self.noise**2
        return self.start * g, variance

    def half_life(self) -> tuple[float, float, float]:
        """Return the age at which half of ``start`` is left, and its 95 % interval.

        NaN, NaN, NaN where the values rise.  Where they may as well not fall, the half-life is NaN
        and the upper end infinite.
        """
        rate, error = self.shape[0], math.sqrt(self.covariance[1, 1])
        if rate + self.reach * error <= 0.0:
            return math.nan, math.nan, math.nan
        # The half-life falls with the rate.
        low = self._half(rate + self.reach * error)
        if rate - self.reach * error <= 0.0:
            return math.nan, low, math.inf
        if len(self.shape) == 1:
            return self._half(rate), low, self._half(rate - self.reach * error)
        log, slopes = self.model.log_half(self.unit, *self.shape)
        C = self.covariance[1:, 1:]
        reach = self.reach * math.sqrt(max(0.0, float(np.array(slopes) @ C @ np.array(slopes))))
        return self._age(log), self._age(log - reach), self._age(log + reach)

    def _half(self, rate: float) -> float:
        return self._age(self.model.log_half(self.unit, rate, *self.shape[1:])[0])

    def _age(self, log: float) -> float:
        return self.span * math.exp(log) if log < 700.0 else math.inf


def fit_series(age: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[list[Fit], float]:
    """Fit all models to a series.

    Parameters
    ----------
    age
        Ages, increasing, the first is 0; at least :data:`FEWEST`.  Shape (n,).
    y
        Values, finite, not all 0.  Shape (n,).

    Returns
    -------
    One fit for each of ``MODELS`` that fits at all, and the autocorrelation of neighbours.
    """
    span, scale = float(age[-1]), float(np.abs(y).max())
    x, z = age / span, y / scale
    gap = np.diff(x)
    unit = float(np.median(gap))
    alike = 0.0
    fits: list[Fit] = []
    # With white noise first; then twice with that of the model that was best.
    for _ in range(3):
        carried = alike ** (gap / unit)
        found = [_fit_model(model, x, z, unit, carried, alike) for model in MODELS]
        fits = [fit for fit in found if fit is not None]
        if not fits:
            return [], 0.0
        used = alike
        best = min(fits, key=lambda fit: fit.aicc)
        alike = _autocorrelation(z - best.predict(x)[0], best.model.n_parameters)
    return [_in_units(fit, span, scale) for fit in fits], used


def _autocorrelation(residual: NDArray[np.float64], n_parameters: int) -> float:
    """Return the autocorrelation of neighbours, without the bias that the fit brings."""
    n, square = residual.size, float(residual @ residual)
    if not square > 0.0:
        return 0.0
    found = float(residual[1:] @ residual[:-1]) / square
    # E[found] = r - (p + (p + 2) r) / n (Marriott & Pope (1954), Biometrika 41, 390, for p = 1).
    corrected = (found + n_parameters / n) / (1.0 - (n_parameters + 2) / n)
    return min(max(corrected, 0.0), MOST_ALIKE)


def _whiten(
    rows: NDArray[np.float64], carried: NDArray[np.float64], alike: float
) -> NDArray[np.float64]:
    """Return innovations; rows of shape (..., n)."""
    if alike == 0.0:
        return rows
    rest = math.sqrt(1.0 - alike**2)
    whole = np.empty_like(rows)
    whole[..., 0] = rest * rows[..., 0]
    size = rest / np.sqrt(1.0 - carried**2)
    whole[..., 1:] = size * (rows[..., 1:] - carried * rows[..., :-1])
    return whole


def _fit_model(
    model: Model,
    x: NDArray[np.float64],
    z: NDArray[np.float64],
    unit: float,
    carried: NDArray[np.float64],
    alike: float,
) -> Fit | None:
    target = _whiten(z, carried, alike)

    def residual(p: NDArray[np.float64]) -> NDArray[np.float64]:
        return _whiten(p[0] * model.shape(x, unit, *p[1:]), carried, alike) - target

    def jacobian(p: NDArray[np.float64]) -> NDArray[np.float64]:
        g = model.shape(x, unit, *p[1:])
        J = np.vstack([g, p[0] * model.slopes(x, unit, *p[1:])])
        return _whiten(J, carried, alike).T

    start = _best_start(model, x, target, unit, carried, alike)
    low, high = zip(*model.bounds, strict=True)
    with np.errstate(over="ignore", invalid="ignore"):
        found = least_squares(
            residual, start, jacobian, ((-np.inf, *low), (np.inf, *high)), x_scale="jac",
            ftol=1e-12, xtol=1e-12, gtol=1e-12, max_nfev=200,
        )  # fmt: skip
    n, p = x.size, model.n_parameters
    rss = 2.0 * float(found.cost)
    J = found.jac
    if not math.isfinite(rss) or np.linalg.matrix_rank(J) < p:
        return None
    freedom = n - p - 1
    # Values that are alike tell as much of their variance as so many independent ones.
    worth = n * (1.0 - alike**2) / (1.0 + alike**2) - p - 1
    # Digits end somewhere: a series without noise has no residuals to take a logarithm of.
    variance = max(rss / freedom, np.finfo(float).eps ** 2)
    n_fitted = p + 2
    aicc = n * math.log(max(rss / n, np.finfo(float).eps ** 2)) + 2.0 * n_fitted * n / (
        n - n_fitted - 1
    )
    return Fit(
        model=model,
        start=float(found.x[0]),
        shape=tuple(float(value) for value in found.x[1:]),
        covariance=variance * np.linalg.inv(J.T @ J),
        aicc=aicc,
        noise=math.sqrt(variance / (1.0 - alike**2)),
        span=1.0,
        unit=unit,
        freedom=max(1.0, worth),
    )


def _best_start(
    model: Model,
    x: NDArray[np.float64],
    target: NDArray[np.float64],
    unit: float,
    carried: NDArray[np.float64],
    alike: float,
) -> NDArray[np.float64]:
    """Return the best parameters of a grid; ``a`` follows from the others."""
    shapes = np.array([model.shape(x, unit, *p) for p in model.starts])
    rows = _whiten(shapes, carried, alike)
    along = rows @ target
    squares = np.einsum("ij,ij->i", rows, rows)
    k = int(np.argmax(along**2 / squares))
    return np.array([along[k] / squares[k], *model.starts[k]])


def _in_units(fit: Fit, span: float, scale: float) -> Fit:
    size = np.ones(fit.covariance.shape[0])
    size[0] = scale
    return Fit(
        model=fit.model,
        start=fit.start * scale,
        shape=fit.shape,
        covariance=fit.covariance * np.outer(size, size),
        aicc=fit.aicc,
        noise=fit.noise * scale,
        span=span,
        unit=fit.unit,
        freedom=fit.freedom,
    )


def weights(fits: list[Fit]) -> NDArray[np.float64]:
    """Return the weight of each model by its AICc, the sum is 1 (Burnham & Anderson (2002))."""
    aicc = np.array([fit.aicc for fit in fits])
    likelihood = np.exp(-0.5 * (aicc - aicc.min()))
    return np.asarray(likelihood / likelihood.sum())


def forecast(
    fits: list[Fit], age: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the expected values at some ages and the 95 % interval of what is measured there.

    All models have their say, by their weights; where they differ, the interval is longer.
    """
    weight = weights(fits)
    parts = [fit.predict(age) for fit in fits]
    values = np.array([value for value, _ in parts])
    variances = np.array([variance for _, variance in parts])
    middle = weight @ values
    spread = np.sqrt(weight @ (variances + (values - middle) ** 2))
    reach = fits[int(np.argmax(weight))].reach
    return middle, middle - reach * spread, middle + reach * spread
