"""Slow, obvious twins of the fitting kernels: NumPy, SciPy and mpmath, nothing of ours."""

from __future__ import annotations

from dataclasses import dataclass

import mpmath
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

DECAY, RISE = 1, -1
#: The range of tau that the kernels document: samples, and window lengths.
TAU_MIN, TAU_MAX = 0.1, 100.0


@dataclass
class Fit:
    """Best exponential of one sign: ``tau``, ``A``, ``C``, R2; ``inside`` the range of tau."""

    tau: float
    amplitude: float
    offset: float
    r2: float
    inside: bool

    def adjusted(self, n: int) -> float:
        return 1 - (1 - self.r2) * (n - 1) / (n - 4)


def model(t: NDArray[np.float64], tau: float, a: float, c: float, sign: int) -> NDArray[np.float64]:
    e = np.exp(-t / tau)
    return a * e + c if sign == DECAY else a * (1 - e) + c


def r_squared(t: NDArray[np.float64], y: NDArray[np.float64], tau: float) -> float:
    """R2 of the best ``alpha exp(-t / tau) + beta`` for a given tau, by linear least squares."""
    basis = np.column_stack([np.exp(-t / tau), np.ones_like(t)])
    y = y - y.mean()
    rest = y - basis @ np.linalg.lstsq(basis, y, rcond=None)[0]
    return float(1 - rest @ rest / (y @ y))


def fit(t: NDArray[np.float64], y: NDArray[np.float64], sign: int) -> Fit | None:
    """Fit one window with SciPy on data scaled to unit range, from several starts."""
    n = t.size
    spacing = (t[-1] - t[0]) / (n - 1)
    t = (t - t[0]) / spacing
    zero, unit = y.mean(), np.ptp(y)
    y = (y - zero) / unit
    # Where to start: the local maxima of R2 on a fine grid, of those with the right sign.
    grid = np.exp(np.linspace(np.log(TAU_MIN), np.log(TAU_MAX * n), 300))
    e = np.expm1(-t / grid[:, None])
    e -= e.mean(axis=1, keepdims=True)
    c = sign * (e @ y) / np.linalg.norm(e, axis=1)
    padded = np.concatenate([[-np.inf], c, [-np.inf]])
    peaks = np.flatnonzero((c >= padded[:-2]) & (c > padded[2:]) & (c > 0))
    best: Fit | None = None
    for k in peaks[np.argsort(c[peaks])][-3:]:
        basis = np.column_stack([model(t, grid[k], 1, 0, sign), np.ones(n)])
        a, offset = np.linalg.lstsq(basis, y, rcond=None)[0]

        def residuals(p: NDArray[np.float64]) -> NDArray[np.float64]:
            return model(t, np.exp(p[0]), p[1], p[2], sign) - y

        def jacobian(p: NDArray[np.float64]) -> NDArray[np.float64]:
            z = t * np.exp(-p[0])
            h = z * np.exp(-z)
            return np.column_stack(
                [sign * p[1] * h, model(t, np.exp(p[0]), 1, 0, sign), np.ones(n)]
            )

        edge = k in (0, grid.size - 1)
        if edge:
            theta = float(np.log(grid[k]))
        else:
            start = [np.log(grid[k]), a, offset]
            found = least_squares(
                residuals, start, jac=jacobian, method="lm", xtol=1e-15, ftol=1e-15, gtol=1e-15
            )
            theta, a, offset = found.x
        inside = np.log(TAU_MIN) + 1e-3 < theta < np.log(TAU_MAX * n) - 1e-3
        rest = residuals(np.array([theta, a, offset]))
        r2 = 1 - rest @ rest / np.sum((y - y.mean()) ** 2)
        if a > 0 and (best is None or r2 > best.r2):
            best = Fit(
                np.exp(theta) * spacing, a * unit, offset * unit + zero, float(r2), bool(inside)
            )
    return best


def search(
    t: NDArray[np.float64], y: NDArray[np.float64], lengths: NDArray[np.int64], sign: int
) -> float:
    """Return the largest adjusted R2 over all windows, -inf where no fit lies inside."""
    best = -np.inf
    for n in lengths:
        for s in range(y.size - n + 1):
            window = y[s : s + n]
            if np.isnan(window).any() or np.ptp(window) <= 4e-16 * np.abs(window).max():
                continue
            found = fit(t[s : s + n], window, sign)
            if found is not None and found.inside:
                best = max(best, found.adjusted(n))
    return best


def mpmath_tau(y: NDArray[np.float64], near: float) -> mpmath.mpf:
    """Solve the normal equations of ``alpha exp(-k / tau) + beta`` to 50 digits."""
    with mpmath.workdps(60):
        samples = [mpmath.mpf(float(v)) for v in y]
        n = len(samples)

        def centred(values: list[mpmath.mpf]) -> list[mpmath.mpf]:
            mean = mpmath.fsum(values) / n
            return [v - mean for v in values]

        def gradient(theta: mpmath.mpf) -> mpmath.mpf:
            z = [k * mpmath.exp(-theta) for k in range(n)]
            e = centred([mpmath.exp(-v) for v in z])
            h = centred([v * mpmath.exp(-v) for v in z])
            yc = centred(samples)
            alpha = mpmath.fdot(e, yc) / mpmath.fdot(e, e)
            return mpmath.fdot(h, [v - alpha * w for v, w in zip(yc, e, strict=True)])

        theta = mpmath.findroot(gradient, mpmath.log(near), tol=1e-90)
        return mpmath.exp(theta)
