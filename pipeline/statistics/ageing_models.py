"""How a figure of a device falls with age: four shapes, of two or three parameters.

All are ``a g(x)``, with ``g(0) = 1`` and x from 0 to 1 over the ages that were measured: ``a`` is
the value at the begin.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Shape = Callable[..., NDArray[np.float64]]
#: Exponents of a stretched exponential: below, it is a step at the begin, above, one at the end.
BETA = (0.2, 3.0)
_RATES = (-1.0, -0.1, 0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 15.0)


@dataclass(frozen=True)
class Model:
    """One shape.

    Attributes
    ----------
    name, formula
        For people; the formula in the units of the data.
    starts
        Parameters of ``g`` from which its fit begins.
    shape
        ``g(x, unit, *p)``; ``unit`` is the median distance of two ages.
    slopes
        Derivatives of ``g`` by its parameters, ``(x, unit, *p)``, one row each.
    log_half
        ``ln`` of the age at which ``g`` is a half, and its derivatives by the parameters,
        ``(unit, *p)``; the first parameter is above 0.
    bounds
        Of every parameter of ``g``.
    """

    name: str
    formula: str
    starts: tuple[tuple[float, ...], ...]
    shape: Shape
    slopes: Shape
    log_half: Callable[..., tuple[float, tuple[float, ...]]]
    bounds: tuple[tuple[float, float], ...] = ((-math.inf, math.inf),)

    @property
    def n_parameters(self) -> int:
        """How many are fitted, with ``a``."""
        return 1 + len(self.bounds)


def _line_half(_: float, rate: float) -> tuple[float, tuple[float, ...]]:
    return math.log(0.5 / rate), (-1.0 / rate,)


def _exponential_half(_: float, rate: float) -> tuple[float, tuple[float, ...]]:
    return math.log(math.log(2.0) / rate), (-1.0 / rate,)


def _power_half(unit: float, exponent: float) -> tuple[float, tuple[float, ...]]:
    # 2^(1 / b) without overflow; for long half-lives its logarithm is ln 2 / b.
    doublings = math.log(2.0) / exponent
    log_half = doublings + math.log(-math.expm1(-doublings)) + math.log(unit)
    return log_half, (doublings / exponent / math.expm1(-doublings),)


def _stretched_half(_: float, rate: float, beta: float) -> tuple[float, tuple[float, ...]]:
    log = math.log(math.log(2.0) / rate)
    return log / beta, (-1.0 / (rate * beta), -log / beta**2)


def _log(x: NDArray[np.float64]) -> NDArray[np.float64]:
    # Where x is 0, so is x^beta ln x.
    return np.log(np.where(x > 0.0, x, 1.0))


def _power(x: NDArray[np.float64], unit: float, exponent: float) -> NDArray[np.float64]:
    return np.asarray(np.exp(-exponent * np.log1p(x / unit)))


def _stretched(x: NDArray[np.float64], rate: float, beta: float) -> NDArray[np.float64]:
    return np.asarray(np.exp(-rate * x**beta))


MODELS = (
    Model(
        "linear",
        "a (1 - k x)",
        tuple((rate,) for rate in _RATES),
        lambda x, _, k: 1.0 - k * x,
        lambda x, *_: np.array([-x]),
        _line_half,
    ),
    Model(
        "exponential",
        "a exp(-k x)",
        tuple((rate,) for rate in _RATES),
        lambda x, _, k: np.exp(-k * x),
        lambda x, _, k: np.array([-x * np.exp(-k * x)]),
        _exponential_half,
    ),
    Model(
        "power",
        "a (1 + x / x1)^-b",
        tuple((exponent,) for exponent in (-0.1, 0.01, 0.05, 0.2, 0.5, 1.0, 2.0)),
        _power,
        lambda x, unit, b: np.array([-np.log1p(x / unit) * _power(x, unit, b)]),
        _power_half,
    ),
    Model(
        "stretched",
        "a exp(-(k x)^beta)",
        tuple((rate, beta) for rate in _RATES for beta in (0.3, 0.5, 0.75, 1.0, 1.6)),
        lambda x, _, s, beta: _stretched(x, s, beta),
        lambda x, _, s, beta: (
            -np.array([np.ones(x.size), s * _log(x)]) * (x**beta * _stretched(x, s, beta))
        ),
        _stretched_half,
        ((-math.inf, math.inf), BETA),
    ),
)
