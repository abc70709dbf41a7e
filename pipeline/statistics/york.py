"""Straight lines through points with errors in both coordinates.

York, Evensen, López Martínez & De Basabe Delgado (2004), Am. J. Phys. 72, 367.
doi:10.1119/1.1632486.  Errors of the two coordinates are independent here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc, stdtrit

_MOST_STEPS = 500
#: Relative change of the slope at which the iteration has ended.
_SETTLED = 1e-15
#: Of lines whose errors are right, so many are told to scatter more.
SCATTER_ALARM = 0.01
LEVEL = 0.95


@dataclass(frozen=True)
class Line:
    """A straight line ``y = intercept + slope x``.

    Attributes
    ----------
    slope, intercept
        The line; the intercept of a line through 0 is 0.
    slope_stderr, intercept_stderr
        Standard errors.
    reach
        Half the length of a 95 % interval in standard errors.
    covariance
        Of slope and intercept.
    chi2, freedom
        Sum of squared residuals in their standard errors, and its degrees of freedom.
    p_value
        Probability of this ``chi2`` or a larger one if the errors are right; NaN without errors.
    scattered
        Whether the points scatter more than their errors allow (``p_value`` below 1 %).  The
        standard errors are then larger by ``sqrt(chi2 / freedom)``.
    """

    slope: float
    intercept: float
    slope_stderr: float
    intercept_stderr: float
    covariance: float
    reach: float
    chi2: float
    freedom: int
    p_value: float
    scattered: bool

    @property
    def ratio(self) -> float:
        """Intercept over slope: minus the place where the line meets y = 0."""
        return self.intercept / self.slope

    @property
    def ratio_stderr(self) -> float:
        """Standard error of :attr:`ratio`, by linear propagation."""
        variance = (
            self.intercept_stderr**2
            + (self.ratio * self.slope_stderr) ** 2
            - 2.0 * self.ratio * self.covariance
        )
        return math.sqrt(max(variance, 0.0)) / abs(self.slope)

    def scaled(self, x: float, y: float) -> Line:
        """Return the line for coordinates that are multiplied by ``x`` and ``y``."""
        return replace(
            self,
            slope=self.slope * (y / x),
            slope_stderr=self.slope_stderr * (y / x),
            intercept=self.intercept * y,
            intercept_stderr=self.intercept_stderr * y,
            covariance=self.covariance * (y / x) * y,
        )


def fit_line(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    u_x: NDArray[np.float64] | None = None,
    u_y: NDArray[np.float64] | None = None,
    *,
    through_zero: bool = False,
) -> Line | None:
    """Fit a line by maximum likelihood.

    Parameters
    ----------
    x, y
        Points, finite.  Shape (n,).
    u_x, u_y
        Standard errors, not negative, and not both 0 at any point.  None: all points count the
        same, and the errors of the line follow from their scatter about it.
    through_zero
        Fit ``y = slope x``.

    Returns
    -------
    The line; None where the points do not determine it and its error: too few, or all at one x.
    """
    freedom = x.size - (1 if through_zero else 2)
    spread = np.abs(x).max(initial=0.0) if through_zero else np.ptp(x) if x.size else 0.0
    if freedom < 1 or not spread > 0.0:
        return None
    known = u_x is not None and u_y is not None
    v_x = np.square(u_x) if u_x is not None and known else np.zeros(x.size)
    v_y = np.square(u_y) if u_y is not None and known else np.ones(x.size)
    slope = _ordinary(x, y, through_zero)
    for _ in range(_MOST_STEPS):
        before = slope
        slope = _step(x, y, v_x, v_y, slope, through_zero)
        if abs(slope - before) <= _SETTLED * abs(slope):
            break
    weight = 1.0 / (v_y + slope**2 * v_x)
    middle_x, middle_y = _middle(x, y, weight, through_zero)
    intercept = middle_y - slope * middle_x
    chi2 = float(np.sum(weight * np.square(y - intercept - slope * x)))
    # The points on the line that are nearest in their errors.
    adjusted = middle_x + _lever(x - middle_x, y - middle_y, v_x, v_y, weight, slope)
    centre = 0.0 if through_zero else float(np.sum(weight * adjusted) / weight.sum())
    variance = 1.0 / float(np.sum(weight * np.square(adjusted - centre)))
    above = 0.0 if through_zero else 1.0 / float(weight.sum()) + centre**2 * variance
    p_value = float(chdtrc(freedom, chi2)) if known else math.nan
    scattered = known and p_value < SCATTER_ALARM
    share = chi2 / freedom if scattered or not known else 1.0
    reach = float(stdtrit(freedom if scattered or not known else 1e9, 0.5 + LEVEL / 2))
    return Line(
        slope=slope,
        intercept=intercept,
        slope_stderr=math.sqrt(variance * share),
        intercept_stderr=math.sqrt(above * share),
        covariance=-centre * variance * share,
        reach=reach,
        chi2=chi2 if known else math.nan,
        freedom=freedom,
        p_value=p_value,
        scattered=scattered,
    )


def _ordinary(x: NDArray[np.float64], y: NDArray[np.float64], through_zero: bool) -> float:
    if not through_zero:
        x, y = x - x.mean(), y - y.mean()
    return float(x @ y / (x @ x))


def _middle(
    x: NDArray[np.float64], y: NDArray[np.float64], weight: NDArray[np.float64], through_zero: bool
) -> tuple[float, float]:
    if through_zero:
        return 0.0, 0.0
    total = weight.sum()
    return float(np.sum(weight * x) / total), float(np.sum(weight * y) / total)


def _lever(
    U: NDArray[np.float64],
    V: NDArray[np.float64],
    v_x: NDArray[np.float64],
    v_y: NDArray[np.float64],
    weight: NDArray[np.float64],
    slope: float,
) -> NDArray[np.float64]:
    """Return York's beta: where the adjusted points lie, from the middle."""
    return weight * (U * v_y + slope * V * v_x)


def _step(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    v_x: NDArray[np.float64],
    v_y: NDArray[np.float64],
    slope: float,
    through_zero: bool,
) -> float:
    weight = 1.0 / (v_y + slope**2 * v_x)
    middle_x, middle_y = _middle(x, y, weight, through_zero)
    U, V = x - middle_x, y - middle_y
    beta = _lever(U, V, v_x, v_y, weight, slope)
    return float(np.sum(weight * beta * V) / np.sum(weight * beta * U))
