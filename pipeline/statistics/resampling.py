"""Standard errors of means over devices, by drawing the largest units that there are again.

Devices of a chip, steps of a device and cycles of a step are alike, so that none of them counts as
an independent value.  What is drawn again are whole units of the highest level of which there are
several, with all that they hold (Davison & Hinkley (1997), Bootstrap Methods and their Application,
section 3.8): the scatter of lower levels is in that of the units, and drawing it once more would
count it twice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oectflow.pipeline.statistics.groups import Device

#: From the highest to the lowest; ``none``: there is one value only.
LEVELS = ("chip", "device", "step", "cycle", "none")


@dataclass(frozen=True)
class Units:
    """Units of one level, whose numbers are those of their devices.

    Attributes
    ----------
    level
        Of :data:`LEVELS`.
    n, total, squares
        Of each unit: number of values, their sum, and the sum of their squares about ``middle``.
    middle
        The mean of all values, about which sums are taken: squares of large numbers lose digits.
    """

    level: str
    n: NDArray[np.float64]
    total: NDArray[np.float64]
    squares: NDArray[np.float64]
    middle: float

    @property
    def freedom(self) -> int:
        """Degrees of freedom of the scatter between units."""
        return len(self.n) - 1


def units_of(devices: Sequence[Device], values: Sequence[float] | None = None) -> Units:
    """Return the units of the highest level of which there are several.

    Parameters
    ----------
    devices
        At least one.
    values
        One for each device, by default its mean.
    """
    given = np.array([one.mean for one in devices] if values is None else values, float)
    chips: dict[str, list[float]] = {}
    for one, value in zip(devices, given.tolist(), strict=True):
        chips.setdefault(one.chip, []).append(value)
    parts: list[list[float]]
    if len(chips) > 1:
        level, parts = "chip", list(chips.values())
    elif len(devices) > 1 or values is not None:
        level, parts = "device", [[value] for value in given.tolist()]
    elif len(devices[0].steps) > 1:
        level, parts = "step", [[value] for value in devices[0].steps.tolist()]
    elif len(devices[0].cycles[0]) > 1:
        level, parts = "cycle", [[value] for value in devices[0].cycles[0].tolist()]
    else:
        level, parts = "none", [[devices[0].mean]]
    middle = float(np.mean(np.concatenate(parts)))
    return Units(
        level,
        np.array([len(part) for part in parts], float),
        np.array([sum(value - middle for value in part) for part in parts]),
        np.array([sum((value - middle) ** 2 for value in part) for part in parts]),
        middle,
    )


@dataclass(frozen=True)
class Draws:
    """Means and variances of the values of a group, in every sample that was drawn."""

    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    freedom: int

    @property
    def widening(self) -> float:
        """What makes their scatter that of a mean: ``n`` draws of ``n`` units scatter less."""
        return math.sqrt((self.freedom + 1) / self.freedom) if self.freedom else math.nan


def draw(units: Units, n_draws: int, rng: np.random.Generator) -> Draws:
    """Draw units with replacement, as many as there are."""
    k = len(units.n)
    times = rng.multinomial(k, np.full(k, 1 / k), size=n_draws).astype(float)
    n, total, squares = times @ units.n, times @ units.total, times @ units.squares
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = (squares - total**2 / n) / (n - 1)
    return Draws(units.middle + total / n, variance, units.freedom)


def standard_error(draws: Draws) -> float:
    """Return the standard error of a mean, NaN of a single unit."""
    return float(draws.mean.std(ddof=1)) * draws.widening if draws.freedom else math.nan


def welch_freedom(errors: Sequence[float], freedoms: Sequence[int]) -> float:
    """Return the degrees of freedom of a sum (Welch (1947), Biometrika 34, 28; Satterthwaite)."""
    squares = [error**2 for error in errors]
    below = sum(s**2 / f for s, f in zip(squares, freedoms, strict=True) if f)
    return sum(squares) ** 2 / below if below > 0 else math.nan


def holm(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return p values corrected for their number (Holm (1979), Scand. J. Stat. 6, 65); NaN stays.

    >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
    [0.03, 0.06, 0.06]
    """
    out = np.full(p_values.shape, np.nan)
    known = np.flatnonzero(np.isfinite(p_values))
    order = known[np.argsort(p_values[known], kind="stable")]
    steps = p_values[order] * np.arange(len(order), 0, -1)
    out[order] = np.minimum(np.maximum.accumulate(steps), 1.0) if len(order) else steps
    return out


def hedges(mean: Any, variances: Sequence[Any], numbers: Sequence[int]) -> Any:
    """Return a difference in pooled standard deviations (Hedges (1981), J. Educ. Stat. 6, 107)."""
    freedom = sum(numbers) - len(numbers)
    with np.errstate(divide="ignore", invalid="ignore"):
        pooled = sum(v * (n - 1) for v, n in zip(variances, numbers, strict=True)) / freedom
        return (1 - 3 / (4 * freedom - 1)) * mean / np.sqrt(pooled)
