"""Signals and an independent fit for the tests of the compatible classes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import least_squares


def make_trace(scale=1.0):
    """Five cycles of 200 samples at 1 kHz: on for 100, off for 100, tau 12 + i and 17 + i ms."""
    k = np.arange(1000)
    p, i = k % 200, k // 200
    y = np.where(p < 100, 1 - np.exp(-p / (12 + i)), np.exp(-(p - 100) / (17 + i)))
    return 1e-3 * k, scale * (y * (1 + 0.2 * i) + 0.4 + 0.02 * np.sin(1.7 * k))


@pytest.fixture
def trace():
    return make_trace()


@pytest.fixture(scope="session")
def real_trace(shared_data):
    """Time and -Id of the real transient, the signal of all documented examples."""
    table = np.loadtxt(shared_data / "autotau_transient.csv", delimiter=",", skiprows=1)
    return table[:, 0], -table[:, 1]


@pytest.fixture(scope="session")
def scipy_fit():
    """Least squares by SciPy on data scaled to 0 ... 1, from several starts."""

    def fit(t, y, phase, points=0):
        """Return tau, R2 on (t, y), and the cost function's best value is the global one."""
        t, y = np.asarray(t) - t[0], np.asarray(y)
        ts, ys = t, y
        if points:
            ts = np.linspace(t[0], t[-1], points)
            ys = np.interp(ts, t, y)
        low, span, width = y.min(), np.ptp(y), t[-1]
        sign = -1.0 if phase == "on" else 1.0

        def model(x, times):
            return sign * x[0] * np.exp(-times / width / np.exp(x[1])) + x[2]

        best = min(
            (
                least_squares(
                    lambda x: model(x, ts) - (ys - low) / span,
                    [1.0, start, 0.5],
                    bounds=([0, -9, -np.inf], [np.inf, 4.6, np.inf]),
                    x_scale="jac", ftol=1e-15, xtol=1e-15, gtol=1e-15,
                )
                for start in (-4.0, -2.0, 0.0)
            ),
            key=lambda found: found.cost,
        )  # fmt: skip
        residual = (y - low) / span - model(best.x, t)
        tss = np.sum(((y - y.mean()) / span) ** 2)
        return width * np.exp(best.x[1]), 1 - residual @ residual / tss

    return fit
