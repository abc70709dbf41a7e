"""One exponential through points, by least squares, with fifty digits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mpmath as mp
import numpy as np

DIGITS = 50


def nist(name: str) -> dict[str, Any]:
    """Return a data set of NIST: ``x``, ``y``, ``certified`` (value and standard deviation)."""
    return json.loads((Path(__file__).parent / "nist.json").read_text(encoding="utf-8"))[name]


@dataclass(frozen=True)
class Solution:
    """The best parameters, their standard errors for white noise, and R²."""

    tau: float
    amplitude: float
    offset: float
    errors: tuple[float, float, float]
    r_squared: float


def exponential(x: Sequence[float], y: Sequence[float], *, rises: bool) -> Solution:
    """Fit ``A exp(-x/tau) + C``, or ``A (1 - exp(-x/tau)) + C``.

    For a given tau, A and C are those of a straight line.  The place of the best tau comes from a
    fine grid in float64, its digits from the root of the derivative of the sum of squares: there
    the residuals are orthogonal to the change of the curve with tau.
    """
    with mp.workdps(DIGITS):
        times, values = [mp.mpf(v) for v in x], [mp.mpf(v) for v in y]
        n, mean = len(times), sum(values) / len(values)

        def shape(tau: Any) -> list[Any]:
            return [1 - mp.exp(-t / tau) if rises else mp.exp(-t / tau) for t in times]

        def slope(tau: Any) -> list[Any]:
            sign = -1 if rises else 1
            return [sign * mp.exp(-t / tau) * t / tau**2 for t in times]

        def line(tau: Any) -> tuple[Any, Any, list[Any]]:
            curve = shape(tau)
            middle = sum(curve) / n
            a = sum((f - middle) * (v - mean) for f, v in zip(curve, values, strict=True))
            a /= sum((f - middle) ** 2 for f in curve)
            c = mean - a * middle
            return a, c, [v - a * f - c for f, v in zip(curve, values, strict=True)]

        def misfit(tau: Any) -> Any:
            _, _, residuals = line(tau)
            return sum(r * s for r, s in zip(residuals, slope(tau), strict=True))

        grid = np.geomspace(np.ptp(x) / 300, np.ptp(x) * 30, 3000)
        best = int(np.argmin([_rss(np.array(x), np.array(y), tau) for tau in grid]))
        tau = mp.findroot(misfit, (grid[best - 1], grid[best + 1]), solver="anderson")
        a, c, residuals = line(tau)
        rss = sum(r**2 for r in residuals)
        jacobian = mp.matrix(n, 3)
        for k, (f, s) in enumerate(zip(shape(tau), slope(tau), strict=True)):
            jacobian[k, 0], jacobian[k, 1], jacobian[k, 2] = a * s, f, 1
        covariance = mp.inverse(jacobian.T * jacobian) * rss / (n - 3)
        e_tau, e_a, e_c = (float(mp.sqrt(covariance[k, k])) for k in range(3))
        total = sum((v - mean) ** 2 for v in values)
        r_squared = float(1 - rss / total)
        return Solution(float(tau), float(a), float(c), (e_tau, e_a, e_c), r_squared)


def _rss(x: Any, y: Any, tau: float) -> float:
    # A rise is a decay with another A and C.
    curve = np.exp(-x / tau)
    design = np.column_stack([curve, np.ones_like(curve)])
    return float(np.sum((y - design @ np.linalg.lstsq(design, y, rcond=None)[0]) ** 2))
